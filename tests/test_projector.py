"""StateProjector: states, projections, time travel and users' deltas, a sentence a test."""

import gc
import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from unittest import mock

import pytest
from pyrsistent import PMap, pmap

from nerv import eventlog, folding
from nerv.errors import NervError, UnknownIdError
from nerv.eventlog import CODE_OF, EventLog
from nerv.events import EventType
from nerv.folding import History
from nerv.projector import HISTORY_LIMIT, Delta, StateProjector
from nerv.references import MISSING
from nerv.statuses import MOVES, TaskStatus, WorkflowStatus
from nerv.views import Progress

EPOCH = 1_700_000_000.0
BUILT_IN = ["completed_tasks", "failed_tasks", "progress", "running_tasks", "task_status", "workflow_status"]


class Story:
    """A log that is written by hand, and shown by a projector; every record is one second after the last one."""

    def __init__(self, *ids, execution_id="run", projector=None):
        self.log = EventLog(execution_id, "etl", [*ids], {}, EPOCH)
        self.projector = projector or StateProjector()
        self.projector.attach(self.log, workflow_id="wf-1")
        self.now = 0

    def tell(self, event_type, task=None, data=None, attempt=0):
        self.now += 1
        number = -1 if task is None else self.log.ids.index(task)
        code = CODE_OF[EventType(event_type)]
        self.log.records.append((code, number, float(self.now), attempt, data))
        return self

    def begin(self):
        return self.tell("WORKFLOW_STARTED", data={"workflow_id": "wf-1", "task_count": len(self.log.ids)})

    def start(self, task, attempt=1):
        return self.tell("TASK_STARTED", task, attempt=attempt)

    def complete(self, task):
        return self.start(task).tell("TASK_COMPLETED", task, attempt=1)

    def end(self, how="COMPLETED"):
        status = WorkflowStatus[how]
        return self.tell(f"WORKFLOW_{how}", data={"status": status, "task_count": len(self.log.ids)})

    @property
    def state(self):
        return self.projector.execution_state(self.log.execution_id)

    def at(self, seq):
        return self.projector.at(self.log.execution_id, seq)

    def project(self, name, **when):
        return self.projector.project(name, execution=self.log.execution_id, **when)

    def task(self, task_id):
        return self.state["tasks"][task_id]


def pending(**changes):
    """A task's state as a dict."""
    return {
        "status": TaskStatus.PENDING,
        "attempts": 0,
        "started_at": None,
        "completed_at": None,
        "error": None,
        "skipped_because": None,
        "progress": None,
        **changes,
    }


# ---- an execution's state ----------


def test_the_whole_state_of_a_finished_execution():
    story = Story("a", "b").begin().complete("a").complete("b").end()
    assert story.state == {
        "status": WorkflowStatus.COMPLETED,
        "workflow": "etl",
        "workflow_id": "wf-1",
        "started_at": EPOCH + 1,
        "completed_at": EPOCH + 6,
        "task_count": 2,
        "tasks": {
            "a": pending(status=TaskStatus.COMPLETED, attempts=1, started_at=EPOCH + 2, completed_at=EPOCH + 3),
            "b": pending(status=TaskStatus.COMPLETED, attempts=1, started_at=EPOCH + 4, completed_at=EPOCH + 5),
        },
    }


def test_an_execution_that_recorded_nothing_yet_is_created_and_all_its_tasks_are_pending():
    state = Story("a", "b").state
    assert state["status"] is WorkflowStatus.CREATED
    assert state["started_at"] is state["completed_at"] is None
    assert state["tasks"] == {"a": pending(), "b": pending()}


def test_the_outer_maps_are_pmaps():
    story = Story("a").begin()
    whole = story.projector.get_state()
    assert isinstance(whole, PMap)
    assert isinstance(whole["executions"], PMap)
    assert isinstance(story.state, PMap)
    assert whole["executions"]["run"] is story.state
    assert isinstance(story.state["tasks"], Mapping)


def test_tasks_come_in_definition_order():
    assert [*Story("c", "a", "b").begin().start("b").state["tasks"]] == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("event", "data", "status", "more"),
    [
        ("TASK_COMPLETED", None, TaskStatus.COMPLETED, {"completed_at": EPOCH + 3}),
        (
            "TASK_FAILED",
            {"error": ValueError("no")},
            TaskStatus.FAILED,
            {"error": "ValueError: no", "completed_at": EPOCH + 3},
        ),
        ("TASK_CANCELLED", {"reason": "stop"}, TaskStatus.CANCELLED, {"completed_at": EPOCH + 3}),
        (
            "TASK_CANCELLED",
            {"error": KeyError("k"), "reason": "stop"},
            TaskStatus.CANCELLED,
            {"error": "KeyError: 'k'", "completed_at": EPOCH + 3},
        ),
        ("TASK_WAITING", {"reason": "gate"}, TaskStatus.WAITING, {}),
        ("TASK_RETRYING", {"error": OSError("down"), "due": 1.0}, TaskStatus.WAITING, {"error": "OSError: down"}),
        ("TASK_COMPENSATED", {"error": None}, TaskStatus.RUNNING, {}),
        ("TASK_REPRIORITIZED", {"priority": 3}, TaskStatus.RUNNING, {}),
        ("TASK_STARTED", None, TaskStatus.RUNNING, {}),
    ],
)
def test_what_each_event_does_to_a_started_task(event, data, status, more):
    story = Story("a").begin().start("a").tell(event, "a", data, attempt=1)
    assert story.task("a") == pending(status=status, attempts=1, started_at=EPOCH + 2, **more)


