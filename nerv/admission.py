"""Admission: everything that is checked when an execution is started, before anything of it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import compress, count, pairwise
from operator import attrgetter, is_not, or_
from typing import Any, Final

import msgspec

from nerv.errors import Problem, WorkflowDefinitionError, near
from nerv.feeder import Feeder
from nerv.feeding import FedScheduler
from nerv.functions import innermost, is_coroutine_function, wants_context
from nerv.levels import LevelScheduler
from nerv.lines import Lines
from nerv.live import Live
from nerv.lookups import Lookups
from nerv.placement import Placement
from nerv.pools.base import Pool
from nerv.pools.inline import InlinePool
from nerv.pools.script import is_being_loaded, is_guarded
from nerv.scheduler import Scheduler
from nerv.settings import Settings
from nerv.stations import Source
from nerv.tasks import TaskDef
from nerv.terms import Policing
from nerv.verdicts import Case, Place, Verdicts
from nerv.workflows import Workflow

BUILT_IN: Final = ("thread", "process", "async", "inline")
_fn, _pool = attrgetter("fn"), attrgetter("pool")
_RESERVED: Final = ("workflow_id", "execution_id")


class Admission:
    """A workflow that may run: which pool each task goes to is settled.

    Attributes:
        workflow: what runs (of a selection, the part).
        pools: the pools it uses.
        queue_of: for each task number the index of its pool in `pools`.
        wants_context: for each task number whether its function wants the context.
        inline: its own inline pool, if it needs one.
        delivers: whether some task's wires have hooks of their own.
        policing: what its tasks' policies come to.
        fallback_queues: by task number, where its fallback runs, if that isn't its own pool.
        measured: by number of the tasks whose pool is decided by measurement: what is known of their functions.
        lookup_queues: by number of the tasks that have a `Cache`: where they look into it.
    """

    def __init__(
        self, workflow: Workflow, settings: Settings, pool: Callable[[str], Pool], lines: Lines, verdicts: Verdicts
    ) -> None:
        self.workflow = workflow
        self.measured: dict[int, Case] = {}
        self.policing = Policing(workflow, lines)
        self.fallback_queues: dict[int, int] = {}
        self.lookup_queues: dict[int, int] = {}
        self.pools: list[Pool] = []
        self.queue_of: list[int] = []
        self.wants_context: list[bool] = []
        self.inline: InlinePool | None = None
        self.delivers = False
        self._settings = settings
        self._pool = pool
        self._verdicts = verdicts
        self._queues: dict[str, int] = {}
        self._case: Case | None = None  # of the function at hand, if measurement decides

    def assign(self) -> list[Problem]:
        """Settle every task's pool; returns what can't be. Neighbours with the same function and pool go together."""
        problems: list[Problem] = []
        definitions = self.workflow.definitions
        for start, end in pairwise(_starts(definitions)):
            task = definitions[start]
            queue = self._queue(task, problems)
            self.queue_of += [queue] * (end - start)
            self.wants_context += [task.fn is not None and wants_context(task.fn)] * (end - start)
            self.delivers |= getattr(task.fn, "delivers", False) is True
            if task.inside:
                self._look_inside(task.inside, problems)
            if self._case is not None:
                self._follow(self._case, start, task)
            if queue < 0 or self._case is not None or self.pools[queue].kind == "process":
                for number in range(start + 1, end):
                    self._look_at(number, definitions[number], queue, problems)
        problems += self.policing.problems
        if not problems:
            for number in self.policing.terms:
                self._assign_errands(number, definitions[number], problems)
        return problems

    def _look_at(self, number: int, task: TaskDef, queue: int, problems: list[Problem]) -> None:
        """One more task of a function: whether its arguments can be sent."""
        if queue < 0:
            self._queue(task, problems)
        elif self.pools[queue].kind == "process":
            self._object(task, queue, problems)
        if self._case is not None:
            self._follow(self._case, number, task)

    def _look_inside(self, inside: Sequence[TaskDef], problems: list[Problem]) -> None:
        """Check what nodes will add: the pools, and what can be sent there."""
        case = self._case  # of the node's own function
        for task in inside:
            self._queue(task, problems)
            if task.has_policies:
                self.policing.terms_of(task, problems)
            self._look_inside(task.inside, problems)
        self._case = case

    def _assign_errands(self, number: int, task: TaskDef, problems: list[Problem]) -> None:
        """Where a task's fallback and its compensation run, and where it looks into the cache."""
        queue = self.queue_of[number]
        if task.cache is not None:
            has_threads = self.pools[queue].kind in ("thread", "inline")
            self.lookup_queues[number] = queue if has_threads else self._queue_named("thread")
        if task.compensate is not None:
            objection = self.pools[queue].objection(
                msgspec.structs.replace(task, fn=task.compensate, args=(), kwargs={})
            )
            if objection is not None:
                problems.append(Problem(task.id, "pool", f"the compensation of task {task.id!r} {objection}"))
            elif number in self.measured and self._refuses(task, task.compensate):
                del self.measured[number]
        if callable(task.fallback):
            kind = "async" if is_coroutine_function(task.fallback) else "thread"
            fits = self.pools[queue].kind in (kind, "inline" if kind == "thread" else kind)
            if not fits or number in self.measured:
                self.fallback_queues[number] = self._queue_named(kind)

    def _queue(self, task: TaskDef, problems: list[Problem]) -> int:
        name = task.pool or self._default(task)
        self._case = None
        if name == "auto":
            name, self._case = self._measured(task)
        if not self._is_known(name, task, problems):
            return -1
        queue = self._queue_named(name)
        self._object(task, queue, problems)
        return queue

    def _is_known(self, name: str, task: TaskDef, problems: list[Problem]) -> bool:
        if name in BUILT_IN or name in self._settings.pools:
            return True
        known = (*BUILT_IN, "auto", *self._settings.pools)
        hint = f"{near(name, known)}; known: {', '.join(known)}"
        message = f"task {task.id!r} names the pool {name!r}, which isn't there{hint}"
        problems.append(Problem(task.id, "unknown pool", message))
        return False

    # ---- pool="auto" (nerv/placement.py) ----------------------------------------------------------------------------

    def _measured(self, task: TaskDef) -> tuple[str, Case | None]:
        """The pool of a task with pool="auto"; if measurement decides, what is known, and where it goes until then."""
        if task.fn is None:
            return "thread", None
        if is_coroutine_function(task.fn):
            return "async", None
        if is_being_loaded():
            return "process", None  # which says what is wrong
        needs_script = getattr(innermost(task.fn), "__module__", None) == "__main__"
        if (needs_script and not is_guarded()) or self._refuses(task, task.fn):
            return "thread", None
        return "thread", self._verdicts.of(task.fn)

    def _refuses(self, task: TaskDef, fn: Callable[..., Any]) -> bool:
        """Whether a function can't go to worker processes, whatever it is given."""
        alone = msgspec.structs.replace(task, fn=fn, args=(), kwargs={})
        return self._pool("process").objection(alone) is not None

    def _follow(self, case: Case, number: int, task: TaskDef) -> None:
        """Have a task go where its function goes, if it can."""
        if case.place is not Place.PROCESS or self._pool("process").objection(task) is None:
            self.measured[number] = case

    def _placement(self, live: Live) -> Placement:
        """What places the tasks that measurement decides about. Services don't go to processes."""
        places = {
            Place.TRIAL: self._queue_named("auto"),
            Place.THREAD: self._queue_named("thread"),
            Place.PROCESS: self._queue_named("process"),
        }
        wants = self.wants_context if live.services is not None else ()
        measured = {number: case for number, case in self.measured.items() if not (wants and wants[number])}
        return Placement(live, {**places, Place.HELD: len(self.pools)}, measured)

    def _queue_named(self, name: str) -> int:
        if name not in self._queues:
            self._queues[name] = len(self.pools)
            self.pools.append(self._made(name))
        return self._queues[name]

    def _made(self, name: str) -> Pool:
        if name == "inline":
            self.inline = InlinePool()
            return self.inline
        return self._pool(name)

    def _object(self, task: TaskDef, queue: int, problems: list[Problem]) -> None:
        objection = self.pools[queue].objection(task)
        if objection is not None:
            problems.append(Problem(task.id, "pool", f"task {task.id!r} {objection}"))

    def _default(self, task: TaskDef) -> str:
        chosen = self._settings.default_pool
        suits_coroutines = chosen is not None and self._kind(chosen) == "async"
        if task.fn is not None and is_coroutine_function(task.fn):
            return chosen if suits_coroutines and chosen else "async"
        if (
            chosen is not None
            and self._kind(chosen) not in ("thread", "inline")
            and getattr(task.fn, "stays_here", False) is True
        ):
            return "thread"
        return "thread" if chosen is None or suits_coroutines else chosen

    def _kind(self, name: str) -> str:
        return self._settings.pools[name].kind if name in self._settings.pools else name

    # ---- tasks that are added while it runs (nerv/planting.py), without the engine's lock ---------------------------

    def place(self, task: TaskDef, problems: list[Problem]) -> Pool | None:
        """The pool of a task; None: it can't have the one that it wants. What can't be goes into `problems`."""
        name = task.pool or self._default(task)
        if name == "auto":
            name, _ = self._measured(task)
        if not self._is_known(name, task, problems):
            return None
        if name == "inline" and self.inline is None:
            message = f"task {task.id!r} names the pool 'inline', but nothing was inline when the execution was started"
            problems.append(Problem(task.id, "pool", message))
            return None
        pool = self._built(name)
        objection = pool.objection(task)
        if objection is not None:
            problems.append(Problem(task.id, "pool", f"task {task.id!r} {objection}"))
        return pool

    def case_of(self, task: TaskDef, live: Live) -> Case | None:
        """What decides where a task runs, if measurement does."""
        if (task.pool or self._default(task)) != "auto":
            return None
        _, case = self._measured(task)
        if task.fn is None or case is None or (live.services is not None and wants_context(task.fn)):
            return None
        return None if task.compensate is not None and self._refuses(task, task.compensate) else case

    def measured_pools(self) -> dict[Place, Pool]:
        """The pools between which measurement decides."""
        names = {Place.TRIAL: "auto", Place.THREAD: "thread", Place.PROCESS: "process"}
        return {place: self._pool(name) for place, name in names.items()}

    def errand_pool(self, task: TaskDef, pool: Pool, problems: list[Problem]) -> Pool | None:
        """Where a task's fallback runs, if that isn't its own pool; and whether its compensation can run there."""
        if task.compensate is not None:
            objection = pool.objection(msgspec.structs.replace(task, fn=task.compensate, args=(), kwargs={}))
            if objection is not None:
                problems.append(Problem(task.id, "pool", f"the compensation of task {task.id!r} {objection}"))
        other = self.pool_of(task.fallback, pool) if callable(task.fallback) else pool
        return None if other is pool else other

    def pool_of(self, fn: Callable[..., Any], own: Pool) -> Pool:
        """Where a function is called that a task leaves behind: in its own pool, if that runs such functions here."""
        kind = "async" if is_coroutine_function(fn) else "thread"
        return own if own.kind in (kind, "inline" if kind == "thread" else kind) else self._built(kind)

    def threads(self) -> Pool:
        """Where nerv's own functions are called."""
        return self._built("thread")

    def _built(self, name: str) -> Pool:
        return self.inline if name == "inline" and self.inline is not None else self._pool(name)

    def equip(self, live: Live) -> None:
        """Give the live execution its pools and its scheduler."""
        live.admission = self
        source = next((task for task in live.tasks[:1] if isinstance(task, Source)), None)
        by_levels = self._settings.scheduling == "levels"
        kind = LevelScheduler if by_levels else Scheduler
        if source is not None:
            kind = FedScheduler
        if self.measured:
            live.placement = self._placement(live)
        live.pools = self.pools
        if any(pool.kind == "dask" for pool in self.pools):
            live.keep_far()
        live.inline = self.inline
        live.wants_context = self.wants_context
        live.fallback_queues = self.fallback_queues
        live.attentive = bool(self.lookup_queues)
        lookups = Lookups(self.lookup_queues, self.queue_of) if self.lookup_queues else None
        live.scheduler = kind(
            self.workflow.numbers,
            live.log.ids,
            self.workflow.rules,
            self.queue_of,
            len(self.pools) + (live.placement is not None),
            live.log.records,
            fail_fast=self._settings.failure_policy == "fail_fast",
            waits=self.policing.waits(live.pools, live.log.epoch, live, lookups),
            saga=self.policing.saga(),
        )
        if source is not None:
            Feeder(live, source, self, by_levels=by_levels, keep=self._settings.keep)
        if self.delivers or live.engine.hooks:
            live.watch_wires()


