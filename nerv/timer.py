"""`Timer`: one thread for everything of an engine that happens at a later moment; asleep until the next is due."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from heapq import heapify, heappop, heappush

from nerv.clock import Clock


class Entry:
    """Something that is due; `act` is None once it was done or cancelled."""

    __slots__ = ("act", "moment", "number", "timer")

    def __init__(self, timer: Timer, moment: float, number: int, act: Callable[[], object]) -> None:
        self.timer = timer
        self.moment = moment
        self.number = number
        self.act: Callable[[], object] | None = act

    def __lt__(self, other: Entry) -> bool:
        return (self.moment, self.number) < (other.moment, other.number)

    def cancel(self) -> None:
        """It isn't due any more."""
        self.timer.cancel(self)


class Timer:
    """Calls functions when their moment has come, on one thread, which starts with the first of them.

    It has a lock of its own: it is set under the engine's lock, and what it calls takes the engine's lock, so it never
    calls anything while it holds its own.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._due: list[Entry] = []
        self._count = 0
        self._cancelled = 0  # entries in `_due` that are
        self._closed = False
        self._thread: threading.Thread | None = None
        self.wake_ups = 0  # how often the thread woke: tests hold "no polling" against it

    def at(self, moment: float, act: Callable[[], object]) -> Entry:
        """Call `act` at `moment` (seconds of the clock's monotonic time), or at once if that has passed."""
        with self._changed:
            self._count += 1
            entry = Entry(self, moment, self._count, act)
            if self._closed:
                return entry
            heappush(self._due, entry)
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="nerv-timer", daemon=True)
                with suppress(RuntimeError):  # at the interpreter's end none can start; who closes waits by itself
                    thread.start()
                    self._thread = thread
            elif self._due[0] is entry:
                self._changed.notify()
        return entry

    def cancel(self, entry: Entry) -> None:
        """Forget an entry. The thread isn't woken for it; it may still wake at that moment, once, and find nothing."""
        with self._changed:
            if entry.act is None:
                return
            entry.act = None
            self._cancelled += 1
            if self._cancelled > len(self._due) // 2:
                self._due = [kept for kept in self._due if kept.act is not None]
                heapify(self._due)
                self._cancelled = 0

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._closed and (wait := self._seconds()) != 0:
                    self._clock.wait(self._changed, wait)
                    self.wake_ups += 1
                if self._closed:
                    return
                entry = heappop(self._due)
                act, entry.act = entry.act, None
                self._cancelled -= act is None
            if act is not None:
                act()

    def _seconds(self) -> float | None:
        return max(0.0, self._due[0].moment - self._clock.monotonic()) if self._due else None

    def close(self) -> None:
        """Forget what is still due, and end the thread."""
        with self._changed:
            self._closed = True
            self._due.clear()
            self._changed.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
