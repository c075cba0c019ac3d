"""`DaskPool`: calls run on the workers of a Dask cluster, and their results stay there.

Theory of operation. One thread, the desk, started with the first work, takes calls from the engine, sends them in
batches, and takes in what the cluster says: the ends of its futures, and events of ours (nerv/pools/dask_worker.py). It
sleeps at its inbox; everybody else (the engine, Dask's threads) only leaves notes there.

**Ahead.** A call's way to a worker and back takes several milliseconds, so each worker thread has some calls in line.
They are claims: a call starts, for the engine, when its worker says that its function begins.

**Results** are futures. A task of the same pool that reads one is sent the future's key, and Dask has it moved from
worker to worker; all others get a `Far`, which the execution's values fetch when somebody reads them.

**Dying.** Dask doesn't run our tasks again when their worker dies (`OneLife`): nerv's policies decide. Calls that had
begun have failed; those that were in line are sent again and use up no attempt (`Deaths`).
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from nerv.calls import Call
from nerv.context import LogEntry
from nerv.errors import NervError, TaskCancelledError, WorkerCrashedError
from nerv.functions import is_coroutine_function
from nerv.pools.base import Source
from nerv.pools.dask_cluster import CENSUS, Cluster
from nerv.pools.dask_orders import Deaths, Orders, Ticket
from nerv.pools.script import too_soon
from nerv.tasks import TaskDef

if TYPE_CHECKING:
    from distributed import Future

AHEAD: Final = 12
"""Calls in line for each of the cluster's threads, beside the one that it runs. Measured with calls of 0 and 10 ms."""
LAST_WORD: Final = 0.1
"""Seconds after the first news of a worker's death in which the rest of it comes."""


