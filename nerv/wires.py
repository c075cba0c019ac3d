"""`Wires`: tells hooks what goes over the wires of one execution, and what became of it.

A wire is a dependency: from a task to one that needs it, or, in a fed flow, from where messages come in to the first
steps of a message's lane. Just before the function of the task at its end is called,
every hook of the wire is told of the intent and then that it was dispatched; once for each wire, however many attempts
follow. When that task has ended for good, so has the delivery. The ends are read from the log, behind a cursor, like
everything else that looks on; so nobody is called under the engine's lock.

An execution without hooks has no `Wires`. The hooks of a wire are those of the manager, and that of the `JournalNode`
it leaves, if it leaves one.

After a restart what was open goes on, and what ended before it is made up for: ends of deliveries that a hook still
lists, and of all lanes in which it was told of an intent, since the journal was last told how far hooks have heard.
So a lane's end is told at least once, and may be told again.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from functools import cached_property
from math import inf
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from nerv.errors import NervError, TaskCancelledError, described
from nerv.eventlog import TASK_CANCELLED, TASK_COMPLETED, TASK_FAILED, TASK_SKIPPED
from nerv.events import EventType
from nerv.feeding import FedScheduler
from nerv.journal.deliveries import DispatchHook
from nerv.places import Somewhere
from nerv.sparse import each
from nerv.states import COMPLETED, SKIPPED
from nerv.ways import Entry, Way, Ways, given_up

if TYPE_CHECKING:
    from nerv.calls import Call
    from nerv.live import Live
    from nerv.tasks import TaskDef

_log = logging.getLogger("nerv.wires")

HEARD: Final = "heard"
"""The name of the fact that says up to which seq hooks have heard everything."""

STRIDE: Final = 1000
"""Events after which that is noted anew."""

_ENDS: Final = frozenset({TASK_COMPLETED, TASK_FAILED, TASK_SKIPPED, TASK_CANCELLED})


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
        self._cursor = self.reached = self._noted = len(live.log)
        self._turn = threading.RLock()  # held while hooks hear of ends, so in order; taken with no other lock held
        self._ways = Ways()
        self._lanes: dict[int, dict[int, tuple[DispatchHook, str]]] = {}  # by lane, who has heard of it
        self._fed = live.scheduler if isinstance(live.scheduler, FedScheduler) else None
        self._over: deque[tuple[int, int]] = deque()  # lanes that have ended without a task that is the lane, and when
        if self._fed is not None:
            self._fed.on_over = self._note_over
        self._goes_on = False  # after a restart
        self._ended_before: frozenset[int] = frozenset()  # the tasks of which hooks may have missed something then
        if recorder is not None:
            live.on_end.append(self._left)

    # ---- on the way there, in the thread that calls the function ----------------------------------------------------

    def dispatch(self, call: Call) -> None:
        """A task is about to be called: tell the hooks of all wires that lead to it, those that don't know yet.

        Raises:
            Exception: what a hook's `on_intent` raised.
        """
        number = call.number
        if self._fed is not None and number < len(self._live.workflow):
            return  # it stands for a step of all messages, and is called when there are no more
        way = self._ways.set_out(call, self._lane_of(number))
        try:
            for source, name in self._sources(number):
                for hook in self._hooks_of(source):
                    if not self._ways.knows(number, hook, source):
                        self._intend(call, way, Entry(hook, source, self._intent(hook, source, way, name)))
        finally:
            if self._ways.arrived(way):
                self._complete(way.lane)
        if call.abandoned:
            raise given_up(call)
        for entry in list(self._ways.open.get(number, ())):
            if not entry.is_dispatched:
                entry.is_dispatched = True
                self._tell(entry.hook.on_dispatched, entry.id, task=number)
        if self._live.scheduler.has_ended(number):  # it was given up meanwhile
            self._end(number)

    def _intend(self, call: Call, way: Way, entry: Entry) -> None:
        """A hook has been told of an intent, which may be of no use any more."""
        if not self._ways.opened(way, entry):
            self._close(entry, way.number, way.error)
            raise given_up(call)

    def _sources(self, number: int) -> list[tuple[int, str | None]]:
        """The tasks that it needs and that have a result, with its own names for them; None: it needs the message."""
        scheduler = self._live.scheduler
        needs = zip(self._live.tasks[number].needs, scheduler.needs_of(number), strict=False)
        sources = list[tuple[int, str | None]]()
        if self._fed is not None and self._fed.is_entrance(number):
            sources.append((self._fed.source, None))
        return sources + [(one, name) for name, one in needs if scheduler.state[one] == COMPLETED]

    def _intent(self, hook: DispatchHook, source: int, way: Way, name: str | None) -> Any:
        """Tell a hook of an intent, and have its name for it."""
        live, number = self._live, way.number
        from_id, to_id = str(live.log.ids[source]), str(live.log.ids[number])
        lane_id = self._lane(hook, way.lane, number)
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

    def _lane_of(self, number: int) -> int:
        """What the lane of a task goes by here."""
        families = self._live.scheduler.families
        lane = -1 if families is None else families.lane_of(number)
        if lane >= 0 and not families.of(lane).seed.lanes:  # type: ignore[union-attr]  # it is a lane, so there are
            lane = _message(lane)
        return lane

    def _lane(self, hook: DispatchHook, lane: int, number: int) -> str:
        """The id of the lane of a task; the hook will hear of its end."""
        heard = self._lanes.setdefault(lane, {})
        if id(hook) not in heard:
            heard[id(hook)] = hook, Somewhere(self._live, number).lane_id
        return heard[id(hook)][1]

    @cached_property
    def _earlier(self) -> dict[tuple[int, str, str, str], Any]:
        """What was on its way when the process died, of hooks that can tell: it goes on, it isn't sent twice."""
        return {
            (id(hook), one.lane_id, one.from_id, one.to_id): one.id
            for hook in self._able.values()
            for one in hook.unacknowledged()
        }

    @cached_property
    def _able(self) -> dict[int, Any]:
        """The hooks that can tell what was on its way when the process died; none, if none did."""
        if not self._goes_on:
            return {}
        hooks = (hook for source, _ in list(each(self._live.tasks)) for hook in self._hooks_of(source))
        return {id(hook): hook for hook in hooks if hasattr(hook, "unacknowledged")}

    # ---- after a restart --------------------------------------------------------------------------------------------

    def recall(self, heard_at: Mapping[int, int], heard: int) -> None:
        """It is about to go on: hooks will hear of the ends of all lanes that they know of, and of what they missed.

        Args:
            heard_at: task number -> the seq of the last that happened to it.
            heard: the seq up to which they had heard everything, as the journal knows.
        """
        scheduler = self._live.scheduler
        self._goes_on = True
        self._ended_before = frozenset(number for number, _ in each(scheduler.state) if scheduler.has_ended(number))
        self.reached = 0  # nothing is folded before they have heard of it
        first = 0 if self._fed is None else len(self._live.workflow)
        lanes = {number: self._lane_of(number) for number, _ in each(scheduler.state) if number >= first}
        ends: dict[int, float] = {-1: inf}  # by lane, the seq at which it ended
        for number, lane in lanes.items():
            end = heard_at.get(number, 0) if scheduler.has_ended(number) else inf
            ends[lane] = max(end, ends.get(lane, 0))
        for number, lane in lanes.items():
            if ends[lane] > heard and scheduler.attempts[number]:
                for source, _ in self._sources(number):
                    for hook in self._hooks_of(source):
                        self._lane(hook, lane, number)
        self._over.extend((self._cursor, lane) for lane in list(self._lanes) if ends[lane] < inf)

    def _make_up(self) -> None:
        """Tell what became of deliveries whose tasks had ended before the restart, to hooks that still list them."""
        live, ended, self._ended_before = self._live, self._ended_before, frozenset()
        for (key, lane_id, from_id, to_id), entry_id in self._earlier.items():
            source, number = live.number_of(from_id), live.number_of(to_id)
            if source is not None and number in ended and Somewhere(live, number).lane_id == lane_id:
                self._close(Entry(self._able[key], source, entry_id), number, self._failure(number))

    # ---- afterwards -------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """See what has ended, unless somebody is at it already, who then sees that too."""
        while self._cursor < len(self._live.log) and self._turn.acquire(blocking=False):
            try:
                self._follow()
            finally:
                self._turn.release()
            if self._fed is not None:
                self._fed.on_read(self.reached)

    def finish(self) -> None:
        """The execution has ended: whoever waits for it may rely on the hooks having heard everything."""
        with self._turn:
            self._follow()
            self._ways.hold_all()
            for lane in list(self._lanes):
                self._complete(lane)

    def _follow(self) -> None:
        log = self._live.log
        if self._ended_before:
            self._tell(self._make_up, task=-1)
        while self._cursor < len(log):
            page = log.page
            code, number, *_ = page.records[page.upto(self._cursor)]
            self._cursor += 1
            if code in _ENDS:
                self._end(number)
                if number in self._lanes:
                    self._end_lane(number)
            while self._over and self._over[0][0] <= self._cursor:
                self._end_lane(self._over.popleft()[1])
            self.reached = self._cursor
        if self._live.kept is not None and self.reached - self._noted >= STRIDE:
            self._note()

    def _left(self) -> None:
        """The execution has ended, which says everything, or is left to be gone on with."""
        if not self._live.scheduler.status.is_final:
            self.look()
            self._note()

    def _note(self) -> None:
        """Have the journal know how far hooks have heard."""
        live = self._live
        with live.engine.effects:
            self._noted = self.reached
            if live.engine.recorder is not None:
                live.engine.recorder.note(live, HEARD, self._noted)

    def _note_over(self, first: int) -> None:
        """A message has ended (lock held)."""
        self._over.append((len(self._live.log), _message(first)))

    def _end(self, number: int) -> None:
        """A task has ended for good, and with it what went to it."""
        if self._ways.concern(number):
            error = self._failure(number)
            for entry in self._ways.end(number, error):
                self._close(entry, number, error)

    def _close(self, entry: Entry, number: int, error: BaseException | None) -> None:
        """Tell a hook how a delivery ended."""
        if error is None:
            self._tell(entry.hook.on_acknowledged, entry.id, task=number)
        else:
            self._tell(entry.hook.on_failed, entry.id, error, task=number)

    def _failure(self, number: int) -> BaseException | None:
        """Why a task that has ended didn't complete; None: it did."""
        return None if self._live.scheduler.state[number] == COMPLETED else self._reason(number)

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
        """A lane has ended; its hooks hear of it when none of them is being told of an intent there."""
        if not self._ways.hold(lane):
            self._complete(lane)

    def _complete(self, lane: int) -> None:
        for hook, lane_id in self._lanes.pop(lane, {}).values():
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
                task_id=self._id_of(task),
                data={"handler": name, "error": error, "event_id": None, "event_type": None},
            )

    def _id_of(self, number: int) -> str | None:
        """A task's id, as long as it is known."""
        try:
            return None if number < 0 else str(self._live.log.ids[number])
        except IndexError:
            return None


def _message(first: int) -> int:
    """The lane of a message: not the number of its first task, which ends before it."""
    return -2 - first


def _is_hook(given: object) -> TypeGuard[DispatchHook]:
    return isinstance(given, DispatchHook)


def _name(hook: object) -> str:
    return type(hook).__qualname__
