"""The traps that nerv's ancestors fell into (in brackets: its number in the list of them), each with what must hold."""

import asyncio
import threading

import pytest

import nerv
from nerv import (
    ANY,
    CycleError,
    Event,
    EventBus,
    EventType,
    Output,
    StateProjector,
    TaskDef,
    TaskStatus,
    WorkflowDefinitionError,
    WorkflowManager,
    WorkflowStatus,
    run,
)
from nerv.settings import workers_for
from tests.handshake import PATIENCE, Hold, boom, ended, eventually, flow, give, kinds, python, reached, statuses


@pytest.fixture
def manager():
    """One with two workers."""
    with WorkflowManager(workers=2, failure_policy="continue") as made:
        yield made


def simple():
    """Two tasks in a row."""
    return flow(TaskDef("a", lambda: {"k": [1, {2}]}), TaskDef("b", give, args=(Output("a"),)))


# ---- imports and events ----------------------------------------------------------------------------------------------


def test_running_rests_on_no_name_that_is_not_there():
    """[1] Every public name is there, and a run imports no taskmap: the scheduler is nerv's own."""
    out, err = python(
        """
        import sys, nerv
        execution = nerv.run(nerv.Workflow("wf", [nerv.TaskDef("a", lambda: 1)]), on_event=lambda _: None)
        execution.state, execution.summary(), nerv.QuantumPartitioner().execute_workflow([nerv.TaskDef("a", list)])
        print([name for name in nerv.__all__ if not hasattr(nerv, name)], "taskmap" in sys.modules)
        """
    )
    assert out == "[] False\n"
    assert err == ""


def test_an_event_can_be_made_from_its_type_alone():
    """[2] The only field without a default comes first; what was given is immutable."""
    event = Event("mine")
    assert (event.type, event.seq, event.task_id, event.data) == ("mine", None, None, None)
    with pytest.raises(AttributeError):
        event.type = "other"


def test_a_lambda_that_nobody_holds_is_still_called(manager):
    """[3] Subscriptions are strong, though the caller drops both handler and token."""
    import gc

    heard = []
    manager.event_bus.subscribe(ANY, lambda event: heard.append(event.type))
    gc.collect()
    ended(manager.start(simple()))
    assert len(heard) == 6


def test_handlers_can_choose_by_execution_and_receivers_by_sender(manager):
    """[4] The sender of a signal is the execution's id, so filtering by it matches."""
    mine, others = [], []

    def receiver(_, event):
        mine.append(event.execution_id)

    bus = manager.event_bus
    bus.get_signal(EventType.TASK_COMPLETED).connect(receiver, sender="one")
    bus.subscribe(EventType.TASK_COMPLETED, lambda event: others.append(event.execution_id), execution="two")
    ended(manager.start(simple(), execution_id="one"))
    ended(manager.start(simple(), execution_id="two"))
    assert (mine, others) == (["one", "one"], ["two", "two"])


def test_a_raising_handler_stops_nobody(manager, caplog):
    """[5] The others hear it, the run goes on, HANDLER_ERROR tells of it; raising on that too doesn't go round."""
    heard, errors = [], []

    def raising(_):
        raise ValueError("a handler's own")

    manager.event_bus.subscribe(ANY, raising)
    manager.event_bus.subscribe(ANY, lambda event: heard.append(str(event.type)))
    manager.event_bus.subscribe("HANDLER_ERROR", lambda event: errors.append(event.data["event_id"]))
    execution = ended(manager.start(simple()))
    manager.event_bus.publish("over")
    assert execution.status is WorkflowStatus.COMPLETED
    assert [name for name in heard if name not in ("HANDLER_ERROR", "over")] == kinds(execution)
    assert errors[:6] == [event.id for event in execution.events()]
    assert len(errors) == 7
    assert "a handler's own" in caplog.text


