"""Lines and those who stand in them, on schedulers alone: who is let in, when, and in what order."""

from __future__ import annotations

from math import inf

import pytest

from nerv import CircuitBreaker, RateLimit, RetryPolicy
from nerv.caching.desk import Flight
from nerv.errors import CircuitOpenError
from nerv.events import EventType
from nerv.lines import BreakerLine, Lines, RateLine, Terms
from nerv.lookups import Lookups
from tests.crowd import Crowd

BOOM = ValueError("boom")


def with_gpus(amount):
    """An engine's lines, and the one for its `amount` gpus."""
    lines = Lines({"gpu": amount})
    return lines, lines.resources["gpu"]


def served(lines, **crowds):
    """In what order those in line pass, each when the one before has completed."""
    order = []
    while lines.waited_for:
        assert lines.offer(3.0), "nobody is let in"
        for name, crowd in crowds.items():
            number = crowd.take(now=3.0)
            if number >= 0:
                order.append(f"{name}{number}")
                crowd.complete(number)
    return order


# ---- all kinds -------------------------------------------------------------------------------------------------------


def test_a_line_says_what_those_in_it_wait_for():
    lines, gpu = with_gpus(1)
    kinds = [
        (RateLine(RateLimit(1, 10, name="api"), lines), "rate limit 'api'"),
        (RateLine(RateLimit(1, 10), lines), "rate limit"),
        (BreakerLine(CircuitBreaker(name="db"), lines), "circuit breaker 'db'"),
        (BreakerLine(CircuitBreaker(), lines), "circuit breaker"),
        (gpu, "resources 'gpu'"),
    ]
    assert [line.title for line, _ in kinds] == [title for _, title in kinds]
    assert {line.opening for line, _ in kinds} == {inf}


def test_an_engine_without_tasks_in_line_has_nothing_to_look_into():
    lines = Lines({})
    assert (lines.news, lines.offer(1.0), lines.next_opening()) == (False, [], inf)
    assert (lines.take_grounded(), lines.take_refused(), lines.take_circuits()) == ([], [], [])


def test_as_many_are_let_in_as_there_is_room_for_the_most_urgent_first():
    lines, gpu = with_gpus(3)
    holds, waits = Crowd(lines, [(gpu, 3)]), Crowd(lines, *[[(gpu, 1)]] * 5, priorities=[1, 1, 1, 1, 9])
    assert (holds.take(), waits.take()) == (0, -1)
    assert waits.parked == [0, 1, 2, 3, 4]
    assert lines.offer(1.0) == []
    holds.complete(0)
    assert lines.offer(2.0) == [waits.waits]
    assert (waits.ready(), waits.parked) == ([4, 0, 1], [2, 3])
    assert list(lines.waited_for) == [gpu]


def test_equals_are_let_in_in_the_order_in_which_they_came():
    lines, gpu = with_gpus(1)
    holds = Crowd(lines, [(gpu, 1)])
    crowds = {name: Crowd(lines, [(gpu, 1)], [(gpu, 1)]) for name in "cab"}
    holds.take()
    assert [crowd.take() for crowd in crowds.values()] == [-1] * 3
    holds.complete(0)
    assert served(lines, **crowds) == ["c0", "a0", "b0", "c1", "a1", "b1"]


def test_room_is_offered_to_each_pool_on_its_own():
    lines, gpu = with_gpus(1)
    holds, waits = Crowd(lines, [(gpu, 1)]), Crowd(lines, *[[(gpu, 1)]] * 4, queues=[0, 0, 1, 1])
    holds.take()
    assert (waits.take(0), waits.take(1)) == (-1, -1)
    holds.complete(0)
    lines.offer(2.0)
    assert (waits.ready(0), waits.ready(1)) == ([0], [2])
    assert (waits.take(1), waits.take(0)) == (2, -1), "an offer is no promise"
    assert waits.parked == [0, 1, 3]


def test_whose_execution_is_paused_stays_in_line_and_keeps_nobody_out():
    lines, gpu = with_gpus(1)
    holds, paused, other = (Crowd(lines, [(gpu, 1)], priorities=[one]) for one in (1, 9, 1))
    assert (holds.take(), paused.take(), other.take()) == (0, -1, -1)
    paused.scheduler.pause(1.0)
    holds.complete(0)
    assert lines.offer(2.0) == [other.waits]
    assert (paused.ready(), paused.parked, other.take()) == ([], [0], 0)
    paused.scheduler.resume(3.0)
    other.complete(0)
    assert lines.offer(4.0) == [paused.waits]
    assert (paused.ready(), lines.waited_for) == ([0], {})


