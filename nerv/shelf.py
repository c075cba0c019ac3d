"""`StoredExecution`: a handle on an execution that is only in the journal."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from nerv.execution import Execution
from nerv.live import Live
from nerv.statuses import WorkflowStatus
from nerv.workflows import Workflow

if TYPE_CHECKING:
    from nerv.journal.base import ExecutionRecord
    from nerv.keeping import Keeper


class StoredExecution(Execution):
    """A handle on a kept execution that this manager doesn't run. It is read from the journal when it is looked at."""

    def __init__(self, record: ExecutionRecord, keeper: Keeper, workflow: Workflow | None = None) -> None:
        self._record = record
        self._keeper = keeper
        self._workflow = workflow
        super().__init__(None, keeper.manager)

    @cached_property
    def _live(self) -> Live:  # type: ignore[override]
        live = self._keeper.shown(self._record.id, self._workflow)
        self._projector = self._projector.apart(live.log, workflow_id=live.workflow_id)
        return live

    @property
    def id(self) -> str:
        """Its id."""
        return self._record.id

    @property
    def workflow_name(self) -> str:
        """Its workflow's name."""
        return self._record.workflow_name

    @property
    def status(self) -> WorkflowStatus:
        """Where it was when this handle was made; INTERRUPTED if it hasn't ended and nobody runs it."""
        return self._record.status
