"""The `nerv` command: what a TARGET means, what it says, how it ends."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from pathlib import Path

import pytest

import nerv
from nerv.cli import console, main
from nerv.cli.plan import MOST_LEVELS, WIDTH
from nerv.cli.run import MOST_TRACEBACKS, read_value
from nerv.cli.targets import TargetError, load, split
from tests.house.commands import environment

FLOW = """
    from nerv import Output, Param, TaskDef, Workflow, task, workflow

    @task
    def numbers():
        return [1, 2, 3]

    @task
    def total(found):
        print("adding")
        return sum(found)

    @workflow
    def adding():
        "Adds."
        return total(numbers())
"""

FAILING = """
    from nerv import TaskDef, Workflow

    def deeper():
        raise ValueError("boom")

    def fail():
        deeper()

    flow = Workflow("failing", [
        TaskDef("good", int), TaskDef("bad", fail), TaskDef("after", int, dependencies=["bad"]),
    ])
"""


@pytest.fixture(autouse=True)
def clean_imports(monkeypatch, tmp_path):
    """Each test is in a folder of its own; what it imports from there is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file is not None and file.startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def write(tmp_path):
    """Write a file and give its name."""

    def write(name, text=FLOW):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return name

    return write


@pytest.fixture
def command(capsys):
    """Run `nerv` with these words in this process; exit code, stdout, stderr."""

    def command(*words):
        with pytest.raises(SystemExit) as left:
            main(words)
        shown = capsys.readouterr()
        return left.value.code, shown.out, shown.err

    return command


NERV = (sys.executable, "-c", "from nerv.cli import main; main()")


@contextmanager
def program(*words, **options):
    """`nerv` as a program of its own."""
    process = subprocess.Popen(
        [*NERV, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), **options
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ran(*words):
    """`nerv` as a program of its own, to its end: exit code, stdout, stderr."""
    with program(*words) as process:
        out, err = process.communicate(timeout=50)
        return process.returncode, out, err


# ---- TARGET ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        ("flow.py", ("flow.py", "")),
        ("flow.py:wf", ("flow.py", "wf")),
        ("a:b/flow.py:wf", ("a:b/flow.py", "wf")),
        ("package.module", ("package.module", "")),
        ("package.module:flows.wf", ("package.module", "flows.wf")),
    ],
)
def test_a_target_is_a_place_and_perhaps_a_name(target, parts):
    assert split(target) == parts


@pytest.mark.parametrize("target", [":wf", "flow.py:", ":"])
def test_half_a_target_is_refused(target):
    with pytest.raises(TargetError, match="is no TARGET"):
        split(target)


def test_the_only_workflow_in_a_file_needs_no_name(write):
    assert load(write("flow.py")).name == "adding"


@pytest.mark.parametrize("target", ["flow.py:adding", "flow:adding", "flow", "./flow.py"])
def test_a_workflow_is_found_by_file_and_by_module(write, target):
    write("flow.py")
    assert load(target).name == "adding"


def test_a_module_in_a_package_is_found(write):
    write("shop/__init__.py", "")
    write("shop/flows.py", FLOW)
    assert load("shop.flows:adding").name == "adding"


def test_a_name_may_reach_into_an_object(write):
    write("flow.py", FLOW + "    class flows:\n        nightly = adding()\n")
    assert load("flow.py:flows.nightly").name == "adding"


def test_a_file_is_imported_under_its_name_with_its_folder_on_the_path(write, tmp_path):
    write("sub/helper.py", "import nerv\nwf = nerv.Workflow(__name__, [nerv.TaskDef('a', int)])")
    write("sub/my-flow.py", "from helper import wf\nassert __name__ == 'my-flow'")
    assert load("sub/my-flow.py").name == "helper"
    assert sys.path[0] == str(tmp_path / "sub")


def test_a_workflow_comes_before_factories_and_functions(write):
    text = FLOW + '    wf = Workflow("ready", [TaskDef("a", int)])\n    def build() -> Workflow: return 1 / 0\n'
    assert load(write("flow.py", text)).name == "ready"


