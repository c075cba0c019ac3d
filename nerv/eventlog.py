"""One execution's events, as the engine keeps them: an append-only list of bare tuples.

A record is `(code, task, at, attempt, data)`: the event type's number in `CODES`, the task's number (-1: the
execution's own event), the moment on the engine's monotonic clock in seconds, the attempt (0: none) and a dict or
None. A record's place in the list, plus one, is the event's `seq`: numbering costs nothing and can't leave a gap.

Everybody who wants to know something about an execution reads this list behind a cursor of their own: the bus delivers
from it, the projector folds it, `Execution.events()` shows it. Only the scheduler appends, under the engine's lock;
a record never changes, so reading needs no lock.

Of a fed flow, records of lanes that have ended go, and the list is another one then (nerv/pages.py). Who mustn't miss
any tells the log how far it is (`follow`).
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from gc import is_tracked
from typing import Any, Final, Protocol

from nerv.events import Event, EventType, Facts, LightEvent
from nerv.far import Far, FarFacts, FarValues
from nerv.pages import Book, Page, Record

CODES: Final = tuple(EventType)
CODE_OF: Final = {event_type: code for code, event_type in enumerate(CODES)}
WORKFLOW_STARTED: Final = CODE_OF[EventType.WORKFLOW_STARTED]
WORKFLOW_PAUSED: Final = CODE_OF[EventType.WORKFLOW_PAUSED]
WORKFLOW_RESUMED: Final = CODE_OF[EventType.WORKFLOW_RESUMED]
WORKFLOW_COMPLETED: Final = CODE_OF[EventType.WORKFLOW_COMPLETED]
WORKFLOW_FAILED: Final = CODE_OF[EventType.WORKFLOW_FAILED]
WORKFLOW_CANCELLED: Final = CODE_OF[EventType.WORKFLOW_CANCELLED]
WORKFLOW_RECOVERED: Final = CODE_OF[EventType.WORKFLOW_RECOVERED]
TASK_STARTED: Final = CODE_OF[EventType.TASK_STARTED]
TASK_COMPLETED: Final = CODE_OF[EventType.TASK_COMPLETED]
TASK_FAILED: Final = CODE_OF[EventType.TASK_FAILED]
TASK_SKIPPED: Final = CODE_OF[EventType.TASK_SKIPPED]
TASK_CANCELLED: Final = CODE_OF[EventType.TASK_CANCELLED]
TASK_RETRYING: Final = CODE_OF[EventType.TASK_RETRYING]
TASK_WAITING: Final = CODE_OF[EventType.TASK_WAITING]
TASK_PROGRESS: Final = CODE_OF[EventType.TASK_PROGRESS]
TASK_COMPENSATED: Final = CODE_OF[EventType.TASK_COMPENSATED]
TASK_REPRIORITIZED: Final = CODE_OF[EventType.TASK_REPRIORITIZED]
TASKS_ADDED: Final = CODE_OF[EventType.TASKS_ADDED]
SIGNAL_RECEIVED: Final = CODE_OF[EventType.SIGNAL_RECEIVED]


class Reader(Protocol):
    """Who reads a log and mustn't miss anything."""

    @property
    def reached(self) -> int:
        """The last seq that it doesn't need any more."""


class Cursor:
    """A reader who tells how far it is."""

    __slots__ = ("__weakref__", "reached")

    def __init__(self, reached: int = 0) -> None:
        self.reached = reached


