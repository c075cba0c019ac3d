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
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from nerv.errors import JournalError, SerializationError
from nerv.eventlog import TASK_COMPLETED
from nerv.journal.base import Batch, Fact, Header, Journal, Stretch
from nerv.journal.codec import encode

if TYPE_CHECKING:
    from nerv.calls import Call
    from nerv.engine import Engine
    from nerv.live import Live
    from nerv.staging import Staging

AHEAD: Final = 4
"""Claims for each place in a pool that may be committed before anybody is free for them."""

SOON: Final = 0.1
"""Seconds after which what isn't urgent is written."""

SUSPECT: Final = 2
"""After so many losses a task runs alone."""


class Kept:
    """What the recorder holds for one execution; guarded by the engine's lock.

    Attributes:
        header: until it has been written.
        written: how many records are in the journal; `ids_written` how many ids; `gathered` how many are on their way.
        encoded: task number -> its result as it will be written.
        losses: task number -> how often it was running, or may have been, when the process died.
        has_ended: whether those who wait for the execution's end wait only for the journal by now.
        alone: the suspect that runs alone now.
    """

    def __init__(self, header: Header | None, written: int = 0, ids_written: int = 0) -> None:
        self.header = header
        self.written = self.gathered = written
        self.ids_written = ids_written
        self.encoded: dict[int, Any] = {}
        self.losses: dict[int, int] = {}
        self.facts: list[Fact] = []
        self.orders_done: list[int] = []
        self.has_ended = False
        self.alone: int | None = None


