"""The engine: drives schedulers with pools, a clock and a lock.

Theory of operation. There is one lock. Whoever has something to tell (a worker that finished a call, a user who
cancels, the timer) takes it, tells the execution's scheduler, puts lanes that have ready tasks in line, and notes what
must be done outside the lock (`effects`: wake a worker, tell the bus, set an event), which it does after it has let go.
User code never runs under the lock, and nothing that can block is done under it.

A task's whole way is `advance`: a worker hands over the call it finished and is given the next, in one critical
section. Pools pull; the engine never pushes a call on anybody. When work is ready and its pool isn't full, `call_up`
tells the pool, which decides by itself whom to wake and when (see nerv/pools/thread.py).

The bus and the projector aren't told of events one by one: they read each execution's log behind their own cursors. The
bus is nudged once when a log has grown, if anybody listens at all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from nerv.bus import EventBus
from nerv.calls import Call
from nerv.clock import Clock
from nerv.effects import Effects
from nerv.errors import TaskCancelledError
from nerv.live import Live
from nerv.loans import Loans
from nerv.pools.base import Effect, Pool
from nerv.scheduler import ALL_FINISHED
from nerv.turns import Lane, Turns


class Engine:
    """Runs executions.

    Args:
        clock: the time.
        bus: who is told that there are events.
        grace: seconds that cancelled work is given before it is abandoned.
    """

    def __init__(self, clock: Clock, bus: EventBus, grace: float) -> None:
        self.clock = clock
        self.bus = bus
        self.grace = grace
        self.timer = clock.alarms()
        self.lives: dict[str, Live] = {}  # executions that haven't ended
        self.draining = False
        self.closed = False
        self._now = clock.monotonic
        self._turns: dict[Pool, Turns] = {}
        self._effects = Effects()
        self.lock = self._effects.lock
        self._quiet = threading.Condition(
            self.lock
        )  # notified when an execution has ended; while draining, also a call
        self._loans = Loans(self._effects)

    def adopt(self, pool: Pool) -> None:
        """Take a pool into service."""
        self._turns[pool] = Turns()
        pool.bind(self)

    # ---- what pools ask (nerv.pools.base.Source) --------------------------------------------------------------------

    def advance(self, pool: Pool, finished: Call | None = None, worker: Any = None) -> Call | None:
        """Take over how `finished` ended, and give the best ready call for the pool: the one step of a task."""
        with self.lock:
            now = self._now()
            if finished is not None:
                if finished.abandoned:
                    return None
                pool.running -= 1
                self._settle(finished, now, pool)
            elif worker is not None:
                pool.arrived(worker)
            call = self._take(pool, now)
            if call is None:
                pool.rested(worker)
            noted: Sequence[Effect] = self._effects.noted
            if noted:
                self._effects.noted = []
            else:
                noted = ()  # not the shared list: others note in it as soon as the lock is free
        for effect in noted:
            effect()
        return call

    def advance_many(self, pool: Pool, finished: list[Call], worker: Any, most: int) -> list[Call]:
        """`advance` for several calls at once; see `Source`."""
        calls: list[Call] = []
        with self._effects:
            now = self._now()
            for call in finished:
                if not call.abandoned:
                    self._settle(call, now)
            turns = self._turns[pool]
            while len(calls) < most and not self.draining and (lane := turns.first()) is not None:
                scheduler = lane.live.scheduler
                number = scheduler.claim(lane.queue) if calls else scheduler.take(lane.queue, now)
                if number < 0:
                    turns.drop(lane)
                    continue
                call = Call(lane.live, number, lane.live.tasks[number], scheduler.attempts[number] + bool(calls))
                call.claimed = bool(calls)
                lane.live.active[number] = call
                turns.served(lane)
                self._tell(lane.live)
                calls.append(call)
            if not calls:
                pool.rested(worker)
            else:
                self._call_up(pool, turns)
        return calls

    def begin(self, call: Call) -> None:
        """The function of a call of `advance_many` is being called now."""
        with self._effects:
            if not call.abandoned:
                self._begin(call, self._now())

    def give_back(self, calls: list[Call]) -> None:
        """Calls of `advance_many` that were never begun are ready again."""
        with self._effects:
            now = self._now()
            for call in calls:
                if not call.abandoned:
                    del call.live.active[call.number]
                    call.live.scheduler.unclaim(call.number, now)
                    self._moved(call.live)

    def call_later(self, effect: Effect) -> None:
        """Have `effect` run when the lock has been released (lock held)."""
        self._effects.noted.append(effect)

    def waiting(self, pool: Pool) -> bool:
        """Whether calls are ready for the pool."""
        return bool(self._turns[pool]) and not self.draining

    def lend(self, pool: Pool, call: Call) -> None:
        """A running call waits for something: its slot is free meanwhile."""
        with self._effects:
            if self._loans.lend(pool, call):
                self._freed(pool)

    def reclaim(self, pool: Pool, call: Call, back: Effect) -> bool:
        """The call that lent its slot goes on: True, at once; else `back` is called when it has a slot again."""
        with self.lock:
            return self._loans.reclaim(pool, call, back)

    def recall(self, pool: Pool, call: Call) -> None:
        """A call that is about to end lends its slot no more."""
        with self._effects:
            self._loans.recall(pool, call)

    # ---- under the lock ---------------------------------------------------------------------------------------------

    def _take(self, pool: Pool, now: float) -> Call | None:
        if self._loans.wanted:
            self._loans.return_slots(pool)
        turns = self._turns.get(pool)  # an inline pool goes with its execution
        while turns is not None and pool.running < pool.limit and not self.draining:
            lane = turns.only or turns.first()
            if lane is None:
                return None
            live = lane.live
            scheduler = live.scheduler
            number = scheduler.take(lane.queue, now)
            if number < 0:
                turns.drop(lane)
                continue
            call = live.active[number] = Call(live, number, live.tasks[number], scheduler.attempts[number])
            if lane is not turns.only or not lane.ready:
                turns.served(lane)
            pool.running += 1
            if self.bus.active or live.on_change:
                self._tell(live)
            if not pool.attended and turns:
                self._call_up(pool, turns)
            return call
        return None

    def _call_up(self, pool: Pool, turns: Turns) -> None:
        """See that somebody comes for what is ready, as far as the pool has room."""
        if turns and pool.running < pool.limit and not self.draining:
            pool.call_up(turns.ready())

    def _freed(self, pool: Pool) -> None:
        """A slot has become free by other ways than `advance`: who waits for it must be told."""
        self._loans.return_slots(pool)
        turns = self._turns.get(pool)
        if turns is not None:
            self._call_up(pool, turns)

    def _settle(self, call: Call, now: float, asking: Pool | None = None) -> None:
        """The end of a call. `asking` is the pool that will ask for the next one right away."""
        live = call.live
        scheduler = live.scheduler
        number = call.number
        del live.active[number]
        if call.claimed:
            self._begin(call, now)
        error = call.error
        if error is None:
            live.values[call.task.id] = call.value
            scheduler.completed(number, now)
        elif call.cancelled and isinstance(error, TaskCancelledError):
            scheduler.cancelled(number, now, error)
        else:
            live.errors[call.task.id] = error
            scheduler.failed(number, now, error)
            if scheduler.stopping:
                self._stop_running(live)
        self._moved(live, asking)

    def _begin(self, call: Call, now: float) -> None:
        if call.claimed:
            call.claimed = False
            call.live.scheduler.started(call.number, now)
            self._tell(call.live)

    def _moved(self, live: Live, asking: Pool | None = None) -> None:
        """After the scheduler was told something: lanes with ready tasks get in line, listeners are told, ends end."""
        for lane in live.lanes:
            if lane.ready and lane is not lane.turns.only:
                lane.turns.add(lane)
                if lane.pool is not asking:
                    self._call_up(lane.pool, lane.turns)
        if self.bus.active or live.on_change:
            self._tell(live)
        if not live.scheduler.unfinished:
            self._end(live)
        if self.draining:
            self._quiet.notify_all()

    def _tell(self, live: Live) -> None:
        log = live.log
        if self.bus.active and not log.dirty:
            log.dirty = True
            self.bus.nudge(log)
        if live.on_change:
            self._effects.noted.extend(live.on_change)

    def _end(self, live: Live) -> None:
        if self.lives.pop(live.id, None) is None:
            return
        self._quiet.notify_all()
        if live.inline is not None:
            del self._turns[live.inline]
            self._effects.noted.append(live.inline.wake)
        self._effects.noted.append(live.ended.set)
        self._effects.noted.extend(live.on_end)

    def _stop_running(self, live: Live) -> list[Call]:
        """Tell what runs, cleanup apart, that it should stop."""
        told = [
            call
            for call in live.active.values()
            if not call.cancelled and live.scheduler.rules[call.number] != ALL_FINISHED
        ]
        for call in told:
            call.cancelled = True
            pool = live.pools[live.scheduler.queue_of[call.number]]
            self._effects.noted.append(lambda pool=pool, call=call: pool.tell_cancelled([call]))  # type: ignore[misc]
        return told

    # ---- what executions ask ----------------------------------------------------------------------------------------

    def start(self, live: Live) -> None:
        """Begin an execution."""
        with self._effects:
            if live.inline is not None:
                self._turns[live.inline] = Turns()
                live.inline.bind(self)
            self.lives[live.id] = live
            data = {"workflow_id": live.workflow_id, "execution_id": live.id}
            live.scheduler.start(self._now(), data)
            live.lanes = [
                Lane(live, queue, ready, pool, self._turns[pool])
                for queue, (ready, pool) in enumerate(zip(live.scheduler.ready, live.pools, strict=True))
            ]
            self._moved(live)
        if self.closed:  # it came too late
            self.halt(live)

    def pause(self, live: Live) -> bool:
        """Give out nothing more of this execution."""
        with self._effects:
            done = live.scheduler.pause(self._now())
            self._tell(live)
        return done

    def resume(self, live: Live) -> bool:
        """Go on after a pause."""
        with self._effects:
            done = live.scheduler.resume(self._now())
            self._moved(live)
        return done

    def cancel(self, live: Live, reason: str = "") -> bool:
        """Start nothing more, tell what runs, and give it up after `grace`."""
        with self._effects:
            if not live.scheduler.cancel(self._now(), reason):
                return False
            self._stop_running(live)
            self._moved(live)
            if live.active:
                self.timer.at(self._now() + self.grace, lambda: self.abandon(live))
        return True

    def abandon(self, live: Live) -> None:
        """Give up what was told to stop and hasn't."""
        with self._effects:
            for call in [call for call in live.active.values() if call.cancelled]:
                self._give_up(call)
            self._moved(live)

    def halt(self, live: Live) -> None:
        """End an execution here and now: what runs is given up, cleanup too, and nothing starts any more."""
        with self._effects:
            live.scheduler.cancel(self._now(), "the engine was closed")
            for call in list(live.active.values()):
                self._give_up(call)
            live.scheduler.halt(self._now())
            self._moved(live)

    def _give_up(self, call: Call) -> None:
        live, scheduler = call.live, call.live.scheduler
        call.cancelled = call.abandoned = True
        del live.active[call.number]
        pool = live.pools[scheduler.queue_of[call.number]]
        if call.claimed:
            scheduler.unclaim(call.number, self._now())
        else:
            error = TaskCancelledError(f"task {call.task.id!r} was given up: it didn't stop when it was told to")
            scheduler.cancelled(call.number, self._now(), error)
        if pool.counts_running:
            pool.running -= not call.lent
            self._freed(pool)
        self._effects.noted.append(lambda: pool.abandon([call]))

    def drain(self, timeout: float | None) -> bool:
        """Give out nothing more, and wait until nothing runs. False: it took longer than `timeout` seconds."""
        with self.lock:
            self.draining = True
            return self._wait_until(self._is_quiet, timeout)

    def _wait_until(self, done: Callable[[], bool], timeout: float | None) -> bool:
        """Wait, under the lock, by the engine's own clock. False: it took longer than `timeout` seconds."""
        deadline = None if timeout is None else self._now() + timeout
        while not done():
            left = None if deadline is None else deadline - self._now()
            if left is not None and left <= 0:
                return False
            self.clock.wait(self._quiet, left)
        return True

    def _go_on(self) -> None:
        """Give out work again after a drain."""
        with self._effects:
            self.draining = False
            for pool, turns in self._turns.items():
                self._call_up(pool, turns)

    def _is_quiet(self) -> bool:
        return not any(live.active for live in self.lives.values())

    def stop(self) -> None:
        """Drain for `grace`, cancel the rest and give it another `grace`, give up what is deaf, give cleanup behind it
        a last `grace`, and end everything that is left.
        """
        try:
            if self.lives:
                self.drain(self.grace)
                for live in list(self.lives.values()):
                    self.cancel(live, "the engine was closed")
                self._go_on()  # for cleanup
                with self.lock:
                    self._wait_until(lambda: not self.lives, self.grace)
                for live in list(self.lives.values()):
                    self.abandon(live)
                with self.lock:
                    self._wait_until(lambda: not self.lives, self.grace)
        finally:
            with self.lock:
                self.draining = self.closed = True
            for live in list(self.lives.values()):
                self.halt(live)
            self.timer.close()

    def report(self, call: Call, data: dict[str, Any]) -> None:
        """Progress of a running call."""
        with self._effects:
            if not call.abandoned:
                self._begin(call, self._now())
                if call.live.scheduler.progressed(call.number, self._now(), data):
                    self._tell(call.live)
