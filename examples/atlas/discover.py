"""Which modules there are: the standard library of the Python that runs this, and folders of one's own."""

import importlib.machinery
import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

Kind = Literal["python", "builtin", "extension"]

LEFT_OUT = {
    "site-packages": "installed by somebody, not part of the standard library",
    "dist-packages": "the same, as Debian spells it",
    "__pycache__": "compiled copies of what is read anyway",
    "test": "test suites (also of ctypes, tkinter, unittest): half of all lines, and not there to be imported",
    "tests": "test suites of distutils and lib2to3; the latter hold files that are wrong on purpose",
    "idle_test": "IDLE's test suite",
    "__phello__": "exists only so that frozen modules can be tested",
}
"""Folder names that are left out, and why. So are ``config-*`` folders, which hold the interpreter's makefile."""

NOT_FOR_IMPORT = ("_test", "_ctypes_test", "_xxtest", "xx")
"""How the names of C modules begin that exist for CPython's own tests."""


class Module(NamedTuple):
    """One module: its dotted name, its file (None when it is compiled into the interpreter) and what it is made of."""

    name: str
    path: str | None
    kind: Kind
    is_package: bool = False


def python_modules(folder: Path) -> Iterator[Module]:
    """Every ``.py`` file below ``folder`` as the module that it is when ``folder`` is on ``sys.path``."""
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in LEFT_OUT and not name.startswith("config-"))
        package = Path(here).relative_to(folder).parts
        for file in sorted(files):
            stem, _, suffix = file.rpartition(".")
            parts = package if stem == "__init__" else (*package, stem)
            if suffix == "py" and parts and all(part.isidentifier() for part in parts):
                yield Module(".".join(parts), f"{here}{os.sep}{file}", "python", stem == "__init__")


def native_modules() -> Iterator[Module]:
    """The modules without Python source: compiled into the interpreter, or C extensions beside the library."""
    for name in sys.builtin_module_names:
        if not name.startswith(NOT_FOR_IMPORT):
            yield Module(name, None, "builtin")
    folder = Path(sysconfig.get_path("stdlib")) / "lib-dynload"
    suffixes = tuple(importlib.machinery.EXTENSION_SUFFIXES)
    for path in sorted(folder.glob("*")):
        name = path.name.partition(".")[0]
        if path.name.endswith(suffixes) and not name.startswith(NOT_FOR_IMPORT):
            yield Module(name, str(path), "extension")


def discover(extra: tuple[str, ...] = (), only: tuple[str, ...] = ()) -> dict[str, Module]:
    """Find all modules: name -> Module, by name, so that every run sees the same order.

    ``extra`` names more folders, each read as if it were on ``sys.path``. ``only`` keeps of the standard library what
    has one of these names or lies in a package of that name; extra folders are always kept whole.
    """
    library = [*python_modules(Path(sysconfig.get_path("stdlib"))), *native_modules()]
    found = {m.name: m for m in library if not only or any(m.name == o or m.name.startswith(o + ".") for o in only)}
    for folder in extra:
        found.update((module.name, module) for module in python_modules(Path(folder)))
    return dict(sorted(found.items()))
