"""A workflow can be written as a Flow, as a list of TaskDefs, and as a decorated function: all three are equal."""

import pytest

from nerv import (
    Buffer,
    Collector,
    Flow,
    Gate,
    Loop,
    Output,
    Param,
    Router,
    Sequence,
    SubWorkflow,
    TaskDef,
    Timer,
    Workflow,
    add,
    task,
    workflow,
)


@task
def numbers():
    return [1, 2, 3]


@task
def double(x):
    return x


@task
def negate(x):
    return x


@task(retry_policy=3, timeout=5)
def careful(x):
    return x


@task
def end(x):
    return x


mapping = task(id="both")(dict)
first = Output.first


def is_even(x):
    return x


def listed(*tasks):
    return Workflow("w", list(tasks))


def of(fn, *args, **fields):
    return TaskDef(fn=fn, args=args, **fields)


def careful_def():
    return of(careful, Output("numbers"), retry_policy=3, timeout=5)


def chain():
    return end(double(numbers()))


def policies():
    return careful(numbers())


def diamond():
    start = numbers()
    return end(mapping({"double": double(start), "negate": negate(start)}))


def fan_out():
    return add(Buffer("double", numbers(), double))


def fan_in():
    return end(add(Buffer("double", numbers(), double, 2)))


def quorum():
    add(Buffer("double", numbers(), double, collect=False))
    return end(add(Collector("some", "double", quorum=2)))


def branches():
    way = add(Router("is_even", numbers(), [(is_even, ["double"])], ("negate",)))
    double(way)
    negate(way)
    return end(first("double", "negate"))


def one_branch():
    double(add(Router("is_even", numbers(), [(is_even, ["double"])], ())))
    return end(first("double", "is_even"))


def routes():
    way = add(Router("way", numbers(), {1: ["double"], 2: ["negate"]}))
    double(way)
    negate(way)
    return end(first("double", "negate"))


def gate():
    numbers()
    return end(add(Gate("ask", "Well?", dependencies=["numbers"])))


def again():
    return end(add(Loop("again", double, is_even, numbers(), max_iterations=5)))


def nested():
    return end(add(SubWorkflow("inner", INNER, {"item": numbers()})))


def nap():
    numbers()
    add(Timer("nap", 0.01, dependencies=["numbers"]))
    return end(add(Sequence("steps", [double, INNER], Output("nap"))))


INNER = Workflow("inner", [TaskDef("double", double, args=(Param("item"),)), TaskDef("all", list)])
START = Flow("w").then(numbers)
N, D = Output("numbers"), Output("double")
DOUBLE, NEGATE, END = of(double, N), of(negate, N), of(end, first("double", "negate"))
EVEN = Output("is_even")

SHAPES = {
    chain: (START.then(double).then(end), listed(of(numbers), of(double, N), of(end, D))),
    policies: (START.then(careful), listed(of(numbers), careful_def())),
    diamond: (
        START.then_parallel("both", double, negate).then(end),
        listed(
            of(numbers), DOUBLE, NEGATE, TaskDef("both", dict, args=({"double": D, "negate": Output("negate")},)),
            of(end, Output("both")),
        ),
    ),
    fan_out: (START.buffer().then(double).collect(), listed(of(numbers), Buffer("double", N, double))),
    fan_in: (
        START.buffer(2).then(double).collect().then(end),
        listed(of(numbers), Buffer("double", N, double, 2), of(end, D)),
    ),
    quorum: (
        START.buffer().then(double).collect("some", quorum=2).then(end),
        listed(
            of(numbers), Buffer("double", N, double, collect=False), Collector("some", "double", quorum=2),
            of(end, Output("some")),
        ),
    ),
    branches: (
        START.when(is_even).then(double).otherwise().then(negate).end_when().then(end),
        listed(
            of(numbers), Router("is_even", N, [(is_even, ["double"])], ("negate",)), of(double, EVEN), of(negate, EVEN),
            END,
        ),
    ),
    one_branch: (
        START.when(is_even).then(double).end_when().then(end),
        listed(
            of(numbers), Router("is_even", N, [(is_even, ["double"])], ()), of(double, EVEN),
            of(end, first("double", "is_even")),
        ),
    ),
    routes: (
        START.route("way", {1: double, 2: negate}).then(end),
        listed(
            of(numbers), Router("way", N, {1: ["double"], 2: ["negate"]}), of(double, Output("way")),
            of(negate, Output("way")), END,
        ),
    ),
    again: (
        START.then(Loop("again", double, is_even, N, max_iterations=5)).then(end),
        listed(of(numbers), Loop("again", double, is_even, N, max_iterations=5), of(end, Output("again"))),
    ),
    nested: (
        START.then(SubWorkflow("inner", INNER, {"item": N})).then(end),
        listed(of(numbers), SubWorkflow("inner", INNER, {"item": N}), of(end, Output("inner"))),
    ),
    nap: (
        START.then(Timer("nap", 0.01)).then(Sequence("steps", [double, INNER], Output("nap"))).then(end),
        listed(
            of(numbers), Timer("nap", 0.01, dependencies=["numbers"]),
            Sequence("steps", [double, INNER], Output("nap")), of(end, Output("steps")),
        ),
    ),
    gate: (
        START.gate("ask", "Well?").then(end),
        listed(of(numbers), Gate("ask", "Well?", dependencies=["numbers"]), of(end, Output("ask"))),
    ),
}  # fmt: skip


@pytest.mark.parametrize("body", SHAPES, ids=lambda body: body.__name__)
def test_three_ways_of_writing_are_equal(body):
    flow, by_hand = SHAPES[body]
    built, decorated = flow.build(), workflow(name="w")(body)()
    assert built.fingerprint == by_hand.fingerprint == decorated.fingerprint
    assert built == by_hand
    assert built == decorated


def test_different_ones_are_not():
    built = [flow.build() for flow, _ in SHAPES.values()]
    assert all(one != other for one in built for other in built if one is not other)