def test_one_workflow_with_two_names_is_one(write):
    assert load(write("flow.py", "import nerv\na = b = nerv.Workflow('one', [nerv.TaskDef('a', int)])")).name == "one"


@pytest.mark.parametrize(
    "function",
    [
        "def build(): return wf()",
        "def make() -> nerv.Workflow: return wf()",
        "def make() -> 'nerv.Workflow': return wf()",
        "def make(size: int = 3) -> 'Workflow': return wf()",
    ],
)
def test_a_function_that_makes_a_workflow_is_called(write, function):
    text = f"import nerv\ndef wf(): return nerv.Workflow('made', [nerv.TaskDef('a', int)])\n{function}"
    assert load(write("flow.py", text)).name == "made"


def test_a_function_that_is_named_needs_no_annotation(write):
    write("flow.py", "import nerv\ndef wf(): return nerv.Workflow('made', [nerv.TaskDef('a', int)])")
    assert load("flow.py:wf").name == "made"


def refusal(target):
    with pytest.raises(TargetError) as refused:
        load(target)
    return str(refused.value)


def test_several_workflows_are_listed(write):
    text = FLOW + "    @workflow\n    def other(): return numbers()\n"
    message = refusal(write("flow.py", text))
    assert message == "flow.py holds 2 workflows; say which:\n  flow.py:adding\n  flow.py:other"


def test_a_file_without_a_workflow_says_what_to_add(write):
    message = refusal(write("flow.py", "from nerv import Workflow, run, task\nx = 3\ndef _build() -> Workflow: ..."))
    assert message.startswith("flow.py holds no workflow.")
    assert "@workflow" in message


@pytest.mark.parametrize(
    "text", ["def build(size) -> 'Workflow': ...", "from helper import build", "class build: ...", "build = 3"]
)
def test_what_only_looks_like_a_builder_is_none(write, text):
    write("helper.py", "def build(): ...")
    assert refusal(write("flow.py", text)).startswith("flow.py holds no workflow.")


def test_a_name_that_is_not_there_is_named_with_the_nearest(write):
    write("flow.py")
    assert refusal("flow.py:addnig") == "flow.py has no 'addnig' (did you mean 'adding'?)"


def test_a_file_that_is_not_there_is_named_with_the_nearest(write):
    write("flow.py")
    assert refusal("flwo.py") == "there is no file flwo.py (did you mean 'flow.py'?)"
    assert refusal("nowhere/flow.py") == "there is no file nowhere/flow.py"


def test_a_module_that_is_not_there_is_named(write):
    write("flow.py")
    assert refusal("flwo").startswith("there is no module 'flwo' (did you mean 'flow'?)")
    assert "'nowhere' isn't there" in refusal("nowhere.flow")


def test_a_module_name_that_is_a_file_name_is_explained(write):
    write("sub-folder/flow.py")
    assert "is neither a file that ends with .py nor the name of a module" in refusal("sub-folder.flow")
    assert "there is no file sub-folder/flow" in refusal("sub-folder/flow")


def test_a_folder_is_no_file(write):
    write("sub/flow.py")
    assert refusal("./sub") == "sub is a folder; name a file in it, such as sub/flow.py"


@pytest.mark.parametrize("name", ["json.py", "pytest.py"])
def test_a_file_named_like_a_loaded_module_is_refused(write, name):
    assert "that is another module" in refusal(write(name))


def test_a_file_hidden_by_a_package_of_its_name_is_refused(write):
    write("flow/__init__.py", "")
    assert "that is another module" in refusal(write("flow.py"))


def test_a_file_with_two_dots_is_refused(write):
    assert "has no other dot" in refusal(write("flow.v2.py"))


