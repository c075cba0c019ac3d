"""What is shown of an execution is what its scheduler knows, at every moment: with retries, waits, pauses, skips, with
tasks that were added, with routes, gates and loops, and in fed flows.

The real engine runs on simulated pools, with faults, and with somebody who interferes. After each step it is noted what
the scheduler says. All moments are then asked for in any order, of a projector that was asked before and of a new one.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest

from nerv import Flow, Manual, TaskDef, Workflow, WorkflowManager
from nerv.projector import StateProjector
from nerv.scheduler import STATUSES
from nerv.statuses import TaskStatus
from nerv.testing import FakeClock, Faults, SimulatedPools
from nerv.testing.cast import stands_for_others
from nerv.testing.tester import with_turns, without_inline
from tests.nodes.test_random import Drawing
from tests.properties.policed import SETTINGS, random_faults, random_workflow

SETS = {"running_tasks": "RUNNING", "completed_tasks": "COMPLETED", "failed_tasks": "FAILED"}


def known(execution: Any) -> dict[str, Any]:
    """What the scheduler says of itself, in the projections' words."""
    scheduler = execution._live.scheduler
    numbers = [number for number in range(len(scheduler.ids)) if _is_remembered(scheduler.state, number)]
    status = {str(scheduler.ids[number]): STATUSES[scheduler.state[number]] for number in numbers}
    return {
        "task_status": status,
        "workflow_status": scheduler.status,
        "attempts": {str(scheduler.ids[number]): scheduler.attempts[number] for number in numbers},
        "blame": {
            str(scheduler.ids[number]): str(scheduler.ids[cause])
            for number, cause in scheduler.blame.items()
            if STATUSES[scheduler.state[number]] is TaskStatus.SKIPPED
        },
        **{name: {task for task, one in status.items() if one.name == wanted} for name, wanted in SETS.items()},
        "progress": Counter(one.name.lower() for one in status.values()),
    }


def _is_remembered(state: Any, number: int) -> bool:
    return number in state if isinstance(state, dict) else True


def shown(projector: StateProjector, execution: str, seq: int) -> dict[str, Any]:
    """The same, folded from the first `seq` events."""
    state = projector.at(execution, seq)
    tasks = state["tasks"]

    def project(name: str) -> Any:
        return projector.project(name, execution=execution, until=seq)

    assert project("workflow_status") is state["status"]
    assert dict(project("task_status")) == {task: one["status"] for task, one in tasks.items()}
    progress = project("progress")
    assert progress["total"] == len(tasks)
    return {
        "task_status": dict(project("task_status")),
        "workflow_status": state["status"],
        "attempts": {task: one["attempts"] for task, one in tasks.items()},
        "blame": {
            task: one["skipped_because"]
            for task, one in tasks.items()
            if one["status"] is TaskStatus.SKIPPED and one["skipped_because"] is not None
        },
        **{name: set(project(name)) for name in SETS},
        "progress": Counter({one.name.lower(): progress[one.name.lower()] for one in TaskStatus}),
    }


class Watched:
    """One execution on simulated pools, and what its scheduler said after each step."""

    def __init__(self, workflow: Workflow, seed: int, faults: Faults, **settings: Any) -> None:
        self.random = random = Random(f"seen {seed}")
        clock = FakeClock(auto=True)
        faults = faults.seeded(seed)
        self.pools = SimulatedPools(
            seed,
            clock=clock,
            takes=faults.takes,
            faults=lambda call: None if stands_for_others(call.task) else faults(call),
        )
        self.manager = WorkflowManager(
            clock=clock, pool_factory=self.pools, **with_turns({"workers": random.randint(1, 4), **settings})
        )
        self.workflow = without_inline(workflow)
        self.execution = self.manager.start(self.workflow)
        self.noted: dict[int, dict[str, Any]] = {}
        self.cancelled = False

    def interfere(self) -> None:
        """Do what somebody may do."""
        draw, execution = self.random.random(), self.execution
        if execution.status.is_final:
            return
        if draw < 0.08:
            execution.pause()
        elif draw < 0.25:
            execution.resume()
        elif draw < 0.26:
            self.cancelled |= execution.cancel("enough")
        elif draw < 0.3:
            execution.reprioritize(self.random.choice(list(self.workflow.tasks)), self.random.randint(-2, 3))

    def note(self) -> None:
        """Note what the scheduler says; and see, now and then, that the same is shown at once."""
        now = len(self.execution.log)
        self.noted[now] = known(self.execution)
        if self.random.random() < 0.2:
            assert shown(self.manager.state_projector, self.execution.id, now) == self.noted[now]

    def go(self) -> Counter[str]:
        """To its end; then compare every moment. Gives the events."""
        self.note()
        for _ in range(20_000):
            self.interfere()
            if not self.pools.go_on() and not self.stir():
                break
            self.note()
        assert self.execution.status.is_final, self.execution.summary()
        late = StateProjector()
        late.attach(self.execution.log, workflow_id="wf")
        for seq, expected in self.random.sample(list(self.noted.items()), len(self.noted)):
            assert shown(self.manager.state_projector, self.execution.id, seq) == expected, seq
            assert shown(late, self.execution.id, seq) == expected, seq
        self.manager.close()
        return Counter(str(event.type) for event in self.execution.events())

    def stir(self) -> bool:
        """Nothing happens by itself any more: let it."""
        return self.execution.resume()


