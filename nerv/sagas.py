"""`Saga`: the undoing of what was done, when an execution fails or is cancelled.

A part of the scheduler, as pure as it is; executions without `compensate` don't have one. When nothing but all_finished
tasks is left and the execution can't succeed any more, completed tasks that have a compensation are undone, the last
completed first, one after another. all_finished tasks that haven't started wait until that is over. Where some of these
were added while it ran, whoever waits for them, and can't complete any more, isn't waited for either.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from heapq import heapify
from typing import TYPE_CHECKING

from nerv.eventlog import TASK_COMPLETED
from nerv.graph import NUMBER_MASK
from nerv.pages import Record
from nerv.states import ALL_FINISHED

if TYPE_CHECKING:
    from nerv.detours import Detours


class Saga:
    """What there is to undo.

    Args:
        undoable: the numbers of the tasks that have a compensation.
        cleanup: the numbers of the all_finished tasks, of those that are there so far.

    Attributes:
        left: what is still to be undone, the next one last; None before it began.
        tries: how often the next one was attempted.
        floor: with more unfinished tasks than that it isn't time yet.
    """

    def __init__(self, undoable: Container[int], cleanup: Sequence[int]) -> None:
        self.left: list[int] | None = None
        self.tries = 0
        self.undone_before: Container[int] = ()  # in a process that died
        self.floor = len(cleanup)
        self._undoable = undoable
        self._cleanup = [*cleanup]
        self._growths = 0
        self._has_added = False  # whether there is cleanup among what was added
        self._held: list[int] = []

    def grown(self, cleanup: Sequence[int], times: int = 1) -> None:
        """A task has added others, or several have, and wait for them; these are the all_finished ones."""
        self._growths += times
        self._cleanup += cleanup
        self._has_added |= bool(cleanup)
        self.floor = len(self._cleanup) + (self._growths if self._has_added else 0)

    def forget(self, numbers: Container[int]) -> None:
        """Nothing is known any more of these tasks, which have ended."""
        self._cleanup = [number for number in self._cleanup if number not in numbers]
        self.floor = len(self._cleanup) + (self._growths if self._has_added else 0)

    def holds(self, scheduler: Detours) -> bool:
        """Asked when there may be nothing left but cleanup: whether something has to be undone first."""
        if self.left is None:
            if not scheduler.is_failing or not self._is_time(scheduler):
                return False
            self.left = self._completed(scheduler.records)
            if self.left:
                self._hold_cleanup(scheduler)
                scheduler.undo(self.left[-1])
                self._stir(scheduler)
        return bool(self.left)

    def _is_time(self, scheduler: Detours) -> bool:
        left = sum(not scheduler.has_ended(number) for number in self._cleanup)
        return scheduler.unfinished == left + (len(self._doomed(scheduler)) if self._has_added else 0)

    def _doomed(self, scheduler: Detours) -> set[int]:
        """Tasks, but for cleanup, that wait for what they have added, and won't complete whatever becomes of that."""
        families, doomed = scheduler.families, set[int]()
        assert families is not None
        rules = scheduler.rules
        waiting = {one for one in families.open if rules[one] != ALL_FINISHED and not scheduler.has_ended(one)}
        for one in waiting:
            if scheduler.stopping and one not in self._undoable:
                doomed.add(one)
            parent, family = one, families.open[one]
            if family.failed < 0:
                continue
            while parent in waiting and family.seed.fails and not family.keeps:
                doomed.add(parent)
                own = families.of(parent)
                if own is None:
                    break
                parent, family = own.parent, own
        return doomed

    def _completed(self, records: Sequence[Record]) -> list[int]:
        return [
            task
            for code, task, *_ in records
            if code == TASK_COMPLETED and task in self._undoable and task not in self.undone_before
        ]

    def may_undo(self, number: int) -> bool:
        """Whether a task, if it is COMPLETED, would have to be undone."""
        return number in self._undoable

    def _hold_cleanup(self, scheduler: Detours) -> None:
        for ready in scheduler.ready:
            self._held += [rank & NUMBER_MASK for rank in ready if rank & NUMBER_MASK not in scheduler.errands]
            ready[:] = [rank for rank in ready if rank & NUMBER_MASK in scheduler.errands]
            heapify(ready)

    def hold(self, number: int) -> None:
        """An all_finished task is ready while something is being undone."""
        self._held.append(number)

    def undone(self, scheduler: Detours) -> None:
        """The next one is undone, or can't be: on to the one before it, and after the first to cleanup."""
        assert self.left
        self.left.pop()
        self.tries = 0
        if self.left:
            scheduler.undo(self.left[-1])
            return
        held, self._held = self._held, []
        for number in held:
            scheduler.release(number)
        self._stir(scheduler)

    def _stir(self, scheduler: Detours) -> None:
        """What lines offer to cleanup can't be taken now, or can again."""
        assert scheduler.waits is not None
        scheduler.waits.stir()

    def give_up(self) -> list[int]:
        """Nothing can be undone any more; gives what wasn't."""
        left, self.left = self.left or [], []
        return left[::-1]
