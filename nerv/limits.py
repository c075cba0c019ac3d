"""What is left of a rate limit, a circuit breaker and a resource: state machines over the engine's monotonic time.

They are told the moment (`now`, seconds, which never goes back) and keep no clock, thread or lock: who shares one
guards it. A task may start when each of its gates is open; then each of them is told so by `take`.
"""

from __future__ import annotations

import sys
from collections import deque
from enum import Enum
from fractions import Fraction
from functools import lru_cache
from math import inf, nextafter
from typing import Final, Protocol

from nerv.policies import CircuitBreaker, RateLimit

UNLIMITED: Final = sys.maxsize
"""The room of a gate that stands wide open."""


class Gate(Protocol):
    """What an attempt must pass before it starts."""

    name: str

    def opens_at(self, now: float) -> float:
        """The moment from which an attempt may start: not after `now`, it may right away; `inf`: when something has
        happened, which is an attempt's end; ask again then.
        """

    def room(self, now: float) -> int:
        """How many attempts could start at this moment; 0 when it is closed."""

    def take(self, now: float) -> int | None:
        """An attempt starts.

        Raises:
            RuntimeError: the gate is closed.
        """


class Window:
    """A `RateLimit` in use: of `count + 1` starts in a row, the last comes `period` seconds after the first or later.

    Exact in floating point as well: the true sum of a start and the period is never rounded down.

    Args:
        limit: what is allowed.
        name: default: the limit's own.
    """

    def __init__(self, limit: RateLimit, name: str = "") -> None:
        self.limit = limit
        self.name = name or limit.name or ""
        self._back: deque[float] = deque()  # the moments at which the places that are taken come back, in order

    def opens_at(self, now: float) -> float:
        """See `Gate`."""
        return now if len(self._back) < self.limit.count else self._back[0]

    def grows_at(self, now: float) -> float:
        """The next moment at which there is more room than now; `inf`: all there is, is there."""
        return self._back[0] if self.room(now) < self.limit.count else inf

    def room(self, now: float) -> int:
        """See `Gate`."""
        back = self._back
        while back and back[0] <= now:
            back.popleft()
        return self.limit.count - len(back)

    def take(self, now: float) -> None:
        """See `Gate`."""
        if not self.room(now):
            raise RuntimeError(f"rate limit {self.name!r} is used up until {self._back[0]!r}, and it is {now!r}")
        self._back.append(later(now, self.limit.period))


class BreakerState(Enum):
    """CLOSED lets everything through, OPEN nothing, HALF_OPEN a few, to see."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"


_CLOSED: Final = BreakerState.CLOSED  # every attempt asks; from the class it costs twice as much


class Breaker:
    """A `CircuitBreaker` in use.

    Every `take` is followed by one `ended` with its token. The token is the number of the state's term, so what
    an attempt that started before the circuit opened says afterwards counts for nothing.

    When half-open, `half_open_calls` attempts are let through; all of them must succeed for it to close (as in
    resilience4j; pybreaker's default is the same for one call). The first that fails opens it for another
    `recovery_time`.

    Args:
        breaker: the settings.
        name: default: the settings' own.
    """

    def __init__(self, breaker: CircuitBreaker, name: str = "") -> None:
        self.breaker = breaker
        self.name = name or breaker.name or ""
        self.state = BreakerState.CLOSED
        self._term = 0  # counts changes of state
        self._failures = 0  # in a row, while closed
        self._through = 0  # while half-open: attempts that run or have succeeded
        self._succeeded = 0
        self._recovers_at = -inf

    def opens_at(self, now: float) -> float:
        """See `Gate`."""
        if self.state is _CLOSED:
            return now
        if self.state is BreakerState.OPEN:
            return self._recovers_at
        return now if self.room(now) else inf

    def room(self, now: float) -> int:
        """See `Gate`."""
        match self.state:
            case BreakerState.CLOSED:
                return UNLIMITED
            case BreakerState.OPEN:
                return self.breaker.half_open_calls if now >= self._recovers_at else 0
            case BreakerState.HALF_OPEN:
                return self.breaker.half_open_calls - self._through

    def take(self, now: float) -> int:
        """See `Gate`. The token is for `ended`."""
        if self.state is not _CLOSED:
            if not self.room(now):
                raise RuntimeError(f"circuit breaker {self.name!r} is {self.state.value} and lets nothing through")
            if self.state is BreakerState.OPEN:
                self._become(BreakerState.HALF_OPEN)
                self._through = self._succeeded = 0
            self._through += 1
        return self._term

    def ended(self, token: int, ok: bool | None, now: float) -> str | None:  # noqa: FBT001  a verdict, not a switch
        """An attempt has ended: well, badly, or without a verdict (None: it was cancelled, which frees its place).

        Returns:
            "opened" or "closed" if that changed the state, else None; but a place may have become free.
        """
        if token != self._term:
            return None
        if self.state is _CLOSED:
            return self._counted(ok, now)
        if ok is None:
            self._through -= 1
            return None
        if not ok:
            return self._open(now)
        self._succeeded += 1
        if self._succeeded < self.breaker.half_open_calls:
            return None
        self._become(BreakerState.CLOSED)
        return "closed"

    def _counted(self, ok: bool | None, now: float) -> str | None:  # noqa: FBT001  as above
        if ok:
            self._failures = 0
        elif ok is not None:
            self._failures += 1
            if self._failures >= self.breaker.failure_threshold:
                return self._open(now)
        return None

    def _open(self, now: float) -> str:
        self._become(BreakerState.OPEN)
        self._recovers_at = later(now, self.breaker.recovery_time)
        return "opened"

    def _become(self, state: BreakerState) -> None:
        self.state = state
        self._term += 1
        self._failures = 0


class Stock:
    """A resource of which attempts hold amounts while they run.

    Amounts are counted as the decimal numbers that they are written as: ten times 0.1 fit into 1, and nothing is left
    over or missing when all is given back.

    Args:
        name: the resource.
        amount: how much of it there is, above 0.
    """

    def __init__(self, name: str, amount: float) -> None:
        self.name = name
        self.amount = amount
        self._free = exact(amount)

    @property
    def free(self) -> float:
        """What nobody holds."""
        return float(self._free)

    @property
    def left(self) -> Fraction:
        """What nobody holds, to the last digit."""
        return self._free

    def fits(self, amount: float) -> bool:
        """Whether so much is free."""
        return exact(amount) <= self._free

    def take(self, amount: float) -> None:
        """Hold so much.

        Raises:
            RuntimeError: so much isn't free.
        """
        if not self.fits(amount):
            raise RuntimeError(f"resource {self.name!r} has {self.free!r} free, not {amount!r}")
        self._free -= exact(amount)

    def give(self, amount: float) -> None:
        """Give back what was taken.

        Raises:
            RuntimeError: so much isn't held.
        """
        free = self._free + exact(amount)
        if free > exact(self.amount):
            raise RuntimeError(f"resource {self.name!r} is given back {amount!r}, which nobody holds")
        self._free = free


@lru_cache(maxsize=1024)
def exact(amount: float) -> Fraction:
    """The decimal number that a float is written as."""
    return Fraction(repr(float(amount))) if isinstance(amount, float) else Fraction(amount)


def later(moment: float, seconds: float) -> float:
    """The first moment that floats know at which `seconds` have truly passed since `moment`.

    `moment + seconds` may be rounded down; what rounding took away is found as in Knuth's TwoSum (The Art of Computer
    Programming, volume 2, section 4.2.2).
    """
    total = moment + seconds
    part = total - moment
    lost = (moment - (total - part)) + (seconds - part)
    return nextafter(total, inf) if lost > 0 else total
