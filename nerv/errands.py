"""Errands: calls for a task that aren't attempts of it: its fallback, and its compensation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nerv.calls import Call
from nerv.functions import wants_context
from nerv.tasks import TaskDef

if TYPE_CHECKING:
    from nerv.context import Port
    from nerv.live import Live


class FallbackCall(Call):
    """A fallback that is callable: given the error of the last attempt, it makes the result."""

    is_attempt = False
    timeout = None
    wants_context = False

    def __init__(self, live: Live, number: int, task: TaskDef, attempt: int, failure: BaseException) -> None:
        super().__init__(live, number, task, attempt)
        self.failure = failure
        self.queue = live.fallback_queue(number)

    def prepare(self, port: Port | None = None) -> tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]]:  # noqa: ARG002
        """The fallback, and the error."""
        return self.task.fallback, (self.failure,), {}


class CompensationCall(Call):
    """Undoes a completed task. `attempt` counts the compensation's own attempts."""

    is_attempt = False
    obeys = False

    @property
    def wants_context(self) -> bool:
        """Whether the compensation's first argument is the context."""
        return self.task.compensate is not None and wants_context(self.task.compensate)

    def prepare(self, port: Port | None = None) -> tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]]:
        """The compensation, and the task's result, after the context if it wants that."""
        args: tuple[Any, ...] = (self.live.values[self.task.id],)
        if self.wants_context:
            args = (self.context(port or self), *args)
        return self.task.compensate, args, {}  # type: ignore[return-value]  # there is one, or it isn't called
