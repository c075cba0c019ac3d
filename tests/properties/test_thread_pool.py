"""The thread pool: as many workers as it takes, never more than its limit, and none awake for nothing."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from random import Random
from unittest import mock

import pytest

from nerv import TaskDef, Workflow, WorkflowManager
from nerv.pools import thread as thread_pool
from nerv.pools.thread import ThreadPool
from nerv.testing import FakeClock
from tests.handshake import PATIENCE, ended, reached

LIMIT = 16


def independent(functions):
    """A workflow of tasks that need nothing."""
    return Workflow("wide", [TaskDef(str(number), fn) for number, fn in enumerate(functions)])


def pool_of(manager):
    """The manager's thread pool."""
    return manager._pools["thread"]


@contextmanager
def at_rest(manager):
    """The pool once all its workers sleep, with the lock held."""
    pool = pool_of(manager)
    for _ in range(int(PATIENCE / thread_pool.PATIENCE)):
        with manager.engine.lock:
            if len(pool._idle) == len(pool._workers) and pool._standby is None:
                yield pool
                return
        threading.Event().wait(thread_pool.PATIENCE)
    pytest.fail("its workers don't come to rest")


def check_at_rest(manager):
    """Every worker is idle once, and nobody is taken to be on the way."""
    with at_rest(manager) as pool:
        assert (pool.running, pool._coming, pool.attended) == (0, 0, False)
        assert set(pool._idle) == pool._workers
        assert len(pool._idle) == len(pool._workers) <= pool.limit
        assert not any(worker.called or worker.standing_by or worker.call for worker in pool._workers)


# ---- how many workers ------------------------------------------------------------------------------------------------


def test_ten_thousand_tiny_tasks_are_one_workers_affair(monkeypatch):
    """As long as calls get finished nobody else is used. (A machine that stands still for 0.2 ms isn't tested.)"""
    monkeypatch.setattr(thread_pool, "PATIENCE", 5.0)
    calls = Counter()
    with WorkflowManager(workers=LIMIT) as manager:
        ended(manager.start(independent([lambda: calls.update([threading.get_ident()])] * 10_000)))
        assert list(calls.values()) == [10_000]
        assert len(pool_of(manager)._workers) <= 2, "the worker, and one who stands by"


def test_a_chain_is_one_workers_affair(monkeypatch):
    monkeypatch.setattr(thread_pool, "PATIENCE", 5.0)
    names = set()
    tasks = [
        TaskDef(str(i), lambda: names.add(threading.get_ident()), dependencies=[str(i - 1)] if i else [])
        for i in range(2000)
    ]
    with WorkflowManager(workers=LIMIT) as manager:
        ended(manager.start(Workflow("chain", tasks)))
        assert len(names) == 1
        assert len(pool_of(manager)._workers) == 1


@pytest.mark.parametrize("width", [LIMIT, 3 * LIMIT])
def test_blocking_tasks_all_run_together(width):
    """Each waits until as many run as the pool may run at once."""
    together = threading.Barrier(LIMIT)
    with WorkflowManager(workers=LIMIT) as manager:
        execution = manager.start(independent([lambda: together.wait(PATIENCE)] * width))
        ended(execution)
        assert len(execution.results) == width
        check_at_rest(manager)


def test_blocking_tasks_behind_a_thousand_tiny_ones_all_run_together():
    together = threading.Barrier(LIMIT)
    tiny = [TaskDef(f"tiny{i}", int) for i in range(1000)]
    wide = [TaskDef(f"wide{i}", lambda: together.wait(PATIENCE), dependencies=["tiny999"]) for i in range(LIMIT)]
    with WorkflowManager(workers=LIMIT) as manager:
        execution = ended(manager.start(Workflow("wf", [*tiny, *wide])))
        assert len(execution.results) == 1000 + LIMIT


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_never_more_calls_run_than_the_pool_may_run(workers):
    lock, running, most = threading.Lock(), 0, 0

    def count():
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        for _ in range(random.randint(1, 2000)):
            pass
        with lock:
            running -= 1

    random = Random(workers)
    with WorkflowManager(workers=workers) as manager:
        executions = [manager.start(independent([count] * 100)) for _ in range(5)]
        for execution in executions:
            ended(execution)
        assert most <= workers
        check_at_rest(manager)


