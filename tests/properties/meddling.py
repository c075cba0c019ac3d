"""Managers on simulated pools whose tasks have policies of every kind, with somebody who interferes.

What must hold at every step is in `check`, what a log must look like afterwards in `Reading`. Both count from the
events and from what is in flight, not from what the limits believe of themselves.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import inf
from random import Random
from typing import Any

from nerv import (
    CircuitBreaker,
    Execution,
    FatalError,
    RateLimit,
    RetryPolicy,
    TaskDef,
    TerminalError,
    Workflow,
    WorkflowManager,
)
from nerv.eventlog import CODES
from nerv.events import EventType
from nerv.limits import BreakerState
from nerv.lines import BreakerLine
from nerv.scheduler import STATUSES
from nerv.statuses import TaskStatus, WorkflowStatus
from nerv.testing import FakeClock, SimulatedPools
from tests.properties.oracle import Case
from tests.properties.walking import random_case

POOLS = ("thread", "process", "extra")
RESOURCES = {"gpu": 2, "memory": 1.0}
LIMITS = (RateLimit(2, 10, name="slow"), RateLimit(5, 3, name="quick"))
BREAKERS = (CircuitBreaker(2, 20, name="strict"), CircuitBreaker(3, 8, half_open_calls=2, name="mild"))
MOODS: tuple[type[BaseException], ...] = (OSError, OSError, OSError, TerminalError, KeyboardInterrupt, FatalError)


@dataclass(eq=False)
class Work:
    """A task's function, its fallback and its compensation; each notes its calls."""

    random: Random
    chance: float
    calls: int = 0
    fallbacks: int = 0
    undone: int = 0
    undo_fails: bool = False

    def __call__(self) -> int:
        self.calls += 1
        if self.random.random() < self.chance:
            raise self.random.choice(MOODS)
        return self.calls

    def fall_back(self, error: BaseException) -> str:
        assert isinstance(error, Exception)
        self.fallbacks += 1
        if self.random.random() < 0.2:
            raise ValueError
        return "instead"

    def undo(self, value: Any) -> None:
        assert value is not None
        self.undone += 1
        if self.undo_fails:
            raise LookupError


@dataclass(eq=False)
class Policed:
    """An execution, and what it runs."""

    case: Case
    tasks: list[TaskDef]
    works: list[Work]
    execution: Execution
    cancelled: bool = False
    own_limit: RateLimit = field(default_factory=lambda: RateLimit(1, 1))


