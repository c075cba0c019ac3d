"""The engine: drives schedulers with pools, a clock and a lock.

Theory of operation. There is one lock. Whoever has something to tell (a worker that finished a call, a user who
cancels, the timer) takes it, tells the execution's scheduler, puts lanes that have ready tasks in line, and notes what
must be done outside the lock (`effects`: wake a worker, tell the bus, set an event), which it does after it has let go.
User code never runs under the lock, and nothing that can block is done under it.

What pools ask is in nerv/dispatch.py and nerv/batching.py, what becomes of calls that failed in nerv/endings.py; here
is what executions ask, and what time brings. An execution has one alarm: the earliest moment at which one of its calls
has run for too long, a task's retry is due, or the whole has taken too long. Nothing is armed for a plain task.

The bus and the projector aren't told of events one by one: they read each execution's log behind their own cursors. The
bus is nudged once when a log has grown, if anybody listens at all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import inf
from typing import Any, Final

from nerv.batching import Batching
from nerv.bus import EventBus
from nerv.caching.desk import Desk, Flight
from nerv.caching.stores import MemoryStore
from nerv.calls import Call
from nerv.clock import Clock
from nerv.errors import NervError, TaskCancelledError, TaskTimeoutError
from nerv.events import EventType
from nerv.forked import refuse_elsewhere
from nerv.journal.deliveries import DispatchHook
from nerv.lines import Lines
from nerv.live import Live
from nerv.pools.base import Pool
from nerv.recording import CANCELLING, FAULT, LEFT
from nerv.statuses import WorkflowStatus
from nerv.stopping import tell_to_stop
from nerv.turns import Lane, Turns

ABANDONED_LIMIT: Final = 256
"""Threads of one pool that may hang in calls that were given up. Each holds some megabytes of address space, and what
its function holds; a program with so many of them is broken, and says so."""


class Engine(Batching):
    """Runs executions.

    Args:
        clock: the time.
        bus: who is told that there are events.
        grace: seconds that cancelled work is given before it is abandoned.
        lines: the limits that tasks share; default: none.
        desk: where tasks ask for results that were kept; default: one that keeps them in memory.
    """

    def __init__(
        self, clock: Clock, bus: EventBus, grace: float, lines: Lines | None = None, *, desk: Desk | None = None
    ) -> None:
        super().__init__(clock, bus, Lines({}) if lines is None else lines)
        self.grace = grace
        self.hooks: tuple[DispatchHook, ...] = ()  # of every wire
        self.desk = Desk(MemoryStore(), clock.time) if desk is None else desk
        self.closed = False
        self._process = os.getpid()

    def adopt(self, pool: Pool) -> None:
        """Take a pool into service."""
        self._turns[pool] = Turns()
        pool.bind(self)

    # ---- what executions ask ----------------------------------------------------------------------------------------

    def start(
        self,
        live: Live,
        reused: Sequence[int] = (),
        facts: Mapping[str, Any] | None = None,
        then: Callable[[], None] = lambda: None,
    ) -> None:
        """Begin an execution. `reused` tasks have their results already; `facts` go into WORKFLOW_STARTED; `then` is
        called before anything can start (lock held).
        """
        data = {"workflow_id": live.workflow_id, "execution_id": live.id, **(facts or {})}

        def begin(now: float) -> None:
            live.scheduler.start(now, data, reused)
            then()

        self._begin_with(live, begin)

    def resume_recovered(self, live: Live, go_on: Callable[[], None]) -> None:
        """Go on with an execution from the journal; `go_on` has its scheduler do so (lock held)."""
        self._begin_with(live, lambda _: go_on())

    def _begin_with(self, live: Live, begin: Callable[[float], None]) -> None:
        with self.effects:
            if live.inline is not None:
                self._turns[live.inline] = Turns()
                live.inline.bind(self)
            self.lives[live.id] = live
            now = self._now()
            if live.placement is not None:
                live.placement.begin()
            begin(now)
            if live.workflow.timeout is not None:
                live.deadline = live.scheduler.records[0][2] + live.workflow.timeout
                self._arm(live, live.deadline)
            live.lanes = [
                Lane(live, queue, ready, pool, self._turns[pool])
                for queue, (ready, pool) in enumerate(zip(live.scheduler.ready, live.pools, strict=False))
                if live.placement is None or queue != live.placement.held
            ]
            live.lane = live.lanes[0] if len(live.lanes) == 1 and live.placement is None else None
            self.moved(live)
        if self.closed:  # it came too late
            self.halt(live)

    def pause(self, live: Live) -> bool:
        """Give out nothing more of this execution."""
        with self.effects:
            done = live.scheduler.pause(self._now())
            self._tell(live)
        return done

    def resume(self, live: Live) -> bool:
        """Go on after a pause."""
        with self.effects:
            done = live.scheduler.resume(self._now())
            self.moved(live)
        return done

    def cancel(self, live: Live, reason: str = "") -> bool:
        """Start nothing more, tell what runs, and give it up after `grace`."""
        with self.effects:
            if not live.scheduler.cancel(self._now(), reason):
                return False
            if self.recorder is not None:
                self.recorder.note(live, CANCELLING, reason)
            self.stop_running(live)
            self.moved(live)
            if live.active:
                self.timer.at(self._now() + self.grace, lambda: self.abandon(live))
        return True

    def abandon(self, live: Live) -> None:
        """Give up what was told to stop and hasn't."""
        with self.effects:
            for call in [call for call in live.active.values() if call.cancelled]:
                self._give_up(call)
            self.moved(live)

    def halt(self, live: Live) -> None:
        """End an execution here and now: what runs is given up, cleanup too, and nothing starts any more."""
        with self.effects:
            live.scheduler.cancel(self._now(), "the engine was closed")
            for call in list(live.active.values()):
                self._give_up(call)
            live.scheduler.halt(self._now())
            self.moved(live)

    def landed(self, live: Live, number: int, flight: Flight) -> None:
        """What a task waited for was computed, or wasn't, by another."""
        with self.effects:
            if live.id in self.lives and self.endings.landed(live, number, flight, self._now()):
                self.moved(live)

    def _give_up(self, call: Call) -> None:
        """Leave a call behind that didn't stop when it was told to."""
        call.cancelled = True
        self._leave_behind(call)
        if call.claimed:
            call.live.scheduler.unclaim(call.number, self._now())
        else:
            call.error = TaskCancelledError(f"task {call.task.id!r} was given up: it didn't stop when it was told to")
            self.endings.settle(call, self._now())

    def _leave_behind(self, call: Call) -> None:
        """Whatever a call still brings is ignored, and its place is free."""
        call.abandoned = True
        del call.live.active[call.number]
        pool = call.live.pool_of(call)
        if pool.counts_running:
            pool.running -= not call.lent
            self._freed(pool)
        self.effects.noted.append(lambda: pool.abandon([call]))

    # ---- tasks that steer (nerv/steering.py) ------------------------------------------------------------------------

    def signal(self, live: Live, name: str, value: Any) -> bool:
        """A signal for whoever waits for it, now or later. False: one of that name had come before.

        Raises:
            NervError: the execution has ended: nobody can be waiting for it.
        """
        with self.effects:
            status = live.scheduler.status
            if status.is_final or live.id not in self.lives:
                text = f"execution {live.id!r} is {status.name}: nobody can be waiting for the signal {name!r} any more"
                raise NervError(text)
            first = live.scheduler.has_suspensions(live.log.epoch).signalled(name, value, self._now())
            self.moved(live)
        return first

    def now(self) -> float:
        """The moment, on the engine's clock."""
        return self._now()

    def turns_of(self, pool: Pool) -> Turns:
        """Who has work for a pool."""
        return self._turns[pool]

    def stop_calls(self, live: Live, numbers: Sequence[int]) -> None:
        """Tell these running tasks to stop, and give them up after `grace` (lock held)."""
        running = [live.active[number] for number in numbers if number in live.active]
        calls = tell_to_stop(running, self.effects)
        if calls:
            self.timer.at(self._now() + self.grace, lambda: self._abandon(live, calls))

    def _abandon(self, live: Live, calls: Sequence[Call]) -> None:
        with self.effects:
            for call in calls:
                if live.active.get(call.number) is call:
                    self._give_up(call)
            self.moved(live)

    def leave_behind(self, call: Call) -> None:
        """Whatever a call still brings is ignored, and its place is free (lock held)."""
        self._leave_behind(call)

    # ---- what the recorder asks -------------------------------------------------------------------------------------

    def fault(self, live: Live, error: BaseException) -> None:
        """End an execution that can't be kept any more (lock held)."""
        self._fail(live, error, self._now())
        self.moved(live)

    def leave(self, live: Live) -> None:
        """Let go of a kept execution, as it is: what runs is given up, nothing more is recorded, it can be resumed."""
        with self.effects:
            for call in list(live.active.values()):
                call.cancelled = True
                self._leave_behind(call)
            if self.lives.pop(live.id, None) is None:
                return
            live.scheduler.status = WorkflowStatus.INTERRUPTED
            if self.recorder is not None:
                self.recorder.note(live, LEFT, len(live.log))
            if live.alarm is not None:
                live.alarm.cancel()
            for ready in live.scheduler.ready:
                ready.clear()
            if live.inline is not None:
                del self._turns[live.inline]
                self.effects.noted.append(live.inline.wake)
            self.effects.noted += [live.ended.set, *live.on_end, *live.on_change]
            self._quiet.notify_all()

    # ---- time -------------------------------------------------------------------------------------------------------

    def _ring(self, live: Live) -> None:
        """The moment has come for something: calls have run for too long, tasks have waited long enough."""
        with self.effects:
            now = self._now()
            live.alarm_at, live.alarm = inf, None
            if live.id not in self.lives:
                return
            overdue = [call for call in live.active.values() if call.deadline is not None and call.deadline <= now]
            for call in overdue:
                self._overdue(call, now)
            if now >= live.deadline:
                live.deadline = inf
                text = f"workflow {live.workflow.name!r} ran for longer than its timeout of {live.workflow.timeout:g} s"
                self._fail(live, TaskTimeoutError(text), now)
            for part in (live.scheduler.waits, live.scheduler.suspensions):
                if part is not None:
                    part.wake(now)
            deadlines = [call.deadline for call in live.active.values() if call.deadline is not None]
            self._arm(live, min([live.deadline, *deadlines]))
            self.moved(live)

    def _overdue(self, call: Call, now: float) -> None:
        """A call has run for longer than its timeout."""
        pool = call.live.pool_of(call)
        call.error = self.endings.overdue(call)
        self._leave_behind(call)
        call.judge()  # about timeouts no code of the user's is asked
        self.endings.settle(call, now)
        if call.live.scheduler.stopping:
            self.stop_running(call.live)
        if pool.left_behind >= ABANDONED_LIMIT:
            self._fail(call.live, NervError(_too_many(pool, call)), now)

    def _fail(self, live: Live, fault: BaseException, now: float) -> None:
        """End an execution with an error of its own: what runs is told, and given up after `grace`."""
        if live.scheduler.fail(now, fault):
            if self.recorder is not None:
                self.recorder.note(live, FAULT, fault)
            self.stop_running(live)
            if live.active:
                self.timer.at(now + self.grace, lambda: self.abandon(live))

    # ---- adaptation -------------------------------------------------------------------------------------------------

    def reprioritize(self, live: Live, number: int, priority: int) -> bool:
        """Change a task's priority. False: it has ended."""
        with self.effects:
            if live.scheduler.status is WorkflowStatus.INTERRUPTED:
                return False
            done = live.scheduler.reprioritize(number, self._now(), priority)
            self.moved(live)
        return done

    def resize(self, pool: Pool, workers: int) -> None:
        """Change how many calls may run at once in a pool; what runs goes on to its end."""
        with self.effects:
            before, pool.limit = pool.limit, workers
            data = {"pool": pool.name, "before": before, "workers": workers}
            self.effects.noted.append(partial(self.bus.announce, EventType.POOL_RESIZED, data=data))
            self._freed(pool)

    # ---- the end ----------------------------------------------------------------------------------------------------

    def drain(self, timeout: float | None) -> bool:
        """Give out nothing more, and wait until nothing runs. False: it took longer than `timeout` seconds.

        Raises:
            NervError: this process was forked from the one that runs it.
        """
        refuse_elsewhere(self._process, "this manager")
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
        with self.effects:
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
                    if live.kept is not None:
                        self.leave(live)
                    else:
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
        with self.effects:
            if not call.abandoned:
                self._begin(call, self._now())
                if call.live.scheduler.progressed(call.number, self._now(), data):
                    self._tell(call.live)


def _too_many(pool: Pool, call: Call) -> str:
    return (
        f"{pool.left_behind} threads of pool {pool.name!r} hang in calls that ran for longer than their timeout, the "
        f"latest of task {call.task.id!r}: threads can't be stopped from outside; use pool='process', where a timeout "
        "kills, or give the function a timeout of its own"
    )
