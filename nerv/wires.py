"""`Wires`: tells hooks what goes over the wires of one execution, and what became of it.

A wire is a dependency: from a task to one that needs it, or, in a fed flow, from where messages come in to the first
steps of a message's lane. Just before the function of the task at its end is called,
every hook of the wire is told of the intent and then that it was dispatched; once for each wire, however many attempts
follow. When that task has ended for good, so has the delivery. The ends are read from the log, behind a cursor, like
everything else that looks on; so nobody is called under the engine's lock.

An execution without hooks has no `Wires`. The hooks of a wire are those of the manager, and that of the `JournalNode`
it leaves, if it leaves one.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from nerv.errors import NervError, TaskCancelledError, described
from nerv.eventlog import TASK_CANCELLED, TASK_COMPLETED, TASK_FAILED, TASK_SKIPPED, WORKFLOW_RECOVERED
from nerv.events import EventType
from nerv.feeding import FedScheduler
from nerv.journal.deliveries import DispatchHook
from nerv.places import Somewhere
from nerv.sparse import each
from nerv.states import COMPLETED, SKIPPED

if TYPE_CHECKING:
    from nerv.calls import Call
    from nerv.live import Live
    from nerv.tasks import TaskDef

_log = logging.getLogger("nerv.wires")

_ENDS: Final = frozenset({TASK_COMPLETED, TASK_FAILED, TASK_SKIPPED, TASK_CANCELLED})


class _Entry:
    """A delivery on its way: who was told, where it comes from, how the hook calls it, whether it was dispatched."""

    __slots__ = ("hook", "id", "is_dispatched", "source")

    def __init__(self, hook: DispatchHook, source: int, entry_id: Any) -> None:
        self.hook = hook
        self.source = source
        self.id = entry_id
        self.is_dispatched = False


class Wires:
    """The wires of one execution.

    Args:
        live: the execution. Its engine's `hooks` are those of every wire; the hook of a `JournalNode` that names none
            is the journal, if there is one.

    Attributes:
        reached: the last seq of which hooks have heard everything.
    """

    def __init__(self, live: Live) -> None:
        recorder = live.engine.recorder
        self._live = live
        self._hooks = live.engine.hooks
        self._journal = recorder.journal if recorder is not None and _is_hook(recorder.journal) else None
        self._cursor = self.reached = len(live.log)
        self._turn = threading.RLock()  # held while hooks hear of ends, so in order; taken with no other lock held
        self._table = threading.Lock()  # of the next: who adds to it doesn't wait for hooks; nothing else inside it
        self._open: dict[int, list[_Entry]] = {}  # by the task that receives
        self._lanes: dict[int, dict[int, tuple[DispatchHook, str]]] = {}  # by lane, who has heard of it
        self._fed = live.scheduler if isinstance(live.scheduler, FedScheduler) else None
        self._over: deque[tuple[int, int]] = deque()  # the lanes of messages that have ended, and where in the log
        if self._fed is not None:
            self._fed.on_over = self._note_over

    # ---- on the way there, in the thread that calls the function ----------------------------------------------------

    def dispatch(self, call: Call) -> None:
        """A task is about to be called: tell the hooks of all wires that lead to it, those that don't know yet.

        Raises:
            Exception: what a hook's `on_intent` raised.
        """
        number = call.number
        if self._fed is not None and number < len(self._live.workflow):
            return  # it stands for a step of all messages, and is called when there are no more
        for source, name in self._sources(call):
            for hook in self._hooks_of(source):
                if not any(entry.hook is hook and entry.source == source for entry in self._open.get(number, ())):
                    entry = _Entry(hook, source, self._intent(hook, source, number, name))
                    with self._table:
                        self._open.setdefault(number, []).append(entry)
        for entry in list(self._open.get(number, ())):
            if not entry.is_dispatched:
                entry.is_dispatched = True
                self._tell(entry.hook.on_dispatched, entry.id, task=number)
        if self._live.scheduler.has_ended(number):  # it was given up meanwhile
            self._end(number)

    def _sources(self, call: Call) -> Iterator[tuple[int, str | None]]:
        """The tasks that it needs and that have a result, with its own names for them; None: it needs the message."""
        scheduler = self._live.scheduler
        if self._fed is not None and self._fed.is_entrance(call.number):
            yield self._fed.source, None
        for name, number in zip(call.task.needs, scheduler.needs_of(call.number), strict=False):
            if scheduler.state[number] == COMPLETED:
                yield number, name

    def _intent(self, hook: DispatchHook, source: int, number: int, name: str | None) -> Any:
        """Tell a hook of an intent, and have its name for it."""
        live = self._live
        from_id, to_id = str(live.log.ids[source]), str(live.log.ids[number])
        lane_id = self._lane(hook, number)
        known = self._earlier.get((id(hook), lane_id, from_id, to_id))
        if known is not None:
            return known
        payload = self._payload(source, live.tasks[number], name)
        kind = type(payload).__name__
        try:
            return hook.on_intent(lane_id=lane_id, from_id=from_id, to_id=to_id, payload_type=kind, payload=payload)
        except Exception as error:
            error.add_note(f"raised by on_intent of {_name(hook)} for the wire {from_id!r} -> {to_id!r}")
            raise

    def _payload(self, source: int, task: TaskDef, name: str | None) -> Any:
        """What goes over a wire; one that only orders carries nothing."""
        if name is None:
            return task.seen({}, {})[1]["item"] if "item" in task.asks_for else None
        return self._live.values.get(self._live.log.ids[source]) if name in task.outputs else None

    def _hooks_of(self, source: int) -> tuple[DispatchHook, ...]:
        """The hooks of the wires that leave a task."""
        fn = self._live.tasks[source].fn
        if not getattr(fn, "delivers", False):
            return self._hooks
        own = fn.__self__.hook or self._journal  # type: ignore[union-attr]  # it is a JournalNode's method
        return self._hooks if own is None or any(own is hook for hook in self._hooks) else (*self._hooks, own)

    def _lane(self, hook: DispatchHook, number: int) -> str:
        """The id of the lane of a task; the hook will hear of its end."""
        families = self._live.scheduler.families
        lane = -1 if families is None else families.lane_of(number)
        if lane >= 0 and not families.of(lane).seed.lanes:  # type: ignore[union-attr]  # it is a lane, so there are
            lane = _message(lane)
        heard = self._lanes.setdefault(lane, {})
        if id(hook) not in heard:
            heard[id(hook)] = hook, Somewhere(self._live, number).lane_id
        return heard[id(hook)][1]

    @cached_property
    def _earlier(self) -> dict[tuple[int, str, str, str], Any]:
        """What was on its way when the process died, of hooks that can tell: it goes on, it isn't sent twice."""
        if not any(code == WORKFLOW_RECOVERED for code, *_ in self._live.log.records[:]):
            return {}
        hooks = (hook for source, _ in list(each(self._live.tasks)) for hook in self._hooks_of(source))
        able = {id(hook): hook for hook in hooks if hasattr(hook, "unacknowledged")}
        return {
            (key, one.lane_id, one.from_id, one.to_id): one.id
            for key, hook in able.items()
            for one in hook.unacknowledged()
        }

    # ---- afterwards -------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """See what has ended, unless somebody is at it already, who then sees that too."""
        while self._cursor < len(self._live.log) and self._turn.acquire(blocking=False):
            try:
                self._follow()
            finally:
                self._turn.release()

    def finish(self) -> None:
        """The execution has ended: whoever waits for it may rely on the hooks having heard everything."""
        with self._turn:
            self._follow()
            for lane in list(self._lanes):
                self._end_lane(lane)

    def _follow(self) -> None:
        log = self._live.log
        while self._cursor < len(log):
            page = log.page
            code, number, *_ = page.records[page.upto(self._cursor)]
            self._cursor += 1
            if code in _ENDS:
                self._end(number)
                if number in self._lanes:
                    self._end_lane(number)
            while self._over and self._over[0][0] <= self._cursor:
                lane = _message(self._over.popleft()[1])
                if lane in self._lanes:
                    self._end_lane(lane)
            self.reached = self._cursor

    def _note_over(self, first: int) -> None:
        """A message has ended (lock held)."""
        self._over.append((len(self._live.log), first))

    def _end(self, number: int) -> None:
        """A task has ended for good, and with it what went to it."""
        live = self._live
        with self._table:
            entries = self._open.pop(number, ())
        if not entries:
            return
        if live.scheduler.state[number] == COMPLETED:
            for entry in entries:
                self._tell(entry.hook.on_acknowledged, entry.id, task=number)
            return
        error = self._reason(number)
        for entry in entries:
            self._tell(entry.hook.on_failed, entry.id, error, task=number)

    def _reason(self, number: int) -> BaseException:
        """Why a task didn't complete."""
        live, task_id = self._live, self._live.tasks[number].id
        error = live.errors.get(task_id) or live.taken_on.get(task_id)
        if error is not None:
            return error
        if live.scheduler.state[number] == SKIPPED:
            return NervError(f"task {task_id!r} was skipped")
        return TaskCancelledError(f"task {task_id!r} was cancelled")

    def _end_lane(self, lane: int) -> None:
        for hook, lane_id in self._lanes.pop(lane).values():
            self._tell(hook.on_lane_complete, lane_id, task=lane)

    def _tell(self, method: Callable[..., Any], *about: Any, task: int) -> None:
        """Call a hook that can't hurt anybody any more: what it raises is logged and published."""
        try:
            method(*about)
        except Exception as error:  # noqa: BLE001  it is the user's code
            live = self._live
            name = f"{method.__name__} of {_name(getattr(method, '__self__', method))}"
            _log.error("%s raised: %s", name, described(error), exc_info=error)
            live.engine.bus.announce(
                EventType.HANDLER_ERROR,
                execution_id=live.id,
                task_id=None if task < 0 else str(live.log.ids[task]),
                data={"handler": name, "error": error, "event_id": None, "event_type": None},
            )


def _message(first: int) -> int:
    """The lane of a message: not the number of its first task, which ends before it."""
    return -2 - first


def _is_hook(given: object) -> TypeGuard[DispatchHook]:
    return isinstance(given, DispatchHook)


def _name(hook: object) -> str:
    return type(hook).__qualname__
