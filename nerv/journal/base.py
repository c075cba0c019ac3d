"""`Journal`: what the engine asks of whoever keeps executions durably; and the data that goes to and fro.

How the engine uses one. Its recorder, one thread, reads execution logs behind a cursor and hands over what is new:

    journal.write(Batch(
        headers=[Header(id=..., workflow_name=..., ...)],            # of executions that are new, beside their first
        stretches=[Stretch(execution_id, first_seq, records, epoch, ids, values, claims)],
        facts=[Fact(owner, name, value)], orders_done=[7],
    ), sync=True)

All of a batch is kept or none of it, and with `sync=True` it is on disk when `write` returns. One call is one commit:
strict mode makes one a step, group mode one for whatever has arrived. An execution has ended when its last record says
so; nobody tells the journal separately.

- `first_seq` continues where the last stretch of that execution ended (the first is 1). A gap is refused: nothing of
  the batch is written. A batch may hold several stretches of one execution, in order.
- `records` are the engine's own tuples `(code, task, at, attempt, data)`, as they stand in the log. `at` is the
  engine's monotonic time; `epoch` turns it into epoch seconds, as in `EventLog`.
- `ids` are the task ids that the engine's list has gained since the last stretch, in order: the first stretch brings
  the whole workflow's. So a task's number means the same in the file as in the log.
- `values` maps task number -> *encoded* result, of the tasks that have a TASK_COMPLETED in `records`. Encode where the
  function was called: `encoded = encode(value, task_id)`; on `SerializationError` the task fails. Without an entry the
  result isn't kept (`durable=False`).
- `data` may hold anything; what can't be stored there becomes a fact that raises when it is read. Encode what matters
  beforehand (the tasks of an Expand, a buffer's items): data may hold `Stored` values, also inside lists and dicts.
- `claims` are task numbers that may start from now on although their TASK_STARTED isn't written yet (strict mode). A
  stretch may hold nothing but claims; its `first_seq` is then that of the next record.

Between batches, when it has nothing to write, the recorder calls `tidy()` until that returns False: it merges the small
frames of executions that have ended, or grown long, a bounded piece at a time. `close()` does one more piece; what is
left is found by the next opening.

Recovery. `unfinished()` lists what was interrupted; `load(id, epoch=engine_epoch)` gives everything about one
execution, in the engine's own form: `history.records` can become `EventLog.records` as they are (`at` is relative to
the epoch given), `history.ids` its ids and `history.values` its values: a dict by task id that decodes a result when
it is first asked for. Data of records are `Facts` that decode likewise. Going on is simply writing the next stretch,
from `len(records) + 1`; its first record should be a WORKFLOW_RECOVERED. `history.claims` holds `(seq, numbers)`: how
many records there were when these were claimed; a claimed number without a later TASK_STARTED and before the next
WORKFLOW_RECOVERED may have been running. For a fork, take `history.values.raw(task_id)` (encoded, unread) and write it
as the new execution's value.

An engine that closes but leaves the journal open says which executions it has let go of: `release()`.

Orders are what somebody else wants of an execution that nobody owns (signal, cancel, pause, resume): recorded with
`order(...)`, found in `history.orders`, gone when a batch lists them in `orders_done`, together with the records that
carry them out. Facts are small values under `(owner, name)`, as a trigger's cursor, changed in the same commit as the
records that they belong to; an owner that is an execution's id is forgotten with it.

Threads: every method may be called from any thread. A journal belongs to the process that opened it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

from msgspec import Struct

from nerv.events import Event
from nerv.journal.deliveries import Delivery, DeliveryState
from nerv.journal.lazy import LazyValues
from nerv.pages import Record
from nerv.statuses import WorkflowStatus


class Header(Struct, frozen=True):
    """What is known of an execution when it starts.

    `params` are its params, encoded (`encode_all`) or to be encoded; `target` is where to import the workflow from,
    `module:name`, if that is known; `created_at` is in epoch seconds; `extra` is the engine's own: anything storable.
    """

    id: str
    workflow_name: str
    workflow_id: str | None = None
    fingerprint: str = ""
    params: Mapping[str, Any] = {}
    target: str | None = None
    created_at: float = 0.0
    extra: Mapping[str, Any] = {}


class Stretch(Struct, frozen=True):
    """The next records of one execution; the module's head says what each field holds."""

    execution_id: str
    first_seq: int
    records: Sequence[Record]
    epoch: float = 0.0
    ids: Sequence[str] = ()
    values: Mapping[int, Any] = {}
    claims: Sequence[int] = ()


class Fact(Struct, frozen=True):
    """A small value under an owner and a name; None takes it away."""

    owner: str
    name: str
    value: Any = None


