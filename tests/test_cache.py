"""Tasks with a cache, run: what is reused, who computes, who waits, and what happens when something goes wrong."""

import asyncio
import collections
import os
import pickle
import random
import threading
import typing

import pytest

from nerv import (
    Cache,
    CacheKeyError,
    CircuitBreaker,
    ConfigError,
    Output,
    Param,
    RateLimit,
    ResultUnavailableError,
    RetryPolicy,
    TaskDef,
    Workflow,
    WorkflowDefinitionError,
    WorkflowManager,
    run,
    task,
)
from nerv.far import Far
from nerv.testing import FakeClock, Faults, SimulatedPools, simulate
from nerv.testing.performing import perform
from tests.handshake import ended, eventually, flow, kinds, reached, statuses

CALLS = []  # module level, as what a function closes over is part of its key


class Stage:
    """Where a held call of `held` says that it was called, and waits for what to do."""

    def __init__(self):
        self.began = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.outcomes = collections.deque()

    def called(self):
        """Wait for a call."""
        assert self.began.acquire(timeout=20), "nobody called"

    def let(self, *outcomes):
        """Let calls return these values, or raise these errors."""
        self.outcomes.extend(outcomes)
        for _ in outcomes:
            self.go.release()


STAGE = Stage()


@pytest.fixture(autouse=True)
def fresh():
    CALLS.clear()
    STAGE.__init__()


def held(name="x"):
    CALLS.append(name)
    STAGE.began.release()
    assert STAGE.go.acquire(timeout=20), "never let go"
    outcome = STAGE.outcomes.popleft()
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def counted(x):
    CALLS.append(x)
    return [x]


async def counted_async(x):
    CALLS.append(x)
    await asyncio.sleep(0)
    return [x]


def pid(x):
    return x, os.getpid()


def dies():
    os._exit(1)


def with_context(ctx, x=1):
    CALLS.append(x)
    return ctx.params.get("day"), ctx.results.get("before"), x


def cached(fn=counted, *args, id="a", cache=None, **fields):
    return TaskDef(id, fn, args=args, cache=cache or Cache(), **fields)


@pytest.fixture
def manager():
    with WorkflowManager(workers=4, processes=1, grace=0.5) as made:
        yield made
        assert not made._desk._flights, "somebody is still said to compute"


def go(manager, *tasks, params=None, **options):
    return ended(manager.start(flow(*tasks, **options), params))


# ---- reuse ----------------------------------------------------------------------------------------------------------


def test_a_result_is_reused_by_the_next_execution(manager):
    first, second = go(manager, cached(counted, 1)), go(manager, cached(counted, 1, id="b"))
    assert CALLS == [1]
    assert first["a"] is second["b"]
    assert [first.task("a").metadata, second.task("b").metadata] == [{"cached": False}, {"cached": True}]


def test_a_hit_is_no_attempt(manager):
    go(manager, cached(counted, 1))
    execution = go(manager, cached(counted, 1))
    result = execution.task("a")
    assert kinds(execution) == ["WORKFLOW_STARTED", "TASK_COMPLETED", "WORKFLOW_COMPLETED"]
    assert (result.attempts, result.started_at, result.execution_time) == (0, None, 0.0)
    assert result.completed_at is not None
    assert next(e for e in execution.events() if e.type == "TASK_COMPLETED").data == {"cached": True, "result": [1]}
    assert execution.project("progress").completed == 1
    assert list(execution.project("completed_tasks")) == ["a"]


def test_tasks_without_a_cache_say_nothing_of_it(manager):
    execution = go(manager, TaskDef("a", counted, args=(1,)), cached(counted, 1, id="b"))
    assert execution.task("a").metadata == {}
    assert go(manager, TaskDef("a", counted, args=(1,)))["a"] == [1]
    assert len(CALLS) == 3


def test_what_depends_on_a_hit_runs(manager):
    tasks = [cached(counted, 1), TaskDef("b", sum, args=(Output("a"),)), cached(counted, Output("b"), id="c")]
    for _ in range(2):
        assert go(manager, *tasks)["c"] == [1]
    assert CALLS == [1]


def test_two_tasks_of_one_execution_share(manager):
    execution = go(manager, *[cached(counted, 1, id=f"t{i}") for i in range(10)])
    assert CALLS == [1]
    assert sorted(execution.task(f"t{i}").metadata["cached"] for i in range(10)) == [False] + [True] * 9


