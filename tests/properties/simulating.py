"""Whole managers on simulated pools: random workflows, several executions at once, and somebody who interferes."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from random import Random
from typing import Any

from nerv import Execution, Output, TaskContext, TaskDef, Workflow, WorkflowManager
from nerv.scheduler import STATUSES
from nerv.testing import FakeClock, SimulatedPool, SimulatedPools
from tests.properties.history import History
from tests.properties.oracle import COMPLETED, Case
from tests.properties.walking import random_case

POOLS = ("thread", "process", "extra")
"""The pool of each queue of a case; `process` takes several calls at a time, so its tasks may be claimed ahead."""

NOTHING = -7
"""What stands for the result of a dependency that has none."""


class PlannedError(Exception):
    """Raised by tasks that were chosen to fail."""


def value_of(task: int, inputs: tuple[Any, ...]) -> int:
    """The result of a task: another one for other inputs, or the same in another order."""
    return hash((task, *(hash(one) for one in inputs)))


@dataclass(eq=False)
class Job:
    """A task's function. It notes each call, and what it was given."""

    task: int
    fails: bool = False
    obeys: bool = False
    calls: list[tuple[Any, ...]] = field(default_factory=list)

    def __call__(self, ctx: TaskContext, *inputs: Any) -> int:
        self.calls.append(inputs)
        if self.obeys:
            ctx.check_cancelled()
        if self.fails:
            raise PlannedError(self.task)
        return value_of(self.task, inputs)


def workflow_of(case: Case, jobs: list[Job], pools: tuple[str | None, ...] = POOLS, name: str = "wf") -> Workflow:
    """A workflow of the case: each task is given its dependencies' results, or `NOTHING`; its id is its number."""
    return Workflow(
        name,
        [
            TaskDef(
                str(task),
                jobs[task],
                args=tuple(Output(str(need), default=NOTHING) for need in case.needs[task]),
                priority=case.priorities[task],
                run_when=case.rules[task],
                pool=pools[case.queue_of[task]],
            )
            for task in case.tasks
        ],
    )


def random_jobs(case: Case, random: Random) -> list[Job]:
    """Functions for a case's tasks, some of which fail."""
    failing = random.choice((0.0, 0.0, 0.05, 0.3))
    return [Job(task, random.random() < failing, random.random() < 0.5) for task in case.tasks]


def check_results(case: Case, jobs: list[Job], execution: Execution) -> None:
    """Each task that ran was called once, with the results of what it needs; its result is what its function gave."""
    results = execution.results
    status = {task: STATUSES[number].name for task, number in enumerate(execution._live.scheduler.state)}
    assert set(results) == {str(task) for task in case.tasks if status[task] == COMPLETED}
    for task, job in enumerate(jobs):
        assert len(job.calls) <= 1
        if status[task] != COMPLETED:
            continue
        (inputs,) = job.calls
        assert results[str(task)] == value_of(task, inputs)
        if case.rules[task] != "any_completed":  # for those the others may complete later
            assert inputs == tuple(results.get(str(need), NOTHING) for need in case.needs[task])
    if set(case.rules) == {"all_completed"} and len(results) == len(jobs):
        assert {int(task): value for task, value in results.items()} == in_sequence(case)


def in_sequence(case: Case) -> dict[int, int]:
    """The results of a case in which nothing fails, by calling one function after another."""
    values: dict[int, int] = {}

    def of(task: int) -> int:
        if task not in values:
            values[task] = value_of(task, tuple(of(need) for need in case.needs[task]))
        return values[task]

    return {task: of(task) for task in case.tasks}


@dataclass(eq=False)
class Running:
    """An execution, what it runs, and what was done to it."""

    case: Case
    jobs: list[Job]
    execution: Execution
    cancelled: bool = False

    def check(self, *, halted: bool = False) -> None:
        """Everything that must be true once it has ended; `halted`: its cleanup may have been cut short."""
        claims = "process" in {POOLS[queue] for queue in self.case.queue_of}
        log = self.execution.log
        History(self.case, cancelled=self.cancelled, halted=halted, claims=claims).read(log.records)
        check_results(self.case, self.jobs, self.execution)
        assert self.execution.project("task_status") == {
            task: STATUSES[number] for task, number in zip(log.ids, self.execution._live.scheduler.state, strict=True)
        }


