"""`Live`: one execution while the engine works on it: its scheduler, its results, and who is running what."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextvars import Context
from math import inf
from typing import TYPE_CHECKING, Any, cast

from nerv.calls import Call
from nerv.clock import Alarm
from nerv.context import LogEntry
from nerv.eventlog import EventLog
from nerv.far import FarValues
from nerv.feeding import FedScheduler
from nerv.names import split
from nerv.outcomes import Gather, Wait
from nerv.pools.base import Pool
from nerv.scheduler import Scheduler
from nerv.sparse import Sparse
from nerv.tasks import TaskDef
from nerv.turns import Lane
from nerv.workflows import Workflow

if TYPE_CHECKING:
    from nerv.admission import Admission
    from nerv.engine import Engine
    from nerv.errands import Question
    from nerv.kept import Kept
    from nerv.placement import Placement
    from nerv.wires import Wires

LOG_LIMIT = 10_000
"""Lines of `ctx.logger` kept for an execution; older ones are dropped."""


class Live:
    """Everything the engine holds for one execution. Guarded by the engine's lock, unless said otherwise.

    Attributes:
        values: task id -> result, of completed tasks.
        errors: task id -> exception, of failed tasks, in time order.
        active: task number -> the call that is running.
        lanes: for each pool that it uses, its ready tasks there.
        lane: the only one of them, while there is one.
        ended: set when the last event has been recorded (without the lock: only ever waited for).
        on_end: called once it has ended, without the lock.
        on_change: called after new events, without the lock; only while somebody follows.
        wants_context: for each task whether its function wants the context.
        setbacks: task number -> the error of its last attempt, while its fallback is on the way.
        taken_on: task id -> exception, of failed tasks whose failure is a node's business.
        admission: settles pools and policies, of tasks that are added too.
        secret: what lane ids are made of.
        held: task number -> what it waits for, and the pool in which its `then` is called.
        questions: task number -> what is to be called for it.
        sources: task number -> the task whose additions it waits for.
        late: tasks whose time is over, and that still have to wait for others.
        undo_errors: task id -> exception, of compensations that failed.
        fallback_queues: by task number, of tasks whose fallbacks don't run in their own pool.
        placement: which of its tasks are placed by measurement (`pool="auto"`); None: none are.
        attentive: whether results are to be kept somewhere, in the journal or a cache.
        kept: what the recorder holds for it; None: it isn't journaled.
        wires: tells hooks what goes from task to task; None: nobody wants to know.
        farewell: what is done when its last event is in the journal.
        deadline: when the whole has run for too long, on the engine's clock.
        alarm, alarm_at: what rings the engine for this execution, and when.
        inline: the pool of its inline tasks, if it has any.
        used: by their `id`, iterators that tasks have used up; the number and the id of the task that did.
    """

    __slots__ = (
        "__weakref__", "active", "admission", "alarm", "alarm_at", "attentive", "contextvars", "deadline", "ended",
        "engine", "errors", "fallback_queues", "farewell", "held", "id", "inline", "kept", "lane", "lanes", "late",
        "log", "logs", "on_change", "on_end", "params", "placement", "pools", "questions", "scheduler", "secret",
        "services", "setbacks", "sources", "taken_on", "tasks", "undo_errors", "used", "values", "wants_context",
        "wires", "workflow", "workflow_id",
    )  # fmt: skip
    admission: Admission
    alarm: Alarm | None
    scheduler: Scheduler

    def __init__(
        self,
        *,
        engine: Engine,
        execution_id: str,
        workflow: Workflow,
        workflow_id: str,
        params: Mapping[str, Any],
        services: Any,
        contextvars: Context,
        epoch: float,
    ) -> None:
        self.engine = engine
        self.id = execution_id
        self.workflow = workflow
        self.workflow_id = workflow_id
        self.tasks: list[TaskDef] = list(workflow.definitions)
        self.params = params
        self.services = services
        self.contextvars = contextvars
        self.values: dict[str, Any] = {}
        self.errors: dict[str, BaseException] = {}
        self.logs: deque[LogEntry] = deque(maxlen=LOG_LIMIT)
        self.active: dict[int, Call] = {}
        self.ended = threading.Event()
        self.on_end: list[Callable[[], object]] = []
        self.on_change: list[Callable[[], object]] = []
        self.log = EventLog(execution_id, workflow.name, workflow.ids, self.values, epoch)
        self.wants_context: list[bool] = []
        self.pools: list[Pool] = []
        self.lanes: list[Lane] = []
        self.lane: Lane | None = None
        self.inline: Any = None
        self.setbacks: dict[int, BaseException] = {}
        self.taken_on: dict[str, BaseException] = {}
        self.secret = os.urandom(16)
        self.held: dict[int, tuple[Wait | Gather, Pool | None]] = {}
        self.questions: dict[int, Question] = {}
        self.sources: dict[int, int] = {}
        self.late: set[int] = set()
        self.undo_errors: dict[str, BaseException] = {}
        self.used: dict[int, tuple[Iterator[Any], int, str]] = {}
        self.fallback_queues: dict[int, int] = {}
        self.deadline = inf
        self.kept: Kept | None = None
        self.attentive = False
        self.placement: Placement | None = None
        self.wires: Wires | None = None
        self.farewell: list[Callable[[], Any]] = []
        self.alarm, self.alarm_at = None, inf

    def release(self) -> list[Callable[[], object]]:
        """What is done when it has ended for all: hooks hear the rest, who waits is let go, who serves it looks."""
        hooks = [] if self.wires is None else [self.wires.finish]
        served = [] if self.inline is None else [self.inline.wake]
        return [*hooks, self.ended.set, *served, *self.on_end]

    def disarm(self) -> None:
        """Nothing rings for it any more."""
        if self.alarm is not None:
            self.alarm.cancel()
        self.alarm, self.alarm_at = None, inf

    def pool_of(self, call: Call) -> Pool:
        """The pool that a call was taken for."""
        return self.pools[self.scheduler.queue_of[call.number] if call.queue < 0 else call.queue]

    def number_of(self, task_id: str) -> int | None:
        """A task's number, also of one that was added; None: there is no such task."""
        number = self.workflow.number_of(task_id)
        families = self.scheduler.families
        if number is not None or families is None:
            return number
        parts = split(task_id)
        number = None if parts is None else self.workflow.number_of(parts[0])
        for tail in parts[1] if parts is not None else ():
            brood = None if number is None else families.broods.get(number)
            number = None if brood is None else brood.find(tail)
        return number

    def is_folded(self, task_id: str) -> bool:
        """Whether there was such a task, whose lane has ended and was folded into the counts."""
        families, parts = self.scheduler.families, split(task_id)
        if families is None or parts is None or not parts[1]:
            return False
        number = self.workflow.number_of(parts[0])
        brood = None if number is None else families.broods.get(number)
        return brood is not None and brood.knew(parts[1][0])

    def folded(self, what: str) -> str:
        """What is said of something that isn't known any more."""
        kept = "" if self.kept is None else "; the journal has its events"
        keep = self.scheduler.lanes.keep if isinstance(self.scheduler, FedScheduler) else 0
        return (
            f"{what} of execution {self.id!r} ended, and its lane was folded into the counts: the latest {keep:,} that "
            f"ended are remembered for certain (setting `keep`){kept}"
        )

    def forget(self, numbers: Collection[int]) -> list[Any]:
        """Nothing is known any more of these tasks, which have ended. Gives what was held for them: to let go of it may
        call the user's own code.
        """
        gone: list[Any] = []
        for number in numbers:
            task = self.tasks[number]
            gone += [task, *(dict.pop(held, task.id, None) for held in (self.values, self.errors, self.taken_on))]
            self.fallback_queues.pop(number, None)
        gone += [self.used.pop(key) for key, (_, user, _) in list(self.used.items()) if user in numbers]
        for held in (self.tasks, self.wants_context):
            cast("Sparse[Any]", held).remove(numbers)
        self.admission.policing.forget(numbers)
        if self.placement is not None:
            self.placement.forget(numbers)
        return gone

    def error_of(self, number: int) -> BaseException:
        """The error that a failed task ended with."""
        key = self.tasks[number].id
        return self.errors[key] if key in self.errors else self.taken_on[key]

    def dependents_of(self, number: int) -> dict[str, int]:
        """The tasks that need a task, by the names that they and it have for each other."""
        scheduler = self.scheduler
        family = None if scheduler.families is None else scheduler.families.of(number)
        found = scheduler.own_dependents()[number]
        if family is None:
            return {str(self.log.ids[one]): one for one in found}
        found = [one for one in found if family.first <= one < family.first + family.count]
        names = family.seed.names
        return {f"[{one - family.first}]" if names is None else names[one - family.first]: one for one in found}

    def fallback_queue(self, number: int) -> int:
        """The queue from which a task's fallback is taken: a worker process may not know the function."""
        return self.fallback_queues.get(number, self.scheduler.queue_of[number])

    def watch_wires(self) -> None:
        """From now on hooks are told what goes from task to task."""
        if self.wires is not None:
            return
        from nerv.wires import Wires

        self.wires = Wires(self)
        self.on_change.append(self.wires.look)

    def keep_far(self) -> None:
        """From now on results may be elsewhere: some pool of it leaves them where they are made."""
        if not isinstance(self.values, FarValues):
            values = FarValues()
            values.update(self.values)
            self.values = self.log.values = values

    def report(self, call: Call, done: float, total: float | None, message: str) -> None:
        """A running call tells how far it is."""
        self.engine.report(call, {"done": done, "total": total, "message": message})
