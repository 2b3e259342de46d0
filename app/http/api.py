"""The HTTP API: JSON and OTLP in and out, our errors as status codes. Runs in the same process as the pages.

Flag endpoints (OFREP and flagd) are in `ofrep.py`; what all handlers share is in `backends.py`.
"""

import hashlib
import io
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any

from anyio import to_thread
from starlette import types
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route, Router

from app.http import ofrep, operations_api, otlp_api
from app.http.backends import get_config, get_store, identify
from app.http.bodies import read_body
from app.http.refusals import RequestRefused, refuse
from core.access.scopes import Scope
from core.errors import InvalidInput, QuarterdeckError
from core.intake.intake import Ticket, find_answer, store_once, store_retrievals
from core.intake.rows import Parsed, parse_record, parse_rows, read_api_time
from core.safety.letters import check_letters, parse_any_json
from quarterdeck.clock import to_ms
from quarterdeck.redaction import Redactor, compose, redact

MAX_KEY_CHARACTERS = 256
MAX_ROWS = 20_000  # of a request
MOST_NAMED = 100  # refused rows of a request, with what is wrong; the others are counted

_JSON_TYPES = ("application/json", "")
_LINE_TYPES = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines")

Handler = Callable[[Request], Awaitable[Response]]


async def healthz(_request: Request) -> Response:
    """Answer 200 while the process lives."""
    return JSONResponse({"status": "ok"})


async def retrievals(request: Request) -> Response:
    """Store the good rows of a list, an object or JSON lines; name the wrong ones by index from 0, field and problem.

    At most 20,000 rows; of the wrong ones the first hundred are named, and all are counted.

    Status 201 when all were stored, 207 when some were, 400 when none was. A request with an Idempotency-Key that its
    token used within the last two days gets the first answer again and stores nothing; with another body it is
    refused.
    """
    try:
        token = await identify(request, Scope.INGEST)
        ticket_key = _read_key(request)
        content_type = _content_type(request, *_JSON_TYPES, *_LINE_TYPES)
        body = await read_body(request)
        source = f"http:{token.digest[:16]}" if token else "http"  # each token has keys of its own
        return await to_thread.run_sync(_store_rows, body, content_type, ticket_key, source)
    except QuarterdeckError as error:
        return refuse(error)


ROUTES = [
    Route("/healthz", healthz),
    Route("/v1/retrievals", retrievals, methods=["POST"]),
    *otlp_api.ROUTES,
    *ofrep.ROUTES,
    *operations_api.ROUTES,
]


class ApiAhead:
    """Routes the API's paths before the pages', because Streamlit handles paths and methods differently."""

    def __init__(self, app: types.ASGIApp) -> None:
        self._pages = app
        self._api = Router(ROUTES)

    async def __call__(self, scope: types.Scope, receive: types.Receive, send: types.Send) -> None:
        """Route a request by its path alone: a wrong method is for the API to refuse."""
        if scope["type"] == "http" and any(route.matches(scope)[0] is not Match.NONE for route in ROUTES):
            own = {name: value for name, value in scope.items() if name != "app"}
            await self._api(own, receive, send)
        else:
            await self._pages(scope, receive, send)


def _store_rows(body: bytes, content_type: str, key: str | None, source: str) -> Response:
    ticket = Ticket(source, key, hashlib.sha256(body).hexdigest()) if key else None
    first = find_answer(get_store(), ticket) if ticket else None
    if first is None:
        now = datetime.now(UTC)
        read = partial(parse_record, read_time=partial(read_api_time, now=now), redact=_redactor())
        parsed = parse_rows(_parse_body(body, content_type), read)
        first = _keep(parsed, ticket, _describe(parsed), now)
    stored, refused = first["stored"], "errors" in first
    return JSONResponse(first, status_code=201 if not refused else 207 if stored else 400)


def _keep(parsed: Parsed, ticket: Ticket | None, answer: dict[str, Any], now: datetime) -> dict[str, Any]:
    """Store the good rows once per ticket, and return the answer. A request that stored nothing may be sent again."""
    if not parsed.retrievals:
        return answer
    if ticket is None:
        store_retrievals(get_store(), parsed.retrievals)
        return answer
    given: dict[str, Any] = store_once(get_store(), parsed.retrievals, ticket, answer, now_ms=to_ms(now))
    return given


def _describe(parsed: Parsed) -> dict[str, Any]:
    answer: dict[str, Any] = {"stored": len(parsed.retrievals)}
    if parsed.refused:
        first = parsed.refused[0]
        answer["error"] = f"row {first.row}: {first.field}: {first.problem}"
        answer["errors"] = [asdict(each) for each in parsed.refused[:MOST_NAMED]]
        answer["refused"] = len(parsed.refused)
    return answer


def _redactor() -> Redactor:
    return redact if get_config().redact else compose()


def _content_type(request: Request, *accepted: str) -> str:
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given not in accepted:
        names = ", ".join(filter(None, accepted))
        raise RequestRefused(415, f"Content-Type: {given or 'none'} is not understood here; send {names}")
    return given


def _read_key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not (0 < len(key) <= MAX_KEY_CHARACTERS and key.isprintable()):
        raise InvalidInput("Idempotency-Key", f"must be 1 to {MAX_KEY_CHARACTERS} printable characters")
    return key


def _parse_body(body: bytes, content_type: str) -> list[Any]:
    """Return the rows of a body; a line that is not JSON is a row that is refused by itself."""
    if content_type in _LINE_TYPES:
        lines = (line for line in io.BytesIO(body.replace(b"\r", b"\n")) if line.strip())
        rows = [_parse_line(line) for line in islice(lines, MAX_ROWS + 1)]
    else:
        rows = parse_any_json(body)
        rows = rows["retrievals"] if isinstance(rows, dict) and rows.keys() == {"retrievals"} else rows
        rows = [rows] if isinstance(rows, dict) else rows
    if not isinstance(rows, list):
        raise InvalidInput("body", "must be a retrieval, a list of them, or an object with the list `retrievals`")
    if len(rows) > MAX_ROWS:
        raise RequestRefused(413, f"body: holds more than {MAX_ROWS:,} rows; send it in parts")
    return [_check_names(row) for row in rows]


def _parse_line(line: bytes) -> Any:
    try:
        return parse_any_json(line)
    except InvalidInput as error:
        return InvalidInput("row", error.problem)


def _check_names(row: Any) -> Any:
    """Refuse a row for half a letter in a field's name; one in a value is named by its field."""
    try:
        check_letters(list(row) if isinstance(row, dict) else None, "row")
    except InvalidInput as error:
        return error
    return row
