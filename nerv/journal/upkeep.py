"""`Upkeep`: packing, forgetting, checking.

Frames that were written one by one are packed into compressed rows when their execution has ended, and, of one that
hasn't, when there are many. Nothing needs it: what isn't packed is read just as well, and after a crash the next
opening goes on with it. Forgetting frees pages inside the file, which later frames use: so a file that forgets at the
pace at which it is written stays as large as it is.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime
from math import isfinite
from typing import Final

from nerv.errors import ConfigError, JournalError
from nerv.journal.base import Finding
from nerv.journal.database import Database, Statement
from nerv.journal.frames import Row, key_of, packed
from nerv.journal.ledger import WORTH, Ledger
from nerv.journal.reading import Reading
from nerv.journal.schema import Entry

PACK_AT: Final = 1024
"""Frames of an unfinished execution that are packed together."""

PACK_SIZE: Final = 1 << 18
"""Bytes that a pack holds, about, before it is compressed; frames of that size are left alone."""

_PIECE: Final = 1 << 22  # bytes to read in one piece of work
_AT_ONCE: Final = 100  # executions tidied or removed in one transaction


class Upkeep:
    """The housekeeping of one journal.

    Args:
        database: where the tables are.
        ledger: knows what goes on.
        reading: knows what is kept.
        lock: the journal's, held for a commit.
    """

    def __init__(self, database: Database, ledger: Ledger, reading: Reading, lock: threading.RLock) -> None:
        self._database = database
        self._ledger = ledger
        self._reading = reading
        self._lock = lock
        self._loose: list[int] = []  # numbers of ended executions to pack, the next one last
        self._begin = 0  # where in the next one to go on
        if not database.is_read_only:
            found = database.rows("SELECT number FROM executions WHERE ended IS NOT NULL AND tidy = 0")
            self._loose += [number for (number,) in found]

    # ---- packing ----------------------------------------------------------------------------------------------------

    def tidy(self) -> bool:
        """Pack executions, a few megabytes of them in one commit; whether there is more to do."""
        with self._lock:
            self._loose[:0] = self._ledger.ended
            self._ledger.ended.clear()
            if self._loose:
                self._tidy_ended()
                return bool(self._loose)
            for going in self._ledger.going.values():
                if going.loose >= PACK_AT:
                    packs, begin, _ = self._packs(going.number, key_of(going.number, going.frame - going.loose))
                    self._commit(packs)
                    going.loose = key_of(going.number, going.frame) - begin if begin else 0
                    return True
        return False

    def _tidy_ended(self) -> None:
        statements: list[Statement] = []
        tidy: list[tuple[int]] = []
        size = 0
        while self._loose and size < _PIECE and len(tidy) < _AT_ONCE:
            number = self._loose[-1]
            packs, self._begin, read = self._packs(number, self._begin)
            statements += packs
            size += read
            if not self._begin:
                tidy.append((self._loose.pop(),))
        if tidy:
            statements.append(("UPDATE executions SET tidy = 1 WHERE number = ?", tidy))
        self._commit(statements)

    def _commit(self, statements: list[Statement]) -> None:
        if statements:
            self._database.commit(statements, sync=None)

    def _packs(self, number: int, begin: int) -> tuple[list[Statement], int, int]:
        """What it takes to pack a few megabytes of an execution's frames, from a key on (0: the first). The key to go
        on from comes with it (0: this was all), and how many bytes were read.
        """
        sql = "SELECT key, first_seq, count, span, body, checksum FROM frames WHERE key >= ? AND key < ? ORDER BY key"
        keys = (begin or key_of(number, 1), key_of(number + 1, 0))
        rows = [Row(*row) for row in self._database.some(sql, keys, _PIECE, 4)]
        statements: list[Statement] = []
        for run in _runs(rows):
            statements += [
                ("DELETE FROM frames WHERE key >= ? AND key <= ?", [(run[0].key, run[-1].key)]),
                (
                    "INSERT INTO frames (key, first_seq, count, span, body, checksum) VALUES (?, ?, ?, ?, ?, ?)",
                    [packed(run)],
                ),
            ]
        read = sum(64 + (len(row.body) if type(row.body) is bytes else 0) for row in rows)  # as `some` counts
        return statements, rows[-1].key + 1 if read >= _PIECE else 0, read

    # ---- forgetting -------------------------------------------------------------------------------------------------

    def forget(self, before: datetime | float | None, keep: int | None) -> int:
        """See `Journal.forget`."""
        moment = _moment(before)
        if before is None and keep is None:
            raise ConfigError("forget what? Say before= (a time), keep= (how many), or both")
        if keep is not None and (type(keep) is not int or keep < 0):
            raise ConfigError(f"keep={keep!r} must be a whole number of executions, 0 or more")
        entries = self._reading.entries("ended IS NOT NULL")
        entries.sort(key=lambda one: (one.ended or 0.0, one.number), reverse=True)
        doomed = [
            one
            for place, one in enumerate(entries)
            if (keep is not None and place >= keep) or (moment is not None and (one.ended or 0.0) < moment)
        ]
        for start in range(0, len(doomed), _AT_ONCE):
            self._remove(doomed[start : start + _AT_ONCE])
        if doomed or moment is not None:
            self._forget_lanes(max([one.ended or 0.0 for one in doomed] + ([] if moment is None else [moment])))
        return len(doomed)

    def discard(self, execution_id: str) -> bool:
        """See `Journal.discard`."""
        with self._lock:
            if execution_id in self._ledger.going:
                raise JournalError(
                    f"{self._database.name}: execution {execution_id!r} is running: cancel it before it is removed"
                )
            found = self._database.rows("SELECT number FROM executions WHERE id = ?", (execution_id,))
            if not found:
                return False
            self._remove([Entry(found[0][0], execution_id, "", None, None, None, 0, 0, 0)])
            return True

    def _remove(self, entries: list[Entry]) -> None:
        frames = [(key_of(one.number, 0), key_of(one.number + 1, 0)) for one in entries]
        with self._lock:
            self._database.commit(
                [
                    ("DELETE FROM frames WHERE key >= ? AND key < ?", frames),
                    ("DELETE FROM executions WHERE number = ?", [(one.number,) for one in entries]),
                    ("DELETE FROM orders WHERE execution = ?", [(one.id,) for one in entries]),
                    ("DELETE FROM facts WHERE owner = ?", [(one.id,) for one in entries]),
                ]
            )
            gone = {one.number for one in entries}
            self._begin = 0
            self._loose = [number for number in self._loose if number not in gone]
            self._ledger.ended[:] = [number for number in self._ledger.ended if number not in gone]

    def _forget_lanes(self, moment: float) -> None:
        """Remove the deliveries of lanes that ended until then."""
        with self._lock:
            self._database.commit(
                [
                    (
                        "DELETE FROM deliveries WHERE lane IN (SELECT lane FROM lanes WHERE ended <= ?)",
                        [(moment,)],
                    ),
                    ("DELETE FROM lanes WHERE ended <= ?", [(moment,)]),
                ]
            )

    # ---- checking ---------------------------------------------------------------------------------------------------

    def check(self, rest: list[str]) -> list[Finding]:
        """A finding for each execution; `rest` is what is known to be wrong beside them."""
        sql = "SELECT number, id, name, status, started, ended, run, last, checksum FROM executions ORDER BY number"
        found = [self._reading.finding(Entry(*row)) for row in self._database.rows(sql)]
        stray = self._database.rows(
            "SELECT count(*) FROM frames WHERE key >> 32 NOT IN (SELECT number FROM executions)"
        )[0][0]
        said = [text for (text,) in self._database.rows("PRAGMA quick_check(10)") if text != "ok"]
        damage = [*rest, *said, *([f"{stray} frames of no execution"] if stray else [])]
        if damage:
            found.append(Finding(None, "", None, 0, 0, "; ".join(damage)))
        return found


def _runs(rows: list[Row]) -> Iterator[list[Row]]:
    """The rows that are worth packing: those that follow each other together, no more than a pack holds."""
    run: list[Row] = []
    size = 0
    for row in rows:
        is_small = row.is_whole and not row.is_pack and len(row.body) < PACK_SIZE
        if run and (size >= PACK_SIZE or not is_small or run[-1].key + run[-1].span != row.key):
            if len(run) > 1 or size >= WORTH:
                yield run
            run, size = [], 0
        if is_small:
            run.append(row)
            size += len(row.body)
    if len(run) > 1 or size >= WORTH:
        yield run


def _moment(before: datetime | float | None) -> float | None:
    if before is None:
        return None
    if isinstance(before, datetime):
        if before.tzinfo is None:
            raise ConfigError(f"before={before!r} has no time zone: say datetime(..., tzinfo=UTC) or epoch seconds")
        return before.timestamp()
    if isinstance(before, bool) or not isinstance(before, int | float) or not isfinite(before):
        raise ConfigError(f"before={before!r} must be an aware datetime or epoch seconds")
    return float(before)
