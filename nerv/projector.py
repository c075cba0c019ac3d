"""StateProjector: what is and was the state of all executions, and what users add to it.

How it works. Each execution that was attached has a `Fold` (nerv/moments.py), which folds the execution's records when
somebody asks and knows its state at every moment. The whole state is one PMap: the executions' states under
`"executions"`, and beside it `initial_state` and what the users' deltas made of it. A query folds what there is to
fold, puts the executions' states in and gives the PMap out; deltas replace everything else.

Its two locks, and why. `_lock` guards the projector's own maps, for dictionary work only: no user code runs under it,
no fold is waited for. `_writing` lets one delta through at a time, and the user's function runs under it: so a function
is called exactly once, in an order that the history shows, and none is starved. (Comparing and swapping without a lock
would call a slow function again and again while others write.) Queries and the engine never take it, so a delta's
function may ask the projector anything; one that applies another delta is told off, since its own result would
overwrite that.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from nerv.errors import NervError, UnknownIdError, near
from nerv.eventlog import EventLog
from nerv.moments import Fold, Moment, Path
from nerv.statuses import TaskStatus

if TYPE_CHECKING:
    from pyrsistent.typing import PMap as PMap  # noqa: PLC0414  for those who annotate with it

__all__ = ["Delta", "StateProjector"]

State: TypeAlias = "PMap[str, Any]"
Change: TypeAlias = Callable[[State], State]

EXECUTIONS: Final = "executions"
HISTORY_LIMIT: Final = 10_000  # deltas that are remembered, the newest; an engine may run for months

_BUILT_IN: Final[Mapping[str, Callable[[Moment], Any]]] = {
    "completed_tasks": lambda moment: moment.having(TaskStatus.COMPLETED),
    "failed_tasks": lambda moment: moment.having(TaskStatus.FAILED),
    "progress": lambda moment: moment.progress(),
    "running_tasks": lambda moment: moment.having(TaskStatus.RUNNING),
    "task_status": lambda moment: moment.statuses(),
    "workflow_status": lambda moment: moment.head.status,
}


class Delta(msgspec.Struct, frozen=True):
    """A user's change of the state. `index` counts from 1 and never repeats; `timestamp` is in epoch seconds."""

    index: int
    description: str
    tags: tuple[str, ...]
    timestamp: float


