"""Certified mail over a restart, and over a timeout: a hook hears of the end of whatever it was told of."""

import threading
from itertools import pairwise

import pytest

from nerv import (
    Buffer,
    DeliveryState,
    Flow,
    Gate,
    JournalNode,
    Manual,
    MemoryJournal,
    Output,
    TaskDef,
    Workflow,
    WorkflowManager,
)
from nerv.testing import FakeClock
from nerv.wires import HEARD
from tests.handshake import PATIENCE, ended, eventually, reached
from tests.properties.recovering import WrittenJournal
from tests.test_wires import Post

FED = Flow("f").triggered_by(Manual())


def add(*numbers):
    return sum(numbers)


def odd_fails(m):
    if m % 2:
        raise ValueError(m)
    return m


B = TaskDef("y", add, args=(Output("x"),))
SHAPES = {
    "plain": Workflow("p", [TaskDef("x", int), B, TaskDef("c", int)]),
    "items": Workflow("i", [Buffer("many", range(4), TaskDef("one", int)), TaskDef("e", len, args=(Output("many"),))]),
    "lanes": Workflow("l", [Buffer("many", range(4), Workflow("two", [TaskDef("x", int), B]))]),
    "wire": FED.then(odd_fails).then(add).build(),
    "buffer": FED.buffer(2).then(add).then(odd_fails).build(),
}  # fmt: skip


class Watched(WrittenJournal):
    """Remembers how much the hook had heard when a write began: so much it has heard if the process died behind it."""

    def __init__(self, hook):
        super().__init__()
        self.hook, self.heard = hook, []

    def write(self, batch, *, sync=True):
        heard = len(self.hook.notes)
        super().write(batch, sync=sync)
        self.heard += [heard] * (len(self.batches) - len(self.heard))


def life(journal, hook, flow, *, recovers, keep=1000):
    """One life, to its end."""
    settings = {"workers": 2, "failure_policy": "continue", "keep": keep}
    with WorkflowManager(journal=journal, dispatch_hooks=[hook], **settings) as manager:
        if recovers:
            for execution in manager.recover(flow):
                if flow.name == "f":
                    execution.close()
                ended(execution)
        else:
            execution = manager.start(flow)
            if flow.name == "f":
                for message in range(4):
                    execution.send(message)
                execution.close()
            ended(execution)


def told(hook, most=None):
    """The lanes in which it was told of an intent, and the ends that it has heard of."""
    notes = hook.notes[:most]
    return {hook.intents[note[1]]["lane_id"] for note in notes if note[0] == "intent"}, [
        note[1] for note in notes if note[0] == "lane"
    ]


@pytest.mark.parametrize(("keep", "stride"), [(1000, 1000), (0, 1000), (0, 5)])
@pytest.mark.parametrize("shape", list(SHAPES))
def test_wherever_the_process_dies_each_lanes_end_is_told(shape, keep, stride, monkeypatch):
    monkeypatch.setattr("nerv.wires.STRIDE", stride)
    flow, first = SHAPES[shape], Post()
    journal = Watched(first)
    life(journal, first, flow, recovers=False)
    assert sorted(told(first)[0]) == sorted(told(first)[1])  # once, if nobody dies
    for cut in range(1, len(journal.batches) + 1):
        again, before = Post(), told(first, journal.heard[cut - 1])
        left = WrittenJournal(journal.batches[:cut])
        if not left.unfinished():
            continue
        life(left, again, flow, recovers=True, keep=keep)
        after = told(again)
        assert before[0] | after[0] <= {*before[1], *after[1]}, cut
        assert len(after[1]) == len({*after[1]}), "and in one life once"


def gated(**options):
    """A plain execution that has delivered everything, and stands at a gate."""
    return Workflow("g", [TaskDef("a", lambda: 1), TaskDef("b", add, args=(Output("a"),)), Gate("gate")], **options)


def test_a_lane_that_was_acknowledged_before_a_restart_is_complete_after_it():
    hook, journal = Post(), MemoryJournal()
    with WorkflowManager(journal=journal, dispatch_hooks=[hook], grace=0.0) as manager:
        execution = manager.start(gated())
        eventually(lambda: hook.counts()["acknowledged"] and execution.waiting())
    assert hook.counts()["lane"] == 0
    with WorkflowManager(journal=journal, dispatch_hooks=[hook]) as manager:
        (execution,) = manager.recover([gated()])
        execution.signal("gate")
        ended(execution)
    assert hook.counts() == {"intent": 1, "dispatched": 1, "acknowledged": 1, "lane": 1}


def test_after_an_orderly_close_no_end_is_told_again():
    hook, journal = Post(), MemoryJournal()
    flow = FED.then(add).then(odd_fails).build()
    for _ in range(3):
        with WorkflowManager(journal=journal, dispatch_hooks=[hook]) as manager:
            execution = manager.start(flow, execution_id="x")
            lanes = [execution.send(message) for message in range(6)]
            eventually(lambda: set(lanes) <= set(told(hook)[1]))  # noqa: B023  at once
    assert hook.counts()["lane"] == 18


