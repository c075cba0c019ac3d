"""Signals in a fed flow: those that somebody may still wait for stay, those that only a folded gate could have go."""

import pytest

from nerv import Flow, Manual, TaskDef, Wait
from tests.handshake import ended
from tests.rig import Rig

FED = Flow("f").triggered_by(Manual())


def ask(m):
    """Wait for a signal with a name for each pair of messages: it isn't a task's id, so nobody knows whose it is."""
    return Wait(signal=f"approved[{m}]")


@pytest.mark.parametrize("early", [False, True])
def test_a_signal_that_a_folded_lane_has_had_is_there_for_a_later_one(early):
    """Names are one namespace, and the first signal of a name counts for whoever waits for it, whenever."""
    had = []
    with Rig(keep=0, history_limit=0) as rig:
        execution = rig.manager.start(FED.buffer().then(ask).then(TaskDef("take", had.append)).build())
        for message in range(10):
            if early:
                execution.signal(f"approved[{message}]", message)
            execution.send(message)
            rig.go(until=rig.now + 1)
            if not early:
                execution.signal(f"approved[{message}]", message)
        rig.go(until=rig.now + 1)
        assert execution._live.is_folded("ask[3]")
        assert not execution.signal("approved[3]", "second")
        execution.send(3)
        execution.close()
        rig.go()
        assert ended(execution).result == 11
    assert had == [*range(10), 3]


def test_a_gates_signal_goes_with_its_lane():
    with Rig(keep=0, history_limit=0) as rig:
        execution = rig.manager.start(FED.buffer().gate("gate").build())
        for message in range(10):
            execution.send(message)
            execution.signal(f"gate[{message}]", message)
            rig.go(until=rig.now + 1)
        assert execution._live.is_folded("gate[3]")
        assert "gate[3]" not in execution._live.scheduler.suspensions.signals
