"""All that can be looked up: modules and public names, under the name a reader would import them by."""

import math
import os
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from atlas.discover import Module
from atlas.report import Report
from atlas.scan import package_of, source
from atlas.words import tokens

APPLICATIONS = ("idlelib", "turtledemo", "lib2to3", "distutils", "ensurepip", "pydoc_data")
"""Packages that are programs, or on their way out, rather than a library to look for things in."""


class Entry(NamedTuple):
    """One thing to look up; ``title`` is the shortest public path to it (``json.dumps``, ``os.rename``).

    ``summary`` and ``body`` are the docstring's words, as `atlas.report.Words` holds them.
    """

    title: str
    kind: str
    module: str
    name: str
    signature: str
    doc: str
    summary: tuple[str, ...]
    body: tuple[str, ...]


def catalogue(reports: Mapping[str, Report], modules: Mapping[str, Module]) -> list[Entry]:
    """Every module, then every public name, in the reports' order.

    A module is also about the names that it only hands on, so their words are added to its own.
    """
    shown_as = public_paths(reports, modules)
    names: list[Entry] = []
    handed_on: dict[str, list[str]] = defaultdict(list)
    for report in reports.values():
        for name, words in zip(report.names, report.words[1:], strict=True):
            head, dot, rest = name.name.partition(".")
            path = shown_as.get((report.module, head), f"{report.module}.{head}")
            about = (name.name, name.signature, name.doc, *words)
            names.append(Entry(path + dot + rest, name.kind, report.module, *about))
            shown_in = path.rpartition(".")[0]
            if shown_in != report.module and name.kind != "constant":
                handed_on[shown_in] += (*tokens(name.name), *words.summary)
    own = {report.module: report.words[0] for report in reports.values()}
    whole = {module: words._replace(body=(*words.body, *handed_on[module])) for module, words in own.items()}
    return [*(Entry(r.module, "module", r.module, "", "", r.doc, *whole[r.module]) for r in reports.values()), *names]


def public_paths(reports: Mapping[str, Report], modules: Mapping[str, Module]) -> dict[tuple[str, str], str]:
    """(module, name) -> the better path that another module offers it under.

    ``asyncio/__init__.py`` says ``from .runners import *``, so runners.run is better known as asyncio.run. Only what a
    package takes from its own modules, or any module from an inner one, counts, over any number of steps; and
    ``os.path`` is how everybody knows posixpath or ntpath.
    """
    offers = {name: offered(name, reports, modules, {}) for name in reports}
    best: dict[tuple[str, str], str] = {}
    for module, names in offers.items():
        if not is_inner(module):
            for name, origin in names.items():
                path = f"{module}.{name}"
                if origin[0] != module and (origin not in best or shortness(path) < shortness(best[origin])):
                    best[origin] = path
    for name in offers.get(os.path.__name__, ()):
        best.setdefault((os.path.__name__, name), f"os.path.{name}")
    return best


def shortness(path: str) -> tuple[int, str]:
    """Sorts paths: few dots first."""
    return path.count("."), path


Origins = dict[str, tuple[str, str]]
"""Name -> the module that it is from, and its name there."""


def offered(
    module: str, reports: Mapping[str, Report], modules: Mapping[str, Module], known: dict[str, Origins]
) -> Origins:
    """The names that a module offers: its own, and those it hands on -> (the module, the name there)."""
    if module in known:
        return known[module]
    report = reports[module]
    known[module] = names = {name.name: (module, name.name) for name in report.names if "." not in name.name}
    package = package_of(module, is_package=modules[module].is_package)
    for statement, name in report.reexports:
        giver = source(statement, package)
        if giver in reports and (giver.startswith(module + ".") or is_inner(giver)):
            theirs, given = offered(giver, reports, modules, known), statement.names[0]
            if name == "*":
                names |= theirs | names
            elif given in theirs:
                names.setdefault(name, theirs[given])
    return names


def is_private(module: str) -> bool:
    """Whether some part of the dotted name begins with an underscore."""
    return any(part.startswith("_") for part in module.split("."))


def is_inner(module: str) -> bool:
    """Whether a module is the inner side of another one, not to be imported by its own name."""
    return is_private(module) or module in ("posix", "nt")


def prominence(entry: Entry, importers: int) -> float:
    """How likely a reader is to look for this rather than for another that fits the words as well, from 0.3 to 1.3.

    Modules that many others import come first, inner modules and programs last.
    """
    value = 1.0 + math.sqrt(min(importers, 100)) / 40
    path = entry.title if entry.kind != "module" else entry.module
    if is_private(path):
        value *= 0.5
    if entry.title.partition(".")[0] in APPLICATIONS:
        value *= 0.45
    depth = path.count(".") - (entry.kind != "module")
    return value * 0.93 ** max(depth, 0) * (0.8 if entry.kind in ("method", "constant") else 1.0)
