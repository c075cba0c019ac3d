"""`Detours`: what can happen to a task between its start and its end: waits, other attempts, its fallback, its undoing.

The middle part of the scheduler (nerv/scheduler.py tells the whole).
"""

from __future__ import annotations

from heapq import heappush
from typing import Any

from nerv import eventlog as log
from nerv.branching import Branching
from nerv.events import EventType
from nerv.states import ALL_FINISHED, COMPENSATION, FALLBACK, LOOKUP, RETRYING_MOVES, WAITING, WAITING_MOVES


class Detours(Branching):
    """The ways of a task that don't lead straight from its start to its end. Arguments as of `Scheduler`."""

    def gives_up(self, number: int) -> bool:
        """Whether a task that fails now gets neither another attempt nor its fallback: all but cleanup stops, or all
        that its parent has added.
        """
        if self.rules[number] == ALL_FINISHED:
            return False
        return self.stopping or (self.families is not None and self.families.is_closed(number))

    def retrying(self, number: int, now: float, error: object, due: float) -> None:
        """A running task's function raised, and is called again at `due`."""
        assert self.waits is not None
        self.waits.left(number, now, ok=False)
        self._move(number, RETRYING_MOVES, EventType.TASK_RETRYING)
        when = self.waits.until(number, now, due, "retry")
        self.records.append((log.TASK_RETRYING, number, now, self.attempts[number], {"error": error, **when}))

    def woken(self, number: int) -> None:
        """The moment that a task has waited for is here."""
        if self.state[number] == WAITING or number in self.errands:
            self.release(number)

    def waiting(self, number: int, now: float, data: dict[str, Any]) -> None:
        """A ready task has to wait for something first. Nothing is said if it was WAITING already."""
        if self.state[number] != WAITING:
            self._move(number, WAITING_MOVES, EventType.TASK_WAITING)
            self.records.append((log.TASK_WAITING, number, now, self.attempts[number], data))

    def look_up(self, number: int) -> None:
        """A ready task that was taken looks for its result first; it is claimed meanwhile."""
        self.errands[number] = LOOKUP
        self.claimed.add(number)

    def fall_back(self, number: int, now: float, queue: int) -> None:
        """An attempt failed, the last one: the task is ready to be taken for its fallback, from `queue`."""
        if self.waits is not None:
            self.waits.left(number, now, ok=False)
        self.errands[number] = FALLBACK
        heappush(self.ready[queue], self.ranks[number])

    def failures(self, number: int) -> int:
        """How many of a task's attempts have failed, those that were lost with the process not counted."""
        return self.attempts[number] - self.lost[number]

    # ---- undoing (nerv/sagas.py) ------------------------------------------------------------------------------------

    def undo(self, number: int) -> None:
        """A completed task is ready to be taken for its compensation, once the journal has the one before."""
        self.errands[number] = COMPENSATION
        if self.waits is not None and self.waits.lookups is not None:
            self.waits.lookups.looked(number)
        heappush(self.entry[self.queue_of[number]], self.ranks[number])

    def undo_again(self, number: int, now: float, due: float) -> None:
        """A compensation failed, and is called again at `due`."""
        assert self.waits is not None
        self.waits.until(number, now, due, "compensation")

    def undone(self, number: int, now: float, error: object) -> None:
        """A compensation has ended; `error` None: well."""
        assert self.saga is not None
        del self.errands[number]
        self.records.append((log.TASK_COMPENSATED, number, now, self.saga.tries, {"error": error}))
        self.saga.undone(self)
        self.finish_if_done(now)
