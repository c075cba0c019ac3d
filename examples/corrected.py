"""Correct the code after a failure, and go on from the task that failed: what came before keeps its results.

The input is real: the manual's pages of the standard library are read as its modules hold them, the docstrings. A
first draft of the parser wants every docstring to have a summary line that ends with a full stop, as PEP 257 asks; the
library wasn't written so, and the draft fails. The corrected parser takes what is there. Reading, the slow part, isn't
done again.

    python examples/corrected.py
"""

import ast
import sys
import sysconfig
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from nerv import Output, TaskDef, Workflow, WorkflowManager

Docstrings = dict[str, str]


def read() -> Docstrings:
    """The docstrings of the library's top-level modules, from their source."""
    print("reading the library")
    found = {}
    for file in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        docstring = ast.get_docstring(ast.parse(file.read_bytes()))
        if docstring:
            found[file.stem] = docstring
    return found


def draft(docstrings: Docstrings) -> dict[str, str]:
    """Module -> summary. A draft: it thinks that everybody follows PEP 257."""
    summaries = {}
    for name, docstring in docstrings.items():
        first, _, _ = docstring.partition("\n")
        if not first.endswith("."):
            raise ValueError(f"the docstring of {name} doesn't begin with a sentence: {first!r}")
        summaries[name] = first
    return summaries


def corrected(docstrings: Docstrings) -> dict[str, str]:
    """Module -> summary: the first paragraph in one line, full stop or not."""
    return {name: " ".join(docstring.split("\n\n")[0].split()) for name, docstring in docstrings.items()}


def words(summaries: dict[str, str]) -> list[tuple[str, int]]:
    """The words that summaries use most."""
    counts = Counter(word.lower().strip(".,:;()") for text in summaries.values() for word in text.split())
    return [(word, count) for word, count in counts.most_common() if len(word) > 4][:5]


def summaries(parse: Callable[[Docstrings], dict[str, str]]) -> Workflow:
    """The workflow, with one parser or the other: code is no part of what a workflow is."""
    return Workflow(
        "summaries",
        [
            TaskDef("read", read),
            TaskDef("parse", parse, args=(Output("read"),)),
            TaskDef("words", words, args=(Output("parse"),)),
        ],
    )


def main() -> None:
    """Fail with the draft, then go on with the correction."""
    file = sys.argv[1] if len(sys.argv) > 1 else "corrected.db"
    with WorkflowManager(journal=file) as manager:
        first = manager.start(summaries(draft))
        first.wait()
        print(f"{first.status.name}: {first.failures['parse']}")

    # Days later, in another process: the journal has what was read.
    with WorkflowManager(journal=file) as manager:
        mended = manager.fork(first.id, "parse", workflow=summaries(corrected))
        mended.wait()
        print(f"{mended.status.name}: ran again: {', '.join(mended.sequence)}")
        for word, count in mended.result:
            print(f"{count:5} {word}")


if __name__ == "__main__":
    main()
