"""The ways of a task between its start and its end, on a scheduler alone; what they are for is tested elsewhere."""

from __future__ import annotations

from math import inf

import pytest

from nerv.eventlog import CODES
from nerv.graph import NUMBER_MASK, Graph
from nerv.lines import BreakerLine, Lines, Terms
from nerv.lookups import Lookups
from nerv.policies import CircuitBreaker
from nerv.sagas import Saga
from nerv.scheduler import ALL_COMPLETED, ALL_FINISHED, STATUSES, Scheduler
from nerv.states import LOOKUP, THEN
from nerv.suspensions import Suspended
from nerv.waits import Waits

BOOM = ValueError("boom")


class Detoured:
    """A scheduler with everything that waits. Its tasks need nobody, unless said; the `undoable` have compensations."""

    def __init__(self, tasks=1, *, needs=None, cleanup=(), undoable=(), terms=None, reused=()):
        rules = [ALL_FINISHED if number in cleanup else ALL_COMPLETED for number in range(tasks)]
        ids = [str(number) for number in range(tasks)]
        self.records = []
        self.lines = Lines({"gpu": 1})
        self.waits = Waits(terms or {}, self.lines, ["pool"], 1000.0, None)
        self.scheduler = Scheduler(
            Graph(needs or [[]] * tasks, [1] * tasks), ids, rules, [0] * tasks, 1, self.records, waits=self.waits,
            saga=Saga(undoable, cleanup) if undoable else None,
        )  # fmt: skip
        self.scheduler.start(0.0, {}, reused)

    @property
    def ready(self):
        return [rank & NUMBER_MASK for rank in sorted(self.scheduler.ready[0])]

    def status(self, number=0):
        return STATUSES[self.scheduler.state[number]].name

    def events(self, after=0):
        return [(CODES[code].value, task, data) for code, task, _, _, data in self.records[after:]]


def test_a_task_that_retries_is_ready_again_at_its_moment():
    one = Detoured()
    one.scheduler.take(0, 1.0)
    one.scheduler.retrying(0, 2.0, BOOM, 5.0)
    assert (one.status(), one.ready, one.waits.next_due) == ("WAITING", [], 5.0)
    assert one.events(-1) == [("TASK_RETRYING", 0, {"error": BOOM, "due": 1005.0})]
    one.waits.wake(4.9)
    assert one.ready == []
    one.waits.wake(5.0)
    assert (one.ready, one.waits.next_due) == ([0], inf)


def test_a_task_that_was_passed_over_while_it_waited_is_not_woken():
    one = Detoured(2)
    one.scheduler.take(0, 1.0)
    one.scheduler.retrying(0, 2.0, BOOM, 5.0)
    one.scheduler.skip(0, 3.0)
    one.waits.wake(5.0)
    assert (one.status(), one.ready) == ("SKIPPED", [1])


def test_attempts_that_were_lost_with_the_process_are_not_failures():
    one = Detoured(2)
    one.scheduler.attempts[:] = [3, 2]
    assert one.scheduler.failures(0) == 3
    one.scheduler.lost[0] = 2
    assert [one.scheduler.failures(number) for number in (0, 1)] == [1, 2]


@pytest.mark.parametrize("fails", [True, False])
def test_completed_tasks_are_undone_when_only_the_execution_itself_has_failed(fails):
    """Nothing but cleanup is left, and no task has failed."""
    one = Detoured(2, cleanup=[1], undoable=[0])
    assert one.scheduler.take(0, 1.0) == 0
    one.scheduler.completed(0, 2.0)
    if fails:
        one.scheduler.fail(3.0, BOOM)
    assert one.ready == ([0] if fails else [1])


def test_a_compensation_that_is_called_again_says_what_it_waits_for():
    one = Detoured(2, cleanup=[1], undoable=[0])
    one.scheduler.take(0, 1.0)
    one.scheduler.completed(0, 2.0)
    one.scheduler.fail(3.0, BOOM)
    assert one.scheduler.take(0, 4.0) == 0
    one.scheduler.undo_again(0, 5.0, 9.0)
    assert one.waits.reasons[0] == ("compensation", 5.0, 9.0)
    one.waits.wake(9.0)
    assert one.scheduler.take(0, 9.0) == 0
    one.scheduler.undone(0, 10.0, None)
    assert one.events(-1) == [("TASK_COMPENSATED", 0, {"error": None})]
    assert one.ready == [1], "cleanup, which stood back"


