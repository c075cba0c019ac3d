"""Buffers in the branches of fed flows: they end with their branch, and nothing else changes."""

import threading

import pytest

from nerv import MemoryJournal, TaskDef, WorkflowDefinitionError, WorkflowManager
from tests.flows.helpers import FED, again, fed, is_odd, same
from tests.handshake import PATIENCE, Gauge


def is_big(m):
    return m > 4


def meeting(gauge, size):
    """A step in which so many messages meet, or nobody gets out."""
    barrier = threading.Barrier(size)

    def meet(m):
        with gauge:
            barrier.wait(PATIENCE)
        return m * 10

    return meet


def ordered(came, gauge):
    """A step that notes what comes, and how many at a time."""

    def end(m):
        with gauge:
            came.append(m)

    return end


@pytest.mark.parametrize("limit", [1, 3, None])
def test_messages_of_a_branch_are_beside_each_other_behind_its_buffer(limit):
    inside, after, came = Gauge(), Gauge(), []
    together = limit or 15
    flow = FED.then(same).when(is_odd).buffer(limit).then(meeting(inside, together)).end_when()
    execution = fed(flow.then(ordered(came, after)), range(30), workers=20)
    assert inside.most == together
    assert after.most == 1
    assert came == [m * 10 if m % 2 else m for m in range(30)]
    assert execution.project("progress").failed == 0


def test_the_other_branch_is_direct():
    inside, other, came = Gauge(), Gauge(), []

    def alone(m):
        with other:
            came.append(m)
        return m

    flow = FED.then(same).when(is_odd).buffer().then(meeting(inside, 5)).otherwise().then(alone).end_when()
    fed(flow, range(10), workers=8)
    assert (inside.most, other.most) == (5, 1)
    assert came == [0, 2, 4, 6, 8]


def test_collect_in_a_branch_goes_back_to_what_was_outside():
    inside, after, came = Gauge(), Gauge(), []
    flow = (
        FED.then(same).when(is_odd).buffer(2).then(meeting(inside, 2)).collect().then(ordered(came, after)).end_when()
    )
    fed(flow, range(12), workers=8)
    assert (inside.most, after.most) == (2, 1)
    assert came == [m * 10 for m in range(12) if m % 2]


def test_a_buffer_around_a_when_with_a_buffer():
    outer, inner = Gauge(), Gauge()
    met = meeting(outer, 4)
    flow = FED.buffer(4).then(TaskDef("met", lambda m: met(m) // 10)).when(is_odd).buffer(1).then(meeting(inner, 1))
    flow = flow.end_when().then(again)
    execution = fed(flow, range(8), workers=8)
    assert (outer.most, inner.most) == (4, 1)
    assert [execution[f"again[{m}]"] for m in range(8)] == [m * 10 if m % 2 else m for m in range(8)]
    frames = [line.strip() for line in execution.workflow.to_mermaid().splitlines() if "subgraph" in line]
    assert frames == [
        'subgraph tb0["behind a buffer, 4 at a time"]', 'subgraph tb1["behind a buffer, 1 at a time"]'
    ]  # fmt: skip


def test_a_when_in_a_when():
    inner = Gauge()
    flow = FED.then(same).when(is_odd).when(is_big).buffer(2).then(meeting(inner, 2)).end_when().then(again).end_when()
    execution = fed(flow, range(12), workers=8)
    assert inner.most == 2
    assert [execution[f"again[{m}]"] for m in (1, 3, 5, 11)] == [1, 3, 50, 110]


def kept_flow(gauge, hold):
    def inside(m):
        with gauge:
            hold.wait(PATIENCE)
        return m

    return FED.then(same).when(is_odd).buffer(2).then(inside).end_when().build()


def test_a_kept_flow_goes_on_behind_the_buffer_of_a_branch():
    """What was inside when the process ended is inside afterwards, and no more than may be."""
    journal, hold, gauge = MemoryJournal(), threading.Event(), Gauge()
    with WorkflowManager(journal=journal, grace=0.0, workers=4) as manager:
        execution = manager.start(kept_flow(Gauge(), hold))
        for m in range(10):
            execution.send(m)
        execution.close()
    hold.set()
    with WorkflowManager(journal=journal, workers=8) as manager:
        (again,) = manager.recover(kept_flow(gauge, hold))
        assert again.wait(PATIENCE), again.summary()
        assert [again[f"inside[{m}]"] for m in range(1, 10, 2)] == [1, 3, 5, 7, 9]
    assert 1 <= gauge.most <= 2


@pytest.mark.parametrize(
    "flow",
    [
        FED.then(same).when(is_odd).then(again).collect().end_when(),
        FED.buffer().then(same).when(is_odd).then(again).collect().end_when(),
        FED.then(same).when(is_odd).buffer().then(again).otherwise().collect().end_when(),
        FED.then(same).when(is_odd).buffer().then(again).end_when().collect(),
    ],
)
def test_a_collect_needs_a_buffer_in_its_own_branch(flow):
    with pytest.raises(WorkflowDefinitionError, match=r"collect\(\) without buffer\(\) before it, in the same branch"):
        flow.build()
