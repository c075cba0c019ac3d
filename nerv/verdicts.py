"""Verdicts of `pool="auto"`: whether the calls of a function belong into threads or into worker processes.

Pure: what was measured is an argument (nerv/pools/auto.py measures), and nobody is told here. One `Case` for each
function, for all executions of a manager. Its first calls are measured, one at a time:

- Two that are *worth it* move the function to processes; one does that takes a second of CPU or more. The first call
  alone is no proof: it may have imported half the world.
- Two that wait, or compute without the interpreter lock, or would cost too much to send leave it in threads; so do
  `MOST` calls without a verdict, and the first that can't be sent.

A verdict is final, but for one thing: a function comes back from the processes, for good, when a call of it can't be
sent there after all.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Hashable
from types import MethodType
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from nerv.functions import innermost, name_of

WORTH: Final = 0.005
"""Seconds of CPU with the interpreter lock from which a call is worth moving. The way to a worker process and back
takes 0.15 to 0.2 ms, a third of it CPU time of the process that sends: at 5 ms that is a few percent."""
BUSY: Final = 0.5
"""The part of its time that a call computes, at least: with two processes, less is better off in threads."""
LEAST: Final = 0.1
"""That part before it is corrected for what other threads computed."""
DEAR: Final = 0.25
"""The part of its computing that sending its arguments and result may take."""
LONG: Final = 1.0
"""Seconds of CPU from which one call is enough."""
MOST: Final = 5
"""Calls that are measured."""


class Place(enum.Enum):
    """Where the tasks of a function that haven't started go."""

    TRIAL = "trial"  # to be measured, one at a time
    HELD = "held"  # nowhere: one that is being measured computes, and the next would only take the lock from it
    THREAD = "thread"
    PROCESS = "process"


class Figures(NamedTuple):
    """What was measured of a call, in seconds.

    `busy` is what it has computed or waited for a core; `held` what it has computed with the interpreter lock; `others`
    what other threads of this process have computed meanwhile; `sending` what its arguments and its result take to
    send. `objection`: why they can't be sent, or None.
    """

    wall: float
    busy: float
    held: float
    others: float = 0.0
    sending: float = 0.0
    objection: str | None = None

    @property
    def is_heavy(self) -> bool:
        """Whether it keeps the interpreter lock busy long enough to be better off elsewhere."""
        if self.held < WORTH or self.busy < LEAST * self.wall:
            return False
        left = self.wall - self.others if self.others <= self.wall else self.wall
        return self.busy >= BUSY * left

    @property
    def is_worth_it(self) -> bool:
        """Whether sending it pays."""
        return self.is_heavy and self.sending <= DEAR * self.held


class Case:
    """What is known of one function.

    Attributes:
        name: the function's.
        place: where its tasks go.
        is_decided: whether that is the verdict.
        news: what is to be said about it in the log, and how loud; None: nothing.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.place = Place.TRIAL
        self.is_decided = False
        self.news: tuple[str, str] | None = None
        self._calls = self._for = self._against = 0

    def looked(self, *, busy: bool) -> bool:
        """A call that is being measured has run for a while, and computes or not. Whether that changes the place."""
        return not self.is_decided and self._go(Place.HELD if busy else Place.THREAD)

    def count(self, figures: Figures) -> bool:
        """A call was measured. Whether that changes the place."""
        if self.is_decided:
            return False
        self._calls += 1
        if figures.is_worth_it and figures.objection is not None:
            self.news = "info", f"{self.name} is CPU-bound, but stays in threads: {figures.objection}"
            return self._decide(Place.THREAD)
        if figures.is_worth_it:
            self._for += 1 if figures.held < LONG else 2
        elif figures.wall >= WORTH:
            self._against += 1
        if self._for >= 2:
            took = f"{figures.held:.3g} s of CPU in a call of {figures.wall:.3g} s"
            self.news = "info", f"{self.name} is CPU-bound ({took}); from now on its calls go to worker processes"
            return self._decide(Place.PROCESS)
        if self._against >= 2 or self._calls >= MOST:
            return self._decide(Place.THREAD)
        return self._go(Place.TRIAL)

    def fruitless(self) -> bool:
        """A call that was being measured was given up. Whether that changes the place."""
        return self.count(Figures(WORTH, 0.0, 0.0))

    def come_back(self, why: str) -> bool:
        """A call couldn't be sent. Whether that changes the place."""
        if self.place is not Place.PROCESS:
            return False
        self.news = "warning", f"{self.name} comes back from worker processes to threads, for good: {why}"
        return self._go(Place.THREAD)

    def _decide(self, place: Place) -> bool:
        self.is_decided = True
        return self._go(place)

    def _go(self, place: Place) -> bool:
        before, self.place = self.place, place
        return before is not place


class Verdicts:
    """The cases of a manager, by function. It keeps no function alive."""

    def __init__(self) -> None:
        self._cases: WeakKeyDictionary[Any, Case] = WeakKeyDictionary()
        self._lasting: dict[Any, Case] = {}  # of what nobody can refer to weakly: methods that are written in C

    def of(self, fn: Callable[..., Any]) -> Case:
        """The case of a callable: a partial's or a Task's is its function's, an object's its class's."""
        inner = innermost(fn)
        if isinstance(inner, MethodType):
            inner = inner.__func__
        key = inner if isinstance(inner, Hashable) and hasattr(inner, "__qualname__") else type(inner)
        case = Case(name_of(fn))
        try:
            return self._cases.setdefault(key, case)
        except TypeError:
            return self._lasting.setdefault(key, case)
