"""`WorkflowManager`: an engine with its bus, its projector and its pools, for as long as you like."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any, Final, Self

from nerv.admission import BUILT_IN, admitted
from nerv.bus import EventBus
from nerv.bus.threads import HandlerThread
from nerv.caching.desk import Desk
from nerv.caching.stores import MemoryStore, Store
from nerv.clock import Clock, SystemClock
from nerv.decorators import outside_recording
from nerv.drafts import Drafts
from nerv.engine import Engine
from nerv.errors import ConfigError, NervError, UnknownIdError, near
from nerv.events import ANY, TERMINAL, Event, EventType
from nerv.execution import Execution
from nerv.functions import is_coroutine_function
from nerv.lines import Lines
from nerv.live import Live
from nerv.pools.base import Pool
from nerv.pools.factory import PoolFactory
from nerv.projector import StateProjector
from nerv.settings import Settings, settings_from
from nerv.statuses import WorkflowStatus
from nerv.tasks import TaskDef
from nerv.workflows import Workflow, same_values


class WorkflowManager:
    """Runs many executions, one after another or together, on the same pools. A context manager: leaving it closes it.

    Args:
        event_bus, state_projector, clock, pool_factory: your own, in place of the ones it would make.
        services: your own object, seen by tasks as `ctx.services`.
        **settings: see `nerv.settings.Settings`.

    Raises:
        ConfigError: an unknown setting, or a value that can't be right.
    """

    def __init__(
        self,
        *,
        event_bus: EventBus | None = None,
        state_projector: StateProjector | None = None,
        clock: Clock | None = None,
        services: Any = None,
        pool_factory: PoolFactory | None = None,
        **settings: Any,
    ) -> None:
        self.settings: Settings = settings_from(settings)
        self.event_bus = EventBus(self.settings.history_limit) if event_bus is None else event_bus
        self.state_projector = StateProjector() if state_projector is None else state_projector
        self.clock: Clock = SystemClock() if clock is None else clock
        self._services = services
        self._pool_factory = pool_factory or PoolFactory()
        self._lines = Lines(self.settings.resources)
        self._desk = Desk(_store(self.settings.cache), self.clock.time)
        self._engine = Engine(self.clock, self.event_bus, self.settings.grace, self._lines, desk=self._desk)
        self._pools: dict[str, Pool] = {}
        self._executions: dict[str, Execution] = {}
        self._finished: dict[str, None] = {}
        self._drafts = Drafts()
        self._lock = threading.Lock()  # guards this object's own tables; taken before the engine's, never inside it
        self._closing = threading.Lock()
        self._closed = False
        self._one_shot = False
        atexit.register(self._close_at_exit)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- executions -------------------------------------------------------------------------------------------------

    def start(
        self,
        workflow: Workflow,
        params: Mapping[str, Any] | None = None,
        *,
        targets: Sequence[str] | None = None,
        services: Any = None,
        on_event: Callable[[Event], Any] | None = None,
        execution_id: str | None = None,
    ) -> Execution:
        """Start an execution and return at once.

        Args:
            workflow: what to run.
            params: what tasks see through `Param` and their context.
            targets: ids to run, with all that they need; default: everything.
            services: seen by tasks as `ctx.services`, in place of the manager's own.
            on_event: called with every `Event` of this execution, on the bus's delivery thread.
            execution_id: its id, of your choice. One that this manager knows already is returned, not started again.

        Raises:
            WorkflowDefinitionError: a param is missing, or a task can't run in its pool; lists every problem.
            UnknownIdError: a target that isn't there.
            NervError: the id belongs to an execution of another workflow or with other params; the manager is closed.
        """
        return self._start(
            workflow, params, targets=targets, services=services, on_event=on_event, execution_id=execution_id
        )

    def _start(
        self,
        workflow: Workflow,
        params: Mapping[str, Any] | None,
        *,
        targets: Sequence[str] | None = None,
        services: Any = None,
        on_event: Callable[[Event], Any] | None = None,
        execution_id: str | None = None,
        workflow_id: str | None = None,
    ) -> Execution:
        given = MappingProxyType(_params(params))
        _check(on_event, execution_id)
        admission = admitted(workflow, given, targets, self.settings, self._pool, self._lines)
        with self._lock:
            if self._closed:
                raise NervError(_CLOSED)
            if execution_id is not None and execution_id in self._executions:
                return _joined(self._executions[execution_id], admission.workflow, given)
            if self._engine.draining:
                raise NervError("this manager was told to drain, so it starts nothing new; make a new one")
            clock = self.clock
            live = Live(
                engine=self._engine,
                execution_id=execution_id or os.urandom(8).hex(),
                workflow=admission.workflow,
                workflow_id=workflow_id or admission.workflow.name,
                params=given,
                services=self._services if services is None else services,
                contextvars=outside_recording(),
                epoch=clock.time() - clock.monotonic(),
            )
            admission.equip(live)
            execution = Execution(live, self)
            self._executions[live.id] = execution
        self.event_bus.attach(live.log)
        self.state_projector.attach(live.log, workflow_id=live.workflow_id)
        if on_event is not None:
            self._hear(live.id, on_event)
        live.on_end.append(lambda: self._ended(live.id))
        self._engine.start(live)
        return execution

    def _hear(self, execution_id: str, on_event: Callable[[Event], Any]) -> None:
        """Have `on_event` hear every event of an execution, and nothing after the last."""
        subscribe = self.event_bus.subscribe
        made = [subscribe(ANY, on_event, execution=execution_id, weak=False)]

        def stop() -> None:
            for subscription in made:
                subscription.cancel()

        async def leave_in_turn(_: Event) -> None:
            stop()

        # coroutine handlers run one after the other: behind its last call is where on_event may go
        leave = leave_in_turn if is_coroutine_function(on_event) else lambda _: stop()
        made += [subscribe(last, leave, execution=execution_id, weak=False) for last in TERMINAL]

    def _pool(self, name: str) -> Pool:
        """The pool of that name, made when first needed."""
        with self._lock:
            if self._closed:
                raise NervError(_CLOSED)
            pool = self._pools.get(name)
            if pool is None:
                pool = self._pools[name] = self._pool_factory.make(name, self.settings)
                self._engine.adopt(pool)
            return pool

    def _ended(self, execution_id: str) -> None:
        with self._lock:
            self._finished[execution_id] = None
            forgotten = list(self._finished)[: max(0, len(self._finished) - self.settings.keep)]
            for known in forgotten:
                del self._finished[known]
                execution = self._executions.pop(known)
                execution.release()
                self.event_bus.detach(execution.log)
                self.state_projector.detach(known)
            close = self._one_shot and not self._closed and len(self._finished) == len(self._executions)
        if close:
            threading.Thread(target=self.close, name="nerv-closer", daemon=True).start()

    def execution(self, execution_id: str) -> Execution:
        """The execution of that id; UnknownIdError if this manager doesn't know it (any more)."""
        try:
            return self._executions[execution_id]
        except KeyError:
            known = list(self._executions)
            raise UnknownIdError(f"no execution {execution_id!r} is known here{near(execution_id, known)}") from None

    def executions(self, status: WorkflowStatus | None = None) -> list[Execution]:
        """All known executions, oldest first; with `status`, those that are in it now."""
        with self._lock:
            known = list(self._executions.values())
        return [execution for execution in known if status is None or execution.status is status]

    def resize(self, pool: str, workers: int) -> None:
        """Change how many calls may run at once in a pool, from now on; what runs goes on to its end. A POOL_RESIZED
        event.

        Raises:
            ConfigError: no such pool, or not a number from 1.
        """
        known = (*BUILT_IN[:3], *self.settings.pools)
        if pool not in known:
            raise ConfigError(f"there is no pool {pool!r}{near(pool, known)}; there are {', '.join(known)}")
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
            raise ConfigError(f"a pool has a whole number of workers from 1, not {workers!r}")
        self._engine.resize(self._pool(pool), workers)

    # ---- drafts -----------------------------------------------------------------------------------------------------

    def create_workflow(self, name: str, description: str = "", tasks: Sequence[TaskDef] | None = None) -> str:
        """Begin a draft, to which tasks can be added; returns its id. Nothing is validated before it is executed."""
        workflow_id = self._drafts.create(name, description, self.clock.time())
        data = {"workflow_id": workflow_id, "name": name}
        self.event_bus.announce(EventType.WORKFLOW_CREATED, data=data, source=workflow_id)
        for task in tasks or ():
            self.add_task(workflow_id, task)
        return workflow_id

    def add_task(self, workflow_id: str, task: TaskDef) -> str:
        """Add a task to a draft; returns the task's id. Executions that run already don't see it."""
        self._drafts.of(workflow_id).add(task)
        data = {"workflow_id": workflow_id, "task_id": task.id}
        self.event_bus.announce(EventType.TASK_PENDING, task_id=task.id, data=data, source=workflow_id)
        return task.id

    def execute_workflow(self, workflow_id: str, context: Mapping[str, Any] | None = None) -> str:
        """Start an execution of a draft as it is now, in the background; returns the execution's id."""
        workflow = self._drafts.of(workflow_id).snapshot()
        execution = self._start(workflow, context, workflow_id=workflow_id)
        self._drafts.of(workflow_id).executions.append(execution.id)
        return execution.id

    def get_workflow_status(self, workflow_id: str, execution_id: str | None = None) -> dict[str, Any]:
        """A draft and its latest (or the given) execution as one dict: id, name, status, created_at, task_count; once
        known also execution_id, started_at, completed_at, duration, task_results and error.
        """
        draft = self._drafts.of(workflow_id)
        report = draft.report()
        if execution_id is None and not draft.executions:
            return report
        if execution_id is not None and execution_id not in draft.executions:
            raise UnknownIdError(f"{execution_id!r} is no execution of workflow {workflow_id!r}")
        known = [execution_id] if execution_id else [one for one in draft.executions if one in self._executions]
        if not known:
            kept = f"only {self.settings.keep} are kept (the setting `keep`)"
            raise UnknownIdError(f"the executions of workflow {workflow_id!r} have ended and are forgotten: {kept}")
        return {**report, **self.execution(known[-1]).report()}

    def get_task_status(self, task_id: str, execution_id: str | None = None) -> Mapping[str, Any]:
        """A task's state map (`["status"]` and so on), of the latest or the given execution that holds it."""
        candidates = [self.execution(execution_id)] if execution_id else reversed(self.executions())
        for execution in candidates:
            tasks: Mapping[str, Mapping[str, Any]] = execution.state["tasks"]
            if task_id in tasks:
                return tasks[task_id]
        raise UnknownIdError(f"no execution here has a task {task_id!r}")

    # ---- the end ----------------------------------------------------------------------------------------------------

    def drain(self, timeout: float | None = None) -> bool:
        """Start nothing new and wait until what runs has ended. False: `timeout` seconds were not enough."""
        return self._engine.drain(timeout)

    def close(self) -> None:
        """Drain for `grace` seconds, cancel what is left, and end all threads and processes. It never hangs: what
        doesn't stop within another `grace` is abandoned.
        """
        with self._closing:
            if self._closed:
                return
            with self._lock:
                self._closed = True
            atexit.unregister(self._close_at_exit)
            try:
                self._engine.stop()
            finally:
                for pool in list(self._pools.values()):
                    pool.close(self.settings.grace)
                self.event_bus.close(self.settings.grace)
                self._desk.close()

    def _close_at_exit(self) -> None:
        with suppress(RuntimeError):  # since Python 3.12 no thread starts any more, so cleanup that needs one can't run
            self.close()

    def settled(self, live: Live) -> None:
        """Wait until an ended execution is over for all: handlers have heard its events, and the manager is closed
        if it closes itself. Handlers don't wait for handlers.
        """
        self.event_bus.flush(live.log, self.settings.grace)
        if self._one_shot and not isinstance(threading.current_thread(), HandlerThread):
            self.close()

    def when_settled(self, live: Live, tell: Callable[[], object]) -> None:
        """Call `tell`, on some thread, once the execution has ended and is settled."""

        def settle() -> None:
            live.ended.wait()
            self.event_bus.flush(live.log, self.settings.grace)
            if self._one_shot:
                self.close()
            tell()

        threading.Thread(target=settle, name="nerv-closer", daemon=True).start()

    def close_when_idle(self) -> None:
        """From now on the manager closes itself when its last execution ends (what `nerv.start` promises)."""
        self._one_shot = True


