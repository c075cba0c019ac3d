"""Who listens to what.

How it works. A subscription is a `Receiver` connected to the blinker signal of its type (or to that of ANY), among the
signals of everybody or among those of one execution. Asking blinker again for each event would cost more than the event
does, so a `Plan` remembers, type by type, whom to call, in order of subscription. It counts as invalid as soon as
anybody connects or disconnects, and then a new one is made. Receivers that users connected themselves are in a plan as
one stand-in for each signal, which asks blinker for each event: they may die when they like, and may choose senders.

blinker's own filter by sender isn't used for `execution=`: it would leave a set behind in every signal for each
execution that ever was. Signals that belong to one execution go with its last subscription.
"""

from __future__ import annotations

import inspect
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from functools import partial
from operator import attrgetter
from types import TracebackType
from typing import Any, Final, Self, TypeAlias, TypeVar

import blinker

from nerv.bus.receivers import Receiver, label, of_task, weakly
from nerv.events import Event

F = TypeVar("F", bound=Callable[..., Any])
Calls: TypeAlias = tuple[Receiver, ...]

MAX_PLAN: Final = 1000
"""Types that a plan remembers; users may publish under ever new names."""


class Subscription:
    """One handler's subscription, as `EventBus.subscribe` returns it.

    Calling it, `cancel()`, or leaving its `with` block ends it, also for events that wait; a call that has begun on the
    delivery thread goes on. It may be dropped: the handler then hears as long as the bus exists.
    """

    __slots__ = ("_cancel", "_receiver")

    def __init__(self, receiver: Receiver, cancel: Callable[[], None]) -> None:
        self._receiver = receiver
        self._cancel = cancel

    def cancel(self) -> None:
        """Hear no more. Once is enough; again does no harm."""
        self._cancel()

    def __call__(self) -> None:
        """Hear no more, as `cancel()` does."""
        self._cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._cancel()

    def __repr__(self) -> str:
        return f"<Subscription of {self._receiver.name}{'' if self._receiver.call else ' (ended)'}>"


class Signal(blinker.NamedSignal):
    """A signal that tells who comes and goes, under the bus's lock: blinker's own tables have none."""

    def __init__(self, name: str, lock: threading.RLock, changed: Callable[[], None]) -> None:
        super().__init__(name)
        self.direct = False  # whether a user has connected something
        self._lock = lock
        self._changed = changed

    def connect(self, receiver: F, sender: Any = blinker.ANY, weak: bool = True) -> F:  # noqa: FBT001, FBT002
        """See `blinker.Signal.connect`."""
        with self._lock:
            self.direct = self.direct or not isinstance(receiver, Receiver)
            super().connect(receiver, sender, weak)
            self._changed()
        return receiver

    def disconnect(self, receiver: Callable[..., Any], sender: Any = blinker.ANY) -> None:
        """See `blinker.Signal.disconnect`."""
        with self._lock:
            super().disconnect(receiver, sender)
            self._changed()

    @contextmanager
    def muted(self) -> Generator[None, None, None]:
        """See `blinker.Signal.muted`."""
        with super().muted():
            self._changed()
            yield
        self._changed()


class Plan(dict[str, Calls]):
    """Whom to call for each type of event, found out when first asked, as long as it is `valid`."""

    __slots__ = ("_find", "valid")

    def __init__(self, find: Callable[[str], Calls]) -> None:
        super().__init__()
        self.valid = True
        self._find = find

    def __missing__(self, name: str) -> Calls:
        if len(self) >= MAX_PLAN:
            self.clear()
        calls = self[name] = self._find(name)
        return calls


