"""`simulate`: schedules that can be repeated, promises of the engine and of users, and the seed of what breaks them."""

from __future__ import annotations

import itertools
import pickle
from collections import Counter

import pytest

from nerv import (
    CircuitBreaker,
    ConfigError,
    Gate,
    Loop,
    MemoryJournal,
    Output,
    Param,
    RateLimit,
    RetryPolicy,
    Router,
    SubWorkflow,
    TaskDef,
    TaskTimeoutError,
    Timer,
    UnknownIdError,
    WorkerCrashedError,
    Workflow,
    WorkflowDefinitionError,
    WorkflowStatus,
    task,
    workflow,
)
from nerv.scheduler import Scheduler
from nerv.testing import CounterExampleError, Faults, InjectedError, InvariantError, simulate
from tests.handshake import python

EVERYTHING = Faults(failing=0.1, crashing=0.1, slow=0.2, hanging=0.1, late=0.3, cancelling=0.1)


def wide(count=3, fn=int, **policies):
    """A workflow of tasks that don't need each other."""
    return Workflow("wide", [TaskDef(f"t{number}", fn, **policies) for number in range(count)])


def order(undone, **policies):
    """A little of everything."""
    limit, breaker = RateLimit(2, 10.0, "api"), CircuitBreaker(2, 30.0, 1, "api")
    asks = [
        TaskDef(
            f"ask{number}",
            lambda stock: stock + 1,
            args=(Output("stock"),),
            rate_limit=limit,
            circuit_breaker=breaker,
            timeout=20,
            retry_policy=RetryPolicy(3, 1.0),
            compensate=undone,
        )
        for number in range(3)
    ]
    return Workflow(
        "order",
        [
            TaskDef("stock", lambda: 1, timeout=30, retry_policy=3, compensate=undone),
            *asks,
            TaskDef("draw", int, pool="process", resources={"gpu": 1}, timeout=5, retry_policy=2, compensate=undone),
            TaskDef("paint", int, pool="process", resources={"gpu": 1}, timeout=5, circuit_breaker=breaker, **policies),
            TaskDef("sum", sum, args=([Output(ask.id) for ask in asks],), compensate=undone),
            TaskDef("sweep", int, dependencies=["sum"], run_when="all_finished"),
        ],
    )


def always(execution):
    """What every execution of `wide` that completed has."""
    return execution.status is not WorkflowStatus.COMPLETED or len(execution.results) == len(execution.workflow)


# ---- what holds ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure_policy", ["fail_fast", "continue"])
@pytest.mark.parametrize(
    "fallback",
    [
        pytest.param({}, id="none"),
        pytest.param({"fallback": 7}, id="value"),
        pytest.param({"fallback": lambda error: 8}, id="function"),
    ],
)
def test_the_engine_keeps_its_promises_whatever_befalls(failure_policy, fallback):
    workflow = order(lambda result: None, **fallback)
    report = simulate(workflow, 150, faults=EVERYTHING, resources={"gpu": 1}, failure_policy=failure_policy)
    assert report.seeds == 150
    assert set(report.statuses) == {"COMPLETED", "FAILED", "CANCELLED"}
    assert sum(report.statuses.values()) == 150
    assert report.faults > 150
    assert report.events > 150 * 5


def test_without_faults_everything_completes():
    report = simulate(wide(), 50, faults=Faults())
    assert report == type(report)(50, {"COMPLETED": 50}, 50 * 8, 0)


def test_the_schedules_differ():
    ends = Counter()
    simulate(
        wide(),
        200,
        faults=Faults(),
        invariant=lambda execution: ends.update(
            [tuple(event.task_id for event in execution.events() if event.type == "TASK_COMPLETED")]
        ),
    )
    assert len(ends) == 6


def test_seeds_may_be_a_list():
    seen = []
    report = simulate(wide(), [3, 5, 8], invariant=lambda execution: seen.append(execution.id))
    assert (report.seeds, seen) == (3, ["simulation-3", "simulation-5", "simulation-8"])