@pytest.mark.parametrize("gone", [[0], [0, 1], [1], [1, 2]])
@pytest.mark.parametrize("kind", ["resource", "limit"])
def test_who_has_ended_is_passed_over(kind, gone):
    lines, gpu = with_gpus(2)
    line = gpu if kind == "resource" else RateLine(RateLimit(2, 10), lines)
    holds, waits = Crowd(lines, *[[(line, 1)]] * 2), Crowd(lines, *[[(line, 1)]] * 4)
    assert [holds.take(now=0.0), holds.take(now=0.0), waits.take(now=0.0)] == [0, 1, -1]
    waits.scheduler.cancel_all(gone, 2.0)
    holds.complete(0, 1)
    lines.stir(line)
    lines.offer(10.0)
    left = [number for number in range(4) if number not in gone]
    assert (waits.ready(), waits.parked) == (left[:2], left[2:])


def test_there_may_be_room_for_more_than_are_in_line():
    lines, gpu = with_gpus(3)
    holds, waits = Crowd(lines, [(gpu, 3)]), Crowd(lines, *[[(gpu, 1)]] * 2)
    assert (holds.take(), waits.take()) == (0, -1)
    holds.complete(0)
    lines.offer(2.0)
    assert (waits.ready(), lines.waited_for) == ([0, 1], {})


def test_an_execution_that_ends_takes_its_tasks_out_of_line_and_leaves_the_others_in_order():
    """Their ranks are as in the heap [0, 1, 5, 2, 3, 6, 7], which without its first is none."""
    lines, gpu = with_gpus(1)
    holds = Crowd(lines, [(gpu, 1)])
    crowds = {f"of rank {rank}, ": Crowd(lines, [(gpu, 1)], priorities=[10 - rank]) for rank in (0, 1, 5, 2, 3, 6, 7)}
    holds.take()
    first, *_ = [crowd for crowd in crowds.values() if crowd.take()]
    first.waits.close()
    assert list(lines.waited_for) == [gpu]
    holds.complete(0)
    del crowds["of rank 0, "]
    assert served(lines, **crowds) == [f"of rank {rank}, 0" for rank in (1, 2, 3, 5, 6, 7)]


def test_nobody_is_waited_for_when_the_last_execution_in_line_has_ended():
    lines, gpu = with_gpus(1)
    holds = Crowd(lines, [(gpu, 1)])
    one, two = Crowd(lines, [(gpu, 1)]), Crowd(lines, [(gpu, 1)], [(gpu, 1)], queues=[1, 0])
    holds.take()
    assert (one.take(), two.take(), two.take(1)) == (-1, -1, -1)
    two.waits.close()
    assert list(lines.waited_for) == [gpu]
    one.waits.close()
    assert list(lines.waited_for) == []
    holds.complete(0)
    assert lines.offer(2.0) == []


def test_only_the_task_of_which_the_rank_changes_changes_its_place():
    lines, gpu = with_gpus(1)
    holds, a, b = Crowd(lines, [(gpu, 1)]), *(Crowd(lines, *[[(gpu, 1)]] * 3) for _ in "ab")
    holds.take()
    assert (a.take(), b.take()) == (-1, -1)
    b.scheduler.reprioritize(2, 1.0, 9)
    holds.complete(0)
    assert served(lines, a=a, b=b) == ["b2", "a0", "b0", "a1", "b1", "a2"]


def test_a_task_that_belongs_to_another_pool_by_now_changes_its_place_too():
    lines, gpu = with_gpus(1)
    holds, waits = Crowd(lines, [(gpu, 1)]), Crowd(lines, *[[(gpu, 1)]] * 3)
    holds.take()
    waits.take()
    waits.scheduler.queue_of[2] = 1
    assert waits.scheduler.reprioritize(2, 1.0, 9)
    holds.complete(0)
    lines.offer(2.0)
    assert (waits.ready(0), waits.ready(1)) == ([], [2])


