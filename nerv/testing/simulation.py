"""`simulate`: a workflow under a thousand schedules, with faults, to find the one that breaks a promise."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import Any, Final, TypeAlias

import msgspec

from nerv.calls import Call
from nerv.errors import NervError, described
from nerv.eventlog import Cursor
from nerv.execution import Execution
from nerv.manager import WorkflowManager
from nerv.testing.cast import Cast, stands_for_others
from nerv.testing.clock import FakeClock
from nerv.testing.faults import Faults
from nerv.testing.invariants import InvariantError, Reading
from nerv.testing.mocks import TaskName
from nerv.testing.pools import SimulatedPools
from nerv.testing.tester import seed_jitter, with_turns, without_inline
from nerv.workflows import Workflow

Invariant: TypeAlias = Callable[[Execution], object]
Params: TypeAlias = Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None

LONGEST: Final = 1_000_000
"""Steps after which a schedule counts as one that never ends."""

DEFAULT_FAULTS: Final = Faults(failing=0.05, crashing=0.02, slow=0.1, hanging=0.05)


class CounterExampleError(NervError, AssertionError):
    """Raised by `simulate` for the first schedule in which something doesn't hold; its `__cause__` says what.

    Attributes:
        seed: replays it: `simulate(..., seed=seed)`.
        execution: how it ended (None after pickling).
    """

    def __init__(self, message: str, seed: int, execution: Execution | None = None) -> None:
        super().__init__(message)
        self.seed = seed
        self.execution = execution

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.args[0], self.seed)


class SimulationReport(msgspec.Struct, frozen=True):
    """What `simulate` has seen: how many schedules, how they ended (by WorkflowStatus name), events, and faults."""

    seeds: int
    statuses: dict[str, int]
    events: int
    faults: int


def simulate(
    workflow: Workflow,
    seeds: int | Iterable[int] = 1000,
    *,
    faults: Faults = DEFAULT_FAULTS,
    invariant: Invariant | Sequence[Invariant] = (),
    params: Params = None,
    mocks: Mapping[TaskName, Callable[..., Any]] | None = None,
    signals: Mapping[str, Any] | None = None,
    messages: Iterable[Any] | None = None,
    services: Any = None,
    seed: int | None = None,
    **settings: Any,
) -> SimulationReport:
    """Run a workflow under many schedules, each drawn from a seed: who is quicker, and what befalls whom.

    After each run the engine's own promises are checked against the events (attempts, order, timeouts, limits,
    compensations, that it ends at all), and then yours.

    Args:
        workflow: what to run. Its functions are really called, in this thread, once an attempt.
        seeds: how many schedules, or which seeds.
        faults: what befalls calls, and how often.
        invariant: a function, or several, called with each `Execution` when it has ended; it raises, or returns
            False, if something isn't as it must always be.
        params: as of `run`, or a function that makes them anew for each schedule (a fresh database, say).
        mocks: functions called in place of tasks' own, by task (see `WorkflowTester.mock`).
        signals: name -> value, each sent at some moment: what gates and other tasks wait for.
        messages: of a fed flow: sent in this order, each at some moment; when all are, it is closed.
        services: seen by tasks as `ctx.services`.
        seed: replay this one schedule only.
        **settings: as of `run`. `workers` and `processes` are drawn from the seed unless they are given.

    Raises:
        CounterExampleError: something didn't hold. It says what, what befell the run, and how to replay it.
        WorkflowDefinitionError, ConfigError, UnknownIdError, TypeError: nothing can be run.
    """
    invariants = _invariants(invariant)
    if not isinstance(faults, Faults):
        raise TypeError(f"faults= is a Faults, such as Faults(failing=0.1), not {faults!r}")
    if settings.get("journal") is not None:
        raise TypeError(
            "a simulation keeps no journal, since each of its executions is to be forgotten; leave out journal="
        )
    given = workflow, faults, params, mocks, signals, _sent(messages, workflow), services, settings
    return _reported(Schedule(number, *given).hold(invariants, repeat=seed is None) for number in _seeds(seeds, seed))


def _reported(schedules: Iterable[Schedule]) -> SimulationReport:
    statuses: dict[str, int] = {}
    events = befallen = 0
    for schedule in schedules:
        status = schedule.execution.status.name
        statuses[status] = statuses.get(status, 0) + 1
        events += len(schedule.execution.log)
        befallen += len(schedule.faults.noted)
    return SimulationReport(sum(statuses.values()), statuses, events, befallen)


def _invariants(given: Invariant | Sequence[Invariant]) -> list[Invariant]:
    invariants = [given] if callable(given) else list(given)
    wrong = [one for one in invariants if not callable(one)]
    if wrong:
        raise TypeError(f"invariant= is a function of the Execution, or several, not {wrong[0]!r}")
    return invariants


def _sent(messages: Iterable[Any] | None, workflow: Workflow) -> tuple[Any, ...] | None:
    is_fed = isinstance(workflow, Workflow) and any(map(stands_for_others, workflow.tasks.values()))
    if is_fed != (messages is not None):
        what = "takes messages: give it messages=[...]" if is_fed else "takes no messages: leave out messages="
        raise TypeError(f"{workflow!r} {what}")
    return None if messages is None else tuple(messages)


def _seeds(seeds: int | Iterable[int], seed: int | None) -> Iterable[int]:
    if seed is not None:
        return (seed,)
    if isinstance(seeds, int):
        if isinstance(seeds, bool) or seeds < 1:
            raise ValueError(f"seeds= is how many schedules to try, from 1, or a list of seeds, not {seeds!r}")
        return range(seeds)
    return seeds


class Schedule:
    """One run of the workflow, all of it drawn from one seed."""

    def __init__(  # noqa: PLR0917  as `simulate` was given them
        self,
        seed: int,
        workflow: Workflow,
        faults: Faults,
        params: Params,
        mocks: Mapping[TaskName, Callable[..., Any]] | None,
        signals: Mapping[str, Any] | None,
        messages: Sequence[Any] | None,
        services: Any,
        settings: Mapping[str, Any],
    ) -> None:
        self._given = (seed, workflow, faults, params, mocks, signals, messages, services, settings)
        self.seed = seed
        self.workflow = workflow
        self._params = params
        self._services = services
        self._signals = dict(signals or {})
        self._messages = None if messages is None else deque(messages)
        self._random = Random(f"schedule {seed}")  # noqa: S311  (no secrets)
        self.faults = faults.seeded(f"faults {seed}")
        self._cast = Cast(mocks)
        self.faults.perform = self._cast.perform
        self.clock = FakeClock(auto=True)
        self.pools = SimulatedPools(
            seed, clock=self.clock, takes=self._takes, faults=self._befalls, perform=self._cast.perform
        )
        drawn = {"workers": self._random.randint(1, 4), "processes": self._random.randint(1, 2)}
        self.manager = WorkflowManager(clock=self.clock, pool_factory=self.pools, **with_turns({**drawn, **settings}))
        seed_jitter(self.manager, f"jitter {seed}")
        self.has_started = False
        self.cancelled = False
        self._unread = Cursor()  # all events are checked when it has ended, so none may be forgotten
        self.execution: Execution

    def _takes(self, call: Call) -> float:
        return 0.0 if stands_for_others(call.task) else max(self._cast.takes(call), self.faults.takes(call))

    def _befalls(self, call: Call) -> BaseException | None:
        return None if stands_for_others(call.task) else self.faults(call)

    def hold(self, invariants: Sequence[Invariant], *, repeat: bool) -> Schedule:
        """Run it, and check everything; `repeat`: once more, if something doesn't hold. Gives itself.

        Raises:
            CounterExampleError: something doesn't.
        """
        try:
            self.run()
            self.check(invariants)
        except Exception as error:
            if not self.has_started:
                raise
            again = self.repeated(invariants) if repeat else ""
            raise CounterExampleError(self.told(error, again), self.seed, self.execution) from error
        finally:
            self.manager.close()
        return self

    def run(self) -> None:
        """Let everything happen."""
        workflow = self.workflow
        if isinstance(workflow, Workflow):
            self._cast.check(workflow)
            workflow = without_inline(workflow)
        params = self._params() if callable(self._params) else self._params
        name = f"simulation-{self.seed}"
        self.execution = self.manager.start(workflow, params, services=self._services, execution_id=name)
        self.has_started = True
        self.execution.log.follow(self._unread)
        last = 3 * len(workflow)
        cancel_at = self._random.randint(0, last) if self._random.random() < self.faults.cancelling else -1
        send_at = {name: self._random.randint(0, last) for name in self._signals}
        feed_at = sorted((self._random.randint(0, 3 * last) for _ in self._messages or ()), reverse=True)
        for step in range(LONGEST):
            while feed_at and feed_at[-1] <= step:
                feed_at.pop()
                self._feed()
            if step == cancel_at:
                self.cancelled = self.execution.cancel("the simulation cancels it")
            self._send([name for name, moment in send_at.items() if moment == step])
            if not self.pools.go_on() and not self._feed() and not self._send(list(self._signals)):
                return
        raise InvariantError(f"it doesn't end: {LONGEST:,} things have happened, and it still goes on")

    def _feed(self) -> bool:
        """Send the next message, or close the flow if there is none. False: that was done before."""
        if self._messages is None or self.cancelled or self.execution.status.is_final:
            return False
        if not self._messages:
            return self.execution.close()
        self.execution.send(self._messages.popleft())
        return True

    def _send(self, names: Sequence[str]) -> bool:
        """Send these signals, those that weren't sent yet. Whether there were any."""
        unsent = [name for name in names if name in self._signals]
        for name in unsent:
            value = self._signals.pop(name)
            if not self.execution.status.is_final:
                self.execution.signal(name, value)
        return bool(unsent)

    def check(self, invariants: Sequence[Invariant]) -> None:
        """Everything that must hold when it has ended.

        Raises:
            InvariantError: something doesn't.
            Exception: what an invariant raises.
        """
        reading = Reading(self.execution, self.manager.settings.resources, cancelled=self.cancelled)
        reading.check()
        seq = self._random.randint(1, len(self.execution.log))
        shown = {task: state["status"] for task, state in self.execution.at(seq)["tasks"].items()}
        folded = {task: status for task, status in reading.statuses_at(seq).items() if task in shown}
        if shown != folded:
            raise InvariantError(f"the state at event {seq} is {shown}, and its events say {folded}")
        for invariant in invariants:
            if invariant(self.execution) is False:
                raise InvariantError(f"{_name(invariant)} returned False")

    def repeated(self, invariants: Sequence[Invariant]) -> str:
        """Run it once more; what to say if it holds then."""
        try:
            Schedule(*self._given).hold(invariants, repeat=False)
        except CounterExampleError:
            return ""
        return (
            "\n  Run again, it held: something in it isn't drawn from the seed, such as the time, random numbers, or "
            "state that one run leaves to the next (params= may be a function that makes them anew)."
        )

    def told(self, error: Exception, again: str) -> str:
        """What a CounterExampleError says."""
        befell = "; ".join(self.faults.noted) or "nothing"
        cancelled = "; then it was cancelled" if self.cancelled else ""
        lines = [
            f"workflow {self.workflow.name!r}, seed {self.seed}: {described(error)}",
            f"  What befell it: {befell}{cancelled}.",
            f"  It ended {self.execution.status.name}; its last events:",
            *(f"    {line}" for line in _last_events(self.execution)),
            f"  Replay it with the same arguments and seed={self.seed}.",
        ]
        return "\n".join(lines) + again


def _last_events(execution: Execution) -> list[str]:
    log = execution.log
    lines = []
    for seq in range(max(1, len(log) - 19), len(log) + 1):
        event = log.event(seq)
        error = event.data.get("error") if event.data else None
        what = f": {described(error)}" if isinstance(error, BaseException) else ""
        attempt = f" (attempt {event.attempt})" if event.attempt else ""
        lines.append(f"{event.timestamp - log.epoch:10.3f} s  {event.type} {event.task_id or ''}{attempt}{what}")
    return lines


def _name(invariant: Invariant) -> str:
    return str(getattr(invariant, "__name__", repr(invariant)))
