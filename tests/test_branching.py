"""Branches that are not taken, and how an end spreads, on a scheduler alone (at random: tests/nodes/test_router.py)."""

from __future__ import annotations

import pytest

from nerv.levels import LevelScheduler
from nerv.scheduler import STATUSES, Scheduler
from nerv.states import CANCELLED
from nerv.statuses import TaskStatus
from tests.test_scheduler import BOOM, Run


@pytest.mark.parametrize(
    ("needs", "rules", "expected"),
    [
        ("- a a bc", "", [1, 2]),
        ("- a a abc", "", [1, 2]),
        ("- a ab", "", [1]),
        ("- a b ac", "", [1]),
        ("- a b b acd", "", [1]),
        ("- a a a", "ccfa", [1, 3]),
        ("- a", "", [1]),
        ("- -", "", []),
    ],
)
def test_the_branches_of_a_task_are_those_that_do_not_join_others(needs, rules, expected):
    run = Run(needs, rules).started()
    run.take()
    assert run.scheduler.branches(0) == expected


def test_who_has_ended_is_no_branch():
    run = Run("- a a", fail_fast=False).started()
    run.take()
    run.scheduler.cancel_all([1], 1.0)
    assert run.scheduler.branches(0) == [2]


def test_a_join_waits_for_the_branch_that_was_taken():
    run = Run("- a a bc").started()
    run.take()
    run.scheduler.routed(0, 2.0, [1])
    assert str(run) == "CSPP c"
    assert run.events(-2) == [("TASK_COMPLETED", 0, None), ("TASK_SKIPPED", 1, {"cause": "a"})]
    run.take()
    run.does("completed", "c")
    assert str(run) == "CSCP d"
    run.take()
    run.does("completed", "d")
    assert run.scheduler.status.name == "COMPLETED"


def test_a_branch_that_is_not_taken_never_is_ready_though_it_needs_more_than_who_routes():
    run = Run("- - ab").started()
    run.take()
    run.scheduler.routed(0, 2.0, [2])
    assert str(run) == "CPS b"


def test_a_join_none_of_whose_branches_was_taken_is_dead_and_so_is_what_needs_it():
    run = Run("- a a bc d d", "cccccf").started()
    run.take()
    run.scheduler.routed(0, 2.0, [1, 2])
    assert str(run) == "CSSSSP f"
    assert [data["cause"] for kind, _, data in run.events() if kind == "TASK_SKIPPED"] == ["a"] * 4
    assert run.scheduler.dead == {1, 2, 3, 4}
    run.take()
    run.does("completed", "f")
    assert run.scheduler.status.name == "COMPLETED"


def test_a_route_to_nowhere_ends_the_execution():
    run = Run("- a").started()
    run.take()
    run.scheduler.routed(0, 2.0, [1])
    assert run.scheduler.status.name == "COMPLETED"


def test_who_has_ended_already_is_not_passed_over():
    run = Run("- a a", fail_fast=False).started()
    run.take()
    run.scheduler.cancel_all([1], 1.0)
    run.scheduler.routed(0, 2.0, [1])
    assert str(run) == "CXP c"
    assert run.scheduler.dead == set()


@pytest.mark.parametrize("kind", [Scheduler, LevelScheduler])
def test_any_that_is_ready_already_stays_so_whatever_is_routed(kind):
    run = Run("- - ab", "cca", kind=kind).started()
    assert (run.take(), run.take()) == ("a", "b")
    run.does("completed", "a")
    run.scheduler.routed(1, 2.0, [2])
    assert (str(run), run.take()) == ("CCP c", "c")
    run.does("completed", "c")
    assert run.scheduler.status.name == "COMPLETED"


def test_any_that_was_claimed_already_starts_whatever_is_routed():
    run = Run("- - ab", "cca").started()
    assert (run.take(), run.take()) == ("a", "b")
    run.does("completed", "a")
    assert run.scheduler.claim(0) == 2
    run.scheduler.routed(1, 2.0, [2])
    assert (str(run), run.does("started", "c")) == ("CCP", 1)


