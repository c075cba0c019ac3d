"""What a dead worker cost: pure, no cluster."""

import pytest

pytest.importorskip("distributed")

from nerv.pools.dask_orders import Deaths, Ticket


def tickets(count, begun=()):
    made = [Ticket(number, f"k{number}", None) for number in range(count)]
    for number in begun:
        made[number].begun_by = "here"
    return made


def outcome(begun, threads, order=None):
    """Numbers of the calls that died at once, that turned out to have died, and that are sent again."""
    deaths, made = Deaths(), tickets(6, begun)
    at_once = [ticket for ticket in sorted(made, key=order or (lambda t: t.number)) if deaths.mourn(ticket, "here")]
    died, again = deaths.bury("here", threads)
    return [[ticket.number for ticket in some] for some in (at_once, died, again)]


def test_what_had_begun_died_and_what_was_in_line_did_not():
    assert outcome(begun=[2], threads=1) == [[2], [], [0, 1, 3, 4, 5]]
    assert outcome(begun=[0, 3], threads=2) == [[0, 3], [], [1, 2, 4, 5]]


def test_a_worker_that_died_before_its_word_came_had_begun_what_was_next_in_line():
    assert outcome(begun=[], threads=1) == [[], [0], [1, 2, 3, 4, 5]]
    assert outcome(begun=[0], threads=3) == [[0], [1, 2], [3, 4, 5]]


def test_the_order_in_which_the_news_come_does_not_matter():
    assert outcome(begun=[1], threads=2, order=lambda t: -t.number) == [[1], [0], [2, 3, 4, 5]]


def test_a_call_that_another_worker_had_begun_was_in_line_here():
    deaths, (one,) = Deaths(), tickets(1, begun=[0])
    assert not deaths.mourn(one, "there")


def test_each_death_is_news_once():
    deaths, made = Deaths(), tickets(2)
    assert deaths.is_news("here")
    deaths.mourn(made[0], "here")
    assert not deaths.is_news("here")
    assert deaths.is_news("there")
    deaths.bury("here", 1)
    assert deaths.is_news("here")
