"""Certified mail: hooks are told of what goes from task to task, and what became of it."""

import logging
import threading
from collections import Counter

import pytest

from nerv import (
    ConfigError,
    DeliveryState,
    EventType,
    Expand,
    JournalNode,
    MemoryJournal,
    Output,
    RetryPolicy,
    SqliteJournal,
    TaskCancelledError,
    TaskDef,
    Workflow,
    WorkflowManager,
    run,
)
from nerv.testing import FakeClock
from tests.handshake import PATIENCE, eventually, reached
from tests.pools import procfns


class Post:
    """A hook that notes what it is told, and never with the engine's lock held."""

    def __init__(self, fails_at=None):
        self.notes, self.intents, self.fails_at, self.lock = [], {}, fails_at, None
        self._mine = threading.Lock()

    def _note(self, what, *about):
        if self.lock is not None:
            assert self.lock.acquire(timeout=PATIENCE), "called under the engine's lock"
            self.lock.release()
        with self._mine:
            self.notes.append((what, *about))
        if what == self.fails_at:
            raise OSError("no paper")

    def on_intent(self, **wire):
        with self._mine:
            number = len(self.intents)
            self.intents[number] = wire
        self._note("intent", number)
        return number

    def on_dispatched(self, entry_id):
        self._note("dispatched", entry_id)

    def on_acknowledged(self, entry_id):
        self._note("acknowledged", entry_id)

    def on_failed(self, entry_id, error):
        self._note("failed", entry_id, error)

    def on_lane_complete(self, lane_id):
        self._note("lane", lane_id)

    def counts(self):
        return Counter(what for what, *_ in self.notes)

    def wires(self):
        return sorted((wire["from_id"], wire["to_id"]) for wire in self.intents.values())


def ran(hook, *tasks, **options):
    """An execution whose every wire is hooked."""
    with WorkflowManager(dispatch_hooks=[hook], **options) as manager:
        hook.lock = manager.engine.lock
        execution = manager.start(Workflow("wired", tasks))
        assert execution.wait(PATIENCE)
        return execution


def add(*numbers):
    return sum(numbers)


def boom(*_):
    raise ValueError("torn")


A, B = TaskDef("a", lambda: 1), TaskDef("b", add, args=(Output("a"),))


def test_each_wire_is_told_in_order_and_then_the_lane():
    hook = Post()
    ran(hook, A, B)
    lane_id = hook.intents[0]["lane_id"]
    assert hook.intents[0] == {
        "lane_id": lane_id, "from_id": "a", "to_id": "b", "payload_type": "int", "payload": 1
    }  # fmt: skip
    assert hook.notes == [("intent", 0), ("dispatched", 0), ("acknowledged", 0), ("lane", lane_id)]


def test_a_wire_that_only_orders_carries_nothing():
    hook = Post()
    ran(hook, A, TaskDef("c", add, dependencies=["a"]))
    assert hook.intents[0]["payload"] is None
    assert hook.counts() == {"intent": 1, "dispatched": 1, "acknowledged": 1, "lane": 1}


def test_the_payload_is_the_very_result():
    hook, letter = Post(), object()
    ran(hook, TaskDef("a", lambda: letter), TaskDef("b", id, args=(Output("a"),)))
    assert hook.intents[0]["payload"] is letter


@pytest.mark.parametrize("pool", ["thread", "process", "inline"])
def test_attempts_share_one_delivery_in_every_pool(pool):
    hook = Post()
    policy = RetryPolicy(maximum_attempts=3, initial_interval=0.001)
    execution = ran(
        hook,
        TaskDef("a", procfns.inc, args=(3,), pool=pool),
        TaskDef("b", procfns.add, args=(Output("a"), "text"), pool=pool, retry_policy=policy),
        processes=1,
    )
    assert execution.task("b").attempts == 3
    assert hook.counts() == {"intent": 1, "dispatched": 1, "failed": 1, "lane": 1}
    assert hook.notes[2][2] is execution.failures["b"]


def test_a_hook_that_takes_its_time_holds_up_no_other_coroutine():
    came = threading.Event()

    class Slow(Post):
        def on_intent(self, **wire):
            if wire["to_id"] == "held":
                assert came.wait(PATIENCE)
            return super().on_intent(**wire)

    async def quick(n):
        came.set()
        return n

    async def held(n):
        return n + 1

    held_task = TaskDef("held", held, args=(Output("a"),), priority=9)
    execution = ran(Slow(), A, held_task, TaskDef("quick", quick, args=(Output("a"),)))
    assert execution.results == {"a": 1, "held": 2, "quick": 1}


@pytest.mark.parametrize("error", [OSError("disk is gone"), StopIteration("odd")])
def test_what_on_intent_raises_is_a_coroutine_tasks_error_before_it_is_called(error):
    class Refusing(Post):
        def on_intent(self, **wire):
            raise error

    called = []

    async def receive(n):
        called.append(n)

    execution = ran(Refusing(), A, TaskDef("b", receive, args=(Output("a"),)))
    assert (execution.failures["b"], called) == (error, [])


