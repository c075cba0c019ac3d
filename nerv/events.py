"""The vocabulary of facts: `EventType`, and `Event`, the immutable form in which everybody sees them.

The engine itself keeps events as bare tuples (nerv/eventlog.py), because a run that nobody watches shouldn't pay for
watching; an `Event` is made when somebody reads one.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final, NoReturn

import msgspec


class EventType(StrEnum):
    """Every kind of fact that nerv reports. Members equal their names, so `"TASK_STARTED"` subscribes just as well."""

    WORKFLOW_CREATED = "WORKFLOW_CREATED"
    WORKFLOW_STARTED = "WORKFLOW_STARTED"
    WORKFLOW_PAUSED = "WORKFLOW_PAUSED"
    WORKFLOW_RESUMED = "WORKFLOW_RESUMED"
    WORKFLOW_COMPLETED = "WORKFLOW_COMPLETED"
    WORKFLOW_FAILED = "WORKFLOW_FAILED"
    WORKFLOW_CANCELLED = "WORKFLOW_CANCELLED"
    WORKFLOW_RECOVERED = "WORKFLOW_RECOVERED"
    TASK_PENDING = "TASK_PENDING"
    TASK_STARTED = "TASK_STARTED"
    TASK_COMPLETED = "TASK_COMPLETED"
    TASK_FAILED = "TASK_FAILED"
    TASK_SKIPPED = "TASK_SKIPPED"
    TASK_CANCELLED = "TASK_CANCELLED"
    TASK_RETRYING = "TASK_RETRYING"
    TASK_WAITING = "TASK_WAITING"
    TASK_PROGRESS = "TASK_PROGRESS"
    TASK_COMPENSATED = "TASK_COMPENSATED"
    TASK_REPRIORITIZED = "TASK_REPRIORITIZED"
    TASKS_ADDED = "TASKS_ADDED"
    SIGNAL_RECEIVED = "SIGNAL_RECEIVED"
    CIRCUIT_OPENED = "CIRCUIT_OPENED"
    CIRCUIT_CLOSED = "CIRCUIT_CLOSED"
    POOL_RESIZED = "POOL_RESIZED"
    HANDLER_ERROR = "HANDLER_ERROR"


TERMINAL: Final = (EventType.WORKFLOW_COMPLETED, EventType.WORKFLOW_FAILED, EventType.WORKFLOW_CANCELLED)
"""The types of an execution's last event: every execution that ends has exactly one."""


class Anything:
    """The type of `ANY`: stands for every event type in `subscribe`."""

    def __repr__(self) -> str:
        return "ANY"


ANY: Final = Anything()


class Facts(dict[str, Any]):
    """An event's data: a dict that can be read, compared, pickled and written as JSON, but not changed."""

    __slots__ = ()

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError(
            "an event's data can't be changed: other handlers see the same object. Copy it with dict(data)."
        )

    __setitem__ = __delitem__ = clear = pop = popitem = setdefault = update = __ior__ = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return Facts, (dict(self),)


class Event(msgspec.Struct, frozen=True, eq=False):
    """A fact that happened.

    `seq` counts 1, 2, 3 ... within an execution's log; it is None for events outside a log (created workflows, handler
    errors, your own). `timestamp` is in epoch seconds. `attempt` counts from 1. `data` depends on the type (the table
    is in docs/reference.md); for your own events it is what you published.
    """

    type: EventType | str
    execution_id: str | None = None
    task_id: str | None = None
    seq: int | None = None
    timestamp: float = 0.0
    attempt: int | None = None
    data: Any = None
    source: str | None = None
    number: int | None = None

    @property
    def id(self) -> str:
        """`"{execution_id}:{seq}"`, or `"bus:{n}"` for an event outside a log; made when read."""
        return f"bus:{self.number}" if self.seq is None else f"{self.execution_id}:{self.seq}"

    def replace(self, **changes: Any) -> Event:
        """A copy with some fields changed, as a middleware returns it."""
        return msgspec.structs.replace(self, **changes)


class LightEvent(Event, frozen=True, eq=False, gc=False):
    """An event that the garbage collector needn't look at, as no cycle goes through it: what its data holds refers to
    nothing. Who watches a large execution has many, and every collection would walk through them.
    """

    def replace(self, **changes: Any) -> Event:
        """A copy with some fields changed, whatever these may be."""
        return Event(*msgspec.structs.astuple(self)).replace(**changes)


LightEvent.__name__ = "Event"  # which it is, for who prints it
