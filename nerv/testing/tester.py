"""`WorkflowTester`: a workflow in a test, with mocks in place of what it would really do, and no time lost."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import Any, Final, Self

import msgspec

from nerv.events import Event
from nerv.execution import Execution
from nerv.manager import WorkflowManager
from nerv.running import checked
from nerv.tasks import TaskDef
from nerv.testing import mocks
from nerv.testing.cast import Cast, check_known
from nerv.testing.clock import FakeClock
from nerv.testing.mocks import Arguments, Mock, MockError, TaskName, key_of
from nerv.testing.pools import SimulatedPools
from nerv.workflows import Workflow

DEFAULTS: Final = {"workers": 4, "processes": 2}
"""Settings that would else depend on the machine, and with them the order of things."""


TURNS: Final = "inline-in-turn"
"""The pool of inline tasks."""


class WorkflowTester:
    """Runs workflows on a fake clock and simulated pools: retries, timeouts and limits of hours take milliseconds.

        tester = WorkflowTester()
        tester.mock_sequence("fetch", [OSError("down"), "<html>"])
        execution = tester.run(crawl(), {"list": "urls.txt"})
        assert tester.call_count("fetch") == 2

    Tasks without a mock run for real. Everything happens in the calling thread, in an order that `seed` decides. One
    tester is one engine: its runs share its clock, and the limits and breakers that have names.

    A task is named by its id, its TaskDef or its Output; or by its function, which means all tasks that call it.

    Args:
        seed: decides the order of what could happen in any order.
        **settings: as of `nerv.run`; `workers` is 4 and `processes` 2 by default, on every machine.

    Attributes:
        clock: the `FakeClock`.
        manager: the `WorkflowManager` whose executions these are.

    Raises:
        ConfigError: an unknown setting, or a value that can't be right.
    """

    def __init__(self, *, seed: int = 0, **settings: Any) -> None:
        self.clock = FakeClock(auto=True)
        self._cast = Cast()
        self._pools = SimulatedPools(seed, clock=self.clock, takes=self._cast.takes, perform=self._cast.perform)
        self.manager = WorkflowManager(clock=self.clock, pool_factory=self._pools, **with_turns(settings))
        seed_jitter(self.manager, seed)
        self._known: dict[str, TaskDef] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End what is still going on. A tester that isn't closed ends with the program."""
        self.manager.close()

    # ---- mocks ------------------------------------------------------------------------------------------------------

    def mock(self, task: TaskName, fn: Callable[..., Any], *, takes: float = 0.0) -> None:
        """Call `fn` in place of a task's function, with the same arguments (and with the context if `fn` asks for it).

        The mock of an id goes before that of a function, and the last one given before those before it.

        Args:
            task: which.
            fn: what is called.
            takes: seconds of the fake clock that each call takes; `math.inf`: it hangs until it is given up.

        Raises:
            TypeError, ValueError: an argument that can't be right.
        """
        self._cast.put(task, Mock(fn, takes))

    def mock_value(self, task: TaskName, value: Any, *, takes: float = 0.0) -> None:
        """Have a task give this value; see `mock`."""
        self._cast.put(task, Mock(lambda *_, **__: value, takes))

    def mock_error(self, task: TaskName, error: BaseException | type[BaseException], *, takes: float = 0.0) -> None:
        """Have a task raise this error; see `mock`."""
        self._cast.put(task, Mock(mocks.raising(error), takes))

    def mock_sequence(self, task: TaskName, outcomes: Iterable[Any], *, takes: float = 0.0) -> None:
        """Have a task's calls (attempts) end in these ways, one after another; exceptions are raised; see `mock`.

        One call more is an error: it ends its task, whatever its retry policy and fallback, and `run` raises it.
        """
        self._cast.put(task, mocks.Sequence(outcomes, takes))

    # ---- running ----------------------------------------------------------------------------------------------------

    def run(
        self,
        workflow: Workflow,
        params: Mapping[str, Any] | None = None,
        *,
        targets: Sequence[str] | None = None,
        services: Any = None,
        on_event: Callable[[Event], Any] | None = None,
        raise_on_failure: bool = True,
    ) -> Execution:
        """Run a workflow to its end; the arguments are those of `nerv.run`.

        Raises:
            WorkflowFailedError: it didn't complete.
            MockError: it waits for something that won't come by itself (use `start`), or a mock_sequence has run out.
            WorkflowDefinitionError, UnknownIdError: it can't start, or there is a mock for no task of it.
        """
        execution = self.start(workflow, params, targets=targets, services=services, on_event=on_event)
        self.settle()
        if not execution.status.is_final:
            raise MockError(_stuck(execution))
        execution.wait()  # for `on_event` to have heard everything
        return checked(execution) if raise_on_failure else execution

    def start(
        self,
        workflow: Workflow,
        params: Mapping[str, Any] | None = None,
        *,
        targets: Sequence[str] | None = None,
        services: Any = None,
        on_event: Callable[[Event], Any] | None = None,
    ) -> Execution:
        """Start a workflow; nothing of it happens before `settle`. See `run` for the arguments."""
        if isinstance(workflow, Workflow):
            self._cast.check(workflow)
            self._known.update(workflow.tasks)
            workflow = without_inline(workflow)
        return self.manager.start(workflow, params, targets=targets, services=services, on_event=on_event)

    def settle(self) -> None:
        """Let everything happen that happens by itself, time included.

        Raises:
            MockError: a mock_sequence has run out.
        """
        written(self.manager)
        while self._pools.go_on():
            written(self.manager)
        exhausted = self._cast.exhausted
        if exhausted:
            first = exhausted[0]
            exhausted.clear()
            raise first

    # ---- looking ----------------------------------------------------------------------------------------------------

    def was_called(self, task: TaskName) -> bool:
        """Whether a task's function, or its mock, was called.

        Raises:
            UnknownIdError: no workflow that was run here has such a task.
        """
        return bool(self._calls(task))

    def call_count(self, task: TaskName) -> int:
        """How often it was called, attempts counted each; see `was_called`."""
        return len(self._calls(task))

    def call_args(self, task: TaskName, call: int = -1) -> Arguments:
        """The `(args, kwargs)` of its last call, or of the one with this index (from 0), without the context.

        Raises:
            MockError: there was no such call.
            UnknownIdError: see `was_called`.
        """
        calls = self._calls(task)
        try:
            return calls[call]
        except IndexError:
            raise MockError(f"task {task!r} was called {len(calls)} times, so there is no call {call}") from None

    def reset(self) -> None:
        """Forget the calls and begin every mock_sequence again; the mocks stay."""
        self._cast.forget()

    def _calls(self, task: TaskName) -> list[Arguments]:
        key = key_of(task)
        check_known(key, self._known.values(), "has been run here")
        return self._cast.calls(key)


