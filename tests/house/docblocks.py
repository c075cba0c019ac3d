"""Run the fenced code blocks of a Markdown page, so that no page can say what isn't so.

    python -m tests.house.docblocks README.md

Blocks run from top to bottom in one new temporary folder that holds a copy of `examples/`:

- `python`: in one namespace, the module `__main__` of a file `page.py` whose line numbers are the page's;
- `bash`: as one script, by `bash -eu`;
- `console`: each line after `$ ` by a `bash -eu` of its own (a `\\` at its end joins the next line); lines below it are
  what it must print, where `...` stands for anything. Without such lines it may print what it likes;
- `text`, `mermaid`, `json`, `toml`: not run. A block in any other language is an error, so that none is missed.

An HTML comment above a block says more about it:

    <!-- file: name.py -->      the block is written to that file instead of being run (any language)
    <!-- fresh -->              `python` starts a new namespace
    <!-- raises: ErrorName -->  `python` must raise exactly that
    <!-- exits: 1 -->           the last command of `bash` or `console` must exit with that status, not 0
    <!-- not run: reason -->    skipped, for one of the REASONS
    <!-- processes -->          anywhere in the page: each `python` block is a script of its own, as worker processes
                                need one that they can import (with `if __name__ == "__main__":`)
"""

import contextlib
import doctest
import re
import shutil
import sys
import tempfile
import traceback
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.house.commands import REPOSITORY, run_command

REASONS = frozenset({"CI runs it"})
"""Why a block may stay unrun; test_docs.py holds each of them to its word."""

EXAMPLES = REPOSITORY / "examples"
INERT = frozenset({"text", "mermaid", "json", "toml"})
VALUED = frozenset({"file", "raises", "exits", "not run"})
MARKERS = VALUED | {"fresh", "processes"}
SECONDS = 120.0
"""What one command or script may take."""

FENCE = re.compile(r"(?P<indent> *)(?P<ticks>`{3,}|~{3,})(?P<language>[^\s`]*)[^`]*")
COMMENT = re.compile(r"<!--\s*(?P<name>.*?)\s*(?::\s*(?P<value>.*?)\s*)?-->")


