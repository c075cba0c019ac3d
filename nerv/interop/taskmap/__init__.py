"""taskmap's functions on nerv's engine, and the way from one library's graphs to the other's.

A program that uses taskmap changes its import, `from nerv.interop import taskmap`, and docs/how-to/from-taskmap.md says
what is different then. The library taskmap itself is loaded by `run_with_taskmap` only.

One file a noun, in the order in which to read them: `graph` (what is known of tasks), `creation` (made and checked),
`steps` (how a function is called), `conversion` (graph to workflow and back), `running`, `logs`, `oracle`. Each name is
imported from its file when it is first used: every worker process of a program that imports this imports it too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = [  # noqa: RUF022  (grouped by headings)
    # taskmap's own names
    "create_graph", "run", "run_parallel", "run_async", "run_parallel_async", "run_task", "run_task_async",
    "get_ready_tasks", "get_all_children", "mark_as_done", "mark_as_done_except", "reset_tasks", "reset_failed_tasks",
    "in_progress",
    # from one to the other
    "to_workflow", "to_taskmap", "task_id", "run_with_taskmap", "Graph", "GraphError",
]  # fmt: skip

if TYPE_CHECKING:
    from nerv.interop.taskmap.conversion import task_id, to_taskmap, to_workflow
    from nerv.interop.taskmap.creation import create_graph
    from nerv.interop.taskmap.graph import (
        Graph,
        GraphError,
        get_all_children,
        get_ready_tasks,
        mark_as_done,
        mark_as_done_except,
        reset_failed_tasks,
        reset_tasks,
    )
    from nerv.interop.taskmap.logs import in_progress
    from nerv.interop.taskmap.oracle import run_with_taskmap
    from nerv.interop.taskmap.running import run, run_async, run_parallel, run_parallel_async, run_task, run_task_async

_HOMES = {
    "creation": ("create_graph",),
    "running": ("run", "run_parallel", "run_async", "run_parallel_async", "run_task", "run_task_async"),
    "logs": ("in_progress",),
    "conversion": ("to_workflow", "to_taskmap", "task_id"),
    "oracle": ("run_with_taskmap",),
}
"""Who defines what; all else that is in `__all__`, `graph` does."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'nerv.interop.taskmap' has no attribute {name!r}")
    import importlib

    home = next((home for home, names in _HOMES.items() if name in names), "graph")
    value = getattr(importlib.import_module(f"nerv.interop.taskmap.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
