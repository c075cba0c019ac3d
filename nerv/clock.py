"""Time as the engine sees it, so that a test can put another one in its place."""

from __future__ import annotations

import threading
import time as wall
from collections.abc import Callable
from typing import Final, Protocol

FIRST_SLICE: Final = 0.05
"""Seconds of the first sleep of the main thread; see `patiently`."""


class Alarm(Protocol):
    """Something that is due."""

    def cancel(self) -> None:
        """It isn't due any more. Does nothing once it was done."""


class Alarms(Protocol):
    """What calls functions when their moment has come. Each engine has one of its own, which its clock makes."""

    def at(self, moment: float, act: Callable[[], object]) -> Alarm:
        """Call `act` at `moment` (seconds of the clock's monotonic time), or at once if that has passed."""

    def close(self) -> None:
        """Forget what is still due."""


class Clock(Protocol):
    """Where the engine gets the time, and how it waits for it."""

    def time(self) -> float:
        """Epoch seconds, for people and for the journal."""

    def monotonic(self) -> float:
        """Seconds that never go backwards, for all arithmetic."""

    def wait(self, condition: threading.Condition, timeout: float | None) -> None:
        """Wait, holding `condition`, until it is notified or `timeout` seconds have passed (None: for ever)."""

    def alarms(self) -> Alarms:
        """New alarms by this clock."""


def patiently(wait: Callable[[float | None], bool], timeout: float | None = None) -> bool:
    """`wait(timeout)`, so that Ctrl-C always ends it.

    A signal that arrives at the very moment when the main thread falls asleep, after Python's last look for signals and
    before the operating system's sleep, is noticed only when it wakes: of programs that were interrupted at their first
    task's start, one in ten on a busy machine never heard of it. So the main thread sleeps in slices, each twice as
    long as the one before: it hears soon, and wakes some twenty times in a day.
    """
    if threading.current_thread() is not threading.main_thread():
        return wait(timeout)
    deadline = None if timeout is None else wall.monotonic() + timeout
    slice_of_time = FIRST_SLICE
    while True:
        left = None if deadline is None else max(0.0, deadline - wall.monotonic())
        if wait(slice_of_time if left is None else min(slice_of_time, left)):
            return True
        if left is not None and left <= slice_of_time:
            return False
        slice_of_time = min(2 * slice_of_time, threading.TIMEOUT_MAX)


class SystemClock:
    """The computer's clock."""

    time = staticmethod(wall.time)  # the plain functions: a method around them would double their cost
    monotonic = staticmethod(wall.monotonic)

    def wait(self, condition: threading.Condition, timeout: float | None) -> None:
        """Wait, holding `condition`, until it is notified or `timeout` seconds have passed (None: for ever)."""
        patiently(condition.wait, timeout)

    def alarms(self) -> Alarms:
        """A `Timer`: one thread, asleep until something is due."""
        from nerv.timer import Timer

        return Timer(self)
