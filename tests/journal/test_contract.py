"""What every journal does: nothing is lost, renumbered or made up; what doesn't continue what is stored is refused."""

import threading
from datetime import UTC, datetime

import pytest

from nerv import (
    DispatchHook,
    Event,
    EventType,
    Journal,
    MemoryJournal,
    SqliteJournal,
    WorkflowStatus,
)
from nerv.errors import ConfigError, JournalError, NervError, SerializationError, UnknownIdError
from nerv.eventlog import (
    CODES,
    TASK_COMPLETED,
    TASK_STARTED,
    WORKFLOW_CANCELLED,
    WORKFLOW_COMPLETED,
    WORKFLOW_FAILED,
    WORKFLOW_PAUSED,
    WORKFLOW_RESUMED,
    WORKFLOW_STARTED,
)
from nerv.journal import frames, upkeep
from nerv.journal.base import Batch, Fact, Header, Stretch
from nerv.journal.codec import Stored, encode
from nerv.testing import FaultyJournal
from tests.journal.logs import EPOCH, Log, same

S = WorkflowStatus


def tidied(journal):
    while journal.tidy():
        pass


def test_it_is_a_journal_and_a_dispatch_hook(journal):
    for one in (journal, FaultyJournal(journal)):
        assert isinstance(one, Journal)
        assert isinstance(one, DispatchHook)


def test_an_execution_comes_back_as_it_was_written(journal):
    log = Log(journal).run()
    history = journal.load(log.id, epoch=EPOCH)
    assert same(history, log)
    assert history.ids == log.ids
    assert history.status is S.COMPLETED
    assert (history.claims, history.orders, history.facts) == ([], [], {})


def test_its_header_comes_back(journal):
    params = {"rows": (1, 2), "when": datetime(2026, 1, 1, tzinfo=UTC)}
    Log(
        journal,
        workflow_id="w1",
        fingerprint="abc",
        params=params,
        target="etl:flow",
        extra={"random": {1: 2}},
    )
    header = journal.load("e").header
    assert (header.id, header.workflow_name, header.workflow_id) == ("e", "wf", "w1")
    assert (header.fingerprint, header.target, header.created_at) == ("abc", "etl:flow", EPOCH)
    assert dict(header.params) == params
    assert header.extra["random"] == {1: 2}


def test_moments_are_relative_to_the_epoch_that_is_asked_for(journal):
    log = Log(journal)
    log.step(0)
    assert [record[2] for record in journal.load("e").records] == [EPOCH, EPOCH + 1, EPOCH + 2]
    assert [record[2] for record in journal.load("e", epoch=EPOCH - 5).records] == [5.0, 6.0, 7.0]


def test_events_are_what_happened(journal):
    log = Log(journal)
    log.step(0, {"rows": (1,)})
    log.start(1)
    log.fail(1, ValueError("no"))
    events = list(journal.events("e"))
    assert [event.type for event in events] == [CODES[record[0]] for record in log.records]
    assert [event.seq for event in events] == [1, 2, 3, 4, 5]
    assert [event.id for event in events] == [f"e:{seq}" for seq in range(1, 6)]
    assert [event.task_id for event in events] == [None, "task-0", "task-0", "task-1", "task-1"]
    assert [event.attempt for event in events] == [None, 1, 1, 1, 1]
    assert [event.timestamp for event in events] == [EPOCH + seq for seq in range(5)]
    assert {type(event) for event in events} == {Event}
    assert {event.execution_id for event in events} == {"e"}
    assert events[0].data == {"task_count": 3}
    assert events[2].data == {"result": {"rows": (1,)}}
    assert type(events[4].data["error"]) is ValueError
    assert events[1].data == {}


def test_events_after_a_seq(journal):
    log = Log(journal, tasks=5).run()
    every = [(event.seq, event.task_id) for event in journal.events("e")]
    for after in range(len(log.records) + 2):
        assert [(event.seq, event.task_id) for event in journal.events("e", after)] == every[after:]


def test_who_follows_an_execution_reads_only_what_is_new(journal, monkeypatch):
    log = Log(journal, tasks=50)
    read = []
    content = frames.content
    monkeypatch.setattr("nerv.journal.reading.content", lambda body: read.append(1) or content(body))
    seen = 0
    for number in range(50):
        log.step(number)
        new = list(journal.events("e", seen))
        seen += len(new)
        assert [event.task_id for event in new if event.task_id] == [f"task-{number}"] * 2
    assert len(read) <= 51


