"""@task makes a function a task, @workflow makes a function a workflow; both stay ordinary functions elsewhere."""

import asyncio
import functools
import pickle
import threading

import pytest

from nerv import Output, Param, Task, TaskDef, TaskPriority, Workflow, WorkflowDefinitionError, run, task, workflow
from tests.handshake import boom, flow, give, reached


@task
def double(x):
    """Twice x."""
    return 2 * x


@task(priority=TaskPriority.HIGH, name="Adding", description="adds")
def add(x, y=0):
    return x + y


@task
async def later(x):
    await asyncio.sleep(0)
    return x + 1


@task
def told(ctx, x):
    return ctx.task_id, x


def twice(x):
    return x + x


doubled = task(twice)


class Holder:
    def __init__(self, start):
        self.start = start

    @task
    def method(self, x):
        return self.start + x


# ---- @task -----------------------------------------------------------------------------------------------------------


def test_a_task_that_is_called_runs_its_function():
    """Outside a @workflow body it is the function, with its name, its docstring and its defaults."""
    assert double(3) == 6
    assert add(1, y=2) == 3
    assert asyncio.run(later(1)) == 2
    assert (double.__name__, double.__doc__, double.__wrapped__) == ("double", "Twice x.", double.fn)
    assert isinstance(double, Task)


def test_define_makes_a_taskdef():
    """With the decorator's options, which fields given here override; the id defaults to the function's name."""
    made = add.define(id="sum", args=(1,), kwargs={"y": Param("y")})
    assert (made.id, made.name, made.description, made.priority) == ("sum", "Adding", "adds", TaskPriority.HIGH)
    assert run(flow(made), {"y": 5})["sum"] == 6
    assert double.define(args=(1,)).id == "double"
    assert add.define(priority=0, name="n").priority == 0
    assert add.define(priority=0, name="n").name == "n"


def test_a_task_can_be_the_function_of_a_taskdef():
    """It is called as its function is, with the context if that asks for it."""
    made = flow(TaskDef("a", double, args=(2,)), TaskDef("b", later, args=(Output("a"),)), TaskDef(fn=told, args=(1,)))
    assert dict(run(made).results) == {"a": 4, "b": 5, "told": ("told", 1)}


@pytest.mark.parametrize("options", [{"run_when": "never"}, {"priority": "high"}, {"pool": 5}, {"id": "a/b"}], ids=str)
def test_wrong_options_are_found_where_they_are_written(options):
    """Decorating raises, not running."""
    with pytest.raises(WorkflowDefinitionError, match=next(iter(options))):
        task(**options)(double.fn)


def test_unknown_options_and_things_that_can_not_be_called_are_refused():
    """A TypeError that names it."""
    with pytest.raises(TypeError, match="retries"):
        task(retries=3)(double.fn)
    with pytest.raises(TypeError, match="5"):
        task(5)


@pytest.mark.parametrize("what", [double, add, later, doubled], ids=repr)
def test_a_task_survives_pickling_by_name(what):
    """It comes back as what is under that name: the Task, or the function that it was made of."""
    back = pickle.loads(pickle.dumps(what))
    assert back is what or back is what.fn
    assert len(pickle.dumps(what)) < 200


def test_a_method_may_be_a_task():
    """It is bound like a method, called directly and in a workflow."""
    mine = Holder(10)
    assert mine.method(1) == 11
    assert run(flow(TaskDef("a", mine.method, args=(2,))))["a"] == 12


# ---- @workflow -------------------------------------------------------------------------------------------------------


def test_the_body_runs_once_to_record_the_graph():
    """Calls of Tasks add tasks, named after their functions, and give Outputs; nothing is executed."""
    seen = []

    @task
    def effect(x):
        seen.append(x)
        return x

    @workflow
    def recorded():
        seen.append("body")
        first = effect(1)
        assert isinstance(first, Output)
        return add(effect(first), y=effect([first, {"k": first}])[0])

    made = recorded()
    assert isinstance(made, Workflow)
    assert seen == ["body"]
    assert list(made.tasks) == ["effect", "effect-2", "effect-3", "add"]
    assert made.name == "recorded"
    assert set(made.graph.edges) == {
        ("effect", "effect-2"),
        ("effect", "effect-3"),
        ("effect-2", "add"),
        ("effect-3", "add"),
    }
    assert run(made).result == 2


def test_what_the_body_returns_is_the_executions_result():
    """An Output, or containers of them; without a return it is the sinks' rule."""

    @workflow
    def mapping():
        a = double(1)
        b = double(a)
        return {"all": [a, b], "deep": (a["k"],) if False else (a,), "plain": 5, "p": Param("p", default=7)}

    @workflow
    def single():
        double(double(1))

    @workflow
    def several():
        double(1)
        add(1)

    assert run(mapping()).result == {"all": [2, 4], "deep": (2,), "plain": 5, "p": 7}
    assert run(single()).result == 4
    assert run(several()).result == {"double": 2, "add": 1}


def test_after_adds_order():
    """after=[...] passes no value; it takes ids, TaskDefs and Outputs."""

    @workflow
    def ordered():
        a = double(1)
        b = double(2, after=[a])
        double(3, after=[b, "double"])

    assert set(ordered().graph.edges) == {("double", "double-2"), ("double-2", "double-3"), ("double", "double-3")}

    @workflow
    def wrong():
        double(2, after=double(1))

    with pytest.raises(WorkflowDefinitionError, match=r"'double-2'.*dependencies takes a list"):
        wrong()


