"""Put a mutant in the place of a module."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any


def transplant(module: ModuleType, tree: ast.Module) -> None:
    """Give the functions of a loaded module the code that they have in a tree, whoever holds them.

    Raises:
        ValueError: Python can't: the new code has other closure cells.
    """
    code = compile(ast.fix_missing_locations(tree), str(module.__file__), "exec")
    codes = {inner.co_qualname: inner for inner in _codes(code)}
    for function in _functions(module, module.__name__):
        if function.__qualname__ in codes:
            function.__code__ = codes[function.__qualname__]


def replace(name: str, file: Path, tree: ast.Module) -> None:
    """Load a module from a tree, before anybody has loaded the real one."""
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    exec(compile(ast.fix_missing_locations(tree), str(file), "exec"), module.__dict__)


def _codes(code: CodeType) -> Iterator[CodeType]:
    """The code of the functions of a module, and of those in its classes."""
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield inner
            if not inner.co_varnames and "__qualname__" in inner.co_names:  # the body of a class
                yield from _codes(inner)


def _functions(holder: Any, module: str) -> Iterator[FunctionType]:
    """The functions of a module, and of its classes."""
    for value in list(vars(holder).values()):
        if isinstance(value, type) and value.__module__ == module and not isinstance(holder, type):
            yield from _functions(value, module)
        for function in _within(value):
            if isinstance(function, FunctionType) and function.__module__ == module:
                yield function


def _within(value: Any) -> Iterator[Any]:
    if isinstance(value, property):
        yield from (value.fget, value.fset)
    elif isinstance(value, cached_property):
        yield value.func
    else:
        yield getattr(value, "__func__", getattr(value, "__wrapped__", value))
