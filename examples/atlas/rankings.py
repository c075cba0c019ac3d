"""Who is leaned on, who is heavy, who is undocumented: plain counts over all reports."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from atlas.graph import Survey, imported_by
from atlas.report import Report


@dataclass(frozen=True)
class Rank:
    """One module's place among the others.

    ``importers`` import it themselves, ``loaders`` load it in whatever way; ``loads`` is how many modules come with it
    when it is imported and ``weight`` how many lines of Python those have, its own included.
    """

    importers: int
    loaders: int
    loads: int
    weight: int


def ranks(found: Survey, reports: Mapping[str, Report]) -> dict[str, Rank]:
    """Every module's Rank, from the ``reach`` that the tasks handed on."""
    loaded = {name: loads(name, reports) for name in found.modules}
    loaders = [0] * len(found.modules)
    weight: dict[str, int] = {}
    count: dict[str, int] = {}
    lines = [reports[name].lines if name in reports else 0 for name in found.modules]
    for number, (name, bits) in enumerate(loaded.items()):
        numbers = [n for n in range(bits.bit_length()) if bits >> n & 1]
        count[name] = len(numbers) - (bits >> number & 1)
        weight[name] = sum(lines[n] for n in numbers)
        for n in numbers:
            loaders[n] += n != number
    importers = imported_by(found.edges)
    return {name: Rank(len(importers[name]), loaders[n], count[name], weight[name]) for n, name in enumerate(loaded)}


def loads(name: str, reports: Mapping[str, Report]) -> int:
    """The bits of all that ``import name`` loads: what it reaches, and what the packages that it lies in reach."""
    parts = name.split(".")
    outer = (".".join(parts[:n]) for n in range(1, len(parts) + 1))
    bits = 0
    for package in outer:
        bits |= reports[package].reach if package in reports else 0
    return bits


def most_depended_on(places: Mapping[str, Rank], top: int = 24) -> list[dict[str, Any]]:
    """The modules that most others import."""
    ranked = sorted(places.items(), key=lambda item: (-item[1].importers, -item[1].loaders, item[0]))
    return [{"module": name, **asdict(place)} for name, place in ranked[:top] if place.importers]


def heaviest(places: Mapping[str, Rank], top: int = 24) -> list[dict[str, Any]]:
    """The modules whose import pulls in most lines; of a package only the heaviest part, or one would fill the list."""
    ranked = sorted(places.items(), key=lambda item: (-item[1].weight, item[0]))
    first: dict[str, str] = {}
    for name, _ in ranked:
        first.setdefault(name.partition(".")[0], name)
    return [{"module": name, **asdict(places[name])} for name in list(first.values())[:top] if places[name].weight]


def undocumented(reports: Mapping[str, Report], top: int = 24) -> dict[str, Any]:
    """How many public functions, classes and methods lack a docstring, altogether and where most."""
    python = [report for report in reports.values() if report.kind == "python"]
    ranked = sorted(python, key=lambda report: (-len(report.undocumented), report.module))
    return {
        "public": sum(report.documentable for report in python),
        "undocumented": sum(len(report.undocumented) for report in python),
        "modules": [
            {"module": r.module, "public": r.documentable, "undocumented": len(r.undocumented)}
            for r in ranked[:top]
            if r.undocumented
        ],
    }


def hardest(reports: Mapping[str, Report], top: int = 24) -> list[dict[str, Any]]:
    """The functions with most branches."""
    ranked = sorted(reports.values(), key=lambda report: (-report.hardest[1], report.module))
    first = (report for report in ranked[:top] if report.hardest[1] > 1)
    return [{"module": r.module, "function": r.hardest[0], "complexity": r.hardest[1]} for r in first]
