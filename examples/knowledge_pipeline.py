"""Ask the documentation that lies on your own machine: every question is answered with a file and a line.

What is read is real, and nobody here wrote it: the language reference, the manual's pages inside the modules (their
docstrings), and the read-me, licence and description of every package that is installed beside nerv. The whole
pipeline is one chain of calls:

    list the documents
      → each in a lane of its own, so many at a time
          → by kind and size: read it, split it, or pull the docstrings out (in a worker process)
          → each part in a lane of its own: parse it (in a worker process)
      → index → answer

A document that is slow to read holds up nobody: others are being parsed meanwhile, which the timeline at the end shows.

    python examples/knowledge_pipeline.py
    python examples/knowledge_pipeline.py "close a socket" "what is a metaclass"
    nerv plan examples/knowledge_pipeline.py --mermaid
"""

import argparse
import ast
import math
import os
import re
import sysconfig
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from nerv import Execution, Flow, Output, Param, TaskContext, TaskDef, run

QUESTIONS = (
    "merge several sorted inputs",
    "what is the difference between a lock and a reentrant lock",
    "may I sell copies of the software",
)
MEGABYTES = 8.0
"""So much is read."""

BIG = 32_000
"""Bytes: a text from here on is split."""

LONGEST = 1_200
"""Characters: a passage that is longer is cut between two paragraphs."""

COMMON = """a an and are as at be between by can do does for from how i if in is it its may my not of on or that the
    this to what when which will with you"""
SPOKEN = frozenset(COMMON.split())
SKIPPED = re.compile(r"tests?$|idlelib$|lib2to3$|encodings$|site-packages$|_(?!_init__)")
LISTS = frozenset(("top_level.txt", "entry_points.txt", "SOURCES.txt"))


class Document(NamedTuple):
    """A file that says something: "text", "source" (its docstrings do) or "topics" (a dict of them does)."""

    path: str
    kind: str
    size: int


class Passage(NamedTuple):
    """Some paragraphs, where they begin, and what they are about."""

    path: str
    line: int
    about: str
    text: str


class Parsed(NamedTuple):
    """Passages, and for each word which of them use it how often."""

    passages: list[Passage]
    uses: dict[str, list[tuple[int, int]]]


class Index(NamedTuple):
    """All passages, how many words each has, and for each word (number of the passage, how often)."""

    passages: list[Passage]
    lengths: list[int]
    uses: dict[str, list[tuple[int, int]]]


# ---- list ------------------------------------------------------------------------------------------------------------


def documents(ctx: TaskContext) -> list[Document]:
    """The language reference, and of texts and modules, the outermost first, as many as go into so many megabytes."""
    found: dict[str, set[Document]] = defaultdict(set)
    for which in ("stdlib", "purelib"):
        for document in _documents(sysconfig.get_path(which)):
            found[document.kind].add(document)
    size = ctx.get("megabytes", MEGABYTES) * 1e6
    texts = _outermost(found["text"], size / 4)
    left = size - sum(document.size for document in [*found["topics"], *texts])
    return [*found["topics"], *texts, *_outermost(found["source"], left)]


def _outermost(found: set[Document], size: float) -> list[Document]:
    chosen = []
    for document in sorted(found, key=lambda one: (one.path.count("/"), one.path)):
        if document.size <= size:
            size -= document.size
            chosen.append(document)
    return chosen


def _documents(root: str) -> Iterator[Document]:
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not SKIPPED.match(name)]
        for name in names:
            path = Path(folder, name)
            kind = _kind(path)
            if kind:
                yield Document(str(path), kind, path.stat().st_size)


def _kind(path: Path) -> str:
    if path.suffix == ".py":
        topics = path.parent.name == "pydoc_data" and path.name == "topics.py"
        return "topics" if topics else "" if SKIPPED.match(path.name) else "source"
    is_text = path.suffix in (".md", ".rst", ".txt") or path.name.startswith(("METADATA", "LICENSE", "LICENCE"))
    return "text" if is_text and path.name not in LISTS else ""


# ---- read: into passages ---------------------------------------------------------------------------------------------


def is_source(document: Document) -> bool:
    return document.kind == "source"


