"""Tasks that wait for a signal or a moment, on a scheduler alone."""

from __future__ import annotations

from math import inf

import pytest

from nerv.eventlog import CODES
from nerv.graph import Graph
from nerv.scheduler import Scheduler
from nerv.states import DUE, LATE, SIGNALLED
from nerv.suspensions import Suspended

EPOCH = 1000.0


class Waiting:
    """A scheduler of tasks that need nobody and all run, and its suspensions."""

    def __init__(self, tasks=3):
        self.records = []
        ids = [str(number) for number in range(tasks)]
        graph = Graph([[]] * tasks, [1] * tasks)
        self.scheduler = Scheduler(graph, ids, [0] * tasks, [0] * tasks, 1, self.records)
        self.scheduler.start(0.0, {})
        for _ in range(tasks):
            self.scheduler.take(0, 0.0)
        self.all = self.scheduler.has_suspensions(EPOCH)

    def suspend(self, number, kept=None, **what):
        self.scheduler.suspended(number, 1.0, Suspended("something", 1.0, **what), kept)

    @property
    def news(self):
        news, self.scheduler.news = self.scheduler.news, []
        return news


def test_a_task_that_waits_says_for_what_and_until_when():
    one = Waiting(4)
    one.suspend(0, signal="go")
    one.suspend(1, due=5.0)
    one.suspend(2, kept=b"outcome", signal="go", due=7.0, deadline=6.0, prompt="Shall I?")
    told = [(CODES[code].value, task, at, data) for code, task, at, _, data in one.records[-3:]]
    assert told == [
        ("TASK_WAITING", 0, 1.0, {"reason": "something"}),
        ("TASK_WAITING", 1, 1.0, {"reason": "something", "due": 1005.0}),
        (
            "TASK_WAITING",
            2,
            1.0,
            {"reason": "something", "due": 1006.0, "prompt": "Shall I?", "outcome": b"outcome"},
        ),
    ]
    assert sorted(one.all.waiting) == [0, 1, 2]
    assert not one.scheduler.is_plain


def test_a_signal_reaches_all_that_wait_for_it_once():
    one = Waiting()
    one.suspend(0, signal="go")
    one.suspend(1, signal="stop")
    one.suspend(2, signal="go")
    assert one.all.signalled("go", 7, 2.0) is True
    assert one.news == [(SIGNALLED, 0), (SIGNALLED, 2)]
    assert one.all.signalled("go", 8, 3.0) is False
    assert (one.news, one.all.signals) == ([], {"go": 7})
    told = [(CODES[code].value, task, at, attempt, data) for code, task, at, attempt, data in one.records[-2:]]
    assert told == [
        ("SIGNAL_RECEIVED", -1, 2.0, 0, {"name": "go", "value": 7}),
        ("SIGNAL_RECEIVED", -1, 3.0, 0, {"name": "go", "value": 8}),
    ]


def test_a_signal_that_has_come_already_is_not_waited_for():
    one = Waiting()
    one.all.signalled("go", 7, 0.5)
    one.suspend(0, signal="go", deadline=9.0)
    assert one.news == [(SIGNALLED, 0)]
    assert one.all.next_due == inf


def test_moments_come_in_order_each_at_its_own():
    one = Waiting()
    one.suspend(0, due=5.0)
    one.suspend(1, signal="go", deadline=3.0)
    one.all.limit(2, 4.0)
    assert one.all.next_due == 3.0
    one.all.wake(2.9)
    assert one.news == []
    one.all.wake(3.0)
    assert (one.news, one.all.next_due) == ([(LATE, 1)], 4.0)
    one.all.wake(9.0)
    assert (one.news, one.all.next_due) == ([(LATE, 2), (DUE, 0)], inf)


def test_who_has_ended_is_not_told_of_its_moment():
    one = Waiting()
    one.all.limit(0, 4.0)
    one.all.limit(1, 5.0)
    one.scheduler.completed(0, 2.0)
    one.all.wake(9.0)
    assert one.news == [(LATE, 1)]


