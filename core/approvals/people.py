"""Shell: finds the person behind a token, who made it after signing in (both are one person), who lost a role, and who
may change an environment alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from core.access.roles import list_grants
from core.access.scopes import Token, TokenScope, decide_access, hash_secret
from core.access.tokens import find_by_digest, find_owner
from core.approvals.operations import read_policy
from core.audit.actions import Action
from core.audit.acts import Act
from core.audit.gate import ADMINS, Origin
from core.audit.permissions import (
    EVERYONE,
    EVERYWHERE,
    GROUP,
    Grant,
    Role,
    combine_grants,
    explain_refusal,
    fold_name,
    may_read_questions,
)
from core.audit.trail import AuditFilter, list_audit
from core.errors import Forbidden
from quarterdeck.clock import to_ms
from quarterdeck.store import Store


@dataclass(frozen=True, slots=True)
class HeldRole:
    """What a person or group may do in an environment: `role` by grants to this name, None for somebody without one.

    `place` is where the role is held, the environment or `*`. `alone` is whether they need no second person.
    """

    who: str
    role: Role | None
    place: str
    questions: bool
    alone: bool

    @property
    def may_change(self) -> bool:
        """Whether they change anything at all. Without a grant of their own, they may by that of a group."""
        return self.role is None or self.role.covers(Role.EDITOR)


def list_held_roles(store: Store, environment: str) -> tuple[HeldRole, ...]:
    """Return who may do what in an environment, and who needs a second person there; by name."""
    policy, grants = read_policy(store, environment), list_grants(store)
    here = {fold_name(each.who): each.who for each in grants if each.environment in (EVERYWHERE, environment)}
    alone = {fold_name(name): name for name in policy.alone if name != ADMINS}
    found = []
    for folded, who in sorted((alone | here).items()):
        own = [each for each in grants if fold_name(each.who) == folded]
        roles = combine_grants([Grant("them", each.role, each.environment, each.questions) for each in own], "them")
        role = roles.role_in(environment)
        place = EVERYWHERE if role is not None and roles.role_in(EVERYWHERE) is role else environment
        needs_nobody = not policy.required or policy.lets_alone(who, roles, environment)
        found.append(HeldRole(who, role, place, may_read_questions(roles, environment), needs_nobody))
    return tuple(found)


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
