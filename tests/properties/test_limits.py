"""Rate limits, circuit breakers and resources hold at every instant, whatever the moments."""

from collections import Counter
from fractions import Fraction
from math import inf, nextafter

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nerv import CircuitBreaker, RateLimit
from nerv.limits import UNLIMITED, Breaker, BreakerState, Stock, Window, exact, later

MOMENTS = st.floats(0, 1e12)
PERIODS = st.floats(1e-9, 1e9)
STEPS = st.one_of(st.just(0.0), st.floats(0, 3), st.floats(0, 1e6))


# ---- floats ----------------------------------------------------------------------------------------------------------


@given(MOMENTS, PERIODS)
@example(0.1, 0.2)
@example(1e15, 0.1)
@example(1e12, 1e-9)
def test_later_is_the_first_float_at_which_the_seconds_have_truly_passed(moment, seconds):
    found = later(moment, seconds)
    true = Fraction(moment) + Fraction(seconds)
    assert Fraction(found) >= true
    assert Fraction(nextafter(found, -inf)) < true
    assert found - moment >= seconds


def test_later_than_any_float_is_never():
    assert later(1e308, 1.7e308) == inf


# ---- Window ----------------------------------------------------------------------------------------------------------


def in_windows(starts, period):
    """The most starts in any half-open window [t, t + period), by true arithmetic."""
    exactly = [Fraction(start) for start in starts]
    return max(sum(first <= one < first + Fraction(period) for one in exactly) for first in exactly)


@given(st.integers(1, 5), PERIODS, MOMENTS, st.lists(st.one_of(st.just(None), STEPS), min_size=1, max_size=40))
def test_a_window_never_holds_more_starts_than_the_limit(count, period, now, steps):
    """Whoever asks whenever, and whoever waits for exactly the moment that he was told (None)."""
    window = Window(RateLimit(count, period))
    starts = []
    for step in steps:
        now = window.opens_at(now) if step is None else now + step
        if window.opens_at(now) <= now:
            window.take(now)
            starts.append(now)
        else:
            assert window.room(now) == 0
    if starts:
        assert in_windows(starts, period) <= count
    for first, last in zip(starts, starts[count:], strict=False):
        assert last - first >= period  # as any user would check it, in floats


@given(st.integers(1, 5), PERIODS, MOMENTS, st.lists(STEPS, max_size=30))
def test_a_window_is_open_as_soon_as_the_limit_allows(count, period, now, steps):
    """Not a float later; `room` is what a reference that keeps every start counts."""
    window = Window(RateLimit(count, period))
    starts = []
    for step in steps:
        now += step
        taken = sum(Fraction(start) + Fraction(period) > Fraction(now) for start in starts)
        opens = window.opens_at(now)
        assert (opens <= now) is (taken < count)
        assert window.room(now) == count - taken
        if taken < count:
            window.take(now)
            starts.append(now)
        else:
            due = Fraction(starts[-count]) + Fraction(period)
            assert Fraction(opens) >= due > Fraction(nextafter(opens, -inf))


@given(st.integers(1, 7), st.integers(0, 9))
def test_room_says_how_many_can_start_now(count, asked):
    window = Window(RateLimit(count, 1.0))
    for number in range(min(count, asked)):
        assert window.room(5.0) == count - number
        window.take(5.0)
    assert window.room(5.0) == count - min(count, asked)
    assert window.room(6.0) == count


def test_a_closed_window_lets_nobody_in():
    window = Window(RateLimit(1, 2.0, "api"))
    window.take(1.0)
    with pytest.raises(RuntimeError, match=r"rate limit 'api' is used up until 3\.0, and it is 2\.5"):
        window.take(2.5)
    window.take(3.0)


def test_a_window_remembers_no_more_than_the_limit():
    window = Window(RateLimit(3, 1.0))
    for now in range(10_000):
        window.take(now / 2)
    assert len(window._back) <= 3


def test_a_window_of_many_remembers_only_what_was_taken():
    window = Window(RateLimit(10**12, 1.0))
    for now in range(1000):
        window.take(float(now))
    assert len(window._back) == 1


# ---- Breaker ---------------------------------------------------------------------------------------------------------


