"""Edits of a flag that are not saved yet: kept in the memory of this server, so that they survive a reload.

The address holds only the random name of a draft, never what was typed. Nobody but its author can open it.
"""

import secrets
from dataclasses import dataclass
from typing import Any

import streamlit as st

from app.panels.rollouts.resources import open_draft
from app.visitor import get_visitor
from core.flags.store import Flag

_PARAMETER = "draft"


@dataclass(frozen=True, slots=True)
class Draft:
    """What a visitor has typed: the version they began with, the wanted definition, and whether as form or JSON."""

    base: Flag
    wanted: dict[str, Any]
    how: str


def keep_draft(draft: Draft) -> None:
    """Keep the edits, and put their name into the address."""
    base = draft.base
    name = st.session_state.setdefault(_name_of(base), secrets.token_urlsafe(9))
    open_draft(get_visitor().name, base.environment, base.key, name)[:] = [draft]
    st.query_params[_PARAMETER] = name


def find_draft(flag: Flag) -> Draft | None:
    """Return the visitor's edits of this flag, from this session or from the address after a reload."""
    name = st.session_state.get(_name_of(flag)) or st.query_params.get(_PARAMETER)
    if not name:
        return None
    drafts: list[Draft] = open_draft(get_visitor().name, flag.environment, flag.key, name)
    if not drafts:
        return None
    st.session_state[_name_of(flag)] = name
    return drafts[0]


def drop_draft(flag: Flag) -> None:
    """Forget the edits of this flag, and take their name out of the address."""
    name = st.session_state.pop(_name_of(flag), None)
    if name:
        open_draft(get_visitor().name, flag.environment, flag.key, name).clear()
    if _PARAMETER in st.query_params:
        del st.query_params[_PARAMETER]


def _name_of(flag: Flag) -> str:
    return f"draft-{flag.environment}-{flag.key}"
