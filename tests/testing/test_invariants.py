"""What `simulate` holds an engine to: an honest log passes, and every kind of lie is noticed."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from nerv import CircuitBreaker, RateLimit, RetryPolicy, TaskDef, WorkflowStatus
from nerv import EventType as E
from nerv.eventlog import CODE_OF, EventLog
from nerv.statuses import MOVES, TaskStatus
from nerv.testing.invariants import InvariantError, Reading


class Told:
    """An execution as `Reading` sees one, made of a story: (event type, task, moment, attempt, data)."""

    def __init__(self, tasks, story, status=WorkflowStatus.COMPLETED, **answers):
        self.tasks = {task.id: task for task in tasks}
        self.workflow = SimpleNamespace(tasks=self.tasks)
        self.status = status
        ids = [*self.tasks, *dict.fromkeys(event[1] for event in story if event[1] and event[1] not in self.tasks)]
        self.log = EventLog("told", "wf", ids, {}, 1e9)
        statuses = dict.fromkeys(ids, TaskStatus.PENDING)
        for kind, task, *rest in story:
            at, attempt, data = [*rest, *(0.0, 0, None)[len(rest) :]]
            self.log.records.append((CODE_OF[kind], ids.index(task) if task else -1, at, attempt, data))
            if task and kind in MOVES:
                statuses[task] = MOVES[kind].get(statuses[task], statuses[task])
        by_status = {one: {task: 0 for task in ids if statuses[task] is one} for one in TaskStatus}
        self.results = answers.get("results", by_status[TaskStatus.COMPLETED])
        self.failures = answers.get("failures", by_status[TaskStatus.FAILED])
        self.statuses = answers.get("statuses", statuses)

    def project(self, name):
        assert name == "task_status"
        return self.statuses

    def check(self, *, cancelled=False, **resources):
        Reading(self, resources, cancelled=cancelled).check()


def whole(*story, last=E.WORKFLOW_COMPLETED):
    """A story with its beginning and its end."""
    end = max((event[2] for event in story if len(event) > 2), default=0.0)
    return [(E.WORKFLOW_STARTED, None), *story, (last, None, end)]


def ran(task, start=0.0, end=None, attempt=1):
    """A task's attempt that went well."""
    return [
        (E.TASK_STARTED, task, start, attempt),
        (E.TASK_COMPLETED, task, start if end is None else end, attempt),
    ]


def retried(task, start, end, due, attempt=1):
    """An attempt that failed, with another to come."""
    return [
        (E.TASK_STARTED, task, start, attempt),
        (E.TASK_RETRYING, task, end, attempt, {"error": OSError(), "due": 1e9 + due}),
    ]


def failed(task, at=0.0, attempt=1, start=None):
    """An attempt that failed for good."""
    return [
        (E.TASK_STARTED, task, at if start is None else start, attempt),
        (E.TASK_FAILED, task, at, attempt, {"error": OSError()}),
    ]


def both(**policies):
    """Tasks a and b with the same policies."""
    return [TaskDef("a", int, **policies), TaskDef("b", int, **policies)]


A, B = TaskDef("a", int), TaskDef("b", int, dependencies=["a"])
FAILED = {"status": WorkflowStatus.FAILED}
CLEAN = TaskDef("b", int, dependencies=["a"], run_when="all_finished")
ANY = TaskDef("c", int, dependencies=["a", "b"], run_when="any_completed")
RETRIED = TaskDef("a", int, retry_policy=RetryPolicy(2))
LIMITED = both(rate_limit=RateLimit(1, 10.0))
TWICE = [*both(rate_limit=RateLimit(2, 10.0, "x")), TaskDef("c", int, rate_limit=RateLimit(2, 10.0, "x"))]
BROKEN = both(circuit_breaker=CircuitBreaker(1, 30.0, name="x"))
HEAVY = both(resources={"gpu": 1})
UNDO = both(compensate=print)
QUICK = TaskDef("a", int, timeout=5)
RESCUED = both(circuit_breaker=CircuitBreaker(1, 30.0, name="x"), fallback=7)
UNSEEN = both(circuit_breaker=CircuitBreaker(1, 30.0, name="x"), resources={"gpu": 1}, fallback=print)

