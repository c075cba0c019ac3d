"""Whatever is done to a journal in whatever order, it says what a few plain dicts say."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from nerv import MemoryJournal, SqliteJournal, WorkflowStatus
from nerv.errors import JournalError
from nerv.eventlog import (
    CODE_OF,
    TASK_COMPLETED,
    TASK_STARTED,
    WORKFLOW_CANCELLED,
    WORKFLOW_COMPLETED,
    WORKFLOW_FAILED,
    WORKFLOW_PAUSED,
    WORKFLOW_RESUMED,
)
from nerv.events import EventType
from nerv.journal import frames, reading, upkeep
from nerv.journal.base import Batch, Fact, Header, Stretch
from nerv.testing import FaultyJournal
from tests.journal.logs import EPOCH, Log, same

S = WorkflowStatus
SIGNAL_RECEIVED = CODE_OF[EventType.SIGNAL_RECEIVED]
ENDS = {WORKFLOW_COMPLETED: S.COMPLETED, WORKFLOW_FAILED: S.FAILED, WORKFLOW_CANCELLED: S.CANCELLED}
VALUES = st.one_of(st.integers(), st.text(max_size=50), st.tuples(st.integers()), st.lists(st.floats(allow_nan=False)))


class Machine(RuleBasedStateMachine):
    """The model: logs by id, their statuses, facts and orders. `going` are those that haven't ended."""

    going = Bundle("going")

    def __init__(self):
        super().__init__()
        self.logs = {}
        self.status = {}
        self.ended = []  # ids in the order in which they ended
        self.now = 0.0
        self.facts = {}
        self.orders = {}
        self.paused = set()
        self.count = 0

    def open(self):
        return MemoryJournal()

    @initialize()
    def begin(self):
        self.journal = self.open()

    def teardown(self):
        if hasattr(self, "journal"):
            self.journal.close()

    @rule(target=going, tasks=st.integers(0, 5))
    def create(self, tasks):
        self.count += 1
        log = Log(self.journal, f"e{self.count}", tasks=tasks)
        self.logs[log.id] = log
        self.status[log.id] = S.RUNNING
        return log

    def alive(self, log):
        log.journal = self.journal
        return log.id in self.logs and not self.status[log.id].is_final

    def woken(self, log):
        self.status[log.id] = S.PAUSED if log.id in self.paused else S.RUNNING

    @rule(log=going, value=VALUES, claims=st.lists(st.integers(0, 4), max_size=2))
    def step(self, log, value, claims):
        if self.alive(log):
            log.ids.append(f"task-{len(log.ids)}")
            number = len(log.ids) - 1
            at = float(len(log.records))
            records = [(TASK_STARTED, number, at, 1, None), (TASK_COMPLETED, number, at, 1, {"value": value})]
            log.write(records, {number: value}, claims, ids=log.ids[-1:])
            self.woken(log)

    @rule(log=going, key=st.sampled_from("abc"), value=st.none() | VALUES)
    def fact(self, log, key, value):
        if self.alive(log):
            log.write([], claims=[1], facts=[Fact(log.id, key, value)])
            facts = self.facts.setdefault(log.id, {})
            facts.pop(key, None)
            if value is not None:
                facts[key] = value
            self.woken(log)

    @rule(log=going)
    def pause(self, log):
        if self.alive(log):
            is_paused = log.id in self.paused
            log.write([(WORKFLOW_RESUMED if is_paused else WORKFLOW_PAUSED, -1, 0.0, 0, None)])
            self.paused ^= {log.id}
            self.woken(log)

    @rule(log=going, value=VALUES)
    def order(self, log, value):
        if log.id in self.logs:
            number = self.journal.order(log.id, "signal", {"value": value})
            self.orders.setdefault(log.id, {})[number] = value

    @rule(log=going)
    def carry_out(self, log):
        orders = self.orders.get(log.id)
        if orders and self.alive(log):
            number = min(orders)
            log.write([(SIGNAL_RECEIVED, -1, 0.0, 0, {"order": number})], orders_done=[number])
            del orders[number]
            self.woken(log)

    @rule(log=consumes(going), code=st.sampled_from([*ENDS]))
    def end(self, log, code):
        if self.alive(log):
            self.now += 1.0
            log.end(code, at=self.now)
            self.status[log.id] = ENDS[code]
            self.ended.append(log.id)

    @rule(log=going, torn=st.booleans())
    def fail(self, log, torn):
        """A write that fails leaves nothing; a batch with a gap in it, too."""
        if self.alive(log):
            record = (TASK_STARTED, 0, 0.0, 1, None)
            seq = len(log.records) + 1
            batch = Batch([Header("never", "wf")], [Stretch("never", 1, [record]), Stretch(log.id, seq + 1, [record])])
            journal = FaultyJournal(self.journal, fail_at=1) if torn else self.journal
            with pytest.raises(JournalError):
                journal.write(batch)

    @rule()
    def release(self):
        self.journal.release()
        for name, status in self.status.items():
            if not status.is_final:
                self.status[name] = S.INTERRUPTED

    @rule()
    def tidy(self):
        self.journal.tidy()

    @rule(keep=st.integers(0, 3))
    def forget(self, keep):
        gone = self.ended[: max(len(self.ended) - keep, 0)]
        assert self.journal.forget(keep=keep) == len(gone)
        for name in gone:
            self.drop(name)

    @rule(log=going)
    def discard(self, log):
        if log.id in self.logs and self.status[log.id] is S.INTERRUPTED:
            assert self.journal.discard(log.id)
            self.drop(log.id)

    def drop(self, name):
        del self.logs[name], self.status[name]
        self.facts.pop(name, None)
        self.orders.pop(name, None)
        if name in self.ended:
            self.ended.remove(name)

    @invariant()
    def says_what_the_model_says(self):
        if not hasattr(self, "journal"):
            return
        assert {one.id: one.status for one in self.journal.executions()} == self.status
        for name, log in self.logs.items():
            history = self.journal.load(name, epoch=EPOCH)
            assert same(history, log)
            assert history.status is self.status[name]
            assert history.facts == self.facts.get(name, {})
            assert {order.id: order.data["value"] for order in history.orders} == self.orders.get(name, {})
            seen = max(len(log.records) - 2, 0)
            assert [event.seq for event in self.journal.events(name, seen)] == [*range(seen + 1, len(log.records) + 1)]
        assert not [one for one in self.journal.check() if one.damage]


