"""`Workflow`: an immutable graph of tasks, validated once, when it is made."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import compress
from operator import attrgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn

from nerv import drawing
from nerv.errors import CycleError, Problem, UnknownIdError, WorkflowDefinitionError, near
from nerv.fields import RUN_WHEN
from nerv.functions import name_of
from nerv.graph import Graph, without_garbage_collection
from nerv.likeness import alike
from nerv.numbering import numbered
from nerv.plan import ExecutionPlan
from nerv.policies import finite
from nerv.references import MISSING, Names, Output, scan
from nerv.tasks import TaskDef

if TYPE_CHECKING:
    import networkx

# Of every task at once, without a line of Python for each.
_asks_for: Final = attrgetter("_params")
_has_policies: Final = attrgetter("_has_policies")
_priority: Final = attrgetter("priority")
_run_when: Final = attrgetter("run_when")


class Workflow:
    """An immutable, validated graph of tasks.

    Args:
        name: what executions of it are called.
        tasks: TaskDefs, in the order in which equals are to start.
        description: for people.
        timeout: seconds that a whole execution may take; then it stops, and FAILED with a `TaskTimeoutError`.
        result: what `execution.result` is, with references in it filled in; None: the single sink's result, or a
            mapping of the sinks' results.

    Raises:
        WorkflowDefinitionError: lists every problem: duplicate and unknown ids, self loops, tasks without a function.
        CycleError: the same, when tasks depend on each other in a ring.
    """

    def __init__(
        self,
        name: str,
        tasks: Iterable[TaskDef],
        description: str = "",
        timeout: float | None = None,
        result: Any = None,
    ) -> None:
        if isinstance(tasks, (str, TaskDef)) or not isinstance(tasks, Iterable):
            message = f"a workflow's tasks are a list of TaskDefs, not {tasks!r}; write Workflow({name!r}, [...])"
            raise WorkflowDefinitionError([Problem(None, "not a list", message)])
        result = MISSING if result is None else result
        self.__dict__.update(
            name=name, description=description, timeout=timeout, definitions=tuple(tasks), _result=result
        )
        kinds = set(map(type, self.definitions))
        problems = _names_problems(name, description, timeout) + _kind_problems(self.definitions, kinds)
        if problems:
            raise WorkflowDefinitionError(problems, f"workflow {name!r} can't run")
        with without_garbage_collection():
            index, numbers, order = numbered(self.definitions, problems)
            graph = Graph(numbers, list(map(_priority, self.definitions)), order)
        self.__dict__.update(_index=index, _numbers=numbers, _graph=graph)
        if kinds != {TaskDef}:  # TaskDefs alone are by far the commonest
            problems += _node_problems(self.definitions, index, graph)
        _result_problems(result, index, problems)
        if cycle := graph.cycle():
            ring = [self.definitions[i].id for i in cycle]
            problems += _ring_problems(ring)
            raise CycleError(problems, f"workflow {name!r} can't run", ring)
        if problems:
            raise WorkflowDefinitionError(problems, f"workflow {name!r} can't run")

    is_nerv_graph: ClassVar[bool] = True

    if TYPE_CHECKING:
        name: str
        description: str
        timeout: float | None
        definitions: tuple[TaskDef, ...]  # as they were given: a task's number is its place here
        _result: Any
        _index: dict[str, int]
        _numbers: list[tuple[int, ...]]
        _graph: Graph

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"workflow {self.name!r} can't be changed; make a new one")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"workflow {self.name!r} can't be changed; make a new one")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self.name, self.definitions, self.description, self.timeout, self._result)

    @cached_property
    def tasks(self) -> Mapping[str, TaskDef]:
        """All tasks by id, in definition order."""
        return MappingProxyType(dict(zip(self._index, self.definitions, strict=True)))

    @cached_property
    def graph(self) -> networkx.DiGraph[str]:
        """The graph as a frozen `networkx.DiGraph` of ids, edges from a dependency to its dependent."""
        import networkx

        return networkx.freeze(self.plan().to_networkx())

    def plan(self) -> ExecutionPlan:
        """Levels, critical path and bounds."""
        return ExecutionPlan(self.name, self.definitions, self._graph)

    def select(self, targets: Sequence[str | TaskDef | Output[Any]]) -> Workflow:
        """The part of this workflow that the targets need, as a workflow of the same name.

        Raises:
            UnknownIdError: a target that isn't there, with the nearest ids.
        """
        if isinstance(targets, (str, TaskDef, Output)) or not isinstance(targets, Iterable):
            raise TypeError(f"targets takes a list of ids, not {targets!r}; write targets=[{targets!r}]")
        ids = [_id_of(target) for target in targets]
        unknown = [target for target in ids if target not in self._index]
        if unknown:
            listed = "; ".join(f"{target!r}{near(target, self._index)}" for target in unknown)
            raise UnknownIdError(f"workflow {self.name!r} has no task {listed}")
        wanted = {self._index[target] for target in ids}
        todo = list(wanted)
        while todo:
            more = set(self._numbers[todo.pop()]) - wanted
            wanted |= more
            todo += more
        chosen = [task for i, task in enumerate(self.definitions) if i in wanted]
        names = Names()
        scan(self._result, names)
        whole = all(self._index[output] in wanted for output in names.outputs)
        return Workflow(self.name, chosen, self.description, self.timeout, self._result if whole else MISSING)

    @cached_property
    def sinks(self) -> tuple[str, ...]:
        """Ids of the tasks that nothing depends on."""
        return tuple(task.id for task, after in zip(self.definitions, self._graph.dependents, strict=True) if not after)

    @cached_property
    def params(self) -> Mapping[str, bool]:
        """Names of the params that tasks or the result read; True: it must be given (some use of it has no default)."""
        names = Names()
        scan(self._result, names)
        needed: dict[str, bool] = names.params
        for asked in filter(None, map(_asks_for, self.definitions)):
            for name, required in asked.items():
                needed[name] = needed.get(name, False) or required
        return MappingProxyType(needed)

    @property
    def chosen_result(self) -> Any:
        """What `result=` was given, or MISSING."""
        return self._result

    @property
    def result_spec(self) -> Any:
        """What the result is made of: what `result=` was given, or the Outputs of the sinks."""
        if self._result is not MISSING:
            return self._result
        sinks = self.sinks
        return Output(sinks[0]) if len(sinks) == 1 else {sink: Output(sink) for sink in sinks}

    origin: str | None = None
    """Where it can be had again, `module:name` or `/path/file.py:name`; None: nobody knows."""

    def came_from(self, origin: str) -> None:
        """Remember where it can be had again: the journal keeps that. It changes nothing else."""
        self.__dict__["origin"] = origin

    def number_of(self, task_id: str) -> int | None:
        """A task's number, or None if there is no such task."""
        return self._index.get(task_id)

    @property
    def ids(self) -> list[str]:
        """The tasks' ids by number, in a list of your own."""
        return list(self._index)

    @property
    def numbers(self) -> Graph:
        """The graph in numbers, as the scheduler works on it."""
        return self._graph

    @cached_property
    def rules(self) -> bytes:
        """For each task number its `run_when`, as an index into `nerv.fields.RUN_WHEN`."""
        rule_of = {rule: number for number, rule in enumerate(RUN_WHEN)}
        return bytes(map(rule_of.__getitem__, map(_run_when, self.definitions)))

    @cached_property
    def policed(self) -> tuple[int, ...]:
        """Numbers of the tasks that have policies: that ask for more than to be called once when they are ready."""
        return tuple(compress(range(len(self.definitions)), map(_has_policies, self.definitions)))

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the graph's shape, the same in every process: ids, edges, policies, pools, names of callables."""
        shape = hashlib.sha256()
        for task, needs in zip(self.definitions, self._numbers, strict=True):
            edges = sorted(self.definitions[need].id for need in needs)
            shape.update(
                repr((task.id, edges, type(task).__name__, int(task.priority), task.run_when, task.pool)).encode()
            )
            shape.update(name_of(task.fn).encode() if task.fn is not None else b"")
            shape.update(task.terms.encode())
        return shape.hexdigest()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Workflow):
            return NotImplemented
        return self.fingerprint == other.fingerprint and all(
            alike(a, b)
            for a, b in zip(self.definitions, other.definitions, strict=True)
            if a.fn is not None and b.fn is not None
        )

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def to_mermaid(self) -> str:
        """A Mermaid flowchart."""
        return drawing.mermaid(self.definitions, self._numbers)

    def to_dot(self) -> str:
        """The graph in Graphviz's language."""
        return drawing.dot(self.name, self.definitions, self._numbers)

    def to_dask(self, params: Mapping[str, Any] | None = None) -> dict[Any, Any]:
        """A Dask graph, task id -> Dask's task, that any of Dask's schedulers runs; see `nerv.interop.dask.to_dask`.

        Raises:
            WorkflowDefinitionError: a task asks for what a graph hasn't got, or a param is missing.
        """
        from nerv.interop.dask import to_dask

        return to_dask(self, params)

    @staticmethod
    def from_dask(graph: Any, keys: Any = None, *, name: str = "dask") -> Workflow:
        """A Dask graph or collection as a Workflow; see `nerv.interop.dask.from_dask`."""
        from nerv.interop.dask import from_dask

        return from_dask(graph, keys, name=name)

    def _repr_svg_(self) -> str:
        return drawing.svg(self.definitions, self._graph)

    def __repr__(self) -> str:
        return f"<Workflow {self.name!r}: {len(self.definitions)} tasks>"

    def __len__(self) -> int:
        return len(self.definitions)


