"""The benchmarks work, and their arithmetic is right; how fast anything is, the full table says (`-m bench`)."""

import json
from importlib.util import find_spec

import pytest

from tests.bench.__main__ import main
from tests.bench.figures import Figure, Target, interval, table
from tests.bench.floors import plan_levels
from tests.bench.rows import REPOSITORY, ROWS
from tests.bench.shapes import SHAPES, edges, expected, lanes, longest

RECORDED = REPOSITORY.parent / "shared" / "wfcommons"
ABSENT = {"dask": find_spec("dask") is None, "wfcommons": not RECORDED.is_dir()}


def rows_in(file):
    figures = json.loads(file.read_text())["figures"]
    assert all(figure["samples"] and figure["verdict"] for figure in figures)
    return {figure["row"] for figure in figures}


@pytest.mark.timeout(300)
def test_every_row_gives_a_figure(tmp_path, capsys):
    assert main(["--quick", "--json", str(tmp_path / "figures.json")]) == 0
    assert rows_in(tmp_path / "figures.json") == {row for row in ROWS if not ABSENT.get(row)}
    assert "| random |" in capsys.readouterr().out


@pytest.mark.bench
@pytest.mark.timeout(3600)
def test_the_full_table(tmp_path, capsys):
    with capsys.disabled():
        assert main(["--json", str(tmp_path / "figures.json")]) == 0


def test_an_unknown_row_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["randon"])
    assert "no such row: randon; there are wide" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("count", "first", "last"), [(1, 1, 1), (2, 1, 2), (5, 1, 5), (6, 1, 6), (8, 1, 8), (9, 2, 8), (12, 3, 10)]
)
def test_the_interval_is_that_of_the_sign_test(count, first, last):
    assert interval(range(count, 0, -1)) == (first, last)


@pytest.mark.parametrize(
    ("target", "samples", "verdict"),
    [
        (Target(1.0), (0.9, 1.0, 1.1), "met"),
        (Target(1.0), (0.9, 1.05, 1.1), "met within noise"),
        (Target(1.0), (1.01, 1.05, 1.1), "missed"),
        (Target(20, upwards=True), (19, 20, 30), "met"),
        (Target(20, upwards=True), (18, 19, 30), "met within noise"),
        (Target(20, upwards=True), (18, 19, 19.5), "missed"),
        (Target(0), (0, 0, 0), "met"),
        (Target(0), (1, 1, 1), "missed"),
    ],
)
def test_a_target_is_missed_when_the_interval_is_beyond_it(target, samples, verdict):
    assert Figure("row", "work", target, samples).verdict == verdict


def test_the_table_shows_target_figure_interval_and_verdict():
    figure = Figure("plan", "a plan", Target(5, " s"), (4.0, 4.5, 12.3456), "a note")
    assert table([figure]).splitlines()[-1] == (
        "| plan | a plan | at most 5 s | 4.5 s | 4 to 12.3 | 3 | met | a note |"
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_graphs_are_in_dependency_order_and_as_large_as_asked(shape):
    graph = SHAPES[shape](400)
    assert 400 <= len(graph) <= 401
    assert all(max(needs, default=-1) < number for number, needs in enumerate(graph))
    assert len(expected(graph)) == len(graph)


def test_plans_have_two_edges_a_task():
    graph = edges(20_000)
    assert 1.9 < sum(map(len, graph)) / len(graph) < 2.1
    assert plan_levels([(), (0,), (0,), (1, 2), ()]) == 3


def test_the_critical_path_is_the_longest_in_seconds():
    assert longest([(), (), (0, 1), (1,)], [1.0, 2.0, 4.0, 5.0]) == 7.0
    graph, naps = lanes(100)
    assert max(naps) < longest(graph, naps) < sum(naps)
