"""Outcomes: what a task's function may return to steer the execution, in place of a result.

`Expand`, `Route` and `Wait` are everybody's. The nodes of nerv/nodes use finer forms of them (`Grow`, `Choice`, `Hold`,
and `Gather`, which waits for what another task has added): the scheduler and the engine know these and no node.
Plain values, checked when they are made, by the function that returns them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

import msgspec
from msgspec import UNSET
from msgspec.structs import force_setattr as _set

from nerv.policies import finite
from nerv.tasks import TaskDef


class Expand(msgspec.Struct, frozen=True, eq=False):
    """Adds tasks under the task's own name: the id of `x0`, added by `grow`, is `grow/x0`.

    They see each other and what the task itself depends on. The task is RUNNING without a worker, completes after all
    of them, and isn't called again.

    Args:
        tasks: TaskDefs.
        result: the task's result: a value, or references to the added tasks' results.

    Raises:
        TypeError: something in `tasks` is no TaskDef.
    """

    tasks: Sequence[TaskDef]
    result: Any = None

    def __post_init__(self) -> None:
        _set(self, "tasks", _definitions(self.tasks))


class Route:
    """Of the task's dependents that are branches those with these ids run; the others are SKIPPED.

    A dependent that also needs another dependent of the task is a join, not a branch.

    Raises:
        TypeError: an id is no str.
    """

    __slots__ = ("ids",)

    def __init__(self, *ids: str) -> None:
        for one in ids:
            if not isinstance(one, str):
                raise TypeError(f"Route takes ids of tasks, not {one!r}; write Route('a', 'b')")
        self.ids = ids

    def __repr__(self) -> str:
        return f"Route({', '.join(map(repr, self.ids))})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Route, self.ids


class Wait(msgspec.Struct, frozen=True, eq=False):
    """WAITING, without a worker, until the first of these; the function isn't called again.

    Args:
        signal: the name of a signal (`execution.signal(name, value)`); its value is the task's result.
        seconds: this long; the result is None.
        at: until this moment: an aware datetime, or epoch seconds; the result is None.
        then: called with that value; what it returns is the result.

    Raises:
        TypeError, ValueError: it waits for nothing, or for what can't be.
    """

    signal: str | None = None
    seconds: float | None = None
    at: datetime | float | None = None
    then: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        if self.signal is None and self.seconds is None and self.at is None:
            raise ValueError("Wait() waits for nothing; give it signal=, seconds= or at=")
        if self.signal is not None and not isinstance(self.signal, str):
            raise TypeError(f"Wait's signal is a name, a str, not {self.signal!r}")
        if self.seconds is not None and (finite(self.seconds) is None or self.seconds < 0):
            raise ValueError(f"Wait's seconds are a number from 0, not {self.seconds!r}")
        if self.at is not None:
            epoch_of(self.at)
        if self.then is not None and not callable(self.then):
            raise TypeError(f"Wait's then is called with the value, but {self.then!r} can't be called")

    def due(self, now: float, epoch: float) -> float | None:
        """The moment on the clock of `now` at which it is over; `epoch`: epoch seconds at that clock's 0."""
        moments = [] if self.seconds is None else [now + self.seconds]
        if self.at is not None:
            moments.append(epoch_of(self.at) - epoch)
        return min(moments, default=None)


def epoch_of(moment: datetime | float) -> float:
    """A moment in epoch seconds.

    Raises:
        ValueError: a datetime without a time zone.
        TypeError: neither a datetime nor a number.
    """
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise ValueError(f"{moment!r} has no time zone, so nobody knows when that is; give it one: tzinfo=UTC")
        return moment.timestamp()
    seconds = finite(moment)
    if seconds is None:
        raise TypeError(f"a moment is an aware datetime or epoch seconds, not {moment!r}")
    return seconds


# ---- the finer forms, for nodes -------------------------------------------------------------------------------------


class Items(NamedTuple):
    """Tasks that are all alike: `task`, with one of the values as its first argument."""

    task: TaskDef
    values: Sequence[Any]


