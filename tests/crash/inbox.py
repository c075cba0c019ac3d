"""A fed flow that is killed: a folder of files, each of them a message. `python inbox.py serve`: as of `program`."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random

from nerv import Flow, Watch, WorkflowManager
from tests.crash import program

NAME = "inbox"


def note(ctx, path):
    program.say(ctx, "note", path=path)
    time.sleep(Random(f"{path} {ctx.attempt}").random() * 0.01)
    return Path(path).read_text()


def publish(ctx, text):
    program.say(ctx, "publish", text=text)
    return text.upper()


def build(inbox):
    """Three at a time, then one after the other."""
    watch = Watch(f"{inbox}/*.txt", settle=0.01)
    return Flow(NAME).triggered_by(watch).buffer(max_parallel=3).then(note).collect().then(publish).build()


def live(journal, log, inbox, files, durability):
    """One life; it ends by itself when so many files have been sent."""
    with WorkflowManager(journal=journal, workers=4, max_recoveries=1_000_000, durability=durability) as manager:
        execution = manager.start(build(inbox), {"log": log}, execution_id=NAME)
        while execution.project("progress").total < 3 + 2 * files:
            time.sleep(0.005)
        execution.close()
        execution.wait()
        published = [execution[f"publish[{n}]"] for n in range(execution.result)]
        return {"status": execution.status.name, "published": published}


if __name__ == "__main__":
    program.serve(live)
