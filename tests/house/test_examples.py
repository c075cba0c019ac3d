"""Every example runs as it stands, in any folder, and leaves its own folder alone."""

import sys

import pytest

from tests.house.commands import REPOSITORY, run_command

EXAMPLES = sorted((REPOSITORY / "examples").glob("*.py"))


def test_there_are_examples():
    assert EXAMPLES


@pytest.mark.timeout(150)
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_example_runs(example, tmp_path):
    before = sorted(example.parent.rglob("*"))
    done = run_command([sys.executable, example], tmp_path, seconds=120)
    assert done.returncode == 0, done.stdout
    assert sorted(example.parent.rglob("*")) == before, "it wrote beside itself, not into the folder it ran in"
