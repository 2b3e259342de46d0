"""Endpoints for operators: readiness and metrics."""

from typing import Any

from anyio import to_thread
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.http.backends import admit, get_config, get_store
from app.http.intake_metrics import IntakeCollector
from app.http.observing import REGISTRY, STORE_UP
from app.http.refusals import refuse
from core.access.scopes import TokenScope
from core.audit.settings import Family, get_setting, setting_key
from core.errors import QuarterdeckError, SourceUnavailable


async def readyz(_request: Request) -> Response:
    """Readiness check: answer 200 when the store can be read, else 503."""
    problem = await to_thread.run_sync(_find_problem)
    answer: dict[str, Any] = {"status": "not ready", "problem": problem} if problem else {"status": "ready"}
    return JSONResponse(answer, status_code=503 if problem else 200)


async def metrics(request: Request) -> Response:
    """Return the metrics in Prometheus' format. Once there are tokens, it requires one."""
    try:
        await admit(request, TokenScope.EVALUATE)
    except QuarterdeckError as error:
        unknown = isinstance(error, SourceUnavailable) and not get_config().require_tokens
        if not unknown:  # metrics stay readable while the store is down
            return refuse(error)
    await to_thread.run_sync(_find_problem)
    return Response(await to_thread.run_sync(generate_latest, REGISTRY), media_type=CONTENT_TYPE_LATEST)


REGISTRY.register(IntakeCollector(get_store))
ROUTES = [Route("/readyz", readyz), Route("/metrics", metrics)]


def _find_problem() -> str:
    """Why this server is not ready, without the store's address, because anybody may ask."""
    try:
        get_setting(get_store(), setting_key(Family.ENVIRONMENTS))
    except SourceUnavailable:
        STORE_UP.set(0)
        return "the store cannot be read; the log and `quarterdeck doctor` say why"
    STORE_UP.set(1)
    return ""
