"""`Shipment`: one batch on its way into the journal: what is in it, and how far it brings each execution."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from nerv.errors import SerializationError
from nerv.eventlog import TASK_COMPLETED
from nerv.journal.base import Batch, Stretch
from nerv.journal.codec import encode
from nerv.sparse import behind

if TYPE_CHECKING:
    from nerv.live import Live


class Shipment:
    """What is written together.

    Attributes:
        batch: it, as the journal takes it.
        reached: for each execution how many records and ids it has then in the journal, and the claims that go along.
    """

    def __init__(self) -> None:
        self.batch = Batch()
        self.reached: list[tuple[Live, int, int, list[int]]] = []
        self._unread: list[tuple[dict[int, Any], int, Any, str]] = []  # values that nobody has encoded yet

    def load(self, live: Live, claims: list[int]) -> None:
        """Take in what is new in an execution (lock held)."""
        kept = live.kept
        assert kept is not None
        log = live.log
        records, ids = log.page.after(kept.written), list[str]()
        if len(log.ids) > kept.ids_written:
            ids = list(map(str, behind(log.ids, kept.ids_written)))
        kept.gathered = kept.written + len(records)
        if records or claims or ids:
            values: dict[int, Any] = {}
            for record in records:
                if record[0] == TASK_COMPLETED and live.tasks[number := record[1]].durable:
                    if number in kept.encoded:
                        values[number] = kept.encoded.pop(number)
                    else:
                        self._unread.append((values, number, log.values[log.ids[number]], log.ids[number]))
            self.batch.stretches.append(Stretch(live.id, kept.written + 1, records, log.epoch, ids, values, claims))
        if kept.has_more:
            self.batch.facts += kept.facts
            self.batch.orders_done += kept.orders_done
            kept.facts, kept.orders_done = [], []
        self.reached.append((live, kept.gathered, kept.ids_written + len(ids), claims))

    def encode(self) -> None:
        """Encode what nobody has yet, without the lock: it may be the user's own code that does it."""
        for encoded, number, value, task_id in self._unread:
            with suppress(SerializationError):  # another execution made it: it is as if this task weren't durable
                encoded[number] = encode(value, task_id)
