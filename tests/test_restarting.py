"""Restart in place: a program takes its own place, goes on where it was, and nothing is lost or done twice."""

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

from nerv import (
    ConfigError,
    JournalError,
    Output,
    RestartOrchestrator,
    SqliteJournal,
    TaskDef,
    Workflow,
    WorkflowManager,
    WorkflowStatus,
    run,
)
from nerv.cli import main
from nerv.journal.base import Batch, Fact
from nerv.restarting import Restarting, RestartRequested, counted
from tests.handshake import PATIENCE, eventually, reached
from tests.house.commands import environment

STEPS = 120
MARKS = (30, 70)
"""The steps after which the signal is sent."""

# Each step says so in a file: once it is called, and by which boot of the program.
CHAIN = f"""
    import os, time
    from pathlib import Path
    from nerv import Output, TaskDef, Workflow

    def step(ctx, before):
        with open("steps.log", "a") as log:
            log.write(f"{{ctx.task_id}} {{os.getpid()}}\\n")
        time.sleep(0.005)
        return before + 1

    tasks = [TaskDef("s0", step, args=(0,), pool=POOL)]
    tasks += [TaskDef(f"s{{n}}", step, args=(Output(f"s{{n - 1}}"),), pool=POOL) for n in range(1, {STEPS})]
    flow = Workflow("chain", tasks)
    with open("boots.log", "a") as log:
        log.write("boot\\n")
"""

ONE = "from nerv import TaskDef, Workflow; flow = Workflow('one', [TaskDef('a', int)])"


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


