"""Lives of a manager on a journal: each is played step by step, can die between any two, and the next one goes on.

A `Life` is simulated (`SimulatedPools`, `FakeClock`), and the recorder's thread with it: writing what there is, is one
more thing that can happen next. So a whole life is drawn from a seed, and where it ends is ours to say.
"""

from __future__ import annotations

import atexit
from collections import Counter
from math import inf
from random import Random

from nerv import Output, RateLimit, RetryPolicy, TaskDef, Workflow, WorkflowManager
from nerv.eventlog import TASK_COMPLETED, TASK_STARTED
from nerv.journal.base import Batch
from nerv.journal.memory import MemoryJournal
from nerv.testing import FakeClock, SimulatedPools
from nerv.testing.performing import perform
from nerv.testing.tester import seed_jitter

NAME = "e"
SETTINGS = {"resources": {"gpu": 2}, "failure_policy": "continue", "max_recoveries": 1000}
LONGEST = 20_000
"""Steps after which a life counts as one that never ends."""


class WrittenJournal(MemoryJournal):
    """Remembers what was written."""

    def __init__(self, batches=()):
        super().__init__()
        self.batches: list[Batch] = []
        for batch in batches:
            self.write(batch)
        self.release()

    def write(self, batch, *, sync=True):
        super().write(batch, sync=sync)
        if batch.headers or batch.stretches or batch.facts or batch.orders_done:
            self.batches.append(batch)


# ---- what tasks do --------------------------------------------------------------------------------------------------


def add(*inputs):
    return sum(inputs) + 1


def flaky(ctx, *inputs):
    """Its first attempt fails; a lost one counts as one."""
    if ctx.attempt == 1:
        raise ValueError("the first one")
    return add(*inputs)


def hopeless(*inputs):
    raise ValueError("hopeless")


def rescue(error):
    return 1000


async def add_slowly(*inputs):
    return add(*inputs)


def hang(*inputs):
    """Whoever simulates it never lets it end."""


def undo(result):
    pass


KINDS = (
    {"fn": add},
    {"fn": add},
    {"fn": add, "pool": "process"},
    {"fn": add_slowly},
    {"fn": add, "durable": False},
    {"fn": add, "rate_limit": RateLimit(2, 3.0, "api")},
    {"fn": add, "resources": {"gpu": 1}},
    {"fn": flaky, "retry_policy": RetryPolicy(3, 2.0)},
    {"fn": flaky, "retry_policy": RetryPolicy(2, 0.01), "pool": "process"},
    {"fn": hang, "timeout": 4.0, "retry_policy": RetryPolicy(2, 1.0), "fallback": 7},
    {"fn": hopeless, "fallback": rescue},
    {"fn": hopeless, "fallback": 5, "retry_policy": RetryPolicy(2, 1.0), "durable": False},
)
FAILING = ({"fn": hopeless, "retry_policy": 2}, {"fn": hang, "timeout": 2.0}, {"fn": hopeless})


def random_workflow(seed, most=8, failing=0.1):
    """A workflow whose results don't depend on who is quicker: joins that may run early are given nothing."""
    random = Random(f"recovered {seed}")
    tasks = []
    for number in range(random.randint(1, most)):
        needs = [task.id for task in random.sample(tasks, min(len(tasks), random.choice((0, 0, 1, 1, 2, 3))))]
        rule = random.choice(("all_completed",) * 5 + ("all_finished", "any_completed"))
        kind = random.choice(FAILING if random.random() < failing else KINDS)
        given = {"args": tuple(map(Output, needs))} if rule == "all_completed" else {"dependencies": needs}
        if random.random() < 0.3 and kind["fn"] is not add_slowly and kind.get("durable", True):
            kind = {**kind, "compensate": undo}
        tasks.append(TaskDef(f"t{number}", priority=random.choice((0, 1, 2)), run_when=rule, **given, **kind))
    return Workflow("recovered", tasks)


class Death(BaseException):
    """A task has killed the process."""


