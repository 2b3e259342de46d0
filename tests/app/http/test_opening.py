"""The page that a browser opens has the deck's style, and names scripts that there are."""

import re
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from streamlit.file_util import get_static_dir

from app.http.opening import STYLE, Opening
from app.navigation import TITLES, path_of


async def _pass(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"passed on: {request.method} {request.url.path}")


@pytest.fixture(scope="module")
def client() -> TestClient:
    routes = [Route("/{path:path}", _pass, methods=["GET", "POST"])]
    return TestClient(Starlette(routes=routes, middleware=[Middleware(Opening)]))


@pytest.mark.parametrize("page", TITLES)
def test_every_page_opens_with_the_style_and_streamlits_own_script(client: TestClient, page: str) -> None:
    answer = client.get(f"/{path_of(page)}?service=docs-chat")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-cache")
    assert STYLE.read_text(encoding="utf-8") in answer.text.partition('<div id="root">')[2]
    assert re.search(r'<script type="module" crossorigin src="\./static/js/index\.', answer.text)


def test_the_hints_name_each_script_once_and_only_those_that_there_are(client: TestClient) -> None:
    named = re.findall(r'rel="modulepreload" crossorigin href="\./([^"]+)"', client.get("/").text)
    assert sorted(set(named)) == sorted(named)
    assert [name for name in named if not (Path(get_static_dir()) / name).is_file()] == []
    kinds = {name.rpartition("/")[2].partition(".")[0] for name in named}
    assert {"PlotlyChart", "DataFrame", "Button", "Quiver"} <= kinds


@pytest.mark.parametrize("path", ["/v1/questions", "/drift/", "/nowhere", "/static/js/index.js"])
def test_everything_else_is_passed_on(client: TestClient, path: str) -> None:
    assert client.get(path).text == f"passed on: GET {path}"
    assert client.post("/drift").text == "passed on: POST /drift"


def test_the_name_of_the_first_page_leads_to_the_root(client: TestClient) -> None:
    for asked, location in (
        ("/overview", "./"),
        ("/overview?service=docs-chat&days=7d", "./?service=docs-chat&days=7d"),
    ):
        answer = client.get(asked, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (307, location)
