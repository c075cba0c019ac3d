"""`Families`: tasks that others have added while the execution runs.

A part of the scheduler, as pure as it is; executions in which nobody adds anything don't have one. A family is what one
task, the parent, has added in one go: numbers from `first` on, at the end of all lists.

How a parent waits. It is the last dependent of each of its children, and `missing[parent]` counts them, though the
parent is RUNNING. So the hot path needs no new branch: where the last dependency of a task that isn't PENDING has
ended, `less` is asked. Where every end counts (a limit on how many run at a time, or somebody who waits for a number of
successes), `missing[parent]` is 1 and is set so again after each.

That a parent's children have all ended is news for the engine (`scheduler.news`), which has the results, and ends it or
has it go on.

What a node takes on. The failures in a family that `keeps` are its parent's business: they neither stop the execution
nor keep it from COMPLETED. That goes for all that such a child has added (its `shield`) as well.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from nerv.errors import FatalError
from nerv.eventlog import TASKS_ADDED
from nerv.events import EventType
from nerv.names import Brood, Ids
from nerv.sparse import Sparse
from nerv.states import (
    ALL_FINISHED,
    ANY_COMPLETED,
    CANCELLED,
    COMPLETED,
    FAILED,
    GATHERED,
    GROWN,
    PENDING,
    RUNNING,
    TOLD,
    WAITING,
)

if TYPE_CHECKING:
    from nerv.scheduler import Scheduler

NOBODY: Final = -1


class Seed:
    """What a family is made of. All lists are by place in the family.

    Attributes:
        ids: the tasks' ids.
        needs: for each the numbers of the tasks that it needs; those of the family count from -1 downwards (`~place`).
            None: nobody needs anything.
        ranks: their ranks, as if the first one's number were 0.
        rules, queues: as the scheduler's.
        names: what they are called among each other, for lookups; None: by index.
        limit: so many at a time.
        shared: the numbers of the tasks outside that all of them need, if nobody needs anything else.
        stops: whether the first failure cancels the others.
        fails: whether the parent fails when one of them does.
        keeps: whether failures are taken on.
        lanes: whether each is a lane of its own.
        counts: whether somebody waits for a number of them.
        plan: whatever the engine keeps with the family.
        kept: the outcome as the journal keeps it.
    """

    ids: Sequence[str]
    needs: Sequence[Sequence[int]] | None = None
    ranks: Sequence[int]
    rules: bytes
    queues: list[int]
    names: Sequence[str] | None = None
    shared: Sequence[int] = ()
    limit: int | None = None
    stops = False
    fails = True
    keeps = False
    lanes = False
    counts = False
    plan: Any
    kept: bytes | None = None


class Family:
    """Tasks that were added together.

    Attributes:
        parent: who has added them.
        first, count: their numbers.
        seed: what they were made of.
        left: how many haven't ended; right only where each end counts.
        successful: how many are COMPLETED; likewise.
        next: the first of them that the limit holds back.
        failed: the first one that didn't end well, or NOBODY.
        closed: whether what hasn't started won't.
        shield: the task, an ancestor, whose failures and those of all that it adds are taken on, or NOBODY.
        lane: the ancestor that is a lane of its own, or NOBODY.
        parted: whether the parent has completed already.
        watchers: who waits for the end of all, or for a number of successes.
    """

    __slots__ = (
        "closed", "count", "failed", "first", "keeps", "lane", "left", "next", "parent", "parted", "seed", "shield",
        "successful", "watchers",
    )  # fmt: skip

    def __init__(self, parent: int, first: int, seed: Seed) -> None:
        self.parent = parent
        self.first = first
        self.count = self.left = len(seed.ids)
        self.seed = seed
        self.successful = 0
        self.next = first + (self.count if seed.limit is None else seed.limit)
        self.failed = NOBODY
        self.closed = False
        self.keeps = seed.keeps
        self.shield = self.lane = NOBODY
        self.parted = False
        self.watchers: dict[int, int | None] = {}

    @property
    def numbers(self) -> range:
        """The tasks."""
        return range(self.first, self.first + self.count)

    @property
    def counts(self) -> bool:
        """Whether each end counts."""
        return self.seed.counts or self.seed.limit is not None


class Families:
    """All families of one execution.

    Attributes:
        base: the number of the first task that was added; those before are the workflow's own.
        open: parent -> its family that hasn't ended.
        last: parent -> the family that it has added last.
        broods: parent -> all that it has added.
    """

    def __init__(self, scheduler: Scheduler, of: list[Family] | Sparse[Family] | None = None) -> None:
        self.base = len(scheduler.state)
        self.open: dict[int, Family] = {}
        self.last: dict[int, Family] = {}
        self.broods: dict[int, Brood] = {}
        self._scheduler = scheduler
        self._of: list[Family] | Sparse[Family] = [] if of is None else of

    def of(self, number: int) -> Family | None:
        """The family of a task; None: it is one of the workflow's own."""
        return self._of[number - self.base] if number >= self.base else None

    def lane_of(self, number: int) -> int:
        """The task, itself or an ancestor, that is a lane of its own; NOBODY: the execution is its lane."""
        family = self.of(number)
        if family is None:
            return NOBODY
        return number if family.seed.lanes else family.lane

    def needs_of(self, number: int) -> Sequence[int]:
        """The numbers of the tasks that an added task needs."""
        family = self._of[number - self.base]
        if family.seed.needs is None:
            return family.seed.shared
        first = family.first
        return [first + ~need if need < 0 else need for need in family.seed.needs[number - first]]

    def forget(self, numbers: Collection[int]) -> None:
        """Nothing is known any more of tasks that were added, and of what they have added."""
        assert isinstance(self._of, Sparse)
        self._of.remove(number - self.base for number in numbers)
        for number in numbers:
            self.last.pop(number, None)
            self.broods.pop(number, None)

    # ---- growing --------------------------------------------------------------------------------------------------

    def grow(self, parent: int, seed: Seed, now: float, *, parted: bool) -> Family:
        """Add tasks. The parent completes after them, unless it has `parted` from them."""
        scheduler = self._scheduler
        family = self.enter(parent, seed, parted=parted)
        ids = Ids(seed.ids, 0, family.count)
        data: dict[str, Any] = {"ids": ids}
        if seed.kept is not None:
            data["outcome"] = seed.kept
        scheduler.records.append((TASKS_ADDED, parent, now, scheduler.attempts[parent], data))
        self._wire(family)
        if not family.count:
            self._over(family)
            return family
        self.open[parent] = family
        scheduler.missing[parent] = 1 if family.counts else family.count
        for number in range(family.first, min(family.next, family.first + family.count)):
            if not scheduler.missing[number]:
                scheduler.release(number)
        if seed.needs or seed.shared:  # some may have ended
            scheduler.spread_on(now, family.numbers)
        return family

    def regrow(self, parent: int, seed: Seed, *, parted: bool) -> Family:
        """Add tasks that a record tells of. What follows from their states is worked out when all are known."""
        family = self.enter(parent, seed, parted=parted)
        self._wire(family)
        return family

    def enter(self, parent: int, seed: Seed, *, parted: bool) -> Family:
        """Make room for tasks, and note whose they are."""
        scheduler = self._scheduler
        first = len(scheduler.state)
        family = Family(parent, first, seed)
        own = self.of(parent)
        if own is not None:
            family.shield = parent if own.keeps else own.shield
            family.lane = parent if own.seed.lanes else own.lane
        family.parted = parted
        scheduler.extend(parent, seed)
        self._of.extend([family] * family.count)
        self.last[parent] = family
        brood = self.broods.setdefault(parent, Brood())
        if seed.names is None:
            brood.indexed.extend(family.numbers)
        else:
            brood.named.update(zip(seed.names, family.numbers, strict=True))
        return family

    def _wire(self, family: Family) -> None:
        """Enter who needs whom."""
        scheduler, seed = self._scheduler, family.seed
        missing, dependents = scheduler.missing, scheduler.own_dependents()
        if scheduler.rules[family.parent] == ANY_COMPLETED:  # what it still needs mustn't count as a child
            for need in scheduler.needs_of(family.parent):
                dependents[need] = [other for other in dependents[need] if other != family.parent]
        if seed.needs is None and not seed.shared:
            dependents.extend([[family.parent]] * family.count)
            missing.extend([0] * family.count)
        else:
            self._wire_each(family, seed.needs or [seed.shared] * family.count)
        for number in range(family.next, family.first + family.count):
            missing[number] += 1

    def _wire_each(self, family: Family, all_needs: Sequence[Sequence[int]]) -> None:
        scheduler, first, dependents = self._scheduler, family.first, self._scheduler.own_dependents()
        dependents.extend([] for _ in range(family.count))
        for needed in {need for needs in all_needs for need in needs if need >= 0}:
            dependents[needed] = [*dependents[needed]]  # it may be the workflow's own tuple
        for number, needs in zip(family.numbers, all_needs, strict=True):
            for need in needs:
                needed = first + ~need if need < 0 else need
                dependents[needed].append(number)  # also of one that has ended: after a restart it may run again
            scheduler.missing.append(scheduler.missing_of(number))
        for number in family.numbers:
            dependents[number].append(family.parent)

    # ---- children that end ------------------------------------------------------------------------------------------

    def less(self, parent: int) -> None:
        """Told when `missing[parent]` has reached 0: a child has completed, and if ends don't count, all have ended."""
        family = self.open.get(parent)
        if family is None:
            return
        if family.counts:
            family.successful += 1
            self._one_less(family)
        else:
            self._over(family)

    def child_ended(self, parent: int, child: int) -> None:
        """Told when a child has ended without completing."""
        family = self.open.get(parent)
        if family is None or not family.first <= child < family.first + family.count:
            return
        scheduler = self._scheduler
        if child not in scheduler.dead:
            worst = family.failed
            if worst < 0 or (scheduler.state[worst] != FAILED and scheduler.state[child] == FAILED):
                family.failed = child
        if family.counts:
            self._one_less(family)
            return
        scheduler.missing[parent] -= 1
        if not scheduler.missing[parent]:
            self._over(family)

    def _one_less(self, family: Family) -> None:
        scheduler = self._scheduler
        scheduler.missing[family.parent] = 1
        family.left -= 1
        if family.next < family.first + family.count and not family.closed:
            number = family.next
            family.next += 1
            if scheduler.state[number] == PENDING:
                scheduler.one_less(number)
        if not family.left:
            self._over(family)
        elif family.watchers:
            self._look(family)

    def _over(self, family: Family) -> None:
        self.open.pop(family.parent, None)
        family.left = 0
        self._look(family)
        if not family.parted:
            self._scheduler.news.append((GROWN, family.parent))

    def watch(self, parent: int, who: int, quorum: int | None) -> None:
        """A task waits until a family has ended, or has so many successes."""
        family = self.last[parent]
        family.watchers[who] = quorum
        self._look(family)

    def _look(self, family: Family) -> None:
        for who, quorum in list(family.watchers.items()):
            if not family.left or (quorum is not None and family.successful >= quorum):
                del family.watchers[who]
                self._scheduler.news.append((GATHERED, who))

    # ---- failures and cancels ---------------------------------------------------------------------------------------

    def takes_on(self, number: int) -> bool:
        """Whether an end of this task that isn't COMPLETED is an ancestor's business."""
        if number < self.base:
            return False
        family = self._of[number - self.base]
        return family.keeps or family.shield >= 0

    def is_closed(self, number: int) -> bool:
        """Whether the task may not start (again)."""
        return number >= self.base and self._of[number - self.base].closed

    def contain(self, number: int, now: float) -> None:
        """A failure that is taken on, under fail_fast: nothing more starts below the child that takes it along."""
        family = self._of[number - self.base]
        if not family.keeps:
            self.cancel(family.shield, now)
        elif family.seed.fails:
            self.cancel(family.parent, now)

    def failed(self, number: int, now: float) -> None:
        """A task has failed: in a family that stops then, the others are cancelled."""
        family = self.of(number)
        if family is not None and family.seed.stops:
            self.cancel(family.parent, now)

    def cancel(self, parent: int, now: float, *, taken_on: bool = False) -> None:
        """Cancel what hasn't started of all that a task has added, and what that has; the engine tells the rest."""
        scheduler = self._scheduler
        family = self.open.get(parent)
        todo = [] if family is None or family.closed else [family]
        doomed: list[int] = []
        while todo:
            family = todo.pop()
            family.closed = True
            family.keeps = family.keeps or taken_on
            for number in family.numbers:
                state = scheduler.state[number]
                below = self.open.get(number)
                if below is not None:
                    todo.append(below)
                elif state == RUNNING:
                    scheduler.news.append((TOLD, number))
                elif (
                    state in (PENDING, WAITING)
                    and scheduler.rules[number] != ALL_FINISHED
                    and number not in scheduler.claimed
                    and number not in scheduler.errands
                ):
                    doomed.append(number)
        if doomed:
            scheduler.withdraw(doomed, now)

    def note(self, number: int, event: EventType, data: Mapping[str, Any]) -> None:
        """Told of every end that isn't COMPLETED: count it if it is taken on."""
        scheduler = self._scheduler
        if not self.takes_on(number) or number in scheduler.dead or isinstance(data.get("error"), FatalError):
            return
        if not (scheduler.stopping and event is EventType.TASK_CANCELLED):
            scheduler.excused += 1

    def outcome_of(self, parent: int) -> int:
        """How the parent's family has ended, as a state: COMPLETED, FAILED or CANCELLED."""
        family = self.last[parent]
        if family.failed < 0 or not family.seed.fails:
            return COMPLETED
        return CANCELLED if self._scheduler.state[family.failed] == CANCELLED else FAILED
