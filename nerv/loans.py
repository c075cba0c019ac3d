"""`Loans`: slots of a pool that waiting calls have lent to others, and want back."""

from __future__ import annotations

from collections import deque

from nerv.calls import Call
from nerv.effects import Effects
from nerv.pools.base import Effect, Pool


class Loans:
    """Who has lent a slot, and who waits to get one back. Everything here happens under the engine's lock.

    A call that waits for another execution doesn't count as running meanwhile. A coroutine may wait for several at a
    time: `Call.lent` is how many of its waits aren't over or are over and in `wanted`, and the call counts as running
    when there is none. So the last wait that ends needs a slot again, before anything new is given out, and may have to
    wait for one in `wanted`; the others don't.
    """

    def __init__(self, effects: Effects) -> None:
        self._effects = effects
        self.wanted: dict[Pool, deque[tuple[Call, Effect]]] = {}

    def lend(self, pool: Pool, call: Call) -> bool:
        """The call waits for something. True: that has freed a slot."""
        call.lent += 1
        if call.lent > 1:
            for loan in [loan for loan in self.wanted.get(pool, ()) if loan[0] is call]:
                self.wanted[pool].remove(loan)  # it needs no slot now: this wait lends it
                self._return(loan)
            return False
        if not call.abandoned:
            pool.running -= 1
        return not call.abandoned

    def reclaim(self, pool: Pool, call: Call, back: Effect) -> bool:
        """The call goes on: True, at once; else `back` is called when it has a slot again."""
        if call.lent == 1 and not call.abandoned:
            if pool.running >= pool.limit:
                self.wanted.setdefault(pool, deque()).append((call, back))
                return False
            pool.running += 1
        call.lent -= call.lent > 0
        return True

    def recall(self, pool: Pool, call: Call) -> None:
        """The call is about to end: it lends no more, and whatever in it waits for the slot gets it."""
        if call.lent and not call.abandoned:
            pool.running += 1
        call.lent = 0
        waiting = self.wanted.get(pool, ())
        for loan in [loan for loan in waiting if loan[0] is call]:
            self.wanted[pool].remove(loan)
            self._effects.noted.append(loan[1])

    def return_slots(self, pool: Pool) -> None:
        """Give free slots back to those that want theirs."""
        waiting = self.wanted.get(pool)
        while waiting and (waiting[0][0].abandoned or pool.running < pool.limit):
            loan = waiting.popleft()
            pool.running += not loan[0].abandoned
            self._return(loan)
        if not waiting:
            self.wanted.pop(pool, None)

    def _return(self, loan: tuple[Call, Effect]) -> None:
        call, back = loan
        call.lent -= 1
        self._effects.noted.append(back)
