"""A file that was cut or changed anywhere gives the beginning of what was written, or a JournalError that names it.

Never a wrong result, never an error of SQLite's or Python's own. Whatever can be asked of a journal is asked of each
damaged one, and each answer is compared with what was written.
"""

import itertools
import random
import shutil
import sqlite3
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from nerv import SqliteJournal, WorkflowStatus
from nerv.errors import JournalError, NervError
from nerv.journal.base import Fact
from tests.journal.logs import Log, assert_helpful, prefix

S = WorkflowStatus
PAGE = 4096
FRAME = PAGE + 24  # a page in the log
FACTS = {"cursor": {"page": (3,)}, "text": "x" * 50}


class Written:
    """What was written: logs, and a copy of the files as a killed process leaves them."""

    def __init__(self, folder, state):
        self.folder = folder
        self.turns = itertools.count()  # what takes longer is tried on some copies only
        path = folder / "runs.db"
        journal = SqliteJournal(path)
        writer = journal._database._writer
        if state == "log":
            writer.execute("PRAGMA wal_autocheckpoint = 0")
        self.logs = [Log(journal, "done", tasks=40).run(), Log(journal, "failed", tasks=5).failing()]
        while journal.tidy():
            continue
        reader = sqlite3.connect(path, isolation_level=None)
        going = Log(journal, "going", tasks=60)
        self.logs.append(going)
        for number in range(30):
            going.step(number, {"n": number, "text": "x" * 100}, claims=[number + 1])
        if state == "folded":  # the log was folded into the file up to here, and goes on
            reader.execute("BEGIN").execute("SELECT * FROM frames").fetchone()
            writer.execute("PRAGMA wal_checkpoint(PASSIVE)")
        for number in range(30, 60):
            going.step(number, (number,), facts=[Fact("going", name, value) for name, value in FACTS.items()])
        journal.order("going", "signal", {"name": "go"})
        self.letter = journal.on_intent(lane_id="l", from_id="a", to_id="b", payload_type="int", payload=7)
        self.logs.append(Log(journal, "late", tasks=9).run())
        if state == "whole":
            journal.close()
        elif state == "folded":
            reader.execute("COMMIT")
            reader.execute("BEGIN").execute("SELECT * FROM frames").fetchone()
            writer.execute("PRAGMA wal_checkpoint(PASSIVE)")  # all of it, but the log isn't begun anew
        self.files = {
            name: (folder / name).read_bytes() for name in ("runs.db", "runs.db-wal") if (folder / name).exists()
        }
        reader.close()
        journal.close()

    def copy(self, where, name=None, data=b""):
        """The files in a folder of their own, one of them changed."""
        shutil.rmtree(where, ignore_errors=True)
        where.mkdir()
        for known, content in self.files.items():
            (where / known).write_bytes(data if known == name else content)
        return where / "runs.db"


@pytest.fixture
def copy_path():
    """A folder to copy to, in memory if there is such a place: a thousand copies are written."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder).resolve() / "copy"


@pytest.fixture(scope="module", params=["whole", "log", "folded"])
def written(request, tmp_path_factory):
    """A journal that was closed; one all in its log; one whose log has been folded into the file, but is there yet."""
    return Written(tmp_path_factory.mktemp(request.param), request.param)


def answer(path, ask):
    """What a journal answers, None if it says what is wrong with it."""
    try:
        return ask()
    except NervError as error:
        assert_helpful(error, str(path))
        return None


def examine(path, written):
    """Ask everything; the result is how many records were readable, None if not even opening went well."""
    try:
        journal = SqliteJournal(path)
    except JournalError as error:
        assert_helpful(error, str(path))
        read_only(path, written)
        return None
    with journal:
        count = asked(journal, path, written)
        if not next(written.turns) % 8:
            answer(path, lambda: Log(journal, "more").run())
            for log in written.logs:
                answer(path, lambda log=log: journal.discard(log.id))
    return count


def read_only(path, written):
    """What can't be opened for writing may be open for reading."""
    try:
        journal = SqliteJournal(path, read_only=True)
    except JournalError as error:
        assert_helpful(error, str(path))
        return
    with journal:
        asked(journal, path, written)


