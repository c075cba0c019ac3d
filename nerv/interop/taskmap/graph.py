"""taskmap's graph: the same fields by the same names, so that either library works on a graph that the other made.

What is known of a task is in `done` and `results`, as in taskmap: a task that failed is done and its result is the
exception; a task that couldn't run because of it is done and its result is a text that says so. A value can look like
either, so a `Graph` also remembers which results are failures (`failures`); of taskmap's own graphs we believe, as it
does, that every exception is one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

from nerv.errors import UnknownIdError, WorkflowDefinitionError, near

NOT_RUN = "Ancestor task {} failed; task not run"
"""taskmap's result of a task that was not run because of a failure."""


class GraphLike(Protocol):
    """What `Graph` and taskmap's own graph have in common."""

    @property
    def funcs(self) -> dict[str, Callable[..., Any]]:
        """Task -> function."""

    @property
    def dependencies(self) -> dict[str, list[str]]:
        """Task -> the tasks whose results it is given, in this order."""

    @property
    def done(self) -> list[str]:
        """Tasks that aren't to be run any more."""

    @property
    def results(self) -> dict[str, Any]:
        """Task -> result."""

    @property
    def in_progress(self) -> list[str]:
        """What an interrupted taskmap run left behind; nerv's leaves nothing."""

    @property
    def io_bound(self) -> Collection[str]:
        """Tasks that mostly wait: they start before others."""

    @property
    def name(self) -> str:
        """What its loggers and its workflow are called."""


G = TypeVar("G", bound=GraphLike)


class Fields(NamedTuple):
    """The fields of taskmap's graph, in its order. `lock` is one of them; nobody uses it."""

    funcs: dict[str, Callable[..., Any]]
    dependencies: dict[str, list[str]]
    done: list[str]
    results: dict[str, Any]
    in_progress: list[str]
    lock: int
    io_bound: Collection[str]
    name: str


class Graph(Fields):
    """A taskmap graph made by nerv.

    Attributes:
        failures: task -> the exception that its last run failed with; None: not noted, so that every exception counts.
        log_name: what its loggers are called, where that isn't `name`.
    """

    failures: dict[str, BaseException] | None = None
    log_name: str | None = None

    @property
    def failed(self) -> Mapping[str, BaseException]:
        """Task -> the exception that it failed with, of the tasks that have failed and weren't reset."""
        return failed_tasks(self)


class GraphError(WorkflowDefinitionError, ValueError):
    """Raised when a graph can't be right or can't be run as asked; `problems` lists everything that is wrong."""


# ---- looking ---------------------------------------------------------------------------------------------------------


def get_ready_tasks(graph: GraphLike, reverse: bool = True) -> list[str]:  # noqa: FBT001, FBT002  (taskmap's signature)
    """The tasks that could run now, io-bound ones first (`reverse=False`: last), else in the order of the graph."""
    done, busy, waits = set(graph.done), set(graph.in_progress), set(graph.io_bound)
    ready = [
        task
        for task, needs in graph.dependencies.items()
        if task not in done and task not in busy and done.issuperset(needs)
    ]
    return sorted(ready, key=waits.__contains__, reverse=reverse)


def get_all_children(graph: GraphLike, task: str) -> set[str]:
    """All tasks that depend on this one, directly or not. UnknownIdError: it is no task."""
    return set(reached(dependents_of(graph), named(graph, task)))


def failed_tasks(graph: GraphLike) -> dict[str, BaseException]:
    """Task -> the exception that it failed with."""
    results = graph.results
    known: Mapping[str, BaseException] | None = getattr(graph, "failures", None)
    if known is None:
        known = {task: result for task, result in results.items() if isinstance(result, Exception)}
    done = set(graph.done)
    return {task: error for task, error in known.items() if task in done and results.get(task) is error}


