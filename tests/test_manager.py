"""A WorkflowManager runs many executions on the same pools, for as long as you like."""

import contextlib
import threading
from unittest import mock

import pytest

import nerv
from nerv import (
    ANY,
    ConfigError,
    EventBus,
    MemoryJournal,
    NervError,
    Output,
    StateProjector,
    TaskDef,
    TaskStatus,
    UnknownIdError,
    Workflow,
    WorkflowDefinitionError,
    WorkflowManager,
    WorkflowStatus,
)
from tests.handshake import PATIENCE, Hold, boom, ended, eventually, flow, give, reached


@pytest.fixture
def manager():
    """One with two workers."""
    with WorkflowManager(workers=2) as made:
        yield made


# ---- drafts ----------------------------------------------------------------------------------------------------------


def test_a_draft_grows_and_each_execution_takes_a_snapshot(manager):
    """Tasks added later are in the next execution, not in one that runs."""
    slow = Hold(1)
    workflow_id = manager.create_workflow("etl", "about it", [TaskDef("a", slow)])
    first = manager.execution(manager.execute_workflow(workflow_id))
    slow.entered()
    assert manager.add_task(workflow_id, TaskDef("b", give, args=(Output("a"),))) == "b"
    second = manager.execution(manager.execute_workflow(workflow_id, {"p": 1}))
    slow.go()
    assert dict(ended(first).results) == {"a": 1}
    assert dict(ended(second).results) == {"a": 1, "b": 1}
    assert dict(second.params) == {"p": 1}
    assert first.workflow_name == "etl"
    assert first.workflow.description == "about it"


def test_a_draft_is_validated_when_it_is_executed(manager):
    """Not before: tasks may come in any order; what is wrong then is one error, and nothing ran."""
    called = []
    workflow_id = manager.create_workflow("wf", tasks=[TaskDef("b", lambda: called.append(1), dependencies=["a"])])
    with pytest.raises(WorkflowDefinitionError, match="'a', which is no task"):
        manager.execute_workflow(workflow_id)
    manager.add_task(workflow_id, TaskDef("a", lambda: 1))
    ended(manager.execution(manager.execute_workflow(workflow_id)))
    assert called == [1]


def test_what_is_no_task_or_no_name_is_refused_at_once(manager):
    """With what to write."""
    with pytest.raises(WorkflowDefinitionError, match="name"):
        manager.create_workflow("")
    with pytest.raises(WorkflowDefinitionError, match="description"):
        manager.create_workflow("wf", 5)
    with pytest.raises(TypeError, match=r"write TaskDef\(id, function\)"):
        manager.add_task(manager.create_workflow("wf"), boom)


def test_drafts_are_announced(manager):
    """WORKFLOW_CREATED and a TASK_PENDING for each task, those given to create_workflow too; they are in no log."""
    heard = []
    manager.event_bus.subscribe("WORKFLOW_CREATED", heard.append)
    manager.event_bus.subscribe("TASK_PENDING", heard.append)
    workflow_id = manager.create_workflow("wf", tasks=[TaskDef("a", lambda: 1)])
    manager.add_task(workflow_id, TaskDef("b", lambda: 1))
    manager.event_bus.publish("over")
    assert [(event.type.value, event.task_id, event.seq) for event in heard] == [
        ("WORKFLOW_CREATED", None, None),
        ("TASK_PENDING", "a", None),
        ("TASK_PENDING", "b", None),
    ]
    assert all(event.data["workflow_id"] == workflow_id for event in heard)


