"""Sequence, Loop, SubWorkflow, Paginate and JournalNode."""

import pytest

from nerv import (
    AddedTaskError,
    JournalNode,
    Loop,
    LoopLimitError,
    Output,
    Page,
    Paginate,
    Param,
    RetryPolicy,
    Sequence,
    SubWorkflow,
    TaskDef,
    Workflow,
    WorkflowDefinitionError,
)
from tests.nodes.helpers import double, fail, go, inc, of, same, status

POLICY = RetryPolicy(maximum_attempts=3, initial_interval=0.001)
two_steps = Workflow("two", [TaskDef("a", inc, args=(Param("item"),)), TaskDef("b", double, args=(Output("a"),))])


# ---- Sequence -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, 0, "", False, [], {}])
def test_a_sequence_passes_each_result_on(value):
    assert go(Sequence("s", [same, lambda v: [v]], value))["s"] == [value]


def test_steps_are_functions_taskdefs_and_workflows():
    execution = go(
        Sequence("s", [inc, TaskDef("plus", lambda v, n: v + n, args=(10,)), two_steps], Output("n")),
        TaskDef("n", lambda: 1),
    )
    assert execution["s"] == 26
    assert [execution[f"s[{place}]"] for place in range(3)] == [2, 12, 26]
    assert execution["s[2]/a"] == 13


def test_a_sequence_of_nothing_is_its_value():
    assert go(Sequence("s", [], 5))["s"] == 5


def test_a_failing_step_is_named_and_later_ones_dont_run():
    ran = []
    execution = go(Sequence("s", [inc, fail, ran.append], 1))
    error = execution.failures["s"]
    assert isinstance(error, AddedTaskError)
    assert all(word in str(error) for word in ("'s'", "'s[1]'", "fail", "no"))
    assert ran == []


def test_only_the_step_with_a_policy_is_tried_again():
    calls = {"a": 0, "b": 0}

    def a(value):
        calls["a"] += 1
        return value

    def b(value):
        calls["b"] += 1
        if calls["b"] < 3:
            raise ValueError("again")
        return value

    assert go(Sequence("s", [a, TaskDef("b", b, retry_policy=POLICY)], 1))["s"] == 1
    assert calls == {"a": 1, "b": 3}


# ---- Loop -----------------------------------------------------------------------------------------------------------


def test_a_loop_gives_its_body_the_last_result_until_it_is_enough():
    execution = go(Loop("l", inc, lambda v: v >= 4, 1))
    assert execution["l"] == 4
    assert [execution[f"l[{index}]"] for index in range(3)] == [2, 3, 4]


def test_the_body_may_be_a_workflow():
    execution = go(Loop("l", two_steps, lambda v: v > 20, 1))
    assert execution["l"] == 22
    assert execution["l[2]/b"] == 22


def test_a_loop_ends_after_its_limit():
    calls = []
    execution = go(Loop("l", calls.append, lambda _: False, max_iterations=7))
    assert isinstance(execution.failures["l"], LoopLimitError)
    assert "'l'" in str(execution.failures["l"])
    assert len(calls) == 7


def test_a_failing_body_names_the_iteration():
    def body(value):
        return value + 1 if value < 3 else fail()

    error = go(Loop("l", body, lambda _: False, 0)).failures["l"]
    assert "'l[3]'" in str(error)


def test_until_may_fail():
    assert isinstance(go(Loop("l", inc, fail, 0)).failures["l"], ValueError)


# ---- SubWorkflow ----------------------------------------------------------------------------------------------------


def test_a_subworkflows_result_is_that_of_an_execution_of_it():
    many = Workflow(
        "many",
        [
            TaskDef("a", same, args=(1,)),
            TaskDef("b", inc, args=(Output("a"),)),
            TaskDef("c", same, args=(Output("a"),)),
        ],
    )
    assert go(SubWorkflow("s", many))["s"] == {"b": 2, "c": 1}
    chosen = Workflow("chosen", many.tasks.values(), result=[Output("c"), Output("b")])
    assert go(SubWorkflow("s", chosen))["s"] == [1, 2]
    assert go(SubWorkflow("s", two_steps, {"item": 4}))["s"] == 10


