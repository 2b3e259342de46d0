"""Rule: what a bearer token may do. Takes a token, a scope and the time; returns a denial with its reason, or None.

A token's secret is long and random, so its plain SHA-256 is all that the store keeps.
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from core.errors import InvalidInput

MAX_NAME = 64


class Scope(StrEnum):
    """What a token is for. `admin` may do what every scope may."""

    EVALUATE = "evaluate"
    INGEST = "ingest"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token as it is kept: `digest` is the hash of its secret, `hint` its first characters, for people.

    Flags are evaluated in its environment. Raises InvalidInput, naming the field.
    """

    name: str
    digest: str
    hint: str
    scopes: tuple[Scope, ...]
    environment: str
    created: datetime
    created_by: str
    expires: datetime | None = None
    revoked: datetime | None = None

    def __post_init__(self) -> None:
        if not self.name.strip() or len(self.name) > MAX_NAME or not self.name.isprintable():
            raise InvalidInput("name", f"must be 1 to {MAX_NAME} printable characters")
        if not self.scopes:
            raise InvalidInput("scopes", f"give at least one of {', '.join(Scope)}")

    def describe_state(self, now: datetime) -> str:
        """Return whether it still opens anything, as a person says it."""
        if self.revoked:
            return "revoked"
        return "expired" if self.expires and self.expires <= now else "active"


@dataclass(frozen=True, slots=True)
class Denial:
    """Why a request is not let in. `known` tells a token that may not do this from one that opens nothing at all."""

    reason: str
    known: bool


def hash_secret(secret: str) -> str:
    """Return what is kept of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def decide_access(token: Token | None, scope: Scope, *, given: bool, now: datetime) -> Denial | None:
    """Return why a request for `scope` is denied, or None where it is let in; `given` says that it brought a token."""
    if not given:
        return Denial("token: none was given; send the header Authorization: Bearer TOKEN", known=False)
    if token is None:
        return Denial("token: it is unknown; make one with: quarterdeck tokens create", known=False)
    if token.revoked:
        return Denial(f"token: {token.name!r} was revoked on {token.revoked:%d %b %Y}", known=False)
    if token.expires and token.expires <= now:
        return Denial(f"token: {token.name!r} expired on {token.expires:%d %b %Y}", known=False)
    if scope not in token.scopes and Scope.ADMIN not in token.scopes:
        return Denial(f"token: {token.name!r} has the scope {_list(token.scopes)}, this needs {scope}", known=True)
    return None


def read_scopes(names: Collection[str]) -> tuple[Scope, ...]:
    """Return scopes by their names, in one order. Raises InvalidInput."""
    for name in names:
        if name not in list(Scope):
            raise InvalidInput("scopes", f"{name!r} is none; there are {_list(tuple(Scope))}")
    return tuple(scope for scope in Scope if scope in names)


def _list(scopes: Collection[str]) -> str:
    return ", ".join(scopes)
