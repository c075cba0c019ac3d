"""`Orders`: what others want of a manager's executions: signals, cancels, pauses.

One for an execution that runs is carried out; one for an execution that nobody runs is kept in the journal, and carried
out when it goes on, before anything starts. It leaves the journal in the commit that brings what it led to: a signal
may be a message, which mustn't come twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nerv.feeding import FedScheduler
from nerv.journal.base import Journal, Order
from nerv.journal.codec import decode, encode
from nerv.live import Live
from nerv.recording import CANCELLING, Recorder
from nerv.statuses import WorkflowStatus

if TYPE_CHECKING:
    from nerv.hub import Hub


class Orders:
    """Takes orders.

    Args:
        manager: whose executions.
        journal: where they are kept.
        recorder: writes there.
    """

    def __init__(self, manager: Hub, journal: Journal, recorder: Recorder) -> None:
        self._manager = manager
        self._journal = journal
        self._recorder = recorder

    def obey(self, execution_id: str, kind: str, data: Mapping[str, Any]) -> bool:
        """Carry out another process's order, or keep it, if the execution isn't running; durable when this returns.

        Raises:
            UnknownIdError: no such execution.
        """
        execution = self._manager.execution(execution_id)
        if execution.status is WorkflowStatus.INTERRUPTED:
            self._journal.order(execution_id, kind, {name: encode(value) for name, value in data.items()})
            return True
        if kind == "signal":
            execution.signal(data["name"], data["value"])
            return True
        act = {"cancel": execution.cancel, "pause": execution.pause, "resume": execution.resume}[kind]
        return act(**data)

    def read(self, live: Live, order: Order) -> tuple[str, dict[str, Any]]:
        """An order's kind and its arguments; a signal that is a message as one."""
        data = {name: decode(value) for name, value in order.data.items()}
        scheduler = live.scheduler
        if isinstance(scheduler, FedScheduler) and order.kind == "signal" and data["name"] == scheduler.signal:
            data["value"] = scheduler.feeder.packed(data["value"])
        return order.kind, data

    def carry_out(self, live: Live, kind: str, data: Mapping[str, Any]) -> None:
        """Do what was ordered of an execution while nobody owned it (lock held)."""
        scheduler, now = live.scheduler, self._manager.engine.now()
        if scheduler.status.is_final:
            return
        if kind == "signal":
            scheduler.has_suspensions(live.log.epoch).signalled(data["name"], data["value"], now)
        elif kind == "pause":
            scheduler.pause(now)
        elif kind == "resume":
            scheduler.resume(now)
        elif scheduler.cancel(now, data.get("reason", "")):
            self._recorder.note(live, CANCELLING, scheduler.reason)
