"""What of a call is sent to a worker process, and what can't be: seen before anything runs, and once more for real.

Functions go by name: pickle writes down module and qualified name, the worker imports it. What has no importable name,
a lambda or a function inside another, is refused with the reason. The exception is a `__main__` that can't be imported
anywhere else (an interactive session, a notebook, `python -c`): all that is defined in it goes by value, through
cloudpickle. Named functions are pickled once, and sent once to each worker, which keeps them by `place`.

Values go as they pickle, else as they cloudpickle. Before an execution starts, arguments that are more than plain
scalars are pickled into nothing (`_Void`), so a large one costs time but no memory.
"""

from __future__ import annotations

import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, Final

import cloudpickle

from nerv.calls import Call
from nerv.context import TaskContext
from nerv.errors import NervError, described
from nerv.functions import innermost, is_coroutine_function, name_of
from nerv.pools.script import location
from nerv.pools.wire import PROTOCOL, packed, unsendable
from nerv.references import Outputs, Reference, Template, given
from nerv.tasks import TaskDef

SCALARS: Final = frozenset(map(id, (int, float, bool, str, bytes, complex, type(None))))
"""By `id`: a value's class may be one that can't be hashed."""
SHORT: Final = 1000
"""Characters or bytes that a param or result may have to be sent along with a context, whether or not it is used."""
PLACES: Final = 1024
"""Functions that a worker keeps."""
REMEMBERED: Final = 64
"""Arguments that are remembered to be sendable, because many tasks may be given the same large one."""
DEPTH: Final = 8
"""How deep the culprit is looked for in an argument."""


class Function:
    """A named function: where workers keep it, its pickle, and how long it takes.

    `problem` is why it can't be sent; `seconds` a moving figure of what a call takes in a worker, None at first.
    """

    __slots__ = ("body", "fn", "place", "problem", "seconds")

    def __init__(self, fn: Callable[..., Any], place: int) -> None:
        self.fn = fn
        self.place = place
        self.body = b""
        self.problem: str | None = None
        self.seconds: float | None = None

    def took(self, seconds: float) -> None:
        """Learn from a call. Upwards at once, downwards slowly: a function that was slow may be so again."""
        if self.seconds is None or seconds > 4 * self.seconds:
            self.seconds = seconds
        else:
            self.seconds += (seconds - self.seconds) / 4


