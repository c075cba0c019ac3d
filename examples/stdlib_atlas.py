"""An atlas of the Python standard library, drawn by the workflow that reads it.

Some eight hundred modules, twelve megabytes of source that nobody here wrote. Each module is one task in a worker
process, and waits for the modules that it imports: their tasks hand on which modules are loaded with them, so that each
task knows the whole of what its own import would pull in. Modules that import each other in a circle have no first one;
the graph's condensation makes each circle a group whose members wait for what lies outside it. A file that doesn't
parse is a failed task, which stops nothing: the tasks after it take a default for what it would have handed on.

Five tasks in threads then rank, lay out and index what was found, and the last one writes ``atlas.html`` (open it: it
needs nothing else) and ``atlas.json`` into the current folder. On the page is the timeline of this very run, for every
task reports when and where it ran.

    python examples/stdlib_atlas.py                       # or: nerv run examples/stdlib_atlas.py
    python examples/stdlib_atlas.py --out site --extra-path src
    python examples/stdlib_atlas.py --journal atlas.db    # killed half-way? the same again does what is left
"""

import argparse
import functools
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from atlas import graph, layout, page, rankings, search
from atlas.analyse import analyse, complaint
from atlas.catalogue import Entry, catalogue, prominence
from atlas.native import introspect
from atlas.report import Report, Timing

from nerv import Output, Param, TaskDef, Workflow, run

Reports = Mapping[str, Report]


class Part(NamedTuple):
    """What a task in a thread found, and when it did."""

    value: Any
    timing: Timing


def timed(fn: Callable[..., Any]) -> Callable[..., Part]:
    """Let a task report when it ran; those in worker processes do so in their Report."""

    @functools.wraps(fn)
    def wrapper(*args: Any) -> Part:
        started = time.time()
        value = fn(*args)
        return Part(value, Timing(f"atlas:{fn.__name__}", started, time.time(), threading.current_thread().name))

    return wrapper


# ---- the tasks after the modules' own ------------------------------------------------------------------------------


@timed
def gather(found: graph.Survey, reports: list[Report | None]) -> Reports:
    """All reports by name; a module whose task failed has none."""
    return {name: report for name, report in zip(found.modules, reports, strict=True) if report is not None}


@timed
def layers(found: graph.Survey, reports: Part) -> page.Picture:
    """Which module stands on which, in circles where they do, and where to draw them."""
    levels = graph.layers(found, reports.value)
    lines = {name: report.lines for name, report in reports.value.items()}
    places, rows = layout.lay_out(levels.layer, found.edges, lines)
    return page.Picture(levels, places, rows)


@timed
def ranking(found: graph.Survey, reports: Part) -> dict[str, rankings.Rank]:
    """Who is depended on, and what each import costs."""
    return rankings.ranks(found, reports.value)


@timed
def index(found: graph.Survey, reports: Part) -> tuple[list[Entry], search.Index]:
    """All that can be looked up, and the search index over it."""
    entries = catalogue(reports.value, found.modules)
    importers = graph.imported_by(found.edges)
    return entries, search.build(entries, lambda entry: prominence(entry, len(importers[entry.module])))


@timed
def undocumented(reports: Part) -> dict[str, Any]:
    """Public names without a docstring, and the functions that one may need most for."""
    return {"undocumented": rankings.undocumented(reports.value), "hardest": rankings.hardest(reports.value)}


@timed
def audit(found: graph.Survey, reports: Part) -> list[str]:
    """Where the quick scan that made the graph and the parser read a file's imports differently."""
    return graph.disagreements(found, reports.value)


def write(found: graph.Survey, folder: str, parts: dict[str, Part]) -> dict[str, Any]:
    """Write the page; the result is what a reader in a terminal may want to know."""
    reports: Reports = parts["gather"].value
    picture: page.Picture = parts["layers"].value
    ranks = parts["ranking"].value
    entries, built = parts["index"].value
    failed = {name: complaint(found.modules[name].path) for name in found.modules if name not in reports}
    timings = [*(report.timing for report in reports.values()), *(part.timing for part in parts.values())]
    data = {
        "modules": page.module_data(found, reports, picture, ranks, failed),
        "map": {"width": layout.WIDTH, "height": picture.height, "rows": picture.rows},
        "cycles": [{"ring": ring, "group": group} for ring, group in picture.layers.cycles],
        "knot": picture.layers.knot,
        "depended": rankings.most_depended_on(ranks),
        "heaviest": rankings.heaviest(ranks),
        **parts["undocumented"].value,
        "run": {**page.run_data(found, timings, waits_for(found)), "disagreements": parts["audit"].value},
        "index": built,
        **page.entry_data(entries),
    }
    written = page.write(Path(folder), data)
    return {"page": str(written), "failed": failed, "wall": data["run"]["wall"], "work": data["run"]["work"]}


