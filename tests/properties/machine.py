"""A scheduler and its oracle, side by side: every move is made by both, and everything that can be seen is compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from nerv.eventlog import CODES, Record
from nerv.events import TERMINAL, EventType
from nerv.fields import RUN_WHEN
from nerv.graph import NUMBER_MASK, Graph
from nerv.levels import LevelScheduler
from nerv.scheduler import STATUSES, Scheduler
from nerv.statuses import WorkflowStatus
from tests.properties.oracle import FINAL, Case, Fact, Oracle

Move = tuple[Any, ...]
"""A method's name and its arguments, but for the moment."""

Outcome = tuple[list[Fact], bool]
"""The events that must follow a move, and whether the scheduler gave the right answer."""

REASON = "enough"
SPREAD = (EventType.TASK_SKIPPED, EventType.TASK_CANCELLED)
BOOM = RuntimeError("boom")

RUNNING = WorkflowStatus.RUNNING
_NAMES = [status.name for status in STATUSES]


def scheduler_for(case: Case, records: list[Record] | None = None) -> Scheduler:
    """A scheduler for the case; ids are the task numbers as text."""
    graph = Graph([list(needs) for needs in case.needs], case.priorities)
    kind = LevelScheduler if case.levels else Scheduler
    ids = [str(task) for task in case.tasks]
    rules = [RUN_WHEN.index(rule) for rule in case.rules]
    log = [] if records is None else records
    return kind(graph, ids, rules, case.queue_of, case.queues, log, fail_fast=case.fail_fast)


def containers(scheduler: Scheduler) -> tuple[list[str], list[str]]:
    """The attributes that a copy must copy: flat containers, and lists of lists. What it was made of may be shared."""
    shared = (scheduler.ids, scheduler.rules, scheduler.queue_of, scheduler.graph.dependents, scheduler.graph.ranks)
    mutable = {
        name: value
        for name, value in vars(scheduler).items()
        if type(value) in (list, bytearray, set, dict) and not any(value is one for one in shared)
    }
    nested = [name for name, value in mutable.items() if type(value) is list and value and type(value[0]) is list]
    return [name for name in mutable if name not in nested], nested


