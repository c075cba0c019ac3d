"""The rows of the table: what is measured against what, how often, and what it is to be.

Rounds alternate, A B A B, each side in a fresh process. Where a target is tight there are nine rounds at least, so that
the median has an interval.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.bench.figures import Figure, Target
from tests.bench.shapes import SHAPES

Order = tuple[str, dict[str, Any]]
Sample = dict[str, float]

REPOSITORY = Path(__file__).resolve().parents[2]

ROUNDS = 9
FEW_ROUNDS = 3  # of what takes many seconds and isn't tight


class Bench:
    """Where rows are measured. With `quick` everything is small, once, and a row's sides share a process: that shows
    that it works, not how fast it is.

    Args:
        quick: whether it is.
        rounds: no row has more.
        recorded: the folder of WfCommons instances and their reader; may be missing.
    """

    def __init__(self, *, quick: bool, rounds: int, recorded: Path) -> None:
        self.quick = quick
        self.rounds = rounds
        self.recorded = recorded

    def size(self, full: int, quick: int) -> int:
        """How large something is."""
        return quick if self.quick else full

    def alternating(self, rounds: int, *orders: Order) -> list[list[Sample]]:
        """For each side its samples, one a round."""
        if self.quick:
            return [[sample] for sample in in_a_process(orders)]
        taken = [self._round(orders) for _ in range(min(rounds, self.rounds))]
        return [list(side) for side in zip(*taken, strict=True)]

    def _round(self, orders: tuple[Order, ...]) -> list[Sample]:
        return [in_a_process([order])[0] for order in orders]


def in_a_process(orders: Any) -> list[Sample]:
    """The figures of some sides, measured one after another in one fresh process."""
    samples: list[Sample] = json.loads(run_python("-m", "tests.bench.sides", json.dumps(orders)))
    return samples


def run_python(*words: str) -> str:
    """What a new interpreter prints, with this checkout's nerv; errors go where ours go."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an import that compiles every time isn't what users have
    command = [sys.executable, *words]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True, timeout=600, check=True
    )
    return done.stdout


def ratios(above: list[Sample], below: list[Sample], name: str = "us") -> tuple[float, ...]:
    """The ratio of each round."""
    return tuple(one[name] / other[name] for one, other in zip(above, below, strict=True))


def middle(samples: list[Sample], name: str = "us") -> float:
    return statistics.median(sample[name] for sample in samples)


def by_processor(above: list[Sample], below: list[Sample]) -> str:
    """The ratio of the least processor times: what is left of a comparison on a machine with company."""
    least = min(one["cpu_us"] for one in above) / min(one["cpu_us"] for one in below)
    return f"by least processor time {least:.2f}"


# ---- the rows --------------------------------------------------------------------------------------------------------


def overhead(shape: str, bench: Bench) -> Iterator[Figure]:
    """No-ops on four threads, next to graphlib and ThreadPoolExecutor."""
    work = {"shape": shape, "tasks": bench.size(10_000, 200)}
    floor, plain, watched = bench.alternating(
        ROUNDS, ("floor_threads", work), ("nerv_threads", work), ("nerv_watched", work)
    )
    for samples, work, limit in ((plain, "no-ops", 0.5), (watched, "the same, watched and queried", 1.0)):
        note = f"floor {middle(floor):.1f} us a task, nerv {middle(samples):.1f}; {by_processor(samples, floor)}"
        yield Figure(shape, f"{work} / floor", Target(limit), ratios(samples, floor), note)


def dask(bench: Bench) -> Iterator[Figure]:
    """dask's threaded scheduler next to nerv, if dask can be imported."""
    if find_spec("dask") is None:
        return
    work = {"shape": "random", "tasks": bench.size(10_000, 200)}
    theirs, ours = bench.alternating(FEW_ROUNDS, ("dask_threads", work | {"repeats": 1}), ("nerv_threads", work))
    note = f"dask {middle(theirs):.0f} us a task, nerv {middle(ours):.1f}"
    target = Target(20, upwards=True)
    yield Figure("dask", "dask's threaded scheduler / nerv, random", target, ratios(theirs, ours), note)


