"""`nerv plan`: show what would run, in which order, without running it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Final

import typer

from nerv.cli import console
from nerv.cli.run import Target, listed, refuse
from nerv.cli.targets import load
from nerv.drawing import DEEPEST
from nerv.errors import ConfigError, NervError
from nerv.plan import described
from nerv.symbols import BUFFERED
from nerv.tasks import TaskDef
from nerv.workflows import Workflow

WIDTH: Final = 100  # columns of a line, at most
MOST_LEVELS: Final = 30
MOST_STEPS: Final = 24  # tasks of the critical path


HELP: Final = """Show what would run, in which order, without running it.

A level holds the tasks that need only tasks of the levels before it. The critical path is the longest chain of tasks
that need each other: however many workers there are, they run one after the other.

\b
Examples:
  nerv plan flow.py
  nerv plan flow.py --mermaid               paste it into Markdown
  nerv plan flow.py --dot | dot -Tsvg > flow.svg
  nerv plan flow.py --json | jq .levels

\b
Exit codes:
    0  shown
    2  there is no such workflow, or it can't be right
"""


def plan(
    target: Target,
    *,
    only: Annotated[
        list[str] | None,
        typer.Option("--target", "-t", metavar="ID", help="Plan only this task and what it needs. Repeatable."),
    ] = None,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Print the graph as a Mermaid flowchart.")] = False,
    dot: Annotated[bool, typer.Option("--dot", help="Print the graph in Graphviz's language.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as one JSON object.")] = False,
) -> None:
    """`nerv plan`; `HELP` says what it does."""
    try:
        if mermaid + dot + as_json > 1:
            raise ConfigError("--mermaid, --dot and --json are three answers to one question; choose one")
        with console.stdout_kept_clean(mermaid or dot or as_json):
            workflow = load(target)
            if only:
                workflow = workflow.select(only)
    except NervError as error:
        refuse(error)
    except KeyboardInterrupt:
        raise typer.Exit(console.INTERRUPTED) from None
    if mermaid:
        console.say(workflow.to_mermaid())
    elif dot:
        console.say(workflow.to_dot())
    elif as_json:
        console.say(as_object(workflow))
    else:
        console.say("\n".join(lines(workflow)))


def as_object(workflow: Workflow) -> str:
    """The plan as JSON: name, params (true: must be given), levels, nodes, dependencies, critical path."""
    plan = workflow.plan()
    fields = {"workflow": workflow.name, "params": dict(workflow.params), **described(plan)}
    dependencies = {task: list(needs) for task, needs in plan.dependencies.items()}
    return json.dumps({**fields, "nodes": kinds(workflow), "dependencies": dependencies})


def kinds(workflow: Workflow) -> dict[str, str]:
    """What the tasks are that steer others, by id: Buffer, Router, Gate ..."""
    return {task.id: kind for task in workflow.tasks.values() if (kind := task.symbol.kind)}


def lines(workflow: Workflow) -> Iterator[str]:
    """The plan for people."""
    plan = workflow.plan()
    edges = sum(map(len, plan.dependencies.values()))
    levels = plan.levels
    yield f"{workflow.name}: {_count(len(workflow), 'task')}, {_count(edges, 'dependency', 'dependencies')}"
    if workflow.description:
        yield f"  {' '.join(workflow.description.split())}"
    if workflow.params:
        named = (name if required else f"[{name}]" for name, required in workflow.params.items())
        yield f"  params: {', '.join(named)}"
    if not levels:
        return
    widest = max(range(len(levels)), key=lambda level: len(levels[level]))
    wide = len(levels[widest])
    form = f"the widest is {widest + 1} with {wide:,} tasks" if wide > 1 else "one task each"
    yield f"  {_count(len(levels), 'level')}, {form}"
    tasks = workflow.tasks
    labels = labelled(workflow)
    yield ""
    yield "level   tasks"
    for place in _places(len(levels), MOST_LEVELS):
        if place is None:
            yield f"  ...           {len(levels) - MOST_LEVELS:,} levels more"
        else:
            shown = _fitting([labels[task] for task in levels[place]], WIDTH - 16)
            yield f"{place + 1:>5}  {len(levels[place]):>6,}   {shown}"
    drawn = list(insides(workflow, ""))
    path = plan.critical_path()
    drawn += ["", f"critical path, {_count(len(path), 'task')}:"]
    gap = f"... {len(path) - MOST_STEPS:,} more ..."
    steps = [None if place is None else tasks[path[place]] for place in _places(len(path), MOST_STEPS)]
    drawn += _wrapped([(gap, "->") if task is None else (task.id, _arrow(task)) for task in steps])
    yield from drawn
    if any(" =>" in line for line in drawn):
        yield ""
        yield "  -> direct: one after another;  => buffered: beside each other"


def labelled(workflow: Workflow) -> dict[str, str]:
    """The tasks by id, with what they are: `fetch (Buffer: page, 8 at a time)`."""
    tasks = workflow.tasks.values()
    grouped = {one: group.text for task in tasks for group in task.groups for one in group.ids}
    labels = {}
    for task in tasks:
        symbol = task.symbol
        kind = ": ".join(filter(None, (symbol.kind, symbol.note)))
        about = ", ".join(filter(None, (kind, task.throttle, grouped.get(task.id))))
        labels[task.id] = f"{task.id} ({about})" if about else task.id
    return labels


def insides(workflow: Workflow, margin: str) -> Iterator[str]:
    """The workflows that tasks run, and those within them, level by level."""
    for task in workflow.tasks.values():
        within = task.symbol.within
        if within is None or len(margin) > 2 * DEEPEST:
            continue
        if not margin:
            yield ""
        yield f"{margin}inside {task.id}:"
        labels, levels = labelled(within), within.plan().levels
        steps = [
            (", ".join(labels[one] for one in level), _arrow(*[within.tasks[one] for one in level])) for level in levels
        ]
        yield from (f"{margin}{line}" for line in _wrapped(steps))
        yield from insides(within, f"{margin}  ")


def _arrow(*tasks: TaskDef) -> str:
    """How the wires look that lead to them."""
    return "=>" if all(task.wire == BUFFERED for task in tasks) else "->"


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def _places(count: int, most: int) -> Iterator[int | None]:
    """The places of a list that are shown: all, or so many at both ends with a None for those between."""
    if count <= most:
        yield from range(count)
        return
    tail = most // 3
    yield from range(most - tail)
    yield None
    yield from range(count - tail, count)


def _fitting(ids: Sequence[str], width: int) -> str:
    """As many ids as go into a line, at least one."""
    used = shown = 0
    for task in ids:
        used += len(task) + 2
        if shown and used > width - len(" and 1,000,000 more"):
            break
        shown += 1
    return listed(ids, shown)


def _wrapped(steps: Sequence[tuple[str, str]]) -> Iterator[str]:
    """The steps, each with the arrow that leads to it, in lines of bearable length."""
    line = ""
    for number, (step, _) in enumerate(steps):
        piece = step if number == len(steps) - 1 else f"{step} {steps[number + 1][1]} "
        if line and len(line) + len(piece) > WIDTH:
            yield f"  {line.rstrip()}"
            line = ""
        line += piece
    yield f"  {line}"
