"""The traps of nerv's ancestors that flows could fall into ([its number in the list]), with what must hold."""

import threading

import pytest

from nerv import (
    Buffer,
    Collector,
    Expand,
    Flow,
    Gate,
    JournalNode,
    Loop,
    Manual,
    MemoryJournal,
    NervError,
    Output,
    Page,
    Paginate,
    Param,
    RateLimit,
    RetryPolicy,
    Route,
    Router,
    Sequence,
    SubWorkflow,
    TaskDef,
    Timer,
    Wait,
    Workflow,
    WorkflowDefinitionError,
    WorkflowManager,
    WorkflowStatus,
    run,
)
from nerv.testing import FakeClock
from tests.flows.helpers import FED, fed, inc, same
from tests.handshake import PATIENCE, eventually
from tests.nodes.helpers import go, of


@pytest.mark.parametrize("flow", [FED.then(inc), FED.buffer().then(inc), FED.buffer(3).then(inc)])
def test_a_message_finds_its_way_by_place_whatever_ids_look_like(flow):
    """[35, 36] A reply goes to its own lane: names with dots and digits, lanes that end in any order."""
    named = flow.then(TaskDef("calc.add_7_w3", lambda m: m * 10)).then(TaskDef("1", same))
    execution = fed(named, range(50), workers=8)
    assert [execution[f"1[{i}]"] for i in range(50)] == [(i + 1) * 10 for i in range(50)]


def test_messages_see_nothing_of_each_other():
    """[41, 77] Each has its own params, results, lane and records."""
    seen = []

    def look(ctx, m):
        if ctx["item"] == 1 and ctx.attempt == 1:
            raise ValueError(m)
        seen.append((ctx["item"], dict(ctx.results), ctx.lane_id, ctx.attempt))

    execution = fed(FED.buffer().then(inc).then(TaskDef("look", look, retry_policy=RetryPolicy(2, 0.001))), range(20))
    assert sorted(item for item, *_ in seen) == list(range(20))
    assert all([*results.values()] == [item + 1] for item, results, *_ in seen)
    assert len({lane for *_, lane, _ in seen}) == 20
    assert [execution.task(f"look[{i}]").attempts for i in range(4)] == [1, 2, 1, 1]


def test_who_is_done_is_told_by_closing_and_not_by_guessing():
    """[43] However many have come and ended, it goes on until it is closed."""
    with WorkflowManager(workers=2) as manager:
        execution = manager.start(FED.then(inc).build())
        for message in range(5):
            execution.send(message)
            eventually(lambda message=message: execution.task(f"inc[{message}]").status.name == "COMPLETED")
            assert not execution.status.is_final
        assert execution.close()
        assert execution.wait(PATIENCE)
    assert execution.result == 5


@pytest.mark.parametrize("flow", [FED.then(inc).then(same), FED.buffer(2).then(inc).collect().then(same)])
def test_a_flow_that_is_closed_takes_no_more_and_ends_what_came(flow):
    """[45] Accepting and running are two things: it ends when nothing queues and nothing is in flight."""
    hold = threading.Event()
    first = TaskDef("hold", lambda m: hold.wait(PATIENCE) and m)
    with WorkflowManager(workers=4) as manager:
        execution = manager.start(Flow("f", (FED.then(first).steps + flow.steps), Manual()).build())
        for message in range(100):
            execution.send(message)
        execution.close()
        with pytest.raises(NervError, match="takes no more messages"):
            execution.send(100)
        assert not execution.wait(0)
        hold.set()
        assert execution.wait(PATIENCE)
    assert execution.result == 100
    assert execution["same[99]"] == 100


def test_a_flow_that_is_cancelled_while_a_lane_runs_takes_no_more_and_says_why():
    hold, running = threading.Event(), threading.Event()
    first = TaskDef("hold", lambda m: running.set() or hold.wait(PATIENCE))
    with WorkflowManager(workers=1) as manager:
        execution = manager.start(FED.then(first).build())
        execution.send(1)
        assert running.wait(PATIENCE)
        execution.cancel()
        with pytest.raises(NervError, match="is stopping, so it takes no more messages"):
            execution.send(2)
        hold.set()
        assert execution.wait(PATIENCE)
        with pytest.raises(NervError, match="is CANCELLED, so it takes no more messages"):
            execution.send(3)


def test_a_flow_that_has_ended_is_still_closed_when_it_is_asked_for_by_its_id():
    """So a script that feeds one, and is run once more, comes to its end once more."""
    journal, flow = MemoryJournal(), FED.then(inc).build()
    with WorkflowManager(journal=journal) as manager:
        execution = manager.start(flow, execution_id="once")
        execution.send(1)
        assert execution.close()
        assert execution.wait(PATIENCE)
        assert not execution.close()
    with WorkflowManager(journal=journal) as manager:
        again = manager.start(flow, execution_id="once")
        assert again.status is WorkflowStatus.COMPLETED
        assert not again.close()
        with pytest.raises(NervError, match="is COMPLETED, so it takes no more messages"):
            again.send(2)


