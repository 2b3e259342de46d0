"""Shell: finds the person behind a token, who made it after signing in. Both are one person."""

from datetime import datetime

from core.access.roles import list_grants
from core.access.scopes import Token, TokenScope, decide_access, hash_secret
from core.access.tokens import find_owner, list_tokens
from core.audit.acts import Act
from core.audit.gate import Origin
from core.audit.permissions import combine_grants
from core.errors import Forbidden
from quarterdeck.store import Store


def act_for(store: Store, token: Token, reason: str, environment: str) -> Act:
    """Return an act of the person behind a token, with the roles that they hold by name.

    Raises Forbidden for a token of another environment, and for one that nobody made after signing in.
    """
    if token.environment != environment:
        raise Forbidden(f"the token {token.name!r} is for {token.environment} alone")
    if token.services:
        raise Forbidden(f"the token {token.name!r} is for some services alone; requests are of a whole environment")
    owner = find_owner(store, token)
    if owner is None:
        raise Forbidden(
            f"the token {token.name!r} was made without a sign-in, so it acts for nobody; make one on a page"
        )
    roles = combine_grants(list_grants(store), owner)
    return Act(owner, reason, environment, roles=roles, origin=Origin.PERSON)


def act_by_secret(store: Store, secret: str, reason: str, environment: str, *, now: datetime) -> Act:
    """Return an act of the person behind a secret, which needs the scope admin. Raises Forbidden."""
    digest = hash_secret(secret)
    token = next((each for each in list_tokens(store) if each.digest == digest), None)
    denial = decide_access(token, TokenScope.ADMIN, given=True, now=now)
    if denial is not None or token is None:
        raise Forbidden(denial.reason if denial else "the token is not known here")
    return act_for(store, token, reason, environment)
