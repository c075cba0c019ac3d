"""Journals to test, closed afterwards."""

import pytest

from nerv import MemoryJournal, SqliteJournal


@pytest.fixture
def path(tmp_path):
    """Where a journal can be."""
    return tmp_path / "runs.db"


@pytest.fixture
def opened(path):
    """Opens the journal at `path`, and closes what it opened afterwards."""
    made = []

    def open_it(where=path, **options):
        made.append(SqliteJournal(where, **options))
        return made[-1]

    yield open_it
    for one in made:
        one.close()


@pytest.fixture(params=["memory", "sqlite"])
def journal(request, path):
    """An empty journal of each kind."""
    with MemoryJournal() if request.param == "memory" else SqliteJournal(path) as made:
        yield made
