"""Running a Dask graph with somebody attending: callbacks, a cache, or a pool that the caller brings.

Dask promises that callbacks are called by the caller's thread and find the state of the computation as Dask's own
scheduler keeps it. So here the caller's thread takes each call from nerv's engine, in Dask's order, hands it to an
executor and takes in what has ended, with Dask's bookkeeping (`dask.local`) beside the scheduler's own. It costs what
Dask's scheduler costs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, MutableMapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from multiprocessing.pool import Pool as WorkerPool
from multiprocessing.pool import ThreadPool
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeAlias

from dask._task_spec import DataNode, GraphNode
from dask.local import MultiprocessingPoolExecutor, finish_task, start_state_from_dask
from dask.order import order

from nerv.calls import Call
from nerv.clock import patiently
from nerv.interop.dask.desk import Desk
from nerv.interop.dask.nodes import Culled, Ranked, as_nodes, evaluate
from nerv.interop.dask.steps import engine_for, live_of

Callbacks: TypeAlias = Sequence[Sequence[Callable[..., Any] | None]]
"""For each callback its functions, or None: start, start_state, pretask, posttask, finish."""


class Attended:
    """One graph being run, with somebody attending.

    Args:
        nodes: the graph, as the callbacks see it; they may change it when it starts.
        wanted: keys.
        cache: results by key; those in it aren't worked out again. It takes up the others, and loses those that
            nobody needs any more.
        callbacks: Dask's.
        again: whether a task that failed is run again by the caller's thread, for a debugger to see.
    """

    def __init__(
        self,
        nodes: dict[Any, GraphNode],
        wanted: set[Any],
        *,
        cache: MutableMapping[Any, Any],
        callbacks: Callbacks,
        again: bool,
    ) -> None:
        self.nodes = nodes
        self.wanted = wanted
        self.cache = cache
        self.callbacks = callbacks
        self.again = again
        self.state: dict[str, Any] = {}
        self.places: dict[Any, int] = {}
        self.ended: SimpleQueue[tuple[Call, Future[Any]]] = SimpleQueue()

    def run_in(self, pool: Any, workers: int) -> MutableMapping[Any, Any]:
        """`run`, in a pool that the caller brings; None: in so many threads of its own."""
        if pool is not None:
            return self.run(*as_executor(pool))
        threads = ThreadPoolExecutor(workers, thread_name_prefix="nerv-dask")
        try:
            return self.run(threads, workers)
        finally:
            threads.shutdown(wait=False, cancel_futures=True)

    def run(self, executor: Executor, limit: int) -> MutableMapping[Any, Any]:
        """The cache, with the wanted results in it.

        Raises:
            BaseException: the first error of a task or a callback.
        """
        begun = []
        failed = True
        try:
            for callback in self.callbacks:
                _tell(callback[_START], self.nodes)
                begun.append(callback)
            culled = self._begin()
            self._work(culled, executor, limit)
            failed = False
        finally:
            for callback in begun:
                _tell(callback[_FINISH], self.nodes, self.state, failed)
        return self.cache

    def _begin(self) -> Culled:
        known = {key: DataNode(key, self.cache[key]) for key in self.cache}
        nodes = {**as_nodes(self.nodes), **known}
        self.nodes.clear()
        self.nodes.update(nodes)
        culled = Culled(nodes, self.wanted)
        self.places = order(nodes)
        self.state = start_state_from_dask(nodes, keys=self.wanted, cache=self.cache, sortkey=self.places.get)
        self._tell(_START_STATE, self.nodes, self.state)
        return culled

    def _tell(self, what: int, *words: Any) -> None:
        for callback in self.callbacks:
            _tell(callback[what], *words)

    def _work(self, culled: Culled, executor: Executor, limit: int) -> None:
        desk = Desk(limit)
        engine = engine_for(desk)
        graph = Ranked(culled, [self.places[key] for key in culled.keys])
        live = live_of(graph, engine, desk, _nothing, int)
        engine.start(live)
        try:
            call = engine.advance(desk)
            while True:
                while call is not None:
                    self._hand_out(call, executor)
                    call = engine.advance(desk)
                if not desk.running:
                    return
                call = engine.advance(desk, self._take_in(*self._next()))
        finally:
            engine.halt(live)
            engine.timer.close()

    def _hand_out(self, call: Call, executor: Executor) -> None:
        key: Any = call.task.id
        state = self.state
        _remove(state["ready"], key)
        state["running"].add(key)
        self._tell(_PRETASK, key, self.nodes, state)
        data = {need: self.cache[need] for need in state["dependencies"][key]}
        run = copy_context().run if _shares_memory(executor) else _called
        future = executor.submit(run, attempt, self.nodes[key], data)
        future.add_done_callback(partial(self._has_ended, call))

    def _has_ended(self, call: Call, future: Future[Any]) -> None:
        self.ended.put((call, future))

    def _next(self) -> tuple[Call, Future[Any]]:
        found = []

        def wait(timeout: float | None) -> bool:
            try:
                found.append(self.ended.get(timeout=timeout))
            except Empty:
                return False
            return True

        patiently(wait)
        return found[0]

    def _take_in(self, call: Call, future: Future[Any]) -> Call:
        key: Any = call.task.id
        value, error, worker = future.result()
        if error is not None:
            if self.again:
                evaluate(self.nodes[key], self.cache)
            raise error
        self.cache[key] = value
        finish_task(self.nodes, key, self.state, self.wanted, self.places.get)
        self._tell(_POSTTASK, key, value, self.nodes, self.state, worker)
        return call


_START, _START_STATE, _PRETASK, _POSTTASK, _FINISH = range(5)


def _tell(function: Callable[..., Any] | None, *words: Any) -> None:
    if function is not None:
        function(*words)


def attempt(node: GraphNode, data: dict[Any, Any]) -> tuple[Any, BaseException | None, int]:
    """What a node gives or the error that it raised, and the thread's identity."""
    try:
        return evaluate(node, data), None, threading.get_ident()
    except BaseException as error:  # noqa: BLE001  it is the task's, and the caller is to have it
        return None, error, threading.get_ident()


def _remove(ready: list[Any], key: Any) -> None:
    """Take a key out of a list in which it stands near the end."""
    for place in range(len(ready) - 1, -1, -1):
        if ready[place] == key:
            del ready[place]
            return


def _called(fn: Callable[..., Any], *args: Any) -> Any:
    return fn(*args)


def _nothing(_: int) -> None:
    """What the engine would call: the executor does."""


def _shares_memory(executor: Executor) -> bool:
    pool = executor.pool if isinstance(executor, MultiprocessingPoolExecutor) else executor
    return isinstance(pool, (ThreadPoolExecutor, ThreadPool))


def as_executor(pool: Any) -> tuple[Executor, int]:
    """A pool that the caller brings, as an executor, and how many calls it runs at once."""
    executor: Executor = MultiprocessingPoolExecutor(pool) if isinstance(pool, WorkerPool) else pool
    return executor, int(getattr(executor, "_max_workers", _MANY))


_MANY: Final = 1000
"""Calls that an executor is given at once that doesn't say how many it runs."""
