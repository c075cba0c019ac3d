"""`Weaver`: makes the tasks of a workflow out of a Flow's steps.

It goes through the steps once and knows, at each, what comes out of the one before (`Exit`): a reference to a value,
and the ids behind it. Calls that open something (`when`, `buffer`) put a frame on a stack, which the call that closes
it takes off. What is wrong is noted, and all of it raised at the end, together with what `Workflow` finds.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final, NamedTuple

from msgspec import UNSET
from msgspec.structs import force_setattr as _set
from msgspec.structs import replace

from nerv.errors import CycleError, Problem, WorkflowDefinitionError
from nerv.nodes.base import Node
from nerv.nodes.buffer import Buffer
from nerv.nodes.collector import Collector
from nerv.nodes.gate import Gate
from nerv.nodes.router import Router
from nerv.references import Output, Param
from nerv.tasks import TaskDef
from nerv.workflows import Workflow


class Step(NamedTuple):
    """One call on a Flow: its name, and what it was given."""

    kind: str
    options: Mapping[str, Any]


class Exit(NamedTuple):
    """What comes out of a step: a reference to its value (UNSET: there is none), and the tasks behind it."""

    value: Any = UNSET
    ids: tuple[str, ...] = ()


class When(NamedTuple):
    """A `when` that is open: where its Router belongs, and the branch before `otherwise`, if that has come."""

    router: str
    predicate: Any
    value: Any
    start: int
    otherwise: int | None = None
    first: Exit | None = None


class Fan(NamedTuple):
    """A `buffer` that is open: what its items are, and what has been woven before it."""

    before: Exit
    max_parallel: Any
    tasks: list[TaskDef]


class Weaver:
    """Weaves one workflow.

    Args:
        name: the workflow's name.
    """

    taken: ClassVar[tuple[str, ...]] = ()  # ids that steps can't have

    def __init__(self, name: str) -> None:
        self.name = name
        self.problems: list[Problem] = []
        self.tasks: list[TaskDef] = []
        self.last = Exit()
        self._open: list[When | Fan] = []
        self._weave: Final[dict[str, Callable[..., None]]] = {
            "then": self._then,
            "then_parallel": self._parallel,
            "buffer": self._buffer,
            "collect": self._collect,
            "route": self._route,
            "when": self._when,
            "otherwise": self._otherwise,
            "end_when": self._end_when,
            "gate": self._gate,
        }

    def workflow(self, steps: Iterable[Step]) -> Workflow:
        """The Workflow.

        Raises:
            WorkflowDefinitionError: lists everything that is wrong.
        """
        self.weave(steps)
        made = self._made(self.name, self.tasks, self.taken)
        if made is None or self.problems:
            raise WorkflowDefinitionError(self.problems, f"flow {self.name!r} can't be built")
        return made

    def weave(self, steps: Iterable[Step]) -> None:
        """Go through the steps."""
        for kind, options in steps:
            self._weave[kind](**options)
        while self._open:
            frame = self._open[-1]
            if isinstance(frame, When):
                self._note(
                    frame.router, f"when({frame.router!r}) has no end_when(); add .end_when() behind its branches"
                )
                self._open.pop()
            else:
                self._end_fan(collect=False)
        if not self.tasks:
            self._note(None, "it has no steps; add .then(function)")

    def _made(self, name: str, tasks: Sequence[TaskDef], taken: Sequence[str] = ()) -> Workflow | None:
        """A Workflow of these tasks. What is wrong with them is noted; what is found wrong with two tasks of one id
        isn't, for it would be said of the wrong one.
        """
        counts = Counter([*taken, *[task.id for task in tasks]])
        clashing = {task_id for task_id, count in counts.items() if count > 1}
        for task_id in sorted(clashing):
            who = "a step has the flow's own id" if task_id in taken else f"{counts[task_id]} steps have the id"
            remedy = f"ids are unique, so give one another: TaskDef({f'{task_id}-2'!r}, function)"
            text = f"flow {self.name!r}: {who} {task_id!r}; {remedy}"
            self.problems.append(Problem(task_id, "duplicate", text))
        try:
            return Workflow(name, tasks)
        except CycleError:
            if not clashing and not self.problems:
                raise
        except WorkflowDefinitionError as error:
            self.problems += [problem for problem in error.problems if problem.task_id not in clashing]
        return None

    def _note(self, task_id: str | None, text: str) -> None:
        self.problems.append(Problem(task_id, "flow", f"flow {self.name!r}: {text}"))

    # ---- steps ------------------------------------------------------------------------------------------------------

    def _task(self, given: Any) -> TaskDef | None:
        """A step as a TaskDef; None: it can't be one, which is noted."""
        try:
            if isinstance(given, TaskDef):
                return given
            if getattr(type(given), "is_nerv_task", False):
                return given.define()  # type: ignore[no-any-return]  # a Task
            if callable(given) and not getattr(type(given), "is_nerv_workflow", False):
                return TaskDef(fn=given)
        except WorkflowDefinitionError as error:
            self.problems += error.problems
            return None
        self._note(None, f"a step is a function or a TaskDef, not {given!r}; a Workflow goes into a SubWorkflow")
        return None

    def _wired(self, task: TaskDef, before: Exit) -> TaskDef:
        """The task behind what came before."""
        if not before.ids and before.value is UNSET:
            return task
        if before.value is not UNSET and not isinstance(task, Node) and not task.args and not task.kwargs:
            return replace(task, args=(before.value,), dependencies=self._more(task, before))
        twin = copy.copy(task)
        _set(twin, "dependencies", self._more(task, before, everything=True))
        return twin

    @staticmethod
    def _more(task: TaskDef, before: Exit, *, everything: bool = False) -> tuple[Any, ...]:
        own = tuple(task.dependencies)
        new = before.ids if everything else ()
        return tuple(dict.fromkeys((*own, *(one for one in new if one not in task.needs))))

    def _add(self, task: TaskDef) -> str:
        self.tasks.append(task)
        return task.id

    def _then(self, step: Any) -> None:
        task = self._task(step)
        if task is not None:
            self._passes(self._add(self._wired(task, self.last)))

    def _passes(self, task_id: str) -> None:
        self.last = Exit(Output(task_id), (task_id,))

    def _parallel(self, name: Any, tasks: Sequence[Any]) -> None:
        if not isinstance(name, str) or not name:
            self._note(None, f"then_parallel takes a name first, a str, not {name!r}")
            return
        if not tasks:
            self._note(name, f"then_parallel({name!r}) has no tasks; give it some")
        made = [task for task in map(self._task, tasks) if task is not None]
        ids = [self._add(self._wired(task, self.last)) for task in made]
        self._passes(self._add(TaskDef(name, dict, args=({one: Output(one) for one in ids},))))

    def _gate(self, id: Any, **options: Any) -> None:
        self._node(Gate, id, dependencies=self.last.ids, **options)

    def _node(self, kind: type[Node], *args: Any, **fields: Any) -> None:
        try:
            node = kind(*args, **fields)
        except WorkflowDefinitionError as error:
            self.problems += error.problems
        else:
            self._passes(self._add(node))

    # ---- branches ---------------------------------------------------------------------------------------------------

    def _route(self, id: Any, routes: Any, default: Any) -> None:
        pairs = routes.items() if isinstance(routes, Mapping) else routes
        if isinstance(pairs, str) or not isinstance(pairs, Iterable):
            self._note(id, f"route({id!r}) takes a mapping of values to steps, or a list of (predicate, step)")
            return
        if self.last.value is UNSET:
            self._note(id, f"route({id!r}) has nothing before it to decide by; add a step")
            return
        before, place = Exit(Output(id), (id,)), len(self.tasks)
        try:
            led = [(key, self._branch(steps, before)) for key, steps in pairs]
        except (TypeError, ValueError):
            self._note(id, f"route({id!r}): a route in a list is (predicate, step), not {routes!r}")
            return
        other = None if default is None else self._branch(default, before)
        value, ends = self.last.value, [task.id for task in self.tasks[place:]]
        self._node(Router, id, value, dict(led) if isinstance(routes, Mapping) else led, other)
        if self.tasks[-1].id == id:
            self.tasks.insert(place, self.tasks.pop())
        if ends:
            self.last = Exit(Output.first(*ends), tuple(ends))

    def _branch(self, steps: Any, before: Exit) -> list[str]:
        listed = steps if isinstance(steps, (list, tuple)) else [steps]
        made = [task for task in map(self._task, listed) if task is not None]
        known = {task.id: task for task in self.tasks}
        ids = []
        for task in made:
            if known.get(task.id) is None or before.ids[0] not in known[task.id].needs:  # two routes may lead to one
                self._add(self._wired(task, before))
            ids.append(task.id)
        return ids

    def _when(self, predicate: Any, id: Any) -> None:
        if not callable(predicate):
            self._note(id, f"when takes a function of the previous result, not {predicate!r}")
        name = id or str(getattr(predicate, "__name__", "when"))
        router = "when" if "<" in name else name
        if self.last.value is UNSET:
            self._note(router, f"when({router!r}) has nothing before it to decide by; add a step")
        self._open.append(When(router, predicate, self.last.value, len(self.tasks)))
        self._passes(router)

    def _otherwise(self) -> None:
        frame = self._closing("otherwise()")
        if frame is None:
            return
        if frame.otherwise is not None:
            self._note(frame.router, f"when({frame.router!r}) has two otherwise(); remove one")
        self._open.append(frame._replace(otherwise=len(self.tasks), first=self.last))
        self._passes(frame.router)

    def _end_when(self) -> None:
        frame = self._closing("end_when()")
        if frame is None:
            return
        middle = len(self.tasks) if frame.otherwise is None else frame.otherwise
        ways = [self.tasks[frame.start : middle], self.tasks[middle:]]
        taken, other = [[task.id for task in way if frame.router in task.needs] for way in ways]
        exits = [self.last] if frame.first is None else [frame.first, self.last]
        if self._is_ready(frame):
            self._node(Router, frame.router, frame.value, [(frame.predicate, taken)], tuple(other))
            self.tasks.insert(frame.start, self.tasks.pop())
        ids = tuple(dict.fromkeys(one for way in exits for one in way.ids if one != frame.router))
        if not other or not taken:  # a way without steps: what went in comes out
            ids = (*ids, frame.router)
        self.last = Exit(Output.first(*ids), ids)

    @staticmethod
    def _is_ready(frame: When) -> bool:
        return callable(frame.predicate) and frame.value is not UNSET

    def _closing(self, call: str) -> When | None:
        """The `when` that a call is about."""
        frame = self._open[-1] if self._open else None
        if isinstance(frame, When):
            self._open.pop()
            return frame
        if frame is None:
            self._note(None, f"{call} without when(); write .when(predicate) before it")
        else:
            self._note(None, f"{call} behind a buffer() that isn't collected; write .collect() before it")
        return None

    # ---- fan-out ----------------------------------------------------------------------------------------------------

    def _buffer(self, max_parallel: Any) -> None:
        if self.last.value is UNSET:
            self._note(None, "buffer() has nothing before it to give it items; add a step")
        self._open.append(Fan(self.last, max_parallel, self.tasks))
        self.tasks = []
        self.last = Exit(Param("item"))

    def _collect(self, id: Any, quorum: Any, timeout: Any, remaining: Any) -> None:
        frame = self._open[-1] if self._open else None
        if not isinstance(frame, Fan):
            self._note(None, "collect() without buffer() before it, in the same branch; write .buffer() first")
            return
        by_itself = quorum is None and timeout is None and remaining == "continue"
        self._end_fan(collect=by_itself)
        if not by_itself and self.last.ids:
            source = self.last.ids[0]
            self._node(Collector, id, source, quorum=quorum, timeout=timeout, remaining=remaining)

    def _end_fan(self, *, collect: bool) -> None:
        fan = self._open.pop()
        assert isinstance(fan, Fan)
        inner, self.tasks, self.last = self.tasks, fan.tasks, fan.before
        if not inner:
            self._note(None, "buffer() has no steps behind it; add .then(function)")
            return
        target = self._made(inner[0].id, inner) if len(inner) > 1 else self._alone(inner[0])
        if target is None:
            return
        items = () if fan.before.value is UNSET else fan.before.value
        self._node(Buffer, inner[0].id, items, target, fan.max_parallel, collect)

    @staticmethod
    def _alone(task: TaskDef) -> Any:
        """The only step behind a buffer, without the reference to its item, which a Buffer gives it by itself."""
        if isinstance(task, Node) or "item" not in task.asks_for:
            return Workflow(task.id, [task])
        is_plain = len(task.args) == 1 and isinstance(task.args[0], Param) and not task.kwargs
        if not is_plain:
            return Workflow(task.id, [task])
        twin = copy.copy(task)
        _set(twin, "args", ())
        _set(twin, "_params", {})
        return twin
