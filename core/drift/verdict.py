"""Rule: turns daily score summaries of a segment into one verdict with its reason and numbers.

A detector (`detector.py`) finds and dates the change; this module words it, measures it and compares many segments.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from enum import StrEnum
from itertools import pairwise

import numpy as np

from core.drift.daily import DailyHistory, half_interval
from core.drift.detector import CALL, Detector, Replay
from core.drift.detectors import DETECTOR
from core.errors import InvalidInput
from core.log.values import DailyScores

HISTOGRAM_BINS = 50
WATCH = math.log(25)  # evidence for `watch`: the data are 25 times likelier with a drop than without
POWER = 0.8  # chance that `smallest_drop` is called within one window
USEFUL_DROP = 0.10  # data are insufficient if even this drop would be missed


class DriftStatus(StrEnum):
    """The verdicts, ordered from too little data to a called drop and to searches that find nothing."""

    INSUFFICIENT_DATA = "insufficient_data"
    STABLE = "stable"
    WATCH = "watch"
    DRIFTING = "drifting"
    OUTAGE = "outage"


@dataclass(frozen=True, slots=True)
class DriftReport:
    """A verdict as of the end of a day. Means are weighted by queries; scores and drops range from 0 to 1."""

    status: DriftStatus
    reason: str
    action: str
    recent_avg_score: float | None = None
    baseline_avg_score: float | None = None
    delta: float | None = None  # recent - baseline
    delta_low: float | None = None
    delta_high: float | None = None
    changed_on: date | None = None
    recent_count: int = 0
    baseline_count: int = 0
    ks: float | None = None  # these three describe the shapes; as alarms they would fire constantly
    psi: float | None = None
    wasserstein: float | None = None
    smallest_drop: float | None = None  # the drop that is called within one window with probability `POWER`
    called_on: date | None = None
    baseline_from: date | None = None
    baseline_until: date | None = None
    recent_from: date | None = None
    fall: float | None = None  # weekday-adjusted change of level since `changed_on`, negative for a drop
    fall_error: float | None = None
    outage_since: date | None = None
    notes: tuple[str, ...] = ()  # what else is to be known of the days: sentences


@dataclass(frozen=True, slots=True)
class SegmentVerdict:
    """The report of one segment; thresholds and intervals are corrected for the number of segments."""

    segment: str
    report: DriftReport

    @property
    def status(self) -> DriftStatus:
        return self.report.status

    @property
    def count(self) -> int:
        """Queries in the recent window."""
        return self.report.recent_count

    @property
    def mean(self) -> float | None:
        """Mean score in the recent window."""
        return self.report.recent_avg_score

    @property
    def delta(self) -> float | None:
        return self.report.delta

    @property
    def delta_low(self) -> float | None:
        return self.report.delta_low

    @property
    def delta_high(self) -> float | None:
        return self.report.delta_high


def decide_drift(
    days: Sequence[DailyScores],
    *,
    today: date,
    window_days: int = 7,
    baseline_days: int = 30,
    accepted_on: date | None = None,
    looks: int = 1,
    detector: Detector = DETECTOR,
) -> DriftReport:
    """Return the verdict at the end of `today`, from all days since `accepted_on` (or the first one).

    - drifting: the `detector` called a drop: the days are exp(`CALL`) = 100 times likelier with it than without
      (formula, assumptions and source: `core.drift.changepoint.replay`), and the level has neither been accepted nor
      recovered. The days before the change stay the reference, however long ago that was. At least 20 queries are
      needed before and after a change.
    - watch: the days are exp(`WATCH`) = 25 times likelier with a drop than without, or a rise reaches `CALL`.
    - insufficient_data: no traffic in the window, or the power to detect a drop of 0.10 is below 80%.
    - stable: none of these.

    `delta` compares the last `window_days` (or the days since the change, if fewer) with the `baseline_days` before
    them and before the change. Its 95% interval treats each day as one cluster, sessions included: the day-clustered
    variance of the weekday-adjusted daily means, widened for autocorrelation between days and shrunk towards the fitted
    noise model with the weight of 8 days (Cameron & Miller 2015 on few clusters); Student's t.
    `looks` raises the threshold and widens the interval (Bonferroni) for a verdict that is one of many.
    Raises `InvalidInput` for days out of order and windows below one day.
    """
    _check(days, window_days=window_days, baseline_days=baseline_days, looks=looks)
    known = [d for d in days if d.count and d.day <= today and (accepted_on is None or d.day >= accepted_on)]
    since = today - timedelta(days=window_days - 1)
    if not known:
        return _nothing_to_compare("No queries have been recorded yet", accepted_on)
    if known[-1].day < since and len(known) < 2:
        return _nothing_to_compare(f"No queries were recorded since {_say(since)}", accepted_on)
    history = as_history(known)
    threshold = CALL + math.log(looks)
    seen = detector.replay(history, threshold)
    report = _measured(known, history, seen, since=since, baseline_days=baseline_days, looks=looks)
    smallest = detector.smallest_drop(history, seen, since=since.toordinal(), power=POWER, threshold=threshold)
    report = replace(report, smallest_drop=smallest)
    return _worded(report, known, seen, threshold=threshold, window_days=window_days)


def decide_segments(
    segments: Mapping[str, Sequence[DailyScores]],
    *,
    today: date,
    window_days: int = 7,
    baseline_days: int = 30,
    accepted_on: date | None = None,
    detector: Detector = DETECTOR,
) -> tuple[SegmentVerdict, ...]:
    """Return one verdict per segment, worst first: drifting, then by how far the score fell.

    With m segments each needs m times the evidence (Bonferroni, which also holds for segments that overlap or move
    together), so the chance of any false alarm is that of a single verdict; the intervals cover jointly with 95%.
    A segment without history (a new prompt version) gets insufficient_data.
    """
    looks = max(1, len(segments))
    verdicts = [
        SegmentVerdict(
            name,
            decide_drift(
                days,
                today=today,
                window_days=window_days,
                baseline_days=baseline_days,
                accepted_on=accepted_on,
                looks=looks,
                detector=detector,
            ),
        )
        for name, days in segments.items()
    ]
    return tuple(sorted(verdicts, key=lambda v: (v.status != DriftStatus.DRIFTING, v.delta or 0.0, v.segment)))


def _check(days: Sequence[DailyScores], *, window_days: int, baseline_days: int, looks: int) -> None:
    for name, value in (("window_days", window_days), ("baseline_days", baseline_days), ("looks", looks)):
        if value < 1:
            raise InvalidInput(name, f"must be at least 1, not {value}")
    for earlier, later in pairwise(days):
        if earlier.day >= later.day:
            raise InvalidInput("days", f"must ascend, but {later.day} follows {earlier.day}")


def as_history(days: Sequence[DailyScores]) -> DailyHistory:
    """The days in the detector's format; days without queries must have been left out."""
    return DailyHistory.of(
        np.array([d.day.toordinal() for d in days]),
        np.array([d.count for d in days]),
        np.array([d.mean * d.count for d in days]),
        np.array([d.squares_around_mean for d in days]),
    )


