"""The graph in numbers: edges both ways, an order, ranks, levels, and a ring if there is one."""

import gc
from itertools import permutations, product
from random import Random

import networkx
import pytest

from nerv.graph import HEIGHT_BITS, NUMBER_BITS, NUMBER_MASK, Graph, rank, with_priority, without_garbage_collection
from tests.properties.graphs import priority_of, random_graph, renamed, up_to
from tests.properties.oracle import Case

DIAMOND = [(), (0,), (0,), (1, 2)]
EQUAL = [1, 1, 1, 1]


def graph_of(needs, priorities=None):
    """A graph; all tasks have one priority unless it is given."""
    return Graph([list(one) for one in needs], [1] * len(needs) if priorities is None else priorities)


def every_graph():
    """All small graphs in some definition order, and some larger ones; each with some priorities."""
    random = Random(1)
    for needs in up_to(4):
        yield renamed(needs, random.sample(range(len(needs)), len(needs))), random.choices((0, 1, 7), k=len(needs))
    for size in (10, 30, 60) * 5:
        yield random_graph(random, size), random.choices(range(-3, 3), k=size)


# ---- edges and order -------------------------------------------------------------------------------------------------


def test_a_known_order_is_taken_as_it_is():
    order = [0, 2, 1, 3]
    assert Graph(DIAMOND, EQUAL, order).order is order
    assert Graph(DIAMOND, EQUAL).order == range(4)


def test_a_graph_knows_its_edges_both_ways():
    graph = graph_of(DIAMOND)
    assert len(graph) == 4
    assert [list(needs) for needs in graph.dependencies] == [[], [0], [0], [1, 2]]
    assert graph.dependents == [(1, 2), (3,), (3,), ()]
    assert graph.in_degrees == [0, 1, 1, 2]


def test_a_graph_can_be_empty():
    graph = graph_of([])
    assert (len(graph), list(graph.order), graph.dependents, graph.ranks, graph.levels()) == (0, [], [], [], [])
    assert graph.cycle() == []


def test_definition_order_is_kept_when_it_will_do():
    assert list(graph_of(DIAMOND).order) == [0, 1, 2, 3]
    assert list(graph_of([(), (), (1,), (0,)]).order) == [0, 1, 2, 3]


def test_otherwise_the_order_is_first_in_first_out():
    assert list(graph_of([(2,), (0,), (), (2,), ()]).order) == [2, 4, 0, 3, 1]
    assert list(graph_of([(3,), (3,), (), (2,)]).order) == [2, 3, 0, 1]


def test_every_graph_is_ordered_with_each_task_after_what_it_needs():
    for needs, priorities in every_graph():
        graph = graph_of(needs, priorities)
        place = {task: at for at, task in enumerate(graph.order)}
        assert sorted(place) == list(range(len(needs)))
        assert all(place[need] < place[task] for task, before in enumerate(needs) for need in before)
        dependents = [[t for t, before in enumerate(needs) if task in before] for task in range(len(needs))]
        assert graph.dependents == list(map(tuple, dependents))
        assert graph.in_degrees == [len(before) for before in needs]


# ---- ranks -----------------------------------------------------------------------------------------------------------


def test_a_rank_puts_priority_before_the_path_behind_before_definition_order():
    assert rank(2, 0, 9) < rank(1, 5, 0) < rank(1, 4, 0) < rank(1, 4, 1) < rank(0, 99, 0) < rank(-1, 100, 0)


def test_a_rank_gives_back_its_priority_and_number():
    heights, numbers = (0, 1, 2**24 - 1, 2**24, 2**30), (0, 1, 2**36 - 1)
    for priority, height, number in product((-1000, -1, 0, 1, 3, 10**6), heights, numbers):
        made = rank(priority, height, number)
        assert priority_of(made) == priority
        assert made & NUMBER_MASK == number


def test_a_rank_has_room_for_68_billion_tasks_and_paths_of_16_million():
    assert (NUMBER_BITS, HEIGHT_BITS, NUMBER_MASK) == (36, 24, 2**36 - 1)
    assert rank(0, 2**24 - 1, 5) == 5, "the longest path that is told from a longer one"
    assert rank(0, 2**24, 5) == rank(0, 2**24 - 1, 5) != rank(0, 2**24 - 2, 5)
    assert rank(1, 2**24 - 1, 2**36 - 1) < rank(0, 2**24 - 1, 0), "what is behind never outweighs priority"


def test_the_path_behind_a_task_counts_its_longest_chain():
    needs = [(), (0,), (1,), (), (3,), ()]
    expected = [rank(1, height, task) for task, height in enumerate([2, 1, 0, 1, 0, 0])]
    assert graph_of(needs).ranks == expected


