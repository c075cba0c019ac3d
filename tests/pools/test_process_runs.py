"""Processes under the real engine."""

import os
import threading

import pytest

import nerv
from nerv import Output, TaskDef, WorkerCrashedError
from tests.pools import procfns
from tests.pools.desk import PATIENCE, gone, read_when_there


def run_tasks(*tasks, **settings):
    return nerv.run(nerv.Workflow("w", list(tasks)), **{"processes": 2, **settings})


def test_a_run_uses_processes_and_threads_together():
    execution = run_tasks(
        TaskDef("one", lambda: 1),
        TaskDef("a", procfns.add, args=(Output("one"), 2), pool="process"),
        TaskDef("b", procfns.identity, args=([Output("a"), Output("one")],), pool="process"),
        TaskDef("pid", procfns.pid, pool="process"),
    )
    assert execution["b"] == [3, 1]
    assert execution["pid"] != os.getpid()


def test_many_tiny_tasks_keep_their_order_of_events():
    arguments = [Output(f"t{i - 40}") if i >= 40 else i for i in range(2000)]
    tasks = [TaskDef(f"t{i}", procfns.inc, args=(argument,), pool="process") for i, argument in enumerate(arguments)]
    execution = run_tasks(*tasks)
    assert execution["t1999"] == 1999 % 40 + 50
    events = list(execution.events())
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    seen = {}
    for event in events:
        seen.setdefault(event.task_id, []).append(str(event.type))
    assert all(kinds == ["TASK_STARTED", "TASK_COMPLETED"] for task_id, kinds in seen.items() if task_id is not None)


def test_a_run_names_what_cant_run_in_processes_before_it_starts():
    lock = threading.Lock()
    bad = [TaskDef("f", lambda: 1, pool="process"), TaskDef("x", procfns.identity, args=(lock,), pool="process")]
    with pytest.raises(nerv.WorkflowDefinitionError) as caught:
        run_tasks(TaskDef("ok", procfns.pid, pool="process"), *bad)
    assert [problem.task_id for problem in caught.value.problems] == ["f", "x"]
    assert "task 'f' can't run in a worker process: its function" in str(caught.value)


def test_a_crash_under_continue_fails_one_task(tmp_path):
    path = str(tmp_path / "trace")
    tasks = [TaskDef(f"t{i}", procfns.mark_or_die, args=(path, i, 150), pool="process") for i in range(300)]
    execution = run_tasks(*tasks, failure_policy="continue", raise_on_failure=False)
    assert list(execution.failures) == ["t150"]
    assert isinstance(execution.failures["t150"], WorkerCrashedError)
    assert len(execution.results) == 299
    assert sorted(map(int, (tmp_path / "trace").read_text().split())) == list(range(300))


def test_a_cancelled_run_tells_its_processes(fifo):
    announce = fifo("announce")
    task = TaskDef("t", procfns.announce_until_cancelled, args=(str(announce),), pool="process")
    execution = nerv.start(nerv.Workflow("w", [task]))
    read_when_there(announce)
    execution.cancel()
    assert execution.wait(PATIENCE)
    assert execution.task("t").status is nerv.TaskStatus.CANCELLED


def test_what_doesnt_stop_in_time_is_killed(fifo):
    announce, gate = fifo("announce"), fifo("gate")
    task = TaskDef("t", procfns.ignore_sigterm_and_wait, args=(str(announce), str(gate)), pool="process")
    execution = nerv.start(nerv.Workflow("w", [task]), grace=0.1)
    worker = read_when_there(announce)
    execution.cancel()
    assert execution.wait(PATIENCE)
    assert gone(worker)
