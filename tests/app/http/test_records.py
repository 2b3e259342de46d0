"""Rows and scores over HTTP: every field, ids and duplicates, whose they are, how they are counted, group commit."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import select
from starlette.applications import Starlette
from starlette.testclient import TestClient

from app.http import api, backends
from core.access.credentials import issue_token
from core.access.scopes import TokenScope
from core.audit.acts import Act
from core.intake import deliveries
from core.intake.rows import FIELDS
from quarterdeck.schema import OTHER, intake, metric_sums, retrievals, scopes, scores
from quarterdeck.store import Store

GOOD = {"query": "what is an mbuf", "score": 0.7}
JUDGED = {"retrieval_id": "q-1", "name": "feedback", "value": 1}


@pytest.fixture
def client(url: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", url)
    backends.close()
    with TestClient(Starlette(routes=api.ROUTES)) as opened:
        yield opened
    backends.close()


def authorize(store: Store, environment: str = "staging", services: tuple[str, ...] = (), name: str = "t") -> dict:
    act = Act("ada", "a test", environment)
    secret, _ = issue_token(store, f"{name}-{environment}", [TokenScope.INGEST], act, services=services)
    backends.close()  # or the server knows the former tokens for a second
    return {"Authorization": f"Bearer {secret}"}


def read(store: Store, *columns: str) -> list[tuple]:
    named = {"environment": scopes.c.environment, "service": scopes.c.service}
    query = select(*(named.get(name, retrievals.c.get(name)) for name in columns))
    with store.read() as connection:
        found = connection.execute(
            query.select_from(retrievals.join(scopes, scopes.c.id == retrievals.c.scope_id)).order_by(retrievals.c.id)
        )
        return [tuple(row) for row in found]


def read_scores(store: Store) -> list[tuple]:
    c = scores.c
    with store.read() as connection:
        found = connection.execute(
            select(c.retrieval_id, c.name, c.value, c.environment, c.service).order_by(c.retrieval_id, c.name)
        )
        return [tuple(row) for row in found]


def read_counts(store: Store) -> set[tuple]:
    c = intake.c
    with store.read() as connection:
        query = select(c.environment, c.service, c.source, c.reason, c.n)
        return {tuple(row) for row in connection.execute(query)}


@contextmanager
def watching(*, commits: list[int]) -> Iterator[None]:
    """Note the size of every transaction that the batcher makes."""
    usual = deliveries._store_together

    def counted(store, given, now_ms):
        commits.append(len(given))
        return usual(store, given, now_ms)

    deliveries._store_together = counted
    try:
        yield
    finally:
        deliveries._store_together = usual


def test_every_field_of_the_record_is_stored(client, store):
    row = {
        "ts": "2026-03-01T12:00:00Z", "query": "what is an mbuf", "score": 0.2, "score_kind": "cosine_distance",
        "documents": [{"id": "docs/mbuf.md", "score": 0.2}, "docs/ring.md"], "session_id": "s-1", "user_id": "u-1",
        "service": "Answers", "environment": "Staging", "arm": "green", "prompt_version": "v2", "index_version": "i3",
        "model": "minilm", "latency_ms": 41.5, "cost_usd": 0.01, "tokens": 312, "faithfulness": 0.9, "feedback": -1,
        "attributes": {"tenant": "acme"}, "answer": "ask bob@example.com", "trace_id": "t-1", "span_id": "p-1",
        "retrieval_id": "q-1", "weight": 10,
    }  # fmt: skip
    assert {*row, "error"} == {*FIELDS}
    answer = client.post("/v1/retrievals", json=row)
    assert answer.json() == {"stored": 1, "retrieval_ids": ["q-1"]}
    names = ("environment", "service", "score", "raw_score", "score_kind", "user_id", "model", "tokens", "trace_id")
    assert read(store, *names) == [
        ("staging", "answers", 0.8, 0.2, "cosine_distance", "u-1", "minilm", 312.0, "t-1")
    ]  # fmt: skip
    ((documents, attributes, text, weight),) = read(store, "documents", "attributes", "answer", "weight")
    assert json.loads(documents) == [["docs/mbuf.md", 0.2], ["docs/ring.md", None]]
    assert (json.loads(attributes), text, weight) == ({"tenant": "acme"}, "ask [e-mail]", 10)


def test_a_score_is_optional_and_an_error_is_a_state(client, store):
    rows = [{"query": "q"}, {"query": "q", "documents": ["a"]}, {"query": "q", "error": "timeout"}]
    assert client.post("/v1/retrievals", json=rows).json()["stored"] == 3
    assert read(store, "state") == [(2,), (1,), (3,)]


def test_rows_that_are_stored_already_are_counted_as_duplicates_and_are_no_error(client, store):
    first = client.post("/v1/retrievals", json=GOOD | {"retrieval_id": "q-1"})
    rows = [GOOD | {"retrieval_id": name} for name in ("q-1", "q-2", "q-2")]
    second = client.post("/v1/retrievals", json=rows)
    assert (first.status_code, second.status_code) == (201, 201)
    assert second.json() == {"stored": 1, "retrieval_ids": ["q-2"], "duplicates": 2}
    assert read(store, "retrieval_id") == [("q-1",), ("q-2",)]
    assert read_counts(store) == {
        ("production", "default", "http", "", 2), ("production", "default", "http", "duplicate", 2),
    }  # fmt: skip


def test_what_is_refused_is_counted_by_reason_with_one_redacted_example(client, store):
    rows = [GOOD, GOOD | {"arms": "x"}, {"query": "mail bob@example.com", "score": "high"}]
    assert client.post("/v1/retrievals", json=rows).status_code == 207
    assert read_counts(store) == {
        ("production", "default", "http", "", 1), ("production", "default", "http", "unknown_field", 1),
        ("production", "default", "http", "score", 1),
    }  # fmt: skip
    with store.read() as connection:
        example = connection.scalar(select(intake.c.example).where(intake.c.reason == "score"))
    assert "[e-mail]" in example
    assert "bob@" not in example


def test_a_request_that_is_refused_as_a_whole_is_counted_with_the_next_rows(client, store):
    client.post("/v1/retrievals", content=b"{broken")
    client.post("/v1/scores", content=b"{}", headers={"Content-Type": "text/plain"})
    client.post("/v1/retrievals", json=GOOD)
    assert {("production", "default", "http", "body", 1), ("production", "default", "scores", "content_type", 1)} <= (
        read_counts(store)
    )


@pytest.mark.parametrize("path", ["/v1/retrievals", "/v1/scores"])
def test_unknown_fields_are_one_reason_however_many_names_there_are(client, store, path):
    good = GOOD if path.endswith("retrievals") else JUDGED
    answer = client.post(path, json=[good | {f"made_up_{at}": 1} for at in range(30)])
    assert answer.json()["errors"][0]["field"] == "made_up_0"
    assert {(reason, n) for _, _, _, reason, n in read_counts(store)} == {("unknown_field", 30)}


def test_a_row_gets_the_environment_and_the_only_service_of_its_token(client, store):
    headers = authorize(store, "staging", ("Answers",))
    rows = [GOOD, GOOD | {"environment": "STAGING", "service": "answers"}, GOOD | {"service": "unknown_service:py"}]
    assert client.post("/v1/retrievals", json=rows, headers=headers).status_code == 201
    assert read(store, "environment", "service") == [("staging", "answers")] * 3


@pytest.mark.parametrize("path", ["/v1/retrievals", "/v1/scores"])
@pytest.mark.parametrize(
    ("services", "named"),
    [((), {"environment": "production"}), (("answers",), {"service": "other"}), (("answers", "search"), {})],
    ids=["environment", "service", "none of two"],
)
def test_what_names_another_scope_than_its_token_is_refused_and_counted(client, store, path, services, named):
    headers = authorize(store, "staging", services)
    good = GOOD if path.endswith("retrievals") else JUDGED
    answer = client.post(path, json=good | named, headers=headers)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "scope")
    assert read(store, "id") == read_scores(store) == []
    assert {(environment, reason) for environment, _, _, reason, _ in read_counts(store)} == {("staging", "scope")}


def test_an_idempotency_key_belongs_to_its_token(client, store):
    one, other = authorize(store, "staging"), authorize(store, "production")
    for headers in (one, other, one):
        client.post("/v1/retrievals", json=GOOD, headers={**headers, "Idempotency-Key": "k"})
    assert read(store, "environment") == [("staging",), ("production",)]


def test_scores_are_stored_for_any_id_and_a_later_one_replaces_an_earlier_one(client, store):
    body = [
        JUDGED | {"ts": "2026-03-01T12:00:00Z"},
        JUDGED | {"ts": "2026-03-01T11:00:00Z", "value": -1},
        JUDGED | {"name": "helpful", "value": 0.25, "comment": "ask bob@example.com", "source": "reviewer"},
    ]
    answer = client.post("/v1/scores", json={"scores": body})
    assert (answer.status_code, answer.json()) == (201, {"stored": 3})
    assert read_scores(store) == [
        ("q-1", "feedback", 1.0, "production", "default"), ("q-1", "helpful", 0.25, "production", "default"),
    ]  # fmt: skip
    with store.read() as connection:
        assert connection.scalar(select(scores.c.comment).where(scores.c.name == "helpful")) == "ask [e-mail]"
    assert ("production", "default", "scores", "", 3) in read_counts(store)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"value": "good"}, "value"), ({"value": 2}, "value"), ({"value": None}, "value"), ({"name": ""}, "name"),
        ({"name": "latency_ms"}, "name"), ({"retrieval_id": None}, "retrieval_id"), ({"comment": 7}, "comment"),
        ({"ts": "yesterday"}, "ts"), ({"ts": "2099-01-01T00:00:00Z"}, "ts"),
        ({"vote": 1}, "vote"), ({"service": 7}, "service"),
    ],
)  # fmt: skip
def test_a_wrong_score_is_named_and_the_others_are_stored(client, store, wrong, field):
    answer = client.post("/v1/scores", json=[JUDGED | wrong, JUDGED])
    assert (answer.status_code, answer.json()["stored"]) == (207, 1)
    assert [(each["row"], each["field"]) for each in answer.json()["errors"]] == [(0, field)]


def test_a_service_has_at_most_fifty_names_of_scores(client, store):
    names = [f"name-{at:02}" for at in range(52)]
    answer = client.post("/v1/scores", json=[JUDGED | {"name": name} for name in names])
    assert (answer.status_code, answer.json()["stored"], answer.json()["refused"]) == (207, 50, 2)
    assert "at most 50 names" in answer.json()["errors"][0]["problem"]
    assert client.post("/v1/scores", json=JUDGED | {"name": "name-07"}).status_code == 201
    assert client.post("/v1/scores", json=JUDGED | {"name": "name-51"}).status_code == 400
    assert ("production", "default", "scores", "name", 3) in read_counts(store)


def send_at_once(client: TestClient, bodies: list[dict], **headers: str) -> list[tuple[int, dict]]:
    answers: list[tuple[int, dict]] = [(0, {})] * len(bodies)

    def send(at: int) -> None:
        answer = client.post("/v1/retrievals", json=bodies[at], headers=headers)
        answers[at] = (answer.status_code, answer.json())

    threads = [threading.Thread(target=send, args=(at,)) for at in range(len(bodies))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_requests_that_come_at_once_share_transactions_and_a_refused_one_fails_alone(client, store):
    commits: list[int] = []
    blocker = threading.Event()
    bodies = [GOOD | ({"feedback": 9} if at == 5 else {"session_id": f"s-{at}"}) for at in range(24)]
    usual = deliveries.store_counts

    def wait_once(connection, counts):
        blocker.wait(0.3)  # the others gather while the first transaction is open
        usual(connection, counts)

    deliveries.store_counts = wait_once
    try:
        with watching(commits=commits):
            answers = send_at_once(client, bodies)
    finally:
        deliveries.store_counts = usual
    assert [status for status, _ in answers] == [400 if at == 5 else 201 for at in range(24)]
    assert sum(commits) == 24
    assert len(commits) < 24
    assert len(read(store, "id")) == 23


def test_a_batch_that_the_store_refuses_is_answered_503_to_each_and_may_be_sent_again(client, store):
    with store.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE rollups RENAME TO hidden")
    headers = {"Idempotency-Key": "k"}
    assert {status for status, _ in send_at_once(client, [GOOD] * 6)} == {503}
    assert client.post("/v1/retrievals", json=GOOD, headers=headers).status_code == 503
    assert read(store, "id") == []
    with store.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE hidden RENAME TO rollups")
    assert client.post("/v1/retrievals", json=GOOD, headers=headers).status_code == 201
    assert client.post("/v1/retrievals", json=GOOD, headers=headers).status_code == 201
    assert len(read(store, "id")) == 1


def test_a_row_that_no_one_foresaw_fails_alone(client, store, monkeypatch):
    usual = deliveries.append_retrievals

    def choke(log, rows, *, within):
        if any(row.query == "poison" for row in rows):
            raise RuntimeError("cannot be stored")
        return usual(log, rows, within=within)

    monkeypatch.setattr(deliveries, "append_retrievals", choke)
    given = [deliveries.Delivery("http", parse(row)) for row in (GOOD, GOOD | {"query": "poison"}, GOOD)]
    found = deliveries.store_each(store, given, now_ms=1_772_366_400_000)
    assert [isinstance(each, RuntimeError) for each in found] == [False, True, False]
    assert len(read(store, "id")) == 2


def parse(row: dict) -> tuple:
    from datetime import UTC, datetime

    from core.intake.rows import parse_record
    from quarterdeck.redaction import compose

    return (parse_record(row, read_time=lambda _none: datetime(2026, 3, 1, tzinfo=UTC), redact=compose()),)


def test_what_a_search_failed_with_is_redacted_like_the_query(client, store):
    client.post("/v1/retrievals", json={"query": "q", "error": "cannot embed 'mail bob@example.com'"})
    assert "bob@example.com" not in str(read(store, "attributes"))
    assert "cannot embed" in str(read(store, "attributes"))


def test_numbers_of_rows_are_in_the_rollups_once(client, store):
    client.post("/v1/retrievals", json=[GOOD | {"feedback": 1, "retrieval_id": "q-1"}] * 3)
    c = metric_sums.c
    with store.read() as connection:
        assert connection.execute(select(c.n, c.total).where(c.dimension == "")).all() == [(1, 1.0)]


@pytest.mark.deep
def test_names_beyond_the_bounds_are_others_for_rows_and_scores_alike(client, store):
    names = [{"environment": f"e{n % 30}", "service": f"s{n}", "retrieval_id": f"q-{n}"} for n in range(2_500)]
    answer = client.post("/v1/retrievals", json=[{**GOOD, **each} for each in names])
    assert (answer.status_code, answer.json()["stored"]) == (201, 2_500)
    judged = [{**each, "name": "feedback", "value": 1} for each in names]
    assert client.post("/v1/scores", json=judged).json() == {"stored": 2_500}
    wanted = {(f"q-{n}", *scope) for n, scope in enumerate(read(store, "environment", "service"))}
    assert {(name, environment, service) for name, _, _, environment, service in read_scores(store)} == wanted
    found = {(environment, service) for _, environment, service in wanted}
    assert len({"production", *(environment for environment, _ in found)} - {OTHER}) == 20
    assert max(Counter(environment for environment, service in found if service != OTHER).values()) <= 100
    counted = {(environment, service) for environment, service, *_ in read_counts(store)}
    assert counted <= found
    again = client.post("/v1/retrievals", json=[{**GOOD, **each} for each in names])
    assert again.json() == {"stored": 0, "retrieval_ids": [], "duplicates": 2_500}
