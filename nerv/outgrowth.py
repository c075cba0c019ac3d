"""How the outcome of a task that steers is kept in the journal, and found again.

What a task has added, or waits for, is pickled when it returned it. What the workflow has anyway isn't: the task
itself, the tasks inside a node and their functions are *anchors*, and go by name. So a Buffer over a local function can
be kept, and corrected code is what goes on. Other functions must be importable or picklable.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from typing import Any

import cloudpickle

from nerv.errors import SerializationError, described
from nerv.outcomes import Expand, Grow, Items
from nerv.tasks import TaskDef


def anchors(task: TaskDef) -> dict[int, tuple[Any, ...]]:
    """By id of an object that the workflow has: its name."""
    return {id(one): name for name, one in _named(task)}


def _named(task: TaskDef) -> Iterator[tuple[tuple[Any, ...], Any]]:
    yield ("task",), task
    yield ("fn",), task.fn
    node = getattr(task.fn, "__self__", None)
    if isinstance(node, TaskDef):
        yield ("node",), node
    for index, one in enumerate(getattr(node, "inside", ())):
        yield ("inside", index), one
        yield ("inside fn", index), one.fn


class _Pickler(cloudpickle.CloudPickler):  # type: ignore[misc]  # cloudpickle carries no types
    def __init__(self, file: io.BytesIO, task: TaskDef) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._anchors = anchors(task)

    def persistent_id(self, obj: Any) -> Any:
        return self._anchors.get(id(obj))


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, task: TaskDef) -> None:
        super().__init__(file)
        self._named = {name: one for name, one in _named(task)}  # noqa: C416  the ids are tuples

    def persistent_load(self, name: Any) -> Any:
        try:
            return self._named[name]
        except KeyError:
            raise pickle.UnpicklingError(f"the task has no {name} any more") from None


def kept(task: TaskDef, outcome: Any) -> bytes:
    """An outcome of a task, for the journal.

    Raises:
        SerializationError: it can't be stored; names the added task that is to blame.
    """
    try:
        return _pickled(task, outcome)
    except Exception as error:
        whose = _culprit(task, outcome)
        raise SerializationError(
            f"what task {task.id!r} returned can't be kept in the journal: {whose}{described(error)}; with a journal, "
            "the functions and arguments of added tasks must be importable or picklable"
        ) from error


def _pickled(task: TaskDef, value: Any) -> bytes:
    file = io.BytesIO()
    _Pickler(file, task).dump(value)
    return file.getvalue()


def _culprit(task: TaskDef, outcome: Any) -> str:
    tasks = outcome.tasks if isinstance(outcome, (Expand, Grow)) else ()
    for one in (tasks.task,) if isinstance(tasks, Items) else tasks:
        try:
            _pickled(task, one)
        except Exception:  # noqa: BLE001  whatever the reason, that is the one
            return f"the added task {one.id!r}: "
    return ""


def found(task: TaskDef, data: bytes) -> Any:
    """The outcome that was kept.

    Raises:
        SerializationError: it can't be rebuilt here.
    """
    try:
        return _Unpickler(io.BytesIO(data), task).load()
    except Exception as error:
        raise SerializationError(
            f"what task {task.id!r} returned before the restart can't be read from the journal: {described(error)}"
        ) from error
