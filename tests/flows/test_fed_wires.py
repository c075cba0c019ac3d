"""Certified mail in fed flows: hooks hear of the wire from a message to its first steps, and once of a lane's end."""

import threading

import pytest

from nerv import (
    Buffer,
    DeliveryState,
    Expand,
    JournalNode,
    MemoryJournal,
    Output,
    Param,
    TaskDef,
    WorkflowManager,
)
from tests.flows.helpers import FED, odd_fails
from tests.handshake import PATIENCE, eventually
from tests.test_wires import Post


def first(m):
    return m * 10


def second(m):
    return m + 1


def fed(flow, messages, **options):
    """Send these messages with every wire hooked; the hook, the execution, and the lanes."""
    hook = Post()
    with WorkflowManager(dispatch_hooks=[hook], **{"workers": 4, **options}) as manager:
        hook.lock = manager.engine.lock
        execution = manager.start(flow.build())
        lanes = [execution.send(message) for message in messages]
        execution.close()
        assert execution.wait(PATIENCE), execution.summary()
    return hook, execution, lanes


def of_lane(hook, lane):
    """What was told of one lane, in order: (what, from, to), and ("lane",) at its end."""
    told = []
    for what, about, *_ in hook.notes:
        if what == "lane":
            told += [(what,)] if about == lane else []
        elif hook.intents[about]["lane_id"] == lane:
            told.append((what, hook.intents[about]["from_id"], hook.intents[about]["to_id"]))
    return told


@pytest.mark.parametrize("flow", [FED.then(first).then(second), FED.buffer(2).then(first).then(second)])
def test_each_wire_of_a_lane_is_told_in_order_and_then_the_lane(flow):
    hook, _, lanes = fed(flow, range(20))
    for number, lane in enumerate(lanes):
        came, went = ("messages", f"first[{number}]"), (f"first[{number}]", f"second[{number}]")
        told = of_lane(hook, lane)
        assert [one for one in told if one[1:] == came] == [
            (what, *came) for what in ("intent", "dispatched", "acknowledged")
        ]
        assert [one for one in told if one[1:] == went] == [
            (what, *went) for what in ("intent", "dispatched", "acknowledged")
        ]
        assert told.index(("intent", *came)) < told.index(("intent", *went))
        assert told[-1] == ("lane",)
        assert told.count(("lane",)) == 1
    assert hook.counts()["lane"] == 20


def test_the_payload_is_the_very_message():
    message = {"m": [1]}
    hook, _, _ = fed(FED.then(TaskDef("take", id)), [message])
    (wire,) = hook.intents.values()
    assert wire["payload"] is message
    assert (wire["from_id"], wire["to_id"], wire["payload_type"]) == ("messages", "take[0]", "dict")


def test_a_message_goes_to_every_first_step():
    hook, _, (lane,) = fed(FED.then_parallel("both", first, second), [3])
    came = {(wire["to_id"], wire["payload"]) for wire in hook.intents.values() if wire["from_id"] == "messages"}
    assert came == {("first[0]", 3), ("second[0]", 3)}
    assert of_lane(hook, lane)[-1] == ("lane",)
    assert hook.counts()["lane"] == 1


def test_a_first_step_that_doesnt_read_the_message_is_only_ordered_by_it():
    hook, _, _ = fed(FED.then(TaskDef("fixed", first, args=(7,))), [3])
    (wire,) = hook.intents.values()
    assert (wire["from_id"], wire["to_id"], wire["payload"]) == ("messages", "fixed[0]", None)


def test_what_fails_wasnt_received_and_its_lane_ends():
    hook, _, lanes = fed(FED.then(odd_fails).then(second), range(4))
    for number, lane in enumerate(lanes):
        end = "failed" if number % 2 else "acknowledged"
        told = of_lane(hook, lane)
        assert (end, "messages", f"odd_fails[{number}]") in told
        assert told[-1] == ("lane",)
    assert hook.counts()["failed"] == 2


