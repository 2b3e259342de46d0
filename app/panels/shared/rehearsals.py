"""What a rollback would do, before its button: the sentence, and the questions for those who may read them."""

from collections.abc import Callable
from datetime import datetime

import streamlit as st

from app import ui
from app.resources import load_rehearsal
from app.text import plain, plain_error
from app.visitor import may_read_questions
from core.errors import QuarterdeckError
from core.rehearsals.comparing import Rehearsal, describe_rehearsal


def render_rehearsal(
    about: tuple[object, ...], read: Callable[[datetime], Rehearsal | None], environment: str, *, key: str
) -> None:
    """Draw what a rollback would do, as `read` finds it; a log that cannot be read is named and hides no button.

    `about` names what would be rolled back, with its version: while it is equal, the answer may be a minute old.
    """
    try:
        found = load_rehearsal(about, read)
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
                column_config=dict.fromkeys(("now", "after a rollback", "change"), ui.score_column()),
            )  # fmt: skip
