"""Run the tests against every mutant of a module, and name those that nobody noticed.

By hand: `python -m tests.mutation.hunting` (all of it), or with parts of a mutant's name; `-v` shows what the tests
say, `-j1` uses one core, `-pure` runs the tests without threads alone.

One process loads nerv, collects the quick tests, and has each of them run once, to see which lines it runs and how long
it takes (surveying.py). Each mutant lives in a process forked from that one: its code takes the place of the
function's (spoiling.py), and the tests that run its lines are run there, those that cost least for what they find
first, until one fails. What happens when a module is loaded (constants, what makes tables, what a class is made of)
can't be exchanged afterwards: such a mutant lives in a process forked from one that has loaded nothing of nerv. A
mutant that can't be loaded, or that never ends, is noticed too.
"""

from __future__ import annotations

import ast
import gc
import importlib
import json
import os
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from tests.mutation import spoiling
from tests.mutation.equivalents import EQUIVALENT
from tests.mutation.mutating import Mutant, mutants

if TYPE_CHECKING:
    from tests.mutation.surveying import Seen

REPOSITORY = Path(__file__).resolve().parents[2]
MODULES = (
    "graph", "states", "branching", "detours", "scheduler", "levels", "families", "suspensions", "staging", "sagas",
    "waits", "lines",
)  # fmt: skip
PURE = (
    *(f"tests/test_{name}.py" for name in (
        "scheduler", "detours", "families", "branching", "staging", "suspensions", "graph", "plan", "sagas", "retries",
        "shared_limits", "lines", "waits",
    )),
    *(f"tests/properties/test_{name}.py" for name in (
        "exhaustive", "walks", "policed", "policies", "limits", "every_way", "fairness",
    )),
)  # fmt: skip
"""Tests without threads: where others hang for seconds, they fail at once."""
FIRST = "tests/properties/test_exhaustive.py::test_every_rule_on_every_graph_of_up_to_two_tasks_with_claims"
"""What is tried before anything else: every move in every state of the smallest graphs, in 0.3 s."""
TESTS = (
    *PURE, "tests/test_cache.py", "tests/test_run.py", "tests/test_resuming.py", "tests/nodes",
    *(f"tests/properties/test_{name}.py" for name in ("differential", "simulated", "recovery")),
)  # fmt: skip
OPTIONS = ("-q", "-s", "-n0", "--timeout=0", "--tb=short", "-W", "ignore::pytest.PytestAssertRewriteWarning")
HEAD_START = 0.2
"""Seconds that are held against tests with threads, until they have found something."""
OWN = 10
"""How much more often the tests of a module are thought to find something in it than others are."""
SLOWEST = 10.0
"""Seconds: tests that take longer aren't run."""
BUDGET = 6.0
"""Seconds for the tests of a mutant, at first."""
LARGEST = 2 << 30
"""Bytes of memory that a mutant may use: some endless loops append to a list."""
LONGEST = 120
"""Seconds that a mutant has which has to be loaded anew."""
PASSED, FAILED, TO_LOAD, BROKEN, HUNG = 0, 1, 2, 3, -signal.SIGALRM
"""How a process ends. TO_LOAD: the mutant needs a new one; HUNG: it had to be stopped; BROKEN: we are wrong."""

FILES = {module: REPOSITORY / "nerv" / f"{module}.py" for module in MODULES}
SOURCES = {module: file.read_text(encoding="utf-8") for module, file in FILES.items()}
"""What is spoilt: the modules as they were when this began."""


class Prey(NamedTuple):
    """A mutant, its name, and the module whose tree it spoils."""

    module: str
    name: str
    mutant: Mutant
    tree: ast.Module

    def spoilt(self) -> ast.Module:
        """The module with the mistake in it; to be asked in a process of its own, as there is one tree for all."""
        self.mutant.apply()
        return self.tree


def all_mutants() -> Iterator[Prey]:
    """Every mutant of every module."""
    for module in MODULES:
        tree = ast.parse(SOURCES[module])
        for mutant in mutants(tree):
            yield Prey(module, f"{module}.{mutant.name}", mutant, tree)


class End(NamedTuple):
    """How a mutant ended: its process's exit code, the test during which it did (-1: before the first), and seconds."""

    prey: Prey
    code: int
    test: int
    seconds: float


class Way(NamedTuple):
    """How mutants are hunted: so many at a time, by these tests; what they say goes to a file descriptor."""

    jobs: int
    output: int
    tests: tuple[str, ...] = TESTS


