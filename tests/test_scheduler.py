"""The scheduler, example by example: the complete state after each step, and the complete record of what happened.

tests/properties drives it through every state and over random graphs; here a reader sees what it does.
"""

from __future__ import annotations

import pytest

from nerv import eventlog as log
from nerv import states
from nerv.errors import NervError
from nerv.eventlog import CODES
from nerv.families import Seed
from nerv.fields import RUN_WHEN
from nerv.graph import NUMBER_MASK, Graph
from nerv.levels import LevelScheduler
from nerv.scheduler import ALL_COMPLETED, ALL_FINISHED, ANY_COMPLETED, STATUSES, Scheduler
from nerv.statuses import MOVES, TaskStatus, WorkflowStatus

RULES = {"c": ALL_COMPLETED, "f": ALL_FINISHED, "a": ANY_COMPLETED}
LETTERS = {
    "P": "PENDING",
    "W": "WAITING",
    "R": "RUNNING",
    "C": "COMPLETED",
    "F": "FAILED",
    "S": "SKIPPED",
    "X": "CANCELLED",
}
BOOM = ValueError("boom")


class Run:
    """A scheduler with short words for looking at it. Tasks are called a, b, c ... in definition order.

    `needs` is one word a task: `"- a ab"` is a, b that needs a, and c that needs both. `rules` has a letter a task.
    """

    def __init__(self, needs, rules="", *, kind=Scheduler, fail_fast=True, priorities=None, queues=None):
        numbers = [[ord(letter) - 97 for letter in word if letter != "-"] for word in needs.split()]
        size = len(numbers)
        self.ids = [chr(97 + number) for number in range(size)]
        queues = queues or [0] * size
        self.records = []
        self.scheduler = kind(
            Graph(numbers, priorities or [1] * size),
            self.ids,
            [RULES[letter] for letter in rules or "c" * size],
            queues,
            max(queues, default=0) + 1,
            self.records,
            fail_fast=fail_fast,
        )

    def started(self, **data):
        self.scheduler.start(0.0, data)
        return self

    def take(self, queue=0):
        """Take a task; its name, or None."""
        number = self.scheduler.take(queue, 1.0)
        return None if number < 0 else self.ids[number]

    def does(self, name, task, *more):
        """Call a method with a task's number and the moment 2.0."""
        return getattr(self.scheduler, name)(self.ids.index(task), 2.0, *more)

    def __str__(self):
        """One letter a task for its status, then what is ready, queue by queue, best first."""
        letters = {status: letter for letter, status in LETTERS.items()}
        statuses = "".join(letters[STATUSES[number].name] for number in self.scheduler.state)
        ready = ["".join(self.ids[rank & NUMBER_MASK] for rank in sorted(queue)) for queue in self.scheduler.ready]
        return " ".join((statuses, *ready)).strip()

    def events(self, after=0):
        """Type, task and data of what was recorded, from record number `after`."""
        return [(CODES[code].value, task, data) for code, task, _, _, data in self.records[after:]]


def test_the_numbers_of_statuses_and_rules_are_what_others_take_them_for():
    assert tuple(TaskStatus) == STATUSES
    assert STATUSES[0] is TaskStatus.PENDING, "an untouched bytearray is all pending"
    assert tuple(RUN_WHEN.index(rule) for rule in ("all_completed", "all_finished", "any_completed")) == (
        ALL_COMPLETED,
        ALL_FINISHED,
        ANY_COMPLETED,
    )


# ---- the plain way ---------------------------------------------------------------------------------------------------


def test_errands_and_news_are_told_apart_by_their_numbers():
    assert len({states.FALLBACK, states.COMPENSATION, states.LOOKUP, states.TRANSFER, states.THEN}) == 5
    assert len({states.GROWN, states.GATHERED, states.TOLD, states.SIGNALLED, states.DUE, states.LATE}) == 6


def test_a_new_scheduler_has_nothing_ready():
    run = Run("- a")
    assert str(run) == "PP"
    assert run.scheduler.status is WorkflowStatus.CREATED
    assert run.take() is None
    assert not run.records


