"""`Somewhere`: which lane a task is in, and what led there, worked out when somebody asks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from nerv.context import Whereabouts
from nerv.errors import ResultUnavailableError

if TYPE_CHECKING:
    from nerv.live import Live

T = TypeVar("T")


class Somewhere:
    """Where one task of an execution is (`nerv.context.Place`)."""

    __slots__ = ("_live", "_number")

    def __init__(self, live: Live, number: int) -> None:
        self._live = live
        self._number = number

    @property
    def lane_id(self) -> str:
        """Made of the execution's secret and, in a lane of its own, the id of the task that the lane is."""
        live, families = self._live, self._live.scheduler.families
        lane = -1 if families is None else self._unless_folded(families.lane_of)
        whose = "" if lane < 0 else str(live.log.ids[lane])
        return hashlib.blake2b(whose.encode(), key=live.secret, digest_size=16).hexdigest()

    @property
    def chain(self) -> tuple[str, ...]:
        """From the task outwards: its first dependency, that one's, and so on; then who has added it, and so on."""
        return self._unless_folded(self._chain)

    def used_by(self, iterator: Iterator[Any]) -> str | None:
        """The task that has said before that it uses an iterator up. From now on this one has, if nobody had."""
        own = iterator, self._number, str(self._live.log.ids[self._number])
        used = self._live.used.setdefault(id(iterator), own)  # one step, whoever else is at it
        return None if used is own else used[2]

    def _unless_folded(self, look: Callable[[int], T]) -> T:
        """What is found of the task, whose lane may be folded at any moment."""
        try:
            return look(self._number)
        except IndexError:
            raise ResultUnavailableError(self._live.folded("the task")) from None

    def _chain(self, number: int) -> tuple[str, ...]:
        scheduler, ids = self._live.scheduler, self._live.log.page.ids
        found: list[str] = []
        seen = {number}
        while True:
            needs = [need for need in scheduler.needs_of(number) if need not in seen]
            family = None if scheduler.families is None else scheduler.families.of(number)
            if needs and (family is None or needs[0] >= family.first):
                number = needs[0]
            elif family is not None:
                number = family.parent
            else:
                return tuple(reversed(found))
            seen.add(number)
            found.append(str(ids[number]))

    def __reduce__(self) -> tuple[Any, ...]:
        return Whereabouts, (self.lane_id, self.chain)