class Machine:
    """A scheduler under test. `make` makes a move and checks all that it did. Events go to `records`, if given."""

    def __init__(self, case: Case, records: list[Record] | None = None) -> None:
        self.case = case
        self.scheduler = scheduler_for(case, records)
        self.oracle = Oracle(case)
        self.now = 0.0
        self.scheduler.start(self.now, {})
        self._compare(self.oracle.start(), 0)
        self._flat, self._nested = containers(self.scheduler)

    def copied(self) -> Machine:
        """A twin that goes its own way."""
        twin = object.__new__(type(self))
        twin.case, twin.now, twin._flat, twin._nested = self.case, self.now, self._flat, self._nested
        twin.oracle = self.oracle.copied()
        twin.scheduler = object.__new__(type(self.scheduler))
        inside = twin.scheduler.__dict__
        inside.update(self.scheduler.__dict__)
        for name in self._flat:
            inside[name] = inside[name].copy()
        for name in self._nested:
            inside[name] = [one.copy() for one in inside[name]]
        inside["entry"] = inside["ready"]  # nothing is staged here
        return twin

    @property
    def ended(self) -> bool:
        return self.scheduler.status.is_final

    def content(self) -> tuple[Any, ...]:
        """What the scheduler knows, of which its future is a function; what two ways to the same state share."""
        state = self.scheduler
        return (
            bytes(state.state), tuple(state.missing), tuple(tuple(sorted(ready)) for ready in state.ready),
            frozenset(state.claimed), tuple(sorted(state.undecided.items())), state.status, state.stopping,
            state.cancelling, tuple(tuple(sorted(held)) for held in getattr(state, "held", ())),
        )  # fmt: skip

    def moves(self, *, claims: bool = False, unasked: bool = True) -> Iterable[Move]:
        """Every move that may be made now, those included that must change nothing.

        Args:
            claims: whether tasks may also be claimed before they are started.
            unasked: whether a running task may end as CANCELLED though nothing told it to stop, which the engine
                never does.
        """
        oracle = self.oracle
        if self.ended:
            yield from (("pause",), ("resume",), ("cancel",), ("halt",))
            yield from (("take", queue) for queue in range(self.case.queues))
            return
        running = oracle.running
        for queue in range(self.case.queues):
            yield ("take", queue)
            if claims and oracle.next_of(queue) >= 0:
                yield ("claim", queue)
        for task in running:
            yield ("completed", task)
            yield ("failed", task)
            if self._may_relay:
                yield ("relay", task)
            if unasked or oracle.stopping:
                yield ("cancelled", task)
        for task in oracle.claimed:
            yield ("started", task)
            yield ("unclaim", task)
        yield from (("pause",), ("resume",), ("cancel",))
        if not running:
            yield ("halt",)

    def make(self, move: Move) -> int:
        """Make a move on both sides, and compare; returns the number of new events."""
        name, *args = move
        self.now += 1.0
        known = len(self.scheduler.records)
        try:
            expected, answered = _MAKERS[name](self, *args)
            assert answered, "the scheduler's answer is wrong"
            self._compare(expected, known)
        except AssertionError as error:
            error.add_note(f"{name}{tuple(args)} on {self.case}, after {self.scheduler.records[:known]}")
            raise
        return len(self.scheduler.records) - known

    # ---- the moves, on both sides -----------------------------------------------------------------------------------

    def _take(self, queue: int) -> Outcome:
        task = self.oracle.next_of(queue)
        return self.oracle.take(queue), self.scheduler.take(queue, self.now) == task

    def _claim(self, queue: int) -> Outcome:
        task = self.oracle.next_of(queue)
        return self.oracle.claim(queue), self.scheduler.claim(queue) == task

    def _started(self, task: int) -> Outcome:
        return self.oracle.started(task), self.scheduler.started(task, self.now) == 1

    def _unclaim(self, task: int) -> Outcome:
        self.scheduler.unclaim(task, self.now)
        return self.oracle.unclaim(task), True

    def _completed(self, task: int) -> Outcome:
        self.scheduler.completed(task, self.now)
        return self.oracle.completed(task), True

    @property
    def _may_relay(self) -> bool:
        state = self.scheduler
        return state.is_plain and len(state.ready) == 1 and bool(state.ready[0]) and state.status is RUNNING

    def _relay(self, task: int) -> Outcome:
        expected = self.oracle.completed(task)
        best = self.oracle.next_of(0)
        return expected + self.oracle.take(0), self.scheduler.relay(task, 0, self.now) == best

    def _failed(self, task: int) -> Outcome:
        self.scheduler.failed(task, self.now, BOOM)
        return self.oracle.failed(task, BOOM), True

    def _cancelled(self, task: int) -> Outcome:
        self.scheduler.cancelled(task, self.now, BOOM)
        return self.oracle.cancelled(task, BOOM), True

    def _pause(self) -> Outcome:
        expected = self.oracle.pause()
        return expected, self.scheduler.pause(self.now) is bool(expected)

    def _resume(self) -> Outcome:
        expected = self.oracle.resume()
        return expected, self.scheduler.resume(self.now) is bool(expected)

    def _cancel(self) -> Outcome:
        may = not self.oracle.cancelling and not self.ended
        return self.oracle.cancel(REASON), self.scheduler.cancel(self.now, REASON) is may

    def _halt(self) -> Outcome:
        self.scheduler.halt(self.now)
        return self.oracle.halt(), True

    # ---- comparing --------------------------------------------------------------------------------------------------

    def _compare(self, expected: list[Fact], known: int) -> None:
        state, oracle = self.scheduler, self.oracle
        new = state.records[known:]
        if new or expected:
            self._compare_events(expected, new)
        names = [_NAMES[number] for number in state.state]
        assert names == oracle.status
        assert state.status is oracle.workflow
        assert state.unfinished == oracle.unfinished
        assert state.claimed == oracle.claimed
        assert state.blame == oracle.blame
        assert state.attempts == oracle.attempts
        assert state.counts == [names.count(name) if name in FINAL else 0 for name in _NAMES]
        if not self.ended:  # nobody asks afterwards
            assert (state.stopping, state.cancelling) == (oracle.stopping, oracle.cancelling)
        self._compare_ready()

    def _compare_events(self, expected: list[Fact], new: list[Record]) -> None:
        """The events are those that the oracle tells, the cause first and the end last, dated when they are told."""
        facts = [(CODES[code], task, attempt, data) for code, task, _, attempt, data in new]
        if facts != expected:
            assert _counted(facts) == _counted(expected), f"{facts} instead of {expected}"
            assert facts[0] == expected[0] or expected[0][0] in SPREAD, "the cause comes first"
        assert all(fact[0] not in TERMINAL for fact in facts[:-1]), "the end comes last"
        assert all(record[2] == self.now for record in new), "events are dated when they are told"

    def _compare_ready(self) -> None:
        """What is ready is what may start, once, in its own queue; and while there is work left there is a way on."""
        state, oracle, queue_of = self.scheduler, self.oracle, self.case.queue_of
        ready = oracle.ready()
        for queue, heap in enumerate(state.ready):
            if heap or ready:
                best_first = [rank & NUMBER_MASK for rank in sorted(heap)]
                assert best_first == [task for task in ready if queue_of[task] == queue]
                assert all(heap[i] >= heap[(i - 1) // 2] for i in range(1, len(heap))), "it is a heap"
        if self.ended:
            assert not state.unfinished, "it says that it has ended"
            assert not ready
        else:
            assert state.unfinished, "it has ended and doesn't say so"
            assert ready or oracle.claimed or oracle.running, "it waits for nothing"


def _counted(facts: Iterable[Fact]) -> Counter[tuple[Any, ...]]:
    return Counter((kind, task, attempt, _hashable(data)) for kind, task, attempt, data in facts)


def _hashable(data: Any) -> Any:
    return data if data is None else tuple(sorted((name, repr(value)) for name, value in data.items()))


_MAKERS: dict[str, Callable[..., Outcome]] = {
    name: getattr(Machine, f"_{name}")
    for name in (
        "take", "claim", "started", "unclaim", "completed", "relay", "failed", "cancelled", "pause", "resume", "cancel",
        "halt",
    )
}  # fmt: skip
