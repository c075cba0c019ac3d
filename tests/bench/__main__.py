"""Measure everything that docs/performance.md says, on this machine, in one run.

    python -m tests.bench                      the whole table; on a quiet machine, about eight minutes
    python -m tests.bench random plan          these rows
    python -m tests.bench --quick              small sizes, once: shows that it works, not how fast it is

Needs Linux. The row `dask` needs dask, the row `wfcommons` a folder of WfCommons instances with
its `wf_load.py`; without them these rows are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path

from tests.bench.figures import HEAD, Figure, line
from tests.bench.rows import REPOSITORY, ROUNDS, ROWS, Bench


def measured(bench: Bench, rows: list[str]) -> list[Figure]:
    """The figures of some rows, each printed as soon as it is known."""
    print(*HEAD, sep="\n", flush=True)
    figures = []
    for row in rows:
        for figure in ROWS[row](bench):
            figures.append(figure)
            print(line(figure), flush=True)
    return figures


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure what nerv costs.")
    what = f"what to measure: {', '.join(ROWS)}; default: everything"
    parser.add_argument("rows", nargs="*", metavar="ROW", help=what)
    parser.add_argument("--quick", action="store_true", help="small sizes, once")
    parser.add_argument("--rounds", type=int, metavar="N", default=ROUNDS, help="at most so many; default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples there")
    shared = REPOSITORY.parent / "shared" / "wfcommons"
    parser.add_argument("--wfcommons", type=Path, metavar="FOLDER", default=shared, help="WfCommons instances")
    given = parser.parse_args(words)
    if unknown := [row for row in given.rows if row not in ROWS]:
        parser.error(f"no such row: {', '.join(unknown)}; there are {', '.join(ROWS)}")
    return given


def main(words: list[str] | None = None) -> int:
    """Measure and print; the result is an exit status: how it went, not how fast it was."""
    given = arguments(words)
    load = os.getloadavg()[0]
    cores = len(os.sched_getaffinity(0))
    bench = Bench(quick=given.quick, rounds=given.rounds, recorded=given.wfcommons)
    figures = measured(bench, given.rows or list(ROWS))
    machine = f"Python {platform.python_version()}, {platform.system()}, {cores} cores"
    print(f"\n{machine}; load average {load:.1f} before, {os.getloadavg()[0]:.1f} after")
    if given.json:
        found = {"machine": machine, "quick": given.quick, "figures": [figure.as_json() for figure in figures]}
        given.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
