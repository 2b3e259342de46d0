"""Rule: what a bearer token may do. Takes a token, a scope and the time; returns a denial with its reason, or None.

A token's secret is long and random, so its plain SHA-256 is all that the store keeps.
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from core.audit.permissions import Role, Roles
from core.errors import InvalidInput
from quarterdeck import scope as rows

MAX_NAME = 64
MAX_SERVICE = 128


class TokenScope(StrEnum):
    """What a token may do: read flags, send rows, read what the pages show, read questions too, change things.

    `shared` is, with `change` or `propose`, for what all environments share, such as indexes. `propose` is for an
    assistant that proposes changes over MCP. `admin` includes every scope but these two.
    """

    EVALUATE = "evaluate"
    INGEST = "ingest"
    READ = "read"
    QUESTIONS = "questions"
    CHANGE = "change"
    PROPOSE = "propose"
    SHARED = "shared"
    ADMIN = "admin"


# Whoever proposes reads nothing that users wrote, so that it cannot ask for a proposal, and changes nothing.
BESIDE_PROPOSE = frozenset({TokenScope.PROPOSE, TokenScope.READ, TokenScope.SHARED})


@dataclass(frozen=True, slots=True)
class Token:
    """A stored bearer token: `digest` is the hash of its secret, `hint` its first characters, for display.

    It reads flags of its environment, and rows, scores and traces belong there; with `services`, to these services.
    Raises InvalidInput, naming the field.
    """

    name: str
    digest: str
    hint: str
    scopes: tuple[TokenScope, ...]
    environment: str
    created: datetime
    created_by: str
    expires: datetime | None = None
    revoked: datetime | None = None
    services: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for service in self.services:
            if not service or len(service) > MAX_SERVICE or not service.isprintable() or " " in service:
                raise InvalidInput("service", f"must be 1 to {MAX_SERVICE} printable characters without spaces")
        if not self.name.strip() or len(self.name) > MAX_NAME or not self.name.isprintable():
            raise InvalidInput("name", f"must be 1 to {MAX_NAME} printable characters")
        if not self.scopes:
            raise InvalidInput("scopes", f"must have at least one of {', '.join(TokenScope)}")
        if TokenScope.PROPOSE in self.scopes and (others := set(self.scopes) - BESIDE_PROPOSE):
            raise InvalidInput(
                "scopes",
                f"propose stands beside read and shared alone, not {_list(sorted(others))}: whoever proposes reads "
                "nothing that users wrote, and changes nothing",
            )

    def describe_state(self, now: datetime) -> str:
        """Return the token's state in words."""
        if self.revoked:
            return "revoked"
        return "expired" if self.expires and self.expires <= now else "active"


@dataclass(frozen=True, slots=True)
class Denial:
    """Why a request is denied. `known` is True for a valid token that lacks the scope, False for an invalid one."""

    reason: str
    known: bool


def hash_secret(secret: str) -> str:
    """Return the stored hash of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def decide_access(token: Token | None, scope: TokenScope, *, given: bool, now: datetime) -> Denial | None:
    """Return why a request for `scope` is denied, or None. `given` says whether it sent a token."""
    if not given:
        return Denial("token: none was sent; send the header Authorization: Bearer TOKEN", known=False)
    if token is None:
        return Denial("token: it is unknown; create one with: quarterdeck tokens create", known=False)
    if token.revoked:
        return Denial(f"token: {token.name!r} was revoked on {token.revoked:%d %b %Y}", known=False)
    if token.expires and token.expires <= now:
        return Denial(f"token: {token.name!r} expired on {token.expires:%d %b %Y}", known=False)
    if not covers(token, scope):
        return Denial(f"token: {token.name!r} has the scope {_list(token.scopes)}, but this needs {scope}", known=True)
    return None


def covers(token: Token, scope: TokenScope) -> bool:
    """Return whether a token has a scope, by its name or by `admin`."""
    explicit = (TokenScope.SHARED, TokenScope.PROPOSE)
    return scope in token.scopes or (TokenScope.ADMIN in token.scopes and scope not in explicit)


def roles_of(token: Token) -> Roles:
    """Return the roles under which a token reads and changes things, in its environment.

    It may read without `change`, changes as an editor with it, and as an admin with `admin`. With `shared` it holds
    that role everywhere, but only for what all environments share: `core.audit.permissions.SHARED`.
    """
    role = Role.ADMIN if TokenScope.ADMIN in token.scopes else Role.EDITOR if covers(token, TokenScope.CHANGE) else None
    held = role or (Role.VIEWER if covers(token, TokenScope.READ) else None)
    readers = (token.environment,) if covers(token, TokenScope.QUESTIONS) else ()
    where = ((token.environment, held),) if held else ()
    shared = role if role and TokenScope.SHARED in token.scopes else None
    return Roles(where, readers, shared)


def roles_to_propose(token: Token) -> Roles | None:
    """Return the roles under which a token proposes changes for a person to approve; None for one that may not."""
    if TokenScope.PROPOSE not in token.scopes:
        return None
    return Roles(((token.environment, Role.EDITOR),), (), Role.EDITOR if TokenScope.SHARED in token.scopes else None)


def home_of(token: Token | None) -> rows.Scope:
    """Return the environment and service that a token's refused rows are counted under."""
    if token is None:
        return rows.DEFAULT_SCOPE
    service = token.services[0] if len(token.services) == 1 else None
    return rows.make_scope(token.environment, service)


def bind_scope(token: Token | None, named: tuple[Any, Any]) -> rows.Scope:
    """Return whose data this is: by the environment and the service that it names, None or "" for none.

    What is not named is the token's: its environment, and its service if it has exactly one. Raises InvalidInput with
    the field `scope` for an environment or a service that is not the token's, and for a name that cannot be one.
    """
    environment, service = named
    if token is None:
        return rows.make_scope(environment, service)
    home = home_of(token)
    if isinstance(service, str) and service.strip().casefold().startswith("unknown_service"):
        service = None  # what OpenTelemetry says for none
    found = rows.make_scope(environment or home.environment, service or home.service)
    if found.environment != home.environment:
        raise InvalidInput("scope", f"the token {token.name!r} is for the environment {home.environment} alone")
    if token.services and found.service not in token.services:
        allowed = _list(token.services)
        raise InvalidInput("scope", f"the token {token.name!r} is for the services {allowed}; name one of them")
    return found


def read_services(names: Collection[str]) -> tuple[str, ...]:
    """Return services by their names in one form, in alphabetical order. Raises InvalidInput."""
    return tuple(sorted({rows.make_scope(None, name).service for name in names}))


def read_scopes(names: Collection[str]) -> tuple[TokenScope, ...]:
    """Return scopes by their names, in a fixed order. Raises InvalidInput."""
    for name in names:
        if name not in list(TokenScope):
            raise InvalidInput("scopes", f"{name!r} is not a scope; there are: {_list(tuple(TokenScope))}")
    return tuple(scope for scope in TokenScope if scope in names)


def _list(scopes: Collection[str]) -> str:
    return ", ".join(scopes)
