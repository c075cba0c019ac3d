"""`LevelScheduler`: the barrier version of the scheduler, for comparison and for those who want it."""

from __future__ import annotations

from typing import Any

from nerv.events import EventType
from nerv.families import Seed
from nerv.scheduler import ALL_FINISHED, Scheduler


class LevelScheduler(Scheduler):
    """`scheduling="levels"`: a task starts only after every task of the levels before its own has ended.

    The barrier version, for comparison and for those who want it. `at` is the level that is running, `left` how many
    tasks of each level haven't ended, `held` the ready tasks of later levels.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.is_free = self.is_plain = False
        levels = self.graph.levels()
        self.at = 0
        self.left = [len(level) for level in levels]
        self.held: list[list[int]] = [[] for _ in levels]
        self.level_of = [0] * len(self.state)
        for depth, members in enumerate(levels):
            for number in members:
                self.level_of[number] = depth

    def _reuse(self, number: int, now: float) -> None:
        super()._reuse(number, now)
        self._leave(number)

    def brought_back(self) -> None:
        """The states are those of an execution that goes on: so is the level."""
        self.left = [0] * len(self.left)
        for number, level in enumerate(self.level_of):
            self.left[level] += not self.has_ended(number)
        self.at = next((level for level, left in enumerate(self.left) if left), len(self.left))

    def extend(self, parent: int, seed: Seed) -> None:
        """Tasks that are added are on their parent's level."""
        super().extend(parent, seed)
        level = self.level_of[parent]
        self.level_of.extend([level] * len(seed.ids))
        self.left[level] += len(seed.ids)

    def release(self, number: int) -> None:
        """A task is ready, if its level's turn has come."""
        level = self.level_of[number]
        if level > self.at:
            self.held[level].append(number)
        else:
            super().release(number)

    def completed(self, number: int, now: float, data: dict[str, Any] | None = None) -> None:
        """A task's function returned, or something stands in for its result. `data` goes into the event's."""
        super().completed(number, now, data)
        self._leave(number)

    def _end(self, number: int, now: float, table: dict[int, int], event: EventType, data: dict[str, Any]) -> None:
        super()._end(number, now, table, event, data)
        self._leave(number)

    def _leave(self, number: int) -> None:
        self.left[self.level_of[number]] -= 1
        while self.at < len(self.left) and not self.left[self.at]:
            self.at += 1
            held = self.held[self.at] if self.at < len(self.held) else []
            for waiting in held:
                if not self.has_ended(waiting) and not (self.stopping and self.rules[waiting] != ALL_FINISHED):
                    super().release(waiting)
