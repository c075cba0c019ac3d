"""`Claims`: which staged tasks may start once the journal has the batch that is being made; and who runs alone.

A task that was running, or may have been, each of `SUSPECT` times that the process died, is a *suspect*: perhaps it is
what kills it. It runs alone: nothing else that is staged is claimed from the moment its turn comes, and its own claim
waits until what runs has ended. So if the process dies once more, it is known whose fault that is. While it waits (for
its next attempt, or at a limit) the others go on.

Everything here is under the engine's lock.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from nerv.statuses import WorkflowStatus

if TYPE_CHECKING:
    from nerv.live import Live
    from nerv.staging import Staging

AHEAD: Final = 4
"""Claims for each place in a pool that may be committed before anybody is free for them."""

SUSPECT: Final = 2
"""After so many losses a task runs alone."""

_GIVEN_OUT: Final = (WorkflowStatus.RUNNING,)


class Claims:
    """Decides for all executions of an engine.

    Attributes:
        held: executions whose staged tasks wait for a suspect, or the suspect for them: asked again with each batch.
    """

    def __init__(self) -> None:
        self.held: dict[Live, None] = {}
        self._alone: tuple[Live, int] | None = None

    def of(self, live: Live, others: Iterable[Live]) -> list[int]:
        """The tasks of an execution to be claimed now; they are staged no more. `others` go on in the same process."""
        staging, kept = live.scheduler.staging, live.kept
        if staging is None or kept is None or live.scheduler.status not in _GIVEN_OUT:
            return []
        if self._alone is not None and not _is_at_it(*self._alone):
            self._alone = None
        if self._alone is None and kept.suspects:
            kept.suspects = {number for number in kept.suspects if not live.scheduler.has_ended(number)}
            suspect = staging.first(kept.suspects)
            self._alone = None if suspect is None else (live, suspect)
        if self._alone is None:
            return _best(live, staging)
        whose, number = self._alone
        if whose is live and staging.holds(number) and all(_is_quiet(other) for other in others):
            staging.take(number)
            return [number]
        self.held[live] = None
        return []

    def take_held(self) -> dict[Live, None]:
        """Who is to be asked again."""
        held, self.held = self.held, {}
        return held


def _best(live: Live, staging: Staging) -> list[int]:
    ready = live.scheduler.ready
    return [
        number
        for queue, pool in enumerate(live.pools)
        for number in staging.best(queue, AHEAD * pool.limit - len(ready[queue]))
    ]


def _is_at_it(live: Live, number: int) -> bool:
    """Whether a suspect runs, or is about to."""
    scheduler = live.scheduler
    if number in live.active:
        return True
    if scheduler.status not in _GIVEN_OUT or scheduler.has_ended(number):
        return False
    staging = scheduler.staging
    return staging is not None and (staging.holds(number) or staging.has_cleared(number))


def _is_quiet(live: Live) -> bool:
    """Whether nothing of an execution runs, or is about to. One that isn't staged can't be held back: not asked."""
    if live.scheduler.staging is None:
        return True
    return not live.active and (live.scheduler.status not in _GIVEN_OUT or not any(live.scheduler.ready))
