"""Buffer and Collector."""

import threading
import time

import pytest

from nerv import (
    MISSING,
    Buffer,
    BufferComplete,
    BufferDispatched,
    Collector,
    Expand,
    FatalError,
    Output,
    Param,
    RateLimit,
    RetryPolicy,
    TaskDef,
    TerminalError,
    Workflow,
    WorkflowDefinitionError,
    WorkflowManager,
    run,
    task,
)
from tests.handshake import PATIENCE, Gauge
from tests.nodes.helpers import double, fail, go, inc, of, same, status, statuses


def third_fails(value):
    if value % 3 == 0:
        raise ValueError(f"row {value}")
    return value


async def double_async(value):
    return value * 2


@task(retry_policy=2)
def as_task(value):
    return value * 2


sub = Workflow("sub", [TaskDef("a", inc, args=(Param("item"),)), TaskDef("b", double, args=(Output("a"),))])


@pytest.mark.parametrize("items", [[1, 2, 3], (1, 2, 3), range(1, 4), {1: 0, 2: 0, 3: 0}])
def test_a_buffer_runs_its_target_for_each_item_in_a_task_of_its_own(items):
    execution = go(Buffer("b", items, double))
    done = execution["b"]
    assert isinstance(done, BufferComplete)
    assert (list(done), done.results, done.values, done.total, done.successful, done.errors) == (
        [2, 4, 6], [2, 4, 6], [2, 4, 6], 3, 3, {},
    )  # fmt: skip
    assert [execution[f"b[{index}]"] for index in range(3)] == [2, 4, 6]


@pytest.mark.parametrize(
    ("target", "results"),
    [
        (double, [2, 4]),
        (TaskDef("t", double), [2, 4]),
        (TaskDef("t", lambda item, more: item + more, args=(10,)), [11, 12]),
        (TaskDef("t", double, pool="process"), [2, 4]),
        (double_async, [2, 4]),
        (as_task, [2, 4]),
        (sub, [4, 6]),
    ],
    ids=["function", "taskdef", "arguments", "process", "coroutine", "task", "workflow"],
)
def test_a_target_may_be_anything_that_runs(target, results):
    assert list(go(Buffer("b", [1, 2], target))["b"]) == results


def test_items_are_handed_over_as_they_are():
    items = [None, (1, 2), Output, [Output("x")], float("nan"), object()]
    given = go(TaskDef("items", lambda: items), Buffer("b", Output("items"), lambda item: item))["b"].results
    assert all(one is other for one, other in zip(given, items, strict=True))


def test_results_go_to_their_items_whoever_is_quicker():
    turn = [threading.Event() for _ in range(6)]

    def target(index):
        if index < 5:
            assert turn[index + 1].wait(PATIENCE)
        turn[index].set()
        return index

    assert list(go(Buffer("b", range(6), target), workers=6)["b"]) == list(range(6))


def test_a_buffer_of_nothing_completes_at_once():
    done = go(Buffer("b", [], double))["b"]
    assert (done.total, done.results) == (0, [])
    assert go(Buffer("b", [], double, collect=False))["b"] == BufferDispatched(0)


def test_items_run_together():
    barrier = threading.Barrier(5)
    assert go(Buffer("b", range(5), lambda _: barrier.wait(PATIENCE)), workers=5).status.name == "COMPLETED"


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_max_parallel_is_never_exceeded_and_fully_used(limit):
    gauge, barrier = Gauge(), threading.Barrier(limit)

    def target(_):
        with gauge:
            barrier.wait(PATIENCE)

    execution = go(Buffer("b", range(6 * limit), target, max_parallel=limit), workers=6)
    assert (gauge.most, gauge.total, execution["b"].successful) == (limit, 6 * limit, 6 * limit)


def test_throttled_items_start_in_order():
    seen = []
    go(Buffer("b", range(50), seen.append, max_parallel=1), workers=4)
    assert seen == list(range(50))


def test_an_item_counts_while_it_waits_for_its_next_attempt():
    tries, gauge, lock = {}, Gauge(), threading.Lock()
    active = set()

    def target(item):
        with lock:
            tries[item] = tries.get(item, 0) + 1
            active.add(item)
            gauge.most = max(gauge.most, len(active))
            if tries[item] < 3:
                raise ValueError(item)
            active.discard(item)

    policy = RetryPolicy(maximum_attempts=3, initial_interval=0.001)
    go(Buffer("b", range(8), TaskDef("t", target, retry_policy=policy), max_parallel=2))
    assert gauge.most == 2
    assert set(tries.values()) == {3}


def test_an_item_counts_until_all_that_it_added_has_ended():
    gauge = Gauge()

    def inner(_):
        with gauge:
            pass

    nested = Workflow("n", [Buffer("in", [1, 2, 3], inner, max_parallel=1)])
    go(Buffer("b", range(6), nested, max_parallel=2), workers=6)
    assert gauge.total == 18
    assert gauge.most <= 2