HONEST = {
    "nothing": Told([], whole()),
    "a chain": Told([A, B], whole(*ran("a"), *ran("b"))),
    "a failure": Told(
        [A, B], whole(*failed("a"), (E.TASK_SKIPPED, "b", 0.0, 0, {"cause": "a"}), last=E.WORKFLOW_FAILED), **FAILED
    ),
    "cleanup after a failure": Told([A, CLEAN], whole(*failed("a"), *ran("b"), last=E.WORKFLOW_FAILED), **FAILED),
    "any of two": Told([A, TaskDef("b", int), ANY], whole(*ran("a"), *ran("c"), *ran("b"))),
    "behind what was skipped by a route": Told(
        [A, TaskDef("b", int), TaskDef("c", int, dependencies=["b"])],
        whole(*ran("a"), (E.TASK_SKIPPED, "b", 0.0, 0, {"cause": "a"}), *ran("c")),
    ),
    "a retry": Told([RETRIED], whole(*retried("a", 0, 1, 5), *ran("a", 5, attempt=2))),
    "a limit, to the moment": Told(LIMITED, whole(*ran("a", 0), *ran("b", 10))),
    "a limit of two": Told(TWICE, whole(*ran("a", 0), *ran("b", 1), *ran("c", 10))),
    "a breaker that recovered": Told(BROKEN, whole(*failed("a"), *ran("b", 30), last=E.WORKFLOW_FAILED), **FAILED),
    "a resource, one after the other": Told(HEAVY, whole(*ran("a", 0, 1), *ran("b", 1, 2))),
    "a timeout, to the moment": Told([QUICK], whole(*failed("a", 5, start=0), last=E.WORKFLOW_FAILED), **FAILED),
    "fallbacks whose moment is not told": Told(
        UNSEEN,
        whole(
            (E.TASK_STARTED, "a", 0.0, 1),
            (E.TASK_STARTED, "b", 1.0, 1),
            (E.TASK_COMPLETED, "a", 9.0, 1, {"fallback": True}),
            (E.TASK_COMPLETED, "b", 9.0, 1, {"fallback": True}),
        ),
    ),
    "a result that was kept": Told([A, B], whole((E.TASK_COMPLETED, "a", 0.0, 0, {"cached": True}), *ran("b"))),
    "an execution that failed, not a task": Told(
        [A], [*whole(*ran("a"))[:-1], (E.WORKFLOW_FAILED, None, 0.0, 0, {"error": TimeoutError()})], **FAILED
    ),
    "compensation in reverse": Told(
        [*UNDO, TaskDef("c", int)],
        whole(
            *ran("a"),
            *ran("b"),
            *failed("c"),
            (E.TASK_COMPENSATED, "b", 0.0, 1, {"error": None}),
            (E.TASK_COMPENSATED, "a", 0.0, 1, {"error": None}),
            last=E.WORKFLOW_FAILED,
        ),
        **FAILED,
    ),
    "progress, and a task that a node brought": Told(
        [A],
        whole(
            (E.TASK_STARTED, "a", 0.0, 1), (E.TASK_PROGRESS, "a", 0.0, 1), (E.TASK_COMPLETED, "a", 0.0, 1), *ran("a[0]")
        ),
    ),
}

