"""`FaultyJournal` fails when it is told to, and keeps what was written before; of the rest, nothing or a beginning."""

import pytest

from nerv import MemoryJournal, WorkflowStatus
from nerv.errors import JournalError
from nerv.eventlog import TASK_COMPLETED, TASK_STARTED, WORKFLOW_STARTED
from nerv.journal.base import Batch, Fact, Header, Stretch
from nerv.testing import FaultyJournal
from tests.journal.logs import EPOCH, Log, same


def written(faulty):
    """Write a log until it fails; the log as far as it was accepted."""
    log = None
    try:
        log = Log(faulty, tasks=5)
        log.run()
    except JournalError as error:
        assert "was chosen to fail" in str(error)  # noqa: PT017  (it may fail anywhere, or nowhere)
    return log


@pytest.mark.parametrize("fail_at", range(1, 9))
def test_what_came_before_is_kept_and_nothing_else(fail_at):
    with FaultyJournal(MemoryJournal(), fail_at=fail_at) as faulty:
        log = written(faulty)
        assert faulty.writes == min(fail_at, 7)
        if fail_at == 1:
            assert faulty.executions() == []
            return
        assert same(faulty.load("e", epoch=EPOCH), log)
        faulty.release()
        ended = fail_at == 8
        assert faulty.execution("e").status is (WorkflowStatus.COMPLETED if ended else WorkflowStatus.INTERRUPTED)


def test_it_goes_on_failing_or_not():
    for times, later in ((None, False), (1, True), (2, False)):
        faulty = FaultyJournal(MemoryJournal(), fail_at=2, times=times)
        log = Log(faulty)
        with pytest.raises(JournalError):
            log.step(0)
        if later:
            log.step(0)
            assert same(faulty.load("e", epoch=EPOCH), log)
        else:
            with pytest.raises(JournalError):
                log.step(0)


def test_an_intent_is_a_write():
    faulty = FaultyJournal(MemoryJournal(), fail_at=2)
    wire = {"lane_id": "l", "from_id": "a", "to_id": "b", "payload_type": "int"}
    number = faulty.on_intent(**wire, payload=1)
    with pytest.raises(JournalError):
        faulty.on_intent(**wire, payload=2)
    faulty.on_dispatched(number)
    faulty.on_failed(number, ValueError("no"))
    faulty.on_lane_complete("l")
    assert [one.payload for one in faulty.entries("FAILED")] == [1]


def test_a_torn_write_keeps_its_first_half():
    faulty = FaultyJournal(MemoryJournal(), fail_at=1, torn=True)
    records = [
        (WORKFLOW_STARTED, -1, 0.0, 0, {}),
        (TASK_STARTED, 0, 1.0, 1, None),
        (TASK_COMPLETED, 0, 2.0, 1, None),
        (TASK_STARTED, 1, 3.0, 1, None),
    ]
    stretches = [
        Stretch("a", 1, records, EPOCH, ["t", "u"], {0: "done"}, [1]),
        Stretch("b", 1, records[:2], EPOCH, ["t"]),
    ]
    with pytest.raises(JournalError):
        faulty.write(Batch([Header("a", "wf"), Header("b", "wf")], stretches, [Fact("a", "x", 1)]))
    assert [one.id for one in faulty.executions()] == ["a"]
    history = faulty.load("a", epoch=EPOCH)
    assert [record[0] for record in history.records] == [record[0] for record in records[:3]]
    assert history.values == {"t": "done"}
    assert (history.claims, history.facts, history.ids) == ([], {}, ["t", "u"])


def test_without_a_fault_everything_is_passed_on(journal):
    with FaultyJournal(journal) as faulty:
        log = Log(faulty).run()
        going = Log(faulty, "going")
        assert faulty.order("going", "cancel", {}) == 1
        assert same(faulty.load("e", epoch=EPOCH), log)
        assert len(list(faulty.events("e", 2))) == len(log.records) - 2
        assert faulty.execution("e") == faulty.executions()[0]
        assert [one.id for one in faulty.unfinished()] == ["going"]
        assert len(faulty.check()) == 2
        faulty.release("going")
        assert faulty.discard("going")
        assert faulty.facts("e") == {}
        assert faulty.unacknowledged() == []
        while faulty.tidy():
            pass
        assert faulty.forget(keep=0) == 1
        assert going.id
        assert faulty.writes == 6
    with pytest.raises(JournalError, match="closed"):
        journal.executions()
