"""A manager with a journal: start once, go on, fork, retry, forget, and orders from other processes."""

import contextlib
import itertools
import os
import socket
import subprocess
import sys
import textwrap
import threading
import warnings
from pathlib import Path

import psutil
import pytest

from nerv import (
    ConfigError,
    Gate,
    JournalError,
    MemoryJournal,
    NervError,
    Output,
    RateLimit,
    RetryPolicy,
    SerializationError,
    SqliteJournal,
    TaskDef,
    UnknownIdError,
    Workflow,
    WorkflowChangedError,
    WorkflowManager,
    WorkflowStatus,
    owning,
    run,
)
from nerv.journal.base import Batch
from nerv.owning import give_order
from tests.handshake import ended, eventually
from tests.house.commands import environment

CALLS: list[str] = []


@pytest.fixture(autouse=True)
def no_calls():
    CALLS.clear()


@pytest.fixture
def file(tmp_path):
    return str(tmp_path / "runs.db")


def note(name, *given):
    CALLS.append(name)
    return name + "".join(given)


def chain(*names, name="chain", **options):
    tasks = [TaskDef(names[0], note, args=(names[0],), **options)]
    tasks += [TaskDef(b, note, args=(b, Output(a)), **options) for a, b in itertools.pairwise(names)]
    return Workflow(name, tasks)


def held(gate, name="held"):
    """first, then a task that waits for the gate, then last."""
    return Workflow(
        name,
        [
            TaskDef("first", note, args=("first",)),
            TaskDef("wait", lambda ctx: _hold(ctx, gate), dependencies=["first"]),
            TaskDef("last", note, args=("last",), dependencies=["wait"]),
        ],
    )


def _hold(ctx, gate):
    while not gate.wait(0.005):
        ctx.check_cancelled()


@contextlib.contextmanager
def interrupted(file, workflow, **settings):
    """Start an execution, and close its manager when "wait" runs; gives its id."""
    with WorkflowManager(journal=file, grace=0.0, **settings) as manager:
        execution = manager.start(workflow)
        eventually(lambda: execution.task("wait").status.name == "RUNNING")
    assert execution.status is WorkflowStatus.INTERRUPTED
    CALLS.clear()
    yield execution.id


@pytest.mark.parametrize("durability", ["strict", "group", "off"])
def test_an_interrupted_execution_goes_on_and_does_only_what_is_left(file, durability):
    gate = threading.Event()
    with interrupted(file, held(gate), durability=durability) as known:
        gate.set()
        execution = run(held(gate), journal=file, execution_id=known, durability=durability)
        assert execution.id == known
        assert CALLS == ["last"]
        assert execution.task("wait").attempts == 2
        kinds = [event.type for event in execution.events()]
        assert kinds.count("WORKFLOW_STARTED") == kinds.count("WORKFLOW_RECOVERED") == 1
        assert [event.seq for event in execution.events()] == list(range(1, len(kinds) + 1))
        with SqliteJournal(file, read_only=True) as journal:
            assert [event.type for event in journal.events(known)] == kinds


def test_one_that_has_ended_is_returned_and_nothing_runs(file):
    first = run(chain("a", "b"), journal=file, execution_id="once")
    CALLS.clear()
    again = run(chain("a", "b"), journal=file, execution_id="once")
    assert (again["b"], again.result, CALLS) == (first["b"], "ba", [])
    assert again.task("a").completed_at == pytest.approx(first.task("a").completed_at, abs=1e-3)


def test_one_that_failed_raises_again_as_it_did(file):
    def bad():
        CALLS.append("bad")
        raise ValueError("no good")

    workflow = Workflow("failing", [TaskDef("bad", bad)])
    for _ in range(2):
        with pytest.raises(NervError, match="no good") as caught:
            run(workflow, journal=file, execution_id="x")
        assert isinstance(caught.value.__cause__, ValueError)
    assert CALLS == ["bad"]


def test_another_workflow_or_other_params_under_an_id_are_an_error(file):
    run(chain("a"), {"n": 1}, journal=file, execution_id="x")
    with pytest.raises(NervError, match="is of workflow 'chain'"):
        run(chain("a", name="other"), {"n": 1}, journal=file, execution_id="x")
    with pytest.raises(NervError, match="other params"):
        run(chain("a"), {"n": 2}, journal=file, execution_id="x")


