"""Every small mistake in the scheduler and in the graph is noticed by the tests, or is none (`-m mutation`)."""

from __future__ import annotations

import ast
import json
import subprocess
import sys

import pytest

from tests.mutation.equivalents import EQUIVALENT
from tests.mutation.hunting import REPOSITORY, all_mutants
from tests.mutation.mutating import mutants

pytestmark = pytest.mark.mutation


@pytest.mark.timeout(14_400)
def test_no_mutant_that_changes_behaviour_survives(capsys):
    command = [sys.executable, "-m", "tests.mutation.hunting"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    with capsys.disabled():
        print(f"\n{report['mutants']} mutants, {len(report['survivors'])} survivors, {report['seconds']} s")
    assert sum(report["mutants"].values()) > 3400
    unnoticed = set(report["survivors"]) - EQUIVALENT.keys()
    assert not unnoticed, "tests don't notice:\n" + "\n".join(sorted(unnoticed))
    noticed = EQUIVALENT.keys() - set(report["survivors"])
    assert not noticed, "not equivalent, or not there any more:\n" + "\n".join(sorted(noticed))


def test_every_equivalent_mutant_exists_and_has_a_reason():
    gone = EQUIVALENT.keys() - {prey.name for prey in all_mutants()}
    assert not gone, "the code has changed; look again:\n" + "\n".join(sorted(gone))
    assert all(EQUIVALENT.values())


def test_mistakes_of_every_kind_are_made():
    """A little module, and all that can be wrong with it."""
    tree = ast.parse("""
def best(numbers, limit=3):
    'A docstring is left alone.'
    for number in numbers:
        if number < limit and not number == 0:
            return number + 1
    return None
""")
    changes = {mutant.name.partition(": ")[2].rpartition(" | ")[2] for mutant in mutants(tree)}
    assert {
        "3 -> 4",
        "3 -> 2",
        "for number in numbers: -> pass",
        "number < limit and (not number == 0) -> not (number < limit and (not number == 0))",
        "number < limit and (not number == 0) -> number < limit or not number == 0",
        "number < limit and (not number == 0) -> number < limit",
        "number < limit -> number <= limit",
        "not number == 0 -> number == 0",
        "number == 0 -> number != 0",
        "return number + 1 -> return",
        "number + 1 -> number - 1",
        "None -> '?'",
    } <= changes
    assert not any("docstring" in change for change in changes)