def large(bench: Bench) -> Iterator[Figure]:
    """Microseconds a task of large graphs next to small ones, and memory."""
    sizes = [bench.size(100_000, 1_000), bench.size(1_000_000, 2_000)]
    orders: list[Order] = [("nerv_large", {"tasks": tasks}) for tasks in (bench.size(10_000, 500), *sizes)]
    small, *larger = bench.alternating(FEW_ROUNDS, *orders)
    for tasks, samples in zip(sizes, larger, strict=True):
        note = f"{middle(samples):.1f} us a task, {middle(small):.1f} at {orders[0][1]['tasks']:,}; "
        note += f"defining took {middle(samples, 'define_us'):.1f}; {by_processor(samples, small)}"
        work = f"{tasks:,} tasks / {orders[0][1]['tasks']:,}, a task"
        yield Figure("large", work, Target(1.5), ratios(samples, small), note)
    held = tuple(sample["bytes"] for sample in larger[-1])
    yield Figure("large", f"memory a task at {sizes[-1]:,}, all told", Target(2500, " B"), held)


def buffer(bench: Bench) -> Iterator[Figure]:
    """No-ops that one Buffer adds while it runs, next to as many that were there at the start."""
    items = bench.size(100_000, 300)
    given: Order = ("nerv_threads", {"shape": "wide", "tasks": items})
    added: list[Order] = [("nerv_items", {"items": items, "limit": limit}) for limit in (None, 8)]
    core, *sides = bench.alternating(FEW_ROUNDS, given, *added)
    for samples, how in zip(sides, ("all at once", "8 at a time"), strict=True):
        note = f"{middle(samples):.1f} us an item, {middle(core):.1f} a task; {by_processor(samples, core)}"
        work = f"{items:,} items of one Buffer, {how} / tasks given"
        yield Figure("buffer", work, Target(2), ratios(samples, core), note)


def plan(bench: Bench) -> Iterator[Figure]:
    """TaskDefs, Workflow and levels next to Kahn's algorithm over ints."""
    work = {"tasks": bench.size(1_000_000, 2_000)}
    ours, floor = bench.alternating(FEW_ROUNDS, ("nerv_plan", work), ("floor_plan", work))
    assert middle(ours, "levels") == middle(floor, "levels"), "both find the same levels"
    note = f"nerv {middle(ours) / 1e6:.2f} s, floor {middle(floor) / 1e6:.2f} s; {middle(ours, 'edges'):,.0f} edges; "
    note += by_processor(ours, floor)
    yield Figure("plan", f"Workflow + plan of {work['tasks']:,} / floor", Target(5), ratios(ours, floor), note)


def sleep(bench: Bench) -> Iterator[Figure]:
    """Blocking tasks, next to what no scheduler can do better."""
    work = {"tasks": bench.size(200, 40)}
    ours, floor = bench.alternating(ROUNDS, ("nerv_naps", work), ("floor_naps", work))
    over = tuple(sample["over_bound"] for sample in ours)
    note = f"makespan {middle(ours, 'makespan'):.3f} s; the floor's / bound {middle(floor, 'over_bound'):.3f}"
    yield Figure("sleep", "blocking tasks, 16 workers, makespan / bound", Target(1.02), over, note)


def cpu(bench: Bench) -> Iterator[Figure]:
    """CPU tasks on two processes, next to half of the sequential time."""
    work = {"tasks": bench.size(64, 4), "each": 0.002 if bench.quick else 0.05}
    bare, ours = bench.alternating(ROUNDS, ("bare_burn", work), ("nerv_burn", work))
    note = f"two bare processes: {middle(bare, 'warm'):.3f}; the functions had {middle(ours, 'busy'):.3f} of the "
    note += f"workers' time, and took {middle(ours, 'longer'):.3f} times as long there"
    for state, text in (("warm", "workers up"), ("cold", "with the workers' start and end")):
        over = tuple(sample[state] for sample in ours)
        yield Figure("cpu", f"CPU tasks, 2 processes, {text}, makespan / ideal", Target(1.08), over, note)


def auto(bench: Bench) -> Iterator[Figure]:
    """CPU tasks whose pool the engine finds out, next to the pools that it chooses between."""
    work = {"tasks": bench.size(64, 6), "turns": 2_000 if bench.quick else 500_000}
    pools = ("auto", "process", "thread")
    ours, processes, threads = bench.alternating(ROUNDS, *(("nerv_placed", {"pool": pool, **work}) for pool in pools))
    note = (
        f"{middle(ours, 's'):.2f} s, in processes {middle(processes, 's'):.2f}, in threads {middle(threads, 's'):.2f}; "
    )
    note += f"{middle(ours, 'moved'):.0f} of {work['tasks']} moved"
    text = 'CPU tasks, pool="auto" / pool='
    yield Figure("auto", f'{text}"process"', Target(1.2), ratios(ours, processes, "s"), note)
    yield Figure("auto", f'{text}"thread"', Target(0.75), ratios(ours, threads, "s"), note)


