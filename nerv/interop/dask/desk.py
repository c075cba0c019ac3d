"""`Desk`: the pool of somebody who takes calls from the engine by themselves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nerv.calls import Call
from nerv.pools.base import Source
from nerv.tasks import TaskDef


class Desk:
    """At most `limit` calls at once, all given to one thread, which asks the engine whenever a call has ended. Nothing
    becomes ready but by that, so nobody needs to be called.
    """

    name = kind = "dask"
    counts_running = True
    attended = True
    tells_start = False
    left_behind = 0
    may_block = True

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.running = 0

    def bind(self, source: Source) -> None:
        """That thread knows the engine."""

    def objection(self, task: TaskDef) -> str | None:  # noqa: ARG002  there are no TaskDefs here
        """Every node can run."""
        return None

    def call_up(self, ready: int) -> None:
        """That thread looks by itself."""

    def expect_long(self) -> None:
        """That thread takes one after the other anyway."""

    def arrived(self, worker: Any) -> None:
        """Nothing to note."""

    def rested(self, worker: Any) -> None:
        """Nothing to note."""

    def tell_cancelled(self, calls: Iterable[Call]) -> None:
        """Dask's tasks know no cancelling."""

    def abandon(self, calls: Iterable[Call]) -> None:
        """They end by themselves; nobody listens."""

    def close(self, patience: float) -> None:
        """There is nothing to close."""
