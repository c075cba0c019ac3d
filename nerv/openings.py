"""`Openings`: what tasks hear of the lines that they stand in (nerv/lines.py), and when somebody has to look again."""

from __future__ import annotations

from functools import partial
from math import inf
from typing import TYPE_CHECKING

from nerv.clock import Alarm

if TYPE_CHECKING:
    from nerv.dispatch import Dispatch


class Openings:
    """Looks after the lines of an engine, under its lock. One alarm rings when the next of them may be open."""

    def __init__(self, engine: Dispatch) -> None:
        self._engine = engine
        self._alarm: Alarm | None = None
        self._alarm_at = inf

    def sort(self) -> None:
        """Pass on what is new: results that won't come, circuits that open or close, refusals, and whose turn it is."""
        engine, lines = self._engine, self._engine.lines
        now = engine.clock.monotonic()
        while lines.news:
            lines.news = False
            for flight in lines.take_grounded():
                engine.call_later(flight.failed)
            for event, line in lines.take_circuits():
                engine.call_later(partial(engine.bus.announce, event, data={"name": line.name}))
            for waits, number, line in lines.take_refused():
                live = waits.owner
                if live.scheduler.has_ended(number):  # it was cancelled when another of them failed
                    continue
                engine.endings.failed(live, number, line.error(live.tasks[number].id), now, retryable=False)
                if live.scheduler.stopping:
                    engine.stop_running(live)
                engine.moved(live)
            for waits in lines.offer(now):
                engine.moved(waits.owner)
        self._wait_for(lines.next_opening())

    def _wait_for(self, moment: float) -> None:
        if moment < self._alarm_at:
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm_at = moment
            self._alarm = self._engine.timer.at(moment, self._ring)

    def _ring(self) -> None:
        """The moment has come at which a line may be open."""
        with self._engine.effects:
            self._alarm_at, self._alarm = inf, None
            self._engine.lines.stir_open(self._engine.clock.monotonic())
