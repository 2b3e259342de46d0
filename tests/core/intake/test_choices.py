"""What a service's scores are where a row does not say it: the same at every door, and what a row says wins."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, select
from starlette.applications import Starlette
from starlette.testclient import TestClient

from app.http import api, backends
from core.audit.acts import Act
from core.intake.choices import choices_of, kinds_of
from core.intake.importing import import_file, import_traces
from core.intake.tables import TableFile
from core.intake.traces import TraceSource
from core.log.service_operations import save_service
from core.log.services import ServiceSettings
from quarterdeck import Quarterdeck
from quarterdeck.redaction import redact
from quarterdeck.schema import retrievals
from quarterdeck.scope import Scope
from quarterdeck.store import Store

ME = Act("ada", "they use BM25")
NS = 1_772_366_400_000_000_000


def kinds(store: Store) -> list[tuple]:
    with store.read() as connection:
        c = retrievals.c
        rows = connection.execute(select(c.query, c.score_kind, c.score, c.raw_score).order_by(c.query))
        return [tuple(row) for row in rows]


def by_client(url: str, store: Store, folder: Path) -> None:
    with Quarterdeck(url, service="answers", snapshot_path=folder / "flags.json", strict=True) as deck:
        deck.log_retrieval("a", 12.5)
        deck.log_retrieval("b", 0.25, score_kind="cosine_distance")
        deck.log_retrieval("c", 0.5, score_kind="cosine")


def by_http(url: str, store: Store, folder: Path) -> None:
    rows = [
        {"query": "a", "score": 12.5}, {"query": "b", "score": 0.25, "score_kind": "cosine_distance"},
        {"query": "c", "score": 0.5, "score_kind": "cosine"},
    ]  # fmt: skip
    backends.close()
    with TestClient(Starlette(routes=api.ROUTES)) as client:
        answer = client.post("/v1/retrievals", json=[{**row, "service": "answers"} for row in rows])
    backends.close()
    assert answer.json()["stored"] == 3


def by_otlp(url: str, store: Store, folder: Path) -> None:
    spans = []
    for at, (query, score, said) in enumerate(
        (("a", 12.5, None), ("b", 0.25, "cosine_distance"), ("c", 0.5, "cosine"))
    ):
        attributes: dict[str, Any] = {
            "openinference.span.kind": "RETRIEVER", "input.value": query, "retrieval.documents.0.document.id": "d",
            "retrieval.documents.0.document.score": score,
        } | ({"quarterdeck.score_kind": said} if said else {})  # fmt: skip
        spans.append(
            {
                "traceId": f"{at + 1:032x}", "spanId": f"{at + 1:016x}", "name": "search",
                "startTimeUnixNano": str(NS), "endTimeUnixNano": str(NS + 1),
                "attributes": [
                    {"key": key, "value": {"stringValue" if isinstance(value, str) else "doubleValue": value}}
                    for key, value in attributes.items()
                ],
            }
        )  # fmt: skip
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "answers"}}]}
    body = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]}
    backends.close()
    with TestClient(Starlette(routes=api.ROUTES)) as client:
        assert client.post("/v1/traces", json=body).status_code == 200
    backends.close()


def by_file(url: str, store: Store, folder: Path) -> None:
    rows = [
        {"ts": "2026-03-01T12:00:00Z", "query": "a", "score": 12.5},
        {"ts": "2026-03-01T12:00:00Z", "query": "b", "score": 0.25, "score_kind": "cosine_distance"},
        {"ts": "2026-03-01T12:00:00Z", "query": "c", "similarity": 0.5},
    ]
    path = folder / "rows.jsonl"
    path.write_text("\n".join(json.dumps({**row, "service": "answers"}) for row in rows))
    assert import_file(store, TableFile(path), redact=redact).stored == 3


@pytest.mark.parametrize("send", [by_client, by_http, by_otlp, by_file])
def test_a_row_that_names_no_kind_has_that_of_its_service(
    send: Callable[[str, Store, Path], None], store: Store, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", url)
    save_service(store, ServiceSettings("answers", score_kind="bm25"), ME)
    send(url, store, tmp_path)
    assert kinds(store) == [("a", "bm25", None, 12.5), ("b", "cosine_distance", 0.75, 0.25), ("c", None, 0.5, None)]


def test_another_service_and_a_service_without_a_kind_log_cosines(store: Store, url: str) -> None:
    save_service(store, ServiceSettings("answers", score_kind="bm25"), ME)
    with Quarterdeck(url, service="search", strict=True) as deck:
        deck.log_retrieval("a", 0.5)
    assert kinds(store) == [("a", None, 0.5, None)]


@pytest.mark.deep
def test_a_running_client_learns_of_the_kind_and_a_restarted_one_knows_it_without_its_store(
    store: Store, url: str, tmp_path: Path
) -> None:
    path = tmp_path / "flags.json"
    with Quarterdeck(url, service="answers", snapshot_path=path, poll_s=60) as deck:
        deck.log_retrieval("a", 0.5)
        save_service(store, ServiceSettings("answers", score_kind="cosine_distance"), ME)
        assert deck.refresh()
        deck.log_retrieval("b", 0.25)
        deck.flush()
    assert kinds(store) == [("a", None, 0.5, None), ("b", "cosine_distance", 0.75, 0.25)]
    offline = Quarterdeck("postgresql://nobody@127.0.0.1:1/none", service="answers", snapshot_path=path, strict=True)
    assert offline.log_retrieval("c", 1.9)  # no cosine
    with pytest.raises(Exception, match="not stored"):
        offline.close()


@pytest.mark.deep
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")
def test_traces_of_mlflow_have_it_too(store: Store, tmp_path: Path) -> None:
    import mlflow

    uri, former = f"sqlite:///{tmp_path / 'mlflow.db'}", mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    mlflow.create_experiment("bot", artifact_location=str(tmp_path / "bot"))
    mlflow.set_experiment("bot")
    save_service(store, ServiceSettings("default", score_kind="bm25"), ME)
    for query, score, said in (("a", 12.5, {}), ("b", 0.25, {"quarterdeck.score_kind": "cosine_distance"})):
        with mlflow.start_span("search", span_type="RETRIEVER", attributes=said) as span:
            span.set_inputs(query)
            span.set_outputs([{"page_content": "mbufs", "metadata": {"score": score}}])
    mlflow.flush_trace_async_logging()
    mlflow.set_tracking_uri(former)
    assert import_traces(store, TraceSource(uri, experiment="bot"), redact=redact).stored == 2
    assert kinds(store) == [("a", "bm25", None, 12.5), ("b", "cosine_distance", 0.75, 0.25)]


def test_services_without_settings_cost_no_read_each(store):
    save_service(store, ServiceSettings("answers", score_kind="bm25"), ME)
    said: list[str] = []

    def listen(*given: Any) -> None:
        said.append(given[2])

    event.listen(Engine, "before_cursor_execute", listen)
    kind_of, chosen_by = kinds_of(store), choices_of(store)
    for at in range(300):
        new = Scope("production", f"new-{at}")
        assert kind_of(new) == chosen_by(new).score_kind == ""
    assert kind_of(Scope("production", "answers")) == chosen_by(Scope("production", "answers")).score_kind == "bm25"
    event.remove(Engine, "before_cursor_execute", listen)
    assert sum("settings" in each for each in said) <= 4
