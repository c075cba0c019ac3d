"""Running: what starts when, what a failure does to the rest, and what is refused before anything runs."""

import asyncio
import random
import threading
import warnings
import weakref

import pytest

import nerv
from nerv import (
    ANY,
    ConfigError,
    NervError,
    Output,
    TaskCancelledError,
    TaskDef,
    WorkflowDefinitionError,
    WorkflowFailedError,
    WorkflowManager,
    run,
)
from tests.handshake import (
    PATIENCE,
    Gauge,
    Hold,
    Odd,
    boom,
    ended,
    eventually,
    flow,
    give,
    kinds,
    odd,
    reached,
    statuses,
)


def noted(order, task_id, **fields):
    """A task that writes down its id."""
    return TaskDef(task_id, lambda: order.append(task_id), **fields)


async def coroutine():
    await asyncio.sleep(0)
    return "done"


# ---- what starts when ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheduling", ["ready", "levels"])
@pytest.mark.parametrize("workers", [1, 16])
def test_each_task_starts_once_after_all_that_it_needs(workers, scheduling):
    """On a random graph of 400 tasks: every dependency has ended when a task is called, and none is called twice."""
    draw = random.Random(workers)
    done, gauge, wrong = {}, Gauge(), []

    def work(name, needs):
        with gauge:
            wrong.extend(need for need in needs if need not in done)
            done[name] = done.get(name, 0) + 1
        return name

    tasks = []
    for n in range(400):
        needs = [str(m) for m in draw.sample(range(n), min(n, draw.randint(0, 3)))]
        tasks.append(TaskDef(str(n), work, args=(str(n), needs), dependencies=needs))
    draw.shuffle(tasks)
    execution = run(flow(*tasks), workers=workers, scheduling=scheduling)
    assert wrong == []
    assert set(done.values()) == {1}
    assert len(execution.results) == 400
    assert gauge.most <= workers
    log = list(execution.events())
    started = {e.task_id: e.seq for e in log if e.type == "TASK_STARTED"}
    completed = {e.task_id: e.seq for e in log if e.type == "TASK_COMPLETED"}
    assert all(completed[need] < started[task.id] for task in tasks for need in task.dependencies)
    assert [e.seq for e in log] == list(range(1, len(log) + 1))


def test_sixteen_blocking_tasks_run_at_once_on_sixteen_threads():
    """Each waits for all the others; more than sixteen never run together."""
    barrier, gauge = threading.Barrier(16), Gauge()

    def work():
        with gauge:
            barrier.wait(PATIENCE)

    run(flow(*(TaskDef(str(n), work) for n in range(64))), workers=16)
    assert (gauge.most, gauge.total) == (16, 64)


def test_higher_priority_starts_first_among_ready_tasks():
    """Then the longer remaining chain, then definition order; with one worker that is the whole order."""
    order = []
    tasks = [
        TaskDef("gate", lambda: None, priority=100),
        noted(order, "low", priority=0, dependencies=["gate"]),
        noted(order, "first", dependencies=["gate"]),
        noted(order, "chain", dependencies=["gate"]),
        noted(order, "second", dependencies=["gate"]),
        noted(order, "high", priority=2, dependencies=["gate"]),
        noted(order, "negative", priority=-1, dependencies=["gate"]),
        noted(order, "link", dependencies=["chain"]),
        noted(order, "end", dependencies=["link"]),
    ]
    execution = run(flow(*tasks), workers=1)
    assert order == ["high", "chain", "link", "first", "second", "end", "low", "negative"]
    assert execution.sequence == ["gate", *order]


def test_a_worker_does_not_prefer_its_own_followers():
    """It takes the best ready task, not the one that it has just made ready."""
    order = []
    tasks = [noted(order, "a"), noted(order, "b", priority=0, dependencies=["a"]), noted(order, "c")]
    run(flow(*tasks), workers=1)
    assert order == ["a", "c", "b"]


