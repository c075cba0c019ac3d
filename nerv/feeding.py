"""`FedScheduler`: the scheduler of a fed flow, as pure as the others.

Each message adds the tasks of its lane, one for each step. What it needs beyond the lane's own wires is decided where
a task becomes ready (`release`) and where it has ended (`_leave`):

- A step on a direct wire has a *turn*: the message whose task may start. A task that is ready before its turn is held.
  When the task whose turn it is has ended, in whatever way, the turn goes on to the next message.
- A *stretch* (the steps behind one buffer) has room for so many messages. One enters with the first of its tasks there
  that is ready, and leaves when all of them have ended, so one that waits counts. Who finds no room queues.

So nothing is said in terms of dependencies: failures and dead branches spread within a lane, as everywhere, and never
to the next message.

With a journal a message is *opened* when it is kept: until then none of its tasks is ready. After a restart turns and
room follow from the states of the tasks, and from the order in which things happened (`brought_in`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from msgspec import UNSET

from nerv.bygone import Bygone
from nerv.eventlog import SIGNAL_RECEIVED, TASKS_ADDED
from nerv.events import EventType
from nerv.families import Family
from nerv.forgetful import ForgetfulScheduler, IndexedBrood
from nerv.pages import Record
from nerv.scheduler import ALL_FINISHED, COMPLETED, PENDING, Scheduler
from nerv.states import ANY_COMPLETED, RUNNING, WAITING
from nerv.stations import DIRECT
from nerv.suspensions import Suspensions


class Message(NamedTuple):
    """A message, and what a journal keeps of it; UNSET: there is none."""

    value: Any
    kept: Any = UNSET


class FeederLike(Protocol):
    """What brings messages in (nerv/feeder.py)."""

    since: float | None

    def send(self, message: Any, *, is_awaited: bool) -> str:
        """One more; returns the id of its lane. Whether the caller waits until the journal has it."""

    def close(self) -> bool:
        """No more. False: it was so already."""

    def packed(self, message: Any) -> Message:
        """A message as it is kept."""

    def regrow(self, data: Any) -> Family:
        """One more that a record tells of."""

    def begin_behind(self, lanes: Collection[Bygone], counts: list[int], ids: Sequence[str]) -> None:
        """These lanes are forgotten already."""

    def pass_over(self, lane: Bygone) -> None:
        """It is the next of these's turn."""


class Stretch:
    """The steps behind one buffer.

    Attributes:
        limit: how many messages may be inside; None: all.
        inside: the messages that are.
        queue: message -> its ready tasks, of those that found no room, in order.
    """

    __slots__ = ("inside", "limit", "queue")

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.inside: set[int] = set()
        self.queue: OrderedDict[int, list[int]] = OrderedDict()  # whose first is found at once, however many have gone


class Listening(Suspensions):
    """Suspensions in which every signal of one name is a message."""

    def __init__(self, scheduler: Scheduler, epoch: float, name: str | None, hear: Callable[[Message], bool]) -> None:
        super().__init__(scheduler, epoch)
        self._name = name
        self._hear = hear

    def signalled(self, name: str, value: Any, now: float) -> bool:
        """A signal has come; one that is a message is a `Message`. False: it counts for nothing."""
        if name != self._name:
            return super().signalled(name, value, now)
        self._scheduler.records.append((SIGNAL_RECEIVED, -1, now, 0, {"name": name, "value": value.value}))
        return self._hear(value)

    def restore_signal(self, data: Mapping[str, Any]) -> None:
        """A record tells of a signal; of one that was a message another does."""
        if data["name"] != self._name:
            super().restore_signal(data)


