"""What `pool="auto"` costs CPU-bound tasks that should have been in processes all along, and what it spares them.

Usage: python -m tests.bench.bench_auto [tasks]

The same tasks on two worker processes, on two threads, and with the engine deciding; from nothing to the end, with the
start of the workers. On a machine with company compare the ratios only.
"""

from __future__ import annotations

import sys
import time

import nerv
from tests.bench import shapes

TURNS = 500_000
"""Of `burn`: some 25 ms."""


def nerv_placed(pool: str, tasks: int, turns: int = TURNS) -> dict[str, float]:
    """Seconds for so many tasks in that pool, and how many of them were moved."""
    workflow = nerv.Workflow(
        "bench", [nerv.TaskDef(f"t{number}", shapes.burn, args=(turns,), pool=pool) for number in range(tasks)]
    )
    began = time.perf_counter()
    execution = nerv.run(workflow, workers=2, processes=2)
    taken = time.perf_counter() - began
    assert len(execution.results) == tasks, "every task completes"
    moved = sum("pool" in execution.task(task_id).metadata for task_id in workflow.tasks)
    return {"s": taken, "moved": moved}


def main() -> None:
    """Measure, and print."""
    tasks = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    for pool in ("process", "auto", "thread"):
        figures = nerv_placed(pool, tasks)
        print(f"{pool:8} {figures['s']:.3f} s, {figures['moved']} of {tasks} moved")


if __name__ == "__main__":
    main()