def chase(preys: list[Prey], live: Callable[[Prey, Callable[[int], object]], int], way: Way) -> Iterator[End]:
    """Have mutants live in processes of their own.

    `live` is called in the child, with a function to be told the number of each test that begins; it gives the exit
    code.
    """
    left = list(reversed(preys))
    running: dict[int, tuple[Prey, int, float]] = {}
    while left or running:
        if left and len(running) < way.jobs:
            prey, (out, into) = left.pop(), os.pipe()
            child = os.fork()
            if not child:
                _be_hunted(prey, live, into, way)
            os.close(into)
            running[child] = prey, out, time.monotonic()
            continue
        child, status = os.wait()
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # what its tests have started
        prey, out, began = running.pop(child)
        with os.fdopen(out, "rb") as pipe:
            begun = pipe.read()
        code, test = os.waitstatus_to_exitcode(status), struct.unpack("i", begun[-4:])[0] if begun else -1
        if code == BROKEN:
            raise RuntimeError(f"the hunter itself has failed, at {prey.name}: -v shows why")
        yield End(prey, code, test, time.monotonic() - began)


def _be_hunted(prey: Prey, live: Callable[..., int], into: int, way: Way) -> NoReturn:
    code = BROKEN
    try:
        os.setsid()
        os.dup2(way.output, 1)
        os.dup2(way.output, 2)
        resource.setrlimit(resource.RLIMIT_AS, (LARGEST, LARGEST))
        code = live(prey, lambda test: os.write(into, struct.pack("i", test)))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


class Trials:
    """Which tests a mutant has to pass, in what order: those that cost least for what they have found come first."""

    def __init__(self, seen: list[Seen]) -> None:
        self.seen = seen
        self._runs: dict[str, dict[int, list[int]]] = {module: {} for module in MODULES}
        self._found = {module: Counter[int]() for module in MODULES}
        self._spent = [one.seconds + (0 if one.test.startswith(PURE) else HEAD_START) for one in seen]
        self._spent = [
            0.0 if one.test.startswith(FIRST) else spent for one, spent in zip(seen, self._spent, strict=True)
        ]
        modules = {str(file): module for module, file in FILES.items()}
        for number, one in enumerate(seen):
            if one.passed and one.seconds < SLOWEST:
                for file, lines in one.lines.items():
                    for line in lines:
                        self._runs[modules[file]].setdefault(line, []).append(number)

    def of(self, prey: Prey, budget: float = inf) -> list[int]:
        """The tests that run a mutant's lines."""
        runs = self._runs[prey.module]
        return self._best(
            prey.module, {test for line in prey.mutant.place.lines for test in runs.get(line, ())}, budget
        )

    def of_module(self, module: str, budget: float, files: tuple[str, ...]) -> list[str]:
        """Tests in some files that run any lines of a module, or may look at its constants."""
        tests = {test for runs in self._runs[module].values() for test in runs}
        tests |= {test for test, one in enumerate(self.seen) if one.test.startswith(PURE[0])}
        tests = {test for test in tests if self.seen[test].test.startswith(files)}
        return [self.seen[test].test for test in self._best(module, tests, budget)]

    def _best(self, module: str, tests: set[int], budget: float) -> list[int]:
        found, chosen, own = self._found[module], list[int](), f"tests/test_{module}.py"

        def cost(test: int) -> float:
            return self._spent[test] / (1 + found[test]) / (OWN if self.seen[test].test.startswith(own) else 1)

        for test in sorted(tests, key=lambda test: (cost(test), test)):
            if self.seen[test].seconds <= budget:
                budget -= self.seen[test].seconds
                chosen.append(test)
        return chosen

    def ended(self, end: End) -> None:
        """A test has noticed a mutant, and it took a while."""
        if end.code and end.test >= 0:
            self._found[end.prey.module][end.test] += 1
            self._spent[end.test] += max(0.0, end.seconds - 1)


