"""Graphs to run things on: all of a size, or random ones. A graph is, for each task, the tuple of what it needs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import combinations, permutations
from random import Random

from nerv.graph import HEIGHT_BITS, NUMBER_BITS

Needs = tuple[tuple[int, ...], ...]


@cache
def shapes(size: int) -> tuple[Needs, ...]:
    """Every directed acyclic graph of `size` tasks, one of each isomorphism class, numbered in a topological order.

    Each acyclic graph can be numbered so that edges go from lower to higher numbers; so all subsets of those edges are
    tried, and of each class the first is kept: its other members are struck off by permuting it.
    """
    edges = list(combinations(range(size), 2))
    renamings = [[1 << (names[a] * size + names[b]) for a, b in edges] for names in permutations(range(size))]
    struck: set[int] = set()
    found = []
    for subset in range(1 << len(edges)):
        chosen = [i for i in range(len(edges)) if subset >> i & 1]
        if sum(renamings[0][i] for i in chosen) in struck:
            continue
        struck.update(sum(bits[i] for i in chosen) for bits in renamings)
        found.append(tuple(tuple(a for i in chosen for a, b in [edges[i]] if b == task) for task in range(size)))
    return tuple(found)


def up_to(size: int) -> Iterator[Needs]:
    """All shapes of 0, 1 ... `size` tasks."""
    for tasks in range(size + 1):
        yield from shapes(tasks)


def renamed(needs: Needs, names: list[int]) -> Needs:
    """The same graph with task i called `names[i]`; definition order need not be topological any more."""
    dependencies: list[tuple[int, ...]] = [()] * len(needs)
    for task, before in enumerate(needs):
        dependencies[names[task]] = tuple(names[need] for need in before)
    return tuple(dependencies)


def random_graph(random: Random, size: int, density: float | None = None) -> Needs:
    """A random graph in a random definition order; each task needs each of those near it with chance `density`."""
    chance = random.choice([0.0, 0.05, 0.15, 0.3, 0.6]) if density is None else density
    near = random.choice([3, 8, size])
    needs = tuple(
        tuple(before for before in range(max(0, task - near), task) if random.random() < chance) for task in range(size)
    )
    names = list(range(size))
    random.shuffle(names)
    return renamed(needs, names)


def priority_of(rank: int) -> int:
    """The priority that a rank was made with."""
    return -(rank >> (NUMBER_BITS + HEIGHT_BITS))