def _starts(definitions: Sequence[TaskDef]) -> list[int]:
    """Where another function or pool begins than the task before has, and the end."""
    fns, pools = list(map(_fn, definitions)), list(map(_pool, definitions))
    differs = map(or_, map(is_not, fns, fns[1:]), map(is_not, pools, pools[1:]))
    return [0, *compress(count(1), differs), len(fns)] if fns else []


def admitted(  # noqa: PLR0917  one call, in the manager
    workflow: Workflow,
    params: Mapping[str, Any],
    targets: Sequence[str] | None,
    settings: Settings,
    pool: Callable[[str], Pool],
    lines: Lines,
    verdicts: Verdicts,
) -> Admission:
    """Check all that can be checked before anything runs.

    Raises:
        TypeError: not a Workflow.
        WorkflowDefinitionError: missing or reserved params, unknown pools, functions or arguments a pool can't run,
            resources that aren't there, a limit's name that stands for two settings.
        UnknownIdError: an unknown target.
    """
    if not isinstance(workflow, Workflow):
        hint = (
            "call it to get one"
            if getattr(type(workflow), "is_nerv_workflow", False)
            else 'write Workflow("name", tasks)'
        )
        raise TypeError(f"{workflow!r} is no Workflow; {hint}")
    if targets is not None:
        workflow = workflow.select(targets)
    problems = _param_problems(workflow, params)
    admission = Admission(workflow, settings, pool, lines, verdicts)
    problems += admission.assign()
    if problems:
        raise WorkflowDefinitionError(problems, f"workflow {workflow.name!r} can't start")
    return admission


def _param_problems(workflow: Workflow, params: Mapping[str, Any]) -> list[Problem]:
    problems = [
        Problem(None, "param", f"the param name {name!r} is reserved; the context has it already; choose another")
        for name in params
        if name in _RESERVED
    ]
    problems += [
        Problem(None, "param", f"a param's name is a str, not {name!r}") for name in params if not isinstance(name, str)
    ]
    missing = [name for name, required in workflow.params.items() if required and name not in params]
    if missing:
        listed = ", ".join(f"{name!r}{_given_instead(name, params)}" for name in missing)
        noun = "param" if len(missing) == 1 else "params"
        message = f"workflow {workflow.name!r} needs the {noun} {listed}; give it when it is started"
        problems.append(Problem(None, "param", message))
    return problems


def _given_instead(name: str, params: Mapping[str, Any]) -> str:
    close = near(name, params)
    return close.replace("did you mean", "you gave").replace("?", "") if close else ""
