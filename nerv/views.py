"""What a state is made of: small immutable mappings and sets, each made in constant time.

`TaskState` is one task's state. `TaskStates`, `TaskStatuses` and `TaskSet` show all tasks, or those in one status, at
one moment: they hold the source of all moments, which only grows, and a `seq`, and look things up when they are
read. All of them compare equal to plain dicts and sets with the same contents, hash if what they hold does, and
pickle as plain read-only values.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, Sequence, ValuesView
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Any, Final, Protocol

import msgspec

from nerv.events import Facts
from nerv.pages import Record
from nerv.statuses import TaskStatus

SHOWN: Final = 8  # tasks in a repr


class Fields(msgspec.Struct, frozen=True, eq=False, gc=False):
    """An immutable mapping whose keys are its fields.

    The garbage collector doesn't visit it (100,000 of them would make every collection slower): it holds enum members,
    numbers and texts, so no cycle goes through it.
    """

    def __getitem__(self, key: str) -> Any:
        if key in self.__struct_fields__:
            return getattr(self, key)
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self.__struct_fields__)

    def __len__(self) -> int:
        return len(self.__struct_fields__)

    def __contains__(self, key: object) -> bool:
        return key in self.__struct_fields__

    def keys(self) -> KeysView[str]:
        """The names of the fields."""
        return msgspec.structs.asdict(self).keys()

    def values(self) -> ValuesView[Any]:
        """The values of the fields."""
        return msgspec.structs.asdict(self).values()

    def items(self) -> ItemsView[str, Any]:
        """The fields as pairs of name and value."""
        return msgspec.structs.asdict(self).items()

    def get(self, key: str, default: Any = None) -> Any:
        """A field's value, or the default if there is no such field."""
        return getattr(self, key) if key in self.__struct_fields__ else default

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return msgspec.structs.asdict(self) == dict(other) if isinstance(other, Mapping) else NotImplemented

    def __hash__(self) -> int:
        return hash(frozenset(self.items()))  # as a PMap's: equal mappings have equal hashes


Mapping.register(Fields)  # a subclass would need a metaclass of ABCMeta and msgspec's


class TaskProgress(Fields, frozen=True, eq=False, gc=False):
    """What a task last said with `ctx.progress`."""

    done: Any
    total: Any
    message: Any


class TaskState(Fields, frozen=True, eq=False, gc=False):
    """What is known of one task. Times are in epoch seconds; `started_at` is its first attempt's."""

    status: TaskStatus
    attempts: int = 0
    started_at: float | None = None
    completed_at: float | None = None
    error: str | None = None
    skipped_because: str | None = None
    progress: TaskProgress | None = None


class Progress(Fields, frozen=True, eq=False, gc=False):
    """How many tasks there are in all and in each status; `fraction` of them are final (1.0 when there are none)."""

    total: int
    pending: int
    running: int
    waiting: int
    completed: int
    failed: int
    skipped: int
    cancelled: int
    fraction: float


class Source(Protocol):
    """What views read: everything about one execution's tasks, by their numbers, at any moment `seq` so far."""

    @property
    def ids(self) -> Sequence[str]:
        """Task ids by number; it may grow."""

    @property
    def numbers(self) -> Mapping[str, int]:
        """Task numbers by id; it may grow."""

    def state(self, number: int, seq: int) -> TaskState:
        """A task's state after record `seq`; the same object for all moments between which it didn't change."""

    def status(self, number: int, seq: int) -> TaskStatus:
        """Its status only."""

    def moves(self, number: int, seq: int) -> Sequence[Record]:
        """The records up to `seq` that set its status."""

    def inside(self, status: TaskStatus, seq: int, size: int) -> Iterator[int]:
        """The numbers of the `size` tasks that were in a status after record `seq`, in the order they came to it."""


class _Tasks:
    """The tasks of an execution at one moment: `seq`, when there were `count` of them."""

    __slots__ = ("_count", "_seq", "_source")

    def __init__(self, source: Source, seq: int, count: int) -> None:
        self._source = source
        self._seq = seq
        self._count = count

    def _number(self, task_id: str) -> int:
        number = self._source.numbers[task_id]
        if number >= self._count:  # added later than this
            raise KeyError(task_id)
        return number

    def __iter__(self) -> Iterator[str]:
        return map(str, islice(self._source.ids, self._count))  # of tasks that were added, some are made when read

    def __len__(self) -> int:
        return self._count


class TaskStates(_Tasks, Mapping[str, TaskState]):
    """The tasks of an execution at one moment: id -> TaskState, in definition order."""

    __slots__ = ()

    def __getitem__(self, task_id: str) -> TaskState:
        return self._source.state(self._number(task_id), self._seq)

    def moves(self, task_id: str) -> Sequence[Record]:
        """The records that set its status, in order."""
        return self._source.moves(self._number(task_id), self._seq)

    def __hash__(self) -> int:
        return hash(frozenset(self.items()))

    def __repr__(self) -> str:
        return _text(self, (f"{task_id!r}: {state!r}" for task_id, state in self.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return Facts, (dict(self),)


class TaskStatuses(_Tasks, Mapping[str, TaskStatus]):
    """The statuses of an execution's tasks at one moment: id -> TaskStatus, in definition order."""

    __slots__ = ()

    def __getitem__(self, task_id: str) -> TaskStatus:
        return self._source.status(self._number(task_id), self._seq)

    def __hash__(self) -> int:
        return hash(frozenset(self.items()))

    def __repr__(self) -> str:
        return _text(self, (f"{task_id!r}: {status!r}" for task_id, status in self.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return Facts, (dict(self),)


class TaskSet(AbstractSet[str]):
    """The ids of the `size` tasks that are in one status at one moment, in the order in which they came to it.

    Set operations give frozensets.
    """

    __slots__ = ("_seq", "_size", "_source", "_status")

    def __init__(self, source: Source, seq: int, status: TaskStatus, size: int) -> None:
        self._source = source
        self._seq = seq
        self._status = status
        self._size = size

    def __contains__(self, task_id: object) -> bool:
        number = self._source.numbers.get(task_id) if isinstance(task_id, str) else None
        return number is not None and self._source.status(number, self._seq) is self._status

    def __iter__(self) -> Iterator[str]:
        return (str(self._source.ids[number]) for number in self._source.inside(self._status, self._seq, self._size))

    def __len__(self) -> int:
        return self._size

    def __hash__(self) -> int:
        return hash(frozenset(self))

    def __repr__(self) -> str:
        return _text(self, map(repr, self))

    def __reduce__(self) -> tuple[Any, ...]:
        return frozenset, (list(self),)

    @classmethod
    def _from_iterable(cls, it: Iterable[Any]) -> frozenset[Any]:  # what `&` and `|` return
        return frozenset(it)


def _text(view: Mapping[str, Any] | TaskSet, items: Iterator[str]) -> str:
    """A repr that stays readable at 100,000 tasks."""
    more = f", ... {len(view) - SHOWN:,} more" if len(view) > SHOWN else ""
    return f"{type(view).__name__}({{{', '.join(islice(items, SHOWN))}{more}}})"
