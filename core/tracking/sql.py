"""Gateway to an MLflow database by SQL, read-only: MLflow's own client would migrate its schema.

It is also about 30 times faster than that client. `client.py` reads servers over HTTP, and `gateway.py` writes.
"""

import importlib.util
import json
import math
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from core.errors import InvalidInput, NotConnected, SourceUnavailable
from core.tracking.addresses import check_address, describe
from core.tracking.queries import CHOSEN, Query, Row, backend_of, last_metrics, list_columns
from core.tracking.runs import LINKED_PROMPTS, PromptVersion, Run, RunFilter, RunPage, RunSort, SortKind, parse_links
from core.tracking.tables import AssessedTrace
from core.tracking.traces import read_by_sql
from quarterdeck.errors import first_line

PROMPT_TEXT = "mlflow.prompt.text"

_RUNS = """SELECT r.run_uuid, r.name, e.name AS experiment, r.status, r.start_time, r.artifact_uri
FROM runs r JOIN experiments e ON e.experiment_id = r.experiment_id {joined} WHERE {where}"""
_COUNT = "SELECT COUNT(*) FROM runs r JOIN experiments e ON e.experiment_id = r.experiment_id WHERE {where}"
_PAGE = " ORDER BY {order} LIMIT :limit OFFSET :offset"
# Numbers stored as text are sorted as numbers, before any other text.
_NUMBER_OF_TEXT = {
    "sqlite": "CASE WHEN s.value GLOB '*[0-9]*' AND NOT s.value GLOB '*[^0-9.eE+-]*' THEN CAST(s.value AS REAL) END",
    "postgresql": r"CASE WHEN s.value ~ '^[-+]?\d+(\.\d+)?([eE][-+]?\d+)?$' THEN s.value::float8 END",
}
_PROMPTS = """SELECT v.name, v.version, v.description, v.creation_time, t.value FROM model_versions v
JOIN model_version_tags t ON t.name = v.name AND t.version = v.version AND t.key = :text_key
WHERE v.current_stage != 'Deleted_Internal'"""

_LINKS = """SELECT t.run_uuid, t.value FROM tags t JOIN runs r ON r.run_uuid = t.run_uuid
WHERE t.key = :key AND r.lifecycle_stage = 'active'"""

# Table of key-value rows -> how its value is read, and what replaces NULL. MLflow marks a NaN metric in a separate
# column.
_PIVOTS = {
    "latest_metrics": ("CASE WHEN is_nan THEN NULL ELSE value END", math.nan),
    "params": ("value", ""),
    "tags": ("value", ""),
}

_HAS_SCHEMA = {
    "sqlite": "SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'",
    "postgresql": "SELECT 1 FROM information_schema.tables WHERE table_name = 'alembic_version'",
}
_NAME_ANOTHER = "Set `MLFLOW_TRACKING_URI` to the address of a database created by MLflow, or of its server"
_NO_VALUES: Mapping[str, Any] = {}


_NEWLY_ASSESSED = """SELECT a.trace_id, MAX(a.last_updated_timestamp) FROM assessments a
JOIN trace_info t ON t.request_id = a.trace_id
WHERE t.experiment_id = :experiment AND a.last_updated_timestamp > :since AND t.timestamp_ms < :before
GROUP BY a.trace_id ORDER BY 2"""


