"""FakeClock: time stands still until it is moved, and what is due on the way is done before the move is over."""

from __future__ import annotations

import threading

import pytest

from nerv import TaskDef, Workflow, WorkflowManager, WorkflowStatus
from nerv.testing import FakeClock
from tests.handshake import ended, reached


def test_time_stands_still_until_it_is_moved():
    clock = FakeClock(epoch=1000.0)
    assert (clock.monotonic(), clock.time()) == (0.0, 1000.0)
    clock.advance(2.5)
    assert (clock.monotonic(), clock.time()) == (2.5, 1002.5)
    clock.advance(0)
    assert clock.monotonic() == 2.5


@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_time_does_not_go_back(seconds):
    with pytest.raises(ValueError, match="time goes forward"):
        FakeClock().advance(seconds)


def test_what_is_due_is_done_in_order_each_at_its_own_moment():
    clock, done = FakeClock(), []
    alarms = clock.alarms()
    for moment in (7.0, 3.0, 3.0, 20.0):
        alarms.at(moment, lambda moment=moment: done.append((moment, clock.monotonic())))
    alarms.at(3.0, lambda: alarms.at(5.0, lambda: done.append(("asked at 3", clock.monotonic()))))
    assert clock.due == 3.0
    clock.advance(10)
    assert done == [(3.0, 3.0), (3.0, 3.0), ("asked at 3", 5.0), (7.0, 7.0)]
    assert (clock.monotonic(), clock.due) == (10.0, 20.0)


def test_a_jump_goes_to_the_next_thing_that_is_due():
    clock, done = FakeClock(), []
    assert not clock.jump()
    clock.at(4.0, lambda: done.append("a"))
    clock.at(9.0, lambda: done.append("b"))
    assert clock.jump()
    assert (clock.monotonic(), done) == (4.0, ["a"])
    assert clock.jump()
    assert (clock.monotonic(), done) == (9.0, ["a", "b"])
    assert not clock.jump()


def test_what_is_done_may_move_time_further():
    clock, done = FakeClock(), []
    clock.at(1.0, lambda: clock.advance(5))
    clock.at(4.0, lambda: done.append(clock.monotonic()))
    clock.advance(2)
    assert (done, clock.monotonic()) == ([4.0], 6.0)


def test_alarms_that_are_closed_forget_their_own_things_only():
    clock, done = FakeClock(), []
    mine, others = clock.alarms(), clock.alarms()
    mine.at(1.0, lambda: done.append("mine"))
    others.at(1.0, lambda: done.append("others"))
    mine.close()
    clock.advance(1)
    assert done == ["others"]


def test_what_has_passed_is_done_soon():
    clock, done = FakeClock(), threading.Event()
    clock.advance(5)
    clock.at(1.0, done.set)
    reached(done)
    assert clock.monotonic() == 5.0


# ---- waiting ---------------------------------------------------------------------------------------------------------


class Sleeper:
    """A thread that waits by the clock until `is_over`, or for so many seconds."""

    def __init__(self, clock, seconds):
        self.clock = clock
        self.condition = threading.Condition()
        self.is_over = False
        self.deadline = None if seconds is None else clock.monotonic() + seconds
        self.outcome = None
        self.thread = threading.Thread(target=self.sleep)
        self.thread.start()

    def sleep(self):
        with self.condition:
            while not self.is_over:
                left = None if self.deadline is None else self.deadline - self.clock.monotonic()
                if left is not None and left <= 0:
                    break
                self.clock.wait(self.condition, left)
        self.outcome = (self.is_over, self.clock.monotonic())

    def end(self):
        with self.condition:
            self.is_over = True
            self.condition.notify()

    def woken(self):
        self.thread.join(20)
        assert not self.thread.is_alive(), "it sleeps on"
        return self.outcome


def test_a_wait_ends_when_its_time_has_come():
    clock = FakeClock()
    sleeper = Sleeper(clock, 10.0)
    clock.advance(9)
    assert sleeper.outcome is None
    clock.advance(1)
    assert sleeper.woken() == (False, 10.0)


