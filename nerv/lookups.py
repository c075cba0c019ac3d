"""`Lookups`: the tasks of one execution that look for their result before they compute it (nerv/caching).

A part of the scheduler, as pure as it is; executions without such tasks don't have one. When such a task is ready it is
taken for an errand first, LOOKUP: a worker hashes what it is given and asks the cache. Meanwhile the task is claimed.
What follows (nerv/endings.py):

- The result is there: the task is COMPLETED, without an attempt.
- Somebody else is computing it: the task is WAITING until that *flight* has landed. It takes the value that it brought,
  or else looks again.
- Nobody has it: the task holds the flight that the others wait for, and is ready to be taken for its attempt.

A look takes place in the task's own queue if threads serve it, else in that of the built-in thread pool: hashing would
hold up an event loop, and a worker process hasn't got the cache. So `queue_of` tells where the task goes next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nerv.caching.desk import Flight


class Lookups:
    """Who looks, who waits, and who holds what others wait for.

    Args:
        queues: by number of the tasks that have a `Cache`: the queue in which they look.
        queue_of: the queue of each task; belongs to the scheduler, and is changed here.

    Attributes:
        flights: by task number, what it computes for all.
        awaited: by task number, what it waits for.
        adrift: flights that nobody is computing any more; the engine tells those who wait.
    """

    def __init__(self, queues: Mapping[int, int], queue_of: list[int]) -> None:
        self.flights: dict[int, Flight] = {}
        self.awaited: dict[int, Flight] = {}
        self.adrift: list[Flight] = []
        self._queues = dict(queues)
        self._own = {number: queue_of[number] for number in queues}
        self._queue_of = queue_of
        for number in queues:
            self.again(number)

    def belongs(self, number: int, queue: int) -> bool:
        """From now on a task belongs to another queue. True: that is for later, it looks first."""
        if number not in self._queues:
            return False
        self._own[number] = queue
        return self._queue_of[number] == self._queues[number] and number not in self.flights

    def join(self, number: int, queue: int, own: int) -> None:
        """A task that is added while the execution runs: where it looks, and where it runs."""
        self._queues[number] = queue
        self._own[number] = own

    def comes_first(self, number: int) -> bool:
        """Whether a task that is ready has to look before anything else."""
        return number in self._queues and number not in self.flights

    def again(self, number: int) -> None:
        """The next thing that a task does is to look, if it looks at all."""
        if number in self._queues:
            self._queue_of[number] = self._queues[number]

    def looked(self, number: int) -> None:
        """A task won't look next, if it does at all: whatever it does, it does where it belongs."""
        if number in self._own:
            self._queue_of[number] = self._own[number]

    def left(self, number: int) -> None:
        """A task has stopped computing, or waiting."""
        self.awaited.pop(number, None)
        flight = self.flights.pop(number, None)
        if flight is not None and not flight.has_landed:
            self.adrift.append(flight)

    def forget(self, numbers: Iterable[int]) -> None:
        """Nobody asks any more for these tasks."""
        for number in numbers:
            self._queues.pop(number, None)
            self._own.pop(number, None)

    def pause(self, state: bytearray, running: int) -> None:
        """Nothing starts for a while: nobody shall wait for tasks that aren't running. They compute on their own."""
        self.adrift += [f for number, f in self.flights.items() if state[number] != running and not f.has_landed]

    def close(self) -> None:
        """The execution has ended."""
        for number in [*self.flights, *self.awaited]:
            self.left(number)

    def take_adrift(self) -> list[Flight]:
        """What the engine lands now."""
        adrift, self.adrift = self.adrift, []
        return adrift
