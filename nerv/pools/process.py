"""`ProcessPool`: calls run in worker processes of our own.

Theory of operation. One thread, started with the first work, looks after everything: it has workers started (at most
`limit`, and only when there is work that no present one takes), hands out calls and takes results in. It sleeps in its
crew (nerv/pools/crew.py) until a worker says something or somebody wakes it, without a time limit unless a chunk is
out, so an idle pool has no wake-ups. Everybody else (the engine, `abandon`, `close`) leaves an order and wakes it. What
goes over the pipes, and what a worker does with it, is told in nerv/pools/wire.py and worker.py.

**Taking.** When a worker is up and has nothing to do, its results go to the engine and its next calls come back, in one
critical section (`advance_many`). Usually that is one call. Calls of quick functions are taken in chunks
(nerv/pools/stride.py), never more than this worker's share while others have nothing to do. The first call of a chunk
counts as started, the others are claims.

**Chunks are safe.** If a chunk takes much longer than it should, what hasn't begun is recalled from the worker and
given back. If its worker dies, the board (see wire.py) tells what was finished and which call it was at: only that one
fails.

**Dying.** A call that had been sent to a worker but not begun when it died is run by another; it uses up no attempt.
When `MISSTARTS` workers in a row die before they have begun anything, the calls that wait fail with an explanation,
instead of workers being started for ever.
"""

from __future__ import annotations

import logging
import pickle
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from time import monotonic
from typing import Any, Final

from nerv.calls import Call
from nerv.errors import NervError, ResultUnavailableError, WorkerCrashedError
from nerv.pools import wire
from nerv.pools.base import Source
from nerv.pools.child import Child
from nerv.pools.crew import LAST, MISSTARTS, Crew
from nerv.pools.receiving import record, settle
from nerv.pools.script import too_soon
from nerv.pools.sending import Sender
from nerv.pools.stride import CHUNK, Stride
from nerv.pools.wire import Frame
from nerv.tasks import TaskDef

_log: Final = logging.getLogger("nerv.pools")


