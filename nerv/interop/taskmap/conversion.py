"""taskmap's graphs as nerv's workflows, and back.

A task of a graph becomes a TaskDef whose positional arguments are the Outputs of its dependencies, so that results go
by name and none can be lost on the way. What is done becomes a task that says again what is known: it returns the
result, or raises the error, that the graph holds. Each such TaskDef remembers in its metadata what it was (`Origin`),
which is what `to_taskmap` reads first; TaskDefs that never were taskmap's are bound to their arguments by `Bound`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from nerv.errors import Problem, WorkflowDefinitionError
from nerv.execution import Execution
from nerv.fields import TaskMetadata
from nerv.functions import is_coroutine_function, wants_context
from nerv.interop.abroad import Abroad
from nerv.interop.taskmap.graph import Graph, GraphError, GraphLike, failed_tasks, mark_as_done, not_run_tasks, record
from nerv.interop.taskmap.steps import CoroutineStep, Kind, Step, places, step
from nerv.references import MISSING, Output
from nerv.statuses import TaskPriority
from nerv.tasks import TaskDef
from nerv.workflows import Workflow

Place = Callable[[str, Callable[..., Any]], tuple[Kind, str | None]]
"""Task and function -> as which kind of step, and in which pool, it is to be called."""

_ESCAPES: Final = str.maketrans({"[": "%5B", "]": "%5D", "/": "%2F"})
_KEY: Final = "taskmap"


class Origin(msgspec.Struct, frozen=True, eq=False):
    """What a TaskDef was in a taskmap graph; `result` (or `error`) only of a task that is done."""

    name: str
    fn: Callable[..., Any]
    dependencies: list[str]
    io_bound: bool = False
    is_done: bool = False
    result: Any = MISSING
    error: BaseException | None = None


class Recorded:
    """The function of a task that is done: it says again what is known, and calls nothing."""

    __slots__ = ("origin",)

    def __init__(self, origin: Origin) -> None:
        self.origin = origin

    def __reduce__(self) -> tuple[Any, ...]:
        return Recorded, (self.origin,)

    def __call__(self) -> Any:
        """The result; or the error, raised."""
        if self.origin.error is not None:
            raise self.origin.error
        return None if self.origin.result is MISSING else self.origin.result


class Bound:
    """The function of a TaskDef as taskmap calls it: with the results of `needs`, all of them, in this order."""

    __slots__ = ("needs", "params", "task")

    def __init__(self, task: TaskDef, needs: list[str], params: Mapping[str, Any]) -> None:
        self.task = task
        self.needs = needs
        self.params = {name: params[name] for name in task.params if name in params}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.task, self.needs, self.params)

    def __call__(self, *values: Any) -> Any:
        """Call the task's function with the arguments that it was defined with."""
        if len(values) != len(self.needs):
            raise TypeError(
                f"task {self.task.id!r} needs {len(self.needs)} results and was given {len(values)}: "
                "taskmap itself drops Nones; run the graph with nerv.interop.taskmap, which doesn't"
            )
        args, kwargs = self.task.bind(dict(zip(self.needs, values, strict=True)), self.params)
        assert self.task.fn is not None
        return self.task.fn(*args, **kwargs)


class BoundCoroutine(Bound):
    """`Bound`, of a coroutine function."""

    __slots__ = ()

    async def __call__(self, *values: Any) -> Any:
        """Await the task's function."""
        return await super().__call__(*values)


# ---- from taskmap to nerv -------------------------------------------------------------------------------------------


def task_id(name: str) -> str:
    """The id that a task of a graph has in a Workflow: its name, with `[`, `]` and `/` written as in a URL."""
    return name.translate(_ESCAPES)


def to_workflow(graph: GraphLike) -> Workflow:
    """A graph, made by taskmap or by nerv, as a Workflow.

    Tasks that are done aren't run again: their results are used, and one that failed fails again with its error (call
    `reset_failed_tasks` first to have it run again). Io-bound tasks have priority HIGH.

    Raises:
        GraphError: a result is needed of a task that was marked as done without one.
    """
    return workflow_of(graph, _at_home)


