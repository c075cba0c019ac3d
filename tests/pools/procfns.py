"""Functions that worker processes import. What they wait for is a fifo or a file, so that no test sleeps."""

import asyncio
import contextvars
import os
import signal
import stat
import subprocess
import sys
import threading

from nerv import TaskContext, task

variable = contextvars.ContextVar("variable", default="unset")


def pid():
    return os.getpid()


def add(a, b=0):
    return a + b


def inc(x):
    return x + 1


def identity(x):
    return x


def nothing():
    return None


@task
def tripled(x):
    return 3 * x


def mark(path, x):
    """Leave a trace of each call, whatever becomes of it."""
    with open(path, "a") as file:
        file.write(f"{x}\n")
    return x


def mark_or_die(path, x, deadly):
    mark(path, x)
    if x == deadly:
        os._exit(7)
    return x


def mark_or_wait(path, x, slow, fifo):
    mark(path, x)
    if x == slow:
        wait_for(fifo)
    return x


def wait_for(fifo):
    """Until somebody opens the fifo for writing."""
    with open(fifo) as file:
        return file.read()


def announce_and_wait(announce, fifo):
    with open(announce, "w") as file:
        file.write(str(os.getpid()))
    return wait_for(fifo)


def ignore_sigterm_and_wait(announce, fifo):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return announce_and_wait(announce, fifo)


def start_sleeper_and_wait(announce, fifo):
    sleeper = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    with open(announce, "w") as file:
        file.write(str(sleeper.pid))
    return wait_for(fifo)


def fork_and_die(announce):
    """Leave a child behind that has everything of ours that it can inherit."""
    child = os.fork()
    if not child:
        os.setsid()  # out of the group that is killed with the worker
        signal.pause()
    with open(announce, "w") as file:
        file.write(str(child))
    os._exit(5)


def die(code=3):
    os._exit(code)


def die_by(number):
    os.kill(os.getpid(), number)
    signal.pause()


class TwoArgumentsError(Exception):
    def __init__(self, code, reason):
        super().__init__(f"{code}: {reason}")
        self.code, self.reason = code, reason


class InsistingError(Exception):
    """Can't be made, by anything but its own constructor."""

    def __new__(cls, *, secret):
        return super().__new__(cls, secret)

    def __init__(self, *, secret):
        super().__init__(secret)

    def __reduce__(self):
        raise TypeError("I stay here")


def deep_boom():
    def inner():
        raise ValueError("boom")

    inner()


def raise_two_arguments():
    raise TwoArgumentsError(7, "seven")


def raise_with_lock():
    error = ValueError("holds a lock")
    error.lock = threading.Lock()
    error.size = 3
    raise error


def raise_insisting():
    raise InsistingError(secret="s")


def raise_local():
    class LocalError(Exception):
        pass

    raise LocalError("of nowhere")


def raise_base(name):
    kinds = {"cancelled": asyncio.CancelledError, "interrupt": KeyboardInterrupt, "exit": SystemExit}
    raise kinds.get(name, GeneratorExit)("from the task")


class Unreadable:
    """Pickles, but not back."""

    def __reduce__(self):
        return _refuse, ()


def _refuse():
    raise ValueError("not here")


def unreadable():
    return Unreadable()


def generator():
    return (i for i in range(3))


def closure():
    return lambda x: x + 40


def big(n):
    return bytes(n)


def size(data):
    return len(data)


def echo_big(data):
    return data


def bad_words():
    os.write(2, b"words on stderr\n")


def standard_input():
    return sys.stdin.read()


def session():
    return os.getpid(), os.getpgrp(), os.getsid(0)


def context_variable():
    return variable.get()


def modules(names):
    return [name for name in names if name in sys.modules]


def facts(ctx):
    return ctx.task_id, ctx.execution_id, ctx.workflow_id, ctx.workflow_name, ctx.attempt, dict(ctx), os.getpid()


def annotated(it: TaskContext):
    return it.task_id


def params_of(ctx, *names):
    return [ctx[name] for name in names]


def results_of(ctx):
    return sorted(ctx.results), len(ctx.results)


def result_of(ctx, task_id):
    return ctx.results[task_id]


def careful_result_of(ctx, task_id):
    try:
        return ctx.results[task_id]
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def services(ctx):
    return ctx.services


def talk(ctx):
    ctx.progress(1, total=4, message="a quarter")
    ctx.logger.info("one %s", "line")
    thread = threading.Thread(target=lambda: ctx.progress(2))
    thread.start()
    thread.join()
    ctx.logger.warning("last")
    return "talked"


def announce_until_cancelled(ctx, announce):
    with open(announce, "w") as file:
        file.write(str(os.getpid()))
    while not ctx.cancelled:
        os.sched_yield()
    ctx.check_cancelled()


def until_cancelled(ctx):
    while not ctx.cancelled:
        os.sched_yield()
    return "told"


def leave_a_babbler(ctx):
    """A thread goes on talking, much and after the end of the call."""
    words = "x" * 100_000

    def babble():
        for _ in range(300):
            ctx.progress(1, message=words)

    threading.Thread(target=babble, daemon=True).start()


def fork_and_go_on():
    """A process forked by a task ends without hurting the worker."""
    child = os.fork()
    if not child:
        os._exit(0)
    return os.waitpid(child, 0)[1]


class Holder:
    """Has a method, and perhaps something that can't be pickled."""

    def __init__(self, held):
        self.held = held

    def get(self):
        return self.held


async def coroutine():
    return 1


def write_rubbish():
    """Write nonsense to whatever this process has open that could be the worker's pipe."""
    for fd in range(3, 4096):
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                os.write(fd, b"\xff" * 1000)
        except OSError:
            continue
    signal.pause()


class Interrupting:
    """Raises no mere Exception when it is pickled."""

    def __reduce__(self):
        raise KeyboardInterrupt("from __reduce__")


class InterruptingLater:
    """Raises no mere Exception when it is unpickled."""

    def __reduce__(self):
        return _interrupt, ()


def _interrupt():
    raise KeyboardInterrupt("from afar")


def interrupting():
    return Interrupting()


def interrupting_later():
    return InterruptingLater()
