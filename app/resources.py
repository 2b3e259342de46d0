"""What Streamlit caches for all pages; what one page reads is cached in `app/panels/<page>/resources.py`.

Modules of the name `resources` are the only ones with `st.cache_resource`. Handles (store, model, gateways) are shared
by all visitors. Reads are cached for some seconds by their arguments and shared without a copy, because they are
immutable; `st.cache_data` would copy them for every visitor. Entries with `refresh_mode="background"` are
stale-while-revalidate: they may be up to six times as old as their `ttl`, and no visitor waits for a refresh.
"""

import os
from collections.abc import Callable
from datetime import UTC, date, datetime

import streamlit as st

from core.access.identity import Person
from core.access.roles import list_grants
from core.access.sessions import explain_end, note_use
from core.audit import environments
from core.audit.permissions import Grant
from core.config import Config, load_config
from core.corpus.corpus import Corpus
from core.drift.report import DriftOverview, report_drift
from core.embedding.embed import Embedder
from core.embedding.vectors import VectorCache
from core.errors import QuarterdeckError
from core.jobs.jobs import Jobs
from core.log.calendars import UTC_DAYS, Calendar
from core.log.retrievals import calendar_of, list_scopes
from core.log.services import list_new_scopes
from core.rehearsals.comparing import Rehearsal
from core.tracking.gateway import Tracking
from quarterdeck.clock import now_ms
from quarterdeck.scope import Scope, fold_environment
from quarterdeck.store import Store


@st.cache_resource
def get_config() -> Config:
    """Return the configuration that the server was started with."""
    return load_config(os.environ)


@st.cache_resource(ttl=60)
def is_demo() -> bool:
    """Return whether the demo's data is shown."""
    config = get_config()
    return (config.home / "demo.json").exists() and str(config.home) in config.database_url


@st.cache_resource
def get_store() -> Store:
    """Return the shared store. Opening it is lazy, so this never fails for a missing one."""
    return Store(get_config().database_url, log_url=get_config().log_url)


@st.cache_resource(refresh_mode="background", ttl=5)
def list_environments() -> tuple[str, ...]:
    """Return the configured environment, then the others in the store and in the log; never fails."""
    known = list_known_environments()
    folded = {fold_environment(name) for name in known}
    return (*known, *sorted({fold_environment(scope.environment) for scope in list_services()} - folded))


@st.cache_resource(refresh_mode="background", ttl=5)
def list_known_environments() -> tuple[str, ...]:
    """Return the environments that somebody added or uses for flags or tokens, first the configured one."""
    own = get_config().environment
    try:
        return environments.list_environments(get_store(), own)
    except QuarterdeckError:  # the pages report what is wrong with the store
        return (own,)


@st.cache_resource(refresh_mode="background", ttl=5)
def list_services() -> tuple[Scope, ...]:
    """Return the environments and services that reported anything; never fails."""
    try:
        return list_scopes(get_store())
    except QuarterdeckError:  # the pages report what is wrong with the log
        return ()


@st.cache_resource(refresh_mode="background", ttl=60)
def list_new() -> frozenset[str | Scope]:
    """Return environments that nobody added, known from rows alone, and scopes that report since this week."""
    unknown = set(list_environments()) - set(list_known_environments())
    try:
        return frozenset(unknown) | list_new_scopes(get_store(), now=datetime.now(UTC))
    except QuarterdeckError:
        return frozenset(unknown)


@st.cache_resource(ttl=30, max_entries=200, show_spinner=False)
def load_calendar(scope: Scope) -> Calendar:
    """Return when the days of a scope begin; in UTC while the store cannot be read."""
    try:
        return calendar_of(get_store(), scope)
    except QuarterdeckError:
        return UTC_DAYS


def today_of(scope: Scope) -> date:
    """Return the date that it is for a scope."""
    return load_calendar(scope).day_of(now_ms())


@st.cache_resource(ttl=2, show_spinner=False)
def load_grants() -> tuple[Grant, ...]:
    """Return who holds which role, at most two seconds old."""
    return list_grants(get_store())


@st.cache_resource(ttl=2, max_entries=10_000, show_spinner=False)
def load_end(person: Person) -> str:
    """Return why a session is over, at most two seconds old; "" while it goes on."""
    login = get_config().access.login
    return explain_end(get_store(), person, login, now=datetime.now(UTC)) if login else ""


@st.cache_resource(ttl=60, max_entries=10_000, show_spinner=False)
def note_session(session: str) -> None:
    """Note that a session is in use, at most once a minute."""
    note_use(get_store(), session, now=datetime.now(UTC))


@st.cache_resource
def get_embedder() -> Embedder:
    """Return the embedding model behind the store's vector cache."""
    return Embedder(get_config().embedding_model, cache=VectorCache(get_store()))


@st.cache_resource
def get_tracking() -> Tracking:
    """Return the MLflow gateway."""
    return Tracking(get_config().tracking_uri)


@st.cache_resource
def get_corpus() -> Corpus:
    """Return the git and DVC gateway."""
    return Corpus(get_config().corpus_repo)


@st.cache_resource
def get_jobs() -> Jobs:
    """Return the background jobs of this home, whichever of its servers started them."""
    return Jobs(get_config().home / "jobs")


@st.cache_resource(refresh_mode="background", ttl=15, max_entries=50, show_spinner="Reading the retrieval log …")
def load_drift(scope: Scope, today: date) -> DriftOverview:
    """Return the drift verdict of a scope and its evidence."""
    return report_drift(get_store(), scope=scope, today=today)


@st.cache_resource(ttl=60, max_entries=50, show_spinner="Looking at what a rollback would do …")
def load_rehearsal(
    about: tuple[object, ...],  # noqa: ARG001 - the key: what would be rolled back, and its version
    _read: Callable[[datetime], Rehearsal | None],
) -> Rehearsal | None:
    """Return what a rollback would do, as `_read` finds it now; None if there is nothing to roll back."""
    return _read(datetime.now(UTC))
