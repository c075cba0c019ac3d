"""`Effects`: the engine's one lock, and what has to be done once it has been released."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakSet


class Effects:
    """A lock as a context manager. What is `noted` inside is carried out after the lock has been released, by the same
    thread, in order: waking somebody, setting an event, telling a pool. So nothing that blocks, and no user code, runs
    under the lock. What is still to be looked into under the lock, `finish` does last.
    """

    __slots__ = ("__weakref__", "finish", "lock", "noted")

    def __init__(self, finish: Callable[[], object] = lambda: None) -> None:
        self.lock = threading.Lock()
        self.finish = finish
        self.noted: list[Callable[[], Any]] = []
        _ALL.add(self)

    def __enter__(self) -> None:
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.finish()
        noted, self.noted = self.noted, []
        self.lock.release()
        for effect in noted:
            effect()


_ALL: Final[WeakSet[Effects]] = WeakSet()


def _open_in_child() -> None:
    """Whoever held a lock when this process was forked isn't here to release it: what it guards can be read."""
    for effects in _ALL:
        effects.lock._at_fork_reinit()  # type: ignore[attr-defined]  # noqa: SLF001  as the standard library does


os.register_at_fork(after_in_child=_open_in_child)