class Grow(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """`Expand`, with more to say.

    Attributes:
        tasks: TaskDefs, or `Items`.
        indexed: their ids are `parent[0]`, `parent[1]` ..., counted on from what it has added before, and
            they call each other `[0]`, `[1]`; else `parent/id`.
        result: as `Expand`'s.
        then: called, in place of `result`, with the `Ends` of all indexed tasks that the parent has added; it returns
            the result, or another outcome.
        at_once: the parent completes at once, with this; the execution still waits for the tasks.
        params: what they see as params; None: what the parent sees.
        sees: whether they see what the parent depends on.
        limit: so many of them at a time, in order; each counts until it has ended.
        lanes: whether each is a lane of its own.
        failing: what the failure of one does. "fail": the parent fails too, in the end. "stop": the others are
            cancelled, and the parent fails with that error. "keep": the parent takes it on, it is `then`'s business.
    """

    tasks: Sequence[TaskDef] | Items
    indexed: bool = False
    result: Any = None
    then: Callable[[Ends], Any] | None = None
    at_once: Any = UNSET
    params: Mapping[str, Any] | None = None
    sees: bool = True
    limit: int | None = None
    lanes: bool = False
    failing: Literal["fail", "stop", "keep"] = "fail"


class Ends:
    """What has become of the tasks that one has added by index.

    Args:
        task_id: who asks.
        count: how many there are.
        at: gives the result of one; MISSING, if it isn't COMPLETED.
        errors: gives the exceptions of those that failed, by index.
    """

    def __init__(
        self, task_id: str, count: int, at: Callable[[int], Any], errors: Callable[[], dict[int, BaseException]]
    ) -> None:
        self.task_id = task_id
        self.count = count
        self.at = at
        self._errors = errors

    @property
    def last(self) -> Any:
        """The last one's result."""
        return self.at(self.count - 1)

    @property
    def results(self) -> list[Any]:
        """All results, in order."""
        return list(map(self.at, range(self.count)))

    @property
    def errors(self) -> dict[int, BaseException]:
        """Index -> exception, of those that failed."""
        return self._errors()


class Choice(Route):
    """`Route` by a task that names all its branches.

    Attributes:
        value: the task's result.
        branches: the ids of all branches.
    """

    __slots__ = ("branches", "value")

    def __init__(self, ids: Iterable[str], value: Any, branches: Iterable[str]) -> None:
        super().__init__(*ids)
        self.value = value
        self.branches = frozenset(branches)

    def __reduce__(self) -> tuple[Any, ...]:
        return Choice, (self.ids, self.value, self.branches)


class Hold(Wait, frozen=True, eq=False, kw_only=True):
    """`Wait`, with a question for people.

    Attributes:
        prompt: the question, which `execution.waiting()` shows.
        late: what the task's timeout does while it waits: it fails, or is SKIPPED like a route that isn't taken.
    """

    prompt: str = ""
    late: Literal["fail", "skip"] = "fail"


class Gather(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """WAITING until the tasks that another task has added at once have ended.

    Attributes:
        source: the other task's id.
        quorum: so many successes are enough; None: all must have ended.
        cancel: whether the rest is cancelled then.
        then: called with the `Ends`; it returns the result.
    """

    source: str
    quorum: int | None
    cancel: bool
    then: Callable[[Ends], Any]


def _definitions(tasks: Any) -> tuple[TaskDef, ...]:
    if isinstance(tasks, (str, TaskDef)) or not isinstance(tasks, Iterable):
        raise TypeError(f"Expand takes a list of TaskDefs, not {tasks!r}; write Expand([TaskDef(...)])")
    listed = tuple(tasks)
    for one in listed:
        if not isinstance(one, TaskDef):
            raise TypeError(f"Expand takes a list of TaskDefs, and {one!r} is none; write TaskDef(id, function)")
    return listed


STEERING: Final = frozenset(map(id, (Expand, Route, Wait, Grow, Choice, Hold, Gather)))
"""The `id` of each class whose instances steer; any other value is a result. Its class may be one without a hash."""