def test_an_import_that_fails_shows_the_users_lines_only(write):
    write("helper.py", "def broken():\n    return 1 / 0\n")
    message = refusal(write("flow.py", "import helper\nhelper.broken()\n"))
    assert message.startswith("flow.py can't be imported:\nTraceback")
    assert re.findall(r'File ".*?(\w+\.py)", line (\d+)', message) == [("flow.py", "2"), ("helper.py", "2")]
    assert message.endswith("ZeroDivisionError: division by zero")


def test_of_a_cause_too_the_users_lines_only_are_shown(write):
    text = """
        import nerv
        def fail(): raise KeyError("deep")
        def flow():
            try:
                nerv.run(nerv.Workflow("inner", [nerv.TaskDef("a", fail)]))
            except nerv.WorkflowFailedError as error:
                raise RuntimeError("outer") from error
    """
    write("flow.py", text)
    message = refusal("flow.py:flow")
    assert "KeyError: 'deep'" in message
    assert "RuntimeError: outer" in message
    assert set(re.findall(r'File ".*?(\w+\.py)"', message)) == {"flow.py"}


def test_a_syntax_error_is_shown_where_it_is(write):
    message = refusal(write("flow.py", "def broken(:\n"))
    assert "line 1" in message
    assert "SyntaxError" in message
    assert "importlib" not in message


def test_a_module_that_a_file_misses_is_its_own_error(write):
    message = refusal(write("flow.py", "import not_there_at_all"))
    assert "flow.py can't be imported" in message
    assert "No module named 'not_there_at_all'" in message


def test_a_workflow_that_is_wrong_is_one_message_with_its_line(write):
    message = refusal(write("flow.py", "import nerv\n\nwf = nerv.Workflow('x', [nerv.TaskDef('a', int, args='b')])"))
    assert "flow.py, line 3: task 'a': args takes a tuple" in message
    assert "Traceback" not in message


def test_a_script_that_ends_the_program_when_imported_is_explained(write):
    assert "if __name__ == '__main__':" in refusal(write("flow.py", "raise SystemExit(3)"))


def test_a_file_of_a_package_is_explained(write):
    write("shop/__init__.py", "")
    message = refusal(write("shop/flows.py", "from . import other"))
    assert "name it as a module, such as package.flows" in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 3", "flow.py:x is no workflow, but something of type int"),
        ("x = None", "flow.py:x is no workflow, but None"),
        ("def x(day, size): ...", "flow.py:x needs arguments, which nobody gives it here; write in its module: flow"),
        ("def x(): return 3", "flow.py:x returned no Workflow, but something of type int"),
        ("async def x(): ...", "flow.py:x returned no Workflow, but something of type coroutine"),
        ("def x(): raise KeyError('k')", "flow.py:x can't be built:\nTraceback"),
        ("import nerv\n@nerv.workflow\ndef x(n): ...", "flow.py:x needs arguments"),
        ("import nerv\n@nerv.workflow\ndef x(): ...", "flow.py:x can't be built:\nthe body of workflow 'x' calls no"),
    ],
)
def test_what_is_named_and_makes_no_workflow_is_explained(write, text, said):
    write("flow.py", text)
    assert refusal("flow.py:x").startswith(said)