def test_none_is_kept_and_failures_are_not(manager):
    def nothing():
        CALLS.append("none")

    for _ in range(2):
        assert go(manager, cached(nothing))["a"] is None
    STAGE.let(ValueError("once"), "good")
    assert statuses(go(manager, cached(held))) == {"a": "FAILED"}
    assert go(manager, cached(held))["a"] == "good"
    assert go(manager, cached(held))["a"] == "good"
    assert CALLS == ["none", "x", "x"]


def test_a_fallback_is_not_kept(manager):
    STAGE.let(ValueError("once"), "good")
    assert go(manager, cached(held, fallback="stand-in"))["a"] == "stand-in"
    assert go(manager, cached(held, fallback=lambda error: "stand-in"))["a"] == "good"


def test_arguments_and_params_count(manager):
    for day in (1, 2, 1):
        go(manager, cached(counted, Param("day")), params={"day": day, "other": object()})
    assert CALLS == [1, 2]


def test_what_the_context_shows_counts(manager):
    def go_on(day, before):
        tasks = TaskDef("before", lambda: before), cached(with_context, dependencies=["before"])
        return go(manager, *tasks, params={"day": day})["a"]

    assert [go_on(1, "x"), go_on(1, "x"), go_on(2, "x"), go_on(1, "y")] == [
        (1, "x", 1), (1, "x", 1), (2, "x", 1), (1, "y", 1),
    ]  # fmt: skip
    assert len(CALLS) == 3


def test_with_a_key_the_context_doesnt_count(manager):
    cache = Cache(key=lambda x: x)
    assert [go(manager, cached(with_context, 1, cache=cache), params={"day": day})["a"][0] for day in (1, 2)] == [1, 1]


@pytest.mark.parametrize("pool", ["thread", "inline", "mine", "async"])
def test_every_pool_reuses(pool):
    fn = counted_async if pool == "async" else counted
    with WorkflowManager(pools={"mine": {"kind": "thread", "workers": 2}}) as manager:
        for _ in range(3):
            execution = go(manager, *[cached(fn, i, id=f"t{i}", pool=pool) for i in range(5)])
            assert [execution[f"t{i}"] for i in range(5)] == [[i] for i in range(5)]
    assert sorted(CALLS) == [0, 1, 2, 3, 4]


def test_worker_processes_compute_and_hits_dont_need_them():
    with WorkflowManager(processes=1) as manager:
        first = go(manager, *[cached(pid, i % 2, id=f"t{i}", pool="process") for i in range(6)])
        second = go(manager, *[cached(pid, i, id=f"t{i}", pool="process") for i in range(2)])
        assert [second[f"t{i}"] for i in range(2)] == [first[f"t{i}"] for i in range(2)]
        assert first["t0"][1] != os.getpid()
        assert sum(not first.task(f"t{i}").metadata["cached"] for i in range(6)) == 2
        worker = manager._pools["process"]
    assert worker._number == 2, "calls that were sent to a process"


def test_in_another_manager_nothing_is_known():
    wf = flow(cached(counted, 1))
    run(wf)
    run(wf)
    assert CALLS == [1, 1]


def test_levels_reuse_too():
    with WorkflowManager(scheduling="levels") as manager:
        for _ in range(2):
            execution = go(
                manager, cached(counted, 1), cached(counted, Output("a"), id="b"), cached(counted, 1, id="c")
            )
            assert statuses(execution) == dict.fromkeys("abc", "COMPLETED")
    assert CALLS == [1, [1]]


def test_a_decorated_task_has_a_cache():
    @task(cache=Cache(version=1))
    def decorated(x):
        return counted(x)

    with WorkflowManager() as manager:
        for _ in range(2):
            assert go(manager, decorated.define(id="a", args=(5,)))["a"] == [5]
    assert CALLS == [5]


# ---- time and file --------------------------------------------------------------------------------------------------


def test_a_result_grows_old_by_the_managers_clock():
    clock = FakeClock()
    with WorkflowManager(clock=clock) as manager:
        for step in (0, 59.9, 0.2, 0.0):
            clock.advance(step)
            go(manager, cached(counted, 1, cache=Cache(ttl=60)))
        go(manager, cached(counted, 1, cache=Cache()))
    assert CALLS == [1, 1]