class OnDisk(Machine):
    """Likewise in a file, which is closed and opened, and copied as a killed process would leave it."""

    def open(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "runs.db"
        return SqliteJournal(self.path)

    def teardown(self):
        super().teardown()
        self.folder.cleanup()

    def interrupted(self):
        for name, status in self.status.items():
            if not status.is_final:
                self.status[name] = S.INTERRUPTED

    @rule()
    def reopen(self):
        self.journal.close()
        self.journal = SqliteJournal(self.path)
        self.interrupted()

    @rule()
    def crash(self):
        files = {name: (self.path.parent / name).read_bytes() for name in ("runs.db", "runs.db-wal")}
        self.journal.close()
        for name, content in files.items():
            (self.path.parent / name).write_bytes(content)
        self.journal = SqliteJournal(self.path)
        self.interrupted()


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Limits so small that everything happens often."""
    monkeypatch.setattr(frames, "SPLIT", 200)
    monkeypatch.setattr(reading, "CHUNK", 300)
    monkeypatch.setattr(upkeep, "PACK_AT", 3)
    monkeypatch.setattr(upkeep, "PACK_SIZE", 400)


def test_in_memory():
    run_state_machine_as_test(Machine, settings=settings(max_examples=30, stateful_step_count=40))


def test_on_disk():
    run_state_machine_as_test(OnDisk, settings=settings(max_examples=20, stateful_step_count=30))
