"""Running a Dask graph on nerv's threads with nobody attending, at as little cost a task as can be.

A result is let go as soon as the last task that reads it has ended. The first error ends the run at once, as with Dask:
what runs at that moment is left behind, and nobody waits for it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from heapq import heapify
from time import perf_counter
from typing import Any, Final

from nerv.clock import patiently
from nerv.engine import Engine
from nerv.graph import NUMBER_MASK
from nerv.interop.dask.desk import Desk
from nerv.interop.dask.nodes import Culled, Ranked, evaluate
from nerv.interop.dask.steps import engine_for, live_of
from nerv.pools.thread import ThreadPool

SMALL: Final = 1000
"""Tasks up to which Dask's order is worked out before anything runs. In a larger graph that takes longer than running
its tasks, if they are small; so they run depth first, until they turn out to be slow."""
LOOK: Final = 20e-6
"""Seconds a task after which a large graph is looked at for the first time; each later look is twice as far away."""
SLOW: Final = 500e-6
"""Seconds from one end of a task to the next from where on Dask's order is worked out for what is left. It takes some
20 us a task, so it costs a few percent at most; and who is that slow may well make results that fill the memory."""


LONG: Final = 100e-6
"""Seconds from where on a task is long: what is ready when it ends is likely as long, so each gets a thread at once. By
itself the pool would see that a little later, which graphs with tasks of a millisecond among tiny ones would notice at
every step."""


class Run:
    """One graph being run.

    Attributes:
        over: set when it has ended, or a task has failed.
        readers: for each task one item for each task that reads it and hasn't ended, and one if its result is wanted.
            Lists, because `pop` is atomic and counting down isn't.
    """

    def __init__(self, culled: Culled, wanted: set[Any], engine: Engine, pool: ThreadPool | Desk) -> None:
        self.culled = culled
        self.engine = engine
        self.pool = pool
        self.over = threading.Event()
        self.is_large = len(culled.nodes) > SMALL
        self.graph = Ranked(culled, range(len(culled.nodes)) if self.is_large else culled.places())
        self.live = live_of(self.graph, engine, pool, self.step, self.over.set)
        self.values = self.live.values
        self.values.update(culled.data)
        self.readers: list[list[None]] = [
            [None] * (len(after) + (key in wanted))
            for key, after in zip(culled.keys, self.graph.dependents, strict=True)
        ]

    def step(self, number: int) -> Any:
        """Evaluate a node, and let go of what nobody reads any more."""
        culled, values = self.culled, self.values
        began = perf_counter()
        value = evaluate(culled.nodes[number], values)
        if perf_counter() - began > LONG:
            self.pool.expect_long()
        for need in culled.needs[number]:
            readers = self.readers[need]
            readers.pop()
            if not readers:
                values.pop(culled.keys[need], None)
        return value

    def results(self) -> Mapping[Any, Any]:
        """The values that are left, which are those that are wanted.

        Raises:
            BaseException: the first error of a task, as the task raised it.
        """
        error = next(iter(self.live.errors.values()), None)
        if error is not None:
            raise error
        return self.values

    def by_itself(self) -> None:
        """Let the pool run it all, or until a task fails."""
        self.pool.expect_long()
        self.engine.start(self.live)
        try:
            if self.is_large:
                self.watch()
            patiently(self.over.wait)
        finally:
            self.engine.halt(self.live)

    def by_hand(self) -> None:
        """Run it all in this thread, or until a task fails."""
        self.engine.start(self.live)
        call = self.engine.advance(self.pool)
        while call is not None:
            call.run()
            call = self.engine.advance(self.pool, call)

    def watch(self) -> None:
        """See whether the tasks of a large graph are slow enough for Dask's order."""
        scheduler, total = self.live.scheduler, len(self.graph)
        pause, ended = LOOK * total, 0
        while not self.over.wait(pause):
            before, ended = ended, total - scheduler.unfinished
            if 2 * ended > total:
                return
            if pause >= SLOW * (ended - before):
                self.rearrange()
                return
            pause *= 2

    def rearrange(self) -> None:
        """From now on Dask's order holds."""
        scheduler = self.live.scheduler
        ranks = Ranked(self.culled, self.culled.places()).ranks
        with self.engine.lock:
            self.graph.ranks[:] = ranks  # the very list that the scheduler looks into
            for ready in scheduler.ready:
                ready[:] = [ranks[rank & NUMBER_MASK] for rank in ready]
                heapify(ready)


class Crew:
    """Threads, and an engine that has nothing else."""

    def __init__(self, workers: int) -> None:
        self.pool = ThreadPool("dask", workers)
        self.engine = engine_for(self.pool)

    def close(self) -> None:
        """Send the threads home, without waiting for those that are in a task."""
        self.engine.timer.close()
        self.pool.close(0.0)


class Spare:
    """Crews that have nothing to do, at most one of each size: a small graph takes less time than starting threads.

    Dask knows a scheduler as a bare function, so what it keeps from one call to the next is the module's own, as with
    Dask's schedulers.
    """

    def __init__(self) -> None:
        self.crews: dict[int, Crew] = {}
        os.register_at_fork(after_in_child=self.crews.clear)  # a child has no threads

    def take(self, workers: int) -> Crew:
        """A crew for one graph."""
        return self.crews.pop(workers, None) or Crew(workers)

    def give_back(self, workers: int, crew: Crew) -> None:
        """It has nothing to do."""
        if self.crews.setdefault(workers, crew) is not crew:
            crew.close()

    def dismiss(self) -> None:
        """End all threads that have nothing to do."""
        while self.crews:
            self.crews.popitem()[1].close()


SPARE: Final = Spare()


def run(culled: Culled, wanted: set[Any], workers: int) -> Mapping[Any, Any]:
    """The values of a graph's wanted keys, worked out by so many threads; by the caller's own, if it is one."""
    if not culled.nodes:
        return culled.data
    if workers == 1:
        desk = Desk(1)
        alone = Run(culled, wanted, engine_for(desk), desk)
        alone.by_hand()
        return alone.results()
    crew = SPARE.take(workers)
    done = Run(culled, wanted, crew.engine, crew.pool)
    try:
        done.by_itself()
    except BaseException:
        crew.close()
        raise
    if done.live.errors:
        crew.close()
    else:
        SPARE.give_back(workers, crew)
    return done.results()
