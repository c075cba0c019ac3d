"""An Execution is the handle on one run: wait for it, steer it, ask it anything, from any thread at any time."""

import asyncio
import json
import threading
import time

import pytest

import nerv
from nerv import Output, ResultUnavailableError, RetryPolicy, TaskDef, TaskResult, WorkflowManager, WorkflowStatus, run
from tests.handshake import PATIENCE, Gauge, Hold, boom, ended, eventually, flow, give, kinds, reached, statuses
from tests.rig import Failing


def chain(length, fn=lambda: 1):
    """Tasks t0, t1 ... each after the one before."""
    return [TaskDef(f"t{n}", fn, dependencies=[f"t{n - 1}"] if n else []) for n in range(length)]


# ---- results ---------------------------------------------------------------------------------------------------------


def test_the_result_is_the_single_sinks_or_a_mapping_of_the_sinks():
    """Without result=; the sinks are what nothing depends on, in definition order."""
    a, b = TaskDef("a", lambda: 1), TaskDef("b", give, args=(Output("a"),))
    assert run(flow(a, b)).result == 1
    assert run(flow(b, a, TaskDef("c", lambda: 3))).result == {"b": 1, "c": 3}
    assert run(flow()).result == {}


def test_the_result_is_what_the_workflow_says():
    """References anywhere in it are filled in; a plain value is itself."""
    a, b = TaskDef("a", lambda: {"k": [1, 2]}), TaskDef("b", lambda: 2)
    assert run(flow(a, b, result=Output("a")["k"][0])).result == 1
    assert run(flow(a, b, result=(Output("b"), {"x": [Output("a")["k"]]}))).result == (2, {"x": [[1, 2]]})
    assert run(flow(a, b, result="plain")).result == "plain"
    assert run(flow(a, b, result=None)).result == {"a": {"k": [1, 2]}, "b": 2}


def test_a_result_with_a_default_can_do_without_its_task():
    """And without one, asking raises what the task would."""
    tasks = TaskDef("a", lambda: 1), TaskDef("bad", boom)
    options = {"raise_on_failure": False, "failure_policy": "continue"}
    assert run(flow(*tasks, result=[Output("a"), Output("bad", default=7)]), **options).result == [1, 7]
    with pytest.raises(ValueError, match="boom"):
        run(flow(*tasks, result=[Output("a"), Output("bad")]), **options).result


def test_a_result_is_not_there_before_the_end():
    """Not even by its default: the task may complete yet."""
    slow = Hold(5)
    execution = nerv.start(flow(TaskDef("slow", slow), result=Output("slow", default=7)))
    slow.entered()
    with pytest.raises(ResultUnavailableError, match="'slow'"):
        execution.result
    slow.go()
    assert ended(execution).result == 5


def test_results_are_a_mapping_of_what_is_completed_by_now():
    """Read-only; it has the very objects."""
    made, slow = object(), Hold()
    execution = nerv.start(flow(TaskDef("a", lambda: made), TaskDef("b", slow, dependencies=["a"]), TaskDef("c", boom)))
    slow.entered()
    assert dict(execution.results) == {"a": made}
    with pytest.raises(TypeError):
        execution.results["a"] = 1
    slow.go()
    assert set(ended(execution).results) == {"a", "b"}


def test_task_says_what_became_of_each():
    """Status, result, error, attempts, times and whom it was skipped for."""
    before = time.time()
    tasks = TaskDef("a", lambda: 5), TaskDef("bad", boom, dependencies=["a"]), TaskDef("x", give, args=(Output("bad"),))
    execution = run(flow(*tasks), raise_on_failure=False)
    a, bad, x = (execution.task(name) for name in ("a", "bad", "x"))
    assert isinstance(a, TaskResult)
    assert (a.task_id, a.status.name, a.result, a.error, a.attempts) == ("a", "COMPLETED", 5, None, 1)
    assert a.skipped_because is None
    assert before - 1 <= a.started_at <= a.completed_at <= time.time() + 1
    assert a.execution_time == pytest.approx(a.completed_at - a.started_at, abs=1e-3)
    assert (bad.status.name, bad.result, bad.attempts) == ("FAILED", None, 1)
    assert isinstance(bad.error, ValueError)
    assert (x.status.name, x.attempts, x.started_at, x.execution_time) == ("SKIPPED", 0, None, 0.0)
    assert x.skipped_because == "bad"
    with pytest.raises(AttributeError):
        a.result = 6


