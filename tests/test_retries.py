"""Retries and fallbacks: attempts counted exactly, waits that hold no worker, and what stands in for a result."""

import gc
import json
import threading
from itertools import pairwise

import pytest

from nerv import (
    FatalError,
    Output,
    RateLimit,
    RetryPolicy,
    TaskDef,
    TaskStatus,
    TerminalError,
    WorkflowManager,
    WorkflowStatus,
    run,
)
from nerv.errors import TaskTimeoutError, WorkerCrashedError
from tests.handshake import Hold, boom, ended, eventually, flow, give, kinds, nerv_threads, reached
from tests.rig import Failing, Rig, data_of, starts, told


def tried(attempts, **settings):
    """A policy without jitter."""
    return RetryPolicy(attempts, jitter=0, **settings)


# ---- attempts and delays -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_a_task_that_always_fails_is_attempted_exactly_so_often_and_not_waited_for_afterwards(attempts):
    job = Failing()
    with Rig() as rig:
        execution = rig.run(TaskDef("a", job, retry_policy=tried(attempts, initial_interval=10)))
        ends = told(execution)[-2:]
    assert job.calls == attempts
    assert execution.task("a").attempts == attempts
    assert len(data_of(execution, "TASK_RETRYING")) == attempts - 1
    last = starts(execution)[-1]
    assert ends == [(last, "a", "TASK_FAILED"), (last, None, "WORKFLOW_FAILED")], "no delay after the last attempt"


def test_delays_are_those_of_the_policy():
    with Rig() as rig:
        execution = rig.run(TaskDef("a", Failing(), retry_policy=tried(6, initial_interval=1, maximum_interval=5)))
    assert starts(execution) == [0, 1, 3, 7, 12, 17]


def test_an_interval_of_nothing_tries_again_at_once():
    job = Failing(3)
    with Rig() as rig:
        execution = rig.run(TaskDef("a", job, retry_policy=RetryPolicy(4, initial_interval=0)))
    assert starts(execution) == [0, 0, 0, 0]
    assert execution["a"] == "done"
    assert run(flow(TaskDef("a", Failing(3), retry_policy=RetryPolicy(4, initial_interval=0))))["a"] == "done"


def test_thirty_days_of_retries_pass_at_once():
    day = 86_400.0
    with Rig() as rig:
        execution = rig.run(
            TaskDef(
                "a",
                Failing(30),
                retry_policy=tried(31, initial_interval=day, backoff_coefficient=1, maximum_interval=day),
            )
        )
        assert rig.now == 30 * day
    assert execution["a"] == "done"


def test_jitter_moves_a_delay_to_both_sides_of_its_interval():
    policy = RetryPolicy(50, initial_interval=100, backoff_coefficient=1, maximum_interval=1000, jitter=0.1)
    with Rig() as rig:
        moments = starts(rig.run(TaskDef("a", Failing(), retry_policy=policy)))
    waits = [after - before for before, after in pairwise(moments)]
    assert all(89.9 < wait < 110.1 for wait in waits)
    assert min(waits) < 100 < max(waits)


def test_a_number_stands_for_maximum_attempts():
    job = Failing(2)
    with Rig() as rig:
        assert rig.run(TaskDef("a", job, retry_policy=3))["a"] == "done"
    assert job.calls == 3


def test_a_retry_is_an_event_that_says_why_and_when_and_the_task_waits_meanwhile():
    error = OSError("gone")
    with Rig() as rig:
        execution = rig.start(TaskDef("a", Failing(1, error=error), retry_policy=tried(2, initial_interval=60)))
        rig.go(until=30)
        (data,) = data_of(execution, "TASK_RETRYING")
        assert data["error"] is error
        assert data["due"] == rig.clock.epoch + 60
        assert execution.task("a").status is TaskStatus.WAITING
        (waits,) = execution.waiting()
        assert (waits.task_id, waits.reason) == ("a", "retry")
        assert (waits.since, waits.deadline) == (rig.clock.epoch, rig.clock.epoch + 60)
        rig.go()
        assert execution.waiting() == []
    assert kinds(execution, "a") == ["TASK_STARTED", "TASK_RETRYING", "TASK_STARTED", "TASK_COMPLETED"]


