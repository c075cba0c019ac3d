"""taskmap's ways to run a graph, on nerv's engine.

All four start a task as soon as its own dependencies are done, look for nothing in intervals, and end when nothing that
can run is left. A task that raises is done and its exception is its result; what depends on it is done too, with a text
that says so; everything else goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nerv.errors import Problem
from nerv.execution import Execution
from nerv.functions import is_coroutine_function
from nerv.interop.taskmap.conversion import Place, workflow_of
from nerv.interop.taskmap.graph import G, Graph, GraphError, GraphLike, failed_tasks, give_up_behind, named, record
from nerv.interop.taskmap.logs import run_log
from nerv.interop.taskmap.steps import CoroutineStep, Kind, LoopStep, Step, abroad, step, without_none
from nerv.manager import WorkflowManager


def run(graph: G) -> G:
    """Run the tasks that aren't done, one after another, in this thread. Returns the same graph, with the results.

    An exception that is no `Exception` (Ctrl-C, `sys.exit`) stops the run and is raised here; its task isn't done.

    Raises:
        GraphError: a coroutine function, or a result is needed of a task that was marked as done without one.
    """
    _refuse_coroutines(graph, "run", "run_async")
    this = _Run(graph)
    this.carry_out(lambda _, __: (this.foreground, "inline"))
    return graph


def run_parallel(graph: GraphLike, nprocs: int | None = None, sleep: float = 0.2) -> Graph:  # noqa: ARG001
    """Run the tasks that aren't done in worker processes. Returns a new graph; the given one stays as it was.

    Args:
        graph: plain functions. The workers import them; lambdas and the like go there by value.
        nprocs: worker processes; default: as many as there are cores.
        sleep: for taskmap's callers; nothing here looks for something in intervals.

    Raises:
        GraphError: a coroutine function, or a result is needed of a task that was marked as done without one.
        WorkflowDefinitionError: a function that can't be sent to a process; nothing has run.
    """
    _refuse_coroutines(graph, "run_parallel", "run_parallel_async")
    copied = _copied(graph)
    _Run(copied, **_processes(nprocs)).carry_out(lambda _, fn: (abroad(Step, fn), "process"))
    return copied


def run_async(graph: G, sleep: float = 0.2) -> G:  # noqa: ARG001
    """Run the tasks that aren't done in one event loop, plain functions too. Returns the same graph, with the results.

    The loop has a thread of its own, so this can be called while another loop runs in this thread (which stands still).

    Args:
        graph: coroutine functions, io-bound ones first; each starts at once when its dependencies are done.
        sleep: for taskmap's callers; nothing here looks for something in intervals.

    Raises:
        GraphError: a result is needed of a task that was marked as done without one.
    """
    _Run(graph, max_coroutines=len(graph.dependencies) or 1).carry_out(lambda _, __: (CoroutineStep, "async"))
    return graph


def run_parallel_async(graph: GraphLike, nprocs: int | None = None, sleep: float = 0.2) -> Graph:  # noqa: ARG001
    """Run io-bound tasks in one event loop here, and the others in worker processes, one at a time in each.

    Returns a new graph; the given one stays as it was.

    Args:
        graph: coroutine functions and plain functions; what isn't in `io_bound` counts as computing.
        nprocs: worker processes; default: as many as there are cores.
        sleep: for taskmap's callers; nothing here looks for something in intervals.

    Raises:
        GraphError: a result is needed of a task that was marked as done without one.
        WorkflowDefinitionError: a function that can't be sent to a process; nothing has run.
    """
    copied = _copied(graph)
    waits = set(copied.io_bound)

    def place(name: str, fn: Callable[..., Any]) -> tuple[Kind, str]:
        if is_coroutine_function(fn):
            return (CoroutineStep, "async") if name in waits else (abroad(LoopStep, fn), "process")
        return (Step, "thread") if name in waits else (abroad(Step, fn), "process")

    _Run(copied, max_coroutines=len(copied.dependencies) or 1, **_processes(nprocs)).carry_out(place)
    return copied


def run_task(graph: G, task: str) -> G:
    """Call the function of one task here and now, done or not, and note what became of it. Returns the same graph.

    Raises:
        GraphError: a coroutine function.
        UnknownIdError: no such task.
    """
    named(graph, task)
    _refuse_coroutines(graph, "run_task", "run_task_async", [task])
    fn, values = _call(graph, task, Step)
    try:
        result = fn(*values)
    except Exception as error:  # noqa: BLE001  (whatever it is, it is the task's result)
        record(graph, {}, {task: error})
    else:
        record(graph, {task: result}, {})
    return graph


async def run_task_async(graph: G, task: str) -> G:
    """`run_task` for coroutine functions, and plain ones too."""
    named(graph, task)
    fn, values = _call(graph, task, CoroutineStep)
    try:
        result = await fn(*values)
    except Exception as error:  # noqa: BLE001  (whatever it is, it is the task's result)
        record(graph, {}, {task: error})
    else:
        record(graph, {task: result}, {})
    return graph


def _call(graph: GraphLike, task: str, kind: type[Step]) -> tuple[Callable[..., Any], list[Any]]:
    values = [graph.results[need] for need in graph.dependencies[task] if need in graph.results]
    return step(kind, graph.funcs[task], len(values)), values


class _Run:
    """One run of a graph."""

    def __init__(self, graph: GraphLike, **settings: Any) -> None:
        self._graph = graph
        self._settings = settings
        self._execution: Execution | None = None
        self._interruption: BaseException | None = None

    def carry_out(self, place: Place) -> None:
        """Run what isn't done, and note in the graph what became of it, also when something interrupts us."""
        graph = self._graph
        graph.in_progress.clear()
        give_up_behind(graph, failed_tasks(graph))
        workflow = workflow_of(graph, place, "inline", whole=False)
        done = set(graph.done)
        names = {task.id: task.name for task in workflow.tasks.values() if task.name not in done}
        if not names:
            return
        with WorkflowManager(failure_policy="continue", **self._settings) as manager:
            self._execution = manager.start(workflow, on_event=run_log(graph, names))
            try:
                self._execution.wait()
            finally:
                self._note(self._execution, names)
        if self._interruption is not None:
            raise self._interruption

    def _note(self, execution: Execution, names: Mapping[str, str]) -> None:
        failures = execution.failures.items()
        record(
            self._graph,
            {names[task]: result for task, result in execution.results.items() if task in names},
            {names[task]: error for task, error in failures if task in names and error is not self._interruption},
        )

    def foreground(self, fn: Callable[..., Any], *, keeps_none: bool) -> Callable[..., Any]:
        """A step in the caller's own thread: what it raises that is no `Exception` is for the caller, not the graph."""

        def call(*values: Any) -> Any:  # a function, not an object like other steps: nerv reads it ten times as fast
            try:
                return fn(*(values if keeps_none else without_none(values)))
            except Exception:
                raise
            except BaseException as error:
                self._stop(error)
                raise

        return call

    def _stop(self, error: BaseException) -> None:
        assert self._execution is not None
        self._interruption = error
        self._execution.cancel(f"interrupted by {type(error).__name__}")


def _copied(graph: GraphLike) -> Graph:
    copied = Graph(
        funcs=dict(graph.funcs),
        dependencies=dict(graph.dependencies),
        done=list(graph.done),
        results=dict(graph.results),
        in_progress=[],
        lock=0,
        io_bound=list(graph.io_bound),
        name=graph.name,
    )
    copied.failures = failed_tasks(graph)
    copied.log_name = getattr(graph, "log_name", None)
    return copied


def _processes(nprocs: int | None) -> dict[str, int]:
    return {} if nprocs is None else {"processes": nprocs}


def _refuse_coroutines(graph: GraphLike, verb: str, instead: str, tasks: Iterable[str] | None = None) -> None:
    done = set(graph.done) if tasks is None else ()
    problems = [
        Problem(task, "coroutine", f"task {task!r} is a coroutine function, which {verb} doesn't await; use {instead}")
        for task in (graph.dependencies if tasks is None else tasks)
        if task not in done and is_coroutine_function(graph.funcs[task])
    ]
    if problems:
        raise GraphError(problems, f"{verb} can't run graph {graph.name!r}")
