"""`Mail`: deliveries in a journal's tables.

An intent is on disk before `intend` returns; threads that come meanwhile share the next commit. What happens to it
afterwards isn't waited for: it goes along with the next commit of any kind, and at the latest with `flush`. What a
crash loses of it is a delivery that still reads PENDING or DISPATCHED, which is looked into rather than lost.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Final, TypeAlias

import msgspec

from nerv.errors import JournalError, described
from nerv.journal.codec import ENCODER, Stored, encode
from nerv.journal.database import Database, Statement
from nerv.journal.deliveries import Delivery, DeliveryState
from nerv.journal.schema import checksum, is_whole

_Letter: TypeAlias = tuple[int, str, bytes, int, bytes, int]

_INSERT: Final = (
    "INSERT INTO deliveries (id, lane, letter, checksum, progress, progress_checksum) VALUES (?, ?, ?, ?, ?, ?)"
)
_UPDATE: Final = "UPDATE deliveries SET progress = ?, progress_checksum = ? WHERE id = ?"
_END_LANE: Final = "INSERT OR REPLACE INTO lanes (lane, ended) VALUES (?, ?)"


class Mail:
    """The deliveries of one journal.

    Args:
        database: where the tables are.
        lock: the journal's, held for a commit.
    """

    def __init__(self, database: Database, lock: threading.RLock) -> None:
        self._database = database
        self._commit_lock = lock
        self._lock = threading.Lock()  # of the three below: whoever adds to them doesn't wait for a commit
        self._letters: dict[int, _Letter] = {}
        self._progress: dict[int, tuple[bytes, int, int]] = {}
        self._lanes: list[tuple[str, float]] = []
        self._last: int | None = None

    def intend(self, lane_id: str, wire: tuple[str, str], payload_type: str, payload: Any) -> int:
        """Keep a new delivery over the wire `(from_id, to_id)`; it is on disk when this returns. The result is its
        number.
        """
        now = time.time()
        letter = ENCODER.encode((*wire, payload_type, encode(payload, wire[0]), now))
        with self._lock:
            number = self._last = self._before() + 1
            marks = checksum(number, lane_id, letter), *_progress(number, DeliveryState.PENDING, now, None)
            self._letters[number] = (number, lane_id, letter, *marks)
        try:
            with self._commit_lock:
                if number in self._letters:  # nobody has taken it along meanwhile
                    self.flush()
        except BaseException:
            with self._lock:
                self._letters.pop(number, None)
            raise
        return number

    def progress(self, number: int, state: DeliveryState, error: BaseException | None = None) -> None:
        """Note what became of a delivery."""
        body, check = _progress(number, state, time.time(), None if error is None else described(error))
        with self._lock:
            self._progress[number] = (body, check, number)

    def end_lane(self, lane_id: str) -> None:
        """Note that a lane has ended: its deliveries may be forgotten some day."""
        with self._lock:
            self._lanes.append((lane_id, time.time()))

    def flush(self) -> None:
        """Write what was noted."""
        with self._commit_lock:
            statements = self.statements()
            if statements:
                self._database.commit(statements)
                self.written(statements)

    def statements(self) -> list[Statement]:
        """What it takes to write what was noted; `written` is called when that is done."""
        if not (self._letters or self._progress or self._lanes):
            return []
        with self._lock:
            kept: list[Statement] = [
                (_INSERT, list(self._letters.values())),
                (_UPDATE, list(self._progress.values())),
                (_END_LANE, list(self._lanes)),
            ]
        return [statement for statement in kept if statement[1]]

    def written(self, statements: list[Statement]) -> None:
        """These were carried out."""
        with self._lock:
            for sql, rows in statements:
                if sql is _INSERT:
                    for row in rows:
                        self._letters.pop(row[0], None)
                elif sql is _UPDATE:
                    for row in rows:
                        if self._progress.get(row[2]) is row:
                            del self._progress[row[2]]
                elif sql is _END_LANE:
                    del self._lanes[: len(rows)]

    def entries(self) -> list[Delivery]:
        """All deliveries, oldest first."""
        found = []
        rows = self._database.rows(
            "SELECT id, lane, letter, checksum, progress, progress_checksum FROM deliveries ORDER BY id"
        )
        for number, lane, letter, check, progress, progress_check in rows:
            if not is_whole(check, number, lane, letter) or not is_whole(progress_check, number, progress):
                raise JournalError(
                    f"{self._database.name} is damaged: delivery {number} isn't what was written;"
                    " `nerv journal check` says what is whole"
                )
            from_id, to_id, payload_type, payload, created_at = _LETTERS.decode(letter)
            state, changed_at, error = _STATES.decode(progress)
            found.append(
                Delivery(
                    number,
                    lane,
                    from_id,
                    to_id,
                    payload_type,
                    Stored(payload),
                    DeliveryState[state],
                    created_at,
                    changed_at,
                    error,
                )
            )
        return found

    def _before(self) -> int:
        if self._last is None:
            self._last = self._database.rows("SELECT coalesce(max(id), 0) FROM deliveries")[0][0]
        assert self._last is not None
        return self._last


def _progress(number: int, state: DeliveryState, at: float, error: str | None) -> tuple[bytes, int]:
    body = ENCODER.encode((state.name, at, error))
    return body, checksum(number, body)


_LETTERS: Final = msgspec.msgpack.Decoder(tuple[str, str, str, msgspec.Raw, float])
_STATES: Final = msgspec.msgpack.Decoder(tuple[str, float, str | None])
