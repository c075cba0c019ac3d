"""Whether two tasks are alike, for `==` between workflows. Values of the user's are compared by identity."""

from __future__ import annotations

from typing import Any, Final

from nerv.functions import same_callables
from nerv.references import First, Missing, Output, Param
from nerv.tasks import TaskDef

_BY_VALUE: Final = frozenset(map(id, (str, int, float, bytes, bool, Missing)))


def alike(one: Any, other: Any) -> bool:
    """Whether two tasks, of graphs of the same shape, call the same and are given the same; of nodes, whether they do
    the same. Settings of nodes that are no tasks are compared as callables, workflows or values.
    """
    if isinstance(one, TaskDef) and isinstance(other, TaskDef):
        if one.settings or other.settings:
            pairs = zip(one.settings, other.settings, strict=True)
            return type(one) is type(other) and all(alike(a, b) for a, b in pairs)
        if getattr(type(one.fn), "is_nerv_entry", False) and type(one.fn) is type(other.fn):
            return bool(one.fn.workflow == other.fn.workflow)  # type: ignore[union-attr]  # a node's target
        return same_callables(one.fn, other.fn) and same_values(one.given, other.given)
    if getattr(type(one), "is_nerv_graph", False):
        return bool(one == other)
    if (type(one) is list or type(one) is tuple) and type(one) is type(other):
        return len(one) == len(other) and all(map(alike, one, other))
    return same_values(one, other) or (callable(one) and callable(other) and same_callables(one, other))


def same_values(one: Any, other: Any) -> bool:
    """Whether two argument values are alike: references by what they stand for, containers by their members, the
    user's own values by identity (plain immutable builtins also by value).
    """
    if one is other:
        return True
    kind = type(one)
    if kind is not type(other):
        return False
    if kind is Output:
        steps = len(one.path) == len(other.path) and all(
            a[0] == b[0] and same_values(a[1], b[1]) for a, b in zip(one.path, other.path, strict=True)
        )
        return bool(one.task_id == other.task_id and steps and same_values(one.default, other.default))
    if kind is First:
        return bool(one.ids == other.ids) and same_values(one.whole, other.whole)
    if kind is Param:
        return bool(one.name == other.name and same_values(one.default, other.default))
    if kind is dict:
        return one.keys() == other.keys() and all(same_values(one[key], other[key]) for key in one)
    if kind is list or kind is tuple or (isinstance(one, tuple) and hasattr(one, "_fields")):
        return len(one) == len(other) and all(same_values(a, b) for a, b in zip(one, other, strict=True))
    return id(kind) in _BY_VALUE and bool(one == other)


def same_or_equal(one: Any, other: Any) -> bool:
    """Whether two values of a param are the same or equal: a date is made anew each time it is given."""
    if same_values(one, other):
        return True
    try:
        return type(one) is type(other) and bool(one == other)
    except Exception:  # noqa: BLE001  the user's __eq__ may do anything
        return False