def test_a_slow_task_holds_up_only_what_needs_it():
    """Ready-driven: a task two levels further on runs, and releases the slow one."""
    slow = Hold()
    tasks = TaskDef("slow", slow), TaskDef("a", lambda: 1), TaskDef("b", slow.go, dependencies=["a"])
    assert len(run(flow(*tasks), workers=2).results) == 3


def test_levels_are_barriers_if_you_want_them():
    """scheduling="levels": no task starts before every task of the levels before its own has ended."""
    slow, early = Hold(), threading.Event()
    tasks = TaskDef("slow", slow), TaskDef("a", lambda: 1), TaskDef("b", early.set, dependencies=["a"])
    execution = nerv.start(flow(*tasks), workers=2, scheduling="levels")
    slow.entered()
    while execution.task("a").status.name != "COMPLETED":
        assert not early.wait(0.001)
    assert not early.is_set()
    slow.go()
    assert kinds(ended(execution))[-1] == "WORKFLOW_COMPLETED"
    assert early.is_set()


@pytest.mark.parametrize("available", [1, 2])
def test_a_pool_goes_on_with_the_threads_that_the_system_has(monkeypatch, caplog, available):
    """Refused a further one, it runs everything on those that it has, and says so once."""
    start, started = threading.Thread.start, []

    def limited(thread):
        if thread.name.startswith("nerv-thread"):
            if len(started) == available:
                raise RuntimeError("can't start new thread")
            started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    gauge, pause = Gauge(), threading.Event()

    def work():
        with gauge:
            pause.wait(0.001)

    run(flow(*(TaskDef(str(n), work) for n in range(30))), workers=8)
    assert (gauge.most, gauge.total) == (available, 30)
    assert caplog.text.count("gets no further thread") == 1


