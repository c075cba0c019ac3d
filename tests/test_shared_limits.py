"""Rate limits, circuit breakers and resources: what may start when, who shares what, and that nobody is forgotten."""

import math
import threading
import time

import pytest

import nerv
from nerv import (
    CircuitBreaker,
    CircuitOpenError,
    ConfigError,
    RateLimit,
    RetryPolicy,
    TaskDef,
    TaskStatus,
    WorkflowDefinitionError,
    WorkflowManager,
    WorkflowStatus,
    run,
)
from nerv.lines import Lines
from tests.handshake import PATIENCE, Gauge, Hold, boom, ended, eventually, flow, give, reached
from tests.rig import Failing, Rig, data_of, starts, told


def many(count, prefix="t", **fields):
    """Tasks without dependencies that share all fields."""
    return [TaskDef(f"{prefix}{i}", give, args=(i,), **fields) for i in range(count)]


def tried(attempts, **settings):
    return RetryPolicy(attempts, jitter=0, **settings)


# ---- rate limits ---------------------------------------------------------------------------------------------------


def test_at_most_count_start_in_any_window():
    with Rig(workers=10) as rig:
        execution = rig.run(*many(7, rate_limit=RateLimit(3, 10)))
    assert starts(execution) == [0, 0, 0, 10, 10, 10, 20]


def test_the_window_slides():
    with Rig(workers=10) as rig:
        first = rig.start(*many(2, rate_limit=RateLimit(3, 10, name="api")))
        rig.go(until=6)
        second = rig.start(*many(5, rate_limit=RateLimit(3, 10, name="api")))
        rig.go()
    assert starts(first) == [0, 0]
    assert starts(second) == [6, 10, 10, 16, 20]


def test_waiting_for_a_limit_holds_no_worker():
    with Rig(workers=1, seconds={"other": 1}) as rig:
        execution = rig.run(*many(3, rate_limit=RateLimit(1, 10), priority=9), TaskDef("other", give, args=(1,)))
    assert starts(execution, "other") == [0]


def test_a_task_that_waits_says_for_what_and_until_when():
    with Rig() as rig:
        execution = rig.start(*many(2, rate_limit=RateLimit(1, 10, name="api")))
        rig.go(until=5)
        (waits,) = execution.waiting()
        assert waits.task_id == "t1"
        assert waits.reason == "rate limit 'api'"
        assert (waits.since, waits.deadline) == (rig.clock.epoch, rig.clock.epoch + 10)
        assert data_of(execution, "TASK_WAITING", "t1") == [{"reason": "rate limit 'api'", "due": rig.clock.epoch + 10}]
        assert execution.task("t1").status is TaskStatus.WAITING
        rig.go()
    assert execution.waiting() == []


def test_that_a_task_waits_is_told_at_once_though_nothing_else_happens():
    begun, waits = threading.Event(), threading.Event()
    limit = RateLimit(1, 3600, name="slow")
    with Rig() as rig:
        rig.run(TaskDef("a", give, args=(1,), rate_limit=limit))
        rig.manager.event_bus.subscribe("WORKFLOW_STARTED", lambda _: begun.set())
        rig.manager.event_bus.subscribe("TASK_WAITING", lambda _: waits.set())
        rig.start(TaskDef("b", give, args=(1,), rate_limit=limit))
        reached(begun)
        rig.pools.step()
        reached(waits)
        rig.go()


def test_whoever_waits_starts_in_the_order_of_the_ranks():
    with Rig(workers=1, seconds={"t0": 1}) as rig:
        tasks = [
            TaskDef(f"t{i}", give, args=(i,), rate_limit=RateLimit(1, 10, name="x"), priority=p)
            for i, p in enumerate((9, 0, 2, 1, 2))
        ]
        execution = rig.run(*tasks)
    assert execution.sequence == ["t0", "t2", "t4", "t3", "t1"]


def test_a_name_is_shared_by_all_executions_of_a_manager():
    with Rig(workers=10) as rig:
        executions = [rig.start(*many(2, rate_limit=RateLimit(1, 10, name="api"))) for _ in range(3)]
        rig.go()
    assert sorted(moment for one in executions for moment in starts(one)) == [0, 10, 20, 30, 40, 50]


