"""`Moment`: an execution right after one of its events; and `Fold`, which gives them all (nerv/folding.py)."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from itertools import chain
from operator import add, mul
from typing import Any, TypeAlias

from nerv.eventlog import EventLog
from nerv.folding import COUNTED, FINAL, STATUSES, History
from nerv.references import MISSING, Missing
from nerv.statuses import TaskStatus
from nerv.views import Progress, TaskSet, TaskState, TaskStates, TaskStatuses

Path: TypeAlias = tuple[Any, ...]


class Fold:
    """The execution that a log tells of, at every moment so far; safe to ask from threads.

    One lock an execution, so that a long fold of one holds up no question about another. No user code runs under it.
    """

    def __init__(self, log: EventLog, workflow_id: str) -> None:
        self.log = log
        self._labels = {"workflow": log.workflow_name, "workflow_id": workflow_id}
        self._lock = threading.Lock()
        self._history = History(log.page, log.epoch)

    def now(self) -> Moment:
        """The execution after all records that there are when the call is made."""
        with self._lock:
            page = self.log.page
            if page is not self._history.page:
                self._history = History(page, self.log.epoch)
            try:
                self._history.fold(len(page.records))
            except BaseException:  # Ctrl-C in the middle of a record, which is filed by half now: begin anew
                self._history = History(page, self.log.epoch)
                raise
            return Moment(self._history, self._history.seq, self._labels)

    def at(self, seq: int) -> Moment:
        """The execution after record `seq`; 0 is before the first.

        Raises:
            TypeError: `seq` is no int.
            ValueError: the log has no such record (any more).
        """
        return self._at(seq, self.now())

    def _at(self, seq: int, newest: Moment) -> Moment:
        if isinstance(seq, bool) or not isinstance(seq, int):
            raise TypeError(f"a moment is a seq, an int from 0 to {newest.seq}, not a value of {type(seq).__name__}")
        page = newest.history.page
        if 0 <= seq < page.first:
            raise ValueError(
                f"execution {self.log.execution_id!r} has folded lanes that ended since event {seq} into its counts: "
                f"give a seq from {page.first} (the first that is still at hand) to {newest.seq}, or set keep higher"
            )
        if not 0 <= seq <= newest.seq:
            raise ValueError(
                f"execution {self.log.execution_id!r} has no event {seq}: "
                f"give a seq from {page.first} ({'the first at hand' if page.first else 'before the first event'}) "
                f"to {newest.seq} (the last one so far)"
            )
        return Moment(newest.history, page.upto(seq), self._labels, seq)

    def diff(self, seq_a: int, seq_b: int) -> dict[Path, tuple[Any, Any]]:
        """What differs between two moments: path -> (at seq_a, at seq_b). Looks at the tasks named in between only."""
        newest = self.now()
        a, b = self._at(seq_a, newest), self._at(seq_b, newest)
        changes: dict[Path, tuple[Any, Any]] = {}
        _compare((), a.head_map(), b.head_map(), changes)
        added = range(*sorted((a.head.task_count, b.head.task_count)))
        for number in dict.fromkeys(chain(newest.history.named(a.place, b.place), added)):
            if number >= 0:
                _compare(("tasks", b.history.ids[number]), a.task(number), b.task(number), changes)
        return changes


class Moment:
    """An execution after record `seq`, which is the last of the first `place` records of its page. The views it gives
    are made in constant time.
    """

    __slots__ = ("_labels", "head", "history", "place", "seq")

    def __init__(self, history: History, place: int, labels: Mapping[str, str], seq: int | None = None) -> None:
        self.history = history
        self.place = place
        self.seq = place + history.page.dropped if seq is None else seq
        self.head = history.head(place)
        self._labels = labels

    def task(self, number: int) -> TaskState | Missing:
        """A task's state, by number; MISSING if the task was added later."""
        return self.history.state(number, self.place) if number < self.head.task_count else MISSING

    def tasks(self) -> TaskStates:
        """All tasks at hand."""
        return TaskStates(self.history, self.place, self.head.task_count)

    def statuses(self) -> TaskStatuses:
        """The statuses of all tasks at hand."""
        return TaskStatuses(self.history, self.place, self.head.task_count)

    def having(self, status: TaskStatus) -> TaskSet:
        """The tasks at hand that are RUNNING, COMPLETED or FAILED."""
        return TaskSet(self.history, self.place, status, self.history.counts(self.place)[STATUSES.index(status)])

    def progress(self) -> Progress:
        """How many tasks are in each status, those counted that aren't at hand any more."""
        counts, total = self.history.counts(self.place), self.task_count
        folded = self.history.page.folded
        if folded:
            counts = list(map(add, counts, folded))
        fraction = sum(map(mul, counts, FINAL)) / total if total else 1.0
        return Progress(total=total, fraction=fraction, **dict(zip(COUNTED, counts, strict=True)))

    @property
    def task_count(self) -> int:
        """How many tasks there were."""
        return self.head.task_count + sum(self.history.page.folded)

    def head_map(self) -> dict[str, Any]:
        """The state map without the tasks."""
        _, status, started_at, completed_at, _ = self.head
        times = {"started_at": started_at, "completed_at": completed_at}
        return {"status": status, **self._labels, **times, "task_count": self.task_count}


def _compare(path: Path, before: Any, after: Any, changes: dict[Path, tuple[Any, Any]]) -> None:
    """Add what differs between two values, going into mappings where both sides are one."""
    if before is after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in dict.fromkeys([*before, *after]):
            _compare((*path, key), before.get(key, MISSING), after.get(key, MISSING), changes)
    elif before is MISSING or after is MISSING or before != after:
        changes[path] = before, after
