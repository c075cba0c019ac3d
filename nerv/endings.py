"""`Endings`: what becomes of a task whose call didn't simply return: another attempt, its fallback, or its failure.

A part of the engine; everything here happens under its lock. It decides by the task's policies and what the scheduler
says, and keeps the results and errors in step with the events: a result is there before its TASK_COMPLETED is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from nerv.caching.desk import Compute, Flight, Hit
from nerv.caching.stores import MISS
from nerv.calls import Call
from nerv.errands import CompensationCall, FallbackCall, LookupCall, ThenCall
from nerv.errors import FatalError, TaskCancelledError, TaskTimeoutError
from nerv.journal.base import Fact
from nerv.live import Live
from nerv.lookups import Lookups
from nerv.recording import STOPPING
from nerv.scheduler import PENDING
from nerv.states import LOOKUP
from nerv.waits import Reason

if TYPE_CHECKING:
    from nerv.steering import Steering


class Endings:
    """Takes over how calls ended.

    Args:
        random: draws the jitter of retries.
        later: has something done once the lock has been released.

    Attributes:
        steering: who takes over calls that have returned an outcome.
    """

    def __init__(self, random: Random, later: Callable[[Callable[[], Any]], None]) -> None:
        self.random = random
        self.steering: Steering
        self._later = later

    def settle(self, call: Call, now: float) -> None:
        """A call has ended, and not as an attempt that returned."""
        live, number, error = call.live, call.number, call.error
        if isinstance(call, ThenCall):
            live.scheduler.errands.pop(number, None)
        if isinstance(call, CompensationCall):
            self._compensated(call, now)
        elif isinstance(call, FallbackCall):
            self._fell_back(call, now)
        elif isinstance(call, LookupCall):
            self._looked_up(call, now)
        elif call.cancelled and isinstance(error, TaskCancelledError):
            live.scheduler.cancelled(number, now, error)
        elif error is not None and call.unstorable:
            self._fail(live, number, error, now)
        elif error is not None:
            self.failed(live, number, error, now, retryable=call.retryable)
        else:
            self.steering.settle(call, now)

    def failed(self, live: Live, number: int, error: BaseException, now: float, *, retryable: bool) -> None:
        """A task's attempt failed, or was refused."""
        scheduler = live.scheduler
        terms = None if scheduler.waits is None else scheduler.waits.terms.get(number)
        if terms is None or scheduler.gives_up(number):
            self._fail(live, number, error, now)
        elif retryable and terms.retry is not None and scheduler.failures(number) < terms.attempts:
            delay = terms.retry.delay(scheduler.failures(number), self.random)
            scheduler.retrying(number, now, error, now + delay)
        elif terms.fallback is UNSET or not isinstance(error, Exception) or isinstance(error, FatalError):
            self._fail(live, number, error, now)
        else:
            if scheduler.state[number] == PENDING:
                scheduler.waiting(number, now, {"reason": "fallback"})
            live.setbacks[number] = error
            if callable(terms.fallback):
                scheduler.fall_back(number, now, live.fallback_queue(number))
            else:
                assert scheduler.waits is not None
                scheduler.waits.left(number, now, ok=False)  # before `completed` takes it for a success
                self._complete(live, number, terms.fallback, now)

    def no_fallback(self, live: Live, number: int, now: float) -> None:
        """A fallback isn't called: the execution is stopping."""
        del live.scheduler.errands[number]
        self._fail(live, number, live.setbacks.pop(number), now)

    def _complete(self, live: Live, number: int, value: Any, now: float) -> None:
        live.values[live.tasks[number].id] = value
        error = live.setbacks.pop(number)
        live.scheduler.completed(number, now, {"fallback": True, "error": error})

    def _fail(self, live: Live, number: int, error: BaseException, now: float) -> None:
        scheduler = live.scheduler
        families = scheduler.families
        is_taken_on = families is not None and families.takes_on(number) and not isinstance(error, FatalError)
        (live.taken_on if is_taken_on else live.errors)[live.tasks[number].id] = error
        scheduler.failed(number, now, error)
        if isinstance(error, FatalError) and not scheduler.stopping:
            scheduler.stop(now)
            if live.kept is not None:
                live.kept.facts.append(Fact(live.id, STOPPING, True))  # noqa: FBT003  (a fact's value)

    def _fell_back(self, call: FallbackCall, now: float) -> None:
        live, number = call.live, call.number
        del live.scheduler.errands[number]
        if call.cancelled:
            self._fail(live, number, live.setbacks.pop(number), now)
        elif call.error is None:
            _file_encoded(call)
            self._complete(live, number, call.value, now)
        else:
            call.error.__cause__ = live.setbacks.pop(number)
            self._fail(live, number, call.error, now)

    def _compensated(self, call: CompensationCall, now: float) -> None:
        live, number, error = call.live, call.number, call.error
        policy = call.task.retry_policy
        if error is not None and call.retryable and call.attempt < policy.maximum_attempts:  # type: ignore[union-attr]
            delay = policy.delay(call.attempt, self.random)  # type: ignore[union-attr]
            live.scheduler.undo_again(number, now, now + delay)
            return
        if error is not None:
            error.add_note(f"raised by the compensation of task {call.task.id!r}")
            live.undo_errors[call.task.id] = error
        live.scheduler.undone(number, now, error)

    # ---- the cache (nerv/lookups.py) --------------------------------------------------------------------------------

    def _looked_up(self, call: LookupCall, now: float) -> None:
        live, number, scheduler = call.live, call.number, call.live.scheduler
        lookups, answer = _lookups(live), call.value
        del scheduler.errands[number]
        lookups.looked(number)
        if call.abandoned:
            self._later(call.let_go)
            scheduler.unclaim(number, now)
        elif call.error is not None:
            scheduler.claimed.discard(number)
            if call.unstorable:
                self._fail(live, number, call.error, now)
            else:
                self.failed(live, number, call.error, now, retryable=False)
        elif isinstance(answer, Hit):
            scheduler.claimed.discard(number)
            _file_encoded(call)
            self._reuse(live, number, answer.value, now)
        elif isinstance(answer, Compute):
            lookups.flights[number] = answer.flight
            scheduler.unclaim(number, now)
            self._not_alone(live, number, now)
        elif scheduler.gives_up(number):
            scheduler.unclaim(number, now)
        else:
            scheduler.claimed.discard(number)
            self._wait(live, number, answer.flight, now)

    def _not_alone(self, live: Live, number: int, now: float) -> None:
        """A task holds what others may wait for: it mustn't if it doesn't start."""
        scheduler = live.scheduler
        assert scheduler.waits is not None
        if scheduler.has_ended(number):
            scheduler.waits.left(number, now, ok=None)
        elif scheduler.waits.is_paused:
            scheduler.waits.pause()

    def _wait(self, live: Live, number: int, flight: Flight, now: float) -> None:
        assert live.scheduler.waits is not None
        _lookups(live).awaited[number] = flight
        live.scheduler.waits.reasons[number] = Reason("cache", now, None)
        live.scheduler.waiting(number, now, {"reason": "cache"})
        self._later(partial(flight.when_landed, partial(live.engine.landed, live, number, flight)))

    def landed(self, live: Live, number: int, flight: Flight, now: float) -> bool:
        """A flight has landed that a task waited for. False: it doesn't any more."""
        lookups = _lookups(live)
        if lookups.awaited.get(number) is not flight:
            return False
        del lookups.awaited[number]
        if flight.value is MISS:
            lookups.again(number)
            live.scheduler.release(number)
        else:
            self._reuse(live, number, flight.value, now)
        return True

    @staticmethod
    def _reuse(live: Live, number: int, value: Any, now: float) -> None:
        live.values[live.tasks[number].id] = value
        live.scheduler.completed(number, now, {"cached": True})

    # ---- errands ----------------------------------------------------------------------------------------------------

    def errand(self, live: Live, number: int) -> Call:
        """The call for an errand that was taken."""
        task = live.tasks[number]
        if live.scheduler.errands[number] == LOOKUP:
            return LookupCall(live, number, task, live.scheduler.attempts[number])
        if number in live.setbacks:
            return FallbackCall(live, number, task, live.scheduler.attempts[number], live.setbacks[number])
        saga = live.scheduler.saga
        assert saga is not None
        saga.tries += 1
        return CompensationCall(live, number, task, saga.tries)

    @staticmethod
    def overdue(call: Call) -> TaskTimeoutError:
        """What a call fails with that has run for too long."""
        what = f"task {call.task.id!r}" if call.is_attempt else f"the compensation of task {call.task.id!r}"
        return TaskTimeoutError(
            f"{what} ran for longer than its timeout of {call.timeout:g} s (attempt {call.attempt}) and was given up"
        )


def _file_encoded(call: Call) -> None:
    """What a call made is the task's result: the journal may have it."""
    if call.encoded and call.live.kept is not None:
        call.live.kept.encoded[call.number] = call.encoded[0]


def _lookups(live: Live) -> Lookups:
    waits = live.scheduler.waits
    assert waits is not None
    assert waits.lookups is not None
    return waits.lookups
