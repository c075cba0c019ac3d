"""Running small workflows to their end, and looking at what became of them."""

import threading

from nerv import Workflow, WorkflowManager

LONG = 20.0
"""Seconds that a wait may take before it counts as a hang."""


def of(*tasks, name="w", **options):
    return Workflow(name, list(tasks), **options)


def go(*tasks, params=None, workers=4, **settings):
    """Run these tasks to their end; a failure isn't raised."""
    with WorkflowManager(workers=workers, **settings) as manager:
        execution = manager.start(of(*tasks), params)
        assert execution.wait(LONG), f"it hangs: {execution.summary()}"
    return execution


def status(execution, task_id):
    return execution.task(task_id).status.name


def statuses(execution):
    """Id -> status of all tasks, those that were added too."""
    return {task: entry["status"].name for task, entry in execution.state["tasks"].items()}


class Gauge:
    """Counts how many are inside, and the most that ever were."""

    def __init__(self):
        self.lock = threading.Lock()
        self.now = self.most = self.calls = 0

    def __enter__(self):
        with self.lock:
            self.now += 1
            self.calls += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_):
        with self.lock:
            self.now -= 1


def inc(value):
    return value + 1


def double(value):
    return value * 2


def same(value):
    return value


def fail(*_):
    raise ValueError("no")
