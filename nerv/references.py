"""`Output` and `Param`: stand-ins for values that only exist while an execution runs, and how they are filled in.

A task's arguments are scanned once, when the TaskDef is made (`scan`). A container that holds no reference stays the
very object it was; one that does becomes a `Template`, and `fill` builds the real one for each attempt. References
hide inside exactly list, tuple, dict and namedtuple: anything else is the user's own business and is never opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Generic, NoReturn, TypeAlias, TypeVar

import msgspec

from nerv.errors import ResultUnavailableError

T = TypeVar("T")


class Missing:
    """The type of `MISSING`."""

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False

    def __reduce__(self) -> str:
        return "MISSING"


MISSING: Final = Missing()
"""Says that there is no value where None would be one."""


class Reference:
    """What `Output` and `Param` share: they stand for a value and can't be used as one."""

    __slots__ = ()

    def _refuse(self, what: str) -> NoReturn:
        raise TypeError(
            f"{self!r} stands for a value that doesn't exist yet: it can't be {what}. "
            "Pass it to a task as an argument; the task's function gets the value."
        )

    def __iter__(self) -> Iterator[Any]:
        self._refuse("iterated over")

    def __bool__(self) -> NoReturn:  # noqa: PLE0304  it never returns
        self._refuse("tested for truth")

    def __contains__(self, item: object) -> bool:
        self._refuse("searched")

    def __format__(self, spec: str) -> str:
        self._refuse("formatted into text")

    def __str__(self) -> NoReturn:  # noqa: PLE0307  it never returns
        self._refuse("turned into text (repr() shows the reference itself)")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{self!r} can't be changed")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{self!r} can't be changed")


class Output(Reference, Generic[T]):
    """The result of another task, and thereby a dependency on it.

    `Output("t")["rows"][0]` and `Output("t").attribute("x")` reach into the result. `default` is used when the task
    isn't COMPLETED at the moment the reader starts; without one the reader fails.
    """

    __slots__ = ("default", "path", "task_id")

    task_id: str
    default: Any
    path: tuple[tuple[str, Any], ...]

    def __init__(self, task_id: str, default: Any = MISSING) -> None:
        if not isinstance(task_id, str):
            raise TypeError(f"Output takes a task's id, a str, not {task_id!r}{_meant(task_id)}")
        if default is not MISSING:
            _check_plain(default, "a default")
        _set(self, "task_id", task_id)
        _set(self, "default", default)
        _set(self, "path", ())

    def __getitem__(self, key: Any) -> Output[Any]:
        _check_plain(key, "a key")
        return self._reaching(("item", key))

    def attribute(self, name: str) -> Output[Any]:
        """The attribute `name` of the result."""
        return self._reaching(("attribute", name))

    def _reaching(self, step: tuple[str, Any]) -> Output[Any]:
        deeper: Output[Any] = Output(self.task_id, self.default)
        _set(deeper, "path", (*self.path, step))
        return deeper

    def __repr__(self) -> str:
        default = "" if self.default is MISSING else ", default=..."
        steps = (f"[{key!r}]" if how == "item" else f".attribute({key!r})" for how, key in self.path)
        return f"Output({self.task_id!r}{default}){''.join(steps)}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _output, (self.task_id, self.default, self.path)

    def __hash__(self) -> int:
        return id(self)

    @staticmethod
    def first(*task_ids: str) -> First:
        """The result of the first of these tasks, in this order, that is COMPLETED: the join after a router."""
        return First(task_ids)


class First(Reference):
    """The result of the first of some tasks that is COMPLETED, and a dependency on all; see `Output.first`."""

    __slots__ = ("ids", "whole")

    ids: tuple[str, ...]
    whole: Output[Any]  # what is reached into, of whichever it is

    def __init__(self, task_ids: tuple[str, ...], whole: Output[Any] | None = None) -> None:
        if not task_ids:
            raise TypeError("Output.first takes the ids of tasks: Output.first('big', 'small')")
        for task_id in task_ids:
            if not isinstance(task_id, str):
                raise TypeError(f"Output.first takes ids of tasks, not {task_id!r}{_meant(task_id)}")
        _set(self, "ids", tuple(task_ids))
        _set(self, "whole", Output("") if whole is None else whole)

    def __getitem__(self, key: Any) -> First:
        return First(self.ids, self.whole[key])

    def attribute(self, name: str) -> First:
        """The attribute `name` of the result."""
        return First(self.ids, self.whole.attribute(name))

    def __repr__(self) -> str:
        return f"Output.first({', '.join(map(repr, self.ids))}){repr(self.whole)[len(repr(Output(''))) :]}"

    def __reduce__(self) -> tuple[Any, ...]:
        return First, (self.ids, self.whole)

    def __hash__(self) -> int:
        return id(self)

    def chosen(self, values: Mapping[str, Any]) -> Output[Any]:
        """What it stands for.

        Raises:
            ResultUnavailableError: none of them is COMPLETED.
        """
        for task_id in self.ids:
            if task_id in values:
                return _output(task_id, MISSING, self.whole.path)
        raise ResultUnavailableError(f"{self!r} has no result: none of these tasks is COMPLETED")