def _at_home(_: str, fn: Callable[..., Any]) -> tuple[Kind, None]:
    return CoroutineStep if is_coroutine_function(fn) else Step, None


def workflow_of(graph: GraphLike, place: Place, known: str = "thread", *, whole: bool = True) -> Workflow:
    """A graph as a Workflow.

    Args:
        graph: the graph.
        place: how and where each task is called.
        known: the pool of tasks that are done.
        whole: False: leave out the tasks that are done and that nothing needs any more.
    """
    done = set(graph.done)
    if whole:
        shown, done = set(graph.dependencies), done - not_run_tasks(graph)
    else:
        todo = graph.dependencies.keys() - done
        shown = todo.union(*(graph.dependencies[task] for task in todo))
    draft = _Draft(graph, place, known, done, shown)
    tasks = [draft.task(name) for name in graph.dependencies if name in shown]
    if draft.problems:
        raise GraphError(draft.problems, f"graph {graph.name!r} can't go on")
    return Workflow(graph.name or _KEY, tasks)


class _Draft:
    """Turns the tasks of one graph into TaskDefs, and collects what is wrong with them."""

    def __init__(self, graph: GraphLike, place: Place, known: str, done: set[str], shown: set[str]) -> None:
        self.problems: list[Problem] = []
        self._done = done
        self._graph = graph
        self._place = place
        self._known = known
        self._failed = failed_tasks(graph)
        self._kept = (done & shown) - self._failed.keys()  # what a task that is done may still depend on
        self._silent = {task for task in done if task not in graph.results}
        self._waits = set(graph.io_bound)

    def task(self, name: str) -> TaskDef:
        """One task."""
        graph = self._graph
        fn, needs, waits = graph.funcs[name], graph.dependencies[name], name in self._waits
        if name in self._done:
            return self._known_task(name, fn, needs, waits=waits)
        given = needs if self._silent.isdisjoint(needs) else self._given(name, fn, needs)
        kind, pool = self._place(name, fn)
        return TaskDef(
            id=task_id(name),
            name=name,
            fn=step(kind, fn, len(given)),
            args=tuple([Output(task_id(need)) for need in given]),
            dependencies=() if given is needs else tuple(map(task_id, needs)),
            priority=TaskPriority.HIGH if waits else TaskPriority.MEDIUM,
            pool=pool,
            metadata=_remember(Origin(name, fn, needs, waits)),
        )

    def _known_task(self, name: str, fn: Callable[..., Any], needs: list[str], *, waits: bool) -> TaskDef:
        error = self._failed.get(name)
        result = MISSING if error is not None else self._graph.results.get(name, MISSING)
        origin = Origin(name, fn, needs, waits, is_done=True, result=result, error=error)
        return TaskDef(
            id=task_id(name),
            name=name,
            fn=Recorded(origin),
            dependencies=tuple([task_id(need) for need in needs if need in self._kept]),
            pool=self._known,
            metadata=_remember(origin),
        )

    def _given(self, name: str, fn: Callable[..., Any], needs: list[str]) -> list[str]:
        """The dependencies whose results can be given: those of `_silent` tasks aren't there."""
        given = [need for need in needs if need not in self._silent]
        least, most = places(fn)
        if least > len(given) or (most >= len(needs) and given != needs[: len(given)]):
            missing = ", ".join(repr(need) for need in needs if need in self._silent)
            message = (
                f"task {name!r} needs the result of {missing}, marked as done without one; "
                "put it into the graph's results, or reset that task"
            )
            self.problems.append(Problem(name, "no result", message))
        return given


def _remember(origin: Origin) -> TaskMetadata:
    return TaskMetadata(values={_KEY: origin})