def test_without_any_thread_run_says_so(monkeypatch):
    """The system's own error, and nothing hangs."""

    def refused(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            run(flow(TaskDef("a", lambda: 1)), workers=2)


# ---- failure policies ------------------------------------------------------------------------------------------------


def test_fail_fast_tells_what_runs_and_awaits_it():
    """It sees ctx.cancelled; if it raises TaskCancelledError it is CANCELLED, if it returns it stays COMPLETED."""
    good, deaf = Hold(deaf=False), Hold("result")

    def fail():
        good.entered()
        deaf.entered()
        boom()

    watch = TaskDef("watch", deaf.go, dependencies=["good"], run_when="all_finished")
    tasks = TaskDef("good", good), TaskDef("deaf", deaf), TaskDef("bad", fail), watch
    execution = run(flow(*tasks), workers=4, raise_on_failure=False)
    assert statuses(execution) == {"good": "CANCELLED", "deaf": "COMPLETED", "bad": "FAILED", "watch": "COMPLETED"}
    assert execution["deaf"] == "result"
    assert execution.status.name == "FAILED"


def test_fail_fast_starts_nothing_new():
    """What needs the failure is SKIPPED with its id, at any distance; the rest that hasn't started is CANCELLED."""
    called = []
    tasks = [
        TaskDef("bad", boom, priority=9),
        noted(called, "near", dependencies=["bad"]),
        noted(called, "far", dependencies=["near", "free"]),
        noted(called, "free"),
        noted(called, "behind", dependencies=["free"]),
    ]
    execution = run(flow(*tasks), workers=1, raise_on_failure=False)
    assert statuses(execution) == {
        "bad": "FAILED",
        "near": "SKIPPED",
        "far": "SKIPPED",
        "free": "CANCELLED",
        "behind": "CANCELLED",
    }
    assert called == []
    assert [execution.task(task).skipped_because for task in ("near", "far", "free")] == ["bad", "bad", None]


def test_fail_fast_lets_a_second_failure_be_one():
    """What was running and fails too is FAILED; failures are in time order."""
    other = Hold()

    def second(ctx):
        other(ctx)
        boom()

    def first():
        other.entered()
        boom()

    watch = TaskDef("watch", other.go, dependencies=["b"], run_when="all_finished")
    execution = run(flow(TaskDef("a", second), TaskDef("b", first), watch), workers=3, raise_on_failure=False)
    assert list(execution.failures) == ["b", "a"]


def test_continue_runs_all_that_does_not_depend_on_the_failure():
    """Independent tasks run after it; dependents are SKIPPED without being called; the execution is FAILED."""
    called = []
    tasks = [
        TaskDef("bad", boom, priority=9),
        noted(called, "near", dependencies=["bad"]),
        noted(called, "far", dependencies=["near", "free"]),
        noted(called, "free"),
        noted(called, "behind", dependencies=["free"]),
    ]
    execution = run(flow(*tasks), workers=1, raise_on_failure=False, failure_policy="continue")
    assert called == ["free", "behind"]
    assert statuses(execution)["far"] == "SKIPPED"
    assert execution.status.name == "FAILED"


def test_a_skipped_task_is_skipped_once_and_names_the_failure():
    """A join of two failures has one event, with the first as its cause, at any distance."""
    tasks = [
        TaskDef("bad1", boom),
        TaskDef("bad2", boom),
        TaskDef("join", give, args=([Output("bad1"), Output("bad2")],)),
        TaskDef("next", give, args=(Output("join"),)),
    ]
    execution = run(flow(*tasks), workers=1, raise_on_failure=False, failure_policy="continue")
    skipped = [event for event in execution.events() if event.type == "TASK_SKIPPED"]
    assert [(event.task_id, event.data["cause"]) for event in skipped] == [("join", "bad1"), ("next", "bad1")]


# ---- run_when --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["fail_fast", "continue"])
def test_cleanup_runs_after_failures(policy):
    """all_finished runs once after its dependencies ended in any way; the execution is FAILED all the same."""
    called = []
    tasks = [
        noted(called, "good"),
        TaskDef("bad", boom, dependencies=["good"]),
        noted(called, "after", dependencies=["bad"]),
        noted(called, "cleanup", dependencies=["after", "good"], run_when="all_finished"),
        noted(called, "behind", dependencies=["cleanup"]),
    ]
    execution = run(flow(*tasks), raise_on_failure=False, failure_policy=policy)
    assert called == (["good", "cleanup"] if policy == "fail_fast" else ["good", "cleanup", "behind"])
    assert execution.status.name == "FAILED"


def test_cleanup_runs_after_success_too_and_after_all_of_them():
    """It waits for every dependency."""
    slow, called = Hold(), []
    watch = TaskDef("watch", lambda: (slow.entered(), called.append("watch"), slow.go()))
    cleanup = noted(called, "cleanup", dependencies=["slow", "watch"], run_when="all_finished")
    run(flow(TaskDef("slow", slow), watch, cleanup), workers=3)
    assert called == ["watch", "cleanup"]


def test_cleanup_runs_after_a_cancel_with_a_context_that_is_not_cancelled():
    """Whatever its dependencies came to; those that hadn't started count as finished."""
    slow, seen = Hold(deaf=False), []
    tasks = [
        TaskDef("slow", slow),
        TaskDef("never", give, args=(1,), dependencies=["slow"]),
        TaskDef("cleanup", lambda ctx: seen.append(ctx.cancelled), dependencies=["never"], run_when="all_finished"),
    ]
    execution = nerv.start(flow(*tasks))
    slow.entered()
    execution.cancel()
    assert statuses(ended(execution)) == {"slow": "CANCELLED", "never": "CANCELLED", "cleanup": "COMPLETED"}
    assert seen == [False]


def test_a_cleanup_that_is_running_is_not_told_to_stop():
    """Neither by a failure elsewhere nor by a cancel."""
    cleaning = Hold()
    seen = []

    def cleanup(ctx):
        cleaning(ctx)
        seen.append(ctx.cancelled)

    tasks = TaskDef("bad", boom), TaskDef("cleanup", cleanup, dependencies=["bad"], run_when="all_finished")
    execution = nerv.start(flow(*tasks), grace=0.0)
    cleaning.entered()
    execution.cancel()
    cleaning.go()
    assert statuses(ended(execution)) == {"bad": "FAILED", "cleanup": "COMPLETED"}
    assert seen == [False]


def test_any_completed_starts_at_the_first_and_runs_once():
    """It starts while the other still runs, which goes on; its own second start never comes."""
    slow, called = Hold(), []

    def winner(ctx):
        called.append(sorted(ctx.results))
        slow.go()

    tasks = [
        TaskDef("slow", slow),
        TaskDef("quick", slow.entered),
        TaskDef("any", winner, dependencies=["slow", "quick"], run_when="any_completed"),
    ]
    execution = run(flow(*tasks), workers=3)
    assert called == [["quick"]]
    assert statuses(execution)["slow"] == "COMPLETED"


def test_any_completed_survives_all_failures_but_the_last():
    """With one dependency completed it runs; with none it is SKIPPED, because of the last one."""

    def outcome(*ends):
        deps = [TaskDef(str(n), give if good else boom, args=(1,)) for n, good in enumerate(ends)]
        last = TaskDef("any", lambda: "ran", dependencies=[str(n) for n in range(len(ends))], run_when="any_completed")
        return run(flow(*deps, last), workers=1, raise_on_failure=False, failure_policy="continue").task("any")

    assert outcome(False, False, True).result == "ran"
    assert outcome(True, False, False).result == "ran"
    skipped = outcome(False, False, False)
    assert (skipped.status.name, skipped.skipped_because) == ("SKIPPED", "2")


def test_any_completed_of_skipped_dependencies_is_skipped():
    """All skipped means skipped."""
    tasks = [
        TaskDef("bad", boom),
        TaskDef("x", give, args=(Output("bad"),)),
        TaskDef("y", give, args=(Output("bad"),)),
        TaskDef("any", lambda: 1, dependencies=["x", "y"], run_when="any_completed"),
    ]
    execution = run(flow(*tasks), raise_on_failure=False, failure_policy="continue")
    assert execution.task("any").status.name == "SKIPPED"
    assert execution.task("any").skipped_because == "bad"


@pytest.mark.parametrize("rule", ["all_completed", "all_finished", "any_completed"])
def test_every_rule_runs_a_task_without_dependencies(rule):
    """There is nothing to wait for."""
    assert run(flow(TaskDef("a", lambda: 1, run_when=rule)))["a"] == 1


# ---- what run takes --------------------------------------------------------------------------------------------------


def test_run_returns_the_execution():
    """With all results, COMPLETED."""
    execution = run(flow(TaskDef("a", lambda: 1), TaskDef("b", give, args=(Output("a"),)), name="etl"), {"p": 1})
    assert (execution.status.name, execution.workflow_name, dict(execution.params)) == ("COMPLETED", "etl", {"p": 1})
    assert dict(execution.results) == {"a": 1, "b": 1}


def test_run_raises_unless_it_is_told_not_to():
    """raise_on_failure=False returns the same execution however it ended."""
    with pytest.raises(WorkflowFailedError):
        run(flow(TaskDef("a", boom)))
    assert run(flow(TaskDef("a", boom)), raise_on_failure=False).status.name == "FAILED"


def test_targets_run_what_they_need_and_nothing_else():
    """The rest is never called, and no part of the execution."""
    called = []
    tasks = noted(called, "a"), noted(called, "b", dependencies=["a"]), noted(called, "c", dependencies=["b"])
    execution = run(flow(*tasks), targets=["b"])
    assert called == ["a", "b"]
    assert list(execution.workflow.tasks) == ["a", "b"]
    assert execution["b"] is None


def test_on_event_hears_every_event_of_its_execution_in_order():
    """From WORKFLOW_STARTED to the end, and nothing of another execution on the same manager."""
    heard, other = [], []
    workflow = flow(TaskDef("a", lambda: 1), TaskDef("b", boom, dependencies=["a"]))
    with WorkflowManager() as manager:
        first = manager.start(workflow, on_event=heard.append)
        second = manager.start(workflow, on_event=other.append)
        ended(first)
        ended(second)
    assert [event.seq for event in heard] == [1, 2, 3, 4, 5, 6]
    assert {event.execution_id for event in heard} == {first.id}
    assert [str(event.type) for event in heard] == kinds(first)
    assert {event.execution_id for event in other} == {second.id}


def test_an_execution_id_is_joined_while_it_is_known():
    """The same id, workflow name and params give the same execution; nothing runs twice."""
    called = []
    workflow = flow(noted(called, "a"), name="nightly")
    with WorkflowManager() as manager:
        first = manager.start(workflow, {"p": 1}, execution_id="n-7")
        assert manager.start(workflow, {"p": 1}, execution_id="n-7") is first
        ended(first)
        assert manager.start(workflow, {"p": 1}, execution_id="n-7") is first
        with pytest.raises(NervError, match="'n-7' is of workflow 'nightly', not 'other'"):
            manager.start(flow(noted(called, "a"), name="other"), {"p": 1}, execution_id="n-7")
        with pytest.raises(NervError, match="'n-7' was started with other params"):
            manager.start(workflow, {"p": 2}, execution_id="n-7")
    assert called == ["a"]
    assert run(workflow, execution_id="own-id").id == "own-id"


def test_two_starts_of_one_id_at_the_same_time_are_one_execution():
    """Sixteen threads start it; it runs once."""
    called, barrier, got = [], threading.Barrier(16), []
    workflow = flow(noted(called, "a"))
    with WorkflowManager() as manager:

        def start():
            barrier.wait(PATIENCE)
            got.append(manager.start(workflow, execution_id="x"))

        threads = [threading.Thread(target=start) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(ended(one) is got[0] for one in got)
    assert called == ["a"]


def test_the_default_pool_is_for_tasks_that_name_none():
    """Coroutine functions go to "async" unless it is one for them; a task's own pool counts more."""
    where = []

    def name():
        where.append(threading.current_thread().name)

    pools = {"mine": {"kind": "thread", "workers": 1}}
    tasks = TaskDef("a", name), TaskDef("b", name, pool="thread"), TaskDef("c", coroutine)
    assert run(flow(*tasks), pools=pools, default_pool="mine", workers=1)["c"] == "done"
    assert sorted(thread.rsplit("-", 1)[0] for thread in where) == ["nerv-mine", "nerv-thread"]
    assert run(flow(*tasks), default_pool="inline")["c"] == "done"
    assert threading.current_thread().name in where


# ---- what is refused, before anything runs ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"worker": 2}, ConfigError, "did you mean 'workers'"),
        ({"workers": 0}, ConfigError, "workers"),
        ({"failure_policy": "continu"}, ConfigError, "continue"),
        ({"targets": ["aa"]}, KeyError, "did you mean 'a'"),
        ({"targets": "a"}, TypeError, r"write targets=\['a'\]"),
        ({"params": 5}, TypeError, "params takes a mapping"),
        ({"params": [("a", 1)]}, TypeError, "params takes a mapping"),
        ({"on_event": 5}, TypeError, "5 can't be called"),
        ({"execution_id": 5}, TypeError, "execution_id takes a str"),
        ({"execution_id": ""}, TypeError, "execution_id takes a str"),
        ({"params": {1: 2}}, WorkflowDefinitionError, "a param's name is a str, not 1"),
    ],
    ids=str,
)
@pytest.mark.parametrize("entry", [run, nerv.start, lambda *a, **k: asyncio.run(nerv.arun(*a, **k))])
def test_wrong_arguments_are_refused(entry, options, error, words):
    """By name, with the remedy, from run, start and arun alike; nothing is called, and nothing is left behind."""
    called = []
    with pytest.raises(error, match=words):
        entry(flow(noted(called, "a")), **options)
    assert called == []


