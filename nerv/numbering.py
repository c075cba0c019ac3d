"""The tasks of a workflow in numbers: each by its place, and the ids that it needs as the numbers of those tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from nerv.errors import Problem, near
from nerv.tasks import TaskDef

Index: TypeAlias = dict[str, int]
"""Task id -> number."""
Needs: TypeAlias = list[tuple[int, ...]]
"""For each task the numbers of those that it needs."""

_GUESSES: Final = 20
"""Problems that come with a near miss; looking for one takes as long as the workflow has tasks."""


def numbered(tasks: tuple[TaskDef, ...], problems: list[Problem]) -> tuple[Index, Needs, Sequence[int] | None]:
    """Number the tasks, and turn the ids that each needs into numbers; what can't be goes into `problems`.

    The third part is an order in which each comes after what it needs, if one was seen on the way.
    """
    return _in_order(tasks) or (*_in_any_order(tasks, problems), None)


def _in_order(tasks: tuple[TaskDef, ...]) -> tuple[Index, Needs, Sequence[int]] | None:
    """For the commonest workflow, in which each task comes after all that it needs. As they are looked up among those
    before it alone, one look says that they are there, and that they are before it. None: look closer.
    """
    index: Index = {}
    numbers: Needs = []
    number_of = index.__getitem__
    try:
        for number, task in enumerate(tasks):
            needs = task.needs if task._outputs else task.dependencies  # noqa: SLF001  (without a call for most)
            numbers.append(tuple(map(number_of, needs)) if needs else ())
            if task.fn is None:
                return None
            index[task.id] = number
    except KeyError:
        return None
    return (index, numbers, range(len(tasks))) if len(index) == len(tasks) else None


def _in_any_order(tasks: tuple[TaskDef, ...], problems: list[Problem]) -> tuple[Index, Needs]:
    ids = [task.id for task in tasks]
    index = dict(zip(ids, range(len(ids)), strict=True))
    if len(index) < len(ids):
        problems += [
            Problem(known, "duplicate", f"{count} tasks have the id {known!r}; ids are unique")
            for known, count in Counter(ids).items()
            if count > 1
        ]
    numbers: list[tuple[int, ...]] = []
    number_of = index.__getitem__
    for number, task in enumerate(tasks):
        needs = task.needs
        if task.fn is None:
            problems.append(Problem(task.id, "no function", f"task {task.id!r} has no function; give it fn=..."))
        if not needs:
            numbers.append(())
            continue
        try:
            found = tuple(map(number_of, needs))
        except KeyError:
            found = tuple([index[need] for need in needs if need in index])
            problems += _unknown(task, needs, index, guesses=_GUESSES - len(problems))
        if number in found:
            problems.append(
                Problem(task.id, "self loop", f"task {task.id!r} depends on itself; remove that dependency")
            )
            found = tuple([need for need in found if need != number])
        numbers.append(found)
    return index, numbers


def _unknown(task: TaskDef, needs: Sequence[str], index: Mapping[str, int], guesses: int) -> list[Problem]:
    problems: list[Problem] = []
    for need in needs:
        if need not in index:
            guess = near(need, index) if len(problems) < guesses else ""
            message = f"task {task.id!r} depends on {need!r}, which is no task{guess}"
            problems.append(Problem(task.id, "unknown", message))
    return problems
