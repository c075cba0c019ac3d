"""Graphs run as taskmap says, on nerv's engine; each of taskmap's traps has a test that says what happens instead."""

import asyncio
import functools
import logging
import os
import sys
import threading

import pytest
import taskmap as original

from nerv.errors import ConfigError, WorkerCrashedError, WorkflowDefinitionError
from nerv.interop import taskmap
from tests.house.commands import run_command
from tests.interop import work

QUIET = {"logging_config": {"level": logging.CRITICAL}}
NOT_RUN = "Ancestor task {} failed; task not run"


def graph_of(dependencies, **funcs):
    return taskmap.create_graph(funcs, dependencies)


# ---- run ------------------------------------------------------------------------------------------------------------


def test_run_calls_one_after_another_in_the_callers_thread_and_returns_the_same_graph():
    threads = []
    note = lambda *_: threads.append(threading.get_ident())  # noqa: E731
    graph = graph_of({"a": [], "b": ["a"], "c": []}, a=note, b=note, c=note)
    assert taskmap.run(graph) is graph
    assert set(threads) == {threading.get_ident()}
    assert sorted(graph.done) == ["a", "b", "c"]
    assert graph.in_progress == []


def test_results_are_the_very_objects():
    value = {"deep": [object()]}
    graph = graph_of({"a": [], "b": ["a"]}, a=lambda: value, b=lambda x: x)
    assert taskmap.run(graph).results["b"] is value


def test_a_done_task_is_not_run_and_its_result_is_used():
    graph = taskmap.create_graph(
        {"a": pytest.fail, "b": work.add_ten}, {"a": [], "b": ["a"]}, done=["a"], results={"a": 1}
    )
    assert taskmap.run(graph).results == {"a": 1, "b": 11}


def test_io_bound_tasks_start_first():
    started = []
    funcs = {task: functools.partial(started.append, task) for task in "abcd"}
    taskmap.run(taskmap.create_graph(funcs, {task: [] for task in "abcd"}, io_bound=["c"]))
    assert started == ["c", "a", "b", "d"]


def test_a_failure_stops_what_depends_on_it_and_nothing_else():
    error = RuntimeError("boom")

    def fail():
        raise error

    graph = graph_of(
        {"a": [], "b": ["a"], "c": ["b", "x"], "x": [], "y": ["x"]},
        a=fail, b=pytest.fail, c=pytest.fail, x=work.five, y=work.add_ten,
    )  # fmt: skip
    results = taskmap.run(graph).results
    assert results == {"a": error, "b": NOT_RUN.format("a"), "c": NOT_RUN.format("a"), "x": 5, "y": 15}
    assert results["a"] is error
    assert graph.failed == {"a": error}


def test_any_name_that_taskmap_takes_can_be_run():
    names = ["data/raw.csv", "a[0]", "a%5B0%5D?", "ctx", "two words", "é"]
    funcs = dict.fromkeys(names, lambda *values: len(values))
    graph = taskmap.create_graph(funcs, {name: names[:index] for index, name in enumerate(names)})
    assert taskmap.run(graph).results == {name: index for index, name in enumerate(names)}


def test_a_first_parameter_called_context_is_given_the_result():
    graph = graph_of({"a": [], "b": ["a"], "c": ["b"]}, a=work.five, b=lambda ctx: ctx + 1, c=lambda context: -context)
    assert taskmap.run(graph).results == {"a": 5, "b": 6, "c": -6}

    async def coroutine(ctx):
        return ctx + 1

    assert taskmap.run_async(graph_of({"a": [], "b": ["a"]}, a=work.five, b=coroutine)).results == {"a": 5, "b": 6}


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_what_is_no_exception_stops_the_run_and_leaves_the_task_undone(stop):
    def interrupted():
        raise stop

    graph = graph_of(
        {"a": [], "b": ["a"], "c": ["b"], "x": []}, a=work.five, b=lambda _: interrupted(), c=pytest.fail, x=pytest.fail
    )
    with pytest.raises(stop):
        taskmap.run(graph)
    assert graph.results == {"a": 5}
    assert graph.done == ["a"]
    graph.funcs.update(b=work.add_ten, c=work.add_ten, x=work.five)
    assert taskmap.run(graph).results == {"a": 5, "b": 15, "c": 25, "x": 5}