def test_a_file_outlives_the_manager(tmp_path):
    wf, path = flow(cached(counted, 1)), tmp_path / "kept.db"
    assert run(wf, cache=path)["a"] == run(wf, cache=str(path))["a"] == [1]
    assert CALLS == [1]


def test_a_result_that_cant_be_kept_in_the_file_still_serves_those_who_wait(tmp_path):
    """The flight brings the value itself, so two executions end with one call although nothing can be stored."""
    lock = threading.Lock()
    with WorkflowManager(workers=4, cache=tmp_path / "kept.db") as manager:
        one = manager.start(flow(cached(held)))
        STAGE.called()
        other = manager.start(flow(cached(held)))
        eventually(lambda: statuses(other) == {"a": "WAITING"})
        STAGE.let(lock)
        assert ended(one)["a"] is ended(other)["a"] is lock
        STAGE.let("again")
        assert go(manager, cached(held))["a"] == "again"


@pytest.mark.parametrize("path", ["nowhere/kept.db", "."])
def test_a_file_that_cant_be_is_found_at_the_start(tmp_path, path):
    with pytest.raises(ConfigError, match="cache: "):
        run(flow(cached(counted, 1)), cache=tmp_path / path)
    assert CALLS == []


# ---- many at once ---------------------------------------------------------------------------------------------------


def two(manager, *, first=None, second=None):
    """Two executions of the same call: one computes, the other waits for it."""
    one = manager.start(flow(first or cached(held)))
    STAGE.called()
    other = manager.start(flow(second or cached(held)))
    eventually(lambda: statuses(other)["a"] == "WAITING")
    return one, other


def test_of_two_at_once_one_computes(manager):
    one, other = two(manager)
    (waiting,) = other.waiting()
    assert (waiting.task_id, waiting.reason, waiting.deadline) == ("a", "cache", None)
    value = object()
    STAGE.let(value)
    assert ended(one)["a"] is ended(other)["a"] is value
    assert kinds(other, "a") == ["TASK_WAITING", "TASK_COMPLETED"]
    assert [e.data["reason"] for e in other.events() if e.type == "TASK_WAITING"] == ["cache"]
    assert (other.task("a").attempts, other.task("a").metadata) == (0, {"cached": True})
    assert len(CALLS) == 1


def test_who_waits_holds_no_worker():
    with WorkflowManager(workers=2) as manager:
        one, other = two(manager)
        assert go(manager, TaskDef("free", int))["free"] == 0
        STAGE.let(1)
        ended(one)
        ended(other)


def test_with_a_single_worker_nothing_hangs():
    with WorkflowManager(workers=1) as manager:
        started = [manager.start(flow(*[cached(counted, i, id=f"t{i}") for i in range(3)])) for _ in range(3)]
        assert all(statuses(ended(e)) == dict.fromkeys(("t0", "t1", "t2"), "COMPLETED") for e in started)
    assert sorted(CALLS) == [0, 1, 2]


def test_if_it_fails_another_computes(manager):
    one, other = two(manager)
    STAGE.let(ValueError("broken"))
    assert statuses(ended(one)) == {"a": "FAILED"}
    STAGE.called()
    STAGE.let("good")
    assert ended(other)["a"] == "good"
    assert kinds(other, "a") == ["TASK_WAITING", "TASK_STARTED", "TASK_COMPLETED"]
    assert other.task("a").metadata == {"cached": False}


def test_of_many_who_wait_one_computes_after_a_failure(manager):
    one = manager.start(flow(cached(held)))
    STAGE.called()
    others = [manager.start(flow(cached(held))) for _ in range(6)]
    eventually(lambda: all(statuses(other)["a"] == "WAITING" for other in others))
    STAGE.let(ValueError("broken"), "good")
    assert statuses(ended(one)) == {"a": "FAILED"}
    assert [ended(other)["a"] for other in others] == ["good"] * 6
    assert len(CALLS) == 2


def test_a_retry_looks_again_first():
    """Another execution has computed it meanwhile: the attempt that is due isn't made."""
    clock = FakeClock()
    with WorkflowManager(clock=clock) as manager:
        STAGE.let(ValueError("broken"))
        one = manager.start(flow(cached(held, retry_policy=RetryPolicy(3, initial_interval=60, jitter=0))))
        eventually(lambda: statuses(one)["a"] == "WAITING")
        STAGE.let("good")
        assert go(manager, cached(held))["a"] == "good"
        clock.advance(60)
        assert ended(one)["a"] == "good"
        assert kinds(one, "a") == ["TASK_STARTED", "TASK_RETRYING", "TASK_COMPLETED"]
        assert (one.task("a").attempts, one.task("a").metadata["cached"]) == (1, True)
    assert len(CALLS) == 2


