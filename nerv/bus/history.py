"""What the event bus can tell of the latest past, and how far it has got with each log.

How it works. As long as a log is there, nothing is written down: `History.latest` reads the ends of the logs. A `Track`
holds its log weakly, and beside it the log's records (which hold no results). When the log is gone or detached, a
`Tail` keeps the last of its records, with copies of errors that have no traceback: its frames would hold results.
Events outside any log, and what comes out of a middleware, are nowhere else, so they become entries as they come; a
result in them is looked up in the log, while that is there.

All is put in order of time when somebody asks. Forgetting an execution must be cheap, as a manager that runs many small
ones does it once for each, so no `Event` is made for that. Copying an error runs what its class says about copying, so
that is never done while the lock is held, which is the bus's.
"""

from __future__ import annotations

import copy
import heapq
import itertools
import logging
import math
import threading
import weakref
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, Final, NamedTuple, cast

from nerv.errors import NervError, described
from nerv.eventlog import CODES, EventLog
from nerv.events import Event, EventType, Facts
from nerv.pages import Book, Page, Record

NAMES: Final = tuple(event_type.value for event_type in CODES)  # plain strings: an enum member hashes slowly

_log = logging.getLogger("nerv")
_moment = itemgetter(0, 1)


class Entry(NamedTuple):
    """One event of the past: when it was (`order` tells events of one moment apart), its type, and how to show it."""

    timestamp: float
    order: int
    type: str
    show: Callable[[], Event]


class Track:
    """How far a log is delivered and remembered.

    `cursor`: the last seq that was delivered. `remembered`: up to this seq, the history has what it needs. `marks`:
    pairs (seq, since), ascending: up to this seq, only the first `since` subscriptions hear it. `shadow`: a log with
    the same records and no results. `heard`: whether anybody is told of them. `limit`: how many events the history may
    still show of what was delivered.
    """

    __slots__ = ("__weakref__", "cursor", "detached", "heard", "limit", "log", "marks", "remembered", "shadow")

    def __init__(self, log: EventLog, gone: Callable[[weakref.ref[EventLog]], None], limit: int) -> None:
        self.log = weakref.ref(log, gone)
        self.shadow = log.beside()
        self.cursor = len(log)
        self.remembered = 0
        self.marks: deque[tuple[int, int]] = deque()
        self.detached = False
        self.heard = True
        self.limit = limit
        log.follow(self)

    @property
    def reached(self) -> int:
        """The last seq that isn't needed any more."""
        return (self.cursor if self.heard else len(self.shadow)) - self.limit

    def mark(self, since: int) -> None:
        """Only the first `since` subscriptions hear what hasn't been delivered yet."""
        end = len(self.shadow)
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
        self.cursor = len(self.shadow)

    def drop(self) -> None:
        """Let go of the records: the history has what it needs."""
        self.shadow = EventLog("", "", (), {}, 0.0)

    def tail(self, *, delivered: bool) -> Iterator[Entry]:
        """Its events (`delivered`: up to the cursor) that nothing is kept of yet, newest first."""
        page = self.shadow.page
        shadow = self.shadow.beside(Book(page))  # whatever goes meanwhile
        places = range(page.upto(self.cursor if delivered else len(page)), page.upto(self.remembered), -1)
        return (
            _entry(shadow, place, seq, partial(self._show, seq, shadow))
            for place, seq in ((place, page.seq(place)) for place in places)
        )

    def _show(self, seq: int, shadow: EventLog) -> Event:
        log = self.log()
        kept = shadow.event(seq, with_result=False)
        return kept if log is None else shown(log, seq, kept)

    def live(self) -> EventLog | None:
        """The log, as long as it is there and not detached."""
        return None if self.detached else self.log()

    def restore(self, event: Event, seq: int) -> Event:
        """An event that was kept without its result, with it if it is still there."""
        log = self.live()
        found = {} if log is None else shown(log, seq, event).data
        return event.replace(data=Facts(event.data, result=found["result"])) if "result" in found else event


class Tail(NamedTuple):
    """The last records of a log, those after `start`. Results are shown as long as its track has the log itself."""

    log: EventLog
    start: int
    track: Track

    @classmethod
    def cut(cls, log: EventLog, start: int, end: int, track: Track) -> Tail:
        """The records with `start < seq <= end`."""
        page = log.page
        records = [one if one[4] is None else _lasting(one) for one in page.between(start, end)]
        # Not the whole list of ids, which may be long.
        ids = cast("Sequence[str]", {one[1]: page.ids[one[1]] for one in records if one[1] >= 0})
        return cls(log.beside(Book(Page(records, ids))), start, track)

    def times(self) -> list[float]:
        """When its events were, ascending."""
        return [self.log.epoch + record[2] for record in self.log.records]

    def without(self, count: int) -> Tail:
        """The same but for its first `count` events."""
        book = Book(Page(self.log.records[count:], self.log.ids))
        return self._replace(log=self.log.beside(book), start=self.start + count)

    def entries(self) -> Iterator[Entry]:
        """Its events, newest first."""
        numbers = range(len(self.log), 0, -1)
        return (_entry(self.log, n, self.start + n, partial(self._show, n, self.start + n)) for n in numbers)

    def _show(self, number: int, seq: int) -> Event:
        log = self.track.live()
        kept = self.log.event(number, with_result=False).replace(seq=seq)
        return kept if log is None else shown(log, seq, kept)