def test_a_coroutine_handler_is_awaited(manager):
    """[6] In order, one at a time."""
    heard, done = [], threading.Event()

    async def handler(event):
        await asyncio.sleep(0)
        heard.append(event.seq)
        if event.type == "WORKFLOW_COMPLETED":
            done.set()

    manager.event_bus.subscribe(ANY, handler)
    ended(manager.start(simple()))
    reached(done)
    assert heard == [1, 2, 3, 4, 5, 6]


def test_a_handler_subscribed_twice_is_two_subscriptions(manager):
    """[7] It hears everything twice; cancelling one leaves the other."""
    heard = []
    first = manager.event_bus.subscribe("mine", heard.append)
    second = manager.event_bus.subscribe("mine", heard.append)
    manager.event_bus.publish("mine")
    assert len(heard) == 2
    first.cancel()
    manager.event_bus.publish("mine")
    assert len(heard) == 3
    second()
    manager.event_bus.publish("mine")
    assert len(heard) == 3


def test_the_history_is_bounded_and_middleware_holds_no_lock():
    """[8] Newest first; a middleware may publish, subscribe and drop; a dropped event isn't remembered."""
    bus = EventBus(history_limit=3)
    added = []

    def middleware(event):
        if event.type == "dropped":
            bus.subscribe("other", added.append)
            bus.publish("answer")
            return None
        return event

    remove = bus.add_middleware(middleware)
    for name in ("a", "dropped", "b", "c"):
        assert bus.publish(name)
    assert [str(event.type) for event in bus.get_history()] == ["c", "b", "answer"]
    remove()
    bus.publish("other")
    assert len(added) == 1
    bus.close()


# ---- state -----------------------------------------------------------------------------------------------------------


def test_an_update_shares_what_did_not_change():
    """[9] A task that didn't change is the same object before and after; results are neither frozen nor there."""
    execution = run(simple())
    before, after = execution.at(3), execution.at(5)
    assert before["tasks"]["a"] is after["tasks"]["a"]
    assert before["tasks"]["b"] is not after["tasks"]["b"]
    assert type(execution["a"]) is dict
    assert type(execution["a"]["k"][1]) is set
    assert "result" not in execution.state["tasks"]["a"]


def test_concurrent_updates_lose_nothing():
    """[10, 33] Eight threads with a hundred increments each make eight hundred."""
    projector = StateProjector({"n": 0})
    barrier = threading.Barrier(8)

    def work():
        barrier.wait(PATIENCE)
        for _ in range(100):
            projector.update_state(lambda state: state.set("n", state["n"] + 1))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert projector.get_state()["n"] == 800
    assert [delta.index for delta in projector.get_delta_history()] == [*range(1, 801)]


def test_a_query_does_not_replay_what_was_folded():
    """[11] Asked twice without news, the state is the same object, and so is a finished execution's after more runs."""
    with WorkflowManager() as manager:
        first = ended(manager.start(simple()))
        state = first.state
        assert first.state is state
        assert manager.state_projector.get_state() is manager.state_projector.get_state()
        ended(manager.start(simple()))
        assert first.state is state


def test_an_unknown_projection_is_an_error_that_lists_the_known():
    """[12] A KeyError, from the execution and from the projector."""
    execution = run(simple())
    for ask in (execution.project, StateProjector().project):
        with pytest.raises(KeyError, match=r"task_status.*workflow_status"):
            ask("task_states")


def test_a_projection_never_shows_the_past_as_the_present():
    """[13] After a reset and as many deltas as before, it shows the new ones."""
    projector = StateProjector({"n": 0})
    projector.apply_delta(lambda state: state.set("n", 1))
    assert projector.get_state()["n"] == 1
    projector.reset()
    assert projector.get_state()["n"] == 0
    projector.apply_delta(lambda state: state.set("n", 2))
    assert projector.get_state()["n"] == 2


# ---- failures, arguments, events -------------------------------------------------------------------------------------


