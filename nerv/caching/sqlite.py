"""Results in a SQLite file, which several processes share.

A row is a key, the pickled result and a checksum over both. The file is in WAL mode, so whoever reads waits for nobody;
who writes waits up to `BUSY` seconds for other writers. Nothing that goes wrong with an entry or with the file while
work is running costs more than computing a result again: it is a miss, and is logged once. Only opening raises.

The file's first page says whose it is, and is read before SQLite opens the file, so a foreign one isn't touched.
"""

from __future__ import annotations

import hashlib
import logging
import pickle
import sqlite3
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from nerv.caching.stores import MISS, Entry, is_good
from nerv.errors import ConfigError, described

APPLICATION: Final = 0x6E766361  # "nvca"
FORM: Final = 1
BUSY: Final = 5.0
"""Seconds to wait for another process that is writing."""

_log: Final = logging.getLogger("nerv.cache")
_MAGIC: Final = b"SQLite format 3\0"
_TABLE: Final = """CREATE TABLE entries (
    key TEXT PRIMARY KEY, function TEXT NOT NULL, kept_at REAL NOT NULL, expires_at REAL,
    checksum BLOB NOT NULL, value BLOB NOT NULL
)"""
_SCHEMA: Final = (
    _TABLE,
    "CREATE INDEX expiry ON entries (expires_at) WHERE expires_at IS NOT NULL",
    f"PRAGMA application_id = {APPLICATION}",
    f"PRAGMA user_version = {FORM}",
)
_LISTING: Final = "SELECT key, function, kept_at, expires_at, length(value) FROM entries ORDER BY kept_at DESC"
_CLEARING: Final = "DELETE FROM entries WHERE (? IS NULL OR function = ?) AND (? IS NULL OR expires_at <= ?)"
T = TypeVar("T")


class Kept(NamedTuple):
    """What a listing says of an entry: `size` in bytes, moments in epoch seconds (`expires_at` None: never)."""

    key: str
    function: str
    kept_at: float
    expires_at: float | None
    size: int


