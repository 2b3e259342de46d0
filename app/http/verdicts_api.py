"""Verdicts on canaries for tools that drive a rollout themselves, such as Argo Rollouts and Flagger.

A verdict changes nothing. `core.rollouts.canary` says how it is found.
"""

import math
from datetime import UTC, datetime
from functools import partial
from typing import Any

import orjson
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.http.backends import admit_token, get_config, get_store, identify
from app.http.bodies import read_body
from app.http.refusals import RequestRefused, refuse
from core.access.scopes import Token, TokenScope
from core.arms.comparisons import ArmComparison
from core.arms.histories import share_histories
from core.errors import InvalidInput, QuarterdeckError
from core.intake.rows import read_api_time
from core.rollouts.canaries import CanaryReport, DrivenStep, get_canary, report_canary
from core.rollouts.canary import CanaryCall
from core.safety.letters import parse_json

_CALLS = {CanaryCall.PROMOTE: "promote", CanaryCall.HOLD: "hold", CanaryCall.ROLL_BACK: "roll_back"}
# What a caller may want confirmed, and by which verdicts it is.
_CONFIRMED_BY = {"healthy": ("promote", "hold"), "promote": ("promote",), "roll_back": ("roll_back",)}
MAX_BODY_BYTES = 64_000


async def verdict(request: Request) -> Response:
    """Return what to do with a canary, with the reason and the figures. Always 200: the caller judges.

    A POST is a webhook of Flagger's, which reads the status alone: 200 if the verdict confirms what `?confirm=` names
    (`healthy`, the default, `promote` or `roll_back`), else 412. It sends no header of ours: the token is `token` in
    the metadata of its body.
    """
    try:
        is_webhook = request.method == "POST"
        token = await (_identify_webhook(request) if is_webhook else identify(request, TokenScope.EVALUATE))
        wanted = _read_wanted(request.query_params.get("confirm", "healthy")) if is_webhook else tuple(_CALLS.values())
        if token and token.services:
            raise RequestRefused(403, "token: it is for some services alone; a canary is of the whole environment")
        environment = token.environment if token else get_config().environment
        driven = _read_step(request.query_params)
        report = await to_thread.run_sync(partial(_report, environment, request.path_params["flag"], driven))
    except QuarterdeckError as error:
        return refuse(error)
    answer = describe_verdict(report)
    return Response(orjson.dumps(answer), 200 if answer["verdict"] in wanted else 412, media_type="application/json")


def describe_verdict(report: CanaryReport) -> dict[str, Any]:
    """Return a report on a canary as JSON."""
    found = report.verdict
    return {
        "flag": report.flag.key,
        "environment": report.flag.environment,
        "verdict": _CALLS[found.call],
        "healthy": found.is_healthy,
        "reason": found.reason,
        "missing": list(found.missing),
        "share_pct": report.share_pct,
        "since": report.since.isoformat(),
        "metrics": [_describe(each) for each in found.comparisons],
        "signals": [_describe(each) for each in found.signals],
    }


ROUTES = [Route("/v1/canaries/{flag:path}/verdict", verdict, methods=["GET", "POST"])]


async def _identify_webhook(request: Request) -> Token | None:
    body = await read_body(request, MAX_BODY_BYTES)
    payload = parse_json(body) if body else {}
    metadata = payload.get("metadata") if isinstance(payload, dict) else None
    secret = metadata.get("token") if isinstance(metadata, dict) else None
    if isinstance(secret, str) and "authorization" not in request.headers:
        return await admit_token(secret, TokenScope.EVALUATE)
    return await identify(request, TokenScope.EVALUATE)


def _read_wanted(name: str) -> tuple[str, ...]:
    if name not in _CONFIRMED_BY:
        raise InvalidInput("confirm", f"give {', '.join(_CONFIRMED_BY)}, not {name!r}")
    return _CONFIRMED_BY[name]


def _read_step(query: Any) -> DrivenStep:
    """The step that the caller drives: `?share=20&since=2026-11-29T12:00:00Z`."""
    share, since = query.get("share"), query.get("since")
    try:
        share_pct = None if share is None else float(share)
    except ValueError:
        share_pct = math.nan
    if share_pct is not None and not math.isfinite(share_pct):
        raise InvalidInput("share", f"must be a percentage from 0 to 100, not {share!r}")
    if since is None:
        return DrivenStep(share_pct)
    try:
        return DrivenStep(share_pct, read_api_time(since, now=datetime.now(UTC)))
    except InvalidInput as error:
        raise InvalidInput("since", error.problem) from None


def _report(environment: str, key: str, driven: DrivenStep) -> CanaryReport:
    config, store = get_config(), get_store()
    histories = share_histories(config.database_url, config.log_url)
    return report_canary(store, histories, get_canary(store, environment, key), now=datetime.now(UTC), driven=driven)


def _describe(found: ArmComparison) -> dict[str, Any]:
    arms = {"blue": found.stable, "green": found.other}
    return {
        "metric": str(found.metric),
        **{
            arm: {"users": moments.users, "mean": moments.mean if moments.users else None}
            for arm, moments in arms.items()
        },
        "margin": found.margin,
        "worse": found.is_worse,
        "within_margin": found.is_safe,
    }