class TrackingSqlReader:
    """The runs and prompts of one MLflow database (SQLite or PostgreSQL). Each call opens and closes a connection."""

    def __init__(self, tracking_uri: str) -> None:
        self.uri = tracking_uri

    def list_experiments(self) -> tuple[str, ...]:
        """Return the names of the active experiments, sorted."""
        with self._connect() as query:
            rows = query("SELECT name FROM experiments WHERE lifecycle_stage = 'active'")
        return tuple(sorted(row[0] for row in rows))

    def list_runs(self, where: RunFilter, sort: RunSort, *, limit: int, offset: int) -> tuple[Run, ...]:
        """Return the runs that match the filter, in this order."""
        condition, values = _condition(where)
        with self._connect() as query:
            joined, order, sorting = _order(query, sort, backend_of(self.uri))
            statement = _RUNS.format(where=condition, joined=joined) + _PAGE.format(order=order)
            found = query(statement, {**values, **sorting, "limit": limit, "offset": offset})
            return _assemble_runs(query, self.uri, found)

    def count_runs(self, where: RunFilter) -> int:
        """Return how many runs match the filter."""
        condition, values = _condition(where)
        with self._connect() as query:
            return int(query(_COUNT.format(where=condition), values)[0][0])

    def page_runs(self, where: RunFilter, sort: RunSort, *, limit: int, offset: int) -> RunPage:
        """Return one page of the runs that match the filter, and their total number."""
        return RunPage(self.list_runs(where, sort, limit=limit, offset=offset), self.count_runs(where))

    def get_runs(self, run_ids: Sequence[str]) -> tuple[Run, ...]:
        """Return the existing ones of these runs, in the given order."""
        chosen = f"r.run_uuid IN ({CHOSEN[backend_of(self.uri)]})"
        with self._connect() as query:
            rows = query(_RUNS.format(where=chosen, joined=""), {"ids": json.dumps(list(run_ids))})
            found = {run.run_id: run for run in _assemble_runs(query, self.uri, rows)}
        return tuple(found[run_id] for run_id in run_ids if run_id in found)

    def get_alias(self, name: str, alias: str) -> int | None:
        """Return the version of a registered model behind the alias, or None."""
        with self._connect() as query:
            if not list_columns(query, backend_of(self.uri), "registered_model_aliases"):
                return None
            rows = query(
                "SELECT version FROM registered_model_aliases WHERE name = :name AND alias = :alias",
                {"name": name, "alias": alias},
            )
        return int(rows[0][0]) if rows else None

    def list_prompts(self, name: str | None = None, *, with_runs: bool = True) -> tuple[PromptVersion, ...]:
        """Return every version of every prompt (or of the named one), by name, newest version first.

        The links to runs are stored with the runs; without them, the time does not grow with the number of runs.
        """
        values = {"text_key": PROMPT_TEXT} | ({"name": name} if name is not None else {})
        with self._connect() as query:
            needed = ("model_versions", "model_version_tags", "registered_model_aliases")
            if not all(list_columns(query, backend_of(self.uri), table) for table in needed):
                return ()  # a release of MLflow that had no prompts yet
            return assemble_prompts(
                query(_PROMPTS + (" AND v.name = :name" if name is not None else ""), values),
                query("SELECT name, version, alias FROM registered_model_aliases"),
                query("SELECT name, version, key, value FROM model_version_tags"),
                query(_LINKS, {"key": LINKED_PROMPTS}) if with_runs else (),
            )

    def list_assessed(self, runs: Sequence[Run]) -> Mapping[str, tuple[AssessedTrace, ...]]:
        """Return the assessed traces of these runs, by run id; runs without any are left out."""
        with self._connect() as query:
            return read_by_sql(query, backend_of(self.uri), [run.run_id for run in runs])

    def list_newly_assessed(self, experiment_id: str, *, since_ms: int, before_ms: int) -> tuple[tuple[str, int], ...]:
        """Return the traces that started before a time and were assessed after another: their ids, and when last."""
        with self._connect() as query:
            if not list_columns(query, backend_of(self.uri), "assessments"):
                return ()
            values = {"experiment": int(experiment_id), "since": since_ms, "before": before_ms}
            return tuple((str(name), int(ms)) for name, ms in query(_NEWLY_ASSESSED, values))

    def schema_revision(self) -> str | None:
        """Return the revision of the schema, or None if the database does not exist yet or is empty."""
        if backend_of(self.uri) == "sqlite" and not _sqlite_path(self.uri).is_file():
            return None
        with _open(self.uri) as query:
            if not query(_HAS_SCHEMA[backend_of(self.uri)]):
                return None
            return next((str(row[0]) for row in query("SELECT version_num FROM alembic_version")), None)

    @contextmanager
    def _connect(self) -> Iterator[Query]:
        with _open(self.uri) as query:
            _check_schema(query, self.uri)
            yield query


