"""`Keeper`: a manager's side towards its journal: what is kept there is found, gone on with, forked and forgotten."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Container, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from nerv.admission import Admission, admitted
from nerv.decorators import outside_recording
from nerv.errors import JournalError, NervError, UnknownIdError, WorkflowChangedError, described, near
from nerv.eventlog import TASK_COMPENSATED, TASK_FAILED
from nerv.execution import Execution
from nerv.far import FarValues
from nerv.journal.base import Batch, Header, History, Journal
from nerv.journal.codec import decode, encode, encode_all
from nerv.journal.lazy import LazyValues
from nerv.kept import Kept
from nerv.live import Live
from nerv.orders import Orders
from nerv.owning import Ear
from nerv.recording import Recorder
from nerv.regrowth import Flat
from nerv.replay import Replay
from nerv.resuming import Resumption, changed, fitted, numbered, own_ids
from nerv.scheduler import Scheduler
from nerv.shelf import StoredExecution
from nerv.staging import Staging
from nerv.stations import Source
from nerv.statuses import WorkflowStatus
from nerv.stored import is_gone, stored_workflow
from nerv.workflows import Workflow

if TYPE_CHECKING:
    from nerv.hub import Hub


class Keeper:
    """Everything of a manager that has to do with its journal.

    Args:
        manager: whose.
        journal: where executions are kept.
    """

    def __init__(self, manager: Hub, journal: Journal) -> None:
        self.journal = journal
        self.recorder = Recorder(journal, manager.engine, manager.settings.durability)
        manager.engine.recorder = self.recorder
        self.manager = manager
        self.orders = Orders(manager, journal, self.recorder)
        self._warned: set[str] = set()
        path = getattr(journal, "path", None)
        try:
            self._ear = None if path is None else Ear(path, self.orders.obey)
        except OSError as error:
            if manager.owns_journal:
                journal.close()
            raise JournalError(
                f"journal {path} can't be owned: its socket {path}.sock can't be made ({error.strerror or error}); "
                "remove what is in its place, or choose a shorter path on a local disk"
            ) from error
        self.workflows: dict[str, Workflow] = {}  # that were started or recovered here, by name

    # ---- a new execution --------------------------------------------------------------------------------------------

    def begin(self, live: Live, targets: Sequence[str] | None) -> None:
        """Have a new execution kept.

        Raises:
            SerializationError: a param, or a fallback, can't be stored.
        """
        workflow = live.workflow
        _check_fallbacks(live)
        names = [str(target) for target in targets] if targets is not None else None
        header = Header(
            id=live.id,
            workflow_name=workflow.name,
            workflow_id=live.workflow_id,
            fingerprint=workflow.fingerprint,
            params=encode_all(live.params, "param"),
            target=workflow.origin,
            created_at=self.manager.clock.time(),
            extra={"targets": names, "result": workflow.result_spec, "secret": live.secret},
        )
        self.workflows[workflow.name] = workflow
        self.keep(live, Kept())
        self.journal.write(Batch(headers=[header]), sync=self.recorder.sync)  # whatever happens now, it is known

    def keep(self, live: Live, kept: Kept) -> None:
        """Have an execution kept from now on."""
        if self.recorder.broken is not None:
            raise self.recorder.broken
        live.kept, live.attentive = kept, True
        if self.recorder.strict or kept.careful:
            live.scheduler.staging = Staging(live.scheduler)

    def warn_of_interrupted(self, workflow_name: str) -> None:
        """One warning, if executions of this workflow wait to be gone on with."""
        if workflow_name in self._warned:
            return
        self._warned.add(workflow_name)
        left = [one.id for one in self.journal.unfinished() if one.workflow_name == workflow_name]
        left = [one for one in left if one not in self.manager.known]
        if left:
            warnings.warn(
                f"the journal holds interrupted executions of workflow {workflow_name!r}: {', '.join(left[:10])}; "
                "manager.recover([workflow]) or `nerv resume` goes on with them, and so does run(..., execution_id=ID)",
                stacklevel=5,
            )

    # ---- what is there ----------------------------------------------------------------------------------------------

    def stored(self, execution_id: str, workflow: Workflow | None = None) -> StoredExecution | None:
        """A kept execution that nobody runs, or None; it is shown with `workflow`."""
        record = self.journal.execution(execution_id)
        return (
            None
            if record is None
            else StoredExecution(record, self, workflow or self.workflows.get(record.workflow_name))
        )

    def all_stored(self) -> list[Execution]:
        """All kept executions that this manager doesn't hold itself."""
        known = self.manager.known
        return [
            StoredExecution(record, self, self.workflows.get(record.workflow_name))
            for record in self.journal.executions()
            if record.id not in known
        ]

    def persist(self) -> None:
        """Wait until everything that has happened so far is in the journal."""
        for live in list(self.manager.engine.lives.values()):
            self.recorder.wait(live)
        if self.recorder.broken is not None:
            raise self.recorder.broken

    def close(self, *, owned: bool) -> None:
        """Write what is left, and let go of the journal."""
        if self._ear is not None:
            self._ear.close()
        self.recorder.close()
        if owned:
            self.journal.close()
            return
        left = [record.id for record in self.journal.unfinished() if record.id in self.manager.known]
        if left:  # and not what others run
            self.journal.release(*left)

    def shown(self, execution_id: str, workflow: Workflow | None = None) -> Live:
        """A kept execution, to be looked at: everything is as its last event left it."""
        history = self.load(execution_id)
        live = self.revived(history, None if workflow is None else fitted(_part(workflow, history), history))
        workflow = live.workflow
        live.scheduler = Scheduler(
            workflow.numbers, live.log.ids, workflow.rules, [0] * len(workflow), 1, live.log.records
        )
        Replay(live.scheduler, live.log.records, numbered(live.log.ids), Flat(live)).settle()
        live.scheduler.status = history.status if history.status.is_final else WorkflowStatus.INTERRUPTED
        live.ended.set()
        return live

    def load(self, execution_id: str) -> History:
        """What the journal holds of an execution, by the manager's clock."""
        clock = self.manager.clock
        return self.journal.load(execution_id, epoch=clock.time() - clock.monotonic())

    def revived(self, history: History, workflow: Workflow | None) -> Live:
        """An execution as the journal knows it, without its scheduler. A workflow that isn't given is stood in for."""
        header, clock = history.header, self.manager.clock
        if workflow is None:
            workflow = stored_workflow(header.workflow_name, own_ids(history), decode(header.extra.get("result")))
        live = Live(
            engine=self.manager.engine,
            execution_id=header.id,
            workflow=workflow,
            workflow_id=header.workflow_id or header.workflow_name,
            params=MappingProxyType({name: decode(value) for name, value in header.params.items()}),
            services=self.manager.services,
            contextvars=outside_recording(),
            epoch=clock.time() - clock.monotonic(),
        )
        live.secret = decode(header.extra.get("secret")) or live.secret  # so that lanes keep their ids
        live.log.records = history.records
        own = own_ids(history)  # those that were added come with their records
        known = set(own)
        live.log.ids = [*own, *(one for one in workflow.tasks if one not in known)]
        live.log.values = live.values = history.values
        live.errors = errors = LazyValues()
        live.taken_on = LazyValues()
        live.undo_errors = undo_errors = LazyValues()
        for code, number, *_, data in history.records:
            if code == TASK_FAILED:
                dict.__setitem__(errors, history.ids[number], data.raw("error"))
            elif code == TASK_COMPENSATED and data.raw("error") is not None:
                dict.__setitem__(undo_errors, history.ids[number], data.raw("error"))
        return live

    # ---- going on ---------------------------------------------------------------------------------------------------

    def go_on(
        self,
        execution_id: str,
        workflow: Workflow,
        *,
        accept_change: bool,
        services: Any = None,
        whole: bool = True,
    ) -> tuple[Live, Callable[[], None]]:
        """An interrupted execution, ready to go on; what is given besides starts it.

        Args:
            execution_id: which.
            workflow: the one that it ran; the part of it that was selected, if it isn't the `whole`.
            accept_change: whether it may have changed.
            services: in place of the manager's own.
            whole: see `workflow`.

        Raises:
            WorkflowChangedError: the workflow isn't what it was.
        """
        resumption = Resumption(
            self, execution_id, workflow, accept_change=accept_change, services=services, whole=whole
        )
        return resumption.live, resumption.start

    def admission(self, live: Live) -> Admission:
        """What is checked again, and equips an execution."""
        manager = self.manager
        shared = manager.settings, manager.pool, manager.lines, manager.verdicts
        return admitted(live.workflow, live.params, None, *shared)

    def recover(
        self,
        given: Sequence[Workflow],
        launch: Callable[..., Execution],
        *,
        accept_change: bool,
        only: Container[str] | None = None,
    ) -> list[Execution]:
        """Go on with all interrupted executions whose workflow is at hand.

        Raises:
            WorkflowChangedError: some were refused; the rest goes on.
            NervError: one can't go on here for another reason; the rest goes on.
        """
        by_name = {**self.workflows, **{workflow.name: workflow for workflow in given}}
        recovered, refused = [], []
        failures: list[NervError] = []
        for record in self.journal.unfinished():
            if record.status is not WorkflowStatus.INTERRUPTED or (only is not None and record.id not in only):
                continue
            if record.id in self.manager.known and not self.manager.has_left(record.id):
                continue
            workflow = by_name.get(record.workflow_name) or self._imported(record.id)
            if workflow is None:
                continue
            try:
                live, start = self.go_on(record.id, workflow, accept_change=accept_change)
            except WorkflowChangedError:
                refused.append((record.id, record.workflow_name))
                continue
            except NervError as error:
                error.add_note(f"raised by the recovery of execution {record.id!r}")
                failures.append(error)
                continue
            recovered.append(launch(live, start, None))
        if refused:
            failures.insert(0, WorkflowChangedError(changed(refused)))
        for other in failures[1:]:
            failures[0].add_note(f"and {described(other)}")
        if failures:
            raise failures[0]
        return recovered

    def _imported(self, execution_id: str) -> Workflow | None:
        """The workflow of an execution, from where it was run, if it can be imported from there."""
        target = self.load(execution_id).header.target
        return None if target is None else _imported_from(target)

    # ---- forks ------------------------------------------------------------------------------------------------------

    def fork(
        self, execution_id: str, from_tasks: Sequence[str], params: Mapping[str, Any] | None, workflow: Workflow | None
    ) -> tuple[Live, Callable[[], None]]:
        """A new execution in which these tasks and all that follow from them run again; see `WorkflowManager.fork`."""
        self.recorder.commit()
        history = self.load(execution_id)
        workflow = workflow or self.workflows.get(history.header.workflow_name) or self._imported(execution_id)
        if workflow is None:
            name = history.header.workflow_name
            raise UnknownIdError(f"the code of workflow {name!r} isn't at hand; pass it: fork(..., workflow=...)")
        targets = decode(history.header.extra.get("targets"))
        selected = workflow.select(targets) if targets is not None else workflow
        if any(isinstance(task, Source) for task in selected.tasks.values()):
            text = f"execution {execution_id!r} is fed, so it has no task to run again from on"
            raise NervError(f"{text}; start the flow anew, and send it the messages that its TASKS_ADDED events hold")
        again = _following(selected, from_tasks)
        reused = [
            task_id
            for task_id in selected.tasks
            if task_id in history.values and task_id not in again and not is_gone(selected.tasks[task_id])
        ]
        given = {name: decode(value) for name, value in history.header.params.items()} | dict(params or {})
        live = self.manager.new_live(selected, given, history.header.workflow_id)
        self.admission(live).equip(live)
        self.begin(live, targets)
        assert live.kept is not None
        numbers = numbered(live.log.ids)
        values = LazyValues()
        for task_id in reused:
            raw = live.kept.encoded[numbers[task_id]] = history.values.raw(task_id)
            dict.__setitem__(values, task_id, raw)
        if isinstance(live.values, FarValues):
            live.values.update(values)
        else:
            live.values = live.log.values = values
        facts = {"forked_from": execution_id}
        return live, lambda: self.manager.engine.start(live, [numbers[one] for one in reused], facts)


