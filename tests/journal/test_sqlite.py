"""The file: what it refuses to open and why, who may write to it, who may read it, and what is left when it can't."""

import fcntl
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from nerv import MemoryJournal, SqliteJournal, WorkflowStatus
from nerv.errors import JournalError
from nerv.eventlog import TASK_STARTED
from nerv.journal import database, lock, schema
from nerv.journal.base import Batch, Stretch
from tests.house.commands import REPOSITORY
from tests.journal.logs import EPOCH, Log, assert_helpful, prefix, same

S = WorkflowStatus
NOBODY = 65534


@pytest.fixture
def writer(path):
    """Starts a process that has the journal at `path`, and kills it afterwards."""
    started = []

    def start(what="hold"):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.journal.writer", str(path), what],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


@pytest.fixture
def anybody(tmp_path_factory):
    """A folder, and a user who isn't root, for whom permissions count."""
    before = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        if not before:
            os.chown(folder, NOBODY, -1)
            os.seteuid(NOBODY)
        try:
            yield Path(folder).resolve()
        finally:
            Path(folder).chmod(stat.S_IRWXU)
            os.seteuid(before)


def beside(path):
    """The names of the files that there are."""
    return sorted(found.name for found in path.parent.iterdir())


# ---- opening --------------------------------------------------------------------------------------------------------


def test_what_is_closed_can_be_opened_again(opened, path):
    log = Log(opened()).run()
    with pytest.raises(JournalError):
        opened()
    log.journal.close()
    assert beside(path) == ["runs.db"]
    again = opened()
    assert same(again.load("e", epoch=EPOCH), log)
    assert again.execution("e").status is S.COMPLETED


def test_one_that_was_going_on_is_interrupted_and_goes_on(opened):
    log = Log(opened())
    log.step(0)
    log.journal.close()
    log.journal = opened()
    assert [one.status for one in log.journal.unfinished()] == [S.INTERRUPTED]
    log.step(1)
    log.end()
    assert same(log.journal.load("e", epoch=EPOCH), log)
    assert log.journal.execution("e").status is S.COMPLETED


def test_a_path_of_any_kind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("plain.db", Path("p.db"), "with space.db", "odd?#%41.db", "ümlaut.db", "./dot.db"):
        with SqliteJournal(name) as journal:
            log = Log(journal).run()
        with SqliteJournal(name, read_only=True) as journal:
            assert same(journal.load("e", epoch=EPOCH), log)
        assert Path(name).is_file()
    names = [name for name in beside(tmp_path / "x") if name.endswith(".db")]
    assert names == sorted(["plain.db", "p.db", "with space.db", "odd?#%41.db", "ümlaut.db", "dot.db"])


@pytest.mark.parametrize("name", ["", ":memory:"])
def test_a_path_that_means_something_else_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(JournalError, match="MemoryJournal"):
        SqliteJournal(name)
    assert beside(tmp_path / "x") == []


def refused(path, *words, **options):
    """Opening fails, says so with these words, and leaves what there was."""
    before = {found: found.read_bytes() for found in path.parent.glob("*") if found.is_file()}
    with pytest.raises(JournalError) as caught:
        SqliteJournal(path, **options)
    assert_helpful(caught.value, str(path), *words)
    assert {found: found.read_bytes() for found in path.parent.glob("*") if found.is_file()} == before
    assert not lock.is_open(lock.real(path))


@pytest.mark.parametrize("read_only", [False, True])
def test_a_missing_folder_is_named(tmp_path, read_only):
    refused(tmp_path / "missing" / "runs.db", "there is no folder", read_only=read_only)


@pytest.mark.parametrize("read_only", [False, True])
def test_a_folder_is_no_journal(tmp_path, read_only):
    refused(tmp_path, "is a folder", read_only=read_only)


def test_what_is_to_be_read_must_be_there(path):
    refused(path, "doesn't exist", read_only=True)


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("data", [b"x", b"hello\n" * 100, b"SQLite format 3\0", b"SQLite format 2\0" + bytes(4080)])
def test_a_foreign_file_is_refused_untouched(path, data, read_only):
    path.write_bytes(data)
    refused(path, "no journal of nerv's", read_only=read_only)


@pytest.mark.parametrize("read_only", [False, True])
def test_a_foreign_database_is_refused_untouched(path, read_only):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE mine (x)")
    connection.close()
    refused(path, "another program's database", read_only=read_only)


