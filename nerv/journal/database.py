"""`Database`: a journal's connections to SQLite, one to write and one to read, and SQLite's errors in plain words.

The second lock in nerv, and the third: each connection has one, held for the statements of one transaction or one
query. Readers have a connection of their own, so a long query never holds up a commit; a database in memory has only
one, for both.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias
from urllib.parse import quote

from nerv.errors import JournalError

Statement: TypeAlias = tuple[str, Sequence[Sequence[Any]]]
"""SQL, and the rows of arguments that it is carried out with."""

PATIENCE: Final = 10.0
"""Seconds to wait for somebody else's lock on the database: readers hold theirs for microseconds."""

_REMEDIES: Final = {
    "SQLITE_FULL": "the disk is full: make room; what was committed before is safe",
    "SQLITE_READONLY": "the file or its folder can't be written: check the permissions",
    "SQLITE_CANTOPEN": "it can't be opened: check the permissions of the file and of its folder",
    "SQLITE_PERM": "it can't be opened: check the permissions of the file and of its folder",
    "SQLITE_BUSY": "another program keeps it locked: end that program (only nerv may write to it)",
    "SQLITE_CORRUPT": "it is damaged: `nerv journal check` says what of it is whole; else go back to a copy",
    "SQLITE_NOTADB": "it is damaged, or no journal: `nerv journal check` says more; else go back to a copy",
    "SQLITE_IOERR": "the disk or file system reported an error: check both, then `nerv journal check`",
}
_ERRORS: Final = (sqlite3.Error, OverflowError, UnicodeError)
_ELSE: Final = "`nerv journal check` says whether it is whole"


class Database:
    """SQLite behind two locks.

    Args:
        path: the file, which exists, from the root; None: in memory.
        read_only: only read; nobody is waited for and nobody has to wait.
    """

    def __init__(self, path: str | None, *, read_only: bool = False) -> None:
        self.name = "the journal in memory" if path is None else f"journal {path}"
        self._owner = os.getpid()
        self._is_synced = True
        self._lock = threading.RLock()
        self._writer: sqlite3.Connection | None = None
        if path is None:
            self._reader = self._writer = _connected(":memory:", uri=False)
            self._read_lock = self._lock
            return
        where = f"file:{quote(path)}"
        try:
            if not read_only:
                self._writer = _connected(f"{where}?mode=rw")
                self._writer.execute("PRAGMA synchronous = FULL")
                self._writer.execute(f"PRAGMA journal_size_limit = {1 << 24}")
            self._reader = _reading(path, where)
            self._read_lock = threading.RLock()
        except _ERRORS as error:
            if self._writer is not None:
                self._writer.close()
            raise self._explanation("be opened", error) from error

    @property
    def is_read_only(self) -> bool:
        """Whether it was opened to be read only."""
        return self._writer is None

    def commit(self, statements: Sequence[Statement], *, sync: bool | None = True) -> None:
        """Carry out statements in one transaction; a single one is a transaction by itself.

        Args:
            statements: what to do, in order.
            sync: whether it must be on disk on return; None: as it was the last time.

        Raises:
            JournalError: it can't be done, and nothing of it was.
        """
        with self._lock:
            writer = self._own()
            try:
                if sync is not None and sync is not self._is_synced:
                    writer.execute(f"PRAGMA synchronous = {'FULL' if sync else 'NORMAL'}")
                    self._is_synced = sync
                if len(statements) == 1 and len(statements[0][1]) == 1:
                    writer.execute(statements[0][0], statements[0][1][0])
                else:
                    _transact(writer, statements)
            except _ERRORS as error:
                raise self._explanation("be written", error) from error

    def rows(self, sql: str, arguments: Sequence[Any] = ()) -> list[Any]:
        """All rows of a query."""
        with self._read_lock:
            try:
                return self._reader.execute(sql, arguments).fetchall()
            except _ERRORS as error:
                raise self._explanation("be read", error) from error

    def some(self, sql: str, arguments: Sequence[Any], size: int, column: int) -> list[Any]:
        """The first rows of a query: as many as make `size` bytes in that column, at least one if there is one."""
        found, total = [], 0
        with self._read_lock:
            try:
                for row in self._reader.execute(sql, arguments):
                    found.append(row)
                    total += 64 + (
                        len(row[column]) if type(row[column]) is bytes else 0
                    )  # a damaged one may be anything
                    if total >= size:
                        break
            except _ERRORS as error:
                raise self._explanation("be read", error) from error
        return found

    def close(self) -> None:
        """Close both connections; what the log holds goes into the file. Closing again does nothing."""
        if self._owner != os.getpid():
            return  # a forked process must leave its parent's connections alone, and its locks may be held for ever
        with self._lock, self._read_lock:
            try:
                self._reader.close()
                if self._writer is not None:
                    self._writer.close()
            except _ERRORS as error:
                raise self._explanation("be closed", error) from error

    def _own(self) -> sqlite3.Connection:
        if self._writer is None:
            raise JournalError(f"{self.name} was opened read_only: open it without, to write to it")
        if self._owner != os.getpid():
            raise JournalError(f"{self.name} belongs to process {self._owner}, which opened it; this is a fork of it")
        return self._writer

    def _explanation(self, what: str, error: Exception) -> JournalError:
        return JournalError(f"{self.name} can't {what}: {remedy(error)}")


def _transact(writer: sqlite3.Connection, statements: Sequence[Statement]) -> None:
    writer.execute("BEGIN IMMEDIATE")
    try:
        for sql, rows in statements:
            if len(rows) == 1:
                writer.execute(sql, rows[0])
            else:
                writer.executemany(sql, rows)
        writer.execute("COMMIT")
    except BaseException:
        if writer.in_transaction:
            writer.execute("ROLLBACK")
        raise


def remedy(error: Exception) -> str:
    """What SQLite said and what to do about it."""
    code = str(getattr(error, "sqlite_errorname", ""))
    for known, advice in _REMEDIES.items():
        if code.startswith(known):
            return f"{advice} (SQLite: {error})"
    if "closed database" in str(error):
        return "it was closed"
    return f"{_ELSE} (SQLite: {error})"


def _reading(path: str, where: str) -> sqlite3.Connection:
    """A connection that only reads. Even that needs the log's files, and makes them if nobody writes; where the folder
    doesn't allow it, there is no log either, and the file alone is all that there is.
    """
    connection = _connected(f"{where}?mode=ro")
    try:
        connection.execute("SELECT 1 FROM sqlite_master").fetchall()
    except sqlite3.Error as error:
        connection.close()
        is_refused = error.sqlite_errorname.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY"))
        if not is_refused or Path(f"{path}-wal").exists():
            raise
        return _connected(f"{where}?immutable=1")
    return connection


def _connected(where: str, *, uri: bool = True) -> sqlite3.Connection:
    connection = sqlite3.connect(where, uri=uri, isolation_level=None, check_same_thread=False, timeout=PATIENCE)
    try:
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
    except sqlite3.Error:
        connection.close()
        raise
    connection.text_factory = _text
    return connection


def _text(data: bytes) -> str:
    """Text as it is; a damaged one is found out by its row's checksum, not here."""
    return data.decode(errors="surrogateescape")