def test_coroutines_have_wires_too():
    async def later(n):
        return n + 1

    hook = Post()
    assert ran(hook, A, TaskDef("b", later, args=(Output("a"),)))["b"] == 2
    assert hook.counts() == {"intent": 1, "dispatched": 1, "acknowledged": 1, "lane": 1}


def test_an_error_in_the_intent_fails_the_receiver_before_it_is_called():
    hook, called = Post(fails_at="intent"), []
    execution = ran(hook, A, TaskDef("b", called.append, args=(Output("a"),)))
    assert isinstance(execution.failures["b"], OSError)
    assert execution.failures["b"].__notes__ == ["raised by on_intent of Post for the wire 'a' -> 'b'"]
    assert not called
    assert hook.counts() == {"intent": 1, "lane": 1}


def test_a_wire_that_was_intended_when_another_could_not_be_has_failed():
    """The first intent succeeds, the second raises: nothing was dispatched."""
    hook = Post()
    intend = hook.on_intent

    def second_fails(**wire):
        if wire["from_id"] == "z":
            raise OSError("no paper")
        return intend(**wire)

    hook.on_intent = second_fails
    execution = ran(hook, A, TaskDef("z", add), TaskDef("b", add, args=(Output("a"), Output("z"))))
    assert hook.counts() == {"intent": 1, "failed": 1, "lane": 1}
    assert hook.notes[1][2] is execution.failures["b"]


def test_an_intent_that_fails_once_is_tried_again_with_the_task():
    hook = Post(fails_at="intent")
    intend = hook.on_intent

    def once(**wire):
        try:
            return intend(**wire)
        finally:
            hook.fails_at = None

    hook.on_intent = once
    policy = RetryPolicy(maximum_attempts=2, initial_interval=0.001)
    execution = ran(hook, A, TaskDef("b", add, args=(Output("a"),), retry_policy=policy))
    assert execution["b"] == 1
    assert hook.notes[:2] == [("intent", 0), ("intent", 1)]
    assert hook.counts() == {"intent": 2, "dispatched": 1, "acknowledged": 1, "lane": 1}


@pytest.mark.parametrize("method", ["dispatched", "acknowledged", "failed", "lane"])
def test_an_error_in_the_others_is_logged_and_published(method, caplog):
    hook, heard = Post(fails_at=method), []
    with caplog.at_level(logging.ERROR), WorkflowManager(dispatch_hooks=[hook], failure_policy="continue") as manager:
        manager.event_bus.subscribe(EventType.HANDLER_ERROR, heard.append)
        execution = manager.start(Workflow("wired", [A, B, TaskDef("bad", boom, args=(Output("a"),))]))
        execution.wait()
    assert execution["b"] == 1
    assert list(execution.failures) == ["bad"]
    named = {"lane": "on_lane_complete"}.get(method, f"on_{method}")
    assert {event.data["handler"] for event in heard} == {f"{named} of Post"}
    assert all(str(event.data["error"]) == "no paper" and event.execution_id == execution.id for event in heard)
    assert f"{named} of Post raised" in caplog.text


def test_a_receiver_that_is_cancelled_did_not_get_it():
    hook, began = Post(), threading.Event()

    def stuck(ctx, _):
        began.set()
        while True:
            ctx.check_cancelled()

    with WorkflowManager(dispatch_hooks=[hook]) as manager:
        execution = manager.start(Workflow("wired", [A, TaskDef("b", stuck, args=(Output("a"),))]))
        reached(began)
        execution.cancel()
        assert execution.wait(PATIENCE)
    assert hook.counts() == {"intent": 1, "dispatched": 1, "failed": 1, "lane": 1}
    assert isinstance(hook.notes[2][2], TaskCancelledError)


def test_a_receiver_that_is_given_up_while_its_hook_is_asked_did_not_get_it():
    """The hook is so slow that the attempt's time is over: the execution ends, the entry that comes late fails, and
    the function isn't called.
    """
    hook, asked, may_go, called, clock = Post(), threading.Event(), threading.Event(), [], FakeClock()
    intend = hook.on_intent

    def slow(**wire):
        asked.set()
        reached(may_go)
        return intend(**wire)

    hook.on_intent = slow
    with WorkflowManager(dispatch_hooks=[hook], clock=clock) as manager:
        execution = manager.start(Workflow("wired", [A, TaskDef("b", called.append, args=(Output("a"),), timeout=1)]))
        reached(asked)
        clock.advance(1)
        assert execution.wait(PATIENCE)
        may_go.set()
        eventually(lambda: hook.counts()["failed"])
    assert hook.counts() == {"intent": 1, "failed": 1, "lane": 1}
    assert not called
    assert [note[2] for note in hook.notes if note[0] == "failed"] == [execution.failures["b"]]


def test_a_hook_may_steer_the_execution_that_it_hears_of():
    """It is called without the engine's lock, so it can cancel what it hears of."""
    hook, held = Post(), {}
    hook.on_acknowledged = lambda _: held["execution"].cancel("enough")
    began, go = threading.Event(), threading.Event()

    def first():
        began.set()
        reached(go)
        return 1

    tasks = [
        TaskDef("a", first),
        B,
        TaskDef("c", add, args=(Output("b"),), pool="inline"),
        TaskDef("d", add, args=(Output("c"),)),
    ]
    with WorkflowManager(dispatch_hooks=[hook]) as manager:
        held["execution"] = manager.start(Workflow("wired", tasks))
        reached(began)
        go.set()
        assert held["execution"].wait(PATIENCE)
        assert held["execution"].status.name == "CANCELLED"
    assert hook.counts()["lane"] == 1


