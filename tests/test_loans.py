"""Slots that waiting calls lend: a call counts as running exactly when none of its waits is under way."""

import random
from collections import deque
from types import SimpleNamespace

import pytest

from nerv.effects import Effects
from nerv.loans import Loans

ACTS = ["take", "lend", "lend", "lend", "reclaim", "reclaim", "abandon", "end"]


class Model:
    """A pool, calls, and who waits; what the engine and the pools do with `Loans`, one act at a time."""

    def __init__(self, limit):
        self.effects = Effects()
        self.loans = Loans(self.effects)
        self.pool = Pool(limit)
        self.calls = []
        self.waits = {}  # call -> its waits: "out" (under way) or "back" (over, and waits for a slot)

    def act(self, what, which):
        """One act, if it is possible now; then what was noted happens."""
        if what == "take":
            if self.pool.running < self.pool.limit and not self.loans.wanted:
                call = Call()
                self.pool.running += 1
                self.calls.append(call)
                self.waits[call] = []
        elif which < len(self.calls):
            getattr(self, what)(self.calls[which])
        self.loans.return_slots(self.pool)
        while self.effects.noted:
            self.effects.noted.pop(0)()

    def lend(self, call):
        if self.runs(call) or self.waits[call]:
            self.loans.lend(self.pool, call)
            self.waits[call].append("out")

    def reclaim(self, call):
        if "out" in self.waits[call]:
            self.waits[call].remove("out")
            if not self.loans.reclaim(self.pool, call, lambda: self.waits[call].remove("back")):
                self.waits[call].append("back")

    def abandon(self, call):
        if not call.abandoned:
            call.abandoned = True
            self.pool.running -= not call.lent

    def end(self, call):
        """Its function returns, whatever it has left waiting."""
        if not self.waits[call] or "out" in self.waits[call]:
            self.loans.recall(self.pool, call)
            while self.effects.noted:
                self.effects.noted.pop(0)()
            self.pool.running -= not call.abandoned
            self.calls.remove(call)

    def runs(self, call):
        return not self.waits[call]

    def check(self):
        counted = sum(self.runs(call) for call in self.calls if not call.abandoned)
        assert self.pool.running == counted
        assert self.pool.running <= self.pool.limit
        waiting = [call for call in self.calls if "back" in self.waits[call] and not call.abandoned]
        assert not waiting or self.pool.running == self.pool.limit
        assert all("out" not in self.waits[call] for call in waiting)


class Call:
    """What `Loans` knows of a call."""

    lent = 0
    abandoned = False


class Pool(SimpleNamespace):
    """What `Loans` knows of a pool."""

    def __init__(self, limit):
        super().__init__(limit=limit, running=0)

    __hash__ = object.__hash__


@pytest.mark.parametrize("limit", [1, 2])
def test_a_call_counts_exactly_while_none_of_its_waits_is_under_way(limit):
    """In a thousand random orders of taking, lending, wanting back, giving up and ending, no slot is lost."""
    draw = random.Random(limit)
    for _ in range(1000):
        model = Model(limit)
        for _ in range(40):
            model.act(draw.choice(ACTS), draw.randrange(3))
            model.check()


def test_slots_come_back_in_the_order_in_which_they_are_wanted():
    """Before anything new is given out."""
    model, back = Model(1), deque()
    for _ in range(3):
        model.act("take", 0)
        model.act("lend", len(model.calls) - 1)
    for call in model.calls:
        model.loans.reclaim(model.pool, call, lambda call=call: back.append(model.calls.index(call)))
    assert list(model.loans.wanted[model.pool])
    model.pool.running -= 1
    model.loans.return_slots(model.pool)
    model.effects.noted.pop()()
    assert back == deque([1])
