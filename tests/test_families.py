"""Tasks that others add, on a scheduler alone: who waits for whom, whose failure is whose business."""

from __future__ import annotations

import pytest

from nerv.errors import FatalError
from nerv.eventlog import CODES
from nerv.families import NOBODY, Families, Seed
from nerv.graph import NUMBER_MASK, Graph, rank
from nerv.lines import Lines
from nerv.sagas import Saga
from nerv.scheduler import ALL_COMPLETED, ALL_FINISHED, ANY_COMPLETED, STATUSES, Scheduler
from nerv.sparse import Sparse
from nerv.states import CANCELLED, COMPLETED, FAILED, GATHERED, GROWN, TOLD
from nerv.waits import Waits

RULES = {"c": ALL_COMPLETED, "f": ALL_FINISHED, "a": ANY_COMPLETED}
BOOM = ValueError("boom")


class Grown:
    """A scheduler whose tasks may add others. Tasks go by number; `needs` and `rules` as in test_scheduler.py."""

    def __init__(self, needs="-", rules="", *, fail_fast=True, undoable=()):
        numbers = [[ord(letter) - 97 for letter in word if letter != "-"] for word in needs.split()]
        size = len(numbers)
        self.records, self.now = [], 0.0
        self.scheduler = Scheduler(
            Graph(numbers, [1] * size),
            [str(number) for number in range(size)],
            bytes(RULES[letter] for letter in rules or "c" * size),
            [0] * size,
            1,
            self.records,
            fail_fast=fail_fast,
            waits=Waits({}, Lines({}), ["pool"], 0.0, None) if undoable else None,
            saga=Saga(undoable, [n for n, rule in enumerate(rules) if rule == "f"]) if undoable else None,
        )
        self.scheduler.start(0.0, {})
        self.families = self.scheduler.has_families()

    def seed(self, count=3, rules="", **fields):
        """What `count` tasks are made of."""
        seed = Seed()
        first = len(self.scheduler.state)
        seed.ids = [f"{first + place}" for place in range(count)]
        seed.rules = bytes(RULES[letter] for letter in rules or "c" * count)
        seed.queues = [0] * count
        seed.ranks = [rank(1, 0, place) for place in range(count)]
        for name, value in fields.items():
            setattr(seed, name, value)
        return seed

    def grow(self, parent=0, count=3, *, parted=False, **fields):
        """A task that is ready is taken, and adds others."""
        while self.status(parent) == "PENDING":
            assert self.take() >= 0
        return self.families.grow(parent, self.seed(count, **fields), self.now, parted=parted)

    def take(self):
        return self.scheduler.take(0, self.now)

    def complete(self, *numbers):
        for number in numbers:
            while self.status(number) == "PENDING":
                assert self.take() >= 0
            self.scheduler.completed(number, self.now)

    def fail(self, number, error=BOOM):
        while self.status(number) == "PENDING":
            assert self.take() >= 0
        self.scheduler.failed(number, self.now, error)

    @property
    def ready(self):
        return [rank & NUMBER_MASK for rank in sorted(self.scheduler.ready[0])]

    @property
    def news(self):
        news, self.scheduler.news = self.scheduler.news, []
        return news

    def status(self, number):
        return STATUSES[self.scheduler.state[number]].name

    def __str__(self):
        letters = {"CANCELLED": "X"}
        return "".join(letters.get(one, one[0]) for one in map(self.status, range(len(self.scheduler.state))))

    def ended(self):
        """The status of the execution when whatever runs has completed."""
        while not self.scheduler.status.is_final:
            running = [number for number, letter in enumerate(str(self)) if letter == "R"]
            if self.take() < 0:
                waiting = [n for n in running if n not in self.families.open]
                assert waiting, f"nothing goes on: {self}"
                self.complete(waiting[-1])
        return self.scheduler.status.name


def test_a_parent_hears_when_all_that_it_added_has_ended():
    one = Grown("- a")
    family = one.grow()
    data = one.records[-1][4]
    assert CODES[one.records[-1][0]].value == "TASKS_ADDED"
    assert (list(data["ids"]), "outcome" in data) == (["2", "3", "4"], False)
    assert (str(one), one.ready, family.numbers) == ("RPPPP", [2, 3, 4], range(2, 5))
    one.complete(2, 3)
    assert one.news == []
    one.complete(4)
    assert one.news == [(GROWN, 0)]
    assert one.families.open == {}
    assert one.families.outcome_of(0) == COMPLETED
    one.complete(0)
    assert one.ready == [1]
    assert one.ended() == "COMPLETED"


