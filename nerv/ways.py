"""`Ways`: the deliveries of one execution that are on their way: intended, and their tasks haven't ended.

A part of `Wires`. A hook takes its time to hear of an intent, and meanwhile the attempt may be given up, the task end,
and its lane be folded. So who is being told is noted (`Way`), and so is there how the task ended: what the hook then
calls the delivery is closed at once, and the lane ends when the hook is back.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

from nerv.errors import TaskCancelledError

if TYPE_CHECKING:
    from nerv.calls import Call
    from nerv.journal.deliveries import DispatchHook


class Entry:
    """A delivery on its way: who was told, where it comes from, how the hook calls it, whether it was dispatched."""

    __slots__ = ("hook", "id", "is_dispatched", "source")

    def __init__(self, hook: DispatchHook, source: int, entry_id: Any) -> None:
        self.hook = hook
        self.source = source
        self.id = entry_id
        self.is_dispatched = False


class Way:
    """A task whose hooks are being told of intents: its lane, whether it has ended meanwhile, and if it failed why."""

    __slots__ = ("error", "is_over", "lane", "number")

    def __init__(self, number: int, lane: int) -> None:
        self.number = number
        self.lane = lane
        self.is_over = False
        self.error: BaseException | None = None


class Ways:
    """All of them. Its lock is taken with no other inside it: who adds to them doesn't wait for hooks.

    Attributes:
        open: by the task that receives.
    """

    def __init__(self) -> None:
        self.open: dict[int, list[Entry]] = {}
        self._lock = threading.Lock()
        self._told: dict[int, list[Way]] = {}  # by the task that receives, who is being told of it
        self._under_way: Counter[int] = Counter()  # how many of these are in a lane
        self._awaited: set[int] = set()  # lanes that have ended but for them

    def set_out(self, call: Call, lane: int) -> Way:
        """Hooks are about to be told of what goes to a task of this lane.

        Raises:
            TaskCancelledError: the attempt was given up.
        """
        with self._lock:
            if call.abandoned:
                raise given_up(call)
            way = Way(call.number, lane)
            self._told.setdefault(call.number, []).append(way)
            self._under_way[lane] += 1
        return way

    def opened(self, way: Way, entry: Entry) -> bool:
        """A hook has been told of an intent. False: too late, the task has ended."""
        with self._lock:
            if not way.is_over:
                self.open.setdefault(way.number, []).append(entry)
            return not way.is_over

    def knows(self, number: int, hook: DispatchHook, source: int) -> bool:
        """Whether a hook has been told already of what goes from one task to another."""
        return any(entry.hook is hook and entry.source == source for entry in self.open.get(number, ()))

    def arrived(self, way: Way) -> bool:
        """The hooks are back. True: the lane has ended, and waited only for them."""
        with self._lock:
            others = self._told[way.number]
            others.remove(way)
            if not others:
                del self._told[way.number]
            self._under_way[way.lane] -= 1
            if self._under_way[way.lane]:
                return False
            del self._under_way[way.lane]
            was_awaited = way.lane in self._awaited
            self._awaited.discard(way.lane)
        return was_awaited

    def concern(self, number: int) -> bool:
        """Whether anything is on its way to a task."""
        return number in self.open or number in self._told

    def end(self, number: int, error: BaseException | None) -> list[Entry]:
        """A task has ended, with this error or well; gives what was open."""
        with self._lock:
            for way in self._told.get(number, ()):
                way.is_over, way.error = True, error
            return self.open.pop(number, [])

    def hold(self, lane: int) -> bool:
        """A lane has ended. Whether somebody is still being told of what goes over it; then `arrived` says so."""
        with self._lock:
            if lane in self._under_way:
                self._awaited.add(lane)
            return lane in self._under_way

    def hold_all(self) -> None:
        """All lanes have ended; nobody waits for who is still being told, but they say when they are back."""
        with self._lock:
            self._awaited.update(self._under_way)


def given_up(call: Call) -> TaskCancelledError:
    """What an attempt ends with that was given up while hooks were being told of it; nobody asks."""
    return TaskCancelledError(
        f"attempt {call.attempt} of task {call.task.id!r} was given up before its function was called"
    )