class _Work:
    """One batch on its way: what is in it, and how far it brings each execution."""

    def __init__(self) -> None:
        self.batch = Batch()
        self.reached: list[tuple[Live, int, int, list[int]]] = []  # live, records, ids, claims
        self.unread: list[tuple[dict[int, Any], int, Any, str]] = []  # values that nobody has encoded yet


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
        self._ending: dict[Live, None] = {}  # have ended, but for their last events, which aren't written
        self._writing = threading.Lock()
        self._written = threading.Condition(engine.lock)
        self._thread: threading.Thread | None = None
        self._call = threading.Semaphore(0)
        self._awake = False  # whether the thread will look by itself
        self._closed = False
        self._soon = False  # whether the timer will have written what isn't urgent

    # ---- told by the engine, under its lock -------------------------------------------------------------------------

    def mark(self, live: Live, *, urgent: bool = True) -> None:
        """An execution has something new. Under strict durability the start of a task that was claimed isn't urgent:
        it goes along with what comes next, or is written `SOON`.
        """
        kept = live.kept
        if kept is None or not (kept.gathered < len(live.log.records) or kept.facts or kept.orders_done):
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

    def rouse(self) -> None:
        """Have the thread write what there is."""
        self.wanted = False
        if self._dirty and not self._awake:
            self._awake = True
            self._engine.call_later(self._wake)

    # ---- told without the lock --------------------------------------------------------------------------------------

    def keep(self, call: Call) -> None:
        """Encode a call's result where it was made; a result that can't be stored is the task's failure."""
        if call.live.kept is None or not call.task.durable or not call.is_attempt:
            return
        try:
            call.live.kept.encoded[call.number] = encode(call.value, call.task.id)
        except SerializationError as error:
            call.error = error

    def wait(self, live: Live) -> None:
        """Wait until everything of an execution that has happened so far is on disk.

        Raises:
            JournalError: it couldn't be written.
        """
        if live.kept is None:
            return
        self.commit()
        with self._engine.lock:
            until = len(live.log.records)
            while live.kept.written < until and self.broken is None and not self._closed:
                self._written.wait(1.0)
        if self.broken is not None:
            raise self.broken

    def commit(self) -> bool:
        """Write what there is, here and now, unless somebody is at it already. Whether anything was written."""
        if not self._writing.acquire(blocking=False):
            return False
        try:
            work = self._gather()
            if work is None:
                return False
            self._write(work)
        finally:
            self._writing.release()
        if self.wanted:  # it came meanwhile, from somebody who saw that we were at it
            with self._engine.effects:
                self.rouse()
        return True

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
            work = self._gather()
            if work is not None:
                self._write(work)

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
                    work = self._gather()
                    if work is not None:
                        self._write(work)
                    elif not self._tidied():
                        break
            with self._engine.effects:
                self._awake = False
                if self._closed:
                    return
                if self.wanted:
                    self.rouse()

    def _tidied(self) -> bool:
        try:
            return not self._closed and self.broken is None and self.journal.tidy()
        except JournalError as error:
            self._fail(error)
            return False

    def _gather(self) -> _Work | None:
        """Take what there is, as one batch."""
        with self._engine.lock:
            self.wanted = False
            if not self._dirty or self.broken is not None:
                return None
            dirty, self._dirty = self._dirty, {}
            work = _Work()
            for live in dirty:
                self._collect(live, work)
        for encoded, number, value, task_id in work.unread:
            try:
                encoded[number] = encode(value, task_id)
            except SerializationError as error:
                encoded[number] = encode(error)
        return work

    def _collect(self, live: Live, work: _Work) -> None:
        kept = live.kept
        assert kept is not None
        log, batch = live.log, work.batch
        records, ids = log.records[kept.written :], list(log.ids[kept.ids_written :])
        kept.gathered = kept.written + len(records)
        claims = [] if live.scheduler.staging is None else self._claims(live, live.scheduler.staging)
        if kept.header is not None:
            batch.headers.append(kept.header)
            kept.header = None
        if records or claims or ids:
            values: dict[int, Any] = {}
            for code, number, *_ in records:
                if code == TASK_COMPLETED and live.tasks[number].durable:
                    if number in kept.encoded:
                        values[number] = kept.encoded.pop(number)
                    else:
                        work.unread.append((values, number, log.values[log.ids[number]], log.ids[number]))
            batch.stretches.append(Stretch(live.id, kept.written + 1, records, log.epoch, ids, values, claims))
        batch.facts += kept.facts
        batch.orders_done += kept.orders_done
        kept.facts, kept.orders_done = [], []
        work.reached.append((live, kept.written + len(records), kept.ids_written + len(ids), claims))

    def _claims(self, live: Live, staging: Staging) -> list[int]:
        """The staged tasks that may start once this batch is written."""
        scheduler, kept = live.scheduler, live.kept
        assert kept is not None
        if scheduler.status.is_final:
            return []
        if kept.alone is not None and not scheduler.has_ended(kept.alone):
            return []
        suspect = staging.first(lambda number: kept.losses.get(number, 0) >= SUSPECT)
        if suspect is not None:
            if live.active or any(scheduler.ready):
                return []  # it waits until nothing else runs
            kept.alone = suspect
            staging.take(suspect)
            return [suspect]
        kept.alone = None
        return [
            number
            for queue, pool in enumerate(live.pools)
            for number in staging.best(queue, AHEAD * pool.limit - len(scheduler.ready[queue]))
        ]

    def _write(self, work: _Work) -> None:
        try:
            self.journal.write(work.batch, sync=self.sync)
        except JournalError as error:
            self._fail(error)
            return
        self.commits += 1
        engine = self._engine
        with engine.effects:
            for live, records, ids, claims in work.reached:
                kept = live.kept
                assert kept is not None
                kept.written, kept.ids_written = records, ids
                if claims and live.scheduler.staging is not None:
                    for number in claims:
                        live.scheduler.staging.clear(number)
                    engine.moved(live)
                if kept.has_ended and records == len(live.log.records):
                    engine.effects.noted.extend(live.farewell)
                    live.farewell = []
                    self._ending.pop(live, None)
            self._written.notify_all()

    def _fail(self, error: JournalError) -> None:
        """The journal can't be written any more: what it keeps ends."""
        engine = self._engine
        with engine.effects:
            self.broken = error
            self._dirty.clear()
            for live in list(engine.lives.values()):
                if live.kept is not None:
                    if live.scheduler.staging is not None:
                        live.scheduler.staging.dissolve()
                    engine.fault(live, error)
            for live in self._ending:
                engine.effects.noted.extend(live.farewell)
                live.farewell = []
            self._ending.clear()
            self._written.notify_all()
