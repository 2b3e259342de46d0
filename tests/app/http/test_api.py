"""The HTTP API: good rows are stored, wrong ones named; a repeated request stores nothing twice."""

import gzip
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import func, select, text
from starlette.applications import Starlette
from starlette.testclient import TestClient

from app.http import api, backends
from core.intake.deliveries import Delivery, store_each
from core.intake.intake import Ticket
from quarterdeck.clock import to_ms
from quarterdeck.retrieval import Retrieval
from quarterdeck.schema import ingest_keys, retrievals
from quarterdeck.store import Store

GOOD = {"query": "what is an mbuf", "score": 0.7}
LINES = {"Content-Type": "application/x-ndjson"}


@pytest.fixture
def client(url: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", url)
    backends.close()
    with TestClient(Starlette(routes=api.ROUTES)) as opened:
        yield opened
    backends.close()


def read(store: Store, *columns: str) -> list[tuple]:
    with store.read() as connection:
        query = select(*(retrievals.c[name] for name in columns)).order_by(retrievals.c.id)
        return [tuple(row) for row in connection.execute(query)]


@pytest.mark.parametrize(
    "body", [[GOOD, GOOD | {"score": None}], {"retrievals": [GOOD, GOOD | {"score": None}]}], ids=["list", "object"]
)
def test_every_good_row_is_stored(client, store, body):
    answer = client.post("/v1/retrievals", json=body)
    assert (answer.status_code, answer.json()["stored"]) == (201, 2)
    assert read(store, "retrieval_id") == [(name,) for name in answer.json()["retrieval_ids"]]
    assert read(store, "query", "score") == [("what is an mbuf", 0.7), ("what is an mbuf", None)]
    assert "access-control-allow-origin" not in answer.headers


def test_a_single_retrieval_needs_no_list(client, store):
    assert client.post("/v1/retrievals", json=GOOD | {"arm": "green"}).json()["stored"] == 1
    assert read(store, "arm") == [("green",)]


def test_json_lines_may_have_blank_ones_and_no_last_line_end(client, store):
    body = f"{json.dumps(GOOD)}\n\r\n{json.dumps(GOOD | {'score': 0.1})}"
    assert client.post("/v1/retrievals", content=body, headers=LINES).json()["stored"] == 2
    assert read(store, "score") == [(0.7,), (0.1,)]


def test_good_rows_are_stored_and_each_wrong_one_is_named_by_index_field_and_problem(client, store):
    rows = [
        GOOD, GOOD | {"feedback": 1.5}, GOOD | {"score": 0.2}, {"query": "q"}, GOOD | {"arms": "x"}, 7,
        GOOD | {"query": "\ud800"}, GOOD | {"score": float("nan")},
    ]  # fmt: skip
    answer = client.post("/v1/retrievals", content=json.dumps(rows))
    assert answer.status_code == 207
    assert answer.json()["stored"] == 3
    assert [(each["row"], each["field"]) for each in answer.json()["errors"]] == [
        (1, "feedback"), (4, "arms"), (5, "row"), (6, "query"), (7, "score"),
    ]  # fmt: skip
    assert answer.json()["errors"][0]["problem"] == "must be a number between -1 and 1, not 1.5"
    assert answer.json()["error"] == "row 1: feedback: must be a number between -1 and 1, not 1.5"
    assert read(store, "score") == [(0.7,), (0.2,), (None,)]


def test_a_line_that_is_not_json_is_a_row_that_is_refused(client, store):
    body = f"{json.dumps(GOOD)}\n{{broken\n{json.dumps(GOOD)}"
    answer = client.post("/v1/retrievals", content=body, headers=LINES)
    assert (answer.status_code, answer.json()["stored"]) == (207, 2)
    assert [(each["row"], each["field"]) for each in answer.json()["errors"]] == [(1, "row")]


def test_when_no_row_is_good_the_request_is_wrong(client, store):
    answer = client.post("/v1/retrievals", json=[GOOD | {"score": "high"}])
    assert (answer.status_code, answer.json()["stored"]) == (400, 0)
    assert read(store, "id") == []


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("2026-03-01T12:00:00Z", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("2026-03-01T12:00:00+02:00", datetime(2026, 3, 1, 10, tzinfo=UTC)),
        (1_772_366_400_123, datetime(2026, 3, 1, 12, 0, 0, 123_000, tzinfo=UTC)),
    ],
)
def test_times_are_iso_with_a_zone_or_whole_milliseconds(client, store, given, stored):
    assert client.post("/v1/retrievals", json=GOOD | {"ts": given}).status_code == 201
    assert read(store, "ts_ms") == [(to_ms(stored),)]


