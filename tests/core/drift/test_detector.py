"""What every detector of drops promises: it fires, it stays quiet, and it uses no later day.

A new detector goes through all of this once it is named in `core.drift.detectors`. `Cusum` below is an example of a
third-party detector, built on `core.drift.daily`.
"""

from datetime import UTC, date, datetime

import numpy as np
import pytest

from core.causes.causes import rank_causes
from core.causes.timeline import ChangeKind, TimelineChange
from core.drift.daily import MIN_QUERIES, DailyHistory, Shift, estimate_noise
from core.drift.detector import CALL, Detector, Episode, Replay
from core.drift.detectors import DETECTOR, DETECTORS
from core.drift.verdict import DriftStatus, decide_drift, decide_segments
from core.log.values import DailyScores
from quarterdeck.schema import HISTOGRAM_BINS

FIRST = date(2026, 1, 5)  # a Monday
CHANGED = 60
DROPPED = (0.80,) * CHANGED + (0.68,) * 15
RECOVERED = (*DROPPED, *(0.80,) * 40)


class Cusum:
    """Page's cumulative sum of log likelihood ratios, of a level lower by `size` than in the first four weeks."""

    size = 0.06

    def replay(self, history: DailyHistory, threshold: float = CALL) -> Replay:
        learned = history.take(np.arange(min(28, len(history))))
        noise, level = estimate_noise(learned), float(learned.mean.mean())
        error = np.sqrt(noise.day_sd**2 + noise.design_effect * history.variance)
        gains = self.size * (level - self.size / 2 - history.mean) / error**2
        episodes: list[Episode] = []
        evidence, start, is_low = 0.0, 0, False
        for day, gain in enumerate(gains):
            evidence += -gain if is_low else gain
            if evidence <= 0:
                evidence, start = 0.0, day + 1
            elif evidence >= threshold and not is_low:
                episodes.append(Episode(start, start, day))
                evidence, is_low = 0.0, True
            elif evidence >= threshold:
                episodes[-1] = Episode(episodes[-1].changed, episodes[-1].dated_at_call, episodes[-1].called, day)
                evidence, start, is_low = 0.0, day + 1, False
        since = episodes[-1].changed if is_low else start
        fall = self._shift(history, level, error, since, evidence) if is_low or evidence > 0 else None
        return Replay(tuple(episodes), fall, None, noise)

    def smallest_drop(
        self, history: DailyHistory, seen: Replay, *, since: int, power: float, threshold: float = CALL
    ) -> float | None:
        recent = np.flatnonzero(history.ordinal >= since)
        if history.count[recent].sum() < MIN_QUERIES:
            return None
        variance = seen.noise.day_sd**2 + seen.noise.design_effect * float(history.variance[recent].mean())
        return min(1.0, self.size / 2 + (threshold + power) * variance / (len(recent) * self.size))

    def _shift(self, history: DailyHistory, level: float, error: np.ndarray, since: int, evidence: float) -> Shift:
        size = float(history.mean[since:].mean()) - level
        spread = float(np.sqrt((error[since:] ** 2).sum())) / len(error[since:])
        return Shift(since, size, spread, size / spread, evidence)


ALL: dict[str, Detector] = {**DETECTORS, "a cumulative sum": Cusum()}


@pytest.fixture(params=ALL)
def detector(request: pytest.FixtureRequest) -> Detector:
    return ALL[request.param]


def make_days(levels: tuple[float, ...], *, seed: int = 0, per_day: int = 300) -> list[DailyScores]:
    """Days around the given levels, with a small wobble from day to day."""
    rng = np.random.default_rng(seed)
    days = []
    for offset, level in enumerate(levels):
        scores = np.clip(level + rng.normal(0, 0.006) + rng.normal(0, 0.1, per_day), 0, 1)
        bins = np.minimum((scores * HISTOGRAM_BINS).astype(int), HISTOGRAM_BINS - 1)
        histogram = tuple(int(count) for count in np.bincount(bins, minlength=HISTOGRAM_BINS))
        day = date.fromordinal(FIRST.toordinal() + offset)
        days.append(DailyScores(day, per_day, float(scores.sum()), float((scores**2).sum()), histogram))
    return days


def make_history(levels: tuple[float, ...], *, seed: int = 0, per_day: int = 300) -> DailyHistory:
    days = make_days(levels, seed=seed, per_day=per_day)
    return DailyHistory.of(
        np.array([day.day.toordinal() for day in days]),
        np.array([day.count for day in days]),
        np.array([day.total for day in days]),
        np.array([day.total_squares for day in days]),
    )


def test_the_detector_in_use_is_one_of_those_that_are_tested():
    assert DETECTOR in DETECTORS.values()


