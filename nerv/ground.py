"""`Ground`: gives tasks that are added while an execution runs what the engine holds for each: a queue, policies, a
lookup in the cache, a place that measurement decides. A part of `Steering`, under the engine's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nerv.live import Live
from nerv.lookups import Lookups
from nerv.placement import Placement
from nerv.planting import UNIFORM, Plant
from nerv.pools.base import Pool
from nerv.turns import Lane, Turns


class Ground:
    """Makes room.

    Args:
        turns_of: the turns in which executions are served by a pool.
    """

    def __init__(self, turns_of: Callable[[Pool], Turns]) -> None:
        self._turns_of = turns_of

    def measure(self, live: Live, plant: Plant, first: int) -> Placement:
        """Measurement decides where added tasks run."""
        if live.placement is None:
            queues = {place: self.queue(live, pool) for place, pool in plant.places.items()}
            live.placement = Placement(live, queues, {})
        for place, case in plant.measured():
            live.placement.join(first + place, case)
        return live.placement

    def take(self, live: Live, plant: Plant) -> None:
        """Give new tasks what the engine holds for each: pool, policies, errands."""
        first, count = len(live.tasks), len(plant.tasks)
        live.tasks.extend(plant.tasks)
        live.wants_context.extend(plant.wants)
        plant.queues = self._queues(live, plant, count)
        if plant.terms:
            terms = dict.fromkeys(range(count), plant.terms[UNIFORM]) if UNIFORM in plant.terms else plant.terms
            live.admission.policing.add(live, {first + place: one for place, one in terms.items()})
            self._look_up_first(live, plant, first)
        for place, pool in plant.errand_pools.items():
            queue = self.queue(live, pool)
            for one in range(count) if place == UNIFORM else (place,):
                live.fallback_queues[first + one] = queue

    def _queues(self, live: Live, plant: Plant, count: int) -> list[int]:
        if not isinstance(plant.pools, Sequence):
            return [self.queue(live, plant.pools)] * count
        queues = {pool: self.queue(live, pool) for pool in dict.fromkeys(plant.pools)}
        return [queues[pool] for pool in plant.pools]

    def _look_up_first(self, live: Live, plant: Plant, first: int) -> None:
        """Added tasks that have a `Cache` look into it, in a queue that threads serve, before anything else."""
        waits = live.admission.policing.has_waits(live)
        for place, task in enumerate(plant.tasks):
            if task.cache is not None:
                live.attentive = True
                if waits.lookups is None:
                    waits.lookups = Lookups({}, live.scheduler.queue_of)  # type: ignore[arg-type]  # it is a list
                own = plant.queues[place]
                has_threads = live.pools[own].kind in ("thread", "inline")
                queue = own if has_threads else self.queue(live, live.admission.threads())
                waits.lookups.join(first + place, queue, own)
                plant.queues[place] = queue

    def queue(self, live: Live, pool: Pool) -> int:
        """The queue of a pool, which is a new one if the execution hasn't used it yet."""
        if pool in live.pools:
            return live.pools.index(pool)
        scheduler = live.scheduler
        while len(live.pools) < len(scheduler.ready):
            live.pools.append(live.pools[0])  # a queue that no pool takes from has no lane
        queue = scheduler.add_queue()
        live.pools.append(pool)
        live.lane = None
        live.lanes.append(Lane(live, queue, scheduler.ready[queue], pool, self._turns_of(pool)))
        return queue