def test_any_that_is_not_ready_yet_is_passed_over_for_good():
    run = Run("- - ab", "cca").started()
    assert (run.take(), run.take()) == ("a", "b")
    run.scheduler.routed(1, 2.0, [2])
    run.does("completed", "a")
    assert (str(run), run.scheduler.status.name) == ("CCS", "COMPLETED")


def test_any_of_two_branches_runs_after_the_one_that_was_taken():
    run = Run("- a a bc", "ccca").started()
    run.take()
    run.scheduler.routed(0, 2.0, [2])
    assert str(run) == "CPSP b"
    run.take()
    run.does("completed", "b")
    assert str(run) == "CCSP d"


@pytest.mark.parametrize("first", ["failed", "routed"])
def test_any_of_a_failure_and_a_dead_branch_is_skipped_for_the_failure(first):
    """a routes to b, and not to c; d needs any of c and e, and e fails, sooner or later."""
    run = Run("- a a ce -", "cccac", fail_fast=False).started()
    assert [run.take(), run.take()] == ["a", "e"]
    if first == "failed":
        run.does("failed", "e", BOOM)
    run.scheduler.routed(0, 2.0, [2])
    if first == "routed":
        run.does("failed", "e", BOOM)
    assert str(run) == "CPSSF b"
    assert run.scheduler.blame[3] == 4
    assert run.scheduler.dead == {2}
    assert run.scheduler.excused == 1


def test_a_dead_dependency_beside_a_failure_does_not_make_dead():
    run = Run("- a a ce -", fail_fast=False).started()
    assert [run.take(), run.take()] == ["a", "e"]
    run.scheduler.routed(0, 2.0, [2])
    assert str(run) == "CPSPR b"
    run.does("failed", "e", BOOM)
    assert str(run) == "CPSSF b"
    assert run.scheduler.is_failing


def test_who_is_passed_over_last_ends_the_execution():
    run = Run("-").started()
    run.take()
    run.does("waiting", "a", {})
    run.does("skip", "a")
    assert run.events(-2)[0] == ("TASK_SKIPPED", 0, {"cause": "a"})
    assert run.scheduler.status.name == "COMPLETED"


def test_who_is_removed_is_not_held_against_the_execution():
    run = Run("- -").started()
    run.does("remove", "b")
    assert run.events(-1) == [("TASK_SKIPPED", 1, {"cause": "b", "removed": True})]
    assert (run.scheduler.excused, run.scheduler.is_failing) == (1, False)


def test_an_end_reaches_all_that_depend_on_it_whatever_each_does():
    """Of those that need a, c runs already, d is cleanup, e may still be started by b, and f can't run any more."""
    run = Run("- - ab a ag a -", "ccafacc", fail_fast=False).started()
    assert [run.take(), run.take()] == ["a", "b"]
    run.does("completed", "b")
    assert run.take() == "g"
    assert run.take() == "c"
    run.does("failed", "a", BOOM)
    assert str(run) == "FCRPPSR d"
    run.does("completed", "g")
    assert str(run) == "FCRPPSC de"


def test_records_that_end_in_the_midst_of_a_spread_are_gone_on_with():
    """The states are those of a journal that was torn: a has failed, and nobody has heard of it."""
    run = Run("- a b a ag ag -", "cccfaac", fail_fast=False).started()
    run.scheduler.state[0] = 4
    run.scheduler.missing[3] = 0
    run.scheduler.state[6] = CANCELLED
    run.scheduler.undecided[5] = 1
    run.scheduler.spread_on(3.0)
    assert str(run)[:7] == "FSSPSSX"
    assert [data.get("cause") for kind, _, data in run.events(1) if kind == "TASK_SKIPPED"][:2] == ["a", "a"]


