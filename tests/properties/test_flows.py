"""Random fed flows: every message goes the way that plain code would take it, direct steps handle one at a time and in
order, no buffer lets more in than it says; also when the process ends in the middle and goes on from the journal.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from nerv import Flow, Manual, MemoryJournal, TaskDef, WorkflowManager, WorkflowStatus

LONG = 30.0
MESSAGES = 10


class Stop(Exception):  # noqa: N818  a lane's end is no error here
    """A step of a lane has failed: nothing behind it runs."""


@dataclass
class Watched:
    """What the steps do, and what they saw: who was inside at a time, in which order they came."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    inside: dict[Any, set[int]] = field(default_factory=lambda: defaultdict(set))
    most: dict[Any, int] = field(default_factory=lambda: defaultdict(int))
    came: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def enter(self, place: Any, message: int) -> None:
        with self.lock:
            self.inside[place].add(message)
            self.most[place] = max(self.most[place], len(self.inside[place]))
            if isinstance(place, str):
                self.came[place].append(message)

    def leave(self, place: Any, message: int) -> None:
        with self.lock:
            self.inside[place].discard(message)


Way = Callable[[int, dict[str, str]], int]


@dataclass
class Drawn:
    """A flow, and the plain code that says what becomes of a message: (value, statuses) -> value."""

    random: Random
    watched: Watched
    flow: Flow = field(default_factory=lambda: Flow("drawn").triggered_by(Manual()))
    stretches: dict[str, int | None] = field(default_factory=dict)  # step -> its buffer, or None
    limits: list[int | None] = field(default_factory=list)
    stretch: int | None = None

    def step(self, salt: int = 0) -> tuple[TaskDef, Way]:
        """A step that changes its value, and fails for some."""
        name, stretch, watched = f"s{len(self.stretches)}", self.stretch, self.watched
        self.stretches[name] = stretch
        salt = salt or self.random.randrange(1, 1000)

        def changed(value: int) -> int:
            if (value * 7 + salt) % 11 == 0:
                raise ValueError(value)
            return value * 3 + salt % 5

        def act(ctx: Any, value: int) -> int:
            message = ctx["item"]
            watched.enter(name, message)
            if stretch is not None:
                watched.enter(stretch, message)
            try:
                if (message + salt) % 3 == 0:
                    time.sleep(0.001)  # what doesn't block would all run on one thread
                return changed(value)
            finally:
                if stretch is not None:
                    watched.leave(stretch, message)
                watched.leave(name, message)

        def way(value: int, statuses: dict[str, str]) -> int:
            try:
                result = changed(value)
            except ValueError:
                statuses[name] = "FAILED"
                raise Stop from None
            statuses[name] = "COMPLETED"
            return result

        act.__annotations__ = {}
        return TaskDef(name, act), way

    def then(self) -> Way:
        task, way = self.step()
        self.flow = self.flow.then(task)
        return way

    def parallel(self) -> Way:
        made = [self.step() for _ in range(self.random.randint(1, 3))]
        name = f"p{len(self.stretches)}"
        self.stretches[name] = self.stretch
        self.flow = self.flow.then_parallel(name, *(task for task, _ in made))
        ends = TaskDef(f"e{len(self.stretches)}", lambda results: sum(results.values()))
        self.stretches[ends.id] = self.stretch
        self.flow = self.flow.then(ends)

        def way(value: int, statuses: dict[str, str]) -> int:
            results, failed = [], False
            for _, one in made:
                try:
                    results.append(one(value, statuses))
                except Stop:
                    failed = True
            if failed:
                raise Stop
            statuses[name] = statuses[ends.id] = "COMPLETED"
            return sum(results)

        return way

    def when(self, depth: int) -> Way:
        name, outside, rest = f"w{len(self.stretches)}", self.stretch, self.random.randrange(2)
        self.stretches[name] = outside
        self.flow = self.flow.when(lambda value: value % 2 == rest, id=name)
        first = self.steps(depth - 1)
        self.stretch = outside
        self.flow = self.flow.otherwise()
        other = self.steps(depth - 1) if self.random.random() < 0.6 else []
        self.stretch = outside
        self.flow = self.flow.end_when()

        def way(value: int, statuses: dict[str, str]) -> int:
            statuses[name] = "COMPLETED"
            for one in first if value % 2 == rest else other:
                value = one(value, statuses)
            return value

        return way

    def route(self) -> Way:
        name, made = f"r{len(self.stretches)}", [self.step() for _ in range(3)]
        self.stretches[name] = self.stretch
        routes = [(lambda value, rest=rest: value % 3 == rest, made[rest][0]) for rest in range(2)]
        self.flow = self.flow.route(name, routes, default=made[2][0])

        def way(value: int, statuses: dict[str, str]) -> int:
            statuses[name] = "COMPLETED"
            return made[value % 3][1](value, statuses)

        return way

    def buffer(self) -> None:
        self.stretch = len(self.limits)
        self.limits.append(self.random.choice([None, 1, 2, 3]))
        self.flow = self.flow.buffer(self.limits[-1])

    def steps(self, depth: int) -> list[Way]:
        """Some steps, with buffers and collects between them."""
        ways: list[Way] = []
        outside = self.stretch
        for _ in range(self.random.randint(1, 3)):
            if self.random.random() < 0.4:
                self.buffer()
            kind = self.random.choice(["then", "then", "parallel", "route", "when", "when"]) if depth else "then"
            if kind == "when" and not ways and self.flow.steps and self.flow.steps[-1].kind in ("when", "otherwise"):
                kind = "then"
            ways.append(self.when(depth) if kind == "when" else getattr(self, kind)())
            if self.stretch != outside and self.random.random() < 0.5:
                self.flow = self.flow.collect()
                self.stretch = outside
        return ways


