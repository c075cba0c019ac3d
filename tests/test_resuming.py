"""Going on with what a closed or killed manager left: what is lost, what has changed, and who may."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from nerv import (
    FatalError,
    JournalError,
    MemoryJournal,
    NervError,
    Output,
    SerializationError,
    SqliteJournal,
    TaskDef,
    UnknownIdError,
    Workflow,
    WorkflowChangedError,
    WorkflowManager,
    WorkflowStatus,
    run,
)
from nerv.eventlog import TASK_STARTED, TASK_WAITING, WORKFLOW_RECOVERED, WORKFLOW_STARTED
from nerv.journal.base import Batch, Header, Stretch
from nerv.testing import FaultyJournal
from tests.handshake import (
    REPOSITORY,
    Gauge,
    Hold,
    boom,
    ended,
    environment,
    eventually,
    flow,
    kinds,
    reached,
    statuses,
)

INTERRUPTED, COMPLETED, FAILED = WorkflowStatus.INTERRUPTED, WorkflowStatus.COMPLETED, WorkflowStatus.FAILED


@pytest.fixture
def journal():
    with MemoryJournal() as made:
        yield made


def manager(journal, **settings):
    return WorkflowManager(journal=journal, **{"grace": 0.05, "failure_policy": "continue", **settings})


def ready(value):
    """A hold that holds nobody."""
    hold = Hold(value)
    hold.go()
    return hold


def leave(journal, workflow, hold, **settings):
    """Start a workflow, and close its manager while a task of it is held; that task's call is abandoned."""
    with manager(journal, **settings) as managing:
        execution = managing.start(workflow, execution_id="e")
        hold.entered()
    assert execution.status is INTERRUPTED
    hold.go()
    return execution


# ---- a manager that was closed --------------------------------------------------------------------------------------


@pytest.mark.parametrize("durability", ["strict", "group", "off"])
def test_what_a_closed_manager_left_is_no_loss(journal, durability):
    for _ in range(5):
        leave(journal, flow(TaskDef("a", hold := Hold(1))), hold, max_recoveries=1, durability=durability)
    execution = run(
        flow(TaskDef("a", ready(2))), journal=journal, execution_id="e", max_recoveries=1, durability=durability
    )
    assert execution.status is COMPLETED
    assert execution.task("a").attempts == 6
    assert [event.data.get("left") for event in execution.events() if event.type == "WORKFLOW_RECOVERED"] == [True] * 5


def test_a_handle_on_what_was_left_changes_nothing(journal):
    execution = leave(journal, flow(TaskDef("a", hold := Hold(1)), TaskDef("b", int, dependencies=["a"])), hold)
    count = len(execution.log)
    assert not execution.cancel("too late")
    assert not execution.pause()
    assert not execution.resume()
    assert not execution.reprioritize("b", 5)
    assert len(execution.log) == count == len(list(journal.events("e")))
    again = flow(TaskDef("a", ready(1)), TaskDef("b", int, dependencies=["a"]))
    assert run(again, journal=journal, execution_id="e").status is COMPLETED


def test_what_was_started_after_the_close_is_unknown_to_the_journal(journal):
    managing = manager(journal)
    managing.drain()
    with pytest.raises(NervError, match="drain"):
        managing.start(flow(TaskDef("a", int)), execution_id="e")
    managing.close()
    assert journal.executions() == []


# ---- who may --------------------------------------------------------------------------------------------------------


def test_what_another_manager_runs_is_left_to_it(journal):
    hold = Hold(1)
    workflow = flow(TaskDef("a", hold))
    with manager(journal, grace=5.0) as one, manager(journal) as other:
        execution = one.start(workflow, execution_id="e")
        hold.entered()
        with pytest.raises(NervError, match="another manager"):
            other.start(workflow, execution_id="e")
        assert other.recover(workflow) == []
        other.close()
        assert journal.execution("e").status is WorkflowStatus.RUNNING, "a manager lets go only of its own"
        hold.go()
        assert ended(execution).status is COMPLETED


