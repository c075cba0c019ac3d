"""Compensations: what was done is undone, once, the last first, when an execution fails or is cancelled."""

import functools
import os
import threading
from pathlib import Path

import pytest

from nerv import (
    Expand,
    Output,
    RateLimit,
    RetryPolicy,
    TaskContext,
    TaskDef,
    TaskStatus,
    WorkerCrashedError,
    WorkflowDefinitionError,
    WorkflowFailedError,
    WorkflowManager,
    WorkflowStatus,
    run,
)
from tests.handshake import Hold, boom, ended, flow, give, kinds
from tests.rig import Failing, Rig, data_of, starts, told


class Book:
    """What was undone, in order."""

    def __init__(self):
        self.undone = []

    def undo(self, value):
        self.undone.append(value)

    def task(self, name, **fields):
        """A task whose result is its id, and that writes that down when it is undone."""
        return TaskDef(name, give, args=(name,), compensate=self.undo, **fields)


@pytest.fixture
def book():
    return Book()


def undo_in_a_process(path, value):
    with open(path, "a") as file:
        file.write(f"{value}\n")


def die_at_first(path, value):
    if not Path(path).exists():
        Path(path).touch()
        os._exit(9)
    assert value == 1


async def undo_later(value):
    assert value == 1


# ---- when, what, in which order ------------------------------------------------------------------------------------


def test_completed_tasks_are_undone_the_last_completed_first(book):
    with Rig(seconds={"a": 1, "b": 3, "c": 2, "fails": 4}) as rig:
        execution = rig.run(book.task("a"), book.task("b"), book.task("c"), TaskDef("fails", boom))
    assert book.undone == ["b", "c", "a"]
    assert execution.status is WorkflowStatus.FAILED
    assert kinds(execution)[-5:] == ["TASK_FAILED", *["TASK_COMPENSATED"] * 3, "WORKFLOW_FAILED"]
    assert data_of(execution, "TASK_COMPENSATED") == [{"error": None}] * 3


def test_a_task_that_failed_has_nothing_to_undo_nor_has_one_that_never_ran(book):
    tasks = [book.task("a"), TaskDef("b", boom, dependencies=["a"], compensate=book.undo)]
    with Rig() as rig:
        rig.run(*tasks, book.task("c", dependencies=["b"]))
    assert book.undone == ["a"], "trap 53: only what was completed"


def test_nothing_is_undone_when_all_went_well(book):
    with Rig() as rig:
        execution = rig.run(book.task("a"), book.task("b"))
    assert book.undone == []
    assert execution.status is WorkflowStatus.COMPLETED


def test_it_is_given_the_tasks_own_result():
    """Trap 54: not the state of before the step."""
    given = []
    result = object()
    with Rig() as rig:
        rig.run(TaskDef("a", lambda: result, compensate=given.append), TaskDef("b", boom, dependencies=["a"]))
    assert given == [result]
    assert given[0] is result


def test_it_is_given_the_context_first_if_it_asks_for_it():
    given = []

    def undo(ctx: TaskContext, value):
        given.append((ctx.task_id, ctx["day"], value))

    with Rig() as rig:
        tasks = [TaskDef("a", give, args=(1,), compensate=undo), TaskDef("b", boom, dependencies=["a"])]
        rig.manager.start(flow(*tasks), {"day": "Sunday"})
        rig.go()
    assert given == [("a", "Sunday", 1)]


def test_a_cancel_undoes_too(book):
    with Rig(seconds={"b": 10}, grace=100) as rig:
        execution = rig.start(book.task("a"), book.task("b"), book.task("c", dependencies=["b"]))
        rig.go(until=5)
        execution.cancel("enough")
        rig.go()
    assert book.undone == ["b", "a"], "b returned normally, so it is COMPLETED, and has to be undone"
    assert execution.status is WorkflowStatus.CANCELLED
    assert execution.project("task_status")["c"] is TaskStatus.CANCELLED


def test_a_cancel_that_comes_too_late_to_stop_anything_undoes_nothing(book):
    with Rig(seconds={"a": 10}, grace=100) as rig:
        execution = rig.start(book.task("a"))
        rig.go(until=5)
        execution.cancel()
        rig.go()
    assert book.undone == []
    assert execution.status is WorkflowStatus.COMPLETED


