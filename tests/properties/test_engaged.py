"""The real engine, on simulated pools, in every state that it can reach on small graphs, with every move from each.

Each move is held against the same oracle as the scheduler's own (test_exhaustive.py), and where the engine can end is
where the scheduler can. The default run takes all graphs of up to 3 tasks and a part of those with 4; `-m soak` takes
everything up to 5.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from random import Random

import pytest

from nerv.fields import RUN_WHEN
from nerv.scheduler import Scheduler
from nerv.statuses import WorkflowStatus
from tests.properties.engaged import ends_of, engage
from tests.properties.exploring import Counts
from tests.properties.graphs import Needs, shapes, up_to
from tests.properties.oracle import Case

ACTS = ("pause", "cancel")


def plain(graphs: Iterable[Needs], *, levels: bool = False) -> Iterable[Case]:
    """Each graph under both failure policies, with random priorities."""
    for number, needs in enumerate(graphs):
        for fail_fast in (True, False):
            priorities = tuple(Random(number).choices(range(-1, 3), k=len(needs)))
            yield Case(needs, (), fail_fast, priorities, levels=levels)


def with_rules(graphs: Iterable[Needs]) -> Iterable[Case]:
    """Each graph with every choice of run_when, ready-driven and level by level in turn."""
    for needs in graphs:
        for number, rules in enumerate(product(RUN_WHEN, repeat=len(needs))):
            yield Case(needs, rules, number % 3 > 0, levels=number % 2 > 0)


def engaged(cases: Iterable[Case], acts: tuple[str, ...] = ACTS) -> Counts:
    """Go every way of all; where each ends must be where the scheduler alone can end."""
    total = Counts()
    for case in cases:
        counts, ends = engage(case, acts)
        able = ends_of(case)
        if "all_finished" in case.rules:  # cleanup is never told to stop, which the scheduler doesn't know
            assert ends <= able, case
        else:
            assert ends == able, case
        total = total.plus(counts)
    assert min(total) > 0
    return total


def told(counts: Counts, what: str) -> None:
    """Print what was seen."""
    print(f"\n{what}: {counts}")


def test_every_state_of_the_engine_on_every_graph_of_up_to_three_tasks():
    told(engaged(plain(up_to(3))), "the engine, up to 3 tasks")


def test_every_state_of_the_engine_level_by_level():
    told(engaged(plain(shapes(3)[::2], levels=True)), "the engine, some of 3 tasks, levels")


def test_every_state_of_the_engine_on_some_graphs_of_four_tasks():
    told(engaged(plain(shapes(4)[2::15])), "the engine, some of 4 tasks")


def test_every_rule_on_the_engine_on_every_graph_of_up_to_two_tasks():
    told(engaged(with_rules(up_to(2))), "the engine, up to 2 tasks, every run_when")


@pytest.mark.parametrize("spoilt", ["take", "completed", "failed", "cancel", "resume", "relay"])
def test_an_engine_whose_scheduler_goes_wrong_is_seen(spoilt, monkeypatch):
    """Whatever is told to the scheduler twice as often as it should be, or not at all, is noticed."""
    right = getattr(Scheduler, spoilt)

    def wrong(self, *args, **named):
        if self.status is WorkflowStatus.RUNNING and self.unfinished == 1:
            return {"take": -1, "cancel": True, "resume": True}.get(spoilt)
        answer = right(self, *args, **named)
        if spoilt == "relay":
            self.ready[0].append(self.ranks[args[0]])
        return answer

    monkeypatch.setattr(Scheduler, spoilt, wrong)
    with pytest.raises((AssertionError, RuntimeError)):
        engaged(plain(up_to(3)))


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("part", range(8))
def test_every_state_of_the_engine_on_every_graph_of_five_tasks(part, capsys):
    with capsys.disabled():
        told(engaged(plain(shapes(5)[part::8])), f"the engine, 5 tasks, part {part}")


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("levels", [False, True], ids=["ready", "levels"])
def test_every_state_of_the_engine_on_every_graph_of_four_tasks(levels, capsys):
    with capsys.disabled():
        told(engaged(plain(up_to(4), levels=levels)), f"the engine, up to 4 tasks, levels={levels}")


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_every_rule_on_the_engine_on_every_graph_of_three_tasks(capsys):
    with capsys.disabled():
        told(engaged(with_rules(shapes(3))), "the engine, 3 tasks, every run_when")
