"""The seam between engine and pools: a pool sees of the engine a `Source`, the engine of a pool a `Pool`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeAlias

from nerv.calls import Call
from nerv.tasks import TaskDef

Effect: TypeAlias = Callable[[], Any]
"""Something to do after the engine's lock has been released: wake a thread, start a worker."""


class Source(Protocol):
    """Where a pool gets its calls. `lock` guards everything that engine and pools share."""

    lock: threading.Lock

    def waiting(self, pool: Pool) -> bool:
        """Whether calls are ready for the pool (may be asked without the lock; then it is only a hint)."""

    def lend(self, pool: Pool, call: Call) -> None:
        """A running call of the pool waits for something: its slot is free meanwhile."""

    def reclaim(self, pool: Pool, call: Call, back: Effect) -> bool:
        """The call that lent its slot goes on: True, at once; else `back` is called when it has a slot again, which is
        before anything new is given out.
        """

    def recall(self, pool: Pool, call: Call) -> None:
        """The call is about to end, though something that it left behind still waits: its slot isn't lent any more."""

    def advance(self, pool: Pool, finished: Call | None = None, worker: Any = None) -> Call | None:
        """Take over how `finished` ended (its `value` or `error` is set), and give the best ready call, or None.

        One critical section under the engine's lock. If there is nothing for the pool (or it is full or closing), the
        pool's `rested(worker)` is called within it, so that no `call_up` can fall between asking and resting.
        A `worker` that asks without having finished anything has `arrived`.
        """

    def advance_many(self, pool: Pool, finished: list[Call], worker: Any, most: int) -> list[Call]:
        """`advance` for several calls at once, at most `most`; how many run at once is the pool's own affair then.

        The first one counts as started. The others are only claimed: the engine records their start when the pool says
        `begin`, or when they come back finished. Those that come back through `give_back` are ready again.
        """

    def begin(self, call: Call) -> None:
        """The function of a claimed call is being called now."""

    def begun(self, call: Call) -> None:
        """The function of a call is being called now, by a pool that `tells_start`: its timeout counts from here."""

    def give_back(self, calls: list[Call]) -> None:
        """These calls of `advance_many` were never begun."""

    def call_later(self, effect: Effect) -> None:
        """Have `effect` run by the present thread as soon as the engine's lock has been released (lock held)."""


class Pool(Protocol):
    """What runs calls.

    `running` and `limit` belong to the engine and are touched only under its lock: calls that were taken and haven't
    been handed back, and how many of those there may be.
    """

    name: str
    kind: str
    counts_running: bool  # whether the engine counts `running` (`advance`), or the pool does by itself (`advance_many`)
    running: int
    limit: int
    tells_start: bool  # whether it says `begun` when a function is called; else that is when its call was taken
    may_block: bool  # whether who calls `advance` may be kept waiting for the disk
    left_behind: int  # threads that hang in calls that were given up
    attended: bool  # whether somebody in the pool looks after ready calls already, so that `call_up` can be spared

    def bind(self, source: Source) -> None:
        """Told once, before anything else, where to get calls."""

    def objection(self, task: TaskDef) -> str | None:
        """Why `task` can't run here (asked before anything runs), or None. The text continues "task 'x' ..."."""

    def call_up(self, ready: int) -> None:
        """Told under the engine's lock that `ready` > 0 calls wait and `running` < `limit`: see that somebody asks for
        them. Must only note things and `call_later` what takes time.
        """

    def arrived(self, worker: Any) -> None:
        """Told under the engine's lock that this `worker` asks for its first call since it rested."""

    def rested(self, worker: Any) -> None:
        """Told under the engine's lock that `advance` had nothing for this `worker`."""

    def tell_cancelled(self, calls: Iterable[Call]) -> None:
        """Told without the lock that these running calls should stop: `call.is_cancelled()` is true from now on."""

    def abandon(self, calls: Iterable[Call]) -> None:
        """Told without the lock that these calls were given up: kill or leave behind whatever runs them, and replace it
        one for one. The engine has already counted them out (`running`) and ignores what they still bring.
        """

    def close(self, patience: float) -> None:
        """Stop all workers; nothing is running any more but what was abandoned. Waits at most `patience` seconds."""