@pytest.mark.parametrize(("reason", "said"), [("", "the execution was halted"), ("enough", "enough")])
def test_a_halt_tells_what_was_not_undone_and_why(reason, said):
    one = Detoured(4, cleanup=[3], undoable=[0, 1])
    for number in (0, 1, 2):
        one.scheduler.take(0, 1.0)
        if number < 2:
            one.scheduler.completed(number, 2.0)
    one.scheduler.cancel(3.0, reason)
    one.scheduler.cancelled(2, 4.0, BOOM)
    assert one.ready == [1]
    known = len(one.records)
    one.scheduler.halt(5.0)
    assert [attempt for *_, attempt, _ in one.records[known:]] == [0, 0, 0, 0]
    kinds = [(kind, task) for kind, task, _ in one.events(known)]
    assert kinds == [
        ("TASK_CANCELLED", 3),
        ("TASK_COMPENSATED", 1),
        ("TASK_COMPENSATED", 0),
        ("WORKFLOW_CANCELLED", -1),
    ]
    errors = [data["error"] for kind, _, data in one.events(known) if kind == "TASK_COMPENSATED"]
    assert [(type(error).__name__, str(error)) for error in errors] == [("TaskCancelledError", said)] * 2
    assert one.ready == []


def test_tasks_with_limits_may_not_be_handed_out_before_they_start():
    assert Detoured().scheduler.can_be_claimed
    assert not Detoured(terms={0: Terms(None, None, ())}).scheduler.can_be_claimed


def with_one_gpu(tasks):
    """Tasks that all need the only one."""
    one = Detoured(tasks)
    gpu = one.lines.resources["gpu"]
    one.waits.terms = dict.fromkeys(range(tasks), Terms(None, None, ((gpu, 1.0),)))
    one.waits.use([gpu])
    return one


def test_who_is_in_line_when_a_halt_comes_leaves_it():
    one = with_one_gpu(2)
    assert one.scheduler.take(0, 1.0) == 0
    assert one.scheduler.take(0, 1.0) == -1
    assert one.events(-1) == [("TASK_WAITING", 1, {"reason": "resources 'gpu'"})]
    assert list(one.lines.waited_for) == [one.lines.resources["gpu"]]
    one.scheduler.completed(0, 2.0)
    one.scheduler.halt(3.0)
    assert not one.lines.waited_for
    assert not one.waits.parked


def test_who_is_passed_over_in_line_does_not_get_the_place():
    one = with_one_gpu(3)
    one.scheduler.take(0, 1.0)
    one.scheduler.take(0, 1.0)
    one.scheduler.cancel_all([1], 2.0)
    one.scheduler.completed(0, 3.0)
    one.lines.offer(3.0)
    assert one.ready == [2]


def test_who_is_in_line_changes_places_with_its_priority():
    one = with_one_gpu(3)
    for _ in range(3):
        one.scheduler.take(0, 1.0)
    assert list(one.waits.parked) == [1, 2]
    one.scheduler.reprioritize(2, 2.0, 9)
    one.scheduler.completed(0, 3.0)
    one.lines.offer(3.0)
    assert one.ready == [2]


def test_who_is_cancelled_is_neither_a_success_nor_a_failure_to_a_breaker():
    one = Detoured(4)
    one.scheduler.fail_fast = False
    line = BreakerLine(CircuitBreaker(failure_threshold=2, recovery_time=10.0), one.lines)
    one.waits.terms = dict.fromkeys(range(4), Terms(None, None, ((line, 1.0),)))
    for number in range(3):
        assert one.scheduler.take(0, 1.0) == number
    one.scheduler.failed(0, 2.0, BOOM)
    one.scheduler.cancelled(1, 3.0, BOOM)
    assert line.opens_at(3.0, 1.0) <= 3.0, "one failure isn't two"
    one.scheduler.failed(2, 4.0, BOOM)
    assert line.opens_at(4.0, 1.0) == 14.0, "and nothing has come between"


def test_who_returns_and_waits_is_a_success_to_a_breaker():
    one = Detoured(3)
    one.scheduler.fail_fast = False
    line = BreakerLine(CircuitBreaker(failure_threshold=2, recovery_time=10.0), one.lines)
    one.waits.terms = dict.fromkeys(range(3), Terms(None, None, ((line, 1.0),)))
    one.scheduler.has_suspensions(1000.0)
    for number in range(3):
        assert one.scheduler.take(0, 1.0) == number
    one.scheduler.failed(0, 2.0, BOOM)
    one.scheduler.suspended(1, 3.0, Suspended("something", 3.0), None)
    one.scheduler.failed(2, 4.0, BOOM)
    assert line.opens_at(4.0, 1.0) <= 4.0, "two, but not in a row"


