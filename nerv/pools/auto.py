"""`AutoPool`: one thread in which the first calls of functions with `pool="auto"` run and are measured.

Theory of operation. Calls come as to any thread pool, one at a time, and run beside a `Watch`: a second thread that
looks at the first now and then. After `SOON` seconds it says what it sees. If the call waits, the other tasks of its
function go to the thread pool at once: waiting loses nothing by company. If it computes, they are held: they would only
take the interpreter lock from it. In both cases the slot is lent, so that another function can be measured. So a
function that waits loses `SOON` by being measured, and one that computes nothing.

What is measured (`nerv.verdicts.Figures`). CPU time of the thread against wall time. Where the system tells
(/proc, Linux), the time that the thread wanted a core and had none counts as computing, so a busy machine changes
nothing. Whether it computes under the interpreter lock is seen by taking that lock: while the watch sleeps with it, a
thread that needs it stands still, and one inside C code that has let go of it uses CPU time. (A watch that is awake
would take a core from it: on a busy machine that shows nothing.) Without the clocks of other threads (macOS) all
computing counts as held, and no call waits for the end of another.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final, Protocol

from nerv.calls import Call
from nerv.pools.thread import ThreadPool, enter
from nerv.pools.weighing import weighed
from nerv.verdicts import BUSY, Figures

SOON: Final = 0.005
"""Seconds after which the watch says whether a call computes."""
FIRST_LOOK: Final = 0.001
LONGEST_PAUSE: Final = 0.05
"""Seconds from the start to the first look, and between two looks at most; each pause is half as long again."""
GRIP: Final = 0.001
"""Seconds for which the interpreter lock is held to see whether a call computes without it."""
PROOF: Final = 0.0002
"""Seconds of CPU in that time which prove it. Measured on a machine with four times as much work as cores: 3 to 40 us
of a thread that needs the lock, 450 to 1,000 us of one that doesn't."""
GRIPS: Final = 5
TRIES: Final = 12
"""How often that is done in one call until it was seen so often what the thread does, and how often at most: on a busy
machine it may not have had a core meanwhile, which shows nothing."""

Say = Callable[[bool], None]


class Measuring(Protocol):
    """What measures a call. Before its `call.run()` returns it may `say` whether the call computes; if it has said so,
    also that it does no more.
    """

    def measure(self, call: Call, say: Say) -> Figures:
        """Run the call, and say what that took."""


class AutoPool(ThreadPool):
    """Runs calls one at a time, or more if they wait, and reports what it measured to their executions' placements.

    Args:
        name: the pool's.
        meter: what measures; default: the real clocks.
    """

    def __init__(self, name: str, meter: Measuring | None = None) -> None:
        super().__init__(name, 1)
        self._meter = Meter() if meter is None else meter

    def _work(self, worker: Any) -> None:
        enter(worker)
        done: Call | None = None
        while self._woken(worker):
            while (call := self.source.advance(self, done, worker)) is not None:
                worker.call = call
                self._try(call)
                self.finished += 1
                if call.abandoned:
                    self._back()
                    return
                done = call
            if done is not None and done.abandoned:
                self._back()
                return
            worker.call = done = None

    def _try(self, call: Call) -> None:
        placement = call.live.placement
        if placement is None or not placement.is_undecided(call):
            call.run()
            return

        has_lent = False

        def say(busy: bool) -> None:  # noqa: FBT001  it is the whole message
            nonlocal has_lent
            if not has_lent:
                has_lent = True
                self.source.lend(self, call)
            placement.looked(call, busy=busy)

        figures = self._meter.measure(call, say)
        if figures.is_heavy:
            figures = weighed(call, figures)
        placement.measured(call, figures)
        self.source.recall(self, call)

    def abandon(self, calls: Any) -> None:
        """Leave these threads behind: what they would have shown nobody will know."""
        given_up = list(calls)
        super().abandon(given_up)
        for call in given_up:
            if call.live.placement is not None and call.live.placement.is_undecided(call):
                call.live.placement.given_up(call)