class StateProjector:
    """The state of all executions at this and every earlier moment, with your own additions; safe to use from threads.

    The state is a PMap: `state["executions"][execution_id]["tasks"][task_id]["status"]`, and beside `"executions"` what
    `initial_state` and your deltas put there. Your values are opaque: never copied, frozen or compared.

    Args:
        initial_state: what the state has beside `"executions"` before any delta. It isn't changed, nor followed.
    """

    def __init__(self, initial_state: Mapping[str, Any] | None = None) -> None:
        self._initial = _additions({} if initial_state is None else initial_state, "initial_state")
        self._lock = threading.Lock()
        self._executions: dict[str, _Execution] = {}
        self._whole: State | None = None  # made when first asked for: pyrsistent takes 30 ms to import
        self._placed: dict[str, State] = {}  # the executions' states in _whole
        self._projections: dict[str, Callable[[State], Any]] = {}
        self._writing = threading.RLock()
        self._changing = False  # whether a delta's function is running; under _writing
        self._deltas: deque[Delta] = deque(maxlen=HISTORY_LIMIT)
        self._last_index = 0

    # ---- the engine's side ----

    def attach(self, log: EventLog, *, workflow_id: str) -> None:
        """Show an execution from now on: everything in its log, and what will be appended to it."""
        with self._lock:
            if log.execution_id in self._executions:
                raise ValueError(f"execution {log.execution_id!r} is shown already; detach it before it is shown anew")
            self._executions[log.execution_id] = _Execution(Fold(log, workflow_id))

    def detach(self, execution_id: str) -> None:
        """Show an execution no more. One that isn't shown is no error: a journal knows executions that we don't."""
        with self._lock:
            self._executions.pop(execution_id, None)
            self._placed.pop(execution_id, None)
            if self._whole is not None:
                self._whole = self._whole.set(EXECUTIONS, self._whole[EXECUTIONS].discard(execution_id))

    def apart(self, log: EventLog, *, workflow_id: str) -> StateProjector:
        """A projector that shows this one execution, with the same projections of the user's (later ones too)."""
        own = StateProjector()
        own._projections = self._projections
        own.attach(log, workflow_id=workflow_id)
        return own

    # ---- questions ----

    def get_state(self) -> State:
        """The whole state now. Two calls with nothing in between give the same object."""
        with self._lock:
            shown = list(self._executions.items())
        states = [(execution_id, execution, execution.state()) for execution_id, execution in shown]
        with self._lock:
            whole = self._made()
            executions = whole[EXECUTIONS].evolver()
            for execution_id, execution, state in states:
                # one that was detached meanwhile must not come back
                is_shown = self._executions.get(execution_id) is execution
                if is_shown and self._placed.get(execution_id) is not state:
                    executions[execution_id] = self._placed[execution_id] = state
            if executions.is_dirty():
                self._whole = whole = whole.set(EXECUTIONS, executions.persistent())
            return whole

    def execution_state(self, execution_id: str) -> State:
        """One execution's state map now.

        Raises:
            UnknownIdError: no such execution.
        """
        return self._execution(execution_id).state()

    def at(self, execution_id: str, seq: int) -> State:
        """One execution's state map right after event `seq`; 0 is before the first.

        Raises:
            UnknownIdError: no such execution.
            ValueError: it has no such event.
            TypeError: `seq` isn't an int.
        """
        execution = self._execution(execution_id)
        return execution.state(execution.fold.at(seq))

    def diff(self, execution_id: str, seq_a: int, seq_b: int) -> dict[Path, tuple[Any, Any]]:
        """What differs in one execution between two moments: path -> (at `seq_a`, at `seq_b`).

        A path is a tuple such as `("tasks", "b", "status")`; a side that isn't there is MISSING (a task that was added
        later is one entry, `("tasks", "b")`). `seq_a` may be the later one. Errors are those of `at`.
        """
        return self._execution(execution_id).fold.diff(seq_a, seq_b)

    def project(self, name: str, *, execution: str | None = None, until: int | None = None) -> Any:
        """A projection's value for one execution, or without `execution` a dict execution id -> value.

        Args:
            name: `task_status` (mapping id -> TaskStatus), `workflow_status`, `completed_tasks`, `failed_tasks` and
                `running_tasks` (sets of ids in the order in which it happened), `progress` (mapping: `total`, a count
                for each status, and the `fraction` of final tasks), or one of your own.
            execution: an execution's id.
            until: the moment, as a seq of that execution; by default now.

        Raises:
            UnknownIdError: no such projection or execution.
            TypeError: `until` without `execution`, or not an int.
            ValueError: the execution has no such event.
        """
        with self._lock:
            own = self._projections.get(name)
            known = sorted({*_BUILT_IN, *self._projections})
            shown = list(self._executions.items())
        if name not in known:
            raise UnknownIdError(f"there is no projection {name!r}{near(name, known)}; there are {', '.join(known)}")
        if execution is not None:
            return _value(name, own, self._execution(execution), until)
        if until is not None:
            raise TypeError("until= is a seq of one execution: write project(name, execution=..., until=...)")
        return {execution_id: _value(name, own, one, None) for execution_id, one in shown}

    def add_projection(self, name: str, fn: Callable[[State], Any]) -> None:
        """Have `project(name)` call `fn` with the execution's state map. Adding a name of your own again replaces it.

        Raises:
            ValueError: the name is that of a built-in projection.
            TypeError: the name isn't a str, or `fn` isn't callable.
        """
        if not isinstance(name, str):
            raise TypeError(f"a projection's name is a str, not {type(name).__name__}")
        if name in _BUILT_IN:
            raise ValueError(f"the projection {name!r} is built in: give yours another name")
        if not callable(fn):
            raise TypeError(f"projection {name!r} is a function of an execution's state map, not {type(fn).__name__}")
        with self._lock:
            self._projections[name] = fn

    # ---- the users' deltas ----

    def apply_delta(self, delta: Change | Mapping[str, Any], description: str = "", tags: Iterable[str] = ()) -> int:
        """Change what the state has beside `"executions"`.

        Args:
            delta: a function from the state to the new state, both PMaps, such as `lambda s: s.set("budget", 7)`; or a
                mapping, whose items are set. A function is called once, and may ask the projector anything.
            description: for people; kept in the history.
            tags: to find it in the history.

        Returns:
            The delta's index in the history.

        Raises:
            TypeError: the delta is neither, or its function gave no PMap.
            ValueError: it changes `"executions"`, which events alone do.
            NervError: it was applied from inside another delta's function.
        """
        change = _change(delta)
        labels = _tags(tags)
        with self._writing:
            self._refuse_nested()
            before = self.get_state()
            self._changing = True
            try:
                after = change(before)
            finally:
                self._changing = False
            _check(before, after)
            with self._lock:
                self._whole = after.set(EXECUTIONS, self._made()[EXECUTIONS])
                self._last_index += 1
                self._deltas.append(Delta(self._last_index, description, labels, time.time()))
                return self._last_index

    def update_state(self, fn: Change) -> None:
        """`apply_delta` with a function, and without a description."""
        if not callable(fn):
            raise TypeError(f"update_state takes a function from the state to the new state, not {type(fn).__name__}")
        self.apply_delta(fn)

    def get_delta_history(self, tags: Iterable[str] | None = None) -> list[Delta]:
        """The deltas since the last reset (at most the newest 10,000), oldest first; only those with any of `tags`."""
        wanted = None if tags is None else set(_tags(tags))
        with self._lock:
            return [delta for delta in self._deltas if wanted is None or not wanted.isdisjoint(delta.tags)]

    def reset(self) -> None:
        """Forget all deltas: the state is `initial_state` and the executions again. Indexes go on counting."""
        with self._writing:
            self._refuse_nested()
            with self._lock:
                self._deltas.clear()
                if self._whole is not None:
                    executions = self._whole[EXECUTIONS]
                    self._whole = None
                    self._whole = self._made().set(EXECUTIONS, executions)

    def _refuse_nested(self) -> None:
        """Only the thread that runs a delta's function can get here while it runs: the lock keeps the others out."""
        if self._changing:
            raise NervError(
                "a delta's function can't apply or reset deltas: its own result would overwrite them. "
                "Make all changes in the state that it returns."
            )

    def _made(self) -> State:
        """The whole state as last put together; under `_lock`."""
        if self._whole is None:
            from pyrsistent import pmap

            self._whole = pmap({**self._initial, EXECUTIONS: pmap()})
        return self._whole

    def _execution(self, execution_id: str) -> _Execution:
        with self._lock:
            execution = self._executions.get(execution_id)
            known = () if execution is not None else tuple(self._executions)
        if execution is None:
            raise UnknownIdError(f"there is no execution {execution_id!r} to show{near(execution_id, known)}")
        return execution


