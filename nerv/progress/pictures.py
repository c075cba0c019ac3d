"""Progress that is drawn anew in place: `Bar` on a terminal, `Cell` in Jupyter. rich does the colours and the notebook.

A frame is the bar, a line for each task that runs (some of them), and ends with a newline: the cursor rests below it.
To draw the next one, the bar goes up as many lines as the last one had and clears what is there. What is to stay
(failures, what tasks print) is written in front of the frame in the same go.

`Above` stands in for `sys.stdout` and `sys.stderr` meanwhile and only collects what is printed. rich.live would do all
this, but it draws the whole frame for every line that is printed, in the thread that prints: a task that prints 5,000
lines then takes 3 s instead of 0.06 s.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
import threading
from collections import deque
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple, TextIO

from nerv.progress.tally import Failures, Running, Tally, duration, writable
from nerv.statuses import WorkflowStatus

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

MOST_RUNNING: Final = 8  # tasks that are named
WIDEST_BAR: Final = 40
NARROWEST_BAR: Final = 8  # one with less room is left out
WIDEST_NAME: Final = 30
NOTEBOOK_WIDTH: Final = 100

_STYLES: Final = {WorkflowStatus.COMPLETED: "green", WorkflowStatus.FAILED: "red", WorkflowStatus.CANCELLED: "yellow"}


class Signs(NamedTuple):
    """What a bar is drawn with."""

    done: str
    rest: str
    failure: str


FINE: Final = Signs("━", "━", "✗")
ROUGH: Final = Signs("#", "-", "x")  # for terminals that know nothing but ASCII


class Above(io.TextIOBase):
    """Stands in for a stream while a bar is below it: keeps what is written until the bar fetches it.

    Whoever still holds it when the bar is gone writes to the stream itself.
    """

    def __init__(self, stream: TextIO, written: deque[str]) -> None:
        self._stream = stream
        self._written: deque[str] | None = written
        # Nothing may be kept that nobody fetches. Reentrant: a signal handler or a __del__ may print at any moment.
        self._lock = threading.RLock()

    def write(self, text: str) -> int:
        """Keep text for the bar."""
        with self._lock:
            if self._written is not None:
                self._written.append(text)
                return len(text)
        return self._stream.write(text)

    def flush(self) -> None:
        """Nothing to do: the bar fetches what there is soon enough."""
        if self._written is None:
            self._stream.flush()

    def isatty(self) -> bool:
        """What the stream says."""
        return self._stream.isatty()

    def writable(self) -> bool:
        """It is."""
        return True

    def fileno(self) -> int:
        """The stream's."""
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a property like the stream's own
        """The stream's."""
        return self._stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """The stream's."""
        return self._stream.errors

    def let_go(self) -> None:
        """From now on write to the stream itself."""
        with self._lock:
            self._written = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Bar:
    """A bar with what is running below it, drawn anew in place; failures stay above it."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._signs = FINE if _can_write(stream, "".join(FINE)) else ROUGH
        self._console: Console | None = None
        self._drawn: tuple[int, int] | None = None
        self._height = 0
        self._failures = Failures()
        self._written: deque[str] = deque()
        self._begun = ""  # a line that tasks have begun to print
        self._stand_ins: dict[str, Above] = {}

    def draw(self, tally: Tally, now: float) -> None:
        """Draw, unless it would look the same. The first time nothing has happened yet: nothing is drawn."""
        before, self._drawn = self._drawn, (tally.seen, int(tally.elapsed(now)))
        if before is None or (before == self._drawn and not self._written):
            return
        self._stand_in()
        size = self._made().size
        shown = picture(tally, now, size.width, rows=min(MOST_RUNNING, size.height - 3), signs=self._signs)
        *lines, self._begun = (self._begun + self._taken()).split("\n")
        self._frame("".join(f"{line}\n" for line in lines), tally, shown)

    def close(self, tally: Tally, now: float) -> None:
        """Draw the end, which stays."""
        shown = picture(tally, now, self._made().width, last=True, signs=self._signs)
        printed = self._given_back()
        end = "" if not printed or printed.endswith("\n") else "\n"
        self._frame(printed + end, tally, shown)

    def let_go(self) -> None:
        """Give back `sys.stdout` and `sys.stderr`, with what was printed."""
        printed = self._given_back()
        with contextlib.suppress(OSError, ValueError):  # the stream may be what is broken
            self._stream.write(writable(printed, self._stream))

    def _given_back(self) -> str:
        """Give back the streams; what was printed and isn't shown yet."""
        for name, stand_in in self._stand_ins.items():
            stand_in.let_go()
            if getattr(sys, name) is stand_in:
                setattr(sys, name, stand_in._stream)  # noqa: SLF001  (a stand-in looks like its stream: no new names)
        begun, self._begun = self._begun, ""
        return begun + self._taken()

    def _stand_in(self) -> None:
        """Take over what is printed on the same terminal; what goes into a file is left alone."""
        if self._stand_ins or self._stream is not sys.stderr:
            return
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is not None and stream.isatty():
                self._stand_ins[name] = Above(stream, self._written)
                setattr(sys, name, self._stand_ins[name])

    def _taken(self) -> str:
        written = self._written
        return "".join(written.popleft() for _ in range(len(written)))

    def _frame(self, printed: str, tally: Tally, shown: Text) -> None:
        from rich.text import Text

        console = self._made()
        with console.capture() as captured:
            for line in self._failures.lines(tally):
                console.print(Text(f"{self._signs.failure} {line}", style="red"))
        failed = captured.get()
        with console.capture() as captured:
            console.print(shown)
        frame = captured.get()
        back = f"\r\x1b[{self._height}A\x1b[J" if self._height else ""
        self._stream.write(writable(f"{back}{printed}{failed}{frame}", self._stream))
        self._stream.flush()
        self._height = frame.count("\n")

    def _made(self) -> Console:
        from rich.console import Console

        if self._console is None:
            self._console = Console(file=self._stream, markup=False, emoji=False, highlight=False, force_jupyter=False)
        return self._console


