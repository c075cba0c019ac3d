"""The knowledge pipeline: every document goes one of three ways, and every answer stands where it says it does."""

import math
import sys
from pathlib import Path

import pytest

from nerv import TaskStatus, run
from tests.house.commands import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "examples"))
import knowledge_pipeline as knowledge

WAYS = ("docstrings", "split", "read")


@pytest.fixture(scope="module")
def execution():
    asked = [*knowledge.QUESTIONS, "xyzzyplugh"]
    return run(knowledge.pipeline, {"questions": asked, "megabytes": 2})


def test_each_document_goes_the_way_of_its_kind_and_size(execution):
    for number, document in enumerate(execution["documents"]):
        ways = [way for way in WAYS if execution.task(f"by_size[{number}]/{way}").status is TaskStatus.COMPLETED]
        expected = "docstrings" if document.kind == "source" else "split" if document.size >= knowledge.BIG else "read"
        assert ways == [expected], document


def test_all_three_ways_were_gone_and_big_texts_came_in_parts(execution):
    read = execution["by_size"].values
    big = [number for number, one in enumerate(execution["documents"]) if one.kind != "source" and one.size > 100_000]
    assert {document.kind for document in execution["documents"]} >= {"source", "text"}
    assert big
    assert all(len(read[number]) > 1 for number in big)
    assert sum(len(parts) for parts in read) == sum("/parse[" in task for task in execution.sequence)


def test_an_answer_stands_at_its_line(execution):
    for question in knowledge.QUESTIONS:
        passage = execution.result[question]
        line = Path(passage.path).read_text("utf-8", "replace").split("\n")[passage.line - 1]
        first = passage.text.lstrip().splitlines()[0].strip()
        assert first[:20].replace('"', "") in line.replace('"', ""), passage
        assert set(knowledge.words(question)) & set(knowledge.words(passage.text))


def test_every_passage_of_a_module_stands_at_its_line(execution):
    checked = 0
    for passage in execution["index"].passages:
        if not passage.path.endswith("topics.py"):
            line = Path(passage.path).read_text("utf-8", "replace").split("\n")[passage.line - 1]
            first = passage.text.strip().splitlines()[0].strip()
            if "\\" not in line:  # else the source says it in other words than the string
                assert first in line or line.strip() in first, passage
                checked += 1
    assert checked > 500


def test_nothing_answers_what_nothing_speaks_of(execution):
    assert execution.result["xyzzyplugh"] is None


def test_parts_are_the_whole_and_no_part_is_much_too_large(tmp_path):
    text = "\n\n".join(f"Paragraph {number}.\nIt has two lines." for number in range(5_000))
    (tmp_path / "long.txt").write_text(text)
    document = knowledge.Document(str(tmp_path / "long.txt"), "text", len(text))
    (whole,) = knowledge.read(document)
    parts = knowledge.split(document)
    assert [passage for part in parts for passage in part] == whole
    assert len(parts) == math.ceil(len(text) / knowledge.BIG)
    assert all(sum(len(one.text) for one in part) < knowledge.BIG + knowledge.LONGEST for part in parts)
    assert "".join(one.text for one in whole).replace("\n", "") == text.replace("\n", "")
    lines = text.splitlines()
    assert all(one.text.startswith(lines[one.line - 1]) for one in whole)


def test_stages_are_told_with_their_tasks(execution):
    told = knowledge.timeline(execution).splitlines()
    rows = {line.split()[0]: int(line.split()[1].replace(",", "")) for line in told[1:]}
    assert set(rows) >= {"documents", "by_size", "read", "docstrings", "parse", "index", "answer"}
    assert sum(rows.values()) == len(execution.sequence)
