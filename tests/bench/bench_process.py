"""What the process pool costs, beside the standard library's: run as a script, prints a table.

Usage: python -m tests.bench.bench_process [rounds]

`tiny` is 10,000 calls of x + 1 on two workers that are up: through `WorkflowManager.start`, through the pool alone (a
source that does nothing but hand out and take in), and through `ProcessPoolExecutor.map` in chunks of several sizes.
`spin` is 64 tasks that each keep a core for 50 ms by the clock, on two workers, against 1.6 s; cold includes the start
of the engine and the workers, and its end. `round trip` is one call at a time; `start` is from nothing to the end of a
first call. Best and median of the rounds: on a machine with company, the best says more about the code.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

import nerv
from tests.pools.desk import Rig
from tests.pools.light import inc, spin

TINY = 10_000
CHUNKS = (1, 10, 50, 100, 250, 500, 1250, 2500, 5000)
SPINS, SPIN = 64, 0.05


def timed(act: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def flow(tasks: int) -> nerv.Workflow:
    return nerv.Workflow("tiny", [nerv.TaskDef(f"t{i}", inc, args=(i,), pool="process") for i in range(tasks)])


def spins() -> nerv.Workflow:
    return nerv.Workflow("spin", [nerv.TaskDef(f"t{i}", spin, args=(SPIN,), pool="process") for i in range(SPINS)])


@contextmanager
def warm_manager() -> Iterator[nerv.WorkflowManager]:
    """Two workers that are up and know that `inc` is quick."""
    with nerv.WorkflowManager(processes=2) as manager:
        manager.start(flow(2000)).wait()
        yield manager


@contextmanager
def warm_executor(workers: int = 2) -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as executor:
        list(executor.map(inc, range(100), chunksize=10))
        yield executor


def rounds_of(count: int, act: Callable[[], object]) -> list[float]:
    return [timed(act) for _ in range(count)]


def tiny(rounds: int) -> Iterator[tuple[str, list[float], int]]:
    with warm_manager() as manager:
        made = [flow(TINY) for _ in range(rounds)]
        yield "tiny: nerv", [timed(manager.start(workflow).wait) for workflow in made], TINY
    with warm_executor() as executor:
        for chunk in CHUNKS:
            few = min(rounds, 2) if chunk < 50 else rounds
            taken = rounds_of(few, lambda chunk=chunk: list(executor.map(inc, range(TINY), chunksize=chunk)))
            yield f"tiny: stdlib, chunks of {chunk}", taken, TINY
    rig = Rig(2)
    tasks = [nerv.TaskDef(f"t{i}", inc, args=(i,)) for i in range(TINY)]
    rig.desk.ready = deque()
    rig.warm(inc, 1)
    yield "tiny: the pool alone", rounds_of(rounds, lambda: drained(rig, tasks)), TINY
    rig.pool.close(5.0)


def drained(rig: Rig, tasks: list[nerv.TaskDef]) -> None:
    """Run these and wait for the last."""
    wanted = len(rig.desk.ended) + len(tasks)
    rig.put(*tasks)
    rig.desk.wait(lambda: len(rig.desk.ended) >= wanted)


def spinning(rounds: int) -> Iterator[tuple[str, list[float], int]]:
    few = min(rounds, 3)
    with warm_manager() as manager:
        yield "spin: nerv, warm", rounds_of(few, lambda: manager.start(spins()).wait()), SPINS
    yield "spin: nerv, cold", rounds_of(few, lambda: nerv.run(spins(), processes=2)), SPINS
    with warm_executor() as executor:
        yield "spin: stdlib, warm", rounds_of(few, lambda: list(executor.map(spin, [SPIN] * SPINS))), SPINS


def single(rounds: int) -> Iterator[tuple[str, list[float], int]]:
    with warm_manager() as manager:
        one = flow(1)
        yield "round trip: nerv.start().wait()", rounds_of(100 * rounds, lambda: manager.start(one).wait()), 1
    rig = Rig(1)
    rig.warm(inc, 1)
    yield "round trip: the pool alone", rounds_of(100 * rounds, lambda: rig.call(inc, 1)), 1
    rig.pool.close(5.0)
    with warm_executor(1) as executor:
        yield "round trip: stdlib", rounds_of(100 * rounds, lambda: executor.submit(inc, 1).result()), 1
    yield "start: nerv.run", rounds_of(rounds, lambda: nerv.run(flow(1), processes=1)), 1
    yield "start: stdlib, spawn", rounds_of(rounds, first_call), 1


def first_call() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        executor.submit(inc, 1).result()


def show(lines: Iterable[tuple[str, list[float], int]]) -> dict[str, float]:
    best = {}
    for name, taken, calls in lines:
        best[name] = min(taken)
        a_call = f"{min(taken) / calls * 1e6:10.1f}"
        print(f"{name:34}{min(taken) * 1e3:10.2f}{statistics.median(taken) * 1e3:10.2f}{a_call}", flush=True)
    return best


def main(rounds: int) -> None:
    print(f"{'':34}{'best ms':>10}{'median':>10}{'us a call':>10}")
    best = show(tiny(rounds))
    stdlib = min((taken, name) for name, taken in best.items() if "stdlib" in name)
    best |= show(spinning(rounds)) | show(single(rounds))
    print(f"\ntiny: nerv / {stdlib[1][6:]} = {best['tiny: nerv'] / stdlib[0]:.1f}; ", end="")
    print(f"chunks of 50: {best['tiny: nerv'] / best['tiny: stdlib, chunks of 50']:.1f}")
    ideal = SPINS * SPIN / 2
    spun = {name[6:]: taken for name, taken in best.items() if name.startswith("spin")}
    print("spin / ideal = " + ", ".join(f"{name} {taken / ideal:.3f}" for name, taken in spun.items()))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
