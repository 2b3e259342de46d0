"""The questions of a page as a table, its paging, the files, and what those see who may not read questions."""

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from app import ui
from app.downloads import offer_file
from app.panels.questions.filters import put
from app.panels.questions.resources import load_service
from app.resources import get_store
from app.tables import KeptSelection
from app.text import show_unseen
from core.audit.permissions import Roles, may_read_questions
from core.coverage.assignments import TopicAssignments
from core.errors import Forbidden
from core.log.filters import LoggedQuestion, Order, QuestionFilter, QuestionPage
from core.log.questions import list_matching
from core.log.values import States
from core.questions.files import MOST_ROWS, to_record, write_csv, write_lines
from core.questions.operations import JUDGEMENT, REVIEWER

_HEIGHT = 560
_TURNS = {
    Order.NEWEST: ("Newest", "Older"), Order.OLDEST: ("Oldest", "Newer"), Order.LOWEST: ("Lowest", "Higher"),
}  # fmt: skip


def render_table(
    page: QuestionPage, kept: KeptSelection, *, narrow: bool, topics: TopicAssignments | None = None
) -> list[LoggedQuestion]:
    """Draw the questions; return those that the visitor selected. `narrow` leaves room for a panel beside it."""
    rows = [_as_row(question, topics) for question in page.questions]
    shown = ["when", "question", "score", "state", *(["topic"] if topics else []), "first document", "feedback"]
    if narrow:
        shown = shown[:4]
    event = st.dataframe(
        rows, hide_index=True, on_select="rerun", selection_mode="multi-row", **kept.options,
        height=min(_HEIGHT, 36 + 35 * max(1, len(rows))), placeholder="",
        column_order=[*shown, *(name for name in (rows[0] if rows else {}) if name not in shown)],
        column_config={
            "when": ui.time_column(),
            "question": st.column_config.TextColumn(width=260 if narrow else 340),
            "score": st.column_config.ProgressColumn(min_value=0, max_value=1, format="%.2f", width=110),
            "state": st.column_config.TextColumn(width=70),
            "topic": st.column_config.TextColumn(width=150),
        },
    )  # fmt: skip
    chosen: Sequence[int] = event["selection"]["rows"]
    return [page.questions[place] for place in chosen if place < len(page.questions)]


def render_paging(page: QuestionPage, order: Order, *, is_first: bool) -> None:
    """Draw the buttons to the first and to the following questions."""
    following = None if page.following is None else str(page.following)
    first, further = _TURNS[order]
    with st.container(horizontal=True):
        st.button(first, icon=":material/first_page:", disabled=is_first, on_click=_turn, args=(None,))
        st.button(
            further, icon=":material/chevron_right:", disabled=following is None, on_click=_turn, args=(following,)
        )


def render_files(wanted: QuestionFilter, order: Order, selected: Sequence[LoggedQuestion], environment: str) -> None:
    """Draw the buttons for the selected questions, or for all that match, as CSV and JSON Lines."""
    what = f"{len(selected)} selected" if selected else f"all (at most {MOST_ROWS:,})"
    kinds = (
        ("CSV", write_csv, "questions.csv", "text/csv"),
        ("JSON Lines", write_lines, "questions.jsonl", "application/x-ndjson"),
    )
    with st.container(horizontal=True):
        for kind, write, name, mime in kinds:
            export = _export(write, wanted, order, tuple(selected), environment)
            offer_file(f"{kind}, {what}", export, name, mime, key=f"questions-{kind}")


def render_counts(states: States) -> None:
    """Draw what those see who may not read questions: how many of each state there are."""
    st.caption("Your role does not include reading questions: counts only. Ask an admin.")
    rows = [
        {"state": name, "questions": count}
        for name, count in (
            ("scored", states.scored + states.unmapped), ("unscored", states.unscored), ("empty", states.empty),
            ("failed", states.failed),
        )
    ]  # fmt: skip
    ui.show_table(rows, key="questions-counts", file_name="states.csv")


def find_feedback(question: LoggedQuestion) -> float | None:
    """Return a reviewer's feedback, else the newest that is on the row."""
    given = [score.value for score in question.scores if (score.name, score.source) == (JUDGEMENT, REVIEWER)]
    return given[0] if given else question.feedback


def say_feedback(value: float | None) -> str:
    """Return feedback as a word with a sign."""
    return "" if value is None else "✓ good" if value > 0 else "✗ bad" if value < 0 else "neutral"


def _turn(cursor: str | None) -> None:
    put("after", [] if cursor is None else [cursor])


def _as_row(question: LoggedQuestion, topics: TopicAssignments | None) -> dict[str, Any]:
    first = question.documents[0].id if question.documents else ""
    return {
        "when": question.ts,
        "question": ui.shorten(show_unseen(question.query), 400) or "(text removed)",
        "score": question.similarity,
        "state": question.state,
        **({"topic": show_unseen(topics.labels.get(topics.find(question), ""))} if topics else {}),
        "first document": show_unseen(first),
        "feedback": say_feedback(find_feedback(question)),
        "service": show_unseen(question.service),
        "session": show_unseen(question.session_id or ""),
        "user": show_unseen(question.user_id or ""),
        "arm": show_unseen(question.arm or ""),
        "prompt": show_unseen(question.prompt_version or ""),
        "index": show_unseen(question.index_version or ""),
    }


def _export(
    write: Callable[..., str],
    wanted: QuestionFilter,
    order: Order,
    selected: tuple[LoggedQuestion, ...],
    environment: str,
) -> Callable[[Roles], str]:
    """Return the function that writes the file on click, for whoever may still read questions then."""

    def export(roles: Roles) -> str:
        if not may_read_questions(roles, environment):
            raise Forbidden("your role does not include reading questions")
        found = selected or tuple(list_matching(get_store(), wanted, limit=MOST_ROWS, order=order))
        return write(to_record(question, load_service(question.service)) for question in found)

    return export
