"""nerv: dependency-graph workflows inside your Python program.

The table of contents. Each name is imported from its module when it is first used, so `import nerv` costs next to
nothing and loads no library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    # define
    "TaskDef": "tasks", "TaskMetadata": "tasks", "TaskPriority": "statuses", "TaskStatus": "statuses",
    "TaskResult": "statuses", "TaskContext": "context", "Output": "references", "Param": "references",
    "MISSING": "references", "Workflow": "workflows", "task": "decorators", "Task": "decorators",
    "workflow": "decorators",
    # plan
    "QuantumPartitioner": "partitioner", "ExecutionPlan": "plan",
    # run
    "run": "running", "arun": "running", "start": "running", "Execution": "execution",
    "WorkflowManager": "manager", "WorkflowStatus": "statuses",
    # watch
    "EventBus": "bus", "Subscription": "bus", "Event": "events", "EventType": "events", "ANY": "events",
    "StateProjector": "projector", "Delta": "projector",
    # errors
    "NervError": "errors", "WorkflowDefinitionError": "errors", "CycleError": "errors", "Problem": "errors",
    "WorkflowFailedError": "errors", "WorkflowCancelledError": "errors", "TaskCancelledError": "errors",
    "WorkerCrashedError": "errors", "ResultUnavailableError": "errors", "UnknownIdError": "errors",
    "ConfigError": "errors",
}  # fmt: skip

__all__ = [*_HOME]

if TYPE_CHECKING:
    from nerv.bus import EventBus as EventBus, Subscription as Subscription
    from nerv.context import TaskContext as TaskContext
    from nerv.decorators import Task as Task, task as task, workflow as workflow
    from nerv.errors import (
        ConfigError as ConfigError, CycleError as CycleError, NervError as NervError, Problem as Problem,
        ResultUnavailableError as ResultUnavailableError, TaskCancelledError as TaskCancelledError,
        UnknownIdError as UnknownIdError, WorkerCrashedError as WorkerCrashedError,
        WorkflowCancelledError as WorkflowCancelledError, WorkflowDefinitionError as WorkflowDefinitionError,
        WorkflowFailedError as WorkflowFailedError,
    )  # fmt: skip
    from nerv.events import ANY as ANY, Event as Event, EventType as EventType
    from nerv.execution import Execution as Execution
    from nerv.manager import WorkflowManager as WorkflowManager
    from nerv.partitioner import QuantumPartitioner as QuantumPartitioner
    from nerv.plan import ExecutionPlan as ExecutionPlan
    from nerv.projector import Delta as Delta, StateProjector as StateProjector
    from nerv.references import MISSING as MISSING, Output as Output, Param as Param
    from nerv.running import arun as arun, run as run, start as start
    from nerv.statuses import (
        TaskPriority as TaskPriority, TaskResult as TaskResult, TaskStatus as TaskStatus,
        WorkflowStatus as WorkflowStatus,
    )  # fmt: skip
    from nerv.tasks import TaskDef as TaskDef, TaskMetadata as TaskMetadata
    from nerv.workflows import Workflow as Workflow


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'nerv' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"nerv.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
