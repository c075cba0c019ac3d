"""Every code block in README.md and docs/ does what the page says, and the README's commands are those that CI runs."""

import re
import sys

import pytest

from tests.house.commands import REPOSITORY, run_command
from tests.house.docblocks import Block, read_page

README = REPOSITORY / "README.md"
PAGES = [README, *sorted((REPOSITORY / "docs").rglob("*.md"))]
CI = REPOSITORY / ".ci" / "run"


def commands(block: Block) -> list[str]:
    """The commands of a bash or console block, without prompts."""
    return [line.removeprefix("$ ") for line in block.text.splitlines() if line.strip()]


def ci_commands() -> list[str]:
    """The commands that CI says are the README's, in order."""
    return re.findall(r"(?m)^(?:first|second)='(.*)'$", CI.read_text(encoding="utf-8"))


@pytest.mark.timeout(330)
@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_every_block_of_the_page_does_what_it_says(page):
    done = run_command([sys.executable, "-m", "tests.house.docblocks", page], REPOSITORY, seconds=300)
    assert done.returncode == 0, done.stdout
    assert "blocks did what they say" in done.stdout, f"it ended early:\n{done.stdout}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_what_the_page_leaves_to_ci_is_run_by_ci(page):
    blocks, _ = read_page(page.read_text(encoding="utf-8"))
    left = [line for block in blocks if "not run" in block.markers for line in commands(block)]
    assert not set(left) - set(ci_commands())


def test_the_readme_begins_with_the_commands_that_ci_runs():
    blocks, _ = read_page(README.read_text(encoding="utf-8"))
    shown = [line for block in blocks if block.language in {"bash", "console"} for line in commands(block)]
    assert len(ci_commands()) == 2
    assert [line for line in shown if line in ci_commands()] == ci_commands()
