"""`Effects`: the engine's one lock, and what has to be done once it has been released."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class Effects:
    """A lock as a context manager. What is `noted` inside is carried out after the lock has been released, by the same
    thread, in order: waking somebody, setting an event, telling a pool. So nothing that blocks, and no user code, runs
    under the lock. What is still to be looked into under the lock, `finish` does last.
    """

    __slots__ = ("finish", "lock", "noted")

    def __init__(self, finish: Callable[[], object] = lambda: None) -> None:
        self.lock = threading.Lock()
        self.finish = finish
        self.noted: list[Callable[[], Any]] = []

    def __enter__(self) -> None:
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.finish()
        noted, self.noted = self.noted, []
        self.lock.release()
        for effect in noted:
            effect()