class DaskPool:
    """Runs calls on a Dask cluster.

    Args:
        name: the pool's.
        workers: worker processes of a cluster of our own; with an address, how many calls run at once (0: as many as
            the cluster has threads).
        address: the scheduler's; None: a cluster of our own on this machine.
    """

    kind = "dask"
    counts_running = False
    attended = False
    tells_start = True
    may_block = False
    left_behind = 0

    def __init__(self, name: str, workers: int, address: str | None = None) -> None:
        self.name = name
        self.limit = 1  # calls that are sent at once; set when the cluster's threads are counted
        self.running = 0
        self.cluster = Cluster(address, workers)
        self._most = workers if address is not None else 0
        self._source: Source
        self._door = threading.Lock()  # guards the four below: it opens once, and not any more after `close`
        self._is_open = False
        self._trouble: str | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self._called = False
        self._inbox: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._prefix = f"nerv-{os.urandom(4).hex()}"
        self._orders = Orders(self.cluster, self._prefix)
        self._numbers = itertools.count(1)
        # What follows is the desk's own.
        self._tickets: dict[str, Ticket] = {}
        self._of: dict[Call, Ticket] = {}
        self._ended: list[Call] = []
        self._deaths = Deaths()
        self._counted_at = 0.0
        self._counted = 0  # what `limit` was set to then
        self._is_over = False

    def bind(self, source: Source) -> None:
        """Told once where calls come from."""
        self._source = source

    # ---- before anything runs ---------------------------------------------------------------------------------------

    def objection(self, task: TaskDef) -> str | None:
        """No cluster, coroutine functions, functions and arguments that can't be pickled."""
        if (objection := too_soon()) is not None:
            return objection
        if task.fn is not None and is_coroutine_function(task.fn):
            return f"is a coroutine function, which the pool {self.name!r} can't run; leave out pool="
        return self._opened() or self._orders.objection(task)

    def _opened(self) -> str | None:
        """Connect, if that isn't done. The result says why it can't be."""
        with self._door:
            if self._is_open and not self.cluster.is_connected:
                self._is_open = False
                self.cluster.close(0.0)
            if not self._is_open:
                self._trouble = None
                try:
                    self.cluster.open(self._prefix, self._heard)
                    self._count()
                except Exception as error:  # noqa: BLE001  whatever went wrong is what the caller is told
                    self._trouble = f"can't run in the pool {self.name!r}: {self.cluster.refusal(error)}"
                else:
                    self._is_open = True
            return self._trouble

    def _count(self) -> None:
        """Count the cluster's threads."""
        self._counted_at = monotonic()
        threads = max(1, self.cluster.threads())
        if self._counted and self.limit != self._counted:  # it was resized
            self._most = self.limit
        self.limit = self._counted = min(self._most, threads) if self._most else threads * (1 + AHEAD)

    # ---- told by the engine, under its lock -------------------------------------------------------------------------

    def call_up(self, ready: int) -> None:  # noqa: ARG002  the desk takes what there is
        """See that the desk comes for calls."""
        if not self._called:
            self._called = True
            self._source.call_later(self._get_up)

    def arrived(self, worker: Any) -> None:
        """The desk asks by itself."""

    def rested(self, worker: Any) -> None:
        """The desk sees that it was given nothing; a call_up after this wakes it."""

    # ---- told without the lock --------------------------------------------------------------------------------------

    def _get_up(self) -> None:
        with self._door:
            if self._closed:
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=f"nerv-cluster-{self.name}", daemon=True)
                self._thread.start()
        self._inbox.put(self._look)

    def tell_cancelled(self, calls: Iterable[Call]) -> None:
        """Take back what hasn't begun, and tell the workers, for `ctx.cancelled`."""
        self._inbox.put(partial(self._cancel, list(calls)))

    def abandon(self, calls: Iterable[Call]) -> None:
        """Have the workers leave these calls behind, each in a thread of its own, and go on with others."""
        self._inbox.put(partial(self._give_up, list(calls)))

    def close(self, patience: float) -> None:
        """End the connection, and the cluster if it is ours."""
        with self._door:
            self._closed = True
            thread = self._thread
        self._inbox.put(self._finish)
        if thread is not None and thread is not threading.current_thread():
            thread.join(patience + 1.0)
        if self._is_open:
            self.cluster.close(max(patience, 1.0))

    # ---- told by Dask, in its threads -------------------------------------------------------------------------------

    def _heard(self, event: tuple[float, tuple[Any, ...]]) -> None:
        self._inbox.put(partial(self._listen, *event[1]))

    def _is_done(self, key: str, future: Future) -> None:
        self._inbox.put(partial(self._take_in, key, future))

    # ---- the desk ---------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while not self._is_over:
            self._inbox.get()()
            while True:
                try:
                    note = self._inbox.get_nowait()
                except Empty:
                    break
                note()
            self._serve()

    def _finish(self) -> None:
        self._is_over = True

    def _look(self) -> None:
        """There is work, they say; `_serve` looks after every note."""

    def _serve(self) -> None:
        """Tell the engine what has ended, and send what is ready."""
        self._called = False
        while True:
            ended, self._ended = self._ended, []
            room = 0 if self._is_over else self.limit - len(self._tickets)
            calls = self._source.advance_many(self, ended, self, max(0, room))
            if calls:
                self._send(calls)
            self.running = len(self._tickets)
            if not self._ended and (not calls or room <= len(calls)):
                return

    def _send(self, calls: list[Call]) -> None:
        if not self.cluster.is_connected:
            self._lose(calls)
            return
        if monotonic() - self._counted_at > CENSUS:
            with suppress(OSError):  # the scheduler goes away just now: the futures will say so
                self._count()
        batches: dict[tuple[int, Any], list[tuple[Ticket, Any]]] = {}
        for call in calls:
            number = next(self._numbers)
            ticket = Ticket(number, f"{self._prefix}-{number}", call)
            try:
                task = self._orders.task(ticket)
            except BaseException as error:  # noqa: BLE001  filling in and pickling run the users' code
                self._ended.append(self._failed(call, error))
                continue
            wants = call.task.metadata.values.get("resources")
            terms = int(call.task.priority) - 1, tuple(sorted(dict(wants or {}).items()))
            batches.setdefault(terms, []).append((ticket, task))
        for (priority, resources), batch in batches.items():
            for ticket, _ in batch:
                self._tickets[ticket.key] = self._of[ticket.call] = ticket
            futures = self.cluster.submit(
                {ticket.key: task for ticket, task in batch}, priority=priority, resources=dict(resources)
            )
            for ticket, _ in batch:
                ticket.future = futures[ticket.key]
                ticket.future.add_done_callback(partial(self._is_done, ticket.key))
        self._cancel([call for call in calls if call.cancelled])  # they were told before there was anybody to tell

    # ---- what the cluster says --------------------------------------------------------------------------------------

    def _listen(self, what: str, key: str, *words: Any) -> None:
        ticket = self._tickets.get(key)
        if ticket is None or ticket.call.abandoned:
            return
        call = ticket.call
        if what == "begun":
            ticket.begun_by = str(words[0])
            if call.claimed:
                self._source.begin(call)
            self._source.begun(call)
            if call.cancelled:
                self.cluster.tell({ticket.begun_by: [key]}, given_up=False)
        elif what == "progress":
            call.report(*words)
        elif what == "log":
            call.record(LogEntry(*words))
        elif what == "outcome":
            ticket.is_outcome = True

    def _take_in(self, key: str, future: Future) -> None:
        """A future has ended."""
        from distributed.scheduler import KilledWorker

        ticket = self._tickets.get(key)
        if ticket is None:
            return
        if future.status == "finished":
            result = self.cluster.result(future, key)
            try:
                ticket.call.value = result.fetch() if ticket.is_outcome else result
            except NervError as trouble:
                ticket.call.error = trouble
            self._settle(ticket)
        elif future.status == "error":
            raised: Any = future.exception()
            if isinstance(raised, KilledWorker):
                self._mourn(ticket, raised.last_worker.address, raised.last_worker.nthreads)
                return
            carried = raised.args[0] if type(raised).__name__ == "CarriedError" else raised
            self._failed(ticket.call, carried.with_traceback(future.traceback()))
            self._settle(ticket)
        elif self.cluster.is_connected:
            reason = f"task {ticket.call.task.id!r} was cancelled on {self.cluster}, by somebody else"
            self._failed(ticket.call, NervError(reason))
            self._settle(ticket)
        else:
            self._lose(list(self._of))

    def _settle(self, ticket: Ticket) -> None:
        del self._tickets[ticket.key]
        self._of.pop(ticket.call, None)
        self._ended.append(ticket.call)

    @staticmethod
    def _failed(call: Call, error: BaseException) -> Call:
        call.error = error
        return call

    def _lose(self, calls: Iterable[Call]) -> None:
        """The scheduler is gone: the executions of these calls end with that as their one error. What a journal keeps
        is left as it is, to be resumed.
        """
        calls = list(calls)
        for live in dict.fromkeys(call.live for call in calls):
            error = NervError(
                f"the connection to {self.cluster} was lost, and with it what ran there; start the scheduler again, "
                f"and then workflow {live.workflow.name!r}"
            )
            if live.kept is not None:
                live.scheduler.fault = error
                live.engine.leave(live)
            else:
                with live.engine.effects:
                    live.engine.fault(live, error)
        for call in calls:
            self._take_back(call, "its cluster is gone")

    def _take_back(self, call: Call, reason: str) -> None:
        """A call that won't be run: a claim goes back to the engine; for it, one that has started is cancelled."""
        ticket = self._of.get(call)
        if ticket is not None:
            self._drop(ticket)
        if call.claimed:
            self._source.give_back([call])
        else:
            self._ended.append(self._failed(call, TaskCancelledError(f"task {call.task.id!r}: {reason}")))

    # ---- dead workers -----------------------------------------------------------------------------------------------

    def _mourn(self, ticket: Ticket, address: str, threads: int) -> None:
        if self._deaths.is_news(address):
            timer = threading.Timer(LAST_WORD, self._inbox.put, [partial(self._bury, address, threads)])
            timer.name = "nerv-cluster-timer"
            timer.daemon = True
            timer.start()
        if self._deaths.mourn(ticket, address):
            self._crashed(ticket, address)

    def _bury(self, address: str, threads: int) -> None:
        died, again = self._deaths.bury(address, threads)
        for ticket in died:
            if self._is_awaited(ticket):
                self._crashed(ticket, address)
        again = [ticket for ticket in again if self._is_awaited(ticket)]
        for ticket in again:
            self._drop(ticket)
        if again:
            self._send([ticket.call for ticket in again])

    def _crashed(self, ticket: Ticket, address: str) -> None:
        task_id = ticket.call.task.id
        ticket.call.error = WorkerCrashedError(
            f"task {task_id!r}: the cluster's worker {address} died while it ran the task; out of memory, a crash in "
            "native code and os._exit do that; other tasks aren't affected, and a retry runs on another worker"
        )
        self._settle(ticket)

    def _is_awaited(self, ticket: Ticket) -> bool:
        return self._tickets.get(ticket.key) is ticket

    # ---- stopping ---------------------------------------------------------------------------------------------------

    def _drop(self, ticket: Ticket) -> None:
        """Nobody waits for it any more: Dask forgets it if it hasn't begun, and tells `perform` if it has."""
        del self._tickets[ticket.key]
        self._of.pop(ticket.call, None)
        if ticket.future is not None:
            ticket.future.release()  # its callback holds the future, so it doesn't go by itself

    def _cancel(self, calls: list[Call]) -> None:
        running: dict[str, list[str]] = {}
        for call in calls:
            ticket = self._of.get(call)
            if ticket is None or call.abandoned:
                continue
            if ticket.begun_by:
                running.setdefault(ticket.begun_by, []).append(ticket.key)
            else:
                self._take_back(call, "it was told to stop")
        if running:
            self.cluster.tell(running, given_up=False)

    def _give_up(self, calls: list[Call]) -> None:
        running: dict[str, list[str]] = {}
        for call in calls:
            ticket = self._of.get(call)
            if ticket is not None:
                if ticket.begun_by:
                    running.setdefault(ticket.begun_by, []).append(ticket.key)
                self._drop(ticket)
        if running:
            self.cluster.tell(running, given_up=True)
