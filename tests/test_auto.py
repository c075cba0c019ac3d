"""`pool="auto"`: who is moved to worker processes, who isn't, and what becomes of those who shouldn't have been.

What a call takes is made up here, so that nothing depends on time; one test at the end measures for real.
"""

import gc
import hashlib
import logging
import math
import os
import shutil
import subprocess
import sys
import threading
import time
import types
import weakref
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

import nerv
from nerv import Output, RateLimit, RetryPolicy, TaskDef, TaskStatus, Workflow, WorkflowManager
from nerv.pools.auto import AutoPool, Watch
from nerv.pools.factory import PoolFactory
from nerv.pools.weighing import cost
from nerv.verdicts import LONG, MOST, Case, Figures, Place, Verdicts
from tests.pools import autofns

HERE = os.getpid()
COMPUTES = Figures(wall=0.1, busy=0.1, held=0.1)
WAITS = Figures(wall=0.1, busy=0.01, held=0.01)
QUICK = Figures(wall=0.001, busy=0.001, held=0.001)
MOVED = {"pool": "process"}


class Meter:
    """Says of each call what the test says: `figures` by function name; `during` is called while it runs."""

    def __init__(self, figures=COMPUTES, during=None):
        self.figures = figures
        self.during = during
        self.measured = []

    def measure(self, call, say):
        self.measured.append(call.task.id)
        if self.during is not None:
            self.during(call, say)
        call.run()
        return self.figures[call.task.fn.__name__] if isinstance(self.figures, dict) else self.figures

    def manager(self, **settings):
        """A manager whose pool "auto" has this meter."""
        meter = self

        class Factory(PoolFactory):
            def make(self, name, settings):
                return AutoPool(name, meter) if name == "auto" else super().make(name, settings)

        return WorkflowManager(pool_factory=Factory(), **{"processes": 1, "workers": 2, **settings})


def auto(task_id, fn=autofns.where, **options):
    return TaskDef(task_id, fn, pool="auto", **options)


def several(count, fn=autofns.where, **options):
    return [auto(f"t{i}", fn, **options) for i in range(count)]


def finished(manager, tasks, **options):
    execution = manager.start(Workflow("w", tasks), **options)
    assert execution.wait(30)
    return execution


def moved(execution):
    """The ids of the tasks that say they were moved."""
    return [task_id for task_id in execution.workflow.tasks if execution.task(task_id).metadata == MOVED]


# ---- the rules, pure ------------------------------------------------------------------------------------------------


def decided(*figures):
    """Where a function ends up after such calls, and how many of them were measured."""
    case = Case("f")
    for figure in figures:
        if case.is_decided:
            break
        case.count(figure)
    return case.place if case.is_decided else None, case._calls


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        ([COMPUTES], (None, 1)),
        ([COMPUTES, COMPUTES], (Place.PROCESS, 2)),
        ([COMPUTES._replace(wall=LONG, busy=LONG, held=LONG)], (Place.PROCESS, 1)),
        ([WAITS], (None, 1)),
        ([WAITS, WAITS], (Place.THREAD, 2)),
        ([COMPUTES, WAITS, COMPUTES], (Place.PROCESS, 3)),
        ([COMPUTES, WAITS, WAITS], (Place.THREAD, 3)),
        ([QUICK] * (MOST - 1), (None, MOST - 1)),
        ([QUICK] * MOST, (Place.THREAD, MOST)),
        ([QUICK, COMPUTES, QUICK, COMPUTES], (Place.PROCESS, 4)),
        ([COMPUTES._replace(objection="no")], (Place.THREAD, 1)),
        ([WAITS._replace(objection="no")], (None, 1)),
    ],
)
def test_the_first_calls_decide(figures, expected):
    assert decided(*figures) == expected


@pytest.mark.parametrize(
    ("figures", "is_worth_it"),
    [
        (Figures(0.005, 0.005, 0.005), True),
        (Figures(0.005, 0.005, 0.0049), False),  # too short
        (Figures(1.0, 0.5, 0.5), True),
        (Figures(1.0, 0.49, 0.49), False),  # it waits, mostly
        (Figures(1.0, 1.0, 0.004), False),  # it computes without the lock
        (Figures(1.0, 0.2, 0.2, others=0.8), True),  # others had the lock
        (Figures(1.0, 0.2, 0.2, others=1.1), False),  # they computed without it: it could have gone on
        (Figures(1.0, 0.09, 0.09, others=0.99), False),
        (Figures(1.0, 1.0, 1.0, sending=0.25), True),
        (Figures(1.0, 1.0, 1.0, sending=0.26), False),
    ],
)
def test_what_is_worth_moving(figures, is_worth_it):
    assert figures.is_worth_it is is_worth_it