def test_whoever_waits_goes_on_when_the_other_is_retrying():
    clock = FakeClock()
    with WorkflowManager(clock=clock) as manager:
        one, other = two(manager, first=cached(held, retry_policy=RetryPolicy(2, initial_interval=1e6, jitter=0)))
        STAGE.let(ValueError("broken"))
        STAGE.called()
        STAGE.let("good")
        assert ended(other)["a"] == "good"
        one.cancel()
        assert statuses(ended(one)) == {"a": "CANCELLED"}


async def held_async():
    CALLS.append("x")
    STAGE.began.release()
    while not STAGE.outcomes:  # noqa: ASYNC110  another thread fills it
        await asyncio.sleep(0.001)
    return STAGE.outcomes.popleft()


def test_coroutines_share_what_they_return(manager):
    one, other = two(manager, first=cached(held_async), second=cached(held_async))
    STAGE.let([1])
    assert ended(one)["a"] is ended(other)["a"]
    assert ended(one)["a"] == [1]
    assert len(CALLS) == 1


async def flaky_async():
    CALLS.append("x")
    if len(CALLS) == 1:
        raise ValueError("once")
    return "good"


def test_a_coroutine_that_is_retried_looks_again_where_threads_are(manager):
    once = RetryPolicy(2, initial_interval=0.001)
    assert go(manager, cached(flaky_async, retry_policy=once))["a"] == "good"
    assert len(CALLS) == 2


def test_a_coroutine_that_waited_looks_again_where_threads_are(manager):
    one, other = two(manager, first=cached(held_or_broken), second=cached(held_or_broken))
    STAGE.let(ValueError("broken"))
    assert statuses(ended(one)) == {"a": "FAILED"}
    STAGE.called()
    STAGE.let("good")
    assert ended(other)["a"] == "good"


async def held_or_broken():
    outcome = await held_async()
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def test_a_worker_that_dies_leaves_nothing_behind():
    with WorkflowManager(processes=1) as manager:
        for _ in range(2):
            execution = go(manager, cached(dies, pool="process"))
            assert type(execution.task("a").error).__name__ == "WorkerCrashedError"
            assert execution.task("a").attempts == 1


# ---- stops ----------------------------------------------------------------------------------------------------------


def test_who_waits_can_be_cancelled(manager):
    one, other = two(manager)
    assert other.cancel()
    assert statuses(ended(other)) == {"a": "CANCELLED"}
    STAGE.let(1)
    assert ended(one)["a"] == 1
    assert statuses(other) == {"a": "CANCELLED"}


def test_when_who_computes_fails_by_a_timeout_another_computes(manager):
    """The late result of the call that was given up is not kept."""
    one, other = two(manager, first=cached(held, timeout=0.05))
    assert statuses(ended(one)) == {"a": "FAILED"}
    STAGE.called()
    STAGE.let("late", "good")
    assert ended(other)["a"] in {"late", "good"}, "both calls are the same function; each takes one of the outcomes"
    assert other.task("a").metadata == {"cached": False}
    eventually(lambda: not STAGE.outcomes)
    assert go(manager, cached(held))["a"] == other["a"]


def test_when_who_computes_is_cancelled_and_deaf_another_computes(manager):
    one, other = two(manager)
    one.cancel()
    assert statuses(ended(one)) == {"a": "CANCELLED"}, "given up after grace"
    STAGE.called()
    STAGE.let("x", "x")
    assert ended(other)["a"] == "x"
    eventually(lambda: not STAGE.outcomes)


def test_a_paused_execution_keeps_nobody_waiting():
    """What it would compute when it goes on, another computes."""
    clock, limit = FakeClock(), RateLimit(1, 1e6, name="slow")
    with WorkflowManager(clock=clock) as manager:
        go(manager, TaskDef("first", int, rate_limit=limit))
        one = manager.start(flow(cached(counted, 1, rate_limit=limit)))
        eventually(lambda: [waiting.reason for waiting in one.waiting()] == ["rate limit 'slow'"])
        other = manager.start(flow(cached(counted, 1)))
        eventually(lambda: [waiting.reason for waiting in other.waiting()] == ["cache"])
        one.pause()
        assert ended(other)["a"] == [1]
        one.resume()
        clock.advance(1e6)
        assert ended(one)["a"] == [1]
        assert not manager._desk._flights
    assert CALLS == [1, 1]


