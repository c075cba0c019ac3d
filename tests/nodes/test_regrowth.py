"""What tasks have added, and wait for, after the process that ran them is gone.

Each workflow runs once to its end. Then it is run again and again, the journal cut after each write in turn, and gone
on with by another manager: it must end the same, and nothing whose completion was kept may run again.
"""

import threading

import pytest

from nerv import (
    Buffer,
    BufferComplete,
    Collector,
    Expand,
    Gate,
    JournalNode,
    Loop,
    MemoryJournal,
    Output,
    Page,
    Paginate,
    RetryPolicy,
    Route,
    Router,
    SerializationError,
    SubWorkflow,
    TaskDef,
    Timer,
    Workflow,
    WorkflowManager,
    WorkflowStatus,
    run,
)
from nerv import Sequence as Steps
from nerv.journal.base import Batch
from tests.handshake import eventually

CALLS: list[str] = []


@pytest.fixture(autouse=True)
def no_calls():
    CALLS.clear()


def note(ctx, *given):
    CALLS.append(ctx.task_id)
    return f"{ctx.task_id}:{len(given)}"


def square(ctx, item):
    CALLS.append(ctx.task_id)
    return item * item


def odd(ctx, item):
    CALLS.append(ctx.task_id)
    if item % 2:
        raise ValueError(f"{item} is odd")
    return item


def shaky(ctx, item):
    CALLS.append(ctx.task_id)
    if ctx.attempt == 1:
        raise ValueError("once")
    return item


def grow(ctx):
    CALLS.append(ctx.task_id)
    tasks = [TaskDef(f"x{n}", note, args=(Output(f"x{n - 1}"),) if n else ()) for n in range(3)]
    return Expand(tasks, result=[Output("x0"), Output("x2")])


def deep(ctx, levels):
    CALLS.append(ctx.task_id)
    return Expand([TaskDef("d", deep, args=(levels - 1,))], result=Output("d")) if levels else "bottom"


def page(ctx, cursor):
    CALLS.append(ctx.task_id)
    at = cursor or 0
    return Page([at, at + 1], at + 2 if at < 4 else None)


def total(complete):
    return sum(complete.values)


def items():
    return list(range(6))


def inner():
    return Workflow("inner", [TaskDef("one", note), TaskDef("two", note, args=(Output("one"),))])


def flows():
    """Workflows by name, each with what its execution's results are at the end."""
    source = TaskDef("items", items)
    end = TaskDef("end", note, dependencies=["node"])
    return {
        "expand": [TaskDef("node", grow), end],
        "deep": [TaskDef("node", deep, args=(4,)), end],
        "buffer": [source, Buffer("node", Output("items"), square), TaskDef("sum", total, args=(Output("node"),))],
        "throttled": [source, Buffer("node", Output("items"), square, max_parallel=2), end],
        "retrying": [source, Buffer("node", Output("items"), TaskDef("s", shaky, retry_policy=RetryPolicy(2, 0.001)))],
        "collecting": [source, Buffer("node", Output("items"), odd, on_item_error="collect"), end],
        "collector": [
            source, Buffer("node", Output("items"), square, collect=False), Collector("all", "node"),
            TaskDef("sum", total, args=(Output("all"),)),
        ],
        "nested": [source, Buffer("node", Output("items"), inner()), end],
        "sequence": [Steps("node", [note_one, note_one, note_one], 0), end],
        "loop": [Loop("node", note_one, lambda value: value >= 3, value=0), end],
        "paginate": [Paginate("node", page), end],
        "sub": [SubWorkflow("node", inner()), end],
        "router": [
            TaskDef("v", lambda: 2), Router("node", Output("v"), {1: "a", 2: "b"}),
            TaskDef("a", note, dependencies=["node"]),
            TaskDef("b", note, dependencies=["node"]), TaskDef("c", note, dependencies=["a"]),
            TaskDef("join", note, args=(Output.first("a", "b"),)),
        ],
        "route": [
            TaskDef("node", lambda: Route("b")), TaskDef("a", note, dependencies=["node"]),
            TaskDef("b", note, dependencies=["node"]),
        ],
        "timer": [Timer("node", seconds=0.01), end],
        "mail": [JournalNode("node", "letter"), end],
    }  # fmt: skip