class ProcessPool:
    """At most `workers` calls at once, each in a process of its own that is kept for the next one."""

    kind = "process"
    counts_running = False
    attended = False
    tells_start = True
    may_block = False
    left_behind = 0

    def __init__(self, name: str, workers: int) -> None:
        self.name = name
        self.limit = workers
        self.running = 0  # workers that have calls, never too many: the engine reads it to know whether to call up
        self._source: Source
        self._sender = Sender()
        self._door = threading.Lock()  # guards the two below: the thread starts once, and not any more after `close`
        self._thread: threading.Thread | None = None
        self._closed = False
        self._called = False  # whether there was a call_up that hasn't been looked into
        self._ready = 0  # how many calls were ready then
        self._orders: deque[Callable[[], None]] = deque()
        # What follows is the thread's own.
        self._crew: Crew
        self._orphans: deque[Call] = deque()  # started as far as the engine knows, but their worker died before
        self._number = 0  # of the last call that was sent
        self._stride = Stride()

    def bind(self, source: Source) -> None:
        """Told once where calls come from."""
        self._source = source

    def objection(self, task: TaskDef) -> str | None:
        """Coroutine functions, functions without an importable name, arguments that can't be pickled."""
        return too_soon() or self._sender.objection(task)

    # ---- told by the engine, under its lock -------------------------------------------------------------------------

    def call_up(self, ready: int) -> None:
        """See that the thread comes for calls. If it is the thread that is told, it will look before it sleeps."""
        self._ready = ready
        if not self._called:
            self._called = True
            if threading.current_thread() is not self._thread:
                self._source.call_later(self._get_up)

    def arrived(self, worker: Any) -> None:
        """Workers of this pool don't ask by themselves."""

    def rested(self, worker: Any) -> None:
        """The thread sees that it was given nothing; a call_up after this wakes it."""

    # ---- told without the lock --------------------------------------------------------------------------------------

    def tell_cancelled(self, calls: Iterable[Call]) -> None:
        """Tell the workers, for `ctx.cancelled`."""
        self._order(partial(self._cancel, set(calls)))

    def abandon(self, calls: Iterable[Call]) -> None:
        """Kill the workers that run these calls, and whatever those have started."""
        self._order(partial(self._kill, set(calls)))

    def close(self, patience: float) -> None:
        """End all workers, politely, then firmly, within `patience` seconds (and `LAST` for the system to obey)."""
        with self._door:
            self._closed = True
            thread = self._thread
        if thread is None:
            return
        self._order(lambda: self._crew.close(patience))
        if thread is not threading.current_thread():
            thread.join(patience + 2 * LAST)
            if thread.is_alive():  # held up by the pickling code of somebody's value
                self._crew.strike()

    def _get_up(self) -> None:
        with self._door:
            if self._closed:
                return
            if self._thread is None:
                self._crew = Crew(self._sender.setup(), self._heard, self._lost)
                self._thread = threading.Thread(target=self._work, name=f"nerv-processes-{self.name}", daemon=True)
                self._thread.start()
        self._crew.wake()

    def _order(self, order: Callable[[], None]) -> None:
        if self._thread is not None:
            self._orders.append(order)
            self._crew.wake()

    # ---- the thread -------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        sys.modules.setdefault("__mp_main__", sys.modules["__main__"])  # so it is called in what workers send
        crew = self._crew
        try:
            while not crew.is_over():
                due = [child.recall_at for child in crew.children if child.recall_at is not None]
                crew.sleep(monotonic() if self._called or self._orders else min(due, default=None))
                while self._orders:
                    self._orders.popleft()()
                if due:
                    self._recall(monotonic())
                if self._called:
                    self._serve()
            if self._orphans:
                self._fail(list(self._orphans), "was closed")
        finally:
            crew.end()

    def _recall(self, now: float) -> None:
        for child in self._crew.children:
            if child.recall_at is not None and child.recall_at <= now:
                child.recall()
                self._crew.mind(child)

    def _serve(self) -> None:
        """There is work: for workers that have none, and then for new ones."""
        self._called = False
        crew = self._crew
        if crew.is_closing:
            return
        idle = [child for child in crew.children if child.is_up and not child.queue]
        for child in idle:
            if not self._feed(child, []):
                return
        if idle and not self._called and not self._orphans:
            return  # they took all that there was
        self._called = False
        starting = sum(not child.is_up for child in crew.children)
        wanted = max(1, self._ready, len(self._orphans)) - starting
        for _ in range(min(wanted, self.limit - len(crew.children))):
            if crew.misstarts < MISSTARTS:
                crew.start()
        if not crew.children:
            self._not_started()

    def _not_started(self) -> None:
        """No worker is there, and none could be started: try again a few times, then fail what waits."""
        if self._crew.misstarts < MISSTARTS:
            self._called = True
            return
        reason = (
            f"can't start worker processes: {MISSTARTS} in a row failed, the last one {self._crew.trouble}; "
            "what it wrote to stderr says more"
        )
        calls, self._orphans = list(self._orphans), deque()
        while calls or self._source.waiting(self):
            calls = self._fail(calls, reason)
            if not calls:
                break
        self._crew.misstarts = 0

    def _fail(self, calls: list[Call], reason: str) -> list[Call]:
        """Fail calls that no worker will run; returns what was ready."""
        for call in calls:
            call.error = WorkerCrashedError(f"task {call.task.id!r}: the process pool {self.name!r} {reason}")
            call.unsent = not self._crew.is_closing
        return self._source.advance_many(self, calls, None, 0 if self._crew.is_closing else CHUNK)

    # ---- calls to workers -------------------------------------------------------------------------------------------

    def _feed(self, child: Child, finished: list[Call]) -> bool:
        """Hand over what an idle worker has finished, and send it something new. False: there is nothing."""
        crew = self._crew
        child.recall_at = None
        self.running = sum(bool(other.queue) for other in crew.children)
        if crew.is_closing or len(crew.children) > self.limit:
            self._hand_over(finished)
            crew.dismiss(child)
            return False
        while True:
            if self._orphans:
                self._hand_over(finished)
                calls = [self._orphans.popleft()]
            else:
                calls = self._take(child, finished)
            if not calls:
                return False
            finished = self._send(child, calls)
            if child.queue:
                self.running += 1
                self._hand_over(finished)
                return True

    def _take(self, child: Child, finished: list[Call]) -> list[Call]:
        most = self._stride.most(self._ready, self.limit, others_free=self.limit - self.running > 1)
        calls = self._source.advance_many(self, finished, child, most)
        if not calls:
            return calls
        keep = self._stride.keep([self._sender.seconds(call.task.fn) for call in calls], most)
        if keep < len(calls):
            self._source.give_back(calls[keep:])
        return calls[:keep]

    def _send(self, child: Child, calls: list[Call]) -> list[Call]:
        """Send calls to an idle worker; returns those that can't be sent, as failed."""
        ready, failed = [], []
        for call in calls:
            try:
                function, body = self._sender.body(call)
            except BaseException as error:  # noqa: BLE001  (filling in and pickling run the users' code)
                call.error = error
                call.unsent = not isinstance(error, ResultUnavailableError)
                failed.append(call)
            else:
                self._number += 1
                ready.append((self._number, call, function, body))
        if ready:
            child.run(ready)
            for number, call, *_ in ready:
                if call.cancelled:  # it was told before there was a worker to tell it
                    child.cancel(number)
            if len(ready) > 1:
                child.recall_at = monotonic() + self._stride.patience(len(ready))
            self._crew.mind(child)
        return failed

    def _hand_over(self, finished: list[Call]) -> None:
        """Tell the engine what has ended, without asking for more."""
        if finished:
            self._source.advance_many(self, finished, None, 0)

    def _cancel(self, calls: set[Call]) -> None:
        for child in self._crew.children:
            for number, call, _ in child.queue:
                if call in calls:
                    child.cancel(number)
            self._crew.mind(child)

    def _kill(self, calls: set[Call]) -> None:
        self._orphans = deque(call for call in self._orphans if call not in calls)
        for child in self._crew.children[:]:
            if any(call in calls for _, call, _ in child.queue):
                self._crew.kill(child)
        self._look_for_work()

    def _look_for_work(self) -> None:
        """After a worker's end nobody may be coming for what waits: look, as if called up."""
        self.running = sum(bool(other.queue) for other in self._crew.children)
        if self._orphans or self._source.waiting(self):
            self._called = True

    # ---- what workers say -------------------------------------------------------------------------------------------

    def _heard(self, child: Child, frames: list[Frame]) -> None:
        had_calls = bool(child.queue)
        was_up = child.is_up
        finished = self._digest(child, frames)
        if child.is_leaving or child.queue or (was_up and not had_calls):
            self._hand_over(finished)
        elif child.is_up:
            self._feed(child, finished)

    def _lost(self, child: Child) -> None:
        """A worker is dead: one call has died with it, at most."""
        finished = self._digest(child, child.last_words())
        begun = child.begun
        for number, call, _ in child.queue:
            if number <= begun and not call.abandoned:
                call.error = self._crash(child, call)
                finished.append(call)
        self._hand_over(finished)
        self._return([call for number, call, _ in child.queue if number > begun and not call.abandoned])
        child.queue.clear()
        self._look_for_work()

    def _crash(self, child: Child, call: Call) -> WorkerCrashedError:
        return WorkerCrashedError(
            f"task {call.task.id!r}: its worker process {child.pid} {self._crew.trouble} while it ran the task; "
            "out of memory, a crash in native code and os._exit do that; other tasks aren't affected, and a retry runs "
            "in a fresh process"
        )

    def _digest(self, child: Child, frames: list[Frame]) -> list[Call]:
        """Do what the frames say; returns the calls that have ended."""
        finished: list[Call] = []
        for kind, number, seconds, body in frames:
            if kind in wire.ENDS:
                sent = child.take(number)
                if sent is not None:
                    _, call, function = sent
                    settle(call, kind, body)
                    finished.append(call)
                    if function is not None:
                        function.took(seconds)
                    else:
                        self._sender.took(call.task.fn, seconds)
            elif kind == wire.POSTED:
                finished += self._digest(child, child.posted(number))
            elif kind == wire.HELLO:
                child.is_up = True
            elif kind == wire.UNBEGUN:
                self._take_back(child, number, int.from_bytes(body, "little"))
            else:
                self._listen(child, kind, number, body)
        if finished:
            self._crew.misstarts = 0
        return finished

    def _take_back(self, child: Child, at: int, until: int) -> None:
        """A chunk was recalled: the call that holds it up has begun, the rest is for others."""
        call = child.running(at)
        if call is not None:
            self._source.begin(call)
        self._return(child.unbegun(at, until))

    def _return(self, calls: list[Call]) -> None:
        """Calls that haven't begun: claims go back to the engine, started ones to the next worker that comes."""
        claims = [call for call in calls if call.claimed]
        self._orphans += [call for call in calls if not call.claimed]
        if claims:
            self._source.give_back(claims)
        self._look_for_work()

    def _listen(self, child: Child, kind: int, number: int, body: memoryview) -> None:
        """What a running task says through its context."""
        call = child.running(number)
        try:
            if kind == wire.ASK:
                self._answer(child, call, body)
            elif call is not None and kind == wire.STARTED:
                self._source.begun(call)
            elif call is not None and kind == wire.REPORT:
                call.report(*pickle.loads(body))
            elif call is not None and kind == wire.RECORD:
                record(call, body)
        except BaseException:  # noqa: BLE001  (what it says is the user's own, and so may be what unpickling it runs)
            _log.exception("worker process %s of pool %r said what can't be understood", child.pid, self.name)

    def _answer(self, child: Child, call: Call | None, body: memoryview) -> None:
        question, what, key = pickle.loads(body)
        try:
            if call is None:
                raise NervError("the attempt has ended; its context can't be asked any more")
            child.answer(wire.ANSWER, question, self._sender.answer(call, what, key))
        except BaseException as error:  # noqa: BLE001  (pickling runs the value's own code)
            child.answer(wire.REFUSAL, question, pickle.dumps(str(error)))
        self._crew.mind(child)
