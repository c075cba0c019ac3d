"""What the commands share: how they speak, and how they end."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import IO, Final

from nerv.progress.tally import writable

COMPLETED: Final = 0
FAILED: Final = 1
REFUSED: Final = 2
CANCELLED: Final = 3
INTERRUPTED: Final = 130


def say(text: str) -> None:
    """Write text to stdout. If nobody reads it any more (`| head`), nothing more is written there."""
    _write(sys.stdout, text)


def complain(text: str) -> None:
    """Write text to stderr."""
    _write(sys.stderr, text)


def _write(stream: IO[str], text: str) -> None:
    try:
        stream.write(writable(f"{text}\n", stream))
        stream.flush()
    except BrokenPipeError:
        # Python would try to write the rest when it ends, and complain: let it write it to nowhere.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


@contextmanager
def stdout_kept_clean(wanted: bool) -> Iterator[None]:
    """What is printed inside, also by worker processes, goes to stderr, if that is wanted."""
    if not wanted:
        yield
        return
    try:
        ours, theirs = sys.stdout.fileno(), sys.stderr.fileno()
    except io.UnsupportedOperation:  # somebody's stand-ins, which no other process writes to
        with redirect_stdout(sys.stderr):
            yield
        return
    sys.stdout.flush()
    kept = os.dup(ours)
    os.dup2(theirs, ours)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, ours)
        os.close(kept)
