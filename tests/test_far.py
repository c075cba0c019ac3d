"""Results that are elsewhere: fetched when somebody reads them, and not before."""

import json
import pickle

import pytest

from nerv import EventBus, Output, TaskDef, Workflow, WorkflowManager
from nerv.events import Facts
from nerv.far import Far, FarFacts, FarValues


class Counted(Far):
    """Counts how often it is fetched."""

    def __init__(self, value):
        self.value = value
        self.fetched = 0

    def fetch(self):
        self.fetched += 1
        return self.value


def values_of(far):
    values = FarValues()
    values["far"] = far
    values["near"] = 1
    return values


READS = {
    "[]": lambda values: values["far"],
    "get": lambda values: values.get("far"),
    "items": lambda values: dict(values.items())["far"],
    "values": lambda values: next(iter(values.values())),
    "dict": lambda values: dict(values)["far"],
    "**": lambda values: {**values}["far"],
    "copy": lambda values: values.copy()["far"],
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_whoever_reads_a_value_gets_it_and_never_what_stands_for_it(read):
    far = Counted("the value")
    assert read(values_of(far)) == "the value"
    assert far.fetched == 1


def test_looking_at_names_fetches_nothing():
    far = Counted("the value")
    values = values_of(far)
    assert list(values) == ["far", "near"]
    assert "far" in values
    assert len(values) == 2
    assert values.get("other", 7) == 7
    assert values.raw("far") is far
    assert values.copy().raw("far") is far
    assert not far.fetched


def test_a_value_that_isnt_there_is_a_keyerror():
    with pytest.raises(KeyError):
        values_of(Counted(1))["other"]


def test_an_events_data_fetch_a_result_when_it_is_read():
    far = Counted([1])
    facts = FarFacts({"attempt": 1}, far)
    assert facts["attempt"] == 1
    assert "result" in facts
    assert not far.fetched
    assert facts["result"] == facts.get("result") == [1]
    assert json.loads(json.dumps(dict(facts))) == {"attempt": 1, "result": [1]}
    assert pickle.loads(pickle.dumps(facts)) == Facts(attempt=1, result=[1])
    with pytest.raises(TypeError, match="can't be changed"):
        facts["result"] = 2


def far_execution(far, fn=lambda: None):
    """An ended execution whose task `a` has a result elsewhere, which `b` reads."""
    with WorkflowManager(event_bus=EventBus()) as manager:
        workflow = Workflow("w", [TaskDef("a", fn), TaskDef("b", lambda x: x, args=(Output("a"),))])
        execution = manager.start(workflow)
        execution.wait()
    live = execution._live
    live.keep_far()
    dict.__setitem__(live.values, "a", far)
    return execution


def test_asking_how_a_task_went_fetches_nothing():
    far = Counted("the value")
    execution = far_execution(far)
    task = execution.task("a")
    assert (task.task_id, task.status.name, task.attempts) == ("a", "COMPLETED", 1)
    assert [event.type.name for event in execution.events()][-1] == "WORKFLOW_COMPLETED"
    assert list(execution.results) == ["a", "b"]
    assert "1 completed" not in execution.summary()
    assert not far.fetched
    assert task.result == execution["a"] == execution.results["a"] == "the value"
    assert far.fetched == 3
