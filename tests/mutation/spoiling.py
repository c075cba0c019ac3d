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
    """Give the functions of a loaded module the code that they have in a tree, and the defaults, whoever holds them.

    Raises:
        ValueError: Python can't: the new code has other closure cells.
    """
    code = compile(ast.fix_missing_locations(tree), str(module.__file__), "exec")
    codes = {inner.co_qualname: inner for inner in _codes(code)}
    arguments = {name: node.args for name, node in _definitions(tree)}
    for function in _functions(module, module.__name__):
        name = function.__qualname__
        if name in codes:
            function.__code__ = codes[name]
            _set_defaults(function, arguments[name])


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


def _definitions(holder: ast.Module | ast.ClassDef, within: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    """The functions of a module in a tree, and of its classes, by qualified name."""
    for node in holder.body:
        if isinstance(node, ast.FunctionDef):
            yield within + node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from _definitions(node, f"{within}{node.name}.")


def _set_defaults(function: FunctionType, arguments: ast.arguments) -> None:
    """Those that are plain constants; no mistake is made in others."""
    defaults = list(function.__defaults__ or ())
    for place, node in enumerate(arguments.defaults):
        defaults[place] = _constant(node, defaults[place])
    function.__defaults__ = tuple(defaults) or None
    named = function.__kwdefaults__ or {}
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        if default is not None:
            named[argument.arg] = _constant(default, named[argument.arg])


def _constant(node: ast.expr, otherwise: Any) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return otherwise


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
