"""The states of tasks and workflows, and the one table of a task's moves.

`MOVES` is the whole rule: event -> state before -> state after. A pair that isn't in it is an illegal move, and the
lookup itself refuses it. The diagram in docs/design.md is generated from it.
"""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import Any, Final, Generic, TypeVar

import msgspec

from nerv.events import EventType

T = TypeVar("T")


class TaskStatus(Enum):
    """Where a task is. `COMPLETED`, `FAILED`, `SKIPPED` and `CANCELLED` are final."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    WAITING = "WAITING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"
    CANCELLED = "CANCELLED"

    @property
    def is_final(self) -> bool:
        """Whether a task in this state never leaves it."""
        return self in _FINAL_TASK


class WorkflowStatus(Enum):
    """Where an execution is. RUNNING also while everything in it waits."""

    CREATED = "CREATED"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    INTERRUPTED = "INTERRUPTED"

    @classmethod
    def _missing_(cls, value: object) -> None:
        raise ValueError(f"{value!r} is no WorkflowStatus; it is one of {', '.join(cls.__members__)}")

    @property
    def is_final(self) -> bool:
        """Whether an execution in this state has ended."""
        return self in _FINAL_WORKFLOW


class TaskPriority(IntEnum):
    """Named priorities; any int will do, higher starts first."""

    LOW = 0
    MEDIUM = 1
    HIGH = 2
    CRITICAL = 3


class TaskResult(msgspec.Struct, Generic[T], frozen=True, eq=False):
    """What became of one task.

    `execution_time` is in seconds, of the last attempt; `started_at` (first attempt) and `completed_at` are epoch
    seconds, None when it never started or hasn't ended. `skipped_because` is the id of the task that is to blame.
    """

    task_id: str
    status: TaskStatus
    result: T | None = None
    error: BaseException | None = None
    execution_time: float = 0.0
    attempts: int = 0
    started_at: float | None = None
    completed_at: float | None = None
    skipped_because: str | None = None
    metadata: dict[str, Any] = {}


_FINAL_TASK: Final = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.SKIPPED, TaskStatus.CANCELLED})
_FINAL_WORKFLOW: Final = frozenset({WorkflowStatus.COMPLETED, WorkflowStatus.FAILED, WorkflowStatus.CANCELLED})

_PENDING, _RUNNING, _WAITING = TaskStatus.PENDING, TaskStatus.RUNNING, TaskStatus.WAITING

MOVES: Final[dict[EventType, dict[TaskStatus, TaskStatus]]] = {
    EventType.TASK_STARTED: {_PENDING: _RUNNING, _WAITING: _RUNNING},
    EventType.TASK_WAITING: {_PENDING: _WAITING, _RUNNING: _WAITING},
    EventType.TASK_RETRYING: {_RUNNING: _WAITING},
    EventType.TASK_COMPLETED: {
        _PENDING: TaskStatus.COMPLETED,
        _WAITING: TaskStatus.COMPLETED,
        _RUNNING: TaskStatus.COMPLETED,
    },
    EventType.TASK_FAILED: {_PENDING: TaskStatus.FAILED, _WAITING: TaskStatus.FAILED, _RUNNING: TaskStatus.FAILED},
    EventType.TASK_SKIPPED: {_PENDING: TaskStatus.SKIPPED, _WAITING: TaskStatus.SKIPPED},
    EventType.TASK_CANCELLED: {
        _PENDING: TaskStatus.CANCELLED,
        _WAITING: TaskStatus.CANCELLED,
        _RUNNING: TaskStatus.CANCELLED,
    },
}
"""What each event does to a task's status. A pair that isn't here can't happen."""
