"""Rule: what every kind of retrieval log answers with, before it becomes the deck's own types."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from quarterdeck.clock import WEEK_MS

TREND_WEEKS = 5


@dataclass(frozen=True, slots=True)
class DayRow:
    """One day of one value of a dimension: count, sum and sum of squares of the scores, and their histogram."""

    value: str
    start_ms: int
    count: int
    total: float
    total_squares: float
    histogram: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AskedRow:
    """One query text: how often and how well it scored in the window, and its counts a week, oldest first."""

    query: str
    count: int
    total: float
    weeks: tuple[int, ...]

    def with_counts_of(self, other: "AskedRow") -> "AskedRow":
        """Return this query with another one's counts added."""
        weeks = tuple(a + b for a, b in zip(self.weeks, other.weeks, strict=True))
        return replace(self, count=self.count + other.count, total=self.total + other.total, weeks=weeks)


def trend_start_ms(start_ms: int, end_ms: int) -> int:
    """Return how far back the rows reach that a window and the trend before its end need."""
    return min(start_ms, end_ms - TREND_WEEKS * WEEK_MS)


@dataclass(frozen=True, slots=True)
class Measured:
    """How many rows carry a figure, and its mean over them; None where none does."""

    count: int
    mean: float | None


@dataclass(frozen=True, slots=True)
class LiveFigures:
    """What the log says of the queries with one value of a dimension; `value` is "" where none was given."""

    value: str
    queries: int
    score: Measured
    faithfulness: Measured
    cost_usd: Measured
    latency_ms: Measured
    feedback: Measured


LIVE_FIGURES = ("score", "faithfulness", "cost_usd", "latency_ms", "feedback")


def read_live_figures(row: Sequence[Any]) -> LiveFigures:
    """Return the figures of a row: the value, how many queries, and count and mean of each of LIVE_FIGURES."""
    value, queries, *numbers = row
    pairs = zip(numbers[::2], numbers[1::2], strict=True)
    return LiveFigures(
        str(value or ""), int(queries), *(Measured(int(n), float(mean) if n else None) for n, mean in pairs)
    )
