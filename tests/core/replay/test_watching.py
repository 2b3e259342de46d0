"""The verdict to come: the detector is asked about the days after the change."""

from datetime import date, timedelta

import numpy as np

from core.log.values import DailyScores
from core.replay.shifts import ReplayShift
from core.replay.watching import foresee_drift
from quarterdeck.schema import HISTOGRAM_BINS

TODAY = date(2026, 11, 30)


def day(when: date, mean: float, count: int = 400) -> DailyScores:
    bins = [0] * HISTOGRAM_BINS
    bins[int(mean * HISTOGRAM_BINS)] = count
    return DailyScores(when, count, mean * count, count * (mean**2 + 0.01), tuple(bins), logged=count)


def days(level: float, *, fall_on: int = 0, to: float = 0.0) -> list[DailyScores]:
    rng = np.random.default_rng(2)
    return [
        day(TODAY - timedelta(days=at), float((to if at <= fall_on else level) + rng.normal(0, 0.005)))
        for at in range(40, 0, -1)
    ]


def test_a_large_fall_will_be_called_and_no_change_will_not() -> None:
    fall = foresee_drift(days(0.6), ReplayShift(-0.1, -0.12, -0.08), today=TODAY)
    assert fall
    assert (fall.today, fall.predicted, fall.at_low) == ("stable", "drifting", "drifting")
    assert fall.changes
    assert fall.after_days
    assert fall.after_days <= 7
    quiet = foresee_drift(days(0.6), ReplayShift(0.001, -0.001, 0.002), today=TODAY)
    assert quiet
    assert (quiet.predicted, quiet.after_days, quiet.changes) == ("stable", None, False)


def test_an_index_that_brings_the_level_back_ends_the_drift() -> None:
    found = foresee_drift(days(0.6, fall_on=6, to=0.48), ReplayShift(0.12, 0.11, 0.13), today=TODAY)
    assert found
    assert (found.today, found.predicted) == ("drifting", "stable")


def test_without_recent_days_nothing_is_foreseen() -> None:
    assert foresee_drift([], ReplayShift(0.1, 0.0, 0.2), today=TODAY) is None
    assert foresee_drift(days(0.6), ReplayShift(0.1, 0.0, 0.2), today=TODAY + timedelta(days=60)) is None
