"""What is measured: each function is one side of a comparison, run in a fresh process, and gives figures by name.

    python -m tests.bench.sides '[["nerv_threads", {"shape": "random", "tasks": 1000}]]'

prints the figures of each as one line of JSON. Times are of the execution alone (what runs is defined before), after a
small warm-up, the median of `repeats`; every result is checked. Linux only: memory and wake-ups are read from /proc.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self

import nerv
from tests.bench import floors, shapes
from tests.bench.bench_auto import nerv_placed
from tests.bench.bench_kept import (
    nerv_bytes,
    nerv_commits,
    nerv_kept,
    nerv_opening,
    nerv_recovering,
    nerv_unkept,
)
from tests.bench.bench_policies import nerv_days, nerv_plain, nerv_policed
from tests.bench.shapes import SHAPES, Body, Graph

Figures = dict[str, float]

WARM_UP = 50


def seconds(act: Callable[[], object]) -> float:
    """How long one call takes."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def median_of(repeats: int, act: Callable[[], float]) -> float:
    return statistics.median(act() for _ in range(repeats))


class Stopwatch:
    """How long the block below it takes, in seconds by the clock and of this process's processor time."""

    def __enter__(self) -> Self:
        self.wall, self.cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall, self.cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu


def per_task(repeats: int, tasks: int, once: Callable[[], Stopwatch]) -> Figures:
    """Medians of several runs, in microseconds a task."""
    watches = [once() for _ in range(repeats)]
    wall, cpu = (statistics.median(times) for times in zip(*((one.wall, one.cpu) for one in watches), strict=True))
    return {"us": wall / tasks * 1e6, "cpu_us": cpu / tasks * 1e6}


# ---- no-ops on threads -----------------------------------------------------------------------------------------------


def defined(graph: Graph, body: Body = shapes.small, pool: str | None = None) -> nerv.Workflow:
    """The graph as a user of nerv would write it."""
    return nerv.Workflow(
        "bench",
        [
            nerv.TaskDef(f"t{number}", body, args=(number, [nerv.Output(f"t{need}") for need in needs]), pool=pool)
            for number, needs in enumerate(graph)
        ],
    )


def check(execution: nerv.Execution, graph: Graph) -> None:
    """Every task has returned what it must."""
    results = execution.results
    assert [results[f"t{number}"] for number in range(len(graph))] == shapes.expected(graph), "wrong results"


def floor_threads(shape: str, tasks: int, workers: int = 4, repeats: int = 3) -> Figures:
    """graphlib and ThreadPoolExecutor, the executor's threads started before."""
    graph = SHAPES[shape](tasks)
    with ThreadPoolExecutor(workers) as executor:

        def once(graph: Graph) -> Stopwatch:
            order = floors.sorter(graph)
            with Stopwatch() as watch:
                values = floors.run_threads(graph, order, shapes.small, executor)
            assert values == shapes.expected(graph), "wrong results"
            return watch

        once(SHAPES[shape](WARM_UP))
        return per_task(repeats, len(graph), lambda: once(graph))


def nerv_threads(shape: str, tasks: int, workers: int = 4, repeats: int = 3) -> Figures:
    """`nerv.run` with default settings: the engine and its threads are made and ended within the time."""
    nerv.run(defined(SHAPES[shape](WARM_UP)), workers=workers)
    graph = SHAPES[shape](tasks)
    workflow = defined(graph)

    def once() -> Stopwatch:
        with Stopwatch() as watch:
            execution = nerv.run(workflow, workers=workers)
        check(execution, graph)
        assert len(execution.log) >= 2 * len(graph), "every event is kept"
        return watch

    return per_task(repeats, len(graph), once)


def nerv_watched(shape: str, tasks: int, workers: int = 4, repeats: int = 3) -> Figures:
    """The same with a subscriber to every event, and projections queried at the end, within the time."""
    watched_run(SHAPES[shape](WARM_UP), defined(SHAPES[shape](WARM_UP)), workers)
    graph = SHAPES[shape](tasks)
    workflow = defined(graph)
    return per_task(repeats, len(graph), lambda: watched_run(graph, workflow, workers))


