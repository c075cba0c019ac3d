"""`TaskStates`: where every task of an execution is, and how the end of one spreads to those that depend on it.

The lower half of the scheduler (nerv/scheduler.py tells the whole): the table of states, and its moves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from heapq import heappush
from typing import TYPE_CHECKING, Any, Final

from nerv import eventlog as log
from nerv.errors import NervError
from nerv.eventlog import Record
from nerv.events import EventType
from nerv.graph import Graph
from nerv.statuses import MOVES, TaskStatus, WorkflowStatus

if TYPE_CHECKING:
    from nerv.sagas import Saga
    from nerv.staging import Staging
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
    """The states of all tasks, and what follows from an end. Arguments as of `Scheduler`."""

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
        self.lost: Counter[int] = (
            Counter()
        )  # attempts that ended with the process, by task: they aren't held against it
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
        self.unfinished = len(graph)
        self.counts = [0] * len(STATUSES)  # of final statuses only
        self.stopping = False  # nothing new starts but all_finished tasks
        self.cancelling = False
        self.fault: BaseException | None = None
        self.reason = ""
        self._dependents = graph.dependents
        self._is_free = saga is None  # whether a ready task never has to stand back
        self._floor = 0 if saga is None else saga.floor  # with so few unfinished it may be time to end, or to undo
        if ANY_COMPLETED in rules:
            for number, rule in enumerate(rules):
                if rule == ANY_COMPLETED and self.missing[number]:
                    self.undecided[number] = self.missing[number]
                    self.missing[number] = 1

    def finish_if_done(self, now: float) -> None:
        """End if nothing is left, undone things first."""
        raise NotImplementedError

    def has_ended(self, number: int) -> bool:
        """Whether a task's status is final."""
        return self.state[number] >= COMPLETED

    def release(self, number: int) -> None:
        """A task is ready, unless it has to stand back."""
        if self.saga is not None and self.saga.left and number not in self.errands:
            self.saga.hold(number)
        else:
            heappush(self.entry[self.queue_of[number]], self.ranks[number])

    def _spread(self, ended: list[int], now: float) -> None:
        """Tell the dependents of tasks that ended without completing; what can't run any more ends, and so on."""
        for number in ended:
            for dependent in self._dependents[number]:
                if self.state[dependent]:
                    continue
                rule = self.rules[dependent]
                if rule == ALL_FINISHED:
                    self.missing[dependent] -= 1
                    if not self.missing[dependent]:
                        self.release(dependent)
                    continue
                if rule == ANY_COMPLETED:
                    self.undecided[dependent] -= 1
                    if self.undecided[dependent]:
                        continue
                self._give_up(dependent, number, now)
                ended.append(dependent)

    def spread_on(self, now: float) -> None:
        """Records may end in the midst of a spread, if a journal was torn: go on with it."""
        for number, state in enumerate(self.state):
            if state == PENDING:
                culprit = self._culprit(number)
                if culprit is not None:
                    self._give_up(number, culprit, now)
                    self._spread([number], now)

    def _culprit(self, number: int) -> int | None:
        """What a pending task can't run for."""
        needs, rule = self.graph.dependencies[number], self.rules[number]
        culprits = [need for need in needs if self.state[need] > COMPLETED]
        if rule == ALL_FINISHED or not culprits:
            return None
        return None if rule == ANY_COMPLETED and any(self.state[need] <= COMPLETED for need in needs) else culprits[0]

    def _give_up(self, number: int, because: int, now: float) -> None:
        """A task that can't run: SKIPPED for the failure behind it, or CANCELLED along with what it needs."""
        if self.state[because] == CANCELLED:
            self._end(number, now, CANCELLED_MOVES, EventType.TASK_CANCELLED, {"reason": self.reason})
            return
        culprit = self.blame[number] = self.blame.get(because, because)
        self._end(number, now, SKIPPED_MOVES, EventType.TASK_SKIPPED, {"cause": self.ids[culprit]})

    def _cancel_all(self, doomed: list[int], now: float) -> None:
        for number in doomed:
            self._end(number, now, CANCELLED_MOVES, EventType.TASK_CANCELLED, {"reason": self.reason})
        self._spread(list(doomed), now)

    def _end(self, number: int, now: float, table: dict[int, int], event: EventType, data: dict[str, Any]) -> None:
        self._move(number, table, event)
        self.counts[self.state[number]] += 1
        self.unfinished -= 1
        self.records.append((log.CODE_OF[event], number, now, self.attempts[number], data))

    def _move(self, number: int, table: dict[int, int], event: EventType) -> None:
        try:
            self.state[number] = table[self.state[number]]
        except KeyError:
            raise self._illegal(number, event) from None

    def _illegal(self, number: int, event: EventType) -> NervError:
        status = STATUSES[self.state[number]].name
        return NervError(f"{event} can't happen to task {self.ids[number]!r}, which is {status}: a bug in nerv")
