"""The routes that take rows and scores: JSON or JSON lines in, what was stored and what was refused out."""

import hashlib
import io
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any

import orjson
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.http.backends import get_config, get_store, identify
from app.http.batching import batcher_of
from app.http.bodies import read_body
from app.http.refusals import RequestRefused, refuse, status_of
from core.access.scopes import Token, TokenScope, bind_scope, home_of
from core.errors import InvalidInput, QuarterdeckError
from core.intake.choices import kinds_of
from core.intake.deliveries import Delivery, count_refused, warn_once
from core.intake.intake import Ticket
from core.intake.judgements import parse_scores
from core.intake.rows import RefusedRow, parse_record, parse_rows, read_api_time
from core.log.scores import SOURCE as SCORES
from core.safety.letters import check_letters, parse_any_json
from quarterdeck.intake import Counted, make_example, reason_of
from quarterdeck.redaction import Redactor, compose, redact
from quarterdeck.scope import Scope as RowScope
from quarterdeck.scores import FOR_ANY_SERVICE, FOR_OWN_SERVICE

MAX_KEY_CHARACTERS = 256
MAX_ROWS = 20_000  # of a request
ROWS = "http"  # the source that rows are counted under

_LARGE_BYTES = 16_000  # a larger body is parsed outside the event loop
_JSON_TYPES = ("application/json", "")
LINE_TYPES = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines")

_Parse = Callable[[list[Any], Token | None, datetime], Delivery]


async def retrievals(request: Request) -> Response:
    """Store the good rows of a list, an object or JSON lines; name the wrong ones by index from 0, field and problem.

    At most 20,000 rows; of the wrong ones the first hundred are named, and all are counted.

    Status 201 when all were stored, 207 when some were, 400 when none was. A request with an Idempotency-Key that its
    token used within the last two days gets the first answer again and stores nothing; with another body it is
    refused.
    """
    return await _take(request, TokenScope.INGEST, source=ROWS, listed="retrievals", parse=_parse_retrievals)


async def scores(request: Request) -> Response:
    """Store the good scores of a list, an object or JSON lines, as `retrievals` does with rows.

    A score may come before its row, by up to seven days.
    """
    return await _take(request, TokenScope.INGEST, source=SCORES, listed="scores", parse=_parse_scores)


ROUTES = [
    Route("/v1/retrievals", retrievals, methods=["POST"]),
    Route("/v1/scores", scores, methods=["POST"]),
]


async def _take(request: Request, needed: TokenScope, *, source: str, listed: str, parse: _Parse) -> Response:
    token: Token | None = None
    try:
        token = await identify(request, needed)
        key = read_key(request)
        is_lines = read_content_type(request) in LINE_TYPES
        body = await read_body(request)
        work = partial(_read, body, token, key, source=source, listed=listed, is_lines=is_lines, parse=parse)
        delivery = work() if len(body) <= _LARGE_BYTES else await to_thread.run_sync(work)
        answer = await batcher_of(get_store()).store(delivery)
    except QuarterdeckError as error:
        count_request(error, source, token)
        return refuse(error)
    is_good = answer["stored"] or answer.get("duplicates")
    status = 201 if "errors" not in answer else 207 if is_good else 400
    return Response(orjson.dumps(answer), status, media_type="application/json")


def _read(
    body: bytes, token: Token | None, key: str | None, *, source: str, listed: str, is_lines: bool, parse: _Parse
) -> Delivery:
    rows = parse_body(body, listed, is_lines=is_lines)
    delivery = parse(rows, token, datetime.now(UTC))
    if key is None:
        return delivery
    family = f"{source}:{token.digest[:16]}" if token else source  # each token has keys of its own
    return _with_ticket(delivery, Ticket(family, key, hashlib.sha256(body).hexdigest()))


def _with_ticket(delivery: Delivery, ticket: Ticket) -> Delivery:
    return Delivery(delivery.source, delivery.rows, delivery.scores, delivery.refused, delivery.counts, ticket)


