"""Time as the engine sees it, so that a test can put another one in its place."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Where the engine gets the time, and how it waits for it."""

    def time(self) -> float:
        """Epoch seconds, for people and for the journal."""

    def monotonic(self) -> float:
        """Seconds that never go backwards, for all arithmetic."""

    def wait(self, condition: threading.Condition, timeout: float | None) -> None:
        """Wait, holding `condition`, until it is notified or `timeout` seconds have passed (None: for ever)."""


class SystemClock:
    """The computer's clock."""

    def __init__(self) -> None:
        self.time = time.time
        self.monotonic = time.monotonic

    def wait(self, condition: threading.Condition, timeout: float | None) -> None:
        """Wait, holding `condition`, until it is notified or `timeout` seconds have passed (None: for ever)."""
        condition.wait(timeout)