def test_a_subworkflow_sees_its_own_params_only():
    def look(ctx):
        return dict(ctx.params)

    inner = Workflow("in", [TaskDef("look", look)])
    assert go(SubWorkflow("s", inner, {"x": Output("n")}), TaskDef("n", lambda: 5), params={"y": 1})["s"] == {"x": 5}
    assert go(SubWorkflow("s", inner), params={"y": 1})["s"] == {}


def test_a_missing_param_is_found_when_it_is_written_or_fails_the_task():
    with pytest.raises(WorkflowDefinitionError, match="'item'"):
        SubWorkflow("s", two_steps)
    execution = go(SubWorkflow("s", two_steps, Output("n")), TaskDef("n", dict))
    assert "'item'" in str(execution.failures["s"])


def test_subworkflows_nest_on_one_worker():
    inner = Workflow("w0", [TaskDef("leaf", lambda: "deep")])
    for depth in range(20):
        inner = Workflow(f"w{depth + 1}", [SubWorkflow("s", inner)])
    execution = go(*inner.tasks.values(), workers=1)
    assert execution["/".join(["s"] * 20 + ["leaf"])] == "deep"
    assert execution["s"] == "deep"


# ---- Paginate -------------------------------------------------------------------------------------------------------


def pages(count, seen):
    def fetch(cursor):
        seen.append(cursor)
        page = cursor or 0
        return Page([page * 2, page * 2 + 1], page + 1 if page + 1 < count else None)

    return fetch


def test_all_pages_are_read_in_order():
    seen = []
    execution = go(Paginate("p", pages(4, seen)))
    assert (execution["p"].items, execution["p"].pages) == (list(range(8)), 4)
    assert seen == [None, 1, 2, 3]
    assert status(execution, "p[3]") == "COMPLETED"


def test_no_more_than_max_pages_are_read():
    seen = []
    assert go(Paginate("p", pages(9, seen), 2))["p"].pages == 2
    assert len(seen) == 2


def test_a_cursor_that_comes_again_is_an_error():
    error = go(Paginate("p", lambda _: Page([1], "again"))).failures["p"]
    assert "'p'" in str(error)
    assert "'again'" in str(error)


def test_a_page_is_tried_again_by_itself():
    seen = []

    def fetch(cursor):
        seen.append(cursor)
        if cursor == 1 and seen.count(1) < 3:
            raise ConnectionError
        return Page([cursor], {None: 1, 1: None}[cursor])

    assert go(Paginate("p", fetch, retry_policy=POLICY))["p"].items == [None, 1]
    assert seen == [None, 1, 1, 1]


def test_what_is_no_page_is_an_error():
    assert "Page" in str(go(Paginate("p", lambda _: [1])).failures["p"])


# ---- JournalNode ----------------------------------------------------------------------------------------------------


def test_a_journal_node_passes_its_value_on():
    thing = object()
    execution = go(TaskDef("t", lambda: thing), JournalNode("n", Output("t")), TaskDef("c", same, args=(Output("n"),)))
    assert execution["c"] is thing


# ---- what can't be --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: Sequence("s"), "steps"),
        (lambda: Sequence("s", inc), "steps"),
        (lambda: Sequence("s", [3]), "step 0"),
        (lambda: Loop("l"), "body"),
        (lambda: Loop("l", inc), "until"),
        (lambda: Loop("l", inc, 3), "until"),
        (lambda: Loop("l", inc, same, 1, 0), "max_iterations"),
        (lambda: SubWorkflow("s"), "workflow"),
        (lambda: SubWorkflow("s", 3), "Workflow"),
        (lambda: SubWorkflow("s", two_steps, 3), "params"),
        (lambda: Paginate("p"), "fetch"),
        (lambda: Paginate("p", inc, 0), "max_pages"),
        (lambda: Paginate("p", inc, retry_policy="x"), "retry"),
        (lambda: JournalNode("j"), "value"),
        (lambda: JournalNode("j", 1, object()), "on_intent"),
    ],
)
def test_a_node_that_cant_be_right_says_so_where_it_is_written(make, word):
    with pytest.raises(WorkflowDefinitionError, match=word):
        make()


def test_nodes_take_what_all_tasks_take():
    node = Sequence("s", [inc], 1, dependencies=["n"], name="three", description="counts", priority=3, timeout=60)
    execution = go(TaskDef("n", same, args=(1,)), node)
    assert execution["s"] == 2
    assert (execution.workflow.tasks["s"].name, node.priority) == ("three", 3)
    assert of(TaskDef("n", same), node).plan().dependencies["s"] == ("n",)