def watched_run(graph: Graph, workflow: nerv.Workflow, workers: int) -> Stopwatch:
    seen: list[nerv.Event] = []
    with Stopwatch() as watch, nerv.WorkflowManager(workers=workers) as manager:
        manager.event_bus.subscribe(nerv.ANY, seen.append)
        execution = manager.start(workflow)
        execution.wait()
        completed = len(execution.project("completed_tasks"))
        status = execution.project("workflow_status")
    check(execution, graph)
    assert completed == len(graph), "the projection sees every task"
    assert status is nerv.WorkflowStatus.COMPLETED, "the projection sees the end"
    assert [event.seq for event in seen] == [*range(1, len(execution.log) + 1)], "the subscriber hears every event"
    return watch


def dask_threads(shape: str, tasks: int, workers: int = 4, repeats: int = 3) -> Figures:
    """dask's threaded scheduler, given the graph in its own form."""
    from dask.threaded import get

    def once(graph: Graph) -> Stopwatch:
        form = {
            f"t{number}": (shapes.small, number, [f"t{need}" for need in needs]) for number, needs in enumerate(graph)
        }
        sinks = sorted(set(range(len(graph))).difference(*graph))
        with Stopwatch() as watch:
            values = get(form, [f"t{sink}" for sink in sinks], num_workers=workers)
        expected = shapes.expected(graph)
        assert list(values) == [expected[sink] for sink in sinks], "wrong results"
        return watch

    once(SHAPES[shape](WARM_UP))
    graph = SHAPES[shape](tasks)
    return per_task(repeats, len(graph), lambda: once(graph))


def nerv_large(tasks: int, workers: int = 4) -> Figures:
    """One run of a large random graph, and what the process has grown by when it has ended and all is kept: task
    definitions, workflow, scheduler, events, results."""
    nerv.run(defined(shapes.scattered(WARM_UP)), workers=workers)
    before = resident()
    began = time.perf_counter()
    graph = shapes.scattered(tasks)
    made = time.perf_counter()
    workflow = defined(graph)
    ready = time.perf_counter()
    del graph
    with Stopwatch() as watch:
        execution = nerv.run(workflow, workers=workers)
    held = resident() - before
    check(execution, shapes.scattered(tasks))
    return {
        "us": watch.wall / tasks * 1e6,
        "cpu_us": watch.cpu / tasks * 1e6,
        "define_us": (ready - made) / tasks * 1e6,
        "graph_us": (made - began) / tasks * 1e6,
        "bytes": held / tasks,
    }


def nerv_items(items: int, limit: int | None, workers: int = 4, repeats: int = 3) -> Figures:
    """`nerv.run` of one Buffer whose target does nothing."""

    def buffered(count: int) -> nerv.Workflow:
        return nerv.Workflow("items", [nerv.Buffer("b", list(range(count)), itself, max_parallel=limit)])

    nerv.run(buffered(WARM_UP), workers=workers)
    workflow = buffered(items)

    def once() -> Stopwatch:
        with Stopwatch() as watch:
            execution = nerv.run(workflow, workers=workers)
        assert execution["b"].successful == items
        return watch

    return per_task(repeats, items, once)


def itself(item: int) -> int:
    """What is done with an item."""
    return item


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# ---- plans -----------------------------------------------------------------------------------------------------------


def nothing() -> None:
    """A task of a plan, which isn't run."""


def nerv_plan(tasks: int) -> Figures:
    """TaskDefs, Workflow and levels of a graph with two edges a task."""
    graph = shapes.edges(tasks)
    with Stopwatch() as watch:
        workflow = nerv.Workflow(
            "plan",
            [
                nerv.TaskDef(str(number), nothing, dependencies=[str(need) for need in needs])
                for number, needs in enumerate(graph)
            ],
        )
        levels = len(workflow.plan().levels)
    return {"us": watch.wall * 1e6, "cpu_us": watch.cpu * 1e6, "levels": levels, "edges": sum(map(len, graph))}


