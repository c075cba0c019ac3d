"""A pytest plugin: `nerv.interop.dask.get` stands in for Dask's threaded and synchronous schedulers, wherever they are.

Dask's modules bind its schedulers when they are imported, so the plugin is loaded before any test (`-p`) and changes
each module and each class that has one.
"""

import sys

import dask.array
import dask.bag
import dask.delayed
import dask.local
import dask.threaded

import nerv.interop.dask

THREADED = dask.threaded.get
SYNCHRONOUS = dask.local.get_sync


def get_sync(dsk, keys, **options):
    """One task after the other."""
    return nerv.interop.dask.get(dsk, keys, **{**options, "num_workers": 1})


STAND_INS = {THREADED: nerv.interop.dask.get, SYNCHRONOUS: get_sync}


def replace_in(names):
    """Replace the schedulers among some names' values; returns what they were replaced by."""
    return {name: STAND_INS[value] for name, value in names.items() if is_scheduler(value)}


def is_scheduler(value):
    return value is THREADED or value is SYNCHRONOUS


def bare(value):
    """What a staticmethod holds."""
    return value.__func__ if isinstance(value, staticmethod) else value


def install():
    """Put the stand-ins in place, everywhere in Dask."""
    for module in [module for name, module in sys.modules.items() if name.partition(".")[0] == "dask"]:
        vars(module).update(replace_in(vars(module)))
        for kind in [value for value in vars(module).values() if isinstance(value, type)]:
            for name, value in list(vars(kind).items()):
                if is_scheduler(bare(value)):
                    setattr(kind, name, staticmethod(STAND_INS[bare(value)]))
    schedulers = dask.base.named_schedulers
    schedulers.update(replace_in(schedulers))


install()