def note_one(ctx, value):
    CALLS.append(ctx.task_id)
    return value + 1


NAMES = list(flows())


def workflow(name):
    return Workflow(name, flows()[name])


def outcome(execution):
    tasks = execution.state["tasks"]
    return execution.status, {one: (tasks[one]["status"], told(execution.results.get(one))) for one in tasks}


def told(value):
    """A result in a form that can be compared."""
    if isinstance(value, BufferComplete):
        return repr(list(value)), {index: repr(error) for index, error in value.errors.items()}
    return repr(value)


class Cut(MemoryJournal):
    """Takes so many batches, and forgets the others: what a process leaves that was killed then."""

    def __init__(self, writes):
        super().__init__()
        self.left = writes
        self.total = 0

    def write(self, batch, *, sync=True):
        self.total += 1
        if self.left > 0:
            self.left -= 1
            super().write(batch, sync=sync)


@pytest.mark.parametrize("durability", ["strict", "group"])
@pytest.mark.parametrize("name", NAMES)
def test_it_ends_the_same_wherever_the_journal_was_cut(name, durability):
    whole = Cut(10**9)
    with WorkflowManager(journal=whole, durability=durability, workers=2) as manager:
        first = manager.start(workflow(name))
        assert first.wait(20)
        wanted = outcome(first)
    assert wanted[0] is WorkflowStatus.COMPLETED
    for writes in range(1, whole.total):
        journal = Cut(writes)
        with WorkflowManager(journal=journal, durability=durability, workers=2) as manager:
            assert manager.start(workflow(name), execution_id="x").wait(20)
        journal.left = 10**9
        journal.release()
        done = {event.task_id for event in journal.events("x") if event.type == "TASK_COMPLETED"}
        CALLS.clear()
        if journal.execution("x").status.is_final:
            continue
        with WorkflowManager(journal=journal, durability=durability, workers=2) as manager:
            again = manager.start(workflow(name), execution_id="x")
            assert again.wait(20), (writes, again.summary())
            assert outcome(again) == wanted, writes
            assert not done & set(CALLS), writes
            assert [event.seq for event in again.events()] == list(range(1, len(list(again.events())) + 1))


def plus(item, more):
    return item + more


def widen(more):
    return Expand([TaskDef("x", plus, args=(1, Output("source")))], result=Output("x"))


@pytest.mark.parametrize(
    "node",
    [
        TaskDef("node", widen, args=(Output("source"),)),
        Buffer("node", [1, 1], TaskDef("add", plus, kwargs={"more": Output("source")})),
    ],
    ids=["expand", "buffer"],
)
def test_what_was_added_waits_for_what_runs_again_as_its_result_was_not_kept(node):
    tasks = [TaskDef("source", lambda: 5, durable=False), node]
    whole = Cut(10**9)
    run(Workflow("w", tasks), journal=whole)
    for writes in range(1, whole.total):
        journal = Cut(writes)
        run(Workflow("w", tasks), journal=journal, execution_id="x")
        journal.left = 10**9
        journal.release()
        with WorkflowManager(journal=journal) as manager:
            again = manager.start(Workflow("w", tasks), execution_id="x")
            assert again.wait(20), (writes, again.summary())
            assert told(again["node"]) in (repr(6), (repr([6, 6]), {}))


def held_at_a_gate(**fields):
    return Workflow(
        "gated",
        [
            TaskDef("before", note),
            Gate("gate", prompt="really?", dependencies=["before"], **fields),
            TaskDef("after", lambda answer: answer, args=(Output("gate"),)),
        ],
    )


def test_a_gate_waits_on_with_its_prompt_and_is_opened_afterwards():
    journal = MemoryJournal()
    with WorkflowManager(journal=journal, grace=0.0) as manager:
        before = manager.start(held_at_a_gate())
        eventually(lambda: before.task("gate").status.name == "WAITING")
    with WorkflowManager(journal=journal) as manager:
        (again,) = manager.recover(held_at_a_gate())
        (waiting,) = again.waiting()
        assert (waiting.task_id, waiting.prompt) == ("gate", "really?")
        assert again.signal("gate", 7)
        assert again.wait(10)
        assert (again["after"], CALLS.count("before")) == (7, 1)


