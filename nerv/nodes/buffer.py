"""`Buffer`: fan-out. Every item goes its own way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import GeneratorType
from typing import Any, ClassVar, Literal, overload

import msgspec
from msgspec import UNSET

from nerv.context import TaskContext
from nerv.nodes.base import Node, as_task, required, stays_here
from nerv.outcomes import Ends, Grow, Items
from nerv.references import MISSING
from nerv.symbols import BUFFERED
from nerv.tasks import TaskDef


class BufferComplete(Sequence[Any]):
    """What has become of all items: a sequence over `results`.

    Attributes:
        results: in item order; MISSING where an item has none.
        errors: index -> exception, of failed items.
    """

    __slots__ = ("errors", "results")

    def __init__(self, results: Sequence[Any], errors: Mapping[int, BaseException]) -> None:
        self.results = list(results)
        self.errors = dict(errors)

    @property
    def total(self) -> int:
        """How many items there were."""
        return len(self.results)

    @property
    def successful(self) -> int:
        """How many have a result."""
        return sum(result is not MISSING for result in self.results)

    @property
    def values(self) -> list[Any]:
        """The results of the items that have one, in item order."""
        return [result for result in self.results if result is not MISSING]

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self.results[index]

    def __len__(self) -> int:
        return len(self.results)

    def __repr__(self) -> str:
        return f"<BufferComplete: {self.successful} of {self.total}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return BufferComplete, (self.results, self.errors)


class BufferDispatched(msgspec.Struct, frozen=True):
    """So many items are on their way."""

    total: int


class Buffer(Node, frozen=True, eq=False):
    """Runs a task for each item, each in a lane of its own, all at once or so many at a time.

    Args:
        id: the items' tasks are called `id[0]`, `id[1]` ...
        items: an iterable, or a reference to one.
        target: a function or TaskDef, to which the item is the first positional argument, or a Workflow, to which it is
            the param `item`.
        max_parallel: how many items may be under way at a time; one counts until it has ended, while it waits too.
        collect: True: the result is a `BufferComplete`. False: it is a `BufferDispatched`, at once, and the execution
            waits for the items.
        on_item_error: "fail": at the first final failure no more items start, the rest is cancelled, and the Buffer
            fails with that error. "collect": failed items are in `errors`, and aren't failures of the execution.
        fields: dependencies, name, description, priority, metadata, run_when, fallback, timeout (of the whole).

    Raises:
        WorkflowDefinitionError: a field's value can't be right.
    """

    items: Any = UNSET
    target: Any = UNSET
    max_parallel: int | None = None
    collect: bool = True
    on_item_error: Literal["fail", "collect"] = "fail"
    _used: list[bool] = msgspec.field(default_factory=list)

    own: ClassVar[tuple[str, ...]] = ("items", "target", "max_parallel", "collect", "on_item_error")
    values: ClassVar[tuple[str, ...]] = ("items",)
    runs: ClassVar[tuple[str, ...]] = ("target",)
    shape: ClassVar[tuple[str, str]] = ("[[", "]]")
    wire: ClassVar[str] = BUFFERED

    def arguments(self, problems: list[str], targets: list[TaskDef]) -> tuple[Any, ...]:
        """The items."""
        items = required(self.items, "items=, an iterable or a reference to one", problems)
        if items is not UNSET and not hasattr(type(items), "__iter__") and not hasattr(items, "__getitem__"):
            problems.append(f"items takes an iterable, such as a list, or a reference to one, not {items!r}")
        if required(self.target, "target=, what is run for each item", problems) is not UNSET:
            targets.append(as_task(self.target, "its target", problems))
        limit = self.max_parallel
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
            problems.append(f"max_parallel takes a whole number from 1, or None, not {limit!r}")
        if not isinstance(self.collect, bool):
            problems.append(f"collect takes True or False, not {self.collect!r}")
        if self.on_item_error not in ("fail", "collect"):
            problems.append(f'on_item_error takes "fail" or "collect", not {self.on_item_error!r}')
        return (items,)

    @property
    def throttle(self) -> str:
        """Its limit."""
        return "" if self.max_parallel is None else f"{self.max_parallel} at a time"

    @stays_here
    def act(self, ctx: TaskContext, items: Any) -> Grow:
        """Send the items on their way."""
        if hasattr(type(items), "__next__"):
            self._use(ctx, items)
        try:
            iterator = iter(items)
        except TypeError:
            text = f"task {ctx.task_id!r}: its items are a {type(items).__name__}, which isn't iterable; give it a list"
            raise TypeError(text) from None
        values = list(iterator)
        keeps = self.on_item_error == "collect"
        return Grow(
            tasks=Items(self._targets[0], values),
            indexed=True,
            then=complete if self.collect else None,
            at_once=UNSET if self.collect else BufferDispatched(len(values)),
            limit=self.max_parallel,
            lanes=True,
            failing="keep" if keeps else "stop",
        )

    def _use(self, ctx: TaskContext, items: Iterator[Any]) -> None:
        """See that nobody has used up an iterator, which gives its items once."""
        if items is self.items:
            if self._used:
                raise TypeError(
                    f"task {ctx.task_id!r}: its items are an iterator, which was used up before; give it a list"
                )
            self._used.append(True)
        user = ctx.place.used_by(items)
        if user is not None or (isinstance(items, GeneratorType) and items.gi_frame is None):
            who = "another task" if user is None else f"task {user!r}"
            raise TypeError(
                f"task {ctx.task_id!r}: its items are a {type(items).__name__}, which {who} has used up;"
                " return a list there"
            )


def complete(ends: Ends) -> BufferComplete:
    """What a Buffer or a Collector results in."""
    return BufferComplete(ends.results, ends.errors)
