"""Of several who miss the same result at the same time, one computes it."""

import random
import threading
from collections import Counter

import pytest

from nerv.caching.desk import Compute, Desk, Hit, Wait
from nerv.caching.stores import MISS, Entry, MemoryStore

ENTRY = Entry("f", None)


class Amnesia(MemoryStore):
    """Keeps nothing, as a file does with what can't be pickled."""

    def put(self, key, value, entry, now):
        pass


class Slow(MemoryStore):
    """Its first look for a key comes back only when the key's result has been kept by somebody else."""

    def __init__(self, desk_of):
        super().__init__()
        self.desk_of = desk_of
        self.looks = 0

    def get(self, key, ttl, now):
        found = super().get(key, ttl, now)
        self.looks += 1
        if self.looks == 1:
            flight = self.desk_of().ask(key, ENTRY).flight
            flight.keep("of another")
        return found


def desk(store=None, time=lambda: 0.0):
    return Desk(store or MemoryStore(), time)


def test_the_first_computes_the_second_waits_the_third_finds_it():
    front = desk()
    first, second = front.ask("k", ENTRY), front.ask("k", ENTRY)
    assert (type(first), type(second)) == (Compute, Wait)
    assert first.flight is second.flight
    told = []
    second.flight.when_landed(lambda: told.append(second.flight.value))
    assert not told
    first.flight.keep([1])
    assert told == [[1]]
    assert front.ask("k", ENTRY) == Hit([1])


def test_other_keys_dont_wait():
    front = desk()
    assert isinstance(front.ask("k", ENTRY), Compute)
    assert isinstance(front.ask("l", ENTRY), Compute)


def test_after_a_failure_the_next_who_asks_computes():
    front = desk()
    first, second = front.ask("k", ENTRY), front.ask("k", ENTRY)
    told = []
    second.flight.when_landed(lambda: told.append(second.flight.value))
    first.flight.failed()
    assert told == [MISS]
    assert isinstance(front.ask("k", ENTRY), Compute)
    assert isinstance(front.ask("k", ENTRY), Wait)


def test_who_waits_has_the_value_that_the_store_couldnt_keep():
    front = desk(Amnesia())
    first, second = front.ask("k", ENTRY), front.ask("k", ENTRY)
    first.flight.keep(None)
    assert second.flight.value is None
    assert isinstance(front.ask("k", ENTRY), Compute)


def test_a_flight_lands_once():
    front = desk()
    flight = front.ask("k", ENTRY).flight
    flight.failed()
    flight.failed()
    assert flight.value is MISS
    again = front.ask("k", ENTRY)
    assert isinstance(again, Compute)
    flight.failed()
    assert isinstance(front.ask("k", ENTRY), Wait), "an old flight doesn't end a new one"
    again.flight.keep(1)
    again.flight.failed()
    assert again.flight.value == 1


def test_what_is_computed_after_the_landing_is_kept_all_the_same():
    front = desk()
    flight = front.ask("k", ENTRY).flight
    flight.failed()
    flight.keep("late")
    assert flight.value is MISS
    assert front.ask("k", ENTRY) == Hit("late")


def test_who_comes_after_the_landing_is_told_at_once():
    flight = desk().ask("k", ENTRY).flight
    flight.keep(1)
    told = []
    flight.when_landed(lambda: told.append(flight.value))
    assert told == [1]


def test_a_result_that_came_between_two_looks_is_found():
    front = Desk(Slow(lambda: front), lambda: 0.0)
    assert front.ask("k", ENTRY) == Hit("of another")
    assert front.ask("k", ENTRY) == Hit("of another")


def test_a_result_that_has_grown_old_is_computed_again():
    moments = [0.0]
    front = desk(time=lambda: moments[0])
    entry = Entry("f", 5.0)
    front.ask("k", entry).flight.keep(1)
    moments[0] = 4.9
    assert front.ask("k", entry) == Hit(1)
    moments[0] = 5.0
    again = front.ask("k", entry)
    assert isinstance(again, Compute)
    again.flight.keep(2)
    moments[0] = 9.9
    assert front.ask("k", entry) == Hit(2)


@pytest.mark.parametrize("seed", range(20))
def test_threads_that_ask_at_once_compute_once(seed):
    """Every thread ends up with the value; each key is computed once for every failure, and once more."""
    dice = random.Random(seed)
    front = desk(Amnesia() if seed % 2 else None)
    computed, failures = Counter(), {key: dice.randrange(3) for key in "abc"}
    attempts, got, lock = Counter(), [], threading.Lock()
    gate = threading.Barrier(8)

    def want(key):
        gate.wait(10)
        while True:
            answer = front.ask(key, ENTRY)
            if isinstance(answer, Hit):
                break
            if isinstance(answer, Wait):
                landed = threading.Event()
                answer.flight.when_landed(landed.set)
                assert landed.wait(10)
                if answer.flight.value is MISS:
                    continue
                answer = Hit(answer.flight.value)
                break
            with lock:
                attempts[key] += 1
                fails = attempts[key] <= failures[key]
            if fails:
                answer.flight.failed()
                continue
            with lock:
                computed[key] += 1
            answer.flight.keep(key.upper())
            answer = Hit(key.upper())
            break
        with lock:
            got.append((key, answer.value))

    keys = [dice.choice("abc") for _ in range(8)]
    threads = [threading.Thread(target=want, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == sorted((key, key.upper()) for key in keys)
    if not seed % 2:
        assert computed == Counter(set(keys))
        assert all(attempts[key] == failures[key] + 1 for key in set(keys))
    assert not front._flights


def test_closing_the_desk_closes_the_store():
    store = MemoryStore()
    front = desk(store)
    front.ask("k", ENTRY).flight.keep(1)
    front.close()
    assert store.get("k", None, 0.0) is MISS
