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

FILES = 60


class Folder:
    """The files, and the lives of who watches them."""

    def __init__(self, server, folder, random, durability):
        self._server, self._random = server, random
        self.log, self._out, self._inbox = folder / "log", folder / "out.json", folder / "inbox"
        self.journal = str(folder / "runs.db")
        self.log.touch()
        self._inbox.mkdir()
        self.files = []
        self._order = {
            "log": str(self.log), "inbox": str(self._inbox), "journal": self.journal, "files": FILES,
            "durability": durability,
        }  # fmt: skip

    def put(self, count):
        """So many more files, as far as there are any."""
        for _ in range(min(count, FILES - len(self.files))):
            number = len(self.files)
            write(self._inbox / f"{number}.txt", f"text {number}", changed=1_000_000 + number)
            self.files.append(str(self._inbox / f"{number}.txt"))

    def live(self, *, killed):
        """One life, during which files come; what it says at its natural end."""
        before, said = self.done(), len(self.said())
        pid = self._server.ask(out=str(self._out), **self._order)["pid"]
        for _ in range(4):
            self.put(self._random.randint(0, 2) if killed else FILES)
            time.sleep(self._random.random() * 0.03)
        if killed:
            os.kill(pid, signal.SIGKILL)
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
    story = Folder(server, folder, Random(f"inbox {seed} {durability}"), durability)
    story.put(3)
    for _ in range(kills):
        story.live(killed=True)
        story.put(2)  # while nobody looks
    assert story.done(), "something was done in lives that were killed"
    end = story.live(killed=False)
    messages = [event.data["message"] for event in story.events() if event.type == "TASKS_ADDED"]
    assert Counter(messages) == Counter(story.files), "each file is a message once"
    assert end["status"] == "COMPLETED"
    assert end["published"] == [f"TEXT {message.rpartition('/')[2][:-4]}" for message in messages]
    noted = [line["path"] for line in story.said() if line["what"] == "note"]
    assert set(noted) == set(story.files)
    published = list(dict.fromkeys(line["text"] for line in story.said() if line["what"] == "publish"))
    assert [text.upper() for text in published] == end["published"], "in their order"
    return len(noted) - len(story.files)


@pytest.mark.parametrize("durability", ["strict", "group"])
def test_each_file_is_a_message_once_and_done(tmp_path, durability):
    with Server(inbox) as server:
        tell(server, tmp_path / "story", seed=0, kills=4, durability=durability)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("durability", ["strict", "group"])
def test_hundreds_of_kills(tmp_path, durability, capsys):
    with Server(inbox) as server:
        again = sum(
            tell(server, tmp_path / str(seed), seed=seed, kills=10, durability=durability) for seed in range(1, 41)
        )
    with capsys.disabled():
        print(f"\n{durability}: 400 kills, {again} of {40 * FILES} files were noted again")