def floor_plan(tasks: int) -> Figures:
    """Kahn's algorithm over ints."""
    graph = shapes.edges(tasks)
    with Stopwatch() as watch:
        levels = floors.plan_levels(graph)
    return {"us": watch.wall * 1e6, "cpu_us": watch.cpu * 1e6, "levels": levels}


# ---- tasks that block ------------------------------------------------------------------------------------------------


def timed_nerv(graph: Graph, naps: list[float], workers: int) -> Figures:
    """The makespan of blocking tasks in nerv, over the bound."""
    nerv.run(defined(shapes.wide(2 * workers)), workers=workers)
    workflow = defined(graph, shapes.Nap(naps))
    began = time.perf_counter()
    execution = nerv.run(workflow, workers=workers)
    return bounded(time.perf_counter() - began, graph, naps, workers) | {"tasks": len(execution.results)}


def timed_floor(graph: Graph, naps: list[float], workers: int) -> Figures:
    """The makespan by the loop over graphlib."""
    with ThreadPoolExecutor(workers) as executor:
        floors.run_threads(shapes.wide(2 * workers), floors.sorter(shapes.wide(2 * workers)), shapes.small, executor)
        order = floors.sorter(graph)
        began = time.perf_counter()
        floors.run_threads(graph, order, shapes.Nap(naps), executor)
        return bounded(time.perf_counter() - began, graph, naps, workers)


def bounded(makespan: float, graph: Graph, naps: list[float], workers: int) -> Figures:
    """A makespan beside what no scheduler can do better, and what no list scheduler does worse (Graham 1966)."""
    path, share = shapes.longest(graph, naps), sum(naps) / workers
    return {"makespan": makespan, "over_bound": makespan / max(path, share), "over_graham": makespan / (path + share)}


def nerv_naps(tasks: int, workers: int = 16) -> Figures:
    return timed_nerv(*shapes.lanes(tasks), workers)


def floor_naps(tasks: int, workers: int = 16) -> Figures:
    return timed_floor(*shapes.lanes(tasks), workers)


def recorded(path: str, total: float) -> tuple[Graph, list[float]]:
    """A WfCommons instance in dependency order, its runtimes scaled to sum to `total` seconds."""
    sys.path.insert(0, str(Path(path).parent))
    from wf_load import load

    tasks = load(path)
    order = [*floors.TopologicalSorter({name: needs for name, (needs, _) in tasks.items()}).static_order()]
    number = {name: place for place, name in enumerate(order)}
    scale = total / sum(taken for _, taken in tasks.values())
    graph = [tuple(number[need] for need in tasks[name][0]) for name in order]
    return graph, [tasks[name][1] * scale for name in order]


def nerv_recorded(path: str, total: float, workers: int = 8) -> Figures:
    return timed_nerv(*recorded(path, total), workers)


def floor_recorded(path: str, total: float, workers: int = 8) -> Figures:
    return timed_floor(*recorded(path, total), workers)


# ---- processes -------------------------------------------------------------------------------------------------------


def turns_for(taken: float) -> int:
    """How much to `burn` so that one call takes that many seconds here."""
    probe = 100_000
    return int(probe * taken / min(seconds(lambda: shapes.burn(probe)) for _ in range(5)))


def burning(tasks: int, turns: int) -> nerv.Workflow:
    return nerv.Workflow(
        "burn", [nerv.TaskDef(f"t{number}", shapes.burnt, args=(turns,), pool="process") for number in range(tasks)]
    )