def test_without_a_name_tasks_of_one_execution_share_what_is_the_same_object():
    limit, equal = RateLimit(1, 10), RateLimit(1, 10)
    with Rig(workers=10) as rig:
        one = rig.start(*many(2, rate_limit=limit), *many(2, "u", rate_limit=equal))
        two = rig.start(*many(2, rate_limit=limit))
        rig.go()
    assert starts(one) == [0, 0, 10, 10]
    assert starts(two) == [0, 10]


def test_executions_that_start_at_once_in_several_threads_share_a_name(monkeypatch):
    both = threading.Barrier(2)
    made = Lines._made

    def together(self, policy):
        both.wait(PATIENCE)
        return made(self, policy)

    monkeypatch.setattr(Lines, "_made", together)
    with Rig(workers=10) as rig:
        limit, executions = RateLimit(1, 10, name="api"), []

        def start():
            executions.append(rig.start(*many(2, rate_limit=limit)))

        threads = [threading.Thread(target=start) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        rig.go()
    assert sorted(moment for one in executions for moment in starts(one)) == [0, 10, 20, 30]


def test_two_managers_share_nothing():
    limit = RateLimit(1, 10, name="api")
    with Rig() as one, Rig() as two:
        assert starts(one.run(*many(2, rate_limit=limit))) == [0, 10]
        assert starts(two.run(*many(2, rate_limit=limit))) == [0, 10]


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize(
    ("known", "other"),
    [
        (RateLimit(1, 10, name="api"), RateLimit(2, 10, name="api")),
        (CircuitBreaker(3, name="api"), CircuitBreaker(4, name="api")),
    ],
    ids=["limit", "breaker"],
)
def test_two_settings_for_one_name_are_an_error_that_shows_both_before_anything_runs(known, other, running):
    ran = []
    field = "rate_limit" if isinstance(known, RateLimit) else "circuit_breaker"
    with Rig() as rig:
        if running:
            rig.run(TaskDef("a", give, args=(1,), **{field: known}))
            tasks = []
        else:
            tasks = [TaskDef("a", ran.append, args=(1,), **{field: known})]
        with pytest.raises(WorkflowDefinitionError) as caught:
            rig.start(*tasks, TaskDef("b", ran.append, args=(1,), **{field: other}))
        rig.go()
    assert repr(known) in str(caught.value)
    assert repr(other) in str(caught.value)
    assert "task 'b'" in str(caught.value)
    assert ran == []


def test_a_limit_and_a_breaker_may_have_the_same_name():
    with Rig() as rig:
        tasks = many(1, rate_limit=RateLimit(1, 1, name="api"), circuit_breaker=CircuitBreaker(name="api"))
        assert rig.run(*tasks).status is WorkflowStatus.COMPLETED


def test_a_pause_lets_others_have_the_place():
    limit = RateLimit(1, 10, name="api")
    with Rig() as rig:
        one = rig.start(*many(3, rate_limit=limit))
        rig.go(until=5)
        one.pause()
        two = rig.start(*many(2, rate_limit=limit))
        rig.go()
        assert starts(two) == [10, 20]
        assert one.status is WorkflowStatus.PAUSED
        one.resume()
        rig.go()
    assert starts(one) == [0, 30, 40]


def test_a_pause_just_after_an_offer_lets_others_have_the_place():
    limit = RateLimit(1, 10, name="api")
    with Rig(workers=1, seconds={"hog": 20}) as rig:
        one = rig.start(*many(2, rate_limit=limit))
        rig.go(until=1)
        rig.start(TaskDef("hog", give, args=(1,)))
        rig.go(until=15)  # at 10 t1 was offered its place, but the only worker is busy
        one.pause()
        two = rig.start(TaskDef("x", give, args=(1,), rate_limit=limit, pool="process"))
        rig.go()
        assert starts(two) == [15]
        one.resume()
        rig.go()
    assert starts(one) == [0, 25]


def test_a_cancel_lets_others_have_the_place():
    limit = RateLimit(1, 10, name="api")
    with Rig() as rig:
        one = rig.start(*many(3, rate_limit=limit))
        two = rig.start(*many(1, rate_limit=limit))
        rig.go(until=5)
        one.cancel()
        rig.go()
    assert starts(two) == [10]


def test_a_full_pool_does_not_keep_another_pools_task_out():
    with Rig(workers=1, seconds={"hog": 100}) as rig:
        limit = RateLimit(1, 10, name="api")
        execution = rig.run(
            TaskDef("first", give, args=(1,), rate_limit=limit, priority=9),
            TaskDef("hog", give, args=(1,), priority=8),
            TaskDef("waits", give, args=(1,), rate_limit=limit, priority=7),
            TaskDef("other", give, args=(1,), rate_limit=limit, pool="process", dependencies=["first"]),
        )
    assert starts(execution, "other") == [10]
    assert starts(execution, "waits") == [100]


def test_a_place_that_comes_back_while_another_is_offered_is_not_forgotten():
    limit = RateLimit(2, 10, name="api")
    with Rig(workers=1, seconds={"hog": 6}) as rig:
        first = rig.start(*many(1, rate_limit=limit))
        rig.go(until=4)
        second = rig.start(*many(3, rate_limit=limit))
        rig.go(until=9)
        rig.start(TaskDef("hog", give, args=(1,)))
        rig.go()
    assert starts(first) == [0]
    assert starts(second) == [4, 15, 15], "a place came back at 10 and one at 14, and the only worker at 15"


def test_a_hundred_limits_set_one_alarm_at_a_time():
    with Rig(workers=4) as rig:
        calls = []
        at = rig.manager.engine.timer.at
        rig.manager.engine.timer.at = lambda moment, act: calls.append(moment) or at(moment, act)
        executions = [rig.start(*many(20, rate_limit=RateLimit(1, 100, name="slow")))]
        for number in range(20):
            executions.append(rig.start(*many(3, rate_limit=RateLimit(1, 50 - number, name=f"limit {number}"))))
            rig.go(until=rig.now + 0.5)
        rig.go()
    assert all(one.status is WorkflowStatus.COMPLETED for one in executions)
    assert len(calls) < 100, "each opening is waited for once"


def test_nothing_wakes_while_a_place_that_was_offered_is_not_taken():
    limit, hold = RateLimit(1, 0.01, name="api"), Hold()
    with WorkflowManager(workers=1) as manager:
        ended(manager.start(flow(*many(1, rate_limit=limit))))
        waits = manager.start(flow(*many(3, rate_limit=limit)))
        busy = manager.start(flow(TaskDef("busy", hold, priority=99)))
        hold.entered()
        eventually(lambda: manager.engine._openings._alarm is None)
        before = manager.engine.timer.wake_ups
        time.sleep(0.05)  # not to wait for anything: to give a busy timer the time to be seen
        assert manager.engine.timer.wake_ups - before <= 2
        hold.go()
        ended(busy)
        ended(waits)


# ---- under real threads --------------------------------------------------------------------------------------------


def test_sixteen_threads_never_exceed_a_limit():
    limit = RateLimit(5, 0.02, name="api")
    with WorkflowManager(workers=16) as manager:
        executions = [manager.start(flow(*many(40, rate_limit=limit))) for _ in range(2)]
        moments = sorted(moment for one in executions for moment in starts(ended(one)))
    assert len(moments) == 80
    assert all(later - sooner >= 0.02 for sooner, later in zip(moments, moments[5:], strict=False))


def test_sixteen_threads_never_hold_more_than_there_is():
    gauges = {"gpu": Gauge(), "disk": Gauge()}

    def job(name):
        with gauges[name]:
            pass

    tasks = [
        TaskDef(f"{name}{i}", job, args=(name,), resources={name: amount})
        for i in range(200)
        for name, amount in (("gpu", 1), ("disk", 0.5))
    ]
    execution = run(flow(*tasks), workers=16, resources={"gpu": 3, "disk": 1})
    assert execution.status is WorkflowStatus.COMPLETED
    assert gauges["gpu"].most <= 3
    assert gauges["disk"].most <= 2
    assert gauges["gpu"].total == gauges["disk"].total == 200


def test_sixteen_threads_never_let_more_than_half_open_calls_through():
    gauge, failing = Gauge(), threading.Event()
    failing.set()

    def job():
        with gauge:
            if failing.is_set():
                raise OSError

    breaker = CircuitBreaker(3, 0.02, half_open_calls=2, name="b")
    policy = RetryPolicy(50, initial_interval=0.001, maximum_interval=0.001, jitter=0)
    with WorkflowManager(workers=16, failure_policy="continue") as manager:
        execution = manager.start(
            flow(*[TaskDef(f"t{i}", job, circuit_breaker=breaker, retry_policy=policy) for i in range(60)])
        )
        eventually(lambda: manager.engine.lines._named)
        ((_, line),) = manager.engine.lines._named.values()
        eventually(lambda: line._breaker._term >= 6, "three openings")
        gauge.most = 0
        eventually(lambda: line._breaker._term >= 12)
        assert gauge.most <= 2
        failing.clear()
        assert ended(execution).status is WorkflowStatus.COMPLETED


# ---- circuit breakers ----------------------------------------------------------------------------------------------


def test_a_breaker_opens_after_failures_in_a_row_and_a_task_with_retries_waits_for_half_open():
    job = Failing(3)
    with Rig() as rig:
        policy = tried(9, initial_interval=1, backoff_coefficient=1)
        execution = rig.run(TaskDef("a", job, circuit_breaker=CircuitBreaker(2, 30), retry_policy=policy))
        assert execution["a"] == "done"
    assert starts(execution) == [0, 1, 31, 61], "a refusal uses up no attempt"
    assert execution.task("a").attempts == 4


def test_a_refusal_fails_a_task_without_retries_unattempted():
    breaker = CircuitBreaker(1, 30, name="db")
    with Rig(failure_policy="continue") as rig:
        rig.run(TaskDef("a", boom, circuit_breaker=breaker))
        execution = rig.run(
            TaskDef("b", give, args=(1,), circuit_breaker=breaker), TaskDef("c", give, args=(1,), dependencies=["b"])
        )
    error = execution.failures["b"]
    assert isinstance(error, CircuitOpenError)
    assert "'b'" in str(error)
    assert "'db'" in str(error)
    assert starts(execution) == []
    assert execution.task("b").attempts == 0
    assert execution.task("c").skipped_because == "b"


@pytest.mark.parametrize("policy", ["fail_fast", "continue"])
def test_many_that_are_refused_at_once_end_as_their_failure_policy_says(policy):
    breaker = CircuitBreaker(1, 30, name="db")
    with Rig(failure_policy=policy) as rig:
        rig.run(TaskDef("a", boom, circuit_breaker=breaker))
        execution = rig.run(*many(5, circuit_breaker=breaker))
    counts = [execution.task(f"t{i}").status.name for i in range(5)]
    assert counts == (["FAILED"] * 5 if policy == "continue" else ["FAILED", *["CANCELLED"] * 4])
    assert execution.status is WorkflowStatus.FAILED


def test_a_refusal_has_its_fallback():
    breaker = CircuitBreaker(1, 30, name="db")
    with Rig() as rig:
        rig.run(TaskDef("a", boom, circuit_breaker=breaker))
        execution = rig.run(
            TaskDef("b", give, args=(1,), circuit_breaker=breaker, fallback=lambda error: type(error).__name__),
            TaskDef("c", give, args=(1,), circuit_breaker=breaker, fallback="cached"),
        )
    assert dict(execution.results) == {"b": "CircuitOpenError", "c": "cached"}
    assert execution.task("b").status is TaskStatus.COMPLETED


@pytest.mark.parametrize("how", ["cancel", "failure"])
def test_a_refused_task_whose_fallback_is_due_when_the_execution_stops(how):
    called = []
    breaker = CircuitBreaker(1, 30, name="db")
    with Rig(workers=1, seconds={"late": 5}) as rig:
        rig.run(TaskDef("a", boom, circuit_breaker=breaker))
        execution = rig.start(
            TaskDef("late", boom if how == "failure" else give, args=(1,), pool="process"),
            TaskDef("b", give, args=(1,), circuit_breaker=breaker, fallback=called.append),
        )
        while execution.task("b").status is not TaskStatus.WAITING:
            assert rig.pools.step()
        if how == "cancel":
            execution.cancel()
        rig.manager.engine.resize(rig.pools._pools[0], 1)
        rig.go()
    if how == "cancel":
        assert called == []
        assert execution.task("b").status is TaskStatus.FAILED
    assert execution.status is (WorkflowStatus.CANCELLED if how == "cancel" else WorkflowStatus.FAILED)


def test_when_half_open_only_so_many_are_let_through_and_the_others_wait_for_them():
    with Rig(workers=10, seconds={f"t{i}": 5 for i in range(6)}) as rig:
        breaker = CircuitBreaker(1, 30, half_open_calls=2, name="db")
        rig.run(TaskDef("a", boom, circuit_breaker=breaker))
        execution = rig.run(*many(6, circuit_breaker=breaker, retry_policy=2))
    assert starts(execution) == [30, 30, 35, 35, 35, 35]


def test_a_failure_when_half_open_opens_it_again():
    jobs = [Failing(2) for _ in range(3)]
    with Rig(workers=10) as rig:
        breaker = CircuitBreaker(1, 30, name="db")
        policy = tried(9, initial_interval=1)
        execution = rig.run(
            *[
                TaskDef(f"t{i}", job, circuit_breaker=breaker, retry_policy=policy, priority=-i)
                for i, job in enumerate(jobs)
            ]
        )
    assert execution.status is WorkflowStatus.COMPLETED
    assert [job.calls for job in jobs] == [3, 3, 3]


def test_a_cancelled_call_frees_its_place_when_half_open():
    breaker = CircuitBreaker(1, 30, name="db")
    with Rig(workers=10, seconds={"hangs": float("inf")}, grace=10) as rig:
        rig.run(TaskDef("a", boom, circuit_breaker=breaker))
        hangs = rig.start(TaskDef("hangs", give, args=(1,), circuit_breaker=breaker, retry_policy=2))
        rig.go(until=31)
        assert starts(hangs) == [30]
        other = rig.start(TaskDef("b", give, args=(1,), circuit_breaker=breaker, retry_policy=2))
        rig.go(until=40)
        assert starts(other) == []
        assert other.waiting()[0].reason == "circuit breaker 'db'"
        assert other.waiting()[0].deadline is None, "nobody knows"
        hangs.cancel()
        rig.go()
    assert starts(other) == [50]


def test_a_timeout_counts_as_a_failure():
    with Rig(seconds={"a": 100}) as rig:
        breaker = CircuitBreaker(1, 30, name="db")
        rig.run(TaskDef("a", give, args=(1,), timeout=5, circuit_breaker=breaker))
        execution = rig.run(TaskDef("b", give, args=(1,), circuit_breaker=breaker))
    assert isinstance(execution.failures["b"], CircuitOpenError)


def test_its_turns_are_events_of_the_bus_that_name_it():
    heard = []
    with Rig() as rig:
        for kind in ("CIRCUIT_OPENED", "CIRCUIT_CLOSED"):
            rig.manager.event_bus.subscribe(
                kind, lambda event: heard.append((event.type.value, event.data["name"], event.seq))
            )
        policy = tried(9, initial_interval=1)
        rig.run(TaskDef("a", Failing(2), circuit_breaker=CircuitBreaker(2, 30, name="db"), retry_policy=policy)).wait()
    assert heard == [("CIRCUIT_OPENED", "db", None), ("CIRCUIT_CLOSED", "db", None)]


# ---- resources -----------------------------------------------------------------------------------------------------


def test_attempts_hold_what_they_need_while_they_run_and_no_longer():
    with Rig(workers=10, resources={"gpu": 2}, seconds={f"t{i}": 5 for i in range(5)}) as rig:
        execution = rig.run(*many(5, resources={"gpu": 1}))
    assert starts(execution) == [0, 0, 5, 5, 10]


def test_a_retry_gives_back_what_it_holds_while_it_waits():
    with Rig(resources={"gpu": 1}) as rig:
        execution = rig.run(
            TaskDef("a", Failing(1), resources={"gpu": 1}, retry_policy=tried(2, initial_interval=100), priority=9),
            TaskDef("b", give, args=(1,), resources={"gpu": 1}),
        )
    assert starts(execution, "b") == [0]


def test_waiting_for_more_than_is_free_keeps_nobody_busy():
    with Rig(resources={"gpu": 4}, seconds={"a": 100}) as rig:
        execution = rig.run(
            TaskDef("a", give, args=(1,), resources={"gpu": 2}), TaskDef("b", give, args=(1,), resources={"gpu": 4})
        )
    assert starts(execution) == [0, 100]
    assert data_of(execution, "TASK_WAITING") == [{"reason": "resources 'gpu'"}]


def test_several_resources_are_taken_together_or_not_at_all():
    with Rig(workers=10, resources={"gpu": 1, "disk": 1}, seconds={"both": 5, "gpu": 7, "disk": 3}) as rig:
        execution = rig.run(
            TaskDef("gpu", give, args=(1,), resources={"gpu": 1}, priority=3),
            TaskDef("both", give, args=(1,), resources={"disk": 1, "gpu": 1}, priority=2),
            TaskDef("disk", give, args=(1,), resources={"disk": 1}, priority=1),
        )
    assert told(execution, "TASK_STARTED") == [
        (0, "gpu", "TASK_STARTED"),
        (0, "disk", "TASK_STARTED"),
        (7, "both", "TASK_STARTED"),
    ]


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ({"gpu": 3}, ["3", "'gpu'", "2 in all"]),
        ({"gpus": 1}, ["'gpus'", "did you mean 'gpu'", "resources"]),
    ],
)
def test_more_than_there_is_at_all_is_an_error_before_anything_runs(resources, words):
    ran = []
    with Rig(resources={"gpu": 2}) as rig:
        with pytest.raises(WorkflowDefinitionError) as caught:
            rig.start(TaskDef("a", ran.append, args=(1,)), TaskDef("b", give, args=(1,), resources=resources))
        rig.go()
    assert ran == []
    assert all(word in str(caught.value) for word in ["'b'", *words])