def test_dependents_of_a_failed_task_do_not_run(manager):
    """[14] They are SKIPPED, with the failed task as the cause, all the way down."""
    called = []
    tasks = [
        TaskDef("bad", boom),
        TaskDef("x", called.append, args=("x",), dependencies=["bad"]),
        TaskDef("y", called.append, args=("y",), dependencies=["x"]),
    ]
    execution = ended(manager.start(flow(*tasks)))
    assert statuses(execution) == {"bad": "FAILED", "x": "SKIPPED", "y": "SKIPPED"}
    assert execution.task("y").skipped_because == "bad"
    assert called == []


def test_dependencies_pass_no_arguments():
    """[15] A task gets its own args and kwargs, whatever it depends on and whatever its parameters are called."""
    tasks = TaskDef("a", lambda: 1), TaskDef("b", lambda task_def=5, **k: (task_def, k), dependencies=["a"])
    assert run(flow(*tasks))["b"] == (5, {})


def test_results_reach_tasks_and_nothing_is_shared_by_mutation():
    """[16] By argument and by context; the context can't be changed, and the caller's dict gains nothing."""
    mine = {"p": 1}
    tasks = TaskDef("a", lambda: 5), TaskDef("b", lambda ctx, x: (ctx.results["a"], x), args=(Output("a"),))
    assert run(flow(*tasks), mine)["b"] == (5, 5)
    assert mine == {"p": 1}

    def change(ctx):
        ctx["p"] = 2

    with pytest.raises(nerv.WorkflowFailedError, match="TypeError"):
        run(flow(TaskDef("a", change)), mine)


def test_every_transition_is_an_event_and_the_state_follows(manager):
    """[17] No task that ran stays PENDING, what failed is FAILED, and replaying the events gives the same state."""
    tasks = TaskDef("a", lambda: 1), TaskDef("bad", boom), TaskDef("x", give, args=(Output("bad"),))
    execution = ended(manager.start(flow(*tasks)))
    last = {event.task_id: event.type.value for event in execution.events() if event.task_id}
    assert last == {"a": "TASK_COMPLETED", "bad": "TASK_FAILED", "x": "TASK_SKIPPED"}
    assert {task: state["status"].name for task, state in execution.state["tasks"].items()} == statuses(execution)
    assert execution.state["status"] is execution.status is WorkflowStatus.FAILED
    assert execution.project("completed_tasks") == {"a"}
    assert execution.project("failed_tasks") == {"bad"}
    assert execution.at(len(list(execution.events()))) == execution.state


def test_tasks_are_registered_the_same_however_they_came(manager):
    """[18] Those given to create_workflow are announced and run like those added."""
    heard = []
    manager.event_bus.subscribe("TASK_PENDING", lambda event: heard.append(event.task_id))
    workflow_id = manager.create_workflow("wf", tasks=[TaskDef("a", lambda: 1)])
    manager.add_task(workflow_id, TaskDef("b", lambda: 2))
    execution = ended(manager.execution(manager.execute_workflow(workflow_id)))
    manager.event_bus.publish("over")
    assert heard == ["a", "b"]
    assert set(execution.state["tasks"]) == {"a", "b"}


def test_a_status_is_the_same_enum_member_everywhere(manager):
    """[19] In results, state, projections, reports and events."""
    workflow_id = manager.create_workflow("wf", tasks=[TaskDef("a", lambda: 1)])
    execution = ended(manager.execution(manager.execute_workflow(workflow_id)))
    seen = [
        execution.task("a").status,
        execution.state["tasks"]["a"]["status"],
        execution.project("task_status")["a"],
        manager.get_task_status("a")["status"],
        manager.get_workflow_status(workflow_id)["task_results"]["a"].status,
    ]
    assert all(status is TaskStatus.COMPLETED for status in seen)
    seen = [
        execution.status,
        execution.state["status"],
        manager.get_workflow_status(workflow_id)["status"],
        list(execution.events())[-1].data["status"],
    ]
    assert all(status is WorkflowStatus.COMPLETED for status in seen)


