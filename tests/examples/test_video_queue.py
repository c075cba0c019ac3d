"""The video queue: what the wires decide is what happens. Nothing is held against the clock."""

import subprocess
import sys

import pytest

from tests.house.commands import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "examples"))
import video_queue


@pytest.fixture(scope="module")
def studios():
    return video_queue.run_all(0.005)


@pytest.mark.parametrize(
    ("wiring", "most"), [("sequential", 1), ("buffered", 3), ("throttled to 2", 2), ("buffered, published in order", 3)]
)
def test_no_more_videos_at_a_time_than_the_wires_let(studios, wiring, most):
    assert studios[wiring].most <= most
    assert sorted(studios[wiring].published) == sorted(video_queue.VIDEOS)


@pytest.mark.parametrize("wiring", ["sequential", "buffered, published in order"])
def test_on_a_direct_wire_they_are_published_as_they_came(studios, wiring):
    assert studios[wiring].published == list(video_queue.VIDEOS)


def test_the_timelines_are_printed():
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "examples" / "video_queue.py"), "--unit", "0.001"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.count("published: ") == 4
    assert done.stdout.count("|") == 12
