"""`FaultyJournal`: a journal that fails when you say, for tests of what is left then."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from nerv.errors import JournalError
from nerv.events import Event
from nerv.journal.base import Batch, ExecutionRecord, Finding, History, Stretch
from nerv.journal.deliveries import Delivery, DeliveryState
from nerv.journal.tables import TableJournal


class FaultyJournal:
    """Passes everything on to another journal, but fails at a certain write, and at those after it.

        faulty = FaultyJournal(MemoryJournal(), fail_at=3)
        with pytest.raises(WorkflowFailedError):
            run(workflow, journal=faulty)
        faulty.journal.release()  # whoever had it is dead
        run(workflow, journal=faulty.journal, execution_id=...)

    Args:
        journal: the `MemoryJournal` or `SqliteJournal` behind it.
        fail_at: which write fails, from 1; an intent of a delivery is a write too. None: none does.
        times: how many writes fail from there on; None: all.
        torn: whether the first half of the first write that fails is kept, as by storage that keeps a beginning of what
            it was given. Otherwise nothing of it is.
    """

    def __init__(
        self, journal: TableJournal, *, fail_at: int | None = None, times: int | None = None, torn: bool = False
    ) -> None:
        self.journal = journal
        self.writes = 0
        """How many there were, failed ones too."""
        self._fail_at = fail_at
        self._times = times
        self._torn = torn

    def write(self, batch: Batch, *, sync: bool = True) -> None:
        """Keep a batch, or fail."""
        if self._fails():
            if self._torn and self.writes == self._fail_at:
                self.journal.write(half(batch), sync=sync)
            raise self._error()
        self.journal.write(batch, sync=sync)

    def on_intent(self, **wire: Any) -> Any:
        """Keep a delivery, or fail."""
        if self._fails():
            raise self._error()
        return self.journal.on_intent(**wire)

    # ---- passed on --------------------------------------------------------------------------------------------------

    def tidy(self) -> bool:
        """Passed on."""
        return self.journal.tidy()

    def unfinished(self) -> list[ExecutionRecord]:
        """Passed on."""
        return self.journal.unfinished()

    def load(self, execution_id: str, *, epoch: float = 0.0) -> History:
        """Passed on."""
        return self.journal.load(execution_id, epoch=epoch)

    def order(self, execution_id: str, kind: str, data: Mapping[str, Any]) -> int:
        """Passed on."""
        return self.journal.order(execution_id, kind, data)

    def release(self, *execution_ids: str) -> None:
        """Passed on."""
        self.journal.release(*execution_ids)

    def facts(self, owner: str) -> dict[str, Any]:
        """Passed on."""
        return self.journal.facts(owner)

    def discard(self, execution_id: str) -> bool:
        """Passed on."""
        return self.journal.discard(execution_id)

    def executions(self) -> list[ExecutionRecord]:
        """Passed on."""
        return self.journal.executions()

    def execution(self, execution_id: str) -> ExecutionRecord | None:
        """Passed on."""
        return self.journal.execution(execution_id)

    def events(self, execution_id: str, after: int = 0) -> Iterator[Event]:
        """Passed on."""
        return self.journal.events(execution_id, after)

    def entries(self, state: DeliveryState | str | None = None) -> list[Delivery]:
        """Passed on."""
        return self.journal.entries(state)

    def unacknowledged(self) -> list[Delivery]:
        """Passed on."""
        return self.journal.unacknowledged()

    def forget(self, before: datetime | float | None = None, keep: int | None = None) -> int:
        """Passed on."""
        return self.journal.forget(before, keep)

    def check(self) -> list[Finding]:
        """Passed on."""
        return self.journal.check()

    def close(self) -> None:
        """Passed on."""
        self.journal.close()

    def on_dispatched(self, entry_id: int) -> None:
        """Passed on."""
        self.journal.on_dispatched(entry_id)

    def on_acknowledged(self, entry_id: int) -> None:
        """Passed on."""
        self.journal.on_acknowledged(entry_id)

    def on_failed(self, entry_id: int, error: BaseException) -> None:
        """Passed on."""
        self.journal.on_failed(entry_id, error)

    def on_lane_complete(self, lane_id: str) -> None:
        """Passed on."""
        self.journal.on_lane_complete(lane_id)

    def _fails(self) -> bool:
        self.writes += 1
        if self._fail_at is None or self.writes < self._fail_at:
            return False
        return self._times is None or self.writes < self._fail_at + self._times

    def _error(self) -> JournalError:
        return JournalError(f"write {self.writes} to the journal was chosen to fail")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.journal.close()


def half(batch: Batch) -> Batch:
    """The first half of what a batch brings: records in order, with what they need; no facts, orders or claims."""
    left = sum(len(stretch.records) for stretch in batch.stretches) // 2
    stretches = []
    for stretch in batch.stretches:
        records = stretch.records[:left]
        left -= len(records)
        numbers = {record[1] for record in records}
        values = {number: value for number, value in stretch.values.items() if number in numbers}
        if records:
            stretches.append(
                Stretch(stretch.execution_id, stretch.first_seq, records, stretch.epoch, stretch.ids, values)
            )
    begun = {stretch.execution_id for stretch in stretches}
    return Batch([header for header in batch.headers if header.id in begun], stretches)
