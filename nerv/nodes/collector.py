"""`Collector`: fan-in of what a Buffer has sent on its way without waiting."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Literal

from msgspec import UNSET
from msgspec.structs import force_setattr as _set

from nerv.errors import NervError
from nerv.nodes.base import Node, required, stays_here
from nerv.nodes.buffer import Buffer, BufferComplete, complete
from nerv.outcomes import Ends, Gather
from nerv.references import Output
from nerv.symbols import BUFFERED
from nerv.tasks import TaskDef


class Collector(Node, frozen=True, eq=False):
    """Waits for the items of a Buffer with `collect=False`: for all, or for a number of successes.

    Args:
        id: its id.
        source: the Buffer's id.
        quorum: so many successes are enough.
        timeout: seconds that it waits; then it fails with a `TaskTimeoutError`.
        remaining: what becomes of the rest when there are enough: "continue" or "cancel".
        fields: as of all nodes.

    Raises:
        WorkflowDefinitionError: a field's value can't be right.
    """

    source: Any = UNSET
    quorum: int | None = None
    remaining: Literal["continue", "cancel"] = "continue"

    order: ClassVar[tuple[str, ...]] = ("id", "source", "quorum", "timeout", "remaining")
    own: ClassVar[tuple[str, ...]] = ("source", "quorum", "remaining")
    shape: ClassVar[tuple[str, str]] = ("[\\", "/]")
    wire: ClassVar[str] = BUFFERED

    def arguments(self, problems: list[str], targets: list[TaskDef]) -> tuple[Any, ...]:  # noqa: ARG002
        """Nothing: it is told through the outcome."""
        source = required(self.source, "source=, the id of a Buffer with collect=False", problems)
        if isinstance(source, (TaskDef, Output)):
            source = source.id if isinstance(source, TaskDef) else source.task_id
            _set(self, "source", source)
        if isinstance(source, str):
            declared = [self.dependencies] if isinstance(self.dependencies, str) else self.dependencies
            _set(self, "dependencies", tuple(dict.fromkeys((*declared, source))))
        elif source is not UNSET:
            problems.append(f"source takes the id of a Buffer, not {source!r}")
        quorum = self.quorum
        if quorum is not None and (isinstance(quorum, bool) or not isinstance(quorum, int) or quorum < 1):
            problems.append(f"quorum takes a whole number from 1, or None, not {quorum!r}")
        if self.remaining not in ("continue", "cancel"):
            problems.append(f'remaining takes "continue" or "cancel", not {self.remaining!r}')
        return ()

    @property
    def note(self) -> str:
        """How many are enough."""
        return "" if self.quorum is None else f"{self.quorum} are enough"

    def objections(self, dependents: Collection[str], known: Mapping[str, TaskDef]) -> list[str]:  # noqa: ARG002
        """A source that waits for its items itself, or has none."""
        source = known.get(self.source)
        if source is None or (isinstance(source, Buffer) and not source.collect):
            return []
        return [f"it collects from {self.source!r}, which sends nothing on its way; name a Buffer with collect=False"]

    @stays_here
    def act(self) -> Gather:
        """Wait."""
        return Gather(source=self.source, quorum=self.quorum, cancel=self.remaining == "cancel", then=self.collected)

    def collected(self, ends: Ends) -> BufferComplete:
        """The result.

        Raises:
            NervError: there are fewer successes than were asked for, and won't be more.
        """
        done = complete(ends)
        if self.quorum is not None and done.successful < self.quorum:
            text = f"task {ends.task_id!r} waited for {self.quorum} successes of {self.source!r}, and got"
            raise NervError(f"{text} {done.successful} of {done.total} items")
        return done
