"""The commands about executions in a journal: look at them, go on with them, give them orders."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from nerv.cli import console
from nerv.cli.run import read_params, read_value, refuse, report_failures, summary
from nerv.cli.targets import load
from nerv.errors import NervError
from nerv.statuses import WorkflowStatus

if TYPE_CHECKING:
    from nerv.execution import Execution
    from nerv.journal.base import ExecutionRecord
    from nerv.journal.sqlite import SqliteJournal
    from nerv.manager import WorkflowManager

JournalFile = Annotated[
    str | None,
    typer.Option("--journal", "-j", metavar="FILE", help="The journal. Default: the only one in this folder."),
]
Id = Annotated[str, typer.Argument(metavar="ID", help="An execution's id, or the beginning of it.")]
TargetOption = Annotated[
    str | None,
    typer.Option("--target", metavar="TARGET", help="Where the workflow is; default: where it was run from."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

# ---- looking --------------------------------------------------------------------------------------------------------


def history(*, journal: JournalFile = None, as_json: AsJson = False) -> None:
    """List the executions in a journal, the newest last."""
    with _errors(), _read(journal) as kept:
        records = kept.executions()
    if as_json:
        console.say(json.dumps([_record(one) for one in records]))
        return
    for one in records:
        took = "" if one.ended_at is None or one.started_at is None else f"{one.ended_at - one.started_at:10.3f} s"
        console.say(f"{_time(one.started_at):19}  {one.status.name:11}  {took:12}  {one.workflow_name}  {one.id}")
    if not records:
        console.say("no executions")


def show(execution_id: Id, *, journal: JournalFile = None, as_json: AsJson = False) -> None:
    """Show the events of an execution. Results are described, never unpickled."""
    from nerv.cli.journal import described_data

    with _errors(), _read(journal) as kept:
        record = _found(kept, execution_id)
        events = [(event, described_data(event.data)) for event in kept.events(record.id)]
    if as_json:
        rows = [
            {"seq": event.seq, "type": event.type, "task": event.task_id, "at": event.timestamp, "data": data}
            for event, data in events
        ]
        console.say(json.dumps({**_record(record), "events": rows}))
        return
    console.say(f"{record.workflow_name}  {record.status.name}  {record.id}")
    for event, data in events:
        console.say(
            f"{event.seq:6}  {_time(event.timestamp):19}  {event.type:20}  {event.task_id or '':24}  {data}".rstrip()
        )


def waiting(*, journal: JournalFile = None, as_json: AsJson = False) -> None:
    """Say what the executions that haven't ended wait for."""
    from nerv.cli.journal import stand_of

    rows = []
    with _errors(), _read(journal) as kept:
        for record in kept.unfinished():
            rows += [
                {"execution": record.id, "workflow": record.workflow_name, "task": task, "for": why}
                for task, why in stand_of(kept, record.id)["waiting"].items()
            ]
    if as_json:
        console.say(json.dumps(rows))
        return
    for row in rows:
        console.say(f"{row['execution']}  {row['workflow']}  {row['task']}  {row['for']}")
    if not rows:
        console.say("nothing waits")


# ---- going on -------------------------------------------------------------------------------------------------------


def resume(
    execution_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="Only this one. Default: all.")] = None,
    *,
    journal: JournalFile = None,
    target: TargetOption = None,
    on_change: Annotated[
        str, typer.Option(metavar="WHAT", help="When the workflow has changed: refuse, or continue with the new one.")
    ] = "refuse",
) -> None:
    """Go on with the interrupted executions in a journal, and wait for their end."""
    with _errors(), _managed(journal) as manager:
        given = None if target is None else [load(target)]
        only = None if execution_id is None else [_found(manager.journal, execution_id).id]
        executions = manager.recover(given, on_change=on_change, only=only)
        if not executions:
            console.complain("nerv: there is nothing to go on with, or its workflow isn't at hand (--target TARGET)")
            raise typer.Exit(console.REFUSED)
        _wait_for(executions)


def fork(
    execution_id: Id,
    from_task: Annotated[str, typer.Argument(metavar="TASK", help="It and all that follows from it run again.")],
    *,
    param: Annotated[
        list[str] | None, typer.Option("--param", "-p", metavar="NAME=VALUE", help="Another value.")
    ] = None,
    journal: JournalFile = None,
    target: TargetOption = None,
) -> None:
    """Run an execution again from one of its tasks on; what came before keeps its results."""
    with _errors(), _managed(journal) as manager:
        known = _found(manager.journal, execution_id).id
        workflow = None if target is None else load(target)
        _wait_for([manager.fork(known, from_task, params=read_params(param or ()), workflow=workflow)])


