"""`InlinePool`: calls run in the thread that called `run`, one at a time, while it waits. The debugger's best friend.

Each execution that uses it has one of its own, because each has its own waiting thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic

from nerv.calls import Call
from nerv.clock import patiently
from nerv.functions import is_coroutine_function
from nerv.pools.base import Source
from nerv.tasks import TaskDef


class InlinePool:
    """Runs calls inside `serve` (a thread waits for the execution) or `served_by` (an event loop does)."""

    kind = "inline"
    counts_running = True
    attended = False
    tells_start = False
    may_block = True
    left_behind = 0

    def __init__(self, name: str = "inline") -> None:
        self.name = name
        self.limit = 1
        self.running = 0
        self._serving = threading.Lock()  # one thread serves at a time; a second one takes over when the first leaves
        self._ready = threading.Semaphore(0)
        self._loops: list[Callable[[], object]] = []  # what has an event loop look for work
        self._source: Source

    def bind(self, source: Source) -> None:
        """Told once where calls come from."""
        self._source = source

    def objection(self, task: TaskDef) -> str | None:
        """A coroutine function needs an event loop."""
        if task.fn is not None and is_coroutine_function(task.fn):
            return "is a coroutine function, which the inline pool can't run; leave out pool="
        return None

    def call_up(self, ready: int) -> None:  # noqa: ARG002  one is as good as many
        """Tell the waiting thread or loop that there is something to run."""
        self._source.call_later(self.wake)

    def arrived(self, worker: object) -> None:
        """Nothing to note."""

    def rested(self, worker: object) -> None:
        """The waiting thread goes back to waiting by itself."""

    def wake(self) -> None:
        """Have the server look again: something is ready, or the execution has ended."""
        self._ready.release()
        for look in self._loops:
            look()

    def serve(self, is_done: Callable[[], bool], timeout: float | None) -> bool:
        """Run calls in this thread, or wait while another does, until `is_done()`. False: `timeout` s have passed."""
        deadline = None if timeout is None else monotonic() + timeout

        def left() -> float | None:
            return None if deadline is None else max(0.0, deadline - monotonic())

        if not self._serving.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
            return is_done()
        try:
            while not is_done():
                self.pump()
                if not is_done() and not patiently(self._woken, left()):
                    return is_done()
            return True
        finally:
            self._serving.release()

    def _woken(self, timeout: float | None) -> bool:
        return self._ready.acquire(timeout=timeout)

    @contextmanager
    def served_by(self, schedule: Callable[[Callable[[], None]], object]) -> Iterator[None]:
        """Meanwhile calls run in an event loop; `schedule` is its `call_soon_threadsafe`."""

        def look() -> None:
            with suppress(RuntimeError):  # the loop was closed
                schedule(self.pump)

        self._loops = [*self._loops, look]
        look()
        try:
            yield
        finally:
            self._loops = [other for other in self._loops if other is not look]

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