_CLOSED: Final = "this manager is closed; make a new one"


def _store(path: str | None) -> Store:
    """Where results are kept."""
    if path is None:
        return MemoryStore()
    from nerv.caching.sqlite import SqliteStore

    return SqliteStore(path)


def _params(given: Any) -> dict[str, Any]:
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"params takes a mapping of names to values, not {given!r}")
    return dict(given or ())


def _check(on_event: Any, execution_id: Any) -> None:
    if on_event is not None and not callable(on_event):
        raise TypeError(f"on_event is called with each event, but {on_event!r} can't be called")
    if execution_id is not None and (not isinstance(execution_id, str) or not execution_id):
        raise TypeError(f"execution_id takes a str that isn't empty, not {execution_id!r}")


def _joined(known: Execution, workflow: Workflow, params: Mapping[str, Any]) -> Execution:
    if known.workflow.name != workflow.name:
        raise NervError(
            f"execution {known.id!r} is of workflow {known.workflow.name!r}, not {workflow.name!r}; choose another id"
        )
    if known.params.keys() != params.keys() or not all(_alike(known.params[name], params[name]) for name in params):
        raise NervError(
            f"execution {known.id!r} was started with other params; choose another id, or pass the same ones"
        )
    return known


def _alike(one: Any, other: Any) -> bool:
    """Whether two values of a param are the same or equal: a date is made anew each time it is given."""
    if same_values(one, other):
        return True
    try:
        return type(one) is type(other) and bool(one == other)
    except Exception:  # noqa: BLE001  the user's __eq__ may do anything
        return False
