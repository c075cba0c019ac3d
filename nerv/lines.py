"""Lines: limits that tasks share, and the tasks in line before them.

A `Line` is a limit with those who wait for it: a rate limit's window, a circuit breaker, a stock of some resource.
Those with a name are shared by all executions of an engine, so everything here is guarded by its lock. Pure: the moment
is an argument.

How waiting works. A scheduler that takes a ready task asks the lines in the task's `Terms`. If one is shut the task
joins it and is WAITING; it holds no worker and nothing polls. When a line may have opened (something was given back,
its moment has come, or somebody in front has gone away) it is `stirred`, and the engine has it `offer`: as many of
those in line as there is room for become ready again, and whoever is taken first passes. Room is offered to each pool's
tasks on their own, since a task that is ready for a full pool mustn't keep the others out. An offer is no promise: a
task that finds the line shut again goes back into it.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from fractions import Fraction
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from nerv.errors import CircuitOpenError
from nerv.events import EventType
from nerv.limits import Breaker, Stock, Window, exact
from nerv.policies import CircuitBreaker, RateLimit, RetryPolicy

if TYPE_CHECKING:
    from nerv.caching.desk import Flight
    from nerv.lookups import Lookups
    from nerv.waits import Waits


Standing: TypeAlias = tuple[float, float]
"""Where a task stands in line: its rank, and the turn that it has among those of the same rank."""
END: Final[Standing] = (inf, inf)


class Line:
    """A limit, and the tasks in line before it, for each pool in the order of their ranks.

    Attributes:
        opening: when time alone makes more room than there was when it was last looked at; `inf`: never.
    """

    reason: str
    opening = inf

    def __init__(self, name: str | None, lines: Lines) -> None:
        self.name = name
        self._all = lines
        self._waiting: dict[Hashable, list[tuple[float, float, Waits, int, float]]] = {}

    @property
    def title(self) -> str:
        """What those in line wait for."""
        return f"{self.reason} {self.name!r}" if self.name else self.reason

    def opens_at(self, now: float, amount: float) -> float:
        """The moment from which a start is possible; `inf`: somebody must give back first."""
        raise NotImplementedError

    def enter(self, now: float, amount: float) -> Any:
        """A start; gives what `leave` wants to see."""
        raise NotImplementedError

    def leave(self, token: Any, now: float, *, ok: bool | None) -> None:
        """The attempt has ended, well or not; None: it says nothing about that."""
        raise NotImplementedError

    def room(self, now: float) -> int | Fraction:
        """How much could start now."""
        raise NotImplementedError

    def due(self, now: float) -> float:
        """The next moment at which time alone makes more room than there is now; `inf`: there is none."""
        moment = self.opens_at(now, 1)
        return moment if moment > now else inf

    def look(self, now: float) -> None:
        """Something has changed: what there is room for now has been offered, or will be; when will there be more?"""
        self.opening = self.due(now)
        self._all.news = True

    def goes_first(self, pool: Hashable, standing: Standing) -> bool:  # noqa: ARG002
        """Whether somebody in line must be let in before a task that there is room for, and that stands there."""
        return False

    def barrier(self) -> Standing:
        """Where the first in line, of any pool, stands for whom there is too little: nobody behind is let in."""
        return END

    def wait(self, pool: Hashable, waits: Waits, number: int, amount: float, now: float) -> None:
        """A task joins the line."""
        self._all.waited_for[self] = None
        self.look(now)
        heappush(self._waiting.setdefault(pool, []), (*waits.standing(number), waits, number, amount))

    def move(self, waits: Waits, number: int, rank: int) -> None:
        """A task in line has another rank now. It may belong to another pool by now than when it joined."""
        for queue in self._waiting.values():
            for place, (_, turn, whose, task, amount) in enumerate(queue):
                if whose is waits and task == number:
                    queue[place] = (rank, turn, whose, task, amount)
            heapify(queue)
        self._all.stir(self)  # who was behind it may be in front now

    def offer(self, now: float) -> list[Waits]:
        """Let those in line try that there is room for; gives whose they are."""
        touched, barrier = [], self.barrier()
        for pool, queue in list(self._waiting.items()):
            room = self.room(now)
            kept = []
            while queue and room > 0:
                entry = heappop(queue)
                rank, turn, waits, number, amount = entry
                if waits.parked.get(number) is not self:
                    continue
                if waits.is_held:
                    kept.append(entry)
                    continue
                need = exact(amount)
                if need > room or (rank, turn) > barrier:
                    kept.append(entry)
                    break
                room -= need
                waits.unpark(number)
                touched.append(waits)
            for entry in kept:
                heappush(queue, entry)
            if not queue:
                del self._waiting[pool]
        self.look(now)
        if not self._waiting:
            self._all.waited_for.pop(self, None)
        return touched

    def forget(self, waits: Waits) -> None:
        """An execution has ended: its tasks leave the line."""
        for pool, queue in list(self._waiting.items()):
            queue[:] = [entry for entry in queue if entry[2] is not waits]
            heapify(queue)
            if not queue:
                del self._waiting[pool]
        if not self._waiting:
            self._all.waited_for.pop(self, None)


class RateLine(Line):
    """At most so many starts in any window of time."""

    reason = "rate limit"

    def __init__(self, limit: RateLimit, lines: Lines) -> None:
        super().__init__(limit.name, lines)
        self._window = Window(limit)

    def opens_at(self, now: float, amount: float) -> float:  # noqa: ARG002  a start is a start
        """When the oldest start leaves the window."""
        return self._window.opens_at(now)

    def due(self, now: float) -> float:
        """When the next place comes back, though there may be others that were offered and not taken yet."""
        return self._window.grows_at(now)

    def enter(self, now: float, amount: float) -> None:  # noqa: ARG002
        """One more start in the window."""
        self._window.take(now)

    def leave(self, token: Any, now: float, *, ok: bool | None) -> None:
        """Only time makes room."""

    def room(self, now: float) -> int:
        """Starts that are left in the window."""
        return self._window.room(now)


class BreakerLine(Line):
    """Shut for a while after so many failures in a row."""

    reason = "circuit breaker"

    def __init__(self, policy: CircuitBreaker, lines: Lines) -> None:
        super().__init__(policy.name, lines)
        self.policy = policy
        self._breaker = Breaker(policy)

    def opens_at(self, now: float, amount: float) -> float:  # noqa: ARG002  a call is a call
        """The end of the recovery time, if it is open."""
        return self._breaker.opens_at(now)

    def enter(self, now: float, amount: float) -> Any:  # noqa: ARG002
        """A call; which ones count is the breaker's affair."""
        return self._breaker.take(now)

    def leave(self, token: Any, now: float, *, ok: bool | None) -> None:
        """What became of a call."""
        change = self._breaker.ended(token, ok, now)
        if change is not None:
            self._all.turned(self, change)
        if self in self._all.waited_for:
            self._all.stir(self)

    def room(self, now: float) -> int:
        """All, some, or none."""
        return self._breaker.room(now)

    def error(self, task_id: str) -> CircuitOpenError:
        """What a task fails with that is refused."""
        name = f" {self.name!r}" if self.name else ""
        return CircuitOpenError(
            f"task {task_id!r} wasn't called: its circuit breaker{name} is open after {self.policy.failure_threshold} "
            f"failures in a row, for {self.policy.recovery_time:g} s; with a retry policy it would wait"
        )


