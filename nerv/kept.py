"""`Kept`: how far the journal has come with one execution, and what waits to go there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nerv.journal.base import Fact


class Kept:
    """What the recorder holds for one execution; guarded by the engine's lock.

    Attributes:
        written: how many records are in the journal; `ids_written` how many ids; `gathered` how many are on their way.
        encoded: task number -> its result as it will be written.
        suspects: the tasks that were running, or may have been, each time that the process died (nerv/claims.py).
        has_ended: whether those who wait for the execution's end wait only for the journal by now.
        careful: the tasks during which the execution is staged although its durability doesn't ask for it.
        holds: how many records must be written before it isn't any more.
        on_written: told how many records are written, under the lock; `inf`: as many as ever will be.
    """

    def __init__(self, written: int = 0, ids_written: int = 0) -> None:
        self.written = self.gathered = written
        self.ids_written = ids_written
        self.encoded: dict[int, Any] = {}
        self.suspects: set[int] = set()
        self.facts: list[Fact] = []
        self.orders_done: list[int] = []
        self.has_ended = False
        self.careful: list[int] | None = None
        self.holds = 0
        self.on_written: Callable[[float], None] = lambda _: None

    @property
    def has_more(self) -> bool:
        """Whether there is something to write that isn't a record."""
        return bool(self.facts or self.orders_done)
