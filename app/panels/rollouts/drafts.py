"""Edits of a flag that are not saved yet: kept in the memory of this server, so that they survive a reload.

The address holds only the random name of a draft, never what was typed. Nobody but its author can open it.
"""

import secrets
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from app.visitor import get_visitor
from core.flags.store import Flag

_PARAMETER = "draft"
_MOST_DRAFTS, _KEPT_FOR_S = 2_000, 86_400.0


@dataclass(frozen=True, slots=True)
class Draft:
    """What a visitor has typed: the version they began with, the wanted definition, and whether as form or JSON."""

    base: Flag
    wanted: dict[str, Any]
    how: str


@dataclass(slots=True)
class _Place:
    """Where one draft lies; empty until something is typed, and again once it is saved or discarded."""

    drafts: list[Draft] = field(default_factory=list)


def keep_draft(draft: Draft) -> None:
    """Keep the edits, and put their name into the address."""
    base = draft.base
    name = st.session_state.setdefault(_name_of(base), secrets.token_urlsafe(9))
    _open_place(get_visitor().name, base.environment, base.key, name).drafts[:] = [draft]
    st.query_params[_PARAMETER] = name


def find_draft(flag: Flag) -> Draft | None:
    """Return the visitor's edits of this flag, from this session or from the address after a reload."""
    name = st.session_state.get(_name_of(flag)) or st.query_params.get(_PARAMETER)
    if not name:
        return None
    drafts = _open_place(get_visitor().name, flag.environment, flag.key, name).drafts
    if not drafts:
        return None
    st.session_state[_name_of(flag)] = name
    return drafts[0]


def drop_draft(flag: Flag) -> None:
    """Forget the edits of this flag, and take their name out of the address."""
    name = st.session_state.pop(_name_of(flag), None)
    if name:
        _open_place(get_visitor().name, flag.environment, flag.key, name).drafts.clear()
    if _PARAMETER in st.query_params:
        del st.query_params[_PARAMETER]


def _name_of(flag: Flag) -> str:
    return f"draft-{flag.environment}-{flag.key}"


@st.cache_resource(ttl=_KEPT_FOR_S, max_entries=_MOST_DRAFTS, show_spinner=False)
def _open_place(author: str, environment: str, key: str, name: str) -> _Place:  # noqa: ARG001 - they are its key
    return _Place()
