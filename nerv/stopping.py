"""Telling running calls to stop."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from nerv.calls import Call
from nerv.effects import Effects


def tell_to_stop(calls: Iterable[Call], effects: Effects) -> list[Call]:
    """Tell these calls to stop, as far as they obey and haven't been told; gives those that were told now.

    The engine's lock is held; their pools hear of it when it has been released.
    """
    told = [call for call in calls if call.obeys and not call.cancelled]
    for call in told:
        call.cancelled = True
        effects.noted.append(partial(call.live.pool_of(call).tell_cancelled, [call]))
    return told
