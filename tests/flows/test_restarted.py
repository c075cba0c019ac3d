"""What a fed flow with a journal promises: what was sent is kept, and done, whatever becomes of the process."""

import threading

import pytest

from nerv import (
    Flow,
    Manual,
    MemoryJournal,
    NervError,
    OnSignal,
    SerializationError,
    TaskDef,
    WorkflowChangedError,
    WorkflowDefinitionError,
    WorkflowManager,
    WorkflowStatus,
)
from nerv.journal.base import Batch
from nerv.testing import FaultyJournal
from tests.flows.helpers import FED, same
from tests.flows.lives import Lives
from tests.handshake import Hold, ended, eventually, reached


def fails(m):
    raise ValueError(m)


# ---- sending --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("durability", ["strict", "group", "off"])
def test_a_message_is_kept_before_anything_starts_and_when_send_returns(durability):
    kept, called = set(), []

    class Looking(MemoryJournal):
        def write(self, batch: Batch, *, sync=True):
            super().write(batch, sync=sync)
            for stretch in batch.stretches:
                kept.update(record[4]["message"] for record in stretch.records if "message" in (record[4] or {}))

    def step(m):
        called.append(m in kept)
        return m

    flow = FED.buffer().then(TaskDef("step", step)).build()
    with WorkflowManager(journal=Looking(), durability=durability) as manager:
        execution = manager.start(flow)

        def send(many):
            for m in many:
                execution.send(m)
                assert m in kept

        threads = [threading.Thread(target=send, args=(range(n, 200, 4),)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        execution.close()
        assert ended(execution).result == 200
    assert called == [True] * 200


def test_a_message_that_cannot_be_kept_isnt_sent():
    with WorkflowManager(journal=MemoryJournal()) as manager:
        execution = manager.start(FED.then(same).build())
        with pytest.raises(SerializationError, match=r"the message <.*lock.*> can't be kept"):
            execution.send(threading.Lock())
        execution.send("fine")
        execution.close()
        assert ended(execution).result == 1
        assert execution["same[0]"] == "fine"


def test_a_signal_that_cannot_be_kept_is_no_message():
    with WorkflowManager(journal=MemoryJournal()) as manager:
        execution = manager.start(Flow("f").triggered_by(OnSignal("go")).then(same).build())
        with pytest.raises(SerializationError, match="can't be kept"):
            execution.signal("go", threading.Lock())
        execution.close()
        assert ended(execution).result == 0


def test_what_is_changed_after_it_was_sent_is_kept_as_it_was():
    journal, hold = MemoryJournal(), Hold()
    flow = FED.then(TaskDef("hold", lambda ctx, m: hold(ctx))).then(same).build()
    with WorkflowManager(journal=journal, grace=0.0) as manager:
        execution = manager.start(flow, execution_id="x")
        message = ["a"]
        execution.send(message)
        message.append("b")
        hold.entered()
    seen = FED.then(TaskDef("hold", lambda m: m)).then(same).build()
    with WorkflowManager(journal=journal) as manager:
        (again,) = manager.recover([seen], on_change="continue")
        again.close()
        assert ended(again)["same[0]"] == ["a"]
    hold.go()


def test_a_write_that_fails_is_told_to_who_sends_and_ends_the_flow():
    with WorkflowManager(journal=FaultyJournal(MemoryJournal(), fail_at=4)) as manager:
        execution = manager.start(FED.then(same).build())
        with pytest.raises(NervError):
            for m in range(100):
                execution.send(m)
        assert ended(execution).status is WorkflowStatus.FAILED


class Sender:
    """A hook that sends once, from whichever thread tells it."""

    def __init__(self):
        self.sent = threading.Event()
        self.execution = None

    def on_intent(self, **_):
        return 1

    def on_dispatched(self, entry_id):
        pass

    def on_acknowledged(self, entry_id):
        if not self.sent.is_set():
            self.sent.set()
            self.execution.send("from a hook")

    def on_failed(self, entry_id, error):
        pass

    def on_lane_complete(self, lane_id):
        pass


@pytest.mark.parametrize("durability", ["strict", "group"])
def test_a_task_a_handler_and_a_hook_may_send(durability):
    def step(m):
        if m == 0:
            execution.send("from a task")
        return m

    def handle(event):
        if event.task_id == "step[0]":
            execution.send("from a handler")

    hook = Sender()
    with WorkflowManager(journal=MemoryJournal(), dispatch_hooks=[hook], durability=durability) as manager:
        execution = hook.execution = manager.start(FED.then(TaskDef("step", step)).then(same).build())
        manager.event_bus.subscribe("TASK_COMPLETED", handle)
        execution.send(0)
        reached(hook.sent)
        eventually(lambda: execution.project("progress").completed == 8)
        execution.close()
        assert ended(execution).result == 4
    assert {execution[f"same[{m}]"] for m in range(1, 4)} == {"from a task", "from a handler", "from a hook"}


# ---- restarts -------------------------------------------------------------------------------------------------------


def test_a_lane_keeps_its_id_and_its_key():
    journal, seen, hold = MemoryJournal(), [], Hold()

    def step(ctx, m):
        seen.append((ctx.lane_id, ctx.idempotency_key, ctx.attempt))
        if ctx.attempt == 1:
            hold(ctx)

    flow = FED.then(TaskDef("step", step)).build()
    with WorkflowManager(journal=journal, grace=0.0) as manager:
        lane = manager.start(flow, execution_id="x").send(1)
        hold.entered()
    with WorkflowManager(journal=journal) as manager:
        (again,) = manager.recover([flow])
        again.close()
        ended(again)
    hold.go()
    assert [(one, attempt) for one, _, attempt in seen] == [(lane, 1), (lane, 2)]
    assert len({key for _, key, _ in seen}) == 1


def test_a_failed_lane_stays_failed_and_a_closed_flow_closed():
    journal, hold = MemoryJournal(), Hold()
    step = TaskDef("step", lambda ctx, m: fails(m) if m == 0 else hold(ctx) if ctx.attempt == 1 else m)
    flow = FED.buffer().then(step).build()
    with WorkflowManager(journal=journal, grace=0.0, failure_policy="fail_fast") as manager:
        execution = manager.start(flow, execution_id="x")
        execution.send(0)
        execution.send(1)
        assert execution.close()
        hold.entered()
        eventually(lambda: execution.task("step[0]").status.name == "FAILED")
    with WorkflowManager(journal=journal) as manager:
        stored = manager.execution("x")
        assert stored.failures == {}
        assert isinstance(stored.task("step[0]").error, ValueError)
        with pytest.raises(NervError, match="recover"):
            stored.send(2)
        (again,) = manager.recover([flow])
        assert not again.close()
        with pytest.raises(NervError, match=r"closed|COMPLETED"):
            again.send(2)
        assert ended(again).status is WorkflowStatus.COMPLETED
        assert again.failures == {}
        assert isinstance(again.task("step[0]").error, ValueError)
        assert (again.task("step[0]").attempts, again.result) == (1, 2)
    hold.go()


def test_it_may_be_interrupted_again_and_again():
    lives = Lives(Manual())
    for life_number in range(5):
        with lives.live() as life:
            life.execution.send(life_number)
            life.seen(life_number + 1)
    with lives.live() as life:
        assert life.over() == list(range(5))


def test_a_paused_flow_takes_messages_and_is_paused_after_a_restart():
    lives = Lives(Manual())
    with lives.live() as life:
        life.execution.pause()
        life.execution.send(1)
    with lives.live() as life:
        assert life.execution.status is WorkflowStatus.PAUSED
        life.execution.send(2)
        assert lives.came == []
        assert life.execution.resume()
        assert life.over() == [1, 2]


def test_a_cancelled_flow_is_cancelled_after_a_restart():
    journal, hold = MemoryJournal(), Hold()
    flow = FED.then(TaskDef("step", lambda ctx, m: hold(ctx))).build()
    with WorkflowManager(journal=journal, grace=0.0) as manager:
        execution = manager.start(flow, execution_id="x")
        execution.send(1)
        execution.send(2)
        execution.close()
        hold.entered()
        journal.order("x", "cancel", {"reason": "enough"})
    with WorkflowManager(journal=journal) as manager:
        (again,) = manager.recover([flow])
        assert ended(again).status is WorkflowStatus.CANCELLED
    hold.go()


def test_a_message_that_kills_the_process_fails_and_the_others_go_on():
    journal, hold = MemoryJournal(), Hold()
    flow = FED.then(TaskDef("step", lambda ctx, m: hold(ctx) if m == 0 else m)).build()
    for crash in range(3):
        manager = WorkflowManager(journal=journal, grace=0.0, max_recoveries=2, durability="strict")
        execution = manager.start(flow, execution_id="x")
        if not crash:
            execution.send(0)
            execution.send(1)
        eventually(lambda: execution.task("step[0]").status.name == "RUNNING")  # noqa: B023  at once
        assert execution._live.engine.recorder is not None
        execution._live.engine.recorder.wait(execution._live)
        manager._keeper.journal = manager.engine.recorder.journal = MemoryJournal()  # what follows is lost
        manager.close()
        journal.release()
    with WorkflowManager(journal=journal, max_recoveries=2) as manager:
        (again,) = manager.recover([flow])
        again.close()
        assert ended(again).status is WorkflowStatus.COMPLETED
        assert again.failures == {}
        assert again.task("step[0]").status.name == "FAILED"
        assert "2" not in again.results
        assert again["step[1]"] == 1
    hold.go()


def test_a_fed_execution_isnt_forked():
    lives = Lives(Manual())
    with lives.live() as life:
        life.execution.send(1)
        assert life.over() == [1]
        for fork in (lambda: life.manager.fork("x", "see"), lambda: life.manager.retry("x")):
            with pytest.raises(NervError, match=r"fed.*send it the messages"):
                fork()
        assert [event.data["message"] for event in lives.journal.events("x") if event.type == "TASKS_ADDED"] == [1]


def test_other_steps_than_it_began_with_are_refused():
    lives = Lives(Manual())
    lives.flow = FED.then(lives.see).then(same).build()
    with lives.live() as life:
        life.execution.send(1)
        life.seen(1)
    fewer, more = FED.then(lives.see).build(), FED.then(lives.see).then(same).then(fails).build()
    with WorkflowManager(journal=lives.journal) as manager:
        for other in (fewer, more):
            with pytest.raises(WorkflowChangedError):
                manager.recover([other])
        with pytest.raises(WorkflowDefinitionError, match="the steps"):
            manager.recover([fewer], on_change="continue")
        with pytest.raises(WorkflowChangedError):
            manager.recover([more], on_change="continue")
        (again,) = manager.recover([lives.flow])
        again.close()
        assert ended(again).result == 1


def test_what_was_kept_is_shown_without_the_code():
    lives = Lives(Manual())
    with lives.live() as life:
        life.execution.send("a")
        life.seen(1)
    with WorkflowManager(journal=lives.journal) as manager:
        shown = manager.execution("x")
        assert shown.task("see[0]").status.name == "COMPLETED"
        assert shown.project("progress").total == 3
        assert lives.journal.forget(keep=0) == 0
    with lives.live() as life:
        life.over()
    assert lives.journal.forget(keep=0) == 1
    assert lives.journal.facts("x") == {}