class _Execution:
    """An execution that is shown, and the newest state map that was made of it."""

    __slots__ = ("_lock", "_seq", "_state", "fold")

    def __init__(self, fold: Fold) -> None:
        self.fold = fold
        self._lock = threading.Lock()  # so that asking twice gives the same object
        self._seq = -1
        self._state: State

    def state(self, moment: Moment | None = None) -> State:
        """The state map at a moment; by default now."""
        from pyrsistent import pmap

        moment = moment or self.fold.now()
        with self._lock:
            if moment.seq == self._seq:
                return self._state
            state = pmap({**moment.head_map(), "tasks": moment.tasks()})
            if moment.seq > self._seq:
                self._seq, self._state = moment.seq, state
            return state


def _value(name: str, own: Callable[[State], Any] | None, execution: _Execution, until: int | None) -> Any:
    """A projection of one execution; `own` is the user's function if it isn't built in."""
    moment = execution.fold.now() if until is None else execution.fold.at(until)
    if own is None:
        return _BUILT_IN[name](moment)
    try:
        return own(execution.state(moment))
    except Exception as error:
        error.add_note(f"in the projection {name!r} of execution {execution.fold.log.execution_id!r}")
        raise


def _additions(patch: object, what: str) -> dict[str, Any]:
    """A mapping of things beside `"executions"`, copied at the top level."""
    if not isinstance(patch, Mapping):
        raise TypeError(f"{what} is a mapping of what to add to the state, not {type(patch).__name__}")
    if EXECUTIONS in patch:
        raise ValueError(f"{what} can't set {EXECUTIONS!r}: the state of executions comes from events alone")
    return dict(patch)


def _change(delta: Change | Mapping[str, Any]) -> Change:
    """A delta as a function."""
    if isinstance(delta, Mapping):
        patch = _additions(delta, "a patch")
        return lambda state: state.update(patch)
    if callable(delta):
        return delta
    raise TypeError(
        f"a delta is a function from the state to the new state, such as lambda s: s.set('n', 1), "
        f"or a dict of what to set, not {type(delta).__name__}"
    )


def _check(before: State, after: object) -> None:
    """Refuse what a delta's function gave if it can't be the state."""
    from pyrsistent import PMap

    if not isinstance(after, PMap):
        raise TypeError(
            f"a delta's function gives the new state, a PMap, not {type(after).__name__}: the state it is given "
            "can't be changed, so return what its set(), update() or remove() give"
        )
    if after.get(EXECUTIONS) is not before[EXECUTIONS]:
        raise ValueError(
            f"a delta can't change {EXECUTIONS!r}: the state of executions comes from events alone. "
            "Put what is yours beside it."
        )


def _tags(tags: Iterable[str]) -> tuple[str, ...]:
    if isinstance(tags, str):
        raise TypeError(f"tags are several: write tags=({tags!r},)")
    return tuple(tags)