def test_a_spread_is_not_gone_on_with_where_something_can_still_happen():
    run = Run("- - ab ab", "ccaf", fail_fast=False).started()
    run.scheduler.state[0] = 4
    run.scheduler.spread_on(3.0)
    assert str(run)[:4] == "FPPP"


@pytest.mark.parametrize(("needs", "expected"), [("- a -", "FSX"), ("- a", "FS"), ("- -", "FX")])
def test_an_execution_is_failing_whatever_became_of_the_rest(needs, expected):
    run = Run(needs).started()
    run.take()
    assert not run.scheduler.is_failing
    run.does("failed", "a", BOOM)
    assert str(run).strip() == expected
    assert run.scheduler.is_failing


def test_an_execution_of_which_a_task_was_cancelled_is_failing():
    run = Run("- -", fail_fast=False).started()
    run.scheduler.cancel_all([1], 1.0)
    assert run.scheduler.is_failing


def test_who_has_ended_already_is_counted_once():
    """d is cleanup, and needs b and c; b was cancelled before it isn't taken."""
    run = Run("- a a bc", "cccf", fail_fast=False).started()
    run.take()
    run.scheduler.cancel_all([1], 1.0)
    run.scheduler.routed(0, 2.0, [1])
    assert str(run) == "CXPP c"


def test_a_dead_branch_reaches_all_that_depend_on_it():
    run = Run("- a a bc b").started()
    run.take()
    run.scheduler.routed(0, 2.0, [1])
    assert str(run) == "CSPPS c"


def test_a_torn_spread_is_gone_on_with_to_its_end_and_no_further():
    """b is dead, c has failed: d needs both, and goes with c; e, behind d, with d; f needs a, which has completed."""
    run = Run("- a a bc d a ab ab", "ccccccac", fail_fast=False).started()
    run.scheduler.state[0] = STATUSES.index(TaskStatus.COMPLETED)
    run.scheduler.state[1] = STATUSES.index(TaskStatus.SKIPPED)
    run.scheduler.dead.add(1)
    run.scheduler.state[2] = STATUSES.index(TaskStatus.FAILED)
    run.scheduler.spread_on(3.0)
    assert str(run)[:8] == "CSFSSPPP"
    assert [run.scheduler.blame.get(number) for number in (3, 4)] == [2, 2]


def test_a_torn_spread_of_what_was_not_taken_kills_what_needs_nothing_else():
    """b is dead: c and d need it alone; e needs a too, which has completed."""
    run = Run("- a b b ab", "cccac", fail_fast=False).started()
    run.scheduler.state[0] = STATUSES.index(TaskStatus.COMPLETED)
    run.scheduler.state[1] = STATUSES.index(TaskStatus.SKIPPED)
    run.scheduler.dead.add(1)
    run.scheduler.spread_on(3.0)
    assert str(run)[:5] == "CSSSP"
    assert run.scheduler.dead == {1, 2, 3}


def test_a_torn_spread_spares_who_may_start_for_what_has_completed():
    """a has failed and b completed: d needs any of them, c both, and e any of a and c."""
    run = Run("- - ab ab ac", "cccaa", fail_fast=False).started()
    run.scheduler.state[0] = STATUSES.index(TaskStatus.FAILED)
    run.scheduler.state[1] = STATUSES.index(TaskStatus.COMPLETED)
    run.scheduler.undecided[4] = 1
    run.scheduler.spread_on(3.0)
    assert str(run)[:5] == "FCSPS"


def test_a_torn_spread_reaches_whom_the_graph_names_before_what_they_need():
    run = Run("- c a", fail_fast=False).started()
    run.scheduler.state[0] = STATUSES.index(TaskStatus.FAILED)
    run.scheduler.spread_on(3.0)
    assert str(run)[:3] == "FSS"
    assert run.scheduler.blame == {1: 0, 2: 0}
