"""The scheduler: the only place where it is decided what runs when. A pure state machine for one execution.

Theory of operation. The engine tells it what happened (`completed`, `failed`, `cancel` ...) and asks for work (`take`);
it answers from its state and appends the events that occurred to the execution's log. It knows no thread, clock, file
or bus: the moment is an argument, results never come here, and the same calls give the same events. So worker threads,
a simulation, a replay or a person in a debugger can drive it.

Its state, by task number:

- `state`: the task's status, as an index into `STATUSES`. It changes by the table `nerv.statuses.MOVES` alone.
- `missing`: what must still happen before the task is ready: dependencies to complete (run_when all_completed), to
  finish in any way (all_finished), or 1 until the first of them completes (any_completed).
- `ready`: for each queue (one for each pool that the workflow uses) a heap of ranks. A task is in it from the moment
  `missing` reaches 0 until it is taken.
- `claimed`: tasks that were taken but haven't started (they wait inside a pool). They count as neither ready nor
  running, can be handed back, and a stop spares them until they are.
- `blame`: for a skipped task, the number of the failed task it was skipped for.
- `undecided`: for each any_completed task, how many of its dependencies might still complete.

How a failure spreads: what needs it is SKIPPED with it as the cause; an all_finished task takes it as one more that has
finished; an any_completed one goes on while another dependency may complete. Under fail_fast everything else that
hasn't started is CANCELLED at once, except all_finished tasks, which run when their dependencies have ended.

For whoever edits this: `take` and `completed` are the hot path, some 2 us a task together. Keep them free of branches
that a plain task doesn't need: what is special about a task is encoded in `missing`, not asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from typing import Any, Final

from nerv import eventlog as log
from nerv.errors import NervError
from nerv.eventlog import Record
from nerv.events import EventType
from nerv.graph import NUMBER_MASK, Graph
from nerv.statuses import MOVES, TaskStatus, WorkflowStatus

STATUSES: Final = tuple(TaskStatus)
_NUMBER: Final = {status: number for number, status in enumerate(STATUSES)}
PENDING: Final = _NUMBER[TaskStatus.PENDING]
RUNNING: Final = _NUMBER[TaskStatus.RUNNING]
COMPLETED: Final = _NUMBER[TaskStatus.COMPLETED]
FAILED: Final = _NUMBER[TaskStatus.FAILED]
SKIPPED: Final = _NUMBER[TaskStatus.SKIPPED]
CANCELLED: Final = _NUMBER[TaskStatus.CANCELLED]

ALL_COMPLETED: Final = 0
ALL_FINISHED: Final = 1
ANY_COMPLETED: Final = 2


def _table(event: EventType) -> dict[int, int]:
    return {_NUMBER[before]: _NUMBER[after] for before, after in MOVES[event].items()}


_STARTED: Final = _table(EventType.TASK_STARTED)
_COMPLETED: Final = _table(EventType.TASK_COMPLETED)
_FAILED: Final = _table(EventType.TASK_FAILED)
_SKIPPED: Final = _table(EventType.TASK_SKIPPED)
_CANCELLED: Final = _table(EventType.TASK_CANCELLED)


class Scheduler:
    """Decides what runs when in one execution.

    Args:
        graph: the workflow's graph.
        ids: task ids by number, for the events' data.
        rules: run_when by number: ALL_COMPLETED, ALL_FINISHED or ANY_COMPLETED.
        queue_of: the queue of each task.
        queues: how many queues there are.
        records: the execution's log, to append to.
        fail_fast: whether the first failure stops everything that hasn't started.
    """

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
    ) -> None:
        self.graph = graph
        self.ids = ids
        self.rules = rules
        self.queue_of = queue_of
        self.records = records
        self.fail_fast = fail_fast
        self.status = WorkflowStatus.CREATED
        self.state = bytearray(len(graph))
        self.attempts = [0] * len(graph)
        self.missing = graph.in_degrees.copy()
        self.ready: list[list[int]] = [[] for _ in range(queues)]
        self.claimed: set[int] = set()
        self.blame: dict[int, int] = {}
        self.undecided: dict[int, int] = {}
        self.unfinished = len(graph)
        self.counts = [0] * len(STATUSES)  # of final statuses only
        self.stopping = False  # nothing new starts but all_finished tasks
        self.cancelling = False
        self.reason = ""
        self._dependents = graph.dependents
        self._ranks = graph.ranks
        if ANY_COMPLETED in rules:
            for number, rule in enumerate(rules):
                if rule == ANY_COMPLETED and self.missing[number]:
                    self.undecided[number] = self.missing[number]
                    self.missing[number] = 1

    # ---- the life of the execution --------------------------------------------------------------------------------

    def start(self, now: float, data: dict[str, Any]) -> None:
        """Begin: tasks that need nothing are ready. An execution without tasks is complete at once."""
        self.status = WorkflowStatus.RUNNING
        self.records.append((log.WORKFLOW_STARTED, -1, now, 0, {**data, "task_count": self.unfinished}))
        for number, count in enumerate(self.missing):
            if not count:
                self._release(number)
        if self.cancelling:
            self._stop(now)
        self._finish_if_done(now)

    def pause(self, now: float) -> bool:
        """Give out nothing more until `resume`. False: it wasn't RUNNING."""
        if self.status is not WorkflowStatus.RUNNING:
            return False
        self.status = WorkflowStatus.PAUSED
        self.records.append((log.WORKFLOW_PAUSED, -1, now, 0, None))
        return True

    def resume(self, now: float) -> bool:
        """Go on after `pause`. False: it wasn't PAUSED."""
        if self.status is not WorkflowStatus.PAUSED:
            return False
        self.status = WorkflowStatus.RUNNING
        self.records.append((log.WORKFLOW_RESUMED, -1, now, 0, None))
        return True

    def cancel(self, now: float, reason: str = "") -> bool:
        """Start nothing more but all_finished tasks. Running tasks are the engine's to tell. False: it has ended.

        An execution that hasn't started yet is cancelled as soon as it has.
        """
        if self.cancelling or self.status.is_final:
            return False
        self.resume(now)
        self.cancelling = True
        self.reason = reason
        if self.status is not WorkflowStatus.CREATED:
            self._stop(now)
        return True

    def halt(self, now: float) -> None:
        """Cancel whatever hasn't ended, cleanup too; nothing may be running any more."""
        self.claimed.clear()
        self.stopping = self.cancelling = True
        for number, state in enumerate(self.state):
            if state == PENDING:
                self._end(number, now, _CANCELLED, EventType.TASK_CANCELLED, {"reason": self.reason})
        for ready in self.ready:  # last: the end of a level may have released tasks of the next
            ready.clear()
        self._finish_if_done(now)

    def _finish(self, now: float) -> None:
        counts = self.counts
        if counts[COMPLETED] == len(self.state):
            self.status, code = WorkflowStatus.COMPLETED, log.WORKFLOW_COMPLETED
        elif self.cancelling:
            self.status, code = WorkflowStatus.CANCELLED, log.WORKFLOW_CANCELLED
        else:
            self.status, code = WorkflowStatus.FAILED, log.WORKFLOW_FAILED
        data: dict[str, Any] = {
            "workflow_id": self.records[0][4].get("workflow_id"),
            "execution_id": self.records[0][4].get("execution_id"),
            "status": self.status,
            "task_count": len(self.state),
            "successful_tasks": counts[COMPLETED],
        }
        if self.reason:
            data["reason"] = self.reason
        self.records.append((code, -1, now, 0, data))

    # ---- work -----------------------------------------------------------------------------------------------------

    def take(self, queue: int, now: float) -> int:
        """Start the best ready task of a queue, and return its number; -1 if there is none to start."""
        ready = self.ready[queue]
        if not ready or self.status is WorkflowStatus.PAUSED:
            return -1
        number = heappop(ready) & NUMBER_MASK
        try:
            self.state[number] = _STARTED[self.state[number]]
        except KeyError:
            raise self._illegal(number, EventType.TASK_STARTED) from None
        attempt = self.attempts[number] = self.attempts[number] + 1
        self.records.append((log.TASK_STARTED, number, now, attempt, None))
        return number

    def claim(self, queue: int) -> int:
        """Take a queue's best ready task without starting it; -1: there is none. `started` or `unclaim` follows."""
        ready = self.ready[queue]
        if not ready or self.status is WorkflowStatus.PAUSED:
            return -1
        number = heappop(ready) & NUMBER_MASK
        self.claimed.add(number)
        return number

    def started(self, number: int, now: float) -> int:
        """A claimed task's function was called; returns the attempt's number."""
        self.claimed.remove(number)
        self._move(number, _STARTED, EventType.TASK_STARTED)
        attempt = self.attempts[number] = self.attempts[number] + 1
        self.records.append((log.TASK_STARTED, number, now, attempt, None))
        return attempt

    def unclaim(self, number: int, now: float) -> None:
        """A claimed task comes back, not started."""
        self.claimed.remove(number)
        if self.stopping and self.rules[number] != ALL_FINISHED:
            self._cancel_all([number], now)
            self._finish_if_done(now)
        else:
            self._release(number)

    def completed(self, number: int, now: float) -> None:
        """A running task's function returned."""
        try:
            self.state[number] = _COMPLETED[self.state[number]]
        except KeyError:
            raise self._illegal(number, EventType.TASK_COMPLETED) from None
        self.records.append((log.TASK_COMPLETED, number, now, self.attempts[number], None))
        self.counts[COMPLETED] += 1
        missing = self.missing
        for dependent in self._dependents[number]:
            left = missing[dependent] = missing[dependent] - 1
            if not left and not self.state[dependent]:
                self._release(dependent)
        self.unfinished -= 1
        if not self.unfinished:
            self._finish(now)

    def failed(self, number: int, now: float, error: object) -> None:
        """A running task's function raised, for good. `error` goes into the event's data."""
        self._end(number, now, _FAILED, EventType.TASK_FAILED, {"error": error})
        self._spread([number], now)
        if self.fail_fast and not self.stopping:
            self._stop(now)
        self._finish_if_done(now)

    def cancelled(self, number: int, now: float, error: object) -> None:
        """A running task stopped because it was told to, or was given up."""
        self._end(number, now, _CANCELLED, EventType.TASK_CANCELLED, {"error": error, "reason": self.reason})
        self._spread([number], now)
        self._finish_if_done(now)

    def progressed(self, number: int, now: float, data: dict[str, Any]) -> bool:
        """A running task reports how far it is. False: it isn't running any more."""
        if self.state[number] != RUNNING:
            return False
        self.records.append((log.TASK_PROGRESS, number, now, self.attempts[number], data))
        return True

    # ---- how endings spread ---------------------------------------------------------------------------------------

    def _release(self, number: int) -> None:
        heappush(self.ready[self.queue_of[number]], self._ranks[number])

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
                        self._release(dependent)
                    continue
                if rule == ANY_COMPLETED:
                    self.undecided[dependent] -= 1
                    if self.undecided[dependent]:
                        continue
                self._give_up(dependent, number, now)
                ended.append(dependent)

    def _give_up(self, number: int, because: int, now: float) -> None:
        """A task that can't run: SKIPPED for the failure behind it, or CANCELLED along with what it needs."""
        if self.state[because] == CANCELLED:
            self._end(number, now, _CANCELLED, EventType.TASK_CANCELLED, {"reason": self.reason})
            return
        culprit = self.blame[number] = self.blame.get(because, because)
        self._end(number, now, _SKIPPED, EventType.TASK_SKIPPED, {"cause": self.ids[culprit]})

    def _stop(self, now: float) -> None:
        """Nothing that hasn't started starts any more, all_finished tasks apart."""
        self.stopping = True
        spared = self.claimed
        rules = self.rules
        doomed = [
            number
            for number, state in enumerate(self.state)
            if state == PENDING and rules[number] != ALL_FINISHED and number not in spared
        ]
        for ready in self.ready:
            ready[:] = [rank for rank in ready if rules[rank & NUMBER_MASK] == ALL_FINISHED]
            heapify(ready)
        self._cancel_all(doomed, now)
        self._finish_if_done(now)

    def _cancel_all(self, doomed: list[int], now: float) -> None:
        for number in doomed:
            self._end(number, now, _CANCELLED, EventType.TASK_CANCELLED, {"reason": self.reason})
        self._spread(list(doomed), now)

    def _end(self, number: int, now: float, table: dict[int, int], event: EventType, data: dict[str, Any]) -> None:
        self._move(number, table, event)
        self.counts[self.state[number]] += 1
        self.unfinished -= 1
        self.records.append((log.CODE_OF[event], number, now, self.attempts[number], data))

    def _finish_if_done(self, now: float) -> None:
        if not self.unfinished and not self.status.is_final:
            self._finish(now)

    def _move(self, number: int, table: dict[int, int], event: EventType) -> None:
        try:
            self.state[number] = table[self.state[number]]
        except KeyError:
            raise self._illegal(number, event) from None

    def _illegal(self, number: int, event: EventType) -> NervError:
        status = STATUSES[self.state[number]].name
        return NervError(f"{event} can't happen to task {self.ids[number]!r}, which is {status}: a bug in nerv")


