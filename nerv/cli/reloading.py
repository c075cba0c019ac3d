"""`nerv run --reload-on SIGHUP`: a run that its program can be restarted under."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from nerv.errors import ConfigError
from nerv.execution import Execution
from nerv.manager import WorkflowManager
from nerv.workflows import Workflow


def run_reloadable(
    name: str,
    workflow: Workflow,
    params: Mapping[str, Any],
    *,
    targets: Sequence[str] | None,
    progress: bool,
    execution_id: str | None = None,
    **settings: Any,
) -> Execution:
    """Run a workflow under a signal that asks for a restart. After one, verify what the journal holds first.

    Raises:
        RestartRequested: the signal has come, and everything was stopped: it is time to exec.
        ConfigError: no such signal here, or no journal.
        JournalError: after the restart events are missing.
    """
    from nerv.restarting import Restarting, RestartOrchestrator

    if "journal" not in settings:
        raise ConfigError("--reload-on needs --journal FILE: what isn't kept can't be gone on with")
    manager = WorkflowManager(**settings)
    try:
        orchestrator = RestartOrchestrator(manager)
        with Restarting(name, orchestrator) as restarting:
            orchestrator.verify()
            execution = manager.start(workflow, params, targets=targets, execution_id=execution_id)
            if execution_id is None:
                orchestrator.command += ["--execution-id", execution.id]
            restarting.attend()
            with _view(execution) if progress else nullcontext():
                execution.wait()
            restarting.restart_if_asked()
    finally:
        manager.close()
    return execution


def _view(execution: Execution) -> Any:
    from nerv.progress import ProgressView

    sys.stderr.flush()
    return ProgressView(execution)
