"""The process pool keeps its promises, seen from the engine's side: by a `Source` whose every step can be watched."""

import functools
import gc
import logging
import os
import shutil
import signal
import sys
import threading
from contextlib import contextmanager

import psutil
import pytest

from nerv import MISSING, NervError, Output, Param, SerializationError, TaskCancelledError, TaskDef, WorkerCrashedError
from nerv.pools.process import ProcessPool
from tests.pools import light, procfns
from tests.pools.desk import gone, read_when_there

# ---- the ordinary course --------------------------------------------------------------------------------------------


def test_calls_run_in_another_process_and_bring_their_values_back(rig):
    one = rig()
    assert one.value(procfns.pid) != os.getpid()
    assert one.value(procfns.add, 1, b=2) == 3
    assert one.value(procfns.nothing) is None
    assert one.value(procfns.tripled, 2) == 6
    assert one.value(len, "four") == 4
    assert one.value(int, "7") == 7
    assert one.value(functools.partial(procfns.add, 1), 2) == 3
    assert one.value(procfns.Holder("held").get) == "held"
    error = ValueError("as a value")
    assert repr(one.value(procfns.identity, error)) == repr(error)


def test_references_are_filled_in_before_sending(rig):
    one = rig()
    one.desk.live.values["a"] = {"rows": [1, 2]}
    one.desk.live.params["p"] = 5
    assert one.value(procfns.identity, [Output("a")["rows"], Param("p"), 7]) == [[1, 2], 5, 7]
    error = one.error(procfns.identity, Output("b"))
    assert "'b'" in str(error)


def test_nothing_is_started_before_there_is_work(rig):
    one = rig()
    assert one.pool._thread is None
    one.pool.close(1.0)
    one.put(TaskDef("late", procfns.pid))
    assert one.pool._thread is None, "a closed pool doesn't get up"


def test_one_thread_looks_after_all_workers(rig):
    one = rig(3, name="crunch")
    calls = one.put(*[TaskDef(f"t{i}", procfns.pid) for i in range(9)])
    one.end(*calls)
    new = [thread for thread in threading.enumerate() if thread.name == "nerv-processes-crunch"]
    assert len(new) == 1


def test_as_many_workers_are_started_as_there_is_work_for(rig, fifo):
    one = rig(2)
    gates = [fifo(str(i)) for i in range(3)]
    first = one.put(TaskDef("a", procfns.wait_for, args=(str(gates[0]),)))
    one.desk.wait(lambda: one.desk.taken == [[1]])
    assert len(one.children) == 1
    rest = one.put(*[TaskDef(f"b{i}", procfns.wait_for, args=(str(gate),)) for i, gate in enumerate(gates[1:])])
    one.desk.wait(lambda: one.desk.taken == [[1], [2]])
    assert len(one.children) == 2
    for gate in gates:
        fifo.release(gate)
    one.end(*first, *rest)
    assert len(one.children) == 2


def test_workers_are_kept_for_the_next_call(rig):
    one = rig(2)
    assert len({one.value(procfns.pid) for _ in range(5)}) == 1


def test_a_grown_limit_is_used_and_a_shrunk_one_is_kept(rig, fifo):
    one = rig(1)

    def busy(count, name):
        announced, gates = [fifo(f"{name}-a{i}") for i in range(count)], [fifo(f"{name}-g{i}") for i in range(count)]
        pairs = zip(announced, gates, strict=True)
        calls = one.put(*[TaskDef("t", procfns.announce_and_wait, args=(str(a), str(g))) for a, g in pairs])
        pids = {read_when_there(path) for path in announced}
        for gate in gates:
            fifo.release(gate)
        one.end(*calls)
        return pids

    before = busy(1, "one")
    one.pool.limit = 3
    grown = busy(3, "three")
    assert len(grown) == 3
    assert before <= grown
    one.pool.limit = 1
    for _ in range(4):
        one.call(procfns.pid)
    calls = one.put(*[TaskDef("t", procfns.pid) for _ in range(20)])
    one.end(*calls)
    assert gone(*(grown - one.pids()))
    assert len(one.children) == 1


def test_an_idle_pool_sleeps_without_a_time_limit(rig):
    one = rig(2)
    one.warm(procfns.inc, 1)
    slept = []
    selector = one.pool._crew._selector
    select = selector.select
    selector.select = lambda timeout: slept.append(timeout) or select(timeout)
    one.call(procfns.pid)
    one.put()
    one.call(procfns.pid)
    assert slept
    assert {timeout for timeout in slept if timeout != 0.0} == {None}


