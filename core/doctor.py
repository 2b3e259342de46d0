"""Shell: checks everything the deck depends on, one thing after another: what is fine, what is not, and what to do.

It changes nothing, and one failing check does not stop the others.
"""

import os
import platform
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

from core.audit.trail import list_audit, list_broken_audit_entries
from core.config import Config
from core.corpus.corpus import Corpus
from core.deployments.deployments import get_deployment, look, open_site
from core.deployments.services import load_services
from core.errors import QuarterdeckError, SourceUnavailable
from core.indexes.backends import open_indexes
from core.indexes.registry import list_aliases, list_indexes
from core.log.retrievals import list_scopes
from core.log.successions import find_successions
from core.tracking.gateway import Tracking
from core.wording.counts import say_names
from quarterdeck.buckets import find_bucketing_problem
from quarterdeck.clock import to_ms
from quarterdeck.hashing import HASH_VERSIONS
from quarterdeck.log import SqlLog, as_log
from quarterdeck.schema import REVISION
from quarterdeck.store import Store, database_path

LEAST_FREE_BYTES = 1_000_000_000
_AHEAD = timedelta(minutes=5)
_SUCCESSION = timedelta(days=30)  # how long a merge is offered
_MOST_NAMED = 5


class State(StrEnum):
    """The result of a check: good, worth attention, or not working."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was found, and what to do about it ("" if it is good)."""

    name: str
    state: State
    found: str
    remedy: str = ""


def examine(config: Config, *, now: datetime, quick: bool = False) -> Iterator[Finding]:
    """Yield one finding per check as it finishes. `quick` skips loading the embedding model, which takes seconds."""
    store = Store(config.database_url, log_url=config.log_url)
    checks: list[tuple[str, Callable[[], Finding], str]] = [
        ("programs", _check_programs, ""),
        ("buckets", _check_buckets, ""),
        ("home", lambda: _check_home(config.home), ""),
        ("store", lambda: _check_store(store), "check QUARTERDECK_DATABASE_URL; `quarterdeck demo` creates a store"),
        ("store, writing", lambda: _check_writing(store), "give the user who runs this write access"),
        ("audit trail", lambda: _check_audit(store, now), ""),
        ("retrieval log", lambda: _check_log(store), "check QUARTERDECK_LOG_URL"),
        ("services", lambda: _check_services(store, now), ""),
        ("MLflow", lambda: _check_mlflow(config), "check MLFLOW_TRACKING_URI"),
        ("corpus", lambda: _check_corpus(config), "check QUARTERDECK_CORPUS_REPO"),
        ("indexes", lambda: _check_indexes(store), "build one: quarterdeck index build VERSION"),
        ("deployments", lambda: _check_deployments(store, config), "for details: quarterdeck deploy status"),
    ]
    if not quick:
        checks.append(("embedding model", lambda: _check_model(config), "check QUARTERDECK_EMBEDDING_MODEL"))
    for name, check, remedy in checks:
        try:
            yield check()
        except QuarterdeckError as error:
            yield Finding(name, State.FAIL, str(error), remedy)
    store.close()


