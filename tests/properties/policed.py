"""Random workflows whose tasks have every policy there is, for simulations."""

from __future__ import annotations

from random import Random
from typing import Any

from nerv import Cache, CircuitBreaker, Output, RateLimit, RetryPolicy, TaskDef, TerminalError, Workflow
from nerv.testing import Faults

RESOURCES = {"gpu": 2, "memory": 1.0}
POOLS = (None, None, "process", "inline", "extra", "async")
SETTINGS: dict[str, Any] = {"pools": {"extra": {"kind": "thread", "workers": 1}}, "resources": RESOURCES}


def work(*inputs: Any) -> int:
    """A plain function."""
    return len(inputs)


async def slow_work(*inputs: Any) -> int:
    """A coroutine function."""
    return len(inputs)


def hopeless(*inputs: Any) -> int:
    """Fails, and says that trying again won't help."""
    raise TerminalError("hopeless")


def undo(result: Any) -> None:
    """A compensation."""


async def slow_undo(result: Any) -> None:
    """One for coroutine functions."""


def rescue(error: BaseException) -> int:
    """A fallback that is called."""
    return -1


def maybe(random: Random, chance: float, value: Any) -> Any:
    """A value, or None."""
    return value if random.random() < chance else None


def random_policies(random: Random, limits: list[RateLimit], breakers: list[CircuitBreaker]) -> dict[str, Any]:
    """Fields of a TaskDef."""
    policies = {
        "timeout": maybe(random, 0.5, random.choice((1.0, 7.0, 50.0))),
        "retry_policy": maybe(random, 0.5, RetryPolicy(random.randint(1, 4), random.choice((0.1, 10.0)))),
        "compensate": maybe(random, 0.5, undo),
        "rate_limit": maybe(random, 0.4, random.choice(limits)),
        "circuit_breaker": maybe(random, 0.4, random.choice(breakers)),
        "cache": maybe(random, 0.25, Cache(ttl=random.choice((None, 20.0)))),
        "resources": maybe(
            random, 0.3, random.choice(({"gpu": 1}, {"gpu": 2}, {"memory": 0.4}, {"gpu": 1, "memory": 0.7}))
        ),
    }
    given = {name: value for name, value in policies.items() if value is not None}
    return given | random.choice(({}, {}, {}, {"fallback": 0}, {"fallback": rescue}))


def random_workflow(seed: int, most: int = 8) -> Workflow:
    """A workflow of 1 to `most` tasks."""
    random = Random(f"workflow {seed}")
    limits = [RateLimit(random.randint(1, 2), random.choice((1.0, 30.0)), name) for name in ("api", None)]
    breakers = [
        CircuitBreaker(random.randint(1, 3), random.choice((5.0, 60.0)), random.randint(1, 2), n) for n in ("db", None)
    ]
    tasks: list[TaskDef] = []
    for number in range(random.randint(1, most)):
        needs = random.sample(tasks, min(len(tasks), random.choice((0, 0, 1, 1, 2, 3))))
        pool = random.choice(POOLS)
        fn = slow_work if pool == "async" else hopeless if random.random() < 0.05 else work
        policies = random_policies(random, limits, breakers)
        if pool == "async" and "compensate" in policies:
            policies["compensate"] = slow_undo
        rule = random.choice(("all_completed",) * 4 + ("all_finished", "any_completed"))
        tasks.append(
            TaskDef(
                f"t{number}",
                fn,
                args=tuple(Output(need.id, default=None) for need in needs),
                pool=pool,
                priority=random.choice((0, 1, 1, 2)),
                run_when=rule,
                **policies,
            )
        )
    return Workflow(f"random-{seed}", tasks)


def random_faults(seed: int) -> Faults:
    """Anything from nothing to a catastrophe."""
    random = Random(f"chances {seed}")
    chance = random.choice((0.0, 0.05, 0.2, 0.5))
    return Faults(
        failing=chance * random.random(),
        crashing=chance * random.random(),
        slow=chance,
        hanging=chance * random.random(),
        late=0.3,
        cancelling=random.choice((0.0, 0.0, 0.3)),
    )
