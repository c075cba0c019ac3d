"""Small executions with policies, in every order of what can happen in them."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest

from nerv import CircuitBreaker, FatalError, RateLimit, RetryPolicy
from tests.properties.every_way import Doing, Policies, Setup, explore

TWICE = RetryPolicy(2, initial_interval=10, jitter=0)
LIMIT = RateLimit(1, 30, name="limit")
BREAKER = CircuitBreaker(1, 20, name="breaker")

FIELDS: dict[str, Policies] = {
    "retry": lambda _: {"retry_policy": TWICE},
    "fallback": lambda doing: {"fallback": doing.fall_back},
    "value": lambda _: {"fallback": "value"},
    "undo": lambda doing: {"compensate": doing.undo},
    "limit": lambda _: {"rate_limit": LIMIT},
    "breaker": lambda _: {"circuit_breaker": BREAKER},
    "gpu": lambda _: {"resources": {"gpu": 1}},
    "timeout": lambda _: {"timeout": 5.0},
    "urgent": lambda _: {"priority": 2},
}


def policies(*names: str) -> Policies:
    """The fields of all of these."""

    def fields(doing: Doing) -> dict[str, Any]:
        if "fatal" in names:
            doing.error = FatalError
        return {key: value for name in names if name != "fatal" for key, value in FIELDS[name](doing).items()}

    return fields


def setup(*tasks: str, needs: tuple[tuple[int, ...], ...] = (), **how: Any) -> Setup:
    """Tasks by the names of their policies; without `needs` they need nothing."""
    return Setup(needs or ((),) * len(tasks), tuple(policies(*task.split()) for task in tasks), **how)


CHAIN = ((), (0,))
CLEANUP = ("all_completed", "all_finished")

SETUPS = {
    "a retry, paused and cancelled": setup("retry", acts=("pause", "cancel")),
    "a retry, then a fallback, cancelled": setup("retry fallback", acts=("cancel",)),
    "a retry whose attempts are too slow": setup("retry timeout", acts=("cancel",)),
    "a fallback, paused": setup("fallback", "value", acts=("pause",)),
    "a retry, and what needs it": setup("retry", "", needs=CHAIN, acts=("pause",)),
    "a failure beside a retry": setup("retry", ""),
    "a failure beside a fallback": setup("fallback retry", ""),
    "a fatal failure beside a retry": setup("retry", "fatal", fail_fast=False),
    "a saga": setup("undo", "undo", "", needs=((), (0,), (1,))),
    "a saga, cancelled": setup("undo", "", needs=CHAIN, acts=("cancel",)),
    "a saga, paused": setup("undo", "", needs=CHAIN, acts=("pause",)),
    "a saga whose undoing is retried": setup("undo retry", "", needs=CHAIN, acts=("cancel",)),
    "a saga whose undoing is too slow": setup("undo timeout", "", needs=CHAIN),
    "a saga of what a fallback gave": setup("undo fallback", "", needs=CHAIN),
    "a saga, then cleanup": setup("undo", "", "", needs=((), (0,), (1,)), rules=("all_completed", *CLEANUP)),
    "a saga beside cleanup that is retried": setup("undo", "retry", rules=CLEANUP),
    "a saga under continue": setup("undo", "", "undo", fail_fast=False),
    "a saga that is late": setup("undo", "", needs=CHAIN, timeout=50.0),
    "one place for two": setup("gpu", "gpu", acts=("pause", "reprioritize")),
    "one place for two, cancelled": setup("gpu retry", "gpu", acts=("cancel",)),
    "one start for two": setup("limit", "limit", acts=("pause",)),
    "one start for two, cancelled": setup("limit retry", "limit", acts=("cancel",)),
    "a limit and a place": setup("limit gpu", "gpu", "limit urgent", fail_fast=False),
    "a breaker that refuses": setup("breaker", "breaker", fail_fast=False),
    "a breaker that refuses all": setup("breaker urgent", "breaker", "breaker"),
    "a breaker that lets wait": setup("breaker retry", "breaker", acts=("cancel",)),
    "a breaker, and who has something instead": setup("breaker", "breaker fallback", "", fail_fast=True),
    "levels with a retry": setup("retry", "", needs=CHAIN, levels=True, acts=("pause",)),
    "levels with a saga": setup("undo", "", "", needs=((), (0,), (1,)), rules=("all_completed", *CLEANUP), levels=True),
}


@pytest.mark.parametrize("name", SETUPS)
def test_every_way_that_it_can_go(name):
    seen = explore(SETUPS[name], most=1500)
    assert seen.complete, f"{seen.runs} runs weren't enough"
    assert seen.ends > 1
    assert len([kind for kind in seen.events if kind.startswith("WORKFLOW")]) > 2, "it can go more than one way"


def random_setup(seed: int, size: int) -> Setup:
    """Some tasks with some policies, and somebody who interferes."""
    random = Random(seed)
    count = random.randint(1, size)
    needs = tuple(tuple(need for need in range(task) if random.random() < 0.4) for task in range(count))
    names = [name for name in FIELDS if name != "value"]
    tasks = [" ".join(random.sample(names, random.randint(0, 3))) for _ in range(count)]
    return setup(
        *tasks,
        needs=needs,
        rules=tuple(random.choices(("all_completed", "all_finished", "any_completed"), (4, 1, 1), k=count)),
        fail_fast=random.random() < 0.6,
        levels=random.random() < 0.15,
        acts=tuple(random.sample(("pause", "cancel", "reprioritize"), random.randint(0, 2))),
        timeout=random.choice((None, None, None, 25.0)),
    )


@pytest.mark.parametrize("part", range(6))
def test_many_ways_of_random_executions(part):
    events = Counter()
    for seed in range(part * 5, part * 5 + 5):
        events += explore(random_setup(seed, 3), most=40).events
    assert events["TASK_STARTED"] > 10


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("part", range(8))
def test_more_ways_of_more_random_executions(part, capsys):
    runs = states = complete = 0
    for seed in range(1000 + part * 50, 1050 + part * 50):
        seen = explore(random_setup(seed, 3), most=4000)
        runs, states, complete = runs + seen.runs, states + seen.states, complete + seen.complete
    with capsys.disabled():
        print(f"\npart {part}: {runs:,} runs, {states:,} states, {complete} of 50 in every way")
