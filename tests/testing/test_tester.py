"""`WorkflowTester`: mocks, what was called, and hours in milliseconds."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from functools import partial
from itertools import pairwise
from math import inf, nan

import pytest

from nerv import (
    MISSING,
    CircuitBreaker,
    ConfigError,
    Gate,
    JournalError,
    MemoryJournal,
    Output,
    Param,
    RateLimit,
    RetryPolicy,
    TaskContext,
    TaskDef,
    TaskTimeoutError,
    UnknownIdError,
    Workflow,
    WorkflowDefinitionError,
    WorkflowFailedError,
    WorkflowStatus,
    task,
    workflow,
)
from nerv.testing import Arguments, FakeClock, FaultyJournal, MockError, WorkflowTester
from tests.handshake import kinds, nerv_threads, statuses

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


@task
def fetch(url):
    raise AssertionError(f"{url} was fetched for real")


@task
def size(page, *, unit="bytes"):
    return len(page)


@task
def total(sizes):
    return sum(sizes)


@workflow
def crawl():
    return total([size(fetch("a.html")), size(fetch("b.html"), unit="kB")])


@pytest.fixture
def tester():
    with WorkflowTester() as made:
        yield made


def chain(**policies):
    """One task, and one that reads it."""
    return Workflow("chain", [TaskDef("a", fetch, args=("x",), **policies), TaskDef("b", size, args=(Output("a"),))])


# ---- mocks -----------------------------------------------------------------------------------------------------------


def test_a_mock_stands_for_a_tasks_function_and_the_others_run(tester):
    tester.mock(fetch, lambda url: url * 2)
    execution = tester.run(crawl())
    assert execution.result == 24
    assert execution.status is WorkflowStatus.COMPLETED


@pytest.mark.parametrize(
    "name",
    ["fetch", Output("fetch"), TaskDef("fetch", int), crawl().tasks["fetch"]],
    ids=["id", "Output", "TaskDef", "the workflow's own TaskDef"],
)
def test_a_task_can_be_named_in_several_ways(tester, name):
    tester.mock_value("fetch-2", "")
    tester.mock_value(name, "page")
    assert tester.run(crawl()).result == 4
    assert tester.call_count(name) == 1


@pytest.mark.parametrize("name", [fetch, fetch.fn, partial(fetch)], ids=["the Task", "its function", "a partial of it"])
def test_a_function_names_all_tasks_that_call_it(tester, name):
    tester.mock_value(name, "page")
    assert tester.run(crawl()).result == 8
    assert tester.call_count(name) == 2


def test_the_mock_of_an_id_goes_before_that_of_a_function_and_the_last_before_the_first(tester):
    tester.mock_value("fetch", "1")
    tester.mock_value(fetch, "22")
    tester.mock_value(fetch, "333")
    assert tester.run(crawl()).result == 4


@pytest.mark.parametrize("value", [None, ValueError("a value like others"), float, MISSING], ids=repr)
def test_any_value_can_be_given(tester, value):
    tester.mock_value("a", value)
    tester.mock("b", lambda given: given)
    assert tester.run(chain())["b"] is value


@pytest.mark.parametrize("error", [OSError("down"), OSError, KeyboardInterrupt()], ids=repr)
def test_an_error_is_raised_in_the_task(tester, error):
    tester.mock_error("a", error)
    execution = tester.run(chain(), raise_on_failure=False)
    assert statuses(execution) == {"a": "FAILED", "b": "SKIPPED"}
    failure = execution.failures["a"]
    assert failure is error if isinstance(error, BaseException) else type(failure) is error


def test_an_error_that_is_raised_again_and_again_does_not_grow(tester):
    error = OSError("down")
    tester.mock_error("a", error)
    for _ in range(5):
        tester.run(chain(), raise_on_failure=False)
    depth, frame = 0, error.__traceback__
    while frame:
        depth, frame = depth + 1, frame.tb_next
    assert depth < 5


def test_a_mock_is_given_the_context_if_it_asks_for_it(tester):
    def mocked(ctx, url):
        return [ctx.task_id, ctx.attempt, ctx["depth"], url]

    def typed(page: TaskContext, *args):
        return page.results["a"], args

    tester.mock("a", mocked)
    tester.mock("b", typed)
    assert tester.run(chain(), {"depth": 3})["b"] == (["a", 1, 3, "x"], (["a", 1, 3, "x"],))


def test_a_mock_of_a_function_that_wants_the_context_can_do_without(tester):
    tester.mock("a", lambda word: word * 2)
    result = tester.run(Workflow("wf", [TaskDef("a", lambda ctx, word: None, args=("ho",))])).result
    assert result == "hoho"
    assert tester.call_args("a") == (("ho",), {})


@task
async def ask(question):
    raise AssertionError("asked for real")


@task
async def answer(text):
    return text.upper()


@workflow
def talk():
    return answer(ask("who?"))


async def quick(question):
    """A coroutine function as a mock."""
    await asyncio.sleep(0)
    return question + " me"


@pytest.mark.parametrize("mock", [quick, lambda question: question + " me"], ids=["coroutine", "plain"])
def test_coroutine_functions_are_mocked_by_either_kind(tester, mock):
    tester.mock(ask, mock)
    assert tester.run(talk()).result == "WHO? ME"


def test_a_tester_works_inside_a_running_event_loop(tester):
    tester.mock(ask, quick)

    async def test():
        return tester.run(talk()).result

    assert asyncio.run(test()) == "WHO? ME"
    tester.mock_error(ask, OSError("down"))
    with pytest.raises(WorkflowFailedError, match="OSError: down"):
        tester.run(talk())


def test_a_coroutine_that_fails_in_a_running_event_loop_fails_its_task(tester):
    async def fails(question):
        raise OSError("no line")

    tester.mock(ask, fails)

    async def test():
        return tester.run(talk(), raise_on_failure=False)

    assert str(asyncio.run(test()).failures["ask"]) == "no line"


def test_mocks_see_the_starters_context_variables(tester):
    tenant = ContextVar("tenant", default="nobody")
    tester.mock("a", lambda url: tenant.get())
    tester.mock("b", lambda name: (name, tenant.set("changed"))[0])
    tenant.set("acme")
    assert tester.run(chain()).result == "acme"
    assert tenant.get() == "acme"


def test_inline_tasks_are_mocked_too_and_run_one_at_a_time(tester):
    tasks = [TaskDef(name, fetch, args=(name,), pool="inline") for name in "abc"]
    tester.mock(fetch, str.upper, takes=10)
    execution = tester.run(Workflow("wf", tasks, result=[Output("a"), Output("b"), Output("c")]))
    assert execution.result == ["A", "B", "C"]
    assert tester.clock.monotonic() == 30


def test_tasks_of_every_pool_are_mocked():
    pools = {"own": {"kind": "process", "workers": 1}}
    with WorkflowTester(pools=pools) as tester:
        tester.mock(fetch, str.upper)
        names = ["thread", "process", "inline", "own"]
        result = tester.run(Workflow("wf", [TaskDef(name, fetch, args=(name,), pool=name) for name in names])).result
    assert result == {name: name.upper() for name in names}


# ---- sequences -------------------------------------------------------------------------------------------------------


def test_a_sequence_gives_one_outcome_after_the_other(tester):
    tester.mock_sequence(fetch, ["1", "22"])
    assert tester.run(crawl()).result == 3
    assert tester.call_count(fetch) == 2


def test_exceptions_in_a_sequence_are_raised(tester):
    tester.mock_sequence("a", [OSError("down"), "page", ValueError])
    assert str(tester.run(chain(), raise_on_failure=False).failures["a"]) == "down"
    assert tester.run(chain()).result == 4
    assert type(tester.run(chain(), raise_on_failure=False).failures["a"]) is ValueError


@pytest.mark.parametrize("policies", [{}, {"retry_policy": 9}, {"retry_policy": 9, "fallback": "page"}], ids=repr)
def test_a_sequence_that_runs_out_says_so_whatever_the_policies(tester, policies):
    outcomes = [] if not policies else [OSError(), OSError()]
    tester.mock_sequence("a", outcomes)
    words = f"the mock_sequence of task 'a' has {len(outcomes)} outcomes, and this is call {len(outcomes) + 1}; give it"
    with pytest.raises(MockError, match=words):
        tester.run(chain(**policies), raise_on_failure=False)
    assert tester.call_count("a") == len(outcomes) + 1
    tester.mock_value("a", "page")
    assert tester.run(chain()).result == 4, "it was said once"


def test_a_sequence_is_read_once_and_may_be_an_iterator(tester):
    tester.mock_sequence(fetch, iter("ab"))
    assert tester.run(crawl()).result == 2
    tester.reset()
    assert tester.run(crawl()).result == 2


# ---- what was called -------------------------------------------------------------------------------------------------


def test_calls_are_counted_and_kept_for_real_functions_too(tester):
    tester.mock_value(fetch, "page")
    assert not tester.run(crawl()).failures
    assert tester.was_called("size")
    assert [tester.call_count(name) for name in ("fetch", "size", size, "total")] == [1, 1, 2, 1]
    assert tester.call_args("size-2") == Arguments(("page",), {"unit": "kB"}) == (("page",), {"unit": "kB"})
    assert tester.call_args(total).args == ([4, 4],)
    assert {tester.call_args(fetch, call).args for call in (0, 1)} == {("a.html",), ("b.html",)}


def test_a_task_that_did_not_run_was_not_called(tester):
    tester.mock_error("a", OSError())
    tester.run(chain(), raise_on_failure=False)
    assert not tester.was_called("b")
    assert tester.call_count("b") == 0
    with pytest.raises(MockError, match="task 'b' was called 0 times, so there is no call -1"):
        tester.call_args("b")


def test_a_task_whose_input_is_not_there_is_not_called(tester):
    tasks = [TaskDef("a", fetch, args=("x",)), TaskDef("b", size, args=(Output("a"),), run_when="all_finished")]
    tester.mock_error("a", OSError())
    tester.mock_value("b", 1)
    execution = tester.run(Workflow("wf", tasks), raise_on_failure=False)
    assert "no result" in str(execution.failures["b"]) or "'a'" in str(execution.failures["b"])
    assert not tester.was_called("b")


def test_reset_forgets_calls_rewinds_sequences_and_keeps_mocks(tester):
    tester.mock_sequence("a", ["page"])
    tester.run(chain())
    tester.reset()
    assert not tester.was_called("a")
    assert not tester.was_called("b")
    assert tester.run(chain()).result == 4
    assert tester.call_count("a") == 1


# ---- mistakes --------------------------------------------------------------------------------------------------------


def test_a_mock_for_no_task_is_an_error_with_near_misses(tester):
    tester.mock_value("fetsh", 1)
    with pytest.raises(UnknownIdError, match=r"no task 'fetsh' is in workflow 'crawl' \(did you mean 'fetch'"):
        tester.run(crawl())
    assert nothing_ran(tester)


def nothing_ran(tester):
    return not tester.manager.executions()


def test_a_mock_for_a_function_that_no_task_calls_is_an_error(tester):
    tester.mock_value(ask, 1)
    with pytest.raises(UnknownIdError, match=r"no task that calls <function ask .*> is in workflow 'crawl'"):
        tester.run(crawl())
    assert nothing_ran(tester)


@pytest.mark.parametrize("ask", ["was_called", "call_count", "call_args"])
def test_asking_for_a_task_that_was_never_there_is_an_error(tester, ask):
    with pytest.raises(UnknownIdError, match="no task 'total' has been run here"):
        getattr(tester, ask)("total")
    tester.mock_value(fetch, "")
    tester.run(crawl())
    with pytest.raises(UnknownIdError, match=r"no task 'totl' has been run here \(did you mean 'total'\?\)"):
        getattr(tester, ask)("totl")


@pytest.mark.parametrize(
    ("act", "error", "words"),
    [
        (lambda t: t.mock("a", 3), TypeError, "a mock is a function, not 3; for a value there is mock_value"),
        (lambda t: t.mock_error("a", "down"), TypeError, "mock_error takes an exception, not 'down'"),
        (lambda t: t.mock_sequence("a", "abc"), TypeError, "takes a list of outcomes, not 'abc'"),
        (lambda t: t.mock_sequence("a", 3), TypeError, "takes a list of outcomes, not 3"),
        (lambda t: t.mock_value(3, 1), TypeError, "named by its id, its TaskDef, its Output or its function, not by 3"),
        (lambda t: t.was_called(None), TypeError, "not by None"),
        (lambda t: t.mock_value("a", 1, takes=-1), ValueError, "takes= is in seconds, from 0, not -1"),
        (lambda t: t.mock_value("a", 1, takes=nan), ValueError, "not nan"),
        (lambda t: t.mock_value("a", 1, takes="3"), ValueError, "not '3'"),
        (lambda t: t.mock_value("a", 1, takes=True), ValueError, "not True"),
        (lambda t: t.run("chain"), TypeError, "'chain' is no Workflow"),
        (lambda t: t.run(Workflow("wf", [TaskDef("a", print, args=(Param("p"),))])), WorkflowDefinitionError, "'p'"),
        (lambda t: WorkflowTester(wokers=3), ConfigError, "wokers"),
        (lambda t: WorkflowTester(pools=3), ConfigError, "pools"),
    ],
)
def test_bad_input_is_refused_at_once(tester, act, error, words):
    with pytest.raises(error, match=words):
        act(tester)


# ---- running ---------------------------------------------------------------------------------------------------------


def test_a_failed_run_raises_as_run_does_unless_told_not_to(tester):
    tester.mock_error(fetch, OSError("down"))
    with pytest.raises(WorkflowFailedError, match="OSError: down") as caught:
        tester.run(crawl())
    assert isinstance(caught.value.__cause__, OSError)
    assert tester.run(crawl(), raise_on_failure=False).status is WorkflowStatus.FAILED


def test_params_services_targets_and_events_are_as_of_run(tester):
    heard = []
    tasks = [
        TaskDef("a", lambda ctx, word: (word, ctx.services), args=(Param("word"),)),
        TaskDef("b", fetch, args=(Output("a"),)),
    ]
    tester.mock_value("b", 0)
    execution = tester.run(
        Workflow("wf", tasks), {"word": "hi"}, targets=["a"], services="mine", on_event=lambda e: heard.append(e.type)
    )
    assert execution.results == {"a": ("hi", "mine")}
    assert heard == kinds(execution)


def test_everything_happens_in_the_calling_thread(tester):
    threads = set()
    tester.mock(fetch, lambda url: threads.add(threading.get_ident()) or "")
    tester.run(crawl())
    assert threads == {threading.get_ident()}
    assert not nerv_threads()


def test_the_same_seed_gives_the_same_order_and_all_orders_come():
    def order(seed):
        with WorkflowTester(seed=seed) as tester:
            execution = tester.run(Workflow("wf", [TaskDef(name, lambda: None) for name in "abc"]))
            return tuple(event.task_id for event in execution.events() if event.type == "TASK_COMPLETED")

    orders = [order(seed) for seed in range(100)]
    assert len(set(orders)) == 6
    assert orders == [order(seed) for seed in range(100)]


def test_several_runs_share_a_clock_and_nothing_else(tester):
    tester.mock_value(fetch, "", takes=HOUR)
    first, second = tester.run(crawl()), tester.run(crawl())
    assert first.id != second.id
    assert tester.clock.monotonic() == 2 * HOUR
    assert isinstance(tester.clock, FakeClock)


def test_start_lets_nothing_happen_before_settle(tester):
    tester.mock_value(fetch, "page")
    execution = tester.start(crawl())
    assert not tester.was_called("fetch")
    assert execution.pause()
    tester.settle()
    assert not tester.was_called("fetch")
    assert execution.resume()
    tester.settle()
    assert execution.result == 8


def test_a_run_that_does_not_end_by_itself_says_where_it_waits(tester):
    tester.mock("a", lambda url: pausing.pause())
    pausing = tester.start(chain())
    tester.settle()
    assert pausing.status is WorkflowStatus.PAUSED

    tester.mock("a", lambda url: tester.manager.executions()[-1].pause())
    with pytest.raises(
        MockError, match=r"workflow 'chain' doesn't end by itself, it waits in 'b'; begin it with `start`"
    ):
        tester.run(chain())


@workflow
def sizes():
    return total(size.map(fetch("a b")))


def test_tasks_that_a_node_brings_are_mocked_by_function_and_by_id(tester):
    tester.mock_value(fetch, ["a", "bb", "ccc"])
    tester.mock(total, sorted)
    tester.mock_value("size[1]", 100)
    assert tester.run(sizes()).result == [1, 3, 100]
    tester.mock_value(size, 7)
    assert tester.run(sizes()).result == [7, 7, 100]
    assert tester.call_args("size[0]").args == ("a",)


def test_a_gate_is_opened_by_its_signal(tester):
    gated = Workflow("gated", [Gate("ok"), TaskDef("a", fetch, args=(Output("ok"),))])
    tester.mock("a", lambda answer: answer)
    execution = tester.start(gated)
    tester.settle()
    assert [waiting.task_id for waiting in execution.waiting()] == ["ok"]
    execution.signal("ok", "yes")
    tester.settle()
    assert execution["a"] == "yes"


def test_a_mock_that_hangs_for_ever_is_said_too(tester):
    tester.mock_value("a", 1, takes=inf)
    with pytest.raises(MockError, match="it waits in 'a', 'b'"):
        tester.run(chain())


def test_closing_ends_what_is_going_on():
    tester = WorkflowTester()
    tester.mock_value("a", 1, takes=inf)
    execution = tester.start(chain())
    tester.settle()
    tester.close()
    assert execution.status is WorkflowStatus.CANCELLED
    tester.close()


# ---- with a journal --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("durability", ["strict", "group", "off"])
def test_what_a_tester_runs_can_be_journaled(durability):
    with WorkflowTester(journal=MemoryJournal(), durability=durability) as tester:
        tester.mock_sequence("a", [OSError("down"), "page"])
        execution = tester.run(chain(retry_policy=RetryPolicy(2, HOUR, maximum_interval=HOUR, jitter=0)))
        (record,) = tester.manager.journal.executions()
        kept = [event.type for event in tester.manager.journal.events(execution.id)]
    assert (record.id, record.status) == (execution.id, WorkflowStatus.COMPLETED)
    assert kept == kinds(execution)
    assert tester.clock.monotonic() >= HOUR


@pytest.mark.parametrize("fail_at", [2, 3, 4])
def test_a_journal_that_fails_fails_the_run(fail_at):
    journal = FaultyJournal(MemoryJournal(), fail_at=fail_at)
    with WorkflowTester(journal=journal, durability="strict") as tester:
        tester.mock_value("a", "page")
        execution = tester.run(chain(), raise_on_failure=False)
        assert execution.status is WorkflowStatus.FAILED
        assert isinstance(execution.error, JournalError)


# ---- policies in no time ---------------------------------------------------------------------------------------------


def test_a_retry_schedule_of_thirty_days_passes_at_once(tester):
    tester.mock_sequence("a", [OSError(f"down, day {day}") for day in range(30)] + ["page"])
    policy = RetryPolicy(31, DAY, 1.0, DAY, jitter=0)
    execution = tester.run(chain(retry_policy=policy))
    assert execution.result == 4
    assert tester.call_count("a") == 31
    assert tester.clock.monotonic() == 30 * DAY
    started = [event.timestamp for event in execution.events() if event.type == "TASK_STARTED" and event.task_id == "a"]
    assert [later - earlier for earlier, later in pairwise(started)] == [DAY] * 30


def test_no_delay_comes_after_the_last_attempt(tester):
    tester.mock_error("a", OSError("down"))
    execution = tester.run(chain(retry_policy=RetryPolicy(3, 10.0, 2.0, jitter=0)), raise_on_failure=False)
    assert kinds(execution, "a") == ["TASK_STARTED", "TASK_RETRYING"] * 2 + ["TASK_STARTED", "TASK_FAILED"]
    assert tester.clock.monotonic() == 30
    assert tester.call_count("a") == 3


def test_a_mock_that_takes_too_long_times_out(tester):
    tester.mock_value("a", "page", takes=MINUTE)
    execution = tester.run(chain(timeout=10, retry_policy=RetryPolicy(2, 5.0, jitter=0)), raise_on_failure=False)
    assert isinstance(execution.failures["a"], TaskTimeoutError)
    assert tester.call_count("a") == 2
    assert tester.clock.monotonic() == 25


def test_a_mock_that_hangs_is_given_up_at_its_timeout(tester):
    tester.mock_value("a", "page", takes=inf)
    execution = tester.run(chain(timeout=HOUR, fallback="none"))
    assert execution.result == 4
    assert tester.clock.monotonic() == HOUR


@pytest.mark.parametrize("pool", ["thread", "process"])
def test_a_place_is_free_again_after_a_timeout(pool):
    with WorkflowTester(workers=1, processes=1, failure_policy="continue") as tester:
        tester.mock("hangs", lambda: None, takes=inf)
        tester.mock("works", lambda: "done", takes=1)
        tasks = [TaskDef("hangs", int, timeout=5, pool=pool, priority=3), TaskDef("works", int, pool=pool)]
        execution = tester.run(Workflow("wf", tasks), raise_on_failure=False)
    assert execution["works"] == "done"
    assert tester.clock.monotonic() == 6


def test_rate_limits_and_breakers_are_shared_by_the_runs_of_a_tester(tester):
    limit = RateLimit(1, MINUTE, "api")
    tester.mock_value(fetch, "page")
    for _ in range(3):
        tester.run(chain(rate_limit=limit))
    assert tester.clock.monotonic() == 2 * MINUTE

    breaker = CircuitBreaker(1, HOUR, name="db")
    tester.mock_error("a", OSError())
    tester.run(chain(circuit_breaker=breaker), raise_on_failure=False)
    tester.mock_value("a", "page")
    tester.reset()
    tester.run(chain(circuit_breaker=breaker), raise_on_failure=False)
    assert not tester.was_called("a"), "the circuit is open"
    tester.clock.advance(HOUR)
    assert tester.run(chain(circuit_breaker=breaker)).result == 4


def test_compensations_and_fallbacks_are_neither_mocked_nor_counted(tester):
    undone = []
    tasks = [
        TaskDef("pay", lambda: "receipt", compensate=undone.append),
        TaskDef("ship", lambda: None, dependencies=["pay"]),
    ]
    tester.mock_value("pay", "mock receipt")
    tester.mock_error("ship", OSError("no van"))
    tester.run(Workflow("order", tasks), raise_on_failure=False)
    assert undone == ["mock receipt"]
    assert tester.call_count("pay") == 1
