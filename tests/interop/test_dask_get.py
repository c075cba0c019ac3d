"""`nerv.interop.dask.get`: what Dask promises of a scheduler, beyond what its own tests look at."""

import contextvars
import gc
import os
import signal
import threading
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool

import pytest

dask = pytest.importorskip("dask")

from dask.callbacks import Callback  # noqa: E402
from dask.delayed import delayed  # noqa: E402
from dask.local import start_state_from_dask  # noqa: E402
from dask.utils_test import GetFunctionTestMixin, add, inc  # noqa: E402

from nerv.interop.dask import get, quick  # noqa: E402
from nerv.interop.dask.nodes import Culled, as_nodes  # noqa: E402
from tests.handshake import Odd, give  # noqa: E402

VARIABLE = contextvars.ContextVar("VARIABLE", default="unset")


@pytest.fixture(autouse=True)
def no_spare_threads():
    """What is kept for the next graph goes with the test."""
    yield
    quick.SPARE.dismiss()


class TestThreads(GetFunctionTestMixin):
    get = staticmethod(get)


class TestAlone(GetFunctionTestMixin):
    @staticmethod
    def get(*args, **options):
        return get(*args, num_workers=1, **options)


class TestAttended(GetFunctionTestMixin):
    @staticmethod
    def get(*args, **options):
        return get(*args, cache={}, **options)


def diamond():
    return {"a": (inc, 1), "b": (inc, "a"), "c": (inc, "a"), "d": (add, "b", "c")}


def test_a_value_whose_class_has_no_hash_is_an_argument():
    mine = Odd()
    assert get({"a": (give, mine), "b": (give, [mine])}, ["a", "b"]) == (mine, [mine])


ATTENDED = {"callbacks": [(None,) * 5]}
WAYS = pytest.mark.parametrize("options", [{}, {"num_workers": 1}, ATTENDED], ids=["threads", "alone", "attended"])


# ---- which tasks run ------------------------------------------------------------------------------------------------


@WAYS
def test_what_the_keys_dont_need_isnt_run(options):
    ran = []
    graph = {"a": (ran.append, 1), "b": (ran.append, 2), "c": (lambda _: 3, "a")}
    assert get(graph, "c", **options) == 3
    assert ran == [1]


@WAYS
def test_a_task_runs_once_however_many_read_it(options):
    count = Counter()

    def counted():
        count["a"] += 1
        return 1

    graph = {"a": (counted,), **{f"r{i}": (inc, "a") for i in range(50)}}
    graph["all"] = (sum, [f"r{i}" for i in range(50)])
    assert get(graph, ["all", "a", "all"], **options) == (100, 1, 100)
    assert count == {"a": 1}


@WAYS
def test_a_node_whose_own_key_differs_from_the_graphs_is_found_by_the_graphs(options):
    nodes = as_nodes(diamond())
    nodes["e"] = nodes["d"]
    assert get(nodes, ["e", "d"], **options) == (6, 6)


@WAYS
@pytest.mark.parametrize("keys", ["no", ["a", ["no"]]])
def test_an_unknown_key_is_a_keyerror_that_names_it(options, keys):
    with pytest.raises(KeyError, match="no"):
        get(diamond(), keys, **options)


@WAYS
def test_a_task_that_needs_itself_is_found_before_anything_runs(options):
    ran = []
    ring = {f"r{i}": (inc, f"r{(i + 1) % 3}") for i in range(3)}
    with pytest.raises(RuntimeError, match="Cycle detected"):
        get({**ring, "a": (ran.append, 1), "top": (add, "a", "r0")}, "top", **options)
    assert not ran


def test_a_ring_in_a_large_graph_is_found_too():
    graph = {f"x{i}": (inc, f"x{i - 1}") for i in range(1, 3000)}
    graph["x0"] = (inc, "x2999")
    with pytest.raises(RuntimeError, match="Cycle detected"):
        get(graph, "x5")


@WAYS
def test_a_need_that_isnt_there_is_named(options):
    nodes = as_nodes(diamond())
    del nodes["a"]
    with pytest.raises(ValueError, match="Missing dependency a for dependents"):
        get(nodes, "d", **options)


# ---- results --------------------------------------------------------------------------------------------------------


class Value:
    """Something that can be referred to weakly."""


@WAYS
def test_a_result_is_let_go_when_its_last_reader_has_ended(options):
    seen = []

    def make():
        value = Value()
        seen.append(weakref.ref(value))
        return value

    def look(*_):
        return seen[0]() is not None

    graph = {"v": (make,), "r1": (look, "v"), "r2": (look, "v", "r1"), "after": (lambda _: seen[0]() is None, "r2")}
    assert get(graph, ["r1", "r2", "after"], **options) == (True, True, True)


@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_of_a_graph_is_kept_after_it(workers):
    seen = []

    def make():
        value = Value()
        seen.append(weakref.ref(value))
        return value

    get({"v": (make,), "w": (lambda v: v, "v")}, "w", num_workers=workers)
    gc.collect()
    assert seen[0]() is None


