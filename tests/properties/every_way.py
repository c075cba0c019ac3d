"""Every way in which a small execution with policies can go, on the real engine.

Everything that could go one way or another is a choice: which worker comes or whose call ends next, whether time passes
first, whether a function returns or raises, and when somebody pauses, cancels or reprioritizes. One run makes the
choices of a path and then the first of each; the next path changes the last choice that has an alternative. A state
that was seen before isn't followed again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nerv import TaskDef, Workflow, WorkflowManager
from nerv.eventlog import CODES
from nerv.lines import BreakerLine, RateLine, ResourceLine
from nerv.testing import FakeClock, SimulatedPools
from tests.properties.meddling import Policed, Reading
from tests.properties.oracle import Case


class SeenError(Exception):
    """Raised to end a run that has come to a known state."""


class Chooser:
    """Makes the choices of a path, then the first of each."""

    def __init__(self, path: list[int]) -> None:
        self.path = path
        self.made: list[tuple[int, int]] = []

    def choose(self, options: int) -> int:
        """One of so many."""
        place = len(self.made)
        choice = self.path[place] if place < len(self.path) else 0
        self.made.append((choice, options))
        return choice

    @property
    def is_new(self) -> bool:
        """Whether the next choice is beyond the path."""
        return len(self.made) >= len(self.path)

    def next_path(self) -> list[int] | None:
        """The path that changes the last choice that can be changed; None: there is none."""
        made = list(self.made)
        while made:
            choice, options = made.pop()
            if choice + 1 < options:
                return [*(choice for choice, _ in made), choice + 1]
        return None


@dataclass(eq=False)
class Doing:
    """A task's function, fallback and compensation: each call returns or raises, by choice."""

    chooser: Chooser
    error: type[BaseException] = OSError
    calls: int = 0
    undone: int = 0

    def _do(self, value: Any) -> Any:
        if self.chooser.choose(2):
            raise self.error
        return value

    def __call__(self) -> Any:
        self.calls += 1
        return self._do(self.calls)

    def fall_back(self, error: BaseException) -> Any:
        assert isinstance(error, Exception)
        return self._do("instead")

    def undo(self, value: Any) -> None:
        assert value is not None
        self.undone += 1
        self._do(None)


Policies = Callable[[Doing], dict[str, Any]]
"""The fields of a task that depend on its function."""


@dataclass(frozen=True)
class Setup:
    """What is explored: for each task what it needs and its policies; and what somebody may do, each once."""

    needs: tuple[tuple[int, ...], ...]
    policies: tuple[Policies, ...]
    rules: tuple[str, ...] = ()
    fail_fast: bool = True
    levels: bool = False
    acts: tuple[str, ...] = ()
    timeout: float | None = None


