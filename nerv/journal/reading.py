"""`Reading`: what is in the tables, verified, as records, histories and events.

Frames are read a few megabytes at a time, each time in a transaction of its own, so that a reader never keeps the log
from being folded into the file. Between two of them housekeeping may pack frames; a reader then finds the pack that
its next frame went into.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import msgspec

from nerv.errors import JournalError, UnknownIdError, near
from nerv.eventlog import CODES, TASK_COMPLETED
from nerv.events import TERMINAL, Event, Facts
from nerv.journal.base import ExecutionRecord, Finding, Header, History, Order
from nerv.journal.codec import Stored
from nerv.journal.database import Database
from nerv.journal.frames import Content, Row, content, facts, header_of, key_of, unpacked
from nerv.journal.lazy import LazyFacts, LazyValues
from nerv.journal.schema import ENTRY, Entry, is_whole
from nerv.pages import Record
from nerv.statuses import WorkflowStatus

CHUNK: Final = 1 << 22
"""Bytes of frames to read in one transaction."""

_NOTHING: Final = Facts()
_ROW: Final = "key, first_seq, count, span, body, checksum"


class _Damage(Exception):  # noqa: N818  (a word between two functions of this module)
    """What is wrong with what is stored of an execution."""


class _Place(NamedTuple):
    """How far an execution was read: the task ids so far, the next frame, the next seq."""

    ids: list[str]
    frame: int
    seq: int


class Reading:
    """The reading side of a journal's tables. Any number of threads may use it.

    Args:
        database: where the tables are.
        running: gives the number of the opening that has the journal now, None: nobody has.
    """

    def __init__(self, database: Database, running: Callable[[], int | None]) -> None:
        self._database = database
        self._running = running
        self._places: dict[tuple[int, str, float | None], _Place] = {}  # of executions that somebody follows
        self._places_lock = threading.Lock()  # of them: any thread may follow

    # ---- the directory ----------------------------------------------------------------------------------------------

    def entries(self, condition: str = "TRUE", arguments: tuple[Any, ...] = ()) -> list[Entry]:
        """Rows of the directory, verified, in the order in which they were created."""
        sql = f"SELECT {ENTRY} FROM executions WHERE {condition} ORDER BY number"  # noqa: S608  (ours)
        found = [Entry(*row) for row in self._database.rows(sql, arguments)]
        for entry in found:
            if not entry.is_whole:
                raise self._damaged(entry.id, "its row in the directory isn't what was written")
        return found

    def entry(self, execution_id: str) -> Entry | None:
        """One row of the directory."""
        found = self.entries("id = ?", (execution_id,))
        return found[0] if found else None

    def known(self, execution_id: str) -> Entry:
        """One row of the directory, which must be there."""
        entry = self.entry(execution_id)
        if entry is None:
            ids = [row[0] for row in self._database.rows("SELECT id FROM executions ORDER BY number DESC LIMIT 1000")]
            raise UnknownIdError(f"{self._database.name} holds no execution {execution_id!r}{near(execution_id, ids)}")
        return entry

    def records(self, entries: list[Entry]) -> list[ExecutionRecord]:
        """Rows of the directory as users see them."""
        running = self._running()
        return [ExecutionRecord(one.id, one.name, _status(one, running), one.started, one.ended) for one in entries]

    # ---- one execution ----------------------------------------------------------------------------------------------

    def history(self, execution_id: str, epoch: float) -> History:
        """Everything about one execution; see `Journal.load`."""
        entry = self.known(execution_id)
        ids: list[str] = []
        records: list[Record] = []
        stored: dict[int, Stored] = {}
        claims: list[tuple[int, list[int]]] = []
        with self._verified(entry):
            header = self._header(entry)
            for part in self._contents(entry, _Place(ids, 1, 1)):
                ids += part.ids
                if part.claims:
                    claims.append((len(records) + len(part.records), part.claims))
                shift = part.epoch - epoch
                records += [
                    (code, task, at + shift, attempt, None if data is None else facts(data))
                    for code, task, at, attempt, data in part.records
                ]
                stored.update((number, Stored(raw)) for number, raw in part.values.items())
            values = LazyValues((ids[number], value) for number, value in stored.items())
            _agree(entry, len(records), records[-1][0] if records else -1)
        status = _status(entry, self._running())
        orders = self.orders(execution_id)
        return History(header, status, ids, records, values, claims, orders, self.facts(execution_id))

    def events(self, execution_id: str, after: int) -> Iterator[Event]:
        """The events after a seq; who goes on from where they stopped reads only what is new."""
        entry = self.known(execution_id)
        whose = (entry.number, entry.id, entry.started)  # an id may be used anew when it was forgotten
        with self._places_lock:
            place = self._places.pop(whose, None)
        if place is None or place.seq > after + 1:
            place = _Place([], 1, 1)
        ids, frame, seq = place
        with self._verified(entry):
            for part in self._contents(entry, place):
                ids += part.ids
                first, seq, frame = seq, seq + len(part.records), frame + 1
                if seq > after + 1:
                    yield from _events(entry, part, ids, first, after)
        with self._places_lock:
            while len(self._places) >= _FOLLOWED:
                del self._places[next(iter(self._places))]
            self._places[whose] = _Place(ids, frame, seq)

    def orders(self, execution_id: str) -> list[Order]:
        """What was ordered of an execution, in order."""
        found = []
        rows = self._database.rows(
            "SELECT id, execution, body, checksum FROM orders WHERE execution = ? ORDER BY id", (execution_id,)
        )
        for number, known, body, check in rows:
            if not is_whole(check, number, known, body):
                raise self._damaged(execution_id, f"order {number} isn't what was written")
            kind, data, at = _ORDERS.decode(body)
            found.append(Order(number, known, kind, facts(data), at))
        return found

    def facts(self, owner: str) -> dict[str, Any]:
        """Facts by name, decoded when asked for."""
        found: list[tuple[str, Stored]] = []
        for name, body, check in self._database.rows(
            "SELECT name, body, checksum FROM facts WHERE owner = ?", (owner,)
        ):
            if not is_whole(check, owner, name, body):
                raise JournalError(
                    f"{self._database.name} is damaged: the fact {name!r} of {owner!r} isn't what was written;"
                    " `nerv journal check` says what is whole"
                )
            found.append((name, Stored(body)))
        return LazyFacts(found)

    def all_small(self) -> None:
        """Verify all orders and facts."""
        for (owner,) in self._database.rows("SELECT DISTINCT owner FROM facts"):
            self.facts(owner)
        for (known,) in self._database.rows("SELECT DISTINCT execution FROM orders"):
            self.orders(known)

    # ---- verifying --------------------------------------------------------------------------------------------------

    def verify(self, entry: Entry) -> None:
        """Read an execution's rows and believe none that isn't what was written, without looking into them.

        Raises:
            JournalError: something is.
        """
        with self._verified(entry):
            for _ in self._rows(entry, 0):
                pass

    def finding(self, entry: Entry) -> Finding:
        """What is whole of an execution; raises nothing about what is not."""
        events, size, last, damage = 0, 0, -1, None
        try:
            if not entry.is_whole:
                raise _Damage("its row in the directory isn't what was written")
            self._header(entry)
            for row, skip in self._rows(entry, 1):
                size += len(row.body)
                for body in unpacked(row)[skip:]:
                    part = content(body)
                    events += len(part.records)
                    last = part.records[-1][0] if part.records else last
            _agree(entry, events, last)
        except (_Damage, JournalError, ValueError, zlib.error, msgspec.DecodeError, EOFError) as error:
            damage = str(error)
        status = _status(entry, self._running()) if damage is None else None
        return Finding(entry.id, entry.name, status, events, size, damage)

    @contextmanager
    def _verified(self, entry: Entry) -> Iterator[None]:
        try:
            yield
        except (_Damage, ValueError, zlib.error, msgspec.DecodeError, IndexError) as error:
            raise self._damaged(entry.id, str(error)) from error

    def _damaged(self, execution_id: str, what: str) -> JournalError:
        return JournalError(
            f"{self._database.name}: execution {execution_id!r} is damaged ({what}): `nerv journal check` says what is"
            " whole; go back to a copy of the file, or remove the execution with `nerv journal check --discard`"
        )

    def _header(self, entry: Entry) -> Header:
        rows = self._database.rows(f"SELECT {_ROW} FROM frames WHERE key = ?", (key_of(entry.number, 0),))  # noqa: S608
        if not rows or not Row(*rows[0]).is_whole:
            raise _Damage("its header is missing, or isn't what was written")
        header = header_of(Row(*rows[0]).body)
        if (header.id, header.workflow_name) != (entry.id, entry.name):
            raise _Damage("its header is another execution's")
        return header

    def _contents(self, entry: Entry, place: _Place) -> Iterator[Content]:
        """What its frames hold, from a place on."""
        seq = place.seq
        for row, skip in self._rows(entry, place.frame):
            if not skip and row.first_seq != seq:
                raise _Damage(f"event {seq} is missing")
            parts = [content(body) for body in unpacked(row)[skip:]]
            held = sum(len(part.records) for part in parts)
            if not skip and held != row.length:
                raise _Damage(f"of {row.length} events from {seq} on there are {held}")
            seq += held
            yield from parts

    def _rows(self, entry: Entry, frame: int) -> Iterator[tuple[Row, int]]:
        """Its rows from a frame on, and how many frames of a row come before that."""
        end = key_of(entry.number + 1, 0)
        sql = f"SELECT {_ROW} FROM frames WHERE key >= ? AND key < ? ORDER BY key"  # noqa: S608  (ours)
        expected = frame
        while True:
            found = [Row(*row) for row in self._database.some(sql, (key_of(entry.number, expected), end), CHUNK, 4)]
            if not found or found[0].frame != expected:
                pack = self._pack_around(entry, expected)
                if pack is None and found:
                    raise _Damage(f"frame {expected} is missing")
                if pack is None:
                    return
                found = [pack]
            for row in found:
                if not row.is_whole:
                    raise _Damage(f"frame {row.frame} isn't what was written")
                if row.frame > expected:
                    break
                yield row, expected - row.frame
                expected = row.frame + row.span

    def _pack_around(self, entry: Entry, frame: int) -> Row | None:
        """The row that holds a frame which isn't its first, or None."""
        sql = "SELECT key, span FROM frames WHERE key >= ? AND key < ? ORDER BY key DESC LIMIT 1"
        found = self._database.rows(sql, (key_of(entry.number, 0), key_of(entry.number, frame)))
        if not found or type(found[0][1]) is not int or sum(found[0]) <= key_of(entry.number, frame):
            return None
        rows = self._database.rows(f"SELECT {_ROW} FROM frames WHERE key = ?", (found[0][0],))  # noqa: S608  (ours)
        return Row(*rows[0]) if rows else None