@pytest.mark.parametrize("priority", [-2, 0, 1, 5])
def test_ranks_are_the_same_whether_priorities_are_all_equal_or_not(priority):
    needs = [*DIAMOND, ()]
    mixed = graph_of(needs, [priority] * 4 + [priority + 1])
    assert graph_of(needs, [priority] * 5).ranks[:4] == mixed.ranks[:4]
    assert mixed.ranks == [rank(priority, h, i) for i, h in enumerate([2, 1, 1, 0])] + [rank(priority + 1, 0, 4)]


def test_every_graph_ranks_its_tasks_by_urgency():
    for needs, priorities in every_graph():
        case = Case(needs, priorities=tuple(priorities))
        ranks = graph_of(needs, priorities).ranks
        tasks = range(len(needs))
        assert sorted(tasks, key=ranks.__getitem__) == sorted(tasks, key=case.urgency.__getitem__)
        assert [priority_of(one) for one in ranks] == priorities
        assert [one & NUMBER_MASK for one in ranks] == list(tasks)


# ---- levels ----------------------------------------------------------------------------------------------------------


def test_levels_go_by_the_longest_way_down_and_by_priority_within():
    needs = [(), (), (0,), (0, 1), (2,), ()]
    assert graph_of(needs).levels() == [[0, 1, 5], [2, 3], [4]]
    assert graph_of(needs, [0, 1, 2, 3, 4, 5]).levels() == [[5, 1, 0], [3, 2], [4]]


def test_equal_priorities_keep_definition_order_within_a_level():
    assert graph_of([()] * 5, [1, 2, 1, 2, 1]).levels() == [[1, 3, 0, 2, 4]]


def test_every_graph_has_the_levels_of_its_longest_paths():
    for needs, priorities in every_graph():
        case = Case(needs, priorities=tuple(priorities))
        levels = graph_of(needs, priorities).levels()
        assert {task: at for at, members in enumerate(levels) for task in members} == dict(enumerate(case.level_of))
        for members in levels:
            assert members
            assert members == sorted(members, key=lambda task: (-priorities[task], task))


# ---- rings -----------------------------------------------------------------------------------------------------------


def check_ring(needs, ring):
    """Each of the ring is needed by the one after it, and the last by the first; no task is in it twice."""
    assert ring
    assert len(set(ring)) == len(ring)
    for before, after in zip(ring, ring[1:] + ring[:1], strict=True):
        assert before in needs[after]


@pytest.mark.parametrize(
    ("needs", "ring"),
    [
        ([(0,)], {0}),
        ([(1,), (0,)], {0, 1}),
        ([(), (0, 3), (1,), (2,), (3,)], {1, 2, 3}),
        ([(4,), (0,), (), (), (5,), (4,)], {4, 5}),
    ],
)
def test_a_ring_is_found_without_what_hangs_on_it(needs, ring):
    graph = graph_of(needs)
    assert set(graph.cycle()) == ring
    check_ring(needs, graph.cycle())
    assert len(graph.order) < len(needs)


def test_a_ring_is_found_exactly_when_there_is_one():
    """All 4,096 directed graphs of 4 tasks without self loops, and 300 larger ones, against networkx."""
    pairs = list(permutations(range(4), 2))
    small = ([tuple(a for a, b in chosen if b == task) for task in range(4)] for chosen in subsets(pairs))
    random = Random(3)
    large = (
        [tuple(random.sample(range(size), random.choice((0, 0, 1, 2)))) for _ in range(size)] for size in [12] * 300
    )
    found = 0
    for needs in (*small, *large):
        graph = graph_of(needs)
        acyclic = networkx.is_directed_acyclic_graph(networkx.DiGraph((a, b) for b, n in enumerate(needs) for a in n))
        assert (not graph.cycle()) == acyclic == (len(graph.order) == len(needs))
        if not acyclic:
            check_ring(needs, graph.cycle())
            found += 1
    assert found > 3000


def subsets(things):
    """All subsets of a list."""
    for chosen in product((False, True), repeat=len(things)):
        yield [thing for thing, is_in in zip(things, chosen, strict=True) if is_in]


def test_a_ring_is_told_in_dependency_order():
    ring = graph_of([(2,), (0,), (1,)]).cycle()
    assert ring in ([0, 1, 2], [1, 2, 0], [2, 0, 1])


@pytest.mark.parametrize("priority", [-5, 0, 7])
def test_a_rank_at_another_priority_is_the_same_but_for_that(priority):
    for before, height, number in product((-3, 0, 9), (0, 1, (1 << HEIGHT_BITS) - 1), (0, 1, NUMBER_MASK)):
        assert with_priority(rank(before, height, number), priority) == rank(priority, height, number)


def switch(on):
    """Turn the garbage collector on or off."""
    if on:
        gc.enable()
    else:
        gc.disable()


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_is_not_collected_meanwhile_and_afterwards_as_before(enabled):
    was_on = gc.isenabled()
    try:
        switch(enabled)
        with without_garbage_collection():
            assert not gc.isenabled()
        assert gc.isenabled() is enabled
    finally:
        switch(was_on)
