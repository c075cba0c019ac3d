"""`digest`: a fingerprint of a value's content, the same for equal content in every process.

The work is joblib's (`joblib.hashing`): it walks a value as pickle would, whatever the value is, puts dicts and sets in
order, and takes NumPy arrays, and so pandas objects, by their bytes. `_StandIns` adds what it doesn't do: functions
count by their code wherever they stand in a value, arrays count alike however they lie in memory, subclasses of arrays
with all that they add (a mask, a unit), and sets and dicts have one order also if their members have none.

joblib is imported when the first digest is made.
"""

from __future__ import annotations

import functools
import pickle
import sys
from collections.abc import Callable, Collection
from types import CodeType, FunctionType, MethodType
from typing import Any, Final

ALGORITHM: Final = "sha1"
"""The stronger of the two that joblib offers. It guards against accidents, not against somebody who makes two inputs
that have one digest."""

_ORDERED: Final = frozenset({str, int, bytes})
"""Types whose values have one order among themselves; floats haven't, with a NaN among them."""

_SAVED_BY: Final = {dict: "save_dict", FunctionType: "save_global", type: "save_type"}
"""Whom Python's own pickler leaves these types to; dill takes their places, and does it in another way."""

_LRU: Final = type(functools.lru_cache(lambda: None))


def digest(value: Any) -> str:
    """The fingerprint of a value's content, as hexadecimal digits.

    Raises:
        Exception: whatever pickling the value raises, if it can't be hashed.
    """
    try:
        return str(_hasher(with_numpy=sys.modules.get("numpy") is not None)(ALGORITHM).hash(value))
    except pickle.PicklingError as error:
        error.args = error.args[:1]  # joblib adds the whole value's repr
        raise


def function_digest(fn: Callable[..., Any]) -> str:
    """The fingerprint of what a callable does: its code, and the values it closes over or was bound to.

    Default values aren't part of it: they are arguments. A callable object counts by the code of its `__call__` and its
    content, a builtin by its name, a nerv Task as its function.

    Raises:
        Exception: whatever pickling one of those values raises.
    """
    if getattr(type(fn), "is_nerv_task", False):
        return function_digest(fn.fn)  # type: ignore[attr-defined]
    if type(fn) is FunctionType:
        return digest(_described(fn, with_defaults=False))
    if type(fn) is MethodType:
        return digest(("method", function_digest(fn.__func__), fn.__self__))
    if type(fn) is functools.partial:
        return digest(("partial", function_digest(fn.func), fn.args, fn.keywords))
    if type(fn) is _LRU:
        return digest(("cached", function_digest(fn.__wrapped__)))
    call = getattr(type(fn), "__call__", None)  # noqa: B004  the method itself is wanted
    return digest(("object", _described(call), fn) if type(call) is FunctionType else fn)


def closure(fn: Callable[..., Any]) -> dict[str, Any]:
    """The values that a plain function closes over, by name."""
    if type(fn) is not FunctionType:
        return {}
    cells = zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True)
    return {name: content for name, cell in cells for content in _inside(cell)}


def _inside(cell: Any) -> tuple[Any, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:  # the variable hasn't been given a value yet
        return ()


def _described(fn: FunctionType, *, with_defaults: bool = True) -> tuple[Any, ...]:
    """What tells a function from all others, in plain values and those it closes over."""
    defaults = (fn.__defaults__, fn.__kwdefaults__) if with_defaults else ()
    return "function", fn.__module__, fn.__qualname__, _code_digest(fn.__code__), closure(fn), defaults


@functools.lru_cache(maxsize=1024)
def _code_digest(code: CodeType) -> str:
    """A code object's fingerprint: all that it does, not where it stands nor how its lines are numbered."""
    constants = [_code_digest(one) if type(one) is CodeType else digest(one) for one in code.co_consts]
    return digest((
        code.co_code, code.co_exceptiontable, code.co_flags, code.co_argcount, code.co_posonlyargcount,
        code.co_kwonlyargcount, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars, constants,
    ))  # fmt: skip


def _has_order(members: Collection[Any]) -> bool:
    kinds = {type(member) for member in members}
    return not kinds or (len(kinds) == 1 and kinds <= _ORDERED)


@functools.cache
def _hasher(*, with_numpy: bool) -> Any:
    """The class that hashes: joblib's; in its form for NumPy once that is loaded, as a value can hold arrays only then.

    Of values without arrays both make the same digests.
    """
    from joblib import hashing

    base = hashing.NumpyHasher if with_numpy else hashing.Hasher
    # Others, such as dill, teach Python's own pickler to take more: what is hashed mustn't depend on who is loaded.
    known = {kind: save for kind, save in base.dispatch.items() if save.__module__ in ("pickle", "joblib.hashing")}
    known |= {kind: getattr(base, name) for kind, name in _SAVED_BY.items() if kind not in known}
    return type("Contents", (_StandIns, base), {"dispatch": known})


class _StandIns:
    """What is put before joblib's hasher: some objects are hashed as something else that stands for them."""

    def __init__(self, algorithm: str) -> None:
        super().__init__(algorithm)  # type: ignore[call-arg]  # joblib's
        self.coerce_mmap = True  # an array is the same whether or not a file is behind it
        self._functions: dict[FunctionType, int] = {}
        numpy = sys.modules.get("numpy")
        self._array_types: tuple[Any, ...] = () if numpy is None else (numpy.ndarray, numpy.memmap)

    def save(self, obj: Any) -> None:
        """Called by the pickler for everything in a value."""
        super().save(self._stand_in(obj))  # type: ignore[misc]  # joblib's

    def _stand_in(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is FunctionType:
            return self._function(obj)
        if kind is MethodType:
            return "method", obj.__func__, obj.__self__
        if kind is _LRU:
            return "cached", obj.__wrapped__
        if getattr(kind, "is_nerv_task", False):
            return self._stand_in(obj.fn)
        if kind is set or kind is frozenset:
            return kind.__name__, sorted(obj) if _has_order(obj) else sorted(map(digest, obj))
        if kind is dict and not _has_order(obj):
            keys = sorted((digest(key), place) for place, key in enumerate(obj))
            values = [*obj.values()]
            return "dict", [(key, values[place]) for key, place in keys]
        return self._array(obj) if isinstance(obj, self._array_types) else obj

    def _function(self, fn: FunctionType) -> tuple[Any, ...]:
        if fn in self._functions:  # it refers to itself
            return "function", self._functions[fn]
        self._functions[fn] = len(self._functions)
        return _described(fn)

    def _array(self, array: Any) -> Any:
        if type(array) not in self._array_types:
            return "array", array.__reduce_ex__(2)
        return array if array.flags.c_contiguous or array.dtype.hasobject else array.copy(order="C")