def test_an_execution_that_is_unknown_is_named_with_its_like(journal):
    Log(journal, "crawl-1")
    for ask in (journal.load, lambda name: list(journal.events(name)), lambda name: journal.order(name, "x", {})):
        with pytest.raises(UnknownIdError, match=r"no execution 'crawl1' \(did you mean 'crawl-1'\?\)"):
            ask("crawl1")
    assert journal.execution("crawl1") is None
    assert journal.discard("crawl1") is False


def test_records_say_how_executions_stand(journal):
    Log(journal, "a").run()
    Log(journal, "b").failing()
    Log(journal, "c").end(WORKFLOW_CANCELLED, at=7.0)
    Log(journal, "d")
    found = {one.id: one for one in journal.executions()}
    assert [*found] == ["a", "b", "c", "d"]
    assert [one.status for one in found.values()] == [S.COMPLETED, S.FAILED, S.CANCELLED, S.RUNNING]
    assert (found["c"].started_at, found["c"].ended_at) == (EPOCH, EPOCH + 7.0)
    assert (found["d"].started_at, found["d"].ended_at) == (EPOCH, None)
    assert found["a"].workflow_name == "wf"
    assert journal.execution("b") == found["b"]
    assert [one.id for one in journal.unfinished()] == ["d"]


def test_an_execution_can_be_paused(journal):
    log = Log(journal)
    log.write([(WORKFLOW_PAUSED, -1, 1.0, 0, None)])
    assert journal.execution("e").status is S.PAUSED
    log.write([(WORKFLOW_RESUMED, -1, 2.0, 0, None)])
    assert journal.execution("e").status is S.RUNNING
    log.write([(WORKFLOW_PAUSED, -1, 3.0, 0, None)])
    log.end(WORKFLOW_CANCELLED)
    assert journal.execution("e").status is S.CANCELLED


def test_one_that_was_let_go_of_is_interrupted_until_somebody_goes_on(journal):
    first, second = Log(journal, "a"), Log(journal, "b")
    journal.release("a")
    assert [one.status for one in journal.executions()] == [S.INTERRUPTED, S.RUNNING]
    journal.release()
    assert [one.status for one in journal.executions()] == [S.INTERRUPTED, S.INTERRUPTED]
    assert journal.load("a").status is S.INTERRUPTED
    first.step(0)
    assert [one.status for one in journal.executions()] == [S.RUNNING, S.INTERRUPTED]
    second.run()
    assert [one.status for one in journal.executions()] == [S.RUNNING, S.COMPLETED]
    assert same(journal.load("a", epoch=EPOCH), first)
    journal.release()
    journal.release("a", "b", "nobody")


# ---- what doesn't continue what is stored ---------------------------------------------------------------------------


def refused(journal, batch, match):
    before = [(one, journal.load(one.id).records) for one in journal.executions()]
    with pytest.raises(JournalError, match=match):
        journal.write(batch)
    assert [(one, journal.load(one.id).records) for one in journal.executions()] == before


def test_a_gap_is_refused_and_nothing_of_its_batch_is_kept(journal):
    log = Log(journal)
    record = (TASK_STARTED, 0, 1.0, 1, None)
    for seq in (1, 3, 0):
        batch = Batch([Header("new", "wf")], [Stretch("new", 1, [record]), Stretch("e", seq, [record])])
        refused(journal, batch, "execution 'e' has 1 events, so the next is 2, not")
    log.step(0)
    assert same(journal.load("e", epoch=EPOCH), log)


def test_an_id_is_used_once(journal):
    Log(journal).run()
    Log(journal, "going")
    for name in ("e", "going"):
        refused(journal, Batch([Header(name, "other")]), f"already holds execution {name!r}")
    refused(journal, Batch([Header("twin", "wf"), Header("twin", "wf")]), "twin")


def test_an_ended_execution_takes_nothing_more(journal):
    Log(journal).run()
    refused(journal, Batch([], [Stretch("e", 9, [(TASK_STARTED, 0, 1.0, 1, None)])]), "'e' has ended")
    end = (WORKFLOW_COMPLETED, -1, 1.0, 0, None)
    both = Batch([Header("n", "wf")], [Stretch("n", 1, [end]), Stretch("n", 2, [end])])
    refused(journal, both, "'n' has ended")


