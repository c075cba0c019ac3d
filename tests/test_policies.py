"""Policies are plain values: what they allow, how long they wait, and what they refuse when they are made."""

import pickle
from math import inf, nan
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerv import (
    CircuitBreaker,
    FatalError,
    NervError,
    RateLimit,
    RetryPolicy,
    TaskTimeoutError,
    TerminalError,
    WorkerCrashedError,
    WorkflowDefinitionError,
)
from tests.handshake import plain

DAY = 86400


def is_busy(error):
    """A predicate that can be pickled."""
    return "busy" in str(error)


# ---- made by hand ----------------------------------------------------------------------------------------------------


def test_the_defaults_are_those_of_the_contract():
    assert RetryPolicy() == RetryPolicy(3, 0.1, 2.0, 60.0, 0.1, (Exception,), ())
    assert CircuitBreaker() == CircuitBreaker(5, 30.0, 1, None)
    assert RateLimit(3, 1) == RateLimit(3, 1.0, None)


@pytest.mark.parametrize(
    "policy",
    [
        RetryPolicy(5, 1, 3, 60, 0, (OSError,), (FileNotFoundError,)),
        RetryPolicy(retry_on=is_busy),
        RateLimit(2, 0.5, "api"),
        CircuitBreaker(2, 1, 3, "api"),
    ],
)
def test_a_policy_is_a_value(policy):
    """Compared and hashed by what it says, and it travels."""
    copy = pickle.loads(pickle.dumps(policy))
    assert copy == policy
    assert hash(copy) == hash(policy)
    with pytest.raises(AttributeError):
        policy.name = "other"


def test_two_policies_that_say_different_things_differ():
    assert RateLimit(3, 1.0, "api") != RateLimit(3, 2.0, "api")
    assert CircuitBreaker() != CircuitBreaker(half_open_calls=2)


COUNTS = [0, -1, 1.0, nan, "3", None, True]
SECONDS = [0, -1.0, nan, inf, -inf, 10**400, "3", None, True, 1j]
CLASSES = [None, 3, "OSError", [OSError, "x"], [OSError()], int]
WRONG = {
    (RetryPolicy, "maximum_attempts", "a whole number from 1"): COUNTS,
    (RetryPolicy, "initial_interval", "seconds from 0"): SECONDS[1:],
    (RetryPolicy, "backoff_coefficient", "a number from 1"): [*SECONDS, 0.99],
    (RetryPolicy, "maximum_interval", "seconds above 0"): SECONDS,
    (RetryPolicy, "jitter", "a fraction from 0 to 1"): [-0.01, 1.01, nan, inf, "3", None, False],
    (RetryPolicy, "retry_on", "subclasses of Exception or a predicate"): [*CLASSES, KeyboardInterrupt],
    (RetryPolicy, "do_not_retry", "subclasses of Exception"): [*CLASSES, BaseException, is_busy],
    (RateLimit, "count", "a whole number from 1"): COUNTS,
    (RateLimit, "period", "seconds above 0"): SECONDS,
    (RateLimit, "name", "a name that isn't empty, or None"): ["", 3, b"api"],
    (CircuitBreaker, "failure_threshold", "a whole number from 1"): COUNTS,
    (CircuitBreaker, "recovery_time", "seconds above 0"): SECONDS,
    (CircuitBreaker, "half_open_calls", "a whole number from 1"): COUNTS,
    (CircuitBreaker, "name", "a name that isn't empty, or None"): ["", 3, b"api"],
}
NEEDED = {RetryPolicy: {}, CircuitBreaker: {}, RateLimit: {"count": 1, "period": 1.0}}


@pytest.mark.parametrize(
    ("kind", "field", "wanted", "value"), [(*place, value) for place, values in WRONG.items() for value in values]
)
def test_a_value_that_cannot_be_right_is_refused_by_its_name(kind, field, wanted, value):
    with pytest.raises(WorkflowDefinitionError) as caught:
        kind(**{**NEEDED[kind], field: value})
    (problem,) = caught.value.problems
    assert problem == (None, "policy", f"{kind.__name__}: {field} takes {wanted}, not {value!r}")


