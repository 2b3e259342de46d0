"""Access to the pages: the sign-in page, the warnings, and the visitor's name and role at the bottom of the sidebar."""

from contextlib import suppress
from shlex import quote

import streamlit as st

from app.looks import Mark
from app.navigation import shown_environment
from app.resources import get_config, is_demo, list_environments
from app.text import plain, plain_with_commands
from app.visitor import Visitor, get_visitor, note_visit, sign_out
from core.audit.permissions import Role
from core.errors import QuarterdeckError


def find_admitted() -> tuple[Visitor | None, str]:
    """Return the visitor if they may see the pages, else None and the reason."""
    try:
        visitor = get_visitor()
    except QuarterdeckError as error:
        return None, str(error)
    environments = list_environments()
    shown, open_ones = shown_environment(environments), _list_open(visitor)
    if shown not in open_ones and open_ones and "environment" not in st.query_params:
        st.session_state["environment_kept"] = shown = open_ones[0]
    note_visit(visitor)
    return (visitor, "") if shown in open_ones else (None, _say_no_role(visitor, shown))


def render_entrance(refusal: str) -> None:
    """Draw the sign-in page, with one line that says why access is refused."""
    with st.container(key="entrance"):
        st.title("Quarterdeck", anchor=False)
        st.markdown(f"#### {plain_with_commands(refusal[:1].upper() + refusal[1:])}.")
        if get_config().access.login:
            left, right = st.columns([1, 4])
            left.button("Sign in", type="primary", on_click=st.login)
            if st.user.get("is_logged_in"):
                right.button("Sign out", on_click=sign_out)
        with suppress(QuarterdeckError):
            for environment in _list_open(get_visitor()):
                st.button(f"Look at {plain(environment)}", on_click=_look_at, args=(environment,))


def render_visitor(visitor: Visitor) -> None:
    """Draw the visitor's name, and what they may do in the environment that is shown."""
    config = get_config()
    access, role = config.access, visitor.roles.role_in(shown_environment(list_environments()))
    if access.is_local:
        st.caption(
            f":material/person: **{plain(visitor.name)}**, the local operator, as **{role}**",
            help="No login is configured: everybody on this machine is the local operator.",
        )
    else:
        st.caption(f":material/person: You are **{plain(visitor.name)}**, here as **{role}**{_say_rights(role)}.")
    if access.login:
        st.button("Sign out", on_click=sign_out, type="tertiary")
    if is_demo():
        st.caption(
            "**Demo data**: users are simulated, scores are real.",
            help="Who asks what and when, and who rates an answer, is simulated; every score is what the index really "
            "answered. Answers are sentences copied from the documents, their costs simulated list prices; a rating is "
            "good where an answer has a sentence near the question.",
        )


def render_warning() -> None:
    """Warn on every page when other machines have access without a login."""
    config = get_config()
    if config.access.is_local and config.access.open_to_all:
        st.warning(
            f"**No login, and open to other machines**: everybody who reaches this address acts as "
            f"{plain(config.operator)}, as {config.operator_role}.",
            icon=Mark.WARNING.icon,
        )


def _list_open(visitor: Visitor) -> list[str]:
    return [each for each in list_environments() if visitor.roles.role_in(each)]


def _look_at(environment: str) -> None:
    st.session_state["environment_kept"] = st.query_params["environment"] = environment


def _say_no_role(visitor: Visitor, environment: str) -> str:
    return (
        f"you are {visitor.name}, and you have no role in {environment} yet. Ask an admin to run "
        f'`quarterdeck roles grant {quote(visitor.name)} viewer --reason "…"`'
    )


def _say_rights(role: Role | None) -> str:
    return " and change nothing" if role is Role.VIEWER else ""