def test_a_verdict_is_final_but_for_the_way_back():
    case = Case("f")
    assert not case.come_back("it isn't there")
    assert [case.count(COMPUTES), case.count(COMPUTES)] == [False, True]
    assert not case.count(WAITS)
    assert not case.looked(busy=False)
    assert case.come_back("no")
    assert case.place is Place.THREAD
    assert not case.come_back("no")
    assert not case.count(COMPUTES)
    assert case.place is Place.THREAD


def test_a_call_that_computes_keeps_the_others_back_until_it_is_counted():
    case = Case("f")
    assert case.looked(busy=True)
    assert case.place is Place.HELD
    assert case.looked(busy=False)
    assert case.place is Place.THREAD
    assert case.count(WAITS)
    assert case.place is Place.TRIAL


def test_functions_are_known_by_what_is_called_in_the_end():
    class Machine:
        def run(self):
            """Do something."""

        def __call__(self):
            """Do something else."""

    verdicts = Verdicts()
    assert verdicts.of(partial(autofns.burn, 1)) is verdicts.of(autofns.burn)
    assert verdicts.of(nerv.task(autofns.burn)) is verdicts.of(autofns.burn)
    assert verdicts.of(Machine().run) is verdicts.of(Machine().run)
    assert verdicts.of(Machine()) is verdicts.of(Machine())
    assert verdicts.of(Machine()) is not verdicts.of(Machine().run)
    assert verdicts.of(autofns.where) is not verdicts.of(autofns.burn)
    assert verdicts.of(str.upper) is verdicts.of(str.upper)
    assert verdicts.of(str.upper) is not verdicts.of(str.lower)
    assert verdicts.of(math.factorial) is not verdicts.of(math.comb)


def test_nobody_is_kept_alive_for_being_known():
    def passing():
        """It goes when its test ends."""

    verdicts, there = Verdicts(), weakref.ref(passing)
    assert verdicts.of(passing).place is Place.TRIAL
    del passing
    gc.collect()
    assert there() is None


def test_what_pickling_costs():
    assert 0.0 < cost([1] * 1000, 10.0) < 10.0
    assert cost([str(i) for i in range(100_000)], 0.0) == float("inf")
    with pytest.raises(TypeError):
        cost(threading.Lock(), 1.0)


# ---- under the engine -----------------------------------------------------------------------------------------------


def test_a_function_that_computes_moves_and_says_so_once(caplog):
    meter = Meter()
    with caplog.at_level(logging.INFO, "nerv"), meter.manager() as manager:
        execution = finished(manager, several(6))
        again = finished(manager, several(3))
    places = Counter(execution.results.values())
    assert places.pop(HERE) == 2
    assert sum(places.values()) == 4
    assert moved(execution) == [task_id for task_id, place in execution.results.items() if place != HERE]
    assert len(moved(again)) == 3
    assert len(meter.measured) == 2
    (said,) = [record.message for record in caplog.records if record.name == "nerv"]
    assert said == (
        "pool='auto': tests.pools.autofns.where is CPU-bound (0.1 s of CPU in a call of 0.1 s); "
        "from now on its calls go to worker processes"
    )
    for record in execution.events():
        if record.type == "TASK_COMPLETED":
            assert record.data.get("pool") == ("process" if record.task_id in moved(execution) else None)


@pytest.mark.parametrize(("figures", "measured"), [(WAITS, 2), (QUICK, MOST)])
def test_a_function_that_waits_or_is_quick_stays(figures, measured, caplog):
    meter = Meter(figures)
    with caplog.at_level(logging.INFO, "nerv"), meter.manager() as manager:
        execution = finished(manager, several(10))
    assert set(execution.results.values()) == {HERE}
    assert moved(execution) == []
    assert len(meter.measured) == measured
    assert not [record for record in caplog.records if record.name == "nerv"]


