"""What a fed flow's workflow is made of: a `Source`, where messages come in, and a `Station` for each step.

They stand for the topology: they are planned, drawn and compared like any nodes. What runs for message i is the step's
task `step[i]` (nerv/feeding.py). The Source waits until there will be no more messages, and each Station ends behind
the last of its tasks.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final, cast

from msgspec import UNSET

from nerv.context import TaskContext
from nerv.names import CLOSED
from nerv.nodes.base import Node, stays_here
from nerv.outcomes import Hold
from nerv.references import Param
from nerv.symbols import BUFFERED, Group, Symbol
from nerv.tasks import TaskDef
from nerv.triggers import Trigger
from nerv.workflows import Workflow

DIRECT: Final = -1
"""The stretch of a step that handles one message at a time."""


class Source(Node, frozen=True, eq=False):
    """Where messages come in. Its result is how many there were.

    Args:
        id: its id.
        trigger: where they come from.
        lane: the steps, as a workflow; the first ones are given the param `item`, the message.
        stretches: for each step the number of the buffer that it is behind, or DIRECT.
        limits: for each buffer how many messages may be behind it at a time; None: all.
    """

    trigger: Any = UNSET
    lane: Any = UNSET
    stretches: tuple[int, ...] = ()
    limits: tuple[int | None, ...] = ()

    own: ClassVar[tuple[str, ...]] = ("trigger", "lane", "stretches", "limits")
    shape: ClassVar[tuple[str, str]] = ("[/", "/]")
    feeds: ClassVar[bool] = True
    stands: ClassVar[bool] = True

    @property
    def symbol(self) -> Symbol:
        """What feeds it."""
        return Symbol(self.name, "", repr(self.trigger), self.shape)

    @property
    def groups(self) -> tuple[Group, ...]:
        """A frame around the steps behind each buffer."""
        steps = list(zip(self.lane.tasks, self.stretches, strict=True))
        return tuple(
            Group(
                "behind a buffer" if limit is None else f"behind a buffer, {limit} at a time",
                tuple(step for step, stretch in steps if stretch == number),
            )
            for number, limit in enumerate(self.limits)
        )

    def arguments(self, problems: list[str], targets: list[TaskDef]) -> tuple[Any, ...]:  # noqa: ARG002
        """The params that steps need, so that they are missed before it starts."""
        if not isinstance(self.trigger, Trigger):
            problems.append(f"triggered_by takes a trigger such as Manual(), not {self.trigger!r}")
        if not isinstance(self.lane, Workflow):
            problems.append(f"lane takes a Workflow, not {self.lane!r}")
            return ()
        needed = [name for name, is_required in self.lane.params.items() if is_required and name != "item"]
        return tuple(map(Param, needed))

    @property
    def inside(self) -> tuple[TaskDef, ...]:
        """The steps."""
        return tuple(self.lane.tasks.values())

    @property
    def terms(self) -> str:
        """As of all nodes; the trigger in its own words."""
        return f"{super().terms}{self.trigger!r}"

    @property
    def settings(self) -> tuple[Any, ...]:
        """As of all nodes; the trigger in its own words."""
        return (repr(self.trigger), *super().settings[1:])

    @stays_here
    def act(self, *_: Any) -> Hold:
        """Wait until there will be no more."""
        return Hold(signal=CLOSED)


class Station(Node, frozen=True, eq=False):
    """A step of a fed flow; it ends when all its messages have.

    Args:
        id: the step's id.
        step: the step.
    """

    step: Any = UNSET

    own: ClassVar[tuple[str, ...]] = ("step",)
    stands: ClassVar[bool] = True  # for tasks of all messages: it isn't called for any of them

    def arguments(self, problems: list[str], targets: list[TaskDef]) -> tuple[Any, ...]:  # noqa: ARG002
        """Nothing."""
        return ()

    @property
    def symbol(self) -> Symbol:
        """The step's."""
        return cast("Symbol", self.step.symbol)

    def leads_by(self, task_id: str) -> str:
        """As the step."""
        return cast("str", self.step.leads_by(task_id))

    @stays_here
    def act(self, ctx: TaskContext) -> None:
        """All its messages have ended."""


class Buffered(Station, frozen=True, eq=False):
    """A Station behind a buffer: messages are there beside each other."""

    wire: ClassVar[str] = BUFFERED
