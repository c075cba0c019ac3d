"""What the tests of fed flows with a journal share: a flow, and its lives."""

from datetime import UTC, datetime

from nerv import Flow, MemoryJournal, WorkflowManager, WorkflowStatus
from nerv.testing import FakeClock
from tests.handshake import ended, eventually

EPOCH = datetime(2026, 3, 28, 12, 0, tzinfo=UTC).timestamp()


class Lives:
    """One fed flow, and its lives, by a clock that stands where it is set."""

    def __init__(self, trigger, **settings):
        self.journal = MemoryJournal()
        self.came = []
        self.flow = Flow("f").triggered_by(trigger).then(self.see).build()
        self.settings = settings

    def see(self, message):
        self.came.append(message)

    def live(self, at=0.0):
        """One life that begins so many seconds after the first."""
        return _Life(self, FakeClock(epoch=EPOCH + at))


class _Life:
    def __init__(self, lives, clock):
        self.lives, self.clock = lives, clock
        self.manager = WorkflowManager(journal=lives.journal, clock=clock, grace=0.0, **lives.settings)

    def __enter__(self):
        self.execution = self.manager.start(self.lives.flow, execution_id="x")
        return self

    def __exit__(self, *_):
        eventually(lambda: not self.execution._live.active)
        self.manager.close()

    def seen(self, count):
        """What came, of which there must be so much."""
        eventually(lambda: len(self.lives.came) >= count)
        return self.lives.came

    def over(self):
        """What came in all lives."""
        self.execution.close()
        ended(self.execution)
        assert self.execution.status is WorkflowStatus.COMPLETED
        assert self.execution.result == len(self.lives.came)
        return self.lives.came