def test_a_diamond_from_start_to_end_with_its_complete_record():
    run = Run("- a a bc").started(workflow_id="w", execution_id="e")
    scheduler = run.scheduler
    assert str(run) == "PPPP a"
    assert run.take() == "a"
    assert str(run) == "RPPP"
    run.does("completed", "a")
    assert str(run) == "CPPP bc"
    assert (run.take(), run.take(), run.take()) == ("b", "c", None)
    run.does("completed", "c")
    assert str(run) == "CRCP"
    assert scheduler.unfinished == 2
    run.does("completed", "b")
    assert (str(run), run.take()) == ("CCCP d", "d")
    assert scheduler.status is WorkflowStatus.RUNNING
    run.does("completed", "d")
    assert (str(run), scheduler.unfinished, scheduler.status) == ("CCCC", 0, WorkflowStatus.COMPLETED)
    assert scheduler.attempts == [1, 1, 1, 1]
    end = {
        "workflow_id": "w",
        "execution_id": "e",
        "status": WorkflowStatus.COMPLETED,
        "task_count": 4,
        "successful_tasks": 4,
    }
    assert run.records == [
        (log.WORKFLOW_STARTED, -1, 0.0, 0, {"workflow_id": "w", "execution_id": "e", "task_count": 4}),
        (log.TASK_STARTED, 0, 1.0, 1, None),
        (log.TASK_COMPLETED, 0, 2.0, 1, None),
        (log.TASK_STARTED, 1, 1.0, 1, None),
        (log.TASK_STARTED, 2, 1.0, 1, None),
        (log.TASK_COMPLETED, 2, 2.0, 1, None),
        (log.TASK_COMPLETED, 1, 2.0, 1, None),
        (log.TASK_STARTED, 3, 1.0, 1, None),
        (log.TASK_COMPLETED, 3, 2.0, 1, None),
        (log.WORKFLOW_COMPLETED, -1, 2.0, 0, end),
    ]


def test_what_is_reused_is_complete_from_the_start_and_who_needs_no_more_is_ready():
    run = Run("- - a ab ab b", "ccccaa")
    run.scheduler.start(3.0, {}, [0])
    assert str(run) == "CPPPPP bce"
    assert run.scheduler.records[1] == (log.TASK_COMPLETED, 0, 3.0, 0, {"reused": True})
    assert (run.scheduler.unfinished, len(run.records)) == (5, 2)
    for task in "bcdef":
        assert run.take() == task
        run.does("completed", task)
    assert run.events(-1)[0][2]["successful_tasks"] == 6
    assert run.scheduler.status is WorkflowStatus.COMPLETED


def test_any_of_two_that_are_reused_is_ready():
    run = Run("- - ab", "cca")
    run.scheduler.start(0.0, {}, [0, 1])
    assert str(run) == "CCP c"


def test_an_execution_all_of_which_is_reused_is_complete_at_once():
    run = Run("- a ab")
    run.scheduler.start(0.0, {}, [0, 1, 2])
    assert str(run) == "CCC"
    assert run.scheduler.status is WorkflowStatus.COMPLETED


def test_an_execution_without_tasks_is_complete_at_once():
    run = Run("").started()
    assert run.scheduler.status is WorkflowStatus.COMPLETED
    assert [kind for kind, *_ in run.events()] == ["WORKFLOW_STARTED", "WORKFLOW_COMPLETED"]
    assert run.take() is None


def test_ready_tasks_start_by_priority_then_by_the_path_behind_then_in_definition_order():
    run = Run("- - - - d", priorities=[1, 2, 1, 1, 1]).started()
    assert [run.take() for _ in range(5)] == ["b", "d", "a", "c", None]


def test_each_queue_gives_out_its_own_tasks():
    run = Run("- - a", queues=[0, 2, 1]).started()
    assert (run.take(1), run.take(2), run.take(2), run.take(0)) == (None, "b", None, "a")
    run.does("completed", "a")
    assert (run.take(0), run.take(2), run.take(1)) == (None, None, "c")


def test_the_data_that_an_execution_starts_with_is_not_changed():
    data = {"workflow_id": "w"}
    Run("-").scheduler.start(0.0, data)
    assert data == {"workflow_id": "w"}


# ---- failures --------------------------------------------------------------------------------------------------------


def test_under_fail_fast_what_depends_on_a_failure_is_skipped_for_it_and_the_rest_cancelled():
    run = Run("- - a c b").started()
    run.take()
    known = len(run.records)
    run.does("failed", "a", BOOM)
    assert (str(run), run.scheduler.status) == ("FXSSX", WorkflowStatus.FAILED)
    assert run.scheduler.blame == {2: 0, 3: 0}
    assert run.events(known)[:3] == [
        ("TASK_FAILED", 0, {"error": BOOM}),
        ("TASK_SKIPPED", 2, {"cause": "a"}),
        ("TASK_SKIPPED", 3, {"cause": "a"}),
    ]
    assert run.events(known)[3:5] == [("TASK_CANCELLED", 1, {"reason": ""}), ("TASK_CANCELLED", 4, {"reason": ""})]
    assert run.events(known)[5][:2] == ("WORKFLOW_FAILED", -1)
    assert len(run.events(known)) == 6
    assert "reason" not in run.records[-1][4]


