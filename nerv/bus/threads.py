"""The two threads on which handlers run: one for plain calls, one for coroutines.

How it works. `Delivery` is a queue and one thread, `nerv-delivery`, that hands what is in the queue, in order, to the
function that it was made with. The thread starts when something is put and none is there, sleeps on a condition, with
no timeout, while the queue is empty, and ends when it has been told to stop and all is quiet. There is never more than
one: a thread that is stuck in a handler when `close` loses its patience stays the delivery thread, and goes on with
what was put after that if the handler ever returns. `CoroutineThread` does the same for coroutines, in an event loop.

The lock is reentrant because the garbage collector can run anybody's `__del__` at any allocation, also while the lock
is held, and that may well cancel a subscription. `running` and `event` are written by the delivery thread alone,
without the lock: who waits compares them only to see whether the same call is still under way.

A sleeping thread holds the queue but not the bus behind it: a bus that nobody closed, and that nobody knows any more,
is collected, and that ends its threads.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from nerv.bus.receivers import Job, Receiver
from nerv.events import Event

if TYPE_CHECKING:
    import asyncio

LAST_WORD: Final = 0.5
"""Seconds that `close` gives a thread to end once it has given up on what that was doing."""

_log = logging.getLogger("nerv")


class HandlerThread(threading.Thread):
    """A thread that calls handlers, for the `Delivery` that owns it."""

    def __init__(self, owner: Delivery, run: Callable[[], None], name: str) -> None:
        super().__init__(target=run, name=name, daemon=True)
        self.owner = owner


class Delivery:
    """A queue, and the thread that delivers what is put into it.

    Args:
        deliver: a bound method that is called with each item, held weakly; without its object, items are dropped.
    """

    def __init__(self, deliver: Callable[[Any], None]) -> None:
        self.lock = threading.RLock()
        self.running: Receiver | None = None  # who is being called
        self.event: Event | None = None  # with this event
        self.given_up = 0  # how often `close` has lost its patience
        self._deliver = weakref.WeakMethod(deliver)
        self._queue: deque[Any] = deque()
        self._thread: HandlerThread | None = None
        self._retired: HandlerThread | None = None  # the one before, which may not have ended quite
        self._coroutines: CoroutineThread | None = None
        self._work = threading.Condition(self.lock)  # where the delivery thread sleeps
        self._news = threading.Condition(self.lock)  # where those sleep who wait for something to be delivered
        self._asleep = False
        self._waiting = 0  # how many sleep on _news
        self._stopping = False  # the thread ends when all is quiet

    def put(self, item: Any) -> None:
        """Put something at the end of the queue. Never waits for a handler, never calls one, never fails."""
        with self.lock:
            self._queue.append(item)
            if self._asleep:
                self._work.notify()
            elif self._thread is None:
                self._start()

    def here(self) -> bool:
        """Whether the caller is the delivery thread."""
        return threading.current_thread() is self._thread

    def among_handlers(self) -> bool:
        """Whether the caller is one of this delivery's threads."""
        me = threading.current_thread()
        return isinstance(me, HandlerThread) and me.owner is self

    def wait(self, done: Callable[[], bool], patience: float | None = None) -> str | None:
        """Wait until something that was put is done: None; or the name of what has lasted for all of `patience` s."""
        timeout = None if patience is None else min(patience, threading.TIMEOUT_MAX)
        with self.lock:
            self._waiting += 1
            try:
                while not done():
                    running, event = self.running, self.event
                    if self._thread is None:
                        return "the delivery thread, which can't be started,"
                    if self._news.wait(timeout) or self.running is not running or self.event is not event:
                        continue
                    if not done():
                        return "the delivery thread" if running is None else running.name
            finally:
                self._waiting -= 1
        return None

    def submit(self, job: Job) -> None:
        """Have something awaited in the coroutine thread; for the delivery thread."""
        with self.lock:
            if self._coroutines is None or self._coroutines.ended:
                self._coroutines = CoroutineThread(self)
            self._coroutines.submit(job)

    def awaited(self) -> None:
        """Hear from the coroutine thread that it has nothing to do."""
        if self._stopping:
            self._work.notify()

    def stop(self) -> None:
        """Have the threads end when all is delivered."""
        with self.lock:
            self._stopping = True
            self._work.notify()

    def close(self, patience: float, give_up: Callable[[], None]) -> None:
        """Stop, and wait for it; after `patience` s drop what is left, and tell so by a call of `give_up`."""
        deadline = time.monotonic() + min(patience, threading.TIMEOUT_MAX / 2)
        with self.lock:
            threads = [thread for thread in (self._retired, self._thread) if thread is not None]
            self.stop()
        if self.among_handlers():
            return
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        with self.lock:
            if self._thread is None or self._thread not in threads:
                return  # nothing is left to deliver, though a loop of coroutines may not have ended yet
            stuck, coroutines = self.running, self._coroutines
            late = stuck if stuck is not None or coroutines is None else coroutines.current
            self._halt()
            give_up()
        if stuck is None:
            threads[-1].join(LAST_WORD)
        if coroutines is not None:
            coroutines.thread.join(LAST_WORD)
        _log.warning(
            "the event bus was closed while %s hadn't finished within %s s: what it hadn't heard is dropped",
            "a handler" if late is None else late.name,
            patience,
        )

    def _halt(self) -> None:
        self._queue.clear()
        self._stopping = True
        self.given_up += 1
        if self._coroutines is not None:
            self._coroutines.halt()
            self._coroutines = None
        self._work.notify()
        self._news.notify_all()

    def _start(self) -> None:
        self._stopping = False
        thread = HandlerThread(self, self._run, "nerv-delivery")
        try:
            thread.start()
        except RuntimeError as error:  # no more threads in this process, or it is ending
            _log.error("events can't be delivered now, the next event tries again: %s", error)
        else:
            self._thread = thread

    def _run(self) -> None:
        while (item := self._next()) is not None:
            deliver = self._deliver()
            if deliver is not None:
                try:
                    deliver(item)
                except BaseException:  # noqa: BLE001  (not a handler's: those are caught where they are called)
                    _log.exception("nerv's event bus has a defect: an event was not delivered to everybody")
            del item, deliver  # or this frame, asleep, would hold them

    def _next(self) -> Any:
        """Whatever is next in the queue; None when it is time to end."""
        with self.lock:
            self.running = self.event = None
            if self._waiting:
                self._news.notify_all()
            while not self._queue:
                coroutines = self._coroutines
                if self._stopping and (coroutines is None or not coroutines.pending):
                    self._retired, self._thread, self._coroutines = self._thread, None, None
                    break
                self._asleep = True
                self._work.wait()
                self._asleep = False
            else:
                return self._queue.popleft()
        if coroutines is not None:
            coroutines.end()
        return None


