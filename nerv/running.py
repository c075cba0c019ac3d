"""`run`, `arun` and `start`: the two-line way in. Each makes a manager of its own, closed with its last execution."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from nerv.errors import WorkflowCancelledError, WorkflowFailedError, described
from nerv.events import Event
from nerv.execution import Execution
from nerv.manager import WorkflowManager
from nerv.statuses import WorkflowStatus
from nerv.workflows import Workflow


def run(
    workflow: Workflow,
    params: Mapping[str, Any] | None = None,
    *,
    targets: Sequence[str] | None = None,
    services: Any = None,
    on_event: Callable[[Event], Any] | None = None,
    progress: bool = False,
    raise_on_failure: bool = True,
    execution_id: str | None = None,
    **settings: Any,
) -> Execution:
    """Run a workflow and wait for its end.

    Args:
        workflow: what to run.
        params: what tasks see through `Param` and their context.
        targets: ids to run, with all that they need; default: everything.
        services: your own object, seen by tasks as `ctx.services`.
        on_event: called with every `Event`.
        progress: show a live view (a progress bar on a terminal and in Jupyter, plain lines elsewhere).
        raise_on_failure: False: return the execution however it ended.
        execution_id: its id, of your choice.
        **settings: see `nerv.settings.Settings`.

    Raises:
        WorkflowFailedError: it didn't complete; WorkflowCancelledError if it was cancelled.
        WorkflowDefinitionError, ConfigError, UnknownIdError: it can't start; nothing has run.
        KeyboardInterrupt: Ctrl-C: what ran was given `grace` seconds, the rest was cancelled.
    """
    with WorkflowManager(**settings) as manager:
        execution = manager.start(
            workflow, params, targets=targets, services=services, on_event=on_event, execution_id=execution_id
        )
        with _view(execution) if progress else nullcontext():
            execution.wait()
    return checked(execution) if raise_on_failure else execution


async def arun(
    workflow: Workflow,
    params: Mapping[str, Any] | None = None,
    *,
    targets: Sequence[str] | None = None,
    services: Any = None,
    on_event: Callable[[Event], Any] | None = None,
    progress: bool = False,
    raise_on_failure: bool = True,
    execution_id: str | None = None,
    **settings: Any,
) -> Execution:
    """`run` without blocking the event loop; coroutine tasks run in the caller's loop. See `run` for the arguments.

    Cancelling it cancels the execution, waits for its end, and then raises CancelledError.
    """
    import asyncio

    from nerv.pools.coroutine import LoopFactory

    manager = WorkflowManager(pool_factory=LoopFactory(asyncio.get_running_loop()), **settings)
    manager.close_when_idle()
    try:
        execution = manager.start(
            workflow, params, targets=targets, services=services, on_event=on_event, execution_id=execution_id
        )
    except BaseException:
        manager.close()
        raise
    with _view(execution) if progress else nullcontext():
        ended = asyncio.ensure_future(execution.wait_async())
        try:
            await asyncio.shield(ended)
        except asyncio.CancelledError:
            execution.cancel("arun was cancelled")
            await ended
            raise
    return checked(execution) if raise_on_failure else execution


def start(
    workflow: Workflow,
    params: Mapping[str, Any] | None = None,
    *,
    targets: Sequence[str] | None = None,
    services: Any = None,
    on_event: Callable[[Event], Any] | None = None,
    execution_id: str | None = None,
    **settings: Any,
) -> Execution:
    """Start a workflow and return at once. See `run` for the arguments. Inline tasks run when somebody waits for it.

    Its engine closes itself when the execution ends. If the program ends first, it is given `grace` seconds and then
    cancelled.
    """
    manager = WorkflowManager(**settings)
    manager.close_when_idle()
    try:
        return manager.start(
            workflow, params, targets=targets, services=services, on_event=on_event, execution_id=execution_id
        )
    except BaseException:
        manager.close()
        raise


def checked(execution: Execution) -> Execution:
    """The same execution if it completed.

    Raises:
        WorkflowFailedError: it didn't; its cause is the first failure, the others are notes.
    """
    if execution.status is WorkflowStatus.COMPLETED:
        return execution
    failures = dict(execution.failures)
    kind = WorkflowCancelledError if execution.status is WorkflowStatus.CANCELLED else WorkflowFailedError
    texts = [f"task {task!r} failed with {described(error)}" for task, error in failures.items()]
    if execution.error is not None:
        texts.insert(0, described(execution.error))
    texts += [
        f"the compensation of task {task!r} failed with {described(error)}"
        for task, error in execution.undo_errors.items()
    ]
    outcome = "was cancelled" if kind is WorkflowCancelledError else "failed"
    if kind is WorkflowCancelledError and (reason := (execution.log.records[-1][4] or {}).get("reason")):
        texts.insert(0, reason)  # as its last event gives it
    first = f": {texts[0]}" if texts else ""
    error = kind(f"workflow {execution.workflow_name!r} {outcome}{first}", execution, failures)
    for text in texts[1:]:
        error.add_note(text)
    raise error from execution.error or next(iter(failures.values()), None)


def _view(execution: Execution) -> Any:
    from nerv.progress import ProgressView

    return ProgressView(execution)