def test_a_result_that_was_not_encoded_is_refused(journal):
    """msgpack would make a list of it, and nobody would notice."""
    Log(journal)
    with pytest.raises(TypeError, match="weren't encoded"):
        journal.write(Batch([], [Stretch("e", 2, [(TASK_COMPLETED, 0, 1.0, 1, None)], EPOCH, (), {0: (1, 2)})]))
    assert len(journal.load("e").records) == 1


def test_an_execution_needs_its_header(journal):
    refused(journal, Batch([], [Stretch("e", 1, [(TASK_STARTED, 0, 1.0, 1, None)])]), "holds no execution 'e'")


def test_a_name_that_is_no_text_is_refused(journal):
    refused(journal, Batch([Header("\ud800", "wf")]), "Unicode|utf-8")
    refused(journal, Batch([Header("e", "\ud800")]), "Unicode|utf-8")


# ---- batches --------------------------------------------------------------------------------------------------------


def test_a_batch_holds_many_executions_and_many_stretches_of_each(journal):
    names = [f"e{number}" for number in range(20)]
    stretches = []
    for seq in range(1, 11):
        for name in names:
            record = (WORKFLOW_STARTED, -1, 0.0, 0, {}) if seq == 1 else (TASK_STARTED, 0, float(seq), seq, None)
            stretches.append(Stretch(name, seq, [record], EPOCH, ["a"] if seq == 1 else []))
    journal.write(Batch([Header(name, "wf") for name in names], stretches))
    assert [one.id for one in journal.executions()] == names
    for name in names:
        assert [record[2] for record in journal.load(name, epoch=EPOCH).records[1:]] == [2.0 + n for n in range(9)]


def test_an_empty_batch_is_nothing(journal):
    journal.write(Batch())
    assert journal.executions() == []


def test_without_sync_it_is_kept_too(journal):
    log = Log(journal)
    log.step(0, sync=False)
    log.step(1, sync=True)
    log.step(2, sync=False)
    assert same(journal.load("e", epoch=EPOCH), log)


def test_an_execution_begins_before_its_first_event(journal):
    journal.write(Batch([Header("e", "wf")]))
    assert journal.execution("e").started_at is None
    assert journal.load("e").records == []
    assert list(journal.events("e")) == []
    journal.write(Batch([], [Stretch("e", 1, [(WORKFLOW_STARTED, -1, 3.0, 0, {})], EPOCH)]))
    assert journal.execution("e").started_at == EPOCH + 3.0


def test_task_ids_come_in_as_they_are_made(journal):
    log = Log(journal, tasks=1)
    log.ids.append("task-0/x")
    log.write([(TASK_STARTED, 1, 1.0, 1, None)], ids=["task-0/x"])
    log.write([(TASK_COMPLETED, 1, 2.0, 1, None)], {1: "done"})
    assert journal.load("e").ids == ["task-0", "task-0/x"]
    assert journal.load("e").values == {"task-0/x": "done"}
    assert [event.task_id for event in journal.events("e", 1)] == ["task-0/x"] * 2


@pytest.mark.parametrize("task_id", ["\ud800", "caf\udce9.txt", "\ud800/x[3]", "日本", "\x00", "🙂", "é" * 3000])
def test_a_task_id_is_any_string(journal, task_id):
    """Also one made of a file's name that isn't UTF-8."""
    log = Log(journal, tasks=1)
    log.ids.append(task_id)
    log.write([(TASK_STARTED, 1, 1.0, 1, None), (TASK_COMPLETED, 1, 2.0, 1, None)], {1: "done"}, ids=[task_id])
    tidied(journal)
    assert journal.load("e").ids == ["task-0", task_id]
    assert journal.load("e").values == {task_id: "done"}
    assert [event.task_id for event in journal.events("e", 1)] == [task_id] * 2
    assert not [finding for finding in journal.check() if finding.damage]


def test_a_result_that_is_not_kept_is_not_there(journal):
    log = Log(journal)
    log.write([(TASK_STARTED, 0, 1.0, 1, None), (TASK_COMPLETED, 0, 2.0, 1, {"cached": True})])
    assert journal.load("e").values == {}
    assert next(journal.events("e", 2)).data == {"cached": True}


