"""OTLP over HTTP: traces are stored, logs and metrics are answered as exporters expect. gRPC is in `otlp_grpc.py`."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from threading import Lock

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.http.backends import get_config, get_store, identify
from app.http.bodies import read_body
from app.http.records import count_request
from app.http.refusals import RequestRefused, challenge, status_of
from core.access.scopes import Token, TokenScope, bind_scope, home_of
from core.errors import InvalidInput, QuarterdeckError
from core.intake import otlp
from core.intake.choices import choices_of
from core.intake.counts import count_refusal
from core.intake.names import RETRIEVER, STORE
from core.intake.notes import SpanNote
from core.intake.open_traces import SOURCE, take_spans, tend_traces
from core.intake.rows import RefusedRow
from core.intake.spans import ScopeOf, read_span
from quarterdeck.clock import now_ms
from quarterdeck.redaction import Redactor, compose, redact

TEND_EVERY_S = 1.0
_SCOPES_KEPT = 64  # of one request
_TEXTS_KEPT = 1_024

_tended, _tending = 0.0, Lock()


async def traces(request: Request) -> Response:
    """Store the questions in an OTLP trace request; a repeated request stores nothing twice.

    The answer is a partial success if retriever spans of this request were refused.
    """
    return await _answer(request, TokenScope.INGEST, store_spans)


async def ignore(request: Request) -> Response:
    """Answer that logs or metrics were taken: exporters would send what is refused again and again. Count them."""
    signal = str(request.scope["path"]).rpartition("/")[2]
    return await _answer(request, TokenScope.INGEST, partial(ignore_signal, signal))


ROUTES = [
    Route("/v1/traces", traces, methods=["POST"]),
    Route("/v1/logs", ignore, methods=["POST"]),
    Route("/v1/metrics", ignore, methods=["POST"]),
]


def store_spans(body: bytes, content_type: str, token: Token | None) -> bytes:
    """Store what the spans of a request say, and return the answer. Raises InvalidInput and SourceUnavailable."""
    store = get_store()
    try:
        spans = otlp.read_request(body, content_type)
    except InvalidInput as error:
        count_refusal(store, SOURCE, error, None, home_of(token))
        raise
    read = partial(
        read_span, redact=_redactor(), choices_of=choices_of(store), scope_of=_scope_of(token), home=home_of(token)
    )
    notes = [(span.trace_id, read(span)) for span in spans]
    if token and token.services:
        notes = [(name, replace(note, is_own_only=True) if note.judgements else note) for name, note in notes]
    environment = home_of(token).environment if token else ""
    refused = take_spans(store, notes, now_ms=now_ms(), environment=environment)
    if _is_due():
        tend_traces(store, now_ms=now_ms())
    places = _number_searches(notes)
    named = [
        RefusedRow(places[key], each.error.field, each.error.problem)
        for trace_id, each in refused
        if (key := (trace_id, each.note.span_id)) in places
    ]
    return otlp.render_response(sorted(named, key=lambda each: each.row), content_type)


def ignore_signal(signal: str, body: bytes, content_type: str, token: Token | None) -> bytes:
    """Count a request of logs or metrics, of which nothing is stored, and return the answer."""
    if body:
        problem = f"are not stored; set OTEL_{signal.upper()}_EXPORTER=none, and send traces to /v1/traces"
        count_refusal(get_store(), SOURCE, InvalidInput(signal, problem), None, home_of(token))
    return otlp.render_empty(content_type)


async def _answer(request: Request, scope: TokenScope, answer: Callable[[bytes, str, Token | None], bytes]) -> Response:
    content_type = otlp.PROTOBUF
    token: Token | None = None
    try:
        content_type = _read_content_type(request)
        token = await identify(request, scope)
        body = await read_body(request)
    except QuarterdeckError as error:
        if answer is store_spans:
            count_request(error, SOURCE, token)
        return _fail(error, content_type)
    try:
        return Response(await to_thread.run_sync(answer, body, content_type, token), media_type=content_type)
    except QuarterdeckError as error:
        return _fail(error, content_type)


def _fail(error: QuarterdeckError, content_type: str) -> Response:
    message = otlp.render_failure(str(error), content_type)
    return Response(message, status_of(error), challenge(error), content_type)


def _read_content_type(request: Request) -> str:
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given not in (otlp.PROTOBUF, otlp.JSON):
        wanted = f"{otlp.PROTOBUF}, {otlp.JSON}"
        raise RequestRefused(415, f"Content-Type: {given or 'none'} is not understood here; send {wanted}")
    return given


def _number_searches(notes: list[tuple[str, SpanNote]]) -> dict[tuple[str, str], int]:
    """Number the retriever spans of a request from 0, in its order."""
    searches = ((trace_id, note.span_id) for trace_id, note in notes if note.role in (RETRIEVER, STORE))
    return {key: place for place, key in enumerate(dict.fromkeys(searches))}


def _scope_of(token: Token | None) -> ScopeOf:
    """Return how spans get their scope: what they do not name is the token's, and nothing else is allowed."""
    return lru_cache(_SCOPES_KEPT)(lambda environment, service: bind_scope(token, (environment, service)))


def _is_due() -> bool:
    """Return whether quiet traces should be looked for, once a second in a process."""
    global _tended
    with _tending:
        if time.monotonic() - _tended < TEND_EVERY_S:
            return False
        _tended = time.monotonic()
        return True


def _redactor() -> Redactor:
    return _redact if get_config().redact else _leave


_redact, _leave = lru_cache(_TEXTS_KEPT)(redact), compose()  # the spans of a trace repeat its question
