"""What a Dask worker does for nerv: it calls a task's function and says so. This module is imported on the cluster.

Theory of operation. Dask calls `perform` in one of its worker's threads. It tells the pool that the function begins
(an event of the cluster's: Dask delivers those in order with all else), and lets a `Runner`, a thread of ours, call it.
When the pool gives the call up, `perform` leaves the runner behind and returns, so that Dask has its thread back.

The pool speaks to a running call by having the worker call `tell` in its event loop, which is free while its threads
are busy.
"""

from __future__ import annotations

import logging
import pickle
import threading
from collections.abc import Mapping
from functools import lru_cache
from queue import SimpleQueue
from time import monotonic
from typing import Any, Final

from distributed import Worker, get_worker
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.worker import thread_state

from nerv.context import DependencyResults, LogEntry, TaskContext
from nerv.errors import NervError
from nerv.outcomes import STEERING
from nerv.pools.sending import packed_without_script
from nerv.tasks import TaskDef

PREFIX: Final = "nerv-"
"""What the keys of nerv's tasks in a cluster begin with."""

BEGUN, PROGRESS, LOG, OUTCOME = "begun", "progress", "log", "outcome"
"""What events say: a function begins; what its context reports; what it returned steers the engine."""

LOOK: Final = 0.5
"""Seconds after which a call's thread looks whether anybody still waits for it."""
FUNCTIONS: Final = 256
"""Functions that a worker keeps unpickled."""

_log: Final = logging.getLogger("nerv.pools")


