"""What the tests of the core share: tasks that wait for a word, and ways to wait that can't hang a test."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import nerv

PATIENCE = 20.0
"""Seconds after which a handshake counts as lost."""

REPOSITORY = Path(__file__).resolve().parents[1]


def flow(*tasks, name="wf", **options):
    """A workflow of these tasks."""
    return nerv.Workflow(name, tasks, **options)


def reached(event, what="the other side"):
    """Wait for an event that must come."""
    assert event.wait(PATIENCE), f"waited {PATIENCE} s for {what}"
    return True


def eventually(claim, what="a state that nothing tells of"):
    """Look, again and again, for what has no event to wait on."""
    pause = threading.Event()
    deadline = time.monotonic() + PATIENCE
    while not claim():
        assert time.monotonic() < deadline, f"waited {PATIENCE} s for {what}"
        pause.wait(0.0005)


def ended(execution):
    """The execution, once it has ended."""
    assert execution.wait(PATIENCE), f"it hangs: {execution.summary()}"
    return execution


def statuses(execution):
    """The name of every task's status."""
    return {task: execution.task(task).status.name for task in execution.workflow.tasks}


def kinds(execution, task=None):
    """The types of its events, of one task if one is named."""
    return [event.type.value for event in execution.events() if task is None or event.task_id == task]


class Hold:
    """A task function that says when it was called, and returns `value` when it is let go.

    With `deaf=False` it stops when it is told to, as a good task does.
    """

    def __init__(self, value=None, *, deaf=True):
        self.value = value
        self.deaf = deaf
        self.began = threading.Event()
        self._go = threading.Event()

    def __call__(self, ctx):
        self.began.set()
        if self.deaf:
            reached(self._go, "a word to go on")
            return self.value
        while not self._go.wait(0.001):
            ctx.check_cancelled()
        return self.value

    def go(self):
        """Let it return."""
        self._go.set()

    def entered(self):
        """Wait until it has been called."""
        return reached(self.began, "a task to begin")


class Gauge:
    """Counts how many are inside at once."""

    def __init__(self):
        self._lock = threading.Lock()
        self.inside = self.most = self.total = 0

    def __enter__(self):
        with self._lock:
            self.inside += 1
            self.total += 1
            self.most = max(self.most, self.inside)

    def __exit__(self, *_):
        with self._lock:
            self.inside -= 1


class Incomparable(type):
    """The class of classes that can't be hashed, and mustn't be compared."""

    def __eq__(cls, other):
        raise AssertionError(f"{cls.__name__} was compared")

    __hash__ = None


class Odd(metaclass=Incomparable):
    """Its instances are values like others, whose class no set and no dict can hold."""


def odd(*_):
    """One of them."""
    return Odd()


def boom(*_):
    """Raise what tests look for."""
    raise ValueError("boom")


def give(value):
    """The value itself, as it came."""
    return value


def nerv_threads():
    """The names of nerv's threads that are alive."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("nerv-")]


def environment():
    """The environment in which a fresh interpreter finds this nerv and these tests."""
    paths = [str(REPOSITORY), os.environ.get("PYTHONPATH")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def python(code, *, exit_code=0, timeout=45, hash_seed="random"):
    """Run code in a fresh interpreter, where a warning is an error; the result is what it printed, and its stderr."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code)]
    env = {**environment(), "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=env, check=False)
    assert done.returncode == exit_code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout, done.stderr


def plain(value: object) -> str:
    """A parameter's name without addresses: the processes that share the tests must agree on it."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))
