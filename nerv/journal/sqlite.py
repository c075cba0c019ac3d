"""`SqliteJournal`: a journal in one file, which survives whatever happens to its process."""

from __future__ import annotations

import os
import weakref
from functools import partial

from nerv.errors import JournalError
from nerv.journal import files, lock
from nerv.journal.database import Database
from nerv.journal.lock import FileLock
from nerv.journal.tables import TableJournal


class SqliteJournal(TableJournal):
    """Keeps executions in a SQLite database, one writer at a time, any number of readers beside it.

    What was committed survives the death of the process, and of the machine (`synchronous = FULL`). The right to write
    belongs to this object until `close`, or the end of the process, however it ends.

    Args:
        path: the file; it is made if it isn't there.
        read_only: only look: takes no lock and holds nobody up. The file must be there.

    Raises:
        JournalError: the folder is missing, the file isn't a journal or is a newer nerv's (it isn't touched then),
            somebody else is writing to it, or an execution in it that hasn't ended is damaged.
    """

    def __init__(self, path: str | os.PathLike[str], read_only: bool = False) -> None:  # noqa: FBT001, FBT002  API
        if not os.fspath(path) or os.fspath(path) == ":memory:":
            raise JournalError(f"a journal's path can't be {os.fspath(path)!r}: for one in memory say MemoryJournal()")
        self.path = lock.real(path)
        self.read_only = read_only
        self._let_go: weakref.finalize[..., SqliteJournal] | None = None
        files.place(self.path)
        run = self.new_run()
        held = None if read_only else FileLock(self.path, run)
        database: Database | None = None
        try:
            is_known = lock.is_open(
                self.path
            )  # then it has been looked at, and mustn't be again: see nerv.journal.lock
            if not is_known and files.is_new(self.path):
                if read_only:
                    raise JournalError(f"journal {self.path} doesn't exist: nothing can be read from it")
                files.create(self.path)
            elif not read_only:
                files.writable(self.path)
            database = Database(self.path, read_only=read_only)
            lock.opened(self.path)
            files.tables(self.path, database)
            super().__init__(database, run, partial(lock.owner, self.path) if read_only else lambda: run)
            if not read_only:
                self._verify()
        except BaseException:
            _let_go(database, held, self.path)
            raise
        self._let_go = weakref.finalize(self, _let_go, database, held, self.path)

    def __repr__(self) -> str:
        return f"<SqliteJournal {self.path}{' (read only)' if self.read_only else ''}>"

    def _verify(self) -> None:
        """Refuse to go on beside an execution that hasn't ended and isn't whole."""
        for entry in self._reading.entries("ended IS NULL"):
            self._reading.verify(entry)

    def close(self) -> None:
        """Finish the housekeeping, and let go of the file and the right to write. Closing again does nothing."""
        with self._lock:
            if self._let_go is None or not self._let_go.alive:
                return
            try:
                self._finish()
            finally:
                self._let_go()


class DamagedJournal(SqliteJournal):
    """A journal opened without looking whether it is whole, so that what isn't can be discarded."""

    def _verify(self) -> None:
        """Take it as it is."""


def _let_go(database: Database | None, held: FileLock | None, path: str) -> None:
    try:
        if database is not None:
            database.close()
    finally:
        if database is not None:
            lock.closed(path)
        if held is not None:
            held.release()
