"""The drift verdict: when it must be called, when it must stay quiet, and what the report says about it."""

from datetime import date, timedelta
from itertools import pairwise

import numpy as np
import pytest

from benchmarks.scores import summarize_scores
from core.drift.changepoint import replay
from core.drift.daily import PRIOR_NOISE, Reference
from core.drift.scan import degrees_of
from core.drift.verdict import DriftStatus, as_history, decide_drift, decide_segments
from core.errors import InvalidInput
from core.log.values import DailyScores
from core.wording.scores import say_limit_of
from quarterdeck.schema import HISTOGRAM_BINS

MONDAY = date(2026, 3, 2)


def make_days(
    seed: int,
    levels: list[float],
    *,
    per_day: int = 400,
    first: date = MONDAY,
    wobble_sd: float = 0.006,
    weekend: float = -0.02,
) -> list[DailyScores]:
    """Days round the given levels: wobble, weaker and quieter weekends, sessions of three queries."""
    rng = np.random.default_rng(seed)
    days = []
    for offset, level in enumerate(levels):
        day = first + timedelta(days=offset)
        resting = day.weekday() >= 5
        sessions = max(1, int(per_day * (0.4 if resting else 1.2)) // 3)
        mean = level + rng.normal(0, wobble_sd) + weekend * resting
        scores = mean + np.repeat(rng.normal(0, 0.06, sessions), 3) + rng.normal(0, 0.1, 3 * sessions)
        days.append(summarize_scores(day, np.clip(scores, 0, 1)))
    return days


def verdict(days: list[DailyScores], **options: object):
    return decide_drift(days, today=days[-1].day, **options)


def test_a_days_summary_holds_count_sums_and_a_closed_last_bin():
    day = summarize_scores(MONDAY, [0.0, 0.015625, 0.5, 1.0])
    assert (day.count, day.total, day.total_squares) == (4, 1.515625, 1.250244140625)
    assert day.mean == 1.515625 / 4
    assert {i: n for i, n in enumerate(day.histogram) if n} == {0: 2, 25: 1, HISTOGRAM_BINS - 1: 1}


def test_days_out_of_order_and_empty_windows_are_refused():
    days = make_days(0, [0.6] * 3)
    with pytest.raises(InvalidInput, match="ascend"):
        decide_drift(days[::-1], today=days[-1].day)
    with pytest.raises(InvalidInput, match="window_days"):
        verdict(days, window_days=0)


@pytest.mark.parametrize("recent_days", [1, 2, 5])
@pytest.mark.parametrize("shift", range(7))
def test_a_single_baseline_day_is_enough_for_a_collapse(recent_days, shift):
    today = MONDAY + timedelta(days=40 + shift)
    rng = np.random.default_rng(shift)
    days = [summarize_scores(today - timedelta(days=15), rng.uniform(0.75, 0.90, 100))]
    for ago in reversed(range(recent_days)):
        days.append(summarize_scores(today - timedelta(days=ago), rng.uniform(0.20, 0.40, 50 // recent_days)))
    report = decide_drift(days, today=today)
    assert report.status == DriftStatus.DRIFTING
    assert (report.recent_count, report.baseline_count) == (50, 100)
    assert report.delta == pytest.approx(-0.525, abs=0.03)
    assert report.delta_low < -0.45 and report.delta_high < -0.4
    assert report.changed_on == days[1].day
    assert "re-index" in report.action


def test_a_single_baseline_day_against_the_same_level_is_not_drifting():
    rng = np.random.default_rng(5)
    days = [summarize_scores(MONDAY, rng.uniform(0.55, 0.95, 100))]
    days.append(summarize_scores(MONDAY + timedelta(days=15), rng.uniform(0.50, 0.95, 50)))
    report = verdict(days)
    assert report.status == DriftStatus.INSUFFICIENT_DATA
    assert 0.10 < report.smallest_drop < 0.25
    assert f"{report.smallest_drop:.2f}" in report.reason


def test_a_drop_of_five_points_is_called_within_three_days_and_dated():
    for seed in range(8):
        days = make_days(seed, [0.62] * 45 + [0.57] * 3)
        report = verdict(days)
        assert report.status == DriftStatus.DRIFTING
        assert abs((report.changed_on - days[45].day).days) <= 1
        assert report.delta_high < 0
        assert report.fall == pytest.approx(-0.05, abs=0.02)


def test_quiet_streams_stay_quiet_day_after_day():
    for seed in range(12):
        assert replay(as_history(make_days(seed, [0.62] * 120))).episodes == ()


def test_the_verdict_of_a_quiet_stream_is_stable_and_says_what_it_could_have_seen():
    report = verdict(make_days(3, [0.62] * 60))
    assert report.status == DriftStatus.STABLE
    assert report.changed_on is None and report.called_on is None
    assert report.delta_low < 0 < report.delta_high
    assert 0.01 < report.smallest_drop < 0.05
    assert say_limit_of(report.smallest_drop) in report.action
    assert (report.recent_from - report.baseline_until).days == 1
    assert (report.recent_from - report.baseline_from).days == 30


def test_the_verdict_of_a_day_uses_no_later_day():
    days = make_days(4, [0.62] * 50 + [0.56] * 30 + [0.62] * 40)
    (whole,) = replay(as_history(days)).episodes
    for until in range(45, 120, 3):
        report = verdict(days[: until + 1])
        assert (report.status == DriftStatus.DRIFTING) == (whole.called <= until < whole.ended)


def test_a_drop_still_drifts_a_month_later_against_its_frozen_reference():
    days = make_days(6, [0.62] * 40 + [0.57] * 100)
    report = verdict(days)
    assert report.status == DriftStatus.DRIFTING
    assert report.changed_on == days[40].day
    assert report.baseline_until == days[39].day
    assert report.delta == pytest.approx(-0.05, abs=0.015)
    assert report.fall == pytest.approx(-0.05, abs=0.015)


def test_an_accepted_level_restarts_the_reference():
    days = make_days(6, [0.62] * 40 + [0.57] * 60)
    report = verdict(days, accepted_on=days[50].day)
    assert report.status == DriftStatus.STABLE
    assert report.baseline_from >= days[50].day


def test_a_fall_below_the_accepted_level_is_called_again():
    days = make_days(7, [0.62] * 40 + [0.57] * 40 + [0.51] * 6)
    report = verdict(days, accepted_on=days[42].day)
    assert report.status == DriftStatus.DRIFTING
    assert report.changed_on == days[80].day


def test_a_level_that_came_back_ends_the_episode_and_half_way_does_not():
    repaired = make_days(8, [0.62] * 40 + [0.56] * 20 + [0.62] * 25)
    half = make_days(8, [0.62] * 40 + [0.56] * 20 + [0.585] * 25)
    assert verdict(repaired).status == DriftStatus.STABLE
    assert verdict(half).status == DriftStatus.DRIFTING


def test_a_repaired_drop_never_becomes_reference():
    days = make_days(9, [0.62] * 40 + [0.54] * 40 + [0.62] * 20 + [0.56] * 3)
    report = verdict(days)
    assert report.status == DriftStatus.DRIFTING
    assert report.changed_on == days[100].day


def test_a_slow_slide_is_called_though_no_week_differs_much_from_the_one_before():
    days = make_days(10, [0.62] * 40 + [0.62 - 0.10 * (i + 1) / 60 for i in range(30)], per_day=100)
    assert verdict(days).status == DriftStatus.DRIFTING


def test_a_growing_topic_without_documents_is_drifting():
    rng = np.random.default_rng(11)
    shares = [0.05] * 30 + list(np.linspace(0.05, 0.6, 7))
    days = []
    for offset, share in enumerate(shares):
        count = int(rng.integers(300, 400))
        gone = rng.random(count) < share
        scores = np.where(gone, rng.normal(0.45, 0.08, count), rng.normal(0.75, 0.08, count))
        days.append(summarize_scores(MONDAY + timedelta(days=offset), np.clip(scores, 0, 1)))
    report = verdict(days)
    assert report.status == DriftStatus.DRIFTING
    assert report.delta < -0.05
    assert report.changed_on >= days[30].day
    assert "re-index" in report.action and "fell by" in report.reason


def test_weaker_weekends_are_no_drop():
    for last in range(40, 47):
        days = make_days(12, [0.62] * 60, weekend=-0.06, wobble_sd=0.003)[:last]
        assert verdict(days).status == DriftStatus.STABLE


def test_a_rise_is_noticed_and_never_asks_to_reindex():
    report = verdict(make_days(13, [0.62] * 40 + [0.70] * 7))
    assert report.status == DriftStatus.WATCH
    assert "rose" in report.reason
    assert "re-index" not in report.action
    assert report.delta > 0.05


def test_a_drop_too_small_to_call_is_watched():
    days = make_days(14, [0.62] * 60 + [0.605] * 4)
    report = verdict(days)
    assert report.status == DriftStatus.WATCH
    assert "may have fallen" in report.reason and "not surely enough for an alert yet" in report.reason
    assert "re-index" not in report.action


@pytest.mark.parametrize("scores", [[0.62] * 64, [0.62] * 60 + [0.605] * 4, [0.62] * 56 + [0.52] * 8])
def test_no_word_of_a_verdict_is_one_of_statistics(scores):
    report = verdict(make_days(14, scores))
    said = f"{report.reason} {report.action}"
    assert [word for word in ("odds", "likelier", "power", "interval", "evidence", "sigma") if word in said] == []


def test_no_queries_at_all_is_insufficient():
    report = decide_drift([], today=MONDAY)
    assert report.status == DriftStatus.INSUFFICIENT_DATA
    assert report.smallest_drop is None and report.recent_count == 0
    empty = DailyScores(MONDAY, 0, 0.0, 0.0, (0,) * HISTOGRAM_BINS)
    assert decide_drift([empty], today=MONDAY).status == DriftStatus.INSUFFICIENT_DATA


def test_a_first_week_has_nothing_to_compare_with_and_says_what_it_could_see():
    report = verdict(make_days(15, [0.62] * 5))
    assert report.status == DriftStatus.INSUFFICIENT_DATA
    assert report.baseline_count == 0 and report.delta is None
    assert f"{report.smallest_drop:.2f}" in report.reason


def test_one_query_is_told_in_the_singular():
    (day,) = make_days(15, [0.62], per_day=3)
    alone = summarize_scores(MONDAY, [0.5])
    reason = verdict([alone]).reason
    assert reason == "The only question is from 2 Mar 2026: there are no earlier days to compare with."
    assert (
        "over 1 recent question against 0.500 over 1 before."
        in verdict([alone, summarize_scores(MONDAY + timedelta(days=9), [0.5])]).reason
    )
    assert verdict([day]).reason.startswith("All 3 questions are from the last 7 days, the first from 2 Mar 2026: ")


def test_traffic_that_stopped_is_insufficient_but_a_drop_stays_open():
    quiet = make_days(16, [0.62] * 40)
    fallen = make_days(16, [0.62] * 40 + [0.52] * 5)
    later = fallen[-1].day + timedelta(days=30)
    assert decide_drift(quiet, today=later).status == DriftStatus.INSUFFICIENT_DATA
    assert decide_drift(fallen, today=later).status == DriftStatus.DRIFTING


@pytest.mark.parametrize("seed", range(4))
def test_a_handful_of_queries_a_day_with_gaps_does_not_alarm(seed):
    rng = np.random.default_rng(seed)
    days = [
        summarize_scores(MONDAY + timedelta(days=i), np.clip(rng.normal(0.6, 0.15, rng.integers(1, 20)), 0, 1))
        for i in range(200)
        if rng.random() < 0.6
    ]
    assert replay(as_history(days)).episodes == ()


def test_scores_that_never_change_are_stable():
    days = [summarize_scores(MONDAY + timedelta(days=i), [0.7] * 50) for i in range(60)]
    report = verdict(days)
    assert report.status == DriftStatus.STABLE
    assert report.delta == pytest.approx(0, abs=1e-12)


def test_one_huge_day_at_the_usual_level_does_not_alarm():
    days = make_days(17, [0.62] * 50)
    rng = np.random.default_rng(0)
    huge = summarize_scores(days[-1].day, np.clip(rng.normal(0.61, 0.12, 500_000), 0, 1))
    assert verdict([*days[:-1], huge]).status == DriftStatus.STABLE


def test_identical_windows_have_no_distance_and_disjoint_ones_the_full():
    low, high = (summarize_scores(MONDAY + timedelta(days=i), [s] * 50) for i, s in ((0, 0.31), (20, 0.81)))
    same = decide_drift([low, summarize_scores(high.day, [0.31] * 50)], today=high.day)
    apart = decide_drift([low, high], today=high.day)
    assert (same.ks, same.wasserstein) == (0.0, 0.0)
    assert apart.ks == 1.0
    assert apart.wasserstein == pytest.approx(0.5)
    assert same.psi == pytest.approx(0.0) and apart.psi > 1


@pytest.mark.deep
def test_the_interval_covers_the_true_difference_about_as_often_as_it_says():
    covered = 0
    for seed in range(120):
        report = verdict(make_days(1000 + seed, [0.62] * 42))
        covered += report.delta_low <= 0 <= report.delta_high
    assert 108 <= covered <= 120


def test_the_reference_recovers_a_known_shift():
    days = make_days(18, [0.62] * 56 + [0.58] * 14, per_day=4000, wobble_sd=0.002)
    history = as_history(days)
    noise = replay(history).noise
    shift = Reference.of(history, range(56), noise).shift(history, np.arange(56, 70))
    assert shift.size == pytest.approx(-0.04, abs=0.004)
    assert 0 < shift.error < 0.01 and shift.z < -3.5


def test_a_noise_that_is_mostly_sampling_is_known_after_few_days():
    wobble = PRIOR_NOISE.day_sd**2
    assert degrees_of(20, PRIOR_NOISE, sampling=0.0) == pytest.approx(28)
    assert degrees_of(20, PRIOR_NOISE, sampling=wobble) == pytest.approx(4 * 28)
    assert degrees_of(20, PRIOR_NOISE, sampling=1e6 * wobble) == pytest.approx(400 * 28)


def test_the_segment_that_fell_is_named_and_the_others_are_not():
    segments = {
        "blue": make_days(19, [0.62] * 50),
        "green": make_days(20, [0.62] * 44 + [0.52] * 6),
        "v9": make_days(21, [0.62] * 3, first=MONDAY + timedelta(days=47)),
    }
    verdicts = decide_segments(segments, today=MONDAY + timedelta(days=49))
    assert [v.segment for v in verdicts if v.status == DriftStatus.DRIFTING] == ["green"]
    assert verdicts[0].segment == "green" and verdicts[0].delta_high < -0.05
    by_name = {v.segment: v for v in verdicts}
    assert by_name["blue"].status == DriftStatus.STABLE
    assert by_name["v9"].status == DriftStatus.INSUFFICIENT_DATA
    assert "no earlier days" in by_name["v9"].report.reason
    assert by_name["blue"].count == sum(d.count for d in segments["blue"][-7:])


def test_looking_at_more_segments_asks_for_more_and_widens_intervals():
    days = make_days(22, [0.62] * 50)
    widths = [r.delta_high - r.delta_low for r in (verdict(days, looks=n) for n in (1, 5, 50))]
    drops = [verdict(days, looks=n).smallest_drop for n in (1, 5, 50)]
    assert all(a < b for a, b in pairwise(widths))
    assert all(a < b for a, b in pairwise(drops))