def test_no_option_is_accepted_and_ignored():
    """[20] What isn't built isn't in a signature; priority is what running goes by."""
    for option in ("max_retries", "retries", "retry_delay", "concurrency", "parallel", "async_"):
        with pytest.raises(TypeError, match=option):
            TaskDef("a", print, **{option: 1})
    tasks = TaskDef("low", lambda: 1, priority=0), TaskDef("high", lambda: 1, priority=3)
    assert run(flow(*tasks), workers=1).sequence == ["high", "low"]


def test_equals_keep_their_definition_order():
    """[21] In plans and runs, whatever ids hash to."""
    ids = [f"{n * 7919 % 101}-{n}" for n in range(60)]
    workflow = flow(*(TaskDef(name, lambda: 1) for name in ids))
    assert workflow.plan().levels == [ids]
    assert run(workflow, workers=1).sequence == ids


def test_a_missing_dependency_is_not_called_circular():
    """[22] Each mistake has its own kind."""

    def kinds_of(*tasks):
        with pytest.raises(WorkflowDefinitionError) as caught:
            flow(*tasks)
        return [problem.kind for problem in caught.value.problems], type(caught.value)

    def needing(name, *needs):
        return TaskDef(name, print, dependencies=needs)

    assert kinds_of(needing("a", "ghost")) == (["unknown"], WorkflowDefinitionError)
    assert kinds_of(needing("a"), needing("a")) == (["duplicate"], WorkflowDefinitionError)
    assert kinds_of(needing("a", "a")) == (["self loop"], WorkflowDefinitionError)
    assert kinds_of(needing("a", "b"), needing("b", "a")) == (["cycle", "cycle"], CycleError)
    assert kinds_of(TaskDef("a")) == (["no function"], WorkflowDefinitionError)


def test_planning_and_running_are_linear_in_the_graph():
    """[23] A chain of 20,000 tasks, defined back to front, is planned and run in seconds, not hours."""
    chain = [TaskDef(f"t{n}", lambda: 1, dependencies=[f"t{n - 1}"] if n else []) for n in range(20_000)]
    workflow = flow(*reversed(chain))
    assert len(workflow.plan().levels) == 20_000
    assert len(run(workflow, workers=2).results) == 20_000


# ---- running ---------------------------------------------------------------------------------------------------------


def test_a_slow_task_holds_up_no_level():
    """[24] What doesn't need it runs, two levels on, and lets it go."""
    slow = Hold()
    tasks = TaskDef("slow", slow), TaskDef("a", lambda: 1), TaskDef("b", slow.go, dependencies=["a"])
    assert run(flow(*tasks), workers=2).status is WorkflowStatus.COMPLETED


def test_executions_of_one_workflow_have_their_own_records(manager):
    """[25] A second one overwrites nothing of the first; each can be waited for and cancelled by its handle."""
    slow = Hold(deaf=False)
    workflow = flow(TaskDef("a", lambda ctx: slow(ctx) if ctx["slow"] else "quick"))
    first = manager.start(workflow, {"slow": True})
    slow.entered()
    second = ended(manager.start(workflow, {"slow": False}))
    first.cancel()
    assert statuses(ended(first)) == {"a": "CANCELLED"}
    assert second["a"] == "quick"


def test_a_hung_thread_does_not_shrink_the_pool():
    """[26] Once it is given up, its place is there again, as often as that happens."""
    holds = [Hold() for _ in range(3)]
    with WorkflowManager(workers=1, grace=0.0) as manager:
        for hold in holds:
            execution = manager.start(flow(TaskDef("hung", hold)))
            hold.entered()
            waiting = manager.start(flow(TaskDef("a", lambda: 1)))
            execution.cancel()
            ended(execution)
            ended(waiting)
        for hold in holds:
            hold.go()


