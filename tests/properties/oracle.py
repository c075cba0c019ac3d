"""What API.md says about running, evaluated from scratch at each step: slow, obvious, independent of the scheduler.

`Case` is what there is to run. `Oracle` is where an execution of it is; each of its moves looks at the statuses of all
tasks, and says what must become of them. `Machine` (machine.py) holds a scheduler against it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from nerv.events import EventType
from nerv.statuses import WorkflowStatus
from tests.properties.graphs import Needs

PENDING, RUNNING = "PENDING", "RUNNING"
COMPLETED, FAILED, SKIPPED, CANCELLED = "COMPLETED", "FAILED", "SKIPPED", "CANCELLED"
BAD = frozenset({FAILED, SKIPPED, CANCELLED})
FINAL = BAD | {COMPLETED}
ENDED = (WorkflowStatus.COMPLETED, WorkflowStatus.FAILED, WorkflowStatus.CANCELLED)

Statuses = Mapping[int, str] | list[str]
Fact = tuple[EventType, int, int, Any]
"""An event as the oracle tells it: type, task (-1: the execution), attempt, data."""


@dataclass(frozen=True)
class Case:
    """A graph and how it is to be run. `queue_of` gives each task its queue; `None` puts all in one."""

    needs: Needs
    rules: tuple[str, ...] = ()
    fail_fast: bool = True
    priorities: tuple[int, ...] = ()
    queue_of: tuple[int, ...] = ()
    levels: bool = False

    def __post_init__(self) -> None:
        for name, value in (("rules", "all_completed"), ("priorities", 1), ("queue_of", 0)):
            if not getattr(self, name):
                object.__setattr__(self, name, (value,) * len(self.needs))

    @cached_property
    def tasks(self) -> range:
        return range(len(self.needs))

    @cached_property
    def queues(self) -> int:
        return 1 + max(self.queue_of, default=0)

    @cached_property
    def needed_by(self) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(other for other in self.tasks if task in self.needs[other]) for task in self.tasks)

    @cached_property
    def ancestors(self) -> tuple[frozenset[int], ...]:
        """Everything that a task depends on, directly or not."""
        known: dict[int, frozenset[int]] = {}

        def of(task: int) -> frozenset[int]:
            if task not in known:
                known[task] = frozenset(self.needs[task]).union(*(of(need) for need in self.needs[task]))
            return known[task]

        return tuple(of(task) for task in self.tasks)

    @cached_property
    def level_of(self) -> tuple[int, ...]:
        return self._longest(self.needs)

    @cached_property
    def urgency(self) -> tuple[tuple[int, int, int], ...]:
        """Sorts ready tasks: higher priority, then the longer chain behind, then definition order."""
        behind = self._longest(self.needed_by)
        return tuple((-self.priorities[task], -behind[task], task) for task in self.tasks)

    def _longest(self, edges: Needs) -> tuple[int, ...]:
        known: dict[int, int] = {}

        def of(task: int) -> int:
            if task not in known:
                known[task] = max((1 + of(other) for other in edges[task]), default=0)
            return known[task]

        return tuple(of(task) for task in self.tasks)

    def may_run(self, task: int, status: Statuses) -> bool:
        """Whether all that the task waits for has happened, by its run_when."""
        before = [status[need] for need in self.needs[task]]
        if self.rules[task] == "all_finished":
            return all(one in FINAL for one in before)
        if self.rules[task] == "any_completed":
            return not before or COMPLETED in before
        return all(one == COMPLETED for one in before)

    def is_hopeless(self, task: int, status: Statuses) -> bool:
        """Whether what the task waits for can't happen any more."""
        before = [status[need] for need in self.needs[task]]
        if self.rules[task] == "all_finished" or not before:
            return False
        if self.rules[task] == "any_completed":
            return all(one in BAD for one in before)
        return any(one in BAD for one in before)


def final_statuses(case: Case, failing: Collection[int]) -> list[str]:
    """How a run under "continue" that nobody cancels ends: by graph, rules and which tasks fail, in whatever order."""
    status: dict[int, str] = {}

    def of(task: int) -> str:
        if task not in status:
            known = {need: of(need) for need in case.needs[task]}
            runs = case.may_run(task, known)
            status[task] = (FAILED if task in failing else COMPLETED) if runs else SKIPPED
        return status[task]

    return [of(task) for task in case.tasks]