def test_a_workflow_that_takes_too_long_is_undone(book):
    with Rig(seconds={"b": 100}) as rig:
        execution = rig.run(book.task("a"), TaskDef("b", give, args=(1,)), timeout=10)
    assert book.undone == ["a"]
    assert execution.status is WorkflowStatus.FAILED


def test_under_continue_everything_else_runs_first(book):
    with Rig(failure_policy="continue", seconds={"b": 10}) as rig:
        execution = rig.run(book.task("a"), TaskDef("fails", boom), book.task("b"), book.task("c", dependencies=["b"]))
    assert book.undone == ["c", "b", "a"]
    assert [what for _, _, what in told(execution)][-4:] == [*["TASK_COMPENSATED"] * 3, "WORKFLOW_FAILED"]
    assert execution.status is WorkflowStatus.FAILED


@pytest.mark.parametrize("scheduling", ["ready", "levels"])
def test_cleanup_that_has_not_started_waits_until_all_is_undone(book, scheduling):
    order = []
    with Rig(scheduling=scheduling, workers=8) as rig:
        execution = rig.run(
            TaskDef("a", give, args=(1,), compensate=lambda _: order.append("undo a")),
            TaskDef("b", give, args=(1,), compensate=lambda _: order.append("undo b"), dependencies=["a"]),
            TaskDef("fails", boom, dependencies=["b"]),
            TaskDef("clean 1", lambda: order.append("clean 1"), run_when="all_finished", dependencies=["fails"]),
            TaskDef("clean 2", lambda: order.append("clean 2"), run_when="all_finished", dependencies=["clean 1"]),
        )
    assert order == ["undo b", "undo a", "clean 1", "clean 2"]
    assert execution.project("task_status")["clean 2"] is TaskStatus.COMPLETED


def test_cleanup_that_runs_already_is_not_waited_for(book):
    with Rig(seconds={"clean": 100, "fails": 5}) as rig:
        execution = rig.run(
            book.task("a"),
            TaskDef("clean", give, args=(1,), run_when="all_finished", dependencies=["a"]),
            TaskDef("fails", boom),
        )
    (undone,) = told(execution, "TASK_COMPENSATED")
    assert undone[0] == 5


def test_cleanup_that_fails_is_a_failure_that_undoes(book):
    with Rig() as rig:
        execution = rig.run(book.task("a"), TaskDef("clean", boom, run_when="all_finished", dependencies=["a"]))
    assert book.undone == ["a"]
    assert execution.status is WorkflowStatus.FAILED


def test_a_result_that_a_fallback_gave_is_undone_as_well(book):
    with Rig() as rig:
        rig.run(TaskDef("a", boom, fallback="instead", compensate=book.undo), TaskDef("b", boom, dependencies=["a"]))
    assert book.undone == ["instead"]


def test_what_a_task_has_added_is_undone_too(book):
    def grow():
        limit = RateLimit(1, 10, name="api")
        return Expand([book.task(f"x{i}", rate_limit=limit) for i in range(3)], result="grown")

    with Rig() as rig:
        rig.run(TaskDef("grow", grow, compensate=book.undo), TaskDef("fails", boom, dependencies=["grow"]))
    assert book.undone == ["grown", "x2", "x1", "x0"]


@pytest.mark.parametrize("policy", ["fail_fast", "continue"])
@pytest.mark.parametrize("depth", [0, 2])
def test_cleanup_that_a_task_has_added_waits_until_all_is_undone(book, policy, depth):
    def grow(left):
        if left:
            return Expand([TaskDef("in", grow, args=(left - 1,))])
        clean = TaskDef("clean", book.undo, args=("clean",), dependencies=["fails"], run_when="all_finished")
        return Expand([book.task("a"), TaskDef("fails", boom, dependencies=["a"]), clean])

    with Rig(failure_policy=policy) as rig:
        execution = rig.run(book.task("first"), TaskDef("grow", grow, args=(depth,), dependencies=["first"]))
    assert book.undone == ["a", "first", "clean"]
    assert execution.status is WorkflowStatus.FAILED


