"""taskmap's functions and ours on the same graphs, in turns: run as a script, prints a table.

Usage: python tests/bench/bench_taskmap.py [rounds]

Each figure is of `create_graph` and the run together, and of the round that was disturbed least: a round times both
libraries, one right after the other, and a busy machine only ever adds to a time. Rows that take milliseconds are given
more rounds. taskmap is quiet (its loggers at CRITICAL) and has its default `sleep` unless the row says otherwise.
`run_async` has no figures for taskmap: it fails since Python 3.10.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from nerv.interop import taskmap as ours

Needs = Mapping[str, list[str]]


def count(*values: int) -> int:
    """A task that does next to nothing."""
    return sum(values) + 1


def nap(*_: Any) -> int:
    """A task that takes 50 ms and no processor."""
    time.sleep(0.05)
    return 1


async def count_async(*values: int) -> int:
    """`count`, as a coroutine."""
    return sum(values) + 1


async def nap_async(*_: Any) -> int:
    """`nap`, as a coroutine."""
    await asyncio.sleep(0.05)
    return 1


def chain(size: int) -> Needs:
    """Each task needs the one before it."""
    return {f"t{index}": [f"t{index - 1}"] if index else [] for index in range(size)}


def wide(size: int) -> Needs:
    """Tasks that need nothing, and one that needs them all."""
    tasks = {f"t{index}": [] for index in range(size)}
    return tasks | {"end": list(tasks)}


def layered(layers: int, width: int) -> Needs:
    """Each task needs three of the layer above."""
    return {
        f"t{layer}.{place}": [f"t{layer - 1}.{(place + step) % width}" for step in range(3)] if layer else []
        for layer in range(layers)
        for place in range(width)
    }


def seconds(
    library: Any, verb: str, fn: Callable[..., Any], needs: Needs, io_bound: Collection[str] = (), **options: Any
) -> float:
    """How long one run takes."""
    config = {"level": logging.CRITICAL}
    start = time.perf_counter()
    graph = library.create_graph(dict.fromkeys(needs, fn), needs, io_bound=io_bound, logging_config=config)
    done = getattr(library, verb)(graph, **options)
    took = time.perf_counter() - start
    assert len(done.results) == len(needs), "some tasks have no result"
    assert not any(isinstance(result, Exception) for result in done.results.values()), "some tasks failed"
    return took


def row(title: str, rounds: int, verb: str, fn: Callable[..., Any], needs: Needs, **options: Any) -> None:
    """One line of the table."""
    import taskmap as original  # not above: worker processes import this script

    theirs = mine = math.inf
    began, turns = time.perf_counter(), 0
    while turns < rounds or (turns < 20 * rounds and time.perf_counter() - began < 1):
        if verb != "run_async":
            theirs = min(theirs, seconds(original, verb, fn, needs, **options))
        mine = min(mine, seconds(ours, verb, fn, needs, **options))
        turns += 1
    ratio = f"{theirs / mine:7.1f} x" if verb != "run_async" else ""
    print(f"{title:<48}{figure(theirs, needs)}{figure(mine, needs)}  {ratio}", flush=True)


def figure(took: float, needs: Needs) -> str:
    """Milliseconds, and microseconds a task."""
    if took == math.inf:
        return f"{'-':>13}{'-':>12}"
    return f"{took * 1e3:10.1f} ms{took / len(needs) * 1e6:9,.0f} us"


def main() -> None:
    """Print the table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print(f"{'':<48}{'taskmap':>13}{'a task':>12}{'nerv':>13}{'a task':>12}  {'faster':>9}")
    seconds(ours, "run", count, chain(1))  # imports
    for size in (10, 100, 1_000):
        row(f"run, chain of {size:,}", rounds, "run", count, chain(size))
    for size in (10, 100, 1_000, 10_000):
        row(f"run, wide, {size:,}", rounds, "run", count, wide(size))
    row("run, 20 layers of 50", rounds, "run", count, layered(20, 50))
    two = {"nprocs": 2}
    row("run_parallel, chain of 10", rounds, "run_parallel", count, chain(10), **two)
    row("run_parallel, chain of 10, sleep=0.001", rounds, "run_parallel", count, chain(10), sleep=0.001, **two)
    row("run_parallel, wide, 200", rounds, "run_parallel", count, wide(200), **two)
    row("run_parallel, wide, 200, sleep=0.001", rounds, "run_parallel", count, wide(200), sleep=0.001, **two)
    row("run_parallel, one task", rounds, "run_parallel", count, chain(1), **two)
    row("run_parallel, one task, sleep=0.001", rounds, "run_parallel", count, chain(1), sleep=0.001, **two)
    row("run_parallel, 10 layers of 4, 50 ms each", rounds, "run_parallel", nap, layered(10, 4), **two)
    waiting = layered(5, 20)
    title = "run_parallel_async, 5 layers of 20 naps of 50 ms"
    row(title, rounds, "run_parallel_async", nap_async, waiting, io_bound=list(waiting), **two)
    row("run_async, 5 layers of 20 naps of 50 ms", rounds, "run_async", nap_async, waiting)
    row("run_async, chain of 1,000", rounds, "run_async", count_async, chain(1_000))


if __name__ == "__main__":
    main()