ASKED = threading.Semaphore(0)
ANSWER = threading.Event()


def slow_key(x):
    ASKED.release()
    reached(ANSWER)
    return x


@pytest.fixture
def slow():
    """A cache whose key takes until `ANSWER` is set."""
    ANSWER.clear()
    yield Cache(key=slow_key)
    ANSWER.set()


def failing():
    assert ASKED.acquire(timeout=20)
    raise ValueError("broken")


def test_a_task_that_was_looking_when_everything_stopped_is_cancelled(manager, slow):
    execution = manager.start(flow(cached(counted, 1, cache=slow), TaskDef("b", failing)))
    eventually(lambda: statuses(execution)["b"] == "FAILED")
    assert statuses(execution)["a"] == "PENDING"
    ANSWER.set()
    assert statuses(ended(execution)) == {"a": "CANCELLED", "b": "FAILED"}
    assert CALLS == []
    assert go(manager, cached(counted, 1, cache=slow))["a"] == [1]
    ASKED.acquire(timeout=20)


def test_what_a_stopped_task_was_told_to_compute_another_computes_at_once(manager, slow):
    """Not only when the stopped execution has ended, which takes until what it runs has ended."""

    def fails():
        STAGE.called()
        failing()

    tasks = [cached(counted, 1, cache=slow), TaskDef("b", fails), TaskDef("c", held)]
    execution = manager.start(flow(*tasks))
    eventually(lambda: statuses(execution)["b"] == "FAILED")
    ANSWER.set()
    eventually(lambda: statuses(execution)["a"] == "CANCELLED")
    assert go(manager, cached(counted, 1, cache=slow))["a"] == [1]
    ASKED.acquire(timeout=20)
    assert not execution.status.is_final
    STAGE.let("x")
    ended(execution)


def test_what_a_paused_task_was_told_to_compute_another_computes(manager, slow):
    execution = manager.start(flow(cached(counted, 1, cache=slow)))
    assert ASKED.acquire(timeout=20)
    execution.pause()
    ANSWER.set()
    assert go(manager, cached(counted, 1, cache=slow))["a"] == [1]
    ASKED.acquire(timeout=20)
    execution.resume()
    assert ended(execution)["a"] == [1]


def test_a_stopped_task_doesnt_wait_for_another(manager, slow):
    ANSWER.set()
    one = manager.start(flow(cached(held, 1, cache=slow)))
    STAGE.called()
    assert ASKED.acquire(timeout=20)
    ANSWER.clear()
    other = manager.start(flow(cached(held, 1, cache=slow), TaskDef("b", failing)))
    eventually(lambda: statuses(other)["b"] == "FAILED")
    ANSWER.set()
    assert statuses(ended(other)) == {"a": "CANCELLED", "b": "FAILED"}
    assert statuses(one) == {"a": "RUNNING"}
    STAGE.let("x")
    ended(one)


def test_a_look_that_is_given_up_as_it_ends_leaves_nothing_behind():
    """The answer is there, but the engine has given up the call before it hears of it."""

    def give_up(call):
        perform(call)
        if not call.is_attempt:
            executions[0].cancel()
            call.live.engine.abandon(call.live)

    executions, pools = [], SimulatedPools(perform=give_up)
    with WorkflowManager(pool_factory=pools) as manager:
        executions.append(manager.start(flow(cached(counted, 1))))
        pools.run()
        assert statuses(executions[0]) == {"a": "CANCELLED"}
        assert not manager._desk._flights
    assert CALLS == []


def test_faults_dont_befall_looks():
    faults = []
    pools = SimulatedPools(faults=lambda call: faults[0] if faults else None)
    with WorkflowManager(pool_factory=pools) as manager:
        for _ in range(2):
            execution = manager.start(flow(cached(counted, 1), TaskDef("b", int)), execution_id=None)
            pools.run()
            faults.append(ValueError("befallen"))
        assert statuses(execution) == {"a": "COMPLETED", "b": "FAILED"}


