"""`Page`: what is at hand of an execution's records.

Most executions have one page, which begins with the first record and grows: there a record's place is its `seq`. Where
lanes that have ended are forgotten (nerv/forgetting.py), their records go, and what remains is the next page. A page
that was turned never changes any more, so who is still reading it goes on being right.

A later page has gaps: in its beginning the seqs of the records are listed, and so are the numbers of the tasks. What
was appended since counts on without gaps.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Container, Iterator, Sequence
from functools import cached_property
from itertools import chain
from typing import Any, TypeAlias

from nerv.sparse import Sparse

Record: TypeAlias = tuple[int, int, float, int, Any]


class Page:
    """Some records of an execution, in order.

    Args:
        records: they; may grow.
        ids: task ids by number; may grow.

    Attributes:
        seqs: the seqs of the first records; those behind count on without gaps.
        dropped: how many records aren't at hand any more.
        first: the seq from which on all records are.
        numbers: the numbers of the first tasks; those behind count on without gaps.
        folded: how many of the tasks that aren't at hand any more ended in which status, in the order of TaskStatus.
    """

    def __init__(self, records: list[Record], ids: Sequence[str]) -> None:
        self.records = records
        self.ids = ids
        self.seqs: Sequence[int] = ()
        self.dropped = self.first = 0
        self.numbers: Sequence[int] = ()
        self.folded: Sequence[int] = ()
        self._last_number = 0  # of the tasks that there were when the page began, plus one

    def __len__(self) -> int:
        return self.dropped + len(self.records)

    def upto(self, seq: int) -> int:
        """How many of the records have a seq of at most this."""
        if seq - self.dropped >= len(self.seqs):
            return seq - self.dropped
        return bisect_right(self.seqs, seq)

    def seq(self, place: int) -> int:
        """The seq of a record, which is the first if `place` is 1; 0 if it is 0."""
        if place > len(self.seqs):
            return place + self.dropped
        return self.seqs[place - 1] if place else 0

    def between(self, after: int, until: int) -> list[Record]:
        """The records with `after < seq <= until`."""
        return self.records[self.upto(after) : self.upto(until)]

    def after(self, seq: int) -> list[Record]:
        """The records with a greater seq."""
        return self.records[self.upto(seq) :]

    def numbered(self) -> Iterator[tuple[int, Record]]:
        """The records with their seqs."""
        return zip(self._listed(), self.records, strict=True)

    def _listed(self) -> Iterator[int]:
        return chain(self.seqs, range(len(self.seqs) + self.dropped + 1, len(self) + 1))

    def without(
        self, tasks: Collection[int], others: Container[int], names: Container[str], folded: Sequence[int]
    ) -> Page:
        """The next page.

        Args:
            tasks: the numbers of the tasks that go, with their records.
            others: the seqs of other records that go.
            names: the names of signals whose records go.
            folded: the counts of all that have gone by then.
        """
        seqs: list[int] = []
        records: list[Record] = []
        first = self.first
        for seq, record in self.numbered():
            number = record[1]
            if number in tasks or seq in others or (number < 0 and record[4] and record[4].get("name") in names):
                first = seq
            else:
                seqs.append(seq)
                records.append(record)
        assert isinstance(self.ids, Sparse)
        ids = self.ids.rest()
        ids.remove(set(tasks) & ids.keys())
        page = Page(records, ids)
        page.seqs, page.dropped, page.first = seqs, len(self) - len(records), max(first, self.first)
        page.folded = folded
        page.settle()
        return page

    def settle(self) -> None:
        """All tasks are there that were when the page began."""
        assert isinstance(self.ids, Sparse)
        self.numbers, self._last_number = list(self.ids.keys()), self.ids.end

    # ---- tasks by their place on the page ---------------------------------------------------------------------------

    @property
    def is_later(self) -> bool:
        """Whether it isn't the first, so that places differ from numbers and seqs."""
        return self.dropped > 0

    @cached_property
    def _places(self) -> dict[int, int]:
        return {number: place for place, number in enumerate(self.numbers)}

    def place_of(self, number: int) -> int:
        """The place of a task among those at hand; of no task, none."""
        if number < self._last_number:
            return self._places[number] if number >= 0 else number
        return number - self._last_number + len(self.numbers)

    def number_at(self, place: int) -> int:
        """The number of the task at a place."""
        if place < len(self.numbers):
            return self.numbers[place]
        return place - len(self.numbers) + self._last_number

    @property
    def task_count(self) -> int:
        """How many tasks are at hand."""
        return len(self.ids) - self._last_number + len(self.numbers)

    def id_at(self, place: int) -> str:
        """The id of the task at a place."""
        return self.ids[self.number_at(place)]


class Book:
    """The page at hand; whoever holds the book sees the next one as soon as it is turned."""

    __slots__ = ("page",)

    def __init__(self, page: Page) -> None:
        self.page = page
