"""References stand for values that only exist while an execution runs; results arrive as the very objects they are."""

import math
import pickle
from collections import OrderedDict
from typing import Any, NamedTuple

import pytest

from nerv import MISSING, Buffer, Output, Param, Sequence, TaskDef, WorkflowDefinitionError, run
from tests.handshake import Hold, Incomparable, Odd, boom, ended, flow, give


class Point(NamedTuple):
    x: Any
    y: Any


def value_of(argument, *others, params=None, **options):
    """What a task is given for this argument."""
    return run(flow(*others, TaskDef("reader", give, args=(argument,), **options)), params)["reader"]


def refusal(argument):
    """Why a task can't have this argument."""
    with pytest.raises(WorkflowDefinitionError) as caught:
        TaskDef("reader", give, args=(argument,))
    return str(caught.value)


class Untouchable(metaclass=Incomparable):
    """Refuses to be compared, hashed, copied, measured, tested for truth, iterated, shown or pickled; its class too."""

    def _no(self, *_):
        raise AssertionError("a user's value was touched")

    __eq__ = __ne__ = __lt__ = __gt__ = __hash__ = __bool__ = __len__ = __iter__ = __contains__ = __getitem__ = _no
    __copy__ = __deepcopy__ = __reduce__ = __reduce_ex__ = __repr__ = __str__ = __format__ = _no


# ---- where they may be -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "filled"),
    [
        (Output("a"), 42),
        ([Output("a"), 1], [42, 1]),
        ((Output("a"), 1), (42, 1)),
        ({"k": Output("a")}, {"k": 42}),
        ([Output("a"), Output("a")], [42, 42]),
        ([[], (), {}, [(Output("a"),)]], [[], (), {}, [(42,)]]),
        ({"z": {"y": [{"x": (Output("a"),)}]}}, {"z": {"y": [{"x": (42,)}]}}),
    ],
    ids=repr,
)
def test_an_output_is_filled_in_wherever_lists_tuples_and_dicts_hold_it(shape, filled):
    """The containers keep their kinds and their order."""
    assert value_of(shape, TaskDef("a", lambda: 42)) == filled


@pytest.mark.parametrize(
    ("shape", "filled"),
    [
        ([Output("a"), Output("b")], [[1], [2]]),
        ([Output("a"), Output("a")], [[1], [1]]),
        ([Output("a")[0], Output("b")], [1, [2]]),
        ([Output("a"), Output("b", default=None)], [[1], [2]]),
        ([Output("a"), Output("b"), 3], [[1], [2], 3]),
    ],
)
def test_a_list_of_plain_outputs_is_filled_in_as_any_other(shape, filled):
    """Whichever way it is kept, each Output in it is filled in, and all are edges, in order."""
    others = [TaskDef("a", lambda: [1]), TaskDef("b", lambda: [2])]
    assert value_of(shape, *others) == filled
    named = tuple(dict.fromkeys(one.task_id for one in shape if type(one) is Output))
    assert TaskDef("reader", give, args=(shape,)).outputs == named


def test_a_namedtuple_keeps_its_type():
    """A namedtuple with a reference in it arrives as that namedtuple."""
    got = value_of(Point(Output("a"), [Param("p")]), TaskDef("a", lambda: 1), params={"p": 2})
    assert type(got) is Point
    assert got == Point(1, [2])


def test_an_output_is_a_dependency_wherever_it_is():
    """Outputs in args and kwargs, with and without a path, are edges; a Param is none."""
    tasks = [TaskDef(name, give, args=(1,)) for name in "abcd"]
    args = ([{"x": (Output("a"),)}], Output("b").attribute("real"), Param("p"))
    reader = TaskDef("reader", give, args=args, kwargs={"k": [Output("c")["y"][0]]}, dependencies=["d"])
    assert set(flow(*tasks, reader).graph.predecessors("reader")) == {"a", "b", "c", "d"}


def test_containers_without_references_are_passed_as_the_same_object():
    """Nothing is copied, whatever the nesting, beside a reference too."""
    plain = [[1, {"k": (2,)}], Point(1, 2)]
    assert value_of(plain) is plain
    got = value_of([plain, Output("a")], TaskDef("a", lambda: 1))
    assert got[0] is plain


@pytest.mark.parametrize("kind", [OrderedDict, type("L", (list,), {}), type("D", (dict,), {}), type("T", (tuple,), {})])
def test_other_containers_are_never_opened(kind):
    """Subclasses of list, tuple and dict are the user's own, and are passed as they are, references and all."""
    mine = kind({"k": Output("nowhere")}) if issubclass(kind, dict) else kind([Output("nowhere")])
    assert value_of(mine) is mine


