"""The visitor of the pages and their permissions: changes on the pages are made under this name and role."""

import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import streamlit as st

from app.http.guard import SEAL_HEADER, get_seal
from app.resources import get_config, get_store, load_end, load_grants, note_session
from app.text import plain
from core.access.identity import Person, SignIn, check_bind, read_claims, read_headers
from core.access.sessions import end_session
from core.audit import permissions
from core.audit.actions import Action
from core.audit.acts import Act
from core.audit.gate import Origin
from core.audit.permissions import Roles, combine_grants, explain_refusal, hold_everywhere
from core.errors import Forbidden, QuarterdeckError
from core.safety.meters import Meter

security = logging.getLogger("quarterdeck.security")
_TOLD = Meter(60)  # lines a minute
ANY_ADDRESS = "0.0.0.0"  # noqa: S104  (Streamlit's default address)


@dataclass(frozen=True, slots=True)
class Visitor:
    """The person who uses the pages; `session` identifies their sign-in ("" where there is none).

    `ends` is when they have to sign in again, None where the proxy decides that or nobody signs in.
    """

    name: str
    roles: Roles
    session: str = ""
    groups: tuple[str, ...] = ()
    ends: datetime | None = None


def get_visitor() -> Visitor:
    """Return the visitor of the page that is being drawn. Raises Forbidden, with what to do, if nobody is known."""
    config = get_config()
    if config.access.is_local:
        check_bind(config.access, st.get_option("server.address") or ANY_ADDRESS)
        return Visitor(config.operator, hold_everywhere(config.operator_role))
    try:
        person = _find_person(config.access)
    except Forbidden as error:
        _tell(error)
        raise
    roles = combine_grants(load_grants(), person.name, person.groups)
    return Visitor(person.name, roles, person.session, person.groups, person.ends)


def make_act(reason: str, environment: str) -> Act:
    """Return the visitor's change as an act. Raises InvalidInput when the reason is empty or too long."""
    visitor = get_visitor()
    origin = Origin.OPERATOR if get_config().access.is_local else Origin.PERSON
    return Act(visitor.name, reason, environment, roles=visitor.roles, origin=origin)


def lock(action: Action, environment: str) -> dict[str, Any]:
    """Return the widget options that lock a control, with the reason, if the visitor may not do this; else {}.

    `st.button("Save", **lock(Action.FLAG_UPDATE, environment))`; the operation itself refuses too.
    """
    refusal = explain_refusal(get_visitor().roles, action, environment)
    return {"disabled": True, "help": plain(refusal)} if refusal else {}


def may_read_questions(environment: str) -> bool:
    """Return whether the visitor may read what users asked in an environment; otherwise pages show counts only."""
    return permissions.may_read_questions(get_visitor().roles, environment)


def note_visit(visitor: Visitor) -> None:
    """Note that the visitor uses the deck, so that their session does not end for being idle."""
    if visitor.session:
        with suppress(QuarterdeckError):  # a store that cannot be written now is reported elsewhere
            note_session(visitor.session)


def sign_out() -> None:
    """End the visitor's session here and everywhere else, and send them to their provider's end of session."""
    login = get_config().access.login
    if login:
        with suppress(QuarterdeckError):  # already over, or the store is down: the cookie is removed in any case
            end_session(get_store(), get_visitor().session, now=datetime.now(UTC), lasts=login.session)
        load_end.clear()
        st.logout()


def _tell(refusal: Forbidden) -> None:
    """Log a sign-in that was refused. Somebody who has not signed in yet is no event."""
    if st.user.get("is_logged_in") and not _TOLD.take("", now_s=time.monotonic()):
        security.warning("a sign-in was refused: %s", refusal)


def _find_person(access: SignIn) -> Person:
    if st.context.headers.get(SEAL_HEADER) != get_seal():
        raise Forbidden("a login works with `quarterdeck serve` only, which checks every request")
    if access.proxy:
        return read_headers(access.proxy, st.context.headers)
    claims = st.user.to_dict()
    if access.login is None or not claims.get("is_logged_in"):
        raise Forbidden("nobody is signed in")
    person = read_claims(access.login, claims, now=datetime.now(UTC))
    if refusal := load_end(person):
        raise Forbidden(refusal)
    return person
