"""Time as the engine sees it, so that a test can put another one in its place."""

from __future__ import annotations

import threading
import time as wall
from collections.abc import Callable
from typing import Protocol


class Alarms(Protocol):
    """What calls functions when their moment has come. Each engine has one of its own, which its clock makes."""

    def at(self, moment: float, act: Callable[[], object]) -> None:
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


class SystemClock:
    """The computer's clock."""

    time = staticmethod(wall.time)  # the plain functions: a method around them would double their cost
    monotonic = staticmethod(wall.monotonic)

    def wait(self, condition: threading.Condition, timeout: float | None) -> None:
        """Wait, holding `condition`, until it is notified or `timeout` seconds have passed (None: for ever)."""
        condition.wait(timeout)

    def alarms(self) -> Alarms:
        """A `Timer`: one thread, asleep until something is due."""
        from nerv.timer import Timer

        return Timer(self)
