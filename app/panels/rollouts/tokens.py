"""The access tab of the rollouts page: who may use the HTTP API and for what; a new token's secret is shown once."""

from collections.abc import Sequence
from datetime import UTC, datetime

import streamlit as st

from app import ui
from app.resources import get_config, get_store
from app.text import plain
from app.visitor import lock, make_act
from core.access.credentials import LONGEST_DAYS, issue_token, revoke_token
from core.access.scopes import Token, TokenScope
from core.access.tokens import list_tokens
from core.audit.actions import Action

MEANINGS = {
    TokenScope.EVALUATE: "evaluate: read flags over OFREP and flagd",
    TokenScope.INGEST: "ingest: send retrievals, scores and traces",
    TokenScope.READ: "read: what the pages show, without what users asked",
    TokenScope.QUESTIONS: "questions: with read, what users asked too",
    TokenScope.CHANGE: "change: what an editor changes",
    TokenScope.PROPOSE: "propose: an assistant's change requests over MCP; beside it only read and shared",
    TokenScope.SHARED: "shared: with change or propose, indexes and prompts in production",
    TokenScope.ADMIN: "admin: everything but shared and propose",
}


def render_tokens(environment: str) -> None:
    """Draw the sentence, the tokens of all environments, and the forms that create and revoke one."""
    now = datetime.now(UTC)
    tokens = list_tokens(get_store())
    active = [token for token in tokens if token.describe_state(now) == "active"]
    st.markdown(f"**{describe_access(tokens, active, demanded=get_config().require_tokens)}**")
    if tokens:
        ui.show_table([_row(token, now) for token in tokens], key="tokens-table", file_name="tokens.csv")
    render_creation(environment)
    if active:
        render_revocation(active, environment)
    else:
        ui.render_said("token-revoke")


def describe_access(tokens: Sequence[Token], active: Sequence[Token], *, demanded: bool) -> str:
    """The sentence about who has access."""
    if tokens or demanded:
        return f"Every request to the HTTP API needs a token; {len(active)} of {len(tokens)} are active."
    return "The HTTP API is open to everyone who can reach this server until the first token is made."


def render_secret() -> None:
    """Show the secret of the token that was just created, once."""
    secret = st.session_state.pop("token-secret", None)
    if secret:
        st.warning("Copy this token now: it is not stored and not shown again.")
        st.code(secret, language=None)


def render_creation(environment: str) -> None:
    """The form that creates a token of this environment."""
    with st.form("token-create", clear_on_submit=False):
        st.markdown(f"**New token** for the flags of {plain(environment)}")
        left, right = st.columns([2, 1])
        left.text_input("Name", key="token-name", max_chars=64, placeholder="search-service")
        right.number_input(
            "Valid for days (empty: no expiry)", 1, LONGEST_DAYS, value=90, key="token-days", placeholder="no expiry"
        )
        st.multiselect(
            "Scopes", list(TokenScope), key="token-scopes", format_func=MEANINGS.__getitem__, select_all=False
        )  # admin is one of them
        st.text_input(
            "Services, separated by commas (empty: all of the environment)",
            key="token-services",
            max_chars=500,
            help="What the token sends belongs to these services. With one, rows that name none get it.",
        )
        st.text_input("Reason", key="token-reason", max_chars=500)
        st.form_submit_button(
            "Make the token", on_click=create, args=(environment,), **lock(Action.TOKEN_CREATE, environment)
        )
    render_secret()
    ui.render_said("token-create")


def create(environment: str) -> None:
    """Create the token that the form describes, and keep its secret for the next run of the page."""

    def change() -> int:
        state = st.session_state
        secret, entry = issue_token(
            get_store(), state["token-name"], [TokenScope(scope) for scope in state["token-scopes"]],
            make_act(state["token-reason"], environment), expires_days=state["token-days"],
            services=[name for name in state["token-services"].split(",") if name.strip()],
        )  # fmt: skip
        state["token-secret"] = secret
        return entry

    ui.record_change(change, effect=f"Servers accept it within {ui.FLIP_SEEN_WITHIN_S} seconds.", place="token-create")


def render_revocation(active: Sequence[Token], environment: str) -> None:
    """The form that revokes a token."""
    with st.form("token-revoke"):
        st.markdown("**Revoke a token**")
        st.selectbox("Token", [token.name for token in active], key="token-revoked")
        st.text_input("Reason", key="token-revoke-reason", max_chars=500)
        st.form_submit_button(
            "Revoke", on_click=ui.record_change, args=(lambda: _revoke(environment),),
            kwargs={"effect": f"Servers refuse it within {ui.FLIP_SEEN_WITHIN_S} seconds.", "place": "token-revoke"},
            **lock(Action.TOKEN_REVOKE, environment),
        )  # fmt: skip
    ui.render_said("token-revoke")


def _revoke(environment: str) -> int:
    state = st.session_state
    return revoke_token(get_store(), state["token-revoked"], make_act(state["token-revoke-reason"], environment))


def _row(token: Token, now: datetime) -> dict[str, object]:
    return {
        "token": token.name, "starts with": f"{token.hint}…", "state": token.describe_state(now),
        "scopes": ", ".join(token.scopes), "environment": token.environment,
        "services": ", ".join(token.services) or "all",
        "valid until": f"{token.expires:%d %b %Y}" if token.expires else "no expiry",
        "made": token.created, "by": token.created_by,
    }  # fmt: skip
