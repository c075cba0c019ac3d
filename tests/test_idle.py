"""With nothing to do nobody wakes: the operating system's own count, for what keeps an engine waiting."""

import asyncio
import contextlib
import threading
from pathlib import Path

import pytest

from nerv import ANY, Flow, Gate, Manual, OnSignal, TaskDef, Workflow, WorkflowManager
from tests.conftest import nerv_threads
from tests.handshake import PATIENCE, eventually, flow, give, reached

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="wake-ups are counted in /proc")

A_WHILE = 0.25
"""Seconds for which nobody may wake; whoever polls does so more often."""

STEADY = 20
"""So many looks in a row, 10 ms apart, that see no wake-up: what led to the rest is over."""


def woken():
    """How often each thread of nerv's, and each of its worker processes', fell asleep so far."""
    tasks = [Path(f"/proc/self/task/{thread.native_id}") for thread in nerv_threads()]
    children = [child for task in tasks for child in (task / "children").read_text(encoding="utf-8").split()]
    for child in children:
        tasks += Path(f"/proc/{child}/task").iterdir()
    found = {}
    for task in tasks:
        with contextlib.suppress(FileNotFoundError):  # it has just ended
            status = (task / "status").read_text(encoding="utf-8")
            found[task.name] = int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0])
    return found


def at_rest():
    """The counts, once they have stood still."""
    pause, steady, before = threading.Event(), 0, woken()

    def is_steady():
        nonlocal steady, before
        pause.wait(0.01)
        now = woken()
        steady, before = (steady + 1 if now == before else 0), now
        return steady == STEADY

    eventually(is_steady, "threads that sleep")
    return before


def gate(manager, _):
    manager.start(flow(Gate("g"), TaskDef("after", give, args=(1,), dependencies=["g"])))


def paused(manager, pool):
    """Half-way: what ran has ended, the rest is ready."""
    begun, go = threading.Event(), threading.Event()

    def first():
        begun.set()
        reached(go)

    async def breathe():
        await asyncio.sleep(0)

    warm = TaskDef("warm", breathe if pool == "async" else give, args=() if pool == "async" else (1,), pool=pool)
    rest = [TaskDef(f"t{i}", give, args=(i,), dependencies=["first"]) for i in range(20)]
    execution = manager.start(Workflow("half", [warm, TaskDef("first", first, dependencies=["warm"]), *rest]))
    assert begun.wait(PATIENCE)
    execution.pause()
    go.set()


def fed(manager, _):
    execution = manager.start(Flow("f").triggered_by(Manual()).buffer().then(give).build())
    for message in range(3):
        execution.send(message)


def signalled(manager, _):
    manager.start(Flow("f").triggered_by(OnSignal("news")).then(give).build()).signal("news", 1)


def listened_to(manager, pool):
    manager.event_bus.subscribe(ANY, lambda _: None)
    paused(manager, pool)


KEPT_WAITING = [
    *[(paused, pool) for pool in ("thread", "process", "async")],
    *[(what, "thread") for what in (listened_to, gate, fed, signalled)],
]


@pytest.mark.parametrize("has_journal", [False, True], ids=["in memory", "with a journal"])
@pytest.mark.parametrize(("what", "pool"), KEPT_WAITING)
def test_nobody_wakes(what, pool, has_journal, tmp_path):
    """Nor does anything use the processor: who never wakes can't."""
    journal = {"journal": str(tmp_path / "runs.db")} if has_journal else {}
    with WorkflowManager(workers=2, processes=1, grace=0.1, **journal) as manager:
        what(manager, pool)
        before = at_rest()
        timers = manager.engine.timer.wake_ups
        threading.Event().wait(A_WHILE)
        assert woken() == before
        assert manager.engine.timer.wake_ups == timers
        for execution in manager.executions():
            execution.cancel()


def test_who_waits_for_an_execution_does_not_wake():
    """Anywhere but in the main thread, which must hear of Ctrl-C."""
    with WorkflowManager(workers=2, grace=0.1) as manager:
        execution = manager.start(flow(Gate("g")))
        waiter = threading.Thread(target=execution.wait, name="nerv-test-waiter", daemon=True)
        waiter.start()
        before = at_rest()
        assert str(waiter.native_id) in before
        threading.Event().wait(A_WHILE)
        assert woken() == before
        execution.signal("g")
        waiter.join(PATIENCE)
        assert not waiter.is_alive()


def test_the_count_sees_who_polls():
    over = threading.Event()

    def poll():
        while not over.wait(0.05):
            pass

    poller = threading.Thread(target=poll, name="nerv-test-poller", daemon=True)
    poller.start()
    before = woken()
    threading.Event().wait(A_WHILE)
    after = woken()
    over.set()
    poller.join(PATIENCE)
    assert after[str(poller.native_id)] > before[str(poller.native_id)]