class Sender:
    """Makes of calls what goes through the pipe. One for each pool; safe to ask from any thread."""

    def __init__(self) -> None:
        self._script = location()
        self.packed: Callable[[Any], bytes] = packed if self._script is not None else packed_without_script
        self._functions: dict[int, Function] = {}  # by id(fn), which the Function keeps alive
        self._lock = threading.Lock()  # guards the table above when it changes; asking needs none
        self._checked: dict[int, Any] = {}  # by id: arguments seen to be sendable, forgotten when calls are sent

    # ---- before anything runs ---------------------------------------------------------------------------------------

    def objection(self, task: TaskDef) -> str | None:
        """Why the task can't be sent, or None; the text continues "task 'x' ..."."""
        fn = task.fn
        if fn is None:
            return None
        known = self._functions.get(id(fn))
        problem = known.problem if known is not None else self._function_problem(fn)
        if problem is not None:
            return problem
        for index, value in enumerate(task.args):
            if id(value.__class__) not in SCALARS and not self._is_sendable(value):
                return _argument_objection(*_culprit(given(value), f"args[{index}]"))
        for key, value in task.kwargs.items():
            if id(value.__class__) not in SCALARS and not self._is_sendable(value):
                return _argument_objection(*_culprit(given(value), f"kwargs[{key!r}]"))
        return None

    def _function_problem(self, fn: Callable[..., Any]) -> str | None:
        if is_coroutine_function(fn):
            return "is a coroutine function, which a process pool can't run; leave out pool="
        known = self.function(fn)
        return known.problem if known is not None else self._problem(fn)

    def _is_sendable(self, node: Any) -> bool:
        """Whether the constants in a node of `nerv.references` can be sent."""
        if isinstance(node, (Reference, Outputs)):
            return True
        if isinstance(node, Template):
            return all(self._is_sendable(part) for part in node.parts)
        if id(node.__class__) in SCALARS or id(node) in self._checked:
            return True
        if _refusal(node) is not None:
            return False
        if len(self._checked) >= REMEMBERED:
            self._checked.clear()
        self._checked[id(node)] = node
        return True

    # ---- functions --------------------------------------------------------------------------------------------------

    def function(self, fn: Callable[..., Any]) -> Function | None:
        """What is known of a function, if it can have a name of its own; None: it is sent with every call."""
        known = self._functions.get(id(fn))
        if known is not None:
            return known
        if not _has_name(fn):
            return None
        with self._lock:
            known = self._functions.get(id(fn))
            if known is None:
                known = self._new_function(fn)
        return known

    def _new_function(self, fn: Callable[..., Any]) -> Function:
        if len(self._functions) < PLACES:
            place = len(self._functions)
        else:  # the one that came first gives up its place
            place = self._functions.pop(next(iter(self._functions))).place
        function = Function(fn, place)
        function.problem = self._problem(fn)
        if function.problem is None:
            function.body = self.packed(fn)
        self._functions[id(fn)] = function
        return function

    def seconds(self, fn: Any) -> float | None:
        """What a call of this callable takes in a worker, None if nobody knows yet."""
        function = self._functions.get(id(fn)) or self._inner(fn)
        return None if function is None else function.seconds

    def took(self, fn: Any, seconds: float) -> None:
        """Learn how long a call of a callable took that isn't a named function itself."""
        function = self._inner(fn)
        if function is not None:
            function.took(seconds)

    def _inner(self, fn: Any) -> Function | None:
        """The named function inside a partial or a bound method: its pace is theirs."""
        inner = innermost(fn)
        return self.function(inner.__func__ if isinstance(inner, MethodType) else inner)

    def _problem(self, fn: Callable[..., Any]) -> str | None:
        """Why a callable can't be sent."""
        inner = innermost(fn)
        try:
            data = pickle.dumps(fn, PROTOCOL)
            if self._script is None and b"__main__" in data:
                self.packed(fn)
            elif _is_task(fn) and pickle.loads(data) is not fn:
                raise pickle.PicklingError(f"{name_of(fn)} is another object by now")
        except Exception as error:  # noqa: BLE001  (pickling runs whatever the callable holds)
            if self._script is None and getattr(inner, "__module__", None) == "__main__":
                return _function_objection(fn, error) if _refused(lambda: self.packed(fn)) else None
            return _function_objection(fn, error)
        return None

    # ---- calls ------------------------------------------------------------------------------------------------------

    def body(self, call: Call) -> tuple[Function | None, bytes]:
        """The function if the worker should keep it, and the body of the RUN frame.

        Raises:
            ResultUnavailableError: an Output in the arguments has no value.
            NervError: something in it can't be sent.
        """
        if self._checked:
            self._checked.clear()
        fn, args, kwargs = call.prepare()
        facts = None
        if call.wants_context:
            context: TaskContext = args[0]
            args = args[1:]
            facts = _facts(context, call)
        function = self.function(fn)
        if function is not None and function.problem is not None:
            raise unsendable(f"task {call.task.id!r} {function.problem}")
        try:
            return function, self.packed((fn if function is None else function.place, args, kwargs or {}, facts))
        except Exception as error:  # pickling runs the values' own code
            raise self._complaint(call, fn, args, kwargs, error) from error

    def _complaint(self, call: Call, fn: Callable[..., Any], args: Any, kwargs: Any, error: BaseException) -> NervError:
        named = [*((f"args[{i}]", v) for i, v in enumerate(args)), *((f"kwargs[{k!r}]", v) for k, v in kwargs.items())]
        for path, value in named:
            if _refusal(value) is not None:
                return unsendable(f"task {call.task.id!r} {_argument_objection(*_culprit(value, path))}")
        return unsendable(f"task {call.task.id!r} {_function_objection(fn, error)}")

    def answer(self, call: Call, what: str, key: str) -> bytes:
        """A param or result that a task asks for through its context.

        Raises:
            NervError: it can't be sent.
        """
        results, params = call.task.seen(call.live.values, call.live.params)
        value = (params if what == "params" else results)[key]
        try:
            return self.packed(value)
        except Exception as error:  # pickling runs the value's own code
            name = f"the param {key!r}" if what == "params" else f"the result of task {key!r}"
            raise unsendable(
                f"{name} (a {type(value).__name__}), which task {call.task.id!r} looks at, can't be sent to a worker "
                f"process: {described(error)}"
            ) from error

    def setup(self) -> bytes:
        """What a worker is told of this program: its arguments, and where its `__main__` is."""
        return pickle.dumps((sys.argv, self._script), PROTOCOL)


