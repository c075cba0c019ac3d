"""The house rules that a script can hold: checkers, who may import whom, sizes, swallowed exceptions, foreign paths."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.house.commands import REPOSITORY, run_command
from tests.house.layers import cycle, excused, module_names, read_imports, unlisted, upward

NERV = REPOSITORY / "nerv"

# The layers of nerv/, the foundation first: a module imports only from its own layer and from those above it in this
# table. `__init__` is the table of contents (nerv/__init__.py); the command line may read it, the library doesn't.
LAYERS = (
    "errors",
    "forked",
    "events",
    "far",
    "statuses",
    "sparse",
    "pages",
    "eventlog",
    "names",
    "policies",
    "limits",
    "context",
    "references",
    "functions",
    "verdicts",
    "caching",
    "fields",
    "symbols",
    "tasks",
    "likeness",
    "outcomes",
    "added",
    "outgrowth",
    "graph",
    "drawing",
    "plan",
    "numbering",
    "workflows",
    "nodes",
    "triggers",
    "stations",
    "weaving",
    "fedweaving",
    "flows",
    "decorators",
    "settings",
    "clock",
    "timer",
    "effects",
    "states",
    "lines",
    "lookups",
    "waits",
    "sagas",
    "staging",
    "families",
    "suspensions",
    "branching",
    "detours",
    "scheduler",
    "levels",
    "lanes",
    "bygone",
    "forgetful",
    "feeding",
    "places",
    "replay",
    "calls",
    "errands",
    "stopping",
    "turns",
    "pools",
    "journal",
    "loans",
    "live",
    "placement",
    "ways",
    "wires",
    "planting",
    "forgetting",
    "feeder",
    "outcome_ends",
    "ground",
    "steering",
    "bus",
    "kept",
    "claims",
    "shipments",
    "recording",
    "endings",
    "openings",
    "dispatch",
    "batching",
    "engine",
    "views",
    "folding",
    "moments",
    "projector",
    "terms",
    "admission",
    "reports",
    "results",
    "following",
    "execution",
    "drafts",
    "progress",
    "stored",
    "regrowth",
    "resuming",
    "owning",
    "orders",
    "shelf",
    "keeping",
    "hub",
    "manager",
    "restarting",
    "running",
    "partitioner",
    "interop",
    "testing",
    "__init__",
    "cli",
    "__main__",
    "container",
    "pytest_plugin",
)

# (importer, imported) -> why a function, or the type checker, must know a higher layer. What is imported when a module
# is loaded has no excuse.
UPWARD = {
    ("nerv.feeder", "nerv.admission"): "what a message adds is admitted like the rest",
    ("nerv.symbols", "nerv.workflows"): "a node may be a whole workflow, which is drawn inside it",
    ("nerv.errors", "nerv.execution"): "WorkflowFailedError carries the Execution that failed",
    ("nerv.calls", "nerv.live"): "a call reads its inputs from the live execution that made it",
    ("nerv.turns", "nerv.live"): "a lane belongs to a live execution",
    ("nerv.turns", "nerv.pools.base"): "a lane leads to a pool",
    ("nerv.resuming", "nerv.keeping"): "what is resumed tells its keeper",
    ("nerv.live", "nerv.engine"): "a live execution tells its engine of progress",
    ("nerv.lines", "nerv.lookups"): "lines are where the engine hears of what nobody computes any more",
    ("nerv.lines", "nerv.waits"): "a line holds whose tasks wait in it",
    ("nerv.states", "nerv.waits"): "the scheduler's state has what its tasks wait for",
    ("nerv.states", "nerv.families"): "the scheduler's state has what tasks have added",
    ("nerv.states", "nerv.suspensions"): "the scheduler's state has who waits for a signal or a moment",
    ("nerv.families", "nerv.scheduler"): "families belong to a scheduler",
    ("nerv.suspensions", "nerv.scheduler"): "suspensions belong to a scheduler",
    ("nerv.places", "nerv.live"): "where a task is, is read from the live execution",
    ("nerv.planting", "nerv.admission"): "what is added is admitted like what was there at the start",
    ("nerv.live", "nerv.admission"): "a live execution keeps who admits what is added",
    ("nerv.steering", "nerv.engine"): "steering is a part of the engine",
    ("nerv.openings", "nerv.dispatch"): "the openings are a part of the engine",
    ("nerv.states", "nerv.sagas"): "the scheduler's state has what is to be undone",
    ("nerv.waits", "nerv.scheduler"): "what waits belongs to a scheduler",
    ("nerv.sagas", "nerv.detours"): "a saga asks the scheduler what is left",
    ("nerv.errands", "nerv.live"): "an errand reads the result it undoes from the live execution",
    ("nerv.reports", "nerv.execution"): "a report is about an execution",
    ("nerv.execution", "nerv.hub"): "a handle knows whom to ask when it has settled",
    ("nerv.states", "nerv.staging"): "the scheduler's state has what is staged",
    ("nerv.staging", "nerv.scheduler"): "what is staged belongs to a scheduler",
    ("nerv.live", "nerv.placement"): "a live execution has what places its tasks",
    ("nerv.live", "nerv.wires"): "a live execution has what tells its hooks",
    ("nerv.live", "nerv.kept"): "a live execution has what the recorder holds for it",
    ("nerv.recording", "nerv.engine"): "a recorder lets the engine go on with what is written",
    ("nerv.shelf", "nerv.keeping"): "a stored execution is read by its keeper",
    ("nerv.keeping", "nerv.cli.targets"): "where `nerv run` had a workflow from, it is loaded from again",
    ("nerv.keeping", "nerv.hub"): "a keeper is a part of its manager",
    ("nerv.orders", "nerv.hub"): "orders are given to executions of a manager",
    ("nerv.workflows", "nerv.interop.dask"): "to_dask and from_dask are a workflow's own, whoever does the work",
    ("nerv.clock", "nerv.timer"): "a clock makes its engine's timer, so that a simulated one can ring it itself",
}

# library -> the only layer that imports it.
OWNERS = {
    "blinker": "bus",
    "pyrsistent": "projector",
    "dependency_injector": "container",
    "joblib": "caching",
    "cronsim": "triggers",
}

# A library that loads nerv, not the other way round -> the module that it loads.
HOSTS = {"pytest": "nerv.pytest_plugin"}

# library -> the modules that import it, which only an extra of the same name as its project brings.
EXTRAS = dict.fromkeys(("dask", "distributed"), r"nerv\.(interop\.dask|pools\.dask)")

# The decisions are pure: these layers know no thread, clock, file or loop.
PURE = (
    "scheduler", "verdicts", "placement", "states", "families", "suspensions", "branching", "detours", "levels",
    "lanes", "bygone", "forgetful", "waits", "lookups", "sagas", "lines", "plan", "policies", "limits", "events",
)  # fmt: skip
IMPURE = ("threading", "time", "sqlite3", "asyncio")

# What `import nerv` doesn't load: who needs it waits for it then.
HEAVY = ("dependency_injector", "networkx", "taskmap", "asyncio", "multiprocessing", "sqlite3", "dask", "distributed")

MAX_FILE = 400
MAX_FUNCTION = 50
# "nerv/file.py", or "nerv/file.py: function" -> why it may be longer than the others.
LONG: dict[str, str] = {}

# Put together so that this file itself holds none of them.
FOREIGN = re.compile("|".join(f"/{name}/" for name in ("work", "root", "home", "farm")) + r"|/tmp/\w")

IMPORTS = read_imports(NERV)


def top(module: str) -> str:
    """`os` of `os.path`."""
    return module.partition(".")[0]


def layer_files(*layers: str) -> str:
    """A pattern for the modules of some layers."""
    return rf"nerv\.({'|'.join(layers)})(\..*)?"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("command", ["ruff check --no-cache --output-format=concise .", "mypy"])
def test_the_checker_has_nothing_to_say(command):
    done = run_command([sys.executable, "-m", *command.split()], REPOSITORY, seconds=240)
    assert done.returncode == 0, done.stdout


def test_every_module_is_in_the_table_of_layers():
    modules = [*module_names(NERV), *(one.target for one in IMPORTS)]
    missing = unlisted(modules, LAYERS, "nerv")
    assert not missing, f"add {missing} to LAYERS in {Path(__file__).name}, below all that it imports"


def test_imports_point_down_to_the_foundation():
    listed = [one for one in IMPORTS if not unlisted([one.importer, one.target], LAYERS, "nerv")]
    wrong = [str(one) for one in upward(listed, LAYERS, "nerv") if not excused(one, UPWARD)]
    assert not wrong, "these import a higher layer:\n" + "\n".join(wrong)


def test_every_excuse_is_needed():
    used = {(one.importer, one.target) for one in IMPORTS}
    assert not UPWARD.keys() - used, "nobody imports this any more: take it out of UPWARD"
    assert all(UPWARD.values()), "an excuse has a reason"


def test_no_modules_import_each_other_when_they_are_loaded():
    assert not cycle(IMPORTS)


@pytest.mark.parametrize(("library", "owner"), OWNERS.items())
def test_only_its_owner_imports_a_library(library, owner):
    strangers = [str(one) for one in IMPORTS if top(one.target) == library]
    assert not [line for line in strangers if not re.match(layer_files(owner) + ",", line)]


def test_nothing_imports_the_container():
    inside = re.compile(layer_files("container"))
    assert not [str(one) for one in IMPORTS if inside.fullmatch(one.target) and not inside.fullmatch(one.importer)]


def test_decisions_know_no_thread_clock_file_or_loop():
    pure = re.compile(layer_files(*PURE))
    assert not [str(one) for one in IMPORTS if pure.fullmatch(one.importer) and top(one.target) in IMPURE]


def is_an_extra(one):
    """Whether an import is of a library that only an extra brings, by a module that is for it."""
    owner = EXTRAS.get(top(one.target))
    return owner is not None and re.match(owner, one.importer)


def test_every_library_that_is_imported_is_declared():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[<>=\[;]", line)[0] for line in project["dependencies"]}
    known = sys.stdlib_module_names | {"nerv"}
    owners = packages_distributions()
    undeclared = [
        str(one)
        for one in IMPORTS
        if top(one.target) not in known
        and HOSTS.get(top(one.target)) != one.importer
        and not is_an_extra(one)
        and not declared & {name.lower() for name in owners.get(top(one.target), ())}
    ]
    assert not undeclared


def test_import_nerv_loads_nothing_heavy():
    code = "import sys, json; before = set(sys.modules); import nerv; print(json.dumps([*set(sys.modules) - before]))"
    done = run_command([sys.executable, "-c", code], REPOSITORY, seconds=30)
    assert done.returncode == 0, done.stdout
    loaded = {top(module) for module in json.loads(done.stdout)}
    assert not loaded & set(HEAVY)


def test_no_module_is_named_like_a_public_name():
    import nerv

    modules = {path.stem for path in NERV.iterdir()}
    assert not modules & set(nerv.__all__), "importing the module would shadow the name"


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """All functions and methods in a file."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def long_places(file: Path, name: str) -> Iterator[str]:
    """What is longer than it should be: the file, functions in it."""
    text = file.read_text(encoding="utf-8")
    if text.count("\n") > MAX_FILE:
        yield name
    for function in functions(ast.parse(text)):
        if function.end_lineno - function.lineno >= MAX_FUNCTION:
            yield f"{name}: {function.name}"


