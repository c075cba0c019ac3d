"""`ForgetfulScheduler`: a scheduler whose tasks come in lanes, and which forgets lanes that have ended.

As pure as the others. All that it knows by task number is in containers from which entries can be taken; of a task that
is forgotten it knows only that it has ended. When that is done the engine decides (nerv/forgetting.py).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any, Final

from nerv.eventlog import SIGNAL_RECEIVED, TASKS_ADDED
from nerv.families import Families, Family, Seed
from nerv.lanes import Lane, Lanes
from nerv.names import Brood
from nerv.pages import Record
from nerv.scheduler import COMPLETED, Scheduler
from nerv.sparse import Sparse

BY_NUMBER: Final = ("state", "attempts", "missing", "ranks", "rules", "queue_of", "_dependents")
"""What a scheduler has for each task."""


class IndexedBrood(Brood):
    """A step's tasks, by the numbers of their messages; those of some aren't known any more."""

    def __init__(self) -> None:
        super().__init__()
        self.indexed = Sparse()


class ForgetfulScheduler(Scheduler):
    """Remembers lanes for a while. Arguments as of `Scheduler`.

    Attributes:
        source: the number of the Source; the Stations come behind it.
        messages: how many there were.
        signal: the name of the signals that are messages.
        lanes: which of them have ended.
        dropped: how many of its records are gone.
        on_over: called with the first task of each message that has ended.
        on_heavy: called when it may be worth while to forget some.
        on_read: to be called with the seq that somebody has reached who reads the log.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.source = self.messages = self.dropped = 0
        self.signal: str | None = None
        self.lanes = Lanes(0)
        self._family_of: Sparse[Family] = Sparse()
        self.on_over: Callable[[int], object] = lambda _: None
        self.on_heavy: Callable[[], object] = lambda: None
        self.on_read: Callable[[int], object] = lambda _: None
        for name in BY_NUMBER:
            setattr(self, name, Sparse(getattr(self, name)))
        self.state.gone = COMPLETED  # type: ignore[attr-defined]  # of what isn't known any more, only that it has ended

    def has_families(self) -> Families:
        """The families, from now on."""
        if self.families is None:
            self.families = Families(self, self._family_of)
        return self.families

    def extend(self, parent: int, seed: Seed) -> None:
        """Make room for more tasks: those of a message, or those that one of its tasks has added."""
        first = len(self.state)
        super().extend(parent, seed)
        numbers = range(first, len(self.state))
        if parent == self.source:
            self.lanes.come(self.messages, numbers)
        else:
            self.lanes.grow(parent, numbers)

    def note_seqs(self, lane: Lane, seq: int) -> None:
        """A record tells of a lane's message, and so does that of the signal that it may have come by."""
        code, *_, data = self.records[seq - self.dropped - 2]
        is_signal = code == SIGNAL_RECEIVED and data["name"] == self.signal
        lane.seqs = (seq - 1, seq) if is_signal else (seq,)

    def pass_over(self, count: int) -> None:
        """After a restart: one more message, whose tasks had ended so long ago that they are forgotten already."""
        families = self.has_families()
        for name in BY_NUMBER:
            getattr(self, name).pass_over(count)
        self.ids.pass_over(count)  # type: ignore[attr-defined]  # it is one of those as well
        self._family_of.pass_over(count)
        for station in range(self.source + 1, len(self.graph)):
            brood: Any = families.broods.setdefault(station, IndexedBrood())
            brood.indexed.pass_over(1)
        self.messages += 1

    def recall(self, others: Container[int], records: Iterable[tuple[int, Record]]) -> None:
        """Which records tell of which message, and what has ended of all that its tasks have added; of `others` it is
        told elsewhere. The records come with their seqs.
        """
        lanes, last = iter(dict.fromkeys(self.lanes.of.values())), None
        for seq, record in records:
            if record[:2] == (TASKS_ADDED, self.source):
                lane = next(lanes)
                is_signal = last is not None and last[0] == SIGNAL_RECEIVED and last[4]["name"] == self.signal
                lane.seqs = (seq - 1, seq) if is_signal else (seq,)
            last = record
        for number in self.lanes.of:
            if number not in others and self.has_ended(number):
                self.leave_lane(number)

    def leave_lane(self, number: int) -> None:
        """A task has ended, and perhaps its lane with it."""
        lane = self.lanes.of.get(number)
        if lane is None:
            return
        lane.left -= 1
        if lane.left:
            return
        lane.ended_at = self.dropped + len(self.records)
        self.on_over(lane.numbers[0])
        if self.saga is None or not any(map(self._may_be_undone, lane.numbers)):
            self.lanes.ended.append(lane)
            if self.lanes.is_heavy:
                self.on_heavy()

    def _may_be_undone(self, number: int) -> bool:
        assert self.saga is not None
        return self.state[number] == COMPLETED and self.saga.may_undo(number)

    def forget(self, lanes: Sequence[Lane]) -> None:
        """These have ended, and nothing is known of their tasks any more."""
        numbers = [number for lane in lanes for number in lane.numbers]
        for name in BY_NUMBER:
            getattr(self, name).remove(numbers)
        for number in numbers:
            self.blame.pop(number, None)
            self.dead_needs.pop(number, None)
            self.undecided.pop(number, None)
            self.lost.pop(number, None)
        self.dead.difference_update(numbers)
        if self.saga is not None:
            self.saga.forget(set(numbers))
            self._floor = self.saga.floor
        families = self.has_families()
        families.forget(numbers)
        for station in range(self.source + 1, len(self.graph)):
            indexed: Any = families.broods[station].indexed
            indexed.remove(lane.message for lane in lanes)
        self.lanes.forget(lanes)
