"""Dask's own tests, out of its installed wheel, with `nerv.interop.dask.get` in place of its schedulers.

Each module is run twice, with Dask's schedulers and with nerv's: what passes with the one passes with the other. The
default run has the modules about schedulers; `-m dask_suite` the others, for which dask[complete] must be installed.
"""

import re
import sys

import pytest

from tests.house.commands import run_command

pytest.importorskip("dask")
pytest.importorskip("pytest_timeout")

SHORT = ("dask.tests.test_threaded", "dask.tests.test_local")
LONG = {
    "dask.tests.test_delayed": 60,
    "dask.tests.test_base": 50,
    "dask.tests.test_callbacks": 5,
    "dask.tests.test_order": 90,
    "dask.tests.test_highgraph": 15,
    "dask.bag.tests.test_bag": 190,
    "dask.diagnostics.tests.test_profiler": 15,
    "dask.diagnostics.tests.test_progress": 10,
    "dask.array.tests.test_slicing": 120,
    "dask.array.tests.test_rechunk": 60,
    "dask.array.tests.test_reductions": 100,
    "dask.array.tests.test_array_core": 200,
    "dask.array.tests.test_overlap": 90,
    "dask.dataframe.dask_expr.tests.test_collection": 100,
}
"""Module -> tests that pass in it, at least: a run that found nothing must not count."""

EXCEPTIONS = {}
"""Tests that pass with Dask's schedulers and not with nerv's, and why."""


def passed(modules, plugins, folder):
    """The tests of some modules that pass, and what pytest printed."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    words = [sys.executable, "-m", "pytest", "-c", "pytest.ini", "-p", "no:cacheprovider", "-q", "-rA", "--tb=short"]
    words += [word for plugin in plugins for word in ("-p", plugin)]
    words += ["--timeout=100", "--pyargs", *modules]
    output = run_command(words, folder, seconds=1500).stdout
    return set(re.findall(r"(?m)^PASSED (.+)", output)), output


def lost(modules, folder):
    """Tests that pass with Dask's schedulers only, how many pass with nerv's, and what pytest printed."""
    with_dask, _ = passed(modules, [], folder)
    with_nerv, output = passed(modules, ["tests.interop.dask_plugin"], folder)
    return with_dask - with_nerv - EXCEPTIONS.keys(), len(with_nerv), output


@pytest.mark.timeout(300)
def test_dasks_tests_of_its_schedulers_pass(tmp_path):
    names, output = passed(SHORT, ["tests.interop.dask_plugin"], tmp_path)
    assert len(names) >= 45, output
    assert not re.findall(r"(?m)^(?:FAILED|ERROR) .*", output), output


@pytest.mark.dask_suite
@pytest.mark.timeout(3200)
@pytest.mark.parametrize(("module", "least"), LONG.items())
def test_what_passes_with_dasks_schedulers_passes_with_nerv(module, least, tmp_path):
    missing, count, output = lost([module], tmp_path)
    assert count >= least, output
    assert not missing, output
