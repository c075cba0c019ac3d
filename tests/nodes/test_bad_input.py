"""Bad input to nodes, flows and triggers: one error that names the node and the remedy, before anything runs if it can
be known then.
"""

import re

import pytest

from nerv import (
    Buffer,
    Collector,
    Every,
    Flow,
    Gate,
    Loop,
    Manual,
    NervError,
    Output,
    Paginate,
    Route,
    Router,
    Schedule,
    SubWorkflow,
    TaskDef,
    Timer,
    Watch,
    Workflow,
    WorkflowDefinitionError,
    WorkflowManager,
    run,
    task,
    workflow,
)


def same(m=None):
    return m


def of(*tasks):
    return Workflow("w", tasks)


shared = iter([1, 2])
FED = Flow("fed").triggered_by(Manual())

WRITTEN = {
    "a buffer over a number": (
        lambda: Buffer("b", 3, same),
        "task 'b': items takes an iterable, such as a list, or a reference to one, not 3",
    ),
    "a map over a number": (
        workflow(name="w")(lambda: task(id="t")(same).map(3)),
        "task 't': items takes an iterable, such as a list",
    ),
    "an iterator given to two": (
        lambda: of(Buffer("b", shared, same), Buffer("c", shared, same)),
        "task 'c': it is given the same iterator as 'b', who uses it up; give both a list",
    ),
    "an unknown source": (
        lambda: of(Buffer("fetch", [1], same, collect=False), Collector("c", "fetsh")),
        "task 'c' depends on 'fetsh', which is no task (did you mean 'fetch'?)",
    ),
    "a source that is no buffer": (
        lambda: of(TaskDef("n", same), Collector("c", "n")),
        "task 'c': it collects from 'n', which sends nothing on its way; name a Buffer with collect=False",
    ),
    "a source that waits by itself": (
        lambda: of(Buffer("b", [1], same), Collector("c", "b")),
        "task 'c': it collects from 'b', which sends nothing on its way; name a Buffer with collect=False",
    ),
    "an unknown route": (
        lambda: of(Router("r", 1, {1: "smal"}), TaskDef("small", same, dependencies=["r"])),
        "task 'r': it routes to 'smal', which is no task (did you mean 'small'?)",
    ),
    "a route to a stranger": (
        lambda: of(Router("r", 1, {1: "s"}), TaskDef("s", same)),
        "task 'r': it routes to 's', which doesn't depend on it; write dependencies=['r'] there",
    ),
    "an end_when without when": (
        lambda: Flow("f").then(same).end_when().build(),
        "flow 'f': end_when() without when(); write .when(predicate) before it",
    ),
    "an end_when without when, fed": (
        lambda: FED.then(same).end_when().build(),
        "flow 'fed': end_when() without when(); write .when(predicate) before it",
    ),
    "no cron line": (
        lambda: Schedule("every day"),
        "Schedule takes a cron line such as '*/5 * * * *', not 'every day'",
    ),
    "a negative limit": (
        lambda: Buffer("b", [1], same, max_parallel=-1),
        "task 'b': max_parallel takes a whole number from 1, or None, not -1",
    ),
    "a negative limit in a flow": (
        lambda: Flow("f").then(TaskDef("n", list)).buffer(-1).then(same).build(),
        "task 'same': max_parallel takes a whole number from 1, or None, not -1",
    ),
    "a negative limit, fed": (
        lambda: FED.buffer(-1).then(same).build(),
        "flow 'fed': buffer takes a whole number from 1 as max_parallel, or None, not -1",
    ),
    "a negative limit in a body": (
        workflow(name="w")(lambda: task(id="t")(same).map([1], max_parallel=-1)),
        "task 't': max_parallel takes a whole number from 1, or None, not -1",
    ),
    "a negative quorum": (
        lambda: Collector("c", "b", quorum=-1),
        "task 'c': quorum takes a whole number from 1, or None, not -1",
    ),
    "a negative time": (lambda: Timer("t", -1), "task 't': its seconds are a number from 0, not -1"),
    "a negative timeout": (
        lambda: Gate("g", timeout=-1),
        "task 'g': timeout takes seconds above 0, or None, not -1",
    ),
    "negative iterations": (
        lambda: Loop("l", same, bool, max_iterations=-1),
        "task 'l': max_iterations takes a whole number from 1, not -1",
    ),
    "negative pages": (
        lambda: Paginate("p", same, max_pages=-1),
        "task 'p': max_pages takes a whole number from 1, or None, not -1",
    ),
    "a negative period": (lambda: Every(-1), "Every takes seconds above 0, not -1"),
    "a fed flow in a SubWorkflow": (
        lambda: SubWorkflow("s", FED.then(same).build()),
        "task 's': its workflow is the fed flow 'fed', which takes messages until it is closed; give its steps to",
    ),
    "a fed flow in a Buffer": (
        lambda: Buffer("b", [1], FED.then(same).build()),
        "task 'b': its target is the fed flow 'fed'",
    ),
    "a fed flow in a Loop": (
        lambda: Loop("l", FED.then(same).build(), bool),
        "task 'l': its body is the fed flow 'fed'",
    ),
    "a quorum of messages": (
        lambda: FED.buffer().then(same).collect(quorum=2).build(),
        "flow 'fed': collect() takes nothing in a fed flow: messages have no number to wait for",
    ),
}


