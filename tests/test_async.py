"""Coroutines: tasks on an event loop, arun in the caller's own loop, and waiting without blocking one."""

import asyncio
import contextlib
import threading

import pytest

import nerv
from nerv import Output, TaskDef, WorkflowCancelledError, WorkflowFailedError, WorkflowManager, arun, run
from tests.handshake import PATIENCE, Gauge, Hold, boom, ended, flow, give, kinds, reached, statuses


async def where():
    await asyncio.sleep(0)
    return asyncio.get_running_loop()


async def plus_one(x):
    await asyncio.sleep(0)
    return x + 1


class Callable:
    async def __call__(self, x):
        return x + 10

    async def method(self, x):
        return x + 100


async def soon(awaitable):
    """Await it, but not for ever."""
    return await asyncio.wait_for(awaitable, PATIENCE)


# ---- coroutine tasks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pool", [None, "async"])
def test_coroutine_functions_run_on_an_event_loop(pool):
    """Functions, callable objects and methods; all on one loop, on one thread."""
    tasks = [
        TaskDef("a", where, pool=pool),
        TaskDef("b", where, pool=pool),
        TaskDef("c", plus_one, args=(1,), pool=pool),
        TaskDef("d", Callable(), args=(Output("c"),), pool=pool),
        TaskDef("e", Callable().method, args=(Output("d"),), pool=pool),
    ]
    execution = run(flow(*tasks))
    assert execution["a"] is execution["b"]
    assert [execution[task] for task in "cde"] == [2, 12, 112]


def test_a_blocking_thread_task_does_not_stop_the_coroutines():
    """With one worker that is blocked until a coroutine says so."""
    hold = Hold(1)

    async def release():
        hold.go()

    assert run(flow(TaskDef("a", hold), TaskDef("b", release)), workers=1)["a"] == 1


def test_no_more_than_max_coroutines_run_at_once():
    """And that many do."""
    gauge = Gauge()

    async def work():
        with gauge:
            for _ in range(20):
                await asyncio.sleep(0)

    run(flow(*(TaskDef(str(n), work) for n in range(40))), max_coroutines=5)
    assert (gauge.most, gauge.total) == (5, 40)


def test_a_configured_async_pool_has_its_own_limit():
    """By name; its workers are coroutines at once."""
    gauge = Gauge()

    async def work():
        with gauge:
            for _ in range(20):
                await asyncio.sleep(0)

    tasks = [TaskDef(str(n), work, pool="net") for n in range(12)]
    run(flow(*tasks), pools={"net": {"kind": "async", "workers": 3}})
    assert gauge.most == 3


def test_coroutines_of_many_executions_share_one_loop(monkeypatch):
    """Workers that make the first coroutines ready at the same moment start one loop thread between them."""
    made, new_event_loop, barrier = [], asyncio.new_event_loop, threading.Barrier(8)

    def slowly():
        made.append(1)
        threading.Event().wait(0.01)  # so that others come meanwhile
        return new_event_loop()

    monkeypatch.setattr(asyncio, "new_event_loop", slowly)
    workflow = flow(TaskDef("t", lambda: barrier.wait(PATIENCE)), TaskDef("c", where, dependencies=["t"]))
    with WorkflowManager(workers=8) as manager:
        executions = [manager.start(workflow) for _ in range(8)]
        loops = {ended(execution)["c"] for execution in executions}
    assert len(loops) == len(made) == 1


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit])
def test_whatever_a_coroutine_raises_is_its_failure(error):
    """The loop lives on."""

    async def work():
        await asyncio.sleep(0)
        raise error("from the task")

    with WorkflowManager() as manager:
        execution = ended(manager.start(flow(TaskDef("a", work))))
        assert isinstance(execution.failures["a"], error)
        assert ended(manager.start(flow(TaskDef("a", plus_one, args=(1,)))))["a"] == 2


def test_a_coroutine_that_cancels_itself_fails():
    """Nobody told it to stop."""

    async def work():
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    assert statuses(run(flow(TaskDef("a", work)), raise_on_failure=False)) == {"a": "FAILED"}


def test_a_plain_function_that_returns_an_awaitable_is_not_awaited():
    """Results are opaque: what it returned is the result."""
    made = []

    def work():
        made.append(plus_one(1))
        return made[0]

    assert run(flow(TaskDef("a", work)))["a"] is made[0]
    made[0].close()


# ---- arun ------------------------------------------------------------------------------------------------------------


