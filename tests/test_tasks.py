"""A TaskDef is frozen and checked when it is made; one error lists all that is wrong with it."""

import functools
import math
import operator
import pickle
from unittest.mock import Mock

import pytest

from nerv import Output, Param, TaskDef, TaskMetadata, TaskPriority, WorkflowDefinitionError, run
from tests.handshake import flow, give


def refusal(*args, **fields):
    """The one error that making it raises."""
    with pytest.raises(WorkflowDefinitionError) as caught:
        TaskDef(*args, **fields)
    return caught.value


def plain():
    """Return 1."""
    return 1


class Counter:
    """A callable object, with methods of every sort."""

    def __init__(self, start=0):
        self.start = start

    def __call__(self, x):
        return self.start + x

    def bound(self, x):
        return self.start + x + 1

    @classmethod
    def made(cls, x):
        return cls(x).start

    @staticmethod
    def still(x):
        return x


# ---- what it takes ---------------------------------------------------------------------------------------------------


def test_id_and_function_may_be_given_by_position_or_by_keyword():
    """All spellings make the same task."""
    made = [TaskDef("a", plain), TaskDef(fn=plain, id="a"), TaskDef("a", fn=plain)]
    assert [(task.id, task.fn) for task in made] == [("a", plain)] * 3
    assert flow(made[0]) == flow(made[1]) == flow(made[2])


def test_the_functions_name_is_the_default_id():
    """A function, a method and a builtin have one; the name defaults to the id."""
    assert TaskDef(fn=plain).id == "plain"
    assert TaskDef(fn=plain).name == "plain"
    assert TaskDef(fn=Counter().bound).id == "bound"
    assert TaskDef(fn=max).id == "max"
    assert TaskDef("a", plain, name="A nice name").name == "A nice name"


@pytest.mark.parametrize("fn", [lambda: 1, functools.partial(give, 1), Counter()], ids=["lambda", "partial", "object"])
def test_what_has_no_name_needs_an_id(fn):
    """The error says so."""
    assert "give the TaskDef an id" in str(refusal(fn=fn))
    assert TaskDef("x", fn).id == "x"


@pytest.mark.parametrize("task_id", ["a[0]", "a]", "a/b", "[", "/"])
def test_the_characters_of_dynamic_tasks_are_refused_in_ids(task_id):
    """'[', ']' and '/' name dynamic tasks, and the error says so."""
    assert "dynamic tasks" in str(refusal(task_id, plain))


@pytest.mark.parametrize("task_id", ["a b", "ünï", "日本", "😀", "a.b:{0}", "\n", " ", "None", "0", "x" * 10_000, "%s"])
def test_any_other_string_is_an_id(task_id):
    """It names its task exactly, in results, in references and in events."""
    reader = TaskDef("reader", give, args=(Output(task_id),))
    execution = run(flow(TaskDef(task_id, lambda: 1), reader))
    assert dict(execution.results) == {task_id: 1, "reader": 1}
    assert task_id in {event.task_id for event in execution.events()}


def test_dependencies_are_ids_tasks_or_outputs():
    """They are kept as ids, each once, in order; they pass no value."""
    a, b = TaskDef("a", plain), TaskDef("b", plain)
    task = TaskDef("c", plain, dependencies=[a, "b", Output("a"), "a", b])
    assert task.dependencies == ("a", "b")
    assert TaskDef("c", plain, dependencies=("b", "a", "b")).dependencies == ("b", "a")
    assert run(flow(a, b, task))["c"] == 1


def test_dependencies_may_come_from_any_iterable():
    """A generator is read once."""
    assert TaskDef("c", plain, dependencies=(name for name in "ab")).dependencies == ("a", "b")


def test_lists_of_arguments_become_tuples():
    """And the caller's own list and dict can change later without changing the task."""
    args, kwargs = [1, 2], {"key": 3}
    task = TaskDef("a", lambda *a, **k: (a, k), args=args, kwargs=kwargs)
    args.append(3)
    kwargs["other"] = 4
    assert run(flow(task))["a"] == ((1, 2), {"key": 3})


def test_tasks_without_kwargs_share_one_mapping_that_nobody_can_write_to():
    """However they come to have none; it goes through pickles as a plain dict, and compares as one."""
    bare, given, told = TaskDef("a", plain), TaskDef("b", plain, kwargs={}), TaskDef("c", plain, args=(1,))
    assert bare.kwargs is given.kwargs is told.kwargs
    assert bare.kwargs == {}
    for write in (
        lambda kwargs: kwargs.__setitem__("x", 1),
        lambda kwargs: kwargs.update(x=1),
        lambda kwargs: kwargs.setdefault("x", 1),
        lambda kwargs: kwargs.__ior__({"x": 1}),
    ):
        with pytest.raises(TypeError, match="make a new one"):
            write(bare.kwargs)
    assert not bare.kwargs
    assert type(pickle.loads(pickle.dumps(bare.kwargs))) is dict
    assert pickle.loads(pickle.dumps(bare)).kwargs is bare.kwargs