def test_ctrl_c_while_importing_is_no_error_of_the_file(write):
    write("flow.py", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load("flow.py")


# ---- nerv run -------------------------------------------------------------------------------------------------------


def test_a_run_that_completes_ends_with_0_and_its_result(write, command):
    code, out, err = command("run", write("flow.py"))
    assert code == console.COMPLETED
    assert "adding  COMPLETED" in out
    assert out.splitlines()[-1] == "  result: 6"
    assert err.splitlines()[0] == "adding: 2 tasks"


def test_a_run_that_fails_ends_with_1_and_the_users_lines(write, command):
    code, out, err = command("run", write("flow.py", FAILING))
    assert code == console.FAILED
    assert "failing  FAILED" in out
    assert "result:" not in out
    told = err[err.index("\ntask 'bad' failed:") :]
    assert re.findall(r'File ".*?(\w+\.py)", line \d+, in (\w+)', told) == [("flow.py", "fail"), ("flow.py", "deeper")]
    assert told.endswith("ValueError: boom\n")


def test_a_run_that_is_cancelled_ends_with_3(write, command, monkeypatch):
    def cancelled(workflow, *_, **__):
        execution = nerv.start(workflow)
        execution.cancel()
        execution.wait()
        return execution

    text = """
        from nerv import TaskDef, Workflow
        def wait(ctx):
            while True: ctx.check_cancelled()
        flow = Workflow("flow", [TaskDef("a", wait)])
    """
    monkeypatch.setattr("nerv.cli.run.run_workflow", cancelled)
    code, out, err = command("run", write("flow.py", text))
    assert code == console.CANCELLED
    assert "CANCELLED" in out
    assert err == "workflow 'flow': CANCELLED\n"


def test_an_error_of_the_definition_ends_with_2_and_one_message(command):
    assert command("run", "nowhere.py") == (console.REFUSED, "", "nerv: there is no file nowhere.py\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--workers", "0", "--failure-policy", "explode"], "nerv: 2 settings can't be right:\n  - workers takes"),
        (["--scheduling", "level"], "(did you mean 'levels'?)"),
        (["--default-pool", "thraed"], "(did you mean 'thread'?)"),
        (["--grace", "nan"], "grace takes a number of seconds"),
        (["--target", "totl"], "has no task 'totl' (did you mean 'total'?)"),
        (["--param", "x"], "--param takes NAME=VALUE, not 'x'"),
        (["--param", "=3"], "--param takes NAME=VALUE, not '=3'"),
        (["--param", "x=1", "-p", "x=2"], "--param gives 'x' twice"),
        (["--param", "execution_id=1"], "'execution_id' is reserved"),
        (["--trace", "nowhere/trace.json"], "--trace can't write nowhere/trace.json: no such folder"),
        (["--trace", "."], "--trace can't write .: it is a folder"),
        (["--wrokers", "3"], "No such option"),
        (["--workers", "many"], "Invalid value for '--workers'"),
    ],
)
def test_bad_options_end_with_2_before_anything_runs(write, command, words, said):
    code, out, err = command("run", write("flow.py"), *words)
    assert (code, out) == (console.REFUSED, "")
    assert said in err
    assert "Traceback" not in err


def test_a_missing_param_says_how_to_give_it(write, command):
    write("flow.py", FLOW + '    wf = Workflow("flow", [TaskDef("a", str, args=(Param("day"),))])\n')
    code, _, err = command("run", "flow.py", "--param", "dya=3")
    assert code == console.REFUSED
    assert "needs the param 'day' (you gave 'dya')" in err
    assert "--param NAME=VALUE" in err


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("3.5", 3.5),
        ("true", True),
        ("null", None),
        ("[1, 2]", [1, 2]),
        ('{"a": 1}', {"a": 1}),
        ('"3"', "3"),
        ("urls.txt", "urls.txt"),
        ("2026-11-22", "2026-11-22"),
        ("007", "007"),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("", ""),
        ("a=b", "a=b"),
        ("[" * 100_000, "[" * 100_000),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_params_value_is_json_if_it_is_json(text, value):
    assert read_value(text) == value


def test_params_reach_the_tasks(write, command):
    task = 'TaskDef("a", dict, kwargs={"x": Param("x"), "y": Param("y")})'
    write("flow.py", FLOW + f'    wf = Workflow("flow", [{task}])\n')
    assert "result: {'x': [1], 'y': 'b=c'}" in command("run", "flow.py", "--param", "x=[1]", "-p", "y=b=c")[1]


def test_only_the_targets_run(write, command):
    out = json.loads(command("run", write("flow.py"), "--json", "--target", "numbers")[1])
    assert list(out["tasks"]) == ["numbers"]


