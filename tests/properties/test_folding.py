"""For random legal histories, every moment that the projector shows is what a naive fold over plain dicts gives.

The naive fold below is the specification: it knows no numbers, checkpoints or views, and starts anew for every prefix.
"""

import random
import sys
import threading
import time
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nerv import folding
from nerv.errors import described
from nerv.eventlog import CODE_OF, CODES, EventLog
from nerv.events import EventType
from nerv.projector import StateProjector
from nerv.references import MISSING
from nerv.statuses import TaskStatus, WorkflowStatus

EPOCH = 1_000.0
E = EventType
LIVE = {"PENDING", "RUNNING", "WAITING"}
ENDS = [E.WORKFLOW_COMPLETED, E.WORKFLOW_FAILED, E.WORKFLOW_CANCELLED]
WORKFLOW_AFTER = {
    E.WORKFLOW_STARTED: WorkflowStatus.RUNNING,
    E.WORKFLOW_PAUSED: WorkflowStatus.PAUSED,
    E.WORKFLOW_RESUMED: WorkflowStatus.RUNNING,
    E.WORKFLOW_COMPLETED: WorkflowStatus.COMPLETED,
    E.WORKFLOW_FAILED: WorkflowStatus.FAILED,
    E.WORKFLOW_CANCELLED: WorkflowStatus.CANCELLED,
}
LEGAL = {  # a task's status -> what may happen to it
    "PENDING": [E.TASK_STARTED, E.TASK_SKIPPED, E.TASK_CANCELLED, E.TASK_WAITING, E.TASK_REPRIORITIZED],
    "RUNNING": [
        E.TASK_COMPLETED,
        E.TASK_COMPLETED,
        E.TASK_FAILED,
        E.TASK_CANCELLED,
        E.TASK_RETRYING,
        E.TASK_WAITING,
        E.TASK_PROGRESS,
        E.TASK_STARTED,  # anew, after a crash
    ],
    "WAITING": [E.TASK_STARTED, E.TASK_COMPLETED, E.TASK_CANCELLED, E.TASK_FAILED],
    "COMPLETED": [E.TASK_COMPENSATED, E.TASK_STARTED],  # anew: a task that isn't durable, after a crash
    "FAILED": [],
    "SKIPPED": [],
    "CANCELLED": [],
}
AFTER = {
    E.TASK_STARTED: "RUNNING",
    E.TASK_WAITING: "WAITING",
    E.TASK_RETRYING: "WAITING",
    E.TASK_COMPLETED: "COMPLETED",
    E.TASK_FAILED: "FAILED",
    E.TASK_SKIPPED: "SKIPPED",
    E.TASK_CANCELLED: "CANCELLED",
}
SETS = {"completed_tasks": "COMPLETED", "failed_tasks": "FAILED", "running_tasks": "RUNNING"}


class Historian:
    """Writes a legal history, choice by choice; `choose` picks one of several."""

    def __init__(self, choose, tasks):
        self.choose = choose
        self.ids = [f"t{n}" for n in range(tasks)]
        self.log = EventLog("run", "wf", self.ids, {}, EPOCH)
        self.statuses = ["PENDING"] * tasks
        self.attempts = [0] * tasks
        self.workflow = "RUNNING"
        self.append(E.WORKFLOW_STARTED, -1, {"workflow_id": "w", "task_count": tasks})

    def append(self, event_type, task, data=None, attempt=0):
        at = float(len(self.log.records)) / 4
        self.log.records.append((CODE_OF[event_type], task, at, attempt, data))

    def step(self):
        kind = self.choose(["task"] * 12 + ["added", "paused", "other"])
        if kind == "task" and self.ids:
            self.task_event(self.choose(range(len(self.ids))))
        elif kind == "added":
            new = [f"t{len(self.ids) + n}" for n in range(self.choose([1, 2, 3]))]
            self.ids.extend(new)
            self.statuses += ["PENDING"] * len(new)
            self.attempts += [0] * len(new)
            self.append(E.TASKS_ADDED, -1, {"ids": new})
        elif kind == "paused":
            pauses = self.workflow == "RUNNING"
            self.workflow = "PAUSED" if pauses else "RUNNING"
            self.append(E.WORKFLOW_PAUSED if pauses else E.WORKFLOW_RESUMED, -1)
        else:
            self.append(self.choose([E.SIGNAL_RECEIVED, E.WORKFLOW_RECOVERED]), -1, {"name": "x"})

    def task_event(self, task):
        legal = LEGAL[self.statuses[task]]
        if not legal:
            return
        event_type = self.choose(legal)
        data = {
            E.TASK_FAILED: {"error": ValueError(task)},
            E.TASK_RETRYING: {"error": OSError(len(self.log.records)), "due": 1.0},
            E.TASK_SKIPPED: {"cause": self.ids[0]},
            E.TASK_CANCELLED: {"reason": "stop"},
            E.TASK_PROGRESS: {"done": len(self.log.records), "total": None, "message": "m"},
        }.get(event_type)
        if event_type is E.TASK_STARTED:
            self.attempts[task] += 1
        self.append(event_type, task, data, self.attempts[task])
        self.statuses[task] = AFTER.get(event_type, self.statuses[task])


