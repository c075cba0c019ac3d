"""`Execution`: the handle on one run of a workflow: wait for it, steer it, ask it anything."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

from nerv import reports
from nerv.clock import patiently
from nerv.context import LogEntry
from nerv.errors import NervError
from nerv.eventlog import TASK_STARTED, EventLog
from nerv.feeding import FedScheduler, FeederLike
from nerv.following import Events
from nerv.forked import refuse_elsewhere
from nerv.live import Live
from nerv.names import refuse_own
from nerv.pools.thread import lending
from nerv.results import Results
from nerv.statuses import WorkflowStatus
from nerv.workflows import Workflow

if TYPE_CHECKING:
    from nerv.engine import Engine
    from nerv.hub import Hub
    from nerv.projector import PMap


class Execution(Results):
    """One run of a workflow. Everything here may be called from any thread, while it runs and after it has ended."""

    def __init__(self, live: Live | None, manager: Hub) -> None:
        super().__init__()
        if live is not None:
            self._live = live
        self._manager = manager
        self._projector = manager.state_projector
        self._released = False
        self._process = os.getpid()

    def __repr__(self) -> str:
        return f"<Execution {self.id!r} of {self.workflow_name!r}: {self.status.name}>"

    # ---- who it is --------------------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """Its id."""
        return self._live.id

    @property
    def workflow(self) -> Workflow:
        """What it runs; of a run with targets, the selected part."""
        return self._live.workflow

    @property
    def workflow_name(self) -> str:
        """Its workflow's name."""
        return self._live.workflow.name

    @property
    def status(self) -> WorkflowStatus:
        """Where it is now."""
        return self._live.scheduler.status

    @property
    def params(self) -> Mapping[str, Any]:
        """What it was given."""
        return self._live.params

    @property
    def log(self) -> EventLog:
        """Its events, as the engine keeps them."""
        return self._live.log

    @property
    def _engine(self) -> Engine:
        """Who runs it, to be asked for something.

        Raises:
            NervError: that is the process from which this one was forked.
        """
        refuse_elsewhere(self._process, f"execution {self.id!r}")
        return self._live.engine

    # ---- waiting and steering ---------------------------------------------------------------------------------------

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has ended and plain event handlers have been given every event; doesn't raise when it failed.

        Inside a task the worker's slot is lent out meanwhile. Inline tasks run here, in the thread that waits.

        Args:
            timeout: seconds; None: as long as it takes.

        Returns:
            Whether it has ended.

        Raises:
            JournalError: the caller is code of a value that is just being pickled for the journal, where the end goes.
            NervError: it hasn't ended, and is run by the process from which this one was forked.
        """
        live = self._live
        if not live.ended.is_set():
            recorder = self._engine.recorder
            if recorder is not None:
                recorder.check_outside(live)
            with lending():
                ended = (
                    live.inline.serve(live.ended.is_set, timeout)
                    if live.inline is not None
                    else patiently(live.ended.wait, timeout)
                )
            if not ended:
                return False
        if os.getpid() == self._process:  # else nobody is left who could tell handlers
            self._manager.settled(live)
        return True

    async def wait_async(self) -> None:
        """`wait` for coroutines: the event loop goes on meanwhile, and inline tasks run in it.

        Inside a coroutine task its place is lent out meanwhile.

        Raises:
            NervError: it is run by the process from which this one was forked.
        """
        import asyncio

        from nerv.pools.coroutine import lending_place

        live = self._live
        refuse_elsewhere(self._process, f"execution {self.id!r}")
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def tell() -> None:
            with suppress(RuntimeError):  # the loop was closed: nobody waits any more
                loop.call_soon_threadsafe(done.set)

        async with lending_place():
            with nullcontext() if live.inline is None else live.inline.served_by(loop.call_soon_threadsafe):
                self._manager.when_settled(live, tell)
                await done.wait()

    def cancel(self, reason: str = "") -> bool:
        """Start nothing more but cleanup, and tell what runs to stop; after `grace` it is given up.

        Returns:
            False if it had ended or was being cancelled already.
        """
        return self._written(self._engine.cancel(self._live, reason))

    def pause(self) -> bool:
        """Start nothing more until `resume`; what runs goes on to its end. False: it wasn't RUNNING."""
        return self._written(self._engine.pause(self._live))

    def resume(self) -> bool:
        """Go on after `pause`. False: it wasn't PAUSED."""
        return self._written(self._engine.resume(self._live))

    def reprioritize(self, task_id: str, priority: int) -> bool:
        """Change a task's priority from now on; a TASK_REPRIORITIZED event.

        Returns:
            False if the task has ended.

        Raises:
            UnknownIdError: no such task.
            TypeError: the priority is no int.
        """
        if isinstance(priority, bool) or not isinstance(priority, int):
            raise TypeError(f"a priority is a TaskPriority or an int, not {priority!r}")
        if self._live.is_folded(task_id):
            return False
        return self._engine.reprioritize(self._live, self._number(task_id), priority)

    def signal(self, name: str, value: Any = None) -> bool:
        """Send a signal: it opens the gate of that id, or whatever else waits for that name. It is kept until somebody
        does. All signals of an execution have one namespace, and of several of one name the first counts.

        Returns:
            False if one of that name had come before.

        Raises:
            TypeError: the name is no str.
            SerializationError: there is a journal, and the value can't be stored in it.
            NervError: the execution has ended, so nobody can be waiting for it; or the name is one of nerv's own.
        """
        if not isinstance(name, str):
            raise TypeError(f"a signal's name is a str, such as the id of a Gate, not {name!r}")
        refuse_own(name)
        engine, scheduler = self._engine, self._live.scheduler
        if isinstance(scheduler, FedScheduler) and name == scheduler.signal:
            value = scheduler.feeder.packed(value)
        elif self._live.kept is not None:
            from nerv.journal.codec import encode_all

            encode_all({name: value}, "signal")
        came_first = engine.signal(self._live, name, value)
        self._written(True)  # noqa: FBT003  also one that came too late is a fact
        return came_first

    def send(self, message: Any) -> str:
        """Send a message through a fed flow; returns the id of its lane. With a journal the message is on disk then.

        Raises:
            NervError: it isn't fed, was closed, or has ended.
            SerializationError: the journal can't keep the message; it wasn't sent.
        """
        lane_id = self._feeder("send").send(message, is_awaited=True)
        self._written(True)  # noqa: FBT003  as in signal
        return lane_id

    def close(self) -> bool:
        """A fed flow gets no more messages; it ends when those that came have. False: it was closed, or had ended.

        Raises:
            NervError: it isn't fed.
        """
        if self._is_stored and self.status.is_final:
            return False
        return self._written(self._feeder("close").close())

    @property
    def _is_stored(self) -> bool:
        """Whether it is only looked at: it is in the journal, and nothing of it runs here."""
        return not self._live.pools

    def _feeder(self, call: str) -> FeederLike:
        scheduler = self._live.scheduler
        if not isinstance(scheduler, FedScheduler):
            if self._is_stored:
                text = f"execution {self.id!r} is {self.status.name}"
                if self.status.is_final:
                    raise NervError(f"{text}, so it takes no more messages; start another one")
                raise NervError(f"{text}, where {call}() doesn't reach it; manager.recover() goes on with it")
            text = f"execution {self.id!r} isn't fed, so it has no {call}(); write Flow(name).triggered_by(Manual())"
            raise NervError(text)
        refuse_elsewhere(self._process, f"execution {self.id!r}")
        return scheduler.feeder

    def waiting(self) -> list[reports.Waiting]:
        """What it waits for now, other than running tasks: each WAITING task with its reason, and until when."""
        with self._live.engine.lock:
            return reports.waiting(self._live)

    def _written(self, done: bool) -> bool:  # noqa: FBT001  it is handed through
        """What was done is in the journal, if there is one, before whoever asked for it goes on."""
        recorder = self._live.engine.recorder
        if done and recorder is not None:
            recorder.wait(self._live)
        return done

    # ---- looking --------------------------------------------------------------------------------------------------

    def events(self, follow: bool = False) -> Events:  # noqa: FBT001, FBT002  events(True) reads well enough
        """Its events in `seq` order, for `for` and `async for`; `follow=True` goes on until it has ended.

        Raises:
            NervError: they are to be followed, in a process that was forked from the one that runs it.
        """
        if follow and not self._live.ended.is_set():
            refuse_elsewhere(self._process, f"execution {self.id!r}")
        return Events(self._live, follow=follow)

    @property
    def state(self) -> PMap[str, Any]:
        """The execution's own state map, with every event recorded until now."""
        return self._shown(lambda projector: projector.execution_state(self.id))

    def at(self, seq: int) -> PMap[str, Any]:
        """The state map as it was after the event `seq` (0: before the first)."""
        return self._shown(lambda projector: projector.at(self.id, seq))

    def project(self, name: str) -> Any:
        """A projection of this execution: `task_status`, `completed_tasks`, `progress` ..., or one of your own."""
        return self._shown(lambda projector: projector.project(name, execution=self.id))

    def logs(self, task_id: str | None = None) -> list[LogEntry]:
        """What tasks (or one of them) wrote through `ctx.logger`, in order; the last 10,000 lines are kept.

        Raises:
            UnknownIdError: no such task.
        """
        if task_id is not None and not self._live.is_folded(task_id):
            self._number(task_id)
        return [entry for entry in list(self._live.logs) if task_id is None or entry.task_id == task_id]

    @property
    def sequence(self) -> list[str]:
        """Task ids in the order in which they started (each attempt once)."""
        page = self._live.log.page
        return [str(page.ids[record[1]]) for record in page.records[:] if record[0] == TASK_STARTED]

    def summary(self) -> str:
        """A text table: status, figures, the failures, and the slowest tasks."""
        return reports.summary(self)

    def to_trace(self, path: str) -> None:
        """Write a trace for Perfetto or chrome://tracing: one track for each slot, one bar for each attempt."""
        reports.write_trace(self._live.log, path)

    def report(self) -> dict[str, Any]:
        """Status, times, results and error as one dict, as far as they are known."""
        return reports.execution_report(self)

    def release(self) -> None:
        """Told by the manager that it forgets this execution: the handle keeps a state of its own from now on."""
        if not self._released:
            self._released = True
            self._projector = self._projector.apart(self._live.log, workflow_id=self._live.workflow_id)
