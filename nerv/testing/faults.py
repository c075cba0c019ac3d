"""What can befall calls in a simulation."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from random import Random
from typing import TYPE_CHECKING, TypeAlias

from nerv.calls import Call
from nerv.errors import WorkerCrashedError
from nerv.testing.performing import Performer, perform

if TYPE_CHECKING:
    from nerv.pools.base import Pool

Fault: TypeAlias = Callable[[Call], BaseException | None]
"""Decides what befalls a call in place of its function: an exception that it fails with, or None."""


class InjectedError(Exception):
    """Raised by nobody: what a call fails with when a simulation decided that it fails."""


class Faults:
    """Lets calls fail, crash, dawdle and hang at random.

    Args:
        seed: of its random generator.
        failing: the chance that a call fails with `InjectedError` in place of running its function.
        crashing: the chance that the process of a call dies under it (`WorkerCrashedError`); threads don't die.
        slow: the chance that a call takes long: up to `seconds`, or about as long as its timeout.
        hanging: the chance that a call never ends. Only calls that somebody gives up hang: those with a timeout.
        late: of the calls that fail, crash or hang, the share that does its work all the same, and only its result is
            lost. A task that isn't idempotent shows that.
        cancelling: the chance that `simulate` cancels an execution before it has ended.
        seconds: what a slow call takes at most.

    Attributes:
        noted: what was drawn, in words, in order.
        perform: how a late call does its work.

    Raises:
        ValueError: a chance isn't between 0 and 1, or `failing` and `crashing` are more than 1 together.
    """

    def __init__(
        self,
        seed: int | str = 0,
        *,
        failing: float = 0.0,
        crashing: float = 0.0,
        slow: float = 0.0,
        hanging: float = 0.0,
        late: float = 0.0,
        cancelling: float = 0.0,
        seconds: float = 100.0,
    ) -> None:
        chances = {
            "failing": failing, "crashing": crashing, "slow": slow, "hanging": hanging, "late": late,
            "cancelling": cancelling,
        }  # fmt: skip
        wrong = [f"{name}={chance!r}" for name, chance in chances.items() if not 0 <= chance <= 1]
        if wrong or failing + crashing > 1:
            raise ValueError(
                f"a chance is a number from 0 to 1, and failing and crashing are one at most together, not "
                f"{', '.join(wrong) or f'{failing} and {crashing}'}"
            )
        self.seed = seed
        self.cancelling = cancelling
        self._chances = chances
        self._seconds = seconds
        self._random = Random(seed)  # noqa: S311  (nothing is kept secret by it)
        self.noted: list[str] = []
        self.perform: Performer = perform

    def seeded(self, seed: int | str) -> Faults:
        """The same chances, drawn anew."""
        return Faults(seed, seconds=self._seconds, **self._chances)

    def __call__(self, call: Call) -> BaseException | None:
        """What befalls this call when it ends."""
        drawn = self._random.random()
        failing, crashing = self._chances["failing"], self._chances["crashing"]
        error: BaseException | None = None
        if drawn < failing:
            error = InjectedError(f"task {call.task.id!r} was chosen to fail")
            self._note(call, "fails")
        elif drawn < failing + crashing and _pool(call).kind == "process":
            error = WorkerCrashedError(f"the worker of task {call.task.id!r} was chosen to die")
            self._note(call, "crashes")
        if error is not None:
            self._maybe_late(call)
        return error

    def takes(self, call: Call) -> float:
        """How many seconds this call takes, drawn when it begins."""
        timeout = call.timeout
        if timeout is not None and self._random.random() < self._chances["hanging"]:
            self._note(call, "hangs")
            self._maybe_late(call)
            return inf
        if self._random.random() >= self._chances["slow"]:
            return 0.0
        longest = self._seconds if timeout is None or self._random.random() < 0.5 else 2 * timeout
        seconds = self._random.uniform(0.0, longest)
        self._note(call, f"takes {seconds:.3g} s")
        return seconds

    def _maybe_late(self, call: Call) -> None:
        """Let a call that is lost do its work first."""
        late = self._chances["late"]
        if late and self._random.random() < late:
            self._note(call, "does its work, though")
            self.perform(call)
            call.value, call.error = None, None

    def _note(self, call: Call, what: str) -> None:
        which = "" if call.is_attempt else ", undoing or standing in"
        self.noted.append(f"{call.task.id} (attempt {call.attempt}{which}) {what}")


def _pool(call: Call) -> Pool:
    return call.live.pools[call.live.scheduler.queue_of[call.number]]
