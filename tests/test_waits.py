"""What the tasks of one execution wait for, on a scheduler alone: what they may have, and what others may instead."""

from __future__ import annotations

from math import inf

import pytest

from nerv import CircuitBreaker, RateLimit, RetryPolicy
from nerv.caching.desk import Flight
from nerv.eventlog import CODES
from nerv.lines import BreakerLine, Lines, RateLine
from nerv.lookups import Lookups
from nerv.states import COMPENSATION
from tests.crowd import Crowd

BOOM = ValueError("boom")


def with_gpus(amount):
    """An engine's lines, and the one for its `amount` gpus."""
    lines = Lines({"gpu": amount})
    return lines, lines.resources["gpu"]


def with_caches(tasks, *, lines=None, asks=None):
    """An execution whose tasks, but for the last, look for their results first, in queue 1."""
    lookups = Lookups(dict.fromkeys(range(tasks - 1), 1), [0] * tasks)
    one = Crowd(lines or Lines({}), *(asks or [()] * tasks), queues=lookups._queue_of, lookups=lookups)
    return one, lookups


def computes(one, number):
    """A task was taken to look, and has found nothing: it is ready to compute for all."""
    lookups = one.waits.lookups
    del one.scheduler.errands[number]
    lookups.looked(number)
    flight = lookups.flights[number] = Flight(None, str(number), None)
    one.scheduler.unclaim(number, 1.0)
    return flight


# ---- what may start --------------------------------------------------------------------------------------------------


def test_who_finds_a_line_shut_makes_way_for_the_next_of_its_queue():
    lines, gpu = with_gpus(1)
    one = Crowd(lines, [(gpu, 1)], [(gpu, 1)], (), None, [(gpu, 1)])
    assert [one.take() for _ in range(4)] == [0, 2, 3, -1]
    assert (one.parked, one.ready(), one.status(1), one.status(3)) == ([1, 4], [], "WAITING", "RUNNING")
    assert one.waits.owner is one


def test_all_lines_are_passed_together_or_none():
    lines = Lines({"gpu": 1, "disk": 1})
    gpu, disk = lines.resources.values()
    one = Crowd(lines, [(disk, 1)], [(gpu, 1), (disk, 1)], [(gpu, 1)])
    assert [one.take() for _ in range(3)] == [0, 2, -1]
    assert one.parked == [1]
    one.complete(2)
    assert (gpu.room(2.0), disk.room(2.0)) == (1, 0)
    one.complete(0)
    lines.offer(2.0)
    assert one.take() == 1
    assert (gpu.room(2.0), disk.room(2.0)) == (0, 0)


def test_an_errand_passes_no_line():
    lines, gpu = with_gpus(1)
    one, other = Crowd(lines, *[[(gpu, 1)]] * 2), Crowd(lines, [(gpu, 1)])
    assert one.take() == 0
    one.scheduler.fall_back(0, 2.0, 0)
    assert other.take() == 0
    assert (one.take(), one.parked) == (0, [])
    assert (one.take(), one.parked) == (-1, [1])


def test_who_passes_where_nobody_waits_is_no_news():
    lines, gpu = with_gpus(1)
    holds = Crowd(lines, *[[(gpu, 1)]] * 2)
    assert (holds.take(), holds.take()) == (0, -1)
    lines.news = False
    limit = RateLine(RateLimit(1, 10), lines)
    one = Crowd(lines, [(limit, 1)])
    assert one.take() == 0
    assert (lines.news, limit.opening) == (False, inf)


@pytest.mark.parametrize("moment", [9.5, 10.0])
def test_a_line_is_open_from_its_moment_on(moment):
    lines = Lines({})
    limit = RateLine(RateLimit(1, 10), lines)
    first, second = Crowd(lines, [(limit, 1)]), Crowd(lines, [(limit, 1)])
    assert first.take(now=0.0) == 0
    assert second.take(now=moment) == (0 if moment == 10.0 else -1)


def test_who_waits_says_for_what_since_when_and_until_when():
    lines = Lines({"gpu": 2})
    gpu, limit = lines.resources["gpu"], RateLine(RateLimit(1, 10, name="api"), lines)
    one = Crowd(lines, [(limit, 1)], [(limit, 1)], [(gpu, 1)], [(gpu, 2)], [(gpu, 1)])
    assert [one.take(now=0.0), one.take(now=4.0), one.take(now=5.0)] == [0, 2, -1]
    assert one.waits.reasons == {
        1: ("rate limit 'api'", 4.0, 10.0),
        3: ("resources 'gpu'", 5.0, None),
        4: ("resources 'gpu'", 5.0, None),
    }
    told = {task: (moment, data) for code, task, moment, _, data in one.records if CODES[code] == "TASK_WAITING"}
    assert told == {
        1: (4.0, {"reason": "rate limit 'api'", "due": 1010.0}),
        3: (5.0, {"reason": "resources 'gpu'"}),
        4: (5.0, {"reason": "resources 'gpu'"}),
    }, "of what was free when 4 came nobody knows when it is its turn"