# ---- the graph -----------------------------------------------------------------------------------------------------

AFTER = {
    "gather": (),
    "layers": ("gather",),
    "ranking": ("gather",),
    "index": ("gather",),
    "undocumented": ("gather",),
    "audit": ("gather",),
}
"""What each of the tasks in threads waits for; all but the first for the reports, and ``write`` for all of them."""


def waits_for(found: graph.Survey) -> dict[str, tuple[str, ...]]:
    """All tasks that are on the page's timeline, with what each waits for."""
    parts = {f"atlas:{name}": tuple(f"atlas:{before}" for before in after) for name, after in AFTER.items()}
    return {**found.waits_for, **parts, "atlas:gather": tuple(found.modules)}


def module_task(found: graph.Survey, name: str) -> TaskDef:
    """The task that describes one module, after those that it imports.

    It runs when they have finished, however they ended: where one failed, nothing is handed on from it.
    """
    module = found.modules[name]
    if module.kind != "python" or module.path is None:
        return TaskDef(name, introspect, args=(name, module.kind, found.bits[name]), pool="process")
    handed_on = [Output(before, default=0).attribute("reach") for before in found.waits_for[name]]
    args = (name, module.path, found.bits[name], *handed_on)
    return TaskDef(name, analyse, args=args, pool="process", run_when="all_finished")


def build(extra: tuple[str, ...] = (), only: tuple[str, ...] = ()) -> Workflow:
    """Survey the library (`atlas.discover.discover` explains ``extra`` and ``only``) and make the workflow."""
    found = graph.survey(extra, only)
    everything: list[Output[Any]] = [Output(name, default=None) for name in found.modules]
    reports: Output[Part] = Output("atlas:gather")
    parts: dict[str, Output[Part]] = {name: Output(f"atlas:{name}") for name in AFTER}
    return Workflow(
        "stdlib-atlas",
        [
            *(module_task(found, name) for group in found.components for name in group),
            TaskDef("atlas:gather", gather, args=(found, everything), run_when="all_finished"),
            TaskDef("atlas:layers", layers, args=(found, reports)),
            TaskDef("atlas:ranking", ranking, args=(found, reports)),
            TaskDef("atlas:index", index, args=(found, reports), priority=2),
            TaskDef("atlas:undocumented", undocumented, args=(reports,)),
            TaskDef("atlas:audit", audit, args=(found, reports)),
            TaskDef("atlas:write", write, args=(found, Param("out", default="."), parts)),
        ],
        description="Reads the Python standard library, one task a module, and draws an atlas of it.",
        result=Output("atlas:write"),
    )


def main() -> None:
    """Make the atlas and say where it is."""
    parser = argparse.ArgumentParser(description="Draw an atlas of the Python standard library.")
    parser.add_argument("--out", default=".", help="the folder that atlas.html and atlas.json are written to")
    parser.add_argument("--extra-path", action="append", default=[], metavar="FOLDER", help="read its modules too")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="only this module or package")
    parser.add_argument("--journal", metavar="FILE", help="survive a kill: started again, it does what is left")
    parser.add_argument("--execution-id", default="atlas", metavar="ID", help="which execution of the journal it is")
    given = parser.parse_args()
    workflow = build(tuple(given.extra_path), tuple(given.only))
    kept = {"journal": given.journal, "execution_id": given.execution_id} if given.journal else {}
    execution = run(workflow, {"out": given.out}, failure_policy="continue", raise_on_failure=False, **kept)
    if execution.status.name != "COMPLETED" and "atlas:write" not in execution.results:
        sys.exit(execution.summary())
    done = execution["atlas:write"]
    for name, why in done["failed"].items():
        print(f"not read: {name}: {why}")
    print(f"{len(workflow.tasks)} tasks, {done['work']:.1f} s of work in {done['wall']:.1f} s: {done['page']}")


if __name__ == "__main__":
    main()
