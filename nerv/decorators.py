"""`@task` and `@workflow`: graphs written as ordinary Python functions.

A `Task` is the function itself, with policies. Called anywhere else it runs; called inside a `@workflow` body it adds a
TaskDef to the workflow that is being recorded, and returns that task's `Output`. What is being recorded is a context
variable, so a body that raises, or two bodies on two threads, can't get in each other's way.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from typing import Any, ClassVar, Generic, ParamSpec, TypeVar, overload

from nerv.errors import Problem, WorkflowDefinitionError
from nerv.functions import check_call, is_coroutine_function, name_of
from nerv.references import Output
from nerv.tasks import TaskDef
from nerv.workflows import Workflow

P = ParamSpec("P")
R = TypeVar("R")

_recording: ContextVar[Recording | None] = ContextVar("nerv_recording", default=None)


def outside_recording() -> Context:
    """A copy of the present context in which Tasks are called, not recorded: what an execution runs in."""
    context = copy_context()
    if _recording in context:
        context.run(_recording.set, None)
    return context


class Recording:
    """The tasks that a `@workflow` body has added so far."""

    def __init__(self) -> None:
        self.tasks: list[TaskDef] = []
        self._uses: dict[str, int] = {}

    def add(self, task: Task[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], after: Any) -> Output[Any]:
        """Add a call of `task`; the ids are `parse`, `parse-2`, `parse-3` ..."""
        base = str(task.options.get("id") or getattr(task, "__name__", ""))  # without a name, TaskDef says what to do
        given = {"args": args, "kwargs": kwargs} if args or kwargs else {}
        if given or not ("args" in task.options or "kwargs" in task.options):
            check_call(task.fn, args, kwargs)
        definition = task.define(id=self.base_id(base), dependencies=task.behind(after), **given)
        self.tasks.append(definition)
        return Output(definition.id)

    def base_id(self, base: str) -> str:
        """The id of one more of that name."""
        count = self._uses[base] = self._uses.get(base, 0) + 1
        return base if count == 1 else f"{base}-{count}"


class Task(Generic[P, R]):
    """A function with policies. Called, it runs the function; inside a `@workflow` body it adds a task instead.

    Attributes:
        fn: the plain function.
        options: the TaskDef fields that `@task(...)` was given.
    """

    is_nerv_task: ClassVar[bool] = True

    def __init__(self, fn: Callable[P, R], options: dict[str, Any]) -> None:
        if not callable(fn):
            raise TypeError(
                f"@task takes a function, not {fn!r}; its options are given by keyword: @task(pool='process')"
            )
        self.fn = fn
        self.options = options
        functools.update_wrapper(self, fn)
        TaskDef(**{"id": "checked", **options, "fn": fn})  # wrong options are found where they are written

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function; inside a `@workflow` body: add a task (`after=[...]` adds order), and return its Output."""
        recording = _recording.get()
        if recording is None:
            return self.fn(*args, **kwargs)
        after = kwargs.pop("after", ())
        return recording.add(self, args, dict(kwargs), after)  # type: ignore[return-value]  # in a body: an Output

    def map(self, items: Any, *, max_parallel: int | None = None, after: Any = ()) -> Output[Any]:
        """Inside a `@workflow` body: add a `Buffer` that runs this for each item, and return the Output of the list of
        its results. Each item keeps the Task's own policies. `after=[...]` adds order.

        Raises:
            TypeError: not inside a body.
        """
        from nerv.nodes.buffer import Buffer

        recording = _recording.get()
        name = str(self.options.get("id") or getattr(self, "__name__", ""))
        if recording is None:
            raise TypeError(f"{name}.map() adds a Buffer to the workflow whose body calls it; here, call {name}(item)")
        target, needs = self.define(dependencies=()), self.behind(after)  # not each item, but the whole comes behind
        node = Buffer(recording.base_id(name), items, target, max_parallel, dependencies=needs, name=name)
        recording.tasks.append(node)
        return Output(node.id).attribute("results")

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else Task(self.fn.__get__(instance, owner), self.options)

    def behind(self, after: Any) -> Any:
        """What a call in a body comes behind: `after`, and what the decorator was given."""
        always = self.options.get("dependencies")
        if not always or isinstance(after, (str, TaskDef, Output)):  # what can't be is refused by the TaskDef
            return after
        return [*always, *after]

    def define(self, **fields: Any) -> TaskDef:
        """A TaskDef of this function: the decorator's options, overridden by `fields` (`id=`, `args=` ...)."""
        return TaskDef(fn=self, **{**self.options, **fields})

    def __reduce__(self) -> tuple[Any, ...]:
        return _by_name, (self.fn.__module__, self.fn.__qualname__)

    def __repr__(self) -> str:
        return f"<Task {name_of(self.fn)}>"

    __name__: str