def _rebuilt(name: str, tasks: tuple[TaskDef, ...], description: str, timeout: float | None, result: Any) -> Workflow:
    return Workflow(name, tasks, description, timeout, result)


def _id_of(target: object) -> str:
    if isinstance(target, TaskDef):
        return target.id
    if isinstance(target, Output):
        return target.task_id
    if not isinstance(target, str):
        raise TypeError(f"a target is a task's id, not {target!r}")
    return target


def _names_problems(name: object, description: object, timeout: object) -> list[Problem]:
    problems = []
    if timeout is not None and (finite(timeout) or 0) <= 0:
        problems.append(Problem(None, "timeout", f"a workflow's timeout is seconds above 0, or None, not {timeout!r}"))
    if not isinstance(name, str) or not name:
        problems.append(Problem(None, "name", f"a workflow's name is a str that isn't empty, not {name!r}"))
    if not isinstance(description, str):
        problems.append(Problem(None, "description", f"a workflow's description is a str, not {description!r}"))
    return problems


def _kind_problems(tasks: tuple[TaskDef, ...], kinds: set[type]) -> list[Problem]:
    if all(issubclass(kind, TaskDef) for kind in kinds):
        return []
    return [
        Problem(None, "not a task", f"a workflow's tasks are TaskDefs, not {task!r}; write TaskDef(id, function)")
        for task in tasks
        if not isinstance(task, TaskDef)
    ]