def test_a_container_that_holds_itself_is_no_trouble():
    """Cycles end the search; references beside the loop are found."""
    loop = [1]
    loop.append(loop)
    assert value_of(loop) is loop
    beside = {"loop": loop, "value": Output("a")}
    beside["self"] = beside
    got = value_of(beside, TaskDef("a", lambda: 42))
    assert got["loop"] is loop
    assert got["value"] == 42


def test_a_container_in_many_places_is_looked_at_once():
    """Forty lists of the one before twice over are 2**40 places, and no trouble."""
    shared = [1]
    for _ in range(40):
        shared = [shared, shared]
    assert value_of(shared) is shared


def test_containers_may_be_nested_deeper_than_python_recurses():
    """A list ten thousand lists deep is passed as it is."""
    deep = []
    for _ in range(10_000):
        deep = [deep]
    assert value_of([deep, Output("a")], TaskDef("a", lambda: 1))[0] is deep


def test_references_nested_too_deeply_are_refused():
    """Where references would not be looked for, one is an error and not a surprise."""
    deep = Output("a")
    for _ in range(500):
        deep = [deep]
    assert "reference" in refusal(deep)


def test_arguments_are_read_when_the_task_is_defined():
    """Changing a list with references afterwards changes nothing; one without is the same object, changes and all."""
    listed, plain = [Output("a")], [1]
    reader = TaskDef("reader", lambda x, y: (x, y), args=(listed, plain))
    listed.append(Output("nowhere"))
    plain.append(2)
    assert run(flow(TaskDef("a", lambda: 42), reader))["reader"] == ([42], [1, 2])


def test_a_filled_container_is_made_anew_for_each_reader():
    """What one task does to the list that it was given no other task and no other execution sees."""
    shared = [Output("a")]
    tasks = [TaskDef("a", lambda: 1), *(TaskDef(n, lambda x: x.append(2) or x, args=(shared,)) for n in "bc")]
    for _ in range(2):
        execution = run(flow(*tasks))
        assert execution["b"] == execution["c"] == [1, 2]


# ---- what they reach -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "value"),
    [
        (Output("d")["rows"][0], 10),
        (Output("d")["rows"][1:], [20, 30]),
        (Output("d")[1, 2], "pair"),
        (Output("d")["rows"][-1], 30),
        (Output("p").attribute("x"), 1),
        (Output("p").attribute("y")["k"], "v"),
        (Output("p")[0], 1),
        (Output("d")[None], "none"),
    ],
    ids=repr,
)
def test_an_output_reaches_into_the_result(reference, value):
    """Items by any key, slices, and attributes, one after the other."""
    results = {"rows": [10, 20, 30], (1, 2): "pair", None: "none"}
    assert value_of(reference, TaskDef("d", lambda: results), TaskDef("p", lambda: Point(1, {"k": "v"}))) == value


@pytest.mark.parametrize("reference", [Output("a")["nope"], Output("a").attribute("nope"), Output("a")["k"]["nope"]])
def test_a_path_that_does_not_exist_fails_the_reader(reference):
    """The reader is FAILED with an error that names itself, the path and the producer, which stays COMPLETED."""
    reader = TaskDef("reader", give, args=(reference,))
    execution = run(flow(TaskDef("a", lambda: {"k": 1}), reader), raise_on_failure=False)
    assert execution.task("a").status.name == "COMPLETED"
    text = str(execution.failures["reader"])
    assert "'reader'" in text
    assert repr(reference) in text
    assert "'a'" in text


@pytest.mark.parametrize("value", [None, math.nan, ValueError("a value"), StopIteration(), MISSING, NotImplemented, 0])
def test_none_nan_and_exceptions_are_ordinary_results(value):
    """Whatever a task returns is its result, and its readers get that very object."""
    execution = run(flow(TaskDef("a", lambda: value), TaskDef("b", give, args=(Output("a", default="no"),))))
    assert execution["a"] is value
    assert execution["b"] is value


def test_nan_reaches_whoever_computes_with_it():
    """NaN isn't equal to itself; nothing here minds."""
    tasks = TaskDef("a", lambda: math.nan), TaskDef("b", lambda x: x + 1, args=(Output("a"),))
    assert math.isnan(run(flow(*tasks))["b"])


@pytest.mark.parametrize("where", [lambda v: v, lambda v: [v], lambda v: {"k": (v,)}], ids=["bare", "listed", "deep"])
def test_values_that_refuse_everything_go_through_untouched(where):
    """Arguments, params, results and their readers' arguments are never compared, hashed, copied, shown or pickled."""
    mine = Untouchable()
    seen = []
    tasks = [
        TaskDef("a", lambda x: x, args=(mine,)),
        TaskDef("b", lambda x, y: seen.append((x, y)) or y, args=(where(Output("a")), Param("p")), kwargs={}),
        TaskDef("c", lambda ctx, *, k: (ctx.results["b"], k, ctx["p"]), kwargs={"k": Output("b")}),
    ]
    workflow = flow(*tasks, result={"all": [Output("a"), Output("b")]})
    assert workflow == flow(*tasks, result={"all": [Output("a"), Output("b")]})
    execution = run(workflow, {"p": mine})
    assert execution["a"] is mine
    assert execution["b"] is mine
    assert all(one is mine for one in execution["c"])
    assert all(one is mine for one in execution.result["all"])
    assert execution.task("b").result is mine
    assert next(e for e in execution.events() if e.task_id == "a" and "result" in e.data).data["result"] is mine
    assert "3 completed" in execution.summary()


