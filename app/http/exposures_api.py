"""The route that takes exposures: who saw the variant of a flag, as an SDK or a page of a browser reports it.

Users are recorded as clients record them: once per flag, variant and user, in batches.
"""

from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.http.backends import admit_service, get_deck
from app.http.bodies import read_body
from app.http.refusals import refuse
from core.access.scopes import TokenScope
from core.errors import InvalidInput, QuarterdeckError
from core.safety.letters import parse_json
from quarterdeck.client import Quarterdeck

MOST_EXPOSURES = 1_000
_MOST_BYTES = 300_000
_FIELDS = {"flag", "targetingKey", "variant"}


async def exposures(request: Request) -> Response:
    """Record the users of a list or an object `{"flag": …, "targetingKey": …, "variant": …}`; at most 1,000.

    Without a variant, the flag is evaluated for the user. Status 202, also where some are refused: each of these is
    named by index from 0 and problem. A flag without an experiment records nobody.
    """
    try:
        deck = await get_deck(*await admit_service(request, TokenScope.EVALUATE))
        rows = _read(await read_body(request, _MOST_BYTES))
    except QuarterdeckError as error:
        return refuse(error)
    errors = []
    for index, row in enumerate(rows):
        try:
            _record(deck, row)
        except InvalidInput as error:
            errors.append({"index": index, "field": error.field, "problem": error.problem})
    answer = {"recorded": len(rows) - len(errors), **({"errors": errors} if errors else {})}
    return Response(orjson.dumps(answer), 202, media_type="application/json")


ROUTES = [Route("/v1/exposures", exposures, methods=["POST"])]


def _read(body: bytes) -> list[Any]:
    found = parse_json(body)
    rows = found.get("exposures", [found]) if isinstance(found, dict) else found
    if not isinstance(rows, list) or not 1 <= len(rows) <= MOST_EXPOSURES:
        raise InvalidInput("exposures", f"send a list of 1 to {MOST_EXPOSURES:,} objects")
    return rows


def _record(deck: Quarterdeck, row: Any) -> None:
    if not isinstance(row, dict):
        raise InvalidInput("exposure", "must be an object")
    if unknown := sorted(set(row) - _FIELDS):
        raise InvalidInput(str(unknown[0])[:80], f"is not known; there are: {', '.join(sorted(_FIELDS))}")
    flag, user, variant = row.get("flag"), row.get("targetingKey"), row.get("variant")
    for name, value in (("flag", flag), ("targetingKey", user)):
        if not isinstance(value, str) or not value:
            raise InvalidInput(name, "must be text")
    if variant is not None and not isinstance(variant, str):
        raise InvalidInput("variant", "must be text")
    if not deck.expose(str(flag), str(user), variant=variant):
        raise InvalidInput("flag", "no experiment records this variant of it for this user")
