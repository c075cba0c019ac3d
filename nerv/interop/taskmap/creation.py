"""Making a graph: what it is made of, and all that can be wrong with that."""

from __future__ import annotations

import graphlib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from nerv.errors import Problem, near
from nerv.interop.taskmap.graph import Graph, GraphError, failed_tasks
from nerv.interop.taskmap.logs import configure


def create_graph(  # noqa: PLR0917  (taskmap's signature)
    funcs: dict[str, Callable[..., Any]],
    dependencies: Mapping[str, Iterable[str]],
    io_bound: Collection[str] | None = None,
    done: Iterable[str] | None = None,
    results: dict[str, Any] | None = None,
    name: str = "taskmap",
    logging_config: Mapping[str, Any] | None = None,
) -> Graph:
    """A graph of tasks.

    Args:
        funcs: task -> function; the graph keeps this very dict, so that a function can be replaced later. A function is
            given the results of its dependencies, in their order. None is a result too, and keeps its place; only a
            function that has fewer places than dependencies isn't given the Nones.
        dependencies: task -> the tasks that it depends on.
        io_bound: tasks that mostly wait; they start first.
        done: tasks that aren't to be run.
        results: what the tasks that are done returned; the graph keeps this very dict and `run` adds to it.
        name: what its loggers are called, `NAME-manager` and `NAME-worker`.
        logging_config: `level` of these loggers (default DEBUG); `write`: whether to keep a log file in the current
            folder (default: no); `name`: another name for them. Nothing else of `logging` is touched.

    Raises:
        GraphError: lists unknown names, tasks without a function, and a ring of tasks, if there is one.
        ConfigError: a logging_config that means nothing.
    """
    lists, problems = _listed(dependencies)
    problems += _problems(funcs, lists, done := list(done or ()))
    if problems:
        raise GraphError(problems, f"graph {name!r} can't be right")
    graph = Graph(
        funcs=funcs,
        dependencies=lists,
        done=done,
        results={} if results is None else results,
        in_progress=[],
        lock=0,
        io_bound=[] if io_bound is None else io_bound,
        name=name,
    )
    graph.failures = failed_tasks(graph)
    graph.log_name = configure(name, logging_config or {})
    return graph


def _listed(dependencies: Mapping[str, Iterable[str]]) -> tuple[dict[str, list[str]], list[Problem]]:
    problems = []
    lists = {}
    for task, needs in dependencies.items():
        if not isinstance(task, str) or not task:
            problems.append(Problem(None, "name", f"a task's name is a str that isn't empty, not {task!r}"))
        elif isinstance(needs, str):
            message = f"task {task!r}: dependencies takes a list, not one str; write [{needs!r}]"
            problems.append(Problem(task, "dependencies", message))
        else:
            lists[task] = list(needs)
    return lists, problems


def _problems(
    funcs: Mapping[str, Callable[..., Any]], dependencies: Mapping[str, list[str]], done: list[str]
) -> list[Problem]:
    problems = []
    for task, needs in dependencies.items():
        if task not in funcs:
            message = f"task {task!r} has no function; funcs has no such key{near(task, funcs)}"
            problems.append(Problem(task, "no function", message))
        elif not callable(funcs[task]):
            message = f"task {task!r}: its function can't be called: {funcs[task]!r}"
            problems.append(Problem(task, "no function", message))
        for need in needs:
            if need not in dependencies:
                known = near(need, dependencies)
                message = f"task {task!r} depends on {need!r}, which is no key of dependencies{known}"
                problems.append(Problem(task, "unknown", message))
    problems += [
        Problem(None, "unknown", f"done names {task!r}, which is no task{near(task, dependencies)}")
        for task in done
        if task not in dependencies
    ]
    try:
        graphlib.TopologicalSorter(dependencies).prepare()
    except graphlib.CycleError as error:
        ring = error.args[1]
        text = " -> ".join(map(repr, ring))
        message = f"cyclic dependency, each needed by the next: {text}; remove one of these dependencies"
        problems.append(Problem(ring[0], "cycle", message))
    return problems
