"""The atlas: its parts on sources of their own and on the real standard library, and one run of the whole workflow."""

import ast
import importlib
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import networkx as nx
import pytest

import nerv
from tests.examples.atlas_parts import (
    HARD,
    SOME,
    analyse,
    catalogue,
    describe,
    graph,
    layout,
    native,
    page,
    rankings,
    report,
    scan,
    search,
)


@pytest.fixture(scope="module")
def library():
    """The whole standard library, surveyed."""
    return graph.survey()


@pytest.fixture(scope="module")
def some():
    """A small part of it, surveyed and described one after another."""
    found = graph.survey(only=SOME)
    return found, describe(found)


def parsed_imports(source):
    return set(analyse.imports_at_import_time(ast.parse(source).body))


# ---- finding modules and their imports ------------------------------------------------------------------------------


def test_the_library_is_found_without_its_test_suites(library):
    names = library.modules
    assert {"json", "json.decoder", "os", "asyncio.base_events", "xml.dom.minidom"} <= names.keys()
    assert names["json"].is_package
    assert not names["json.decoder"].is_package
    assert names["sys"].kind == "builtin"
    assert not [name for name in names if {"test", "tests", "idle_test", "site-packages"} & set(name.split("."))]
    assert sum(module.kind == "python" for module in names.values()) > 400


def test_the_scan_reads_the_imports_that_the_parser_reads_in_the_whole_library(library):
    differ = {}
    for name, module in library.modules.items():
        if module.kind == "python":
            source = Path(module.path).read_bytes()
            if scan.scan_imports(source) != parsed_imports(source):
                differ[name] = scan.scan_imports(source) ^ parsed_imports(source)
    assert not differ


@pytest.mark.parametrize("source", HARD.values(), ids=HARD.keys())
def test_the_scan_reads_the_imports_that_the_parser_reads_in_hard_cases(source):
    if "\f" not in source:  # the tab after spaces is an error to the parser
        assert scan.scan_imports(source.encode()) == parsed_imports(source)
    else:
        assert scan.scan_imports(source.encode()) == {scan.Import(0, "a"), scan.Import(0, "b")}


KNOWN = {"a", "a.b", "a.b.c", "a.d", "x", "x.y"}
RESOLVED = [
    ("import x.y", "a", {"x", "x.y"}),
    ("from x import y, z", "a", {"x", "x.y"}),
    ("from x import z", "a", {"x"}),
    ("from . import d", "a.b", {"a.d"}),
    ("from . import d", "a", {"a.d"}),
    ("from . import something", "a.b", {"a"}),
    ("from .b.c import z", "a", {"a.b", "a.b.c"}),
    ("from ..d import z", "a.b.c", {"a.d"}),
    ("import a.d", "a.b.c", {"a.d"}),
    ("import a", "a.b.c", {"a"}),
    ("import winreg", "a", {"winreg"}),
    ("import a.b.c", "a.b.c", set()),
]


@pytest.mark.parametrize(("source", "importer", "loaded"), RESOLVED)
def test_an_import_loads_these_modules(source, importer, loaded):
    found = parsed_imports(source)
    assert scan.resolve(found, importer, is_package=importer == "a", known=KNOWN) == loaded


def test_no_module_waits_for_itself_and_a_circle_waits_for_what_lies_outside(library):
    waits = nx.DiGraph((before, name) for name, names in library.waits_for.items() for before in names)
    assert nx.is_directed_acyclic_graph(waits)
    circles = [set(group) for group in library.components if len(group) > 1]
    assert {"threading", "_threading_local"} in circles
    for group in circles:
        assert len({library.waits_for[name] for name in group}) == 1
        assert not group & {before for name in group for before in library.waits_for[name]}
    inside = {name: group for group in circles for name in group}
    for name, targets in library.edges.items():
        assert set(targets) - inside.get(name, set()) <= set(library.waits_for[name])


def test_what_python_really_loads_is_what_the_graph_says(library):
    """Each module is imported in a process of its own; what that loads, beyond what is always there, is on the map."""
    code = "import sys; before = set(sys.modules); import {}; print(*(sys.modules.keys() - before))"
    for name in ("json.decoder", "tempfile", "asyncio", "unittest.mock"):
        command = [sys.executable, "-I", "-c", code.format(name)]
        loaded = set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
        outer = [name.rpartition(".")[0]] if "." in name else []
        said = {name, *outer}.union(*(nx.descendants(library.graph, start) for start in (name, *outer)))
        assert loaded & library.modules.keys() <= said, name


# ---- describing one module ------------------------------------------------------------------------------------------

