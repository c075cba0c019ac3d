"""A graph becomes a Workflow and comes back the same; what is done stays done on the way, in both directions."""

import asyncio
import pickle
from typing import NamedTuple

import pytest
import taskmap as original

import nerv
from nerv import Output, Param, TaskDef, TaskPriority, TaskStatus, Workflow, WorkflowDefinitionError
from nerv.interop import taskmap
from tests.handshake import python
from tests.interop import work


class Point(NamedTuple):
    x: object
    y: object


@pytest.fixture
def chain():
    """A graph of three tasks, the first of which is done."""
    return taskmap.create_graph(
        {"a": pytest.fail, "b": work.add_ten, "c": lambda x, y: (x, y)},
        {"a": [], "b": ["a"], "c": ["b", "a"]},
        done=["a"],
        results={"a": 1},
        name="chain",
    )


def asking(**fields):
    return Workflow("asking", [TaskDef("a", work.five), TaskDef("b", work.five, **fields)])


# ---- to_workflow ----------------------------------------------------------------------------------------------------


def test_a_half_run_graph_goes_on_in_nerv(chain):
    execution = nerv.run(taskmap.to_workflow(chain))
    assert execution.results == {"a": 1, "b": 11, "c": (11, 1)}
    assert execution.workflow_name == "chain"
    assert chain.done == ["a"]


def test_a_graph_that_taskmap_itself_has_half_run_goes_on_in_nerv():
    graph = original.create_graph(
        {"a": work.five, "b": work.add_ten, "c": work.add_ten}, {"a": [], "b": ["a"], "c": ["b"]}, name="half"
    )
    original.run_task(original.run_task(graph, "a"), "b")
    graph.funcs.update(a=pytest.fail, b=pytest.fail)
    assert nerv.run(taskmap.to_workflow(graph)).result == 25


def test_results_go_by_reference_and_none_is_one():
    value = object()
    graph = taskmap.create_graph(
        {"a": pytest.fail, "b": lambda: None, "c": lambda x, y: (x, y)},
        {"a": [], "b": [], "c": ["b", "a"]},
        done=["a"],
        results={"a": value},
    )
    assert nerv.run(taskmap.to_workflow(graph)).result == (None, value)


def test_coroutine_functions_stay_what_they_are():
    graph = taskmap.create_graph({"a": work.five, "ctx": work.add_ten_async}, {"a": [], "ctx": ["a"]})
    assert nerv.run(taskmap.to_workflow(graph)).result == 15
    assert asyncio.run(nerv.arun(taskmap.to_workflow(graph))).result == 15


def test_a_parameter_called_ctx_is_given_the_result_here_too():
    graph = taskmap.create_graph({"a": work.five, "b": lambda ctx: ctx + 1}, {"a": [], "b": ["a"]})
    assert nerv.run(taskmap.to_workflow(graph)).result == 6


def test_io_bound_tasks_go_first_and_names_are_kept_where_ids_cannot_be():
    graph = taskmap.create_graph(
        dict.fromkeys(["a/b", "c[1]"], work.five), {"a/b": [], "c[1]": ["a/b"]}, io_bound=["c[1]"]
    )
    tasks = taskmap.to_workflow(graph).tasks
    assert [(task.id, task.name, task.priority) for task in tasks.values()] == [
        ("a%2Fb", "a/b", TaskPriority.MEDIUM),
        ("c%5B1%5D", "c[1]", TaskPriority.HIGH),
    ]
    assert list(tasks) == [taskmap.task_id(name) for name in graph.funcs]


def test_failures_stay_failures_until_they_are_reset():
    error = ValueError("boom")
    graph = taskmap.create_graph(
        {"a": lambda: 1 / 0, "b": pytest.fail, "c": lambda _: 6, "x": work.five},
        {"a": [], "b": ["a"], "c": ["b"], "x": []},
        done=["a", "b"],
        results={"a": error, "b": "Ancestor task a failed; task not run"},
    )
    workflow = taskmap.to_workflow(graph)
    with pytest.raises(nerv.WorkflowFailedError) as failed:
        nerv.run(workflow)
    assert failed.value.__cause__ is error
    execution = nerv.run(workflow, failure_policy="continue", raise_on_failure=False)
    assert execution.results == {"x": 5}
    assert {task: execution.task(task).status for task in "abc"} == {
        "a": TaskStatus.FAILED, "b": TaskStatus.SKIPPED, "c": TaskStatus.SKIPPED,
    }  # fmt: skip
    graph.funcs.update(a=work.five, b=work.add_ten)
    assert nerv.run(taskmap.to_workflow(taskmap.reset_failed_tasks(graph))).results == {"a": 5, "b": 15, "c": 6, "x": 5}


