"""Policies of every kind on real threads, a real clock, and somebody who interferes from a thread of their own.

What the logs must look like is what meddling.py says. Nothing here looks at how long something takes.
"""

from __future__ import annotations

import threading
from random import Random

import pytest

from nerv import CircuitBreaker, RateLimit, RetryPolicy, TaskDef, Workflow, WorkflowManager
from tests.handshake import PATIENCE, eventually
from tests.properties.meddling import Policed, Reading, Work, starts_of
from tests.properties.oracle import Case
from tests.properties.walking import random_case

QUICK = RateLimit(6, 0.004, name="quick")
SLOW = RateLimit(2, 0.002, name="slow")
BREAKER = CircuitBreaker(3, 0.003, half_open_calls=2, name="breaker")


def workflow(random, case, works):
    """Random policies for a random graph."""

    def maybe(chance, **fields):
        return fields if random.random() < chance else {}

    policy = RetryPolicy(3, initial_interval=0.001, jitter=0.5)
    tasks = [
        TaskDef(
            str(number),
            works[number],
            dependencies=[str(need) for need in case.needs[number]],
            run_when=case.rules[number],
            priority=case.priorities[number],
            **maybe(0.5, retry_policy=policy),
            **maybe(0.3, fallback=random.choice((works[number].fall_back, "value"))),
            **maybe(0.4, compensate=works[number].undo),
            **maybe(0.4, rate_limit=random.choice((QUICK, SLOW))),
            **maybe(0.4, circuit_breaker=BREAKER),
            **maybe(0.3, resources={"gpu": random.randint(1, 2)}),
            **maybe(0.2, timeout=5.0),
        )
        for number in case.tasks
    ]
    return tasks, Workflow("wf", tasks)


def meddle(manager, running, random, over):
    """Pause, resume, reprioritize and resize until it is over; then let everybody go on."""
    while not over.wait(0.001):
        one = random.choice(running)
        act = random.random()
        if act < 0.2:
            one.execution.pause()
        elif act < 0.6:
            one.execution.resume()
        elif act < 0.9:
            one.execution.reprioritize(random.choice(one.tasks).id, random.randint(-3, 3))
        else:
            manager.resize("thread", random.randint(1, 16))
    for one in running:
        one.execution.resume()


@pytest.mark.parametrize("seed", range(8))
def test_executions_that_share_limits_on_sixteen_threads(seed):
    random = Random(seed)
    fail_fast = random.random() < 0.3
    running, over = [], threading.Event()
    policy = "fail_fast" if fail_fast else "continue"
    with WorkflowManager(workers=16, resources={"gpu": 2}, failure_policy=policy, grace=30) as manager:
        for _ in range(6):
            drawn = random_case(random, 40)
            case = Case(drawn.needs, drawn.rules, fail_fast, drawn.priorities)
            works = [Work(Random(random.random()), 0.2, undo_fails=random.random() < 0.1) for _ in case.tasks]
            tasks, definition = workflow(random, case, works)
            running.append(Policed(case, tasks, works, manager.start(definition)))
        meddler = threading.Thread(target=meddle, args=(manager, running, Random(seed), over))
        meddler.start()
        if seed % 2:
            running[0].cancelled = running[0].execution.cancel("enough")
        for one in running:
            one.execution.wait(0.05)  # meddled with for so long, or until it has ended
        over.set()
        meddler.join()
        stuck = [one.execution.summary() for one in running if not one.execution.wait(PATIENCE)]
        assert not stuck, "\n".join(stuck)
        lines = manager.engine.lines
        eventually(lambda: all(line.stock.free == line.stock.amount for line in lines.resources.values()))
        assert not lines.waited_for
        assert not lines.refused
    for one in running:
        Reading(one).check()
    for limit in (QUICK, SLOW):
        moments = sorted(moment for one in running for moment in starts_of(one, limit))
        for sooner, later in zip(moments, moments[limit.count :], strict=False):
            assert later - sooner >= limit.period
