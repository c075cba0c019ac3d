"""Closing never hangs and leaves nothing behind; abandoned work never holds the interpreter; Ctrl-C stops a run."""

import asyncio
import gc
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import warnings
import weakref

import pytest

import nerv
from nerv import NervError, Output, TaskDef, WorkflowManager, run
from nerv.clock import FIRST_SLICE, patiently
from tests.handshake import (
    PATIENCE,
    Hold,
    boom,
    ended,
    environment,
    eventually,
    flow,
    give,
    nerv_threads,
    python,
    reached,
    statuses,
)

# ---- closing in the middle -------------------------------------------------------------------------------------------


def test_closing_in_the_middle_lets_what_runs_end_within_grace():
    """Nothing new starts; what returns is COMPLETED and wasn't told to stop; the rest is CANCELLED; cleanup runs."""
    hold, log = Hold(5), []

    def work(ctx):
        value = hold(ctx)
        log.append(("told", ctx.cancelled))
        return value

    tasks = [
        TaskDef("running", work),
        TaskDef("next", lambda: log.append("next"), dependencies=["running"]),
        TaskDef("waiting", lambda: log.append("waiting"), priority=0),
        TaskDef("cleanup", lambda: log.append("cleanup"), dependencies=["next"], run_when="all_finished"),
    ]
    manager = WorkflowManager(workers=1, grace=PATIENCE)
    execution = manager.start(flow(*tasks))
    hold.entered()
    closer = threading.Thread(target=manager.close)
    closer.start()
    eventually(lambda: manager.engine.draining)
    hold.go()
    closer.join()
    expected = {"running": "COMPLETED", "next": "CANCELLED", "waiting": "CANCELLED", "cleanup": "COMPLETED"}
    assert statuses(execution) == expected
    assert log == [("told", False), "cleanup"]
    assert execution.status.name == "CANCELLED"
    assert list(execution.events())[-1].data["reason"] == "the engine was closed"


def test_closing_cancels_after_grace_and_abandons_after_another():
    """What listens stops; what doesn't is given up, and its late result is ignored."""
    polite, deaf = Hold(deaf=False), Hold("late")
    manager = WorkflowManager(workers=2, grace=0.01)
    reader = TaskDef("x", give, args=(Output("deaf"),))
    execution = manager.start(flow(TaskDef("polite", polite), TaskDef("deaf", deaf), reader))
    polite.entered()
    deaf.entered()
    manager.close()
    assert execution.wait(0)
    assert statuses(execution) == {"polite": "CANCELLED", "deaf": "CANCELLED", "x": "CANCELLED"}
    deaf.go()
    eventually(lambda: not nerv_threads())
    assert statuses(execution)["deaf"] == "CANCELLED"


@pytest.mark.parametrize("again", range(5))
def test_all_executions_are_closed_before_any_of_them_goes_on(again):
    """While closing, the worker that gets free starts nothing, however many have something ready."""
    hold, ran = Hold(), []
    manager = WorkflowManager(workers=1, grace=PATIENCE)
    first = manager.start(flow(TaskDef("a", hold), TaskDef("b", lambda: ran.append(1))))
    hold.entered()
    rest = [manager.start(flow(*(TaskDef(str(n), lambda: ran.append(1)) for n in range(3)))) for _ in range(40)]
    closer = threading.Thread(target=manager.close)
    closer.start()
    eventually(lambda: manager.engine.draining)
    hold.go()
    closer.join()
    assert ran == []
    assert {execution.status.name for execution in [first, *rest]} == {"CANCELLED"}


@pytest.mark.parametrize("state", ["paused", "drained", "lending", "waiting inline"])
def test_closing_ends_executions_in_any_state(state):
    """None hangs."""
    hold = Hold(deaf=False)
    manager = WorkflowManager(workers=1, grace=0.05)
    if state == "lending":

        def work():
            inner = manager.start(flow(TaskDef("i", hold)))
            inner.wait()
            return inner.status.name

    else:
        work = hold
    pool = "inline" if state == "waiting inline" else None
    execution = manager.start(flow(TaskDef("a", work, pool=pool), TaskDef("b", give, args=(Output("a"),))))
    if state != "waiting inline":
        hold.entered()
    if state == "paused":
        execution.pause()
    elif state == "drained":
        manager.drain(0)
    manager.close()
    assert execution.wait(0)
    assert execution.status.name == "CANCELLED"


