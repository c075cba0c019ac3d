"""Inline tasks run in the thread that waits for the execution, one at a time: the debugger's best friend."""

import asyncio
import inspect
import threading

import pytest

import nerv
from nerv import Output, TaskDef, WorkflowManager, run
from tests.handshake import PATIENCE, Gauge, Hold, boom, ended, eventually, flow, give, statuses


def here(task_id, **fields):
    """An inline task that says which thread it runs on."""
    return TaskDef(task_id, threading.current_thread, pool="inline", **fields)


def test_inline_tasks_run_in_the_thread_that_called_run():
    """All of them, among tasks of other pools, which don't."""
    tasks = here("a"), TaskDef("b", threading.current_thread, dependencies=["a"]), here("c", dependencies=["b"])
    execution = run(flow(*tasks))
    assert execution["a"] is execution["c"] is threading.current_thread()
    assert execution["b"] is not threading.current_thread()


def test_the_callers_frames_are_below_an_inline_task():
    """So that a debugger or a traceback shows who called run."""

    def stack():
        return [frame.function for frame in inspect.stack()]

    assert "test_the_callers_frames_are_below_an_inline_task" in run(flow(TaskDef("a", stack, pool="inline")))["a"]


def test_inline_tasks_run_one_at_a_time_by_rank():
    """Whatever the number of workers."""
    gauge, order = Gauge(), []

    def work(name):
        with gauge:
            order.append(name)

    priorities = {"a": 0, "b": 1, "c": 3, "d": 1}
    tasks = [TaskDef(n, work, args=(n,), pool="inline", priority=p) for n, p in priorities.items()]
    run(flow(*tasks), workers=8)
    assert order == ["c", "b", "d", "a"]
    assert gauge.most == 1


def test_inline_failures_spread_like_any_other():
    """fail_fast, skip, cleanup."""
    tasks = [
        TaskDef("bad", boom, pool="inline", priority=9),
        here("after", dependencies=["bad"]),
        here("free"),
        here("cleanup", dependencies=["after"], run_when="all_finished"),
    ]
    execution = run(flow(*tasks), raise_on_failure=False)
    expected = {"bad": "FAILED", "after": "SKIPPED", "free": "CANCELLED", "cleanup": "COMPLETED"}
    assert statuses(execution) == expected


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_inline_task_that_raises_to_end_the_program_fails(error):
    """Like in every other pool; the caller goes on."""

    def work():
        raise error("from the task")

    execution = run(flow(TaskDef("a", work, pool="inline")), raise_on_failure=False)
    assert isinstance(execution.failures["a"], error)


def test_a_deep_inline_chain_needs_no_deep_stack():
    """Five thousand tasks, one after the other."""
    chain = [here(f"t{n}", dependencies=[f"t{n - 1}"] if n else []) for n in range(5000)]
    assert len(run(flow(*chain)).results) == 5000


def test_a_started_execution_runs_its_inline_tasks_when_somebody_waits():
    """Not before; on that thread."""
    called = []
    with WorkflowManager() as manager:
        execution = manager.start(flow(TaskDef("a", lambda: called.append(threading.current_thread()), pool="inline")))
        assert called == []
        waiter = threading.Thread(target=execution.wait, args=(PATIENCE,))
        waiter.start()
        waiter.join()
    assert called == [waiter]


def test_wait_serves_until_its_time_is_up():
    """And again; also when nothing inline is ready."""
    hold = Hold()
    with WorkflowManager(workers=2) as manager:
        ticks = [here(f"i{n}", dependencies=[f"t{n}"]) for n in range(3)]
        threads = [TaskDef(f"t{n}", lambda: 1) for n in range(3)]
        execution = manager.start(flow(TaskDef("hold", hold), *threads, *ticks))
        eventually(lambda: execution.wait(0.001) or len(execution.results) == 6)
        assert execution.wait(0) is False
        hold.go()
        assert execution.wait() is True


def test_a_second_waiter_takes_over_when_the_first_leaves():
    """The first one's time is up, the second runs what becomes ready."""
    hold, told = Hold(), []
    with WorkflowManager() as manager:
        execution = manager.start(flow(TaskDef("hold", hold), here("a", dependencies=["hold"])))
        hold.entered()
        first = threading.Thread(target=lambda: told.append(execution.wait(0.05)))
        first.start()
        eventually(execution._live.inline._serving.locked)
        second = threading.Thread(target=lambda: told.append(execution.wait(PATIENCE)))
        second.start()
        first.join()
        hold.go()
        second.join()
        assert told == [False, True]
        assert execution["a"] is second