def retry(execution_id: Id, *, journal: JournalFile = None, target: TargetOption = None) -> None:
    """Run the tasks of an execution again that didn't complete."""
    with _errors(), _managed(journal) as manager:
        known = _found(manager.journal, execution_id).id
        _wait_for([manager.retry(known, workflow=None if target is None else load(target))])


def forget(
    *,
    keep: Annotated[int | None, typer.Option(help="Keep so many of those that ended last.")] = None,
    days: Annotated[float | None, typer.Option(help="Remove those that ended longer ago than this.")] = None,
    journal: JournalFile = None,
) -> None:
    """Remove finished executions from a journal."""
    import time

    from nerv.journal.sqlite import SqliteJournal

    with _errors(), SqliteJournal(_file(journal)) as kept:
        removed = kept.forget(None if days is None else time.time() - days * 86400, keep)
    console.say(f"{removed} executions removed")


# ---- orders ---------------------------------------------------------------------------------------------------------


def signal(
    execution_id: Id,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The signal: a gate's id.")],
    value: Annotated[str, typer.Argument(metavar="VALUE", help="Read as JSON if it is JSON, else text.")] = "null",
    *,
    journal: JournalFile = None,
) -> None:
    """Send a signal to an execution, wherever it runs."""
    _order(journal, execution_id, "signal", name=name, value=read_value(value))


def cancel(
    execution_id: Id,
    *,
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    journal: JournalFile = None,
) -> None:
    """Cancel an execution, wherever it runs."""
    _order(journal, execution_id, "cancel", reason=reason)


def pause(execution_id: Id, *, journal: JournalFile = None) -> None:
    """Have an execution start nothing more, wherever it runs."""
    _order(journal, execution_id, "pause")


def resume_paused(execution_id: Id, *, journal: JournalFile = None) -> None:
    """Have a paused execution go on, wherever it runs."""
    _order(journal, execution_id, "resume")


def _order(journal: str | None, execution_id: str, kind: str, **data: Any) -> None:
    from nerv.owning import give_order

    with _errors():
        file = _file(journal)
        with _read(file) as kept:
            known = _found(kept, execution_id).id
        done = give_order(file, known, kind, data)
    if not done:
        console.complain(f"nerv: execution {known} has ended, or is so already; nothing was done")
        raise typer.Exit(console.FAILED)


# ---- what they share ------------------------------------------------------------------------------------------------

COMMANDS: Final[dict[str, Callable[..., None]]] = {
    "history": history, "show": show, "waiting": waiting, "resume": resume, "fork": fork, "retry": retry,
    "forget": forget, "signal": signal, "cancel": cancel, "pause": pause, "resume-paused": resume_paused,
}  # fmt: skip


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except NervError as error:
        refuse(error)


def _file(given: str | None) -> str:
    """The journal that is meant."""
    if given is not None:
        return given
    found = [file for file in sorted(Path().glob("*.db")) if _is_journal(file)]
    if len(found) == 1:
        return str(found[0])
    what = "several journals" if found else "no journal"
    raise NervError(f"there is {what} in this folder; say which: --journal FILE")


def _is_journal(file: Path) -> bool:
    from nerv.journal.schema import APPLICATION_ID

    with file.open("rb") as opened:
        head = opened.read(72)
    return head[68:72] == APPLICATION_ID.to_bytes(4, "big")


@contextmanager
def _read(given: str | None) -> Iterator[SqliteJournal]:
    from nerv.journal.sqlite import SqliteJournal

    with SqliteJournal(_file(given), read_only=True) as kept:
        yield kept


@contextmanager
def _managed(given: str | None) -> Iterator[WorkflowManager]:
    from nerv.manager import WorkflowManager

    with WorkflowManager(journal=_file(given)) as manager:
        yield manager


def _found(kept: Any, beginning: str) -> ExecutionRecord:
    """The execution whose id it is, or begins so."""
    records: list[ExecutionRecord] = kept.executions()
    found = [one for one in records if one.id == beginning] or [one for one in records if one.id.startswith(beginning)]
    if len(found) == 1:
        return found[0]
    what = "several executions begin" if found else "no execution begins"
    raise NervError(f"{what} with {beginning!r}; `nerv history` lists them")


def _wait_for(executions: Sequence[Execution]) -> None:
    worst = console.COMPLETED
    for execution in executions:
        execution.wait()
        report_failures(execution)
        console.say(summary(execution))
        if execution.status is not WorkflowStatus.COMPLETED:
            worst = console.FAILED
    raise typer.Exit(worst)


def _record(one: ExecutionRecord) -> dict[str, Any]:
    return {
        "id": one.id, "workflow": one.workflow_name, "status": one.status.name, "started_at": one.started_at,
        "ended_at": one.ended_at,
    }  # fmt: skip


def _time(epoch: float | None) -> str:
    return "" if epoch is None else datetime.fromtimestamp(epoch).astimezone().strftime("%Y-%m-%d %H:%M:%S")
