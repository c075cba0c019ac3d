"""The traps of nerv's ancestors that nodes could fall into ([its number in the list]), with what must hold."""

import threading

import pytest

from nerv import (
    Buffer,
    Collector,
    Expand,
    Gate,
    Loop,
    Output,
    Router,
    Sequence,
    SubWorkflow,
    TaskDef,
    TaskTimeoutError,
    Wait,
    Workflow,
    WorkflowDefinitionError,
    WorkflowManager,
)
from nerv.families import Families
from tests.handshake import PATIENCE
from tests.nodes.helpers import double, fail, go, inc, of, same, statuses


def test_a_result_finds_its_item_by_place_whatever_the_ids_look_like():
    """[35, 36] Names with dots, digits and underscores, nested, and results that come in any order."""
    inner = Workflow("w.1", [Buffer("buffer_7_w3", [10, 20], TaskDef("calc.add", inc))])
    execution = go(Buffer("system.buffer", range(3), inner))
    assert [list(done) for done in execution["system.buffer"]] == [[11, 21]] * 3
    assert execution["system.buffer[1]/buffer_7_w3[0]"] == 11


def test_an_item_that_never_answers_is_late_and_nothing_is_left_behind():
    """[37] A deadline of the whole, and one of each item."""

    gate = threading.Event()

    def deaf(ctx, item):
        while item and not ctx.cancelled and not gate.wait(0.001):
            pass
        ctx.check_cancelled()
        return item

    whole = go(Buffer("b", [0, 1], deaf, timeout=0.05))
    assert isinstance(whole.failures["b"], TaskTimeoutError)
    each = go(Buffer("b", [0, 1], TaskDef("t", deaf, timeout=0.05), on_item_error="collect"))
    gate.set()
    assert isinstance(each["b"].errors[1], TaskTimeoutError)
    assert each["b"].results[0] == 0


def test_items_that_nobody_collects_leave_nothing_that_waits():
    """[38] Of what has ended nothing is open, and nobody watches."""
    execution = go(Buffer("b", range(5), inc, collect=False))
    families = execution._live.scheduler.families
    assert isinstance(families, Families)
    assert families.open == {}
    assert [family.watchers for family in families.last.values()] == [{}]


def test_a_buffer_completes_once():
    """[39] However its items end together."""
    for _ in range(50):
        barrier = threading.Barrier(4)
        execution = go(Buffer("b", range(4), lambda _, b=barrier: b.wait(PATIENCE)), workers=4)
        ends = [event for event in execution.events() if event.type == "TASK_COMPLETED" and event.task_id == "b"]
        assert len(ends) == 1


@pytest.mark.parametrize("item", ["a\nb", "", "\x00", b"\n", "ä\u2028", "b[0]"])
def test_items_are_values_not_lines(item):
    """[40] Line ends and the like travel as they are."""
    assert list(go(Buffer("b", [item, item], same, max_parallel=1))["b"]) == [item, item]


def test_a_buffer_larger_than_any_queue_never_locks_up():
    """[40] On one worker that also has to end it."""
    assert go(Buffer("b", range(12_000), inc, max_parallel=3), workers=1)["b"].successful == 12_000


def test_a_buffer_never_waits_and_a_collector_does():
    """[42, 43] Dispatching and collecting are two nodes; the number of items is known to the collector."""
    gate = threading.Event()
    between = TaskDef("between", gate.set, dependencies=["b"])
    execution = go(
        Buffer("b", range(3), lambda i: gate.wait(PATIENCE) and i, collect=False), between, Collector("c", "b")
    )
    assert list(execution["c"]) == [0, 1, 2]


def test_two_runs_over_the_same_way_share_no_lane():
    """[47, 48] Ids of lanes are long, and made anew."""

    def lane(ctx, _):
        return ctx.lane_id

    workflow = of(Buffer("b", range(3), lane))
    with WorkflowManager() as manager:
        runs = [manager.start(workflow) for _ in range(3)]
        assert all(execution.wait(PATIENCE) for execution in runs)
    assert len({one for execution in runs for one in execution["b"]}) == 9