LIES = {
    "no beginning": (Told([A], [*ran("a"), (E.WORKFLOW_COMPLETED, None)]), "WORKFLOW_STARTED is the first"),
    "two beginnings": (Told([A], [(E.WORKFLOW_STARTED, None), *whole(*ran("a"))]), "only it"),
    "no end": (Told([A], whole(*ran("a"))[:-1]), "neither ends nor goes on; its tasks are 1 COMPLETED"),
    "life after death": (Told([A], [*whole(), *ran("a")]), "TASK_STARTED comes after the end"),
    "two ends": (Told([], [*whole(), (E.WORKFLOW_FAILED, None)]), "WORKFLOW_FAILED comes after the end"),
    "time that goes back": (
        Told([A], whole((E.TASK_STARTED, "a", 2.0, 1), (E.TASK_COMPLETED, "a", 1.0, 1))),
        "in front",
    ),
    "a task that never ended": (Told([A], whole((E.TASK_STARTED, "a", 0.0, 1))), r"these tasks haven't: \['a'\]"),
    "an impossible move": (Told([A], whole((E.TASK_RETRYING, "a"))), "is PENDING, so TASK_RETRYING can't happen"),
    "a result out of nowhere": (Told([A], whole((E.TASK_COMPLETED, "a"))), "'a' is completed, but was never called"),
    "an end twice": (Told([A], whole(*ran("a"), (E.TASK_FAILED, "a", 0.0, 1, {}))), "so TASK_FAILED can't happen"),
    "two attempts at once": (
        Told([RETRIED], whole((E.TASK_STARTED, "a", 0.0, 1), *ran("a", attempt=2))),
        "before the last one has ended",
    ),
    "an attempt left out": (Told([A], whole(*ran("a", attempt=2))), "counts attempt 2"),
    "too many attempts": (
        Told([RETRIED], whole(*retried("a", 0, 0, 0), *retried("a", 0, 0, 0, attempt=2), *ran("a", attempt=3))),
        "retried after its last attempt",
    ),
    "a retry without a policy": (
        Told([A], whole(*retried("a", 0, 0, 0), *ran("a", attempt=2))),
        "after its last attempt",
    ),
    "a retry too early": (
        Told([RETRIED], whole(*retried("a", 0, 1, 5), *ran("a", 4, attempt=2))),
        "is due at 5.0, not at 4",
    ),
    "a start before its time": (Told([A, B], whole(*ran("b"), *ran("a"))), "'b' starts before what it needs has ended"),
    "a start during its time": (
        Told([A, B], whole((E.TASK_STARTED, "a", 0.0, 1), *ran("b"), (E.TASK_COMPLETED, "a", 0.0, 1))),
        "'b' starts before",
    ),
    "cleanup before its time": (Told([A, CLEAN], whole(*ran("b"), *ran("a"))), "'b' starts before"),
    "any of none": (Told([A, TaskDef("b", int), ANY], whole(*ran("c"), *ran("a"), *ran("b"))), "'c' starts before"),
    "a start behind a failure": (
        Told([A, B], whole(*failed("a"), *ran("b"), last=E.WORKFLOW_FAILED), **FAILED),
        "'b' starts before",
    ),
    "a start behind a skip for a failure": (
        Told(
            [A, B, TaskDef("c", int, dependencies=["b"])],
            whole(*failed("a"), (E.TASK_SKIPPED, "b", 0.0, 0, {"cause": "a"}), *ran("c"), last=E.WORKFLOW_FAILED),
            **FAILED,
        ),
        "'c' starts before",
    ),
    "a limit": (Told(LIMITED, whole(*ran("a", 0), *ran("b", 9.999))), r"2 starts in 9\.999 s, the last of task 'b'"),
    "a limit of two, too": (Told(TWICE, whole(*ran("a", 0), *ran("b", 5), *ran("c", 9))), "3 starts in 9.0 s"),
    "an open breaker": (
        Told(BROKEN, whole(*failed("a"), *ran("b", 29), last=E.WORKFLOW_FAILED), **FAILED),
        "is OPEN, but task 'b' starts",
    ),
    "an open breaker behind a fallback": (
        Told(
            RESCUED,
            whole((E.TASK_STARTED, "a", 0.0, 1), (E.TASK_COMPLETED, "a", 0.0, 1, {"fallback": True}), *ran("b", 1)),
        ),
        "is OPEN, but task 'b' starts",
    ),
    "a resource held twice": (
        Told(HEAVY, whole((E.TASK_STARTED, "a", 0.0, 1), *ran("b"), (E.TASK_COMPLETED, "a", 0.0, 1))),
        "of 'gpu' more is held than there is, with task 'b'",
    ),
    "a timeout that came too late": (
        Told([QUICK], whole(*failed("a", 5.1, start=0), last=E.WORKFLOW_FAILED), **FAILED),
        "ran for 5.1 s; its timeout is 5",
    ),
    "a result of nobody": (Told([A], whole(*ran("a")), results={}), "results are those of completed tasks"),
    "a failure of nobody": (Told([A], whole(*ran("a")), failures={"a": 0}), "failures are those of failed tasks"),
    "a projection that differs": (Told([A], whole(*ran("a")), statuses={"a": TaskStatus.FAILED}), "the events say"),
    "a cancel by nobody": (
        Told([A], whole((E.TASK_CANCELLED, "a"), last=E.WORKFLOW_CANCELLED), WorkflowStatus.CANCELLED),
        "nobody cancelled",
    ),
    "a failure without one": (
        Told([A], whole(*ran("a"), last=E.WORKFLOW_FAILED), **FAILED),
        "no task failed, but it is FAILED",
    ),
    "no compensation": (
        Told([*UNDO, TaskDef("c", int)], whole(*ran("a"), *ran("b"), *failed("c"), last=E.WORKFLOW_FAILED), **FAILED),
        r"compensated were \[\], in this order; it should have been \['b', 'a'\]",
    ),
    "compensation in the wrong order": (
        Told(
            [*UNDO, TaskDef("c", int)],
            whole(
                *ran("a"),
                *ran("b"),
                *failed("c"),
                (E.TASK_COMPENSATED, "a"),
                (E.TASK_COMPENSATED, "b"),
                last=E.WORKFLOW_FAILED,
            ),
            **FAILED,
        ),
        r"compensated were \['a', 'b'\]",
    ),
    "compensation twice": (
        Told(UNDO, whole(*ran("a"), *failed("b"), *[(E.TASK_COMPENSATED, "a")] * 2, last=E.WORKFLOW_FAILED), **FAILED),
        "'a' is compensated twice",
    ),
    "compensation of what failed": (
        Told(UNDO, whole(*ran("a"), *failed("b"), (E.TASK_COMPENSATED, "b"), last=E.WORKFLOW_FAILED), **FAILED),
        "'b' is compensated, but was never completed",
    ),
    "compensation of what has none": (
        Told(
            [A, TaskDef("b", int)],
            whole(*ran("a"), *failed("b"), (E.TASK_COMPENSATED, "a"), last=E.WORKFLOW_FAILED),
            **FAILED,
        ),
        "'a' is compensated, but has no compensation",
    ),
    "compensation for nothing": (
        Told(UNDO, whole(*ran("a"), *ran("b"), (E.TASK_COMPENSATED, "a"))),
        r"is COMPLETED, but \['a'\] were compensated",
    ),
}


@pytest.mark.parametrize("story", HONEST)
def test_an_honest_log_passes(story):
    HONEST[story].check(gpu=1)


@pytest.mark.parametrize("story", LIES)
def test_a_lie_is_noticed(story):
    told, words = LIES[story]
    with pytest.raises(InvariantError, match=words):
        told.check(gpu=1)


def test_whoever_was_cancelled_may_say_so():
    LIES["a cancel by nobody"][0].check(cancelled=True)


def test_statuses_are_folded_from_the_moves():
    reading = Reading(HONEST["a retry"], {})
    pending, running, waiting, completed = (
        {"a": status} for status in (TaskStatus.PENDING, TaskStatus.RUNNING, TaskStatus.WAITING, TaskStatus.COMPLETED)
    )
    assert [reading.statuses_at(seq) for seq in range(7)] == [
        pending, pending, running, waiting, running, completed, completed,
    ]  # fmt: skip