@dataclass
class Oracle:
    """Where an execution is. Every move returns the events that it must cause, cause first and end last."""

    case: Case
    status: list[str] = field(default_factory=list)
    workflow: WorkflowStatus = WorkflowStatus.CREATED
    claimed: frozenset[int] = frozenset()
    stopping: bool = False
    cancelling: bool = False
    halted: bool = False
    reason: str = ""
    blame: dict[int, int] = field(default_factory=dict)
    attempts: list[int] = field(default_factory=list)

    def copied(self) -> Oracle:
        """A twin that goes its own way."""
        return Oracle(
            self.case, self.status[:], self.workflow, self.claimed, self.stopping, self.cancelling, self.halted,
            self.reason, self.blame.copy(), self.attempts[:],
        )  # fmt: skip

    # ---- what is asked of it ----------------------------------------------------------------------------------------

    @property
    def running(self) -> list[int]:
        return [task for task in self.case.tasks if self.status[task] == RUNNING]

    @property
    def unfinished(self) -> int:
        return sum(status not in FINAL for status in self.status)

    def ready(self) -> list[int]:
        """Tasks that may start now, best first."""
        case, status = self.case, self.status
        if self.halted:
            return []
        found = [
            task
            for task in case.tasks
            if status[task] == PENDING and task not in self.claimed and case.may_run(task, status) and self._level(task)
        ]
        return sorted(found, key=case.urgency.__getitem__)

    def _level(self, task: int) -> bool:
        """With level barriers: whether everything in the levels before the task's own has ended."""
        case = self.case
        if not case.levels:
            return True
        return all(self.status[t] in FINAL for t in case.tasks if case.level_of[t] < case.level_of[task])

    def next_of(self, queue: int) -> int:
        """The task that a queue gives out, -1 if none."""
        if self.workflow is WorkflowStatus.PAUSED:
            return -1
        return next((task for task in self.ready() if self.case.queue_of[task] == queue), -1)

    # ---- moves ------------------------------------------------------------------------------------------------------

    def start(self) -> list[Fact]:
        self.status = [PENDING] * len(self.case.needs)
        self.attempts = [0] * len(self.status)
        self.workflow = WorkflowStatus.RUNNING
        facts: list[Fact] = [(EventType.WORKFLOW_STARTED, -1, 0, {"task_count": len(self.status)})]
        return facts + self._end()

    def take(self, queue: int) -> list[Fact]:
        task = self.next_of(queue)
        return [] if task < 0 else self._begin(task)

    def claim(self, queue: int) -> list[Fact]:
        task = self.next_of(queue)
        if task >= 0:
            self.claimed |= {task}
        return []

    def started(self, task: int) -> list[Fact]:
        self.claimed -= {task}
        return self._begin(task)

    def unclaim(self, task: int) -> list[Fact]:
        self.claimed -= {task}
        if not self.stopping or self.case.rules[task] == "all_finished":
            return []
        return self._cancel_rest() + self._end()

    def completed(self, task: int) -> list[Fact]:
        self.status[task] = COMPLETED
        return [(EventType.TASK_COMPLETED, task, 1, None), *self._end()]

    def failed(self, task: int, error: object) -> list[Fact]:
        self.status[task] = FAILED
        facts: list[Fact] = [(EventType.TASK_FAILED, task, 1, {"error": error})]
        for lost in self._lose(SKIPPED):
            self.blame[lost] = task
            facts.append((EventType.TASK_SKIPPED, lost, 0, {"cause": str(task)}))
        if self.case.fail_fast:
            facts += self._stop()
        return facts + self._end()

    def cancelled(self, task: int, error: object) -> list[Fact]:
        self.status[task] = CANCELLED
        facts: list[Fact] = [(EventType.TASK_CANCELLED, task, 1, {"error": error, "reason": self.reason})]
        facts += [(EventType.TASK_CANCELLED, lost, 0, {"reason": self.reason}) for lost in self._lose(CANCELLED)]
        return facts + self._end()

    def pause(self) -> list[Fact]:
        if self.workflow is not WorkflowStatus.RUNNING:
            return []
        self.workflow = WorkflowStatus.PAUSED
        return [(EventType.WORKFLOW_PAUSED, -1, 0, None)]

    def resume(self) -> list[Fact]:
        if self.workflow is not WorkflowStatus.PAUSED:
            return []
        self.workflow = WorkflowStatus.RUNNING
        return [(EventType.WORKFLOW_RESUMED, -1, 0, None)]

    def cancel(self, reason: str) -> list[Fact]:
        if self.cancelling or self.workflow in ENDED:
            return []
        facts = self.resume()
        self.cancelling, self.reason = True, reason
        return facts + self._stop() + self._end()

    def halt(self) -> list[Fact]:
        """Only when nothing runs."""
        if self.workflow in ENDED:
            return []
        self.halted = self.stopping = self.cancelling = True
        self.claimed = frozenset()
        return self._cancel(task for task in self.case.tasks if self.status[task] == PENDING) + self._end()

    def _begin(self, task: int) -> list[Fact]:
        self.status[task] = RUNNING
        self.attempts[task] += 1
        return [(EventType.TASK_STARTED, task, 1, None)]

    def _lose(self, becomes: str) -> list[int]:
        """Everything that became hopeless, and what that makes hopeless."""
        lost: list[int] = []
        while found := [
            task
            for task in self.case.tasks
            if self.status[task] == PENDING and self.case.is_hopeless(task, self.status)
        ]:
            for task in found:
                self.status[task] = becomes
            lost += found
        return lost

    def _stop(self) -> list[Fact]:
        self.stopping = True
        return self._cancel_rest()

    def _cancel_rest(self) -> list[Fact]:
        rules = self.case.rules
        return self._cancel(
            task
            for task in self.case.tasks
            if self.status[task] == PENDING and rules[task] != "all_finished" and task not in self.claimed
        )

    def _cancel(self, tasks: Any) -> list[Fact]:
        facts: list[Fact] = []
        for task in tasks:
            self.status[task] = CANCELLED
            facts.append((EventType.TASK_CANCELLED, task, 0, {"reason": self.reason}))
        return facts

    def _end(self) -> list[Fact]:
        if self.unfinished or self.workflow in ENDED:
            return []
        completed = self.status.count(COMPLETED)
        if completed == len(self.status):
            self.workflow = WorkflowStatus.COMPLETED
        else:
            self.workflow = WorkflowStatus.CANCELLED if self.cancelling else WorkflowStatus.FAILED
        data = {"workflow_id": None, "execution_id": None, "status": self.workflow}
        data |= {"task_count": len(self.status), "successful_tasks": completed}
        if self.reason:
            data["reason"] = self.reason
        return [(EventType["WORKFLOW_" + self.workflow.name], -1, 0, data)]
