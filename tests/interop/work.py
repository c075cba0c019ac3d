"""Functions that worker processes import."""

import asyncio
import os


def five():
    return 5


def add_ten(x):
    return x + 10


def total(x, y):
    return x + y


def nothing():
    return None


def pair(x, y):
    return (x, y)


def own_pid(*_):
    return os.getpid()


def broken(*_):
    raise KeyError("lost")


def leave(*_):
    os._exit(3)


def unsendable():
    return (part for part in "ab")


async def own_pid_async(*_):
    await asyncio.sleep(0)
    return os.getpid()


async def add_ten_async(x):
    await asyncio.sleep(0)
    return x + 10


async def broken_async():
    raise KeyError("lost")