def test_cleanup_of_what_can_still_complete_is_waited_for(book):
    """Something else has failed; what `grow` has added goes well, so it ends first, and is undone with the rest."""

    def grow():
        return Expand([book.task("a"), TaskDef("clean", int, dependencies=["a"], run_when="all_finished")])

    after = TaskDef("after", int, dependencies=["grow"])
    tasks = [TaskDef("fails", boom), TaskDef("grow", grow, compensate=lambda _: book.undo("grow")), after]
    with Rig(failure_policy="continue", seconds={"grow/a": 5, "grow/clean": 5}) as rig:
        execution = rig.run(*tasks)
    assert book.undone == ["grow", "a"]
    assert execution.task("after").status is TaskStatus.COMPLETED


def test_a_compensation_that_is_added_late_knows_of_the_cleanup_that_was_added_before(book):
    def early():
        clean = TaskDef("clean", book.undo, args=("clean",), dependencies=["slow"], run_when="all_finished")
        return Expand([TaskDef("slow", boom), clean])

    with Rig(failure_policy="continue", seconds={"early/slow": 9}) as rig:
        rig.run(TaskDef("early", early), TaskDef("late", lambda: Expand([book.task("a")]), dependencies=["go"]),
                TaskDef("go", int))  # fmt: skip
    assert book.undone == ["a", "clean"]


def test_several_failures_undo_once(book):
    with Rig(failure_policy="continue", workers=8) as rig:
        rig.run(book.task("a"), *[TaskDef(f"fails {i}", boom, dependencies=["a"]) for i in range(5)])
    assert book.undone == ["a"]


# ---- its errors, its policies --------------------------------------------------------------------------------------


def test_an_error_in_one_is_attached_and_the_rest_goes_on(book):
    with Rig() as rig:
        execution = rig.run(
            book.task("a"),
            TaskDef("b", give, args=("b",), compensate=boom, dependencies=["a"]),
            book.task("c", dependencies=["b"]),
            TaskDef("fails", Failing(error=KeyError("first")), dependencies=["c"]),
        )
    assert book.undone == ["c", "a"]
    assert list(execution.undo_errors) == ["b"]
    (error,) = (data["error"] for data in data_of(execution, "TASK_COMPENSATED", "b"))
    assert error is execution.undo_errors["b"]
    assert "compensation of task 'b'" in error.__notes__[0]
    assert list(execution.failures) == ["fails"], "it is no failure of the task's"
    assert execution["b"] == "b"


def test_run_shows_what_could_not_be_undone():
    tasks = [
        TaskDef("a", give, args=(1,), compensate=boom),
        TaskDef("b", Failing(error=KeyError("b")), dependencies=["a"]),
    ]
    with pytest.raises(WorkflowFailedError) as caught:
        run(flow(*tasks))
    assert isinstance(caught.value.__cause__, KeyError)
    assert any("compensation" in note and "'a'" in note for note in caught.value.__notes__)


def test_it_has_the_tasks_retry_policy():
    undo = Failing(2)
    policy = RetryPolicy(3, initial_interval=10, jitter=0)
    with Rig() as rig:
        execution = rig.run(
            TaskDef("a", give, args=(1,), compensate=lambda _: undo(), retry_policy=policy),
            TaskDef("b", boom, dependencies=["a"]),
        )
        assert rig.now == 30
    assert undo.calls == 3
    assert dict(execution.undo_errors) == {}
    (event,) = [e for e in execution.events() if e.type.value == "TASK_COMPENSATED"]
    assert (event.attempt, event.data) == (3, {"error": None})


def test_each_has_attempts_of_its_own():
    undoings = [Failing(1), Failing(1)]
    tasks = [
        TaskDef(f"t{i}", give, args=(i,), compensate=lambda i: undoings[i](), retry_policy=RetryPolicy(2, jitter=0))
        for i in range(2)
    ]
    with Rig() as rig:
        execution = rig.run(*tasks, TaskDef("fails", boom, dependencies=["t0", "t1"]))
    assert execution.undo_errors == {}
    assert [event.attempt for event in execution.events() if event.type.value == "TASK_COMPENSATED"] == [2, 2]


def test_it_is_attempted_as_often_as_its_policy_says_and_no_more():
    undo = Failing()
    with Rig() as rig:
        execution = rig.run(
            TaskDef("a", give, args=(1,), compensate=lambda _: undo(), retry_policy=4),
            TaskDef("b", boom, dependencies=["a"]),
        )
    assert undo.calls == 4
    assert str(execution.undo_errors["a"]) == "call 4 failed"