class ResourceLine(Line):
    """So much of something, held while an attempt runs."""

    reason = "resources"

    def __init__(self, name: str, amount: float, lines: Lines) -> None:
        super().__init__(name, lines)
        self.stock = Stock(name, amount)

    def opens_at(self, now: float, amount: float) -> float:
        """Now, or when somebody gives back."""
        return now if self.stock.fits(amount) else inf

    def enter(self, now: float, amount: float) -> float:  # noqa: ARG002
        """Take so much."""
        self.stock.take(amount)
        return amount

    def leave(self, token: float, now: float, *, ok: bool | None) -> None:  # noqa: ARG002
        """Give it back."""
        self.stock.give(token)
        if self in self._all.waited_for:
            self._all.stir(self)

    def goes_first(self, pool: Hashable, standing: Standing) -> bool:
        """Who needs much would wait for ever, if everybody who needs less went past, in its own pool or in another. Of
        another pool, whoever there is enough for waits for that pool, and holds nobody up.
        """
        head = self._head(self._waiting.get(pool, ()))
        return (head is not None and head[:2] < standing) or self.barrier() < standing

    def barrier(self) -> Standing:
        """See `Line`."""
        heads = [self._head(queue) for queue in self._waiting.values()]
        return min((head[:2] for head in heads if head is not None and not self.stock.fits(head[4])), default=END)

    def _head(self, queue: list[tuple[float, float, Waits, int, float]] | tuple[()]) -> Any:
        """The first in line of a pool, of those that don't stand back."""
        while queue:
            waits, number = queue[0][2:4]
            if waits.parked.get(number) is not self:
                heappop(queue)
            elif not waits.is_held:
                return queue[0]
            else:
                return min(
                    (one for one in queue if one[2].parked.get(one[3]) is self and not one[2].is_held), default=None
                )
        return None

    def room(self, now: float) -> Fraction:  # noqa: ARG002
        """What is there."""
        return self.stock.left

    def due(self, now: float) -> float:  # noqa: ARG002
        """Only who gives back makes room, however much is free meanwhile: it is too little for those in line."""
        return inf


