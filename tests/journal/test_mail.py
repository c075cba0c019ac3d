"""Certified mail: an intent is on disk before anything is sent, and what becomes of it is kept with what else is."""

import threading

import pytest

from nerv import DeliveryState, SqliteJournal
from nerv.errors import JournalError, SerializationError
from nerv.journal.base import Batch
from nerv.journal.codec import Stored
from tests.journal.logs import EPOCH, Log

D = DeliveryState


def send(journal, payload=1, lane="lane"):
    return journal.on_intent(lane_id=lane, from_id="a", to_id="b", payload_type=type(payload).__name__, payload=payload)


def states(journal):
    return [one.state for one in journal.entries()]


def test_a_delivery_is_kept_as_it_goes(journal):
    number = send(journal, {"rows": (1, 2)})
    (one,) = journal.entries()
    assert (one.id, one.lane_id, one.from_id, one.to_id, one.payload_type) == (number, "lane", "a", "b", "dict")
    assert (one.payload, one.state, one.error) == ({"rows": (1, 2)}, D.PENDING, None)
    assert type(one.stored) is Stored
    journal.on_dispatched(number)
    assert states(journal) == [D.DISPATCHED]
    assert [one.id for one in journal.unacknowledged()] == [number]
    journal.on_acknowledged(number)
    (one,) = journal.entries()
    assert one.state is D.ACKED
    assert one.changed_at >= one.created_at
    assert journal.unacknowledged() == []


def test_a_failed_delivery_says_why(journal):
    number = send(journal)
    journal.on_failed(number, ValueError("no"))
    (one,) = journal.entries("FAILED")
    assert one.error == "ValueError: no"
    assert journal.unacknowledged() == []


def test_entries_by_state(journal):
    numbers = [send(journal, value) for value in range(4)]
    journal.on_dispatched(numbers[1])
    journal.on_acknowledged(numbers[2])
    journal.on_failed(numbers[3], KeyError("k"))
    for number, state in zip(numbers, D, strict=True):
        assert [one.id for one in journal.entries(state)] == [number]
        assert [one.id for one in journal.entries(state.value)] == [number]
    assert [one.payload for one in journal.unacknowledged()] == [0, 1]
    with pytest.raises(ValueError, match="LOST"):
        journal.entries("LOST")


def test_a_payload_that_cannot_be_stored_names_its_task(journal):
    with pytest.raises(SerializationError, match="task 'a'"):
        send(journal, threading.Lock())
    assert journal.entries() == []


def test_what_becomes_of_it_goes_with_the_next_commit_of_any_kind(opened, path):
    journal = opened()
    log = Log(journal)
    numbers = [send(journal) for _ in range(4)]
    with SqliteJournal(path, read_only=True) as reader:
        assert states(reader) == [D.PENDING] * 4, "an intent is on disk at once"
        journal.on_dispatched(numbers[0])
        assert states(reader) == [D.PENDING] * 4
        log.step(0)
        assert states(reader) == [D.DISPATCHED, D.PENDING, D.PENDING, D.PENDING]
        journal.on_acknowledged(numbers[1])
        send(journal)
        assert states(reader)[1] is D.ACKED
        journal.on_acknowledged(numbers[2])
        journal.write(Batch())
        assert states(reader)[2] is D.ACKED
        journal.on_acknowledged(numbers[3])
        journal.close()
        assert states(reader)[3] is D.ACKED


def test_it_goes_on_in_the_next_opening(opened):
    journal = opened()
    first = send(journal)
    journal.close()
    journal = opened()
    assert [one.id for one in journal.unacknowledged()] == [first]
    assert send(journal) > first
    journal.on_acknowledged(first)
    assert states(journal) == [D.ACKED, D.PENDING]


def commits(journal, monkeypatch):
    """Counts a journal's commits."""
    made = []
    commit = journal._database.commit

    def counted(statements, **options):
        made.append(len(statements))
        commit(statements, **options)

    monkeypatch.setattr(journal._database, "commit", counted)
    return made


def test_intents_that_come_together_share_commits(journal, monkeypatch):
    made = commits(journal, monkeypatch)
    threads = [threading.Thread(target=send, args=(journal, number)) for number in range(8)]
    with journal._lock:  # a commit is under way
        for thread in threads:
            thread.start()
        while len(journal._mail._letters) < 8:
            threading.Event().wait(0.001)
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert sorted(one.payload for one in journal.entries()) == [*range(8)]


def test_an_intent_that_cannot_be_written_is_not_there_later(journal, monkeypatch):
    log = Log(journal)

    def fail(statements, **options):
        raise JournalError("journal x: full")

    with monkeypatch.context() as patched:
        patched.setattr(journal._database, "commit", fail)
        with pytest.raises(JournalError, match="full"):
            send(journal)
    number = send(journal, 2)
    log.step(0)
    assert [(one.id, one.payload) for one in journal.entries()] == [(number, 2)]


def test_what_was_noted_when_a_write_failed_is_written_by_the_next(journal, monkeypatch):
    log = Log(journal)
    number = send(journal)
    journal.on_acknowledged(number)

    def fail(statements, **options):
        raise JournalError("journal x: full")

    with monkeypatch.context() as patched:
        patched.setattr(journal._database, "commit", fail)
        with pytest.raises(JournalError, match="full"):
            log.step(0)
    log.step(0)
    assert [one.state for one in journal._mail.entries()] == [D.ACKED]


def test_deliveries_of_ended_lanes_are_forgotten_with_their_executions(journal, monkeypatch):
    moments = iter(range(1000))
    monkeypatch.setattr("nerv.journal.mail.time.time", lambda: EPOCH + next(moments))
    for name in ("a", "b", "c"):
        log = Log(journal, name)
        journal.on_acknowledged(send(journal, name, lane=name))
        journal.on_lane_complete(name)
        log.end(at=float(next(moments)))
    send(journal, "open", lane="open")
    assert journal.forget(keep=1) == 2
    assert [one.payload for one in journal.entries()] == ["c", "open"]
    assert journal.forget(before=EPOCH + 999) == 1
    assert [one.payload for one in journal.entries()] == ["open"]
