"""`PoolFactory`: makes a pool by name when the first task needs it."""

from __future__ import annotations

from nerv.pools.base import Pool
from nerv.settings import Settings

BUILT_IN = ("thread", "process", "async", "inline")


class PoolFactory:
    """Makes the pools that the settings describe. Put your own in its place to bring pools of your own."""

    def make(self, name: str, settings: Settings) -> Pool:
        """A new pool by one of the built-in names, or a name of the `pools` setting."""
        kind, workers = name, settings.workers
        if name in settings.pools:
            own = settings.pools[name]
            if own.kind == "dask":
                return _dask(name, own.workers, own.address)
            kind, workers = own.kind, own.workers
        elif name == "process":
            workers = settings.processes
        elif name == "async":
            workers = settings.max_coroutines
        return _MAKERS[kind](name, workers)


def _thread(name: str, workers: int) -> Pool:
    from nerv.pools.thread import ThreadPool

    return ThreadPool(name, workers)


def _auto(name: str, workers: int) -> Pool:  # noqa: ARG001  it measures one call at a time
    from nerv.pools.auto import AutoPool

    return AutoPool(name)


def _process(name: str, workers: int) -> Pool:
    from nerv.pools.process import ProcessPool

    return ProcessPool(name, workers)


def _async(name: str, workers: int) -> Pool:
    from nerv.pools.coroutine import AsyncPool

    return AsyncPool(name, workers)


def _dask(name: str, workers: int, address: str | None) -> Pool:
    from nerv.pools.dask import DaskPool

    return DaskPool(name, workers, address)


def _inline(name: str, workers: int) -> Pool:  # noqa: ARG001  there is one caller
    from nerv.pools.inline import InlinePool

    return InlinePool(name)


_MAKERS = {"thread": _thread, "process": _process, "async": _async, "inline": _inline, "auto": _auto}