def test_values_of_a_class_without_a_hash_are_ordinary_arguments():
    """Deep in containers, as a default, a key, an item, and where a list was meant: there the error names the task."""
    mine = Odd()
    deep = [mine]
    for _ in range(40):
        deep = [deep]
    tasks = [
        TaskDef("a", give, args=(deep,)),
        TaskDef("b", give, args=(Output("c", default=mine),), run_when="all_finished"),
        TaskDef("c", boom),
        TaskDef("d", dict),
        TaskDef("e", give, args=(Output("d")[mine],)),
        Buffer("f", items=[mine, mine], target=give),
        Sequence("g", [give], mine),
    ]
    other = flow(TaskDef("a", give, args=([Odd()],)))
    assert other != flow(TaskDef("a", give, args=([mine],)))
    assert other != flow(TaskDef("a", give, args=([[mine]],)))
    execution = run(flow(*tasks), failure_policy="continue", raise_on_failure=False)
    assert execution["a"] is deep
    assert execution["b"] is mine
    assert "KeyError" in str(execution.failures["e"])
    assert execution["f"].values == [mine, mine]
    assert execution["g"] is mine
    for wrong in (lambda: TaskDef("a", give, dependencies=mine), lambda: flow(Buffer("a", items=mine, target=give))):
        with pytest.raises(WorkflowDefinitionError, match=r"task 'a': (items|dependencies) takes"):
            wrong()


# ---- what isn't there ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("default", [None, 0, [], "d"])
def test_a_default_stands_in_for_a_task_that_is_not_completed(default):
    """The default itself is given, falsy or not, when the producer failed."""
    reader = TaskDef("reader", give, args=([Output("bad", default=default)],), run_when="all_finished")
    execution = run(flow(TaskDef("bad", boom), reader), raise_on_failure=False)
    assert execution["reader"][0] is default


def test_a_default_is_not_used_when_there_is_a_result():
    """None is a result."""
    assert value_of(Output("a", default=7), TaskDef("a", lambda: None)) is None


def test_a_default_stands_for_the_whole_path():
    """With a default, Output("t")["k"] of a failed t is the default, not default["k"]."""
    reader = TaskDef("reader", give, args=(Output("bad", default=7)["k"],), run_when="all_finished")
    assert run(flow(TaskDef("bad", boom), reader), raise_on_failure=False)["reader"] == 7


def test_an_output_of_a_failed_task_fails_its_reader():
    """Without a default the reader fails with an error that names both; it isn't called."""
    called = []
    reader = TaskDef("reader", called.append, args=(Output("bad"),), run_when="all_finished")
    execution = run(flow(TaskDef("bad", boom), reader), raise_on_failure=False)
    text = str(execution.failures["reader"])
    assert "'reader'" in text
    assert "'bad'" in text
    assert called == []


def test_an_output_of_a_task_that_still_runs_fails_its_reader():
    """Under any_completed the reader starts while another dependency runs, and has no result of that one."""
    slow = Hold()
    reader = TaskDef("reader", give, args=([Output("quick"), Output("slow")],), run_when="any_completed")
    after = TaskDef("after", slow.go, dependencies=["reader"], run_when="all_finished")
    tasks = TaskDef("slow", slow), TaskDef("quick", slow.entered), reader, after
    execution = run(flow(*tasks), raise_on_failure=False, workers=2, failure_policy="continue")
    assert "'slow'" in str(execution.failures["reader"])
    assert execution.task("slow").status.name == "COMPLETED"


def test_param_values_and_defaults():
    """A param is given by name; without one its default is used; None is a value."""
    args = [Param("given", default=1), Param("left_out", default=2), Param("none", default=3)]
    assert value_of(args, params={"given": 10, "none": None}) == [10, 2, None]


def test_missing_params_are_one_error_before_anything_runs():
    """All missing names are listed at once, with the near misses, and nothing is called."""
    called = []
    first = TaskDef("a", called.append, args=(Param("day"),))
    tasks = first, TaskDef("b", called.append, kwargs={"x": [Param("month")]})
    with pytest.raises(WorkflowDefinitionError) as caught:
        run(flow(*tasks), {"dya": 1})
    assert "'day' (you gave 'dya')" in str(caught.value)
    assert "'month'" in str(caught.value)
    assert len(caught.value.problems) == 1
    assert called == []


