"""SIGKILL of a process that watches a folder: each file is a message once, and is done, at least once."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from nerv import SqliteJournal
from tests.crash import inbox
from tests.crash.killing import Server
from tests.flows.test_triggers import write

EACH = 8
"""Files that come in one life, at most."""


class Folder:
    """The files, and the lives of who watches them."""

    def __init__(self, server, folder, random, kills, durability):
        self._server, self._random = server, random
        self.log, self._out, self._inbox = folder / "log", folder / "out.json", folder / "inbox"
        self.journal = str(folder / "runs.db")
        self.log.touch()
        self._inbox.mkdir()
        self.files = []
        self._order = {
            "log": str(self.log), "inbox": str(self._inbox), "journal": self.journal, "files": EACH * (kills + 1),
            "durability": durability,
        }  # fmt: skip

    def put(self, count):
        """So many more files."""
        for number in range(len(self.files), len(self.files) + count):
            write(self._inbox / f"{number}.txt", f"text {number}", changed=1_000_000 + number)
            self.files.append(str(self._inbox / f"{number}.txt"))

    def live(self, *, killed):
        """One life, during which files come, killed a moment after some calls; what it says at its natural end."""
        before, said, files = self.done(), len(self.said()), len(self.files)
        pid = self._server.ask(out=str(self._out), **self._order)["pid"]
        if killed:
            self.put(3)  # that is six calls
            calls = self._random.randint(0, 6)
            while len(self.said()) < said + calls:
                self.put(len(self.files) < files + EACH - 2 and self._random.random() < 0.02)
                time.sleep(0.001)
            time.sleep(self._random.random() * 0.01)
            os.kill(pid, signal.SIGKILL)
        else:
            self.put(self._order["files"] - files)
        code = self._server.ask(reap=pid)["exit"]
        assert code == (-signal.SIGKILL if killed else 0)
        again = {line["task"] for line in self.said()[said:]}
        assert not again & before, "what was completed doesn't run again"
        return None if killed else json.loads(self._out.read_text())

    def said(self):
        """The lines of the log."""
        whole, _, _ = self.log.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def events(self):
        """What the journal has."""
        if not Path(self.journal).exists():
            return []
        with SqliteJournal(self.journal, read_only=True) as journal:
            return [] if journal.execution(inbox.NAME) is None else list(journal.events(inbox.NAME))

    def done(self):
        """The tasks that the journal has as completed."""
        return {event.task_id for event in self.events() if event.type == "TASK_COMPLETED"}


def tell(server, folder, *, seed, kills, durability):
    """Kill it so many times, and look at what has become of the files."""
    folder.mkdir()
    story = Folder(server, folder, Random(f"inbox {seed} {durability}"), kills, durability)
    for _ in range(kills):
        story.live(killed=True)
        story.put(2)  # while nobody looks
    assert story.said(), "something was done in lives that were killed"
    end = story.live(killed=False)
    messages = [event.data["message"] for event in story.events() if event.type == "TASKS_ADDED"]
    assert Counter(messages) == Counter(story.files), "each file is a message once"
    assert end["status"] == "COMPLETED"
    assert end["published"] == [f"TEXT {message.rpartition('/')[2][:-4]}" for message in messages]
    noted = [line["path"] for line in story.said() if line["what"] == "note"]
    assert set(noted) == set(story.files)
    published = list(dict.fromkeys(line["text"] for line in story.said() if line["what"] == "publish"))
    assert [text.upper() for text in published] == end["published"], "in their order"
    return len(noted) - len(story.files), len(story.files)


@pytest.mark.parametrize("durability", ["strict", "group"])
def test_each_file_is_a_message_once_and_done(tmp_path, durability):
    with Server(inbox) as server:
        tell(server, tmp_path / "story", seed=0, kills=4, durability=durability)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("durability", ["strict", "group"])
def test_hundreds_of_kills(tmp_path, durability, capsys):
    with Server(inbox) as server:
        told = [tell(server, tmp_path / str(seed), seed=seed, kills=10, durability=durability) for seed in range(1, 41)]
    again, files = map(sum, zip(*told, strict=True))
    with capsys.disabled():
        print(f"\n{durability}: 400 kills, {again} of {files} files were noted again")
