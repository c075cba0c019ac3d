"""Where executions are kept: `SqliteJournal` in a file, `MemoryJournal` for as long as it lives.

`base.py` says what a journal is to the engine; `codec.py` how values become bytes; the other modules are the tables.
"""