def test_two_managers_on_two_files_know_nothing_of_each_other(tmp_path):
    workflow = flow(TaskDef("a", int))
    with WorkflowManager(journal=tmp_path / "one.db") as one, WorkflowManager(journal=tmp_path / "two.db") as other:
        first, second = one.start(workflow, execution_id="e"), other.start(workflow, execution_id="e")
        assert first is not second
        assert ended(first).status is ended(second).status is COMPLETED
        assert [len(managing.journal.executions()) for managing in (one, other)] == [1, 1]


def test_sixteen_threads_that_ask_at_once_go_on_with_one_execution(journal):
    """Whether they start it or recover it."""
    for turn in range(20):
        hold, gauge = Hold(1), Gauge()
        with manager(journal) as managing:
            managing.start(flow(TaskDef("a", Door(hold))), execution_id=f"e{turn}")
            hold.entered()
        hold.go()

        def count(_, gauge=gauge):
            with gauge:
                pass

        with manager(journal, grace=5.0) as managing:
            found = asked_by_many(managing, flow(TaskDef("a", Door(count))), f"e{turn}")
            execution = managing.execution(f"e{turn}")
            assert ended(execution).status is COMPLETED
            assert set(found) == {execution}
        assert gauge.total == 1


class Door:
    """A function whose name says nothing of what it does."""

    def __init__(self, act):
        self.act = act

    def __call__(self, ctx):
        return self.act(ctx)


def asked_by_many(managing, workflow, name):
    """What sixteen threads are given, half of which recover it first."""
    together, found = threading.Barrier(16), []

    def ask(number):
        together.wait()
        if number % 2:
            managing.recover(workflow)
        found.append(managing.start(workflow, execution_id=name))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_recovering_twice_or_nothing_does_nothing(journal):
    workflow = flow(TaskDef("a", hold := Hold(1)))
    leave(journal, workflow, hold)
    with manager(journal, grace=5.0) as managing:
        assert managing.recover([]) == []
        held = Hold(2)
        (execution,) = managing.recover(flow(TaskDef("a", held)))
        assert managing.recover(flow(TaskDef("a", held))) == []
        held.entered()
        held.go()
        assert ended(execution)["a"] == 2
        assert managing.recover(workflow) == []


# ---- what has changed -----------------------------------------------------------------------------------------------


def test_a_removed_task_is_skipped_and_not_missed(journal):
    hold = Hold(1)
    leave(
        journal,
        flow(TaskDef("a", int), TaskDef("b", hold, dependencies=["a"]), TaskDef("c", boom, args=(Output("b"),))),
        hold,
    )
    with manager(journal) as managing:
        (execution,) = managing.recover(
            flow(TaskDef("a", boom), TaskDef("d", lambda a: a + 5, args=(Output("a"),))), on_change="continue"
        )
        assert ended(execution).status is COMPLETED
        assert execution["d"] == 5, "what was completed isn't done again"
        assert {task: status.name for task, status in execution.project("task_status").items()} == {
            "a": "COMPLETED", "b": "SKIPPED", "c": "SKIPPED", "d": "COMPLETED",
        }  # fmt: skip
        assert "TASKS_ADDED" in kinds(execution)
    with manager(journal) as managing:
        assert managing.execution("e")["d"] == 5


def test_what_was_accepted_once_is_accepted_for_good(journal):
    leave(journal, flow(TaskDef("a", hold := Hold(1))), hold)
    new = [TaskDef("b", second := Hold(2)), TaskDef("a", int, dependencies=["b"])]
    with manager(journal) as managing:
        with pytest.raises(WorkflowChangedError, match="'e' of 'wf'"):
            managing.recover(flow(*new))
        managing.recover(flow(*new), on_change="continue")
        second.entered()
    second.go()
    newer = [TaskDef("b", third := Hold(3)), TaskDef("a", int, dependencies=["b"])]
    with manager(journal) as managing:
        (execution,) = managing.recover(flow(*newer))
        third.entered()
    third.go()
    newest = [TaskDef("z", int), TaskDef("b", ready(4)), TaskDef("a", int, dependencies=["b"])]
    with manager(journal) as managing:
        (execution,) = managing.recover(flow(*newest), on_change="continue")
        assert ended(execution).status is COMPLETED
        assert execution.results == {"a": 0, "b": 4, "z": 0}
    with manager(journal) as managing:
        assert managing.execution("e").results == {"a": 0, "b": 4, "z": 0}