@pytest.mark.parametrize("comes", ["first", "later"])
def test_cleanup_that_is_ready_while_something_is_undone_stands_back(comes):
    """2 needs 1, which runs already; both are cleanup."""
    one = Detoured(4, needs=[[], [], [1], []], cleanup=[1, 2], undoable=[0] if comes == "first" else ())
    assert [one.scheduler.take(0, 1.0) for _ in range(3)] == [1, 0, 3]
    if comes == "later":
        one.scheduler.has_saga(Saga([0], [1, 2]))
    assert not one.scheduler.is_plain
    one.scheduler.completed(0, 2.0)
    one.scheduler.failed(3, 3.0, BOOM)
    assert one.ready == [0]
    one.scheduler.completed(1, 4.0)
    assert one.ready == [0]
    assert one.scheduler.take(0, 5.0) == 0
    one.scheduler.undone(0, 6.0, BOOM)
    assert one.events(-1) == [("TASK_COMPENSATED", 0, {"error": BOOM})]
    assert one.ready == [2]
    one.scheduler.take(0, 7.0)
    one.scheduler.completed(2, 8.0)
    assert one.scheduler.status.name == "FAILED"


# ---- undoing -------------------------------------------------------------------------------------------------------


def failing(tasks=5, **fields):
    """0 and 1 have completed, 2 runs; the rest is cleanup."""
    one = Detoured(tasks, cleanup=range(3, tasks), undoable=[0, 1, 2], **fields)
    for number in (0, 1, 2):
        assert one.scheduler.take(0, 1.0) == number
    one.scheduler.completed(0, 2.0)
    one.scheduler.completed(1, 3.0)
    return one


def test_what_was_undone_before_the_process_died_is_not_undone_again():
    one = failing()
    one.scheduler.saga.undone_before = {1}
    one.scheduler.failed(2, 4.0, BOOM)
    assert one.scheduler.saga.left == [0]
    assert one.ready == [0]


def test_what_runs_already_of_cleanup_goes_on_to_its_fallback_while_the_rest_stands_back():
    one = failing()
    assert one.scheduler.take(0, 3.0) == 3
    one.scheduler.fall_back(3, 3.5, 0)
    one.scheduler.failed(2, 4.0, BOOM)
    assert one.ready == [1, 3]
    assert one.scheduler.take(0, 5.0) == 1
    one.scheduler.undone(1, 6.0, None)
    assert one.ready == [0, 3]
    assert one.scheduler.take(0, 7.0) == 0
    one.scheduler.undone(0, 8.0, None)
    assert one.ready == [3, 4]


def test_what_is_on_errands_stays_in_order_when_cleanup_stands_back():
    """The heap is [0, 1, 5, 2, 3, 6, 7]; without its first it is none, unless it is made one."""
    one = Detoured(8, cleanup=range(8), undoable=[9])
    one.scheduler.ready[0][:] = [one.scheduler.ranks[number] for number in (0, 1, 5, 2, 3, 6, 7)]
    one.scheduler.errands = dict.fromkeys(range(1, 8), 1)
    one.scheduler.saga._hold_cleanup(one.scheduler)
    assert one.scheduler.saga._held == [0]
    assert [one.scheduler.take(0, 1.0) for _ in range(7)] == [1, 2, 3, 5, 6, 7, -1]


def test_each_undoing_counts_its_own_attempts():
    one = failing()
    one.scheduler.failed(2, 4.0, BOOM)
    one.scheduler.saga.tries = 3
    one.scheduler.take(0, 5.0)
    one.scheduler.undone(1, 6.0, None)
    assert one.records[-1][3] == 3
    assert one.scheduler.saga.tries == 0


def test_nothing_is_undone_after_a_halt_that_comes_before_it_began():
    one = Detoured(3, cleanup=[2], undoable=[0, 1])
    one.scheduler.take(0, 1.0)
    one.scheduler.completed(0, 2.0)
    one.scheduler.halt(3.0)
    assert [kind for kind, *_ in one.events(3)] == ["TASK_CANCELLED", "TASK_CANCELLED", "WORKFLOW_CANCELLED"]
    assert one.ready == []


