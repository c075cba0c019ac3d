"""`Symbol`: what a task looks like in a picture, whoever draws it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from nerv.workflows import Workflow

DIRECT: Final = "-->"
"""A wire on which one thing comes after another, as Mermaid draws it."""

BUFFERED: Final = "==>"
"""A wire whose items or messages go on beside each other."""


class Symbol(NamedTuple):
    """A box in a picture.

    Attributes:
        name: the task's.
        kind: of a node what it is: Buffer, Router, Gate ...; empty: a plain task.
        note: what else is worth knowing of it.
        shape: the brackets that Mermaid draws it by.
        within: the workflow that it runs.
    """

    name: str
    kind: str = ""
    note: str = ""
    shape: tuple[str, str] = ("[", "]")
    within: Workflow | None = None

    @property
    def text(self) -> str:
        """Its label."""
        return f"{self.kind} {self.name}".lstrip() + (f": {self.note}" if self.note else "")


class Group(NamedTuple):
    """Tasks that are drawn inside one frame.

    Attributes:
        text: its label.
        ids: theirs.
    """

    text: str
    ids: tuple[str, ...]