class Hunt:
    """A pytest plugin: the tests that pytest has collected are run against mutants. Results go to `report`, as JSON."""

    def __init__(self, preys: list[Prey], report: Path, way: Way) -> None:
        self._preys = preys
        self._report = report
        self._way = way
        self._is_prey = False

    def pytest_collection(self) -> None:
        """Before tests are loaded: hypothesis draws the same few examples for every mutant."""
        from hypothesis import settings

        settings.register_profile("mutation", deadline=None, derandomize=True, database=None, max_examples=30)
        settings.load_profile("mutation")

    def pytest_runtest_logreport(self, report: Any) -> None:
        """A failure is the end of a mutant."""
        if self._is_prey and report.failed:
            print(report.longreprtext, flush=True)
            os._exit(FAILED)

    def pytest_runtestloop(self, session: Any) -> bool:
        """Hunt whatever needn't be loaded anew; whoever survives what its budget allows has to pass all tests."""
        from tests.mutation.surveying import surveyed

        self._session = session
        self._trials = trials = Trials(surveyed(session, [str(file) for file in FILES.values()]))
        import psutil

        psutil.Process.children = lambda *_, **__: []  # asked before and after each test, and dear; threads are seen
        gc.freeze()
        warm = [prey for prey in self._preys if prey.mutant.place.is_inside and trials.of(prey)]
        ends = self._chased(warm, BUDGET)
        left = [end.prey for end in ends if not end.code and end.prey.name not in EQUIVALENT]
        ends = [end for end in ends if end.prey not in left] + self._chased(left, inf)
        to_load = [end.prey for end in ends if end.code == TO_LOAD]
        to_load += [prey for prey in self._preys if prey not in warm]
        tests = {
            prey.name: [trials.of_module(prey.module, *how) for how in ((BUDGET, PURE), (LONGEST / 4, ("",)))]
            for prey in to_load
        }
        done = [(end.prey.name, end.code, self._name(end.test)) for end in ends if end.code != TO_LOAD]
        self._report.write_text(json.dumps({"ends": done, "tests": tests}))
        return True

    def _chased(self, preys: list[Prey], budget: float) -> list[End]:
        def live(prey: Prey, begins: Callable[[int], object]) -> int:
            return self._live(prey, self._trials.of(prey, budget), begins)

        ends = []
        for end in chase(preys, live, self._way):
            self._trials.ended(end)
            ends.append(end)
            told(end, self._name(end.test))
        return ends

    def _name(self, test: int) -> str:
        return self._trials.seen[test].test if test >= 0 else ""

    def _live(self, prey: Prey, tests: list[int], begins: Callable[[int], object]) -> int:
        self._is_prey = True
        try:
            spoiling.transplant(importlib.import_module(f"nerv.{prey.module}"), prey.spoilt())
        except ValueError:
            return TO_LOAD
        for number in tests:
            begins(number)
            signal.setitimer(signal.ITIMER_REAL, 4 + 10 * self._trials.seen[number].seconds)
            item = self._session.items[number]
            try:
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
            except BaseException:  # a mutant may raise what ends pytest
                return FAILED
        return PASSED


def told(end: End, test: str) -> None:
    """Say on stderr how it goes."""
    words = {PASSED: "survived", FAILED: "noticed", TO_LOAD: "to be loaded", HUNG: "hung"}
    how = words.get(end.code, "killed")
    print(f"{end.seconds:5.1f} s, {how}: {end.prey.name}  {test}", file=sys.stderr, flush=True)


def hunt(preys: list[Prey], way: Way) -> list[tuple[str, int, str]]:
    """Try these mutants; gives for each its name, exit code, and the test that ended it."""
    import hypothesis
    import networkx
    import numpy
    import psutil
    import pytest  # loaded here, so that no child has to

    del hypothesis, networkx, numpy, psutil
    os.chdir(REPOSITORY)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report"
        child = os.fork()
        if not child:
            os.dup2(way.output, 1)
            os._exit(int(pytest.main([*OPTIONS, *way.tests], plugins=[Hunt(preys, report, way)])))
        os.waitpid(child, 0)
        hunted = json.loads(report.read_text())
    return hunted["ends"] + _hunt_anew([prey for prey in preys if prey.name in hunted["tests"]], hunted["tests"], way)


def _hunt_anew(preys: list[Prey], tests: dict[str, list[list[str]]], way: Way) -> list[tuple[str, int, str]]:
    """Those that have to be loaded: with few tests, and those that survive with many."""
    import pytest

    ends: list[tuple[str, int, str]] = []
    for stage in (0, 1):

        def live(prey: Prey, _: Callable[[int], object], stage: int = stage) -> int:
            signal.alarm(LONGEST)
            try:
                spoiling.replace(f"nerv.{prey.module}", FILES[prey.module], prey.spoilt())
            except BaseException:
                traceback.print_exc()
                return FAILED
            return FAILED if pytest.main([*OPTIONS, "-x", *tests[prey.name][stage]]) else PASSED

        left = []
        for end in chase(preys, live, way):
            told(end, "")
            if stage or end.code or end.prey.name in EQUIVALENT:
                ends.append((end.prey.name, end.code, ""))
            else:
                left.append(end.prey)
        preys = left
    return ends


def main(words: list[str]) -> None:
    """Hunt the mutants whose names contain all these words; print what came of it as JSON."""
    began = time.monotonic()
    output = os.dup(1) if "-v" in words else os.open(os.devnull, os.O_WRONLY)
    jobs = 1 if "-j1" in words else len(os.sched_getaffinity(0))
    tests = PURE if "-pure" in words else TESTS
    words = [word for word in words if word not in {"-v", "-j1", "-pure"}]
    preys = [prey for prey in all_mutants() if prey.name.startswith(tuple(words) or "")]
    ends = hunt(preys, Way(jobs, output, tests))
    report = {
        "mutants": Counter(name.partition(".")[0] for name, _, _ in ends),
        "seconds": round(time.monotonic() - began),
        "hung": [f"{name} ({test})" for name, code, test in ends if code == HUNG],
        "survivors": sorted(name for name, code, _ in ends if not code),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