def test_a_task_that_ran_again_has_its_last_result(journal):
    log = Log(journal)
    log.step(0, "first")
    log.step(0, "second")
    assert journal.load("e").values == {"task-0": "second"}
    results = [event.data["result"] for event in journal.events("e") if event.type is EventType.TASK_COMPLETED]
    assert results == ["first", "second"]


def test_claims_say_after_how_many_events_they_were_made(journal):
    log = Log(journal, tasks=9)
    log.write([], claims=[0, 1])
    log.step(0, claims=[2])
    log.write([], claims=[3])
    log.write([], claims=[4, 5])
    log.step(1)
    wanted = [(1, [0, 1]), (3, [2]), (3, [3]), (3, [4, 5])]
    assert journal.load("e").claims == wanted
    log.end()
    tidied(journal)
    assert journal.load("e").claims == wanted
    assert same(journal.load("e", epoch=EPOCH), log)


def test_facts_change_with_the_records_that_they_belong_to(journal):
    log = Log(journal)
    log.step(0, facts=[Fact("e", "cursor", {"page": (3,)}), Fact("e", "seen", 1), Fact("other", "cursor", 9)])
    assert journal.facts("e") == {"cursor": {"page": (3,)}, "seen": 1}
    assert journal.load("e").facts == {"cursor": {"page": (3,)}, "seen": 1}
    journal.write(Batch(facts=[Fact("e", "seen", 2), Fact("e", "cursor"), Fact("e", "seen", 3)]))
    assert journal.facts("e") == {"seen": 3}
    assert journal.facts("other") == {"cursor": 9}
    refused(journal, Batch([], [Stretch("e", 9, [])], [Fact("e", "seen", 4)]), "has 3 events")
    assert journal.facts("e") == {"seen": 3}


def test_orders_stay_until_they_are_done(journal):
    log = Log(journal)
    first = journal.order("e", "signal", {"name": "go", "value": (1, 2)})
    second = journal.order("e", "cancel", {"reason": ""})
    orders = journal.load("e").orders
    assert [(order.id, order.kind, dict(order.data)) for order in orders] == [
        (first, "signal", {"name": "go", "value": (1, 2)}),
        (second, "cancel", {"reason": ""}),
    ]
    log.step(0, orders_done=[first])
    assert [order.id for order in journal.load("e").orders] == [second]
    assert journal.order("e", "pause", {}) > second


def test_an_order_that_cannot_be_stored_is_refused(journal):
    Log(journal)
    with pytest.raises(SerializationError, match="value"):
        journal.order("e", "signal", {"value": threading.Lock()})
    assert journal.load("e").orders == []


def test_a_stretch_too_large_for_one_row_is_several(journal, monkeypatch):
    monkeypatch.setattr(frames, "SPLIT", 2000)
    log = Log(journal, tasks=100)
    records, values = [], {}
    for number in range(100):
        records += [(TASK_STARTED, number, 1.0, 1, None), (TASK_COMPLETED, number, 2.0, 1, None)]
        values[number] = "x" * (number * 10)
    log.write(records, values, claims=[7])
    assert same(journal.load("e", epoch=EPOCH), log)
    assert journal.load("e").claims[0][1] == [7]
    log.end()
    tidied(journal)
    assert same(journal.load("e", epoch=EPOCH), log)


def test_results_are_not_read_before_somebody_asks(journal):
    log = Log(journal)
    log.step(0, Unreadable())
    history = journal.load("e")
    events = list(journal.events("e"))
    journal.check()
    journal.executions()
    assert type(history.values.raw("task-0")) is Stored
    with pytest.raises(SerializationError, match=r"task 'task-0'"):
        history.values["task-0"]
    with pytest.raises(SerializationError):
        events[2].data["result"]


class Unreadable:
    def __reduce__(self):
        return explode, ()


def explode():
    raise AssertionError("it was unpickled")


def test_a_fork_takes_results_over_unread(journal):
    log = Log(journal)
    log.step(0, Unreadable())
    history = journal.load("e")
    raw = history.values.raw("task-0")
    records = [record for record in history.records if record[1] <= 0]
    journal.write(Batch([Header("fork", "wf")], [Stretch("fork", 1, records, 0.0, history.ids, {0: encode(raw)})]))
    again = journal.load("fork")
    assert again.records == history.records
    assert bytes(again.values.raw("task-0").raw) == bytes(raw.raw)


