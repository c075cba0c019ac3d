"""`Ledger`: what `write` does. A batch becomes the statements of one transaction, and what the next one needs to know.

For each execution that goes on it remembers which frame and seq come next, so that a step of a running execution costs
one INSERT and nothing is looked up. What it remembers changes when the transaction has been committed, not before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct, structs

from nerv.errors import JournalError
from nerv.eventlog import (
    WORKFLOW_CANCELLED,
    WORKFLOW_COMPLETED,
    WORKFLOW_FAILED,
    WORKFLOW_PAUSED,
    WORKFLOW_RESUMED,
    WORKFLOW_STARTED,
)
from nerv.journal.base import Batch, Fact, Header, Stretch
from nerv.journal.codec import ENCODER, encode
from nerv.journal.database import Database, Statement
from nerv.journal.frames import Row, bodies, header_body, key_of, row
from nerv.journal.schema import ENTRY, Entry, checksum

WORTH: Final = 2048
"""Bytes from which a frame by itself is worth compressing."""

_ENDINGS: Final = {WORKFLOW_COMPLETED: "COMPLETED", WORKFLOW_FAILED: "FAILED", WORKFLOW_CANCELLED: "CANCELLED"}
_INSERT_FRAME: Final = "INSERT INTO frames (key, first_seq, count, span, body, checksum) VALUES (?, ?, ?, ?, ?, ?)"
_INSERT_ENTRY: Final = f"INSERT INTO executions ({ENTRY}, tidy) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608  (ours)
_UPDATE_ENTRY: Final = (
    "UPDATE executions SET status = ?, started = ?, ended = ?, run = ?, last = ?, checksum = ?, tidy = ?"
    " WHERE number = ?"
)
_SET_FACT: Final = "INSERT OR REPLACE INTO facts (owner, name, body, checksum) VALUES (?, ?, ?, ?)"
_DROP_FACT: Final = "DELETE FROM facts WHERE owner = ? AND name = ?"
_DROP_ORDER: Final = "DELETE FROM orders WHERE id = ?"


class Going(Struct):
    """An execution that hasn't ended: its row in the directory, and where its next frame goes."""

    number: int
    id: str
    name: str
    status: str | None = None
    started: float | None = None
    ended: float | None = None
    run: int = 0
    last: int = 0
    frame: int = 1
    seq: int = 1
    loose: int = 0  # frames since it was packed last
    size: int = 0  # bytes of frames
    is_new: bool = False
    is_changed: bool = False  # so that its row in the directory is to be written

    @property
    def is_tidy(self) -> bool:
        """Whether there is nothing to pack in it."""
        return self.frame <= 2 and self.size < WORTH

    def entry(self) -> Entry:
        """Its row in the directory."""
        parts = (self.number, self.id, self.name, self.status, self.started, self.ended, self.run, self.last)
        return Entry(*parts, checksum(*parts))