def test_what_can_not_go_to_a_process_is_said_up_front():
    """[27] A lambda and a lock, before any process is started."""
    tasks = TaskDef("a", lambda: 1, pool="process"), TaskDef("b", give, args=(threading.Lock(),), pool="process")
    with pytest.raises(WorkflowDefinitionError) as caught:
        run(flow(*tasks))
    assert {problem.task_id for problem in caught.value.problems} == {"a", "b"}


def test_two_containers_share_nothing_and_factories_share_no_mutables():
    """[28] Everything is wired: manager, partitioner and settings come from one container, with their defaults."""
    from nerv.container import Services

    one, two = Services(config={"workers": 1}), Services()
    assert one.workflow_manager() is one.workflow_manager()
    assert one.workflow_manager() is not two.workflow_manager()
    assert one.event_bus() is one.workflow_manager().event_bus
    assert one.event_bus() is not two.event_bus()
    assert one.workflow_manager().settings.workers == 1
    assert two.workflow_manager().settings.workers > 1
    first, second = one.task_factory("a", print), one.task_factory("b", print)
    assert (first.id, second.id) == ("a", "b")
    assert one.quantum_partitioner().execute_workflow([TaskDef("a", lambda: 1)])["a"].result == 1
    for container in (one, two):
        container.workflow_manager().close()


def test_worker_numbers_come_from_one_table():
    """[29] cores, 8 x cores, 3 x cores and half of them."""
    assert [workers_for(kind, 4) for kind in ("cpu", "io", "mixed", "memory")] == [4, 32, 12, 2]
    assert workers_for("memory", 1) == 1


def test_there_is_one_spelling_of_each_status():
    """[30] With two l; nothing is READY or TIMEOUT."""
    assert [status.name for status in TaskStatus] == [
        "PENDING", "RUNNING", "WAITING", "COMPLETED", "FAILED", "SKIPPED", "CANCELLED",
    ]  # fmt: skip
    assert [status.name for status in WorkflowStatus] == [
        "CREATED", "RUNNING", "PAUSED", "COMPLETED", "FAILED", "CANCELLED", "INTERRUPTED",
    ]  # fmt: skip


def test_unhashable_arguments_are_arguments():
    """[31] Nothing is keyed on them."""
    assert run(flow(TaskDef("a", give, args=([{"k": {1}}],))), {"p": []})["a"] == [{"k": {1}}]


def test_a_join_waits_for_branches_of_any_length():
    """[68] It runs once, with all its inputs, though one branch is five tasks longer."""
    called = []
    long = [TaskDef(f"l{n}", lambda: "long", dependencies=[f"l{n - 1}"] if n else ["s"]) for n in range(5)]
    tasks = [
        TaskDef("s", lambda: 1),
        TaskDef("short", lambda: "short", dependencies=["s"]),
        *long,
        TaskDef("join", lambda *x: called.append(x), args=(Output("short"), Output("l4"))),
    ]
    run(flow(*tasks), workers=4)
    assert called == [("short", "long")]


def test_a_join_is_told_of_a_branch_that_died(manager):
    """[69] SKIPPED goes through dead edges, so that every execution ends; a join that can do without it runs."""
    tasks = [
        TaskDef("bad", boom),
        TaskDef("dead", give, args=(Output("bad"),)),
        TaskDef("live", lambda: 1),
        TaskDef("all", lambda: 1, dependencies=["dead", "live"]),
        TaskDef("any", lambda: 1, dependencies=["dead", "live"], run_when="any_completed"),
    ]
    execution = ended(manager.start(flow(*tasks)))
    expected = {"bad": "FAILED", "dead": "SKIPPED", "live": "COMPLETED", "all": "SKIPPED", "any": "COMPLETED"}
    assert statuses(execution) == expected