def test_tasks_may_be_added_from_many_threads(manager):
    """None gets lost."""
    workflow_id = manager.create_workflow("wf")
    barrier = threading.Barrier(16)

    def add(n):
        barrier.wait(PATIENCE)
        for m in range(20):
            manager.add_task(workflow_id, TaskDef(f"{n}-{m}", lambda: 1))

    threads = [threading.Thread(target=add, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ended(manager.execution(manager.execute_workflow(workflow_id))).results) == 320


# ---- status ----------------------------------------------------------------------------------------------------------


def test_the_workflow_status_says_what_is_known_by_now(manager):
    """Before, during and after an execution, and when it failed."""
    slow = Hold(5)
    workflow_id = manager.create_workflow("wf", tasks=[TaskDef("a", slow), TaskDef("b", boom, dependencies=["a"])])
    created = manager.get_workflow_status(workflow_id)
    assert set(created) == {"id", "name", "status", "created_at", "task_count"}
    assert (created["id"], created["name"], created["task_count"]) == (workflow_id, "wf", 2)
    assert created["status"] is WorkflowStatus.CREATED
    execution_id = manager.execute_workflow(workflow_id)
    slow.entered()
    running = manager.get_workflow_status(workflow_id)
    assert running["status"] is WorkflowStatus.RUNNING
    assert running["started_at"] >= created["created_at"] - 1
    assert "completed_at" not in running
    slow.go()
    execution = ended(manager.execution(execution_id))
    report = manager.get_workflow_status(workflow_id)
    assert report["status"] is WorkflowStatus.FAILED
    assert report["duration"] == pytest.approx(report["completed_at"] - report["started_at"])
    assert report["task_results"]["a"].result == 5
    assert report["error"] is execution.failures["b"]
    assert report["execution_id"] == execution_id


def test_the_status_is_of_the_latest_execution_unless_one_is_named(manager):
    """A second execution doesn't overwrite the first one's."""
    workflow_id = manager.create_workflow("wf", tasks=[TaskDef("a", lambda ctx: ctx["n"])])
    ids = [manager.execute_workflow(workflow_id, {"n": n}) for n in range(3)]
    for execution_id in ids:
        ended(manager.execution(execution_id))
    assert manager.get_workflow_status(workflow_id)["task_results"]["a"].result == 2
    assert manager.get_workflow_status(workflow_id, ids[0])["task_results"]["a"].result == 0
    assert manager.get_task_status("a", ids[1])["status"] is TaskStatus.COMPLETED


def test_the_task_status_is_the_state_map_of_the_latest_execution_that_has_it(manager):
    """An enum member, attempts and times, running or not."""
    slow = Hold()
    ended(manager.start(flow(TaskDef("a", lambda: 1), TaskDef("old", boom))))
    execution = manager.start(flow(TaskDef("a", slow)))
    slow.entered()
    assert manager.get_task_status("a")["status"] is TaskStatus.RUNNING
    assert manager.get_task_status("a")["attempts"] == 1
    assert manager.get_task_status("old")["status"] is TaskStatus.FAILED
    slow.go()
    ended(execution)
    assert manager.get_task_status("a")["status"] is TaskStatus.COMPLETED


def test_unknown_ids_are_key_errors_with_near_misses(manager):
    """Of workflows, executions and tasks, and of an execution that is another workflow's."""
    workflow_id = manager.create_workflow("wf", tasks=[TaskDef("a", lambda: 1)])
    other_id = manager.create_workflow("other", tasks=[TaskDef("a", lambda: 1)])
    ended(manager.start(flow(TaskDef("a", lambda: 1)), execution_id="nightly"))
    other = manager.execute_workflow(other_id)
    ended(manager.execution(other))
    for ask in (
        lambda: manager.add_task("wff", TaskDef("a", boom)),
        lambda: manager.execute_workflow("wff"),
        lambda: manager.get_workflow_status("wff"),
        lambda: manager.get_workflow_status(workflow_id, "nightly"),
        lambda: manager.get_workflow_status(workflow_id, other),
        lambda: manager.execution("nightli"),
        lambda: manager.get_task_status("zzz"),
        lambda: manager.get_task_status("a", "zzz"),
    ):
        with pytest.raises(KeyError) as caught:
            ask()
        assert isinstance(caught.value, UnknownIdError)
        assert isinstance(caught.value, NervError)
    with pytest.raises(KeyError, match="did you mean 'nightly'"):
        manager.execution("nightli")


# ---- executions ------------------------------------------------------------------------------------------------------


def test_executions_are_known_by_status(manager):
    """Oldest first; all, or those that are in a status now."""
    slow = Hold()
    done = ended(manager.start(flow(TaskDef("a", lambda: 1))))
    failed = ended(manager.start(flow(TaskDef("a", boom))))
    running = manager.start(flow(TaskDef("a", slow)))
    slow.entered()
    assert manager.executions() == [done, failed, running]
    assert manager.executions(WorkflowStatus.RUNNING) == [running]
    assert manager.executions(status=WorkflowStatus.FAILED) == manager.executions("FAILED") == [failed]
    with pytest.raises(ValueError, match="'DONE' is no WorkflowStatus"):
        manager.executions("DONE")
    assert manager.execution(done.id) is done
    slow.go()
    ended(running)


def test_many_executions_of_one_workflow_do_not_mix(manager):
    """Started from sixteen threads, each has its own params, results and events."""
    workflow = flow(TaskDef("a", lambda ctx: ctx["n"]), TaskDef("b", lambda x: x * 2, args=(Output("a"),)))
    got, barrier = {}, threading.Barrier(16)

    def go(n):
        barrier.wait(PATIENCE)
        for m in range(10):
            execution = ended(manager.start(workflow, {"n": (n, m)}))
            got[n, m] = execution["b"], [event.seq for event in execution.events()]

    threads = [threading.Thread(target=go, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 160
    assert all(result == (n, m) * 2 and seqs == [1, 2, 3, 4, 5, 6] for (n, m), (result, seqs) in got.items())


def test_finished_executions_beyond_keep_are_forgotten():
    """The newest are known; who holds a handle keeps its results, its state and its events."""
    with WorkflowManager(keep=2) as manager:
        handles = [ended(manager.start(flow(TaskDef("a", lambda n=n: n)))) for n in range(5)]
        eventually(lambda: len(manager.executions()) == 2)
        assert manager.executions() == handles[3:]
        with pytest.raises(UnknownIdError):
            manager.execution(handles[0].id)
        assert handles[0]["a"] == 0
        assert handles[0].state["tasks"]["a"]["status"].name == "COMPLETED"
        assert len(list(handles[0].events())) == 4
        assert handles[0].task("a").result == 0


def test_keeping_nothing_still_runs():
    """keep=0: run gives its result; a draft whose executions are forgotten says so."""
    assert nerv.run(flow(TaskDef("a", lambda: 1)), keep=0)["a"] == 1
    with WorkflowManager(keep=0) as manager:
        workflow_id = manager.create_workflow("wf", tasks=[TaskDef("a", lambda: 1)])
        manager.execute_workflow(workflow_id)
        eventually(lambda: not manager.executions())
        with pytest.raises(UnknownIdError, match="keep"):
            manager.get_workflow_status(workflow_id)


def test_a_journal_remembers_a_drafts_latest_execution():
    with WorkflowManager(keep=0, journal=MemoryJournal()) as manager:
        workflow_id = manager.create_workflow("w", tasks=[TaskDef("a", lambda: 7)])
        execution_id = manager.execute_workflow(workflow_id)
        eventually(lambda: manager.execution(execution_id).status.is_final)
        report = manager.get_workflow_status(workflow_id)
    assert (report["execution_id"], report["status"].name) == (execution_id, "COMPLETED")
    assert report["task_results"]["a"].result == 7


def test_the_state_of_a_stored_execution_may_be_the_first_thing_that_is_asked():
    with WorkflowManager(keep=0, journal=MemoryJournal()) as manager:
        name = ended(manager.start(flow(TaskDef("a", lambda: 7)))).id
        eventually(lambda: not manager.known)
        assert manager.execution(name).state["status"].name == "COMPLETED"
        assert manager.execution(name).at(1)["status"].name == "RUNNING"
        assert manager.execution(name).project("progress")["completed"] == 1


def test_an_execution_that_is_forgotten_while_it_is_asked_answers():
    with WorkflowManager() as manager:
        execution = ended(manager.start(flow(TaskDef("a", lambda: 7))))
        answer = manager.state_projector.execution_state

        def forgotten_meanwhile(execution_id):
            execution.release()
            manager.state_projector.detach(execution_id)
            return answer(execution_id)

        with mock.patch.object(manager.state_projector, "execution_state", forgotten_meanwhile):
            assert execution.task("a").result == 7


def test_results_do_not_outlive_their_execution():
    """When an execution is forgotten and nobody holds it, its results are free, whatever the bus remembers."""
    import gc
    import weakref

    class Big:
        pass

    with WorkflowManager(keep=1) as manager:
        manager.event_bus.subscribe(ANY, lambda _: None)
        alive = []
        ended(manager.start(flow(TaskDef("a", lambda: alive.append(weakref.ref(big := Big())) or big))))
        ended(manager.start(flow(TaskDef("a", lambda: 1))))
        ended(manager.start(flow(TaskDef("a", lambda: 1))))
        eventually(lambda: gc.collect() is not None and alive[0]() is None)
        assert len(manager.event_bus.get_history()) > 4


# ---- turns -----------------------------------------------------------------------------------------------------------


def occupied(manager):
    """A task that holds the pool's only worker."""
    hold = Hold()
    manager.start(flow(TaskDef("occupied", hold)))
    hold.entered()
    return hold


def test_executions_take_turns_at_equal_priority():
    """On one worker, three executions of four tasks each go round."""
    order = []
    with WorkflowManager(workers=1) as manager:
        hold = occupied(manager)

        def some(name):
            return manager.start(flow(*(TaskDef(f"t{n}", lambda: order.append(name)) for n in range(4))))

        executions = [some(name) for name in "abc"]
        hold.go()
        for execution in executions:
            ended(execution)
    assert "".join(order) == "abc" * 4


def test_higher_priority_goes_first_between_executions():
    """Whichever was started first."""
    order = []
    with WorkflowManager(workers=1) as manager:
        hold = occupied(manager)

        def some(name, *priorities):
            tasks = [TaskDef(f"t{n}", lambda: order.append(name), priority=p) for n, p in enumerate(priorities)]
            return manager.start(flow(*tasks))

        executions = [some("a", 1, 0), some("b", 3, 1), some("c", 2, 1)]
        hold.go()
        for execution in executions:
            ended(execution)
    assert order == ["b", "c", "a", "b", "c", "a"]


def test_an_execution_moves_ahead_when_something_urgent_of_it_becomes_ready():
    """Though a less urgent task of it was in line already."""
    order = []
    with WorkflowManager(workers=1, pools={"side": {"kind": "thread", "workers": 1}}) as manager:
        hold = occupied(manager)
        side = Hold()
        first = manager.start(
            flow(
                TaskDef("low", lambda: order.append("low"), priority=0),
                TaskDef("side", side, pool="side"),
                TaskDef("urgent", lambda: order.append("urgent"), priority=3, dependencies=["side"]),
            )
        )
        second = manager.start(flow(TaskDef("medium", lambda: order.append("medium"))))
        side.go()
        eventually(lambda: len(first.results) == 1)
        hold.go()
        ended(first)
        ended(second)
    assert order == ["urgent", "medium", "low"]


# ---- parts of one's own ----------------------------------------------------------------------------------------------


def test_bus_and_projector_may_be_ones_own():
    """They take the manager's place everywhere."""
    bus, projector, heard = EventBus(history_limit=3), StateProjector({"mine": 1}), []
    bus.subscribe(ANY, heard.append)
    with WorkflowManager(event_bus=bus, state_projector=projector) as manager:
        assert manager.event_bus is bus
        assert manager.state_projector is projector
        execution = ended(manager.start(flow(TaskDef("a", lambda: 1))))
        assert projector.get_state()["executions"][execution.id]["status"].name == "COMPLETED"
        assert projector.get_state()["mine"] == 1
    assert len(heard) == 4
    assert len(bus.get_history()) == 3


@pytest.mark.parametrize("part", ["event_bus", "state_projector", "clock", "pool_factory"])
def test_what_can_not_be_a_part_is_refused_at_once(part):
    with pytest.raises(ConfigError, match=rf"{part} takes .*, not 'mine'"):
        WorkflowManager(**{part: "mine"})


def test_settings_are_strict():
    """An unknown one is named with the nearest."""
    with pytest.raises(ConfigError, match="did you mean 'workers'"):
        WorkflowManager(wrokers=3)


# ---- drain and close -------------------------------------------------------------------------------------------------


def test_drain_lets_what_runs_end_and_starts_nothing_new():
    """It says whether that was done in time; a start afterwards is refused with the reason."""
    hold, called = Hold(), []
    with WorkflowManager(workers=1, grace=0.01) as manager:
        execution = manager.start(flow(TaskDef("a", hold), TaskDef("b", lambda: called.append(1), dependencies=["a"])))
        hold.entered()
        assert manager.drain(0.001) is False
        with pytest.raises(NervError, match="drain"):
            manager.start(flow(TaskDef("x", lambda: 1)))
        hold.go()
        assert manager.drain() is True
        assert len(execution.results) == 1
        assert called == []
        assert manager.start(execution.workflow, execution_id=execution.id) is execution
    assert execution.status.name == "CANCELLED"


def test_a_closed_manager_starts_nothing():
    """It says so; asking it goes on."""
    manager = WorkflowManager()
    execution = ended(manager.start(flow(TaskDef("a", lambda: 1))))
    manager.close()
    manager.close()
    with pytest.raises(NervError, match="closed; make a new one"):
        manager.start(flow(TaskDef("a", lambda: 1)))
    assert manager.execution(execution.id)["a"] == 1
    assert manager.executions() == [execution]


def test_a_start_that_meets_a_close_is_refused_or_ends():
    """From another thread at the same moment: an error, or an execution that isn't left hanging."""
    workflow = flow(TaskDef("a", lambda: 1), TaskDef("b", lambda: 1, dependencies=["a"]))
    for _ in range(100):
        manager = WorkflowManager(workers=2, grace=0.5)
        barrier, got = threading.Barrier(2), []

        def start(manager=manager, barrier=barrier, got=got):
            barrier.wait(PATIENCE)
            with contextlib.suppress(NervError):
                got.append(manager.start(workflow))

        thread = threading.Thread(target=start)
        thread.start()
        barrier.wait(PATIENCE)
        manager.close()
        thread.join()
        for execution in got:
            ended(execution)


def test_a_start_that_comes_just_too_late_ends_at_once():
    """Closed between the acceptance of a workflow and its start, the manager leaves no execution hanging."""

    class Closing(EventBus):
        def attach(self, log):
            super().attach(log)
            manager.close()

    called = []
    manager = WorkflowManager(event_bus=Closing())
    execution = ended(manager.start(flow(TaskDef("a", lambda: called.append(1)))))
    assert execution.status is WorkflowStatus.CANCELLED
    assert called == []


def test_workflows_are_the_same_object_everywhere():
    """The manager runs the Workflow that it was given."""
    workflow = Workflow("wf", [TaskDef("a", lambda: 1)])
    with WorkflowManager() as manager:
        assert ended(manager.start(workflow)).workflow is workflow


def test_services_and_handlers_of_one_start_are_that_executions_only(manager):
    """Another execution of the same manager has neither."""
    mine, heard = object(), threading.Event()
    workflow = flow(TaskDef("a", lambda ctx: ctx.services))
    assert ended(manager.start(workflow, services=mine, on_event=lambda _: heard.set()))["a"] is mine
    reached(heard)
    heard.clear()
    assert ended(manager.start(workflow))["a"] is None
    assert not heard.is_set()
