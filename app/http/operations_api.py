"""Endpoints for operators: readiness and metrics."""

from collections.abc import Iterator, Mapping
from typing import Any

from anyio import to_thread
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.http.backends import get_config, get_store, identify
from app.http.intake_metrics import IntakeCollector
from app.http.observing import REGISTRY, STORE_UP
from app.http.refusals import refuse
from app.http.state_metrics import StateCollector
from core.access.scopes import Token, TokenScope
from core.audit.settings import Family, get_setting, setting_key
from core.errors import QuarterdeckError, SourceUnavailable
from quarterdeck.scope import fold_environment


async def readyz(_request: Request) -> Response:
    """Readiness check: answer 200 when the store can be read, else 503."""
    problem = await to_thread.run_sync(_find_problem)
    answer: dict[str, Any] = {"status": "not ready", "problem": problem} if problem else {"status": "ready"}
    return JSONResponse(answer, status_code=503 if problem else 200)


async def metrics(request: Request) -> Response:
    """Return the metrics in Prometheus' format. Once there are tokens, it requires one and shows what that may see."""
    token: Token | None = None
    try:
        token = await identify(request, TokenScope.EVALUATE)
    except QuarterdeckError as error:
        unknown = isinstance(error, SourceUnavailable) and not get_config().require_tokens
        if not unknown:  # metrics stay readable while the store is down
            return refuse(error)
    await to_thread.run_sync(_find_problem)
    shown: Collector = REGISTRY if token is None else _Visible(token)
    return Response(await to_thread.run_sync(generate_latest, shown), media_type=CONTENT_TYPE_LATEST)


class _Visible(Collector):
    """The metrics without what belongs to other environments and services than a token's."""

    def __init__(self, token: Token) -> None:
        self._environment = fold_environment(token.environment)
        self._services = token.services

    def collect(self) -> Iterator[Metric]:
        """Return every metric with the samples that the token may see."""
        for metric in REGISTRY.collect():
            metric.samples = [sample for sample in metric.samples if self._may_see(sample.labels)]
            yield metric

    def _may_see(self, labels: Mapping[str, str]) -> bool:
        if "environment" not in labels:
            return True
        is_own = fold_environment(labels["environment"]) == self._environment
        return is_own and (not self._services or labels.get("service") in self._services)


REGISTRY.register(IntakeCollector(get_store))
REGISTRY.register(StateCollector(get_store, lambda: get_config().embedding_model, lambda: get_config().environment))
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