def test_bursts_leave_nobody_counted_twice():
    """Who stands by is often called up before its thread has woken: its accounts must be right all the same."""
    random, before = Random(2), sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with WorkflowManager(workers=4) as manager:
            for _ in range(150):
                functions = [lambda: sum(range(random.choice((1, 100, 20_000))))] * random.randint(1, 8)
                for execution in [manager.start(independent(functions)) for _ in range(random.randint(1, 3))]:
                    ended(execution)
            check_at_rest(manager)
    finally:
        sys.setswitchinterval(before)


class Desk:
    """A `Source` that has nothing to give, and lets the test say when what was noted under the lock is carried out."""

    def __init__(self, workers):
        self.lock = threading.Lock()
        self.noted = []
        self.asked = threading.Semaphore(0)
        self.asks = 0
        self.pool = ThreadPool("test", workers)
        self.pool.bind(self)

    def call_later(self, effect):
        self.noted.append(effect)

    def waiting(self, pool):
        return True

    def advance(self, pool, finished=None, worker=None):
        with self.lock:
            pool.arrived(worker)
            pool.rested(worker)
            self.asks += 1
        self.asked.release()

    def call_up(self, ready):
        with self.lock:
            self.pool.call_up(ready)

    def carry_out(self):
        noted, self.noted = self.noted, []
        for effect in noted:
            effect()


def test_who_is_called_up_while_still_asleep_as_stand_by_comes_once(monkeypatch):
    monkeypatch.setattr(thread_pool, "PATIENCE", 100.0)
    desk = Desk(workers=4)
    desk.call_up(3)
    first, second = desk.pool._workers
    assert {first.called, second.called} == {True, False}
    with desk.lock:
        desk.pool._coming = 0  # as if the first had come and gone
    desk.call_up(3)
    assert first.called
    assert second.called
    desk.carry_out()
    for _ in range(2):
        assert desk.asked.acquire(timeout=PATIENCE)
    desk.pool.close(PATIENCE)
    assert desk.asks == 2, "each came once, though the gate of one was opened twice"


class Gate:
    """Never opened; each wait of the stand-by takes so long, by a clock of its own. Calls end during the first few."""

    def __init__(self, pool, takes, busy=0):
        self.pool, self.takes, self.busy, self.now = pool, takes, busy, 0.0

    def acquire(self, timeout):
        self.now += max(timeout, self.takes)
        self.pool.finished += self.pool.looks < self.busy
        return False


@pytest.mark.parametrize(
    ("takes", "busy", "looks"),
    [(0, 0, 1), (thread_pool.LATE * 2, 0, 1 + thread_pool.EXCUSES), (thread_pool.LATE * 2, 7, 8 + thread_pool.EXCUSES)],
)
def test_a_look_that_comes_late_is_no_proof_that_calls_stand_still(monkeypatch, takes, busy, looks):
    """Somebody who never rests keeps the interpreter from the workers too; another worker would only wait as well."""
    pool = ThreadPool("thread", 4)
    pool.bind(mock.Mock(lock=threading.RLock(), waiting=lambda _: True))
    pool._standby = worker = thread_pool.Worker(pool)
    worker.standing_by = pool.attended = True
    worker.gate = gate = Gate(pool, takes, busy)
    monkeypatch.setattr(thread_pool, "monotonic", lambda: gate.now)
    pool._stand_by(worker)
    assert (worker.called, pool.looks) == (True, looks)


# ---- nobody is awake for nothing -------------------------------------------------------------------------------------


def switches():
    """How often each thread of nerv's was woken so far, by the operating system's count."""
    found = {}
    for thread in threading.enumerate():
        if thread.name.startswith("nerv-"):
            status = Path(f"/proc/self/task/{thread.native_id}/status").read_text(encoding="utf-8")
            found[thread.name] = int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0])
    return found


