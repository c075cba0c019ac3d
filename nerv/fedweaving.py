"""`FedWeaver`: makes the workflow of a fed flow: a Source, and a Station for each step of a message's lane."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nerv.errors import WorkflowDefinitionError
from nerv.references import Output, Param
from nerv.stations import DIRECT, Buffered, Source, Station
from nerv.tasks import TaskDef
from nerv.weaving import Exit, Step, Weaver
from nerv.workflows import Workflow

SOURCE = "messages"
"""The id of the Source."""


class FedWeaver(Weaver):
    """Weaves one fed flow.

    Args:
        name: the workflow's name.
        trigger: where messages come from.
    """

    taken = (SOURCE,)

    def __init__(self, name: str, trigger: Any) -> None:
        super().__init__(name)
        self.last = Exit(Param("item"))
        self._trigger = trigger
        self._stretch = DIRECT
        self._outside: list[int] = []  # for each `when` that is open, the stretch that it is in
        self._stretch_of: dict[str, int] = {}
        self._limits: list[int | None] = []

    def workflow(self, steps: Iterable[Step]) -> Workflow:
        """The Workflow.

        Raises:
            WorkflowDefinitionError: lists everything that is wrong.
        """
        try:
            lane = super().workflow(steps)
            stretches = tuple([self._stretch_of[step] for step in lane.tasks])
            source = Source(SOURCE, self._trigger, lane, stretches, tuple(self._limits))
        except WorkflowDefinitionError:
            self._look_at_trigger()
            raise WorkflowDefinitionError(self.problems, f"flow {self.name!r} can't be built") from None
        stations = [self._station(step) for step in lane.tasks.values()]
        return Workflow(self.name, [source, *stations], result=Output(SOURCE))

    def _look_at_trigger(self) -> None:
        """Have what is wrong with the trigger among the problems."""
        try:
            Source(SOURCE, self._trigger, Workflow(self.name, []))
        except WorkflowDefinitionError as error:
            self.problems += error.problems

    def _station(self, step: TaskDef) -> Station:
        kind = Station if self._stretch_of[step.id] == DIRECT else Buffered
        return kind(step.id, step, name=step.name, dependencies=step.needs or (SOURCE,), run_when="all_finished")

    def _add(self, task: TaskDef) -> str:
        self._stretch_of[task.id] = self._stretch
        return super()._add(task)

    def _buffer(self, max_parallel: Any) -> None:
        if max_parallel is not None and (type(max_parallel) is not int or max_parallel < 1):
            self._note(None, f"buffer takes a whole number from 1 as max_parallel, or None, not {max_parallel!r}")
        self._stretch = len(self._limits)
        self._limits.append(max_parallel)

    def _collect(self, id: Any, quorum: Any, timeout: Any, remaining: Any) -> None:  # noqa: ARG002  as unfed
        outside = self._outside[-1] if self._outside else DIRECT
        if self._stretch == outside:
            self._note(None, "collect() without buffer() before it, in the same branch; write .buffer() first")
        if quorum is not None or timeout is not None or remaining != "continue":
            self._note(None, "collect() takes nothing in a fed flow: messages have no number to wait for")
        self._stretch = outside

    def _when(self, predicate: Any, id: Any) -> None:
        self._outside.append(self._stretch)
        super()._when(predicate, id)

    def _otherwise(self) -> None:
        self._leave_branch()
        super()._otherwise()

    def _end_when(self) -> None:
        self._leave_branch()
        super()._end_when()
        del self._outside[-1:]

    def _leave_branch(self) -> None:
        """A buffer in a branch ends with the branch."""
        if self._outside:
            self._stretch = self._outside[-1]
