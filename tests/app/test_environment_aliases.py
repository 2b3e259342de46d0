"""`prod` means production: through the client, HTTP, OTLP, files, the settings and the options of commands."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from app.http import api, backends
from core.access.credentials import issue_token
from core.access.scopes import TokenScope
from core.audit.acts import Act
from core.audit.operations import add_environment
from core.config import load_config
from core.errors import InvalidInput
from core.flags.operations import create_flag
from core.intake.importing import import_file
from core.intake.tables import TableFile
from core.log.exposures import list_event_names, list_usage
from core.log.retrievals import list_scopes
from core.log.scopes import choose_scope
from quarterdeck.client import Quarterdeck
from quarterdeck.definitions import boolean_flag
from quarterdeck.redaction import compose
from quarterdeck.scope import ALIASES_VARIABLE, Scope, make_scope
from quarterdeck.store import Store

ROW = {"query": "what is an mbuf", "score": 0.7, "service": "http"}
SPAN = {
    "resourceSpans": [{
        "resource": {"attributes": [
            {"key": "service.name", "value": {"stringValue": "otlp"}},
            {"key": "deployment.environment", "value": {"stringValue": "PROD"}},
        ]},
        "scopeSpans": [{"spans": [{
            "traceId": "0" * 31 + "1", "spanId": "0" * 15 + "1", "name": "retrieve",
            "startTimeUnixNano": "1772366400000000000", "endTimeUnixNano": "1772366400100000000",
            "attributes": [
                {"key": "openinference.span.kind", "value": {"stringValue": "RETRIEVER"}},
                {"key": "input.value", "value": {"stringValue": "what is an mbuf"}},
                {"key": "retrieval.documents.0.document.id", "value": {"stringValue": "a"}},
            ],
        }]}],
    }],
}  # fmt: skip


def test_every_door_takes_an_alias_for_its_environment(url: str, store: Store, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", url)
    backends.close()
    with TestClient(Starlette(routes=api.ROUTES)) as web:
        assert web.post("/v1/retrievals", json={**ROW, "environment": "Prod"}).status_code == 201
        assert web.post("/v1/traces", json=SPAN).json() == {}
    backends.close()
    with Quarterdeck(url, environment="prod", service="client") as deck:
        deck.score(str(deck.log_retrieval("what is an mbuf", 0.7)), "feedback", 1)
        deck.track("rated", "user-1")
    path = tmp_path / "rows.csv"
    path.write_text("ts,query,score,environment,service\n2026-03-01T12:00:00Z,what is an mbuf,0.5,prd,file\n")
    import_file(store, TableFile(path), redact=compose())
    names = ("client", "file", "http", "otlp")
    assert list_scopes(store) == tuple(Scope("production", name) for name in names)
    assert [each.event for each in list_event_names(store, "production", since=datetime(2026, 1, 1, tzinfo=UTC))] == [
        "rated"
    ]
    chosen = choose_scope(list_scopes(store), environment="prod", service="http", own="staging")
    assert chosen == Scope("production", "http")


def test_a_client_reads_the_flags_of_what_its_environment_stands_for(url, store):
    create_flag(store, "use_reranker", boolean_flag(on=True), Act("ada", "a test", "production"))
    with Quarterdeck(url, environment="prod") as deck:
        assert list(deck.snapshot.definitions) == ["use_reranker"]
        deck.is_enabled("use_reranker", "user-1")
    assert "use_reranker" in list_usage(store, "production", since=datetime(2026, 1, 1, tzinfo=UTC))


def test_flags_that_were_kept_under_an_alias_stay_where_they_are(url, store):
    create_flag(store, "old_flag", boolean_flag(on=True), Act("ada", "a test", "prod"))
    with Quarterdeck(url, environment="prod") as deck:
        assert list(deck.snapshot.definitions) == ["old_flag"]
    assert load_config({"QUARTERDECK_DATABASE_URL": url}, environment="prod").environment == "prod"
    assert load_config({"QUARTERDECK_DATABASE_URL": url}, environment="stage").environment == "staging"


def test_the_setting_replaces_the_usual_aliases(monkeypatch):
    monkeypatch.setenv(ALIASES_VARIABLE, "live=production, UAT=staging")
    found = [make_scope(name).environment for name in ("LIVE", "uat", "prod")]
    assert found == ["production", "staging", "prod"]
    monkeypatch.setenv(ALIASES_VARIABLE, "off")
    assert make_scope("prod").environment == "prod"


@pytest.mark.parametrize("wrong", ["prod", "=production", "prod=", "production=live", "a=b,b=c", "a=b=c"])
def test_a_setting_that_is_no_list_of_aliases_is_refused_at_the_start(wrong):
    with pytest.raises(InvalidInput, match=ALIASES_VARIABLE):
        load_config({ALIASES_VARIABLE: wrong})


def test_a_token_of_an_environment_takes_its_alias_and_no_other(url, store, monkeypatch):
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", url)
    secret, _ = issue_token(store, "t", [TokenScope.INGEST, TokenScope.EVALUATE], Act("ada", "a test", "production"))
    backends.close()
    with TestClient(Starlette(routes=api.ROUTES), headers={"Authorization": f"Bearer {secret}"}) as web:
        assert web.post("/v1/retrievals", json={**ROW, "environment": "prod"}).status_code == 201
        assert web.post("/v1/retrievals", json={**ROW, "environment": "stage"}).status_code == 400
        assert web.get("/flagd/flags.json?environment=prod").status_code == 200
        assert web.get("/flagd/flags.json?environment=stage").status_code == 403
    backends.close()


def test_no_environment_is_added_under_an_alias(store):
    with pytest.raises(InvalidInput, match="prod is an alias of production"):
        add_environment(store, "prod", Act("ada", "a test", "production"))