def test_two_pools_share_nothing(rig):
    one, other = rig(name="one"), rig(name="other")
    pids = one.value(procfns.pid), other.value(procfns.pid)
    assert pids[0] != pids[1]
    one.pool.close(2.0)
    assert other.value(procfns.pid) == pids[1]


def test_a_worker_loads_next_to_nothing(rig):
    heavy = ["networkx", "dependency_injector", "taskmap", "rich", "typer", "asyncio", "msgspec", "logging", "pytest",
             "multiprocessing", "cloudpickle", "nerv.engine", "nerv.pools.process", "subprocess"]  # fmt: skip
    assert rig().value(light.modules, heavy) == []


# ---- what a worker is -----------------------------------------------------------------------------------------------


def test_workers_are_out_of_the_terminals_reach(rig):
    pid, group, session = rig().value(procfns.session)
    assert pid == group == session != os.getsid(0)


def test_standard_error_is_ours(rig, capfd):
    one = rig()
    one.call(procfns.bad_words)
    assert "words on stderr" in capfd.readouterr().err


def test_what_a_task_prints_is_seen_before_the_worker_ends(rig, capfd, monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    one = rig()
    one.call(print, "printed")
    one.call(procfns.pid)  # the worker has gone back to its pipe in between
    assert "printed" in capfd.readouterr().out


def test_context_variables_stay_here(rig):
    one = rig()
    procfns.variable.set("set")
    try:
        assert one.value(procfns.context_variable) == "unset"
    finally:
        procfns.variable.set("unset")


def test_a_task_may_fork(rig):
    one = rig()
    assert one.value(procfns.fork_and_go_on) == 0
    assert one.value(procfns.inc, 1) == 2


# ---- what can't be sent ---------------------------------------------------------------------------------------------


def objection(task):
    return ProcessPool("process", 1).objection(task)


def test_a_coroutine_function_is_refused():
    assert "is a coroutine function" in objection(TaskDef("t", procfns.coroutine))


def local():
    def inner():
        pass

    return inner


NAMELESS = {"lambda": lambda: 1, "local": local(), "partial": functools.partial(lambda x: x, 1)}


@pytest.mark.parametrize("fn", NAMELESS.values(), ids=NAMELESS)
def test_a_function_without_a_name_is_refused_with_the_reason(fn):
    text = objection(TaskDef("t", fn))
    assert "lambdas and local functions have no importable name; define it at module level" in text
    assert "tests.pools.test_process." in text.replace("__mp_main__", "tests.pools.test_process")


def test_a_method_of_what_cant_be_pickled_is_refused():
    text = objection(TaskDef("t", procfns.Holder(threading.Lock()).get))
    assert "procfns.Holder.get" in text
    assert "it is a method of a Holder, which can't be pickled" in text
    assert objection(TaskDef("t", procfns.Holder(1).get)) is None


def test_a_local_task_is_refused():
    from nerv import task

    @task
    def hidden():
        pass

    assert "hidden" in objection(TaskDef("t", hidden))
    assert objection(TaskDef("t", procfns.tripled)) is None


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        (lambda lock: {"args": (1, lock)}, "args[1] (a _thread.lock)"),
        (lambda lock: {"kwargs": {"k": lock}}, "kwargs['k'] (a _thread.lock)"),
        (lambda lock: {"args": ([1, {"a": (lock,)}],)}, "args[0][1]['a'][0] (a _thread.lock)"),
        (lambda lock: {"args": (procfns.Holder([lock]),)}, "args[0].held[0] (a _thread.lock)"),
        (lambda lock: {"args": ([Output("x"), {"k": [lock, Output("y")]}],)}, "args[0][1]['k'][0] (a _thread.lock)"),
    ],
    ids=["argument", "keyword", "nested", "attribute", "beside references"],
)
def test_an_argument_that_cant_be_sent_is_named(fields, path):
    text = objection(TaskDef("t", procfns.identity, **fields(threading.Lock())))
    assert path in text
    assert "cannot pickle '_thread.lock' object" in text


def test_what_can_be_sent_isnt_refused():
    arguments = (1, "a", None, [Output("x")], (Output("y"), 2), {"k": Param("p")}, Output("z", default=MISSING), {1, 2})
    assert objection(TaskDef("t", procfns.identity, args=arguments)) is None
    loop = []
    loop.append(loop)
    assert objection(TaskDef("t", procfns.identity, args=(loop,))) is None