def test_who_is_in_front_after_a_change_of_places_is_offered_what_there_is():
    lines, gpu = with_gpus(2)
    holds, waits = Crowd(lines, [(gpu, 1)]), Crowd(lines, [(gpu, 2)], [(gpu, 1)])
    assert (holds.take(), waits.take()) == (0, -1)
    assert lines.offer(1.0) == []
    waits.scheduler.reprioritize(1, 1.0, 9)
    assert lines.offer(1.0) == [waits.waits]
    assert (waits.ready(), waits.parked) == ([1], [0])


# ---- rate limits -----------------------------------------------------------------------------------------------------


def test_a_line_that_time_opens_is_offered_at_that_moment_and_once_a_place():
    lines = Lines({})
    limit = RateLine(RateLimit(1, 10), lines)
    one = Crowd(lines, *[[(limit, 1)]] * 4)
    assert (one.take(now=0.0), one.take(now=0.0)) == (0, -1)
    assert (one.parked, lines.next_opening()) == ([1, 2, 3], 10.0)
    lines.stir_open(9.9)
    assert lines.offer(9.9) == []
    lines.stir_open(10.0)
    assert lines.offer(10.0) == [one.waits]
    assert (one.ready(), lines.next_opening()) == ([1], inf), "the place is there, and nobody has taken it"
    lines.news = False
    assert one.take(now=11.0) == 1
    assert (lines.next_opening(), lines.news) == (21.0, True)


def test_a_place_that_comes_back_while_another_is_free_has_its_moment_too():
    lines = Lines({})
    limit = RateLine(RateLimit(3, 10), lines)
    early, late = Crowd(lines, [(limit, 1)]), Crowd(lines, [(limit, 1)])
    early.take(now=0.0)
    late.take(now=4.0)
    assert (limit.room(5.0), limit.opens_at(5.0, 1), limit.due(5.0)) == (1, 5.0, 10.0)
    assert (limit.room(10.0), limit.due(10.0), limit.due(14.0)) == (2, 14.0, inf)


def test_nobody_goes_first_in_a_line_of_a_limit():
    """Whoever comes first starts first: there is no start that needs more than another."""
    lines = Lines({})
    limit = RateLine(RateLimit(1, 10), lines)
    waits, other = Crowd(lines, *[[(limit, 1)]] * 2, priorities=[9, 9]), Crowd(lines, [(limit, 1)])
    assert (waits.take(now=0.0), waits.take(now=0.0)) == (0, -1)
    assert other.take(now=10.0) == 0


def test_of_several_lines_the_one_that_opens_first_says_when_to_look():
    lines = Lines({})
    slow, quick = (RateLine(RateLimit(1, seconds), lines) for seconds in (30, 20))
    one = Crowd(lines, *[[(slow, 1)]] * 2, *[[(quick, 1)]] * 2, priorities=[9, 8, 7, 6])
    assert [one.take(now=0.0) for _ in range(3)] == [0, 2, -1]
    assert lines.next_opening() == 20.0
    lines.stir_open(20.0)
    lines.offer(20.0)
    assert (one.ready(), lines.next_opening()) == ([3], 30.0)


# ---- circuit breakers ------------------------------------------------------------------------------------------------


def breaker(lines, **settings):
    return BreakerLine(CircuitBreaker(**{"failure_threshold": 1, "recovery_time": 10.0, **settings}), lines)


def test_a_breaker_has_its_moment_only_while_it_is_open():
    line = breaker(Lines({}))
    assert line.due(5.0) == inf
    line.leave(line.enter(5.0, 1), 6.0, ok=False)
    assert (line.due(6.0), line.room(6.0), line.due(16.0), line.room(16.0)) == (16.0, 0, inf, 1)


def test_a_breaker_tells_when_it_opens_and_closes():
    lines = Lines({})
    line = breaker(lines)
    line.leave(line.enter(1.0, 1), 1.0, ok=True)
    assert (lines.news, lines.take_circuits()) == (False, [])
    line.leave(line.enter(1.0, 1), 1.0, ok=False)
    assert (lines.news, lines.take_circuits()) == (True, [(EventType.CIRCUIT_OPENED, line)])
    lines.news = False
    line.leave(line.enter(11.0, 1), 11.0, ok=True)
    assert (lines.news, lines.take_circuits()) == (True, [(EventType.CIRCUIT_CLOSED, line)])
    assert lines.take_circuits() == []