def test_a_family_of_nobody_has_ended_at_once():
    one = Grown()
    one.grow(count=0)
    assert (one.news, one.families.open) == ([(GROWN, 0)], {})
    assert one.families.last[0].count == 0
    one = Grown()
    assert one.grow(count=0) is one.families.last[0]


def test_the_outcome_is_kept_with_the_event_if_there_is_one():
    one = Grown()
    one.grow(kept=b"outcome")
    assert one.records[-1][4]["outcome"] == b"outcome"


def test_who_has_parted_is_not_told():
    one = Grown()
    one.grow(parted=True)
    one.complete(0)
    assert str(one) == "CPPP"
    one.complete(1, 2, 3)
    assert one.news == []
    assert one.scheduler.status.name == "COMPLETED"


def test_a_limit_holds_the_next_one_back_until_one_has_ended():
    one = Grown(fail_fast=False)
    one.grow(count=4, limit=2)
    assert one.ready == [1, 2]
    one.complete(1)
    assert one.ready == [2, 3]
    assert list(one.scheduler.missing) == [1, 0, 0, 0, 1]
    one.fail(2)
    assert one.ready == [3, 4]
    one.complete(3, 4)
    assert one.news == [(GROWN, 0)]
    assert one.families.outcome_of(0) == FAILED


def test_a_limit_passes_over_who_has_ended_meanwhile():
    one = Grown(fail_fast=False)
    one.grow(count=4, limit=1)
    one.scheduler.cancel_all([2], 1.0)
    assert one.ready == [1]
    one.complete(1)
    assert one.ready == [3]
    one.complete(3)
    assert one.ready == [4]


def test_who_needs_whom_among_them_and_outside():
    """`~place` is one of the family; the others are any tasks."""
    one = Grown("- -")
    one.grow(0, 4, needs=[[], [~0], [~0, 1], [~1, ~2]], rules="ccca")
    assert one.ready == [1, 2]
    assert [list(one.families.needs_of(number)) for number in (2, 3, 4, 5)] == [[], [2], [2, 1], [3, 4]]
    one.complete(2)
    assert one.ready == [3]
    one.complete(3)
    assert one.ready == [5], "any of both"
    one.complete(5)
    assert one.news == []
    one.complete(1)
    assert one.ready == [4]
    one.complete(4)
    assert one.news == [(GROWN, 0)]


def test_what_an_added_task_needs_may_have_ended_already():
    one = Grown("- -", fail_fast=False)
    one.complete(1)
    one.grow(0, 2, needs=[[1], [1, ~0]], rules="aa")
    assert one.ready == [2, 3], "any of two starts for the one that has completed"
    one.fail(2)
    assert (one.status(3), one.ready) == ("PENDING", [3])


def test_an_added_task_that_needs_what_has_failed_is_skipped_for_it():
    """0 has failed; 2 needs it, 3 needs 2, 4 is cleanup that needs both, 5 needs nobody."""
    one = Grown("- a", "cf", fail_fast=False)
    one.fail(0)
    one.grow(1, 4, needs=[[0], [~0], [0, ~0], []], rules="ccfc")
    assert (str(one), one.ready) == ("FRSSPP", [4, 5])
    assert [record[4]["cause"] for record in one.records if record[1] in {2, 3} and record[4]] == ["0", "0"]
    one.complete(4, 5)
    assert one.news == [(GROWN, 1)]
    assert one.families.outcome_of(1) == FAILED


@pytest.mark.parametrize(
    ("limit", "rules", "expected"), [(None, "ccc", "FRSSS"), (1, "ccc", "FRSSS"), (1, "fff", "FRPPP")]
)
def test_added_tasks_that_all_need_what_has_failed_are_skipped_for_it(limit, rules, expected):
    one = Grown("- a", "cf", fail_fast=False)
    one.fail(0)
    one.grow(1, 3, shared=(0,), limit=limit, rules=rules)
    assert str(one) == expected
    assert one.ready == ([2] if rules == "fff" else [])
    assert one.news == ([] if rules == "fff" else [(GROWN, 1)])