# ---- what can't go on -----------------------------------------------------------------------------------------------


def test_what_cannot_go_on_here_does_not_keep_the_rest(journal):
    for name, workflow in (("bad", "needs"), ("good", "plain")):
        with manager(journal) as managing:
            hold = Hold(1)
            managing.start(Workflow(workflow, [TaskDef("a", hold)]), execution_id=name)
            hold.entered()
        hold.go()
    needs = Workflow("needs", [TaskDef("a", int, pool="nowhere")])
    with manager(journal) as managing:
        with pytest.raises(NervError, match="nowhere") as caught:
            managing.recover([needs, Workflow("plain", [TaskDef("a", ready(1))])], on_change="continue")
        assert any("'bad'" in note for note in caught.value.__notes__)
        assert ended(managing.execution("good")).status is COMPLETED
        assert managing.execution("bad").status is INTERRUPTED


def test_a_journal_of_ones_own_may_raise_anything(journal):
    class Careless(MemoryJournal):
        writes = 0

        def write(self, batch, *, sync=True):
            self.writes += 1
            if self.writes == 3:
                raise OSError("no such luck")
            super().write(batch, sync=sync)

    with Careless() as careless:
        execution = run(flow(TaskDef("a", int)), journal=careless, durability="strict", raise_on_failure=False)
        assert execution.status is FAILED
        assert isinstance(execution.error, JournalError)
        assert isinstance(execution.error.__cause__, OSError)


def test_an_end_that_is_not_kept_is_no_end():
    """All tasks have completed, but the journal's last write fails: whoever waits is told."""
    with MemoryJournal() as probe:
        counting = FaultyJournal(probe)
        run(flow(TaskDef("a", int)), journal=counting, durability="strict")
    with MemoryJournal() as inner:
        execution = run(
            flow(TaskDef("a", int)),
            journal=FaultyJournal(inner, fail_at=counting.writes),
            durability="strict",
            raise_on_failure=False,
        )
        assert (execution.status, type(execution.error)) == (FAILED, JournalError)


# ---- values ---------------------------------------------------------------------------------------------------------


def test_a_result_that_cannot_be_stored_gets_no_fallback_and_no_retry(journal):
    task = TaskDef("a", threading.Lock, retry_policy=3, fallback=1)
    execution = run(flow(task), journal=journal, raise_on_failure=False)
    assert isinstance(execution.failures["a"], SerializationError)
    assert execution.task("a").attempts == 1
    assert run(flow(TaskDef("a", threading.Lock, durable=False)), journal=journal).status is COMPLETED


def test_a_fallback_is_stored_like_a_result(journal):
    with pytest.raises(SerializationError, match="'a'"):
        run(flow(TaskDef("a", boom, fallback=threading.Lock())), journal=journal)
    assert journal.executions() == []
    execution = run(
        flow(TaskDef("a", boom, fallback=lambda _: threading.Lock())), journal=journal, raise_on_failure=False
    )
    assert isinstance(execution.failures["a"], SerializationError)


@pytest.mark.leaks_allowed("a call that is late on purpose")
def test_a_late_result_is_not_kept_for_the_one_that_counts(journal):
    late = threading.Event()
    was_late = threading.Event()

    def dawdle(ctx):
        if ctx.attempt == 1:
            reached(late)
            was_late.set()
        return ctx.attempt

    def last(_):
        late.set()
        reached(was_late)
        time.sleep(0.01)
        return "the fallback"

    with manager(journal, workers=3) as managing:
        execution = ended(managing.start(flow(TaskDef("a", dawdle, timeout=0.05, fallback=last)), execution_id="e"))
        assert execution["a"] == "the fallback"
    with manager(journal) as managing:
        assert managing.execution("e")["a"] == "the fallback"


