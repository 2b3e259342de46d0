"""Daily summaries of single scores, as in the log's rollups, for benchmarks and tests of drift."""

from datetime import date

import numpy as np
from numpy.typing import ArrayLike

from core.log.values import DailyScores
from quarterdeck.schema import HISTOGRAM_BINS


def summarize_scores(day: date, scores: ArrayLike) -> DailyScores:
    """Return the summary of one day's scores, numbers from 0 to 1."""
    values = np.asarray(scores, dtype=float)
    bins = np.minimum((values * HISTOGRAM_BINS).astype(int), HISTOGRAM_BINS - 1)
    histogram = tuple(int(n) for n in np.bincount(bins, minlength=HISTOGRAM_BINS))
    return DailyScores(day, len(values), float(values.sum()), float((values**2).sum()), histogram)
