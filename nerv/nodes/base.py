"""`Node`: what all nodes share, and how they take what they are to run: a function, a TaskDef or a Workflow."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar, Final, TypeVar

import msgspec
from msgspec import UNSET
from msgspec.structs import force_setattr as _set

from nerv.context import TaskContext
from nerv.errors import Problem, WorkflowDefinitionError
from nerv.functions import name_of
from nerv.outcomes import Grow
from nerv.references import Output
from nerv.symbols import Symbol
from nerv.tasks import TaskDef
from nerv.workflows import Workflow

F = TypeVar("F", bound=Callable[..., Any])

_REFUSED: Final[tuple[tuple[str, Any], ...]] = (
    ("args", ()), ("kwargs", {}), ("pool", None), ("resources", None), ("compensate", None), ("rate_limit", None),
    ("circuit_breaker", None), ("cache", None), ("fn", None), ("retry_policy", None),
)  # fmt: skip


class Ordered(msgspec.StructMeta):
    """The class of nodes: a field that all tasks have may stand among a node's own where they are given by position."""

    def __call__(self, *given: Any, **fields: Any) -> Any:
        """A node, of its fields in the class's `order`, or by name."""
        order: tuple[str, ...] = self.order[: len(given)]  # type: ignore[attr-defined]  # Node's
        if len(order) == len(given) and fields.keys().isdisjoint(order):
            fields.update(zip(order, given, strict=True))
            given = ()
        return super().__call__(*given, **fields)


class Node(TaskDef, frozen=True, eq=False, kw_only=True, metaclass=Ordered):
    """A task that steers. Subclasses give it `arguments`, which are checked and filled in, and `act`, which is called
    with them.
    """

    fn: Callable[..., Any] | None = None
    _targets: tuple[TaskDef, ...] = ()

    order: ClassVar[tuple[str, ...]] = ()  # its fields by position, if that isn't id and then its own
    takes: ClassVar[tuple[str, ...]] = ()  # what it takes besides the fields that all nodes take
    own: ClassVar[tuple[str, ...]] = ()  # its own fields
    runs: ClassVar[tuple[str, ...]] = ()  # those of them that say what it runs
    values: ClassVar[tuple[str, ...]] = ()  # those of them that are the user's values, and no part of fingerprints

    def __post_init__(self) -> None:
        kind = type(self).__name__
        if not isinstance(self.id, str) or not self.id:
            raise WorkflowDefinitionError([Problem(None, "task", f"a {kind} needs an id: {kind}('name', ...)")])
        problems = [
            f"a {kind} takes no {name}=; give it to the task that it runs"
            for name, default in _REFUSED
            if name not in self.takes and getattr(self, name) != default
        ]
        targets: list[TaskDef] = []
        arguments = self.arguments(problems, targets)
        _set(self, "_targets", tuple(targets))
        _set(self, "fn", self.act)
        if not problems:
            _set(self, "args", arguments)
        found = [f"task {self.id!r}: {problem}" for problem in problems]
        try:
            super().__post_init__()
        except WorkflowDefinitionError as error:
            found = [problem.message for problem in error.problems] + found
        if found:
            raise WorkflowDefinitionError([Problem(self.id, "task", problem) for problem in found])
        if targets:
            self._need_what_targets_need(targets)

    def _need_what_targets_need(self, targets: list[TaskDef]) -> None:
        outputs = dict.fromkeys(self._outputs)
        dependencies = dict.fromkeys(self.dependencies)
        params = dict(self._params)
        for target in targets:
            outputs.update(dict.fromkeys(target.outputs))
            dependencies.update(dict.fromkeys(target.dependencies))
            for name, is_required in target.asks_for.items():
                params[name] = params.get(name, False) or is_required
        _set(self, "_outputs", tuple(outputs))
        _set(self, "dependencies", tuple(dependencies))
        _set(self, "_params", params)

    def arguments(self, problems: list[str], targets: list[TaskDef]) -> tuple[Any, ...]:
        """What `act` is called with, references not filled in. Notes what is wrong, and the tasks that it will run."""
        raise NotImplementedError

    def act(self, *args: Any) -> Any:
        """Called in place of a task's function; returns an outcome."""
        raise NotImplementedError

    def objections(self, dependents: Collection[str], known: Mapping[str, TaskDef]) -> list[str]:  # noqa: ARG002
        """What is wrong with its place in a workflow, among the ids of those that need it, and all tasks by id."""
        return []

    @property
    def inside(self) -> tuple[TaskDef, ...]:
        """Tasks that it will add, and those of the workflows among them."""
        within = [
            one for task in self._targets if isinstance(task.fn, Enter) for one in task.fn.workflow.tasks.values()
        ]
        return (*self._targets, *within)

    shape: ClassVar[tuple[str, str]] = ("[", "]")

    @property
    def symbol(self) -> Symbol:
        """What it looks like: its kind and its note, and the workflow that it runs."""
        only = self._targets[0].fn if len(self._targets) == 1 else None
        within = only.workflow if isinstance(only, Enter) else None
        return Symbol(self.name, type(self).__name__, self.note, self.shape, within)

    @property
    def note(self) -> str:
        """What a picture says of it besides."""
        called = [one.name for one in self._targets]
        return "" if called == [self.name] else ", ".join(called)

    @property
    def terms(self) -> str:
        """Its policies and its own settings as text, the same in every process, for fingerprints."""
        told = [_told(getattr(self, name)) for name in self.own if name not in self.runs and name not in self.values]
        return f"{super().terms}{[*told, _told(self._targets)]!r}"

    @property
    def settings(self) -> tuple[Any, ...]:
        """What it was given, and the tasks that were made of what it runs, by which workflows are compared."""
        return (*[getattr(self, name) for name in self.own if name not in self.runs], self._targets)

    def __repr__(self) -> str:
        own = [f"{name}={getattr(self, name)!r}" for name in self.own]
        return f"{type(self).__name__}({', '.join([repr(self.id), *own])})"

    def __reduce__(self) -> tuple[Any, ...]:
        shared = (
            "id",
            "name",
            "description",
            "dependencies",
            "priority",
            "run_when",
            "timeout",
            "fallback",
            "metadata",
            "durable",
        )
        fields = {name: getattr(self, name) for name in (*shared, *self.takes, *self.own)}
        return _rebuilt, (type(self), fields)