def test_nothing_is_held_when_there_is_nothing_to_undo():
    one = Detoured(2, cleanup=[1], undoable=[5])
    one.scheduler.take(0, 1.0)
    one.scheduler.failed(0, 2.0, BOOM)
    assert one.scheduler.saga.left == []
    assert one.ready == [1]


def test_a_compensation_is_taken_from_the_tasks_own_queue_though_it_looked_in_another():
    one = Detoured(2, cleanup=[1], undoable=[0])
    one.scheduler.add_queue()
    queue_of = one.scheduler.queue_of
    queue_of[0] = 1
    one.waits.lookups = Lookups({0: 0}, queue_of)
    assert queue_of[0] == 0, "it looks in this one"
    one.scheduler.undo(0)
    assert queue_of[0] == 1
    assert [len(ready) for ready in one.scheduler.ready] == [2, 1]


# ---- what an attempt held ------------------------------------------------------------------------------------------


def retried(one, number):
    one.scheduler.retrying(number, 2.0, BOOM, 50.0)


def fell_back(one, number):
    one.scheduler.fall_back(number, 2.0, 0)
    assert one.scheduler.take(0, 2.0) == number


def was_cancelled(one, number):
    one.scheduler.cancelled(number, 2.0, BOOM)


def completed(one, number):
    one.scheduler.completed(number, 2.0)


@pytest.mark.parametrize("ends", [retried, fell_back, was_cancelled, completed])
def test_what_an_attempt_held_is_free_when_it_is_over(ends):
    one = with_one_gpu(2)
    one.scheduler.take(0, 1.0)
    ends(one, 0)
    assert one.scheduler.take(0, 3.0) == 1
    assert one.status(1) == "RUNNING"


@pytest.mark.parametrize("ends", [retried, fell_back])
def test_an_attempt_that_is_followed_by_something_else_is_a_failure_to_its_breaker(ends):
    one = Detoured(2)
    line = BreakerLine(CircuitBreaker(failure_threshold=1, recovery_time=10.0), one.lines)
    one.waits.terms = dict.fromkeys(range(2), Terms(None, None, ((line, 1.0),)))
    one.scheduler.take(0, 1.0)
    ends(one, 0)
    assert line.opens_at(2.0, 1.0) == 12.0


def test_a_task_that_waits_says_why_once():
    one = Detoured()
    one.scheduler.take(0, 1.0)
    one.scheduler.retrying(0, 2.0, BOOM, 5.0)
    assert one.waits.reasons[0] == ("retry", 2.0, 5.0)
    known = len(one.records)
    one.scheduler.waiting(0, 3.0, {"reason": "something else"})
    assert (one.status(), len(one.records)) == ("WAITING", known)


def test_a_task_with_a_cache_is_taken_to_look_first():
    one = Detoured(2)
    one.waits.terms = {0: Terms(None, None, ())}
    one.waits.lookups = Lookups({0: 0}, one.scheduler.queue_of)
    assert one.scheduler.take(0, 1.0) == 0
    assert (one.status(), one.scheduler.errands, one.scheduler.claimed) == ("PENDING", {0: LOOKUP}, {0})
    assert len(one.records) == 1
    assert one.scheduler.take(0, 1.0) == 1
    assert one.status(1) == "RUNNING"


def test_cleanup_never_gives_up():
    one = Detoured(2, cleanup=[1])
    assert [one.scheduler.gives_up(number) for number in (0, 1)] == [False, False]
    one.scheduler.cancel(1.0)
    assert [one.scheduler.gives_up(number) for number in (0, 1)] == [True, False]


def test_an_execution_without_cleanup_ends_when_all_is_undone():
    one = Detoured(2, undoable=[0])
    assert [one.scheduler.take(0, 1.0) for _ in range(2)] == [0, 1]
    one.scheduler.completed(0, 2.0)
    one.scheduler.failed(1, 3.0, BOOM)
    assert one.scheduler.take(0, 4.0) == 0
    assert one.scheduler.status.name == "RUNNING"
    one.scheduler.undone(0, 5.0, None)
    assert (one.scheduler.status.name, one.scheduler.errands) == ("FAILED", {})


def test_what_is_reused_of_tasks_that_wait_for_more_than_each_other_does_not_start():
    one = Detoured(3, needs=[[], [0], []], reused=[0])
    assert one.ready == [1, 2]