def test_arun_is_run_in_the_callers_loop():
    """Coroutine tasks see the caller's loop, in the built-in pool and in configured ones; plain ones run in threads."""

    async def main():
        tasks = [
            TaskDef("a", where),
            TaskDef("b", where, pool="net"),
            TaskDef("c", threading.current_thread),
            TaskDef("d", give, args=(Output("a"),)),
        ]
        execution = await soon(arun(flow(*tasks), {"p": 1}, pools={"net": {"kind": "async"}}))
        assert execution["a"] is execution["b"] is execution["d"] is asyncio.get_running_loop()
        assert execution["c"] is not threading.main_thread()
        return execution

    assert asyncio.run(main()).status.name == "COMPLETED"


def test_arun_does_not_block_the_loop():
    """While it waits for a thread task, the loop goes on and releases it."""

    async def main():
        hold = Hold(1)
        running = asyncio.create_task(arun(flow(TaskDef("a", hold))))
        await asyncio.to_thread(hold.entered)
        asyncio.get_running_loop().call_soon(hold.go)
        return (await soon(running))["a"]

    assert asyncio.run(main()) == 1


def test_arun_raises_like_run():
    """The failure, with its cause; not if told so."""

    async def main():
        with pytest.raises(WorkflowFailedError, match="'a' failed with ValueError: boom") as caught:
            await arun(flow(TaskDef("a", boom)))
        assert isinstance(caught.value.__cause__, ValueError)
        return (await arun(flow(TaskDef("a", boom)), raise_on_failure=False)).status.name

    assert asyncio.run(main()) == "FAILED"


def test_aruns_may_run_together_and_nested():
    """Twenty at once, each with a nested one in a coroutine task."""

    async def nested(n):
        return (await arun(flow(TaskDef("x", plus_one, args=(n,)))))["x"]

    async def main():
        runs = [arun(flow(TaskDef("a", nested, args=(n,)))) for n in range(20)]
        return [execution["a"] for execution in await soon(asyncio.gather(*runs))]

    assert asyncio.run(main()) == list(range(1, 21))


def test_cancelling_arun_cancels_the_execution_and_waits():
    """What runs is told and awaited, what hasn't started never does; then CancelledError comes out."""
    good, log, called = Hold(deaf=False), [], []

    async def forever():
        try:
            await asyncio.Event().wait()
        finally:
            log.append("coroutine ended")

    async def main():
        tasks = [
            TaskDef("thread", good),
            TaskDef("co", forever),
            TaskDef("never", lambda: called.append(1), dependencies=["thread"]),
            TaskDef("cleanup", lambda: log.append("cleanup"), dependencies=["co"], run_when="all_finished"),
        ]
        events = []
        running = asyncio.create_task(arun(flow(*tasks), on_event=events.append, grace=0.05))
        await asyncio.to_thread(good.entered)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return [event.type.value for event in events]

    heard = asyncio.run(main())
    assert heard[-1] == "WORKFLOW_CANCELLED"
    assert sorted(log) == ["cleanup", "coroutine ended"]
    assert called == []


def test_a_timeout_round_arun_leaves_nothing_running():
    """asyncio.timeout cancels it like anybody else."""
    good = Hold(deaf=False)

    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await arun(flow(TaskDef("a", good)), grace=1)

    asyncio.run(main())


def test_arun_waits_for_handlers():
    """When it returns, plain handlers were given every event."""
    heard = []

    def slow(event):
        threading.Event().wait(0.01)
        heard.append(event.seq)

    asyncio.run(arun(flow(TaskDef("a", plus_one, args=(1,))), on_event=slow))
    assert heard == [1, 2, 3, 4]


# ---- wait_async ------------------------------------------------------------------------------------------------------


def test_an_execution_can_be_awaited_from_many_coroutines():
    """The loop is free meanwhile; it doesn't raise on failure."""
    hold = Hold()

    async def main():
        execution = nerv.start(flow(TaskDef("a", hold), TaskDef("b", boom, dependencies=["a"])))
        waiting = [asyncio.create_task(execution.wait_async()) for _ in range(5)]
        await asyncio.to_thread(hold.entered)
        assert not any(task.done() for task in waiting)
        hold.go()
        await soon(asyncio.gather(*waiting))
        await soon(execution.wait_async())
        return execution.status.name

    assert asyncio.run(main()) == "FAILED"


