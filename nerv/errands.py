"""Errands: calls for a task that aren't attempts of it: its fallback, its compensation, a look into the cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import UNSET

from nerv.caching.desk import Answer, Compute, Hit
from nerv.caching.keys import key_of
from nerv.caching.stores import Entry
from nerv.calls import Call
from nerv.errors import ResultUnavailableError
from nerv.functions import name_of, wants_context
from nerv.tasks import TaskDef

if TYPE_CHECKING:
    from nerv.context import Port
    from nerv.live import Live


class Question(NamedTuple):
    """A function that is called for a task, from a queue, with an argument, or with what `argument()` makes then."""

    fn: Callable[[Any], Any]
    argument: Any
    queue: int
    is_made: bool = False


class Errand(Call):
    """A call for a task that isn't an attempt of it."""

    is_attempt = False

    def __init__(self, live: Live, number: int, task: TaskDef, attempt: int) -> None:
        super().__init__(live, number, task, attempt)
        self.odd = True


class FallbackCall(Errand):
    """A fallback that is callable: given the error of the last attempt, it makes the result."""

    timeout = None
    wants_context = False

    def __init__(self, live: Live, number: int, task: TaskDef, attempt: int, failure: BaseException) -> None:
        super().__init__(live, number, task, attempt)
        self.failure = failure
        self.queue = live.fallback_queue(number)

    def judge(self) -> None:
        """Nothing follows a fallback that fails, so nobody is asked."""

    def prepare(self, port: Port | None = None) -> tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]]:  # noqa: ARG002
        """The fallback, and the error."""
        return self.task.fallback, (self.failure,), {}


class CompensationCall(Errand):
    """Undoes a completed task. `attempt` counts the compensation's own attempts."""

    obeys = False

    @property
    def wants_context(self) -> bool:
        """Whether the compensation's first argument is the context."""
        return self.task.compensate is not None and wants_context(self.task.compensate)

    @property
    def made(self) -> Any:
        """Nothing: its result interests nobody."""
        return UNSET

    def prepare(self, port: Port | None = None) -> tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]]:
        """The compensation, and the task's result, after the context if it wants that."""
        try:
            args: tuple[Any, ...] = (self.live.values[self.task.id],)
        except KeyError:
            text = (
                f"task {self.task.id!r} can't be undone: its result (durable=False) went with the process that had it"
            )
            raise ResultUnavailableError(text) from None
        if self.wants_context:
            args = (self.context(port or self), *args)
        return self.task.compensate, args, {}  # type: ignore[return-value]  # there is one, or it isn't called


class ThenCall(Errand):
    """What a task that steers wants called when what it waited for is there, with what came of that."""

    timeout = None
    wants_context = False

    def __init__(self, live: Live, number: int, task: TaskDef, attempt: int, question: Question) -> None:
        super().__init__(live, number, task, attempt)
        self.question = question
        self.queue = question.queue

    def judge(self) -> None:
        """It isn't called again."""

    def prepare(self, port: Port | None = None) -> tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]]:  # noqa: ARG002
        """The function, and its argument."""
        question = self.question
        return question.fn, (question.argument() if question.is_made else question.argument,), {}


class LookupCall(Errand):
    """Looks for the result of a task that has a `Cache`. Its value is the desk's answer."""

    timeout = None
    wants_context = False

    def __init__(self, live: Live, number: int, task: TaskDef, attempt: int) -> None:
        super().__init__(live, number, task, attempt)
        self.queue = live.scheduler.queue_of[number]

    @property
    def made(self) -> Any:
        """The result, if there was one."""
        return self.value.value if isinstance(self.value, Hit) else UNSET

    def judge(self) -> None:
        """What can't be hashed now can't be hashed later."""

    def prepare(self, port: Port | None = None) -> tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]]:  # noqa: ARG002
        """The question."""
        return self.ask, (), {}

    def ask(self) -> Answer:
        """Ask the desk.

        Raises:
            ResultUnavailableError: an Output in the arguments has no value.
            CacheKeyError: something can't be hashed.
        """
        live, task = self.live, self.task
        assert task.cache is not None
        assert task.fn is not None
        args, kwargs = self.bound()
        seen = None
        if live.wants_context[self.number]:
            results, params = task.seen(live.values, live.params)
            seen = {f"the param {name!r}": value for name, value in params.items()}
            seen |= {f"the result of {need!r}": results[need] for need in task.needs if need in results}
        key = key_of(task.id, task.cache, task.fn, args, kwargs, seen=seen)
        return live.engine.desk.ask(key, Entry(name_of(task.fn), task.cache.ttl))

    def run(self) -> None:
        """Ask. If it was given up meanwhile, the engine has looked for the answer already, or sees to it now."""
        super().run()
        if self.abandoned:
            self.let_go()

    def let_go(self) -> None:
        """It was given up: what it was told to compute, nobody does."""
        if isinstance(self.value, Compute):
            self.value.flight.failed()
