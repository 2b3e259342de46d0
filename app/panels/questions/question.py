"""One question: what was found for it, then and now, its session, answer, scores, and similar questions."""

from collections.abc import Callable
from urllib.parse import urlencode, urlsplit

import streamlit as st

from app import ui
from app.navigation import link_to, path_of
from app.panels.questions.cases import render_add_to_cases
from app.panels.questions.judging import render_judging
from app.panels.questions.membership import render_membership
from app.panels.questions.resources import (
    load_again,
    load_known_questions,
    load_page,
    load_service,
    load_similar,
)
from app.panels.questions.table import find_feedback, say_feedback
from app.resources import get_embedder
from app.text import plain, show_unseen
from core.coverage.assignments import TopicAssignments
from core.drift.present import LowScores
from core.log.filters import LoggedQuestion, QuestionFilter
from core.questions.again import SearchedAgain, is_embedded
from quarterdeck.scope import Scope

_MOST_OF_SESSION = 100
_STATE_COLORS = {"scored": "green", "unscored": "gray", "empty": "orange", "failed": "red"}


def render_question(
    question: LoggedQuestion, low: LowScores, environment: str, topics: TopicAssignments | None = None
) -> None:
    """Draw the panel of one question."""
    with st.container(border=True):
        st.markdown(f"**{plain(ui.shorten(question.query, 600)) or 'The text of this question was removed.'}**")
        st.caption(_say_where(question))
        st.markdown(_say_standing(question, low))
        if question.trace_id and (link := load_service(question.service).link_to(question.trace_id)):
            st.link_button("Open the trace", link, icon=":material/open_in_new:", type="tertiary")
        render_judging([question], environment, key=question.retrieval_id)
        render_membership(question, environment, topics)
        render_add_to_cases([question], low.below, environment, key=question.retrieval_id)
        panels: dict[str, Callable[[], None]] = {
            "Hits": lambda: _render_hits(question),
            "Session": lambda: _render_session(question),
            "Answer": lambda: _render_answer(question),
            "Scores": lambda: _render_scores(question),
            "Similar": lambda: _render_similar(question),
        }
        tabs = st.tabs(list(panels), on_change="rerun", key="question_tab")
        for tab, draw in zip(tabs, panels.values(), strict=True):
            if tab.open:
                with tab, ui.showing_errors("This part could not be read"):
                    draw()
        with st.popover("Copy link", icon=":material/link:"):
            st.code(_address_of(question, environment), language=None, wrap_lines=True)


def _say_where(question: LoggedQuestion) -> str:
    labels = (
        ("session", question.session_id), ("user", question.user_id), ("arm", question.arm),
        ("prompt", question.prompt_version), ("index", question.index_version), ("model", question.model),
        *((name, str(value)) for name, value in question.attributes.items()),
    )  # fmt: skip
    told = [f"{name} {ui.shorten(value, 40)}" for name, value in labels if value]
    where = [ui.format_moment(question.ts), f"{question.service} in {question.environment}", *told]
    return plain(" · ".join(where))


def _say_standing(question: LoggedQuestion, low: LowScores) -> str:
    badge = f":{_STATE_COLORS[question.state]}-badge[{question.state}]"
    told = []
    if question.similarity is not None:
        badge += f" :orange-badge[{ui.Mark.WORSE.icon} low]" if low.holds(question.model, question.similarity) else ""
        told.append(f"score {ui.format_score(question.similarity)}, low under {low.of(question.model):.2f}")
    if question.score is not None and question.score != question.similarity:
        told.append(f"{question.score_kind} {question.score:.3g}")
    if question.answerability is not None:
        told.append(f"answerable {ui.format_share(question.answerability)}")
    if question.latency_ms is not None:
        told.append(f"{question.latency_ms:,.0f} ms")
    if question.cost_usd is not None:
        told.append(ui.format_usd(question.cost_usd))
    if feedback := say_feedback(find_feedback(question)):
        told.append(feedback)
    return f"{badge} {plain(' · '.join(told))}"


def _render_hits(question: LoggedQuestion) -> None:
    if question.documents:
        st.caption("What the service found then")
        rows = [{"rank": hit.rank, "document": show_unseen(hit.id), "score": hit.score} for hit in question.documents]
        columns = {"score": ui.score_column(), "rank": st.column_config.NumberColumn(width=50)}
        key = f"hits-{question.retrieval_id}"
        st.dataframe(rows, hide_index=True, key=key, placeholder="—", column_config=columns)
    else:
        st.caption("The service named no documents for this question.")
    _render_again(question)


