"""What the API under /v1 reads and takes long, kept for some seconds and read once for all who wait for it."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Generic, TypeVar

from app.http.backends import get_config, get_store
from core.arms.histories import share_histories
from core.causes.changes import WhatChanged, explain_drift, gather_changes
from core.causes.timeline import TimelineChange
from core.corpus.corpus import Corpus
from core.corpus.versions import Version
from core.coverage.backlog import BacklogTopic, list_backlog
from core.coverage.closing import report_shelves
from core.coverage.emerging import EmergingReport
from core.coverage.newcomers import report_emerging
from core.coverage.report import (
    Coverage,
    call_topics,
    find_threshold,
    hide_questions,
    name_hidden,
    report_coverage,
)
from core.coverage.shelves import ShelvedTopic
from core.drift.report import DriftOverview, report_drift
from core.embedding.embed import Embedder
from core.embedding.vectors import VectorCache
from core.log.retrievals import today_in
from core.rollouts.canaries import CanaryReport, report_canaries
from core.rollouts.experiments import ExperimentReport, report_experiments
from core.tracking.gateway import Tracking
from quarterdeck.clock import start_of
from quarterdeck.scope import Scope
from quarterdeck.store import Store

CHANGE_DAYS = 120  # how far back changes are looked for, as on the drift page
GAP_DAYS = 7
_Value = TypeVar("_Value")


class Recent(Generic[_Value]):
    """Keeps the newest values of a slow read for `seconds`. Whoever asks meanwhile waits for the one who reads."""

    def __init__(self, seconds: float, *, most: int = 50) -> None:
        self._seconds = seconds
        self._most = most
        self._changing = threading.Lock()
        self._kept: OrderedDict[Hashable, tuple[float, _Value]] = OrderedDict()
        self._reading: dict[Hashable, threading.Lock] = {}

    def get(self, key: Hashable, read: Callable[[], _Value]) -> _Value:
        """Return the kept value of a key, else what `read` returns."""
        with self._changing:
            lock = self._reading.setdefault(key, threading.Lock())
        with lock:
            try:
                with self._changing:
                    kept = self._kept.get(key)
                if kept is not None and time.monotonic() < kept[0]:
                    return kept[1]
                value = read()
                with self._changing:
                    self._kept[key] = (time.monotonic() + self._seconds, value)
                    self._kept.move_to_end(key)
                    while len(self._kept) > self._most:
                        self._kept.popitem(last=False)
                return value
            finally:
                with self._changing:
                    self._reading.pop(key, None)


_drift = Recent[DriftOverview](15)
_threshold = Recent[float](60)
_coverage = Recent[Coverage](60, most=10)
_emerging = Recent[EmergingReport](60, most=20)
_changed = Recent[WhatChanged](15, most=20)
_gathered = Recent[tuple[tuple[TimelineChange, ...], tuple[str, ...]]](15, most=20)
_versions = Recent[tuple[Version, ...]](15, most=2)
_canaries = Recent[tuple[CanaryReport, ...]](10, most=10)
_experiments = Recent[tuple[ExperimentReport, ...]](10, most=10)


def today_of(scope: Scope) -> date:
    """Return the date that it is for a scope."""
    return today_in(get_store(), scope, now=datetime.now(UTC))


def load_drift(scope: Scope) -> DriftOverview:
    """Return the drift verdict of a scope and its evidence."""
    store, today = get_store(), today_of(scope)
    return _drift.get((store, scope, today), lambda: report_drift(store, scope=scope, today=today))


def load_threshold(scope: Scope) -> float:
    """Return the similarity under which questions of a scope score low."""
    store, today, low = get_store(), today_of(scope), get_config().low_score
    return _threshold.get((store, scope, today), lambda: find_threshold(store, scope=scope, today=today, low_score=low))


def load_coverage(scope: Scope, days: int) -> Coverage:
    """Return the topics of the low-scoring questions of a scope; texts without a vector yet are left out."""
    store, today, config = get_store(), today_of(scope), get_config()
    return _coverage.get(
        (store, scope, today, days),
        lambda: report_coverage(
            store, get_embedder(), scope=scope, today=today, window_days=days, low_score=config.low_score,
            embed_new=False, drift=load_drift(scope),
        ),
    )  # fmt: skip


def load_named_coverage(scope: Scope, days: int, *, readable: bool) -> tuple[Coverage, dict[str, BacklogTopic]]:
    """Return the topics as the backlog calls them now, and the backlog by id; by number unless `readable`."""
    known = {each.topic_id: each for each in list_backlog(get_store(), get_config().embedding_model, scope)}
    coverage = call_topics(load_coverage(scope, days), {name: each.label for name, each in known.items()})
    return (coverage if readable else hide_questions(coverage)), known


def load_shelved(scope: Scope, days: int, *, readable: bool) -> tuple[ShelvedTopic[BacklogTopic], ...]:
    """Return the topics of the window and of the backlog with what was decided about them; by id unless `readable`."""
    found = report_shelves(get_store(), get_embedder(), load_coverage(scope, days), today=today_of(scope))
    return found if readable else tuple(replace(each, label=name_hidden(each.topic_id)) for each in found)


def load_emerging(scope: Scope, *, readable: bool) -> EmergingReport:
    """Return the topics that are new, as the last look found them; without questions unless `readable`."""
    store, today = get_store(), today_of(scope)
    return _emerging.get((store, scope, today, readable), lambda: report_emerging(store, scope, readable=readable))


def load_changes(scope: Scope) -> tuple[tuple[TimelineChange, ...], tuple[str, ...]]:
    """Return the changes of the last four months, and what could not be read."""
    store, today = get_store(), today_of(scope)
    since = start_of(today - timedelta(days=CHANGE_DAYS))
    return _gathered.get(
        (store, scope, today), lambda: gather_changes(store, get_corpus, get_tracking, scope=scope, since=since)
    )


def load_what_changed(scope: Scope, *, readable: bool) -> WhatChanged:
    """Return what explains the drop of a scope, if there is one; topics by number unless `readable`."""
    store, today = get_store(), today_of(scope)

    def find_topics() -> Coverage:
        return load_named_coverage(scope, GAP_DAYS, readable=readable)[0]

    return _changed.get(
        (store, scope, today, readable),
        lambda: explain_drift(store, load_drift(scope), load_changes(scope), today=today, coverage=find_topics),
    )


def load_versions() -> tuple[Version, ...]:
    """Return the corpus versions, newest first."""
    return _versions.get(get_config().corpus_repo, lambda: get_corpus().list_versions())


def load_canaries(environment: str) -> tuple[CanaryReport, ...]:
    """Return the report of every canary of an environment."""
    store, config = get_store(), get_config()
    histories = share_histories(config.database_url, config.log_url).up_to(timedelta(seconds=10))
    return _canaries.get(
        (store, environment), lambda: report_canaries(store, histories, environment, now=datetime.now(UTC))
    )


def load_experiments(environment: str) -> tuple[ExperimentReport, ...]:
    """Return the report of every experiment of an environment."""
    store, config = get_store(), get_config()
    histories = share_histories(config.database_url, config.log_url).up_to(timedelta(seconds=10))
    return _experiments.get(
        (store, environment), lambda: report_experiments(store, histories, environment, now=datetime.now(UTC))
    )


def get_embedder() -> Embedder:
    """Return the embedding model behind the store's vector cache."""
    return _open_embedder(get_store(), get_config().embedding_model)


def get_tracking() -> Tracking:
    """Return the MLflow gateway."""
    return _open_tracking(get_config().tracking_uri)


def get_corpus() -> Corpus:
    """Return the git and DVC gateway."""
    return _open_corpus(get_config().corpus_repo)


@lru_cache(maxsize=1)
def _open_embedder(store: Store, model: str) -> Embedder:
    return Embedder(model, cache=VectorCache(store))


@lru_cache(maxsize=2)
def _open_tracking(uri: str) -> Tracking:
    return Tracking(uri)


@lru_cache(maxsize=2)
def _open_corpus(location: str) -> Corpus:
    return Corpus(location)