def test_a_success_makes_a_breaker_forget_the_failures_before_it():
    one = Detoured(3)
    one.scheduler.fail_fast = False
    line = BreakerLine(CircuitBreaker(failure_threshold=2, recovery_time=10.0), one.lines)
    one.waits.terms = dict.fromkeys(range(3), Terms(None, None, ((line, 1.0),)))
    for _ in range(3):
        one.scheduler.take(0, 1.0)
    one.scheduler.failed(0, 2.0, BOOM)
    one.scheduler.completed(1, 3.0)
    one.scheduler.failed(2, 4.0, BOOM)
    assert line.opens_at(4.0, 1.0) <= 4.0


def test_a_pause_and_its_end_let_those_in_line_be_looked_at_again():
    one = with_one_gpu(2)
    one.scheduler.take(0, 1.0)
    one.scheduler.take(0, 1.0)
    for act in (one.scheduler.pause, one.scheduler.resume):
        one.lines.news = False
        assert act(2.0)
        assert one.lines.news
        assert one.lines.offer(2.0) == []


def test_who_is_out_on_an_errand_is_spared_by_a_stop():
    """As one whose `then` is about to be called: it is WAITING."""
    one = Detoured(3)
    assert one.scheduler.take(0, 1.0) == 0
    one.scheduler.waiting(0, 1.0, {})
    one.scheduler.errands[0] = THEN
    one.scheduler.release(0)
    one.scheduler.cancel(2.0)
    assert [one.status(number) for number in range(3)] == ["WAITING", "CANCELLED", "CANCELLED"]
    assert one.ready == [0]
    assert one.scheduler.take(0, 3.0) == 0
    assert one.scheduler.attempts[0] == 1


def test_where_something_could_be_undone_and_all_goes_well_nothing_is():
    one = Detoured(1, undoable=[0])
    one.scheduler.take(0, 1.0)
    one.scheduler.completed(0, 2.0)
    assert one.scheduler.status.name == "COMPLETED"


def test_whatever_runs_is_waited_for_before_something_is_undone_though_cleanup_is_over():
    one = Detoured(4, cleanup=[2], undoable=[0])
    assert [one.scheduler.take(0, 1.0) for _ in range(4)] == [0, 1, 2, 3]
    one.scheduler.completed(2, 2.0)
    one.scheduler.completed(0, 3.0)
    one.scheduler.failed(1, 4.0, BOOM)
    assert (one.scheduler.unfinished, one.ready) == (1, [])
    one.scheduler.completed(3, 5.0)
    assert one.ready == [0]
    one.scheduler.take(0, 6.0)
    one.scheduler.undone(0, 7.0, None)
    assert one.records[-2][3] == 0, "nobody has counted an attempt"


def test_what_an_attempt_held_is_free_when_its_task_waits_for_something_else():
    one = with_one_gpu(2)
    one.scheduler.take(0, 1.0)
    one.scheduler.has_suspensions(0.0)
    one.scheduler.suspended(0, 2.0, Suspended("something", 2.0), None)
    assert one.scheduler.take(0, 3.0) == 1
    assert one.status(1) == "RUNNING"


def test_cleanup_in_line_is_looked_at_again_when_undoing_begins_and_when_it_ends():
    one = Detoured(5, cleanup=[1, 2], undoable=[0])
    gpu = one.lines.resources["gpu"]
    one.waits.terms = dict.fromkeys((1, 2), Terms(None, None, ((gpu, 1.0),)))
    one.waits.use([gpu])
    assert [one.scheduler.take(0, 1.0) for _ in range(4)] == [0, 1, 3, 4]
    one.scheduler.completed(0, 2.0)
    one.scheduler.failed(3, 3.0, BOOM)
    one.lines.news = False
    one.scheduler.cancelled(4, 3.0, BOOM)
    assert one.lines.news
    assert one.scheduler.take(0, 4.0) == 0
    one.lines.news = False
    one.scheduler.undone(0, 5.0, None)
    assert one.lines.news


def test_three_are_undone_the_last_completed_first_and_cleanup_stands_back_until_the_first_is():
    one = Detoured(5, cleanup=[4], undoable=[0, 1, 2])
    assert [one.scheduler.take(0, 1.0) for _ in range(4)] == [0, 1, 2, 3]
    for number in (1, 0, 2):
        one.scheduler.completed(number, 2.0)
    one.scheduler.failed(3, 3.0, BOOM)
    for number in (2, 0, 1):
        assert one.ready == [number]
        one.scheduler.take(0, 4.0)
        one.scheduler.undone(number, 4.0, None)
    assert one.ready == [4]
