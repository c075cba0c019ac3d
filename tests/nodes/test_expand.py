"""Tasks that add tasks."""

import pickle
import threading
import time

import pytest

from nerv import (
    AddedTaskError,
    Buffer,
    Expand,
    FatalError,
    Output,
    Param,
    TaskDef,
    TaskStatus,
    Workflow,
    WorkflowManager,
    run,
)
from nerv.errors import WorkflowDefinitionError
from tests.handshake import PATIENCE, Gauge, Hold, ended, eventually
from tests.nodes.helpers import fail, go, inc, of, same, status, statuses


def two():
    return Expand([TaskDef("a", same, args=(5,)), TaskDef("b", inc, args=(Output("a"),))], result=Output("b"))


def test_added_tasks_run_under_the_parents_name_and_the_parent_has_their_result():
    execution = go(TaskDef("grow", two), TaskDef("after", same, args=(Output("grow"),)))
    assert dict(execution.results) == {"grow/a": 5, "grow/b": 6, "grow": 6, "after": 6}
    assert execution.sequence == ["grow", "grow/a", "grow/b", "after"]


def test_the_event_names_what_was_added():
    execution = go(TaskDef("grow", two))
    (event,) = [event for event in execution.events() if event.type == "TASKS_ADDED"]
    assert (event.task_id, event.data["ids"]) == ("grow", ["grow/a", "grow/b"])
    assert execution.state["task_count"] == 3
    assert execution.at(event.seq - 1)["task_count"] == 1


@pytest.mark.parametrize(
    ("result", "value"),
    [
        ("plain", "plain"),
        (None, None),
        (Output("a"), {"rows": [1]}),
        (Output("a")["rows"][0], 1),
        ([Output("b"), Output("a")["rows"]], [2, [1]]),
    ],
)
def test_the_result_is_a_value_or_made_of_references(result, value):
    tasks = [TaskDef("a", same, args=({"rows": [1]},)), TaskDef("b", same, args=(2,))]
    assert go(TaskDef("grow", lambda: Expand(tasks, result=result)))["grow"] == value


def test_a_result_is_the_very_object():
    thing = object()
    tasks = [TaskDef("a", lambda: thing)]
    assert go(TaskDef("grow", lambda: Expand(tasks, result=Output("a"))))["grow"] is thing


def test_added_tasks_see_what_their_parent_depends_on():
    def grow(_):
        return Expand([TaskDef("x", inc, args=(Output("source"),))], result=Output("x"))

    assert go(TaskDef("source", same, args=(1,)), TaskDef("grow", grow, args=(Output("source"),)))["grow"] == 2


def test_a_grandchild_sees_what_its_own_parent_depends_on_and_no_more():
    def inner(_):
        return Expand([TaskDef("y", inc, args=(Output("x"),))], result=Output("y"))

    def outer():
        return Expand([TaskDef("x", same, args=(1,)), TaskDef("in", inner, args=(Output("x"),))], result=Output("in"))

    assert go(TaskDef("grow", outer))["grow"] == 2

    def curious():
        return Expand([TaskDef("y", same, args=(Output("x"),))])

    def without():
        return Expand([TaskDef("x", same, args=(1,)), TaskDef("in", curious)])

    execution = go(TaskDef("grow", without))
    assert "'x'" in str(execution.failures["grow/in"])


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        ([TaskDef("p", same, args=(1,), dependencies=["ghost"])], ["'p'", "'ghost'"]),
        ([TaskDef("p", same, dependencies=["q"]), TaskDef("q", same, dependencies=["p"])], ["ring", "'p'", "'q'"]),
        ([TaskDef("p", same, args=(Output("grow"),))], ["'p'", "'grow'", "adds it"]),
        ([TaskDef("p", same, args=(Output("after"),))], ["'p'", "'after'", "waits for 'grow'"]),
        ([TaskDef("p", same, args=(Output("other"),))], ["'p'", "'other'", "let 'grow' depend on it"]),
        ([TaskDef("p", same), TaskDef("p", inc)], ["two tasks", "'p'"]),
        ([TaskDef("p", same, dependencies=["p"])], ["'p'", "depends on itself"]),
        ([TaskDef("p")], ["'grow/p'", "no function"]),
        ([TaskDef("p", same, pool="ghost")], ["'grow/p'", "'ghost'"]),
        ([TaskDef("p", same, pool="inline")], ["'grow/p'", "'inline'"]),
        ([TaskDef("p", lambda: 1, pool="process")], ["'grow/p'"]),
        ([TaskDef("p", same, resources={"gpu": 1})], ["'grow/p'", "'gpu'"]),
        ([TaskDef("p", same, args=(Param("day"),))], ["'p'", "'day'"]),
        ([Buffer("p", [1], of(TaskDef("a", same, args=(Param("day"),))))], ["'p'", "'day'"]),
    ],
)
def test_what_cant_be_added_fails_the_task_that_adds_it_and_names_both(tasks, words):
    after = TaskDef("after", same, args=(Output("grow"),))
    execution = go(TaskDef("grow", lambda: Expand(tasks)), after, TaskDef("other", same, args=(1,)))
    error = execution.failures["grow"]
    assert isinstance(error, WorkflowDefinitionError)
    assert all(word in str(error) for word in ["'grow'", *words]) or all(word in str(error) for word in words)
    assert status(execution, "after") == "SKIPPED"
    assert "TASKS_ADDED" not in [event.type for event in execution.events()]