@pytest.mark.parametrize("wrong", WRITTEN)
def test_what_is_written_wrong_is_refused_before_anything_runs(wrong):
    make, said = WRITTEN[wrong]
    with pytest.raises(WorkflowDefinitionError, match=re.escape(said)):
        make()


def used_up():
    yield from ()


def closed():
    made = used_up()
    list(made)
    return made


RAN = {
    "a result that isn't iterable": (
        of(TaskDef("n", lambda: 3), Buffer("b", Output("n"), same)),
        "task 'b': its items are a int, which isn't iterable; give it a list",
    ),
    "what a flow's step returns isn't iterable": (
        Flow("f").then(TaskDef("n", lambda: 3)).buffer().then(same).collect().build(),
        "task 'same': its items are a int, which isn't iterable; give it a list",
    ),
    "a generator that somebody has used up": (
        of(TaskDef("n", closed), Buffer("b", Output("n"), same)),
        "task 'b': its items are a generator, which another task has used up; return a list there",
    ),
    "a generator that two buffers want": (
        of(
            TaskDef("n", lambda: (n for n in range(3))),
            Buffer("a", Output("n"), same),
            Buffer("b", Output("n"), same, dependencies=["a"]),
        ),
        "task 'b': its items are a generator, which task 'a' has used up; return a list there",
    ),
    "an iterator of another kind that two buffers want": (
        of(
            TaskDef("n", lambda: map(str, range(3))),
            Buffer("a", Output("n"), same),
            Buffer("b", Output("n"), same, dependencies=["a"]),
        ),
        "task 'b': its items are a map, which task 'a' has used up; return a list there",
    ),
    "an iterator that a buffer and what it runs want": (
        of(
            TaskDef("n", lambda: {"it": zip("ab", "cd", strict=True)}),
            Buffer("a", Output("n")["it"], TaskDef("one", lambda one, more: more, args=(Output("n"),))),
            Buffer("b", Output("a")[0]["it"], same),
        ),
        "task 'b': its items are a zip, which task 'a' has used up; return a list there",
    ),
    "a task that routes to nobody": (
        of(TaskDef("r", lambda: Route("nope")), TaskDef("small", same, dependencies=["r"])),
        "task 'r' routes to 'nope', which doesn't depend on it; 'small' does",
    ),
}


@pytest.mark.parametrize("wrong", RAN)
def test_what_only_shows_when_it_runs_fails_the_node_that_is_named(wrong):
    made, said = RAN[wrong]
    execution = run(made, raise_on_failure=False, workers=1)
    (failed,) = execution.failures
    assert said == str(execution.failures[failed])
    assert f"'{failed}'" in said


def test_an_iterator_is_used_by_one_execution_only():
    made = of(Buffer("b", iter([1, 2]), same))
    assert run(made)["b"].values == [1, 2]
    again = run(made, raise_on_failure=False)
    assert str(again.failures["b"]) == ("task 'b': its items are an iterator, which was used up before; give it a list")


def test_a_glob_whose_folder_is_missing(tmp_path):
    flow = Flow("f").triggered_by(Watch(str(tmp_path / "in" / "*.json"))).then(same).build()
    said = f"looks into a folder that isn't there; make '{tmp_path / 'in'}' first"
    with WorkflowManager() as manager:
        with pytest.raises(WorkflowDefinitionError, match=re.escape(said)):
            manager.start(flow)
        assert manager.executions() == []


def test_a_signal_that_nobody_can_be_waiting_for():
    execution = run(of(TaskDef("n", same)))
    said = f"execution '{execution.id}' is COMPLETED: nobody can be waiting for the signal 'go' any more"
    with pytest.raises(NervError, match=re.escape(said)):
        execution.signal("go")


@pytest.mark.parametrize(
    ("options", "settings", "said"),
    [
        ({"targets": ["one"]}, {}, "flow 'fed': a fed flow runs whole, start it without targets="),
        ({}, {"scheduling": "levels"}, 'messages have no levels; start it without scheduling="levels"'),
    ],
)
def test_what_a_fed_flow_doesnt_do(options, settings, said):
    flow = FED.then(TaskDef("one", same)).then(TaskDef("two", same)).build()
    with WorkflowManager(**settings) as manager, pytest.raises(WorkflowDefinitionError, match=re.escape(said)):
        manager.start(flow, **options)