def _render_again(question: LoggedQuestion) -> None:
    """Draw what the live and the waiting index find now; loading the model needs a click."""
    if not question.query:
        return
    key = f"again-{question.retrieval_id}"
    if not is_embedded(get_embedder(), question.query) and not st.session_state.get(key):
        costs = "In the live and the waiting index. Nobody searched for it here yet: loading the model takes seconds."
        st.button("Search it again now", key=f"{key}-button", on_click=_remember, args=(key,), help=costs)
        return
    found = load_again(question.query)
    if found.live is None and found.waiting is None:
        st.caption("Searched again: no index of this deck's embedding model is live or waiting.")
        return
    _render_answers(found)
    live, waiting = (None if each is None else each.best for each in (found.live, found.waiting))
    if found.waiting and live is not None and waiting is not None and waiting > live:
        version = plain(found.waiting.corpus_version)
        st.success(f"Corpus {version} would score {waiting:.2f} instead of {live:.2f}.")


def _remember(key: str) -> None:
    st.session_state[key] = True


def _render_answers(found: SearchedAgain) -> None:
    """Draw the hits of both indexes side by side, in one table."""
    named = [(kind, answer) for kind, answer in (("live", found.live), ("waiting", found.waiting)) if answer]
    st.caption("Now: " + ", ".join(f"{kind} {plain(answer.index_name)}" for kind, answer in named))
    for kind, answer in named:
        if answer.problem:
            st.error(f"The {kind} index could not be searched — {plain(answer.problem)}")
    rows: list[dict[str, str | float | None]] = []
    for place in range(max(len(answer.hits) for _, answer in named)):
        row: dict[str, str | float | None] = {}
        for kind, answer in named:
            hit = answer.hits[place] if place < len(answer.hits) else None
            row |= {kind: show_unseen(hit.document) if hit else None, f"{kind} score": hit.score if hit else None}
        rows.append(row)
    columns = {f"{kind} score": ui.score_column(width=60, label="score") for kind, _ in named}
    st.dataframe(rows, hide_index=True, key="searched-again", placeholder="—", column_config=columns)


def _render_session(question: LoggedQuestion) -> None:
    """Draw the questions of the session and their answers, oldest first."""
    if not question.session_id:
        st.caption("The service named no session for this question.")
        return
    scope = Scope(question.environment, question.service)
    wanted = QuestionFilter(scope=scope, session_id=question.session_id)
    page = load_page(wanted, None, _MOST_OF_SESSION)
    for each in reversed(page.questions):
        with st.chat_message("user"):
            mark = "**{}**" if each.retrieval_id == question.retrieval_id else "{}"
            st.markdown(mark.format(plain(ui.shorten(each.query, 600)) or "(text removed)"))
            score = "" if each.similarity is None else f" · {each.similarity:.2f}"
            st.caption(plain(f"{ui.format_moment(each.ts)} · {each.state}{score} {say_feedback(find_feedback(each))}"))
        if each.answer:
            with st.chat_message("assistant"):
                st.text(ui.shorten(show_unseen(each.answer), 2_000))
    if page.following:
        st.caption(f"The newest {_MOST_OF_SESSION} questions of the session.")
    link_to("questions", "All questions of this session", session=question.session_id, days="90d")


def _render_answer(question: LoggedQuestion) -> None:
    if question.answer:
        st.text(show_unseen(question.answer))
    else:
        st.caption("No answer was stored. A service stores answers only if its settings say so.")


def _render_scores(question: LoggedQuestion) -> None:
    """Draw every score with its source; the row's own numbers first."""
    own = [
        {"name": name, "value": value, "source": "with the question", "comment": ""}
        for name, value in (("feedback", question.feedback), ("faithfulness", question.faithfulness))
        if value is not None and name not in {score.name for score in question.scores}
    ]
    rows = own + [
        {"name": score.name, "value": score.value, "source": score.source, "comment": score.comment}
        for score in question.scores
    ]
    if rows:
        ui.show_table(rows, key=f"scores-{question.retrieval_id}", file_name="scores.csv",
                      column_config={"value": ui.score_column()})  # fmt: skip
    else:
        st.caption("Nobody judged this answer yet.")


def _render_similar(question: LoggedQuestion) -> None:
    """Draw the questions like this one, and say among how many they were looked for."""
    scope = Scope(question.environment, question.service)
    known = load_known_questions(scope)
    if not known.texts or not question.query:
        st.caption(
            f"None of the newest {known.asked:,} distinct questions was read by the model yet: nothing to compare with."
        )
        return
    found = load_similar(scope, question.query)
    st.caption(f"Compared with {len(known.texts):,} of the newest {known.asked:,} distinct questions: "
               "the model has not read the others yet.")  # fmt: skip
    rows = [{"question": ui.shorten(show_unseen(each.text), 300), "similarity": each.similarity} for each in found]
    ui.show_table(rows, key=f"similar-{question.retrieval_id}", file_name="similar.csv",
                  column_config={"similarity": ui.score_column()})  # fmt: skip
    link_to("questions", "List the questions like this one", like=question.retrieval_id, days="90d")


def _address_of(question: LoggedQuestion, environment: str) -> str:
    parts = urlsplit(st.context.url or "http://127.0.0.1:8501")
    named = {"question": question.retrieval_id, "environment": environment, "service": question.service}
    return f"{parts.scheme}://{parts.netloc}/{path_of('questions')}?{urlencode(named)}"
