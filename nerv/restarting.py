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
import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self

from nerv.errors import ConfigError, JournalError, UnknownIdError, near
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

    def restart(self, *, holding: str | None = None) -> NoReturn:
        """Drain, persist, stop, and exec. It doesn't return; recover and `verify` in the new program.

        Args:
            holding: a signal that is held back from now on until the new program is ready for it (`Restarting`):
                it would end it while it starts. Only the main thread can say so for all.
        """
        self.stop()
        self.replace(holding=holding)

    def replace(self, *, holding: str | None = None) -> NoReturn:
        """The second half of `restart`: after `stop`, the program's place is taken."""
        if holding is not None:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.Signals[holding]})
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
        held = {one: self._held(one) for one in before}
        lost = [f"{one!r} ({held[one]} of {count} events)" for one, count in before.items() if held[one] < count]
        if lost:
            raise JournalError(f"after the restart the journal holds less than before: {', '.join(lost)}")
        self._journal.write(Batch(facts=[Fact(_OWNER, _COUNTS, None)]))
        return before

    def _held(self, execution_id: str) -> int:
        """How many events the journal holds of an execution."""
        try:
            return sum(1 for _ in self._journal.events(execution_id))
        except UnknownIdError:
            return 0


class RestartRequested(BaseException):
    """Everything was stopped for a restart: whoever catches it tidies up, then has `orchestrator` replace it."""

    def __init__(self, orchestrator: RestartOrchestrator) -> None:
        super().__init__("a restart was asked for")
        self.orchestrator = orchestrator


class Restarting:
    """Runs an execution in the main thread under a signal that asks for a restart. A context manager.

    The signal's handler only puts a note into a queue, which is all that is safe wherever the main thread happens to
    be, also inside a task's function. A thread of its own finds it, and drains and stops; that ends the main thread's
    wait, and `RestartRequested` is raised there.

    Args:
        name: the signal, such as SIGHUP.
        orchestrator: who restarts.

    Raises:
        ConfigError: this system has no such signal.
    """

    def __init__(self, name: str, orchestrator: RestartOrchestrator) -> None:
        known = [one.name for one in signal.Signals]
        if name not in known:
            text = f"this system has no signal {name!r}{near(name, known)}, so nothing can be reloaded on it"
            raise ConfigError(text)
        self._number = signal.Signals[name]
        self._orchestrator = orchestrator
        self._notes: SimpleQueue[bool] = SimpleQueue()
        self._before: Callable[..., Any] | int | None = None
        self._error: BaseException | None = None
        self._was_asked = False
        self._thread = threading.Thread(target=self._watch, name="nerv-restart", daemon=True)

    def __enter__(self) -> Self:
        self._before = signal.signal(self._number, self._ask)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {self._number})
        return self

    def __exit__(self, *_: object) -> None:
        self._leave_off()
        signal.signal(self._number, self._before if self._before is not None else signal.SIG_DFL)

    def attend(self) -> None:
        """The execution has been started: from now on a restart may be carried out. Who asked before waits till now."""
        self._thread.start()

    def restart_if_asked(self) -> None:
        """When the execution's wait has ended: see whether that is why. The signal is held back from then on.

        Raises:
                RestartRequested: it was asked for, and everything has been stopped.
            JournalError: it couldn't be stopped as it should be.
        """
        self._leave_off()
        if self._error is not None:
            raise self._error
        if self._was_asked:
            signal.pthread_sigmask(signal.SIG_BLOCK, {self._number})
            raise RestartRequested(self._orchestrator)

    def _leave_off(self) -> None:
        """Nobody can ask any more; who has is served."""
        self._notes.put(False)  # noqa: FBT003  no restart
        if self._thread.ident is not None:
            self._thread.join()

    def _ask(self, _: int, __: FrameType | None) -> None:
        self._notes.put(True)  # noqa: FBT003  a restart is asked for

    def _watch(self) -> None:
        if not self._notes.get():
            return
        self._was_asked = True
        try:
            self._orchestrator.stop()
        except BaseException as error:  # noqa: BLE001  the main thread raises it
            self._error = error
            self._orchestrator.manager.close()


def counted(journal: Journal) -> dict[str, int]:
    """How many events a journal holds of each execution that hasn't ended."""
    return {record.id: sum(1 for _ in journal.events(record.id)) for record in journal.unfinished()}