def test_under_fail_fast_what_runs_goes_on_to_its_end():
    run = Run("- - b").started()
    run.take()
    run.take()
    run.does("failed", "a", BOOM)
    assert (str(run), run.scheduler.unfinished) == ("FRX", 1)
    run.does("completed", "b")
    assert (str(run), run.scheduler.status) == ("FCX", WorkflowStatus.FAILED)
    assert run.records[-1][4]["successful_tasks"] == 1


def test_under_continue_all_runs_that_does_not_depend_on_a_failure():
    run = Run("- - a b bc", fail_fast=False).started()
    run.take()
    run.does("failed", "a", BOOM)
    assert str(run) == "FPSPS b"
    assert run.scheduler.blame == {2: 0, 4: 0}, "the cause is what failed, not what was skipped for it"
    run.take()
    run.does("completed", "b")
    assert run.take() == "d"
    run.does("completed", "d")
    assert (str(run), run.scheduler.status) == ("FCSCS", WorkflowStatus.FAILED)


def test_a_task_that_two_failures_doom_is_skipped_once_for_the_first():
    run = Run("- - ab", fail_fast=False).started()
    run.take()
    run.take()
    run.does("failed", "b", BOOM)
    run.does("failed", "a", BOOM)
    assert [event for event in run.events() if event[0] == "TASK_SKIPPED"] == [("TASK_SKIPPED", 2, {"cause": "b"})]


def test_a_second_failure_under_fail_fast_stops_nothing_anew():
    run = Run("- - ab", "ccf").started()
    run.take()
    run.take()
    run.does("failed", "a", BOOM)
    run.does("failed", "b", BOOM)
    assert str(run) == "FFP c"


# ---- run_when --------------------------------------------------------------------------------------------------------


def test_cleanup_waits_for_all_to_finish_and_then_runs_whatever_happened():
    run = Run("- - ab", "ccf").started()
    run.take()
    run.take()
    run.does("failed", "a", BOOM)
    assert (str(run), run.take()) == ("FRP", None)
    run.does("completed", "b")
    assert (str(run), run.take()) == ("FCP c", "c")
    run.does("completed", "c")
    assert run.scheduler.status is WorkflowStatus.FAILED


def test_cleanup_that_was_ready_before_a_stop_still_runs():
    run = Run("- - -", "ffc", priorities=[2, 0, 1]).started()
    assert run.scheduler.cancel(2.0)
    assert str(run) == "PPX ab"
    assert (run.take(), run.take()) == ("a", "b")


def test_cleanup_that_was_ready_before_a_stop_starts_by_priority_after_it():
    """The heap is [a, b, c, d, e, f, g]; what is left without `a` is no heap, unless it is made one."""
    run = Run("- - - - - - -", "cffffff", priorities=[0, -1, -5, -2, -3, -6, -7]).started()
    run.scheduler.cancel(1.0)
    assert [run.take() for _ in range(7)] == ["b", "d", "e", "c", "f", "g", None]


def test_cleanup_after_what_is_skipped_runs():
    run = Run("- a b", "ccf", fail_fast=False).started()
    run.take()
    run.does("failed", "a", BOOM)
    assert str(run) == "FSP c"


def test_any_runs_after_the_first_that_completes_and_only_once():
    run = Run("- - ab", "cca").started()
    run.take()
    run.take()
    run.does("completed", "b")
    assert (str(run), run.take()) == ("RCP c", "c")
    run.does("completed", "a")
    assert str(run) == "CCR"
    assert run.scheduler.attempts[2] == 1


def test_any_runs_after_a_failure_and_a_completion_in_either_order():
    first = Run("- - ab", "cca", fail_fast=False).started()
    first.take()
    first.take()
    first.does("failed", "a", BOOM)
    assert str(first) == "FRP"
    first.does("completed", "b")
    assert str(first) == "FCP c"
    second = Run("- - ab", "cca", fail_fast=False).started()
    second.take()
    second.take()
    second.does("completed", "a")
    second.does("failed", "b", BOOM)
    assert str(second) == "CFP c"


