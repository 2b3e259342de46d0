"""Rule: turns daily score summaries of a segment into one verdict with its reason and numbers.

A detector (`detector.py`) finds and dates the change; this module words it, measures it and compares many segments.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import pairwise

import numpy as np

from core.drift.daily import DailyHistory, Shift, half_interval
from core.drift.detector import CALL, Detector, Replay
from core.drift.detectors import DETECTOR
from core.drift.quarantine import say_day
from core.drift.values import DriftReport as DriftReport  # offered from here
from core.drift.values import DriftStatus as DriftStatus
from core.drift.values import OpenDrop
from core.drift.windows import Windows, choose_windows
from core.drift.wording import POWER, word_nothing, word_report
from core.errors import InvalidInput
from core.log.values import DailyScores
from quarterdeck.schema import HISTOGRAM_BINS

WATCH = math.log(25)  # evidence for `watch`: the data are 25 times likelier with a drop than without
USEFUL_DROP = 0.10  # data are insufficient if even this drop would be missed,
USEFUL_SPREADS = 5 / 6  # or one of this many sds of single scores, if that is more


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
      Of several drops that are open, the report is about the largest.
    - watch: the days are exp(`WATCH`) = 25 times likelier with a drop than without, or a rise reaches `CALL`.
    - insufficient_data: no traffic in the window, or the power to detect a drop of 0.10 (or of
      5/6 of the spread of single scores, on scales where that is more) is below 80%.
    - stable: none of these.

    `delta` compares the days since a change that is called or suspected, else the last `window_days`, with the
    `baseline_days` before them on the former level (`core.drift.windows`). Its 95% interval treats each day as one
    cluster, sessions included: the day-clustered variance of the weekday-adjusted daily means, widened for
    autocorrelation between days and shrunk toward the fitted noise model with the weight of 8 days (Cameron & Miller
    2015 on few clusters); Student's t.
    `looks` raises the threshold and widens the interval (Bonferroni) for a verdict that is one of many.
    Raises `InvalidInput` for days out of order and windows below one day.
    """
    _check(days, window_days=window_days, baseline_days=baseline_days, looks=looks)
    known = [d for d in days if d.count and d.day <= today and (accepted_on is None or d.day >= accepted_on)]
    since = today - timedelta(days=window_days - 1)
    if not known:
        return word_nothing("No questions have been recorded yet", accepted_on)
    if known[-1].day < since and len(known) < 2:
        return word_nothing(f"No questions were recorded since {say_day(since)}", accepted_on)
    history = as_history(known)
    threshold = CALL + math.log(looks)
    seen = detector.replay(history, threshold)
    status, shift = _change_of(seen, threshold)
    windows = choose_windows(
        known, seen, since=since, baseline_days=baseline_days, change=shift.start if shift else None
    )
    report = _measured(known, history, seen, windows=windows, looks=looks)
    smallest = detector.smallest_drop(history, seen, since=since.toordinal(), power=POWER, threshold=threshold)
    report = replace(report, status=status, smallest_drop=smallest)
    useful = max(USEFUL_DROP, USEFUL_SPREADS * float(history.spread[-1]))
    if status is not DriftStatus.DRIFTING and (report.delta is None or smallest is None or smallest > useful):
        report = replace(report, status=DriftStatus.INSUFFICIENT_DATA)
    return word_report(report, known, seen, shift=shift, window_days=window_days)


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


def _change_of(seen: Replay, threshold: float) -> tuple[DriftStatus, Shift | None]:
    """The verdict on the level, and the change that the sentence is about, if any."""
    if seen.open_episode and seen.fall:
        return DriftStatus.DRIFTING, replace(seen.fall, start=seen.open_episode.changed)
    if seen.rise and seen.rise.evidence >= threshold:
        return DriftStatus.WATCH, seen.rise
    if seen.fall and seen.fall.evidence >= WATCH + threshold - CALL:
        return DriftStatus.WATCH, seen.fall
    return DriftStatus.STABLE, None


def _measured(
    known: list[DailyScores], history: DailyHistory, seen: Replay, *, windows: Windows, looks: int
) -> DriftReport:
    """Both windows and their difference, without status and words."""
    episode, recent, baseline = seen.open_episode, windows.recent, windows.baseline
    report = DriftReport(
        DriftStatus.STABLE,
        "",
        "",
        recent_avg_score=_average(known[i] for i in recent),
        baseline_avg_score=_average(known[i] for i in baseline),
        changed_on=known[episode.changed].day if episode else None,
        changed_from=known[episode.earliest].day if episode and episode.earliest is not None else None,
        changed_until=known[episode.latest].day if episode and episode.latest is not None else None,
        called_on=known[episode.called].day if episode else None,
        recent_count=sum(known[i].count for i in recent),
        baseline_count=sum(known[i].count for i in baseline),
        recent_from=known[recent[0]].day if windows.change is None and recent else windows.since,
        recent_until=known[recent[-1]].day if recent else None,
        left_out=windows.list_left_out(known),
        baseline_from=known[baseline[0]].day if baseline else None,
        baseline_until=known[baseline[-1]].day if baseline else None,
        fall=seen.fall.size if episode and seen.fall else None,
        fall_error=seen.fall.error if episode and seen.fall else None,
        open_drops=_list_open(known, seen),
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


def _list_open(known: Sequence[DailyScores], seen: Replay) -> tuple[OpenDrop, ...]:
    """The drops that are open, each with the days of its level and of the one before."""
    found = []
    for each in seen.episodes:
        if each.is_over or each.fall is None:
            continue
        former = max((at for at in seen.levels if at < each.changed), default=0)
        ends = min((at for at in seen.levels if at > each.changed), default=len(known))
        days = (known[at].day for at in (each.changed, each.called, former, ends - 1))
        changed_on, called_on, level_from, until = days
        found.append(OpenDrop(changed_on, called_on, each.fall, level_from, until))
    return tuple(found)


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