def test_an_added_task_that_would_start_after_any_and_needs_nobody_starts():
    one = Grown()
    one.grow(0, 2, needs=[[], [~0]], rules="aa")
    assert one.ready == [1]


def test_a_family_takes_no_more_room_than_it_must():
    assert not hasattr(Grown().grow(), "__dict__")


def test_any_of_what_has_failed_and_what_may_still_complete_waits_for_that():
    one = Grown("- a", "cf", fail_fast=False)
    one.fail(0)
    one.grow(1, 4, needs=[[], [], [0, ~0, ~1], [0]], rules="ccaa")
    assert (str(one), one.ready) == ("FRPPPS", [2, 3])
    one.fail(2)
    assert str(one) == "FRFPPS"
    one.fail(3)
    assert str(one) == "FRFFSS"
    assert one.scheduler.blame[4] == 3


def test_added_cleanup_starts_when_all_that_it_needs_has_ended_whenever_that_was():
    one = Grown("- - -", fail_fast=False)
    one.complete(0)
    one.fail(1)
    one.grow(2, 2, needs=[[0, 1], [0, 1, ~0]], rules="ff")
    assert one.ready == [3]
    one.complete(3)
    assert one.ready == [4]


def test_an_added_task_that_needs_a_branch_which_was_not_taken_waits_for_the_others_it_needs():
    """1 is dead; 4 needs it alone, 5 both branches, 6 these and 5, 7 and 8 what is dead by now."""
    one = Grown("- a a bc")
    assert one.take() == 0
    one.scheduler.routed(0, 1.0, [1])
    one.complete(2)
    one.grow(3, 5, needs=[[1], [1, 2], [1, 2, ~1], [1, ~0], [~0]], rules="ccccc")
    assert (str(one), one.ready) == ("CSCRSPPSS", [5])
    assert one.scheduler.dead == {1, 4, 7, 8}
    one.complete(5)
    assert one.ready == [6]
    one.complete(6)
    assert one.news == [(GROWN, 3)]
    assert one.families.outcome_of(3) == COMPLETED


def test_who_needs_a_dead_branch_and_what_dies_later_dies_with_it():
    one = Grown("- a a")
    assert one.take() == 0
    one.scheduler.routed(0, 1.0, [1])
    one.grow(2, 3, needs=[[], [~0], [1, ~1]])
    assert one.take() == 3
    one.scheduler.routed(3, 1.0, [4])
    assert (str(one), one.scheduler.dead) == ("CSRCSS", {1, 4, 5})


@pytest.mark.parametrize("limit", [None, 1])
def test_what_all_of_them_need_may_still_run(limit):
    """2 needs any of both, and what it adds needs 1, which runs."""
    one = Grown("- - ab", "cca")
    one.complete(0)
    assert one.take() == 1
    one.grow(2, 3, shared=(0, 1), limit=limit)
    assert (one.status(2), one.ready) == ("RUNNING", [])
    one.complete(1)
    assert one.ready == ([3, 4, 5] if limit is None else [3])
    one.complete(3)
    assert one.ready == [4, 5][:limit]
    one.complete(4, 5)
    assert one.news == [(GROWN, 2)]


@pytest.mark.parametrize("how", [{"needs": [[0], [0, ~0]]}, {"shared": (0,)}])
def test_who_records_say_was_added_waits_for_what_runs_again(how):
    """0 had completed when 2 and 3 were added; its result wasn't kept, so it runs once more."""
    one = Grown("- a", fail_fast=False)
    one.complete(0)
    family = one.families.regrow(1, one.seed(2, **how), parted=False)
    one.scheduler.state[0] = 0
    for number in family.numbers:
        one.scheduler.missing[number] = one.scheduler.missing_of(number)
    one.scheduler.release(0)
    one.complete(0)
    assert one.ready == ([1, 2] if "needs" in how else [1, 2, 3])


def test_what_several_of_them_need_lets_all_of_them_go_on():
    one = Grown("- - b")
    dependents = one.scheduler.graph.dependents.copy()
    one.grow(0, 3, needs=[[1], [1], [1, ~0]])
    assert one.scheduler.own_dependents()[1] == [2, 3, 4, 5]
    assert one.scheduler.graph.dependents == dependents
    one.complete(1)
    assert one.ready == [2, 3, 4]