def naive(log, seq):
    """The state after `seq` records and the sets in order, folded from nothing into plain dicts."""
    tasks = {task_id: new_task() for task_id in log.ids[: log.records[0][4]["task_count"]]}
    state = {
        "status": WorkflowStatus.CREATED,
        "workflow": "wf",
        "workflow_id": "w",
        "started_at": None,
        "completed_at": None,
        "tasks": tasks,
    }
    orders = {status: [] for status in TaskStatus}
    for code, number, at, attempt, data in log.records[:seq]:
        event_type = CODES[code]
        if event_type in WORKFLOW_AFTER:
            fold_workflow(state, WORKFLOW_AFTER[event_type], EPOCH + at)
        elif event_type is E.TASKS_ADDED:
            tasks |= {task_id: new_task() for task_id in data["ids"]}
        elif event_type is E.TASK_PROGRESS:
            tasks[log.ids[number]]["progress"] = data
        elif event_type in AFTER:
            task_id = log.ids[number]
            fold_task(tasks[task_id], event_type, EPOCH + at, attempt, data or {})
            orders = {status: [one for one in ids if one != task_id] for status, ids in orders.items()}
            orders[TaskStatus[AFTER[event_type]]].append(task_id)
    return {**state, "task_count": len(tasks)}, orders


def new_task():
    keys = ("started_at", "completed_at", "error", "skipped_because", "progress")
    return {"status": TaskStatus.PENDING, "attempts": 0, **dict.fromkeys(keys)}


def fold_workflow(state, status, at):
    """What one event does to the execution."""
    state["status"] = status
    if state["started_at"] is None:
        state["started_at"] = at
    if status.is_final:
        state["completed_at"] = at


def fold_task(task, event_type, at, attempt, data):
    """What one event does to a task, as a person would say it."""
    status = TaskStatus[AFTER[event_type]]
    if event_type is E.TASK_STARTED:
        task |= {"attempts": attempt, "started_at": task["started_at"] or at, "progress": None}
    task |= {
        "status": status,
        "completed_at": at if status.is_final else None,
        "error": described(data["error"]) if "error" in data else None,
        "skipped_because": data.get("cause"),
    }


def naive_progress(tasks):
    counts = {status.name.lower(): 0 for status in TaskStatus}
    for task in tasks.values():
        counts[task["status"].name.lower()] += 1
    final = sum(task["status"].is_final for task in tasks.values())
    return {"total": len(tasks), **counts, "fraction": final / len(tasks) if tasks else 1.0}


def shown(log):
    projector = StateProjector()
    projector.attach(log, workflow_id="w")
    return projector


def check_moment(projector, log, seq):
    """Everything that the projector shows of a moment is what the naive fold gives."""
    state, orders = naive(log, seq)
    assert projector.at("run", seq) == state

    def project(name):
        return projector.project(name, execution="run", until=seq)

    assert project("task_status") == {task: entry["status"] for task, entry in state["tasks"].items()}
    assert [*project("task_status")] == [*state["tasks"]]
    assert project("workflow_status") is state["status"]
    assert project("progress") == naive_progress(state["tasks"])
    for name, status in SETS.items():
        ids = project(name)
        assert [*ids] == orders[TaskStatus[status]]
        assert len(ids) == len(orders[TaskStatus[status]])
        assert all((task in ids) == (entry["status"].name == status) for task, entry in state["tasks"].items())


@st.composite
def histories(draw, max_size=60):
    """A log of a legal history."""
    historian = Historian(lambda options: draw(st.sampled_from(options)), draw(st.integers(0, 6)))
    for _ in range(draw(st.integers(0, max_size))):
        historian.step()
    if draw(st.booleans()):
        historian.append(draw(st.sampled_from(ENDS)), -1, {})
    return historian.log


@pytest.fixture(params=[1, 2, 5, 256])
def stride(request):
    """Checkpoints at every event, at some, at none."""
    with mock.patch.object(folding, "STRIDE", request.param):
        yield request.param


@pytest.mark.usefixtures("stride")
@settings(max_examples=75)
@given(log=histories(), data=st.data())
def test_every_prefix_is_shown_as_the_naive_fold_gives_it(log, data):
    order = data.draw(st.permutations(range(len(log) + 1)))
    projector = shown(log)
    for seq in order:
        check_moment(projector, log, seq)