@pytest.mark.parametrize("how", ["cancel", "pause"])
def test_what_was_offered_to_one_that_goes_away_is_for_the_next_in_line(how):
    with Rig(workers=1, resources={"gpu": 1}, seconds={"hog": 5, "busy": 20}) as rig:
        rig.start(TaskDef("hog", give, args=(1,), resources={"gpu": 1}, pool="process"))
        rig.start(TaskDef("busy", give, args=(1,), priority=99))
        first = rig.start(TaskDef("a", give, args=(1,), resources={"gpu": 1}, priority=9))
        other = rig.start(TaskDef("b", give, args=(1,), resources={"gpu": 1}))
        rig.go(until=1)
        rig.manager.resize("thread", 2)  # somebody comes for them, finds the line shut, and goes
        rig.go(until=2)
        rig.manager.resize("thread", 1)
        assert first.waiting()
        assert other.waiting()
        rig.go(until=10)  # at 5 the first was offered it, but nobody is free to take it
        getattr(first, how)()
        rig.go()
        assert starts(other) == [20]
        first.cancel()


def test_an_offer_that_a_task_can_not_use_for_another_limits_sake_is_for_the_next_in_line():
    with Rig(workers=4, resources={"gpu": 1}, seconds={"hog": 5}) as rig:
        limit = RateLimit(1, 100, name="api")
        execution = rig.run(
            TaskDef("hog", give, args=(1,), resources={"gpu": 1}, rate_limit=limit, priority=9),
            TaskDef("both", give, args=(1,), resources={"gpu": 1}, rate_limit=limit, priority=8),
            TaskDef("gpu", give, args=(1,), resources={"gpu": 1}),
        )
    assert starts(execution, "gpu") == [5]
    assert starts(execution, "both") == [100]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("resources", {"gpu": amount}) for amount in (0, -1, math.nan, math.inf, "1", True, None)),
        ("resources", ["gpu"]),
        ("resources", {1: 1}),
        ("retry_policy", 0),
        ("retry_policy", True),
        ("retry_policy", "3"),
        ("compensate", 3),
        ("rate_limit", 3),
        ("circuit_breaker", "db"),
    ],
)
def test_a_value_that_cannot_be_right_is_refused_when_the_task_is_made(field, value):
    with pytest.raises(WorkflowDefinitionError) as caught:
        TaskDef("a", give, args=(1,), **{field: value})
    assert "'a'" in str(caught.value)
    assert field.removesuffix("_policy") in str(caught.value).lower()


