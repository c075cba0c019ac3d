"""`Hub`: an engine with its bus, its projector, its pools and its executions: what `WorkflowManager` is made around."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
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
from nerv.engine import Engine
from nerv.errors import ConfigError, JournalError, NervError, UnknownIdError, near
from nerv.events import ANY, TERMINAL, Event
from nerv.execution import Execution
from nerv.functions import is_coroutine_function
from nerv.journal.base import Journal
from nerv.journal.deliveries import DispatchHook
from nerv.keeping import Keeper
from nerv.likeness import same_or_equal
from nerv.lines import Lines
from nerv.live import Live
from nerv.nodes.journalnode import HOOK_METHODS
from nerv.pools.base import Pool
from nerv.pools.factory import PoolFactory
from nerv.projector import StateProjector
from nerv.settings import Settings, settings_from
from nerv.statuses import WorkflowStatus
from nerv.verdicts import Verdicts
from nerv.workflows import Workflow


class Hub:
    """Keeps an engine and its executions. Arguments as of `WorkflowManager`."""

    def __init__(
        self,
        *,
        event_bus: EventBus | None = None,
        state_projector: StateProjector | None = None,
        clock: Clock | None = None,
        services: Any = None,
        dispatch_hooks: Sequence[DispatchHook] = (),
        pool_factory: PoolFactory | None = None,
        **settings: Any,
    ) -> None:
        self.settings: Settings = settings_from(settings)
        self.event_bus = EventBus(self.settings.history_limit) if event_bus is None else event_bus
        self.state_projector = StateProjector() if state_projector is None else state_projector
        self.clock: Clock = SystemClock() if clock is None else clock
        self.services = services
        self._pool_factory = pool_factory or PoolFactory()
        self.lines = Lines(self.settings.resources)
        self.verdicts = Verdicts()
        self._desk = Desk(_store(self.settings.cache), self.clock.time)
        self.engine = Engine(self.clock, self.event_bus, self.settings.grace, self.lines, desk=self._desk)
        self._pools: dict[str, Pool] = {}
        self._executions: dict[str, Execution] = {}
        self._finished: dict[str, None] = {}
        self._lock = threading.Lock()  # guards this object's own tables; taken before the engine's, never inside it
        self._starting = threading.RLock()  # one start at a time, so that an id is started once; taken before `_lock`
        self._closing = threading.Lock()
        self._closed = False
        self._one_shot = False
        self._process = os.getpid()  # a child that was forked has neither the threads nor the right to close anything
        self.owns_journal = not isinstance(self.settings.journal, Journal)
        try:
            self.engine.hooks = hooked(dispatch_hooks)
            self._keeper = None if self.settings.journal is None else Keeper(self, opened(self.settings.journal))
        except BaseException:
            self._desk.close()
            raise
        atexit.register(self._close_at_exit)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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
        admission = admitted(workflow, given, targets, self.settings, self.pool, self.lines, self.verdicts)
        with self._starting:
            if execution_id is not None:
                known = self._known(execution_id, admission.workflow, given, services, on_event)
                if known is not None:
                    return known
            live = self.new_live(admission.workflow, given, workflow_id, execution_id)
            if services is not None:
                live.services = services
            admission.equip(live)
            if self._keeper is not None:
                self._check_open()  # before the journal hears of it
                if execution_id is None:
                    self._keeper.warn_of_interrupted(live.workflow.name)
                self._keeper.begin(live, targets)
            return self._launch(live, lambda: self.engine.start(live), on_event)

    def _known(
        self, execution_id: str, workflow: Workflow, params: Mapping[str, Any], services: Any, on_event: Any
    ) -> Execution | None:
        """The execution of that id if there is one already; an interrupted one goes on."""
        if execution_id in self._executions:
            return _joined(self._executions[execution_id], workflow, params)
        stored = None if self._keeper is None else self._keeper.stored(execution_id, workflow)
        if stored is None or self._keeper is None:
            return None
        _joined(stored, workflow, params)
        self._keeper.workflows.setdefault(workflow.name, workflow)  # now a fork of it has its code
        if stored.status.is_final:
            return stored
        if stored.status is not WorkflowStatus.INTERRUPTED:
            raise NervError(f"execution {execution_id!r} is run by another manager of this journal; wait for it there")
        live, go_on = self._keeper.go_on(execution_id, workflow, accept_change=False, services=services, whole=False)
        return self._launch(live, go_on, on_event)

    def new_live(
        self,
        workflow: Workflow,
        params: Mapping[str, Any],
        workflow_id: str | None = None,
        execution_id: str | None = None,
    ) -> Live:
        """What the engine works on for a new execution, without its scheduler."""
        return Live(
            engine=self.engine,
            execution_id=execution_id or os.urandom(8).hex(),
            workflow=workflow,
            workflow_id=workflow_id or workflow.name,
            params=params,
            services=self.services,
            contextvars=outside_recording(),
            epoch=self.clock.time() - self.clock.monotonic(),
        )

    def _launch(self, live: Live, start: Callable[[], None], on_event: Callable[[Event], Any] | None) -> Execution:
        """Make an execution known to all, and start it."""
        with self._lock:
            self._check_open()
            execution = self._executions[live.id] = Execution(live, self)
        self.event_bus.attach(live.log)
        self.state_projector.attach(live.log, workflow_id=live.workflow_id)
        if on_event is not None:
            self._hear(live.id, on_event)
        live.on_end.append(lambda: self._ended(live.id))
        start()
        return execution

    def _check_open(self) -> None:
        if self._closed:
            raise NervError(_CLOSED)
        if os.getpid() != self._process:
            raise NervError("this manager is another process's: its threads weren't forked; make a new one")
        if self.engine.draining:
            raise NervError("this manager was told to drain, so it starts nothing new; make a new one")

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

    def pool(self, name: str) -> Pool:
        """The pool of that name, made when first needed."""
        with self._lock:
            if self._closed:
                raise NervError(_CLOSED)
            pool = self._pools.get(name)
            if pool is None:
                pool = self._pools[name] = self._pool_factory.make(name, self.settings)
                self.engine.adopt(pool)
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
        """The execution of that id; UnknownIdError if neither this manager nor its journal knows it (any more)."""
        try:
            return self._executions[execution_id]
        except KeyError:
            stored = None if self._keeper is None else self._keeper.stored(execution_id)
            if stored is not None:
                return stored
            known = list(self._executions)
            raise UnknownIdError(f"no execution {execution_id!r} is known here{near(execution_id, known)}") from None

    def executions(self, status: WorkflowStatus | str | None = None) -> list[Execution]:
        """All known executions, oldest first, those that are only in the journal before the others; with `status`, or
        its name, those that are in it now.

        Raises:
            ValueError: there is no such status.
        """
        wanted = None if status is None else WorkflowStatus(status)
        stored: list[Execution] = [] if self._keeper is None else self._keeper.all_stored()
        with self._lock:
            known = stored + list(self._executions.values())
        return [execution for execution in known if wanted is None or execution.status is wanted]

    def has_left(self, execution_id: str) -> bool:
        """Whether an execution was left in the journal, unfinished, by this manager."""
        return self._executions[execution_id].status is WorkflowStatus.INTERRUPTED

    @property
    def known(self) -> Container[str]:
        """The ids of the executions that this manager holds."""
        return self._executions

    @property
    def journal(self) -> Journal | None:
        """Where executions are kept; None: they aren't."""
        return None if self._keeper is None else self._keeper.journal

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
        self.engine.resize(self.pool(pool), workers)

    # ---- the end ----------------------------------------------------------------------------------------------------

    def drain(self, timeout: float | None = None) -> bool:
        """Start nothing new and wait until what runs has ended. False: `timeout` seconds were not enough."""
        return self.engine.drain(timeout)

    def close(self) -> None:
        """Drain for `grace` seconds, cancel what is left, and end all threads and processes. It never hangs: what
        doesn't stop within another `grace` is abandoned. In a forked child it does nothing: all of it is the parent's.
        """
        if os.getpid() != self._process:
            return
        with self._closing:
            if self._closed:
                return
            with self._lock:
                self._closed = True
            atexit.unregister(self._close_at_exit)
            try:
                self.engine.stop()
            finally:
                if self._keeper is not None:
                    self._keeper.close(owned=self.owns_journal)
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


