"""What a stranger or a careless service can do through the HTTP API of a running server."""

import gzip
import io
import json
import logging
import socket
import uuid
from collections.abc import Iterator

import httpx
import pytest

from app.http.logs import write_logs
from core.config import load_config
from core.safety.scrubbing import list_secrets, scrub
from tests.attacks.conftest import Target, attacking

pytestmark = pytest.mark.slow

COOKIE = "_streamlit_user=2|1:0|10:1764000000|15:_streamlit_user|200:signed-and-secret"
HALVES = {
    "a field's name": b'{"\\ud800": 1, "query": "q", "score": 1}',
    "a field's name among good ones": b'{"query": "q", "score": 1, "a\\udfffb": 1}',
    "a query": b'{"query": "\\ud800", "score": 1}',
    "a label": b'{"query": "q", "score": 1, "arm": "\\udc00"}',
    "a session": b'{"query": "q", "score": 1, "session_id": "\\ud83d"}',
    "a number's place": b'{"query": "q", "score": "\\ud800"}',
    "a time": b'{"query": "q", "score": 1, "ts": "\\ud800"}',
    "raw bytes": b'{"query": "\xed\xa0\x80", "score": 1}',
    "a name deep inside": b'{"query": {"\\ud800": 1}, "score": 1}',
}


