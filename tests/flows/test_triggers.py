"""Triggers, by a clock that the test moves."""

import os
import threading
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from nerv import Every, Flow, OnSignal, Schedule, Watch, WorkflowDefinitionError, WorkflowManager
from nerv.testing import FakeClock
from tests.handshake import PATIENCE, eventually

EPOCH = datetime(2026, 3, 28, 12, 0, tzinfo=UTC).timestamp()


class Fed:
    """A flow that a trigger feeds, and what came."""

    def __init__(self, trigger):
        self.clock = FakeClock(epoch=EPOCH)
        self.came = []
        self.flow = Flow("f").triggered_by(trigger).then(self.see).build()

    def see(self, message):
        self.came.append(message)

    def __enter__(self):
        self.manager = WorkflowManager(clock=self.clock)
        self.execution = self.manager.start(self.flow)
        return self

    def __exit__(self, *_):
        self.execution.close()
        assert self.execution.wait(PATIENCE)
        self.manager.close()

    def sent(self):
        """What was sent, once the flow was closed."""
        self.execution.close()
        assert self.execution.wait(PATIENCE)
        return self.came


def at(*clock, zone=UTC):
    return datetime(2026, 3, *clock, tzinfo=zone)


def test_every_so_many_seconds():
    with Fed(Every(60)) as fed:
        fed.clock.advance(59)
        fed.clock.advance(121)
        assert fed.sent() == [at(28, 12, 1), at(28, 12, 2), at(28, 12, 3)]


def test_missed_times_arent_caught_up():
    with Fed(Every(60)) as fed:
        fed.clock._now += 200  # the computer slept
        fed.clock.advance(40)
        assert fed.sent() == [at(28, 12, 1), at(28, 12, 4)]


def test_a_schedule():
    with Fed(Schedule("*/15 13 * * *")) as fed:
        fed.clock.advance(24 * 3600)
        assert fed.sent() == [at(28, 13, minute) for minute in (0, 15, 30, 45)]


def test_a_schedule_in_a_zone_whose_clocks_are_changed():
    berlin = ZoneInfo("Europe/Berlin")  # on the 29th it goes from 2 to 3 o'clock
    with Fed(Schedule("30 8 * * *", "Europe/Berlin")) as fed:
        fed.clock.advance(48 * 3600)
        came = fed.sent()
    assert came == [at(29, 8, 30, zone=berlin), at(30, 8, 30, zone=berlin)]
    assert [moment.astimezone(UTC).hour for moment in came] == [6, 6]


def test_a_closed_flow_has_no_alarm():
    with Fed(Every(60)) as fed:
        assert fed.clock.due is not None
        assert fed.sent() == []
        assert fed.clock.due is None


def test_a_cancelled_flow_has_no_alarm():
    with Fed(Every(60)) as fed:
        over = threading.Event()
        fed.execution._live.on_end.append(over.set)
        fed.execution.cancel()
        assert over.wait(PATIENCE)
        assert fed.clock.due is None
        assert fed.came == []


def write(path, text="{}", changed=1_000_000):
    """Put a file there, whole: whoever looks meanwhile sees none."""
    part = path.with_suffix(".part")
    part.write_text(text)
    os.utime(part, (changed, changed))
    part.rename(path)


def test_a_file_is_a_message_once_it_stands_still(tmp_path):
    write(tmp_path / "old.json")
    write(tmp_path / "other.txt")
    (tmp_path / "folder.json").mkdir()
    with Fed(Watch(str(tmp_path / "*.json"), settle=1)) as fed:
        fed.clock.advance(2)
        new = tmp_path / "new.json"
        for size in range(1, 5):
            write(new, "x" * size, 1_000_000 + size)
            fed.clock.advance(0.6)
        eventually(lambda: fed.execution.task("messages").status.name == "WAITING")
        growing = [*fed.execution.state["tasks"]]
        assert "see[1]" not in growing
        fed.clock.advance(2)
        assert fed.sent() == [str(tmp_path / "old.json"), str(new)]


def test_a_changed_file_is_a_new_message_and_an_unchanged_one_isnt(tmp_path):
    path = tmp_path / "a.json"
    with Fed(Watch(str(tmp_path / "*.json"), settle=0)) as fed:
        for changed in (1_000_000, 1_000_000, 2_000_000):
            write(path, changed=changed)
            fed.clock.advance(1)
        assert fed.sent() == [str(path)] * 2


def test_files_come_in_the_order_in_which_they_were_changed(tmp_path):
    for name, changed in (("b", 1), ("a", 3), ("c", 2)):
        write(tmp_path / name, changed=changed)
    with Fed(Watch(str(tmp_path / "?"), settle=0)) as fed:
        fed.clock.advance(1)
        assert fed.sent() == [str(tmp_path / name) for name in "bca"]


def test_a_watch_whose_folder_is_missing_doesnt_start(tmp_path):
    flow = Flow("f").triggered_by(Watch(str(tmp_path / "inbox" / "*.json"))).then(str).build()
    with WorkflowManager() as manager, pytest.raises(WorkflowDefinitionError, match="inbox"):
        manager.start(flow)


WRONG = {
    "a cron line that is none": lambda: Schedule("every day"),
    "a cron line of six": lambda: Schedule("61 * * * *"),
    "no cron line": lambda: Schedule(5),
    "an unknown time zone": lambda: Schedule("* * * * *", "Mars/Base"),
    "no time": lambda: Every(0),
    "a time that is none": lambda: Every("1"),
    "no glob": lambda: Watch(""),
    "a negative time": lambda: Watch("*", settle=-1),
    "no name": lambda: OnSignal(""),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_trigger_is_refused_where_it_is_written(wrong):
    with pytest.raises(WorkflowDefinitionError, match=r"Schedule|Every|Watch|OnSignal"):
        WRONG[wrong]()
