"""`Dispatch`: the engine's side towards pools: who has finished what is told, and who is free gets the next call.

Theory of operation: see nerv/engine.py. A task's whole way is `advance`: a worker hands over the call it finished and
is given the next, in one critical section. Pools pull; nobody pushes a call on anybody. When work is ready and its pool
isn't full, `call_up` tells the pool, which decides by itself whom to wake and when (see nerv/pools/thread.py).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from random import Random
from typing import Any

from nerv.bus import EventBus
from nerv.calls import Call
from nerv.clock import Clock
from nerv.effects import Effects
from nerv.endings import Endings
from nerv.lines import Lines
from nerv.live import Live
from nerv.loans import Loans
from nerv.openings import Openings
from nerv.outcomes import STEERING
from nerv.pools.base import Effect, Pool
from nerv.recording import Recorder
from nerv.scheduler import ALL_FINISHED
from nerv.states import THEN, TRANSFER
from nerv.statuses import WorkflowStatus
from nerv.steering import Steering
from nerv.stopping import tell_to_stop
from nerv.turns import Turns


class Dispatch:
    """Gives out calls and takes them back (`nerv.pools.base.Source`).

    Args:
        clock: the time.
        bus: who is told that there are events.
        lines: the limits that tasks share.
    """

    def __init__(self, clock: Clock, bus: EventBus, lines: Lines) -> None:
        self.clock = clock
        self.bus = bus
        self.lines = lines
        self.timer = clock.alarms()
        self.lives: dict[str, Live] = {}  # executions that haven't ended
        self.recorder: Recorder | None = None
        self.draining = False
        self._now = clock.monotonic
        self._turns: dict[Pool, Turns] = {}
        self.effects = Effects(self._sort_out)  # the lock, and what is to be done when it is released
        self.lock = self.effects.lock
        self._quiet = threading.Condition(self.lock)  # told when an execution has ended; while draining, also a call
        self._loans = Loans(self.effects)
        self.endings = Endings(Random(), self.call_later)  # noqa: S311  jitter is no secret
        self.steering = self.endings.steering = Steering(self)  # type: ignore[arg-type]  # always an Engine
        self._openings = Openings(self)

    # ---- what pools ask (nerv.pools.base.Source) --------------------------------------------------------------------

    def advance(self, pool: Pool, finished: Call | None = None, worker: Any = None) -> Call | None:
        """Take over how `finished` ended, and give the best ready call for the pool: the one step of a task."""
        if finished is not None and (
            finished.error is not None or finished.live.attentive or id(type(finished.value)) in STEERING
        ):
            self._receive(finished)
        commits = False
        self.lock.acquire()  # `with` costs half as much again
        try:
            now = self._now()
            call = None if finished is None else self._relay(finished, pool, now)
            if call is None:
                call, commits = self._exchange(pool, finished, worker, now)
            noted: Sequence[Effect] = ()
            if self.effects.noted:  # it is taken away: others note as soon as the lock is free
                noted, self.effects.noted = self.effects.noted, []
        finally:
            self.lock.release()
        for effect in noted:
            effect()
        return self._again(pool, worker) if commits else call

    def _exchange(self, pool: Pool, finished: Call | None, worker: Any, now: float) -> tuple[Call | None, bool]:
        """`advance` under the lock: the next call, or whether something has to be committed before there may be one."""
        if finished is not None:
            if finished.abandoned:
                return None, False
            pool.running -= 1
            self._settle(finished, now, pool)
        elif worker is not None:
            pool.arrived(worker)
        call, commits = self._take(pool, now), False
        if call is None:
            commits = finished is not None and self.recorder is not None and self.recorder.is_helped_by(pool)
            if not commits:
                pool.rested(worker)
        if self.lines.news or (self.recorder is not None and not commits):
            self._sort_out()
        return call, commits

    def _relay(self, done: Call, pool: Pool, now: float) -> Call | None:
        """The commonest step, in one piece: a plain task has completed, and the next of the same execution starts.

        None: it isn't that, and nothing has been done.
        """
        live = done.live
        lane, scheduler = live.lane, live.scheduler
        if (
            lane is None
            or lane.turns.only is not lane
            or not lane.ready
            or done.error is not None
            or done.odd
            or done.abandoned
            or scheduler.status is not WorkflowStatus.RUNNING
            or not scheduler.is_plain
            or pool.running > pool.limit
            or self.recorder is not None
            or self.draining
            or self._loans.wanted
        ):
            return None
        live.values[done.task.id] = done.value
        number = scheduler.relay(done.number, lane.queue, now)
        del live.active[done.number]
        call = live.active[number] = Call(live, number, live.tasks[number], scheduler.attempts[number])
        if call.task.timeout is not None:
            self._limit(call, now)
        if live.on_change or (self.bus.active and not live.log.dirty):
            self._tell(live)
        if not lane.ready:
            lane.turns.drop(lane)
        elif pool.running < pool.limit and not pool.attended:
            self._call_up(pool, lane.turns)
        return call

    def _receive(self, call: Call) -> None:
        """What is done with an outcome before the lock is taken: it may take its time."""
        if call.error is not None or call.task.cache is not None or id(type(call.value)) in STEERING:
            call.conclude()
        if self.recorder is not None and call.error is None:
            self.recorder.keep(call)

    def _again(self, pool: Pool, worker: Any) -> Call | None:
        """There was nothing, but perhaps there is when what has happened is in the journal: write it, look again."""
        assert self.recorder is not None
        self.recorder.commit(pool)
        with self.effects:
            call = self._take(pool, self._now())
            if call is None:
                pool.rested(worker)
        return call

    def begun(self, call: Call) -> None:
        """The function of a call is being called now, in a pool that `tells_start`."""
        with self.effects:
            if not call.abandoned:
                self._limit(call, self._now(), is_begun=True)

    def call_later(self, effect: Effect) -> None:
        """Have `effect` run when the lock has been released (lock held)."""
        self.effects.noted.append(effect)

    def waiting(self, pool: Pool) -> bool:
        """Whether calls are ready for the pool."""
        return bool(self._turns[pool]) and not self.draining

    def lend(self, pool: Pool, call: Call) -> None:
        """A running call waits for something: its slot is free meanwhile."""
        with self.effects:
            if self._loans.lend(pool, call):
                self._freed(pool)

    def reclaim(self, pool: Pool, call: Call, back: Effect) -> bool:
        """The call that lent its slot goes on: True, at once; else `back` is called when it has a slot again."""
        with self.lock:
            return self._loans.reclaim(pool, call, back)

    def recall(self, pool: Pool, call: Call) -> None:
        """A call that is about to end lends its slot no more."""
        with self.effects:
            self._loans.recall(pool, call)

    # ---- under the lock ---------------------------------------------------------------------------------------------

    def _take(self, pool: Pool, now: float) -> Call | None:  # noqa: C901  the hot path, in one piece
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
                self._tell(live)  # that they wait, if they do
                continue
            if scheduler.errands and number in scheduler.errands:
                call = self._errand(live, number, now)
                if call is None:
                    continue
            else:
                call = live.active[number] = Call(live, number, live.tasks[number], scheduler.attempts[number])
            if call.task.timeout is not None:
                self._limit(call, now)
            if lane is not turns.only or not lane.ready:
                turns.served(lane)
            pool.running += 1
            if self.bus.active or live.on_change or self.recorder is not None:
                self._tell(live, started=True)
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
        if (turns := self._turns.get(pool)) is not None:
            self._call_up(pool, turns)

    def _settle(self, call: Call, now: float, asking: Pool | None = None) -> None:
        """The end of a call. `asking` is the pool that will ask for the next one right away."""
        live, scheduler, number = call.live, call.live.scheduler, call.number
        del live.active[number]
        if call.error is None and not call.odd:
            live.values[call.task.id] = call.value
            scheduler.completed(number, now)
        else:
            self._settle_odd(call, now)
        self.moved(live, asking)

    def _settle_odd(self, call: Call, now: float) -> None:
        live, scheduler, number = call.live, call.live.scheduler, call.number
        if call.claimed:
            self._begin(call, now)
        if call.error is None and call.is_attempt:
            live.values[call.task.id] = call.value
            if call.encoded:
                live.kept.encoded[number] = call.encoded[0]  # type: ignore[union-attr]  # else nobody encodes it
            scheduler.completed(number, now, call.facts)
        elif call.comes_back and live.placement is not None:
            live.placement.bring_back(call)
        else:
            self.endings.settle(call, now)
            if scheduler.stopping:
                self.stop_running(live)

    def _errand(self, live: Live, number: int, now: float) -> Call | None:
        """The call for an errand that was taken; None if it has been decided otherwise meanwhile."""
        scheduler = live.scheduler
        if scheduler.errands[number] == TRANSFER and live.placement is not None:
            return live.placement.transferred(number, now)
        if scheduler.errands[number] == THEN:
            return self.steering.errand(live, number, now)
        if number in live.setbacks and scheduler.gives_up(number):
            self.endings.no_fallback(live, number, now)
            self.moved(live)
            return None
        call = live.active[number] = self.endings.errand(live, number)
        return call

    def _limit(self, call: Call, now: float, *, is_begun: bool = False) -> None:
        """A call was taken: the time that it may take begins, if its pool doesn't say when."""
        if call.timeout is not None and (is_begun or not call.live.pool_of(call).tells_start):
            call.deadline = now + call.timeout
            self._arm(call.live, call.deadline)

    def _arm(self, live: Live, moment: float) -> None:
        """Have the timer ring for an execution, at this moment at the latest."""
        if moment < live.alarm_at:
            live.disarm()
            live.alarm_at = moment
            live.alarm = self.timer.at(moment, lambda: self._ring(live))

    def _ring(self, live: Live) -> None:
        """The moment has come for something in an execution."""
        raise NotImplementedError

    def _sort_out(self) -> None:
        """Look into what is new with the lines, and have written what is to be."""
        if self.lines.news:
            self._openings.sort()
        if self.recorder is not None and self.recorder.wanted:
            self.recorder.rouse()

    def _begin(self, call: Call, now: float) -> None:
        if call.claimed:
            call.claimed = False
            call.live.scheduler.started(call.number, now)
            self._tell(call.live)

    def moved(self, live: Live, asking: Pool | None = None) -> None:
        """After the scheduler was told something: lanes with ready tasks get in line, listeners are told, ends end."""
        if not live.scheduler.is_plain:
            self._look_after(live)
        for lane in live.lanes:
            if lane.ready and lane is not lane.turns.only:
                lane.turns.add(lane)
                if lane.pool is not asking:
                    self._call_up(lane.pool, lane.turns)
        if self.bus.active or live.on_change or self.recorder is not None:
            self._tell(live)
        if not live.scheduler.unfinished and live.scheduler.status.is_final:
            self._end(live)
        if self.draining:
            self._quiet.notify_all()

    def _look_after(self, live: Live) -> None:
        """What has come for tasks that steer, and when the next that waits is due."""
        if live.scheduler.news:
            self.steering.act(live)
        for part in (live.scheduler.waits, live.scheduler.suspensions):
            if part is not None and part.next_due < live.alarm_at:
                self._arm(live, part.next_due)

    def _tell(self, live: Live, *, started: bool = False) -> None:
        log = live.log
        if self.bus.active and not log.dirty:
            log.dirty = True
            self.bus.nudge(log)
        if self.recorder is not None:
            self.recorder.mark(live, urgent=not started)
        if live.on_change:
            self.effects.noted.extend(live.on_change)

    def _end(self, live: Live) -> None:
        if self.lives.pop(live.id, None) is None:
            return
        self._quiet.notify_all()
        live.disarm()
        self._turns.pop(live.inline, None)
        release = live.release()
        self.effects.noted += release if self.recorder is None else self.recorder.ended(live, release)

    def stop_running(self, live: Live) -> None:
        """Tell what runs, cleanup apart, that it should stop."""
        rules = live.scheduler.rules
        tell_to_stop([call for call in live.active.values() if rules[call.number] != ALL_FINISHED], self.effects)