def test_nothing_left_to_do_does_nothing():
    graph = taskmap.create_graph({"a": pytest.fail}, {"a": []}, done=["a"])
    assert taskmap.run(graph).results == {}
    assert taskmap.run(taskmap.create_graph({}, {})).results == {}


@pytest.mark.parametrize("verb", ["run", "run_parallel", "run_task"])
def test_a_coroutine_function_where_nobody_awaits_it_is_refused_before_anything_runs(verb):
    graph = graph_of({"a": [], "b": ["a"]}, a=work.own_pid_async, b=pytest.fail)
    with pytest.raises(taskmap.GraphError, match=f"'a' is a coroutine function.*use {verb}_async|use run_async"):
        getattr(taskmap, verb)(graph, *["a"] * (verb == "run_task"))
    assert graph.done == []


def test_run_task_runs_one_task_whatever_the_others_are():
    graph = graph_of({"a": [], "b": ["a"], "c": ["b"]}, a=work.five, b=work.add_ten, c=work.broken)
    taskmap.run_task(graph, "a")
    assert taskmap.run_task(graph, "b") is graph
    assert graph.results == {"a": 5, "b": 15}
    taskmap.run_task(graph, "c")
    assert isinstance(graph.results["c"], KeyError)
    taskmap.run_task(graph, "c")
    assert graph.done == ["a", "b", "c"]


def test_run_task_async_awaits_and_takes_plain_functions_too():
    graph = graph_of({"a": [], "b": ["a"], "c": []}, a=work.five, b=work.add_ten_async, c=work.broken_async)

    async def all_three():
        for task in "abc":
            await taskmap.run_task_async(graph, task)

    asyncio.run(all_three())
    assert graph.results["b"] == 15
    assert graph.failed.keys() == {"c"}


# ---- run_async ------------------------------------------------------------------------------------------------------


def test_run_async_overlaps_coroutines():
    meeting = asyncio.Barrier(3)

    async def meet():
        await meeting.wait()
        return 1

    graph = graph_of({"a": [], "b": [], "c": [], "d": ["a", "b"]}, a=meet, b=meet, c=meet, d=work.total)
    assert taskmap.run_async(graph) is graph
    assert graph.results == {"a": 1, "b": 1, "c": 1, "d": 2}


def test_run_async_works_while_a_loop_is_running():
    async def inside():
        return taskmap.run_async(graph_of({"a": [], "b": ["a"]}, a=work.five, b=work.add_ten_async)).results

    assert asyncio.run(inside()) == {"a": 5, "b": 15}


def test_a_partial_of_a_coroutine_function_is_one():
    graph = graph_of({"a": []}, a=functools.partial(work.add_ten_async, 1))
    assert taskmap.run_async(graph).results == {"a": 11}


# ---- processes ------------------------------------------------------------------------------------------------------


def test_run_parallel_runs_in_other_processes_and_leaves_the_given_graph_alone():
    graph = graph_of(
        {"a": [], "b": ["a"], "c": ["b"], "d": ["bad"], "bad": []},
        a=work.five, b=work.add_ten, c=work.own_pid, d=work.five, bad=work.broken,
    )  # fmt: skip
    ended = taskmap.run_parallel(graph, nprocs=2)
    assert (graph.done, graph.results) == ([], {})
    assert ended.results["b"] == 15
    assert ended.results["c"] != os.getpid()
    assert ended.results["d"] == NOT_RUN.format("bad")
    assert ended.results["bad"].args == ("lost",)
    assert sorted(ended.done) == ["a", "b", "bad", "c", "d"]
    assert taskmap.reset_failed_tasks(ended).done == [task for task in ended.done if task in "abc"]


def test_run_parallel_async_waits_here_and_computes_in_processes():
    graph = taskmap.create_graph(
        {
            "wait": work.own_pid_async, "plain wait": work.own_pid, "compute": work.own_pid_async,
            "plain compute": work.own_pid, "bad": work.broken_async,
        },
        {"wait": [], "plain wait": ["wait"], "compute": ["wait"], "plain compute": ["compute"], "bad": []},
        io_bound=["wait", "plain wait"],
    )  # fmt: skip
    results = taskmap.run_parallel_async(graph, nprocs=1).results
    assert results["wait"] == results["plain wait"] == os.getpid()
    assert os.getpid() not in (results["compute"], results["plain compute"])
    assert isinstance(results["bad"], KeyError)


