"""`AsyncPool`: coroutine functions on an event loop: the caller's own (`arun`), or one on a thread of the pool's."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from nerv.calls import Call
from nerv.functions import is_coroutine_function
from nerv.pools.base import Pool, Source
from nerv.pools.factory import PoolFactory
from nerv.settings import Settings
from nerv.tasks import TaskDef

if TYPE_CHECKING:
    import asyncio


_current: ContextVar[tuple[AsyncPool, Call] | None] = ContextVar("nerv_coroutine", default=None)
"""The call that the present asyncio task belongs to, if it is one of a pool's."""


class AsyncPool:
    """At most `workers` coroutines at once.

    Args:
        name: the pool's name.
        workers: how many may run at once.
        loop: the event loop to use; None: one of the pool's own, on a thread that starts with the first call.
    """

    kind = "async"
    counts_running = True
    attended = False
    tells_start = False
    may_block = False
    left_behind = 0

    def __init__(self, name: str, workers: int, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.name = name
        self.limit = workers
        self.running = 0
        self._loop = loop
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()  # two workers may have the first coroutine ready at the same time
        self._tasks: dict[Call, asyncio.Task[None]] = {}  # touched on the loop's thread only
        self.source: Source  # where calls come from, from `bind` on

    def bind(self, source: Source) -> None:
        """Told once where calls come from."""
        self.source = source

    def objection(self, task: TaskDef) -> str | None:
        """Only coroutine functions can share a loop."""
        if task.fn is not None and not is_coroutine_function(task.fn):
            return f"is a plain function, which would block the event loop of pool {self.name!r}; use pool='thread'"
        return None

    def call_up(self, ready: int) -> None:  # noqa: ARG002  one look takes them all
        """Have the loop look for work."""
        self.source.call_later(self._summon)

    def arrived(self, worker: object) -> None:
        """Nothing to note."""

    def rested(self, worker: object) -> None:
        """The loop has other things to do."""

    def _summon(self) -> None:
        with self._starting:
            if self._loop is None:
                import asyncio

                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._run_loop, name=f"nerv-{self.name}", daemon=True)
                self._thread.start()
        _soon(self._loop, self._pump)

    def _run_loop(self) -> None:
        import asyncio

        loop: Any = self._loop
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            while pending := asyncio.all_tasks(loop):
                for task in pending:
                    task.cancel()
                loop.run_until_complete(asyncio.wait(pending))  # one that won't end is left behind with this thread
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    def _pump(self, finished: Call | None = None) -> None:
        while (call := self.source.advance(self, finished)) is not None:
            finished = None
            self._begin(call)

    def _begin(self, call: Call) -> None:
        loop: Any = self._loop
        context = call.live.contextvars.copy()
        context.run(_current.set, (self, call))
        self._tasks[call] = loop.create_task(self._perform(call), context=context)

    async def _perform(self, call: Call) -> None:
        try:
            prepared = call.prepare() if call.live.wires is None else await self._aside(call)
            if prepared is not None:
                fn, args, kwargs = prepared
                call.value = await fn(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001  whatever a task raises is the task's failure, not the loop's
            call.error = error
        del self._tasks[call]
        if call.lent:
            self.source.recall(self, call)
        self._pump(call)

    async def _aside(self, call: Call) -> Any:
        """`call.prepare` in a thread of its own: hooks may take their time, and the loop goes on. None: it failed."""
        loop: Any = self._loop
        done = loop.create_future()

        def prepare() -> None:
            prepared = None
            try:
                prepared = call.prepare()
            except BaseException as error:  # noqa: BLE001  whatever a hook raises is the task's failure
                call.error = error
            _soon(loop, lambda: done.done() or done.set_result(prepared))

        name = f"nerv-{self.name}-hooks"
        threading.Thread(target=copy_context().run, args=(prepare,), name=name, daemon=True).start()
        return await done

    def is_running(self, call: Call, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether `call` is one of this pool's, running in `loop`."""
        return self._loop is loop and call in self._tasks

    def tell_cancelled(self, calls: Iterable[Call]) -> None:
        """Its task asks `ctx.cancelled`."""

    def abandon(self, calls: Iterable[Call]) -> None:
        """Cancel the coroutines, as asyncio does it."""
        given_up = list(calls)
        if self._loop is not None:
            _soon(self._loop, lambda: self._cancel(given_up))

    def _cancel(self, calls: list[Call]) -> None:
        for call in calls:
            task = self._tasks.get(call)
            if task is not None:
                task.cancel()
                task.add_done_callback(partial(self._forget, call))

    def _forget(self, call: Call, _: object) -> None:
        """It was cancelled, perhaps before it had begun: then nobody else takes it off the list."""
        self._tasks.pop(call, None)

    def close(self, patience: float) -> None:
        """End the pool's own loop; the caller's is left alone."""
        if self._thread is None or self._loop is None:
            return
        _soon(self._loop, self._loop.stop)
        if self._thread is not threading.current_thread():
            self._thread.join(patience)


@asynccontextmanager
async def lending_place() -> AsyncIterator[None]:
    """Around an await: inside a coroutine task its place in the pool is lent out meanwhile."""
    import asyncio

    pool, call = _current.get() or (None, None)
    loop = asyncio.get_running_loop()
    if pool is None or call is None or not pool.is_running(call, loop):  # not ours, or left behind
        yield
        return
    source = pool.source
    source.lend(pool, call)
    try:
        yield
    finally:
        back = asyncio.Event()
        if not source.reclaim(pool, call, lambda: _soon(loop, back.set)):
            await back.wait()


def _soon(loop: asyncio.AbstractEventLoop, act: Callable[[], object]) -> None:
    with suppress(RuntimeError):  # the loop was closed under us: whoever closes the engine ends what is left
        loop.call_soon_threadsafe(act)


class LoopFactory(PoolFactory):
    """Makes the usual pools, but has coroutines run in a loop that is already there (`arun`)."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def make(self, name: str, settings: Settings) -> Pool:
        """Pools for coroutines on the given loop, the others as usual."""
        if name == "async":
            return AsyncPool(name, settings.max_coroutines, self._loop)
        pool = settings.pools.get(name)
        if pool is not None and pool.kind == "async":
            return AsyncPool(name, pool.workers, self._loop)
        return super().make(name, settings)