class Listeners:
    """All signals of a bus and who is connected to them.

    Args:
        lock: the bus's.
        give: calls receivers with an event, each isolated from the others' errors.
    """

    def __init__(self, lock: threading.RLock, give: Callable[[Iterable[Receiver], Event], None]) -> None:
        self.count = 0  # subscriptions ever made
        self._lock = lock
        self._give = give
        self._signals: dict[str | None, Signal] = {}  # everybody's, by type; None: of any type
        self._bound: dict[str, dict[str | None, Signal]] = {}  # execution id -> its own
        self._plans: dict[str | None, Plan] = {}  # by execution id, if it has signals of its own; None: of all others
        self._dead: deque[Callable[[], None]] = deque()  # how to end the subscriptions of handlers that have died

    def new(
        self,
        name: str | None,
        handler: Callable[[Event], Any],
        *,
        execution: str | None,
        task: str | None,
        weak: bool | None,
    ) -> tuple[Receiver, Subscription]:
        """A subscription that isn't connected yet."""
        receiver = Receiver(label(handler))
        cancel = partial(self._cancel, receiver, name, execution)
        if inspect.ismethod(handler) if weak is None else weak:
            handler = weakly(handler, lambda: self._dead.append(cancel))
        receiver.call = handler if task is None else of_task(handler, task)
        return receiver, Subscription(receiver, cancel)

    def connect(self, receiver: Receiver, name: str | None, execution: str | None, *, at_once: bool) -> None:
        """Let it hear a type (None: any) of an execution (None: any); `at_once` means, also what waits for delivery."""
        with self._lock:
            self.count += 1
            receiver.order = self.count
            receiver.since = 0 if at_once else self.count
            self.signal(name, execution).connect(receiver, weak=False)

    def _cancel(self, receiver: Receiver, name: str | None, execution: str | None) -> None:
        with self._lock:
            if receiver.call is None:
                return
            receiver.call = None
            signal = self.signal(name, execution)
            signal.disconnect(receiver)
            if execution is not None and not signal.receivers:
                del self._bound[execution][name]
                if not self._bound[execution]:
                    del self._bound[execution]

    def signal(self, name: str | None, execution: str | None = None) -> Signal:
        """The signal of a type (None: any) of an execution (None: any)."""
        with self._lock:
            signals = self._signals if execution is None else self._bound.setdefault(execution, {})
            if name not in signals:
                signals[name] = Signal("ANY" if name is None else name, self._lock, partial(self.changed, execution))
            return signals[name]

    def changed(self, execution: str | None = None) -> None:
        """Make plans invalid: somebody came or went among the listeners to one execution, or to all."""
        with self._lock:
            for key in list(self._plans) if execution is None else (execution, None):
                if (plan := self._plans.pop(key, None)) is not None:
                    plan.valid = False

    def plan(self, execution: str | None) -> Plan:
        """Whom to call for the events of an execution."""
        with self._lock:
            key = execution if execution in self._bound else None
            if key not in self._plans:
                self._plans[key] = Plan(partial(self._find, key, self.count))
            return self._plans[key]

    def _find(self, execution: str | None, count: int, name: str) -> Calls:
        # A plan is for those who were there when it was made: who comes later makes it invalid, and may not hear this.
        with self._lock:
            scopes = [self._signals] if execution is None else [self._signals, self._bound.get(execution, {})]
            found = [signals[key] for signals in scopes for key in (name, None) if key in signals]
            heard = [signal for signal in found if not signal.is_muted]
            own = {one for signal in heard for one in signal.receivers_for(None) if isinstance(one, Receiver)}
            direct = [Receiver(signal.name, partial(self._send, signal)) for signal in heard if signal.direct]
        return (*sorted((one for one in own if one.order <= count), key=attrgetter("order")), *direct)

    def _send(self, signal: Signal, event: Event) -> None:
        """Call those whom users connected to a signal themselves."""
        sender = event.source if event.execution_id is None else event.execution_id
        direct = [one for one in signal.receivers_for(sender) if not isinstance(one, Receiver)]
        self._give([Receiver(label(one), partial(_directly, one, sender)) for one in direct], event)

    def sweep(self) -> None:
        """End the subscriptions of handlers that have died."""
        while self._dead:
            self._dead.popleft()()


def _directly(receiver: Callable[..., Any], sender: Any, event: Event) -> Any:
    return receiver(sender, event=event)