def not_run_tasks(graph: GraphLike) -> set[str]:
    """The tasks that were not run because something they depend on failed."""
    failed = failed_tasks(graph)
    if not failed:
        return set()
    texts = {NOT_RUN.format(task) for task in failed}
    below = set(graph.done).intersection(reached(dependents_of(graph), failed))
    return {task for task in below if isinstance(text := graph.results.get(task), str) and text in texts}


def dependents_of(graph: GraphLike) -> dict[str, list[str]]:
    """Task -> the tasks that depend on it; those that nothing depends on are left out."""
    dependents: dict[str, list[str]] = {}
    for task, needs in graph.dependencies.items():
        for need in dict.fromkeys(needs):
            dependents.setdefault(need, []).append(task)
    return dependents


def reached(dependents: Mapping[str, list[str]], tasks: Iterable[str], beyond: Container[str] = ()) -> list[str]:
    """All that depends on these tasks, directly or not, as far as the way there doesn't lead to a task of `beyond`."""
    found: dict[str, None] = {}
    todo = list(tasks)
    while todo:
        new = [task for task in dependents.get(todo.pop(), ()) if task not in found and task not in beyond]
        found.update(dict.fromkeys(new))
        todo += new
    return list(found)


def named(graph: GraphLike, tasks: str | Iterable[str]) -> list[str]:
    """One name or several, checked."""
    names = [tasks] if isinstance(tasks, str) else list(tasks)
    unknown = [name for name in names if name not in graph.dependencies]
    if unknown:
        listed = "; ".join(f"{name!r}{near(name, graph.dependencies)}" for name in unknown)
        raise UnknownIdError(f"graph {graph.name!r} has no task {listed}")
    return names


# ---- changing --------------------------------------------------------------------------------------------------------


def mark_as_done(graph: G, task: str | Iterable[str]) -> G:
    """Let these tasks count as done; returns the same graph. UnknownIdError: something is no task."""
    _add_done(graph, named(graph, task))
    return graph


def mark_as_done_except(graph: G, task: str | Iterable[str]) -> G:
    """Let all tasks but these count as done; returns the same graph. UnknownIdError: something is no task."""
    spared = set(named(graph, task))
    _add_done(graph, [name for name in graph.dependencies if name not in spared])
    return graph


def reset_tasks(graph: G, tasks: str | Iterable[str]) -> G:
    """Let these tasks, and all that depend on them, run again; returns the same graph. UnknownIdError: no such task."""
    names = named(graph, tasks)
    rerun = {*names, *reached(dependents_of(graph), names)}
    for task in rerun.intersection(graph.done):
        graph.results[task] = None
    graph.done[:] = [task for task in graph.done if task not in rerun]
    graph.in_progress[:] = [task for task in graph.in_progress if task not in rerun]
    return graph


def reset_failed_tasks(graph: G) -> G:
    """Let the tasks that failed, and all that depend on them, run again; returns the same graph."""
    return reset_tasks(graph, failed_tasks(graph))


def record(graph: GraphLike, results: Mapping[str, Any], failures: Mapping[str, BaseException]) -> None:
    """Note what became of tasks: what they returned, and what they failed with; then what can't run because of it."""
    graph.results.update(results)
    graph.results.update(failures)
    _add_done(graph, [*results, *failures])
    noted: dict[str, BaseException] | None = getattr(graph, "failures", None)
    if noted is not None:
        noted.update(failures)
    give_up_behind(graph, failures)


def give_up_behind(graph: GraphLike, failures: Collection[str]) -> None:
    """Let all that these failed tasks keep from running count as not run."""
    if not failures:
        return
    done = set(graph.done)
    ended, dependents = done - not_run_tasks(graph), dependents_of(graph)
    for task in failures:
        lost = [child for child in reached(dependents, [task], beyond=ended) if child not in done]
        graph.results.update(dict.fromkeys(lost, NOT_RUN.format(task)))
        graph.done.extend(lost)
        ended.update(lost)
        done.update(lost)


def _add_done(graph: GraphLike, tasks: Iterable[str]) -> None:
    done = set(graph.done)
    graph.done.extend(task for task in dict.fromkeys(tasks) if task not in done)