class FedScheduler(ForgetfulScheduler):
    """Decides what runs when in one execution of a fed flow. Arguments as of `Scheduler`.

    Attributes:
        over: how many of them have ended.
        on_start: called when the execution has begun.
        hear: called with each signal that is a message.
        feeder: what users send messages by.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.is_free = self.is_plain = False  # every ready task comes by `release`
        self.over = 0
        self.on_start: Callable[[], object] = lambda: None
        self.hear: Callable[[Message], bool] = lambda _: False
        self.feeder: FeederLike
        self._stretch_of: Sequence[int] = ()
        self._sizes: list[int] = []
        self._stretches: list[Stretch] = []
        self._turns: list[int] = []
        self._places: dict[int, tuple[int, int]] = {}  # task -> its message and its step; of messages under way
        self._firsts: dict[int, int] = {}  # message -> its first task
        self._oldest = 0  # the first message in `_firsts`
        self._held: set[int] = set()
        self._left: dict[int, int] = {}  # message -> how many of its tasks haven't ended
        self._left_there: dict[tuple[int, int], int] = {}  # likewise of those in one stretch

    def lay_out(self, stretches: Sequence[int], limits: Sequence[int | None]) -> None:
        """Say how the steps are wired: for each its stretch, and for each stretch its limit."""
        self._stretch_of = stretches
        self._sizes = [sum(one == stretch for one in stretches) for stretch in range(len(limits))]
        self._stretches = [Stretch(limit) for limit in limits]
        self._turns = [0] * len(stretches)

    def start(self, now: float, data: dict[str, Any], reused: Sequence[int] = ()) -> None:
        """Begin."""
        super().start(now, data, reused)
        self.on_start()

    def has_suspensions(self, epoch: float) -> Suspensions:
        """The suspensions, from now on."""
        if self.suspensions is None:
            self.suspensions = Listening(self, epoch, self.signal, self.hear)
        return self.suspensions

    def enter(self, family: Family, now: float, data: Mapping[str, Any]) -> None:
        """Take up one more message, whose tasks are this family; `data` is what its event says."""
        self.take_up(family)
        self.note_seqs(self.lanes.of[family.first], self.dropped + len(self.records) + 1)
        self.records.append((TASKS_ADDED, self.source, now, self.attempts[self.source], data))

    def take_up(self, family: Family) -> None:
        """Note whose tasks these are, and who waits for them."""
        message, self.messages = self.messages, self.messages + 1
        own, first = self.own_dependents(), family.first
        brood = self.has_families().broods
        for step, number in enumerate(family.numbers):
            station = self.source + 1 + step
            own[number][-1] = station  # in place of the Source, which doesn't wait for it
            self.missing[station] += 1
            brood.setdefault(station, IndexedBrood()).indexed.append(number)
            self._places[number] = message, step
        brood[self.source].named.clear()
        if DIRECT in self._stretch_of:
            self._firsts[message] = first
        self._left[message] = family.count
        for stretch, size in enumerate(self._sizes):
            self._left_there[message, stretch] = size
        family.lane = first

    def is_entrance(self, number: int) -> bool:
        """Whether a task is one of the first that a message comes to."""
        family = None if self.families is None else self.families.of(number)
        return family is not None and family.parent == self.source and not self.needs_of(number)

    def open(self, family: Family) -> None:
        """A message's tasks may start."""
        for number in family.numbers:
            if not self.needs_of(number) and self.state[number] == PENDING:
                self.release(number)

    # ---- turns and room ---------------------------------------------------------------------------------------------

    def release(self, number: int) -> None:
        """A task is ready: it may start if it is its message's turn there, or there is room for the message."""
        place = self._places.get(number)
        if place is not None:
            message, step = place
            stretch = self._stretch_of[step]
            if stretch == DIRECT:
                if self._turns[step] != message:
                    self._held.add(number)
                    return
            elif not self._has_room(self._stretches[stretch], message, number):
                return
        super().release(number)

    @staticmethod
    def _has_room(stretch: Stretch, message: int, number: int) -> bool:
        if stretch.limit is None or message in stretch.inside:
            return True
        if len(stretch.inside) >= stretch.limit:
            stretch.queue.setdefault(message, []).append(number)
            return False
        stretch.inside.add(message)
        return True

    def completed(self, number: int, now: float, data: dict[str, Any] | None = None) -> None:
        """A task's function returned, or something stands in for its result."""
        super().completed(number, now, data)
        self._leave(number)

    def _end(self, number: int, now: float, table: dict[int, int], event: EventType, data: dict[str, Any]) -> None:
        super()._end(number, now, table, event, data)
        self._leave(number)

    def _leave(self, number: int) -> None:
        self.leave_lane(number)
        place = self._places.pop(number, None)
        if place is None:
            return
        message, step = place
        self._held.discard(number)
        stretch = self._stretch_of[step]
        if stretch == DIRECT:
            self._go_on(step)
        else:
            left = self._left_there[message, stretch] = self._left_there[message, stretch] - 1
            if not left:
                self._make_room(self._stretches[stretch], message)
        self._left[message] -= 1
        if not self._left[message]:
            self.over += 1
            del self._left[message]
            for one in range(len(self._sizes)):
                del self._left_there[message, one]

    def _go_on(self, step: int) -> None:
        """The turn of a step goes on past all messages whose tasks there have ended."""
        turn = self._turns[step]
        while turn in self._firsts and self.has_ended(self._firsts[turn] + step):
            turn += 1
        self._turns[step] = turn
        self._forget()
        if turn in self._firsts:
            number = self._firsts[turn] + step
            if number in self._held:
                self._held.remove(number)
                self._let(number)

    def _forget(self) -> None:
        """Messages that every direct step has passed aren't looked up any more."""
        direct = [turn for turn, stretch in zip(self._turns, self._stretch_of, strict=True) if stretch == DIRECT]
        for message in range(self._oldest, min(direct)):
            del self._firsts[message]
        self._oldest = min(direct)

    def _make_room(self, stretch: Stretch, message: int) -> None:
        stretch.queue.pop(message, None)
        if message not in stretch.inside:
            return
        stretch.inside.remove(message)
        if stretch.queue and (stretch.limit is None or len(stretch.inside) < stretch.limit):
            following = next(iter(stretch.queue))
            ready = stretch.queue.pop(following)
            stretch.inside.add(following)
            for number in ready:
                self._let(number)

    def _let(self, number: int) -> None:
        """A task that had to stand back may start, unless nothing starts any more."""
        if not self.has_ended(number) and not (self.stopping and self.rules[number] != ALL_FINISHED):
            super().release(number)

    # ---- after a restart --------------------------------------------------------------------------------------------

    def pass_over(self, count: int) -> None:
        """One more message that is forgotten already: all turns go past it."""
        if DIRECT in self._stretch_of:
            self._firsts[self.messages] = len(self.state)
        super().pass_over(count)
        self.over += 1

    def brought_in(
        self, heard_at: Mapping[int, int], suspected: Sequence[int], records: Iterable[tuple[int, Record]]
    ) -> None:
        """All states are as the records say: whose turn it is, who is inside and who queues follows.

        Args:
            heard_at: task number -> the seq of the last that happened to it.
            suspected: tasks that had been let start, and may have.
            records: they, with their seqs.
        """
        begun = set(suspected)
        limited = [number for number, stretch in enumerate(self._stretches) if stretch.limit is not None]
        came = {number: self._came(number, heard_at) for number in limited}
        self.recall(self._places, records)
        for step, stretch in enumerate(self._stretch_of):
            if stretch == DIRECT:
                self._go_on(step)
        for number in list(self._places):
            if self.has_ended(number):
                self._leave(number)
        for _, step in self._places.values():
            self.missing[self.source + 1 + step] += 1
        for one in limited:
            there = [message for message in came[one] if self._left_there.get((message, one))]
            self._seat(self._stretches[one], there, self._busy(one, begun))

    def _came(self, stretch: int, heard_at: Mapping[int, int]) -> list[int]:
        """The messages that came to a stretch, in that order."""
        when: dict[int, int] = {}
        for number, (message, step) in self._places.items():
            if self._stretch_of[step] == stretch:
                moment = self._ready_since(number, heard_at)
                if moment is not None:
                    when[message] = min(moment, when.get(message, moment))
        return sorted(when, key=lambda message: (when[message], message))

    def _ready_since(self, number: int, heard_at: Mapping[int, int]) -> int | None:
        """The seq at which a task became ready; None: it never did."""
        state = self.state[number]
        is_ready = not self.missing[number] if state == PENDING else self.attempts[number] or state == COMPLETED
        if not is_ready:
            return None
        needs = self.needs_of(number)
        if self.rules[number] == ANY_COMPLETED:
            return min((heard_at[need] for need in needs if self.state[need] == COMPLETED), default=0)
        return max((heard_at[need] for need in needs), default=0)

    def _busy(self, stretch: int, begun: Container[int]) -> set[int]:
        """The messages of which a task in a stretch has begun and not ended."""
        return {
            message
            for number, (message, step) in self._places.items()
            if self._stretch_of[step] == stretch and (self.state[number] in (RUNNING, WAITING) or number in begun)
        }

    @staticmethod
    def _seat(stretch: Stretch, there: Sequence[int], busy: Container[int]) -> None:
        """Who has begun is inside, and as many of the others as there is room for, in the order in which they came."""
        seated = [message for message in there if message in busy]
        others = [message for message in there if message not in busy]
        room = max(0, (stretch.limit or 0) - len(seated))
        stretch.inside.update(seated, others[:room])
        stretch.queue.update((message, []) for message in others[room:])
