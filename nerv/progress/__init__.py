"""`ProgressView`: a live view of one execution, for people: a bar on a terminal and in Jupyter, plain lines elsewhere.

How it works. One thread, `nerv-progress`, wakes ten times a second while the view is on. It reads what the execution's
log has got since the last time, behind a cursor of its own (see nerv/eventlog.py), and has a display drawn anew if
anything has changed. So tasks and events don't pay for being watched, however many there are. (Subscribing to the bus
was the alternative; it costs several microseconds an event.)

`Tally` does the counting. A display is one of three: `Lines`, `Bar` and `Cell`. rich is imported when a bar is first
drawn, so a run that is over before that doesn't wait for it. A view can't hurt a run: a display that fails is dropped,
with one warning in the log.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Final, Protocol, Self

from nerv.progress.lines import Lines
from nerv.progress.pictures import Above, Bar, Cell
from nerv.progress.tally import Tally

if TYPE_CHECKING:
    from nerv.execution import Execution

__all__ = ["ProgressView"]

INTERVAL: Final = 0.1  # seconds between two looks at the log

_log = logging.getLogger("nerv")


class Display(Protocol):
    """What shows a Tally."""

    def draw(self, tally: Tally, now: float) -> None:
        """Show how far it is at `now` (epoch seconds). Called often: what would look the same needn't be drawn."""

    def close(self, tally: Tally, now: float) -> None:
        """Show how it ended, and leave the terminal as it was found."""

    def let_go(self) -> None:
        """Give back what was taken, without drawing anything any more."""


class ProgressView:
    """Shows how far an execution is, from `start` to `stop`, or inside a `with` block. It may be used once.

    Args:
        execution: what to watch; it may have begun, or ended.
        stream: where to draw; default: the notebook in Jupyter, else `sys.stderr` as it is now. A terminal gets a bar
            that is drawn anew up to ten times a second, anything else gets lines.
        clock: epoch seconds.
    """

    def __init__(
        self, execution: Execution, *, stream: IO[str] | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._tally = Tally(execution.log)
        self._display: Display | None = display_for(stream)
        self._clock = clock
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nerv-progress", daemon=True)

    def start(self) -> None:
        """Begin to show it."""
        self.tick()
        self._thread.start()

    def stop(self) -> None:
        """Show the end, and let go of the terminal."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._tally.read()
        display, self._display = self._display, None
        if display is not None:
            _guarded(display, lambda: display.close(self._tally, self._clock()))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def tick(self) -> None:
        """Count what is new, and draw."""
        display = self._display
        self._tally.read()
        if display is not None and not _guarded(display, lambda: display.draw(self._tally, self._clock())):
            self._display = None

    def _run(self) -> None:
        while self._display is not None and not self._stopping.wait(INTERVAL):
            self.tick()


def _guarded(display: Display, act: Callable[[], None]) -> bool:
    """Whether it went well. A closed pipe, a full disk or a letter that can't be written mustn't cost a run."""
    try:
        act()
    except Exception:  # noqa: BLE001  (whatever it is, the run is worth more than the picture of it)
        display.let_go()
        _log.warning("the progress view gave up; the run goes on without it", exc_info=True)
        return False
    return True


def display_for(stream: IO[str] | None) -> Display:
    """The display that suits a stream; None: that suits where we are."""
    if stream is None and in_notebook():
        return Cell()
    stream = stream or sys.stderr or io.StringIO()  # a program without a terminal may have no stderr
    taken = isinstance(stream, Above) or hasattr(stream, "rich_proxied_file")  # there is a bar already: write above it
    if stream.isatty() and not taken and os.environ.get("TERM") not in ("dumb", "unknown"):
        return Bar(stream)
    return Lines(stream)


def in_notebook() -> bool:
    """Whether what we show would be seen in Jupyter."""
    if "IPython" not in sys.modules:
        return False
    from rich.console import Console

    return Console().is_jupyter
