"""`InlinePool`: calls run in the thread that called `run`, one at a time, while it waits. The debugger's best friend.

Each execution that uses it has one of its own, because each has its own waiting thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from nerv.calls import Call
from nerv.functions import is_coroutine_function
from nerv.pools.base import Source
from nerv.tasks import TaskDef


class InlinePool:
    """Runs calls inside `serve` (a thread waits for the execution) or `pump` (an event loop does)."""

    kind = "inline"
    counts_running = True
    attended = False

    def __init__(self, name: str = "inline") -> None:
        self.name = name
        self.limit = 1
        self.running = 0
        self._serving = threading.Lock()  # one thread serves at a time; a second waiter just waits for the end
        self._ready = threading.Semaphore(0)
        self._wake: Callable[[], object] = self._ready.release
        self._source: Source

    def bind(self, source: Source) -> None:
        """Told once where calls come from."""
        self._source = source

    def objection(self, task: TaskDef) -> str | None:
        """A coroutine function needs an event loop."""
        if task.fn is not None and is_coroutine_function(task.fn):
            return "is a coroutine function, which the inline pool can't run; leave out pool="
        return None

    def call_up(self, ready: int) -> None:
        """Tell the waiting thread or loop that there is something to run."""
        self._source.call_later(self.wake)

    def arrived(self, worker: object) -> None:
        """Nothing to note."""

    def rested(self, worker: object) -> None:
        """The waiting thread goes back to waiting by itself."""

    def wake(self) -> None:
        """Have the server look again: something is ready, or the execution has ended."""
        self._wake()

    def serve(self, is_done: Callable[[], bool], timeout: float | None) -> bool:
        """Run calls in this thread until `is_done()`; False when another thread does that already or time is up."""
        if not self._serving.acquire(blocking=False):
            return False
        try:
            while not is_done():
                self.pump()
                if not is_done() and not self._ready.acquire(timeout=timeout):
                    return False
            return True
        finally:
            self._serving.release()

    def serve_loop(self, schedule: Callable[[Callable[[], None]], object]) -> None:
        """From now on run calls in an event loop; `schedule` is its `call_soon_threadsafe`."""
        self._wake = lambda: schedule(self.pump)
        schedule(self.pump)

    def pump(self) -> None:
        """Run what is ready, here and now."""
        call: Call | None = None
        while (call := self._source.advance(self, call)) is not None:
            call.run()

    def tell_cancelled(self, calls: Iterable[Call]) -> None:
        """Its task asks `ctx.cancelled`."""

    def abandon(self, calls: Iterable[Call]) -> None:
        """The caller's own thread can't be left behind: it goes on when the function returns."""

    def close(self, patience: float) -> None:
        """There is nothing to close."""