# ---- from nerv to taskmap -------------------------------------------------------------------------------------------

_TASKMAP: Final = Abroad("taskmap", "taskmap", {
    "id", "fn", "name", "description", "dependencies", "args", "kwargs", "priority", "pool", "metadata",
})  # fmt: skip


def to_taskmap(workflow: Workflow | Execution, params: Mapping[str, Any] | None = None) -> Graph:
    """A Workflow as a graph that both taskmap and `nerv.interop.taskmap` run.

    Args:
        workflow: a Workflow of plain functions and coroutine functions; or an Execution of one, ended or not: what it
            has done so far is done in the graph, with its results.
        params: what `Param`s stand for; an Execution has its own.

    Priorities, pools, descriptions and the workflow's own result have no place in a graph and are left behind.

    Raises:
        WorkflowDefinitionError: a task asks for what taskmap hasn't got (the context, policies, nodes, run_when), or a
            param is missing; lists every such task.
    """
    execution = workflow if isinstance(workflow, Execution) else None
    if execution is not None:
        if params is not None:
            raise TypeError("an Execution has params of its own; pass none")
        workflow, params = execution.workflow, execution.params
    assert isinstance(workflow, Workflow)
    graph = _graph_of(workflow, params or {})
    if execution is not None:
        names = {task.id: _origin_name(task) for task in workflow.tasks.values()}
        results, failures = execution.results, execution.failures
        done = set(graph.done)
        record(
            graph,
            {names[task]: value for task, value in results.items() if names[task] not in done},
            {names[task]: error for task, error in failures.items() if names[task] not in done},
        )
    return graph


def _graph_of(workflow: Workflow, params: Mapping[str, Any]) -> Graph:
    problems = [problem for task in workflow.tasks.values() for problem in _beyond(task, params)]
    if problems:
        raise WorkflowDefinitionError(problems, f"taskmap can't run workflow {workflow.name!r}")
    origins = [_origin(task) or _as_origin(task, params) for task in workflow.tasks.values()]
    graph = Graph(
        funcs={origin.name: origin.fn for origin in origins},
        dependencies={origin.name: list(origin.dependencies) for origin in origins},
        done=[],
        results={},
        in_progress=[],
        lock=0,
        io_bound=[origin.name for origin in origins if origin.io_bound],
        name=workflow.name,
    )
    graph.failures = {}
    mark_as_done(graph, [origin.name for origin in origins if origin.is_done and origin.error is None])
    record(
        graph,
        {origin.name: origin.result for origin in origins if origin.result is not MISSING},
        {origin.name: origin.error for origin in origins if origin.error is not None},
    )
    return graph


def _origin(task: TaskDef) -> Origin | None:
    origin = task.metadata.values.get(_KEY) if task.metadata is not None else None
    return origin if isinstance(origin, Origin) else None


def _origin_name(task: TaskDef) -> str:
    origin = _origin(task)
    return task.id if origin is None else origin.name


def _as_origin(task: TaskDef, params: Mapping[str, Any]) -> Origin:
    """What a task that never was taskmap's is in a graph: its function, if taskmap can call it, else a `Bound`."""
    fn = task.fn
    assert fn is not None
    waits = is_coroutine_function(fn)
    plain = [arg.task_id for arg in task.args if type(arg) is Output and not arg.path]
    if len(plain) == len(task.args) and not task.kwargs and set(task.dependencies) <= set(plain):
        return Origin(task.id, fn, plain, waits)
    needs = list(dict.fromkeys(task.outputs + task.dependencies))
    return Origin(task.id, (BoundCoroutine if waits else Bound)(task, needs, params), needs, waits)


def _beyond(task: TaskDef, params: Mapping[str, Any]) -> list[Problem]:
    """What taskmap can't do for a task."""
    needs_context = task.fn is not None and _origin(task) is None and wants_context(task.fn)
    return _TASKMAP.problems(task, params, ["the context"] if needs_context else [])
