"""taskmap itself, told to run one of our workflows: a second opinion that shares no code with our engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nerv.errors import Problem, WorkflowDefinitionError
from nerv.functions import is_coroutine_function
from nerv.interop.taskmap.conversion import to_taskmap
from nerv.interop.taskmap.logs import configure
from nerv.workflows import Workflow


def run_with_taskmap(
    workflow: Workflow, params: Mapping[str, Any] | None = None, *, processes: int | None = None
) -> dict[str, Any]:
    """What the library taskmap makes of a workflow of plain functions.

    It is taskmap's word, with its ways: a failed task's result is its exception, what depends on it has a text that
    says so, and a result of None isn't passed on.

    Args:
        workflow: plain functions that return something else than None.
        params: what `Param`s stand for.
        processes: None: `taskmap.run`, here; a number: `taskmap.run_parallel` with so many worker processes.

    Returns:
        Task id -> result.

    Raises:
        WorkflowDefinitionError: a task that taskmap can't do; lists them all.
    """
    graph = to_taskmap(workflow, params)
    problems = [
        Problem(task, "coroutine", f"task {task!r} is a coroutine function, which taskmap doesn't run on this Python")
        for task, fn in graph.funcs.items()
        if is_coroutine_function(fn)
    ]
    if problems:
        raise WorkflowDefinitionError(problems, f"taskmap can't run workflow {workflow.name!r}")
    configure(graph.name, {})  # taskmap writes a traceback of each failure to a logger that would print it
    import taskmap

    if processes is None:
        return dict(taskmap.run(graph).results)
    return dict(taskmap.run_parallel(graph, nprocs=processes, sleep=0.01).results)
