"""`ExecutionPlan`: what can be said of a workflow without running it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from nerv import drawing
from nerv.errors import UnknownIdError, near
from nerv.graph import Graph
from nerv.tasks import TaskDef

if TYPE_CHECKING:
    import networkx


class ExecutionPlan:
    """Levels, paths and bounds of a graph of tasks. For planning and looking: running is ready-driven, not by levels.

    Attributes:
        levels: lists of ids; a task is in the first level after all that it needs; within a level by priority, then
            definition order.
        dependencies, dependents: id -> tuple of ids.
        task_map: id -> TaskDef, in definition order.
    """

    def __init__(self, name: str, tasks: Sequence[TaskDef], graph: Graph) -> None:
        self._name = name
        self._tasks = tasks
        self._graph = graph
        self._ids = [task.id for task in tasks]
        self.levels: list[list[str]] = [[self._ids[i] for i in level] for level in graph.levels()]

    @cached_property
    def dependencies(self) -> Mapping[str, tuple[str, ...]]:
        """For each task the ids that it needs."""
        return self._named(self._graph.dependencies)

    @cached_property
    def dependents(self) -> Mapping[str, tuple[str, ...]]:
        """For each task the ids that need it."""
        return self._named(self._graph.dependents)

    @cached_property
    def task_map(self) -> Mapping[str, TaskDef]:
        """All tasks by id."""
        return MappingProxyType(dict(zip(self._ids, self._tasks, strict=True)))

    @property
    def max_parallelism(self) -> int:
        """The number of tasks in the widest level; 0 if there are none."""
        return max((len(level) for level in self.levels), default=0)

    def critical_path(self, durations: Mapping[str, float] | None = None) -> list[str]:
        """The chain of tasks that takes longest; nothing can finish sooner.

        Args:
            durations: id -> seconds; tasks without one take none. Default: each task takes the same.

        Raises:
            UnknownIdError: a duration for a task that isn't there.
            ValueError: a negative or NaN duration.
        """
        seconds = self._seconds(durations)
        finish, via = self._finishes(seconds)
        if not finish:
            return []
        task: int | None = max(range(len(finish)), key=lambda i: (finish[i], -i))
        path: list[str] = []
        while task is not None:
            path.append(self._ids[task])
            task = via[task]
        return path[::-1]

    def lower_bound(self, durations: Mapping[str, float], workers: int) -> float:
        """No schedule on `workers` workers ends sooner than this many seconds: max(critical path, work / workers)."""
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
            raise ValueError(f"workers takes a whole number from 1, not {workers!r}")
        seconds = self._seconds(durations)
        finish, _ = self._finishes(seconds)
        return max(max(finish, default=0.0), sum(seconds) / workers)

    def to_networkx(self) -> networkx.DiGraph[str]:
        """A new `networkx.DiGraph` of ids, edges from a dependency to its dependent; node attribute `task`."""
        import networkx

        picture: networkx.DiGraph[str] = networkx.DiGraph(name=self._name)
        for definition in self._tasks:
            picture.add_node(definition.id, task=definition)
        for task, needs in zip(self._ids, self._graph.dependencies, strict=True):
            picture.add_edges_from((self._ids[need], task) for need in needs)
        return picture

    def to_dot(self) -> str:
        """The graph in Graphviz's language."""
        return drawing.dot(self._name, self._tasks, self._graph.dependencies)

    def to_mermaid(self) -> str:
        """The graph as a Mermaid flowchart, which Markdown viewers draw."""
        return drawing.mermaid(self._tasks, self._graph.dependencies)

    def __repr__(self) -> str:
        return f"<ExecutionPlan of {self._name!r}: {len(self._ids)} tasks in {len(self.levels)} levels>"

    def _repr_svg_(self) -> str:
        return drawing.svg(self._tasks, self._graph)

    def _named(self, numbers: Sequence[Sequence[int]]) -> Mapping[str, tuple[str, ...]]:
        ids = self._ids
        named = {task: tuple([ids[i] for i in others]) for task, others in zip(ids, numbers, strict=True)}
        return MappingProxyType(named)

    def _seconds(self, durations: Mapping[str, float] | None) -> list[float]:
        if durations is None:
            return [1.0] * len(self._ids)
        for task, seconds in durations.items():
            if task not in self.task_map:
                raise UnknownIdError(f"durations names {task!r}, which is no task{near(task, self._ids)}")
            if not isinstance(seconds, (int, float)) or not seconds >= 0:
                raise ValueError(f"durations takes seconds from 0, not {seconds!r} for task {task!r}")
        return [durations.get(task, 0.0) for task in self._ids]

    def _finishes(self, seconds: Sequence[float]) -> tuple[list[float], list[int | None]]:
        """For each task the earliest moment it can end, and the dependency that decides it."""
        finish = [0.0] * len(seconds)
        via: list[int | None] = [None] * len(seconds)
        for task in self._graph.order:
            last = max(self._graph.dependencies[task], key=lambda need: finish[need], default=None)
            via[task] = last
            finish[task] = seconds[task] + (0.0 if last is None else finish[last])
        return finish, via


def described(plan: ExecutionPlan) -> dict[str, Any]:
    """The plan's figures as plain data, for tools."""
    return {
        "tasks": len(plan.task_map),
        "levels": plan.levels,
        "max_parallelism": plan.max_parallelism,
        "critical_path": plan.critical_path(),
    }