class BlockError(Exception):
    """Raised when a block doesn't do what the page says, or can't be understood; the message begins with its line."""


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the line of its fence (from 1) and the markers above it."""

    language: str
    text: str
    line: int
    markers: dict[str, str] = field(default_factory=dict)

    def error(self, problem: str) -> BlockError:
        """The error that names this block."""
        return BlockError(f"line {self.line}: this {self.language} block {problem}")


def read_page(page: str) -> tuple[list[Block], set[str]]:
    """The fenced blocks of a page, in order, and the names of all comments. A block without an end is a BlockError."""
    blocks: list[Block] = []
    names: set[str] = set()
    markers: dict[str, str] = {}
    lines = enumerate(page.splitlines(), start=1)
    for number, line in lines:
        if fence := FENCE.fullmatch(line):
            body = "".join(read_body(lines, fence, number))
            blocks.append(Block(fence["language"], body, number, markers))
            markers = {}
        elif comment := COMMENT.fullmatch(line.strip()):
            names.add(comment["name"])
            markers = markers | {comment["name"]: comment["value"] or ""}
        elif line.strip():
            markers = {}
    return blocks, names


def read_body(lines: Iterator[tuple[int, str]], fence: re.Match[str], opened: int) -> Iterator[str]:
    """The lines up to the fence that closes this one, without the indent that it has."""
    indent = re.compile(f" {{0,{len(fence['indent'])}}}")
    for _, line in lines:
        if line.strip().startswith(fence["ticks"]) and not line.strip(" `~"):
            return
        yield line[indent.match(line).end() :] + "\n"
    raise BlockError(f"line {opened}: this block has no end")


class Runner:
    """Runs one page's blocks in a folder, which it fills."""

    def __init__(self, page: str, folder: Path) -> None:
        self.blocks, comments = read_page(page)
        self.folder = folder
        self.file = folder / "page.py"
        self.by_scripts = "processes" in comments

    def run(self) -> int:
        """Run them all; the result is how many there are. The first that is wrong is a BlockError."""
        self.file.write_text(self.python_source(), encoding="utf-8")
        self.start_namespace()
        for block in self.blocks:
            self.run_block(block)
        return len(self.blocks)

    def python_source(self) -> str:
        """The python blocks where they stand in the page, all else blank: tracebacks and `inspect` look into it."""
        lines: list[str] = []
        for block in self.blocks:
            if block.language == "python":
                lines += [""] * (block.line - len(lines)) + block.text.splitlines()
        return "\n".join(lines) + "\n"

    def start_namespace(self) -> None:
        """Let the blocks that follow see nothing of those before."""
        self.module = types.ModuleType("__main__")
        self.module.__file__ = str(self.file)
        sys.modules["__main__"] = self.module

    def run_block(self, block: Block) -> None:
        """Do with one block what its language and markers say."""
        if block.language in INERT and "file" not in block.markers:
            return
        check_markers(block)
        if "file" in block.markers:
            self.write_file(block)
        elif "not run" not in block.markers:
            self.run_code(block)

    def write_file(self, block: Block) -> None:
        """Write a block to the file that it names."""
        path = self.folder / block.markers["file"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")

    def run_code(self, block: Block) -> None:
        """Run a block by its language."""
        if block.language == "python":
            if "fresh" in block.markers:
                self.start_namespace()
            (self.run_script if self.by_scripts else self.run_python)(block)
        elif block.language == "bash":
            self.run_shell(block, block.text, int(block.markers.get("exits", 0)))
        elif block.language == "console":
            self.run_console(block)
        else:
            raise block.error(f"is in no language that is run (python, bash, console) or left alone {sorted(INERT)}")

    def run_python(self, block: Block) -> None:
        """Run a block in the page's namespace, here."""
        expected = block.markers.get("raises")
        try:
            code = compile("\n" * block.line + block.text, self.file, "exec", dont_inherit=True)
            exec(code, vars(self.module))
        except (Exception, SystemExit) as error:
            if type(error).__name__ != expected:
                trace = "".join(traceback.format_exception(error.with_traceback(error.__traceback__.tb_next)))
                raise block.error(f"raised{f', not {expected} but' if expected else ''}:\n{trace}") from None
        else:
            if expected:
                raise block.error(f"raised no {expected}")

    def run_script(self, block: Block) -> None:
        """Run a block as a file of its own, in a process of its own."""
        script = self.folder / f"page_{block.line}.py"
        script.write_text("\n" * block.line + block.text, encoding="utf-8")
        done = run_command([sys.executable, script], self.folder, SECONDS)
        expected = block.markers.get("raises")
        if expected is None and done.returncode:
            raise block.error(f"exited with {done.returncode}:\n{done.stdout}")
        raised = done.returncode and re.search(rf"(?m)^([\w.]+\.)?{expected}(:|$)", done.stdout)
        if expected is not None and not raised:
            raise block.error(f"raised no {expected}:\n{done.stdout}")

    def run_console(self, block: Block) -> None:
        """Run each command of a block and compare what it prints."""
        commands = read_console(block)
        for index, (command, expected) in enumerate(commands, start=1):
            status = int(block.markers.get("exits", 0)) if index == len(commands) else 0
            output = self.run_shell(block, command, status)
            if expected and not matches(expected, output):
                raise block.error(f"says that `{command}` prints\n{expected}but it prints\n{output}")

    def run_shell(self, block: Block, script: str, status: int) -> str:
        """Run a shell script; the result is what it printed."""
        done = run_command(["bash", "-eu", "-c", script], self.folder, SECONDS)
        if done.returncode != status:
            raise block.error(f"runs `{script.strip()}`, which exited with {done.returncode}:\n{done.stdout}")
        return done.stdout


def check_markers(block: Block) -> None:
    """Refuse markers that nobody would read, and reasons that aren't on the list."""
    if unknown := block.markers.keys() - MARKERS:
        raise block.error(f"has a marker that means nothing: {sorted(unknown)}; known are {sorted(MARKERS)}")
    if empty := {name for name in block.markers.keys() & VALUED if not block.markers[name]}:
        raise block.error(f"has a marker that says nothing: {sorted(empty)}")
    reason = block.markers.get("not run")
    if reason is not None and reason not in REASONS:
        raise block.error(f"isn't run because {reason!r}; the only reasons are {sorted(REASONS)}")
    wrong = {"exits"} if block.language == "python" else {"raises", "fresh"}
    if misplaced := block.markers.keys() & wrong:
        raise block.error(f"can't have the marker {sorted(misplaced)}")


def read_console(block: Block) -> list[tuple[str, str]]:
    """The commands of a console block, each with the output below it."""
    commands: list[tuple[str, str]] = []
    for line in block.text.splitlines():
        command, output = commands[-1] if commands else ("", "")
        if line.startswith("$ "):
            commands.append((line.removeprefix("$ "), ""))
        elif not commands:
            raise block.error("begins with output; begin with a command, after `$ `")
        elif command.endswith("\\") and not output:
            commands[-1] = (f"{command}\n{line}", "")
        else:
            commands[-1] = (command, f"{output}{line}\n")
    return commands


def matches(expected: str, output: str) -> bool:
    """Whether the output is what was expected, by doctest's rules for `...`; blanks at ends of lines don't count."""
    want, got = (re.sub(r"[ \t]+$", "", text.rstrip(), flags=re.MULTILINE) + "\n" for text in (expected, output))
    return doctest.OutputChecker().check_output(want, got, doctest.ELLIPSIS | doctest.DONT_ACCEPT_BLANKLINE)


def run_page(page: Path) -> int:
    """Run a page in a temporary folder; the result is the number of its blocks."""
    text = page.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name, contextlib.chdir(name):
        folder = Path.cwd()
        if EXAMPLES.is_dir():
            shutil.copytree(EXAMPLES, folder / EXAMPLES.name)
        sys.path.insert(0, str(folder))
        return Runner(text, folder).run()


def main(page: str) -> int:
    """Run a page and say how it went; the result is an exit status."""
    try:
        count = run_page(Path(page).resolve())
    except BlockError as problem:
        print(f"{page}: {problem}")
        return 1
    print(f"{page}: {count} blocks did what they say")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