def is_big(document: Document) -> bool:
    return document.size >= BIG


def read(document: Document) -> list[list[Passage]]:
    """A small text: one part."""
    return [list(_passages(document.path, 1, "", Path(document.path).read_text("utf-8", "replace")))]


def split(document: Document) -> list[list[Passage]]:
    """A big text: parts of some `BIG` bytes each, none of which ends inside a paragraph."""
    parts: list[list[Passage]] = [[]]
    size = 0
    for passage in _topics(document) if document.kind == "topics" else read(document)[0]:
        if size >= BIG:
            parts.append([])
            size = 0
        parts[-1].append(passage)
        size += len(passage.text)
    return parts


def docstrings(document: Document) -> list[list[Passage]]:
    """What a module says of itself, its classes and its functions."""
    try:
        tree = ast.parse(Path(document.path).read_bytes())
    except (SyntaxError, ValueError):  # some packages ship sources of other versions of Python
        return []
    return [[passage for at, about, text in _said(tree, "") for passage in _passages(document.path, at, about, text)]]


def _said(tree: ast.AST, name: str) -> Iterator[tuple[int, str, str]]:
    for node in [tree, *getattr(tree, "body", ())]:
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        own = name if node is tree else f"{name}.{node.name}".lstrip(".")  # type: ignore[union-attr]
        if node is not tree and isinstance(node, ast.ClassDef):
            yield from _said(node, own)
        elif text := ast.get_docstring(node, clean=False):
            yield node.body[0].lineno, own, text


def _topics(document: Document) -> Iterator[Passage]:
    """The pages behind Python's own `help("assert")`."""
    table = ast.parse(Path(document.path).read_bytes()).body[-1]
    assert isinstance(table, ast.Assign | ast.AnnAssign)
    assert isinstance(table.value, ast.Dict)
    for key, text in zip(table.value.keys, table.value.values, strict=True):
        assert isinstance(key, ast.Constant)
        assert isinstance(text, ast.Constant)
        yield from _passages(document.path, text.lineno, str(key.value), str(text.value))


def _passages(path: str, line: int, about: str, text: str) -> Iterator[Passage]:
    """Paragraphs, so many together as aren't too long."""
    begun, taken = line, ""
    for piece in re.split(r"(?<=\n)(?=[ \t]*\n)", text):
        if taken.strip() and len(taken) + len(piece) > LONGEST:
            yield Passage(path, begun + _blank(taken), about, taken.strip("\n"))
            begun, taken = line, ""
        taken += piece
        line += piece.count("\n")
    if taken.strip():
        yield Passage(path, begun + _blank(taken), about, taken.strip("\n"))


def _blank(text: str) -> int:
    """How many empty lines it begins with."""
    return text[: len(text) - len(text.lstrip())].count("\n")


# ---- parse, index, answer --------------------------------------------------------------------------------------------


def words(text: str) -> list[str]:
    """Words as they are looked up: without endings, and without those that every sentence has."""
    found = re.findall(r"[a-z][a-z0-9]+", text.lower())
    return [_stem(word) for word in found if word not in SPOKEN]


def _stem(word: str) -> str:
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) > 2:
            return word[: -len(ending)]
    return word


def parse(part: list[Passage]) -> Parsed:
    """Which words a part's passages use. What a passage is about counts threefold."""
    uses: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for number, passage in enumerate(part):
        for word, count in Counter(words(f"{passage.about} " * 3 + passage.text)).items():
            uses[word].append((number, count))
    return Parsed(part, dict(uses))


def index(read: Sequence[Sequence[Parsed]]) -> Index:
    """One index of all parts, of all documents."""
    passages: list[Passage] = []
    uses: dict[str, list[tuple[int, int]]] = defaultdict(list)
    lengths: Counter[int] = Counter()
    for parsed in chain.from_iterable(read):
        for word, places in parsed.uses.items():
            for number, count in places:
                uses[word].append((len(passages) + number, count))
                lengths[len(passages) + number] += count
        passages += parsed.passages
    return Index(passages, [lengths[number] for number in range(len(passages))], dict(uses))


