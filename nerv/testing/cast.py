"""`Cast`: who plays whom: mocks in place of functions, and every call that was made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from nerv.calls import Call
from nerv.errors import ResultUnavailableError, TerminalError, UnknownIdError, near
from nerv.functions import innermost, is_coroutine_function, wants_context
from nerv.tasks import TaskDef
from nerv.testing.mocks import Arguments, Key, Mock, MockError, TaskName, key_of, names, raising
from nerv.testing.performing import finish, perform
from nerv.workflows import Workflow


class MockExhaustedError(MockError, TerminalError):
    """Raised in a task whose mock_sequence has run out: it isn't retried, and the tester raises it too."""


class Made(NamedTuple):
    """A call that was made, and the step of a fed flow that it was for."""

    task: TaskDef
    step: str
    arguments: Arguments


class Cast:
    """What simulated pools ask of mocks: `takes` when a call begins, `perform` when it ends.

    Errands (compensations, fallbacks) are never mocked, nor noted.

    Attributes:
        exhausted: what was raised since it was last looked at because a mock_sequence had run out.
    """

    def __init__(self, mocks: Mapping[TaskName, Callable[..., Any]] | None = None) -> None:
        self.exhausted: list[MockExhaustedError] = []
        self._mocks: dict[Key, Mock] = {key_of(task): Mock(fn) for task, fn in (mocks or {}).items()}
        self._made: list[Made] = []
        self._chosen: dict[Call, Callable[..., Any]] = {}

    def put(self, task: TaskName, mock: Mock) -> None:
        """Have a mock play a task."""
        self._mocks[key_of(task)] = mock

    def check(self, workflow: Workflow) -> None:
        """Every mock has a task in the workflow.

        Raises:
            UnknownIdError: one hasn't.
        """
        for key in self._mocks:
            check_known(key, workflow.tasks.values(), f"is in workflow {workflow.name!r}")

    def calls(self, key: Key) -> list[Arguments]:
        """What the tasks that a key means were called with, in order."""
        return [made.arguments for made in self._made if key == made.step or names(key, made.task.id, made.task.fn)]

    def forget(self) -> None:
        """No call was made yet."""
        self._made.clear()
        self.exhausted.clear()
        for mock in self._mocks.values():
            mock.rewind()

    # ---- what the pools ask -----------------------------------------------------------------------------------------

    def takes(self, call: Call) -> float:
        """A call begins: note it, choose what it will do, and say how long it takes."""
        task = call.task
        if not call.is_attempt or stands_for_others(task):
            return 0.0
        step = step_of(call)
        try:
            args, kwargs = task.bind(call.live.values, call.live.params)
        except ResultUnavailableError:
            return 0.0  # it isn't called at all; `perform` will say so
        self._made.append(Made(task, step, Arguments(args, kwargs)))
        mock = self._mock_of(task, step)
        if mock is None:
            return 0.0
        try:
            self._chosen[call] = mock.begin(task.id)
        except MockError as error:
            exhausted = MockExhaustedError(*error.args)
            self.exhausted.append(exhausted)
            self._chosen[call] = raising(exhausted)
        return mock.takes

    def _mock_of(self, task: TaskDef, step: str) -> Mock | None:
        mock = self._mocks.get(task.id) or self._mocks.get(step)
        return mock if mock is not None or task.fn is None else self._mocks.get(innermost(task.fn))

    def perform(self, call: Call) -> None:
        """A call ends: call the function, or what was chosen in its place."""
        fn = self._chosen.pop(call, None)
        if fn is None:
            perform(call)
            return
        try:
            args, kwargs = call.task.bind(call.live.values, call.live.params)
            if wants_context(fn):
                args = (call.context(call), *args)
            call.value = call.live.contextvars.copy().run(fn, *args, **kwargs)
        except BaseException as error:  # noqa: BLE001  whatever a mock raises is the task's failure
            call.error = error
        if is_coroutine_function(fn):
            finish(call)


def stands_for_others(task: TaskDef | None) -> bool:
    """Whether a task only stands for those of all messages of a fed flow."""
    return getattr(type(task), "stands", False) is True


def step_of(call: Call) -> str:
    """The step of a fed flow that a call is for, `process` of `process[7]`; empty: it is for none."""
    step, bracket, rest = str(call.task.id).partition("[")
    is_whole = bracket and "/" not in rest and stands_for_others(call.live.workflow.tasks.get(step))
    return step if is_whole else ""


def check_known(key: Key, tasks: Iterable[TaskDef], where: str) -> None:
    """A key means one of these tasks, or one that a node among them may bring.

    Raises:
        UnknownIdError: it doesn't.
    """
    known = list(tasks)
    if any(names(key, task.id, task.fn) for task in known):
        return
    if isinstance(key, str):
        base = key.partition("[")[0].partition("/")[0]
        if base == key or base not in {task.id for task in known}:
            raise UnknownIdError(f"no task {key!r} {where}{near(key, [task.id for task in known])}")
    elif all(type(task) is TaskDef for task in known):
        raise UnknownIdError(f"no task that calls {key!r} {where}")