class Terms:
    """What a task's policies ask of each of its attempts. Tasks with the same policies share one.

    Attributes:
        retry: when another attempt follows a failed one.
        fallback: what completes the task when there is none; UNSET: nothing does.
        lines: what each attempt must pass, with the amount it takes there.
    """

    __slots__ = ("attempts", "fallback", "lines", "retry")

    def __init__(self, retry: RetryPolicy | None, fallback: Any, lines: tuple[tuple[Line, float], ...]) -> None:
        self.retry = retry
        self.fallback = fallback
        self.lines = lines
        self.attempts = 1 if retry is None else retry.maximum_attempts


class Lines:
    """All lines of one engine, and what the engine has to look into.

    Attributes:
        news: whether there is something in the attributes below that it hasn't looked into.
        turns: the next turn of a task that joins a line.
        refused: tasks that a breaker has refused for good, to be failed.
        circuits: breakers that have opened or closed, and the event that tells so.
        grounded: what executions no longer compute for others (nerv/lookups.py).
        waited_for: lines that somebody waits in.
        resources: by name.
    """

    def __init__(self, resources: Mapping[str, float]) -> None:
        self.news = False
        self.turns = count()
        self.refused: list[tuple[Waits, int, BreakerLine]] = []
        self.circuits: list[tuple[EventType, BreakerLine]] = []
        self.grounded: list[Flight] = []
        self.waited_for: dict[Line, None] = {}
        self._stirred: dict[Line, None] = {}
        self.resources = {name: ResourceLine(name, amount, self) for name, amount in resources.items()}
        self._named: dict[tuple[type, str], tuple[RateLimit | CircuitBreaker, Line]] = {}

    def line(self, policy: RateLimit | CircuitBreaker, own: dict[int, Line]) -> Line:
        """The line of a policy: all that have the same name share one. One without a name is shared by the tasks of one
        execution that were given the same object; `own` is that execution's, by id.

        Raises:
            ValueError: its name belongs to a policy with other settings.
        """
        if policy.name is None:
            line = own.get(id(policy))
            if line is None:
                line = own[id(policy)] = self._made(policy)
            return line
        key = type(policy), policy.name
        known = self._named.get(key)
        if known is None:  # executions may be started from several threads at once: one of them is the first
            known = self._named.setdefault(key, (policy, self._made(policy)))
        if known[0] is not policy and known[0] != policy:
            raise ValueError(f"the name {policy.name!r} stands for two different settings: {known[0]} and {policy}")
        return known[1]

    def _made(self, policy: RateLimit | CircuitBreaker) -> Line:
        return RateLine(policy, self) if isinstance(policy, RateLimit) else BreakerLine(policy, self)

    def stir(self, *lines: Line) -> None:
        """These may have room: the engine will have them offer it."""
        for line in lines:
            self._stirred[line] = None
        self.news = True

    def refuse(self, waits: Waits, number: int, line: BreakerLine) -> None:
        """The engine will fail this task."""
        self.refused.append((waits, number, line))
        self.news = True

    def turned(self, line: BreakerLine, change: str) -> None:
        """The engine will tell that a breaker has opened or closed."""
        self.circuits.append((_CHANGES[change], line))
        self.news = True

    def land(self, lookups: Lookups) -> None:
        """The engine will tell those who wait for what these tasks no longer compute."""
        self.grounded += lookups.take_adrift()
        self.news = True

    def take_grounded(self) -> list[Flight]:
        """What the engine lands now."""
        grounded, self.grounded = self.grounded, []
        return grounded

    def take_refused(self) -> list[tuple[Waits, int, BreakerLine]]:
        """The refused tasks, which the engine fails now."""
        refused, self.refused = self.refused, []
        return refused

    def take_circuits(self) -> list[tuple[EventType, BreakerLine]]:
        """What the engine tells now."""
        circuits, self.circuits = self.circuits, []
        return circuits

    def offer(self, now: float) -> list[Waits]:
        """Have all offer what they have that may have something; gives whose tasks are ready now."""
        stirred, self._stirred = self._stirred, {}
        return list(dict.fromkeys(waits for line in stirred for waits in line.offer(now)))

    def next_opening(self) -> float:
        """The next moment at which a line that somebody waits in opens by itself; `inf`: none does."""
        return min((line.opening for line in self.waited_for), default=inf)

    def stir_open(self, now: float) -> None:
        """The time has come for some: those that are open by now will offer."""
        self.stir(*(line for line in self.waited_for if line.opening <= now))


_CHANGES: Final = {"opened": EventType.CIRCUIT_OPENED, "closed": EventType.CIRCUIT_CLOSED}