def test_a_refused_start_leaves_no_trace_in_its_manager():
    """No execution, no subscription that hears others."""
    called = []
    with WorkflowManager() as manager:
        for options in ({"on_event": 5}, {"targets": ["x"]}, {"execution_id": 5}, {"params": 5}):
            with pytest.raises((TypeError, KeyError)):
                manager.start(flow(noted(called, "a")), **options)
        assert manager.executions() == []
        assert ended(manager.start(flow(noted(called, "a")))).status.name == "COMPLETED"


@pytest.mark.parametrize("wrong", [None, 5, "wf", [TaskDef("a", give)], TaskDef("a", give)], ids=repr)
def test_only_a_workflow_can_be_run(wrong):
    """The error shows what was given and what to write."""
    with pytest.raises(TypeError, match="is no Workflow; write"):
        run(wrong)


def test_tasks_that_can_not_run_in_their_pools_are_one_error():
    """Unknown pools with near misses, coroutine and plain functions in the wrong place: all listed, nothing called."""
    called = []
    tasks = [
        noted(called, "fine"),
        noted(called, "typo", pool="thred"),
        noted(called, "own", pool="mine"),
        TaskDef("co1", coroutine, pool="thread"),
        TaskDef("co2", coroutine, pool="inline"),
        noted(called, "plain", pool="async"),
    ]
    with pytest.raises(WorkflowDefinitionError) as caught:
        run(flow(*tasks), pools={"minx": {"kind": "thread"}})
    assert {problem.task_id for problem in caught.value.problems} == {"typo", "own", "co1", "co2", "plain"}
    assert "'thred', which isn't there (did you mean 'thread'?)" in str(caught.value)
    assert "did you mean 'minx'" in str(caught.value)
    assert "'co1' is a coroutine function" in str(caught.value)
    assert "'plain' is a plain function" in str(caught.value)
    assert called == []