def asked(journal, path, written):
    ends = {"done": S.COMPLETED, "failed": S.FAILED, "late": S.COMPLETED}
    count = 0
    for one in answer(path, journal.executions) or []:
        assert one.workflow_name == "wf"
        assert one.status in {ends.get(one.id, S.INTERRUPTED), S.INTERRUPTED}
    for log in written.logs:
        events = answer(path, lambda log=log: [(event.seq, event.task_id) for event in journal.events(log.id)])
        if events is not None:
            ids = [None if record[1] < 0 else log.ids[record[1]] for record in log.records]
            assert events == list(enumerate(ids[: len(events)], start=1))
        found = prefix(journal, log)
        count += found or 0
        one = answer(path, lambda log=log: journal.execution(log.id))
        if one is not None and one.status.is_final:
            assert found in {None, len(log.records)}
    facts = answer(path, lambda: dict(journal.facts("going")))
    assert facts is None or facts.items() <= FACTS.items() or not facts
    for delivery in answer(path, journal.entries) or []:
        assert (delivery.id, delivery.payload, delivery.lane_id) == (written.letter, 7, "l")
    for finding in answer(path, journal.check) or []:
        assert finding.damage or finding.events in {
            0,
            *next(log.commits for log in written.logs if log.id == finding.id),
        }
    return count


def test_undamaged_it_is_whole(written, copy_path):
    path = written.copy(copy_path)
    assert examine(path, written) == sum(len(log.records) for log in written.logs)


def test_cut_at_any_page_and_near_it(written, copy_path):
    found = Counter()
    for name, content in written.files.items():
        step = PAGE if name == "runs.db" else FRAME
        edges = range(0 if name == "runs.db" else 32, len(content), step)
        offsets = [(-1, 1), (0, 100)]
        cuts = {edge + offset for number, edge in enumerate(edges) for offset in offsets[number % 2]}
        for cut in sorted(cuts | {0, 1, 16, 99, 100, 101}):
            if 0 <= cut < len(content):
                found[examine(written.copy(copy_path, name, content[:cut]), written)] += 1
    assert found.total() > 20
    assert found[None], "some cuts can't be opened"
    assert len(written.files) == 1 or len(found) > 50, "cuts of the log give prefixes of every length"


def pages(name, content):
    """Where pages begin: all of the file, some of the log."""
    return range(0, len(content), PAGE if name == "runs.db" else 7 * FRAME)


def flipped(content, places):
    data = bytearray(content)
    for place, bit in places:
        data[place] ^= 1 << bit
    return bytes(data)


def test_flipped_bits(written, copy_path):
    chance = random.Random(7)
    for name, content in written.files.items():
        for page in pages(name, content):
            for place in (page, page + 3, page + 8, page + chance.randrange(100), page + chance.randrange(PAGE)):
                if place < len(content):
                    data = flipped(content, [(place, chance.randrange(8))])
                    examine(written.copy(copy_path, name, data), written)


