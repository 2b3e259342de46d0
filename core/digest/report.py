"""Shell: reads the reports of a service over some days, and returns them as a digest. A source that fails is named."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from core.audit.actions import Action
from core.audit.trail import AuditFilter, list_audit
from core.causes.changes import WhatChanged, explain_drift, gather_changes
from core.causes.timeline import TimelineChange
from core.corpus.corpus import Corpus
from core.coverage.backlog import BacklogTopic, TopicDecision, list_backlog
from core.coverage.newcomers import report_emerging
from core.coverage.report import Coverage, name_hidden
from core.digest.periods import DigestPeriod
from core.digest.sections import LONGEST_LINE, Digest, DigestLine, make_section
from core.digest.wording import (
    DatedDecision,
    NewTopic,
    PeriodFigures,
    word_decided,
    word_emerging,
    word_episodes,
    word_feed_outages,
    word_figures,
    word_ledger,
    word_new_topics,
    word_shipped,
    word_spending,
    word_waiting,
)
from core.drift.present import PresentScale
from core.drift.report import find_present_scale, list_days_on_scale, report_as_of, report_episodes
from core.errors import QuarterdeckError
from core.ledger.report import DAYS, report_ledger
from core.log.metrics import MetricSums, list_metric_days, list_metric_segments
from core.log.retrievals import Window, calendar_of
from core.log.values import States
from core.reviews.judged import sum_judging
from core.todo.items import Todo
from core.tracking.gateway import Tracking
from quarterdeck.clock import start_of
from quarterdeck.scope import Scope
from quarterdeck.store import Store

_NUMBERS = ("latency_ms", "cost_usd", "faithfulness", "feedback")
_MOST_DECISIONS = 500
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class DigestSources:
    """Where a digest reads what is not in the store; each is opened when it is needed.

    `coverage` returns the topics of the period, `waiting` the lines of the to-do list. Both go by the ids of topics
    where `readable` is false: then the digest holds nothing that users asked.
    """

    corpus: Callable[[], Corpus]
    tracking: Callable[[], Tracking]
    coverage: Callable[[], Coverage]
    waiting: Callable[[], Sequence[Todo]]
    model: str  # the embedding model, whose topics are meant
    readable: bool


def report_digest(store: Store, sources: DigestSources, *, scope: Scope, period: DigestPeriod, now: datetime) -> Digest:
    """Return what happened to a service in a period whose days are over. Raises SourceUnavailable without a log."""
    reading = _Reading(store, sources, scope, period, now)
    scale = find_present_scale(store, scope, today=period.last + timedelta(days=1))
    figures, before = (read_figures(store, scope, each, scale=scale) for each in (period, period.before))
    changed = next(iter(reading.read("drift", lambda: [reading.explain()])), None)
    changes = changed.changes if changed else ()
    sections = (
        make_section(
            "What fell or rose",
            [
                *([DigestLine(changed.sentence, "drift")] if changed else ()),
                *([DigestLine(changed.segments, "drift")] if changed and changed.causes.search.found else ()),
                *word_figures(figures, before, period),
                *reading.read("episodes", reading.list_episodes),
                *word_feed_outages(changes, period),
            ],
            nothing="Nothing could be read.",
        ),
        make_section(
            "To decide", reading.read("decisions", reading.list_waiting), nothing="Nothing waits for a decision."
        ),
        make_section(
            "Decided",
            word_decided(reading.read("audit trail", reading.list_decisions), changes, period),
            nothing="Nothing was decided.",
        ),
        make_section("Shipped", word_shipped(changes, period), nothing="Nothing was shipped."),
        make_section(
            "Predicted and measured",
            reading.read("ledger", lambda: reading.list_effects(changes)),
            nothing="No effect was measured, and no prediction waits.",
        ),
        make_section(
            "New topics",
            [*reading.read("emerging topics", reading.list_emerging), *reading.read("topics", reading.list_topics)],
            nothing="No topic is new.",
        ),
        make_section(
            "Spending",
            reading.read("spending", lambda: reading.list_spending(figures, before)),
            nothing="No answer has a price.",
        ),
    )
    problems = (*(changed.problems if changed else ()), *reading.problems)
    is_quiet = not figures.states.questions and not before.states.questions
    return Digest(scope, period, sections, tuple(each[:LONGEST_LINE] for each in problems), is_quiet)


def read_figures(store: Store, scope: Scope, period: DigestPeriod, *, scale: PresentScale) -> PeriodFigures:
    """Return the figures of a service over a period, scores on one scale."""
    window = Window(period.first, period.last)
    days = list_days_on_scale(store, window=window, scope=scope, scale=scale)
    count = sum(day.count for day in days)
    sums = {name: MetricSums() for name in _NUMBERS}
    for name, found in list_metric_days(store, scope, _NUMBERS, window).items():
        for each in found.values():
            sums[name].add(each)
    return PeriodFigures(
        States.of_days(days) if days else States(),
        sum(day.mean * day.count for day in days if day.count) / count if count else None,
        sums["latency_ms"].quantile(0.5),
        sums["latency_ms"].quantile(0.95),
        sums["faithfulness"].mean,
        sums["feedback"].mean,
        sums["cost_usd"].total,
        sums["cost_usd"].count,
    )


class _Reading:
    """Reads one part after another, and notes those that fail."""

    def __init__(self, store: Store, sources: DigestSources, scope: Scope, period: DigestPeriod, now: datetime) -> None:
        self._store, self._sources, self._scope, self._period, self._now = store, sources, scope, period, now
        self._calendar = calendar_of(store, scope)
        self.problems: list[str] = []
        self._today = period.last + timedelta(days=1)
        self._coverage: Coverage | None = None

    def read(self, name: str, part: Callable[[], Sequence[_Value]]) -> Sequence[_Value]:
        """Return what a part has; nothing, and a line in `problems`, where it cannot be read."""
        try:
            return part()
        except QuarterdeckError as error:
            self.problems.append(f"{name}: {error}")
            return ()

    def explain(self) -> WhatChanged:
        """Return the verdict at the end of the period, in words with its cause, and the changes of four months."""
        found = report_as_of(self._store, scope=self._scope, day=self._period.last, today=self._today)
        gathered = gather_changes(
            self._store,
            self._sources.corpus,
            self._sources.tracking,
            scope=self._scope,
            since=start_of(self._today - timedelta(days=DAYS)),
        )
        return explain_drift(self._store, found, gathered, today=self._period.last, coverage=self.cover)

    def cover(self) -> Coverage:
        """Return the topics of the period; read once."""
        if self._coverage is None:
            self._coverage = self._sources.coverage()
        return self._coverage

    def list_episodes(self) -> Sequence[DigestLine]:
        found = report_episodes(self._store, scope=self._scope, today=self._today)
        return tuple(word_episodes(found, self._period))

    def list_waiting(self) -> Sequence[DigestLine]:
        return tuple(word_waiting(self._sources.waiting()))

    def list_decisions(self) -> Sequence[DatedDecision]:
        """Return the last decision about each topic of the scope, newest first."""
        start, end = self._calendar.start_of(self._period.first), self._calendar.end_of(self._period.last)
        wanted = AuditFilter(
            action=Action.TOPIC_MARK, environment=self._scope.environment, since_ms=start, until_ms=end
        )
        topics = {each.topic_id: each for each in self._list_backlog()}
        decisions: dict[str, DatedDecision] = {}
        for entry in list_audit(self._store, wanted, limit=_MOST_DECISIONS):
            decision = TopicDecision.read(entry.after)
            if decision and entry.target in topics and entry.target not in decisions:
                label = self._name(topics[entry.target])
                decisions[entry.target] = DatedDecision(
                    entry.target, label, entry.actor, entry.reason, str(decision.state), decision.owner
                )
        return tuple(decisions.values())

    def list_effects(self, changes: Sequence[TimelineChange]) -> Sequence[DigestLine]:
        threshold = self.cover().threshold
        found = report_ledger(self._store, changes, scope=self._scope, today=self._today, threshold=threshold)
        return tuple(word_ledger(found.entries, found.calibration, self._period))

    def list_topics(self) -> Sequence[DigestLine]:
        """Return the topics that were first seen within as many days before now as the period has.

        They are noticed after their questions came, so those of the period's last day are noticed after it.
        """
        since = self._now - timedelta(days=self._period.days)
        asked = {topic.topic_id: topic for topic in self.cover().topics.topics}
        found = [
            NewTopic(
                each.topic_id,
                self._name(each),
                asked[each.topic_id].count if each.topic_id in asked else 0,
                asked[each.topic_id].mean_score if each.topic_id in asked else None,
            )
            for each in self._list_backlog()
            if each.first_seen >= since
        ]
        return tuple(word_new_topics(found))

    def list_emerging(self) -> Sequence[DigestLine]:
        """Return the topics that were called new in the period, before they scored low."""
        found = report_emerging(self._store, self._scope, readable=self._sources.readable)
        called = (each for each in found.topics if self._period.first <= each.called_on <= self._period.last)
        return tuple(word_emerging(called))

    def list_spending(self, figures: PeriodFigures, before: PeriodFigures) -> Sequence[DigestLine]:
        window = Window(self._period.first, self._period.last)
        by_prompt = list_metric_segments(self._store, self._scope, ("cost_usd",), window, "prompt_version")
        start, end = self._calendar.start_of(self._period.first), self._calendar.end_of(self._period.last)
        since, after = (sum_judging(self._store, since_ms=at, scope=self._scope) for at in (start, end))
        spent = {name: sums["cost_usd"].total for name, sums in by_prompt.items() if "cost_usd" in sums}
        return tuple(
            word_spending(
                figures,
                before,
                by_prompt=spent,
                judging_usd=since.spent_usd - after.spent_usd,
                judged=since.answers - after.answers,
            )
        )

    def _list_backlog(self) -> tuple[BacklogTopic, ...]:
        return list_backlog(self._store, self._sources.model, self._scope)

    def _name(self, topic: BacklogTopic) -> str:
        return topic.label if self._sources.readable and topic.label else name_hidden(topic.topic_id)
