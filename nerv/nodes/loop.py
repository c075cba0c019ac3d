"""`Loop`: again and again, until it is enough."""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec import UNSET

from nerv.context import TaskContext
from nerv.errors import LoopLimitError
from nerv.nodes.base import Node, as_task, required, stays_here
from nerv.outcomes import Ends, Grow, Items
from nerv.tasks import TaskDef


class Loop(Node, frozen=True, eq=False):
    """Calls a body with its last result until a predicate of that holds. The result is the last one.

    Args:
        id: the iterations are called `id[0]`, `id[1]` ...
        body: a function or TaskDef, to which the last result is the first positional argument, or a Workflow, to which
            it is the param `item`.
        until: called with each result; the loop ends when it is true.
        value: what the first iteration is given, or a reference to it.
        max_iterations: after so many the loop fails with a `LoopLimitError`.
        fields: as of all nodes.

    Raises:
        WorkflowDefinitionError: a field's value can't be right.
    """

    body: Any = UNSET
    until: Any = UNSET
    value: Any = None
    max_iterations: int = 1000

    own: ClassVar[tuple[str, ...]] = ("body", "until", "value", "max_iterations")
    values: ClassVar[tuple[str, ...]] = ("value",)
    runs: ClassVar[tuple[str, ...]] = ("body",)
    shape: ClassVar[tuple[str, str]] = ("([", "])")

    def arguments(self, problems: list[str], targets: list[TaskDef]) -> tuple[Any, ...]:
        """The first value."""
        if required(self.body, "body=, what is called again and again", problems) is not UNSET:
            targets.append(as_task(self.body, "its body", problems))
        until = required(self.until, "until=, which says of a result whether it is enough", problems)
        if until is not UNSET and not callable(until):
            problems.append(f"until takes a function of the last result, not {until!r}")
        most = self.max_iterations
        if isinstance(most, bool) or not isinstance(most, int) or most < 1:
            problems.append(f"max_iterations takes a whole number from 1, not {most!r}")
        return (self.value,)

    @property
    def note(self) -> str:
        """What it calls, until what holds."""
        until = str(getattr(self.until, "__name__", ""))
        return ", ".join(filter(None, (super().note, f"until {until}" if until and "<" not in until else "")))

    @stays_here
    def act(self, ctx: TaskContext, value: Any) -> Grow:  # noqa: ARG002
        """The first iteration."""
        return self._iteration(value)

    def _iteration(self, value: Any) -> Grow:
        return Grow(tasks=Items(self._targets[0], [value]), indexed=True, then=self.go_on)

    def go_on(self, ends: Ends) -> Any:
        """The next iteration, or the result."""
        if self.until(ends.last):
            return ends.last
        if ends.count >= self.max_iterations:
            raise LoopLimitError(
                f"task {ends.task_id!r} isn't done after {ends.count} iterations; until never held, or max_iterations "
                "is too low"
            )
        return self._iteration(ends.last)
