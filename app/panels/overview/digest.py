"""The digest of the last week on the overview: what a mail would say, and the same as files."""

from datetime import UTC, datetime
from functools import partial

import streamlit as st

from app import ui
from app.digests import MIMES, write_digest
from app.downloads import offer_file
from app.panels.overview.resources import load_digest
from app.resources import get_config
from app.visitor import may_read_questions
from core.audit import permissions
from core.audit.permissions import Roles

_ENDINGS = {"html": ("HTML", "html"), "markdown": ("Markdown", "md"), "eml": ("E-mail", "eml")}


def render_digest(frame: ui.Frame) -> None:
    """Draw the digest in an expander; it is read once somebody opens it."""
    shown = st.expander("This week in words", on_change="rerun", key="overview_digest")
    with shown:
        if not shown.open:
            return
        with ui.showing_errors("The digest could not be read"):
            _render(frame)


def _render(frame: ui.Frame) -> None:
    digest = load_digest(frame.scope, frame.today, readable=may_read_questions(frame.environment))
    now = datetime.now(UTC)
    st.markdown(write_digest(digest, "markdown", get_config(), at=now, level=4))
    with st.container(horizontal=True):
        for name, (label, ending) in _ENDINGS.items():
            file_name = f"digest-{digest.period.last}.{ending}"
            offer_file(label, partial(write_file, frame, file_format=name), file_name, MIMES[name])


def write_file(frame: ui.Frame, roles: Roles, *, file_format: str) -> str:
    """Return the digest as a file for a visitor who holds these roles now."""
    readable = permissions.may_read_questions(roles, frame.environment)
    digest = load_digest(frame.scope, frame.today, readable=readable)
    return write_digest(digest, file_format, get_config(), at=datetime.now(UTC))
