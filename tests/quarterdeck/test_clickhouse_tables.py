"""Views of a log in ClickHouse: those of an earlier release are replaced, those of a later one are kept."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from core.audit.acts import Act
from core.log.dimensions import declare_dimensions
from core.log.readers import open_reader
from core.log.retrievals import list_segment_scores
from core.log.service_operations import save_service
from core.log.services import ServiceSettings
from quarterdeck.clickhouse import ClickHouseLog
from quarterdeck.clickhouse_tables import DECLARED_TABLE, VIEWS_VERSION, list_views
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.schema import settings
from quarterdeck.scope import DEFAULT_SCOPE
from quarterdeck.store import Store
from tests.backends import make_url

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY_MS = 86_400_000
KNOWN = {1: "bbbd62c3a3565130"}  # a digest by version


def write(log: ClickHouseLog, *, tenant: str = "acme") -> None:
    hits = [("a.md", 0.9), ("b.md", 0.5)]
    append_retrievals(log, [Retrieval(NOON, "q", documents=hits, attributes={"tenant": tenant})])


def read_documents(log: ClickHouseLog) -> dict[str, int]:
    found = open_reader(log).list_document_sums(DEFAULT_SCOPE, 0, 40_000 * DAY_MS)
    return {str(name): int(n) for name, _, n, *_ in found}


def test_another_select_has_another_version() -> None:
    written = "\n".join(f"{name}: {select}" for name, select in list_views("deck").items())
    digest = hashlib.sha256(written.encode()).hexdigest()[:16]
    assert KNOWN.get(VIEWS_VERSION) == digest, "raise VIEWS_VERSION and note the digest here"


@pytest.mark.deep
@pytest.mark.slow
@pytest.mark.parametrize(("version", "counted"), [("", 1), (str(VIEWS_VERSION), 0), ("1000", 0)])
def test_views_of_an_earlier_release_are_replaced_alone(version: str, counted: int, tmp_path: Path) -> None:
    url = make_url("clickhouse", tmp_path)
    log = ClickHouseLog(url, create=True)
    select = list_views(log.database)["document_days_view"]
    log.command(f"ALTER TABLE {log.database}.document_days_view MODIFY QUERY {select} HAVING n > 1000")
    log.command(f"ALTER TABLE {log.database}.document_days_view MODIFY COMMENT '{version}'")
    log.close()
    again = ClickHouseLog(url, create=True)
    write(again)
    assert read_documents(again) == ({"a.md": 1, "b.md": 1} if counted else {})
    again.close()


@pytest.mark.deep
@pytest.mark.slow
def test_a_declaration_reaches_a_log_without_the_newest_tables(tmp_path: Path) -> None:
    url = make_url("clickhouse", tmp_path)
    log = ClickHouseLog(url, create=True)
    for name in ("rollups_by_hour_declared_view", DECLARED_TABLE, "document_days_view", "document_days"):
        log.command(f"DROP TABLE {log.database}.{name} SYNC")
    write(log, tenant="before")
    store = Store(f"sqlite:///{tmp_path / 'deck.db'}", create=True, log_url=url)
    save_service(store, ServiceSettings("default", dimensions=("tenant",)), Act("ada", "their tenants"))
    write(log)
    assert list_segment_scores(store, "tenant", scope=DEFAULT_SCOPE).keys() == {"acme"}
    assert read_documents(log) == {"a.md": 1, "b.md": 1}
    assert declare_dimensions(store) == 0
    with store.begin() as connection:
        connection.execute(settings.delete())  # as a restored backup from before it
    assert (declare_dimensions(store), declare_dimensions(store)) == (1, 0)
    assert log.list_declared()["default"][0] == ()
    log.close()
    store.close()


@pytest.mark.deep
@pytest.mark.slow
def test_a_batch_that_is_sent_again_counts_once_in_every_view(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = ClickHouseLog(make_url("clickhouse", tmp_path), create=True)
    log.declare({"default": ["tenant"]}, 1)
    monkeypatch.setattr("quarterdeck.clickhouse.uuid.uuid4", lambda: UUID(int=1))
    write(log)
    write(log)
    assert read_documents(log) == {"a.md": 1, "b.md": 1}
    assert log.query(f"SELECT sum(n) FROM {log.database}.rollups_by_hour WHERE dimension = 'tenant'") == [(1,)]
    log.close()
