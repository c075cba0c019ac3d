"""Read who imports whom in a package, without importing it, and find what points the wrong way."""

import ast
import enum
import graphlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TYPE_CHECKING = {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


class When(enum.StrEnum):
    """When an import happens."""

    LOADED = "when the module is loaded"
    CALLED = "when a function is called"
    TYPED = "for the type checker only"


@dataclass(frozen=True, order=True)
class Import:
    """One import: both modules by their full names, and where it stands."""

    importer: str
    target: str
    line: int
    when: When

    def __str__(self) -> str:
        return f"{self.importer}, line {self.line}: imports {self.target} {self.when}"


def module_names(package: Path) -> dict[str, Path]:
    """The modules of a package (a folder), full name -> file."""
    names = {}
    for file in sorted(package.rglob("*.py")):
        parts = file.relative_to(package.parent).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return names


def read_imports(package: Path) -> list[Import]:
    """All imports in a package's files, in order."""
    names = module_names(package)
    return [found for name, file in names.items() for found in Reader(name, file, names).read()]


class Reader:
    """Reads one module."""

    def __init__(self, name: str, file: Path, names: Iterable[str]) -> None:
        self.name = name
        self.file = file
        self.names = frozenset(names)
        self.package = name if file.name == "__init__.py" else name.rpartition(".")[0]

    def read(self) -> Iterator[Import]:
        """Its imports, in order."""
        return self.walk(ast.parse(self.file.read_text(encoding="utf-8")), When.LOADED)

    def walk(self, node: ast.AST, when: When) -> Iterator[Import]:
        """The imports in a node; `when` is how it is reached."""
        if isinstance(node, ast.Import | ast.ImportFrom):
            for target in dict.fromkeys(self.targets(node)):
                yield Import(self.name, target, node.lineno, when)
        elif isinstance(node, ast.If) and ast.unparse(node.test) in TYPE_CHECKING:
            yield from self.walk_all(node.body, When.TYPED)
            yield from self.walk_all(node.orelse, when)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from self.walk_all(node.body, When.CALLED if when is When.LOADED else when)
        else:
            yield from self.walk_all(ast.iter_child_nodes(node), when)

    def walk_all(self, nodes: Iterable[ast.AST], when: When) -> Iterator[Import]:
        """The imports in several nodes."""
        for node in nodes:
            yield from self.walk(node, when)

    def targets(self, node: ast.Import | ast.ImportFrom) -> Iterator[str]:
        """The modules that a statement names: `from a import b` means a.b if that is one of our modules, else a."""
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
            return
        base = ".".join(filter(None, (self.anchor(node.level), node.module)))
        for alias in node.names:
            inner = f"{base}.{alias.name}"
            yield inner if inner in self.names else base

    def anchor(self, level: int) -> str:
        """The package that a relative import starts from."""
        return self.package.rsplit(".", level - 1)[0] if level else ""


def layer(module: str, package: str) -> str | None:
    """The layer of a module: its name below the package, `__init__` for the package itself, None for others."""
    first, *rest = module.split(".")
    if first != package:
        return None
    return rest[0] if rest else "__init__"


def unlisted(modules: Iterable[str], layers: Sequence[str], package: str) -> list[str]:
    """The layers of these modules that the table doesn't list."""
    return sorted({name for module in modules if (name := layer(module, package)) and name not in layers})


def upward(imports: Iterable[Import], layers: Sequence[str], package: str) -> list[Import]:
    """The imports of a layer that the table, foundation first, lists after the importer's; the same layer is fine."""
    rank = {name: index for index, name in enumerate(layers)}
    found = []
    for one in imports:
        above, below = layer(one.importer, package), layer(one.target, package)
        if below is not None and rank[below] > rank[above]:
            found.append(one)
    return found


def excused(one: Import, allowed: Mapping[tuple[str, str], str]) -> bool:
    """Whether a table excuses an import; one that happens when the module is loaded has no excuse."""
    return one.when is not When.LOADED and (one.importer, one.target) in allowed


def cycle(imports: Iterable[Import]) -> list[str]:
    """A ring of modules that import each other when they are loaded, or nothing."""
    graph: dict[str, set[str]] = {}
    for one in imports:
        if one.when is When.LOADED:
            graph.setdefault(one.importer, set()).add(one.target)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []
