"""Random walks: a machine makes one random move after another until its execution has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random

from nerv.eventlog import Record
from nerv.fields import RUN_WHEN
from tests.properties.graphs import random_graph
from tests.properties.history import History
from tests.properties.machine import Machine, Move
from tests.properties.oracle import Case

LIKELIHOOD = {
    "take": 6.0, "claim": 2.0, "started": 4.0, "unclaim": 1.0, "completed": 5.0, "relay": 5.0, "cancelled": 2.0,
    "pause": 0.3, "resume": 2.0, "cancel": 0.03, "halt": 0.01,
}  # fmt: skip


def random_case(random: Random, most: int, least: int = 1) -> Case:
    """A random graph of `least` to `most` tasks with random rules, priorities, queues, policy and scheduler."""
    size = random.randint(least, most)
    plain = random.random() < 0.3
    return Case(
        random_graph(random, size),
        ("all_completed",) * size if plain else tuple(random.choices(RUN_WHEN, (3, 1, 1), k=size)),
        random.choice((True, False)),
        tuple(random.choices(range(-2, 3), k=size)),
        tuple(random.choices(range(random.randint(1, 3)), k=size)),
        random.random() < 0.25,
    )


class Walk:
    """One execution, walked at random.

    Attributes:
        steps: moves made, those included that changed nothing.
    """

    def __init__(self, random: Random, most: int, records: list[Record] | None = None, least: int = 1) -> None:
        self.machine = Machine(random_case(random, most, least), records)
        self.claims = random.random() < 0.5
        self.failing = random.choice((0.0, 0.02, 0.1, 0.5))
        self.random = random
        self.steps = 0
        self.last: Move = ("start",)

    def to_its_end(self, seen: Callable[[Machine], None] | None = None) -> Walk:
        """Walk until the execution has ended, then check its events; `seen` is called after each move."""
        machine = self.machine
        while not machine.ended:
            self.last = self.chosen(machine.moves(claims=self.claims, unasked=False))
            machine.make(self.last)
            self.steps += 1
            if seen is not None:
                seen(machine)
        for move in machine.moves():
            machine.make(move)
        halted = self.last == ("halt",)
        cancelled = machine.scheduler.cancelling
        History(machine.case, cancelled=cancelled, halted=halted, claims=self.claims).read(machine.scheduler.records)
        return self

    def chosen(self, moves: Iterable[Move]) -> Move:
        options = list(moves)
        weights = [6 * self.failing if name == "failed" else LIKELIHOOD[name] for name, *_ in options]
        return self.random.choices(options, weights)[0]


def walk(walks: int, random: Random, most: int, least: int = 6) -> int:
    """Make so many walks over graphs of `least` to `most` tasks; returns how many moves they took."""
    return sum(Walk(random, most, least=least).to_its_end().steps for _ in range(walks))
