"""The reader of imports finds each kind, resolves names as Python does, and sees what points the wrong way."""

from pathlib import Path

import pytest

from tests.house.layers import Import, When, cycle, excused, read_imports, unlisted, upward


@pytest.fixture
def house(tmp_path):
    """Makes a package `house` of files and reads its imports."""

    def build(**files: str) -> list[Import]:
        for name, text in {"__init__": "", **files}.items():
            file = tmp_path / "house" / Path(*name.split("__in__")).with_suffix(".py")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return read_imports(tmp_path / "house")

    return build


def test_each_kind_of_import_is_told_apart(house):
    found = house(
        roof="""
from typing import TYPE_CHECKING
import os.path
if TYPE_CHECKING:
    from house import walls
    def typed(): import enum
else:
    import json
class Tile:
    import abc
    async def lay(self):
        try:
            from house.floor import board
        finally:
            pass
""",
        walls="",
        floor="board = 1",
    )
    assert [(one.target, one.when) for one in found] == [
        ("typing", When.LOADED),
        ("os.path", When.LOADED),
        ("house.walls", When.TYPED),
        ("enum", When.TYPED),
        ("json", When.LOADED),
        ("abc", When.LOADED),
        ("house.floor", When.CALLED),
    ]


def test_relative_imports_are_resolved(house):
    found = house(
        floor="",
        rooms__in____init__="from . import hall\nfrom .. import floor",
        rooms__in__hall="from .kitchen import stove\nfrom ..floor import board\nfrom . import kitchen",
        rooms__in__kitchen="",
    )
    assert {(one.importer, one.target) for one in found} == {
        ("house.rooms", "house.rooms.hall"),
        ("house.rooms", "house.floor"),
        ("house.rooms.hall", "house.rooms.kitchen"),
        ("house.rooms.hall", "house.floor"),
    }


def test_only_imports_against_the_order_are_found(house):
    found = house(
        floor="def fall():\n    import house.roof",
        walls="import house.floor",
        roof="from house import walls, floor",
        __main__="",
    )
    order = ("floor", "walls", "roof", "__main__", "__init__")
    assert [str(one) for one in upward(found, order, "house")] == [
        "house.floor, line 2: imports house.roof when a function is called"
    ]


def test_the_package_itself_is_a_layer(house):
    found = house(floor="from house import anything")
    assert [one.target for one in upward(found, ("floor", "__init__"), "house")] == ["house"]


def test_a_module_that_is_in_no_layer_is_named():
    assert unlisted(["house", "house.attic.box", "os"], ("__init__",), "house") == ["attic"]


def test_only_late_and_typed_imports_can_be_excused():
    allowed = {("house.floor", "house.roof"): "rain"}
    late, loaded = (Import("house.floor", "house.roof", 1, when) for when in (When.CALLED, When.LOADED))
    assert excused(late, allowed)
    assert not excused(loaded, allowed)
    assert not excused(late, {})


def test_a_ring_is_found_and_a_late_import_breaks_it(house):
    ring = house(a="import house.b", b="import house.c", c="import house.a")
    assert set(cycle(ring)) == {"house.a", "house.b", "house.c"}
    assert cycle(house(a="import house.b", b="import house.c", c="def late(): import house.a")) == []
