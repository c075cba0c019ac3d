"""What policies cost: run as a script, prints two figures; `python -m tests.bench days policies` has them in the table.

Usage: python tests/bench/bench_policies.py [tasks]

`policies` runs the same no-ops on threads without policies and with three each: a retry policy, a named rate limit and
a named circuit breaker, all shared and none of them ever in the way. `days` is a task that is retried once a day for
thirty days on a `FakeClock`: everything from the manager to the result.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

import nerv
from nerv.testing import FakeClock, SimulatedPools
from tests.bench import shapes
from tests.bench.shapes import SHAPES

DAY = 86_400.0


def policies() -> dict[str, Any]:
    """Three for every task."""
    return {
        "retry_policy": nerv.RetryPolicy(3),
        "rate_limit": nerv.RateLimit(10**9, 1.0, "bench"),
        "circuit_breaker": nerv.CircuitBreaker(name="bench"),
    }


def no_ops(tasks: int, *, policed: bool, repeats: int = 3) -> dict[str, float]:
    """Microseconds a task, of the run alone."""
    own = policies() if policed else {}
    graph = SHAPES["random"](tasks)
    workflow = nerv.Workflow(
        "bench",
        [
            nerv.TaskDef(f"t{number}", shapes.small, args=(number, [nerv.Output(f"t{need}") for need in needs]), **own)
            for number, needs in enumerate(graph)
        ],
    )
    walls, processor = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        execution = nerv.run(workflow, workers=4)
        walls.append(time.perf_counter() - wall)
        processor.append(time.process_time() - cpu)
        assert len(execution.results) == len(graph), "every task completes"
        assert len(execution.log) == 2 * len(graph) + 2, "nothing had to wait"
    return {
        "us": statistics.median(walls) / len(graph) * 1e6,
        "cpu_us": statistics.median(processor) / len(graph) * 1e6,
    }


def nerv_plain(tasks: int) -> dict[str, float]:
    """No-ops without policies."""
    return no_ops(tasks, policed=False)


def nerv_policed(tasks: int) -> dict[str, float]:
    """The same no-ops, with three policies each."""
    return no_ops(tasks, policed=True)


def nerv_days(days: int) -> dict[str, float]:
    """Milliseconds of a task that fails once a day, and then doesn't: the second of two."""
    thirty_days(days)
    began = time.perf_counter()
    clock, attempts = thirty_days(days)
    taken = time.perf_counter() - began
    assert (clock.monotonic(), attempts) == (days * DAY, days + 1)
    return {"ms": taken * 1e3}


def thirty_days(days: int) -> tuple[FakeClock, int]:
    """The clock afterwards, and how often the task was called."""
    attempts = []

    def ask() -> int:
        attempts.append(1)
        if len(attempts) <= days:
            raise OSError("not yet")
        return 1

    clock = FakeClock(auto=True)
    pools = SimulatedPools(clock=clock)
    policy = nerv.RetryPolicy(days + 1, DAY, 1.0, DAY, jitter=0)
    with nerv.WorkflowManager(clock=clock, pool_factory=pools) as manager:
        execution = manager.start(nerv.Workflow("patient", [nerv.TaskDef("ask", ask, retry_policy=policy)]))
        pools.run()
        assert execution.result == 1
    return clock, len(attempts)


def main(tasks: int) -> None:
    """Print both."""
    plain, policed = nerv_plain(tasks), nerv_policed(tasks)
    print(f"{tasks:,} tasks: {plain['us']:.1f} us a task, with three policies each {policed['us']:.1f}", end="; ")
    print(f"ratio {policed['us'] / plain['us']:.2f}, by processor time {policed['cpu_us'] / plain['cpu_us']:.2f}")
    print(f"thirty days of retries: {statistics.median(nerv_days(30)['ms'] for _ in range(9)):.1f} ms")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