class Meter:
    """Measures with the system's clocks."""

    def measure(self, call: Call, say: Say) -> Figures:
        """Run the call, and say what that took."""
        watch = Watch(call, say)
        delay, whole, cpu, wall = _delay(), time.process_time(), time.thread_time(), time.perf_counter()
        watch.start()
        call.run()
        wall, cpu = time.perf_counter() - wall, time.thread_time() - cpu
        whole, delay = time.process_time() - whole, _delay() - delay
        watch.stop()
        return Figures(wall, min(wall, cpu + delay), cpu * (1.0 - watch.free), max(0.0, whole - cpu))


class Watch:
    """Looks at the thread that made it until it is stopped, or there is nothing more to see.

    `free` is the part of its looks in which the thread computed without the interpreter lock.
    """

    def __init__(self, call: Call, say: Say) -> None:
        self._call = call
        self._say: Say | None = say
        self._door = threading.Lock()  # so that nothing is said after `stop`
        self._stop = threading.Event()
        self._grips = self._free_grips = 0
        self._native = threading.get_native_id()
        clock = getattr(time, "pthread_getcpuclockid", None)
        self._clock: int | None = None if clock is None else clock(threading.get_ident())

    @property
    def free(self) -> float:
        """From 0 to 1."""
        return self._free_grips / self._grips if self._grips else 0.0

    def start(self) -> None:
        """Begin to look. If the system has no further thread, the call is measured without."""
        try:
            threading.Thread(target=self._watch, name="nerv-auto-watch", daemon=True).start()
        except RuntimeError:
            self._speak(busy=False)

    def stop(self) -> None:
        """The call has ended."""
        with self._door:
            self._say = None
        self._stop.set()

    def _speak(self, *, busy: bool) -> None:
        with self._door:
            if self._say is not None:
                self._say(busy)

    def _watch(self) -> None:
        with suppress(OSError):  # a call that was given up has ended, and its thread and the clock with it
            self._look()

    def _look(self) -> None:
        if self._clock is None:
            if not self._stop.wait(SOON):
                self._speak(busy=False)
            return
        began = seen = time.perf_counter()
        used, pause, idle, tries, said = self._used(), FIRST_LOOK, 0, 0, False
        while not (self._stop.wait(pause) or self._call.abandoned):
            now, used_now = time.perf_counter(), self._used()
            computes = used_now - used >= (now - seen) / 2 or _state(self._native) == "R"
            idle = 0 if computes else idle + 1
            if computes and tries < TRIES and self._grips < GRIPS:
                tries += 1
                self._grip()
            seen, used = time.perf_counter(), self._used()
            pause = min(pause * 1.5, LONGEST_PAUSE)
            if now - began < SOON:
                continue
            waits = idle >= 2  # once may be chance
            if waits or self.free >= BUSY:
                self._speak(busy=False)
                return
            if not said:
                said = True
                self._speak(busy=True)

    def _grip(self) -> None:
        """Hold the interpreter lock, and see whether the thread computes nevertheless."""
        before = self._used()
        _sleeper()(int(GRIP * 1e6))
        used = self._used() - before
        if 0 < used <= 2 * GRIP:  # else it had no core, or somebody else had the lock in between
            self._grips += 1
            self._free_grips += used >= PROOF

    def _used(self) -> float:
        """The thread's CPU time so far."""
        assert self._clock is not None
        return time.clock_gettime(self._clock)


@cache
def _sleeper() -> Callable[[int], object]:
    """The system's `usleep`, called in such a way that the interpreter lock is kept."""
    try:
        from ctypes import PyDLL
    except ImportError:  # a Python that was built without
        return lambda _: None
    return PyDLL(None).usleep


def _delay() -> float:
    """Seconds for which the present thread has wanted a core and had none so far, if the system tells."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text(encoding="ascii").split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def _state(native: int) -> str:
    """The state of a thread as the system has it, "R": it has a core or wants one; "?": nobody knows."""
    try:
        return Path(f"/proc/self/task/{native}/stat").read_bytes().rpartition(b")")[2][1:2].decode("ascii")
    except OSError:
        return "?"