def test_an_id_is_started_once_however_many_ask(file):
    with WorkflowManager(journal=file) as manager:
        barrier, found = threading.Barrier(16), []

        def ask():
            barrier.wait()
            found.append(manager.start(chain("a"), execution_id="one"))

        threads = [threading.Thread(target=ask) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(one.wait(10) for one in found)
        assert CALLS == ["a"]
        assert len({id(one) for one in found}) == 1


def test_a_warning_names_what_was_interrupted_and_how_to_go_on(file):
    gate = threading.Event()
    with interrupted(file, held(gate)) as known, WorkflowManager(journal=file) as manager:
        with pytest.warns(UserWarning, match=f"{known}.*nerv resume"):
            manager.start(chain("a", name="held")).wait()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            manager.start(chain("a", name="held")).wait()  # once


def test_recover_goes_on_with_what_it_is_given_and_leaves_the_rest(file):
    gate = threading.Event()
    with interrupted(file, held(gate)) as one, interrupted(file, held(gate, name="other")) as other:
        gate.set()
        with WorkflowManager(journal=file) as manager:
            (recovered,) = manager.recover([held(gate)])
            assert recovered.id == one
            assert recovered.wait(10)
            assert manager.execution(other).status is WorkflowStatus.INTERRUPTED
            assert manager.recover([held(gate)]) == []
            assert [known.id for known in manager.executions(WorkflowStatus.INTERRUPTED)] == [other]


def test_a_changed_workflow_is_refused_after_the_rest_has_recovered_or_accepted(file):
    gate = threading.Event()
    changed = Workflow("held", [*held(gate).tasks.values(), TaskDef("new", note, args=("new",))])
    with interrupted(file, held(gate)) as one, interrupted(file, held(gate, name="other")) as other:
        gate.set()
        with WorkflowManager(journal=file) as manager:
            with pytest.raises(WorkflowChangedError, match=one):
                manager.recover([changed, held(gate, name="other")])
            assert manager.execution(other).wait(10)
            (accepted,) = manager.recover(changed, on_change="continue")
            assert accepted.wait(10)
            assert accepted.status is WorkflowStatus.COMPLETED
            assert CALLS.count("new") == 1
            assert "first" not in CALLS


def test_what_was_not_kept_runs_again_if_something_needs_it(file):
    gate = threading.Event()
    tasks = [
        TaskDef("needed", note, args=("needed",), durable=False),
        TaskDef("useless", note, args=("useless",), durable=False),
        TaskDef("wait", lambda ctx: _hold(ctx, gate), dependencies=["needed", "useless"]),
        TaskDef("reader", note, args=("reader", Output("needed")), dependencies=["wait"]),
        TaskDef("end", note, args=("end",), dependencies=["reader", "useless"]),
    ]
    with interrupted(file, Workflow("held", tasks)) as known:
        gate.set()
        execution = run(Workflow("held", tasks), journal=file, execution_id=known)
        assert CALLS == ["needed", "reader", "end"]
        assert execution["reader"] == "readerneeded"


def test_a_lost_attempt_is_numbered_and_not_held_against_the_task(file):
    gate, attempts = threading.Event(), []

    def flaky(ctx):
        attempts.append(ctx.attempt)
        if ctx.attempt == 1:
            _hold(ctx, gate)
        if ctx.attempt == 2:
            raise ValueError("once")
        return ctx.attempt

    workflow = Workflow("flaky", [TaskDef("wait", flaky, retry_policy=RetryPolicy(2, 0.001))])
    with interrupted(file, workflow) as known:
        assert run(workflow, journal=file, execution_id=known)["wait"] == 3
    assert attempts == [1, 2, 3]


def test_a_retry_delay_goes_on_over_a_restart(file):
    def bad(ctx):
        CALLS.append(f"attempt {ctx.attempt}")
        if ctx.attempt == 1:
            raise ValueError("later")

    workflow = Workflow("later", [TaskDef("a", bad, retry_policy=RetryPolicy(2, 0.3, jitter=0.0))])
    with WorkflowManager(journal=file, grace=0.0) as manager:
        execution = manager.start(workflow)
        eventually(lambda: execution.task("a").status.name == "WAITING")
    again = run(workflow, journal=file, execution_id=execution.id)
    times = {event.type: event for event in again.events()}
    assert CALLS == ["attempt 1", "attempt 2"]
    assert times["TASK_STARTED"].timestamp >= times["TASK_RETRYING"].data["due"]


def test_a_paused_execution_is_paused_after_a_restart(file):
    gate = threading.Event()
    with WorkflowManager(journal=file, grace=0.0) as manager:
        execution = manager.start(held(gate))
        eventually(lambda: execution.task("wait").status.name == "RUNNING")
        assert execution.pause()
    gate.set()
    with WorkflowManager(journal=file) as manager:
        (again,) = manager.recover(held(gate))
        assert again.status is WorkflowStatus.PAUSED
        assert again.resume()
        assert again.wait(10)
        assert again.status is WorkflowStatus.COMPLETED


def test_a_cancel_goes_on_after_a_restart_and_nothing_new_starts(file):
    gate = threading.Event()
    with WorkflowManager(journal=file, grace=0.0) as manager:
        execution = manager.start(held(gate))
        eventually(lambda: execution.task("wait").status.name == "RUNNING")
        manager.journal.write(Batch())  # nothing: a batch may be empty
        give_order(file, execution.id, "pause", {})
    give_order(file, execution.id, "cancel", {"reason": "enough"})
    CALLS.clear()
    with WorkflowManager(journal=file) as manager:
        (again,) = manager.recover(held(gate))
        assert again.wait(10)
        assert again.status is WorkflowStatus.CANCELLED
        assert CALLS == []


def test_a_pause_that_nobody_heard_comes_before_anything_starts(file):
    gate = threading.Event()
    gate.set()
    with interrupted(file, held(threading.Event())) as known:
        give_order(file, known, "pause", {})
    with WorkflowManager(journal=file) as manager:
        (again,) = manager.recover(held(gate))
        assert again.status is WorkflowStatus.PAUSED
        assert again.task("wait").status.name == "WAITING"
        assert "TASK_STARTED" not in [event.type.name for event in list(again.events())[5:]]
        assert again.resume()
        assert again.wait(10)
        assert CALLS == ["last"]


def asking():
    return Workflow("asking", [Gate("approve", "Ship it?"), TaskDef("tell", note, args=("tell", Output("approve")))])


def test_a_gate_is_opened_while_nobody_runs_it(file):
    with WorkflowManager(journal=file, grace=0.0) as manager:
        execution = manager.start(asking())
        eventually(execution.waiting)
    assert give_order(file, execution.id, "signal", {"name": "approve", "value": " yes"})
    assert give_order(file, execution.id, "signal", {"name": "approve", "value": " no"})
    assert CALLS == []
    with WorkflowManager(journal=file) as manager:
        (again,) = manager.recover(asking())
        assert again.wait(10)
    assert again["tell"] == "tell yes"
    with WorkflowManager(journal=file) as manager:
        assert manager.execution(execution.id).status is WorkflowStatus.COMPLETED


def test_a_signal_to_what_an_earlier_order_has_ended_is_for_nobody(file):
    with WorkflowManager(journal=file, grace=0.0) as manager:
        execution = manager.start(asking())
        eventually(execution.waiting)
    give_order(file, execution.id, "cancel", {"reason": "enough"})
    give_order(file, execution.id, "signal", {"name": "approve", "value": "yes"})
    with WorkflowManager(journal=file) as manager:
        (again,) = manager.recover(asking())
        assert again.wait(10)
        assert again.status is WorkflowStatus.CANCELLED


def test_nerv_waiting_asks_the_gates_question(file):
    with WorkflowManager(journal=file, grace=0.0) as manager:
        execution = manager.start(asking())
        eventually(execution.waiting)
    said = nerv("waiting", "--journal", file, cwd=Path(file).parent).stdout
    assert said == f"{execution.id}  asking  approve  reason \"signal 'approve'\", prompt 'Ship it?'\n"


def test_a_signal_that_cannot_be_stored_is_refused_and_opens_nothing(file):
    with WorkflowManager(journal=file) as manager:
        execution = manager.start(asking())
        eventually(execution.waiting)
        with pytest.raises(SerializationError, match=r"signal 'approve'.*lock.*pass something that pickles"):
            execution.signal("approve", threading.Lock())
        assert execution.task("approve").status.name == "WAITING"
        assert execution.signal("approve", " yes")
        assert execution.wait(10)
        assert execution["tell"] == "tell yes"


def test_a_journal_that_is_only_read_is_no_managers(file):
    with SqliteJournal(file):
        pass
    with SqliteJournal(file, True) as journal, pytest.raises(JournalError, match=r"runs\.db.*to be read"):
        WorkflowManager(journal=journal)


def test_executions_by_status_or_its_name(file):
    with interrupted(file, held(threading.Event())) as known, WorkflowManager(journal=file) as manager:
        done = manager.start(chain("a"))
        assert done.wait(10)
        assert [one.id for one in manager.executions()] == [known, done.id]
        assert [one.id for one in manager.executions(WorkflowStatus.INTERRUPTED)] == [known]
        assert [one.id for one in manager.executions("INTERRUPTED")] == [known]
        assert [one.id for one in manager.executions(status="COMPLETED")] == [done.id]
        with pytest.raises(ValueError, match=r"'ENDED'.*COMPLETED"):
            manager.executions("ENDED")


def test_orders_reach_the_owner_in_another_process(file):
    gate = threading.Event()
    with WorkflowManager(journal=file) as manager:
        execution = manager.start(held(gate))
        eventually(lambda: execution.task("wait").status.name == "RUNNING")
        order = f"give_order({file!r}, {execution.id!r}, 'cancel', {{'reason': 'told'}})"
        code = f"from nerv.owning import give_order; print({order})"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=False
        )
        assert (done.stdout.strip(), done.stderr) == ("True", "")
        assert execution.wait(10)
        assert execution.status is WorkflowStatus.CANCELLED
        with pytest.raises(UnknownIdError, match="nobody"):
            give_order(file, "nobody", "cancel", {"reason": ""})
        assert give_order(file, execution.id, "cancel", {"reason": ""}) is False
        assert Path(f"{file}.sock").stat().st_mode & 0o777 == 0o600
    assert not Path(f"{file}.sock").exists()