def test_no_file_or_function_is_so_long_that_a_noun_is_missing():
    files = sorted(NERV.rglob("*.py"))
    found = {place for file in files for place in long_places(file, str(file.relative_to(REPOSITORY)))}
    assert not found - LONG.keys(), f"over {MAX_FILE} lines, or a function over {MAX_FUNCTION}"
    assert not LONG.keys() - found, "this is short enough now: take it out of LONG"


def swallows(tree: ast.AST) -> Iterator[int]:
    """Lines where an exception is caught and nothing is done, or any exception is suppressed."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and all(isinstance(step, ast.Pass) for step in node.body):
            yield node.lineno
        if isinstance(node, ast.Call) and re.fullmatch(r"(.*\.)?suppress\((Base)?Exception\)", ast.unparse(node)):
            yield node.lineno


def test_no_exception_is_swallowed():
    found = [
        f"{file.relative_to(REPOSITORY)}:{line}"
        for file in sorted(NERV.rglob("*.py"))
        for line in swallows(ast.parse(file.read_text(encoding="utf-8")))
    ]
    assert not found, "say what happened to the exception (contextlib.suppress names the one that means nothing)"


def committed_files() -> list[Path]:
    """The files that git keeps, without those deleted here."""
    words = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    names = subprocess.run(words, cwd=REPOSITORY, capture_output=True, check=True, text=True).stdout
    return [path for name in names.split("\0") if name and (path := REPOSITORY / name).is_file()]


def test_no_committed_file_names_a_path_of_somebodys_machine():
    found = [
        f"{path.relative_to(REPOSITORY)}:{number}: {line.strip()[:100]}"
        for path in committed_files()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1)
        if FOREIGN.search(line)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", ["work", "root", "home", "tmp"])
def test_a_path_of_a_machine_is_seen(name):
    assert FOREIGN.search(f"see /{name}/somebody/notes.txt")
    assert not FOREIGN.search("write to a temporary folder, or the network/home page")


def test_a_swallowed_exception_is_seen():
    tree = ast.parse("""
try: f()
except OSError: pass
with contextlib.suppress(Exception): f()
with suppress(KeyError): f()
try: f()
except KeyError: g()
""")
    assert list(swallows(tree)) == [3, 4]


def test_a_long_function_and_a_long_file_are_seen(tmp_path):
    file = tmp_path / "long.py"
    file.write_text("def short():\n" + "    1\n" * 49 + "async def long():\n" + "    1\n" * 50)
    assert list(long_places(file, "long.py")) == ["long.py: long"]
    file.write_text("1\n" * 400)
    assert not list(long_places(file, "long.py"))
    file.write_text("1\n" * 401)
    assert list(long_places(file, "long.py")) == ["long.py"]
