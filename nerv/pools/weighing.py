"""What it would cost to send a call to a worker process, for calls that ran in a thread."""

from __future__ import annotations

import pickle
from math import inf
from time import thread_time
from typing import Any, Final

from nerv.calls import Call
from nerv.errors import described
from nerv.pools.wire import PROTOCOL, packed
from nerv.verdicts import DEAR, Figures

COPIED: Final = 1e9
"""Bytes a second that are copied into a pipe, by and large."""


def weighed(call: Call, figures: Figures) -> Figures:
    """The figures of a call that has ended, with what sending it would have taken, or why it couldn't be sent."""
    if call.asked_for_services:
        return figures._replace(objection="it uses ctx.services, which worker processes haven't got")
    what, sending, most = "its arguments", 0.0, DEAR * figures.held
    try:
        sending = cost(call.bound(), most)
        if call.error is None:
            what = "its result"
            sending += cost(call.value, most)
    except Exception as error:  # noqa: BLE001  pickling runs the values' own code
        return figures._replace(objection=f"{what} can't be sent to one: {described(error)}")
    return figures._replace(sending=2 * sending)  # it is unpacked again on the other side


class _TooDearError(Exception):
    """Pickling takes longer than it may."""


class _Scales:
    """A file that keeps nothing, and raises when it is written to after `until` (of the thread's CPU time)."""

    def __init__(self, until: float) -> None:
        self._until = until
        self.apart = 0  # bytes of buffers, which aren't written

    def write(self, data: Any) -> int:
        if thread_time() > self._until:
            raise _TooDearError
        return len(data)

    def take(self, buffer: pickle.PickleBuffer) -> None:
        self.apart += buffer.raw().nbytes


def cost(value: Any, most: float) -> float:
    """Seconds of CPU that it takes to pickle a value; `inf`: some more than `most`.

    Raises:
        Exception: it can't be sent, for whatever reason the value's own code has.
    """
    began = thread_time()
    scales = _Scales(began + most)
    try:
        pickle.Pickler(scales, PROTOCOL, buffer_callback=scales.take).dump(value)
    except _TooDearError:
        return inf
    except Exception:  # noqa: BLE001  (cloudpickle may do better)
        packed(value)
    return thread_time() - began + scales.apart / COPIED