def test_a_journal_with_a_long_name_has_an_owner_too(tmp_path):
    folder = tmp_path / ("deep" * 30)
    folder.mkdir()
    file = str(folder / "runs.db")
    gate = threading.Event()
    with WorkflowManager(journal=file) as manager:
        execution = manager.start(held(gate))
        eventually(lambda: execution.task("wait").status.name == "RUNNING")
        assert give_order(file, execution.id, "pause", {})
        assert execution.status is WorkflowStatus.PAUSED
        gate.set()
        assert give_order(file, execution.id, "resume", {})
        assert execution.wait(10)


def held_open(folder):
    return [file.path for file in psutil.Process().open_files() if file.path.startswith(str(folder))]


def test_a_manager_that_cant_be_made_holds_no_file(tmp_path, file):
    cache = str(tmp_path / "cache.db")
    with pytest.raises(ConfigError, match="DispatchHooks") as first:
        WorkflowManager(journal=file, cache=cache, dispatch_hooks=[1])
    with pytest.raises(JournalError, match="there is no folder") as second:
        WorkflowManager(journal=str(tmp_path / "none" / "runs.db"), cache=cache)
    assert held_open(tmp_path) == [], f"while the frames of {first} and {second} live on"


def test_a_journal_whose_socket_cant_be_made_has_no_owner(tmp_path, file):
    path = Path(f"{file}.sock")
    path.mkdir()
    with pytest.raises(JournalError, match=r"runs\.db can't be owned: its socket .*remove what is") as caught:
        WorkflowManager(journal=file)
    assert held_open(tmp_path) == [], f"while the frames of {caught} live on"
    path.rmdir()
    with WorkflowManager(journal=file) as manager:
        assert ended(manager.start(chain("a"))).results == {"a": "a"}


