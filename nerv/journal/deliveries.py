"""Certified mail: `DispatchHook`, told of each value that goes over a wire, and `Delivery`, what a journal keeps."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from msgspec import Struct

from nerv.journal.codec import Stored


class DeliveryState(StrEnum):
    """Where a delivery is: intended, handed to the receiving task, done by it, or not done."""

    PENDING = "PENDING"
    DISPATCHED = "DISPATCHED"
    ACKED = "ACKED"
    FAILED = "FAILED"


class Delivery(Struct, frozen=True):
    """One value on its way over one wire, from the task `from_id` to the task `to_id` of a lane.

    `stored` is the value as it is kept, `payload` the value itself. `error` is the text of what went wrong. Times are
    epoch seconds.
    """

    id: int
    lane_id: str
    from_id: str
    to_id: str
    payload_type: str
    stored: Stored
    state: DeliveryState
    created_at: float
    changed_at: float
    error: str | None = None

    @property
    def payload(self) -> Any:
        """What goes over the wire; decoded each time it is asked for.

        Raises:
            SerializationError: it can't be rebuilt here.
        """
        return self.stored.get()


@runtime_checkable
class DispatchHook(Protocol):
    """Told of deliveries. `MemoryJournal` and `SqliteJournal` are such hooks.

    What `on_intent` raises fails the receiving task before it is called; what the others raise is logged.
    """

    def on_intent(self, *, lane_id: str, from_id: str, to_id: str, payload_type: str, payload: Any) -> Any:
        """A value is about to go to `to_id`. The result is the delivery's id, given to the calls that follow."""
        ...

    def on_dispatched(self, entry_id: Any) -> None:
        """The receiving task was started with it."""
        ...

    def on_acknowledged(self, entry_id: Any) -> None:
        """The receiving task completed."""
        ...

    def on_failed(self, entry_id: Any, error: BaseException) -> None:
        """The receiving task failed for good, or the value couldn't be handed to it."""
        ...

    def on_lane_complete(self, lane_id: str) -> None:
        """Nothing more goes over this lane's wires."""
        ...
