"""`EventBus`: subscribing, publishing, remembering, and the visits of the delivery thread to the logs."""

from __future__ import annotations

import inspect
import logging
import threading
import time
import traceback
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import blinker

from nerv.bus.history import NAMES, History, Track, shown, without_result
from nerv.bus.receivers import Job, Receiver, is_coroutine, label
from nerv.bus.signals import Listeners, Subscription
from nerv.bus.threads import Delivery, HandlerThread
from nerv.errors import ConfigError, described
from nerv.eventlog import EventLog
from nerv.events import ANY, Anything, Event, EventType, Facts

_log = logging.getLogger("nerv")


class Post:
    """An event outside any log, on its way; it is for the first `since` subscriptions."""

    __slots__ = ("done", "event", "since")

    def __init__(self, event: Event, since: int) -> None:
        self.event = event
        self.since = since
        self.done = False


class EventBus:
    """Tells subscribers what happens, on a thread of its own, and remembers the latest.

    Args:
        history_limit: how many events `get_history` can look back.

    A bus may be shared by several managers. `active` is False until somebody listens for the first time; until then
    the engine doesn't tell the bus of events, and no thread is started.
    """

    def __init__(self, history_limit: int = 1000) -> None:
        if type(history_limit) is not int or history_limit < 0:
            raise ConfigError(f"history_limit is a number of events, 0 or more, not {history_limit!r}")
        self.active = False
        self._delivery = Delivery(self._deliver)
        self._lock = self._delivery.lock
        self._listeners = Listeners(self._lock, self._give)
        self._history = History(history_limit, self._lock)
        self._tracks: dict[weakref.ref[EventLog], Track] = {}
        self._gone: deque[weakref.ref[EventLog]] = deque()  # attached logs that have died
        self._steps: tuple[Receiver, ...] = ()  # the middleware
        self._posted = 0  # events outside any log, ever
        self._followers: deque[Post] = deque()  # what handlers published during the current event
        weakref.finalize(self, self._delivery.stop).atexit = False

    # ---- listening

    def subscribe(
        self,
        event_type: EventType | str | Anything,
        handler: Callable[[Event], Any],
        *,
        execution: str | None = None,
        task: str | None = None,
        weak: bool | None = None,
    ) -> Subscription:
        """Have `handler` called with every event of a type (ANY: of every type) that happens from now on.

        `execution` and `task` are ids: hear only theirs. A bound method is held weakly, all else strongly, unless
        `weak` says otherwise. What a coroutine function returns is awaited, one at a time, in order. In a handler,
        "from now on" begins behind the event that it is called with.
        """
        name = None if event_type is ANY else str(_known(event_type))
        if not callable(handler):
            raise TypeError(f"a handler is called with each event, but {handler!r} can't be called")
        for what, value in (("execution", execution), ("task", task)):
            if not isinstance(value, str | None):
                raise TypeError(f"{what}= is an id, a string, not {value!r}: write {what}=....id")
        receiver, subscription = self._listeners.new(name, handler, execution=execution, task=task, weak=weak)
        with self._lock:
            self._activate()
            at_once = self._delivery.here()
            if not at_once:
                for track in list(self._tracks.values()):  # a finalizer may detach a log at any moment
                    if execution in (None, track.shadow.execution_id):
                        track.mark(self._listeners.count)
            self._listeners.connect(receiver, name, execution, at_once=at_once)
        return subscription

    def get_signal(self, event_type: EventType | str | Anything) -> blinker.Signal:
        """The blinker signal of a type. What you connect to it is called with `(sender, event=event)`.

        The sender is the execution's id; for an event outside executions, its source.
        """
        name = None if event_type is ANY else str(_known(event_type))
        with self._lock:
            self._activate()
            return self._listeners.signal(name)

    def add_middleware(self, middleware: Callable[[Event], Event | None]) -> Callable[[], None]:
        """Put a function between what happens and those who hear of it; the result is a function that removes it.

        It is called on the delivery thread with each Event, and returns it, another one (`event.replace(...)`) or
        None to drop it. It alters what handlers are given and the history shows, never an execution's own events.
        """
        if not callable(middleware) or inspect.iscoroutinefunction(middleware):
            raise TypeError(f"a middleware is a plain function from Event to Event or None, not {middleware!r}")
        step = Receiver(label(middleware), middleware)

        def remove() -> None:
            with self._lock:
                self._steps = tuple(one for one in self._steps if one is not step)

        with self._lock:
            self._activate()
            self._steps = (*self._steps, step)
            self._listeners.changed()
        return remove

    def _activate(self) -> None:
        if not self.active:
            self.active = True  # before the ends are read: what was appended by one who saw False is before them
            for track in list(self._tracks.values()):
                track.heard = True  # before its end is read: from then on nothing goes that isn't delivered
                track.skip()

    # ---- telling

    def publish(self, event_type: EventType | str, data: Any = None, source: str | None = None) -> str:
        """Publish an event of your own; the result is its id. It is delivered before this returns.

        In a handler it is queued instead: it is delivered right after the event that is being handled.
        """
        given_up = self._delivery.given_up
        post = self._post(event_type, data=data, source=source)
        if not isinstance(threading.current_thread(), HandlerThread):
            self._delivery.wait(lambda: post.done or self._delivery.given_up != given_up)
        return post.event.id

    def announce(
        self,
        event_type: EventType | str,
        *,
        execution_id: str | None = None,
        task_id: str | None = None,
        data: dict[str, Any] | None = None,
        source: str | None = None,
    ) -> None:
        """Tell of something that the engine did and that is in no log. Never waits."""
        self._post(event_type, execution_id=execution_id, task_id=task_id, data=Facts(data or ()), source=source)

    def attach(self, log: EventLog) -> None:
        """Follow a log, which has no records yet (what it has isn't delivered)."""
        track = Track(log, self._gone.append, self._history.limit)
        with self._lock:
            track.heard = self.active
            self._tracks.setdefault(track.log, track)

    def nudge(self, log: EventLog) -> None:
        """Hear that an attached log has grown. Never waits, and calls nobody."""
        self._delivery.put(log)

    def flush(self, log: EventLog, patience: float) -> bool:
        """Wait until every plain handler has been given every record that the log has now.

        False, with a warning that names the handler, when one call doesn't return for `patience` seconds. Handlers
        don't wait for handlers: on their threads it is True at once.
        """
        track = self._tracks.get(weakref.ref(log))
        end = len(log)
        if not self.active or track is None or track.cursor >= end or self._delivery.among_handlers():
            return True
        self._delivery.put(log)
        stuck = self._delivery.wait(lambda: track.cursor >= end, patience)
        if stuck is None:
            return True
        warnings.warn(
            f"{stuck} hasn't returned for {patience} s, so not every handler has been given every event of the "
            f"execution {log.execution_id!r} yet. Handlers run one after the other: let it do its work elsewhere.",
            RuntimeWarning,
            stacklevel=2,
        )
        return False

    def detach(self, log: EventLog) -> None:
        """Forget an execution: its last events stay in the history, without results.

        What handlers haven't been given yet, they still will be. Copies errors: not to be called under a lock.
        """
        self._tidy()
        with self._lock:
            track = self._tracks.get(weakref.ref(log))
            if track is None or track.detached:
                return
            track.detached = True
            end = len(log)
            waiting = self.active and track.cursor < end
            if waiting:
                self._delivery.put(log)
                end = track.cursor if self._steps else end
        self._history.settle(track, end)
        if not waiting:
            self._drop(track)

    def close(self, patience: float = 5.0) -> None:
        """Deliver what is queued, also to coroutine handlers, and end the threads; give up after `patience` seconds.

        The bus can be used again: what comes then starts them anew. In a handler this doesn't wait.
        """
        self._delivery.close(patience, self._give_up)

    def get_history(self, event_type: EventType | str | Anything | None = None, limit: int = 100) -> list[Event]:
        """The latest `limit` events that the bus has shown or, without middleware, could have shown; newest first."""
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
            raise ValueError(f"limit takes a number of events, 0 or more, not {limit!r}")
        wanted = None if event_type is None or event_type is ANY else str(_known(event_type))
        self._tidy()
        with self._lock:
            tracks, altered = list(self._tracks.values()), bool(self._steps)
            tails = [track.tail(delivered=altered) for track in tracks if not track.detached]
        return self._history.latest(tails, wanted, limit)

    def _post(self, event_type: EventType | str, **fields: Any) -> Post:
        event_type = _known(event_type)
        with self._lock:
            self._posted += 1
            event = Event(event_type, timestamp=time.time(), number=self._posted, **fields)
            post = Post(event, self._listeners.count)
            post.done = not self.active
            if self._delivery.here():
                self._followers.append(post)
            elif self.active:
                self._delivery.put(post)
        if post.done:
            self._history.add(event, post.event.number or 0)
        return post

    def _tidy(self) -> None:
        """Settle the accounts of logs that have died."""
        while self._gone:
            with self._lock:
                track = self._tracks.get(self._gone.popleft()) if self._gone else None
            if track is not None:
                self._history.settle(track, len(track.shadow))
                self._drop(track)

    def _drop(self, track: Track) -> None:
        with self._lock:
            self._tracks.pop(track.log, None)
            track.drop()

    def _give_up(self) -> None:
        """Count everything as delivered."""
        for track in list(self._tracks.values()):
            track.skip()
            if self._steps:
                track.remembered = track.cursor
            if track.detached:
                self._drop(track)
        self._listeners.changed()

    # ---- delivering, on the delivery thread

    def _deliver(self, item: EventLog | Post | Job) -> None:
        try:
            self._listeners.sweep()
            self._tidy()
            if isinstance(item, EventLog):
                self._visit(item)
            elif isinstance(item, Post):
                self._show(item.event, item.since)
            elif item.error is not None:
                self._failed(item.receiver, item.event, item.error)
            self._follow()
        finally:
            while self._followers:  # answers to answers get in line
                self._delivery.put(self._followers.popleft())
            if isinstance(item, Post):
                item.done = True

    def _visit(self, log: EventLog) -> None:
        """Deliver all that a log has now."""
        log.dirty = False  # before its end is read: what comes after that is nudged again
        track = self._tracks.get(weakref.ref(log))
        if track is None:
            return
        end = len(log)
        while track.cursor < end:
            reached = self._stretch(log, track, end)
            with self._lock:
                track.cursor = max(track.cursor, reached)
        if track.detached and track.cursor >= len(log):
            self._history.settle(track, track.cursor)
            self._drop(track)

    def _stretch(self, log: EventLog, track: Track, end: int) -> int:
        """Deliver what is past the cursor as long as the same people listen; the result is how far that was."""
        with self._lock:
            plan, altered = self._listeners.plan(log.execution_id), bool(self._steps)
            end, since = track.audience(end)
        page, followers = log.page, self._followers
        records = page.records[page.upto(track.cursor) : page.upto(end)]
        for seq, record in enumerate(records, track.cursor + 1):
            if altered:
                self._show(shown(log, seq), since, track)
            elif calls := plan[NAMES[record[0]]]:
                try:
                    event = log.shown(page, record, seq)
                except Exception:  # noqa: BLE001  (results may be decoded when first needed, by user code)
                    event = without_result(log, seq)
                self._give(calls if since is None else _among(calls, since), event)
            if followers:
                self._follow()
            if not plan.valid:
                return seq
        return end

    def _follow(self) -> None:
        """Deliver what was published in answer to the event before."""
        for _ in range(len(self._followers)):
            post = self._followers.popleft()
            self._show(post.event, post.since)

    def _show(self, event: Event, since: int | None, track: Track | None = None) -> None:
        """Put an event through the middleware, remember it, and give it to its audience."""
        if track is not None and event.seq is not None:
            self._history.settle(track, event.seq - 1)
            track.remembered = event.seq
        altered = self._through(event)
        if altered is None:
            return
        if track is None:
            self._history.add(altered, event.number or 0)
        else:
            self._history.add_altered(altered, event, event.seq or 0, track)
        calls = self._listeners.plan(altered.execution_id)[str(altered.type)]
        self._give(calls if since is None else _among(calls, since), altered)

    def _through(self, event: Event) -> Event | None:
        for step in self._steps:
            self._delivery.running, self._delivery.event = step, event
            try:
                altered = step(None, event)
                if not isinstance(altered, Event | None):
                    raise TypeError(f"a middleware returns an Event or None, not {altered!r}")
            except BaseException as error:  # noqa: BLE001  (user code may raise anything)
                self._failed(step, event, error)
            else:
                if altered is None:
                    return None
                event = altered
        return event

    def _give(self, calls: Iterable[Receiver], event: Event) -> None:
        """Call each with the event; who raises hurts nobody else."""
        delivery = self._delivery
        delivery.event = event
        for receiver in calls:
            call = receiver.call
            if call is None:
                continue
            delivery.running = receiver
            try:
                result = call(event)
                if result is not None and is_coroutine(result):
                    delivery.submit(Job(receiver, event, result))
            except BaseException as error:  # noqa: BLE001  (user code may raise anything)
                self._failed(receiver, event, error)

    def _failed(self, receiver: Receiver, event: Event, error: BaseException) -> None:
        """Log and publish that a handler raised; of a handler of HANDLER_ERROR, only log it."""
        try:
            _log.error("%s raised on %s %s: %s", receiver.name, event.type, event.id, described(error), exc_info=error)
        except Exception:  # noqa: BLE001  (a filter of the user's, say)
            traceback.print_exc()
        if event.type != EventType.HANDLER_ERROR:
            data = Facts(handler=receiver.name, error=error, event_id=event.id, event_type=event.type)
            self._post(EventType.HANDLER_ERROR, execution_id=event.execution_id, task_id=event.task_id, data=data)


def _among(calls: Iterable[Receiver], since: int) -> list[Receiver]:
    return [receiver for receiver in calls if receiver.since <= since]


def _known(event_type: object) -> EventType | str:
    """An event type as it is kept: the member if there is one of that name."""
    if not isinstance(event_type, str):
        hint = "ANY can only be listened to" if event_type is ANY else f"not {event_type!r}"
        raise TypeError(f"an event type is an EventType, such as EventType.TASK_STARTED, or a string of yours: {hint}")
    name = str.__str__(event_type)
    return EventType.__members__.get(name, name)