# ---- running inside running ------------------------------------------------------------------------------------------


def test_run_works_inside_a_running_event_loop():
    """As in Jupyter: thread, inline and coroutine tasks, while the loop stands still."""

    async def main():
        tasks = TaskDef("a", lambda: 1), TaskDef("b", coroutine), TaskDef("c", give, args=(Output("b"),), pool="inline")
        return run(flow(*tasks))["c"]

    assert asyncio.run(main()) == "done"


def test_a_task_may_run_a_workflow_of_its_own():
    """Each run has an engine of its own: nested four deep, with one worker each, it ends."""

    def deep(n):
        return n if n == 0 else run(flow(TaskDef("x", deep, args=(n - 1,))), workers=1)["x"]

    assert deep(4) == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_task_may_wait_for_an_execution_on_its_own_engine(workers):
    """A worker that waits lends its slot: four deep on one manager ends, and no more than its workers ever compute."""
    gauge = Gauge()
    with WorkflowManager(workers=workers) as manager:

        def deep(n):
            with gauge:
                pass
            if n == 0:
                return 0
            inner = manager.start(flow(TaskDef("x", deep, args=(n - 1,)), TaskDef("y", deep, args=(0,))))
            assert inner.wait(PATIENCE)
            with gauge:
                return inner["x"] + 1

        execution = ended(manager.start(flow(*(TaskDef(str(n), deep, args=(3,)) for n in range(3)))))
        assert execution.result == dict.fromkeys("012", 3)
    assert gauge.most <= workers


