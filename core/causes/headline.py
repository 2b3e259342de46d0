"""Rule: words the sentence on top: what fell, since when, which topics carry it, and the most likely cause."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from core.causes.causes import CauseKind, Causes
from core.causes.search import CarryingSegment, SegmentSearch
from core.coverage.topics import Topic
from core.drift.quarantine import say_day
from core.drift.values import OpenDrop
from core.drift.verdict import DriftReport
from core.drift.wording import say_fall, say_since
from core.log.values import AskedQuery, DailyScores
from core.wording.scores import decimals_of, say_size

_NAMED_TOPICS = 3
_RECENT_DAYS = 7
_WORTH_NAMING = 0.05  # topics below this share of the fall are not named
_SURE, _LIKELY = 0.5, 0.3


@dataclass(frozen=True, slots=True)
class TopicShare:
    """The share of the fall (0 to 1) that is due to the growth of one low-scoring topic."""

    label: str
    share: float
    topic_id: str = ""


def share_fall(
    report: DriftReport,
    topics: Iterable[Topic],
    *,
    queries: Sequence[AskedQuery],
    days: Sequence[DailyScores],
    today: date,
) -> tuple[TopicShare, ...]:
    """Return which topics explain the fall in the last seven days, the largest share first.

    share = (n / N - n0 / N0) * (reference mean - mean of the topic) / (reference mean - mean of the week), where n of
    the week's N queries are of the topic and n0 of N0 were in the whole weeks before the change: what was always asked
    and always scored low explains no fall. The week is the same whatever days the topics were found in, so that a page
    of 30 days tells the share that the headline tells. Shares can sum to more than 1 if the rest improved. Empty
    without a dated drop, without a week before it among the weekly counts, and when the week fell by less than 0.01.
    """
    reference = report.baseline_avg_score
    weeks = _weekly_traffic(days, today)
    recent = [day for day in days if today - timedelta(days=_RECENT_DAYS) < day.day <= today]
    count = sum(day.count for day in recent)
    if report.changed_on is None or reference is None or not count:
        return ()
    fall = reference - sum(day.mean * day.count for day in recent if day.count) / count
    earlier = [at for at, (last, _) in enumerate(weeks) if last < report.changed_on]
    traffic = sum(weeks[at][1] for at in earlier)
    if fall < 0.01 or not traffic:
        return ()
    shares = []
    for topic in topics:
        former = sum(_asked_in(queries[member], earlier) for member in topic.members)
        asked = sum(_asked_in(queries[member], (0,)) for member in topic.members)
        excess = asked / count - former / traffic
        share = max(0.0, excess * (reference - topic.mean_score) / fall)
        shares.append(TopicShare(topic.label, share, topic.topic_id))
    named = [share for share in shares if share.share >= _WORTH_NAMING]
    return tuple(sorted(named, key=lambda share: (-share.share, share.label)))


def describe_drop(report: DriftReport, causes: Causes, topics: Sequence[TopicShare] = ()) -> str:
    """Return the drop in one or two sentences; without a dated drop, the reason of the report.

    >>> describe_drop(DriftReport("stable", "Retrieval score is unchanged.", ""), Causes(()))
    'Retrieval score is unchanged.'
    """
    fell = say_fall(report)
    if report.changed_on is None or report.fall is None or fell is None or fell <= 0:
        return report.reason
    named = topics[:_NAMED_TOPICS]
    if len(named) == 1 and causes.first and causes.first.kind is CauseKind.NEW_QUESTIONS:
        named = ()  # the cause already names it
    held = f"; {_say_topics(len(named))} {sum_named(named):.0%} of it" if named else ""
    place = f", in {_say_place(causes.search.found)}" if causes.search.found else ""
    means = _say_means(report, decimals_of(fell))
    sentence = f"Retrieval score fell by {say_size(fell)} {say_since(report)}{means}{place}{held}."
    return f"{sentence} {_say_cause(causes, topics)}" if causes.first else sentence


def sum_named(topics: Sequence[TopicShare]) -> float:
    """Return the share of the fall (0 to 1) that the topics which the sentence counts explain together.

    >>> sum_named([TopicShare("a", 0.5), TopicShare("b", 0.25)])
    0.75
    """
    return min(1.0, sum(topic.share for topic in topics[:_NAMED_TOPICS]))


def describe_further(drop: OpenDrop, causes: Causes, *, is_later: bool) -> str:
    """Return a drop that is open beside the one of the report, with its own likeliest cause.

    >>> day = date(2026, 3, 4)
    >>> describe_further(OpenDrop(day, day, -0.06, day, day), Causes(()), is_later=True)
    'It fell again by 0.06 on 4 Mar 2026.'
    """
    verb = "It fell again" if is_later else "It had fallen before"
    sentence = f"{verb} by {say_size(drop.fall)} on {say_day(drop.changed_on)}."
    return f"{sentence} {_say_cause(causes, ())}" if causes.first else sentence


def describe_segments(search: SegmentSearch) -> str:
    """Return in one sentence which segment carries the drop; "" if none could be compared.

    >>> describe_segments(SegmentSearch(None, 60))
    'No segment carries the drop: of the 60 values compared, none has significantly more of it than the rest.'
    """
    if not search.searched:
        return ""
    most = search.found
    if most is None:
        return (
            f"No segment carries the drop: of the {search.searched:,} values compared, none has significantly more of "
            "it than the rest."
        )
    return (
        f"The drop is in {most.dimension.replace('_', ' ')} {most.value}: {most.inside:+.2f} there, "
        f"{most.outside:+.2f} elsewhere; it explains {most.explained_share:.0%}. It is significant "
        f"although {search.searched:,} values were searched."
    )


def _say_topics(count: int) -> str:
    return "1 topic explains" if count == 1 else f"{count} topics explain"


def _say_place(segment: CarryingSegment) -> str:
    return f"{segment.dimension.replace('_', ' ')} {segment.value}"


def _say_means(report: DriftReport, places: int) -> str:
    if report.recent_avg_score is None or report.baseline_avg_score is None:
        return ""
    return f", from {report.baseline_avg_score:.{places}f} to {report.recent_avg_score:.{places}f}"


def _say_cause(causes: Causes, topics: Sequence[TopicShare]) -> str:
    cause = causes.ranked[0]
    if cause.confidence < _LIKELY:
        return "The cause is not clear yet."
    lead = "Most likely" if cause.confidence >= _SURE else "Perhaps"
    if cause.kind is CauseKind.UNKNOWN:
        return f"{'Cause' if cause.confidence >= _SURE else 'Cause perhaps'} {cause.title}."
    if cause.change is not None:
        day, sure = f"{cause.change.ts.day} {cause.change.ts:%b}", min(cause.confidence, 0.99)
        return f"{lead}: {cause.title}, {day} ({sure:.0%} sure)."
    about = f" ({topics[0].label}, {min(1.0, topics[0].share):.0%} of the drop)" if topics else ""
    return f"{lead}: {cause.title}{about}."


def _weekly_traffic(days: Sequence[DailyScores], today: date) -> list[tuple[date, int]]:
    """Last day and query count of each week, counted back from `today`; newest first."""
    weeks: dict[int, int] = {}
    for day in days:
        if day.count and day.day <= today:
            ago = (today - day.day).days // 7
            weeks[ago] = weeks.get(ago, 0) + day.count
    return [(today - timedelta(days=7 * ago), count) for ago, count in sorted(weeks.items())]


def _asked_in(query: AskedQuery, weeks: Sequence[int]) -> int:
    """How often the query scored low in these weeks (0 is the newest); its counts are oldest first."""
    newest_first = query.weekly_counts[::-1]
    return sum(newest_first[at] for at in weeks if at < len(newest_first))
