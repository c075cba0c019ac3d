"""What a journal's file is before SQLite sees it: looked at, refused with a reason, or made."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path
from typing import Final

from nerv.errors import JournalError
from nerv.journal.database import Database, remedy
from nerv.journal.schema import APPLICATION_ID, TABLES, VERSION

_MAGIC: Final = b"SQLite format 3\0"
_HEAD: Final = 100  # bytes of a database's header
_DAMAGED: Final = "go back to a copy of the file, or move it away to begin a new one"


def place(path: str) -> None:
    """Refuse a place where no file can be.

    Raises:
        JournalError: the folder is missing, or it is a folder itself.
    """
    folder = Path(path).parent
    if not folder.is_dir():
        raise JournalError(f"journal {path} can't be opened: there is no folder {folder}. Make it first")
    if Path(path).is_dir():
        raise JournalError(f"journal {path} is a folder: name a file, as {Path(path) / 'runs.db'}")


def is_new(path: str) -> bool:
    """Whether there is no journal yet: no file, or an empty one.

    Raises:
        JournalError: there is a file and it is no journal, or not one that this version can read. It wasn't touched.
    """
    try:
        with open(path, "rb") as file:
            kind = os.fstat(file.fileno()).st_mode
            head = file.read(_HEAD) if stat.S_ISREG(kind) else b"?"
    except FileNotFoundError:
        head = b""
    except OSError as error:
        raise JournalError(f"journal {path} can't be read ({error.strerror}): check its permissions") from error
    if not head:
        log = Path(f"{path}-wal")
        if log.exists() and log.stat().st_size:
            raise JournalError(
                f"journal {path} is missing or empty, but there is a log of it ({log.name}):"
                " put the file back beside it, or move the log away to begin a new one"
            )
        return True
    if len(head) < _HEAD or head[:16] != _MAGIC:
        raise JournalError(f"{path} is no journal of nerv's: name another file. It wasn't touched")
    version(path, int.from_bytes(head[68:72], "big"), int.from_bytes(head[60:64], "big"))
    return False


def writable(path: str) -> None:
    """Refuse a file that can't be written. SQLite would open it, and say so at the first write only.

    Raises:
        JournalError: it can't.
    """
    if not os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise JournalError(
            f"journal {path} can't be written: check its permissions; to look at it only, open it with read_only=True"
        )


def version(path: str, application: int, number: int) -> None:
    """Refuse a database of somebody else's, or of a later nerv.

    Raises:
        JournalError: it is one.
    """
    if application != APPLICATION_ID:
        raise JournalError(f"{path} is another program's database, no journal of nerv's: name another file")
    if number > VERSION:
        raise JournalError(
            f"journal {path} was written by a newer nerv (its format is {number}, this one knows {VERSION}):"
            " update nerv. It wasn't touched"
        )
    if number < 1:
        raise JournalError(f"journal {path} is damaged: it says that its format is {number}: {_DAMAGED}")


def create(path: str) -> None:
    """Make an empty journal: whole, or not at all, whenever the process dies.

    Raises:
        JournalError: it can't be made.
    """
    new = Path(f"{path}.new")
    try:
        for leftover in (new, Path(f"{new}-journal"), Path(f"{new}-wal"), Path(f"{new}-shm")):
            leftover.unlink(missing_ok=True)
        connection = sqlite3.connect(new, isolation_level=None)
        try:
            connection.execute("PRAGMA synchronous = OFF")  # once, below, is enough
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute("BEGIN")
            for sql in TABLES.values():
                connection.execute(sql)
            connection.execute("COMMIT")
            connection.execute("PRAGMA journal_mode = WAL")
        finally:
            connection.close()
        _sync(new)
        new.rename(path)
        _sync(Path(path).parent)
    except sqlite3.Error as error:
        new.unlink(missing_ok=True)
        raise JournalError(f"journal {path} can't be made: {remedy(error)}") from error
    except OSError as error:
        new.unlink(missing_ok=True)
        raise JournalError(
            f"journal {path} can't be made ({error.strerror}): its folder must be writable, and not full"
        ) from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def tables(path: str, database: Database) -> None:
    """Refuse a file whose tables aren't those of a journal.

    Raises:
        JournalError: they aren't.
    """
    ((application,),) = database.rows("PRAGMA application_id")
    ((number,),) = database.rows("PRAGMA user_version")
    version(path, application, number)
    found = dict(database.rows("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))
    if found != TABLES:
        raise JournalError(f"journal {path} is damaged: its tables aren't those that were made: {_DAMAGED}")