def test_fields_of_the_decorator_hold_in_a_body_too():
    """What it comes behind is added to `after`; arguments are those of the call, if it has any."""

    @task(dependencies=["double"], args=(5,), kwargs={"y": 6})
    def plus(x, y):
        return x + y

    @workflow
    def steps():
        double(1)
        other = double(2)
        plus()
        plus(1, 2, after=[other])
        plus.map([1, 2], after=[other])

    made = steps()
    assert [made.tasks[name].dependencies for name in ("plus", "plus-2", "plus-3")] == [
        ("double",),
        ("double", "double-2"),
        ("double", "double-2"),
    ]
    assert run(made.select(["plus", "plus-2"])).result == {"plus": 11, "plus-2": 3}


def session_given(fn):
    @functools.wraps(fn)
    def inner(*args, **kwargs):
        return fn("session", *args, **kwargs)

    return inner


@task
@session_given
def query(session, text):
    return session, text


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: [double()], "missing a required argument: 'x'"),
        (lambda: double(1, 2), "too many positional arguments"),
        (lambda: add(1, z=2), "unexpected keyword argument 'z'"),
        (lambda: [told()], "missing a required argument: 'x'"),
        (lambda: later(1, x=2), "multiple values for argument 'x'"),
    ],
)
def test_a_wrong_call_in_a_body_is_refused_there(call, text):
    """As Python would refuse it."""
    with pytest.raises(TypeError, match=text):
        workflow(call)()


def test_only_what_python_would_refuse_is_refused():
    """The context comes by itself, and so may what a decorator adds; builtins needn't say what they take."""
    assert run(workflow(lambda: [told(1), query("q"), task(max)(1, 2), add(1), add(x=1, y=2)])()).result == [
        ("told", 1),
        ("session", "q"),
        2,
        1,
        3,
    ]


def test_a_body_may_take_arguments_and_call_helpers():
    """Factories are functions: plain arguments, Params, loops and helpers that call tasks."""

    def helper(x):
        return double(x)

    @workflow(name="named", description="what for")
    def chain(length, start):
        value = start
        for _ in range(length):
            value = helper(value)
        return value

    made = chain(3, start=Param("start"))
    assert (made.name, made.description, len(made)) == ("named", "what for", 3)
    assert run(made, {"start": 1}).result == 8


def test_the_three_ways_give_equal_workflows():
    """TaskDefs by hand, define, and a recorded body, whatever their names and results."""

    @workflow
    def recorded():
        return add(double(1), y=2)

    by_hand = flow(
        TaskDef("double", double.fn, args=(1,)),
        TaskDef("add", add.fn, args=(Output("double"),), kwargs={"y": 2}, priority=TaskPriority.HIGH),
    )
    defined = flow(double.define(args=(1,)), add.define(args=(Output("double"),), kwargs={"y": 2}))
    assert recorded() == by_hand == defined
    assert recorded().fingerprint == by_hand.fingerprint


def test_a_body_that_raises_leaves_nothing_behind():
    """Afterwards a call of a task runs it again."""

    @workflow
    def broken():
        double(1)
        boom()

    with pytest.raises(ValueError, match="boom"):
        broken()
    assert double(2) == 4


def test_a_body_that_calls_no_task_is_refused():
    """With the remedy."""

    @workflow
    def empty():
        return twice(1)

    with pytest.raises(WorkflowDefinitionError, match="'empty' calls no task; decorate what it calls with @task"):
        empty()


def test_bodies_on_two_threads_do_not_mix():
    """What is being recorded belongs to one call of one body."""
    both = [threading.Event(), threading.Event()]
    made = {}

    @workflow
    def mine(n):
        first = double(n)
        both[n].set()
        reached(both[1 - n])
        return add(first)

    threads = [threading.Thread(target=lambda n=n: made.update({n: mine(n)})) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [list(made[n].tasks) for n in range(2)] == [["double", "add"]] * 2
    assert run(made[1]).result == 2


def test_a_body_may_make_other_workflows():
    """A factory called in a body records into its own workflow."""

    @workflow
    def inner():
        return double(1)

    @workflow
    def outer():
        made = inner()
        assert list(made.tasks) == ["double"]
        return add(1)

    assert list(outer().tasks) == ["add"]


def test_a_run_inside_a_body_runs():
    """Its tasks are called, not recorded, whatever thread they run on; the recording goes on behind it."""

    @workflow
    def inner():
        return double(later(1))

    made = inner()

    @workflow
    def outer():
        value = run(made).result
        return add(value)

    recorded = outer()
    assert list(recorded.tasks) == ["add"]
    assert run(recorded).result == 4


def test_a_factory_is_not_a_workflow():
    """run says to call it, and a coroutine function can't be a body."""

    @workflow
    def recorded():
        return double(1)

    with pytest.raises(TypeError, match="call it to get one"):
        run(recorded)
    with pytest.raises(TypeError, match="can't be a coroutine function"):

        @workflow
        async def wrong():
            return await later(1)

    with pytest.raises(TypeError, match="retries"):
        workflow(retries=3)


def test_what_a_task_is_given_in_a_body_is_checked_there():
    """A mistake in the arguments names the task that it is about."""

    @workflow
    def wrong():
        double({Output("x")})

    with pytest.raises(WorkflowDefinitionError, match=r"'double'.*set"):
        wrong()
    assert give(1) == 1
