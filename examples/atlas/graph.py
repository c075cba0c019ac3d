"""The import graph: who loads whom, in what order, in which layers, and where it runs in circles."""

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import networkx as nx

from atlas.discover import Module, discover
from atlas.report import Report, Timing
from atlas.scan import Import, resolve, scan_imports

SAME = {
    "os.path": os.path.__name__,
    "_frozen_importlib": "importlib._bootstrap",
    "_frozen_importlib_external": "importlib._bootstrap_external",
}
"""Names under which a module is imported that isn't called so."""

Edges = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Survey:
    """What is known before the run: the modules, what each loads when imported, and what isn't on this machine.

    ``edges`` and ``absent`` map each module to names, sorted; ``timing`` is the time that finding out took.
    """

    modules: Mapping[str, Module]
    edges: Edges
    absent: Edges
    timing: Timing

    @cached_property
    def graph(self) -> nx.DiGraph:
        """An edge from every module to each that it imports."""
        return as_graph(self.edges)

    @cached_property
    def components(self) -> list[list[str]]:
        """The modules as groups that import each other in a circle (nearly all groups have one member), imported first.

        This is the condensation's topological order; among equals the names decide, so that it is always the same.
        """
        condensed = nx.condensation(self.graph)
        members = {group: sorted(names) for group, names in condensed.nodes(data="members")}
        order = nx.lexicographical_topological_sort(condensed.reverse(copy=False), key=lambda group: members[group][0])
        return [members[group] for group in order]

    @cached_property
    def waits_for(self) -> Edges:
        """For each module the ones to be described before it: all that its group imports from outside the group.

        A circle has no first module, so its members don't wait for each other: they share what they wait for.
        """
        return {
            name: tuple(sorted({target for member in group for target in self.edges[member]} - set(group)))
            for group in self.components
            for name in group
        }

    @cached_property
    def bits(self) -> dict[str, int]:
        """For each module the bits of its group, as `Report.reach` holds them: bit n is the n-th module by name."""
        bit = {name: 1 << n for n, name in enumerate(self.modules)}
        return {name: sum(bit[member] for member in group) for group in self.components for name in group}

    def reached(self, bits: int) -> list[str]:
        """The modules that these bits stand for."""
        return [name for n, name in enumerate(self.modules) if bits >> n & 1]


def survey(extra: tuple[str, ...] = (), only: tuple[str, ...] = ()) -> Survey:
    """Find the modules (see `atlas.discover.discover`) and read their imports."""
    started = time.time()
    modules = discover(extra, only)
    edges: Edges = {}
    absent: Edges = {}
    for name, module in modules.items():
        found: set[Import] = set()
        if module.kind == "python" and module.path:
            with open(module.path, "rb") as file:
                found = scan_imports(file.read())
        edges[name], absent[name] = targets(found, name, modules)
    return Survey(modules, edges, absent, Timing("scan", started, time.time(), "main thread"))


def targets(
    found: Iterable[Import], name: str, modules: Mapping[str, Module]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What these statements in ``name`` load: (the modules that are here, the names of those that aren't)."""
    loaded = {SAME.get(t, t) for t in resolve(found, name, is_package=modules[name].is_package, known=modules)}
    loaded -= {name, "__main__"}
    return tuple(sorted(loaded & modules.keys())), tuple(sorted(loaded - modules.keys()))


def as_graph(edges: Edges) -> nx.DiGraph:
    """The same as a networkx graph."""
    graph = nx.DiGraph()
    graph.add_nodes_from(edges)
    graph.add_edges_from((name, target) for name, names in edges.items() for target in names)
    return graph


@dataclass(frozen=True)
class Layers:
    """``layer`` is 0 for what imports nothing and else one more than the highest layer imported (a circle counts once).

    ``cycles`` are the groups that import each other in a circle, each as a ring of names in which every name imports
    the next (and the last the first) beside the group's members. ``knot`` is the largest such group there would be if
    imports inside functions counted too.
    """

    layer: dict[str, int]
    cycles: list[tuple[list[str], list[str]]]
    knot: list[str]


def layers(found: Survey, reports: Mapping[str, Report]) -> Layers:
    """Put every module in its layer and name the circles."""
    layer: dict[str, int] = {}
    for group in found.components:
        above = max((layer[target] + 1 for name in group for target in found.waits_for[name]), default=0)
        layer.update(dict.fromkeys(group, above))
    rings = [
        ([name for name, _ in nx.find_cycle(found.graph.subgraph(group), source=group[0])], group)
        for group in sorted(found.components, key=lambda group: (-len(group), group))
        if len(group) > 1
    ]
    everything = {name: (*found.edges[name], *lazy_targets(found, reports.get(name))) for name in found.modules}
    knot: set[str] = max(nx.strongly_connected_components(as_graph(everything)), key=len, default=set())
    return Layers(layer, rings, sorted(knot))


def lazy_targets(found: Survey, report: Report | None) -> tuple[str, ...]:
    """What a module imports only when one of its functions is called."""
    if report is None:
        return ()
    here, _ = targets(report.lazy_imports, report.module, found.modules)
    return tuple(sorted(set(here) - set(found.edges[report.module])))


def disagreements(found: Survey, reports: Mapping[str, Report]) -> list[str]:
    """The modules whose imports the scan before the run read otherwise than the parser in it: there should be none."""
    parsed = {name: targets(r.imports, name, found.modules) for name, r in reports.items() if r.kind == "python"}
    return [name for name, both in parsed.items() if both != (found.edges[name], found.absent[name])]


def critical_path(waits_for: Mapping[str, Iterable[str]], seconds: Mapping[str, float]) -> list[str]:
    """The chain of tasks, first to last, that takes longest one after another: no number of workers can beat it."""
    graph = nx.DiGraph()
    graph.add_nodes_from(seconds)
    for name, before in waits_for.items():
        graph.add_weighted_edges_from((b, name, seconds[b]) for b in before if b in seconds and name in seconds)
    for last, took in seconds.items():
        graph.add_edge(last, "", weight=took)
    return [name for name in nx.dag_longest_path(graph) if name]


def imported_by(edges: Edges) -> Edges:
    """The graph the other way round."""
    back: dict[str, list[str]] = {name: [] for name in edges}
    for name, names in edges.items():
        for target in names:
            back[target].append(name)
    return {name: tuple(names) for name, names in back.items()}
