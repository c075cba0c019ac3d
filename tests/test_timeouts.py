"""Timeouts: of an attempt, in every kind of pool, and of a whole workflow."""

import asyncio
import gc
import math
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from nerv import (
    NervError,
    RetryPolicy,
    TaskDef,
    TaskStatus,
    TaskTimeoutError,
    Workflow,
    WorkflowDefinitionError,
    WorkflowFailedError,
    WorkflowManager,
    WorkflowStatus,
    run,
)
from tests.handshake import Hold, boom, ended, eventually, flow, give, nerv_threads
from tests.rig import Rig, starts

HANG = "import time; time.sleep(600)"


def hang_with_a_grandchild(path):
    child = subprocess.Popen([sys.executable, "-c", HANG])
    Path(path).write_text(str(child.pid))
    child.wait()


def pid():
    return os.getpid()


# ---- one attempt ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pool", ["thread", "process"])
def test_an_attempt_that_runs_too_long_fails_with_an_error_that_names_it_and_says_for_how_long(pool):
    with Rig(seconds={"slow": 100}) as rig:
        execution = rig.run(TaskDef("slow", give, args=(1,), timeout=2.5, pool=pool))
        assert rig.now == 2.5
    error = execution.failures["slow"]
    assert isinstance(error, TaskTimeoutError)
    assert isinstance(error, TimeoutError)
    assert "'slow'" in str(error)
    assert "2.5 s" in str(error)


@pytest.mark.parametrize("pool", ["thread", "process"])
def test_waiting_in_a_queue_is_not_running(pool):
    with Rig(workers=1, processes=1, seconds={"first": 50, "second": 4}) as rig:
        execution = rig.run(
            TaskDef("first", give, args=(1,), pool=pool), TaskDef("second", give, args=(2,), pool=pool, timeout=5)
        )
    assert execution["second"] == 2


def test_a_start_up_is_not_running():
    """Worker processes take longer to start than this task may run."""
    assert run(flow(TaskDef("a", pid, pool="process", timeout=0.2)), processes=1)["a"] != os.getpid()


def test_one_that_ends_in_time_is_left_alone():
    with Rig(seconds={"a": 4.9}) as rig:
        assert rig.run(TaskDef("a", give, args=(1,), timeout=5))["a"] == 1


def test_timeouts_are_retried_and_each_attempt_has_the_whole_of_it():
    with Rig(seconds={"a": 100}) as rig:
        policy = RetryPolicy(3, initial_interval=1, backoff_coefficient=1, jitter=0, retry_on=(KeyError,))
        execution = rig.run(TaskDef("a", give, args=(1,), timeout=10, retry_policy=policy))
    assert starts(execution) == [0, 11, 22]
    assert isinstance(execution.failures["a"], TaskTimeoutError)


def test_a_timeout_that_mustnt_be_retried_isnt():
    with Rig(seconds={"a": 100}) as rig:
        policy = RetryPolicy(3, do_not_retry=(TaskTimeoutError,))
        assert starts(rig.run(TaskDef("a", give, args=(1,), timeout=10, retry_policy=policy))) == [0]


def test_several_deadlines_each_fall_due_at_their_own_moment():
    with Rig(workers=9, seconds={f"t{i}": math.inf for i in range(5)}, failure_policy="continue") as rig:
        execution = rig.run(
            *[TaskDef(f"t{i}", give, args=(1,), timeout=seconds) for i, seconds in enumerate((5, 1, 4, 2, 3))]
        )
        assert rig.now == 5
    assert list(execution.failures) == ["t1", "t3", "t4", "t2", "t0"]


def test_the_context_knows_the_deadline():
    def job(ctx):
        return ctx.deadline

    with Rig() as rig:
        assert rig.run(TaskDef("a", job, timeout=7))["a"] == 7


def test_a_thread_is_abandoned_and_replaced_and_its_late_result_ignored():
    """Trap 75: what comes too late changes nothing."""
    hold = Hold("late")
    with WorkflowManager(workers=1, failure_policy="continue") as manager:
        execution = ended(manager.start(flow(TaskDef("a", hold, timeout=0.02), TaskDef("b", give, args=(1,)))))
        assert execution["b"] == 1, "the only worker was replaced"
        events = len(execution.log)
        hold.go()
        eventually(lambda: all(pool.left_behind == 0 for pool in manager.engine._turns))
        again = ended(manager.start(flow(TaskDef("c", give, args=(2,)))))
        assert again["c"] == 2
    assert len(execution.log) == events
    assert isinstance(execution.failures["a"], TaskTimeoutError)


def test_a_late_result_of_an_earlier_attempt_is_not_the_later_ones():
    holds = [Hold("first"), Hold("second")]

    def job(ctx):
        return holds[ctx.attempt - 1](ctx)

    with WorkflowManager(workers=1) as manager:
        policy = RetryPolicy(2, initial_interval=0.001, jitter=0)
        execution = manager.start(flow(TaskDef("a", job, timeout=0.5, retry_policy=policy)))
        holds[1].entered()
        holds[0].go()
        holds[1].go()
        assert ended(execution)["a"] == "second"
    assert execution.task("a").attempts == 2


def test_a_process_is_killed_and_what_it_started_too(tmp_path):
    path = tmp_path / "pid"
    with WorkflowManager(processes=1) as manager:
        execution = manager.start(
            flow(TaskDef("a", hang_with_a_grandchild, args=(str(path),), pool="process", timeout=1.0))
        )
        eventually(lambda: path.exists() and path.read_text())
        child = psutil.Process(int(path.read_text()))
        ended(execution)
        assert isinstance(execution.failures["a"], TaskTimeoutError)
        eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "the grandchild's end")
        assert ended(manager.start(flow(TaskDef("b", pid, pool="process"))))["b"] != os.getpid(), "it was replaced"


