"""`Timer`: sleeps without a worker."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from nerv.context import TaskContext
from nerv.nodes.base import Node, stays_here
from nerv.outcomes import Wait
from nerv.references import Reference
from nerv.tasks import TaskDef


class Timer(Node, frozen=True, eq=False):
    """Completes after so many seconds, or at a moment. Its result is None.

    Args:
        id: its id.
        seconds: how long, or a reference to it.
        at: until when: an aware datetime or epoch seconds, or a reference to one.
        fields: as of all nodes.

    Raises:
        WorkflowDefinitionError: a field's value can't be right.
    """

    seconds: float | Reference | None = None
    at: datetime | float | Reference | None = None

    own: ClassVar[tuple[str, ...]] = ("seconds", "at")
    values: ClassVar[tuple[str, ...]] = ("seconds", "at")
    shape: ClassVar[tuple[str, str]] = ("((", "))")

    def arguments(self, problems: list[str], targets: list[TaskDef]) -> tuple[Any, ...]:  # noqa: ARG002
        """Both."""
        if (self.seconds is None) == (self.at is None):
            problems.append("it needs seconds= or at=, one of them")
        elif not isinstance(self.seconds, Reference) and not isinstance(self.at, Reference):
            try:
                Wait(seconds=self.seconds, at=self.at)
            except (TypeError, ValueError) as error:
                problems.append(str(error).replace("Wait's", "its"))
        return self.seconds, self.at

    @property
    def note(self) -> str:
        """How long, or until when."""
        if isinstance(self.seconds, Reference) or isinstance(self.at, Reference):
            return ""
        return f"until {self.at}" if self.seconds is None else f"{self.seconds:g} s"

    @stays_here
    def act(self, ctx: TaskContext, seconds: Any, at: Any) -> Wait:  # noqa: ARG002
        """Wait."""
        return Wait(seconds=seconds, at=at)