def test_an_argument_that_turns_up_late_fails_its_task_alone(rig):
    one = rig()
    one.desk.live.values["a"] = [1, threading.Lock()]
    error = one.error(procfns.identity, Output("a"))
    assert isinstance(error, NervError)
    assert "task 't'" in str(error)
    assert "args[0][1] (a _thread.lock)" in str(error)
    assert one.value(procfns.inc, 1) == 2


def test_checking_the_same_function_again_and_again_costs_little():
    from time import perf_counter

    pool = ProcessPool("process", 1)
    tasks = [TaskDef("t", procfns.inc, args=(i,)) for i in range(10_000)]
    taken = []
    for _ in range(5):
        began = perf_counter()
        assert not any(pool.objection(task) for task in tasks)
        taken.append(perf_counter() - began)
    assert min(taken) < 0.05, "about 5 ms on a quiet machine"


def test_functions_that_are_many_dont_pile_up(rig, monkeypatch):
    monkeypatch.setattr("nerv.pools.sending.PLACES", 2)
    one = rig()
    for _ in range(3):
        assert one.value(procfns.inc, 1) == 2
        assert one.value(procfns.add, 1, 2) == 3
        assert one.value(procfns.identity, 4) == 4
        assert one.value(procfns.pid) != os.getpid()
    assert len(one.pool._sender._functions) == 2


# ---- results and errors ---------------------------------------------------------------------------------------------


def test_a_result_that_cant_be_sent_fails_the_task(rig):
    one = rig()
    error = one.error(procfns.generator)
    assert isinstance(error, SerializationError)
    assert "task 't': its result (a generator) can't be sent back" in str(error)
    assert "cannot pickle 'generator' object" in str(error)


def test_a_result_that_pickle_cant_take_may_be_one_for_cloudpickle(rig):
    assert rig().value(procfns.closure)(2) == 42


def test_a_result_that_cant_be_read_fails_the_task(rig):
    one = rig()
    error = one.error(procfns.unreadable)
    assert "task 't': its result can't be unpickled" in str(error)
    assert isinstance(error.__cause__, ValueError)
    assert one.value(procfns.inc, 1) == 2


def test_an_argument_that_cant_be_read_fails_the_task(rig):
    one = rig()
    error = one.error(procfns.identity, procfns.Unreadable())
    assert "task 't': its arguments can't be unpickled in the worker process: ValueError: not here" in str(error)


def test_a_function_that_cant_be_imported_there_fails_the_task(rig, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "passing_by.py").write_text("def here():\n    return 1\n")
    import passing_by

    (tmp_path / "passing_by.py").write_text("raise LookupError('not any more')\n")
    one = rig()
    error = one.error(passing_by.here)
    assert "task 't': its function can't be had in the worker process: LookupError: not any more" in str(error)
    assert one.value(procfns.inc, 1) == 2


@pytest.mark.parametrize("fn", [procfns.interrupting, procfns.interrupting_later])
def test_a_result_that_interrupts_whoever_handles_it_fails_its_task_alone(rig, fn):
    one = rig()
    assert "KeyboardInterrupt" in repr(one.error(fn)).replace("('from __reduce__')", "KeyboardInterrupt")
    assert one.value(procfns.inc, 1) == 2


@pytest.mark.parametrize("kind", [procfns.Interrupting, procfns.InterruptingLater])
def test_an_argument_that_interrupts_whoever_handles_it_fails_its_task_alone(rig, kind):
    one = rig()
    one.desk.live.values["a"] = one.desk.live.params["p"] = kind()
    assert "KeyboardInterrupt" in repr(one.error(procfns.identity, Output("a")))
    assert one.call(procfns.params_of, "p").error is not None
    assert one.value(procfns.inc, 1) == 2


def test_an_exception_keeps_its_type_and_shows_the_workers_traceback(rig):
    error = rig().error(procfns.deep_boom)
    assert type(error) is ValueError
    assert error.args == ("boom",)
    (note,) = error.__notes__
    assert "in worker process" in note
    assert "in inner" in note
    assert "in deep_boom" in note
    assert "worker.py" not in note


def test_the_traceback_survives_pickling(rig):
    import pickle

    error = rig().error(procfns.deep_boom)
    assert pickle.loads(pickle.dumps(error)).__notes__ == error.__notes__


