"""A deck below a path of its address: every request finds its place, with and without the path."""

from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from app.http.base_path import BelowPath, WholePath, read_base_path


async def _echo(request: Request) -> PlainTextResponse:
    return PlainTextResponse(request.scope["path"])


async def _talk(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text(socket.scope["path"])
    await socket.close()


ROUTES = [WebSocketRoute("/{path:path}", _talk), Route("/{path:path}", _echo)]


@pytest.fixture
def below() -> Iterator[TestClient]:
    """What stands between the two of them sees paths from the root."""
    with TestClient(Starlette(routes=ROUTES, middleware=[Middleware(BelowPath, base="/deck")])) as client:
        yield client


@pytest.mark.parametrize(
    ("asked", "seen"),
    [("/deck/", "/"), ("/deck/v1/questions", "/v1/questions"), ("/deck/deck/x", "/deck/x"), ("/healthz", "/healthz")],
)
def test_the_path_is_taken_off(below: TestClient, asked: str, seen: str) -> None:
    assert below.get(asked).text == seen


def test_the_path_alone_leads_on(below: TestClient) -> None:
    answer = below.get("/deck", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (307, "/deck/")


@pytest.mark.parametrize("path", ["/", "/v1/questions", "/decks/", "/DECK/", "//deck/"])
def test_nothing_is_outside_of_it(below: TestClient, path: str) -> None:
    answer = below.get(f"http://testserver{path}")
    assert (answer.status_code, answer.json()) == (404, {"error": "there is nothing here; the deck is at /deck/"})


def test_sockets_are_moved_too(below: TestClient) -> None:
    with below.websocket_connect("/deck/_stcore/stream") as socket:
        assert socket.receive_text() == "/_stcore/stream"
    with pytest.raises(WebSocketDisconnect), below.websocket_connect("/_stcore/stream"):
        pass


@pytest.mark.parametrize(("base", "path"), [("/deck", "/deck/static/x.js"), ("", "/static/x.js")])
def test_streamlit_sees_the_whole_path(base: str, path: str) -> None:
    app = Starlette(routes=ROUTES, middleware=[Middleware(BelowPath, base=base), Middleware(WholePath, base=base)])
    with TestClient(app) as client:
        assert client.get(path).text == path


@pytest.mark.parametrize(
    ("given", "path"), [("", ""), ("deck", "/deck"), ("/deck/", "/deck"), ("a/b", "/a/b"), ("//", "")]
)
def test_the_setting_is_streamlits_own(given: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMLIT_SERVER_BASE_URL_PATH", given)
    assert read_base_path() == path