def test_settings_reach_the_engine(write, command, monkeypatch):
    seen = {}

    def spy(workflow, params, **options):
        seen.update(options)
        return nerv.run(workflow, params)

    monkeypatch.setattr("nerv.cli.run.run_workflow", spy)
    words = "--workers 3 --processes 2 --max-coroutines 5 --default-pool inline --scheduling levels --grace 1"
    command("run", write("flow.py"), *words.split(), "--failure-policy", "continue", "--target", "total")
    assert seen == {
        "workers": 3,
        "processes": 2,
        "max_coroutines": 5,
        "default_pool": "inline",
        "scheduling": "levels",
        "grace": 1.0,
        "failure_policy": "continue",
        "targets": ["total"],
        "progress": True,
        "raise_on_failure": False,
    }


def test_json_is_one_object_and_what_tasks_print_is_elsewhere(write, command):
    code, out, err = command("run", write("flow.py"), "--json")
    told = json.loads(out)
    assert code == console.COMPLETED
    assert out.count("\n") == 1
    assert "adding" in err.splitlines()
    assert {name: told[name] for name in ("workflow", "status", "result", "result_is_repr")} == {
        "workflow": "adding",
        "status": "COMPLETED",
        "result": 6,
        "result_is_repr": False,
    }
    task = told["tasks"]["total"]
    assert task["seconds"] >= 0
    assert {**task, "seconds": 0} == {
        "status": "COMPLETED",
        "attempts": 1,
        "seconds": 0,
        "error": None,
        "skipped_because": None,
    }


def test_json_tells_failures(write, command):
    code, out, _ = command("run", write("flow.py", FAILING), "--json", "--failure-policy", "continue")
    told = json.loads(out)
    assert code == console.FAILED
    assert told["result"] is None
    assert told["tasks"]["bad"]["error"] == "ValueError: boom"
    assert told["tasks"]["after"] == {
        "status": "SKIPPED",
        "attempts": 0,
        "seconds": None,
        "error": None,
        "skipped_because": "bad",
    }


@pytest.mark.parametrize(
    ("expression", "shown"),
    [("{1, 1}", "{1}"), ("float('nan')", "nan"), ("Bad()", "<a Bad whose repr raised KeyError: 1>")],
)
def test_a_result_that_is_no_json_is_given_as_its_repr(write, command, expression, shown):
    text = f"""
        from nerv import TaskDef, Workflow
        class Bad:
            def __repr__(self): raise KeyError(1)
        flow = Workflow("flow", [TaskDef("a", lambda: {expression})])
    """
    told = json.loads(command("run", write("flow.py", text), "--json")[1])
    assert (told["result"], told["result_is_repr"]) == (shown, True)


def test_quiet_says_nothing_but_failures(write, command):
    code, out, err = command("run", write("flow.py", FLOW.replace('print("adding")', "pass")), "--quiet")
    assert (code, out, err) == (0, "", "")
    code, out, err = command("run", write("failing.py", FAILING), "-q")
    assert (code, out) == (1, "")
    assert err.startswith("\ntask 'bad' failed:\n")


def test_of_many_failures_the_first_have_tracebacks(write, command):
    text = """
        from nerv import TaskDef, Workflow
        def fail(): raise ValueError("boom")
        flow = Workflow("flow", [TaskDef(f"t{i}", fail) for i in range(50)])
    """
    err = command("run", write("flow.py", text), "-q", "--failure-policy", "continue")[2]
    assert err.count("Traceback") == MOST_TRACEBACKS
    assert "40 more failed: " in err
    assert "and 20 more" in err


def test_the_trace_is_written(write, command):
    assert command("run", write("flow.py"), "--trace", "trace.json")[0] == 0
    with open("trace.json") as file:
        assert {bar["name"] for bar in json.load(file)["traceEvents"] if bar["ph"] == "X"} == {"numbers", "total"}