def test_an_exception_with_other_constructor_arguments_comes_back_whole(rig):
    error = rig().error(procfns.raise_two_arguments)
    assert type(error) is procfns.TwoArgumentsError
    assert (error.code, error.reason, str(error)) == (7, "seven", "7: seven")


def test_an_exception_that_holds_what_cant_be_sent_leaves_that_behind(rig):
    error = rig().error(procfns.raise_with_lock)
    assert type(error) is ValueError
    assert str(error) == "holds a lock"
    assert error.size == 3
    assert "can't leave its process" in error.lock


def test_an_exception_that_cant_travel_at_all_has_a_stand_in(rig):
    error = rig().error(procfns.raise_insisting)
    assert type(error) is NervError
    assert "InsistingError: s" in str(error)
    assert "raise_insisting" in error.__notes__[0]


def test_an_exception_of_a_local_class_comes_back(rig):
    error = rig().error(procfns.raise_local)
    assert type(error).__name__ == "LocalError"
    assert str(error) == "of nowhere"


@pytest.mark.parametrize("name", ["cancelled", "interrupt", "exit", "gen"])
def test_no_exception_of_a_task_ends_the_worker(rig, name):
    one = rig()
    before = one.value(procfns.pid)
    error = one.error(procfns.raise_base, name)
    assert not isinstance(error, Exception)
    assert error.args == ("from the task",)
    assert one.value(procfns.pid) == before


def test_large_values_go_both_ways(rig):
    one = rig(2)
    size = 100_000_000
    data = bytes(range(256)) * (size // 256)
    assert len(one.value(procfns.big, size)) == size
    assert one.value(procfns.size, data) == len(data)
    assert one.value(procfns.echo_big, data) == data


def test_both_sides_may_write_much_at_once(rig):
    one = rig()
    for _ in range(3):
        one.call(procfns.leave_a_babbler)
        data = bytes(20_000_000)
        assert one.value(procfns.echo_big, data) == data


# ---- the context ----------------------------------------------------------------------------------------------------


def test_the_context_tells_the_facts(rig):
    one = rig()
    one.desk.live.params.update(x=1, long="l" * 5000)
    *facts, known, pid = one.value(procfns.facts)
    assert facts == ["t", "execution-1", "wf-1", "flow", 1]
    assert known == {"x": 1, "long": "l" * 5000, "workflow_id": "wf-1", "execution_id": "execution-1"}
    assert pid != os.getpid()
    assert one.value(procfns.annotated) == "t"


def test_params_are_fetched_when_they_are_looked_at(rig):
    one = rig()
    one.desk.live.params.update(lock=threading.Lock(), rows=[1, 2])
    assert one.value(procfns.params_of, "rows", "rows") == [[1, 2], [1, 2]]
    error = one.error(procfns.params_of, "lock")
    assert "the param 'lock' (a lock), which task 't' looks at, can't be sent" in str(error)
    error = one.error(procfns.params_of, "nowhere")
    assert "'nowhere'" in str(error)


def test_long_values_arent_sent_unless_they_are_looked_at(rig):
    one = rig()
    one.desk.live.params["long"] = "l" * 10**6
    one.desk.live.values["a"] = list(range(10**5))
    call = one.call(procfns.facts)
    assert len(one.pool._sender.body(call)[1]) < 1000


def run_dependent(one, fn, *args):
    (call,) = one.put(TaskDef("t", fn, args=args, dependencies=["a", "b", "lock", "missing"]))
    one.end(call)
    if call.error is not None:
        raise call.error
    return call.value


def test_results_are_those_of_declared_dependencies(rig):
    one = rig()
    one.desk.live.values.update(a=1, b=["long" * 1000], lock=threading.Lock(), stranger=3)
    assert run_dependent(one, procfns.results_of) == (["a", "b", "lock"], 3)
    assert run_dependent(one, procfns.result_of, "a") == 1
    assert run_dependent(one, procfns.result_of, "b") == ["long" * 1000]
    assert "is no declared dependency" in run_dependent(one, procfns.careful_result_of, "stranger")
    text = run_dependent(one, procfns.careful_result_of, "missing")
    assert "'missing' has no result here: it isn't COMPLETED" in text


def test_a_result_that_cant_be_sent_hurts_only_who_asks_for_it(rig):
    one = rig()
    one.desk.live.values.update(a=1, lock=threading.Lock())
    text = run_dependent(one, procfns.careful_result_of, "lock")
    assert text.startswith("SerializationError: the result of task 'lock' (a lock), which task 't' looks at, can't be")
    assert run_dependent(one, procfns.result_of, "a") == 1


def test_services_are_explained(rig):
    error = rig().error(procfns.services)
    assert type(error) is NervError
    assert "ctx.services doesn't exist in a worker process" in str(error)


def test_progress_and_log_lines_arrive_before_the_end(rig, caplog):
    one = rig()
    with caplog.at_level(logging.WARNING, "nerv.tasks"):
        assert one.value(procfns.talk) == "talked"
    assert one.desk.reports == [("t", 1, 4, "a quarter"), ("t", 2, None, "")]
    entries = [(entry.task_id, entry.attempt, entry.level, entry.message) for entry in one.desk.live.logs]
    assert entries == [("t", 1, "INFO", "one line"), ("t", 1, "WARNING", "last")]
    assert [(record.name, record.getMessage()) for record in caplog.records] == [("nerv.tasks.t", "last")]


def test_a_cancelled_call_learns_of_it(rig, tmp_path, fifo):
    one = rig()
    announce = fifo("announce")
    (call,) = one.put(TaskDef("t", procfns.announce_until_cancelled, args=(str(announce),)))
    pid = read_when_there(announce)
    one.pool.tell_cancelled([call])
    one.end(call)
    assert isinstance(call.error, TaskCancelledError)
    assert one.value(procfns.pid) == pid


def test_a_cancel_for_a_call_that_has_ended_is_nobodys(rig):
    one = rig()
    call = one.call(procfns.inc, 1)
    one.pool.tell_cancelled([call])
    assert one.value(procfns.inc, 2) == 3


# ---- dying ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fn", "args", "words"),
    [
        (procfns.die, (3,), "ended with exit code 3"),
        (procfns.die, (0,), "ended with exit code 0"),
        (procfns.die_by, (signal.SIGKILL,), "was killed by SIGKILL"),
        (procfns.die_by, (signal.SIGSEGV,), "was killed by SIGSEGV"),
        (procfns.die_by, (getattr(signal, "SIGRTMIN", 0) + 1,), "was killed by "),  # has no name on Linux
    ],
    ids=["exit", "exit 0", "SIGKILL", "SIGSEGV", "unnamed"],
)
def test_a_crash_fails_its_own_task_and_the_pool_goes_on(rig, fn, args, words):
    one = rig()
    error = one.error(fn, *args)
    assert type(error) is WorkerCrashedError
    assert "task 't'" in str(error)
    assert words in str(error)
    assert one.value(procfns.inc, 1) == 2


