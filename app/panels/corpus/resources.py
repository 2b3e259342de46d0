"""What the corpus page reads, cached for some seconds: versions, files, documents, the pipeline, and predictions."""

from contextlib import suppress
from datetime import date
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import streamlit as st

from app.resources import get_config, get_corpus, get_embedder, get_store
from core.corpus.manifests import CorpusFile
from core.corpus.pipeline import Stage, StaleStage
from core.corpus.previews import MOST_BYTES, Preview
from core.corpus.readers import share_readers
from core.corpus.versions import Version, VersionDiff
from core.corpus.worddiff import TextSegment
from core.coverage.report import find_threshold
from core.errors import QuarterdeckError
from core.indexes.builds import find_live
from core.jobs.looking import Lookup
from core.log.documents import list_documents
from core.log.retrievals import Window
from core.predictions.prediction import PredictionCheck
from core.predictions.predictions import get_prediction, measure_in_log, measure_prediction
from core.questions.documents import DocumentReport, report_documents
from core.questions.effects import DocumentEffect, measure_effect
from core.questions.twins import DuplicateReport, report_duplicates
from core.replay.comparison import ReplayResult
from core.replay.report import show_replay
from quarterdeck.scope import Scope

_MOST_COMPARED = 10  # newest versions in which a change of a document is looked for


@st.cache_resource(refresh_mode="background", ttl=15, show_spinner="Reading git and DVC …")
def load_versions() -> tuple[Version, ...]:
    """Return the corpus versions, newest first."""
    return get_corpus().list_versions()


@st.cache_resource(ttl=15, max_entries=4, show_spinner="Reading the manifest …")
def load_files(revision: str) -> tuple[CorpusFile, ...]:
    """Return the files of one corpus version."""
    return get_corpus().list_files(revision)


@st.cache_resource(ttl=15, max_entries=4, show_spinner=False)
def load_notes(revision: str) -> tuple[str, ...]:
    """Return what is left out of one corpus version, and why."""
    return get_corpus().list_notes(revision)


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
    """Return the stages of the working copy, and which are stale and why; read again after a rebuild."""
    return get_corpus().list_stages(), get_corpus().list_stale_stages()


@st.cache_resource(ttl=300, max_entries=5, show_spinner="Searching the built index …")
def load_search_check(target: str, scope: Scope, index_name: str, predicted: str) -> PredictionCheck:  # noqa: ARG001 - keys
    """Return the prediction for a corpus version compared with what the index built from it finds."""
    return measure_prediction(get_store(), get_embedder(), get_prediction(get_store(), target, scope), scope)


@st.cache_resource(ttl=60, max_entries=5, show_spinner="Reading the retrieval log …")
def load_log_check(target: str, scope: Scope, window: Window) -> PredictionCheck:
    """Return the prediction for a corpus version compared with its queries' scores in the log."""
    return measure_in_log(get_store(), get_prediction(get_store(), target, scope), window, scope)


@st.cache_resource(refresh_mode="background", ttl=60, max_entries=20, show_spinner="Adding up the documents …")
def load_documents(scope: Scope, first: date, last: date) -> DocumentReport:
    """Return the documents that were found on some days, with the corpus as far as it can be read."""
    live: tuple[str, ...] = ()
    changed: dict[str, str] = {}
    with suppress(QuarterdeckError):  # without the corpus the log still says which documents carry the traffic
        live, changed = _list_live_paths(), _list_changes(tuple(version.name for version in load_versions()))
    below = find_threshold(get_store(), scope=scope, today=last, low_score=get_config().low_score)
    found = list_documents(get_store(), scope, first=first, last=last)
    return report_documents(found, below=below, indexed=live, changed_in=changed)


@st.cache_resource
def get_duplicates() -> Lookup[str, DuplicateReport | None]:
    """Return the search for near duplicates, in the background, by the name of the live index."""
    store, embedder = get_store(), get_embedder()  # not in the thread
    return Lookup(lambda _index_name: report_duplicates(store, embedder), lasts_s=3_600)


@st.cache_resource(ttl=60, max_entries=100, show_spinner="Measuring the change …")
def load_effect(scope: Scope, document: str, version: str, today: date) -> DocumentEffect | None:
    """Return what a version did to the questions of a document that it changed."""
    below = find_threshold(get_store(), scope=scope, today=today, low_score=get_config().low_score)
    return measure_effect(get_store(), scope, document, version, below=below, today=today)


@st.cache_resource(ttl=60, show_spinner=False)
def _list_live_paths() -> tuple[str, ...]:
    """Return the files of the corpus version whose index is live; none where nothing is live."""
    live = find_live(get_store(), "default")
    return () if live is None else tuple(file.path for file in get_corpus().list_files(live.corpus_version))


@st.cache_resource(max_entries=4, show_spinner="Comparing the versions …")
def _list_changes(names: tuple[str, ...]) -> dict[str, str]:
    """Return the version that changed each file last, among the newest versions; names newest first."""
    found: dict[str, str] = {}
    for new, old in pairwise(names[: _MOST_COMPARED + 1]):
        for change in get_corpus().compare_versions(old, new).changes:
            found.setdefault(change.path, new)
    return found


@st.cache_resource(ttl=60, max_entries=8, show_spinner="Reading the questions …")
def load_replay(kept: ReplayResult, *, readable: bool) -> ReplayResult:
    """Return a kept replay with the texts that the visitor may read."""
    return show_replay(get_store(), kept, readable=readable)