def test_any_is_skipped_when_nothing_can_complete_any_more_for_the_last_failure():
    run = Run("- - ab", "cca", fail_fast=False).started()
    run.take()
    run.take()
    run.does("failed", "b", BOOM)
    run.does("failed", "a", BOOM)
    assert (str(run), run.scheduler.blame) == ("FFS", {2: 0})


def test_any_without_dependencies_is_ready_at_once():
    assert str(Run("-", "a").started()) == "P a"


# ---- pause, resume, cancel, halt -------------------------------------------------------------------------------------


def test_a_pause_gives_nothing_out_and_a_resume_goes_on():
    run = Run("- -").started()
    run.take()
    assert run.scheduler.pause(2.0)
    assert run.scheduler.status is WorkflowStatus.PAUSED
    assert (run.take(), run.scheduler.claim(0)) == (None, -1)
    run.does("completed", "a")
    assert run.scheduler.resume(3.0)
    assert run.take() == "b"
    assert run.records[2][:4] == (log.WORKFLOW_PAUSED, -1, 2.0, 0)
    assert run.records[4] == (log.WORKFLOW_RESUMED, -1, 3.0, 0, None)


def test_what_cannot_be_paused_or_resumed_says_so_and_records_nothing():
    run = Run("-")
    assert not run.scheduler.pause(0.0)
    run.started()
    assert not run.scheduler.resume(1.0)
    run.scheduler.pause(1.0)
    assert not run.scheduler.pause(2.0)
    run.scheduler.resume(3.0)
    run.take()
    run.does("completed", "a")
    assert not run.scheduler.pause(4.0)
    assert not run.scheduler.resume(4.0)
    assert [kind for kind, *_ in run.events()].count("WORKFLOW_PAUSED") == 1


@pytest.mark.parametrize("status", [WorkflowStatus.INTERRUPTED, WorkflowStatus.COMPLETED, WorkflowStatus.CANCELLED])
def test_what_does_not_run_any_more_cannot_be_cancelled(status):
    run = Run("-").started()
    run.scheduler.status = status
    assert run.scheduler.cancel(1.0, "late") is False
    assert (str(run), len(run.records), run.scheduler.reason) == ("P a", 1, "")


def test_what_has_not_begun_or_has_ended_cannot_fail_as_a_whole():
    run = Run("-")
    assert run.scheduler.fail(1.0, BOOM) is False
    run.started().take()
    run.does("completed", "a")
    assert run.scheduler.fail(3.0, BOOM) is False
    assert run.scheduler.fault is None
    assert run.scheduler.status is WorkflowStatus.COMPLETED


def test_an_execution_that_fails_as_a_whole_starts_nothing_but_cleanup_and_says_why():
    run = Run("- - ab", "ccf").started()
    run.take()
    assert run.scheduler.pause(1.0)
    assert run.scheduler.fail(1.0, BOOM) is True
    assert str(run) == "RXP"
    run.does("completed", "a")
    assert run.take() == "c"
    run.does("completed", "c")
    assert run.scheduler.status is WorkflowStatus.FAILED
    assert run.events(-1)[0][2]["error"] is BOOM


def test_an_execution_that_fails_as_a_whole_has_failed_though_all_its_tasks_complete():
    run = Run("-").started()
    run.take()
    run.scheduler.fail(1.0, BOOM)
    run.scheduler.cancel(1.0)
    run.does("completed", "a")
    assert run.scheduler.status is WorkflowStatus.FAILED


def test_the_end_says_whose_it_is():
    run = Run("-").started(workflow_id="wf", execution_id="x")
    run.take()
    run.does("completed", "a")
    data = run.events(-1)[0][2]
    assert (data["workflow_id"], data["execution_id"]) == ("wf", "x")


def test_what_is_passed_over_is_not_held_against_the_execution():
    run = Run("- - a", "ccc").started()
    run.take()
    run.does("waiting", "a", {})
    run.does("skip", "a")
    assert str(run) == "SPS b"
    assert run.scheduler.is_failing is False
    run.take()
    run.does("completed", "b")
    assert run.scheduler.status is WorkflowStatus.COMPLETED
    assert run.events(-1)[0][2]["successful_tasks"] == 1