def test_hooks_of_a_run_are_passed_on():
    workflow = Workflow(
        "wf", [TaskDef("a", lambda ctx, word: (word, ctx.services, ctx["word"]), args=(Param("word"),))]
    )
    seen = []
    simulate(
        workflow, 2, params={"word": "hi"}, services="mine", faults=Faults(), invariant=lambda e: seen.append(e.result)
    )
    assert seen == [("hi", "mine", "hi")] * 2


def test_params_can_be_made_anew_for_each_schedule():
    workflow = Workflow("wf", [TaskDef("a", lambda till: till.append(1), args=(Param("till"),))])
    simulate(
        workflow,
        20,
        params=lambda: {"till": []},
        faults=Faults(),
        invariant=lambda execution: execution.params["till"] == [1],
    )


def test_mocks_stand_for_what_must_not_really_happen():
    workflow = Workflow("wf", [TaskDef("a", exit), TaskDef("b", lambda a: a + 1, args=(Output("a"),))])
    simulate(workflow, 20, mocks={"a": lambda: 1}, faults=Faults(), invariant=lambda execution: execution.result == 2)


def test_inline_tasks_take_part():
    simulate(wide(pool="inline"), 20, faults=Faults(), invariant=always)


@task
def numbers():
    return [1, 2, 3]


@task(retry_policy=2)
def square(number):
    return number * number


@workflow
def squares():
    return square.map(numbers(), max_parallel=2)


STEERED = Workflow(
    "steered",
    [
        TaskDef("a", int),
        Timer("nap", seconds=3600),
        Router("which", Output("a"), {0: "x", 1: "y"}, dependencies=["nap"]),
        TaskDef("x", int, dependencies=["which"]),
        TaskDef("y", int, dependencies=["which"]),
        TaskDef("joined", lambda value: value, args=(Output.first("x", "y"),)),
        Loop("count", lambda last: (last or 0) + 1, until=lambda value: value >= 3, dependencies=["joined"]),
        SubWorkflow("inner", squares(), dependencies=["a"]),
    ],
)


@pytest.mark.parametrize("nodes", [squares(), STEERED], ids=lambda nodes: nodes.name)
def test_tasks_that_nodes_bring_take_part(nodes):
    faults = Faults(failing=0.05, crashing=0.1, slow=0.2, hanging=0.1, cancelling=0.1)
    report = simulate(nodes, 100, faults=faults)
    assert set(report.statuses) == {"COMPLETED", "FAILED", "CANCELLED"}


def test_signals_are_sent_at_any_moment():
    asked = Workflow(
        "asked", [TaskDef("a", int), Gate("ok", dependencies=["a"]), TaskDef("b", str, args=(Output("ok"),))]
    )
    moments = Counter()

    def signalled(execution):
        assert execution["b"] == "7"
        kinds_of = [event.type for event in execution.events()]
        moments[kinds_of.index("SIGNAL_RECEIVED")] += 1

    simulate(asked, 60, faults=Faults(), signals={"ok": 7}, invariant=signalled)
    assert len(moments) > 2
    with pytest.raises(CounterExampleError, match="it neither ends nor goes on"):
        simulate(asked, 1, faults=Faults())


def test_settings_are_those_of_the_run():
    at_once = []

    def count(execution):
        running = most = 0
        for event in execution.events():
            running += (event.type == "TASK_STARTED") - (event.type == "TASK_COMPLETED")
            most = max(most, running)
        at_once.append(most)

    simulate(wide(6), 50, workers=2, faults=Faults(), invariant=count)
    assert max(at_once) == 2
    at_once.clear()
    simulate(wide(6), 50, faults=Faults(), invariant=count)
    assert set(at_once) >= {1, 2, 3, 4}, "else the number of workers is drawn"


def test_faults_reach_tasks():
    errors = Counter()
    simulate(
        wide(8, timeout=10, pool="process"),
        100,
        faults=EVERYTHING,
        failure_policy="continue",
        invariant=lambda execution: errors.update(type(error) for error in execution.failures.values()),
    )
    assert set(errors) == {InjectedError, WorkerCrashedError, TaskTimeoutError}


def test_only_what_has_a_timeout_hangs():
    simulate(wide(), 50, faults=Faults(hanging=1.0), invariant=lambda execution: len(execution.results) == 3)


def test_threads_do_not_die():
    simulate(wide(), 50, faults=Faults(crashing=1.0), invariant=lambda execution: len(execution.results) == 3)


