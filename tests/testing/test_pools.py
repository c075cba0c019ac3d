"""Simulated pools: one thread, every order, and the same one again for the same seed."""

from __future__ import annotations

import threading
from collections import Counter
from math import inf

import pytest

import nerv.testing
from nerv import Output, TaskDef, WorkerCrashedError, Workflow, WorkflowDefinitionError, WorkflowManager, WorkflowStatus
from nerv.testing import FakeClock, Faults, InjectedError, SimulatedPool, SimulatedPools
from tests.handshake import kinds, statuses

DIAMOND = [
    TaskDef("a", lambda: 1),
    TaskDef("b", lambda a: a + 1, args=(Output("a"),)),
    TaskDef("c", lambda a: a * 10, args=(Output("a"),)),
    TaskDef("d", lambda b, c: b + c, args=(Output("b"), Output("c"))),
]


def wide(tasks=6, **options):
    """A workflow of independent tasks."""
    return Workflow("wide", [TaskDef(str(number), int, **options) for number in range(tasks)])


def simulated(workflow, seed=0, *, settings=None, **options):
    """An execution of the workflow, simulated as far as it goes."""
    pools = SimulatedPools(seed, **options)
    with WorkflowManager(pool_factory=pools, grace=0, **{"workers": 4, **(settings or {})}) as manager:
        execution = manager.start(workflow)
        pools.run()
    return execution


def test_everything_that_the_module_ships_is_documented():
    for name in nerv.testing.__all__:
        assert getattr(nerv.testing, name).__doc__


def test_a_workflow_runs_as_it_would_in_reality():
    execution = simulated(Workflow("wf", DIAMOND))
    assert execution.status is WorkflowStatus.COMPLETED
    assert execution.results == {"a": 1, "b": 2, "c": 10, "d": 12}


def test_everything_runs_in_the_thread_that_drives():
    threads = set()
    simulated(Workflow("wf", [TaskDef(str(i), lambda: threads.add(threading.get_ident())) for i in range(5)]))
    assert threads == {threading.get_ident()}
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("nerv-thread")]


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_a_seed_decides_the_order_and_all_orders_come(kind):
    """Three independent tasks end in each of the six possible orders, and a seed always gives the same one."""

    def order(seed):
        execution = simulated(wide(3, pool=kind), seed, settings={"workers": 3, "processes": 3})
        return tuple(event.task_id for event in execution.events() if event.type == "TASK_COMPLETED")

    orders = [order(seed) for seed in range(150)]
    assert len(set(orders)) == 6
    assert orders == [order(seed) for seed in range(150)]


def test_nothing_happens_before_it_is_driven_and_one_thing_a_step():
    pools = SimulatedPools()
    with WorkflowManager(pool_factory=pools) as manager:
        execution = manager.start(wide(1))
        assert kinds(execution) == ["WORKFLOW_STARTED"]
        assert pools.step()
        assert kinds(execution)[1:] == ["TASK_STARTED"]
        assert pools.step()
        assert kinds(execution)[2:] == ["TASK_COMPLETED", "WORKFLOW_COMPLETED"]
        assert not pools.step()


@pytest.mark.parametrize("workers", [1, 3])
def test_no_more_calls_are_in_flight_than_the_pool_has_workers(workers):
    most = 0
    pools = SimulatedPools(3)
    with WorkflowManager(pool_factory=pools, workers=workers) as manager:
        execution = manager.start(wide(12))
        while pools.step():
            running = Counter(statuses(execution).values())["RUNNING"]
            most = max(most, running)
            assert running <= workers
    assert most == workers


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_a_pool_can_be_resized_while_it_runs(kind):
    clock = FakeClock(auto=True)
    pools = SimulatedPools(3, clock=clock, takes=lambda call: 10.0)
    with WorkflowManager(pool_factory=pools, clock=clock, workers=2, processes=2) as manager:
        execution = manager.start(wide(60, pool=kind))
        (pool,) = pools._pools
        for limit in (2, 5, 1):
            manager.resize(kind, limit)
            for _ in range(25):  # what runs goes on to its end
                pools.go_on()
            while pools.step():
                pass
            assert pool.running == limit
        pools.run()
        assert execution.status is WorkflowStatus.COMPLETED


def test_one_pool_can_be_driven_by_itself():
    class Factory:
        def make(self, name, settings):
            return pool

    pool = SimulatedPool(7, "thread", 2)
    with WorkflowManager(pool_factory=Factory()) as manager:
        execution = manager.start(wide(5))
        while pool.step():
            assert pool.running <= 2
        assert len(execution.results) == 5


# ---- faults ----------------------------------------------------------------------------------------------------------


def test_faults_are_injected_in_place_of_the_function():
    called = []
    workflow = Workflow("wf", [TaskDef("a", lambda: called.append("a")), TaskDef("b", lambda: called.append("b"))])

    def faults(call):
        return InjectedError("no") if call.task.id == "a" else None

    execution = simulated(workflow, faults=faults, settings={"failure_policy": "continue"})
    assert called == ["b"]
    assert statuses(execution) == {"a": "FAILED", "b": "COMPLETED"}
    assert isinstance(execution.failures["a"], InjectedError)


@pytest.mark.parametrize(
    ("chances", "kind", "words"),
    [
        ({"failing": 1.0}, InjectedError, "task '0' was chosen to fail"),
        ({"crashing": 1.0}, WorkerCrashedError, "the worker of task '0' was chosen to die"),
    ],
)
def test_faults_come_with_their_chance(chances, kind, words):
    error = simulated(wide(1, pool="process"), faults=Faults(1, **chances)).failures["0"]
    assert type(error) is kind
    assert str(error) == words


