"""Fed flows whose process was killed: nothing that was sent is lost, done twice, or out of its turn.

Each flow runs once to its end. Then it is run again and again, the journal cut after each write in turn, and gone on
with by another manager, which is sent what the journal doesn't know: it must end the same, nothing whose completion
was kept may run again, and turns and limits must hold over the cut.
"""

import re

import pytest

from nerv import Expand, Flow, Manual, Output, RetryPolicy, TaskDef, WorkflowManager, WorkflowStatus
from nerv.names import CLOSED
from nerv.stations import DIRECT
from tests.handshake import PATIENCE
from tests.nodes.test_regrowth import Cut

MESSAGES = 5

CALLS: list[str] = []

FED = Flow("fed").triggered_by(Manual())


@pytest.fixture(autouse=True)
def no_calls():
    CALLS.clear()


def first(ctx, m):
    CALLS.append(ctx.task_id)
    return m + 1


def second(ctx, m):
    CALLS.append(ctx.task_id)
    return m * 10


def third(ctx, m):
    CALLS.append(ctx.task_id)
    return m - 1


def fails_once(ctx, m):
    CALLS.append(ctx.task_id)
    if ctx.attempt == 1:
        raise ValueError("once")
    return m


def odd_fails(ctx, m):
    CALLS.append(ctx.task_id)
    if m % 2:
        raise ValueError("odd")
    return m


def grow(ctx, m):
    CALLS.append(ctx.task_id)
    tasks = [TaskDef(f"x{n}", first, args=(Output(f"x{n - 1}") if n else m,)) for n in range(2)]
    return Expand(tasks, result=Output("x1"))


def is_odd(m):
    return m % 2 == 1


RETRYING = TaskDef("fails_once", fails_once, retry_policy=RetryPolicy(3, 0.001))
SHAPES = {
    "direct": FED.then(first).then(second).then(third),
    "buffered": FED.buffer(max_parallel=2).then(first).then(second),
    "one at a time": FED.then(first).buffer(max_parallel=1).then(second).then(third),
    "two buffers": FED.buffer(max_parallel=3).then(first).buffer(max_parallel=2).then(second),
    "collect": FED.buffer().then(first).collect().then(second),
    "branches": FED.then(first).when(is_odd, id="odd").then(second).otherwise().then(third).end_when(),
    "a buffer in a branch": FED.buffer(3)
    .then(first)
    .when(is_odd, id="odd")
    .buffer(max_parallel=1)
    .then(second)
    .end_when(),
    "parallel": FED.buffer(max_parallel=2).then_parallel("both", first, third).then(TaskDef("end", len)),
    "gate": FED.then(first).gate("ask").then(third),
    "gate in a buffer": FED.buffer(max_parallel=2).gate("ask").then(third),
    "retry": FED.then(RETRYING).then(second),
    "retry in a buffer": FED.buffer(max_parallel=2).then(RETRYING).then(second),
    "expand": FED.then(grow).then(third),
    "expand in a buffer": FED.buffer(max_parallel=2).then(grow).then(third),
    "failures": FED.then(first).then(odd_fails).buffer(max_parallel=1).then(third),
    "not kept": FED.buffer(max_parallel=1).then(TaskDef("first", first, durable=False)).collect().then(second),
}


def feed(execution, known=0, *, closed=False):
    """Send what it doesn't know yet, open the gates, close it, and wait for its end."""
    for message in range(known, MESSAGES):
        execution.send(message)
    if "ask" in execution.workflow.tasks:
        for message in range(MESSAGES):
            execution.signal(f"ask[{message}]", 100 + message)
    assert execution.close() is not closed
    assert execution.wait(PATIENCE), execution.summary()


def is_kept(workflow, task_id):
    """Whether the journal has the result of a message's task."""
    step = workflow.tasks.get(task_id.split("[")[0])
    return step is None or step.id == "messages" or step.step.durable


def outcome(execution):
    """What must be the same whatever happened on the way."""
    tasks = execution.state["tasks"]
    results = {task: execution.results[task] for task in tasks if task in execution.results and task[-1] == "]"}
    results = {task: value for task, value in results.items() if is_kept(execution.workflow, task)}
    return *counts(execution), {task: tasks[task]["status"] for task in tasks}, results


