"""The scheduler on random walks over larger graphs, with random rules, priorities, queues, policies and claims.

Each move is checked against the oracle as in test_exhaustive.py, and the events of each walk by `History`.
"""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerv.fields import RUN_WHEN
from tests.properties.history import History
from tests.properties.machine import Machine
from tests.properties.oracle import Case
from tests.properties.walking import walk

WALKS = 200
MILLIONS = 300_000
"""Walks of each of ten parts."""


@pytest.mark.parametrize("seed", range(3))
def test_random_walks_over_larger_graphs(seed):
    assert walk(WALKS, Random(seed), most=40) > 10 * WALKS


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", range(100, 110))
def test_millions_of_random_walks(seed, capsys):
    steps = walk(MILLIONS, Random(seed), most=12) + walk(MILLIONS // 100, Random(seed), most=90)
    with capsys.disabled():
        print(f"\nseed {seed}: {MILLIONS + MILLIONS // 100:,} walks, {steps:,} steps")


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A case of up to 7 tasks, which shrinks towards a few tasks of default kind without edges."""
    size = draw(st.integers(1, 7))
    needs = tuple(tuple(draw(st.sets(st.integers(0, task - 1))) if task else ()) for task in range(size))
    rules = draw(st.lists(st.sampled_from(RUN_WHEN), min_size=size, max_size=size))
    priorities = draw(st.lists(st.integers(-3, 3), min_size=size, max_size=size))
    queues = draw(st.lists(st.integers(0, 2), min_size=size, max_size=size))
    return Case(needs, tuple(rules), draw(st.booleans()), tuple(priorities), tuple(queues), draw(st.booleans()))


@given(cases(), st.data())
def test_any_moves_on_any_small_graph(case, data):
    """The same, drawn by hypothesis, which shrinks what it finds to the fewest tasks and moves."""
    machine = Machine(case)
    moves = data.draw(st.lists(st.integers(0, 99), max_size=40), label="moves")
    move = None
    for number in moves:
        if machine.ended:
            break
        options = list(machine.moves(claims=True))
        move = options[number % len(options)]
        machine.make(move)
    if machine.ended:
        History(case, cancelled=True, halted=move == ("halt",), claims=True).read(machine.scheduler.records)
