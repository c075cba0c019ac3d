"""`TaskContext`: what a task's function is told about the attempt that is calling it, if it asks.

The context itself is plain data and a `Port`, its only way out to the engine. In the engine's own process the port
reads the live execution; in a worker process it speaks through the worker's pipe.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from nerv.errors import TaskCancelledError, UnknownIdError


class Port(Protocol):
    """What a context can ask of the engine while the function runs."""

    def is_cancelled(self) -> bool:
        """Whether the attempt should stop."""

    def report(self, done: float, total: float | None, message: str) -> None:
        """Publish the attempt's progress."""

    def record(self, entry: LogEntry) -> None:
        """Keep a log entry with the execution."""

    def services(self) -> Any:
        """The user's own services object."""


class LogEntry(msgspec.Struct, frozen=True):
    """One line that a task wrote through `ctx.logger`. `timestamp` is in epoch seconds, `level` a name such as INFO."""

    task_id: str
    attempt: int
    level: str
    message: str
    timestamp: float


class Whereabouts(NamedTuple):
    """Where an attempt is: its lane, and the tasks that led there."""

    lane_id: str = ""
    chain: tuple[str, ...] = ()

    def used_by(self, iterator: Iterator[Any]) -> str | None:  # noqa: ARG002
        """Nobody, as far as is known here."""
        return None


class Place(Protocol):
    """`Whereabouts` that may be worked out when somebody asks."""

    @property
    def lane_id(self) -> str:
        """The lane's id."""

    @property
    def chain(self) -> tuple[str, ...]:
        """Ids of the tasks that led here."""

    def used_by(self, iterator: Iterator[Any]) -> str | None:
        """Say that this task uses an iterator up; gives the id of the task that has said so before, if one has."""


class TaskContext(Mapping[str, Any]):
    """A read-only mapping of the execution's params plus `workflow_id` and `execution_id`.

    Attributes:
        execution_id, workflow_id, workflow_name, task_id: who is being run.
        attempt: number of this call, from 1.
        params: what the execution was given.
        results: task id -> result of the declared dependencies that are COMPLETED.
        deadline: the moment at which this attempt has run for its `timeout`, on the monotonic clock; None: no limit.
        place: its lane, and what led here, as `lane_id` and `chain` tell it.
    """

    __slots__ = (
        "_port", "attempt", "deadline", "execution_id", "params", "place", "results", "task_id", "workflow_id",
        "workflow_name",
    )  # fmt: skip

    execution_id: str
    workflow_id: str
    workflow_name: str
    task_id: str
    attempt: int
    params: Mapping[str, Any]
    results: Mapping[str, Any]
    deadline: float | None
    place: Place
    _port: Port

    def __init__(
        self,
        *,
        execution_id: str,
        workflow_id: str,
        workflow_name: str,
        task_id: str,
        attempt: int,
        params: Mapping[str, Any],
        results: Mapping[str, Any],
        port: Port,
        deadline: float | None = None,
        place: Place | None = None,
    ) -> None:
        _set(self, "execution_id", execution_id)
        _set(self, "workflow_id", workflow_id)
        _set(self, "workflow_name", workflow_name)
        _set(self, "task_id", task_id)
        _set(self, "attempt", attempt)
        _set(self, "params", params)
        _set(self, "results", results)
        _set(self, "deadline", deadline)
        _set(self, "place", _NOWHERE if place is None else place)
        _set(self, "_port", port)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"the context of task {self.task_id!r} can't be changed: what it tells is so")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"the context of task {self.task_id!r} can't be changed: what it tells is so")

    def __getitem__(self, name: str) -> Any:
        if name in self.params:
            return self.params[name]
        if name in _OWN:
            return getattr(self, name)
        raise UnknownIdError(f"the execution has no param {name!r}; it has {', '.join(self) or 'none'}")

    def __iter__(self) -> Iterator[str]:
        yield from self.params
        yield from _OWN

    def __len__(self) -> int:
        return len(self.params) + len(_OWN)

    def __repr__(self) -> str:
        return f"<TaskContext of {self.task_id!r}, attempt {self.attempt}, in execution {self.execution_id!r}>"

    @property
    def idempotency_key(self) -> str:
        """The same text for all attempts of this task in this execution, after a crash too, and for nothing else."""
        return f"{self.execution_id}/{self.task_id}"

    @property
    def lane_id(self) -> str:
        """The id of the lane: one for a whole plain execution, a new one for each item behind a Buffer. It can't be
        guessed; retries keep it.
        """
        return self.place.lane_id

    @property
    def chain(self) -> tuple[str, ...]:
        """Ids of the tasks that led here, the first one first: those that added it, then what it depends on, each by
        its first dependency.
        """
        return self.place.chain

    @property
    def cancelled(self) -> bool:
        """Whether this attempt should stop: the execution was cancelled, or another task failed under fail_fast."""
        return self._port.is_cancelled()

    def check_cancelled(self) -> None:
        """Raise `TaskCancelledError` if `cancelled`; a good line for the top of a long loop."""
        if self.cancelled:
            raise TaskCancelledError(f"task {self.task_id!r} was told to stop")

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Report how far this attempt is, as a TASK_PROGRESS event."""
        self._port.report(done, total, message)

    @property
    def services(self) -> Any:
        """The object that `run(services=...)` or the manager was given; the very same one."""
        return self._port.services()

    @property
    def logger(self) -> logging.Logger:
        """A logger whose lines `execution.logs()` keeps; they also go to the logger `nerv.tasks`, by its level."""
        logger = logging.Logger(f"nerv.tasks.{self.task_id}", logging.DEBUG)  # noqa: LOG001  one a call, with its own recorder
        logger.addHandler(_Recorder(self.task_id, self.attempt, self._port))
        logger.propagate = False
        return logger


class DependencyResults(Mapping[str, Any]):
    """The results of a task's declared dependencies, those that are COMPLETED: a window on the execution's results."""

    __slots__ = ("_ids", "_values")

    def __init__(self, ids: tuple[str, ...], values: Mapping[str, Any]) -> None:
        self._ids = ids
        self._values = values

    def __getitem__(self, task_id: str) -> Any:
        if task_id not in self._ids:
            raise UnknownIdError(
                f"{task_id!r} is no declared dependency; declared are {', '.join(self._ids) or 'none'}"
            )
        try:
            return self._values[task_id]
        except KeyError:
            raise UnknownIdError(f"{task_id!r} has no result here: it isn't COMPLETED") from None

    def __iter__(self) -> Iterator[str]:
        return (task_id for task_id in self._ids if task_id in self._values)

    def __len__(self) -> int:
        return sum(task_id in self._values for task_id in self._ids)


class _Recorder(logging.Handler):
    """Hands each line to the port, and to `nerv.tasks` if that logger wants its level."""

    def __init__(self, task_id: str, attempt: int, port: Port) -> None:
        super().__init__()
        self._task_id = task_id
        self._attempt = attempt
        self._port = port

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001  the arguments' own __str__ may do anything; logging reports it
            self.handleError(record)
            message = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        if record.exc_info and record.exc_info[0] is not None:
            message += "\n" + logging.Formatter().formatException(record.exc_info)
        self._port.record(LogEntry(self._task_id, self._attempt, record.levelname, message, record.created))
        parent = logging.getLogger("nerv.tasks")
        if parent.isEnabledFor(record.levelno):
            parent.handle(record)


_OWN = ("workflow_id", "execution_id")
_NOWHERE: Final = Whereabouts()
_set: Final = object.__setattr__