def test_what_all_of_them_need_is_said_once():
    one = Grown("- -")
    one.complete(1)
    one.grow(0, 2, shared=(1,))
    assert [list(one.families.needs_of(number)) for number in (2, 3)] == [[1], [1]]


def test_a_failure_stops_all_and_what_needs_the_parent_is_skipped_for_it():
    one = Grown("- a - a", "cccf")
    one.grow()
    one.fail(4)
    assert str(one) == "RSRPFXX"
    skipped = next(record for record in one.records if record[1] == 1)
    assert skipped[4] == {"cause": "4"}
    assert (one.news, one.ready) == ([(GROWN, 0)], [])
    assert one.families.outcome_of(0) == FAILED


def test_who_follows_a_parent_that_has_parted_or_does_not_fail_is_not_skipped_for_its_children():
    for how in ({"parted": True}, {"fails": False}):
        one = Grown("- a", fail_fast=True)
        one.grow(**how)
        one.fail(2)
        assert one.status(1) == "CANCELLED", how


def test_of_those_that_need_the_parent_cleanup_and_who_has_ended_are_not_skipped_for_its_children():
    one = Grown("- a a a b", "ccfac", fail_fast=True)
    one.scheduler.cancel_all([4], 0.0)
    one.scheduler.cancel_all([1], 0.0)
    one.grow()
    one.fail(5)
    assert str(one)[:5] == "RXPXX"


def test_what_needs_a_follower_is_skipped_along_with_it():
    one = Grown("- a b c", fail_fast=True)
    one.grow()
    one.fail(4)
    assert str(one)[:4] == "RSSS"
    assert [record[4]["cause"] for record in one.records if record[1] in {1, 2, 3}] == ["4", "4", "4"]


def test_failures_that_are_taken_on_neither_stop_anything_nor_count():
    one = Grown("- -")
    one.grow(keeps=True, fails=False)
    one.fail(3)
    assert (str(one), one.scheduler.excused, one.scheduler.is_failing) == ("RRRFP", 1, False)
    one.complete(2, 4)
    assert one.news == [(GROWN, 0)]
    assert one.families.outcome_of(0) == COMPLETED
    assert one.ended() == "COMPLETED"


def test_a_fatal_failure_counts_whoever_takes_it_on():
    one = Grown("- -")
    one.grow(keeps=True, fails=False)
    one.fail(3, FatalError("no"))
    assert one.scheduler.excused == 0
    assert one.scheduler.is_failing


def test_a_failure_that_its_parent_takes_along_ends_the_family_and_nothing_else():
    one = Grown("- -")
    one.grow(keeps=True, fails=True)
    one.fail(2)
    assert str(one) == "RRFXX"
    assert one.scheduler.excused == 3
    assert (one.news, one.families.outcome_of(0)) == ([(GROWN, 0)], FAILED)


def test_what_somebody_above_takes_on_ends_below_that_one():
    """0 takes failures on; 2, which it has added, adds three more, of which one fails."""
    one = Grown("- -")
    one.grow(keeps=True, fails=False)
    assert [one.families.of(number) and one.families.of(number).shield for number in (0, 2)] == [None, NOBODY]
    one.grow(2)
    assert one.families.of(5).shield == 2
    assert [one.families.takes_on(number) for number in (0, 1, 2, 5)] == [False, False, True, True]
    one.fail(6)
    assert str(one) == "RRRRRRFX"
    assert one.news == [(TOLD, 5)]
    one.scheduler.cancelled(5, 1.0, BOOM)
    assert one.news == [(GROWN, 2)]
    assert one.families.outcome_of(2) == FAILED
    assert one.scheduler.excused == 3


def test_in_a_family_that_stops_the_first_failure_cancels_the_others():
    one = Grown("- -", fail_fast=False)
    family = one.grow(stops=True)
    one.grow(3, 2)
    one.take()
    one.fail(2)
    assert family.closed
    assert one.news == [(TOLD, 4), (GROWN, 3)], "who runs is told"
    assert str(one) == "RRFRRXX"
    assert [one.families.is_closed(number) for number in (1, 2, 6)] == [False, True, True]
    assert [one.scheduler.gives_up(number) for number in (1, 4)] == [False, True]


