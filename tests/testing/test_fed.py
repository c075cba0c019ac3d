"""Fed flows in tests: a mock of a step plays it for every message, and `simulate` sends messages at any moment."""

import pytest

from nerv import Flow, Manual, TaskDef, WorkflowStatus
from nerv.testing import CounterExampleError, Faults, MockError, WorkflowTester, simulate

FED = Flow("fed").triggered_by(Manual())


def fetch(m):
    return m


def double(m):
    return 2 * m


def is_odd(m):
    return m % 2


def tried(flow, messages, prepare=lambda _: None):
    with WorkflowTester() as tester:
        prepare(tester)
        execution = tester.start(flow.build())
        for message in messages:
            execution.send(message)
        execution.close()
        tester.settle()
        assert execution.status is WorkflowStatus.COMPLETED
        counts = {name: tester.call_count(name) for name in ("fetch", "fetch[1]", "double", fetch)}
    return execution, counts


@pytest.mark.parametrize("flow", [FED.then(fetch).then(double), FED.buffer(2).then(fetch).then(double)])
def test_a_mock_plays_a_step_for_every_message(flow):
    execution, counts = tried(flow, range(3), lambda tester: tester.mock("fetch", lambda m: m + 100))
    assert [execution[f"double[{i}]"] for i in range(3)] == [200, 202, 204]
    assert counts == {"fetch": 3, "fetch[1]": 1, "double": 3, fetch: 3}


def test_a_mock_of_one_message_goes_before_that_of_the_step():
    def prepare(tester):
        tester.mock_value("fetch", 1)
        tester.mock_value("fetch[2]", 50)

    execution, _ = tried(FED.then(fetch).then(double), range(3), prepare)
    assert [execution[f"double[{i}]"] for i in range(3)] == [2, 2, 100]


def test_a_mock_of_the_function_plays_it_too():
    execution, counts = tried(FED.then(fetch).then(double), range(2), lambda tester: tester.mock(fetch, lambda _: 7))
    assert execution["double[1]"] == 14
    assert counts["fetch"] == 2


def test_what_stands_for_all_messages_is_never_called_in_their_place():
    def fails(_):
        raise OSError

    with WorkflowTester() as tester:
        tester.mock("fetch", fails)
        execution = tester.start(FED.then(fetch).build())
        execution.close()
        tester.settle()
        assert execution.status is WorkflowStatus.COMPLETED
        assert tester.call_count("fetch") == 0


def test_a_fed_flow_that_nobody_closes_is_told():
    with WorkflowTester() as tester, pytest.raises(MockError, match="doesn't end by itself, it waits in 'messages'"):
        tester.run(FED.then(fetch).build())


def topology():
    flow = FED.then(fetch).buffer(2).then(double).when(lambda m: m % 4, id="odd").gate("ask").otherwise()
    return flow.then(TaskDef("even", fetch)).end_when().collect().then(TaskDef("end", fetch)).build()


BEHIND = ("double", "odd", "ask", "even")
ENDS = ("TASK_COMPLETED", "TASK_FAILED", "TASK_CANCELLED", "TASK_SKIPPED")
SIGNALS = {f"ask[{i}]": "yes" for i in range(6)}


def in_order(execution):
    """What a direct wire and a limit promise, whatever befell whom."""
    for step in ("fetch", "end"):
        started = [task for task in execution.sequence if task.startswith(f"{step}[")]
        first = list(dict.fromkeys(started))
        assert first == sorted(first, key=lambda task: int(task[len(step) + 1 : -1]))
    inside, left = set(), dict.fromkeys(range(6), len(BEHIND))
    for event in execution.events():
        step, _, number = str(event.task_id or "").partition("[")
        if number and step in BEHIND:
            message = int(number[:-1])
            if event.type == "TASK_STARTED":
                inside.add(message)
            left[message] -= event.type in ENDS
            if not left[message]:
                inside.discard(message)
            assert len(inside) <= 2


@pytest.mark.parametrize("faults", [Faults(), Faults(failing=0.1, slow=0.3), Faults(slow=0.2, cancelling=0.5)])
def test_topology_holds_under_many_schedules(faults):
    report = simulate(topology(), 150, messages=range(6), signals=SIGNALS, faults=faults, invariant=in_order)
    assert report.seeds == 150
    assert set(report.statuses) <= {"COMPLETED", "CANCELLED"}
    assert report.statuses["COMPLETED"] > 50


def test_a_counter_example_is_replayed_by_its_seed():
    def third_fails(execution):
        return execution.task("fetch[3]").status.name == "COMPLETED"

    given = {"messages": range(6), "signals": SIGNALS, "faults": Faults(failing=0.1), "invariant": third_fails}
    with pytest.raises(CounterExampleError, match=r"fetch\[3\] \(attempt 1\) fails") as caught:
        simulate(topology(), 100, **given)
    with pytest.raises(CounterExampleError) as again:
        simulate(topology(), **given, seed=caught.value.seed)
    assert [*again.value.execution.sequence] == [*caught.value.execution.sequence]


def test_messages_are_for_fed_flows_and_fed_flows_need_them():
    with pytest.raises(TypeError, match=r"takes messages: give it messages="):
        simulate(FED.then(fetch).build(), 3)
    with pytest.raises(TypeError, match=r"takes no messages: leave out messages="):
        simulate(Flow("f").then(TaskDef("a", list)).build(), 3, messages=[1])