def _nothing_to_compare(what: str, accepted_on: date | None) -> DriftReport:
    after = f" since the level was accepted on {_say(accepted_on)}" if accepted_on else ""
    return DriftReport(
        DriftStatus.INSUFFICIENT_DATA,
        f"{what}{after}, so no drop can be detected.",
        "Log retrievals to this store; a verdict needs several days of scores.",
    )


def _measured(
    known: list[DailyScores], history: DailyHistory, seen: Replay, *, since: date, baseline_days: int, looks: int
) -> DriftReport:
    """Both windows and their difference, without status and words."""
    episode = seen.open_episode
    changed = known[episode.changed].day if episode else None
    recent_from = max(since, changed) if changed else since
    until = min(recent_from, changed) if changed else recent_from
    recent = [i for i, d in enumerate(known) if d.day >= recent_from]
    older = [i for i, d in enumerate(known) if d.day < until]
    baseline = [i for i in older if known[i].day >= until - timedelta(days=baseline_days)] or older[-baseline_days:]
    report = DriftReport(
        DriftStatus.STABLE,
        "",
        "",
        recent_avg_score=_average(known[i] for i in recent),
        baseline_avg_score=_average(known[i] for i in baseline),
        changed_on=changed,
        called_on=known[episode.called].day if episode else None,
        recent_count=sum(known[i].count for i in recent),
        baseline_count=sum(known[i].count for i in baseline),
        recent_from=recent_from,
        baseline_from=known[baseline[0]].day if baseline else None,
        baseline_until=known[baseline[-1]].day if baseline else None,
        fall=seen.fall.size if episode and seen.fall else None,
        fall_error=seen.fall.error if episode and seen.fall else None,
    )
    if report.recent_avg_score is None or report.baseline_avg_score is None:
        return report
    delta = report.recent_avg_score - report.baseline_avg_score
    margin = half_interval(history, seen.noise, np.array(baseline), np.array(recent), error=0.05 / looks)
    ks, psi, wasserstein = _distances([known[i] for i in baseline], [known[i] for i in recent])
    return replace(
        report,
        delta=delta,
        delta_low=delta - margin,
        delta_high=delta + margin,
        ks=ks,
        psi=psi,
        wasserstein=wasserstein,
    )


