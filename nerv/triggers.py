"""Triggers: where the messages of a fed flow come from.

Each is a value that says what it is for, and knows how to `arm` itself on a `Feed`, through which it sees the time and
sends messages. All of them go by the engine's clock, so a fake clock moves them.

`Watch` looks at its folder again and again, by that clock too. What an operating system tells of changes (inotify and
its kin) was left out: a file still has to stand still for a while, network folders tell nothing, and a test couldn't
move it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, tzinfo
from glob import glob, has_magic
from itertools import count
from pathlib import Path
from stat import S_ISREG
from typing import Any, Final, NamedTuple, Protocol
from zoneinfo import ZoneInfo

import msgspec

from nerv.errors import Problem, WorkflowDefinitionError
from nerv.policies import finite

SHORTEST_LOOK: Final = 0.01
"""Seconds between two looks at a folder, at least."""


class Feed(Protocol):
    """What a trigger feeds."""

    def time(self) -> float:
        """Epoch seconds."""

    @property
    def since(self) -> float | None:
        """Epoch seconds: when it was fed first, before all restarts; None: it isn't yet."""

    def marks(self) -> Sequence[Any]:
        """The marks of the messages that were sent before a restart, in their order."""

    def at(self, moment: float, act: Callable[[], object]) -> None:
        """Call `act` at that moment, in epoch seconds, unless the flow is closed by then."""

    def send(self, message: Any, mark: Any = None) -> object:
        """One more message; `mark` is plain data, kept with it."""


class Trigger(msgspec.Struct, frozen=True):
    """Where messages come from."""

    def objection(self) -> str | None:
        """What is wrong with the world, so that it can't be armed; None: nothing."""
        return None

    def arm(self, feed: Feed) -> None:
        """Begin to send messages."""

    @property
    def signal(self) -> str | None:
        """The name of the signals that are messages."""
        return None


class Manual(Trigger, frozen=True):
    """Messages are what `execution.send(message)` is given."""


