"""`Recorder`: brings what happens to journaled executions into the journal, in order, and lets go what had to wait.

Theory of operation. Like the bus and the projector, it reads each execution's log behind a cursor: what was appended
since is a `Stretch`, whatever had arrived is one batch, and a batch is one commit. So commits are shared by as many
events as came while the last one was being made, and nobody waits for the disk under the engine's lock.

- *group*: one thread writes, as often as it can; workers don't wait. An execution has ended, for those who wait for it,
  when its last event is on disk.
- *off*: the same without waiting for the disk.
- *strict*: a task that becomes ready is *staged* first. A batch holds what has happened and the claims of some staged
  tasks, and when it is on disk these are cleared to start. So a task's outcome is on disk before what depends on it
  starts, and a start before its function is called, in one commit where they meet. A worker that has nothing left to
  run makes the commit itself, if nobody else is at it, so a chain needs no hand-over; else the thread does. `AHEAD`
  claims for each place in the pool keep workers busy meanwhile.

A write that fails ends all executions that it keeps: they are FAILED with the `JournalError`, and what was committed
stays.

While a batch is made and written, values are pickled: of errors, signals, and results that no worker has encoded. That
is the user's code, and what it asks of an execution happens, but isn't in this batch, and can't be waited for.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from math import inf
from typing import TYPE_CHECKING, Any, Final

from msgspec import UNSET

from nerv.claims import Claims
from nerv.clock import patiently
from nerv.errors import JournalError, SerializationError, described
from nerv.journal.base import Batch, Fact, Journal
from nerv.journal.codec import encode
from nerv.shipments import Shipment
from nerv.staging import Staging
from nerv.statuses import WorkflowStatus

if TYPE_CHECKING:
    from nerv.calls import Call
    from nerv.engine import Engine
    from nerv.live import Live
    from nerv.pools.base import Pool

_log = logging.getLogger("nerv.journal")

CANCELLING: Final = "cancelling"
FAULT: Final = "fault"
STOPPING: Final = "stopping"
LEFT: Final = "left"
"""The names of the facts that are kept of an execution beside its events: it is being cancelled, for this reason; this
has ended it; nothing new starts in it; it was left when it had so many events."""

SOON: Final = 0.1
"""Seconds after which what isn't urgent is written."""


