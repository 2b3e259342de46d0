"""Gateway to the schema of an MLflow database: which tables and columns there are, and SQL for older ones.

MLflow has added tables since 1.0, and a database keeps those of the release that last wrote it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

Row = Sequence[Any]

# The ids of the chosen runs, given as a JSON list.
CHOSEN = {
    "sqlite": "SELECT value FROM json_each(:ids)",
    "postgresql": "SELECT json_array_elements_text(CAST(:ids AS json))",
}
_COLUMNS = {
    "sqlite": "SELECT name FROM pragma_table_info(:table)",
    "postgresql": "SELECT column_name FROM information_schema.columns WHERE table_name = :table",
}
# MLflow 1.0 kept every value of a metric, and no table of the last ones.
_LAST_METRICS = """(SELECT m.run_uuid, m.key, m.value, {is_nan} AS is_nan FROM metrics m WHERE NOT EXISTS (
SELECT 1 FROM metrics n WHERE n.run_uuid = m.run_uuid AND n.key = m.key
AND (n.timestamp > m.timestamp OR (n.timestamp = m.timestamp AND n.value > m.value))))"""


class Query(Protocol):
    """Runs one SELECT with named values on an open, read-only connection."""

    def __call__(self, text: str, values: Mapping[str, Any] = ..., /) -> Sequence[Row]: ...


def backend_of(uri: str) -> str:
    """Return the database's dialect: sqlite or postgresql."""
    return "sqlite" if uri.startswith("sqlite") else "postgresql"


def list_columns(query: Query, backend: str, table: str) -> frozenset[str]:
    """Return the columns of a table; none for a table that this release of MLflow did not have."""
    return frozenset(str(row[0]) for row in query(_COLUMNS[backend], {"table": table}))


def last_metrics(query: Query, backend: str) -> str:
    """Return the table, or the subquery, that holds the last value of each metric."""
    if list_columns(query, backend, "latest_metrics"):
        return "latest_metrics"
    is_nan = "m.is_nan" if "is_nan" in list_columns(query, backend, "metrics") else "(1 = 0)"
    return _LAST_METRICS.format(is_nan=is_nan)
