"""`Feeder`: brings messages into an execution of a fed flow, by hand, by signal or by its trigger.

A part of the engine. What the tasks of all messages have in common is worked out once (`Mold`), so that a message costs
little more than its tasks; that is why they may be made under the engine's lock, where their order is decided too.

With a journal the event that adds a message's tasks holds the message, as bytes, and its trigger's *mark*: what tells
that this one was sent. So both are kept by one commit, and the message is opened behind it: strict mode's claims see to
that, else the recorder tells how far it has come.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Collection, Sequence
from reprlib import repr as shortened
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from msgspec import UNSET
from msgspec.structs import force_setattr as _set

from nerv.added import Added, added
from nerv.bygone import Bygone
from nerv.clock import Alarm
from nerv.errors import NervError, Problem, SerializationError, WorkflowDefinitionError, described
from nerv.families import Family
from nerv.feeding import FedScheduler, Message
from nerv.fields import RUN_WHEN
from nerv.forgetting import Forgetting
from nerv.functions import wants_context
from nerv.journal.codec import Stored, encode
from nerv.journal.lazy import LazyFacts
from nerv.lines import Terms
from nerv.names import CLOSED, Scope
from nerv.outcomes import Grow
from nerv.places import Somewhere
from nerv.planting import Plant
from nerv.pools.base import Pool
from nerv.stations import Source
from nerv.statuses import WorkflowStatus

if TYPE_CHECKING:
    from nerv.admission import Admission
    from nerv.live import Live

_RULE_OF: Final = {rule: number for number, rule in enumerate(RUN_WHEN)}
_GROW: Final = Grow(tasks=(), at_once=None, failing="keep")

SINCE: Final = "fed since"
"""The name of the fact that says when an execution was first fed, in epoch seconds."""


class Mold:
    """What the tasks of all messages have in common.

    Args:
        live: the execution.
        source: its Source.
        admission: settles pools and policies.

    Raises:
        WorkflowDefinitionError: a step can't run.
    """

    def __init__(self, live: Live, source: Source, admission: Admission) -> None:
        steps = list(source.lane.tasks.values())
        graph = source.lane.numbers
        scope, problems = Scope({}, live.values), list[Problem]()
        self._live = live
        self._steps: list[Added] = [added(step, step.id, scope, None) for step in steps]
        self._names = [step.id for step in steps]
        self._needs = [[~need for need in needs] for needs in graph.dependencies]
        self._ranks = list(graph.ranks)
        self._rules = bytes([_RULE_OF[step.run_when] for step in steps])
        self._wants = [step.fn is not None and wants_context(step.fn) for step in steps]
        self._pools: list[Pool] = []
        self._terms: dict[int, Terms] = {}
        self._errand_pools: dict[int, Pool] = {}
        for place, step in enumerate(steps):
            self._admit(place, step, admission, problems)
        if problems:
            raise WorkflowDefinitionError(problems, f"workflow {live.workflow.name!r} can't start")

    def _admit(self, place: int, step: Any, admission: Admission, problems: list[Problem]) -> None:
        pool = admission.place(step, problems)
        if pool is None:
            return
        self._pools.append(pool)
        if getattr(step.fn, "delivers", False):
            self._live.watch_wires()
        if step.has_policies:
            with self._live.engine.lock:  # limits are shared
                self._terms[place] = admission.policing.terms_of(step, problems)
            errands = admission.errand_pool(step, pool, problems)
            if errands is not None:
                self._errand_pools[place] = errands

    def plant(self, message: int, item: Any) -> Plant:
        """The tasks of one message, which is `item`; one that is `Stored` is decoded when a task asks for it."""
        plant, live = Plant(_GROW), self._live
        plant.ids = ids = [f"{name}[{message}]" for name in self._names]
        plant.scope = Scope(dict(zip(self._names, ids, strict=True)), live.values)
        params = {**live.params, "item": item}
        seen = MappingProxyType(LazyFacts(params) if type(item) is Stored else params)
        plant.tasks = [_cast(step, own, plant.scope, seen) for step, own in zip(self._steps, ids, strict=True)]
        plant.names, plant.needs, plant.ranks, plant.rules = self._names, self._needs, self._ranks, self._rules
        plant.pools, plant.wants, plant.terms = self._pools, self._wants, self._terms
        plant.errand_pools = self._errand_pools
        plant.keeps = True
        return plant


def _cast(step: Added, task_id: str, scope: Scope, params: Any) -> Added:
    task = copy.copy(step)
    _set(task, "id", task_id)
    _set(task, "scope", scope)
    _set(task, "own_params", params)
    return task


class Feeder:
    """Feeds one execution (`nerv.triggers.Feed`).

    Args:
        live: the execution; its scheduler is a FedScheduler.
        source: its Source.
        admission: as of `Mold`.
        by_levels: whether tasks are to be scheduled level by level.
        keep: how many lanes that have ended are remembered for certain.

    Raises:
        WorkflowDefinitionError: it can't run.
    """

    def __init__(self, live: Live, source: Source, admission: Admission, *, by_levels: bool, keep: int) -> None:
        _check(live, source, by_levels=by_levels)
        assert isinstance(live.scheduler, FedScheduler)
        self._live = live
        self._trigger = source.trigger
        self._scheduler = live.scheduler
        self._mold = Mold(live, source, admission)
        self._forgetting = Forgetting(live, live.scheduler, keep)
        self._alarm: Alarm | None = None
        self._unopened: deque[tuple[int, Family]] = deque()  # with the number of events that must be written first
        self._marks: list[Any] = []  # of messages that were sent before a restart
        self.since: float | None = None
        self._scheduler.lay_out(source.stretches, source.limits)
        self._scheduler.signal = source.trigger.signal
        self._scheduler.hear = self._hear
        self._scheduler.on_start = self._begin
        self._scheduler.feeder = self
        live.on_end.append(self._disarm)

    # ---- what users ask ---------------------------------------------------------------------------------------------

    def send(self, message: Any, mark: Any = None, *, is_awaited: bool = False) -> str:
        """One more message; returns the id of its lane. Its trigger will know by the `mark` that it was sent. If it
        `is_awaited`, the caller goes on with `Recorder.wait`.

        Raises:
            NervError: there are to be no more.
            SerializationError: it can't be kept.
        """
        live, packed = self._live, self.packed(message)
        with live.engine.effects:
            if not self._is_open:
                raise NervError(self._refusal())
            lane_id = Somewhere(live, self._feed(packed, mark)).lane_id  # here, as it may be over and folded soon
            live.engine.moved(live)
            if is_awaited and live.engine.recorder is not None:
                live.engine.recorder.leave_to_caller()
        return lane_id

    def close(self) -> bool:
        """No more messages; those that came go on to their end. False: it was closed, or has ended."""
        live = self._live
        with live.engine.effects:
            if not self._is_open:
                return False
            suspensions = live.scheduler.has_suspensions(live.log.epoch)
            suspensions.signalled(CLOSED, self._scheduler.messages, live.engine.now())
            live.engine.moved(live)
        self._disarm()
        return True

    def packed(self, message: Any) -> Message:
        """A message as it is kept.

        Raises:
            SerializationError: it can't be.
        """
        if self._live.kept is None:
            return Message(message)
        try:
            return Message(message, encode(message))
        except SerializationError as error:
            raise SerializationError(
                f"the message {shortened(message)} can't be kept in the journal, so execution {self._live.id!r} isn't "
                f"sent it: {described(error.__cause__ or error)}; send something that pickles"
            ) from error

    @property
    def _is_open(self) -> bool:
        live = self._live
        is_stopping = live.scheduler.stopping or live.scheduler.status.is_final
        return not self._is_closed and not is_stopping and live.id in live.engine.lives

    @property
    def _is_closed(self) -> bool:
        suspensions = self._scheduler.suspensions
        return suspensions is not None and CLOSED in suspensions.signals

    def _refusal(self) -> str:
        live = self._live
        status = live.scheduler.status
        if status is WorkflowStatus.INTERRUPTED:
            return f"execution {live.id!r} is INTERRUPTED, so it takes messages when it goes on: manager.recover()"
        now = "stopping" if live.scheduler.stopping and not status.is_final else status.name
        what = "is closed" if self._is_closed else f"is {now}"
        return f"execution {live.id!r} {what}, so it takes no more messages; start another one"

    def _feed(self, message: Message, mark: Any = None) -> int:
        """Add the tasks of a message; returns the number of the first (lock held)."""
        live, scheduler = self._live, self._scheduler
        family = self._plant(message.value)
        data: dict[str, Any] = {
            "ids": list(family.seed.ids),
            "parent": live.log.ids[scheduler.source],
        }
        if message.kept is not UNSET:
            data = LazyFacts({**data, "message": message.kept, **({} if mark is None else {"mark": mark})})
        scheduler.enter(family, live.engine.now(), data)
        recorder = live.engine.recorder
        if live.kept is None or recorder is None or recorder.strict or recorder.broken is not None:
            scheduler.open(family)
        else:
            self._unopened.append((len(live.log), family))
        return family.first

    def _plant(self, item: Any) -> Family:
        scheduler = self._scheduler
        plant = self._mold.plant(scheduler.messages, item)
        return self._live.engine.steering.replant(self._live, scheduler.source, plant)

    def _written(self, events: float) -> None:
        """So many events are in the journal (lock held)."""
        live, unopened = self._live, self._unopened
        self._forgetting.written(events)
        if live.id not in live.engine.lives or not unopened or unopened[0][0] > events:
            return
        while unopened and unopened[0][0] <= events:
            self._scheduler.open(unopened.popleft()[1])
        live.engine.moved(live)

    def regrow(self, data: LazyFacts) -> Family:
        """One more message that a record tells of."""
        if "mark" in data:
            self._marks.append(data["mark"])
        family = self._plant(data.raw("message"))
        self._scheduler.take_up(family)
        return family

    def begin_behind(self, lanes: Collection[Bygone], counts: list[int], ids: Sequence[str]) -> None:
        """After a restart: these lanes ended long ago; see `Forgetting`."""
        self._forgetting.begin_behind(lanes, counts, ids)

    def pass_over(self, lane: Bygone) -> None:
        """One more that records told of, and that is forgotten already."""
        if lane.mark is not None:
            self._marks.append(lane.mark)
        lists: Any = self._live  # they are used like lists
        for held in (lists.tasks, lists.wants_context):
            held.pass_over(len(lane.numbers))
        self._scheduler.pass_over(len(lane.numbers))

    # ---- what triggers ask ------------------------------------------------------------------------------------------

    def time(self) -> float:
        """Epoch seconds."""
        return self._live.engine.now() + self._live.log.epoch

    def at(self, moment: float, act: Callable[[], object]) -> None:
        """Call `act` at that moment, in epoch seconds, unless the flow is closed by then."""
        self._alarm = self._live.engine.timer.at(moment - self._live.log.epoch, lambda: self._ring(act))

    def _ring(self, act: Callable[[], object]) -> None:
        engine = self._live.engine
        try:
            with engine.lock:
                is_open = self._is_open
            if is_open:
                act()
        except Exception as error:  # noqa: BLE001  whatever it is ends the execution, and not the timer
            with engine.effects:
                if self._is_open:  # else it was closed meanwhile, and that is why
                    engine.fault(self._live, error)

    def marks(self) -> Sequence[Any]:
        """What was said of the messages that were sent before a restart, in their order."""
        return self._marks

    def _begin(self) -> None:
        """The execution has begun, or goes on (lock held)."""
        live = self._live
        if live.kept is not None:
            live.kept.on_written = self._written
        if self.since is None:
            self.since = self.time()
            if live.engine.recorder is not None:
                live.engine.recorder.note(live, SINCE, self.since)
        if self._is_open:
            self._trigger.arm(self)
        self._marks = []
        self._forgetting.ask()

    def _hear(self, message: Message) -> bool:
        """A signal that is a message (lock held)."""
        if self._is_open:
            self._feed(message)
            return True
        return False

    def _disarm(self) -> None:
        alarm, self._alarm = self._alarm, None
        if alarm is not None:
            alarm.cancel()


def _check(live: Live, source: Source, *, by_levels: bool) -> None:
    problems = []
    if by_levels:
        problems.append('messages have no levels; start it without scheduling="levels"')
    if [task.id for task in live.tasks[1:]] != list(source.lane.tasks):
        problems.append(
            "a fed flow runs whole, start it without targets=, and goes on with the steps that it began with"
        )
    if (objection := source.trigger.objection()) is not None:
        problems.append(objection)
    if problems:
        name = live.workflow.name
        listed = [Problem(source.id, "feed", f"flow {name!r}: {problem}") for problem in problems]
        raise WorkflowDefinitionError(listed, f"workflow {name!r} can't start")