def test_what_is_written_in_c_can_be_measured_too():
    with Meter().manager() as manager:
        execution = finished(manager, [auto(f"t{i}", str.upper, args=("a",)) for i in range(4)])
    assert set(execution.results.values()) == {"A"}
    assert len(moved(execution)) == 2


def test_functions_that_cant_be_sent_arent_even_measured():
    def local():
        return os.getpid()

    meter = Meter()
    with meter.manager() as manager:
        execution = finished(manager, [*(auto(f"a{i}", local) for i in range(4)), auto("b", lambda: HERE)])
    assert set(execution.results.values()) == {HERE}
    assert meter.measured == []


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        ([TaskDef("lock", threading.Lock), *several(4, autofns.place_of, args=(Output("lock"),))], "its arguments"),
        (several(4, autofns.lock), "its result"),
        (several(4, autofns.services), "ctx.services"),
    ],
)
def test_what_a_call_shows_that_it_cant_be_sent_keeps_its_function_here(tasks, said, caplog):
    meter = Meter()
    with caplog.at_level(logging.INFO, "nerv"), meter.manager() as manager:
        execution = finished(manager, tasks)
    assert execution.status is nerv.WorkflowStatus.COMPLETED
    assert moved(execution) == []
    assert len(meter.measured) == 1
    (record,) = [record for record in caplog.records if record.name == "nerv"]
    assert "is CPU-bound, but stays in threads" in record.message
    assert said in record.message


def test_a_context_goes_along_unless_there_are_services():
    with Meter().manager() as manager:
        assert len(moved(finished(manager, several(5, autofns.told)))) == 3
        assert moved(finished(manager, several(5, autofns.told), services={"db": 1})) == []
        assert len(moved(finished(manager, several(5, autofns.told)))) == 5


def test_coroutine_functions_go_to_the_event_loop():
    meter = Meter()
    with meter.manager(default_pool="auto") as manager:
        execution = finished(manager, [auto("a", autofns.coroutine), TaskDef("b", autofns.coroutine)])
    assert set(execution.results.values()) == {HERE}
    assert meter.measured == []


def test_auto_can_be_the_default_pool():
    with Meter().manager(default_pool="auto") as manager:
        tasks = [TaskDef(f"t{i}", autofns.where) for i in range(4)]
        execution = finished(manager, [*tasks, TaskDef("thread", autofns.where, pool="thread")])
    assert len(moved(execution)) == 2
    assert execution["thread"] == HERE


def test_while_one_is_measured_and_computes_its_own_kind_waits_and_others_dont():
    seen = {}

    def during(call, say):
        execution = manager.executions()[-1]
        if call.task.fn is autofns.place_of and not seen:
            say(True)
            assert done.wait(30), "the other function wasn't measured meanwhile"
            seen.update({task_id: execution.task(task_id).status for task_id in execution.workflow.tasks})
        elif call.task.fn is autofns.second:
            done.set()

    done = threading.Event()
    mine = [auto(f"a{i}", autofns.place_of, args=(i,), priority=5) for i in range(5)]
    with Meter(during=during).manager() as manager:
        execution = finished(manager, [*mine, auto("b", autofns.second, args=(1,))])
    assert [seen[f"a{i}"] for i in range(5)] == [TaskStatus.RUNNING] + [TaskStatus.PENDING] * 4
    assert len(moved(execution)) == 3


def test_while_one_is_measured_and_waits_the_others_start():
    others = threading.Barrier(3)

    def during(call, say):
        if call.task.id == "t0":
            say(False)
            others.wait(30)

    meter = Meter(WAITS, during)
    tasks = [auto("t0", autofns.place_of, args=(0,), priority=1)]
    tasks += [auto(f"t{i}", autofns.place_of, args=(i,)) for i in range(1, 5)]
    meet = {"t1": others, "t2": others}
    with meter.manager(workers=2) as manager:

        def thread_side(event):
            if event.type == "TASK_STARTED" and event.task_id in meet:
                threading.Thread(target=others.wait, args=(30,), name="meeting").start()

        execution = finished(manager, tasks, on_event=thread_side)
    assert set(execution.results.values()) == {HERE}


