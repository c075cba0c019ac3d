"""The tables of a journal, and what makes a file one.

`executions` is the directory: small rows, so that it can be read whole. Everything else about an execution is in its
frames. `status` is NULL while it runs, PAUSED while it is paused, then what it ended as; `run` says which opening of
the journal wrote it last; `last` is how many records it ended with. `tidy` is only a hint for housekeeping.

Every row carries a CRC-32 over what it means, and nothing is believed without it.
"""

from __future__ import annotations

import zlib
from typing import Any, Final, NamedTuple

from nerv.journal.codec import ENCODER

APPLICATION_ID: Final = 0x6E657276  # "nerv"
VERSION: Final = 1

TABLES: Final = {
    "executions": (
        "CREATE TABLE executions (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL,"
        " status TEXT, started REAL, ended REAL, run INTEGER NOT NULL, last INTEGER NOT NULL,"
        " checksum INTEGER NOT NULL, tidy INTEGER NOT NULL DEFAULT 0)"
    ),
    "frames": (
        "CREATE TABLE frames (key INTEGER PRIMARY KEY, first_seq INTEGER NOT NULL, count INTEGER NOT NULL,"
        " span INTEGER NOT NULL, checksum INTEGER NOT NULL, body BLOB NOT NULL)"
    ),
    "orders": (
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, execution TEXT NOT NULL, body BLOB NOT NULL,"
        " checksum INTEGER NOT NULL)"
    ),
    "facts": (
        "CREATE TABLE facts (owner TEXT NOT NULL, name TEXT NOT NULL, body BLOB NOT NULL, checksum INTEGER NOT NULL,"
        " PRIMARY KEY (owner, name)) WITHOUT ROWID"
    ),
    "deliveries": (
        "CREATE TABLE deliveries (id INTEGER PRIMARY KEY, lane TEXT NOT NULL, letter BLOB NOT NULL,"
        " checksum INTEGER NOT NULL, progress BLOB NOT NULL, progress_checksum INTEGER NOT NULL)"
    ),
    "lanes": "CREATE TABLE lanes (lane TEXT PRIMARY KEY, ended REAL NOT NULL) WITHOUT ROWID",
}


def checksum(*parts: Any) -> int:
    """CRC-32 of a row's parts: numbers, texts, bytes, None."""
    return zlib.crc32(ENCODER.encode(parts))


def is_whole(written: Any, *parts: Any) -> bool:
    """Whether a row's parts are what they were when its checksum was written."""
    try:
        return bool(written == checksum(*parts))
    except UnicodeEncodeError:  # a text isn't text any more
        return False


class Entry(NamedTuple):
    """A row of the table `executions`, without the hint."""

    number: int
    id: str
    name: str
    status: str | None
    started: float | None
    ended: float | None
    run: int
    last: int
    checksum: int

    @property
    def is_whole(self) -> bool:
        """Whether it is what was written."""
        return is_whole(self.checksum, *self[:-1])


ENTRY: Final = ", ".join(Entry._fields)
"""The columns of an `Entry`, for a SELECT."""
