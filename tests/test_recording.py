"""The recorder: who waits for a write sleeps, and what a write lets go isn't let go by the one before."""

import threading

from nerv import Expand, Flow, Manual, MemoryJournal, TaskDef, Workflow, WorkflowManager
from nerv.journal.base import Batch
from nerv.testing import FakeClock
from tests.handshake import PATIENCE, ended, eventually, reached

CALLED = threading.Event()


def child():
    CALLED.set()


class Held(MemoryJournal):
    """Holds back writes once it is told to."""

    def __init__(self):
        super().__init__()
        self.free = threading.Event()
        self.free.set()
        self.entered = threading.Event()

    def write(self, batch: Batch, *, sync=True):
        self.entered.set()
        assert self.free.wait(PATIENCE)
        super().write(batch, sync=sync)


def test_who_waits_for_a_write_is_woken_by_it_and_nothing_else():
    journal, timeouts = Held(), []
    with WorkflowManager(journal=journal) as manager:
        execution = manager.start(Flow("f").triggered_by(Manual()).then(str).build())
        eventually(lambda: execution.task("messages").status.name == "WAITING")
        recorder = execution._live.engine.recorder
        recorder.wait(execution._live)
        wait = recorder._written.wait

        def counted(timeout=None):
            timeouts.append(timeout)
            return wait(timeout)

        recorder._written.wait = counted
        journal.free.clear()
        journal.entered.clear()
        first, second = (threading.Thread(target=execution.send, args=(n,)) for n in range(2))
        first.start()
        reached(journal.entered)
        second.start()  # somebody else is writing
        eventually(lambda: timeouts)
        journal.free.set()
        for thread in (first, second):
            thread.join(PATIENCE)
        assert timeouts in ([None], [None, None])  # the write that was under way may wake it, and its own does
        execution.close()
        assert ended(execution).result == 2


def test_a_write_that_was_under_way_lets_nothing_go_that_was_added_meanwhile():
    grown, ready = threading.Event(), threading.Event()
    CALLED.clear()

    class Looking(Held):
        def write(self, batch: Batch, *, sync=True):
            if any("ids" in (record[4] or {}) for stretch in batch.stretches for record in stretch.records):
                assert not CALLED.wait(0.05)
            super().write(batch, sync=sync)

    def grow():
        reached(ready)
        journal.free.clear()
        journal.entered.clear()
        signal.start()
        reached(journal.entered)
        return Expand([TaskDef("child", child)])

    journal = Looking()
    with WorkflowManager(journal=journal) as manager:
        execution = manager.start(Workflow("w", [TaskDef("grow", grow)]))
        manager.event_bus.subscribe("TASKS_ADDED", lambda _: grown.set())
        signal = threading.Thread(target=execution.signal, args=("other",))  # something else is being written
        ready.set()
        reached(grown)
        journal.free.set()
        assert ended(execution).error is None
        signal.join(PATIENCE)
    assert CALLED.is_set()


def test_under_strict_a_message_goes_with_the_claim_of_its_first_step():
    settings = {"durability": "strict", "workers": 1, "clock": FakeClock()}  # nothing is late, and so written apart
    with WorkflowManager(journal=MemoryJournal(), **settings) as manager:
        execution = manager.start(Flow("f").triggered_by(Manual()).then(str).then(TaskDef("end", len)).build())
        eventually(lambda: execution.task("messages").status.name == "WAITING")
        recorder = execution._live.engine.recorder
        recorder.wait(execution._live)
        before = recorder.commits
        for message in range(10):
            execution.send(message)
            eventually(lambda: f"end[{message}]" in execution.results)  # noqa: B023  at once
        recorder.wait(execution._live)
        assert recorder.commits - before <= 30  # the message, one step's end with the other's claim, the end
        execution.close()
        assert ended(execution).result == 10
