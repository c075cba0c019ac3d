"""`MemoryJournal`: a journal for tests, and for runs that need recovery within one process only."""

from __future__ import annotations

import weakref

from nerv.journal.database import Database
from nerv.journal.schema import TABLES
from nerv.journal.tables import TableJournal


class MemoryJournal(TableJournal):
    """Keeps executions as long as it lives; it stores values as a file would, so that what works here works there."""

    def __init__(self) -> None:
        database = Database(None)
        database.commit([(sql, [()]) for sql in TABLES.values()])
        run = self.new_run()
        super().__init__(database, run, lambda: run)
        weakref.finalize(self, database.close)

    def __repr__(self) -> str:
        return "<MemoryJournal>"
