"""The review queue: one question at a time for the keyboard, how far the reviewers are, and how far they agree."""

import streamlit as st

from app import ui
from app.panels.questions.resources import load_page, load_queues
from app.panels.questions.sending import NEW, render_new_queue
from app.resources import get_store
from app.text import plain, plain_error, show_unseen
from app.visitor import get_visitor, lock, make_act, may_read_questions
from core.audit.actions import Action
from core.drift.present import LowScores
from core.errors import QuarterdeckError
from core.log.filters import LoggedQuestion, QuestionFilter
from core.reviews.operations import close_queue, label_question
from core.reviews.queues import ReviewLabel, ReviewQueue
from core.reviews.reliability import FEWEST_SHARED, Reliability, ReliabilityStatus
from core.reviews.report import QueueProgress, report_queue
from core.reviews.tasks import CHOICES, QUESTIONS, LabelChoice, ReviewRule
from core.wording.counts import count_of
from quarterdeck.clock import to_ms
from quarterdeck.scope import Scope

_SKIP_KEY, _BACK_KEY = "S", "B"
_MOST_FORMER = 3
_LOOK = ui.StatusLook("Review", "blue", ui.Mark.REVIEW)


def render_reviews(frame: ui.Frame, low: LowScores) -> None:
    """Draw the chosen queue: the next question for its reviewers, its progress for everybody else."""
    if not may_read_questions(frame.environment):
        st.caption("Your role does not include reading questions: you cannot review them. Ask an admin.")
        return
    queues = load_queues(frame.scope)
    if not queues:
        ui.render_verdict(
            "No question waits for a review.", _LOOK,
            detail="Begin a queue: by a rule below, or from questions that you select in the list.",
        )  # fmt: skip
        render_new_queue(frame, low)
        ui.render_said(NEW)
        return
    names = {str(queue.queue_id): queue for queue in queues}
    if st.session_state.get("queue") not in names:
        st.session_state.pop("queue", None)
    if st.query_params.get("queue", "") not in ("", *names):
        st.info(f"There is no review queue {plain(st.query_params['queue'][:20])} in this service.")
        del st.query_params["queue"]
    chosen = st.selectbox(
        "Queue", list(names), key="queue", bind="query-params", label_visibility="collapsed",
        format_func=lambda number: _say_queue(names[number]),
    )  # fmt: skip
    progress = report_queue(get_store(), names[chosen or str(queues[0].queue_id)])
    _render_sentence(progress)
    _render_problem()
    _render_next(progress)
    _render_progress(progress)
    with st.container(horizontal=True):
        render_new_queue(frame, low)
        if progress.queue.closed is None:
            st.button(
                "Close this queue", type="tertiary", on_click=_close, args=(progress.queue,),
                **lock(Action.REVIEW_CLOSE, frame.environment),
            )  # fmt: skip
    ui.render_said(NEW)


def say_reliability(found: Reliability) -> str:
    """Return how far reviewers agree, in one sentence."""
    if found.status is ReliabilityStatus.TOO_FEW:
        shared = count_of(found.shared, "question")
        return f"Agreement: {shared} with labels of two reviewers; from {FEWEST_SHARED} on it is measured."
    if found.status is ReliabilityStatus.NO_VARIANCE:
        return f"Agreement: all labels of {count_of(found.shared, 'question')} that two reviewers labeled are equal."
    same, alpha = ui.format_share(found.same), f"{found.alpha:.2f}"
    return (
        f"Agreement: Krippendorff's alpha {alpha} (95% interval {found.low:.2f} to {found.high:.2f}) over "
        f"{found.shared} questions that two or more labeled; {same} of pairs are equal."
    )


def _say_queue(queue: ReviewQueue) -> str:
    closed = "" if queue.closed is None else " · closed"
    return f"{show_unseen(queue.name)} · {queue.task} · {queue.rule}{closed}"


def _render_sentence(progress: QueueProgress) -> None:
    queue, total = progress.queue, len(progress.items)
    me = get_visitor().name
    of = count_of(total, "question")
    if queue.has_reviewer(me) and queue.closed is None:
        left = total - progress.given.get(me, 0)
        waits = "waits" if left == 1 else "wait"
        sentence = f"{left} of {of} {waits} for your label." if left else f"You have labeled all {of}."
    else:
        labels = sum(progress.given.values())
        sentence = f"{count_of(labels, 'label')} for {of}."
    ui.render_verdict(sentence, _LOOK, detail=say_reliability(progress.reliability))


def _render_problem() -> None:
    if problem := st.session_state.pop("review_problem", ""):
        st.error(f"**Nothing was changed** — {problem}")


def _render_next(progress: QueueProgress) -> None:
    """Draw the question that waits for the visitor, with a key for every button."""
    queue, me = progress.queue, get_visitor().name
    if not queue.has_reviewer(me):
        st.caption(f"Its reviewers: {plain(', '.join(queue.reviewers))}.")
        return
    if queue.closed is not None:
        st.caption("This queue is closed.")
        return
    at = _find_due(progress, me)
    if at is None:
        st.success("Nothing is left for you in this queue.")
        _render_back(progress, me)
        return
    page = load_page(QuestionFilter(scope=queue.scope, retrieval_id=at), None, 1)
    with st.container(border=True):
        if page.questions:
            _render_question(page.questions[0])
        else:
            st.caption("This question was removed from the log. Skip it.")
        own = next((each for each in progress.labels if (each.retrieval_id, each.reviewer) == (at, me)), None)
        _render_buttons(progress, at, own, can_label=bool(page.questions))


