"""Going on with a fed flow: lanes that ended long ago aren't made anew, and it is as if they had been."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nerv import EventType, Flow, Manual, MemoryJournal, OnSignal, TaskDef, Watch, WorkflowManager
from nerv.feeder import Mold
from tests.flows.lives import Lives
from tests.flows.test_memory import SHAPES
from tests.handshake import Hold, ended, eventually
from tests.properties.recovering import WrittenJournal
from tests.rig import Rig

FED = Flow("f").triggered_by(Manual())
MORE = {
    **SHAPES,
    "undoable": FED.buffer(2).then(TaskDef("done", lambda m: m, compensate=lambda _: None)).then(str),
    "unkept": FED.then(TaskDef("made", lambda m: m, durable=False)).then(TaskDef("used", str)),
}  # fmt: skip


class Written:
    """A manager whose journal is written when we say."""

    def __init__(self, seed, batches=(), **settings):
        self.journal = WrittenJournal(batches)
        self.rig = Rig(seed, history_limit=0, workers=3, journal=self.journal, **settings)
        self.recorder = self.rig.manager._keeping.recorder
        self.recorder._wake = lambda: None

    def go(self):
        """All that happens, and is written, until nothing does for a minute."""
        self.rig.go(until=self.rig.now + 60)
        while self.recorder.commit():
            self.rig.go(until=self.rig.now + 60)


def first_life(flow, steps, seed):
    """What was written while these messages were sent, and while some of what they set off happened."""
    life = Written(seed, keep=1000)
    with life.rig as rig:
        execution = rig.manager.start(flow, execution_id="x")
        for i, (message, pause) in enumerate(steps):
            execution.send(message)
            if message % 3 == 1:
                execution.signal(f"gate[{i}]", message)
            for _ in range(pause):
                rig.pools.step()
            if pause > 3:
                life.recorder.commit()
        if len(steps) % 2:
            life.go()
        return list(life.journal.batches)


class Again:
    """The next life, to its end: what it began with, and how it ended."""

    def __init__(self, flow, batches, seed, keep):
        life = Written(seed, batches, keep=keep)
        with life.rig as rig:
            (self.execution,) = rig.manager.recover([flow])
            scheduler = self.execution._live.scheduler
            self.began = [*scheduler._turns], [(sorted(one.inside), list(one.queue)) for one in scheduler._stretches]
            self.numbers = [len(held) for held in (scheduler.state, scheduler.ids, self.execution._live.tasks)]
            self.grown = dict(self.execution._live.scheduler.state)
            self.execution.send(4)
            life.go()
            self.execution.close()
            life.go()
            ended(self.execution)
            self.kept = rig.manager.journal.load("x")


@settings(max_examples=40)
@given(
    st.sampled_from(list(MORE)),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 12)), min_size=1, max_size=25),
    st.integers(0, 3),
    st.floats(0.3, 1),
    st.integers(0, 99),
)
def test_passing_lanes_over_changes_nothing(shape, steps, keep, cut, seed):
    flow = MORE[shape].build()
    batches = first_life(flow, steps, seed)
    batches = batches[: max(2, round(cut * len(batches)))]
    less, more = (Again(flow, batches, seed, kept) for kept in (keep, 1000))
    small, big = less.execution, more.execution

    assert less.began == more.began
    assert less.numbers == more.numbers
    assert less.grown.items() <= more.grown.items()
    assert small.status is big.status
    assert small.result == big.result
    assert small.project("progress") == big.project("progress")
    assert small._live.scheduler.counts == big._live.scheduler.counts
    assert small._live.scheduler.excused == big._live.scheduler.excused
    assert small._live.scheduler.over == big._live.scheduler.over == small._live.scheduler.messages
    assert small.state["task_count"] == big.state["task_count"]
    assert small.project("task_status").items() <= big.project("task_status").items()
    assert dict(small.results).keys() <= dict(big.results).keys()
    assert small.failures.keys() <= big.failures.keys()
    told = [(event.seq, event.type, event.task_id) for event in big.events()]
    assert {(event.seq, event.type, event.task_id) for event in small.events()} <= set(told)
    assert [record[:2] for record in less.kept.records] == [record[:2] for record in more.kept.records]


def test_what_is_made_anew_depends_on_keep_and_not_on_how_many_messages_there_were(monkeypatch):
    flow, journal, made = FED.buffer(2).then(str).then(len).build(), MemoryJournal(), []
    with WorkflowManager(journal=journal, durability="off") as manager:
        execution = manager.start(flow)
        for message in range(300):
            execution.send(message)
        eventually(lambda: execution._live.scheduler.over == 300)
    plant = Mold.plant
    monkeypatch.setattr(Mold, "plant", lambda mold, message, item: made.append(message) or plant(mold, message, item))
    with WorkflowManager(journal=journal, keep=7, history_limit=0) as manager:
        (execution,) = manager.recover([flow])
        assert len(made) == execution._live.scheduler.lanes.count == 7
        assert len(execution.log.records) < 50
        assert len(execution._live.values) < 20
        execution.close()
        assert ended(execution).result == 300


def test_lanes_that_are_made_anew_are_forgotten_without_another_that_ends():
    """They have added tasks, so they aren't passed over."""
    flow, journal = SHAPES["growing"].build(), MemoryJournal()
    with WorkflowManager(journal=journal) as manager:
        execution = manager.start(flow)
        for _ in range(20):
            execution.send(3)
        eventually(lambda: execution._live.scheduler.over == 20)
    with WorkflowManager(journal=journal, keep=2, history_limit=0) as manager:
        (execution,) = manager.recover([flow])
        eventually(lambda: execution._live.scheduler.lanes.count == 2)
        coming = [event.task_id for event in execution.events() if event.type is EventType.TASKS_ADDED]
        assert coming.count("messages") == 2  # the records of the others' messages went with them


