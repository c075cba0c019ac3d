"""`Regrowth`: what tasks have added to an execution, and wait for, made anew from its records.

A part of the replay that needs the engine's things: pools, policies, the outcomes that were kept. What the scheduler
holds of families and suspensions follows from the states of the tasks, once all records have been taken in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nerv.added import added
from nerv.bygone import Bygone
from nerv.calls import Call
from nerv.errors import JournalError
from nerv.families import Family, Seed
from nerv.feeding import FedScheduler
from nerv.journal.lazy import LazyValues
from nerv.names import Brood, Scope, refile
from nerv.outcomes import Gather, Hold
from nerv.outgrowth import found
from nerv.sparse import behind, each
from nerv.states import COMPLETED, FAILED, GROWN, PENDING, RUNNING, SKIPPED, WAITING
from nerv.stored import gone
from nerv.suspensions import Suspended

if TYPE_CHECKING:
    from nerv.live import Live


class Regrowth:
    """Makes an execution grow again.

    Args:
        live: it has its scheduler and its admission; nothing of it runs.
        bygone: the lanes that are passed over, in the order of their messages.
    """

    def __init__(self, live: Live, bygone: deque[Bygone]) -> None:
        self._live = live
        self._bygone = bygone
        self._families: list[Family] = []
        self._lanes: list[Family] = []  # of messages
        self._grown_in: dict[int, int] = {}  # task -> the attempt in which it last added something
        self._waiting: dict[int, tuple[float, bytes]] = {}  # task -> since when, and what for

    # ---- told by the replay, record by record -----------------------------------------------------------------------

    def pass_over(self) -> None:
        """What comes next, as long as it is passed over."""
        scheduler, bygone = self._live.scheduler, self._bygone
        while bygone and bygone[0].numbers[0] == len(scheduler.state) and isinstance(scheduler, FedScheduler):
            scheduler.feeder.pass_over(bygone.popleft())

    def grow(self, number: int, attempt: int, data: Mapping[str, Any]) -> Sequence[int]:
        """TASKS_ADDED.

        Raises:
            JournalError: other tasks would be added than were.
            SerializationError: what was kept can't be read.
        """
        self.pass_over()
        live = self._live
        before = len(live.log.ids)
        if isinstance(live.scheduler, FedScheduler) and "message" in data:
            self._lanes.append(live.scheduler.feeder.regrow(data))
        else:
            self._grow(number, attempt, data)
        ids = behind(live.log.ids, before)
        if list(map(str, ids)) != list(data["ids"]):
            raise JournalError(
                f"execution {live.id!r}: task {live.log.ids[number]!r} added other tasks than it would add now"
            )
        for kept in (live.values, live.errors, live.undo_errors):
            refile(kept, ids)
        return range(before, len(live.log.ids))

    def _grow(self, number: int, attempt: int, data: Mapping[str, Any]) -> None:
        live = self._live
        outcome = found(live.tasks[number], data["outcome"])
        call = Call(live, number, live.tasks[number], attempt)
        call.value = outcome
        live.engine.steering.prepare(call)
        if call.error is not None:
            raise call.error
        family = live.engine.steering.replant(live, number, call.step)
        self._families.append(family)
        self._grown_in[number] = attempt

    def waits(self, number: int, at: float, data: Mapping[str, Any]) -> None:
        """TASK_WAITING of a task that returned an outcome."""
        self._waiting[number] = at, data["outcome"]

    def signalled(self, data: Mapping[str, Any]) -> None:
        """SIGNAL_RECEIVED."""
        self._live.scheduler.has_suspensions(self._live.log.epoch).restore_signal(data)

    # ---- when all have been taken in --------------------------------------------------------------------------------

    def is_at_it(self, number: int) -> bool:
        """Whether a RUNNING task isn't lost: it waits for what it has added."""
        attempts = self._live.scheduler.attempts
        return self._grown_in.get(number) == attempts[number]

    def settle(self) -> None:
        """Work out what families and suspensions hold."""
        live, scheduler = self._live, self._live.scheduler
        for family in self._families:
            self._settle(family)
        for family in self._lanes:
            ends = [number for number in family.numbers if scheduler.state[number] in (FAILED, SKIPPED)]
            scheduler.excused += sum(number not in scheduler.dead for number in ends)
        for number, (since, stored) in self._waiting.items():
            if scheduler.state[number] == WAITING:
                self._suspend(number, since, found(live.tasks[number], stored))
        take_on(live)

    def _settle(self, family: Family) -> None:
        scheduler = self._live.scheduler
        families = scheduler.families
        assert families is not None
        state, seed, parent = scheduler.state, family.seed, family.parent
        ended = [number for number in family.numbers if scheduler.has_ended(number)]
        bad = [number for number in ended if state[number] != COMPLETED and number not in scheduler.dead]
        family.left = family.count - len(ended)
        family.successful = sum(state[number] == COMPLETED for number in ended)
        if seed.limit is not None:
            family.next = min(family.first + family.count, family.first + seed.limit + len(ended))
        failed = [number for number in bad if state[number] == FAILED]
        family.failed = (failed or bad or [-1])[0]
        family.closed = seed.stops and bool(failed)
        for number in bad:
            scheduler.excused += families.takes_on(number)
        if family.left:
            families.open[parent] = family
            scheduler.missing[parent] = 1 if family.counts else family.left
            for number in range(family.next, family.first + family.count):
                scheduler.missing[number] += state[number] == PENDING
        elif not family.parted and state[parent] == RUNNING and families.last[parent] is family:
            scheduler.news.append((GROWN, parent))

    def _suspend(self, number: int, since: float, outcome: Any) -> None:
        live, scheduler = self._live, self._live.scheduler
        suspensions = scheduler.has_suspensions(live.log.epoch)
        task = live.tasks[number]
        deadline = None if task.timeout is None else since + task.timeout
        pool = None
        if outcome.then is not None:
            own = live.pools[scheduler.queue_of[number]]
            pool = live.admission.pool_of(outcome.then, own)
        live.held[number] = outcome, pool
        if isinstance(outcome, Gather):
            families = scheduler.families
            assert families is not None
            needs = dict(zip(task.needs, scheduler.needs_of(number), strict=False))
            live.sources[number] = needs[outcome.source]
            suspensions.restore(number, Suspended(f"results of {outcome.source!r}", since, deadline=deadline))
            families.watch(needs[outcome.source], number, outcome.quorum)
            return
        what = "timer" if outcome.signal is None else f"signal {outcome.signal!r}"
        prompt = outcome.prompt if isinstance(outcome, Hold) else ""
        due = outcome.due(since, live.log.epoch)
        suspensions.restore(number, Suspended(what, since, outcome.signal, due, deadline, prompt))