SOURCE = '''"""What it is for.

More about it."""
import os
from .inner import *
LIMIT = 3
_hidden = 4

def plain(a, b=1, *c, d: int = 2) -> str:
    """Does it."""
    import json
    return a if b and c or d else d

class Thing(Base):
    """A thing."""

    def __init__(self, size): ...
    def bare(self, x): ...
    @property
    def size(self):
        """How large."""
    @staticmethod
    def make(y):
        """Make one."""
        for i in y:
            while i: pass
    def _own(self): ...

class Told(Base):
    __doc__ = Thing.__doc__

def _helper(): ...
'''


@pytest.fixture
def described(tmp_path):
    path = tmp_path / "sample.py"
    path.write_text(SOURCE)
    return analyse.analyse("pack.sample", str(path), 0b100, 0b001, 0b1001)


def test_a_module_is_described_by_its_source(described):
    assert described.doc.startswith("What it is for.")
    assert described.lines == SOURCE.count("\n")
    assert described.code_lines == 20  # no blank line, no docstring
    assert (described.functions, described.classes) == (7, 2)
    assert described.hardest == ("plain", 4)
    assert described.complexity == 12
    assert described.reach == 0b1101
    assert {i.module for i in described.imports} == {"os", "inner"}
    assert {i.module for i in described.lazy_imports} == {"json"}


def test_public_names_have_signatures_and_the_undocumented_are_told(described):
    names = {name.name: name for name in described.names}
    assert [(n, names[n].kind, names[n].signature) for n in names] == [
        ("LIMIT", "constant", " = 3"),
        ("plain", "function", "(a, b=1, *c, d: int=2) -> str"),
        ("Thing", "class", "(size)"),
        ("Thing.bare", "method", "(x)"),
        ("Thing.size", "method", ""),
        ("Thing.make", "method", "(y)"),
        ("Told", "class", "(Base)"),
    ]
    assert described.undocumented == ["Thing.bare"]


@pytest.mark.parametrize(
    ("listed", "names"),
    [
        ("__all__ = ['one']", ["one"]),
        ("__all__ = ['one']\n__all__ += ['_two']", ["one", "_two"]),
        ("__all__ = []\n__all__.append('one')\n__all__.extend(['three'])", ["one", "three"]),
        ("__all__ = [n for n in globals() if n[0] != '_']", ["one", "three"]),
        ("", ["one", "three"]),
    ],
)
def test_what_all_lists_is_public(listed, names):
    source = f"{listed}\ndef one(): ...\ndef _two(): ...\nif x:\n    def three(): ...\nelse:\n    def three(): ...\n"
    assert [name.name for name in analyse.public_names(ast.parse(source))] == names