def test_the_first_failure_starts_no_more_items_and_is_the_buffers_error():
    started = []

    def target(item):
        started.append(item)
        if item == 2:
            raise ValueError("row 2")
        return item

    execution = go(Buffer("b", range(100), target, max_parallel=1), failure_policy="continue")
    assert started == [0, 1, 2]
    assert execution.failures["b"] is execution.failures["b[2]"]
    assert statuses(execution)["b[99]"] == "CANCELLED"


def test_running_items_are_told_when_another_has_failed():
    begun, told = threading.Event(), []

    def target(ctx, item):
        if item:
            assert begun.wait(PATIENCE)
            raise ValueError(item)
        begun.set()
        while not ctx.cancelled:
            time.sleep(0.001)
        told.append(item)
        ctx.check_cancelled()

    execution = go(Buffer("b", [0, 1], target), workers=2, failure_policy="continue")
    assert told == [0]
    assert (status(execution, "b[0]"), status(execution, "b")) == ("CANCELLED", "FAILED")


def test_a_running_item_isnt_tried_again_when_another_has_failed():
    begun, calls = threading.Event(), []

    def target(ctx, item):
        calls.append(item)
        if item:
            assert begun.wait(PATIENCE)
            raise TerminalError(item)
        begun.set()
        while not ctx.cancelled:
            time.sleep(0.001)
        raise ValueError(item)

    target = TaskDef("t", target, retry_policy=RetryPolicy(maximum_attempts=3, initial_interval=0.001))
    execution = go(Buffer("b", [0, 1], target), workers=2, failure_policy="continue")
    assert sorted(calls) == [0, 1]
    assert set(execution.failures) == {"b[0]", "b[1]", "b"}


def test_collected_failures_are_the_buffers_business():
    execution = go(Buffer("b", range(7), third_fails, on_item_error="collect"), TaskDef("n", same, args=(Output("b"),)))
    done = execution["b"]
    assert (execution.status.name, dict(execution.failures)) == ("COMPLETED", {})
    assert done.results == [MISSING, 1, 2, MISSING, 4, 5, MISSING]
    assert {index: str(error) for index, error in done.errors.items()} == {0: "row 0", 3: "row 3", 6: "row 6"}
    assert isinstance(execution.task("b[3]").error, ValueError)
    with pytest.raises(ValueError, match="row 3"):
        execution["b[3]"]


def test_collected_failures_below_an_item_are_too():
    inner = Workflow(
        "n", [TaskDef("x", third_fails, args=(Param("item"),)), TaskDef("y", same, dependencies=["x"], args=(1,))]
    )
    execution = go(Buffer("b", range(4), inner, on_item_error="collect"))
    assert (execution.status.name, dict(execution.failures)) == ("COMPLETED", {})
    assert sorted(execution["b"].errors) == [0, 3]
    assert status(execution, "b[0]/y") in ("SKIPPED", "CANCELLED")
    assert status(execution, "b[1]/y") == "COMPLETED"


def test_a_fatal_error_isnt_collected():
    def target(_):
        raise FatalError("all")

    execution = go(Buffer("b", [1, 2], target, on_item_error="collect"))
    assert execution.status.name == "FAILED"
    assert "b[0]" in execution.failures


def test_items_that_raise_midway_fail_the_buffer():
    def items():
        yield 1
        raise LookupError("no more rows")

    execution = go(Buffer("b", items(), double))
    assert isinstance(execution.failures["b"], LookupError)
    assert set(statuses(execution)) == {"b"}


def test_what_isnt_iterable_fails_the_buffer_by_name():
    error = go(TaskDef("n", lambda: 3), Buffer("b", Output("n"), double)).failures["b"]
    assert isinstance(error, TypeError)
    assert "'b'" in str(error)
    assert "int" in str(error)
    with pytest.raises(WorkflowDefinitionError, match=r"'b'.*a list.*not 3"):
        Buffer("b", 3, double)


def test_an_iterator_that_was_used_up_is_an_error():
    workflow = of(Buffer("b", iter([1, 2]), double))
    assert list(run(workflow)["b"]) == [2, 4]
    again = run(workflow, raise_on_failure=False)
    assert "used up" in str(again.failures["b"])


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"max_parallel": 0}, "max_parallel"),
        ({"max_parallel": -1}, "max_parallel"),
        ({"max_parallel": 1.5}, "max_parallel"),
        ({"max_parallel": True}, "max_parallel"),
        ({"collect": 1}, "collect"),
        ({"on_item_error": "ignore"}, "on_item_error"),
        ({"target": 3}, "target"),
        ({"target": Buffer("in", [1], double)}, "Workflow"),
        ({"target": TaskDef("x")}, "no function"),
        ({"pool": "process"}, "pool"),
        ({"args": (1,)}, "args"),
        ({"retry_policy": 3}, "retry_policy"),
        ({"fn": double}, "fn"),
    ],
)
def test_a_buffer_that_cant_be_right_says_so_where_it_is_written(options, word):
    with pytest.raises(WorkflowDefinitionError, match=word) as caught:
        Buffer("b", **{"items": [1], "target": double, **options})
    assert "'b'" in str(caught.value)


