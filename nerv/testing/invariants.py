"""What must be true of an execution that has ended, read from its events: the engine's side of `simulate`.

It knows the workflow, its policies and the events, and nothing of the scheduler.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from fractions import Fraction
from typing import Any, Final

from msgspec import UNSET

from nerv.errors import NervError
from nerv.eventlog import CODES
from nerv.events import TERMINAL, EventType
from nerv.execution import Execution
from nerv.limits import Breaker, exact
from nerv.pages import Record
from nerv.policies import RetryPolicy
from nerv.statuses import MOVES, TaskStatus, WorkflowStatus
from nerv.tasks import TaskDef

ATTEMPT_ENDS: Final = {
    EventType.TASK_COMPLETED: True,
    EventType.TASK_RETRYING: False,
    EventType.TASK_FAILED: False,
    EventType.TASK_CANCELLED: None,
}
"""The events that end an attempt, and what they say of it."""

STAND_INS: Final = {"cached", "fallback"}
"""What a TASK_COMPLETED says when something stands in for the function's result."""


class InvariantError(NervError, AssertionError):
    """Raised when something isn't true of an execution that must be true of every one."""


def require(claim: object, words: Callable[[], str]) -> None:
    """Raise an InvariantError with these words, which are put together only then, if the claim is false."""
    if not claim:
        raise InvariantError(words())


