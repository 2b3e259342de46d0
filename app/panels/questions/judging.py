"""Judging answers by hand: good or bad, with a note, for one question or for several."""

from collections.abc import Sequence

import streamlit as st

from app import ui
from app.panels.questions.resources import load_page
from app.resources import get_store
from app.visitor import lock, make_act
from core.audit.actions import Action
from core.log.filters import LoggedQuestion
from core.questions.operations import BAD, GOOD, judge_questions
from core.wording.counts import count_of


def render_judging(questions: Sequence[LoggedQuestion], environment: str, *, key: str) -> None:
    """Draw the two buttons and the note, and say beside them what became of the last click."""
    locked = lock(Action.QUESTION_JUDGE, environment)
    several = "" if len(questions) == 1 else f" ({len(questions)})"
    with st.container(horizontal=True):
        for word, value, icon in (
            ("Good", GOOD, ":material/thumb_up:"), ("Bad", BAD, ":material/thumb_down:"),
        ):  # fmt: skip
            st.button(
                f"{word}{several}", key=f"{word}-{key}", icon=icon, on_click=_judge,
                args=(tuple(questions), value, key, environment), **locked,
            )  # fmt: skip
        st.text_input(
            "Note", key=f"note-{key}", max_chars=500, placeholder="why (optional)", label_visibility="collapsed",
            width=220,
        )  # fmt: skip
    ui.render_said(_place(key))


def _judge(questions: tuple[LoggedQuestion, ...], value: float, key: str, environment: str) -> None:
    word, note = "good" if value > 0 else "bad", st.session_state[f"note-{key}"].strip()

    def judge() -> int:
        act = make_act(note or f"judged {word} on the questions page", environment)
        return judge_questions(get_store(), questions, value, act, note=note)

    said = f"Marked {count_of(len(questions), 'answer')} {word}."
    ui.record_change(judge, effect=said, place=_place(key), forget=load_page.clear)


def _place(key: str) -> str:
    return f"judge-{key}"
