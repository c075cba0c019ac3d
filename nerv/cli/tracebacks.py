"""Tracebacks as the author of a workflow wants to see them: without the frames of nerv and of the import system."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Final

import nerv
from nerv.errors import NervError

_OURS: Final = (f"{Path(nerv.__file__).parent}/", "<frozen importlib", "<frozen runpy")
_IMPORTLIB: Final = "/importlib/__init__.py"


def shortened(error: BaseException) -> str:
    """The error and where it came from, cut to the user's frames; causes likewise.

    Of nerv's own errors the message is enough; the last of the user's lines is said before it.
    """
    report = traceback.TracebackException.from_exception(error, compact=True)
    if isinstance(error, NervError):
        frames = _users(report.stack)
        where = f"{frames[-1].filename}, line {frames[-1].lineno}: " if frames else ""
        return f"{where}{error}"
    _cut(report, set())
    return "".join(report.format()).rstrip()


def _cut(report: traceback.TracebackException, seen: set[int]) -> None:
    if id(report) in seen:
        return
    seen.add(id(report))
    report.stack = _users(report.stack)
    for other in (report.__cause__, report.__context__, *(report.exceptions or ())):
        if other is not None:
            _cut(other, seen)


def _users(stack: traceback.StackSummary) -> traceback.StackSummary:
    return traceback.StackSummary.from_list([frame for frame in stack if not _is_ours(frame.filename)])


def _is_ours(filename: str) -> bool:
    return filename.startswith(_OURS) or filename.endswith(_IMPORTLIB)