def test_a_task_is_frozen():
    """No field can be set or deleted."""
    task = TaskDef("a", plain)
    for field in ("id", "fn", "dependencies", "args", "anything"):
        with pytest.raises((AttributeError, TypeError)):
            setattr(task, field, plain)
    with pytest.raises((AttributeError, TypeError)):
        del task.id
    assert (task.id, task.fn, task.dependencies, task.args) == ("a", plain, (), ())


def test_a_task_waits_for_the_workflow_with_its_function():
    """fn=None is no error of the TaskDef, only of the Workflow."""
    task = TaskDef("a")
    with pytest.raises(WorkflowDefinitionError, match="task 'a' has no function; give it fn="):
        flow(task)


def test_metadata_is_kept():
    """Tags, creator and values, frozen; the engine doesn't read them."""
    metadata = TaskMetadata(tags=frozenset({"x"}), creator="me", values={"k": object()})
    assert TaskDef("a", plain, metadata=metadata).metadata is metadata
    with pytest.raises(AttributeError):
        metadata.creator = "you"
    for nothing in (TaskMetadata(), TaskDef("a", plain).metadata, TaskDef("a", plain, metadata=None).metadata):
        assert (nothing.tags, nothing.creator, nothing.values) == (frozenset(), None, {})
        assert pickle.loads(pickle.dumps(nothing)).tags == frozenset()
    assert TaskMetadata(tags=["x", "y", "x"]).tags == {"x", "y"}
    with pytest.raises(TypeError):
        TaskDef("a", plain).metadata.values["k"] = 1


def test_metadata_that_can_not_be_right_is_refused():
    with pytest.raises(WorkflowDefinitionError) as caught:
        TaskMetadata(tags="nightly", creator=3, values=[1])
    assert [problem.message for problem in caught.value.problems] == [
        "TaskMetadata: tags takes a set of str, not 'nightly'",
        "TaskMetadata: creator takes a str or None, not 3",
        "TaskMetadata: values takes a mapping, not [1]",
    ]


@pytest.mark.parametrize("priority", [*TaskPriority, -5, 10**6])
def test_a_priority_is_any_int(priority):
    """LOW to CRITICAL are 0 to 3, MEDIUM is the default, and any other int will do."""
    assert TaskDef("a", plain, priority=priority).priority == priority
    assert [int(named) for named in TaskPriority] == [0, 1, 2, 3]
    assert TaskDef("a", plain).priority == TaskPriority.MEDIUM


