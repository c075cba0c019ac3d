"""`TableJournal`: the journal over a `Database`; in memory and in a file it is the same one."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from nerv.errors import JournalError
from nerv.events import Event
from nerv.journal.base import Batch, ExecutionRecord, Finding, History
from nerv.journal.codec import ENCODER, encode_all
from nerv.journal.database import Database
from nerv.journal.deliveries import Delivery, DeliveryState
from nerv.journal.ledger import Ledger
from nerv.journal.mail import Mail
from nerv.journal.reading import Reading
from nerv.journal.schema import checksum
from nerv.journal.upkeep import Upkeep

_log = logging.getLogger(__name__)


class TableJournal:
    """A `Journal` and a `DispatchHook`; the protocols say what each method does.

    Args:
        database: where its tables are.
        run: this opening's number.
        running: gives the number of the opening that may write now, None if there is none.
    """

    def __init__(self, database: Database, run: int, running: Callable[[], int | None]) -> None:
        self._database = database
        self._lock = threading.RLock()  # held for a commit, and for what must not change between looking and committing
        self._reading = Reading(database, running)
        self._ledger = Ledger(database, run)
        self._mail = Mail(database, self._lock)
        self._upkeep = Upkeep(database, self._ledger, self._reading, self._lock)
        self._orders: int | None = None
        self._is_open = True

    # ---- the engine's side ------------------------------------------------------------------------------------------

    def write(self, batch: Batch, *, sync: bool = True) -> None:
        """Keep a batch, all of it or nothing."""
        with self._lock:
            try:
                statements, changed = self._ledger.statements(batch)
            except UnicodeEncodeError as error:
                raise JournalError(f"{self._database.name} can't keep a name that isn't Unicode: {error}") from error
            noted = self._mail.statements()
            if not statements and not noted:
                return
            self._database.commit([*statements, *noted], sync=sync)
            self._ledger.remember(changed)
            if noted:
                self._mail.written(noted)

    def tidy(self) -> bool:
        """Do a bounded piece of housekeeping; whether there is more to do."""
        return self._upkeep.tidy()

    def unfinished(self) -> list[ExecutionRecord]:
        """The executions that haven't ended, oldest first."""
        return self._reading.records(self._reading.entries("ended IS NULL"))

    def load(self, execution_id: str, *, epoch: float = 0.0) -> History:
        """Everything about one execution."""
        return self._reading.history(execution_id, epoch)

    def order(self, execution_id: str, kind: str, data: Mapping[str, Any]) -> int:
        """Keep an order for an execution."""
        self._reading.known(execution_id)
        body = ENCODER.encode((kind, encode_all(data, f"order {kind!r}:"), time.time()))
        with self._lock:
            if self._orders is None:
                self._orders = self._database.rows("SELECT coalesce(max(id), 0) FROM orders")[0][0]
            assert self._orders is not None
            number = self._orders + 1
            row = (number, execution_id, body, checksum(number, execution_id, body))
            sql = "INSERT INTO orders (id, execution, body, checksum) VALUES (?, ?, ?, ?)"
            self._database.commit([(sql, [row])])
            self._orders = number
        return number

    def release(self, *execution_ids: str) -> None:
        """Nobody runs these any more."""
        with self._lock:
            statements, changed = self._ledger.releasing(execution_ids)
            if statements:
                self._database.commit(statements, sync=None)
            for known in changed:
                del self._ledger.going[known]

    def facts(self, owner: str) -> dict[str, Any]:
        """The facts of an owner by name."""
        return self._reading.facts(owner)

    def discard(self, execution_id: str) -> bool:
        """Remove one execution, whatever its state."""
        return self._upkeep.discard(execution_id)

    # ---- the user's side --------------------------------------------------------------------------------------------

    def executions(self) -> list[ExecutionRecord]:
        """All executions, in the order in which they were created."""
        return self._reading.records(self._reading.entries())

    def execution(self, execution_id: str) -> ExecutionRecord | None:
        """One execution, or None."""
        entry = self._reading.entry(execution_id)
        return None if entry is None else self._reading.records([entry])[0]

    def events(self, execution_id: str, after: int = 0) -> Iterator[Event]:
        """The events with `seq > after` that there are."""
        return self._reading.events(execution_id, after)

    def entries(self, state: DeliveryState | str | None = None) -> list[Delivery]:
        """The deliveries (in one state), oldest first."""
        wanted = None if state is None else DeliveryState(state)
        self._mail.flush()
        return [one for one in self._mail.entries() if wanted is None or one.state is wanted]

    def unacknowledged(self) -> list[Delivery]:
        """The deliveries that are PENDING or DISPATCHED, oldest first."""
        open_states = {DeliveryState.PENDING, DeliveryState.DISPATCHED}
        return [one for one in self.entries() if one.state in open_states]

    def forget(self, before: datetime | float | None = None, keep: int | None = None) -> int:
        """Remove finished executions that are old, or too many."""
        self._mail.flush()
        return self._upkeep.forget(before, keep)

    def check(self) -> list[Finding]:
        """Read and verify everything."""
        rest = []
        for look in (self._mail.entries, self._reading.all_small):
            try:
                look()
            except JournalError as error:
                rest.append(str(error))
        return self._upkeep.check(rest)

    # ---- deliveries -------------------------------------------------------------------------------------------------

    def on_intent(self, *, lane_id: str, from_id: str, to_id: str, payload_type: str, payload: Any) -> int:
        """Keep a delivery, PENDING; on disk when this returns."""
        return self._mail.intend(lane_id, (from_id, to_id), payload_type, payload)

    def on_dispatched(self, entry_id: int) -> None:
        """It is DISPATCHED; kept with the next commit, like what follows."""
        self._mail.progress(entry_id, DeliveryState.DISPATCHED)

    def on_acknowledged(self, entry_id: int) -> None:
        """It is ACKED."""
        self._mail.progress(entry_id, DeliveryState.ACKED)

    def on_failed(self, entry_id: int, error: BaseException) -> None:
        """It is FAILED."""
        self._mail.progress(entry_id, DeliveryState.FAILED, error)

    def on_lane_complete(self, lane_id: str) -> None:
        """The lane's deliveries may be forgotten as its execution is."""
        self._mail.end_lane(lane_id)

    # ---- closing ----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Finish the housekeeping and let go. Closing again does nothing."""
        with self._lock:
            if not self._is_open:
                return
            self._is_open = False
            try:
                self._finish()
            finally:
                self._database.close()

    def _finish(self) -> None:
        self._mail.flush()
        try:
            self.tidy()  # a piece of it; the rest waits for the next opening
        except JournalError:
            _log.warning("the housekeeping of %s is left to the next opening", self._database.name, exc_info=True)

    @staticmethod
    def new_run() -> int:
        """A number for an opening that no other has."""
        return int.from_bytes(os.urandom(8), "big") >> 2

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
