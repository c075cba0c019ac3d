"""An inbox that loses nothing: each file that is put into a folder is digested and entered into a ledger, once.

    python examples/inbox.py some/folder                  # Ctrl-C, or kill -9, whenever you like; start it again
    python examples/inbox.py some/folder --until 100      # it ends with the 100th file
    python examples/inbox.py                              # makes a folder with three files, and ends with them

Files are digested three at a time, and entered one after the other, in the order in which they came. After a crash a
step may be called again with the same message. Digesting twice hurts nobody; the ledger's primary key is
`ctx.idempotency_key`, which is the same then.
"""

import argparse
import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

from nerv import Event, EventType, Flow, TaskContext, Watch, Workflow, WorkflowManager


def digest(path: str) -> list[str | int]:
    """What is in a file: its path, the SHA-256 of its bytes, how many words."""
    data = Path(path).read_bytes()
    return [path, hashlib.sha256(data).hexdigest(), len(data.split())]


def enter(ctx: TaskContext, entry: list[str | int]) -> str | int:
    """Enter a digest into the ledger, unless it is there."""
    with closing(sqlite3.connect(ctx["ledger"])) as ledger, ledger:
        ledger.execute("CREATE TABLE IF NOT EXISTS files (key TEXT PRIMARY KEY, path TEXT, sha256 TEXT, words INTEGER)")
        ledger.execute("INSERT OR IGNORE INTO files VALUES (?, ?, ?, ?)", (ctx.idempotency_key, *entry))
    return entry[0]


def inbox(folder: str) -> Workflow:
    """The flow."""
    watch = Watch(f"{folder}/*", settle=0.2)
    return Flow("inbox").triggered_by(watch).buffer(max_parallel=3).then(digest).collect().then(enter).build()


def demonstration() -> str:
    """A folder with three files."""
    folder = Path("inbox")
    folder.mkdir(exist_ok=True)
    for name in ("one", "two", "three"):
        (folder / f"{name}.txt").write_text(f"what {name} says\n")
    return str(folder)


def entry_of(event: Event) -> int | None:
    """The number, from 1, of the file that has been entered, if that is what happened."""
    if event.type is not EventType.TASK_COMPLETED or not (event.task_id or "").startswith("enter["):
        return None
    return int(str(event.task_id)[len("enter[") : -1]) + 1


def main() -> None:
    """Watch until somebody stops it."""
    parser = argparse.ArgumentParser(description="digest what is put into a folder")
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--journal", default="inbox.db", help="where it keeps what it has done (%(default)s)")
    parser.add_argument("--ledger", default="ledger.db", help="where the digests go (%(default)s)")
    parser.add_argument("--until", type=int, default=None, metavar="N", help="end with that file")
    given = parser.parse_args()
    folder, until = (demonstration(), 3) if given.folder is None else (given.folder, given.until)
    with WorkflowManager(journal=given.journal) as manager:
        execution = manager.start(inbox(folder), {"ledger": given.ledger}, execution_id="inbox")
        try:
            for event in execution.events(follow=True):  # those of former lives too, as far as they are at hand
                number = entry_of(event)
                if number is not None:
                    print(f"{number:5}  {event.data['result']}", flush=True)
                    if number == until:
                        execution.close()
        except KeyboardInterrupt:
            print("start it again, and it goes on")


if __name__ == "__main__":
    main()
