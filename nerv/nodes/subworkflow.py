"""`SubWorkflow`: a workflow as one task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from msgspec import UNSET

from nerv.context import TaskContext
from nerv.nodes.base import Node, entered, not_fed, required, stays_here
from nerv.outcomes import Grow
from nerv.references import Reference
from nerv.symbols import Symbol
from nerv.tasks import TaskDef
from nerv.workflows import Workflow


class SubWorkflow(Node, frozen=True, eq=False):
    """Runs a workflow. Its result is that of an execution of it.

    Args:
        id: its tasks are called `id/task`.
        workflow: the workflow.
        params: its params, name -> value or reference; it sees no others.
        fields: as of all nodes.

    Raises:
        WorkflowDefinitionError: a field's value can't be right, or a param is missing.
    """

    workflow: Any = UNSET
    params: Any = None

    own: ClassVar[tuple[str, ...]] = ("workflow", "params")
    values: ClassVar[tuple[str, ...]] = ("params",)
    shape: ClassVar[tuple[str, str]] = ("[[", "]]")

    def arguments(self, problems: list[str], targets: list[TaskDef]) -> tuple[Any, ...]:  # noqa: ARG002
        """The params."""
        workflow = required(self.workflow, "workflow=, the Workflow to run", problems)
        given = {} if self.params is None else self.params
        if workflow is UNSET:
            return (given,)
        if not isinstance(workflow, Workflow):
            hint = "; call it to get one" if getattr(type(workflow), "is_nerv_workflow", False) else ""
            problems.append(f"workflow takes a Workflow, not {workflow!r}{hint}")
        elif problem := not_fed(workflow, "its workflow"):
            problems += problem
        elif isinstance(given, Mapping):
            missing = [name for name, is_required in workflow.params.items() if is_required and name not in given]
            problems += [f"workflow {workflow.name!r} needs the param {name!r}; give it in params=" for name in missing]
        elif not isinstance(given, Reference):
            problems.append(f"params takes a mapping of names to values, not {given!r}")
        return (given,)

    @property
    def inside(self) -> tuple[TaskDef, ...]:
        """The workflow's tasks."""
        return tuple(self.workflow.tasks.values())

    @property
    def symbol(self) -> Symbol:
        """A frame around the workflow."""
        return super().symbol._replace(within=self.workflow)

    @property
    def note(self) -> str:
        """The workflow's name."""
        return "" if self.workflow.name == self.name else self.workflow.name

    @stays_here
    def act(self, ctx: TaskContext, params: Mapping[str, Any]) -> Grow:
        """Add its tasks."""
        return entered(self.workflow, params, ctx.task_id)
