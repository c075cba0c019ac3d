"""taskmap's own tests, out of its installed wheel, pass when `import taskmap` means nerv.interop.taskmap."""

import re
import subprocess
import sys
import time
from importlib.metadata import distribution

import pytest

from tests.house.commands import environment, run_command

SUITE = "taskmap/taskmap_test.py"
COUNT = 25
TIMED = {"test_async_speed", "test_parallel_speed", "test_async_parallel_speed", "test_async_parallel_demo"}
"""These compare wall clocks with limits that leave 0.4 s for all but the waiting: on a busy machine they need luck."""

BUSY = 0.25
"""Seconds for starting two workers' worth of Python from which on luck won't do."""

STAND_IN = """
import sys
import types
import nerv.interop.taskmap

def load(name):
    del sys.modules["pytest"]
    import pytest
    return getattr(pytest, name)

if "pytest" not in sys.modules:
    sys.modules["pytest"] = types.ModuleType("pytest")
    sys.modules["pytest"].__getattr__ = load

sys.modules["taskmap"] = nerv.interop.taskmap
"""
"""Our module under taskmap's name. In worker processes, which import the tests for their functions, pytest is loaded
when something of it is used: taskmap's own workers are forks and have it already, and it takes longer than the rest."""


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    """A folder that holds the tests, as the wheel has them, and a module `taskmap` that is ours."""
    wheel = distribution("taskmap")
    if not any(str(file) == SUITE for file in wheel.files or ()):
        pytest.skip(f"taskmap {wheel.version} is installed without its tests")
    folder = tmp_path_factory.mktemp("suite")
    (folder / "taskmap_test.py").write_text(wheel.locate_file(SUITE).read_text(encoding="utf-8"))
    (folder / "taskmap.py").write_text(STAND_IN)
    (folder / "pytest.ini").write_text("[pytest]\n")
    return folder


@pytest.fixture(scope="module")
def first(suite):
    """What became of each test in the first run."""
    return outcomes(suite)


def outcomes(folder):
    """Test -> outcome, of one run of pytest, and what it printed."""
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-rA", "--tb=short", "taskmap_test.py"]
    output = run_command(words, folder, seconds=90).stdout
    found = {name: word for word, name in re.findall(r"(?m)^([A-Z]+) taskmap_test.py::(\w+)", output)}
    assert len(found) == COUNT, output
    return found, output


def starting(folder):
    """Seconds in which two new processes import the tests, which is the least that two workers can do."""
    start = time.perf_counter()
    words = [sys.executable, "-c", "import taskmap_test"]
    both = [subprocess.Popen(words, cwd=folder, env=environment()) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    return time.perf_counter() - start


@pytest.mark.timeout(120)
def test_taskmaps_own_tests_of_what_is_done_pass(first):
    found, output = first
    assert [name for name, word in found.items() if word != "PASSED" and name not in TIMED] == [], output
    assert found.keys() > TIMED


@pytest.mark.timeout(400)
def test_taskmaps_own_tests_of_how_long_it_takes_pass(suite, first):
    found, output = first
    left = {name for name in TIMED if found[name] != "PASSED"}
    for _ in range(3):
        if not left:
            return
        if (seconds := starting(suite)) > BUSY:
            pytest.skip(f"this machine is too busy for {sorted(left)}: {seconds:.2f} s to start two processes")
        found, output = outcomes(suite)
        left = {name for name in left if found[name] != "PASSED"}
    assert not left, output