@pytest.mark.usefixtures("stride")
@settings(max_examples=75)
@given(log=histories(), data=st.data())
def test_folding_in_any_batches_gives_the_same_and_a_question_sees_every_record(log, data):
    growing = EventLog("run", "wf", log.ids, {}, EPOCH)
    growing.records.append(log.records[0])
    projector = shown(growing)
    while len(growing) < len(log):
        batch = data.draw(st.integers(1, 9))
        growing.records.extend(log.records[len(growing) : len(growing) + batch])
        assert projector.execution_state("run") == naive(log, len(growing))[0]
        assert projector.project("progress", execution="run") == naive_progress(naive(log, len(growing))[0]["tasks"])
        check_moment(projector, log, data.draw(st.integers(0, len(growing))))
    for seq in range(len(log) + 1):
        check_moment(projector, log, seq)


@pytest.mark.usefixtures("stride")
@settings(max_examples=50)
@given(log=histories(), data=st.data())
def test_a_task_is_a_new_object_exactly_where_a_record_changed_it(log, data):
    projector = shown(log)
    states = {seq: projector.at("run", seq) for seq in data.draw(st.permutations(range(len(log) + 1)))}
    for seq in range(1, len(log) + 1):
        code, number, *_ = log.records[seq - 1]
        changes = CODES[code] in AFTER or CODES[code] is E.TASK_PROGRESS
        before, after = states[seq - 1]["tasks"], states[seq]["tasks"]
        for task in before:
            assert (before[task] is after[task]) == (not changes or task != log.ids[number])


@pytest.mark.usefixtures("stride")
@settings(max_examples=50)
@given(log=histories())
def test_views_stay_what_they_were(log):
    growing = EventLog("run", "wf", log.ids, {}, EPOCH)
    growing.records.append(log.records[0])
    projector = shown(growing)
    views = []
    while True:
        views.append({name: projector.project(name, execution="run") for name in (*SETS, "task_status", "progress")})
        if len(growing) == len(log):
            break
        growing.records.append(log.records[len(growing)])
    for seq, view in enumerate(views, 1):
        state, orders = naive(log, seq)
        assert view["task_status"] == {task: entry["status"] for task, entry in state["tasks"].items()}
        assert view["progress"] == naive_progress(state["tasks"])
        assert all([*view[name]] == orders[TaskStatus[status]] for name, status in SETS.items())


def leaves(value, path=()):
    """Path -> value of a nested dict; tasks whole where one side lacks them is the caller's business."""
    if isinstance(value, dict):
        return {p: v for key, inner in value.items() for p, v in leaves(inner, (*path, key)).items()}
    return {path: value}


@settings(max_examples=150)
@given(log=histories(max_size=30), data=st.data())
def test_a_diff_is_the_difference_of_the_two_states(log, data):
    moments = st.integers(0, len(log))
    a, b = data.draw(moments), data.draw(moments)
    diff = shown(log).diff("run", a, b)
    before, after = naive(log, a)[0], naive(log, b)[0]
    expected = {}
    for task in {*before["tasks"]} ^ {*after["tasks"]}:
        expected["tasks", task] = before["tasks"].pop(task, MISSING), after["tasks"].pop(task, MISSING)
    for task in before["tasks"]:  # progress that is there on one side only is one difference
        one, other = before["tasks"][task], after["tasks"][task]
        if (one["progress"] is None) != (other["progress"] is None):
            expected["tasks", task, "progress"] = one.pop("progress"), other.pop("progress")
    flat, flat_after = leaves(before), leaves(after)
    expected |= {p: (flat[p], flat_after[p]) for p in flat if p in flat_after and flat[p] != flat_after[p]}
    assert diff == expected


@pytest.mark.parametrize("seed", range(3))
def test_boundaries_of_checkpoints_at_their_real_distance(seed):
    """Thousands of events, many tasks running at once: every moment around a multiple of STRIDE, and others."""
    dice = random.Random(seed)
    historian = Historian(dice.choice, 500)
    while len(historian.log) < 3_000:
        historian.step()
    projector = shown(historian.log)
    near = [k + d for k in range(0, 3_000, folding.STRIDE) for d in (-1, 0, 1) if 0 <= k + d <= 3_000]
    for seq in dice.sample([*near, *dice.sample(range(3_000), 10)], 25):
        check_moment(projector, historian.log, seq)


