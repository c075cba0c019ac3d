"""`Crew`: the worker processes of a pool, from their start to their burial, and the one place where the pool sleeps.

Only the pool's thread touches it, `wake` apart. It knows nothing of calls and the engine: what workers say, and which
have died, it tells the pool.
"""

from __future__ import annotations

import os
import selectors
import signal
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final

from nerv.errors import described
from nerv.pools.child import Child
from nerv.pools.wire import Frame

MISSTARTS: Final = 3
"""Workers in a row that may die before they have begun anything."""
LAST: Final = 1.0
"""Seconds that the operating system is given to end what was killed, on top of the patience of `close`."""


class Crew:
    """Worker processes.

    Args:
        setup: what each worker is told first.
        heard: called with a worker and the frames that it has sent.
        lost: called with a worker that is dead; its pipes are closed when that returns.

    Attributes:
        children: those in service, up or starting.
        misstarts: how many in a row have died without having begun what they were started for.
        trouble: how the last one died, or why it couldn't be started.
        is_closing: whether all were told to go.
    """

    def __init__(
        self, setup: bytes, heard: Callable[[Child, list[Frame]], None], lost: Callable[[Child], None]
    ) -> None:
        self.children: list[Child] = []
        self.misstarts = 0
        self.trouble = ""
        self.is_closing = False
        self._setup = setup
        self._heard = heard
        self._lost = lost
        self._leaving: list[Child] = []  # dismissed or killed, not buried yet
        self._pressures: deque[tuple[float, signal.Signals | None]] = deque()  # when closing gets how impatient
        self._door = threading.Lock()  # so that nobody writes to the wake pipe when it has been closed
        self._bell, self._button = os.pipe()
        self._is_over = False
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._bell, selectors.EVENT_READ, None)

    # ---- sleeping ---------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """End the present `sleep`, or the next; from any thread."""
        with self._door:
            if not self._is_over:
                os.write(self._button, b"\0")

    def sleep(self, until: float | None) -> None:
        """Until a worker says something or dies, `wake`, or a moment (monotonic); then do what there is to do."""
        moments = [moment for moment, _ in self._pressures if until is None or moment < until]
        until = min(moments, default=until)
        for key, events in self._selector.select(None if until is None else max(0.0, until - monotonic())):
            if key.data is None:
                os.read(self._bell, 4096)
                continue
            if events & selectors.EVENT_WRITE and not key.data.is_gone:  # this very round may have buried it
                self._flush(key.data)
            if events & selectors.EVENT_READ and not key.data.is_gone:
                self._read(key.data)
        self._press()

    def is_over(self) -> bool:
        """Whether all have gone that were told to."""
        return self.is_closing and not self.children and not self._leaving

    def _read(self, child: Child) -> None:
        try:
            frames = child.inbox.frames()
        except BlockingIOError:
            return
        except (EOFError, OSError, MemoryError, OverflowError):  # gone, or a task has written rubbish into the pipe
            self._bury(child)
        else:
            self._heard(child, frames)

    # ---- writing ----------------------------------------------------------------------------------------------------

    def mind(self, child: Child) -> None:
        """After something was sent: what hasn't gone through goes when the pipe can take it."""
        for outbox in (child.outbox, child.side):
            wanted = (selectors.EVENT_READ if outbox is child.outbox else 0) | (selectors.EVENT_WRITE if outbox else 0)
            known = self._selector.get_map().get(outbox.fd)
            if known is None:
                if wanted:
                    self._selector.register(outbox.fd, wanted, child)
            elif not wanted:
                self._selector.unregister(outbox.fd)
            elif known.events != wanted:
                self._selector.modify(outbox.fd, wanted, child)

    def _flush(self, child: Child) -> None:
        child.outbox.flush()
        child.side.flush()
        self.mind(child)
        if child.is_leaving:
            child.dismiss()

    # ---- coming and going -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start one more worker; if that fails, it counts as a misstart."""
        try:
            child = Child(self._setup)
        except (OSError, RuntimeError) as error:  # no such file, no memory; the interpreter is being shut down
            self.misstarts += 1
            self.trouble = f"couldn't be started ({described(error)})"
        else:
            self.children.append(child)
            self.mind(child)

    def dismiss(self, child: Child) -> None:
        """Let a worker go when it has done what it was sent."""
        self._let_go(child)
        child.dismiss()

    def kill(self, child: Child) -> None:
        """Kill a worker and what it has started."""
        self._let_go(child)
        child.signal(signal.SIGKILL)

    def _let_go(self, child: Child) -> None:
        child.is_leaving = True
        self.children.remove(child)
        self._leaving.append(child)

    def _bury(self, child: Child) -> None:
        for outbox in (child.outbox, child.side):
            if outbox.fd in self._selector.get_map():
                self._selector.unregister(outbox.fd)
        code = child.bury()
        self.trouble = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
        if child.is_leaving:
            self._leaving.remove(child)
        else:
            self.children.remove(child)
            if not child.begun and (child.queue or not child.is_up):
                self.misstarts += 1
        try:
            self._lost(child)
        finally:
            child.close()

    # ---- closing ----------------------------------------------------------------------------------------------------

    def close(self, patience: float) -> None:
        """Tell all to go: politely now, and the more firmly the more of `patience` seconds has gone by."""
        if self.is_closing:
            return
        self.is_closing = True
        now = monotonic()
        self._pressures += [
            (now + patience * 0.5, signal.SIGTERM),
            (now + patience * 0.75, signal.SIGKILL),
            (now + patience + LAST, None),
        ]
        for child in self.children[:]:
            if child.is_up:
                self.dismiss(child)
            else:
                self.kill(child)

    def _press(self) -> None:
        while self._pressures and self._pressures[0][0] <= monotonic():
            _, pressure = self._pressures.popleft()
            for child in self._leaving[:]:
                if pressure is None:
                    self._leaving.remove(child)  # not even killing helps: it is left to the operating system
                    child.close()
                else:
                    child.signal(pressure)

    def end(self) -> None:
        """Kill whoever is left, and close everything."""
        for child in [*self.children, *self._leaving]:
            child.signal(signal.SIGKILL)
            child.close()
        with self._door:
            self._is_over = True
            os.close(self._bell)
            os.close(self._button)
        self._selector.close()

    def strike(self) -> None:
        """Kill everybody, from another thread, when the pool's own is held up."""
        for child in [*self.children, *self._leaving]:
            child.signal(signal.SIGKILL)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
