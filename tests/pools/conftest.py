"""Rigs and fifos: what the tests of pools wait with."""

import os

import pytest

from tests.pools.desk import Rig


@pytest.fixture
def rig():
    """Makes rigs, and closes them afterwards."""
    made = []

    def make(workers=1, **options):
        made.append(Rig(workers, **options))
        return made[-1]

    yield make
    for one in made:
        one.pool.close(2.0)


@pytest.fixture
def fifo(tmp_path):
    """Makes fifos; each holds up whoever reads it until `release`."""
    held = []

    def make(name="fifo"):
        path = tmp_path / name
        os.mkfifo(path)
        held.append(path)
        return path

    def release(path):
        with open(path, "w"):
            held.remove(path)

    make.release = release
    return make