class Breakers(RuleBasedStateMachine):
    """A breaker beside the simplest account of what it was told, with attempts that end in any order."""

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.running = []  # (token, number of the term it began in)
        self.changes = ["closed"]  # terms, by what began them
        self.failures = self.through = self.good = 0
        self.opened_at = None

    @rule(threshold=st.integers(1, 3), recovery=st.floats(0.01, 10), calls=st.integers(1, 3))
    @precondition(lambda self: not hasattr(self, "breaker"))
    def make(self, threshold, recovery, calls):
        self.settings = CircuitBreaker(threshold, recovery, calls, "api")
        self.breaker = Breaker(self.settings)

    @rule(seconds=st.floats(0, 12))
    def wait(self, seconds):
        self.now += seconds

    @rule()
    @precondition(lambda self: hasattr(self, "breaker"))
    def wait_as_told(self):
        moment = self.breaker.opens_at(self.now)
        if moment < inf:
            self.now = max(self.now, moment)
            assert self.breaker.room(self.now) > 0

    @rule()
    @precondition(lambda self: hasattr(self, "breaker"))
    def start(self):
        state = self.changes[-1]
        recovered = state == "opened" and Fraction(self.now) >= Fraction(self.opened_at) + Fraction(
            self.settings.recovery_time
        )
        allowed = state == "closed" or recovered or (state == "half" and self.through < self.settings.half_open_calls)
        assert (self.breaker.opens_at(self.now) <= self.now) is allowed
        if not allowed:
            with pytest.raises(RuntimeError, match="'api'"):
                self.breaker.take(self.now)
            return
        if recovered:
            self.changes.append("half")
            self.through = self.good = 0
        self.through += self.changes[-1] == "half"
        self.running.append((self.breaker.take(self.now), len(self.changes)))

    @rule(ok=st.sampled_from([True, False, False, None]), choice=st.integers(0, 10**6))
    @precondition(lambda self: getattr(self, "running", None))
    def end(self, ok, choice):
        token, term = self.running.pop(choice % len(self.running))
        assert self.breaker.ended(token, ok, self.now) == self.expected(ok, term)

    def expected(self, ok, term):
        state = self.changes[-1]
        if term != len(self.changes) or (ok is None and state == "closed"):
            return None
        if state == "closed":
            self.failures = 0 if ok else self.failures + 1
            return self.turn("opened") if self.failures == self.settings.failure_threshold else None
        if ok is None:
            self.through -= 1
            return None
        if not ok:
            return self.turn("opened")
        self.good += 1
        return self.turn("closed") if self.good == self.settings.half_open_calls else None

    def turn(self, change):
        self.changes.append(change)
        self.failures = 0
        self.opened_at = self.now
        return change

    @invariant()
    def lets_no_more_through_than_it_may(self):
        if not hasattr(self, "breaker"):
            return
        room = self.breaker.room(self.now)
        assert (room > 0) is (self.breaker.opens_at(self.now) <= self.now)
        if self.changes[-1] == "half":
            trying = sum(term == len(self.changes) for _, term in self.running)
            assert trying + room + self.good == self.settings.half_open_calls
        else:
            assert room in {0, self.settings.half_open_calls} if self.changes[-1] == "opened" else room == UNLIMITED

    @invariant()
    def never_waits_for_nothing(self):
        """When only an event can open it, an attempt is under way that will bring one."""
        if hasattr(self, "breaker") and self.breaker.opens_at(self.now) == inf:
            assert any(term == len(self.changes) for _, term in self.running)

    @invariant()
    def is_in_the_state_that_it_said(self):
        if hasattr(self, "breaker"):
            names = {"closed": BreakerState.CLOSED, "opened": BreakerState.OPEN, "half": BreakerState.HALF_OPEN}
            assert self.breaker.state is names[self.changes[-1]]


TestBreakers = Breakers.TestCase
TestBreakers.settings = settings(max_examples=150, stateful_step_count=40)


def opened(breaker, now=0.0):
    """The breaker, opened by as many failures as it takes."""
    for _ in range(breaker.breaker.failure_threshold):
        last = breaker.ended(breaker.take(now), False, now)
    assert last == "opened"
    return breaker


def test_failures_count_only_in_a_row():
    breaker = Breaker(CircuitBreaker(2))
    for ok in (False, True, False, True, None, False):
        assert breaker.ended(breaker.take(0.0), ok, 0.0) is None
    assert breaker.ended(breaker.take(0.0), False, 0.0) == "opened"


def test_an_open_circuit_says_when_it_will_be_half_open():
    breaker = opened(Breaker(CircuitBreaker(1, 30.0)), now=5.0)
    assert breaker.opens_at(6.0) == 35.0
    assert breaker.room(34.9) == 0
    assert breaker.room(35.0) == 1


def test_all_half_open_calls_must_succeed():
    breaker = opened(Breaker(CircuitBreaker(1, 30.0, 2)))
    first, second = breaker.take(30.0), breaker.take(30.0)
    assert breaker.opens_at(31.0) == inf
    assert breaker.ended(first, True, 31.0) is None
    assert breaker.opens_at(31.0) == inf  # two went through; the second decides
    assert breaker.ended(second, True, 31.0) == "closed"
    assert breaker.room(31.0) == UNLIMITED