def test_a_skipped_task_names_the_one_to_blame():
    story = Story("a", "b").begin().tell("TASK_SKIPPED", "b", {"cause": "a"})
    assert story.task("b") == pending(status=TaskStatus.SKIPPED, completed_at=EPOCH + 2, skipped_because="a")


@pytest.mark.parametrize(
    ("events", "status"),
    [
        (["WORKFLOW_PAUSED"], WorkflowStatus.PAUSED),
        (["WORKFLOW_PAUSED", "WORKFLOW_RESUMED"], WorkflowStatus.RUNNING),
        (["WORKFLOW_PAUSED", "WORKFLOW_RECOVERED"], WorkflowStatus.PAUSED),
        (["WORKFLOW_RECOVERED", "SIGNAL_RECEIVED"], WorkflowStatus.RUNNING),
        (["WORKFLOW_FAILED"], WorkflowStatus.FAILED),
        (["WORKFLOW_CANCELLED"], WorkflowStatus.CANCELLED),
    ],
)
def test_what_each_event_does_to_the_execution(events, status):
    story = Story("a").begin()
    for event in events:
        story.tell(event)
    assert story.state["status"] is status is story.project("workflow_status")
    assert story.state["started_at"] == EPOCH + 1
    assert story.state["completed_at"] == (EPOCH + story.now if status.is_final else None)


def test_a_retried_task_keeps_its_first_start_and_counts_its_attempts():
    story = Story("a").begin().start("a").tell("TASK_RETRYING", "a", {"error": OSError("x"), "due": 9.0}).start("a", 2)
    assert story.task("a") == pending(status=TaskStatus.RUNNING, attempts=2, started_at=EPOCH + 2)


def test_progress_is_shown_until_the_next_attempt():
    story = Story("a").begin().start("a")
    assert story.task("a")["progress"] is None
    said = {"done": 1, "total": 4, "message": "parsing"}
    story.tell("TASK_PROGRESS", "a", said)
    assert story.task("a")["progress"] == said
    story.tell("TASK_RETRYING", "a", {"error": OSError("x")})
    assert story.task("a")["progress"] == said
    story.start("a", 2)
    assert story.task("a")["progress"] is None
    story.tell("TASK_PROGRESS", "a", {"done": 3}).tell("TASK_COMPLETED", "a")
    assert story.task("a")["progress"] == {"done": 3, "total": None, "message": None}


def test_the_table_agrees_with_the_tasks_legal_moves():
    for event_type, moves in MOVES.items():
        assert set(moves.values()) == {folding.STATUS_AFTER[event_type]}


def test_a_progress_has_a_count_for_every_status():
    assert Progress.__struct_fields__ == ("total", *(status.value.lower() for status in TaskStatus), "fraction")


def test_the_error_is_text_that_is_asked_for_once_and_under_no_lock():
    calls = []

    class CuriousError(Exception):
        def __str__(self):
            calls.append(story.state["status"])
            thread = threading.Thread(target=story.projector.get_state)
            thread.start()
            thread.join(10)
            return "asked" if not thread.is_alive() else "locked"

    story = Story("a").begin().start("a").tell("TASK_FAILED", "a", {"error": CuriousError()})
    assert story.state["tasks"]["a"]["error"] == "CuriousError: asked"
    assert story.at(3)["tasks"]["a"]["error"] == "CuriousError: asked"
    assert calls == [WorkflowStatus.RUNNING]


def test_an_error_whose_text_asks_for_itself_still_has_a_text():
    class MirrorError(Exception):
        def __str__(self):
            return story.task("a")["error"]

    story = Story("a").begin().start("a").tell("TASK_FAILED", "a", {"error": MirrorError()})
    assert "MirrorError" in story.task("a")["error"]
    assert story.task("a")["error"] == story.task("a")["error"]