def test_a_task_that_is_due_for_its_fallback_is_taken_but_not_started():
    run = Run("- -").started()
    run.take()
    known = len(run.records)
    run.scheduler.fall_back(0, 2.0, 0)
    assert str(run) == "RP ab"
    assert run.take() == "a"
    assert (str(run), len(run.records), run.scheduler.attempts) == ("RP b", known, [1, 0])
    assert not run.scheduler.can_be_claimed
    run.scheduler.errands.clear()
    assert run.scheduler.can_be_claimed


def test_a_task_that_is_ready_changes_its_place_with_its_priority_in_this_execution_only():
    run = Run("- - - - - a").started()
    run.take()
    assert run.does("reprioritize", "e", 7) is True
    assert run.events(-1) == [("TASK_REPRIORITIZED", 4, {"priority": 7})]
    assert run.records[-1][2:4] == (2.0, 0)
    assert run.does("reprioritize", "b", -1) is True
    assert str(run) == "RPPPPP ecdb"
    assert all(heap[(i - 1) // 2] <= heap[i] for heap in run.scheduler.ready for i in range(1, len(heap)))
    assert run.does("reprioritize", "f", 3) is True, "it isn't ready yet"
    run.does("completed", "a")
    assert [run.take() for _ in range(6)] == ["e", "f", "c", "d", "b", None]
    assert run.scheduler.ranks is not run.scheduler.graph.ranks
    assert Graph([[]] * 5 + [[0]], [1] * 6).ranks == run.scheduler.graph.ranks
    run.does("completed", "e")
    known = len(run.records)
    assert run.does("reprioritize", "e", 1) is False, "it has ended"
    assert len(run.records) == known


def test_a_task_that_does_not_run_reports_nothing():
    run = Run("-").started()
    assert run.does("progressed", "a", {}) is False
    assert len(run.records) == 1


def test_an_execution_can_end_while_it_is_paused():
    run = Run("-").started()
    run.take()
    run.scheduler.pause(2.0)
    run.does("completed", "a")
    assert run.scheduler.status is WorkflowStatus.COMPLETED


def test_a_cancel_ends_what_has_not_started_and_resumes_what_is_paused():
    run = Run("- - a").started()
    run.take()
    run.scheduler.pause(1.0)
    known = len(run.records)
    assert run.scheduler.cancel(5.0, "no time")
    assert run.events(known) == [
        ("WORKFLOW_RESUMED", -1, None),
        ("TASK_CANCELLED", 1, {"reason": "no time"}),
        ("TASK_CANCELLED", 2, {"reason": "no time"}),
    ]
    assert not run.scheduler.cancel(6.0, "again")
    assert run.scheduler.reason == "no time"
    error = NervError("stopped")
    run.does("cancelled", "a", error)
    assert run.events()[-2] == ("TASK_CANCELLED", 0, {"error": error, "reason": "no time"})
    assert run.records[-2][3] == 1, "it had started"
    assert run.events()[-1][0] == "WORKFLOW_CANCELLED"
    assert run.records[-1][4]["reason"] == "no time"
    assert not run.scheduler.cancel(7.0)


def test_a_cancel_with_nothing_running_ends_the_execution():
    run = Run("- a").started()
    assert run.scheduler.cancel(2.0)
    assert (str(run), run.scheduler.status) == ("XX", WorkflowStatus.CANCELLED)
    assert [event[0] for event in run.events()].count("WORKFLOW_CANCELLED") == 1
    assert "reason" not in run.records[-1][4]


def test_a_cancel_before_the_start_takes_effect_right_after_it():
    run = Run("- - a", "cfc")
    assert run.scheduler.cancel(1.0, "too late")
    assert not run.scheduler.cancel(2.0, "again")
    assert (str(run), run.records, run.scheduler.status) == ("PPP", [], WorkflowStatus.CREATED)
    run.started()
    assert [kind for kind, *_ in run.events()] == ["WORKFLOW_STARTED", "TASK_CANCELLED", "TASK_CANCELLED"]
    assert (str(run), run.take()) == ("XPX b", "b")
    run.does("completed", "b")
    assert run.scheduler.status is WorkflowStatus.CANCELLED
    assert run.records[-1][4]["reason"] == "too late"


def test_an_empty_execution_that_was_cancelled_before_its_start_is_complete():
    run = Run("")
    run.scheduler.cancel(1.0)
    run.started()
    assert [kind for kind, *_ in run.events()] == ["WORKFLOW_STARTED", "WORKFLOW_COMPLETED"]


def test_a_cancelled_execution_whose_tasks_all_complete_is_complete():
    run = Run("-").started()
    run.take()
    run.scheduler.cancel(2.0)
    run.does("completed", "a")
    assert run.scheduler.status is WorkflowStatus.COMPLETED


def test_a_task_that_ends_cancelled_takes_what_needs_it_along():
    run = Run("- a b a", "cccf").started()
    run.take()
    run.does("cancelled", "a", BOOM)
    assert str(run) == "XXXP d"
    assert not run.scheduler.blame


def test_a_halt_cancels_cleanup_too_and_leaves_nothing_ready():
    run = Run("- - a", "cff").started()
    run.scheduler.cancel(1.0, "closed")
    assert str(run) == "XPP bc"
    run.scheduler.halt(2.0)
    assert (str(run), run.scheduler.status) == ("XXX", WorkflowStatus.CANCELLED)
    assert run.events()[-2] == ("TASK_CANCELLED", 2, {"reason": "closed"})
    known = len(run.records)
    run.scheduler.halt(3.0)
    assert len(run.records) == known


def test_a_halt_cancels_what_was_claimed():
    run = Run("- -").started()
    run.scheduler.claim(0)
    run.scheduler.halt(2.0)
    assert (str(run), run.scheduler.claimed, run.scheduler.status) == ("XX", set(), WorkflowStatus.CANCELLED)
    assert run.scheduler.stopping
    assert run.scheduler.cancelling


# ---- claims ----------------------------------------------------------------------------------------------------------


def test_a_claimed_task_is_pending_until_it_is_started():
    run = Run("- -").started()
    assert run.scheduler.claim(0) == 0
    assert (str(run), run.scheduler.claimed, len(run.records)) == ("PP b", {0}, 1)
    assert run.does("started", "a") == 1
    assert (str(run), run.scheduler.claimed) == ("RP b", set())
    assert run.records[-1] == (log.TASK_STARTED, 0, 2.0, 1, None)
    assert run.scheduler.attempts == [1, 0]
    assert run.scheduler.claim(0) == 1
    assert run.scheduler.claim(0) == -1


def test_a_claimed_task_that_comes_back_is_ready_again():
    run = Run("- -").started()
    run.scheduler.claim(0)
    run.does("unclaim", "a")
    assert (str(run), run.scheduler.claimed, len(run.records)) == ("PP ab", set(), 1)


def test_a_stop_spares_what_is_claimed_until_it_comes_back():
    run = Run("- - ab").started()
    run.scheduler.claim(0)
    run.scheduler.claim(0)
    run.scheduler.cancel(1.0, "why")
    assert str(run) == "PPX"
    run.does("started", "b")
    run.does("unclaim", "a")
    assert str(run) == "XRX"
    assert run.events()[-1] == ("TASK_CANCELLED", 0, {"reason": "why"})
    run.does("completed", "b")
    assert run.scheduler.status is WorkflowStatus.CANCELLED


def test_a_claimed_task_that_comes_back_last_after_a_stop_ends_the_execution():
    run = Run("-").started()
    run.scheduler.claim(0)
    run.scheduler.cancel(1.0)
    assert run.scheduler.status is WorkflowStatus.RUNNING
    run.does("unclaim", "a")
    assert run.scheduler.status is WorkflowStatus.CANCELLED


def test_claimed_cleanup_that_comes_back_after_a_stop_is_ready_again():
    run = Run("- -", "fc").started()
    run.scheduler.claim(0)
    run.scheduler.cancel(1.0)
    run.does("unclaim", "a")
    assert (str(run), run.take()) == ("PX a", "a")


# ---- progress, and moves that can't be -------------------------------------------------------------------------------


def test_progress_is_recorded_while_the_task_runs():
    run = Run("-").started()
    assert not run.does("progressed", "a", {"done": 1})
    run.take()
    assert run.does("progressed", "a", {"done": 1})
    assert run.records[-1] == (log.TASK_PROGRESS, 0, 2.0, 1, {"done": 1})
    run.does("completed", "a")
    known = len(run.records)
    assert not run.does("progressed", "a", {"done": 2})
    assert len(run.records) == known


ENDINGS = {"completed": (), "failed": (BOOM,), "cancelled": (BOOM,)}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("status", ["COMPLETED", "FAILED", "CANCELLED"])
def test_a_task_that_has_ended_cannot_end_again(ending, status):
    run = Run("- -").started()
    run.take()
    run.does(status.lower(), "a", *ENDINGS[status.lower()])
    with pytest.raises(NervError, match=f"^TASK_{ending.upper()} can't happen to task 'a', which is {status}: a bug"):
        run.does(ending, "a", *ENDINGS[ending])


def test_a_task_that_is_ready_but_not_pending_cannot_start():
    run = Run("-").started()
    run.scheduler.state[0] = STATUSES.index(TaskStatus.COMPLETED)
    with pytest.raises(NervError, match=r"^TASK_STARTED can't happen to task 'a', which is COMPLETED: a bug in nerv$"):
        run.take()


def test_a_claimed_task_that_is_not_pending_cannot_start():
    run = Run("-").started()
    run.scheduler.claim(0)
    run.scheduler.state[0] = STATUSES.index(TaskStatus.RUNNING)
    with pytest.raises(NervError, match=r"^TASK_STARTED can't happen to task 'a', which is RUNNING"):
        run.does("started", "a")


@pytest.mark.parametrize(("needs", "rules"), [("- a a bc", ""), ("- - - abc", "ccca"), ("- - a b cd a", "cccfac")])
def test_a_relay_is_an_end_and_a_start(needs, rules):
    long, short = Run(needs, rules).started().scheduler, Run(needs, rules).started().scheduler
    while long.status is WorkflowStatus.RUNNING:
        running = long.take(0, 1.0)
        assert short.take(0, 1.0) == running
        while short.ready[0]:
            long.completed(running, 1.0)
            running, ended = long.take(0, 1.0), running
            assert short.relay(ended, 0, 1.0) == running
            for name in ("state", "missing", "ready", "attempts", "counts", "unfinished", "records"):
                assert getattr(long, name) == getattr(short, name), name
        long.completed(running, 1.0)
        short.completed(running, 1.0)
    assert long.records == short.records
    assert short.status is WorkflowStatus.COMPLETED


def test_the_first_failure_stops_everything_unless_it_is_said_otherwise():
    scheduler = Scheduler(Graph([[], []], [1, 1]), ["a", "b"], bytes(2), [0, 0], 1, [])
    scheduler.start(0.0, {})
    scheduler.take(0, 1.0)
    scheduler.failed(0, 2.0, BOOM)
    assert scheduler.status is WorkflowStatus.FAILED


def test_a_relay_releases_nobody_who_has_ended():
    """c needs a, and was cancelled when b failed; d is cleanup, and ready."""
    run = Run("- - a -", "cccf").started()
    assert [run.take(), run.take()] == ["a", "b"]
    run.does("failed", "b", BOOM)
    assert run.scheduler.relay(0, 0, 3.0) == 3
    assert str(run) == "CFXR"


def test_only_a_running_task_is_relayed_and_only_to_one_that_can_start():
    run = Run("- -").started()
    with pytest.raises(NervError, match="TASK_COMPLETED can't happen to task 'a', which is PENDING"):
        run.scheduler.relay(0, 0, 1.0)
    run.take()
    run.scheduler.state[1] = STATUSES.index(TaskStatus.RUNNING)
    with pytest.raises(NervError, match="TASK_STARTED can't happen to task 'b', which is RUNNING"):
        run.scheduler.relay(0, 0, 1.0)


def test_the_table_of_moves_ends_every_task_for_good():
    for table in MOVES.values():
        assert not any(before.is_final for before in table)
    going_on = {"TASK_STARTED", "TASK_WAITING", "TASK_RETRYING"}
    assert all(after.is_final for event, table in MOVES.items() for after in table.values() if event not in going_on)


# ---- levels ----------------------------------------------------------------------------------------------------------


def test_with_levels_a_task_waits_for_every_task_of_the_levels_before():
    run = Run("- - a c", kind=LevelScheduler).started()
    run.take()
    run.take()
    run.does("completed", "a")
    assert (str(run), run.take()) == ("CRPP", None)
    run.does("completed", "b")
    assert (str(run), run.take()) == ("CCPP c", "c")
    run.does("completed", "c")
    assert run.take() == "d"


def test_with_levels_a_failure_also_ends_a_task_of_its_level():
    run = Run("- - a", kind=LevelScheduler, fail_fast=False).started()
    run.take()
    run.take()
    run.does("completed", "a")
    run.does("failed", "b", BOOM)
    assert str(run) == "CFP c"


def test_with_levels_a_level_that_is_skipped_whole_is_passed():
    run = Run("- a b -", "ccfc", kind=LevelScheduler, fail_fast=False).started()
    run.take()
    run.take()
    run.does("failed", "a", BOOM)
    assert str(run) == "FSPR", "c is ready in its own time, and d has still to end"
    run.does("completed", "d")
    assert str(run) == "FSPC c"


def test_with_levels_a_stop_leaves_only_cleanup_and_a_halt_nothing():
    run = Run("- a b -", "fcfc", kind=LevelScheduler).started()
    run.scheduler.cancel(1.0)
    assert str(run) == "PXPX a", "cleanup of a later level still waits for its level"
    run.scheduler.halt(2.0)
    assert (str(run), run.scheduler.status) == ("XXXX", WorkflowStatus.CANCELLED)


def test_with_levels_what_waits_for_its_level_when_a_stop_comes_is_not_released_later():
    run = Run("- - a", kind=LevelScheduler).started()
    run.take()
    run.take()
    run.does("completed", "a")
    run.scheduler.cancel(1.0)
    run.does("completed", "b")
    assert (str(run), run.scheduler.status) == ("CCX", WorkflowStatus.CANCELLED)


def test_with_levels_a_level_that_is_reused_whole_is_passed():
    run = Run("- - a - b", kind=LevelScheduler)
    run.scheduler.start(0.0, {}, [0, 1, 3])
    assert str(run) == "CCPCP ce"
    assert (run.take(), run.take()) == ("c", "e")


def test_with_levels_what_needs_only_what_is_reused_still_waits_for_its_level():
    run = Run("- - a", kind=LevelScheduler)
    run.scheduler.start(0.0, {}, [0])
    assert (str(run), run.take()) == ("CPP b", "b")
    run.does("completed", "b")
    assert str(run) == "CCP c"


@pytest.mark.parametrize(("ended", "at", "left"), [("", 0, [2, 2, 1]), ("ab", 1, [0, 2, 1]), ("abcde", 3, [0, 0, 0])])
def test_with_levels_one_that_is_brought_back_goes_on_where_it_was(ended, at, left):
    run = Run("- - a b c", kind=LevelScheduler)
    for letter in ended:
        run.scheduler.state[run.ids.index(letter)] = STATUSES.index(TaskStatus.COMPLETED)
    run.scheduler.brought_back()
    assert (run.scheduler.at, run.scheduler.left) == (at, left)


def test_with_levels_one_that_is_brought_back_releases_the_tasks_of_its_level_and_no_others():
    run = Run("- - a b c", kind=LevelScheduler)
    scheduler = run.scheduler
    scheduler.state[0] = scheduler.state[2] = STATUSES.index(TaskStatus.COMPLETED)
    scheduler.status = WorkflowStatus.RUNNING
    scheduler.unfinished = 3
    scheduler.missing[:] = [0, 0, 0, 1, 0]
    scheduler.brought_back()
    for number in (4, 1):
        scheduler.release(number)
    assert (str(run), run.take()) == ("CPCPP b", "b")
    run.does("completed", "b")
    assert (str(run), run.take()) == ("CCCPP d", "d")
    run.does("completed", "d")
    assert (str(run), run.take()) == ("CCCCP e", "e")


def test_with_levels_added_tasks_are_on_their_parents_level():
    run = Run("- - b", kind=LevelScheduler).started()
    scheduler = run.scheduler
    assert (run.take(), run.take()) == ("b", "a")
    families, seed = scheduler.has_families(), Seed()
    seed.ids, seed.rules, seed.queues, seed.ranks = ["d", "e"], bytes(2), [0, 0], range(2)
    families.grow(0, seed, 1.0, parted=False)
    assert str(run) == "RRPPP de"
    run.does("completed", "b")
    assert (run.take(), run.take()) == ("d", "e")
    run.does("completed", "d")
    run.does("completed", "e")
    assert str(run) == "RCPCC", "the parent is still to end"
    run.does("completed", "a")
    assert str(run) == "CCPCC c"
    assert run.events(-1) == [("TASK_COMPLETED", 0, None)]


def test_with_levels_a_stop_that_ends_a_level_releases_only_cleanup_of_the_next():
    run = Run("- - a a", "cccf", kind=LevelScheduler).started()
    run.take()
    run.does("completed", "a")
    assert str(run) == "CPPP b"
    run.scheduler.cancel(1.0)
    assert str(run) == "CXXP d"


def test_with_levels_what_was_passed_over_is_not_released_with_its_level():
    run = Run("- - a a", kind=LevelScheduler).started()
    run.take()
    run.does("completed", "a")
    run.does("skip", "c")
    run.take()
    run.does("completed", "b")
    assert str(run) == "CCSP d"
