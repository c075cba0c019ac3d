"""Small mistakes, one at a time: every way in which an operator of ours can spoil a module's source.

Comparisons, arithmetic and boolean operators are swapped for others; a part of `and`/`or` is dropped; conditions are
negated, or always or never hold, or are left out; numbers are one more or one less, other constants different ones;
statements are left out, results aren't returned; `min` and `max`, `any` and `all`, `break` and `continue` change
places. Annotations, decorators, docstrings, imports and assertions are left alone.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

COMPARISONS: dict[type, tuple[type, ...]] = {
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt),
}  # fmt: skip
ARITHMETIC: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.Mult: ast.FloorDiv,
}  # fmt: skip
TWINS = {"min": "max", "max": "min", "any": "all", "all": "any"}
ASSIGNMENTS = (ast.Assign, ast.AnnAssign, ast.AugAssign)
LEFT_OUT = (*ASSIGNMENTS, ast.Expr, ast.Return, ast.Raise, ast.Delete, ast.For, ast.Continue)
UNTOUCHED = {"annotation", "returns", "type_params", "decorator_list"}


@dataclass(frozen=True)
class Place:
    """Where in a module a node is.

    Attributes:
        scope: the class and function, with dots; "module" outside of any.
        statement: its text, of a compound one the head.
        lines: those of the statement, by number.
        is_inside: whether it is in the body of a function, or a default, so that it can be exchanged once the module is
            loaded.
    """

    scope: str = "module"
    statement: str = ""
    lines: range = range(0)
    is_inside: bool = False


@dataclass(frozen=True)
class Mutant:
    """One mistake. `name` says where and what, by the code and not by line numbers; `apply` makes it in the tree."""

    name: str
    place: Place
    apply: Callable[[], None]


def mutants(tree: ast.Module) -> list[Mutant]:
    """Every mistake in a module; after `apply` the tree is spoilt, so each needs a fresh tree or process."""
    seen: Counter[str] = Counter()
    found = []
    for place, change, apply in _changes(tree, Place()):
        name = f"{place.scope}: {change}"
        seen[name] += 1
        found.append(Mutant(name if seen[name] == 1 else f"{name} #{seen[name]}", place, apply))
    return found


def _changes(node: ast.AST, place: Place) -> Iterator[tuple[Place, str, Callable[[], None]]]:
    """All changes in what a node is made of: where, what, and how to make it."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        place = replace(place, scope=node.name if place.scope == "module" else f"{place.scope}.{node.name}")
    for field, value in ast.iter_fields(node):
        if field in UNTOUCHED:
            continue
        is_inside = place.is_inside or (field == "body" and isinstance(node, ast.FunctionDef))
        for part, put in _parts(node, field, value):
            if _is_docstring(part) or _is_for_the_checker(part):
                continue
            here = replace(place, is_inside=is_inside)
            if field == "args" and isinstance(node, ast.FunctionDef):
                here = replace(here, is_inside=True, lines=_first_lines(node))
            if isinstance(part, ast.stmt):
                here = replace(here, statement=_text(part), lines=_lines(part))
            for new in () if _is_compared_none(part, node) else _spoilt(part, node, field):
                whole = "" if here.statement == _text(part) else f"{here.statement} | "
                yield here, f"{whole}{_text(part)} -> {_text(new)}", _later(put, new)
            yield from _changes(part, here)


def _lines(statement: ast.stmt) -> range:
    """The lines of a statement; of a compound one, those of its head; of a loop, the first that is repeated."""
    body = getattr(statement, "body", None)
    if isinstance(statement, ast.For):
        return _lines(statement.body[0])
    end = body[0].lineno if body else (statement.end_lineno or statement.lineno) + 1
    return range(statement.lineno, max(end, statement.lineno + 1))


def _first_lines(function: ast.FunctionDef) -> range:
    """The lines that run whenever a function is called, however it goes on."""
    return _lines(next((one for one in function.body if not _is_docstring(one)), function.body[0]))


def _is_for_the_checker(part: ast.AST) -> bool:
    """Imports, also those that only a type checker makes, what may be imported, and assertions, which hold anyway."""
    if isinstance(part, ast.Assign):
        return ast.unparse(part.targets[0]) == "__all__"
    if isinstance(part, ast.AnnAssign):
        return part.value is None
    if isinstance(part, ast.If):
        return ast.unparse(part.test) == "TYPE_CHECKING"
    return isinstance(part, ast.Import | ast.ImportFrom | ast.Assert)