def test_of_two_threads_that_read_a_task_at_once_both_get_the_same_object():
    class MeanwhileError(Exception):
        def __str__(self):
            if not others:
                others.append(None)
                thread = threading.Thread(target=lambda: others.append(story.task("a")))
                thread.start()
                thread.join(10)
            return "x"

    others = []
    story = Story("a").begin().start("a").tell("TASK_FAILED", "a", {"error": MeanwhileError()})
    assert story.task("a") is others[1] is story.task("a")


# ---- the maps are immutable ----------


def test_nothing_in_a_state_can_be_changed():
    story = Story("a").begin().start("a").tell("TASK_PROGRESS", "a", {"done": 1, "total": 2, "message": ""})
    maps = [
        story.projector.get_state(),
        story.state,
        story.state["tasks"],
        story.task("a"),
        story.task("a")["progress"],
        story.project("task_status"),
        story.project("progress"),
    ]
    for one in maps:
        with pytest.raises(TypeError):
            one["a"] = 1
        with pytest.raises(TypeError):
            del one["a"]
    with pytest.raises(AttributeError):
        story.task("a").status = TaskStatus.COMPLETED
    with pytest.raises(AttributeError):
        story.project("completed_tasks").add("a")


def test_what_the_engine_put_in_a_record_is_not_shown_itself():
    said = {"done": 1, "total": 2, "message": ""}
    story = Story("a").begin().start("a").tell("TASK_PROGRESS", "a", said)
    shown = story.task("a")["progress"]
    said["done"] = 99
    assert shown["done"] == 1


def test_a_task_state_is_a_mapping_like_any_other():
    state = Story("a").begin().start("a").task("a")
    assert isinstance(state, Mapping)
    assert [*state] == [*state.keys()] == [*pending()]
    assert dict(state) == {**state} == dict(zip(state.keys(), state.values(), strict=True)) == dict(state.items())
    assert len(state) == 7
    assert "attempts" in state
    assert "seq" not in state
    assert state.get("attempts") == 1
    assert state.get("nope", 5) == 5
    with pytest.raises(KeyError):
        state["nope"]
    assert "RUNNING" in repr(state)
    match state:
        case {"status": status}:
            assert status is TaskStatus.RUNNING


def test_equal_maps_are_equal_and_hash_the_same_whatever_they_are_made_of():
    one, other = (Story("a", "b").begin().complete("a") for _ in range(2))
    assert one.state == other.state
    assert hash(one.state) == hash(other.state)
    assert hash(one.projector.get_state()) == hash(other.projector.get_state())
    assert one.task("a") == dict(other.task("a")) == pmap(dict(other.task("a")))
    assert pmap(dict(other.task("a"))) == one.task("a")
    assert hash(one.task("a")) == hash(pmap(dict(other.task("a"))))
    assert one.task("a") != one.task("b")
    assert one.task("a") != 1
    assert one.state["tasks"] == dict(other.state["tasks"])
    assert hash(one.state["tasks"]) == hash(pmap(dict(other.state["tasks"])))
    assert one.project("task_status") == {"a": TaskStatus.COMPLETED, "b": TaskStatus.PENDING}
    assert hash(one.project("task_status")) == hash(other.project("task_status"))
    assert hash(one.project("completed_tasks")) == hash(frozenset({"a"}))


def test_a_task_that_did_not_change_is_the_same_object_in_all_states():
    story = Story("a", "b", "c").begin().complete("a").start("b")
    before = story.state["tasks"]
    story.tell("TASK_COMPLETED", "b")
    after = story.state["tasks"]
    assert after["a"] is before["a"] is story.at(3)["tasks"]["a"] is story.at(5)["tasks"]["a"]
    assert after["c"] is before["c"] is story.at(0)["tasks"]["c"]
    assert after["b"] is not before["b"] is story.at(4)["tasks"]["b"]


def test_a_state_stays_what_it_was():
    story = Story("a").begin()
    state, statuses = story.state, story.project("task_status")
    done, running, progress = (story.project(name) for name in ("completed_tasks", "running_tasks", "progress"))
    story.log.ids.append("late")
    story.complete("a").tell("TASKS_ADDED", data={"ids": ["late"]}).complete("late").end()
    assert story.state["task_count"] == 2
    assert state["tasks"] == {"a": pending()}
    assert "late" not in state["tasks"]
    assert "late" not in statuses
    assert statuses == {"a": TaskStatus.PENDING}
    assert not done
    assert not running
    assert "late" not in done
    assert progress["total"] == progress["pending"] == 1


def test_a_state_survives_pickling_as_read_only_values():
    story = Story("a", "b").begin().complete("a").start("b")
    story.tell("TASK_PROGRESS", "b", {"done": 1, "total": 2, "message": ""})
    for value in (story.projector.get_state(), story.state, *(story.project(name) for name in BUILT_IN)):
        assert pickle.loads(pickle.dumps(value)) == value
    with pytest.raises(TypeError):
        pickle.loads(pickle.dumps(story.state))["tasks"]["a"] = 1