def check_asleep(manager):
    """For a while no thread wakes: none looks, none is scheduled."""
    with at_rest(manager) as pool:
        looks = pool.looks
    before = switches() if sys.platform == "linux" else {}
    threading.Event().wait(100 * thread_pool.PATIENCE)
    assert pool.looks == looks
    assert (switches() if sys.platform == "linux" else {}) == before


def test_an_idle_engine_sleeps():
    with WorkflowManager(workers=4) as manager:
        ended(manager.start(independent([int] * 100)))
        check_asleep(manager)
        assert manager.engine.timer.wake_ups == 0


def test_an_engine_with_a_paused_execution_sleeps_and_wakes_for_its_resume():
    with WorkflowManager(workers=4) as manager:
        go = threading.Event()
        execution = manager.start(independent([lambda: reached(go), *[int] * 100]))
        execution.pause()
        go.set()
        check_asleep(manager)
        assert manager.engine.timer.wake_ups == 0
        execution.resume()
        assert len(ended(execution).results) == 101


def test_an_engine_whose_tasks_block_sleeps_when_nothing_else_is_ready():
    """With work running and nothing ready nobody stands by."""
    with WorkflowManager(workers=4) as manager:
        go, begun = threading.Event(), threading.Barrier(3)

        def block():
            begun.wait(PATIENCE)
            reached(go)

        execution = manager.start(independent([block] * 2))
        begun.wait(PATIENCE)
        pool = pool_of(manager)
        for _ in range(1000):
            with manager.engine.lock:
                if pool._standby is None:
                    break
            threading.Event().wait(thread_pool.PATIENCE)
        looks = pool.looks
        threading.Event().wait(100 * thread_pool.PATIENCE)
        assert pool.looks == looks
        go.set()
        ended(execution)


# ---- threads that hang, and slots that are lent ----------------------------------------------------------------------


@pytest.mark.leaks_allowed("its tasks hang until the test lets them go")
@pytest.mark.parametrize("workers", [1, 3])
def test_threads_that_are_given_up_are_replaced_one_for_one(workers):
    clock, go = FakeClock(), threading.Event()
    with WorkflowManager(workers=workers, clock=clock, grace=3600) as manager:
        for _ in range(5):
            begun = threading.Barrier(workers + 1)

            def hang(begun=begun):
                begun.wait(PATIENCE)
                reached(go)

            hanging = manager.start(independent([hang] * (workers + 2)))
            begun.wait(PATIENCE)
            waiting = manager.start(independent([threading.Barrier(workers).wait] * workers))
            hanging.cancel()
            assert not waiting.sequence, "no worker is free"
            clock.advance(3599)
            assert not hanging.status.is_final
            clock.advance(1)
            assert len(ended(waiting).results) == workers, "as many run together as ever"
            ended(hanging)
        with manager.engine.lock:
            assert pool_of(manager).running == 0
            assert len(pool_of(manager)._workers) <= workers
        go.set()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_task_that_waits_for_another_execution_lends_its_slot(workers):
    """Executions nested five deep end with one worker, and what computes never exceeds the limit."""
    lock, computing, most = threading.Lock(), 0, 0

    def compute(by):
        nonlocal computing, most
        with lock:
            computing += by
            most = max(most, computing)

    with WorkflowManager(workers=workers) as manager:

        def nest(depth):
            compute(+1)
            if depth:
                inner = manager.start(two(depth - 1))
                compute(-1)
                assert inner.wait(PATIENCE)
                compute(+1)
            compute(-1)
            return depth

        def two(depth):
            return Workflow(f"depth{depth}", [TaskDef(name, nest, args=(depth,)) for name in "ab"])

        execution = ended(manager.start(two(5)))
        assert execution.results == {"a": 5, "b": 5}
        assert most <= workers
        assert len(manager.executions()) == 1 + 2 * (2**5 - 1)
        assert pool_of(manager).running == 0