def test_the_socket_is_its_users_alone_whatever_the_umask_which_other_threads_share(file, monkeypatch):
    before = os.umask(0)
    monkeypatch.setattr(os, "umask", None)
    try:
        with WorkflowManager(journal=file):
            assert Path(f"{file}.sock").stat().st_mode & 0o777 == 0o600
    finally:
        monkeypatch.undo()
        os.umask(before)


def test_an_owner_that_doesnt_answer_is_an_error_that_says_so(tmp_path, file, monkeypatch):
    monkeypatch.setattr(owning, "PATIENCE", 0.05)
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(f"{file}.sock")
        deaf.listen()
        with pytest.raises(JournalError, match=r"runs\.db\.sock, hasn't answered \(timed out\).*give it again"):
            give_order(file, "e", "pause", {})


def test_an_owner_that_cant_be_reached_is_an_error_that_says_so(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match=r"can't be reached at .*: Not a directory"):
        give_order(str(tmp_path / "file" / "runs.db"), "e", "pause", {})


class Sealed:
    """Tells when it is rebuilt from the journal."""

    def __reduce__(self):
        return unsealed, ()


def unsealed():
    CALLS.append("unsealed")
    return Sealed()


def make_sealed():
    CALLS.append("sealed")
    return Sealed()


def test_a_fork_decodes_no_result_that_it_uses_again_before_somebody_wants_it(file):
    flow = Workflow(
        "sealed",
        [
            TaskDef("a", make_sealed),
            TaskDef("b", int, dependencies=["a"]),
            TaskDef("c", lambda a: type(a).__name__, args=(Output("a"),), dependencies=["b"]),
        ],
    )
    with WorkflowManager(journal=file) as manager:
        before = manager.start(flow)
        before.wait()
    CALLS.clear()
    with WorkflowManager(journal=file) as manager:
        manager.fork(before.id, "b", workflow=flow.select(["b"])).wait()
        assert CALLS == []
        fork = manager.fork(before.id, "c", workflow=flow)
        fork.wait()
        assert fork["c"] == "Sealed"
        assert CALLS == ["unsealed"]
        assert fork["a"] is fork["a"]
        assert CALLS == ["unsealed"]
    with WorkflowManager(journal=file) as manager:
        assert isinstance(manager.execution(fork.id)["a"], Sealed)