def test_a_long_view_has_a_short_repr():
    story = Story(*(f"t{n}" for n in range(1000))).begin()
    for n in range(1000):
        story.complete(f"t{n}")
    for name in ("completed_tasks", "task_status"):
        assert len(repr(story.project(name))) < 1000
        assert "992 more" in repr(story.project(name))
    assert len(repr(story.state["tasks"])) < 2000
    assert repr(Story("a").begin().complete("a").project("completed_tasks")) == "TaskSet({'a'})"
    assert repr(Story("a").project("task_status")) == f"TaskStatuses({{'a': {TaskStatus.PENDING!r}}})"


# ---- tasks that are added while it runs ----------


def test_the_state_holds_as_many_of_the_logs_tasks_as_the_start_says():
    story = Story("a", "b", "later")
    story.tell("WORKFLOW_STARTED", data={"task_count": 2})
    assert [*story.state["tasks"]] == [*story.at(0)["tasks"]] == ["a", "b"]


def test_a_start_after_the_first_question_corrects_the_number_of_tasks():
    story = Story("a", "b", "later")
    assert len(story.state["tasks"]) == 3
    story.tell("WORKFLOW_STARTED", data={"task_count": 2})
    assert story.state["task_count"] == len(story.state["tasks"]) == story.project("progress")["pending"] == 2
    assert story.at(0)["task_count"] == story.project("progress", until=0)["pending"] == 3


def test_added_tasks_are_pending_from_the_event_on_that_names_them():
    story = Story("a").begin().start("a")
    story.log.ids.extend(["a/x", "a/y", "a/z"])
    assert story.state["task_count"] == 1
    story.tell("TASKS_ADDED", "a", {"ids": ["a/x", "a/y"]})
    assert [*story.state["tasks"]] == ["a", "a/x", "a/y"]
    assert story.task("a/y") == pending()
    story.complete("a/x")
    assert story.state["task_count"] == 3
    assert story.project("progress")["pending"] == 1


def test_a_task_that_nobody_announced_is_there_when_something_happens_to_it():
    story = Story("a").begin()
    story.log.ids.extend(["b", "c"])
    story.start("c")
    assert dict(story.project("task_status")) == {
        "a": TaskStatus.PENDING,
        "b": TaskStatus.PENDING,
        "c": TaskStatus.RUNNING,
    }


def test_announcing_known_tasks_takes_none_away():
    story = Story("a").begin()
    story.log.ids.extend(["b", "c"])
    story.start("c").tell("TASKS_ADDED", data={"ids": ["b"]}).tell("TASKS_ADDED", data={"ids": []})
    assert story.state["task_count"] == 3


# ---- projections ----------


def test_the_built_in_projections():
    story = Story("a", "b", "c", "d", "e").begin().complete("a").start("b").start("c")
    story.tell("TASK_FAILED", "b", {"error": ValueError("no")}).tell("TASK_SKIPPED", "d", {"cause": "b"})
    assert dict(story.project("task_status")) == {
        "a": TaskStatus.COMPLETED,
        "b": TaskStatus.FAILED,
        "c": TaskStatus.RUNNING,
        "d": TaskStatus.SKIPPED,
        "e": TaskStatus.PENDING,
    }
    assert story.project("workflow_status") is WorkflowStatus.RUNNING
    assert story.project("completed_tasks") == {"a"}
    assert story.project("failed_tasks") == {"b"}
    assert story.project("running_tasks") == {"c"}
    assert story.project("progress") == {
        "total": 5,
        "pending": 1,
        "running": 1,
        "waiting": 0,
        "completed": 1,
        "failed": 1,
        "skipped": 1,
        "cancelled": 0,
        "fraction": 0.6,
    }


def test_sets_are_in_the_order_in_which_it_happened():
    story = Story("a", "b", "c", "d").begin().start("d").start("b").start("c")
    assert [*story.project("running_tasks")] == ["d", "b", "c"]
    story.tell("TASK_COMPLETED", "c").tell("TASK_COMPLETED", "d")
    assert [*story.project("completed_tasks")] == ["c", "d"]
    assert [*story.project("running_tasks")] == ["b"]
    story.start("a").tell("TASK_RETRYING", "b", {"error": OSError("x")}).start("b", 2)
    assert [*story.project("running_tasks")] == ["a", "b"]


def test_a_set_behaves_as_one():
    done = Story("a", "b", "c").begin().complete("b").complete("a").project("completed_tasks")
    assert isinstance(done, AbstractSet)
    assert done == {"a", "b"} == done
    assert frozenset({"a", "b"}) == done
    assert done != {"a"}
    assert len(done) == 2
    assert "b" in done
    assert "c" not in done
    assert "nobody" not in done
    assert 7 not in done
    assert done & {"a", "z"} == {"a"}
    assert done | {"z"} == {"a", "b", "z"}
    assert {"a", "b", "z"} - done == {"z"}
    assert done <= {"a", "b", "c"}
    assert done.isdisjoint({"c"})