def test_each_attempt_knows_its_number_and_keeps_its_idempotency_key():
    seen, keys = [], set()

    def job(ctx):
        seen.append(ctx.attempt)
        keys.add(ctx.idempotency_key)
        if ctx.attempt < 3:
            raise RuntimeError

    with Rig() as rig:
        rig.run(TaskDef("a", job, retry_policy=3))
    assert seen == [1, 2, 3]
    assert len(keys) == 1


def test_times_are_those_of_the_last_attempt_and_every_attempt_has_its_bar(tmp_path):
    policy = tried(3, initial_interval=100, backoff_coefficient=1, maximum_interval=100)
    with Rig(workers=1, seconds={"a": 2}) as rig:
        execution = rig.run(TaskDef("a", Failing(2), retry_policy=policy), TaskDef("b", give, args=(1,)))
    result = execution.task("a")
    assert result.execution_time == pytest.approx(2)
    assert result.completed_at - result.started_at == pytest.approx(206), "the first attempt's start"
    assert "2.000 s  a" in execution.summary()
    execution.to_trace(str(tmp_path / "trace.json"))
    bars = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert [(bar["ts"] / 1e6, bar["dur"] / 1e6, bar["args"]) for bar in bars if bar["name"] == "a"] == [
        (0, 2, {"attempt": 1, "outcome": "TASK_RETRYING"}),
        (102, 2, {"attempt": 2, "outcome": "TASK_RETRYING"}),
        (204, 2, {"attempt": 3, "outcome": "TASK_COMPLETED"}),
    ]
    assert {bar["tid"] for bar in bars} == {1}, "one at a time, on one track"


def test_waiting_for_a_retry_holds_no_worker():
    with Rig(workers=1, seconds={"b": 5}) as rig:
        execution = rig.run(
            TaskDef("a", Failing(1), retry_policy=tried(2, initial_interval=3), priority=9),
            TaskDef("b", give, args=(1,)),
        )
    assert starts(execution, "b") == [0]
    assert starts(execution, "a") == [0, 5], "it is due at 3, and the worker is free at 5"


@pytest.mark.parametrize(
    ("error", "calls"),
    [
        (OSError(), 3),
        (FileNotFoundError(), 3),
        (ValueError(), 1),
        (ConnectionError(), 1),
        (TerminalError("enough"), 1),
        (FatalError("all of it"), 1),
        (TaskTimeoutError(), 3),
        (WorkerCrashedError(), 3),
        (KeyboardInterrupt(), 1),
        (SystemExit(1), 1),
    ],
    ids=repr,
)
def test_only_what_the_policy_lists_is_retried(error, calls):
    job = Failing(error=error)
    policy = tried(3, retry_on=(OSError,), do_not_retry=(ConnectionError,))
    with Rig() as rig:
        execution = rig.run(TaskDef("a", job, retry_policy=policy))
    assert job.calls == calls
    assert execution.failures["a"] is error


def test_an_interrupt_in_a_task_is_not_retried_and_the_worker_lives_on():
    job = Failing(error=KeyboardInterrupt())
    with WorkflowManager(workers=1) as manager:
        first = ended(manager.start(flow(TaskDef("a", job, retry_policy=5))))
        second = ended(manager.start(flow(TaskDef("b", give, args=(1,)))))
    assert job.calls == 1
    assert isinstance(first.failures["a"], KeyboardInterrupt)
    assert second["b"] == 1


def test_a_predicate_decides():
    asked = []

    def worth_it(error):
        asked.append(error)
        return len(asked) < 3

    job = Failing()
    with Rig() as rig:
        rig.run(TaskDef("a", job, retry_policy=tried(10, retry_on=worth_it)))
    assert job.calls == 3