def test_one_that_stops_computing_lets_the_others_go():
    started = threading.Event()

    def during(call, say):
        if call.task.id == "t0":
            say(True)
            assert not started.is_set()
            say(False)
            assert started.wait(30)

    with Meter(WAITS, during).manager() as manager:
        tasks = [auto(f"t{i}", autofns.place_of, args=(i,), priority=10 - i) for i in range(4)]
        told = lambda event: started.set() if event.type == "TASK_STARTED" and event.task_id == "t1" else None  # noqa: E731
        finished(manager, tasks, on_event=told)
    assert started.is_set()


def test_ready_waiting_and_future_tasks_of_all_executions_move():
    """Also those that wait for a retry or a limit, and those of another execution, paused or not."""
    limit = RateLimit(1, 0.05)
    tasks = [
        *several(2),
        auto("retried", autofns.fails_in, args=(HERE, 1), retry_policy=RetryPolicy(3, initial_interval=0.01)),
        auto("limited", rate_limit=limit),
        auto("limited too", rate_limit=limit),
        auto("after", autofns.place_of, args=(Output("t0"),), dependencies=["t1"]),
        auto("last", dependencies=["limited", "limited too", "after"]),
    ]
    with Meter().manager() as manager:
        other = manager.start(Workflow("other", [TaskDef("gate", threading.Event), *several(3)]))
        other.pause()
        execution = finished(manager, tasks)
        other.resume()
        assert other.wait(30)
    assert execution.status is nerv.WorkflowStatus.COMPLETED
    assert execution["last"] != HERE
    assert execution["retried"][0] != HERE
    assert execution.task("retried").attempts == 3
    assert set(other.results) == {"gate", "t0", "t1", "t2"}


@pytest.mark.parametrize("scheduling", ["ready", "levels"])
def test_levels_and_priorities_are_kept(scheduling):
    tasks = [auto(f"t{i}", priority=i) for i in range(6)]
    tasks.append(auto("last", dependencies=["t0"]))
    with Meter().manager(scheduling=scheduling) as manager:
        execution = finished(manager, tasks)
    order = [task_id for task_id in execution.sequence if task_id in moved(execution)]
    assert order == ["t3", "t2", "t1", "t0", "last"]


@pytest.mark.parametrize("durability", [None, "strict"])
def test_what_becomes_ready_while_its_function_is_held_goes_where_that_goes(tmp_path, durability):
    ended = threading.Event()

    def during(call, say):
        if call.task.id == "t0":
            say(True)
            assert ended.wait(30)

    tasks = [auto("t0"), TaskDef("plain", threading.get_ident), *several(3, dependencies=["plain"])[1:]]
    settings = {} if durability is None else {"journal": tmp_path / "j.db", "durability": durability}
    with Meter(during=during).manager(**settings) as manager:

        def hear(event):
            if event.type == "TASK_COMPLETED" and event.task_id == "plain":
                ended.set()

        execution = finished(manager, tasks, on_event=hear)
    assert execution.status is nerv.WorkflowStatus.COMPLETED
    assert moved(execution) == ["t2"]


def test_a_call_that_runs_when_its_function_moves_belongs_to_the_pool_that_runs_it():
    """It runs in the only thread, beyond its timeout; when it is given up there must be room for another."""
    runs = threading.Event()

    def during(call, say):
        if call.task.id == "first":
            say(False)
            assert runs.wait(30)

    def hear(event):
        if event.type == "TASK_STARTED" and event.task_id == "long":
            runs.set()

    autofns.GATE.clear()
    tasks = [
        auto("first", autofns.gated, args=(0,), priority=9),
        auto("long", autofns.gated, args=("wait",), timeout=0.5),
        TaskDef("plain", threading.get_ident, run_when="all_finished", dependencies=["long"]),
    ]
    decisive = COMPUTES._replace(wall=LONG, busy=LONG, held=LONG)
    try:
        with Meter(decisive, during).manager(workers=1, failure_policy="continue") as manager:
            execution = manager.start(Workflow("w", tasks), on_event=hear)
            assert execution.wait(15), "the thread is taken for ever"
            autofns.GATE.set()
    finally:
        autofns.GATE.set()
    assert isinstance(execution.failures["long"], nerv.TaskTimeoutError)
    assert "plain" in execution.results


