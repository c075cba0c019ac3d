"""`QuantumPartitioner`: analyse, plan and run in one object, for those who think in partitions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nerv.errors import ConfigError
from nerv.manager import WorkflowManager
from nerv.plan import ExecutionPlan
from nerv.running import run
from nerv.statuses import TaskResult
from nerv.tasks import TaskDef
from nerv.workflows import Workflow


class QuantumPartitioner:
    """Computes dependency levels, and runs what they say in parallel pools.

    Args:
        max_workers: threads used by `execute_workflow`; None: the default of the `workers` setting.
        manager: gives the manager on which `execute_workflow` runs, with the settings of that one; None: on an engine
            of its own, which ends with it.
    """

    def __init__(self, max_workers: int | None = None, *, manager: Callable[[], WorkflowManager] | None = None) -> None:
        if max_workers is not None and (
            isinstance(max_workers, bool) or not isinstance(max_workers, int) or max_workers < 1
        ):
            raise ConfigError(f"max_workers takes a whole number from 1, or None, not {max_workers!r}")
        self.max_workers = max_workers
        self._manager = manager

    def analyze_dependencies(self, tasks: Iterable[TaskDef]) -> dict[str, list[str]]:
        """For each task the ids that it needs. Raises WorkflowDefinitionError like `Workflow`."""
        return {task: list(needs) for task, needs in self.create_execution_plan(tasks).dependencies.items()}

    def create_execution_plan(self, tasks: Workflow | Iterable[TaskDef]) -> ExecutionPlan:
        """Levels, critical path and bounds. Raises WorkflowDefinitionError like `Workflow`."""
        return _workflow(tasks).plan()

    def execute_workflow(
        self, tasks: Workflow | Iterable[TaskDef], context: Mapping[str, Any] | None = None
    ) -> dict[str, TaskResult[Any]]:
        """Run the tasks and wait; `context` are the params. A failure is a FAILED result here, not a raise.

        Raises:
            WorkflowDefinitionError: the tasks can't be run; nothing has.
        """
        workflow = _workflow(tasks)
        if self._manager is not None:
            execution = self._manager().start(workflow, context)
            try:
                execution.wait()
            except BaseException:  # Ctrl-C
                execution.cancel("nobody waits for it any more")
                raise
        else:
            settings: dict[str, Any] = {} if self.max_workers is None else {"workers": self.max_workers}
            execution = run(workflow, context, raise_on_failure=False, **settings)
        return {task: execution.task(task) for task in execution.workflow.tasks}


def _workflow(tasks: Workflow | Iterable[TaskDef]) -> Workflow:
    return tasks if isinstance(tasks, Workflow) else Workflow("partition", tasks)