@pytest.mark.parametrize("pool", ["thread", "inline", "async"])
def test_a_task_may_close_its_own_manager(pool):
    """It is given up after grace; close returns to it, and everybody else is told of the end."""
    closed = threading.Event()
    manager = WorkflowManager(workers=1, grace=0.01)

    def close():
        manager.close()
        closed.set()

    async def close_async():
        close()

    work = close_async if pool == "async" else close
    execution = manager.start(flow(TaskDef("a", work, pool=pool), TaskDef("b", lambda: 1, dependencies=["a"])))
    ended(execution)
    reached(closed)
    assert execution.status.name == "CANCELLED"


def test_a_handler_may_close_its_manager():
    """From the delivery thread; nobody waits for himself."""
    manager, closed = WorkflowManager(grace=0.05), threading.Event()

    def close(_):
        manager.close()
        closed.set()

    manager.event_bus.subscribe("TASK_COMPLETED", close)
    ended(manager.start(flow(TaskDef("a", lambda: 1), TaskDef("b", lambda: 1, dependencies=["a"]))))
    reached(closed)


def test_closing_from_many_threads_closes_once():
    """All of them return when it is closed."""
    hold = Hold(deaf=False)
    manager = WorkflowManager(grace=0.02)
    execution = manager.start(flow(TaskDef("a", hold)))
    hold.entered()
    states = []
    closers = [
        threading.Thread(target=lambda: (manager.close(), states.append(execution.status.name))) for _ in range(16)
    ]
    for closer in closers:
        closer.start()
    for closer in closers:
        closer.join()
    assert states == ["CANCELLED"] * 16


def test_a_task_that_starts_something_while_its_manager_closes_is_told():
    """The start is refused with the reason; that is the task's own failure."""
    hold = Hold()
    manager = WorkflowManager(workers=1, grace=PATIENCE)

    def work(ctx):
        hold(ctx)
        manager.start(flow(TaskDef("i", lambda: 1)))

    execution = manager.start(flow(TaskDef("a", work)))
    hold.entered()
    closer = threading.Thread(target=manager.close)
    closer.start()
    eventually(lambda: manager._closed)
    hold.go()
    closer.join()
    assert isinstance(execution.failures["a"], NervError)
    assert "closed" in str(execution.failures["a"])


def test_leaving_the_with_block_by_an_error_closes_too():
    """And lets the error through."""
    with pytest.raises(ValueError, match="boom"), WorkflowManager(grace=0.01) as manager:
        execution = manager.start(flow(TaskDef("a", Hold(deaf=False))))
        boom()
    assert execution.status.name == "CANCELLED"


# ---- nothing is left -------------------------------------------------------------------------------------------------


def test_closing_leaves_no_thread_and_no_warning():
    """After run, start, arun and a manager, with threads, coroutines, inline tasks, handlers and failures."""

    async def co():
        await asyncio.sleep(0)

    tasks = [
        TaskDef("t", lambda: 1),
        TaskDef("c", co, dependencies=["t"]),
        TaskDef("i", lambda: 1, pool="inline", dependencies=["c"]),
        TaskDef("bad", boom, dependencies=["i"]),
    ]
    options = {"on_event": lambda _: None, "workers": 4}
    before = threading.active_count()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            run(flow(*tasks), raise_on_failure=False, **options)
            ended(nerv.start(flow(*tasks), **options))
            asyncio.run(nerv.arun(flow(*tasks), raise_on_failure=False, **options))
            with WorkflowManager(workers=4) as manager:
                ended(manager.start(flow(*tasks), on_event=options["on_event"]))
        gc.collect()
    assert threading.active_count() == before
    assert [str(warning.message) for warning in caught] == []


@pytest.mark.parametrize("wrong", [{"targets": ["x"]}, {"workers": 0}, {"on_event": 5}])
def test_a_refused_run_leaves_no_thread(wrong):
    """Nothing was started for it."""
    before = threading.active_count()
    for entry in (run, nerv.start):
        with pytest.raises((KeyError, ValueError, TypeError)):
            entry(flow(TaskDef("a", lambda: 1)), **wrong)
    assert threading.active_count() == before


def test_a_closed_manager_and_its_executions_can_be_collected():
    """Nothing holds them: no atexit hook, no thread, no table."""

    class Value:
        pass

    def use():
        with WorkflowManager() as manager:
            manager.event_bus.subscribe("TASK_COMPLETED", lambda _: None)
            execution = ended(manager.start(flow(TaskDef("a", Value))))
            return weakref.ref(manager), weakref.ref(execution), weakref.ref(execution["a"])

    references = use()
    eventually(lambda: gc.collect() is not None and [one() for one in references] == [None] * 3)


