"""`Bygones`: the lanes of a fed execution that had ended long before it goes on, and aren't grown again.

Pure. Replaying a message's records makes its tasks anew, and when all are there, those that ended long ago are
forgotten. With 100,000 messages that is most of the time and the memory that going on takes. So the records are read
once before: lanes that would be forgotten then are found, and passed over. Their tasks have had their numbers, what
became of them is counted, and the records that tell of them go.

That is done for plain lanes: whose tasks have added no others, were neither cancelled nor undone, and may not have to
be undone. The others are replayed, and forgotten afterwards, as if they had ended just then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from typing import Any

from nerv import eventlog as log
from nerv.pages import Record
from nerv.states import COMPLETED, FAILED, MOVES_BY_CODE, SKIPPED, STATUSES

_PLAIN = frozenset(
    (log.TASK_STARTED, log.TASK_COMPLETED, log.TASK_FAILED, log.TASK_SKIPPED, log.TASK_RETRYING, log.TASK_WAITING)
) | {log.TASK_PROGRESS}


class Bygone:
    """One message's lane.

    Attributes:
        numbers: the tasks of its steps.
        seqs: the records that tell of its message.
        mark: what its trigger will know it by; None: nothing.
        left: how many of its tasks, and of those that they have added, haven't ended.
        ended_at: the seq at which the last one did.
        is_plain: whether it may be passed over.
    """

    __slots__ = ("ended_at", "is_plain", "left", "mark", "numbers", "seqs")

    def __init__(self, numbers: range, seqs: tuple[int, ...], mark: Any) -> None:
        self.numbers = numbers
        self.seqs = seqs
        self.mark = mark
        self.left = len(numbers)
        self.ended_at = 0
        self.is_plain = True


class Bygones:
    """Reads the records of an execution that has a Source.

    Args:
        records: all of them.
        own: how many tasks the workflow has, the Source and the Stations.
        source: the number of the Source.
        steps: how many tasks a message has.
        signal: the name of the signals that are messages.
    """

    def __init__(self, records: Sequence[Record], own: int, source: int, steps: int, signal: str | None) -> None:
        self.states = bytearray(own)  # by task number
        self._own = own
        self._source = source
        self._steps = steps
        self._signal = signal
        self._lanes: list[Bygone] = []
        self._lane_of: list[Bygone] = []  # by the numbers of what was added
        self._is_changed = False
        for seq, record in enumerate(records, 1):
            if record[0] == log.TASKS_ADDED:
                self._grow(seq, record, records[seq - 2])
            elif record[1] >= own:
                self._move(seq, record)

    def _grow(self, seq: int, record: Record, before: Record) -> None:
        number, data = record[1], record[4]
        first = len(self.states)
        if number == self._source:
            is_signal = before[0] == log.SIGNAL_RECEIVED and before[4]["name"] == self._signal
            seqs = (seq - 1, seq) if is_signal else (seq,)
            lane = Bygone(range(first, first + self._steps), seqs, data.get("mark"))
            self._lanes.append(lane)
            count = self._steps
        elif number >= self._own:
            lane, count = self._lane_of[number - self._own], len(data["ids"])
            lane.is_plain = False
            lane.left += count
        else:
            self._is_changed = True
            return
        self.states.extend(bytes(count))
        self._lane_of += [lane] * count

    def _move(self, seq: int, record: Record) -> None:
        code, number, _, _, data = record
        lane, after = self._lane_of[number - self._own], MOVES_BY_CODE.get(code)
        if code not in _PLAIN or (code == log.TASK_SKIPPED and data.get("removed")):
            lane.is_plain = False
        if after is None:
            return
        lane.left += (self.states[number] >= COMPLETED) - (after >= COMPLETED)
        self.states[number] = after
        if not lane.left:
            lane.ended_at = seq

    def before(self, keep: int, until: float, undoable: Collection[int]) -> deque[Bygone]:
        """The lanes to be passed over, in the order of their messages.

        Args:
            keep: how many of those that ended are remembered for certain.
            until: the seq after which none is to have ended.
            undoable: the steps whose tasks, if they are COMPLETED, may have to be undone.
        """
        if self._is_changed:
            return deque()
        ended = sorted((lane for lane in self._lanes if not lane.left), key=lambda lane: lane.ended_at)
        gone = {
            lane
            for lane in ended[: max(0, len(ended) - keep)]
            if lane.is_plain
            and lane.ended_at <= until
            and not any(self.states[lane.numbers[step]] == COMPLETED for step in undoable)
        }
        return deque(lane for lane in self._lanes if lane in gone)

    def counts(self, lanes: Collection[Bygone]) -> list[int]:
        """How many of the tasks of these lanes ended in which status."""
        counts = [0] * len(STATUSES)
        for lane in lanes:
            for number in lane.numbers:
                counts[self.states[number]] += 1
        return counts


def excused(counts: Sequence[int]) -> int:
    """How many of so many tasks don't count against the execution."""
    return counts[FAILED] + counts[SKIPPED]