class History:
    """The last `limit` events that a bus has to tell of."""

    def __init__(self, limit: int, lock: threading.RLock) -> None:
        self.limit = limit
        self._lock = lock
        self._entries: list[Entry] = []
        self._tails: list[Tail] = []
        self._size = 0  # records in the tails

    def add(self, event: Event, order: int, track: Track | None = None) -> None:
        """Keep an event; with a `track`, its result is that of the event with the seq `order` there."""
        if isinstance(event.data, Facts):  # what users publish is left as it is
            event = event.replace(data=Facts(_untraced(event.data)))
        show = partial(_same, event) if track is None else partial(track.restore, event, order)
        with self._lock:
            self._entries.append(Entry(event.timestamp, order, str(event.type), show))
            if len(self._entries) > 2 * self.limit:
                self._entries.sort(key=_moment)
                del self._entries[: len(self._entries) - self.limit]

    def add_altered(self, event: Event, original: Event, seq: int, track: Track) -> None:
        """Keep what a middleware made of the event `seq` of a log; not its result, if that is still the same."""
        data = event.data
        if original.type == EventType.TASK_COMPLETED and isinstance(data, Mapping) and "result" in original.data:
            others = {key: value for key, value in data.items() if key != "result"}
            if len(others) < len(data) and data["result"] is original.data["result"]:
                self.add(event.replace(data=Facts(others)), seq, track)
                return
        self.add(event, seq)

    def settle(self, track: Track, end: int) -> None:
        """Keep a log's events up to the seq `end`: they will be elsewhere, or nowhere."""
        if end <= track.remembered:
            return
        with self._lock:
            start, track.remembered = max(track.remembered, end - self.limit), max(track.remembered, end)
            shadow = track.shadow  # together, as the track may be dropped by whoever sees that all is remembered
        tail = Tail.cut(shadow, start, end, track)
        if tail.log.records:
            with self._lock:
                self._tails.append(tail)
                self._size += len(tail.log)
                if self._size > 2 * self.limit:
                    self._trim()

    def _trim(self) -> None:
        """Keep the newest `limit` of the tails' events."""
        times = sorted(itertools.chain.from_iterable(tail.times() for tail in self._tails))
        oldest = times[-self.limit] if self.limit else math.inf
        room = self.limit - (len(times) - bisect_right(times, oldest))
        kept: list[Tail] = []
        for tail in self._tails:
            mine = tail.times()
            newer = bisect_right(mine, oldest)
            equal = min(newer - bisect_left(mine, oldest), room)
            room -= equal
            if newer - equal < len(mine):
                kept.append(tail.without(newer - equal))
        self._tails = kept
        self._size = sum(len(tail.log) for tail in kept)

    def latest(self, tails: Iterable[Iterator[Entry]], wanted: str | None, limit: int) -> list[Event]:
        """The newest events of a type (None: any), newest first, of what is kept and what the logs' `tails` have."""
        with self._lock:
            entries = sorted(self._entries, key=_moment, reverse=True)
            kept = [tail.entries() for tail in self._tails]
        merged = heapq.merge(*tails, entries, *kept, key=_moment, reverse=True)
        matching = (one for one in itertools.islice(merged, self.limit) if wanted is None or one.type == wanted)
        return [entry.show() for entry in itertools.islice(matching, limit)]


def shown(log: EventLog, seq: int, kept: Event | None = None) -> Event:
    """An event of a log, without the result if that can't be had; `kept`, if the log has it no more."""
    try:
        return log.event(seq)
    except Exception:  # noqa: BLE001  (results may be decoded when first needed, by user code)
        return kept if kept is not None and not log.has(seq) else without_result(log, seq)


def without_result(log: EventLog, seq: int) -> Event:
    """An event whose result has just raised when it was asked for; that is logged."""
    _log.exception("the result in the event %s:%s can't be shown", log.execution_id, seq)
    return log.event(seq, with_result=False)


def _entry(log: EventLog, number: int, seq: int, show: Callable[[], Event]) -> Entry:
    code, _, at, *_ = log.records[number - 1]
    return Entry(log.epoch + at, seq, NAMES[code], show)


def _same(event: Event) -> Event:
    return event


def _lasting(record: Record) -> Record:
    return (*record[:4], _untraced(record[4]))


def _untraced(data: dict[str, Any]) -> dict[str, Any]:
    """The same data with copies of errors that have no traceback."""
    if any(isinstance(value, BaseException) for value in data.values()):
        return {key: _copied(value) if isinstance(value, BaseException) else value for key, value in data.items()}
    return data


def _copied(error: BaseException) -> BaseException:
    try:
        twin = copy.copy(error)
    except Exception:  # noqa: BLE001  (any reason for not being copied is the same to us)
        twin = error
    return NervError(described(error)) if twin is error or not isinstance(twin, BaseException) else twin
