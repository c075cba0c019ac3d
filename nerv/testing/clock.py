"""`FakeClock`: time that stands still until a test moves it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from heapq import heappop, heappush
from math import inf
from typing import Final

QUIET: Final = 0.01
"""Real seconds without anybody asking for the time after which an `auto` clock takes it that nothing runs."""


class Entry:
    """Something that is due. `act` is None once it was done, or taken back."""

    __slots__ = ("act", "moment", "number")

    def __init__(self, moment: float, number: int, act: Callable[[], object]) -> None:
        self.moment = moment
        self.number = number
        self.act: Callable[[], object] | None = act

    def cancel(self) -> None:
        """It isn't due any more."""
        self.act = None

    def __lt__(self, other: Entry) -> bool:
        return (self.moment, self.number) < (other.moment, other.number)


class FakeClock:
    """A `nerv.clock.Clock` whose time goes on only by `advance` and `jump`; give it to `WorkflowManager(clock=...)`.

    What falls due on the way happens in order, each at its own moment, in the thread that moves the clock, and is over
    when that call returns. So an hour of grace passes at once, and the test can look at what became of it.

    A clock that is `auto` also jumps to the next due moment by itself, again and again, when nothing runs. It can't see
    into threads: nothing runs, to it, when nobody has asked it for the time for 10 real milliseconds (the engine asks
    at every step). Where that won't do, `SimulatedPools` moves the clock instead, and knows exactly.

    Args:
        auto: jump by itself.
        epoch: what `time()` says at the moment 0.0 of `monotonic()`, in epoch seconds.
    """

    def __init__(self, *, auto: bool = False, epoch: float = 1_800_000_000.0) -> None:
        self.auto = auto
        self.epoch = epoch
        self._now = 0.0
        self._due: list[Entry] = []
        self._count = 0
        self._asked = 0  # how often somebody asked for the time
        self._driver: Callable[[], bool] | None = None
        self._read = threading.local()  # `.now`: what this thread was last told
        self._lock = threading.Condition()  # guards all of the above
        self._moving = threading.RLock()  # one thread moves time; what it does on the way may move it further
        self._thread: threading.Thread | None = None

    # ---- what a Clock does ------------------------------------------------------------------------------------------

    def time(self) -> float:
        """Epoch seconds."""
        return self.epoch + self.monotonic()

    def monotonic(self) -> float:
        """Seconds that were advanced so far."""
        self._asked += 1
        now = self._read.now = self._now
        return now

    def wait(self, condition: threading.Condition, timeout: float | None) -> None:
        """Wait, holding `condition`, until it is notified or the clock has moved on by `timeout` (None: for ever).

        The seconds count from when the thread last asked for the time, so that nothing is slept through if the clock is
        moved between asking and waiting. As from any condition, it may return early: look again. If the clock is
        driven, who waits lets the simulation go on meanwhile.
        """
        moment = inf if timeout is None else getattr(self._read, "now", self._now) + timeout
        if moment <= self._now:
            return

        def ring() -> None:
            with condition:
                condition.notify_all()

        entry = None if moment == inf else self.at(moment, ring)
        try:
            if not self._let_happen(condition):
                condition.wait()
        finally:
            if entry is not None:
                entry.act = None

    def _let_happen(self, condition: threading.Condition) -> bool:
        if self._driver is None:
            return False
        condition.release()
        try:
            return self._driver()
        finally:
            condition.acquire()

    def alarms(self) -> FakeAlarms:
        """New alarms by this clock."""
        return FakeAlarms(self)

    def at(self, moment: float, act: Callable[[], object]) -> Entry:
        """Call `act` when `moment` of `monotonic()` has come, soon if it has passed."""
        with self._lock:
            self._count += 1
            entry = Entry(moment, self._count, act)
            heappush(self._due, entry)
            if self._thread is None and self._driver is None and (self.auto or moment <= self._now):
                self._thread = threading.Thread(target=self._go, name="nerv-fake-clock", daemon=True)
                self._thread.start()
        return entry

    # ---- moving it --------------------------------------------------------------------------------------------------

    @property
    def due(self) -> float | None:
        """The next moment at which something is due (of `monotonic()`), None if nothing is."""
        with self._lock:
            return self._next()

    def advance(self, seconds: float) -> None:
        """Move time on by `seconds`.

        Raises:
            ValueError: less than 0 seconds.
        """
        if not seconds >= 0:
            raise ValueError(f"time goes forward: advance takes seconds from 0, not {seconds!r}")
        with self._moving:
            target = self._now + seconds
            while (act := self._reach(target)) is not None:
                act()

    def jump(self) -> bool:
        """Move time on to the next moment at which something is due. False: nothing is."""
        with self._moving:
            moment = self.due
            if moment is None:
                return False
            self.advance(max(0.0, moment - self._now))
            return True

    def drive(self, driver: Callable[[], bool]) -> None:
        """From now on `driver` alone moves the clock, which does nothing by itself any more, `auto` or not.

        `driver` lets the next thing of a simulation happen, and says whether anything did. It is called here whenever
        somebody waits by this clock, since otherwise the simulation would stand still meanwhile.
        """
        with self._lock:
            self._driver = driver

    def _reach(self, target: float) -> Callable[[], object] | None:
        """Go on to the next thing that is due by `target`, and give what is to be done then; or go on to `target`."""
        with self._lock:
            moment = self._next()
            if moment is None or moment > target:
                self._now = max(self._now, target)
                return None
            self._now = max(self._now, moment)
            entry = heappop(self._due)
            act, entry.act = entry.act, None
            return act or _nothing  # it was taken back this very moment

    def _next(self) -> float | None:
        while self._due and self._due[0].act is None:
            heappop(self._due)
        return self._due[0].moment if self._due else None

    def _go(self) -> None:
        """The clock's own thread, there only while it has something to do: what is due already and, if the clock is
        auto, jumps when all is quiet.
        """
        while self._wants_jump():
            self.jump()

    def _wants_jump(self) -> bool:
        with self._lock:
            while self._driver is None and (moment := self._next()) is not None:
                asked = self._asked
                if moment <= self._now or (self.auto and not self._lock.wait(QUIET) and asked == self._asked):
                    return True
                if not self.auto:
                    break
            self._thread = None
            return False


def _nothing() -> None:
    """Do it."""


class FakeAlarms:
    """The `nerv.clock.Alarms` of a `FakeClock`."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._entries: list[Entry] = []

    def at(self, moment: float, act: Callable[[], object]) -> Entry:
        """Call `act` at `moment` of the clock's monotonic time, or soon if that has passed."""
        self._entries = [entry for entry in self._entries if entry.act is not None]
        entry = self._clock.at(moment, act)
        self._entries.append(entry)
        return entry

    def close(self) -> None:
        """Forget what is still due."""
        for entry in self._entries:
            entry.act = None