def test_a_signal_that_came_early_is_kept():
    journal = MemoryJournal()
    hold = threading.Event()
    tasks = [TaskDef("slow", lambda: hold.wait(20)), Gate("gate", dependencies=["slow"])]
    with WorkflowManager(journal=journal, grace=0.0) as manager:
        before = manager.start(Workflow("early", tasks))
        assert before.signal("gate", "first")
        assert not before.signal("gate", "second")
    hold.set()
    with WorkflowManager(journal=journal) as manager:
        (again,) = manager.recover(Workflow("early", tasks))
        assert again.wait(10)
        assert again["gate"] == "first"


def test_a_journal_knows_the_tasks_that_were_added_without_the_code():
    journal = MemoryJournal()
    run(workflow("expand"), journal=journal, execution_id="x")
    with WorkflowManager(journal=journal) as manager:
        shown = manager.execution("x")
        assert shown["node/x2"] == "node/x2:1"
        assert shown.task("node/x0").attempts == 1
        assert shown.project("completed_tasks") == {"node", "end", "node/x0", "node/x1", "node/x2"}


def test_an_added_task_that_cannot_be_kept_is_named():
    lock = threading.Lock()

    def bad():
        return Expand([TaskDef("fine", note), TaskDef("locked", lock.locked)])

    execution = run(Workflow("w", [TaskDef("grow", bad)]), journal=MemoryJournal(), raise_on_failure=False)
    error = execution.task("grow").error
    assert isinstance(error, SerializationError)
    assert "'grow'" in str(error)
    assert "'locked'" in str(error)


def test_nothing_that_was_added_starts_before_it_is_kept():
    class Slow(MemoryJournal):
        def write(self, batch: Batch, *, sync=True):
            added = any("ids" in (record[4] or {}) for stretch in batch.stretches for record in stretch.records)
            if added:
                assert not [one for one in CALLS if "/" in one]
            super().write(batch, sync=sync)

    execution = run(workflow("expand"), journal=Slow())
    assert execution["node"] == ["node/x0:0", "node/x2:1"]


def burrow(ctx, levels):
    CALLS.append(levels)
    if not levels:
        return Expand(
            [TaskDef("left", note), Gate("gate"), TaskDef("end", same, args=(Output("gate"),))], Output("end")
        )
    return Expand([TaskDef("x", burrow, args=(levels - 1,))], result=Output("x"))


def same(value):
    return value


def test_ids_of_thousands_of_characters_are_kept_and_found_again():
    """Kept as text, found by their text, in the execution that goes on and in one that is only looked at."""
    journal, depth = MemoryJournal(), 600
    burrowing = Workflow("burrow", [TaskDef("a", burrow, args=(depth,)), TaskDef("b", same, args=(Output("a"),))])
    deepest = "a" + "/x" * depth
    assert len(deepest) > 1000
    with WorkflowManager(journal=journal, grace=0.0) as manager:
        before = manager.start(burrowing, execution_id="deep")
        eventually(lambda: before.waiting() and before.task(f"{deepest}/left").status.is_final)
    with WorkflowManager(journal=journal) as manager:
        shown = manager.execution("deep")
        assert shown[f"{deepest}/left"] == f"{deepest}/left:0"
        (again,) = manager.recover(burrowing)
        assert [waiting.task_id for waiting in again.waiting()] == [f"{deepest}/gate"]
        assert again.state["tasks"][deepest].status.name == "RUNNING"
        assert again.signal(f"{deepest}/gate", 7)
        assert again.wait(20)
        assert (again.status, again.result, again[deepest]) == (WorkflowStatus.COMPLETED, 7, 7)
        assert (again[f"{deepest}/left"], len(again.results)) == (f"{deepest}/left:0", depth + 5)
    assert sorted(CALLS, key=str) == sorted([*range(depth + 1), f"{deepest}/left"], key=str), "nothing ran twice"
    with WorkflowManager(journal=journal) as manager:
        done = manager.execution("deep")
        assert (done[deepest], done.task(f"{deepest}/gate").result, len(done.results)) == (7, 7, depth + 5)
        assert f"{deepest}/end" in done.project("completed_tasks")