def test_a_hit_that_comes_after_a_stop_still_counts(manager, slow):
    ANSWER.set()
    go(manager, cached(counted, 1, cache=slow))
    ASKED.acquire(timeout=20)
    ANSWER.clear()
    execution = manager.start(flow(cached(counted, 1, cache=slow), TaskDef("b", failing)))
    eventually(lambda: statuses(execution)["b"] == "FAILED")
    ANSWER.set()
    assert statuses(ended(execution)) == {"a": "COMPLETED", "b": "FAILED"}


def test_a_look_that_hangs_is_given_up(manager, slow):
    execution = manager.start(flow(cached(counted, 1, cache=slow)))
    assert ASKED.acquire(timeout=20)
    execution.cancel()
    assert statuses(ended(execution)) == {"a": "CANCELLED"}
    ANSWER.set()
    eventually(lambda: not manager._desk._flights, "the flight that nobody will compute")
    assert go(manager, cached(counted, 1, cache=slow))["a"] == [1]
    ASKED.acquire(timeout=20)


def test_closing_the_manager_ends_who_waits():
    manager = WorkflowManager(workers=4, grace=0.05)
    one, other = two(manager)
    STAGE.let(1)
    manager.close()
    assert {ended(one).status.name, ended(other).status.name} <= {"COMPLETED", "CANCELLED"}


def test_an_execution_that_has_ended_computes_for_nobody():
    """However it ended: here a rate limit held the cleanup that others waited for when the engine was halted."""
    limit = RateLimit(1, 1e6, name="slow")
    manager = WorkflowManager(clock=FakeClock(), grace=0.0)
    go(manager, TaskDef("first", int, rate_limit=limit))
    one = manager.start(flow(TaskDef("b", int), cached(counted, 1, rate_limit=limit, run_when="all_finished")))
    eventually(lambda: [waiting.reason for waiting in one.waiting()] == ["rate limit 'slow'"])
    manager.close()
    assert statuses(one)["a"] == "CANCELLED"
    assert not manager._desk._flights


# ---- with other policies --------------------------------------------------------------------------------------------


def test_hits_use_up_no_limit():
    clock, limit = FakeClock(), RateLimit(1, 1e6, name="one")
    with WorkflowManager(clock=clock) as manager:
        for _ in range(5):
            execution = go(manager, cached(counted, 1, rate_limit=limit))
            assert execution["a"] == [1]
    assert CALLS == [1]


def test_hits_are_served_while_the_circuit_is_open(manager):
    breaker = CircuitBreaker(failure_threshold=1, recovery_time=1e6, name="down")
    go(manager, cached(counted, 1, circuit_breaker=breaker))
    go(manager, TaskDef("b", failing_at_once, circuit_breaker=breaker))
    assert go(manager, cached(counted, 1, circuit_breaker=breaker))["a"] == [1]
    refused = go(manager, cached(counted, 2, circuit_breaker=breaker))
    assert type(refused.task("a").error).__name__ == "CircuitOpenError"


def failing_at_once():
    raise ValueError("broken")


def test_resources_are_given_back_and_hits_take_none():
    with WorkflowManager(workers=4, resources={"gpu": 1}) as manager:
        one, other = two(manager, first=cached(held, resources={"gpu": 1}), second=cached(held, resources={"gpu": 1}))
        STAGE.let(1)
        assert ended(one)["a"] == ended(other)["a"] == 1
        assert go(manager, cached(counted, 1, resources={"gpu": 1}))["a"] == [1]


def test_a_compensation_runs_in_the_tasks_own_pool():
    undone = []

    async def undo(value):
        undone.append((value, threading.current_thread().name))

    with WorkflowManager() as manager:
        for _ in range(2):
            go(
                manager,
                cached(counted_async, 1, compensate=undo),
                TaskDef("b", failing_at_once, dependencies=["a"]),
            )
    assert CALLS == [1]
    assert [value for value, _ in undone] == [[1], [1]]
    assert {name for _, name in undone} == {"nerv-async"}


def test_a_compensation_that_is_retried_stays_in_the_tasks_own_pool(manager):
    undone = []

    async def undo(value):
        undone.append(threading.current_thread().name)
        if len(undone) == 1:
            raise ValueError("once")

    again = RetryPolicy(2, initial_interval=0.001)
    tasks = (
        cached(counted_async, 1, compensate=undo, retry_policy=again),
        TaskDef("b", failing_at_once, dependencies=["a"]),
    )
    go(manager, *tasks)
    assert undone == ["nerv-async"] * 2