# ---- housekeeping ---------------------------------------------------------------------------------------------------


def test_packing_changes_nothing_that_can_be_seen(journal):
    logs = [Log(journal, f"e{number}", tasks=number).run() for number in range(12)]
    Log(journal, "going", tasks=3).step(1)
    before = [[(e.seq, e.type, e.task_id, dict(e.data)) for e in journal.events(log.id)] for log in logs]
    found = journal.check()
    tidied(journal)
    assert [[(e.seq, e.type, e.task_id, dict(e.data)) for e in journal.events(log.id)] for log in logs] == before
    for log in logs:
        assert same(journal.load(log.id, epoch=EPOCH), log)
    after = journal.check()
    assert [one.events for one in after] == [one.events for one in found]
    assert sum(one.bytes for one in after) < sum(one.bytes for one in found)
    assert not any(one.damage for one in after)
    assert journal.tidy() is False
    assert journal.check() == after


def test_a_long_execution_is_packed_while_it_runs(journal, monkeypatch):
    monkeypatch.setattr(upkeep, "PACK_AT", 10)
    monkeypatch.setattr(upkeep, "PACK_SIZE", 300)
    log = Log(journal, tasks=100)
    for number in range(100):
        log.step(number, "x" * number)
        if number % 7 == 0:
            tidied(journal)
    assert same(journal.load("e", epoch=EPOCH), log)
    count = journal._database.rows("SELECT count(*) FROM frames")[0][0]
    assert count < 60
    log.end()
    tidied(journal)
    assert same(journal.load("e", epoch=EPOCH), log)


def test_what_ends_while_a_large_one_is_packed_is_packed_after_it(journal, monkeypatch):
    """Packing goes on where it stopped in one execution, whatever has ended meanwhile."""
    monkeypatch.setattr(upkeep, "_PIECE", 2000)
    large = Log(journal, "large", tasks=200).run()
    going = Log(journal, "going", tasks=30)
    assert journal.tidy() is True
    for number in range(30):
        going.step(number)
    small = Log(journal, "small", tasks=20).run()
    tidied(journal)
    for log in (large, going, small):
        assert same(journal.load(log.id, epoch=EPOCH), log)
    spans = dict(journal._database.rows("SELECT key >> 32, max(span) FROM frames GROUP BY key >> 32"))
    assert spans[2] == 1, "what goes on isn't packed yet"
    assert spans[3] > 10
    assert spans[1] > 10


def test_a_reader_in_the_middle_does_not_notice_packing(journal, monkeypatch):
    monkeypatch.setattr("nerv.journal.reading.CHUNK", 400)
    log = Log(journal, tasks=60).run()
    for middle in (1, 2, 30, 59, 100, 121):
        events = journal.events("e")
        seen = [next(events).seq for _ in range(middle)]
        tidied(journal)
        seen += [event.seq for event in events]
        assert seen == [*range(1, len(log.records) + 1)]
        log = log_again(journal)


def log_again(journal):
    journal.discard("e")
    return Log(journal, tasks=60).run()


def test_old_executions_are_forgotten(journal):
    for number in range(10):
        Log(journal, f"e{number}").end(at=100.0 + number)
    Log(journal, "going")
    journal.write(Batch(facts=[Fact("e0", "cursor", 1), Fact("e9", "cursor", 1)]))
    assert journal.forget(before=EPOCH + 103.0) == 3
    assert journal.forget(before=datetime.fromtimestamp(EPOCH + 104.0, UTC)) == 1
    assert journal.forget(keep=4) == 2
    assert [one.id for one in journal.executions()] == ["e6", "e7", "e8", "e9", "going"]
    assert journal.facts("e0") == {}
    assert journal.facts("e9") == {"cursor": 1}
    assert journal.forget(keep=2, before=EPOCH + 107.5) == 2
    assert journal.forget(keep=0) == 2
    assert [one.id for one in journal.executions()] == ["going"]
    assert journal.forget(keep=0) == 0
    assert not journal._database.rows("SELECT key FROM frames WHERE key >> 32 != 11")
    tidied(journal)
    Log(journal, "e0").run()
    assert journal.execution("e0").status is S.COMPLETED