def test_a_lane_that_waits_is_never_the_one_that_is_forgotten():
    """[49] The oldest lane of all, though hundreds began and ended after it."""
    with WorkflowManager(workers=2, keep=1, history_limit=10) as manager:
        execution = manager.start(FED.buffer().then(inc).when(lambda m: m == 1, id="first").gate("ask").end_when()
                                  .then(TaskDef("end", same)).build())  # fmt: skip
        for message in range(300):
            execution.send(message)
        eventually(lambda: execution.project("progress")["pending"] == 5)  # the stations, and its own end
        assert [one.task_id for one in execution.waiting() if "[" in one.task_id] == ["ask[0]"]
        execution.signal("ask[0]", "found")
        execution.close()
        assert execution.wait(PATIENCE)
        assert execution["end[0]"] == "found"


UNREAD = {
    "args": (1,), "kwargs": {"a": 1}, "pool": "process", "resources": {"gpu": 1}, "compensate": same,
    "rate_limit": RateLimit(1, 1), "retry_policy": 3, "fn": same,
}  # fmt: skip
NODES = {
    "Buffer": lambda **more: Buffer("n", [1], inc, **more),
    "Collector": lambda **more: Collector("n", "b", **more),
    "Sequence": lambda **more: Sequence("n", [inc], 1, **more),
    "Router": lambda **more: Router("n", 1, {1: "a"}, **more),
    "JournalNode": lambda **more: JournalNode("n", 1, **more),
    "Gate": lambda **more: Gate("n", **more),
    "Timer": lambda **more: Timer("n", 1, **more),
    "Loop": lambda **more: Loop("n", inc, bool, **more),
    "SubWorkflow": lambda **more: SubWorkflow("n", of(TaskDef("a", list)), **more),
    "Paginate": lambda **more: Paginate("n", inc, **more),
}


@pytest.mark.parametrize("kind", NODES)
def test_a_node_takes_no_option_that_it_wouldnt_read(kind):
    """[50, 61] It is refused by name, with where it belongs, and so is one that nobody knows."""
    for name, value in UNREAD.items():
        if (kind, name) != ("Paginate", "retry_policy"):  # it is that of each page
            with pytest.raises((WorkflowDefinitionError, TypeError), match=name):
                NODES[kind](**{name: value})
    with pytest.raises(TypeError, match="per_item_retry"):
        NODES[kind](per_item_retry=3)


def test_values_and_references_are_both_good():
    """[51] Whatever a node takes may be a value, or come from a task, a param or a part of one."""
    given = TaskDef("given", lambda: {"items": [1, 2], "kind": "a"})
    for items in ([1, 2], Output("given")["items"], Param("items")):
        for value in ("a", Output("given")["kind"], Param("kind")):
            execution = run(
                of(
                    given,
                    Buffer("b", items, inc),
                    Router("r", value, {"a": "x"}),
                    TaskDef("x", list, dependencies=["r"]),
                ),
                {"items": [1, 2], "kind": "a"},
            )
            assert (list(execution["b"]), execution["x"]) == ([2, 3], [])


def test_the_first_failure_in_time_is_the_one_that_is_named():
    """[52] And not the first in order; what hadn't begun never begins."""
    second_failed, calls = threading.Event(), []

    def fails(item):
        calls.append(item)
        if item == 0:
            second_failed.wait(PATIENCE)
        raise ValueError(item)

    with WorkflowManager(workers=2) as manager:
        manager.event_bus.subscribe("TASK_FAILED", lambda event: event.task_id == "b[1]" and second_failed.set())
        execution = manager.start(of(Buffer("b", range(10), fails, max_parallel=2)))
        assert execution.wait(PATIENCE)
    assert str(execution.failures["b[1]"]) == "1"
    assert execution.failures["b"] is execution.failures["b[1]"]
    assert sorted(calls) == [0, 1]


def page(cursor):
    return Page([cursor], None if cursor == "10" else {None: 9, 9: 10, 10: "10"}[cursor])


