"""Replay: a scheduler brought to where an execution's records say it was, and what was lost on the way.

Pure, as the scheduler is. What ran when the process died has a TASK_STARTED and no end: it is *lost*, and runs again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import count
from typing import Any, Final, Protocol

from msgspec import Struct

from nerv import eventlog as log
from nerv.pages import Record
from nerv.scheduler import Scheduler
from nerv.sparse import Sparse, each
from nerv.states import (
    COMPLETED,
    FAILED,
    MOVES_BY_CODE,
    PENDING,
    RUNNING,
    SKIPPED,
    STATUSES,
    WAITING,
)
from nerv.statuses import WorkflowStatus


class Plan(Struct):
    """What there is to do when an execution goes on.

    Attributes:
        facts: what the WORKFLOW_RECOVERED event says.
        begun: tasks that had been claimed when the process died, and very likely had begun.
        dead: tasks that were lost so often that they fail now, and with what.
        gone: tasks that the workflow has no more; those that haven't ended are skipped.
        added: ids of the tasks that it has got since, at the end of all.
        failed: which of the dead have failed; the others were stopped by that.
    """

    facts: Mapping[str, Any]
    begun: Sequence[int] = ()
    dead: Mapping[int, BaseException] = {}
    gone: Sequence[int] = ()
    added: Sequence[str] = ()
    failed: list[int] = []


class Growing(Protocol):
    """Takes in what tasks that steer have done (nerv/regrowth.py)."""

    def grow(self, number: int, attempt: int, data: Mapping[str, Any]) -> Sequence[int]:
        """A task has added others; gives their numbers."""

    def waits(self, number: int, at: float, data: Mapping[str, Any]) -> None:
        """A task has returned what it waits for."""

    def signalled(self, data: Mapping[str, Any]) -> None:
        """A signal has come."""

    def is_at_it(self, number: int) -> bool:
        """Whether a RUNNING task isn't lost: it waits for what it has added."""

    def settle(self) -> None:
        """All has been taken in."""


