"""The HTTP API: JSON and OTLP in and out, our errors as status codes. Runs in the same process as the pages.

Flag endpoints (OFREP and flagd) are in `ofrep.py`; what all handlers share is in `backends.py`. What the pages show and
change is the application of the folder `v1`.
"""

from collections.abc import Sequence
from functools import cache

from fastapi import FastAPI
from starlette import types
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.http import (
    changes_api,
    events,
    exposures_api,
    ofrep,
    operations_api,
    otlp_api,
    records,
    requests_api,
    tools_api,
    verdicts_api,
)
from app.http.v1.app import PREFIX, make_app


async def healthz(_request: Request) -> Response:
    """Answer 200 while the process lives."""
    return JSONResponse({"status": "ok"})


ROUTES = [
    Route("/healthz", healthz),
    *records.ROUTES,
    *changes_api.ROUTES,
    *requests_api.ROUTES,
    *otlp_api.ROUTES,
    *ofrep.ROUTES,
    *exposures_api.ROUTES,
    *events.ROUTES,
    *verdicts_api.ROUTES,
    *operations_api.ROUTES,
]


@cache
def get_v1() -> FastAPI:
    """Return the application of everything else under /v1."""
    return make_app()


def list_observed() -> Sequence[Route]:
    """Return every route by which requests are counted."""
    tools = Route(tools_api.PATH, tools_api.endpoint)
    return [*ROUTES, *(route for route in get_v1().routes if isinstance(route, Route)), tools]


class ApiAhead:
    """Routes the API's paths before the pages', because Streamlit handles paths and methods differently."""

    def __init__(self, app: types.ASGIApp) -> None:
        self._pages = app
        self._plain = {route.path: route for route in ROUTES if "{" not in route.path}
        self._patterns = [route for route in ROUTES if "{" in route.path]

    async def __call__(self, scope: types.Scope, receive: types.Receive, send: types.Send) -> None:
        """Route a request by its path alone: a wrong method is for the API to refuse."""
        if scope["type"] != "http":
            await self._pages(scope, receive, send)
            return
        route, found = self._find(scope["path"])
        own = {**scope, "path_params": found}
        own.pop("app", None)
        if route is not None and scope["method"] in (route.methods or ()):
            # what the route does, without its layers for other apps
            await (await route.endpoint(Request(own, receive, send)))(own, receive, send)
        elif route is not None:
            await route.handle(own, receive, send)
        elif scope["path"] == tools_api.PATH:
            await tools_api.endpoint(scope, receive, send)
        elif scope["path"].startswith(PREFIX):
            await get_v1()(own, receive, send)
        else:
            await self._pages(scope, receive, send)

    def _find(self, path: str) -> tuple[Route | None, dict[str, str]]:
        """The route of a path, and what the path says."""
        if (plain := self._plain.get(path)) is not None:
            return plain, {}
        for route in self._patterns:
            if found := route.path_regex.match(path):
                return route, found.groupdict()
        return None, {}
