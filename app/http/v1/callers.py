"""Who calls the API under /v1 and the tools for models, and what they may see and change.

A caller is bound to the environment and the services of its token. Without tokens, on a loopback address, it is the
local operator, as on the pages.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated

from anyio import to_thread
from fastapi import Depends, Request

from app.http.backends import get_config, get_store, identify_headers
from app.http.refusals import RequestRefused
from core.access.roles import list_grants
from core.access.scopes import Token, TokenScope, roles_of, roles_to_propose
from core.access.tokens import find_person
from core.approvals.operations import is_second_required
from core.audit.acts import MAX_TEXT, Act
from core.audit.environments import list_environments
from core.audit.gate import Origin
from core.audit.permissions import EVERYWHERE, Role, Roles, combine_grants, hold_everywhere, may_read_questions
from core.config import Config
from core.errors import Forbidden, InvalidInput, NotFound
from core.log.retrievals import list_scopes
from quarterdeck.scope import DEFAULT_SERVICE, Scope, fold_environment, make_scope

_MOST_NAMED = 20  # services that a refusal lists


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever sent a request: their name in the audit trail, their roles, and what they are bound to.

    `digest` tells the tokens apart; it is "" for the local operator, who may name any environment.
    """

    name: str
    roles: Roles
    environment: str
    services: tuple[str, ...] = ()
    digest: str = ""
    proposing: Roles | None = None  # under which an assistant proposes; None for a caller that may not

    def find_environment(self, named: str | None = None) -> str:
        """Return the environment whose flags, experiments and rules are meant; the caller's own if none is named.

        Raises RequestRefused for one that is not the caller's, for a caller that is bound to services, and NotFound.
        """
        if self.services:
            raise RequestRefused(403, f"token: it is for {_list(self.services)} alone; this is of a whole environment")
        return self._settle(named)

    def check_shared(self) -> None:
        """Raise RequestRefused for a caller who may not see what all services and environments share."""
        if self.services:
            raise RequestRefused(403, f"token: it is for {_list(self.services)} alone; this is shared by all services")

    def list_visible(self, environment: str | None = None) -> tuple[Scope, ...]:
        """Return the environments and services with rows that the caller may see."""
        known = list_scopes(get_store())
        if self.digest or environment:
            own = fold_environment(self._settle(environment))
            known = tuple(scope for scope in known if scope.environment == own)
        return tuple(scope for scope in known if not self.services or scope.service in self.services)

    def find_scope(self, environment: str | None = None, service: str | None = None) -> Scope:
        """Return whose rows are meant. Without a service it is the only one that the caller may see.

        Raises RequestRefused for what is not the caller's, InvalidInput where several services report, and NotFound
        for a service that never reported.
        """
        own = fold_environment(self._settle(environment))
        if service and self.services and make_scope(own, service).service not in self.services:
            raise RequestRefused(403, f"service: the token is for {_list(self.services)} alone")
        visible = [scope for scope in self.list_visible(environment) if scope.environment == own]
        if service:
            wanted = make_scope(own, service)
            if wanted not in visible:
                raise NotFound(f"service: {wanted.service[:80]!r} reported nothing in {own}")
            return wanted
        if len(visible) > 1:
            raise InvalidInput("service", f"several report: {_list(scope.service for scope in visible)}; name one")
        if visible:
            return visible[0]
        return Scope(own, self.services[0] if self.services else DEFAULT_SERVICE)

    def may_read(self, environment: str) -> bool:
        """Return whether the caller may read what users asked in an environment."""
        return may_read_questions(self.roles, environment)

    def check_reads(self, environment: str) -> None:
        """Raise Forbidden unless the caller may read what users asked."""
        if not self.may_read(environment):
            raise Forbidden("questions: reading what users asked needs the scope `questions`")

    def make_act(self, reason: str, environment: str) -> Act:
        """Return a change of the caller's. Raises InvalidInput when the reason is empty or too long.

        Where a second person is required, a token acts for its owner, who then asks for the change.
        """
        if self.digest and is_second_required(get_store()) and (owner := find_person(get_store(), self.digest)):
            named = f"{reason} ({self.name})" if reason.strip() and len(reason) < MAX_TEXT // 2 else reason
            own = combine_grants(list_grants(get_store()), owner)
            asked = Act(owner, reason, environment, roles=_limit(self.roles, own, environment), origin=Origin.PERSON)
            return replace(asked, reason=named)
        return Act(self.name, reason, environment, roles=self.roles)

    def make_proposal(self, reason: str, environment: str) -> Act:
        """Return a change that an assistant proposes for the caller, and that becomes a change request.

        A token proposes for its owner, with no role that the owner does not hold by name. Raises RequestRefused for a
        caller that may not propose, and InvalidInput.
        """
        if self.proposing is None:
            raise RequestRefused(403, "token: proposing a change needs the scope `propose`")
        store = get_store()
        owner = find_person(store, self.digest) if self.digest else None
        if owner is not None:
            roles = _limit(self.proposing, combine_grants(list_grants(store), owner), environment)
            return Act(owner, reason, environment, roles=roles, origin=Origin.PERSON, assistant=self.name)
        if not get_config().access.is_local:
            raise RequestRefused(
                403, "token: it was made without a sign-in, so it proposes for nobody; make one on a page"
            )
        return Act(self.name, reason, environment, roles=self.proposing, assistant=self.name)

    def _settle(self, named: str | None) -> str:
        if not named or fold_environment(named) == fold_environment(self.environment):
            return self.environment
        if self.digest:
            raise RequestRefused(403, f"environment: the token is for {self.environment} alone")
        known = [*list_environments(get_store(), self.environment), *(each.environment for each in _list_scopes())]
        for each in known:
            if named == each or fold_environment(named) == fold_environment(each):
                return each
        raise NotFound(f"environment: there is no {named[:80]!r}")


