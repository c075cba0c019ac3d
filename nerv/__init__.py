"""nerv: dependency-graph workflows inside your Python program.

The table of contents. Each name is imported from its module when it is first used, so `import nerv` costs next to
nothing and loads no library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    # define
    "TaskDef": "tasks", "TaskMetadata": "fields", "TaskPriority": "statuses", "TaskStatus": "statuses",
    "TaskResult": "statuses", "TaskContext": "context", "Output": "references", "Param": "references",
    "MISSING": "references", "Workflow": "workflows", "task": "decorators", "Task": "decorators",
    "workflow": "decorators", "add": "decorators",
    # what if it fails
    "RetryPolicy": "policies", "RateLimit": "policies", "CircuitBreaker": "policies", "Cache": "caching.policy",
    # plan
    "QuantumPartitioner": "partitioner", "ExecutionPlan": "plan",
    # run
    "run": "running", "arun": "running", "start": "running", "Execution": "execution",
    "WorkflowManager": "manager", "WorkflowStatus": "statuses",
    # watch
    "EventBus": "bus", "Subscription": "bus", "Event": "events", "EventType": "events", "ANY": "events",
    "StateProjector": "projector", "Delta": "projector",
    # steer
    "Expand": "outcomes", "Route": "outcomes", "Wait": "outcomes", "Buffer": "nodes.buffer",
    "BufferComplete": "nodes.buffer", "BufferDispatched": "nodes.buffer", "Collector": "nodes.collector",
    "Sequence": "nodes.sequence", "Router": "nodes.router", "JournalNode": "nodes.journalnode", "Gate": "nodes.gate",
    "Timer": "nodes.timers", "Loop": "nodes.loop", "SubWorkflow": "nodes.subworkflow", "Paginate": "nodes.paginate",
    "Page": "nodes.paginate", "Flow": "flows", "Manual": "triggers", "Schedule": "triggers",
    "Every": "triggers", "Watch": "triggers", "OnSignal": "triggers",
    # keep
    "Journal": "journal.base", "SqliteJournal": "journal.sqlite", "MemoryJournal": "journal.memory",
    "ExecutionRecord": "journal.base", "Delivery": "journal.deliveries", "DeliveryState": "journal.deliveries",
    "DispatchHook": "journal.deliveries", "RestartOrchestrator": "restarting",
    # errors
    "NervError": "errors", "WorkflowDefinitionError": "errors", "CycleError": "errors", "Problem": "errors",
    "WorkflowFailedError": "errors", "WorkflowCancelledError": "errors", "TaskCancelledError": "errors",
    "TaskTimeoutError": "errors", "WorkerCrashedError": "errors", "CircuitOpenError": "errors",
    "LoopLimitError": "errors", "TerminalError": "errors", "FatalError": "errors", "ResultUnavailableError": "errors",
    "CacheKeyError": "errors", "AddedTaskError": "errors", "UnknownIdError": "errors", "ConfigError": "errors",
    "SerializationError": "errors", "StoredError": "errors", "JournalError": "errors", "WorkflowChangedError": "errors",
}  # fmt: skip

__all__ = [*_HOME]  # noqa: PLE0604  its keys are the names

if TYPE_CHECKING:
    from nerv.bus import EventBus as EventBus
    from nerv.bus import Subscription as Subscription
    from nerv.caching.policy import Cache as Cache
    from nerv.context import TaskContext as TaskContext
    from nerv.decorators import Task as Task
    from nerv.decorators import add as add
    from nerv.decorators import task as task
    from nerv.decorators import workflow as workflow
    from nerv.errors import AddedTaskError as AddedTaskError
    from nerv.errors import CacheKeyError as CacheKeyError
    from nerv.errors import CircuitOpenError as CircuitOpenError
    from nerv.errors import ConfigError as ConfigError
    from nerv.errors import CycleError as CycleError
    from nerv.errors import FatalError as FatalError
    from nerv.errors import JournalError as JournalError
    from nerv.errors import LoopLimitError as LoopLimitError
    from nerv.errors import NervError as NervError
    from nerv.errors import Problem as Problem
    from nerv.errors import ResultUnavailableError as ResultUnavailableError
    from nerv.errors import SerializationError as SerializationError
    from nerv.errors import StoredError as StoredError
    from nerv.errors import TaskCancelledError as TaskCancelledError
    from nerv.errors import TaskTimeoutError as TaskTimeoutError
    from nerv.errors import TerminalError as TerminalError
    from nerv.errors import UnknownIdError as UnknownIdError
    from nerv.errors import WorkerCrashedError as WorkerCrashedError
    from nerv.errors import WorkflowCancelledError as WorkflowCancelledError
    from nerv.errors import WorkflowChangedError as WorkflowChangedError
    from nerv.errors import WorkflowDefinitionError as WorkflowDefinitionError
    from nerv.errors import WorkflowFailedError as WorkflowFailedError
    from nerv.events import ANY as ANY
    from nerv.events import Event as Event
    from nerv.events import EventType as EventType
    from nerv.execution import Execution as Execution
    from nerv.fields import TaskMetadata as TaskMetadata
    from nerv.flows import Flow as Flow
    from nerv.journal.base import ExecutionRecord as ExecutionRecord
    from nerv.journal.base import Journal as Journal
    from nerv.journal.deliveries import Delivery as Delivery
    from nerv.journal.deliveries import DeliveryState as DeliveryState
    from nerv.journal.deliveries import DispatchHook as DispatchHook
    from nerv.journal.memory import MemoryJournal as MemoryJournal
    from nerv.journal.sqlite import SqliteJournal as SqliteJournal
    from nerv.manager import WorkflowManager as WorkflowManager
    from nerv.nodes.buffer import Buffer as Buffer
    from nerv.nodes.buffer import BufferComplete as BufferComplete
    from nerv.nodes.buffer import BufferDispatched as BufferDispatched
    from nerv.nodes.collector import Collector as Collector
    from nerv.nodes.gate import Gate as Gate
    from nerv.nodes.journalnode import JournalNode as JournalNode
    from nerv.nodes.loop import Loop as Loop
    from nerv.nodes.paginate import Page as Page
    from nerv.nodes.paginate import Paginate as Paginate
    from nerv.nodes.router import Router as Router
    from nerv.nodes.sequence import Sequence as Sequence
    from nerv.nodes.subworkflow import SubWorkflow as SubWorkflow
    from nerv.nodes.timers import Timer as Timer
    from nerv.outcomes import Expand as Expand
    from nerv.outcomes import Route as Route
    from nerv.outcomes import Wait as Wait
    from nerv.partitioner import QuantumPartitioner as QuantumPartitioner
    from nerv.plan import ExecutionPlan as ExecutionPlan
    from nerv.policies import CircuitBreaker as CircuitBreaker
    from nerv.policies import RateLimit as RateLimit
    from nerv.policies import RetryPolicy as RetryPolicy
    from nerv.projector import Delta as Delta
    from nerv.projector import StateProjector as StateProjector
    from nerv.references import MISSING as MISSING
    from nerv.references import Output as Output
    from nerv.references import Param as Param
    from nerv.restarting import RestartOrchestrator as RestartOrchestrator
    from nerv.running import arun as arun
    from nerv.running import run as run
    from nerv.running import start as start
    from nerv.statuses import (
        TaskPriority as TaskPriority,
    )  # fmt: skip
    from nerv.statuses import (
        TaskResult as TaskResult,
    )
    from nerv.statuses import (
        TaskStatus as TaskStatus,
    )
    from nerv.statuses import (
        WorkflowStatus as WorkflowStatus,
    )
    from nerv.tasks import TaskDef as TaskDef
    from nerv.triggers import Every as Every
    from nerv.triggers import Manual as Manual
    from nerv.triggers import OnSignal as OnSignal
    from nerv.triggers import Schedule as Schedule
    from nerv.triggers import Watch as Watch
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