@pytest.mark.parametrize("fault", ["failing", "crashing", "hanging"])
def test_late_calls_did_their_work_and_lost_its_result(fault):
    done = Counter()
    workflow = Workflow("wf", [TaskDef("a", lambda: done.update(["a"]), pool="process", timeout=5, retry_policy=2)])
    report = simulate(workflow, 100, faults=Faults(**{fault: 1.0}, late=0.5))
    assert report.statuses == {"FAILED": 100}
    assert 60 < done["a"] < 140
    done.clear()
    simulate(workflow, 100, faults=Faults(**{fault: 1.0}))
    assert not done


def test_an_execution_is_cancelled_at_any_moment():
    lengths = Counter()
    report = simulate(
        wide(), 300, faults=Faults(cancelling=1.0), invariant=lambda execution: lengths.update([len(execution.results)])
    )
    assert report.statuses["CANCELLED"] > 50
    assert set(lengths) == {0, 1, 2, 3}


# ---- what doesn't ----------------------------------------------------------------------------------------------------


def broken(execution):
    """Holds unless t1 was quickest."""
    first = next(event.task_id for event in execution.events() if event.type == "TASK_COMPLETED")
    assert first != "t1", "t1 was quickest"


def test_a_counter_example_says_what_and_how_to_replay_it():
    with pytest.raises(CounterExampleError) as caught:
        simulate(wide(), faults=Faults(slow=0.5), invariant=[always, broken])
    error = caught.value
    assert isinstance(error, AssertionError)
    assert str(error).startswith(f"workflow 'wide', seed {error.seed}: AssertionError: t1 was quickest\n")
    assert f"Replay it with the same arguments and seed={error.seed}." in str(error)
    assert "TASK_COMPLETED t1 (attempt 1)" in str(error)
    assert "Run again" not in str(error)
    assert error.execution.status is WorkflowStatus.COMPLETED
    assert isinstance(error.__cause__, AssertionError)


def test_a_seed_replays_a_counter_example_and_nothing_else():
    with pytest.raises(CounterExampleError) as caught:
        simulate(wide(), faults=EVERYTHING, invariant=broken)
    seen = []

    def seeing(execution):
        seen.append([(event.type, event.task_id, event.timestamp) for event in execution.events()])
        broken(execution)

    for _ in range(2):
        with pytest.raises(CounterExampleError) as again:
            simulate(wide(), faults=EVERYTHING, invariant=seeing, seed=caught.value.seed)
        assert str(again.value) == str(caught.value)
    assert len(seen) == 2
    assert seen[0] == seen[1]


def test_a_replay_is_the_same_in_every_process():
    code = """
        from tests.testing.test_simulation import EVERYTHING, order
        from nerv.testing import simulate
        def tell(execution):
            for event in execution.events():
                print(event.type, event.task_id, event.timestamp, event.attempt)
        for seed in range(5):
            simulate(order(print), seed=seed, faults=EVERYTHING, resources={"gpu": 1}, invariant=tell)
    """
    told = {python(code, hash_seed=seed)[0] for seed in ("1", "2", "random")}
    assert len(told) == 1
    assert told.pop().count("WORKFLOW_STARTED") == 5


def test_what_befell_is_told():
    with pytest.raises(CounterExampleError, match=r"What befell it: t\d \(attempt 1\) fails; then it was cancelled"):
        simulate(
            wide(),
            faults=Faults(failing=0.3, cancelling=0.5),
            invariant=lambda execution: execution.status is not WorkflowStatus.CANCELLED or not execution.failures,
        )
    with pytest.raises(CounterExampleError, match="<lambda> returned False\n  What befell it: nothing"):
        simulate(wide(), faults=Faults(), invariant=lambda execution: False)