def test_a_loop_that_stopped_waiting_may_be_closed():
    """The execution goes on to its end, and nobody trips over the closed loop."""
    hold = Hold(1)
    execution = nerv.start(flow(TaskDef("a", hold), TaskDef("b", lambda: 2, pool="inline", dependencies=["a"])))

    async def main():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(execution.wait_async(), 0.01)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                async for _ in execution.events(follow=True):
                    pass

    asyncio.run(main())
    hold.go()
    assert ended(execution)["b"] == 2


@pytest.mark.parametrize("how", ["directly", "in a task of its own", "several at once", "by its events"])
def test_a_coroutine_that_waits_for_an_execution_lends_its_place(how):
    """With room for one coroutine, nested three deep on one manager, it ends; no more than one ever computes."""
    gauge = Gauge()

    async def wait(executions):
        if how == "directly":
            for execution in executions:
                await execution.wait_async()
        elif how == "in a task of its own":
            for execution in executions:
                await asyncio.wait_for(execution.wait_async(), PATIENCE)
        elif how == "several at once":
            await asyncio.gather(*(execution.wait_async() for execution in executions))
        else:
            for execution in executions:
                _ = [event async for event in execution.events(follow=True)]

    with WorkflowManager(max_coroutines=1) as manager:

        async def deep(n):
            with gauge:
                pass
            if n:
                inner = [manager.start(flow(TaskDef("x", deep, args=(n - 1,)))) for _ in range(2)]
                await wait(inner)
                return 1 + max(execution["x"] for execution in inner)
            return 0

        assert ended(manager.start(flow(TaskDef("a", deep, args=(3,)))))["a"] == 3
        assert manager._pools["async"].running == 0
    assert gauge.most == 1


def test_a_wait_that_a_coroutine_leaves_behind_takes_no_place_with_it():
    """A task that ends while something of it still waits leaves as many places as there were."""
    hold = Hold()
    with WorkflowManager(max_coroutines=1) as manager:
        inner = manager.start(flow(TaskDef("i", hold)))
        orphans = []

        async def leaving():
            orphans.append(asyncio.create_task(inner.wait_async()))
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        ended(manager.start(flow(TaskDef("a", leaving))))
        gauge = Gauge()

        async def work():
            with gauge:
                await asyncio.sleep(0)

        ended(manager.start(flow(*(TaskDef(str(n), work) for n in range(10)))))
        hold.go()
        ended(inner)
        ended(manager.start(flow(*(TaskDef(str(n), work) for n in range(10)))))
        assert (gauge.most, gauge.total) == (1, 20)
        assert manager._pools["async"].running == 0


def test_wait_async_in_arun_of_another_engine_is_no_trouble():
    """A coroutine task in the caller's loop awaits an execution of a manager elsewhere."""
    with WorkflowManager(workers=1) as manager:

        async def outer():
            inner = manager.start(flow(TaskDef("i", plus_one, args=(1,))))
            await inner.wait_async()
            return inner["i"]

        async def main():
            return (await soon(arun(flow(TaskDef("o", outer)), max_coroutines=1)))["o"]

        assert asyncio.run(main()) == 2


def test_a_cancelled_execution_cancels_its_coroutines_after_grace_only():
    """Until then they may end by themselves, and are told by the context."""
    began, told = threading.Event(), []

    async def polite(ctx):
        began.set()
        while not ctx.cancelled:  # noqa: ASYNC110  (there is nothing else to wait on)
            await asyncio.sleep(0.001)
        told.append(True)
        ctx.check_cancelled()

    execution = nerv.start(flow(TaskDef("a", polite)))
    reached(began)
    execution.cancel()
    assert statuses(ended(execution)) == {"a": "CANCELLED"}
    assert told == [True]
    assert kinds(execution)[-2:] == ["TASK_CANCELLED", "WORKFLOW_CANCELLED"]
    with pytest.raises(WorkflowCancelledError):
        nerv.running.checked(execution)


def test_a_coroutine_that_will_not_end_is_left_behind_like_a_thread(caplog):
    """Closing doesn't wait for it, nor tears it down half way: it may end later, and nobody complains."""
    began, go, ended_at_last = threading.Event(), threading.Event(), threading.Event()

    async def stubborn():
        began.set()
        while not go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.001)
        ended_at_last.set()

    with WorkflowManager(grace=0.01) as manager:
        execution = manager.start(flow(TaskDef("a", stubborn)))
        reached(began)
    assert statuses(execution) == {"a": "CANCELLED"}
    assert not ended_at_last.is_set()
    go.set()
    reached(ended_at_last)
    assert caplog.text == ""