def test_how_far_hooks_have_heard_is_kept_now_and_then(monkeypatch):
    """So after a crash only what was heard since is told again."""
    monkeypatch.setattr("nerv.wires.STRIDE", 50)
    hook = Post()
    journal = Watched(hook)
    life(journal, hook, SHAPES["wire"], recovers=False)
    with WorkflowManager(journal=journal, dispatch_hooks=[hook]) as manager:
        execution = manager.start(FED.then(add).then(odd_fails).build(), execution_id="x")
        lanes = [execution.send(message) for message in range(100)]
        eventually(lambda: set(lanes) <= set(told(hook)[1]))
        eventually(lambda: execution._live.wires._noted > len(execution.log) - 50)
        manager._keeping.recorder.wait(execution._live)
        batches = list(journal.batches)
        heard = [fact.value for batch in batches for fact in batch.facts if fact.name == HEARD]
        assert heard
        assert all(later - earlier >= 50 for earlier, later in pairwise(heard))
        execution.close()
        ended(execution)
    again, left = Post(), WrittenJournal(batches)
    with WorkflowManager(journal=left, dispatch_hooks=[again]) as manager:
        (execution,) = manager.recover([FED.then(add).then(odd_fails).build()])
        execution.close()
        ended(execution)
    assert again.counts().keys() <= {"lane"}
    assert again.counts()["lane"] <= 50


def test_an_acknowledgement_that_a_crash_has_lost_is_told_after_it():
    """A journal lists what it hasn't heard the end of; what ended before the crash is closed, well or not."""
    tasks = [
        JournalNode("n", value="letter"),
        TaskDef("good", len, args=(Output("n"),)),
        TaskDef("bad", int, args=(Output("n"),)),
        Gate("gate"),
    ]
    flow, silent = Workflow("kept", tasks), []

    class Deaf(MemoryJournal):
        """Loses what becomes of deliveries, as a crash does."""

        def on_acknowledged(self, entry_id):
            silent.append(entry_id) if len(silent) < 2 else super().on_acknowledged(entry_id)

        def on_failed(self, entry_id, error):
            silent.append(entry_id) if len(silent) < 2 else super().on_failed(entry_id, error)

    journal = Deaf()
    with WorkflowManager(journal=journal, failure_policy="continue", grace=0.0) as manager:
        execution = manager.start(flow)
        eventually(lambda: len(silent) == 2 and execution.waiting())
    assert len(journal.unacknowledged()) == 2
    with WorkflowManager(journal=journal, failure_policy="continue") as manager:
        (execution,) = manager.recover([flow])
        execution.signal("gate")
        ended(execution)
    assert {(one.to_id, one.state) for one in journal.entries()} == {
        ("good", DeliveryState.ACKED),
        ("bad", DeliveryState.FAILED),
    }


# ---- a hook that takes longer than its task may ---------------------------------------------------------------------


class Slow(Post):
    """Is back from the first intent of a task when it is let go."""

    def __init__(self, task):
        super().__init__()
        self.task, self.may_go, self.asked = task, threading.Event(), threading.Event()

    def on_intent(self, **wire):
        if wire["to_id"] == self.task and not self.asked.is_set():
            self.asked.set()
            reached(self.may_go)
        return super().on_intent(**wire)


@pytest.mark.parametrize("hooks", [1, 2])
@pytest.mark.parametrize("kept", [False, True])
def test_a_hook_that_is_back_when_the_lane_is_folded_hears_that_it_failed_and_then_of_its_end(hooks, kept):
    called, others = [], [Post() for _ in range(hooks - 1)]
    slow = Slow("late[0]")
    late, clock = TaskDef("late", called.append, timeout=5), FakeClock()
    settings = {"clock": clock, **({"journal": MemoryJournal()} if kept else {})}
    with WorkflowManager(dispatch_hooks=[slow, *others], keep=1, history_limit=1, workers=3, **settings) as manager:
        execution = manager.start(FED.buffer().then(add).then(late).build())
        lane = execution.send(0)
        reached(slow.asked)
        clock.advance(5)
        eventually(lambda: execution.send(1) and execution._live.is_folded("late[0]"))
        assert lane not in told(slow)[1]
        slow.may_go.set()
        eventually(lambda: lane in told(slow)[1])
        execution.close()
        assert execution.wait(PATIENCE)
        assert not execution._live.wires._ways._told
        assert not execution._live.wires._ways._under_way
        assert not execution._live.wires._ways._awaited
        assert not execution._live.wires._ways.open
    mine = {number for number, wire in slow.intents.items() if wire["lane_id"] == lane}
    notes = [note[0] for note in slow.notes if note[1] == lane or (note[0] != "lane" and note[1] in mine)]
    assert notes == ["intent", "dispatched", "acknowledged", "intent", "failed", "lane"]
    assert 0 not in called
    for other in others:
        assert sorted(told(other)[1]) == sorted(told(slow)[1])