class Every(Trigger, frozen=True):
    """A message every so many seconds, the first after so many: the moment at which it was due, an aware datetime.

    Times that were missed aren't caught up.

    Args:
        seconds: above 0.

    Raises:
        WorkflowDefinitionError: it isn't.
    """

    seconds: float

    def __post_init__(self) -> None:
        if (finite(self.seconds) or 0) <= 0:
            raise _wrong(f"Every takes seconds above 0, not {self.seconds!r}")

    def arm(self, feed: Feed) -> None:
        """Send a message at each of its times."""
        start, last = feed.since or feed.time(), _last(feed)
        first = max(1, int((last - start) // self.seconds))
        _keep_time(feed, (start + number * self.seconds for number in count(first)), UTC)


class Schedule(Trigger, frozen=True):
    """A message at the times of a cron line; it is the moment at which it was due, an aware datetime in the time zone.

    Times that were missed aren't caught up.

    Args:
        cron: five fields: minute, hour, day of the month, month, day of the week.
        timezone: a name of the IANA database, such as "Europe/Berlin".

    Raises:
        WorkflowDefinitionError: no cron line, or an unknown time zone.
    """

    cron: str
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        try:
            zone = ZoneInfo(self.timezone)
        except (KeyError, ValueError, TypeError, OSError) as error:
            text = f"Schedule knows no time zone {self.timezone!r}; give it one such as 'Europe/Berlin'"
            raise _wrong(text) from error
        _times(self.cron, datetime(2000, 1, 1, tzinfo=zone))

    def arm(self, feed: Feed) -> None:
        """Send a message at each of its times."""
        zone = ZoneInfo(self.timezone)
        times = _times(self.cron, datetime.fromtimestamp(_last(feed), zone))
        _keep_time(feed, (moment.timestamp() for moment in times), zone)


class OnSignal(Trigger, frozen=True):
    """Messages are the values of all signals of that name.

    Args:
        name: as in `execution.signal(name, value)`.

    Raises:
        WorkflowDefinitionError: no name.
    """

    name: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise _wrong(f"OnSignal takes the name of a signal, a str that isn't empty, not {self.name!r}")

    @property
    def signal(self) -> str | None:
        """The name."""
        return self.name


class Watch(Trigger, frozen=True):
    """A message, the path (a str), for each file that matches a glob, those that are there already too.

    A file is sent once its size and its time of change have stood still for `settle` seconds; one that was changed
    since is a new message. Order is that in which files were last changed.

    Args:
        glob: such as "inbox/*.json"; `**` stands for any folders.
        settle: seconds.

    Raises:
        WorkflowDefinitionError: a field's value can't be right.
    """

    glob: str
    settle: float = 0.5

    def __post_init__(self) -> None:
        if not isinstance(self.glob, str) or not self.glob:
            raise _wrong(f"Watch takes a glob such as 'inbox/*.json', not {self.glob!r}")
        settle = finite(self.settle)
        if settle is None or settle < 0:
            raise _wrong(f"Watch's settle is in seconds, from 0, not {self.settle!r}")

    def objection(self) -> str | None:
        """The folder may be missing."""
        folder = Path(self.glob).parent
        while has_magic(str(folder)):
            folder = folder.parent
        if folder.is_dir():
            return None
        return f"Watch({self.glob!r}) looks into a folder that isn't there; make {str(folder)!r} first"

    def arm(self, feed: Feed) -> None:
        """Look, and look again."""
        feed.at(feed.time(), Watcher(self, feed).look)


class _Seen(NamedTuple):
    """A file as it was: its identity, since when it is so (epoch seconds), and whether it was sent."""

    size: int
    changed: int
    since: float
    sent: bool


class Watcher:
    """Looks at the files of one Watch."""

    def __init__(self, watch: Watch, feed: Feed) -> None:
        self._watch = watch
        self._feed = feed
        self._pause = max(SHORTEST_LOOK, watch.settle / 2)
        marks = [mark for mark in feed.marks() if isinstance(mark, list)]  # others are of another trigger
        self._seen = {path: _Seen(size, changed, 0.0, sent=True) for path, size, changed in marks}

    def look(self) -> None:
        """Send what has settled since the last look."""
        now, before = self._feed.time(), self._seen
        self._seen = {path: _since(before.get(path), *found, now) for path, found in self._files()}
        settled = [
            (seen.changed, path)
            for path, seen in self._seen.items()
            if not seen.sent and now - seen.since >= self._watch.settle
        ]
        for _, path in sorted(settled):
            seen = self._seen[path] = self._seen[path]._replace(sent=True)
            self._feed.send(path, [path, seen.size, seen.changed])
        self._feed.at(now + self._pause, self.look)

    def _files(self) -> Iterator[tuple[str, tuple[int, int]]]:
        for path in glob(self._watch.glob, recursive=True):  # noqa: PTH207  paths come out as they were written
            try:
                found = Path(path).stat()
            except OSError:  # it was there a moment ago, or nobody may read it
                continue
            if S_ISREG(found.st_mode):
                yield path, (found.st_size, found.st_mtime_ns)


def _since(before: _Seen | None, size: int, changed: int, now: float) -> _Seen:
    if before is not None and (before.size, before.changed) == (size, changed):
        return before
    return _Seen(size, changed, now, sent=False)


def _last(feed: Feed) -> float:
    """The moment, in epoch seconds, up to which all times have been sent, or were missed."""
    marks = [mark for mark in feed.marks() if isinstance(mark, float)]  # others are of another trigger
    return max([feed.time(), *marks[-1:]])


def _keep_time(feed: Feed, moments: Iterator[float], zone: tzinfo) -> None:
    """Send a message at each of these moments, in epoch seconds, but those that have passed."""

    def wait(moment: float | None) -> None:
        if moment is not None:
            feed.at(moment, lambda: ring(moment))

    def ring(moment: float) -> None:
        feed.send(datetime.fromtimestamp(moment, zone), moment)
        now = feed.time()
        wait(next((one for one in moments if one > now), None))

    last = _last(feed)
    wait(next((one for one in moments if one > last), None))


def _times(cron: str, start: datetime) -> Iterator[datetime]:
    from cronsim import CronSim, CronSimError

    try:
        return CronSim(cron, start)
    except (CronSimError, AttributeError, TypeError) as error:
        text = f"Schedule takes a cron line such as '*/5 * * * *', not {cron!r}: {error}"
        raise _wrong(text) from error


def _wrong(text: str) -> WorkflowDefinitionError:
    return WorkflowDefinitionError([Problem(None, "trigger", text)])