class EventLog:
    """The events of one execution, and how to show them.

    Args:
        execution_id: the execution they belong to.
        workflow_name: its workflow's name.
        ids: task ids by number; may grow while the execution runs.
        values: results of completed tasks by id; the engine fills it before it appends the TASK_COMPLETED record.
        epoch: epoch seconds at the moment 0.0 of the engine's monotonic clock.
        book: where the records are, if they are somewhere already.
    """

    __slots__ = ("__weakref__", "_readers", "book", "dirty", "epoch", "execution_id", "values", "workflow_name")

    def __init__(
        self,
        execution_id: str,
        workflow_name: str,
        ids: Sequence[str],
        values: Mapping[str, Any],
        epoch: float,
        *,
        book: Book | None = None,
    ) -> None:
        self.execution_id = execution_id
        self.workflow_name = workflow_name
        self.values = values
        self.epoch = epoch
        self.book = Book(Page([], ids)) if book is None else book
        self.dirty = False  # whether the bus has been told of records that it hasn't fetched yet
        self._readers: list[weakref.ref[Reader]] = []

    def __len__(self) -> int:
        return len(self.book.page)

    @property
    def page(self) -> Page:
        """The records at hand."""
        return self.book.page

    @property
    def records(self) -> list[Record]:
        """The records at hand, in order. To be set only before anybody reads them."""
        return self.book.page.records

    @records.setter
    def records(self, records: list[Record]) -> None:
        self.book.page.records = records

    @property
    def ids(self) -> Sequence[str]:
        """Task ids by number. To be set only before anybody reads them."""
        return self.book.page.ids

    @ids.setter
    def ids(self, ids: Sequence[str]) -> None:
        self.book.page.ids = ids

    def beside(self, book: Book | None = None) -> EventLog:
        """A log of the same records, or of those in another book, without results."""
        return EventLog(
            self.execution_id, self.workflow_name, (), {}, self.epoch, book=self.book if book is None else book
        )

    # ---- who reads --------------------------------------------------------------------------------------------------

    def follow(self, reader: Reader) -> None:
        """As long as somebody holds the reader, no record goes that it needs."""
        self._readers.append(weakref.ref(reader))

    @property
    def read(self) -> int:
        """The seq up to which no reader needs the records any more."""
        read = len(self)
        for ref in self._readers.copy():
            reader = ref()
            if reader is None:
                self._readers.remove(ref)
            else:
                read = min(read, reader.reached)
        return read

    # ---- events -----------------------------------------------------------------------------------------------------

    def has(self, seq: int) -> bool:
        """Whether an event is at hand."""
        page = self.page
        return 0 < seq <= len(page) and page.seq(page.upto(seq)) == seq

    def event(self, seq: int, *, with_result: bool = True) -> Event:
        """The event numbered `seq` (from 1). `with_result=False` leaves a completed task's result out of its data.

        Raises:
            LookupError: it isn't at hand (any more).
        """
        page = self.book.page
        place = page.upto(seq) if page.dropped else seq
        if page.seq(place) != seq:
            raise LookupError(f"event {seq} of execution {self.execution_id!r} was folded into the counts")
        return self.shown(page, page.records[place - 1], seq, with_result=with_result)

    def shown(self, page: Page, record: Record, seq: int, *, with_result: bool = True) -> Event:
        """The event that a page's record tells of."""
        code, task, at, attempt, data = record
        task_id, kind = None, Event
        if task >= 0:
            task_id = key = page.ids[task]
            if task_id.__class__ is not str:
                task_id = str(key)  # an added task's may be a LongId
            if code == TASK_COMPLETED and with_result and key in self.values:
                if data is None and self.values.__class__ is dict:
                    value = self.values[key]
                    data = Facts(result=value)
                    if not is_tracked(value) and value.__class__ is not dict:  # which is, as soon as it holds what is
                        kind = LightEvent
                else:
                    data = self._with_result(data, key)
        if data is None:
            data, kind = _NOTHING, LightEvent
        elif not isinstance(data, Facts):  # of what was read from a journal nothing is decoded before it is asked for
            data = Facts(data)
        return kind(
            CODES[code], self.execution_id, task_id, seq, self.epoch + at, attempt or None, data, self.workflow_name
        )

    def _with_result(self, data: Mapping[str, Any] | None, key: str) -> Facts:
        values = self.values
        if isinstance(values, FarValues) and isinstance(far := values.raw(key), Far):
            return FarFacts(data or {}, far)
        return Facts(data, result=values[key]) if data else Facts(result=values[key])

    def after(self, seq: int) -> Event | None:
        """The next event at hand after `seq`; None: there is none yet."""
        while True:
            page = self.book.page
            place = (page.upto(seq) if page.dropped else seq) + 1
            if place > len(page.records):
                return None
            try:
                return self.shown(page, page.records[place - 1], page.seq(place) if page.dropped else place)
            except LookupError:
                if page is self.page:
                    raise  # else the page was turned meanwhile, and what the event tells of is gone

    def events(self, after: int = 0, until: int | None = None) -> Iterator[Event]:
        """The events at hand with `after < seq <= until`, in order; `until=None` is all that there are at the call."""
        end = len(self) if until is None else until
        event = self.after(after)
        while event is not None and event.seq is not None and event.seq <= end:
            yield event
            event = self.after(event.seq)


_NOTHING: Final = Facts()
