"""Wait, Gate and Timer: tasks that wait without a worker."""

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from nerv import (
    Buffer,
    Gate,
    NervError,
    Output,
    TaskDef,
    TaskTimeoutError,
    Timer,
    Wait,
    Workflow,
    WorkflowDefinitionError,
    WorkflowManager,
)
from nerv.testing import WorkflowTester
from tests.handshake import PATIENCE
from tests.nodes.helpers import fail, go, inc, of, same, status, statuses

NAIVE = datetime(2030, 1, 1)  # noqa: DTZ001  that is what is refused


class Started:
    """A workflow that is running on one worker. `until` looks at each event as it comes."""

    def __init__(self, *tasks, **settings):
        self.manager = WorkflowManager(workers=1, **settings)
        self.execution = self.manager.start(of(*tasks))

    def __enter__(self):
        return self.execution

    def __exit__(self, *_):
        self.manager.close()


def until_waiting(execution, *task_ids):
    """Come back when these tasks have begun to wait."""
    missing = set(task_ids)
    for event in execution.events(follow=True):
        if event.type == "TASK_WAITING":
            missing.discard(event.task_id)
            if not missing:
                return
    raise AssertionError(f"it ended, and {missing} never waited")


def test_a_gate_waits_for_its_signal_and_passes_the_value_on():
    value = {"approved": True}
    with Started(Gate("g", "go on?"), TaskDef("after", same, args=(Output("g"),))) as execution:
        until_waiting(execution, "g")
        (waiting,) = execution.waiting()
        assert (waiting.task_id, waiting.prompt, waiting.deadline) == ("g", "go on?", None)
        assert waiting.reason == "signal 'g'"
        assert execution.signal("g", value) is True
        assert execution.wait(PATIENCE)
        assert execution["g"] is execution["after"] is value
        assert execution.waiting() == []


@pytest.mark.parametrize("value", [None, 0, "", False, ValueError("a value")])
def test_a_signal_that_comes_early_is_kept(value):
    gate = threading.Event()
    with Started(TaskDef("before", lambda: gate.wait(PATIENCE)), Gate("g", dependencies=["before"])) as execution:
        execution.signal("g", value)
        gate.set()
        assert execution.wait(PATIENCE)
        assert execution["g"] is value


def test_of_several_signals_of_one_name_the_first_counts():
    gate = threading.Event()
    with Started(TaskDef("before", lambda: gate.wait(PATIENCE)), Gate("g", dependencies=["before"])) as execution:
        assert execution.signal("g", 1) is True
        assert execution.signal("g", 2) is False
        gate.set()
        assert execution.wait(PATIENCE)
        assert execution["g"] == 1
        assert [e.data["value"] for e in execution.events() if e.type == "SIGNAL_RECEIVED"] == [1, 2]


def test_a_signal_opens_all_that_wait_for_it_and_nothing_else():
    names = TaskDef("a", lambda: Wait(signal="s")), TaskDef("b", lambda: Wait(signal="s")), Gate("g")
    with Started(*names) as execution:
        until_waiting(execution, "a", "b", "g")
        execution.signal("nobody", 1)
        execution.signal("s", 5)
        execution.signal("g", 6)
        assert execution.wait(PATIENCE)
        assert dict(execution.results) == {"a": 5, "b": 5, "g": 6}


def test_a_signal_to_an_execution_that_has_ended_is_an_error():
    execution = go(TaskDef("a", same, args=(1,)))
    with pytest.raises(NervError, match="nobody can be waiting for the signal 'g'"):
        execution.signal("g")


def test_a_signals_name_is_text():
    with Started(Gate("g")) as execution:
        with pytest.raises(TypeError, match="name"):
            execution.signal(3)
        execution.signal("g")
        assert execution.wait(PATIENCE)


def test_then_is_called_with_the_value():
    with Started(TaskDef("a", lambda: Wait(signal="s", then=inc)), TaskDef("b", inc, args=(Output("a"),))) as execution:
        execution.signal("s", 1)
        assert execution.wait(PATIENCE)
        assert (execution["a"], execution["b"]) == (2, 3)


def test_then_may_fail_and_may_wait_again():
    execution = go(TaskDef("a", lambda: Wait(seconds=0, then=fail)))
    assert isinstance(execution.failures["a"], ValueError)
    again = TaskDef("a", lambda: Wait(seconds=0, then=lambda _: Wait(seconds=0, then=lambda _: "end")))
    assert go(again)["a"] == "end"


def test_then_of_a_coroutine_runs_where_coroutines_run():
    async def then(value):
        return value

    async def wait():
        return Wait(seconds=0, then=same)

    async def wait_too():
        return Wait(seconds=0, then=then)

    execution = go(TaskDef("a", wait), TaskDef("b", wait_too))
    assert dict(execution.results) == {"a": None, "b": None}


def test_a_hundred_gates_wait_on_one_worker_and_siblings_go_on():
    gates = [Gate(f"g{index}") for index in range(100)]
    with Started(*gates, TaskDef("beside", same, args=(1,), priority=-1)) as execution:
        until_waiting(execution, *(gate.id for gate in gates))
        for index in reversed(range(100)):
            execution.signal(f"g{index}", index)
        assert execution.wait(PATIENCE)
        assert [execution[f"g{index}"] for index in range(100)] == list(range(100))
        assert execution["beside"] == 1


