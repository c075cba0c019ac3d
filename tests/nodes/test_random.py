"""Random workflows of nodes inside nodes, under random schedules with failures, crashes, timeouts and cancels."""

from random import Random

import pytest

from nerv import (
    Buffer,
    Collector,
    Expand,
    Gate,
    Loop,
    Route,
    Sequence,
    SubWorkflow,
    TaskDef,
    Timer,
    Workflow,
)
from nerv.testing import Faults, simulate

FAULTS = {"failing": 0.08, "crashing": 0.02, "slow": 0.1, "hanging": 0.03, "late": 0.3, "cancelling": 0.2}


def anything(*values):
    return values


def one(_):
    return 1


class Drawing:
    """Draws workflows from a seed."""

    def __init__(self, seed):
        self.random = Random(seed)

    def workflow(self, depth):
        tasks = []
        for place in range(self.random.randint(1, 4)):
            task_id = f"t{place}"
            options = self.options([task.id for task in tasks])
            kind = self.random.choice(KINDS) if depth else Drawing.task
            tasks += kind(self, task_id, depth - 1, options)
        return Workflow("drawn", tasks)

    def options(self, before):
        draw = self.random.random
        options = {"dependencies": [task for task in before if draw() < 0.4]}
        if draw() < 0.15:
            options["run_when"] = self.random.choice(["all_finished", "any_completed"])
        if draw() < 0.2:
            options["fallback"] = 0
        if draw() < 0.15:
            options["timeout"] = self.random.choice([1, 50])
        return options

    def target(self, depth):
        retried, undone = TaskDef("q", one, retry_policy=2), TaskDef("q", one, compensate=anything)
        return self.random.choice([one, retried, undone, self.workflow(depth)])

    def fan(self, depth, *, collect=True):
        items = range(self.random.randint(0, 4))
        on_error = self.random.choice(["fail", "collect"])
        return (items, self.target(depth), self.random.choice([None, 1, 2]), collect, on_error)

    def task(self, task_id, _, options):
        return [TaskDef(task_id, anything, compensate=self.random.choice([None, anything]), **options)]

    def buffer(self, task_id, depth, options):
        return [Buffer(task_id, *self.fan(depth), **options)]

    def collector(self, task_id, depth, options):
        quorum, remaining = self.random.choice([None, 1, 2]), self.random.choice(["continue", "cancel"])
        collector = Collector(f"{task_id}c", task_id, quorum, remaining, timeout=3, fallback=0)
        return [Buffer(task_id, *self.fan(depth, collect=False), **options), collector]

    def sequence(self, task_id, depth, options):
        return [Sequence(task_id, [self.target(depth) for _ in range(self.random.randint(0, 3))], 1, **options)]

    def loop(self, task_id, depth, options):
        enough = Random(self.random.random())
        return [Loop(task_id, self.target(depth), lambda _: enough.random() < 0.5, 0, 4, **options)]

    def subworkflow(self, task_id, depth, options):
        return [SubWorkflow(task_id, self.workflow(depth), **options)]

    def expand(self, task_id, depth, options):
        inner = [*self.workflow(depth).tasks.values()]
        return [TaskDef(task_id, lambda: Expand(inner), **options)]

    def route(self, task_id, _, options):
        return [TaskDef(task_id, lambda: Route(), **options)]  # noqa: PLW0108  a class has no context to be given

    def gate(self, task_id, _, options):
        return [Gate(task_id, on_timeout=self.random.choice(["fail", "skip"]), **{**options, "timeout": 2})]

    def timer(self, task_id, _, options):
        return [Timer(task_id, self.random.choice([0, 1, 5]), **options)]


KINDS = [
    Drawing.task, Drawing.buffer, Drawing.collector, Drawing.sequence, Drawing.loop, Drawing.subworkflow,
    Drawing.expand, Drawing.route, Drawing.gate, Drawing.timer,
]  # fmt: skip


@pytest.mark.parametrize("failure_policy", ["fail_fast", "continue"])
def test_whatever_is_inside_whatever_the_engines_promises_hold(failure_policy):
    statuses = dict.fromkeys(("COMPLETED", "FAILED", "CANCELLED"), 0)
    for seed in range(40):
        workflow = Drawing(seed).workflow(depth=3)
        report = simulate(workflow, seeds=6, failure_policy=failure_policy, faults=Faults(**FAULTS))
        for status, count in report.statuses.items():
            statuses[status] += count
    assert min(statuses.values()) > 20, "each end was seen"
