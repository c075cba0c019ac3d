"""A Dask graph as the engine's own: no Workflow is made of it. Its nodes become `Step`s, which are what the engine asks
of a TaskDef and no more, because what is made for each of a million tiny tasks decides what they cost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import copy_context
from typing import Any, Final, cast

from nerv.bus import EventBus
from nerv.clock import SystemClock
from nerv.engine import Engine
from nerv.interop.dask.nodes import Ranked
from nerv.live import Live
from nerv.pools.base import Pool
from nerv.scheduler import Scheduler
from nerv.tasks import TaskDef
from nerv.workflows import Workflow

NOTHING: Final[Mapping[str, Any]] = {}


class Step:
    """A node as the engine's task: `fn` is called with its number. All else is as in a plain TaskDef (see below)."""

    __slots__ = ("args", "fn", "id")

    def __init__(self, key: Any, fn: Callable[[int], Any], number: int) -> None:
        self.id = key
        self.fn = fn
        self.args = (number,)

    def bind(self, values: object, params: object) -> tuple[tuple[int], Mapping[str, Any]]:  # noqa: ARG002
        """The number alone: `fn` reads the values that it needs itself."""
        return self.args, NOTHING


_PLAIN: Final = TaskDef("plain", int)
for _field in TaskDef.__struct_fields__:
    if _field not in Step.__slots__:
        setattr(Step, _field, getattr(_PLAIN, _field))


class Steps:
    """The part of a Workflow that `Live` asks for."""

    name = "dask"
    timeout = None

    def __init__(self, ids: list[Any], definitions: list[Step]) -> None:
        self.ids = ids
        self.definitions = definitions


class Hasty(Scheduler):
    """Calls `on_failure`, under the engine's lock, as soon as a task has failed, whatever else still runs."""

    on_failure: Callable[[], object]

    def failed(self, number: int, now: float, error: object) -> None:
        """A task failed."""
        super().failed(number, now, error)
        self.on_failure()


def engine_for(pool: Pool) -> Engine:
    """An engine for one graph, with one pool and nobody listening."""
    engine = Engine(SystemClock(), EventBus(0), grace=0.0)
    engine.adopt(pool)
    return engine


def live_of(graph: Ranked, engine: Engine, pool: Pool, step: Callable[[int], Any], over: Callable[[], object]) -> Live:
    """A graph as an execution that hasn't begun. Its context variables are those of the caller; values are by key.

    Args:
        graph: the graph.
        engine: the engine that will run it.
        pool: where all its tasks run.
        step: called for each task with its number; the task's result is what it returns.
        over: called when everything has ended, and when a task has failed.
    """
    keys = list(graph.keys)
    tasks = [Step(key, step, number) for number, key in enumerate(keys)]
    live = Live(
        engine=engine,
        execution_id="dask",
        workflow=cast("Workflow", Steps(keys, tasks)),
        workflow_id="dask",
        params=NOTHING,
        services=None,
        contextvars=copy_context(),
        epoch=0.0,
    )
    none = bytes(len(graph))  # for each task: the plain run_when, the first pool, no context
    live.pools = [pool]
    live.wants_context = cast("list[bool]", none)
    live.scheduler = scheduler = Hasty(graph, live.log.ids, none, none, 1, live.log.records)
    scheduler.on_failure = over
    live.on_end.append(over)
    return live