def test_of_no_tasks_all_are_final():
    assert Story().begin().project("progress")["fraction"] == 1.0


def test_a_projection_without_execution_is_a_mapping_of_all():
    projector = StateProjector()
    Story("a", execution_id="one", projector=projector).begin().complete("a")
    Story("a", execution_id="two", projector=projector).begin()
    assert projector.project("completed_tasks") == {"one": {"a"}, "two": set()}
    assert StateProjector().project("task_status") == {}


def test_an_unknown_projection_lists_the_known_ones_and_the_nearest():
    projector = StateProjector()
    projector.add_projection("mine", len)
    with pytest.raises(UnknownIdError) as caught:
        projector.project("task_statuses")
    for name in [*BUILT_IN, "mine", "did you mean 'task_status'"]:
        assert name in str(caught.value)


def test_an_unknown_execution_names_near_misses():
    projector = Story("a", execution_id="crawl-1").projector
    asks = [
        lambda: projector.execution_state("crawl-2"),
        lambda: projector.at("crawl-2", 0),
        lambda: projector.diff("crawl-2", 0, 0),
        lambda: projector.project("progress", execution="crawl-2"),
    ]
    for ask in asks:
        with pytest.raises(UnknownIdError, match=r"'crawl-2' to show \(did you mean 'crawl-1'"):
            ask()


def test_an_own_projection_is_given_the_executions_state_map():
    story = Story("a", "b").begin()
    story.projector.add_projection("names", lambda state: (state["workflow"], len(state["tasks"]), state["status"]))
    assert story.project("names") == ("etl", 2, WorkflowStatus.RUNNING)
    assert story.project("names", until=0) == ("etl", 2, WorkflowStatus.CREATED)
    assert story.projector.project("names") == {"run": ("etl", 2, WorkflowStatus.RUNNING)}
    story.projector.add_projection("names", lambda state: state)
    assert story.project("names") is story.state


def test_an_own_projection_may_ask_the_projector():
    story = Story("a").begin()
    story.projector.add_projection("nested", lambda _: story.projector.project("progress", execution="run")["total"])
    assert story.project("nested") == 1


def test_a_failing_projection_raises_to_who_asked_and_is_named_in_a_note():
    story = Story("a").begin()
    story.projector.add_projection("bad", lambda state: state["nope"])
    with pytest.raises(KeyError) as caught:
        story.project("bad")
    assert caught.value.__notes__ == ["in the projection 'bad' of execution 'run'"]
    assert story.project("progress")["total"] == 1


@pytest.mark.parametrize(
    ("name", "fn", "error", "text"),
    [
        ("progress", len, ValueError, "'progress' is built in"),
        ("mine", 3, TypeError, "'mine' is a function of an execution's state map, not int"),
        (3, len, TypeError, "a projection's name is a str, not int"),
    ],
)
def test_what_can_not_be_a_projection(name, fn, error, text):
    with pytest.raises(error, match=text):
        StateProjector().add_projection(name, fn)


# ---- time travel ----------


def test_every_moment_can_be_asked_for_while_it_runs():
    story = Story("a", "b").begin().complete("a")
    assert [story.project("workflow_status", until=seq).name for seq in range(4)] == ["CREATED", *["RUNNING"] * 3]
    assert [story.at(seq)["tasks"]["a"]["status"].name for seq in range(4)] == [
        "PENDING",
        "PENDING",
        "RUNNING",
        "COMPLETED",
    ]
    assert [[*story.project("completed_tasks", until=seq)] for seq in range(4)] == [[], [], [], ["a"]]
    story.end()
    assert story.at(3)["completed_at"] is None
    state = story.state
    assert story.at(1) != state
    assert story.at(4) is story.at(4) is story.state is state


def test_a_state_before_the_first_event_has_the_tasks_of_the_start():
    story = Story("a", "b").begin()
    assert story.at(0) == Story("a", "b").state


@pytest.mark.parametrize("seq", [-1, 3, 1000])
def test_a_moment_that_is_not_in_the_log_names_the_range(seq):
    story = Story("a").begin().start("a")
    for ask in (
        story.at,
        lambda seq: story.project("progress", until=seq),
        lambda s: story.projector.diff("run", 0, s),
    ):
        with pytest.raises(ValueError, match=rf"'run' has no event {seq}: give a seq from 0 .* to 2"):
            ask(seq)


@pytest.mark.parametrize("seq", [None, "1", 1.0, True])
def test_a_moment_that_is_no_int_is_a_type_error(seq):
    with pytest.raises(TypeError, match="a moment is a seq, an int from 0 to 1"):
        Story("a").begin().at(seq)


