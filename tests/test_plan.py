"""A plan says what a graph allows: levels, paths and bounds; the partitioner plans and runs in one object."""

from itertools import pairwise

import networkx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerv import (
    ConfigError,
    CycleError,
    ExecutionPlan,
    Output,
    Param,
    QuantumPartitioner,
    TaskDef,
    TaskResult,
    WorkflowDefinitionError,
)
from tests.handshake import Gauge, boom, flow, give


def needs(task_id, *others, **fields):
    """A task that depends on others."""
    return TaskDef(task_id, give, args=(1,), dependencies=others, **fields)


def diamond():
    """The diamond a, b and c, d."""
    return [needs("a"), needs("b", "a"), TaskDef("c", give, args=(Output("a"),)), needs("d", "b", "c")]


@st.composite
def graphs(draw):
    """Tasks in any order, each depending on some that have a lower number."""
    count = draw(st.integers(0, 14))
    edges = [draw(st.sets(st.integers(0, n - 1), max_size=4)) if n else set() for n in range(count)]
    tasks = [needs(str(n), *map(str, edges[n]), priority=draw(st.integers(0, 3))) for n in range(count)]
    return draw(st.permutations(tasks))


def test_levels_put_each_task_right_after_its_last_dependency():
    """A task is in the first level after all that it needs."""
    plan = flow(*diamond(), needs("e", "a", "d"), needs("free")).plan()
    assert plan.levels == [["a", "free"], ["b", "c"], ["d"], ["e"]]
    assert plan.max_parallelism == 2


def test_within_a_level_priority_comes_first_then_definition_order():
    """Never the hash of an id."""
    tasks = [needs("z"), needs("low", priority=0), needs("y"), needs("high", priority=2), needs("x", priority=2)]
    assert flow(*tasks).plan().levels == [["high", "x", "z", "y", "low"]]