@pytest.mark.parametrize("seed", range(5))
def test_a_steady_level_is_called_nothing(detector, seed):
    seen = detector.replay(make_history((0.80,) * 90, seed=seed))
    assert seen.episodes == ()
    assert all(shift is None or shift.evidence < CALL for shift in (seen.fall, seen.rise))


@pytest.mark.parametrize("seed", range(5))
def test_a_drop_is_called_and_dated(detector, seed):
    seen = detector.replay(make_history(DROPPED, seed=seed))
    (episode,) = seen.episodes
    assert seen.open_episode == episode
    assert abs(episode.changed - CHANGED) <= 2
    assert CHANGED <= episode.called <= CHANGED + 7
    assert max(episode.changed, episode.dated_at_call) <= episode.called
    assert seen.fall is not None
    assert seen.fall.error > 0
    assert abs(seen.fall.size + 0.12) < max(0.03, 3 * seen.fall.error)
    assert seen.noise.day_sd > 0


def test_a_level_that_comes_back_ends_the_episode(detector):
    seen = detector.replay(make_history(RECOVERED))
    (episode,) = seen.episodes
    assert seen.open_episode is None
    assert episode.ended is not None
    assert len(DROPPED) <= episode.ended < len(RECOVERED)


def test_a_call_uses_no_later_day(detector):
    whole = make_history(RECOVERED)
    (episode,) = detector.replay(whole).episodes
    for last in (episode.called - 1, episode.called, episode.called + 5):
        seen = detector.replay(whole.take(np.arange(last + 1)))
        assert [each.called for each in seen.episodes] == [episode.called] * (last >= episode.called)
        assert all(each.ended is None for each in seen.episodes)


def test_two_calls_with_the_same_history_answer_the_same(detector):
    history = make_history(DROPPED)
    assert detector.replay(history) == detector.replay(history)


def test_more_evidence_is_asked_for_by_a_higher_threshold(detector):
    history = make_history((0.80,) * CHANGED + (0.76,) * 15)
    called = [
        [episode.called for episode in detector.replay(history, threshold).episodes] or [len(history)]
        for threshold in (CALL, CALL + 10, 1e9)
    ]
    assert called == sorted(called)
    assert called[0] < called[-1] == [len(history)]


@pytest.mark.parametrize("days", [1, 2, 5])
def test_a_few_days_are_enough_to_answer(detector, days):
    assert detector.replay(make_history((0.80,) * days)).episodes == ()


def test_the_smallest_drop_shrinks_with_traffic_and_is_not_told_without(detector):
    told = []
    for per_day in (2, 30, 3_000):
        history = make_history((0.80,) * 60, per_day=per_day)
        seen = detector.replay(history)
        told.append(detector.smallest_drop(history, seen, since=int(history.ordinal[-7]), power=0.8))
    assert told[0] is None
    assert told[1] is not None
    assert told[2] is not None
    assert 0 < told[2] < told[1] <= 1


def test_a_drop_of_twice_the_smallest_one_is_called_within_the_window(detector):
    history = make_history((0.80,) * 60)
    smallest = detector.smallest_drop(history, detector.replay(history), since=int(history.ordinal[-7]), power=0.8)
    called = [
        bool(detector.replay(make_history((0.80,) * 60 + (0.80 - 2 * smallest,) * 7, seed=seed)).episodes)
        for seed in range(10)
    ]
    assert sum(called) >= 8


def test_the_verdict_and_the_causes_take_any_detector(detector):
    days = make_days(DROPPED)
    report = decide_drift(days, today=days[-1].day, detector=detector)
    assert report.status is DriftStatus.DRIFTING
    assert report.changed_on is not None
    assert abs((report.changed_on - days[CHANGED].day).days) <= 2
    at = datetime.combine(days[CHANGED].day, datetime.min.time(), UTC)
    index = TimelineChange(at, ChangeKind.INDEX, "default", "index swapped", "ada", "new corpus", (), 1)
    causes = rank_causes(report, [index], days=days, detector=detector)
    assert causes.first is not None
    assert causes.first.change == index

    quiet = make_days((0.80,) * 75)
    assert decide_drift(quiet, today=quiet[-1].day, detector=detector).status is not DriftStatus.DRIFTING
    segments = decide_segments({"green": days, "blue": quiet}, today=days[-1].day, detector=detector)
    assert [(each.segment, each.status is DriftStatus.DRIFTING) for each in segments] == [
        ("green", True),
        ("blue", False),
    ]


def make_history_of(changes: dict[int, float], *, days: int, seed: int = 0) -> DailyHistory:
    """Days around 0.80 whose level changes by so much from these days on."""
    level = np.full(days, 0.80)
    for at, by in changes.items():
        level[at:] += by
    return make_history(tuple(level), seed=seed)