def test_until_needs_an_execution():
    with pytest.raises(TypeError, match="execution="):
        Story("a").begin().projector.project("progress", until=1)


def test_a_diff_names_what_changed():
    story = Story("a", "b").begin().complete("a").start("b")
    diff = story.projector.diff
    assert diff("run", 3, 4) == {
        ("tasks", "b", "status"): (TaskStatus.PENDING, TaskStatus.RUNNING),
        ("tasks", "b", "attempts"): (0, 1),
        ("tasks", "b", "started_at"): (None, EPOCH + 4),
    }
    assert diff("run", 2, 2) == {}
    assert diff("run", 4, 3) == {path: (after, before) for path, (before, after) in diff("run", 3, 4).items()}
    assert diff("run", 0, 1) == {
        ("status",): (WorkflowStatus.CREATED, WorkflowStatus.RUNNING),
        ("started_at",): (None, EPOCH + 1),
    }


def test_what_changed_and_changed_back_is_no_difference():
    story = Story("a").begin().tell("WORKFLOW_PAUSED").tell("WORKFLOW_RESUMED")
    assert story.projector.diff("run", 1, 3) == {}


def test_a_diff_goes_into_progress():
    story = Story("a").begin().start("a")
    for done in (1, 2):
        story.tell("TASK_PROGRESS", "a", {"done": done, "total": 4, "message": ""})
    assert story.projector.diff("run", 3, 4) == {("tasks", "a", "progress", "done"): (1, 2)}
    assert story.projector.diff("run", 2, 3) == {
        ("tasks", "a", "progress"): (None, {"done": 1, "total": 4, "message": ""})
    }


def test_an_added_task_is_missing_before():
    story = Story("a").begin()
    story.log.ids.append("b")
    story.tell("TASKS_ADDED", data={"ids": ["b"]})
    diff = story.projector.diff("run", 1, 2)
    assert diff == {("task_count",): (1, 2), ("tasks", "b"): (MISSING, pending())}
    assert story.projector.diff("run", 2, 1)["tasks", "b"] == (pending(), MISSING)


# ---- attach and detach ----------


def test_an_execution_is_attached_once():
    story = Story("a")
    with pytest.raises(ValueError, match="'run' is shown already"):
        story.projector.attach(story.log, workflow_id="wf-1")


def test_a_detached_execution_leaves_the_state_and_may_come_again():
    story = Story("a").begin()
    projector = story.projector
    old = projector.get_state()
    projector.detach("run")
    assert projector.get_state()["executions"] == {}
    assert projector.project("progress") == {}
    with pytest.raises(UnknownIdError):
        projector.execution_state("run")
    assert old["executions"]["run"]["status"] is WorkflowStatus.RUNNING
    projector.detach("run")
    StateProjector().detach("run")
    projector.attach(story.log, workflow_id="wf-1")
    assert projector.get_state() == old


class Watched(list):
    """Records that call back when they are first counted, or first sliced."""

    on_len = on_slice = None

    def __len__(self):
        call, self.on_len = self.on_len, None
        if call:
            call()
        return super().__len__()

    def __getitem__(self, place):
        found = super().__getitem__(place)
        if isinstance(place, slice) and self.on_slice:
            call, self.on_slice = self.on_slice, None
            call()
        return found


def test_an_execution_that_is_detached_while_somebody_asks_does_not_come_back():
    story = Story("a").begin()
    story.log.records = Watched(story.log.records)
    story.log.records.on_len = lambda: story.projector.detach("run")
    assert story.projector.get_state()["executions"] == {}
    assert story.projector.get_state()["executions"] == {}


def test_two_threads_that_ask_at_once_fold_each_record_once():
    story = Story("a").begin().complete("a")
    log = EventLog("run", "etl", ["a"], {}, EPOCH)
    log.records = Watched(story.log.records)
    projector = StateProjector()
    projector.attach(log, workflow_id="wf-1")
    other = threading.Thread(target=projector.execution_state, args=("run",))

    def overtake():
        other.start()
        other.join(0.1)  # it has to wait for the fold under way

    log.records.on_slice = overtake
    assert projector.project("progress", execution="run") == story.project("progress")
    other.join()
    assert projector.execution_state("run") == projector.at("run", 3) == story.state
    with pytest.raises(ValueError, match="no event 4"):
        projector.at("run", 4)


def test_an_interrupt_in_the_middle_of_folding_loses_nothing_and_counts_nothing_twice():
    story = Story("a", "b").begin().complete("a")
    before = story.state
    story.complete("b")
    at_every_record = mock.patch("nerv.folding.STRIDE", 1)
    interrupted = mock.patch.object(History, "_counted", side_effect=KeyboardInterrupt)
    with at_every_record, interrupted, pytest.raises(KeyboardInterrupt):
        story.project("progress")
    assert before == story.at(3)
    assert story.project("progress")["completed"] == story.project("progress")["total"] == 2
    assert [*story.project("completed_tasks")] == ["a", "b"]
    assert story.task("b")["attempts"] == 1