def _check_programs() -> Finding:
    """Versions needed for bug reports, and git, which the corpus needs."""
    versions = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, schema {REVISION}"
    git = shutil.which("git")
    if git is None:
        return Finding("programs", State.FAIL, f"{versions}; git is missing", "install git, which reads the corpus")
    said = subprocess.run([git, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    return Finding("programs", State.OK, f"{versions}, {said}")


def _check_buckets() -> Finding:
    """Whether users are assigned to the same buckets here as in every client."""
    problem = next(filter(None, map(find_bucketing_problem, HASH_VERSIONS)), None)
    if problem is None:
        return Finding("buckets", State.OK, f"users are assigned to the buckets of {' and '.join(HASH_VERSIONS)}")
    return Finding(
        "buckets",
        State.FAIL,
        problem,
        "install the versions of openfeature-flagd-core, mmh3 and cbor2 that constraints.txt of this release pins",
    )


def _check_home(home: Path) -> Finding:
    if not home.exists():
        return Finding("home", State.WARN, f"{home} does not exist yet", "create it with quarterdeck demo, or mkdir")
    try:
        with tempfile.TemporaryFile(dir=home):
            free = shutil.disk_usage(home).free
    except OSError as error:
        remedy = f"give user {os.geteuid()} write access, or set QUARTERDECK_HOME"
        return Finding("home", State.FAIL, f"{home} is not writable: {error.strerror}", remedy)
    found = f"{home} is writable, {free / 1e9:.1f} GB free"
    if free < LEAST_FREE_BYTES:
        return Finding("home", State.WARN, found, "free some space: quarterdeck purge --older-than 90d")
    return Finding("home", State.OK, found)


def _check_store(store: Store) -> Finding:
    with store.read() as connection:
        if store.dialect != "sqlite":
            version = connection.exec_driver_sql("SHOW server_version").scalar()
            return Finding("store", State.OK, f"{store.name}, PostgreSQL {version}")
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
    status = Path(str(database_path(store.url))).stat()
    size = status.st_size
    found = f"{store.name}, {size / 1e6:.1f} MB, journal {mode}"
    if mode != "wal":
        return Finding("store", State.WARN, found, "move it to a local disk; WAL does not work on network drives")
    if status.st_mode & 0o077:
        return Finding(
            "store", State.WARN, f"{found}; other users may read it", f"chmod 600 {database_path(store.url)}"
        )
    return Finding("store", State.OK, found)


class _NothingChanged(Exception):
    """Rolls back the attempt."""


def _check_writing(store: Store) -> Finding:
    try:
        with store.begin() as connection:
            connection.exec_driver_sql("UPDATE settings SET version = version WHERE name = ''")
            raise _NothingChanged
    except _NothingChanged:
        return Finding("store, writing", State.OK, "a transaction was opened and rolled back")


def _check_audit(store: Store, now: datetime) -> Finding:
    broken = list_broken_audit_entries(store)
    if broken:
        remedy = "compare with a backup: quarterdeck restore FILE --check"
        return Finding("audit trail", State.FAIL, f"the chain is broken at entry {broken[0]}", remedy)
    newest = next(iter(list_audit(store, limit=1)), None)
    if newest and newest.ts > now + _AHEAD:
        found = f"the newest entry is dated {newest.ts:%Y-%m-%d %H:%M} UTC, in the future"
        return Finding("audit trail", State.WARN, found, "correct this machine's clock, or the writer's")
    return Finding("audit trail", State.OK, "the hash chain is intact")


def _check_log(store: Store) -> Finding:
    log = as_log(store)
    log.count_before(0)
    return Finding("retrieval log", State.OK, f"{log.name} answers")


def _check_services(store: Store, now: datetime) -> Finding:
    """Who reports, and whether one of them may be another under a new name."""
    known = list_scopes(store)
    if isinstance(as_log(store), SqlLog):
        for succession in find_successions(store, since_ms=to_ms(now - _SUCCESSION)):
            said, _, remedy = succession.offer.rpartition("If it is")
            return Finding("services", State.WARN, said.strip(), f"If it is{remedy}")
    names = say_names([f"{scope.environment}/{scope.service}" for scope in known], _MOST_NAMED)
    return Finding("services", State.OK, f"{names} report" if names else "none reported yet")


def _check_mlflow(config: Config) -> Finding:
    tracking = Tracking(config.tracking_uri)
    names = tracking.list_experiments()
    return Finding("MLflow", State.OK, f"{len(names)} MLflow experiments can be read")


def _check_corpus(config: Config) -> Finding:
    versions = Corpus(config.corpus_repo).list_versions(1)
    if not versions:
        return Finding("corpus", State.WARN, f"{config.corpus_repo} has no versions", "dvc add corpus && git commit")
    return Finding("corpus", State.OK, f"{config.corpus_repo}, newest version {versions[0].name}")


def _check_indexes(store: Store) -> Finding:
    known = {index.name: index for index in list_indexes(store)}
    live = list_aliases(store)
    if not live:
        return Finding("indexes", State.WARN, "no index is live", "quarterdeck index build VERSION, then swap it in")
    for alias in live:
        index = known.get(alias.index_name)
        if index is None:
            raise SourceUnavailable(f"alias {alias.alias!r} points to {alias.index_name}, which is not registered")
        chunks = open_indexes(index.location).count(index.name)
        if chunks != index.chunks:
            raise SourceUnavailable(f"{index.name} has {chunks:,} of {index.chunks:,} chunks")
    return Finding("indexes", State.OK, ", ".join(f"{each.alias} is {each.index_name}" for each in live))


def _check_deployments(store: Store, config: Config) -> Finding:
    services = load_services(config.deployments)
    for service in services:
        found = get_deployment(store, config.environment, service.name)
        sight = look(open_site(service, config.home))
        if sight.proxy_problem:
            raise SourceUnavailable(f"nginx of {service.name} could not be asked: {sight.proxy_problem}")
        if sight.serving is not found.live or not found.settled:
            raise SourceUnavailable(f"nginx of {service.name} follows {sight.serving}, the store says {found.live}")
        if found.live and sight.problems[found.live]:
            raise SourceUnavailable(f"{service.name}: {found.name(found.live)} is live, {sight.problems[found.live]}")
    names = ", ".join(service.name for service in services)
    return Finding("deployments", State.OK, f"{names} match the store" if names else "none on this machine")


def _check_model(config: Config) -> Finding:
    from core.embedding.embed import DEFAULT_MODEL, WEIGHTS_SHA256, Embedder, check_bundled_weights

    weights = "its weights were not checked, only the bundled model has a known sha256"
    if config.embedding_model == DEFAULT_MODEL:
        check_bundled_weights()
        weights = f"its weights are the published ones (sha256 {WEIGHTS_SHA256[:12]}…)"
    length = Embedder(config.embedding_model).embed(["is anybody there?"]).shape[1]
    found = f"{config.embedding_model} returns vectors of {length} dimensions; {weights}"
    return Finding("embedding model", State.OK, found)