class Replay:
    """An execution's records, taken in by a scheduler that hasn't started.

    Args:
        scheduler: of the execution's workflow.
        records: its records, from the first.
        numbers: task id -> number; what is added comes in.
        regrowth: takes in what tasks have added, and wait for.
        seqs: the records' seqs, if they aren't 1, 2, 3 ...
        folded: how many tasks, whose records aren't among these, ended in which status.

    Attributes:
        lost: the numbers of the tasks that were running at the end.
        losses: task number -> how often it was lost, or may have been, before the last run.
        due: task number -> until when it waits (epoch seconds; None: not for a time), of those that wait.
        undone: the numbers of the tasks that were compensated.
        again: the numbers of the completed tasks that run again, since their results weren't kept.
        recovered_at: the seq of the last WORKFLOW_RECOVERED, 0 if there is none.
        heard_at: task number -> the seq of the last that happened to it.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        records: Sequence[Record],
        numbers: dict[str, int],
        regrowth: Growing | None = None,
        *,
        seqs: Iterable[int] | None = None,
        folded: Sequence[int] = (),
    ) -> None:
        self.losses: Counter[int] = Counter()
        self.due: dict[int, float | None] = {}
        self.undone: set[int] = set()
        self._scheduler = scheduler
        self._numbers = numbers
        self.recovered_at = 0
        self.heard_at: dict[int, int] = {}
        self._regrowth = regrowth
        self._folded = folded or [0] * len(STATUSES)
        for seq, (code, number, at, attempt, data) in zip(seqs or count(1), records, strict=False):
            if number >= 0:
                self.heard_at[number] = seq
                self._take_in(code, number, at, attempt, data)
            else:
                self._turn(seq, code, data)
        self.lost = [
            number
            for number, state in each(scheduler.state)
            if state == RUNNING and (regrowth is None or not regrowth.is_at_it(number))
        ]
        self.again: list[int] = []
        self._count()

    def _take_in(self, code: int, number: int, at: float, attempt: int, data: Any) -> None:
        scheduler = self._scheduler
        if code == log.TASKS_ADDED and self._regrowth is not None:
            numbers = self._regrowth.grow(number, attempt, data)
            self._numbers.update((str(scheduler.ids[one]), one) for one in numbers)
        if code == log.TASK_WAITING and self._regrowth is not None and "outcome" in data:
            self._regrowth.waits(number, at, data)
        after = MOVES_BY_CODE.get(code)
        if after is not None:
            scheduler.state[number] = after
        if code == log.TASK_STARTED:
            scheduler.attempts[number] = attempt
        elif code == log.TASK_RETRYING:
            self.due[number] = data["due"]
        elif code == log.TASK_WAITING:
            self.due.pop(number, None)
            scheduler.lost[number] += data.get("reason") == INTERRUPTED
        elif after == SKIPPED:
            self._skip(number, data)
        elif code == log.TASK_COMPENSATED:
            self.undone.add(number)
        elif code == log.TASK_REPRIORITIZED:
            scheduler.set_priority(number, data["priority"])

    def _skip(self, number: int, data: Any) -> None:
        scheduler = self._scheduler
        if data.get("removed"):
            scheduler.excused += 1
        elif data.get("cause") in self._numbers:
            cause = scheduler.blame[number] = self._numbers[data["cause"]]
            if scheduler.state[cause] != FAILED:  # a route that wasn't taken
                scheduler.dead.add(number)
                scheduler.excused += 1

    def _turn(self, seq: int, code: int, data: Any) -> None:
        """What happened to the execution itself."""
        scheduler = self._scheduler
        if code == log.WORKFLOW_PAUSED:
            scheduler.status = WorkflowStatus.PAUSED
        elif code in (log.WORKFLOW_STARTED, log.WORKFLOW_RESUMED):
            scheduler.status = WorkflowStatus.RUNNING
        elif code == log.WORKFLOW_RECOVERED:
            self.recovered_at = seq
            if not data.get("left"):
                lost = [*data["lost"], *data["suspected"]]
                self.losses.update(self._numbers[one] for one in lost if one in self._numbers)  # else it has ended
        elif code == log.SIGNAL_RECEIVED and self._regrowth is not None:
            self._regrowth.signalled(data)
        elif code in _ENDS:
            scheduler.status = _ENDS[code]

    def _count(self) -> None:
        """What the scheduler keeps beside the states follows from them."""
        scheduler = self._scheduler
        scheduler.unfinished = sum(state < COMPLETED for _, state in each(scheduler.state))
        for state in range(COMPLETED, len(STATUSES)):
            scheduler.counts[state] = scheduler.state.count(state) + self._folded[state]
        scheduler.brought_back()
        for number, state in each(scheduler.state):
            if state < COMPLETED:
                scheduler.missing[number] = scheduler.missing_of(number)
                self._stand_back(number)

    def settle(self) -> None:
        """Work out what tasks that steer wait for: once, when nothing changes any more, without the engine's lock."""
        if self._regrowth is not None:
            self._regrowth.settle()

    def _stand_back(self, number: int) -> None:
        """A task that waits, and whose needs run again, is pending once more: their ends release it."""
        if self._scheduler.state[number] == WAITING and self._scheduler.missing[number]:
            self._scheduler.state[number] = PENDING

    def has_ended(self, number: int) -> bool:
        """Whether a task has ended. What was claimed of one that has is its compensation."""
        return self._scheduler.state[number] >= COMPLETED

    def run_again(
        self, unkept: Container[int], needs: Sequence[list[int]] | Sparse[list[int]], wanted: Iterable[int]
    ) -> None:
        """Completed tasks whose results weren't kept run again, if something still needs them.

        Args:
            unkept: the numbers of the tasks without a result.
            needs: by task number, the tasks whose results it is given.
            wanted: tasks whose results the execution's own is made of.
        """
        state = self._scheduler.state
        todo = [need for number, own in each(needs) if state[number] < COMPLETED for need in own]
        todo += wanted
        again: dict[int, None] = {}
        while todo:
            number = todo.pop()
            if state[number] == COMPLETED and number in unkept and number not in again:
                again[number] = None
                todo += needs[number]
        for number in again:
            state[number] = PENDING
            self.due.pop(number, None)
            if self._regrowth is not None:  # whoever waits for what it has added counts that, and nothing else
                at_it, dependents = self._regrowth.is_at_it, self._scheduler.own_dependents()
                dependents[number] = [one for one in dependents[number] if state[one] != RUNNING or not at_it(one)]
        self.again = sorted(again)
        self._count()

    # ---- going on ---------------------------------------------------------------------------------------------------

    def ready(self) -> list[int]:
        """The tasks that need nothing any more, and haven't begun."""
        scheduler = self._scheduler
        return [number for number, state in each(scheduler.state) if state == PENDING and not scheduler.missing[number]]

    def go_on(self, now: float, epoch: float, plan: Plan) -> None:
        """Have the scheduler go on from here: what was lost waits to run again, what is ready is ready.

        Args:
            now: the moment.
            epoch: epoch seconds at the moment 0.0.
            plan: what there is to do besides.
        """
        scheduler = self._scheduler
        if scheduler.waits is not None:
            scheduler.waits.scheduler = scheduler
        if scheduler.saga is not None:
            scheduler.saga.undone_before = self.undone
        self._number(plan.begun)
        scheduler.records.append((log.WORKFLOW_RECOVERED, -1, now, 0, dict(plan.facts)))
        if plan.added:
            scheduler.records.append((log.TASKS_ADDED, -1, now, 0, {"ids": list(plan.added), "changed": True}))
        self._call_back(now)
        ready = self.ready()  # what becomes ready from here on is released on the spot
        self._end_some(now, plan)
        for number in ready:
            if scheduler.state[number] == PENDING and not scheduler.gives_up(number):
                scheduler.release(number)
        for number, state in each(scheduler.state):
            if state == WAITING and (scheduler.suspensions is None or number not in scheduler.suspensions.waiting):
                self._wait_on(number, now, epoch)
        scheduler.finish_if_done(now)

    def _number(self, begun: Sequence[int]) -> None:
        """What had begun with nothing but its claim written was an attempt, and has its number; it is lost too."""
        scheduler, died_at = self._scheduler, self._scheduler.records[-1][2]
        for number in begun:
            scheduler.state[number] = RUNNING
            attempt = scheduler.attempts[number] = scheduler.attempts[number] + 1
            scheduler.records.append((log.TASK_STARTED, number, died_at, attempt, None))
        self.lost += begun

    def _call_back(self, now: float) -> None:
        """What was lost, and what runs again, waits."""
        scheduler = self._scheduler
        for number in self.lost:
            scheduler.lost[number] += 1
            self.due.pop(number, None)
            scheduler.waiting(number, now, {"reason": INTERRUPTED})
            self._stand_back(number)
        for number in self.again:
            scheduler.waiting(number, now, {"reason": "its result wasn't kept"})
            self._stand_back(number)

    def _end_some(self, now: float, plan: Plan) -> None:
        """What won't run any more ends."""
        scheduler = self._scheduler
        for number in plan.gone:
            if not scheduler.has_ended(number):
                scheduler.remove(number, now)
        scheduler.stopping |= scheduler.cancelling or scheduler.fault is not None
        scheduler.stopping |= scheduler.fail_fast and self._has_failed()
        for number, error in plan.dead.items():
            if not scheduler.has_ended(number):
                plan.failed.append(number)
                scheduler.failed(number, now, error)
        if scheduler.stopping:
            scheduler.stop(now)
        scheduler.spread_on(now)

    def _has_failed(self) -> bool:
        """Whether a task has failed whose failure no node has taken on."""
        scheduler, families = self._scheduler, self._scheduler.families
        failed = [number for number, state in each(scheduler.state) if state == FAILED]
        return any(families is None or not families.takes_on(number) for number in failed)

    def _wait_on(self, number: int, now: float, epoch: float) -> None:
        """A task that waited: for its next attempt, whose moment may have come; or for a limit, which starts afresh."""
        due, waits = self.due.get(number), self._scheduler.waits
        if due is None or waits is None or due - epoch <= now:
            self._scheduler.release(number)
        else:
            waits.until(number, now, due - epoch, "retry")


INTERRUPTED: Final = "interrupted"

_ENDS = {
    log.WORKFLOW_COMPLETED: WorkflowStatus.COMPLETED,
    log.WORKFLOW_FAILED: WorkflowStatus.FAILED,
    log.WORKFLOW_CANCELLED: WorkflowStatus.CANCELLED,
}