@pytest.mark.parametrize("amount", [0, -1, math.nan, math.inf, "1"])
def test_what_cannot_be_offered_is_refused_when_the_manager_is_made(amount):
    with pytest.raises(ConfigError, match="resources"):
        WorkflowManager(resources={"gpu": amount})


def test_amounts_are_the_decimal_numbers_that_they_are_written_as():
    with Rig(workers=20, resources={"memory": 1}, seconds={f"t{i}": 5 for i in range(11)}) as rig:
        execution = rig.run(*many(11, resources={"memory": 0.1}))
    assert starts(execution) == [*[0] * 10, 5]


def test_what_timed_out_or_was_given_up_holds_nothing_any_more():
    with Rig(workers=4, resources={"gpu": 1}, seconds={"hangs": float("inf")}, failure_policy="continue") as rig:
        execution = rig.run(
            TaskDef("hangs", give, args=(1,), resources={"gpu": 1}, timeout=10, priority=9),
            TaskDef("b", give, args=(1,), resources={"gpu": 1}),
        )
    assert starts(execution, "b") == [10]


OTHER = {"other": {"kind": "thread", "workers": 1}}


@pytest.mark.parametrize("pool", ["thread", "other"])
def test_a_small_one_does_not_overtake_a_large_one_that_waits_for_ever(pool):
    """Tasks that need little, and always overlap, mustn't starve a more urgent one that needs much, in any pool."""
    seconds = {f"s{i}": 3 + i % 2 for i in range(40)}
    with Rig(workers=4, resources={"gpu": 2}, pools=OTHER, seconds=seconds) as rig:
        small = [
            TaskDef(f"s{i}", give, args=(i,), resources={"gpu": 1}, dependencies=[f"s{i - 2}"] if i > 1 else [])
            for i in range(40)
        ]
        execution = rig.start(*small)
        rig.go(until=5)
        large = rig.start(TaskDef("large", give, args=(1,), resources={"gpu": 2}, priority=9, pool=pool))
        rig.go()
    assert execution.status is WorkflowStatus.COMPLETED
    assert starts(large)[0] < 12


