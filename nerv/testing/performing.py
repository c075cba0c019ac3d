"""How a simulation calls a call's function: whole, here and now, coroutines included."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from inspect import iscoroutine
from typing import Any, TypeAlias

from nerv.calls import Call
from nerv.functions import is_coroutine_function

Performer: TypeAlias = Callable[[Call], None]
"""Calls a call's function, and sets its `value` or `error`."""


def perform(call: Call) -> None:
    """Call the function; of a coroutine function, run the coroutine to its end."""
    call.run()
    if not call.is_attempt or (call.task.fn is not None and is_coroutine_function(call.task.fn)):
        finish(call)


def finish(call: Call) -> None:
    """Run the coroutine that a function has given, if it has."""
    if call.error is not None or not iscoroutine(call.value):
        return
    try:
        call.value = _outcome(call.value)
    except BaseException as error:  # noqa: BLE001  whatever a task raises is the task's failure
        call.error = error


def _outcome(coroutine: Coroutine[Any, Any, Any]) -> Any:
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    return _elsewhere(lambda: asyncio.run(coroutine))


def _elsewhere(act: Callable[[], Any]) -> Any:
    """The outcome of `act` on a thread of its own: a loop is running in this one, as in an asynchronous test."""
    outcome: list[Any] = []
    failure: list[BaseException] = []

    def go() -> None:
        try:
            outcome.append(act())
        except BaseException as error:  # noqa: BLE001  it is raised below
            failure.append(error)

    thread = threading.Thread(target=go, name="nerv-coroutine", daemon=True)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]
