"""`Router`: which branch is taken."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, ClassVar

from msgspec import UNSET

from nerv.context import TaskContext
from nerv.errors import NervError, near
from nerv.nodes.base import Node, required, stays_here
from nerv.outcomes import Choice
from nerv.tasks import TaskDef


class Router(Node, frozen=True, eq=False):
    """Takes the branches that a value stands for. The result is the value. The branches depend on the router.

    Args:
        id: its id.
        value: what decides, or a reference to it.
        routes: value -> id or ids (found by equality and type), or a list of (predicate, ids), of which the first that
            holds counts.
        default: id or ids, if nothing else is chosen; None: that is an error.
        fields: as of all nodes.

    Raises:
        WorkflowDefinitionError: a field's value can't be right.
    """

    value: Any = UNSET
    routes: Any = UNSET
    default: Any = None

    own: ClassVar[tuple[str, ...]] = ("value", "routes", "default")
    values: ClassVar[tuple[str, ...]] = ("value",)
    shape: ClassVar[tuple[str, str]] = ("{", "}")

    def arguments(self, problems: list[str], targets: list[TaskDef]) -> tuple[Any, ...]:  # noqa: ARG002
        """The value."""
        value = required(self.value, "value=, what decides", problems)
        routes = required(self.routes, "routes=, a mapping of values to ids", problems)
        if routes is UNSET:
            return (value,)
        if isinstance(routes, str) or not isinstance(routes, (Mapping, list, tuple)):
            problems.append(f"routes takes a mapping of values to ids, or a list of (predicate, ids), not {routes!r}")
            return (value,)
        for _, ids in self._pairs(problems):
            if not all(isinstance(one, str) for one in _ids(ids)):
                problems.append(f"a route leads to an id or a list of ids, not {ids!r}")
        if not all(isinstance(one, str) for one in _ids(self.default)):
            problems.append(f"default takes an id or a list of ids, not {self.default!r}")
        return (value,)

    def _pairs(self, problems: list[str]) -> list[tuple[Any, Any]]:
        if isinstance(self.routes, Mapping):
            return list(self.routes.items())
        wrong = [
            pair for pair in self.routes
            if not (isinstance(pair, (tuple, list)) and len(pair) == 2 and callable(pair[0]))
        ]  # fmt: skip
        problems += [f"a route in a list is (predicate, ids), not {pair!r}" for pair in wrong]
        return [] if wrong else [tuple(pair) for pair in self.routes]

    @property
    def branches(self) -> list[str]:
        """The ids of all branches."""
        ids = [one for _, some in self._pairs([]) for one in _ids(some)]
        return list(dict.fromkeys([*ids, *_ids(self.default)]))

    def objections(self, dependents: Collection[str], known: Mapping[str, TaskDef]) -> list[str]:
        """Branches that aren't there, or don't depend on it."""
        unknown = [
            f"it routes to {one!r}, which is no task{near(one, known)}" for one in self.branches if one not in known
        ]
        return unknown + [
            f"it routes to {one!r}, which doesn't depend on it; write dependencies=[{self.id!r}] there"
            for one in self.branches
            if one in known and one not in dependents
        ]

    def leads_by(self, task_id: str) -> str:
        """The values or predicates that lead there."""
        led = [key for key, ids in self._pairs([]) if task_id in _ids(ids)]
        by = [str(getattr(key, "__name__", "")) if callable(key) else repr(key) for key in led]
        by += ["else"] if task_id in _ids(self.default) else []
        return ", ".join(one for one in by if one and one != "<lambda>")

    @stays_here
    def act(self, ctx: TaskContext, value: Any) -> Choice:
        """Choose."""
        chosen = self._chosen(value)
        if chosen is None:
            chosen = self.default
        if chosen is None:
            shown = ", ".join(repr(key) for key in self.routes) if isinstance(self.routes, Mapping) else "a predicate"
            raise NervError(
                f"task {ctx.task_id!r} has no route for {value!r}: there are routes for {shown}; give it a default="
            )
        return Choice(_ids(chosen), value, self.branches)

    def _chosen(self, value: Any) -> Any:
        if isinstance(self.routes, Mapping):
            return next((ids for key, ids in self.routes.items() if type(key) is type(value) and key == value), None)
        predicates: Iterable[tuple[Callable[[Any], Any], Any]] = self.routes
        return next((ids for holds, ids in predicates if holds(value)), None)


def _ids(some: Any) -> tuple[Any, ...]:
    if some is None:
        return ()
    return (some,) if isinstance(some, str) or not isinstance(some, Iterable) else tuple(some)