def test_a_done_task_stays_done_whatever_became_of_what_it_needed():
    graph = taskmap.create_graph(
        {"a": work.broken, "b": pytest.fail, "c": work.add_ten}, {"a": [], "b": ["a"], "c": ["b"]}, results={"b": 1}
    )
    taskmap.mark_as_done(taskmap.run_task(graph, "a"), "b")
    graph.results["b"] = 1
    execution = nerv.run(taskmap.to_workflow(graph), failure_policy="continue", raise_on_failure=False)
    assert execution.results == {"b": 1, "c": 11}


def test_a_missing_result_is_named_before_anything_runs(chain):
    taskmap.mark_as_done(chain, "b")
    with pytest.raises(taskmap.GraphError, match="task 'c' needs the result of 'b'"):
        taskmap.to_workflow(chain)


def test_a_graph_without_a_name_or_tasks_is_a_workflow_too():
    assert len(taskmap.to_workflow(taskmap.create_graph({}, {}, name=""))) == 0


def test_a_converted_workflow_travels(chain):
    chain.funcs.update(a=work.five, c=work.total)
    workflow = pickle.loads(pickle.dumps(taskmap.to_workflow(chain)))
    assert nerv.run(workflow).result == 12


# ---- there and back -------------------------------------------------------------------------------------------------


def test_a_graph_comes_back_the_same(chain):
    chain.io_bound.append("b")
    back = taskmap.to_taskmap(taskmap.to_workflow(chain))
    assert back == chain
    assert back.dependencies["c"] is not chain.dependencies["c"]
    assert taskmap.run(back).results == {"a": 1, "b": 11, "c": (11, 1)}
    assert "b" not in chain.results


def test_a_graph_with_failures_unusual_names_and_missing_results_comes_back_the_same():
    graph = taskmap.create_graph(
        {
            "a/b": lambda: 1 / 0, "c": work.five, "ctx": lambda ctx: ctx, "d": lambda x=1: x, "e": work.five,
            "f": work.five,
        },
        {"a/b": [], "c": ["a/b"], "ctx": ["c"], "e": [], "d": ["e"], "f": []},
    )  # fmt: skip
    taskmap.run_task(graph, "a/b")
    graph.results["f"] = ValueError("a value")
    taskmap.mark_as_done(graph, ["e", "f"])
    back = taskmap.to_taskmap(taskmap.to_workflow(graph))
    assert (set(back.done), back.results) == (set(graph.done), graph.results)
    assert (back.funcs, back.dependencies) == (graph.funcs, graph.dependencies)
    assert back.failed == graph.failed == {"a/b": graph.results["a/b"]}


def test_an_execution_becomes_a_graph_with_what_it_has_done(chain):
    chain.funcs["c"] = work.broken
    execution = nerv.run(taskmap.to_workflow(chain), raise_on_failure=False)
    graph = taskmap.to_taskmap(execution)
    assert graph.results == {"a": 1, "b": 11, "c": execution.failures["c"]}
    assert graph.failed.keys() == {"c"}
    graph.funcs["c"] = work.total
    assert taskmap.run(taskmap.reset_failed_tasks(graph)).results["c"] == 12


def test_a_task_that_was_done_without_a_result_has_none_after_the_execution_either():
    graph = taskmap.create_graph({"a": pytest.fail, "b": lambda x=3: x}, {"a": [], "b": ["a"]}, done=["a"])
    back = taskmap.to_taskmap(nerv.run(taskmap.to_workflow(graph)))
    assert (back.done, back.results) == (["a", "b"], {"b": 3})


def test_an_execution_that_was_stopped_goes_on_in_taskmap():
    workflow = Workflow(
        "stopped",
        [
            TaskDef("a", work.five, pool="inline"),
            TaskDef("b", lambda x, by: x + by, args=(Output("a"), Param("by")), pool="inline"),
            TaskDef("c", work.add_ten, args=(Output("b"),), pool="inline"),
        ],
    )

    def stop(event):
        if event.type is nerv.EventType.TASK_STARTED and event.task_id == "b":
            execution.cancel()

    with nerv.WorkflowManager() as manager:
        execution = manager.start(workflow, {"by": 2}, on_event=stop)
        execution.wait()
        graph = taskmap.to_taskmap(execution)
    assert graph.results["a"] == 5
    assert "c" not in graph.done or graph.results["c"] == 17
    assert original.run(graph).results == {"a": 5, "b": 7, "c": 17}


# ---- to_taskmap -----------------------------------------------------------------------------------------------------


def test_plain_functions_are_handed_over_as_they_are():
    workflow = Workflow(
        "plain",
        [TaskDef("a", work.five), TaskDef("b", work.add_ten, args=(Output("a"),)), TaskDef("c", work.add_ten_async)],
        description="forgotten",
    )
    graph = taskmap.to_taskmap(workflow)
    assert graph.funcs == {"a": work.five, "b": work.add_ten, "c": work.add_ten_async}
    assert graph.dependencies == {"a": [], "b": ["a"], "c": []}
    assert (graph.done, graph.results, graph.io_bound, graph.name) == ([], {}, ["c"], "plain")