def test_one_error_lists_all_that_is_wrong():
    tasks = [TaskDef("p", same, dependencies=["x"]), TaskDef("q", same, dependencies=["y"])]
    error = go(TaskDef("grow", lambda: Expand(tasks, result=Output("z")))).failures["grow"]
    assert len(error.problems) == 3


@pytest.mark.parametrize("wrong", [["p"], "p", 3, TaskDef("p", same), [None]])
def test_an_expand_takes_taskdefs(wrong):
    with pytest.raises(TypeError, match="TaskDef"):
        Expand(wrong)


def test_a_failure_among_the_added_fails_the_parent_and_names_both():
    execution = go(TaskDef("grow", lambda: Expand([TaskDef("x", fail)])), TaskDef("after", same, dependencies=["grow"]))
    error = execution.failures["grow"]
    assert isinstance(error, AddedTaskError)
    assert "'grow'" in str(error)
    assert "'grow/x'" in str(error)
    assert error.__cause__ is execution.failures["grow/x"]
    assert list(execution.failures) == ["grow/x", "grow"]
    assert status(execution, "after") == "SKIPPED"


@pytest.mark.parametrize("failure_policy", ["continue", "fail_fast"])
def test_an_added_task_that_depends_on_what_has_failed_is_skipped_and_fails_its_parent(failure_policy):
    def grow():
        return Expand([TaskDef("x", same, args=(1,)), TaskDef("y", same, args=(2,), dependencies=["broken"])])

    tasks = [TaskDef("broken", fail), TaskDef("grow", grow, dependencies=["broken"], run_when="all_finished")]
    execution = go(*tasks, failure_policy=failure_policy)
    assert statuses(execution) == {"broken": "FAILED", "grow": "FAILED", "grow/x": "COMPLETED", "grow/y": "SKIPPED"}
    error = execution.failures["grow"]
    assert isinstance(error, AddedTaskError)
    assert "'grow/y' (y) was skipped, as 'broken' failed" in str(error)
    assert error.__cause__ is execution.failures["broken"]


def test_an_added_task_starts_after_any_that_it_depends_on_also_if_that_one_has_completed_before():
    def grow(_):
        tasks = [TaskDef("x", fail), TaskDef("y", same, args=(2,), dependencies=["a", "x"], run_when="any_completed")]
        return Expand(tasks)

    tasks = [TaskDef("a", same, args=(1,)), TaskDef("grow", grow, args=(Output("a"),))]
    execution = go(*tasks, failure_policy="continue")
    assert status(execution, "grow/y") == "COMPLETED"


@pytest.mark.parametrize("at_once", [None, 1])
def test_items_wait_for_what_their_buffer_did_not_wait_for(at_once):
    hold = Hold(10)
    buffer = Buffer(
        "grow",
        [1, 2, 3],
        TaskDef("add", lambda item, late: item + late, kwargs={"late": Output("late")}),
        dependencies=["quick"],
        run_when="any_completed",
        max_parallel=at_once,
    )
    with WorkflowManager(workers=4) as manager:
        execution = manager.start(of(TaskDef("quick", same, args=(1,)), TaskDef("late", hold), buffer))
        hold.entered()
        eventually(lambda: "grow[2]" in statuses(execution))
        hold.go()
        ended(execution)
    assert execution["grow"].results == [11, 12, 13]


def test_the_parent_fails_when_all_that_it_added_has_ended():
    gate = threading.Event()

    def slow():
        gate.wait(PATIENCE)
        return "done"

    def quick():
        gate.set()
        raise ValueError("no")

    execution = go(
        TaskDef("grow", lambda: Expand([TaskDef("slow", slow), TaskDef("quick", quick)])), failure_policy="continue"
    )
    order = [event.task_id for event in execution.events() if event.type in ("TASK_COMPLETED", "TASK_FAILED")]
    assert order[-1] == "grow"
    assert set(order) == {"grow", "grow/slow", "grow/quick"}


def test_a_parent_isnt_called_again_whatever_its_retry_policy_says():
    calls = []

    def grow():
        calls.append(1)
        return Expand([TaskDef("x", fail)])

    execution = go(TaskDef("grow", grow, retry_policy=3))
    assert len(calls) == 1
    assert status(execution, "grow") == "FAILED"


def test_a_fallback_takes_on_what_failed_among_the_added():
    execution = go(TaskDef("grow", lambda: Expand([TaskDef("x", fail)]), fallback="instead"))
    assert execution.status.name == "COMPLETED"
    assert execution["grow"] == "instead"
    assert dict(execution.failures) == {}
    assert isinstance(execution.task("grow/x").error, ValueError)