def test_a_worker_that_dies_takes_only_its_own_task_along():
    graph = graph_of({"a": [], "b": ["a"], "c": []}, a=work.leave, b=work.five, c=work.five)
    results = taskmap.run_parallel(graph, nprocs=1).results
    assert isinstance(results["a"], WorkerCrashedError)
    assert results["b"] == NOT_RUN.format("a")
    assert results["c"] == 5


def test_a_result_that_cannot_be_sent_fails_its_task_only():
    graph = graph_of({"a": [], "b": []}, a=work.unsendable, b=work.five)
    results = taskmap.run_parallel(graph, nprocs=1).results
    assert isinstance(results["a"], Exception)
    assert results["b"] == 5


def test_a_function_that_cannot_be_sent_is_named_before_anything_runs():
    graph = graph_of({"a": [], "b": ["a"]}, a=work.five, b=lambda lock=threading.Lock(): lock)  # noqa: B008
    with pytest.raises(WorkflowDefinitionError, match="task 'b'"):
        taskmap.run_parallel(graph, nprocs=1)
    assert graph.done == []


@pytest.mark.parametrize("verb", ["run_parallel", "run_parallel_async"])
def test_lambdas_and_functions_inside_functions_go_to_worker_processes_by_value(verb):
    """taskmap's workers are forks, which have them all."""
    offset = 7

    def shifted(x):
        return x + offset, os.getpid()

    graph = graph_of(
        {"a": [], "b": ["a"], "c": ["b"]}, a=lambda: 5, b=shifted, c=functools.partial(lambda y, x: (x, y), 1)
    )
    (value, pid), one = getattr(taskmap, verb)(graph, nprocs=1).results["c"]
    assert (value, one) == (12, 1)
    assert pid != os.getpid()


SCRIPT = """
import os
print("once")
from nerv.interop import taskmap

OFFSET = 7

def start():
    return os.getpid()

def differs(pid):
    return OFFSET, pid != MAIN

MAIN = os.getpid()
graph = taskmap.create_graph({"a": start, "b": differs, "c": lambda b: b}, {"a": [], "b": ["a"], "c": ["b"]})
print(taskmap.run_parallel(graph, nprocs=1).results["c"])
"""


def test_a_script_without_a_guard_runs_once_and_its_functions_go_by_value(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    assert run_command([sys.executable, "script.py"], tmp_path, seconds=50).stdout == "once\n(7, True)\n"


@pytest.mark.parametrize("nprocs", [0, -1, 1.5])
def test_a_senseless_number_of_processes_is_refused(nprocs):
    with pytest.raises(ConfigError, match="processes takes a whole number from 1"):
        taskmap.run_parallel(graph_of({"a": []}, a=work.five), nprocs=nprocs)


def test_on_one_core_there_is_one_process_by_default(monkeypatch):
    monkeypatch.setattr("nerv.settings.cores", lambda: 1)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0}, raising=False)
    assert taskmap.run_parallel(graph_of({"a": []}, a=work.five)).results == {"a": 5}


# ---- taskmap's traps ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [lambda x, y: (x, y), lambda *values: values, work.pair])
def test_none_keeps_its_place_among_the_arguments(function):
    graph = graph_of({"a": [], "b": [], "c": ["a", "b"]}, a=work.nothing, b=work.five, c=function)
    assert taskmap.run(graph).results["c"] == (None, 5)
    parallel = graph_of({"a": [], "b": [], "c": ["a", "b"]}, a=work.nothing, b=work.five, c=work.pair)
    assert taskmap.run_parallel(parallel, nprocs=1).results["c"] == (None, 5)


def test_a_function_without_a_place_for_none_is_not_given_it():
    """A dependency that is there for the order only: taskmap's readme tells people to write such functions."""
    graph = graph_of(
        {"prepare": [], "a": ["prepare"], "b": ["prepare", "a"]}, prepare=work.nothing, a=work.five, b=work.add_ten
    )
    assert taskmap.run(graph).results["b"] == 15
    again = graph_of(dict(graph.dependencies), **graph.funcs)
    assert taskmap.run_parallel(again, nprocs=1).results["b"] == 15


