"""SIGKILL at any moment: started again, it goes on, repeats nothing that was kept, and ends as if nothing had been."""

from __future__ import annotations

from random import Random

import psutil
import pytest

from tests.crash import program
from tests.crash.killing import Server, Story
from tests.handshake import eventually

DURABILITIES = ("strict", "group")


@pytest.fixture(scope="module")
def server():
    with Server() as serving:
        yield serving


@pytest.fixture(scope="module")
def expected(server, tmp_path_factory):
    """What comes of each variant if nobody kills it."""
    return {
        mode: Story(server, tmp_path_factory.mktemp(mode), Random(0), durability="group", mode=mode).live()
        for mode in program.MODES
    }


def kill(server, folder, expected, *, seed, kills, durability, **options):
    """Kill one execution so many times, if it lives as long, and compare. The story."""
    random = Random(f"kill {seed} {durability} {options}")
    story = Story(server, folder, random, durability=durability, **options)
    calls = 60 if options.get("processes") else random.choice((5, 20, 80))
    assert story.tell(kills, calls) == expected[options.get("mode", "ends")]
    story.check_whole()
    return story


@pytest.mark.parametrize("mode", program.MODES)
@pytest.mark.parametrize("durability", DURABILITIES)
def test_killed_again_and_again_it_ends_as_if_nothing_had_been(server, tmp_path, expected, durability, mode):
    stories = [
        kill(server, tmp_path / str(seed), expected, seed=seed, kills=5, durability=durability, mode=mode)
        for seed in range(2)
    ]
    assert sum(story.kills for story in stories) >= 5


@pytest.mark.parametrize("durability", DURABILITIES)
def test_with_worker_processes_which_die_with_their_parent(server, tmp_path, expected, durability):
    story = kill(server, tmp_path / "story", expected, seed=0, kills=5, durability=durability, processes=True)
    pids = {line["pid"] for line in story.said()}
    assert len(pids) >= 3, "there were workers"
    assert story.kills >= 2
    eventually(lambda: not any(map(psutil.pid_exists, pids)), "worker processes to end")


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("durability", DURABILITIES)
def test_thousands_of_kills(server, tmp_path, expected, durability, capsys):
    kills = 0
    for seed in range(100, 400):
        options = {"mode": program.MODES[seed % 2], "processes": seed % 10 == 0}
        kills += kill(
            server, tmp_path / str(seed), expected, seed=seed, kills=12, durability=durability, **options
        ).kills
    with capsys.disabled():
        print(f"\n{durability}: {kills:,} kills")
