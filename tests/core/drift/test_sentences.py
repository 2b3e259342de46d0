"""Every sentence about drift adds up: the difference it states is that of its two means, and they are the days' own."""

import re
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest

from benchmarks.scores import summarize_scores
from core.causes.causes import Causes
from core.causes.headline import describe_drop
from core.drift.report import report_drift
from core.drift.verdict import DriftReport, DriftStatus, decide_drift
from core.log.values import DailyScores
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import DEFAULT_SCOPE
from quarterdeck.store import Store
from tests.core.drift.test_report import NOW, TODAY

MONDAY = date(2026, 3, 2)
NUMBER = r"(-?\d+\.\d+)"
STATED = re.compile(rf"(?:fell|rose|fallen) by {NUMBER}")
MEANS = re.compile(rf"{NUMBER} over ([\d,]+) recent questions? against {NUMBER} (over ([\d,]+) before|expected)")
SHAPES = ("flat", "drop", "dip", "long dip", "rise", "rise and fall", "slow", "two drops", "noise", "odd days")


def make_levels(rng: np.random.Generator, shape: str, count: int) -> np.ndarray:
    """Levels of the days of one shape, whose sizes and days are drawn."""
    at, size = int(rng.integers(8, count - 12)), float(rng.uniform(0.01, 0.2))
    days = np.arange(count)
    level = np.full(count, 0.6)
    if shape == "drop":
        level[at:] -= size
    elif shape in ("dip", "long dip"):
        level[at : at + (3 if shape == "dip" else 10)] -= size
    elif shape == "rise":
        level[at:] += size
    elif shape == "rise and fall":
        level[at : at + 9] += size
    elif shape == "slow":
        level -= size * days / count
    elif shape == "two drops":
        level[at:] -= size / 2
        level[at + 6 :] -= size
    elif shape == "noise":
        level += rng.normal(0, 0.04, count)
    elif shape == "odd days":
        level[rng.random(count) < 0.05] -= size
    return level


def make_days(seed: int, shape: str) -> list[DailyScores]:
    rng = np.random.default_rng([seed, SHAPES.index(shape)])
    count, per_day, spread = int(rng.integers(25, 80)), int(rng.choice([8, 60, 400])), float(rng.choice([0.04, 0.12]))
    weekend = float(rng.choice([0.0, -0.03]))
    days = []
    for offset, level in enumerate(make_levels(rng, shape, count)):
        day = MONDAY + timedelta(days=offset)
        asked = int(rng.poisson(per_day * (0.3 if day.weekday() >= 5 else 1.2)))
        scores = rng.normal(level + weekend * (day.weekday() >= 5), spread, asked)
        days.append(summarize_scores(day, np.clip(scores, 0, 1)))
    return [day for day in days if day.count]


def check_report(report: DriftReport, days: list[DailyScores]) -> None:
    """Check the arithmetic of the reason, of the headline and of the figures that the page shows."""
    means, stated = MEANS.search(report.reason), STATED.search(report.reason)
    if means:
        assert float(means[1]) == round(report.recent_avg_score, places_of(means[1]))
        assert means[2] == f"{report.recent_count:,}"
        recent = [d for d in days if report.is_recent(d.day)]
        if report.changed_on:
            assert report.recent_from == report.changed_on
            assert float(means[1]) == pytest.approx(mean_of(recent), abs=0.0051)
    if stated:
        assert means, report.reason
        assert float(stated[1]) == pytest.approx(abs(float(means[1]) - float(means[3])), abs=1e-9), report.reason
        lower = float(means[1]) < float(means[3])
        assert lower == ("rose" not in report.reason), report.reason
    if means and means[5]:
        assert float(means[3]) == round(report.baseline_avg_score, places_of(means[3]))
        assert report.delta == pytest.approx(float(means[1]) - float(means[3]), abs=0.0101)
    if report.baseline_until:
        assert report.baseline_until < report.recent_from
    headline = describe_drop(report, Causes(()))
    if told := re.search(rf"fell by {NUMBER} .*, from {NUMBER} to {NUMBER}", headline):
        assert float(told[1]) == pytest.approx(float(told[2]) - float(told[3]), abs=1e-9), headline


def places_of(number: str) -> int:
    return len(number.partition(".")[2])


def mean_of(days: list[DailyScores]) -> float:
    return sum(d.mean * d.count for d in days) / sum(d.count for d in days)


@pytest.mark.deep
@pytest.mark.parametrize("shape", SHAPES)
def test_the_means_of_every_sentence_differ_by_what_it_states(shape: str) -> None:
    said = set()
    for seed in range(6):
        days = make_days(seed, shape)
        for last in range(len(days) - 1, 9, -4):
            report = decide_drift(days[: last + 1], today=days[last].day)
            check_report(report, days[: last + 1])
            said.add(report.status)
    assert said


@pytest.mark.parametrize("scale", [0.1, 20.0])
def test_the_sentences_add_up_on_another_scale(scale: float) -> None:
    for seed in range(3):
        days = [
            replace(d, total=d.total * scale, total_squares=d.total_squares * scale**2) for d in make_days(seed, "drop")
        ]
        check_report(decide_drift(days, today=days[-1].day), days)


def write(store: Store, levels: list[float]) -> None:
    """Write whole days of 200 questions that end yesterday."""
    rng = np.random.default_rng(1)
    rows = [
        Retrieval(
            NOW - timedelta(days=len(levels) - day, seconds=40 * n), f"q{n % 97}",
            float(np.clip(rng.normal(level, 0.1), 0, 1)),
        )
        for day, level in enumerate(levels)
        for n in range(200)
    ]  # fmt: skip
    append_retrievals(store, rows)


def test_ten_low_days_that_are_over_are_in_neither_mean(store: Store) -> None:
    write(store, [0.6] * 15 + [0.4] * 10 + [0.6] * 20)
    found = report_drift(store, scope=DEFAULT_SCOPE, today=TODAY)
    assert found.report.status is DriftStatus.STABLE
    assert found.report.recent_avg_score == pytest.approx(0.6, abs=0.01)
    assert found.report.baseline_avg_score == pytest.approx(0.6, abs=0.01)
    check_report(found.report, list(found.days))


def test_a_slow_fall_is_told_by_the_means_before_and_since_its_date(store: Store) -> None:
    write(store, [0.6 - 0.15 * day / 44 for day in range(45)])
    found = report_drift(store, scope=DEFAULT_SCOPE, today=TODAY)
    assert found.report.status is DriftStatus.DRIFTING
    check_report(found.report, list(found.days))
