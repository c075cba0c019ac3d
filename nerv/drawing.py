"""Pictures of a graph: Graphviz, Mermaid, and a plain SVG for notebooks. Ids are escaped, whatever they hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from nerv.graph import Graph
from nerv.symbols import BUFFERED
from nerv.tasks import TaskDef

_WIDTH: Final = 150
_HEIGHT: Final = 34
_GAP: Final = 26
_MOST_DRAWN: Final = 300

DEEPEST: Final = 20
"""Workflows within workflows so deep are drawn."""

_DOT_SHAPES: Final = {
    ("[[", "]]"): "box3d",
    ("{", "}"): "diamond",
    ("{{", "}}"): "hexagon",
    ("((", "))"): "circle",
    ("([", "])"): "cds",
    ("[(", ")]"): "cylinder",
    ("[/", "/]"): "parallelogram",
    ("[\\", "/]"): "invtrapezium",
}
"""Mermaid's brackets -> what Graphviz calls a shape like that."""


def dot(name: str, tasks: Sequence[TaskDef], dependencies: Sequence[Sequence[int]]) -> str:
    """A `digraph` with one node a task, named by its id and labelled with its name; nodes are shaped like what they
    are, and wires whose items go on beside each other are bold.
    """
    lines = [f"digraph {_quoted(name)} {{", "  rankdir=LR; node [shape=box, style=rounded];"]
    lines += [f"  {_quoted(task.id)} [label={_quoted(task.symbol.text)}{_dot_shape(task)}];" for task in tasks]
    for number, group in enumerate(group for task in tasks for group in task.groups):
        inside = "; ".join(map(_quoted, group.ids))
        lines.append(f"  subgraph cluster_{number} {{ label={_quoted(group.text)}; {inside}; }}")
    for task, needs in zip(tasks, dependencies, strict=True):
        for need in needs:
            label = _label(tasks[need], task)
            said = ["style=bold"] if task.wire == BUFFERED else []
            said += [f"label={_quoted(label)}"] if label else []
            options = f" [{', '.join(said)}]" if said else ""
            lines.append(f"  {_quoted(tasks[need].id)} -> {_quoted(task.id)}{options};")
    return "\n".join([*lines, "}"])


def _dot_shape(task: TaskDef) -> str:
    shape = _DOT_SHAPES.get(task.symbol.shape)
    return f', shape={shape}, style=""' if shape else ""


def mermaid(tasks: Sequence[TaskDef], dependencies: Sequence[Sequence[int]]) -> str:
    """A left-to-right flowchart; nodes are numbered, since Mermaid's ids are narrower than ours.

    A node that runs a workflow is a frame around it. A thick wire leads to where items or messages go on beside each
    other, a thin one is direct.
    """
    return "\n".join(["flowchart LR", *_mermaid("t", tasks, dependencies, "  ")])


def _mermaid(
    prefix: str, tasks: Sequence[TaskDef], dependencies: Sequence[Sequence[int]], margin: str
) -> Iterator[str]:
    groups = [group for task in tasks for group in task.groups]
    grouped = {one: number for number, group in enumerate(groups) for one in group.ids}
    for number, task in enumerate(tasks):
        if task.id not in grouped:
            yield from _mermaid_box(f"{prefix}{number}", task, margin)
    for place, group in enumerate(groups):
        yield f'{margin}subgraph {prefix}b{place}["{_entities(group.text)}"]'
        yield f"{margin}  direction LR"
        for number, task in enumerate(tasks):
            if grouped.get(task.id) == place:
                yield from _mermaid_box(f"{prefix}{number}", task, f"{margin}  ")
        yield f"{margin}end"
    for number, needs in enumerate(dependencies):
        for need in needs:
            label = _entities(_label(tasks[need], tasks[number]))
            wire = f'{tasks[number].wire}|"{label}"|' if label else tasks[number].wire
            yield f"{margin}{prefix}{need} {wire} {prefix}{number}"


def _mermaid_box(own: str, task: TaskDef, margin: str) -> Iterator[str]:
    symbol = task.symbol
    label = f'"{_entities(symbol.text)}"'
    if symbol.within is None or len(margin) > 2 * DEEPEST:
        opening, closing = symbol.shape
        yield f"{margin}{own}{opening}{label}{closing}"
        return
    inner = tuple(symbol.within.tasks.values())
    number_of = {task.id: number for number, task in enumerate(inner)}
    needs = [[number_of[need] for need in task.needs] for task in inner]
    yield f"{margin}subgraph {own}[{label}]"
    yield f"{margin}  direction LR"
    yield from _mermaid(f"{own}_", inner, needs, f"{margin}  ")
    yield f"{margin}end"


def _label(source: TaskDef, task: TaskDef) -> str:
    """What is written on a wire."""
    return ", ".join(filter(None, (source.leads_by(task.id), task.throttle)))


def svg(tasks: Sequence[TaskDef], graph: Graph) -> str:
    """The levels as columns from left to right. Of very large graphs only the figures are shown."""
    levels = graph.levels()
    if len(tasks) > _MOST_DRAWN:
        return _frame(420, 40, [f'<text x="10" y="25">{len(tasks)} tasks in {len(levels)} levels</text>'])
    place = {
        task: (column * (_WIDTH + 2 * _GAP) + _GAP, row * (_HEIGHT + _GAP) + _GAP)
        for column, level in enumerate(levels)
        for row, task in enumerate(level)
    }
    shapes = [
        f'<path d="M{place[need][0] + _WIDTH},{place[need][1] + _HEIGHT // 2} C{place[need][0] + _WIDTH + _GAP},'
        f"{place[need][1] + _HEIGHT // 2} {x - _GAP},{y + _HEIGHT // 2} {x},{y + _HEIGHT // 2}"
        f'" fill="none" stroke="#8a94a6" stroke-width="{3 if tasks[task].wire == BUFFERED else 1}"/>'
        for task, (x, y) in place.items()
        for need in graph.dependencies[task]
    ]
    for task, (x, y) in place.items():
        symbol = tasks[task].symbol
        label, fill = symbol.text, "#fff4d6" if symbol.kind else "#eef2ff"
        label = label if len(label) <= 20 else label[:19] + "…"
        shapes.append(
            f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="8" fill="{fill}" stroke="#4f63d2"/>'
            f'<text x="{x + _WIDTH // 2}" y="{y + 22}" text-anchor="middle">{escape(label)}</text>'
        )
    tallest = max((len(level) for level in levels), default=0)
    return _frame(len(levels) * (_WIDTH + 2 * _GAP), tallest * (_HEIGHT + _GAP) + _GAP, shapes)


def _frame(width: int, height: int, shapes: list[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif"'
    return f'{head} font-size="13">{"".join(shapes)}</svg>'


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _entities(text: str) -> str:
    """Mermaid's own escapes: a number between # and ; for each character that would end or confuse a label."""
    return "".join(c if c.isalnum() or c in " _-.,:?!'()=/*+" else f"#{ord(c)};" for c in text)
