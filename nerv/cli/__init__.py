"""The `nerv` command.

`main` is its door, and light: `nerv --version` imports nothing but this. The commands themselves are in
nerv/cli/run.py, plan.py and cache.py, put together in nerv/cli/app.py.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from nerv import __version__

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and leave with its exit code.

    Args:
        arguments: what stands after `nerv` on the command line; default: `sys.argv[1:]`.

    Raises:
        SystemExit: always; its code is 0 (completed), 1 (failed), 2 (couldn't start), 3 (cancelled) or 130 (Ctrl-C).
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given == ["--version"]:
        sys.stdout.write(f"nerv {__version__}\n")
        sys.exit(0)
    from nerv.cli.app import app

    app(given, prog_name="nerv")
