"""What comes back from a worker process: how a call ended, and what its task has logged."""

from __future__ import annotations

import logging
import pickle

from nerv.calls import Call
from nerv.errors import described
from nerv.pools import wire


def settle(call: Call, kind: int, body: memoryview) -> None:
    """Set the call's value or error to what the worker has sent."""
    try:
        if kind == wire.DONE:
            call.value = pickle.loads(body)
            return
        error = wire.unpacked_error(body)
        if kind != wire.FAILED:
            error.args = (f"task {call.task.id!r}: {error}",)
        call.error = error
        call.unsent = kind == wire.UNFIT
        if kind == wire.BROKEN and call.facts is not None and call.live.placement is not None:
            call.live.placement.spoilt(call)
    except BaseException as error:  # noqa: BLE001  (unpickling runs the value's own code)
        text = f"task {call.task.id!r}: its result can't be unpickled in the main process: {described(error)}"
        call.error = wire.unsendable(text)
        call.error.__cause__ = error


def record(call: Call, body: memoryview) -> None:
    """Keep a log entry, and show it to the logger `nerv.tasks`, as a task in this process would have done."""
    entry = pickle.loads(body)
    call.record(entry)
    logger = logging.getLogger("nerv.tasks")
    level = logging.getLevelNamesMapping().get(entry.level, logging.INFO)
    if logger.isEnabledFor(level):
        known = {"name": f"nerv.tasks.{entry.task_id}", "levelno": level, "levelname": entry.level}
        logger.handle(logging.makeLogRecord({**known, "msg": entry.message, "created": entry.timestamp}))