def test_a_large_one_behind_a_paused_one_is_not_overtaken_either():
    """The paused one stands back, with its place at the head of the line; whoever is behind it is first meanwhile."""
    with Rig(workers=4, resources={"gpu": 2}, seconds={"busy": 10, "large": 1}) as rig:
        rig.start(TaskDef("busy", give, args=(1,), resources={"gpu": 1}, priority=99))
        paused = rig.start(TaskDef("paused", give, args=(1,), resources={"gpu": 2}, priority=9))
        rig.go(until=1)
        assert paused.pause()
        large = rig.start(TaskDef("large", give, args=(1,), resources={"gpu": 2}, priority=5))
        rig.go(until=2)
        small = rig.start(TaskDef("small", give, args=(1,), resources={"gpu": 1}))
        rig.go(until=20)
        assert (starts(large)[0], paused.status) == (10, WorkflowStatus.PAUSED)
        assert starts(small) == [11]
        paused.resume()
        rig.go()
    assert paused.status is WorkflowStatus.COMPLETED


def test_a_large_one_that_waits_for_its_pool_holds_nobody_up():
    """There is enough for it as soon as nobody has anything; from then on it is its pool that it waits for."""
    with Rig(workers=2, resources={"gpu": 2}, pools=OTHER, seconds={"busy": 100, "small0": 2}) as rig:
        small = many(6, "small", resources={"gpu": 1})
        execution = rig.start(*small, TaskDef("busy", give, args=(1,), pool="other", priority=99))
        large = rig.start(TaskDef("large", give, args=(1,), resources={"gpu": 2}, priority=9, pool="other"))
        rig.go()
    assert max(starts(execution)) <= 6
    assert starts(large) == [100]