def test_every_wrong_field_is_listed():
    with pytest.raises(WorkflowDefinitionError, match="the RetryPolicy can't be right, for 3 reasons") as caught:
        RetryPolicy(0, -1, jitter=2)
    assert [problem.message.split()[1] for problem in caught.value.problems] == [
        "maximum_attempts", "initial_interval", "jitter",
    ]  # fmt: skip


@pytest.mark.parametrize("jitter", [0, 1, 0.0, 1.0])
def test_no_jitter_and_full_jitter_are_right(jitter):
    assert RetryPolicy(jitter=jitter).jitter == jitter


def test_numbers_are_kept_as_floats():
    policy = RetryPolicy(2, 1, 2, 3, 0)
    assert {type(value) for value in (policy.initial_interval, policy.backoff_coefficient, policy.jitter)} == {float}
    assert type(RateLimit(1, 2).period) is type(CircuitBreaker(1, 2).recovery_time) is float


def test_of_understands_what_a_task_may_say():
    policy = RetryPolicy(7)
    assert RetryPolicy.of(policy) is policy
    assert RetryPolicy.of(None) is None
    assert RetryPolicy.of(4) == RetryPolicy(maximum_attempts=4)


@pytest.mark.parametrize("value", [True, 2.0, "3", {"maximum_attempts": 3}, RateLimit(1, 1)])
def test_of_refuses_anything_else(value):
    with pytest.raises(WorkflowDefinitionError) as caught:
        RetryPolicy.of(value)
    message = f"retry_policy takes a RetryPolicy, a number of attempts or None, not {value!r}"
    assert caught.value.problems == ((None, "policy", message),)


def test_no_attempts_are_no_policy():
    with pytest.raises(WorkflowDefinitionError, match="maximum_attempts takes a whole number from 1, not 0"):
        RetryPolicy.of(0)


# ---- how long to wait ------------------------------------------------------------------------------------------------


def test_delays_grow_by_the_coefficient_up_to_the_maximum():
    policy = RetryPolicy(10, 1.0, 2.0, 10.0)
    assert [policy.delay(failures, None) for failures in (1, 2, 3, 4, 5, 6)] == [1, 2, 4, 8, 10, 10]


def test_a_coefficient_of_one_is_a_fixed_interval():
    policy = RetryPolicy(10, 3.0, 1.0)
    assert {policy.delay(failures, None) for failures in (1, 2, 10**6)} == {3.0}


def test_the_maximum_caps_the_first_interval_too():
    assert RetryPolicy(initial_interval=100).delay(1, Random(0)) == 60.0


@pytest.mark.parametrize("coefficient", [1.0000001, 2, 1e308])
@pytest.mark.parametrize("failures", [10**6, 10**9, 10**400])
def test_a_million_failures_do_not_overflow(coefficient, failures):
    policy = RetryPolicy(backoff_coefficient=coefficient, initial_interval=1e300, jitter=1, maximum_interval=30 * DAY)
    assert policy.delay(failures, Random(1)) == 30 * DAY


POLICIES = st.builds(
    RetryPolicy,
    initial_interval=st.floats(1e-6, 1e6),
    backoff_coefficient=st.floats(1, 10),
    maximum_interval=st.floats(1e-6, 1e6),
    jitter=st.floats(0, 1),
)


@given(POLICIES, st.integers(1, 10**6), st.integers(0))
def test_a_delay_is_within_jitter_of_the_interval_and_never_above_the_maximum(policy, failures, seed):
    plain = msgspec.structs.replace(policy, maximum_interval=1e300).delay(failures, None)
    least, most = (min(policy.maximum_interval, plain * (1 + side * policy.jitter)) for side in (-1, 1))
    assert least * 0.999999 <= policy.delay(failures, Random(seed)) <= most * 1.000001