def test_a_detached_execution_is_let_go():
    story = Story("a").begin()
    state = weakref.ref(story.projector.get_state()["executions"]["run"])
    story.projector.detach("run")
    gc.collect()
    assert state() is None


def test_folding_leaves_next_to_nothing_for_the_garbage_collector():
    story = Story(*(f"t{n}" for n in range(2_000))).begin()
    for n in range(2_000):
        story.tell("TASK_STARTED", f"t{n}", attempt=1)
        story.tell("TASK_COMPLETED", f"t{n}", attempt=1)
    story.projector.get_state()
    gc.collect()
    before = len(gc.get_objects())
    assert len([*story.state["tasks"].values()]) == len(story.project("completed_tasks")) == 2_000
    gc.collect()
    assert len(gc.get_objects()) - before < 200
    history = story.projector._executions["run"].fold._history
    assert not gc.is_tracked(history._states)


def test_a_state_keeps_no_results_alive():
    class Result:
        pass

    story = Story("a")
    story.log.values["a"] = Result()
    story.begin().complete("a").end()
    result = weakref.ref(story.log.values["a"])
    kept = story.projector.get_state()
    story.projector.detach("run")
    del story
    gc.collect()
    assert kept["executions"]["run"]["task_count"] == 1
    assert result() is None


