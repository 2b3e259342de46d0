"""What strangers and holders of small tokens can do under /v1 and at /mcp on a running server: nothing."""

import gzip
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from core.audit.trail import count_audit
from core.flags.operations import create_flag
from core.flags.store import get_flag
from quarterdeck.definitions import boolean_flag
from quarterdeck.store import Store
from tests.app.http.v1.conftest import ACT, STAGING, fill, make_tokens
from tests.attacks.conftest import Target
from tests.browser.conftest import serving

pytestmark = pytest.mark.slow

OFF = {"version": 1, "on": False, "reason": "attack"}
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "list_flags", "arguments": {}}}
JSON_RPC = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A server with rows and flags of two environments, and a token of every kind."""
    home: Path = tmp_path_factory.mktemp("api") / "home"
    home.mkdir()
    url = f"sqlite:///{home / 'quarterdeck.db'}"
    with closing(Store(url, create=True)) as store:
        create_flag(store, "use_hyde", boolean_flag(on=True), ACT)
        create_flag(store, "use_hyde", boolean_flag(on=True), STAGING)
        tokens = make_tokens(store)
    fill(url)
    with serving(home, QUARTERDECK_OTLP_GRPC_PORT="off") as server:
        yield Target(server.address, home, tokens)


def ask(attacked: Target, method: str, path: str, token: str, **options: Any) -> httpx.Response:
    headers = attacked.authorize(token) | options.pop("headers", {})
    return httpx.request(method, f"{attacked.address}{path}", headers=headers, timeout=120, **options)


def count_entries(attacked: Target) -> int:
    with closing(Store(attacked.url)) as store:
        return count_audit(store)


@pytest.mark.deep
def test_no_spelling_of_an_environment_or_a_service_opens_another_one(attacked: Target) -> None:
    before = count_entries(attacked)
    for name in (
        "production",
        "PRODUCTION",
        "prod",
        " Production ",
        "prd",
        "*",
        "production\u0000",
        "%",
        "staging,production",
    ):
        for path in ("/v1/flags", "/v1/verdict", "/v1/questions", "/v1/services", "/v1/views"):
            answer = ask(attacked, "GET", path, "staging", params={"environment": name, "service": "answers"})
            assert answer.status_code in (400, 403, 404), (name, path, answer.text)
        moved = ask(attacked, "PATCH", "/v1/flags/use_hyde", "staging", json={**OFF, "environment": name})
        assert moved.status_code in (400, 403), (name, moved.text)
    for name in ("billing", "BILLING", " billing ", "*", "%", "answers,billing"):
        answer = ask(attacked, "GET", "/v1/questions", "answers", params={"service": name})
        assert answer.status_code in (400, 403, 404), (name, answer.text)
    assert count_entries(attacked) == before


@pytest.mark.deep
def test_no_trick_with_methods_paths_and_headers_changes_anything(attacked: Target) -> None:
    before = count_entries(attacked)
    tricks = {"X-HTTP-Method-Override": "PATCH", "X-Method-Override": "PATCH", "X-Forwarded-User": "ada"}
    ask(attacked, "GET", "/v1/flags/use_hyde", "reader", headers=tricks)
    ask(attacked, "POST", "/v1/flags/use_hyde", "reader", headers=tricks, json=OFF)
    for path in ("/v1//flags/use_hyde", "/V1/flags/use_hyde", "/v1/./flags/use_hyde", "/v1/flags/../flags/use_hyde"):
        assert ask(attacked, "PATCH", path, "reader", json=OFF).status_code in (403, 404, 405), path
    two = [("Authorization", f"Bearer {attacked.tokens['reader']}"), ("X-API-Key", attacked.tokens["editor"])]
    assert httpx.patch(f"{attacked.address}/v1/flags/use_hyde", headers=two, json=OFF).status_code == 403
    foreign = {"Origin": "https://evil.example"}
    for path, body in (("/v1/flags/use_hyde", OFF), ("/mcp", CALL)):
        method = "POST" if path == "/mcp" else "PATCH"
        assert ask(attacked, method, path, "editor", headers=foreign, json=body).status_code == 403, path
    assert count_entries(attacked) == before
    with closing(Store(attacked.url)) as store:
        assert get_flag(store, "production", "use_hyde").view.is_on


@pytest.mark.deep
def test_no_request_is_too_large_to_be_refused(attacked: Target) -> None:
    bomb = gzip.compress(b" " * 200_000_000)
    packed = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    assert ask(attacked, "PATCH", "/v1/flags/use_hyde", "editor", content=bomb, headers=packed).status_code == 413
    for path in (
        "/v1/questions?service=answers&limit=1000000", "/v1/flags?cursor=" + "9" * 5_000,
        "/v1/questions?service=answers&" + "&".join(["filters=low:1"] * 500),
        "/v1/questions?service=answers&filters=text:" + "x" * 5_000, "/v1/flags/" + "x" * 5_000,
    ):  # fmt: skip
        assert ask(attacked, "GET", path, "reader").status_code == 400, path[:60]
    huge = {**CALL, "params": {**CALL["params"], "arguments": {"cursor": "9" * 2_000_000}}}  # type: ignore[dict-item]
    assert ask(attacked, "POST", "/mcp", "reader", json=huge, headers=JSON_RPC).status_code == 413


@pytest.mark.deep
def test_garbage_to_the_tools_is_refused_and_the_server_lives_on(attacked: Target) -> None:
    for content in (
        b"", b"{", b"null", b"[" * 100_000, b"\xff\xfe", json.dumps([CALL] * 1_000).encode(),
        json.dumps({**CALL, "method": "tools/delete"}).encode(), json.dumps({**CALL, "params": []}).encode(),
        json.dumps({**CALL, "params": {"name": "__class__", "arguments": {"x": 1}}}).encode(),
        json.dumps({**CALL, "params": {"name": "get_question", "arguments": {"retrieval_id": {"$ne": 1}}}}).encode(),
    ):  # fmt: skip
        answer = ask(attacked, "POST", "/mcp", "reader", content=content, headers=JSON_RPC)
        failed = answer.status_code >= 400 or "error" in answer.text.lower()
        assert failed and answer.status_code != 500, (content[:60], answer.status_code, answer.text[:200])
    assert "Traceback" not in attacked.log
    assert ask(attacked, "POST", "/mcp", "reader", json=CALL, headers=JSON_RPC).status_code == 200


@pytest.mark.deep
def test_many_slow_reads_leave_the_intake_its_share(attacked: Target) -> None:
    row = json.dumps({"query": "what is an mbuf", "score": 0.5, "service": "answers"}).encode()
    with ThreadPoolExecutor(40) as pool:
        reads = [
            pool.submit(ask, attacked, "GET", f"/v1/overview?service=answers&x={at}", "reader") for at in range(40)
        ]
        time.sleep(0.05)
        stored = [attacked.post("/v1/retrievals", row).status_code for _ in range(5)]
        assert stored == [201] * 5
        assert {each.result().status_code for each in reads} == {200}
