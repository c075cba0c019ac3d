"""What has become of the tasks that another has added, for whoever asks."""

from __future__ import annotations

from typing import Any

from nerv.errors import AddedTaskError, described
from nerv.families import Family
from nerv.live import Live
from nerv.outcomes import Ends
from nerv.references import MISSING
from nerv.states import FAILED


def blamed(live: Live, number: int, family: Family) -> BaseException:
    """The error of a task that failed because one that it has added did, or was skipped for one that had."""
    child = live.tasks[family.failed]
    culprit = live.scheduler.blame.get(family.failed, family.failed)
    error = live.error_of(culprit)
    if family.seed.stops or isinstance(error, AddedTaskError):
        return error
    named = f"{child.id!r}" if child.name in (child.id, "") else f"{child.id!r} ({child.name})"
    what = "failed" if culprit == family.failed else f"was skipped, as {live.tasks[culprit].id!r} failed"
    made = AddedTaskError(f"task {live.tasks[number].id!r} failed because {named} {what}: {described(error)}")
    made.__cause__ = error
    return made


def ends_of(live: Live, number: int, source: int) -> Ends:
    """What has become of the tasks that `source` has added, for `number`."""
    families = live.scheduler.families
    assert families is not None
    numbers = families.broods[source].indexed
    count = len(numbers)

    def at(place: int) -> Any:
        return live.values.get(live.tasks[numbers[place]].id, MISSING)

    def errors() -> dict[int, BaseException]:
        failed = [place for place in range(count) if live.scheduler.state[numbers[place]] == FAILED]
        return {place: live.error_of(numbers[place]) for place in failed}

    return Ends(str(live.tasks[number].id), count, at, errors)