class Recorder:
    """Writes journaled executions.

    Args:
        journal: where to.
        engine: whose executions.
        durability: "strict", "group" or "off".
    """

    def __init__(self, journal: Journal, engine: Engine, durability: str) -> None:
        self.journal = journal
        self.strict = durability == "strict"
        self.sync = durability != "off"
        self.broken: JournalError | None = None
        self.wanted = False  # whether there is something to write that nobody has been told of
        self.commits = 0
        self._engine = engine
        self._dirty: dict[Live, None] = {}
        self._claims = Claims()
        self._ending: dict[Live, None] = {}  # have ended, but for their last events, which aren't written
        self._writing = threading.RLock()  # what is to be done after a write may write itself: a hook that sends
        self._maker: int | None = None  # the thread that has a batch which isn't written
        self._written = threading.Condition(engine.lock)
        self._thread: threading.Thread | None = None
        self._call = threading.Semaphore(0)
        self._awake = False  # whether the thread will look by itself
        self._closed = self._is_over = False  # the thread is to end; nothing is written any more
        self._untidy = False  # whether housekeeping has failed
        self._gathered = self._done = 0  # batches that were made; that are written
        self._soon = False  # whether the timer will have written what isn't urgent

    # ---- told by the engine, under its lock -------------------------------------------------------------------------

    def mark(self, live: Live, *, urgent: bool = True) -> None:
        """An execution has something new. Under strict durability the start of a task that was claimed isn't urgent:
        it goes along with what comes next, or is written `SOON`.
        """
        kept = live.kept
        if kept is None or not (kept.gathered < len(live.log) or kept.has_more or _has_staged(live)):
            return
        self._dirty[live] = None
        if urgent or not self.strict:
            self.wanted = True
        elif not self._soon:
            self._soon = True
            self._engine.timer.at(self._engine.clock.monotonic() + SOON, self._write_soon)

    def _write_soon(self) -> None:
        with self._engine.effects:
            self._soon = False
            self.rouse()

    def ended(self, live: Live, release: Iterable[Callable[[], Any]]) -> Iterable[Callable[[], Any]]:
        """An execution has ended; gives what is to be done about it now: all, or nothing until its end is written."""
        if live.kept is None or self.broken is not None:
            return release
        live.kept.has_ended = True
        self._ending[live] = None
        live.farewell = list(release)
        self.mark(live)
        return ()

    def note(self, live: Live, name: str, value: Any) -> None:
        """Have a fact of an execution kept together with what has just happened."""
        if live.kept is not None and self.broken is None:
            live.kept.facts.append(Fact(live.id, name, value))
            self.mark(live)

    def hold_back(self, live: Live) -> None:
        """What a task has decided is about to have others start: not before it is written, in group mode too."""
        if live.kept is None or self.broken is not None:
            return
        live.kept.holds = len(live.log) + 1  # what it has decided comes next
        if live.scheduler.staging is None:
            live.scheduler.staging = Staging(live.scheduler)
            live.kept.careful = []

    def rouse(self) -> None:
        """Have the thread write what there is."""
        if self._dirty and not self._awake:  # else the thread looks by itself before it sleeps
            self.wanted = False
            self._awake = True
            self._engine.call_later(self._wake)

    def leave_to_caller(self) -> None:
        """Who has just done something will `wait` for it right away, and so writes it: nobody is woken for that."""
        if self._maker != threading.get_ident():  # who is may not wait
            self.wanted = False

    # ---- told without the lock --------------------------------------------------------------------------------------

    def keep(self, call: Call) -> None:
        """Encode a call's result where it was made; a result that can't be stored is the task's failure."""
        if call.live.kept is None or not call.task.durable or self.broken is not None:
            return
        made = call.made
        if made is UNSET:
            return
        try:
            call.encoded, call.odd = (encode(made, call.task.id),), True
        except SerializationError as error:
            call.error, call.unstorable = error, True

    def is_helped_by(self, pool: Pool) -> bool:
        """Whether a worker that has finished a call and finds no other writes the journal meanwhile."""
        return self.strict and pool.may_block

    def wait(self, live: Live) -> None:
        """Wait until everything of an execution that has happened so far is on disk.

        Raises:
            JournalError: it couldn't be written; or the caller is what is being written, and would wait for itself.
        """
        if live.kept is None:
            return
        self.check_outside(live)
        with self._engine.lock:
            until = self._gathered + (live in self._dirty)
        if not self.commit():
            with self._engine.effects:
                self.wanted = True
                self.rouse()
        patiently(lambda seconds: self._reach(until, seconds))
        if self.broken is not None:
            raise self.broken

    def check_outside(self, live: Live) -> None:
        """Nobody may wait for the journal, or for an execution that is kept in it, while it waits for them.

        Raises:
            JournalError: the caller is the code of a value that is just being written.
        """
        if self._maker == threading.get_ident():
            raise JournalError(
                f"execution {live.id!r} can't be waited for by code that is called while a value is pickled for the "
                "journal, which waits for that; what was asked of it is done, and goes into the journal next: ask where"
                " the value is made"
            )

    def _reach(self, batches: int, seconds: float | None) -> bool:
        """Wait until so many batches are written, or none will be any more. False: it took too long."""
        with self._engine.lock:
            return self._written.wait_for(
                lambda: self._done >= batches or self.broken is not None or self._is_over, seconds
            )

    def commit(self, asking: Pool | None = None) -> bool:
        """Write what there is, here and now, unless somebody is at it already. Whether anything was written.

        `asking` is the pool that will ask for a call right away, so nobody is called up for its tasks.
        """
        if not self._writing.acquire(blocking=False):
            return False
        try:
            if not self._make(asking):
                return False
        finally:
            self._writing.release()
        if self.wanted:  # it came meanwhile, from somebody who saw that we were at it
            with self._engine.effects:
                self.rouse()
        return True

    def has_caught_up(self) -> bool:
        """Whether all is written, or never will be. Asked without locks: waits for a batch that is being written."""
        with self._writing, self._engine.lock:
            return self.broken is not None or not self._dirty

    def close(self) -> None:
        """Write what is left, and end the thread."""
        self.commit()
        with self._engine.effects:
            self._closed = True
            thread = self._thread
            self._engine.call_later(self._call.release)
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        with self._writing:
            self._make()
        with self._engine.lock:
            self._is_over = True
            self._written.notify_all()

    # ---- writing ----------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        if self._thread is None and not self._closed:
            self._thread = threading.Thread(target=self._run, name="nerv-journal", daemon=True)
            self._thread.start()
        self._call.release()

    def _run(self) -> None:
        while True:
            self._call.acquire()
            while True:
                with self._writing:
                    if not self._make() and not self._tidied():
                        break
            with self._engine.effects:
                self._awake = False
                if self._closed:
                    return
                if self.wanted:
                    self.rouse()

    def _tidied(self) -> bool:
        """Do a piece of housekeeping, if there is any. What it fails with is logged, and it is left at that."""
        if self._closed or self._untidy or self.broken is not None:
            return False
        try:
            return self.journal.tidy()
        except Exception as error:  # noqa: BLE001  somebody's own journal may raise anything; writing goes on
            self._untidy = True
            _log.warning("the journal can't be tidied, so it grows: %s", described(error), exc_info=error)
            return False

    def _make(self, asking: Pool | None = None) -> bool:
        """Write what there is, as one batch; who is at that already leaves it. Whether there was anything."""
        if self._maker is not None:
            return False
        self._maker = threading.get_ident()
        try:
            shipment = self._gather()
            if shipment is not None:
                self._write(shipment, asking)
        finally:
            self._maker = None
        return shipment is not None

    def _gather(self) -> Shipment | None:
        """Take what there is, as one batch."""
        with self._engine.lock:
            self.wanted = False
            if not self._dirty or self.broken is not None:
                return None
            dirty, self._dirty = self._dirty, {}
            if self._claims.held:
                dirty.update(self._claims.take_held())
            shipment = Shipment()
            self._gathered += 1
            for live in dirty:
                staged = live.scheduler.staging is not None
                shipment.load(live, self._claims.of(live, self._engine.lives.values()) if staged else [])
        shipment.encode()
        return shipment

    def _store(self, batch: Batch) -> JournalError | None:
        """Hand a batch to the journal; gives what it fails with."""
        try:
            if batch.headers or batch.stretches or batch.facts or batch.orders_done:
                self.journal.write(batch, sync=self.sync)
                self.commits += 1
        except JournalError as error:
            return error
        except Exception as error:  # noqa: BLE001  somebody's own journal may raise anything; nothing may hang for it
            failure = JournalError(f"the journal can't be written: {described(error)}")
            failure.__cause__ = error
            return failure
        return None

    def _write(self, shipment: Shipment, asking: Pool | None) -> None:
        failure = self._store(shipment.batch)
        self._maker = None  # what is done now may write by itself
        if failure is not None:
            self._fail(failure, shipment)
            return
        engine = self._engine
        with engine.effects:
            self._done = self._gathered
            for live, records, ids, claims in shipment.reached:
                kept = live.kept
                assert kept is not None
                kept.written, kept.ids_written = records, ids
                kept.on_written(records)
                if live.scheduler.staging is not None and live.id in engine.lives:
                    self._clear(live, claims, asking)
                if kept.has_ended and records == len(live.log):
                    engine.effects.noted.extend(live.farewell)
                    live.farewell = []
                    self._ending.pop(live, None)
            self._written.notify_all()

    def _clear(self, live: Live, claims: list[int], asking: Pool | None) -> None:
        """What was claimed may start. If it was careful long enough, so may everything else."""
        staging, kept = live.scheduler.staging, live.kept
        assert staging is not None
        assert kept is not None
        for number in claims:
            staging.clear(number)
        is_over = kept.careful is not None and kept.written >= kept.holds and _is_over(live, kept.careful)
        if is_over:
            staging.dissolve()
        if claims or is_over:
            self._engine.moved(live, asking)

    def _fail(self, error: JournalError, shipment: Shipment | None = None) -> None:
        """The journal can't be written any more, `shipment` first: what it keeps ends."""
        engine = self._engine
        with engine.effects:
            self.broken = error
            self._dirty.clear()
            for live, _, _, claims in shipment.reached if shipment is not None else ():
                if live.scheduler.staging is not None and live.id in engine.lives:
                    for number in claims:  # cleanup may be among them
                        live.scheduler.staging.clear(number)
            for live in list(engine.lives.values()):
                if live.kept is not None:
                    if live.scheduler.staging is not None:
                        live.scheduler.staging.dissolve()
                    engine.fault(live, error)
                    live.kept.on_written(inf)
            for live in self._ending:  # what they ended with isn't kept, so that isn't how they ended
                live.scheduler.status, live.scheduler.fault = WorkflowStatus.FAILED, error
                engine.effects.noted.extend(live.farewell)
                live.farewell = []
            self._ending.clear()
            self._written.notify_all()


def _has_staged(live: Live) -> bool:
    staging = live.scheduler.staging
    return staging is not None and any(staging.heaps)


def _is_over(live: Live, careful: list[int]) -> bool:
    """Whether these tasks have ended; those that have are taken out."""
    while careful and live.scheduler.has_ended(careful[-1]):
        careful.pop()
    return not careful
