"""`Ticket`: a call on its way to a cluster. `Orders`: make Dask's tasks of calls. `Deaths`: who died with a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nerv.calls import Call
from nerv.context import TaskContext
from nerv.errors import SerializationError, described
from nerv.far import FarValues
from nerv.pools.dask_cluster import Cluster, Distant
from nerv.pools.sending import PLACES, SCALARS, packed_without_script
from nerv.references import Outputs, Reference, Template
from nerv.tasks import TaskDef

if TYPE_CHECKING:
    from distributed import Future


class Ticket:
    """A call on its way.

    Attributes:
        number: grows with every call that is sent.
        key: its key in the cluster.
        call: the engine's call.
        future: its future there, once it is sent.
        begun_by: the address of the worker that has begun it, as far as is known.
        is_outcome: whether what it returned steers the engine, so that it is needed here.
    """

    __slots__ = ("begun_by", "call", "future", "is_outcome", "key", "number")

    def __init__(self, number: int, key: str, call: Call) -> None:
        self.number = number
        self.key = key
        self.call = call
        self.future: Future | None = None
        self.begun_by = ""
        self.is_outcome = False


class Orders:
    """Makes of calls what is sent to a cluster.

    Functions and arguments go by cloudpickle, so what is defined in a `__main__` or a notebook goes by value. A result
    that is in the cluster goes as a reference to it; Dask has it moved from worker to worker.
    """

    def __init__(self, cluster: Cluster, topic: str) -> None:
        self._cluster = cluster
        self._topic = topic
        self._functions: dict[int, tuple[Any, bytes]] = {}  # by id: the function, kept alive, and its pickle

    def objection(self, task: TaskDef) -> str | None:
        """Why the task can't be sent, or None; the text continues "task 'x' ..."."""
        try:
            self._function(task.fn)
        except Exception as error:  # noqa: BLE001  pickling runs whatever the callable holds
            return f"has a function that can't be sent to a cluster: {described(error)}"
        named = [
            *((f"args[{i}]", v) for i, v in enumerate(task.args)),
            *((f"kwargs[{k!r}]", v) for k, v in task.kwargs.items()),
        ]
        for where, value in named:
            if id(value.__class__) not in SCALARS and not isinstance(value, (Reference, Outputs, Template)):
                try:
                    packed_without_script(value)
                except Exception as error:  # noqa: BLE001  likewise
                    return f"has an argument, {where}, that can't be sent to a cluster: {described(error)}"
        return None

    def task(self, ticket: Ticket) -> Any:
        """A call as a task of Dask's.

        Raises:
            SerializationError: an argument can't be sent.
            ResultUnavailableError: a result that it needs can't be had any more.
        """
        from dask._task_spec import Task, TaskRef

        from nerv.pools.dask_worker import perform

        call = ticket.call
        is_plain = call.is_attempt and type(call.task) is TaskDef and call.live.wires is None
        function, body, far = self._attempt(call) if is_plain else self._whole(call)
        refs = [TaskRef(result.key) for result in far]
        return Task(ticket.key, perform, ticket.key, self._topic, function, body, *refs)

    def _function(self, fn: Any) -> bytes:
        known = self._functions.get(id(fn))
        if known is None:
            pickled = packed_without_script(fn)
            if len(self._functions) >= PLACES:
                self._functions.clear()
            known = self._functions[id(fn)] = fn, pickled
        return known[1]

    def _attempt(self, call: Call) -> tuple[bytes, bytes, list[Distant]]:
        task, live = call.task, call.live
        args, kwargs = task.given
        far: dict[str, Distant] = {}
        near: dict[str, Any] = {}
        for need in task.needs if call.wants_context else task.outputs:
            if need in live.values:
                value = live.values.raw(need) if isinstance(live.values, FarValues) else live.values[need]
                if isinstance(value, Distant) and value.is_only_at(self._cluster):
                    far[need] = value
                else:
                    near[need] = live.values[need]
        facts = None
        params = {name: live.params[name] for name in task.params if name in live.params}
        if call.wants_context:
            params, facts = dict(live.params), (_facts(call), task.needs)
        body = _packed(call, (args, kwargs, list(far), near, params, facts))
        return self._function(task.fn), body, [*far.values()]

    def _whole(self, call: Call) -> tuple[bytes, bytes, list[Distant]]:
        """Of whatever isn't a plain task's attempt: all that it is given is brought here and sent along."""
        fn, args, kwargs = call.prepare()
        near: dict[str, Any] = {}
        params: dict[str, Any] = {}
        facts = None
        if call.wants_context:
            context: TaskContext = args[0]
            args, near, params = args[1:], dict(context.results), dict(context.params)
            facts = _facts(call), tuple(near)
        return self._function(fn), _packed(call, (args, kwargs, [], near, params, facts)), []


def _packed(call: Call, body: tuple[Any, ...]) -> bytes:
    try:
        return packed_without_script(body)
    except Exception as error:
        raise SerializationError(
            f"task {call.task.id!r} can't be sent to a cluster: one of its arguments can't be pickled "
            f"({described(error)}); leave out pool= for it, or pass something else"
        ) from error


def _facts(call: Call) -> dict[str, Any]:
    """What a worker builds a task's context from; the deadline in seconds, of which the worker makes a moment."""
    context = call.context(call)
    known = {
        name: getattr(context, name)
        for name in TaskContext.__slots__
        if name not in ("params", "results") and not name.startswith("_")
    }
    if "deadline" in known:
        known["deadline"] = call.timeout
    return known


class Deaths:
    """Which calls died with a worker.

    Those that had begun there did, and those that were in line didn't. A call's word that it begins may have died with
    the worker, though; so, while not every thread of the worker is accounted for, those that were next in line did too.
    """

    def __init__(self) -> None:
        self._begun: dict[str, int] = {}  # by address: how many calls had begun there
        self._in_line: dict[str, list[Ticket]] = {}

    def is_news(self, address: str) -> bool:
        """Whether nothing was heard of this death before."""
        return address not in self._begun

    def mourn(self, ticket: Ticket, address: str) -> bool:
        """A call was lost with a worker. True: it had begun; False: `bury` will say."""
        self._begun.setdefault(address, 0)
        if ticket.begun_by == address:
            self._begun[address] += 1
            return True
        self._in_line.setdefault(address, []).append(ticket)
        return False

    def bury(self, address: str, threads: int) -> tuple[list[Ticket], list[Ticket]]:
        """All has been heard of a dead worker, with so many threads: who else died with it, who is sent again."""
        waited = sorted(self._in_line.pop(address, ()), key=lambda ticket: ticket.number)
        silent = max(0, threads - self._begun.pop(address))
        return waited[:silent], waited[silent:]
