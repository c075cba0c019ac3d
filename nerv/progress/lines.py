"""`Lines`: progress where nothing can be drawn anew: in a file, a pipe, the log of a build server."""

from __future__ import annotations

from typing import IO, Final

from nerv.progress.tally import Failures, Tally, duration, writable

QUIET: Final = 5.0  # seconds after which it is said how far it is, even if that isn't far


class Lines:
    """One line at the start, at each tenth of the way, after a long silence, for each failure, and at the end."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._tenth = -1
        self._spoken = 0.0
        self._failures = Failures()

    def draw(self, tally: Tally, now: float) -> None:
        """Say what there is to say."""
        if self._tenth < 0:
            self._tenth, self._spoken = tally.percent // 10, now
            self._say(tally, f"{tally.total:,} task{'s' if tally.total != 1 else ''}")
        self._say_failures(tally)
        elapsed = tally.elapsed(now)
        silent = now - self._spoken >= max(QUIET, elapsed / 20)  # rarer and rarer: a day has some 150 such lines
        further = tally.percent // 10 > self._tenth and not tally.status.is_final
        if further or silent:
            self._tenth, self._spoken = tally.percent // 10, now
            names = ", ".join(task.task_id for task in tally.running(3))
            self._say(tally, f"{tally.percent}%, {tally.counts()}, {duration(elapsed)}{names and f' ({names})'}")

    def let_go(self) -> None:
        """Nothing was taken."""

    def close(self, tally: Tally, now: float) -> None:
        """Say how it ended."""
        self._say_failures(tally)
        self._say(tally, f"{tally.headline()}, {tally.counts()}, {duration(tally.elapsed(now))}")

    def _say_failures(self, tally: Tally) -> None:
        for line in self._failures.lines(tally):
            self._say(tally, line)

    def _say(self, tally: Tally, text: str) -> None:
        self._stream.write(writable(f"{tally.name}: {text}\n", self._stream))
        self._stream.flush()
