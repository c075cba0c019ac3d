"""Dask's graphs on nerv, and nerv's on Dask.

`dask.config.set(scheduler=nerv.interop.dask.get)` runs Dask's arrays, bags, dataframes and delayed objects on nerv's
threads. `from_dask` makes a Workflow of a Dask graph, `to_dask` a graph of a Workflow. docs/how-to/dask.md has both,
and the pool that runs tasks on a cluster (nerv/pools/dask.py).

One file a noun, in the order in which to read them: `nodes` (a graph, culled and ranked), `steps` (its tasks as the
engine's), `quick` and `attended` (the two ways to run it), `getting`, `conversion`. All need Dask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["from_dask", "get", "to_dask"]

if TYPE_CHECKING:
    from nerv.interop.dask.conversion import from_dask, to_dask
    from nerv.interop.dask.getting import get

_HOMES = {"get": "getting", "from_dask": "conversion", "to_dask": "conversion"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nerv.interop.dask' has no attribute {name!r}")
    import importlib

    try:
        value = getattr(importlib.import_module(f"nerv.interop.dask.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "dask":
            raise
        raise ImportError("nerv.interop.dask needs Dask: pip install nerv[dask]") from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