def test_pages_of_rubbish_of_nothing_and_of_another_page(written, copy_path):
    chance = random.Random(8)
    for name, content in written.files.items():
        for page in pages(name, content)[:-1]:
            other = chance.randrange(len(content) // PAGE) * PAGE
            for new in (bytes(PAGE), chance.randbytes(PAGE), content[other : other + PAGE]):
                data = content[:page] + new + content[page + PAGE :]
                examine(written.copy(copy_path, name, data), written)


def test_text_that_was_changed_is_found_out(written, copy_path):
    """Changes that SQLite can't see, of names, numbers and results, wherever they stand."""
    for name, content in written.files.items():
        for word in (
            b"task-1",
            b"going",
            b"done",
            b"COMPLETED",
            b"FAILED",
            b"wf",
            b"cursor",
            b"text",
            b"xxxx",
            b"name",
        ):
            place = content.find(word)
            while place >= 0:
                data = flipped(content, [(place, 0)])
                examine(written.copy(copy_path, name, data), written)
                place = content.find(word, place + PAGE if name == "runs.db" else place + 5 * FRAME)


def test_a_log_without_its_file_and_a_file_without_its_log(written, copy_path):
    path = written.copy(copy_path)
    path.unlink()
    if "runs.db-wal" in written.files:
        with pytest.raises(JournalError, match=r"log of it"):
            SqliteJournal(path)
    path = written.copy(copy_path)
    path.with_name("runs.db-wal").unlink(missing_ok=True)
    examine(path, written)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_every_thirteenth_byte(written, copy_path):
    start = random.randrange(13)
    print("from byte", start)
    for name, content in written.files.items():
        for place in range(start, len(content), 13):
            examine(written.copy(copy_path, name, flipped(content, [(place, place % 8)])), written)


# ---- what opening verifies, and what reading does -------------------------------------------------------------------


def damage(path, name, column="body"):
    """Change one byte of one execution's third frame, without SQLite noticing."""
    connection = sqlite3.connect(path)
    ((number,),) = connection.execute("SELECT number FROM executions WHERE id = ?", (name,))
    ((key, body),) = connection.execute(
        "SELECT key, body FROM frames WHERE key > ? ORDER BY key LIMIT 1", ((number << 32) + 2,)
    )
    body = body[:-1] + bytes([body[-1] ^ 1])
    connection.execute("UPDATE frames SET body = ? WHERE key = ?", (body, key))
    connection.commit()
    connection.close()


def two_logs(path):
    with SqliteJournal(path) as journal:
        ended, going = Log(journal, "ended", tasks=9), Log(journal, "going", tasks=9)
        for number in range(5):
            ended.step(number)
            going.step(number)
        journal.release()
    return ended, going


def test_opening_verifies_what_has_not_ended(path):
    _, going = two_logs(path)
    damage(path, "going")
    with pytest.raises(JournalError) as caught:
        SqliteJournal(path)
    assert_helpful(caught.value, str(path), "execution 'going' is damaged", "nerv journal check", "copy")
    with SqliteJournal(path, read_only=True) as reader:
        assert [one.id for one in reader.executions()] == ["ended", "going"]
        assert prefix(reader, going) is None
        assert [bool(one.damage) for one in reader.check()] == [False, True]
        assert len(list(reader.events("ended"))) == 11


def test_reading_verifies_what_has_ended(path):
    with SqliteJournal(path) as journal:
        log = Log(journal, "ended", tasks=9)
        for number in range(9):
            log.step(number)
        other = Log(journal, "other").run()
        log.end()
        journal._finish = lambda: None  # unpacked
    damage(path, "ended")
    with SqliteJournal(path) as journal:
        assert prefix(journal, log) is None
        assert prefix(journal, other) == len(other.records)
        with pytest.raises(JournalError, match="'ended' is damaged"):
            list(journal.events("ended"))
        assert {one.id: bool(one.damage) for one in journal.check()} == {"ended": True, "other": False}
        assert journal.discard("ended")
        assert not [one for one in journal.check() if one.damage]


@pytest.mark.parametrize("columns", ["first_seq = 9", "span = 2", "count = 3", "key = key + 100"])
def test_a_frame_that_says_something_else_of_itself_is_found_out(path, columns):
    two_logs(path)
    connection = sqlite3.connect(path)
    connection.execute(f"UPDATE frames SET {columns} WHERE key = (SELECT max(key) FROM frames)")
    connection.commit()
    connection.close()
    with pytest.raises(JournalError, match="'going' is damaged"):
        SqliteJournal(path)


def test_frames_in_each_others_place_are_found_out(path):
    two_logs(path)
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT key, body, checksum FROM frames ORDER BY key DESC LIMIT 2").fetchall()
    for (key, *_), (_, *other) in zip(rows, reversed(rows), strict=True):
        connection.execute("UPDATE frames SET body = ?, checksum = ? WHERE key = ?", (*other, key))
    connection.commit()
    connection.close()
    with pytest.raises(JournalError, match="'going' is damaged"):
        SqliteJournal(path)


def test_a_missing_frame_is_found_out(path):
    log, _ = two_logs(path)
    connection = sqlite3.connect(path)
    ((number,),) = connection.execute("SELECT number FROM executions WHERE id = 'going'")
    connection.execute("DELETE FROM frames WHERE key = ?", ((number << 32) + 3,))
    connection.commit()
    connection.close()
    with pytest.raises(JournalError, match=r"'going' is damaged.*frame 3 is missing"):
        SqliteJournal(path)
    assert log.records


def test_a_missing_end_is_found_out(path):
    with SqliteJournal(path) as journal:
        Log(journal).run()
        journal._finish = lambda: None
    connection = sqlite3.connect(path)
    connection.execute("DELETE FROM frames WHERE key = (SELECT max(key) FROM frames)")
    connection.commit()
    connection.close()
    with SqliteJournal(path) as journal:
        with pytest.raises(JournalError, match="'e' is damaged"):
            journal.load("e")
        assert journal.check()[0].damage


def test_frames_of_no_execution_are_found_out(path):
    with SqliteJournal(path) as journal:
        Log(journal).run()
    connection = sqlite3.connect(path)
    connection.execute("DELETE FROM executions")
    connection.commit()
    connection.close()
    with SqliteJournal(path) as journal:
        (finding,) = journal.check()
        assert finding.id is None
        assert "frames of no execution" in finding.damage
