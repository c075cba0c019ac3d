"""Fed flows: a direct wire handles one message at a time, a buffer gives each message a lane of its own."""

import threading

import pytest

from nerv import (
    Expand,
    Flow,
    NervError,
    OnSignal,
    Output,
    Param,
    TaskDef,
    WorkflowDefinitionError,
    WorkflowManager,
    WorkflowStatus,
)
from tests.flows.helpers import FED, again, fed, odd_fails, same
from tests.handshake import PATIENCE, Gauge, ended


def status(execution, task_id):
    return execution.task(task_id).status.name


def test_a_direct_wire_handles_one_message_at_a_time_in_order():
    gauges, orders = [Gauge(), Gauge()], ([], [])

    def first(m):
        with gauges[0]:
            orders[0].append(m)
        return m

    def second(m):
        with gauges[1]:
            orders[1].append(m)
        return m

    execution = fed(FED.then(first).then(second), range(200), workers=8)
    assert [gauge.most for gauge in gauges] == [1, 1]
    assert orders == (list(range(200)), list(range(200)))
    assert execution.status is WorkflowStatus.COMPLETED
    assert execution.result == 200


def test_messages_may_be_in_different_nodes_at_once():
    both = threading.Barrier(2)

    def first(m):
        if m == 1:
            both.wait(PATIENCE)
        return m

    def second(m):
        if m == 0:
            both.wait(PATIENCE)

    assert fed(FED.then(first).then(second), range(2)).failures == {}


def test_behind_a_buffer_messages_are_together():
    all_of_them = threading.Barrier(4)
    execution = fed(FED.buffer().then(TaskDef("meet", lambda m: all_of_them.wait(PATIENCE))), range(4))
    assert sorted(execution[f"meet[{i}]"] for i in range(4)) == [0, 1, 2, 3]


@pytest.mark.parametrize("limit", [1, 3])
def test_a_limit_is_never_exceeded_and_fully_used(limit):
    gauge, full = Gauge(), threading.Barrier(limit)

    def meet(m):
        with gauge:
            full.wait(PATIENCE)
        return m

    execution = fed(FED.buffer(max_parallel=limit).then(meet), range(limit * 20), workers=8)
    assert gauge.most == limit
    assert execution.result == limit * 20


def test_a_message_that_waits_counts():
    with WorkflowManager(workers=4) as manager:
        execution = manager.start(FED.buffer(max_parallel=1).gate("ask").then(same).build())
        execution.send(1)
        execution.send(2)
        execution.signal("ask[1]", "second")
        assert [one.task_id for one in execution.waiting()] != ["ask[1]"]
        assert status(execution, "ask[1]") == "PENDING"
        execution.signal("ask[0]", "first")
        execution.close()
        assert execution.wait(PATIENCE)
    assert (execution["same[0]"], execution["same[1]"]) == ("first", "second")
    started = [task for task in execution.sequence if "[" in task]
    assert started == ["ask[0]", "same[0]", "ask[1]", "same[1]"]


def test_a_slow_message_doesnt_hold_the_others_behind_a_buffer():
    slow, done = threading.Event(), threading.Semaphore(0)

    def node(m):
        if not m:
            slow.wait(PATIENCE)
        return m

    def count(m):
        done.release()

    with WorkflowManager(workers=4) as manager:
        execution = manager.start(FED.buffer().then(node).then(count).build())
        for m in range(10):
            execution.send(m)
        for _ in range(9):
            assert done.acquire(timeout=PATIENCE)
        assert status(execution, "count[0]") == "PENDING"
        slow.set()
        execution.close()
        assert execution.wait(PATIENCE)


def test_collect_makes_one_wire_of_them_again():
    gauge, order = Gauge(), []
    together = threading.Barrier(2)

    def meet(m):
        together.wait(PATIENCE)
        return m

    def alone(m):
        with gauge:
            order.append(m)

    fed(FED.buffer().then(meet).collect().then(alone), range(20))
    assert gauge.most == 1
    assert order == list(range(20))


