"""What must be true of the events of one execution, whoever drove it: checked after the fact, first to last.

It knows nothing of the scheduler: only events, the table of moves, and `Case`, the graph and how it was to be run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from nerv.eventlog import CODES, Record
from nerv.events import TERMINAL, EventType
from nerv.statuses import MOVES, TaskStatus
from tests.properties.oracle import CANCELLED, COMPLETED, FAILED, FINAL, PENDING, RUNNING, SKIPPED, Case, final_statuses

STARTED, FAILURE = EventType.TASK_STARTED, EventType.TASK_FAILED
ALWAYS = "all_finished"


class History:
    """Reads an execution's events in order, and raises AssertionError at the first that can't be.

    Args:
        case: what was run; the ids of its tasks are their numbers as text.
        cancelled: whether it was cancelled, or may have been.
        halted: whether it was ended before its cleanup ran.
        claims: whether tasks may have been claimed ahead: those may start after a stop and during a pause.
    """

    def __init__(self, case: Case, *, cancelled: bool = False, halted: bool = False, claims: bool = False) -> None:
        self.case = case
        self.cancelled = cancelled or halted
        self.halted = halted
        self.claims = claims
        self.status: dict[int, str] = dict.fromkeys(case.tasks, PENDING)
        self.attempts = dict.fromkeys(case.tasks, 0)
        self.paused = self.stopping = self.ended = False
        self.first_failure = -1
        self.now = float("-inf")

    def read(self, records: Sequence[Record]) -> History:
        """Check a whole log, which must have an end."""
        for seq, (code, task, at, attempt, data) in enumerate(records, 1):
            try:
                assert at >= self.now, "time goes forward"
                self.now = at
                self._hear(seq, CODES[code], task, attempt, data)
            except AssertionError as error:
                error.add_note(f"event {seq} of {self.case}: {[(CODES[r[0]].name, *r[1:]) for r in records]}")
                raise
        self._check_end(CODES[records[-1][0]], records[-1][4])
        return self

    def _hear(self, seq: int, kind: EventType, task: int, attempt: int, data: Any) -> None:
        assert (seq == 1) == (kind is EventType.WORKFLOW_STARTED), "it starts once, with its first event"
        assert not self.ended, "nothing happens after the end"
        if task >= 0:
            self._hear_task(kind, task, attempt, data)
        elif kind in (EventType.WORKFLOW_PAUSED, EventType.WORKFLOW_RESUMED):
            assert self.paused is (kind is EventType.WORKFLOW_RESUMED), "it pauses and resumes in turn"
            self.paused = not self.paused
        elif kind in TERMINAL:
            self.ended = True

    def _hear_task(self, kind: EventType, task: int, attempt: int, data: Any) -> None:
        if kind is EventType.TASK_PROGRESS:
            assert self.status[task] == RUNNING
            return
        if kind is STARTED:
            self._check_start(task)
        elif kind is EventType.TASK_SKIPPED:
            self._check_skip(task, data)
        elif kind is EventType.TASK_CANCELLED:
            self._check_cancel(task, data)
        assert attempt == self.attempts[task]
        self.status[task] = MOVES[kind][TaskStatus[self.status[task]]].name
        if kind is FAILURE:
            assert isinstance(data["error"], BaseException)
            if self.first_failure < 0:
                self.first_failure = task
            self.stopping |= self.case.fail_fast

    def _check_start(self, task: int) -> None:
        case = self.case
        assert case.may_run(task, self.status), "what it waits for has happened"
        self.attempts[task] += 1
        assert self.attempts[task] == 1, "an attempt starts once"
        assert self.claims or not self.paused, "nothing starts in a pause"
        if self.stopping and not self.claims:
            assert case.rules[task] == ALWAYS, "after a stop nothing starts but cleanup"
        if case.levels:
            earlier = [other for other in case.tasks if case.level_of[other] < case.level_of[task]]
            assert all(self.status[other] in FINAL for other in earlier), "the levels before its own have ended"

    def _check_skip(self, task: int, data: Any) -> None:
        cause = int(data["cause"])
        assert self.status[cause] == FAILED
        assert cause in self.case.ancestors[task], "it depends on what it is skipped for"
        assert self.case.is_hopeless(task, self.status), "what it waits for can't happen any more"

    def _check_cancel(self, task: int, data: Any) -> None:
        assert isinstance(data["reason"], str)
        assert self.cancelled or self.stopping, "somebody stopped it"
        if self.status[task] == PENDING:
            assert self.halted or self.case.rules[task] != ALWAYS, "cleanup runs"
            self.stopping |= not self.case.is_hopeless(task, self.status)

    # ---- the end ----------------------------------------------------------------------------------------------------

    def _check_end(self, kind: EventType, data: Any) -> None:
        case, status = self.case, self.status
        assert self.ended, "it has an end"
        assert all(one in FINAL for one in status.values()), "every task has ended"
        completed = list(status.values()).count(COMPLETED)
        assert (data["task_count"], data["successful_tasks"]) == (len(status), completed)
        assert (kind is EventType.WORKFLOW_COMPLETED) == (completed == len(status))
        assert kind is not EventType.WORKFLOW_CANCELLED or self.cancelled
        assert f"WORKFLOW_{data['status'].name}" == kind
        if not self.halted:
            assert all(self.attempts[task] for task in case.tasks if case.rules[task] == ALWAYS), "cleanup ran"
        if not self.cancelled:
            expected = self._by_first_failure() if case.fail_fast else final_statuses(case, self._failed())
            assert list(status.values()) == expected

    def _failed(self) -> set[int]:
        return {task for task, status in self.status.items() if status == FAILED}

    def _by_first_failure(self) -> list[str]:
        """How tasks end under fail_fast: those that ran as they did, those that the first failure makes hopeless are
        skipped for it, and the rest is cancelled."""
        fate: dict[int, str] = {task: self.status[task] if self.attempts[task] else PENDING for task in self.case.tasks}
        if self.first_failure < 0:
            return list(fate.values())
        only = dict.fromkeys(self.case.tasks, PENDING) | {self.first_failure: FAILED}
        while lost := [t for t in self.case.tasks if only[t] == PENDING and self.case.is_hopeless(t, only)]:
            only |= dict.fromkeys(lost, SKIPPED)
        return [
            (SKIPPED if only[task] == SKIPPED else CANCELLED) if ran == PENDING else ran for task, ran in fate.items()
        ]


def running_at_most(records: Iterable[Record], limit: int) -> int:
    """The most tasks that ran at once by these events; never more than `limit`."""
    running = most = 0
    begun = set()
    for code, task, *_ in records:
        if CODES[code] is STARTED:
            running += 1
            begun.add(task)
        elif task in begun and CODES[code] is not EventType.TASK_PROGRESS:
            running -= 1
            begun.remove(task)
        most = max(most, running)
    assert most <= limit
    return most
