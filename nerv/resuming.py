"""`Resumption`: one interrupted execution on its way back to work.

What it was is read from the journal, its workflow is compared with the one at hand, what was lost is counted, and what
the engine needs to go on is made. Nothing happens to it before `start`.

Losses. A task was *lost* if it was running when the process died. It is *suspected* if it was claimed and nothing more
is known: it may have been running. As many of these as there was room for very likely were, so that was an attempt, and
has its number. A task that was lost or suspected more often than `max_recoveries` fails now; a suspect that was never
seen running only when it has run alone too, as it may have been claimed beside the one that kills.

After a crash an execution is *careful*: it is staged, whatever its durability, until what was lost or suspected has
ended, and the best of what is ready. So what kills the process is in the journal before it does. A manager that was
closed leaves a note: nobody was lost.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from heapq import nsmallest
from math import inf
from typing import TYPE_CHECKING, Any, Final

from nerv.bygone import Bygone, Bygones, excused
from nerv.claims import SUSPECT
from nerv.errors import WorkerCrashedError, WorkflowChangedError
from nerv.eventlog import TASKS_ADDED, WORKFLOW_STARTED
from nerv.feeder import SINCE
from nerv.feeding import FedScheduler
from nerv.journal.base import Fact, History
from nerv.journal.codec import decode
from nerv.kept import Kept
from nerv.live import Live
from nerv.recording import CANCELLING, FAULT, LEFT, STOPPING
from nerv.references import Names, scan
from nerv.regrowth import Regrowth
from nerv.replay import Plan, Replay
from nerv.scheduler import Scheduler
from nerv.sparse import Sparse, behind, each
from nerv.stations import Source
from nerv.stored import is_gone, merged
from nerv.tasks import TaskDef
from nerv.wires import HEARD
from nerv.workflows import Workflow

if TYPE_CHECKING:
    from nerv.keeping import Keeper

CAREFUL: Final = 1000
"""Ready tasks that must have ended before an execution that went on after a crash is careful no more."""

_FINGERPRINT: Final = "fingerprint"


class Resumption:
    """An interrupted execution that will go on.

    Args:
        keeper: whose.
        execution_id: which.
        workflow: the one that it ran; the part of it that was selected, if it isn't the `whole`.
        accept_change: whether the workflow may have changed.
        services: in place of the manager's own.
        whole: see `workflow`.

    Attributes:
        live: what the engine will work on.

    Raises:
        WorkflowChangedError: the workflow isn't what it was.
        WorkflowDefinitionError: it can't run here: a pool isn't there, a function can't be sent to a process.
        JournalError: what is stored is damaged, or the journal can't be written any more.
    """

    def __init__(
        self, keeper: Keeper, execution_id: str, workflow: Workflow, *, accept_change: bool, services: Any, whole: bool
    ) -> None:
        self._keeper = keeper
        self._history = history = keeper.load(execution_id)
        targets = decode(history.header.extra.get("targets"))
        selected = workflow.select(targets) if targets is not None and whole else workflow
        has_changed = selected.fingerprint != history.facts.get(_FINGERPRINT, history.header.fingerprint)
        fitting = None if has_changed and not accept_change else fitted(selected, history)
        if fitting is None:
            raise WorkflowChangedError(changed([(history.header.id, history.header.workflow_name)]))
        self.live = keeper.revived(history, fitting)
        if services is not None:
            self.live.services = services
        keeper.admission(self.live).equip(self.live)
        self._kept = Kept(len(history.records), len(history.ids))
        self._kept.orders_done = [order.id for order in history.orders]
        if has_changed:
            self._kept.facts.append(Fact(self.live.id, _FINGERPRINT, selected.fingerprint))
        self._is_new = not history.records  # it was killed before anything was written
        if self._is_new:
            roots = [number for number, left in enumerate(self.live.scheduler.missing) if not left]
            self._kept.careful = _first(self.live.scheduler, roots)
            keeper.keep(self.live, self._kept)
        else:
            self._take_up()
        keeper.workflows[workflow.name] = workflow

    def _take_up(self) -> None:
        live, history, kept = self.live, self._history, self._kept
        scheduler, numbers = live.scheduler, numbered(live.log.ids)
        regrowth = Regrowth(live, self._fold())
        page = live.log.page
        seqs = [seq for seq, _ in page.numbered()] if page.is_later else None
        self._replay = replay = Replay(scheduler, page.records, numbers, regrowth, seqs=seqs, folded=page.folded)
        regrowth.pass_over()
        if page.is_later:
            page.settle()
        replay.run_again(*_unkept(live, numbers))
        replay.settle()
        scheduler.cancelling = CANCELLING in history.facts
        scheduler.reason = history.facts.get(CANCELLING) or ""
        scheduler.fault = history.facts.get(FAULT)
        scheduler.stopping = STOPPING in history.facts
        is_crash = history.facts.get(LEFT) != len(history.records)
        suspected = _suspected(history, replay) if is_crash else []
        if isinstance(scheduler, FedScheduler):
            scheduler.brought_in(replay.heard_at, suspected, page.numbered())
            scheduler.feeder.since = history.facts.get(SINCE)
        if live.wires is not None:
            live.wires.recall(replay.heard_at, history.facts.get(HEARD) or 0)
        self._losses = losses = Counter(replay.losses)
        if is_crash:
            losses.update(replay.lost + suspected)
            kept.careful = [*replay.lost, *suspected, *_first(scheduler, replay.ready())]
        kept.suspects = {number for number, times in losses.items() if times >= SUSPECT}
        self._keeper.keep(live, kept)
        ids = live.log.ids
        facts = {"lost": [ids[one] for one in replay.lost], "suspected": [ids[one] for one in suspected]}
        self._plan = Plan(
            facts=facts if is_crash else {**facts, "left": True},
            begun=self._begun(replay.lost, suspected),
            dead=self._dead(replay.lost, suspected),
            gone=[number for number, task in each(live.tasks) if is_gone(task)],
            added=behind(ids, len(history.ids)),
        )

    def _fold(self) -> deque[Bygone]:
        """Fold the lanes that ended long ago; they aren't grown again."""
        live, history, scheduler = self.live, self._history, self.live.scheduler
        if not isinstance(scheduler, FedScheduler):
            return deque()
        source = live.tasks[scheduler.source]
        assert isinstance(source, Source)
        steps = list(source.lane.tasks.values())
        bygones = Bygones(history.records, len(live.workflow), scheduler.source, len(steps), scheduler.signal)
        undoable = [place for place, step in enumerate(steps) if step.compensate is not None]
        until = inf if live.wires is None else history.facts.get(HEARD) or 0
        lanes = bygones.before(scheduler.lanes.keep, until, undoable)
        if lanes:
            counts = bygones.counts(lanes)
            scheduler.feeder.begin_behind(lanes, counts, history.ids)
            scheduler.excused += excused(counts)
        return lanes

    def _begun(self, lost: Sequence[int], suspected: Sequence[int]) -> list[int]:
        """Of the suspected those that had begun, as far as can be told: the first ones, for which there was room."""
        room = dict(enumerate(pool.limit for pool in self.live.pools))
        queue_of, begun = self.live.scheduler.queue_of, list[int]()
        for place, number in enumerate([*lost, *suspected]):
            left = room[queue_of[number]] = room.get(queue_of[number], 0) - 1
            if left >= 0 and place >= len(lost):
                begun.append(number)
        return begun

    def _dead(self, lost: Sequence[int], suspected: Sequence[int]) -> dict[int, BaseException]:
        losses, most = self._losses, self._keeper.manager.settings.max_recoveries
        dead = [number for number in lost if losses[number] > most]
        dead += [number for number in suspected if losses[number] > max(most, SUSPECT)]
        return {
            number: WorkerCrashedError(
                f"task {self.live.log.ids[number]!r} was running each of the {losses[number]} times that the process "
                "died, so it isn't run again: find out what it does to the process, or run it with pool='process', "
                "where only its own worker dies"
            )
            for number in dead
        }

    def start(self) -> None:
        """Go on. What was ordered of it meanwhile is carried out, before anything starts."""
        manager, live = self._keeper.manager, self.live
        orders = [self._keeper.orders.read(live, order) for order in self._history.orders]

        def carry_out() -> None:
            for kind, data in orders:
                self._keeper.orders.carry_out(live, kind, data)

        if self._is_new:
            manager.engine.start(live, then=carry_out)
        else:
            manager.engine.resume_recovered(live, lambda: self._go_on(carry_out))

    def _go_on(self, then: Callable[[], None]) -> None:
        live = self.live
        self._replay.go_on(self._keeper.manager.clock.monotonic(), live.log.epoch, self._plan)
        families = live.scheduler.families
        for number in self._plan.failed:
            errors = live.taken_on if families is not None and families.takes_on(number) else live.errors
            errors[live.tasks[number].id] = self._plan.dead[number]
        if isinstance(live.scheduler, FedScheduler):
            live.scheduler.on_start()
        then()


