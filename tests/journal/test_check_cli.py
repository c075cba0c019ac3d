"""`nerv journal check`: what it says of whole and damaged journals, and how it ends."""

import json
import pickle
import sqlite3

import pytest

from nerv import SqliteJournal
from nerv.cli import console, main
from nerv.eventlog import CODE_OF, TASK_COMPLETED, TASK_STARTED
from nerv.events import EventType
from tests.journal.logs import EPOCH, Log
from tests.journal.test_damage import damage

WAITING, RETRYING = CODE_OF[EventType.TASK_WAITING], CODE_OF[EventType.TASK_RETRYING]
PROGRESS, ADDED = CODE_OF[EventType.TASK_PROGRESS], CODE_OF[EventType.TASKS_ADDED]


@pytest.fixture
def nerv(capsys):
    """Runs a command; gives its exit code, what it printed and what it complained."""

    def run(*words):
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    return run


def test_a_whole_journal(nerv, path):
    with SqliteJournal(path) as journal:
        Log(journal, "nightly-1").run()
        Log(journal, "nightly-2").failing()
    code, out, err = nerv("journal", "check", path)
    assert (code, err) == (console.COMPLETED, "")
    first, second, last = out.splitlines()
    assert first.startswith("nightly-1: wf, COMPLETED, 8 events, ")
    assert second.startswith("nightly-2: wf, FAILED, 4 events, ")
    assert last == "2 executions, all whole"


class Approval:
    def __reduce__(self):
        return pickle.loads, (b"unpickled",)


def waiting(journal):
    log = Log(journal, "order-7", tasks=20)
    log.write(
        [
            (TASK_STARTED, 0, 1.0, 1, None),
            (TASK_COMPLETED, 0, 2.0, 1, None),
            (TASK_STARTED, 1, 3.0, 1, None),
            (PROGRESS, 1, 3.0, 1, {"done": 1}),
            (WAITING, 2, 4.0, 1, {"signal": "approve", "prompt": "Ship it?", "ticket": Approval()}),
            (TASK_STARTED, 3, 5.0, 1, None),
            (RETRYING, 3, 6.0, 1, {"error": ValueError("no"), "due": EPOCH}),
        ]
    )
    return log


def test_what_it_waits_for(nerv, path):
    with SqliteJournal(path) as journal:
        log = waiting(journal)
        code, out, _ = nerv("journal", "check", path)
        assert code == console.COMPLETED
        assert "order-7: wf, RUNNING, 8 events" in out
        assert "    running: task-1\n" in out
        assert "waiting: task-2 (signal 'approve', prompt 'Ship it?', ticket " in out
        assert "Approval, " in out
        assert "waiting: task-3 (error ValueError, " in out
        assert "due 1970-01-1" in out
        for number in range(4, 20):
            log.write([(WAITING, number, 9.0, 0, None)])
    _, out, _ = nerv("journal", "check", path)
    assert "order-7: wf, INTERRUPTED" in out
    assert "waiting: 13 more" in out


def test_who_adds_tasks_goes_on_running_or_waiting(nerv, path):
    with SqliteJournal(path) as journal:
        log = Log(journal, "grows", tasks=2)
        log.write([(TASK_STARTED, 0, 1.0, 1, None), (WAITING, 1, 1.0, 1, {"reason": "messages"})])
        log.write([(ADDED, 0, 2.0, 1, {"ids": []}), (ADDED, 1, 2.0, 1, {"ids": []})])
        _, out, _ = nerv("journal", "check", path)
    assert "    running: task-0\n" in out
    assert "    waiting: task-1 (reason 'messages')\n" in out


def test_as_json(nerv, path):
    with SqliteJournal(path) as journal:
        waiting(journal)
        Log(journal, "done").run()
    code, out, _ = nerv("journal", "check", path, "--json")
    first, second = json.loads(out)
    assert code == console.COMPLETED
    assert (first["id"], first["status"], first["events"], first["damage"]) == ("order-7", "INTERRUPTED", 8, None)
    assert [*first["running"]] == ["task-1"]
    assert [*first["waiting"]] == ["task-2", "task-3"]
    assert (second["status"], second["workflow"], second["running"]) == ("COMPLETED", "wf", {})


def test_a_damaged_execution_is_named_and_can_be_discarded(nerv, path):
    with SqliteJournal(path) as journal:
        for name in ("a", "b"):
            log = Log(journal, name, tasks=5)
            for number in range(5):
                log.step(number)
    damage(path, "b")
    code, out, _ = nerv("journal", "check", path)
    assert code == console.FAILED
    assert "b: wf, DAMAGED, 3 events" in out
    assert "    damaged: frame 3 isn't what was written\n" in out
    assert out.endswith("2 executions, 1 of them damaged\n")
    code, _, err = nerv("journal", "check", path, "--discard", "c")
    assert (code, "holds no execution 'c'" in err) == (console.REFUSED, True)
    code, _, err = nerv("journal", "check", path, "--discard", "b", "--discard", "a")
    assert (code, "'a' isn't damaged, so it stays" in err) == (console.REFUSED, True)
    code, out, _ = nerv("journal", "check", path, "--discard", "b")
    assert code == console.COMPLETED
    assert out.endswith("1 execution, all whole\n")
    with SqliteJournal(path) as journal:
        assert [one.id for one in journal.executions()] == ["a"]


def test_a_damaged_rest_is_named(nerv, path):
    with SqliteJournal(path) as journal:
        Log(journal, "a").run()
        journal.on_intent(lane_id="l", from_id="a", to_id="b", payload_type="int", payload=7)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE deliveries SET lane = 'other'")
    connection.commit()
    connection.close()
    code, out, _ = nerv("journal", "check", path)
    assert code == console.FAILED
    assert "the file: DAMAGED: " in out
    assert "delivery 1 isn't what was written" in out


def test_what_is_no_journal_is_refused(nerv, path):
    code, out, err = nerv("journal", "check", path)
    assert (code, out) == (console.REFUSED, "")
    assert err == f"nerv: journal {path} doesn't exist: nothing can be read from it\n"
    assert not path.exists()
    code, _, err = nerv("journal", "check", path, "--discard", "a")
    assert (code, path.exists()) == (console.REFUSED, False)