def test_a_predicate_that_raises_ends_the_retries_of_a_compensation():
    undo = Failing()

    def predicate(_):
        raise ZeroDivisionError

    with Rig() as rig:
        policy = RetryPolicy(4, retry_on=predicate)
        execution = rig.run(
            TaskDef("a", give, args=(1,), compensate=lambda _: undo(), retry_policy=policy),
            TaskDef("b", boom, dependencies=["a"]),
        )
    assert undo.calls == 1
    assert "a" in execution.undo_errors


def test_it_has_the_tasks_timeout():
    hold = Hold()
    tasks = [
        TaskDef("a", give, args=(1,), compensate=lambda _: hold(None), timeout=0.05),
        TaskDef("b", boom, dependencies=["a"]),
    ]
    with WorkflowManager(workers=2) as manager:
        execution = ended(manager.start(flow(*tasks)))
        hold.go()
    error = execution.undo_errors["a"]
    assert isinstance(error, TimeoutError)
    assert "compensation of task 'a'" in str(error)
    assert "0.05 s" in str(error)


def test_it_is_not_told_to_stop_and_a_cancel_half_way_lets_the_rest_go_on(book):
    hold, seen = Hold(), []

    def undo(ctx: TaskContext, _):
        hold(ctx)
        seen.append(ctx.cancelled)

    tasks = [
        book.task("a"),
        TaskDef("b", give, args=(1,), compensate=undo, dependencies=["a"]),
        TaskDef("c", boom, dependencies=["b"]),
    ]
    with WorkflowManager(workers=2, grace=60) as manager:
        execution = manager.start(flow(*tasks))
        hold.entered()
        execution.cancel("now")
        hold.go()
        ended(execution)
    assert seen == [False]
    assert book.undone == ["a"]


def test_a_cancel_while_a_compensation_waits_for_its_retry_changes_nothing_for_it():
    undo = Failing(1)
    policy = RetryPolicy(2, initial_interval=100, maximum_interval=100, jitter=0)
    with Rig() as rig:
        execution = rig.start(
            TaskDef("a", give, args=(1,), compensate=lambda _: undo(), retry_policy=policy),
            TaskDef("b", boom, dependencies=["a"], retry_policy=1),
        )
        rig.go(until=50)
        execution.cancel()
        rig.go()
        assert rig.now == 100
    assert undo.calls == 2
    assert execution.undo_errors == {}


def test_a_pause_holds_up_compensations(book):
    with Rig(seconds={"b": 10}) as rig:
        execution = rig.start(book.task("a"), TaskDef("b", boom))
        rig.go(until=5)
        execution.pause()
        rig.go()
        assert book.undone == []
        assert execution.status is WorkflowStatus.PAUSED
        execution.resume()
        rig.go()
    assert book.undone == ["a"]


def test_closing_leaves_nothing_half_way_and_tells_what_could_not_be_undone():
    hold = Hold()
    manager = WorkflowManager(workers=1, grace=0.05)
    execution = manager.start(
        flow(TaskDef("a", give, args=(1,), compensate=lambda _: hold(None)), TaskDef("b", boom, dependencies=["a"]))
    )
    hold.entered()
    manager.close()
    hold.go()
    assert execution.status.is_final
    assert list(execution.undo_errors) == ["a"]


def test_what_was_held_by_a_line_is_free_for_others_while_cleanup_stands_back():
    """A cleanup task that waits until all is undone mustn't take the place that it was offered in a line."""
    undo = Failing(4)
    slow = RetryPolicy(5, initial_interval=100, jitter=0)
    with Rig(workers=4, resources={"gpu": 1}, seconds={"hog": 10}) as rig:
        rig.start(TaskDef("hog", give, args=(1,), resources={"gpu": 1}))
        rig.go(until=1)
        failing = rig.start(
            TaskDef("a", give, args=(1,), compensate=lambda _: undo(), retry_policy=slow),
            TaskDef("f", boom, dependencies=["a"]),
            TaskDef("c", give, args=(1,), run_when="all_finished", resources={"gpu": 1}, priority=9),
        )
        rig.go(until=2)
        other = rig.start(TaskDef("b", give, args=(1,), resources={"gpu": 1}))
        rig.go()
    assert starts(other) == [10]
    assert starts(failing, "c") == [told(failing, "TASK_COMPENSATED")[0][0]]


