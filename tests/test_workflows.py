"""A Workflow is immutable and validated once: one error lists everything that is wrong with it."""

import functools
import pickle
from itertools import pairwise, permutations

import networkx
import pytest

from nerv import CycleError, Output, Param, TaskDef, Workflow, WorkflowDefinitionError, run, task
from tests.handshake import flow, give, plain, python


def refusal(*tasks, **options):
    """The one error that making the workflow raises."""
    with pytest.raises(WorkflowDefinitionError) as caught:
        flow(*tasks, **options)
    return caught.value


def needs(task_id, *others, fn=give, **fields):
    """A task that depends on others."""
    return TaskDef(task_id, fn, args=(1,), dependencies=others, **fields)


# ---- what is wrong ---------------------------------------------------------------------------------------------------


def test_all_problems_come_in_one_error():
    """Each has a task, a kind and a message that says what to do; the text of the error holds them all."""
    error = refusal(
        needs("dup"),
        needs("dup"),
        needs("extract"),
        needs("u", "extrakt"),
        TaskDef("v", give, args=(Output("phantom"),)),
        needs("self", "self"),
        needs("c1", "c2"),
        needs("c2", "c1"),
        TaskDef("nofn"),
        result=Output("ghost"),
    )
    found = {(problem.task_id, problem.kind) for problem in error.problems}
    assert found == {
        ("dup", "duplicate"),
        ("u", "unknown"),
        ("v", "unknown"),
        ("self", "self loop"),
        ("c1", "cycle"),
        ("c2", "cycle"),
        ("nofn", "no function"),
        (None, "result"),
    }
    assert all(problem.message in str(error) for problem in error.problems)
    assert "did you mean 'extract'" in str(error)
    assert "for 8 reasons" in str(error)
    assert isinstance(error, CycleError)


@pytest.mark.parametrize("ids", [["a"], ["a", "b"], ["a", "b", "c", "d"], [str(n) for n in range(500)]], ids=len)
def test_a_cycle_is_shown_as_its_ring(ids):
    """The ring is in dependency order, each needed by the next, whatever hangs on it before and behind."""
    if len(ids) == 1:
        assert refusal(needs("a", "a")).problems[0].kind == "self loop"
        return
    ring = [needs(this, before) for before, this in zip([ids[-1], *ids[:-1]], ids, strict=True)]
    error = refusal(needs("tail1", ids[0]), needs("tail2", "tail1"), *ring, needs("head"), needs("x", "head", ids[-1]))
    assert isinstance(error, CycleError)
    assert sorted(error.cycle) == sorted(ids)
    start = ids.index(error.cycle[0])
    assert list(error.cycle) == ids[start:] + ids[:start]
    assert {problem.task_id for problem in error.problems} == set(ids)
    assert " -> ".join(map(repr, [*error.cycle, error.cycle[0]])) in str(error)


def test_a_long_cycle_makes_no_endless_text():
    """It is shown whole once; of the others in it each problem names the neighbours."""
    ring = [needs(f"t{i}", f"t{(i - 1) % 3000}") for i in range(3000)]
    error = refusal(*ring)
    assert len(error.cycle) == len(error.problems) == 3000
    assert len(str(error)) < 1_000_000
    by_task = {problem.task_id: problem.message for problem in error.problems}
    some = error.cycle[1500]
    before, after = error.cycle[1499], error.cycle[1501]
    assert f"{before!r} -> {some!r} -> {after!r};" in by_task[some]


def test_a_cycle_through_outputs_is_a_cycle():
    """A reference anywhere in the arguments is an edge."""
    back = TaskDef("b", give, kwargs={"v": Output("a")})
    error = refusal(TaskDef("a", give, args=([{"k": Output("b")["x"]}],)), back)
    assert set(error.cycle) == {"a", "b"}


def test_a_task_that_takes_its_own_output_is_refused():
    """The self loop is named."""
    error = refusal(TaskDef("me", give, kwargs={"v": [Output("me")["k"]]}))
    assert [(problem.task_id, problem.kind) for problem in error.problems] == [("me", "self loop")]