def test_who_was_offered_too_little_has_waited_all_the_time():
    """There is one, offered to each pool."""
    lines, gpu = with_gpus(1)
    holds = Crowd(lines, [(gpu, 1)])
    one = Crowd(lines, *[[(gpu, 1)]] * 2, queues=[0, 1], retry=RetryPolicy(3))
    assert [holds.take(now=0.0), one.take(0, now=1.0), one.take(1, now=1.0)] == [0, -1, -1]
    holds.complete(0)
    lines.offer(2.0)
    assert [one.take(0, now=3.0), one.take(1, now=3.0)] == [0, -1]
    assert one.waits.reasons[1] == ("resources 'gpu'", 1.0, None)
    one.scheduler.retrying(0, 4.0, BOOM, 5.0)
    lines.offer(4.0)
    assert one.take(1, now=4.0) == 1
    one.waits.wake(5.0)
    assert one.take(0, now=6.0) == -1
    assert one.waits.reasons[0] == ("resources 'gpu'", 6.0, None), "before, it waited for its moment"


def opened(lines):
    """A breaker that is open until 12, and its line."""
    line = BreakerLine(CircuitBreaker(failure_threshold=1, recovery_time=10.0), lines)
    line.leave(line.enter(1.0, 1), 2.0, ok=False)
    lines.news = False
    return line


@pytest.mark.parametrize("retry", [None, RetryPolicy(1)])
def test_a_breaker_refuses_who_has_one_attempt(retry):
    lines = Lines({})
    line = opened(lines)
    one = Crowd(lines, [(line, 1)], retry=retry)
    assert one.take(now=3.0) == -1
    assert (lines.news, lines.take_refused()) == (True, [(one.waits, 0, line)])
    assert (one.parked, one.waits.reasons, one.status()) == ([], {}, "PENDING")


def test_at_a_breaker_who_has_other_attempts_waits():
    lines = Lines({})
    line = opened(lines)
    one = Crowd(lines, [(line, 1)], retry=RetryPolicy(2))
    assert one.take(now=3.0) == -1
    assert (lines.take_refused(), one.parked) == ([], [0])
    assert one.waits.reasons == {0: ("circuit breaker", 3.0, 12.0)}


def test_at_a_limit_who_has_one_attempt_waits():
    lines, gpu = with_gpus(1)
    one = Crowd(lines, *[[(gpu, 1)]] * 2)
    assert (one.take(), one.take(), one.parked, lines.take_refused()) == (0, -1, [1], [])


@pytest.mark.parametrize("refused", [False, True])
def test_what_was_offered_to_one_that_cannot_use_it_is_for_the_next_in_line(refused):
    """Another of its lines is shut: it goes to the end of that one, or fails."""
    lines, gpu = with_gpus(1)
    limit = RateLine(RateLimit(1, 100), lines)
    line = BreakerLine(CircuitBreaker(1, 100), lines) if refused else limit
    holds, both, other = (Crowd(lines, own) for own in ([(gpu, 1)], [(gpu, 1), (line, 1)], [(gpu, 1)]))
    assert (holds.take(), both.take(), other.take()) == (0, -1, -1)
    token = line.enter(1.0, 1)
    line.leave(token, 1.0, ok=False)
    holds.complete(0)
    assert lines.offer(2.0) == [both.waits]
    assert both.take(now=2.0) == -1
    assert lines.offer(2.0) == [other.waits]
    assert other.take(now=2.0) == 0
    assert len(lines.take_refused()) == refused


# ---- pauses and ends -------------------------------------------------------------------------------------------------


def offered(*, others=1):
    """Two executions in line; the first has been offered what there is, and hasn't taken it."""
    lines, gpu = with_gpus(1)
    holds, first, *rest = (Crowd(lines, [(gpu, 1)]) for _ in range(2 + others))
    assert [crowd.take() for crowd in (holds, first, *rest)] == [0, -1, *[-1] * others]
    holds.complete(0)
    assert lines.offer(2.0) == [first.waits]
    lines.news = False
    return lines, first, *rest


ACTS = {
    "paused": lambda one: one.scheduler.pause(3.0),
    "cancelled": lambda one: one.scheduler.cancel(3.0),
    "halted": lambda one: one.scheduler.halt(3.0),
    "its task is cancelled": lambda one: one.scheduler.cancel_all([0], 3.0),
}


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_what_was_offered_to_one_that_goes_away_is_for_the_next_in_line(act):
    lines, first, other = offered()
    act(first)
    assert lines.news
    assert lines.offer(3.0) == [other.waits]


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_where_nobody_is_in_line_a_pause_or_an_end_is_no_news(act):
    lines, first = offered(others=0)
    act(first)
    assert not lines.news


