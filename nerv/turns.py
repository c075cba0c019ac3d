"""Whose turn it is: between the executions that have work for one pool, the higher priority first, then in turn."""

from __future__ import annotations

from heapq import heappop, heappush, heapreplace
from typing import TYPE_CHECKING

from nerv.graph import HEIGHT_BITS, NUMBER_BITS

if TYPE_CHECKING:
    from nerv.live import Live
    from nerv.pools.base import Pool

_PRIORITY: int = NUMBER_BITS + HEIGHT_BITS


class Lane:
    """One execution's ready tasks for one pool. `turn` is its valid entry in the pool's `turns`, 0 if it has none."""

    __slots__ = ("level", "live", "pool", "queue", "ready", "turn", "turns")

    def __init__(self, live: Live, queue: int, ready: list[int], pool: Pool, turns: Turns) -> None:
        self.live = live
        self.queue = queue
        self.ready = ready
        self.pool = pool
        self.turns = turns
        self.turn = 0
        self.level = 0  # the rank's priority part when it was queued; lower is sooner


class Turns:
    """The lanes that have something ready, in the order in which they come to the pool.

    A lone lane, the common case, is `only` and nothing is ever moved. From the second one on they are in a heap of
    `(level, turn, lane)`; a lane whose best task has become more urgent gets a second entry and the first one goes
    stale, which is seen when it reaches the top.
    """

    __slots__ = ("_count", "_heap", "only")

    def __init__(self) -> None:
        self.only: Lane | None = None
        self._heap: list[tuple[int, int, Lane]] = []
        self._count = 0

    def __bool__(self) -> bool:
        return self.only is not None or bool(self._heap)

    def ready(self) -> int:
        """How many tasks are ready."""
        if self.only is not None:
            return len(self.only.ready)
        return sum(len(lane.ready) for _, turn, lane in self._heap if turn == lane.turn)

    def add(self, lane: Lane) -> None:
        """The lane has something ready: it gets in line, or moves ahead if its best task is more urgent than before."""
        other = self.only
        if other is lane:
            return
        if other is None and not self._heap:
            self.only = lane
            lane.turn = self._count = self._count + 1
            return
        if other is not None:
            self.only = None
            self._queue(other)
        if not lane.turn or lane.ready[0] >> _PRIORITY < lane.level:
            self._queue(lane)

    def _queue(self, lane: Lane) -> None:
        lane.turn = self._count = self._count + 1
        lane.level = lane.ready[0] >> _PRIORITY if lane.ready else 0
        heappush(self._heap, (lane.level, lane.turn, lane))

    def first(self) -> Lane | None:
        """The lane whose turn it is."""
        if self.only is not None:
            return self.only
        heap = self._heap
        while heap:
            level, turn, lane = heap[0]
            if turn != lane.turn:
                heappop(heap)
            elif lane.ready and lane.ready[0] >> _PRIORITY > level:  # what was so urgent has been cancelled
                heappop(heap)
                self._queue(lane)
            else:
                return lane
        return None

    def served(self, lane: Lane) -> None:
        """The first lane had its turn: it goes behind its equals, or leaves if nothing of it is ready."""
        if not lane.ready:
            self.drop(lane)
        elif lane is not self.only:
            lane.turn = self._count = self._count + 1
            lane.level = lane.ready[0] >> _PRIORITY
            heapreplace(self._heap, (lane.level, lane.turn, lane))

    def drop(self, lane: Lane) -> None:
        """The first lane leaves: nothing of it is ready, or it is paused."""
        lane.turn = 0
        if lane is self.only:
            self.only = None
        else:
            heappop(self._heap)
