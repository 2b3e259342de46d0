"""Gateway to a retrieval log in ClickHouse: a cluster, a server, or the embedded engine (`chdb:///path`).

Rows go into a MergeTree partitioned by month. Materialized views maintain the rollups, whoever inserts.
"""

import uuid
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from sqlalchemy import Connection

from quarterdeck.clock import DAY_MS, HOUR_MS
from quarterdeck.errors import InvalidInput, SourceUnavailable
from quarterdeck.retrieval import COLUMNS, Row
from quarterdeck.schema import DIMENSIONS, EMPTY_BIN, HISTOGRAM_BINS

SCHEMES = ("clickhouse", "clickhouses", "chdb")
ROLLUP_TABLES = {HOUR_MS: "rollups_hour", DAY_MS: "rollups_day"}
_DEFAULT_DATABASE = "quarterdeck"


def is_clickhouse(url: str) -> bool:
    """Return whether a URL names ClickHouse."""
    return url.partition(":")[0] in SCHEMES


class ClickHouseLog:
    """The log in ClickHouse. The first use connects, and with `create=True` creates the tables.

    The URL is `clickhouse://user:password@host:8123/database?cluster=name` (`clickhouses://` for TLS), or
    `chdb:///folder?database=name`. The database is `quarterdeck` by default. With a cluster, the tables are created on
    all its hosts, replicated.
    """

    def __init__(self, url: str, *, create: bool = False) -> None:
        self._url = _parse(url)
        options = {name: values[-1] for name, values in parse_qs(self._url.query).items()}
        path = unquote(self._url.path).strip("/")
        named = options.get("database") if self._url.scheme == "chdb" else path
        self.database = _checked_name("database", named or _DEFAULT_DATABASE)
        self._cluster = _checked_name("cluster", options["cluster"]) if "cluster" in options else ""
        self._create = create
        self._refused: tuple[Sequence[Row] | None, str] = (None, "")
        self._opened: Any = None
        self._opening = Lock()

    @property
    def name(self) -> str:
        """The log's URL without its password."""
        return self._url._replace(netloc=self._url.netloc.rpartition("@")[2]).geturl()

    def append(self, rows: Sequence[Row], within: Connection | None = None) -> None:  # noqa: ARG002 - another database
        """Store checked rows; the views add them to the rollups. Raises SourceUnavailable.

        The rows are stored before this returns, whatever becomes of `within`. Sending the very same batch again after
        a fault stores it once: the tables recognize its token.
        """
        former, token = self._refused
        token = token if former is rows else uuid.uuid4().hex
        self._refused = (rows, token)
        once = {"insert_deduplication_token": token, "deduplicate_blocks_in_dependent_materialized_views": 1}
        self._run("insert", f"{self.database}.retrievals", rows, COLUMNS, settings=once)
        self._refused = (None, "")

    def query(self, sql: str, **parameters: Any) -> Sequence[Sequence[Any]]:
        """Return the rows of a SELECT with parameters written as `{name:Type}`. Raises SourceUnavailable."""
        rows: Sequence[Sequence[Any]] = self._run("query", sql, parameters=parameters).result_rows
        return rows

    def count_before(self, before_ms: int) -> int:
        """Return how many rows are older than `before_ms`."""
        counted = f"SELECT count() FROM {self.database}.retrievals WHERE ts_ms < {{before:Int64}}"
        return int(self.query(counted, before=before_ms)[0][0])

    def purge(self, before_ms: int) -> int:
        """Delete rows older than `before_ms`; return how many. The rollups stay: they hold no text."""
        found = self.count_before(before_ms)
        if found:
            table = f"{self.database}.retrievals{_on(self._cluster)}"
            self._run("command", f"DELETE FROM {table} WHERE ts_ms < {int(before_ms)}")
        return found

    def close(self) -> None:
        """Close the connection. The next use opens a new one."""
        with self._opening:
            if self._opened is not None:
                self._opened.close()
            self._opened = None

    def forget_connections(self) -> None:
        """Drop the connection that a forked child inherited, without closing the parent's."""
        self._opened, self._opening = None, Lock()

    def _run(self, method: str, *arguments: Any, **options: Any) -> Any:
        from clickhouse_connect.driver.exceptions import ClickHouseError

        try:
            return getattr(self._client(), method)(*arguments, **options)
        except (ClickHouseError, OSError) as error:
            raise SourceUnavailable(f"The log {self.name} failed: {_first_line(error)}.") from error

    def _client(self) -> Any:
        with self._opening:
            if self._opened is None:
                client = _connect(self._url)
                if self._create:
                    for statement in make_ddl(self.database, self._cluster):
                        client.command(statement)
                self._opened = client
            return self._opened