def tiny(bench: Bench) -> Iterator[Figure]:
    """Tiny tasks in worker processes, next to the standard library's pool with the best chunk size."""
    work = {"tasks": bench.size(10_000, 200)}
    ours, floor = bench.alternating(FEW_ROUNDS + 2, ("nerv_tiny", work), ("floor_tiny", work))
    note = f"nerv {middle(ours):.2f} us a task; stdlib {middle(floor):.2f} in chunks of {middle(floor, 'chunk'):.0f}, "
    note += f"{middle(floor, 'us_of_50'):.1f} of 50, {middle(floor, 'us_of_1'):.0f} of 1"
    yield Figure("tiny", "tiny process tasks / ProcessPoolExecutor.map", Target(3), ratios(ours, floor), note)


def wfcommons(bench: Bench) -> Iterator[Figure]:
    """Recorded workflows of scientists with their runtimes scaled, if they are there."""
    files = sorted(bench.recorded.glob("*.json"))
    total = 0.4 if bench.quick else 6.0
    for file in files[:1] if bench.quick else files:
        work = {"path": str(file), "total": total}
        ours, floor = bench.alternating(ROUNDS, ("nerv_recorded", work), ("floor_recorded", work))
        name = file.stem.partition("-")[0]
        note = f"{middle(ours, 'tasks'):.0f} tasks; makespan {middle(ours, 'makespan'):.3f} s, "
        note += f"floor {middle(floor, 'makespan'):.3f} s"
        beside = ratios(ours, floor, "makespan")
        yield Figure("wfcommons", f"{name}, 8 workers, makespan / floor", Target(1.03), beside, note)
        over = tuple(sample["over_graham"] for sample in ours)
        yield Figure("wfcommons", f"{name}, makespan / Graham bound", Target(1.0), over)


def questions(bench: Bench) -> Iterator[Figure]:
    """Projections and time travel."""
    tasks = bench.size(100_000, 500)
    (samples,) = bench.alternating(FEW_ROUNDS, ("nerv_questions", {"tasks": tasks, "rounds": bench.size(200, 5)}))
    for name, text, limit in (
        ("fold", f"folding {tasks:,} tasks' events", 1000.0),
        ("slowest", "once folded, median of the slowest question", 1.0),
        ("p99", "once folded, 99th percentile of all questions", 1.0),
        ("live_median", "while it runs, median", 1.0),
        ("live_p99", "while it runs, 99th percentile", 1.0),
    ):
        note = f"{middle(samples, 'live_asked'):,.0f} questions, processor time" if name.startswith("live") else ""
        yield Figure("questions", text, Target(limit, " ms"), tuple(sample[name] for sample in samples), note)


def policies(bench: Bench) -> Iterator[Figure]:
    """The same no-ops without policies, and with a retry policy, a named limit and a breaker each."""
    work = {"tasks": bench.size(100_000, 500)}
    plain, policed = bench.alternating(ROUNDS, ("nerv_plain", work), ("nerv_policed", work))
    note = f"{middle(plain):.1f} us a task, {middle(policed):.1f} with policies; {by_processor(policed, plain)}"
    text = f"{work['tasks']:,} tasks with three policies each / without"
    yield Figure("policies", text, Target(2), ratios(policed, plain), note)


def days(bench: Bench) -> Iterator[Figure]:
    """A task that is retried once a day for thirty days, by a clock that jumps."""
    (samples,) = bench.alternating(ROUNDS, ("nerv_days", {"days": 30}))
    yield Figure("days", "30 days of retries on FakeClock", Target(10, " ms"), tuple(one["ms"] for one in samples))


