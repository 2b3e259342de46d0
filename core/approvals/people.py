"""Shell: finds the person behind a token, who made it after signing in (both are one person), and who lost a role."""

from collections.abc import Iterable
from datetime import datetime

from core.access.roles import list_grants
from core.access.scopes import Token, TokenScope, decide_access, hash_secret
from core.access.tokens import find_by_digest, find_owner
from core.audit.actions import Action
from core.audit.acts import Act
from core.audit.gate import Origin
from core.audit.permissions import EVERYONE, GROUP, combine_grants, explain_refusal, fold_name
from core.audit.trail import AuditFilter, list_audit
from core.errors import Forbidden
from quarterdeck.clock import to_ms
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
    token = find_by_digest(store, hash_secret(secret))
    denial = decide_access(token, TokenScope.ADMIN, given=True, now=now)
    if denial is not None or token is None:
        raise Forbidden(denial.reason if denial else "the token is not known here")
    return act_for(store, token, reason, environment)


def find_lost_role(
    store: Store, name: str, actions: Iterable[Action], environment: str, *, since: datetime, is_person: bool = True
) -> str:
    """Return why a person may no longer do what they could do at a time; "" if nobody took that from them.

    It is lost when a grant by name was revoked or lowered. Groups are known only while somebody is signed in: what a
    person may hold by one is lost when no group holds it any more. `is_person` is whether the name is surely that of
    somebody who signed in, and not of a token or the operator, who have no grants.
    """
    changed = [
        fold_name(entry.target)
        for action in (Action.ROLE_REVOKE, Action.ROLE_GRANT)
        for entry in list_audit(store, AuditFilter(action=str(action), since_ms=to_ms(since)), limit=None)
    ]
    grants, is_own = list_grants(store), fold_name(name) in changed
    if not is_own and not (is_person and any(each == EVERYONE or each.startswith(GROUP) for each in changed)):
        return ""
    groups = [] if is_own else [each.who.removeprefix(GROUP) for each in grants if each.who.startswith(GROUP)]
    roles = combine_grants(grants, name, groups)
    refusals = (explain_refusal(roles, action, environment) for action in actions)
    refusal = next((each for each in refusals if each), "")
    return f"{name} lost a role since: {refusal.partition(';')[0]}" if refusal else ""
