"""Triggers of a fed flow with a journal go on where they were: nothing is sent twice, and nothing missed."""

import os
from datetime import UTC, datetime

import pytest

from nerv import Every, Flow, Gate, MemoryJournal, OnSignal, Schedule, Watch, Workflow, WorkflowManager
from nerv.journal.base import Batch
from nerv.testing import FakeClock
from tests.flows.helpers import same
from tests.flows.lives import EPOCH, Lives
from tests.flows.test_triggers import write
from tests.handshake import ended, eventually


def at(*clock):
    return datetime(2026, 3, *clock, tzinfo=UTC)


def test_every_keeps_its_phase_and_catches_nothing_up():
    lives = Lives(Every(60))
    with lives.live() as life:
        life.clock.advance(125)
        life.seen(2)
    with lives.live(at=500.5) as life:
        life.clock.advance(100)
        life.seen(4)
    with lives.live(at=615) as life:
        life.clock.advance(50)
        assert life.over() == [at(28, 12, minute) for minute in (1, 2, 9, 10, 11)]


def test_a_time_that_was_sent_isnt_sent_again_though_the_clock_was_set_back():
    lives = Lives(Every(60))
    with lives.live() as life:
        life.clock.advance(61)
        life.seen(1)
    with lives.live(at=30) as life:
        life.clock.advance(100)
        assert life.over() == [at(28, 12, 1), at(28, 12, 2)]


def test_a_schedule_goes_on():
    lives = Lives(Schedule("*/15 * * * *"))
    with lives.live() as life:
        life.clock.advance(16 * 60)
        life.seen(1)
    with lives.live(at=3000) as life:
        life.clock.advance(16 * 60)
        assert life.over() == [at(28, 12, 15), at(28, 13, 0)]


def test_a_watch_neither_repeats_nor_misses(tmp_path):
    lives = Lives(Watch(str(tmp_path / "*.json"), settle=1))
    paths = {name: str(tmp_path / f"{name}.json") for name in ("old", "changed", "deleted", "new", "unsettled")}
    for name in ("old", "changed", "deleted"):
        write(tmp_path / f"{name}.json", changed=1_000 + len(name))
    with lives.live() as life:
        life.clock.advance(2)
        life.seen(3)
        write(tmp_path / "unsettled.json", changed=1_500)
        life.clock.advance(0.6)
    write(tmp_path / "changed.json", "{...}", changed=2_000)
    write(tmp_path / "new.json", changed=3_000)
    (tmp_path / "deleted.json").unlink()
    with lives.live(at=100) as life:
        life.clock.advance(0.6)
        write(tmp_path / "deleted.json", changed=4_000)
        life.clock.advance(3)
        came = life.over()
    assert came == [paths[name] for name in ("old", "changed", "deleted", "unsettled", "changed", "new", "deleted")]


def test_a_watch_keeps_names_that_are_no_text(tmp_path):
    name = os.fsdecode(bytes(tmp_path) + b"/\xff.json")
    try:
        with open(name, "w"):
            pass
    except OSError:
        pytest.skip("this file system takes no such names")
    lives = Lives(Watch(str(tmp_path / "*.json"), settle=0))
    with lives.live() as life:
        life.clock.advance(1)
        life.seen(1)
    with lives.live(at=100) as life:
        life.clock.advance(1)
        assert life.over() == [name]


def test_signals_that_are_messages():
    lives = Lives(OnSignal("go"))
    with lives.live() as life:
        life.execution.signal("go", 1)
        life.execution.signal("go", 2)
        life.seen(2)
    with lives.live() as life:
        life.execution.signal("go", 3)
        assert life.over() == [1, 2, 3]
        signals = [event.data["value"] for event in life.execution.events() if event.type == "SIGNAL_RECEIVED"]
        assert signals == [1, 2, 3, 3]  # the last one is the close, which says how many there were


def test_a_signal_and_its_message_are_one_write():
    class Looking(MemoryJournal):
        def write(self, batch: Batch, *, sync=True):
            for stretch in batch.stretches:
                signals = sum((record[4] or {}).get("name") == "go" for record in stretch.records)
                assert signals == sum("message" in (record[4] or {}) for record in stretch.records)
            super().write(batch, sync=sync)

    flow = Flow("f").triggered_by(OnSignal("go")).then(same).build()
    with WorkflowManager(journal=Looking()) as manager:
        execution = manager.start(flow)
        assert all(execution.signal("go", m) for m in range(20))
        assert execution.close()
        assert ended(execution).result == 20
        assert not execution.error


@pytest.mark.parametrize("durability", ["strict", "group"])
def test_a_signal_for_a_flow_that_nobody_runs_is_a_message_once(durability):
    lives = Lives(OnSignal("go"), durability=durability)
    with lives.live() as life:
        life.execution.signal("go", "before")
        life.seen(1)
    for value in ("while it was down", ("a", {"tuple"})):
        lives.journal.order("x", "signal", {"name": "go", "value": value})
    with lives.live() as life:
        life.seen(3)
    with lives.live() as life:
        assert life.over() == ["before", "while it was down", ("a", {"tuple"})]


def test_a_signal_for_a_gate_that_nobody_runs_opens_it_when_it_goes_on():
    journal, flow = MemoryJournal(), Workflow("w", [Gate("ask")])
    with WorkflowManager(journal=journal, grace=0.0) as manager:
        manager.start(flow, execution_id="x")
    journal.order("x", "signal", {"name": "ask", "value": 7})
    with WorkflowManager(journal=journal) as manager:
        (again,) = manager.recover([flow])
        assert ended(again)["ask"] == 7
    assert journal.load("x").orders == []


def test_a_flow_whose_trigger_was_changed_goes_on(tmp_path):
    write(tmp_path / "a.json")
    every, watch = Lives(Every(60)), Lives(Watch(str(tmp_path / "*.json"), settle=0))
    with every.live() as life:
        life.clock.advance(61)
        life.seen(1)
    sent = [at(28, 12, 1)]
    for lives, message in ((watch, str(tmp_path / "a.json")), (every, at(28, 12, 3))):
        clock = FakeClock(epoch=EPOCH + 61 * len(sent) + 1)
        with WorkflowManager(journal=every.journal, clock=clock, grace=0.0) as manager:
            (execution,) = manager.recover([lives.flow], on_change="continue")
            clock.advance(60)
            sent.append(message)
            eventually(lambda: execution.project("progress").completed >= len(sent))  # noqa: B023  at once
            assert execution[f"see[{len(sent) - 1}]"] is None
    messages = [event.data["message"] for event in every.journal.events("x") if event.type == "TASKS_ADDED"]
    assert messages == sent