def numbered(ids: Sequence[str]) -> dict[str, int]:
    """Task id -> number."""
    return {task_id: number for number, task_id in enumerate(ids)}


def fitted(workflow: Workflow, history: History) -> Workflow | None:
    """The workflow with its tasks as the execution has numbered them. None: tasks were added to the workflow, and the
    execution has grown by others meanwhile, which have their numbers.
    """
    own = own_ids(history)
    if not history.records or list(workflow.tasks) == own:
        return workflow
    known = set(own)
    if len(own) < len(history.ids) and any(task_id not in known for task_id in workflow.tasks):
        return None
    return merged(workflow, own)


def own_ids(history: History) -> list[str]:
    """The ids of the workflow's own tasks, without those that were added while it ran."""
    if not history.records or history.records[0][0] != WORKFLOW_STARTED:
        return list(history.ids)
    count = history.records[0][4]["task_count"]
    if count < len(history.ids):
        added = (data for code, *_, data in history.records if code == TASKS_ADDED)
        count += sum(len(data["ids"]) for data in added if data.get("changed"))
    return history.ids[:count]


def changed(refused: Sequence[tuple[str, str]]) -> str:
    """What a WorkflowChangedError says, of executions by id and workflow name."""
    listed = ", ".join(f"{execution_id!r} of {name!r}" for execution_id, name in refused)
    return (
        f"the workflow isn't what it was when these executions began: {listed}. Recover them with the old code, or say "
        'on_change="continue" to go on with the new: completed tasks of the same id keep their results'
    )


