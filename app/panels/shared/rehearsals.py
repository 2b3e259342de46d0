"""What a rollback would do, before its button: the sentence, and the questions for those who may read them."""

from collections.abc import Callable
from datetime import UTC, datetime

import streamlit as st

from app import ui
from app.resources import get_store
from app.text import plain, plain_error
from app.visitor import may_read_questions
from core.deployments.colors import Deployment
from core.errors import QuarterdeckError
from core.flags.store import Flag
from core.rehearsals.comparing import Rehearsal, describe_rehearsal
from core.rehearsals.report import (
    rehearse_canary,
    rehearse_color,
    rehearse_flag,
    rehearse_index,
    rehearse_prompt,
)
from quarterdeck.scope import Scope

_KEPT_S = 60
_SPINNER = "Looking at what a rollback would do …"


@st.cache_resource(ttl=_KEPT_S, max_entries=50, show_spinner=_SPINNER)
def load_canary(environment: str, key: str, version: int, _flag: Flag) -> Rehearsal:  # noqa: ARG001 - they are its key
    """Return what rolling a canary back would do."""
    return rehearse_canary(get_store(), _flag, now=datetime.now(UTC))


@st.cache_resource(ttl=_KEPT_S, max_entries=50, show_spinner=_SPINNER)
def load_flag(environment: str, key: str, version: int, _flag: Flag) -> Rehearsal:  # noqa: ARG001 - they are its key
    """Return what turning a flag off would do."""
    return rehearse_flag(get_store(), _flag, now=datetime.now(UTC))


@st.cache_resource(ttl=_KEPT_S, max_entries=50, show_spinner=_SPINNER)
def load_index(alias: str, live: str, scope: Scope) -> Rehearsal | None:  # noqa: ARG001 - the index is part of its key
    """Return what rolling an alias back would do."""
    return rehearse_index(get_store(), alias, scope, now=datetime.now(UTC))


@st.cache_resource(ttl=_KEPT_S, max_entries=50, show_spinner=_SPINNER)
def load_color(service: str, version: int, _found: Deployment) -> Rehearsal:  # noqa: ARG001 - they are its key
    """Return what switching a service back would do."""
    return rehearse_color(get_store(), _found, now=datetime.now(UTC))


@st.cache_resource(ttl=_KEPT_S, max_entries=50, show_spinner=_SPINNER)
def load_prompt(name: str, version: int) -> Rehearsal | None:  # noqa: ARG001 - the version is part of its key
    """Return what undoing the last promotion of a prompt would do."""
    return rehearse_prompt(get_store(), name, now=datetime.now(UTC))


def render_rehearsal(read: Callable[[], Rehearsal | None], environment: str, *, key: str) -> None:
    """Draw what a rollback would do; a log that cannot be read is named and hides no button."""
    try:
        found = read()
    except QuarterdeckError as error:
        st.caption(f"What a rollback would do cannot be told: {plain_error(error)}")
        return
    if found is None:
        return
    st.caption(plain(describe_rehearsal(found)))
    if found.named and may_read_questions(environment):
        with st.expander("Questions that would change"):
            ui.show_table(
                [
                    {"question": each.text, "asked": each.asked, "now": round(each.now, 3),
                     "after a rollback": round(each.back, 3), "change": round(each.change, 3)}
                    for each in found.named
                ],
                key=key, file_name="rollback.csv",
            )  # fmt: skip
