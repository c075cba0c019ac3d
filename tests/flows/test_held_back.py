"""Lanes that are held back for somebody who reads the log go when they move on, not only when the next lane ends."""

import asyncio

import pytest

from nerv import Flow, Manual, TaskDef, WorkflowManager
from tests.handshake import Hold, ended, eventually
from tests.rig import Rig
from tests.test_recording import Held
from tests.test_wires import Post

FED = Flow("f").triggered_by(Manual())


def same(m):
    return m


def at_hand(execution):
    return execution._live.scheduler.lanes.count


def stalled(rig):
    """An execution whose ten lanes have ended, while who reads its events hasn't begun to."""
    execution = rig.manager.start(FED.buffer().then(same).build())
    reader = execution.events(follow=True)
    return execution, reader


def sent(rig, execution):
    for message in range(10):
        execution.send(message)
    rig.go(until=1)
    assert at_hand(execution) == 10
    return len(execution.log)


def test_what_an_iterator_held_back_goes_as_it_reads():
    with Rig(keep=1, history_limit=0) as rig:
        execution, reader = stalled(rig)
        following = iter(reader)
        end, counts = sent(rig, execution), []
        for _ in range(end):
            next(following)
            counts.append(at_hand(execution))
        assert len(execution.log) == end  # nothing else has happened
        assert counts[-1] == 1
        assert 1 < counts[-5] < 10, "some went before it had read everything"
        execution.close()
        rig.go()
        assert ended(execution).result == 10
        assert [event.seq for event in following] == list(range(end + 1, len(execution.log) + 1))


def test_what_an_async_iterator_held_back_goes_as_it_reads():
    async def read(rig):
        execution, reader = stalled(rig)
        following = aiter(reader)
        end = sent(rig, execution)
        for _ in range(end):
            await anext(following)
        assert len(execution.log) == end
        assert at_hand(execution) == 1
        await following.aclose()

    with Rig(keep=1, history_limit=0) as rig:
        asyncio.run(read(rig))


def test_of_two_who_read_the_slower_one_counts():
    with Rig(keep=1, history_limit=0) as rig:
        execution, reader = stalled(rig)
        fast, slow = iter(reader), iter(reader)
        end = sent(rig, execution)
        for _ in range(end):
            next(fast)
        assert at_hand(execution) == 10
        for _ in range(end):
            next(slow)
        assert at_hand(execution) == 1


@pytest.mark.parametrize("hooks", [[], [Post()]], ids=["alone", "with a hook"])
@pytest.mark.parametrize("durability", ["group", "off"])
def test_what_was_held_back_for_the_journal_goes_when_it_is_written(durability, hooks):
    journal, hold = Held(), Hold()
    settings = {"keep": 1, "history_limit": 0, "dispatch_hooks": hooks, "durability": durability}
    with WorkflowManager(journal=journal, **settings) as manager:
        execution = manager.start(FED.buffer().then(TaskDef("step", lambda _: hold.entered())).build())
        eventually(lambda: execution.task("messages").status.name == "WAITING")
        for message in range(10):
            execution.send(message)
        journal.free.clear()
        hold.began.set()
        eventually(lambda: execution._live.scheduler.over == 10)
        assert at_hand(execution) == 10
        journal.free.set()
        eventually(lambda: at_hand(execution) == 1)
        execution.close()
        assert ended(execution).result == 10


def test_what_was_held_back_for_a_hook_goes_when_it_has_heard():
    """Whoever tells the hooks is behind whoever forgets, each time; so the last lanes stayed."""
    with Rig(keep=1, history_limit=0, dispatch_hooks=[Post()]) as rig:
        execution = rig.manager.start(FED.buffer().then(same).build())
        for message in range(3):
            execution.send(message)
        rig.go(until=1)
        assert at_hand(execution) == 1
