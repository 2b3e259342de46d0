"""Shell: issues and revokes bearer tokens, each with its audit entry. A secret is shown once and never stored."""

import secrets
from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta

from core.access.scopes import Token, TokenScope, covers, hash_secret, read_services
from core.access.tokens import get_token, list_tokens, mark_revoked, save_owner, save_token
from core.audit.actions import Action
from core.audit.acts import Act, changing
from core.audit.gate import Origin
from core.audit.permissions import EVERYWHERE, check_allowed, may_read_questions
from core.errors import Conflict, Forbidden, InvalidInput
from quarterdeck.clock import from_ms
from quarterdeck.store import Store

PREFIX = "qd_"
LONGEST_DAYS = 3_650
_HINT_CHARACTERS = len(PREFIX) + 4


def issue_token(
    store: Store,
    name: str,
    scopes: Collection[TokenScope],
    by: Act,
    *,
    expires_days: int | None = None,
    services: Collection[str] = (),
) -> tuple[str, int]:
    """Create a token for the act's environment; return its secret, which is shown only once, and the audit entry's id.

    With `services`, rows and scores sent with it belong to these services alone. Nobody gives a token more than they
    have: Forbidden for one that reads questions, by somebody who may not, and for one that changes what is shared, by
    somebody who is no admin everywhere.

    The name of a revoked or expired token may be reused in its environment. Raises InvalidInput, and Conflict when
    the name is in use.
    """
    if expires_days is not None and not 1 <= expires_days <= LONGEST_DAYS:
        raise InvalidInput("expires", f"must be 1 to {LONGEST_DAYS:,} days, not {expires_days}")
    secret = PREFIX + secrets.token_urlsafe(32)
    with changing(store, by) as change:
        now = from_ms(change.at_ms)
        expires = now + timedelta(days=expires_days) if expires_days is not None else None
        wanted = tuple(scope for scope in TokenScope if scope in scopes)
        token = Token(
            name.strip(), hash_secret(secret), secret[:_HINT_CHARACTERS], wanted, by.environment, now, by.actor,
            expires, services=read_services(services),
        )  # fmt: skip
        former = next((each for each in list_tokens(store) if each.name == token.name), None)
        if former and former.describe_state(now) == "active":
            raise Conflict(f"token {token.name!r} is in use; revoke it first, or choose another name")
        if former and former.environment != token.environment:
            raise Conflict(f"token {token.name!r} was one of {former.environment}; choose another name")
        _check_giver(token, by)
        save_token(change.connection, token, instead_of=former)
        if by.origin is Origin.PERSON:
            save_owner(change.connection, token, by.actor.strip())
        change.record(Action.TOKEN_CREATE, token.name, None, _describe(token))
    return secret, change.entry_id


def _check_giver(token: Token, by: Act) -> None:
    if covers(token, TokenScope.QUESTIONS) and not may_read_questions(by.roles, by.environment):
        raise Forbidden(
            "scopes: your role does not include reading questions, so no token of yours does. Ask an admin."
        )
    if TokenScope.SHARED in token.scopes:
        check_allowed(by.roles, Action.TOKEN_CREATE, EVERYWHERE)


def revoke_token(store: Store, name: str, by: Act) -> int:
    """Revoke a token; servers refuse it within 2 seconds. Raises NotFound, and Conflict when it is revoked already."""
    token = get_token(store, name)
    with changing(store, replace(by, environment=token.environment)) as change:
        if not mark_revoked(change.connection, token, revoked_ms=change.at_ms):
            raise Conflict(f"token {name!r} is already revoked, or somebody has just replaced it")
        change.record(Action.TOKEN_REVOKE, name, _describe(token), _describe(token) | {"revoked": True})
    return change.entry_id


def _describe(token: Token) -> dict[str, object]:
    return {
        "hint": token.hint,
        "scopes": [str(scope) for scope in token.scopes],
        "environment": token.environment,
        "expires": token.expires.isoformat() if token.expires else None,
        **({"services": list(token.services)} if token.services else {}),
    }
