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
- `errands`: what a task is taken for, where that isn't an attempt: its FALLBACK, its COMPENSATION, or a LOOKUP.
- `waits` and `saga`: what some tasks wait for besides, and what is to be undone (nerv/waits.py, nerv/sagas.py); None
  where no task has such policies.
- `families` and `suspensions`: tasks that others have added, and tasks that returned `Wait` (nerv/families.py,
  nerv/suspensions.py); None until there are some. What they have for the engine is in `news`.
- `dead`: tasks on branches that weren't taken (nerv/branching.py).
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
from nerv.detours import Detours
from nerv.errors import TaskCancelledError
from nerv.events import EventType
from nerv.graph import NUMBER_MASK, with_priority
from nerv.sparse import each
from nerv.states import (
    ALL_COMPLETED,
    ALL_FINISHED,
    ANY_COMPLETED,
    CANCELLED_MOVES,
    COMPLETED,
    COMPLETED_MOVES,
    FAILED_MOVES,
    PENDING,
    RUNNING,
    STARTED_MOVES,
    STATUSES,
    WAITING,
)
from nerv.statuses import WorkflowStatus

__all__ = [
    "ALL_COMPLETED",
    "ALL_FINISHED",
    "ANY_COMPLETED",
    "COMPLETED",
    "PENDING",
    "STATUSES",
    "Scheduler",
]


_UNSTARTED: Final = (PENDING, WAITING)