class Param(Reference):
    """One of the params that an execution is given. Without a default it must be given, which is checked first."""

    __slots__ = ("default", "name")

    name: str
    default: Any

    def __init__(self, name: str, default: Any = MISSING) -> None:
        if not isinstance(name, str):
            raise TypeError(f"Param takes a param's name, a str, not {name!r}")
        if default is not MISSING:
            _check_plain(default, "a default")
        _set(self, "name", name)
        _set(self, "default", default)

    def __getitem__(self, key: object) -> NoReturn:
        self._refuse("reached into")

    def __repr__(self) -> str:
        return f"Param({self.name!r})" if self.default is MISSING else f"Param({self.name!r}, default=...)"

    def __reduce__(self) -> tuple[Any, ...]:
        return Param, (self.name, self.default)


_set = object.__setattr__


def _output(task_id: str, default: Any, path: tuple[tuple[str, Any], ...]) -> Output[Any]:
    output: Output[Any] = Output(task_id, default)
    _set(output, "path", path)
    return output


def _check_plain(value: object, what: str) -> None:
    if id(type(value)) not in _PLAIN and _refers(value):
        raise TypeError(f"{what} is a plain value, not {value!r}; give the task both as arguments, and let it choose")


def _meant(value: object) -> str:
    own_id = getattr(value, "id", None)
    return f"; write Output({own_id!r})" if isinstance(own_id, str) else ""


class Template:
    """A container with references in it, to be built anew for each attempt from `parts` by `build`; `given` is the
    container itself.
    """

    __slots__ = ("build", "given", "parts")

    def __init__(self, build: Callable[[list[Any]], Any], parts: list[Any], given: Any) -> None:
        self.build = build
        self.parts = parts
        self.given = given

    def __repr__(self) -> str:
        return repr(self.given)


class Outputs(msgspec.Struct, frozen=True, gc=False):
    """The commonest template, a list of nothing but plain Outputs, kept as the ids alone.

    At a million tasks it matters that the garbage collector needn't visit it (`gc=False`: it holds only text).
    """

    ids: tuple[str, ...]

    def __repr__(self) -> str:
        return repr([Output(task_id) for task_id in self.ids])


class Names:
    """What a scan found: the ids of outputs (in order), params by name, and what can't be.

    `seen` holds what became of each container, by its `id` (and the container, so that no other one gets that id).
    """

    __slots__ = ("outputs", "params", "problems", "seen")

    def __init__(self) -> None:
        self.outputs: dict[str, None] = {}
        self.params: dict[str, bool] = {}  # name -> whether some use of it has no default
        self.problems: list[str] = []
        self.seen: dict[int, tuple[Any, Node]] = {}


Node: TypeAlias = Any
"""What `fill` reads: a Reference, a Template, an Outputs, or any other object, which stands for itself."""


def scan(value: Any, found: Names, depth: int = 0) -> Node:
    """Note the references inside `value`, and return what `fill` needs: `value` itself when there are none.

    A container that is in several places is looked at once. One that holds itself is left as it is there (the
    references beside the loop are still found). Containers may be nested as deeply as you like, references some
    hundred levels deep.
    """
    kind = type(value)
    if kind is Output:
        found.outputs[value.task_id] = None
        return value
    if id(kind) in _PLAIN:
        return value
    if kind is First:
        found.outputs.update(dict.fromkeys(value.ids))
        return value
    if kind is Param:
        found.params[value.name] = found.params.get(value.name, False) or value.default is MISSING
        return value
    if kind is list or kind is tuple or kind is dict or (isinstance(value, tuple) and hasattr(value, "_fields")):
        known = found.seen.get(id(value))
        if known is not None:
            return known[1]
        found.seen[id(value)] = value, value
        node = value if depth == _DEEP and not _refers(value) else _scan_container(value, found, depth)
        found.seen[id(value)] = value, node
        return node
    if kind is set or kind is frozenset:
        if _hides(value):
            found.problems.append("a reference inside a set can't be filled in; use a list")
    elif getattr(kind, "is_nerv_definition", False):
        found.problems.append(f"a TaskDef is no value; write Output({value.id!r}) for its result")
    return value


