"""`Keeper`: a manager's side towards its journal: what is kept there is found, gone on with, forked and forgotten."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from nerv.admission import Admission, admitted
from nerv.decorators import outside_recording
from nerv.errors import UnknownIdError, WorkerCrashedError, WorkflowChangedError, near
from nerv.eventlog import TASK_FAILED, WORKFLOW_RECOVERED, WORKFLOW_STARTED
from nerv.execution import Execution
from nerv.journal.base import Batch, Header, History, Journal
from nerv.journal.codec import decode, encode, encode_all
from nerv.journal.lazy import LazyValues
from nerv.live import Live
from nerv.owning import Ear
from nerv.recording import Kept, Recorder
from nerv.references import Names, scan
from nerv.replay import Replay
from nerv.scheduler import Scheduler
from nerv.shelf import StoredExecution
from nerv.staging import Staging
from nerv.statuses import WorkflowStatus
from nerv.stored import is_gone, merged, stored_workflow
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
        self._warned: set[str] = set()
        path = getattr(journal, "path", None)
        self._ear = None if path is None else Ear(path, self.obey)
        self._workflows: dict[str, Workflow] = {}  # that were started or recovered here, by name

    # ---- a new execution --------------------------------------------------------------------------------------------

    def begin(self, live: Live, targets: Sequence[str] | None) -> None:
        """Have a new execution kept.

        Raises:
            SerializationError: a param can't be stored.
        """
        workflow = live.workflow
        names = [str(target) for target in targets] if targets is not None else None
        header = Header(
            id=live.id,
            workflow_name=workflow.name,
            workflow_id=live.workflow_id,
            fingerprint=workflow.fingerprint,
            params=encode_all(live.params, "param"),
            target=workflow.origin,
            created_at=self.manager.clock.time(),
            extra={"targets": names, "result": workflow.result_spec},
        )
        self._workflows[workflow.name] = workflow
        self._keep(live, Kept())
        self.journal.write(Batch(headers=[header]), sync=self.recorder.sync)  # whatever happens now, it is known

    def _keep(self, live: Live, kept: Kept, *, carefully: bool = False) -> None:
        if self.recorder.broken is not None:
            raise self.recorder.broken
        live.kept = kept
        if self.recorder.strict or carefully:
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
            else StoredExecution(record, self, workflow or self._workflows.get(record.workflow_name))
        )

    def all_stored(self) -> list[Execution]:
        """All kept executions that this manager doesn't hold itself."""
        known = self.manager.known
        return [
            StoredExecution(record, self, self._workflows.get(record.workflow_name))
            for record in self.journal.executions()
            if record.id not in known
        ]

    def close(self, *, owned: bool) -> None:
        """Write what is left, and let go of the journal."""
        if self._ear is not None:
            self._ear.close()
        self.recorder.close()
        if owned:
            self.journal.close()
        else:
            self.journal.release()

    def shown(self, execution_id: str, workflow: Workflow | None = None) -> Live:
        """A kept execution, to be looked at: everything is as its last event left it."""
        history = self._load(execution_id)
        live = self._revived(history, workflow)
        workflow = live.workflow
        live.scheduler = Scheduler(
            workflow.numbers, live.log.ids, workflow.rules, [0] * len(workflow), 1, live.log.records
        )
        Replay(live.scheduler, live.log.records, _numbers(live))
        live.scheduler.status = history.status if history.status.is_final else WorkflowStatus.INTERRUPTED
        live.ended.set()
        return live

    def _load(self, execution_id: str) -> History:
        clock = self.manager.clock
        return self.journal.load(execution_id, epoch=clock.time() - clock.monotonic())

    def _revived(self, history: History, workflow: Workflow | None) -> Live:
        header, clock = history.header, self.manager.clock
        if workflow is None:
            workflow = stored_workflow(header.workflow_name, _own_ids(history), decode(header.extra.get("result")))
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
        live.log.records = history.records
        live.log.ids = history.ids + [one for one in workflow.tasks if one not in set(history.ids)]
        live.log.values = live.values = history.values
        live.errors = errors = LazyValues()
        for code, number, *_, data in history.records:
            if code == TASK_FAILED:
                dict.__setitem__(errors, history.ids[number], data.raw("error"))
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
        history = self._load(execution_id)
        live = self._revived(history, self._accepted(history, workflow, accept_change=accept_change, whole=whole))
        if services is not None:
            live.services = services
        self._admission(live).equip(live)
        if not history.records:  # it was killed before anything was written
            self._keep(live, Kept())
            return live, lambda: self.manager.engine.start(live)
        replay = Replay(live.scheduler, live.log.records, _numbers(live))
        replay.run_again(*_unkept(live))
        live.scheduler.cancelling = "cancelling" in history.facts
        live.scheduler.reason = history.facts.get("cancelling") or ""
        kept = Kept(len(live.log.records), len(history.ids))
        suspected = _suspected(history, live.scheduler, replay)
        kept.losses = Counter(replay.losses) + Counter(replay.lost) + Counter(suspected)
        kept.orders_done = [order.id for order in history.orders]
        self._keep(live, kept, carefully=bool(suspected or replay.lost))
        dead = {
            number: self._given_up(live, number, kept.losses[number])
            for number in replay.lost
            if kept.losses[number] > self.manager.settings.max_recoveries
        }
        ids = live.log.ids
        facts = {"lost": [ids[one] for one in replay.lost], "suspected": [ids[one] for one in suspected]}

        def start() -> None:
            now, epoch = self.manager.clock.monotonic(), live.log.epoch
            for number, error in dead.items():
                live.errors[ids[number]] = error
            self.manager.engine.resume_recovered(live, lambda: replay.go_on(now, epoch, facts, dead))
            for order in history.orders:
                self._carry_out(live, order.kind, order.data)

        return live, start

    def _accepted(self, history: History, workflow: Workflow, *, accept_change: bool, whole: bool) -> Workflow:
        """The workflow to go on with: the part that was run, and as its tasks were numbered."""
        targets = decode(history.header.extra.get("targets"))
        selected = workflow.select(targets) if targets is not None and whole else workflow
        if selected.fingerprint != history.header.fingerprint:
            if not accept_change:
                raise WorkflowChangedError(_changed([(history.header.id, history.header.workflow_name)]))
            selected = merged(selected, _own_ids(history))
        self._workflows[workflow.name] = workflow
        return selected

    def _admission(self, live: Live) -> Admission:
        manager = self.manager
        shared = manager.settings, manager.pool, manager.lines, manager.verdicts
        return admitted(live.workflow, live.params, None, *shared)

    def _given_up(self, live: Live, number: int, losses: int) -> WorkerCrashedError:
        return WorkerCrashedError(
            f"task {live.log.ids[number]!r} was running each of the {losses} times that the process died, so it isn't "
            "run again: find out what it does to the process, or run it with pool='process', where only its own worker "
            "dies"
        )

    def _carry_out(self, live: Live, kind: str, data: Mapping[str, Any]) -> None:
        """Do what was ordered of an execution while nobody owned it."""
        engine = self.manager.engine
        values = {name: decode(value) for name, value in data.items()}
        if kind == "cancel":
            engine.cancel(live, values.get("reason", ""))
        elif kind == "pause":
            engine.pause(live)
        elif kind == "resume":
            engine.resume(live)

    def obey(self, execution_id: str, kind: str, data: Mapping[str, Any]) -> bool:
        """Carry out another process's order, or keep it, if the execution isn't running; durable when this returns.

        Raises:
            UnknownIdError: no such execution.
        """
        execution = self.manager.execution(execution_id)
        if execution.status is WorkflowStatus.INTERRUPTED:
            self.journal.order(execution_id, kind, {name: encode(value) for name, value in data.items()})
            return True
        if kind == "signal":
            execution.signal(data["name"], data["value"])
            return True
        act = {"cancel": execution.cancel, "pause": execution.pause, "resume": execution.resume}[kind]
        return act(**data)

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
        """
        by_name = {**self._workflows, **{workflow.name: workflow for workflow in given}}
        recovered, refused = [], []
        for record in self.journal.unfinished():
            if only is not None and record.id not in only:
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
            recovered.append(launch(live, start, None))
        if refused:
            raise WorkflowChangedError(_changed(refused))
        return recovered

    def _imported(self, execution_id: str) -> Workflow | None:
        """The workflow of an execution, from where it was run, if it can be imported from there."""
        target = self._load(execution_id).header.target
        return None if target is None else self.manager.import_target(target)

    # ---- forks ------------------------------------------------------------------------------------------------------

    def fork(
        self, execution_id: str, from_tasks: Sequence[str], params: Mapping[str, Any] | None, workflow: Workflow | None
    ) -> tuple[Live, Callable[[], None]]:
        """A new execution in which these tasks and all that follow from them run again; see `WorkflowManager.fork`."""
        self.recorder.commit()
        history = self._load(execution_id)
        workflow = workflow or self._workflows.get(history.header.workflow_name) or self._imported(execution_id)
        if workflow is None:
            name = history.header.workflow_name
            raise UnknownIdError(f"the code of workflow {name!r} isn't at hand; pass it: fork(..., workflow=...)")
        targets = decode(history.header.extra.get("targets"))
        selected = workflow.select(targets) if targets is not None else workflow
        again = _following(selected, from_tasks)
        reused = [
            task_id
            for task_id in selected.tasks
            if task_id in history.values and task_id not in again and not is_gone(selected.tasks[task_id])
        ]
        given = {name: decode(value) for name, value in history.header.params.items()} | dict(params or {})
        live = self.manager.new_live(selected, given, history.header.workflow_id)
        self._admission(live).equip(live)
        self.begin(live, targets)
        assert live.kept is not None
        numbers = _numbers(live)
        for task_id in reused:
            raw = history.values.raw(task_id)
            live.values[task_id] = decode(raw)
            live.kept.encoded[numbers[task_id]] = raw
        facts = {"forked_from": execution_id}
        return live, lambda: self.manager.engine.start(live, [numbers[one] for one in reused], facts)


def _numbers(live: Live) -> dict[str, int]:
    return {task_id: number for number, task_id in enumerate(live.log.ids)}


def _unkept(live: Live) -> tuple[set[int], list[list[int]], list[int]]:
    """The completed tasks without a result, whose results each task is given, and those that make the execution's."""
    numbers = _numbers(live)
    unkept = {number for task_id, number in numbers.items() if task_id not in live.values}
    needs = [[numbers[output] for output in task.outputs] for task in live.tasks]
    names = Names()
    scan(live.workflow.result_spec, names)
    return unkept, needs, [numbers[output] for output in names.outputs]


def _own_ids(history: History) -> list[str]:
    """The ids of the workflow's own tasks, without those that were added while it ran."""
    first = history.records[0] if history.records else None
    count = first[4]["task_count"] if first is not None and first[0] == WORKFLOW_STARTED else len(history.ids)
    return history.ids[:count]


def _suspected(history: History, scheduler: Scheduler, replay: Replay) -> list[int]:
    """The tasks that may have been running when the process died: they were claimed in the last run."""
    recovered = [seq for seq, record in enumerate(history.records, 1) if record[0] == WORKFLOW_RECOVERED]
    since = recovered[-1] if recovered else 0
    claimed = dict.fromkeys(number for seq, numbers in history.claims if seq >= since for number in numbers)
    return [number for number in claimed if not scheduler.has_ended(number) and number not in replay.lost]


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


def _changed(refused: Sequence[tuple[str, str]]) -> str:
    listed = ", ".join(f"{execution_id!r} of {name!r}" for execution_id, name in refused)
    return (
        f"the workflow isn't what it was when these executions began: {listed}. Recover them with the old code, or say "
        'on_change="continue" to go on with the new: completed tasks of the same id keep their results'
    )