def counts(execution):
    """What is known of lanes that were forgotten, too."""
    figures = execution.project("progress")
    return execution.status, execution.result, figures.completed, figures.failed, figures.skipped


class Floor:
    """Follows an execution's events, and sees to it that turns and limits hold, and that each Station ends last."""

    def __init__(self, workflow):
        source = workflow.tasks["messages"]
        self.steps = dict(zip(source.lane.tasks, source.stretches, strict=True))
        self.limits = {number: limit for number, limit in enumerate(source.limits) if limit is not None}
        self.inside = {}  # step on a direct wire, or stretch -> the messages that are there
        self.ended = {}  # (stretch, message) -> its steps there that have ended
        self.last = {}  # step on a direct wire -> the message that ended there last

    def place(self, step):
        return step if self.steps[step] == DIRECT else self.steps[step]

    def hear(self, event):
        if event.type == "TASK_COMPLETED" and event.task_id in self.steps:
            place = self.place(event.task_id)
            over = [
                message for (where, message), steps in self.ended.items() if where == place and event.task_id in steps
            ]
            assert len(over) == MESSAGES, event
        found = re.fullmatch(r"(.+)\[(\d+)\]", event.task_id or "")
        if found is None or found[1] not in self.steps:
            return
        step, message = found[1], int(found[2])
        stretch, place = self.steps[step], self.place(step)
        inside = self.inside.setdefault(place, set())
        if event.type == "TASK_STARTED":
            inside.add(message)
            self.ended.get((place, message), set()).discard(step)  # its result wasn't kept
            assert len(inside) <= (1 if stretch == DIRECT else self.limits.get(stretch, MESSAGES)), event
        elif event.type in {"TASK_COMPLETED", "TASK_FAILED", "TASK_SKIPPED", "TASK_CANCELLED"}:
            ended = self.ended.setdefault((place, message), set())
            ended.add(step)
            if stretch == DIRECT and message in inside:
                assert message > self.last.get(step, -1), event
                self.last[step] = message
            if len(ended) == (1 if stretch == DIRECT else sum(one == stretch for one in self.steps.values())):
                inside.discard(message)


def check(journal, flow):
    """What the journal's events must say in the end."""
    floor, events = Floor(flow), list(journal.events("x"))
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    for event in events:
        floor.hear(event)


@pytest.mark.parametrize("durability", ["strict", "group", "off"])
@pytest.mark.parametrize("shape", SHAPES)
def test_it_ends_the_same_wherever_the_journal_was_cut(shape, durability):
    cut_everywhere(shape, outcome, durability=durability)


@pytest.mark.parametrize("durability", ["strict", "group"])
@pytest.mark.parametrize("shape", ["two buffers", "retry", "expand in a buffer", "failures"])
def test_lanes_that_are_forgotten_change_nothing(shape, durability):
    cut_everywhere(shape, counts, durability=durability, keep=0)


def cut_everywhere(shape, outcome, **settings):
    """Run it, kill it after each write, have it go on, and compare."""
    flow, settings = SHAPES[shape].build(), {"workers": 3, **settings}
    whole = Cut(10**9)
    with WorkflowManager(journal=whole, **settings) as manager:
        execution = manager.start(flow, execution_id="x")
        feed(execution)
        wanted = outcome(execution)
    check(whole, flow)
    assert wanted[0] is WorkflowStatus.COMPLETED
    for writes in range(1, whole.total):
        journal = Cut(writes)
        with WorkflowManager(journal=journal, **settings) as manager:
            feed(manager.start(flow, execution_id="x"))
        journal.left = 10**9
        journal.release()
        if journal.execution("x").status.is_final:
            continue
        kept = list(journal.events("x"))
        done = {event.task_id for event in kept if event.type == "TASK_COMPLETED" and is_kept(flow, event.task_id)}
        known = sum("message" in (event.data or {}) for event in kept)
        closed = any(event.type == "SIGNAL_RECEIVED" and event.data["name"] == CLOSED for event in kept)
        CALLS.clear()
        with WorkflowManager(journal=journal, **settings) as manager:
            again = manager.start(flow, execution_id="x")
            if not closed:
                feed(again, known)
            assert again.wait(PATIENCE), (writes, again.summary())
            assert outcome(again) == wanted, writes
        assert not done & set(CALLS), writes
        check(journal, flow)