def test_signals_that_were_messages_go_with_their_lanes_and_the_others_stay():
    flow, journal = Flow("f").triggered_by(OnSignal("go")).buffer().gate("gate").then(str).build(), MemoryJournal()
    with WorkflowManager(journal=journal) as manager:
        execution = manager.start(flow)
        execution.signal("other", "kept")
        for message in range(10):
            execution.signal("go", message)
            if message != 3:
                execution.signal(f"gate[{message}]", message)
        eventually(lambda: execution._live.scheduler.over == 9)
    with WorkflowManager(journal=journal, keep=2, history_limit=0) as manager:
        (execution,) = manager.recover([flow])
        signals = execution._live.scheduler.suspensions.signals
        assert len(signals) == 3
        assert signals["other"] == "kept"
        messages = [event.data["value"] for event in execution.events() if event.data.get("name") == "go"]
        assert len(messages) == 3
        assert 3 in messages
        execution.signal("gate[3]", "open")
        execution.signal("go", "last")
        execution.signal("gate[10]", "open")
        execution.close()
        assert ended(execution).result == 11


def test_no_file_of_a_lane_that_is_passed_over_is_sent_again(tmp_path):
    lives = Lives(Watch(f"{tmp_path}/*.txt", settle=0.1), keep=1)
    for number in range(6):
        (tmp_path / f"{number}.txt").write_text("x")
    with lives.live() as first:
        eventually(lambda: first.clock.advance(0.1) or len(lives.came) == 6)
        eventually(lambda: first.execution._live.scheduler.over == 6)
    with lives.live(at=100.0) as second:
        assert second.execution._live.scheduler.lanes.count == 1
        (tmp_path / "new.txt").write_text("x")
        eventually(lambda: second.clock.advance(0.1) or len(lives.came) == 7)
        assert len({*second.over()}) == 7


@pytest.mark.parametrize("passed", [0, 5])
def test_a_message_on_a_wire_takes_its_turn_behind_those_that_are_passed_over(passed):
    """Nothing is under way when the process ends, or the last one is."""
    hold, came = Hold(), []

    def step(m):
        if m == "last":
            hold.entered()
        came.append(m)

    flow, journal = FED.then(TaskDef("step", step)).build(), MemoryJournal()
    with WorkflowManager(journal=journal, grace=0.0) as manager:
        execution = manager.start(flow)
        for message in range(5):
            execution.send(message)
        eventually(lambda: len(came) == 5)
        if passed:
            execution.send("last")
            eventually(lambda: "step[5]" in execution.sequence)
    hold.began.set()
    with WorkflowManager(journal=journal, keep=0, history_limit=0) as manager:
        (execution,) = manager.recover([flow])
        execution.send("more")
        execution.close()
        assert ended(execution).result == 6 + bool(passed)
    assert came[-1] == "more"
