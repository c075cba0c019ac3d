"""`get`: nerv as a scheduler for Dask."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

from dask import config
from dask.callbacks import local_callbacks
from dask.core import flatten
from dask.local import nested_get
from dask.system import CPU_COUNT

from nerv.interop.dask import attended, quick
from nerv.interop.dask.nodes import Culled, as_nodes


def get(
    dsk: Mapping[Any, Any],
    keys: Any,
    cache: MutableMapping[Any, Any] | None = None,
    num_workers: int | None = None,
    pool: Any = None,
    *,
    callbacks: Any = None,
    rerun_exceptions_locally: bool | None = None,
    **_: Any,
) -> Any:
    """Work out keys of a Dask graph on nerv's threads: `dask.config.set(scheduler=nerv.interop.dask.get)`.

    As `dask.threaded.get`: what the keys don't need isn't run, tasks see the caller's context variables, and a get
    inside a task is fine. Options that are None are looked up in Dask's configuration, under the same names.

    Args:
        dsk: the graph, a mapping of keys to tasks; or whatever has a `__dask_graph__`.
        keys: a key, or a list of keys and lists.
        cache: results that are known already, by key; it is kept up to date.
        num_workers: threads; default: `dask.system.CPU_COUNT`. With 1 tasks run in the caller's own, for debuggers.
        pool: a `concurrent.futures.Executor` or `multiprocessing.pool.Pool`, in place of threads of its own.
        callbacks: Dask's callbacks, as tuples of five functions; default: those that are active.
        rerun_exceptions_locally: run a task that failed again in this thread, for a debugger to see.
        **_: what else `compute` was given; it is for other schedulers.

    Returns:
        The result of the key; for a list, a tuple.

    Raises:
        KeyError: no such key.
        ValueError, RuntimeError: a task needs what isn't in the graph, or itself.
        BaseException: the first error of a task, as the task raised it. What runs at that moment isn't waited for.
        KeyboardInterrupt: Ctrl-C; likewise.
    """
    wanted = set(flatten(keys)) if isinstance(keys, list) else {keys}
    pool, cache = _chosen("pool", pool), _chosen("cache", cache)
    workers = num_workers or config.get("num_workers", None) or CPU_COUNT
    again = bool(_chosen("rerun_exceptions_locally", rerun_exceptions_locally))
    with local_callbacks(callbacks) as active:
        if not active and pool is None and cache is None and not again:
            return nested_get(keys, quick.run(Culled(as_nodes(dsk), wanted), wanted, workers))
        run = attended.Attended(
            as_nodes(dsk, cache or ()),
            wanted,
            cache={} if cache is None else cache,
            callbacks=tuple(active),
            again=again,
        )
        return nested_get(keys, run.run_in(pool, workers))


def _chosen(name: str, given: Any) -> Any:
    """What was given, or what Dask's configuration says."""
    return config.get(name, None) if given is None else given