@contextmanager
def running(folder: Path, pool: str, *options: str):
    """`nerv run flow.py` in a folder, reloadable."""
    (folder / "flow.py").write_text(textwrap.dedent(CHAIN).replace("POOL", repr(pool)))
    command = [sys.executable, "-m", "nerv", "run", "flow.py", "--journal", "runs.db", "--reload-on", "SIGHUP"]
    process = subprocess.Popen(
        [*command, *options], cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


STRICT = ("--durability", "strict", "--execution-id", "mine")


@pytest.mark.parametrize(("pool", "options"), [("thread", ()), ("thread", STRICT), ("inline", ())])
def test_a_chain_is_restarted_twice_and_every_step_runs_once(tmp_path, pool, options):
    with running(tmp_path, pool, "--json", *options) as process:
        for boots, mark in enumerate(MARKS, start=1):
            eventually(lambda mark=mark: len(lines(tmp_path / "steps.log")) >= mark or process.poll() is not None)
            assert process.poll() is None, process.communicate()
            process.send_signal(signal.SIGHUP)
            eventually(lambda boots=boots: len(lines(tmp_path / "boots.log")) > boots or process.poll() is not None)
        said, complaints = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, complaints
    steps = [line.split() for line in lines(tmp_path / "steps.log")]
    assert [step for step, _ in steps] == [f"s{n}" for n in range(STEPS)]
    assert {int(pid) for _, pid in steps} == {process.pid}, "exec keeps the process id"
    assert len(lines(tmp_path / "boots.log")) == 1 + len(MARKS)
    assert f'"result": {STEPS}' in said
    with SqliteJournal(tmp_path / "runs.db", read_only=True) as journal:
        (record,) = journal.executions()
        counts = Counter(event.type for event in journal.events(record.id))
        assert record.status is WorkflowStatus.COMPLETED
        assert (counts["TASK_STARTED"], counts["TASK_COMPLETED"]) == (STEPS, STEPS)
        assert counts["WORKFLOW_RECOVERED"] == len(MARKS)


def test_a_program_that_is_restarted_when_all_is_done_gives_the_result_all_the_same(tmp_path):
    with running(tmp_path, "thread", "--json") as process:
        eventually(lambda: len(lines(tmp_path / "steps.log")) >= STEPS or process.poll() is not None)
        process.send_signal(signal.SIGHUP)
        said, complaints = process.communicate(timeout=PATIENCE)
    assert process.returncode in (0, -signal.SIGHUP), complaints  # the signal may find it on its way out
    assert len(lines(tmp_path / "steps.log")) == STEPS
    assert process.returncode or f'"result": {STEPS}' in said


def test_a_signal_that_this_system_does_not_have(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "asked_on_what.py").write_text(ONE)
    with pytest.raises(SystemExit, match="2"):
        main(["run", "asked_on_what.py", "--journal", "runs.db", "--reload-on", "SIGHOP"])
    assert "no signal 'SIGHOP' (did you mean 'SIGHUP'" in capsys.readouterr().err


def test_reloading_needs_a_journal(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "asked_without.py").write_text(ONE)
    with pytest.raises(SystemExit, match="2"):
        main(["run", "asked_without.py", "--reload-on", "SIGHUP"])
    assert "--reload-on needs --journal FILE" in capsys.readouterr().err
    with WorkflowManager() as manager, pytest.raises(JournalError, match="without a journal has nothing to go on from"):
        RestartOrchestrator(manager)


# ---- in one process: what `restart` does, but for the exec ----------------------------------------------------------


class Chain:
    """A chain of three whose middle waits until it is let go."""

    def __init__(self):
        self.began, self.may_go, self.calls = threading.Event(), threading.Event(), []
        self.flow = Workflow(
            "three",
            [
                TaskDef("a", self.a),
                TaskDef("b", self.b, args=(Output("a"),)),
                TaskDef("c", self.c, args=(Output("b"),)),
            ],
        )

    def a(self):
        self.calls.append("a")
        return 1

    def b(self, n):
        self.calls.append("b")
        self.began.set()
        reached(self.may_go)
        return n + 1

    def c(self, n):
        self.calls.append("c")
        return n + 1


@pytest.fixture
def stopped(tmp_path):
    """A journal that was left by `stop` while "b" ran: the file, the chain, the execution's id, what was counted."""
    file, chain = tmp_path / "runs.db", Chain()
    manager = WorkflowManager(journal=file)
    execution = manager.start(chain.flow)
    reached(chain.began)
    orchestrator = RestartOrchestrator(manager)
    found = {}
    stopping = threading.Thread(target=lambda: found.update(orchestrator.stop()))
    stopping.start()
    eventually(lambda: manager.engine.draining)
    chain.may_go.set()
    stopping.join()
    return file, chain, execution, found


def test_what_runs_is_given_time_to_end_and_nothing_new_starts(stopped):
    _, chain, execution, _ = stopped
    assert chain.calls == ["a", "b"]
    assert execution.status is WorkflowStatus.INTERRUPTED


def test_the_next_program_goes_on_and_verifies_before_or_after_it_has_recovered(stopped):
    file, chain, execution, counts = stopped
    assert counts == {execution.id: 5}
    with WorkflowManager(journal=file) as manager:
        (found,) = manager.recover([chain.flow])
        found.wait()
        assert RestartOrchestrator(manager).verify() == counts
        assert RestartOrchestrator(manager).verify() == {}, "it was told once"
    assert chain.calls == ["a", "b", "c"]
    assert found["c"] == 3


def test_a_journal_that_has_lost_events_is_refused(stopped):
    file, _, execution, _ = stopped
    with sqlite3.connect(file) as database:
        database.execute("DELETE FROM frames WHERE key = (SELECT max(key) FROM frames)")
    database.close()
    with SqliteJournal(file) as journal:
        left = counted(journal)[execution.id]
        assert left < 5
    lost = rf"'{execution.id}' \({left} of 5 events\)"
    with WorkflowManager(journal=file) as manager, pytest.raises(JournalError, match=lost):
        RestartOrchestrator(manager).verify()


def test_an_execution_that_is_gone_is_missed(stopped):
    file, _, execution, _ = stopped
    with WorkflowManager(journal=file) as manager:
        manager.journal.discard(execution.id)
        with pytest.raises(JournalError, match=r"\(0 of 5 events\)"):
            RestartOrchestrator(manager).verify()


def test_the_command_that_takes_the_programs_place_is_this_one_or_what_is_said(tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr(os, "execv", lambda *args: called.append(args))
    with WorkflowManager(journal=tmp_path / "runs.db") as manager:
        RestartOrchestrator(manager).replace()
        RestartOrchestrator(manager, command=["prog", "x"]).restart()
        assert manager.engine.closed
    assert called == [(sys.executable, [sys.executable, *sys.orig_argv[1:]]), ("prog", ["prog", "x"])]


def test_who_asks_before_the_execution_was_started_is_served_afterwards(tmp_path):
    chain = Chain()
    manager = WorkflowManager(journal=tmp_path / "runs.db")
    orchestrator = RestartOrchestrator(manager)
    chain.may_go.set()
    with Restarting("SIGUSR1", orchestrator) as restarting:
        os.kill(os.getpid(), signal.SIGUSR1)
        execution = manager.start(chain.flow)
        restarting.attend()
        execution.wait()
        with pytest.raises(RestartRequested):
            restarting.restart_if_asked()
    assert signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1}) == {signal.SIGUSR1}, "it was held back"
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    execution = run(chain.flow, journal=tmp_path / "runs.db", execution_id=execution.id)
    assert execution["c"] == 3
    assert chain.calls == ["a", "b", "c"]


def test_what_goes_wrong_while_it_stops_is_raised_where_it_waits(tmp_path, monkeypatch):
    manager = WorkflowManager(journal=tmp_path / "runs.db")
    orchestrator = RestartOrchestrator(manager)
    monkeypatch.setattr(orchestrator, "stop", lambda: 1 / 0)
    with Restarting("SIGUSR1", orchestrator) as restarting:
        os.kill(os.getpid(), signal.SIGUSR1)
        restarting.attend()
        with pytest.raises(ZeroDivisionError):
            restarting.restart_if_asked()
    assert manager.engine.closed


def test_restarting_on_a_signal_that_is_not_there(tmp_path):
    missing = pytest.raises(ConfigError, match="this system has no signal 'SIGWHAT'")
    with WorkflowManager(journal=tmp_path / "runs.db") as manager, missing:
        Restarting("SIGWHAT", RestartOrchestrator(manager))


def test_a_restart_leaves_no_counts_when_it_has_nothing_unfinished(tmp_path):
    with WorkflowManager(journal=tmp_path / "runs.db") as manager:
        manager.start(Workflow("one", [TaskDef("a", int)])).wait()
        assert RestartOrchestrator(manager).stop() == {}
    with WorkflowManager(journal=tmp_path / "runs.db") as manager:
        manager.journal.write(Batch(facts=[Fact("x", "at", time.time())]))
        assert RestartOrchestrator(manager).verify() == {}
