"""Drafts: workflows that grow by `add_task` and are validated when they are executed."""

from __future__ import annotations

import os
import threading
from typing import Any

from nerv.errors import UnknownIdError, near
from nerv.statuses import WorkflowStatus
from nerv.tasks import TaskDef
from nerv.workflows import Workflow


class Draft:
    """A workflow in the making, and the executions that were started from it."""

    def __init__(self, workflow_id: str, name: str, description: str, created_at: float) -> None:
        self.id = workflow_id
        self.name = name
        self.description = description
        self.created_at = created_at
        self.executions: list[str] = []
        self._tasks: list[TaskDef] = []
        self._lock = threading.Lock()

    def add(self, task: TaskDef) -> None:
        """Add a task."""
        if not isinstance(task, TaskDef):
            raise TypeError(f"add_task takes a TaskDef, not {task!r}; write TaskDef(id, function)")
        with self._lock:
            self._tasks.append(task)

    def snapshot(self) -> Workflow:
        """A validated workflow of the tasks that are there now."""
        with self._lock:
            tasks = list(self._tasks)
        return Workflow(self.name, tasks, self.description)

    def report(self) -> dict[str, Any]:
        """What is known of a draft that never ran."""
        return {
            "id": self.id,
            "name": self.name,
            "status": WorkflowStatus.CREATED,
            "created_at": self.created_at,
            "task_count": len(self._tasks),
        }


class Drafts:
    """All drafts of a manager, by id."""

    def __init__(self) -> None:
        self._drafts: dict[str, Draft] = {}

    def create(self, name: str, description: str, created_at: float) -> str:
        """Begin a draft; returns its id."""
        Workflow(name, (), description)  # a wrong name is found now
        workflow_id = f"{name}-{os.urandom(4).hex()}"
        self._drafts[workflow_id] = Draft(workflow_id, name, description, created_at)
        return workflow_id

    def of(self, workflow_id: str) -> Draft:
        """The draft of that id."""
        try:
            return self._drafts[workflow_id]
        except KeyError:
            raise UnknownIdError(
                f"no workflow {workflow_id!r} was created here{near(workflow_id, self._drafts)}"
            ) from None
