"""Graphs are made, checked, looked at and changed as taskmap does it, without its surprises."""

import logging
import pickle
import re

import pytest
import taskmap as original

from nerv.errors import ConfigError, NervError, UnknownIdError
from nerv.interop import taskmap
from tests.house.commands import run_command
from tests.interop.work import add_ten, five, total

DIAMOND = {"top": [], "left": ["top"], "right": ["top"], "end": ["left", "right"]}
FUNCS = {"top": five, "left": add_ten, "right": add_ten, "end": total}


@pytest.fixture
def graph():
    return taskmap.create_graph(dict(FUNCS), DIAMOND)


def names_of_problems(error):
    return {(problem.task_id, problem.kind) for problem in error.value.problems}


def test_a_graph_has_the_fields_of_taskmaps_own(graph):
    theirs = original.create_graph(dict(FUNCS), DIAMOND, name="fields", logging_config={"level": logging.CRITICAL})
    assert graph._fields == theirs._fields
    assert graph._replace(name="fields") == theirs


def test_the_dicts_that_a_graph_is_given_stay_the_callers():
    funcs, results = dict(FUNCS), {}
    graph = taskmap.create_graph(funcs, DIAMOND, results=results)
    taskmap.run(graph)
    assert graph.funcs is funcs
    assert results == {"top": 5, "left": 15, "right": 15, "end": 30}


def test_one_error_lists_all_that_is_wrong_with_a_graph():
    funcs = {"a": five, "b": five, "d": "not a function"}
    dependencies = {"a": ["b"], "b": ["a"], "c": ["aa"], "d": [], "e": "ab", "": []}
    with pytest.raises(taskmap.GraphError) as error:
        taskmap.create_graph(funcs, dependencies, done=["bb"])
    assert names_of_problems(error) == {
        ("a", "cycle"), ("c", "no function"), ("c", "unknown"), ("d", "no function"), ("e", "dependencies"),
        (None, "name"), (None, "unknown"),
    }  # fmt: skip
    assert "'aa', which is no key of dependencies (did you mean 'a'" in str(error.value)


def test_the_error_is_a_value_error_and_nervs_own_and_survives_pickling():
    with pytest.raises(ValueError, match=r"cyclic dependency.*'a' -> 'b' -> 'a'") as error:
        taskmap.create_graph({"a": five, "b": five}, {"a": ["b"], "b": ["a"]})
    assert isinstance(error.value, NervError)
    assert pickle.loads(pickle.dumps(error.value)).problems == error.value.problems


def test_ready_tasks_come_in_the_graphs_order_with_the_io_bound_ones_at_one_end():
    graph = taskmap.create_graph(dict.fromkeys("abcd", five), {task: [] for task in "abcd"}, io_bound=["c"])
    assert taskmap.get_ready_tasks(graph) == ["c", "a", "b", "d"]
    assert taskmap.get_ready_tasks(graph, reverse=False) == ["a", "b", "d", "c"]
    graph.in_progress.append("a")
    assert taskmap.get_ready_tasks(taskmap.mark_as_done(graph, "c")) == ["b", "d"]


def test_children_are_all_that_depends_on_a_task(graph):
    assert taskmap.get_all_children(graph, "top") == {"left", "right", "end"}
    assert taskmap.get_all_children(graph, "end") == set()


def test_marking_takes_one_name_or_several_and_counts_each_once(graph):
    assert taskmap.mark_as_done(graph, "top") is graph
    taskmap.mark_as_done(graph, ["top", "left"])
    assert graph.done == ["top", "left"]
    taskmap.mark_as_done_except(graph, "end")
    assert graph.done == ["top", "left", "right"]


@pytest.mark.parametrize(
    "act",
    [
        taskmap.mark_as_done,
        taskmap.mark_as_done_except,
        taskmap.reset_tasks,
        taskmap.get_all_children,
        taskmap.run_task,
        lambda graph, task: taskmap.run_task_async(graph, task).send(None),
    ],
)
def test_a_name_that_is_no_task_is_named_with_the_nearest_ones(graph, act):
    with pytest.raises(UnknownIdError, match=re.escape("graph 'taskmap' has no task 'rihgt' (did you mean 'right'")):
        act(graph, "rihgt")
    assert graph.done == []


def test_resetting_a_task_lets_it_and_its_children_run_again(graph):
    taskmap.run(graph)
    graph.funcs["left"] = lambda x: x
    assert taskmap.reset_tasks(graph, "left") is graph
    assert sorted(graph.done) == ["right", "top"]
    graph.in_progress.extend(["end", "top"])
    taskmap.reset_tasks(graph, "left")
    assert graph.in_progress == ["top"]
    assert taskmap.run(graph).results == {"top": 5, "left": 5, "right": 15, "end": 20}


# ---- what was wrong -------------------------------------------------------------------------------------------------


