"""Policies under a thousand schedules: the engine's promises hold, whatever the workflow and whatever befalls it.

`simulate` checks each execution by its events. Here are random workflows for it, and what it can't see: limits that
several executions share.
"""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from random import Random

import pytest

from nerv import CircuitBreaker, RateLimit, TaskDef, Workflow, WorkflowManager
from nerv.eventlog import TASK_STARTED
from nerv.events import EventType
from nerv.limits import exact
from nerv.testing import FakeClock, Faults, SimulatedPools, simulate
from tests.handshake import kinds, statuses
from tests.properties.policed import RESOURCES, SETTINGS, random_faults, random_workflow


def explore(seeds, schedules=5):
    """Simulate random workflows; what they ended as, and how many events there were."""
    statuses, events = Counter(), 0
    for seed in seeds:
        for failure_policy in ("fail_fast", "continue"):
            report = simulate(
                random_workflow(seed),
                schedules,
                faults=random_faults(seed),
                failure_policy=failure_policy,
                scheduling="levels" if seed % 5 == 0 else "ready",
                **SETTINGS,
            )
            statuses.update(report.statuses)
            events += report.events
    return statuses, events


def test_random_workflows_with_every_policy():
    statuses, events = explore(range(30))
    assert set(statuses) == {"COMPLETED", "FAILED", "CANCELLED"}
    assert events > 2500


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("part", range(10))
def test_thousands_of_random_workflows(part, capsys):
    statuses, events = explore(range(1000 + part * 500, 1500 + part * 500), schedules=10)
    with capsys.disabled():
        print(f"\npart {part}: {dict(statuses)}, {events:,} events")


def shared(seed, executions=4):
    """Several executions of workflows that share limits by name, all at once, to their end."""
    random = Random(seed)
    limit = RateLimit(random.randint(1, 3), random.choice((1.0, 30.0)), "api")
    breaker = CircuitBreaker(random.randint(1, 3), random.choice((5.0, 60.0)), random.randint(1, 2), "db")
    chance = random.choice((0.0, 0.2, 0.5))
    faults = Faults(seed, failing=chance, slow=0.3, hanging=chance)
    clock = FakeClock(auto=True)
    pools = SimulatedPools(seed, clock=clock, takes=faults.takes, faults=faults)
    with WorkflowManager(
        clock=clock, pool_factory=pools, failure_policy="continue", resources=RESOURCES, workers=random.randint(1, 5)
    ) as manager:
        running = []
        for number in range(executions):
            tasks = [
                TaskDef(
                    f"t{task}",
                    int,
                    timeout=20.0,
                    retry_policy=random.choice((None, 3)),
                    rate_limit=random.choice((None, limit)),
                    circuit_breaker=random.choice((None, breaker)),
                    resources=random.choice((None, {"gpu": 1}, {"gpu": 2}, {"memory": 0.4})),
                )
                for task in range(random.randint(1, 8))
            ]
            running.append(manager.start(Workflow(f"wf{number}", tasks)))
            for _ in range(random.randint(0, 5)):
                pools.step()
        pools.run()
        changes = [
            event.type for event in manager.event_bus.get_history(limit=1000) if event.type.startswith("CIRCUIT")
        ]
    return running, limit, breaker, changes[::-1]


def moments(running, wants):
    """When attempts started, of the tasks that a function chooses; in order."""
    return sorted(
        Fraction(at)
        for execution in running
        for code, number, at, *_ in execution.log.records
        if code == TASK_STARTED and wants(execution.workflow.tasks[execution.log.ids[number]])
    )


@pytest.mark.parametrize("seed", range(40))
def test_limits_hold_over_all_executions_of_an_engine(seed):
    running, limit, breaker, changes = shared(seed)
    assert all(execution.status.is_final for execution in running), "nobody waits for ever"
    starts = moments(running, lambda task: task.rate_limit is not None)
    windows = zip(starts, starts[limit.count :], strict=False)
    assert all(last - first >= Fraction(limit.period) for first, last in windows)
    assert changes == (["CIRCUIT_OPENED", "CIRCUIT_CLOSED"] * len(changes))[: len(changes)] or breaker.half_open_calls
    check_resources(running)


ENDS = (EventType.TASK_COMPLETED, EventType.TASK_FAILED, EventType.TASK_RETRYING, EventType.TASK_CANCELLED)


def check_resources(running):
    """At every moment no more is held than there is; what is given back at a moment may be taken at the same."""
    acts = []
    for number, execution in enumerate(running):
        begun = set()
        for event in execution.events():
            task = execution.workflow.tasks.get(event.task_id)
            if task is None or not task.resources:
                continue
            if event.type == EventType.TASK_STARTED:
                begun.add(task.id)
                acts += [(event.timestamp, 1, number, name, amount) for name, amount in task.resources.items()]
            elif event.type in ENDS and task.id in begun:
                begun.remove(task.id)
                acts += [(event.timestamp, 0, number, name, amount) for name, amount in task.resources.items()]
    held = Counter()
    for _, takes, _, name, amount in sorted(acts):
        held[name] += exact(amount) if takes else -exact(amount)
        assert held[name] <= exact(RESOURCES[name])
    assert not any(held.values())


def test_of_two_tasks_that_a_breaker_refuses_at_once_the_first_may_stop_the_second():
    breaker = CircuitBreaker(1, 60.0)
    tasks = [
        TaskDef("fails", lambda: 1 // 0, circuit_breaker=breaker, fallback=0, priority=2),
        TaskDef("b", int, circuit_breaker=breaker),
        TaskDef("c", int, circuit_breaker=breaker),
    ]
    pools = SimulatedPools()
    with WorkflowManager(pool_factory=pools, workers=1) as manager:
        execution = manager.start(Workflow("wf", tasks))
        pools.run()
    assert statuses(execution) == {"fails": "COMPLETED", "b": "FAILED", "c": "CANCELLED"}


def test_a_task_that_waits_for_more_than_is_free_keeps_nobody_busy():
    """It waits for who gives back; no clock is set for it."""
    clock = FakeClock(auto=True)
    pools = SimulatedPools(1, clock=clock, takes=lambda call: 10.0)
    with WorkflowManager(clock=clock, pool_factory=pools, workers=4, resources={"gpu": 2}) as manager:
        tasks = [TaskDef("one", int, resources={"gpu": 1}, priority=2), TaskDef("both", int, resources={"gpu": 2})]
        execution = manager.start(Workflow("wf", tasks))
        while pools.step():
            pass
        assert kinds(execution, "both") == ["TASK_WAITING"]
        assert clock.due is None
        pools.run()
    assert execution.sequence == ["one", "both"]
    assert clock.monotonic() == 20.0
