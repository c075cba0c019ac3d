"""Every state that a scheduler can reach, and every move out of each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from tests.properties.history import History
from tests.properties.machine import Machine
from tests.properties.oracle import Case


class Counts(NamedTuple):
    """How much was seen."""

    cases: int = 0
    states: int = 0
    moves: int = 0
    events: int = 0
    ends: int = 0

    def plus(self, other: Counts) -> Counts:
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))

    def __str__(self) -> str:
        return ", ".join(f"{number:,} {name}" for name, number in zip(self._fields, self, strict=True))


def explore(case: Case, **choice: Any) -> Counts:
    """Make every move out of every state that can be reached, each state once, however it was reached.

    `Machine` checks each move; for the first way to each end, `History` checks all its events as well. `choice` is what
    `Machine.moves` takes.
    """
    first = Machine(case)
    seen = {first.content()}
    todo = [first]
    moves = events = ends = 0
    while todo:
        machine = todo.pop()
        for move in machine.moves(**choice):
            after = machine.copied()
            events += after.make(move)
            moves += 1
            content = after.content()
            if content not in seen:
                seen.add(content)
                todo.append(after)
                if after.ended:
                    ends += 1
                    history = History(case, cancelled=True, halted=move == ("halt",), claims="claims" in choice)
                    history.read(after.scheduler.records)
    return Counts(1, len(seen), moves, events, ends)


def explore_all(cases: Iterable[Case], **choice: Any) -> Counts:
    """The sum over all cases."""
    total = Counts()
    for case in cases:
        total = total.plus(explore(case, **choice))
    return total