def test_one_use_without_a_default_makes_a_param_needed():
    """A default in one place is no default in another."""
    tasks = TaskDef("a", give, args=(Param("p", default=1),)), TaskDef("b", give, args=(Param("p"),))
    with pytest.raises(WorkflowDefinitionError, match="'p'"):
        run(flow(*tasks))
    assert run(flow(*tasks), targets=["a"])["a"] == 1


def test_a_workflows_result_may_read_params():
    """They are needed like a task's."""
    workflow = flow(TaskDef("a", lambda: 1), result={"day": Param("day"), "a": Output("a")})
    assert run(workflow, {"day": 5}).result == {"day": 5, "a": 1}
    with pytest.raises(WorkflowDefinitionError, match="'day'"):
        run(workflow)


# ---- what they aren't ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reference", [Output("t"), Output("t")["k"], Param("p")], ids=repr)
@pytest.mark.parametrize(
    "use", [iter, list, bool, lambda r: not r, str, lambda r: f"{r}", format, "x{}".format, lambda r: 1 in r]
)
def test_a_reference_is_not_a_value(reference, use):
    """Iterating, testing, formatting and searching raise a TypeError that shows the reference and says what to do."""
    with pytest.raises(TypeError) as caught:
        use(reference)
    assert repr(reference) in str(caught.value)
    assert "Pass it to a task as an argument" in str(caught.value)


def test_a_param_is_taken_whole():
    with pytest.raises(TypeError, match=r"Param\('p'\) .* can't be reached into\. Pass it to a task"):
        Param("p")["rows"]


def test_references_are_immutable():
    """No attribute can be set or deleted, and reaching deeper gives a new reference."""
    reference = Output("t")
    for change in (lambda: setattr(reference, "task_id", "x"), lambda: setattr(Param("p"), "name", "x")):
        with pytest.raises(AttributeError, match="can't be changed"):
            change()
    with pytest.raises(AttributeError):
        del reference.path
    assert reference["k"] is not reference
    assert reference.path == ()


@pytest.mark.parametrize("reference", [Output("t", default=1)["k"][1:2], Output("t"), Param("p"), Param("p", None)])
def test_references_survive_pickling(reference):
    """They come back the same, with MISSING as the one there is."""
    back = pickle.loads(pickle.dumps(reference))
    assert repr(back) == repr(reference)
    assert back.default is reference.default


@pytest.mark.parametrize(
    ("argument", "remedy"),
    [
        ({Output("a")}, "use a list"),
        (frozenset([Param("p")]), "use a list"),
        ([{Output("a")}], "use a list"),
        ({(1, Output("a"))}, "use a list"),
        ({Output("a"): 1}, "it can be a value"),
        ({"k": {(1, (Output("a"),)): 1}}, "it can be a value"),
        (TaskDef("a", give), "write Output('a')"),
        ([{"k": TaskDef("a", give)}], "write Output('a')"),
    ],
    ids=repr,
)
def test_references_where_they_can_not_be_filled_in_are_refused(argument, remedy):
    """The error names the task and says what to write."""
    text = refusal(argument)
    assert "'reader'" in text
    assert remedy in text


@pytest.mark.parametrize(
    "made",
    [
        lambda: Output("a")[Output("b")],
        lambda: Output("a")[0][Param("p")],
        lambda: Output.first("a", "b")[Param("p")],
        lambda: Output("a", default=Output("b")),
        lambda: Param("p", default=[{"k": Output("b")}]),
        lambda: Output("a", default=TaskDef("b", give)),
    ],
)
def test_a_key_or_default_that_is_a_reference_would_never_be_filled_in(made):
    with pytest.raises(TypeError, match=r"is a plain value, not .*; give the task both"):
        made()


def test_an_output_is_of_an_id():
    """A TaskDef or number in its place is a TypeError with what to write."""
    with pytest.raises(TypeError, match=r"write Output\('a'\)"):
        Output(TaskDef("a", give))
    with pytest.raises(TypeError, match="str"):
        Output(5)
    with pytest.raises(TypeError, match="str"):
        Param(None)


def test_results_are_identical_objects_not_copies():
    """Through a chain and a join, by argument and by context, it is one object."""
    made = object()
    tasks = [
        TaskDef("a", lambda: made),
        TaskDef("b", give, args=(Output("a"),)),
        TaskDef("c", lambda x, y: (x, y), args=(Output("a"), [Output("b")])),
        TaskDef("d", lambda ctx: ctx.results["a"], dependencies=["a"]),
    ]
    execution = ended(run(flow(*tasks)))
    assert execution["b"] is made
    assert execution["c"][0] is made
    assert execution["c"][1][0] is made
    assert execution["d"] is made
    assert execution.results["a"] is made
