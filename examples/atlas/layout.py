"""Where each module stands in the picture: layers are rows, and what belongs together stands close together."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

WIDTH = 1200.0
"""Width of the picture, in units that the page scales to its own width."""

GAP = 3.0
SWEEPS = 30


class Place(NamedTuple):
    """A disc's centre and radius."""

    x: float
    y: float
    radius: float


def radius(lines: int) -> float:
    """Area follows lines; what has none is a dot."""
    return 2.4 + math.sqrt(lines) * 0.19


def package(name: str) -> str:
    """The outermost package, which is what a reader knows a module by."""
    return name.partition(".")[0]


def lay_out(
    layer: Mapping[str, int], edges: Mapping[str, Sequence[str]], lines: Mapping[str, int]
) -> tuple[dict[str, Place], list[float]]:
    """Place all discs without overlap: (name -> Place, the rows' y from layer 0 up, which is at the bottom).

    The sideways order is the barycentre heuristic of layered drawing (Sugiyama et al., 1981): each module is drawn to
    its neighbours in turn, where an import of something that everybody imports pulls least, and to its own package.
    """
    size = {name: radius(lines.get(name, 0)) for name in layer}
    rows: dict[int, list[str]] = defaultdict(list)
    for name in sorted(layer):
        rows[layer[name]].append(name)
    wanted = barycentres(rows, neighbours(edges), size)
    places: dict[str, Place] = {}
    lanes: list[float] = []
    y = 0.0
    for number in sorted(rows):
        names = sorted(rows[number], key=lambda name: (wanted[name], name))
        count = max(1, math.ceil(sum(2 * size[n] + GAP for n in names) / (WIDTH * 0.92)))
        top = y
        for lane in range(count):
            members = names[lane::count]
            tallest = max(size[name] for name in members)
            y -= tallest
            xs = spread([wanted[name] for name in members], [size[name] for name in members])
            for name, x in zip(members, xs, strict=True):
                places[name] = Place(round(x, 1), round(y, 1), round(size[name], 1))
            y -= tallest + GAP
        lanes.append(round((top + y) / 2, 1))
        y -= 16
    down = {name: place._replace(y=round(place.y - y, 1)) for name, place in places.items()}
    return down, [round(lane - y, 1) for lane in lanes]


def neighbours(edges: Mapping[str, Sequence[str]]) -> dict[str, list[tuple[str, float]]]:
    """Each module's neighbours both ways, with how strongly they draw: 1 / how many import the imported one."""
    importers: dict[str, int] = defaultdict(int)
    for targets in edges.values():
        for target in targets:
            importers[target] += 1
    near: dict[str, list[tuple[str, float]]] = {name: [] for name in edges}
    for name, targets in edges.items():
        for target in targets:
            pull = 1 / importers[target]
            near[name].append((target, pull))
            near[target].append((name, pull))
    return near


def barycentres(
    rows: Mapping[int, Sequence[str]], near: Mapping[str, Sequence[tuple[str, float]]], size: Mapping[str, float]
) -> dict[str, float]:
    """The sideways place each module would like best, after some sweeps up and down."""
    wanted = {name: WIDTH * (n + 0.5) / len(names) for names in rows.values() for n, name in enumerate(names)}
    kin: dict[str, list[str]] = defaultdict(list)
    for name in wanted:
        kin[package(name)].append(name)
    for sweep in range(SWEEPS):
        home = {key: sum(wanted[name] for name in names) / len(names) for key, names in kin.items()}
        for number in sorted(rows, reverse=sweep % 2 == 1):
            for name in rows[number]:
                pulls = [(wanted[other], pull) for other, pull in near[name]]
                pulls.append((home[package(name)], 0.35 if len(kin[package(name)]) > 1 else 0.0))
                weight = sum(pull for _, pull in pulls)
                wanted[name] = sum(x * pull for x, pull in pulls) / weight if weight else wanted[name]
            names = sorted(rows[number], key=lambda name: (wanted[name], name))
            total = sum(2 * size[name] + GAP for name in names)
            at = 0.0
            for name in names:  # by rank over the whole width, or all would gather in the middle
                share = WIDTH * (at + size[name]) / total
                wanted[name] = 0.4 * wanted[name] + 0.6 * share
                at += 2 * size[name] + GAP
    return wanted


def spread(wanted: Sequence[float], sizes: Sequence[float]) -> list[float]:
    """Move discs of one row apart, keeping their order, as little as one pass to the right and one to the left can."""
    xs = list(wanted)
    edge = 0.0
    for n, size in enumerate(sizes):
        xs[n] = max(xs[n], edge + size)
        edge = xs[n] + size + GAP
    edge = WIDTH
    for n in range(len(xs) - 1, -1, -1):
        xs[n] = min(xs[n], edge - sizes[n])
        edge = xs[n] - sizes[n] - GAP
    return xs
