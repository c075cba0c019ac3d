"""`nerv cache ls` and `nerv cache clear`: look into a cache file, and drop what is in it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

from nerv.cli import console
from nerv.cli.run import refuse
from nerv.errors import NervError, near

if TYPE_CHECKING:
    from nerv.caching.sqlite import Kept, SqliteStore

HELP: Final = """Look into a cache file: the one that the setting `cache` names.

\b
Examples:
  nerv cache ls cache.db
  nerv cache ls cache.db --json | jq '.[].function'
  nerv cache clear cache.db --expired
  nerv cache clear cache.db --function shop.price

\b
Exit codes:
    0  done
    2  there is no such file, or it is no cache file
"""
LS: Final = (
    "List the entries, the newest first: of which function, since when, until when, how large. Nothing is unpickled."
)
CLEAR: Final = "Drop entries: all of them, or those that the options choose. Programs that use the file may go on."

File = Annotated[str, typer.Argument(metavar="FILE", help="The cache file.")]

app = typer.Typer(help=HELP, no_args_is_help=True, rich_markup_mode=None)


@app.command("ls", help=LS)
def ls(
    file: File,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print a list of JSON objects.")] = False,
) -> None:
    """`nerv cache ls`."""
    try:
        with closing(_opened(file)) as store:
            entries = store.entries()
    except NervError as error:
        refuse(error)
    if as_json:
        console.say(json.dumps([entry._asdict() for entry in entries]))
    else:
        console.say("\n".join(lines(entries, time.time())))


@app.command("clear", help=CLEAR)
def clear(
    file: File,
    *,
    function: Annotated[
        str | None, typer.Option("--function", metavar="NAME", help="Only results of this function, as `ls` names it.")
    ] = None,
    expired: Annotated[bool, typer.Option("--expired", help="Only entries whose time is over.")] = False,
) -> None:
    """`nerv cache clear`."""
    try:
        with closing(_opened(file)) as store:
            known = {entry.function for entry in store.entries()}
            count = store.clear(function=function, expired_at=time.time() if expired else None)
    except NervError as error:
        refuse(error)
    hint = "" if function is None or function in known else f"; none is of {function!r}{near(function, known)}"
    console.say(f"{_count(count)} dropped{hint}")


def _opened(file: str) -> SqliteStore:
    from nerv.caching.sqlite import SqliteStore

    return SqliteStore(file, create=False)


def lines(entries: Sequence[Kept], now: float) -> Iterator[str]:
    """The listing for people."""
    rows = [("kept", "expires", "size", "key", "function")]
    for entry in entries:
        if entry.expires_at is None:
            expires = "never"
        else:
            expires = "expired" if entry.expires_at <= now else _moment(entry.expires_at)
        rows.append((_moment(entry.kept_at), expires, _size(entry.size), entry.key[:12], entry.function))
    if entries:
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for kept, expires, size, key, function in rows:
            yield f"{kept:<{widths[0]}}  {expires:<{widths[1]}}  {size:>{widths[2]}}  {key:<{widths[3]}}  {function}"
    yield f"{_count(len(entries))}, {_size(sum(entry.size for entry in entries))}"


def _count(number: int) -> str:
    return f"{number:,} {'entry' if number == 1 else 'entries'}"


def _moment(epoch: float) -> str:
    return datetime.fromtimestamp(epoch).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _size(count: float) -> str:
    """Bytes in the unit that suits them, decimal as `ls -h --si` has it."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