def test_a_crash_doesnt_touch_other_workers(rig, fifo):
    one = rig(2)
    announce, gate = fifo("announce"), fifo("gate")
    (bystander,) = one.put(TaskDef("b", procfns.announce_and_wait, args=(str(announce), str(gate))))
    read_when_there(announce)
    one.error(procfns.die)
    fifo.release(gate)
    assert one.end(bystander)[0].error is None


def test_of_a_chunk_only_the_call_that_was_at_it_fails(rig, tmp_path):
    one = rig()
    one.chunk_all()
    trace = tmp_path / "trace"
    calls = one.put(*[TaskDef(f"t{i}", procfns.mark_or_die, args=(str(trace), i, 20)) for i in range(50)])
    one.end(*calls)
    assert len(one.desk.taken[0]) == 50
    assert [call.task.id for call in calls if call.error is not None] == ["t20"]
    assert [call.value for call in calls if call.error is None] == [i for i in range(50) if i != 20]
    assert trace.read_text().split() == [str(i) for i in range(50)], "each ran exactly once, in order"
    assert one.desk.given_back == calls[21:]


def test_a_call_that_was_sent_to_a_dying_worker_runs_on_another(rig):
    one = rig()
    pid = one.value(procfns.pid)
    worker = psutil.Process(pid)
    worker.suspend()  # it won't begin what it is sent
    calls = one.put(TaskDef("a", procfns.pid))
    one.desk.wait(lambda: one.desk.taken[-1] == [calls[0].number])
    worker.kill()
    one.end(*calls)
    assert calls[0].error is None
    assert calls[0].value != pid


def test_rubbish_in_the_pipe_is_the_end_of_the_worker_only(rig):
    one = rig()
    error = one.error(procfns.write_rubbish)
    assert type(error) is WorkerCrashedError
    assert one.value(procfns.inc, 1) == 2