def test_cancelling_a_family_spares_cleanup_and_who_is_claimed_or_out_on_an_errand():
    one = Grown("-", fail_fast=False)
    one.grow(count=4, rules="cfcc")
    assert one.scheduler.claim(0) == 1
    one.scheduler.errands[3] = 1
    one.families.cancel(0, 1.0)
    assert str(one) == "RPPPX"
    assert one.ready == [2, 3]
    one.families.cancel(0, 1.0)
    assert str(one) == "RPPPX", "once is enough"
    one.scheduler.unclaim(1, 2.0)
    assert one.status(1) == "CANCELLED"
    assert one.families.outcome_of(0) == CANCELLED


def test_cancelled_children_that_are_taken_on_do_not_count():
    for how, excused in (({"taken_on": True}, 3), ({}, 0)):
        one = Grown("-", fail_fast=False)
        one.grow()
        one.families.cancel(0, 1.0, **how)
        assert (str(one), one.scheduler.excused) == ("RXXX", excused)


def test_cancelling_reaches_all_that_children_have_added():
    one = Grown("-", fail_fast=False)
    one.grow()
    one.grow(1)
    one.grow(4, 2)
    one.families.cancel(0, 1.0)
    assert [one.families.is_closed(number) for number in range(1, 9)] == [True] * 8
    assert "P" not in str(one)


def test_the_first_real_failure_is_the_one_that_counts():
    one = Grown("-", fail_fast=False)
    family = one.grow()
    one.scheduler.take(0, 1.0)
    one.scheduler.cancelled(1, 1.0, BOOM)
    assert family.failed == 1
    one.fail(2)
    assert family.failed == 2
    one.fail(3)
    assert family.failed == 2
    assert one.families.outcome_of(0) == FAILED


def test_somebody_may_wait_for_the_end_or_for_so_many_successes():
    one = Grown("- - -", fail_fast=False)
    one.grow(counts=True)
    one.families.watch(0, 1, 2)
    one.families.watch(0, 2, None)
    one.complete(3)
    assert one.news == []
    one.complete(4)
    assert one.news == [(GATHERED, 1)]
    one.fail(5)
    assert one.news == [(GATHERED, 2), (GROWN, 0)]
    one.families.watch(0, 1, 2)
    assert one.news == [(GATHERED, 1)], "it has been"


def test_failures_are_no_successes():
    one = Grown("- -", fail_fast=False)
    one.grow(counts=True)
    one.families.watch(0, 1, 1)
    one.fail(2)
    assert one.news == []
    one.complete(3)
    assert one.news == [(GATHERED, 1)]


def test_lanes_go_down_from_where_they_begin():
    one = Grown("-")
    one.grow(lanes=True)
    one.grow(1, 2)
    one.grow(4, 1)
    assert [one.families.lane_of(number) for number in range(7)] == [NOBODY, 1, 2, 3, 1, 1, 1]


def test_children_have_names_or_go_by_index():
    one = Grown("-")
    one.grow(count=2, names=("left", "right"))
    brood = one.families.broods[0]
    assert (brood.named, list(brood.indexed)) == ({"left": 1, "right": 2}, [])
    one.grow(1, 2)
    assert list(one.families.broods[1].indexed) == [3, 4]


def test_a_parent_that_any_of_its_dependencies_started_is_not_completed_by_another():
    one = Grown("- - ab b", "ccac")
    one.complete(0)
    one.grow(2, 2)
    one.complete(1)
    assert one.ready == [3, 4, 5], "others that need it aren't forgotten"
    one.complete(4)
    assert one.news == []
    one.complete(5)
    assert one.news == [(GROWN, 2)]


def test_what_cleanup_has_added_after_a_stop_is_not_stopped_by_a_failure_in_it():
    one = Grown("- a -", "cfc")
    one.fail(0)
    assert str(one) == "FPX"
    one.grow(1)
    one.fail(3)
    assert str(one) == "FRXFPP"


