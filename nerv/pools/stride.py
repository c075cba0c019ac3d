"""`Stride`: how many calls a process pool takes at once. Pure arithmetic over what calls were measured to take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

QUICK: Final = 0.001
"""Seconds below which a function's calls are sent in chunks."""
CHUNK: Final = 256
"""Calls that a chunk has at most."""
SPAN: Final = 0.005
"""Seconds that a chunk should take at most."""
STALL: Final = 0.010
"""Seconds, at least, after which what is left of a chunk is recalled."""


class Stride:
    """Grows while what is taken turns out to be quick, and starts again from one when it doesn't.

    Nobody can know beforehand whose turn it is: after quick calls a slow one may come. What was taken beyond it is
    given back (`keep`), and because the stride doubles from one again, that stays rarer than what was well taken.
    """

    __slots__ = ("_calls", "_pace")

    def __init__(self) -> None:
        self._calls = 1
        self._pace = SPAN  # seconds that the slowest function of the last chunk takes

    def most(self, ready: int, workers: int, *, others_free: bool) -> int:
        """How many calls to take now, if `ready` are there for so many `workers`. `others_free`: some of these may have
        nothing to do, so one takes no more than its share.
        """
        most = min(self._calls, int(SPAN / self._pace))
        if others_free:
            most = min(most, -(-ready // workers))
        return max(1, most)

    def keep(self, seconds: Sequence[float | None], most: int) -> int:
        """How many of the calls that were taken to keep, by what their functions take (None: never measured)."""
        quick = _until_slow(seconds)
        if quick:
            self._pace = max(1e-6, *quick)
        if len(quick) < len(seconds):
            self._calls = 1
        elif len(quick) == most:
            self._calls = min(2 * self._calls, CHUNK)
        return max(1, len(quick))

    def patience(self, calls: int) -> float:
        """Seconds after which to recall what is left of a chunk of so many calls."""
        return max(STALL, 4 * calls * self._pace)


def _until_slow(seconds: Sequence[float | None]) -> Sequence[float]:
    quick: list[float] = []
    for pace in seconds:
        if pace is None or pace >= QUICK:
            break
        quick.append(pace)
    return quick
