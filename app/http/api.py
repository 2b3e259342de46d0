"""The HTTP API: JSON and OTLP in and out, our errors as status codes. Runs in the same process as the pages.

Flag endpoints (OFREP and flagd) are in `ofrep.py`; what all handlers share is in `backends.py`.
"""

from starlette import types
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route

from app.http import changes_api, events, ofrep, operations_api, otlp_api, records, verdicts_api


async def healthz(_request: Request) -> Response:
    """Answer 200 while the process lives."""
    return JSONResponse({"status": "ok"})


ROUTES = [
    Route("/healthz", healthz),
    *records.ROUTES,
    *changes_api.ROUTES,
    *otlp_api.ROUTES,
    *ofrep.ROUTES,
    *events.ROUTES,
    *verdicts_api.ROUTES,
    *operations_api.ROUTES,
]


class ApiAhead:
    """Routes the API's paths before the pages', because Streamlit handles paths and methods differently."""

    def __init__(self, app: types.ASGIApp) -> None:
        self._pages = app
        self._plain = {route.path: route for route in ROUTES if "{" not in route.path}
        self._patterns = [route for route in ROUTES if "{" in route.path]

    async def __call__(self, scope: types.Scope, receive: types.Receive, send: types.Send) -> None:
        """Route a request by its path alone: a wrong method is for the API to refuse."""
        route, found = self._find(scope) if scope["type"] == "http" else (None, {})
        if route is None:
            await self._pages(scope, receive, send)
            return
        own = {**{name: value for name, value in scope.items() if name != "app"}, **found}
        if scope["method"] in (route.methods or ()):  # what the route does, without its layers for other apps
            await (await route.endpoint(Request(own, receive, send)))(own, receive, send)
        else:
            await route.handle(own, receive, send)

    def _find(self, scope: types.Scope) -> tuple[Route | None, types.Scope]:
        """The route of a path, and what the path says."""
        if (plain := self._plain.get(scope["path"])) is not None:
            return plain, {}
        for route in self._patterns:
            match, found = route.matches(scope)
            if match is not Match.NONE:
                return route, found
        return None, {}
