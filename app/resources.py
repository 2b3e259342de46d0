"""Everything that Streamlit keeps between runs: the only place with `st.cache_resource`.

Handles (store, model, gateways) are shared by all visitors. Reads are kept for some seconds, by their arguments, and
shared as they are: they are values that nobody changes, and `st.cache_data` would copy them for every visitor. What is
read anew in the background is shown up to twice as old as its `ttl`, and nobody waits for it.
"""

import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from core.abtests import ExperimentReport, report_experiments
from core.backfill import Backfill
from core.behaviour import BehaviourReport, report_behaviour
from core.canaries import CanaryReport, report_canaries
from core.changes import WhatChanged, explain_drift, gather_changes, start_of
from core.config import Config, load_config
from core.contests import LOOKED_AT, Comparison, report_prompts
from core.corpus import Corpus, CorpusFile, Stage, StaleStage, Version, VersionDiff
from core.decisions import Rule
from core.embed import Embedder
from core.environments import list_environments as read_environments
from core.errors import QuarterdeckError
from core.experiments import Experiments
from core.forecasts import get_prediction, measure_in_log, measure_prediction
from core.histories import ArmHistories, share_histories
from core.jobs import Jobs
from core.nearest import Nearest, find_nearest
from core.overview import (
    Area,
    describe_areas,
    describe_corpus,
    describe_coverage,
    describe_drift,
    describe_prompts,
    describe_rollouts,
)
from core.permissions import Grant
from core.prediction import PredictionCheck
from core.previews import MOST_BYTES, Preview
from core.readers import share_readers
from core.reports import (
    Coverage,
    DriftOverview,
    MapPoint,
    map_coverage,
    place_texts,
    report_coverage,
    report_drift,
)
from core.retrievals import Window
from core.roles import list_grants
from core.rollouts import Users, list_recent_users
from core.runs import Run, RunFilter, RunPage, RunSort
from core.sessions import is_ended
from core.vectors import VectorCache
from core.worddiff import TextSegment
from quarterdeck.store import Store


@st.cache_resource
def get_config() -> Config:
    """Return the configuration that the server was started with."""
    return load_config(os.environ)


@st.cache_resource(ttl=60)
def is_demo() -> bool:
    """Tell whether what is shown is the demo's data."""
    config = get_config()
    return (config.home / "demo.json").exists() and str(config.home) in config.database_url


@st.cache_resource
def get_store() -> Store:
    """Return the shared store. Opening it is lazy, so this never fails for a missing one."""
    return Store(get_config().database_url, log_url=get_config().log_url)


@st.cache_resource(refresh_mode="background", ttl=5)
def list_environments() -> tuple[str, ...]:
    """Return the configured environment and then the others that the store knows of; never fails."""
    own = get_config().environment
    try:
        return read_environments(get_store(), own)
    except QuarterdeckError:  # the page that needs the store says what is wrong with it
        return (own,)


@st.cache_resource(ttl=60, max_entries=50, show_spinner="Looking for recent users …")
def load_users(environment: str, flag: str) -> Users:
    """Return the recent users that a change of the flag is tried on."""
    return list_recent_users(get_store(), environment, flag, now=datetime.now(UTC))


def get_histories() -> ArmHistories:
    """Return what is kept of the arms' histories; what the scheduler read a moment ago is not read again."""
    config = get_config()
    return share_histories(config.database_url, config.log_url).up_to(timedelta(seconds=10))


@st.cache_resource(ttl=2, show_spinner=False)
def load_grants() -> tuple[Grant, ...]:
    """Return who holds which role; what is taken away is gone two seconds later."""
    return list_grants(get_store())


@st.cache_resource(ttl=2, max_entries=10_000, show_spinner=False)
def load_is_ended(session: str) -> bool:
    """Return whether somebody signed out of this session."""
    return is_ended(get_store(), session)


@st.cache_resource
def get_embedder() -> Embedder:
    """Return the embedding model behind the store's vector cache."""
    return Embedder(get_config().embedding_model, cache=VectorCache(get_store()))


@st.cache_resource
def get_backfill() -> Backfill:
    """Return the background embedding of new queries."""
    return Backfill(get_embedder())


@st.cache_resource
def get_experiments() -> Experiments:
    """Return the MLflow gateway."""
    return Experiments(get_config().tracking_uri)


