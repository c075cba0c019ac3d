"""The recorder: who waits for a write sleeps, and what a write lets go isn't let go by the one before."""

import threading

import pytest

from nerv import (
    EventType,
    Expand,
    Flow,
    JournalError,
    Manual,
    MemoryJournal,
    Output,
    TaskDef,
    Workflow,
    WorkflowManager,
    WorkflowStatus,
)
from nerv.journal.base import Batch
from nerv.pools.thread import ThreadPool
from nerv.testing import FakeClock
from tests.handshake import PATIENCE, Hold, ended, eventually, reached

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


def test_under_strict_a_chain_calls_up_nobody_who_then_finds_nothing(monkeypatch):
    called_up, call_up = [], ThreadPool.call_up

    def counted(pool, ready):
        called_up.append(ready)
        call_up(pool, ready)

    monkeypatch.setattr(ThreadPool, "call_up", counted)
    steps = [TaskDef("0", int)]
    steps += [TaskDef(str(number), abs, args=(Output(str(number - 1)),)) for number in range(1, 100)]
    with WorkflowManager(journal=MemoryJournal(), durability="strict", workers=4, clock=FakeClock()) as manager:
        manager.start(Workflow("chain", steps)).wait()
    assert len(called_up) < 10  # for the first step, and as long as the thread is still at it


@pytest.mark.parametrize("durability", ["group", "strict"])
def test_who_waits_for_a_message_writes_it_and_the_thread_sleeps(durability):
    hold = Hold()
    with WorkflowManager(journal=MemoryJournal(), durability=durability, workers=1, clock=FakeClock()) as manager:
        execution = manager.start(
            Flow("f").triggered_by(Manual()).then(TaskDef("hold", lambda ctx, _: hold(ctx))).build()
        )
        execution.send("held")
        hold.entered()
        recorder = execution._live.engine.recorder
        eventually(lambda: recorder.has_caught_up() and not recorder._awake)
        woken, wake = [], recorder._wake
        recorder._wake = lambda: (woken.append(True), wake())
        before = recorder.commits
        for message in range(20):
            execution.send(message)
        assert recorder.commits - before == 20
        assert not woken
        hold.go()
        execution.close()
        assert ended(execution).result == 21


ASKED, REFUSED = [], []


def asked():
    """What a value's own pickling code does; it is called by whoever pickles it, the recorder for one."""
    execution = ASKED.pop() if ASKED else None
    if execution is not None:
        assert execution.status is WorkflowStatus.RUNNING
        assert execution.state["task_count"]
        for ask in (lambda: execution.send("more"), execution.wait, lambda: execution.signal("s", 1)):
            try:
                ask()
            except JournalError as error:
                REFUSED.append(str(error))


class AskingError(ValueError):
    """An error that asks its execution for things while it is pickled."""

    def __reduce__(self):
        asked()
        return (AskingError, ())


class Spare:
    """A result that does."""

    def __reduce__(self):
        asked()
        return (Spare, ())


def fail(_):
    raise AskingError


@pytest.mark.parametrize("durability", ["group", "strict", "off"])
@pytest.mark.parametrize("fallback", [{}, {"fallback": Spare()}], ids=["an error", "a fallback"])
def test_what_a_value_asks_of_its_execution_while_it_is_pickled_harms_nothing(fallback, durability):
    """Neither is anything written twice, nor does it wait for itself; what it asked for happens, and is kept."""
    REFUSED.clear()
    with WorkflowManager(journal=MemoryJournal(), durability=durability) as manager:
        execution = manager.start(Flow("f").triggered_by(Manual()).then(TaskDef("fail", fail, **fallback)).build())
        ASKED[:] = [execution]
        execution.send("first")
        eventually(lambda: len(REFUSED) == 3 and execution.task("fail[1]").status.is_final)
        execution.close()
        assert ended(execution).error is None
        kept = manager.journal.load(execution.id)
        assert execution.result == 2
        assert [record[:2] for record in kept.records] == [record[:2] for record in execution.log.records]
        assert [event.type for event in execution.events()].count(EventType.SIGNAL_RECEIVED) == 2  # and the close
    assert all("can't be waited for by code that is called while a value is pickled" in text for text in REFUSED)


def test_what_a_result_asks_while_its_worker_encodes_it_is_on_disk_at_once():
    REFUSED.clear()
    with WorkflowManager(journal=MemoryJournal()) as manager:
        execution = manager.start(Flow("f").triggered_by(Manual()).then(TaskDef("make", lambda _: Made())).build())
        ASKED[:] = [execution]
        execution.send("first")
        eventually(lambda: execution.task("messages").status.is_final or "make[1]" in execution.results)
        execution.close()
        assert ended(execution).result == 2
    assert not REFUSED


class Made:
    """A result that sends one more message, and is sent when that is on disk."""

    def __reduce__(self):
        if ASKED:
            ASKED.pop().send("more")
        return (Made, ())
