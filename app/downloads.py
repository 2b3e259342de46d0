"""Downloads on pages: a file is built when it is requested, and only for visitors who may still see the page.

Streamlit requests a file without rerunning the page, so a sign-out or a revoked role would go unnoticed otherwise.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import streamlit as st

from app.navigation import shown_environment
from app.resources import get_config, get_store, list_environments
from app.visitor import Visitor, get_visitor
from core.access.identity import Person
from core.access.roles import list_grants
from core.access.sessions import explain_end
from core.audit.permissions import Roles, combine_grants, hold_everywhere
from core.errors import Forbidden, QuarterdeckError


def offer_file(
    label: str, write: Callable[[Roles], str | bytes], file_name: str, mime: str | None = None, **options: Any
) -> None:
    """Draw a download button. `write` is called on click, with the roles that the visitor holds then."""
    visitor, environment = None, shown_environment(list_environments())
    with suppress(QuarterdeckError):  # no file for unknown visitors
        visitor = get_visitor()

    def make() -> str | bytes:
        return write(require_still(visitor, environment, now=datetime.now(UTC)))

    options = {"type": "tertiary", "on_click": "ignore", **options}
    st.download_button(label, make, file_name, mime, **options)


def require_still(visitor: Visitor | None, environment: str, *, now: datetime) -> Roles:
    """Return the roles that a visitor holds now. Raises Forbidden when they signed out or hold none any more."""
    config = get_config()
    if visitor is None:
        raise Forbidden("nobody is signed in")
    if config.access.is_local:
        return hold_everywhere(config.operator_role)
    if login := config.access.login:
        person = Person(visitor.name, visitor.groups, visitor.session, visitor.ends)
        if refusal := explain_end(get_store(), person, login, now=now):
            raise Forbidden(refusal)
    roles = combine_grants(list_grants(get_store()), visitor.name, visitor.groups)
    if roles.role_in(environment) is None:
        raise Forbidden(f"you hold no role in {environment} any more")
    return roles