# ---- real processes -------------------------------------------------------------------------------------------------

POISON = """
import os, signal, sys
from nerv import *

def note(ctx):
    with open("log", "a") as log:
        log.write(ctx.task_id + "\\n")

def poison(ctx):
    note(ctx)
    os.kill(os.getpid(), signal.SIGKILL)

tasks = [TaskDef(f"t{n}", note) for n in range(8)] + [TaskDef("poison", poison)]
execution = run(Workflow("wf", tasks), journal="runs.db", execution_id="e", workers=3, max_recoveries=3,
                durability=sys.argv[1], raise_on_failure=False, failure_policy="continue")
print({task: str(error) for task, error in execution.failures.items()}, len(execution.results))
"""


@pytest.mark.timeout(240)  # up to eight interpreters, one after the other, on machines that may be busy
@pytest.mark.parametrize("durability", ["strict", "group", "off"])
def test_a_task_that_kills_the_process_is_found_out(tmp_path, durability):
    (tmp_path / "poison.py").write_text(POISON)
    command = [sys.executable, "poison.py", durability]
    lives, called = 0, []  # what was called in each life
    while lives < 9:
        lives += 1
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment(), check=False)
        called.append((tmp_path / "log").read_text().split()[sum(map(len, called)) :])
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, (called, done.returncode, done.stderr)
    assert done.stdout.startswith("{'poison': \"task 'poison' was running each of the 4 times"), (called, done)
    assert done.stdout.endswith(" 8\n"), (called, done)
    assert 4 < lives < 8, called
    assert sum(map(len, called)) < 8 * lives, called


def test_after_ctrl_c_with_a_journal_it_can_be_resumed(tmp_path):
    code = textwrap.dedent(
        """
        import sys, time
        from nerv import *

        def first():
            return 20

        def second(ctx, value):
            if not sys.argv[1:]:
                print("here", flush=True)
                time.sleep(30)
            return value + 1

        workflow = Workflow("wf", [TaskDef("first", first), TaskDef("second", second, args=(Output("first"),))])
        print(run(workflow, journal="runs.db", execution_id="e", grace=0.1).result)
        """
    )
    (tmp_path / "script.py").write_text(code)
    command = [sys.executable, "script.py"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=40)
    assert "KeyboardInterrupt" in errors
    with SqliteJournal(tmp_path / "runs.db", read_only=True) as journal:
        assert journal.execution("e").status is INTERRUPTED
    done = subprocess.run(
        [*command, "again"], cwd=tmp_path, capture_output=True, text=True, env=environment(), check=True
    )
    assert done.stdout == "21\n"


# ---- what stopped it ------------------------------------------------------------------------------------------------


def fatal():
    raise FatalError("the end")


def test_what_stopped_an_execution_stops_it_after_a_restart_too(journal):
    """A FatalError under failure_policy="continue", while another task runs."""
    hold, held = Hold(1), Hold(2)
    tasks = [
        TaskDef("fatal", lambda: (hold.entered(), fatal())),
        TaskDef("held", hold),
        TaskDef("later", int, dependencies=["held"]),
    ]
    with manager(journal) as managing:
        execution = managing.start(flow(*tasks), execution_id="e")
        while "fatal" not in execution.failures:
            time.sleep(0.001)
    assert execution.status is INTERRUPTED
    hold.go()
    tasks = [TaskDef("fatal", int), TaskDef("held", held), TaskDef("later", int, dependencies=["held"])]
    with manager(journal) as managing:
        (execution,) = managing.recover(flow(*tasks), on_change="continue")
        assert ended(execution).status is FAILED
        assert statuses(execution) == {"fatal": "FAILED", "held": "CANCELLED", "later": "CANCELLED"}
    assert not held.began.is_set()


