"""The `nerv` command and fed flows that a journal keeps, whether a process runs them or none does."""

import subprocess
import sys
import textwrap

import pytest

from nerv import SqliteJournal
from tests.handshake import PATIENCE, environment, eventually

FLOW = """
    from nerv import Flow, OnSignal

    def shout(word):
        print(word.upper(), flush=True)
        return word.upper()

    words = Flow("words").triggered_by(OnSignal("word")).then(shout).gate("ask").build()
"""
CLOSE = """
    from flow import words
    from nerv import WorkflowManager

    with WorkflowManager(journal="runs.db") as manager:
        [execution] = manager.recover(words)
        execution.close()
        execution.wait()
        print(execution.status.name, execution.result)
"""
RUN = ("run", "flow.py:words", "--journal", "runs.db", "--execution-id", "x", "-q")


def nerv(*words, cwd):
    command = [sys.executable, "-m", "nerv", *words]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=environment(), check=False, timeout=3 * PATIENCE
    )


def is_there(journal):
    if not journal.exists():
        return False
    with SqliteJournal(str(journal), read_only=True) as kept:
        return kept.execution("x") is not None


@pytest.mark.timeout(180)
def test_signals_are_messages_from_any_process_and_to_none(tmp_path):
    (tmp_path / "flow.py").write_text(textwrap.dedent(FLOW))
    command = [sys.executable, "-m", "nerv", *RUN]
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True) as owner:
        eventually(lambda: is_there(tmp_path / "runs.db"))
        assert nerv("signal", "x", "word", "one", cwd=tmp_path).returncode == 0
        assert owner.stdout.readline() == "ONE\n"
        owner.kill()
    assert nerv("signal", "x", "word", "two", cwd=tmp_path).returncode == 0  # nobody runs it
    history = nerv("history", cwd=tmp_path).stdout
    assert "INTERRUPTED" in history
    shown = nerv("show", "x", cwd=tmp_path).stdout
    assert shown.count("TASKS_ADDED") == 1
    assert "message 'one'" in shown
    with subprocess.Popen(
        [sys.executable, "-m", "nerv", "resume"], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout.readline() == "TWO\n"
        owner.kill()
    for gate in ("ask[0]", "ask[1]"):
        assert nerv("signal", "x", gate, "true", cwd=tmp_path).returncode == 0
    waiting = nerv("waiting", cwd=tmp_path).stdout
    assert "ask[0]" in waiting
    assert nerv("signal", "x", "no more messages", "2", cwd=tmp_path).returncode == 0  # a signal like any other
    refused = nerv("signal", "x", "messages/closed", "2", cwd=tmp_path)  # what close() sends
    assert (refused.returncode, "call its execution's close()" in refused.stderr) == (2, True)
    (tmp_path / "close.py").write_text(textwrap.dedent(CLOSE))
    closed = subprocess.run(
        [sys.executable, "close.py"], capture_output=True, text=True, cwd=tmp_path, env=environment(), check=False
    )
    assert (closed.returncode, closed.stdout.splitlines()[-1]) == (0, "COMPLETED 2"), closed.stderr
    assert nerv("show", "x", cwd=tmp_path).stdout.count("TASKS_ADDED") == 2
    assert "send it the messages" in nerv("retry", "x", cwd=tmp_path).stderr
    assert "1 executions removed" in nerv("forget", "--keep", "0", cwd=tmp_path).stdout