class Run:
    """One run of a setup along a path."""

    def __init__(self, setup: Setup, chooser: Chooser, seen: set[Any]) -> None:
        self.setup, self.chooser, self.seen = setup, chooser, seen
        self.clock = FakeClock()
        self.pools = SimulatedPools(clock=self.clock)
        self.acts = list(setup.acts)
        self.manager = WorkflowManager(
            clock=self.clock,
            pool_factory=self.pools,
            workers=2,
            failure_policy="fail_fast" if setup.fail_fast else "continue",
            scheduling="levels" if setup.levels else "ready",
            resources={"gpu": 1},
            grace=1000,
        )
        self.doings = [Doing(chooser) for _ in setup.needs]
        rules = setup.rules or ("all_completed",) * len(setup.needs)
        self.case = Case(setup.needs, rules, setup.fail_fast)
        self.tasks = [
            TaskDef(
                str(number),
                doing,
                dependencies=[str(need) for need in setup.needs[number]],
                run_when=rules[number],
                **setup.policies[number](doing),
            )
            for number, doing in enumerate(self.doings)
        ]
        self.execution = self.manager.start(Workflow("wf", self.tasks, timeout=setup.timeout))
        self.live = self.execution._live

    def go(self) -> Counter[str]:
        """Go the path to its end, or to a state that was seen; returns the events of an end."""
        steps = 0
        while not self.execution.status.is_final:
            options = self.options()
            assert options, f"a lost wake-up after {self.chooser.made}: {self.execution.waiting()}"
            if self.chooser.is_new:
                self._look()
            options[self.chooser.choose(len(options))]()
            self._check()
            steps += 1
            assert steps < 500, f"it doesn't end: {self.chooser.made}"
        one = Policed(self.case, self.tasks, self.doings, self.execution, cancelled="cancel" not in self.acts)  # type: ignore[arg-type]
        Reading(one).check()
        assert not self.live.active
        assert not self.live.setbacks
        assert not self.live.scheduler.errands
        assert not self.manager.engine.lines.waited_for
        assert all(line.stock.free == line.stock.amount for line in self.manager.engine.lines.resources.values())
        return Counter(CODES[record[0]].value for record in self.execution.log.records)

    def options(self) -> list[Callable[[], object]]:
        """Everything that could happen next."""
        options: list[Callable[[], object]] = [act for pool in self.pools._pools for act in pool.possible()]
        if self.clock.due is not None:
            options.append(self.clock.jump)
        options += [lambda act=act: self._do(act) for act in dict.fromkeys(self.acts)]  # type: ignore[misc]
        if self.execution.status.name == "PAUSED":
            options.append(self.execution.resume)
        return options

    def _do(self, act: str) -> None:
        self.acts.remove(act)
        if act == "reprioritize":
            self.execution.reprioritize(str(len(self.tasks) - 1), 9)
        else:
            getattr(self.execution, act)()

    def _check(self) -> None:
        live = self.live
        attempts = [call for call in live.active.values() if call.is_attempt]
        held = sum("gpu" in (call.task.resources or {}) for call in attempts)
        assert held <= 1, "more than there is"
        waits = live.scheduler.waits
        if waits is not None:
            assert set(waits._passes) <= {call.number for call in attempts}, "who doesn't run holds nothing"

    def _look(self) -> None:
        state = self._content()
        if state in self.seen:
            raise SeenError
        self.seen.add(state)

    def _content(self) -> Any:
        """All of which the future is a function, moments counted from now."""
        now, scheduler, live = self.clock.monotonic(), self.live.scheduler, self.live
        waits, saga = scheduler.waits, scheduler.saga
        pools = [
            (pool._called, [(call.number, type(call).__name__, call.attempt) for call in worker.calls])
            for pool in self.pools._pools
            for worker in pool._workers
        ]
        calls = sorted(
            (call.number, type(call).__name__, call.cancelled, None if call.deadline is None else call.deadline - now)
            for call in live.active.values()
        )
        content = (
            bytes(scheduler.state), tuple(scheduler.attempts), [sorted(ready) for ready in scheduler.ready],
            sorted(scheduler.errands.items()), sorted(live.setbacks), scheduler.status, scheduler.stopping,
            scheduler.cancelling, scheduler.fault is None, list(scheduler.ranks), pools, calls, sorted(self.acts),
            None if self.clock.due is None else self.clock.due - now, live.deadline - now,
            None if waits is None else (
                sorted(waits.parked), sorted((due - now, number) for due, number in waits._due),
                [self._line(line, now) for line in waits._used],
            ),
            None if saga is None else (saga.left, saga.tries, saga._held),
            [event[1] for event in live.log.records if CODES[event[0]].value == "TASK_COMPLETED"],
        )  # fmt: skip
        return repr(content)

    @staticmethod
    def _line(line: Any, now: float) -> Any:
        waiting = [sorted((rank, number) for rank, _, _, number, *_ in queue) for queue in line._waiting.values()]
        match line:
            case RateLine():
                inside: Any = [moment - now for moment in line._window._back if moment > now]
            case BreakerLine():
                inner = line._breaker
                inside = (
                    inner.state,
                    inner._failures,
                    inner._through,
                    inner._succeeded,
                    max(0.0, inner._recovers_at - now),
                )
            case ResourceLine():
                inside = line.stock.free
        return inside, waiting, line.opening - now


@dataclass
class Explored:
    """How much was seen, and whether that was all."""

    runs: int
    states: int
    ends: int
    events: Counter[str]
    complete: bool


def explore(setup: Setup, most: int = 100_000) -> Explored:
    """Go every way, `most` runs at the most."""
    seen: set[Any] = set()
    path: list[int] | None = []
    runs = ends = 0
    events = Counter[str]()
    while path is not None and runs < most:
        chooser = Chooser(path)
        run = Run(setup, chooser, seen)
        try:
            events += run.go()
            ends += 1
        except SeenError:
            run.chooser = Chooser([])  # whatever closing calls chooses nothing any more
            for doing in run.doings:
                doing.chooser = run.chooser
        except BaseException as error:
            error.add_note(f"on the path {chooser.made}")
            raise
        run.manager.engine.halt(run.live)
        run.manager.close()
        runs += 1
        path = chooser.next_path()
    return Explored(runs, len(seen), ends, events, path is None)