def test_a_coroutine_is_cancelled():
    seen = []

    async def job():
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    with pytest.raises(WorkflowFailedError) as caught:
        run(flow(TaskDef("a", job, timeout=0.02)))
    assert isinstance(caught.value.__cause__, TaskTimeoutError)
    assert seen == ["cancelled"]


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, "5", True])
def test_a_timeout_that_cannot_be_right_is_refused(value):
    with pytest.raises(WorkflowDefinitionError, match="timeout"):
        TaskDef("a", give, timeout=value)
    with pytest.raises(WorkflowDefinitionError, match="timeout"):
        Workflow("wf", [TaskDef("a", give, args=(1,))], timeout=value)


def test_too_many_abandoned_threads_fail_loudly(monkeypatch):
    monkeypatch.setattr("nerv.engine.ABANDONED_LIMIT", 3)
    holds = [Hold() for _ in range(12)]
    with WorkflowManager(workers=1, failure_policy="continue") as manager:
        execution = ended(manager.start(flow(*[TaskDef(f"t{i}", hold, timeout=0.01) for i, hold in enumerate(holds)])))
        assert execution.status is WorkflowStatus.FAILED
        assert isinstance(execution.error, NervError)
        assert "pool 'thread'" in str(execution.error)
        assert "pool='process'" in str(execution.error)
        assert sum(hold.began.is_set() for hold in holds) <= 5, "it doesn't go on hiring"
        for hold in holds:
            hold.go()


def test_threads_that_come_back_count_no_more(monkeypatch):
    monkeypatch.setattr("nerv.engine.ABANDONED_LIMIT", 2)
    with WorkflowManager(workers=1) as manager:
        for _ in range(6):
            hold = Hold()
            execution = ended(manager.start(flow(TaskDef("a", hold, timeout=0.01))))
            hold.go()
            assert execution.error is None
            eventually(lambda: all(pool.left_behind == 0 for pool in manager.engine._turns))


# ---- the whole -----------------------------------------------------------------------------------------------------


def test_a_workflow_that_runs_too_long_fails_with_an_error_of_its_own():
    cleaned = []
    with Rig(seconds={"slow": 100}) as rig:
        execution = rig.run(
            TaskDef("quick", give, args=(1,)),
            TaskDef("slow", give, args=(1,)),
            TaskDef("after", give, args=(1,), dependencies=["slow"]),
            TaskDef("clean", lambda: cleaned.append(1), run_when="all_finished", dependencies=["after"]),
            timeout=10,
            name="nightly",
        )
        assert rig.now == 15, "what runs is told, and given up after grace"
    assert execution.status is WorkflowStatus.FAILED
    assert isinstance(execution.error, TaskTimeoutError)
    assert "'nightly'" in str(execution.error)
    assert "10 s" in str(execution.error)
    assert dict(execution.failures) == {}
    assert cleaned == [1]
    assert execution.project("task_status")["after"] is TaskStatus.CANCELLED


def test_its_error_is_the_cause_of_what_run_raises():
    hold = Hold(deaf=False)
    with pytest.raises(WorkflowFailedError) as caught:
        run(Workflow("wf", [TaskDef("a", hold)], timeout=0.05))
    assert isinstance(caught.value.__cause__, TaskTimeoutError)
    assert caught.value.__cause__ is caught.value.execution.error


def test_a_workflow_that_was_too_late_has_failed_though_its_last_task_returned():
    with Rig(seconds={"slow": 12}) as rig:
        execution = rig.run(TaskDef("slow", give, args=(1,)), timeout=10)
    assert execution["slow"] == 1
    assert execution.status is WorkflowStatus.FAILED


def test_it_counts_on_in_a_pause_and_while_all_waits():
    with Rig() as rig:
        task = TaskDef("a", boom, retry_policy=RetryPolicy(2, initial_interval=1000, maximum_interval=1000))
        execution = rig.start(task, timeout=10)
        rig.go(until=5)
        execution.pause()
        rig.go()
        assert rig.now == 10
    assert execution.status is WorkflowStatus.FAILED
    assert isinstance(execution.error, TaskTimeoutError)


def test_one_that_is_quick_enough_is_left_alone():
    with Rig(seconds={"a": 9}) as rig:
        execution = rig.run(TaskDef("a", give, args=(1,)), timeout=10)
        assert rig.now == 9, "nothing is due any more"
    assert (execution.status, execution.error) == (WorkflowStatus.COMPLETED, None)


# ---- nothing is left -----------------------------------------------------------------------------------------------


def test_ten_thousand_timeouts_leave_nothing_behind():
    """Coroutines, since so many threads can't be left behind."""

    async def job():
        await asyncio.Event().wait()

    with WorkflowManager(workers=2, max_coroutines=500, keep=1, history_limit=1, failure_policy="continue") as manager:

        def flock(count):
            execution = ended(manager.start(flow(*[TaskDef(f"t{i}", job, timeout=0.001) for i in range(count)])))
            assert len(execution.failures) == count

        flock(100)
        gc.collect()
        threads, objects = len(nerv_threads()), len(gc.get_objects())
        for _ in range(10):
            flock(1000)
        flock(100)
        gc.collect()
        eventually(lambda: gc.collect() >= 0 and len(gc.get_objects()) - objects < 5_000, "all to be forgotten")
        tasks = [pool._tasks for pool in manager.engine._turns if pool.kind == "async"]
        eventually(lambda: not any(tasks), "the event loop to end the last of them")
        assert len(nerv_threads()) <= threads + 1
        assert all(entry.act is None for entry in manager.engine.timer._due)