class Batch(Struct):
    """What one `write` writes, all or nothing."""

    headers: list[Header] = []
    stretches: list[Stretch] = []
    facts: list[Fact] = []
    orders_done: list[int] = []


class Order(Struct, frozen=True):
    """What somebody wants of an execution: `kind` says what (`signal`, `cancel` ...), `data` is its arguments.

    `created_at` is in epoch seconds.
    """

    id: int
    execution_id: str
    kind: str
    data: Mapping[str, Any]
    created_at: float


class ExecutionRecord(Struct, frozen=True):
    """What a journal says of an execution.

    `status` is INTERRUPTED if it hasn't ended and no live engine has it. `started_at` and `ended_at` are epoch seconds,
    None if it hasn't started or ended.
    """

    id: str
    workflow_name: str
    status: WorkflowStatus
    started_at: float | None
    ended_at: float | None


class History(Struct, frozen=True):
    """Everything that a journal holds about one execution; the module's head says how to go on from it."""

    header: Header
    status: WorkflowStatus
    ids: list[str]
    records: list[Record]
    values: LazyValues
    claims: list[tuple[int, list[int]]]
    orders: list[Order]
    facts: dict[str, Any]


class Finding(Struct, frozen=True):
    """What `check` found out about one execution: `damage` says what is wrong with what is stored of it, None: nothing.

    `events` is how many whole records there are; `bytes` what they take in the file. A finding whose `id` is None is
    about the rest of the file; there is one only if something is wrong with it.
    """

    id: str | None
    workflow_name: str
    status: WorkflowStatus | None
    events: int
    bytes: int
    damage: str | None = None


@runtime_checkable
class Journal(Protocol):
    """Keeps executions durably. Every method may raise `JournalError`, naming the file and what to do."""

    # ---- the engine's side ------------------------------------------------------------------------------------------

    def write(self, batch: Batch, *, sync: bool = True) -> None:
        """Keep a batch: all of it, or nothing if this raises. `sync`: it is on disk when this returns.

        Raises:
            JournalError: it can't be written, or doesn't continue what is stored.
            SerializationError: a fact's value can't be stored; encode what users gave beforehand.
            TypeError: a result wasn't encoded.
        """
        ...

    def tidy(self) -> bool:
        """Do a bounded piece of housekeeping; whether there is more to do."""
        ...

    def unfinished(self) -> list[ExecutionRecord]:
        """The executions that haven't ended, oldest first."""
        ...

    def load(self, execution_id: str, *, epoch: float = 0.0) -> History:
        """Everything about one execution; moments are seconds since `epoch` (epoch seconds).

        Raises:
            UnknownIdError: no such execution.
            JournalError: what is stored of it is damaged.
        """
        ...

    def order(self, execution_id: str, kind: str, data: Mapping[str, Any]) -> int:
        """Keep an order for an execution; on disk when this returns. The result is its number."""
        ...

    def release(self, *execution_ids: str) -> None:
        """The engine lets go of these unfinished executions (of all, if none is named): they read INTERRUPTED."""
        ...

    def facts(self, owner: str) -> dict[str, Any]:
        """The facts of an owner by name, decoded."""
        ...

    def discard(self, execution_id: str) -> bool:
        """Remove one execution, whatever its state; False: there is none."""
        ...

    # ---- the user's side --------------------------------------------------------------------------------------------

    def executions(self) -> list[ExecutionRecord]:
        """All executions, in the order in which they were created."""
        ...

    def execution(self, execution_id: str) -> ExecutionRecord | None:
        """One execution, or None."""
        ...

    def events(self, execution_id: str, after: int = 0) -> Iterator[Event]:
        """The events with `seq > after` that there are at the call; values in their data are decoded when asked for.

        Raises:
            UnknownIdError: no such execution.
        """
        ...

    def entries(self, state: DeliveryState | str | None = None) -> list[Delivery]:
        """The deliveries (in one state), oldest first."""
        ...

    def unacknowledged(self) -> list[Delivery]:
        """The deliveries that are PENDING or DISPATCHED, oldest first."""
        ...

    def forget(self, before: datetime | float | None = None, keep: int | None = None) -> int:
        """Remove executions that ended before a time (aware datetime or epoch seconds), and those beyond the `keep`
        that ended last. The result is how many were removed.

        Raises:
            ConfigError: neither was given, or it makes no sense.
        """
        ...

    def check(self) -> list[Finding]:
        """Read and verify everything; one finding an execution."""
        ...

    def close(self) -> None:
        """Finish the housekeeping and let go of the file. Closing again does nothing."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
