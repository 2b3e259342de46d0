"""Sending questions to review: a new queue by a rule, or of the questions that are selected."""

from collections.abc import Callable, Sequence
from datetime import timedelta

import streamlit as st

from app import ui
from app.panels.coverage.resources import load_coverage
from app.panels.questions.resources import TOPIC_DAYS, load_queues
from app.resources import get_store
from app.visitor import get_visitor, lock, make_act
from core.audit.actions import Action
from core.drift.present import LowScores
from core.errors import InvalidInput
from core.log.filters import LoggedQuestion
from core.log.retrievals import Window
from core.reviews.drawing import MOST_QUESTIONS
from core.reviews.operations import QueueDraft, create_queue
from core.reviews.queues import ReviewItem
from core.reviews.sampling import ReviewSample, draw_items
from core.reviews.tasks import ReviewRule, ReviewTask
from quarterdeck.clock import to_ms
from quarterdeck.scope import Scope

_RULES = tuple(rule for rule in ReviewRule if rule is not ReviewRule.SELECTION)
_SIZE = 60
NEW, SEND = "review-new", "review-send"  # where it is said what became of a queue


def render_new_queue(frame: ui.Frame, low: LowScores) -> None:
    """Draw the form that begins a queue by a rule, over the days that the page shows."""
    with (
        st.popover("New review queue", icon=":material/playlist_add:"),
        st.form("review-new", border=False, enter_to_submit=False),
    ):
        _render_fields("new")
        st.selectbox("Which questions", _RULES, key="review_new_rule", format_func=str.capitalize)
        st.caption("Only a random sample says something about all answers, and corrects a judge's mean.")
        left, right = st.columns(2)
        left.number_input("How many", 1, MOST_QUESTIONS, _SIZE, key="review_new_size")
        right.number_input("Seed", 0, 1_000_000, 0, key="review_new_seed", help="The same seed draws the same ones.")
        st.form_submit_button(
            "Begin", on_click=_begin, args=(frame, low), **lock(Action.REVIEW_CREATE, frame.environment)
        )


def render_sending(selected: Sequence[LoggedQuestion], environment: str) -> None:
    """Draw the form that begins a queue of the selected questions."""
    several = "" if len(selected) == 1 else f" ({len(selected)})"
    with (
        st.popover(f"Send to review{several}", icon=":material/rate_review:"),
        st.form("review-send", border=False, enter_to_submit=False),
    ):
        _render_fields("send")
        st.form_submit_button(
            "Send", on_click=_send, args=(tuple(selected),), **lock(Action.REVIEW_CREATE, environment)
        )
    ui.render_said(SEND)


def _render_fields(form: str) -> None:
    st.text_input("Name of the queue", key=f"review_{form}_name", max_chars=80)
    st.selectbox("What is asked", list(ReviewTask), key=f"review_{form}_task", format_func=str.capitalize)
    st.text_input(
        "Reviewers", value=get_visitor().name, key=f"review_{form}_reviewers", max_chars=2_000,
        help="Names as they sign in, separated by commas. They need the role editor, and to read questions.",
    )  # fmt: skip


def _draft(form: str, scope: Scope, rule: ReviewRule) -> QueueDraft:
    given = (name.strip() for name in st.session_state[f"review_{form}_reviewers"].split(","))
    reviewers = tuple(dict.fromkeys(name for name in given if name))
    name = st.session_state[f"review_{form}_name"].strip()
    return QueueDraft(scope, name, ReviewTask(st.session_state[f"review_{form}_task"]), rule, reviewers)


def _begin(frame: ui.Frame, low: LowScores) -> None:
    rule = ReviewRule(st.session_state["review_new_rule"])
    size, seed = int(st.session_state["review_new_size"]), int(st.session_state["review_new_seed"])

    def find(draft: QueueDraft) -> Sequence[ReviewItem]:
        window = Window(frame.today - timedelta(days=frame.days - 1), frame.today)
        is_by_topic = rule is ReviewRule.TOPIC
        coverage = load_coverage(frame.scope, frame.today, min(frame.days, TOPIC_DAYS), None) if is_by_topic else None
        sample = ReviewSample(draft.task, rule, size, seed)
        return draw_items(get_store(), frame.scope, window, sample, low=low, coverage=coverage)

    _create("new", frame.scope, rule, find)


def _send(selected: tuple[LoggedQuestion, ...]) -> None:
    scopes = {Scope(question.environment, question.service) for question in selected}

    def find(_draft: QueueDraft) -> Sequence[ReviewItem]:
        if len(scopes) != 1:
            raise InvalidInput("questions", "choose questions of one service")
        return [ReviewItem(question.retrieval_id, to_ms(question.ts)) for question in selected]

    _create("send", next(iter(scopes)), ReviewRule.SELECTION, find)


def _create(form: str, scope: Scope, rule: ReviewRule, find: Callable[[QueueDraft], Sequence[ReviewItem]]) -> None:
    def create() -> int:
        draft = _draft(form, scope, rule)
        act = make_act(f"review of {draft.task}: {draft.rule}", scope.environment)
        return create_queue(get_store(), draft, find(draft), act)

    ui.record_change(create, effect="The queue is on the tab Review.", place=SEND if form == "send" else NEW)
    load_queues.clear()