@pytest.mark.parametrize("policy", ["fail_fast", "continue"])
@pytest.mark.parametrize("flow", [FED.then(odd_fails).then(same), FED.buffer().then(odd_fails).then(same)])
def test_a_failing_message_ends_its_own_lane_only(flow, policy):
    execution = fed(flow, range(10), failure_policy=policy)
    assert execution.status is WorkflowStatus.COMPLETED
    assert execution.failures == {}
    assert [status(execution, f"same[{i}]") for i in range(4)] == ["COMPLETED", "SKIPPED", "COMPLETED", "SKIPPED"]
    assert isinstance(execution.task("odd_fails[3]").error, ValueError)
    progress = execution.project("progress")
    assert (progress.failed, progress.skipped) == (5, 5)


def test_branches_of_a_lane_are_its_own():
    built = FED.then(same).when(lambda m: m % 2, id="odd").then(again).end_when().then(TaskDef("end", lambda m: m))
    execution = fed(built, range(6))
    assert [execution[f"end[{i}]"] for i in range(6)] == list(range(6))
    assert [status(execution, f"again[{i}]") for i in range(2)] == ["SKIPPED", "COMPLETED"]


def test_parallel_steps_in_a_lane():
    execution = fed(FED.then_parallel("both", same, again).then(TaskDef("end", lambda both: both)), range(3))
    assert execution["end[2]"] == {"same": 2, "again": 2}


def test_steps_may_add_tasks():
    def grow(m):
        return Expand([TaskDef("x", same, args=(m,))], result=Output("x"))

    execution = fed(FED.then(grow).then(same), range(5))
    assert [execution[f"same[{i}]"] for i in range(5)] == list(range(5))
    assert execution["grow[4]/x"] == 4


def test_steps_keep_their_policies():
    calls = []

    def flaky(m):
        calls.append(m)
        if calls.count(m) < 3:
            raise OSError(m)
        return m

    execution = fed(FED.then(TaskDef("flaky", flaky, retry_policy=3)).then(same), range(3))
    assert calls == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert execution["same[2]"] == 2


def test_params_are_seen_and_missed():
    flow = FED.then(TaskDef("add", lambda m, n: m + n, args=(Param("item"), Param("n"))))
    assert fed(flow, [1], {"n": 10})["add[0]"] == 11
    with WorkflowManager() as manager, pytest.raises(WorkflowDefinitionError, match="'n'"):
        manager.start(flow.build())


def test_send_gives_the_id_of_the_lane():
    lanes = []

    def first(ctx, m):
        lanes.append((ctx.lane_id, ctx.chain))
        return m

    def second(ctx, m):
        lanes.append((ctx.lane_id, ctx.chain))

    with WorkflowManager() as manager:
        execution = manager.start(FED.then(first).then(second).build())
        sent = [execution.send(1), execution.send(2)]
        execution.close()
        execution.wait(PATIENCE)
    assert len({*sent}) == 2
    for number, lane in enumerate(sent):
        seen = [chain for lane_id, chain in lanes if lane_id == lane]
        assert seen == [("messages",), ("messages", f"first[{number}]")]


def test_everything_runs_with_one_worker():
    execution = fed(FED.then(same).buffer(2).then(again), range(50), workers=1)
    assert [execution[f"again[{i}]"] for i in range(50)] == list(range(50))


def test_a_cancelled_flow_ends():
    hold = threading.Event()
    with WorkflowManager(workers=2, grace=0.2) as manager:
        execution = manager.start(FED.then(TaskDef("hold", lambda m: hold.wait(PATIENCE))).then(same).build())
        for m in range(5):
            execution.send(m)
        execution.cancel("enough")
        hold.set()
        assert execution.wait(PATIENCE)
        assert execution.status is WorkflowStatus.CANCELLED
        with pytest.raises(NervError, match="no more messages"):
            execution.send(6)
        assert not execution.close()


