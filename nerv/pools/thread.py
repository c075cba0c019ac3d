"""`ThreadPool`: worker threads that take the next ready call themselves.

Theory of operation. A worker hands its finished call to the engine and takes the next in one critical section, so a
run of short tasks is one thread's affair, with no hand-over at all. The question is when to wake another worker.
Waking one for each ready task makes threads fight over the interpreter lock (five times the cost a task, measured);
not waking one leaves blocking tasks in a queue. So:

- If nobody is working, one worker is woken at once.
- If more is ready, one idle worker becomes the **stand-by**: it looks every `PATIENCE` seconds whether calls still get
  finished. If none was, ready tasks are held up by a long or blocking one: the stand-by takes the next itself, and
  its first act is to appoint another. A look that comes late proves nothing: a thread of the user's that never rests,
  such as one that asks for the progress over and over, keeps workers from finishing as well. Several workers on short
  tasks beside such a thread would wait for it at each task, a hundred times longer than a task takes (measured).
- Having seen such a stall, the pool wakes a worker for every ready task from then on, until a call turns out short
  again. So a wide step of blocking tasks starts together, and short tasks never pay for it.

With nothing ready nobody stands by, and every worker sleeps without a time limit.

A worker that waits for another execution inside its task lends its slot (`lending`): another may run meanwhile, and
the task goes on when a slot is free again, before anything new is taken. A thread that was given up (`abandon`) is no
longer counted; when its function returns at last, the thread ends. Threads are daemons, so that abandoned work never
holds the interpreter.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any, Final

from nerv.calls import Call
from nerv.functions import is_coroutine_function
from nerv.pools.base import Source
from nerv.tasks import TaskDef

PATIENCE: Final = 0.0002
"""Seconds that ready calls may wait without any call being finished before one more worker is used. Measured: at 0.2 ms
the makespan of blocking tasks stays within 1% of the bound and no-ops never see a second worker."""

LATE: Final = 5 * PATIENCE
"""Seconds after which a look comes late: another thread kept the interpreter (it gives way every 5 ms only), from the
workers too, so that nothing was finished says little."""

EXCUSES: Final = 3
"""Late looks in a row that may find nothing finished. With more, calls are long whoever else is busy."""

LAST_WORD: Final = 0.5
"""Seconds that threads with nothing to do are given to end, however little patience there is with those that have."""

_log: Final = logging.getLogger("nerv.pools")
_here = threading.local()
"""What the present thread is: `.worker`, set once by each worker thread for itself."""


class Worker:
    """One thread of a pool. `gate` is released to wake it; `call` is what it is running; `begun` says that the thread
    was started, which happens a moment after it was hired, outside the lock.

    The gate may be opened late, and once too often (who stands by may be called up before it has woken for that), so
    waking says nothing: `called` and `standing_by`, which change under the lock only, say what a worker woke for.
    """

    __slots__ = ("begun", "call", "called", "dismissed", "gate", "pool", "standing_by", "thread")

    def __init__(self, pool: ThreadPool) -> None:
        self.pool = pool
        self.call: Call | None = None
        self.called = False
        self.dismissed = False
        self.standing_by = False
        self.gate = threading.Semaphore(0)
        self.thread: threading.Thread | None = None
        self.begun = threading.Event()

    def begin(self) -> None:
        """Start the thread. If the system has none left, the pool goes on with those that it has.

        Raises:
            RuntimeError: it has none.
        """
        try:
            if self.thread is not None:
                self.thread.start()
        except RuntimeError as error:
            self.thread = None
            if not self.pool.lost(self):
                raise
            if not self.pool.is_short:
                self.pool.is_short = True
                _log.warning("pool %r gets no further thread (%s) and goes on with fewer", self.pool.name, error)
        self.begun.set()


class ThreadPool:
    """At most `workers` calls at once, on threads that start when they are first needed."""

    kind = "thread"
    counts_running = True
    tells_start = False
    may_block = True

    def __init__(self, name: str, workers: int) -> None:
        self.name = name
        self.left_behind = 0
        self.limit = workers
        self.running = 0
        self.attended = False
        self.finished = 0  # grows with every call; only whether it has changed is ever looked at, so it needs no lock
        self.looks = 0  # how often a stand-by looked: tests hold "no polling" against it
        self.is_short = False  # whether the system refused a thread
        self._quick = True  # calls have been short of late
        self._coming = 0  # workers that were woken and haven't asked yet
        self._idle: list[Worker] = []
        self._standby: Worker | None = None
        self._workers: set[Worker] = set()
        self.source: Source  # where calls come from, from `bind` on

    def bind(self, source: Source) -> None:
        """Told once where calls come from."""
        self.source = source

    def objection(self, task: TaskDef) -> str | None:
        """A coroutine function needs an event loop."""
        if task.fn is not None and is_coroutine_function(task.fn):
            return f"is a coroutine function, which the {self.kind} pool {self.name!r} can't run; leave out pool="
        return None

    # ---- told by the engine, under its lock ---------------------------------------------------------------------

    def call_up(self, ready: int) -> None:
        """See that `ready` calls are come for."""
        room = self.limit - self.running - self._coming
        wanted = min((not self.running) if self._quick else ready, self.limit - self.running) - self._coming
        for _ in range(wanted):
            self._coming += 1
            worker = self._next_idle()
            worker.called = True
            self._wake(worker)
        if self._quick and self._standby is None and room > max(wanted, 0) and ready > self._coming:
            self._standby = worker = self._next_idle()
            worker.standing_by = self.attended = True
            self._wake(worker)

    def _next_idle(self) -> Worker:
        worker = self._standby
        if worker is not None:
            self._standby = None
            worker.standing_by = self.attended = False
            return worker
        if self._idle:
            return self._idle.pop()
        worker = Worker(self)
        self._workers.add(worker)
        return worker

    def arrived(self, worker: Worker) -> None:
        """A worker that was called up asks for its first call."""
        self._coming -= 1
        worker.called = False

    def rested(self, worker: Worker) -> None:
        """There was nothing for the worker."""
        self._idle.append(worker)

    def lost(self, worker: Worker) -> bool:
        """A worker that was hired can't begin, so it isn't counted on any more. False: there is no other."""
        with self.source.lock:
            self._workers.discard(worker)
            if self._standby is worker:
                self._standby = None
                worker.standing_by = self.attended = False
            if worker.called:
                self.arrived(worker)
            return bool(self._workers)

    def _wake(self, worker: Worker) -> None:
        if worker.thread is None:
            worker.thread = threading.Thread(
                target=self._work, args=(worker,), name=f"nerv-{self.name}-{len(self._workers)}", daemon=True
            )
            self.source.call_later(worker.begin)
        self.source.call_later(worker.gate.release)

    def expect_long(self) -> None:
        """Somebody knows that calls are long just now: a worker is woken for each, until one turns out short."""
        self._quick = False

    # ---- the worker's own thread --------------------------------------------------------------------------------

    def _work(self, worker: Worker) -> None:
        enter(worker)
        advance = self.source.advance
        done: Call | None = None
        while self._woken(worker):
            while (call := advance(self, done, worker)) is not None:
                worker.call = call
                if self._quick:
                    call.run()
                else:
                    began = monotonic()
                    call.run()
                    self._quick = monotonic() - began < PATIENCE
                self.finished += 1
                if call.abandoned:
                    self._back()
                    return
                done = call
            if done is not None and done.abandoned:
                self._back()
                return
            worker.call = done = None

    def _woken(self, worker: Worker) -> bool:
        """Sleep until there is work (True) or the pool closes (False)."""
        while True:
            worker.gate.acquire()
            if worker.standing_by:
                self._stand_by(worker)
            if worker.dismissed:
                return False
            if worker.called:
                return True

    def _stand_by(self, worker: Worker) -> None:
        """Look after ready calls until they stand still (it is called up then) or are no more, or somebody calls it."""
        source = self.source
        excuses = 0
        while not (worker.called or worker.dismissed):
            seen, began = self.finished, monotonic()
            if worker.gate.acquire(timeout=PATIENCE):
                continue
            self.looks += 1
            if source.waiting(self):
                if self.finished != seen:
                    excuses = 0
                    continue
                if excuses < EXCUSES and monotonic() - began > LATE:
                    excuses += 1
                    continue
            with source.lock:
                if self._standby is not worker:
                    continue
                self._standby = None
                worker.standing_by = self.attended = False
                if not source.waiting(self):
                    self._idle.append(worker)
                    return
                self._quick = False
                self._coming += 1
                worker.called = True

    # ---- lending, giving up, closing --------------------------------------------------------------------------------

    def tell_cancelled(self, calls: Iterable[Call]) -> None:
        """A thread can't be interrupted: its task asks `ctx.cancelled`."""

    def _back(self) -> None:
        """The function of a call that was given up has returned at last."""
        with self.source.lock:
            self.left_behind -= 1

    def abandon(self, calls: Iterable[Call]) -> None:
        """Leave these threads behind; they end by themselves when their functions return."""
        given_up = set(calls)
        with self.source.lock:
            self.left_behind += len(given_up)
            self._workers = {worker for worker in self._workers if worker.call not in given_up}

    def close(self, patience: float) -> None:
        """Send everybody home. Threads with a call that was given up aren't waited for."""
        with self.source.lock:
            workers, self._workers = self._workers, set()
            self._idle.clear()
            self._standby = None
            self.attended = False
            for worker in workers:
                worker.dismissed = True
                worker.gate.release()
        deadline = monotonic() + max(patience, LAST_WORD)
        for worker in workers:
            if worker.thread is None or worker.thread is threading.current_thread():
                continue
            if worker.begun.wait(max(0.0, deadline - monotonic())):
                worker.thread.join(max(0.0, deadline - monotonic()))


def enter(worker: Worker) -> None:
    """The present thread is this worker's."""
    _here.worker = worker


@contextmanager
def lending() -> Iterator[None]:
    """Around a wait: if this is a worker thread inside a task, its slot is lent out meanwhile."""
    worker: Any = getattr(_here, "worker", None)
    if worker is None or worker.call is None or worker.call.abandoned:
        yield
        return
    pool: ThreadPool = worker.pool
    call: Call = worker.call
    pool.source.lend(pool, call)
    try:
        yield
    finally:
        slot = threading.Semaphore(0)
        if not pool.source.reclaim(pool, call, slot.release):
            slot.acquire()
