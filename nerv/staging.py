"""`Staging`: where ready tasks stand until the journal has their claims, under strict durability.

A part of the scheduler, as pure as it is; executions that don't wait for a journal don't have one. A task that becomes
ready goes into `heaps` instead of the scheduler's `ready`; `cleared`, it goes on there.
"""

from __future__ import annotations

from collections.abc import Container
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

from nerv.graph import NUMBER_MASK
from nerv.states import ALL_FINISHED

if TYPE_CHECKING:
    from nerv.scheduler import Scheduler


class Staging:
    """The staged tasks of one execution, by queue, in the order of their ranks."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.heaps: list[list[int]] = [[] for _ in scheduler.ready]
        self._scheduler = scheduler
        scheduler.entry = self.heaps

    def best(self, queue: int, most: int) -> list[int]:
        """Take out the best tasks of a queue, at most so many."""
        heap = self.heaps[queue]
        taken: list[int] = []
        while heap and len(taken) < most:
            number = heappop(heap) & NUMBER_MASK
            if self._may_start(number):
                taken.append(number)
        return taken

    def first(self, wanted: Container[int]) -> int | None:
        """The best staged task that is wanted; it stays where it is."""
        ranks = [rank for heap in self.heaps for rank in heap if rank & NUMBER_MASK in wanted]
        return next((rank & NUMBER_MASK for rank in sorted(ranks) if self._may_start(rank & NUMBER_MASK)), None)

    def take(self, number: int) -> None:
        """Take out one task."""
        for heap in self.heaps:
            heap[:] = [rank for rank in heap if rank & NUMBER_MASK != number]
            heapify(heap)

    def holds(self, number: int) -> bool:
        """Whether a task is staged and may start."""
        rank = self._scheduler.ranks[number]
        return any(rank in heap for heap in self.heaps) and self._may_start(number)

    def has_cleared(self, number: int) -> bool:
        """Whether a task may start, and hasn't been taken for it yet."""
        rank = self._scheduler.ranks[number]
        return any(rank in heap for heap in self._scheduler.ready)

    def clear(self, number: int) -> None:
        """A task that was taken out may start, unless it was cancelled meanwhile."""
        scheduler = self._scheduler
        if not self._may_start(number):
            return
        if scheduler.saga is not None and scheduler.saga.left and number not in scheduler.errands:
            scheduler.saga.hold(number)
        else:
            heappush(scheduler.ready[scheduler.queue_of[number]], scheduler.ranks[number])

    def dissolve(self) -> None:
        """From now on nothing is staged; what is may start."""
        scheduler = self._scheduler
        scheduler.entry, scheduler.staging = scheduler.ready, None
        for heap in self.heaps:
            for rank in heap:
                self.clear(rank & NUMBER_MASK)
            heap.clear()

    def _may_start(self, number: int) -> bool:
        scheduler = self._scheduler
        if number in scheduler.errands:
            return True
        if scheduler.has_ended(number):
            return False
        return not scheduler.stopping or scheduler.rules[number] == ALL_FINISHED
