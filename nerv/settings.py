"""`Settings`: how an engine runs. One flat, strict set, checked before anything else happens.

What each setting takes is one table, `_RULES`: name -> what is allowed, in words, and the check that the words
describe. `settings_from` looks at everything and raises one error that lists all that is wrong.

Cores are those that this process may use (its CPU affinity, as a container or `taskset` set it) where the operating
system tells, else those that the machine has.
"""

from __future__ import annotations

import os
import reprlib
from collections.abc import Callable, Mapping
from math import inf
from typing import Any, Final, Literal

import msgspec

from nerv.errors import ConfigError, near

__all__ = ["PoolSettings", "Settings", "cores", "settings_from", "workers_for"]

BUILT_IN_POOLS: Final = ("thread", "process", "async", "inline")
RESERVED_NAMES: Final = (*BUILT_IN_POOLS, "auto")
POOL_KINDS: Final = ("thread", "process", "async", "dask")
SCHEDULINGS: Final = ("ready", "levels")
DURABILITIES: Final = ("strict", "group", "off")
FAILURE_POLICIES: Final = ("fail_fast", "continue")
LONGEST: Final = 1e9  # seconds: some thirty years; operating systems can't wait for much longer

_FACTORS: Final[Mapping[str, Callable[[int], int]]] = {
    "cpu": lambda cores: cores,
    "io": lambda cores: 8 * cores,
    "mixed": lambda cores: 3 * cores,
    "memory": lambda cores: max(1, cores // 2),
}


def cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def workers_for(kind: str, cores: int) -> int:
    """How many workers suit one kind of work on so many cores.

    "cpu" computes: cores. "io" waits, mostly: 8 x cores. "mixed" does both: 3 x cores. "memory" needs a lot of it:
    max(1, cores // 2).

    Raises:
        ConfigError: no such kind of work.
    """
    if kind not in _FACTORS:
        raise ConfigError(f"work is {_listed(_FACTORS)}, not {kind!r}{near(kind, _FACTORS)}")
    return _FACTORS[kind](cores)


def default_workers() -> int:
    """How many threads there are when nobody says: min(32, cores + 4), as in the standard library's executor."""
    return min(32, cores() + 4)


class PoolSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A pool of the `pools` setting.

    Attributes:
        kind: what its workers are.
        workers: how many of them there may be; of a Dask cluster with an address, how many of its threads are used
            (0: all).
        address: of a Dask cluster's scheduler, such as tcp://10.0.0.1:8786; None: a cluster of the pool's own.
    """

    kind: Literal["thread", "process", "async", "dask"]
    workers: int
    address: str | None = None


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How an engine runs. Make it with `settings_from`, which checks what it is given.

    Attributes:
        workers: threads.
        processes: worker processes.
        max_coroutines: coroutines that run at once.
        pools: further pools by name.
        default_pool: the pool of tasks that name none; None: coroutine functions in "async", others in "thread".
        resources: name -> amount of it that running tasks can hold together.
        scheduling: "ready" starts a task as soon as its own dependencies allow; "levels" waits for whole levels.
        failure_policy: "fail_fast" starts nothing new after a task's final failure; "continue" runs what it can.
        journal: path of the file in which executions are kept, or a Journal; None: they aren't.
        durability: "strict": a start and what came before it are on disk before the function is called; "group":
            written as soon as possible, many at a time; "off": the same without waiting for the disk.
        max_recoveries: how often a task may be running when the process dies before it isn't run again.
        history_limit: events in the bus's history.
        keep: finished executions, with their results, held in memory; and of a fed flow the lanes that have ended.
        cache: path of the file in which results of tasks with a `Cache` are kept; None: in memory.
        grace: seconds that cancelled or closing work is given.
    """

    workers: int = msgspec.field(default_factory=default_workers)
    processes: int = msgspec.field(default_factory=cores)
    max_coroutines: int = 1000
    pools: Mapping[str, PoolSettings] = {}
    default_pool: str | None = None
    resources: Mapping[str, float] = {}
    scheduling: Literal["ready", "levels"] = "ready"
    failure_policy: Literal["fail_fast", "continue"] = "fail_fast"
    journal: Any = None
    durability: Literal["strict", "group", "off"] = "group"
    max_recoveries: int = 10
    history_limit: int = 1000
    keep: int = 1000
    cache: str | None = None
    grace: float = 5.0


def settings_from(given: Mapping[str, object]) -> Settings:
    """The settings that `given` describes; those that it doesn't name have their defaults.

    Raises:
        ConfigError: lists every unknown name (with the nearest known one), wrong type and senseless value.
    """
    problems: list[str] = []
    good: dict[str, Any] = {}
    for name, value in given.items():
        if name not in _RULES:
            problems.append(f"there is no setting {_shown(name)}{near(name, _RULES)}; settings are {', '.join(_RULES)}")
            continue
        words, fits = _RULES[name]
        if fits(value):
            good[name] = _CONVERTED[name](value) if name in _CONVERTED else value
        else:
            problems.append(f"{name} takes {words}, not {_shown(value)}{_guess(name, value)}")
    pools = good.pop("pools", {})
    known = tuple(dict.fromkeys((*RESERVED_NAMES, *(name for name in pools if isinstance(name, str)))))
    pool = good.get("default_pool")
    if pool is not None and pool not in known:
        problems.append(f"default_pool takes a pool's name, {_listed(known)}, not {_shown(pool)}{near(pool, known)}")
    pools = {name: made for name, pool in pools.items() if (made := _pool(name, pool, problems)) is not None}
    if problems:
        raise ConfigError(_message(problems))
    return _with_pools(Settings(**good), pools)


def _with_pools(settings: Settings, described: Mapping[str, Mapping[str, Any]]) -> Settings:
    """The settings with these pools; one without a number of workers gets as many as the built-in pool of its kind."""
    usual = {
        "thread": settings.workers, "process": settings.processes, "async": settings.max_coroutines,
        "dask": settings.processes,
    }  # fmt: skip
    pools = {}
    for name, pool in described.items():
        kind, workers, address = pool["kind"], pool.get("workers"), pool.get("address")
        if isinstance(workers, str):
            workers = workers_for(workers, cores())
        if workers is None:
            workers = 0 if address is not None else usual[kind]
        pools[name] = PoolSettings(kind=kind, workers=workers, address=address)
    return msgspec.structs.replace(settings, pools=pools)


def _pool(name: object, pool: object, problems: list[str]) -> Mapping[str, Any] | None:
    """What describes one pool, or None after saying all that is wrong with it."""
    before = len(problems)
    where = f"pools[{_shown(name)}]"
    if not isinstance(name, str) or not name:
        problems.append(f"{where}: a pool's name is a str that isn't empty")
    elif name in RESERVED_NAMES:
        problems.append(f"{where}: {_listed(RESERVED_NAMES)} are nerv's own names; give your pool another one")
    if not isinstance(pool, Mapping):
        problems.append(f'{where} takes a mapping such as {{"kind": "thread", "workers": 4}}, not {_shown(pool)}')
        return None
    for key, value in pool.items():
        if key not in _POOL_RULES:
            known = ", ".join(_POOL_RULES)
            problems.append(f"{where}: a pool has no {_shown(key)}{near(key, _POOL_RULES)}; it takes {known}")
            continue
        words, fits = _POOL_RULES[key]
        if not fits(value):
            guess = near(value, POOL_KINDS if key == "kind" else _FACTORS) if isinstance(value, str) else ""
            problems.append(f"{where}: {key} takes {words}, not {_shown(value)}{guess}")
    if pool.get("address") is not None and pool.get("kind") in POOL_KINDS[:-1]:
        problems.append(f'{where}: only a pool of the kind "dask" has an address')
    if "kind" not in pool:
        problems.append(f"{where} needs a kind: {_listed(POOL_KINDS)}")
    return pool if len(problems) == before else None


# ---- what is allowed ------------------------------------------------------------------------------------------------


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _from_zero(value: object) -> bool:
    return _whole(value, 0)


def _from_one(value: object) -> bool:
    return _whole(value, 1)


def _seconds(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return 0 <= value <= LONGEST  # NaN isn't: it compares false


def _amounts(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and name and _finite(amount) for name, amount in value.items()
    )


def _finite(amount: object) -> bool:
    return isinstance(amount, (int, float)) and not isinstance(amount, bool) and 0 < amount < inf


def _path(value: object) -> bool:
    return isinstance(value, (str, os.PathLike)) and bool(path := os.fspath(value)) and isinstance(path, str)


def _one_of(*names: str) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and value in names


def _workers(value: object) -> bool:
    return _from_one(value) or (isinstance(value, str) and value in _FACTORS)


def _is_journal(value: object) -> bool:
    return all(callable(getattr(value, name, None)) for name in ("write", "load", "executions", "close"))


def _address(value: object) -> bool:
    return value is None or (isinstance(value, str) and "://" in value)


def _listed(names: Any) -> str:
    *most, last = (f'"{name}"' for name in names)
    return f"{', '.join(most)} or {last}"


_RULES: Final[Mapping[str, tuple[str, Callable[[object], bool]]]] = {
    "workers": ("a whole number from 1", _from_one),
    "processes": ("a whole number from 1", _from_one),
    "max_coroutines": ("a whole number from 1", _from_one),
    "pools": ("a mapping of names to pools", lambda value: isinstance(value, Mapping)),
    "default_pool": ("the name of a pool, or None", lambda value: value is None or isinstance(value, str)),
    "resources": ('a mapping of names to amounts above 0, such as {"gpu": 2}', _amounts),
    "scheduling": (_listed(SCHEDULINGS), _one_of(*SCHEDULINGS)),
    "failure_policy": (_listed(FAILURE_POLICIES), _one_of(*FAILURE_POLICIES)),
    "journal": (
        "the path of a file, a Journal, or None",
        lambda value: value is None or _path(value) or _is_journal(value),
    ),
    "durability": (_listed(DURABILITIES), _one_of(*DURABILITIES)),
    "max_recoveries": ("a whole number from 0", _from_zero),
    "history_limit": ("a whole number from 0", _from_zero),
    "keep": ("a whole number from 0", _from_zero),
    "cache": ("the path of a file, or None", lambda value: value is None or _path(value)),
    "grace": ("a number of seconds from 0 to a billion", _seconds),
}

_CONVERTED: Final[Mapping[str, Callable[[Any], Any]]] = {
    "grace": float,
    "cache": lambda value: value if value is None else os.fspath(value),
}

_POOL_RULES: Final[Mapping[str, tuple[str, Callable[[object], bool]]]] = {
    "kind": (_listed(POOL_KINDS), _one_of(*POOL_KINDS)),
    "workers": (f"a whole number from 1, or the kind of work: {_listed(_FACTORS)}", _workers),
    "address": ("a Dask scheduler's address such as tcp://10.0.0.1:8786, or None", _address),
}

_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "scheduling": SCHEDULINGS,
    "failure_policy": FAILURE_POLICIES,
    "durability": DURABILITIES,
}


# ---- how it is said -------------------------------------------------------------------------------------------------

_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxother = 80


def _shown(value: object) -> str:
    try:
        return _BRIEF.repr(value)
    except ValueError:  # Python writes no int of thousands of digits
        return f"<one {type(value).__name__} too long to show>"


def _guess(name: str, value: object) -> str:
    return near(value, _CHOICES[name]) if name in _CHOICES and isinstance(value, str) else ""


def _message(problems: list[str]) -> str:
    if len(problems) == 1:
        return problems[0]
    return "\n".join([f"{len(problems)} settings can't be right:", *(f"  - {problem}" for problem in problems)])
