"""How things stand, for /metrics: verdicts, questions by state, gaps, canaries, evaluations and queues.

The values are the store's, so every server of a store shows the same. They are at most a minute old; a scrape reads
those that are older for at most `WITHIN_S`, oldest first, and shows the rest as they were. Labels are bounded.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.http.v1.reads import load_canaries, load_drift
from core.audit.environments import list_environments
from core.coverage.backlog import TopicState, list_backlog
from core.drift.verdict import DriftStatus
from core.errors import QuarterdeckError
from core.intake.queues import list_queues
from core.log.exposures import list_usage
from core.log.retrievals import get_span, list_scopes
from core.rollouts.canary import CanaryCall
from quarterdeck.clock import now_ms, to_ms
from quarterdeck.retrieval import STATES
from quarterdeck.scope import Scope
from quarterdeck.store import Store

KEPT_S, WITHIN_S = 60.0, 3.0
MOST_SCOPES, MOST_ENVIRONMENTS, MOST_FLAGS, MOST_VARIANTS = 100, 20, 100, 10
logger = logging.getLogger("quarterdeck")
Labels = tuple[str, ...]
_OF_SCOPE = ("environment", "service")
_METRICS: Mapping[str, tuple[str, Labels]] = {
    "quarterdeck_questions": ("Questions of the last seven days, today included, by state.", (*_OF_SCOPE, "state")),
    "quarterdeck_empty_share": ("The share of them that found nothing, 0 to 1.", _OF_SCOPE),
    "quarterdeck_score_mean": ("Mean similarity of the recent window of the drift verdict, 0 to 1.", _OF_SCOPE),
    "quarterdeck_drift_delta": ("Recent minus reference mean of the drift verdict; negative is a drop.", _OF_SCOPE),
    "quarterdeck_drift_state": ("1 for the status of the drift verdict, 0 for the others.", (*_OF_SCOPE, "state")),
    "quarterdeck_topics": ("Topics on the backlog by what was decided; open ones are gaps.", (*_OF_SCOPE, "state")),
    "quarterdeck_last_question_timestamp_seconds": ("When the newest question was asked, since 1970.", _OF_SCOPE),
    "quarterdeck_canary_share": ("The share of users on green, 0 to 1.", ("environment", "flag")),
    "quarterdeck_canary_state": ("1 for the verdict of a canary, 0 for the others.", ("environment", "flag", "state")),
    "quarterdeck_flag_evaluations": ("Evaluations of the last 24 hours.", ("environment", "flag", "variant")),
    "quarterdeck_queue": ("Entries that wait to be worked off.", ("queue",)),
    "quarterdeck_queue_age_seconds": ("How long the oldest of them has waited; 0 if none waits.", ("queue",)),
}


@dataclass(slots=True)
class _Kept:
    """The values of one part of the metrics, and until when they are new enough."""

    due: float = 0.0
    values: list[tuple[str, Labels, float]] = field(default_factory=list)


class StateCollector(Collector):
    """Reads how things stand in the store that `get_store` returns; what cannot be read keeps its last value away."""

    def __init__(
        self, get_store: Callable[[], Store], get_model: Callable[[], str], get_own: Callable[[], str]
    ) -> None:
        self._get_store = get_store
        self._get_model = get_model
        self._get_own = get_own
        self._reading = threading.Lock()
        self._kept: dict[tuple[Store, str | Scope], _Kept] = {}

    def describe(self) -> Iterable[Metric]:
        """Return the metrics without values: registering must not open the store."""
        return list(_make_families().values())

    def collect(self) -> Iterator[Metric]:
        """Return every metric, read again where it is older than a minute."""
        families = _make_families()
        with self._reading:
            for name, labels, value in self._refresh():
                families[name].add_metric(labels, value)
        yield from families.values()

    def _refresh(self) -> list[tuple[str, Labels, float]]:
        try:
            store = self._get_store()
            parts: list[str | Scope] = [*list_environments(store, self._get_own())[:MOST_ENVIRONMENTS], ""]
            parts += list_scopes(store)[:MOST_SCOPES]
        except QuarterdeckError:
            return []
        self._kept = {(store, part): self._kept.get((store, part)) or _Kept() for part in parts}
        began = time.monotonic()
        for (_, part), kept in sorted(self._kept.items(), key=lambda each: each[1].due):
            if kept.due > began or (kept.due and time.monotonic() > began + WITHIN_S):
                continue
            if time.monotonic() > began + WITHIN_S:
                break
            kept.values = self._read(store, part)
            kept.due = time.monotonic() + KEPT_S
        return [value for kept in self._kept.values() for value in kept.values]

    def _read(self, store: Store, part: str | Scope) -> list[tuple[str, Labels, float]]:
        try:
            if isinstance(part, Scope):
                return list(_read_scope(store, part, self._get_model()))
            return list(_read_environment(store, part) if part else _read_queues(store))
        except QuarterdeckError as error:
            logger.warning("some metrics could not be read: %s", error)
            return []


def _make_families() -> dict[str, GaugeMetricFamily]:
    return {name: GaugeMetricFamily(name, said, labels=labels) for name, (said, labels) in _METRICS.items()}


def _read_scope(store: Store, scope: Scope, model: str) -> Iterator[tuple[str, Labels, float]]:
    found = load_drift(scope)
    own, states, report = (scope.environment, scope.service), found.states, found.report
    for state in STATES:
        yield "quarterdeck_questions", (*own, state), getattr(states, state)
    if (share := states.share_of(states.empty)) is not None:
        yield "quarterdeck_empty_share", own, share
    if report.recent_avg_score is not None:
        yield "quarterdeck_score_mean", own, report.recent_avg_score
    if report.delta is not None:
        yield "quarterdeck_drift_delta", own, report.delta
    for status in DriftStatus:
        yield "quarterdeck_drift_state", (*own, str(status)), float(report.status is status)
    decided = Counter(topic.state for topic in list_backlog(store, model, scope))
    for each in TopicState:
        yield "quarterdeck_topics", (*own, str(each)), decided[each]
    if (span := get_span(store, scope)) is not None:
        yield "quarterdeck_last_question_timestamp_seconds", own, to_ms(span[1]) / 1_000


def _read_environment(store: Store, environment: str) -> Iterator[tuple[str, Labels, float]]:
    for report in load_canaries(environment)[:MOST_FLAGS]:
        own = (environment, report.flag.key)
        yield "quarterdeck_canary_share", own, report.share_pct / 100
        for call in CanaryCall:
            yield "quarterdeck_canary_state", (*own, str(call)), float(report.verdict.call is call)
    usage = list_usage(store, environment, since=datetime.now(UTC) - timedelta(days=1))
    most = sorted(usage.items(), key=lambda each: -each[1].evaluations)[:MOST_FLAGS]
    for flag, used in most:
        for variant, count in sorted(used.by_variant.items())[:MOST_VARIANTS]:
            yield "quarterdeck_flag_evaluations", (environment, flag, variant), count


def _read_queues(store: Store) -> Iterator[tuple[str, Labels, float]]:
    now = now_ms()
    for queue in list_queues(store):
        yield "quarterdeck_queue", (queue.name,), queue.waiting
        age_ms = 0 if queue.oldest_ms is None else max(0, now - queue.oldest_ms)
        yield "quarterdeck_queue_age_seconds", (queue.name,), age_ms / 1_000