def test_the_facts_of_an_event_that_was_read_are_decoded_when_they_are_asked_for(file):
    flow = Workflow("failing", [TaskDef("a", raise_sealed)])
    with WorkflowManager(journal=file) as manager:
        before = manager.start(flow)
        before.wait()
    CALLS.clear()
    with WorkflowManager(journal=file) as manager:
        (failed,) = [event for event in manager.execution(before.id).events() if event.type == "TASK_FAILED"]
        assert CALLS == []
        assert isinstance(failed.data["error"], SealedError)
        assert CALLS == ["error unsealed"]


class SealedError(Exception):
    def __reduce__(self):
        return unsealed_error, ()


def unsealed_error():
    CALLS.append("error unsealed")
    return SealedError()


def raise_sealed():
    raise SealedError


@pytest.mark.parametrize("durability", ["strict", "group"])
@pytest.mark.parametrize("error", [SerializationError("of a fact"), TypeError("not encoded"), OSError("gone")])
def test_whatever_a_write_raises_ends_the_execution_with_it(monkeypatch, durability, error):
    with MemoryJournal() as journal, WorkflowManager(journal=journal, durability=durability) as manager:
        write = journal.write

        def refuse(batch, *, sync=True):
            if batch.stretches:
                raise error
            write(batch, sync=sync)

        monkeypatch.setattr(journal, "write", refuse)
        execution = manager.start(chain("a", "b", "c"))
        assert execution.wait(10)
        assert execution.status is WorkflowStatus.FAILED
        assert isinstance(execution.error, JournalError)
        assert execution.error.__cause__ is error
        with pytest.raises(JournalError):
            manager.persist()
        monkeypatch.undo()