def test_tasks_that_wait_for_each_others_executions_do_not_lock_each_other_out():
    """One worker: the first waits for what the second lets go, then the second lends its slot to the first."""
    inside, started = Hold(), []
    with WorkflowManager(workers=1, pools={"side": {"kind": "thread", "workers": 1}}) as manager:

        def first():
            inner = manager.start(flow(TaskDef("i", inside, pool="side")))
            started.append(manager.start(flow(TaskDef("s", second))))
            return inner.wait(PATIENCE)

        def second():
            inside.go()
            eventually(lambda: manager.engine._loans.wanted, "the first task to want its slot back")
            return outer.wait(PATIENCE)

        outer = manager.start(flow(TaskDef("f", first)))
        assert ended(outer)["f"] is True
        assert ended(started[0])["s"] is True


def test_following_another_execution_lends_the_slot_too():
    """With one worker, a task that reads another's events as they come gets the last one."""
    with WorkflowManager(workers=1) as manager:

        def outer():
            inner = manager.start(flow(TaskDef("i", lambda: 1)))
            return [str(event.type) for event in inner.events(follow=True)]

        assert ended(manager.start(flow(TaskDef("o", outer))))["o"][-1] == "WORKFLOW_COMPLETED"


def test_two_engines_in_one_process_share_nothing():
    """One with a hung task, a blocked handler and a failure; the other doesn't notice."""
    hung, handling, release, heard = Hold(), threading.Event(), threading.Event(), []
    one, two = WorkflowManager(workers=1, grace=0.1), WorkflowManager(workers=1)

    def block(_):
        handling.set()
        release.wait(PATIENCE)

    stuck = one.start(flow(TaskDef("a", hung)), on_event=block)
    hung.entered()
    reached(handling)
    two.event_bus.subscribe(ANY, lambda event: heard.append(event.execution_id), weak=False)
    other = ended(two.start(flow(TaskDef("a", lambda: 1), TaskDef("b", give, args=(Output("a"),)))))
    two.close()
    assert set(heard) == {other.id}
    assert [execution.id for execution in one.executions()] == [stuck.id]
    assert list(two.state_projector.get_state()["executions"]) == [other.id]
    assert stuck.status.name == "RUNNING"
    release.set()
    hung.go()
    ended(stuck)
    one.close()