@pytest.mark.parametrize("seconds", [10.0, None])
def test_a_wait_ends_when_it_is_notified(seconds):
    clock = FakeClock()
    sleeper = Sleeper(clock, seconds)
    sleeper.end()
    assert sleeper.woken() == (True, 0.0)
    assert clock.due is None, "it has taken its deadline back"


def test_a_deadline_that_passes_between_asking_and_waiting_is_not_slept_through():
    clock, condition = FakeClock(), threading.Condition()
    left = 5.0 - clock.monotonic()
    moved = threading.Thread(target=clock.advance, args=(6,))
    moved.start()
    moved.join()
    with condition:
        clock.wait(condition, left)


def test_many_sleepers_wake_each_in_time():
    clock = FakeClock()
    sleepers = [Sleeper(clock, seconds) for seconds in (1.0, 2.0, 2.0, 5.0)]
    for _ in range(5):
        clock.advance(1)
    assert all(sleeper.woken()[0] is False for sleeper in sleepers)


# ---- auto ------------------------------------------------------------------------------------------------------------


def test_an_auto_clock_jumps_when_nothing_runs():
    clock, rung = FakeClock(auto=True), threading.Event()
    clock.at(3600.0, lambda: clock.at(7200.0, rung.set))
    reached(rung)
    assert clock.monotonic() == 7200.0


def test_an_auto_clock_wakes_sleepers():
    assert Sleeper(FakeClock(auto=True), 1000.0).woken() == (False, 1000.0)


def test_an_auto_clock_stands_still_while_somebody_asks_for_the_time():
    clock, rung = FakeClock(auto=True), threading.Event()
    clock.at(3600.0, rung.set)
    for _ in range(20_000):
        assert clock.monotonic() in (0.0, 3600.0)
    reached(rung)


def test_a_clock_that_is_driven_does_nothing_by_itself():
    clock, done = FakeClock(auto=True), []
    clock.drive(lambda: False)
    clock.at(0.0, lambda: done.append("due"))
    clock.at(1.0, lambda: done.append("later"))
    assert not any(thread.name == "nerv-fake-clock" for thread in threading.enumerate())
    clock.advance(0)
    assert done == ["due"]


def test_who_waits_by_a_driven_clock_lets_the_simulation_go_on():
    clock, condition = FakeClock(), threading.Condition()
    clock.drive(clock.jump)
    with condition:
        clock.wait(condition, 50.0)
    assert clock.monotonic() == 50.0


# ---- an engine by it -------------------------------------------------------------------------------------------------


@pytest.mark.leaks_allowed("a task hangs until the test lets it go")
@pytest.mark.parametrize("auto", [False, True])
def test_an_hour_of_grace_passes_at_once(auto):
    clock, begun, go = FakeClock(auto=auto), threading.Event(), threading.Event()

    def hang():
        begun.set()
        reached(go)

    tasks = [TaskDef("hang", hang), TaskDef("clean up", int, dependencies=["hang"], run_when="all_finished")]
    with WorkflowManager(clock=clock, grace=3600) as manager:
        execution = manager.start(Workflow("wf", tasks))
        reached(begun)
        execution.cancel()
        if not auto:
            clock.advance(3600)
        assert ended(execution).status is WorkflowStatus.CANCELLED
        assert execution.results == {"clean up": 0}
        assert clock.monotonic() == 3600.0
    go.set()


@pytest.mark.leaks_allowed("a task hangs until the test lets it go")
def test_closing_with_an_hour_of_grace_takes_no_real_time():
    clock, begun, go = FakeClock(auto=True), threading.Event(), threading.Event()
    with WorkflowManager(clock=clock, grace=3600) as manager:
        execution = manager.start(Workflow("wf", [TaskDef("hang", lambda: begun.set() or reached(go))]))
        reached(begun)
    assert execution.status is WorkflowStatus.CANCELLED
    assert clock.monotonic() == 7200.0, "an hour to end by itself, and an hour to obey"
    go.set()
