"""`Forgetting`: has an execution that is fed for ever hold no more than it must.

A part of the engine. The lanes that ended longest ago are folded into counts: their tasks, results and errors go, and
so do their records. What is counted stays exact, and numbers and seqs are never used again. No lane goes before all who
read the log have read of it: the bus, the recorder, hooks, and whoever follows the events. What is held back for one of
these goes when it moves on (the bus: with the next lane that ends).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from nerv.bygone import Bygone
from nerv.feeding import FedScheduler
from nerv.lanes import Lane
from nerv.pages import Page
from nerv.sparse import Sparse
from nerv.states import STATUSES

if TYPE_CHECKING:
    from nerv.live import Live


class Forgetting:
    """Folds the lanes of one execution.

    Args:
        live: the execution, with its scheduler; nobody reads its log yet.
        scheduler: its scheduler.
        keep: how many lanes that have ended are remembered for certain.

    Attributes:
        wanted: up to where the log must be read before lanes can go that are held back; 0: none are.
    """

    def __init__(self, live: Live, scheduler: FedScheduler, keep: int) -> None:
        self._live = live
        self._scheduler = scheduler
        self.asked = False
        self.wanted = 0
        self._folded = [0] * len(STATUSES)
        lists: Any = live  # they are used like lists
        lists.tasks, lists.wants_context = Sparse(live.tasks), Sparse(live.wants_context)
        lists.log.ids = scheduler.ids = Sparse[str](live.log.ids)  # type: ignore[assignment]
        scheduler.lanes.keep = keep
        scheduler.on_heavy = self.ask
        scheduler.on_read = self._moved_on

    def _moved_on(self, reached: float) -> None:
        """Somebody has read so far in the log (without the lock)."""
        if 0 < self.wanted <= reached:
            self.forget()

    def written(self, events: float) -> None:
        """So many events are in the journal (lock held)."""
        if 0 < self.wanted <= events:
            self.ask()

    def ask(self) -> None:
        """There may be enough to forget (lock held): see to it when whoever holds the lock has done with all tasks."""
        live = self._live
        if not self.asked and live.id in live.engine.lives:
            self.asked = True
            live.engine.call_later(self.forget)

    def forget(self) -> None:
        """Forget what may be forgotten, if it is enough to be worth while."""
        live, scheduler = self._live, self._scheduler
        with live.engine.effects:
            self.asked, self.wanted = False, 0
            if live.id not in live.engine.lives:
                return
            lanes = scheduler.lanes.ripe(self._read())
            if lanes:
                gone = self._forget(lanes)
                live.engine.call_later(gone.clear)  # without the lock: it may call the user's own code
            self.wanted = scheduler.lanes.wanted

    def begin_behind(self, lanes: Collection[Bygone], counts: list[int], ids: Sequence[str]) -> None:
        """After a restart, before anything is replayed: these lanes are folded already.

        Args:
            lanes: they.
            counts: how many of their tasks ended in which status.
            ids: of all tasks.
        """
        live, self._folded = self._live, counts
        numbers = {number for lane in lanes for number in lane.numbers}
        names = {ids[number] for number in numbers}
        for name in names:
            for held in (live.values, live.errors):
                dict.pop(held, name, None)
        self._turn_to(live.log.page.without(numbers, {seq for one in lanes for seq in one.seqs}, names, tuple(counts)))

    def _read(self) -> int:
        """The seq up to which nobody needs the records any more."""
        live = self._live
        read = live.log.read
        if live.kept is not None:
            read = min(read, live.kept.written)
        return read if live.wires is None else min(read, live.wires.reached)

    def _forget(self, lanes: Sequence[Lane]) -> list[Any]:
        """Forget these lanes; gives what was held for them."""
        live, scheduler = self._live, self._scheduler
        numbers = {number for lane in lanes for number in lane.numbers}
        for number in numbers:
            self._folded[scheduler.state[number]] += 1
        gone: list[Any] = [live.log.page]
        ids = self._turn_page(lanes, numbers)
        scheduler.forget(lanes)
        if scheduler.waits is not None:
            scheduler.waits.forget(numbers)
        if scheduler.suspensions is not None:
            scheduler.suspensions.forget(numbers, ids)
        return gone + live.forget(numbers)

    def _turn_page(self, lanes: Sequence[Lane], numbers: set[int]) -> set[str]:
        """Have the log without the records of these lanes; gives the ids of their tasks."""
        page = self._live.log.page
        seqs = {seq for lane in lanes for seq in lane.seqs}
        ids = {one for one in (page.ids[number] for number in numbers) if one.__class__ is str}  # no gate has a LongId

        self._turn_to(page.without(numbers, seqs, ids, tuple(self._folded)))
        return ids

    def _turn_to(self, page: Page) -> None:
        scheduler = self._scheduler
        self._live.log.book.page = page
        scheduler.records, scheduler.ids, scheduler.dropped = page.records, page.ids, page.dropped