def test_the_gate_of_an_item_is_signalled_by_its_full_id():
    item = Workflow("item", [Gate("ok"), TaskDef("after", same, args=(Output("ok"),))])
    with Started(Buffer("b", [1, 2], item)) as execution:
        until_waiting(execution, "b[0]/ok", "b[1]/ok")
        execution.signal("b[1]/ok", "second")
        execution.signal("b[0]/ok", "first")
        assert execution.wait(PATIENCE)
        assert list(execution["b"]) == ["first", "second"]


def test_a_late_gate_fails():
    execution = go(Gate("g", timeout=0.02), TaskDef("after", same, dependencies=["g"]))
    error = execution.failures["g"]
    assert isinstance(error, TaskTimeoutError)
    assert "'g'" in str(error)
    assert status(execution, "after") == "SKIPPED"


def test_a_late_gate_may_be_skipped_like_a_route_that_isnt_taken():
    after = TaskDef("after", same, args=(1,), dependencies=["g"])
    join = TaskDef("join", same, args=(2,), dependencies=["g", "beside"])
    execution = go(Gate("g", timeout=0.02, on_timeout="skip"), after, TaskDef("beside", same, args=(1,)), join)
    assert statuses(execution) == {"g": "SKIPPED", "after": "SKIPPED", "beside": "COMPLETED", "join": "COMPLETED"}
    assert execution.status.name == "COMPLETED"
    assert execution.task("after").skipped_because == "g"


def test_a_default_answer_is_the_gates_fallback():
    execution = go(Gate("g", timeout=0.02, fallback="no answer"))
    assert execution["g"] == "no answer"
    assert isinstance(execution.task("g").error, TaskTimeoutError)


def test_a_gate_that_was_answered_in_time_isnt_late():
    with Started(Gate("g", timeout=60)) as execution:
        until_waiting(execution, "g")
        assert execution.waiting()[0].deadline > time.time()
        execution.signal("g", 1)
        assert execution.wait(PATIENCE)
        assert execution["g"] == 1


def test_cancelling_ends_whoever_waits():
    with Started(Gate("g"), Timer("t", 1000), TaskDef("w", lambda: Wait(signal="s", then=inc))) as execution:
        until_waiting(execution, "g", "t", "w")
        execution.cancel("changed my mind")
        assert execution.wait(PATIENCE)
        assert set(statuses(execution).values()) == {"CANCELLED"}


def test_a_failure_elsewhere_ends_whoever_waits():
    execution = go(Gate("g"), Timer("t", 1000), TaskDef("bad", fail))
    assert statuses(execution) == {"g": "CANCELLED", "t": "CANCELLED", "bad": "FAILED"}


def test_timers_go_by_the_engines_clock():
    at = datetime.now(UTC) + timedelta(days=365 * 20)
    tester = WorkflowTester()
    execution = tester.run(
        of(Timer("day", 86400), Timer("at", at=at), TaskDef("end", same, args=(1,), dependencies=["at"]))
    )
    begun = execution.task("day").started_at
    assert execution.task("day").completed_at - begun == pytest.approx(86400)
    assert execution.task("at").completed_at == pytest.approx(at.timestamp())
    assert execution["end"] == 1


def test_a_moment_that_has_gone_by_is_now():
    assert go(Timer("t", at=datetime(2001, 1, 1, tzinfo=UTC)), Timer("u", at=5.0)).status.name == "COMPLETED"


def test_timers_count_on_in_a_pause_and_nothing_starts():
    with Started(Timer("t", 0.01), TaskDef("after", same, args=(1,), dependencies=["t"])) as execution:
        execution.pause()
        for event in execution.events(follow=True):
            if event.type == "TASK_COMPLETED" and event.task_id == "t":
                break
            if event.type == "WORKFLOW_PAUSED" and status(execution, "t") == "PENDING":
                execution.resume()
        execution.resume()
        assert execution.wait(PATIENCE)
        assert execution["after"] == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: Timer("t"),
        lambda: Timer("t", 1, 2),
        lambda: Timer("t", -1),
        lambda: Timer("t", float("nan")),
        lambda: Timer("t", "1"),
        lambda: Timer("t", at=NAIVE),
        lambda: Timer("t", at="tomorrow"),
        lambda: Gate("g", on_timeout="explode"),
        lambda: Gate("g", prompt=3),
        lambda: Gate("g", timeout=0),
        lambda: Gate("g", timeout=-1),
        Gate,
    ],
)
def test_a_node_that_cant_be_right_says_so_where_it_is_written(make):
    with pytest.raises(WorkflowDefinitionError):
        make()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"seconds": -1},
        {"seconds": "1"},
        {"signal": 3},
        {"seconds": 1, "then": 3},
        {"at": "x"},
        {"at": NAIVE},
    ],
)
def test_a_wait_for_nothing_is_refused(options):
    with pytest.raises((TypeError, ValueError)):
        Wait(**options)


def test_a_timer_may_be_told_how_long():
    assert go(TaskDef("n", lambda: 0.001), Timer("t", Output("n"))).status.name == "COMPLETED"
    execution = go(TaskDef("n", lambda: "x"), Timer("t", Output("n")))
    assert status(execution, "t") == "FAILED"