class Elsewhere(Far):
    """A result that stays where it was made, or gets lost there."""

    def __init__(self, value):
        self.value = value

    def fetch(self):
        if self.value == ["lost"]:
            raise ResultUnavailableError("it is lost")
        return self.value


def leaving_there(call):
    perform(call)
    if call.is_attempt:
        call.value = Elsewhere(call.value)


@pytest.mark.parametrize(("value", "calls"), [("here", 1), ("lost", 3)])
def test_a_result_that_is_elsewhere_is_fetched_to_be_kept(value, calls):
    pools = SimulatedPools(perform=leaving_there)
    with WorkflowManager(pool_factory=pools) as manager:
        executions = [manager.start(flow(cached(counted, value))) for _ in range(3)]
        pools.run()
        assert all(execution.status.name == "COMPLETED" for execution in executions)
        assert not manager._desk._flights
    assert len(CALLS) == calls


# ---- with a journal -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("durability", ["strict", "group", "off"])
def test_hits_are_journaled_like_results(tmp_path, durability):
    tasks = [cached(counted, 1), cached(counted_async, 2, id="b", dependencies=["a"]), cached(pid, Output("b"), id="c")]
    settings = {"journal": str(tmp_path / "runs.db"), "durability": durability, "cache": tmp_path / "kept.db"}
    for name in ("one", "two"):
        with WorkflowManager(**settings) as manager:
            execution = ended(manager.start(flow(*tasks), execution_id=name))
            assert statuses(execution) == dict.fromkeys("abc", "COMPLETED")
    assert CALLS == [1, 2]
    with WorkflowManager(**settings) as manager:
        stored = manager.start(flow(*tasks), execution_id="two")
        assert stored["c"] == ([2], os.getpid())
        assert stored.task("a").attempts == 0
    assert CALLS == [1, 2]


def test_after_a_recovery_a_compensation_runs_in_the_tasks_own_pool(tmp_path):
    """What was completed before isn't looked for again, but it may have to be undone."""
    undone = []

    async def undo(value):
        undone.append((value, threading.current_thread().name))

    def workflow():
        return flow(cached(counted_async, 1, compensate=undo), TaskDef("b", held, dependencies=["a"]))

    with WorkflowManager(journal=str(tmp_path / "runs.db"), grace=0.05) as manager:
        manager.start(workflow(), execution_id="x")
        STAGE.called()
    STAGE.let("for the one that was left behind")
    eventually(lambda: not STAGE.outcomes)
    STAGE.let(ValueError("broken"))
    with WorkflowManager(journal=str(tmp_path / "runs.db")) as manager:
        execution = ended(manager.start(workflow(), execution_id="x"))
        assert statuses(execution) == {"a": "COMPLETED", "b": "FAILED"}
    assert undone == [([1], "nerv-async")]
    assert CALLS == [1, "x", "x"]


# ---- errors ---------------------------------------------------------------------------------------------------------

LOCK = threading.Lock()


def test_what_cant_be_hashed_fails_its_task_unretried(manager):
    execution = go(manager, cached(counted, LOCK, retry_policy=5))
    error = execution.task("a").error
    assert isinstance(error, CacheKeyError)
    assert "task 'a' can't be cached: its argument 'x' (a _thread.lock) can't be hashed" in str(error)
    assert kinds(execution, "a") == ["TASK_FAILED"]
    assert execution.task("a").attempts == 0
    assert CALLS == []


@pytest.mark.parametrize("fallback", ["stand-in", lambda error: "stand-in"])
def test_a_fallback_stands_in_for_what_cant_be_hashed(manager, fallback):
    execution = go(manager, cached(counted, LOCK, fallback=fallback))
    assert execution["a"] == "stand-in"
    assert isinstance(execution.task("a").error, CacheKeyError)


def test_a_coroutines_fallback_runs_in_its_own_pool(manager):
    async def stand_in(error):
        return threading.current_thread().name

    assert go(manager, cached(counted_async, LOCK, fallback=stand_in))["a"] == "nerv-async"


