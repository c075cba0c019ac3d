"""The seam between engine and pools: `Source` is what a pool sees of the engine, `Pool` what the engine sees of a pool."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeAlias

from nerv.calls import Call
from nerv.tasks import TaskDef

Effect: TypeAlias = Callable[[], Any]
"""Something to do after the engine's lock has been released: wake a thread, start a worker."""


class Source(Protocol):
    """Where a pool gets its calls."""

    def advance(self, pool: Pool, finished: Call | None = None, worker: Any = None) -> Call | None:
        """Take over how `finished` ended (its `value` or `error` is set), and give the best ready call, or None.

        One critical section under the engine's lock. If there is nothing for the pool (or it is full or closing), the
        pool's `rested(worker)` is called within it, so that no `call_up` can fall between asking and resting.
        """

    def call_later(self, effect: Effect) -> None:
        """Have `effect` run by the present thread as soon as the engine's lock has been released (lock held)."""


class Pool(Protocol):
    """What runs calls.

    `running` and `limit` belong to the engine and are touched only under its lock: calls that were taken and haven't
    been handed back, and how many of those there may be.
    """

    name: str
    kind: str
    running: int
    limit: int

    def bind(self, source: Source) -> None:
        """Told once, before anything else, where to get calls."""

    def objection(self, task: TaskDef) -> str | None:
        """Why `task` can't run here (asked before anything runs), or None. The text continues "task 'x' ..."."""

    def call_up(self, ready: int) -> None:
        """Told under the engine's lock that `ready` > 0 calls wait and `running` < `limit`: see that somebody asks for
        them. Must only note things and `call_later` what takes time."""

    def rested(self, worker: Any) -> None:
        """Told under the engine's lock that `advance` had nothing for this `worker`."""

    def tell_cancelled(self, calls: Iterable[Call]) -> None:
        """Told without the lock that these running calls should stop: `call.is_cancelled()` is true from now on."""

    def abandon(self, calls: Iterable[Call]) -> None:
        """Told without the lock that these calls were given up: kill or leave behind whatever runs them, and replace it
        one for one. The engine has already counted them out (`running`) and ignores what they still bring."""

    def close(self, patience: float) -> None:
        """Stop all workers; nothing is running any more but what was abandoned. Waits at most `patience` seconds."""
