"""What one user gets from all flags of an environment at once: variant, value and why."""

import json
from collections.abc import Sequence

import streamlit as st

from app import ui
from app.text import plain, plain_error
from core.errors import InvalidInput
from core.flags.answers import answer_all
from core.flags.attributes import parse_context
from core.flags.sentences import list_attributes
from core.flags.store import Flag


def render_answers(environment: str, flags: Sequence[Flag]) -> None:
    """Draw the fields for a user, and once one is named, the answer of every flag."""
    with st.expander("What does a user get from every flag?"):
        left, right = st.columns(2)
        user = left.text_input("User (targetingKey)", key="answers-user", max_chars=300)
        text = right.text_input(
            "Other attributes, as JSON", key="answers-more", placeholder='{"country": "DE"}', max_chars=10_000
        )
        names = list_attributes(*(flag.definition for flag in flags))
        if names:
            shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
            st.caption(f"The flags of {plain(environment)} ask for: {plain(shown)}.")
        if not user and not text:
            return
        try:
            answers = answer_all({flag.key: flag.definition for flag in flags}, parse_context(user, text or ""))
        except InvalidInput as error:
            st.error(plain_error(error))
            return
        rows = [
            {
                "flag": each.key,
                "variant": each.variant or "the caller's default",
                "value": "" if each.variant is None else json.dumps(each.value, ensure_ascii=False),
                "why": each.why,
            }
            for each in answers
        ]
        ui.show_table(rows, key="answers-table", file_name="answers.csv")