def test_many_waiters_are_all_told():
    """Whichever of them ran the inline tasks."""
    hold, told = Hold(), []
    with WorkflowManager() as manager:
        execution = manager.start(flow(TaskDef("hold", hold), here("a", dependencies=["hold"])))
        waiters = [threading.Thread(target=lambda: told.append(execution.wait(PATIENCE))) for _ in range(8)]
        for waiter in waiters:
            waiter.start()
        hold.go()
        for waiter in waiters:
            waiter.join()
        assert told == [True] * 8
        assert execution["a"] in waiters


def test_a_loop_and_a_thread_may_wait_for_the_same_execution():
    """Whoever runs the inline tasks, both are told."""
    hold, told = Hold(), []
    with WorkflowManager() as manager:
        execution = manager.start(flow(TaskDef("hold", hold), here("a", dependencies=["hold"])))

        async def main():
            waiting = asyncio.create_task(execution.wait_async())
            await asyncio.sleep(0)
            thread = threading.Thread(target=lambda: told.append(execution.wait()), daemon=True)
            thread.start()
            await asyncio.to_thread(hold.entered)
            hold.go()
            await asyncio.wait_for(waiting, PATIENCE)
            await asyncio.to_thread(thread.join, PATIENCE)

        asyncio.run(main())
        assert told == [True]


def test_under_arun_inline_tasks_run_in_the_loops_thread():
    """Between the loop's other work."""

    async def main():
        execution = await nerv.arun(flow(TaskDef("t", lambda: 1), here("a", dependencies=["t"]), here("b")))
        assert execution["a"] is execution["b"] is threading.current_thread()

    asyncio.run(main())


@pytest.mark.parametrize("pool", ["inline", "thread"])
def test_an_inline_task_may_run_inline_workflows(pool):
    """Nested four deep, each in the thread of its own caller."""

    def deep(n):
        return n if n == 0 else run(flow(TaskDef("x", deep, args=(n - 1,), pool="inline")))["x"]

    assert run(flow(TaskDef("a", deep, args=(4,), pool=pool)))["a"] == 0


def test_an_inline_task_may_wait_for_executions_of_its_own_manager():
    """With one worker, with inline tasks and thread tasks in them."""
    with WorkflowManager(workers=1) as manager:

        def outer():
            inner = manager.start(flow(here("i"), TaskDef("t", lambda: 1, dependencies=["i"])))
            assert inner.wait(PATIENCE)
            return inner["i"]

        execution = manager.start(flow(TaskDef("a", outer, pool="inline"), TaskDef("b", outer, dependencies=["a"])))
        assert ended(execution)["a"] is threading.current_thread()
        assert execution["b"].name.startswith("nerv-thread")


def test_a_manager_closes_though_nobody_serves_its_inline_tasks():
    """They are CANCELLED, uncalled."""
    called = []
    with WorkflowManager(grace=0.01) as manager:
        execution = manager.start(flow(TaskDef("a", lambda: called.append(1), pool="inline")))
    assert execution.status.name == "CANCELLED"
    assert called == []


def test_an_inline_task_is_told_to_stop_and_awaited():
    """From another thread; the caller's own thread can't be left behind."""
    good = Hold(deaf=False)
    with WorkflowManager(grace=PATIENCE) as manager:
        execution = manager.start(flow(TaskDef("a", good, pool="inline"), TaskDef("b", give, args=(Output("a"),))))
        canceller = threading.Thread(target=lambda: good.entered() and execution.cancel())
        canceller.start()
        assert statuses(ended(execution)) == {"a": "CANCELLED", "b": "CANCELLED"}
        canceller.join()


def test_results_arguments_and_errors_are_the_same_objects():
    """Inline is like every other pool."""
    mine, error = object(), ValueError("mine")

    def fail():
        raise error

    tasks = TaskDef("a", give, args=(mine,), pool="inline"), TaskDef("b", give, args=([Output("a")],), pool="inline")
    execution = run(flow(*tasks, TaskDef("c", fail, pool="inline", dependencies=["b"])), raise_on_failure=False)
    assert execution["b"][0] is mine
    assert execution.failures["c"] is error


def test_whoever_serves_inline_tasks_hears_of_the_end_when_it_is_in_the_journal(tmp_path):
    inline = [TaskDef("a", int, pool="inline"), TaskDef("b", int, pool="inline", dependencies=["a"])]
    with WorkflowManager(journal=tmp_path / "runs.db") as manager:
        ended = [manager.start(flow(*inline)).wait(PATIENCE) for _ in range(20)]
    assert all(ended)