# ---- callable fallbacks ----------------------------------------------------------------------------------------------


def test_a_fallback_runs_without_what_its_attempt_held():
    """The one unit is free for the other task while the fallback runs, which waits for just that."""
    other_runs = threading.Event()

    def fail():
        raise OSError("no")

    def instead(_):
        return other_runs.wait(30)

    tasks = [
        nerv.TaskDef("a", fail, resources={"unit": 1}, fallback=instead, priority=9),
        nerv.TaskDef("b", other_runs.set, resources={"unit": 1}),
    ]
    execution = nerv.run(nerv.Workflow("w", tasks), workers=2, resources={"unit": 1})
    assert execution["a"] is True


def test_a_failure_with_a_callable_fallback_is_a_failure_to_its_breaker():
    breaker = nerv.CircuitBreaker(1, 60.0, name="fallen back")

    def fail():
        raise OSError("no")

    tasks = [
        nerv.TaskDef("a", fail, circuit_breaker=breaker, fallback=lambda _: "instead"),
        nerv.TaskDef("b", lambda: 1, circuit_breaker=breaker, dependencies=["a"]),
    ]
    execution = nerv.run(nerv.Workflow("w", tasks), raise_on_failure=False)
    assert execution["a"] == "instead"
    assert isinstance(execution.failures["b"], nerv.CircuitOpenError)
