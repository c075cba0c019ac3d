"""What each test runs of the files that are to be spoilt, line by line, and how long it takes."""

from __future__ import annotations

import hashlib
import json
import os
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest


class Seen(NamedTuple):
    """Of one test: its node id, seconds, whether it passed, and by file the numbers of the lines that it ran."""

    test: str
    seconds: float
    passed: bool
    lines: dict[str, list[int]]


def surveyed(session: pytest.Session, files: Sequence[str]) -> list[Seen]:
    """All tests of a session, run once in a process of their own.

    Kept in pytest's cache, by file of tests, until that or a source changes.
    """
    keys = _keys(session, files)
    known = session.config.cache.get("nerv/survey", {})
    new = [item for item in session.items if known.get(_file(item), {}).get("key") != keys[_file(item)]]
    if new:
        known.update({_file(item): {"key": keys[_file(item)], "seen": {}} for item in new})
        for one in _in_a_child(session, new, files):
            known[one[0].partition("::")[0]]["seen"][one[0]] = one
        session.config.cache.set("nerv/survey", known)
    return [Seen(*known[_file(item)]["seen"][item.nodeid]) for item in session.items]


def _file(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


def _keys(session: pytest.Session, files: Sequence[str]) -> dict[str, str]:
    """By file of tests, what the survey of it depends on: its text, its tests, and the sources."""
    sources = b"".join(Path(file).read_bytes() for file in files)
    found: dict[str, Any] = {}
    for item in session.items:
        if _file(item) not in found:
            found[_file(item)] = hashlib.sha256(sources + item.path.read_bytes())
        found[_file(item)].update(item.nodeid.encode())
    return {file: digest.hexdigest() for file, digest in found.items()}


def _in_a_child(session: pytest.Session, items: Sequence[pytest.Item], files: Sequence[str]) -> list[Any]:
    out, into = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setsid()
            os.close(out)
            with os.fdopen(into, "w") as pipe:
                json.dump(_seen(session, items, files), pipe)
        except BaseException:
            traceback.print_exc()
        os._exit(0)
    os.close(into)
    with os.fdopen(out) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    assert text, "-v shows why"
    return json.loads(text)


def _seen(session: pytest.Session, items: Sequence[pytest.Item], files: Sequence[str]) -> list[Seen]:
    from coverage import Coverage

    coverage = Coverage(data_file=None, config_file=False, include=list(files))
    coverage.start()
    ran = []
    for item in items:
        coverage.switch_context(item.nodeid)
        failed, began = session.testsfailed, time.monotonic()
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
        ran.append(Seen(item.nodeid, time.monotonic() - began, session.testsfailed == failed, {}))
    coverage.stop()
    data = coverage.get_data()
    by_test = {one.test: one for one in ran}
    for file in files:
        for line, tests in data.contexts_by_lineno(file).items():
            for test in tests:
                if test in by_test:
                    by_test[test].lines.setdefault(file, []).append(line)
    return ran