def test_a_call_that_was_cancelled_between_two_workers_learns_of_it(rig):
    one = rig()
    worker = psutil.Process(one.value(procfns.pid))
    worker.suspend()
    (call,) = one.put(TaskDef("a", procfns.until_cancelled))
    one.desk.wait(lambda: one.desk.taken[-1] == [call.number])
    call.cancelled = True
    one.pool.tell_cancelled([call])
    worker.kill()
    one.end(call)
    assert call.value == "told"


def test_a_call_that_was_given_up_between_two_workers_isnt_run(rig, tmp_path):
    one = rig()
    worker = psutil.Process(one.value(procfns.pid))
    worker.suspend()
    (call,) = one.put(TaskDef("a", procfns.mark, args=(str(tmp_path / "trace"), 1)))
    one.desk.wait(lambda: one.desk.taken[-1] == [call.number])
    call.abandoned = True
    one.pool.abandon([call])
    assert one.value(procfns.inc, 1) == 2
    assert not (tmp_path / "trace").exists()


def test_an_idle_worker_that_dies_is_replaced_when_it_is_needed(rig):
    one = rig()
    pid = one.value(procfns.pid)
    os.kill(pid, signal.SIGKILL)
    assert one.value(procfns.pid) != pid


def test_a_worker_that_left_a_fork_behind_is_seen_to_have_died(rig, tmp_path):
    one = rig()
    announce = tmp_path / "announce"
    error = one.error(procfns.fork_and_die, str(announce))
    assert "exit code 5" in str(error)
    os.kill(int(announce.read_text()), signal.SIGKILL)


def test_what_a_dead_worker_has_started_dies_too(rig, fifo):
    one = rig()
    announce, gate = fifo("announce"), fifo("gate")
    (call,) = one.put(TaskDef("t", procfns.start_sleeper_and_wait, args=(str(announce), str(gate))))
    sleeper = read_when_there(announce)
    (worker,) = one.pids()
    os.kill(worker, signal.SIGKILL)
    one.end(call)
    assert gone(sleeper)


def test_abandoned_calls_are_killed_and_their_worker_replaced(rig, fifo):
    one = rig()
    announce, gate = fifo("announce"), fifo("gate")
    (call,) = one.put(TaskDef("t", procfns.ignore_sigterm_and_wait, args=(str(announce), str(gate))))
    worker = read_when_there(announce)
    call.abandoned = True
    one.pool.abandon([call])
    assert gone(worker)
    assert one.value(procfns.pid) != worker
    assert call not in one.desk.ended


def test_work_that_waits_is_taken_up_after_an_abandon(rig, fifo):
    one = rig()
    announce, gate = fifo("announce"), fifo("gate")
    (call,) = one.put(TaskDef("t", procfns.announce_and_wait, args=(str(announce), str(gate))))
    waiting = one.put(TaskDef("w", procfns.pid))
    worker = read_when_there(announce)
    call.abandoned = True
    one.pool.abandon([call])
    one.end(*waiting)
    assert waiting[0].value != worker


@contextmanager
def broken_interpreter():
    before = sys.executable
    sys.executable = shutil.which("false")
    try:
        yield
    finally:
        sys.executable = before


def test_workers_that_cant_start_are_given_up_with_an_explanation(rig):
    one = rig(2)
    with broken_interpreter():
        calls = one.put(*[TaskDef(f"t{i}", procfns.pid) for i in range(5)])
        one.end(*calls)
    assert {type(call.error) for call in calls} == {WorkerCrashedError}
    text = str(calls[0].error)
    assert "task 't0': the process pool 'process' can't start worker processes: 3 in a row failed" in text
    assert "exit code 1" in text
    assert one.value(procfns.inc, 1) == 2, "the next work gets another chance"


@pytest.mark.parametrize("path", ["/nowhere/python", "", None])
def test_an_interpreter_that_isnt_there_is_explained(rig, monkeypatch, path):
    one = rig()
    monkeypatch.setattr(sys, "executable", path)
    error = one.error(procfns.pid)
    assert "couldn't be started (FileNotFoundError" in str(error)
    monkeypatch.undo()
    assert one.value(procfns.inc, 1) == 2


# ---- chunks ---------------------------------------------------------------------------------------------------------