# ---- handlers can't hurt a run ---------------------------------------------------------------------------------------


def test_handlers_that_raise_block_or_leave_hurt_nobody():
    """Sixteen threads, one handler that raises, one that unsubscribes itself, one that is slow: all others hear all."""
    barrier = threading.Barrier(16)
    heard, once, slow_heard, slow = [], [], [], threading.Event()

    def raising(_):
        raise RuntimeError("a handler's own trouble")

    def leaving(event):
        once.append(event.seq)
        subscription.cancel()

    def dawdling(event):
        slow.wait(0.0001)
        slow_heard.append(event.seq)

    with WorkflowManager(workers=16) as manager:
        bus = manager.event_bus
        bus.subscribe(ANY, raising)
        subscription = bus.subscribe(ANY, leaving)
        bus.subscribe("TASK_COMPLETED", dawdling)
        bus.subscribe(ANY, lambda event: heard.append(event.seq) if event.seq else None)
        tasks = [TaskDef(str(n), lambda: barrier.wait(PATIENCE)) for n in range(64)]
        execution = ended(manager.start(flow(*tasks, TaskDef("end", lambda: 1, dependencies=tasks))))
    assert execution.status.name == "COMPLETED"
    assert heard == list(range(1, 2 * 65 + 3))
    assert once == [1]
    assert len(slow_heard) == 65


