"""What stands for a task's function in a test, and what it was called with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import inf
from typing import Any, NamedTuple, TypeAlias

from nerv.errors import NervError
from nerv.functions import innermost
from nerv.references import Output
from nerv.tasks import TaskDef

TaskName: TypeAlias = str | TaskDef | Output[Any] | Callable[..., Any]
"""Which tasks are meant: one, by its id, TaskDef or Output; or all that call this function."""


Key: TypeAlias = str | Callable[..., Any]
"""The same, in the form in which it is looked up."""


class MockError(NervError):
    """Raised when a test mocks or asks for what isn't there: an unknown task, a sequence that has run out, a call that
    wasn't made.
    """


class Arguments(NamedTuple):
    """What a task's function was called with, without the context."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class Mock:
    """Stands for a function.

    Args:
        fn: called in its place.
        takes: how many seconds of the fake clock each call takes; `math.inf`: it hangs.

    Raises:
        TypeError: `fn` can't be called.
        ValueError: `takes` is no number from 0.
    """

    def __init__(self, fn: Callable[..., Any], takes: float = 0.0) -> None:
        if not callable(fn):
            raise TypeError(f"a mock is a function, not {fn!r}; for a value there is mock_value")
        if isinstance(takes, bool) or not isinstance(takes, (int, float)) or not 0 <= takes <= inf:
            raise ValueError(f"takes= is in seconds, from 0, not {takes!r}")
        self.fn = fn
        self.takes = takes

    def begin(self, task_id: str) -> Callable[..., Any]:  # noqa: ARG002  a sequence wants it
        """A call begins: what it shall do when it ends."""
        return self.fn

    def rewind(self) -> None:
        """As if it had never been called."""


class Sequence(Mock):
    """Gives one outcome after another; exceptions among them are raised.

    Raises:
        TypeError: the outcomes are a str, or nothing that can be iterated over.
    """

    def __init__(self, outcomes: Iterable[Any], takes: float = 0.0) -> None:
        if isinstance(outcomes, str) or not isinstance(outcomes, Iterable):
            raise TypeError(f"mock_sequence takes a list of outcomes, not {outcomes!r}")
        super().__init__(giving, takes)
        self._outcomes = tuple(outcomes)
        self._given = 0

    def begin(self, task_id: str) -> Callable[..., Any]:
        """The next one.

        Raises:
            MockError: there is none.
        """
        self._given += 1
        if self._given > len(self._outcomes):
            raise MockError(
                f"the mock_sequence of task {task_id!r} has {len(self._outcomes)} outcomes, and this is call "
                f"{self._given}; give it more, or fewer attempts to the task"
            )
        return giving(self._outcomes[self._given - 1])

    def rewind(self) -> None:
        """Begin again with the first."""
        self._given = 0


def giving(outcome: Any) -> Callable[..., Any]:
    """A function that raises `outcome` if it is an exception, or the class of one, and else returns it."""
    return raising(outcome) if is_error(outcome) else lambda *_, **__: outcome


def raising(error: Any) -> Callable[..., Any]:
    """A function that raises `error`.

    Raises:
        TypeError: it is no exception.
    """
    if not is_error(error):
        raise TypeError(f"mock_error takes an exception, not {error!r}")

    def fail(*_: Any, **__: Any) -> Any:
        raise error if isinstance(error, type) else error.with_traceback(None)

    return fail


def is_error(outcome: Any) -> bool:
    """Whether it is an exception or the class of one."""
    return isinstance(outcome, BaseException) or (isinstance(outcome, type) and issubclass(outcome, BaseException))


def key_of(task: TaskName) -> Key:
    """What a task is known by: its id, or its function.

    Raises:
        TypeError: it names no task.
    """
    if isinstance(task, TaskDef):
        return task.id
    if isinstance(task, Output):
        return task.task_id
    if isinstance(task, str):
        return task
    if not callable(task):
        raise TypeError(f"a task is named by its id, its TaskDef, its Output or its function, not by {task!r}")
    return innermost(task)


def names(key: Key, task_id: str, fn: Callable[..., Any] | None) -> bool:
    """Whether a key means this task."""
    return key == task_id if isinstance(key, str) else fn is not None and innermost(fn) is key