def _by_name(module: str, qualname: str) -> Any:
    import importlib

    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    return found


@overload
def task(fn: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(**options: Any) -> Callable[[Callable[P, R]], Task[P, R]]: ...
def task(fn: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a function a `Task`: `@task`, or `@task(pool="process", priority=3)` with the fields of `TaskDef`.

    Raises:
        WorkflowDefinitionError: an option's value can't be right.
        TypeError: an option that TaskDef doesn't have.
    """
    if fn is not None:
        return Task(fn, options)
    return lambda function: Task(function, options)


def add(node: TaskDef) -> Output[Any]:
    """Inside a `@workflow` body: add a node or TaskDef to the workflow, and return its Output.

    Raises:
        TypeError: not a TaskDef, or not inside a body.
    """
    if not isinstance(node, TaskDef):
        raise TypeError(f"add takes a node or a TaskDef, not {node!r}; a Task is added by calling it")
    recording = _recording.get()
    if recording is None:
        raise TypeError(
            f"add() adds {node.id!r} to the workflow whose body calls it; here, write Workflow(name, [...])"
        )
    recording.tasks.append(node)
    return Output(node.id)


class WorkflowFactory(Generic[P]):
    """What `@workflow` makes of a function: called, it runs the body once to record the graph, and gives a Workflow."""

    is_nerv_workflow: ClassVar[bool] = True

    def __init__(self, body: Callable[P, Any], options: dict[str, Any]) -> None:
        self.body = body
        self.name: str = options.get("name") or str(getattr(body, "__name__", "workflow"))
        self.description: str = options.get("description") or (getattr(body, "__doc__", None) or "").strip()
        self.timeout: float | None = options.get("timeout")
        functools.update_wrapper(self, body)
        if is_coroutine_function(body):
            raise TypeError(
                f"the body of workflow {self.name!r} is run to record a graph, so it can't be a coroutine function"
            )

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Workflow:
        """Run the body once to record the graph.

        Raises:
            WorkflowDefinitionError: it called no task, or what it recorded can't run.
        """
        recording = Recording()
        token = _recording.set(recording)
        try:
            result = self.body(*args, **kwargs)
        finally:
            _recording.reset(token)
        if not recording.tasks:
            problem = f"the body of workflow {self.name!r} calls no task; decorate what it calls with @task"
            raise WorkflowDefinitionError([Problem(None, "empty", problem)])
        made = Workflow(self.name, recording.tasks, self.description, self.timeout, result)
        if not args and not kwargs and "<locals>" not in self.body.__qualname__ and self.body.__module__ != "__main__":
            made.came_from(f"{self.body.__module__}:{self.body.__qualname__}")
        return made

    def __repr__(self) -> str:
        return f"<@workflow {self.name}: call it to get a Workflow>"


@overload
def workflow(body: Callable[P, Any], /) -> WorkflowFactory[P]: ...
@overload
def workflow(
    *, name: str = ..., description: str = ..., timeout: float = ...
) -> Callable[[Callable[P, Any]], WorkflowFactory[P]]: ...
def workflow(body: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a function a workflow factory: calling it records the tasks that its body calls, and returns a `Workflow`.

    What the body returns (an Output, or a list, tuple or dict of them) is the execution's `.result`.
    """
    unknown = set(options) - {"name", "description", "timeout"}
    if unknown:
        raise TypeError(f"@workflow takes name, description and timeout, not {', '.join(sorted(unknown))}")
    if body is not None:
        return WorkflowFactory(body, options)
    return lambda function: WorkflowFactory(function, options)
