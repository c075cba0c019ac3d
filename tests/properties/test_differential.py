"""Two ways to one truth: what the scheduler was at a moment, and what the events up to that moment are folded to."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from nerv.eventlog import TASK_STARTED, EventLog
from nerv.projector import StateProjector
from nerv.scheduler import STATUSES, Scheduler
from tests.properties.machine import Machine
from tests.properties.walking import Walk

RUN = "run"
SETS = {"running_tasks": "RUNNING", "completed_tasks": "COMPLETED", "failed_tasks": "FAILED"}


def seen(scheduler: Scheduler) -> dict[str, Any]:
    """What the scheduler says of itself, in the projections' words."""
    statuses = {task: STATUSES[number] for task, number in zip(scheduler.ids, scheduler.state, strict=True)}
    by_status = {name: {task for task, one in statuses.items() if one.name == status} for name, status in SETS.items()}
    begun = {scheduler.ids[record[1]] for record in scheduler.records if record[0] == TASK_STARTED}
    return {
        "task_status": statuses,
        "workflow_status": scheduler.status,
        "finished": len(statuses) - scheduler.unfinished,
        "attempts": {task: int(task in begun) for task in statuses},
        "blame": {scheduler.ids[task]: scheduler.ids[cause] for task, cause in scheduler.blame.items()},
        **by_status,
    }


def shown(projector: StateProjector, seq: int) -> dict[str, Any]:
    """The same, folded from the first `seq` events."""
    state = projector.at(RUN, seq)
    names = ("task_status", "workflow_status", *SETS)
    projected = {name: projector.project(name, execution=RUN, until=seq) for name in names}
    progress = projector.project("progress", execution=RUN, until=seq)
    tasks = state["tasks"]
    assert state["status"] is projected["workflow_status"]
    assert {task: one["status"] for task, one in tasks.items()} == projected["task_status"]
    assert progress["total"] == len(tasks)
    return {
        **projected,
        "finished": round(progress["fraction"] * len(tasks)),
        "attempts": {task: one["attempts"] for task, one in tasks.items()},
        "blame": {task: one["skipped_because"] for task, one in tasks.items() if one["skipped_because"] is not None},
    }


def compare_a_walk(random: Random, most: int) -> int:
    """Walk, note what the scheduler is after each move, and compare it with the fold, then and afterwards."""
    log = EventLog(RUN, "wf", [], {}, 0.0)
    projector = StateProjector()
    walk = Walk(random, most, log.records)
    log.ids = walk.machine.scheduler.ids
    projector.attach(log, workflow_id="wf")
    noted: dict[int, dict[str, Any]] = {}

    def note(machine: Machine) -> None:
        noted[len(log)] = seen(machine.scheduler)
        if random.random() < 0.1:  # a fold that is asked now and then, and one that is asked only at the end
            assert shown(projector, len(log)) == noted[len(log)]

    note(walk.machine)
    walk.to_its_end(note)
    late = StateProjector()
    late.attach(log, workflow_id="wf")
    for seq, expected in random.sample(list(noted.items()), len(noted)):
        assert shown(projector, seq) == expected
        assert shown(late, seq) == expected
    return len(noted)


@pytest.mark.parametrize("seed", range(40))
def test_the_fold_of_every_prefix_is_what_the_scheduler_was(seed):
    assert compare_a_walk(Random(seed), most=25)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_the_fold_of_every_prefix_of_many_walks(capsys):
    moments = sum(compare_a_walk(Random(seed), most=30) for seed in range(1000, 1500))
    with capsys.disabled():
        print(f"\n{moments:,} moments compared")
