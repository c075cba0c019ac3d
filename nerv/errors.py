"""What can go wrong, named by whose fault it is.

Yours, before anything ran: `WorkflowDefinitionError`, `CycleError`, `ConfigError`, `UnknownIdError`.
A task's: `WorkflowFailedError` (the tasks' own exceptions are inside), `TaskCancelledError`, `TaskTimeoutError`,
`WorkerCrashedError`, `CircuitOpenError`, `LoopLimitError`, `CacheKeyError`. Yours to raise in a task: `TerminalError`,
`FatalError`.
A question asked too early or of the wrong task: `ResultUnavailableError`.
A value that can't be kept: `SerializationError`. The file that keeps: `JournalError`, `WorkflowChangedError`.

Every error survives pickling, and every message names the thing, says what is wrong and what to do about it.
"""

from __future__ import annotations

import difflib
import pickle
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from nerv.execution import Execution

__all__ = [
    "AddedTaskError",
    "CacheKeyError",
    "CircuitOpenError",
    "ConfigError",
    "CycleError",
    "FatalError",
    "JournalError",
    "LoopLimitError",
    "NervError",
    "Problem",
    "ResultUnavailableError",
    "SerializationError",
    "StoredError",
    "TaskCancelledError",
    "TaskTimeoutError",
    "TerminalError",
    "UnknownIdError",
    "WorkerCrashedError",
    "WorkflowCancelledError",
    "WorkflowChangedError",
    "WorkflowDefinitionError",
    "WorkflowFailedError",
]


class NervError(Exception):
    """The root: every exception that nerv itself raises is one."""


class Problem(NamedTuple):
    """One thing that is wrong: the task it is about (None: the workflow itself), its kind, and what to do about it."""

    task_id: str | None
    kind: str
    message: str


class WorkflowDefinitionError(NervError):
    """Raised when a TaskDef or Workflow can't be right. `problems` lists every problem found, not only the first.

    A text in their place is one problem of the workflow itself.
    """

    def __init__(self, problems: Iterable[Problem] | str = (), heading: str = "the workflow can't run") -> None:
        self.problems = (Problem(None, "workflow", problems),) if isinstance(problems, str) else tuple(problems)
        self.heading = heading
        super().__init__(self._text())

    def _text(self) -> str:
        if len(self.problems) == 1:
            return self.problems[0].message
        lines = [f"{self.heading}, for {len(self.problems)} reasons:", *(f"  - {p.message}" for p in self.problems)]
        return "\n".join(lines)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.problems, self.heading), self.__dict__


class CycleError(WorkflowDefinitionError):
    """Raised when tasks depend on each other in a ring. `cycle` is the ring of ids, each needed by the one after it."""

    def __init__(
        self, problems: Iterable[Problem] | str = (), heading: str = "the workflow can't run", cycle: Iterable[str] = ()
    ) -> None:
        self.cycle = tuple(cycle)
        super().__init__(problems, heading)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.problems, self.heading, self.cycle), self.__dict__


class WorkflowFailedError(NervError):
    """Raised by `run` when an execution didn't complete.

    `execution` is the whole of it (None after pickling: it holds live threads), `failures` maps task id -> exception
    in time order. The first failure is the `__cause__`, the others are attached as notes.
    """

    def __init__(
        self, message: str, execution: Execution | None = None, failures: Mapping[str, BaseException] | None = None
    ) -> None:
        super().__init__(message)
        self.execution = execution
        self.failures: dict[str, BaseException] = dict(failures or {})

    def __reduce__(self) -> tuple[Any, ...]:
        failures = {task: portable(error) for task, error in self.failures.items()}
        rest = {name: value for name, value in self.__dict__.items() if name not in ("execution", "failures")}
        return type(self), (self.args[0], None, failures), rest  # the rest: notes


class WorkflowCancelledError(WorkflowFailedError):
    """Raised by `run` when the execution was cancelled."""


class TaskCancelledError(NervError):
    """Raised by `ctx.check_cancelled()`; a running task that lets it out is CANCELLED, not FAILED."""


class TaskTimeoutError(NervError, TimeoutError):
    """Raised for an attempt that ran longer than its task's or workflow's `timeout`."""


class WorkerCrashedError(NervError):
    """Raised for a task whose worker process died under it (killed, out of memory, `os._exit`)."""


class CircuitOpenError(NervError):
    """Raised for a task whose circuit breaker lets nothing through, and that has no retries left to wait with."""


class LoopLimitError(NervError):
    """Raised for a Loop that isn't done after `max_iterations`."""


class AddedTaskError(NervError):
    """Raised for a task that failed because one that it had added failed; that one's error is the cause."""


class CacheKeyError(NervError, TypeError):
    """Raised for a task with a `Cache` that is given something that can't be hashed; it isn't retried."""


class TerminalError(NervError):
    """Raise it in a task that would fail the same way again: whatever its retry policy says, it isn't retried."""


class FatalError(NervError):
    """Raise it in a task when nothing else makes sense any more: not retried, and the execution fails at once."""


class ResultUnavailableError(NervError):
    """Raised when a result is asked for that isn't there; the message says why (not finished, skipped, cancelled)."""


class ConfigError(NervError, ValueError):
    """Raised when a setting is unknown, of the wrong type or senseless; it names the setting and the nearest one."""


class SerializationError(NervError):
    """Raised for a value that can't be stored in a journal, or can't be rebuilt from it here."""


class StoredError(NervError):
    """Stands in for an exception from a journal that couldn't be stored whole, or whose class can't be had here.

    Its text is the original's type and message; `type_name` is the original's type, as `module.Name`.
    """

    def __init__(self, message: str, type_name: str = "") -> None:
        super().__init__(message)
        self.type_name = type_name

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (*self.args, self.type_name), self.__dict__


class JournalError(NervError):
    """Raised when a journal can't be opened, read or written; it names the file and what to do."""


class WorkflowChangedError(JournalError):
    """Raised when an interrupted execution's workflow isn't the one it ran. `refused` holds the executions' ids."""

    def __init__(self, message: str, refused: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.refused = tuple(refused)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (*self.args, self.refused), self.__dict__


class UnknownIdError(NervError, KeyError):
    """Raised for an id or name that nobody knows, with the nearest known ones."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


def near(name: object, known: Iterable[str]) -> str:
    """` (did you mean 'extract'?)` when something known is like `name`, else an empty string."""
    close = difflib.get_close_matches(str(name), [one for one in known if isinstance(one, str)], n=3, cutoff=0.6)
    return f" (did you mean {' or '.join(repr(c) for c in close)}?)" if close else ""


def described(error: BaseException) -> str:
    """`ValueError: boom`, also for an exception whose own text can't be made."""
    try:
        text = str(error)
    except Exception as trouble:  # noqa: BLE001  the user's __str__ may do anything
        text = f"<its text can't be shown: {type(trouble).__name__}>"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def portable(error: BaseException) -> BaseException:
    """The same exception if it comes back whole from pickle, else a NervError that says what it was."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001  any reason for not travelling is the same to us
        return NervError(described(error))
    return error