def test_a_failure_is_acted_on_while_others_still_run():
    """[70] fail_fast doesn't wait for the batch: what would have become ready is cancelled before the slow one ends."""
    slow = Hold()
    tasks = [
        TaskDef("slow", slow),
        TaskDef("bad", lambda: slow.entered() and boom()),
        TaskDef("free", lambda: 1, dependencies=["slow"]),
        TaskDef("watch", slow.go, dependencies=["bad"], run_when="all_finished"),
    ]
    execution = run(flow(*tasks), workers=3, raise_on_failure=False)
    log = [(event.type.value, event.task_id) for event in execution.events()]
    assert log.index(("TASK_CANCELLED", "free")) < log.index(("TASK_COMPLETED", "slow"))


def test_a_pause_forgets_nothing():
    """[71] Every ready task and every successor runs after it, each once; running siblings end meanwhile."""
    first, second = Hold(), Hold()
    tasks = [
        TaskDef("first", first),
        TaskDef("second", second),
        *(TaskDef(f"f{n}", lambda: 1, dependencies=["first"]) for n in range(3)),
        *(TaskDef(f"s{n}", lambda: 1, dependencies=["second"]) for n in range(3)),
        TaskDef("ready", lambda: 1, priority=0),
    ]
    execution = nerv.start(flow(*tasks), workers=2)
    first.entered()
    second.entered()
    execution.pause()
    first.go()
    second.go()
    eventually(lambda: len(execution.results) == 2)
    assert execution.status is WorkflowStatus.PAUSED
    execution.resume()
    assert len(ended(execution).results) == 9
    assert kinds(execution).count("TASK_STARTED") == 9


def test_after_a_pause_everything_goes_by_the_same_rules():
    """[72] Order, skips, cleanup and outcome are those of a run without one."""

    def workflow(hold):
        return flow(
            TaskDef("hold", hold, priority=9),
            TaskDef("none", lambda: None, dependencies=["hold"]),
            TaskDef("falsy", give, args=([Output("none")],)),
            TaskDef("bad", boom, dependencies=["falsy"]),
            TaskDef("after", give, args=(Output("bad"),)),
            TaskDef("low", lambda: 1, priority=0),
            TaskDef("cleanup", lambda: 1, dependencies=["after"], run_when="all_finished"),
        )

    logs = []
    for paused in (False, True):
        hold = Hold()
        execution = nerv.start(workflow(hold), workers=1, failure_policy="continue")
        hold.entered()
        if paused:
            execution.pause()
        hold.go()
        if paused:
            eventually(lambda execution=execution: len(execution.results) == 1)
            execution.resume()
        ended(execution)
        logs.append([(e.type.value, e.task_id) for e in execution.events() if "ED" in e.type and e.task_id])
        assert execution["falsy"] == [None]
        assert execution.status is WorkflowStatus.FAILED
    assert logs[0] == logs[1]


def test_a_wrong_call_is_a_failure_and_never_swallowed():
    """[73] A task that is called with the wrong arguments is FAILED with Python's own TypeError."""
    execution = run(flow(TaskDef("a", lambda x: x, args=(1, 2))), raise_on_failure=False)
    assert isinstance(execution.failures["a"], TypeError)


def test_a_pool_never_waits_for_itself():
    """[74] Twelve executions whose tasks all wait for others on two workers end."""
    with WorkflowManager(workers=2) as manager:

        def outer(n):
            inner = manager.start(flow(TaskDef("i", lambda: n), TaskDef("j", give, args=(Output("i"),))))
            assert inner.wait(PATIENCE)
            return inner["j"]

        executions = [manager.start(flow(TaskDef("o", outer, args=(n,)))) for n in range(12)]
        assert [ended(execution)["o"] for execution in executions] == list(range(12))


