"""`Timer`: one thread for everything of an engine that happens at a later moment; asleep until the next is due."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from heapq import heappop, heappush

from nerv.clock import Clock


class Timer:
    """Calls functions when their moment has come, on one thread, which starts with the first of them.

    It has a lock of its own: it is set under the engine's lock, and what it calls takes the engine's lock, so it never
    calls anything while it holds its own.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._count = 0
        self._closed = False
        self._thread: threading.Thread | None = None
        self.wake_ups = 0  # how often the thread woke: tests hold "no polling" against it

    def at(self, moment: float, act: Callable[[], object]) -> None:
        """Call `act` at `moment` (seconds of the clock's monotonic time), or at once if that has passed."""
        with self._changed:
            if self._closed:
                return
            self._count += 1
            heappush(self._due, (moment, self._count, act))
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="nerv-timer", daemon=True)
                with suppress(RuntimeError):  # at the interpreter's end none can start; who closes waits by itself
                    thread.start()
                    self._thread = thread
            elif self._due[0][1] == self._count:
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._closed and (wait := self._seconds()) != 0:
                    self._clock.wait(self._changed, wait)
                    self.wake_ups += 1
                if self._closed:
                    return
                _, _, act = heappop(self._due)
            act()

    def _seconds(self) -> float | None:
        return max(0.0, self._due[0][0] - self._clock.monotonic()) if self._due else None

    def close(self) -> None:
        """Forget what is still due, and end the thread."""
        with self._changed:
            self._closed = True
            self._due.clear()
            self._changed.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