def test_a_lane_ends_with_its_last_step_not_with_its_first():
    hold = threading.Event()
    hook = Post()
    with WorkflowManager(dispatch_hooks=[hook], workers=4) as manager:
        execution = manager.start(FED.buffer().then(first).then(TaskDef("hold", lambda m: hold.wait(PATIENCE))).build())
        execution.send(1)
        execution.send(2)
        eventually(lambda: {"hold[0]", "hold[1]"} <= set(execution.sequence))
        assert hook.counts()["lane"] == 0
        hold.set()
        execution.close()
        assert execution.wait(PATIENCE)
    assert hook.counts()["lane"] == 2


def copies(m):
    return Expand([Buffer("each", [m, m, m], second)], result=Output("each"))


def test_items_of_a_message_have_lanes_of_their_own():
    hook, execution, lanes = fed(FED.then(copies).then(TaskDef("end", list)), [1, 2])
    assert execution["end[1]"] == [3, 3, 3]
    assert {wire["lane_id"] for wire in hook.intents.values()} == set(lanes)
    assert [of_lane(hook, lane)[-1] for lane in lanes] == [("lane",)] * 2
    assert hook.counts()["lane"] == 2


def test_a_journal_node_in_a_lane_has_its_wires_on_record():
    with WorkflowManager(journal=MemoryJournal(), workers=2) as manager:
        flow = FED.then(first).then(JournalNode("mail", Output("first"))).then(second)
        execution = manager.start(flow.build())
        lanes = [execution.send(message) for message in range(3)]
        execution.close()
        assert execution.wait(PATIENCE)
        entries = manager.journal.entries()
    assert [(one.from_id, one.to_id, one.state) for one in entries] == [
        (f"mail[{number}]", f"second[{number}]", DeliveryState.ACKED) for number in range(3)
    ]
    assert [one.lane_id for one in entries] == lanes


def test_every_wire_hooked_with_a_journal():
    hook, _, lanes = fed(FED.buffer(2).then(first).collect().then(second), range(10), journal=MemoryJournal())
    assert hook.counts() == {"intent": 20, "dispatched": 20, "acknowledged": 20, "lane": 10}
    assert {wire["lane_id"] for wire in hook.intents.values()} == set(lanes)
    came = {wire["payload"] for wire in hook.intents.values() if wire["from_id"] == "messages"}
    assert came == set(range(10))


def test_a_message_that_came_before_a_restart_is_on_the_wire_after_it():
    """The message is read from the journal, and the hook hears of the lane's end once."""
    hook, journal = Post(), MemoryJournal()
    flow = FED.then(TaskDef("add", second, args=(Param("item"),))).build()
    with WorkflowManager(journal=journal, grace=0.0) as manager:
        execution = manager.start(flow)
        execution.pause()
        lane = execution.send(41)
        execution.close()
    with WorkflowManager(journal=journal, dispatch_hooks=[hook]) as manager:
        (again,) = manager.recover(flow)
        again.resume()
        assert again.wait(PATIENCE)
    (wire,) = hook.intents.values()
    assert (wire["from_id"], wire["to_id"], wire["payload"], wire["lane_id"]) == ("messages", "add[0]", 41, lane)
    assert hook.counts() == {"intent": 1, "dispatched": 1, "acknowledged": 1, "lane": 1}


@pytest.mark.parametrize("options", [{}, {"journal": True}])
def test_lanes_that_are_forgotten_leave_nothing_on_the_wires(options):
    kept = {name: MemoryJournal() for name in options}
    flow = FED.buffer(3).then(first).collect().then(second)
    hook, execution, lanes = fed(flow, range(300), keep=1, history_limit=1, **kept)
    assert hook.counts() == {"intent": 600, "dispatched": 600, "acknowledged": 600, "lane": 300}
    assert {wire["lane_id"] for wire in hook.intents.values()} == set(lanes)
    wires = execution._live.wires
    assert not wires._ways.open
    assert not wires._lanes
    assert not wires._over
