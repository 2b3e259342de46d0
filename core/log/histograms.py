"""Rule: reads score histograms: sums and quantiles of counts in 50 equal bins over 0..1."""

from collections.abc import Iterable, Sequence

from core.log.values import DailyScores
from quarterdeck.schema import HISTOGRAM_BINS


def add_histograms(days: Iterable[DailyScores]) -> tuple[int, ...]:
    """Return the counts of all days together, bin by bin."""
    counts = [0] * HISTOGRAM_BINS
    for day in days:
        for at, count in enumerate(day.histogram):
            counts[at] += count
    return tuple(counts)


def quantile_of_histogram(counts: Sequence[int], share: float) -> float:
    """Return the score below which `share` (0..1) of the counts are, interpolated linearly within a bin.

    The error is at most one bin, 0.02. Raises ValueError for counts that are all zero.
    """
    wanted = share * sum(counts)
    if not any(counts):
        raise ValueError("the counts are all zero: there is no quantile")
    passed = 0
    for at, count in enumerate(counts):
        if count and passed + count >= wanted:
            return (at + max(0.0, wanted - passed) / count) / len(counts)
        passed += count
    return 1.0


def count_below(counts: Sequence[int], score: float) -> float:
    """Return how many of the counts are below a score, interpolated linearly within a bin."""
    place = min(max(score, 0.0), 1.0) * len(counts)
    full = int(place)
    part = counts[full] * (place - full) if full < len(counts) else 0.0
    return sum(counts[:full]) + part
