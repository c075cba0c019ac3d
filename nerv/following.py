"""`Events`: the events of an execution, from the first, for as long as it runs."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

from nerv.eventlog import Cursor
from nerv.events import TERMINAL, Event
from nerv.feeding import FedScheduler
from nerv.live import Live
from nerv.pools.thread import lending


class Events:
    """The events of an execution, from the first; see `Execution.events`."""

    def __init__(self, live: Live, *, follow: bool) -> None:
        self._live = live
        self._follow = follow

    def __iter__(self) -> Iterator[Event]:
        return self._following(self._cursor()) if self._follow else self._live.log.events()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self._async(self._cursor())

    def _cursor(self) -> Cursor:
        """How far somebody has read who begins now: what they follow isn't forgotten before."""
        cursor = Cursor()
        if self._follow:
            self._live.log.follow(cursor)
        return cursor

    def _reached(self, cursor: Cursor, seq: int) -> None:
        """It has read so far: what was held back for it may go."""
        cursor.reached, scheduler = seq, self._live.scheduler
        if isinstance(scheduler, FedScheduler):
            scheduler.on_read(seq)

    def _following(self, cursor: Cursor) -> Iterator[Event]:
        log = self._live.log
        grown = threading.Semaphore(0)
        self._live.on_change.append(grown.release)
        try:
            while True:
                while (event := log.after(cursor.reached)) is not None:
                    self._reached(cursor, event.seq or 0)
                    yield event
                    if event.type in TERMINAL:
                        return
                with lending():
                    grown.acquire()
        finally:
            self._live.on_change.remove(grown.release)

    async def _async(self, cursor: Cursor) -> AsyncIterator[Event]:
        import asyncio

        from nerv.pools.coroutine import lending_place

        log = self._live.log
        loop, grown = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            with suppress(RuntimeError):  # the loop was closed: nobody listens any more
                loop.call_soon_threadsafe(grown.set)

        if self._follow:
            self._live.on_change.append(wake)
        try:
            while True:
                grown.clear()
                while (event := log.after(cursor.reached)) is not None:
                    self._reached(cursor, event.seq or 0)
                    yield event
                    if event.type in TERMINAL:
                        return
                if not self._follow:
                    return
                async with lending_place():
                    await grown.wait()
        finally:
            if self._follow:
                self._live.on_change.remove(wake)