@st.cache_resource
def get_corpus() -> Corpus:
    """Return the git and DVC gateway."""
    return Corpus(get_config().corpus_repo)


@st.cache_resource
def get_jobs() -> Jobs:
    """Return the jobs that run beside this server, whichever server of this home started them."""
    return Jobs(get_config().home / "jobs")


@st.cache_resource(refresh_mode="background", ttl=15, max_entries=50, show_spinner="Reading the retrieval log …")
def load_drift(environment: str, today: date, window_days: int, baseline_days: int) -> DriftOverview:
    """Return the drift verdict and what it rests on."""
    return report_drift(
        get_store(), environment=environment, today=today, window_days=window_days, baseline_days=baseline_days
    )


@st.cache_resource(refresh_mode="background", ttl=10, max_entries=10, show_spinner="Reading how the canaries do …")
def load_canaries(environment: str) -> tuple[CanaryReport, ...]:
    """Return how every canary stands."""
    return report_canaries(get_store(), get_histories(), environment, now=datetime.now(UTC))


@st.cache_resource(refresh_mode="background", ttl=10, max_entries=10, show_spinner="Reading how the experiments do …")
def load_abtests(environment: str) -> tuple[ExperimentReport, ...]:
    """Return how every experiment on a flag stands."""
    return report_experiments(get_store(), get_histories(), environment, now=datetime.now(UTC))


@st.cache_resource(refresh_mode="background", ttl=60, max_entries=50, show_spinner="Grouping low-scoring queries …")
def load_coverage(environment: str, today: date, window_days: int, clusters: int | None) -> Coverage:
    """Return the coverage gaps of the window."""
    return report_coverage(
        get_store(),
        get_embedder(),
        environment=environment,
        today=today,
        window_days=window_days,
        clusters=clusters,
        low_score=get_config().low_score,
        embed_new=False,
    )


@st.cache_resource(max_entries=20, show_spinner="Drawing the map …")
def load_places(texts: tuple[str, ...]) -> NDArray[np.float64]:
    """Return where the texts lie on the map: computed once, as long as they stay the same."""
    return place_texts(texts, get_embedder())


def load_map(environment: str, today: date, window_days: int, clusters: int | None) -> tuple[MapPoint, ...]:
    """Return the low-scoring queries of the window as points of a map."""
    return map_coverage(load_coverage(environment, today, window_days, clusters), load_places)


@st.cache_resource(
    refresh_mode="background", ttl=60, max_entries=100, show_spinner="Looking for the nearest documents …"
)
def load_nearest(typical: tuple[str, ...]) -> Nearest:
    """Return the documents of the live index nearest to the typical questions of a topic."""
    return find_nearest(get_store(), get_embedder(), typical)


@st.cache_resource(refresh_mode="background", ttl=15, max_entries=20, show_spinner="Reading MLflow …")
def load_comparison(
    experiment: str, rule: Rule, ceiling_usd: float | None, run_ids: tuple[str, ...], shared_only: bool
) -> Comparison:
    """Return the chosen runs (or the newest of each version) side by side, and the winner by the rule."""
    return report_prompts(
        get_experiments(),
        experiment=experiment,
        rule=rule,
        ceiling_usd=ceiling_usd,
        run_ids=run_ids,
        shared_only=shared_only,
    )


@st.cache_resource(refresh_mode="background", ttl=15, max_entries=50, show_spinner="Reading the runs …")
def load_run_page(where: RunFilter, sort: RunSort, limit: int, offset: int) -> RunPage:
    """Return one page of the runs that pass the filters."""
    return get_experiments().page_runs(where, sort, limit=limit, offset=offset)


@st.cache_resource(refresh_mode="background", ttl=60, max_entries=20, show_spinner="Reading the runs …")
def load_choices(experiment: str) -> tuple[Run, ...]:
    """Return the newest runs of an experiment: what its filters offer."""
    return get_experiments().list_runs(experiment, limit=LOOKED_AT)


@st.cache_resource(refresh_mode="background", ttl=15, max_entries=20, show_spinner="Reading the retrieval log …")
def load_behaviour(name: str, experiment: str, window: Window) -> BehaviourReport:
    """Return what each version of a prompt does in production, beside its offline figures."""
    return report_behaviour(get_store(), get_experiments(), name, experiment=experiment, window=window)


