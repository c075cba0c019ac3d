"""`Suspensions`: tasks that returned `Wait`, the signals that have come, and parents whose time is limited.

A part of the scheduler, as pure as it is; executions in which nobody waits don't have one. What has come is news for
the engine (`scheduler.news`), which has the values: who, and which of the three it was.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping
from heapq import heapify, heappop, heappush
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from nerv.eventlog import SIGNAL_RECEIVED
from nerv.states import DUE, LATE, SIGNALLED

if TYPE_CHECKING:
    from nerv.scheduler import Scheduler


class Suspended(NamedTuple):
    """A task that waits: for what, since when, until when (`due`: that is what it waits for; `deadline`: too late
    then). Moments are of the scheduler's clock.
    """

    what: str
    since: float
    signal: str | None = None
    due: float | None = None
    deadline: float | None = None
    prompt: str = ""


class Suspensions:
    """Who waits, and what has come.

    Attributes:
        waiting: by task number.
        signals: name -> value, of the first signal of each name.
    """

    def __init__(self, scheduler: Scheduler, epoch: float) -> None:
        self.waiting: dict[int, Suspended] = {}
        self.signals: dict[str, Any] = {}
        self._scheduler = scheduler
        self._epoch = epoch
        self._listening: dict[str, list[int]] = {}
        self._moments: list[tuple[float, int, int]] = []

    @property
    def next_due(self) -> float:
        """The moment at which `wake` has something to do; `inf`: none."""
        return self._moments[0][0] if self._moments else inf

    def suspend(self, number: int, now: float, one: Suspended, kept: bytes | None) -> None:
        """A task's function has returned `Wait`, which is `kept` for the journal."""
        moments = [moment for moment in (one.due, one.deadline) if moment is not None]
        data: dict[str, Any] = {"reason": one.what}
        if moments:
            data["due"] = self._epoch + min(moments)
        if one.prompt:
            data["prompt"] = one.prompt
        if kept is not None:
            data["outcome"] = kept
        self._scheduler.waiting(number, now, data)
        self.restore(number, one)

    def restore(self, number: int, one: Suspended) -> None:
        """A task is WAITING, and this is for what."""
        self.waiting[number] = one
        if one.signal is not None and one.signal in self.signals:
            self._scheduler.news.append((SIGNALLED, number))
            return
        if one.signal is not None:
            self._listening.setdefault(one.signal, []).append(number)
        if one.due is not None:
            heappush(self._moments, (one.due, number, DUE))
        if one.deadline is not None:
            heappush(self._moments, (one.deadline, number, LATE))

    def limit(self, number: int, deadline: float) -> None:
        """A task that has added others, or waits for them, is late at this moment."""
        heappush(self._moments, (deadline, number, LATE))

    def signalled(self, name: str, value: Any, now: float) -> bool:
        """A signal has come. False: one of that name had come before, which counts."""
        self._scheduler.records.append((SIGNAL_RECEIVED, -1, now, 0, {"name": name, "value": value}))
        if name in self.signals:
            return False
        self.signals[name] = value
        self._scheduler.news += [(SIGNALLED, number) for number in self._listening.pop(name, ())]
        return True

    def restore_signal(self, data: Mapping[str, Any]) -> None:
        """A record tells of a signal."""
        if data["name"] not in self.signals:
            self.signals[data["name"]] = data["value"]

    def wake(self, now: float) -> None:
        """See whose moment has come."""
        while self._moments and self._moments[0][0] <= now:
            _, number, why = heappop(self._moments)
            if not self._scheduler.has_ended(number):
                self._scheduler.news.append((why, number))

    def leave(self, number: int) -> Suspended | None:
        """A task waits no more; None: it didn't."""
        one = self.waiting.pop(number, None)
        if one is not None and one.signal in self._listening:
            listening = self._listening[one.signal]
            listening.remove(number)
            if not listening:
                del self._listening[one.signal]
        return one

    def forget(self, numbers: Container[int], ids: Iterable[str]) -> None:
        """Nobody asks any more for these tasks, or sends them signals by their ids."""
        for task_id in ids:
            self.signals.pop(task_id, None)
            self._listening.pop(task_id, None)
        self._moments = [entry for entry in self._moments if entry[1] not in numbers]
        heapify(self._moments)

    def drop(self, doomed: Collection[int]) -> None:
        """These tasks won't go on."""
        for number in doomed:
            self.leave(number)
        self._moments = [entry for entry in self._moments if entry[1] not in doomed]
        heapify(self._moments)