class PolicedSimulation:
    """Random workflows with random policies on one manager. `seed` decides everything."""

    def __init__(self, seed: int, most: int = 10) -> None:
        self.random = random = Random(seed)
        self.most = most
        self.clock = FakeClock(auto=True)
        self.pools = SimulatedPools(seed, clock=self.clock, takes=self._seconds)
        self.levels = random.random() < 0.2
        self.fail_fast = random.random() < 0.5
        self.manager = WorkflowManager(
            clock=self.clock,
            pool_factory=self.pools,
            workers=random.randint(1, 4),
            processes=random.randint(1, 2),
            pools={"extra": {"kind": "thread", "workers": 1}},
            failure_policy="fail_fast" if self.fail_fast else "continue",
            scheduling="levels" if self.levels else "ready",
            resources=RESOURCES,
            grace=30,
        )
        self.engine = self.manager.engine
        self.running: list[Policed] = []
        self.seen = Counter[str]()

    def _seconds(self, call: Any) -> float:
        if call.timeout is not None and self.random.random() < 0.2:
            return inf
        return self.random.choice((0.0, 0.0, 1.0, 5.0, 20.0))

    # ---- what runs --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start one more execution."""
        random = self.random
        drawn = random_case(random, self.most)
        case = Case(drawn.needs, drawn.rules, self.fail_fast, drawn.priorities, drawn.queue_of, self.levels)
        chance = random.choice((0.0, 0.1, 0.3, 0.6))
        works = [Work(random, chance, undo_fails=random.random() < 0.2) for _ in case.tasks]
        own = RateLimit(1, 2)
        tasks = [self._task(case, number, works[number], own) for number in case.tasks]
        timeout = random.choice((None, None, None, 30.0))
        execution = self.manager.start(Workflow("wf", tasks, timeout=timeout))
        self.running.append(Policed(case, tasks, works, execution, own_limit=own))

    def _task(self, case: Case, number: int, work: Work, own: RateLimit) -> TaskDef:
        random = self.random

        def maybe(chance: float, fields: dict[str, Any]) -> dict[str, Any]:
            return fields if random.random() < chance else {}

        policy = RetryPolicy(random.randint(1, 3), initial_interval=random.choice((0.5, 5.0)), jitter=0)
        held = {"gpu": random.randint(1, 2)} if random.random() < 0.5 else {"memory": random.choice((0.1, 0.5, 1.0))}
        return TaskDef(
            str(number),
            work,
            dependencies=[str(need) for need in case.needs[number]],
            priority=case.priorities[number],
            run_when=case.rules[number],
            pool=POOLS[case.queue_of[number]],
            **maybe(0.5, {"retry_policy": policy}),
            **maybe(0.3, {"timeout": random.choice((2.0, 10.0))}),
            **maybe(0.3, {"fallback": random.choice((work.fall_back, "value"))}),
            **maybe(0.4, {"compensate": work.undo}),
            **maybe(0.4, {"rate_limit": random.choice((*LIMITS, own))}),
            **maybe(0.4, {"circuit_breaker": random.choice(BREAKERS)}),
            **maybe(0.3, {"resources": {**held, **maybe(0.3, {"gpu": 1})}}),
        )

    # ---- what happens -----------------------------------------------------------------------------------------------

    def go(self, executions: int) -> Counter[str]:
        """Run so many executions, interfering, until all have ended; returns how often what was seen."""
        for _ in range(200_000):
            if len(self.running) == executions and all(one.execution.status.is_final for one in self.running):
                break
            if len(self.running) < executions and self.random.random() < 0.1:
                self.start()
            elif self.random.random() < 0.08:
                self.interfere()
            elif not self.pools.step() and not self.pools._jump():
                resumed = [one.execution.resume() for one in self.running]
                assert any(resumed) or len(self.running) < executions, f"a lost wake-up: {self.stuck()}"
            self.check()
        else:
            raise AssertionError(f"it doesn't come to an end: {self.stuck()}")
        for one in self.running:
            Reading(one).check()
            self.seen.update(CODES[record[0]].value for record in one.execution.log.records)
        self.check_windows()
        self.check_idle()
        self.manager.close()
        return self.seen

    def interfere(self) -> None:
        """Do something to some execution, or to a pool."""
        if not self.running:
            return
        chosen, act = self.random.choice(self.running), self.random.random()
        if act < 0.15:
            chosen.execution.pause()
        elif act < 0.45:
            chosen.execution.resume()
        elif act < 0.5:
            chosen.cancelled |= chosen.execution.cancel("enough")
        elif act < 0.9:
            task = self.random.choice(chosen.tasks)
            chosen.execution.reprioritize(task.id, self.random.randint(-3, 3))
        else:
            self.manager.resize("thread", self.random.randint(1, 5))

    def stuck(self) -> list[Any]:
        """What hasn't ended, and why."""
        return [
            (one.execution.status.name, one.execution.waiting(), one.execution.summary())
            for one in self.running
            if not one.execution.status.is_final
        ]

    # ---- what holds at every moment ---------------------------------------------------------------------------------

    def check(self) -> None:
        """No limit is exceeded, and whoever waits says for what."""
        held = Counter[str]()
        through = Counter[BreakerLine]()
        for live in self.engine.lives.values():
            attempts = [call for call in live.active.values() if call.is_attempt]
            for call in attempts:
                held.update({name: round(amount * 10) for name, amount in (call.task.resources or {}).items()})
            if live.scheduler.waits is not None:
                self._check_waits(live, {call.number for call in attempts}, through)
        self._check_held(held)
        for line, count in through.items():
            if line._breaker.state is BreakerState.HALF_OPEN:
                assert count <= line.policy.half_open_calls

    @staticmethod
    def _check_waits(live: Any, running: set[int], through: Counter[BreakerLine]) -> None:
        waits = live.scheduler.waits
        assert set(waits._passes) <= running, "who doesn't run holds nothing"
        for number in running:
            for line, token in waits._passes.get(number, ()):
                if isinstance(line, BreakerLine) and token == line._breaker._term:
                    through[line] += 1
        for number, state in enumerate(live.scheduler.state):
            if STATUSES[state] is TaskStatus.WAITING:
                assert number in waits.reasons or live.setbacks, "it waits for nothing that it can name"

    def _check_held(self, held: Counter[str]) -> None:
        for name, amount in RESOURCES.items():
            assert held[name] <= round(amount * 10), f"more than {amount} of {name} is held"
            assert round(self.engine.lines.resources[name].stock.free * 10) == round(amount * 10) - held[name]

    def check_windows(self) -> None:
        """No limit let more attempts start in any window than it may, over all executions."""
        for limit in LIMITS:
            self._check_window(limit, [s for one in self.running for s in starts_of(one, limit)])
        for one in self.running:
            self._check_window(one.own_limit, starts_of(one, one.own_limit))

    @staticmethod
    def _check_window(limit: RateLimit, moments: list[float]) -> None:
        moments = sorted(moments)
        for sooner, later in zip(moments, moments[limit.count :], strict=False):
            assert later - sooner >= limit.period, f"{limit} let {limit.count + 1} start within {later - sooner} s"

    def check_idle(self) -> None:
        """Nothing is left over when all has ended."""
        lines = self.engine.lines
        assert not self.engine.lives
        assert not lines.waited_for
        assert not lines.refused
        assert all(line.stock.free == line.stock.amount for line in lines.resources.values())
        for one in self.running:
            live = one.execution._live
            assert not live.active
            assert not live.setbacks
            assert not live.scheduler.errands
            assert not any(live.scheduler.ready)
            if live.scheduler.waits is not None:
                assert not live.scheduler.waits._passes
                assert not live.scheduler.waits.parked
        for _ in range(100):  # a line's alarm may still ring, and a grace end, each once
            if not self.pools._jump():
                break
        assert self.clock.due is None, "somebody wakes again and again"


