"""Nodes with every pool, scheduling and way to run."""

import asyncio
import threading

import pytest

from nerv import Buffer, Expand, Loop, Output, Param, Router, Sequence, TaskDef, Wait, Workflow, arun, run
from tests.nodes.helpers import double, go, inc, of, same


def enough(value):
    return value > 2


def small(value):
    return value < 3


async def double_async(value):
    return value * 2


inner = Workflow("inner", [TaskDef("a", inc, args=(Param("item"),)), TaskDef("b", double, args=(Output("a"),))])


def everything():
    return [
        Buffer("fan", [1, 2], double, max_parallel=1),
        Buffer("deep", [1, 2], inner),
        Loop("loop", inc, enough, 0),
        Sequence("steps", [inc, double], 1),
        Router("r", 1, [(small, "small")], default="large"),
        TaskDef("small", same, args=("s",), dependencies=["r"]),
        TaskDef("large", same, args=("l",), dependencies=["r"]),
        TaskDef("end", same, args=(Output.first("large", "small"),)),
    ]


def check(execution):
    assert execution.status.name == "COMPLETED"
    assert list(execution["fan"]) == [2, 4]
    assert list(execution["deep"]) == [4, 6]
    assert (execution["loop"], execution["steps"], execution["end"]) == (3, 4, "s")


@pytest.mark.parametrize("default", [None, "thread", "process", "inline"])
def test_nodes_run_whatever_the_default_pool_is(default):
    check(go(*everything(), default_pool=default))


def test_the_items_go_to_the_default_pool_and_the_nodes_stay_here():
    here = threading.get_ident()
    execution = go(Buffer("b", [1, 2], lambda _: threading.get_ident()), default_pool="inline")
    assert list(execution["b"]) == [here, here]


@pytest.mark.parametrize("scheduling", ["ready", "levels"])
@pytest.mark.parametrize("failure_policy", ["fail_fast", "continue"])
def test_nodes_run_by_levels_and_by_either_policy(scheduling, failure_policy):
    check(go(*everything(), scheduling=scheduling, failure_policy=failure_policy))


def test_nodes_run_in_the_callers_event_loop():
    async def main():
        return await arun(of(*everything(), Buffer("async", [1, 2], double_async)))

    execution = asyncio.run(main())
    check(execution)
    assert list(execution["async"]) == [2, 4]


def test_a_coroutine_may_expand_and_wait():
    async def grow():
        return Expand([TaskDef("x", double_async, args=(4,))], result=Output("x"))

    async def wait():
        return Wait(seconds=0.001, then=lambda _: "waited")

    execution = go(TaskDef("grow", grow), TaskDef("wait", wait))
    assert (execution["grow"], execution["wait"]) == (8, "waited")


def test_a_pool_that_only_an_added_task_uses_is_made_then():
    def grow():
        return Expand([TaskDef("x", double, args=(4,), pool="mine")], result=Output("x"))

    assert go(TaskDef("grow", grow), pools={"mine": {"kind": "thread", "workers": 1}})["grow"] == 8
    assert go(TaskDef("grow", grow), pools={"mine": {"kind": "process", "workers": 1}})["grow"] == 8


def test_progress_and_summary_know_added_tasks(capsys):
    execution = run(of(*everything()), progress=True)
    check(execution)
    assert "21 tasks: 20 completed, 1 skipped" in execution.summary()
    capsys.readouterr()


def test_a_trace_shows_added_tasks(tmp_path):
    execution = go(*everything())
    execution.to_trace(str(tmp_path / "trace.json"))
    assert "deep[1]/b" in (tmp_path / "trace.json").read_text(encoding="utf-8")


def test_targets_select_a_node_with_what_it_needs():
    execution = run(of(*everything(), TaskDef("more", same, args=(1,))), targets=["fan"])
    assert set(execution.results) == {"fan", "fan[0]", "fan[1]"}
