"""Running small workflows to their end, and looking at what became of them."""

from nerv import Workflow, WorkflowManager
from tests.handshake import ended


def of(*tasks, name="w", **options):
    return Workflow(name, list(tasks), **options)


def go(*tasks, params=None, workers=4, **settings):
    """Run these tasks to their end; a failure isn't raised."""
    with WorkflowManager(workers=workers, **settings) as manager:
        return ended(manager.start(of(*tasks), params))


def status(execution, task_id):
    return execution.task(task_id).status.name


def statuses(execution):
    """Id -> status of all tasks, those that were added too."""
    return {task: entry["status"].name for task, entry in execution.state["tasks"].items()}


def inc(value):
    return value + 1


def double(value):
    return value * 2


def same(value):
    return value


def fail(*_):
    raise ValueError("no")
