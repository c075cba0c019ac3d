"""What nerv needs to know of a callable before it calls it: whether it wants the context, and whether it is a coroutine
function. Plain functions, by far the commonest, are read straight from their code object (`inspect.signature` costs
ten times as much); everything else goes the long way.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any, Final

from nerv.context import TaskContext

CONTEXT_NAMES: Final = ("ctx", "context")
_COROUTINE: Final = 0x80  # inspect.CO_COROUTINE


def wants_context(fn: Callable[..., Any]) -> bool:
    """Whether the first parameter is annotated `TaskContext` (or so as text), or named ctx or context without one."""
    if type(fn) is FunctionType and not hasattr(fn, "__wrapped__"):
        code = fn.__code__
        if not code.co_argcount:
            return False
        name = code.co_varnames[0]
        return _asks(name, fn.__annotations__.get(name, ""))
    import inspect

    try:
        parameters = iter(inspect.signature(fn).parameters.values())
    except Exception:  # noqa: BLE001  a callable that can't be inspected, for whatever reason, doesn't know nerv
        return False
    first = next(parameters, None)
    if first is None or first.kind not in (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD):
        return False
    return _asks(first.name, "" if first.annotation is first.empty else first.annotation)


def check_call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Refuse a call that Python would refuse, beside the context that `fn` may ask for. What it wraps isn't looked at:
    a decorator may add arguments.

    Raises:
        TypeError: as a call would.
    """
    import inspect

    try:
        signature = inspect.signature(fn, follow_wrapped=False)
    except Exception:  # noqa: BLE001  as above: then the call itself will tell
        return
    first = (None,) if wants_context(fn) else ()
    try:
        signature.bind(*first, *args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{name_of(fn)}(): {error}") from None


def _asks(name: str, annotation: Any) -> bool:
    if isinstance(annotation, str):
        if not annotation:
            return name in CONTEXT_NAMES
        return annotation.strip("'\"").rpartition(".")[2] == TaskContext.__name__
    return annotation is TaskContext


def is_coroutine_function(fn: Callable[..., Any]) -> bool:
    """Whether calling `fn` gives a coroutine, as far as can be told without calling it."""
    if type(fn) is FunctionType:
        return bool(fn.__code__.co_flags & _COROUTINE)
    if type(fn) is functools.partial:
        return is_coroutine_function(fn.func)
    if type(fn) is MethodType:
        return is_coroutine_function(fn.__func__)
    if _is_task(fn):
        return is_coroutine_function(fn.fn)  # type: ignore[attr-defined]
    inner = getattr(type(fn), "__call__", None)  # noqa: B004  the method itself is wanted
    return type(inner) is FunctionType and bool(inner.__code__.co_flags & _COROUTINE)


def _is_task(fn: object) -> bool:
    """Whether it is a `Task`. Its class is asked: a Mock says yes to whatever it is asked itself."""
    return bool(getattr(type(fn), "is_nerv_task", False))


def innermost(fn: Callable[..., Any]) -> Callable[..., Any]:
    """What an identity is taken from: a Task's function, a partial's inner function, a bound method's function."""
    while True:
        if type(fn) is functools.partial:
            fn = fn.func
        elif _is_task(fn):
            fn = fn.fn  # type: ignore[attr-defined]
        else:
            return fn


def same_callables(one: Any, other: Any) -> bool:
    """Whether they are the same function; a Task counts as its function.

    Bound methods are the same if their objects are, partials if what they pass on is.
    """
    one, other = (fn.fn if _is_task(fn) else fn for fn in (one, other))
    if one is other:
        return True
    if type(one) is MethodType and type(other) is MethodType:
        return one.__func__ is other.__func__ and one.__self__ is other.__self__
    if type(one) is functools.partial and type(other) is functools.partial:
        passed = (*one.args, *one.keywords.values()), (*other.args, *other.keywords.values())
        alike = len(one.args) == len(other.args) and list(one.keywords) == list(other.keywords)
        return alike and same_callables(one.func, other.func) and _same_objects(*passed)
    return False


def _same_objects(some: tuple[Any, ...], others: tuple[Any, ...]) -> bool:
    return len(some) == len(others) and all(a is b for a, b in zip(some, others, strict=True))


def name_of(fn: Callable[..., Any]) -> str:
    """The dotted name of a callable, for fingerprints and messages: `module.qualname`."""
    inner = innermost(fn)
    named = inner if hasattr(inner, "__qualname__") else type(inner)
    return f"{getattr(named, '__module__', None) or '?'}.{named.__qualname__}"
