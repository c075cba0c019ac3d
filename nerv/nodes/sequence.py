"""`Sequence`: one step after another, each given the last one's result."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from msgspec import UNSET
from msgspec.structs import force_setattr as _set

from nerv.context import TaskContext
from nerv.nodes.base import Node, after, as_task, required, stays_here
from nerv.outcomes import Grow
from nerv.references import Output
from nerv.tasks import TaskDef


class Sequence(Node, frozen=True, eq=False):
    """A then B then C. The result is the last one's.

    Args:
        id: the steps' tasks are called `id[0]`, `id[1]` ...
        steps: functions or TaskDefs (the last result is the first positional argument), or Workflows (it is the param
            `item`).
        value: what the first step is given.
        fields: as of all nodes.

    Raises:
        WorkflowDefinitionError: a field's value can't be right.
    """

    steps: Any = UNSET
    value: Any = None

    own: ClassVar[tuple[str, ...]] = ("steps", "value")
    values: ClassVar[tuple[str, ...]] = ("value",)
    runs: ClassVar[tuple[str, ...]] = ("steps",)
    shape: ClassVar[tuple[str, str]] = ("[/", "/]")

    def arguments(self, problems: list[str], targets: list[TaskDef]) -> tuple[Any, ...]:
        """The first value."""
        steps = required(self.steps, "steps=, a list of functions, TaskDefs or Workflows", problems)
        if steps is UNSET:
            return ()
        if isinstance(steps, (str, TaskDef)) or not isinstance(steps, Iterable):
            problems.append(f"steps takes a list of functions, TaskDefs or Workflows, not {steps!r}")
            return ()
        _set(self, "steps", tuple(steps))
        targets += [as_task(step, f"step {place}", problems) for place, step in enumerate(self.steps)]
        return (self.value,)

    @stays_here
    def act(self, ctx: TaskContext, value: Any) -> Any:  # noqa: ARG002
        """Add the steps."""
        if not self._targets:
            return value
        tasks = [after(self._targets[0], value)]
        tasks += [after(step, Output(f"[{place}]")) for place, step in enumerate(self._targets[1:])]
        return Grow(tasks=tasks, indexed=True, result=Output(f"[{len(tasks) - 1}]"))
