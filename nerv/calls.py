"""`Call`: one attempt of one task, on its way from the scheduler through a pool and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nerv.context import DependencyResults, LogEntry, Port, TaskContext
from nerv.errors import ResultUnavailableError, described
from nerv.far import Far
from nerv.outcomes import STEERING
from nerv.places import Somewhere
from nerv.tasks import TaskDef

if TYPE_CHECKING:
    from nerv.live import Live


class Call:
    """One attempt.

    Attributes:
        live: the execution it belongs to.
        number: the task's number there.
        task: the TaskDef.
        attempt: 1 for the first.
        value, error: how it ended; whoever runs the call sets one of them (error None: it returned `value`).
        cancelled: whether it was told to stop.
        abandoned: whether the engine has given it up; what it still brings is ignored.
        claimed: whether it was handed out together with others and hasn't begun, as far as the engine knows.
        deadline: when it has run for too long, on the engine's monotonic clock; None: never, or it hasn't begun.
        retryable: whether its retry policy allows another attempt after `error`.
        is_attempt: whether it is one that may end with a result; the others are errands (see nerv/errands.py), and
            attempts that steer.
        obeys: whether it is told to stop when the execution stops.
        queue: the queue that it was taken from, if that isn't the task's own; else -1.
        odd: whether anything about it but its error is out of the ordinary: claimed, an errand, facts, encoded.
        facts: what the event of its completion says besides; None: nothing.
        encoded: a tuple of its value as the journal will keep it; empty: it doesn't.
        unstorable: whether the function returned, but the journal can't keep what.
        unsent: whether it failed because it couldn't be sent to where it was to run: its function wasn't called.
        asked_for_services: whether its function has looked at `ctx.services`.
        step: what it returned in place of a result, ready for the engine; None: a result.
        lent: how many waits inside it have lent its slot; the engine counts it as running while there is none.
    """

    value: Any = None
    cancelled = False
    claimed = False
    lent = 0
    deadline: float | None = None
    retryable = False
    is_attempt = True
    obeys = True
    queue = -1
    facts: dict[str, Any] | None = None
    encoded: tuple[Any, ...] = ()
    unstorable = False
    unsent = False
    asked_for_services = False
    step: Any = None

    def __init__(self, live: Live, number: int, task: TaskDef, attempt: int) -> None:
        self.live = live
        self.number = number
        self.task = task
        self.attempt = attempt
        self.error: BaseException | None = None  # these are looked at for every task: from the object that's quicker
        self.odd = self.abandoned = False

    @property
    def timeout(self) -> float | None:
        """Seconds that it may run."""
        return self.task.timeout

    @property
    def wants_context(self) -> bool:
        """Whether its function's first argument is the context."""
        return self.live.wants_context[self.number]

    @property
    def comes_back(self) -> bool:
        """Whether it waits for a thread now: its function was moved to processes (`pool="auto"`), but it can't go."""
        return self.unsent and self.facts is not None

    @property
    def made(self) -> Any:
        """The task's result, if this call has made it; else UNSET."""
        return self.value

    def conclude(self) -> None:
        """What has to be done with an outcome before the engine takes it over, which happens under its lock."""
        if self.error is not None:
            if not self.comes_back:
                self.judge()
        elif id(type(self.value)) in STEERING:
            self.live.engine.steering.prepare(self)
        else:
            self.keep()

    def judge(self) -> None:
        """Set `retryable`. Asked without the engine's lock: a predicate of the user's may decide."""
        policy = self.task.retry_policy
        assert self.error is not None
        if policy is None:
            return
        try:
            self.retryable = policy.allows(self.error)  # type: ignore[union-attr]  # the TaskDef made it a RetryPolicy
        except BaseException as trouble:  # noqa: BLE001  whatever the predicate raises, the task's own error counts
            self.error.add_note(f"it wasn't retried: retry_on of task {self.task.id!r} raised {described(trouble)}")

    def keep(self) -> None:
        """Keep the value of a task with a `Cache`. Asked without the engine's lock: a store may take its time."""
        waits = self.live.scheduler.waits
        flight = None if waits is None or waits.lookups is None else waits.lookups.flights.get(self.number)
        if flight is not None and self.is_attempt and not self.abandoned:
            try:
                flight.keep(self.value.fetch() if issubclass(type(self.value), Far) else self.value)
            except ResultUnavailableError:  # a cluster has lost it: whoever reads it is told so, and it isn't kept
                flight.failed()

    # ---- what runs it ---------------------------------------------------------------------------------------------

    def prepare(self, port: Port | None = None) -> tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]]:
        """The function and its arguments, context included if it wants one (with `port`, else the live one).

        Raises:
            ResultUnavailableError: an Output in the arguments has no value.
            Exception: what a hook's `on_intent` raised.
        """
        args, kwargs = self.bound()
        if self.live.wants_context[self.number]:
            args = (self.context(port or self), *args)
        if self.live.wires is not None:
            self.live.wires.dispatch(self)
        return self.task.fn, args, kwargs  # type: ignore[return-value]  # a Workflow refuses tasks without a function

    def bound(self) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """The task's arguments, without the context.

        Raises:
            ResultUnavailableError: an Output in them has no value.
        """
        task, live = self.task, self.live
        try:
            return task.bind(live.values, live.params)
        except ResultUnavailableError as error:
            raise ResultUnavailableError(f"task {task.id!r} can't start: {error}") from error

    def context(self, port: Port) -> TaskContext:
        """What the function is told of this attempt."""
        live = self.live
        results, params = self.task.seen(live.values, live.params)
        return TaskContext(
            execution_id=live.id,
            workflow_id=live.workflow_id,
            workflow_name=live.workflow.name,
            task_id=str(self.task.id),
            attempt=self.attempt,
            params=params,
            results=DependencyResults(self.task.needs, results),
            deadline=self.deadline,
            port=port,
            place=Somewhere(live, self.number),
        )

    def run(self) -> None:
        """Call the function here and now, in a copy of the starter's contextvars, and set `value` or `error`."""
        live, task = self.live, self.task
        try:
            fn: Any
            if self.odd or live.wires is not None or live.wants_context[self.number]:
                fn, args, kwargs = self.prepare()
            else:  # as in `prepare`, without the calls
                fn = task.fn
                try:
                    args, kwargs = task.bind(live.values, live.params)
                except ResultUnavailableError as error:
                    raise ResultUnavailableError(f"task {task.id!r} can't start: {error}") from error
            run = live.contextvars.copy().run
            self.value = run(fn, *args, **kwargs) if kwargs else run(fn, *args)
        except BaseException as error:  # noqa: BLE001  whatever a task raises is the task's failure, not the worker's
            self.error = error

    # ---- what its function says while it runs: Call is the Port of tasks in this process ----------------------------

    def is_cancelled(self) -> bool:
        """Whether it was told to stop."""
        return self.cancelled

    def report(self, done: float, total: float | None, message: str) -> None:
        """Publish progress."""
        self.live.report(self, done, total, message)

    def record(self, entry: LogEntry) -> None:
        """Keep a log entry."""
        self.live.logs.append(entry)

    def services(self) -> Any:
        """The user's services."""
        self.asked_for_services = True
        return self.live.services