def test_a_trace_that_cannot_be_written_after_all_costs_no_run(write, command, monkeypatch):
    monkeypatch.setattr("nerv.execution.Execution.to_trace", lambda *_: Path("no/where").rmdir())
    code, _, err = command("run", write("flow.py"), "--trace", "trace.json")
    assert code == console.COMPLETED
    assert "nerv: the trace could not be written" in err


def test_a_result_is_shown_short(write, command):
    text = "import nerv\nflow = nerv.Workflow('flow', [nerv.TaskDef('a', lambda: list(range(100_000)))])"
    assert len(command("run", write("flow.py", text))[1]) < 500


def test_no_result_is_no_line(write, command):
    text = "import nerv\nflow = nerv.Workflow('flow', [nerv.TaskDef('a', lambda: None)])"
    assert "result" not in command("run", write("flow.py", text))[1]


# ---- nerv plan ------------------------------------------------------------------------------------------------------

DIAMOND = """
    from nerv import TaskDef, Workflow, Param
    flow = Workflow("diamond", [
        TaskDef("a", str, args=(Param("day"), Param("size", default=3))),
        TaskDef("b", int, dependencies=["a"]),
        TaskDef("c", int, dependencies=["a"]),
        TaskDef("d", int, dependencies=["b", "c"]),
    ], "Goes apart,\\n    and comes together.")
"""


def test_a_plan_shows_levels_and_the_critical_path(write, command):
    code, out, err = command("plan", write("flow.py", DIAMOND))
    assert (code, err) == (0, "")
    assert out == textwrap.dedent("""\
        diamond: 4 tasks, 4 dependencies
          Goes apart, and comes together.
          params: day, [size]
          3 levels, the widest is 2 with 2 tasks

        level   tasks
            1       1   a
            2       2   b, c
            3       1   d

        critical path, 3 tasks:
          a -> b -> d
    """)


def test_a_plan_of_targets_shows_what_they_need(write, command):
    out = command("plan", write("flow.py", DIAMOND), "--target", "c")[1]
    assert "2 levels, one task each" in out
    assert "a -> c" in out


def test_an_empty_plan_is_short(write, command):
    out = command("plan", write("flow.py", "import nerv\nwf = nerv.Workflow('none', [])"))[1]
    assert out == "none: 0 tasks, 0 dependencies\n"


@pytest.mark.parametrize("shape", ["[f't{i - 1}'] if i else []", "[]", "[f't{i // 70 * 70 - 1}'] if i > 69 else []"])
def test_a_plan_of_thousands_of_tasks_is_readable(write, command, shape):
    tasks = f"nerv.TaskDef(f't{{i}}', int, dependencies={shape}) for i in range(5000)"
    text = f"import nerv\nwf = nerv.Workflow('big', [{tasks}])"
    lines = command("plan", write("flow.py", text))[1].splitlines()
    assert len(lines) < MOST_LEVELS + 20
    assert max(map(len, lines)) <= WIDTH + 10
    assert "big: 5,000 tasks" in lines[0]


def test_plans_can_be_drawn(write, command):
    write("flow.py", DIAMOND)
    assert command("plan", "flow.py", "--mermaid")[1].startswith("flowchart LR")
    assert command("plan", "flow.py", "--dot")[1].startswith('digraph "diamond" {')


def test_a_plan_as_json_holds_everything(write, command):
    assert json.loads(command("plan", write("flow.py", DIAMOND), "--json")[1]) == {
        "workflow": "diamond",
        "params": {"day": True, "size": False},
        "tasks": 4,
        "nodes": {},
        "levels": [["a"], ["b", "c"], ["d"]],
        "max_parallelism": 2,
        "critical_path": ["a", "b", "d"],
        "dependencies": {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]},
    }


def test_a_drawing_is_not_mixed_with_what_the_file_prints(write, command):
    _, out, err = command("plan", write("flow.py", DIAMOND + "    print('hello')\n"), "--dot")
    assert out.startswith("digraph")
    assert err == "hello\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--dot", "--json"], "choose one"),
        (["--target", "e"], "has no task 'e'"),
        (["--flowchart"], "No such option"),
    ],
)
def test_bad_options_of_a_plan_end_with_2(write, command, words, said):
    code, out, err = command("plan", write("flow.py", DIAMOND), *words)
    assert (code, out) == (2, "")
    assert said in err


