"""Policies of every kind, drawn at random, on simulated pools: limits hold at every step, and all comes to an end."""

from collections import Counter

import pytest

from tests.properties.meddling import PolicedSimulation


@pytest.mark.parametrize("seed", range(60))
def test_one_execution_with_policies_of_every_kind(seed):
    assert PolicedSimulation(seed, most=12).go(executions=1)


@pytest.mark.parametrize("seed", range(60))
def test_executions_that_share_limits(seed):
    assert PolicedSimulation(seed + 1000, most=8).go(executions=5)


def test_the_simulations_see_everything_that_there_is_to_see():
    seen = Counter()
    for seed in range(20):
        seen += PolicedSimulation(seed + 2000, most=10).go(executions=3)
    for kind in ("RETRYING", "WAITING", "COMPENSATED", "REPRIORITIZED", "FAILED", "CANCELLED", "SKIPPED", "COMPLETED"):
        assert seen[f"TASK_{kind}"] > 4, kind
    for kind in ("PAUSED", "RESUMED", "COMPLETED", "FAILED", "CANCELLED"):
        assert seen[f"WORKFLOW_{kind}"], kind


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("part", range(8))
def test_thousands_of_simulations(part):
    for seed in range(10_000 + part * 500, 10_000 + part * 500 + 500):
        PolicedSimulation(seed, most=20).go(executions=1)
        PolicedSimulation(seed, most=10).go(executions=6)