class CoroutineThread:
    """Runs the coroutines that handlers return, one after the other, in an event loop on the thread `nerv-handlers`."""

    def __init__(self, delivery: Delivery) -> None:
        self.pending = 0  # jobs that aren't finished
        self.current: Receiver | None = None  # whose job is being awaited
        self.ended = False
        self._delivery = delivery
        self._lock = delivery.lock
        self._jobs: deque[Job] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asleep: asyncio.Future[None] | None = None
        self._task: asyncio.Task[BaseException | None] | None = None
        self._ending = self._halted = False
        self.thread = HandlerThread(delivery, self._run, "nerv-handlers")
        self.thread.start()

    def submit(self, job: Job) -> None:
        """Await this when all before it is finished."""
        with self._lock:
            self.pending += 1
            self._jobs.append(job)
            self._ring()

    def end(self) -> None:
        """Finish what is there, end the thread and wait for it."""
        with self._lock:
            self._ending = True
            self._ring()
        self.thread.join()

    def halt(self) -> None:
        """Cancel what is being awaited, drop the rest and have the thread end."""
        with self._lock:
            self._ending = self._halted = True
            self._drop()
            self._ring()
            if self._loop is not None and not self.ended:
                with contextlib.suppress(RuntimeError):  # the loop has just ended by itself
                    self._loop.call_soon_threadsafe(self._cancel)

    def _ring(self) -> None:
        if self._asleep is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(_wake, self._asleep)
            self._asleep = None

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _drop(self) -> None:
        for job in self._jobs:
            _discard(job)
        self._jobs.clear()

    def _run(self) -> None:
        import asyncio

        try:
            asyncio.run(self._serve())
        except BaseException:  # noqa: BLE001  (such as SystemExit from a task that a handler left running)
            _log.exception("the event loop of coroutine handlers has ended; the next one starts another")
        finally:
            with self._lock:
                self.ended = True
                self.pending = 0
                self._drop()
                self._delivery.awaited()

    async def _serve(self) -> None:
        import asyncio

        with self._lock:
            self._loop = asyncio.get_running_loop()
        while (job := await self._next()) is not None:
            try:
                self._task = asyncio.create_task(self._awaited(job))
                await asyncio.wait([self._task])
                if not self._halted and (error := self._task.result()) is not None:
                    self._delivery.put(job._replace(error=error))
            finally:
                _discard(job)
                self._task = error = None
                with self._lock:
                    self.pending -= 1
                    self._delivery.awaited()
            del job  # or this frame, asleep, would hold it

    async def _next(self) -> Job | None:
        """The next job; None when it is time to end."""
        while True:
            with self._lock:
                if self._jobs:
                    job = self._jobs.popleft()
                    self.current = job.receiver
                    return job
                self.current = None
                if self._ending or self._loop is None:
                    return None
                asleep = self._asleep = self._loop.create_future()
            try:
                await asleep
            finally:
                self._asleep = None

    async def _awaited(self, job: Job) -> BaseException | None:
        """Await it; the result is the error that came of it."""
        if job.receiver.call is None:
            return None  # cancelled meanwhile
        try:
            await job.coroutine
        except BaseException as error:  # noqa: BLE001  (user code may raise anything)
            return error
        return None


def _wake(asleep: asyncio.Future[None]) -> None:
    if not asleep.done():
        asleep.set_result(None)


def _discard(job: Job) -> None:
    """Close a coroutine that isn't to be awaited any more: Python complains about those that never were."""
    coroutine = job.coroutine
    if inspect.iscoroutine(coroutine) and inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
        coroutine.close()