class Life:
    """One life of a manager.

    Args:
        workflow: what it runs.
        journal: where it keeps that; None: nowhere.
        seed: of everything that happens.
    """

    def __init__(self, workflow, journal, seed, **settings):
        self.random = Random(f"life {seed}")
        self.journal = journal
        self.clock = FakeClock(auto=True, epoch=1_800_000_000.0 + self.random.random() * 100)
        self.called = Counter()
        self.poison = None  # the id of the task that kills whoever calls it
        self.pools = SimulatedPools(seed, clock=self.clock, takes=self._takes, perform=self._perform)
        drawn = {"workers": self.random.randint(1, 3), "processes": self.random.randint(1, 2)}
        given = {} if journal is None else {"journal": journal}
        self.manager = WorkflowManager(
            clock=self.clock, pool_factory=self.pools, **drawn, **given, **{**SETTINGS, **settings}
        )
        atexit.unregister(self.manager._close_at_exit)  # who dies doesn't say goodbye
        seed_jitter(self.manager, seed)
        self.recorder = None
        if journal is not None:
            self.recorder = self.manager._keeping.recorder
            self.recorder._wake = lambda: None  # the simulation writes
        self.eager = self.random.choice((0.0, 0.1, 0.5, 1.0))  # how soon
        self.execution = None
        self.workflow = workflow

    def start(self, **options):
        self.execution = self.manager.start(self.workflow, execution_id=NAME, **options)
        return self

    def _takes(self, call):
        if call.is_attempt and call.task.fn is hang:
            return inf
        return self.random.choice((0.0, 0.0, 0.5, 2.0))

    def _perform(self, call):
        if call.is_attempt:
            self.called[call.task.id] += 1
        if call.is_attempt and call.task.id == self.poison:
            raise Death
        perform(call)

    def step(self):
        """Let one thing happen. False: nothing will any more."""
        if self.recorder is None:
            return self.pools.go_on()
        if self.random.random() < self.eager and self.recorder.commit():
            return True
        if self.pools.step():
            return True
        if self.random.random() < 0.5 and self.recorder.commit():
            return True
        return self.pools.go_on() or self.recorder.commit()

    def play(self, steps=None, look=lambda life: None):
        """Go on until nothing happens any more, or for so many steps."""
        for _ in range(LONGEST if steps is None else steps):
            look(self)
            if not self.step():
                return self
        assert steps is not None, f"it doesn't end: {self.execution.summary()}"
        return self

    def ended(self, look=lambda life: None):
        """Go on to the end, which must come."""
        self.play(look=look)
        assert self.execution.status.is_final, f"it hangs:\n{self.execution.summary()}\n{told(self.execution)}"
        assert self.execution.wait(0), "its end is in the journal"
        return self.execution


def told(execution):
    """Its events, in words, for messages."""
    return "\n".join(
        f"{event.seq} {event.timestamp:.3f} {event.type.value} {event.task_id or ''} {event.attempt or ''}"
        for event in execution.events()
    )


def outcome(execution):
    """What became of an execution: its status, and its tasks' statuses and results."""
    tasks = {}
    for task_id, task in execution.workflow.tasks.items():
        status = execution.project("task_status")[task_id]
        kept = task.durable and status.name == "COMPLETED"
        tasks[task_id] = (status.name, execution.results[task_id] if kept else None)
    return execution.status.name, tasks


def facts(journal):
    """An execution's events as plain data."""
    return [
        (event.seq, event.type, event.task_id, event.attempt, event.timestamp, sorted(event.data))
        for event in journal.events(NAME)
    ]


def committed(journal, workflow):
    """The durable tasks whose completion is in a journal."""
    history = journal.load(NAME)
    done = {history.ids[number] for code, number, *_ in history.records if code == TASK_COMPLETED}
    return {task_id for task_id in done if workflow.tasks[task_id].durable}


def begun_after(execution, count):
    """The tasks that started after so many events."""
    records = execution.log.records[count:]
    return {execution.log.ids[number] for code, number, *_ in records if code == TASK_STARTED}