@pytest.mark.parametrize(
    "given",
    ["2026-03-01T12:00:00", "yesterday", "", 1_772_366_400, 1.5, True, [], 10**30, "9999-12-31T23:59:59-14:00"],
)
def test_a_time_that_could_mean_another_is_refused(client, store, given):
    answer = client.post("/v1/retrievals", json=GOOD | {"ts": given})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "ts")


def test_a_row_without_a_time_is_of_now(client, store):
    before = to_ms(datetime.now(UTC))
    client.post("/v1/retrievals", json=GOOD)
    assert before <= read(store, "ts_ms")[0][0] <= to_ms(datetime.now(UTC))


def test_queries_are_redacted_before_they_are_stored(client, store):
    client.post("/v1/retrievals", json=GOOD | {"query": "mail bob@example.com"})
    assert read(store, "query") == [("mail [e-mail]",)]


def test_redaction_can_be_turned_off(client, store, monkeypatch):
    monkeypatch.setenv("QUARTERDECK_REDACT", "off")
    backends.close()
    client.post("/v1/retrievals", json=GOOD | {"query": "mail bob@example.com"})
    assert read(store, "query") == [("mail bob@example.com",)]


def test_the_same_request_again_gets_the_first_answer_and_stores_nothing(client, store):
    rows = [GOOD, GOOD | {"score": "high"}]
    first = client.post("/v1/retrievals", json=rows, headers={"Idempotency-Key": "a-1"})
    second = client.post("/v1/retrievals", json=rows, headers={"Idempotency-Key": "a-1"})
    assert (first.status_code, second.status_code) == (207, 207)
    assert first.json() == second.json()
    assert len(read(store, "id")) == 1


def test_the_same_body_under_another_key_is_another_request(client, store):
    for key in ("a-1", "a-2"):
        assert client.post("/v1/retrievals", json=GOOD, headers={"Idempotency-Key": key}).status_code == 201
    assert len(read(store, "id")) == 2


def test_a_key_cannot_be_used_with_another_body(client, store):
    client.post("/v1/retrievals", json=GOOD, headers={"Idempotency-Key": "a-1"})
    answer = client.post("/v1/retrievals", json=GOOD | {"score": 0.1}, headers={"Idempotency-Key": "a-1"})
    assert answer.status_code == 409
    assert answer.json() == {
        "error": "Idempotency-Key: 'a-1' was used with another body; use a new key for each request"
    }
    assert read(store, "score") == [(0.7,)]


def test_a_request_that_stored_nothing_may_be_mended_under_its_key(client, store):
    headers = {"Idempotency-Key": "a-1"}
    assert client.post("/v1/retrievals", json=GOOD | {"score": "high"}, headers=headers).status_code == 400
    assert client.post("/v1/retrievals", json=GOOD, headers=headers).status_code == 201


@pytest.mark.parametrize("key", ["", "k" * 257])
def test_a_key_of_no_use_is_refused(client, store, key):
    answer = client.post("/v1/retrievals", json=GOOD, headers={"Idempotency-Key": key})
    assert (answer.status_code, answer.json()["error"].partition(":")[0]) == (400, "Idempotency-Key")