@pytest.mark.parametrize("gap", [5, 20, 60])
def test_a_further_drop_inside_an_open_one_is_an_entry_of_its_own(gap):
    at = CHANGED + gap
    episodes = DETECTOR.replay(make_history_of({CHANGED: -0.04, at: -0.06}, days=at + 7)).episodes
    assert [each.is_over for each in episodes] == [False, False]
    assert abs(episodes[0].changed - CHANGED) <= 2
    assert abs(episodes[1].changed - at) <= 2
    assert episodes[0].fall == pytest.approx(-0.04, abs=0.015)
    assert episodes[1].fall == pytest.approx(-0.06, abs=0.02)


@pytest.mark.parametrize("gap", [10, 30])
def test_a_drop_from_a_rise_that_nobody_accepted_is_called(gap):
    at = CHANGED + gap
    seen = DETECTOR.replay(make_history_of({CHANGED: 0.05, at: -0.05}, days=at + 7))
    assert seen.open_episode is not None
    assert abs(seen.open_episode.changed - at) <= 2


def test_three_high_days_that_are_over_are_no_level_to_fall_from():
    assert DETECTOR.replay(make_history_of({CHANGED: 0.06, CHANGED + 3: -0.06}, days=CHANGED + 15)).episodes == ()


@pytest.mark.parametrize("length", [3, 8])
def test_a_dip_is_over_within_five_days_of_its_end(length):
    seen = DETECTOR.replay(make_history_of({CHANGED: -0.06, CHANGED + length: 0.06}, days=CHANGED + length + 5))
    assert seen.open_episode is None
    assert len(seen.episodes) == 1
    assert seen.episodes[0].back - (CHANGED + length) in (-1, 0, 1)


def test_one_odd_day_is_no_drop_and_a_second_one_beside_it_is():
    level = np.full(CHANGED + 10, 0.80)
    level[CHANGED] = 0.66
    assert DETECTOR.replay(make_history(tuple(level))).episodes == ()
    level[CHANGED + 1] = 0.66
    assert [each.changed for each in DETECTOR.replay(make_history(tuple(level))).episodes] == [CHANGED]


def test_a_noisy_week_is_no_drop_though_its_mean_is_as_low_as_that_of_one():
    off = np.array([-0.09, 0.05, -0.10, 0.04, -0.08, 0.05, -0.09])
    noisy, steady = np.full(CHANGED + 7, 0.80), np.full(CHANGED + 7, 0.80)
    noisy[CHANGED:] += off
    steady[CHANGED:] += off.mean()
    assert DETECTOR.replay(make_history(tuple(noisy))).episodes == ()
    assert len(DETECTOR.replay(make_history(tuple(steady))).episodes) == 1


def test_a_drop_of_which_nothing_is_left_is_dismissed_and_its_days_count_again():
    level = np.full(CHANGED + 70, 0.80)
    level[CHANGED : CHANGED + 8] -= 0.02
    level[CHANGED + 8 :] -= 0.004
    (episode,) = DETECTOR.replay(make_history(tuple(level))).episodes
    assert episode.changed == CHANGED
    assert episode.is_over
    assert episode.back == episode.ended


def test_scores_of_any_scale_are_judged_alike():
    history = make_history_of({CHANGED: -0.05}, days=CHANGED + 10)
    (episode,) = DETECTOR.replay(history).episodes
    for scale in (1 / 3, 40.0):
        other = DailyHistory.of(
            history.ordinal, history.count, scale * history.mean * history.count,
            scale**2 * history.count * (history.mean**2 + 0.05**2),
        )  # fmt: skip
        (scaled,) = DETECTOR.replay(other).episodes
        assert abs(scaled.changed - CHANGED) <= 1
        assert scaled.fall == pytest.approx(scale * episode.fall, rel=0.2)


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(3))
def test_a_log_that_is_cut_off_gives_the_verdicts_of_that_time(seed):
    rng = np.random.default_rng(seed)
    changes = {int(at): float(rng.choice([-0.08, -0.05, 0.05, 0.08])) for at in sorted(rng.integers(30, 180, 6))}
    history = make_history_of(changes, days=190, seed=seed)
    whole = DETECTOR.replay(history).episodes
    for last in range(35, 190, 9):
        then = DETECTOR.replay(history.take(np.arange(last + 1))).episodes
        assert [each.called for each in then] == [each.called for each in whole if each.called <= last]
        for before, after in zip(then, whole, strict=False):
            assert before.ended == (after.ended if after.ended is not None and after.ended <= last else None)
            if last > before.called + 7:
                assert before.changed == after.changed
