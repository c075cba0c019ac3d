"""Lanes, chains, ids, and how nodes are written, compared and drawn."""

import json
import pickle
import threading

import pytest

from nerv import (
    Buffer,
    Collector,
    Gate,
    JournalNode,
    Loop,
    Output,
    Paginate,
    Param,
    ResultUnavailableError,
    Router,
    Sequence,
    SubWorkflow,
    TaskDef,
    Timer,
    UnknownIdError,
    Workflow,
    WorkflowDefinitionError,
    add,
    run,
    task,
    workflow,
)
from nerv.cli import plan
from nerv.testing import simulate
from tests.nodes.helpers import double, go, inc, of, same


def where(ctx, *_):
    return ctx.lane_id, ctx.chain


item = Workflow("item", [TaskDef("first", where), TaskDef("second", where, args=(Output("first"),))])


def test_a_plain_execution_is_one_lane():
    execution = go(TaskDef("a", where), TaskDef("b", where, args=(Output("a"),)))
    assert execution["a"][0] == execution["b"][0]
    assert (execution["a"][1], execution["b"][1]) == ((), ("a",))


def test_every_item_is_a_lane_of_its_own_that_nobody_can_guess():
    lanes = set()
    for _ in range(2):
        execution = go(TaskDef("a", where), Buffer("b", range(20), where))
        lanes |= {execution["a"][0], *(lane for lane, _ in execution["b"])}
    assert len(lanes) == 42
    assert all(len(lane) == 32 for lane in lanes)


def test_an_item_keeps_its_lane_through_all_that_it_adds_and_its_chain_grows():
    execution = go(TaskDef("n", same, args=(1,)), Buffer("b", [1, 2], item, dependencies=["n"]))
    for index in range(2):
        first, second = execution[f"b[{index}]/first"], execution[f"b[{index}]/second"]
        assert first[0] == second[0]
        assert first[1] == ("n", "b", f"b[{index}]")
        assert second[1] == ("n", "b", f"b[{index}]", f"b[{index}]/first")
    assert execution["b[0]/first"][0] != execution["b[1]/first"][0]


def test_attempts_share_their_lane():
    seen, lock = [], threading.Lock()

    def target(ctx, value):
        with lock:
            seen.append((value, ctx.lane_id))
        if ctx.attempt == 1:
            raise ValueError(value)

    go(Buffer("b", range(3), TaskDef("t", target, retry_policy=2)))
    assert len(seen) == 6
    assert len(set(seen)) == 3


def test_a_process_knows_its_lane_too():
    execution = go(TaskDef("a", where), TaskDef("b", where, args=(Output("a"),), pool="process"))
    assert execution["b"] == (execution["a"][0], ("a",))


def test_a_context_cant_be_changed():
    def change(ctx):
        refused = 0
        for name in ("params", "task_id", "anything"):
            try:
                setattr(ctx, name, {})
            except AttributeError:
                refused += 1
        return refused

    assert go(TaskDef("a", change))["a"] == 3


def test_results_go_by_place_never_by_name():
    odd = TaskDef("it.em w7", lambda v: v, name="b[3]")
    execution = go(Buffer("b.w1", ["x", "y"], odd), Buffer("b", [1], inc))
    assert [execution["b.w1[1]"], execution["b[0]"]] == ["y", 2]


@pytest.mark.parametrize(
    "unknown", ["b[2]", "b[01]", "b[-1]", "b[", "b]", "b[0]/x", "b/0", "/b", "b[0][0]", "", "c[0]"]
)
def test_an_id_that_isnt_there_is_unknown(unknown):
    execution = go(Buffer("b", [1, 2], inc))
    with pytest.raises(UnknownIdError):
        execution[unknown]
    with pytest.raises(UnknownIdError):
        execution.task(unknown)


def test_views_know_added_tasks():
    execution = go(Buffer("b", [1, 2], inc), TaskDef("n", same, args=(1,)))
    tasks = ["b", "n", "b[0]", "b[1]"]
    assert [*execution.state["tasks"]] == tasks
    assert set(execution.project("completed_tasks")) == set(tasks)
    assert execution.project("progress")["total"] == 4
    assert "b[0]" in execution.summary()
    assert {event.task_id for event in execution.events()} == {*tasks, None}
    assert execution.log.records[-1][4]["task_count"] == 4


def test_a_task_that_was_skipped_has_no_result():
    execution = go(Router("r", 1, {1: [], 2: "a"}), TaskDef("a", same, dependencies=["r"]))
    with pytest.raises(ResultUnavailableError, match="'r'"):
        execution["a"]


