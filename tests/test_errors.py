"""Errors are few, named by whose fault they are, survive pickling, and say what to do."""

import pickle
import threading
import traceback

import pytest

import nerv
from nerv import (
    CacheKeyError,
    CircuitOpenError,
    ConfigError,
    CycleError,
    FatalError,
    LoopLimitError,
    NervError,
    Output,
    Problem,
    ResultUnavailableError,
    TaskCancelledError,
    TaskDef,
    TaskTimeoutError,
    TerminalError,
    UnknownIdError,
    WorkerCrashedError,
    WorkflowCancelledError,
    WorkflowChangedError,
    WorkflowDefinitionError,
    WorkflowFailedError,
    run,
)
from nerv.errors import described, near, portable
from nerv.running import checked
from tests.handshake import Hold, boom, ended, flow, give


class NoTextError(Exception):
    """Can't be shown."""

    def __str__(self):
        raise RuntimeError("no")

    __repr__ = __str__


class TwoArgumentsError(Exception):
    """Can't be rebuilt by pickle."""

    def __init__(self, code, reason):
        super().__init__(f"{code}: {reason}")


# ---- the family ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "also"),
    [
        (WorkflowDefinitionError, NervError),
        (CycleError, WorkflowDefinitionError),
        (WorkflowFailedError, NervError),
        (WorkflowCancelledError, WorkflowFailedError),
        (TaskCancelledError, NervError),
        (TaskTimeoutError, NervError),
        (TaskTimeoutError, TimeoutError),
        (WorkerCrashedError, NervError),
        (CircuitOpenError, NervError),
        (LoopLimitError, NervError),
        (CacheKeyError, NervError),
        (CacheKeyError, TypeError),
        (TerminalError, NervError),
        (FatalError, NervError),
        (ResultUnavailableError, NervError),
        (ConfigError, NervError),
        (ConfigError, ValueError),
        (UnknownIdError, NervError),
        (UnknownIdError, KeyError),
        (NervError, Exception),
    ],
)
def test_errors_can_be_caught_by_what_they_are(error, also):
    """One root, and the language's own classes where they mean the same."""
    assert issubclass(error, also)
    assert getattr(nerv, error.__name__) is error


