"""A queue of videos, wired four ways: how many are processed at a time is decided by the wires, not by the worker.

Two short videos come behind a long one. On a direct wire they wait for it. Behind a buffer they don't; a throttled
buffer lets so many in at a time. Nothing but the topology changes: `process` and `publish` are the same functions.

    python examples/video_queue.py
    python examples/video_queue.py --unit 0.05

Each timeline shows the videos in the order in which they came; `=` is processing, and `|` the moment it was published.
"""

import argparse
import threading
import time
from dataclasses import dataclass, field
from functools import partial

from nerv import Execution, Flow, Manual, TaskDef, WorkflowManager

VIDEOS = {"long": 10, "short-1": 2, "short-2": 3}
"""Name -> how long it takes, in units."""

WIDTH = 60


@dataclass
class Studio:
    """What processes videos, and when it did: name -> (began, ended), in seconds since the first came."""

    unit: float
    started: float = field(default_factory=time.perf_counter)
    times: dict[str, tuple[float, float]] = field(default_factory=dict)
    published: list[str] = field(default_factory=list)
    most: int = 0
    now: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def process(self, video: str) -> str:
        """Work on a video for as long as it takes."""
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        began = time.perf_counter() - self.started
        time.sleep(VIDEOS[video] * self.unit)
        with self.lock:
            self.now -= 1
            self.times[video] = began, time.perf_counter() - self.started
        return video

    def publish(self, video: str) -> None:
        """Tell the world."""
        self.published.append(video)


def wirings(studio: Studio) -> dict[str, Flow]:
    """The same two steps, wired in four ways."""
    queue = Flow("videos").triggered_by(Manual())
    process, publish = TaskDef("process", studio.process), TaskDef("publish", studio.publish)
    return {
        "sequential": queue.then(process).then(publish),
        "buffered": queue.buffer().then(process).then(publish),
        "throttled to 2": queue.buffer(max_parallel=2).then(process).then(publish),
        "buffered, published in order": queue.buffer().then(process).collect().then(publish),
    }


def show(studio: Studio) -> str:
    """The timeline."""
    end = max(ended for _, ended in studio.times.values())
    lines = []
    for video in VIDEOS:
        before, after = (round(moment / end * (WIDTH - 1)) for moment in studio.times[video])
        lines.append(f"  {video:8} {' ' * before}{'=' * max(1, after - before)}|")
    order = ", ".join(studio.published)
    return "\n".join([*lines, f"  {end:.3f} s, at most {studio.most} at a time; published: {order}"])


def run_all(unit: float) -> dict[str, Studio]:
    """Send the videos through each of the wirings."""
    studios: dict[str, Studio] = {}
    with WorkflowManager(workers=4) as manager:
        for name in wirings(Studio(unit)):
            studio = studios[name] = Studio(unit)
            queue: Execution = manager.start(wirings(studio)[name].build())
            studio.started = time.perf_counter()
            for video in VIDEOS:
                queue.send(video)
            queue.close()
            queue.wait()
    return studios


def main() -> None:
    """Print the timelines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--unit", type=float, default=0.01, help="seconds that a unit of work takes")
    say = partial(print, end="\n\n")
    for name, studio in run_all(parser.parse_args().unit).items():
        say(f"{name}\n{show(studio)}")


if __name__ == "__main__":
    main()
