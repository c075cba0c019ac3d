"""`Flow`: what its calls come to, and what is wrong with them."""

import pytest

from nerv import (
    BufferDispatched,
    Flow,
    Gate,
    Manual,
    Output,
    TaskDef,
    Workflow,
    WorkflowDefinitionError,
    WorkflowManager,
    run,
    task,
)


def numbers():
    return [1, 2, 3]


def four():
    return 4


def double(x):
    return 2 * x


def negate(x):
    return -x


def total(values):
    return sum(values)


def is_even(x):
    return x % 2 == 0


def is_small(x):
    return x < 3


def test_each_step_is_given_the_result_of_the_one_before():
    assert run(Flow("f").then(four).then(double).then(negate).build()).result == -8


def test_a_flow_is_a_value():
    start = Flow("f").then(four)
    assert list(start.then(double).build().tasks) == ["four", "double"]
    assert list(start.build().tasks) == ["four"]


def test_a_step_with_arguments_of_its_own_keeps_them_and_waits():
    later = TaskDef("later", negate, args=(7,))
    built = Flow("f").then(four).then(later).build()
    assert run(built).result == -7
    assert list(built.graph.edges) == [("four", "later")]
    assert later.dependencies == ()


def test_params_come_through_the_context():
    assert run(Flow("f").then(TaskDef("n", lambda ctx: ctx["n"])).then(double).build(), {"n": 3}).result == 6


def test_parallel_steps_come_out_as_a_mapping():
    built = Flow("f").then(four).then_parallel("both", double, negate).then(TaskDef("end", dict)).build()
    assert run(built).result == {"double": 8, "negate": -4}


def test_each_item_behind_a_buffer_goes_its_own_way():
    built = Flow("f").then(numbers).buffer(max_parallel=2).then(double).then(negate).collect().then(total).build()
    assert run(built).result == -12
    assert list(built.tasks) == ["numbers", "double", "total"]


def test_buffers_in_buffers():
    rows = TaskDef("rows", lambda: [[1, 2], [3]])
    flow = Flow("f").then(rows).buffer().buffer().then(double).collect().then(total).collect()
    with pytest.raises(WorkflowDefinitionError, match="double"):  # both buffers are called like their first step
        flow.then(double).build()
    assert list(run(flow.build()).result) == [6, 6]


def test_items_that_nobody_collects_are_waited_for():
    execution = run(Flow("f").then(numbers).buffer().then(double).build())
    assert execution.result == BufferDispatched(3)
    assert execution["double[2]"] == 6


def test_a_quorum_makes_a_collector():
    built = Flow("f").then(numbers).buffer().then(double).collect("some", quorum=3).then(total).build()
    assert list(built.tasks) == ["numbers", "double", "some", "total"]
    assert run(built).result == 12


@pytest.mark.parametrize(("n", "came_out", "skipped"), [(4, 8, "negate"), (3, -3, "double")])
def test_what_comes_out_of_a_when_is_the_live_branchs(n, came_out, skipped):
    built = (
        Flow("f").then(TaskDef("n", lambda: n)).when(is_even).then(double).otherwise().then(negate).end_when()
        .then(TaskDef("end", lambda x: x)).build()
    )  # fmt: skip
    execution = run(built)
    assert execution.result == came_out
    assert execution.task(skipped).status.name == "SKIPPED"


@pytest.mark.parametrize("n", [3, 4])
def test_a_way_without_steps_passes_on_what_went_in(n):
    start, end = TaskDef("n", lambda: n), TaskDef("end", lambda x: x)
    one = Flow("f").then(start).when(is_even).then(double).end_when().then(end).build()
    other = Flow("f").then(start).when(is_even).otherwise().then(double).end_when().then(end).build()
    assert run(one).result == (8 if n == 4 else 3)
    assert run(other).result == (4 if n == 4 else 6)


@pytest.mark.parametrize(("n", "came_out"), [(1, 1), (2, 4), (4, 16), (6, 24)])
def test_a_when_in_a_when(n, came_out):
    again = TaskDef("again", double)
    built = (
        Flow("f").then(TaskDef("n", lambda: n)).when(is_even).then(double).when(is_small).otherwise().then(again)
        .end_when().end_when().then(TaskDef("end", lambda x: x)).build()
    )  # fmt: skip
    assert run(built).result == (came_out if n != 2 else 8)


