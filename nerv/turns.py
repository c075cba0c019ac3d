"""Whose turn it is: between the executions that have work for one pool, the higher priority first, then in turn."""

from __future__ import annotations

from heapq import heappop, heappush, heapreplace
from typing import TYPE_CHECKING

from nerv.graph import HEIGHT_BITS, NUMBER_BITS

if TYPE_CHECKING:
    from nerv.live import Live

_PRIORITY: int = NUMBER_BITS + HEIGHT_BITS


class Lane:
    """One execution's ready tasks for one pool. `turn` is its valid entry in the pool's `Turns`, 0 if it has none."""

    __slots__ = ("level", "live", "queue", "ready", "turn")

    def __init__(self, live: Live, queue: int, ready: list[int]) -> None:
        self.live = live
        self.queue = queue
        self.ready = ready
        self.turn = 0
        self.level = 0  # the rank's priority part when it was queued; lower is sooner


class Turns:
    """The lanes that have something ready, in the order in which they come to the pool.

    A heap of `(level, turn, lane)`. A lane whose best task has become more urgent gets a second entry and the first one
    goes stale, which is seen when it reaches the top. With one lane, the common case, nothing is ever moved.
    """

    __slots__ = ("_count", "_heap")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Lane]] = []
        self._count = 0

    def __bool__(self) -> bool:
        return bool(self._heap)

    def ready(self) -> int:
        """How many tasks are ready, at least (the best lanes are counted first)."""
        return sum(len(lane.ready) for _, turn, lane in self._heap if turn == lane.turn)

    def add(self, lane: Lane) -> None:
        """The lane has something ready: it gets in line, or moves ahead if its best task is more urgent than before."""
        level = lane.ready[0] >> _PRIORITY
        if lane.turn and level >= lane.level:
            return
        self._count += 1
        lane.turn, lane.level = self._count, level
        heappush(self._heap, (level, self._count, lane))

    def first(self) -> Lane | None:
        """The lane whose turn it is."""
        heap = self._heap
        while heap:
            _, turn, lane = heap[0]
            if turn == lane.turn:
                return lane
            heappop(heap)
        return None

    def served(self, lane: Lane) -> None:
        """The first lane had its turn: it goes behind its equals, or leaves if nothing of it is ready."""
        heap = self._heap
        if not lane.ready:
            heappop(heap)
            lane.turn = 0
        elif len(heap) > 1:
            self._count += 1
            lane.turn, lane.level = self._count, lane.ready[0] >> _PRIORITY
            heapreplace(heap, (lane.level, self._count, lane))

    def drop(self, lane: Lane) -> None:
        """The first lane gives out nothing for now (it is paused)."""
        heappop(self._heap)
        lane.turn = 0