class Reading:
    """Reads an execution's events from the first to the last.

    Args:
        execution: one that has ended.
        resources: what there is of each.
        cancelled: whether somebody cancelled it.

    Raises:
        InvariantError: by `check`, at the first thing that can't be.
    """

    def __init__(self, execution: Execution, resources: Mapping[str, float], *, cancelled: bool = False) -> None:
        self.execution = execution
        self.cancelled = cancelled
        self.log = execution.log
        self.tasks = execution.workflow.tasks
        self.status: dict[str, TaskStatus] = dict.fromkeys(self.log.ids, TaskStatus.PENDING)
        self.attempts: dict[str, int] = {}
        self.due: dict[str, float] = {}
        self.began: dict[str, float] = {}
        self.parents: set[str] = set()  # have added tasks, whose end they await even when they are late
        self.cause: dict[str, str] = {}
        self.completed: list[str] = []
        self.compensated: list[str] = []
        self.ended = False
        self.limits = Limits(self.tasks, resources)

    def check(self) -> None:
        """Read it all."""
        before = float("-inf")
        for seq, record in enumerate(self.log.records, start=1):
            if record[2] < before:
                raise InvariantError(f"event {seq} lies {before - record[2]} s before the one in front of it")
            before = record[2]
            self._hear(seq, record)
        self._check_end()

    def statuses_at(self, seq: int) -> dict[str, TaskStatus]:
        """Every task's status after the event `seq`, folded from the table of moves alone."""
        statuses = dict.fromkeys(self.log.ids, TaskStatus.PENDING)
        for code, number, *_ in self.log.records[:seq]:
            if number >= 0 and CODES[code] in MOVES:
                task = self.log.ids[number]
                statuses[task] = MOVES[CODES[code]][statuses[task]]
        return statuses

    def _hear(self, seq: int, record: Record) -> None:
        code, number, at, attempt, data = record
        kind = CODES[code]
        require(
            (seq == 1) == (kind is EventType.WORKFLOW_STARTED),
            lambda: "WORKFLOW_STARTED is the first event, and only it",
        )
        require(not self.ended, lambda: f"{kind} comes after the end")
        if number < 0:
            self.ended = kind in TERMINAL
            return
        task = self.log.ids[number]
        if kind is EventType.TASKS_ADDED:
            self.parents.add(task)
        if kind is EventType.TASK_COMPENSATED:
            self._compensated(task)
        if kind not in MOVES:
            return
        if kind is EventType.TASK_STARTED:
            self._started(task, at)
        elif kind in ATTEMPT_ENDS and task in self.began:
            self._attempt_ended(task, kind, at, data)
        if kind is EventType.TASK_SKIPPED:
            self.cause[task] = data["cause"]
        elif kind is EventType.TASK_COMPLETED:
            called = task in self.attempts or (data or {}).keys() & STAND_INS
            require(called, lambda: f"task {task!r} is completed, but was never called")
            self.completed.append(task)
        require(attempt == self.attempts.get(task, 0), lambda: f"{kind} of task {task!r} counts attempt {attempt}")
        status = self.status[task]
        require(status in MOVES[kind], lambda: f"task {task!r} is {status.name}, so {kind} can't happen to it")
        self.status[task] = MOVES[kind][status]

    def _started(self, task: str, at: float) -> None:
        attempt = self.attempts[task] = self.attempts.get(task, 0) + 1
        require(
            task not in self.began, lambda: f"attempt {attempt} of task {task!r} starts before the last one has ended"
        )
        self.began[task] = at
        definition = self.tasks.get(task)
        if definition is None:  # a node brought it
            return
        policy = definition.retry_policy
        most = policy.maximum_attempts if isinstance(policy, RetryPolicy) else 1
        require(attempt <= most, lambda: f"task {task!r} has {most} attempts, and this is attempt {attempt}")
        if attempt == 1:
            require(
                self._may_start(definition),
                lambda: f"task {task!r} starts before what it needs has ended: {self.status}",
            )
        due = self.due.pop(task, None)
        if due is not None:  # given in epoch seconds, which are coarse
            require(
                at + self.log.epoch >= due - 1e-5,
                lambda: f"task {task!r} is due at {due - self.log.epoch}, not at {at}",
            )
        self.limits.started(definition, at)

    def _may_start(self, task: TaskDef) -> bool:
        if task.run_when == "all_finished":
            return all(self.status[need].is_final for need in task.needs)
        if task.run_when == "any_completed":
            return not task.needs or any(self.status[need] is TaskStatus.COMPLETED for need in task.needs)
        return all(self.status[need] is TaskStatus.COMPLETED or self._is_routed_round(need) for need in task.needs)

    def _is_routed_round(self, task: str) -> bool:
        """Whether a task was skipped because its turn didn't come, not because something failed."""
        cause = self.cause.get(task)
        return cause is not None and self.status.get(cause) is not TaskStatus.FAILED

    def _attempt_ended(self, task: str, kind: EventType, at: float, data: Mapping[str, Any] | None) -> None:
        began = self.began.pop(task)
        definition = self.tasks.get(task)
        if definition is None:
            return
        timeout = definition.timeout
        if timeout is not None and not callable(definition.fallback) and task not in self.parents:
            require(at <= began + timeout, lambda: f"task {task!r} ran for {at - began} s; its timeout is {timeout} s")
        if kind is EventType.TASK_RETRYING:
            assert data is not None
            self.due[task] = data["due"]
            policy = definition.retry_policy
            allowed = isinstance(policy, RetryPolicy) and self.attempts[task] < policy.maximum_attempts
            require(allowed, lambda: f"task {task!r} is retried after its last attempt")
        ok = False if data and data.get("fallback") else ATTEMPT_ENDS[kind]
        self.limits.ended(definition, ok, at)

    def _compensated(self, task: str) -> None:
        definition = self.tasks.get(task)
        require(task not in self.compensated, lambda: f"task {task!r} is compensated twice")
        require(
            self.status[task] is TaskStatus.COMPLETED, lambda: f"task {task!r} is compensated, but was never completed"
        )
        require(
            definition is None or definition.compensate,
            lambda: f"task {task!r} is compensated, but has no compensation",
        )
        self.compensated.append(task)

    # ---- the end ----------------------------------------------------------------------------------------------------

    def _check_end(self) -> None:
        execution, status = self.execution, self.status
        require(self.ended, lambda: f"it neither ends nor goes on; its tasks are {_counted(status.values())}")
        open_tasks = [task for task, one in status.items() if not one.is_final]
        require(not open_tasks, lambda: f"it has ended, but these tasks haven't: {open_tasks}")
        by_status = {one: {task for task in status if status[task] is one} for one in TaskStatus}
        require(
            set(execution.results) == by_status[TaskStatus.COMPLETED], lambda: "results are those of completed tasks"
        )
        failures, failed_tasks = set(execution.failures), by_status[TaskStatus.FAILED]
        require(failures <= failed_tasks, lambda: "failures are those of failed tasks")
        unsaid = failed_tasks - failures  # only failures of what a node has added can be the node's own business
        require(not unsaid & self.tasks.keys(), lambda: f"these tasks failed, and nothing says so: {unsaid}")
        known = dict(execution.project("task_status"))
        require(known == status, lambda: f"the projection says {known}, the events say {status}")
        is_cancelled = execution.status is WorkflowStatus.CANCELLED
        require(not is_cancelled or self.cancelled, lambda: "it is CANCELLED, but nobody cancelled it")
        if not by_status[TaskStatus.FAILED] and not self.cancelled:
            complete = execution.status is WorkflowStatus.COMPLETED
            failed = execution.failures or (self.log.records[-1][4] or {}).get("error") is not None
            require(complete or failed, lambda: f"no task failed, but it is {execution.status.name}")
        self._check_compensations()

    def _check_compensations(self) -> None:
        undoable = [task for task in self.completed if task in self.tasks and self.tasks[task].compensate]
        if self.execution.status is WorkflowStatus.COMPLETED:
            require(not self.compensated, lambda: f"it is COMPLETED, but {self.compensated} were compensated")
        else:
            own = [task for task in self.compensated if task in self.tasks]
            late = [task for task in undoable if self.tasks[task].run_when == "all_finished" and task not in own]
            wanted = [task for task in reversed(undoable) if task not in late]
            require(own == wanted, lambda: f"compensated were {own}, in this order; it should have been {wanted}")