def test_what_ends_at_a_breaker_makes_room_for_those_in_line():
    lines = Lines({})
    line = breaker(lines, failure_threshold=2)
    one = Crowd(lines, *[[(line, 1)]] * 4, retry=RetryPolicy(9))
    one.scheduler.fail_fast = False
    assert [one.take(now=0.0) for _ in range(2)] == [0, 1]
    for number in (0, 1):
        one.scheduler.failed(number, 1.0, BOOM)
    assert (one.take(now=1.0), one.parked, lines.next_opening()) == (-1, [2, 3], 11.0)
    lines.stir_open(11.0)
    lines.offer(11.0)
    assert (one.ready(), one.take(now=11.0), one.take(now=11.0)) == ([2], 2, -1), "one call, to see"
    lines.news = False
    one.scheduler.cancelled(2, 12.0, BOOM)
    assert lines.news
    assert lines.offer(12.0) == [one.waits]
    assert one.ready() == [3]


def test_what_ends_where_nobody_is_in_line_is_no_news():
    lines, gpu = with_gpus(1)
    one = Crowd(lines, [(gpu, 1), (breaker(lines), 1)])
    one.take()
    one.complete(0)
    assert not lines.news


@pytest.mark.parametrize(("name", "said"), [("db", " 'db'"), (None, "")])
def test_a_refusal_says_what_is_open_since_when_and_what_would_help(name, said):
    error = breaker(Lines({}), failure_threshold=3, recovery_time=2.5, name=name).error("load")
    assert isinstance(error, CircuitOpenError)
    assert str(error) == (
        f"task 'load' wasn't called: its circuit breaker{said} is open after 3 failures in a row, for 2.5 s; "
        "with a retry policy it would wait"
    )


# ---- resources -------------------------------------------------------------------------------------------------------


def test_amounts_are_offered_as_the_decimal_numbers_that_they_are_written_as():
    """In floating point 0.3 - 0.1 - 0.1 is less than 0.1."""
    lines, gpu = with_gpus(0.3)
    holds, waits = Crowd(lines, [(gpu, 0.3)]), Crowd(lines, *[[(gpu, 0.1)]] * 3)
    assert (holds.take(), waits.take()) == (0, -1)
    holds.complete(0)
    lines.offer(2.0)
    assert [waits.take() for _ in range(3)] == [0, 1, 2]
    assert (gpu.room(3.0), gpu.due(3.0)) == (0, inf)


def test_who_needs_much_is_not_passed_by_those_who_need_less_and_are_less_urgent():
    """In line in its own pool or in another, or only coming."""
    lines, gpu = with_gpus(2)
    holds = Crowd(lines, *[[(gpu, 1)]] * 2)
    much = Crowd(lines, [(gpu, 2)], priorities=[5])
    same, other = (Crowd(lines, [(gpu, 1)], queues=[queue]) for queue in (0, 1))
    assert [holds.take() for _ in range(2)] == [0, 1]
    assert (much.take(), same.take(), other.take(1)) == (-1, -1, -1)
    holds.complete(0)
    assert lines.offer(2.0) == []
    late = Crowd(lines, *[[(gpu, 1)]] * 2, queues=[0, 1])
    assert (late.take(0), late.take(1)) == (-1, -1)
    holds.complete(1)
    assert lines.offer(2.0) == [much.waits, other.waits, late.waits], "there is enough, and each pool is offered it"


def test_nothing_is_offered_to_those_behind_one_for_whom_too_little_is_left():
    lines, gpu = with_gpus(3)
    holds, waits = Crowd(lines, [(gpu, 3)]), Crowd(lines, [(gpu, 2)], [(gpu, 2)], [(gpu, 1)])
    assert (holds.take(), waits.take()) == (0, -1)
    holds.complete(0)
    lines.offer(2.0)
    assert (waits.ready(), waits.parked) == ([0], [1, 2])


def test_who_is_more_urgent_than_one_who_needs_much_passes():
    lines, gpu = with_gpus(2)
    holds = Crowd(lines, *[[(gpu, 1)]] * 2)
    much, urgent = Crowd(lines, [(gpu, 2)], priorities=[5]), Crowd(lines, [(gpu, 1)], priorities=[9], queues=[1])
    assert [holds.take() for _ in range(2)] == [0, 1]
    assert (much.take(), urgent.take(1)) == (-1, -1)
    holds.complete(0)
    assert lines.offer(2.0) == [urgent.waits]
    assert urgent.take(1) == 0
    urgent.complete(0)
    late = Crowd(lines, *[[(gpu, 1)]] * 2, priorities=[9, 9])
    assert late.take() == 0