def test_an_input_that_isnt_there_is_said_as_ever(manager):
    reader = cached(counted, Output("b"), run_when="all_finished")
    execution = go(manager, TaskDef("b", failing_at_once), reader)
    error = execution.task("a").error
    assert isinstance(error, ResultUnavailableError)
    assert str(error).startswith("task 'a' can't start: ")


@pytest.mark.parametrize("wrong", [True, 3600, "forever", Cache])
def test_a_cache_that_is_none_is_refused(wrong):
    with pytest.raises(WorkflowDefinitionError, match=r"task 'a': cache takes a Cache, such as Cache\(ttl=3600\), not"):
        TaskDef("a", counted, cache=wrong)


def test_a_cache_is_part_of_the_fingerprint():
    caches = [None, Cache(), Cache(ttl=1), Cache(version=1), Cache(key=slow_key), Cache(key=counted)]
    prints = {Workflow("w", [TaskDef("a", counted, cache=cache)]).fingerprint for cache in caches}
    assert len(prints) == len(caches)
    assert Workflow("w", [cached()]) == Workflow("w", [cached()])


def test_a_task_with_a_cache_is_shown_and_pickled_with_it():
    definition = cached(counted, 1, cache=Cache(ttl=5))
    assert "cache=Cache(ttl=5.0" in repr(definition)
    assert pickle.loads(pickle.dumps(definition)).cache == Cache(ttl=5)


# ---- every order of things ------------------------------------------------------------------------------------------


class World:
    """What `lucky` looks at; module level again."""

    dice = random.Random()
    computed: typing.ClassVar = collections.Counter()


def lucky(key, name="lucky"):
    if World.dice.random() < 0.3:
        raise ValueError("bad luck")
    World.computed[key, name] += 1
    return key.upper()


async def lucky_async(key):
    return lucky(key, "lucky_async")


def random_flow(dice):
    """Some tasks over three keys, in any pool, some after others, some retried."""
    tasks = []
    for number in range(dice.randint(1, 5)):
        pool = dice.choice(["thread", "process", "async"])
        fields = {"retry_policy": 3} if dice.random() < 0.3 else {}
        if tasks and dice.random() < 0.3:
            fields["dependencies"] = [dice.choice(tasks).id]
        fn = lucky_async if pool == "async" else lucky
        tasks.append(cached(fn, dice.choice("abc"), id=f"t{number}", pool=pool, **fields))
    return flow(*tasks)


def meddle(dice, executions):
    """Somebody cancels, pauses or resumes."""
    execution = dice.choice(executions)
    dice.choice([execution.cancel, execution.pause, execution.pause, execution.resume])()


@pytest.mark.parametrize("meddling", [0.0, 0.1])
def test_whatever_the_order_everything_ends_and_nothing_is_computed_twice(meddling):
    """Twice may be computed only what a paused execution would have computed for others."""
    for seed in range(150):
        dice = World.dice = random.Random(seed)
        World.computed.clear()
        clock = FakeClock(auto=True)
        pools = SimulatedPools(seed, clock=clock)
        policy = dice.choice(["fail_fast", "continue"])
        with WorkflowManager(clock=clock, pool_factory=pools, failure_policy=policy, workers=3, processes=2) as manager:
            executions = [manager.start(random_flow(dice)) for _ in range(4)]
            while pools.go_on():
                if dice.random() < meddling:
                    meddle(dice, executions)
            for execution in executions:
                execution.resume()
            pools.run()
            for execution in executions:
                assert execution.status.is_final, f"seed {seed}: it hangs: {execution.summary()}"
                for name, value in execution.results.items():
                    assert value == execution.workflow.tasks[name].args[0].upper(), f"seed {seed}"
            assert not manager._desk._flights, f"seed {seed}"
            lookups = [e._live.scheduler.waits.lookups for e in executions]
            assert not any(one.flights or one.awaited or one.adrift for one in lookups), f"seed {seed}"
            assert meddling or not World.computed or max(World.computed.values()) == 1, f"seed {seed}"


def test_the_engines_promises_hold_with_caches():
    tasks = [cached(plainly, n % 2, id=f"t{n}", retry_policy=2, fallback=-1) for n in range(4)]
    sink = cached(plainly, Output("t0"), id="sink", timeout=1, dependencies=["t3"])
    simulate(flow(*tasks, sink), seeds=200, faults=Faults(failing=0.2, hanging=0.1, slow=0.2, cancelling=0.1))


def plainly(x):
    return x
