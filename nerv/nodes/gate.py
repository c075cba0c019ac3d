"""`Gate`: a human in the loop."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from nerv.context import TaskContext
from nerv.nodes.base import Node, stays_here
from nerv.outcomes import Hold
from nerv.tasks import TaskDef


class Gate(Node, frozen=True, eq=False):
    """Waits for `execution.signal(gate_id, value)`; its result is the value.

    Args:
        id: its id, and the name of its signal.
        prompt: the question; `execution.waiting()` shows it.
        timeout: seconds that it waits; None: as long as it takes.
        on_timeout: what happens after that: "fail", with a `TaskTimeoutError`, or "skip", like a branch that
            isn't taken. A default answer is the gate's `fallback`.
        fields: as of all nodes.

    Raises:
        WorkflowDefinitionError: a field's value can't be right.
    """

    prompt: str = ""
    on_timeout: Literal["fail", "skip"] = "fail"

    order: ClassVar[tuple[str, ...]] = ("id", "prompt", "timeout", "on_timeout")
    own: ClassVar[tuple[str, ...]] = ("prompt", "on_timeout")
    values: ClassVar[tuple[str, ...]] = ("prompt",)
    shape: ClassVar[tuple[str, str]] = ("{{", "}}")

    def arguments(self, problems: list[str], targets: list[TaskDef]) -> tuple[Any, ...]:  # noqa: ARG002
        """Nothing."""
        if not isinstance(self.prompt, str):
            problems.append(f"prompt takes a str, not {self.prompt!r}")
        if self.on_timeout not in ("fail", "skip"):
            problems.append(f'on_timeout takes "fail" or "skip", not {self.on_timeout!r}')
        return ()

    @property
    def note(self) -> str:
        """The question."""
        return self.prompt

    @stays_here
    def act(self, ctx: TaskContext) -> Hold:
        """Wait."""
        return Hold(signal=ctx.task_id, prompt=self.prompt, late=self.on_timeout)
