"""`FileLock`: one writer to a journal, by the operating system; and who has which journal in this process.

The lock is on a file of its own, `runs.db.lock`: a POSIX record lock, which a process loses when it dies, however it
dies, and which its forks don't have. It also loses it when it closes *any* descriptor of that file, so nobody but
`FileLock` opens it, and not where this process holds it (`owner` looks here first).

The same rule holds for SQLite's own locks on the database: a process that opens the file, reads a few bytes and closes
it, drops the locks of every connection that it has to it. So whoever wants to look at the file first asks `is_open`.
"""

from __future__ import annotations

import fcntl
import os
import struct
import sys
import threading
from pathlib import Path

from nerv.errors import JournalError

_MINE = threading.Lock()  # of the two below, which are the process's, as the locks are
_HELD: dict[str, tuple[int, int]] = {}  # journal -> process and number of the opening that writes to it
_OPEN: dict[str, tuple[int, int]] = {}  # journal -> process, and how often it has it open


class FileLock:
    """The right to write to a journal, from when this is made until `release`.

    Args:
        path: the journal's file, as `real` gives it.
        run: the opening's number, for others to read.

    Raises:
        JournalError: somebody has it; it says who.
    """

    def __init__(self, path: str, run: int) -> None:
        self.path = path
        self._name = f"{path}.lock"
        with _MINE:
            if _HELD.get(path, (0, 0))[0] == os.getpid():
                raise JournalError(
                    f"journal {path} is open for writing in this process ({os.getpid()}) already: use that"
                    " journal or manager, or close it first"
                )
            self._descriptor = self._taken()
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()} {run}\n".encode(), 0)
            _HELD[path] = os.getpid(), run

    def release(self) -> None:
        """Let go of it."""
        if _HELD.get(self.path, (0, 0))[0] != os.getpid():
            return  # a fork has no lock to let go of, and must not wait for a thread that it doesn't have
        with _MINE:
            del _HELD[self.path]
            Path(self._name).unlink(missing_ok=True)
            os.close(self._descriptor)

    def _taken(self) -> int:
        while True:
            try:
                descriptor = os.open(self._name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except OSError as error:
                raise JournalError(
                    f"journal {self.path} can't be locked ({error.strerror}: {self._name}): its folder must be"
                    " writable; to look at it only, open it with read_only=True"
                ) from error
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                said = os.pread(descriptor, 100, 0).split()
                os.close(descriptor)
                who = f"process {int(said[0])}" if said and said[0].isdigit() else "another process"
                raise JournalError(
                    f"journal {self.path} is being written to by {who}: end that first, or speak to it"
                    " (`nerv signal`, `cancel`, `pause`); to look at it only, open it with read_only=True"
                ) from error
            if _is(descriptor, self._name):
                return descriptor
            os.close(descriptor)  # its owner has let go of it and taken it away in between


def real(path: str | os.PathLike[str]) -> str:
    """One name for one file."""
    return os.path.realpath(path)


def owner(path: str) -> int | None:
    """The number of the opening that writes to a journal now; None: nobody does."""
    with _MINE:
        process, run = _HELD.get(path, (0, 0))
        if process == os.getpid():
            return run
        try:
            descriptor = os.open(f"{path}.lock", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None  # it isn't there, or not for us: nobody that we can see
        try:
            said = os.pread(descriptor, 100, 0).split()
            return int(said[1]) if _is_locked(descriptor) and len(said) == 2 else None
        finally:
            os.close(descriptor)


def opened(path: str) -> None:
    """This process is about to open a journal."""
    with _MINE:
        process, count = _OPEN.get(path, (0, 0))
        _OPEN[path] = os.getpid(), (count if process == os.getpid() else 0) + 1


def closed(path: str) -> None:
    """This process has closed it."""
    if _OPEN.get(path, (0, 0))[0] != os.getpid():
        return  # a fork of the process that had it
    with _MINE:
        process, count = _OPEN.pop(path)
        if count > 1:
            _OPEN[path] = process, count - 1


def is_open(path: str) -> bool:
    """Whether this process has a journal open."""
    with _MINE:
        return _OPEN.get(path, (0, 0))[0] == os.getpid()


def _is(descriptor: int, name: str) -> bool:
    try:
        there = Path(name).stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)


def _is_locked(descriptor: int) -> bool:
    """Whether another process has a lock on a file; takes none itself, so nobody is ever refused because of it."""
    if sys.platform == "darwin":  # the C structure: start, length, process, kind, whence
        layout, asked, kind = struct.Struct("qqihh"), (0, 0, 0, fcntl.F_WRLCK, os.SEEK_SET), 3
    else:  # kind, whence, start, length, process
        layout, asked, kind = struct.Struct("hhqqi4x"), (fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0), 0
    answer: bytes = fcntl.fcntl(descriptor, fcntl.F_GETLK, layout.pack(*asked))
    return bool(layout.unpack(answer)[kind] != fcntl.F_UNLCK)
