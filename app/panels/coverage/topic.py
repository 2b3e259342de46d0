"""One topic: how big, how bad, what people typed, why it misses, what would help, and what was decided."""

import shlex
from collections.abc import Sequence

import streamlit as st

from app import ui
from app.navigation import link_to
from app.panels.coverage.resources import load_nearest, load_traces
from app.resources import get_embedder, get_store
from app.text import plain
from app.visitor import lock, make_act
from core.audit.actions import Action
from core.coverage.backlog import BacklogTopic, TopicState
from core.coverage.closing import measure_closing
from core.coverage.labels import LONGEST_TITLE
from core.coverage.operations import mark_topic, rename_topic
from core.coverage.report import Coverage
from core.coverage.summaries import get_summary
from core.coverage.topics import Topic
from core.predictions.nearest import list_topic_predictions
from quarterdeck.scope import Scope


def choose_topic(ranked: Sequence[Topic]) -> Topic:
    """The topic that the visitor chose in the list or on the map, else the first."""
    topics = {topic.topic_id: topic for topic in ranked}
    chosen = st.selectbox(
        "Topic", list(topics), format_func=lambda key: ui.shorten(topics[key].label, 60), key="topic",
        bind="query-params",
    )  # fmt: skip
    return topics.get(chosen or "", ranked[0])


def render_topic(
    topic: Topic, known: BacklogTopic | None, coverage: Coverage, of_drop: float | None, environment: str
) -> None:
    """One topic: how big, how bad, what people typed, why it misses, what would help, and what was decided."""
    st.subheader(plain(topic.label), anchor=False)
    if topic.keywords:
        st.caption(plain(", ".join(topic.keywords)))
    if topic.sample_queries and (written := get_summary(get_store(), topic.topic_id)):
        st.markdown(f"{plain(written.summary)} *(written by {plain(written.model)})*")
    if topic.language:
        model = plain(get_embedder().model)
        st.caption(f"Not grouped: the embedding model {model} does not know the language. Set a multilingual one.")
    columns = st.columns(5)
    columns[0].metric("Asked", f"{topic.count:,}")
    columns[1].metric("Share of all queries", ui.format_share(topic.count / max(1, coverage.scored_count)))
    columns[2].metric("Share of the drop", ui.format_share(of_drop), help="Of the drop that the drift page dates")
    columns[3].metric("Mean score", ui.format_score(topic.mean_score))
    columns[4].metric("Trend", topic.trend)
    if topic.sample_queries:  # none for visitors who may not read questions
        days = (coverage.window.last - coverage.window.first).days + 1
        link_to("questions", "See its questions, one by one", topic=topic.topic_id, days=f"{days}d")
        render_samples(topic, coverage)
        render_nearest(topic, coverage)
    render_predictions(topic, coverage.scope)
    if known:
        render_closing(known, coverage)
        render_decision(known, environment)
        if topic.sample_queries:
            render_rename(known, environment)
    else:
        when = "it is added when all new queries are embedded and the number of topics is automatic"
        st.caption(f"Not in the backlog yet: {when}.")


def render_samples(topic: Topic, coverage: Coverage) -> None:
    """What people typed, each with a link to its newest trace where the service has an address for them."""
    st.caption("Typical questions")
    window = coverage.window
    links = load_traces(topic.sample_queries, coverage.scope, window.start_ms, window.end_ms, coverage.threshold)
    rows: list[dict[str, str | None]] = [
        {"query": ui.shorten(sample, 400), **({"trace": links.get(sample)} if links else {})}
        for sample in topic.sample_queries
    ]
    ui.show_table(
        rows, key="coverage-samples", file_name="queries.csv", column_config={"trace": ui.link_column("Open the trace")}
    )


def render_nearest(topic: Topic, coverage: Coverage) -> None:
    """The nearest documents, and why they do not answer."""
    with ui.showing_errors("The live index could not be searched"):
        nearest = load_nearest(topic.sample_queries)
        if not nearest.misses:
            st.caption("Nearest documents: no index of this embedding model is live yet.")
            return
        st.caption(
            f"Nearest documents in {plain(nearest.index_name)}; a question scores low under {coverage.threshold:.2f}"
        )
        rows = [
            {
                "document": ui.shorten(miss.document, 80),
                "section": ui.shorten(miss.section, 60),
                "score": miss.score,
                "why it misses": ui.shorten(miss.reason, 120),
            }
            for miss in nearest.misses
        ]
        columns = {"score": ui.score_column()}
        ui.show_table(rows, key="coverage-nearest", file_name="nearest.csv", column_config=columns)


