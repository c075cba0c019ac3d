"""`Fields`: what can be said of a task beside its id and its function, and what is wrong with what was said."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, NoReturn

import msgspec
from msgspec import UNSET
from msgspec.structs import force_setattr as _set

from nerv.caching.policy import Cache
from nerv.errors import Problem, WorkflowDefinitionError, near
from nerv.functions import name_of
from nerv.policies import CircuitBreaker, RateLimit, RetryPolicy, finite
from nerv.statuses import TaskPriority

RUN_WHEN: Final = ("all_completed", "all_finished", "any_completed")


class TaskMetadata(msgspec.Struct, frozen=True, eq=False):
    """What people and tools want to remember about a task; the engine doesn't read it.

    Raises:
        WorkflowDefinitionError: a value can't be right; it names every such field.
    """

    tags: frozenset[str] = frozenset()
    creator: str | None = None
    values: Mapping[str, Any] = {}

    def __post_init__(self) -> None:
        problems: list[str] = []
        if self.tags.__class__ is not frozenset:
            if isinstance(self.tags, str) or not isinstance(self.tags, Iterable):
                problems.append(f"tags takes a set of str, not {self.tags!r}")
            else:
                _set(self, "tags", frozenset(self.tags))
        if self.creator is not None and not isinstance(self.creator, str):
            problems.append(f"creator takes a str or None, not {self.creator!r}")
        if not isinstance(self.values, Mapping):
            problems.append(f"values takes a mapping, not {self.values!r}")
        if problems:
            raise WorkflowDefinitionError([Problem(None, "metadata", f"TaskMetadata: {text}") for text in problems])

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.tags, self.creator, dict(self.values))


NOTHING_SAID: Final = TaskMetadata(values=MappingProxyType({}))  # that of most tasks, so nobody may write to it


class Unnamed(dict[str, Any]):
    """Named values of which there are none: one object for all tasks that have none, so nobody may write to it."""

    __slots__ = ()

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:  # noqa: ARG002
        raise TypeError("a TaskDef can't be changed; make a new one")

    __setitem__ = setdefault = update = __ior__ = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, ()


UNNAMED: Final = Unnamed()


class Fields(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """What can be said of a task; `TaskDef` says what each field means."""

    name: str = ""
    description: str = ""
    dependencies: tuple[str, ...] = ()
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = UNNAMED
    priority: int = TaskPriority.MEDIUM
    pool: str | None = None
    run_when: str = "all_completed"
    timeout: float | None = None
    retry_policy: RetryPolicy | int | None = None
    resources: Mapping[str, float] | None = None
    fallback: Any = UNSET
    compensate: Callable[..., Any] | None = None
    rate_limit: RateLimit | None = None
    circuit_breaker: CircuitBreaker | None = None
    durable: bool = True
    cache: Cache | None = None
    metadata: TaskMetadata = NOTHING_SAID
    # worked out when the task is made, never given: what args and kwargs refer to, and what `has_policies` says
    _outputs: tuple[str, ...] = ()
    _params: Mapping[str, bool] = UNNAMED
    _has_policies: bool = False

    @property
    def has_policies(self) -> bool:
        """Whether it asks for more than to be called once when it is ready; a timeout is the engine's affair alone."""
        return self._has_policies

    @property
    def terms(self) -> str:
        """Its policies as text, the same in every process, for fingerprints; "" if it has none. Of a fallback and a
        compensation it says who they are, of values nothing.
        """
        if self.timeout is None and not self.has_policies:
            return ""
        retry = self.retry_policy
        told: dict[str, Any] = {
            "timeout": self.timeout,
            "retry": None if retry is None else _retry_terms(retry),  # type: ignore[arg-type]  # normalised when made
            "resources": sorted((self.resources or {}).items()),
            "fallback": name_of(self.fallback) if callable(self.fallback) else self.fallback is not UNSET,
            "compensate": None if self.compensate is None else name_of(self.compensate),
            "limits": [repr(self.rate_limit), repr(self.circuit_breaker)],
            "cache": None if self.cache is None else _cache_terms(self.cache),
        }
        return repr(told)