def test_a_route_has_a_step_for_each_value():
    kind = TaskDef("kind", lambda ctx: ctx["kind"])
    flow = (
        Flow("f").then(kind).route("way", {"a": TaskDef("one", lambda k: k + "1")}, TaskDef("other", lambda k: k + "?"))
    )
    built = flow.then(TaskDef("end", lambda x: x)).build()
    assert run(built, {"kind": "a"}).result == "a1"
    assert run(built, {"kind": "b"}).result == "b?"


def test_two_routes_may_lead_to_one_step():
    flow = Flow("f").then(four).route("way", [(is_small, double), (is_even, negate), (bool, double)])
    assert run(flow.then(TaskDef("end", lambda x: x)).build()).result == -4


def test_behind_a_gate_comes_what_was_answered():
    built = Flow("f").then(four).gate("ask", "Well?").then(double).build()
    assert isinstance(built.tasks["ask"], Gate)
    with WorkflowManager() as manager:
        execution = manager.start(built)
        execution.signal("ask", 21)
        execution.wait()
    assert execution.result == 42


WRONG = {
    "no steps": (Flow("f"), "no steps"),
    "a when that is never ended": (Flow("f").then(four).when(is_even).then(double), "end_when"),
    "an end_when without when": (Flow("f").then(four).end_when(), "without when"),
    "an otherwise without when": (Flow("f").then(four).otherwise(), "without when"),
    "two otherwise": (Flow("f").then(four).when(bool).otherwise().then(double).otherwise().end_when(), "two otherwise"),
    "a when first": (Flow("f").when(bool).then(double).end_when(), "nothing before it"),
    "a when of something else": (Flow("f").then(four).when(3).then(double).end_when(), "a function"),
    "a buffer first": (Flow("f").buffer().then(double), "nothing before it"),
    "a buffer last": (Flow("f").then(numbers).buffer(), "no steps behind"),
    "a negative limit": (Flow("f").then(numbers).buffer(-1).then(double), "max_parallel"),
    "a collect without buffer": (Flow("f").then(numbers).collect(), "without buffer"),
    "an end_when in a buffer": (Flow("f").then(numbers).when(bool).buffer().then(double).end_when(), "isn't collected"),
    "a route first": (Flow("f").route("r", {1: double}), "nothing before it"),
    "routes that are none": (Flow("f").then(four).route("r", 3), "mapping"),
    "no parallel steps": (Flow("f").then(four).then_parallel("p"), "no tasks"),
    "a name that is none": (Flow("f").then(four).then_parallel(double, negate), "a name first"),
    "a step that is none": (Flow("f").then(3), "a function or a TaskDef"),
    "a lambda without an id": (Flow("f").then(lambda: 1), "id"),
    "one function twice": (Flow("f").then(four).then(double).then(double), "double"),
    "a gate's wrong field": (Flow("f").then(four).gate("g", timeout=-1), "timeout"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_said(wrong):
    flow, said = WRONG[wrong]
    with pytest.raises(WorkflowDefinitionError, match=said):
        flow.build()


def test_one_error_lists_all_that_is_wrong():
    flow = Flow("f").then(3).then(TaskDef("a", double, args=(Output("ghost"),))).collect().when(bool)
    with pytest.raises(WorkflowDefinitionError) as caught:
        flow.build()
    said = str(caught.value)
    assert len(caught.value.problems) == 4
    assert all(text in said for text in ("a function or a TaskDef", "ghost", "without buffer", "end_when"))


def test_tasks_keep_their_policies():
    @task(retry_policy=3)
    def tried():
        return 1

    assert Flow("f").then(tried).build().tasks["tried"].retry_policy.maximum_attempts == 3


def test_a_built_flow_is_a_workflow_like_any_other():
    assert isinstance(Flow("f").then(four).build(), Workflow)


def messages(value):
    return value


CLASHES = [
    (Flow("f").then(four).then(four), "2 steps have the id 'four'"),
    (Flow("f").then(four).then(messages).then(four), "2 steps have the id 'four'"),
    (Flow("f").then(numbers).buffer().then(messages).then(messages).collect(), "2 steps have the id 'messages'"),
    (Flow("f").triggered_by(Manual()).then(messages), "a step has the flow's own id 'messages'"),
]


@pytest.mark.parametrize(("flow", "said"), CLASHES)
def test_a_function_that_comes_twice_is_one_problem_that_says_how_to_name_it(flow, said):
    """Not also a dependency on itself, nor a ring."""
    with pytest.raises(WorkflowDefinitionError) as caught:
        flow.build()
    (problem,) = caught.value.problems
    assert (problem.kind, type(caught.value)) == ("duplicate", WorkflowDefinitionError)
    assert problem.message.startswith(f"flow 'f': {said}; ids are unique, so give one another: TaskDef(")