def _render_question(question: LoggedQuestion) -> None:
    st.markdown(f"**{plain(ui.shorten(question.query, 1_000)) or 'The text of this question was removed.'}**")
    _render_former(question)
    left, right = st.columns([3, 2])
    with left:
        st.caption("Answer")
        if question.answer:
            with st.container(height=220, border=False):
                st.text(show_unseen(question.answer))
        else:
            st.caption("No answer was stored.")
    with right:
        st.caption("Found for it")
        rows = [{"rank": hit.rank, "document": show_unseen(hit.id), "score": hit.score} for hit in question.documents]
        columns = {"score": ui.score_column(), "rank": st.column_config.NumberColumn(width=50)}
        if rows:
            st.dataframe(rows, hide_index=True, key="review-hits", placeholder="—", column_config=columns, height=220)
        else:
            st.caption("No document.")


def _render_former(question: LoggedQuestion) -> None:
    """Draw what was asked before in the session: some questions mean nothing alone."""
    if not question.session_id:
        return
    wanted = QuestionFilter(
        scope=Scope(question.environment, question.service), session_id=question.session_id, end_ms=to_ms(question.ts)
    )
    former = load_page(wanted, None, _MOST_FORMER).questions
    if former:
        asked = " · ".join(plain(ui.shorten(each.query, 120)) for each in reversed(former))
        st.caption(f"Before in this session: {asked}")


def _render_buttons(progress: QueueProgress, at: str, own: ReviewLabel | None, *, can_label: bool) -> None:
    queue = progress.queue
    locked = lock(Action.REVIEW_LABEL, queue.scope.environment)
    st.markdown(f"**{QUESTIONS[queue.task]}**")
    if own is not None:
        given = next((each.word for each in CHOICES[queue.task] if each.value == own.value), "skipped")
        st.caption(f"Your label: {given}.")
    st.text_input(
        "Note", key=f"review-note-{at}", max_chars=500, placeholder="why (optional; the Tab key leads here)",
        label_visibility="collapsed",
    )  # fmt: skip
    with st.container(horizontal=True):
        for choice in CHOICES[queue.task] if can_label else ():
            st.button(
                choice.word, key=f"review-{choice.key}", shortcut=choice.key, on_click=_label,
                args=(queue, at, choice), type="primary" if choice.key == "1" else "secondary", **locked,
            )  # fmt: skip
        st.button("Skip", key="review-skip", shortcut=_SKIP_KEY, on_click=_label, args=(queue, at, None), **locked)
        _render_back(progress, get_visitor().name)


def _render_back(progress: QueueProgress, me: str) -> None:
    st.button(
        "Back", key="review-back", shortcut=_BACK_KEY, type="tertiary", disabled=progress.find_former(me) is None,
        on_click=_go_back, args=(progress.queue,),
    )  # fmt: skip


def _find_due(progress: QueueProgress, me: str) -> str | None:
    """Return the question that is to be labeled: the next one, or the one that the visitor went back to."""
    queue_id, former = st.session_state.get("review_back", (0, ""))
    return former if queue_id == progress.queue.queue_id else progress.find_next(me)


def _go_back(queue: ReviewQueue) -> None:
    former = report_queue(get_store(), queue).find_former(get_visitor().name)
    if former is not None:
        st.session_state["review_back"] = (queue.queue_id, former)


def _label(queue: ReviewQueue, at: str, choice: LabelChoice | None) -> None:
    """Save the label, unless the key was pressed again before the next question was shown."""
    progress, me = report_queue(get_store(), queue), get_visitor().name
    if _find_due(progress, me) != at:
        return
    if choice is None and any(
        (each.retrieval_id, each.reviewer) == (at, me) and each.value is not None for each in progress.labels
    ):  # skipping what one went back to leaves its label
        st.session_state.pop("review_back", None)
        return
    note = st.session_state.get(f"review-note-{at}", "").strip()
    value = None if choice is None else choice.value
    try:
        act = make_act(f"labeled in the review queue {queue.name}", queue.scope.environment)
        label_question(get_store(), queue, at, value, act, note=note)
    except QuarterdeckError as error:
        st.session_state["review_problem"] = plain_error(error)
        return
    st.session_state.pop("review_back", None)


def _render_progress(progress: QueueProgress) -> None:
    """Draw who labeled how much."""
    rows = [
        {"reviewer": show_unseen(name), "labeled or skipped": progress.given.get(name, 0),
         "of": len(progress.items)}
        for name in dict.fromkeys((*progress.queue.reviewers, *progress.given))
    ]  # fmt: skip
    ui.show_table(rows, key="review-progress", file_name="reviewers.csv")
    if progress.queue.rule is not ReviewRule.RANDOM:
        st.caption("Not a random sample: its labels do not correct a judge's mean.")


def _close(queue: ReviewQueue) -> None:
    ui.record_change(
        lambda: close_queue(get_store(), queue, make_act("closed on the questions page", queue.scope.environment)),
        effect="The queue is closed.",
        place=NEW,
    )
    load_queues.clear()