class LevelScheduler(Scheduler):
    """`scheduling="levels"`: a task starts only after every task of the levels before its own has ended.

    The barrier version, for comparison and for those who want it. `at` is the level that is running, `left` how many
    tasks of each level haven't ended, `held` the ready tasks of later levels.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        levels = self.graph.levels()
        self.at = 0
        self.left = [len(level) for level in levels]
        self.held: list[list[int]] = [[] for _ in levels]
        self.level_of = [0] * len(self.state)
        for depth, members in enumerate(levels):
            for number in members:
                self.level_of[number] = depth

    def _release(self, number: int) -> None:
        level = self.level_of[number]
        if level > self.at:
            self.held[level].append(number)
        else:
            super()._release(number)

    def completed(self, number: int, now: float) -> None:
        """A running task's function returned."""
        super().completed(number, now)
        self._leave(number)

    def _end(self, number: int, now: float, table: dict[int, int], event: EventType, data: dict[str, Any]) -> None:
        super()._end(number, now, table, event, data)
        self._leave(number)

    def _leave(self, number: int) -> None:
        self.left[self.level_of[number]] -= 1
        while self.at < len(self.left) and not self.left[self.at]:
            self.at += 1
            held = self.held[self.at] if self.at < len(self.held) else []
            for waiting in held:
                if self.state[waiting] == PENDING and not (self.stopping and self.rules[waiting] != ALL_FINISHED):
                    super()._release(waiting)
            held.clear()
