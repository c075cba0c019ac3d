"""What Dask has to do with is tested in a process of its own: distributed changes what pickle takes in its process."""

import subprocess
import sys

import pytest

from tests.house.commands import REPOSITORY, environment


@pytest.mark.timeout(280)
@pytest.mark.parametrize("where", ["tests/interop", "tests/pools"])
def test_the_tests_that_need_dask_pass(where):
    selection = "with_dask and not dask_suite and not soak and not bench"
    untidy = [
        "-W",
        "ignore::pytest.PytestUnraisableExceptionWarning",
        "-W",
        "ignore::ResourceWarning",
    ]  # distributed is
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        "0",
        "-p",
        "no:cacheprovider",
        *untidy,
        "-m",
        selection,
        where,
    ]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, timeout=270, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