def test_asking_for_every_task_reads_no_more_than_there_is():
    """Not the whole log once for each of them: each is asked about through the events that set its status."""

    class Counted(list):
        read = 0

        def __getitem__(self, index):
            found = super().__getitem__(index)
            Counted.read += len(found) if isinstance(index, slice) else 1
            return found

    policy = RetryPolicy(2, initial_interval=0)
    execution = run(flow(*[TaskDef(f"t{n}", Failing(1), retry_policy=policy) for n in range(300)]))
    execution.log.records = Counted(execution.log.records)
    assert {execution.task(task_id).attempts for task_id in execution.workflow.tasks} == {2}
    assert len(execution.log.records) == 2 + 4 * 300
    assert Counted.read <= 2 * len(execution.log.records)


def test_task_follows_a_running_task():
    """PENDING, RUNNING, COMPLETED as it goes."""
    slow = Hold()
    execution = nerv.start(flow(TaskDef("a", slow), TaskDef("b", give, args=(Output("a"),))))
    slow.entered()
    assert statuses(execution) == {"a": "RUNNING", "b": "PENDING"}
    assert execution.task("a").attempts == 1
    assert execution.task("a").completed_at is None
    slow.go()
    assert statuses(ended(execution)) == {"a": "COMPLETED", "b": "COMPLETED"}


def test_who_it_is():
    """Id, workflow, params and a repr; ids differ."""
    workflow = flow(TaskDef("a", lambda: 1), name="etl")
    one, two = run(workflow, {"p": 1}), run(workflow)
    assert one.id != two.id
    assert one.workflow is workflow
    assert one.workflow_name == "etl"
    assert repr(one) == f"<Execution {one.id!r} of 'etl': COMPLETED>"
    with pytest.raises(TypeError):
        one.params["p"] = 2


# ---- waiting ---------------------------------------------------------------------------------------------------------


def test_wait_says_whether_it_has_ended():
    """False when time is up, True at the end, and it doesn't raise for a failure."""
    slow = Hold()
    execution = nerv.start(flow(TaskDef("a", slow), TaskDef("b", boom, dependencies=["a"])))
    slow.entered()
    assert execution.wait(0) is False
    assert execution.wait(0.001) is False
    slow.go()
    assert execution.wait() is True
    assert execution.wait(0) is True
    assert execution.status is WorkflowStatus.FAILED


def test_sixteen_threads_may_wait_for_one_execution():
    """All of them are told."""
    slow, told = Hold(), []
    execution = nerv.start(flow(TaskDef("a", slow)))
    waiters = [threading.Thread(target=lambda: told.append(execution.wait(PATIENCE))) for _ in range(16)]
    for waiter in waiters:
        waiter.start()
    slow.go()
    for waiter in waiters:
        waiter.join()
    assert told == [True] * 16


# ---- cancel ----------------------------------------------------------------------------------------------------------


def test_cancel_tells_what_runs_and_starts_nothing_more():
    """What stops or never started is CANCELLED, what returns stays COMPLETED; the end has the reason."""
    good, deaf, called = Hold(deaf=False), Hold(5), []
    tasks = [
        TaskDef("good", good),
        TaskDef("deaf", deaf),
        TaskDef("after", lambda: called.append(1), dependencies=["deaf"]),
    ]
    execution = nerv.start(flow(*tasks), workers=2)
    good.entered()
    deaf.entered()
    assert execution.cancel("changed my mind") is True
    assert execution.cancel("again") is False
    deaf.go()
    ended(execution)
    assert execution.cancel() is False
    assert execution.status.name == "CANCELLED"
    assert statuses(execution) == {"good": "CANCELLED", "deaf": "COMPLETED", "after": "CANCELLED"}
    assert execution["deaf"] == 5
    assert called == []
    assert list(execution.events())[-1].data["reason"] == "changed my mind"


def test_a_cancel_that_comes_too_late_changes_nothing():
    """When the last task returns all the same, every task is COMPLETED, and so is the execution."""
    deaf = Hold()
    execution = nerv.start(flow(TaskDef("a", deaf)))
    deaf.entered()
    execution.cancel()
    deaf.go()
    assert ended(execution).status.name == "COMPLETED"