def test_the_error_of_an_item_goes_to_whoever_waits_for_it():
    """[49a] To the collector, by place."""
    execution = go(
        Buffer("b", [0, 1], lambda i: 1 / i, collect=False, on_item_error="collect"), Collector("c", "b", quorum=1)
    )
    assert isinstance(execution["c"].errors.get(0, ZeroDivisionError()), ZeroDivisionError)
    assert execution["c"].results[1] == 1.0


def test_only_completed_items_are_undone_the_last_one_first_each_with_its_own_result():
    """[53, 54] Items are tasks like others."""
    undone = []
    target = TaskDef("t", lambda i: 10 // (3 - i), compensate=undone.append)
    go(Buffer("b", range(5), target, max_parallel=1))
    assert undone == [10, 5, 3]


@pytest.mark.parametrize("kind", ["sequence", "loop", "subworkflow", "buffer", "expand"])
def test_every_kind_of_step_works_inside_every_other(kind):
    """[57] There is one way in which tasks run, wherever they came from."""
    steps = [
        TaskDef("in", inc, args=(1,)),
        Gate("gate"),
        Loop("loop", inc, lambda v: v > 2, 0),
        Router("r", 1, {1: "x"}),
    ]
    rest = [TaskDef("x", lambda: "x", dependencies=["r"]), TaskDef("end", list, args=([Output("in"), Output("gate")],))]
    inner = Workflow("inner", [*steps, *rest], result=Output("end"))
    node, gate = {
        "sequence": (Sequence("n", [inner], 0), "n[0]/gate"),
        "loop": (Loop("n", inner, lambda _: True), "n[0]/gate"),
        "subworkflow": (SubWorkflow("n", inner), "n/gate"),
        "buffer": (Buffer("n", [0], inner), "n[0]/gate"),
        "expand": (TaskDef("n", lambda: Expand([*steps, *rest], result=Output("end"))), "n/gate"),
    }[kind]
    with WorkflowManager(workers=1) as manager:
        execution = manager.start(of(node))
        execution.signal(gate, "yes")
        assert execution.wait(PATIENCE)
    expected = [2, "yes"]
    assert execution["n"] == ([expected] if kind == "buffer" else expected) or execution["n"].results == [expected]
    assert execution.status.name == "COMPLETED"


def test_ids_of_children_never_meet_those_of_others():
    """[63, 64] Not in one run, and a clash in one family is an error."""
    execution = go(
        TaskDef("a", lambda: Expand([TaskDef("x", same, args=(1,))])),
        Buffer("x", [1], inc),
        TaskDef("y", inc, args=(1,)),
    )
    assert set(statuses(execution)) == {"a", "a/x", "x", "x[0]", "y"}
    execution = go(TaskDef("a", lambda: Expand([TaskDef("x", inc), TaskDef("x", inc)])))
    assert isinstance(execution.failures["a"], WorkflowDefinitionError)


def test_a_join_waits_for_branches_of_unequal_length_and_is_told_of_dead_ones():
    """[65, 68, 69] It runs once, when all that will come has come."""
    calls = []
    chain = [TaskDef(f"c{i}", same, args=(i,), dependencies=[f"c{i - 1}" if i else "r"]) for i in range(5)]
    join = TaskDef(
        "join", lambda *got: calls.append(got), args=(Output("c4"), Output("short"), Output("dead", default=None))
    )
    execution = go(
        Router("r", 1, {1: ["c0", "short"], 2: "dead"}), *chain,
        TaskDef("short", lambda: "s", dependencies=["r"]), TaskDef("dead", fail, dependencies=["r"]), join,
    )  # fmt: skip
    assert calls == [(4, "s", None)]
    assert execution.status.name == "COMPLETED"


def test_a_gate_in_the_middle_holds_up_nobody_and_a_pause_forgets_nothing():
    """[70, 71, 72] Siblings go on while it waits, and what follows is run by the same rules."""
    beside = threading.Event()
    tries = []

    def flaky(value):
        tries.append(value)
        if len(tries) < 3:
            raise ValueError(value)
        return value

    tasks = [
        Gate("g"), TaskDef("beside", beside.set),
        TaskDef("after", flaky, args=(Output("g"),), retry_policy=3), Buffer("fan", Output("after"), inc),
    ]  # fmt: skip
    with WorkflowManager(workers=1) as manager:
        execution = manager.start(of(*tasks))
        assert beside.wait(PATIENCE)
        execution.pause()
        execution.signal("g", [0, False, 2])
        execution.resume()
        assert execution.wait(PATIENCE)
    assert list(execution["fan"]) == [1, 1, 3]
    assert tries == [[0, False, 2]] * 3
    assert execution.sequence.count("after") == 3


def test_a_gates_timeout_is_really_set():
    """[73] And a mistake in it is an error where it is written."""
    assert isinstance(go(Gate("g", timeout=0.01)).failures["g"], TaskTimeoutError)
    with pytest.raises(WorkflowDefinitionError):
        Gate("g", timeout="soon")


def test_what_comes_after_the_timeout_changes_nothing():
    """[75] A late result of what was given up is ignored."""
    gate, ended = threading.Event(), threading.Event()

    def slow():
        gate.wait(PATIENCE)
        ended.set()
        return Expand([TaskDef("x", fail)])

    execution = go(TaskDef("a", slow, timeout=0.02, fallback="late"))
    gate.set()
    assert ended.wait(PATIENCE)
    assert (execution["a"], set(statuses(execution))) == ("late", {"a"})


def test_each_item_has_a_record_of_its_own():
    """[77] Attempts and times are not written over each other."""

    def target(ctx, item):
        if item and ctx.attempt == 1:
            raise ValueError(item)
        return item

    execution = go(Buffer("b", [0, 1], TaskDef("t", target, retry_policy=2)))
    assert [execution.task(f"b[{i}]").attempts for i in range(2)] == [1, 2]


def test_a_list_is_one_item_and_is_never_unpacked():
    """[79] Neither a list nor a tuple nor a dict."""
    items = [[1, 2], (3, 4), {"a": 5}]
    assert list(go(Buffer("b", items, lambda item: item))["b"]) == items
    assert go(Sequence("s", [same, same], (1, 2)))["s"] == (1, 2)


def test_alarms_and_signals_belong_to_their_execution():
    """[82] A signal of one opens no gate of another."""
    with WorkflowManager() as manager:
        one, other = manager.start(of(Gate("g"))), manager.start(of(Gate("g")))
        one.signal("g", 1)
        assert one.wait(PATIENCE)
        assert not other.status.is_final
        other.signal("g", 2)
        assert other.wait(PATIENCE)
    assert (one["g"], other["g"]) == (1, 2)


def test_nothing_waits_inside_a_worker():
    """[32, 81] A hundred waits, retries and expansions on one worker."""
    waits = [TaskDef(f"w{i}", lambda: Wait(seconds=0.001)) for i in range(100)]
    grows = [
        TaskDef(f"g{i}", lambda: Expand([TaskDef("x", double, args=(2,))], result=Output("x"))) for i in range(100)
    ]
    execution = go(*waits, *grows, workers=1)
    assert {execution[f"g{i}"] for i in range(100)} == {4}


def test_of_two_buffers_that_want_one_iterator_at_once_one_has_all_of_it():
    """It isn't torn between them: the other fails, and says who has it."""
    for _ in range(50):
        tasks = TaskDef("n", lambda: map(str, range(9))), *(Buffer(one, Output("n"), same) for one in "ab")
        execution = go(*tasks, failure_policy="continue")
        ((failed, error),) = execution.failures.items()
        other = "b" if failed == "a" else "a"
        assert (
            str(error) == f"task {failed!r}: its items are a map, which task {other!r} has used up; return a list there"
        )
        assert execution[other].values == list("012345678")


def test_an_iterator_that_two_buffers_share_is_refused():
    """An iterator gives its items once."""
    items = iter([1, 2])
    with pytest.raises(WorkflowDefinitionError, match="the same iterator as 'a'"):
        of(Buffer("a", items, inc), Buffer("b", items, inc))
