"""A measured figure beside its target: medians, intervals and verdicts, and the table that shows them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from math import comb
from typing import Any

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Target:
    """What a figure is to be: at most `limit`, or at least that much if `upwards`. `unit` is empty for ratios."""

    limit: float
    unit: str = ""
    upwards: bool = False

    def __str__(self) -> str:
        return f"{'at least' if self.upwards else 'at most'} {shown(self.limit)}{self.unit}"

    def verdict(self, low: float, median: float, high: float) -> str:
        """Missed when the whole interval is on the wrong side; when only the median is, noise may have put it there."""
        if self.upwards:
            low, median, high, limit = -high, -median, -low, -self.limit
        else:
            limit = self.limit
        if median <= limit:
            return "met"
        return "missed" if low > limit else "met within noise"


@dataclass(frozen=True)
class Figure:
    """One line of the table. `samples` are in the order in which they were taken, one for each round."""

    row: str
    work: str
    target: Target
    samples: tuple[float, ...]
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def interval(self) -> tuple[float, float]:
        return interval(self.samples)

    @property
    def verdict(self) -> str:
        low, high = self.interval
        return self.target.verdict(low, self.median, high)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "median": self.median, "interval": self.interval, "verdict": self.verdict}


def interval(samples: Sequence[float]) -> tuple[float, float]:
    """An interval that holds the true median with at least 95% confidence, by order statistics: of nine samples the
    second to the eighth (96.1%). Fewer than six can't give one; then it is their range."""
    ordered, count = sorted(samples), len(samples)
    outside = 0
    for skipped in range(count // 2):
        outside += comb(count, skipped)
        if 1 - 2 * outside / 2**count < CONFIDENCE:
            break
    else:
        skipped = count // 2
    first = max(skipped - 1, 0)
    return ordered[first], ordered[count - 1 - first]


def shown(value: float) -> str:
    """A number with as many digits as say something."""
    if value and abs(value) < 0.1:
        return f"{value:.2g}"
    text = f"{value:,.3f}" if abs(value) < 10 else f"{value:,.1f}" if abs(value) < 100 else f"{value:,.0f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


HEAD = ("| row | work | target | figure | interval | rounds | | |", "|---|---|---|---|---|---|---|---|")


def line(figure: Figure) -> str:
    """A figure as a line of the table."""
    low, high = figure.interval
    spread = f"{shown(low)} to {shown(high)}" if len(figure.samples) > 1 else ""
    value = f"{shown(figure.median)}{figure.target.unit}"
    cells = (figure.row, figure.work, figure.target, value, spread, len(figure.samples), figure.verdict, figure.note)
    return f"| {' | '.join(map(str, cells))} |"


def table(figures: Iterable[Figure]) -> str:
    """All figures as a Markdown table."""
    return "\n".join([*HEAD, *map(line, figures)])
