"""What the event bus can tell of the latest past, and how far it has got with each log.

How it works. As long as a log is there, nothing is written down: `History.latest` reads the ends of the logs. A `Track`
holds its log weakly, and beside it the log's records without the results (which the records don't hold). When the log
is gone or detached, its last events become entries of the history. An entry holds no result, and of an error a copy
without its traceback, whose frames would hold results. Events outside any log, and what comes out of a middleware, are
nowhere else, so they become entries as they come; a result in them is looked up in the log, while that is there.

Entries are sorted by time when somebody asks. Copying an error runs what its class says about copying, so nothing here
makes an entry while it holds the lock, which is the bus's.
"""

from __future__ import annotations

import copy
import heapq
import itertools
import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from operator import itemgetter
from typing import Any, Final, NamedTuple

from nerv.errors import NervError, described
from nerv.eventlog import CODES, EventLog
from nerv.events import Event, EventType, Facts

NAMES: Final = tuple(event_type.value for event_type in CODES)  # plain strings: an enum member hashes slowly

_log = logging.getLogger("nerv")
_moment = itemgetter(0)


class Entry(NamedTuple):
    """One event of the past: when it was, its type, and how to show it."""

    timestamp: float
    type: str
    show: Callable[[], Event]


class Track:
    """How far a log is delivered and remembered.

    `cursor`: the last seq that was delivered. `remembered`: up to this seq, the history has what it needs. `marks`:
    pairs (seq, since), ascending: up to this seq, only the first `since` subscriptions hear it. `shadow`: a log with
    the same records and no results.
    """

    __slots__ = ("__weakref__", "cursor", "detached", "log", "marks", "remembered", "shadow")

    def __init__(self, log: EventLog, gone: Callable[[weakref.ref[EventLog]], None]) -> None:
        self.log = weakref.ref(log, gone)
        self.shadow = EventLog(log.execution_id, log.workflow_name, log.ids, {}, log.epoch)
        self.shadow.records = log.records
        self.cursor = len(log.records)
        self.remembered = 0
        self.marks: deque[tuple[int, int]] = deque()
        self.detached = False

    def mark(self, since: int) -> None:
        """Only the first `since` subscriptions hear what hasn't been delivered yet."""
        end = len(self.shadow.records)
        if self.cursor < end and not (self.marks and self.marks[-1][0] == end):
            self.marks.append((end, since))

    def audience(self, end: int) -> tuple[int, int | None]:
        """How far past the cursor, but not past `end`, the audience is the same; and which (None: everybody)."""
        while self.marks and self.marks[0][0] <= self.cursor:
            self.marks.popleft()
        if not self.marks:
            return end, None
        seq, since = self.marks[0]
        return min(seq, end), since

    def skip(self) -> None:
        """Count everything as delivered."""
        self.cursor = len(self.shadow.records)

    def drop(self) -> None:
        """Let go of the records: the history has what it needs."""
        self.detached = True
        self.shadow = EventLog("", "", (), {}, 0.0)

    def tail(self, *, delivered: bool) -> Iterator[Entry]:
        """Its events (`delivered`: up to the cursor) of which there are no entries yet, newest first."""
        shadow = self.shadow
        seqs = range(self.cursor if delivered else len(shadow.records), self.remembered, -1)
        return (Entry(*_when_and_what(shadow, seq), partial(self._show, seq, shadow)) for seq in seqs)

    def _show(self, seq: int, shadow: EventLog) -> Event:
        log = self.log()
        return shadow.event(seq, with_result=False) if log is None else shown(log, seq)

    def restore(self, event: Event, seq: int) -> Event:
        """An event that was kept without its result, with it if it is still there."""
        log = None if self.detached else self.log()
        found = {} if log is None else shown(log, seq).data
        return event.replace(data=Facts(event.data, result=found["result"])) if "result" in found else event


class History:
    """The last `limit` events that a bus has to tell of."""

    def __init__(self, limit: int, lock: threading.RLock) -> None:
        self.limit = limit
        self._lock = lock
        self._entries: list[Entry] = []

    def add(self, event: Event, origin: Track | None = None, seq: int = 0) -> None:
        """Keep an event; if it has a result, then that of the event `seq` of `origin`, and not beyond it."""
        lasting = _lasting(event)
        show = partial(origin.restore, lasting, seq) if origin is not None else partial(_same, lasting)
        self._extend([Entry(event.timestamp, str(event.type), show)])

    def add_altered(self, event: Event, original: Event, track: Track) -> None:
        """Keep what a middleware made of a log's event."""
        data = event.data
        if original.type == EventType.TASK_COMPLETED and isinstance(data, Mapping) and "result" in original.data:
            others = {key: value for key, value in data.items() if key != "result"}
            if len(others) < len(data) and data["result"] is original.data["result"]:
                self.add(event.replace(data=Facts(others)), track, original.seq or 0)
                return
        self.add(event)

    def settle(self, track: Track, end: int, *, ended: bool) -> None:
        """Make entries of a log's events up to the seq `end`, which it may soon not have any more (`ended`)."""
        if end <= track.remembered:
            return
        with self._lock:
            start, track.remembered = max(track.remembered, end - self.limit), max(track.remembered, end)
            shadow = track.shadow
        entries = []
        for seq in range(start + 1, end + 1):
            event = _lasting(shadow.event(seq, with_result=False))
            show = partial(_same, event) if ended else partial(track.restore, event, seq)
            entries.append(Entry(*_when_and_what(shadow, seq), show))
        self._extend(entries)

    def _extend(self, entries: Iterable[Entry]) -> None:
        with self._lock:
            self._entries.extend(entries)
            if len(self._entries) > 2 * self.limit:
                self._entries.sort(key=_moment)
                del self._entries[: len(self._entries) - self.limit]

    def latest(self, tails: Iterable[Iterator[Entry]], wanted: str | None, limit: int) -> list[Event]:
        """The newest events of a type (None: any), newest first, from the entries and from what logs have beside."""
        with self._lock:
            entries = self._entries[::-1]
        entries.sort(key=_moment, reverse=True)
        merged = itertools.islice(heapq.merge(*tails, entries, key=_moment, reverse=True), self.limit)
        matching = (entry for entry in merged if wanted is None or entry.type == wanted)
        return [entry.show() for entry in itertools.islice(matching, limit)]


def shown(log: EventLog, seq: int) -> Event:
    """An event of a log, without the result if that can't be had."""
    try:
        return log.event(seq)
    except Exception:  # noqa: BLE001  (results may be decoded when first needed, by user code)
        _log.exception("the result in the event %s:%s can't be shown", log.execution_id, seq)
        return log.event(seq, with_result=False)


def _when_and_what(log: EventLog, seq: int) -> tuple[float, str]:
    code, _, at, *_ = log.records[seq - 1]
    return log.epoch + at, NAMES[code]


def _same(event: Event) -> Event:
    return event


def _lasting(event: Event) -> Event:
    """An event with no error in its data that has a traceback; what users publish is left as it is."""
    if isinstance(event.data, Facts) and any(isinstance(value, BaseException) for value in event.data.values()):
        return event.replace(data=Facts({key: _untraced(value) for key, value in event.data.items()}))
    return event


def _untraced(value: Any) -> Any:
    if not isinstance(value, BaseException):
        return value
    try:
        twin = copy.copy(value)
    except Exception:  # noqa: BLE001  (any reason for not being copied is the same to us)
        twin = value
    return NervError(described(value)) if twin is value or not isinstance(twin, BaseException) else twin
