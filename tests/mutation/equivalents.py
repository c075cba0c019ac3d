"""Mutants that change nothing that anybody could see, each with the reason: equivalents.txt, as a table."""

from __future__ import annotations

from pathlib import Path


def read(text: str) -> dict[str, str]:
    """Name -> reason, of lines with names, each below a line "# reason" that goes for it."""
    found, reason = {}, ""
    for line in text.splitlines():
        if line.startswith("# "):
            reason = line[2:]
        elif line:
            found[line] = reason
    return found


EQUIVALENT = read(Path(__file__).with_name("equivalents.txt").read_text(encoding="utf-8"))