def test_after_grace_a_thread_is_abandoned():
    """The execution ends, its task CANCELLED; the worker is replaced at once, and the late result is ignored."""
    hung = Hold("late")
    with WorkflowManager(workers=1, grace=0.01) as manager:
        execution = manager.start(flow(TaskDef("hung", hung), TaskDef("b", give, args=(Output("hung"),))))
        hung.entered()
        waiting = manager.start(flow(TaskDef("a", lambda: 1)))
        execution.cancel()
        assert statuses(ended(execution)) == {"hung": "CANCELLED", "b": "CANCELLED"}
        assert ended(waiting)["a"] == 1
        hung.go()
        assert ended(manager.start(flow(TaskDef("a", lambda: 2))))["a"] == 2
        assert statuses(execution)["hung"] == "CANCELLED"
        with pytest.raises(ResultUnavailableError):
            execution["hung"]


def test_a_given_up_task_that_waited_takes_no_slot_with_it():
    """Given up while its slot was lent, it leaves exactly as many slots as there were."""
    inside, gauge = Hold(), Gauge()
    with WorkflowManager(workers=2, grace=0.01) as manager:
        inner = []

        def outer():
            inner.append(manager.start(flow(TaskDef("i", inside))))
            inner[0].wait()

        execution = manager.start(flow(TaskDef("o", outer)))
        inside.entered()
        execution.cancel()
        ended(execution)

        def work():
            with gauge:
                time.sleep(0)

        ended(manager.start(flow(*(TaskDef(str(n), work) for n in range(200)))))
        assert gauge.most <= 1
        inside.go()
        ended(inner[0])
        eventually(lambda: manager._pools["thread"].running == 0)
        both = threading.Barrier(2)
        ended(manager.start(flow(*(TaskDef(str(n), lambda: both.wait(PATIENCE)) for n in range(2)))))


def test_a_coroutine_is_cancelled_after_grace():
    """As asyncio does it: its `finally` runs."""
    began, cleaned = threading.Event(), threading.Event()

    async def forever():
        try:
            began.set()
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    execution = nerv.start(flow(TaskDef("a", forever)), grace=0.01)
    reached(began)
    execution.cancel()
    assert statuses(ended(execution)) == {"a": "CANCELLED"}
    reached(cleaned)


def test_cancelling_races_with_the_end():
    """At any moment it ends in one consistent outcome: one last event, no gap in seq, every task in a final state."""
    with WorkflowManager(workers=2) as manager:
        for n in range(150):
            execution = manager.start(flow(*chain(6)))
            if n % 3:
                eventually(lambda at=n % 7, execution=execution: len(execution.results) >= at or execution.wait(0))
            execution.cancel()
            ended(execution)
            names = kinds(execution)
            last = {"COMPLETED": "WORKFLOW_COMPLETED", "CANCELLED": "WORKFLOW_CANCELLED"}[execution.status.name]
            assert names[-1] == last
            assert sum(name in ("WORKFLOW_COMPLETED", "WORKFLOW_CANCELLED") for name in names) == 1
            assert [event.seq for event in execution.events()] == list(range(1, len(names) + 1))
            assert {execution.task(f"t{i}").status.is_final for i in range(6)} == {True}


# ---- pause -----------------------------------------------------------------------------------------------------------


def test_pause_starts_nothing_more_until_resume():
    """At once; what runs ends; what it makes ready waits; then everything runs once."""
    first, called = Hold(), []
    tasks = TaskDef("a", first), *(TaskDef(f"b{n}", lambda: called.append(1), dependencies=["a"]) for n in range(5))
    execution = nerv.start(flow(*tasks), workers=2)
    first.entered()
    assert execution.pause() is True
    assert execution.pause() is False
    assert execution.status.name == "PAUSED"
    first.go()
    eventually(lambda: len(execution.results) == 1)
    assert execution.wait(0.01) is False
    assert called == []
    assert execution.resume() is True
    assert execution.resume() is False
    assert len(ended(execution).results) == 6
    assert called == [1] * 5
    assert kinds(execution)[2:5] == ["WORKFLOW_PAUSED", "TASK_COMPLETED", "WORKFLOW_RESUMED"]
    assert execution.pause() is False