def sequential(tasks: int, turns: int) -> float:
    """Seconds that the tasks take here one after another, judged by a quarter of them."""
    few = max(tasks // 4, 1)
    return seconds(lambda: [shapes.burn(turns) for _ in range(few)]) * tasks / few


def nerv_burn(tasks: int, each: float) -> Figures:
    """CPU tasks on two worker processes over the ideal, half of the sequential time: with workers that are up, and
    with their start and end counted in. `busy` is the part of both workers' time that the functions had, `longer` how
    much more they took there than they do here."""
    turns = turns_for(each)
    workflow = burning(tasks, turns)
    before = sequential(tasks, turns)
    with nerv.WorkflowManager(processes=2) as manager:
        call_all(manager, 2)
        execution = manager.start(workflow)
        warm = seconds(execution.wait)
    between = sequential(tasks, turns)
    cold = seconds(lambda: nerv.run(workflow, processes=2))
    ideal = (before + between) / 4
    inside = sum(taken for _, taken in execution.results.values()) / 2
    return {"warm": warm / ideal, "cold": cold / ideal, "busy": inside / warm, "longer": inside / ideal}


def call_all(manager: nerv.WorkflowManager, workers: int) -> None:
    """Have every worker process answer: the first that is up might do all that there is while others still start."""
    heard: set[int] = set()
    while len(heard) < workers:
        execution = manager.start(burning(4, 1000))
        execution.wait()
        heard.update(process for process, _ in execution.results.values())


def bare_burn(tasks: int, each: float) -> Figures:
    """The same work, split between two processes with nothing else to do."""
    turns = turns_for(each)
    before = sequential(tasks, turns)
    taken = floors.burn_on_two(tasks, turns)
    return {"warm": taken / ((before + sequential(tasks, turns)) / 4)}


def nerv_tiny(tasks: int, repeats: int = 3) -> Figures:
    """x + 1 on two worker processes that are up and know the function."""

    def flow(count: int) -> nerv.Workflow:
        return nerv.Workflow(
            "tiny", [nerv.TaskDef(f"t{i}", shapes.increment, args=(i,), pool="process") for i in range(count)]
        )

    with nerv.WorkflowManager(processes=2) as manager:
        manager.start(flow(min(2000, tasks))).wait()
        workflow = flow(tasks)
        return {"us": median_of(repeats, lambda: seconds(manager.start(workflow).wait)) / tasks * 1e6}


def floor_tiny(tasks: int, repeats: int = 3) -> Figures:
    """The same by `ProcessPoolExecutor.map` with the chunk size that was best; also with one and 50 in a chunk."""
    taken = floors.map_in_chunks(tasks, lambda act: median_of(repeats, lambda: seconds(act)))
    best = min(taken, key=taken.__getitem__)
    us = {chunk: each / tasks * 1e6 for chunk, each in taken.items()}
    return {"us": us[best], "chunk": best, "us_of_1": us[1], "us_of_50": us[50]}


# ---- questions -------------------------------------------------------------------------------------------------------

PROJECTIONS = ("task_status", "workflow_status", "completed_tasks", "failed_tasks", "running_tasks", "progress")


def questions(execution: nerv.Execution) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Every built-in projection, and `at` for moments all over the log, as calls by name."""
    for name in PROJECTIONS:
        yield name, partial(execution.project, name)
    last = len(execution.log)
    for part in range(1, 6):
        yield "at", partial(execution.at, last * part * 7 % (last + 1))


def nerv_questions(tasks: int, rounds: int = 200) -> Figures:
    """What projections cost: how long the first question folds, then each question once folded; ms.

    While it runs, by the processor time of the thread that asks: by the clock it also waits for the interpreter, which
    the workers give up every 5 ms at most. A question there folds what has happened since the last one.
    """
    import pyrsistent  # noqa: F401  (its import isn't a matter of folding)

    workflow = defined(shapes.scattered(tasks))
    with nerv.WorkflowManager(workers=4) as manager:
        first = manager.start(workflow)
        live: list[float] = []
        while not live or first.status is nerv.WorkflowStatus.RUNNING:
            live += [milliseconds(ask, time.thread_time) for _, ask in questions(first)]
        first.wait()
        second = manager.start(workflow)
        second.wait()
        fold = milliseconds(lambda: second.state["status"])
        taken: dict[str, list[float]] = {}
        for _ in range(rounds):
            for name, ask in questions(second):
                taken.setdefault(name, []).append(milliseconds(ask))
    everything = sorted(figure for figures in taken.values() for figure in figures)
    return {
        "fold": fold,
        "slowest": max(map(statistics.median, taken.values())),
        "p99": everything[len(everything) * 99 // 100],
        "live_median": statistics.median(live),
        "live_p99": sorted(live)[len(live) * 99 // 100],
        "live_asked": len(live),
    }


def milliseconds(act: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    began = clock()
    act()
    return (clock() - began) * 1e3


# ---- at rest ---------------------------------------------------------------------------------------------------------


def nerv_idle(taken: float) -> Figures:
    """What an engine does in `taken` seconds in which there is nothing to do: an execution is paused with work ready, a
    subscriber listens, threads, worker processes, event loop and timer have all been in use."""
    with paused() as manager:
        pool, timer = manager._pools["thread"], manager.engine.timer
        time.sleep(0.3)
        looks, wake_ups, switches, busy = pool.looks, timer.wake_ups, switched(), busy_elsewhere()
        time.sleep(taken)
        return {
            "looks": pool.looks - looks,
            "timer": timer.wake_ups - wake_ups,
            "switches": switched() - switches,
            "cpu_ms": (busy_elsewhere() - busy) * 1e3,
        }


@contextmanager
def paused() -> Iterator[nerv.WorkflowManager]:
    """A manager whose execution is paused half-way."""

    def hold() -> None:
        execution.pause()

    async def breathe() -> None:
        pass

    tasks = [
        nerv.TaskDef("burn", shapes.burn, args=(10,), pool="process"),
        nerv.TaskDef("breathe", breathe, dependencies=["burn"]),
        nerv.TaskDef("hold", hold, dependencies=["breathe"]),
        *(nerv.TaskDef(f"t{number}", nothing, dependencies=["hold"]) for number in range(100)),
    ]
    with nerv.WorkflowManager(workers=4, processes=2) as manager:
        manager.event_bus.subscribe(nerv.ANY, lambda event: None, weak=False)
        manager.start(defined(shapes.wide(WARM_UP))).wait()
        manager.engine.timer.at(manager.clock.monotonic() + 3600, nothing)
        execution = manager.start(nerv.Workflow("held", tasks))
        while len(execution.results) < 3:
            time.sleep(0.01)
        yield manager
        execution.cancel("measured")


def busy_elsewhere() -> float:
    """Seconds of processor time that this process has used in other threads than this one."""
    return time.process_time() - time.thread_time()


def switched() -> int:
    """How often threads of this process and its children gave up the processor or lost it, this one apart."""
    mine = f"{os.getpid()}/task/{os.getpid()}"
    children = Path(f"/proc/{mine}/children").read_text().split()
    count = 0
    for process in (os.getpid(), *map(int, children)):
        for thread in Path(f"/proc/{process}/task").iterdir():
            if not str(thread).endswith(mine):
                lines = (thread / "status").read_text().splitlines()
                count += sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)
    return count


# ---- the process -----------------------------------------------------------------------------------------------------

SIDES: dict[str, Callable[..., Figures]] = {
    side.__name__: side
    for side in (
        floor_threads, nerv_threads, nerv_watched, dask_threads, nerv_large, nerv_plan, floor_plan, nerv_naps,
        floor_naps, nerv_recorded, floor_recorded, nerv_burn, bare_burn, nerv_tiny, floor_tiny, nerv_questions,
        nerv_idle,
        nerv_items,
        nerv_plain,
        nerv_policed,
        nerv_placed,
        nerv_days,
        nerv_commits, nerv_kept, nerv_unkept, nerv_bytes, nerv_opening, nerv_recovering,
    )
}  # fmt: skip


def main(orders: str) -> None:
    """Print the figures of each of some sides, given as JSON: a list of names with their arguments."""
    figures = []
    for name, arguments in json.loads(orders):
        figures.append(SIDES[name](**arguments))
        gc.collect()
    print(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1])