@pytest.mark.parametrize("tasks", [None, 5, "abc", TaskDef("a", give), [5], ["a"], [None], [give]], ids=plain)
def test_only_taskdefs_make_a_workflow(tasks):
    """The error shows what was given and what to write."""
    with pytest.raises(WorkflowDefinitionError, match="TaskDef"):
        Workflow("wf", tasks)


@pytest.mark.parametrize("options", [{"name": ""}, {"name": 5}, {"description": 5}], ids=str)
def test_names_and_descriptions_are_text(options):
    """A wrong one is named."""
    with pytest.raises(WorkflowDefinitionError, match=next(iter(options))):
        Workflow(**{"name": "wf", "tasks": [needs("a")], **options})


def test_thousands_of_problems_are_told_at_once():
    """Near misses are looked for while that is quick, so that the error isn't slower than the mistake."""
    error = refusal(*(needs(f"task-{n}", f"tsk-{n + 1}") for n in range(1000)))
    assert len(error.problems) == 1000
    assert "did you mean" in error.problems[0].message


# ---- what it shows ---------------------------------------------------------------------------------------------------


def test_tasks_are_a_mapping_in_definition_order():
    """Whatever the ids hash to; it can't be changed."""
    ids = ["t5", "t3", "ü", "t9", "t1", "t", "t0"]
    workflow = flow(*(needs(name) for name in ids))
    assert list(workflow.tasks) == ids
    assert len(workflow) == 7
    assert workflow.tasks["ü"].id == "ü"
    with pytest.raises(TypeError):
        workflow.tasks["new"] = needs("new")


def test_the_order_of_definition_changes_numbers_but_no_edge():
    """Tasks that come after all that they need are numbered by a shorter way than others."""
    tasks = [
        TaskDef("a", give, args=(1,)),
        TaskDef("b", give, args=(Output("a"),)),
        TaskDef("c", give, args=(Output("a"),), dependencies=["b", "a"]),
        TaskDef("d", give, args=([Output("c"), Output("b")],)),
    ]
    edges = {"a": (), "b": ("a",), "c": ("b", "a"), "d": ("c", "b")}
    for order in permutations(tasks):
        made = Workflow("w", order)
        ids = [task.id for task in order]
        assert made.ids == ids
        assert [made.number_of(task_id) for task_id in ids] == [0, 1, 2, 3]
        assert {
            ids[number]: tuple(ids[need] for need in needs) for number, needs in enumerate(made.numbers.dependencies)
        } == edges
        assert [ids[number] for number in made.numbers.order] == ["a", "b", "c", "d"]


def test_a_workflow_can_not_be_changed():
    """No attribute can be set or deleted, and a list that it was made of may change."""
    tasks = [needs("a")]
    workflow = Workflow("wf", tasks)
    tasks.append(needs("b"))
    assert list(workflow.tasks) == ["a"]
    with pytest.raises(AttributeError, match="'wf' can't be changed"):
        workflow.name = "other"
    with pytest.raises(AttributeError, match="can't be changed"):
        del workflow.name


def test_the_graph_is_a_frozen_networkx_graph():
    """Edges go from a dependency to its dependent; it can't be changed."""
    graph = flow(needs("a"), needs("b", "a"), TaskDef("c", give, args=(Output("b"),), dependencies=["a"])).graph
    assert isinstance(graph, networkx.DiGraph)
    assert set(graph.edges) == {("a", "b"), ("b", "c"), ("a", "c")}
    assert networkx.is_frozen(graph)
    with pytest.raises(networkx.NetworkXError):
        graph.add_node("d")


def test_a_selection_is_what_the_targets_need():
    """All that they depend on, in definition order, under the same name; targets are ids, TaskDefs or Outputs."""
    tasks = [needs("a"), needs("b", "a"), needs("c", "b"), needs("x"), needs("y", "x", "a")]
    workflow = flow(*tasks, name="whole")
    assert list(workflow.select(["b"]).tasks) == ["a", "b"]
    assert list(workflow.select([Output("y"), tasks[1]]).tasks) == ["a", "b", "x", "y"]
    assert workflow.select(["c"]).name == "whole"
    assert len(workflow.select([])) == 0
    assert len(workflow) == 5


