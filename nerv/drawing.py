"""Pictures of a graph: Graphviz, Mermaid, and a plain SVG for notebooks. Ids are escaped, whatever they hold."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from nerv.graph import Graph
from nerv.tasks import TaskDef

_WIDTH: Final = 150
_HEIGHT: Final = 34
_GAP: Final = 26
_MOST_DRAWN: Final = 300


def dot(name: str, tasks: Sequence[TaskDef], dependencies: Sequence[Sequence[int]]) -> str:
    """A `digraph` with one node a task, named by its id and labelled with its name."""
    lines = [f"digraph {_quoted(name)} {{", "  rankdir=LR; node [shape=box, style=rounded];"]
    lines += [f"  {_quoted(task.id)} [label={_quoted(task.name)}];" for task in tasks]
    lines += [
        f"  {_quoted(tasks[need].id)} -> {_quoted(task.id)};"
        for task, needs in zip(tasks, dependencies, strict=True)
        for need in needs
    ]
    return "\n".join([*lines, "}"])


def mermaid(tasks: Sequence[TaskDef], dependencies: Sequence[Sequence[int]]) -> str:
    """A left-to-right flowchart; nodes are numbered, since Mermaid's ids are narrower than ours."""
    lines = ["flowchart LR", *(f"  t{i}{_shape(task)}" for i, task in enumerate(tasks))]
    lines += [f"  t{need} {tasks[need].wire} t{i}" for i, needs in enumerate(dependencies) for need in needs]
    return "\n".join(lines)


def _shape(task: TaskDef) -> str:
    """A task as Mermaid draws its kind; a node says what it is."""
    opening, closing = task.shape
    kind = f"{type(task).__name__} " if task.settings else ""
    return f'{opening}"{kind}{_entities(task.name)}"{closing}'


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
        '" fill="none" stroke="#8a94a6"/>'
        for task, (x, y) in place.items()
        for need in graph.dependencies[task]
    ]
    for task, (x, y) in place.items():
        label = tasks[task].name
        label = label if len(label) <= 20 else label[:19] + "…"
        shapes.append(
            f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="8" fill="#eef2ff" stroke="#4f63d2"/>'
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
    return "".join(c if c.isalnum() or c in " _-.," else f"#{ord(c)};" for c in text)