class Attempt:
    """A call of a task's function here, and its port to the pool.

    Attributes:
        stop: it was told to stop.
        given_up: the pool doesn't wait for it any more.
        over: set when it has ended or is given up.
    """

    def __init__(self, key: str, topic: str, worker: Worker) -> None:
        self.key = key
        self.topic = topic
        self.worker = worker
        self.stop = False
        self.given_up = False
        self.over = threading.Event()
        self.value: Any = None
        self.error: BaseException | None = None

    def say(self, what: str, *words: Any) -> None:
        """Tell the pool something; only what msgpack knows."""
        self.worker.log_event(self.topic, (what, self.key, *words))

    def run(self, fn: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Call the function."""
        try:
            self.value = fn(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001  it is the task's
            self.error = error
        self.over.set()

    # ---- nerv.context.Port ------------------------------------------------------------------------------------------

    def is_cancelled(self) -> bool:
        """Whether it should stop."""
        return self.stop

    def report(self, done: float, total: float | None, message: str) -> None:
        """Tell of its progress."""
        self.say(PROGRESS, done, total, message)

    def record(self, entry: LogEntry) -> None:
        """Send a log entry."""
        self.say(LOG, entry.task_id, entry.attempt, entry.level, entry.message, entry.timestamp)

    def services(self) -> Any:
        """There are none here."""
        raise NervError(
            "ctx.services isn't there on a cluster's workers: they are other processes; make it in the task"
        )


class Runner(threading.Thread):
    """A thread that calls functions, one after the other."""

    def __init__(self) -> None:
        super().__init__(name="nerv-runner", daemon=True)
        self.orders: SimpleQueue[tuple[Attempt, dict[str, Any], Any, Any, Any]] = SimpleQueue()

    def run(self) -> None:
        """Its life."""
        while True:
            attempt, dasks_own, *call = self.orders.get()
            vars(thread_state).update(dasks_own)  # for get_worker and get_client inside the task
            attempt.run(*call)
            if attempt.given_up:
                return
            del attempt, call


_running: Final[dict[str, Attempt]] = {}
_idle: Final[list[Runner]] = []


def perform(key: str, topic: str, function: bytes, body: bytes, *far: Any) -> Any:
    """Call a task's function.

    Args:
        key: the call's key.
        topic: the pool's, for events.
        function: the function, pickled.
        body: what `unpacked` unpacks.
        far: results of other tasks that are in the cluster, in the order of their ids in the body.
    """
    attempt = Attempt(key, topic, get_worker())
    _running[key] = attempt
    attempt.say(BEGUN, attempt.worker.address)
    try:
        call = unpacked(attempt, function, body, far)
        runner = _idle.pop() if _idle else None
        if runner is None:
            runner = Runner()
            runner.start()
        runner.orders.put((attempt, dict(vars(thread_state)), *call))
        del call
        while not attempt.over.wait(LOOK):
            if not is_wanted(attempt.worker, key):
                tell([key], given_up=True)
    finally:
        del _running[key]
    if attempt.given_up:
        return None
    _idle.append(runner)
    error, attempt.error = attempt.error, None
    if error is not None:
        raise error if isinstance(error, Exception) else CarriedError(error)
    if id(type(attempt.value)) in STEERING:
        attempt.say(OUTCOME)
    return attempt.value


def is_wanted(worker: Worker, key: str) -> bool:
    """Whether anybody waits for a task that runs here. The pool may have taken it back at the moment when it began, or
    is gone.
    """
    task = worker.state.tasks.get(key)
    return task is not None and task.state not in {"cancelled", "released", "forgotten"}


def unpacked(
    attempt: Attempt, function: bytes, body: bytes, far: tuple[Any, ...]
) -> tuple[Any, tuple[Any, ...], Mapping[str, Any]]:
    """The function and its arguments, references filled in, context included if it wants one."""
    fn = loaded(function)
    args, kwargs, ids, near, params, facts = pickle.loads(body)
    values = {**near, **dict(zip(ids, far, strict=True))}
    task = TaskDef("task", fn, args=args, kwargs=kwargs)
    args, kwargs = task.bind(values, params)
    if facts is not None:
        known, needs = facts
        if known.get("deadline") is not None:
            known["deadline"] += monotonic()
        results = DependencyResults(needs, values)
        args = (TaskContext(**known, params=params, results=results, port=attempt), *args)
    return fn, args, kwargs


@lru_cache(FUNCTIONS)
def loaded(function: bytes) -> Any:
    """An unpickled function; the same one each time, so that what its module keeps stays."""
    return pickle.loads(function)


class CarriedError(Exception):
    """Brings an exception home that isn't an `Exception`: Dask would take a SystemExit for its own."""


def tell(keys: list[str], *, given_up: bool) -> None:
    """Called in the worker's event loop: these calls should stop, or aren't waited for any more."""
    for key in keys:
        attempt = _running.get(key)
        if attempt is not None:
            attempt.stop = True
            if given_up and not attempt.over.is_set():
                attempt.given_up = True
                attempt.over.set()


class OneLife(SchedulerPlugin):  # type: ignore[misc]  # what is skipped has no types
    """In the scheduler: a task of nerv's whose worker dies isn't run again by Dask. Nerv's policies decide that.

    A result that was there and is lost is made again by Dask as ever.
    """

    name = "nerv"
    idempotent = True

    async def start(self, scheduler: Any) -> None:
        """Told once."""
        self.scheduler = scheduler
        self.completed: set[str] = set()

    def transition(self, key: Any, start: str, finish: str, *_: Any, **__: Any) -> None:  # noqa: ARG002
        """Told of every move of every task."""
        if not isinstance(key, str) or not key.startswith(PREFIX):
            return
        if finish == "processing" and key not in self.completed:
            self.scheduler.tasks[key].suspicious = self.scheduler.allowed_failures
        elif finish == "memory":
            self.scheduler.tasks[key].suspicious = 0
            self.completed.add(key)
        elif finish == "forgotten":
            self.completed.discard(key)


def save(files: dict[str, str], dask_worker: Worker) -> list[str]:
    """Called in the worker's event loop: write results that are here to files; returns the keys of those written."""
    written = []
    for key, file in files.items():
        if key not in dask_worker.data:
            continue
        try:
            raw = packed_without_script(dask_worker.data[key])
        except Exception:  # noqa: BLE001  whatever pickling it raises, the others are saved
            _log.exception("a result is lost with its cluster: it can't be pickled")
            continue
        with open(file, "xb") as place:
            place.write(raw)
        written.append(key)
    return written
