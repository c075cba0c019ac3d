"""`RestartOrchestrator`: restart a program in place, without losing what it was doing.

Drain, persist, stop, exec, boot with recovery, verify. What runs is given time to end; the journal is told how many
events it holds of each execution; the manager is closed, which leaves unfinished executions resumable; the program
takes its own place (`os.execv`, so the process id stays). The new one recovers, and compares what the journal holds
with what it was told.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, NoReturn

from nerv.errors import ConfigError, JournalError, near
from nerv.journal.base import Batch, Fact

if TYPE_CHECKING:
    from nerv.journal.base import Journal
    from nerv.manager import WorkflowManager

_OWNER: Final = "nerv:restart"
_COUNTS: Final = "counts"


class RestartOrchestrator:
    """Restarts the program that runs a manager.

    Args:
        manager: one with a journal.
        drain: seconds that what runs is given to end; None: as long as it takes.
        command: what takes the program's place; default: the command that it was started with.

    Raises:
        JournalError: the manager has no journal, so a restart would lose what it does.
    """

    def __init__(
        self, manager: WorkflowManager, *, drain: float | None = 30.0, command: Sequence[str] | None = None
    ) -> None:
        if manager.journal is None:
            raise JournalError('a manager without a journal has nothing to go on from; give it one: journal="runs.db"')
        self.manager = manager
        self.command = list(command) if command is not None else [sys.executable, *sys.orig_argv[1:]]
        self._journal: Journal = manager.journal
        self._drain = drain

    def restart(self, *, ignoring: str | None = None) -> NoReturn:
        """Drain, persist, stop, and exec. It doesn't return; recover and `verify` in the new program.

        Args:
            ignoring: a signal that the new program ignores until it says otherwise: it would end it while it starts.
        """
        self.stop()
        if ignoring is not None:
            signal.signal(signal.Signals[ignoring], signal.SIG_IGN)
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(self.command[0], self.command)  # noqa: S606  this very program, or what the caller says

    def stop(self) -> dict[str, int]:
        """Drain, persist and stop; gives how many events the journal holds of each execution."""
        self.manager.drain(self._drain)
        self.manager.persist()
        counts = counted(self._journal)
        fact = Fact(_OWNER, _COUNTS, {"counts": counts, "at": time.time()})
        self._journal.write(Batch(facts=[fact]))
        self.manager.close()
        return counts

    def verify(self) -> dict[str, int]:
        """In the new program: compare what the journal holds with what the last one told it.

        Returns:
            How many events there were of each execution; empty if this is no restart.

        Raises:
            JournalError: events are missing; it says of which executions.
        """
        told = self._journal.facts(_OWNER).get(_COUNTS)
        if told is None:
            return {}
        before: dict[str, int] = told["counts"]
        now = counted(self._journal)
        lost = [
            f"{one!r} ({now.get(one, 0)} of {count} events)" for one, count in before.items() if now.get(one, 0) < count
        ]
        if lost:
            raise JournalError(f"after the restart the journal holds less than before: {', '.join(lost)}")
        self._journal.write(Batch(facts=[Fact(_OWNER, _COUNTS, None)]))
        return before


def counted(journal: Journal) -> dict[str, int]:
    """How many events a journal holds of each execution that hasn't ended."""
    return {record.id: sum(1 for _ in journal.events(record.id)) for record in journal.unfinished()}


class RestartRequested(BaseException):
    """Raised in the main thread when the signal arrives that asks for a restart."""


@contextmanager
def restarting_on(name: str) -> Iterator[None]:
    """Meanwhile a signal such as SIGHUP raises `RestartRequested` in the main thread.

    Raises:
        ConfigError: this system has no such signal.
    """
    known = [one.name for one in signal.Signals]
    if name not in known:
        raise ConfigError(f"this system has no signal {name!r}{near(name, known)}, so nothing can be reloaded on it")

    def ask(_: int, __: FrameType | None) -> None:
        raise RestartRequested

    number = signal.Signals[name]
    before: Callable[..., Any] | int | None = signal.signal(number, ask)
    try:
        yield
    finally:
        signal.signal(number, before if before is not None else signal.SIG_DFL)
