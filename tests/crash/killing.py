"""Lives of `program.py`, ended by SIGKILL, and what must hold between them, as its log and its journal say."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

from nerv import SqliteJournal
from nerv.eventlog import TASK_COMPENSATED, TASK_COMPLETED, TASK_STARTED
from tests.crash import program
from tests.handshake import environment


class Server:
    """The process that forks lives of a program. A context manager."""

    def __init__(self, lived=program):
        self._file = str(Path(lived.__file__))

    def __enter__(self):
        command = [sys.executable, self._file, "serve"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
        )
        self._answer()
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()

    def _answer(self):
        return json.loads(self._process.stdout.readline())

    def ask(self, **order):
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._answer()


class Story:
    """One execution, from its first life to its last.

    Args:
        folder: where its journal and its log are.
        random: when who is killed.
        options: as of `program.live`.
    """

    def __init__(self, server, folder, random, **options):
        folder.mkdir(exist_ok=True)
        self._server = server
        self._random = random
        self._out = folder / "out.json"
        self.log, self.journal = folder / "log", str(folder / "runs.db")
        self.log.touch()
        self._order = {"log": str(self.log), "journal": self.journal, **options}
        self.strict = options["durability"] == "strict"
        self.tasks = program.build(options.get("mode", "ends")).tasks
        self.kills = 0
        self._before = []  # the events when the last life ended
        self._done = set()
        self._undone = set()

    def live(self, calls=None):
        """One life, killed some moment after so many calls; None: to its natural end. What came of the execution, if it
        came so far.
        """
        lines = len(self.said())
        self._out.unlink(missing_ok=True)
        pid = self._server.ask(out=str(self._out), **self._order)["pid"]
        if calls is not None:
            while len(self.said()) < lines + calls and not self._out.exists():
                time.sleep(0.0005)
            time.sleep(self._random.random() * 0.01)
            os.kill(pid, signal.SIGKILL)  # nobody has reaped it: it is this one
        code = self._server.ask(reap=pid)["exit"]
        assert code in {0, -signal.SIGKILL}, f"a life ended by itself with {code}"
        self.kills += code != 0
        self.check(self.said()[lines:])
        return json.loads(self._out.read_text()) if code == 0 else None

    def said(self):
        """The lines of the log."""
        whole, _, _ = self.log.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def check(self, said):
        """What must hold after a life that said this."""
        called = {line["task"] for line in said if line["what"] == "start"}
        undone = {line["task"] for line in said if line["what"] == "undo"}
        assert not called & self._done, "what was committed doesn't start again"
        assert not undone & self._undone, "nor is it undone again"
        if not Path(self.journal).exists():
            return
        with SqliteJournal(self.journal, read_only=True) as journal:
            if journal.execution(program.NAME) is None:
                assert not said
                return
            history = journal.load(program.NAME)
        events = [(code, number, attempt, at) for code, number, at, attempt, _ in history.records]
        assert events[: len(self._before)] == self._before, "no committed event is missing or renumbered"
        self._before = events
        completed = {history.ids[number] for code, number, *_ in events if code == TASK_COMPLETED}
        self._done = {task for task in completed if task not in self.tasks or self.tasks[task].durable}
        self._undone = {history.ids[number] for code, number, *_ in events if code == TASK_COMPENSATED}
        self._check_attempts(history, events)
        if self.strict:
            self._check_strict(history, events, called, completed)

    def _check_attempts(self, history, events):
        attempts = defaultdict(list)
        for code, number, attempt, _ in events:
            if code == TASK_STARTED:
                attempts[history.ids[number]].append(attempt)
        for task, given in attempts.items():
            assert given == list(range(1, len(given) + 1)), f"attempts of {task}: {given}"

    def _check_strict(self, history, events, called, completed):
        begun = {history.ids[number] for code, number, *_ in events if code == TASK_STARTED}
        begun |= {history.ids[number] for _, numbers in history.claims for number in numbers}
        for task in called:
            assert task in begun, f"{task} was called, and the journal doesn't know that it might be"
            if task in self.tasks and self.tasks[task].run_when == "all_completed":
                assert completed.issuperset(self.tasks[task].needs), f"{task} was called before what it needs was kept"

    def tell(self, kills, calls):
        """Kill it so many times, after so many calls at most; what came of it in the end."""
        while self.kills < kills:
            ended = self.live(self._random.randint(0, calls))
            if ended is not None:
                return ended
        return self.live()

    def check_whole(self):
        """What must hold of all lives together, when it has ended."""
        keys, last = defaultdict(set), defaultdict(int)
        for line in self.said():
            keys[line["task"]].add(line["key"])
            if line["what"] == "start":
                assert line["attempt"] >= last[line["task"]], "attempts are numbered on"
                last[line["task"]] = line["attempt"]
        assert all(len(own) == 1 for own in keys.values()), "idempotency keys are the same in all lives"
        assert len(set().union(*keys.values())) == len(keys), "and each task has its own"