def test_what_belongs_to_the_workflow_is_not_changed_by_what_an_execution_adds():
    one = Grown("- a", "ca")
    graph, rules = one.scheduler.graph, one.scheduler.rules
    ranks, dependents = graph.ranks.copy(), graph.dependents.copy()
    one.grow(needs=[[], [0, ~0], [1]])
    one.grow(2)
    one.families.grow(2, one.seed(1), 1.0, parted=False)
    assert (graph.ranks, graph.dependents, rules) == (ranks, dependents, b"\0\2")
    assert one.scheduler.attempts == [1, 0, 1, 0, 0, 0, 0, 0, 0]
    assert one.scheduler.own_dependents() is one.scheduler.own_dependents()
    assert one.scheduler.has_families() is one.families


def test_ranks_may_come_as_a_range():
    one = Grown()
    one.grow(ranks=range(rank(1, 0, 0), rank(1, 0, 0) + 3))
    assert one.scheduler.ranks[1:] == [rank(1, 0, number) for number in (1, 2, 3)]
    assert [one.take(), one.take(), one.take()] == [1, 2, 3]


@pytest.mark.parametrize("makes", ["waits", "saga", "families", None])
def test_an_execution_is_plain_as_long_as_nobody_waits_or_adds_or_is_undone(makes):
    parts = {"waits": {"waits": Waits({}, Lines({}), ["pool"], 0.0, None)}, "saga": {"saga": Saga([0], [])}}
    scheduler = Scheduler(Graph([[]], [1]), ["0"], b"\0", [0], 1, [], **parts.get(makes, {}))
    if makes == "families":
        scheduler.has_families()
    assert scheduler.is_plain is (makes is None)


def test_cleanup_that_was_added_stands_back_while_something_is_undone():
    """1 waits for what it has added, of which one has failed: it isn't waited for."""
    one = Grown("- -", undoable=[0])
    one.complete(0)
    one.grow(1, 3, rules="ccf")
    one.complete(2)
    one.fail(3)
    assert (str(one), one.ready, one.scheduler.errands) == ("CRCFP", [0], {0: 2})
    assert one.take() == 0
    one.scheduler.undone(0, 1.0, None)
    assert one.ready == [4]


def test_what_was_added_before_there_was_anything_to_undo_counts_as_well():
    one = Grown("- -", undoable=[9])
    one.complete(0)
    one.grow(1, 2, rules="cf")
    one.scheduler.has_saga(Saga([0], []))
    assert one.scheduler.saga.floor == 2, "the cleanup, and who waits for it"
    one.fail(2)
    assert one.ready == [0]


def test_the_first_task_of_all_is_outside_as_well():
    one = Grown("- -")
    one.complete(0)
    one.grow(1, 2, needs=[[0], [0, ~0]])
    assert [list(one.families.needs_of(number)) for number in (2, 3)] == [[0], [0, 2]]


def test_a_limit_may_be_larger_than_the_family():
    one = Grown()
    one.grow(count=2, limit=5)
    assert one.ready == [1, 2]
    assert list(one.scheduler.missing) == [1, 0, 0]
    one.complete(1, 2)
    assert one.news == [(GROWN, 0)]


def test_who_is_held_back_by_a_limit_waits_for_one_thing():
    one = Grown()
    one.grow(count=4, limit=1)
    one.grow(1, 2)
    assert list(one.scheduler.missing) == [1, 2, 1, 1, 1, 0, 0]


def test_nobody_takes_on_what_nobody_has_said_so_of():
    one = Grown()
    one.grow()
    one.grow(1)
    assert one.families.of(4).shield == NOBODY
    assert not one.families.takes_on(4)


def test_an_added_task_may_wait_for_the_first_of_all():
    one = Grown("- -")
    one.take()
    one.grow(1, 2, needs=[[0], []])
    assert one.ready == [3]
    one.complete(0)
    assert one.ready == [2, 3]


def test_any_of_two_that_were_added_goes_on_when_one_has_failed():
    one = Grown("-", fail_fast=False)
    one.grow(needs=[[], [], [~0, ~1]], rules="cca")
    one.fail(1)
    assert (one.status(3), one.ready) == ("PENDING", [2])
    one.complete(2)
    assert one.ready == [3]


def test_who_has_ended_is_nobodys_parent():
    one = Grown("- a -", fail_fast=False)
    one.scheduler.cancel_all([1], 1.0)
    one.complete(0)
    assert (str(one), one.news) == ("CXP", [])


