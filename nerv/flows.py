"""`Flow`: a workflow written as a chain of calls.

A Flow is a value: each call returns a new one, with one step more. Nothing is looked at before `build`, so that one
error can list all that is wrong; what the steps come to is woven in nerv/weaving.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from nerv.fedweaving import FedWeaver
from nerv.triggers import Trigger
from nerv.weaving import Step, Weaver
from nerv.workflows import Workflow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nerv.tasks import TaskDef


class Flow(msgspec.Struct, frozen=True, eq=False):
    """Builds a Workflow step by step. Without a trigger the first step is given no argument; with one it is given the
    message.

    Attributes:
        name: the workflow's name.
        steps: what was asked for so far.
        trigger: where messages come from; None: it runs once.
    """

    name: str
    steps: tuple[Step, ...] = ()
    trigger: Trigger | None = None

    def triggered_by(self, trigger: Trigger) -> Flow:
        """Feed it: one message after another goes through the steps, `process[i]` being that of message i.

        A step on a direct wire handles one message at a time, in order; messages may be in different steps at once. A
        message that fails ends its own lane only.
        """
        return Flow(self.name, self.steps, trigger)

    def then(self, step: Callable[..., Any] | TaskDef) -> Flow:
        """One more step: a function or Task, whose name is its id, a TaskDef or a node. Without arguments of its own it
        is given the previous result; nodes have their own.
        """
        return self._with("then", step=step)

    def then_parallel(self, name: str, *tasks: Callable[..., Any] | TaskDef) -> Flow:
        """Steps that run beside each other, each given the previous result. What comes out, and the result of the task
        `name`, is a mapping id -> result.
        """
        return self._with("then_parallel", name=name, tasks=tasks)

    def buffer(self, max_parallel: int | None = None) -> Flow:
        """Fan-out: each item of the previous result goes through the steps up to `collect` in a lane of its own, all at
        once or so many at a time. The Buffer is called like the first of these steps. Without `collect` it sends the
        items on their way, and the execution waits for them.

        In a fed flow messages are beside each other in the steps behind it, each in a lane of its own, all or so many
        at a time; one counts until it has ended there, while it waits too. `collect` makes one wire of them again.
        """
        return self._with("buffer", max_parallel=max_parallel)

    def collect(
        self, id: str = "collect", *, quorum: int | None = None, timeout: float | None = None,
        remaining: Literal["continue", "cancel"] = "continue",
    ) -> Flow:  # fmt: skip
        """Fan-in: the next step is given the `BufferComplete`. With a quorum or a timeout (seconds) this is a Collector
        with that `id`; else the Buffer itself waits.
        """
        return self._with("collect", id=id, quorum=quorum, timeout=timeout, remaining=remaining)

    def route(
        self, id: str, routes: Mapping[Any, Any] | Sequence[tuple[Callable[[Any], Any], Any]], default: Any = None
    ) -> Flow:  # fmt: skip
        """A Router, over the previous result. Where it has ids, `routes` has steps or lists of steps here; each is
        given the previous result. What comes out is the result of the first that ran.
        """
        return self._with("route", id=id, routes=routes, default=default)

    def when(self, predicate: Callable[[Any], Any], id: str | None = None) -> Flow:
        """The steps up to `otherwise` or `end_when` run if the predicate holds of the previous result, which they are
        given. `id` is that of the Router; else it is called like the predicate.
        """
        return self._with("when", predicate=predicate, id=id)

    def otherwise(self) -> Flow:
        """The steps up to `end_when` run if the predicate didn't hold."""
        return self._with("otherwise")

    def end_when(self) -> Flow:
        """What comes out is what came out of the branch that ran; of one without steps, what went in."""
        return self._with("end_when")

    def gate(
        self, id: str, prompt: str = "", *, timeout: float | None = None,
        on_timeout: Literal["fail", "skip"] = "fail",
    ) -> Flow:  # fmt: skip
        """A Gate: the next step is given the signal's value. `timeout` is in seconds."""
        return self._with("gate", id=id, prompt=prompt, timeout=timeout, on_timeout=on_timeout)

    def build(self) -> Workflow:
        """The Workflow.

        Raises:
            WorkflowDefinitionError: lists everything that is wrong.
        """
        if self.trigger is None:
            return Weaver(self.name).workflow(self.steps)
        return FedWeaver(self.name, self.trigger).workflow(self.steps)

    def _with(self, kind: str, **options: Any) -> Flow:
        return Flow(self.name, (*self.steps, Step(kind, options)), self.trigger)

    def __repr__(self) -> str:
        return f"Flow({self.name!r}){''.join(f'.{step.kind}(...)' for step in self.steps)}"