def _facts(context: TaskContext, call: Call) -> tuple[Any, ...]:
    """What a worker builds the context from; long values are left out, to be asked for."""
    known = {
        name: getattr(context, name)
        for name in TaskContext.__slots__
        if name not in ("params", "results") and not name.startswith("_")
    }
    known["deadline"] = call.timeout  # in seconds: the worker makes a moment of it when it calls the function
    task = call.task
    declared = tuple(dict.fromkeys(task.dependencies + task.outputs))
    return known, *([(tuple(m), _short(m)) for m in (context.params, context.results)]), declared


def _short(values: Any) -> dict[str, Any]:
    return {
        key: value
        for key, value in values.items()
        if id(value.__class__) in SCALARS and (value.__class__ not in (str, bytes) or len(value) <= SHORT)
    }


# ---- by value -------------------------------------------------------------------------------------------------------


class _ByValue(cloudpickle.CloudPickler):  # type: ignore[misc]  # cloudpickle carries no types
    """cloudpickle, which knows nothing of Tasks: these would go by a name that the worker can't look up."""

    def reducer_override(self, obj: Any) -> Any:
        if _is_task(obj) and obj.fn.__module__ == "__main__":
            return type(obj), (obj.fn, obj.options)
        return super().reducer_override(obj)


def packed_without_script(value: Any) -> bytes:
    """A value for a worker that can't import this program's `__main__`: what lives there goes by value."""
    try:
        data = pickle.dumps(value, PROTOCOL)
    except Exception:  # noqa: BLE001  (cloudpickle may do, or say why not)
        return by_value(value)
    return by_value(value) if b"__main__" in data else data


def by_value(value: Any) -> bytes:
    """A value whose classes and functions, if they are of `__main__`, are in the bytes."""
    import io

    file = io.BytesIO()
    _ByValue(file, PROTOCOL).dump(value)
    return file.getvalue()


def _is_task(fn: object) -> bool:
    return bool(getattr(type(fn), "is_nerv_task", False))


def _has_name(fn: object) -> bool:
    """Whether it is a function that a module knows by name, rather than an object with state."""
    if isinstance(fn, BuiltinFunctionType):
        return isinstance(fn.__self__, ModuleType)
    return isinstance(fn, (FunctionType, type)) or _is_task(fn)


# ---- saying why not -------------------------------------------------------------------------------------------------


class _Void:
    """A file that takes everything and keeps nothing."""

    def write(self, data: Any) -> int:
        return len(data)


def _refusal(value: Any) -> BaseException | None:
    """The reason why a value can't be sent."""
    try:
        pickle.Pickler(_Void(), PROTOCOL, buffer_callback=lambda _: None).dump(value)
    except Exception as error:  # noqa: BLE001  (pickling runs the value's own code; cloudpickle may do better)
        return error if _refused(lambda: packed(value)) else None
    return None


def _refused(pack: Callable[[], object]) -> bool:
    try:
        pack()
    except Exception:  # noqa: BLE001  (any reason is the same to us)
        return True
    return False


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """What a value is made of, with the text that leads to each part."""
    if isinstance(value, (list, tuple)):
        yield from ((f"[{index}]", part) for index, part in enumerate(value))
    elif isinstance(value, dict):
        yield from ((f"[{key!r}]", part) for key, part in value.items())
    else:
        yield from ((f".{name}", part) for name, part in getattr(value, "__dict__", {}).items())


def _culprit(value: Any, path: str, depth: int = 0) -> tuple[str, Any]:
    """The innermost part that can't be sent of a value that can't, and the text that leads there."""
    for name, part in _parts(value) if depth < DEPTH else ():
        if not isinstance(part, Reference) and _refusal(part) is not None:
            return _culprit(part, path + name, depth + 1)
    return path, value


def _argument_objection(path: str, value: Any) -> str:
    error = _refusal(value)
    reason = "it can't be pickled" if error is None else described(error)
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return (
        f"can't run in a worker process: its argument {path} (a {name}) can't be sent there: {reason}; "
        "pass plain data, or make it inside the task"
    )


def _function_objection(fn: Any, error: BaseException) -> str:
    inner = innermost(fn)
    name = name_of(fn)
    if "<lambda>" in name or "<locals>" in name:
        why = "lambdas and local functions have no importable name; define it at module level"
    elif isinstance(inner, MethodType) and _refused(lambda: pickle.dumps(inner.__self__, PROTOCOL)):
        kind = type(inner.__self__).__name__
        why = f"it is a method of a {kind}, which can't be pickled: {described(error)}; use a function"
    else:
        why = f"{described(error)}; define it at module level, under its own name"
    return f"can't run in a worker process: its function {name} can't be sent there: {why}"