def test_a_paused_execution_holds_up_no_other():
    """On one worker, another execution's tasks run meanwhile."""
    with WorkflowManager(workers=1) as manager:
        first = Hold()
        paused = manager.start(flow(TaskDef("a", first), *chain(20)))
        first.entered()
        paused.pause()
        first.go()
        assert len(ended(manager.start(flow(*chain(20)))).results) == 20
        paused.resume()
        assert len(ended(paused).results) == 21


def test_a_paused_execution_can_be_cancelled():
    """It ends."""
    first = Hold()
    execution = nerv.start(flow(TaskDef("a", first), TaskDef("b", give, args=(Output("a"),))))
    first.entered()
    execution.pause()
    execution.cancel()
    first.go()
    assert ended(execution).status.name == "CANCELLED"


def test_pausing_and_resuming_in_a_hurry_loses_nothing():
    """Two hundred times while small tasks run on two workers: every task runs once, and it ends."""
    calls = []
    execution = nerv.start(flow(*(TaskDef(f"x{n}", lambda: calls.append(1)) for n in range(2000))), workers=2)
    for _ in range(200):
        execution.pause()
        execution.resume()
    ended(execution)
    assert len(calls) == 2000
    assert kinds(execution).count("TASK_STARTED") == 2000


# ---- looking ---------------------------------------------------------------------------------------------------------


def test_events_are_the_whole_log_in_order():
    """Each has the type, seq, task, attempt, time and data that belong to it."""
    execution = run(flow(TaskDef("a", lambda: 5), TaskDef("b", boom, dependencies=["a"])), raise_on_failure=False)
    log = list(execution.events())
    assert [(event.seq, event.type.value, event.task_id) for event in log] == [
        (1, "WORKFLOW_STARTED", None),
        (2, "TASK_STARTED", "a"),
        (3, "TASK_COMPLETED", "a"),
        (4, "TASK_STARTED", "b"),
        (5, "TASK_FAILED", "b"),
        (6, "WORKFLOW_FAILED", None),
    ]
    assert log[2].data["result"] == 5
    assert log[4].data["error"] is execution.failures["b"]
    assert log[1].attempt == 1
    assert [event.id for event in log] == [f"{execution.id}:{seq}" for seq in range(1, 7)]
    times = [event.timestamp for event in log]
    assert times == sorted(times)
    last = log[-1].data
    assert (last["execution_id"], last["task_count"], last["successful_tasks"]) == (execution.id, 2, 1)
    assert last["status"] is execution.status


def test_following_events_goes_on_until_the_end():
    """for and async for see everything that happens while they read, also from the start of a finished run."""
    slow, seen = Hold(), []
    execution = nerv.start(flow(TaskDef("a", slow), TaskDef("b", give, args=(Output("a"),))))
    reader = threading.Thread(target=lambda: seen.extend(execution.events(follow=True)))
    reader.start()

    async def follow():
        return [event.seq async for event in execution.events(follow=True)]

    async def main():
        following = asyncio.create_task(follow())
        await asyncio.to_thread(slow.entered)
        slow.go()
        return await following

    assert asyncio.run(main()) == [1, 2, 3, 4, 5, 6]
    reader.join(PATIENCE)
    assert [event.seq for event in seen] == [1, 2, 3, 4, 5, 6]
    assert [event.seq for event in execution.events(follow=True)] == [1, 2, 3, 4, 5, 6]


def test_reading_without_following_stops_at_now():
    """In both kinds of loop."""
    slow = Hold()
    execution = nerv.start(flow(TaskDef("a", slow)))
    slow.entered()

    async def read():
        return [event.seq async for event in execution.events()]

    assert [event.seq for event in execution.events()] == [1, 2]
    assert asyncio.run(read()) == [1, 2]
    slow.go()
    ended(execution)


def test_a_reader_that_leaves_early_leaves_nothing_behind():
    """Breaking out of either loop, or closing the event loop, hurts no worker and costs later events nothing."""
    slow = Hold()
    execution = nerv.start(flow(TaskDef("a", slow), *chain(10)), workers=1)
    for event in execution.events(follow=True):
        if event.seq == 2:
            break

    async def peek():
        async for event in execution.events(follow=True):
            if event.seq == 2:
                return

    asyncio.run(peek())
    slow.go()
    assert len(ended(execution).results) == 11
    assert execution._live.on_change == []