def test_who_is_not_in_line_changes_its_place_among_the_ready():
    lines, gpu = with_gpus(1)
    one = Crowd(lines, *[[(gpu, 1)]] * 2)
    assert one.scheduler.reprioritize(1, 1.0, 9)
    assert (one.ready(), lines.news) == ([1, 0], False)


def test_lines_that_added_tasks_must_pass_are_stirred_too():
    lines = Lines({"gpu": 1, "disk": 1})
    gpu, disk = lines.resources.values()
    one, holds = Crowd(lines, [(gpu, 1)]), Crowd(lines, [(disk, 1)])
    assert (one.take(), holds.take(), Crowd(lines, [(disk, 1)]).take()) == (0, 0, -1)
    one.waits.use([disk])
    lines.news = False
    one.scheduler.pause(2.0)
    assert lines.news
    assert Crowd(lines, [(gpu, 1)]).take() == -1
    lines.news = False
    one.scheduler.resume(3.0)
    assert lines.news


def test_while_something_is_undone_no_line_offers_cleanup_anything():
    lines, gpu = with_gpus(1)
    holds = Crowd(lines, [(gpu, 1)])
    one = Crowd(lines, None, None, [(gpu, 1)], cleanup=[2], undoable=[0])
    assert holds.take() == 0
    assert [one.take() for _ in range(3)] == [0, 1, -1]
    assert not one.waits.is_held
    one.complete(0)
    one.scheduler.failed(1, 3.0, BOOM)
    assert one.waits.is_held
    holds.complete(0)
    assert (lines.offer(4.0), one.parked) == ([], [2])
    assert one.take() == 0
    one.scheduler.undone(0, 5.0, None)
    assert not one.waits.is_held
    assert lines.offer(6.0) == [one.waits]
    assert one.take() == 2


def test_where_something_could_be_undone_lines_offer_as_ever():
    lines, gpu = with_gpus(1)
    one = Crowd(lines, *[[(gpu, 1)]] * 2, undoable=[0])
    assert (one.take(), one.take()) == (0, -1)
    one.complete(0)
    assert lines.offer(3.0) == [one.waits]


def test_an_execution_that_ends_waits_for_nothing_any_more():
    lines, gpu = with_gpus(1)
    holds, one = Crowd(lines, [(gpu, 1)]), Crowd(lines, (), [(gpu, 1)])
    assert (holds.take(), one.take(), one.take()) == (0, 0, -1)
    one.scheduler.retrying(0, 2.0, BOOM, 50.0)
    assert (one.parked, one.waits.next_due) == ([1], 50.0)
    one.scheduler.halt(3.0)
    assert (one.parked, one.waits.next_due, list(lines.waited_for)) == ([], inf, [])
    assert one.waits._turns == {}


def test_whoever_will_not_start_any_more_leaves_no_turn_behind():
    """In a flow that is fed there may be very many."""
    lines, gpu = with_gpus(1)
    line = BreakerLine(CircuitBreaker(1, 100), lines)
    holds, one = Crowd(lines, [(gpu, 1)]), Crowd(lines, *[[(gpu, 1), (line, 1)]] * 2)
    line.leave(line.enter(1.0, 1), 1.0, ok=False)
    assert (holds.take(), one.take(), len(one.waits._turns)) == (0, -1, 2)
    one.scheduler.cancel_all([0], 1.0)
    holds.complete(0)
    lines.offer(2.0)
    assert (one.take(now=2.0), len(lines.take_refused())) == (-1, 1)
    assert one.waits._turns == {}


# ---- moments ---------------------------------------------------------------------------------------------------------


def due(*moments, drop=None, forget=None):
    """An execution whose tasks wait for these moments, in this order; gives when they are woken, all by 9.0."""
    one = Crowd(Lines({}), *[()] * len(moments))
    for number, moment in enumerate(moments):
        assert one.take() == number
        one.scheduler.retrying(number, 1.0, BOOM, moment)
    if drop is not None:
        one.scheduler.cancel_all([drop], 1.0)
    if forget is not None:
        one.waits.forget([forget])
    woken = []
    while one.waits.next_due <= 9.0:
        moment = one.waits.next_due
        one.waits.wake(moment)
        woken.append((moment, one.ready()))
        one.scheduler.ready[0].clear()
    assert one.waits.next_due == inf
    return woken


