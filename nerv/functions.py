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
    """Whether the first parameter is annotated `TaskContext` (also as text), or is unannotated and named ctx or context."""
    if type(fn) is FunctionType and not hasattr(fn, "__wrapped__"):
        code = fn.__code__
        if not code.co_argcount:
            return False
        name = code.co_varnames[0]
        return _asks(name, fn.__annotations__.get(name, ""))
    import inspect

    try:
        parameters = iter(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):  # builtins that can't be inspected don't know nerv
        return False
    first = next(parameters, None)
    if first is None or first.kind not in (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD):
        return False
    return _asks(first.name, "" if first.annotation is first.empty else first.annotation)


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
    inner = getattr(fn, "fn", None) if _is_task(fn) else getattr(type(fn), "__call__", None)
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


def name_of(fn: Callable[..., Any]) -> str:
    """The dotted name of a callable, for fingerprints and messages: `module.qualname`."""
    inner = innermost(fn)
    named = inner if hasattr(inner, "__qualname__") else type(inner)
    return f"{getattr(named, '__module__', None) or '?'}.{named.__qualname__}"
