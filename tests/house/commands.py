"""Run another program as a user would, and never wait for it longer than said."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import psutil

REPOSITORY = Path(__file__).resolve().parents[2]


def environment() -> dict[str, str]:
    """Ours, with this interpreter's programs first on PATH, this checkout's nerv, and plain UTF-8 output.

    Output is told to be 120 columns wide, so that tables look the same on every machine.
    """
    programs = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    return os.environ | {
        "PATH": programs,
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUTF8": "1",
        "COLUMNS": "120",
        "NO_COLOR": "1",
        "TERM": "dumb",
    }


def run_command(words: Sequence[str | Path], folder: Path, seconds: float) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder to its end; `stdout` holds all that it printed, errors in their place.

    Past `seconds` it is killed with all its children, and TimeoutError tells what it had printed until then.
    """
    # A file, not a pipe: a program that leaves a child behind ends when it ends, not when the child does.
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [str(word) for word in words],
            cwd=folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{process.args} ran longer than {seconds} s and printed:\n{text(output)}") from None
        finally:
            if process.returncode is None:
                kill_tree(process)
        return subprocess.CompletedProcess(process.args, status, text(output))


def text(output: IO[bytes]) -> str:
    """All that a file holds."""
    output.seek(0)
    return output.read().decode("utf-8", "replace")


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all below it."""
    top = psutil.Process(process.pid)
    for victim in (*top.children(recursive=True), top):
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
    process.wait()