def test_calls_are_taken_one_by_one_until_they_are_known_to_be_quick(rig):
    one = rig()
    one.end(*one.put(*[TaskDef("t", procfns.inc, args=(i,)) for i in range(2000)]))
    sizes = list(map(len, one.desk.taken))
    assert sizes[0] == 1
    assert max(sizes) > 4
    assert sum(sizes) - len(one.desk.given_back) == 2000


def test_a_chunk_is_no_more_than_a_workers_share(rig):
    one = rig(2)
    one.warm(procfns.inc, 1)
    before = len(one.desk.taken)
    one.end(*one.put(*[TaskDef("t", procfns.inc, args=(i,)) for i in range(20)]))
    assert max(map(len, one.desk.taken[before:])) <= 10


def test_a_function_that_was_never_measured_isnt_sent_with_others(rig):
    one = rig()
    one.pool._sender.function(procfns.inc).seconds = 1e-6
    one.pool._stride._calls, one.pool._stride._pace = 64, 1e-6
    calls = one.put(*[TaskDef("t", fn, args=(1,)) for fn in (procfns.inc, procfns.identity) for _ in range(20)])
    one.end(*calls)
    assert len(one.desk.taken[0]) == 40, "it was taken with others"
    assert one.desk.given_back[:20] == calls[20:]
    assert [calls[20].number] in one.desk.kept


def test_results_of_a_chunk_that_are_too_large_for_the_board_come_in_their_turn(rig):
    one = rig()
    one.chunk_all()
    sizes = [i if i % 7 else 70_000 + i for i in range(60)]
    calls = one.put(*[TaskDef("t", procfns.big, args=(size,)) for size in sizes])
    one.end(*calls)
    assert len(one.desk.taken[0]) == 60
    assert [len(call.value) for call in calls] == sizes


def test_a_chunk_that_is_held_up_is_recalled(rig, tmp_path, fifo):
    one = rig(2)
    trace, gate = tmp_path / "trace", fifo("gate")
    one.chunk_all(patience=0.01)
    slow = 15
    calls = one.put(*[TaskDef(f"t{i}", procfns.mark_or_wait, args=(str(trace), i, slow, str(gate))) for i in range(60)])
    others = [call for call in calls if call is not calls[slow]]
    one.end(*others)
    assert calls[slow] not in one.desk.ended, "the others didn't wait for it"
    assert calls[slow] in one.desk.begun or not calls[slow].claimed
    fifo.release(gate)
    one.end(calls[slow])
    assert [call.value for call in calls] == list(range(60))
    assert sorted(map(int, trace.read_text().split())) == list(range(60)), "each ran exactly once"


# ---- closing --------------------------------------------------------------------------------------------------------


def test_close_leaves_nothing_behind(rig, recwarn):
    gc.collect()
    descriptors = psutil.Process().num_fds()
    one = rig(2)
    one.warm(procfns.inc, 1)
    pids = one.pids()
    one.error(procfns.die)
    one.pool.close(5.0)
    assert not one.pool._thread.is_alive()
    assert not any(psutil.pid_exists(pid) for pid in pids)
    one.pool.close(5.0)
    one = None
    gc.collect()
    assert psutil.Process().num_fds() == descriptors
    assert not recwarn.list


def test_workers_are_let_go_politely(rig, tmp_path):
    one = rig()
    farewell = tmp_path / "farewell"
    one.call(light.at_exit_write, str(farewell))
    one.pool.close(5.0)
    assert farewell.read_text() == "goodbye"


STUBBORN = {"waits": procfns.announce_and_wait, "ignores SIGTERM": procfns.ignore_sigterm_and_wait}


@pytest.mark.parametrize("fn", STUBBORN.values(), ids=STUBBORN)
def test_close_ends_what_is_still_running(rig, fifo, fn):
    one = rig()
    announce, gate = fifo("announce"), fifo("gate")
    (call,) = one.put(TaskDef("t", fn, args=(str(announce), str(gate))))
    worker = read_when_there(announce)
    one.pool.close(0.2)
    assert not one.pool._thread.is_alive()
    assert gone(worker)
    assert call in one.desk.ended
    assert isinstance(call.error, WorkerCrashedError)


def test_close_while_workers_are_starting(rig):
    one = rig(2)
    one.put(*[TaskDef("t", procfns.pid) for _ in range(4)])
    one.pool.close(2.0)
    assert not one.pool._thread.is_alive()
    assert not one.pool._crew.children