def test_nothing_is_imported_before_somebody_asks():
    code = """
import sys
from nerv.projector import StateProjector
from nerv.eventlog import EventLog
StateProjector({"a": 1}).attach(EventLog("run", "wf", ["a"], {}, 0.0), workflow_id="w")
assert "pyrsistent" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- the users' own ----------


def test_the_initial_state_stands_beside_the_executions():
    values = {"budget": [1, 2]}
    projector = StateProjector(values)
    state = projector.get_state()
    assert state == {"budget": [1, 2], "executions": {}}
    assert state["budget"] is values["budget"]
    projector.apply_delta({"budget": 0})
    assert values == {"budget": [1, 2]}
    values["more"] = 1
    projector.reset()
    assert projector.get_state() == {"budget": [1, 2], "executions": {}}


def test_two_calls_with_nothing_in_between_give_the_same_state():
    story = Story("a").begin()
    assert story.projector.get_state() is story.projector.get_state()
    assert story.state is story.state


def test_deltas_change_the_state():
    projector = StateProjector({"budget": 10})
    first = projector.apply_delta(lambda state: state.set("budget", state["budget"] - 3))
    second = projector.apply_delta({"note": "x", "who": None})
    assert projector.update_state(lambda state: state.remove("who")) is None
    assert projector.get_state() == {"budget": 7, "note": "x", "executions": {}}
    assert second == first + 1


def test_values_are_opaque():
    class Stubborn:
        def __eq__(self, other):
            raise AssertionError("compared")

        __hash__ = None

        def __copy__(self):
            raise AssertionError("copied")

        __deepcopy__ = __copy__

    values = [Stubborn(), float("nan"), ValueError("x"), {"a": []}]
    projector = StateProjector({"values": values, "one": values[0]})
    projector.apply_delta({"one": values[0], "nan": values[1]})
    projector.update_state(lambda state: state.set("nan", values[1]).set("error", values[2]))
    Story("a", projector=projector).begin()
    state = projector.get_state()
    assert state["values"] is values
    assert (state["one"], state["nan"], state["error"]) == (values[0], values[1], values[2])


def test_a_delta_sees_the_executions_and_keeps_what_happens_meanwhile():
    story = Story("a").begin()

    def count(state):
        story.complete("a").end()
        story.projector.get_state()
        return state.set("running", [e["status"].name for e in state["executions"].values()])

    story.projector.update_state(count)
    assert story.projector.get_state()["running"] == ["RUNNING"]
    assert story.projector.get_state()["executions"]["run"]["status"] is WorkflowStatus.COMPLETED


@pytest.mark.parametrize(
    ("delta", "error", "text"),
    [
        (3, TypeError, r"a delta is a function .* or a dict of what to set, not int"),
        (lambda _: None, TypeError, "gives the new state, a PMap, not NoneType"),
        (dict, TypeError, "gives the new state, a PMap, not dict"),
        ({"executions": {}}, ValueError, "can't set 'executions'"),
        (lambda s: s.set("executions", pmap()), ValueError, "can't change 'executions'"),
        (lambda s: s.remove("executions"), ValueError, "can't change 'executions'"),
    ],
)
def test_what_can_not_be_a_delta_changes_nothing(delta, error, text):
    projector = Story("a").begin().projector
    before = projector.get_state()
    with pytest.raises(error, match=text):
        projector.apply_delta(delta)
    assert projector.get_state() is before
    assert projector.get_delta_history() == []


def test_update_state_takes_a_function_only():
    with pytest.raises(TypeError, match="update_state takes a function"):
        StateProjector().update_state({"a": 1})


def test_what_can_not_be_an_initial_state():
    with pytest.raises(TypeError, match="initial_state is a mapping"):
        StateProjector([1])
    with pytest.raises(ValueError, match="initial_state can't set 'executions'"):
        StateProjector({"executions": {}})


def test_an_error_in_a_delta_is_the_callers_and_changes_nothing():
    projector = StateProjector({"n": 1})
    with pytest.raises(KeyError, match="nope"):
        projector.apply_delta(lambda state: state["nope"])
    assert projector.get_delta_history() == []
    projector.apply_delta({"n": 2})
    assert projector.get_state()["n"] == 2


def test_a_delta_may_ask_the_projector_from_any_thread():
    story = Story("a").begin()
    projector = story.projector
    seen = []

    def curious(state):
        thread = threading.Thread(target=lambda: seen.append(projector.get_state()["executions"]["run"]["status"]))
        thread.start()
        thread.join(10)
        seen.append(projector.project("workflow_status", execution="run"))
        projector.get_delta_history()
        return state

    projector.apply_delta(curious)
    assert seen == [WorkflowStatus.RUNNING] * 2


def test_a_delta_inside_a_delta_is_told_off():
    projector = StateProjector()
    for inner in (lambda: projector.apply_delta({"a": 1}), lambda: projector.update_state(len), projector.reset):
        with pytest.raises(NervError, match="can't apply or reset deltas"):
            projector.apply_delta(lambda state, inner=inner: inner() or state)
    projector.apply_delta({"a": 1})
    assert projector.get_state()["a"] == 1


def test_the_history_has_every_delta_with_its_words():
    projector = StateProjector()
    first = projector.apply_delta({"budget": 10}, description="start", tags=("money", "first"))
    projector.update_state(lambda state: state)
    third = projector.apply_delta({"n": 1}, tags=["other"])
    history = projector.get_delta_history()
    assert [delta.index for delta in history] == [1, 2, 3]
    assert [delta.description for delta in history] == ["start", "", ""]
    assert all(isinstance(delta, Delta) and delta.timestamp > 1e9 for delta in history)
    assert [delta.tags for delta in history] == [("money", "first"), (), ("other",)]
    assert [delta.index for delta in projector.get_delta_history(tags=("money",))] == [first]
    assert [delta.index for delta in projector.get_delta_history(tags=("money", "other"))] == [first, third]
    assert projector.get_delta_history(tags=()) == []
    with pytest.raises(AttributeError):
        history[0].index = 5
    history.clear()
    assert len(projector.get_delta_history()) == 3


def test_tags_are_not_a_str():
    for act in (lambda p: p.apply_delta({}, tags="money"), lambda p: p.get_delta_history("money")):
        with pytest.raises(TypeError, match=r"write tags=\('money',\)"):
            act(StateProjector())


def test_reset_forgets_deltas_and_nothing_else():
    story = Story("a").begin()
    projector = story.projector
    projector.apply_delta({"n": 1})
    projector.get_state()
    projector.reset()
    assert projector.get_delta_history() == []
    assert projector.get_state() == {"executions": {"run": story.state}}
    assert projector.apply_delta({"n": 2}) == 2
    StateProjector().reset()


def test_the_history_keeps_the_newest_deltas_only():
    projector = StateProjector()
    for _ in range(HISTORY_LIMIT + 2):
        projector.apply_delta({})
    history = projector.get_delta_history()
    assert (history[0].index, history[-1].index, len(history)) == (3, HISTORY_LIMIT + 2, HISTORY_LIMIT)


def test_a_delta_waits_for_the_one_before_it():
    projector = StateProjector({"n": 1})
    other = threading.Thread(target=projector.update_state, args=(lambda state: state.set("n", state["n"] + 1),))

    def slow(state):
        other.start()
        other.join(0.1)  # it can't get through
        return state.set("n", state["n"] * 10)

    projector.update_state(slow)
    other.join()
    assert projector.get_state()["n"] == 11


def test_a_log_that_is_attached_late_is_shown_whole():
    log = EventLog("run", "etl", ["a"], {}, EPOCH)
    log.records.append((eventlog.WORKFLOW_STARTED, -1, 1.0, 0, {"task_count": 1}))
    log.records.append((eventlog.TASK_STARTED, 0, 2.0, 1, None))
    projector = StateProjector()
    projector.attach(log, workflow_id="w")
    assert projector.project("running_tasks", execution="run") == {"a"}
    assert projector.at("run", 0)["tasks"]["a"] == pending()
