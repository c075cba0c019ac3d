"""`Waits`: what the tasks of one execution wait for, other than each other: limits, and the time of their next attempt.

A part of the scheduler, as pure as it is; executions whose tasks have no policies don't have one. A task is *parked*
while it stands in a `Line`, and has *passes* while an attempt holds what it got there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from nerv.graph import NUMBER_MASK
from nerv.lines import BreakerLine, Line, Lines, Standing, Terms
from nerv.lookups import Lookups
from nerv.states import RUNNING
from nerv.statuses import WorkflowStatus

if TYPE_CHECKING:
    from nerv.scheduler import Scheduler


class Reason(NamedTuple):
    """Why a task is WAITING: for what, since when and until when (monotonic seconds; None: nobody knows)."""

    what: str
    since: float
    due: float | None


class Waits:
    """Who waits for what.

    Args:
        terms: by task number, of the tasks that have policies.
        lines: the engine's.
        pools: what stands for the pool of each queue, the same for all executions.
        epoch: epoch seconds at the moment 0.0, for the events' data.
        owner: whose it is; `Lines` gives it back to the engine.
        lookups: the tasks that look for their result first; None: there are none.
    """

    def __init__(
        self,
        terms: Mapping[int, Terms],
        lines: Lines,
        pools: Sequence[Any],
        epoch: float,
        owner: Any,
        *,
        lookups: Lookups | None = None,
    ) -> None:
        self.terms = terms
        self.lines = lines
        self.owner = owner
        self.lookups = lookups
        self.parked: dict[int, Line] = {}
        self.reasons: dict[int, Reason] = {}
        self.scheduler: Scheduler
        self._pools = pools
        self._epoch = epoch
        self._passes: dict[int, list[tuple[Line, Any]]] = {}
        self._due: list[tuple[float, int]] = []
        self._turns: dict[int, int] = {}
        self._used = list(dict.fromkeys(line for own in terms.values() for line, _ in own.lines))

    def use(self, lines: Iterable[Line]) -> None:
        """Tasks were added that have to pass these."""
        self._used = list(dict.fromkeys([*self._used, *lines]))

    @property
    def is_paused(self) -> bool:
        """Whether its tasks can't be taken now."""
        return self.scheduler.status is WorkflowStatus.PAUSED

    @property
    def is_held(self) -> bool:
        """Whether what a line offers them can't be taken now: it is paused, or something is being undone first."""
        saga = self.scheduler.saga
        return self.is_paused or (saga is not None and bool(saga.left))

    # ---- limits -----------------------------------------------------------------------------------------------------

    def admit(self, number: int, queue: int, now: float) -> int:
        """Which task may start: this one, or else the next of the queue that may; -1: none. The others join a line.

        One that has to look for its result first has an errand then.
        """
        scheduler = self.scheduler
        ready = scheduler.ready[queue]
        while True:
            terms = self.terms.get(number)
            if terms is None or number in scheduler.errands:
                return number
            if self.lookups is not None and self.lookups.comes_first(number):
                scheduler.look_up(number)
                return number
            if not terms.lines or self._enter(number, terms, now):
                return number
            if not ready:
                return -1
            number = heappop(ready) & NUMBER_MASK

    def _enter(self, number: int, terms: Terms, now: float) -> bool:
        waited_for = self.lines.waited_for
        for line, amount in terms.lines:
            if line.opens_at(now, amount) > now or (line in waited_for and self._is_behind(number, line)):
                self._refuse(number, terms, line, amount, now)
                return False
        self._turns.pop(number, None)
        self._passes[number] = [(line, line.enter(now, amount)) for line, amount in terms.lines]
        if waited_for:
            for line, _ in terms.lines:
                if line in waited_for:
                    line.look(now)
        return True

    def _is_behind(self, number: int, line: Line) -> bool:
        scheduler = self.scheduler
        return line.goes_first(self._pools[scheduler.queue_of[number]], self.standing(number))

    def standing(self, number: int) -> Standing:
        """Where a task stands in any line. Among equals who came first goes first, also after an offer that came to
        nothing; who hasn't joined a line is the last.
        """
        return self.scheduler.ranks[number], self._turns.get(number, inf)

    def _refuse(self, number: int, terms: Terms, line: Line, amount: float, now: float) -> None:
        if isinstance(line, BreakerLine) and terms.attempts == 1:
            self._turns.pop(number, None)
            self.lines.refuse(self, number, line)
        else:
            self._park(number, line, amount, now)
        others = [other for other, _ in terms.lines if other is not line and other in self.lines.waited_for]
        if others:  # what one of them may have offered to this task is for the next in line
            self.lines.stir(*others)

    def _park(self, number: int, line: Line, amount: float, now: float) -> None:
        scheduler, since, due = self.scheduler, now, line.opens_at(now, amount)
        known = self.reasons.get(number)
        if known is not None and known.what == line.title:  # an offer came to nothing
            since = known.since
        reason = self.reasons[number] = Reason(line.title, since, due if now < due < inf else None)
        self.parked[number] = line
        self._turns.setdefault(number, next(self.lines.turns))
        scheduler.waiting(number, now, {"reason": reason.what, **self._when(reason.due)})
        line.wait(self._pools[scheduler.queue_of[number]], self, number, amount, now)

    def reranked(self, number: int, rank: int) -> None:
        """A task's rank has changed: so does its place in line."""
        line = self.parked.get(number)
        if line is not None:
            line.move(self, number, rank)

    def unpark(self, number: int) -> None:
        """A line has room for the task: it is ready again."""
        del self.parked[number]
        self.scheduler.release(number)

    def left(self, number: int, now: float, *, ok: bool | None) -> None:
        """An attempt has ended, well or not (None: that says nothing): what it held is free."""
        for line, token in self._passes.pop(number, ()):
            line.leave(token, now, ok=ok)
        if self.lookups is not None:
            self.lookups.left(number)
            self._look_after()

    def _look_after(self) -> None:
        if self.lookups is not None and self.lookups.adrift:
            self.lines.land(self.lookups)

    # ---- pauses -----------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """None of these tasks starts for a while: nobody shall wait for them."""
        self.stir()
        if self.lookups is not None:
            self.lookups.pause(self.scheduler.state, RUNNING)
            self._look_after()

    def stir(self) -> None:
        """What was offered to these tasks may not be taken: let others try."""
        lines = [line for line in self._used if line in self.lines.waited_for]
        if lines:
            self.lines.stir(*lines)

    # ---- time -------------------------------------------------------------------------------------------------------

    @property
    def next_due(self) -> float:
        """The moment at which `wake` has something to do; `inf`: none."""
        return self._due[0][0] if self._due else inf

    def until(self, number: int, now: float, due: float, what: str) -> dict[str, Any]:
        """A task waits for a moment; gives what its event says of that."""
        self.reasons[number] = Reason(what, now, due)
        heappush(self._due, (due, number))
        return self._when(due)

    def _when(self, due: float | None) -> dict[str, Any]:
        return {} if due is None else {"due": self._epoch + due}

    def wake(self, now: float) -> None:
        """Tasks whose moment has come are ready."""
        while self._due and self._due[0][0] <= now:
            _, number = heappop(self._due)
            if self.lookups is not None and number not in self.scheduler.errands:
                self.lookups.again(number)
            self.scheduler.woken(number)

    # ---- ends -------------------------------------------------------------------------------------------------------

    def drop(self, doomed: set[int]) -> None:
        """These tasks won't start any more."""
        for number in doomed:
            self.parked.pop(number, None)
            self._turns.pop(number, None)
            if self.lookups is not None:
                self.lookups.left(number)
        self._look_after()
        self._due = [entry for entry in self._due if entry[1] not in doomed]
        heapify(self._due)
        self.stir()

    def forget(self, numbers: Collection[int]) -> None:
        """Nobody asks any more for these tasks, which have ended."""
        for number in numbers:
            self.reasons.pop(number, None)
        if self.lookups is not None:
            self.lookups.forget(numbers)
        self._due = [entry for entry in self._due if entry[1] not in numbers]
        heapify(self._due)

    def close(self) -> None:
        """The execution has ended: nobody waits any more."""
        self.parked.clear()
        self._turns.clear()
        self._due.clear()
        if self.lookups is not None:
            self.lookups.close()
            self._look_after()
        for line in self._used:
            line.forget(self)
        self.stir()