def test_a_selection_keeps_the_result_that_it_can_make():
    """A result that needs more than what was selected gives way to the sinks'."""
    tasks = needs("a", fn=lambda _: 1), needs("b", "a", fn=lambda _: 2), needs("c", fn=lambda _: 3)
    workflow = flow(*tasks, result={"sum": [Output("a"), Output("b")]})
    assert run(workflow, targets=["b"]).result == {"sum": [1, 2]}
    assert run(workflow, targets=["a"]).result == 1


def test_unknown_targets_are_named_with_near_misses():
    """All of them at once; it is a KeyError."""
    workflow = flow(needs("extract"), needs("load"))
    with pytest.raises(KeyError) as caught:
        workflow.select(["extrakt", "load", "laod"])
    assert "'extrakt' (did you mean 'extract'?)" in str(caught.value)
    assert "'laod' (did you mean 'load'?)" in str(caught.value)
    for wrong in ("extract", TaskDef("extract", give), [5]):
        with pytest.raises(TypeError, match="target"):
            workflow.select(wrong)


AWKWARD = ['quo"te', "back\\slash", "new\nline", "semi;colon", "<b>&amp;", "x --> y", "ünï", "end", "%%", "#quot;"]


def test_pictures_show_every_task_and_edge_whatever_the_ids_hold():
    """Mermaid has a line for each, DOT parses them, and SVG is well-formed."""
    from xml.etree import ElementTree as ET

    tasks = [needs(AWKWARD[0]), *(needs(this, before) for before, this in pairwise(AWKWARD))]
    workflow = flow(*tasks, name='we"ird')
    mermaid = workflow.to_mermaid().splitlines()
    assert mermaid[0] == "flowchart LR"
    assert sum(" --> " in line for line in mermaid) == len(AWKWARD) - 1
    assert len(mermaid) == 2 * len(AWKWARD)
    dot = workflow.to_dot()
    assert dot.startswith('digraph "we\\"ird" {')
    assert dot.count(" -> ") == len(AWKWARD) - 1
    assert '"quo\\"te"' in dot
    assert '"new\\nline"' in dot
    texts = [element.text for element in ET.fromstring(workflow._repr_svg_()).iter() if element.text]
    assert 'quo"te' in texts
    assert workflow.plan().to_mermaid() == workflow.to_mermaid()


def test_an_empty_workflow_is_one():
    """It has no tasks, no levels, and pictures."""
    workflow = flow()
    assert (len(workflow), dict(workflow.tasks), workflow.plan().levels) == (0, {}, [])
    assert workflow.to_dot()
    assert workflow._repr_svg_()
    assert run(workflow).result == {}


def test_graphs_may_be_deeper_than_python_recurses():
    """A chain of 20,000 tasks is validated, planned, selected and fingerprinted."""
    chain = [needs("t0"), *(needs(f"t{n}", f"t{n - 1}") for n in range(1, 20_000))]
    workflow = flow(*reversed(chain))
    assert len(workflow.plan().levels) == 20_000
    assert len(workflow.select(["t19999"])) == 20_000
    assert workflow.fingerprint


def test_a_workflow_survives_pickling():
    """It comes back equal, with its result and its description."""
    workflow = Workflow("wf", [needs("a"), needs("b", "a")], "about it", result=[Output("a"), Param("p", default=1)])
    back = pickle.loads(pickle.dumps(workflow))
    assert back == workflow
    assert (back.name, back.description, list(back.tasks)) == ("wf", "about it", ["a", "b"])
    assert run(back).result == [1, 1]


# ---- fingerprint and equality ----------------------------------------------------------------------------------------


@task
def decorated(value):
    return value


def undecorated(value):
    return value


def sample():
    """A workflow with something of everything."""
    return flow(
        TaskDef("a", undecorated, args=({"set": {"x", "y", "z"}},)),
        TaskDef("b", decorated, args=(Output("a"),), priority=3),
        TaskDef("c", functools.partial(undecorated, 1), dependencies=["b", "a"], run_when="all_finished"),
        TaskDef("d", str.upper, args=("x",), pool="thread"),
        TaskDef("e", lambda: 5),
    )


def test_the_fingerprint_is_the_same_in_every_process():
    """Whatever strings hash to there."""
    printed, _ = python("from tests.test_workflows import sample; print(sample().fingerprint)", hash_seed="1")
    assert printed.strip() == sample().fingerprint
    assert len(sample().fingerprint) == 64


