"""Browsers are told with a page which scripts its charts and tables need, and with nothing else."""

from pathlib import Path

import streamlit
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from app.http.preloading import NEEDED, Preloading, find_script
from app.navigation import TITLES

STATIC = Path(streamlit.__file__).parent / "static"


def ask(path: str, base: str = "") -> str:
    """The header of an answer."""
    routes = [
        Route("/missing", lambda _request: HTMLResponse("no", 404)),
        Route("/data", lambda _request: JSONResponse({})),
        Route("/{page:path}", lambda _request: HTMLResponse("<html>")),
    ]
    with TestClient(Starlette(routes=routes, middleware=[Middleware(Preloading, base=base)])) as client:
        return client.get(path).headers.get("link", "")


def test_a_page_names_the_scripts_of_its_elements_below_the_base_path() -> None:
    chart = find_script("PlotlyChart")
    assert ask("/") == ask("/drift") == f"</static/js/{chart}>; rel=modulepreload; crossorigin"
    assert f"</deck/static/js/{chart}>" in ask("/coverage", "/deck")
    assert ask("/coverage").count("rel=modulepreload") == 2
    assert (ask("/alerts"), ask("/data"), ask("/missing")) == ("", "", "")


def test_the_scripts_are_those_that_streamlit_loads_and_the_pages_are_ours() -> None:
    assert set(NEEDED) <= {"", *TITLES}
    (index,) = (STATIC / "static" / "js").glob("index.*.js")
    loads = index.read_text(encoding="utf-8")
    for script in {find_script(name) for names in NEEDED.values() for name in names}:
        assert f"import(`./{script}`)" in loads
    assert find_script("Nothing") == ""
