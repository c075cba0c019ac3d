"""Run the tests against every mutant of a module, and name those that nobody noticed.

By hand: `python -m tests.mutation.hunting` (all of it), or with a part of a mutant's name to see what the tests say.
Each mutant lives in a process forked from this one, which has the test tools loaded but nothing of nerv: the spoilt
module takes its place there before anything imports it, and pytest runs the quick tests, the most telling first, until
one fails. A mutant that can't be imported, or runs into an endless loop, is noticed too.
"""

from __future__ import annotations

import ast
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from tests.mutation.mutating import Mutant, mutants

REPOSITORY = Path(__file__).resolve().parents[2]
PROPERTIES = (
    "tests/properties/test_exhaustive.py::test_every_rule_on_every_graph_of_up_to_two_tasks_with_claims",
    "tests/properties/test_exhaustive.py::test_some_rules_on_every_graph_of_three_and_four_tasks",
    "tests/properties/test_exhaustive.py::test_ready_tasks_of_one_queue_start_by_rank_in_every_state",
    "tests/properties/test_walks.py::test_random_walks_over_larger_graphs[0]",
)
POLICED = "tests/properties/test_policed.py"
TESTS = {
    "graph": ("tests/test_graph.py", "tests/test_scheduler.py", *PROPERTIES),
    "scheduler": ("tests/test_scheduler.py", *PROPERTIES, "tests/test_sagas.py", "tests/test_retries.py"),
    "states": ("tests/test_scheduler.py", *PROPERTIES, "tests/test_sagas.py"),
    "detours": ("tests/test_scheduler.py", "tests/test_retries.py", "tests/test_sagas.py", POLICED),
    "levels": ("tests/test_scheduler.py", "tests/test_run.py", POLICED),
    "waits": ("tests/test_shared_limits.py", "tests/test_retries.py", POLICED),
    "sagas": ("tests/test_sagas.py", POLICED),
    "lines": ("tests/test_shared_limits.py", "tests/properties/test_limits.py", POLICED),
}
OPTIONS = (
    "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--timeout=30",
    "-W", "ignore::pytest.PytestAssertRewriteWarning",  # of what is loaded before the fork
)  # fmt: skip
LONGEST = 120
"""Seconds of work after which a mutant counts as caught in an endless loop: the tests take a tenth of that."""
LARGEST = 1 << 30
"""Bytes of memory that a mutant may use: some of those endless loops append to a list."""

SOURCES = {module: (REPOSITORY / "nerv" / f"{module}.py").read_text(encoding="utf-8") for module in TESTS}
"""What is spoilt: the modules as they were when this began."""


def all_mutants() -> Iterator[tuple[str, int, str]]:
    """Module, number in it, and name of every mutant."""
    for module in TESTS:
        for number, mutant in enumerate(mutants(ast.parse(SOURCES[module]))):
            yield module, number, f"{module}.{mutant.name}"


def live_and_die(module: str, number: int, output: int) -> NoReturn:
    """In a child: take the module's place, run the tests, exit with 0 if they all pass."""
    os.dup2(output, 1)
    os.dup2(output, 2)
    resource.setrlimit(resource.RLIMIT_CPU, (LONGEST, LONGEST))
    resource.setrlimit(resource.RLIMIT_AS, (LARGEST, LARGEST))
    tree = ast.parse(SOURCES[module])
    mutant: Mutant = mutants(tree)[number]
    mutant.apply()
    spoilt = ModuleType(f"nerv.{module}")
    spoilt.__file__ = str(REPOSITORY / "nerv" / f"{module}.py")
    sys.modules[spoilt.__name__] = spoilt
    code = 1
    try:
        exec(compile(ast.fix_missing_locations(tree), f"mutant of {module}", "exec"), spoilt.__dict__)
        import pytest

        code = int(pytest.main([*OPTIONS, *TESTS[module]]))
    finally:
        sys.stdout.flush()
        os._exit(code)


def hunt(chosen: list[tuple[str, int, str]], *, shown: bool = False) -> list[str]:
    """Try these mutants, as many at a time as we may use cores; the names of those whose tests all pass."""
    import hypothesis
    import networkx
    import psutil
    import pytest  # loaded here, so that no child has to

    del hypothesis, networkx, psutil, pytest
    os.chdir(REPOSITORY)
    output = 1 if shown else os.open(os.devnull, os.O_WRONLY)
    left, running, survivors = list(reversed(chosen)), {}, []
    while left or running:
        if left and len(running) < len(os.sched_getaffinity(0)):
            module, number, name = left.pop()
            child = os.fork()
            if not child:
                live_and_die(module, number, output)
            running[child] = name
            continue
        child, status = os.wait()
        name = running.pop(child)
        if not status:
            survivors.append(name)
            print(f"{len(left)} left, survived: {name}", file=sys.stderr, flush=True)
    return sorted(survivors)


def main(words: list[str]) -> None:
    """Hunt the mutants whose names contain all these words; print the survivors, and how it went, as JSON."""
    began = time.monotonic()
    chosen = [mutant for mutant in all_mutants() if all(word in mutant[2] for word in words)]
    survivors = hunt(chosen, shown=bool(words))
    report = {"mutants": len(chosen), "seconds": round(time.monotonic() - began), "survivors": survivors}
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
