"""`Results`: what the tasks of an execution have brought, and what became of each: a part of its handle."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Mapping
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from nerv import reports
from nerv.errors import ResultUnavailableError, UnknownIdError, near
from nerv.live import Live
from nerv.names import as_text
from nerv.references import MISSING, Names, fill, scan
from nerv.scheduler import STATUSES
from nerv.statuses import TaskResult, TaskStatus

if TYPE_CHECKING:
    from nerv.projector import StateProjector

T = TypeVar("T")


class Results:
    """What an execution's tasks have brought. Everything here may be called from any thread."""

    _live: Live
    _projector: StateProjector

    def __init__(self) -> None:
        self._traces: dict[str, TracebackType | None] = {}  # of failures as they were: raising one again adds to it

    @property
    def results(self) -> Mapping[str, Any]:
        """Task id -> result, of the tasks completed by now. Results are the very objects that the tasks returned."""
        live = self._live
        if live.ended.is_set():
            return MappingProxyType(as_text(live.values))
        with live.engine.lock:
            values = live.values.copy()
        return MappingProxyType(as_text(values))

    @property
    def failures(self) -> Mapping[str, BaseException]:
        """Task id -> exception, of failed tasks, in time order."""
        with self._live.engine.lock:
            return MappingProxyType(as_text(dict(self._live.errors)))

    @property
    def undo_errors(self) -> Mapping[str, BaseException]:
        """Task id -> exception, of compensations that failed."""
        with self._live.engine.lock:
            return MappingProxyType(as_text(dict(self._live.undo_errors)))

    @property
    def error(self) -> BaseException | None:
        """What ended the execution itself, such as its timeout; None if nothing but its tasks did."""
        return self._live.scheduler.fault

    @property
    def result(self) -> Any:
        """What the `@workflow` body or `Workflow(result=)` says; else the single sink's result; else a mapping of all
        the sinks' results.

        Raises:
            ResultUnavailableError: something that it needs isn't COMPLETED.
        """
        live, chosen = self._live, self._live.workflow.chosen_result
        if chosen is MISSING:
            sinks = live.workflow.sinks
            return self[sinks[0]] if len(sinks) == 1 else {sink: self[sink] for sink in sinks}
        names = Names()
        node = scan(chosen, names)
        has_ended = live.ended.is_set()
        try:
            value = fill(node, live.values, live.params)
        except ResultUnavailableError:
            has_ended = False  # a task that has no result says why
        if not has_ended:
            for needed in names.outputs:
                self[needed]
            value = fill(node, live.values, live.params)
        return value

    def __getitem__(self, task_id: str) -> Any:
        """A task's result.

        Raises:
            UnknownIdError: no such task.
            ResultUnavailableError: it has no result (yet, or any more); the message says why.
            Exception: the task's own error, if it failed.
        """
        live = self._live
        value = live.values.get(task_id, MISSING)
        if value is not MISSING:
            return value
        with live.engine.lock:
            number = self._number(task_id)
            status = STATUSES[live.scheduler.state[number]]
            blamed = live.scheduler.blame.get(number)
            because = None if blamed is None else str(live.log.ids[blamed])
            key = live.log.ids[number]
        if status is TaskStatus.COMPLETED:
            return self._kept(key)
        if status is TaskStatus.FAILED:
            error = self._unless_folded(task_id, lambda: live.error_of(number))
            raise error.with_traceback(self._traces.setdefault(task_id, error.__traceback__))
        raise ResultUnavailableError(reports.why_no_result(task_id, status, because))

    def _kept(self, task_id: str) -> Any:
        """The result of a task that ended between two looks, or wasn't kept."""
        try:
            return self._live.values[task_id]
        except KeyError:
            self._number(str(task_id))
            text = f"task {task_id!r} has no result any more: it has durable=False, and its process has ended"
            raise ResultUnavailableError(text) from None

    def task(self, task_id: str) -> TaskResult[Any]:
        """What became of a task so far.

        Raises:
            UnknownIdError: no such task.
            ResultUnavailableError: of a fed flow: its lane ended long ago.
        """
        number = self._number(task_id)
        found = self._unless_folded(task_id, lambda: self._told(number))
        self._number(task_id)  # all of it is what is left, if it was folded meanwhile
        return found

    def _told(self, number: int) -> TaskResult[Any]:
        live = self._live
        key = live.log.ids[number]
        states = self._shown(lambda projector: projector.execution_state(live.id))["tasks"]
        status_map, moves = states[key], states.moves(key)
        is_shown = not live.pools  # it is stored, and may have had anything
        has_facts = is_shown or live.scheduler.waits is not None or live.placement is not None
        facts = reports.last_facts(moves) if has_facts else {}
        if live.tasks[number].cache is not None and status_map["status"] is TaskStatus.COMPLETED:
            facts = {"cached": False, **facts}
        seconds = reports.last_seconds(moves) if status_map["attempts"] > 1 else None
        errors = ChainMap(live.errors, live.taken_on)
        return reports.task_result(key, status_map, live.values, errors, facts, seconds=seconds)

    def _unless_folded(self, task_id: str, look: Callable[[], T]) -> T:
        """What is found of a task, whose lane may be folded at any moment."""
        try:
            return look()
        except LookupError:
            self._number(task_id)
            raise

    def _number(self, task_id: str) -> int:
        live = self._live
        number = live.number_of(task_id)
        if number is None:
            if live.is_folded(task_id):
                raise ResultUnavailableError(live.folded(f"task {task_id!r}"))
            known = near(task_id, live.workflow.tasks)
            raise UnknownIdError(f"execution {live.id!r} of {live.workflow.name!r} has no task {task_id!r}{known}")
        return number

    def _shown(self, ask: Callable[[StateProjector], T]) -> T:
        """What the projector answers, though the manager may forget the execution at any moment."""
        _ = self._live  # with that of a stored execution comes a projector of its own
        projector = self._projector
        try:
            return ask(projector)
        except UnknownIdError:
            if projector is self._projector:
                raise
            return ask(self._projector)
