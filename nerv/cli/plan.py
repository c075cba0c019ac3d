"""`nerv plan`: show what would run, in which order, without running it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Final

import typer

from nerv.cli import console
from nerv.cli.run import Target, listed, refuse
from nerv.cli.targets import load
from nerv.errors import ConfigError, NervError
from nerv.plan import described
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
    return {task.id: type(task).__name__ for task in workflow.tasks.values() if task.settings}


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
    nodes = kinds(workflow)

    def label(task: str) -> str:
        return f"{task} ({nodes[task]})" if task in nodes else task

    yield ""
    yield "level   tasks"
    for place in _places(len(levels), MOST_LEVELS):
        if place is None:
            yield f"  ...           {len(levels) - MOST_LEVELS:,} levels more"
        else:
            yield f"{place + 1:>5}  {len(levels[place]):>6,}   {_fitting(list(map(label, levels[place])), WIDTH - 16)}"
    path = plan.critical_path()
    yield ""
    yield f"critical path, {_count(len(path), 'task')}:"
    gap = f"... {len(path) - MOST_STEPS:,} more ..."
    yield from _wrapped([gap if place is None else path[place] for place in _places(len(path), MOST_STEPS)])


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


def _wrapped(steps: Sequence[str]) -> Iterator[str]:
    """The steps with arrows between them, in lines of bearable length."""
    line = ""
    for number, step in enumerate(steps):
        piece = step if number == len(steps) - 1 else f"{step} -> "
        if line and len(line) + len(piece) > WIDTH:
            yield f"  {line.rstrip()}"
            line = ""
        line += piece
    yield f"  {line}"
