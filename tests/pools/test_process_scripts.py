"""Process pools in whole programs: how their `__main__` gets to the workers, and what becomes of these at the end."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.pools.desk import gone, read_when_there

REPOSITORY = Path(__file__).parents[2]


def run_python(*words, **options):
    """Run an interpreter that has this nerv, wherever the script is."""
    path = os.pathsep.join([str(REPOSITORY), *options.pop("path", [])])
    command = [sys.executable, *words]
    env = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(command, capture_output=True, check=False, text=True, timeout=60, env=env, **options)


def python(*words, **options):
    """The lines that a program prints which must succeed."""
    done = run_python(*words, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


SCRIPT = """
import nerv
print("imported")
TWO = 2

class Number:
    def __init__(self, value):
        self.value = value

@nerv.task(pool="process")
def doubled(number):
    return Number(number.value * TWO)

def plus(number, more):
    return Number(number.value + more.value)

@nerv.workflow
def flow():
    return doubled(doubled(Number(5)))

def main():
    execution = nerv.run(flow())
    print(type(execution.result) is Number, execution.result.value)
    tasks = [nerv.TaskDef("a", plus, args=(Number(1), Number(2)), pool="process")]
    print(nerv.run(nerv.Workflow("w", tasks))["a"].value)
"""
GUARDED = SCRIPT + """
if __name__ == "__main__":
    main()
"""
UNGUARDED = SCRIPT + "main()\n"
LAMBDA = """
import nerv
TEN = 10
print(nerv.run(nerv.Workflow("w", [nerv.TaskDef("a", lambda x: x + TEN, args=(1,), pool="process")]))["a"])
"""


def test_functions_and_classes_of_a_script_go_by_name(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(GUARDED)
    lines = python(str(script))
    assert [line for line in lines if line != "imported"] == ["True 20", "3"]


def test_a_module_that_was_run_is_found_again(tmp_path):
    (tmp_path / "module_of_ours.py").write_text(GUARDED)
    lines = python("-m", "module_of_ours", path=[str(tmp_path)])
    assert [line for line in lines if line != "imported"] == ["True 20", "3"]


@pytest.mark.parametrize("how", ["command", "standard input"])
def test_a_program_that_cant_be_run_again_goes_by_value(how):
    lines = python("-c", UNGUARDED) if how == "command" else python("-", input=UNGUARDED)
    assert lines == ["imported", "True 20", "3"]


def test_where_all_goes_by_value_a_lambda_does_too():
    assert python("-c", LAMBDA) == ["11"]


def test_a_script_whose_tasks_live_in_modules_isnt_loaded_by_workers(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("""
import nerv
from tests.pools import light
print("imported")
tasks = [nerv.TaskDef("a", light.inc, args=(1,), pool="process"), nerv.TaskDef("b", light.look_at_main, pool="process")]
print(sorted(nerv.run(nerv.Workflow("w", tasks)).results.items()))
""")
    assert python(str(script)) == ["imported", str([("a", 2), ("b", (str(script), False))])]


def test_standard_input_is_the_main_processs_alone():
    program = """
import nerv, sys
from tests.pools import procfns
tasks = [nerv.TaskDef("a", procfns.standard_input, pool="process")]
print(repr(nerv.run(nerv.Workflow("w", tasks))["a"]))
print(sys.stdin.read())
"""
    assert python("-c", program, input="for the main process") == ["''", "for the main process"]


def test_a_log_line_is_shown_once_by_the_main_processs_configuration():
    program = """
import logging, nerv
from tests.pools import procfns
logging.basicConfig(format="main: %(name)s %(message)s", level="WARNING")
nerv.run(nerv.Workflow("w", [nerv.TaskDef("a", procfns.talk, pool="process")]))
"""
    done = run_python("-c", program)
    assert done.stderr.splitlines() == ["main: nerv.tasks.a last"]


def test_a_script_without_a_guard_is_told_so(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    done = run_python(str(script))
    assert done.returncode == 1
    assert 'under `if __name__ == "__main__":`' in done.stderr.strip().split("\n")[-1]
    assert done.stdout.count("imported") == 2, "once here, once in a worker, and that was that"


def test_a_script_that_fails_when_it_is_loaded_is_loaded_once(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("""
import nerv, sys
def f(x):
    return x
if __name__ == "__main__":
    tasks = [nerv.TaskDef(f"t{i}", f, args=(i,), pool="process") for i in range(3)]
    execution = nerv.run(nerv.Workflow("w", tasks), raise_on_failure=False, failure_policy="continue", processes=1)
    for error in execution.failures.values():
        print(error)
else:
    print("loaded", flush=True)
    sys.exit("not in here")
""")
    lines = python(str(script))
    assert lines.count("loaded") == 1
    assert any("the script can't be imported in a worker process: SystemExit: not in here" in line for line in lines)
    assert len(lines) == 4


def test_workers_die_with_their_parent(tmp_path):
    script = tmp_path / "script.py"
    announce, gate = tmp_path / "announce", tmp_path / "gate"
    os.mkfifo(announce)
    os.mkfifo(gate)
    script.write_text(f"""
import nerv
from tests.pools import light, procfns
from tests.pools.desk import PATIENCE, Rig
task = nerv.TaskDef("a", procfns.start_sleeper_and_wait, args=({str(announce)!r}, {str(gate)!r}), pool="process")
nerv.run(nerv.Workflow("w", [task]))
""")
    parent = subprocess.Popen([sys.executable, str(script)], env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
    sleeper = read_when_there(announce)
    (worker,) = [child.pid for child in psutil.Process(parent.pid).children()]
    parent.kill()
    parent.wait()
    assert gone(worker, sleeper)
