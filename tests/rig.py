"""A manager on simulated pools by a clock that jumps: what takes days takes no time, and happens in the same order."""

from __future__ import annotations

from typing import Any, Self

from nerv import Execution, TaskDef, Workflow, WorkflowManager
from nerv.eventlog import CODES
from nerv.testing import FakeClock, SimulatedPools


class Rig:
    """A manager and what moves it. `seconds` says how long a call of each task takes, by id; the others take no time.

    Args:
        seed: decides the order of what happens at one moment.
        seconds: task id -> seconds, `math.inf`: it hangs.
        settings: the manager's.
    """

    def __init__(self, seed: int = 0, *, seconds: dict[str, float] | None = None, **settings: Any) -> None:
        self.seconds = seconds or {}
        self.clock = FakeClock(auto=True)
        self.pools = SimulatedPools(seed, clock=self.clock, takes=self._takes)
        self.manager = WorkflowManager(clock=self.clock, pool_factory=self.pools, **settings)

    def _takes(self, call: Any) -> float:
        return self.seconds.get(call.task.id, 0.0) if call.is_attempt else 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.manager.close()

    def start(self, *tasks: TaskDef, name: str = "wf", **options: Any) -> Execution:
        """Start an execution of these tasks; nothing moves yet."""
        return self.manager.start(Workflow(name, list(tasks), **options))

    def run(self, *tasks: TaskDef, **options: Any) -> Execution:
        """Run these tasks until nothing happens any more."""
        execution = self.start(*tasks, **options)
        self.go()
        return execution

    def go(self, until: float | None = None, most: int = 10_000) -> None:
        """Let things happen until nothing does, or the clock would pass `until`; more than `most` are a busy loop."""
        for _ in range(most):
            if self.pools.step():
                continue
            if until is not None and self._next() > until:
                self.clock.advance(max(0.0, until - self.now))
                return
            if not self.pools._jump():
                return
        raise AssertionError(f"it is still busy after {most} steps, at {self.now}")

    def _next(self) -> float:
        dues = [pool.due() for pool in self.pools._pools]
        if self.clock.due is not None:
            dues.append(self.clock.due)
        return min(dues, default=float("inf"))

    @property
    def now(self) -> float:
        return self.clock.monotonic()


def told(execution: Execution, *kinds: str) -> list[tuple[float, str | None, str]]:
    """Moment, task and type of its events, of these types if any are named."""
    log = execution.log
    return [
        (at, log.ids[task] if task >= 0 else None, CODES[code].value)
        for code, task, at, _, _ in log.records
        if not kinds or CODES[code].value in kinds
    ]


def starts(execution: Execution, task: str | None = None) -> list[float]:
    """The moments at which attempts started, of one task if it is named."""
    return [at for at, who, _ in told(execution, "TASK_STARTED") if task in (None, who)]


def data_of(execution: Execution, kind: str, task: str | None = None) -> list[dict[str, Any]]:
    """The data of its events of a type, of one task if it is named."""
    return [e.data for e in execution.events() if e.type.value == kind and task in (None, e.task_id)]


class Failing:
    """A function that raises `error` in its first `times` calls, and then returns `value`. It counts its calls."""

    def __init__(self, times: float = float("inf"), value: Any = "done", error: BaseException | None = None) -> None:
        self.times = times
        self.value = value
        self.error = error
        self.calls = 0

    def __call__(self) -> Any:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error or RuntimeError(f"call {self.calls} failed")
        return self.value