def test_a_key_is_kept_for_two_days_and_then_forgotten(store):
    now_ms, day_ms = 1_772_366_400_000, 86_400_000
    for days, key in ((0, "a"), (1, "b"), (1.9, "a"), (2.1, "c")):
        row = Retrieval(datetime(2026, 3, 1, tzinfo=UTC), "q", 0.5)
        delivery = Delivery("http", [row], ticket=Ticket("http", key, "same"))
        store_each(store, [delivery], now_ms=int(now_ms + days * day_ms))
    assert len(read(store, "id")) == 3  # on day 1.9 "a" was still known
    with store.read() as connection:
        kept = connection.scalars(select(ingest_keys.c.key).where(ingest_keys.c.source == "http")).all()
    assert sorted(kept) == ["b", "c"]  # and on day 2.1 no longer


def test_rows_and_key_land_together_or_not_at_all(client, store):
    with store.begin() as connection:
        connection.execute(text("DROP TABLE rollups"))
    answer = client.post("/v1/retrievals", json=GOOD, headers={"Idempotency-Key": "a-1"})
    assert answer.status_code == 503
    assert "\n" not in answer.json()["error"]
    with store.read() as connection:
        assert connection.scalar(select(func.count()).select_from(retrievals)) == 0
        assert connection.scalar(select(func.count()).select_from(ingest_keys)) == 0


def test_two_requests_with_one_key_at_the_same_moment_store_one(client, store):
    answers = []

    def send() -> None:
        answers.append(client.post("/v1/retrievals", json=[GOOD] * 500, headers={"Idempotency-Key": "a-1"}).json())

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [answers[0]] * 8
    assert len(read(store, "id")) == 500


@pytest.mark.parametrize(
    ("content", "headers", "status", "error"),
    [
        (b"[", {}, 400, "body: is not JSON: "),
        (b"[" * 100_000, {}, 400, "body: is not JSON: "),
        (b"\xff", {}, 400, "body: is not JSON: "),
        (b"3", {}, 400, "body: must be a retrieval, a list of them, or an object with the list `retrievals`"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "Content-Type: text/plain is not understood here; send"),
        (
            b"{}",
            {"Content-Encoding": "br"},
            415,
            "Content-Encoding: br is not understood here; send gzip, deflate or none",
        ),
        (b"{}", {"Content-Encoding": "gzip"}, 400, "body: is not gzip: "),
        (gzip.compress(b"[]" * 99)[:-9], {"Content-Encoding": "gzip"}, 400, "body: is not gzip: it ends too early"),
        (b" " * 10_000_001, {}, 413, "body: is larger than 10,000,000 bytes; send it in parts"),
        (gzip.compress(b" " * 10_000_001), {"Content-Encoding": "gzip"}, 413, "body: is larger than 10,000,000 bytes"),
    ],
    ids=["cut", "deep", "bytes", "number", "type", "encoding", "no-gzip", "half-gzip", "large", "bomb"],
)
def test_a_request_that_cannot_be_read_is_refused_in_one_line(client, store, content, headers, status, error):
    answer = client.post("/v1/retrievals", content=content, headers=headers)
    assert (answer.status_code, answer.json()["error"][: len(error)]) == (status, error)
    assert "\n" not in answer.json()["error"]


def test_a_zipped_body_is_unzipped(client, store):
    body = gzip.compress(json.dumps([GOOD] * 3).encode())
    assert client.post("/v1/retrievals", content=body, headers={"Content-Encoding": "gzip"}).json()["stored"] == 3


def test_an_empty_list_is_no_fault(client, store):
    answer = client.post("/v1/retrievals", json=[])
    assert (answer.status_code, answer.json()) == (201, {"stored": 0})


def test_it_answers_while_it_lives_and_serves_the_flags(client):
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/flagd/flags.json").json()["flags"] == {}