# ---- functions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fn", "args", "result"),
    [
        (functools.partial(operator.add, 1), (2,), 3),
        (functools.partial(Counter(5).bound), (2,), 8),
        (Counter(5), (2,), 7),
        (Counter(5).bound, (2,), 8),
        (Counter.made, (2,), 2),
        (Counter.still, (2,), 2),
        (lambda x: x, (2,), 2),
        (Counter, (2,), None),
        (str.upper, ("x",), "X"),
        (max, (3, 9), 9),
        (math.hypot, (3, 4), 5.0),
        (operator.itemgetter(0), ([7],), 7),
        (dict, (), {}),
        ([].append, (1,), None),
        (Mock(return_value=4), (1, 2), 4),
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_callable_can_be_a_task(fn, args, result):
    """Functions, methods, classes, builtins without a signature, partials, objects and mocks are called as they are."""
    got = run(flow(TaskDef("a", fn, args=args)))["a"]
    assert isinstance(got, Counter) if result is None and fn is Counter else got == result


def test_a_callable_that_refuses_to_be_compared_or_hashed_runs():
    """The engine tells functions apart by identity."""

    class Picky:
        __hash__ = None

        def __eq__(self, other):
            raise AssertionError("a function was compared")

        def __call__(self):
            return 1

    one, other = Picky(), Picky()
    execution = run(flow(TaskDef("a", one), TaskDef("b", other), TaskDef("c", one)))
    assert dict(execution.results) == {"a": 1, "b": 1, "c": 1}


# ---- what it refuses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"id": 5}, "an id is a str, not 5"),
        ({"id": None}, "an id is a str, not None"),
        ({"fn": 5}, "fn takes a callable, not 5"),
        ({"fn": "plain"}, "fn takes a callable"),
        ({"name": 5}, "name takes a str"),
        ({"description": None}, "description takes a str"),
        ({"dependencies": "abc"}, "write dependencies=['abc']"),
        ({"dependencies": 5}, "takes a list of ids"),
        ({"dependencies": None}, "takes a list of ids"),
        ({"dependencies": [5]}, "not 5"),
        ({"dependencies": [Param("p")]}, "not Param('p')"),
        ({"dependencies": TaskDef("b", plain)}, "takes a list of ids"),
        ({"dependencies": Output("b")}, "takes a list of ids"),
        ({"args": "abc"}, "write args=('abc',)"),
        ({"args": 5}, "args takes a tuple"),
        ({"args": None}, "args takes a tuple"),
        ({"args": {"k": 1}}, "args takes a tuple"),
        ({"args": Output("b")}, "write args=(Output('b'),)"),
        ({"args": TaskDef("b", plain)}, "write args=(Output('b'),)"),
        ({"args": (TaskDef("b", plain),)}, "write Output('b')"),
        ({"kwargs": 5}, "kwargs takes a mapping"),
        ({"kwargs": {5: 1}}, "not 5"),
        ({"kwargs": {"k": TaskDef("b", plain)}}, "write Output('b')"),
        ({"priority": "high"}, "priority takes a TaskPriority or an int"),
        ({"priority": True}, "priority takes"),
        ({"priority": 1.5}, "priority takes"),
        ({"priority": None}, "priority takes"),
        ({"pool": 5}, "pool takes a pool's name"),
        ({"pool": ""}, "pool takes a pool's name"),
        ({"run_when": "all_finish"}, "did you mean 'all_finished'"),
        ({"run_when": None}, "run_when takes one of all_completed, all_finished, any_completed"),
        ({"metadata": {"tags": []}}, "metadata takes a TaskMetadata"),
    ],
    ids=str,
)
def test_a_bad_field_is_refused_when_the_task_is_made(fields, words):
    """The error names the task, the field and what to write."""
    error = refusal(**{"id": "the-task", "fn": plain, **fields})
    assert words in str(error)
    assert all(problem.message and problem.kind for problem in error.problems)
    if "id" not in fields:
        assert "'the-task'" in str(error)
        assert error.problems[0].task_id == "the-task"


def test_all_bad_fields_are_listed_at_once():
    """One error, one problem for each."""
    wrong = {"dependencies": "x", "args": "y", "kwargs": 3, "priority": "z", "run_when": "?", "pool": 1, "metadata": 2}
    error = refusal("a/b", 5, name=4, **wrong)
    assert len(error.problems) == 10
    assert all(word in str(error) for word in ["dependencies", "args", "kwargs", "priority", "run_when", "pool", "fn"])


def test_an_unknown_field_is_refused_by_name():
    """A TypeError, as for any call with a wrong keyword; so is what no issue has brought yet."""
    for field in ("deps", "retries", "timeouts", "circuit_braker"):
        with pytest.raises(TypeError, match=field):
            TaskDef("a", plain, **{field: 1})


def test_more_than_id_and_function_go_by_keyword():
    """TaskDef("a", f, ["b"]) is a TypeError."""
    with pytest.raises(TypeError):
        TaskDef("a", plain, ["b"])


def test_a_task_is_not_its_result():
    """Asking a TaskDef for a result says what to write."""
    with pytest.raises(AttributeError, match=r"Output\('a'\)"):
        TaskDef("a", plain).result


# ---- as a value ------------------------------------------------------------------------------------------------------


def test_a_task_survives_pickling():
    """All fields come back, references among the arguments too."""
    task = TaskDef(
        "b",
        plain,
        name="n",
        description="d",
        dependencies=["x"],
        args=([Output("a")["k"], 1], Param("p", default=None)),
        kwargs={"k": {"z": (Output("a"),)}},
        priority=7,
        pool="thread",
        run_when="any_completed",
        metadata=TaskMetadata(creator="me"),
    )
    back = pickle.loads(pickle.dumps(task))
    for field in ("id", "fn", "name", "description", "dependencies", "priority", "pool", "run_when"):
        assert getattr(back, field) == getattr(task, field)
    assert back.metadata.creator == "me"
    assert repr(back) == repr(task)


def test_a_task_shows_what_it_was_given():
    """The repr names the id, the function and what isn't a default."""
    shown = repr(TaskDef("b", plain, args=([Output("a")],), priority=3))
    assert "'b'" in shown
    assert "plain" in shown
    assert "args=([Output('a')],)" in shown
    assert "run_when" not in shown
