"""`nerv journal check`: whether a journal is whole, what each execution in it is, and what it waits for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import typer

from nerv.cli import console
from nerv.cli.run import listed, refuse
from nerv.errors import NervError, UnknownIdError, near
from nerv.events import EventType

if TYPE_CHECKING:
    from nerv.journal.base import Finding
    from nerv.journal.lazy import LazyFacts
    from nerv.journal.tables import TableJournal

HELP: Final = "Look after a journal: the file that the setting `journal` names."
CHECK: Final = """Read and verify everything in a journal, and say what each execution is and what it waits for.

Nothing is changed and nothing is unpickled; a program may be writing to the journal meanwhile. With --discard a
damaged execution is removed, so that the journal can be opened again; nobody may be writing then.

\b
Examples:
  nerv journal check runs.db
  nerv journal check runs.db --json | jq '.[] | select(.damage)'
  nerv journal check runs.db --discard crawl-7

\b
Exit codes:
    0  the journal is whole
    1  something in it is damaged
    2  there is no such journal, or it can't be read at all
"""
Stand: TypeAlias = dict[str, dict[str, str]]
"""Of an execution that hasn't ended: "running" and "waiting" -> task id -> what for, as far as it is known."""

_MOST: Final = 5  # tasks named in a line
_STANDS: Final = {
    EventType.TASK_STARTED: "running",
    EventType.TASK_WAITING: "waiting",
    EventType.TASK_RETRYING: "waiting",
}

app = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def journal() -> None:
    """Is called before its commands; it makes `check` one of several, whoever is alone."""


@app.command("check", help=CHECK)
def check(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The journal.")],
    *,
    discard: Annotated[
        list[str] | None,
        typer.Option("--discard", metavar="ID", help="Remove this execution first, if it is damaged. Repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a list of JSON objects.")] = False,
) -> None:
    """`nerv journal check`."""
    try:
        if discard:
            _discard(file, discard)
        with _opened(file) as journal:
            findings = journal.check()
            stands = {one.id: _stand(journal, one) for one in findings}
    except NervError as error:
        refuse(error)
    if as_json:
        console.say(json.dumps([as_object(one, stands.get(one.id, {})) for one in findings]))
    else:
        console.say("\n".join(lines(findings, stands)))
    raise typer.Exit(console.FAILED if any(one.damage for one in findings) else console.COMPLETED)


def _opened(file: str) -> TableJournal:
    from nerv.journal.sqlite import SqliteJournal

    return SqliteJournal(file, read_only=True)


def _discard(file: str, ids: Sequence[str]) -> None:
    from nerv.journal.sqlite import DamagedJournal

    with _opened(file) as journal:
        damaged = {one.id: one.damage for one in journal.check() if one.id is not None}
    for known in ids:
        if known not in damaged:
            raise UnknownIdError(f"journal {file} holds no execution {known!r}{near(known, damaged)}")
        if damaged[known] is None:
            raise NervError(f"journal {file}: execution {known!r} isn't damaged, so it stays: see `nerv forget`")
    with DamagedJournal(file) as journal:
        for known in ids:
            journal.discard(known)


# ---- what it waits for ----------------------------------------------------------------------------------------------


def _stand(journal: TableJournal, finding: Finding) -> Stand:
    if finding.id is None or finding.damage or finding.status is None or finding.status.is_final:
        return {"running": {}, "waiting": {}}
    return stand_of(journal, finding.id)


def stand_of(journal: TableJournal, execution_id: str) -> Stand:
    """Which tasks of an execution run and wait, as far as the journal knows."""
    stand: Stand = {"running": {}, "waiting": {}}
    for event in journal.events(execution_id):
        if event.task_id is None:
            continue
        if event.type in (EventType.TASK_PROGRESS, EventType.TASKS_ADDED):  # it goes on running, or waiting
            continue
        for tasks in stand.values():
            tasks.pop(event.task_id, None)
        if where := _STANDS.get(EventType(event.type)):
            stand[where][event.task_id] = described_data(event.data)
    return stand


def described_data(data: LazyFacts | dict[str, Any]) -> str:
    """An event's data in a few words, nothing of it unpickled."""
    from nerv.journal.codec import Stored

    words = []
    for key in data:
        if key == "outcome":  # what it goes on with, for nerv itself
            continue
        value = dict.__getitem__(data, key)
        text = value.preview() if type(value) is Stored else repr(value)
        if key in {"due", "deadline"} and type(value) is Stored and value.type_name in {"float", "int"}:
            text = datetime.fromtimestamp(value.get()).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        words.append(f"{key} {text}")
    return ", ".join(words)


# ---- showing --------------------------------------------------------------------------------------------------------


def as_object(finding: Finding, stand: Stand) -> dict[str, Any]:
    """A finding for JSON."""
    return {
        "id": finding.id,
        "workflow": finding.workflow_name,
        "status": None if finding.status is None else finding.status.name,
        "events": finding.events,
        "bytes": finding.bytes,
        "damage": finding.damage,
        **stand,
    }


def lines(findings: Sequence[Finding], stands: Mapping[str | None, Stand]) -> Iterator[str]:
    """The findings for people."""
    for one in findings:
        if one.id is None:
            yield f"the file: DAMAGED: {one.damage}"
            continue
        status = one.status.name if one.status is not None else "DAMAGED"
        yield f"{one.id}: {one.workflow_name}, {status}, {_count(one.events, 'event')}, {_count(one.bytes, 'byte')}"
        if one.damage:
            yield f"    damaged: {one.damage}"
        running, waiting = stands[one.id].get("running", {}), stands[one.id].get("waiting", {})
        if running:
            yield f"    running: {listed([*running], _MOST)}"
        for task, why in [*waiting.items()][:_MOST]:
            yield f"    waiting: {task}{f' ({why})' if why else ''}"
        if len(waiting) > _MOST:
            yield f"    waiting: {len(waiting) - _MOST:,} more"
    executions = [one for one in findings if one.id is not None]
    damaged = sum(one.damage is not None for one in findings)
    said = f"{damaged:,} of them damaged" if damaged else "all whole"
    yield f"{_count(len(executions), 'execution')}, {said}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what if number == 1 else f'{what}s'}"
