"""`TaskDef`: one task, as its author wrote it; frozen, checked when it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, NoReturn

from msgspec import UNSET
from msgspec.structs import force_setattr as _set

from nerv.errors import Problem, WorkflowDefinitionError
from nerv.fields import NOTHING_SAID, UNNAMED, Fields, asks_for_more, check
from nerv.functions import name_of
from nerv.references import Names, Output, Outputs, fill, given, scan
from nerv.statuses import TaskPriority
from nerv.symbols import DIRECT, Group, Symbol


class TaskDef(Fields, frozen=True, eq=False):
    """A task: a function, what it needs, and how it wants to be run.

    Args:
        id: any string without `[`, `]` and `/`; default: the function's name.
        fn: any callable. Its first parameter gets the `TaskContext` if it is annotated so, or unannotated and named
            `ctx` or `context`. None waits for the Workflow, which refuses it.
        name, description: for people; `name` defaults to the id.
        dependencies: ids, TaskDefs or Outputs that must finish first (order only; passes no value).
        args, kwargs: values, and `Output` and `Param` references, also inside list, tuple, dict and namedtuple.
        priority: a `TaskPriority` or any int; of the ready tasks, higher starts first.
        pool: None (coroutine functions: "async", others: "thread"), "thread", "process", "async", "inline", or a pool
            of the `pools` setting.
        run_when: "all_completed"; "all_finished" (cleanup: also after failures and cancels); "any_completed".
        timeout: seconds that one attempt may run, counted from its function's start; then it fails with a
            `TaskTimeoutError`.
        retry_policy: a `RetryPolicy`, or an int (its `maximum_attempts`); None: one attempt.
        resources: name -> amount that an attempt holds while it runs, of what the `resources` setting offers.
        fallback: a value, or a callable given the error, that completes the task when its attempts are used up.
        compensate: undoes the completed task when the execution fails or is cancelled: called with the result.
        rate_limit: a `RateLimit`.
        circuit_breaker: a `CircuitBreaker`.
        cache: a `Cache`: reuse the result in later executions.
        durable: False: its result isn't kept in the journal; it runs again on recovery if something still needs it.
        metadata: a `TaskMetadata`.

    Raises:
        WorkflowDefinitionError: a field's value can't be right; it lists every such field.
    """

    id: str = ""
    fn: Callable[..., Any] | None = None

    is_nerv_definition: ClassVar[bool] = True
    wire: ClassVar[str] = DIRECT  # what leads to it

    def __post_init__(self) -> None:
        problems: list[str] = []
        task_id = self.id
        if type(task_id) is not str or not task_id:
            task_id = _own_id(task_id, self.fn, problems)
            _set(self, "id", task_id)
        if "[" in task_id or "]" in task_id or "/" in task_id:
            problems.append("an id can't hold '[', ']' or '/': those name dynamic tasks")
        if not self.name:
            _set(self, "name", task_id)
        if self.dependencies is not _NONE:
            _set(self, "dependencies", _ids(self.dependencies, problems))
        if self.args is not _NONE or self.kwargs is not UNNAMED:
            self._scan_arguments(problems)
        if not (
            callable(self.fn)
            and self.priority is _MEDIUM
            and self.run_when == "all_completed"
            and self.pool is None
            and self.timeout is None
            and self.retry_policy is None
            and self.resources is None
            and self.compensate is None
            and self.rate_limit is None
            and self.circuit_breaker is None
            and self.cache is None
            and self.fallback is UNSET
            and self.durable is True
            and self.metadata is NOTHING_SAID
            and not self._has_policies
            and self.name is task_id
            and self.description is _UNSAID
        ):
            if self.fn is not None and not callable(self.fn):
                problems.append(f"fn takes a callable, not {self.fn!r}")
            check(self, problems)
            _set(self, "_has_policies", asks_for_more(self))
        if problems:
            raise _refusal(task_id, problems)

    def _scan_arguments(self, problems: list[str]) -> None:
        args, kwargs = _arguments(self.args, self.kwargs, problems)
        found = Names()
        _set(self, "args", tuple([scan(value, found) for value in args]))
        if self.kwargs is not UNNAMED:
            _set(self, "kwargs", {key: scan(value, found) for key, value in kwargs.items()} if kwargs else UNNAMED)
        problems.extend(found.problems)
        if found.outputs:
            _set(self, "_outputs", tuple(found.outputs))
        if found.params:
            _set(self, "_params", found.params)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Ids of the tasks whose results this one is given."""
        return self._outputs

    @property
    def result(self) -> NoReturn:
        """A task isn't its result."""
        raise AttributeError(f"TaskDef {self.id!r} has no result; what stands for its result is Output({self.id!r})")

    @property
    def needs(self) -> tuple[str, ...]:
        """Ids of all tasks that must end before this one: declared and read."""
        read = self._outputs
        return self.dependencies if not read else tuple(dict.fromkeys(self.dependencies + read))

    @property
    def asks_for(self) -> Mapping[str, bool]:
        """Names of the params it reads; True: at least one use has no default."""
        return self._params

    params = asks_for

    @property
    def given(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """`args` and `kwargs` as they were written: the fields hold what `scan` made of containers with references."""
        return tuple([given(node) for node in self.args]), {key: given(node) for key, node in self.kwargs.items()}

    def bind(self, values: Mapping[str, Any], params: Mapping[str, Any]) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """The arguments of one attempt, references filled in (`nerv.references.fill` says with which errors)."""
        if not self._outputs and not self._params:
            return self.args, self.kwargs
        args = []
        for node in self.args:  # the commonest arguments, plain numbers and lists of plain Outputs, cost no call each
            kind = node.__class__
            if kind is int:
                args.append(node)
            elif kind is Outputs:
                try:
                    args.append([values[need] for need in node.ids])
                except KeyError:
                    args.append(fill(node, values, params))
            else:
                args.append(fill(node, values, params))
        kwargs = {key: fill(node, values, params) for key, node in self.kwargs.items()} if self.kwargs else self.kwargs
        return tuple(args), kwargs

    def seen(self, values: Mapping[str, Any], params: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """The results and the params of the execution as this task sees them, through the names that it uses."""
        return values, params

    @property
    def inside(self) -> tuple[TaskDef, ...]:
        """Tasks that it will add: what can be checked of them is checked before anything runs."""
        return ()

    @property
    def settings(self) -> tuple[Any, ...]:
        """Of a node: what it was given, which it is compared by."""
        return ()

    @property
    def symbol(self) -> Symbol:
        """What it looks like."""
        return Symbol(self.name)

    @property
    def throttle(self) -> str:
        """What is written on the wires that lead to it."""
        return ""

    @property
    def groups(self) -> tuple[Group, ...]:
        """Frames around other tasks of its workflow."""
        return ()

    def leads_by(self, task_id: str) -> str:  # noqa: ARG002
        """What is written on its wire to another task."""
        return ""

    def __repr__(self) -> str:
        shown = [
            f"{field}={value!r}"
            for field in _GIVEN[3:]
            if (value := getattr(self, field)) and not self._is_default(field) and value is not UNSET
        ]
        return f"TaskDef({', '.join([repr(self.id), name_of(self.fn) if self.fn else 'None', *shown])})"

    def _is_default(self, field: str) -> bool:
        return getattr(self, field) is getattr(_PLAINEST, field)

    def __reduce__(self) -> tuple[Any, ...]:
        fields = {name: getattr(self, name) for name in _GIVEN if not self._is_default(name)}
        fields["args"], fields["kwargs"] = self.given
        return _rebuilt, (fields,)


_GIVEN: Final = (
    "id", "fn", "name", "description", "dependencies", "args", "kwargs", "priority", "pool", "run_when", "timeout",
    "retry_policy", "resources", "fallback", "compensate", "rate_limit", "circuit_breaker", "durable", "cache",
    "metadata",
)  # fmt: skip


_NONE: Final = ()  # by identity: of all values that say nothing, the one that most tasks have
_UNSAID: Final = ""  # likewise
_MEDIUM: Final = TaskPriority.MEDIUM


def _rebuilt(fields: dict[str, Any]) -> TaskDef:
    return TaskDef(**fields)


def _refusal(task_id: str, problems: list[str]) -> WorkflowDefinitionError:
    return WorkflowDefinitionError([Problem(task_id, "task", f"task {task_id!r}: {text}") for text in problems])


def _own_id(given: object, fn: object, problems: list[str]) -> str:
    if isinstance(given, str) and given:
        return str(given)
    if given != "":
        problems.append(f"an id is a str, not {given!r}")
        return repr(given)
    name = getattr(fn, "__name__", None)
    if not isinstance(name, str) or name == "<lambda>":
        problems.append("a lambda, partial or callable object has no name of its own; give the TaskDef an id")
        return "?"
    return name


def _ids(dependencies: Any, problems: list[str]) -> tuple[str, ...]:
    if type(dependencies) is list or type(dependencies) is tuple:
        count = len(dependencies)
        if not count:
            return ()
        try:
            "".join(dependencies)  # the quickest way to see that all are str
        except TypeError:
            return _meant(dependencies, problems)
        return tuple(dependencies if count == 1 or len({*dependencies}) == count else dict.fromkeys(dependencies))
    if isinstance(dependencies, str):
        problems.append(f"dependencies takes a list, not one str; write dependencies=[{dependencies!r}]")
        return ()
    if isinstance(dependencies, (TaskDef, Output)) or not hasattr(type(dependencies), "__iter__"):
        problems.append(f"dependencies takes a list of ids, TaskDefs or Outputs, not {dependencies!r}")
        return ()
    return _meant(list(dependencies), problems)


def _meant(dependencies: Sequence[object], problems: list[str]) -> tuple[str, ...]:
    ids = [_id_of(dependency) for dependency in dependencies]
    wrong = [given for given, task_id in zip(dependencies, ids, strict=True) if task_id is None]
    problems += [f"a dependency is an id, a TaskDef or an Output, not {given!r}" for given in wrong]
    return tuple(dict.fromkeys(task_id for task_id in ids if task_id is not None))


def _id_of(dependency: object) -> str | None:
    if isinstance(dependency, TaskDef):
        return dependency.id
    if isinstance(dependency, Output):
        return dependency.task_id
    return str(dependency) if isinstance(dependency, str) else None


def _arguments(args: Any, kwargs: Any, problems: list[str]) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    if isinstance(args, str):
        problems.append(f"args takes a tuple, not one str; write args=({args!r},)")
        args = ()
    elif isinstance(args, (TaskDef, Output)):
        own_id = args.task_id if isinstance(args, Output) else args.id
        problems.append(f"args takes a tuple, not {args!r}; write args=(Output({own_id!r}),)")
        args = ()
    elif args.__class__ is not tuple:
        if not isinstance(args, (list, tuple)):
            problems.append(f"args takes a tuple, not {args!r}")
            args = ()
        args = tuple(args)
    if kwargs is not UNNAMED and kwargs.__class__ is not dict:
        if not isinstance(kwargs, Mapping):
            problems.append(f"kwargs takes a mapping, not {kwargs!r}")
            kwargs = {}
        kwargs = dict(kwargs)
    wrong = [key for key in kwargs if not isinstance(key, str)]
    if wrong:
        problems.append(f"kwargs takes names as keys, not {wrong[0]!r}")
    return args, kwargs


_PLAINEST: Final = TaskDef("plainest")