@pytest.fixture(scope="module")
def json_target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A server whose log is JSON."""
    home = tmp_path_factory.mktemp("attacked-json") / "home"
    with attacking(home, QUARTERDECK_LOG_FORMAT="json", QUARTERDECK_LOG_LEVEL="debug") as running:
        yield running


@pytest.fixture(params=["text", "json"])
def logging_target(request: pytest.FixtureRequest, target: Target, json_target: Target) -> Target:
    return target if request.param == "text" else json_target


@pytest.mark.deep
@pytest.mark.parametrize("kind", HALVES)
def test_half_a_letter_in_a_row_is_a_bad_request(target: Target, kind: str) -> None:
    for body in (HALVES[kind], b"[" + HALVES[kind] + b"]", b'{"retrievals": [' + HALVES[kind] + b"]}"):
        answer = target.post("/v1/retrievals", body)
        assert answer.status_code == 400
        assert json.dumps(answer.json(), ensure_ascii=False).encode()
    answer = target.post("/v1/retrievals", HALVES[kind] + b"\n", **{"Content-Type": "application/x-ndjson"})
    assert answer.status_code == 400


@pytest.mark.deep
def test_a_row_with_half_a_letter_does_not_take_good_rows_along(target: Target) -> None:
    body = b'[{"query": "what is an mbuf", "score": 0.5}, ' + HALVES["a field's name"] + b"]"
    answer = target.post("/v1/retrievals", body)
    assert (answer.status_code, answer.json()["stored"]) == (207, 1)
    assert [(each["row"], each["field"]) for each in answer.json()["errors"]] == [(1, "row")]


@pytest.mark.deep
@pytest.mark.parametrize(
    "body",
    [
        b'{"\\ud800": 1, "context": {"targetingKey": "u"}}',
        b'{"context": {"targetingKey": "\\ud800"}}',
        b'{"context": {"targetingKey": "u", "\\udfff": 1}}',
        b'{"context": {"targetingKey": "u", "deep": [{"x": "\\ud800"}]}}',
    ],
)
@pytest.mark.parametrize("path", ["/ofrep/v1/evaluate/flags", "/ofrep/v1/evaluate/flags/use_hyde"])
def test_half_a_letter_in_a_context_is_a_bad_request(target: Target, path: str, body: bytes) -> None:
    answer = target.post(path, body, scope="evaluate")
    assert (answer.status_code, answer.json()["errorCode"]) == (400, "PARSE_ERROR")


@pytest.mark.parametrize(
    "body",
    [
        b'{"\\ud800": 1}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"name": "\\ud800"}]}]}]}',
        b'{"resourceSpans": [{"\\ud800": 1}]}',
        b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "\\ud800"}]}]}]}',
    ],
)
def test_half_a_letter_in_a_trace_is_a_bad_request(target: Target, body: bytes) -> None:
    answer = target.post("/v1/traces", body)
    assert (answer.status_code, list(answer.json())) == (400, ["message"])


@pytest.mark.deep
def test_no_token_and_no_cookie_reaches_the_log(logging_target: Target) -> None:
    secret = logging_target.tokens["ingest"]
    for body in (*HALVES.values(), b"{", b"\xff\xfe"):
        logging_target.post("/v1/retrievals", body, Cookie=COOKIE)
    httpx.get(
        f"{logging_target.address}/v1/retrievals", headers={**logging_target.authorize("admin"), "Cookie": COOKIE}
    )
    httpx.get(f"{logging_target.address}/nowhere?token={secret}", headers={"X-Api-Key": secret})
    assert "/v1/retrievals" in logging_target.log
    assert secret not in logging_target.log
    assert "signed-and-secret" not in logging_target.log
    assert "Traceback" not in logging_target.log


@pytest.mark.parametrize("kind", ["text", "json"])
def test_a_traceback_shows_no_variables_and_no_secret_in_its_words(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARTERDECK_OIDC_CLIENT_SECRET", "of-the-provider")
    stream, root = io.StringIO(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    write_logs(load_config({"QUARTERDECK_LOG_FORMAT": kind}), stream)
    try:
        local = "only-in-a-" + "variable"
        try:
            raise RuntimeError(
                "Authorization: Bearer qd_0123456789abcdef, postgresql://deck:pw-of-db@host/db, of-the-provider "
                f"Cookie: {COOKIE}; theme=dark"
            )
        except RuntimeError:
            logging.getLogger("quarterdeck").exception("failed \ud800 with %s", {"x-api-key": "qd_zyxwvutsrqponm"})
        assert local
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.getLogger("quarterdeck").setLevel(logging.NOTSET)
    told = stream.getvalue()
    assert "RuntimeError" in told
    assert "test_http.py" in told
    for secret in (local, "0123456789abcdef", "zyxwvutsrqponm", "pw-of-db", "of-the-provider", "signed-and-secret"):
        assert secret not in told
    if kind == "json":
        assert [json.loads(line)["level"] for line in told.splitlines()] == ["error"]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("GET /v1/retrievals 201 in 3.2 ms", "GET /v1/retrievals 201 in 3.2 ms"),
        ("bearer of good news", "bearer of good news"),
        ("see https://example.org/a@b and ada@example.org", "see https://example.org/a@b and ada@example.org"),
        ("docs-v2-qd index", "docs-v2-qd index"),
    ],
)
def test_what_is_no_secret_stays_in_the_log(text: str, kept: str) -> None:
    assert scrub(text) == kept


def test_the_values_of_settings_that_are_called_secret_are_hidden_and_others_stay() -> None:
    environ = {
        "QUARTERDECK_COOKIE_SECRET": "c" * 40, "OPENAI_API_KEY": "sk-12345678", "QUARTERDECK_REQUIRE_TOKENS": "on",
        "QUARTERDECK_DATABASE_URL": "postgresql://deck:hunter22@db/deck", "HOME": "/home/deck",
    }  # fmt: skip
    assert set(list_secrets(environ)) == {"c" * 40, "sk-12345678", "hunter22"}


INNER = (
    "/_stcore/upload_file/0b0b0b0b-0000-4000-8000-000000000000/1", "/_stcore/upload_file/x", "/_stcore/metrics",
    "/_stcore/script-health-check", "/_stcore/agent/interact", "/_stcore/agent/openapi.json", "/_stcore/agent/mcp",
    "//_stcore/metrics", "/drift/_stcore/metrics", "/%5fstcore/metrics", "/_stcore/health/../metrics", "/_stcore/new",
    "/_stcore/health/_stcore/metrics",
)  # fmt: skip


@pytest.mark.parametrize("path", INNER)
@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE", "OPTIONS"])
def test_what_no_page_uses_of_streamlits_addresses_is_not_there(target: Target, method: str, path: str) -> None:
    with socket.create_connection(("127.0.0.1", int(target.address.rpartition(":")[2])), timeout=60) as connection:
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        connection.sendall(head.encode())
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 403", b"HTTP/1.1 400"))
    assert b"cache_" not in answer


@pytest.mark.parametrize("path", ["/", "/healthz", "/v1/retrievals"])
def test_nothing_is_echoed_to_a_trace(target: Target, path: str) -> None:
    answer = httpx.request("TRACE", f"{target.address}{path}", headers={"Cookie": COOKIE})
    assert answer.status_code in (404, 405)
    assert "signed-and-secret" not in answer.text


def test_a_file_for_a_session_is_not_taken(target: Target) -> None:
    cookies = {"_streamlit_xsrf": "a"}
    answer = httpx.put(
        f"{target.address}/_stcore/upload_file/{uuid.uuid4()}/1", files={"file": b"x" * 5_000_000},
        headers={"X-Xsrftoken": "a"}, cookies=cookies,
    )  # fmt: skip
    assert (answer.status_code, answer.json()) == (404, {"error": "there is nothing here"})


@pytest.mark.parametrize("path", ["/_stcore/health", "/_stcore/host-config"])
def test_what_the_pages_use_is_answered(target: Target, path: str) -> None:
    assert httpx.get(f"{target.address}{path}").status_code == 200


def test_a_small_body_does_not_make_a_large_answer(target: Target) -> None:
    packed = gzip.compress(b"1\n" * 2_000_000)
    headers = {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}
    answer = target.post("/v1/retrievals", packed, **headers)
    assert answer.status_code == 413
    assert answer.json()["error"] == "body: holds more than 20,000 rows; send it in parts"
    assert target.post("/v1/retrievals", b"[" + b"1," * 2_000_000 + b"1]").status_code == 413


def test_of_many_refused_rows_the_first_hundred_are_named_and_all_are_counted(target: Target) -> None:
    good = b'{"query": "what is an mbuf", "score": 0.5}\n'
    answer = target.post("/v1/retrievals", b"1\n" * 19_999 + good, **{"Content-Type": "application/x-ndjson"})
    told = answer.json()
    assert (answer.status_code, told["stored"], told["refused"], len(told["errors"])) == (207, 1, 19_999, 100)
    assert [each["row"] for each in told["errors"]] == list(range(100))
    assert len(answer.content) < 20_000


def test_a_large_context_is_refused_and_one_that_fits_is_evaluated(target: Target) -> None:
    for path in ("/ofrep/v1/evaluate/flags", "/ofrep/v1/evaluate/flags/use_hyde"):
        large = json.dumps({"context": {"targetingKey": "u", "x": "y" * 70_000}}).encode()
        assert target.post(path, large, scope="evaluate").status_code == 413
        packed = {"Content-Encoding": "gzip"}
        assert target.post(path, gzip.compress(large), scope="evaluate", **packed).status_code == 413
        fits = json.dumps({"context": {"targetingKey": "u", "x": "y" * 50_000}}).encode()
        assert target.post(path, fits, scope="evaluate").status_code == 200


def test_an_idempotency_key_is_its_tokens_own(target: Target) -> None:
    body, other = (json.dumps({"query": f"of service {name}", "score": 0.5}).encode() for name in "ab")
    key = {"Idempotency-Key": "batch-1"}
    assert target.post("/v1/retrievals", body, scope="ingest", **key).status_code == 201
    assert target.post("/v1/retrievals", other, scope="admin", **key).status_code == 201
    assert target.post("/v1/retrievals", other, scope="ingest", **key).status_code == 409
    assert target.post("/v1/retrievals", body, scope="ingest", **key).json()["stored"] == 1