def test_who_runs_already_and_has_added_nothing_is_not_told_of_a_failure():
    one = Grown("- - ab", "cca", fail_fast=False)
    one.complete(0)
    while one.status(2) == "PENDING":
        one.take()
    one.fail(1)
    assert (str(one), one.news) == ("CFR", [])


def test_the_failures_of_an_earlier_family_are_not_those_of_the_next():
    one = Grown("-", fail_fast=False)
    one.grow(count=1)
    later = one.grow(0, 1)
    one.fail(1)
    assert (later.failed, one.news) == (NOBODY, [])


def test_a_family_that_records_tell_of_is_only_entered():
    one = Grown()
    known = len(one.records)
    family = one.families.regrow(0, one.seed(2, needs=[[], [~0]]), parted=True)
    assert family is one.families.last[0]
    assert (family.parted, len(one.records), one.families.open, one.ready) == (True, known, {}, [0])
    assert (list(one.scheduler.missing), one.scheduler.own_dependents()[1:]) == ([0, 0, 1], [[2, 0], [0]])


def test_of_those_that_were_cancelled_the_first_counts():
    one = Grown("-", fail_fast=False)
    family = one.grow()
    one.scheduler.cancel_all([2], 1.0)
    one.scheduler.cancel_all([1], 1.0)
    assert family.failed == 2
    assert one.families.outcome_of(0) == CANCELLED


def test_a_branch_of_a_family_that_is_not_taken_is_no_failure_of_it():
    one = Grown("-")
    family = one.grow(needs=[[], [~0], [~0]], keeps=True)
    one.take()
    one.scheduler.routed(1, 1.0, [2])
    assert (str(one), family.failed, one.scheduler.excused) == ("RCSP", NOBODY, 1)
    one.complete(3)
    assert one.news == [(GROWN, 0)]
    assert one.families.outcome_of(0) == COMPLETED


def test_a_family_in_which_some_fail_has_ended_when_all_have():
    for order in ("cfc", "fcc"):
        one = Grown("-", fail_fast=False)
        one.grow()
        for number, how in enumerate(order, 1):
            assert one.news == []
            (one.complete if how == "c" else one.fail)(number)
        assert one.news == [(GROWN, 0)]


def test_whoever_waits_for_the_end_of_a_family_that_nobody_counts_is_told():
    one = Grown("- -")
    one.grow()
    one.families.watch(0, 1, None)
    one.complete(2, 3)
    assert one.news == []
    one.complete(4)
    assert one.news == [(GATHERED, 1), (GROWN, 0)]


def test_what_is_taken_on_further_up_ends_all_below_that_one():
    """2 is taken on by 0, adds 5 and 6; 5 adds 7 and 8; 7 fails."""
    one = Grown("- -")
    one.grow(keeps=True, fails=False)
    one.grow(2)
    one.grow(5, 2)
    one.fail(8)
    assert [one.families.is_closed(number) for number in (2, 5, 6, 8)] == [False, True, True, True]
    assert one.status(1) != "CANCELLED"


def test_who_runs_is_told_once_and_nobody_where_nobody_was_added():
    one = Grown("- -", fail_fast=False)
    one.grow()
    while one.status(2) == "PENDING":
        one.take()
    one.families.cancel(0, 1.0)
    one.families.cancel(0, 1.0)
    one.families.cancel(1, 1.0)
    assert one.news == [(TOLD, 2)]


def test_cleanup_starts_by_priority_when_the_rest_of_its_family_is_cancelled():
    """The heap is in the order of the family; what is left without the first is no heap, unless it is made one."""
    one = Grown("-", fail_fast=False)
    one.grow(
        count=7,
        rules="cffffff",
        ranks=[rank(priority, 0, place) for place, priority in enumerate((0, -1, -5, -2, -3, -6, -7))],
    )
    one.families.cancel(0, 1.0)
    assert [one.take() for _ in range(7)] == [2, 4, 5, 3, 6, 7, -1]


def test_what_was_added_can_be_forgotten():
    one = Grown("-")
    one.scheduler.families = one.families = Families(one.scheduler, Sparse())
    one.grow(0, 3)
    one.grow(2, 1)
    one.families.forget([2, 3])
    assert [one.families.of(number).parent for number in (1, 4)] == [0, 2]
    for number in (2, 3):
        with pytest.raises(IndexError):
            one.families.of(number)
    assert (list(one.families.last), list(one.families.broods)) == ([0], [0])