@pytest.mark.parametrize("trouble", [ZeroDivisionError("oops"), SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_a_predicate_that_raises_ends_the_retries_with_the_tasks_own_error_and_a_note(trouble):
    def predicate(_):
        raise trouble

    error = RuntimeError("its own")
    with WorkflowManager(workers=1) as manager:
        execution = ended(
            manager.start(flow(TaskDef("a", Failing(error=error), retry_policy=tried(5, retry_on=predicate))))
        )
        assert ended(manager.start(flow(TaskDef("b", give, args=(1,)))))["b"] == 1, "its worker lives on"
    assert execution.failures["a"] is error
    assert type(trouble).__name__ in error.__notes__[0]
    assert "'a'" in error.__notes__[0]


def test_a_fatal_error_ends_the_workflow_under_continue_too():
    tasks = [
        TaskDef("fatal", Failing(error=FatalError("all of it")), priority=9, retry_policy=3, fallback=1),
        TaskDef("other", give, args=(1,)),
        TaskDef("behind", give, args=(1,), dependencies=["fatal"]),
        TaskDef("cleanup", give, args=(1,), run_when="all_finished", dependencies=["other"]),
    ]
    with Rig(workers=1, failure_policy="continue") as rig:
        execution = rig.run(*tasks)
    assert execution.status is WorkflowStatus.FAILED
    assert execution.project("task_status") == {
        "fatal": TaskStatus.FAILED,
        "other": TaskStatus.CANCELLED,
        "behind": TaskStatus.SKIPPED,
        "cleanup": TaskStatus.COMPLETED,
    }


def test_levels_wait_for_the_retries_of_the_level_before():
    with Rig(scheduling="levels") as rig:
        execution = rig.run(
            TaskDef("a", Failing(2), retry_policy=tried(3, initial_interval=10)),
            TaskDef("quick", give, args=(1,)),
            TaskDef("b", give, args=(1,), dependencies=["quick"]),
        )
    assert starts(execution, "b") == starts(execution, "a")[-1:] == [30]


# ---- pauses and cancels ---------------------------------------------------------------------------------------------


def test_a_retry_that_falls_due_in_a_pause_starts_when_it_is_over():
    with Rig() as rig:
        execution = rig.start(TaskDef("a", Failing(1), retry_policy=tried(2, initial_interval=10)))
        rig.go(until=5)
        execution.pause()
        rig.go(until=50)
        assert starts(execution) == [0]
        assert execution.task("a").status is TaskStatus.WAITING
        execution.resume()
        rig.go()
    assert starts(execution) == [0, 50]


def test_timers_count_on_in_a_pause():
    with Rig() as rig:
        execution = rig.start(TaskDef("a", Failing(1), retry_policy=tried(2, initial_interval=10)))
        rig.go(until=2)
        execution.pause()
        rig.go(until=6)
        execution.resume()
        rig.go()
    assert starts(execution) == [0, 10]


@pytest.mark.parametrize("paused", [False, True])
def test_a_cancel_ends_a_task_that_waits_for_its_retry_at_once(paused):
    job = Failing()
    with Rig() as rig:
        execution = rig.start(TaskDef("a", job, retry_policy=tried(9, initial_interval=1000), fallback="no"))
        rig.go(until=1)
        if paused:
            execution.pause()
        execution.cancel("enough")
        assert execution.status is WorkflowStatus.CANCELLED
        rig.go()
        assert rig.now == 1, "nothing is due any more"
    assert job.calls == 1
    assert execution.task("a").status is TaskStatus.CANCELLED


def test_a_failure_elsewhere_ends_the_retries_under_fail_fast_but_not_those_of_cleanup():
    cleanup, job = Failing(2), Failing()
    with Rig(seconds={"late": 5}) as rig:
        execution = rig.run(
            TaskDef("a", job, retry_policy=tried(9, initial_interval=100)),
            TaskDef("late", boom),
            TaskDef(
                "cleanup",
                cleanup,
                run_when="all_finished",
                dependencies=["a"],
                retry_policy=tried(3, initial_interval=7),
            ),
        )
    assert job.calls == 1
    assert execution.task("a").status is TaskStatus.CANCELLED
    assert starts(execution, "cleanup") == [5, 12, 26]
    assert execution["cleanup"] == "done"


def test_what_fails_after_the_stop_is_not_retried():
    job = Failing()
    with Rig(seconds={"slow": 10}) as rig:
        execution = rig.run(TaskDef("a", boom), TaskDef("slow", job, retry_policy=9, fallback=1))
    assert job.calls == 1
    assert execution.task("slow").status is TaskStatus.FAILED


# ---- fallbacks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, 0, "instead", [1, 2]])
def test_a_fallback_value_completes_the_task_when_its_attempts_are_used_up(value):
    error = RuntimeError("no")
    job = Failing(error=error)
    with Rig() as rig:
        execution = rig.run(TaskDef("a", job, retry_policy=2, fallback=value), TaskDef("b", give, args=(Output("a"),)))
    result = execution.task("a")
    assert (result.status, result.error, result.attempts) == (TaskStatus.COMPLETED, error, 2)
    assert result.metadata == {"fallback": True}
    assert execution["b"] is value
    assert (execution.status, dict(execution.failures)) == (WorkflowStatus.COMPLETED, {})
    (data,) = data_of(execution, "TASK_COMPLETED", "a")
    assert (data["fallback"], data["error"], data["result"]) == (True, error, value)


def test_a_callable_fallback_is_given_the_last_error():
    errors = [OSError(1), OSError(2), OSError(3)]
    left = list(errors)

    def job():
        raise left.pop(0)

    given = []
    with Rig() as rig:
        execution = rig.run(TaskDef("a", job, retry_policy=3, fallback=lambda error: given.append(error) or "instead"))
    assert given == [errors[-1]]
    assert execution["a"] == "instead"


def test_a_fallback_that_raises_fails_the_task_with_its_error_and_the_tasks_as_its_cause():
    error = RuntimeError("the task's")
    with Rig() as rig:
        execution = rig.run(TaskDef("a", Failing(error=error), fallback=boom))
    failure = execution.failures["a"]
    assert isinstance(failure, ValueError)
    assert failure.__cause__ is error


def test_there_is_no_fallback_after_a_cancel():
    called = []
    with Rig(seconds={"a": 10}, grace=100) as rig:
        execution = rig.start(TaskDef("a", boom, fallback=called.append))
        rig.go(until=5)
        execution.cancel()
        rig.go()
    assert not called
    assert execution.task("a").status is TaskStatus.FAILED


def test_a_fallback_that_runs_when_the_execution_is_cancelled_counts_no_more():
    hold, error = Hold("instead"), OSError("gone")
    with WorkflowManager(workers=1, grace=60) as manager:
        execution = manager.start(flow(TaskDef("a", Failing(error=error), fallback=lambda _: hold(None))))
        hold.entered()
        execution.cancel()
        hold.go()
        ended(execution)
    assert execution.failures["a"] is error
    assert "a" not in execution.results


@pytest.mark.parametrize("error", [FatalError("all"), KeyboardInterrupt()], ids=repr)
def test_there_is_no_fallback_for_what_ends_more_than_a_task(error):
    with Rig() as rig:
        execution = rig.run(TaskDef("a", Failing(error=error), fallback=1))
    assert execution.failures["a"] is error


def test_terminal_errors_have_their_fallback():
    with Rig() as rig:
        assert rig.run(TaskDef("a", Failing(error=TerminalError("no use")), retry_policy=5, fallback=1))["a"] == 1


def test_a_fallback_stands_in_after_a_timeout_too():
    with Rig(seconds={"a": 100}) as rig:
        execution = rig.run(TaskDef("a", give, args=(1,), timeout=10, fallback=lambda error: type(error).__name__))
    assert execution["a"] == "TaskTimeoutError"


def test_a_coroutine_may_be_the_fallback_of_a_thread_task_and_a_function_that_of_a_coroutine():
    async def later(error):
        return f"later: {error}"

    async def job():
        raise ValueError("boom")

    execution = run(flow(TaskDef("a", boom, fallback=later), TaskDef("b", job, fallback=str)))
    assert dict(execution.results) == {"a": "later: boom", "b": "boom"}


def test_the_fallback_of_a_process_task_needs_no_importable_function():
    execution = run(
        flow(TaskDef("a", boom, pool="process", fallback=lambda error: (str(error), threading.get_ident()))),
        processes=1,
    )
    text, _thread = execution["a"]
    assert text == "boom"


def test_a_paused_execution_calls_no_fallback_until_it_goes_on():
    called = []
    with Rig(seconds={"a": 10}) as rig:
        execution = rig.start(TaskDef("a", boom, fallback=called.append))
        rig.go(until=5)
        execution.pause()
        rig.go()
        assert not called
        execution.resume()
        rig.go()
    assert len(called) == 1
    assert execution.status is WorkflowStatus.COMPLETED


@pytest.mark.parametrize("how", ["cancel", "failure"])
def test_a_fallback_that_is_due_when_the_execution_stops_is_not_called(how):
    called = []
    with Rig(workers=3, seconds={"a": 10, "late": 15, "busy": 20}, grace=100) as rig:
        tasks = [TaskDef("a", boom, fallback=called.append), TaskDef("busy", give, args=(1,))]
        execution = rig.start(*tasks, TaskDef("late", boom if how == "failure" else give, args=(1,)))
        rig.go(until=5)
        rig.manager.resize("thread", 1)  # so nobody is free for the fallback at 10
        rig.go(until=12)
        assert execution.task("a").status is TaskStatus.RUNNING
        if how == "cancel":
            execution.cancel()
        rig.go()
    assert not called
    assert execution.task("a").status is TaskStatus.FAILED
    assert str(execution.failures["a"]) == "boom"


# ---- nothing is left -------------------------------------------------------------------------------------------------


def test_nothing_wakes_while_nothing_is_due():
    with WorkflowManager(workers=2) as manager:
        execution = manager.start(
            flow(TaskDef("a", Failing(1), retry_policy=tried(2, initial_interval=3600, maximum_interval=3600)))
        )
        eventually(execution.waiting)
        before = manager.engine.timer.wake_ups
        busy = manager.start(flow(*[TaskDef(f"t{i}", give, args=(i,)) for i in range(100)]))
        ended(busy)
        assert manager.engine.timer.wake_ups - before <= 1, "only the first sleep, if it hadn't begun"
        execution.cancel()
        ended(execution)


def test_an_execution_that_has_ended_leaves_no_alarm_behind():
    with WorkflowManager(workers=2) as manager:
        for _ in range(20):
            ended(manager.start(flow(TaskDef("a", give, args=(1,), timeout=3600), timeout=7200)))
        assert [entry for entry in manager.engine.timer._due if entry.act is not None] == []


def test_ten_thousand_retries_leave_nothing_behind():
    with WorkflowManager(workers=4, keep=1) as manager:
        quick = RetryPolicy(2, initial_interval=1e-6, jitter=0)

        def flock(count):
            tasks = [TaskDef(f"t{i}", Failing(1), retry_policy=quick) for i in range(count)]
            assert ended(manager.start(flow(*tasks))).status is WorkflowStatus.COMPLETED

        flock(100)
        gc.collect()
        threads, objects = nerv_threads(), len(gc.get_objects())
        flock(10_000)
        flock(100)
        gc.collect()
        assert len(gc.get_objects()) - objects < 10_000
        assert len(nerv_threads()) <= len(threads) + 4
        assert manager.engine.timer._due == [] or all(e.act is None for e in manager.engine.timer._due)


def test_a_retried_task_counts_as_running_again_in_the_projections():
    hold = Hold(1)
    failed = threading.Event()

    def job(ctx):
        if ctx.attempt == 1:
            failed.set()
            raise OSError
        return hold(ctx)

    with WorkflowManager(workers=1) as manager:
        execution = manager.start(flow(TaskDef("a", job, retry_policy=tried(2, initial_interval=0.001))))
        reached(failed)
        hold.entered()
        assert execution.project("running_tasks") == {"a"}
        hold.go()
        ended(execution)
    assert execution.task("a").attempts == 2


def test_each_attempt_of_a_limited_task_takes_its_turn_again():
    """Trap 62: one wait before all attempts would let retries through unlimited."""
    with Rig() as rig:
        task = TaskDef(
            "a",
            Failing(3),
            retry_policy=tried(4, initial_interval=1, backoff_coefficient=1),
            rate_limit=RateLimit(1, 10),
        )
        assert starts(rig.run(task)) == [0, 10, 20, 30]