class SqliteStore:
    """The cache file.

    Two connections, each with a lock of its own: a thread that waits to write doesn't hold up those that read.

    Args:
        path: the file; its folder must be there.
        create: whether it may be a new one.

    Raises:
        ConfigError: the folder isn't there, the file isn't a cache file or can't be opened; it is left as it is.
    """

    def __init__(self, path: str, *, create: bool = True) -> None:
        self.path = path
        self._file = Path(path).absolute()  # ":memory:" is a name like any other, and a program may change its folder
        _look_at(path, create=create)
        self._reading, self._writing = threading.Lock(), threading.Lock()
        self._told: set[str] = set()
        self._closed = False
        try:
            with ExitStack() as opened:
                self._writer = opened.enter_context(closing(self._connect()))
                self._prepare()
                self._reader = opened.enter_context(closing(self._connect()))
                opened.pop_all()
        except sqlite3.Error as error:
            raise ConfigError(f"cache: {path!r} can't be opened as a cache file: {error}; choose another") from error

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._file, timeout=BUSY, isolation_level=None, check_same_thread=False)
        with ExitStack() as opened:
            opened.enter_context(closing(connection)).execute("PRAGMA synchronous = NORMAL")
            opened.pop_all()
        return connection

    def _prepare(self) -> None:
        """Make the tables, if no other process has. They come before WAL: until then all is in the file's own pages."""
        write = self._writer.execute
        if not self._is_ours():
            write("BEGIN IMMEDIATE")
            if not self._is_ours():
                for statement in _SCHEMA:
                    write(statement)
            write("COMMIT")
        try:
            write("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            # several processes that open a new file at once get in each other's way here; one of them succeeds
            _log.debug("cache file %r isn't in WAL mode yet: %s", self.path, error)

    def _is_ours(self) -> bool:
        return bool(self._writer.execute("PRAGMA application_id").fetchone()[0] == APPLICATION)

    # ---- Store ------------------------------------------------------------------------------------------------------

    def get(self, key: str, ttl: float | None, now: float) -> Any:
        """The result, or `MISS`."""
        row = self._tried(lambda: self._read(key))
        if row is None:
            return MISS
        kept_at, checksum, data = row
        if not is_good(kept_at, ttl, now):
            return MISS
        try:
            if checksum != _checksum(key, data):
                raise ValueError("its bytes have changed")
            return pickle.loads(data)
        except Exception as error:  # noqa: BLE001  unpickling may run into anything
            _log.warning("an entry of the cache file %r can't be read and is dropped: %s", self.path, described(error))
            self._tried(lambda: self._write([("DELETE FROM entries WHERE key = ?", (key,))]))
        return MISS

    def put(self, key: str, value: Any, entry: Entry, now: float) -> None:
        """Keep a result, and drop what has expired."""
        try:
            data = pickled(value)
        except Exception as error:  # noqa: BLE001  pickling may run into anything
            self._tell(entry.function, f"a result of {entry.function} can't be kept in it: {described(error)}")
            return
        expires_at = None if entry.ttl is None else now + entry.ttl
        row = key, entry.function, now, expires_at, _checksum(key, data), data
        self._tried(
            lambda: self._write(
                [
                    ("DELETE FROM entries WHERE expires_at <= ?", (now,)),
                    ("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?, ?)", row),
                ]
            )
        )

    def close(self) -> None:
        """Close the file."""
        with self._reading, self._writing:
            self._closed = True
            self._reader.close()
            self._writer.close()

    # ---- for `nerv cache` -------------------------------------------------------------------------------------------

    def entries(self) -> list[Kept]:
        """All entries, the newest first.

        Raises:
            ConfigError: the file can't be read.
        """
        with self._reading:
            return [Kept(*row) for row in self._spoken(lambda: self._reader.execute(_LISTING).fetchall())]

    def clear(self, *, function: str | None = None, expired_at: float | None = None) -> int:
        """Drop all entries, or those of a function, or those that have expired by then; returns how many.

        Raises:
            ConfigError: the file can't be written.
        """
        chosen = function, function, expired_at, expired_at
        with self._writing:
            count = self._spoken(lambda: self._writer.execute(_CLEARING, chosen).rowcount)
            try:
                self._writer.execute("VACUUM")
            except sqlite3.OperationalError as error:  # somebody else is using the file: the room is used again later
                _log.debug("cache file %r keeps its size: %s", self.path, error)
        return count

    # ---- how --------------------------------------------------------------------------------------------------------

    def _read(self, key: str) -> Any:
        with self._reading:
            if self._closed:
                return None
            query = "SELECT kept_at, checksum, value FROM entries WHERE key = ?"
            return self._reader.execute(query, (key,)).fetchone()

    def _write(self, statements: list[tuple[str, tuple[Any, ...]]]) -> None:
        with self._writing:
            if self._closed:  # a task that was abandoned has come back
                return
            with self._writer:
                self._writer.execute("BEGIN IMMEDIATE")
                for statement, values in statements:
                    self._writer.execute(statement, values)

    def _tried(self, act: Callable[[], T]) -> T | None:
        try:
            return act()
        except (sqlite3.Error, OverflowError) as error:  # the latter: a result of more than 2 GiB
            self._tell("", f"{described(error)}; results are computed again instead")
        return None

    def _spoken(self, act: Callable[[], T]) -> T:
        try:
            return act()
        except sqlite3.Error as error:
            raise ConfigError(f"the cache file {self.path!r} can't be used: {error}") from error

    def _tell(self, about: str, what: str) -> None:
        if about not in self._told:
            self._told.add(about)
            _log.warning("the cache file %r: %s", self.path, what)


def _look_at(path: str, *, create: bool) -> None:
    """Refuse what is no cache file, without touching it."""
    try:
        with open(path, "rb") as file:
            head = file.read(100)
    except FileNotFoundError:
        folder = Path(path).parent
        if not folder.is_dir():
            raise ConfigError(f"cache: the folder {str(folder)!r} of {path!r} isn't there; make it first") from None
        if not create:
            raise ConfigError(f"there is no cache file {path!r}") from None
        return
    except OSError as error:
        raise ConfigError(f"cache: {path!r} can't be opened as a cache file: {error.strerror}") from error
    if not head:
        return
    application, form = int.from_bytes(head[68:72], "big"), int.from_bytes(head[60:64], "big")
    if not head.startswith(_MAGIC) or application != APPLICATION:
        raise ConfigError(f"cache: {path!r} is there already and is no cache file; choose another path")
    if form > FORM:
        raise ConfigError(f"cache: {path!r} was made by a newer nerv (form {form}); choose another path, or delete it")


def _checksum(key: str, data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16, key=key.encode()).digest()


def pickled(value: Any) -> bytes:
    """The value by pickle, or by cloudpickle if pickle can't.

    Raises:
        Exception: whatever pickling the value raises, if cloudpickle can't either.
    """
    try:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception:  # noqa: BLE001  cloudpickle may do, or say why not
        import cloudpickle

        return bytes(cloudpickle.dumps(value, pickle.HIGHEST_PROTOCOL))