class Flat:
    """Takes in what tasks have added to an execution that is only looked at: their ids, and whose they are."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def grow(self, number: int, attempt: int, data: Mapping[str, Any]) -> Sequence[int]:  # noqa: ARG002
        """TASKS_ADDED."""
        live = self._live
        parent, ids = str(live.log.ids[number]), list(data["ids"])
        is_message = "message" in data
        seed = Seed()
        seed.ids, seed.rules, seed.ranks, seed.queues = ids, bytes(len(ids)), range(len(ids)), [0] * len(ids)
        tails = [one[len(parent) :] for one in ids]
        seed.names = [tail[1:] for tail in tails] if tails and tails[0].startswith("/") else None
        live.tasks.extend(added(gone(), one, Scope({}, live.values), None) for one in ids)
        seed.keeps = is_message
        families = live.scheduler.has_families()
        family = families.regrow(number, seed, parted=is_message)
        if is_message:  # they go by their steps' names
            families.broods[number].indexed.clear()
            for one, task_id in zip(family.numbers, ids, strict=True):
                station = live.number_of(task_id.rpartition("[")[0])
                if station is not None:
                    families.broods.setdefault(station, Brood()).indexed.append(one)
        return family.numbers

    def waits(self, number: int, at: float, data: Mapping[str, Any]) -> None:
        """It isn't gone on with."""

    def signalled(self, data: Mapping[str, Any]) -> None:
        """It isn't gone on with."""

    def is_at_it(self, number: int) -> bool:  # noqa: ARG002
        """Nothing is lost of what isn't gone on with."""
        return True

    def settle(self) -> None:
        """What became of messages is nobody else's business."""
        take_on(self._live)


def take_on(live: Live) -> None:
    """Failures that a node has taken on aren't the execution's."""
    scheduler = live.scheduler
    if scheduler.families is None or not isinstance(live.errors, LazyValues):
        return
    for number, state in each(scheduler.state):
        if state == FAILED and scheduler.families.takes_on(number):
            key = live.tasks[number].id
            dict.__setitem__(live.taken_on, key, live.errors.raw(key))  # as it is stored
            dict.pop(live.errors, key)