def test_cleanup_that_waits_in_a_line_is_offered_its_place_when_all_is_undone():
    undo = Failing(1)
    with Rig(workers=4, resources={"gpu": 1}, seconds={"hog": 10}) as rig:
        rig.start(TaskDef("hog", give, args=(1,), resources={"gpu": 1}))
        rig.go(until=1)
        execution = rig.start(
            TaskDef(
                "a",
                give,
                args=(1,),
                compensate=lambda _: undo(),
                retry_policy=RetryPolicy(2, initial_interval=100, maximum_interval=100, jitter=0),
            ),
            TaskDef("c", give, args=(1,), run_when="all_finished", resources={"gpu": 1}, priority=9),
            TaskDef("f", boom, dependencies=["a"]),
        )
        rig.go()
    assert told(execution, "TASK_WAITING") == [(1, "c", "TASK_WAITING")]
    assert starts(execution, "c") == [101]


# ---- processes, coroutines -----------------------------------------------------------------------------------------


def test_what_ran_in_a_process_is_undone_in_one(tmp_path):
    path = tmp_path / "undone"
    undo = functools.partial(undo_in_a_process, str(path))
    tasks = [TaskDef(f"t{i}", give, args=(i,), pool="process", compensate=undo) for i in range(3)]
    with pytest.raises(WorkflowFailedError):
        run(flow(*tasks, TaskDef("fails", boom, dependencies=[task.id for task in tasks])), processes=2)
    assert sorted(path.read_text().split()) == ["0", "1", "2"]


@pytest.mark.parametrize("attempts", [1, 2])
def test_a_compensation_whose_process_dies_is_retried_as_its_policy_says(tmp_path, attempts):
    undo = functools.partial(die_at_first, str(tmp_path / "died"))
    policy = RetryPolicy(attempts, initial_interval=0.001)
    tasks = [TaskDef("a", give, args=(1,), pool="process", compensate=undo, retry_policy=policy)]
    with WorkflowManager(processes=1) as manager:
        execution = ended(manager.start(flow(*tasks, TaskDef("b", boom, dependencies=["a"]))))
    kept = {task: type(error) for task, error in execution.undo_errors.items()}
    assert kept == ({"a": WorkerCrashedError} if attempts == 1 else {})
    assert list(execution.failures) == ["b"]


def test_a_compensation_that_no_process_can_import_is_an_error_before_anything_runs():
    ran = []
    tasks = [TaskDef("a", ran.append, args=(1,)), TaskDef("b", give, args=(1,), pool="process", compensate=lambda _: 1)]
    with pytest.raises(WorkflowDefinitionError, match=r"the compensation of task 'b'.*lambda"):
        run(flow(*tasks))
    assert ran == []


def test_a_compensation_of_the_wrong_kind_is_an_error_before_anything_runs():
    with pytest.raises(WorkflowDefinitionError, match="the compensation of task 'a' is a coroutine function"):
        run(flow(TaskDef("a", give, args=(1,), compensate=undo_later)))


def test_coroutines_are_undone_by_coroutines():
    async def job():
        return 1

    with pytest.raises(WorkflowFailedError) as caught:
        run(flow(TaskDef("a", job, compensate=undo_later), TaskDef("b", boom, args=(Output("a"),))))
    assert caught.value.execution.undo_errors == {}


def test_inline_tasks_are_undone_in_the_thread_that_runs():
    threads = []
    tasks = [
        TaskDef("a", give, args=(1,), pool="inline", compensate=lambda _: threads.append(threading.current_thread()))
    ]
    with pytest.raises(WorkflowFailedError):
        run(flow(*tasks, TaskDef("b", boom, dependencies=["a"])))
    assert threads == [threading.current_thread()]


def test_a_hundred_sagas_at_once_each_undo_their_own():
    with WorkflowManager(workers=8) as manager:
        books = [Book() for _ in range(100)]
        executions = [
            manager.start(
                flow(
                    *[book.task(f"t{i}") for i in range(5)],
                    TaskDef("f", boom, dependencies=[f"t{i}" for i in range(5)]),
                )
            )
            for book in books
        ]
        for execution, book in zip(executions, books, strict=True):
            ended(execution)
            completed = [task for _, task, _ in told(execution, "TASK_COMPLETED")]
            assert book.undone == completed[::-1]
