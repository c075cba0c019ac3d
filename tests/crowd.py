"""`Crowd`: one execution on a scheduler alone, whose tasks must pass lines. Several may stand in the same ones."""

from __future__ import annotations

from nerv.graph import NUMBER_MASK, Graph
from nerv.lines import Terms
from nerv.sagas import Saga
from nerv.scheduler import ALL_COMPLETED, ALL_FINISHED, STATUSES, Scheduler
from nerv.waits import Waits

POOLS = ("pool", "other", "third")


class Crowd:
    """Tasks that need nobody. `asks`: for each, the lines that it must pass, with the amounts; None: it has no terms.

    Its epoch is 1000; queue 0 is served by "pool", 1 by "other", 2 by "third".
    """

    def __init__(self, lines, *asks, priorities=None, queues=None, cleanup=(), undoable=(), retry=None, lookups=None):
        size = len(asks)
        terms = {number: Terms(retry, None, tuple(own)) for number, own in enumerate(asks) if own is not None}
        self.waits = Waits(terms, lines, POOLS, 1000.0, self, lookups=lookups)
        self.records = []
        self.scheduler = Scheduler(
            Graph([[]] * size, priorities or [1] * size),
            [str(number) for number in range(size)],
            [ALL_FINISHED if number in cleanup else ALL_COMPLETED for number in range(size)],
            queues or [0] * size,
            len(POOLS),
            self.records,
            waits=self.waits,
            saga=Saga(undoable, cleanup) if undoable else None,
        )
        self.scheduler.start(0.0, {})

    def take(self, queue=0, now=1.0):
        return self.scheduler.take(queue, now)

    def complete(self, *numbers, now=2.0):
        for number in numbers:
            self.scheduler.completed(number, now)

    def ready(self, queue=0):
        return [rank & NUMBER_MASK for rank in sorted(self.scheduler.ready[queue])]

    @property
    def parked(self):
        return sorted(self.waits.parked)

    def status(self, number=0):
        return STATUSES[self.scheduler.state[number]].name
