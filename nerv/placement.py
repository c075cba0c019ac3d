"""`Placement`: the tasks of one execution whose pool the measurement decides (`pool="auto"`, see nerv/verdicts.py).

Such a task's queue follows the place of its function: `TRIAL`, a pool that measures (nerv/pools/auto.py), `THREAD` or
`PROCESS`; `HELD` is a queue that no pool takes from. When the place changes, the tasks that haven't started change
their queue, in all executions, in one critical section; those that are ready are ready there. What has started ends
where it is.

A call that has been taken by a process pool and can't be sent is *brought back*: the same attempt, with its start
recorded, waits for a thread as an errand, TRANSFER.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from functools import partial
from heapq import heapify, heappush
from typing import TYPE_CHECKING, Final

from nerv.errors import TaskCancelledError, described
from nerv.graph import NUMBER_MASK
from nerv.states import COMPLETED, TRANSFER
from nerv.verdicts import Case, Figures, Place

if TYPE_CHECKING:
    from nerv.calls import Call
    from nerv.live import Live

_log: Final = logging.getLogger("nerv")


class Placement:
    """Which tasks of an execution follow which function.

    Args:
        live: the execution.
        queues: the queue of each place; without one for `HELD` the scheduler, which is there then, gets one more.
        cases: by number of the tasks, what is known of their functions.
    """

    def __init__(self, live: Live, queues: Mapping[Place, int], cases: Mapping[int, Case]) -> None:
        self._live = live
        self._queues = {Place.HELD: -1, **queues}
        if Place.HELD not in queues:
            self._queues[Place.HELD] = live.scheduler.add_queue()
        self.held = self._queues[Place.HELD]
        self._case_of: dict[int, Case] = {}
        self._groups: dict[Case, list[int]] = {}
        for number, case in cases.items():
            self.join(number, case)
        self._transfers: dict[int, Call] = {}

    def join(self, number: int, case: Case) -> None:
        """One more task follows its function. Its fallback runs in a thread, if it has no pool of its own."""
        self._case_of[number] = case
        self._groups.setdefault(case, []).append(number)
        if callable(self._live.tasks[number].fallback):
            self._live.fallback_queues.setdefault(number, self._queues[Place.THREAD])

    def forget(self, numbers: Collection[int]) -> None:
        """These tasks have ended, and nobody asks for them any more."""
        for case in {self._case_of.pop(number) for number in numbers if number in self._case_of}:
            self._groups[case] = [number for number in self._groups[case] if number not in numbers]

    # ---- under the engine's lock ------------------------------------------------------------------------------------

    def begin(self) -> None:
        """The execution begins: its tasks go where their functions belong by now."""
        for case, numbers in self._groups.items():
            for number in numbers:
                self._assign(number, case.place)

    def follow_all(self) -> None:
        """Tasks have joined: all go where their functions belong."""
        for case in list(self._groups):
            self.follow(case)

    def follow(self, case: Case) -> None:
        """The place of a function has changed."""
        live, place = self._live, case.place
        scheduler = live.scheduler
        numbers = self._groups[case] = [n for n in self._groups.get(case, ()) if self._may_move(n)]
        for number in numbers:
            call = live.active.get(number)
            if call is not None and call.queue < 0:
                call.queue = scheduler.queue_of[number]
            self._assign(number, place)
        for heaps in {id(heaps): heaps for heaps in (scheduler.ready, scheduler.entry)}.values():
            self._move(heaps, set(numbers))
        live.engine.moved(live)

    def _may_move(self, number: int) -> bool:
        """Whether a task may still start, now or for another attempt. One that has ended mustn't be stuck."""
        scheduler = self._live.scheduler
        if scheduler.state[number] < COMPLETED:
            return True
        if scheduler.queue_of[number] == self._queues[Place.HELD]:
            self._assign(number, Place.THREAD)
            self._move(scheduler.ready, {number})
        return False

    def _assign(self, number: int, place: Place) -> None:
        scheduler = self._live.scheduler
        queue = self._queues[place]
        lookups = None if scheduler.waits is None else scheduler.waits.lookups
        if lookups is None or not lookups.belongs(number, queue):
            scheduler.queue_of[number] = queue  # type: ignore[index]  # admission made it a list

    def _move(self, heaps: list[list[int]], numbers: set[int]) -> None:
        """Ready tasks that are in the heap of another queue than their own change over."""
        scheduler = self._live.scheduler
        errands, queue_of = scheduler.errands, scheduler.queue_of
        for queue in self._queues.values():
            heap = heaps[queue]
            gone = [
                rank
                for rank in heap
                if (number := rank & NUMBER_MASK) in numbers
                and queue_of[number] != queue
                and (number not in errands or queue == self._queues[Place.HELD])
            ]
            if gone:
                left = set(gone)
                heap[:] = [rank for rank in heap if rank not in left]
                heapify(heap)
                for rank in gone:
                    heappush(heaps[queue_of[rank & NUMBER_MASK]], rank)

    def mark(self, call: Call) -> None:
        """A process pool has taken a call: note whether its function was moved there."""
        if call.number in self._case_of:
            call.facts, call.odd = {"pool": "process"}, True

    def bring_back(self, call: Call) -> None:
        """A call that was started couldn't be sent: it waits for a thread."""
        scheduler, number, thread = self._live.scheduler, call.number, self._queues[Place.THREAD]
        why = "" if call.error is None else described(call.error)
        call.error, call.unsent, call.facts, call.queue = None, False, None, thread
        scheduler.errands[number] = TRANSFER
        self._transfers[number] = call
        heappush(scheduler.ready[thread], scheduler.ranks[number])
        case = self._case_of[number]
        self._spread(case, changed=case.come_back(why))

    def transferred(self, number: int, now: float) -> Call | None:
        """A call that was brought back has its thread; None: it isn't wanted any more."""
        live = self._live
        scheduler = live.scheduler
        del scheduler.errands[number]
        call = self._transfers.pop(number)
        if not scheduler.gives_up(number):
            live.active[number] = call
            return call
        error = TaskCancelledError(f"task {call.task.id!r} was cancelled before it was called")
        scheduler.cancelled(number, now, error)
        live.engine.moved(live)
        return None

    # ---- told by pools, without the lock ----------------------------------------------------------------------------

    def is_undecided(self, call: Call) -> bool:
        """Whether a call is to be measured."""
        case = self._case_of.get(call.number)
        return case is not None and not case.is_decided and call.is_attempt

    def looked(self, call: Call, *, busy: bool) -> None:
        """A call that is being measured has run for a while."""
        case = self._case_of[call.number]
        with self._live.engine.effects:
            self._spread(case, changed=not call.abandoned and case.looked(busy=busy))

    def measured(self, call: Call, figures: Figures) -> None:
        """A call was measured."""
        case = self._case_of[call.number]
        with self._live.engine.effects:
            self._spread(case, changed=not call.abandoned and case.count(figures))

    def given_up(self, call: Call) -> None:
        """A call that was being measured was given up."""
        case = self._case_of[call.number]
        with self._live.engine.effects:
            self._spread(case, changed=case.fruitless())

    def spoilt(self, call: Call) -> None:
        """The result of a call couldn't be sent back: that is its failure, and the last of its kind."""
        case = self._case_of[call.number]
        error = call.error
        assert error is not None
        error.add_note("pool='auto' had moved the function to worker processes; from now on it stays in threads")
        with self._live.engine.effects:
            self._spread(case, changed=case.come_back(described(error)))

    def _spread(self, case: Case, *, changed: bool) -> None:
        engine = self._live.engine
        if changed:
            for live in list(engine.lives.values()):
                if live.placement is not None and case in live.placement.cases:
                    live.placement.follow(case)
        if case.news is not None:
            (level, text), case.news = case.news, None
            engine.call_later(partial(getattr(_log, level), "pool='auto': %s", text))

    @property
    def cases(self) -> Mapping[Case, list[int]]:
        """The tasks of each function that may still start."""
        return self._groups