def opened(given: Any) -> Journal:
    """The journal that a setting means.

    Raises:
        JournalError: it can't be opened, or be written to.
    """
    if isinstance(given, Journal):
        if getattr(given, "read_only", False):
            raise JournalError(f"{given!r} was opened to be read; a manager writes: pass journal=, the file's path")
        return given
    from nerv.journal.sqlite import SqliteJournal

    return SqliteJournal(given)


def hooked(given: Any) -> tuple[DispatchHook, ...]:
    """The hooks of every wire.

    Raises:
        ConfigError: something in it is no hook.
    """
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise ConfigError(f"dispatch_hooks takes a list of DispatchHooks, not {given!r}")
    hooks = tuple(given)
    for hook in hooks:
        missing = [name for name in HOOK_METHODS if not callable(getattr(hook, name, None))]
        if missing:
            raise ConfigError(f"dispatch_hooks takes DispatchHooks, and {hook!r} has no {missing[0]}")
    return hooks


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
    if known.workflow_name != workflow.name:
        raise NervError(
            f"execution {known.id!r} is of workflow {known.workflow_name!r}, not {workflow.name!r}; choose another id"
        )
    if known.params.keys() != params.keys() or not all(
        same_or_equal(known.params[name], params[name]) for name in params
    ):
        raise NervError(
            f"execution {known.id!r} was started with other params; choose another id, or pass the same ones"
        )
    return known