def drawn(seed: int) -> tuple[Drawn, list[Way]]:
    made = Drawn(Random(seed), Watched())
    return made, made.steps(2)


def expected(made: Drawn, ways: list[Way], message: int) -> dict[str, str]:
    """What plain code does with a message; what it doesn't come to is SKIPPED."""
    statuses = dict.fromkeys(made.stretches, "SKIPPED")
    value = message
    try:
        for way in ways:
            value = way(value, statuses)
    except Stop:
        pass
    return statuses


def assert_as_drawn(made: Drawn, ways: list[Way], execution: Any, seed: int) -> None:
    assert execution.status is WorkflowStatus.COMPLETED, seed
    for message in range(MESSAGES):
        found = {step: execution.task(f"{step}[{message}]").status.name for step in made.stretches}
        assert found == expected(made, ways, message), (seed, message)
    for step, stretch in made.stretches.items():
        if stretch is None:
            assert made.watched.most[step] <= 1, (seed, step)
    for stretch, limit in enumerate(made.limits):
        assert limit is None or made.watched.most[stretch] <= limit, (seed, stretch)


def test_messages_go_as_plain_code_would_take_them():
    skipped = failed = buffers = 0
    with WorkflowManager(workers=4) as manager:
        for seed in range(150):
            made, ways = drawn(seed)
            execution = manager.start(made.flow.build())
            for message in range(MESSAGES):
                execution.send(message)
            execution.close()
            assert execution.wait(LONG), (seed, execution.summary())
            assert_as_drawn(made, ways, execution, seed)
            for step, stretch in made.stretches.items():
                if stretch is None:
                    assert made.watched.came[step] == sorted(made.watched.came[step]), (seed, step)
            counts = execution.project("progress")
            skipped, failed, buffers = skipped + counts.skipped, failed + counts.failed, buffers + len(made.limits)
    assert min(skipped, failed, buffers) > 100


@pytest.mark.parametrize("durability", ["strict", "group"])
def test_they_do_so_too_when_the_process_ends_in_the_middle(durability):
    cut = 0
    for seed in range(40):
        made, ways = drawn(seed)
        flow, journal = made.flow.build(), MemoryJournal()
        with WorkflowManager(workers=3, journal=journal, durability=durability, grace=0.0) as manager:
            execution = manager.start(flow)
            for message in range(MESSAGES):
                execution.send(message)
            execution.close()
            Random(seed).random() < 0.5 and execution.wait(0.001)
        status = execution.status
        if status is WorkflowStatus.INTERRUPTED:
            cut += 1
            made.watched.inside.clear()
            made.watched.most.clear()
            with WorkflowManager(workers=3, journal=journal, durability=durability) as manager:
                (execution,) = manager.recover(flow)
                assert execution.wait(LONG), (seed, execution.summary())
        assert_as_drawn(made, ways, execution, seed)
    assert cut > 20