@pytest.mark.parametrize(
    "what",
    [
        {},
        {"keep": -1},
        {"keep": True},
        {"keep": 1.5},
        {"before": "yesterday"},
        {"before": float("nan")},
        {"before": True},
        {"before": datetime(2026, 1, 1)},  # noqa: DTZ001  (that is what is wrong with it)
    ],
)
def test_a_senseless_forget_forgets_nothing(journal, what):
    Log(journal).run()
    with pytest.raises(ConfigError, match=r"before|keep"):
        journal.forget(**what)
    assert journal.executions()


def test_one_execution_can_be_discarded(journal):
    Log(journal, "a").run()
    log = Log(journal, "b")
    with pytest.raises(JournalError, match="'b' is running: cancel it"):
        journal.discard("b")
    journal.release("b")
    journal.order("b", "cancel", {})
    assert journal.discard("b")
    assert journal.discard("a")
    assert journal.executions() == []
    assert not journal._database.rows("SELECT * FROM frames")
    assert not journal._database.rows("SELECT * FROM orders")
    with pytest.raises(JournalError, match="holds no execution 'b'"):
        log.step(0)
    tidied(journal)


def test_check_says_what_each_execution_is(journal):
    Log(journal, "a").run()
    Log(journal, "b").failing()
    Log(journal, "c")
    found = journal.check()
    assert [(one.id, one.workflow_name, one.status) for one in found] == [
        ("a", "wf", S.COMPLETED),
        ("b", "wf", S.FAILED),
        ("c", "wf", S.RUNNING),
    ]
    assert [one.events for one in found] == [8, 4, 1]
    assert all(one.bytes > 0 and one.damage is None for one in found)


# ---- closing --------------------------------------------------------------------------------------------------------


def test_closed_is_closed(journal):
    Log(journal).run()
    journal.close()
    journal.close()
    for use in (
        journal.executions,
        lambda: journal.load("e"),
        lambda: Log(journal, "f"),
        lambda: journal.forget(keep=1),
    ):
        with pytest.raises(NervError, match="closed"):
            use()


def test_many_threads_use_one_journal(journal):
    errors = []

    def work(name):
        try:
            log = Log(journal, name, tasks=20)
            for number in range(20):
                log.step(number, number)
                journal.executions()
                list(journal.events(name, 5))
                entry = journal.on_intent(lane_id=name, from_id="a", to_id="b", payload_type="int", payload=number)
                journal.on_acknowledged(entry)
            log.end()
            assert same(journal.load(name, epoch=EPOCH), log)
        except BaseException as error:
            errors.append(error)
            raise

    def keep_house():
        while any(thread.is_alive() for thread in threads[:-1]):
            journal.tidy()

    threads = [threading.Thread(target=work, args=(f"e{number}",)) for number in range(6)]
    threads.append(threading.Thread(target=keep_house))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert sorted(one.id for one in journal.executions()) == [f"e{number}" for number in range(6)]
    assert not journal.unacknowledged()
    assert len({entry.id for entry in journal.entries("ACKED")}) == 120
    assert not any(one.damage for one in journal.check())


def test_events_keep_their_numbers_for_ever():
    """Their numbers are in files: new event types go to the end, none goes away."""
    assert [code.name for code in CODES[:25]] == [
        "WORKFLOW_CREATED", "WORKFLOW_STARTED", "WORKFLOW_PAUSED", "WORKFLOW_RESUMED", "WORKFLOW_COMPLETED",
        "WORKFLOW_FAILED", "WORKFLOW_CANCELLED", "WORKFLOW_RECOVERED", "TASK_PENDING", "TASK_STARTED",
        "TASK_COMPLETED", "TASK_FAILED", "TASK_SKIPPED", "TASK_CANCELLED", "TASK_RETRYING", "TASK_WAITING",
        "TASK_PROGRESS", "TASK_COMPENSATED", "TASK_REPRIORITIZED", "TASKS_ADDED", "SIGNAL_RECEIVED",
        "CIRCUIT_OPENED", "CIRCUIT_CLOSED", "POOL_RESIZED", "HANDLER_ERROR",
    ]  # fmt: skip


def test_two_journals_do_not_see_each_other(path):
    with SqliteJournal(path) as one, SqliteJournal(path.with_name("other.db")) as other, MemoryJournal() as third:
        Log(one, "a")
        Log(other, "b").end(WORKFLOW_FAILED)
        assert [len(journal.executions()) for journal in (one, other, third)] == [1, 1, 0]
        assert other.execution("a") is None