def test_large_graphs_give_what_small_ones_do():
    graph = {("x", i): (add, ("x", i - 1), i) for i in range(1, 5000)}
    graph["x", 0] = (inc, -1)
    graph["sum"] = (sum, [("x", i) for i in range(5000)])
    assert get(graph, ["sum", [("x", 4999)]]) == (sum(i * (i + 1) // 2 for i in range(5000)), (4999 * 5000 // 2,))


def test_dasks_order_takes_over_in_a_large_graph_of_slow_tasks():
    """Here it does at once, whatever the clock says, and the results are the same."""
    gate = threading.Event()
    graph = {("x", i): (inc, i) for i in range(2000)}
    graph["x", 0] = (lambda: gate.wait(30),)
    graph["sum"] = (lambda values: sum(values[1:]), [("x", i) for i in range(2000)])
    culled = Culled(as_nodes(graph), ["sum"])
    crew = quick.Crew(1)
    run = quick.Run(culled, {"sum"}, crew.engine, crew.pool)
    run.engine.start(run.live)
    run.rearrange()
    assert run.graph.ranks != list(range(2001))
    assert sorted(run.live.scheduler.ready[0]) == sorted(set(run.graph.ranks) & set(run.live.scheduler.ready[0]))
    gate.set()
    assert run.over.wait(30)
    crew.close()
    assert run.results() == {"sum": sum(range(2, 2001))}


# ---- errors ---------------------------------------------------------------------------------------------------------


class OwnError(Exception):
    def __init__(self, one, two):
        super().__init__()
        self.both = one, two


@WAYS
def test_the_tasks_own_exception_comes_out_unchanged(options):
    error = OwnError(1, 2)

    def fail():
        raise error

    with pytest.raises(OwnError) as caught:
        get({"a": (fail,), "b": (inc, "a")}, "b", **options)
    assert caught.value is error
    assert error.both == (1, 2)
    assert error.__cause__ is None
    assert caught.traceback[-1].name == "fail"


@WAYS
def test_after_an_error_nothing_that_depends_on_it_runs(options):
    ran = []

    def fail():
        raise OwnError(1, 2)

    with pytest.raises(OwnError):
        get({"a": (fail,), "b": (ran.append, "a")}, "b", **options)
    assert not ran


@pytest.mark.leaks_allowed("a task that goes on after the error isn't waited for, as with Dask")
@pytest.mark.parametrize("options", [{}, ATTENDED], ids=["threads", "attended"])
def test_an_error_doesnt_wait_for_what_runs(options):
    gate = threading.Event()
    both = threading.Barrier(2)

    def fail():
        both.wait(30)
        raise OwnError(1, 2)

    def wait():
        both.wait(30)
        gate.wait(30)

    try:
        with pytest.raises(OwnError):
            get({"a": (fail,), "b": (wait,)}, ["a", "b"], num_workers=2, **options)
        assert not gate.is_set()
    finally:
        gate.set()


def test_a_failed_task_can_be_run_again_by_the_caller():
    threads = []

    def fail():
        threads.append(threading.current_thread())
        raise OwnError(1, 2)

    with pytest.raises(OwnError):
        get({"a": (fail,)}, "a", rerun_exceptions_locally=True)
    assert threads[0] is not threads[1]
    assert threads[1] is threading.current_thread()


@pytest.mark.leaks_allowed("tasks that run at a Ctrl-C aren't waited for, as with Dask")
def test_ctrl_c_ends_it_at_once():
    gate = threading.Event()

    def interrupt():
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        gate.wait(30)

    try:
        with pytest.raises(KeyboardInterrupt):
            get({"a": (interrupt,), "b": (gate.wait, 30)}, ["a", "b"], num_workers=2)
        assert not gate.is_set()
    finally:
        gate.set()


# ---- where tasks run ------------------------------------------------------------------------------------------------


@WAYS
def test_tasks_see_the_callers_context(options):
    token = VARIABLE.set("the caller's")
    try:
        assert get({"a": (VARIABLE.get,)}, "a", **options) == "the caller's"
    finally:
        VARIABLE.reset(token)


@WAYS
def test_what_a_task_sets_in_its_context_stays_there(options):
    graph = {"a": (lambda: VARIABLE.set("mine"),), "b": (lambda _: VARIABLE.get(), "a")}
    assert get(graph, "b", **options) == "unset"
    assert VARIABLE.get() == "unset"


@pytest.mark.parametrize("kind", [ThreadPool, ThreadPoolExecutor])
def test_a_pool_of_the_callers_runs_the_tasks_in_their_context(kind):
    both = threading.Barrier(2)

    def meet():
        both.wait(30)
        return threading.current_thread(), VARIABLE.get()

    token = VARIABLE.set("the caller's")
    try:
        with kind(2) as pool:
            first, second = get({"a": (meet,), "b": (meet,)}, ["a", "b"], pool=pool)
    finally:
        VARIABLE.reset(token)
    assert first[0] is not second[0]
    assert not first[0].name.startswith("nerv")
    assert first[1] == second[1] == "the caller's"


@pytest.mark.parametrize("options", [{}, ATTENDED], ids=["threads", "attended"])
def test_no_more_tasks_run_at_once_than_there_are_workers(options):
    running, most, lock = [], [], threading.Lock()

    def task():
        with lock:
            running.append(1)
            most.append(len(running))
        threading.Event().wait(0.001)
        with lock:
            running.pop()

    get(dict.fromkeys(range(40), (task,)), list(range(40)), num_workers=3, **options)
    assert max(most) <= 3
    assert len(most) == 40


def test_one_worker_is_the_caller():
    assert get({"a": (threading.current_thread,)}, "a", num_workers=1) is threading.current_thread()


@WAYS
def test_a_get_inside_a_task(options):
    def inner(n):
        return get({"a": (inc, n), "b": (inc, "a")}, "b", **options)

    graph = {i: (inner, i + 100) for i in range(20)}
    assert get(graph, list(range(20)), **options) == tuple(range(102, 122))


def test_gets_in_many_threads_at_once():
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda i: get({**diamond(), "e": (add, "d", i)}, "e"), range(100))) == list(range(6, 106))


