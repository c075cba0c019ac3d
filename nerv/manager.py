"""`WorkflowManager`: an engine with its bus, its projector and its pools, for as long as you like."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from nerv.drafts import Drafts
from nerv.errors import ConfigError, JournalError, UnknownIdError
from nerv.events import Event, EventType
from nerv.execution import Execution
from nerv.forked import refuse_elsewhere
from nerv.hub import Hub
from nerv.keeping import Keeper
from nerv.tasks import TaskDef
from nerv.workflows import Workflow

_PARTS: Final = {  # the name of each part that may be given, and how one is known
    "event_bus": ("publish", "an EventBus"),
    "state_projector": ("get_state", "a StateProjector"),
    "clock": ("monotonic", "a Clock, which has monotonic() and time()"),
    "pool_factory": ("make", "what makes pools"),
}


class WorkflowManager(Hub):
    """Runs many executions, one after another or together, on the same pools. A context manager: leaving it closes it.

    Args:
        event_bus, state_projector, clock, pool_factory: your own, in place of the ones it would make.
        services: your own object, seen by tasks as `ctx.services`.
        dispatch_hooks: who is told of what goes from task to task, and what became of it: `DispatchHook`s.
        **settings: see `nerv.settings.Settings`.

    Raises:
        ConfigError: an unknown setting, or a value that can't be right.
    """

    def __init__(self, **given: Any) -> None:
        for name, (verb, what) in _PARTS.items():
            part = given.get(name)
            if part is not None and not hasattr(part, verb):
                raise ConfigError(f"{name} takes {what}, not {part!r}")
        super().__init__(**given)
        self._drafts = Drafts()

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
        """Start an execution and return at once. Its inline tasks run in the thread that waits for it.

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

    # ---- the journal ------------------------------------------------------------------------------------------------

    def recover(
        self,
        workflows: Workflow | Sequence[Workflow] | None = None,
        *,
        on_change: str = "refuse",
        only: Sequence[str] | None = None,
    ) -> list[Execution]:
        """Go on with every interrupted execution in the journal whose workflow is at hand: given, known to this manager
        from an earlier start, or importable from where it was run. The others stay where they are.

        Args:
            workflows: one, or several; they are found by name.
            on_change: "refuse": those whose workflow isn't what it was are left, and one error lists them after the
                rest has been recovered; "continue": they go on with the new one.
            only: ids; default: all.

        Raises:
            JournalError: this manager has no journal.
            WorkflowChangedError: some were refused; the rest goes on.
        """
        if on_change not in ("refuse", "continue"):
            raise ValueError(f'on_change takes "refuse" or "continue", not {on_change!r}')
        given = [workflows] if isinstance(workflows, Workflow) else list(workflows or ())
        with self._starting:
            return self._keeping.recover(given, self._launch, accept_change=on_change == "continue", only=only)

    def fork(
        self,
        execution_id: str,
        from_task: str,
        *,
        params: Mapping[str, Any] | None = None,
        workflow: Workflow | None = None,
    ) -> Execution:
        """A new execution in which a task and all that follows from it run again, and every other completed result is
        used again.

        Args:
            execution_id: one that has ended, or was interrupted.
            from_task: the task's id.
            params: these take the place of the params of the same name.
            workflow: corrected code; default: what the execution ran.

        Raises:
            UnknownIdError: no such execution, or no such task.
            JournalError: this manager has no journal.
        """
        return self._fork(execution_id, [from_task], params, workflow)

    def retry(self, execution_id: str, *, workflow: Workflow | None = None) -> Execution:
        """A fork from every task that failed, was cancelled or skipped.

        Raises:
            UnknownIdError: no such execution.
            JournalError: this manager has no journal.
        """
        before = self.execution(execution_id)
        done = before.results
        return self._fork(execution_id, [task for task in before.workflow.tasks if task not in done], None, workflow)

    def _fork(
        self, execution_id: str, tasks: Sequence[str], params: Mapping[str, Any] | None, workflow: Workflow | None
    ) -> Execution:
        self.execution(execution_id)  # an unknown id is that, also where there is no journal
        live, start = self._keeping.fork(execution_id, tasks, params, workflow)
        return self._launch(live, start, None)

    def forget(self, before: datetime | float | None = None, keep: int | None = None) -> int:
        """Remove finished executions from the journal: those that ended before a time (an aware datetime, or epoch
        seconds), and those beyond the `keep` that ended last.

        Returns:
            How many were removed.
        """
        return self._keeping.journal.forget(before, keep)

    def persist(self) -> None:
        """Wait until everything that has happened so far is in the journal.

        Raises:
            JournalError: there is none, or it can't be written.
        """
        self._keeping.persist()

    @property
    def _keeping(self) -> Keeper:
        if self._keeper is None:
            raise JournalError('this manager has no journal; make it with WorkflowManager(journal="runs.db")')
        refuse_elsewhere(self._process, "this manager's journal")
        return self._keeper

    # ---- drafts -----------------------------------------------------------------------------------------------------

    def create_workflow(self, name: str, description: str = "", tasks: Sequence[TaskDef] | None = None) -> str:
        """Begin a draft, to which tasks can be added; returns its id. Nothing is validated before it is executed."""
        if isinstance(tasks, TaskDef):
            raise TypeError(f"tasks takes a list of TaskDefs, not {tasks!r}; write tasks=[...]")
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
        if not known and self.journal is not None:
            known = draft.executions[-1:]
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
