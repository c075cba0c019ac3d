"""A Dask graph as a Workflow, and a Workflow as a Dask graph."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from operator import getitem
from typing import Any, Final

from dask._task_spec import Alias, DataNode, Dict, GraphNode, List, Task, TaskRef, Tuple, _identity_cast
from dask.base import is_dask_collection
from dask.core import flatten

from nerv.errors import Problem, WorkflowDefinitionError
from nerv.fields import TaskMetadata
from nerv.functions import is_coroutine_function, wants_context
from nerv.interop.abroad import Abroad
from nerv.interop.dask.nodes import Culled, as_nodes, evaluate
from nerv.references import Names, Output, Param, scan
from nerv.tasks import TaskDef
from nerv.workflows import Workflow

_KEY: Final = "dask key"
"""Where a task's metadata say which key it had in a Dask graph."""


# ---- from Dask to nerv ----------------------------------------------------------------------------------------------


def from_dask(graph: Any, keys: Any = None, *, name: str = "dask") -> Workflow:
    """A Dask graph as a Workflow.

    Args:
        graph: a mapping of keys to tasks, a high-level graph, or a collection (array, bag, dataframe, delayed object).
        keys: a key, or a list of keys and lists: what the execution's `.result` is, and all that is taken over;
            default: a collection's own, put together as its `compute` does; of a graph everything, and the result is
            that of its sinks.
        name: the workflow's name.

    A task's id is its key, as text, with `[`, `]` and `/` written as in a URL; keys of which nothing else is different
    get a number. `to_dask` gives them their keys back.

    Raises:
        KeyError: a key that isn't in the graph.
        ValueError, RuntimeError: a task needs what isn't in the graph, or itself.
    """
    nodes = as_nodes(graph)
    finish: tuple[Callable[..., Any], tuple[Any, ...]] | None = None
    if keys is None and is_dask_collection(graph):
        keys, finish = graph.__dask_keys__(), graph.__dask_postcompute__()
    wanted = list(nodes) if keys is None else list(flatten(keys)) if isinstance(keys, list) else [keys]
    draft = _Draft(nodes, wanted)
    tasks = draft.tasks()
    if keys is None:
        return Workflow(name, tasks)
    result = draft.outputs(keys)
    if finish is None:
        return Workflow(name, tasks, result=result)
    tasks.append(TaskDef(draft.free_id("compute"), finish[0], args=(result, *finish[1])))
    return Workflow(name, tasks, result=Output(tasks[-1].id))


class Evaluated:
    """Calls a node that can't be said in a TaskDef: with the results that it needs, in order."""

    __slots__ = ("needs", "node")

    def __init__(self, node: GraphNode, needs: tuple[Any, ...]) -> None:
        self.node = node
        self.needs = needs

    def __repr__(self) -> str:
        return repr(self.node)

    def __reduce__(self) -> tuple[Any, ...]:
        return Evaluated, (self.node, self.needs)

    def __call__(self, *values: Any) -> Any:
        """What the node gives."""
        return evaluate(self.node, dict(zip(self.needs, values, strict=True)))


class _Draft:
    """Turns the nodes that some keys need into TaskDefs."""

    def __init__(self, nodes: Mapping[Any, GraphNode], wanted: Collection[Any]) -> None:
        culled = Culled(nodes, wanted)
        kept = {*culled.data, *culled.keys}
        self._nodes = {key: node for key, node in nodes.items() if key in kept}
        self._taken: set[str] = set()
        self._ids = {key: self.free_id(str(key).translate(_ESCAPES)) for key in self._nodes}

    def free_id(self, wish: str) -> str:
        """An id that no task has, as near to the wish as can be."""
        task_id, number = wish, 2
        while task_id in self._taken or not task_id:
            task_id, number = f"{wish}-{number}", number + 1
        self._taken.add(task_id)
        return task_id

    def outputs(self, keys: Any) -> Any:
        """What stands for the results of a key, or of a list of keys and lists."""
        return [self.outputs(key) for key in keys] if isinstance(keys, list) else Output(self._ids[keys])

    def tasks(self) -> list[TaskDef]:
        """All tasks, in the graph's order."""
        return [self._task(key, node) for key, node in self._nodes.items()]

    def _task(self, key: Any, node: GraphNode) -> TaskDef:
        metadata = TaskMetadata(values={_KEY: key})
        if type(node) is Task and not wants_context(node.func) and not is_coroutine_function(node.func):
            with suppress(_UnsayableError):
                args = tuple([self._argument(arg) for arg in node.args])
                kwargs = {name: self._argument(arg) for name, arg in node.kwargs.items()}
                return TaskDef(self._ids[key], node.func, args=args, kwargs=kwargs, metadata=metadata)
        needs = tuple(sorted(node.dependencies, key=str))
        args = tuple([Output(self._ids[need]) for need in needs])
        return TaskDef(self._ids[key], Evaluated(node, needs), args=args, metadata=metadata)

    def _argument(self, arg: Any) -> Any:
        kind = type(arg)
        if kind is TaskRef:
            return Output(self._ids[arg.key])
        if kind is Alias:
            return Output(self._ids[arg.target])
        if kind is List:
            return [self._argument(one) for one in arg.args]
        if kind is Tuple:
            return tuple([self._argument(one) for one in arg.args])
        if kind is Task and arg.func is _identity_cast and arg.kwargs["typ"] in {list, tuple}:  # in older notation
            return arg.kwargs["typ"]([self._argument(one) for one in arg.args])
        if kind is Dict and not any(isinstance(name, (GraphNode, TaskRef)) for name in arg.args[::2]):
            return dict(zip(arg.args[::2], map(self._argument, arg.args[1::2]), strict=True))
        if isinstance(arg, (GraphNode, TaskRef)) or scan(arg, Names()) is not arg:
            raise _UnsayableError
        return arg


