"""Workflows of nodes inside nodes give what plain code gives, in whatever order things happen and what is retried."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import pytest

from nerv import (
    Buffer,
    EventType,
    Expand,
    Loop,
    Output,
    Param,
    RetryPolicy,
    Router,
    Sequence,
    SubWorkflow,
    TaskDef,
    Workflow,
    WorkflowManager,
    run,
)
from nerv.testing import FakeClock, Faults, SimulatedPools
from nerv.testing.cast import stands_for_others

LONGEST = 200
"""Rounds of a loop."""

PERSISTENT = RetryPolicy(50, 0.01, jitter=0)


def mixed(salt: int, *values: int) -> int:
    """Another number for other values, or the same in another order."""
    for value in values:
        salt = (salt * 31 + value) % 10_007
    return salt


def is_enough(rest: int, value: int) -> bool:
    """Ends a loop."""
    return value % 5 == rest


def is_odd(value: int) -> bool:
    """Chooses a branch."""
    return value % 2 == 1


def grown(salt: int, *values: int) -> Expand:
    """Two tasks in the place of one."""
    first = TaskDef("first", partial(mixed, salt), args=values)
    return Expand([first, TaskDef("second", partial(mixed, salt), args=(Output("first"), 1))], Output("second"))


Way = Callable[[int], int]
"""Plain code: from the number that a workflow is given to its result."""


class Drawn:
    """A workflow from a seed, and the plain code that does the same. `known` is each value so far, given the item."""

    def __init__(self, random: Random, depth: int) -> None:
        self.random, self.depth = random, depth
        self.tasks: list[TaskDef] = []
        self.ways: dict[str, Callable[[dict[str, int]], int]] = {}
        self._add("start", lambda known: mixed(1, known["item"]), fn=partial(mixed, 1), args=(Param("item"),))
        for place in range(random.randint(1, 5)):
            kinds = [self.plain, self.sequence, self.loop, self.route, self.expand, self.buffer]
            kinds += [self.sub, self.deep] if depth else []
            random.choice(kinds)(f"n{place}", random.randrange(1000))
        ids = list(self.ways)
        self._add(
            "end", lambda known: mixed(2, *map(known.get, ids)), fn=partial(mixed, 2), args=tuple(map(Output, ids))
        )

    def workflow(self) -> Workflow:
        """In random definition order."""
        return Workflow("drawn", self.random.sample(self.tasks, len(self.tasks)), result=Output("end"))

    def __call__(self, item: int) -> int:
        known = {"item": item}
        for task, way in self.ways.items():
            known[task] = way(known)
        return known["end"]

    def _add(self, task: str, way: Callable[[dict[str, int]], int], **fields: Any) -> None:
        self.tasks.append(TaskDef(task, retry_policy=PERSISTENT, **fields))
        self.ways[task] = way

    def _before(self) -> str:
        return self.random.choice(list(self.ways))

    # ---- the kinds --------------------------------------------------------------------------------------------------

    def plain(self, task: str, salt: int) -> None:
        needs = [self._before() for _ in range(self.random.randint(1, 3))]
        way = lambda known: mixed(salt, *map(known.get, needs))  # noqa: E731
        self._add(task, way, fn=partial(mixed, salt), args=tuple(map(Output, needs)))

    def expand(self, task: str, salt: int) -> None:
        need = self._before()
        way = lambda known: mixed(salt, mixed(salt, known[need]), 1)  # noqa: E731
        self._add(task, way, fn=partial(grown, salt), args=(Output(need),))

    def sequence(self, task: str, salt: int) -> None:
        need, steps = self._before(), self.random.randint(1, 3)
        targets = [TaskDef("step", partial(mixed, salt + step), retry_policy=PERSISTENT) for step in range(steps)]
        self.tasks.append(Sequence(task, targets, Output(need)))

        def way(known: dict[str, int]) -> int:
            value = known[need]
            for step in range(steps):
                value = mixed(salt + step, value)
            return value

        self.ways[task] = way

    def loop(self, task: str, salt: int) -> None:
        need, rest = self._before(), self.random.randrange(5)
        body = TaskDef("body", partial(mixed, salt), retry_policy=PERSISTENT)
        self.tasks.append(Loop(task, body, partial(is_enough, rest), Output(need), LONGEST, fallback=-1))

        def way(known: dict[str, int]) -> int:
            value = known[need]
            for _ in range(LONGEST):
                value = mixed(salt, value)
                if is_enough(rest, value):
                    return value
            return -1

        self.ways[task] = way

    def route(self, task: str, salt: int) -> None:
        need, odd, even = self._before(), f"{task}-odd", f"{task}-even"
        self.tasks.append(Router(f"{task}-route", Output(need), [(is_odd, odd)], default=even))
        for number, branch in enumerate((odd, even)):
            fn = partial(mixed, salt + number)
            given = {"args": (Output(f"{task}-route"),), "retry_policy": PERSISTENT}
            self.tasks.append(TaskDef(branch, fn, **given))
        way = lambda known: mixed(salt, mixed(salt + 1 - known[need] % 2, known[need]))  # noqa: E731
        self._add(task, way, fn=partial(mixed, salt), args=(Output.first(odd, even),))

    def buffer(self, task: str, salt: int, target: Any = None, way: Way | None = None) -> None:
        items = [self.random.randrange(100) for _ in range(self.random.randint(0, 4))]
        target = target or TaskDef("item", partial(mixed, salt), retry_policy=PERSISTENT)
        self.tasks.append(
            Buffer(f"{task}-each", items, target, self.random.choice([None, 1, 2]), dependencies=["start"])
        )
        self._add(
            task,
            lambda _: mixed(salt, *((way or partial(mixed, salt))(item) for item in items)),
            fn=lambda complete: mixed(salt, *complete.values),
            args=(Output(f"{task}-each"),),
        )

    def deep(self, task: str, salt: int) -> None:
        inner = Drawn(self.random, self.depth - 1)
        self.buffer(task, salt, inner.workflow(), inner)

    def sub(self, task: str, _: int) -> None:
        need, inner = self._before(), Drawn(self.random, self.depth - 1)
        self.tasks.append(SubWorkflow(task, inner.workflow(), {"item": Output(need)}))
        self.ways[task] = lambda known: inner(known[need])


def drawn(seed: int) -> tuple[Workflow, Way]:
    made = Drawn(Random(seed), depth=2)
    return made.workflow(), made


def befallen(seed: int, scheduling: str) -> int:
    """Run one whose attempts fail, crash and are slow, on simulated pools; returns how many were retried."""
    workflow, way = drawn(seed)
    clock, faults = FakeClock(auto=True), Faults(failing=0.1, crashing=0.05, slow=0.2).seeded(seed)
    pools = SimulatedPools(
        seed, clock=clock, takes=faults.takes, faults=lambda call: None if is_own(call.task) else faults(call)
    )
    with WorkflowManager(clock=clock, pool_factory=pools, workers=3, scheduling=scheduling) as manager:
        execution = manager.start(workflow, {"item": seed})
        pools.run()
        assert execution.status.name == "COMPLETED", execution.summary()
    assert execution.result == way(seed)
    return sum(event.type is EventType.TASK_RETRYING for event in execution.events())


def is_own(task: TaskDef) -> bool:
    """Whether it is a node, or a task without retries."""
    return stands_for_others(task) or task.retry_policy is not PERSISTENT


@pytest.mark.parametrize("scheduling", ["ready", "levels"])
def test_what_nodes_give_is_what_plain_code_gives_whatever_befalls_the_attempts(scheduling):
    assert sum(befallen(seed, scheduling) for seed in range(60)) > 100


def test_what_nodes_give_is_what_plain_code_gives_on_threads():
    for seed in range(60, 90):
        workflow, way = drawn(seed)
        assert run(workflow, {"item": seed}, workers=4).result == way(seed)