@pytest.mark.parametrize("queue", [0, 1])
def test_who_is_as_urgent_as_one_who_needs_much_passes_only_if_it_came_first(queue):
    lines, gpu = with_gpus(2)
    holds = Crowd(lines, *[[(gpu, 1)]] * 2)
    first, much, last, late = (
        Crowd(lines, [(gpu, amount)], queues=[at]) for amount, at in ((1, queue), (2, 0), (1, queue), (1, queue))
    )
    assert [holds.take() for _ in range(2)] == [0, 1]
    assert (first.take(queue), much.take(), last.take(queue)) == (-1, -1, -1)
    holds.complete(0)
    assert lines.offer(2.0) == [first.waits]
    assert first.take(queue) == 0
    first.complete(0)
    assert (lines.offer(2.0), late.take(queue)) == ([], -1)
    holds.complete(1)
    assert much.waits in lines.offer(2.0)
    assert much.take() == 0


def test_who_was_offered_too_little_keeps_its_turn():
    """There is one, offered to each pool."""
    lines, gpu = with_gpus(1)
    holds, unlucky, other, lucky = (Crowd(lines, [(gpu, 1)], queues=[queue]) for queue in (0, 0, 0, 1))
    assert (holds.take(), unlucky.take(), other.take(), lucky.take(1)) == (0, -1, -1, -1)
    holds.complete(0)
    assert lines.offer(2.0) == [unlucky.waits, lucky.waits]
    assert (lucky.take(1), unlucky.take()) == (0, -1)
    lucky.complete(0)
    assert lines.offer(3.0) == [unlucky.waits]
    assert unlucky.take() == 0


def test_who_has_had_its_turn_is_the_last_of_its_equals():
    lines, gpu = with_gpus(1)
    holds, one, other = Crowd(lines, [(gpu, 1)]), *(Crowd(lines, [(gpu, 1)], retry=RetryPolicy(2)) for _ in range(2))
    assert (holds.take(), one.take(), other.take()) == (0, -1, -1)
    holds.complete(0)
    assert lines.offer(2.0) == [one.waits]
    assert one.take() == 0
    one.scheduler.retrying(0, 3.0, BOOM, 4.0)
    one.waits.wake(4.0)
    assert one.take() == -1
    assert served(lines, one=one, other=other) == ["other0", "one0"]


def test_the_most_urgent_of_those_who_need_much_holds_the_others_up_whatever_its_pool():
    lines, gpu = with_gpus(3)
    holds = Crowd(lines, [(gpu, 2)])
    much = Crowd(lines, *[[(gpu, 3)]] * 2, priorities=[9, 1], queues=[0, 1])
    assert (holds.take(), much.take(0), much.take(1)) == (0, -1, -1)
    between = Crowd(lines, [(gpu, 1)], priorities=[5], queues=[1])
    assert between.take(1) == -1


def test_for_whom_there_is_enough_holds_up_those_behind_it_in_its_pool_only():
    """It is still in line, as nothing has been offered yet."""
    lines, gpu = with_gpus(2)
    holds, first = Crowd(lines, [(gpu, 2)]), Crowd(lines, [(gpu, 1)], priorities=[5])
    assert (holds.take(), first.take()) == (0, -1)
    holds.complete(0)
    behind = Crowd(lines, *[[(gpu, 1)]] * 2, queues=[0, 1])
    assert (behind.take(0), behind.take(1)) == (-1, 1)
    urgent = Crowd(lines, [(gpu, 1)], priorities=[9])
    assert urgent.take() == 0


def crowded():
    """One gpu is free; in line for two are 9: paused; 5: cancelled; and in order of priority 4 and 2."""
    lines, gpu = with_gpus(2)
    holds = Crowd(lines, [(gpu, 1)])
    crowds = {one: Crowd(lines, *[[(gpu, 2)]] * 2, priorities=[one, one]) for one in (9, 5, 4, 2)}
    holds.take()
    assert [crowd.take() for crowd in crowds.values()] == [-1] * 4
    crowds[9].scheduler.pause(1.0)
    crowds[5].scheduler.cancel_all([0, 1], 1.0)
    return lines, gpu, crowds


