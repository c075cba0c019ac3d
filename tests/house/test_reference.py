"""The reference names everything that is public, and the design's table of layers every module."""

import ast
import inspect
import pydoc
import re
from collections.abc import Iterator

import pytest
import typer

import nerv
from nerv.cli.app import app
from nerv.settings import Settings
from tests.house.commands import REPOSITORY
from tests.house.test_style import LAYERS

REFERENCE = (REPOSITORY / "docs" / "reference.md").read_text(encoding="utf-8")
DESIGN = (REPOSITORY / "docs" / "design.md").read_text(encoding="utf-8")

CONTENTS = ("__init__", "__main__")
"""Modules that hold nothing of their own."""


def unnamed(names, text=REFERENCE):
    """Those that the text doesn't name."""
    return [name for name in names if not re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)]


def section(heading, text=REFERENCE):
    """What stands under a heading, as far as the next one."""
    return text.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def rows(heading):
    """The names in the first column of a section's tables."""
    first = re.findall(r"(?m)^\| (.+?) \|", section(heading))
    return [name for cell in first for name in re.findall(r"\w+", cell)]


def fields(kind):
    return [name for name in kind.__struct_fields__ if not name.startswith("_")]


def listed(module):
    """A module's `__all__`, read and not imported: some bring along what changes this process (tests/conftest.py)."""
    path = REPOSITORY.joinpath(*module.split("."))
    tree = ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8"))
    (value,) = [
        node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    return ast.literal_eval(value)


@pytest.mark.parametrize("module", ["nerv.testing", "nerv.interop.dask", "nerv.interop.taskmap", "nerv.container"])
def test_every_public_name_is_in_the_reference(module):
    assert not unnamed(listed(module))


def test_every_name_of_nerv_itself_is_in_the_reference():
    assert not unnamed(nerv.__all__)


@pytest.mark.parametrize("name", nerv.__all__)
def test_help_has_something_to_say(name):
    """Of every public name, and of what it can do."""
    public = getattr(nerv, name)
    assert inspect.getdoc(public)
    assert name in pydoc.render_doc(public)
    if inspect.isclass(public) and not issubclass(public, BaseException):
        acts = {act: found for act, found in vars(public).items() if not act.startswith("_") and callable(found)}
        assert [act for act, found in acts.items() if not inspect.getdoc(found)] == []


def test_every_field_of_a_task_has_a_row():
    assert not set(fields(nerv.TaskDef)) - set(rows("TaskDef"))


def test_every_setting_has_a_row():
    assert not set(fields(Settings)) - set(rows("Settings"))


def test_every_status_and_event_type_has_a_row():
    assert not {kind.name for kind in nerv.EventType} - set(rows("Events"))
    assert not {status.name for status in nerv.TaskStatus} - set(rows("Execution"))


@pytest.mark.parametrize(
    ("kind", "heading"),
    [
        (nerv.TaskResult, "Execution"),
        (nerv.ExecutionPlan, "Workflow"),
        (nerv.Flow, "Flows"),
    ],
)
def test_everything_public_of_a_class_is_in_its_section(kind, heading):
    assert not unnamed([name for name in dir(kind) if not name.startswith("_")], section(heading))


def commands(group: typer.Typer, words: str = "nerv") -> Iterator[str]:
    """All commands below this one, as they are typed."""
    for command in group.registered_commands:
        yield f"{words} {command.name or command.callback.__name__}"
    for inner in group.registered_groups:
        yield from commands(inner.typer_instance, f"{words} {inner.name or inner.typer_instance.info.name}")


def test_every_command_is_in_the_reference():
    found = list(commands(app))
    assert {"nerv run", "nerv cache ls", "nerv resume-paused"} <= set(found)
    assert not unnamed(found, section("Command line"))


def test_every_layer_is_in_the_table_of_the_design():
    table = section("The layers", DESIGN)
    named = set(re.findall(r"`(\w+)/?`", table))
    assert not [layer for layer in LAYERS if layer not in named and layer not in CONTENTS]