class Scheduler(Detours):
    """Decides what runs when in one execution.

    Args:
        graph: the workflow's graph.
        ids: task ids by number, for the events' data.
        rules: run_when by number: ALL_COMPLETED, ALL_FINISHED or ANY_COMPLETED.
        queue_of: the queue of each task.
        queues: how many queues there are.
        records: the execution's log, to append to.
        fail_fast: whether the first failure stops everything that hasn't started.
        waits, saga: see the module.
    """

    # ---- the life of the execution --------------------------------------------------------------------------------

    def start(self, now: float, data: dict[str, Any], reused: Sequence[int] = ()) -> None:
        """Begin: tasks that need nothing are ready. An execution without tasks is complete at once.

        `reused` tasks, which don't depend on any that aren't, are complete from the start.
        """
        self.status = WorkflowStatus.RUNNING
        if self.waits is not None:
            self.waits.scheduler = self
        self.records.append((log.WORKFLOW_STARTED, -1, now, 0, {**data, "task_count": self.unfinished}))
        for number in reused:
            self._reuse(number, now)
        if self.is_plain:
            self._release_first()
        else:
            for number, count in enumerate(self.missing):
                if not count and self.state[number] == PENDING:
                    self.release(number)
        if self.cancelling:
            self.stop(now)
        self.finish_if_done(now)

    def _release_first(self) -> None:
        """Everything that needs nothing is ready, at once."""
        entry, queue_of, ranks = self.entry, self.queue_of, self.ranks
        for number, count in enumerate(self.missing):
            if not count and not self.state[number]:
                entry[queue_of[number]].append(ranks[number])
        for ready in entry:
            heapify(ready)

    def _reuse(self, number: int, now: float) -> None:
        self.state[number] = COMPLETED
        self.counts[COMPLETED] += 1
        self.unfinished -= 1
        self.records.append((log.TASK_COMPLETED, number, now, 0, {"reused": True}))
        for dependent in self._dependents[number]:
            if self.rules[dependent] == ANY_COMPLETED:
                self.missing[dependent] = 0
            else:
                self.missing[dependent] -= 1

    def pause(self, now: float) -> bool:
        """Give out nothing more until `resume`. False: it wasn't RUNNING."""
        if self.status is not WorkflowStatus.RUNNING:
            return False
        self.status = WorkflowStatus.PAUSED
        self.records.append((log.WORKFLOW_PAUSED, -1, now, 0, None))
        if self.waits is not None:
            self.waits.pause()
        return True

    def resume(self, now: float) -> bool:
        """Go on after `pause`. False: it wasn't PAUSED."""
        if self.status is not WorkflowStatus.PAUSED:
            return False
        self.status = WorkflowStatus.RUNNING
        self.records.append((log.WORKFLOW_RESUMED, -1, now, 0, None))
        if self.waits is not None:
            self.waits.stir()
        return True

    def cancel(self, now: float, reason: str = "") -> bool:
        """Start nothing more but all_finished tasks. Running tasks are the engine's to tell. False: it has ended.

        An execution that hasn't started yet is cancelled as soon as it has.
        """
        if self.cancelling or self.status.is_final or self.status is WorkflowStatus.INTERRUPTED:
            return False
        self.resume(now)
        self.cancelling = True
        self.reason = reason
        if self.status is not WorkflowStatus.CREATED:
            self.stop(now)
        return True

    def fail(self, now: float, fault: BaseException) -> bool:
        """The execution itself has failed, not one of its tasks: start nothing but cleanup. False: it has ended."""
        if self.status.is_final or self.status is WorkflowStatus.CREATED:
            return False
        self.resume(now)
        self.fault = fault
        self.stop(now)
        return True

    def halt(self, now: float) -> None:
        """Cancel whatever hasn't ended, cleanup too, and undo nothing; nothing may be running any more."""
        self.claimed.clear()
        self.stopping = self.cancelling = True
        for number, state in each(self.state):
            if state in (PENDING, RUNNING, WAITING):
                self._end(number, now, CANCELLED_MOVES, EventType.TASK_CANCELLED, {"reason": self.reason})
        for ready in self.ready:  # last: the end of a level may have released tasks of the next
            ready.clear()
        if self.saga is not None:
            error = TaskCancelledError(self.reason or "the execution was halted")
            for number in self.saga.give_up():
                self.records.append((log.TASK_COMPENSATED, number, now, 0, {"error": error}))
        self.finish_if_done(now)

    def _finish(self, now: float) -> None:
        counts = self.counts
        if counts[COMPLETED] + self.excused == len(self.state) and self.fault is None:
            self.status, code = WorkflowStatus.COMPLETED, log.WORKFLOW_COMPLETED
        elif self.cancelling and self.fault is None:
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
        if self.fault is not None:
            data["error"] = self.fault
        if self.waits is not None:
            self.waits.close()
        self.records.append((code, -1, now, 0, data))

    # ---- work -----------------------------------------------------------------------------------------------------

    def take(self, queue: int, now: float) -> int:
        """Start the best ready task of a queue, and return its number; -1 if there is none to start.

        One that is in `errands` isn't started: it is taken for that errand.
        """
        ready = self.ready[queue]
        if not ready or self.status is WorkflowStatus.PAUSED:
            return -1
        number = heappop(ready) & NUMBER_MASK
        if self.waits is not None:
            number = self.waits.admit(number, queue, now)
            if number < 0 or number in self.errands:
                return number
        try:
            self.state[number] = STARTED_MOVES[self.state[number]]
        except KeyError:
            if number in self.errands:
                return number
            raise self._illegal(number, EventType.TASK_STARTED) from None
        attempt = self.attempts[number] = self.attempts[number] + 1
        self.records.append((log.TASK_STARTED, number, now, attempt, None))
        return number

    @property
    def can_be_claimed(self) -> bool:
        """Whether tasks may be handed out before they start. Limits count starts, so tasks that have some may not."""
        return (self.waits is None or not self.waits.terms) and not self.errands

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
        self._move(number, STARTED_MOVES, EventType.TASK_STARTED)
        attempt = self.attempts[number] = self.attempts[number] + 1
        self.records.append((log.TASK_STARTED, number, now, attempt, None))
        return attempt

    def unclaim(self, number: int, now: float) -> None:
        """A claimed task comes back, not started."""
        self.claimed.remove(number)
        if self.gives_up(number):
            self._cancel_all([number], now)
            self.finish_if_done(now)
        else:
            self.release(number)

    def completed(self, number: int, now: float, data: dict[str, Any] | None = None) -> None:
        """A task's function returned, or something stands in for its result. `data` goes into the event's."""
        if self.waits is not None:
            self.waits.left(number, now, ok=True)
        try:
            self.state[number] = COMPLETED_MOVES[self.state[number]]
        except KeyError:
            raise self._illegal(number, EventType.TASK_COMPLETED) from None
        self.records.append((log.TASK_COMPLETED, number, now, self.attempts[number], data))
        self.counts[COMPLETED] += 1
        missing = self.missing
        for dependent in self._dependents[number]:
            left = missing[dependent] = missing[dependent] - 1
            if not left:
                if self.state[dependent]:
                    if self.families is not None:
                        self.families.less(dependent)
                elif self.is_free:
                    heappush(self.entry[self.queue_of[dependent]], self.ranks[dependent])
                else:
                    self.release(dependent)
        self.unfinished -= 1
        if self.unfinished <= self._floor:
            self.finish_if_done(now)

    def relay(self, number: int, queue: int, now: float) -> int:
        """`completed` and then `take`, in one go: a task's function returned, and the best ready one starts.

        For executions that are RUNNING and plain, with one queue and something ready in it. What a plain execution
        can't have (errands, limits, families, another order) isn't asked for.
        """
        state, append, attempts, missing = self.state, self.records.append, self.attempts, self.missing
        if state[number] != RUNNING:
            raise self._illegal(number, EventType.TASK_COMPLETED)
        state[number] = COMPLETED
        append((log.TASK_COMPLETED, number, now, attempts[number], None))
        self.counts[COMPLETED] += 1
        self.unfinished -= 1
        ready = self.ready[queue]
        for dependent in self._dependents[number]:
            left = missing[dependent] = missing[dependent] - 1
            if not left and not state[dependent]:
                heappush(ready, self.ranks[dependent])
        number = heappop(ready) & NUMBER_MASK
        if state[number]:
            raise self._illegal(number, EventType.TASK_STARTED)
        state[number] = RUNNING
        attempt = attempts[number] = attempts[number] + 1
        append((log.TASK_STARTED, number, now, attempt, None))
        return number

    def failed(self, number: int, now: float, error: object) -> None:
        """A task has failed for good. `error` goes into the event's data."""
        if self.waits is not None:
            self.waits.left(number, now, ok=False)
        self._end(number, now, FAILED_MOVES, EventType.TASK_FAILED, {"error": error})
        self._spread([number], now)
        families = self.families
        if families is not None:
            families.failed(number, now)
        if self.fail_fast and not self.stopping:
            if families is None or not families.takes_on(number):
                self.skip_followers(number, now)
                self.stop(now)
            else:
                families.contain(number, now)
        self.finish_if_done(now)

    def cancelled(self, number: int, now: float, error: object) -> None:
        """A running task stopped because it was told to, or was given up."""
        if self.waits is not None:
            self.waits.left(number, now, ok=None)
        self._end(number, now, CANCELLED_MOVES, EventType.TASK_CANCELLED, {"error": error, "reason": self.reason})
        self._spread([number], now)
        self.finish_if_done(now)

    def progressed(self, number: int, now: float, data: dict[str, Any]) -> bool:
        """A running task reports how far it is. False: it isn't running any more."""
        if self.state[number] != RUNNING:
            return False
        self.records.append((log.TASK_PROGRESS, number, now, self.attempts[number], data))
        return True

    def reprioritize(self, number: int, now: float, priority: int) -> bool:
        """Change a task's priority. False: it has ended."""
        if self.has_ended(number):
            return False
        before = self.ranks[number]
        after = self.set_priority(number, priority)
        if self.waits is not None:
            self.waits.reranked(number, after)
        for ready in self.ready if self.staging is None else (*self.ready, *self.staging.heaps):
            if before in ready:
                ready[ready.index(before)] = after
                heapify(ready)
        self.records.append((log.TASK_REPRIORITIZED, number, now, self.attempts[number], {"priority": priority}))
        return True

    def set_priority(self, number: int, priority: int) -> int:
        """Change a task's rank, which is returned."""
        if self.ranks is self.graph.ranks:
            self.ranks = list(self.ranks)
        rank = self.ranks[number] = with_priority(self.ranks[number], priority)  # type: ignore[index]  # the list above
        return rank

    # ---- how the execution ends --------------------------------------------------------------------------------------

    def stop(self, now: float) -> None:
        """Nothing that hasn't started starts any more, all_finished tasks apart."""
        self.stopping = True
        claimed, errands, rules = self.claimed, self.errands, self.rules
        doomed = [
            number
            for number, state in each(self.state)
            if state in _UNSTARTED and rules[number] != ALL_FINISHED and number not in claimed
            if number not in errands  # whoever is due for its fallback has failed, and is told so when it is taken
        ]
        for ready in self.ready:
            ready[:] = [r for r in ready if rules[r & NUMBER_MASK] == ALL_FINISHED or r & NUMBER_MASK in errands]
            heapify(ready)
        self.cancel_all(doomed, now)
        self.finish_if_done(now)

    def finish_if_done(self, now: float) -> None:
        """End if nothing is left, undone things first."""
        if self.unfinished > self._floor or (self.saga is not None and self.saga.holds(self)):
            return
        if not self.unfinished and not self.status.is_final:
            self._finish(now)
