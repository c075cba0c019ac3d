"""The real engine in every state that it can reach on small graphs, beside the oracle of the scheduler's own walk.

What could go one way or another is a choice (every_way.py): which worker comes, whose call ends, whether it returns,
raises or obeys, and when somebody pauses, resumes and cancels. After each choice the oracle is told what the log says
has happened; what else must be in the log, what is ready and what everything is now must then be equal (machine.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nerv import TaskContext, TaskDef, Workflow, WorkflowManager
from nerv.eventlog import CODES, Record
from nerv.events import EventType
from nerv.testing import FakeClock, SimulatedPools
from tests.properties.every_way import Chooser, SeenError
from tests.properties.exploring import Counts
from tests.properties.history import History
from tests.properties.machine import REASON, Machine
from tests.properties.oracle import COMPLETED, RUNNING, Case, Fact, Oracle

End = tuple[str, ...]
"""The status of each task, and that of the execution."""


class Choosing:
    """A task's function: it returns, raises, or obeys if it is told to stop."""

    chooser: Chooser

    def __call__(self, ctx: TaskContext) -> int:
        choice = self.chooser.choose(3 if ctx.cancelled else 2)
        if choice == 1:
            raise OSError
        if choice:
            ctx.check_cancelled()
        return 1


class Followed(Machine):
    """A live execution under test. `look` compares all that has happened since the last look."""

    def __init__(self, case: Case, live: Any) -> None:
        self.case = case
        self.scheduler = live.scheduler
        self.oracle = Oracle(case)
        self.now = 0.0
        self._known = 0
        self._compare(self.oracle.start(), 0)
        self._known = len(self.scheduler.records)

    def look(self, told: str | None) -> int:
        """`told` is what somebody did, if he did. Returns the number of new events."""
        known, records = self._known, self.scheduler.records
        self._known = len(records)
        expected = self.oracle.cancel(REASON) if told == "cancel" else []
        for record in records[known:]:
            expected += self._heard(record, told)
        self._compare(expected, known)
        return self._known - known

    def _heard(self, record: Record, told: str | None) -> list[Fact]:
        """What must be in the log because of a record; nothing if that record is itself due to another."""
        oracle, (code, task, _, _, data) = self.oracle, record
        match CODES[code]:
            case EventType.TASK_STARTED:
                assert oracle.next_of(self.case.queue_of[task]) == task, "it isn't its turn"
                return oracle.take(self.case.queue_of[task])
            case EventType.TASK_COMPLETED:
                return oracle.completed(task)
            case EventType.TASK_FAILED:
                return oracle.failed(task, data["error"])
            case EventType.TASK_CANCELLED if oracle.status[task] == RUNNING:
                return oracle.cancelled(task, data["error"])
            case EventType.WORKFLOW_PAUSED:
                return oracle.pause()
            case EventType.WORKFLOW_RESUMED if told != "cancel":
                return oracle.resume()
        return []

    def _compare_events(self, expected: list[Fact], new: list[Record]) -> None:
        super()._compare_events(expected, [(*record[:4], _as_told(record[4])) for record in new])


def _as_told(data: Any) -> Any:
    """What the oracle knows of an event's data: neither ids nor what the engine adds to the first."""
    if not data or "task_count" not in data:
        return data
    if "status" not in data:
        return {"task_count": data["task_count"]}
    return {**data, "workflow_id": None, "execution_id": None}