@pytest.mark.parametrize(
    "error",
    [
        NervError("text"),
        WorkflowDefinitionError([Problem("a", "kind", "one"), Problem(None, "kind", "two")], "heading"),
        CycleError([Problem("a", "cycle", "one")], "heading", ["a", "b"]),
        WorkflowFailedError("text", None, {"a": ValueError("x")}),
        WorkflowCancelledError("text", None, {}),
        TaskCancelledError("text"),
        TaskTimeoutError("text"),
        WorkerCrashedError("text"),
        CircuitOpenError("text"),
        LoopLimitError("text"),
        CacheKeyError("text"),
        TerminalError("text"),
        FatalError("text"),
        ResultUnavailableError("text"),
        UnknownIdError("text"),
        ConfigError("text"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_error_survives_pickling(error):
    """Type, text and what it carries come back."""
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert str(back) == str(error)
    for attribute in ("problems", "cycle", "heading"):
        assert getattr(back, attribute, None) == getattr(error, attribute, None)
    assert [described(e) for e in getattr(back, "failures", {}).values()] == [
        described(e) for e in getattr(error, "failures", {}).values()
    ]


@pytest.mark.parametrize(
    "kind", [NervError, WorkflowDefinitionError, CycleError, WorkflowFailedError, WorkflowChangedError]
)
def test_notes_survive_pickling(kind):
    """The other failures of a run are such notes."""
    error = kind("text")
    error.add_note("and another")
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["and another"]


@pytest.mark.parametrize("kind", [WorkflowDefinitionError, CycleError])
def test_a_definition_error_of_ones_own_is_made_of_a_text(kind):
    """Then it is the one problem."""
    error = kind("no tasks today")
    assert str(error) == "no tasks today"
    assert error.problems == (Problem(None, "workflow", "no tasks today"),)


def test_a_failure_that_was_run_survives_pickling():
    """Without its execution, and with a substitute for task errors that can't travel."""

    def unsendable():
        error = ValueError("holds a lock")
        error.lock = threading.Lock()
        raise error

    def two():
        raise TwoArgumentsError(7, "seven")

    tasks = TaskDef("a", unsendable), TaskDef("b", two), TaskDef("c", boom)
    with pytest.raises(WorkflowFailedError) as caught:
        run(flow(*tasks), failure_policy="continue")
    back = pickle.loads(pickle.dumps(caught.value))
    assert str(back) == str(caught.value)
    assert back.execution is None
    assert {task: str(error) for task, error in back.failures.items()} == {
        "a": "ValueError: holds a lock",
        "b": "TwoArgumentsError: 7: seven",
        "c": "boom",
    }
    assert type(back.failures["c"]) is ValueError


def test_a_definition_error_reads_well():
    """One problem is its message; several are a list under a heading."""
    one, two = Problem("a", "k", "first"), Problem("b", "k", "second")
    assert str(WorkflowDefinitionError([one])) == "first"
    assert str(WorkflowDefinitionError([one, two], "can't run")) == "can't run, for 2 reasons:\n  - first\n  - second"


def test_an_unknown_id_reads_like_a_sentence():
    """Not in the quotes that KeyError puts round its text."""
    assert str(UnknownIdError("no task 'x'")) == "no task 'x'"


# ---- what run raises -------------------------------------------------------------------------------------------------


def test_a_failed_run_raises_with_the_first_failure_as_its_cause():
    """The execution, all failures in time order, the cause, and the others as notes."""
    later = Hold()

    def second(ctx):
        later(ctx)
        raise KeyError("second")

    def first():
        later.entered()
        raise ValueError("first")

    watch = TaskDef("watch", later.go, dependencies=["first"], run_when="all_finished")
    tasks = TaskDef("second", second), TaskDef("first", first), watch
    with pytest.raises(WorkflowFailedError) as caught:
        run(flow(*tasks, name="etl"), workers=2)
    error = caught.value
    assert list(error.failures) == ["first", "second"]
    assert error.__cause__ is error.failures["first"]
    assert error.__notes__ == ["task 'second' failed with KeyError: 'second'"]
    assert "'etl'" in str(error)
    assert "task 'first' failed with ValueError: first" in str(error)
    assert error.execution.status.name == "FAILED"
    assert dict(error.execution.failures) == error.failures


def test_a_cancelled_run_raises_its_own_error():
    """WorkflowCancelledError, which is a WorkflowFailedError too, without a cause when nothing failed."""
    slow = Hold(deaf=False)
    execution = nerv.start(flow(TaskDef("a", slow), name="etl"))
    slow.entered()
    execution.cancel("enough")
    with pytest.raises(WorkflowCancelledError, match="'etl' was cancelled: enough") as caught:
        checked(ended(execution))
    assert (caught.value.failures, caught.value.__cause__) == ({}, None)
    assert caught.value.execution is execution


def test_a_tasks_error_is_the_very_object_with_its_traceback():
    """What the task raised is what failures, [id], task() and the cause show, down to the line that raised."""
    mine = ValueError("mine")

    def work():
        raise mine

    execution = run(flow(TaskDef("a", work)), raise_on_failure=False)
    assert execution.failures["a"] is mine
    assert execution.task("a").error is mine
    with pytest.raises(ValueError, match="mine") as caught:
        execution["a"]
    assert caught.value is mine
    assert "raise mine" in "".join(traceback.format_exception(mine))


def test_asking_again_and_again_makes_no_longer_traceback():
    """It starts at the asking each time, and ends at the line that raised."""
    execution = run(flow(TaskDef("a", boom)), raise_on_failure=False)
    lengths = set()
    for _ in range(20):
        with pytest.raises(ValueError, match="boom") as caught:
            execution["a"]
        lengths.add(len(caught.traceback))
    assert len(lengths) == 1


def test_an_error_that_can_not_be_shown_is_a_failure_like_any_other():
    """Its text can't be made, so its type is named; raising, summing up, pickling and reporting go on."""

    def work():
        raise NoTextError

    with pytest.raises(WorkflowFailedError, match="NoTextError") as caught:
        run(flow(TaskDef("a", work), TaskDef("b", work)), failure_policy="continue")
    execution = caught.value.execution
    assert "NoTextError" in execution.summary()
    assert execution.task("a").status.name == "FAILED"
    assert pickle.loads(pickle.dumps(caught.value)).failures
    assert execution.report()["error"] is execution.failures["a"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, BaseException, StopIteration])
def test_whatever_a_task_raises_is_its_failure(error):
    """The worker lives on and runs what comes next."""

    def work():
        raise error("from the task")

    with nerv.WorkflowManager(workers=1) as manager:
        execution = ended(manager.start(flow(TaskDef("a", work))))
        assert isinstance(execution.failures["a"], error)
        assert execution.status.name == "FAILED"
        assert ended(manager.start(flow(TaskDef("b", give, args=(1,)))))["b"] == 1


# ---- asking for results ----------------------------------------------------------------------------------------------


def test_asking_for_a_result_says_why_there_is_none():
    """Unknown id: KeyError with near misses; failed: its error; skipped, cancelled: why."""
    tasks = TaskDef("good", lambda: 1), TaskDef("bad", boom), TaskDef("after", give, args=(Output("bad"),))
    execution = run(flow(*tasks), raise_on_failure=False, failure_policy="continue")
    for ask in (execution.__getitem__, execution.task):
        with pytest.raises(KeyError, match=r"'god'.*did you mean 'good'"):
            ask("god")
    with pytest.raises(ValueError, match="boom"):
        execution["bad"]
    with pytest.raises(ResultUnavailableError, match="'after' has no result: it was skipped because of 'bad'"):
        execution["after"]


def test_a_result_that_is_not_there_yet_is_unavailable():
    """At once, with the status it is in; later it is there."""
    slow = Hold(5)
    execution = nerv.start(flow(TaskDef("slow", slow), TaskDef("next", give, args=(Output("slow"),))))
    slow.entered()
    for task, status in (("slow", "RUNNING"), ("next", "PENDING")):
        with pytest.raises(ResultUnavailableError, match=f"{task!r} has no result yet: it is {status}"):
            execution[task]
    with pytest.raises(ResultUnavailableError):
        execution.result
    slow.go()
    assert ended(execution).result == 5


def test_a_cancelled_tasks_result_is_unavailable():
    """The text says so."""
    slow = Hold(deaf=False)
    execution = nerv.start(flow(TaskDef("slow", slow), TaskDef("next", give, args=(Output("slow"),))))
    slow.entered()
    execution.cancel()
    ended(execution)
    for task in ("slow", "next"):
        with pytest.raises(ResultUnavailableError, match=f"{task!r} has no result: it was cancelled"):
            execution[task]


# ---- helpers of the messages -----------------------------------------------------------------------------------------


def test_near_misses_are_named():
    """Those that are like it, or nothing."""
    assert near("extrakt", ["extract", "load"]) == " (did you mean 'extract'?)"
    assert near("x", ["extract", "load"]) == ""
    assert near("a", [1, None, "b"]) == ""


def test_portable_errors_stay_themselves():
    """One that pickle brings back whole is the same object; another becomes a NervError with its words."""
    fine = ValueError("x")
    assert portable(fine) is fine
    substitute = portable(TwoArgumentsError(1, "x"))
    assert type(substitute) is NervError
    assert str(substitute) == "TwoArgumentsError: 1: x"
    assert "NoTextError" in repr(described(portable(NoTextError())))