BASE = {"id": "a", "fn": undecorated, "args": (1,)}


@pytest.mark.parametrize(
    "change",
    [
        {"id": "z"},
        {"fn": decorated},
        {"priority": 3},
        {"run_when": "any_completed"},
        {"pool": "thread"},
        {"dependencies": ["other"]},
        {"args": (Output("other"),)},
    ],
    ids=str,
)
def test_the_fingerprint_changes_with_the_shape(change):
    """Ids, edges, functions' names, priority, run_when and pool are part of it, and so of equality."""
    other = TaskDef("other", give)
    one, two = flow(other, TaskDef(**BASE)), flow(other, TaskDef(**{**BASE, **change}))
    assert one.fingerprint != two.fingerprint
    assert one != two


@pytest.mark.parametrize("change", [{"args": (2,)}, {"name": "n"}, {"description": "d"}, {"kwargs": {"k": 1}}], ids=str)
def test_values_are_no_part_of_the_fingerprint(change):
    """Nor are words for people."""
    assert flow(TaskDef(**BASE)).fingerprint == flow(TaskDef(**{**BASE, **change})).fingerprint


def test_code_is_no_part_of_the_fingerprint():
    """Two functions of one name are one function to it, but not equal."""

    def made(n):
        def work():
            return n

        return work

    one, two = flow(TaskDef("a", made(1))), flow(TaskDef("a", made(2)))
    assert one.fingerprint == two.fingerprint
    assert one != two


def test_a_task_counts_as_its_function_and_a_partial_as_its_inner_one_in_the_fingerprint():
    """The name of what is inside is what counts."""
    partial = functools.partial
    same = [decorated, decorated.fn, partial(decorated, 1), partial(partial(decorated.fn), 1)]
    assert len({flow(TaskDef("a", fn)).fingerprint for fn in same}) == 1


class Equal:
    """Equal to everything, as numpy arrays are to nothing."""

    def __eq__(self, other):
        raise AssertionError("a user's value was compared")

    __hash__ = None

    def method(self, value):
        return value


def test_equality_compares_users_values_by_identity():
    """The same object is equal, another one isn't, and nobody asks the objects themselves."""
    mine, other = Equal(), Equal()
    one = flow(TaskDef("a", give, args=([mine, 1, "x"],)))
    assert one == flow(TaskDef("a", give, args=([mine, 1, "x"],)))
    assert one != flow(TaskDef("a", give, args=([other, 1, "x"],)))
    assert one != flow(TaskDef("a", give, args=([mine, 1, "y"],)))
    assert one != "something else"


def test_equality_compares_references_by_what_they_stand_for():
    """Output("x") made twice is the same; another path or default isn't."""

    def workflow(reference):
        return flow(TaskDef("x", give, args=({},)), TaskDef("a", give, args=(reference,)))

    assert workflow(Output("x")["k"]) == workflow(Output("x")["k"])
    assert workflow(Output("x")["k"]) != workflow(Output("x")["l"])
    assert workflow(Output("x")) != workflow(Output("x", default=None))
    assert workflow([Output("x")]) == workflow([Output("x")])
    assert flow(TaskDef("a", give, args=(Param("p"),))) != flow(TaskDef("a", give, args=(Param("q"),)))


def test_equality_compares_callables_by_what_they_call():
    """A bound method is the same each time it is taken; partials are if what they hold is; a Task is its function."""
    mine, other = Equal(), Equal()

    def same(one, two):
        return flow(TaskDef("a", one)) == flow(TaskDef("a", two))

    assert same(mine.method, mine.method)
    assert not same(mine.method, other.method)
    assert same(decorated, decorated.fn)
    assert same(functools.partial(give, mine), functools.partial(give, mine))
    assert not same(functools.partial(give, mine), functools.partial(give, other))
    assert not same(functools.partial(give, mine), give)


def test_equal_workflows_hash_alike():
    """So they can be keys."""
    assert len({sample(): 1, sample(): 2}) == 2  # two lambdas are two functions
    same = [flow(TaskDef("a", give, args=(1,))) for _ in range(2)]
    assert len(dict.fromkeys(same)) == 1
