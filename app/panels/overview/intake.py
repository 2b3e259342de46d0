"""What services sent and the deck did not take, on the overview: by entry point and reason, with an example of each."""

import streamlit as st

from app import ui
from app.panels.overview.resources import load_refusals
from core.intake.counts import Refusals
from quarterdeck.clock import from_ms
from quarterdeck.intake import DUPLICATE
from quarterdeck.scope import fold_environment

HOURS = 24


def render_intake(environment: str, *, is_reader: bool) -> None:
    """Draw what was refused in the last hours; nothing if all was taken. Examples are for readers of questions."""
    refused = [each for each in load_refusals(fold_environment(environment), HOURS) if each.reason != DUPLICATE]
    if not refused:
        return
    st.subheader("Refused data", anchor=False)
    count = sum(each.count for each in refused)
    what = "1 row, span or score was" if count == 1 else f"{count:,} rows, spans or scores were"
    st.caption(f"In the last {HOURS} hours {what} refused and not stored.")
    rows = [
        {"service": each.scope.service, "entry point": each.source, "reason": each.reason, "count": each.count,
         "last": from_ms(each.last_ms)}
        for each in refused
    ]  # fmt: skip
    ui.show_table(rows, key="overview-intake", file_name="refused.csv")
    if is_reader:
        render_examples(refused)
    else:
        st.caption(
            "Examples may hold what users asked, and your role does not include reading questions. Ask an admin."
        )


def render_examples(refused: list[Refusals]) -> None:
    """One redacted example of each reason."""
    with st.expander("One example of each"):
        for each in refused:
            st.text(f"{each.source}, {each.reason}: {ui.shorten(each.example, 2_000) or 'none was kept'}")