def test_a_failed_trial_opens_the_circuit_again_for_the_whole_time():
    breaker = opened(Breaker(CircuitBreaker(3, 30.0, 2)))
    first, second = breaker.take(30.0), breaker.take(31.0)
    assert breaker.ended(second, False, 40.0) == "opened"
    assert breaker.opens_at(41.0) == 70.0
    assert breaker.ended(first, True, 42.0) is None  # late: of a term that is over
    assert breaker.state is BreakerState.OPEN


def test_after_it_has_closed_failures_are_counted_anew():
    breaker = opened(Breaker(CircuitBreaker(2, 1.0)))
    assert breaker.ended(breaker.take(1.0), True, 1.0) == "closed"
    assert breaker.ended(breaker.take(1.0), False, 1.0) is None
    assert breaker.ended(breaker.take(1.0), False, 1.0) == "opened"


def test_a_trial_that_was_cancelled_leaves_its_place_to_another():
    breaker = opened(Breaker(CircuitBreaker(1, 1.0)))
    token = breaker.take(1.0)
    assert breaker.ended(token, None, 2.0) is None
    assert breaker.opens_at(2.0) == 2.0
    assert breaker.ended(breaker.take(2.0), True, 3.0) == "closed"


def test_late_results_from_before_the_opening_count_for_nothing():
    breaker = Breaker(CircuitBreaker(1, 1.0))
    early = [breaker.take(0.0) for _ in range(5)]
    assert breaker.ended(early[0], False, 0.0) == "opened"
    trial = breaker.take(1.0)
    assert [breaker.ended(token, ok, 1.0) for token, ok in zip(early[1:], (False, True, None), strict=False)] == [
        None
    ] * 3
    assert breaker.ended(trial, True, 1.0) == "closed"
    assert breaker.ended(early[4], False, 1.0) is None
    assert breaker.state is BreakerState.CLOSED


def test_a_gate_may_be_given_another_name():
    assert Breaker(CircuitBreaker(), "task t").name == "task t"
    assert Breaker(CircuitBreaker(name="api")).name == "api"
    assert Window(RateLimit(1, 1), "task t").name == "task t"
    assert Window(RateLimit(1, 1, "api")).name == "api"
    assert Window(RateLimit(1, 1)).name == Breaker(CircuitBreaker()).name == ""


# ---- Stock -----------------------------------------------------------------------------------------------------------

AMOUNTS = st.one_of(st.floats(1e-6, 1e3), st.sampled_from([0.1, 0.2, 0.3, 0.7, 1, 2, 2e9, 1e-9]))


@given(AMOUNTS, st.lists(st.tuples(st.booleans(), AMOUNTS), max_size=60))
def test_a_resource_is_never_overdrawn_and_exactly_full_again(amount, acts):
    stock, held = Stock("gpu", amount), Counter()
    for takes, some in acts:
        if takes and stock.fits(some):
            stock.take(some)
            held[some] += 1
        elif not takes and held:
            given_back = min(held)
            stock.give(given_back)
            held -= Counter([given_back])
        true = sum(Fraction(str(one)) * times for one, times in held.items())
        assert true <= Fraction(str(amount))
        assert stock.free == float(Fraction(str(amount)) - true)
    for one in held.elements():
        stock.give(one)
    assert stock.free == amount
    assert stock.fits(amount)
    assert not stock.fits(nextafter(amount, inf))


@pytest.mark.parametrize(("amount", "part", "times"), [(1, 0.1, 10), (0.3, 0.1, 3), (2e9, 1e9, 2), (1.0, 0.05, 20)])
def test_amounts_add_up_as_they_are_written(amount, part, times):
    stock = Stock("memory", amount)
    for _ in range(times):
        stock.take(part)
    assert stock.free == 0
    assert not stock.fits(1e-9)


def test_more_than_is_free_is_refused():
    stock = Stock("gpu", 2)
    stock.take(1.5)
    with pytest.raises(RuntimeError, match=r"resource 'gpu' has 0\.5 free, not 1"):
        stock.take(1)
    assert stock.free == 0.5


def test_more_than_is_held_is_refused():
    stock = Stock("gpu", 2)
    stock.take(0.5)
    with pytest.raises(RuntimeError, match="'gpu' is given back 1, which nobody holds"):
        stock.give(1)
    stock.give(0.5)
    assert stock.free == 2


@given(st.floats(1e-300, 1e300))
def test_exact_is_what_is_written(amount):
    assume(amount > 0)
    assert float(exact(amount)) == amount
    assert exact(amount) == Fraction(repr(amount))


def test_whole_numbers_are_exact_however_large():
    assert exact(2**53 + 1) == 2**53 + 1