INNER = Workflow("inner", [Gate("sure"), TaskDef("end", inc, args=(Param("item"),), dependencies=["sure"])])
STEPS = {
    "gate": (Gate("n"), "yes", ["n[{}]"]),
    "timer": (Timer("n", 0.001), None, []),
    "loop": (Loop("n", inc, lambda m: m >= 10, Param("item")), 10, []),
    "sequence": (Sequence("n", [inc, inc], Param("item")), None, []),
    "subworkflow": (SubWorkflow("n", INNER, {"item": Param("item")}), None, ["n[{}]/sure"]),
    "buffer": (Buffer("n", [1, 2], inc), None, []),
    "paginate": (Paginate("n", page), None, []),
    "expand": (TaskDef("n", lambda m: Expand([TaskDef("x", inc, args=(m,))], result=Output("x"))), None, []),
    "wait": (TaskDef("n", lambda m: Wait(signal=f"go {m}")), "yes", ["go {}"]),
    "retried": (
        TaskDef("n", lambda ctx, m: 1 // (ctx.attempt - 1) and m, retry_policy=RetryPolicy(2, 0.001)),
        None,
        [],
    ),
}


@pytest.mark.parametrize("shape", ["direct", "buffered", "in a branch", "behind it all"])
@pytest.mark.parametrize("kind", STEPS)
def test_every_kind_of_step_works_wherever_it_stands_in_a_flow(kind, shape):
    """[57, 72] There is one way in which tasks run, also behind a throttled buffer, in a branch, and after them;
    nothing that waits holds the one worker.
    """
    step, _, gates = STEPS[kind]
    flow = {
        "direct": FED.then(inc).then(step),
        "buffered": FED.then(inc).buffer(2).then(step),
        "in a branch": FED.then(inc).when(bool).buffer(2).then(step).end_when(),
        "behind it all": FED.buffer(2).then(inc).when(bool).then(same).end_when().collect().then(step),
    }[shape]
    after = []
    with WorkflowManager(workers=1) as manager:
        execution = manager.start(flow.then(TaskDef("after", after.append)).build())
        for message in range(6):
            execution.send(message)
        for message in range(6):
            for gate in gates:
                execution.signal(gate.format(message if "go" not in gate else message + 1), "yes")
        execution.close()
        assert execution.wait(PATIENCE), execution.summary()
    assert [execution.task(f"after[{i}]").status.name for i in range(6)] == ["COMPLETED"] * 6
    assert len(after) == 6
    assert execution.project("progress").failed == 0


def test_cursors_are_compared_and_never_ordered():
    """[58] 10 comes after 9, and "10" is another one than 10."""
    assert go(Paginate("p", page))["p"].items == [None, 9, 10, "10"]


@pytest.mark.parametrize(
    "node",
    [
        Buffer("n", [Output("ghost")], inc),
        Buffer("n", [1], TaskDef("t", inc, args=(Output("ghost"),))),
        Sequence("n", [inc], (1, Output("ghost"))),
        Router("n", {"deep": [Output("ghost")]}, {1: "z"}),
        JournalNode("n", Output("ghost")["part"]),
        Loop("n", inc, bool, Output("ghost")),
        SubWorkflow("n", of(TaskDef("a", list)), {"p": [Output("ghost")]}),
        Timer("n", Output("ghost")),
    ],
    ids=lambda node: type(node).__name__,
)
def test_a_reference_to_nothing_is_never_text(node):
    """[60] Wherever it stands in what a node was given, it is found before anything runs."""
    with pytest.raises(WorkflowDefinitionError, match="'n' depends on 'ghost', which is no task"):
        of(node, TaskDef("z", list, dependencies=["n"]))


@pytest.mark.parametrize("flow", [FED.buffer(), FED])
def test_each_attempt_of_each_message_takes_a_token(flow):
    """[62] The limit is the engine's: shared by all lanes, and by the retries too."""
    clock, starts = FakeClock(), []

    def call(ctx, m):
        starts.append(round(clock.monotonic()))
        if ctx.attempt == 1:
            raise ValueError(m)

    limited = TaskDef("call", call, retry_policy=2, rate_limit=RateLimit(2, 10))
    with WorkflowManager(clock=clock, workers=4) as manager:
        execution = manager.start(flow.then(limited).build())
        for message in range(4):
            execution.send(message)
        execution.close()
        for _ in range(10_000):
            if execution.wait(0.002):
                break
            clock.advance(1)
        assert execution.status.is_final
    assert len(starts) == 8
    starts.sort()
    assert all(later - earlier >= 10 for earlier, later in zip(starts, starts[2:], strict=False))


@pytest.mark.parametrize("text", ["value > 3", b"x", 3])
def test_a_predicate_is_a_function_and_never_source_text(text):
    """[80] In a Router, a when, a route and a Loop."""
    for make in (
        lambda: Router("r", 1, [(text, "a")]),
        lambda: Flow("f").then(list).when(text).then(same).end_when().build(),
        lambda: FED.then(inc).when(text).then(same).end_when().build(),
        lambda: Flow("f").then(list).route("r", [(text, same)]).build(),
        lambda: Loop("l", inc, text),
    ):
        with pytest.raises(WorkflowDefinitionError, match=r"function|predicate"):
            make()


def test_routes_of_one_message_are_nothing_to_the_next():
    """[68, 69] Dead branches spread within a lane, and each join waits for what is alive in its own."""

    def choose(m):
        return Route("even") if m % 2 == 0 else Route("odd", "both")

    ways = ("even", "odd", "both")
    branches = [TaskDef(way, lambda _, way=way: way, dependencies=["choose"]) for way in ways]
    execution = fed(FED.then(TaskDef("choose", choose)).then_parallel("join", *branches), range(4))
    taken = [[way for way in ways if execution.task(f"{way}[{i}]").status.name == "COMPLETED"] for i in range(4)]
    assert taken == [["even"], ["odd", "both"]] * 2
