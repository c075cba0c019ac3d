"""What folding, asking and time travel cost: run as a script, prints a table.

Usage: python tests/bench/bench_projector.py [tasks]

Two logs of the same size, both with two events a task: `in order` is a run by 8 workers, `scattered` one in which
2,000 tasks of a shuffled order run at once. Memory is what a full fold holds beyond the log itself, by tracemalloc;
`all read` is the same after somebody looked at every task's last state.
"""

from __future__ import annotations

import gc
import random
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from nerv import eventlog
from nerv.eventlog import EventLog, Record
from nerv.projector import StateProjector
from nerv.statuses import WorkflowStatus

PROJECTIONS = ("task_status", "workflow_status", "completed_tasks", "failed_tasks", "running_tasks", "progress")


def make_log(tasks: int, width: int, *, shuffled: bool) -> EventLog:
    """A finished execution in which `width` tasks run at once."""
    ids = [f"task-{number}" for number in range(tasks)]
    order = list(range(tasks))
    if shuffled:
        random.Random(1).shuffle(order)
    log = EventLog("bench", "bench", ids, {}, 1_700_000_000.0)
    records: list[Record] = log.records
    ended = {"workflow_id": "w", "execution_id": "bench", "status": WorkflowStatus.COMPLETED, "task_count": tasks}
    records.append((eventlog.WORKFLOW_STARTED, -1, 0.0, 0, {"workflow_id": "w", "task_count": tasks}))
    for place in range(tasks + width):
        if place >= width:
            records.append((eventlog.TASK_COMPLETED, order[place - width], place * 1e-5, 1, None))
        if place < tasks:
            records.append((eventlog.TASK_STARTED, order[place], place * 1e-5, 1, None))
    records.append((eventlog.WORKFLOW_COMPLETED, -1, 1.0, 0, ended))
    return log


def shown(log: EventLog) -> StateProjector:
    """A projector of one execution, nothing folded yet."""
    projector = StateProjector()
    projector.attach(log, workflow_id="w")
    return projector


def milliseconds(act: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    act()
    return (time.perf_counter() - start) * 1e3


def spread(times: list[float]) -> str:
    """Median and worst of some times in ms."""
    return f"{statistics.median(times):9.3f} ms median, {max(times):8.3f} ms worst of {len(times)}"


def fold_figures(log: EventLog) -> StateProjector:
    """Fold a whole log five times, and once more to see its memory."""
    times = [milliseconds(lambda: shown(log).execution_state("bench")) for _ in range(5)]
    print(f"  fold {len(log):,} events           {spread(times)}")
    before = statistics.median(milliseconds(gc.collect) for _ in range(5))
    tracemalloc.start()
    projector = shown(log)
    tasks = projector.execution_state("bench")["tasks"]
    folded = tracemalloc.get_traced_memory()[0]
    [*tasks.values()]
    read = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    for what, held in (("folded", folded), ("all read", read)):
        print(f"  memory, {what:<22} {held / 2**20:9.1f} MiB, {held / len(log):.0f} bytes an event")
    after = statistics.median(milliseconds(gc.collect) for _ in range(5))
    print(f"  a full garbage collection      {before:9.1f} ms without, {after:.1f} ms with what was folded")
    fresh = shown(log).execution_state("bench")["tasks"]
    once, again = (milliseconds(lambda: [*fresh.values()]) for _ in range(2))
    print(f"  reading all tasks' states      {once:9.1f} ms the first time, {again:.1f} ms again")
    return projector


def live_figures(log: EventLog, batch: int) -> None:
    """Ask while it runs: `batch` new records before each query."""
    growing = EventLog("bench", "bench", log.ids, {}, log.epoch)
    projector = shown(growing)
    projector.execution_state("bench")
    times = []
    for start in range(0, min(len(log), 2_000 * batch), batch):
        growing.records.extend(log.records[start : start + batch])
        times.append(milliseconds(lambda: projector.project("progress", execution="bench")))
    print(f"  live, {batch:>3} new events a query    {spread(times)}")


def figures(title: str, log: EventLog) -> None:
    """All figures of one log."""
    print(title)
    projector = fold_figures(log)
    live_figures(log, 1)
    live_figures(log, 256)
    for name in PROJECTIONS:
        times = [milliseconds(lambda name=name: projector.project(name, execution="bench")) for _ in range(1_000)]
        print(f"  {name:<30} {spread(times)}")
    dice = random.Random(2)
    moments = [dice.randint(0, len(log)) for _ in range(3_000)]
    travel = [milliseconds(lambda s=s: projector.at("bench", s)) for s in moments]
    print(f"  at(seq)                        {spread(travel)}")
    for name in PROJECTIONS[2:]:
        ask = [
            milliseconds(lambda s=s, name=name: projector.project(name, execution="bench", until=s))
            for s in moments[:500]
        ]
        print(f"  {name + ' until':<30} {spread(ask)}")

    def running(seq: int) -> list[str]:
        return [*projector.project("running_tasks", execution="bench", until=seq)]

    print(f"  list(running_tasks until)      {spread([milliseconds(lambda s=s: running(s)) for s in moments[:500]])}")
    near = [milliseconds(lambda s=s: projector.diff("bench", max(s - 10, 0), s)) for s in moments[:500]]
    print(f"  diff over 10 events            {spread(near)}")


def main() -> None:
    """Print the table."""
    tasks = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    first = milliseconds(lambda: shown(make_log(1, 1, shuffled=False)).get_state())
    print(f"{Path(__file__).name}, {tasks:,} tasks; the first query of a process: {first:.1f} ms (imports pyrsistent)")
    figures("in order, 8 at once", make_log(tasks, 8, shuffled=False))
    figures("scattered, 2,000 at once", make_log(tasks, 2_000, shuffled=True))


if __name__ == "__main__":
    main()