def _following(workflow: Workflow, tasks: Sequence[str]) -> set[str]:
    """These tasks and all that depend on them."""
    unknown = [task_id for task_id in tasks if workflow.number_of(task_id) is None]
    if unknown:
        raise UnknownIdError(f"workflow {workflow.name!r} has no task {unknown[0]!r}{near(unknown[0], workflow.tasks)}")
    ids, todo = list(workflow.tasks), [workflow.number_of(task_id) or 0 for task_id in tasks]
    found = set(todo)
    while todo:
        more = set(workflow.numbers.dependents[todo.pop()]) - found
        found |= more
        todo += more
    return {ids[number] for number in found}


def _part(workflow: Workflow, history: History) -> Workflow:
    """The part of a workflow that an execution was to run, if that can be told."""
    targets = decode(history.header.extra.get("targets"))
    return workflow if targets is None or not set(targets) <= set(workflow.tasks) else workflow.select(targets)


def _check_fallbacks(live: Live) -> None:
    """A fallback that is a value may be a result, so it is stored like one."""
    waits = live.scheduler.waits
    for number, terms in () if waits is None else waits.terms.items():
        if terms.fallback is not UNSET and not callable(terms.fallback) and live.tasks[number].durable:
            encode(terms.fallback, live.tasks[number].id)


def _imported_from(target: str) -> Workflow | None:
    """The workflow at `module:name` or `/path/file.py:name`, or None if there is none (any more)."""
    module, _, name = target.rpartition(":")
    if module.endswith(".py"):
        from nerv.cli.targets import TargetError, load

        try:
            return load(target)
        except TargetError:
            return None
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        return None
    made = found() if getattr(type(found), "is_nerv_workflow", False) else found
    return made if isinstance(made, Workflow) else None