def test_who_waits_for_a_moment_is_ready_at_it():
    assert due(9.0, 5.0, 7.0, 5.0) == [(5.0, [1, 3]), (7.0, [2]), (9.0, [0])]
    one = Crowd(Lines({}), (), ())
    for number, moment in enumerate((9.0, 5.0)):
        one.take()
        one.scheduler.retrying(number, 1.0, BOOM, moment)
    one.waits.wake(4.9)
    assert one.ready() == []
    one.waits.wake(5.1)
    assert (one.ready(), one.waits.next_due) == ([1], 9.0)


HEAP = (0.5, 1.0, 5.0, 2.0, 3.0, 6.0, 7.0)
"""Moments that are a heap, and without the first one are none."""


@pytest.mark.parametrize("way", ["drop", "forget"])
def test_who_has_ended_is_not_waited_for_and_the_others_are_woken_in_order(way):
    woken = due(*HEAP, **{way: 0})
    assert woken == [(moment, [HEAP.index(moment)]) for moment in sorted(HEAP[1:])]


@pytest.mark.parametrize("way", ["drop", "forget"])
def test_where_the_last_that_waits_has_ended_nothing_is_due(way):
    assert due(5.0, **{way: 0}) == []


def test_why_a_task_waited_is_forgotten_with_it():
    one, lookups = with_caches(3)
    one.waits.until(0, 1.0, 5.0, "retry")
    one.waits.until(2, 1.0, 6.0, "retry")
    one.waits.forget({0, 1})
    assert one.waits.reasons == {2: ("retry", 1.0, 6.0)}
    assert [lookups.comes_first(number) for number in (0, 1)] == [False, False]
    assert one.waits.next_due == 6.0


def test_a_moment_is_told_in_epoch_seconds():
    one = Crowd(Lines({}), ())
    assert one.waits.until(0, 1.0, 5.0, "retry") == {"due": 1005.0}


# ---- looking first (nerv/lookups.py) ---------------------------------------------------------------------------------


def test_a_task_looks_before_it_passes_its_lines():
    lines, gpu = with_gpus(1)
    holds = Crowd(lines, [(gpu, 1)])
    holds.take()
    one, _ = with_caches(3, lines=lines, asks=[[(gpu, 1)]] * 3)
    assert [one.take(1) for _ in range(2)] == [0, 1]
    assert (one.scheduler.claimed, one.status(0), one.parked) == ({0, 1}, "PENDING", [])
    assert (one.take(0), one.parked) == (-1, [2]), "which has no cache"
    computes(one, 0)
    assert (one.take(0), one.parked) == (-1, [0, 2]), "it has looked"


def test_who_is_called_again_looks_again_unless_it_is_for_something_else():
    one, _ = with_caches(3)
    for number in (0, 1):
        assert one.take(1) == number
        computes(one, number)
        assert one.take(0) == number
    assert one.scheduler.queue_of == [0, 0, 0]
    one.scheduler.retrying(0, 1.0, BOOM, 5.0)
    one.scheduler.errands[1] = COMPENSATION
    one.scheduler.undo_again(1, 1.0, 5.0)
    one.waits.wake(5.0)
    assert one.scheduler.queue_of == [1, 0, 0]


def computing(*numbers):
    """Of 0, 1 and 2, these run and compute for all; 3 runs too."""
    one, _ = with_caches(4)
    assert [one.take(1) for _ in range(3)] == [0, 1, 2]
    flights = []
    for number in numbers:
        flights.append(computes(one, number))
        assert one.take() == number
    assert one.take() == 3
    return one, one.waits.lines, flights


def test_whoever_waits_for_what_is_computed_hears_that_it_is_not():
    one, lines, flights = computing(0)
    one.complete(3)
    assert (lines.news, lines.grounded) == (False, [])
    one.complete(0)
    assert (lines.news, lines.take_grounded()) == (True, flights)


def test_in_a_pause_nobody_waits_for_what_does_not_run():
    one, lines, _ = computing(0)
    ready = computes(one, 1)
    one.scheduler.pause(3.0)
    assert (lines.news, lines.take_grounded()) == (True, [ready])


def test_a_pause_in_which_all_runs_that_is_waited_for_is_no_news():
    one, lines, _ = computing(0)
    one.scheduler.pause(3.0)
    assert not lines.news


def test_nobody_waits_for_what_is_cancelled_before_it_computes():
    one, lookups = with_caches(3)
    assert [one.take(1) for _ in range(2)] == [0, 1]
    flight, lines = computes(one, 0), one.waits.lines
    one.scheduler.cancel_all([1], 1.0)
    assert not lines.news
    one.scheduler.cancel_all([0], 1.0)
    assert (lines.news, lines.take_grounded(), lookups.flights) == (True, [flight], {})


def test_nobody_waits_for_an_execution_that_has_ended():
    one, lines, flights = computing(0, 2)
    one.waits.close()
    assert (lines.news, lines.take_grounded()) == (True, flights)
