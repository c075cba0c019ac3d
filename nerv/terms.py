"""What the policies of a workflow's tasks come to in one execution: its `Waits` and its `Saga`, made at admission."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nerv.errors import Problem, near
from nerv.lines import Line, Lines, Terms
from nerv.lookups import Lookups
from nerv.sagas import Saga
from nerv.scheduler import ALL_FINISHED
from nerv.tasks import TaskDef
from nerv.waits import Waits
from nerv.workflows import Workflow

if TYPE_CHECKING:
    from nerv.live import Live


class Policing:
    """The policies of one workflow, for one execution.

    Args:
        workflow: what runs.
        lines: the engine's.

    Attributes:
        terms: by task number, of the tasks that have policies.
        problems: what can't be.
    """

    def __init__(self, workflow: Workflow, lines: Lines) -> None:
        self.terms: dict[int, Terms] = {}
        self.problems: list[Problem] = []
        self._workflow = workflow
        self._all = lines
        self._own: dict[int, Line] = {}
        self._known: dict[tuple[Any, ...], tuple[Terms, tuple[Any, ...]]] = {}
        self._undoable: set[int] = set()
        for number in workflow.policed:
            task = workflow.definitions[number]
            self.terms[number] = self.terms_of(task, self.problems)
            if task.compensate is not None:
                self._undoable.add(number)

    def terms_of(self, task: TaskDef, problems: list[Problem]) -> Terms:
        """What a task's policies come to. What can't be goes into `problems`."""
        policies = (task.retry_policy, task.rate_limit, task.circuit_breaker, task.resources, task.fallback)
        key = tuple(map(id, policies))
        known = self._known.get(key)
        if known is None:
            made = Terms(task.retry_policy, task.fallback, tuple(self._lines(task, problems)))  # type: ignore[arg-type]
            known = self._known[key] = made, policies  # kept: an id is theirs as long as they live
        return known[0]

    def _lines(self, task: TaskDef, problems: list[Problem]) -> list[tuple[Line, float]]:
        """What each attempt must pass. The breaker comes last: asking it may let the task through half-open."""
        lines: list[tuple[Line, float]] = []
        for name, amount in (task.resources or {}).items():
            line = self._all.resources.get(name)
            if line is None or amount > line.stock.amount:
                problems.append(Problem(task.id, "resources", self._too_much(task, name, amount)))
            else:
                lines.append((line, amount))
        for policy in (task.rate_limit, task.circuit_breaker):
            if policy is not None:
                try:
                    lines.append((self._all.line(policy, self._own), 1))
                except ValueError as error:
                    problems.append(Problem(task.id, "limit", f"task {task.id!r}: {error}; use another name"))
        return lines

    def _too_much(self, task: TaskDef, name: str, amount: float) -> str:
        known = self._all.resources
        if name not in known:
            there = f"; there are {', '.join(known)}" if known else ""
            return (
                f"task {task.id!r} needs the resource {name!r}, which the setting `resources` doesn't offer"
                f"{near(name, known)}{there}"
            )
        return f"task {task.id!r} needs {amount:g} of {name!r}, and there are {known[name].stock.amount:g} in all"

    def waits(self, pools: Sequence[Any], epoch: float, owner: Any, lookups: Lookups | None) -> Waits | None:
        """What the scheduler keeps of it; None if no task has policies."""
        return Waits(self.terms, self._all, pools, epoch, owner, lookups=lookups) if self.terms else None

    def has_waits(self, live: Live) -> Waits:
        """What the scheduler keeps of it, from now on."""
        scheduler = live.scheduler
        if scheduler.waits is None:
            scheduler.is_plain = False
            scheduler.waits = Waits(self.terms, self._all, live.pools, live.log.epoch, live)
            scheduler.waits.scheduler = scheduler
        return scheduler.waits

    def add(self, live: Live, numbers: Mapping[int, Terms]) -> None:
        """Tasks were added that have policies."""
        waits = self.has_waits(live)
        self.terms.update(numbers)
        waits.use({line for terms in numbers.values() for line, _ in terms.lines})
        undoable = [number for number in numbers if live.tasks[number].compensate is not None]
        if undoable:
            self._undoable.update(undoable)
            saga = self.saga()
            if live.scheduler.saga is None and saga is not None:
                live.scheduler.has_saga(saga)

    def forget(self, numbers: Iterable[int]) -> None:
        """Nobody asks any more for these tasks, which were added; there is nothing of them to undo."""
        for number in numbers:
            self.terms.pop(number, None)
        self._undoable.difference_update(numbers)

    def saga(self) -> Saga | None:
        """What there would be to undo; None if no task has a compensation."""
        if not self._undoable:
            return None
        rules = self._workflow.rules
        return Saga(self._undoable, [number for number, rule in enumerate(rules) if rule == ALL_FINISHED])