def test_every_way_to_say_what_a_task_is_given_is_understood():
    def given(*args, **kwargs):
        return args, kwargs

    workflow = Workflow(
        "all ways",
        [
            TaskDef("a", lambda: {"x": [1, 2]}),
            TaskDef("b", work.five, dependencies=["a"]),
            TaskDef("inner", given, args=(Output("a")["x"][1], [Output("b"), 7])),
            TaskDef("named", given, kwargs={"point": Point(Output("b"), Param("p")), "q": Param("q", default=3)}),
            TaskDef("default", given, args=(Output("b", default=1), Output("b")), dependencies=["inner"]),
            TaskDef("method", "x-{}".format, args=(Output("a")["x"],)),
        ],
    )
    expected = dict(nerv.run(workflow, {"p": 9}).results)
    assert taskmap.run(taskmap.to_taskmap(workflow, {"p": 9})).results == expected
    assert taskmap.run_with_taskmap(workflow, {"p": 9}) == expected


def test_bound_coroutine_functions_are_awaited():
    workflow = Workflow("bound", [TaskDef("a", work.add_ten_async, args=(1,)), TaskDef("b", work.five)])
    graph = taskmap.to_taskmap(workflow)
    assert taskmap.run_async(graph).results == {"a": 11, "b": 5}


def test_bound_functions_go_to_worker_processes():
    first = TaskDef("a", work.add_ten, args=(1,))
    second = TaskDef("b", work.total, args=(Output("a"),), kwargs={"y": Param("y")})
    graph = taskmap.to_taskmap(Workflow("bound", [first, second]), {"y": 4})
    assert taskmap.run_parallel(graph, nprocs=1).results == {"a": 11, "b": 15}


def test_what_taskmap_has_not_got_is_listed_task_by_task():
    def wants(ctx):
        return ctx

    workflow = Workflow(
        "too much",
        [
            TaskDef("a", work.five, run_when="all_finished"),
            TaskDef("b", wants),
            TaskDef("c", work.add_ten, args=(Param("day"),)),
            TaskDef("fine", work.five, priority=3, pool="inline", metadata=nerv.TaskMetadata(creator="me")),
        ],
    )
    with pytest.raises(WorkflowDefinitionError) as error:
        taskmap.to_taskmap(workflow)
    assert [problem.task_id for problem in error.value.problems] == ["a", "b", "c"]
    text = str(error.value)
    assert "run_when='all_finished'" in text
    assert "the context" in text
    assert "the param 'day'" in text


def test_a_kind_of_task_that_taskmap_does_not_know_is_refused():
    class Node(TaskDef, frozen=True, eq=False):
        pass

    with pytest.raises(WorkflowDefinitionError, match="task 'n' is a Node; taskmap has no nodes"):
        taskmap.to_taskmap(Workflow("nodes", [Node("n", work.five)]))


def test_an_execution_is_given_no_params():
    with pytest.raises(TypeError, match="has params of its own"):
        taskmap.to_taskmap(nerv.run(asking()), {"a": 1})


# ---- the oracle -----------------------------------------------------------------------------------------------------


def test_the_oracle_runs_in_processes_too():
    """In an interpreter without distributed: beside it, what dill leaves to the collector crashes CPython 3.12.1."""
    code = """
        import warnings
        from nerv import TaskDef, Workflow
        from nerv.interop import taskmap
        from tests.interop import work

        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        workflow = Workflow("oracle", [TaskDef("a", work.own_pid), TaskDef("b", work.add_ten, args=(1,))])
        results = taskmap.run_with_taskmap(workflow, processes=1)
        print(results["b"], results["a"] != work.own_pid())
    """
    assert python(code)[0] == "11 True\n"


def test_the_oracle_speaks_as_taskmap_does_and_prints_nothing(capfd):
    workflow = Workflow("oracle", [TaskDef("a", work.broken), TaskDef("b", work.add_ten, args=(Output("a"),))])
    results = taskmap.run_with_taskmap(workflow)
    assert isinstance(results["a"], KeyError)
    assert results["b"] == "Ancestor task a failed; task not run"
    assert capfd.readouterr() == ("", "")


def test_the_oracle_says_so_when_taskmap_loses_a_none():
    tasks = [TaskDef("a", work.nothing), TaskDef("b", work.pair, args=(Output("a"), 1))]
    assert "drops Nones" in str(taskmap.run_with_taskmap(Workflow("none", tasks))["b"])


def test_the_oracle_refuses_coroutine_functions():
    with pytest.raises(WorkflowDefinitionError, match="task 'a' is a coroutine function"):
        taskmap.run_with_taskmap(Workflow("async", [TaskDef("a", work.own_pid_async)]))