@st.cache_resource(refresh_mode="background", ttl=15, show_spinner="Reading git and DVC …")
def load_versions() -> tuple[Version, ...]:
    """Return the corpus versions, newest first."""
    return get_corpus().list_versions()


@st.cache_resource(ttl=15, max_entries=4, show_spinner="Reading the manifest …")
def load_files(revision: str) -> tuple[CorpusFile, ...]:
    """Return the files of one corpus version."""
    return get_corpus().list_files(revision)


@st.cache_resource(ttl=15, max_entries=4, show_spinner="Comparing the versions …")
def load_diff(old: str, new: str) -> VersionDiff:
    """Return what differs between two corpus versions."""
    return get_corpus().compare_versions(old, new)


@st.cache_resource(ttl=15, max_entries=4, show_spinner="Reading the file …")
def load_preview(revision: str, path: str) -> Preview:
    """Return what can be shown of a file."""
    return share_readers().preview_file(path, get_corpus().read_file(revision, path, most_bytes=MOST_BYTES))


def load_archive(revision: str) -> bytes:
    """Return all files of a corpus version as a zip file."""
    with TemporaryDirectory(prefix="quarterdeck-archive-") as folder:
        return get_corpus().archive(revision, Path(folder) / "archive.zip").read_bytes()


@st.cache_resource(ttl=15, max_entries=4, show_spinner="Comparing the words …")
def load_text_diff(old: str, new: str, path: str, old_path: str | None) -> tuple[TextSegment, ...]:
    """Return the words that differ in one file."""
    return get_corpus().compare_text(old, new, path, old_path=old_path)


@st.cache_resource(ttl=5, max_entries=2, show_spinner="Comparing the pipeline with the working copy …")
def load_pipeline(last_rebuild: str) -> tuple[tuple[Stage, ...], tuple[StaleStage, ...]]:  # noqa: ARG001 - a key
    """Return the stages of the working copy, and which are stale and why; anew when a rebuild ended since."""
    return get_corpus().list_stages(), get_corpus().list_stale_stages()


@st.cache_resource(ttl=300, max_entries=5, show_spinner="Searching the built index …")
def load_search_check(target: str, index_name: str, predicted: str) -> PredictionCheck:  # noqa: ARG001 - keys
    """Return the prediction for a corpus version beside what the index built from it finds."""
    return measure_prediction(get_store(), get_embedder(), get_prediction(get_store(), target))


@st.cache_resource(ttl=60, max_entries=5, show_spinner="Reading the retrieval log …")
def load_log_check(target: str, window: Window) -> PredictionCheck:
    """Return the prediction for a corpus version beside what its queries scored in the log."""
    return measure_in_log(get_store(), get_prediction(get_store(), target), window)


@st.cache_resource(refresh_mode="background", ttl=15, max_entries=20, show_spinner="Looking for what changed …")
def load_what_changed(environment: str, today: date) -> WhatChanged:
    """Return the changes of the last four months, and what of them explains the drop if there is one."""
    since = start_of(today - timedelta(days=120))
    return explain_drift(
        get_store(),
        load_drift(environment, today, 7, 30),
        gather_changes(get_store(), get_corpus, get_experiments, environment=environment, since=since),
        today=today,
        coverage=lambda: load_coverage(environment, today, 7, None),
    )


@st.cache_resource(refresh_mode="background", ttl=15, max_entries=5, show_spinner="Reading every source …")
def load_areas(environment: str, today: date) -> tuple[Area, ...]:
    """Return how each area stands."""
    store, config = get_store(), get_config()

    def explain() -> WhatChanged:
        return load_what_changed(environment, today)

    return describe_areas(
        (
            ("drift", lambda: describe_drift(load_drift(environment, today, 7, 30), explain)),
            ("coverage", lambda: describe_coverage(store, get_embedder(), environment, today, config.low_score)),
            ("prompts", lambda: describe_prompts(get_experiments())),
            ("corpus", lambda: describe_corpus(store, get_corpus())),
            (
                "rollouts",
                lambda: describe_rollouts(
                    store, environment, lambda: load_canaries(environment), lambda: load_abtests(environment)
                ),
            ),
        )
    )