class Cell:
    """The same picture in a notebook, below the cell; failures are listed under it."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._failures = Failures()
        self._failed: list[str] = []
        self._drawn: tuple[int, int] | None = None

    def draw(self, tally: Tally, now: float) -> None:
        """Draw, unless it would look the same. The first time nothing has happened yet: nothing is drawn."""
        before, self._drawn = self._drawn, (tally.seen, int(tally.elapsed(now)))
        if before is not None and before != self._drawn:
            self._show(picture(tally, now, NOTEBOOK_WIDTH, failed=self._failed_by_now(tally)))

    def close(self, tally: Tally, now: float) -> None:
        """Draw the end, which stays."""
        self._show(picture(tally, now, NOTEBOOK_WIDTH, last=True, failed=self._failed_by_now(tally)))

    def let_go(self) -> None:
        """Nothing was taken."""

    def _failed_by_now(self, tally: Tally) -> list[str]:
        self._failed += self._failures.lines(tally)
        return self._failed

    def _show(self, shown: Text) -> None:
        if self._handle is None:
            display = importlib.import_module("IPython.display").display  # it is there: nerv runs inside it
            self._handle = display(shown, display_id=True)
        else:
            self._handle.update(shown)


def picture(
    tally: Tally,
    now: float,
    width: int,
    *,
    rows: int = MOST_RUNNING,
    last: bool = False,
    failed: Sequence[str] = (),
    signs: Signs = FINE,
) -> Text:
    """The bar, the tasks that run (so many) or, `last`, how it ended, and these lines about failures."""
    from rich.text import Text

    running = [] if last else tally.running(max(0, rows) + 1)
    lines = [_head(tally, now, width, signs, last=last), *(_row(task, now) for task in running[: max(0, rows)])]
    if len(running) > rows:
        lines.append(Text("  ...", style="dim"))
    lines += [Text(f"{signs.failure} {line}", style="red") for line in failed]
    for line in lines:
        line.truncate(width, overflow="ellipsis" if signs is FINE else "crop")
    return Text("\n").join(lines)


def _head(tally: Tally, now: float, width: int, signs: Signs, *, last: bool) -> Text:
    from rich.text import Text

    name = Text(tally.name, style="bold")
    name.truncate(WIDEST_NAME, overflow="ellipsis" if signs is FINE else "crop")
    state = tally.headline() if last else "PAUSED" if tally.status is WorkflowStatus.PAUSED else ""
    figures = "  ".join(filter(None, (state, tally.counts(), duration(tally.elapsed(now)))))
    room = min(WIDEST_BAR, width - name.cell_len - len(figures) - 3)
    line = name.append(" ")
    if room >= NARROWEST_BAR:
        done = room * tally.done // tally.total if tally.total else room
        line.append(signs.done * done, style=_STYLES.get(tally.status, "yellow" if last else "cyan"))
        line.append(signs.rest * (room - done) + " ", style="bright_black")
    return line.append(figures, style="not bold")


def _row(task: Running, now: float) -> Text:
    from rich.text import Text

    text = Text(f"  {task.task_id}")
    text.append(f"  {duration(max(0.0, now - task.since))}", style="dim")
    if task.done is not None:
        text.append(f"  {task.done}/{task.total}" if task.total is not None else f"  {task.done}", style="cyan")
    return text.append(f"  {task.message}", style="dim")


def _can_write(stream: IO[str], text: str) -> bool:
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True