def test_a_fatal_error_is_never_taken_on():
    def fatal():
        raise FatalError("everything")

    execution = go(TaskDef("grow", lambda: Expand([TaskDef("x", fatal)]), fallback="instead"))
    assert execution.status.name == "FAILED"
    assert "grow/x" in execution.failures


def test_added_tasks_keep_their_policies():
    calls = []

    def flaky():
        calls.append(1)
        if len(calls) < 3:
            raise ValueError("again")
        return len(calls)

    task = TaskDef("x", flaky, retry_policy=3)
    assert go(TaskDef("grow", lambda: Expand([task], result=Output("x"))))["grow"] == 3


def test_added_tasks_are_undone_too():
    undone = []
    task = TaskDef("x", same, args=(7,), compensate=undone.append)
    go(TaskDef("grow", lambda: Expand([task])), TaskDef("bad", fail, dependencies=["grow"]))
    assert undone == [7]


def test_an_expander_holds_no_worker():
    def grow(depth):
        return Expand([TaskDef("x", grow, args=(depth - 1,))], result=Output("x")) if depth else "end"

    assert go(TaskDef("grow", grow, args=(50,)), workers=1)["grow"] == "end"


def test_added_tasks_really_run_together():
    barrier = threading.Barrier(4)
    tasks = [TaskDef(f"x{i}", barrier.wait, args=(PATIENCE,)) for i in range(4)]
    assert go(TaskDef("grow", lambda: Expand(tasks)), workers=4).status.name == "COMPLETED"


def test_ten_thousand_deep_needs_no_recursion_and_no_quadratic_ids():
    def grow(depth):
        return Expand([TaskDef("x", grow, args=(depth - 1,))], result=Output("x")) if depth else "end"

    execution = go(TaskDef("a", grow, args=(10_000,)), workers=1)
    assert execution["a"] == "end"
    deepest = "a" + "/x" * 10_000
    assert execution[deepest] == "end"
    assert execution.task(deepest).task_id == deepest
    states = execution.state["tasks"]
    assert states[deepest].status is TaskStatus.COMPLETED
    assert {state.status for _, state in states.items()} == {TaskStatus.COMPLETED}
    assert deepest in execution.project("completed_tasks")
    assert deepest + "/x" not in states
    kept = sum(len(key) for key in execution.log.ids if isinstance(key, str))
    assert kept < 500 * 1000, "as text there are only short ones"


def test_a_failure_far_down_is_one_error_all_the_way_up():
    def grow(depth):
        return Expand([TaskDef("x", grow if depth else fail, args=(depth - 1,))])

    execution = go(TaskDef("a", grow, args=(1000,)), workers=1)
    assert status(execution, "a") == "FAILED"
    assert len({id(error) for error in execution.failures.values()}) == 2
    assert len(execution.failures) == 1002


def test_levels_hold_added_tasks_too():
    execution = go(TaskDef("grow", two), TaskDef("z", same, dependencies=["grow"], args=(1,)), scheduling="levels")
    assert execution.sequence == ["grow", "grow/a", "grow/b", "z"]


def test_cancelling_ends_parent_and_children():
    begun = threading.Event()

    def wait(ctx):
        begun.set()
        while not ctx.cancelled:
            time.sleep(0.001)
        ctx.check_cancelled()

    with WorkflowManager(workers=2) as manager:
        execution = manager.start(
            of(TaskDef("grow", lambda: Expand([TaskDef("x", wait), TaskDef("y", same, dependencies=["x"])])))
        )
        assert begun.wait(PATIENCE)
        execution.cancel("enough")
        assert execution.wait(PATIENCE)
    assert set(statuses(execution).values()) == {"CANCELLED"}
    assert execution.status.name == "CANCELLED"


def test_a_timeout_is_of_the_whole():
    gauge = Gauge()

    def deaf(ctx):
        with gauge:
            while not ctx.cancelled:
                time.sleep(0.001)
            ctx.check_cancelled()

    execution = go(TaskDef("grow", lambda: Expand([TaskDef("x", deaf)]), timeout=0.05))
    assert type(execution.failures["grow"]).__name__ == "TaskTimeoutError"
    assert gauge.total == 1
    assert status(execution, "grow/x") == "CANCELLED"


def from_a_process():
    return Expand(
        [TaskDef("x", same, args=(5,)), TaskDef("y", inc, args=(Output("x"),), pool="process")], result=Output("y")
    )


def test_a_process_may_expand():
    assert go(TaskDef("grow", from_a_process, pool="process"))["grow"] == 6


def test_an_outcome_survives_pickling():
    twin = pickle.loads(pickle.dumps(Expand([TaskDef("x", same, args=(Output("s"),))], result=Output("x"))))
    assert [task.id for task in twin.tasks] == ["x"]


def test_a_workflow_runs_twice_and_isnt_changed_by_what_was_added():
    workflow = Workflow("w", [TaskDef("grow", two), TaskDef("after", same, args=(Output("grow"),))])
    before = workflow.fingerprint
    assert [run(workflow)["after"], run(workflow)["after"]] == [6, 6]
    assert workflow.fingerprint == before
    assert len(workflow) == 2
    assert workflow.numbers.dependents == [(1,), ()]