@pytest.mark.parametrize("missing", [{"items": [1]}, {"target": double}])
def test_a_buffer_needs_items_and_a_target(missing):
    with pytest.raises(WorkflowDefinitionError, match="needs"):
        Buffer("b", **missing)
    with pytest.raises(WorkflowDefinitionError, match="needs an id"):
        Buffer(items=[1], target=double)


def test_a_target_that_cant_be_sent_is_found_before_anything_runs():
    target = TaskDef("t", lambda item: item, pool="process")
    with pytest.raises(WorkflowDefinitionError), WorkflowManager() as manager:
        manager.start(of(TaskDef("first", fail), Buffer("b", [1], target)))


def test_what_a_target_needs_the_buffer_needs():
    target = TaskDef("t", lambda item, more, param: (item, more, param), args=(Output("more"), Param("p")))
    execution = go(TaskDef("more", same, args=(5,)), Buffer("b", [1], target), params={"p": 6})
    assert list(execution["b"]) == [(1, 5, 6)]
    assert execution.workflow.params == {"p": True}
    assert execution.workflow.plan().dependencies["b"] == ("more",)


def test_each_item_keeps_the_tasks_own_policies():
    starts = []
    limit = RateLimit(1, 0.01)
    go(Buffer("b", range(3), TaskDef("t", starts.append, rate_limit=limit)))
    assert sorted(starts) == [0, 1, 2]


def test_nested_buffers_end_on_one_worker():
    nested = Workflow("n", [Buffer("in", [1, 2], double)])
    execution = go(Buffer("out", range(3), nested), workers=1)
    assert execution["out[2]/in[1]"] == 4
    assert list(execution["out"].results[0]) == [2, 4]


def test_fire_and_forget_answers_at_once_and_the_execution_waits():
    gate = threading.Event()

    def after(dispatched):
        gate.set()
        return dispatched

    execution = go(
        Buffer("b", [1, 2], lambda _: gate.wait(PATIENCE), collect=False), TaskDef("after", after, args=(Output("b"),))
    )
    assert execution["after"] == BufferDispatched(2)
    assert execution.status.name == "COMPLETED"
    assert execution["b[1]"] is True


def test_a_failure_behind_fire_and_forget_fails_the_execution():
    execution = go(Buffer("b", [1], fail, collect=False))
    assert (status(execution, "b"), execution.status.name) == ("COMPLETED", "FAILED")


def test_a_collector_waits_for_all():
    execution = go(Buffer("b", range(5), double, collect=False), Collector("c", "b"))
    assert list(execution["c"]) == [0, 2, 4, 6, 8]


def test_a_collector_goes_on_with_a_quorum():
    gate = threading.Event()

    def target(item):
        if item == 2:
            assert gate.wait(PATIENCE)
        return item

    collector = Collector("c", "b", quorum=2)
    opener = TaskDef("open", lambda done: gate.set() or done.successful, args=(Output("c"),))
    execution = go(Buffer("b", range(3), target, collect=False), collector, opener, workers=4)
    assert execution["open"] == 2
    assert execution["b[2]"] == 2


def test_a_collector_may_cancel_the_rest():
    def target(ctx, item):
        while item == 2 and not ctx.cancelled:
            time.sleep(0.001)
        ctx.check_cancelled()
        return item

    collector = Collector("c", "b", quorum=2, remaining="cancel")
    execution = go(Buffer("b", range(3), target, collect=False), collector, workers=4)
    assert (execution.status.name, status(execution, "b[2]")) == ("COMPLETED", "CANCELLED")
    assert execution["c"].results == [0, 1, MISSING]


def test_a_quorum_that_isnt_reached_is_an_error():
    execution = go(
        Buffer("b", range(4), third_fails, collect=False, on_item_error="collect"), Collector("c", "b", quorum=3)
    )
    assert "2 of 4" in str(execution.failures["c"])


def test_a_collector_may_be_late():
    gate = threading.Event()

    def target(_):
        assert gate.wait(PATIENCE)

    collector = Collector("c", "b", timeout=0.05, fallback="late")
    opener = TaskDef("open", lambda _: gate.set(), args=(Output("c"),))
    execution = go(Buffer("b", [1], target, collect=False), collector, opener)
    assert execution["c"] == "late"


def test_a_collectors_source_must_be_a_buffer_that_sends():
    for source in (TaskDef("b", same, args=(1,)), Buffer("b", [1], same)):
        with pytest.raises(WorkflowDefinitionError, match=r"'c'.*collect=False"):
            of(source, Collector("c", "b"))
    added = TaskDef("grow", lambda: Expand([TaskDef("b", same, args=(1,)), Collector("c", "b")]))
    assert "collect=False" in str(go(added).failures["grow/c"])
    with pytest.raises(WorkflowDefinitionError, match="ghost"):
        of(Collector("c", "ghost"))
    with pytest.raises(WorkflowDefinitionError, match="quorum"):
        Collector("c", "b", quorum=0)
    with pytest.raises(WorkflowDefinitionError, match="remaining"):
        Collector("c", "b", remaining="stop")


def test_many_items():
    execution = go(Buffer("b", range(20_000), double), workers=2)
    assert execution["b"].successful == 20_000
    assert len(execution.workflow) == 1
    assert execution.project("progress")["completed"] == 20_001
