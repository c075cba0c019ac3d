"""What is known about one module: the values that travel from the worker processes back, small and plain."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from atlas.scan import Import
from atlas.words import tokens

NameKind = Literal["function", "class", "method", "constant"]
PARAGRAPH = re.compile(r"\n[ \t]*\n")


class Name(NamedTuple):
    """One public name: ``name`` is the path inside its module (``Logger.info``)."""

    kind: NameKind
    name: str
    signature: str
    doc: str

    @property
    def is_undocumented(self) -> bool:
        """A constant can't carry a docstring, so it isn't counted."""
        return not self.doc and self.kind != "constant"


class Words(NamedTuple):
    """The tokens of a docstring (see `atlas.words`): of its first paragraph, and of all the rest."""

    summary: tuple[str, ...]
    body: tuple[str, ...]


class Timing(NamedTuple):
    """When a task ran (epoch seconds) and in which worker, by its own watch."""

    task: str
    started: float
    ended: float
    worker: str


@dataclass(frozen=True, slots=True)
class Report:
    """One module, described.

    ``reach`` is the set of all modules that importing this one loads, itself included, as the bits of an integer (bit
    n is the n-th module by name): at 826 modules a hundred bytes, and all that one task passes to the next. ``words``
    are the module's own, then those of each of ``names``: what the search index counts, read here because here the
    work is spread over all processes.
    """

    module: str
    kind: str
    doc: str
    reach: int
    lines: int = 0
    code_lines: int = 0
    functions: int = 0
    classes: int = 0
    complexity: int = 0
    names: tuple[Name, ...] = ()
    words: tuple[Words, ...] = ()
    imports: frozenset[Import] = frozenset()
    lazy_imports: frozenset[Import] = frozenset()
    reexports: tuple[tuple[Import, str], ...] = ()
    hardest: tuple[str, int] = ("", 0)
    note: str = ""
    timing: Timing = field(default=Timing("", 0.0, 0.0, ""))

    @property
    def undocumented(self) -> list[str]:
        """Public functions, classes and methods without a docstring."""
        return [name.name for name in self.names if name.is_undocumented]

    @property
    def documentable(self) -> int:
        """How many public names could have a docstring."""
        return sum(name.kind != "constant" for name in self.names)


def summary(doc: str, limit: int = 220) -> str:
    """The first paragraph of a docstring on one line, cut at a sentence's or a word's end."""
    text = " ".join(PARAGRAPH.split(doc.strip(), maxsplit=1)[0].split())
    if len(text) <= limit:
        return text
    stop = text.rfind(". ", 40, limit)
    return text[: stop + 1] if stop > 0 else text[:limit].rsplit(" ", 1)[0] + " …"


def words_of(doc: str, more: str = "") -> Words:
    """What the index counts of a docstring; ``more`` counts as if it stood at the docstring's end."""
    first = summary(doc)
    return Words(tuple(tokens(first)), tuple(tokens(f"{doc.strip()[len(first) :]}\n{more}")))


def all_words(doc: str, names: Sequence[Name]) -> tuple[Words, ...]:
    """A module's words, then those of its public names.

    To a module's own belong its names and their summaries: they say what it is for when it doesn't.
    """
    inside = "\n".join(f"{name.name} {summary(name.doc)}" for name in names if name.kind != "constant")
    return words_of(doc, inside), *(words_of(name.doc, name.signature) for name in names)
