"""The pytest plugin: a fixture for everybody who has nerv installed, and no cost for who doesn't use it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import tomllib

from tests.handshake import REPOSITORY, environment, python

TESTS = """
    from nerv import Output, TaskDef, Workflow
    from nerv.testing import WorkflowTester

    WF = Workflow("wf", [TaskDef("a", exit), TaskDef("b", lambda a: a + 1, args=(Output("a"),))])

    def test_first(nerv_tester):
        assert isinstance(nerv_tester, WorkflowTester)
        nerv_tester.mock_value("a", 1)
        assert nerv_tester.run(WF).result == 2

    def test_second(nerv_tester):
        assert nerv_tester.clock.monotonic() == 0
        nerv_tester.mock_sequence("a", [2])
        assert nerv_tester.run(WF).result == 3
        assert nerv_tester.call_count("a") == 1

    def test_that_leaves_something_running(nerv_tester):
        nerv_tester.mock_value("a", 1, takes=float("inf"))
        nerv_tester.start(WF)
        nerv_tester.settle()
"""


def pytest_in(folder, *options):
    """What a pytest of its own says of the tests in a folder."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(folder)]
    done = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, check=False, timeout=50
    )
    return done.stdout + done.stderr


def test_the_entry_point_names_a_module_that_is_there():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"nerv": "nerv.pytest_plugin"}
    import nerv.pytest_plugin

    assert nerv.pytest_plugin.nerv_tester


def test_a_test_is_given_a_tester_of_its_own(tmp_path):
    (tmp_path / "test_it.py").write_text(textwrap.dedent(TESTS))
    told = pytest_in(tmp_path, *loaded())
    assert "3 passed" in told, told


def loaded():
    """How pytest is told of the plugin where nerv was installed before it had one."""
    from importlib.metadata import entry_points

    known = [point.value for point in entry_points(group="pytest11")]
    return [] if "nerv.pytest_plugin" in known else ["-p", "nerv.pytest_plugin"]


def test_the_plugin_loads_nothing_that_a_test_did_not_ask_for():
    told, _ = python("""
        import sys
        import pytest
        import nerv.pytest_plugin
        print(*sorted(name for name in sys.modules if name.startswith("nerv")))
    """)
    assert told.split() == ["nerv", "nerv.pytest_plugin"]
