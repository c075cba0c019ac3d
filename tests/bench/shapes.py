"""What the benchmarks run: graphs as lists of numbers, and functions that do little, sleep or compute.

A graph is a list with one tuple for each task: the numbers of the tasks that it needs, all smaller than its own. Every
body is called with the task's number and the list of what its dependencies returned.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from math import isqrt

Graph = Sequence[tuple[int, ...]]
Body = Callable[[int, list[int]], int]

SEED = 20261122


def wide(tasks: int) -> Graph:
    """Tasks that need nothing, and a last one that needs them all."""
    return [()] * tasks + [tuple(range(tasks))]


def chain(tasks: int) -> Graph:
    """Each task needs the one before it."""
    return [(number - 1,) if number else () for number in range(tasks)]


def layered(tasks: int) -> Graph:
    """As many layers as each is wide; a task needs three of the layer before."""
    dice, width = random.Random(SEED), isqrt(tasks)
    graph: list[tuple[int, ...]] = [()] * width
    while len(graph) < width * width:
        above = range(len(graph) - width, len(graph))
        graph += [tuple(dice.sample(above, 3)) for _ in range(width)]
    return graph


def scattered(tasks: int, window: int = 200) -> Graph:
    """The graph called random: a task needs none to four of the `window` tasks before it."""
    dice = random.Random(SEED)
    graph: list[tuple[int, ...]] = []
    for number in range(tasks):
        near = range(max(0, number - window), number)
        graph.append(tuple(dice.sample(near, min(len(near), dice.randint(0, 4)))))
    return graph


def edges(tasks: int) -> Graph:
    """About two edges a task, to any of the thousand before it: what plans are made of."""
    dice = random.Random(SEED).random
    graph: list[tuple[int, ...]] = []
    for number in range(tasks):
        reach = min(number, 1000)
        graph.append(tuple({number - 1 - int(dice() * reach) for _ in range(int(dice() * 5))}) if reach else ())
    return graph


SHAPES = {"wide": wide, "chain": chain, "layered": layered, "random": scattered}


def lanes(tasks: int, width: int = 12) -> tuple[Graph, list[float]]:
    """Tasks that block, in `width` lanes which now and then wait for each other, and how many seconds each takes:
    mostly 5 to 25 ms, one in seven 80 to 100."""
    dice = random.Random(SEED)
    graph: list[tuple[int, ...]] = []
    for number in range(tasks):
        needs = {number - width} if number >= width else set()
        if needs and dice.random() < 0.15:
            row = number - number % width
            needs.add(dice.randrange(row - width, row))
        graph.append(tuple(needs))
    return graph, [dice.uniform(0.08, 0.1) if dice.random() < 1 / 7 else dice.uniform(0.005, 0.025) for _ in graph]


def longest(graph: Graph, seconds: Sequence[float]) -> float:
    """The critical path in seconds. Only for graphs in dependency order."""
    ends: list[float] = []
    for needs, own in zip(graph, seconds, strict=True):
        ends.append(own + max((ends[need] for need in needs), default=0.0))
    return max(ends)


def small(number: int, inputs: list[int]) -> int:
    """Next to nothing, but different for each task and its inputs."""
    return (number * 7 + sum(inputs)) % 65_521


def expected(graph: Graph, body: Body = small) -> list[int]:
    """What every task must return."""
    values: list[int] = []
    for number, needs in enumerate(graph):
        values.append(body(number, [values[need] for need in needs]))
    return values


class Nap:
    """A body that blocks for as long as is written for its task."""

    def __init__(self, seconds: Sequence[float]) -> None:
        self._seconds = seconds

    def __call__(self, number: int, inputs: list[int]) -> int:
        time.sleep(self._seconds[number])
        return small(number, inputs)


def burn(turns: int) -> int:
    """Keep a core busy for a fixed amount of work."""
    total = 0
    for turn in range(turns):
        total += turn & 7
    return total


def burnt(turns: int) -> tuple[int, float]:
    """`burn`; which process did it, and the seconds that it took there."""
    began = time.perf_counter()
    burn(turns)
    return os.getpid(), time.perf_counter() - began


def increment(number: int) -> int:
    """The tiniest call for a process."""
    return number + 1
