"""Rule: words a drift verdict. The difference in a sentence is that of the two means in it, as rounded there."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

from core.drift.daily import Shift
from core.drift.detector import Replay
from core.drift.quarantine import say_day
from core.drift.values import DriftReport, DriftStatus
from core.log.values import DailyScores
from core.wording.counts import count_of
from core.wording.scores import decimals_of, say_limit_of, say_size, subtract

POWER = 0.8  # chance that `smallest_drop` is called within one window


def word_nothing(what: str, accepted_on: date | None) -> DriftReport:
    """Return the report for a log without days to compare."""
    after = f" since the level was accepted on {say_day(accepted_on)}" if accepted_on else ""
    return DriftReport(
        DriftStatus.INSUFFICIENT_DATA,
        f"{what}{after}, so no drop can be detected.",
        "Log retrievals to this store; a verdict needs several days of scores.",
    )


def word_report(
    report: DriftReport,
    known: Sequence[DailyScores],
    seen: Replay,
    *,
    shift: Shift | None,
    window_days: int,
) -> DriftReport:
    """Return the report with its reason and action. `shift` is the change that is called or suspected."""
    if report.status is DriftStatus.INSUFFICIENT_DATA:
        reason = _why_too_little(report, known, window_days)
        return replace(report, reason=reason, action="Wait for more questions, then check again.")
    could = ""
    if report.smallest_drop is not None:
        smallest = say_limit_of(report.smallest_drop)
        could = f"A drop of {smallest} would be noticed within {count_of(window_days, 'day')}, {POWER:.0%} of the time."
    if shift is None:
        reason = f"Retrieval score is unchanged: {_say_means(report)}."
        return replace(report, reason=reason, action=f"Nothing to do. {could}".strip())
    size, means = _say_difference(report, shift)
    if report.status is DriftStatus.DRIFTING and report.called_on:
        reason = (
            f"Retrieval score fell by {size}{_say_margin(report)} {say_since(report)}: {means}; "
            f"first alert on {say_day(report.called_on)}.{_say_others(known, seen)}"
        )
        action = (
            "Look at the topics that score low and at what changed around that day, then re-index what is missing. "
            "If this level is meant to stay, accept it as the new one."
        )
        return replace(report, reason=reason, action=action)
    since = say_day(known[shift.start].day)
    if shift.size > 0:
        action = "Nothing to fix. Accept the new level, so that a fall back to the old one is detected."
        return replace(report, reason=f"Retrieval score rose by {size} since {since}: {means}.", action=action)
    reason = f"Retrieval score may have fallen by {size} since {since}, not surely enough for an alert yet: {means}."
    return replace(report, reason=reason, action=f"Check again tomorrow. {could}".strip())


def say_since(report: DriftReport) -> str:
    """Return since when the level is another one: a day, or a range where the data say no more.

    >>> say_since(DriftReport("drifting", "", "", changed_on=date(2026, 3, 4)))
    'since 4 Mar 2026'
    """
    first, last = report.changed_from, report.changed_until
    if first and last and first < last:
        return f"since a day between {say_day(first)} and {say_day(last)}"
    return f"since {say_day(report.changed_on)}" if report.changed_on else ""


def say_fall(report: DriftReport) -> float | None:
    """Return by how much the mean fell between the two windows, from the means as they are shown."""
    if report.recent_avg_score is None or report.baseline_avg_score is None:
        return None if report.fall is None else -report.fall
    return subtract(report.baseline_avg_score, report.recent_avg_score)


def _say_difference(report: DriftReport, shift: Shift) -> tuple[str, str]:
    """The size of a change and the means it lies between.

    The weekdays of a few days can hide a change in the plain means: then the second mean is the one to expect.
    """
    fall = say_fall(report)
    if fall is None or report.recent_avg_score is None:
        return say_size(shift.size), _say_means(report)
    if fall * shift.size < 0:
        return say_size(fall), _say_means(report)
    recent, expected = report.recent_avg_score, report.recent_avg_score - shift.size
    apart = subtract(expected, recent)
    places = decimals_of(apart)
    means = f"{recent:.{places}f} over {_say_recent(report)} against {expected:.{places}f} expected on such weekdays"
    return say_size(apart), means


def _say_means(report: DriftReport) -> str:
    if report.recent_avg_score is None or report.baseline_avg_score is None:
        return "the recent window has no questions to compare"
    places = decimals_of(say_fall(report) or 0.0)
    return (
        f"{report.recent_avg_score:.{places}f} over {_say_recent(report)} against "
        f"{report.baseline_avg_score:.{places}f} over {report.baseline_count:,} before"
    )


def _say_recent(report: DriftReport) -> str:
    return count_of(report.recent_count, "recent question")


def _say_margin(report: DriftReport) -> str:
    if report.delta is None or report.delta_high is None:
        return ""
    return f" (± {say_size(report.delta_high - report.delta)})"


def _say_others(known: Sequence[DailyScores], seen: Replay) -> str:
    """The other drops that are still open, each with its own fall."""
    told, said = seen.open_episode, ""
    for lead, is_later in (("It had fallen before and not come back:", False), ("It fell again since:", True)):
        parts = [
            f"by {say_size(each.fall)} on {say_day(known[each.changed].day)}"
            if each.fall
            else say_day(known[each.changed].day)
            for each in seen.episodes
            if not each.is_over and told and each is not told and (each.called > told.called) == is_later
        ]
        said += f" {lead} {', '.join(parts)}." if parts else ""
    return said


def _why_too_little(report: DriftReport, known: Sequence[DailyScores], window_days: int) -> str:
    if not report.recent_count:
        reason = f"No questions since {say_day(known[-1].day)}, so there is nothing to compare."
    elif not report.baseline_count:
        first = say_day(known[0].day)
        all_of = (
            f"All {report.recent_count:,} questions are from the last {count_of(window_days, 'day')}, the first from"
        )
        reason = f"{all_of if report.recent_count > 1 else 'The only question is from'} {first}"
        reason += ": there are no earlier days to compare with."
    else:
        reason = f"Too little data for a verdict: {_say_means(report)}."
    if report.smallest_drop is not None:
        reason += f" The smallest drop detectable with this much data is {report.smallest_drop:.2f}."
    return reason