def test_no_signal_of_a_users_closes_a_flow():
    """What close() sends isn't theirs to send, and everything else is theirs."""
    name = "no more messages"
    with WorkflowManager() as manager:
        execution = manager.start(Flow("f").triggered_by(OnSignal(name)).then(same).build())
        with pytest.raises(NervError, match=r"'messages/closed' is nerv's own; .* call its execution's close\(\)"):
            execution.signal("messages/closed", 1)
        for m in range(3):
            assert execution.signal(name, m)
        assert execution.signal("messages")
        assert execution.close()
        assert ended(execution).result == 3


def test_a_paused_flow_takes_messages():
    with WorkflowManager() as manager:
        execution = manager.start(FED.then(same).build())
        execution.pause()
        execution.send(1)
        execution.resume()
        execution.close()
        assert execution.wait(PATIENCE)
    assert execution["same[0]"] == 1


def test_no_message_at_all():
    execution = fed(FED.then(same), ())
    assert execution.status is WorkflowStatus.COMPLETED
    assert execution.result == 0


def test_a_closed_flow_takes_no_more():
    with WorkflowManager() as manager:
        execution = manager.start(FED.then(same).build())
        assert execution.close()
        assert not execution.close()
        with pytest.raises(NervError, match=r"closed|COMPLETED"):
            execution.send(1)


def test_only_fed_executions_take_messages():
    with WorkflowManager() as manager:
        execution = manager.start(Flow("f").then(TaskDef("one", lambda: 1)).build())
        with pytest.raises(NervError, match="isn't fed"):
            execution.send(1)
        with pytest.raises(NervError, match="isn't fed"):
            execution.close()


def test_messages_may_come_from_many_threads():
    def send(execution):
        for m in range(100):
            execution.send(m)

    with WorkflowManager(workers=4) as manager:
        execution = manager.start(FED.then(same).buffer(3).then(again).build())
        threads = [threading.Thread(target=send, args=(execution,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        execution.close()
        assert execution.wait(PATIENCE)
    assert execution.result == 400
    assert sorted(execution[f"again[{i}]"] for i in range(400)) == sorted([*range(100)] * 4)


def test_every_signal_of_a_name_is_a_message():
    with WorkflowManager() as manager:
        execution = manager.start(Flow("f").triggered_by(OnSignal("go")).then(same).build())
        assert all(execution.signal("go", m) for m in range(3))
        execution.signal("other", 7)
        execution.close()
        assert execution.wait(PATIENCE)
    assert [execution[f"same[{i}]"] for i in range(3)] == [0, 1, 2]
    assert execution.result == 3


def test_messages_have_no_levels():
    with WorkflowManager(scheduling="levels") as manager, pytest.raises(WorkflowDefinitionError, match="levels"):
        manager.start(FED.then(same).build())


def test_a_part_of_a_fed_flow_is_refused():
    with WorkflowManager() as manager, pytest.raises(WorkflowDefinitionError, match="whole"):
        manager.start(FED.then(same).then(again).build(), targets=["same"])


WRONG = {
    "a trigger that is none": (Flow("f").triggered_by("daily").then(same), "a trigger such as"),
    "a negative limit": (FED.buffer(-1).then(same), "max_parallel"),
    "a collect without buffer": (FED.then(same).collect(), "without buffer"),
    "a quorum of messages": (FED.buffer().then(same).collect(quorum=3), "takes nothing"),
    "no steps": (FED, "no steps"),
    "a step called messages": (FED.then(TaskDef("messages", same)), "messages"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_said(wrong):
    flow, said = WRONG[wrong]
    with pytest.raises(WorkflowDefinitionError, match=said):
        flow.build()


def test_two_fed_flows_written_alike_are_equal():
    flow = FED.then(same).buffer(2).then(again)
    assert flow.build() == flow.build()
    assert flow.build() != FED.then(same).buffer(3).then(again).build()
    assert flow.build() != Flow("f").triggered_by(OnSignal("go")).then(same).buffer(2).then(again).build()
