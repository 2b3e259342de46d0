"""OFREP's event streams: server-sent events that tell web providers that flags of their environment changed.

An event holds no flag. The provider asks for its flags again, with the event's tag, which says what it must not miss.
"""

import json
import time
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from app.http.backends import get_config, get_deck, holds, identify, identify_ticket
from app.http.limits import EVENTS
from app.http.refusals import RequestRefused, refuse
from app.http.streams import RETRY_S, Stream, Streams, count_streams, streams_of
from core.access.scopes import Token, TokenScope
from core.access.tickets import make_ticket
from core.errors import QuarterdeckError
from quarterdeck.snapshot import Snapshot

MOST_STREAMS = 3_000  # of this process
INACTIVE_S = 120  # after which a hidden page closes its stream


async def open_stream(request: Request) -> ASGIApp:
    """Keep a stream of events open until the client goes, its token ends, or the server stops.

    A browser's EventSource sends no header: `?ticket=` in the address that a bulk answer gives stands for the token.
    """
    ticket = request.query_params.get("ticket")
    try:
        token = await _identify(request, ticket)
        deck = await get_deck(token.environment if token else get_config().environment)
        if count_streams() >= MOST_STREAMS:
            raise RequestRefused(503, "streams: this server has as many as it may have", retry_s=round(RETRY_S[1]))
    except QuarterdeckError as error:
        return refuse(error)
    if request.method == "HEAD":
        return Response(headers={"Cache-Control": "no-cache"}, media_type="text/event-stream")
    streams = streams_of(deck, lambda: Streams(deck, partial(holds, TokenScope.EVALUATE), _describe))
    return Stream(streams, token.digest if token else None, streams.greet(request.headers.get("last-event-id")))


def list_streams(token: Token | None) -> list[dict[str, object]]:
    """Return the streams that a bulk answer names. The address is the same each time, so that a stream stays open."""
    address = f"{EVENTS}?ticket={make_ticket(token)}" if token else EVENTS
    return [{"type": "sse", "endpoint": {"requestUri": address}, "inactivityDelaySec": INACTIVE_S}]


def is_newer(tag: str, snapshot: Snapshot) -> bool:
    """Return whether the tag of an event stands for a later state of the same store than a snapshot."""
    version, _, lineage = tag.strip('"').partition("-")
    is_number = version.isascii() and version.isdigit() and len(version) < 18
    return is_number and int(version) > snapshot.version and lineage == snapshot.lineage[:12]


ROUTES = [Route(EVENTS, open_stream)]


async def _identify(request: Request, ticket: str | None) -> Token | None:
    if ticket is None:
        return await identify(request, TokenScope.EVALUATE)
    return await identify_ticket(ticket, TokenScope.EVALUATE)


def _describe(snapshot: Snapshot) -> tuple[str, bytes]:
    """The id of a state of the flags, and its event. Servers that share a store agree on the id."""
    name = f"{snapshot.version}-{snapshot.lineage[:12]}"
    data = json.dumps({"type": "refetchEvaluation", "etag": f'"{name}"', "lastModified": int(time.time())})
    return name, f"id: {name}\nevent: message\ndata: {data}\n\n".encode()
