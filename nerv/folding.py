"""One execution's history, folded from its records so that every moment of it is at hand.

How it works. A `Fold` reads an `EventLog` behind a cursor of its own, and only when somebody asks. Folding copies no
state from moment to moment: it files each record where questions will look for it, and what is filed never changes.

- A task's *marks* are the seqs of the records that set its status. Its state at a moment follows from its marks up to
  there; it is made when first read and kept with the newest record in it. So a task that didn't change between two
  moments is the same object at both, and one that nobody looks at costs two numbers.
- *Entrances* are the marks that brought a task to RUNNING, COMPLETED or FAILED. The tasks in that status at a moment
  are those whose last mark up to there is such an entrance. Hardly anybody leaves COMPLETED or FAILED, so all are; for
  RUNNING, checkpoints now and then of who is in keep the search short.
- How many tasks are in each status is kept every `STRIDE` records, and each record's *move* from one status to another
  as a number: the counts at a moment are the last ones kept before it and fewer than `STRIDE` moves.
- What happened to the execution itself is a short list of `Head`s.

So a moment is a number, `seq`: a view of one, the newest or any other, is made in some microseconds and stays what it
was. Records are filed under `Fold._lock`, by one thread at a time. Views take no lock: they look at lists that only
grow, no further than their own `seq`.

All that is of one page (nerv/pages.py). When that is turned, folding begins anew with the next one, and adds the counts
of what has gone. In a `History` records and tasks go by their places on the page, which are their seqs and numbers on
an execution's first; so it says `seq` for both.

The state holds no user value. Of an exception it holds the text, made by the user's own `__str__` when it is first
read, and no lock is held then: it may do anything.

Why not persistent vectors and a snapshot of them every few hundred records, which do the same: every full garbage
collection walks through the whole of each of pyrsistent's PVectors, shared or not. With the 780 snapshots of 100,000
tasks one took 1.4 s. Lists of numbers cost it next to nothing.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from operator import itemgetter
from typing import Any, Final, NamedTuple

from nerv.errors import described
from nerv.eventlog import CODE_OF, CODES, TASK_PROGRESS, TASK_STARTED, WORKFLOW_STARTED
from nerv.events import EventType
from nerv.names import Numbers
from nerv.pages import Page, Record
from nerv.statuses import TaskStatus, WorkflowStatus
from nerv.views import TaskProgress, TaskState

STRIDE: Final = 256  # records from one keeping of counts to the next
SHORT: Final = 8  # a task's marks are a tuple up to this many: small, and the garbage collector lets go of it

STATUS_AFTER: Final[Mapping[EventType, TaskStatus | WorkflowStatus]] = {
    EventType.WORKFLOW_STARTED: WorkflowStatus.RUNNING,
    EventType.WORKFLOW_PAUSED: WorkflowStatus.PAUSED,
    EventType.WORKFLOW_RESUMED: WorkflowStatus.RUNNING,
    EventType.WORKFLOW_COMPLETED: WorkflowStatus.COMPLETED,
    EventType.WORKFLOW_FAILED: WorkflowStatus.FAILED,
    EventType.WORKFLOW_CANCELLED: WorkflowStatus.CANCELLED,
    EventType.TASK_STARTED: TaskStatus.RUNNING,
    EventType.TASK_WAITING: TaskStatus.WAITING,
    EventType.TASK_RETRYING: TaskStatus.WAITING,
    EventType.TASK_COMPLETED: TaskStatus.COMPLETED,
    EventType.TASK_FAILED: TaskStatus.FAILED,
    EventType.TASK_SKIPPED: TaskStatus.SKIPPED,
    EventType.TASK_CANCELLED: TaskStatus.CANCELLED,
}
"""What an event makes of the status of its task, or of its execution. All others leave it as it is."""

# Inside, a task's status is its place in TaskStatus, a small int: enum members are slow to hash. 0 is PENDING.
STATUSES: Final = tuple(TaskStatus)
_AFTER: Final = tuple(STATUS_AFTER.get(event_type) for event_type in CODES)
_PLACE_AFTER: Final = tuple(STATUSES.index(after) if isinstance(after, TaskStatus) else None for after in _AFTER)
_ORDERED: Final = tuple(map(STATUSES.index, (TaskStatus.RUNNING, TaskStatus.COMPLETED, TaskStatus.FAILED)))
COUNTED: Final = tuple(status.value.lower() for status in STATUSES)
FINAL: Final = tuple(status.is_final for status in STATUSES)
_TASKS_ADDED: Final = CODE_OF[EventType.TASKS_ADDED]
_NOTHING: Final[Mapping[str, Any]] = {}
PENDING: Final = TaskState(TaskStatus.PENDING)


class Head(NamedTuple):
    """The execution itself from record `seq` on; times in epoch seconds."""

    seq: int
    status: WorkflowStatus
    started_at: float | None
    completed_at: float | None
    task_count: int


class Checkpoint(NamedTuple):
    """Who was in a status after record `seq`: their entrances, out of the first `of` entrances to it."""

    seq: int
    inside: Sequence[int]
    of: int


class History:
    """What is folded of a page; tasks go by their numbers there. It holds its records, and no results.

    `epoch` is the epoch seconds at the moment 0.0 of the records' clock.
    """

    def __init__(self, page: Page, epoch: float) -> None:
        self.page = page
        self.seq = 0  # records that are folded
        self.ids: list[str] = []
        self.numbers = Numbers()
        self._records: list[Record] = [] if page.is_later else page.records
        self._epoch = epoch
        self._heads: list[Head] = []
        self._marks: list[Sequence[int]] = []  # by task
        self._said: dict[int, list[int]] = {}  # by task: its records of progress
        self._entrances: dict[int, list[int]] = {place: [] for place in _ORDERED}
        self._checkpoints = {place: [Checkpoint(0, (), 0)] for place in _ORDERED}
        self._places = bytearray()  # by task: its status now
        self._counts = [0] * len(STATUSES)  # now; of the pending only those that left, negative
        self._kept = [tuple(self._counts)]  # the counts after each STRIDE records
        self._moves: list[int] = []  # by seq - 1: a task's status before and after, as 8 * before + after
        self._states: list[TaskState | None] = []  # by seq - 1: the state that this record made, if it has been read
        self._reading = threading.Lock()  # of two threads that make the same state, the first one's stays

    # ---- filing, by one thread at a time ----

    def fold(self, until: int) -> None:
        """Take in the records up to `until`."""
        if self._records is not self.page.records:
            place_of = self.page.place_of
            self._records += [(one[0], place_of(one[1]), *one[2:]) for one in self.page.records[self.seq : until]]
        if not self._heads:
            self._begin()
        self._states.extend([None] * (until - self.seq))
        places, counts, moves, marks, entrances = self._places, self._counts, self._moves, self._marks, self._entrances
        known = self._heads[-1].task_count
        for seq, (code, task, at, _, data) in enumerate(self._records[self.seq : until], self.seq + 1):
            if task >= known:
                self._turn(seq, task_count=self._number(task + 1))
                known = self._heads[-1].task_count
            place = _PLACE_AFTER[code]
            if place is not None:
                before = places[task]
                places[task] = place
                counts[before] -= 1
                counts[place] += 1
                moves.append(before << 3 | place)
                own = marks[task]
                if own.__class__ is list:
                    own.append(seq)
                else:
                    marks[task] = (*own, seq) if len(own) < SHORT else [*own, seq]
                if place in entrances:
                    entrances[place].append(seq)
            else:
                moves.append(0)
                if code == TASK_PROGRESS:
                    self._said.setdefault(task, []).append(seq)
                else:
                    self._steer(seq, code, self._epoch + at, data or _NOTHING)
                    known = self._heads[-1].task_count
            if not seq % STRIDE:
                self._kept.append(tuple(counts))
                self._check(seq)
        self.seq = until

    def _begin(self) -> None:
        """The execution before its first record, with the tasks that this one will count, if it is there already."""
        first = self._records[0] if self._records else None
        data = first[4] if first is not None and first[0] == WORKFLOW_STARTED else None
        count = self._number((data or _NOTHING).get("task_count", self.page.task_count))
        self._heads.append(Head(0, WorkflowStatus.CREATED, None, None, count))

    def _number(self, count: int) -> int:
        """Have the first `count` of the tasks numbered. Gives how many of them there are."""
        id_at = self.page.id_at
        for number in range(len(self.ids), min(count, self.page.task_count)):
            task_id = id_at(number)
            self._marks.append(())
            self._places.append(0)
            self.ids.append(task_id)
            self.numbers[task_id] = number
        return min(count, len(self.ids))

    def _steer(self, seq: int, code: int, at: float, data: Mapping[str, Any]) -> None:
        """Take in an event of the execution itself."""
        head = self._heads[-1]
        status = _AFTER[code]
        if code == WORKFLOW_STARTED:
            self._turn(seq, started_at=at, task_count=self._number(data.get("task_count", head.task_count)))
        elif code == _TASKS_ADDED:
            self._turn(seq, task_count=self._number(head.task_count + len(data.get("ids", ()))))
        if isinstance(status, WorkflowStatus):
            self._turn(seq, status=status, completed_at=at if status.is_final else None)

    def _turn(self, seq: int, **changes: Any) -> None:
        """Note what a record changes in the execution itself."""
        self._heads.append(self._heads[-1]._replace(seq=seq, **changes))

    def _check(self, seq: int) -> None:
        """Keep who is in a status, where enough have come since it was last done to pay for it, and some have left."""
        for place, entrances in self._entrances.items():
            last = self._checkpoints[place][-1]
            if len(entrances) - last.of >= max(STRIDE, len(last.inside)) and len(entrances) != self._counts[place]:
                inside = tuple(self._inside(last, entrances[last.of :], seq))
                self._checkpoints[place].append(Checkpoint(seq, inside, len(entrances)))

    # ---- reading, by anybody ----

    def head(self, seq: int) -> Head:
        """The execution itself after record `seq`."""
        return self._heads[bisect_right(self._heads, seq, key=itemgetter(0)) - 1]

    def counts(self, seq: int) -> list[int]:
        """How many tasks are in each status after record `seq`, in the order of TaskStatus."""
        counts = list(self._kept[seq // STRIDE])
        for move in self._moves[seq - seq % STRIDE : seq]:
            counts[move >> 3] -= 1
            counts[move & 7] += 1
        counts[0] += self.head(seq).task_count
        return counts

    def status(self, number: int, seq: int) -> TaskStatus:
        """A task's status after record `seq`."""
        mark = _last(self._marks[number], seq)
        return STATUSES[(_PLACE_AFTER[self._records[mark - 1][0]] or 0) if mark else 0]

    def moves(self, number: int, seq: int) -> Sequence[Record]:
        """The records up to `seq` that set a task's status."""
        marks = self._marks[number]
        return [self._records[mark - 1] for mark in marks[: bisect_right(marks, seq)]]

    def state(self, number: int, seq: int) -> TaskState:
        """A task's state after record `seq`, the same object at all moments between which it didn't change."""
        marks = self._marks[number]
        mark = _last(marks, seq)
        said = _last(self._said.get(number, ()), seq)
        newest = max(mark, said)
        if not newest:
            return PENDING
        state = self._states[newest - 1]
        if state is None:
            made = self._made(marks[: bisect_right(marks, mark)], said)
            with self._reading:
                state = self._states[newest - 1]
                if state is None:
                    state = self._states[newest - 1] = made
        return state

    def inside(self, status: TaskStatus, seq: int, size: int) -> Iterator[int]:
        """The numbers of the `size` tasks in a status (RUNNING, COMPLETED, FAILED) after record `seq`, as they came."""
        place = STATUSES.index(status)
        entrances = self._entrances[place]
        end = bisect_right(entrances, seq)
        seqs: Iterator[int] = islice(entrances, end)
        if end != size:  # some have left
            checkpoints = self._checkpoints[place]
            last = checkpoints[bisect_right(checkpoints, seq, key=itemgetter(0)) - 1]
            seqs = self._inside(last, entrances[last.of : end], seq)
        return (self._records[entrance - 1][1] for entrance in seqs)

    def named(self, a: int, b: int) -> Iterator[int]:
        """The numbers of the tasks that the records between two moments name."""
        return (record[1] for record in self._records[min(a, b) : max(a, b)])

    def _inside(self, last: Checkpoint, since: Sequence[int], seq: int) -> Iterator[int]:
        """The entrances of those who are still in: they have no later mark."""
        records, marks = self._records, self._marks
        return (e for e in chain(last.inside, since) if _last(marks[records[e - 1][1]], seq) == e)

    def _made(self, marks: Sequence[int], said: int) -> TaskState:
        """A task's state from its marks and the seq of what it last said (0: nothing)."""
        records = [self._records[mark - 1] for mark in marks]
        starts = [seq for seq, record in zip(marks, records, strict=True) if record[0] == TASK_STARTED]
        progress = None
        if said > (starts[-1] if starts else 0):  # what an earlier attempt said is no longer so
            words = self._records[said - 1][4] or _NOTHING
            progress = TaskProgress(words.get("done"), words.get("total"), words.get("message"))
        if not records:
            return TaskState(TaskStatus.PENDING, progress=progress)
        code, _, at, _, data = records[-1]
        place = _PLACE_AFTER[code] or 0
        facts = data or _NOTHING
        error = facts.get("error")
        return TaskState(
            status=STATUSES[place],
            attempts=self._records[starts[-1] - 1][3] if starts else 0,
            started_at=self._epoch + self._records[starts[0] - 1][2] if starts else None,
            completed_at=self._epoch + at if FINAL[place] else None,
            error=described(error) if error is not None else None,
            skipped_because=facts.get("cause") if STATUSES[place] is TaskStatus.SKIPPED else None,
            progress=progress,
        )


def _last(seqs: Sequence[int], seq: int) -> int:
    """The last of some rising seqs that is at most `seq`; 0 if there is none."""
    end = len(seqs)
    if end and seqs[end - 1] > seq:
        end = bisect_right(seqs, seq, 0, end)
    return seqs[end - 1] if end else 0
