"""What an execution says of itself: task results, the summary table, the trace file. Pure reading of its log."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, NamedTuple

from nerv.errors import described
from nerv.eventlog import CODES, TASK_STARTED, EventLog
from nerv.events import EventType
from nerv.far import Far, FarValues
from nerv.pages import Page, Record
from nerv.states import WAITING
from nerv.statuses import TaskResult, TaskStatus

if TYPE_CHECKING:
    from nerv.execution import Execution
    from nerv.live import Live

_ENDS = (EventType.TASK_COMPLETED, EventType.TASK_FAILED, EventType.TASK_CANCELLED)
_ATTEMPT_ENDS = (*_ENDS, EventType.TASK_RETRYING)


_TOLD = ("error", "cause", "reason", "result", "due", "done", "total", "message")
"""What an event's data has that a TaskResult has in other places, or not at all; the rest is its metadata."""


def last_facts(moves: Sequence[Record]) -> Mapping[str, Any]:
    """The data of the event that a task ended with; `moves` are the records that set its status."""
    for code, _, _, _, data in reversed(moves):
        if CODES[code] in _ENDS:
            return data or {}
    return {}


def last_seconds(moves: Sequence[Record]) -> float:
    """How long a task's last attempt took; 0.0 while it runs. `moves` as above."""
    ended = None
    for code, _, at, _, _ in reversed(moves):
        if code == TASK_STARTED:
            return 0.0 if ended is None else ended - at
        if CODES[code] in _ATTEMPT_ENDS:
            ended = at
    return 0.0


def attempt_seconds(log: EventLog | Page) -> dict[int, float]:
    """Task number -> seconds that its last attempt took, of those that had one, without the delay before the next."""
    begun: dict[int, float] = {}
    took: dict[int, float] = {}
    for code, task, at, _, _ in log.records[:]:
        if code == TASK_STARTED:
            begun[task] = at
            took.pop(task, None)
        elif task in begun and CODES[code] in _ATTEMPT_ENDS:
            took[task] = at - begun.pop(task)
    return took


class Waiting(NamedTuple):
    """A task that waits, and what for: since when and until when, in epoch seconds (`deadline` None: nobody knows)."""

    task_id: str
    reason: str
    since: float
    deadline: float | None
    prompt: str = ""


def waiting(live: Live) -> list[Waiting]:
    """The tasks that wait for something other than each other, in definition order. The engine's lock is held."""
    scheduler, epoch = live.scheduler, live.log.epoch
    found: dict[int, tuple[str, float, float | None, str]] = {}
    if scheduler.waits is not None:
        found = {number: (*reason, "") for number, reason in scheduler.waits.reasons.items()}
    if scheduler.suspensions is not None:
        found |= {
            number: (one.what, one.since, one.due if one.deadline is None else one.deadline, one.prompt)
            for number, one in scheduler.suspensions.waiting.items()
        }
    return [
        Waiting(str(live.log.ids[number]), what, epoch + since, None if due is None else epoch + due, prompt)
        for number, (what, since, due, prompt) in sorted(found.items())
        if scheduler.state[number] == WAITING
    ]


class FarTaskResult(TaskResult[Any], frozen=True, eq=False):
    """A `TaskResult` whose result is elsewhere until somebody reads it."""

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        return value.fetch() if isinstance(value, Far) else value


def why_no_result(task_id: str, status: TaskStatus, blamed: str | None) -> str:
    """Why a task that didn't fail has no result."""
    if status is TaskStatus.SKIPPED:
        return f"task {task_id!r} has no result: it was skipped because of {blamed!r}"
    if status is TaskStatus.CANCELLED:
        return f"task {task_id!r} has no result: it was cancelled"
    return f"task {task_id!r} has no result yet: it is {status.name}; wait() for the execution first"


