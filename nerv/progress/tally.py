"""`Tally`: how far an execution is, counted from its log; and the words in which that is said."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import IO, Any, Final, NamedTuple

from nerv import eventlog
from nerv.errors import described
from nerv.eventlog import CODE_OF, EventLog
from nerv.events import EventType
from nerv.statuses import TaskStatus, WorkflowStatus

MOST_FAILURES: Final = 20  # that are shown one by one
WIDEST: Final = 200  # characters of an error

_WAITS: Final = frozenset({CODE_OF[EventType.TASK_WAITING], CODE_OF[EventType.TASK_RETRYING]})
_ENDS: Final[Mapping[int, str]] = {
    eventlog.TASK_COMPLETED: "completed",
    eventlog.TASK_FAILED: "failed",
    eventlog.TASK_SKIPPED: "skipped",
    eventlog.TASK_CANCELLED: "cancelled",
}
_STATUSES: Final[Mapping[int, WorkflowStatus]] = {
    eventlog.WORKFLOW_PAUSED: WorkflowStatus.PAUSED,
    eventlog.WORKFLOW_RESUMED: WorkflowStatus.RUNNING,
    eventlog.WORKFLOW_COMPLETED: WorkflowStatus.COMPLETED,
    eventlog.WORKFLOW_FAILED: WorkflowStatus.FAILED,
    eventlog.WORKFLOW_CANCELLED: WorkflowStatus.CANCELLED,
}


class Running(NamedTuple):
    """A task that runs: since when (epoch seconds), and what it last said with `ctx.progress`."""

    task_id: str
    since: float
    done: Any
    total: Any
    message: str


class Tally:
    """How far an execution is, counted from its log.

    Attributes:
        name: the workflow's.
        status: RUNNING, PAUSED, or how it ended.
        ended: how many tasks have "completed", "failed", been "skipped" or "cancelled".
        failures: (task id, what went wrong) of the failed tasks that nobody has taken out of this list yet.
        seen: how many records it has counted.
    """

    def __init__(self, log: EventLog) -> None:
        self.name = clean(log.workflow_name)
        self.status = WorkflowStatus.RUNNING
        self.ended = dict.fromkeys(_ENDS.values(), 0)
        self.failures: list[tuple[str, str]] = []
        self._log = log
        self.seen = 0
        self._running: dict[int, float] = {}
        self._said: dict[int, Mapping[str, Any]] = {}
        self._waiting: set[int] = set()
        log.follow(self)

    def read(self) -> None:
        """Count what is new in the log."""
        page = self._log.page
        end = len(page)
        new = page.between(self.seen, end)
        running, ended = self._running, self.ended
        if not self.seen and page.folded:  # it began long ago
            folded = {status.value.lower(): count for status, count in zip(TaskStatus, page.folded, strict=True)}
            ended.update((what, folded[what]) for what in ended)
        self.seen = end
        for code, task, at, _, data in new:
            if self._waiting:
                self._waiting.discard(task)
            if code == eventlog.TASK_STARTED:
                running[task] = at
            elif code in _ENDS:
                running.pop(task, None)
                ended[_ENDS[code]] += 1
                if self._said:
                    self._said.pop(task, None)
                if code == eventlog.TASK_FAILED:
                    self.failures.append((clean(str(page.ids[task])), _error_text(data)))
            else:
                self._read_other(code, task, data)

    def _read_other(self, code: int, task: int, data: Any) -> None:
        if code == eventlog.TASK_PROGRESS:
            self._said[task] = data
        elif code in _WAITS:
            self._running.pop(task, None)
            self._waiting.add(task)
        elif code in _STATUSES:
            self.status = _STATUSES[code]

    @property
    def reached(self) -> int:
        """The last seq that it doesn't need any more."""
        return self.seen

    @property
    def total(self) -> int:
        """How many tasks there are."""
        return len(self._log.ids)

    @property
    def done(self) -> int:
        """How many tasks have ended, however they did."""
        return sum(self.ended.values())

    @property
    def percent(self) -> int:
        """How much of it has ended; 100 only when all of it has."""
        return 100 * self.done // self.total if self.total else 100

    def running(self, most: int) -> list[Running]:
        """The tasks that run, the longest first; at most so many."""
        return [self._described(task, at) for task, at in islice(self._running.items(), most)]

    def _described(self, task: int, at: float) -> Running:
        said = self._said.get(task, {})
        message = clean(said.get("message") or "")
        task_id = clean(str(self._log.ids[task]))
        return Running(task_id, self._log.epoch + at, said.get("done"), said.get("total"), message)

    def counts(self) -> str:
        """`312/660 done, 4 running, 2 failed`."""
        parts = [f"{self.done:,}/{self.total:,} done"]
        if self._running:
            parts.append(f"{len(self._running):,} running")
        if self._waiting:
            parts.append(f"{len(self._waiting):,} waiting")
        parts += [f"{count:,} {what}" for what, count in self.ended.items() if count and what != "completed"]
        return ", ".join(parts)

    def elapsed(self, now: float) -> float:
        """Seconds from the start to the end, or to `now` (epoch seconds) if it hasn't ended."""
        records = self._log.records
        if not records:
            return 0.0
        if self.status.is_final:
            return records[-1][2] - records[0][2]
        return max(0.0, now - self._log.epoch - records[0][2])

    def headline(self) -> str:
        """How it ended, or that it was left while it was still running."""
        return self.status.name if self.status.is_final else f"left while {self.status.name}"


class Failures:
    """What is said of failures: a line each, up to a number that somebody may read."""

    def __init__(self) -> None:
        self._seen = 0

    def lines(self, tally: Tally) -> list[str]:
        """Take the failures out of the tally, and say them."""
        new, tally.failures = tally.failures, []
        lines = [f"task {task!r} failed with {text}" for task, text in new[: max(0, MOST_FAILURES - self._seen)]]
        if self._seen <= MOST_FAILURES < self._seen + len(new):
            lines.append("further failures are only counted")
        self._seen += len(new)
        return lines


def duration(seconds: float) -> str:
    """`0.4 s`, `12.3 s`, `3:05`, `1:02:03`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def writable(text: str, stream: IO[str]) -> str:
    """The text, with what the stream can't encode written as escapes."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def clean(text: object) -> str:
    """One line without control characters: ids and messages are users' and mustn't steer the terminal."""
    return "".join(c if c.isprintable() else " " for c in str(text))


def _error_text(data: Mapping[str, Any] | None) -> str:
    error = (data or {}).get("error")
    text = clean(described(error) if isinstance(error, BaseException) else error)
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}…"
