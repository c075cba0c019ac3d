"""`Desk`: where a task asks for its result before it computes it. One for each manager.

Whoever asks gets one of three answers: `Hit` (here it is), `Compute` (nobody has it: compute it, and say how that
went) or `Wait` (somebody is computing it just now). So of several who miss one thing at the same time, one computes. A
`Flight` is that one computation: it lands once, with a value or without. Those who wait are told then, and take its
value, also one that the store couldn't keep; if there is none they ask again, and the first of them computes.

This holds within a manager. Processes that share a cache file don't wait for each other: that would take polling, or
locks that the dead leave behind. Two that miss the same thing at the same time both compute it, and the later result
stays.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from nerv.caching.stores import MISS, Entry, Store


class Flight:
    """A result that is being computed.

    `value` is `MISS` until it has landed, and after that if it landed without a value.
    """

    def __init__(self, desk: Desk, key: str, entry: Entry) -> None:
        self._desk = desk
        self._entry = entry
        self.key = key
        self.value: Any = MISS
        self.has_landed = False
        self.waiting: list[Callable[[], Any]] = []

    def keep(self, value: Any) -> None:
        """It was computed. It is kept also if the flight has landed already, because nobody was to wait any longer."""
        self._desk.keep(self.key, value, self._entry)
        self._desk.land(self, value)

    def failed(self) -> None:
        """It wasn't computed: the function raised, was cancelled, given up or never called. Nothing happens if the
        flight has landed already.
        """
        self._desk.land(self, MISS)

    def when_landed(self, tell: Callable[[], Any]) -> None:
        """Call `tell` once it has landed, by the thread that lands it, or here and now if it has."""
        if not self._desk.add(self, tell):
            tell()


class Hit(NamedTuple):
    """The result was there."""

    value: Any


class Compute(NamedTuple):
    """Nobody has it; the flight is yours, and must land."""

    flight: Flight


class Wait(NamedTuple):
    """Somebody is at it; ask again when the flight has landed."""

    flight: Flight


Answer: TypeAlias = Hit | Compute | Wait


class Desk:
    """Looks things up in a store, and knows what is being computed.

    Its lock guards `_flights` and what waits for them. It is held for a look at a dict, never while the store is asked
    or somebody is told.

    Args:
        store: where results are kept.
        time: epoch seconds.
    """

    def __init__(self, store: Store, time: Callable[[], float]) -> None:
        self._store = store
        self._time = time
        self._flights: dict[str, Flight] = {}
        self._lock = threading.Lock()

    def ask(self, key: str, entry: Entry) -> Answer:
        """Look for a result."""
        value = self._store.get(key, entry.ttl, self._time())
        if value is not MISS:
            return Hit(value)
        with self._lock:
            flight = self._flights.get(key)
            if flight is not None:
                return Wait(flight)
            flight = self._flights[key] = Flight(self, key, entry)
        value = self._store.get(key, entry.ttl, self._time())  # another flight may have landed since the first look
        if value is MISS:
            return Compute(flight)
        self.land(flight, value)
        return Hit(value)

    def keep(self, key: str, value: Any, entry: Entry) -> None:
        """Keep a result in the store."""
        self._store.put(key, value, entry, self._time())

    def land(self, flight: Flight, value: Any) -> None:
        """End a flight, and tell those who wait."""
        with self._lock:
            if flight.has_landed:
                return
            flight.value = value
            flight.has_landed = True
            del self._flights[flight.key]
            waiting, flight.waiting = flight.waiting, []
        for tell in waiting:
            tell()

    def add(self, flight: Flight, tell: Callable[[], Any]) -> bool:
        """Have somebody told when the flight lands. False: it has."""
        with self._lock:
            if flight.has_landed:
                return False
            flight.waiting.append(tell)
            return True

    def close(self) -> None:
        """Close the store."""
        self._store.close()