@pytest.mark.parametrize("read_only", [False, True])
def test_a_newer_journal_is_refused_untouched(path, read_only):
    SqliteJournal(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    connection.close()
    refused(path, "newer nerv", "update nerv", read_only=read_only)


def test_a_journal_made_newer_in_its_log_only_is_refused(path):
    """The header in the file is old, but the log has one that isn't folded in yet."""
    SqliteJournal(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    with pytest.raises(JournalError, match="newer nerv"):
        SqliteJournal(path)
    connection.close()


def test_a_journal_with_other_tables_is_refused(path):
    SqliteJournal(path).close()
    connection = sqlite3.connect(path)
    connection.execute("ALTER TABLE frames ADD COLUMN mine")
    connection.close()
    with pytest.raises(JournalError, match=f"{path} is damaged: its tables"):
        SqliteJournal(path)


def test_an_empty_file_becomes_a_journal(path):
    path.touch()
    with SqliteJournal(path) as journal:
        Log(journal).run()
    assert path.stat().st_size


def test_an_empty_file_beside_its_log_is_damaged(path):
    path.touch()
    path.with_name("runs.db-wal").write_bytes(b"x" * 100)
    refused(path, "there is a log of it")


def test_a_pipe_is_no_journal(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    opened = threading.Thread(target=lambda: open(tmp_path / "pipe", "wb").close())
    opened.start()
    with pytest.raises(JournalError, match="no journal of nerv's"):
        SqliteJournal(tmp_path / "pipe", read_only=True)
    opened.join()


def test_a_making_that_was_killed_leaves_nothing_in_the_way(path):
    path.with_name("runs.db.new").write_bytes(b"half a database")
    path.with_name("runs.db.new-journal").write_bytes(b"x")
    path.with_name("runs.db.lock").write_bytes(b"999999 1\n")
    with SqliteJournal(path) as journal:
        Log(journal).run()
    assert beside(path) == ["runs.db"]


def test_a_folder_that_cannot_be_written_is_named(anybody):
    path = anybody / "runs.db"
    log = Log(SqliteJournal(path)).run()
    log.journal.close()
    anybody.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(JournalError, match="folder must be writable"):
        SqliteJournal(path)
    with pytest.raises(JournalError, match="folder must be writable"):
        SqliteJournal(anybody / "new.db")
    with SqliteJournal(path, read_only=True) as journal:
        assert same(journal.load("e", epoch=EPOCH), log)
        assert journal.execution("e").status is S.COMPLETED
    assert beside(path) == ["runs.db"]


def test_a_log_in_a_folder_that_cannot_be_written_is_read_or_refused(anybody):
    """The writer was killed, and its log is all that holds the execution: no reading passes it by."""
    path = anybody / "runs.db"
    journal = SqliteJournal(path)
    log = Log(journal)
    for name in ("runs.db", "runs.db-wal"):
        shutil.copy(anybody / name, anybody / f"copy-{name}")
    journal.close()
    anybody.chmod(stat.S_IRUSR | stat.S_IXUSR)
    copy = anybody / "copy-runs.db"
    try:
        with SqliteJournal(copy, read_only=True) as reader:
            assert same(reader.load("e", epoch=EPOCH), log)
    except JournalError as error:
        assert_helpful(error, str(copy), "permissions")


def test_a_file_that_cannot_be_read_is_named(anybody):
    path = anybody / "runs.db"
    SqliteJournal(path).close()
    path.chmod(0)
    for read_only in (False, True):
        with pytest.raises(JournalError, match="check its permissions"):
            SqliteJournal(path, read_only=read_only)
    path.chmod(stat.S_IRUSR)
    with pytest.raises(JournalError, match=f"journal {path} can't be .*permissions"):
        SqliteJournal(path)


def test_a_commit_is_on_disk_unless_it_was_said_not_to(opened):
    """What SQLite does then is its own to prove; that it was told to is ours."""
    journal = opened()
    writer = journal._database._writer
    log = Log(journal)

    def told():
        return [writer.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]

    log.step(0, sync=True)
    assert told() == ["wal", 2]
    log.step(1, sync=False)
    assert told() == ["wal", 1]
    journal.on_intent(lane_id="l", from_id="a", to_id="b", payload_type="int", payload=1)
    assert told() == ["wal", 2]
    journal.tidy()
    log.step(2, sync=False)
    journal.order("e", "cancel", {})
    assert told() == ["wal", 2]


# ---- one writer -----------------------------------------------------------------------------------------------------


def test_a_second_writer_in_the_same_process_is_refused(opened, path, tmp_path):
    journal = opened()
    (tmp_path / "link.db").symlink_to(path)
    for name in (path, str(path), tmp_path / "link.db"):
        with pytest.raises(JournalError, match=rf"{path} is open for writing in this process \({os.getpid()}\)"):
            SqliteJournal(name)
    Log(journal).run()


def test_a_second_writer_is_refused_with_the_first_ones_process(writer, path):
    process = writer()
    with pytest.raises(JournalError) as caught:
        SqliteJournal(path)
    assert_helpful(caught.value, str(path), f"process {process.pid}", "read_only=True")
    process.communicate("", timeout=30)
    with SqliteJournal(path) as journal:
        assert journal.execution("other").status is S.INTERRUPTED


def test_the_right_to_write_is_free_when_its_owner_was_killed(writer, path):
    process = writer()
    process.kill()
    process.wait()
    assert "runs.db.lock" in beside(path)
    with SqliteJournal(path) as journal:
        assert [(one.id, one.status) for one in journal.executions()] == [("other", S.INTERRUPTED)]


def test_a_child_of_the_killed_owner_does_not_hold_it(path):
    code = (
        "import os, sys, time; from nerv import SqliteJournal; journal = SqliteJournal(sys.argv[1]); pid = os.fork()\n"
        "os.write(1, b'%d\\n' % pid); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    said = {process.stdout.readline().strip(), process.stdout.readline().strip()}
    (child,) = said - {"0"}
    process.kill()
    process.wait()
    try:
        SqliteJournal(path).close()
    finally:
        os.kill(int(child), signal.SIGKILL)
        process.stdout.close()


def test_a_fork_cannot_write(opened):
    journal = opened()
    log = Log(journal)
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            log.step(0)
        except JournalError as error:
            os.write(write, str(error).encode())
        journal.close()
        os._exit(0)
    os.close(write)
    said = os.read(read, 10_000).decode()
    os.close(read)
    os.waitpid(pid, 0)
    assert f"belongs to process {os.getpid()}" in said
    log.step(0)
    assert same(journal.load("e", epoch=EPOCH), log)
    with pytest.raises(JournalError, match="in this process"):
        SqliteJournal(journal.path)


def test_one_that_nobody_closed_lets_go_when_it_is_collected(path):
    log = Log(SqliteJournal(path))
    del log.journal
    SqliteJournal(path).close()


def test_a_lock_on_a_file_that_was_taken_away_meanwhile_is_none(opened, path, monkeypatch):
    """The owner before let go of it, and took it away, after we had opened it and before we locked it."""
    lockf, name = fcntl.lockf, path.with_name("runs.db.lock")
    taken = []

    def late(descriptor, kind):
        if not taken:
            name.unlink()
        taken.append(os.fstat(descriptor).st_ino)
        lockf(descriptor, kind)

    monkeypatch.setattr(fcntl, "lockf", late)
    opened()
    assert len(taken) == 2
    assert name.stat().st_ino == taken[-1]


def test_many_processes_race_and_one_wins(path):
    """Each tries to get the right to write; the winner holds it until it has heard that all others lost."""
    code = (
        "import sys; from nerv import SqliteJournal; from nerv.errors import JournalError\n"
        "sys.stdin.readline()\n"
        "try: journal = SqliteJournal(sys.argv[1]); print('won', flush=True)\n"
        "except JournalError as error: print('lost', flush=True)\n"
        "sys.stdin.readline()"
    )
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(6)
    ]
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    said = [racer.stdout.readline().strip() for racer in racers]
    for racer in racers:
        racer.communicate("end\n")
    assert sorted(said) == ["lost"] * 5 + ["won"]
    assert beside(path) == ["runs.db"]


# ---- readers --------------------------------------------------------------------------------------------------------


def test_a_reader_sees_what_a_live_writer_has_committed(writer, path):
    process = writer("steps")
    with SqliteJournal(path, read_only=True) as reader:
        seen = 0
        for _ in range(20):
            count = int(process.stdout.readline())
            found = [event.seq for event in reader.events("other", seen)]
            assert found == [*range(seen + 1, seen + len(found) + 1)]
            seen += len(found)
            assert seen >= count
        assert reader.execution("other").status is S.RUNNING
        process.kill()
        process.wait()
        assert reader.execution("other").status is S.INTERRUPTED
        assert len(list(reader.events("other"))) >= count


def test_a_reader_tells_interrupted_from_running_beside_a_live_writer(opened, path):
    Log(opened(), "old").journal.close()
    log = Log(opened(), "new")
    with SqliteJournal(path, read_only=True) as reader:
        assert [(one.id, one.status) for one in reader.executions()] == [("old", S.INTERRUPTED), ("new", S.RUNNING)]
        log.journal.release()
        assert [one.status for one in reader.executions()] == [S.INTERRUPTED, S.INTERRUPTED]


def test_a_reader_writes_nothing(opened, path):
    journal = opened()
    Log(journal, "loose").run()
    log = Log(journal)
    with SqliteJournal(path, read_only=True) as reader:
        for write in (
            lambda: reader.write(Batch([], [Stretch("e", 2, [(TASK_STARTED, 0, 1.0, 1, None)])])),
            lambda: reader.order("e", "cancel", {}),
            lambda: reader.forget(keep=0),
            lambda: reader.discard("e"),
            lambda: reader.on_intent(lane_id="l", from_id="a", to_id="b", payload_type="int", payload=1),
        ):
            with pytest.raises(JournalError, match="read_only"):
                write()
        assert reader.tidy() is False
        assert reader.entries() == []
        assert same(reader.load("e", epoch=EPOCH), log)


def test_a_reader_never_holds_up_the_writer(opened, path, monkeypatch):
    """It stands in the middle of everything that it can read, and the writer needs no patience at all."""
    monkeypatch.setattr(database, "PATIENCE", 0.0)
    monkeypatch.setattr("nerv.journal.reading.CHUNK", 100)
    log = Log(opened(), tasks=200)
    for number in range(100):
        log.step(number)
    with SqliteJournal(path, read_only=True) as reader:
        standing = [reader.events("e") for _ in range(3)]
        for events in standing:
            next(events)
        for number in range(100, 200):
            log.step(number, "x" * 30_000)  # more than the log's limit: it is folded into the file several times
        assert path.with_name("runs.db-wal").stat().st_size < 8_000_000
        for events in standing:
            assert [event.seq for event in events] == [*range(2, len(log.records) + 1)]
    log.end()


def test_a_reader_may_be_the_last_to_leave(opened, path):
    log = Log(opened())
    reader = opened(read_only=True)
    log.run()
    log.journal.close()
    assert same(reader.load("e", epoch=EPOCH), log)
    reader.close()
    with opened() as journal:
        assert same(journal.load("e", epoch=EPOCH), log)


def test_readers_in_the_writers_process_leave_its_locks_alone(opened, path):
    """Closing any descriptor of a file drops the process's locks on it; then a stranger could take the log away."""
    log = Log(opened())
    for _ in range(3):
        with SqliteJournal(path, read_only=True) as reader:
            assert reader.execution("e").status is S.RUNNING
    code = f"""
import sqlite3
connection = sqlite3.connect({str(path)!r})
connection.execute("SELECT * FROM frames").fetchall()
print(connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone())
connection.close()
"""
    stranger = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert stranger.stdout
    assert "runs.db-wal" in beside(path)
    log.run()
    assert same(log.journal.load("e", epoch=EPOCH), log)


# ---- when it can't be written ---------------------------------------------------------------------------------------


def test_a_full_disk_fails_the_write_and_keeps_what_there_was(opened):
    journal = opened()
    log = Log(journal, tasks=2000)
    pages = journal._database.rows("PRAGMA page_count")[0][0]
    journal._database._writer.execute(f"PRAGMA max_page_count = {pages + 10}")
    with pytest.raises(JournalError) as caught:
        for number in range(2000):
            log.step(number, "x" * 1000)
    assert_helpful(caught.value, journal.path, "full", "make room")
    assert same(journal.load("e", epoch=EPOCH), log)
    with pytest.raises(JournalError, match="full"):
        log.step(1999, "x" * 9000)
    journal._database._writer.execute("PRAGMA max_page_count = 1000000")
    log.step(1999, "x" * 9000)
    assert same(journal.load("e", epoch=EPOCH), log)
    assert not any(one.damage for one in journal.check())


def test_a_limit_on_the_files_size_fails_the_write_and_keeps_what_there_was(path):
    """As a quota does: in a process of its own, whose files may not grow."""
    code = f"""
import resource, signal
from nerv import SqliteJournal
from nerv.errors import JournalError
from tests.journal.logs import EPOCH, Log, same
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
log = Log(SqliteJournal({str(path)!r}), tasks=2000)
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, resource.RLIM_INFINITY))
try:
    for number in range(2000):
        log.step(number, "x" * 1000)
except JournalError as error:
    print(error)
assert same(log.journal.load("e", epoch=EPOCH), log)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log.step(1999)
assert same(log.journal.load("e", epoch=EPOCH), log)
log.journal.close()
print(len(log.records))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    said, count = done.stdout.splitlines()
    assert str(path) in said
    with SqliteJournal(path) as journal:
        assert len(journal.load("e").records) == int(count) > 100


def test_a_lost_file_is_an_error_in_plain_words(opened, path):
    journal = opened()
    Log(journal).run()
    journal._database._writer.close()
    with pytest.raises(JournalError, match="it was closed"):
        Log(journal, "f")


def test_a_locked_database_is_named(opened, path, monkeypatch):
    monkeypatch.setattr(database, "PATIENCE", 0.0)
    journal = opened()
    stranger = sqlite3.connect(path, isolation_level=None)
    stranger.execute("BEGIN IMMEDIATE")
    with pytest.raises(JournalError, match=f"{path}.*another program keeps it locked"):
        Log(journal)
    stranger.close()
    Log(journal).run()


def test_a_clock_that_goes_backwards_changes_no_order(opened, monkeypatch):
    moments = iter(range(1000, 0, -1))
    monkeypatch.setattr(time, "time", lambda: float(next(moments)))
    journal = opened()
    log = Log(journal)
    records = [(TASK_STARTED, 0, 5.0, 1, None), (TASK_STARTED, 1, -7.0, 1, None)]
    log.write(records)
    Log(journal, "f", created_at=EPOCH - 100).end(at=-50.0)
    entries = [journal.on_intent(lane_id="l", from_id="a", to_id="b", payload_type="int", payload=n) for n in range(3)]
    journal.on_acknowledged(entries[0])
    assert [one.id for one in journal.entries()] == entries
    assert [event.seq for event in journal.events("e")] == [1, 2, 3]
    assert same(journal.load("e", epoch=EPOCH), log)
    assert [one.id for one in journal.executions()] == ["e", "f"]
    ended = journal.execution("f")
    assert ended.ended_at < ended.started_at
    assert journal.forget(keep=0) == 1


# ---- when its process is killed -------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 7, 50])
def test_what_was_committed_outlives_a_kill(writer, path, steps):
    process = writer("steps")
    for _ in range(steps):
        count = int(process.stdout.readline())
    process.kill()
    process.wait()
    with SqliteJournal(path) as journal:
        history = journal.load("other", epoch=EPOCH)
        assert len(history.records) >= count
        log = Log(MemoryJournal(), "other", tasks=(len(history.records) - 1) // 2)
        log.records[0] = (*log.records[0][:4], {"task_count": 1_000_000})
        for number in range(len(log.ids)):
            log.step(number, {"n": number})
        history.ids[:] = log.ids
        assert same(history, log)
        assert journal.execution("other").status is S.INTERRUPTED


# ---- size -----------------------------------------------------------------------------------------------------------


def test_a_completed_task_of_small_values_takes_300_bytes_at_most(opened, path):
    for durability in ("strict", "group"):
        log = Log(opened(), durability, tasks=2000)
        if durability == "strict":
            for number in range(2000):
                log.step(number, {"n": number, "ok": True}, sync=False)
        else:
            records = []
            for number in range(2000):
                records += [(TASK_STARTED, number, 1.0, 1, None), (10, number, 2.0, 1, None)]
            log.write(records, {number: {"n": number, "ok": True} for number in range(2000)})
        log.end()
        log.journal.close()
    assert path.stat().st_size / 4000 < 150


def test_a_file_that_forgets_stays_as_large_as_it_is(opened, path):
    journal = opened()
    sizes = []
    for round_ in range(30):
        for number in range(10):
            log = Log(journal, f"e{round_}-{number}", tasks=30)
            for task in range(30):
                log.step(task, "x" * 100, sync=False)
            log.end(at=float(round_))
        while journal.tidy():
            pass
        journal.forget(keep=20)
        sizes.append(journal._database.rows("PRAGMA page_count")[0][0])
    assert sizes[-1] <= max(sizes[:5]) * 1.3
    assert prefix(journal, log) == len(log.records)
