"""Reads the imports of a source file without parsing it, some five times as fast as ``ast.parse``.

The graph has to be known before the first task can run, so twelve megabytes are read here, in one thread, before the
run starts; the tasks then parse the same files properly. Three passes, each one C-speed regular expression: strings
and comments are blanked (what is left holds no false imports), import statements are found, and for the few indented
ones the lines above are walked to see in what kind of block they stand.

`scan_imports` gives exactly what `atlas.analyse.imports_at_import_time` gives from the parsed file; a test holds both
against each other over the whole standard library. Imports inside functions, under ``if TYPE_CHECKING:`` and under
``if __name__ == "__main__":`` don't run when the module is imported and are no part of either answer. Branches that
this platform doesn't take (``if sys.platform == "win32": import _winapi``) are: both read text and run nothing.
"""

import re
from collections.abc import Collection, Iterable
from typing import NamedTuple


class Import(NamedTuple):
    """One statement's target: ``import a.b`` is (0, "a.b", ()), ``from ..a import b, c`` is (2, "a", ("b", "c"))."""

    level: int
    module: str
    names: tuple[str, ...] = ()


STRING_OR_COMMENT = re.compile(
    r'''
    \#[^\n]*
    | """ [^"\\]* (?: (?: \\. | "(?!"") ) [^"\\]* )* """
    | \'\'\' [^'\\]* (?: (?: \\. | '(?!'') ) [^'\\]* )* \'\'\'
    | " [^"\\\n]* (?: \\. [^"\\\n]* )* "
    | ' [^'\\\n]* (?: \\. [^'\\\n]* )* '
    ''',
    re.VERBOSE | re.DOTALL,
)
IMPORT = re.compile(
    r"""
    (?P<before> ^ | [;:] ) (?P<indent>[ \t\f]*)
    (?:  import [ ] (?P<modules>[^\n;]+)
       | from [ ]* (?P<dots>[. ]*) (?P<module>[\w.]*) [ ]* \b import \b [ ]*
         (?: \( (?P<block>[^)]*) \) | (?P<names>[^\n;]+) ) )
    """,
    re.VERBOSE | re.MULTILINE,
)
HEADER = re.compile(
    r"[ \t\f]*(?:async[ ]+)?(?P<word>def|class|if|elif|else|try|except|finally|for|while|with|match|case)\b"
)
NEVER_AT_IMPORT = re.compile(r"if[ ]*\(?[ ]*(?:(?:\w+\.)?TYPE_CHECKING|__name__[ ]*==|==[ ]*__name__)[ ]*\)?[ ]*:")


def scan_imports(source: bytes) -> set[Import]:
    """What ``import`` and ``from`` statements of this file run when the module is imported."""
    text = source.decode("latin-1")  # keywords and module names are ASCII, and this can't fail
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = STRING_OR_COMMENT.sub("", text).replace("\\\n", " ").replace("\t", "        ")
    found: set[Import] = set()
    for match in IMPORT.finditer(text):
        if (match["indent"] or match["before"]) and not runs_at_import(text, match):
            continue
        if match["modules"]:
            found.update(Import(0, name) for name in split_names(match["modules"]))
        else:
            names = tuple(split_names(match["block"] or match["names"]))
            found.add(Import(match["dots"].count("."), match["module"], names))
    return found


def split_names(text: str) -> Iterable[str]:
    """``"a.b as c, d"`` -> a.b, d."""
    return (words[0] for part in text.split(",") if (words := part.split()))


def runs_at_import(text: str, match: re.Match[str]) -> bool:
    """Whether the statement stands in blocks that run with the module: walk up through the headers it is under.

    A line that is indented less is taken for an enclosing block only when it begins with a block's keyword: the rest of
    a bracketed expression may be indented anyhow.
    """
    start = text.rfind("\n", 0, match.start()) + 1
    line = text[start : match.end()].lstrip("\f")
    if match["before"] and (own := HEADER.match(line)) and is_never_at_import(own, line):
        return False
    indent = len(line) - len(line.lstrip())
    end = start - 1
    while indent and end > 0:
        start = text.rfind("\n", 0, end) + 1
        line = text[start:end].lstrip("\f")
        end = start - 1
        if (header := HEADER.match(line)) and (own_indent := len(line) - len(line.lstrip())) < indent:
            if is_never_at_import(header, line):
                return False
            indent = own_indent
    return True


def is_never_at_import(header: re.Match[str], line: str) -> bool:
    """Whether what stands under this header doesn't run when the module is imported."""
    return header["word"] == "def" or NEVER_AT_IMPORT.match(line.lstrip()) is not None


def package_of(module: str, *, is_package: bool) -> list[str]:
    """The parts of the package's name that a module's relative imports start from."""
    return module.split(".") if is_package else module.split(".")[:-1]


def source(statement: Import, package: list[str]) -> str:
    """The full name of the module that a statement in this package names."""
    base = package[: len(package) - statement.level + 1] if statement.level else []
    return ".".join([*base, statement.module] if statement.module else base)


def resolve(found: Iterable[Import], importer: str, *, is_package: bool, known: Collection[str]) -> set[str]:
    """The names of the modules that these statements load, as an edge in the graph each.

    ``from a import b`` loads a.b when that is a known module, and takes a name from a otherwise. Importing a.b.c loads
    a and a.b first, so they are edges too, except when ``importer`` itself lies in them: then they are being loaded
    already, and the edge would turn every package into one big cycle. What isn't ``known`` (modules of other platforms)
    is left as its full name for the caller to name.
    """
    package = package_of(importer, is_package=is_package)
    above = {".".join(package[: n + 1]) for n in range(len(package))}
    targets: set[str] = set()
    for statement in found:
        stem, names = source(statement, package), statement.names
        inside = {full for name in names if (full := f"{stem}.{name}") in known}
        if not names or len(inside) < len(names) or stem not in above:
            targets.add(stem)
        targets |= inside
    for target in list(targets):
        parts = target.split(".")
        targets.update(up for n in range(1, len(parts)) if (up := ".".join(parts[:n])) not in above and up in known)
    return targets - {importer, ""}