def test_the_slot_that_was_lent_is_given_back():
    def during(call, say):
        say(call.task.id != "t1")

    with Meter(WAITS, during).manager() as manager:
        finished(manager, several(5))
        assert manager._pools["auto"].running == 0


def test_a_task_with_a_cache_looks_in_a_thread_and_computes_where_its_function_belongs():
    tasks = [auto(f"t{i}", autofns.place_of, args=(i,), cache=nerv.Cache()) for i in range(6)]
    with Meter().manager() as manager:
        first = finished(manager, tasks)
        second = finished(manager, tasks)
        third = finished(manager, [auto("new", autofns.place_of, args=("new",), cache=nerv.Cache())])
    assert sum(place != HERE for place in first.results.values()) == 4
    assert second.results == first.results
    assert {second.task(task_id).metadata["cached"] for task_id in second.results} == {True}
    assert third.task("new").metadata == {"cached": False, "pool": "process"}


def test_what_was_never_started_is_undone_even_if_its_function_is_held(tmp_path):
    """Its result came from the cache."""
    held = threading.Event()
    undo = partial(autofns.undo, folder=str(tmp_path))

    def during(call, say):
        if call.task.id == "computes":
            say(True)
            held.set()
            assert autofns.GATE.wait(30)

    def fail():
        raise RuntimeError("undo all")

    reused = auto("reused", autofns.place_of, args=(1,), cache=nerv.Cache(), compensate=undo)
    autofns.GATE.clear()
    try:
        with Meter(during=during).manager() as manager:
            finished(manager, [reused])
            other = manager.start(Workflow("other", [auto("computes", autofns.place_of, args=(2,))]))
            assert held.wait(30)
            execution = manager.start(Workflow("w", [reused, TaskDef("fail", fail, dependencies=["reused"])]))
            while "fail" not in execution.failures:
                execution.wait(0.01)
            autofns.GATE.set()
            assert execution.wait(15), "the compensation waits for ever"
            assert other.wait(30)
    finally:
        autofns.GATE.set()
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("durability", [None, "strict"])
@pytest.mark.parametrize("known", [False, True])
def test_added_tasks_follow_their_function_too(tmp_path, durability, known):
    settings = {} if durability is None else {"journal": tmp_path / "j.db", "durability": durability}
    items = nerv.Buffer("all", [1, 2, 3, 4, 5, 6], TaskDef("one", autofns.place_of, pool="auto"))
    several_kinds = TaskDef("more", expanded, dependencies=["all"])
    tasks = [items, several_kinds, *(several(3, autofns.place_of, args=(0,)) if known else [])]
    with Meter().manager(**settings) as manager:
        execution = finished(manager, tasks)
    assert execution.status is nerv.WorkflowStatus.COMPLETED
    started = [execution[f"t{i}"] for i in range(3)] if known else []
    places = [*started, *execution["all"].values, *execution["more"]]
    assert places.count(HERE) == 2  # those that were measured
    assert HERE not in execution["more"]


def expanded():
    """Adds tasks of a function that has a verdict by now, and one of another."""
    tasks = [auto(f"x{i}", autofns.place_of, args=(i,)) for i in range(2)]
    return nerv.Expand(
        [*tasks, TaskDef("plain", autofns.where, pool="process")], [Output("x0"), Output("x1"), Output("plain")]
    )


# ---- the way back ---------------------------------------------------------------------------------------------------


def test_a_call_that_cant_be_sent_after_all_runs_in_a_thread_and_its_function_stays_there(caplog):
    tasks = [
        *several(3, autofns.place_of, args=(1,)),
        TaskDef("lock", threading.Lock, dependencies=["t0", "t1", "t2"]),
        auto("bad", autofns.place_of, args=(Output("lock"),)),
        auto("after", autofns.place_of, args=(2,), dependencies=["bad"]),
    ]
    with caplog.at_level(logging.INFO, "nerv"), Meter().manager() as manager:
        execution = finished(manager, tasks)
        again = finished(manager, several(3, autofns.place_of, args=(1,)))
    assert len(moved(execution)) == 1
    assert execution["bad"] == execution["after"] == HERE
    result = execution.task("bad")
    assert (result.status, result.attempts, result.metadata) == (TaskStatus.COMPLETED, 1, {})
    assert [str(event.type) for event in execution.events() if event.task_id == "bad"] == [
        "TASK_STARTED",
        "TASK_COMPLETED",
    ]
    assert moved(again) == []
    assert [record.levelname for record in caplog.records if record.name == "nerv"] == ["INFO", "WARNING"]
    assert "comes back from worker processes to threads, for good" in caplog.text