def test_who_waits_for_a_moment_waits_for_no_signal():
    one = Waiting()
    one.suspend(0, due=5.0)
    assert one.all.waiting[0] == Suspended("something", 1.0, None, 5.0, None, "")


def test_who_does_not_wait_any_more_is_not_told():
    one = Waiting()
    one.suspend(0, signal="go")
    one.suspend(1, signal="go")
    left = one.all.leave(0)
    assert (left.what, left.signal) == ("something", "go")
    assert one.all.leave(0) is None
    assert one.all.leave(2) is None
    one.all.signalled("go", None, 2.0)
    assert one.news == [(SIGNALLED, 1)]
    assert one.all.leave(1).signal == "go", "the signal has come, and nobody listens"


def test_who_is_cancelled_waits_no_more():
    one = Waiting(6)
    for number, due in enumerate((1.5, 6.0, 2.0, 8.0, 7.0, 3.0)):
        one.suspend(number, due=due, signal="go")
    one.scheduler.cancel_all([0, 5], 1.0)
    assert (sorted(one.all.waiting), one.all.next_due) == ([1, 2, 3, 4], 2.0)
    one.all.wake(9.0)
    assert one.news == [(DUE, 2), (DUE, 1), (DUE, 4), (DUE, 3)]
    one.all.signalled("go", None, 9.0)
    assert one.news == [(SIGNALLED, number) for number in (1, 2, 3, 4)]


def test_moments_stay_in_order_when_some_are_dropped():
    """The heap is [1, 2, 6, 3, 4, 7, 8]; without its first it is none, unless it is made one."""
    one = Waiting(7)
    for number, moment in enumerate((1.0, 2.0, 6.0, 3.0, 4.0, 7.0, 8.0)):
        one.all.limit(number, moment)
    one.all.drop([0])
    one.all.wake(9.0)
    assert one.news == [(LATE, number) for number in (1, 3, 4, 2, 5, 6)]


@pytest.mark.parametrize("known", [True, False])
def test_of_the_signals_that_records_tell_of_the_first_counts(known):
    one = Waiting()
    if known:
        one.all.restore_signal({"name": "go", "value": 1})
    one.all.restore_signal({"name": "go", "value": 2})
    assert one.all.signals == {"go": 1 if known else 2}


def test_suspensions_are_made_once():
    one = Waiting()
    assert one.scheduler.has_suspensions(0.0) is one.all


def test_what_is_forgotten_is_not_signalled_and_has_no_moment():
    one = Waiting(4)
    for number, signal in enumerate(("a", "b", "c")):
        one.suspend(number, signal=signal)
    one.all.signalled("c", 1, 1.0)
    one.all.signalled("d", 2, 1.0)
    assert one.news == [(SIGNALLED, 2)]
    for number, moment in enumerate((5.0, 1.0, 2.0, 0.5)):
        one.all.limit(number, moment)
    one.all.forget({0, 3}, ["a", "c", "nobody"])
    assert one.all.signals == {"d": 2}
    one.all.signalled("a", 1, 2.0)
    one.all.signalled("b", 1, 2.0)
    one.all.wake(9.0)
    assert one.news == [(SIGNALLED, 1), (LATE, 1), (LATE, 2)]


def test_moments_stay_in_order_when_some_are_forgotten():
    """The heap is [1, 2, 6, 3, 4, 7, 8]; without its first it is none, unless it is made one."""
    one = Waiting(7)
    for number, moment in enumerate((1.0, 2.0, 6.0, 3.0, 4.0, 7.0, 8.0)):
        one.all.limit(number, moment)
    one.all.forget({0}, [])
    one.all.wake(9.0)
    assert one.news == [(LATE, number) for number in (1, 3, 4, 2, 5, 6)]


def test_a_signal_that_the_last_has_left_off_waiting_for_may_be_waited_for_again():
    one = Waiting()
    one.suspend(0, signal="go")
    one.all.leave(0)
    assert one.all.leave(0) is None
    one.suspend(1, signal="go")
    one.all.signalled("go", 7, 2.0)
    assert one.news == [(SIGNALLED, 1)]