def test_threads_are_kept_for_the_next_graph():
    before = get({"a": (threading.current_thread,)}, "a", num_workers=2)
    after = get({"a": (threading.current_thread,)}, "a", num_workers=2)
    assert before is after


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own():
    get(diamond(), "d", num_workers=2)
    child = os.fork()
    if not child:
        os._exit(get(diamond(), "d", num_workers=2))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 6


# ---- what attends ---------------------------------------------------------------------------------------------------


def test_callbacks_are_called_in_the_callers_thread_in_order_with_dasks_state():
    told = []
    expected = start_state_from_dask(as_nodes(diamond()), keys={"d"})

    def note(what):
        def callback(*args):
            assert threading.current_thread() is threading.main_thread()
            told.append((what, *args))

        return callback

    with Callback(*map(note, ("start", "start_state", "pretask", "posttask", "finish"))):
        assert get(diamond(), "d", num_workers=2) == 6
    names = [(what, *(arg for arg in args if isinstance(arg, str | bool))) for what, *args in told]
    assert names[:2] == [("start",), ("start_state",)]
    assert names[-1] == ("finish", False)
    assert Counter(names[2:-1]) == Counter([("pretask", key) for key in "abcd"] + [("posttask", key) for key in "abcd"])
    for need, reader in ("ab", "ac", "bd", "cd"):
        assert names.index(("posttask", need)) < names.index(("pretask", reader))
    state = told[1][2]
    assert state.keys() == expected.keys()
    assert state["finished"] == set("abcd")
    assert not any(state[what] for what in ("running", "ready", "waiting"))
    posted = next(args for what, *args in told if what == "posttask")
    assert posted[0] == "a"
    assert posted[1] == 2
    assert posted[4] != threading.get_ident()


def test_a_callback_that_raises_ends_the_computation_with_its_error():
    finished = []
    with pytest.raises(OwnError), Callback(pretask=fail_with, finish=lambda *args: finished.append(args[-1])):
        get(diamond(), "d")
    assert finished == [True]


def fail_with(*_):
    raise OwnError(1, 2)


def test_callbacks_hear_nothing_of_gets_inside_tasks():
    heard = []
    with Callback(pretask=lambda key, *_: heard.append(key)):
        get({"outer": (lambda: get(diamond(), "d"),)}, "outer")
    assert heard == ["outer"]


def test_a_callback_may_put_results_into_the_graph_at_its_start():
    """As cachey's does."""

    def start(graph):
        graph["b"] = 100

    ran = []
    with Callback(start=start, pretask=lambda key, *_: ran.append(key)):
        assert get(diamond(), "d") == 103
    assert sorted(ran) == ["a", "c", "d"]


def test_dasks_progress_bar_and_profiler_work(capsys):
    diagnostics = pytest.importorskip("dask.diagnostics")
    with diagnostics.ProgressBar(dt=0.01), diagnostics.Profiler() as profiler:
        assert get(diamond(), "d") == 6
    assert "100% Completed" in capsys.readouterr().out
    assert {result.key for result in profiler.results} == set("abcd")


def test_results_in_the_cache_arent_worked_out_again():
    cache = {"a": 0}
    assert get({"b": (inc, "a"), "a": (fail_with,)}, "b", cache=cache) == 1
    assert cache["b"] == 1


def test_the_cache_is_what_dasks_configuration_says():
    cache = {}
    with dask.config.set(cache=cache):
        assert get(diamond(), "d") == 6
    assert cache["d"] == 6


def test_an_option_for_another_scheduler_does_nothing():
    assert get(diamond(), "d", chunksize=7, optimize_graph=False, start_callback=fail_with) == 6


# ---- from Dask's side -----------------------------------------------------------------------------------------------


def test_it_is_a_scheduler_for_delayed_objects():
    total = delayed(sum)([delayed(inc)(i) for i in range(100)])
    with dask.config.set(scheduler=get):
        assert total.compute() == 5050
    assert dask.compute(total, total, scheduler=get, num_workers=1) == (5050, 5050)