@pytest.mark.parametrize(("priority", "passes"), [(6, True), (5, True), (3, False), (1, False)])
def test_the_first_in_line_is_one_that_can_be_let_in(priority, passes):
    lines, gpu, _ = crowded()
    late = Crowd(lines, [(gpu, 1)], priorities=[priority])
    assert late.take() == (0 if passes else -1)


@pytest.mark.parametrize("queue", [0, 1])
def test_where_nobody_can_be_let_in_nobody_is_held_up(queue):
    lines, gpu, crowds = crowded()
    for priority in (4, 2):
        crowds[priority].scheduler.pause(1.0)
    late = Crowd(lines, [(gpu, 1)], queues=[queue])
    assert late.take(queue) == 0


def test_where_all_in_line_were_cancelled_nobody_is_held_up():
    lines, gpu = with_gpus(2)
    holds, much = Crowd(lines, [(gpu, 1)]), Crowd(lines, *[[(gpu, 2)]] * 2, priorities=[9, 9])
    assert (holds.take(), much.take()) == (0, -1)
    much.scheduler.cancel_all([0, 1], 2.0)
    late = Crowd(lines, *[[(gpu, 1)]] * 2)
    assert late.take() == 0


# ---- all lines of an engine ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "kind"), [(RateLimit(1, 10), RateLine), (CircuitBreaker(), BreakerLine)])
def test_without_a_name_an_execution_has_a_line_for_each_object(policy, kind):
    lines, own, others = Lines({}), {}, {}
    line = lines.line(policy, own)
    assert type(line) is kind
    assert lines.line(policy, own) is line
    assert lines.line(type(policy)(**vars_of(policy)), own) is not line
    assert lines.line(policy, others) is not line


def vars_of(policy):
    """What an equal policy is made of."""
    return {"count": 1, "period": 10} if isinstance(policy, RateLimit) else {}


def test_a_name_stands_for_one_line_of_a_kind():
    lines = Lines({})
    line = lines.line(RateLimit(1, 10, name="api"), {})
    assert lines.line(RateLimit(1, 10, name="api"), {}) is line
    assert type(line) is RateLine
    breaker = lines.line(CircuitBreaker(name="api"), {})
    assert type(breaker) is BreakerLine
    assert lines.line(CircuitBreaker(name="api"), {}) is breaker


def test_a_name_that_stands_for_other_settings_is_an_error_that_shows_both():
    lines = Lines({})
    known, other = RateLimit(1, 10, name="api"), RateLimit(2, 10, name="api")
    lines.line(known, {})
    with pytest.raises(ValueError, match="api") as caught:
        lines.line(other, {})
    assert str(caught.value) == f"the name 'api' stands for two different settings: {known} and {other}"


def test_each_resource_has_a_line():
    lines = Lines({"gpu": 2, "disk": 0.5})
    assert {name: (line.name, line.room(0.0)) for name, line in lines.resources.items()} == {
        "gpu": ("gpu", 2),
        "disk": ("disk", 0.5),
    }


def test_what_the_engine_has_to_look_into_is_given_once():
    lines = Lines({})
    line, waits = breaker(lines), Crowd(lines, None).waits
    lines.refuse(waits, 0, line)
    assert lines.news
    assert (lines.take_refused(), lines.take_refused()) == ([(waits, 0, line)], [])
    lines.news = False
    lookups = Lookups({0: 0, 1: 0}, [0, 0])
    flights = [Flight(None, str(number), None) for number in range(2)]
    for number, flight in enumerate(flights):
        lookups.flights[number] = flight
        lookups.left(number)
        lines.land(lookups)
    assert lines.news
    assert (lines.take_grounded(), lines.take_grounded()) == (flights, [])


@pytest.mark.parametrize(("retry", "attempts"), [(None, 1), (RetryPolicy(1), 1), (RetryPolicy(7), 7)])
def test_terms_say_how_many_attempts_there_are(retry, attempts):
    terms = Terms(retry, "instead", ())
    assert (terms.retry, terms.fallback, terms.lines, terms.attempts) == (retry, "instead", (), attempts)
    assert not hasattr(terms, "__dict__"), "there may be one for each of very many tasks"