def _retry_terms(policy: RetryPolicy) -> list[Any]:
    *numbers, retry_on, never = msgspec.structs.astuple(policy)
    told = [name_of(kind) for kind in retry_on] if isinstance(retry_on, tuple) else name_of(retry_on)
    return [*numbers, told, [name_of(kind) for kind in never]]


def _cache_terms(cache: Cache) -> list[Any]:
    return [cache.ttl, None if cache.key is None else name_of(cache.key), cache.version]


def asks_for_more(fields: Fields) -> bool:
    """What `has_policies` is to be."""
    return not (
        fields.retry_policy is None
        and fields.resources is None
        and fields.compensate is None
        and fields.rate_limit is None
        and fields.circuit_breaker is None
        and fields.cache is None
        and fields.fallback is UNSET
    )


def check(fields: Fields, problems: list[str]) -> None:
    """Say what is wrong, and bring policies into the form in which they are kept."""
    _check_values(fields, problems)
    _check_policies(fields, problems)


def _check_values(fields: Fields, problems: list[str]) -> None:
    if not isinstance(fields.priority, int) or isinstance(fields.priority, bool):
        problems.append(f"priority takes a TaskPriority or an int, not {fields.priority!r}")
    if fields.run_when != "all_completed" and fields.run_when not in RUN_WHEN:
        problems.append(
            f"run_when takes one of {', '.join(RUN_WHEN)}, not {fields.run_when!r}{near(fields.run_when, RUN_WHEN)}"
        )
    if fields.pool is not None and (not isinstance(fields.pool, str) or not fields.pool):
        problems.append(f"pool takes a pool's name, not {fields.pool!r}")
    if fields.metadata is None:
        _set(fields, "metadata", NOTHING_SAID)
    elif not isinstance(fields.metadata, TaskMetadata):
        problems.append(f"metadata takes a TaskMetadata, not {fields.metadata!r}")
    texts = {"name": fields.name, "description": fields.description}
    problems += [f"{field} takes a str, not {text!r}" for field, text in texts.items() if not isinstance(text, str)]


def _check_policies(fields: Fields, problems: list[str]) -> None:
    if not isinstance(fields.durable, bool):
        problems.append(f"durable takes True or False, not {fields.durable!r}")
    if fields.timeout is not None:
        seconds = finite(fields.timeout)
        if seconds is None or seconds <= 0:
            problems.append(f"timeout takes seconds above 0, or None, not {fields.timeout!r}")
        else:
            _set(fields, "timeout", seconds)
    if fields.retry_policy is not None:
        try:
            _set(fields, "retry_policy", RetryPolicy.of(fields.retry_policy))
        except WorkflowDefinitionError as error:
            problems += [problem.message for problem in error.problems]
    for field, (kind, wanted) in _POLICY_TYPES.items():
        value = getattr(fields, field)
        if value is not None and not isinstance(value, kind):
            problems.append(f"{field} takes {wanted}, not {value!r}")
    if fields.resources is not None:
        _check_resources(fields, problems)


_POLICY_TYPES: Final[Mapping[str, tuple[type, str]]] = {
    "compensate": (Callable, "a callable"),  # type: ignore[dict-item]  # isinstance knows what to do with it
    "rate_limit": (RateLimit, "a RateLimit, such as RateLimit(10, 1.0)"),
    "circuit_breaker": (CircuitBreaker, "a CircuitBreaker"),
    "cache": (Cache, "a Cache, such as Cache(ttl=3600)"),
}


def _check_resources(fields: Fields, problems: list[str]) -> None:
    if not isinstance(fields.resources, Mapping):
        problems.append(f'resources takes a mapping such as {{"gpu": 1}}, not {fields.resources!r}')
        return
    for name, amount in fields.resources.items():
        number = finite(amount)
        if not isinstance(name, str) or not name:
            problems.append(f"resources takes names as keys, not {name!r}")
        elif number is None or number <= 0:
            problems.append(f"resources[{name!r}] takes an amount above 0, not {amount!r}")
    _set(fields, "resources", dict(fields.resources))
