"""Functions that worker processes import, for tests of `pool="auto"`."""

import os
import threading
import time


def where():
    """In which process it ran."""
    return os.getpid()


def place_of(value):
    """In which process it ran, whatever it was given."""
    del value
    return os.getpid()


def second(value):
    """Another function, to be measured on its own."""
    del value
    return os.getpid()


def lock_in_the_parent(parent):
    """What can't be sent, but only where it need not be."""
    return os.getpid() if os.getpid() == parent else threading.Lock()


def lock():
    """What can't be sent."""
    return threading.Lock()


def services(ctx):
    """It looks at the services."""
    return ctx.services


def told(ctx):
    """It wants the context, but no services."""
    return ctx.task_id, os.getpid()


def fails_in(parent, folder):
    """Fails in this process, once for each name in the folder."""
    if os.getpid() == parent:
        raise RuntimeError("not here")
    return os.getpid(), folder


def undo(result, folder):
    """A compensation that leaves a trace."""
    with open(f"{folder}/undone-{os.getpid()}", "a", encoding="ascii") as file:
        file.write(f"{result}\n")


async def coroutine():
    """For the event loop."""
    return os.getpid()


def burn(rounds):
    """Compute under the interpreter lock."""
    total = 0
    for i in range(rounds):
        total += i * i
    return os.getpid()


def nap(seconds):
    """Wait."""
    time.sleep(seconds)
    return os.getpid()


GATE = threading.Event()
"""Opened by tests, in their own process."""


def gated(value):
    """Waits in this process if it is told to."""
    if value == "wait":
        GATE.wait(30)
    return os.getpid()


def failing(value):
    """Fails."""
    raise RuntimeError(value)
