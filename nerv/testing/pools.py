"""`SimulatedPools`: pools that run calls on one thread, in an order that a seed decides and that can be repeated.

How it works. Each pool has as many workers as its settings say, but a worker is only a place where a call is held "in
flight". One step does one thing that could happen next in reality, drawn at random: a free worker comes for a call that
the pool was called up for, or one of the calls in flight ends. A call's function is called when it ends, in the thread
that steps; to the engine it was running since it was taken. When nothing can happen without time passing, time jumps
to the next moment at which something is due, if the clock is a `FakeClock(auto=True)`.

Pools of processes take calls several at a time, as the real one does, and their workers can die: the call under way is
lost, the others are given back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from math import inf
from random import Random
from typing import TypeAlias

from nerv.calls import Call
from nerv.errands import LookupCall
from nerv.errors import WorkerCrashedError
from nerv.functions import is_coroutine_function
from nerv.pools.base import Pool, Source
from nerv.pools.factory import PoolFactory
from nerv.settings import Settings
from nerv.tasks import TaskDef
from nerv.testing.clock import FakeClock
from nerv.testing.faults import Fault
from nerv.testing.performing import Performer, perform

Step: TypeAlias = Callable[[], None]


class Worker:
    """A place for calls in flight: the one under way since it was begun, and those claimed behind it."""

    __slots__ = ("calls", "ends_at", "finished")

    def __init__(self) -> None:
        self.calls: deque[Call] = deque()
        self.finished: list[Call] = []
        self.ends_at = -inf


class SimulatedPool:
    """A pool whose workers are simulated. A whole manager is simulated with `SimulatedPools`, which makes these.

    Args:
        seed: decides what happens next; a number, or a random generator that others draw from too.
        name, workers: as of any pool.
        kind: "thread", "async" or "process"; process workers take several calls at a time.
        clock: needed only for `takes`.
        takes: how many seconds of `clock` a call takes; `math.inf`: it hangs until it is given up. Default: none.
        faults: what befalls calls in place of their functions.
        perform: what calls a call's function, and sets its `value` or `error`.
    """

    attended = False
    left_behind = 0
    may_block = False

    def __init__(
        self,
        seed: Random | int = 0,
        name: str = "simulated",
        workers: int = 4,
        *,
        kind: str = "thread",
        clock: FakeClock | None = None,
        takes: Callable[[Call], float] | None = None,
        faults: Fault | None = None,
        perform: Performer = perform,
    ) -> None:
        if takes is not None and clock is None:
            raise ValueError("takes= is in seconds of a FakeClock: pass clock= too")
        self.name = name
        self.kind = kind
        self.limit = workers
        self.running = 0
        self.counts_running = kind != "process"
        self.tells_start = kind == "process"
        self._random = Random(seed) if isinstance(seed, int) else seed  # noqa: S311  (no secrets)
        self._clock = clock
        self._takes = takes
        self._faults = faults
        self._perform = perform
        self._workers: list[Worker] = []
        self._called = False  # there may be calls that nobody has come for
        self._source: Source

    # ---- what a Pool does -------------------------------------------------------------------------------------------

    def bind(self, source: Source) -> None:
        """Told once where calls come from."""
        self._source = source

    def objection(self, task: TaskDef) -> str | None:
        """As in reality, coroutine functions belong into a pool of kind "async", others don't."""
        if task.fn is None or is_coroutine_function(task.fn) == (self.kind == "async"):
            return None
        what = "a plain function" if self.kind == "async" else "a coroutine function"
        return f"is {what}, which the {self.kind} pool {self.name!r} can't run; leave out pool="

    def call_up(self, ready: int) -> None:  # noqa: ARG002  (it hears what every pool hears)
        """Somebody shall come for calls: that is one of the things that can happen next."""
        self._called = True

    def arrived(self, worker: Worker) -> None:
        """Nothing to note."""

    def rested(self, worker: Worker | None) -> None:
        """There was nothing to come for; None is who came for nothing."""
        if worker is not None:
            self._called = False
            if not self.counts_running:
                self.running = self._busy()

    def tell_cancelled(self, calls: Iterable[Call]) -> None:
        """Its task asks `ctx.cancelled`."""

    def abandon(self, calls: Iterable[Call]) -> None:
        """Forget these calls: their functions are never called. What a process had claimed besides is given back."""
        given_up = set(calls)
        for worker in self._workers:
            if given_up.isdisjoint(worker.calls):
                continue
            left = [call for call in worker.calls if call not in given_up]
            if worker.calls[0] in given_up:
                worker.calls.clear()
                self._report(worker, left)
            else:
                worker.calls = deque(left)

    def close(self, patience: float) -> None:
        """There is nothing to close."""

    # ---- what can happen next ---------------------------------------------------------------------------------------

    def step(self) -> bool:
        """Let one thing happen that can happen now. False: nothing can."""
        return _step([self], self._random)

    def possible(self) -> Iterator[Step]:
        """Everything that can happen now, as functions that make it happen."""
        now = 0.0 if self._clock is None else self._clock.monotonic()
        for worker in self._workers:
            if worker.calls:
                if worker.ends_at <= now:
                    yield lambda worker=worker: self._end(worker)  # type: ignore[misc]
            elif worker.finished:
                yield lambda worker=worker: self._report(worker, [])  # type: ignore[misc]
        free = self._free_worker()
        if self._called and free is not None and self._source.waiting(self):
            yield lambda: self._come(free)

    def _free_worker(self) -> Worker | None:
        if self._busy() >= self.limit:
            return None
        self._workers += [Worker() for _ in range(self.limit - len(self._workers))]  # the pool may have been resized
        return next(worker for worker in self._workers if not worker.calls and not worker.finished)

    def due(self) -> float:
        """The moment of the clock at which the next call in flight ends; infinity if none does."""
        return min((worker.ends_at for worker in self._workers if worker.calls), default=inf)

    def _come(self, worker: Worker) -> None:
        if self.counts_running:
            self._advance(worker, None)
        else:
            self._report(worker, [])

    def _end(self, worker: Worker) -> None:
        call = worker.calls.popleft()
        crash = self._run(call)
        if self.counts_running:
            self._advance(worker, call)
            return
        worker.finished.append(call)
        if crash:
            claims, worker.calls = list(worker.calls), deque()
            self._report(worker, claims)
        elif worker.calls:
            self._begin(worker)
            if self._random.random() < 0.5:  # a process tells of each end, or of several at once
                finished, worker.finished = worker.finished, []
                self._source.advance_many(self, finished, None, 0)
            if self._random.random() < 0.5:  # and of a beginning, or only of the end
                self._source.begin(worker.calls[0])

    def _advance(self, worker: Worker, finished: Call | None) -> None:
        call = self._source.advance(self, finished, worker)
        if call is not None:
            worker.calls.append(call)
            self._begin(worker)

    def _report(self, worker: Worker, claims: list[Call]) -> None:
        """A process worker hands over what is finished, gives back what it had only claimed, and comes for more."""
        if self.counts_running:
            return
        if claims:
            self._source.give_back(claims)
        finished, worker.finished = worker.finished, []
        self.running = self._busy()
        if self.running >= self.limit:  # the pool has become smaller
            self._source.advance_many(self, finished, None, 0)
            return
        self.running += 1  # who asks
        worker.calls.extend(self._source.advance_many(self, finished, worker, self._random.randint(1, 4)))
        self.running = self._busy()
        if worker.calls:
            self._begin(worker)

    def _busy(self) -> int:
        return sum(bool(worker.calls or worker.finished) for worker in self._workers)

    def _begin(self, worker: Worker) -> None:
        call = worker.calls[0]
        if self.tells_start and call.timeout is not None:
            self._source.begin(call)
            self._source.begun(call)
        if self._takes is not None and self._clock is not None:
            worker.ends_at = self._clock.monotonic() + self._takes(call)

    def _run(self, call: Call) -> bool:
        """Let a call end; True: its worker died."""
        looks = isinstance(call, LookupCall)  # into the cache, which is beyond faults
        error = None if self._faults is None or looks else self._faults(call)
        if error is not None:
            call.error = error
        else:
            self._perform(call)
        return isinstance(call.error, WorkerCrashedError)