class Ledger:
    """The writing side of a journal's tables. Not thread-safe: the journal has a lock.

    Args:
        database: where the tables are.
        run: the number of this opening, for the rows that it writes.
    """

    def __init__(self, database: Database, run: int) -> None:
        self.going: dict[str, Going] = {}
        self.ended: list[int] = []  # numbers of executions that ended since somebody looked
        self._database = database
        self._run = run
        self._numbers: int | None = None

    def statements(self, batch: Batch) -> tuple[list[Statement], dict[str, Going]]:
        """What it takes to keep a batch, and what is to be `remembered` when that is done.

        Raises:
            JournalError: the batch doesn't continue what is stored.
        """
        frames: list[Row] = []
        changed: dict[str, Going] = {}
        for header in batch.headers:
            self._begin(header, changed, frames)
        for stretch in batch.stretches:
            self._continue(stretch, changed, frames)
        statements: list[Statement] = [(_INSERT_FRAME, frames)] if frames else []
        if entries := [one for one in changed.values() if one.is_changed]:
            statements += self._entries(entries)
        if batch.facts or batch.orders_done:
            statements += self._small(batch)
        return statements, changed

    def remember(self, changed: dict[str, Going]) -> None:
        """The statements were carried out."""
        for known, one in changed.items():
            one.is_new = one.is_changed = False
            if one.ended is None:
                self.going[known] = one
            else:
                self.going.pop(known, None)
                if not one.is_tidy:
                    self.ended.append(one.number)
            if self._numbers is not None and one.number > self._numbers:
                self._numbers = one.number

    def releasing(self, execution_ids: Sequence[str]) -> tuple[list[Statement], list[str]]:
        """What it takes to let go of executions (of all, if none is named), and which of them are there."""
        known = [one for one in (execution_ids or [*self.going]) if one in self.going]
        return self._updates([structs.replace(self.going[one], run=0) for one in known]), known

    def _entries(self, some: list[Going]) -> list[Statement]:
        new = [(*one.entry(), one.is_tidy) for one in some if one.is_new]
        inserts: list[Statement] = [(_INSERT_ENTRY, new)] if new else []
        return inserts + self._updates([one for one in some if not one.is_new])

    @staticmethod
    def _updates(some: list[Going]) -> list[Statement]:
        return [(_UPDATE_ENTRY, [(*one.entry()[3:], one.is_tidy, one.number) for one in some])] if some else []

    def _begin(self, header: Header, changed: dict[str, Going], frames: list[Row]) -> None:
        known = header.id in changed or header.id in self.going
        if known or self._database.rows("SELECT 1 FROM executions WHERE id = ?", (header.id,)):
            raise JournalError(f"{self._database.name} already holds execution {header.id!r}: ids are used once")
        if self._numbers is None:
            self._numbers = self._database.rows("SELECT coalesce(max(number), 0) FROM executions")[0][0]
        assert self._numbers is not None
        number = self._numbers + 1 + sum(one.is_new for one in changed.values())
        changed[header.id] = Going(number, header.id, header.workflow_name, run=self._run, is_new=True, is_changed=True)
        frames.append(row(key_of(number, 0), 1, 0, header_body(header)))

    def _continue(self, stretch: Stretch, changed: dict[str, Going], frames: list[Row]) -> None:
        known = stretch.execution_id
        one = changed.get(known)
        if one is None:
            going = self.going.get(known)
            one = self._found(known) if going is None else structs.replace(going)
            changed[known] = one
        if one.ended is not None:
            raise JournalError(f"{self._database.name}: execution {known!r} has ended, nothing can be added to it")
        if stretch.first_seq != one.seq:
            raise JournalError(
                f"{self._database.name}: execution {known!r} has {one.seq - 1} events, so the next is {one.seq},"
                f" not {stretch.first_seq}: nothing of this batch was written"
            )
        for count, body in bodies(stretch):
            frames.append(row(key_of(one.number, one.frame), one.seq, count, body))
            one.frame += 1
            one.loose += 1
            one.seq += count
            one.size += len(body)
        self._note(one, stretch)

    @staticmethod
    def _note(one: Going, stretch: Stretch) -> None:
        """What the execution's own events mean for its row in the directory."""
        for code, task, at, _, _ in stretch.records:
            if task >= 0:
                continue
            if code in _ENDINGS:
                one.status, one.ended, one.last = _ENDINGS[code], stretch.epoch + at, one.seq - 1
            elif code == WORKFLOW_STARTED:
                one.started = stretch.epoch + at
            elif code == WORKFLOW_PAUSED:
                one.status = "PAUSED"
            elif code == WORKFLOW_RESUMED:
                one.status = None
            one.is_changed = True

    def _found(self, known: str) -> Going:
        """An execution of an earlier opening, as it is stored, now this opening's."""
        rows = self._database.rows(f"SELECT {ENTRY} FROM executions WHERE id = ?", (known,))  # noqa: S608
        if not rows:
            raise JournalError(f"{self._database.name} holds no execution {known!r}: begin it with its Header")
        entry = Entry(*rows[0])
        end = self._database.rows(
            "SELECT (key & 4294967295) + span, first_seq + count FROM frames WHERE key >= ? AND key < ?"
            " ORDER BY key DESC LIMIT 1",
            (key_of(entry.number, 0), key_of(entry.number + 1, 0)),
        )
        if not end or not entry.is_whole or None in end[0]:
            raise JournalError(
                f"{self._database.name}: execution {known!r} is damaged: `nerv journal check` says how much is whole"
            )
        frame, seq = end[0]
        return Going(*entry[:6], run=self._run, last=entry.last, frame=frame, seq=seq, is_changed=True)

    @staticmethod
    def _small(batch: Batch) -> list[Statement]:
        statements: list[Statement] = []
        facts = {(fact.owner, fact.name): fact for fact in batch.facts}  # the last word on each
        if kept := [_fact(fact) for fact in facts.values() if fact.value is not None]:
            statements.append((_SET_FACT, kept))
        if gone := [name for name, fact in facts.items() if fact.value is None]:
            statements.append((_DROP_FACT, gone))
        if batch.orders_done:
            statements.append((_DROP_ORDER, [(number,) for number in batch.orders_done]))
        return statements


def _fact(fact: Fact) -> tuple[str, str, bytes, int]:
    body = ENCODER.encode(encode(fact.value))
    return fact.owner, fact.name, body, checksum(fact.owner, fact.name, body)
