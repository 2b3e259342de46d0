"""The keyboard of the frame: / searches, ? helps, g and a letter open a page.

The one script of the pages. It is made of a file of ours and constants, never of what somebody typed.
"""

import json
from functools import cache
from pathlib import Path

import streamlit as st

from app.navigation import KEYS, path_of


def render_keys() -> None:
    """Listen to the keys, unless the visitor switched them off."""
    script = write_script(is_on=st.session_state.get("frame_keys", True))
    with st.container(key="frame_script"):
        st.html(f"<script>{script}</script>", unsafe_allow_javascript=True)


def write_script(*, is_on: bool) -> str:
    """Return the script of the keys, with none of them if they are switched off."""
    keys = {letter: path_of(name) for name, letter in KEYS.items()} if is_on else None
    return f"window.deckKeys = {json.dumps(keys)};\n{_read_script()}"


@cache
def _read_script() -> str:
    return Path(__file__).with_name("keys.js").read_text(encoding="utf-8")