def durable(bench: Bench) -> Iterator[Figure]:
    """Steps that are kept, next to one raw commit a step; and next to steps that aren't kept."""
    steps = bench.size(1_000, 50)
    many = bench.size(100_000, 300)
    works = (
        ("chain", "strict", "sequential steps, strict", 1.15),
        ("wide", "strict", "independent steps, strict", 0.25),
        ("wide", "group", "independent steps, group", 0.08),
    )
    orders = [("nerv_commits", {"shape": shape, "steps": steps, "durability": how}) for shape, how, _, _ in works]
    for samples, (_, _, text, limit) in zip(bench.alternating(ROUNDS, *orders), works, strict=True):
        note = f"a raw commit {middle(samples, 'raw_us'):.0f} us, a step {middle(samples):.0f}"
        beside = tuple(sample["ratio"] for sample in samples)
        yield Figure("durable", f"{steps:,} {text} / raw commits", Target(limit), beside, note)
    work = {"shape": "wide", "steps": many}
    orders = [("nerv_kept", work | {"durability": "group"}), ("nerv_unkept", work), ("nerv_bytes", {"steps": many})]
    kept, plain, size = bench.alternating(FEW_ROUNDS, *orders)
    over = tuple(one["us"] - other["us"] for one, other in zip(kept, plain, strict=True))
    note = f"{middle(plain):.1f} us a step without a journal"
    yield Figure("durable", f"{many:,} independent steps, group, a step over none", Target(40, " us"), over, note)
    held = tuple(sample["bytes"] for sample in size)
    yield Figure("durable", "bytes a completed task, after compaction", Target(300, " B"), held)


def recovery(bench: Bench) -> Iterator[Figure]:
    """Opening a large journal, and going on with a large execution."""
    executions, tasks = bench.size(1_000, 10), bench.size(500, 10)
    opening, recovering = bench.alternating(
        FEW_ROUNDS,
        ("nerv_opening", {"executions": executions, "tasks": tasks}),
        ("nerv_recovering", {"tasks": bench.size(100_000, 200)}),
    )
    text = f"opening a journal of {middle(opening, 'events'):,.0f} events, one execution unfinished"
    yield Figure("recovery", text, Target(1, " s"), tuple(sample["s"] for sample in opening))
    text = f"recovering an execution of {bench.size(100_000, 200):,} tasks"
    yield Figure("recovery", text, Target(5, " s"), tuple(sample["s"] for sample in recovering))


HEAVY = ("dependency_injector", "networkx", "taskmap", "asyncio", "multiprocessing", "sqlite3")
STARTED = "import time; print(time.clock_gettime(time.CLOCK_MONOTONIC))"


def imported(bench: Bench) -> Iterator[Figure]:
    """`import nerv` over the interpreter's own start: the best of many, alternating."""
    rounds = bench.size(20, 2)
    bare, ours = [], []
    for _ in range(rounds):
        bare.append(start_up("pass"))
        ours.append(start_up("import nerv"))
    code = f"import sys, nerv; print(*(name for name in {HEAVY} if name in sys.modules))"
    loaded = run_python("-c", code).split()
    note = f"best of {rounds}, the interpreter's own {min(bare):.0f} ms; heavy modules loaded: {len(loaded)}"
    over = min(ours) - min(bare)
    yield Figure("import", "import nerv, over the interpreter's start", Target(100, " ms"), (over,), note)
    yield Figure("import", "heavy modules loaded", Target(0), (len(loaded),), ", ".join(loaded))


def start_up(code: str) -> float:
    """Milliseconds from before a new interpreter starts to after it has run `code`."""
    began = time.clock_gettime(time.CLOCK_MONOTONIC)
    return (float(run_python("-c", f"{code}; {STARTED}")) - began) * 1e3


def idle(bench: Bench) -> Iterator[Figure]:
    """An engine with a paused execution does nothing."""
    taken = 0.2 if bench.quick else 3.0
    (samples,) = bench.alternating(FEW_ROUNDS, ("nerv_idle", {"taken": taken}))
    for name, text, limit, unit in (
        ("looks", "looks of its thread pool", 0, ""),
        ("timer", "wake-ups of its timer", 0, ""),
        ("switches", "context switches of all its threads and processes", 0, ""),
        ("cpu_ms", "processor time of all its threads", 0.1, " ms"),
    ):
        found = tuple(sample[name] for sample in samples)
        yield Figure("idle", f"paused, {taken:g} s: {text}", Target(limit, unit), found)


ROWS: dict[str, Callable[[Bench], Iterator[Figure]]] = {
    **{shape: partial(overhead, shape) for shape in SHAPES},
    "dask": dask,
    "large": large,
    "buffer": buffer,
    "plan": plan,
    "sleep": sleep,
    "cpu": cpu,
    "auto": auto,
    "tiny": tiny,
    "wfcommons": wfcommons,
    "questions": questions,
    "policies": policies,
    "days": days,
    "durable": durable,
    "recovery": recovery,
    "import": imported,
    "idle": idle,
}
