"""The inbox: killed and started again, every file is in the ledger once."""

import hashlib
import sqlite3
import subprocess
import sys
from contextlib import closing

from tests.handshake import PATIENCE, environment
from tests.house.commands import REPOSITORY


def test_killed_and_started_again_it_has_every_file_once(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    names = [f"{number}.txt" for number in range(8)]
    for name in names[:5]:
        (folder / name).write_text(f"the words of {name}")
    command = [sys.executable, str(REPOSITORY / "examples" / "inbox.py"), "in"]
    options = {"cwd": tmp_path, "env": environment(), "text": True}
    with subprocess.Popen(command, stdout=subprocess.PIPE, **options) as first:
        assert first.stdout.readline().split()[0] == "1"
        first.kill()
    for name in names[5:]:
        (folder / name).write_text(f"the words of {name}")
    again = subprocess.run(
        [*command, "--until", "8"], timeout=3 * PATIENCE, check=True, stdout=subprocess.PIPE, **options
    )
    assert sorted(line.split()[1] for line in again.stdout.splitlines()) == [f"in/{name}" for name in names]
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as ledger:
        rows = ledger.execute("SELECT path, sha256, words FROM files ORDER BY path").fetchall()
    digests = [hashlib.sha256(f"the words of {name}".encode()).hexdigest() for name in names]
    assert rows == [(f"in/{name}", digest, 4) for name, digest in zip(names, digests, strict=True)]