def test_compensations_and_fallbacks_can_fail_too():
    tasks = [TaskDef("pay", int, compensate=print), TaskDef("ship", int, dependencies=["pay"])]
    with pytest.raises(CounterExampleError, match=r"pay \(attempt 1, undoing or standing in\) fails"):
        simulate(
            Workflow("wf", tasks),
            faults=Faults(failing=0.4),
            mocks={"ship": lambda: 1 // 0},
            invariant=lambda execution: (
                "pay" not in execution.results
                or all(event.data["error"] is None for event in execution.events() if event.type == "TASK_COMPENSATED")
            ),
        )


def test_none_and_other_values_are_no_verdict():
    for value in (None, 0, "", [], True):
        simulate(wide(), 2, faults=Faults(), invariant=lambda execution, value=value: value)


def test_state_that_one_run_leaves_to_the_next_is_pointed_out():
    count = itertools.count()
    with pytest.raises(CounterExampleError, match="Run again, it held: something in it isn't drawn from the seed"):
        simulate(wide(1, lambda: next(count)), faults=Faults(), invariant=lambda execution: execution["t0"] != 5)


def test_an_execution_that_waits_for_ever_is_a_counter_example():
    """Somebody pauses it, and nobody resumes it."""
    paused = []

    def pause(ctx):
        live = ctx._port.live
        paused.append(live.engine.pause(live))

    workflow = Workflow("wf", [TaskDef("a", pause), TaskDef("b", int, dependencies=["a"])])
    with pytest.raises(CounterExampleError, match="it neither ends nor goes on; its tasks are 1 COMPLETED, 1 PENDING"):
        simulate(workflow, 1, faults=Faults())
    assert paused == [True, True]


def test_an_engine_that_breaks_a_promise_is_a_counter_example(monkeypatch):
    """As a bug in the scheduler would: it starts what isn't ready."""
    original = Scheduler.completed

    def hasty(self, number, *args, **options):
        original(self, number, *args, **options)
        for other, state in enumerate(self.state):
            if not state and self.missing[other] == 1:
                self.missing[other] = 0
                self.release(other)

    monkeypatch.setattr(Scheduler, "completed", hasty)
    tasks = [TaskDef("a", int), TaskDef("b", int), TaskDef("c", int, dependencies=["a", "b"])]
    with pytest.raises(CounterExampleError, match="'c' starts before what it needs has ended") as caught:
        simulate(Workflow("wf", tasks), faults=Faults())
    assert isinstance(caught.value.__cause__, InvariantError)


def test_a_counter_example_survives_pickling():
    with pytest.raises(CounterExampleError) as caught:
        simulate(wide(), 1, faults=Faults(), invariant=lambda execution: False)
    back = pickle.loads(pickle.dumps(caught.value))
    assert (str(back), back.seed, back.execution) == (str(caught.value), 0, None)


# ---- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"seeds": 0}, ValueError, "seeds= is how many schedules to try, from 1, or a list of seeds, not 0"),
        ({"seeds": True}, ValueError, "not True"),
        ({"faults": {"failing": 0.1}}, TypeError, r"such as Faults\(failing=0.1\), not {'failing': 0.1}"),
        ({"invariant": [always, "x"]}, TypeError, "a function of the Execution, or several, not 'x'"),
        ({"workers": 0}, ConfigError, "workers"),
        ({"journal": MemoryJournal()}, TypeError, "leave out journal="),
        ({"mocks": {"t9": int}}, UnknownIdError, "no task 't9' is in workflow 'wide'"),
        ({"mocks": {"t1": 3}}, TypeError, "a mock is a function, not 3"),
    ],
)
def test_bad_input_is_no_counter_example(given, error, words):
    with pytest.raises(error, match=words):
        simulate(wide(), **given)


def test_what_cannot_start_is_no_counter_example():
    with pytest.raises(WorkflowDefinitionError, match="needs the param 'p'"):
        simulate(Workflow("wf", [TaskDef("a", print, args=(Param("p"),))]))
    with pytest.raises(TypeError, match="no Workflow"):
        simulate("wf")


@pytest.mark.parametrize(
    ("chances", "words"),
    [
        ({"failing": 1.5}, "not failing=1.5"),
        ({"hanging": -0.1, "slow": 2}, "not slow=2, hanging=-0.1"),
        ({"late": float("nan")}, "not late=nan"),
        ({"failing": 0.6, "crashing": 0.6}, "not 0.6 and 0.6"),
    ],
)
def test_chances_are_chances(chances, words):
    with pytest.raises(ValueError, match=f"a chance is a number from 0 to 1, .* {words}"):
        Faults(**chances)