def test_a_late_result_changes_nothing():
    """[75] What an abandoned attempt returns isn't seen by anybody: no event, no result, no dependent."""
    hold = Hold("late")
    with WorkflowManager(workers=1, grace=0.0) as manager:
        execution = manager.start(flow(TaskDef("a", hold), TaskDef("b", give, args=(Output("a"),))))
        hold.entered()
        execution.cancel()
        log = kinds(ended(execution))
        hold.go()
        ended(manager.start(simple()))
        eventually(lambda: sum(thread.name.startswith("nerv-thread") for thread in threading.enumerate()) <= 1)
        assert kinds(execution) == log
        assert dict(execution.results) == {}


def test_cancel_and_pause_act_and_say_so():
    """[76] The loop looks at once, and each has an event of its own."""
    hold = Hold(deaf=False)
    execution = nerv.start(flow(TaskDef("a", hold), TaskDef("b", give, args=(Output("a"),))))
    hold.entered()
    execution.pause()
    execution.resume()
    execution.cancel()
    names = kinds(ended(execution))
    assert names[2:4] == ["WORKFLOW_PAUSED", "WORKFLOW_RESUMED"]
    assert names[-1] == "WORKFLOW_CANCELLED"
    assert "WORKFLOW_FAILED" not in names


def test_failed_tasks_are_in_the_sequence_with_start_and_end(manager):
    """[78] By the order of starts; the log has the order of ends."""
    tasks = [TaskDef("a", lambda: 1), TaskDef("bad", boom, dependencies=["a"])]
    execution = ended(manager.start(flow(*tasks, TaskDef("c", lambda: 1, dependencies=["a"]))))
    assert set(execution.sequence) == {"a", "bad", "c"}
    assert execution.sequence[0] == "a"
    log = list(execution.events())
    started = {event.task_id: event.seq for event in log if event.type == "TASK_STARTED"}
    finished = {event.task_id: event.seq for event in log if event.type in ("TASK_COMPLETED", "TASK_FAILED")}
    assert all(started[task] < finished[task] for task in started)


def test_a_list_is_one_value_and_two_values_are_two():
    """[79] Inputs keep their places and names."""
    tasks = [
        TaskDef("pair", lambda: [1, 2]),
        TaskDef("one", lambda *args: args, args=(Output("pair"),)),
        TaskDef("two", lambda *args: args, args=(Output("pair")[0], Output("pair")[1])),
        TaskDef("named", lambda *, x, y: (x, y), kwargs={"y": Output("pair")[0], "x": Output("pair")[1]}),
    ]
    execution = run(flow(*tasks))
    assert execution["one"] == ([1, 2],)
    assert execution["two"] == (1, 2)
    assert execution["named"] == (2, 1)


def test_only_callables_are_called():
    """[80] Source text is refused, not executed."""
    with pytest.raises(WorkflowDefinitionError, match="fn takes a callable"):
        TaskDef("a", "print(1)")


def test_attempts_are_counted_once(manager):
    """[81] One call is attempt 1 in context, events, results and state, however it ended; no call is none."""
    seen = []
    tasks = [
        TaskDef("a", lambda ctx: seen.append(ctx.attempt)),
        TaskDef("bad", boom),
        TaskDef("x", give, args=(Output("bad"),)),
    ]
    execution = ended(manager.start(flow(*tasks)))
    assert seen == [1]
    assert {task: execution.task(task).attempts for task in ("a", "bad", "x")} == {"a": 1, "bad": 1, "x": 0}
    assert {event.attempt for event in execution.events() if event.type in ("TASK_STARTED", "TASK_FAILED")} == {1}
    assert execution.state["tasks"]["bad"]["attempts"] == 1


def test_alarms_belong_to_their_engine():
    """[82] Closing one manager forgets nothing of what another still has to do later."""
    hold = Hold()
    with WorkflowManager(workers=1, grace=0.1) as one:
        execution = one.start(flow(TaskDef("a", hold)))
        hold.entered()
        execution.cancel()
        with WorkflowManager(workers=1) as two:
            ended(two.start(simple()))
        assert statuses(ended(execution)) == {"a": "CANCELLED"}
        hold.go()