def starts_of(one: Policed, limit: RateLimit) -> list[float]:
    """When attempts of its tasks with this limit started."""
    mine = {number for number, task in enumerate(one.tasks) if task.rate_limit is limit}
    started = EventType.TASK_STARTED
    return [at for code, task, at, _, _ in one.execution.log.records if CODES[code] is started and task in mine]


class Reading:
    """Reads the log of one execution that has ended."""

    def __init__(self, one: Policed) -> None:
        self.one = one
        self.records = [(CODES[code], *rest) for code, *rest in one.execution.log.records]

    def of(self, kind: EventType, number: int | None = None) -> list[tuple[Any, ...]]:
        """Its events of a type, of one task if it is numbered."""
        return [record for record in self.records if record[0] is kind and number in (None, record[1])]

    def check(self) -> None:
        """Everything."""
        for number, task in enumerate(self.one.tasks):
            self._attempts(number, task)
        self._undone()
        self._end()

    def _attempts(self, number: int, task: TaskDef) -> None:
        work, policy = self.one.works[number], task.retry_policy
        most = 1 if policy is None else policy.maximum_attempts  # type: ignore[union-attr]
        started = [record[3] for record in self.of(EventType.TASK_STARTED, number)]
        retries = self.of(EventType.TASK_RETRYING, number)
        assert started == list(range(1, len(started) + 1)), "attempts are numbered without gaps"
        assert len(started) <= most
        assert work.calls <= len(started), "one that timed out is called later, or never"
        assert all(attempt < most for *_, attempt, _ in retries), "no delay after the last attempt"
        for _, _, at, attempt, data in retries:
            assert data["due"] > at + self.one.execution.log.epoch
            again = [record[2] for record in self.of(EventType.TASK_STARTED, number) if record[3] == attempt + 1]
            assert all(moment + self.one.execution.log.epoch >= data["due"] for moment in again), "too early"
        ends = [r for r in self.records if r[1] == number and r[0] in ENDS]
        assert len(ends) == 1, f"{task.id} ended {len(ends)} times"
        (end,) = ends
        if end[0] is EventType.TASK_COMPLETED and (end[4] or {}).get("fallback"):
            assert task.fallback is not None
            assert isinstance(end[4]["error"], Exception)
        after = self.records[self.records.index(end) + 1 :]
        mine = {record[0] for record in after if record[1] == number}
        assert mine <= {EventType.TASK_COMPENSATED, EventType.TASK_REPRIORITIZED}, "nothing follows a task's end"

    def _undone(self) -> None:
        undone = [record[1] for record in self.of(EventType.TASK_COMPENSATED)]
        assert len(undone) == len(set(undone)), "once a task"
        undoable = {number for number, task in enumerate(self.one.tasks) if task.compensate is not None}
        first = next((i for i, record in enumerate(self.records) if record[0] is EventType.TASK_COMPENSATED), None)
        if first is None:
            if self.one.execution.status is not WorkflowStatus.COMPLETED:
                late = [r[1] for r in self.of(EventType.TASK_COMPLETED) if r[1] in undoable]
                assert all(self.one.case.rules[number] == "all_finished" for number in late), "not undone"
            return
        assert self.one.execution.status is not WorkflowStatus.COMPLETED
        done = [r[1] for r in self.records[:first] if r[0] is EventType.TASK_COMPLETED and r[1] in undoable]
        running = [n for n in done if n not in undone]
        assert all(self.one.case.rules[n] == "all_finished" for n in running), "all of them"
        assert undone == [n for n in reversed(done) if n in undone], "the last completed first"
        last = max(i for i, record in enumerate(self.records) if record[0] is EventType.TASK_COMPENSATED)
        between = [r for r in self.records[first:last] if r[0] is EventType.TASK_STARTED and r[3] == 1]
        assert not between, "cleanup that hasn't started waits until all is undone"
        for number in undone:
            policy = self.one.tasks[number].retry_policy
            assert self.one.works[number].undone <= (1 if policy is None else policy.maximum_attempts)  # type: ignore[union-attr]

    def _end(self) -> None:
        execution = self.one.execution
        all_completed = all(STATUSES[state] is TaskStatus.COMPLETED for state in execution._live.scheduler.state)
        assert (execution.status is WorkflowStatus.COMPLETED) == (all_completed and execution.error is None)
        if execution.status is WorkflowStatus.CANCELLED:
            assert self.one.cancelled
        assert self.records[-1][0].value == f"WORKFLOW_{execution.status.name}"


ENDS = (EventType.TASK_COMPLETED, EventType.TASK_FAILED, EventType.TASK_SKIPPED, EventType.TASK_CANCELLED)
