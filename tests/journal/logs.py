"""Logs to write: what an engine's recorder would hand over, made by hand."""

from nerv.errors import NervError
from nerv.eventlog import (
    TASK_COMPLETED,
    TASK_FAILED,
    TASK_STARTED,
    WORKFLOW_COMPLETED,
    WORKFLOW_FAILED,
    WORKFLOW_STARTED,
)
from nerv.journal.base import Batch, Header, Stretch
from nerv.journal.codec import encode

EPOCH = 1_000_000.0
UNSTORABLE = (i for i in ())


class Log:
    """Writes one execution to a journal, remembering what it has written.

    `at` counts up by one a record, so that every record can be told from every other.
    """

    def __init__(self, journal, name="e", tasks=3, *, created_at=EPOCH, **header):
        self.journal = journal
        self.id = name
        self.ids = [f"task-{number}" for number in range(tasks)]
        self.records = []
        self.values = {}
        self.commits = []  # how many records there were after each write
        start = (WORKFLOW_STARTED, -1, 0.0, 0, {"task_count": tasks})
        head = Header(name, "wf", created_at=created_at, **header)
        self.write([start], ids=self.ids, headers=[head])

    def write(self, records, values=None, claims=(), *, ids=(), headers=(), sync=False, **batch):
        values = values or {}
        encoded = {number: encode(value, self.ids[number]) for number, value in values.items()}
        stretch = Stretch(self.id, len(self.records) + 1, records, EPOCH, ids, encoded, claims)
        self.journal.write(Batch([*headers], [stretch], **batch), sync=sync)
        self.records += records
        self.values.update(values)
        self.commits.append(len(self.records))

    def at(self):
        return float(len(self.records))

    def step(self, number, value=None, **more):
        """A task that starts and completes, in one commit."""
        at = self.at()
        records = [(TASK_STARTED, number, at, 1, None), (TASK_COMPLETED, number, at + 1, 1, None)]
        self.write(records, {number: value}, **more)

    def start(self, number, **more):
        self.write([(TASK_STARTED, number, self.at(), 1, None)], **more)

    def fail(self, number, error):
        self.write([(TASK_FAILED, number, self.at(), 1, {"error": error})])

    def end(self, code=WORKFLOW_COMPLETED, at=None):
        self.write([(code, -1, self.at() if at is None else at, 0, {"successful_tasks": len(self.values)})])

    def run(self):
        """All tasks, one commit each, and the end."""
        for number in range(len(self.ids)):
            self.step(number, number * number)
        self.end()
        return self

    def failing(self):
        self.start(0)
        self.fail(0, ValueError("no"))
        self.end(WORKFLOW_FAILED)
        return self


def same(history, log, upto=None):
    """Whether a history holds the records of a log (the first `upto`), and the results that belong to them."""
    wanted = log.records[:upto]
    assert len(history.records) == len(wanted)
    for mine, theirs in zip(wanted, history.records, strict=True):
        assert theirs[:4] == mine[:4]
        assert repr({**(theirs[4] or {})}) == repr(mine[4] or {})
    done = {record[1] for record in wanted if record[0] == TASK_COMPLETED}
    assert dict(history.values) == {log.ids[number]: log.values[number] for number in done}
    return True


def prefix(journal, log):
    """How many records of a log a journal holds, which must be the first ones; None: it says that it is damaged."""
    try:
        history = journal.load(log.id, epoch=EPOCH)
    except NervError as error:
        assert_helpful(error)
        return None
    count = len(history.records)
    assert count in {0, *log.commits}
    same(history, log, count)
    return count


def assert_helpful(error, *words):
    """An error's text names something and says what to do."""
    text = str(error)
    assert isinstance(error, NervError), repr(error)
    assert any(mark in text for mark in (":", "holds no execution")), text
    for word in words:
        assert word in text, text