def _scan_container(value: Any, found: Names, depth: int) -> Node:
    kind = type(value)
    if depth > _DEEPEST:
        found.problems.append(f"references are looked for in {_DEEPEST} containers inside each other, not more")
        return value
    if kind is list:
        ids = [one.task_id for one in value if type(one) is Output and not one.path and one.default is MISSING]
        if ids and len(ids) == len(value):
            found.outputs.update(dict.fromkeys(ids))
            return Outputs(tuple(ids))
    if kind is dict and _hides(value):
        found.problems.append("a reference can't be a dict key; it can be a value")
    members = list(value.values() if kind is dict else value)
    parts = [scan(member, found, depth + 1) for member in members]
    if all(part is member and not isinstance(part, Reference) for part, member in zip(parts, members, strict=True)):
        return value
    if kind is list or kind is tuple:
        return Template(_as_is if kind is list else tuple, parts, value)
    if kind is dict:
        keys = list(value)
        return Template(lambda values: dict(zip(keys, values, strict=True)), parts, value)
    return Template(kind._make, parts, value)


def _as_is(values: list[Any]) -> list[Any]:
    return values


def _hides(members: Iterable[Any]) -> bool:
    """Whether a reference is among the members of a set or the keys of a dict, where it can't be filled in."""
    return any(isinstance(member, Reference) or (type(member) is tuple and _refers(member)) for member in members)


def _refers(value: Any) -> bool:
    """Whether there is anything in `value` that `scan` would note. Goes as deep as it must without recursion."""
    todo, seen = [value], set()
    while todo:
        one = todo.pop()
        kind = type(one)
        if isinstance(one, Reference) or getattr(kind, "is_nerv_definition", False):
            return True
        held = id(kind) in _CONTAINERS or (isinstance(one, tuple) and hasattr(one, "_fields"))
        if held and id(one) not in seen:
            seen.add(id(one))
            todo += one
            if kind is dict:
                todo += one.values()
    return False


_PLAIN: Final = frozenset(map(id, (str, int, float, bool, bytes, type(None))))  # a user's class may not be hashable
_CONTAINERS: Final = frozenset(map(id, (list, tuple, dict, set, frozenset)))
_DEEP: Final = 30
"""Containers inside each other from where on it pays to know first whether there is any reference at all."""
_DEEPEST: Final = 100
"""Containers inside each other in which references are looked for; Python's own recursion limit isn't far."""


def given(node: Node) -> Any:
    """What the author of a task wrote where `scan` made `node` of it."""
    kind = type(node)
    if kind is Outputs:
        return [Output(task_id) for task_id in node.ids]
    return node.given if kind is Template else node


def fill(node: Node, values: Mapping[str, Any], params: Mapping[str, Any]) -> Any:
    """The value that `node` stands for.

    Raises:
        ResultUnavailableError: an Output without a default has no result, or its path doesn't exist in it.
    """
    kind = type(node)
    if kind is Output:
        return _output_value(node, values)
    if kind is Outputs:
        try:
            return [values[task_id] for task_id in node.ids]
        except KeyError:
            return [_output_value(Output(task_id), values) for task_id in node.ids]
    if kind is Template:
        return node.build([fill(part, values, params) for part in node.parts])
    if kind is First:
        return _output_value(node.chosen(values), values)
    if kind is Param:
        return params.get(node.name, node.default)
    return node


def _output_value(output: Output[Any], values: Mapping[str, Any]) -> Any:
    try:
        value = values[output.task_id]
    except KeyError:
        if output.default is not MISSING:
            return output.default
        raise ResultUnavailableError(f"{output!r} has no result: task {output.task_id!r} isn't COMPLETED") from None
    if output.path:
        for how, key in output.path:
            try:
                value = value[key] if how == "item" else getattr(value, key)
            except Exception as error:
                raise ResultUnavailableError(
                    f"{output!r} isn't in the result of task {output.task_id!r}: {type(error).__name__}: {error}"
                ) from error
    return value
