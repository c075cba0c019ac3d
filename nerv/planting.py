"""`Planter`: makes of what a task wants to add what the engine and the scheduler can take over at once.

Everything here happens without the engine's lock, in the thread that ran the task, so that 100,000 new tasks hold
nobody up. What is wrong is found here too: the task fails with one error that lists it all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from msgspec import UNSET

from nerv.added import added, with_item
from nerv.calls import Call
from nerv.errors import Problem, WorkflowDefinitionError, near
from nerv.families import Seed
from nerv.fields import RUN_WHEN
from nerv.functions import wants_context
from nerv.graph import HEIGHT_BITS, NUMBER_BITS, Graph, rank
from nerv.lines import Terms
from nerv.names import Scope, joined
from nerv.outcomes import Grow, Items
from nerv.pools.base import Pool
from nerv.references import Names, Node, scan
from nerv.tasks import TaskDef
from nerv.verdicts import Case, Place

if TYPE_CHECKING:
    from nerv.admission import Admission
    from nerv.live import Live

_RULE_OF: Final = {rule: number for number, rule in enumerate(RUN_WHEN)}
_TALLEST: Final = (1 << HEIGHT_BITS) - 1


class Plant(Seed):
    """A `Seed`, with what the engine needs of it.

    Attributes:
        grow: what was asked for.
        tasks: the tasks, under their full ids.
        pools: for each its pool; one pool: that of all.
        wants: for each whether its function wants the context.
        terms: place -> what its policies come to; UNIFORM: those of all.
        errand_pools: place -> where its fallback runs, if that isn't its own pool; UNIFORM: that of all.
        result: what `grow.result` is made of, in `scope`.
        scope: what the tasks see.
        then_pool: where `grow.then` is called.
        cases: place -> what decides where it runs, of those whose pool is measured; UNIFORM: of all.
        places: the pools between which that decides.
    """

    def __init__(self, grow: Grow) -> None:
        self.grow = grow
        self.tasks: list[TaskDef] = []
        self.pools: Sequence[Pool] | Pool = ()
        self.wants: list[bool] = []
        self.terms: dict[int, Terms] = {}
        self.errand_pools: dict[int, Pool] = {}
        self.result: Node = grow.result
        self.scope = Scope({}, {})
        self.then_pool: Pool | None = None
        self.cases: dict[int, Case] = {}
        self.places: dict[Place, Pool] = {}
        self.limit = grow.limit
        self.lanes = grow.lanes
        self.stops = grow.failing == "stop"
        self.fails = grow.failing != "keep"
        self.counts = grow.at_once is not UNSET
        self.plan = self

    def measured(self) -> Iterable[tuple[int, Case]]:
        """The places of the tasks whose pool is measured, and what decides."""
        uniform = self.cases.get(UNIFORM)
        return self.cases.items() if uniform is None else ((place, uniform) for place in range(len(self.tasks)))


UNIFORM: Final = -1


class Planter:
    """Plants for one task that wants to add others.

    Args:
        call: the call that returned it.
        grow: what it wants to add.
        admission: settles pools and policies, as for the workflow's own tasks.
    """

    def __init__(self, call: Call, grow: Grow, admission: Admission) -> None:
        self._live: Live = call.live
        self._number = call.number
        self._parent = call.task
        self._grow = grow
        self._admission = admission
        self._problems: list[Problem] = []

    def planted(self) -> Plant:
        """The plant.

        Raises:
            WorkflowDefinitionError: lists everything that is wrong.
        """
        grow, plant = self._grow, Plant(self._grow)
        plant.keeps = grow.failing == "keep" or self._parent.fallback is not UNSET
        outer = self._outer() if grow.sees else {}
        if isinstance(grow.tasks, Items):
            self._alike(plant, grow.tasks, outer)
        else:
            self._different(plant, grow.tasks, outer)
        names = Names()
        plant.result = scan(grow.result, names)
        self._note([f"its result: {problem}" for problem in names.problems])
        self._note(
            [
                f"its result needs {name!r}, which it doesn't add"
                for name in names.outputs
                if name not in plant.scope.keys_of
            ]
        )
        if self._problems:
            raise WorkflowDefinitionError(self._problems, f"task {self._parent.id!r} can't add its tasks")
        return plant

    def _note(self, texts: Sequence[str]) -> None:
        if not texts:  # the id's text may be long in the making
            return
        whose = str(self._parent.id)
        self._problems += [Problem(whose, "expand", f"task {whose!r}: {text}") for text in texts]

    def _outer(self) -> dict[str, int]:
        """What the parent depends on: the name that it uses, and the number."""
        numbers = self._live.scheduler.needs_of(self._number)
        return dict(zip(self._parent.needs, numbers, strict=False))  # those that are all alike may share some

    def _params(self) -> Mapping[str, Any]:
        if self._grow.params is not None:
            return self._grow.params
        return self._parent.seen({}, self._live.params)[1]

    def _ids(self, count: int) -> list[str]:
        """The ids of so many tasks that go by index, behind those that the parent has added before."""
        families = self._live.scheduler.families
        brood = None if families is None else families.broods.get(self._number)
        before = 0 if brood is None else len(brood.indexed)
        parent = self._parent.id
        return [joined(parent, f"[{index}]") for index in range(before, before + count)]

    def _base(self, priority: int) -> int:
        """The rank of a task with nothing behind it but what is behind its parent."""
        height = _TALLEST - ((self._live.scheduler.ranks[self._number] >> NUMBER_BITS) & _TALLEST)
        return rank(priority, height, 0)

    # ---- tasks that are all alike -----------------------------------------------------------------------------------

    def _alike(self, plant: Plant, items: Items, outer: Mapping[str, int]) -> None:
        count, task = len(items.values), items.task
        ids = self._live.log.ids
        plant.ids = self._ids(count)
        plant.scope = Scope({name: ids[number] for name, number in outer.items()}, self._live.values)
        unknown = [name for name in task.needs if name not in outer]
        self._note([f"{task.id!r} needs {name!r}, which {self._parent.id!r} doesn't depend on" for name in unknown])
        plant.shared = [outer[name] for name in task.needs if name in outer]
        params = self._params()
        self._without(params, [task.id], [task])
        template = added(task, task.id, plant.scope, params)
        plant.tasks = list(map(with_item, [template] * count, plant.ids, items.values))
        base = self._base(task.priority)
        plant.ranks = range(base, base + count)
        plant.rules = bytes([_RULE_OF[task.run_when]]) * count
        if count:
            self._admit(plant, UNIFORM, plant.tasks[0])
            plant.wants *= count

    # ---- tasks that differ ------------------------------------------------------------------------------------------

    def _different(self, plant: Plant, tasks: Sequence[TaskDef], outer: Mapping[str, int]) -> None:
        names = [f"[{index}]" for index in range(len(tasks))] if self._grow.indexed else [task.id for task in tasks]
        places = {name: place for place, name in enumerate(names)}
        if len(places) < len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            self._note([f"it adds two tasks with the id {name!r}; ids are unique" for name in twice])
        parent = self._parent.id
        plant.ids = self._ids(len(tasks)) if self._grow.indexed else [joined(parent, f"/{name}") for name in names]
        if not self._grow.indexed:
            plant.names = names
            self._new(names)
        ids = self._live.log.ids
        keys = {name: ids[number] for name, number in outer.items()}
        keys.update(zip(names, plant.ids, strict=True))
        plant.scope = Scope(keys, self._live.values)
        params = self._params()
        self._without(params, names, tasks)
        plant.tasks = [added(task, own, plant.scope, params) for task, own in zip(tasks, plant.ids, strict=True)]
        plant.rules = bytes([_RULE_OF[task.run_when] for task in tasks])
        self._wire(plant, tasks, names, places, outer)
        pools: list[Pool] = []
        last: TaskDef | None = None
        for place, task in enumerate(plant.tasks):
            if last is not None and task.fn is last.fn and task.pool is last.pool and not task.has_policies:
                pools.append(pools[-1])
                plant.wants.append(plant.wants[-1])
                if place - 1 in plant.cases:
                    plant.cases[place] = plant.cases[place - 1]
                continue
            pool = self._admit(plant, place, task)
            if pool is not None:
                pools.append(pool)
                last = task
        plant.pools = pools

    def _new(self, names: Sequence[str]) -> None:
        families = self._live.scheduler.families
        brood = None if families is None else families.broods.get(self._number)
        if brood is not None:
            self._note([f"it has added {name!r} before; ids are unique" for name in names if name in brood.named])

    def _wire(
        self, plant: Plant, tasks: Sequence[TaskDef], names: Sequence[str], places: Mapping[str, int],
        outer: Mapping[str, int],
    ) -> None:  # fmt: skip
        needs: list[list[int]] = []
        inner: list[list[int]] = []
        for name, task in zip(names, tasks, strict=True):
            found = [
                ~places[need] if need in places else outer[need]
                for need in task.needs
                if need in places or need in outer
            ]
            self._note(
                [
                    self._unknown(name, need, [*places, *outer])
                    for need in task.needs
                    if need not in places and need not in outer
                ]
            )
            if ~places[name] in found:
                self._note([f"the added task {name!r} depends on itself; remove that dependency"])
            needs.append(found)
            inner.append([~need for need in found if need < 0 and ~need != places[name]])
        graph = Graph(inner, [task.priority for task in tasks])
        cycle = graph.cycle()
        if cycle:
            ring = " -> ".join(repr(names[place]) for place in [*cycle, cycle[0]])
            self._note(
                [f"the tasks that it adds depend on each other in a ring: {ring}; remove one of these dependencies"]
            )
            return
        plant.needs = needs if any(needs) else None
        lift = self._base(0) - rank(0, 0, 0)
        plant.ranks = [one + lift for one in graph.ranks]

    def _without(self, params: Mapping[str, Any], names: Sequence[str], tasks: Sequence[TaskDef]) -> None:
        """Note the params that tasks need, and that the execution wasn't given."""
        for name, task in zip(names, tasks, strict=True):
            for param, is_required in task.asks_for.items():
                if is_required and param not in params:
                    known = near(param, params)
                    text = f"the added task {name!r} needs the param {param!r}, which the execution wasn't given{known}"
                    self._note([text])

    def _unknown(self, name: str, need: str, known: Sequence[str]) -> str:
        """Why a task that is added can't depend on another."""
        live, parent = self._live, str(self._parent.id)
        other = live.number_of(need)
        if need in (parent, self._parent.name) or other == self._number:
            return (
                f"the added task {name!r} depends on {need!r}, which adds it and ends after it; remove that dependency"
            )
        if other is not None and self._follows(other):
            return f"the added task {name!r} depends on {need!r}, which waits for {parent!r}; remove that dependency"
        more = "" if other is None else f"; let {parent!r} depend on it"
        return (
            f"the added task {name!r} depends on {need!r}, which is neither added with it nor among what {parent!r} "
            f"depends on{near(need, known)}{more}"
        )

    def _follows(self, number: int) -> bool:
        """Whether a task needs the parent, in however many steps."""
        needs_of = self._live.scheduler.needs_of
        todo, seen = [number], {number}
        while todo:
            for need in needs_of(todo.pop()):
                if need == self._number:
                    return True
                if need not in seen:
                    seen.add(need)
                    todo.append(need)
        return False

    # ---- pools and policies -----------------------------------------------------------------------------------------

    def _admit(self, plant: Plant, place: int, task: TaskDef) -> Pool | None:
        """Settle a task's pool and policies."""
        pool = self._admission.place(task, self._problems)
        plant.wants.append(task.fn is not None and wants_context(task.fn))
        if task.fn is None:
            self._note([f"the added task {task.id!r} has no function; give it fn=..."])
        if getattr(task.fn, "delivers", False):
            with self._live.engine.lock:
                self._live.watch_wires()
        if pool is None:
            return None
        if place == UNIFORM:
            plant.pools = pool
        case = self._admission.case_of(task, self._live)
        if case is not None:
            plant.cases[place] = case
            plant.places = self._admission.measured_pools()
        if task.has_policies:
            with self._live.engine.lock:  # limits are shared
                plant.terms[place] = self._admission.policing.terms_of(task, self._problems)
            errands = self._admission.errand_pool(task, pool, self._problems)
            if errands is not None:
                plant.errand_pools[place] = errands
        return pool