def test_the_state_at_any_moment_is_the_state_that_was():
    """state is now; at(seq) is after that event; 0 is before the first."""
    execution = run(flow(TaskDef("a", lambda: 1), TaskDef("b", give, args=(Output("a"),))))
    assert execution.state["status"].name == "COMPLETED"
    assert execution.at(2)["tasks"]["a"]["status"].name == "RUNNING"
    assert execution.at(2)["tasks"]["b"]["status"].name == "PENDING"
    assert execution.at(3)["tasks"]["a"]["status"].name == "COMPLETED"
    assert execution.at(6)["status"] is execution.status
    assert execution.project("completed_tasks") == {"a", "b"}
    with pytest.raises(KeyError, match="completed_tasks"):
        execution.project("finished_tasks")


def test_the_sequence_is_the_order_of_starts():
    """By id."""
    tasks = TaskDef("z", lambda: 1), TaskDef("a", lambda: 1, dependencies=["z"]), TaskDef("m", boom, dependencies=["a"])
    assert run(flow(*tasks), raise_on_failure=False).sequence == ["z", "a", "m"]


def test_the_summary_is_a_table_for_people():
    """Name, status, counts, failures in one line each, and the slowest tasks."""
    tasks = TaskDef("good", lambda: 1), TaskDef("bad", lambda: 1 / 0), TaskDef("x", give, args=(Output("bad"),))
    text = run(flow(*tasks, name="etl"), raise_on_failure=False, failure_policy="continue").summary()
    assert text.startswith("etl  FAILED")
    assert "3 tasks: 1 completed, 1 failed, 1 skipped" in text
    assert "bad  ZeroDivisionError: division by zero" in text
    slow = Hold()
    execution = nerv.start(flow(TaskDef("a", slow)))
    slow.entered()
    assert "1 running" in execution.summary()
    slow.go()
    ended(execution)


def test_the_trace_is_a_chrome_trace(tmp_path):
    """One complete event for each attempt, in microseconds; tasks that ran together are on different tracks."""
    both = threading.Barrier(2)
    tasks = [TaskDef(n, lambda: both.wait(PATIENCE)) for n in "ab"]
    execution = run(flow(*tasks, TaskDef("c", lambda: 1, dependencies=["a", "b"])), workers=2)
    execution.to_trace(str(tmp_path / "trace.json"))
    execution.to_trace(tmp_path / "again.json")
    trace = json.loads((tmp_path / "trace.json").read_text())
    assert trace == json.loads((tmp_path / "again.json").read_text())
    bars = {bar["name"]: bar for bar in trace["traceEvents"] if bar["ph"] == "X"}
    assert set(bars) == {"a", "b", "c"}
    assert bars["a"]["tid"] != bars["b"]["tid"]
    assert all(bar["dur"] >= 0 and bar["ts"] >= 0 for bar in bars.values())
    assert bars["c"]["ts"] >= max(bars[n]["ts"] + bars[n]["dur"] for n in "ab") - 1
    assert bars["a"]["dur"] / 1e6 == pytest.approx(execution.task("a").execution_time, abs=1e-3)


def test_everything_may_be_asked_from_many_threads_while_it_runs():
    """Sixteen threads ask all they can while tasks end; nothing raises and the run is right."""
    errors, stop = [], threading.Event()
    execution = nerv.start(flow(*(TaskDef(f"x{n}", lambda: 1) for n in range(3000))), workers=4)

    def ask():
        try:
            while not stop.is_set():
                dict(execution.results), execution.failures, execution.status, len(list(execution.events()))
                execution.task("x7"), execution.state["tasks"]["x1"], execution.project("progress")
                execution.summary(), execution.sequence, execution.logs(), repr(execution)
        except Exception as error:
            errors.append(error)

    askers = [threading.Thread(target=ask) for _ in range(16)]
    for asker in askers:
        asker.start()
    ended(execution)
    stop.set()
    for asker in askers:
        asker.join()
    assert errors == []
    assert len(execution.results) == 3000