class Fed(Watched):
    """The same, of a fed flow."""

    left = 6

    def interfere(self) -> None:
        if self.random.random() < 0.2:
            self.send()
        elif self.random.random() < 0.5:
            super().interfere()

    def send(self) -> bool:
        """Send one more message, if it may be sent."""
        if not self.left or self.cancelled or self.execution.status.is_final:
            return False
        self.left -= 1
        self.execution.send(self.random.randrange(30))
        return True

    def stir(self) -> bool:
        if self.execution.resume() or self.send():
            return True
        return not self.cancelled and not self.execution.status.is_final and self.execution.close()


def fed(seed: int) -> Workflow:
    """A fed flow with a buffer, a branch, retries and steps that fail for some messages."""
    random = Random(f"fed {seed}")

    def halved(value: int) -> int:
        return value // 2 if value % 7 else value // 0

    flow = Flow("fed").triggered_by(Manual()).then(TaskDef("first", halved, retry_policy=random.choice((None, 2))))
    if random.random() < 0.6:
        flow = flow.buffer(random.choice((None, 1, 2)))
    flow = flow.when(lambda value: value % 2 == 0).then(TaskDef("even", halved)).otherwise()
    flow = flow.then(TaskDef("odd", halved, run_when="all_completed")).end_when()
    return flow.then(TaskDef("last", halved)).build()


FAULTS = Faults(failing=0.08, crashing=0.02, slow=0.1, hanging=0.03, late=0.3)


@pytest.mark.parametrize("failure_policy", ["fail_fast", "continue"])
def test_of_tasks_with_policies_what_is_shown_is_what_the_scheduler_was(failure_policy):
    events = Counter()
    for seed in range(40):
        events += Watched(
            random_workflow(seed),
            seed,
            random_faults(seed),
            failure_policy=failure_policy,
            scheduling="levels" if seed % 5 == 0 else "ready",
            **SETTINGS,
        ).go()
    seen = {
        "TASK_RETRYING",
        "TASK_WAITING",
        "TASK_SKIPPED",
        "TASK_COMPENSATED",
        "TASK_REPRIORITIZED",
        "WORKFLOW_PAUSED",
    }
    assert seen <= set(events)


@pytest.mark.parametrize("failure_policy", ["fail_fast", "continue"])
def test_of_tasks_that_add_route_and_wait_what_is_shown_is_what_the_scheduler_was(failure_policy):
    events = Counter()
    for seed in range(40):
        events += Watched(Drawing(seed).workflow(depth=2), seed, FAULTS, failure_policy=failure_policy).go()
    assert {"TASKS_ADDED", "TASK_WAITING", "TASK_SKIPPED", "TASK_CANCELLED", "WORKFLOW_RESUMED"} <= set(events)


def test_of_fed_flows_what_is_shown_is_what_the_scheduler_was():
    events = Counter()
    for seed in range(40):
        events += Fed(fed(seed), seed, FAULTS, failure_policy="continue").go()
    assert {"TASKS_ADDED", "TASK_RETRYING", "TASK_FAILED", "TASK_SKIPPED", "WORKFLOW_PAUSED"} <= set(events)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_of_many_more(capsys):
    moments = 0
    for seed in range(1000, 1500):
        for one in (
            Watched(random_workflow(seed), seed, random_faults(seed), **SETTINGS),
            Watched(Drawing(seed).workflow(depth=3), seed, FAULTS, failure_policy="continue"),
            Fed(fed(seed), seed, FAULTS),
        ):
            one.go()
            moments += len(one.noted)
    with capsys.disabled():
        print(f"\n{moments:,} moments compared")