def _rebuilt(kind: type[Node], fields: dict[str, Any]) -> Node:
    return kind(**fields)


def _told(value: Any) -> Any:
    """A setting in a fingerprint: callables by name, workflows by theirs, plain settings as they are, no values."""
    if isinstance(value, Workflow):
        return value.fingerprint
    if isinstance(value, TaskDef):
        whole = value.fn.workflow.fingerprint if isinstance(value.fn, Enter) else ""
        return (name_of(value.fn) if value.fn is not None else "", whole, value.pool, value.terms)
    if callable(value):
        return name_of(value)
    if isinstance(value, (list, tuple)):
        return [_told(one) for one in value]
    if isinstance(value, Mapping):
        return [(repr(key), _told(one)) for key, one in value.items()]
    return value if isinstance(value, (str, int, float, bool, type(None))) else type(value).__name__


def stays_here(act: F) -> F:
    """Marks what is nerv's own: it needs the engine's process, whatever the default pool is."""
    act.stays_here = True  # type: ignore[attr-defined]  # read in admission
    return act


class Enter:
    """The function of a task that is a whole workflow: the item is its param `item`, beside the execution's own."""

    stays_here = True
    is_nerv_entry: ClassVar[bool] = True

    def __init__(self, workflow: Workflow) -> None:
        self.workflow = workflow
        self.__qualname__ = f"Workflow({workflow.name!r})"

    def __call__(self, ctx: TaskContext, item: Any) -> Grow:
        """Add the workflow's tasks."""
        return entered(self.workflow, {**ctx.params, "item": item}, ctx.task_id)


def entered(workflow: Workflow, params: Mapping[str, Any], task_id: str) -> Grow:
    """What a task returns that is a whole workflow.

    Raises:
        WorkflowDefinitionError: a param is missing.
    """
    missing = [name for name, is_required in workflow.params.items() if is_required and name not in params]
    if missing:
        listed = ", ".join(map(repr, missing))
        text = f"task {task_id!r}: workflow {workflow.name!r} needs the params {listed}, and isn't given them"
        raise WorkflowDefinitionError([Problem(task_id, "param", text)])
    return Grow(tasks=tuple(workflow.tasks.values()), result=workflow.result_spec, params=params, sees=False)


def as_task(given: Any, what: str, problems: list[str]) -> TaskDef:
    """The task that a node runs: `given` is a function, a TaskDef or a Workflow."""
    if isinstance(given, Workflow):
        problems += not_fed(given, what)
        task = TaskDef("workflow", Enter(given), name=given.name)
        asked = {name: is_required for name, is_required in given.params.items() if name != "item"}
        _set(task, "_params", asked)
        return task
    if isinstance(given, Node):
        problems.append(f"{what} can't be a node; put it into a Workflow: Workflow('name', [{given!r}])")
    elif isinstance(given, TaskDef):
        if given.fn is None:
            problems.append(f"{what}, task {given.id!r}, has no function; give it fn=...")
        return given
    elif getattr(type(given), "is_nerv_task", False):
        return given.define(id=_name(given))  # type: ignore[no-any-return]  # a Task
    elif getattr(type(given), "is_nerv_workflow", False):
        problems.append(f"{what} is {given!r}")
    elif callable(given):
        return TaskDef(_name(given), given)
    else:
        problems.append(f"{what} takes a function, a TaskDef or a Workflow, not {given!r}")
    return _NOTHING


def not_fed(workflow: Workflow, what: str) -> list[str]:
    """Why a node can't run a fed flow, if it is one."""
    if not any(getattr(type(task), "feeds", False) for task in workflow.tasks.values()):
        return []
    fed = f"{what} is the fed flow {workflow.name!r}, which takes messages until it is closed"
    return [f"{fed}; give its steps to a Flow without a trigger, or start it by itself and send it messages"]


def _name(fn: Any) -> str:
    name = str(getattr(fn, "__name__", type(fn).__name__))
    return "function" if any(sign in name for sign in "<[]/") else name


def after(task: TaskDef, first: Any) -> TaskDef:
    """A copy of the task, with `first`, a value or an Output, before its own arguments."""
    twin = copy.copy(task)
    _set(twin, "args", (first, *task.args))
    if isinstance(first, Output):
        _set(twin, "_outputs", tuple(dict.fromkeys((first.task_id, *task.outputs))))
    return twin


def required(value: Any, what: str, problems: list[str]) -> Any:
    """The value, which must have been given."""
    if value is UNSET:
        problems.append(f"it needs {what}")
    return value


def _nothing() -> None:
    """Stands in for a function that is missing."""


_NOTHING: Final = TaskDef("nothing", _nothing)
