"""`Abroad`: what of a nerv task has no place in somebody else's graph."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from nerv.errors import Problem
from nerv.tasks import TaskDef

_PLAIN: Final = TaskDef("plain")


class Abroad:
    """A place where tasks may go.

    Args:
        kind: of the problems.
        whose: as in "... which a Dask graph hasn't got".
        carried: the fields of a TaskDef that have a place there, or that nobody misses.
    """

    def __init__(self, kind: str, whose: str, carried: Collection[str]) -> None:
        self._kind = kind
        self._whose = whose
        self._missed = [
            field for field in TaskDef.__struct_fields__ if field not in carried and not field.startswith("_")
        ]

    def problems(self, task: TaskDef, params: Mapping[str, Any], more: Iterable[str]) -> list[Problem]:
        """What can't go there of a task; `more`: what it asks for beside its fields."""
        if type(task) is not TaskDef:
            text = f"task {task.id!r} is a {type(task).__name__}; {self._whose} has no nodes"
            return [Problem(task.id, "node", text)]
        fields = [(field, getattr(task, field)) for field in self._missed]
        asked = [f"{field}={value!r}" for field, value in fields if not _same(value, getattr(_PLAIN, field))]
        texts = [f"task {task.id!r} asks for {one}, which {self._whose} hasn't got" for one in (*asked, *more)]
        missing = [name for name, is_required in task.params.items() if is_required and name not in params]
        return [
            *[Problem(task.id, self._kind, text) for text in texts],
            *[
                Problem(task.id, "param", f"task {task.id!r} needs the param {name!r}; pass params that hold it")
                for name in missing
            ],
        ]


def _same(value: object, default: object) -> bool:
    return value is default or (isinstance(value, (str, bool, int)) and value == default)
