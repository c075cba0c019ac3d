"""Where cached results are kept: in memory, and in a file that processes share."""

import logging
import multiprocessing
import pickle
import sqlite3
import sys
import threading

import psutil
import pytest

from nerv import ConfigError
from nerv.caching import sqlite
from nerv.caching.sqlite import SqliteStore
from nerv.caching.stores import MISS, Entry, MemoryStore
from tests.house.commands import REPOSITORY

FOREVER = Entry("shop.price", None)


class Contract:
    """What every store does."""

    @pytest.fixture
    def store(self, tmp_path):
        raise NotImplementedError

    def test_what_was_kept_is_there(self, store):
        assert store.get("k", None, 10.0) is MISS
        store.put("k", [1, "x"], FOREVER, 10.0)
        assert store.get("k", None, 1e9) == [1, "x"]
        assert store.get("other", None, 10.0) is MISS

    def test_none_is_a_result(self, store):
        store.put("k", None, FOREVER, 10.0)
        assert store.get("k", None, 10.0) is None

    def test_the_later_result_stays(self, store):
        store.put("k", 1, FOREVER, 10.0)
        store.put("k", 2, FOREVER, 11.0)
        assert store.get("k", 5.0, 15.5) == 2

    def test_a_result_is_good_for_less_than_its_ttl(self, store):
        store.put("k", 1, Entry("f", 5.0), 100.0)
        assert store.get("k", 5.0, 104.999) == 1
        assert store.get("k", 5.0, 105.0) is MISS

    def test_whoever_asks_says_how_old_a_result_may_be(self, store):
        store.put("k", 1, FOREVER, 100.0)
        assert store.get("k", 1.0, 102.0) is MISS
        assert store.get("k", 5.0, 102.0) == 1
        assert store.get("k", None, 102.0) == 1

    def test_a_clock_that_was_put_back_does_no_harm(self, store):
        store.put("k", 1, Entry("f", 5.0), 100.0)
        assert store.get("k", 5.0, 50.0) == 1

    def test_many_threads_may_use_it(self, store):
        wrong = []

        def use(mine):
            for i in range(50):
                store.put(f"{i % 7}", (i % 7, mine), FOREVER, 1.0)
                found = store.get(f"{(i + 1) % 7}", None, 1.0)
                if found is not MISS and found[0] != (i + 1) % 7:
                    wrong.append(found)

        threads = [threading.Thread(target=use, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        assert all(store.get(f"{i}", None, 1.0)[0] == i for i in range(7))

    def test_after_closing_nothing_is_kept_and_nothing_is_raised(self, store):
        store.put("k", 1, FOREVER, 1.0)
        store.close()
        assert store.get("k", None, 1.0) is MISS
        store.put("k", 2, FOREVER, 1.0)
        store.close()


class TestMemory(Contract):
    @pytest.fixture
    def store(self):
        return MemoryStore()

    def test_results_are_passed_by_reference(self, store):
        value = threading.Lock()
        store.put("k", value, FOREVER, 1.0)
        assert store.get("k", None, 1.0) is value

    def test_it_is_bounded_and_drops_what_was_asked_for_longest_ago(self):
        store = MemoryStore(most=3)
        for name in "abc":
            store.put(name, name, FOREVER, 1.0)
        assert store.get("a", None, 1.0) == "a"
        store.put("d", "d", FOREVER, 1.0)
        assert [store.get(name, None, 1.0) is MISS for name in "abcd"] == [False, True, False, False]

    def test_a_result_may_use_the_store_when_it_is_dropped(self):
        store = MemoryStore(most=1)
        seen = []

        class Last:
            def __del__(self):
                seen.append(store.get("b", None, 1.0))

        store.put("a", Last(), FOREVER, 1.0)
        store.put("b", 2, FOREVER, 1.0)
        assert seen == [2]
        store.put("b", Last(), FOREVER, 1.0)
        store.put("b", 3, FOREVER, 1.0)
        assert seen == [2, 3]


class TestSqlite(Contract):
    @pytest.fixture
    def path(self, tmp_path):
        return tmp_path / "cache.db"

    @pytest.fixture
    def store(self, path):
        store = SqliteStore(str(path))
        yield store
        store.close()

    def test_a_file_outlives_who_made_it(self, store, path):
        store.put("k", {"a": 1}, FOREVER, 1.0)
        store.close()
        again = SqliteStore(str(path))
        assert again.get("k", None, 1.0) == {"a": 1}
        again.close()

    def test_the_file_is_in_wal_mode_and_says_whose_it_is(self, store, path):
        with sqlite3.connect(path) as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        connection.close()
        assert path.read_bytes()[68:72] == b"nvca"

    def test_what_pickle_cant_do_cloudpickle_may(self, store):
        store.put("k", lambda: 7, FOREVER, 1.0)
        assert store.get("k", None, 1.0)() == 7

    def test_a_result_that_cant_be_pickled_is_said_once_for_its_function(self, store, caplog):
        for key in "ab":
            store.put(key, threading.Lock(), FOREVER, 1.0)
            assert store.get(key, None, 1.0) is MISS
        store.put("c", threading.Lock(), Entry("shop.other", None), 1.0)
        assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
        assert "a result of shop.price can't be kept in it: TypeError" in caplog.text
        assert "shop.other" in caplog.text

    @pytest.mark.parametrize(
        "damage",
        [
            "UPDATE entries SET value = x'80'",
            "UPDATE entries SET value = zeroblob(length(value))",
            "UPDATE entries SET checksum = x'00'",
            "UPDATE entries SET key = 'k' WHERE key = 'l'",
        ],
    )
    def test_a_damaged_entry_is_a_miss_with_one_warning(self, store, path, caplog, damage):
        store.put("l", "sound", FOREVER, 1.0)
        if "key = 'l'" not in damage:
            store.put("k", "sound", FOREVER, 1.0)
        with sqlite3.connect(path) as connection:
            connection.execute(damage)
        connection.close()
        assert [store.get("k", None, 1.0) for _ in range(3)] == [MISS] * 3
        assert [record.getMessage() for record in caplog.records] == [
            f"an entry of the cache file {str(path)!r} can't be read and is dropped: ValueError: its bytes have changed"
        ]
        store.put("k", "new", FOREVER, 1.0)
        assert store.get("k", None, 1.0) == "new"

    def test_a_result_whose_class_is_gone_is_a_miss(self, store, monkeypatch, caplog):
        store.put("k", Price(), FOREVER, 1.0)
        monkeypatch.delattr(sys.modules[__name__], "Price")
        assert store.get("k", None, 1.0) is MISS
        assert "AttributeError" in caplog.text

    def test_trouble_with_the_file_is_a_miss_and_said_once(self, store, path, caplog):
        store.put("k", 1, FOREVER, 1.0)
        with sqlite3.connect(path) as connection:
            connection.execute("DROP TABLE entries")
        connection.close()
        for _ in range(3):
            assert store.get("k", None, 1.0) is MISS
            store.put("k", 2, FOREVER, 1.0)
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        assert "no such table" in caplog.text

    def test_who_reads_waits_for_no_writer(self, store, path):
        store.put("k", 1, FOREVER, 1.0)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM entries")
        assert store.get("k", None, 1.0) == 1
        other.execute("ROLLBACK")
        other.close()

    def test_who_cant_write_in_time_goes_on_without(self, monkeypatch, path, caplog):
        monkeypatch.setattr(sqlite, "BUSY", 0.01)
        store = SqliteStore(str(path))
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        store.put("k", 1, FOREVER, 1.0)
        assert store.get("k", None, 1.0) is MISS
        assert "database is locked" in caplog.text
        other.execute("COMMIT")
        store.put("k", 2, FOREVER, 1.0)
        assert store.get("k", None, 1.0) == 2
        other.close()
        store.close()

    def test_what_has_expired_goes_when_something_new_comes(self, store):
        store.put("old", 1, Entry("f", 5.0), 100.0)
        store.put("young", 2, Entry("f", 50.0), 100.0)
        store.put("for ever", 3, FOREVER, 100.0)
        store.put("new", 4, Entry("f", 5.0), 110.0)
        assert {kept.key for kept in store.entries()} == {"new", "young", "for ever"}

    def test_entries_are_listed_newest_first(self, store):
        store.put("a", "x" * 1000, Entry("shop.price", 60.0), 100.0)
        store.put("b", 1, FOREVER, 101.0)
        second, first = store.entries()
        assert (second.key, second.function, second.kept_at, second.expires_at) == ("b", "shop.price", 101.0, None)
        assert (first.key, first.kept_at, first.expires_at) == ("a", 100.0, 160.0)
        assert first.size == len(pickle.dumps("x" * 1000, pickle.HIGHEST_PROTOCOL))

    def test_entries_are_cleared_by_function_age_or_altogether(self, store, path):
        for key, entry in {"a": Entry("f", 5.0), "b": Entry("g", 5.0), "c": Entry("g", None), "d": FOREVER}.items():
            store.put(key, b"x" * 100_000, entry, 100.0)
        assert store.clear(function="f") == 1
        assert store.clear(expired_at=105.0) == 1
        assert {kept.key for kept in store.entries()} == {"c", "d"}
        assert store.clear(function="none") == 0
        assert store.clear() == 2
        assert store.entries() == []
        store.close()
        assert path.stat().st_size < 100_000

    def test_listing_a_broken_file_is_a_clear_error(self, store, path):
        with sqlite3.connect(path) as connection:
            connection.execute("DROP TABLE entries")
        connection.close()
        for ask in (store.entries, store.clear):
            with pytest.raises(ConfigError, match=r"cache\.db' can't be used: no such table"):
                ask()


class Price:
    pass


# ---- opening --------------------------------------------------------------------------------------------------------


def test_a_missing_folder_is_said(tmp_path):
    with pytest.raises(ConfigError, match=r"the folder '.*nowhere' of .* isn't there; make it first"):
        SqliteStore(str(tmp_path / "nowhere" / "cache.db"))


def test_a_folder_is_no_cache_file(tmp_path):
    with pytest.raises(ConfigError, match="can't be opened as a cache file: Is a directory"):
        SqliteStore(str(tmp_path))


def foreign(path, kind):
    """A file that isn't ours."""
    if kind == "text":
        path.write_text("precious")
    elif kind == "long text":
        path.write_text("precious" * 1000)
    else:
        connection = sqlite3.connect(path)
        connection.executescript(f"CREATE TABLE precious (x); PRAGMA application_id = {1 if kind == 'other' else 0}")
        connection.close()


@pytest.mark.parametrize("kind", ["text", "long text", "database", "other"])
def test_a_foreign_file_is_refused_and_left_alone(tmp_path, kind):
    path = tmp_path / "file"
    foreign(path, kind)
    before = path.read_bytes(), path.stat().st_mtime_ns
    with pytest.raises(ConfigError, match=r"file' is there already and is no cache file; choose another path"):
        SqliteStore(str(path))
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_newer_form_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "cache.db"
    SqliteStore(str(path)).close()
    monkeypatch.setattr(sqlite, "FORM", 0)
    with pytest.raises(ConfigError, match=r"was made by a newer nerv \(form 1\)"):
        SqliteStore(str(path))


def test_a_torn_file_is_refused(tmp_path):
    path = tmp_path / "cache.db"
    SqliteStore(str(path)).close()
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(
        ConfigError, match="can't be opened as a cache file: database disk image is malformed"
    ) as caught:
        SqliteStore(str(path))
    assert caught.tb is not None, "its frames hold all that was opened"
    assert str(path) not in [file.path for file in psutil.Process().open_files()]


def test_an_empty_file_will_do(tmp_path):
    path = tmp_path / "cache.db"
    path.touch()
    store = SqliteStore(str(path))
    store.put("k", 1, FOREVER, 1.0)
    assert store.get("k", None, 1.0) == 1
    store.close()


def test_without_create_a_missing_file_is_an_error_and_stays_missing(tmp_path):
    with pytest.raises(ConfigError, match="there is no cache file"):
        SqliteStore(str(tmp_path / "cache.db"), create=False)
    assert not list(tmp_path.iterdir())


def test_a_name_that_sqlite_reads_otherwise_is_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = SqliteStore(":memory:")
    monkeypatch.chdir(REPOSITORY)
    store.put("k", 1, FOREVER, 1.0)
    assert store.get("k", None, 1.0) == 1
    store.close()
    assert (tmp_path / ":memory:").is_file()


# ---- processes ------------------------------------------------------------------------------------------------------


def opened(path, gate, results):
    """In another process: open a file at the same moment as others, write and read."""
    try:
        gate.wait(30)
        store = SqliteStore(path)
        mine = multiprocessing.current_process().pid
        for i in range(20):
            store.put(f"{mine}-{i}", i, FOREVER, 1.0)
            store.put("shared", i, FOREVER, 1.0)
        found = sum(store.get(f"{mine}-{i}", None, 1.0) == i for i in range(20))
        store.close()
        results.put(found)
    except BaseException as error:
        results.put(repr(error))
        raise


def test_several_processes_use_one_new_file_at_once(tmp_path):
    """Each of them finds all that it has written, in a file that didn't exist when they began."""
    several = multiprocessing.get_context("spawn")
    path = str(tmp_path / "cache.db")
    gate, results = several.Barrier(4), several.Queue()
    processes = [several.Process(target=opened, args=(path, gate, results)) for _ in range(4)]
    for process in processes:
        process.start()
    found = [results.get(timeout=50) for _ in processes]
    for process in processes:
        process.join(30)
        process.close()
    results.close()
    results.join_thread()
    assert found == [20] * 4
    store = SqliteStore(path)
    assert len(store.entries()) == 81
    store.close()