async def identify_caller(headers: Mapping[str, str], scope: TokenScope) -> Caller:
    """Return who sent a request with these headers, names in lower case. Raises RequestRefused."""
    config = await to_thread.run_sync(get_config)
    token = await identify_headers(headers, scope)
    if token is None:
        return make_operator(config)
    return make_caller(token)


def make_caller(token: Token) -> Caller:
    """Return whoever brought a token."""
    return Caller(
        f"token:{token.name}", roles_of(token), token.environment, token.services, token.digest,
        proposing=roles_to_propose(token),
    )  # fmt: skip


def make_operator(config: Config, *, proposes: bool = False) -> Caller:
    """Return the local operator, who is known by their access to this machine; an assistant of theirs may propose.

    An assistant that proposes reads nothing that users wrote.
    """
    roles = hold_everywhere(config.operator_role)
    if proposes:
        return Caller(config.operator, replace(roles, readers=()), config.environment, proposing=roles)
    return Caller(config.operator, roles, config.environment)


def get_caller(request: Request) -> Caller:
    """Return the caller that the route identified before it read anything of the request."""
    caller = request.state.caller
    assert isinstance(caller, Caller)
    return caller


From = Annotated[Caller, Depends(get_caller)]


def _limit(held: Roles, own: Roles, environment: str) -> Roles:
    """Return a token's roles, none of them higher than what its owner still has."""

    def within(role: Role | None, place: str) -> Role | None:
        may = own.role_in(place)
        return role if role is None or (may is not None and may.covers(role)) else may

    here = within(held.role_in(environment), environment)
    return Roles(((environment, here),) if here else (), held.readers, within(held.shared, EVERYWHERE))


def _list_scopes() -> tuple[Scope, ...]:
    return list_scopes(get_store())


def _list(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _MOST_NAMED} more" if len(listed) > _MOST_NAMED else ""
    return ", ".join(listed[:_MOST_NAMED]) + more
