"""What a journal costs those who run workflows: sides of the rows `durable` and `recovery`, and of nothing else.

A raw commit is one row inserted by sqlite3 alone, WAL and synchronous=FULL, into a file in the same folder: what a
commit costs is the disk's affair, and the folder for temporary files (TMPDIR) decides which disk that is.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nerv
from nerv.eventlog import TASK_COMPLETED, TASK_STARTED, WORKFLOW_COMPLETED, WORKFLOW_STARTED
from nerv.journal.base import Batch, Header, Stretch
from nerv.journal.codec import encode

Figures = dict[str, float]

EPOCH = 1_700_000_000.0


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="nerv-bench-") as name:
        yield Path(name)


def first(n: int) -> int:
    return n


def following(n: int) -> int:
    return n + 1


def chain(steps: int) -> nerv.Workflow:
    """Each step needs the one before it."""
    tasks = [nerv.TaskDef("t0", first, args=(0,))]
    tasks += [nerv.TaskDef(f"t{n}", following, args=(nerv.Output(f"t{n - 1}"),)) for n in range(1, steps)]
    return nerv.Workflow("chain", tasks)


def wide(steps: int) -> nerv.Workflow:
    """No step needs any other."""
    return nerv.Workflow("wide", [nerv.TaskDef(f"t{n}", first, args=(n,)) for n in range(steps)])


SHAPES = {"chain": chain, "wide": wide}


def took(workflow: nerv.Workflow, **settings: object) -> float:
    """Seconds from the call to the end, the engine and the journal made before; every result is checked."""
    with nerv.WorkflowManager(workers=4, **settings) as manager:
        manager.start(wide(20)).wait()
        began = time.perf_counter()
        execution = manager.start(workflow)
        execution.wait()
        seconds = time.perf_counter() - began
        assert execution.results == {f"t{n}": n for n in range(len(workflow.tasks))}, "wrong results"
    return seconds


def commits(here: Path, count: int) -> float:
    """Seconds that one raw commit takes."""
    raw = sqlite3.connect(here / "raw.db", isolation_level=None)
    raw.execute("PRAGMA journal_mode = WAL")
    raw.execute("PRAGMA synchronous = FULL")
    raw.execute("CREATE TABLE IF NOT EXISTS steps (number INTEGER PRIMARY KEY, body BLOB)")
    began = time.perf_counter()
    for _ in range(count):
        raw.execute("INSERT INTO steps (body) VALUES (?)", (b"x" * 20,))
    seconds = time.perf_counter() - began
    raw.close()
    return seconds / count


def nerv_commits(shape: str, steps: int, durability: str) -> Figures:
    """Steps with a journal, between raw commits: what the disk does changes from second to second."""
    with folder() as here:
        before = commits(here, steps // 2)
        kept = took(SHAPES[shape](steps), journal=str(here / "runs.db"), durability=durability) / steps
        after = commits(here, steps // 2)
    raw = (before + after) / 2
    return {"us": kept * 1e6, "raw_us": raw * 1e6, "ratio": kept / raw}


def nerv_kept(shape: str, steps: int, durability: str) -> Figures:
    """Steps with a journal."""
    with folder() as here:
        return {"us": took(SHAPES[shape](steps), journal=str(here / "runs.db"), durability=durability) / steps * 1e6}


def nerv_unkept(shape: str, steps: int) -> Figures:
    """Without one."""
    return {"us": took(SHAPES[shape](steps)) / steps * 1e6}


def nerv_bytes(steps: int) -> Figures:
    """Bytes a task of small values in the file, after compaction."""
    with folder() as here:
        took(wide(steps), journal=str(here / "runs.db"))
        with nerv.SqliteJournal(here / "runs.db") as journal:
            while journal.tidy():
                pass
        return {"bytes": (here / "runs.db").stat().st_size / steps}


def nerv_opening(executions: int, tasks: int) -> Figures:
    """Seconds to open a journal of many executions, of which one hasn't ended, and to say which."""
    with folder() as here:
        journal = nerv.SqliteJournal(here / "runs.db")
        ids = [f"t{task}" for task in range(tasks)]
        for number in range(executions):
            records = [(WORKFLOW_STARTED, -1, 0.0, 0, {"task_count": tasks}), *steps_of(tasks)]
            if number < executions - 1:
                records.append((WORKFLOW_COMPLETED, -1, 9.0, 0, {}))
            values = {task: encode(task) for task in range(tasks)}
            header = Header(f"e{number}", "bench", created_at=EPOCH)
            journal.write(Batch([header], [Stretch(header.id, 1, records, EPOCH, ids, values)]), sync=False)
        journal.close()
        began = time.perf_counter()
        with nerv.SqliteJournal(here / "runs.db") as opened:
            left = opened.unfinished()
            seconds = time.perf_counter() - began
        assert len(left) == 1, "one hasn't ended"
    return {"s": seconds, "events": float(executions * (2 * tasks + 2) - 1)}


def steps_of(tasks: int) -> Iterator[tuple[int, int, float, int, None]]:
    """The records of tasks that start and complete."""
    for number in range(tasks):
        yield TASK_STARTED, number, number * 1e-4, 1, None
        yield TASK_COMPLETED, number, number * 1e-4 + 5e-5, 1, None


def nerv_recovering(tasks: int) -> Figures:
    """Seconds from `recover` to the end of an execution of which the last task alone was left."""
    workflow = wide(tasks)
    with folder() as here:
        with nerv.SqliteJournal(here / "runs.db") as journal:
            numbers = range(tasks)
            records = [(WORKFLOW_STARTED, -1, 0.0, 0, {"task_count": tasks}), *steps_of(tasks - 1)]
            header = Header("e", workflow.name, fingerprint=workflow.fingerprint, created_at=EPOCH)
            values = {number: encode(number) for number in numbers[:-1]}
            journal.write(Batch([header], [Stretch("e", 1, records, EPOCH, list(workflow.tasks), values)]))
        with nerv.WorkflowManager(workers=4, journal=str(here / "runs.db")) as manager:
            began = time.perf_counter()
            (execution,) = manager.recover([workflow])
            execution.wait()
            seconds = time.perf_counter() - began
            assert execution[f"t{tasks - 1}"] == tasks - 1, "the last one has run"
            assert execution.sequence.count("t0") == 1, "the others haven't again"
    return {"s": seconds}
