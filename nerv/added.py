"""`Added`: a task that another one has added, as the engine runs it: it knows by itself what its names mean."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

from msgspec.structs import force_setattr as _set

from nerv.names import Scope
from nerv.tasks import TaskDef


class Added(TaskDef, frozen=True, eq=False, kw_only=True):
    """A TaskDef whose id is its full one, and whose references are names in a scope. It was checked as what it was.

    Attributes:
        scope: what its Outputs stand for.
        own_params: what it sees as params; None: the execution's.
    """

    scope: Scope | None = None
    own_params: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        """Nothing is checked again."""

    def seen(self, values: Mapping[str, Any], params: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Its scope, and its own params."""
        return values if self.scope is None else self.scope, params if self.own_params is None else self.own_params

    def bind(self, values: Mapping[str, Any], params: Mapping[str, Any]) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """The arguments of one attempt, references filled in from its scope."""
        return super().bind(*self.seen(values, params))


def added(task: TaskDef, task_id: str, scope: Scope, params: Mapping[str, Any] | None) -> Added:
    """The task under its full id."""
    fields = {name: getattr(task, name) for name in _FIELDS}
    return Added(id=task_id, scope=scope, own_params=params, **fields)


def with_item(template: Added, task_id: str, item: Any) -> Added:
    """A copy with an id of its own, and the item as its first argument."""
    task = copy.copy(template)
    _set(task, "id", task_id)
    _set(task, "args", (item, *template.args))
    return task


_FIELDS: Final = tuple(name for name in TaskDef.__struct_fields__ if name != "id")
