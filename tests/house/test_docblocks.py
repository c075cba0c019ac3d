"""The runner of documentation: what is right passes, and what is wrong fails, with the line of the block."""

import sys
import textwrap

import pytest

from tests.house.commands import REPOSITORY, run_command
from tests.house.docblocks import read_page


@pytest.fixture
def run_page(tmp_path):
    """Runs a page as test_docs.py does; the result is the exit status and what was printed."""

    def run(text: str) -> tuple[int, str]:
        page = tmp_path / "page.md"
        page.write_text(textwrap.dedent(text), encoding="utf-8")
        done = run_command([sys.executable, "-m", "tests.house.docblocks", page], REPOSITORY, seconds=50)
        return done.returncode, done.stdout

    return run


PASSING = {
    "one namespace": """
        ```python
        x = 1
        ```
        text
        ```python
        assert x == 1
        ```
        """,
    "a fresh namespace": """
        ```python
        x = 1
        ```
        <!-- fresh -->
        ```python
        assert "x" not in globals()
        ```
        """,
    "an expected exception": """
        <!-- raises: ZeroDivisionError -->
        ```python
        1 / 0
        ```
        """,
    "the main module is a file whose source can be read": """
        ```python
        import inspect, pickle

        def double(n):
            return 2 * n

        if __name__ == "__main__":
            assert inspect.getsource(double).startswith("def double")
            assert pickle.loads(pickle.dumps(double)) is double
            assert double.__code__.co_firstlineno == 5
        else:
            raise AssertionError
        ```
        """,
    "python, files and shells in one folder, in order": """
        <!-- file: kit/tool.py -->
        ```python
        print(open("made.txt").read(), 6 * 7)
        ```
        ```python
        open("made.txt", "w").write("made")
        ```
        ```console
        $ python kit/tool.py
        made 42
        ```
        ```bash
        cp made.txt copied.txt
        name=copied.txt
        grep made $name
        ```
        ```python
        assert open("copied.txt").read() == "made"
        from kit import tool
        ```
        """,
    "a data file": """
        <!-- file: data.json -->
        ```json
        {"a": 1}
        ```
        ```python
        import json
        assert json.load(open("data.json")) == {"a": 1}
        ```
        """,
    "any output where none is shown, dots for the rest, a command over two lines": """
        ```console
        $ echo unseen
        $ printf 'one   \\ntwo\\nthree 3.14 s\\n'
        one
        ...
        three ... s
        $ echo a \\
            b
        a b
        ```
        """,
    "a command that is meant to fail": """
        <!-- exits: 3 -->
        ```console
        $ true
        $ echo no; exit 3
        no
        ```
        """,
    "scripts with processes": """
        <!-- processes -->
        # Title
        ```python
        import multiprocessing

        def double(n):
            return 2 * n

        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                assert pool.map(double, [1, 2]) == [2, 4]
        ```
        <!-- raises: KeyError -->
        ```python
        assert "double" not in globals()
        error = KeyError("gone")
        error.add_note("a note")
        raise error
        ```
        """,
    "what isn't run": """
        <!-- drawn by a script -->
        ```mermaid
        graph LR
        ```
        <!-- not run: CI runs it -->
        ```bash
        exit 1
        ```
        ````text
        ```python
        raise
        ```
        ````
        """,
    "a block in a list": """
        1. First

           ```python
           for x in "a":
               assert x
           ```
        """,
}

FAILING = {
    "line 2: this python block raised:": """
        ```python
        assert 1 == 2
        ```
        """,
    "raised, not KeyError but:": """
        <!-- raises: KeyError -->
        ```python
        [].pop()
        ```
        """,
    "line 3: this python block raised no KeyError": """
        <!-- raises: KeyError -->
        ```python
        1
        ```
        """,
    "SystemExit": """
        ```python
        import sys
        sys.exit(0)
        ```
        """,
    "SyntaxError": """
        ```python
        x =
        ```
        """,
    "IndentationError": """
        ```python
            x = 1
        ```
        """,
    "but it prints\n42": """
        ```console
        $ echo 42
        43
        ```
        """,
    "prints\nnone\nbut it prints\n\n": """
        ```console
        $ true
        none
        ```
        """,
    "which exited with 7": """
        ```bash
        (exit 7)
        true
        ```
        """,
    "which exited with 1": """
        ```console
        $ false
        $ true
        ```
        """,
    "which exited with 0": """
        <!-- exits: 1 -->
        ```bash
        true
        ```
        """,
    "unbound variable": """
        ```bash
        echo $no_such_name
        ```
        """,
    "begins with output": """
        ```console
        python --version
        ```
        """,
    "isn't run because 'it is slow'": """
        <!-- not run: it is slow -->
        ```bash
        true
        ```
        """,
    "a marker that says nothing: ['not run']": """
        <!-- not run -->
        ```bash
        true
        ```
        """,
    "a marker that means nothing: ['raise']": """
        <!-- raise: KeyError -->
        ```python
        {}[1]
        ```
        """,
    "a marker that says nothing: ['raises']": """
        <!-- raises -->
        ```python
        1
        ```
        """,
    "can't have the marker ['raises']": """
        <!-- raises: KeyError -->
        ```bash
        true
        ```
        """,
    "is in no language": """
        ```py
        1 / 0
        ```
        """,
    "line 2: this block has no end": """
        ```python
        1
        """,
    "line 3: this python block exited with 1": """
        <!-- processes -->
        ```python
        1 / 0
        ```
        """,
    "this python block raised no KeyError:": """
        <!-- processes -->
        <!-- raises: KeyError -->
        ```python
        print("KeyError")
        ```
        """,
}


@pytest.mark.parametrize("page", PASSING.values(), ids=PASSING)
def test_what_is_right_passes(run_page, page):
    status, output = run_page(page)
    assert status == 0, output
    assert "blocks did what they say" in output


@pytest.mark.parametrize(("problem", "page"), FAILING.items(), ids=[name.partition("\n")[0] for name in FAILING])
def test_what_is_wrong_fails(run_page, problem, page):
    status, output = run_page(page)
    assert status == 1, output
    assert problem in output


def test_the_examples_are_there(run_page):
    status, output = run_page("```console\n$ test -d examples\n```\n")
    assert status == 0, output


def test_a_traceback_shows_the_line_of_the_page(run_page):
    _, output = run_page("a\n\n```python\ndef f():\n    return {}[1]\n```\n\n```python\nf()\n```\n")
    assert "line 8: this python block" in output
    assert 'page.py", line 5, in f\n    return {}[1]' in output


def test_a_comment_counts_only_right_above_its_block():
    blocks, comments = read_page("<!-- fresh -->\ntext\n```python\n```\n<!-- fresh -->\n\n```python\n```\n")
    assert [block.markers for block in blocks] == [{}, {"fresh": ""}]
    assert comments == {"fresh"}


def test_a_command_that_never_ends_is_killed_with_its_children(tmp_path):
    with pytest.raises(TimeoutError, match="begun"):
        run_command(["bash", "-c", "echo begun; sleep 60 & wait"], tmp_path, seconds=0.5)
