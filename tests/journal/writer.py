"""A process with a journal of its own, for tests that kill it: `python writer.py FILE WHAT`."""

import sys

from nerv import SqliteJournal
from tests.journal.logs import Log


def main(path, what):
    journal = SqliteJournal(path)
    log = Log(journal, "other", tasks=1_000_000 if what == "steps" else 3)
    print("ready", flush=True)
    if what == "steps":
        for number in range(1_000_000):
            log.step(number, {"n": number})
            print(len(log.records), flush=True)
    sys.stdin.read()  # until we are killed, or told to go
    journal.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
