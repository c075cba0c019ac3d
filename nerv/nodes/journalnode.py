"""`JournalNode`: certified mail on each wire that leaves it."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from msgspec import UNSET

from nerv.nodes.base import Node, required, stays_here
from nerv.tasks import TaskDef

HOOK_METHODS: Final = ("on_intent", "on_dispatched", "on_acknowledged", "on_failed", "on_lane_complete")
"""What a `DispatchHook` (nerv/journal/deliveries.py) has."""


class JournalNode(Node, frozen=True, eq=False):
    """Passes its value on, and records the delivery to each task that depends on it.

    Args:
        id: its id.
        value: what is passed on, or a reference to it.
        hook: a `DispatchHook`; None: the engine's journal, if there is one.
        fields: as of all nodes.

    Raises:
        WorkflowDefinitionError: a field's value can't be right.
    """

    value: Any = UNSET
    hook: Any = None

    own: ClassVar[tuple[str, ...]] = ("value", "hook")
    values: ClassVar[tuple[str, ...]] = ("value",)
    shape: ClassVar[tuple[str, str]] = ("[(", ")]")

    def arguments(self, problems: list[str], targets: list[TaskDef]) -> tuple[Any, ...]:  # noqa: ARG002
        """The value."""
        value = required(self.value, "value=, what is passed on", problems)
        missing = [
            name for name in HOOK_METHODS if self.hook is not None and not callable(getattr(self.hook, name, None))
        ]
        if missing:
            problems.append(f"hook takes a DispatchHook, and {self.hook!r} has no {missing[0]}")
        return (value,)

    @stays_here
    def act(self, value: Any) -> Any:
        """Pass it on."""
        return value

    act.delivers = True  # type: ignore[attr-defined]  # read where tasks are admitted, and by nerv/wires.py