def test_an_idle_or_blocked_engine_does_not_poll():
    """With work running and more of it waiting for room, nobody looks again and again."""
    holds = [Hold(), Hold()]
    with WorkflowManager(workers=2) as manager:
        tasks = [TaskDef(f"h{n}", hold, priority=9) for n, hold in enumerate(holds)]
        execution = manager.start(flow(*tasks, *(TaskDef(str(n), lambda: 1) for n in range(50))))
        for hold in holds:
            hold.entered()
        pool = manager._pools["thread"]
        eventually(lambda: pool._standby is None)
        looks = pool.looks
        threading.Event().wait(0.05)
        assert pool.looks == looks
        for hold in holds:
            hold.go()
        ended(execution)
        eventually(lambda: pool._standby is None)
        looks = pool.looks
        threading.Event().wait(0.05)
        assert pool.looks == looks


# ---- the interpreter's end -------------------------------------------------------------------------------------------

HUNG = """
import asyncio, threading, time
import nerv
began = threading.Event()

def hang():
    began.set()
    threading.Event().wait()

async def swallow():
    began.set()
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass

async def block():
    began.set()
    threading.Event().wait()

def flow(fn):
    return nerv.Workflow("wf", [nerv.TaskDef("hung", fn), nerv.TaskDef("next", print, dependencies=["hung"])])
"""


def test_abandoned_work_never_holds_the_interpreter():
    """A thread, a coroutine that ignores its cancel, one that blocks its loop: the program ends in silence."""
    out, err = python(
        HUNG
        + """
for fn in (hang, swallow, block):
    execution = nerv.start(flow(fn), grace=0.02)
    began.wait()
    began.clear()
    execution.cancel()
    execution.wait()
    print(execution.status.name, execution.task("hung").status.name)
"""
    )
    assert out == "CANCELLED CANCELLED\n" * 3
    assert err == ""


def test_a_program_that_ends_with_work_under_way_ends():
    """Nobody waited or closed: it is given grace, cancelled, abandoned; no word on stderr, and no task is started."""
    out, err = python(
        HUNG
        + """
for fn in (hang, swallow, block):
    nerv.start(flow(fn), grace=0.02, on_event=lambda event: print(event.type.value))
    began.wait()
    began.clear()
"""
    )
    assert out.count("WORKFLOW_CANCELLED") == 3
    assert out.count("TASK_STARTED") == 3
    assert err == ""


def test_a_program_that_ends_right_after_start_lets_it_run():
    """Within grace, what was started ends first, handlers included."""
    out, err = python(
        """
        import nerv
        done = nerv.TaskDef("a", lambda: print("ran"))
        manager = nerv.WorkflowManager()
        began = __import__("threading").Event()
        execution = manager.start(nerv.Workflow("wf", [nerv.TaskDef("a", lambda: (began.set(), print("ran")))]))
        began.wait()
        """
    )
    assert out == "ran\n"
    assert err == ""


def test_a_hung_handler_never_holds_the_interpreter():
    """run warns and returns, and the program ends."""
    out, err = python(
        """
        import threading, warnings
        import nerv
        warnings.simplefilter("ignore")
        execution = nerv.run(
            nerv.Workflow("wf", [nerv.TaskDef("a", lambda: 1)]), on_event=lambda _: threading.Event().wait(), grace=0.02
        )
        print(execution["a"])
        """
    )
    assert out == "1\n"
    assert "was closed while" in err or err == ""


# ---- Ctrl-C ----------------------------------------------------------------------------------------------------------

INTERRUPTED = """
import asyncio, gc, sys, threading
import nerv
from nerv.engine import Engine

def draining():
    return any(type(one) is Engine and getattr(one, "draining", False) for one in gc.get_objects())

def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\\n")
    sys.stdout.flush()

def finishes(ctx):
    say("ready")
    while not draining():
        threading.Event().wait(0.001)
    say("finished, told:", ctx.cancelled)

def polite(ctx):
    say("ready")
    while not ctx.cancelled:
        threading.Event().wait(0.001)
    say("stopped")
    ctx.check_cancelled()

def deaf():
    say("ready")
    threading.Event().wait()

async def forever():
    say("ready")
    try:
        await asyncio.Event().wait()
    finally:
        say("coroutine cancelled")

def watch():
    while not draining():
        threading.Event().wait(0.001)
    say("draining")

def flow(fn):
    return nerv.Workflow("wf", [
        nerv.TaskDef("a", fn),
        nerv.TaskDef("never", lambda: say("never"), dependencies=["a"]),
        nerv.TaskDef("beside", lambda: say("never"), priority=0, dependencies=["a"] if fn is forever else []),
        nerv.TaskDef("cleanup", lambda: say("cleanup"), dependencies=["never"], run_when="all_finished"),
    ])

def end(event):
    if event.type.value.startswith("WORKFLOW"):
        say(event.type.value)
"""