@pytest.mark.parametrize("error", [JournalError("no room"), RuntimeError("a journal of somebody's own")])
def test_housekeeping_that_fails_is_logged_once_and_hurts_nobody(file, monkeypatch, caplog, error):
    tries = []

    def refuse(_):
        tries.append(1)
        raise error

    monkeypatch.setattr(SqliteJournal, "tidy", refuse)
    with WorkflowManager(journal=file) as manager:
        for _ in range(3):
            execution = manager.start(chain("a", "b"))
            execution.wait()
            assert execution.status is WorkflowStatus.COMPLETED
        eventually(lambda: tries)
        monkeypatch.undo()  # closing tidies as well
    assert len(tries) == 1
    assert caplog.text.count("the journal can't be tidied, so it grows") == 1


@pytest.mark.parametrize("scheduling", ["ready", "levels"])
def test_a_fork_runs_what_follows_and_uses_the_rest_again(file, scheduling):
    with WorkflowManager(journal=file, scheduling=scheduling) as manager:
        before = manager.start(chain("a", "b", "c"), {"n": 1})
        before.wait()
        CALLS.clear()
        fork = manager.fork(before.id, "b", params={"n": 2})
        assert fork.wait(10)
        assert (CALLS, fork["a"], fork["c"], dict(fork.params)) == (["b", "c"], "a", "cba", {"n": 2})
        assert next(event for event in fork.events() if event.type == "TASK_COMPLETED").data["reused"] is True
        with pytest.raises(UnknownIdError, match="'bb'"):
            manager.fork(before.id, "bb")
    with WorkflowManager(journal=file) as manager:
        assert manager.execution(fork.id)["c"] == "cba"
        with pytest.raises(UnknownIdError, match="code of workflow"):
            manager.fork(before.id, "c")
        assert manager.start(chain("a", "b", "c"), {"n": 1}, execution_id=before.id)["c"] == "cba"
        assert manager.fork(before.id, "c").wait(10), "it was shown the code when it was asked for the execution"


def test_retry_runs_what_did_not_complete(file):
    fails = [True]

    def shaky():
        CALLS.append("shaky")
        if fails[0]:
            raise ValueError("not yet")

    workflow = Workflow(
        "shaky",
        [
            TaskDef("a", note, args=("a",)),
            TaskDef("s", shaky, dependencies=["a"]),
            TaskDef("z", note, args=("z",), dependencies=["s"]),
        ],
    )
    with WorkflowManager(journal=file) as manager:
        before = manager.start(workflow)
        before.wait()
        fails[0] = False
        CALLS.clear()
        after = manager.retry(before.id)
        assert after.wait(10)
        assert (CALLS, after.status) == (["shaky", "z"], WorkflowStatus.COMPLETED)


def test_forget_removes_the_finished(file):
    with WorkflowManager(journal=file) as manager:
        for index in range(3):
            manager.start(chain("a"), execution_id=f"x{index}").wait()
        assert manager.forget(keep=1) == 2
        assert [one.id for one in manager.journal.executions()] == ["x2"]


def test_a_result_that_cannot_be_stored_fails_its_task_unretried(file):
    workflow = Workflow("locks", [TaskDef("lock", threading.Lock, retry_policy=3, fallback=None)])
    execution = run(workflow, journal=file, raise_on_failure=False)
    assert isinstance(execution.task("lock").error, SerializationError)
    assert execution.task("lock").attempts == 1


def test_a_param_that_cannot_be_stored_is_an_error_before_anything_runs(file):
    with pytest.raises(SerializationError, match="param 'lock'"):
        run(chain("a"), {"lock": threading.Lock()}, journal=file)
    assert CALLS == []


def test_a_manager_without_a_journal_says_how_to_get_one():
    with WorkflowManager() as manager:
        known = ended(manager.start(chain("a"))).id
        for ask in (manager.recover, manager.forget, lambda: manager.fork(known, "a")):
            with pytest.raises(JournalError, match="journal="):
                ask()


def test_a_memory_journal_serves_several_managers():
    journal = MemoryJournal()
    gate = threading.Event()
    with WorkflowManager(journal=journal, grace=0.0) as manager:
        execution = manager.start(held(gate))
        eventually(lambda: execution.task("wait").status.name == "RUNNING")
    gate.set()
    with WorkflowManager(journal=journal) as manager:
        (again,) = manager.recover(held(gate))
        assert again.wait(10)
        assert again.status is WorkflowStatus.COMPLETED


