"""Workflows of Dask's graphs and Dask's graphs of workflows: the same results either way."""

import collections

import pytest

pytest.importorskip("dask")

from dask._task_spec import DataNode, Task, TaskRef
from dask.delayed import delayed
from dask.local import get_sync
from dask.threaded import get
from dask.utils_test import add, inc

from nerv import Output, Param, TaskDef, Workflow, WorkflowDefinitionError, run
from nerv.interop.dask import from_dask, to_dask

Pair = collections.namedtuple("Pair", "one two")  # noqa: PYI024  that is the kind that Dask must rebuild


def arguments(*args, **kwargs):
    return args, kwargs


def graph():
    """Tuples, ints and brackets as keys, data, an alias, nested tasks and lists."""
    return {
        ("x", 0): 10,
        "y": (inc, ("x", 0)),
        "z": (add, "y", (inc, ("x", 0))),
        "a[0]/b": (sum, ["y", "z", [("x", 0)][0]]),
        1: "y",
        "1": 20,
    }


EXPECTED = {("x", 0): 10, "y": 11, "z": 22, "a[0]/b": 43, 1: 11, "1": 20}


# ---- from Dask -------------------------------------------------------------------------------------------------------


def test_a_graph_gives_the_same_as_a_workflow():
    execution = run(from_dask(graph(), name="mine"))
    assert execution.workflow_name == "mine"
    assert dict(execution.results) == {
        "('x', 0)": 10, "y": 11, "z": 22, "a%5B0%5D%2Fb": 43, "1": 11, "1-2": 20,
    }  # fmt: skip


def test_there_and_back_the_keys_and_results_are_the_same():
    back = from_dask(graph()).to_dask()
    assert list(back) == list(EXPECTED)
    assert dict(zip(EXPECTED, get(back, list(EXPECTED)), strict=True)) == EXPECTED


@pytest.mark.parametrize(
    ("keys", "result", "tasks"), [("y", 11, 2), (["y", [1]], [11, [11]], 3), (["z", "z"], [22, 22], 3)]
)
def test_only_what_the_keys_need_is_taken_over(keys, result, tasks):
    workflow = Workflow.from_dask(graph(), keys)
    assert len(workflow) == tasks
    assert run(workflow).result == result


def test_plain_calls_become_plain_tasks():
    """Their functions can be recognised, and sent to processes by name."""
    workflow = from_dask({"a": (inc, 1), "b": (arguments, "a", ["a", 2], (3,), {"k": 4})})
    assert workflow.tasks["a"].fn is inc
    assert workflow.tasks["b"].fn is arguments
    assert workflow.tasks["b"].outputs == ("a",)
    assert run(workflow)["b"] == ((2, [2, 2], (3,), {"k": 4}), {})


def test_a_function_that_would_be_taken_for_one_that_wants_the_context_isnt():
    assert run(from_dask({"a": (lambda ctx: ctx, 5)}))["a"] == 5


@pytest.mark.parametrize("value", [5, [1, [2]], {"k": (1,)}, None])
def test_a_delayed_object_gives_its_value(value):
    workflow = from_dask(delayed(arguments)(delayed(lambda x: x)(value), deep={"k": [delayed(inc)(1)]}))
    assert run(workflow).result == ((value,), {"deep": {"k": [2]}})


def test_an_array_gives_what_its_compute_gives():
    arrays = pytest.importorskip("dask.array")
    array = (arrays.arange(100, chunks=10) + 1).sum()
    assert run(from_dask(array)).result == array.compute() == 5050


def test_a_bag_gives_what_its_compute_gives():
    bags = pytest.importorskip("dask.bag")
    try:
        bag = bags.from_sequence(range(20), npartitions=4).map(inc)
    except ImportError:
        pytest.skip("bags need more than Dask alone")
    assert run(from_dask(bag)).result == list(range(1, 21))


def test_what_isnt_there_is_named():
    with pytest.raises(KeyError, match="nowhere"):
        from_dask(graph(), "nowhere")
    with pytest.raises(ValueError, match="Missing dependency b for dependents"):
        from_dask({"a": Task("a", inc, TaskRef("b"))})
    with pytest.raises(RuntimeError, match="Cycle detected"):
        from_dask({"a": (inc, "b"), "b": (inc, "a")})


# ---- to Dask ---------------------------------------------------------------------------------------------------------


def workflow():
    return Workflow("w", [
        TaskDef("p", lambda: {"k": Pair(1, 2)}),
        TaskDef(
            "q",
            arguments,
            args=(
                Output("p")["k"].attribute("one"),
                [Output("p"), 1],
                {"z": Output("p")["k"], "p": "p"},
                Pair(Output("p"), (3, Param("given"))),
                "p",
            ),
            kwargs={"key": Param("other", 9), "func": (1, Output("p"))},
        ),
        TaskDef("last", lambda: 5, dependencies=["q"]),
    ])  # fmt: skip


@pytest.mark.parametrize("scheduler", [get, get_sync])
def test_a_workflow_gives_the_same_as_a_graph(scheduler):
    params = {"given": 7}
    execution = run(workflow(), params)
    assert scheduler(to_dask(workflow(), params), ["p", "q", "last"]) == tuple(execution.results.values())
    assert execution["q"][0][4] == "p"


def test_what_only_orders_tasks_orders_them():
    done = []
    tasks = [
        TaskDef("a", lambda: done.append("a")),
        TaskDef("b", lambda: done.append("b"), dependencies=["a"]),
        TaskDef("c", lambda: done.append("c"), dependencies=["b"]),
    ]
    get(Workflow("w", tasks).to_dask(), "c")
    assert done == ["a", "b", "c"]


def test_values_of_dasks_own_kinds_stand_for_themselves():
    odd = DataNode("a", 1), TaskRef("b")
    tasks = [TaskDef("a", lambda: 1), TaskDef("b", lambda *given: given, args=odd, dependencies=["a"])]
    assert get(Workflow("w", tasks).to_dask(), "b") == odd


def test_what_a_graph_has_no_place_for_is_listed():
    async def waits():
        """A coroutine function."""

    tasks = [
        TaskDef("context", lambda ctx: 1),
        TaskDef("cleanup", lambda: 1, run_when="all_finished"),
        TaskDef("given", inc, args=(Param("x"),)),
        TaskDef("waits", waits),
        TaskDef("late", lambda: 1, timeout=5),
        TaskDef("fine", lambda: 1, priority=3, pool="process", description="what is left behind"),
    ]
    with pytest.raises(WorkflowDefinitionError) as caught:
        to_dask(Workflow("w", tasks))
    assert [problem.task_id for problem in caught.value.problems] == ["context", "cleanup", "given", "waits", "late"]
    assert "run_when='all_finished'" in str(caught.value)
    assert "needs the param 'x'" in str(caught.value)
