"""`nerv cache`: what a cache file holds, and how to empty it."""

import json
import re
import sys
import time

import pytest

from nerv.caching.sqlite import SqliteStore
from nerv.caching.stores import Entry
from nerv.cli import console, main
from nerv.cli.cache import _size
from tests.house.commands import run_command


def nerv(*words):
    """The exit code of the command."""
    with pytest.raises(SystemExit) as left:
        main(list(words))
    return left.value.code or 0


@pytest.fixture
def file(tmp_path):
    """A cache file: of two functions, one entry expired."""
    path = str(tmp_path / "cache.db")
    store, now = SqliteStore(path), time.time()
    store.put("a" * 40, b"x" * 5000, Entry("shop.price", None), now - 100)
    store.put("b" * 40, 1, Entry("shop.rates", 1e6), now - 90)
    store.put("c" * 40, None, Entry("shop.rates", 60.0), now - 80)
    store.close()
    return path


def kept(path):
    store = SqliteStore(path)
    found = [(entry.key[0], entry.function) for entry in store.entries()]
    store.close()
    return found


def test_entries_are_listed_newest_first(file, capsys):
    assert nerv("cache", "ls", file) == 0
    head, *rows, total = capsys.readouterr().out.splitlines()
    assert head.split() == ["kept", "expires", "size", "key", "function"]
    moment = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    expected = [
        rf"{moment}  expired +\d+ B  c{{12}}  shop\.rates",
        rf"{moment}  {moment} +\d+ B  b{{12}}  shop\.rates",
        rf"{moment}  never +5\.0 kB  a{{12}}  shop\.price",
    ]
    assert all(re.fullmatch(pattern, row) for pattern, row in zip(expected, rows, strict=True)), rows
    assert total == "3 entries, 5.0 kB"


def test_entries_are_listed_as_json(file, capsys):
    assert nerv("cache", "ls", file, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [entry["key"][0] for entry in found] == ["c", "b", "a"]
    assert set(found[0]) == {"key", "function", "kept_at", "expires_at", "size"}


def test_an_empty_cache_is_listed(tmp_path, capsys):
    path = tmp_path / "cache.db"
    SqliteStore(str(path)).close()
    assert nerv("cache", "ls", str(path)) == 0
    assert capsys.readouterr().out == "0 entries, 0 B\n"


def test_all_is_cleared(file, capsys):
    assert nerv("cache", "clear", file) == 0
    assert capsys.readouterr().out == "3 entries dropped\n"
    assert kept(file) == []


def test_what_has_expired_is_cleared(file, capsys):
    assert nerv("cache", "clear", file, "--expired") == 0
    assert capsys.readouterr().out == "1 entry dropped\n"
    assert kept(file) == [("b", "shop.rates"), ("a", "shop.price")]


def test_one_functions_entries_are_cleared(file, capsys):
    assert nerv("cache", "clear", file, "--function", "shop.rates") == 0
    assert capsys.readouterr().out == "2 entries dropped\n"
    assert kept(file) == [("a", "shop.price")]


def test_options_narrow_each_other_down(file, capsys):
    assert nerv("cache", "clear", file, "--function", "shop.price", "--expired") == 0
    assert capsys.readouterr().out == "0 entries dropped\n"


def test_a_function_that_isnt_there_is_said_with_the_nearest(file, capsys):
    assert nerv("cache", "clear", file, "--function", "shop.rate") == 0
    assert capsys.readouterr().out == (
        "0 entries dropped; none is of 'shop.rate' (did you mean 'shop.rates' or 'shop.price'?)\n"
    )
    assert len(kept(file)) == 3


@pytest.mark.parametrize("command", ["ls", "clear"])
def test_what_is_no_cache_file_is_refused_and_left_alone(tmp_path, command, capsys):
    other = tmp_path / "notes.txt"
    other.write_text("precious")
    assert nerv("cache", command, str(other)) == console.REFUSED
    assert nerv("cache", command, str(tmp_path / "none.db")) == console.REFUSED
    error = capsys.readouterr().err
    assert "is no cache file" in error
    assert "there is no cache file" in error
    assert other.read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_run_keeps_results_for_the_next(tmp_path):
    (tmp_path / "cached_flow.py").write_text(
        "from nerv import Cache, TaskDef, Workflow\n"
        "def price():\n"
        "    print('asked')\n"
        "    return 3\n"
        "shop = Workflow('shop', [TaskDef('price', price, cache=Cache())])\n"
    )

    def run(file):
        return run_command([sys.executable, "-m", "nerv", "run", "cached_flow.py", "--cache", file], tmp_path, 60)

    first, second, refused = run("kept.db"), run("kept.db"), run("nowhere/kept.db")
    assert [first.returncode, second.returncode, refused.returncode] == [0, 0, console.REFUSED]
    assert "asked" in first.stdout
    assert "asked" not in second.stdout
    assert "the folder 'nowhere' of 'nowhere/kept.db' isn't there" in refused.stdout
    assert [function for _, function in kept(str(tmp_path / "kept.db"))] == ["cached_flow.price"]


def test_the_help_says_what_there_is(capsys):
    assert nerv("cache", "--help") == 0
    told = capsys.readouterr().out
    assert "ls" in told
    assert "clear" in told
    assert "nerv cache clear cache.db --expired" in told


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2.5e6, "2.5 MB"), (7e9, "7.0 GB")]
)
def test_sizes_are_told_in_the_unit_that_suits_them(count, text):
    assert _size(count) == text
