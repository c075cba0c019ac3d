"""The real engine on simulated pools: what test_exhaustive.py and test_walks.py hold of the scheduler holds of it too.

Random workflows with random rules, priorities and pools (one of which claims ahead, as processes do), several
executions at once, pauses, resumes and cancels at any moment, calls that fail, hang and obey. At every step limits hold
and nothing waits for nothing; at the end `History` reads every log, and results are what a plain loop gives.
"""

import pytest

from nerv import EventBus, TaskDef, Workflow, WorkflowManager
from nerv.scheduler import Scheduler
from nerv.statuses import WorkflowStatus
from nerv.testing import SimulatedPools
from tests.properties.simulating import Simulation


@pytest.mark.parametrize("seed", range(60))
def test_one_execution_with_somebody_interfering(seed):
    assert Simulation(seed, most=25).go(executions=1) > 1


@pytest.mark.parametrize("seed", range(30))
def test_several_executions_at_once(seed):
    assert Simulation(seed + 1000, most=12).go(executions=4) > 8


@pytest.mark.parametrize("seed", range(30))
def test_calls_that_take_time_or_hang(seed):
    assert Simulation(seed + 2000, most=12, takes_time=True).go(executions=3) > 6


@pytest.mark.parametrize("seed", range(40))
def test_closing_a_manager_at_any_moment_ends_everything(seed):
    assert Simulation(seed + 4000, most=12, takes_time=seed % 2 == 0).close_after(seed * 2, executions=3) > 6


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("part", range(10))
def test_thousands_of_simulations(part, capsys):
    events = 0
    for seed in range(10_000 + part * 300, 10_000 + part * 300 + 300):
        events += Simulation(seed, most=40).go(executions=1)
        events += Simulation(seed, most=15).go(executions=5)
        events += Simulation(seed, most=15, takes_time=True).go(executions=3)
        events += Simulation(seed, most=15, takes_time=True).close_after(seed % 100, executions=3)
    with capsys.disabled():
        print(f"\npart {part}: 1,200 simulations, {events:,} events")


def test_the_same_seed_gives_the_same_run():
    def told(seed):
        simulation = Simulation(seed)
        simulation.go(executions=3)
        return [[record[:4] for record in one.execution.log.records] for one in simulation.running]

    assert told(5) == told(5)
    assert told(5) != told(6)


def test_an_execution_that_is_cancelled_while_it_is_being_started_ends_cancelled():
    """Another thread may know its id already and be quicker than the one that starts it."""

    class Hasty(EventBus):
        def attach(self, log):
            super().attach(log)
            assert manager.execution(log.execution_id).cancel("changed my mind")

    pools = SimulatedPools()
    with WorkflowManager(pool_factory=pools, event_bus=Hasty()) as manager:
        tasks = [TaskDef("a", int), TaskDef("clean up", int, dependencies=["a"], run_when="all_finished")]
        execution = manager.start(Workflow("wf", tasks))
        pools.run()
    assert execution.status is WorkflowStatus.CANCELLED
    assert execution.results == {"clean up": 0}
    assert [event.type for event in execution.events()][:2] == ["WORKFLOW_STARTED", "TASK_CANCELLED"]


@pytest.mark.parametrize("seed", range(20))
def test_between_executions_the_more_urgent_task_starts_first(seed, monkeypatch):
    """Whenever a task is taken, no other execution has a ready task of higher priority for that pool."""
    simulation = Simulation(seed + 3000, most=20)
    taken = 0

    def checked(self, queue, now, take=Scheduler.take):
        nonlocal taken
        lives = simulation.engine.lives.values()
        mine = next((live for live in lives if live.scheduler is self), None)
        if mine is not None and self.ready[queue] and self.status is WorkflowStatus.RUNNING:
            pool = mine.lanes[queue].pool
            rivals = [lane for live in lives if live.scheduler.status is WorkflowStatus.RUNNING for lane in live.lanes]
            best = min(lane.ready[0] >> 60 for lane in rivals if lane.pool is pool and lane.ready)
            assert self.ready[queue][0] >> 60 == best, "somebody else's task is more urgent"
            taken += 1
        return take(self, queue, now)

    monkeypatch.setattr(Scheduler, "take", checked)
    simulation.go(executions=5)
    assert taken
