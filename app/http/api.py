"""The HTTP API: JSON and OTLP in and out, our errors as status codes. Runs in the same process as the pages.

Flag endpoints (OFREP and flagd) are in `ofrep.py`; what all handlers share is in `backends.py`.
"""

from starlette import types
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route, Router

from app.http import changes_api, ofrep, operations_api, otlp_api, records, requests_api


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
    *operations_api.ROUTES,
]


class ApiAhead:
    """Routes the API's paths before the pages', because Streamlit handles paths and methods differently."""

    def __init__(self, app: types.ASGIApp) -> None:
        self._pages = app
        self._api = Router(ROUTES)
        self._plain = {route.path: route for route in ROUTES if "{" not in route.path}

    async def __call__(self, scope: types.Scope, receive: types.Receive, send: types.Send) -> None:
        """Route a request by its path alone: a wrong method is for the API to refuse."""
        if scope["type"] == "http" and (route := self._plain.get(scope["path"])) is not None:
            own = {name: value for name, value in scope.items() if name != "app"}
            if scope["method"] in (route.methods or ()):  # what the route does, without its layers for other apps
                await (await route.endpoint(Request(own, receive, send)))(own, receive, send)
            else:
                await route.handle(own, receive, send)
        elif scope["type"] == "http" and any(route.matches(scope)[0] is not Match.NONE for route in ROUTES):
            own = {name: value for name, value in scope.items() if name != "app"}
            await self._api(own, receive, send)
        else:
            await self._pages(scope, receive, send)
