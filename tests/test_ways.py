"""Deliveries on their way, apart from any execution: whatever comes first, each is closed once and each lane ends."""

from types import SimpleNamespace

import pytest

from nerv import TaskCancelledError, TaskDef
from nerv.ways import Entry, Ways

HOOK, LANE = object(), -7


def call(number, *, abandoned=False):
    return SimpleNamespace(number=number, abandoned=abandoned, attempt=1, task=TaskDef("t", int))


def test_what_is_opened_in_time_is_closed_with_its_task():
    ways = Ways()
    way = ways.set_out(call(3), LANE)
    entry = Entry(HOOK, 1, "id")
    assert ways.opened(way, entry)
    assert ways.knows(3, HOOK, 1)
    assert not ways.knows(3, HOOK, 2)
    assert not ways.arrived(way)  # the lane goes on
    assert ways.concern(3)
    assert ways.end(3, None) == [entry]
    assert not ways.concern(3)
    assert ways.end(3, None) == []


def test_what_is_opened_too_late_isnt_taken_and_knows_why():
    ways, error = Ways(), OSError()
    first, second = ways.set_out(call(3), LANE), ways.set_out(call(3), LANE)  # two attempts
    assert ways.end(3, error) == []
    for way in (first, second):
        assert not ways.opened(way, Entry(HOOK, 1, "id"))
        assert way.error is error
    assert not ways.knows(3, HOOK, 1)


def test_a_lane_that_has_ended_waits_for_the_last_who_is_being_told():
    ways = Ways()
    first, second = ways.set_out(call(3), LANE), ways.set_out(call(4), LANE)
    assert ways.hold(LANE)
    assert not ways.hold(LANE - 1)
    assert not ways.arrived(first)
    assert ways.arrived(second)
    assert not ways.hold(LANE)
    again = ways.set_out(call(5), LANE)
    assert not ways.arrived(again)  # nobody awaits it any more


def test_when_all_is_over_whoever_comes_back_says_so():
    ways = Ways()
    way = ways.set_out(call(3), LANE)
    ways.hold_all()
    assert ways.arrived(way)


def test_nobody_sets_out_for_an_attempt_that_was_given_up():
    ways = Ways()
    with pytest.raises(TaskCancelledError, match="attempt 1 of task 't' was given up before its function was called"):
        ways.set_out(call(3, abandoned=True), LANE)
    assert not ways.hold(LANE)
    assert not ways.concern(3)
