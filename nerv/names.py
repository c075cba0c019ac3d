"""The ids of tasks that are added while an execution runs, and who is meant by a name among them.

An id is its parent's and a tail: `outer[2]` and `/inner` and `[3]`. As long as ids are short they are plain text. Where
tasks add tasks thousands deep, all ids together would take memory with the square of the depth, so from `LONGEST`
characters on an id is a `LongId`, whose text is made when it is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar, overload

from nerv.errors import NervError
from nerv.sparse import Sparse

LONGEST: Final = 1000
CLOSED: Final = "messages/closed"
"""The signal that ends a fed flow: none of a user's, as no id of theirs holds a '/'."""


class LongId:
    """An id as its parent's and a tail. It stands for itself in dicts: no other object is the same id."""

    __slots__ = ("_parent", "_tail")

    def __init__(self, parent: str | LongId, tail: str) -> None:
        self._parent = parent
        self._tail = tail

    def __str__(self) -> str:
        parts = []
        one: str | LongId = self
        while isinstance(one, LongId):
            parts.append(one._tail)  # noqa: SLF001  its own class
            one = one._parent  # noqa: SLF001
        parts.append(one)
        return "".join(reversed(parts))

    def __repr__(self) -> str:
        return repr(str(self))

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __reduce__(self) -> tuple[Any, ...]:
        return str, (str(self),)


def joined(parent: str, tail: str) -> str:
    """The id of a task that `parent` has added. A `LongId` passes for text wherever an id is only kept and shown."""
    if parent.__class__ is str and len(parent) + len(tail) <= LONGEST:
        return parent + tail
    return LongId(parent, tail)  # type: ignore[return-value]


T = TypeVar("T")


def as_text(mapping: dict[str, T]) -> dict[str, T]:
    """The mapping by ids that are text; itself, if all of them are."""
    if LongId in set(map(type, mapping)):
        return {str(key): mapping[key] for key in mapping}
    return mapping


def refile(mapping: dict[str, Any], ids: Iterable[str]) -> None:
    """File what a mapping holds by the text of a `LongId` under the id itself."""
    for one in ids:
        if isinstance(one, LongId) and (text := str(one)) in mapping:
            dict.__setitem__(mapping, one, dict.__getitem__(mapping, text))  # its own might read what is stored
            dict.__delitem__(mapping, text)


class Numbers(dict[str, int]):
    """Task id -> number. A `LongId` is found by its text too: through the text's hash, so that no text is kept."""

    __slots__ = ("_looked_at", "_of_hash")

    def __init__(self) -> None:
        super().__init__()
        self._of_hash: dict[int, list[str]] = {}
        self._looked_at = 0

    def __missing__(self, task_id: str) -> int:
        if isinstance(task_id, str) and len(task_id) > LONGEST:
            if len(self) > self._looked_at:
                known = list(self)
                for one in known[self._looked_at :]:
                    if isinstance(one, LongId):
                        self._of_hash.setdefault(hash(str(one)), []).append(one)
                self._looked_at = len(known)  # two threads may do the same twice, which harms nobody
            for one in self._of_hash.get(hash(task_id), ()):
                if str(one) == task_id:
                    return self[one]
        raise KeyError(task_id)

    def get(self, task_id: str, default: Any = None) -> Any:
        """The number, or `default`."""
        try:
            return self[task_id]
        except KeyError:
            return default


class Ids(Sequence[str]):
    """Some of the ids of an execution, as text: those numbered from `first` on."""

    __slots__ = ("_all", "_count", "_first")

    def __init__(self, ids: Sequence[str], first: int, count: int) -> None:
        self._all = ids
        self._first = first
        self._count = count

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[one] for one in range(self._count)[index]]
        return str(self._all[self._first + range(self._count)[index]])

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return repr(list(self))

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, (list, tuple, Ids)) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)


class Brood:
    """The tasks that one has added: by name, and by index."""

    __slots__ = ("indexed", "named")

    def __init__(self) -> None:
        self.named: dict[str, int] = {}
        self.indexed: list[int] | Sparse[int] = []

    def find(self, tail: str) -> int | None:
        """The number of the one that is called so: `/name` or `[index]`."""
        if tail[0] == "/":
            return self.named.get(tail[1:])
        try:
            return self.indexed[int(tail[1:-1])]
        except IndexError:
            return None

    def knew(self, tail: str) -> bool:
        """Whether there was one that is called so, of which nothing is known any more."""
        return (
            tail[0] == "["
            and isinstance(self.indexed, Sparse)
            and int(tail[1:-1]) < len(self.indexed)
            and self.find(tail) is None
        )


_TAIL: Final = re.compile(r"/[^/\[\]]+|\[(?:0|[1-9][0-9]*)\]")


def split(task_id: str) -> tuple[str, list[str]] | None:
    """An id as that of the workflow's own task and the tails behind it; None if it can't be one."""
    head = re.match(r"[^/\[\]]*", task_id)
    assert head is not None
    tails = _TAIL.findall(task_id, head.end())
    return (head[0], tails) if head.end() + sum(map(len, tails)) == len(task_id) else None


class Scope(Mapping[str, Any]):
    """The results that an added task can see: its siblings' and those that its parent depends on.

    Args:
        keys: name -> id, as the results are filed.
        values: id -> result.
    """

    __slots__ = ("keys_of", "values_of")

    def __init__(self, keys: Mapping[str, str], values: Mapping[str, Any]) -> None:
        self.keys_of = keys
        self.values_of = values

    def __getitem__(self, name: str) -> Any:
        return self.values_of[self.keys_of[name]]

    def __iter__(self) -> Iterator[str]:
        return (name for name, key in self.keys_of.items() if key in self.values_of)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def refuse_own(signal: str) -> None:
    """See that a signal is the user's to send.

    Raises:
        NervError: it is nerv's own.
    """
    if signal == CLOSED:
        raise NervError(f"the signal {signal!r} is nerv's own; to end a fed flow, call its execution's close()")
