"""The real engine on real threads: several random executions at once, steered from outside, checked after the fact.

What happens when is the operating system's choice; a short switch interval makes it choose often. The logs must be as
true as those of simulations: `History` reads each, results are what a plain loop gives, limits held at every instant.
"""

from __future__ import annotations

import sys
import threading
from random import Random

import pytest

from nerv import WorkflowManager
from nerv.scheduler import STATUSES
from tests.handshake import Gauge, ended
from tests.properties.history import History, running_at_most
from tests.properties.oracle import Case
from tests.properties.simulating import Job, check_results, random_jobs, workflow_of
from tests.properties.walking import random_case

WORKERS = 16
POOLS = ("thread", "extra", "inside")
LIMITS = {"thread": WORKERS, "extra": 2, "inside": 1}


@pytest.fixture(autouse=True)
def many_switches():
    """Threads take turns a thousand times as often as usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


class Busy(Job):
    """A job that takes some time, while a gauge counts how many run in its pool."""

    def __init__(self, job: Job, gauge: Gauge, length: int) -> None:
        super().__init__(job.task, job.fails, job.obeys)
        self.gauge = gauge
        self.length = length

    def __call__(self, ctx, *inputs):
        with self.gauge:
            for _ in range(self.length):
                pass
            return super().__call__(ctx, *inputs)


class Round:
    """One manager and some random executions on it."""

    def __init__(self, seed: int) -> None:
        self.random = random = Random(seed)
        self.fail_fast = random.random() < 0.5
        self.levels = random.random() < 0.25
        self.gauges = {pool: Gauge() for pool in POOLS}
        self.manager = WorkflowManager(
            workers=WORKERS,
            pools={"extra": {"kind": "thread", "workers": 2}, "inside": {"kind": "thread", "workers": 1}},
            failure_policy="fail_fast" if self.fail_fast else "continue",
            scheduling="levels" if self.levels else "ready",
        )

    def drawn(self) -> tuple[Case, list[Job]]:
        """A random case and its functions."""
        random = self.random
        drawn = random_case(random, 40)
        case = Case(drawn.needs, drawn.rules, self.fail_fast, drawn.priorities, drawn.queue_of, self.levels)
        lengths = random.choice(((1,), (1, 1000), (1, 1, 1, 20_000)))
        jobs = [
            Busy(job, self.gauges[POOLS[queue]], random.choice(lengths))
            for job, queue in zip(random_jobs(case, random), case.queue_of, strict=True)
        ]
        return case, jobs

    def steer(self, executions: list, cancelled: set) -> None:
        """Pause, resume and now and then cancel, while they run; in the end nothing is paused."""
        for _ in range(30):
            chosen = self.random.choice(executions)
            act = self.random.choice(("pause", "resume", "resume", "cancel"))
            if act != "cancel":
                getattr(chosen, act)()
            elif self.random.random() < 0.05 and chosen.cancel("enough"):
                cancelled.add(chosen.id)
        for execution in executions:
            execution.resume()

    def go(self) -> int:
        """Run them all; returns the number of events."""
        cases = [self.drawn() for _ in range(self.random.randint(1, 4))]
        with self.manager as manager:
            executions = [manager.start(workflow_of(case, jobs, POOLS)) for case, jobs in cases]
            cancelled: set[str] = set()
            self.steer(executions, cancelled)
            for execution, (case, jobs) in zip(executions, cases, strict=True):
                ended(execution)
                History(case, cancelled=execution.id in cancelled).read(execution.log.records)
                check_results(case, jobs, execution)
                running_at_most(execution.log.records, sum(LIMITS.values()))
                self.check_projections(execution)
            self.check_limits()
        return sum(len(execution.log) for execution in executions)

    def check_projections(self, execution) -> None:
        """The projections are the scheduler's own record."""
        scheduler = execution._live.scheduler
        statuses = {task: STATUSES[number] for task, number in zip(scheduler.ids, scheduler.state, strict=True)}
        assert execution.project("task_status") == statuses
        assert execution.project("workflow_status") is scheduler.status is execution.status
        assert execution.project("running_tasks") == set()

    def check_limits(self) -> None:
        for pool, gauge in self.gauges.items():
            assert gauge.most <= LIMITS[pool]
            assert gauge.inside == 0


@pytest.mark.parametrize("seed", range(25))
def test_executions_on_real_threads(seed):
    assert Round(seed).go() > 1


@pytest.mark.parametrize("seed", range(5))
def test_every_event_is_heard_in_order_while_threads_compete(seed):
    """Handlers hear seq 1, 2, 3 ... of each execution, without a gap and to the last."""
    heard: dict[str, list[int]] = {}
    round_ = Round(1000 + seed)
    cases = [round_.drawn() for _ in range(3)]
    with round_.manager as manager:
        executions = [
            manager.start(
                workflow_of(case, jobs, POOLS),
                on_event=lambda event: heard.setdefault(event.execution_id, []).append(event.seq),
            )
            for case, jobs in cases
        ]
        for execution in executions:
            ended(execution)
    assert heard == {one.id: list(range(1, len(one.log) + 1)) for one in executions}


def test_executions_that_are_started_and_cancelled_from_many_threads_all_end():
    with WorkflowManager(workers=4) as manager:
        executions = []
        lock = threading.Lock()

        def client(number: int) -> None:
            random = Random(number)
            for _ in range(10):
                case = random_case(random, 10)
                case = Case(case.needs, case.rules, True, case.priorities, (0,) * len(case.needs))
                jobs = random_jobs(case, random)
                execution = manager.start(workflow_of(case, jobs))
                with lock:
                    executions.append((case, jobs, execution, random.random() < 0.5 and execution.cancel()))

        clients = [threading.Thread(target=client, args=(number,)) for number in range(6)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join()
        for case, jobs, execution, cancelled in executions:
            ended(execution)
            History(case, cancelled=cancelled).read(execution.log.records)
            check_results(case, jobs, execution)
        assert len(executions) == 60


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("part", range(10))
def test_a_thousand_rounds_on_real_threads(part, capsys):
    events = sum(Round(seed).go() for seed in range(100 * part, 100 * part + 100))
    with capsys.disabled():
        print(f"\npart {part}: 100 rounds on threads, {events:,} events")