def test_a_task_that_reports_often_is_read_fast_at_any_moment():
    """Nothing here walks through all that one task ever said or did."""
    log = EventLog("run", "wf", ["a"], {}, EPOCH)
    log.records.append((CODE_OF[E.WORKFLOW_STARTED], -1, 0.0, 0, {"task_count": 1}))
    log.records.append((CODE_OF[E.TASK_STARTED], 0, 0.0, 1, None))
    for done in range(100_000):
        log.records.append((CODE_OF[E.TASK_PROGRESS], 0, 1.0, 1, {"done": done}))
    projector = shown(log)
    projector.execution_state("run")
    start = time.perf_counter()
    for seq in range(2, 100_000, 100):
        said = projector.at("run", seq)["tasks"]["a"]["progress"]
        assert said is None if seq == 2 else said["done"] == seq - 3
    assert time.perf_counter() - start < 2  # 0.02 s; walking would take 20


def in_a_row(tasks, width):
    """A log in which `width` tasks run at once, one after another."""
    log = EventLog("run", "wf", [f"t{n}" for n in range(tasks)], {}, EPOCH)
    log.records.append((CODE_OF[E.WORKFLOW_STARTED], -1, 0.0, 0, {"task_count": tasks}))
    for n in range(tasks + width):
        if n >= width:
            log.records.append((CODE_OF[E.TASK_COMPLETED], n - width, 1.0, 1, None))
        if n < tasks:
            log.records.append((CODE_OF[E.TASK_STARTED], n, 1.0, 1, None))
    return log


def test_finding_who_runs_looks_at_few_of_those_who_ever_ran():
    log = in_a_row(3_000, 5)
    projector = shown(log)
    [*projector.project("running_tasks", execution="run", until=len(log) - 5)]
    looks = []
    staying = folding.History._staying

    def counted(history, marks, seq):
        return staying(history, (looks.append(mark) or mark for mark in marks), seq)

    for seq in random.Random(1).sample(range(len(log)), 50):
        looks.clear()
        with mock.patch.object(folding.History, "_staying", counted):
            assert len([*projector.project("running_tasks", execution="run", until=seq)]) <= 5
        assert len(looks) <= folding.STRIDE * 2


def test_checkpoints_cost_no_more_than_what_they_are_made_of():
    log = in_a_row(3_000, 1_000)
    projector = shown(log)
    assert len([*projector.project("running_tasks", execution="run", until=len(log) - 500)]) == 500
    [made] = projector._executions["run"].fold._history._checkpoints.values()
    assert len(made) > 2
    assert sum(len(checkpoint.inside) for checkpoint in made) <= 2 * 3_000


# ---- many threads ----------


def check_now(projector, log):
    """One look at a log that grows: what it says of a moment agrees with itself and leaves out no record."""
    recorded = len(log)
    diff = projector.diff("run", 0, recorded)
    state = projector.execution_state("run")
    done, running = (
        projector.project(n, execution="run", until=recorded) for n in ("completed_tasks", "running_tasks")
    )
    progress = projector.project("progress", execution="run", until=recorded)
    at = projector.at("run", recorded)["tasks"]
    assert len(done) == len([*done]) == progress["completed"]
    assert len(running) == len([*running]) == progress["running"]
    assert all(at[task]["status"] is TaskStatus.COMPLETED for task in done)
    assert all(at[task]["status"] is TaskStatus.RUNNING for task in running)
    assert all(state["tasks"][task]["status"] is TaskStatus.COMPLETED for task in done)
    assert {*done, *running} == {path[1] for path in diff if path[0] == "tasks"}
    assert progress["completed"] * 2 + progress["running"] == max(recorded - 1, 0)
    assert projector.get_state()["executions"]["run"]["tasks"].keys() >= at.keys()
    return {(task, seq): projector.at("run", seq)["tasks"][task] for task in at for seq in (recorded // 2, recorded)}


def test_sixteen_readers_beside_a_writer_see_one_history():
    """Each sees everything recorded before it asked, and all see the same objects."""
    tasks = [f"t{n}" for n in range(40)]
    log = EventLog("run", "wf", tasks, {}, EPOCH)
    projector = shown(log)
    barrier = threading.Barrier(17)
    seen, failures = [{} for _ in range(16)], []

    def read(mine):
        barrier.wait(20)
        try:
            for _ in range(3):
                mine.update(check_now(projector, log))
        except BaseException as error:
            failures.append(error)

    def write():
        barrier.wait(20)
        log.records.append((CODE_OF[E.WORKFLOW_STARTED], -1, 0.0, 0, {"task_count": len(tasks)}))
        for n in range(len(tasks)):
            log.records.append((CODE_OF[E.TASK_STARTED], n, n / 4, 1, None))
            log.records.append((CODE_OF[E.TASK_COMPLETED], n, n / 3, 1, None))

    threads = [threading.Thread(target=read, args=(mine,)) for mine in seen] + [threading.Thread(target=write)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with mock.patch.object(folding, "STRIDE", 4):
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not failures, failures[0]
    everything = {}
    for mine in seen:
        for key, state in mine.items():
            assert everything.setdefault(key, state) is state
    check_moment(projector, log, len(log))