def test_dependencies_and_dependents_mirror_each_other():
    """Every edge is seen from both sides; leaves and roots have empty entries."""
    plan = flow(*diamond()).plan()
    assert dict(plan.dependencies) == {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")}
    assert {task: sorted(after) for task, after in plan.dependents.items()} == {
        "a": ["b", "c"],
        "b": ["d"],
        "c": ["d"],
        "d": [],
    }
    assert list(plan.task_map) == ["a", "b", "c", "d"]
    assert plan.task_map["a"].fn is give


@given(graphs())
def test_levels_paths_and_edges_agree_with_networkx(tasks):
    """Generations, longest path and edges are the same as computed by an independent library."""
    plan = flow(*tasks).plan()
    graph = networkx.DiGraph()
    graph.add_nodes_from(task.id for task in tasks)
    graph.add_edges_from((need, task.id) for task in tasks for need in task.dependencies)
    assert [set(level) for level in plan.levels] == [set(level) for level in networkx.topological_generations(graph)]
    assert set(plan.to_networkx().edges) == set(graph.edges)
    path = plan.critical_path()
    assert len(path) == (networkx.dag_longest_path_length(graph) + 1 if tasks else 0)
    assert all(graph.has_edge(*edge) for edge in pairwise(path))


@given(graphs(), st.integers(1, 4), st.randoms())
def test_no_schedule_is_shorter_than_the_lower_bound(tasks, workers, random):
    """A greedy schedule in any order takes at least as long."""
    plan = flow(*tasks).plan()
    durations = {task.id: float(random.randint(0, 5)) for task in tasks}
    free, end = [0.0] * workers, {}
    for level in plan.levels:
        for task in level:
            worker = min(range(workers), key=free.__getitem__)
            start = max([free[worker], *(end[need] for need in plan.dependencies[task])])
            free[worker] = end[task] = start + durations[task]
    bound = plan.lower_bound(durations, workers)
    assert bound <= max(free) + 1e-9
    assert bound >= sum(durations.values()) / workers - 1e-9
    assert bound >= sum(durations[task] for task in plan.critical_path(durations)) - 1e-9


def test_the_critical_path_is_the_chain_that_takes_longest():
    """In seconds if they are given (none means 0), else in tasks."""
    plan = flow(*diamond(), needs("long")).plan()
    assert plan.critical_path() in (["a", "b", "d"], ["a", "c", "d"])
    assert plan.critical_path({"a": 1, "b": 1, "c": 5, "d": 1}) == ["a", "c", "d"]
    assert plan.critical_path({"long": 100}) == ["long"]
    assert flow().plan().critical_path() == []


def test_the_lower_bound_is_path_or_work_whichever_is_more():
    """Four 1-second tasks on two workers need 2 s, a chain of three needs 3 s on any number."""
    four = flow(*(needs(str(n)) for n in range(4))).plan()
    chain = flow(needs("a"), needs("b", "a"), needs("c", "b")).plan()
    assert four.lower_bound({str(n): 1.0 for n in range(4)}, 2) == 2.0
    assert four.lower_bound({str(n): 1.0 for n in range(4)}, 100) == 1.0
    assert chain.lower_bound(dict.fromkeys("abc", 1.0), 8) == 3.0
    assert flow().plan().lower_bound({}, 1) == 0.0


def test_wrong_figures_are_refused():
    """Unknown ids with near misses, negative and NaN durations, and no workers."""
    plan = flow(*diamond(), needs("extract")).plan()
    with pytest.raises(KeyError, match="extract"):
        plan.critical_path({"extrakt": 1})
    for seconds in (-1, float("nan"), "2"):
        with pytest.raises(ValueError, match="'a'"):
            plan.lower_bound({"a": seconds}, 1)
    for workers in (0, -1, 1.5, True, None):
        with pytest.raises(ValueError, match="workers"):
            plan.lower_bound({}, workers)


def test_a_plans_graph_is_the_callers_own():
    """to_networkx gives a new graph each time, which may be changed."""
    plan = flow(*diamond()).plan()
    plan.to_networkx().remove_node("a")
    assert len(plan.to_networkx()) == 4
    assert plan.to_networkx().nodes["a"]["task"].id == "a"


def test_pictures_of_the_plan():
    """DOT and Mermaid have every node and edge."""
    plan = flow(*diamond()).plan()
    assert plan.to_dot().count("->") == 4
    assert plan.to_mermaid().count("-->") == 4
    assert isinstance(plan, ExecutionPlan)
    assert "4 tasks in 3 levels" in repr(plan)


# ---- the partitioner -------------------------------------------------------------------------------------------------


def test_the_partitioner_analyses_and_plans():
    """From tasks or from a workflow."""
    partitioner = QuantumPartitioner()
    assert partitioner.analyze_dependencies(diamond()) == {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}
    for given_tasks in (diamond(), flow(*diamond()), iter(diamond())):
        assert partitioner.create_execution_plan(given_tasks).levels == [["a"], ["b", "c"], ["d"]]


def test_definition_errors_still_raise():
    """Planning and running what can't be is the same error as making the Workflow."""
    partitioner = QuantumPartitioner()
    for act in (partitioner.analyze_dependencies, partitioner.create_execution_plan, partitioner.execute_workflow):
        with pytest.raises(CycleError):
            act([needs("a", "b"), needs("b", "a")])
    with pytest.raises(WorkflowDefinitionError, match="'p'"):
        partitioner.execute_workflow([TaskDef("a", give, args=(Param("p"),))])


def test_the_partitioner_runs_and_failures_are_results():
    """id -> TaskResult for every task, in definition order; a failure isn't raised."""
    tasks = [TaskDef("ok", lambda: 5), TaskDef("bad", boom, dependencies=["ok"]), needs("after", "bad")]
    results = QuantumPartitioner(max_workers=2).execute_workflow(tasks)
    assert list(results) == ["ok", "bad", "after"]
    assert all(isinstance(result, TaskResult) for result in results.values())
    assert results["ok"].result == 5
    assert [results[task].status.name for task in results] == ["COMPLETED", "FAILED", "SKIPPED"]
    assert isinstance(results["bad"].error, ValueError)
    assert results["after"].skipped_because == "bad"


def test_the_context_is_the_params():
    """Tasks read it through ctx; the caller's dict isn't touched."""
    mine = {"x": 3}
    results = QuantumPartitioner().execute_workflow([TaskDef("a", lambda ctx: ctx["x"])], context=mine)
    assert results["a"].result == 3
    assert mine == {"x": 3}


def test_max_workers_is_how_many_run_at_once():
    """One worker runs one at a time; a senseless number is refused."""
    gauge = Gauge()

    def work():
        with gauge:
            pass

    QuantumPartitioner(max_workers=1).execute_workflow([TaskDef(str(n), work) for n in range(50)])
    assert (gauge.most, gauge.total) == (1, 50)
    for wrong in (0, -1, True, "two", 1.5):
        with pytest.raises(ConfigError, match="max_workers"):
            QuantumPartitioner(max_workers=wrong)