def make_ddl(database: str, cluster: str = "") -> list[str]:
    """Return the statements that create whatever is missing: database, rows, rollups and their views."""
    on = _on(cluster)
    replicated = "Replicated" if cluster else ""
    label = "LowCardinality(Nullable(String))"
    # Views are fed block by block: every table recognizes a batch that is sent again by its token.
    once = "" if cluster else " SETTINGS non_replicated_deduplication_window = 1000"
    made = [
        f"CREATE DATABASE IF NOT EXISTS {database}{on}",
        f"CREATE TABLE IF NOT EXISTS {database}.retrievals{on} (ts_ms Int64, query String, score Nullable(Float64), "
        f"session_id Nullable(String), {', '.join(f'{name} {label}' for name in DIMENSIONS)}, "
        "latency_ms Nullable(Float64), cost_usd Nullable(Float64), faithfulness Nullable(Float64), "
        f"feedback Nullable(Float64)) ENGINE = {replicated}MergeTree "
        f"PARTITION BY toYYYYMM(fromUnixTimestamp64Milli(ts_ms, 'UTC')) ORDER BY ts_ms{once}",
    ]
    for period_ms, table in ROLLUP_TABLES.items():
        segment = ", ".join(DIMENSIONS)
        made += [
            f"CREATE TABLE IF NOT EXISTS {database}.{table}{on} (start_ms Int64, "
            f"{', '.join(f'{name} LowCardinality(String)' for name in DIMENSIONS)}, bin Int16, n UInt64, "
            f"total Float64, total_squares Float64) ENGINE = {replicated}SummingMergeTree((n, total, total_squares)) "
            f"ORDER BY (start_ms, {segment}, bin){once}",
            f"CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.{table}_view{on} TO {database}.{table} AS "
            f"SELECT start_ms, {', '.join(f'given_{name} AS {name}' for name in DIMENSIONS)}, bin, count() AS n, "
            "sum(value) AS total, sum(value * value) AS total_squares FROM ("
            f"SELECT intDiv(ts_ms, {period_ms}) * {period_ms} AS start_ms, "
            f"{', '.join(_given(name) for name in DIMENSIONS)}, ifNull(score, 0) AS value, "
            f"if(isNull(score), {EMPTY_BIN}, least({HISTOGRAM_BINS - 1}, toInt16(floor(value * {HISTOGRAM_BINS})))) "
            f"AS bin FROM {database}.retrievals) GROUP BY start_ms, {segment}, bin",
        ]
    return made


def _given(name: str) -> str:
    return f"toLowCardinality(ifNull({name}, '')) AS given_{name}"


def _connect(url: SplitResult) -> Any:
    try:
        from clickhouse_connect import get_client
    except ModuleNotFoundError as error:
        raise SourceUnavailable("ClickHouse needs its driver: pip install 'quarterdeck[clickhouse]'.") from error
    if url.scheme == "chdb":
        return _connect_embedded(get_client, unquote(url.path))
    return get_client(
        host=url.hostname,
        port=url.port or (8443 if url.scheme == "clickhouses" else 8123),
        username=unquote(url.username or "default"),
        password=unquote(url.password or ""),
        secure=url.scheme == "clickhouses",
        autogenerate_session_id=False,
    )


def _connect_embedded(get_client: Callable[..., Any], path: str) -> Any:
    try:
        return get_client(dsn=f"chdb://{path}")
    except ImportError as error:
        raise SourceUnavailable("The embedded ClickHouse needs its engine: pip install chdb.") from error


def _parse(url: str) -> SplitResult:
    parsed = urlsplit(url)
    wanted = "give one like clickhouse://host:8123/quarterdeck or chdb:///data/var/log"
    try:
        usable = bool(parsed.path.strip("/") if parsed.scheme == "chdb" else parsed.hostname) and parsed.port != 0
    except ValueError:
        usable = False
    if not usable or (parsed.scheme == "chdb" and parsed.netloc):
        raise InvalidInput("log URL", wanted)
    return parsed


def _checked_name(what: str, name: str) -> str:
    if not name.isidentifier() or not name.isascii():
        raise InvalidInput("log URL", f"the {what} must be a plain name, not {name!r}")
    return name


def _on(cluster: str) -> str:
    return f" ON CLUSTER {cluster}" if cluster else ""


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