def _parts(node: ast.AST, field: str, value: Any) -> Iterator[tuple[ast.AST, Callable[[ast.AST], None]]]:
    """The nodes in a field, each with a function that puts another in its place."""
    if isinstance(value, ast.AST):
        yield value, lambda new: setattr(node, field, new)
    elif isinstance(value, list):
        for index, part in enumerate(value):
            if isinstance(part, ast.AST):
                yield part, lambda new, index=index: value.__setitem__(index, new)


def _later(put: Callable[[ast.AST], None], new: ast.AST) -> Callable[[], None]:
    return lambda: put(new)


def _spoilt(node: ast.AST, parent: ast.AST, field: str) -> Iterator[ast.AST]:
    """What can stand in a node's place."""
    if field == "test" or (field == "ifs" and isinstance(parent, ast.comprehension)):
        yield from (ast.UnaryOp(ast.Not(), node), ast.Constant(value=True), ast.Constant(value=False))
    if isinstance(node, LEFT_OUT):
        yield ast.Pass()
    spoil = _SPOILERS.get(type(node))
    if spoil is not None:
        yield from spoil(node)


def _compare(node: ast.Compare) -> Iterator[ast.AST]:
    for index, operator in enumerate(node.ops):
        for other in COMPARISONS[type(operator)]:
            yield ast.Compare(node.left, [*node.ops[:index], other(), *node.ops[index + 1 :]], node.comparators)


def _binary(node: ast.BinOp) -> Iterator[ast.AST]:
    if type(node.op) in ARITHMETIC:
        yield ast.BinOp(node.left, ARITHMETIC[type(node.op)](), node.right)


def _augmented(node: ast.AugAssign) -> Iterator[ast.AST]:
    if type(node.op) in ARITHMETIC:
        yield ast.AugAssign(node.target, ARITHMETIC[type(node.op)](), node.value)


def _boolean(node: ast.BoolOp) -> Iterator[ast.AST]:
    yield ast.BoolOp(ast.And() if isinstance(node.op, ast.Or) else ast.Or(), node.values)
    for index in range(len(node.values)):
        left = node.values[:index] + node.values[index + 1 :]
        yield left[0] if len(left) == 1 else ast.BoolOp(node.op, left)


def _unary(node: ast.UnaryOp) -> Iterator[ast.AST]:
    if isinstance(node.op, ast.Not | ast.USub):
        yield node.operand


def _return(node: ast.Return) -> Iterator[ast.AST]:
    if node.value is not None and not (isinstance(node.value, ast.Constant) and node.value.value is None):
        yield ast.Return(None)


def _constant(node: ast.Constant) -> Iterator[ast.AST]:
    value: Any = node.value
    if isinstance(value, bool):
        yield ast.Constant(value=not value)
    elif isinstance(value, int):
        yield ast.Constant(value + 1)
        yield ast.Constant(value - 1)
    elif isinstance(value, str):
        yield ast.Constant(value + "?")
    elif value is None:
        yield ast.Constant("?")


def _name(node: ast.Name) -> Iterator[ast.AST]:
    if node.id in TWINS and isinstance(node.ctx, ast.Load):
        yield ast.Name(TWINS[node.id], ast.Load())


def _if(node: ast.If) -> Iterator[ast.AST]:
    if not node.orelse and len(node.body) == 1:
        yield node.body[0]


_SPOILERS: dict[type, Callable[[Any], Iterator[ast.AST]]] = {
    ast.Compare: _compare, ast.BinOp: _binary, ast.AugAssign: _augmented, ast.BoolOp: _boolean, ast.UnaryOp: _unary,
    ast.Return: _return, ast.Constant: _constant, ast.Name: _name, ast.If: _if,
    ast.Continue: lambda _: iter([ast.Break()]), ast.Break: lambda _: iter([ast.Continue()]),
}  # fmt: skip


def _is_compared_none(part: ast.AST, parent: ast.AST) -> bool:
    """`is "?"` never holds: as much is said by what becomes of the comparison."""
    return isinstance(parent, ast.Compare) and isinstance(part, ast.Constant) and part.value is None


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _text(node: ast.AST) -> str:
    """A node as code, on one line; of a compound statement the head."""
    return ast.unparse(ast.fix_missing_locations(node)).partition("\n")[0]