# ---- help, version, and being a program -----------------------------------------------------------------------------


def test_the_help_teaches(command):
    code, out, _ = command("--help")
    assert code == 0
    assert "nerv run flow.py:nightly" in out
    code, out, _ = command("run", "--help")
    assert code == 0
    assert "--param day=2026-11-22" in out
    assert re.search(r"130 +interrupted by Ctrl-C", out)
    assert "--mermaid" in command("plan", "--help")[1]


def test_without_a_command_there_is_help(command):
    code, out, err = command()
    assert code in (0, 2)
    assert "Usage: nerv" in out + err


def test_the_version_is_told_without_loading_typer():
    code = "import sys\nfrom nerv.cli import main\ntry: main(['--version'])\nfinally: print('typer' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout == f"nerv {nerv.__version__}\nFalse\n"


def test_the_version_among_other_words_is_told_too(command):
    assert command("--version", "run")[:2] == (0, f"nerv {nerv.__version__}\n")


PROCESSES = """
    import os
    from typing import NamedTuple
    import helper
    from nerv import Output, TaskDef, Workflow, task

    class Found(NamedTuple):
        process: int
        value: int

    print("imported")

    def look(n):
        print("looking")
        return Found(os.getpid(), helper.double(n))

    @task(pool="process")
    def decorated(found):
        return found.value + 1, os.getpid() != found.process or os.getppid()

    flow = Workflow("flow", [
        TaskDef("look", look, args=(4,), pool="process"),
        decorated.define(args=(Output("look"),)),
        TaskDef("here", lambda found: [found.value, found.process != os.getpid()], args=(Output("look"),)),
    ], result=[Output("here"), Output("decorated")[0]])
"""


def test_worker_processes_find_the_functions_of_a_file(write):
    write("sub/my-flow.py", PROCESSES)
    write("sub/helper.py", "def double(n): return 2 * n")
    code, out, err = ran("run", "sub/my-flow.py", "--json")
    assert code == 0, err
    assert json.loads(out)["result"] == [[8, True], 9]
    assert "looking" in err


def test_a_failure_in_a_worker_process_shows_the_users_lines(write):
    text = """
        from nerv import TaskDef, Workflow
        def deeper(): raise ValueError("boom")
        def fail(): deeper()
        flow = Workflow("flow", [TaskDef("a", fail, pool="process")])
    """
    code, _, err = ran("run", write("flow.py", text), "--quiet")
    assert code == 1
    assert re.findall(r'File ".*?(\w+\.py)", line \d+, in (\w+)', err) == [("flow.py", "fail"), ("flow.py", "deeper")]


def test_ctrl_c_ends_with_130(write):
    text = """
        import threading
        from nerv import TaskDef, Workflow
        def wait(ctx):
            print("begun", flush=True)
            while True: ctx.check_cancelled()
        flow = Workflow("flow", [TaskDef("a", wait)])
    """
    with program("run", write("flow.py", text), start_new_session=True) as process:
        assert process.stdout.readline() == "begun\n"
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=50)
    assert process.returncode == console.INTERRUPTED
    assert err.endswith("nerv: interrupted\n")
    assert "Traceback" not in err


@pytest.mark.parametrize("words", [["plan", "flow.py", "--dot"], ["run", "flow.py"], ["--help"]])
def test_a_reader_that_has_gone_is_no_error(write, words):
    write("flow.py", FLOW.replace('print("adding")', "pass"))
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        done = subprocess.run(
            [*NERV, *words], stdout=pipe, stderr=subprocess.PIPE, text=True, env=environment(), check=False
        )
    assert "BrokenPipe" not in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 0 or words == ["--help"]
