"""`Batching`: the engine's side towards pools that take several calls at a time."""

from __future__ import annotations

from typing import Any

from nerv.calls import Call
from nerv.dispatch import Dispatch
from nerv.pools.base import Pool
from nerv.turns import Lane, Turns


class Batching(Dispatch):
    """Gives out several calls in one go: one that counts as started, and others that are only claimed."""

    def advance_many(self, pool: Pool, finished: list[Call], worker: Any, most: int) -> list[Call]:
        """`advance` for several calls at once; see `Source`."""
        calls: list[Call] = []
        for call in finished:
            self._receive(call)
        with self.effects:
            now = self._now()
            for call in finished:
                if not call.abandoned:
                    self._settle(call, now)
            turns = self._turns[pool]
            while len(calls) < most and not self.draining and (lane := turns.first()) is not None:
                if calls and not lane.live.scheduler.can_be_claimed:
                    break
                self._take_one_more(calls, lane, turns, now)
            if not calls:
                pool.rested(worker)
            else:
                self._call_up(pool, turns)
        return calls

    def _take_one_more(self, calls: list[Call], lane: Lane, turns: Turns, now: float) -> None:
        """Take the first of several calls, or claim another."""
        live, scheduler = lane.live, lane.live.scheduler
        number = scheduler.claim(lane.queue) if calls else scheduler.take(lane.queue, now)
        if number < 0:
            turns.drop(lane)
            self._tell(live)
            return
        if number in scheduler.errands:
            call: Call | None = self._errand(live, number, now)
        else:
            call = live.active[number] = Call(
                live, number, live.tasks[number], scheduler.attempts[number] + bool(calls)
            )
            call.claimed = call.odd = bool(calls)
            if live.placement is not None:
                live.placement.mark(call)
        turns.served(lane)
        self._tell(live)
        if call is not None:
            calls.append(call)
            if not call.claimed:
                self._limit(call, now)

    def begin(self, call: Call) -> None:
        """The function of a call of `advance_many` is being called now."""
        with self.effects:
            if not call.abandoned:
                self._begin(call, self._now())

    def give_back(self, calls: list[Call]) -> None:
        """Calls of `advance_many` that were never begun are ready again."""
        with self.effects:
            now = self._now()
            for call in calls:
                if not call.abandoned:
                    del call.live.active[call.number]
                    call.live.scheduler.unclaim(call.number, now)
                    self.moved(call.live)
