"""What nerv is compared with: the least that one would write oneself, with the standard library alone."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from graphlib import TopologicalSorter
from queue import SimpleQueue
from typing import Any

from tests.bench.shapes import Body, Graph, burn, increment


def sorter(graph: Graph) -> TopologicalSorter[int]:
    """graphlib's sorter, ready to be asked."""
    order: TopologicalSorter[int] = TopologicalSorter()
    for number, needs in enumerate(graph):
        order.add(number, *needs)
    order.prepare()
    return order


def run_threads(graph: Graph, order: TopologicalSorter[int], body: Body, executor: ThreadPoolExecutor) -> list[Any]:
    """Run a graph by a loop in this thread: what graphlib calls ready goes to the executor, what comes back is told to
    graphlib. It keeps results and nothing else: no record, no state, no cancelling; the first error ends it."""
    values: list[Any] = [None] * len(graph)
    finished: SimpleQueue[tuple[int, Any, BaseException | None]] = SimpleQueue()

    def call(number: int, inputs: list[Any]) -> None:
        try:
            finished.put((number, body(number, inputs), None))
        except BaseException as error:
            finished.put((number, None, error))

    while order.is_active():
        for number in order.get_ready():
            executor.submit(call, number, [values[need] for need in graph[number]])
        number, value, error = finished.get()
        if error is not None:
            raise error
        values[number] = value
        order.done(number)
    return values


def plan_levels(graph: Graph) -> int:
    """Kahn's algorithm over lists of ints, level by level; the result is how many levels there are."""
    after: list[list[int]] = [[] for _ in graph]
    missing = [len(needs) for needs in graph]
    for number, needs in enumerate(graph):
        for need in needs:
            after[need].append(number)
    level = [number for number, count in enumerate(missing) if not count]
    levels = []
    while level:
        levels.append(level)
        below = []
        for number in level:
            for dependent in after[number]:
                missing[dependent] -= 1
                if not missing[dependent]:
                    below.append(dependent)
        level = below
    assert sum(map(len, levels)) == len(graph), "a graph without cycles is levelled to its end"
    return len(levels)


def burn_on_two(tasks: int, turns: int) -> float:
    """Seconds that two bare processes take for half of the tasks each: what this machine can do at most."""
    fork = multiprocessing.get_context("fork")
    start = fork.Barrier(3)
    workers = [fork.Process(target=_burn_share, args=(start, tasks // 2, turns)) for _ in range(2)]
    for worker in workers:
        worker.start()
    start.wait()
    began = time.perf_counter()
    for worker in workers:
        worker.join()
    return time.perf_counter() - began


def _burn_share(start: Any, tasks: int, turns: int) -> None:
    start.wait()
    for _ in range(tasks):
        burn(turns)


CHUNKS = (1, 50, 100, 250, 500, 1250, 2500, 5000)


def map_in_chunks(calls: int, timed: Callable[[Callable[[], Any]], float]) -> dict[int, float]:
    """Seconds that the standard library's process pool takes for tiny calls, by the size of its chunks."""
    with ProcessPoolExecutor(2) as executor:
        list(executor.map(increment, range(100), chunksize=10))
        return {
            chunk: timed(lambda chunk=chunk: list(executor.map(increment, range(calls), chunksize=chunk)))
            for chunk in CHUNKS
            if chunk <= max(calls // 2, 50)
        }