def test_a_file_that_is_no_python_says_where(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("x = 1\ndef f(:\n")
    with pytest.raises(SyntaxError):
        analyse.analyse("broken", str(path), 1)
    assert analyse.complaint(str(path)).startswith("line 2: ")


def test_a_module_without_source_is_described_by_looking_at_it():
    seen = native.introspect("math", "builtin", 2)
    names = {name.name: name for name in seen.names}
    assert names["sqrt"].signature == "(x, /)"
    assert "square root" in names["sqrt"].doc
    assert names["pi"].kind == "constant"
    assert native.introspect("no_such_module", "extension", 2).note == "doesn't load on this machine: no_such_module"


def test_a_name_is_shown_under_the_path_that_a_reader_would_import(some):
    found, reports = some
    titles = {entry.title: entry.module for entry in catalogue.catalogue(reports, found.modules)}
    assert titles["json.JSONDecoder.decode"] == "json.decoder"
    if os_path := reports.get("posixpath"):
        assert titles["os.path.join"] == os_path.module
        assert titles["os.rename"] == "posix"


# ---- rankings -------------------------------------------------------------------------------------------------------


def test_what_an_import_loads_is_all_that_the_graph_reaches(some):
    found, reports = some
    ranks = rankings.ranks(found, reports)
    for name, rank in ranks.items():
        outer = [".".join(name.split(".")[:n]) for n in range(1, name.count(".") + 1)]
        starts = [start for start in (name, *outer) if start in found.modules]
        reached = set(starts).union(*(nx.descendants(found.graph, start) for start in starts))
        assert rank.loads == len(reached - {name}), name
        assert rank.weight == sum(reports[one].lines for one in reached), name
        assert rank.importers == found.graph.in_degree(name)
    assert sum(rank.loaders for rank in ranks.values()) == sum(rank.loads for rank in ranks.values())


def test_a_module_is_above_all_that_it_imports_unless_they_are_in_a_circle(some):
    found, reports = some
    levels = graph.layers(found, reports)
    group = {name: number for number, names in enumerate(found.components) for name in names}
    for name, targets in found.edges.items():
        for target in targets:
            assert levels.layer[name] > levels.layer[target] or group[name] == group[target]
    for ring, members in levels.cycles:
        assert set(ring) <= set(members)
        assert all(found.graph.has_edge(a, b) for a, b in zip(ring, [*ring[1:], ring[0]], strict=True))


def test_the_picture_has_no_disc_over_another(library):
    layer = graph.layers(library, {}).layer
    lines = {name: 37 * number % 4000 for number, name in enumerate(library.modules)}
    places, rows = layout.lay_out(layer, library.edges, lines)
    assert places == layout.lay_out(layer, library.edges, lines)[0]
    assert sorted(rows, reverse=True) == rows, "layer 0 is at the bottom"
    in_row = {}
    for place in places.values():
        assert place.radius <= place.x + 0.2
        assert place.x <= layout.WIDTH - place.radius + 0.2
        in_row.setdefault(place.y, []).append(place)
    for row in in_row.values():
        row.sort()
        for left, right in itertools.pairwise(row):
            assert right.x - left.x >= left.radius + right.radius


def test_the_critical_path_is_the_chain_that_takes_longest():
    waits = {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c"), "e": (), "gone": ("e",)}
    took = {"a": 1.0, "b": 0.5, "c": 2.0, "d": 1.0, "e": 3.5}
    assert graph.critical_path(waits, took) == ["a", "c", "d"]
    assert graph.critical_path(waits, {}) == []


# ---- the page -------------------------------------------------------------------------------------------------------


def test_the_page_asks_nothing_of_any_server():
    shown = page.render({})
    asks = r"""\b(src|href)\s*=\s*["']?(https?:)?//|url\(|@import|fetch\(|XMLHttpRequest|import\s*\("""
    assert not re.search(asks, shown)
    assert not re.search(r"/\*\{\w+\}\*/", shown), "every part is filled in"


def test_no_docstring_can_end_the_data():
    data = {"doc": "</script><!-- <b>&amp; ]]> \u2028"}
    shown = page.render(data)
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', shown, re.DOTALL)[1]
    assert json.loads(text) == data


def test_the_timeline_has_a_lane_for_each_worker(some):
    found, _ = some
    start = found.timing.started
    timings = [
        report.Timing("b", start + 3, start + 4, "process 12"),
        report.Timing("a", start + 1, start + 3, "process 11"),
        report.Timing("c", start + 4, start + 5, "nerv-thread-1"),
    ]
    shown = page.run_data(found, timings, {"a": (), "b": ("a",), "c": (), "never ran": ()})
    assert [lane["name"] for lane in shown["lanes"]] == ["main thread", "process 1", "process 2", "thread 1"]
    assert shown["lanes"][1]["bars"] == [("a", 1.0, 2.0)]
    assert shown["critical"] == ["a", "b"]
    assert shown["wall"] == pytest.approx(5.0)
    assert shown["work"] == pytest.approx(4.0 + shown["scan"])


# ---- the whole ------------------------------------------------------------------------------------------------------


def test_the_workflow_draws_an_atlas_and_a_broken_file_stops_nothing(tmp_path):
    extra = tmp_path / "extra"
    extra.mkdir()
    (extra / "broken.py").write_text("def f(:\n")
    (extra / "needs_broken.py").write_text('"""Leans on what is broken."""\nimport broken, json\n')
    stdlib_atlas = importlib.import_module("stdlib_atlas")
    workflow = stdlib_atlas.build((str(extra),), ("json", "re", "enum", "types", "graphlib", "threading", "zlib"))
    execution = nerv.run(
        workflow, {"out": str(tmp_path / "out")}, processes=2, failure_policy="continue", raise_on_failure=False
    )

    assert set(execution.failures) == {"broken"}
    assert isinstance(execution.failures["broken"], SyntaxError)
    assert set(execution.results) == set(workflow.tasks) - {"broken"}
    assert execution.status.name == "FAILED"
    assert list(execution["atlas:write"]["failed"]) == ["broken"]

    data = json.loads((tmp_path / "out" / "atlas.json").read_text())
    modules = {module["name"]: module for module in data["modules"]}
    assert modules["broken"]["failed"].startswith("line 1: ")
    assert modules["needs_broken"]["doc"] == "Leans on what is broken."
    assert modules["needs_broken"]["loads"] > modules["json"]["loads"] > 3
    assert modules["zlib"]["kind"] in ("extension", "builtin")
    assert data["run"]["disagreements"] == []
    bars = {bar[0] for lane in data["run"]["lanes"] for bar in lane["bars"]}
    assert bars == set(workflow.tasks) - {"broken", "atlas:write"} | {"scan"}
    assert search.search(data["index"], "topological order of a graph")[0].module == "graphlib"
    assert "<title>Atlas of the Python standard library</title>" in (tmp_path / "out" / "atlas.html").read_text()
