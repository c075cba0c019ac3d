"""What every test shares: a check that nothing is left running, and hypothesis without a stopwatch."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import settings

# Shared machines stand still now and then: how long one example took says nothing about the code.
settings.register_profile("nerv", deadline=None, print_blob=True)
settings.load_profile("nerv")


APART = ("test_dask", "test_taskmap")
"""Modules of these names import distributed, or dill by way of taskmap: both change what pickle takes in a process."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Such modules are tested in a process of their own (tests/interop/test_with_dask.py)."""
    for item in items:
        if item.path.name.startswith(APART):
            item.add_marker(pytest.mark.with_dask)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """They aren't even looked at where their tests aren't wanted."""
    is_wanted = "not with_dask" not in config.getoption("markexpr", "")
    return True if collection_path.name.startswith(APART) and not is_wanted else None


PATIENCE = 5.0
"""Seconds that threads and processes are given to end after a test."""

HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")
"""The standard library starts one of each when first needed and keeps it as long as we live."""


def nerv_threads() -> set[threading.Thread]:
    """The living threads that nerv started."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("nerv-")}


def is_helper(process: psutil.Process) -> bool:
    """Whether it is the standard library's own child of ours; a worker forked by it has its command line too."""
    try:
        command = " ".join(process.cmdline())
        return process.ppid() == psutil.Process().pid and any(name in command for name in HELPERS)
    except psutil.NoSuchProcess:
        return False


def child_processes() -> set[psutil.Process]:
    """The processes below this one, without the standard library's helpers."""
    return {child for child in psutil.Process().children(recursive=True) if not is_helper(child)}


def joined(thread: threading.Thread, deadline: float) -> bool:
    """Wait for a thread until the deadline (monotonic). False: it is listed already, but its start() is under way."""
    try:
        thread.join(max(0.0, deadline - time.monotonic()))
    except RuntimeError:
        return False
    return True


def left_threads(before: set[threading.Thread], deadline: float) -> list[str]:
    """Names of nerv's threads that weren't there before and are alive at the deadline (monotonic)."""
    new = nerv_threads() - before
    for thread in new:
        while not joined(thread, deadline) and time.monotonic() < deadline:
            time.sleep(0.001)
    return sorted(thread.name for thread in new if thread.is_alive())


def left_processes(before: set[psutil.Process], deadline: float) -> list[str]:
    """Command lines of processes that weren't there before and are alive at the deadline; they are killed."""
    _, alive = psutil.wait_procs(child_processes() - before, timeout=max(0.0, deadline - time.monotonic()))
    return sorted(killed(process) for process in alive)


def killed(process: psutil.Process) -> str:
    """Kill a left-over process; the result says which it was."""
    try:
        words = f"{process.pid}: {' '.join(process.cmdline())}"
        process.kill()
    except psutil.NoSuchProcess:
        return f"{process.pid}: ended late"
    return words


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """After the test no thread `nerv-*` and no child process is alive that wasn't before it.

    A test that abandons one on purpose says so: `@pytest.mark.leaks_allowed("why")`.
    """
    threads, processes = nerv_threads(), child_processes()
    yield
    if request.node.get_closest_marker("leaks_allowed") is None:
        deadline = time.monotonic() + PATIENCE
        left = left_threads(threads, deadline) + left_processes(processes, deadline)
        if left:
            pytest.fail(f"left running: {'; '.join(left)}", pytrace=False)