class Simulation:
    """A manager on simulated pools, driven at random.

    Args:
        seed: decides everything.
        most: tasks of an execution.
        takes_time: whether calls take (simulated) time, some for ever: those end when the grace after a cancel is over.
    """

    def __init__(self, seed: int, most: int = 15, *, takes_time: bool = False) -> None:
        self.random = Random(seed)
        self.most = most
        self.clock = FakeClock(auto=True)
        self.pools = SimulatedPools(seed, clock=self.clock, takes=self._seconds if takes_time else None)
        self.fail_fast = self.random.random() < 0.5
        self.levels = self.random.random() < 0.25
        self.manager = WorkflowManager(
            clock=self.clock,
            pool_factory=self.pools,
            workers=self.random.randint(1, 4),
            processes=self.random.randint(1, 2),
            pools={"extra": {"kind": "thread", "workers": 1}},
            failure_policy="fail_fast" if self.fail_fast else "continue",
            scheduling="levels" if self.levels else "ready",
            grace=60,
        )
        self.engine = self.manager.engine
        self.running: list[Running] = []

    def _seconds(self, call: Any) -> float:
        if self.random.random() < 0.02 and call.task.run_when != "all_finished":  # cleanup that hangs is waited for
            return inf
        return self.random.choice((0.0, 1.0, 5.0, 100.0))

    def start(self) -> Running:
        """Start one more execution."""
        drawn = random_case(self.random, self.most)
        case = Case(drawn.needs, drawn.rules, self.fail_fast, drawn.priorities, drawn.queue_of, self.levels)
        jobs = random_jobs(case, self.random)
        running = Running(case, jobs, self.manager.start(workflow_of(case, jobs)))
        self.running.append(running)
        return running

    def interfere(self) -> None:
        """Do something to some execution."""
        if not self.running:
            return
        chosen = self.random.choice(self.running)
        act = self.random.choice(("pause", "resume", "resume", "cancel"))
        if act == "cancel":
            if self.random.random() < 0.2:
                chosen.cancelled |= chosen.execution.cancel("enough")
        else:
            getattr(chosen.execution, act)()
        self.check()

    def go(self, executions: int) -> int:
        """Run so many executions, interfering, until all have ended; returns the number of events."""
        while len(self.running) < executions or any(not one.execution.status.is_final for one in self.running):
            if len(self.running) < executions and self.random.random() < 0.1:
                self.start()
            elif self.random.random() < 0.05:
                self.interfere()
            elif not self.pools.step() and not self._get_on():
                assert len(self.running) < executions, "an execution neither goes on nor says what it waits for"
            self.check()
        for one in self.running:
            one.check()
        self.check_idle()
        self.manager.close()
        return sum(len(one.execution.log) for one in self.running)

    def close_after(self, steps: int, executions: int) -> int:
        """Start so many executions, let so many things happen, and close the manager; returns the number of events."""
        for _ in range(executions):
            self.start()
        for _ in range(steps):
            if not self.pools.step() and not self.pools._jump():
                break
        self.manager.close()
        for one in self.running:
            assert one.execution.status.is_final
            one.cancelled = True
            one.check(halted=True)
        assert not self.engine.lives
        assert all(pool.running == 0 for pool in self.pools._pools if pool.counts_running)
        assert self.clock.due is None, "nothing is left to be done later"
        return sum(len(one.execution.log) for one in self.running)

    def _get_on(self) -> bool:
        """Nothing happens by itself: let time pass, then let everybody resume, then cancel those that hang."""
        if self.pools._jump():
            return True
        resumed = [one.execution.resume() for one in self.running]
        if any(resumed):
            return True
        hung = {call.live.id for pool in self.pools._pools for worker in pool._workers for call in worker.calls}
        for one in self.running:
            if one.execution.id in hung:
                one.cancelled |= one.execution.cancel("it hangs")
        return bool(hung)

    # ---- what holds at every moment ---------------------------------------------------------------------------------

    def check(self) -> None:
        """Limits hold; what the engine takes to be running is in flight; nobody waits for nothing."""
        for pool in self.pools._pools:
            in_flight = [call for worker in pool._workers for call in worker.calls]
            assert sum(bool(worker.calls) for worker in pool._workers) <= pool.limit
            assert 0 <= pool.running <= pool.limit
            if pool.counts_running:
                assert pool.running == len(in_flight)
            else:
                assert pool.running == pool._busy()
            self._check_called(pool)
        assert self.engine.lives.keys() == {
            one.execution.id for one in self.running if not one.execution.status.is_final
        }

    def _check_called(self, pool: SimulatedPool) -> None:
        """While calls are ready for a pool that has room, somebody comes for them."""
        lives = [live for live in self.engine.lives.values() if live.scheduler.status.name == "RUNNING"]
        ready = any(lane.ready for live in lives for lane in live.lanes if lane.pool is pool)
        if ready and pool.running < pool.limit:
            assert pool._called or any(worker.finished for worker in pool._workers), f"{pool.name}: a lost wake-up"

    def check_idle(self) -> None:
        """Nothing is left over when all has ended."""
        assert not self.engine.lives
        assert not self.engine._loans.wanted
        for pool in self.pools._pools:
            assert pool.running == 0
            assert not any(worker.calls or worker.finished for worker in pool._workers)
        events = sum(len(one.execution.log) for one in self.running)
        self.pools.run()
        assert events == sum(len(one.execution.log) for one in self.running)
