"""Describes one Python source file, by parsing it: nothing of it is ever run."""

import ast
import inspect
import os
import time
from collections.abc import Iterator, Sequence

from atlas.report import Name, Report, Timing, all_words
from atlas.scan import Import

SIGNATURE_LIMIT = 160
"""Longer signatures are cut: they are read in a list."""

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.Assert, ast.comprehension)
Function = ast.FunctionDef | ast.AsyncFunctionDef
PROPERTIES = {"property", "cached_property", "abstractproperty", "setter", "getter", "deleter"}


def analyse(module: str, path: str, own_bits: int, *loaded: int) -> Report:
    """Parse one file and describe it; SyntaxError when it isn't Python.

    ``own_bits`` holds the module's own bit (in an import cycle: those of all in it), ``loaded`` the ``reach`` of each
    module that it imports; together they are all that importing this module loads.
    """
    started = time.time()
    with open(path, "rb") as file:
        source = file.read()
    tree = ast.parse(source, path)
    counts = Counts(tree)
    doc, names = docstring(tree), tuple(public_names(tree))
    reach = own_bits
    for bits in loaded:
        reach |= bits
    return Report(
        module=module,
        kind="python",
        doc=doc,
        reach=reach,
        lines=source.count(b"\n") + (not source.endswith(b"\n") and bool(source)),
        code_lines=len(counts.lines),
        functions=counts.functions,
        classes=counts.classes,
        complexity=counts.complexity,
        names=names,
        words=all_words(doc, names),
        imports=frozenset(imports_at_import_time(tree.body)),
        lazy_imports=frozenset(imports_anywhere(tree)) - frozenset(imports_at_import_time(tree.body)),
        reexports=tuple(reexports(tree)),
        hardest=counts.hardest,
        timing=Timing(module, started, time.time(), f"process {os.getpid()}"),
    )


def docstring(node: ast.Module | ast.ClassDef | Function) -> str:
    """The cleaned docstring, or nothing; lone surrogates, which JSON can't carry, become question marks.

    ``__doc__ = other.__doc__`` in a class counts: what matters is whether a reader is told something.
    """
    doc = ast.get_docstring(node)
    if doc is None and isinstance(node, ast.ClassDef):
        given = (n.value for n in node.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__doc__")
        doc = next((f"Documented as {ast.unparse(value).removesuffix('.__doc__')}." for value in given), None)
    return (doc or "").encode(errors="replace").decode()


class Counts:
    """One walk over a tree: lines that hold code, functions, classes and McCabe's complexity.

    Complexity is one for each function plus one for each branch (T. McCabe, "A complexity measure", 1976), with boolean
    operators counted as branches; ``complexity`` is the sum over the module, ``hardest`` the function with the most.
    """

    def __init__(self, tree: ast.Module) -> None:
        self.functions = 0
        self.classes = 0
        self.lines: set[int] = set()
        self.hardest = ("", 0)
        self.complexity = self.walk(tree, "")

    def walk(self, node: ast.AST, path: str) -> int:
        """Count below ``node``, which lies in the function or class ``path``; gives the branches found."""
        branches = 0
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (*FUNCTIONS, ast.ClassDef)):
                inner = f"{path}.{child.name}" if path else child.name
                inside = self.walk(child, inner)
                if isinstance(child, ast.ClassDef):
                    self.classes += 1
                else:
                    self.functions += 1
                    inside += 1
                    self.hardest = max(self.hardest, (inner, inside), key=lambda item: item[1])
                branches += inside
                first = min((mark.lineno for mark in child.decorator_list), default=child.lineno)
                self.lines.update(range(first, max(child.body[0].lineno, child.lineno + 1)))
            elif isinstance(child, ast.stmt):
                branches += isinstance(child, BRANCHES) + self.walk(child, path)
                self.count_lines(child)
            elif not isinstance(child, ast.Constant):
                branches += self.walk(child, path)
                if isinstance(child, ast.BoolOp):
                    branches += len(child.values) - 1
                elif isinstance(child, BRANCHES):
                    branches += 1
        return branches

    def count_lines(self, node: ast.stmt) -> None:
        """A statement's own lines: of one with a body only the header, of a string that stands alone none."""
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return
        body = getattr(node, "body", None)
        end = body[0].lineno - 1 if isinstance(body, list) and body else node.end_lineno or node.lineno
        self.lines.update(range(node.lineno, max(end, node.lineno) + 1))


def imports_at_import_time(body: Sequence[ast.AST]) -> Iterator[Import]:
    """The import statements that run when the module is imported; `atlas.scan` says which those are."""
    for node in body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from targets(node)
        elif isinstance(node, ast.If) and never_at_import(node.test):
            yield from imports_at_import_time(node.orelse)
        elif not isinstance(node, FUNCTIONS):
            for part in ("body", "handlers", "orelse", "finalbody", "cases"):
                block = getattr(node, part, ())
                if isinstance(block, list):
                    yield from imports_at_import_time(block)


