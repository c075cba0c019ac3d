"""Where results are kept: what a store is, and the one in memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any, Final, NamedTuple, Protocol

MOST: Final = 10_000
"""Results that a manager keeps in memory; the one that was asked for longest ago goes first."""


class Nothing:
    """The type of `MISS`."""

    def __repr__(self) -> str:
        return "MISS"


MISS: Final = Nothing()
"""What a store says when it has nothing; None is a result."""


class Entry(NamedTuple):
    """What is kept beside a result: the function's name (for people), and for how many seconds it is good (None: for
    ever).
    """

    function: str
    ttl: float | None


class Store(Protocol):
    """Keeps results by key. Any thread may call it; it never raises because of what it holds or is given.

    Moments are epoch seconds. Whether a result is still good is asked by the `ttl` of whoever wants it.
    """

    def get(self, key: str, ttl: float | None, now: float) -> Any:
        """The result, or `MISS` if there is none that was kept less than `ttl` seconds ago."""

    def put(self, key: str, value: Any, entry: Entry, now: float) -> None:
        """Keep a result, in the place of an older one."""

    def close(self) -> None:
        """Let go of what it holds."""


def is_good(kept_at: float, ttl: float | None, now: float) -> bool:
    """Whether what was kept then is still good."""
    return ttl is None or now < kept_at + ttl


class MemoryStore:
    """Results as they are, passed by reference, at most `most` of them.

    Its lock is its own: it is held for a look at a dict, never while anything else is called.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._kept: OrderedDict[str, tuple[Any, float]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str, ttl: float | None, now: float) -> Any:
        """The result, or `MISS`."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return MISS
            value, kept_at = found
            if not is_good(kept_at, ttl, now):
                return MISS
            self._kept.move_to_end(key)
            return value

    def put(self, key: str, value: Any, entry: Entry, now: float) -> None:  # noqa: ARG002  nobody lists what is here
        """Keep a result."""
        with self._lock:
            replaced = self._kept.pop(key, None)
            self._kept[key] = value, now
            oldest = self._kept.popitem(last=False) if len(self._kept) > self._most else None
        del replaced, oldest  # outside the lock: a result's own code may run when it goes

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            gone, self._kept = self._kept, OrderedDict()
        gone.clear()