def test_many_calls_come_back_each_with_its_one_attempt():
    tasks = [*several(2, autofns.place_of, args=(1,)), TaskDef("lock", threading.Lock, dependencies=["t0", "t1"])]
    tasks += [auto(f"bad{i}", autofns.place_of, args=(Output("lock"),)) for i in range(50)]
    with Meter().manager() as manager:
        execution = finished(manager, tasks)
    assert execution.status is nerv.WorkflowStatus.COMPLETED
    assert {execution[f"bad{i}"] for i in range(50)} == {HERE}
    assert {execution.task(f"bad{i}").attempts for i in range(50)} == {1}


def test_a_result_that_cant_be_sent_back_fails_its_task_and_says_what_follows():
    tasks = several(6, autofns.lock_in_the_parent, args=(HERE,))
    with Meter().manager(failure_policy="continue") as manager:
        execution = finished(manager, tasks)
    ((failed, error),) = execution.failures.items()
    assert "its result (a lock) can't be sent back" in str(error)
    assert "from now on it stays in threads" in error.__notes__[-1]
    assert {execution[f"t{i}"] for i in range(6) if f"t{i}" != failed} == {HERE}


def test_definition_time_arguments_that_cant_be_sent_stay_without_harm_to_others():
    with Meter().manager() as manager:
        finished(manager, several(3, autofns.place_of, args=(1,)))
        tasks = [auto("bad", autofns.place_of, args=(threading.Lock(),)), auto("good", autofns.place_of, args=(2,))]
        execution = finished(manager, tasks)
    assert execution["bad"] == HERE
    assert moved(execution) == ["good"]


def test_a_call_that_came_back_is_cancelled_with_its_execution():
    blocked, entered = threading.Event(), threading.Event()

    def block():
        entered.set()
        blocked.wait(30)

    tasks = [
        *several(2, autofns.place_of, args=(1,)),
        TaskDef("lock", threading.Lock, dependencies=["t0", "t1"]),
        TaskDef("block", block, dependencies=["t0", "t1"], priority=9),
        auto("bad", autofns.place_of, args=(Output("lock"),), dependencies=["lock"]),
    ]
    came_back = threading.Event()

    class Listener(logging.Handler):
        def emit(self, record):
            if record.levelno == logging.WARNING:
                came_back.set()

    listener = Listener()
    logging.getLogger("nerv").addHandler(listener)
    try:
        with Meter().manager(workers=1, pools={"own": {"kind": "thread", "workers": 1}}, grace=60.0) as manager:
            tasks[2] = TaskDef("lock", threading.Lock, dependencies=["t0", "t1"], pool="own")
            execution = manager.start(Workflow("w", tasks))
            assert entered.wait(30)
            assert came_back.wait(30)
            assert execution.task("bad").status is TaskStatus.RUNNING
            execution.cancel("enough")
            blocked.set()
            assert execution.wait(30)
    finally:
        logging.getLogger("nerv").removeHandler(listener)
    assert execution.task("bad").status is TaskStatus.CANCELLED


def test_a_function_that_workers_cant_import_comes_back(monkeypatch):
    ghost = types.ModuleType("tests_ghost")
    exec("import os\ndef spook(): return os.getpid()", ghost.__dict__)
    monkeypatch.setitem(sys.modules, "tests_ghost", ghost)
    with Meter().manager() as manager:
        execution = finished(manager, several(6, ghost.spook))
    assert execution.status is nerv.WorkflowStatus.COMPLETED
    assert set(execution.results.values()) == {HERE}
    assert moved(execution) == []


