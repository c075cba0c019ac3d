"""Workflows that stand in for those whose code isn't at hand, or isn't what it was when the execution began."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from nerv.errors import NervError
from nerv.tasks import TaskDef
from nerv.workflows import Workflow


def stored_workflow(name: str, ids: Sequence[str], result: Any) -> Workflow:
    """What an execution is shown with whose workflow nobody gave: its tasks' ids, and what its result is made of."""
    return Workflow(name, [TaskDef(task_id, _gone) for task_id in ids], result=result)


def merged(workflow: Workflow, ids: Sequence[str]) -> Workflow:
    """A changed workflow with its tasks in the order that an execution has numbered them: first those that it knows,
    a stand-in in the place of each that is no more, then those that are new.
    """
    known = dict.fromkeys(ids)
    tasks = [workflow.tasks.get(task_id) or TaskDef(task_id, _gone) for task_id in ids]
    tasks += [task for task_id, task in workflow.tasks.items() if task_id not in known]
    return Workflow(workflow.name, tasks, workflow.description, workflow.timeout, workflow.result_spec)


def gone() -> TaskDef:
    """A stand-in for a task whose code isn't at hand."""
    return TaskDef("gone", _gone)


def is_gone(task: TaskDef) -> bool:
    """Whether a task only stands in for one that is no more."""
    return task.fn is _gone


def _gone(*_: Any, **__: Any) -> NoReturn:
    raise NervError("this task belongs to a workflow whose code isn't at hand")