def test_nothing_of_logging_is_configured_but_the_two_loggers_of_the_graph(capfd):
    before = list(logging.getLogger().handlers)
    graph = taskmap.create_graph({"a": five, "b": int.bit_length}, {"a": [], "b": ["a"]}, name="quiet")
    for logger in (logging.getLogger("quiet-manager"), logging.getLogger("quiet-worker")):
        assert [type(handler) for handler in logger.handlers] == [logging.NullHandler]
    taskmap.run(graph)
    assert logging.getLogger().handlers == before
    assert capfd.readouterr() == ("", "")


def test_a_failure_prints_nothing_where_nobody_configured_logging(tmp_path):
    code = (
        "from nerv.interop import taskmap\n"
        "graph = taskmap.create_graph({'a': lambda: 1 / 0}, {'a': []})\n"
        "print(repr(taskmap.run(graph).results['a']))"
    )
    (tmp_path / "script.py").write_text(code)
    done = run_command(["python", "script.py"], tmp_path, seconds=30)
    assert done.stdout == "ZeroDivisionError('division by zero')\n"


def test_a_logging_config_counts_though_another_graph_has_that_name():
    create = lambda config: taskmap.create_graph({}, {}, name="twice", logging_config=config)  # noqa: E731
    create({"level": logging.ERROR})
    create({"level": logging.INFO})
    assert logging.getLogger("twice-worker").level == logging.INFO
    with pytest.raises(ConfigError, match=r"logging_config has no 'levle'.*did you mean 'level'"):
        create({"levle": logging.INFO})


def test_the_library_taskmap_is_not_loaded_to_run_a_graph(tmp_path):
    code = (
        "import sys\n"
        "from nerv.interop import taskmap\n"
        "taskmap.run(taskmap.to_taskmap(taskmap.to_workflow(taskmap.create_graph({'a': int}, {'a': []}))))\n"
        "print(sorted({'taskmap', 'multiprocess', 'networkx', 'asyncio'} & sys.modules.keys()))"
    )
    (tmp_path / "script.py").write_text(code)
    assert run_command(["python", "script.py"], tmp_path, seconds=30).stdout == "[]\n"


def test_everything_that_is_exported_is_there_and_no_name_is_made_up():
    assert all(callable(getattr(taskmap, name)) for name in taskmap.__all__)
    theirs = {name for name in vars(original) if callable(getattr(original, name))}
    assert theirs <= set(taskmap.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'run_paralel'"):
        taskmap.run_paralel


# ---- log files ------------------------------------------------------------------------------------------------------


def test_a_log_file_tells_what_is_going_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    graph = taskmap.create_graph(
        {"a": five, "b": lambda _: taskmap.in_progress(*map(str, tmp_path.iterdir())), "c": lambda _: 1 / 0, "d": five},
        {"a": [], "b": ["a"], "c": ["b"], "d": ["c"]},
        name="told",
        logging_config={"write": True},
    )
    try:
        taskmap.run(graph)
        (file,) = tmp_path.iterdir()
        text = file.read_text()
        assert taskmap.in_progress(str(file)) == {"in_progress": set(), "queued": set()}
    finally:
        logger = logging.getLogger("told-worker")
        for handler in logger.handlers:
            handler.close()
        logger.handlers.clear()
        logging.getLogger("told-manager").handlers.clear()
    said = re.findall(r"told-(\w+) - (?:INFO|ERROR) - (.*)", text)
    assert said == [
        ("manager", "queueing task a"), ("worker", "starting task a"), ("worker", "finished task a"),
        ("manager", "queueing task b"), ("worker", "starting task b"), ("worker", "finished task b"),
        ("manager", "queueing task c"), ("worker", "starting task c"), ("worker", "failed task c"),
        ("worker", "skipping task d, because c failed"),
    ]  # fmt: skip
    assert "ZeroDivisionError: division by zero" in text


def test_a_log_file_is_read_line_by_line_also_one_of_taskmaps_own(tmp_path):
    file = tmp_path / "taskmap.log"
    file.write_text(
        "2018-01-01 - taskmap-manager - INFO - pid 1: queueing task a\n"
        "2018-01-01 - taskmap-manager - INFO - pid 1: queueing task two words\n"
        "2018-01-01 - taskmap-manager - INFO - pid 1: queueing task c\n"
        "2018-01-01 - taskmap-worker - INFO - pid 2: starting task a\n"
        "2018-01-01 - taskmap-worker - INFO - pid 2: finished task a\n"
        "2018-01-01 - taskmap-worker - INFO - pid 2: starting task a\n"
        "2018-01-01 - taskmap-worker - INFO - pid 3: starting task c\n"
        "2018-01-01 - taskmap-worker - ERROR - pid 3: failed task c\n"
        "ValueError: we were starting task b\n"
    )
    assert taskmap.in_progress(str(file)) == {"in_progress": {"a"}, "queued": {"two words"}}