def answer(found: Index, questions: Sequence[str]) -> dict[str, Passage | None]:
    """For each question the passage that fits best: by BM25, times how many of its words are there."""
    return {question: _best(found, words(question)) for question in questions}


def _best(found: Index, asked: list[str]) -> Passage | None:
    scores: dict[int, float] = defaultdict(float)
    said: Counter[int] = Counter()
    usual = sum(found.lengths) / max(1, len(found.lengths))
    for word in set(asked):
        places = found.uses.get(word, [])
        rarity = math.log(1 + (len(found.passages) - len(places) + 0.5) / (len(places) + 0.5))
        for number, count in places:
            length = 0.25 + 0.75 * found.lengths[number] / usual
            scores[number] += rarity * count * 2.2 / (count + 1.2 * length)
            said[number] += 1
    best = max(scores, key=lambda number: (scores[number] * said[number], -number), default=None)
    return None if best is None else found.passages[best]


# ---- the pipeline ----------------------------------------------------------------------------------------------------

pipeline = (
    Flow("knowledge")
    .then(documents)
    .buffer(max_parallel=32)
    .route(
        "by_size",
        [(is_source, TaskDef("docstrings", docstrings, pool="process")), (is_big, split)],
        default=read,
    )
    .buffer()
    .then(TaskDef("parse", parse, pool="process"))
    .collect()
    .collect()
    .then(index)
    .then(TaskDef("answer", answer, args=(Output("index"), Param("questions", default=QUESTIONS))))
    .build()
)


# ---- what is printed -------------------------------------------------------------------------------------------------


def excerpt(passage: Passage, question: str) -> str:
    """The paragraph of it that says most of what was asked for."""
    asked = set(words(question))
    paragraphs = re.split(r"\n[ \t]*\n", passage.text)
    best = max(paragraphs, key=lambda one: (len(asked.intersection(words(one))), min(len(one), 300)))
    plain = textwrap.shorten(best, 300, placeholder=" ...")
    return textwrap.fill(plain, 100, initial_indent="    ", subsequent_indent="    ")


def place(passage: Passage) -> str:
    """File and line, from where packages lie."""
    path = Path(passage.path)
    for which in ("purelib", "stdlib"):
        root = Path(sysconfig.get_path(which))
        if path.is_relative_to(root):
            path = path.relative_to(root.parent)
            break
    about = f" ({passage.about})" if passage.about else ""
    return f"{path}:{passage.line}{about}"


def timeline(execution: Execution) -> str:
    """Each stage with its tasks, and when they ran, from the first that started to the last that ended."""
    times: dict[str, list[float]] = defaultdict(list)
    started: Counter[str] = Counter()
    for event in execution.events():
        if event.task_id is not None and event.type in ("TASK_STARTED", "TASK_COMPLETED"):
            stage = re.sub(r"\[\d+\]", "", event.task_id).rpartition("/")[2]
            times[stage].append(event.timestamp)
            started[stage] += event.type == "TASK_STARTED"
    begin = min(map(min, times.values()))
    whole = max(map(max, times.values())) - begin
    lines = [f"  {'stage':12}{'tasks':>7}   seconds"]
    for stage, moments in sorted(times.items(), key=lambda item: min(item[1])):
        since, until = min(moments) - begin, max(moments) - begin
        before, after = round(since / whole * 50), round(until / whole * 50)
        bar = " " * before + "=" * max(1, after - before)
        lines.append(f"  {stage:12}{started[stage]:>7,}   {until - since:>7.2f}  |{bar:<51}|")
    return "\n".join(lines)


def main() -> None:
    """Read everything, and answer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("questions", nargs="*", default=list(QUESTIONS))
    questions = parser.parse_args().questions
    execution = run(pipeline, {"questions": questions})
    found: Index = execution["index"]
    for question, passage in execution.result.items():
        print(f"{question}?")
        print(f"  {place(passage)}\n{excerpt(passage, question)}\n" if passage else "  nothing says a word of it\n")
    files = len({passage.path for passage in found.passages})
    print(f"{len(execution.sequence):,} tasks read {files:,} files into {len(found.passages):,} passages:")
    print(timeline(execution))


if __name__ == "__main__":
    main()