def test_jitter_goes_to_both_sides_and_before_the_cap():
    policy = RetryPolicy(initial_interval=10.0, jitter=0.5, maximum_interval=12.0)
    random = Random(3)
    delays = sorted(policy.delay(1, random) for _ in range(4000))
    assert delays[0] < 5.1  # 5 to 15, cut off at 12
    assert 9.5 < delays[2000] < 10.5
    assert delays[-1] == delays[-1000] == 12.0


def test_without_jitter_nothing_is_drawn():
    random = Random(3)
    before = random.getstate()
    RetryPolicy(jitter=0).delay(3, random)
    assert random.getstate() == before


# ---- which errors ----------------------------------------------------------------------------------------------------


class BusyError(OSError):
    pass


class OwnTerminalError(TerminalError, OSError):
    pass


@pytest.mark.parametrize(
    ("policy", "error", "allowed"),
    [
        (RetryPolicy(), ValueError(), True),
        (RetryPolicy(), NervError(), True),
        (RetryPolicy(), KeyboardInterrupt(), False),
        (RetryPolicy(), SystemExit(), False),
        (RetryPolicy(), GeneratorExit(), False),
        (RetryPolicy(), TerminalError(), False),
        (RetryPolicy(), FatalError(), False),
        (RetryPolicy(retry_on=(OSError,)), BusyError(), True),
        (RetryPolicy(retry_on=(OSError,)), ValueError(), False),
        (RetryPolicy(retry_on=(OSError,)), OwnTerminalError(), False),
        (RetryPolicy(retry_on=(TerminalError, FatalError)), TerminalError(), False),
        (RetryPolicy(retry_on=(TerminalError, FatalError)), FatalError(), False),
        (RetryPolicy(do_not_retry=(OSError,)), BusyError(), False),
        (RetryPolicy(do_not_retry=(OSError,)), ValueError(), True),
        (RetryPolicy(retry_on=(), do_not_retry=()), ValueError(), False),
        # not the task's own fault: always worth another attempt, unless it was said that it isn't
        (RetryPolicy(retry_on=(ValueError,)), TaskTimeoutError(), True),
        (RetryPolicy(retry_on=(ValueError,)), WorkerCrashedError(), True),
        (RetryPolicy(retry_on=lambda _: False), TaskTimeoutError(), True),
        (RetryPolicy(do_not_retry=(TaskTimeoutError,)), TaskTimeoutError(), False),
        (RetryPolicy(do_not_retry=(TimeoutError,)), TaskTimeoutError(), False),
        (RetryPolicy(do_not_retry=(WorkerCrashedError,)), WorkerCrashedError(), False),
        # a predicate
        (RetryPolicy(retry_on=is_busy), ValueError("busy"), True),
        (RetryPolicy(retry_on=is_busy), ValueError("broken"), False),
        (RetryPolicy(retry_on=is_busy, do_not_retry=(ValueError,)), ValueError("busy"), False),
        (RetryPolicy(retry_on=is_busy), TerminalError("busy"), False),
    ],
    ids=plain,
)
def test_an_error_is_worth_another_attempt_or_not(policy, error, allowed):
    assert policy.allows(error) is allowed


@pytest.mark.parametrize("given_as", [OSError, [OSError], (OSError,), {OSError}, iter([OSError])], ids=plain)
def test_classes_may_be_given_in_any_form(given_as):
    assert RetryPolicy(retry_on=given_as).retry_on == (OSError,)


def test_one_class_will_do_for_do_not_retry_too():
    assert RetryPolicy(do_not_retry=OSError).do_not_retry == (OSError,)


def test_a_predicate_is_asked_only_when_nothing_else_decides():
    asked = []
    policy = RetryPolicy(retry_on=lambda error: asked.append(error) or True, do_not_retry=(ValueError,))
    error = KeyError("x")
    for other in (TerminalError(), FatalError(), ValueError(), TaskTimeoutError(), WorkerCrashedError(), SystemExit()):
        policy.allows(other)
    assert policy.allows(error) is True
    assert asked == [error]


def test_what_a_predicate_raises_comes_out():
    def broken(error):
        raise LookupError("no such code")

    with pytest.raises(LookupError, match="no such code"):
        RetryPolicy(retry_on=broken).allows(ValueError())