def _worded(
    report: DriftReport, known: list[DailyScores], seen: Replay, *, threshold: float, window_days: int
) -> DriftReport:
    """The report with its status, reason and action."""
    if seen.open_episode and seen.fall and report.changed_on and report.called_on:
        return replace(
            report,
            status=DriftStatus.DRIFTING,
            reason=(
                f"Retrieval score fell by {-seen.fall.size:.2f} (± {1.96 * seen.fall.error:.2f}, 95% interval) "
                f"since {_say(report.changed_on)}: {_windows(report)}; first alert on {_say(report.called_on)}."
            ),
            action=(
                "Look at the topics that score low and at what changed around that day, then re-index what is missing. "
                "If this level is meant to stay, accept it as the new one."
            ),
        )
    if report.delta is None or report.smallest_drop is None or report.smallest_drop > USEFUL_DROP:
        return replace(
            report,
            status=DriftStatus.INSUFFICIENT_DATA,
            reason=_why_too_little(report, known, window_days),
            action="Wait for more queries, then check again.",
        )
    could = f"A drop of {report.smallest_drop:.3f} would be detected within {window_days} days (power {POWER:.0%})."
    if seen.rise and seen.rise.evidence >= threshold:
        return replace(
            report,
            status=DriftStatus.WATCH,
            reason=f"Retrieval score rose by {seen.rise.size:.3f} since {_say(known[seen.rise.start].day)}: "
            f"{_windows(report)}.",
            action="Nothing to fix. Accept the new level, so that a fall back to the old one is detected.",
        )
    if seen.fall and seen.fall.evidence >= WATCH + threshold - CALL:
        return replace(
            report,
            status=DriftStatus.WATCH,
            reason=f"Retrieval score may have fallen by {-seen.fall.size:.3f} since "
            f"{_say(known[seen.fall.start].day)} ({math.exp(seen.fall.evidence):.0f} times likelier than no fall; "
            f"alert at {math.exp(threshold):.0f}): {_windows(report)}.",
            action=f"Check again tomorrow. {could}",
        )
    return replace(
        report,
        status=DriftStatus.STABLE,
        reason=f"Retrieval score is unchanged: {_windows(report)}.",
        action=f"Nothing to do. {could}",
    )


def _why_too_little(report: DriftReport, known: list[DailyScores], window_days: int) -> str:
    if not report.recent_count:
        reason = f"No queries since {_say(known[-1].day)}, so there is nothing to compare."
    elif not report.baseline_count:
        reason = (
            f"All {report.recent_count:,} queries are from the last {window_days} days, the first from "
            f"{_say(known[0].day)}: there are no earlier days to compare with."
        )
    else:
        reason = f"Too little data for a verdict: {_windows(report)}."
    if report.smallest_drop is not None:
        reason += f" The smallest drop detectable with this much data is {report.smallest_drop:.2f}."
    return reason


def _windows(report: DriftReport) -> str:
    if report.recent_avg_score is None or report.baseline_avg_score is None:
        return "the recent window has no queries to compare"
    return (
        f"{report.recent_avg_score:.3f} over {report.recent_count:,} recent queries against "
        f"{report.baseline_avg_score:.3f} over {report.baseline_count:,} before"
    )


def _say(day: date) -> str:
    return f"{day.day} {day:%b %Y}"


def _average(days: Iterable[DailyScores]) -> float | None:
    held = list(days)
    count = sum(d.count for d in held)
    return sum(d.mean * d.count for d in held if d.count) / count if count else None


def _distances(reference: list[DailyScores], current: list[DailyScores]) -> tuple[float, float, float]:
    """KS, PSI and Wasserstein distance from the histograms (exact to a bin of 0.02); half a query in empty bins."""
    p, q = (np.sum([d.histogram for d in days], axis=0, dtype=float) for days in (reference, current))
    gap = np.cumsum(p / p.sum()) - np.cumsum(q / q.sum())
    smooth_p, smooth_q = ((c + 0.5) / (c + 0.5).sum() for c in (p, q))
    psi = float(((smooth_q - smooth_p) * np.log(smooth_q / smooth_p)).sum())
    return float(np.abs(gap).max()), psi, float(np.abs(gap).sum() / HISTOGRAM_BINS)