class SimulatedPools(PoolFactory):
    """A `pool_factory` for a `WorkflowManager`, all of whose pools are simulated and share one random generator.

    A task mustn't wait for another execution, since the thread that would run it is waiting. Inline tasks aren't the
    pools' affair: they run in `Execution.wait`.

    Args:
        seed: decides the order of everything.
        clock: a `FakeClock` that the simulation moves from now on, if it is `auto`.
        takes, faults, perform: see `SimulatedPool`.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        clock: FakeClock | None = None,
        takes: Callable[[Call], float] | None = None,
        faults: Fault | None = None,
        perform: Performer = perform,
    ) -> None:
        self._random = Random(seed)  # noqa: S311  (no secrets)
        self._clock = clock
        self._takes = takes
        self._faults = faults
        self._perform = perform
        self._pools: list[SimulatedPool] = []
        if clock is not None:
            clock.drive(self.go_on)

    def make(self, name: str, settings: Settings) -> Pool:
        """A simulated pool for one of the built-in names, or a name of the `pools` setting."""
        kind, workers = name, settings.workers
        if name in settings.pools:
            kind, workers = settings.pools[name].kind, settings.pools[name].workers
        elif name == "process":
            workers = settings.processes
        elif name == "async":
            workers = settings.max_coroutines
        pool = SimulatedPool(
            self._random,
            name,
            workers,
            kind=kind,
            clock=self._clock,
            takes=self._takes,
            faults=self._faults,
            perform=self._perform,
        )
        self._pools.append(pool)
        return pool

    def step(self) -> bool:
        """Let one thing happen that can happen now, in any of the pools. False: nothing can, without time passing."""
        return _step(self._pools, self._random)

    def run(self) -> None:
        """Go on until nothing can happen any more: all has ended, or waits for something that won't come by itself."""
        while self.go_on():
            pass

    def go_on(self) -> bool:
        """Let one thing happen, or else time pass until something does. False: nothing will."""
        return self.step() or self._jump()

    def _jump(self) -> bool:
        """Move the clock on to whatever happens next. False: nothing does."""
        clock = self._clock
        if clock is None or not clock.auto:
            return False
        own = min((pool.due() for pool in self._pools), default=inf)
        due = clock.due
        moment = own if due is None else min(own, due)
        if moment == inf:
            return False
        clock.advance(max(0.0, moment - clock.monotonic()))
        return True


def _step(pools: list[SimulatedPool], random: Random) -> bool:
    possible = [act for pool in pools for act in pool.possible()]
    if possible:
        random.choice(possible)()
    return bool(possible)