class Limits:
    """Rate limits, circuit breakers and resources: who starts when, and who holds what.

    Tasks with a callable fallback are left out where the end of an attempt matters: it isn't told.
    """

    def __init__(self, tasks: Mapping[str, TaskDef], resources: Mapping[str, float]) -> None:
        self._free = {name: exact(amount) for name, amount in resources.items()}
        self._starts: dict[Hashable, deque[Fraction]] = {}
        self._breakers: dict[Hashable, Breaker] = {}
        self._tokens: dict[str, int] = {}
        self._dark = {
            key_of(task.circuit_breaker)
            for task in tasks.values()
            if task.circuit_breaker is not None and hides_ends(task)
        }

    def started(self, task: TaskDef, at: float) -> None:
        """An attempt starts."""
        limit = task.rate_limit
        if limit is not None:
            starts = self._starts.setdefault(key_of(limit), deque(maxlen=limit.count))
            if len(starts) == limit.count:
                window = Fraction(at) - starts[0]
                words = (
                    f"rate limit {limit}: {limit.count + 1} starts in {float(window)} s, the last of task {task.id!r}"
                )
                require(window >= Fraction(limit.period), lambda: words)
            starts.append(Fraction(at))
        breaker = task.circuit_breaker
        if breaker is not None and key_of(breaker) not in self._dark:
            circuit = self._breakers.setdefault(key_of(breaker), Breaker(breaker))
            allowed = circuit.opens_at(at) <= at
            require(allowed, lambda: f"circuit breaker {breaker} is {circuit.state.name}, but task {task.id!r} starts")
            self._tokens[task.id] = circuit.take(at)
        if task.resources and not hides_ends(task):
            for name, amount in task.resources.items():
                self._free[name] -= exact(amount)
                if self._free[name] < 0:
                    raise InvariantError(f"of {name!r} more is held than there is, with task {task.id!r}")

    def ended(self, task: TaskDef, ok: bool | None, at: float) -> None:  # noqa: FBT001  a verdict, not a switch
        """An attempt has ended, well or not; None: that says nothing."""
        breaker = task.circuit_breaker
        if breaker is not None and key_of(breaker) not in self._dark:
            self._breakers[key_of(breaker)].ended(self._tokens.pop(task.id), ok, at)
        if task.resources and not hides_ends(task):
            for name, amount in task.resources.items():
                self._free[name] += exact(amount)


def key_of(policy: Any) -> Hashable:
    """What policies have in common that share a limit: their name, or else that they are the same object."""
    return policy.name if policy.name is not None else id(policy)


def hides_ends(task: TaskDef) -> bool:
    """Whether an attempt may end without an event of its own: where a fallback is called first."""
    return task.fallback is not UNSET and callable(task.fallback)


def _counted(statuses: Iterable[TaskStatus]) -> str:
    counts: dict[str, int] = {}
    for status in statuses:
        counts[status.name] = counts.get(status.name, 0) + 1
    return ", ".join(f"{count} {name}" for name, count in counts.items())