def _parse_retrievals(rows: list[Any], token: Token | None, now: datetime) -> Delivery:
    read = partial(
        parse_record,
        read_time=partial(read_api_time, now=now),
        redact=make_redactor(),
        bind=partial(bind_scope, token),
        kind_of=kinds_of(get_store()),
    )
    parsed = parse_rows(rows, read)
    counts = _count(ROWS, parsed.refused, rows, token) if parsed.refused else {}
    return Delivery(ROWS, parsed.retrievals, (), parsed.refused, counts)


def _parse_scores(rows: list[Any], token: Token | None, now: datetime) -> Delivery:
    parsed = parse_scores(
        rows,
        read_time=partial(read_api_time, now=now),
        redact=make_redactor(),
        bind=partial(bind_scope, token),
        pending=FOR_OWN_SERVICE if token and token.services else FOR_ANY_SERVICE,
    )
    counts = _count(SCORES, parsed.refused, rows, token) if parsed.refused else {}
    return Delivery(SCORES, (), parsed.scores, parsed.refused, counts)


def _count(
    source: str, refused: Sequence[RefusedRow], rows: Sequence[Any], token: Token | None
) -> dict[Counted, tuple[int, str]]:
    return count_refused(source, refused, lambda at: _place(rows[at], token), lambda at: rows[at])


def _place(row: Any, token: Token | None) -> RowScope:
    """Return whose a refused row was; one that names what its token may not write is its token's."""
    named = (row.get("environment"), row.get("service")) if isinstance(row, dict) else (None, None)
    try:
        return bind_scope(token, named)
    except InvalidInput:
        return home_of(token)


def count_request(error: QuarterdeckError, source: str, token: Token | None) -> None:
    """Count a request that was refused as a whole. What a store refuses cannot be counted in it."""
    status = status_of(error)
    if status >= 500:
        return
    if status == 409:
        reason = "idempotency_key"
    else:
        reason = {401: "token", 403: "token", 413: "too_large", 415: "content_type"}.get(status) or reason_of(error)
    warn_once(source, error)
    name = Counted(home_of(token), source, reason)
    batcher_of(get_store()).count({name: (1, make_example(error, None))})


def make_redactor() -> Redactor:
    """Return what redacts texts here: nothing but their form if redaction is off."""
    return redact if get_config().redact else compose()


def read_content_type(request: Request) -> str:
    """Return a request's content type. Raises RequestRefused with 415 for one that is not JSON."""
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given not in (*_JSON_TYPES, *LINE_TYPES):
        names = ", ".join(filter(None, (*_JSON_TYPES, *LINE_TYPES)))
        raise RequestRefused(415, f"Content-Type: {given or 'none'} is not understood here; send {names}")
    return given


def read_key(request: Request) -> str | None:
    """Return a request's idempotency key, None for none. Raises InvalidInput."""
    key = request.headers.get("idempotency-key")
    if key is not None and not (0 < len(key) <= MAX_KEY_CHARACTERS and key.isprintable()):
        raise InvalidInput("Idempotency-Key", f"must be 1 to {MAX_KEY_CHARACTERS} printable characters")
    return key


def parse_body(body: bytes, listed: str, *, is_lines: bool) -> list[Any]:
    """Return the rows of a body; a line that is not JSON is a row that is refused by itself."""
    if is_lines:
        lines = (line for line in io.BytesIO(body.replace(b"\r", b"\n")) if line.strip())
        rows = [_parse_line(line) for line in islice(lines, MAX_ROWS + 1)]
    else:
        rows = parse_any_json(body)
        rows = rows[listed] if isinstance(rows, dict) and rows.keys() == {listed} else rows
        rows = [rows] if isinstance(rows, dict) else rows
    if not isinstance(rows, list):
        raise InvalidInput("body", f"must be a {listed[:-1]}, a list of them, or an object with the list `{listed}`")
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
    if not isinstance(row, dict) or all(map(str.isascii, row)):
        return row
    try:
        check_letters(list(row), "row")
    except InvalidInput as error:
        return error
    return row