def test_a_task_that_returns_an_exception_has_not_failed():
    value = ValueError("a value")
    graph = graph_of({"a": [], "b": ["a"], "bad": []}, a=lambda: value, b=lambda x: x.args, bad=lambda: 1 / 0)
    taskmap.run(graph)
    assert graph.results["b"] == ("a value",)
    assert graph.failed.keys() == {"bad"}
    taskmap.reset_failed_tasks(graph)
    assert graph.done == ["a", "b"]


def test_failed_tasks_run_again_after_a_reset():
    answers = iter([ZeroDivisionError, 4])

    def unsteady():
        answer = next(answers)
        if answer is ZeroDivisionError:
            raise answer
        return answer

    graph = graph_of({"a": [], "b": ["a"], "c": []}, a=unsteady, b=work.add_ten, c=work.five)
    taskmap.run(graph)
    taskmap.run(taskmap.reset_failed_tasks(graph))
    assert graph.results == {"a": 4, "b": 14, "c": 5}
    assert graph.failed == {}
    assert taskmap.reset_failed_tasks(graph).done == graph.done


def test_what_taskmap_left_in_progress_runs():
    graph = original.create_graph({"a": work.five, "b": work.add_ten}, {"a": [], "b": ["a"]}, name="left", **QUIET)
    graph.in_progress.extend(["a", "b"])
    assert taskmap.run(graph).results == {"a": 5, "b": 15}
    assert graph.in_progress == []


def test_a_task_behind_an_old_failure_is_given_up_not_called_with_the_exception():
    never = pytest.fail
    graph = graph_of({"a": [], "b": ["a"], "c": ["b"], "x": []}, a=work.broken, b=never, c=never, x=work.five)
    taskmap.run(graph)
    taskmap.reset_tasks(graph, ["b"])
    taskmap.reset_tasks(graph, ["x"])
    assert taskmap.run(graph).results["c"] == NOT_RUN.format("a")
    taskmap.reset_tasks(graph, ["c"])
    assert taskmap.run(graph).results["c"] == NOT_RUN.format("a")


def test_what_depends_on_a_failure_only_through_a_done_task_runs():
    graph = graph_of({"a": [], "b": ["a"], "c": ["b"]}, a=work.broken, b=pytest.fail, c=work.add_ten)
    graph.results["b"] = 1
    taskmap.run(taskmap.mark_as_done(graph, "b"))
    assert graph.results["b"] == 1
    assert graph.results["c"] == 11
    graph.done.remove("c")
    del graph.results["c"]
    assert taskmap.run(graph).results["c"] == 11


def test_a_result_that_was_put_right_by_hand_is_no_failure():
    graph = graph_of({"a": [], "b": ["a"]}, a=work.broken, b=work.add_ten)
    taskmap.run(graph)
    graph.results["a"] = 1
    assert taskmap.reset_failed_tasks(graph).done == ["a", "b"]
    assert taskmap.run(taskmap.reset_tasks(graph, "b")).results == {"a": 1, "b": 11}


def test_a_result_that_is_needed_and_not_there_is_named_before_anything_runs():
    graph = graph_of({"a": [], "b": [], "c": ["a", "b"]}, a=pytest.fail, b=pytest.fail, c=work.total)
    taskmap.mark_as_done_except(graph, "c")
    graph.results["b"] = 2
    with pytest.raises(taskmap.GraphError, match="task 'c' needs the result of 'a', marked as done without one"):
        taskmap.run(graph)
    graph.results["a"] = 1
    assert taskmap.run(graph).results["c"] == 3


@pytest.mark.parametrize(("function", "known"), [(work.total, "a"), (lambda x=1, y=2: (x, y), "b"), (max, "b")])
def test_a_result_that_is_missing_at_the_end_or_would_be_filled_by_the_next_is_needed(function, known):
    graph = graph_of({"a": [], "b": [], "c": ["a", "b"]}, a=pytest.fail, b=pytest.fail, c=function)
    graph.results[known] = 2
    with pytest.raises(taskmap.GraphError, match="task 'c' needs the result of"):
        taskmap.run(taskmap.mark_as_done_except(graph, "c"))


def test_a_result_that_is_not_there_and_not_needed_is_left_out():
    graph = graph_of({"a": [], "b": ["a"], "c": ["a"]}, a=pytest.fail, b=work.five, c=lambda x=7: x)
    taskmap.mark_as_done(graph, "a")
    assert taskmap.run(graph).results == {"b": 5, "c": 7}