def test_without_workers_everything_comes_back(monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with Meter().manager() as manager:
        execution = finished(manager, several(40))
    assert execution.status is nerv.WorkflowStatus.COMPLETED
    assert set(execution.results.values()) == {HERE}
    assert moved(execution) == []
    assert {execution.task(f"t{i}").attempts for i in range(40)} == {1}


SCRIPT = """
import os
import nerv
import nerv.pools.auto
from nerv.verdicts import Figures

print("imported")

def where():
    return os.getpid()

class Meter:
    def measure(self, call, say):
        call.run()
        return Figures(0.1, 0.1, 0.1)

def main():
    nerv.pools.auto.Meter = Meter
    tasks = [nerv.TaskDef(f"t{i}", where, pool="auto") for i in range(5)]
    execution = nerv.run(nerv.Workflow("w", tasks), processes=1)
    print(sum(pid != os.getpid() for pid in execution.results.values()))
"""


def lines_of(*words):
    """What a program prints."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, check=False, text=True, timeout=60, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_functions_of_a_script_move_if_it_has_a_guard(tmp_path):
    (tmp_path / "guarded.py").write_text(SCRIPT + 'if __name__ == "__main__":\n    main()\n')
    (tmp_path / "open.py").write_text(SCRIPT + "main()\n")
    assert sorted(lines_of(str(tmp_path / "guarded.py"))) == ["3", "imported", "imported"]
    assert lines_of(str(tmp_path / "open.py")) == ["imported", "0"]
    assert lines_of("-c", SCRIPT + "main()\n") == ["imported", "3"]


# ---- policies -------------------------------------------------------------------------------------------------------


def test_compensations_go_along_or_keep_their_task_here(tmp_path):
    folder = str(tmp_path)

    def stays(result):
        autofns.undo(result, folder)

    def fail():
        raise RuntimeError("undo all")

    goes = partial(autofns.undo, folder=folder)
    tasks = [
        *several(4, compensate=goes),
        *(auto(f"s{i}", compensate=stays) for i in range(3)),
        TaskDef("fail", fail, dependencies=[*(f"t{i}" for i in range(4)), *(f"s{i}" for i in range(3))]),
    ]
    with Meter().manager() as manager:
        execution = finished(manager, tasks)
    assert len(moved(execution)) == 2
    undone = {file.name: file.read_text().split() for file in tmp_path.iterdir()}
    assert len(undone.pop(f"undone-{HERE}")) == 4  # of those that must, and the first that was measured
    assert sum(map(len, undone.values())) == 3


def test_fallbacks_run_here():
    def instead(error):
        return str(error)

    def fail(ctx):
        raise RuntimeError(ctx.task_id)

    with Meter().manager() as manager:
        finished(manager, several(3, autofns.lock_in_the_parent, args=(0,)))
        execution = finished(manager, [auto("f", fail, fallback=instead)])
        assert execution["f"] == "f"
        finished(manager, several(3, autofns.fails_in, args=(0, 1)))
        execution = finished(manager, [auto("g", autofns.fails_in, args=(), fallback=instead)])
        assert "missing 2 required" in execution["g"]


def test_a_fallback_that_waits_for_a_thread_stays_here_when_its_function_moves():
    autofns.GATE.clear()
    blocks, measured = threading.Event(), threading.Event()

    def block():
        blocks.set()
        autofns.GATE.wait(30)

    def during(call, say):
        assert blocks.wait(30)

    meter = Meter(COMPUTES, during)
    tasks = [
        TaskDef("block", block, priority=9),
        *(
            auto(f"f{i}", autofns.failing, args=(i,), fallback=lambda error: (str(error), os.getpid()))
            for i in range(3)
        ),
    ]
    try:
        with meter.manager(workers=1) as manager:

            def hear(event):
                if event.type == "TASK_STARTED" and event.task_id == "f2":
                    measured.set()

            execution = manager.start(Workflow("w", tasks), on_event=hear)
            assert measured.wait(30)
            autofns.GATE.set()
            assert execution.wait(30)
    finally:
        autofns.GATE.set()
    assert [execution[f"f{i}"] for i in range(3)] == [(str(i), HERE) for i in range(3)]
    assert len(meter.measured) == 2


def test_a_call_that_was_given_up_says_nothing_more():
    """Neither that it computes, which would hold its function for ever, nor what it took."""
    hold, given_up, ended = threading.Event(), threading.Event(), threading.Event()

    def during(call, say):
        if call.task.id == "t0":
            assert given_up.wait(30)
            say(True)
            assert hold.wait(30)

    def hear(event):
        if event.type == "TASK_FAILED":
            given_up.set()

    class Last(Meter):
        def measure(self, call, say):
            try:
                return super().measure(call, say)
            finally:
                if call.task.id == "t0":
                    ended.set()

    decisive = COMPUTES._replace(wall=LONG, busy=LONG, held=LONG)
    meter = Last({"place_of": decisive}, during)
    tasks = [auto("t0", autofns.place_of, args=(0,), timeout=0.05, priority=9)]
    try:
        with meter.manager(failure_policy="continue") as manager:
            finished(manager, tasks, on_event=hear)
            meter.figures = QUICK
            assert finished(manager, [auto("t1", autofns.place_of, args=(1,))])["t1"] == HERE
            meter.figures = decisive
            hold.set()
            assert ended.wait(30)
            meter.figures = QUICK
            after = finished(manager, several(3, autofns.place_of, args=(2,)))
    finally:
        hold.set()
    assert moved(after) == []


def test_nobody_is_asked_whether_to_retry_what_only_changes_its_pool():
    asked = []

    def retry_on(error):
        asked.append(error)
        return False

    policy = RetryPolicy(2, retry_on=retry_on)
    tasks = [
        *several(2, autofns.place_of, args=(1,)),
        TaskDef("lock", threading.Lock, dependencies=["t0", "t1"]),
        auto("bad", autofns.place_of, args=(Output("lock"),), retry_policy=policy),
    ]
    with Meter().manager() as manager:
        execution = finished(manager, tasks)
    assert execution["bad"] == HERE
    assert asked == []


def test_a_measured_call_that_is_given_up_counts_and_keeps_nobody_waiting():
    hold = threading.Event()

    def during(call, say):
        if call.task.id in ("t0", "t1"):
            say(True)
            hold.wait(30)

    meter = Meter(during=during)
    tasks = [auto(f"t{i}", autofns.place_of, args=(i,), timeout=0.05, priority=9 - i) for i in range(5)]
    try:
        with meter.manager(failure_policy="continue") as manager:
            execution = finished(manager, tasks)
            hold.set()
    finally:
        hold.set()
    assert list(execution.failures) == ["t0", "t1"]
    assert moved(execution) == []
    assert meter.measured == ["t0", "t1"]


def test_a_strict_journal_goes_with_it(tmp_path):
    with Meter().manager(journal=tmp_path / "j.db", durability="strict") as manager:
        execution = finished(manager, several(6), execution_id="one")
        assert len(moved(execution)) == 4
    with Meter().manager(journal=tmp_path / "j.db") as manager:
        kept = finished(manager, several(6), execution_id="one")
        assert moved(kept) == moved(execution)


# ---- for real -------------------------------------------------------------------------------------------------------


class Task:
    """What a watch needs of a call."""

    abandoned = False


def watched(act):
    """What was said of a function while it ran, and how much of it was seen to compute without the lock."""
    said = []
    watch = Watch(Task(), said.append)
    watch.start()
    act()
    watch.stop()
    return said, watch.free


@pytest.mark.skipif(not hasattr(time, "pthread_getcpuclockid"), reason="the system doesn't show other threads' clocks")
def test_a_watch_tells_who_needs_the_interpreter_lock():
    data = bytes(50_000_000)
    _, python = watched(lambda: autofns.burn(20_000_000))  # long enough for many looks
    _, c = watched(lambda: [hashlib.sha256(data) for _ in range(20)])
    assert python < 0.5 <= c


def test_a_watch_says_of_one_that_waits_that_it_waits_and_is_done():
    told = threading.Event()

    def wait():
        assert told.wait(30)

    watch = Watch(Task(), lambda busy: busy or told.set())
    watch.start()
    wait()
    for thread in threading.enumerate():
        if thread.name == "nerv-auto-watch":
            thread.join(30)
            assert not thread.is_alive(), "it goes on looking"
    watch.stop()


def test_a_real_measurement_tells_computing_from_waiting():
    tasks = [auto(f"burn{i}", autofns.burn, args=(2_000_000,)) for i in range(6)]
    tasks += [auto(f"nap{i}", autofns.nap, args=(0.02,)) for i in range(6)]
    with WorkflowManager(processes=1, workers=4) as manager:
        execution = finished(manager, tasks)
    assert moved(execution)
    assert all(task_id.startswith("burn") for task_id in moved(execution))
    assert {execution[f"nap{i}"] for i in range(6)} == {HERE}