def _unkept(live: Live, numbers: dict[str, int]) -> tuple[set[int], Sequence[list[int]] | Sparse[list[int]], list[int]]:
    """The completed tasks without a result, whose results each task is given, and those that make the execution's."""
    values = live.values
    unkept = {number for number, task_id in each(live.log.ids) if task_id not in values}
    own = len(live.workflow)
    tasks: Sequence[TaskDef] | Sparse[TaskDef] = live.tasks
    needs = [
        [numbers[output] for output in task.outputs] if number < own else list(live.scheduler.needs_of(number))
        for number, task in each(tasks)
    ]
    names = Names()
    scan(live.workflow.result_spec, names)
    known = needs if not isinstance(tasks, Sparse) else Sparse.at(tasks, needs)
    return unkept, known, [numbers[output] for output in names.outputs if output in numbers]


def _first(scheduler: Scheduler, ready: Sequence[int]) -> list[int]:
    """Those that start first. If what kills isn't among them, the next life begins that much further on."""
    return nsmallest(CAREFUL, ready, key=scheduler.ranks.__getitem__)


def _suspected(history: History, replay: Replay) -> list[int]:
    """The tasks that may have been running when the process died: claimed in its run, and no more is known."""
    since = replay.recovered_at
    claimed = {number: seq for seq, numbers in history.claims if seq >= since for number in numbers}
    return [one for one, seq in claimed.items() if replay.heard_at.get(one, 0) <= seq and not replay.has_ended(one)]