def assemble_prompts(
    versions: Sequence[Row], aliases: Sequence[Row], tags: Sequence[Row], links: Sequence[Row]
) -> tuple[PromptVersion, ...]:
    """Join the registry's rows into prompt versions: by name, newest version first."""
    aliases_of: defaultdict[tuple[str, int], list[str]] = defaultdict(list)
    tags_of: defaultdict[tuple[str, int], dict[str, str]] = defaultdict(dict)
    runs_of: defaultdict[tuple[str, int], list[str]] = defaultdict(list)
    for name, version, alias in aliases:
        aliases_of[name, int(version)].append(alias)
    for name, version, key, value in tags:
        tags_of[name, int(version)][key] = value
    for run_id, value in links:
        for linked in parse_links(value):
            runs_of[linked].append(run_id)
    found = [
        PromptVersion(
            name=name,
            version=int(version),
            text=text,
            aliases=tuple(sorted(aliases_of[name, int(version)])),
            commit_message=message or "",
            created=moment_of(created),
            run_ids=tuple(sorted(runs_of[name, int(version)])),
            tags={k: v for k, v in tags_of[name, int(version)].items() if not k.startswith(("mlflow.", "_mlflow"))},
        )
        for name, version, message, created, text in versions
    ]
    return tuple(sorted(found, key=lambda prompt: (prompt.name, -prompt.version)))


def moment_of(ms: int | None) -> datetime:
    """Convert MLflow's milliseconds since the epoch to an aware UTC time; None becomes the epoch."""
    return datetime.fromtimestamp((ms or 0) / 1000, UTC)


def _open(uri: str) -> AbstractContextManager[Query]:
    return _open_sqlite(uri) if backend_of(uri) == "sqlite" else _open_server(uri)


def _sqlite_path(uri: str) -> Path:
    return Path(uri.partition(":///")[2].partition("?")[0]).absolute()


@contextmanager
def _open_sqlite(uri: str) -> Iterator[Query]:
    # Without SQLAlchemy, whose import takes as long as reading 10,000 runs.
    path = _sqlite_path(uri)
    if not path.is_file():
        raise NotConnected(f"MLflow store: there is no file {path}; `quarterdeck demo` creates one")
    try:
        # mode=ro neither creates a missing file nor writes to an existing one.
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=3.0)) as connection:
            yield lambda text, values=_NO_VALUES: connection.execute(text, values).fetchall()
    except sqlite3.Error as error:
        remedy = f". {_NAME_ANOTHER}" if "not a database" in str(error) else ""
        raise SourceUnavailable(f"MLflow store {path} could not be read: {first_line(error)}{remedy}") from error


@contextmanager
def _open_server(uri: str) -> Iterator[Query]:
    check_address(uri)
    import sqlalchemy
    from sqlalchemy.exc import ArgumentError, DBAPIError
    from sqlalchemy.pool import NullPool

    try:
        engine = sqlalchemy.create_engine(uri, poolclass=NullPool).execution_options(postgresql_readonly=True)
        with engine.connect() as connection:
            yield lambda text, values=_NO_VALUES: connection.execute(sqlalchemy.text(text), values).all()
    except ArgumentError as error:
        raise InvalidInput("tracking URI", f"{describe(uri)!r} is not a database address") from error
    except ModuleNotFoundError as error:
        raise SourceUnavailable(f"MLflow store {describe(uri)}: its driver {error.name} is not installed") from error
    except DBAPIError as error:
        raise SourceUnavailable(f"MLflow store {describe(uri)}: {first_line(error.orig)}") from error


def _check_schema(query: Query, uri: str) -> None:
    if not query(_HAS_SCHEMA[backend_of(uri)]):
        raise SourceUnavailable(f"MLflow store {describe(uri)}: this database has no MLflow tables. {_NAME_ANOTHER}")
    revisions = [row[0] for row in query("SELECT version_num FROM alembic_version")]
    if len(revisions) != 1 or revisions[0] not in _known_revisions():
        found = ", ".join(revisions) or "none"
        raise SourceUnavailable(
            f"MLflow store {describe(uri)}: unknown schema revision ({found}), perhaps of a newer MLflow than the one "
            "installed here. Nothing was changed; upgrade MLflow here, or use the address of its server."
        )


