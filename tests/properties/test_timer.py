"""The engine's timer: one thread, asleep until the next thing is due."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerv.clock import SystemClock
from nerv.testing import FakeClock
from nerv.timer import Timer
from tests.handshake import reached

FOREVER = 1e6


class Bell:
    """Things to do when they are due; each says that it was done."""

    def __init__(self, clock):
        self.clock = clock
        self.rung = []
        self._heard = threading.Semaphore(0)

    def ring(self, name):
        def act():
            self.rung.append((name, self.clock.monotonic()))
            self._heard.release()

        return act

    def wait(self, times=1):
        for _ in range(times):
            assert self._heard.acquire(timeout=20), "it didn't ring"


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def timer(clock):
    made = Timer(clock)
    yield made
    made.close()


@pytest.fixture
def bell(clock):
    return Bell(clock)


def asleep(clock):
    """Wait until the timer's thread sleeps until something is due; returns when that is."""
    for _ in range(10_000):
        if clock.due is not None:
            return clock.due
        threading.Event().wait(0.001)
    return pytest.fail("it doesn't go to sleep")


def test_a_timer_that_nothing_was_asked_of_has_no_thread():
    timer = Timer(SystemClock())
    assert not any(thread.name == "nerv-timer" for thread in threading.enumerate())
    timer.close()
    assert timer.wake_ups == 0


def test_what_is_due_is_done_at_its_moment_and_not_before(timer, clock, bell):
    timer.at(5.0, bell.ring("a"))
    assert asleep(clock) == 5.0
    clock.advance(4.9)
    assert bell.rung == []
    clock.advance(0.1)
    bell.wait()
    assert bell.rung == [("a", 5.0)]


def test_the_thread_wakes_once_for_each_thing_and_for_nothing_else(timer, clock, bell):
    for moment in (1.0, 2.0, 3.0):
        timer.at(moment, bell.ring(moment))
    for moment in (1.0, 2.0, 3.0):
        assert asleep(clock) == moment
        clock.advance(0.5)
        clock.advance(0.5)
        bell.wait()
    assert timer.wake_ups == 3
    assert [moment for _, moment in bell.rung] == [1.0, 2.0, 3.0]


def test_something_later_does_not_wake_the_thread_and_something_sooner_does(timer, clock, bell):
    timer.at(5.0, bell.ring("first"))
    assert asleep(clock) == 5.0
    timer.at(9.0, bell.ring("later"))
    assert (clock.due, timer.wake_ups) == (5.0, 0)
    timer.at(1.0, bell.ring("sooner"))
    while clock.due != 1.0:
        threading.Event().wait(0.001)
    assert timer.wake_ups == 1


def test_what_is_late_is_done_at_once(timer, clock, bell):
    clock.advance(10)
    timer.at(3.0, bell.ring("late"))
    bell.wait()
    assert bell.rung == [("late", 10.0)]
    assert timer.wake_ups == 0


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12))
def test_things_are_done_by_moment_and_then_in_the_order_in_which_they_were_asked_for(moments):
    clock = FakeClock()
    timer, bell = Timer(clock), Bell(clock)
    for number, moment in enumerate(moments):
        timer.at(moment, bell.ring((moment, number)))
    clock.advance(6)
    bell.wait(len(moments))
    timer.close()
    done = [name for name, _ in bell.rung]
    asked = [(moment, number) for number, moment in enumerate(moments)]
    assert [name for name in done if name[0]] == sorted(name for name in asked if name[0])
    # what was due at once may have been done before the next was asked for
    assert [name for name in done if not name[0]] == [name for name in asked if not name[0]]


def test_what_is_done_may_ask_for_more(timer, clock, bell):
    timer.at(1.0, lambda: timer.at(2.0, bell.ring("second")))
    assert asleep(clock) == 1.0
    clock.advance(1)
    assert asleep(clock) == 2.0
    clock.advance(1)
    bell.wait()
    assert bell.rung == [("second", 2.0)]


def test_a_timer_that_is_closed_forgets_what_is_due_and_ends_its_thread(clock, bell):
    timer = Timer(clock)
    timer.at(1.0, bell.ring("never"))
    timer.close()
    timer.close()
    timer.at(0.0, bell.ring("never either"))
    clock.advance(10)
    assert bell.rung == []
    assert not any(thread.name == "nerv-timer" for thread in threading.enumerate())


def test_a_timer_may_be_closed_by_what_it_does(clock):
    timer, closed = Timer(clock), threading.Event()
    timer.at(0.0, lambda: (timer.close(), closed.set()))
    reached(closed)


def test_the_computers_clock_rings_too():
    clock = SystemClock()
    timer, bell = clock.alarms(), Bell(clock)
    assert isinstance(timer, Timer)
    due = clock.monotonic() + 0.02
    timer.at(due + FOREVER, bell.ring("never"))
    timer.at(due, bell.ring("soon"))
    bell.wait()
    assert bell.rung[0][1] >= due
    timer.close()
