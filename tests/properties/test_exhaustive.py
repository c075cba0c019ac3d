"""The scheduler in every state that it can reach on small graphs, with every move that can be made there.

Each move is made by the scheduler and by an oracle that works the rules of API.md out from scratch (oracle.py); their
answers, events, statuses, counts and what is ready must be equal. States are memoised by content (`Machine.content`).

The default run takes all graphs of up to 4 tasks and a part of those with 5; `-m soak` takes everything.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, product
from random import Random

import pytest

from nerv.fields import RUN_WHEN
from tests.properties.exploring import Counts, explore_all
from tests.properties.graphs import Needs, renamed, shapes, up_to
from tests.properties.oracle import COMPLETED, FAILED, SKIPPED, Case, final_statuses

POLICIES = (True, False)


def told(counts: Counts, what: str) -> Counts:
    """Print what was seen, and see that it was something."""
    print(f"\n{what}: {counts}")
    assert min(counts) > 0
    return counts


def own_queues(graphs: Iterator[Needs] | tuple[Needs, ...]) -> Iterator[Case]:
    """Each task in a queue of its own: ready tasks start in every order."""
    for needs in graphs:
        for fail_fast in POLICIES:
            yield Case(needs, fail_fast=fail_fast, queue_of=tuple(range(len(needs))))


def one_queue(graphs: Iterator[Needs] | tuple[Needs, ...]) -> Iterator[Case]:
    """All tasks in one queue: ready tasks start in the order of their ranks."""
    for number, needs in enumerate(graphs):
        priorities = tuple(Random(number).choices(range(-1, 3), k=len(needs)))
        for fail_fast in POLICIES:
            yield Case(needs, fail_fast=fail_fast, priorities=priorities)


def every_rule(graphs: Iterator[Needs] | tuple[Needs, ...], *, levels: bool) -> Iterator[Case]:
    """Every way to give each task a run_when; definition order is random, as it needn't be topological."""
    for needs in graphs:
        size = len(needs)
        for number, (fail_fast, *rules) in enumerate(product(POLICIES, *[RUN_WHEN] * size)):
            order = Random(number).sample(range(size), size)
            yield Case(renamed(needs, order), tuple(rules), fail_fast, queue_of=tuple(range(size)), levels=levels)


def some_rules(graphs: tuple[Needs, ...], each: int, *, levels: bool) -> Iterator[Case]:
    """`each` random choices of run_when, policy, order and queues for each graph."""
    for number, needs in enumerate(graphs):
        random, size = Random(number), len(needs)
        for _ in range(each):
            yield Case(
                renamed(needs, random.sample(range(size), size)),
                tuple(random.choices(RUN_WHEN, k=size)),
                random.choice(POLICIES),
                queue_of=random.choice((tuple(range(size)), tuple(random.choices(range(2), k=size)))),
                levels=levels,
            )


def test_the_graphs_are_all_of_their_size():
    """1, 2, 6, 31 and 302 acyclic graphs of 1 to 5 tasks up to isomorphism (OEIS A003087)."""
    assert [len(shapes(size)) for size in range(6)] == [1, 1, 2, 6, 31, 302]


def test_every_state_of_every_graph_of_up_to_four_tasks():
    told(explore_all(own_queues(up_to(4)), unasked=False), "up to 4 tasks, in every order")


def test_ready_tasks_of_one_queue_start_by_rank_in_every_state():
    told(explore_all(one_queue(up_to(4))), "up to 4 tasks in one queue")


def test_every_state_of_some_graphs_of_five_tasks():
    told(explore_all(own_queues(shapes(5)[3::25]), unasked=False), "some of 5 tasks, in every order")


@pytest.mark.parametrize("levels", [False, True], ids=["ready", "levels"])
def test_every_rule_on_every_graph_of_up_to_two_tasks_with_claims(levels):
    told(explore_all(every_rule(up_to(2), levels=levels), claims=True), "up to 2 tasks, every run_when, claims")


@pytest.mark.parametrize("levels", [False, True], ids=["ready", "levels"])
def test_some_rules_on_every_graph_of_three_and_four_tasks(levels):
    three = some_rules(shapes(3), 6, levels=levels)
    told(explore_all(chain(three, some_rules(shapes(4)[::4], 1, levels=levels))), "3 and 4 tasks, some run_when")


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(8))
def test_every_state_of_every_graph_of_five_tasks(part, capsys):
    graphs = shapes(5)[part::8]
    with capsys.disabled():
        told(explore_all(own_queues(graphs)), f"5 tasks, in every order, part {part}")
        told(explore_all(one_queue(graphs)), f"5 tasks in one queue, part {part}")


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("levels", [False, True], ids=["ready", "levels"])
def test_every_rule_on_every_graph_of_up_to_three_tasks_with_claims(levels, capsys):
    with capsys.disabled():
        told(explore_all(every_rule(up_to(3), levels=levels), claims=True), f"every run_when, claims, levels={levels}")


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("levels", [False, True], ids=["ready", "levels"])
@pytest.mark.parametrize("part", range(4))
def test_every_rule_on_every_graph_of_four_tasks(part, levels, capsys):
    with capsys.disabled():
        cases = every_rule(shapes(4)[part::4], levels=levels)
        told(explore_all(cases, unasked=False), f"4 tasks, every run_when, levels={levels}, part {part}")


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("levels", [False, True], ids=["ready", "levels"])
@pytest.mark.parametrize("part", range(4))
def test_some_rules_on_every_graph_of_five_tasks(part, levels, capsys):
    with capsys.disabled():
        cases = some_rules(shapes(5)[part::4], 2, levels=levels)
        told(explore_all(cases), f"5 tasks, some run_when, levels={levels}, part {part}")


# ---- the oracle itself is held by truths written by hand -------------------------------------------------------------

DIAMOND: Needs = ((), (0,), (0,), (1, 2))


@pytest.mark.parametrize(
    ("rules", "failing", "expected"),
    [
        ("ccca", {1}, (COMPLETED, FAILED, COMPLETED, COMPLETED)),
        ("ccca", {1, 2}, (COMPLETED, FAILED, FAILED, SKIPPED)),
        ("cccc", {1}, (COMPLETED, FAILED, COMPLETED, SKIPPED)),
        ("cccc", {0}, (FAILED, SKIPPED, SKIPPED, SKIPPED)),
        ("cccf", {0}, (FAILED, SKIPPED, SKIPPED, COMPLETED)),
        ("cfca", {0}, (FAILED, COMPLETED, SKIPPED, COMPLETED)),
        ("afaf", set(), (COMPLETED, COMPLETED, COMPLETED, COMPLETED)),
    ],
)
def test_the_oracle_says_what_the_api_says(rules, failing, expected):
    """c: all_completed, f: all_finished, a: any_completed."""
    names = {"c": "all_completed", "f": "all_finished", "a": "any_completed"}
    case = Case(DIAMOND, tuple(names[letter] for letter in rules), fail_fast=False)
    assert tuple(final_statuses(case, failing)) == expected
