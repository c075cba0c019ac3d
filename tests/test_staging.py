"""Where ready tasks stand until the journal has their claims, on a scheduler alone."""

from __future__ import annotations

import pytest

from nerv.families import Seed
from nerv.graph import NUMBER_MASK, Graph
from nerv.sagas import Saga
from nerv.scheduler import ALL_COMPLETED, ALL_FINISHED, Scheduler
from nerv.staging import Staging


class Staged:
    """A scheduler of tasks that need nobody, in `queues`, with staging; tasks in `cleanup` are all_finished."""

    def __init__(self, tasks=4, *, cleanup=(), queues=None, saga=None, priorities=None):
        queues = queues or [0] * tasks
        self.scheduler = Scheduler(
            Graph([[]] * tasks, priorities or [1] * tasks),
            [str(number) for number in range(tasks)],
            [ALL_FINISHED if number in cleanup else ALL_COMPLETED for number in range(tasks)],
            queues,
            max(queues) + 1,
            [],
            saga=saga,
        )
        self.staging = self.scheduler.staging = Staging(self.scheduler)
        self.scheduler.start(0.0, {})

    @property
    def ready(self):
        return [[rank & NUMBER_MASK for rank in sorted(heap)] for heap in self.scheduler.ready]

    @property
    def staged(self):
        return [[rank & NUMBER_MASK for rank in sorted(heap)] for heap in self.staging.heaps]


def test_what_is_ready_is_staged_until_it_is_cleared():
    one = Staged(4, queues=[0, 1, 0, 0])
    assert (one.staged, one.ready) == ([[0, 2, 3], [1]], [[], []])
    assert one.staging.best(0, 2) == [0, 2]
    assert (one.staged, one.ready) == ([[3], [1]], [[], []])
    assert not one.staging.has_cleared(0)
    one.staging.clear(0)
    one.staging.clear(2)
    assert one.ready == [[0, 2], []]
    assert [one.staging.has_cleared(number) for number in range(4)] == [True, False, True, False]
    assert [one.staging.holds(number) for number in range(4)] == [False, True, False, True]
    assert one.scheduler.take(0, 1.0) == 0
    assert not one.staging.has_cleared(0)
    assert one.staging.best(0, 9) == [3]
    assert one.staging.best(0, 9) == []


def test_no_more_are_taken_out_than_are_wanted():
    one = Staged(3)
    assert one.staging.best(0, 0) == []
    assert one.staging.best(0, 1) == [0]
    assert one.staged == [[1, 2]]


def test_one_may_be_asked_for_and_taken_out():
    one = Staged(5, queues=[1, 0, 0, 0, 0])
    assert one.staging.first({3, 2, 0}) == 0
    assert one.staging.first({3, 2}) == 2
    assert one.staging.first({9}) is None
    one.staging.take(2)
    assert one.staged == [[1, 3, 4], [0]]
    heap = one.staging.heaps[0]
    assert all(heap[(i - 1) // 2] <= heap[i] for i in range(1, len(heap)))
    assert not one.staging.holds(2)


def test_what_is_left_when_one_is_taken_out_stays_in_order():
    """The heap is in the order of the tasks; without its first it is none, unless it is made one."""
    one = Staged(7, priorities=[0, -1, -5, -2, -3, -6, -7])
    one.staging.take(0)
    assert one.staging.best(0, 9) == [1, 3, 4, 2, 5, 6]


def test_after_a_stop_only_cleanup_and_errands_go_on():
    one = Staged(4, cleanup=[1])
    one.scheduler.errands[2] = 1
    assert one.staging.best(0, 1) == [0]
    one.scheduler.cancel(1.0)
    assert one.staging.first({0, 1, 2, 3}) == 1
    assert [one.staging.holds(number) for number in range(4)] == [False, True, True, False]
    one.staging.clear(0)
    assert one.ready == [[]], "it was cancelled meanwhile"
    assert one.staging.best(0, 9) == [1, 2]


def test_a_task_that_has_ended_does_not_start():
    one = Staged(3)
    one.scheduler._cancel_all([0], 1.0)
    assert not one.staging.holds(0)
    assert one.staging.first({0, 1}) == 1
    assert one.staging.best(0, 1) == [1]


def test_cleanup_stands_back_while_something_is_undone():
    one = Staged(3, cleanup=[2], saga=Saga([0], [2]))
    one.staging.best(0, 3)
    for number in (0, 1):
        one.staging.clear(number)
    assert one.scheduler.take(0, 1.0) == 0
    one.scheduler.saga.left = [0]
    one.scheduler.errands[0] = 2
    one.staging.clear(2)
    assert one.ready == [[1]]
    assert one.scheduler.saga._held == [2]
    one.staging.clear(0)
    assert one.ready == [[0, 1]], "the undoing itself doesn't"


@pytest.mark.parametrize("stopped", [False, True])
def test_when_nothing_is_staged_any_more_all_go_on(stopped):
    one = Staged(4, cleanup=[3], queues=[0, 0, 1, 0])
    assert one.staging.best(0, 1) == [0]
    if stopped:
        one.scheduler.cancel(1.0)
    one.staging.dissolve()
    assert one.ready == ([[3], []] if stopped else [[1, 3], [2]])
    assert (one.scheduler.staging, one.scheduler.entry, one.staged) == (None, one.scheduler.ready, [[], []])
    one.scheduler.release(0)
    assert 0 in one.ready[0]


def test_a_queue_that_is_added_has_a_place_to_be_staged():
    one = Staged(1)
    assert one.scheduler.add_queue() == 1
    assert (one.staged, one.ready) == ([[0], []], [[], []])


def test_children_that_are_cancelled_are_not_staged_any_more():
    one = Staged(1)
    one.staging.clear(one.staging.best(0, 1)[0])
    assert one.scheduler.take(0, 1.0) == 0
    seed = Seed()
    seed.ids, seed.rules, seed.queues = ["1", "2"], bytes([ALL_COMPLETED, ALL_FINISHED]), [0, 0]
    seed.ranks = one.scheduler.graph.ranks * 2
    seed.ranks = [rank + place for place, rank in enumerate(seed.ranks)]
    families = one.scheduler.has_families()
    families.grow(0, seed, 1.0, parted=False)
    assert one.staged == [[1, 2]]
    families.cancel(0, 2.0)
    assert one.staged == [[2]]


def test_a_staged_task_changes_its_place_with_its_priority():
    one = Staged(4)
    one.scheduler.reprioritize(3, 1.0, 9)
    assert one.staging.best(0, 2) == [3, 0]
    one.staging.clear(3)
    one.staging.clear(0)
    one.scheduler.reprioritize(0, 2.0, 10)
    assert one.scheduler.take(0, 3.0) == 0