def imports_anywhere(tree: ast.Module) -> Iterator[Import]:
    """All import statements, those inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from targets(node)


def targets(node: ast.Import | ast.ImportFrom) -> Iterator[Import]:
    """One statement, as the Imports it makes."""
    if isinstance(node, ast.Import):
        yield from (Import(0, alias.name) for alias in node.names)
    else:
        yield Import(node.level, node.module or "", tuple(alias.name for alias in node.names))


def never_at_import(test: ast.expr) -> bool:
    """``TYPE_CHECKING`` or ``__name__ == "__main__"``."""
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq):
        sides = [test.left, test.comparators[0]]
        names = [side.id for side in sides if isinstance(side, ast.Name)]
        return names == ["__name__"] and any(isinstance(side, ast.Constant) for side in sides)
    return (test.id if isinstance(test, ast.Name) else getattr(test, "attr", "")) == "TYPE_CHECKING"


def public_names(tree: ast.Module) -> Iterator[Name]:
    """The module's own public functions, classes with their public methods, and constants.

    Public is what ``__all__`` lists, where it can be read without running anything; else what has no underscore in
    front, and of plain assignments only CAPITALS.
    """
    listed = listed_names(tree)
    seen: set[str] = set()
    for node in statements(tree.body):
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            found = node.name
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            found = next((t.id for t in assigned(node) if isinstance(t, ast.Name)), "")
            if listed is None and not found.isupper():
                continue
        else:
            continue
        if found in seen or (found not in listed if listed is not None else found.startswith("_") or not found):
            continue
        seen.add(found)
        yield from describe(node, found)


def statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """The module's statements, those in its ``if`` and ``try`` blocks included."""
    for node in body:
        yield node
        if isinstance(node, (ast.If, ast.Try, ast.With)):
            for part in ("body", "orelse", "finalbody"):
                yield from statements(getattr(node, part, ()))
            for handler in getattr(node, "handlers", ()):
                yield from statements(handler.body)


def assigned(node: ast.stmt) -> Sequence[ast.expr]:
    """What an assignment assigns to; nothing for other statements."""
    return node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []


def listed_names(tree: ast.Module) -> set[str] | None:
    """``__all__`` as far as it is written out: literals, ``+=``, ``.append`` and ``.extend``; None where it isn't."""
    listed: set[str] | None = None
    for node in statements(tree.body):
        value: ast.expr | None = None
        if any(isinstance(t, ast.Name) and t.id == "__all__" for t in assigned(node)):
            value, listed = getattr(node, "value", None), set()
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name) and node.target.id == "__all__":
            value = node.value
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            called = node.value.func
            if isinstance(called, ast.Attribute) and ast.unparse(called.value) == "__all__":
                value = ast.Tuple(elts=node.value.args)
        if isinstance(value, ast.ListComp):
            return None
        if value is not None:
            words = {n.value for n in ast.walk(value) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
            listed = (listed or set()) | words
    return listed or None


def describe(node: ast.stmt, name: str) -> Iterator[Name]:
    """The Name of a definition and, for a class, those of its public methods."""
    if isinstance(node, FUNCTIONS):
        yield Name("function", name, signature(node), docstring(node))
    elif isinstance(node, ast.ClassDef):
        methods = {child.name: child for child in reversed(node.body) if isinstance(child, FUNCTIONS)}
        made_by = methods.get("__init__") or methods.get("__new__")
        bases = ", ".join(ast.unparse(base) for base in node.bases)
        text = signature(made_by, skip=1, returns=False) if made_by else f"({bases})" if bases else ""
        yield Name("class", name, text, docstring(node))
        for method in reversed(list(methods.values())):
            if not method.name.startswith("_"):
                marks = {ast.unparse(mark).rpartition(".")[2] for mark in method.decorator_list}
                text = "" if marks & PROPERTIES else signature(method, skip="staticmethod" not in marks)
                yield Name("method", f"{name}.{method.name}", text, docstring(method))
    else:
        value = getattr(node, "value", None)
        text = ast.unparse(value) if value is not None and small(value) else ""
        yield Name("constant", name, f" = {text}" if 0 < len(text) <= 60 else "", "")


def signature(node: Function, *, skip: int = 0, returns: bool = True) -> str:
    """``(a, b=1, *c) -> d`` without the first ``skip`` arguments."""
    arguments = node.args
    first = arguments.posonlyargs or arguments.args
    kept, first[:skip] = first[:skip], []
    text = f"({ast.unparse(arguments)})"
    first[:0] = kept
    if returns and node.returns is not None:
        text += f" -> {ast.unparse(node.returns)}"
    return inspect.cleandoc(text if len(text) <= SIGNATURE_LIMIT else text[: SIGNATURE_LIMIT - 2] + "…)")


def small(value: ast.expr) -> bool:
    """Whether a constant's value is short enough to be shown (and cheap to write out)."""
    return not isinstance(value, (ast.List, ast.Tuple, ast.Dict, ast.Set)) or len(list(ast.walk(value))) < 20


def reexports(tree: ast.Module) -> Iterator[tuple[Import, str]]:
    """Names taken from elsewhere and offered as one's own: (where from, the name here), ``*`` for all of them."""
    for node in statements(tree.body):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                name = alias.asname or alias.name
                if not name.startswith("_"):
                    yield Import(node.level, node.module or "", (alias.name,)), name


def complaint(path: str | None) -> str:
    """Why a file can't be parsed, in the parser's words; nothing when it can."""
    try:
        with open(path or "", "rb") as file:
            ast.parse(file.read())
    except SyntaxError as error:
        return f"line {error.lineno}: {error.msg}"
    except (OSError, ValueError) as error:
        return str(error)
    return "its task didn't finish"
