"""`TaskStates`: where every task of an execution is.

The lowest part of the scheduler (nerv/scheduler.py tells the whole): the table of states, and its moves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from heapq import heappush
from typing import TYPE_CHECKING, Final

from nerv import eventlog as log
from nerv.errors import NervError
from nerv.events import EventType
from nerv.graph import Graph
from nerv.pages import Record
from nerv.statuses import MOVES, TaskStatus, WorkflowStatus

if TYPE_CHECKING:
    from nerv.families import Families
    from nerv.sagas import Saga
    from nerv.staging import Staging
    from nerv.suspensions import Suspensions
    from nerv.waits import Waits

STATUSES: Final = tuple(TaskStatus)
_NUMBER: Final = {status: number for number, status in enumerate(STATUSES)}
PENDING: Final = _NUMBER[TaskStatus.PENDING]
RUNNING: Final = _NUMBER[TaskStatus.RUNNING]
WAITING: Final = _NUMBER[TaskStatus.WAITING]
COMPLETED: Final = _NUMBER[TaskStatus.COMPLETED]
FAILED: Final = _NUMBER[TaskStatus.FAILED]
SKIPPED: Final = _NUMBER[TaskStatus.SKIPPED]
CANCELLED: Final = _NUMBER[TaskStatus.CANCELLED]

ALL_COMPLETED: Final = 0
ALL_FINISHED: Final = 1
ANY_COMPLETED: Final = 2

FALLBACK: Final = 1
COMPENSATION: Final = 2
LOOKUP: Final = 3
TRANSFER: Final = 4
THEN: Final = 5

# What the engine has to see to (`news`): a parent's children have all ended; what somebody waited for in others' has;
# a running task shall stop; a signal or a moment has come; a task is late.
GROWN: Final = 1
GATHERED: Final = 2
TOLD: Final = 3
SIGNALLED: Final = 4
DUE: Final = 5
LATE: Final = 6


def _table(event: EventType) -> dict[int, int]:
    return {_NUMBER[before]: _NUMBER[after] for before, after in MOVES[event].items()}


STARTED_MOVES: Final = _table(EventType.TASK_STARTED)
COMPLETED_MOVES: Final = _table(EventType.TASK_COMPLETED)
FAILED_MOVES: Final = _table(EventType.TASK_FAILED)
SKIPPED_MOVES: Final = _table(EventType.TASK_SKIPPED)
CANCELLED_MOVES: Final = _table(EventType.TASK_CANCELLED)
RETRYING_MOVES: Final = _table(EventType.TASK_RETRYING)
WAITING_MOVES: Final = _table(EventType.TASK_WAITING)

MOVES_BY_CODE: Final = {log.CODE_OF[event]: _NUMBER[next(iter(table.values()))] for event, table in MOVES.items()}
"""The state that each event brings a task to, whatever it was in before."""


class TaskStates:
    """The states of all tasks. Arguments as of `Scheduler`."""

    def __init__(  # noqa: PLR0917  one call, in admission
        self,
        graph: Graph,
        ids: Sequence[str],
        rules: Sequence[int],
        queue_of: Sequence[int],
        queues: int,
        records: list[Record],
        *,
        fail_fast: bool = True,
        waits: Waits | None = None,
        saga: Saga | None = None,
    ) -> None:
        self.graph = graph
        self.ids = ids
        self.rules = rules
        self.queue_of = queue_of
        self.records = records
        self.ranks: Sequence[int] = graph.ranks
        self.fail_fast = fail_fast
        self.waits = waits
        self.saga = saga
        self.errands: dict[int, int] = {}
        self.lost: Counter[int] = Counter()  # by task, attempts that ended with the process: not held against it
        self.status = WorkflowStatus.CREATED
        self.state = bytearray(len(graph))
        self.attempts = [0] * len(graph)
        self.missing = graph.in_degrees.copy()
        self.ready: list[list[int]] = [[] for _ in range(queues)]
        self.entry = self.ready  # where a task that becomes ready goes first: elsewhere if it is staged
        self.staging: Staging | None = None
        self.claimed: set[int] = set()
        self.blame: dict[int, int] = {}
        self.undecided: dict[int, int] = {}
        self.dead: set[int] = set()
        self.dead_needs: dict[int, int] = {}
        self.families: Families | None = None
        self.suspensions: Suspensions | None = None
        self.is_plain = waits is None and saga is None  # nobody waits but for others, and nobody adds any
        self.news: list[tuple[int, int]] = []
        self.unfinished = len(graph)
        self.counts = [0] * len(STATUSES)  # of final statuses only
        self.excused = 0  # tasks that didn't complete, and needn't have
        self.stopping = self.cancelling = False  # nothing new starts but all_finished tasks
        self.fault: BaseException | None = None
        self.reason = ""
        self._dependents = graph.dependents
        self.is_free = saga is None  # whether a ready task never has to stand back
        self._floor = 0 if saga is None else saga.floor  # with so few unfinished it may be time to end, or to undo
        self._decide_any()

    def _decide_any(self) -> None:
        if ANY_COMPLETED not in self.rules:
            return
        for number, rule in enumerate(self.rules):
            if rule == ANY_COMPLETED and self.missing[number]:
                self.undecided[number] = self.missing[number]
                self.missing[number] = 1

    def finish_if_done(self, now: float) -> None:
        """End if nothing is left, undone things first."""
        raise NotImplementedError

    def has_ended(self, number: int) -> bool:
        """Whether a task's status is final."""
        return self.state[number] >= COMPLETED

    def add_queue(self) -> int:
        """One more queue; its number."""
        self.ready.append([])
        if self.staging is not None:
            self.staging.heaps.append([])
        return len(self.ready) - 1

    def release(self, number: int) -> None:
        """A task is ready, unless it has to stand back."""
        if self.saga is not None and self.saga.left and number not in self.errands:
            self.saga.hold(number)
        else:
            heappush(self.entry[self.queue_of[number]], self.ranks[number])

    def brought_back(self) -> None:
        """The states are those of an execution that goes on."""

    def _move(self, number: int, table: dict[int, int], event: EventType) -> None:
        try:
            self.state[number] = table[self.state[number]]
        except KeyError:
            raise self._illegal(number, event) from None

    def _illegal(self, number: int, event: EventType) -> NervError:
        status = STATUSES[self.state[number]].name
        return NervError(f"{event} can't happen to task {self.ids[number]!r}, which is {status}: a bug in nerv")
