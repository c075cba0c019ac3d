"""The key of one call: what it does, and what it is given, in forty hexadecimal digits."""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

from nerv.caching.contents import closure, digest, function_digest
from nerv.caching.policy import Cache
from nerv.errors import CacheKeyError, described
from nerv.functions import name_of

FORM: Final = "nerv cache key 1"
"""Part of every key: keys that are made in another way get another number, so they never meet old entries."""


def key_of(
    task_id: str,
    cache: Cache,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    seen: Mapping[str, Any] | None = None,
) -> str:
    """The key of a call.

    Args:
        task_id: for messages; it is no part of the key.
        cache: what the task says about it.
        fn: the function.
        args, kwargs: what it is given, without the context.
        seen: what it can see through its context, by a name for messages; None: it has no context.

    Raises:
        CacheKeyError: something in it can't be hashed; it names the task and the argument.
    """
    parts = [FORM, repr(cache.version), _function_part(task_id, fn, "function")]
    if cache.key is not None:
        parts.append(_function_part(task_id, cache.key, "Cache(key=...)"))
        parts.append(_digest(task_id, "what its Cache(key=...) returned", _chosen(task_id, cache.key, args, kwargs)))
    else:
        inputs = dict(_bound(fn, args, kwargs, has_context=seen is not None))
        parts += [f"{name}={_digest(task_id, f'its argument {name}', value)}" for name, value in inputs.items()]
        parts += [f"{name}={_digest(task_id, name, value)}" for name, value in sorted((seen or {}).items())]
    return hashlib.sha1("\n".join(parts).encode(), usedforsecurity=False).hexdigest()


def _chosen(task_id: str, key: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    try:
        return key(*args, **kwargs)
    except Exception as error:
        raise CacheKeyError(
            f"task {task_id!r}: its Cache(key=...) raised {described(error)}; it is called with the task's arguments, "
            "without the context, and returns what stands for them"
        ) from error


def _bound(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], *, has_context: bool
) -> Iterator[tuple[str, Any]]:
    """The arguments by parameter, defaults included, so that every way to write a call gives the same.

    A function whose parameters can't be told, or that would refuse these arguments, has them as they are.
    """
    first = (None,) if has_context else ()
    try:
        bound = inspect.signature(fn).bind(*first, *args, **kwargs)
    except (TypeError, ValueError):
        yield from ((f"args[{index}]", value) for index, value in enumerate(args))
        yield from ((f"kwargs[{name!r}]", kwargs[name]) for name in sorted(kwargs))
        return
    bound.apply_defaults()
    yield from ((repr(name), value) for name, value in islice(bound.arguments.items(), len(first), None))


def _digest(task_id: str, what: str, value: Any) -> str:
    try:
        return digest(value)
    except Exception as error:  # hashing runs the value's own code
        kind = type(value)
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        raise CacheKeyError(
            f"task {task_id!r} can't be cached: {what} (a {name}) can't be hashed: {described(error)}; "
            "pass plain data, or say what stands for the arguments with Cache(key=...)"
        ) from error


def _function_part(task_id: str, fn: Callable[..., Any], what: str) -> str:
    try:
        return function_digest(fn)
    except Exception as error:
        raise CacheKeyError(
            f"task {task_id!r} can't be cached: its {what} {name_of(fn)} holds {_culprit(fn)}, which can't be hashed: "
            f"{described(error)}; pass it as an argument, or use a function at module level"
        ) from error


def _culprit(fn: Callable[..., Any]) -> str:
    """Which of the things in a function can't be hashed."""
    while type(fn) is functools.partial or getattr(type(fn), "is_nerv_task", False):
        if type(fn) is functools.partial:
            named = [*enumerate(fn.args), *fn.keywords.items()]
            for name, value in named:
                if not _can_be_hashed(value):
                    return f"the argument {name!r} (a {type(value).__name__})"
            fn = fn.func
        else:
            fn = fn.fn  # type: ignore[attr-defined]
    for name, value in closure(fn).items():
        if not _can_be_hashed(value):
            return f"the variable {name!r} (a {type(value).__name__})"
    owner = getattr(fn, "__self__", fn)
    return f"a {type(owner).__name__}"


def _can_be_hashed(value: Any) -> bool:
    try:
        digest(value)
    except Exception:  # noqa: BLE001  the reason is known already
        return False
    return True