def interrupted(code, *, again_after=None):
    """What a program that gets Ctrl-C once it is ready prints, its stderr, and its exit code.

    With `again_after` it gets a second one when it has said that.
    """
    command = [sys.executable, "-c", INTERRUPTED + textwrap.dedent(code)]
    options = {"text": True, "env": environment(), "start_new_session": True}
    with (
        tempfile.TemporaryFile("w+") as complaints,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaints, **options) as process,
    ):
        try:
            said = []
            for word in filter(None, ["ready", again_after]):
                while word not in said:
                    line = process.stdout.readline()
                    assert line, _all_of(complaints)
                    said.append(line.strip())
                process.send_signal(signal.SIGINT)
            said += process.stdout.read().splitlines()  # `communicate` would lose what `readline` has read ahead
            process.wait(PATIENCE)
        finally:
            process.kill()
        return said, _all_of(complaints), process.returncode


def _all_of(file):
    file.seek(0)
    return file.read()


def test_ctrl_c_lets_what_runs_end_within_grace_and_starts_nothing_more():
    """What finishes isn't told; the rest is CANCELLED, cleanup runs, handlers hear the end, then it is re-raised."""
    said, err, code = interrupted("nerv.run(flow(finishes), workers=1, grace=30, on_event=end)")
    assert [word for word in said if not word.startswith("WORKFLOW")] == ["ready", "finished, told: False", "cleanup"]
    assert said[-1] == "WORKFLOW_CANCELLED"
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert code == -signal.SIGINT


def test_ctrl_c_cancels_after_grace():
    """What still runs is told and stops; what is deaf is abandoned."""
    said, _, _ = interrupted("nerv.run(flow(polite), workers=1, grace=0.05)")
    assert said == ["ready", "stopped", "cleanup"]
    said, err, code = interrupted("nerv.run(flow(deaf), workers=1, grace=0.05)")
    assert said == ["ready", "cleanup"]
    assert err.count("Traceback") == 1
    assert code == -signal.SIGINT


def test_ctrl_c_can_be_caught():
    """The program goes on after run, which left nothing running."""
    said, err, code = interrupted(
        """
        try:
            nerv.run(flow(polite), workers=1, grace=0.05)
        except KeyboardInterrupt:
            say("caught", threading.active_count())
        """
    )
    assert said == ["ready", "stopped", "cleanup", "caught 1"]
    assert (err, code) == ("", 0)


def test_a_second_ctrl_c_does_not_wait_for_grace():
    """Though there are thirty seconds of it left."""
    said, err, _ = interrupted(
        """
        threading.Thread(target=watch, daemon=True).start()
        nerv.run(flow(deaf), workers=1, grace=30)
        """,
        again_after="draining",
    )
    assert said == ["ready", "draining"]
    assert err.rstrip().endswith("KeyboardInterrupt")


def test_the_main_thread_sleeps_in_slices():
    """Each twice as long, so that a signal which came while it fell asleep is noticed; nobody else does."""
    slept = []

    def wait(timeout):
        slept.append(timeout)
        return len(slept) == 6

    assert patiently(wait) is True
    assert slept == pytest.approx([FIRST_SLICE * 2**n for n in range(6)])
    slept.clear()
    assert patiently(lambda timeout: slept.append(timeout) or False, FIRST_SLICE / 2) is False
    assert slept == pytest.approx([FIRST_SLICE / 2], rel=0.1)
    slept.clear()
    thread = threading.Thread(target=lambda: patiently(lambda timeout: slept.append(timeout) or True, 7))
    thread.start()
    thread.join()
    assert slept == [7]


def test_ctrl_c_under_arun_cancels_the_run():
    """asyncio.run cancels it, arun cancels the execution and waits for its end; KeyboardInterrupt comes out."""
    said, err, code = interrupted("asyncio.run(nerv.arun(flow(forever), grace=0.05, on_event=end))")
    assert sorted(said) == ["WORKFLOW_CANCELLED", "WORKFLOW_STARTED", "cleanup", "coroutine cancelled", "ready"]
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert code == -signal.SIGINT