@lru_cache(maxsize=1)
def _known_revisions() -> frozenset[str]:
    """All schema revisions of the installed MLflow, read from its migration files without importing it."""
    package = importlib.util.find_spec("mlflow")
    folders = package.submodule_search_locations if package and package.submodule_search_locations else []
    files = (path for folder in folders for path in Path(folder).glob("store/db_migrations/versions/*_*.py"))
    return frozenset(path.name.split("_", 1)[0] for path in files)


def _condition(where: RunFilter) -> tuple[str, dict[str, Any]]:
    parts = ["r.lifecycle_stage = 'active'", "e.lifecycle_stage = 'active'"]
    values: dict[str, Any] = {}
    if where.experiment is not None:
        parts.append("e.name = :experiment")
        values["experiment"] = where.experiment
    if where.status is not None:
        parts.append("r.status = :status")
        values["status"] = where.status
    for name, moment, sign in (("since", where.since, ">="), ("until", where.until, "<")):
        if moment is not None:
            parts.append(f"r.start_time {sign} :{name}")
            values[name] = round(moment.timestamp() * 1000)
    wanted = [("params", *pair) for pair in where.params.items()] + ([("tags", *where.tag)] if where.tag else [])
    for number, (table, key, value) in enumerate(wanted):
        parts.append(
            f"EXISTS (SELECT 1 FROM {table} x WHERE x.run_uuid = r.run_uuid"
            f" AND x.key = :key{number} AND x.value = :value{number})"
        )
        values |= {f"key{number}": key, f"value{number}": value}
    return " AND ".join(parts), values


def _order(query: Query, sort: RunSort, backend: str) -> tuple[str, str, dict[str, Any]]:
    """The join required by a sort order, its ORDER BY, and its values."""
    way = "DESC" if sort.descending else "ASC"
    newest = f"r.start_time {way if sort.kind is SortKind.STARTED else 'DESC'}, r.run_uuid"
    if sort.kind is SortKind.STARTED:
        return "", newest, {}
    table = "params" if sort.kind is SortKind.PARAM else last_metrics(query, backend)
    joined = f"LEFT JOIN {table} s ON s.run_uuid = r.run_uuid AND s.key = :sort_key"
    if sort.kind is SortKind.METRIC:
        keys = ["CASE WHEN s.is_nan THEN NULL ELSE s.value END"]
    else:
        keys = [_NUMBER_OF_TEXT[backend], "s.value"]
    # Runs without the value come last in both directions.
    order = [part for key in keys for part in (f"({key}) IS NULL", f"({key}) {way}")]
    return joined, ", ".join([*order, newest]), {"sort_key": sort.key}


def _assemble_runs(query: Query, uri: str, rows: Sequence[Row]) -> tuple[Run, ...]:
    ids = json.dumps([row[0] for row in rows])
    metrics, params, tags = (_pivot(query, table, backend_of(uri), ids) for table in _PIVOTS)
    return tuple(
        Run(
            run_id=run_id,
            name=name or tags[run_id].get("mlflow.runName", ""),
            experiment=experiment,
            status=status,
            started=moment_of(started),
            metrics=metrics[run_id],
            params=params[run_id],
            tags=tags[run_id],
            artifact_uri=artifact_uri,
        )
        for run_id, name, experiment, status, started, artifact_uri in rows
    )


def _pivot(query: Query, table: str, backend: str, ids: str) -> Mapping[str, dict[str, Any]]:
    """Return the key-value rows of the chosen runs as one dictionary per run."""
    expression, missing = _PIVOTS[table]
    of_run: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    kept = last_metrics(query, backend) if table == "latest_metrics" else table
    rows = query(
        f"SELECT run_uuid, key, {expression} FROM {kept} x WHERE run_uuid IN ({CHOSEN[backend]})", {"ids": ids}
    )
    for run_id, key, value in rows:
        of_run[run_id][key] = missing if value is None else value
    return of_run
