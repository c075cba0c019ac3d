"""Two engines that share no code agree: nerv's results are those of taskmap's own `run`, on random graphs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nerv
from nerv import Output, TaskDef, Workflow
from nerv.interop import taskmap

FAILS = "fails"
IDS = "abcdefghijkl"


class Task:
    """A function that says who it is and what it was given; or one that fails."""

    def __init__(self, name, fails):
        self.name = name
        self.error = RuntimeError(name) if fails else None
        self.calls = 0

    def __call__(self, *values, **named):
        self.calls += 1
        if self.error is not None:
            raise self.error
        return (self.name, values, tuple(sorted(named.items())))


@st.composite
def graphs(draw, *, failing=True):
    """Tasks in definition order: id -> (what it depends on, whether it fails)."""
    size = draw(st.integers(0, len(IDS)))
    order = draw(st.permutations(IDS[:size]))
    tasks = {}
    for index, task in enumerate(order):
        needs = draw(st.lists(st.sampled_from(order[:index]), max_size=4)) if index else []
        tasks[task] = (needs, failing and draw(st.integers(0, 5)) == 0)
    return {task: tasks[task] for task in draw(st.permutations(order))}


def functions(tasks):
    return {task: Task(task, fails) for task, (_, fails) in tasks.items()}


def taskmap_graph(tasks, funcs, **known):
    return taskmap.create_graph(funcs, {task: needs for task, (needs, _) in tasks.items()}, **known)


def closed(tasks, chosen):
    """The chosen tasks and all that they need."""
    found, todo = set(), list(chosen)
    while todo:
        task = todo.pop()
        if task not in found:
            found.add(task)
            todo += tasks[task][0]
    return found


def without_culprits(results):
    """Which of several failed ancestors taskmap names depends on the order in which they failed."""
    return {
        task: NOT_RUN if isinstance(result, str) and result.startswith("Ancestor task") else result
        for task, result in results.items()
    }


NOT_RUN = "not run"


def said_by(execution):
    """An execution's results in taskmap's words."""
    results = dict.fromkeys(execution.workflow.tasks, NOT_RUN)
    return results | dict(execution.results) | dict(execution.failures)


@given(graphs(), st.data())
def test_nerv_and_taskmap_agree_on_a_workflow(tasks, data):
    definitions = []
    funcs = functions(tasks)
    for task, (needs, _) in tasks.items():
        positional, named, order = [], {}, []
        for need in needs:
            how = data.draw(st.sampled_from(["argument", "keyword", "in a list", "order"]))
            if how == "argument":
                positional.append(Output(need))
            elif how == "in a list":
                positional.append([Output(need), task])
            elif how == "keyword":
                named[need] = Output(need)
            else:
                order.append(need)
        definitions.append(TaskDef(task, funcs[task], args=tuple(positional), kwargs=named, dependencies=order))
    workflow = Workflow("random", definitions)
    expected = without_culprits(taskmap.run_with_taskmap(workflow))
    execution = nerv.run(workflow, workers=2, failure_policy="continue", raise_on_failure=False)
    assert said_by(execution) == expected


@given(graphs())
def test_our_run_and_taskmaps_agree_on_a_graph(tasks):
    import taskmap as original

    ours, theirs = taskmap_graph(tasks, functions(tasks)), taskmap_graph(tasks, functions(tasks))
    for task, fn in ours.funcs.items():
        fn.error = theirs.funcs[task].error
    taskmap.run(ours)
    original.run(theirs)
    assert without_culprits(ours.results) == without_culprits(theirs.results)
    assert set(ours.done) == set(theirs.done)
    assert len(ours.done) == len(tasks)
    assert taskmap.reset_failed_tasks(ours).results == original.reset_failed_tasks(theirs).results
    assert set(ours.done) == set(theirs.done)
    assert ours.failed == {}


@given(graphs(), st.data())
def test_a_half_run_graph_goes_on_to_the_same_end(tasks, data):
    import taskmap as original

    whole = original.run(taskmap_graph(tasks, functions(tasks)))
    chosen = data.draw(st.sets(st.sampled_from(sorted(tasks)))) if tasks else set()
    funcs = functions(tasks)
    half = taskmap_graph(tasks, funcs, done=[])
    for task in sorted(closed(tasks, chosen)):
        half.results[task] = whole.results[task]
        half.done.append(task)
    half.failures = None  # as in a graph that taskmap has run: its exceptions are its failures
    workflow = taskmap.to_workflow(half)
    assert set(taskmap.to_taskmap(workflow).done) >= set(half.done)
    execution = nerv.run(workflow, workers=2, failure_policy="continue", raise_on_failure=False)
    assert without_errors(said_by(execution)) == without_errors(without_culprits(whole.results))
    assert all(funcs[task].calls == 0 for task in half.done)
    taskmap.run(half)
    assert without_errors(without_culprits(half.results)) == without_errors(without_culprits(whole.results))
    assert all(fn.calls <= 2 for fn in funcs.values())


def without_errors(results):
    """Exceptions of two runs are two objects: what they say is compared."""
    return {task: repr(result) if isinstance(result, Exception) else result for task, result in results.items()}


@given(graphs(failing=False))
def test_there_and_back_is_the_same_graph(tasks):
    graph = taskmap_graph(tasks, functions(tasks))
    assert taskmap.to_taskmap(taskmap.to_workflow(graph)) == graph


@pytest.mark.parametrize("shape", ["chain", "wide"])
def test_large_graphs_end_the_same(shape):
    size = 300
    needs = {str(index): [str(index - 1)] if index and shape == "chain" else [] for index in range(size)}
    funcs = {task: lambda *values: sum(values) + 1 for task in needs}
    ours = taskmap.run(taskmap.create_graph(funcs, needs)).results
    assert ours == taskmap.run_with_taskmap(taskmap.to_workflow(taskmap.create_graph(funcs, needs)))
