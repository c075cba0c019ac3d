"""One who is called with events: what a subscription is to the threads that deliver."""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from nerv.events import Event


class Receiver:
    """A handler with its conditions.

    `call` is what to call with an event; None once the subscription has ended. `order` is its place among all
    subscriptions. It hears events that are for the first `since` subscriptions or more.
    """

    __slots__ = ("__weakref__", "call", "name", "order", "since")

    def __init__(self, name: str, call: Callable[[Event], Any] | None = None) -> None:
        self.name = name
        self.call = call
        self.order = self.since = 0

    def __call__(self, _sender: Any, event: Event) -> Any:
        """Hear an event as the receivers of a blinker signal do."""
        call = self.call
        return None if call is None else call(event)


class Job(NamedTuple):
    """A coroutine that a handler returned, and the error that came of it."""

    receiver: Receiver
    event: Event
    coroutine: Coroutine[Any, Any, Any]
    error: BaseException | None = None


def label(handler: Any) -> str:
    """What messages call a handler: the dotted name of the function inside, or of an object's class."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    if not (inspect.isroutine(handler) or inspect.isclass(handler)):
        handler = type(handler)
    return f"{getattr(handler, '__module__', None) or '?'}.{handler.__qualname__}"


def is_coroutine(result: object) -> bool:
    """Whether what a handler returned is for us to await; a task or future of the user's own loop isn't."""
    kind = type(result)
    return hasattr(kind, "__await__") and hasattr(kind, "send")


def weakly(handler: Callable[[Event], Any], gone: Callable[[], None]) -> Callable[[Event], Any]:
    """A handler that is called as long as somebody else holds it (a bound method: its object); `gone` tells its end."""
    kind: Callable[..., weakref.ref[Callable[[Event], Any]]]
    kind = weakref.WeakMethod if inspect.ismethod(handler) else weakref.ref
    try:
        ref = kind(handler, lambda _: gone())
    except TypeError:
        raise TypeError(f"{label(handler)} can't be held weakly: subscribe it with weak=False") from None

    def call(event: Event) -> Any:
        alive = ref()
        return None if alive is None else alive(event)

    return call


def of_task(call: Callable[[Event], Any], task: str) -> Callable[[Event], Any]:
    """A handler that only one task's events get through to."""
    return lambda event: call(event) if event.task_id == task else None
