"""Rule: tickets, which stand for a token in the address of an event stream, where a browser can send no header.

A ticket opens streams and nothing else, does not reveal the token, and ends with it. No server keeps it.
"""

import hmac
from collections.abc import Iterable

from core.access.scopes import Token

_PURPOSE = b"quarterdeck event stream"
_LENGTH = 40  # hexadecimal digits


def make_ticket(token: Token) -> str:
    """Return the ticket of a token: always the same one, so that a client's stream stays open when it asks again."""
    return hmac.digest(token.digest.encode(), _PURPOSE, "sha256").hex()[:_LENGTH]


def find_token(ticket: str, tokens: Iterable[Token]) -> Token | None:
    """Return the token that a ticket stands for, None if it stands for none of these."""
    given = ticket.encode("utf-8", "surrogatepass")
    return next((token for token in tokens if hmac.compare_digest(make_ticket(token).encode(), given)), None)
