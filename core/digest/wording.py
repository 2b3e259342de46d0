"""Rule: words the lines of a digest from what the reports found. `report.py` reads them, `sections.py` holds them.

Only the drift verdict and the ledger test for a difference. Other figures are told with those of the days before.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from core.causes.timeline import ChangeKind, TimelineChange
from core.coverage.emerging import EmergingTopic, describe_emerging
from core.digest.periods import DigestPeriod
from core.digest.sections import DigestLine
from core.drift.episodes import DatedEpisode, EpisodeKind
from core.drift.quarantine import say_day
from core.ledger.effects import AFTER_DAYS
from core.ledger.entries import Calibration, LedgerEntry, describe_calibration, describe_entry
from core.log.values import States
from core.todo.items import Todo
from core.wording.counts import count_of
from core.wording.scores import say_size

_DECIDED = frozenset({ChangeKind.LEVEL, ChangeKind.EXPERIMENT})
_NOT_SHIPPED = _DECIDED | {ChangeKind.FEED, ChangeKind.OUTSIDE}
_LONGEST_REASON = 120


@dataclass(frozen=True, slots=True)
class PeriodFigures:
    """The figures of a service over some days; None where no question has the number.

    `mean_score` is from 0 to 1, `cost_usd` is the sum over the `priced` questions.
    """

    states: States = field(default_factory=States)
    mean_score: float | None = None
    median_ms: float | None = None
    p95_ms: float | None = None
    faithfulness: float | None = None
    feedback: float | None = None
    cost_usd: float = 0.0
    priced: int = 0

    @property
    def empty_share(self) -> float | None:
        """The share of questions that found nothing or failed, 0 to 1."""
        return self.states.share_of(self.states.empty + self.states.failed)


@dataclass(frozen=True, slots=True)
class NewTopic:
    """A topic that was seen for the first time, how often it was asked in the period, and how well it scored."""

    topic_id: str
    label: str
    count: int
    mean_score: float | None


@dataclass(frozen=True, slots=True)
class DatedDecision:
    """What somebody decided about a topic."""

    topic_id: str
    label: str
    actor: str
    reason: str
    state: str
    owner: str


def word_figures(now: PeriodFigures, before: PeriodFigures, period: DigestPeriod) -> Iterator[DigestLine]:
    """Yield how many questions came and how they went, each figure with that of the days before."""
    since = (("since", period.first.isoformat()),)
    if not now.states.questions:
        yield DigestLine(f"No question came in these days (before: {before.states.questions:,}).", "questions", since)
        return
    parts = [f"{count_of(now.states.questions, 'question')} (before: {before.states.questions:,})"]
    parts += _pair("mean score", now.mean_score, before.mean_score, "{:.2f}")
    parts += _pair("found nothing", now.empty_share, before.empty_share, "{:.1%}")
    yield DigestLine(f"{'; '.join(parts)}.", "questions", since)
    parts = [
        *_pair("median latency", now.median_ms, before.median_ms, "{:,.0f} ms"),
        *_pair("95th percentile", now.p95_ms, before.p95_ms, "{:,.0f} ms"),
        *_pair("faithfulness", now.faithfulness, before.faithfulness, "{:.2f}"),
        *_pair("feedback", now.feedback, before.feedback, "{:+.2f}"),
    ]
    if parts:
        yield DigestLine(f"{_capitalize('; '.join(parts))}.", "drift")


def word_episodes(episodes: Iterable[DatedEpisode], period: DigestPeriod) -> Iterator[DigestLine]:
    """Yield the drops and outages that were called in the period, and those whose end was noticed in it."""
    for each in episodes:
        name = "An outage" if each.kind is EpisodeKind.OUTAGE else "A drop"
        fell = f" of {say_size(each.fall)}" if each.fall is not None else ""
        if period.holds(each.called_on):
            yield DigestLine(
                f"{name}{fell} that began on {say_day(each.changed_on)} was noticed on {say_day(each.called_on)}.",
                "drift",
            )
        if each.ended_on is not None and period.holds(each.ended_on):
            yield DigestLine(f"{name}{fell} that began on {say_day(each.changed_on)} is over since "
                             f"{say_day(each.ended_on)}.", "drift")  # fmt: skip


def word_feed_outages(changes: Iterable[TimelineChange], period: DigestPeriod) -> Iterator[DigestLine]:
    """Yield what other systems reported in the period."""
    for change in _within(changes, period):
        if change.kind in (ChangeKind.FEED, ChangeKind.OUTSIDE):
            yield _tell(change, "drift")


def word_waiting(todos: Iterable[Todo]) -> Iterator[DigestLine]:
    """Yield what waits for a decision."""
    for todo in todos:
        yield DigestLine(_end(todo.text), todo.page, todo.filters)


def word_decided(
    decisions: Iterable[DatedDecision], changes: Iterable[TimelineChange], period: DigestPeriod
) -> Iterator[DigestLine]:
    """Yield what was decided about topics, the level of scores and experiments."""
    for each in decisions:
        owner = f", {each.owner}" if each.owner else ""
        text = f"Gap “{each.label}”: {each.state}{owner}{_say_who(each.actor, each.reason)}."
        yield DigestLine(text, "coverage", (("topic", each.topic_id),))
    for change in _within(changes, period):
        if change.kind in _DECIDED:
            yield _tell(change, "drift" if change.kind is ChangeKind.LEVEL else "rollouts")


def word_shipped(changes: Iterable[TimelineChange], period: DigestPeriod) -> Iterator[DigestLine]:
    """Yield what went live, newest first, and the corpus versions that were committed."""
    for change in reversed(_within(changes, period)):
        if change.kind not in _NOT_SHIPPED and change.reach > 0:
            yield _tell(change, "audit" if change.entry_id else "overview")


def word_ledger(entries: Iterable[LedgerEntry], calibration: Calibration, period: DigestPeriod) -> Iterator[DigestLine]:
    """Yield the effects that were measured for good in the period, the predictions that wait, and the calibration.

    An effect is measured for good 14 days after its change.
    """
    told = False
    for entry in entries:
        was_settled = entry.is_over and period.holds(date.fromordinal(entry.at.date().toordinal() + AFTER_DAYS))
        is_waiting = entry.predicted is not None and period.holds(entry.at.date())
        if was_settled or is_waiting:
            told = True
            yield DigestLine(f"{entry.summary}: {describe_entry(entry)}.", "ledger")
    if told:
        yield DigestLine(f"In the last four months: {describe_calibration(calibration)}", "ledger")


def word_new_topics(topics: Sequence[NewTopic]) -> Iterator[DigestLine]:
    """Yield the topics seen for the first time that are topics of the period, those asked most first."""
    for topic in sorted(
        (each for each in topics if each.count), key=lambda each: (-each.count, each.label, each.topic_id)
    ):
        score = f", mean score {topic.mean_score:.2f}" if topic.mean_score is not None else ""
        asked = f"{count_of(topic.count, 'low-scoring question')}{score}"
        yield DigestLine(f"“{topic.label}”: {asked}.", "coverage", (("topic", topic.topic_id),))


def word_emerging(topics: Iterable[EmergingTopic]) -> Iterator[DigestLine]:
    """Yield the topics that were called new."""
    for topic in topics:
        named = f" “{topic.label}”:" if topic.label else ""
        yield DigestLine(f"New since {topic.since.day} {topic.since:%b}:{named} {describe_emerging(topic)}", "coverage")


def word_spending(
    now: PeriodFigures, before: PeriodFigures, *, by_prompt: Mapping[str, float], judging_usd: float, judged: int
) -> Iterator[DigestLine]:
    """Yield what answers and judging cost. Answers without a price are not counted."""
    if now.priced or before.priced:
        each = f", ${now.cost_usd / now.priced:.4f} each" if now.priced else ""
        yield DigestLine(
            f"${now.cost_usd:,.2f} for {count_of(now.priced, 'answer')} with a price{each} "
            f"(before: ${before.cost_usd:,.2f} for {before.priced:,}).",
            "prompts", (("tab", "Live"),),
        )  # fmt: skip
    named = sorted(((usd, name) for name, usd in by_prompt.items() if name and usd > 0), reverse=True)
    if named:
        told = ", ".join(f"{name} ${usd:,.2f}" for usd, name in named[:5])
        yield DigestLine(f"By prompt version: {told}.", "prompts", (("tab", "Live"),))
    if judged:
        yield DigestLine(
            f"${judging_usd:,.2f} for judging {count_of(judged, 'answer')}.", "questions", (("show", "Quality"),)
        )


def _within(changes: Iterable[TimelineChange], period: DigestPeriod) -> list[TimelineChange]:
    return [change for change in changes if period.holds(change.ts.date())]


def _tell(change: TimelineChange, page: str) -> DigestLine:
    filters = (("entry", str(change.entry_id)),) if page == "audit" and change.entry_id else ()
    day = f"{change.ts.day} {change.ts:%b}"
    return DigestLine(f"{day}: {change.summary}{_say_who(change.actor, change.reason)}.", page, filters)


def _say_who(actor: str, reason: str) -> str:
    told = " ".join(reason.split()).rstrip(".")
    told = told if len(told) <= _LONGEST_REASON else f"{told[: _LONGEST_REASON - 1]}…"
    inside = ": ".join(filter(None, (actor, told)))
    return f" ({inside})" if inside else ""


def _pair(name: str, now: float | None, before: float | None, form: str) -> list[str]:
    """Return a figure and that of the days before; nothing where there is none now."""
    if now is None:
        return []
    return [f"{name} {form.format(now)}{f' (before: {form.format(before)})' if before is not None else ''}"]


def _capitalize(text: str) -> str:
    return text[:1].upper() + text[1:]


def _end(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
