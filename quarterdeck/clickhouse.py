"""Gateway to a retrieval log in ClickHouse: a cluster, a server, or the embedded engine (`chdb:///path`).

Rows go into a MergeTree partitioned by month. Materialized views maintain the rollups, whoever inserts; the tables and
views are in `clickhouse_tables.py`.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from threading import RLock
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from sqlalchemy import Connection

from quarterdeck.clickhouse_tables import (
    DECLARED_TABLE,
    ROLLUP_TABLE,
    VIEWS_VERSION,
    list_views,
    make_ddl,
    on_cluster,
    select_sums,
)
from quarterdeck.errors import InvalidInput, SourceUnavailable, first_line
from quarterdeck.retrieval import COLUMNS, FORGETTABLE, Row, to_columns

SCHEMES = ("clickhouse", "clickhouses", "chdb")
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
        self._opening = RLock()
        self._has_tables = False

    @property
    def name(self) -> str:
        """The log's URL without its password."""
        return self._url._replace(netloc=self._url.netloc.rpartition("@")[2]).geturl()

    def append(self, rows: Sequence[Row], within: Connection | None = None) -> int:  # noqa: ARG002 - another database
        """Store checked rows; the views add them to the rollups. Raises SourceUnavailable.

        Return 0: rows that are stored already are not looked for.

        The rows are stored before this returns, whatever becomes of `within`. Sending the very same batch again after
        a fault stores it once: the tables recognize its token.
        """
        former, token = self._refused
        token = token if former is rows else uuid.uuid4().hex
        self._refused = (rows, token)
        once = {"insert_deduplication_token": token, "deduplicate_blocks_in_dependent_materialized_views": 1}
        stored = [(*to_columns(row)[:-1], *row[-1]) for row in rows]
        columns = (*COLUMNS, "environment", "service")
        self._run("insert", f"{self.database}.retrievals", stored, columns, settings=once)
        self._refused = (None, "")
        return 0

    def query(self, sql: str, **parameters: Any) -> Sequence[Sequence[Any]]:
        """Return the rows of a SELECT with parameters written as `{name:Type}`. Raises SourceUnavailable."""
        rows: Sequence[Sequence[Any]] = self._run("query", sql, parameters=parameters).result_rows
        return rows

    def command(self, sql: str, **parameters: Any) -> None:
        """Run a statement with parameters written as `{name:Type}`. Raises SourceUnavailable."""
        self._run("command", sql, parameters)

    def change(self, table: str, assignments: str, where: str, **parameters: Any) -> None:
        """Change columns of the rows of a table that meet a condition, and wait until it is done."""
        settings = " SETTINGS mutations_sync = 2"
        self.command(
            f"ALTER TABLE {table}{on_cluster(self._cluster)} UPDATE {assignments} WHERE {where}{settings}", **parameters
        )

    @property
    def is_cluster(self) -> bool:
        """Whether its tables are on the hosts of a cluster."""
        return bool(self._cluster)

    def create_tables(self) -> None:
        """Create what is missing, and bring the views of an earlier release to this one. Raises SourceUnavailable.

        Once is enough: a further call does nothing.
        """
        with self._opening:
            if self._has_tables:
                return
            for statement in make_ddl(self.database, self._cluster):
                self.command(statement)
            found = self.query(
                "SELECT name, comment FROM system.tables WHERE database = {database:String} "
                "AND engine = 'MaterializedView'", database=self.database,
            )  # fmt: skip
            comments = {str(name): str(comment) for name, comment in found}
            for name, select in list_views(self.database).items():
                if _version_of(comments.get(name, "")) < VIEWS_VERSION:
                    altered = f"ALTER TABLE {self.database}.{name}{on_cluster(self._cluster)} MODIFY"
                    self.command(f"{altered} QUERY {select}")
                    self.command(f"{altered} COMMENT '{VIEWS_VERSION}'")
            self._has_tables = True

    def declare(self, dimensions: Mapping[str, Sequence[str]], at_ms: int) -> None:
        """Count these attributes of rows from now on, by service; the newest declaration of a service counts."""
        rows = [(service, list(names), at_ms) for service, names in dimensions.items()]
        columns = ("service", "names", "declared_ms")
        self._run("insert", f"{self.database}.{DECLARED_TABLE}", rows, columns)

    def list_declared(self) -> dict[str, tuple[tuple[str, ...], int]]:
        """Return the attributes that are counted, by service, and when each declaration was made."""
        found = self.query(
            f"SELECT service, argMax(names, declared_ms), max(declared_ms) FROM {self.database}.{DECLARED_TABLE} "
            "GROUP BY service"
        )
        return {service: (tuple(names), int(at_ms)) for service, names, at_ms in found}

    def roll_up_former_rows(self) -> None:
        """Add the rows of releases that gave rows no id to the rollup. Call it once: it does not look what is there."""
        former = f"(SELECT * FROM {self.database}.retrievals WHERE retrieval_id IS NULL)"
        self._run("command", f"INSERT INTO {self.database}.{ROLLUP_TABLE} {select_sums(former)}")

    def count_before(self, before_ms: int) -> int:
        """Return how many rows are older than `before_ms`."""
        counted = f"SELECT count() FROM {self.database}.retrievals WHERE ts_ms < {{before:Int64}}"
        return int(self.query(counted, before=before_ms)[0][0])

    def purge(self, before_ms: int) -> int:
        """Delete rows older than `before_ms`; return how many. The rollups stay: they hold no text."""
        found = self.count_before(before_ms)
        if found:
            table = f"{self.database}.retrievals{on_cluster(self._cluster)}"
            self._run("command", f"DELETE FROM {table} WHERE ts_ms < {int(before_ms)}")
        return found

    def delete(self, where: str, **parameters: Any) -> None:
        """Delete the rows that meet a condition with parameters written as `{name:Type}`. The rollups stay."""
        self._run(
            "command", f"DELETE FROM {self.database}.retrievals{on_cluster(self._cluster)} WHERE {where}", parameters
        )

    def forget(self, part: str, before_ms: int) -> int:
        """Remove one part of all rows older than `before_ms`; return of how many."""
        column, nothing = FORGETTABLE[part]
        full = f"ts_ms < {int(before_ms)} AND {column} IS NOT NULL AND {column} <> ''"
        found = int(self.query(f"SELECT count() FROM {self.database}.retrievals WHERE {full}")[0][0])
        if found:
            table = f"{self.database}.retrievals{on_cluster(self._cluster)}"
            change = f"ALTER TABLE {table} UPDATE {column} = {nothing} WHERE {full} SETTINGS mutations_sync = 2"
            self._run("command", change)
        return found

    def close(self) -> None:
        """Close the connection. The next use opens a new one."""
        with self._opening:
            if self._opened is not None:
                self._opened.close()
            self._opened = None

    def forget_connections(self) -> None:
        """Drop the connection that a forked child inherited, without closing the parent's."""
        self._opened, self._opening = None, RLock()

    def _run(self, method: str, *arguments: Any, **options: Any) -> Any:
        from clickhouse_connect.driver.exceptions import ClickHouseError

        try:
            return getattr(self._client(), method)(*arguments, **options)
        except (ClickHouseError, OSError) as error:
            raise SourceUnavailable(f"The log {self.name} failed: {first_line(error)}.") from error

    def _client(self) -> Any:
        with self._opening:
            if self._opened is None:
                self._opened = _connect(self._url)
                try:
                    if self._create:
                        self.create_tables()
                except BaseException:
                    self._opened = None
                    raise
            return self._opened


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


def _version_of(comment: str) -> int:
    return int(comment) if comment.isdecimal() else 0
