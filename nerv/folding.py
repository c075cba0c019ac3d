"""One execution's history, folded from its records so that every moment of it is at hand.

How it works. A `Fold` reads an `EventLog` behind a cursor of its own, and only when somebody asks. Folding copies no
state from moment to moment: it files each record where questions will look for it, and what is filed never changes.

- A record that sets a task's status is a *mark*. Filed are the status that it sets (one byte), and the task's mark
  before it; beside them, each task's last mark. So a task's marks up to a moment are found by going back from its last
  one, and its state follows from them: it is made when first read and kept with the newest record in it. A task that
  didn't change between two moments is the same object at both, and one that nobody looks at costs two numbers.
- Marks that brought a task to a status are found by that byte. The tasks in it at a moment are those whose next mark is
  later. Hardly anybody leaves COMPLETED or FAILED, so all are; for RUNNING, checkpoints now and then of who is in keep
  the search short.
- How many tasks are in each status is kept every `STRIDE` records: the counts at a moment are the last ones kept before
  it and fewer than `STRIDE` marks, each with the one before it.
- What happened to the execution itself is a short list of `Head`s.

Records are filed by the `STRIDE`: what all of them have in common is done for all at once, by functions that loop in C,
and two statements are left to do for each. What only some questions need (ids' numbers, checkpoints) is filed when the
first of these is asked.

So a moment is a number, `seq`: a view of one, the newest or any other, is made in some microseconds and stays what it
was. Records are filed under `Fold._lock`, by one thread at a time. Views look at columns that only grow, no further
than their own `seq`, and take no lock but to have filed what only they need.

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
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, compress, count, islice
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
COUNTED: Final = tuple(status.value.lower() for status in STATUSES)
FINAL: Final = tuple(status.is_final for status in STATUSES)
PENDING: Final = TaskState(TaskStatus.PENDING)

_NONE: Final = len(STATUSES)  # what a record sets that sets no task's status
_AFTER: Final = tuple(STATUS_AFTER.get(event_type) for event_type in CODES)
_PLACES: Final = bytes(STATUSES.index(one) if isinstance(one, TaskStatus) else _NONE for one in _AFTER).ljust(256)
_NOBODY: Final = -1  # the task of a record that is no mark
_TASKS_ADDED: Final = CODE_OF[EventType.TASKS_ADDED]
_NOTHING: Final[Mapping[str, Any]] = {}

_code = itemgetter(0)
_task = itemgetter(1)


class Head(NamedTuple):
    """The execution itself from record `seq` on; times in epoch seconds."""

    seq: int
    status: WorkflowStatus
    started_at: float | None
    completed_at: float | None
    task_count: int


class Checkpoint(NamedTuple):
    """Who was in a status after record `seq`: the marks that brought them there."""

    seq: int
    inside: Sequence[int]


class History:
    """What is folded of a page; tasks go by their numbers there. It holds its records, and no results.

    `epoch` is the epoch seconds at the moment 0.0 of the records' clock.
    """

    def __init__(self, page: Page, epoch: float) -> None:
        self.page = page
        self.seq = 0  # records that are folded
        self.ids: list[str] = []
        self._numbers = Numbers()
        self._records: list[Record] = [] if page.is_later else page.records
        self._epoch = epoch
        self._heads: list[Head] = []
        self._set = bytearray(1)  # by seq: the status that it sets; at 0, where all tasks begin
        self._before = [0]  # by seq, if it is a mark: the task's mark before it (0: none)
        self._last = [0]  # by task: its last mark (0: none); behind all tasks, that of nobody
        self._said: dict[int, list[int]] = {}  # by task: its records of progress
        self._kept: list[Sequence[int]] = [[0] * len(STATUSES)]  # the counts after each STRIDE records, but of PENDING
        self._states: dict[int, TaskState] = {}  # by the newest record in them, those that have been read
        self._reading = threading.Lock()  # guards what only questions need: the rest
        self._next = [0]  # by seq, if it is a mark: the task's next one (0: none yet)
        self._checkpoints: dict[int, list[Checkpoint]] = {}  # by status

    # ---- filing, by one thread at a time ----

    def fold(self, until: int) -> None:
        """Take in the records up to `until`."""
        if self._records is not self.page.records:
            place_of = self.page.place_of
            self._records += [(one[0], place_of(one[1]), *one[2:]) for one in self.page.records[self.seq : until]]
        if not self._heads:
            self._begin()
        while self.seq < until:
            self._file(min(until, self.seq - self.seq % STRIDE + STRIDE))

    def _file(self, until: int) -> None:
        """Take in some records, at most up to where counts are kept."""
        start = self.seq + 1
        records = self._records[self.seq : until]
        places = bytes(map(_code, records)).translate(_PLACES)
        tasks = list(map(_task, records))
        if _NONE in places or max(tasks) >= self._heads[-1].task_count:
            self._look(start, records, places, tasks)
        before, last = self._before, self._last
        for seq, task in enumerate(tasks, start):
            before.append(last[task])
            last[task] = seq
        self._set += places
        self.seq = until
        if not until % STRIDE:
            self._kept.append(self._counted(self._kept[-1], until - STRIDE + 1, until))

    def _look(self, start: int, records: Sequence[Record], places: bytes, tasks: list[int]) -> None:
        """Take in what is more than a mark, and have what is none be nobody's."""
        known = self._heads[-1].task_count
        for at, (code, task, moment, _, data) in enumerate(records):
            seq = start + at
            if task >= known:
                self._turn(seq, task_count=self._number(task + 1))
                known = self._heads[-1].task_count
            if places[at] == _NONE:
                tasks[at] = _NOBODY
                if code == TASK_PROGRESS:
                    self._said.setdefault(task, []).append(seq)
                else:
                    self._steer(seq, code, self._epoch + moment, data or _NOTHING)
                    known = self._heads[-1].task_count

    def _begin(self) -> None:
        """The execution before its first record, with the tasks that this one will count, if it is there already."""
        first = self._records[0] if self._records else None
        data = first[4] if first is not None and first[0] == WORKFLOW_STARTED else None
        count = self._number((data or _NOTHING).get("task_count", self.page.task_count))
        self._heads.append(Head(0, WorkflowStatus.CREATED, None, None, count))

    def _number(self, count: int) -> int:
        """Have the first `count` of the tasks numbered. Gives how many of them there are."""
        known, count = len(self.ids), min(count, self.page.task_count)
        if count > known:
            ids = self.page.ids
            is_list = isinstance(ids, list) and not self.page.is_later
            self.ids += ids[known:count] if is_list else map(self.page.id_at, range(known, count))
            self._last[known:known] = [0] * (count - known)  # before nobody's
        return count

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

    # ---- reading, by anybody ----

    def head(self, seq: int) -> Head:
        """The execution itself after record `seq`."""
        return self._heads[bisect_right(self._heads, seq, key=itemgetter(0)) - 1]

    @property
    def numbers(self) -> Mapping[str, int]:
        """Task numbers by id."""
        if len(self._numbers) < len(self.ids):
            with self._reading:
                known = len(self._numbers)
                self._numbers.update(zip(self.ids[known:], count(known)))
        return self._numbers

    def counts(self, seq: int) -> list[int]:
        """How many tasks are in each status after record `seq`, in the order of TaskStatus."""
        counts = self._counted(self._kept[seq // STRIDE], seq - seq % STRIDE + 1, seq)
        counts[0] = self.head(seq).task_count - sum(counts)
        return counts

    def _counted(self, counts: Sequence[int], start: int, until: int) -> list[int]:
        """The counts after some more records. Of PENDING, where tasks only come from, there is none."""
        places = self._set
        after = places[start : until + 1]
        before = bytes(map(places.__getitem__, self._before[start : until + 1]))
        return [0, *(counts[one] + after.count(one) - before.count(one) for one in range(1, len(STATUSES)))]

    def status(self, number: int, seq: int) -> TaskStatus:
        """A task's status after record `seq`."""
        return STATUSES[self._set[self._mark(number, seq)]]

    def moves(self, number: int, seq: int) -> Sequence[Record]:
        """The records up to `seq` that set a task's status."""
        return [self._records[mark - 1] for mark in self._marks(number, seq)]

    def state(self, number: int, seq: int) -> TaskState:
        """A task's state after record `seq`, the same object at all moments between which it didn't change."""
        mark = self._mark(number, seq)
        said = _last(self._said.get(number, ()), seq)
        newest = max(mark, said)
        if not newest:
            return PENDING
        state = self._states.get(newest)
        if state is None:  # of two threads that make the same state, the first one's stays
            state = self._states.setdefault(newest, self._made(self._marks(number, mark), said))
        return state

    def inside(self, status: TaskStatus, seq: int, size: int) -> Iterator[int]:
        """The numbers of the `size` tasks in a status after record `seq`, as they came."""
        if not size:
            return iter(())
        place = STATUSES.index(status)
        if self._set.count(place, 1, seq + 1) == size:
            marks = self._entrances(place, 1, seq)
        else:  # some have left
            last = self._checkpoint(place, seq)
            marks = self._staying(chain(last.inside, self._entrances(place, last.seq + 1, seq)), seq)
        return (self._records[mark - 1][1] for mark in marks)

    def named(self, a: int, b: int) -> Iterator[int]:
        """The numbers of the tasks that the records between two moments name."""
        return (record[1] for record in self._records[min(a, b) : max(a, b)])

    def _mark(self, number: int, seq: int) -> int:
        """A task's last mark up to `seq`; 0 if there is none."""
        mark = self._last[number]
        while mark > seq:
            mark = self._before[mark]
        return mark

    def _marks(self, number: int, seq: int) -> list[int]:
        """A task's marks up to `seq`, in order."""
        marks = []
        mark = self._mark(number, seq)
        while mark:
            marks.append(mark)
            mark = self._before[mark]
        marks.reverse()
        return marks

    def _entrances(self, place: int, start: int, until: int) -> Iterator[int]:
        """The marks from `start` to `until` that brought a task to a status."""
        return compress(count(start), map(place.__eq__, self._set[start : until + 1]))

    def _staying(self, marks: Iterable[int], seq: int) -> Iterator[int]:
        """Those marks that were still their tasks' last after record `seq`."""
        later = self._next
        return (mark for mark in marks if not 0 < later[mark] <= seq)

    def _checkpoint(self, place: int, seq: int) -> Checkpoint:
        """The last one up to `seq`. One is made as soon as enough have come since the one before to pay for it."""
        with self._reading:
            self._link()
            made = self._checkpoints.setdefault(place, [Checkpoint(0, ())])
            while self._set.count(place, made[-1].seq + 1, seq + 1) >= max(STRIDE, len(made[-1].inside)):
                last = made[-1]
                came = list(islice(self._entrances(place, last.seq + 1, seq), max(STRIDE, len(last.inside))))
                made.append(Checkpoint(came[-1], tuple(self._staying(chain(last.inside, came), came[-1]))))
            return made[bisect_right(made, seq, key=itemgetter(0)) - 1]

    def _link(self) -> None:
        """Have every mark know its task's next."""
        start, end = len(self._next), self.seq + 1
        self._next += [0] * (end - start)
        deque(map(self._next.__setitem__, self._before[start:end], range(start, end)), 0)

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
        at, data = records[-1][2], records[-1][4]
        place = self._set[marks[-1]]
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