def test_faults_are_as_frequent_as_they_are_said_to_be():
    faults = Faults(2, failing=0.3, crashing=0.1)
    execution = simulated(wide(1000, pool="process"), faults=faults, settings={"failure_policy": "continue"})
    found = Counter(type(error) for error in execution.failures.values())
    assert 250 < found[InjectedError] < 350
    assert 70 < found[WorkerCrashedError] < 130


def test_without_faults_nothing_fails():
    assert all(Faults(3)(call) is None for call in range(100))


def test_a_process_that_dies_takes_only_its_own_call_along():
    def faults(call):
        return WorkerCrashedError("died") if call.task.id == "3" else None

    for seed in range(30):
        execution = simulated(
            wide(8, pool="process"), seed, faults=faults, settings={"processes": 2, "failure_policy": "continue"}
        )
        assert list(execution.failures) == ["3"]
        assert len(execution.results) == 7


# ---- time ------------------------------------------------------------------------------------------------------------


def test_calls_take_simulated_time():
    clock = FakeClock(auto=True)
    pools = SimulatedPools(1, clock=clock, takes=lambda call: 10.0)
    with WorkflowManager(pool_factory=pools, clock=clock, workers=2) as manager:
        execution = manager.start(wide(6))
        pools.run()
        assert len(execution.results) == 6
        assert clock.monotonic() == 30.0, "six calls of 10 s on two workers"
        assert execution.task("5").execution_time == 10.0


def test_time_that_is_moved_by_hand_lets_calls_end():
    clock = FakeClock()
    pools = SimulatedPools(1, clock=clock, takes=lambda call: 5.0)
    with WorkflowManager(pool_factory=pools, clock=clock) as manager:
        execution = manager.start(wide(1))
        pools.run()
        assert statuses(execution) == {"0": "RUNNING"}
        clock.advance(5)
        pools.run()
        assert statuses(execution) == {"0": "COMPLETED"}


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_a_call_that_hangs_is_given_up_after_the_grace_of_a_cancel(kind):
    clock = FakeClock(auto=True)
    pools = SimulatedPools(1, clock=clock, takes=lambda call: inf if call.task.id == "0" else 1.0)
    with WorkflowManager(pool_factory=pools, clock=clock, workers=2, processes=2, grace=3600) as manager:
        execution = manager.start(wide(2, pool=kind))
        pools.run()
        assert execution.status is WorkflowStatus.RUNNING
        execution.cancel()
        pools.run()
        assert execution.status is WorkflowStatus.CANCELLED
        assert clock.monotonic() == 3601.0
        other = manager.start(wide(4, pool=kind))
        other.cancel()
        pools.run()
        assert other.status is WorkflowStatus.CANCELLED


def test_closing_a_manager_lets_its_calls_end_first():
    clock = FakeClock(auto=True)
    pools = SimulatedPools(1, clock=clock, takes=lambda call: 7.0)
    with WorkflowManager(pool_factory=pools, clock=clock, workers=2, grace=60) as manager:
        execution = manager.start(wide(4))
        assert pools.step()
        assert pools.step()
    assert statuses(execution) == {"0": "COMPLETED", "1": "COMPLETED", "2": "CANCELLED", "3": "CANCELLED"}
    assert clock.monotonic() == 7.0


def test_time_needs_a_clock():
    with pytest.raises(ValueError, match="pass clock= too"):
        SimulatedPool(takes=lambda call: 1.0)


# ---- kinds -----------------------------------------------------------------------------------------------------------


async def answer(value=42):
    """A coroutine function."""
    return value


async def refuse():
    """One that fails."""
    raise ValueError("no")


def test_coroutine_functions_run_to_their_end():
    execution = simulated(
        Workflow("wf", [TaskDef("a", answer), TaskDef("b", answer, args=(Output("a"),)), TaskDef("c", refuse)]),
        settings={"failure_policy": "continue"},
    )
    assert execution.results == {"a": 42, "b": 42}
    assert isinstance(execution.failures["c"], ValueError)


@pytest.mark.parametrize(("fn", "pool"), [(answer, "thread"), (int, "async"), (answer, "process")])
def test_a_function_in_the_wrong_kind_of_pool_is_refused_as_in_reality(fn, pool):
    with pytest.raises(WorkflowDefinitionError, match="leave out pool="):
        simulated(Workflow("wf", [TaskDef("a", fn, pool=pool)]))


def test_pools_are_made_as_the_settings_say():
    pools = SimulatedPools()
    settings = {"workers": 3, "processes": 5, "max_coroutines": 7, "pools": {"own": {"kind": "process", "workers": 2}}}
    with WorkflowManager(pool_factory=pools, **settings) as manager:
        made = {name: pools.make(name, manager.settings) for name in ("thread", "process", "async", "own")}
    assert {name: (pool.kind, pool.limit) for name, pool in made.items()} == {
        "thread": ("thread", 3),
        "process": ("process", 5),
        "async": ("async", 7),
        "own": ("process", 2),
    }


def test_a_task_that_obeys_a_cancel_ends_cancelled():
    pools = SimulatedPools()
    with WorkflowManager(pool_factory=pools) as manager:
        execution = manager.start(Workflow("wf", [TaskDef("a", lambda ctx: ctx.check_cancelled())]))
        pools.step()
        execution.cancel()
        pools.run()
        assert statuses(execution) == {"a": "CANCELLED"}