def test_a_header_alone_is_an_execution_that_begins_anew(journal):
    """The process died after it was told of, and before it began."""
    workflow = flow(TaskDef("a", int))
    journal.write(
        Batch(headers=[Header("e", "wf", fingerprint=workflow.fingerprint, extra={"targets": None, "result": None})])
    )
    journal.release()
    with manager(journal) as managing:
        (execution,) = managing.recover(workflow)
        assert ended(execution).status is COMPLETED
        assert kinds(execution) == ["WORKFLOW_STARTED", "TASK_STARTED", "TASK_COMPLETED", "WORKFLOW_COMPLETED"]


@pytest.mark.parametrize(("workers", "numbers"), [(1, [2, 1, 1]), (2, [2, 2, 1]), (9, [2, 2, 2])])
def test_of_what_was_claimed_when_the_process_died_so_many_had_begun_as_there_was_room_for(journal, workers, numbers):
    """The journal knows of their claims alone: the first ones were attempts, and aren't held against them."""
    workflow = flow(*(TaskDef(name, lambda ctx: ctx.attempt, retry_policy=1) for name in "abc"))
    started = (WORKFLOW_STARTED, -1, 0.0, 0, {"workflow_id": "wf", "execution_id": "e", "task_count": 3})
    header = Header("e", "wf", fingerprint=workflow.fingerprint, extra={"targets": None, "result": None})
    first = Stretch("e", 1, [started], 0.0, ids=["a", "b", "c"], claims=[0, 1, 2])
    journal.write(Batch(headers=[header], stretches=[first]))
    journal.release()
    with manager(journal, workers=workers) as managing:
        (execution,) = managing.recover(workflow)
        assert [ended(execution)[name] for name in "abc"] == numbers
    begun = kinds(execution).index("WORKFLOW_RECOVERED") - 1
    assert kinds(execution)[: begun + 1] == ["WORKFLOW_STARTED"] + ["TASK_STARTED"] * begun
    assert begun == numbers.count(2)
    assert [execution.task(name).attempts for name in "abc"] == numbers
    with manager(journal) as managing:
        assert managing.execution("e").results == dict(zip("abc", numbers, strict=True))


def test_what_was_claimed_when_it_waited_to_run_again_is_on_disk_once_more_before_it_starts(journal):
    """It was lost once and is suspected now: in group mode too its claim is written before its function is called."""
    known = []
    workflow = flow(TaskDef("a", lambda: known.extend(journal.load("e").claims)))
    started = (WORKFLOW_STARTED, -1, 0.0, 0, {"workflow_id": "wf", "execution_id": "e", "task_count": 1})
    recovered = (WORKFLOW_RECOVERED, -1, 2.0, 0, {"lost": ["a"], "suspected": []})
    waiting = (TASK_WAITING, 0, 2.0, 1, {"reason": "interrupted"})
    records = [started, (TASK_STARTED, 0, 1.0, 1, None), recovered, waiting]
    header = Header("e", "wf", fingerprint=workflow.fingerprint, extra={"targets": None, "result": None})
    journal.write(Batch(headers=[header], stretches=[Stretch("e", 1, records, 0.0, ids=["a"], claims=[0])]))
    journal.release()
    with manager(journal, durability="group") as managing:
        (execution,) = managing.recover(workflow)
        assert ended(execution).status is COMPLETED
    assert [numbers for _, numbers in known] == [[0], [0]]


def test_what_was_ordered_of_a_header_alone_is_carried_out_once(journal):
    workflow = flow(TaskDef("a", int))
    journal.write(
        Batch(headers=[Header("e", "wf", fingerprint=workflow.fingerprint, extra={"targets": None, "result": None})])
    )
    journal.order("e", "pause", {})
    journal.release()
    with manager(journal) as managing:
        (execution,) = managing.recover(workflow)
        assert execution.status is WorkflowStatus.PAUSED
        assert kinds(execution) == ["WORKFLOW_STARTED", "WORKFLOW_PAUSED"]
        managing.persist()
        assert journal.load("e").orders == []
        execution.resume()
        assert ended(execution).status is COMPLETED