def test_without_hooks_there_are_no_wires():
    with WorkflowManager() as manager:
        execution = manager.start(Workflow("plain", [A, B]))
        execution.wait()
        assert manager.engine.hooks == ()
        assert execution._live.wires is None
        assert execution._live.on_change == []


def test_what_is_no_hook_is_refused():
    with pytest.raises(ConfigError, match="has no on_intent"):
        WorkflowManager(dispatch_hooks=[object()])
    with pytest.raises(ConfigError, match="takes a list of DispatchHooks"):
        WorkflowManager(dispatch_hooks=Post())


def test_a_journal_node_that_is_added_has_its_wires_hooked():
    hook = Post()

    def grow():
        return Expand([JournalNode("n", value=5, hook=hook), TaskDef("c", add, args=(Output("n"),))], Output("c"))

    assert run(Workflow("grown", [TaskDef("g", grow)]))["g"] == 5
    assert hook.wires() == [("g/n", "g/c")]
    assert hook.counts() == {"intent": 1, "dispatched": 1, "acknowledged": 1, "lane": 1}


def test_a_hook_of_every_wire_hears_of_a_journal_nodes_wire_once():
    hook = Post()
    ran(hook, JournalNode("n", value=5, hook=hook), TaskDef("c", add, args=(Output("n"),)))
    assert hook.wires() == [("n", "c")]


def test_the_journal_keeps_the_deliveries_of_a_journal_node():
    with MemoryJournal() as journal:
        flow = Workflow("kept", [JournalNode("n", value=[1, 2]), TaskDef("c", len, args=(Output("n"),)), A, B])
        run(flow, journal=journal)
        (entry,) = journal.entries()
        assert (entry.from_id, entry.to_id, entry.payload, entry.payload_type) == ("n", "c", [1, 2], "list")
        assert entry.state is DeliveryState.ACKED
        assert journal.unacknowledged() == []


def test_a_payload_that_the_journal_cannot_keep_fails_the_receiver():
    with MemoryJournal() as journal:
        flow = Workflow(
            "kept",
            [
                TaskDef("a", threading.Lock, durable=False),
                JournalNode("n", value=Output("a"), durable=False),
                TaskDef("c", repr, args=(Output("n"),)),
            ],
        )
        execution = run(flow, journal=journal, raise_on_failure=False)
        assert "raised by on_intent of MemoryJournal for the wire 'n' -> 'c'" in execution.failures["c"].__notes__
        assert journal.entries() == []


def test_what_was_on_its_way_at_a_crash_goes_on_and_is_not_sent_twice(tmp_path):
    """The manager is closed while the receiver runs; the next one calls it again, for the same delivery."""
    began, go, calls = threading.Event(), threading.Event(), []

    def receive(letter):
        calls.append(letter)
        began.set()
        reached(go)
        return letter

    flow = Workflow("kept", [JournalNode("n", value="letter"), TaskDef("c", receive, args=(Output("n"),))])
    manager = WorkflowManager(journal=tmp_path / "runs.db", grace=0.0)
    execution = manager.start(flow)
    reached(began)
    manager.close()
    with SqliteJournal(tmp_path / "runs.db", read_only=True) as journal:
        (before,) = journal.entries()
        assert before.state is DeliveryState.DISPATCHED
    go.set()
    assert run(flow, journal=tmp_path / "runs.db", execution_id=execution.id)["c"] == "letter"
    with SqliteJournal(tmp_path / "runs.db", read_only=True) as journal:
        (after,) = journal.entries()
    assert (after.id, after.lane_id, after.state) == (before.id, before.lane_id, DeliveryState.ACKED)
    assert calls == ["letter"] * 2


@pytest.mark.parametrize("kept", [False, True])
def test_whoever_waits_for_the_end_finds_that_the_hooks_have_heard_everything(kept):
    """Wide and deep graphs, many times over: each wire once, in order, before `wait` returns."""
    for _ in range(40):
        hook = Post()
        tasks = [TaskDef(f"a{n}", int) for n in range(8)]
        tasks += [TaskDef(f"b{n}", add, args=(Output(f"a{n}"), Output(f"a{(n + 1) % 8}"))) for n in range(8)]
        tasks.append(TaskDef("end", add, args=tuple(Output(f"b{n}") for n in range(8))))
        with MemoryJournal() as journal:
            ran(hook, *tasks, workers=4, **({"journal": journal} if kept else {}))
        assert hook.counts() == {"intent": 24, "dispatched": 24, "acknowledged": 24, "lane": 1}
        assert hook.notes[-1][0] == "lane"
        for entry in hook.intents:
            about = [note[0] for note in hook.notes if note[0] != "lane" and note[1] == entry]
            assert about == ["intent", "dispatched", "acknowledged"]
