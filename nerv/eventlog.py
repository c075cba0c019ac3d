"""One execution's events, as the engine keeps them: an append-only list of bare tuples.

A record is `(code, task, at, attempt, data)`: the event type's number in `CODES`, the task's number (-1: the
execution's own event), the moment on the engine's monotonic clock in seconds, the attempt (0: none) and a dict or
None. A record's place in the list, plus one, is the event's `seq`: numbering costs nothing and can't leave a gap.

Everybody who wants to know something about an execution reads this list behind a cursor of their own: the bus delivers
from it, the projector folds it, `Execution.events()` shows it. Only the scheduler appends, under the engine's lock;
a record never changes, so reading needs no lock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from nerv.events import Event, EventType, Facts
from nerv.far import Far, FarFacts, FarValues

Record: TypeAlias = tuple[int, int, float, int, Any]

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


class EventLog:
    """The events of one execution, and how to show them.

    Args:
        execution_id: the execution they belong to.
        workflow_name: its workflow's name.
        ids: task ids by number; may grow while the execution runs.
        values: results of completed tasks by id; the engine fills it before it appends the TASK_COMPLETED record.
        epoch: epoch seconds at the moment 0.0 of the engine's monotonic clock.
    """

    __slots__ = ("__weakref__", "dirty", "epoch", "execution_id", "ids", "records", "values", "workflow_name")

    def __init__(
        self, execution_id: str, workflow_name: str, ids: Sequence[str], values: Mapping[str, Any], epoch: float
    ) -> None:
        self.execution_id = execution_id
        self.workflow_name = workflow_name
        self.ids = ids
        self.values = values
        self.epoch = epoch
        self.records: list[Record] = []
        self.dirty = False  # whether the bus has been told of records that it hasn't fetched yet

    def __len__(self) -> int:
        return len(self.records)

    def event(self, seq: int, *, with_result: bool = True) -> Event:
        """The event numbered `seq` (from 1). `with_result=False` leaves a completed task's result out of its data."""
        code, task, at, attempt, data = self.records[seq - 1]
        key = self.ids[task] if task >= 0 else None
        task_id = None if key is None else str(key)  # that of a task that was added may be a LongId
        if code == TASK_COMPLETED and with_result and key is not None and key in self.values:
            far = self.values.raw(key) if isinstance(self.values, FarValues) else None
            data = FarFacts(data or {}, far) if isinstance(far, Far) else Facts(data or (), result=self.values[key])
        elif data is None:
            data = _NOTHING
        elif not isinstance(data, Facts):  # of what was read from a journal nothing is decoded before it is asked for
            data = Facts(data)
        return Event(
            CODES[code], self.execution_id, task_id, seq, self.epoch + at, attempt or None, data, self.workflow_name
        )

    def events(self, after: int = 0, until: int | None = None) -> Iterator[Event]:
        """The events with `after < seq <= until`, in order; `until=None` is all that there are at the call."""
        for seq in range(after + 1, (len(self.records) if until is None else until) + 1):
            yield self.event(seq)


_NOTHING: Final = Facts()