class Engaged:
    """One run of a case along a path. `acts` is what somebody may do, each once; a pause ends at any time."""

    def __init__(self, case: Case, workflow: Workflow, chooser: Chooser, acts: tuple[str, ...]) -> None:
        self.case, self.chooser, self.acts = case, chooser, list(acts)
        self.pools = SimulatedPools(clock=FakeClock())
        self.manager = WorkflowManager(
            clock=FakeClock(),
            pool_factory=self.pools,
            workers=len(case.needs) or 1,
            failure_policy="fail_fast" if case.fail_fast else "continue",
            scheduling="levels" if case.levels else "ready",
        )
        self.execution = self.manager.start(workflow)
        self.live = self.execution._live
        self.followed = Followed(case, self.live)
        self.counts = Counts()

    def go(self, seen: set[Any]) -> None:
        """Go the path and on to an end, or to a state that was seen: SeenError then. `counts` is what was new."""
        while not self.execution.status.is_final:
            if self.chooser.is_new:
                content = self.content()
                if content in seen:
                    raise SeenError
                seen.add(content)
                self.counts = self.counts.plus(Counts(states=1))
            name, act = self.chosen()
            act()
            events = self.followed.look(name)
            if self.chooser.is_new:
                self.counts = self.counts.plus(Counts(moves=1, events=events))
        cancelled = "cancel" not in self.acts
        History(self.case, cancelled=cancelled).read(self.live.log.records)
        self.check_results()
        self.counts = self.counts.plus(Counts(ends=1))

    def chosen(self) -> tuple[str | None, Callable[[], object]]:
        """What happens next."""
        options: list[tuple[str | None, Callable[[], object]]]
        options = [(None, act) for pool in self.pools._pools for act in pool.possible()]
        options += [(name, lambda name=name: self.do(name)) for name in self.acts]
        if self.execution.status.name == "PAUSED":
            options.append(("resume", self.execution.resume))
        assert options, f"it neither goes on nor has it ended, after {self.chooser.made}"
        return options[self.chooser.choose(len(options))]

    def do(self, name: str) -> None:
        """Pause it, or cancel it."""
        self.acts.remove(name)
        assert self.execution.cancel(REASON) if name == "cancel" else self.execution.pause()

    def content(self) -> Any:
        """All of which the future is a function."""
        calls = [call for pool in self.pools._pools for worker in pool._workers for call in worker.calls]
        return (
            self.followed.content(),
            frozenset((call.number, call.cancelled) for call in calls),
            tuple(pool._called for pool in self.pools._pools),
            tuple(self.acts),
        )

    def check_results(self) -> None:
        """Results are those of the tasks that completed."""
        completed = {str(task) for task in self.case.tasks if self.followed.oracle.status[task] == COMPLETED}
        assert dict(self.execution.results) == dict.fromkeys(completed, 1)

    def end(self) -> End:
        """How it ended."""
        return (*self.followed.oracle.status, self.execution.status.name)

    def close(self) -> None:
        """Give it up, wherever it is."""
        self.chooser.path = self.chooser.made = []
        self.manager.engine.halt(self.live)
        self.manager.close()


def engage(case: Case, acts: tuple[str, ...]) -> tuple[Counts, set[End]]:
    """Go every way that an execution of the case can go on the engine; gives what was seen, and every end."""
    choosing = Choosing()
    workflow = Workflow(
        "wf",
        [
            TaskDef(
                str(task),
                choosing,
                dependencies=[str(need) for need in case.needs[task]],
                priority=case.priorities[task],
                run_when=case.rules[task],
            )
            for task in case.tasks
        ],
    )
    seen: set[Any] = set()
    ends: set[End] = set()
    total = Counts(cases=1)
    path: list[int] | None = []
    while path is not None:
        choosing.chooser = chooser = Chooser(path)
        run = Engaged(case, workflow, chooser, acts)
        try:
            run.go(seen)
            ends.add(run.end())
        except SeenError:
            pass
        except BaseException as error:
            error.add_note(f"on the path {chooser.made} of {case}")
            raise
        total = total.plus(run.counts)
        path = chooser.next_path()
        run.close()
    return total, ends


def ends_of(case: Case) -> set[End]:
    """Every end that the scheduler alone can come to."""
    first = Machine(case)
    seen, todo, ends = {first.content()}, [first], set()
    while todo:
        machine = todo.pop()
        if machine.ended:
            ends.add((*machine.oracle.status, machine.oracle.workflow.name))
            continue
        for move in machine.moves(unasked=False):
            if move == ("halt",):
                continue
            after = machine.copied()
            after.make(move)
            if (content := after.content()) not in seen:
                seen.add(content)
                todo.append(after)
    return ends
