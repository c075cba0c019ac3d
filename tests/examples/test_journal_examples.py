"""The examples of the journal: the atlas is killed half-way and does what is left; corrected code goes on."""

import json
import signal
import subprocess
import sys
import textwrap
from collections import Counter

import pytest

from nerv import SqliteJournal, WorkflowStatus
from tests.house.commands import REPOSITORY, environment

SOME = ("json", "email", "logging", "html", "urllib", "importlib")

# Loaded by every Python of the test: whoever writes the journal is killed right behind the commit that brings the
# completed tasks to so many.
KILLER = """
    import os, signal
    from nerv.eventlog import TASK_COMPLETED
    from nerv.journal.sqlite import SqliteJournal

    written, write = [0], SqliteJournal.write

    def killing(journal, batch, *, sync=True):
        write(journal, batch, sync=sync)
        written[0] += sum(record[0] == TASK_COMPLETED for stretch in batch.stretches for record in stretch.records)
        if written[0] >= int(os.environ["KILL_AFTER"]):
            os.kill(os.getpid(), signal.SIGKILL)

    SqliteJournal.write = killing
"""


def atlas(folder, kill_after):
    """Run the example over a part of the library; it is killed when so many tasks are in the journal."""
    only = [word for name in SOME for word in ("--only", name)]
    command = [sys.executable, REPOSITORY / "examples" / "stdlib_atlas.py", "--journal", "atlas.db", *only]
    plain = environment()
    path = f"{folder / 'killer'}:{plain['PYTHONPATH']}"
    return subprocess.run(
        command,
        cwd=folder,
        env=plain | {"PYTHONPATH": path, "KILL_AFTER": str(kill_after)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def told(folder):
    """The atlas's events as the journal has them, and its record."""
    with SqliteJournal(folder / "atlas.db", read_only=True) as journal:
        return list(journal.events("atlas")), journal.execution("atlas")


@pytest.mark.timeout(200)
def test_an_atlas_that_is_killed_half_way_does_what_is_left(tmp_path):
    (tmp_path / "killer").mkdir()
    (tmp_path / "killer" / "sitecustomize.py").write_text(textwrap.dedent(KILLER))
    killed = atlas(tmp_path, 20)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    before, record = told(tmp_path)
    done = {event.task_id for event in before if event.type == "TASK_COMPLETED"}
    assert record.status is WorkflowStatus.INTERRUPTED
    assert len(done) >= 20
    assert not (tmp_path / "atlas.html").exists()

    resumed = atlas(tmp_path, 100_000)
    assert resumed.returncode == 0, resumed.stderr
    events, record = told(tmp_path)
    assert record.status is WorkflowStatus.COMPLETED
    after = events[len(before) :]
    assert after[0].type == "WORKFLOW_RECOVERED"
    assert not done & {event.task_id for event in after if event.type == "TASK_STARTED"}, "what was done was done again"
    completed = Counter(event.task_id for event in events if event.type == "TASK_COMPLETED")
    assert set(completed.values()) == {1}
    assert len(completed) > len(done) + 5
    assert json.loads((tmp_path / "atlas.json").read_text())["modules"]

    written = (tmp_path / "atlas.html").stat().st_mtime_ns
    again = atlas(tmp_path, 100_000)
    assert (again.returncode, again.stdout) == (0, resumed.stdout)
    assert (tmp_path / "atlas.html").stat().st_mtime_ns == written, "it had ended: nothing runs"


def test_corrected_code_goes_on_behind_what_was_read(tmp_path):
    command = [sys.executable, REPOSITORY / "examples" / "corrected.py"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60, check=True
    )
    lines = done.stdout.splitlines()
    assert lines.count("reading the library") == 1
    assert lines[1].startswith("FAILED: the docstring of ")
    assert lines[2] == "COMPLETED: ran again: parse, words"
    assert len(lines) == 8
    with SqliteJournal(tmp_path / "corrected.db", read_only=True) as journal:
        assert [known.status.name for known in journal.executions()] == ["FAILED", "COMPLETED"]