class _UnsayableError(Exception):
    """An argument that has no place in a TaskDef."""


_ESCAPES: Final = str.maketrans({"[": "%5B", "]": "%5D", "/": "%2F"})


# ---- from nerv to Dask ----------------------------------------------------------------------------------------------

_DASK: Final = Abroad("dask", "a Dask graph", {
    "id", "fn", "name", "description", "dependencies", "args", "kwargs", "priority", "pool", "metadata", "durable",
})  # fmt: skip


def to_dask(workflow: Workflow, params: Mapping[str, Any] | None = None) -> dict[Any, GraphNode]:
    """A Workflow as a graph that any of Dask's schedulers runs: task id -> Dask's task.

    Args:
        workflow: a Workflow of plain functions.
        params: what `Param`s stand for.

    Priorities, pools, names and the workflow's own result have no place in a graph and are left behind. A task that
    `from_dask` made has the key that it had.

    Raises:
        WorkflowDefinitionError: a task asks for what a graph hasn't got (the context, policies, nodes, run_when, a
            coroutine), or a param is missing; lists every such task.
    """
    given = params or {}
    problems = [problem for task in workflow.tasks.values() for problem in _beyond(task, given)]
    if problems:
        raise WorkflowDefinitionError(problems, f"Dask can't run workflow {workflow.name!r}")
    keys = {task.id: _key(task) for task in workflow.tasks.values()}
    return {keys[task.id]: _node(task, keys, given) for task in workflow.tasks.values()}


def in_order(fn: Callable[..., Any], before: object, *args: Any, **kwargs: Any) -> Any:  # noqa: ARG001
    """Call a function; `before` holds the results of tasks that only had to end first."""
    return fn(*args, **kwargs)


def _key(task: TaskDef) -> Any:
    return task.id if task.metadata is None else task.metadata.values.get(_KEY, task.id)


def _node(task: TaskDef, keys: Mapping[str, Any], params: Mapping[str, Any]) -> GraphNode:
    given, named = task.given
    args = [_argument(value, keys, params) for value in given]
    kwargs = {name: _argument(value, keys, params) for name, value in named.items()}
    before = [TaskRef(keys[need]) for need in task.dependencies if need not in task.outputs]
    if before:
        return Task(keys[task.id], in_order, task.fn, List(*before), *args, **kwargs)
    if type(task.fn) is Evaluated:
        return task.fn.node
    return Task(keys[task.id], task.fn, *args, **kwargs)


def _argument(value: Any, keys: Mapping[str, Any], params: Mapping[str, Any]) -> Any:
    kind = type(value)
    if kind is Output:
        reached: Any = TaskRef(keys[value.task_id])
        for how, step in value.path:
            reached = Task(None, getitem if how == "item" else getattr, reached, step)
        return reached
    if kind is Param:
        return _literal(params.get(value.name, value.default))
    if scan(value, Names()) is value:
        return _literal(value)
    if kind is dict:
        flat = [part for pair in value.items() for part in (_literal(pair[0]), _argument(pair[1], keys, params))]
        return Dict(flat)
    parts = [_argument(member, keys, params) for member in value]
    if kind is list:
        return List(*parts)
    return Tuple(*parts) if kind is tuple else Task(None, kind._make, List(*parts))


def _literal(value: Any) -> Any:
    """A value that means itself, also if it is something of Dask's."""
    return DataNode(None, value) if isinstance(value, (GraphNode, TaskRef)) else value


def _beyond(task: TaskDef, params: Mapping[str, Any]) -> list[Problem]:
    """What a Dask graph can't hold of a task."""
    asked = []
    if task.fn is not None and wants_context(task.fn):
        asked.append("the context")
    if task.fn is not None and is_coroutine_function(task.fn):
        asked.append("an event loop (its function is a coroutine function)")
    return _DASK.problems(task, params, asked)