def task_result(
    task_id: str,
    state: Mapping[str, Any],
    values: Mapping[str, Any],
    errors: Mapping[str, BaseException],
    facts: Mapping[str, Any],
    *,
    seconds: float | None = None,
) -> TaskResult[Any]:
    """A task's result record, from its state map, what the engine holds, and what its last event says.

    `seconds` is how long its last attempt took, if that wasn't its first.
    """
    started, ended = state["started_at"], state["completed_at"]
    if seconds is None:
        seconds = ended - started if started is not None and ended is not None else 0.0
    far = values.raw(task_id) if isinstance(values, FarValues) and task_id in values else None
    is_far = issubclass(type(far), Far)
    result = far if is_far else values.get(task_id)
    return (FarTaskResult if is_far else TaskResult)(
        task_id=str(task_id),
        status=state["status"],
        result=result,
        error=errors.get(task_id, facts.get("error")),
        execution_time=seconds,
        attempts=state["attempts"],
        started_at=started,
        completed_at=ended,
        skipped_because=state["skipped_because"],
        metadata={key: value for key, value in facts.items() if key not in _TOLD},
    )


def execution_report(execution: Execution) -> dict[str, Any]:
    """Status, times, results and error, as far as they are known."""
    state = execution.state
    report: dict[str, Any] = {
        "execution_id": execution.id,
        "status": execution.status,
        "task_count": len(execution.workflow),
        "started_at": state["started_at"],
    }
    if state["completed_at"] is not None:
        report["completed_at"] = state["completed_at"]
        report["duration"] = state["completed_at"] - state["started_at"]
        report["task_results"] = {task: execution.task(task) for task in execution.workflow.tasks}
    failures = execution.failures
    if execution.error is not None:
        report["error"] = execution.error
    elif failures:
        report["error"] = next(iter(failures.values()))
    return report


def summary(execution: Execution, slowest: int = 5) -> str:
    """The table that `nerv run` ends with."""
    state, counts = execution.state, execution.project("progress")
    names = [status.name.lower() for status in TaskStatus]
    listed = ", ".join(f"{counts[name]} {name}" for name in names if counts[name])
    seconds = _seconds(state)
    lines = [
        f"{execution.workflow_name}  {execution.status.name}  {seconds:.3f} s  ({execution.id})",
        f"  {counts['total']} tasks: {listed or 'none'}",
    ]
    failures = execution.failures
    if execution.error is not None:
        lines.append(f"  ended by  {_one_line(described(execution.error))}")
    if failures:
        lines.append("  failed:")
        lines += [f"    {task}  {_one_line(described(error))}" for task, error in failures.items()]
    page = execution.log.page
    timed = [(seconds, page.ids[number]) for number, seconds in attempt_seconds(page).items()]
    if timed:
        lines.append("  slowest:")
        lines += [f"    {took:9.3f} s  {task}" for took, task in sorted(timed, reverse=True)[:slowest]]
    return "\n".join(lines)


def _seconds(state: Mapping[str, Any]) -> float:
    if state["started_at"] is None or state["completed_at"] is None:
        return 0.0
    return float(state["completed_at"] - state["started_at"])


def _one_line(text: str, width: int = 100) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"


def write_trace(log: EventLog, path: str) -> None:
    """Write the attempts as complete events ("ph": "X", times in microseconds) of the Chrome trace format.

    The log doesn't say which thread ran what; each attempt is put on the lowest track that is free, so the number of
    tracks is the greatest number of attempts that ran together.
    """
    begun: dict[int, tuple[float, int]] = {}
    free: list[int] = []
    tracks = 0
    bars: list[dict[str, Any]] = []
    page = log.page
    records = page.records[:]
    start = records[0][2] if records else 0.0
    for code, task, at, attempt, _ in records:
        if code == TASK_STARTED:
            if not free:
                tracks += 1
                heappush(free, tracks)
            begun[task] = (at, heappop(free))
        elif CODES[code] in _ATTEMPT_ENDS and task in begun:
            since, track = begun.pop(task)
            heappush(free, track)
            args = {"attempt": attempt, "outcome": CODES[code].name}
            bars.append(_bar(str(page.ids[task]), since - start, at - since, track, args))
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"traceEvents": bars, "displayTimeUnit": "ms", "otherData": {"execution": log.execution_id}}, file)


def _bar(task: str, since: float, took: float, track: int, args: dict[str, Any]) -> dict[str, Any]:
    return {"name": task, "ph": "X", "ts": since * 1e6, "dur": took * 1e6, "pid": 1, "tid": track, "args": args}