def _events(entry: Entry, part: Content, ids: list[str], seq: int, after: int) -> Iterator[Event]:
    for code, task, at, attempt, raw in part.records:
        if seq > after:
            data = _NOTHING if raw is None else facts(raw)
            if code == TASK_COMPLETED and task in part.values:
                data = facts({**(raw or {}), "result": part.values[task]})
            task_id = ids[task] if task >= 0 else None
            yield Event(CODES[code], entry.id, task_id, seq, part.epoch + at, attempt or None, data, entry.name)
        seq += 1


def _status(entry: Entry, running: int | None) -> WorkflowStatus:
    if entry.ended is not None:
        return WorkflowStatus[entry.status or "FAILED"]
    if entry.run != running:
        return WorkflowStatus.INTERRUPTED
    return WorkflowStatus.PAUSED if entry.status else WorkflowStatus.RUNNING


def _agree(entry: Entry, count: int, last: int) -> None:
    """Whether the directory and the frames say the same about the execution's end."""
    has_ended = last >= 0 and CODES[last] in TERMINAL
    if has_ended != (entry.ended is not None) or (has_ended and count != entry.last):
        raise _Damage(f"the directory says that it has {entry.last or 'not ended'}, but there are {count} events")


_FOLLOWED: Final = 8
_ORDERS: Final = msgspec.msgpack.Decoder(tuple[str, dict[str, msgspec.Raw], float])