# ---- @workflow ------------------------------------------------------------------------------------------------------


@task
def numbers():
    return [1, 2, 3]


@task(retry_policy=2)
def doubled(value):
    return value * 2


@task
def total(values):
    return sum(values)


def test_map_adds_a_buffer_and_stands_for_the_list_of_results():
    @workflow
    def body():
        return total(doubled.map(numbers(), max_parallel=2))

    made = body()
    assert [*made.tasks] == ["numbers", "doubled", "total"]
    assert isinstance(made.tasks["doubled"], Buffer)
    assert made.tasks["doubled"].max_parallel == 2
    execution = run(made)
    assert execution.result == 12
    assert execution["doubled[2]"] == 6


def test_map_twice_and_after():
    @workflow
    def body():
        first = numbers()
        one = doubled.map(first)
        return [one, doubled.map([5], after=[one])]

    made = body()
    assert [*made.tasks] == ["numbers", "doubled", "doubled-2"]
    assert made.plan().dependencies["doubled-2"] == ("doubled",)
    assert run(made).result == [[2, 4, 6], [10]]


def test_map_keeps_the_tasks_own_policies():
    calls = []

    @task(retry_policy=3)
    def flaky(value):
        calls.append(value)
        if calls.count(value) < 3:
            raise ValueError(value)
        return value

    @workflow
    def body():
        return flaky.map([1, 2])

    assert run(body()).result == [1, 2]
    assert len(calls) == 6


def test_add_adds_a_node_and_gives_its_output():
    @workflow
    def body():
        gate = add(Router("r", numbers()[0], {1: "a", 2: "b"}))
        return add(
            TaskDef("j", same, args=(Output.first("a", "b"),), dependencies=[add_branch("a"), add_branch("b"), gate])
        )

    def add_branch(task_id):
        return add(TaskDef(task_id, lambda: task_id, dependencies=["r"]))

    assert run(body()).result == "a"


def test_map_and_add_belong_in_a_body():
    with pytest.raises(TypeError, match="doubled"):
        doubled.map([1])
    with pytest.raises(TypeError, match="'t'"):
        add(TaskDef("t", inc))
    with pytest.raises(TypeError, match="TaskDef"):
        add(inc)


def holds(value):
    return value > 3


NODES = {
    "Buffer": lambda: Buffer("n", [1], double, 2),
    "Buffer of a task": lambda: Buffer("n", Output("src"), TaskDef("t", double, retry_policy=2), collect=False),
    "Collector": lambda: Collector("n", "src", 2),
    "Sequence": lambda: Sequence("n", [inc, double], 1),
    "Router": lambda: Router("n", Output("src"), {1: "z"}, default="z"),
    "Router by predicates": lambda: Router("n", 1, [(holds, "z")], default="z"),
    "JournalNode": lambda: JournalNode("n", Output("src")),
    "Gate": lambda: Gate("n", "?", timeout=3),
    "Timer": lambda: Timer("n", 3),
    "Loop": lambda: Loop("n", inc, holds, 1),
    "SubWorkflow": lambda: SubWorkflow("n", Workflow("s", [TaskDef("a", inc, args=(Param("p"),))]), {"p": 1}),
    "Paginate": lambda: Paginate("n", inc, 3),
}


def around(node):
    collected = isinstance(node, Collector)
    source = Buffer("src", [1], same, collect=False) if collected else TaskDef("src", same, args=(1,))
    return of(source, node, TaskDef("z", same, args=(2,), dependencies=["n"]))


@pytest.mark.parametrize("kind", NODES)
def test_the_same_node_makes_the_same_workflow_and_another_one_another(kind):
    one, other = around(NODES[kind]()), around(NODES[kind]())
    assert one.fingerprint == other.fingerprint
    assert one == other
    assert one != around(TaskDef("n", inc))
    different = [around(NODES[other]()) for other in NODES if other != kind]
    assert all(one != another and one.fingerprint != another.fingerprint for another in different)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Buffer("n", [1], double), Buffer("n", [2, 3], double)),
        (Sequence("n", [inc], 1), Sequence("n", [inc], 2)),
        (Router("n", 1, {1: "z"}), Router("n", 2, {1: "z"})),
        (JournalNode("n", 1), JournalNode("n", 2)),
        (Gate("n", "sure?"), Gate("n", "really?")),
        (Timer("n", 1), Timer("n", at=2)),
        (Loop("n", inc, holds, 1), Loop("n", inc, holds, 2)),
        (SubWorkflow("n", of(TaskDef("a", inc)), {"p": 1}), SubWorkflow("n", of(TaskDef("a", inc)), {"p": 2})),
    ],
    ids=lambda node: type(node).__name__,
)
def test_a_nodes_values_are_no_part_of_the_fingerprint(one, other):
    assert around(one).fingerprint == around(other).fingerprint
    assert around(one) != around(other)


