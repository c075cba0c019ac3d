"""How taskmap calls a function: with the results of its dependencies in their order, and with nothing else.

taskmap leaves out the Nones among them, which shifts the others. nerv leaves them in, unless the function has too few
places: then it was written for results without Nones (a dependency that is there for the order only), and gets those.
"""

from __future__ import annotations

import inspect
import math
import pickle
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any, Final

from nerv.functions import is_coroutine_function, name_of, wants_context
from nerv.pools.script import is_guarded

_VARIABLE: Final = 0x04  # inspect.CO_VARARGS


class Step:
    """A function that is called with the results it wants.

    Args:
        fn: the function.
        keeps_none: whether it has places for all results; else it isn't given the Nones.
    """

    __slots__ = ("fn", "keeps_none")

    def __init__(self, fn: Callable[..., Any], *, keeps_none: bool) -> None:
        self.fn = fn
        self.keeps_none = keeps_none

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (type(self), self.fn, self.keeps_none)

    def __repr__(self) -> str:
        return repr(self.fn)

    def __call__(self, *values: Any) -> Any:
        """Call the function."""
        return self.fn(*self.wanted(values))

    def wanted(self, values: Sequence[Any]) -> Sequence[Any]:
        """The values that the function is given."""
        return values if self.keeps_none else without_none(values)


class CoroutineStep(Step):
    """Any function, coroutine function or not, as a coroutine function."""

    __slots__ = ()

    async def __call__(self, *values: Any) -> Any:
        """Call the function, and await what it returns if that can be awaited."""
        result = self.fn(*self.wanted(values))
        return await result if inspect.isawaitable(result) else result


class LoopStep(Step):
    """A coroutine function as a plain one: each call has an event loop of its own."""

    __slots__ = ()

    def __call__(self, *values: Any) -> Any:
        """Run the coroutine to its end."""
        import asyncio

        return asyncio.run(CoroutineStep(self.fn, keeps_none=self.keeps_none)(*values))


class Parcel:
    """A function that goes to worker processes by value, as it is now. There it is the function itself.

    Raises:
        Exception: whatever keeps it from being pickled.
    """

    __slots__ = ("data", "fn")

    def __init__(self, fn: Callable[..., Any]) -> None:
        import cloudpickle

        self.fn = fn
        self.data: bytes = cloudpickle.dumps(fn)

    def __reduce__(self) -> tuple[Any, ...]:
        return pickle.loads, (self.data,)

    def __repr__(self) -> str:
        return repr(self.fn)

    def __call__(self, *values: Any) -> Any:
        """Call the function."""
        return self.fn(*values)


Kind = Callable[..., Callable[..., Any]]
"""`Step`, one of its subclasses, or whatever else makes a callable of `fn` and `keeps_none`."""


def without_none(values: Sequence[Any]) -> Sequence[Any]:
    """The values that aren't None, in their order."""
    return [value for value in values if value is not None]


def step(kind: Kind, fn: Callable[..., Any], count: int) -> Callable[..., Any]:
    """What nerv can call with `count` results, as a `kind` of step; the function itself where that is the same."""
    keeps_none = places(fn)[1] >= count
    native = CoroutineStep if is_coroutine_function(fn) else Step
    if kind is native and keeps_none and not wants_context(fn):
        return fn
    return kind(fn, keeps_none=keeps_none)


def abroad(kind: Kind, fn: Callable[..., Any]) -> Kind:
    """The same kind of step, for a worker process: a function that none could import goes by value.

    Those are lambdas, functions inside functions, and those of a script that would do its work once more if it were
    imported. What can't go by value either stays as it is: the pool says what is wrong with it.
    """
    name = name_of(fn)
    has_name = "<lambda>" not in name and "<locals>" not in name
    if has_name and (not name.startswith("__main__.") or is_guarded()):
        return kind
    try:
        parcel = Parcel(fn)
    except Exception:  # noqa: BLE001  (pickling runs whatever the function holds)
        return kind
    return lambda _, *, keeps_none: kind(parcel, keeps_none=keeps_none)


def places(fn: Callable[..., Any]) -> tuple[int, float]:
    """How many positional arguments a function needs, and how many it can take; (0, inf) where that can't be seen."""
    if type(fn) is FunctionType and not hasattr(fn, "__wrapped__"):
        code = fn.__code__
        most = math.inf if code.co_flags & _VARIABLE else code.co_argcount
        return code.co_argcount - len(fn.__defaults__ or ()), most
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):  # some builtins can't be inspected
        return 0, math.inf
    positional = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    needed = sum(one.default is one.empty for one in positional)
    return needed, math.inf if any(one.kind is one.VAR_POSITIONAL for one in parameters) else len(positional)


def _rebuilt(kind: type[Step], fn: Callable[..., Any], keeps_none: bool) -> Step:  # noqa: FBT001  (called by pickle)
    return kind(fn, keeps_none=keeps_none)