def render_predictions(topic: Topic, scope: Scope) -> None:
    """What each predicted corpus version would do to the topic."""
    predicted = list_topic_predictions(get_store(), topic.topic_id, scope)
    if not predicted:
        of = shlex.join(("--environment", scope.environment, "--service", scope.service))
        st.caption(plain(f"No prediction covers this topic yet. To make one: quarterdeck index predict v2 {of}"))
        return
    for version, found in predicted:
        documents = ", ".join(ui.shorten(document, 60) for document in found.documents[:3])
        helped = f", thanks to {plain(documents)}" if documents else ": nothing new in it helps"
        st.markdown(
            f"With corpus **{plain(version)}**: {found.live_score:.2f} → **{found.predicted_score:.2f}** predicted, "
            f"{ui.format_share(found.lifted_share)} of its questions covered{helped}."
        )


def render_closing(known: BacklogTopic, coverage: Coverage) -> None:
    """The measured effect of the newest index on the topic."""
    found = measure_closing(
        get_store(), get_embedder(), known, threshold=coverage.threshold, today=coverage.window.last
    )
    if found is None:
        return
    verdict = {True: "closed", False: "still open", None: "too few questions since then to tell"}[found.closed]
    st.markdown(
        f"Since **{plain(found.index_name)}** went live on {ui.format_day(found.shipped)}: "
        f"{ui.format_score(found.before_score)} over {found.before_count:,} questions before, "
        f"{ui.format_score(found.after_score)} over {found.after_count:,} after: **{verdict}**."
    )


def save_decision(known: BacklogTopic, environment: str) -> None:
    """Store the form's decision about the topic that the visitor saw."""
    state, seen = st.session_state, f"{known.topic_id}-{known.version}"

    def mark() -> int:
        act = make_act(state[f"reason-{seen}"], environment)
        decided, owner, note = TopicState(state[f"state-{seen}"]), state[f"owner-{seen}"], state[f"note-{seen}"]
        return mark_topic(get_store(), known, decided, act, owner=owner, note=note)

    ui.record_change(mark)


def render_decision(known: BacklogTopic, environment: str) -> None:
    """The form that decides about a topic."""
    st.caption(f"First seen {ui.format_ago(known.first_seen)}. State: {known.state}.")
    seen = f"{known.topic_id}-{known.version}"
    with st.form(f"topic-{seen}"):
        columns = st.columns([1, 1, 2])
        states = [str(state) for state in TopicState]
        columns[0].selectbox("State", states, states.index(known.state), key=f"state-{seen}")
        columns[1].text_input("Owner", known.owner, max_chars=200, key=f"owner-{seen}")
        columns[2].text_input("Note", known.note, max_chars=500, key=f"note-{seen}")
        st.text_input("Reason", max_chars=500, key=f"reason-{seen}")
        locked = lock(Action.TOPIC_MARK, environment)
        st.form_submit_button("Save", type="primary", on_click=save_decision, args=(known, environment), **locked)


def save_name(known: BacklogTopic, environment: str) -> None:
    """Store the form's name for the topic that the visitor saw."""
    state, seen = st.session_state, f"{known.topic_id}-{known.version}"

    def rename() -> int:
        act = make_act(state[f"rename-reason-{seen}"], environment)
        return rename_topic(get_store(), known, state[f"label-{seen}"], act)

    ui.record_change(rename)


def render_rename(known: BacklogTopic, environment: str) -> None:
    """The form that renames a topic, which then keeps the name."""
    seen = f"{known.topic_id}-{known.version}"
    with st.form(f"rename-{seen}"):
        columns = st.columns(2)
        columns[0].text_input("Name of the topic", known.label, max_chars=LONGEST_TITLE, key=f"label-{seen}")
        columns[1].text_input("Reason", max_chars=500, key=f"rename-reason-{seen}")
        locked = lock(Action.TOPIC_RENAME, environment)
        st.form_submit_button("Rename", on_click=save_name, args=(known, environment), **locked)
