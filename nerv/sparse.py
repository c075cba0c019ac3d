"""`Sparse`: what is known of each task of an execution that goes on for ever, by number.

It stands in the place of a list: it is read, written and lengthened in the same way, and its length counts all tasks
that ever were. But the entries of some can be taken out, and the numbers of the others stay what they are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


class Sparse(dict[int, T]):
    """Entries by number, from 0.

    Args:
        values: the first ones.
        gone: what stands for those that were taken out; None: they can't be read.
    """

    __slots__ = ("end", "gone")

    def __init__(self, values: Iterable[T] = (), gone: T | None = None) -> None:
        super().__init__(enumerate(values))
        self.end = dict.__len__(self)
        self.gone = gone

    @classmethod
    def at(cls, numbers: Sparse[Any], values: Iterable[T]) -> Sparse[T]:
        """These values under the numbers that another one knows."""
        made = cls()
        made.update(zip(numbers.keys(), values, strict=True))
        made.end = numbers.end
        return made

    def append(self, value: T) -> None:
        """One more entry."""
        self[self.end] = value
        self.end += 1

    def extend(self, values: Iterable[T]) -> None:
        """More entries."""
        before = dict.__len__(self)
        self.update(enumerate(values, self.end))
        self.end += dict.__len__(self) - before

    def pass_over(self, count: int) -> None:
        """So many more entries, which are taken out already."""
        self.end += count

    def remove(self, numbers: Iterable[int]) -> None:
        """Take entries out."""
        deque(map(self.__delitem__, numbers), 0)

    def count(self, value: T) -> int:
        """How many entries have this value."""
        return sum(one == value for one in self.values())

    def rest(self) -> Sparse[T]:
        """A copy, which grows by itself."""
        twin: Sparse[T] = Sparse((), self.gone)
        twin.update(self)
        twin.end = self.end
        return twin

    def __missing__(self, number: int) -> T:
        if self.gone is not None and 0 <= number < self.end:
            return self.gone
        raise IndexError(f"nothing is known of task number {number}")

    def __len__(self) -> int:
        return self.end

    def __bool__(self) -> bool:
        return self.end > 0

    def __iter__(self) -> Iterator[T]:  # type: ignore[override]  # as a list
        if dict.__len__(self) != self.end:
            raise TypeError("some of these were taken out; go through them with each()")
        return iter(self.values())

    @property
    def size(self) -> int:
        """How many entries are there."""
        return dict.__len__(self)


def each(values: Sequence[T] | Sparse[T]) -> Iterable[tuple[int, T]]:
    """What is known, with its numbers, in their order."""
    return values.items() if isinstance(values, Sparse) else enumerate(values)


def behind(values: Sequence[T] | Sparse[T], start: int) -> list[Any]:
    """What is there from a number on."""
    return [values[number] for number in range(start, len(values))]
