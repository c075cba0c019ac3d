"""What keeping an execution costs: run as a script, prints a table.

Usage: python tests/bench/bench_journal.py [folder] [steps]

`folder` is where the files are written (default: a temporary folder): what a commit costs is the disk's affair. A raw
commit is one row inserted by sqlite3 alone, WAL and synchronous=FULL, in turn with the journal's own, so that both see
the same disk at the same time.
"""

from __future__ import annotations

import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nerv import SqliteJournal
from nerv.eventlog import TASK_COMPLETED, TASK_STARTED, WORKFLOW_COMPLETED, WORKFLOW_STARTED, Record
from nerv.journal.base import Batch, Header, Stretch
from nerv.journal.codec import encode

EPOCH = 1_700_000_000.0


def seconds(act: Callable[[], Any]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def steps(first: int, last: int) -> list[Record]:
    """The records of some tasks that start and complete."""
    found: list[Record] = []
    for number in range(first, last):
        found.append((TASK_STARTED, number, number * 1e-4, 1, None))
        found.append((TASK_COMPLETED, number, number * 1e-4 + 5e-5, 1, None))
    return found


def begin(journal: SqliteJournal, name: str, tasks: int) -> None:
    """An execution and its first event."""
    ids = [f"task-{number}" for number in range(tasks)]
    start = (WORKFLOW_STARTED, -1, 0.0, 0, {"task_count": tasks})
    journal.write(Batch([Header(name, "bench", created_at=EPOCH)], [Stretch(name, 1, [start], EPOCH, ids)]))


def end(journal: SqliteJournal, name: str, seq: int) -> None:
    """Its last event."""
    journal.write(Batch([], [Stretch(name, seq, [(WORKFLOW_COMPLETED, -1, 9.0, 0, {"count": seq})], EPOCH)]))


def strict(folder: Path, tasks: int) -> Iterator[str]:
    """One commit a step, beside one raw commit."""
    raw = sqlite3.connect(folder / "raw.db", isolation_level=None)
    raw.execute("PRAGMA journal_mode = WAL")
    raw.execute("PRAGMA synchronous = FULL")
    raw.execute("CREATE TABLE steps (number INTEGER PRIMARY KEY, body BLOB)")
    journal = SqliteJournal(folder / "strict.db")
    begin(journal, "strict", tasks)
    ours, theirs = [], []
    for number in range(tasks):
        batch = Batch([], [Stretch("strict", 2 + 2 * number, steps(number, number + 1), EPOCH, (), {number: number})])
        insert = "INSERT INTO steps (body) VALUES (?)"
        theirs.append(seconds(lambda insert=insert: raw.execute(insert, (b"x" * 20,))))
        ours.append(seconds(lambda batch=batch: journal.write(batch)))
    raw.close()
    end(journal, "strict", 2 + 2 * tasks)
    closing = seconds(journal.close)
    mean, median = (kind(ours) / kind(theirs) for kind in (statistics.mean, statistics.median))
    us = statistics.median(ours) * 1e6
    yield f"a step a commit          {us:8.0f} us; to a raw one {median:.3f}, means {mean:.3f}"
    yield f"  closing, with packing  {closing * 1e3:8.1f} ms"
    yield f"  bytes a task           {(folder / 'strict.db').stat().st_size / tasks:8.0f} in the file"


def group(folder: Path, tasks: int) -> Iterator[str]:
    """A thousand steps a commit; then what was written is read."""
    journal = SqliteJournal(folder / "group.db")
    begin(journal, "group", tasks)
    encoding = writing = 0.0
    for first in range(0, tasks, 1000):
        records, results = (
            steps(first, first + 1000),
            [{"n": number, "ok": True} for number in range(first, first + 1000)],
        )
        start = time.perf_counter()
        values = {first + place: encode(value) for place, value in enumerate(results)}
        middle = time.perf_counter()
        journal.write(Batch([], [Stretch("group", 2 + 2 * first, records, EPOCH, (), values)]))
        encoding += middle - start
        writing += time.perf_counter() - middle
    encoding, writing = encoding / tasks * 1e6, writing / tasks * 1e6
    yield f"a thousand steps a commit {encoding:7.2f} us a step to encode, {writing:.2f} to write"
    yield f"  loading {tasks:,} tasks   {seconds(lambda: journal.load('group')) * 1e3:8.0f} ms"
    decoding = seconds(lambda: [*journal.load("group").values.values()])
    yield f"  with every result      {decoding * 1e3:8.0f} ms"
    yield f"  as events              {seconds(lambda: [*journal.events('group')]) * 1e3:8.0f} ms"
    end(journal, "group", 2 + 2 * tasks)
    journal.close()
    yield f"  bytes a task           {(folder / 'group.db').stat().st_size / tasks:8.0f} in the file"


def large(folder: Path, executions: int, tasks: int) -> Iterator[str]:
    """A journal of many executions, of which one hasn't ended."""
    journal = SqliteJournal(folder / "large.db")
    for number in range(executions):
        name = f"e{number}"
        records = [(WORKFLOW_STARTED, -1, 0.0, 0, {}), *steps(0, tasks), (WORKFLOW_COMPLETED, -1, 9.0, 0, {})]
        if number == executions - 1:
            records.pop()
        ids = [f"task-{task}" for task in range(tasks)]
        values = {task: task for task in range(tasks)}
        stretch = Stretch(name, 1, records, EPOCH, ids, values)
        journal.write(Batch([Header(name, "bench", created_at=EPOCH)], [stretch]), sync=False)
    journal.close()
    opened: list[SqliteJournal] = []
    opening = seconds(lambda: opened.append(SqliteJournal(folder / "large.db")))
    (journal,) = opened
    yield f"{executions:,} executions, {executions * (2 * tasks + 2):,} events"
    yield f"  opening                {opening * 1e3:8.1f} ms"
    yield f"  what was interrupted   {seconds(journal.unfinished) * 1e3:8.1f} ms"
    yield f"  listing all            {seconds(journal.executions) * 1e3:8.1f} ms"
    yield f"  forgetting all but 10  {seconds(lambda: journal.forget(keep=10)) * 1e3:8.1f} ms"
    journal.close()


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        folder, tasks = Path(name), int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
        for lines in (
            strict(folder, max(tasks // 50, 1)),
            group(folder, max(tasks // 1000, 1) * 1000),
            large(folder, max(tasks // 100, 2), 499),
        ):
            for line in lines:
                print(line, flush=True)


if __name__ == "__main__":
    main()