def test_run_returns_when_handlers_have_heard_everything():
    """Slow ones are waited for, also when a task waits."""
    heard, pause = [], threading.Event()

    def slow(event):
        pause.wait(0.01)
        heard.append(event.seq)

    run(flow(TaskDef("a", lambda: 1)), on_event=slow)
    assert heard == [1, 2, 3, 4]

    def nested():
        heard.clear()
        run(flow(TaskDef("a", lambda: 1)), on_event=slow)
        return list(heard)

    assert run(flow(TaskDef("o", nested)))["o"] == [1, 2, 3, 4]
    with WorkflowManager() as manager:

        def waiting():
            heard.clear()
            manager.start(flow(TaskDef("a", lambda: 1)), on_event=slow).wait()
            return list(heard)

        assert ended(manager.start(flow(TaskDef("o", waiting))))["o"] == [1, 2, 3, 4]


def test_a_handler_that_hangs_is_waited_for_no_longer_than_grace():
    """One warning names it; the run has its result."""
    release = threading.Event()

    def hanging(_):
        release.wait(PATIENCE)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        execution = run(flow(TaskDef("a", lambda: 1)), on_event=hanging, grace=0.05)
    release.set()
    assert execution["a"] == 1
    named = [str(warning.message) for warning in caught]
    assert len(named) == 1
    assert "hanging" in named[0]


def test_a_handler_may_wait_for_an_execution():
    """Even for the one that it hears of: it isn't waited for itself."""
    waited = []
    with WorkflowManager() as manager:

        def handler(event):
            waited.append(manager.execution(event.execution_id).wait(PATIENCE))

        manager.event_bus.subscribe("WORKFLOW_STARTED", handler)
        ended(manager.start(flow(TaskDef("a", lambda: 1))))
    assert waited == [True]


def test_a_handler_may_cancel_what_it_hears_of():
    """From the delivery thread, while the task runs."""
    slow = Hold(deaf=False)
    with WorkflowManager() as manager:
        manager.event_bus.subscribe("TASK_STARTED", lambda event: manager.execution(event.execution_id).cancel("seen"))
        execution = ended(manager.start(flow(TaskDef("a", slow), TaskDef("b", give, args=(Output("a"),)))))
    assert execution.status.name == "CANCELLED"
    assert list(execution.events())[-1].data["reason"] == "seen"


def test_a_task_error_of_its_own_is_no_cancel():
    """TaskCancelledError that somebody's library raised fails the run, unless it was told to stop."""

    def work():
        raise TaskCancelledError("own")

    with pytest.raises(WorkflowFailedError):
        run(flow(TaskDef("a", work)))


def gone():
    return weakref.proxy(threading.Event())


@pytest.mark.parametrize("pool", ["thread", "inline"])
def test_a_result_that_cannot_say_what_it_is_is_a_result(pool):
    """A proxy whose object is gone raises whatever is asked of it, its class too; nobody waits for ever for that."""

    tasks = [nerv.TaskDef("a", gone, pool=pool), nerv.TaskDef("b", int, dependencies=["a"], pool=pool)]
    with nerv.WorkflowManager(workers=1) as manager:
        execution = manager.start(nerv.Workflow("w", tasks))
        assert execution.wait(30)
        assert execution.status is nerv.WorkflowStatus.COMPLETED
        assert execution["b"] == 0


@pytest.mark.parametrize(
    "make", [odd, lambda: [Odd(), 1], lambda: {"k": Odd()}, gone], ids=["bare", "list", "dict", "gone"]
)
def test_a_result_that_cannot_be_looked_at_can_be_cached_but_not_journaled(make):
    """In memory it is reused; with a journal its task fails, and what doesn't need it goes on."""
    cached = run(flow(TaskDef("a", make, cache=nerv.Cache()), TaskDef("b", int, dependencies=["a"])))
    assert statuses(cached) == {"a": "COMPLETED", "b": "COMPLETED"}
    settings = {"journal": nerv.MemoryJournal(), "failure_policy": "continue", "raise_on_failure": False}
    kept = run(flow(TaskDef("a", make), TaskDef("b", int)), **settings)
    assert statuses(kept) == {"a": "FAILED", "b": "COMPLETED"}
    assert type(kept.failures["a"]) is nerv.SerializationError
    assert "'a'" in str(kept.failures["a"])
