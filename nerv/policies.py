"""What shall happen when a call fails, or shall not happen too often: frozen values and their pure arithmetic.

They decide nothing by themselves and know no clock. The scheduler asks a `RetryPolicy` how long to wait; what a
`RateLimit` and a `CircuitBreaker` have seen so far is kept in nerv/limits.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
from msgspec.structs import force_setattr as _set

from nerv.errors import (
    FatalError,
    Problem,
    TaskTimeoutError,
    TerminalError,
    WorkerCrashedError,
    WorkflowDefinitionError,
)

if TYPE_CHECKING:
    from random import Random

ErrorClasses: TypeAlias = tuple[type[Exception], ...]
Predicate: TypeAlias = Callable[[Exception], object]


class RetryPolicy(msgspec.Struct, frozen=True):
    """How often a task is attempted, after which errors, and how long to wait in between.

    The wait after failure n is `initial_interval * backoff_coefficient ** (n - 1)` seconds, moved by up to `jitter`
    of itself to either side, and at most `maximum_interval`.

    Args:
        maximum_attempts: how often the function may be called, from 1; 1 never retries.
        initial_interval: seconds, from 0 (at once).
        backoff_coefficient: a factor, from 1.
        maximum_interval: seconds, above 0. It caps `initial_interval` too.
        jitter: a fraction of the interval, 0 to 1, so that tasks that failed together don't all come back together.
        retry_on: classes of errors that are worth another attempt, or a predicate that is given the error.
        do_not_retry: classes that aren't, even where `retry_on` says so.

    Raises:
        WorkflowDefinitionError: a value can't be right; it names every such field.
    """

    maximum_attempts: int = 3
    initial_interval: float = 0.1
    backoff_coefficient: float = 2.0
    maximum_interval: float = 60.0
    jitter: float = 0.1
    retry_on: ErrorClasses | Predicate = (Exception,)
    do_not_retry: ErrorClasses = ()

    def __post_init__(self) -> None:
        check = Check(self)
        check.count("maximum_attempts")
        check.number("initial_interval", "seconds from 0", lambda seconds: seconds >= 0)
        check.number("backoff_coefficient", "a number from 1", lambda factor: factor >= 1)
        check.number("maximum_interval", "seconds above 0", lambda seconds: seconds > 0)
        check.number("jitter", "a fraction from 0 to 1", lambda fraction: 0 <= fraction <= 1)
        if isinstance(self.retry_on, type) or not callable(self.retry_on):
            check.classes("retry_on", " or a predicate")
        check.classes("do_not_retry")
        check.done()

    @staticmethod
    def of(value: RetryPolicy | int | None) -> RetryPolicy | None:
        """The policy that a task means by `retry_policy=value`: a number stands for `maximum_attempts`.

        Raises:
            WorkflowDefinitionError: it is neither, or a number under 1.
        """
        if value is None or isinstance(value, RetryPolicy):
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return RetryPolicy(value)
        message = f"retry_policy takes a RetryPolicy, a number of attempts or None, not {value!r}"
        raise WorkflowDefinitionError([Problem(None, "policy", message)])

    def delay(self, failures: int, random: Random | None) -> float:
        """Seconds to wait after this many failures (from 1). `random` draws the jitter; without it there is none."""
        try:
            interval = self.initial_interval * self.backoff_coefficient ** (failures - 1)
        except OverflowError:
            return self.maximum_interval
        if random is not None and self.jitter and interval < inf:
            interval *= 1 + random.uniform(-self.jitter, self.jitter)
        return min(interval, self.maximum_interval)

    def allows(self, error: BaseException) -> bool:
        """Whether an error of this kind is worth another attempt.

        Never: what isn't an `Exception`, `TerminalError`, `FatalError`, and what `do_not_retry` lists. Always, but for
        those: `TaskTimeoutError` and `WorkerCrashedError`. Else `retry_on` decides; what a predicate raises comes out.
        """
        if not isinstance(error, Exception) or isinstance(error, (TerminalError, FatalError, *self.do_not_retry)):
            return False
        if isinstance(error, (TaskTimeoutError, WorkerCrashedError)):
            return True
        wanted = self.retry_on
        return isinstance(error, wanted) if isinstance(wanted, tuple) else bool(wanted(error))


class RateLimit(msgspec.Struct, frozen=True):
    """At most `count` attempts start in any window of `period` seconds; exact, and sliding.

    Args:
        count: attempts, from 1.
        period: seconds, above 0.
        name: tasks whose limits have the same name share one, in all executions of an engine.

    Raises:
        WorkflowDefinitionError: a value can't be right; it names every such field.
    """

    count: int
    period: float
    name: str | None = None

    def __post_init__(self) -> None:
        check = Check(self)
        check.count("count")
        check.number("period", "seconds above 0", lambda seconds: seconds > 0)
        check.name()
        check.done()


class CircuitBreaker(msgspec.Struct, frozen=True):
    """Stops calling what keeps failing: after some failures in a row nothing starts for a while, then a few try it.

    Args:
        failure_threshold: failed attempts in a row that open the circuit, from 1.
        recovery_time: seconds that it stays open, above 0; then it is half-open.
        half_open_calls: attempts that are let through while it is half-open, from 1. It closes when all of them
            succeeded; the first that fails opens it again.
        name: tasks whose breakers have the same name share one, in all executions of an engine.

    Raises:
        WorkflowDefinitionError: a value can't be right; it names every such field.
    """

    failure_threshold: int = 5
    recovery_time: float = 30.0
    half_open_calls: int = 1
    name: str | None = None

    def __post_init__(self) -> None:
        check = Check(self)
        check.count("failure_threshold")
        check.number("recovery_time", "seconds above 0", lambda seconds: seconds > 0)
        check.count("half_open_calls")
        check.name()
        check.done()


class Check:
    """Looks at the fields of a policy that is being made, and brings them into one form."""

    def __init__(self, policy: msgspec.Struct) -> None:
        self._policy = policy
        self._wrong: list[str] = []

    def count(self, field: str) -> None:
        """A whole number from 1."""
        value = getattr(self._policy, field)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            self._refuse(field, "a whole number from 1")

    def number(self, field: str, wanted: str, fits: Callable[[float], bool]) -> None:
        """A finite number that fits; a float from then on."""
        value = getattr(self._policy, field)
        number = finite(value)
        if number is None or not fits(number):
            self._refuse(field, wanted)
        elif value.__class__ is not float:
            _set(self._policy, field, number)

    def name(self) -> None:
        """None, or text."""
        value = getattr(self._policy, "name", None)
        if value is not None and (not isinstance(value, str) or not value):
            self._refuse("name", "a name that isn't empty, or None")

    def classes(self, field: str, or_what: str = "") -> None:
        """Exception classes, or one; a tuple from then on."""
        value = getattr(self._policy, field)
        found = (value,) if isinstance(value, type) or not isinstance(value, Iterable) else tuple(value)
        if all(isinstance(one, type) and issubclass(one, Exception) for one in found):
            _set(self._policy, field, found)
        else:
            self._refuse(field, f"subclasses of Exception{or_what}")

    def done(self) -> None:
        """Raise what was found."""
        if self._wrong:
            raise WorkflowDefinitionError(
                [Problem(None, "policy", message) for message in self._wrong],
                f"the {type(self._policy).__name__} can't be right",
            )

    def _refuse(self, field: str, wanted: str) -> None:
        value = getattr(self._policy, field)
        self._wrong.append(f"{type(self._policy).__name__}: {field} takes {wanted}, not {value!r}")


def finite(value: Any) -> float | None:
    """The number as a float, None if it isn't a number, or not finite."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if -inf < number < inf else None
