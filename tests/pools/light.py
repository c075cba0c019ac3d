"""Functions whose module imports nothing of nerv: what else a worker has loaded is its own doing."""

import atexit
import sys
from time import perf_counter


def inc(x):
    return x + 1


def spin(seconds):
    """Keep a core busy, by the clock."""
    end = perf_counter() + seconds
    while perf_counter() < end:
        pass


def modules(names):
    return [name for name in names if name in sys.modules]


def look_at_main():
    """What libraries look at to see how the program was started."""
    import __main__

    return __main__.__file__, hasattr(__main__, "__interactive__")


def at_exit_write(path):
    def write():
        with open(path, "w") as file:
            file.write("goodbye")

    atexit.register(write)