def test_strict_makes_one_commit_a_step(file):
    names = [f"t{n}" for n in range(40)]
    with WorkflowManager(journal=file, durability="strict", workers=1) as manager:
        before = manager._keeper.recorder.commits
        manager.start(chain(*names)).wait()
        assert manager._keeper.recorder.commits - before <= len(names) + 2


def test_strict_has_one_compensation_on_disk_before_the_next_begins(file):
    seen = {}

    def undo(ctx, _):
        with SqliteJournal(file, read_only=True) as journal:
            events = journal.events(ctx.execution_id)
            seen[ctx.task_id] = [event.task_id for event in events if event.type == "TASK_COMPENSATED"]

    done = chain("a", "b", "c", compensate=undo)
    workflow = Workflow("undone", [*done.tasks.values(), TaskDef("fails", lambda: 1 / 0, dependencies=["c"])])
    run(workflow, journal=file, durability="strict", raise_on_failure=False)
    assert seen == {"c": [], "b": ["c"], "a": ["c", "b"]}


def test_a_compensation_that_was_on_its_way_is_no_lost_attempt(file):
    """It is begun anew; the task that it undoes stays COMPLETED, with the one attempt that it had."""
    begun, hold = threading.Event(), threading.Event()

    def undo(_):
        begun.set()
        hold.wait(10)

    once = TaskDef("once", note, args=("once",), compensate=undo)
    workflow = Workflow("undone", [once, TaskDef("fails", lambda: 1 / 0, dependencies=["once"])])
    with WorkflowManager(journal=file, durability="strict", grace=0.0) as manager:
        manager.start(workflow)
        assert begun.wait(10)
        for end in ("", "-wal"):
            Path(f"{file}-copy{end}").write_bytes(Path(f"{file}{end}").read_bytes())
        hold.set()
    with WorkflowManager(journal=f"{file}-copy", durability="strict") as manager:
        (again,) = manager.recover(workflow)
        assert again.wait(10)
        assert again.task("once").attempts == 1
        assert [event.task_id for event in again.events() if event.type == "TASK_COMPENSATED"] == ["once"]


def test_limits_hold_for_kept_executions_under_strict(file):
    limit = RateLimit(2, 0.05)
    tasks = [TaskDef(f"t{n}", note, args=(f"t{n}",), rate_limit=limit) for n in range(6)]
    execution = run(Workflow("limited", tasks), journal=file, durability="strict")
    starts = sorted(event.timestamp for event in execution.events() if event.type == "TASK_STARTED")
    assert all(later - earlier >= 0.0499 for earlier, later in zip(starts, starts[2:], strict=False))


CRASHING = """
    import os, signal
    from nerv import task, workflow

    @task
    def first():
        return 5

    @task
    def deadly(x):
        if not os.path.exists("died"):
            open("died", "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return x + 1

    @workflow
    def flow():
        return deadly(first())
"""


def nerv(*words, cwd):
    command = [sys.executable, "-m", "nerv", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment(), check=False)


def test_the_commands_tell_what_a_killed_program_left_and_go_on(tmp_path):
    (tmp_path / "flow.py").write_text(textwrap.dedent(CRASHING))
    assert nerv("run", "flow.py", "--journal", "runs.db", "--execution-id", "x", "-q", cwd=tmp_path).returncode == -9
    assert "INTERRUPTED" in nerv("history", cwd=tmp_path).stdout
    assert nerv("waiting", cwd=tmp_path).stdout == "nothing waits\n"
    resumed = nerv("resume", cwd=tmp_path)  # the journal knows where the workflow is
    assert (resumed.returncode, "result: 6" in resumed.stdout) == (0, True), resumed.stderr
    shown = nerv("show", "x", cwd=tmp_path).stdout
    assert "COMPLETED" in shown
    assert "deadly" in shown
    assert nerv("fork", "x", "deadly", cwd=tmp_path).returncode == 0
    assert nerv("cancel", "x", cwd=tmp_path).returncode == 1
    assert "no execution begins with 'y'" in nerv("pause", "y", cwd=tmp_path).stderr
    assert "2 executions removed" in nerv("forget", "--keep", "0", cwd=tmp_path).stdout
    assert "no executions" in nerv("history", cwd=tmp_path).stdout
