"""What overview, drift page and `quarterdeck drift` say of a drop adds up, on stores that nobody thought of."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.commands.log import describe_episode
from app.panels.drift.scores import draw_distributions
from core.causes.changes import WhatChanged, explain_drift
from core.drift.report import DriftOverview, report_as_of, report_drift, report_episodes
from core.drift.verdict import DriftReport
from core.log.closing import close_days
from core.log.values import DailyScores
from core.overview import describe_drift
from core.wording.scores import say_size
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import DEFAULT_SCOPE
from quarterdeck.store import Store
from tests.app.commands.running import Run
from tests.core.drift.test_sentences import SHAPES, check_report, make_levels, places_of
from tests.pages.opening import open_page, verdict

TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
NUMBER = r"(\d\.\d{2,3})"


def make_rows(seed: int, shape: str) -> list[Retrieval]:
    """Rows of whole days that end yesterday, and a few of today: sessions of three, weekends, searches without hits."""
    rng = np.random.default_rng(seed)
    count, per_day, spread = int(rng.integers(25, 70)), int(rng.choice([6, 30, 60])), float(rng.choice([0.03, 0.1]))
    rows = []
    for ago, level in zip(range(count, 0, -1), make_levels(rng, shape, count), strict=True):
        day = TODAY - timedelta(days=ago)
        for at in range(int(rng.poisson(per_day * (0.3 if day.weekday() >= 5 else 1.2)))):
            score = None if rng.random() < 0.02 else float(np.clip(rng.normal(level, spread), 0, 1))
            rows.append(
                Retrieval(day + timedelta(seconds=600 * at), f"q{at % 41}", score, session_id=f"{ago}-{at // 3}")
            )
    rows += [Retrieval(TODAY + timedelta(seconds=at), f"q{at}", 0.2) for at in range(5)]
    return rows


@contextmanager
def opened(rows: Sequence[Retrieval]) -> Iterator[Store]:
    """A store of its own with these rows, its days closed."""
    with TemporaryDirectory() as folder:
        store = Store(f"sqlite:///{Path(folder) / 'deck.db'}", create=True)
        append_retrievals(store, list(rows))
        close_days(store, now=TODAY + timedelta(hours=1))
        yield store
        store.close()


def check_text(text: str) -> None:
    """Check every difference that a text states against the two means beside it."""
    for said in re.finditer(
        rf"(fell|rose|fallen) by {NUMBER}[^:.]*(?:\.\d+[^:.]*)*: {NUMBER} over .*? against {NUMBER}", text
    ):
        assert abs(float(said[3]) - float(said[4])) == pytest.approx(float(said[2]), abs=1e-9), text
        assert (float(said[3]) > float(said[4])) == (said[1] == "rose"), text
    for said in re.finditer(rf"fell by {NUMBER} .*?, from {NUMBER} to {NUMBER}", text):
        assert float(said[2]) - float(said[3]) == pytest.approx(float(said[1]), abs=1e-9), text


def check_windows(report: DriftReport, days: Sequence[DailyScores]) -> None:
    """Check that both means and the chart are those of the days that the report names."""
    recent, reference = ([d for d in days if chosen(d.day)] for chosen in (report.is_recent, report.is_reference))
    for part, mean, count in (
        (recent, report.recent_avg_score, report.recent_count),
        (reference, report.baseline_avg_score, report.baseline_count),
    ):
        assert sum(day.count for day in part) == count
        if mean is not None:
            assert sum(day.mean * day.count for day in part) / count == pytest.approx(mean)
    if recent and reference:
        bars = draw_distributions(days, report).data
        for bar, part in zip(bars, (reference, recent), strict=True):
            shares = np.sum([day.histogram for day in part], axis=0) / sum(day.count for day in part)
            assert np.allclose(bar.y, shares)
        assert max(day.day for day in recent) < TODAY.date()


def check_all(found: DriftOverview, told: WhatChanged) -> None:
    """Check the sentences of the three places and the figures beside them."""
    report = found.report
    check_report(report, [day for day in found.days if day.day < TODAY.date()])
    check_windows(report, found.days)
    area = describe_drift(found, lambda: told)
    for text in (report.reason, told.sentence, area.sentence):
        check_text(text)
    if area.change.endswith("reference"):
        assert report.baseline_avg_score is not None
        change = float(area.change.split()[0])
        assert change == pytest.approx(
            float(area.figure) - round(report.baseline_avg_score, places_of(area.figure)), abs=1e-9
        )


@pytest.mark.deep
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), shape=st.sampled_from(SHAPES), ago=st.integers(0, 12))
def test_every_sentence_about_drift_adds_up(seed: int, shape: str, ago: int) -> None:
    with opened(make_rows(seed, shape)) as store:
        for found in (
            report_drift(store, scope=DEFAULT_SCOPE, today=TODAY.date()),
            report_as_of(store, scope=DEFAULT_SCOPE, day=TODAY.date() - timedelta(days=ago), today=TODAY.date()),
        ):
            check_all(found, explain_drift(store, found, ((), ()), today=TODAY.date()))
        episodes = report_episodes(store, scope=DEFAULT_SCOPE, today=TODAY.date())
        for episode in episodes:
            assert episode.changed_on <= episode.called_on <= (episode.ended_on or TODAY.date())
            assert episode.fall is None or f"by {say_size(episode.fall)}" in describe_episode(episode)
        assert [each.called_on for each in episodes] == sorted(each.called_on for each in episodes)


@pytest.mark.deep
@pytest.mark.slow
@pytest.mark.usefixtures("clean_streamlit")
@pytest.mark.parametrize(("seed", "shape"), [(1, "drop"), (2, "rise"), (3, "two drops"), (4, "long dip"), (5, "noise")])
def test_what_the_pages_and_the_command_show_adds_up(
    seed: int, shape: str, empty_url: str, store: Store, url: str, quarterdeck: Run
) -> None:
    append_retrievals(store, make_rows(seed, shape))
    close_days(store, now=TODAY + timedelta(hours=1))
    page = open_page("drift")
    texts = [verdict(page), *(caption.value for caption in page.caption), verdict(open_page("overview"))]
    texts.append(quarterdeck("drift", "--database", url).out)
    for text in texts:
        check_text(text)
    metrics = {metric.label: metric.value for metric in page.metric}
    now = next(value for label, value in metrics.items() if label.startswith("Mean score"))
    if metrics["Change"] != "—":
        assert float(metrics["Change"]) == pytest.approx(float(now) - float(metrics["Reference"]), abs=1e-9)
    told = re.search(rf"{NUMBER} over [\d,]+ recent questions?", texts[-1])
    assert told is None or float(told[1]) == pytest.approx(float(now), abs=0.0051)


@pytest.mark.deep
@pytest.mark.slow
@pytest.mark.usefixtures("clean_streamlit")
def test_the_page_lists_the_causes_of_each_open_drop(empty_url: str, store: Store) -> None:
    rng = np.random.default_rng(3)
    levels = [0.80] * 30 + [0.72] * 15 + [0.60] * 10
    rows = [
        Retrieval(
            TODAY + timedelta(minutes=20 * at - 1440 * ago), f"q{at}", float(np.clip(rng.normal(level, 0.05), 0, 1))
        )
        for ago, level in zip(range(len(levels), 0, -1), levels, strict=True)
        for at in range(40)
    ]
    append_retrievals(store, rows)
    close_days(store, now=TODAY + timedelta(hours=1))
    page = open_page("drift")
    headings = [each.value for each in page.subheader]
    assert "Causes" in [tab.label for tab in page.tabs]
    assert sum(each.startswith("Causes of the drop of ") for each in headings) == 1
    assert any(each.value.startswith("It had fallen before by ") for each in page.markdown)
