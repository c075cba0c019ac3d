"""A workflow's graph in numbers: what planner and scheduler work on instead of ids and TaskDefs.

Tasks are numbered in definition order, once. In-degrees, dependents and ranks are lists indexed by that number; lists
of small ints are what makes a million tasks affordable.

A task's **rank** is one integer that says all about its order among ready tasks: priority first (higher sooner), then
the longer remaining critical path (more tasks in the longest chain behind it), then definition order. Lower starts
first, and the lowest `NUMBER_BITS` bits are the task's own number, so a heap of ranks is a heap of tasks.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Final

NUMBER_BITS: Final = 36
HEIGHT_BITS: Final = 24
NUMBER_MASK: Final = (1 << NUMBER_BITS) - 1
_TALLEST: Final = (1 << HEIGHT_BITS) - 1


class Graph:
    """Who depends on whom, in numbers. What only a run needs is worked out when first asked for, once.

    Args:
        dependencies: for each task the numbers of those that it needs, without repeats.
        priorities: for each task its priority.
        order: all task numbers, each after its dependencies, if that is known; None: find one.

    Attributes:
        order: all task numbers, each after its dependencies; shorter than the graph if it has a cycle.
    """

    def __init__(
        self, dependencies: Sequence[Sequence[int]], priorities: Sequence[int], order: Sequence[int] | None = None
    ) -> None:
        self.dependencies = dependencies
        self._priorities = priorities
        self.order = self._topological() if order is None else order

    @cached_property
    def dependents(self) -> list[Sequence[int]]:
        """For each task the numbers of those that need it."""
        with without_garbage_collection():
            return _turned(self.dependencies)

    @cached_property
    def in_degrees(self) -> list[int]:
        """For each task how many it needs."""
        return list(map(len, self.dependencies))

    @cached_property
    def ranks(self) -> list[int]:
        """For each task its rank (see above); only for graphs without a cycle."""
        heights = self._heights()
        if len(set(self._priorities)) > 1:
            return list(map(rank, self._priorities, heights, range(len(heights))))
        base = rank(self._priorities[0], 0, 0) if heights else 0
        return [base - (height << NUMBER_BITS) + task for task, height in enumerate(heights)]

    def __len__(self) -> int:
        return len(self.dependencies)

    def _topological(self) -> Sequence[int]:
        """Definition order, if that will do; else by Kahn's algorithm (1962), first in first out."""
        if not any(needs and max(needs) >= task for task, needs in enumerate(self.dependencies)):
            return range(len(self.dependencies))
        missing = self.in_degrees.copy()
        order = [task for task, count in enumerate(missing) if not count]
        dependents = self.dependents
        for task in order:
            for dependent in dependents[task]:
                count = missing[dependent] = missing[dependent] - 1
                if not count:
                    order.append(dependent)
        return order

    def _heights(self) -> list[int]:
        """Number of tasks in the longest chain that starts behind each task."""
        dependencies = self.dependencies
        heights = [0] * len(dependencies)
        for task in reversed(self.order):
            needs = dependencies[task]
            if needs:
                above = heights[task] + 1
                for need in needs:
                    if heights[need] < above:  # noqa: PLR1730  `max` would be a call for every edge
                        heights[need] = above
        return heights

    def levels(self) -> list[list[int]]:
        """Task numbers by level: a task is in the first level after all that it needs; within a level by priority, then
        definition order.
        """
        depth = [0] * len(self.dependencies)
        dependencies = self.dependencies
        for task in self.order:
            deepest = -1
            for need in dependencies[task]:
                if depth[need] > deepest:  # noqa: PLR1730  as in `_heights`
                    deepest = depth[need]
            depth[task] = deepest + 1
        levels: list[list[int]] = [[] for _ in range(max(depth, default=-1) + 1)]
        for task, level in enumerate(depth):
            levels[level].append(task)
        if len(set(self._priorities)) > 1:
            for members in levels:
                members.sort(key=lambda task: -self._priorities[task])
        return levels

    def cycle(self) -> list[int]:
        """Some ring of tasks, each needed by the one after it; empty if there is none."""
        if len(self.order) == len(self.dependencies):
            return []
        stuck = set(range(len(self.dependencies))).difference(self.order)
        seen: dict[int, int] = {}
        path: list[int] = []
        task = min(stuck)
        while task not in seen:
            seen[task] = len(path)
            path.append(task)
            task = min(need for need in self.dependencies[task] if need in stuck)
        return path[seen[task] :][::-1]


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Put off the cyclic garbage collector while a large graph is numbered: everything made here lives as long as the
    workflow, and at a million tasks looking through it again and again was a third of the time.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _turned(dependencies: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    """The edges the other way round; in tuples, as the garbage collector doesn't come back to those of numbers."""
    dependents: list[list[int]] = [[] for _ in dependencies]
    for task, needs in enumerate(dependencies):
        for need in needs:
            dependents[need].append(task)
    return list(map(tuple, dependents))


def rank(priority: int, height: int, number: int) -> int:
    """A task's rank (see the module): lower starts first, and `rank & NUMBER_MASK` is the task's number."""
    return (-priority << (NUMBER_BITS + HEIGHT_BITS)) + ((_TALLEST - min(height, _TALLEST)) << NUMBER_BITS) + number


def with_priority(rank: int, priority: int) -> int:
    """The same rank at another priority."""
    shift = NUMBER_BITS + HEIGHT_BITS
    return (-priority << shift) + (rank & ((1 << shift) - 1))
