"""`Branching`: what tasks that steer do to the states of others: tasks that are added, and branches that aren't taken.

The middle of the scheduler (nerv/scheduler.py tells the whole), between the states of tasks and the life of the
execution. Routes, exactly: a branch that isn't taken is *dead*, SKIPPED with the task that routed as the cause. A task
of which some dependencies are dead waits for the others; one of which all are dead is dead itself. Dead tasks aren't
held against the execution.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from heapq import heapify
from typing import Any

from nerv import eventlog as log
from nerv.events import EventType
from nerv.families import Families, Seed
from nerv.graph import NUMBER_MASK
from nerv.sagas import Saga
from nerv.sparse import each
from nerv.states import (
    ALL_COMPLETED,
    ALL_FINISHED,
    ANY_COMPLETED,
    CANCELLED,
    CANCELLED_MOVES,
    COMPLETED,
    FAILED,
    PENDING,
    SKIPPED,
    SKIPPED_MOVES,
    TaskStates,
)
from nerv.suspensions import Suspended, Suspensions


class Branching(TaskStates):
    """States that grow, and branch. Arguments as of `Scheduler`."""

    def completed(self, number: int, now: float, data: dict[str, Any] | None = None) -> None:
        """A task's function returned, or something stands in for its result. `data` goes into the event's."""
        raise NotImplementedError

    def finish_if_done(self, now: float) -> None:
        """End if nothing is left, undone things first."""
        raise NotImplementedError

    # ---- growing (nerv/families.py) ---------------------------------------------------------------------------------

    def has_families(self) -> Families:
        """The families, from now on."""
        if self.families is None:
            self.is_plain = False
            self.families = Families(self)  # type: ignore[arg-type]  # a Scheduler: nobody makes anything else of it
        return self.families

    def extend(self, parent: int, seed: Seed) -> None:  # noqa: ARG002  the level scheduler asks whose they are
        """Make room for more tasks, at the end of all lists but those of who needs whom."""
        first, count = len(self.state), len(seed.ids)
        if self.ranks is self.graph.ranks:
            self.ranks = list(self.ranks)
        if isinstance(self.rules, bytes):
            self.rules = bytearray(self.rules)
        ranks = seed.ranks
        self.ranks.extend(  # type: ignore[attr-defined]  # a list since then
            range(ranks.start + first, ranks.stop + first) if isinstance(ranks, range) else [first + r for r in ranks]
        )
        self.rules.extend(seed.rules)  # type: ignore[attr-defined]  # a bytearray, then
        self.ids.extend(seed.ids)  # type: ignore[attr-defined]  # the log's own list
        self.queue_of.extend(seed.queues)  # type: ignore[attr-defined]  # likewise the admission's
        self.state.extend(bytes(count))
        self.attempts.extend([0] * count)
        self.unfinished += count
        if self.saga is not None:
            self.saga.grown([first + place for place, rule in enumerate(seed.rules) if rule == ALL_FINISHED])
            self._floor = self.saga.floor

    def own_dependents(self) -> list[Any]:
        """Who needs whom, in a list of its own: lists of added tasks, tuples of the workflow's."""
        if self._dependents is self.graph.dependents:
            self._dependents = list(self._dependents)
        return self._dependents

    def needs_of(self, number: int) -> Sequence[int]:
        """The numbers of the tasks that a task needs."""
        if number < len(self.graph):
            return self.graph.dependencies[number]
        return self.has_families().needs_of(number)

    def missing_of(self, number: int) -> int:
        """What must still happen before a task is ready, as the states are."""
        needs, rule = self.needs_of(number), self.rules[number]
        states = [self.state[need] for need in needs]
        if rule == ALL_COMPLETED:
            lacking = sum(state != COMPLETED for state in states)
            dead = sum(need in self.dead for need in needs)
            if dead:
                self.dead_needs[number] = dead
            return lacking if dead == len(needs) else lacking - dead
        if rule == ANY_COMPLETED and needs:
            self.undecided[number] = sum(state <= COMPLETED for state in states)
            return int(COMPLETED not in states)
        return sum(state < COMPLETED for state in states)

    def one_less(self, number: int) -> None:
        """One thing less for a pending task to wait for."""
        self.missing[number] -= 1
        if not self.missing[number]:
            self.release(number)

    @property
    def heaps(self) -> Iterator[list[int]]:
        """All heaps in which tasks stand that may start."""
        yield from self.ready
        if self.staging is not None:
            yield from self.staging.heaps

    def withdraw(self, doomed: list[int], now: float) -> None:
        """Cancel tasks that haven't started, ready or not."""
        gone = set(doomed)
        for ready in self.heaps:
            ready[:] = [rank for rank in ready if rank & NUMBER_MASK not in gone]
            heapify(ready)
        self.cancel_all(doomed, now)

    def cancel_all(self, doomed: list[int], now: float) -> None:
        """Cancel tasks that haven't started, and aren't ready any more."""
        if self.waits is not None:
            self.waits.drop(set(doomed))
        if self.suspensions is not None:
            self.suspensions.drop(set(doomed))
        self._cancel_all(doomed, now)

    # ---- waiting (nerv/suspensions.py) ------------------------------------------------------------------------------

    def has_suspensions(self, epoch: float) -> Suspensions:
        """The suspensions, from now on; `epoch`: epoch seconds at the moment 0.0."""
        if self.suspensions is None:
            self.is_plain = False
            self.suspensions = Suspensions(self, epoch)  # type: ignore[arg-type]  # a Scheduler
        return self.suspensions

    def suspended(self, number: int, now: float, one: Suspended, kept: bytes | None) -> None:
        """A task's function has returned, and the task waits for something; `kept` is what the journal has of that."""
        assert self.suspensions is not None
        if self.waits is not None:
            self.waits.left(number, now, ok=True)
        self.suspensions.suspend(number, now, one, kept)

    # ---- routes -----------------------------------------------------------------------------------------------------

    def branches(self, number: int) -> list[int]:
        """The dependents of a task that don't need another of its dependents: those would be joins."""
        dependents = [one for one in self._dependents[number] if self.state[one] == PENDING]
        others = set(dependents)
        return [
            one
            for one in dependents
            if self.rules[one] != ALL_FINISHED and not (len(others) > 1 and self._is_behind(one, others))
        ]

    def _is_behind(self, number: int, others: set[int]) -> bool:
        todo, seen = [*self.needs_of(number)], set[int]()
        while todo:
            one = todo.pop()
            if one in others:
                return True
            if one not in seen and self.state[one] == PENDING:
                seen.add(one)
                todo += self.needs_of(one)
        return False

    def routed(self, number: int, now: float, untaken: Collection[int]) -> None:
        """A task has completed, and these of its dependents aren't taken. One that runs after any of several, and is
        ready because of another, stays so.
        """
        dying = [one for one in untaken if self.state[one] == PENDING and self.missing[one] > 0]
        for one in dying:
            self.missing[one] += 1  # so that it isn't released
        self.completed(number, now)
        for one in dying:
            if self.state[one] == PENDING:
                self._die(one, number, now)
        self._spread(dying, now)
        self.finish_if_done(now)

    def skip(self, number: int, now: float) -> None:
        """A task that waits is passed over, like a branch that isn't taken."""
        self._die(number, number, now)
        self._spread([number], now)
        self.finish_if_done(now)

    def _die(self, number: int, because: int, now: float) -> None:
        self.dead.add(number)
        self.excused += 1
        culprit = self.blame[number] = self.blame.get(because, because)
        self._end(number, now, SKIPPED_MOVES, EventType.TASK_SKIPPED, {"cause": str(self.ids[culprit])})

    def remove(self, number: int, now: float) -> None:
        """A task that hasn't ended isn't in the workflow any more; nothing depends on it."""
        self.excused += 1
        data = {"cause": self.ids[number], "removed": True}
        self._end(number, now, SKIPPED_MOVES, EventType.TASK_SKIPPED, data)

    # ---- how an end spreads -----------------------------------------------------------------------------------------

    def _spread(self, ended: list[int], now: float) -> None:
        """Tell the dependents of tasks that ended without completing; what can't run any more ends, and so on."""
        for number in ended:
            for dependent in self._dependents[number]:
                if self.state[dependent]:
                    if self.families is not None:
                        self.families.child_ended(dependent, number)
                    continue
                rule = self.rules[dependent]
                if rule == ALL_FINISHED:
                    self.one_less(dependent)
                    continue
                because = number
                if rule == ANY_COMPLETED:
                    self.undecided[dependent] -= 1
                    if self.undecided[dependent]:
                        continue
                    because = self._worst(dependent, number)
                elif number in self.dead and self._lives_on(dependent):
                    self.one_less(dependent)
                    continue
                self._end_for(dependent, because, now)
                ended.append(dependent)

    def skip_followers(self, number: int, now: float) -> None:
        """A task has failed, so those that have added it will: what needs one of those is skipped for the failure."""
        family = None if self.families is None else self.families.of(number)
        while family is not None and family.seed.fails and not family.parted:
            followers = [
                one
                for one in self._dependents[family.parent]
                if self.state[one] == PENDING and self.rules[one] == ALL_COMPLETED
            ]
            for one in followers:
                self._give_up(one, number, now)
            self._spread(followers, now)
            family = self.families.of(family.parent)  # type: ignore[union-attr]  # there is one

    def spread_on(self, now: float, among: Iterable[int] | None = None) -> None:
        """Whoever can't run any more ends, among these tasks or all.

        Records may end in the midst of a spread, if a journal was torn; tasks are added that need what ended before.
        """
        for number in [number for number, _ in each(self.state)] if among is None else among:
            if self.state[number] == PENDING:
                culprit = self._culprit(number)
                if culprit is not None:
                    self._end_for(number, culprit, now)
                    self._spread([number], now)

    def _culprit(self, number: int) -> int | None:
        """What a pending task can't run for."""
        needs, rule = self.needs_of(number), self.rules[number]
        lost = [need for need in needs if self.state[need] > COMPLETED]
        failed = [need for need in lost if need not in self.dead]
        if rule == ALL_FINISHED or not lost or (len(lost) < len(needs) and (rule == ANY_COMPLETED or not failed)):
            return None
        return (failed or lost)[0]

    def _lives_on(self, number: int) -> bool:
        """Another dependency of the task is dead: whether it has one that isn't."""
        dead = self.dead_needs[number] = self.dead_needs.get(number, 0) + 1
        return dead < len(self.needs_of(number))

    def _worst(self, number: int, last: int) -> int:
        """Of the dependencies of a task, none of which has completed, one that isn't dead, if there is one."""
        if not self.dead:
            return last
        return next((need for need in self.needs_of(number) if need not in self.dead), last)

    def _end_for(self, number: int, because: int, now: float) -> None:
        if because in self.dead:
            self._die(number, because, now)
        else:
            self._give_up(number, because, now)

    def _give_up(self, number: int, because: int, now: float) -> None:
        """A task that can't run: SKIPPED for the failure behind it, or CANCELLED along with what it needs."""
        if self.state[because] == CANCELLED:
            self._end(number, now, CANCELLED_MOVES, EventType.TASK_CANCELLED, {"reason": self.reason})
            return
        culprit = self.blame[number] = self.blame.get(because, because)
        self._end(number, now, SKIPPED_MOVES, EventType.TASK_SKIPPED, {"cause": str(self.ids[culprit])})

    def _cancel_all(self, doomed: list[int], now: float) -> None:
        for number in doomed:
            self._end(number, now, CANCELLED_MOVES, EventType.TASK_CANCELLED, {"reason": self.reason})
        self._spread(list(doomed), now)

    def _end(self, number: int, now: float, table: dict[int, int], event: EventType, data: dict[str, Any]) -> None:
        self._move(number, table, event)
        self.counts[self.state[number]] += 1
        self.unfinished -= 1
        self.records.append((log.CODE_OF[event], number, now, self.attempts[number], data))
        if self.families is not None:
            self.families.note(number, event, data)

    def has_saga(self, saga: Saga) -> None:
        """From now on there may be something to undo."""
        self.saga = saga
        self.is_free = self.is_plain = False
        if self.families is not None:
            added = range(self.families.base, len(self.state))
            saga.grown([number for number in added if self.rules[number] == ALL_FINISHED], len(self.families.last))
        self._floor = saga.floor

    # ---- what counts ------------------------------------------------------------------------------------------------

    @property
    def is_failing(self) -> bool:
        """Whether the execution can't end COMPLETED any more."""
        ill = self.counts[FAILED] + self.counts[CANCELLED] + self.counts[SKIPPED]
        return self.fault is not None or ill > self.excused
