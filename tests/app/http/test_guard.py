"""The guard in front of pages and API: what it refuses, drops and adds, with real requests."""

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from app.http.guard import SEAL_HEADER, Guard, get_seal
from app.http.ofrep_answers import JsonAnswer
from core.access.identity import SignIn, read_sign_in
from tests.core.access.test_identity import OIDC, PROXY

LOCAL, HTTPS, BEHIND = SignIn(), read_sign_in(OIDC), read_sign_in(PROXY)


async def show(request: Request) -> Response:
    response = JSONResponse({name: request.headers.getlist(name) for name in request.headers})
    response.set_cookie("a", "b")
    response.set_cookie("c", "d", secure=True)
    return response


async def talk(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_json(dict(socket.headers))
    await socket.close()


def visit(
    access: SignIn, *, host: str = "127.0.0.1", peer: str = "127.0.0.1", base: str = "http://127.0.0.1:8501"
) -> Any:
    app = Starlette(
        routes=[
            Route("/thing", show, methods=["GET", "POST"]), Route("/auth/logout", show), WebSocketRoute("/stream", talk)
        ],
        middleware=[Middleware(Guard, access=access, host=host)],
    )  # fmt: skip
    return TestClient(app, base_url=base, client=(peer, 50_000))


@pytest.mark.parametrize(
    "base", ["http://127.0.0.1:8501", "http://localhost:99", "http://[::1]:8501", "http://localhost"]
)
def test_this_machines_names_are_answered(base: str) -> None:
    assert visit(LOCAL, base=base).get("/thing").status_code == 200


@pytest.mark.parametrize("base", ["http://evil.example:8501", "http://127.0.0.1.evil.example", "http://10.0.0.5:8501"])
def test_a_name_that_somebody_points_at_this_machine_is_refused(base: str) -> None:
    answer = visit(LOCAL, base=base).get("/thing")
    assert (answer.status_code, answer.json()) == (
        403, {"error": "host: this server answers to this machine only; use http://127.0.0.1 or a login"}
    )  # fmt: skip
    assert visit(HTTPS, base=base).get("/thing").status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://127.0.0.1:3000", "https://127.0.0.1:85010", "null", ""]
)
def test_a_page_of_another_site_can_neither_change_nor_listen(origin: str) -> None:
    client = visit(LOCAL)
    assert client.post("/thing", headers={"Origin": origin}).status_code == 403
    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect("ws://127.0.0.1:8501/stream", headers={"Origin": origin}),
    ):
        pass
    assert client.get("/thing", headers={"Origin": origin}).status_code == 200


def test_the_decks_own_pages_and_programs_without_an_origin_get_through() -> None:
    client = visit(LOCAL)
    assert client.post("/thing", headers={"Origin": "http://127.0.0.1:8501"}).status_code == 200
    assert client.post("/thing").status_code == 200
    with client.websocket_connect("ws://127.0.0.1:8501/stream", headers={"Origin": "http://127.0.0.1:8501"}) as socket:
        assert socket.receive_json()[SEAL_HEADER] == get_seal()
    behind = visit(HTTPS, base="http://inner:8501")
    assert behind.post("/thing", headers={"Origin": "https://deck.example.org"}).status_code == 200
    assert behind.post("/thing", headers={"Origin": "https://other.example.org"}).status_code == 403


def test_another_site_cannot_sign_a_visitor_out() -> None:
    client = visit(HTTPS, base="https://deck.example.org")
    assert client.get("/auth/logout", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert client.get("/auth/logout", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200


def test_the_proxys_header_counts_from_the_proxy_and_once() -> None:
    named = {"X-Forwarded-Email": "ada", "x-forwarded-groups": "rag"}
    from_proxy = visit(BEHIND, peer="10.1.0.7").get("/thing", headers=named).json()
    assert (from_proxy["x-forwarded-email"], from_proxy["x-forwarded-groups"]) == (["ada"], ["rag"])
    from_elsewhere = visit(BEHIND, peer="10.2.0.7").get("/thing", headers=named).json()
    assert not {"x-forwarded-email", "x-forwarded-groups"} & set(from_elsewhere)
    twice = visit(BEHIND).get("/thing", headers=[("X-Forwarded-Email", "eve"), ("x-forwarded-email", "ada")]).json()
    assert "x-forwarded-email" not in twice


def test_the_seal_is_the_guards_own() -> None:
    forged = visit(BEHIND).get("/thing", headers={SEAL_HEADER: "forged"}).json()
    assert forged[SEAL_HEADER] == [get_seal()]


def test_every_answer_tells_browsers_what_to_refuse() -> None:
    for answer in (
        visit(LOCAL).get("/thing"),
        visit(LOCAL).get("/none"),
        visit(LOCAL, base="http://evil").get("/thing"),
    ):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"
        assert "strict-transport-security" not in answer.headers


def test_an_answer_of_json_may_load_nothing_at_all() -> None:
    app = Guard(JsonAnswer(b"{}"), LOCAL, "127.0.0.1")
    answer = TestClient(app, base_url="http://127.0.0.1:8501").get("/ofrep/v1/evaluate/flags")
    assert answer.headers.get_list("content-security-policy") == ["default-src 'none'; frame-ancestors 'none'"]
    assert (answer.headers["x-frame-options"], answer.headers["cache-control"]) == ("DENY", "no-store")


def test_under_https_cookies_are_secure_and_browsers_stay_with_it() -> None:
    answer = visit(HTTPS, base="https://deck.example.org").get("/thing")
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    assert [cookie.lower().count("secure") for cookie in answer.headers.get_list("set-cookie")] == [1, 1]
    assert "Secure" not in visit(LOCAL).get("/thing").headers.get_list("set-cookie")[0]
