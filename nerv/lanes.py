"""`Lanes`: which messages of a fed flow have ended, with all that their tasks have added.

A part of its scheduler (nerv/feeding.py), as pure as it is. What has ended is remembered for a while, the latest `keep`
of them for certain; the oldest are there to be forgotten (nerv/forgetting.py). When at least half of all that is at
hand may go, that is worth the work: so a message costs the same however many there were, and no more is held than twice
what has to be.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice


class Lane:
    """One message's way.

    Attributes:
        message: the message's number.
        numbers: its tasks, those that they have added among them.
        left: how many of them haven't ended.
        seqs: the records that tell of its message.
        ended_at: how many records there were when it had ended.
    """

    __slots__ = ("ended_at", "left", "message", "numbers", "seqs")

    def __init__(self, message: int) -> None:
        self.message = message
        self.numbers: list[int] = []
        self.left = 0
        self.seqs: tuple[int, ...] = ()
        self.ended_at = 0


class Lanes:
    """The lanes at hand.

    Args:
        keep: how many that have ended are remembered for certain.

    Attributes:
        of: by the numbers of their tasks.
        ended: those that have ended and may be forgotten, in that order.
        count: how many are at hand, others included.
    """

    def __init__(self, keep: int) -> None:
        self.keep = keep
        self.of: dict[int, Lane] = {}
        self.ended: deque[Lane] = deque()
        self.count = 0

    def come(self, message: int, numbers: range) -> None:
        """One more message."""
        self.count += 1
        self._join(Lane(message), numbers)

    def grow(self, parent: int, numbers: range) -> None:
        """A task has added others: they are in its lane."""
        self._join(self.of[parent], numbers)

    def _join(self, lane: Lane, numbers: range) -> None:
        lane.numbers += numbers
        lane.left += len(numbers)
        self.of.update(dict.fromkeys(numbers, lane))

    def ripe(self, read: int) -> list[Lane]:
        """The lanes that are to be forgotten now, if the first `read` records aren't needed any more."""
        if not 0 < self.wanted <= read:
            return []
        return [lane for lane in islice(self.ended, len(self.ended) - self.keep) if lane.ended_at <= read]

    @property
    def wanted(self) -> int:
        """How many records mustn't be needed any more, for enough lanes to be ripe; 0: there aren't enough yet."""
        return self.ended[(self.count + 1) // 2 - 1].ended_at if self.is_heavy else 0

    @property
    def is_heavy(self) -> bool:
        """Whether `ripe` may have an answer."""
        most = len(self.ended) - self.keep
        return most > 0 and 2 * most >= self.count

    def forget(self, lanes: Iterable[Lane]) -> None:
        """These aren't at hand any more: the first that had ended."""
        for lane in lanes:
            self.ended.popleft()
            self.count -= 1
            for number in lane.numbers:
                del self.of[number]
