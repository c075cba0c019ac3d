"""Puts all that was found into one JSON value, and that into one HTML page that needs nothing else."""

import json
import platform
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from atlas.catalogue import Entry
from atlas.graph import Layers, Survey, critical_path, lazy_targets
from atlas.layout import Place
from atlas.rankings import Rank
from atlas.report import Report, Timing

WEB = Path(__file__).parent / "web"
SCRIPTS = ("core.js", "search.js", "map.js", "run.js", "card.js", "page.js")


@dataclass(frozen=True)
class Picture:
    """The layers and where they put each module; ``rows`` holds each layer's height in the picture, from layer 0."""

    layers: Layers
    places: Mapping[str, Place]
    rows: list[float]

    @property
    def height(self) -> float:
        """Of the whole picture, in the same units as its width."""
        return max((place.y + place.radius for place in self.places.values()), default=0.0)


def module_data(
    found: Survey,
    reports: Mapping[str, Report],
    picture: Picture,
    ranks: Mapping[str, Rank],
    failed: Mapping[str, str],
) -> list[dict[str, Any]]:
    """One entry a module, in the survey's order; modules are named by their number in it."""
    number = {name: n for n, name in enumerate(found.modules)}
    data = []
    for name, module in found.modules.items():
        report = reports.get(name) or Report(name, module.kind, "", 0)
        data.append(
            {
                "name": name,
                "kind": module.kind,
                "failed": failed.get(name, ""),
                "note": report.note,
                "doc": report.doc,
                "layer": picture.layers.layer[name],
                "place": list(picture.places[name]),
                "lines": report.lines,
                "code_lines": report.code_lines,
                "functions": report.functions,
                "classes": report.classes,
                "complexity": report.complexity,
                "documentable": report.documentable,
                "undocumented": report.undocumented if module.kind == "python" else [],
                "imports": [number[target] for target in found.edges[name]],
                "lazy": [number[target] for target in lazy_targets(found, reports.get(name))],
                "absent": found.absent[name],
                **asdict(ranks[name]),
            }
        )
    return data


def run_data(found: Survey, timings: Iterable[Timing], waits_for: Mapping[str, Iterable[str]]) -> dict[str, Any]:
    """The timeline, in seconds from the start of the scan: lanes of bars, the critical path, and what it all took."""
    timings = sorted(timings, key=lambda timing: timing.started)
    start = found.timing.started
    lanes: dict[str, list[tuple[str, float, float]]] = {}
    for timing in (found.timing, *timings):
        bar = (timing.task, round(timing.started - start, 5), round(timing.ended - timing.started, 5))
        lanes.setdefault(timing.worker, []).append(bar)
    order = sorted(lanes, key=lambda worker: (not worker.startswith("main"), not worker.startswith("process")))
    took = {timing.task: timing.ended - timing.started for timing in timings}
    path = critical_path(waits_for, took)
    return {
        "python": platform.python_version(),
        "platform": sys.platform,
        "made": time.strftime("%d %B %Y, %H:%M"),
        "tasks": len(waits_for) + 1,
        "processes": sum(worker.startswith("process") for worker in lanes),
        "scan": found.timing.ended - start,
        "wall": max(timing.ended for timing in (found.timing, *timings)) - start,
        "work": sum(took.values()) + found.timing.ended - start,
        "critical": path,
        "critical_seconds": sum(took[task] for task in path),
        "lanes": [{"name": name, "bars": lanes[worker]} for worker, name in zip(order, lane_names(order), strict=True)],
    }


def lane_names(workers: Iterable[str]) -> list[str]:
    """``process 4711`` -> ``process 1``: what is worth knowing is which one it is, not its number in the machine."""
    seen: Counter[str] = Counter()
    names = []
    for worker in workers:
        kind = worker.split()[0] if worker.startswith(("main", "process")) else "thread"
        seen[kind] += 1
        names.append(worker if kind == "main" else f"{kind} {seen[kind]}")
    return names


def entry_data(entries: Iterable[Entry]) -> dict[str, list[str]]:
    """Signatures and docstrings of all entries, in the index's order; those of modules are told elsewhere."""
    signatures, docs = [], []
    for entry in entries:
        signatures.append(entry.signature)
        docs.append("" if entry.kind == "module" else entry.doc)
    return {"signatures": signatures, "docs": docs}


def render(data: Mapping[str, Any]) -> str:
    """The page: template, style, script and data in one file."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")  # ends no element
    script = "\n".join((WEB / name).read_text(encoding="utf-8") for name in SCRIPTS)
    page = (WEB / "template.html").read_text(encoding="utf-8")
    style = (WEB / "atlas.css").read_text(encoding="utf-8")
    head, before_data, before_script, tail = re.split(r"/\*\{\w+\}\*/", page)
    return f"{head}{style}{before_data}{text}{before_script}{script}{tail}"


def write(folder: Path, data: Mapping[str, Any]) -> Path:
    """Write ``atlas.html`` and ``atlas.json`` into ``folder``, made if need be; gives the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "atlas.json").write_text(json.dumps(data, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
    page = folder / "atlas.html"
    page.write_text(render(data), encoding="utf-8")
    return page
