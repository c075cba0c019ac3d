"""The check in conftest.py that nothing is left running blames the test that left it, and no other."""

import sys

from tests.house.commands import REPOSITORY, run_command

LEAKS = """
import multiprocessing, os, threading, time
import pytest

never = threading.Event()

def leave_thread(name):
    threading.Thread(target=never.wait, name=name, daemon=True).start()

def test_thread():
    leave_thread("nerv-worker")

def test_after_a_leak():
    assert "nerv-worker" in {thread.name for thread in threading.enumerate()}

def test_child():
    os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "60")

def test_grandchild():
    multiprocessing.get_context("forkserver").Process(target=time.sleep, args=(60,)).start()

def test_foreign_thread():
    leave_thread("somebody")

def test_ends_soon():
    threading.Timer(0.05, int).start()

def test_helpers_of_the_standard_library():
    for kind in ("forkserver", "spawn"):
        process = multiprocessing.get_context(kind).Process(target=int)
        process.start()
        process.join()

@pytest.mark.leaks_allowed("on purpose")
def test_allowed():
    leave_thread("nerv-abandoned")
    os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "1")
"""


def test_only_the_tests_that_leak_fail(tmp_path):
    conftest = (REPOSITORY / "tests" / "conftest.py").read_text(encoding="utf-8")
    (tmp_path / "conftest.py").write_text(conftest.replace("PATIENCE = 5.0", "PATIENCE = 0.3"))
    (tmp_path / "test_them.py").write_text(LEAKS)
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "ignore", "-q", "--tb=no", "-rE", "."]
    output = run_command(words, tmp_path, seconds=50).stdout
    blamed = {line.split("::")[1].split()[0] for line in output.splitlines() if line.startswith("ERROR")}
    assert blamed == {"test_thread", "test_child", "test_grandchild"}, output
    assert "8 passed, 3 errors" in output