def test_of_what_is_taken_on_a_stop_cancels_on_its_own_account():
    one = Grown("-")
    one.grow(keeps=True, fails=False)
    assert one.take() == 1
    one.scheduler.cancel(1.0)
    assert (str(one), one.scheduler.excused) == ("RRXX", 0)
    one.fail(1)
    assert one.scheduler.excused == 1
    one.complete(0)
    assert one.scheduler.status.name == "CANCELLED"


# ---- what is undone meanwhile (nerv/sagas.py) ----------------------------------------------------------------------


@pytest.mark.parametrize(("undoable", "ready"), [([0], [0]), ([0, 1], [4])])
def test_who_waits_for_cleanup_when_all_stops_is_waited_for_only_if_it_may_have_to_be_undone(undoable, ready):
    """1 has added 3 and 4, which is cleanup; 2 never starts."""
    one = Grown("- - b", undoable=undoable)
    one.complete(0)
    one.grow(1, 2, rules="cf")
    one.complete(3)
    one.scheduler.cancel(1.0)
    assert (str(one), one.ready) == ("CRXCP", ready)


@pytest.mark.parametrize(("fields", "ready"), [({}, [0]), ({"keeps": True}, [5]), ({"fails": False}, [5])])
def test_who_fails_with_what_its_children_have_added_is_not_waited_for(fields, ready):
    """1 has added 3; 3 has added 4, which fails, and 5, which is cleanup; 2 has failed as well."""
    one = Grown("- - -", undoable=[0], fail_fast=False)
    one.complete(0)
    one.grow(1, 1, **fields)
    one.fail(2)
    one.grow(3, 2, rules="cf")
    one.fail(4)
    assert (str(one), one.ready) == ("CRFRFP", ready)


def test_who_may_still_complete_is_waited_for():
    one = Grown("- - -", undoable=[0], fail_fast=False)
    one.complete(0)
    one.grow(1, 2, rules="cf")
    one.complete(3)
    one.fail(2)
    assert (str(one), one.ready) == ("CRFCP", [4])


@pytest.mark.parametrize("fail_fast", [True, False])
def test_cleanup_that_waits_for_what_it_has_added_is_cleanup(fail_fast):
    one = Grown("- - -", "cfc", undoable=[0], fail_fast=fail_fast)
    one.complete(0)
    one.grow(1, 1, rules="f")
    one.fail(2)
    assert (str(one), one.ready) == ("CRFP", [0])


def test_who_has_parted_from_cleanup_and_completed_is_not_waited_for():
    one = Grown("- - -", undoable=[0])
    one.complete(0)
    one.grow(1, 2, rules="cf", parted=True)
    one.complete(1, 3)
    one.fail(2)
    assert (str(one), one.ready) == ("CCFCP", [0])


def test_cleanup_that_fails_with_what_was_added_below_it_counts_once():
    """1, which is cleanup, has added 3; 3 has added 4, which fails, and 5, which is cleanup; 2 has failed as well."""
    one = Grown("- - -", "cfc", undoable=[0], fail_fast=False)
    one.complete(0)
    one.grow(1, 1)
    one.fail(2)
    one.grow(3, 2, rules="cf")
    one.fail(4)
    assert (str(one), one.ready) == ("CRFRFP", [0])


def test_how_many_may_be_left_when_it_is_time_to_undo():
    saga = Saga([0], [1, 2])
    assert (saga.floor, saga.left, saga.tries) == (2, None, 0)
    saga.grown([])
    assert saga.floor == 2, "nobody who waits for others, as there is no cleanup among them"
    saga.grown([5])
    assert saga.floor == 5, "three, and two who wait"
    saga.grown([], 2)
    assert saga.floor == 7


@pytest.mark.parametrize(("added", "floor"), [([], 2), ([5, 6], 4)])
def test_cleanup_that_is_forgotten_is_not_waited_for(added, floor):
    saga = Saga([0], [1, 2, 3])
    saga.grown(added)
    saga.forget({2, 6})
    assert saga.floor == floor


def test_what_would_have_to_be_undone_is_what_has_a_compensation():
    assert [Saga([0, 2], []).may_undo(number) for number in range(3)] == [True, False, True]