def test_fields_by_position_stand_where_they_are_written():
    gate = Gate("n", "sure?", 5, "skip")
    assert (gate.prompt, gate.timeout, gate.on_timeout) == ("sure?", 5, "skip")
    collector = Collector("n", "src", 2, 5.0, "cancel")
    assert (collector.source, collector.quorum, collector.timeout, collector.remaining) == ("src", 2, 5.0, "cancel")
    with pytest.raises(TypeError, match="prompt"):
        Gate("n", "sure?", prompt="sure?")
    with pytest.raises(TypeError, match="positional"):
        Gate("n", "sure?", 5, "skip", 6)


@pytest.mark.parametrize("kind", NODES)
def test_a_node_survives_pickling(kind):
    one = NODES[kind]()
    twin = pickle.loads(pickle.dumps(one))
    assert type(twin) is type(one)
    assert around(twin) == around(one)
    assert "n" in repr(one)


def test_nerv_plan_says_which_tasks_are_nodes():
    planned = around(Buffer("n", [1], double))
    assert "n (Buffer: double)" in "\n".join(plan.lines(planned))
    assert json.loads(plan.as_object(planned))["nodes"] == {"n": "Buffer"}


def test_the_same_target_by_decorator_and_by_hand_is_alike():
    one, other = around(Buffer("n", [1], doubled)), around(Buffer("n", [1], doubled))
    assert one == other
    assert around(Buffer("n", [1], double)) != around(Buffer("n", [1], inc))


def test_nodes_are_recorded_like_the_ones_made_by_hand():
    @workflow
    def body():
        return total(doubled.map(numbers(), max_parallel=2))

    by_hand = Workflow(
        "body",
        [
            TaskDef("numbers", numbers.fn),
            Buffer("doubled", Output("numbers"), doubled, 2),
            TaskDef("total", total.fn, args=(Output("doubled").attribute("results"),)),
        ],
        result=Output("total"),
    )
    assert body() == by_hand


@pytest.mark.parametrize("taken", ["b[0]", "b/x", "b]"])
def test_ids_of_dynamic_tasks_cant_be_taken(taken):
    with pytest.raises(WorkflowDefinitionError):
        TaskDef(taken, inc)


# ---- under many schedules -------------------------------------------------------------------------------------------

deep = Workflow("deep", [Buffer("in", [1, 2], inc), TaskDef("sum", sum, args=(Output("in"),))])
SHAPES = {
    "buffer": [Buffer("n", range(5), double), TaskDef("z", list, args=(Output("n"),))],
    "throttled": [Buffer("n", range(6), TaskDef("t", double, retry_policy=2), max_parallel=2)],
    "collecting": [Buffer("n", range(5), double, on_item_error="collect"), TaskDef("z", list, args=(Output("n"),))],
    "nested": [Buffer("n", range(3), deep, max_parallel=2, on_item_error="collect"), TaskDef("z", inc, args=(1,))],
    "collector": [
        Buffer("n", range(5), double, collect=False, on_item_error="collect"),
        Collector("c", "n", quorum=2, remaining="cancel", fallback=None),
    ],
    "steps": [Sequence("s", [inc, double], 1, fallback=0), Loop("l", inc, holds, 0), TaskDef("z", inc, args=(1,))],
    "late": [Gate("g", timeout=3, on_timeout="skip"), Timer("t", 5), TaskDef("z", inc, args=(1,), dependencies=["g"])],
    "undone": [Buffer("n", range(3), TaskDef("t", double, compensate=same)), TaskDef("z", list, args=(Output("n"),))],
}


@pytest.mark.parametrize("failure_policy", ["fail_fast", "continue"])
@pytest.mark.parametrize("shape", SHAPES)
def test_nodes_keep_the_engines_promises_under_many_schedules(shape, failure_policy):
    report = simulate(of(*SHAPES[shape]), seeds=100, failure_policy=failure_policy)
    assert report.statuses["COMPLETED"]
    assert report.statuses["FAILED"]
