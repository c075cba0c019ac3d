"""Whose turn it is: between executions the more urgent task first, and among equals one after the other."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from itertools import groupby
from random import Random
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nerv import TaskDef, Workflow, WorkflowManager
from nerv.graph import rank
from nerv.testing import SimulatedPools
from nerv.turns import Lane, Turns
from tests.properties.graphs import priority_of

LANES = 4


class Line:
    """`Turns`, used as the engine uses it, and what must hold whenever somebody is served."""

    def __init__(self):
        self.turns = Turns()
        self.lanes = [Lane(SimpleNamespace(), i, [], SimpleNamespace(), self.turns) for i in range(LANES)]
        self.tasks = 0
        self.served = []

    def urgency(self, lane):
        return -priority_of(lane.ready[0])

    def grow(self, number, priority):
        """A task of a lane becomes ready, and the engine lines the lane up."""
        lane = self.lanes[number]
        self.tasks += 1
        heappush(lane.ready, rank(priority, 0, self.tasks))
        self.turns.add(lane)

    def shrink(self, number, keep):
        """A stop cancels ready tasks of a lane; nobody tells `Turns`."""
        lane = self.lanes[number]
        lane.ready[:] = lane.ready[:keep]
        heapify(lane.ready)

    def serve(self):
        """The first lane gives out its best task; an empty one, as the engine finds it, leaves."""
        while (lane := self.turns.first()) is not None and not lane.ready:
            self.turns.drop(lane)
        rivals = [other for other in self.lanes if other.ready]
        if lane is None:
            assert not rivals, "somebody has work and isn't in line"
            return
        assert self.urgency(lane) == min(map(self.urgency, rivals)), "somebody is more urgent"
        heappop(lane.ready)
        self.served.append(lane.queue)
        self.turns.served(lane)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("grow"), st.integers(0, LANES - 1), st.integers(-1, 2)),
        st.tuples(st.just("shrink"), st.integers(0, LANES - 1), st.integers(0, 3)),
        st.tuples(st.just("serve")),
    ),
    max_size=60,
)


@given(STEPS)
def test_the_first_lane_is_the_most_urgent_whatever_happened(steps):
    line = Line()
    for name, *args in steps:
        getattr(line, name)(*args)
    for _ in range(len(steps) + 1):
        line.serve()
    assert not any(lane.ready for lane in line.lanes), "everybody got a turn"
    assert line.turns.first() is None
    assert not line.turns
    assert line.turns.ready() == 0


@given(st.lists(st.integers(1, 8), min_size=1, max_size=LANES))
def test_equals_take_turns(loads):
    """Each gives out one task a round, in the order in which they came, until it has none."""
    line = Line()
    for number, load in enumerate(loads):
        for _ in range(load):
            line.grow(number, 1)
    assert line.turns.ready() == sum(loads)
    for _ in range(sum(loads)):
        line.serve()
    rounds = [number for turn in range(max(loads)) for number, load in enumerate(loads) if load > turn]
    assert line.served == rounds


def test_a_lane_that_becomes_more_urgent_moves_ahead():
    line = Line()
    for _ in range(3):
        line.grow(0, 1)
        line.grow(1, 1)
    line.grow(1, 2)
    for _ in range(7):
        line.serve()
    assert line.served[0] == 1
    assert sorted(line.served) == [0] * 3 + [1] * 4


def test_a_lane_whose_urgent_task_was_cancelled_falls_back():
    line = Line()
    line.grow(0, 1)
    line.grow(1, 0)
    line.grow(1, 3)
    line.lanes[1].ready[:] = [one for one in line.lanes[1].ready if priority_of(one) == 0]
    for _ in range(2):
        line.serve()
    assert line.served == [0, 1]


def test_a_lane_that_left_and_came_again_is_in_line_once():
    line = Line()
    line.grow(0, 1)
    line.grow(1, 1)
    line.turns.drop(line.turns.first())
    line.turns.add(line.lanes[0])
    for _ in range(2):
        line.serve()
    assert line.served == [1, 0]
    assert line.turns.first() is None


# ---- in the engine ---------------------------------------------------------------------------------------------------


def wide(name, tasks, priority=1):
    """A workflow of independent tasks."""
    return Workflow(name, [TaskDef(str(number), int, priority=priority) for number in range(tasks)])


def order_of(workflows, workers, seed=0):
    """Start these workflows together on simulated workers; the execution of each task, in order of their starts."""
    pools = SimulatedPools(seed)
    with WorkflowManager(pool_factory=pools, workers=workers) as manager:
        executions = [manager.start(workflow) for workflow in workflows]
        started = []
        while pools.step():
            for number, execution in enumerate(executions):
                started += [number] * (len(execution.sequence) - started.count(number))
    assert [len(execution.results) for execution in executions] == [len(workflow) for workflow in workflows]
    return started


@pytest.mark.parametrize("workers", [1, 3])
def test_executions_of_equal_priority_start_their_tasks_in_turn(workers):
    order = order_of([wide("a", 8), wide("b", 8), wide("c", 8)], workers)
    assert order == [0, 1, 2] * 8


def test_a_small_execution_is_not_held_up_by_a_large_one():
    order = order_of([wide("large", 500), wide("small", 5)], workers=1)
    assert max(place for place, number in enumerate(order) if number == 1) < 11


def test_an_execution_of_higher_priority_goes_first():
    order = order_of([wide("low", 5, 0), wide("high", 5, 2), wide("middle", 5, 1)], workers=1)
    assert [number for number, _ in groupby(order)] == [1, 2, 0]


def test_a_task_that_becomes_ready_overtakes_less_urgent_ones_of_other_executions():
    """An urgent task behind an ordinary one starts as soon as it is ready, before what waited longer."""
    chain = Workflow("chain", [TaskDef("first", int), TaskDef("urgent", int, priority=3, dependencies=["first"])])
    order = order_of([wide("many", 20), chain], workers=1)
    assert order[:4] == [0, 1, 1, 0]


def test_fairness_holds_for_many_executions_that_come_and_go():
    random = Random(4)
    loads = [random.randint(1, 30) for _ in range(40)]
    order = order_of([wide(f"w{number}", load) for number, load in enumerate(loads)], workers=2)
    assert order == [number for turn in range(30) for number, load in enumerate(loads) if load > turn]