def seed_jitter(manager: WorkflowManager, seed: int | str) -> None:
    """Have a manager draw the jitter of its retries from a seed too."""
    manager.engine.endings.random = Random(seed)  # noqa: S311  no secrets


def written(manager: WorkflowManager) -> None:
    """Let what has happened get into the journal, if there is one: then nothing depends on how quick its thread is."""
    recorder = manager.engine.recorder
    while recorder is not None:
        recorder.commit()
        if recorder.has_caught_up():
            return


def with_turns(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with the defaults of tests, and with a pool that runs one call at a time, as the inline pool does."""
    pools = settings.get("pools", {})
    if isinstance(pools, Mapping):
        pools = {**pools, TURNS: {"kind": "thread", "workers": 1}}
    return {**DEFAULTS, **settings, "pools": pools}


def without_inline(workflow: Workflow) -> Workflow:
    """The same workflow, whose inline tasks are simulated too: who would wait and run them is busy simulating."""
    if not any(task.pool == "inline" for task in workflow.tasks.values()):
        return workflow
    return Workflow(
        workflow.name, map(_moved, workflow.tasks.values()), workflow.description, result=workflow.chosen_result
    )


def _moved(task: TaskDef) -> TaskDef:
    if task.pool == "inline":
        task = copy.copy(task)
        msgspec.structs.force_setattr(task, "pool", TURNS)
    return task


def _stuck(execution: Execution) -> str:
    unfinished = [task for task, status in execution.project("task_status").items() if not status.is_final]
    return (
        f"workflow {execution.workflow_name!r} doesn't end by itself, it waits in "
        f"{', '.join(map(repr, unfinished[:10]))}; begin it with `start`, give it what it waits for, and `settle`"
    )