_LONGEST_RING: Final = 20
"""Ids of a cycle that each of its problems shows whole; of a longer one only the first does."""


def _node_problems(tasks: tuple[Any, ...], index: Mapping[str, int], graph: Graph) -> list[Problem]:
    """What is wrong with the places of those that steer others, and what two of them can't both be given."""
    problems: list[Problem] = []
    known: dict[str, Any] = {}
    users: dict[int, str] = {}  # of iterators
    for number, task in enumerate(tasks):
        if task.__class__ is TaskDef:
            continue
        given = task.settings
        if not given:
            continue
        known = known or {name: tasks[place] for name, place in index.items()}
        found = task.objections([tasks[one].id for one in graph.dependents[number]], known)
        for value in given:
            if hasattr(type(value), "__next__") and users.setdefault(id(value), task.id) != task.id:
                found.append(f"it is given the same iterator as {users[id(value)]!r}, who uses it up; give both a list")
        problems += [Problem(task.id, "node", f"task {task.id!r}: {objection}") for objection in found]
    return problems


def _result_problems(result: Any, index: Mapping[str, int], problems: list[Problem]) -> None:
    names = Names()
    scan(result, names)
    problems += [Problem(None, "result", f"the workflow's result: {problem}") for problem in names.problems]
    for output in names.outputs:
        if output not in index:
            message = f"the workflow's result needs {output!r}, which is no task{near(output, index)}"
            problems.append(Problem(None, "result", message))


def _ring_problems(ring: list[str]) -> list[Problem]:
    whole = [*ring, ring[0]]
    problems = []
    for i, task in enumerate(ring):
        is_whole = i == 0 or len(ring) <= _LONGEST_RING
        text = " -> ".join(map(repr, whole if is_whole else (ring[i - 1], task, whole[i + 1])))
        message = f"task {task!r} is in a cycle, each needed by the next: {text}; remove one of these dependencies"
        problems.append(Problem(task, "cycle", message))
    return problems