def test_a_worker_process_that_is_killed_costs_only_its_own_task(journal):
    tasks = [TaskDef(f"t{number}", abs, args=(number,), pool="process") for number in range(20)]
    tasks.append(TaskDef("die", die_once, pool="process", retry_policy=2))
    execution = run(Workflow("wf", tasks), journal=journal, processes=2)
    assert (execution.status, execution["die"]) == (COMPLETED, 2)
    assert {task: execution.task(task).attempts for task in execution.workflow.tasks} == {
        **{f"t{number}": 1 for number in range(20)},
        "die": 2,
    }


def die_once(ctx):
    if ctx.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return ctx.attempt


# ---- forks, and what can't be read any more --------------------------------------------------------------------------


def states(journal):
    """Executions of every status, of one workflow: `a`, then `b`. Gives the manager that runs one, and its hold."""
    hold = Hold(1)
    with manager(journal) as managing:
        managing.start(flow(TaskDef("a", ready(1)), TaskDef("b", hold, dependencies=["a"])), execution_id="interrupted")
        hold.entered()
    hold.go()
    managing, running = manager(journal, grace=5.0), Hold(1)
    for name, last in (("completed", ready(2)), ("failed", Door(boom)), ("running", running)):
        execution = managing.start(
            flow(TaskDef("a", ready(1)), TaskDef("b", last, dependencies=["a"])), execution_id=name
        )
        if last is not running:
            ended(execution)
    cancelled = managing.start(
        flow(TaskDef("a", ready(1)), TaskDef("b", Hold(1, deaf=False))), execution_id="cancelled"
    )
    eventually(lambda: "a" in cancelled.results)
    cancelled.cancel()
    ended(cancelled)
    running.entered()
    return managing, running


def test_an_execution_of_any_status_can_be_forked_and_only_what_has_ended_is_forgotten(journal):
    managing, running = states(journal)
    workflow = flow(TaskDef("a", boom), TaskDef("b", ready(7), dependencies=["a"]))
    with managing:
        for name in ("interrupted", "completed", "failed", "running", "cancelled"):
            fork = ended(managing.fork(name, "b", workflow=workflow))
            assert (fork.status, fork.results) == (COMPLETED, {"a": 1, "b": 7}), name
            assert fork.sequence == ["b"]
        assert ended(managing.retry("failed", workflow=workflow)).results == {"a": 1, "b": 7}
        with pytest.raises(UnknownIdError, match="no execution"):
            managing.fork("never", "b", workflow=workflow)
        with pytest.raises(UnknownIdError, match="'c'"):
            managing.fork("failed", "c", workflow=workflow)
        managing.forget(keep=0)
        assert {record.id for record in journal.executions()} == {"interrupted", "running"}
        running.go()
        assert ended(managing.execution("running")).status is COMPLETED


def test_a_result_whose_class_is_gone_says_so_and_the_others_can_be_read(tmp_path):
    (tmp_path / "vanishing.py").write_text(
        textwrap.dedent(
            """
            from nerv import TaskDef, Workflow, run

            class Result:
                pass

            def main():
                run(Workflow("wf", [TaskDef("a", Result), TaskDef("b", int)]), journal="runs.db", execution_id="e")
            """
        )
    )
    command = [sys.executable, "-c", "import vanishing; vanishing.main()"]
    subprocess.run(command, cwd=tmp_path, env={**environment(), "PYTHONPATH": f"{tmp_path}:{REPOSITORY}"}, check=True)
    with WorkflowManager(journal=tmp_path / "runs.db") as managing:
        execution = managing.execution("e")
        assert (execution.status, execution["b"]) == (COMPLETED, 0)
        with pytest.raises(SerializationError, match=r"'a'.*Result"):
            execution["a"]
        fork = managing.fork("e", "b", workflow=flow(TaskDef("a", boom), TaskDef("b", abs, args=(-3,))))
        assert ended(fork)["b"] == 3, "nobody needs it"
