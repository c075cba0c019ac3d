"""Adaptation while it runs: another priority for a task, another size for a pool."""

import asyncio
import threading

import pytest

from nerv import ConfigError, RateLimit, TaskDef, TaskPriority, UnknownIdError, WorkflowManager
from tests.handshake import Hold, ended, eventually, flow, give
from tests.rig import Rig, data_of, starts


def many(count, prefix="t", **fields):
    return [TaskDef(f"{prefix}{i}", give, args=(i,), **fields) for i in range(count)]


# ---- priorities ----------------------------------------------------------------------------------------------------


def test_a_task_with_a_new_priority_starts_in_its_new_place():
    with Rig(workers=1, seconds={"t0": 5}) as rig:
        execution = rig.start(*many(5))
        rig.go(until=1)
        assert execution.reprioritize("t3", TaskPriority.CRITICAL)
        assert execution.reprioritize("t1", -5)
        rig.go()
    assert execution.sequence == ["t0", "t3", "t2", "t4", "t1"]
    assert [event.data for event in execution.events() if event.type.value == "TASK_REPRIORITIZED"] == [
        {"priority": 3},
        {"priority": -5},
    ]


def test_it_holds_for_tasks_that_are_not_ready_yet():
    with Rig(workers=1, seconds={"t0": 5}) as rig:
        execution = rig.start(*many(1), *many(4, "u", dependencies=["t0"]))
        rig.go(until=1)
        execution.reprioritize("u2", 9)
        rig.go()
    assert execution.sequence == ["t0", "u2", "u0", "u1", "u3"]


def test_it_holds_between_executions_too():
    with Rig(workers=1, seconds={"t0": 5}) as rig:
        one = rig.start(*many(3))
        two = rig.start(*many(3, "u"))
        rig.go(until=1)
        two.reprioritize("u2", 9)
        rig.go(until=5)
        assert starts(two, "u2") == [5]
        rig.go()
    assert two.sequence[0] == "u2"
    assert one.sequence[0] == "t0"


def test_who_waits_in_a_line_moves_up_in_it():
    with Rig(workers=1) as rig:
        execution = rig.start(*many(4, rate_limit=RateLimit(1, 10)))
        rig.go(until=5)
        execution.reprioritize("t3", 9)
        rig.go()
    assert execution.sequence == ["t0", "t3", "t1", "t2"]


def test_two_executions_of_one_workflow_have_priorities_of_their_own():
    with Rig(workers=1, seconds={"t0": 5}) as rig:
        one = rig.start(*many(3))
        one.reprioritize("t2", 9)
        rig.go()
        two = rig.run(*many(3))
    assert one.sequence == ["t2", "t0", "t1"]
    assert two.sequence == ["t0", "t1", "t2"]


def test_a_task_that_has_ended_keeps_its_priority():
    with Rig() as rig:
        execution = rig.run(*many(1))
        assert not execution.reprioritize("t0", 9)
    assert data_of(execution, "TASK_REPRIORITIZED") == []


def test_what_can_not_be_a_priority_is_refused():
    with Rig() as rig:
        execution = rig.run(*many(1))
        with pytest.raises(TypeError, match="priority"):
            execution.reprioritize("t0", "high")
        with pytest.raises(UnknownIdError, match="did you mean 't0'"):
            execution.reprioritize("t00", 1)


# ---- pools ---------------------------------------------------------------------------------------------------------


def test_a_pool_that_grows_takes_up_what_waits_at_once():
    holds = [Hold() for _ in range(4)]
    with WorkflowManager(workers=1) as manager:
        execution = manager.start(flow(*[TaskDef(f"t{i}", hold) for i, hold in enumerate(holds)]))
        holds[0].entered()
        manager.resize("thread", 4)
        for hold in holds:
            hold.entered()
        for hold in holds:
            hold.go()
        ended(execution)


def test_a_pool_that_shrinks_lets_what_runs_go_on():
    with Rig(workers=4, seconds={f"t{i}": 10 for i in range(8)}) as rig:
        execution = rig.start(*many(8))
        rig.go(until=5)
        rig.manager.resize("thread", 1)
        rig.go()
    assert starts(execution) == [0, 0, 0, 0, 10, 20, 30, 40]


def test_worker_processes_become_more_and_fewer():
    with WorkflowManager(processes=1) as manager:
        ended(manager.start(flow(*many(4, pool="process"))))
        manager.resize("process", 2)
        ended(manager.start(flow(*many(20, pool="process"))))
        manager.resize("process", 1)
        assert ended(manager.start(flow(*many(20, pool="process")))).results["t19"] == 19


def test_coroutines_too():
    inside, most = 0, 0
    gate = threading.Event()

    async def job():
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        while not gate.is_set():  # noqa: ASYNC110  another thread sets it
            await asyncio.sleep(0.001)
        inside -= 1

    with WorkflowManager(max_coroutines=1) as manager:
        execution = manager.start(flow(*[TaskDef(f"t{i}", job) for i in range(6)]))
        eventually(lambda: inside == 1)
        manager.resize("async", 3)
        eventually(lambda: inside == 3)
        gate.set()
        ended(execution)
    assert most == 3


def test_a_resize_is_an_event():
    heard = []
    with Rig(workers=3) as rig:
        rig.manager.event_bus.subscribe("POOL_RESIZED", lambda event: heard.append((event.seq, event.data)))
        rig.manager.resize("thread", 7)
        rig.run(*many(1)).wait()
    assert heard == [(None, {"pool": "thread", "before": 3, "workers": 7})]


@pytest.mark.parametrize(
    ("pool", "workers"), [("threads", 1), ("inline", 2), ("thread", 0), ("thread", 1.5), ("thread", True)]
)
def test_what_can_not_be_a_pools_size_is_refused(pool, workers):
    with Rig() as rig, pytest.raises(ConfigError):
        rig.manager.resize(pool, workers)


def test_a_subscriber_may_resize_a_pool_by_load():
    with WorkflowManager(workers=1) as manager:
        holds = [Hold() for _ in range(6)]

        started = 0

        def by_load(_):
            nonlocal started
            started += 1
            manager.resize("thread", 1 + started)

        manager.event_bus.subscribe("TASK_STARTED", by_load)
        execution = manager.start(flow(*[TaskDef(f"t{i}", hold) for i, hold in enumerate(holds)]))
        for hold in holds:
            hold.entered()
        for hold in holds:
            hold.go()
        ended(execution)
