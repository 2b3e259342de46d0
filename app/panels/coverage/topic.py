"""One topic: how big, how bad, what people typed, why it misses, what would help or has helped, and its history."""

import shlex

import streamlit as st

from app import ui
from app.navigation import link_to
from app.panels.coverage.board import Board, Shelved
from app.panels.coverage.decisions import render_decision
from app.panels.coverage.findings import render_findings
from app.panels.coverage.resources import load_nearest, load_traces
from app.resources import get_embedder, get_store
from app.text import plain
from app.visitor import get_visitor
from core.audit.actions import Action
from core.audit.sentences import say_action
from core.audit.trail import AuditFilter, hide_labels, list_audit
from core.coverage.backlog import TopicDecision
from core.coverage.exports import say_effect
from core.coverage.issues import find_issue
from core.coverage.report import Coverage
from core.coverage.shelves import Closing
from core.coverage.summaries import get_summary
from core.coverage.topics import Topic
from core.predictions.nearest import list_topic_predictions
from quarterdeck.scope import Scope

_MOST_ENTRIES = 50


def render_topic(each: Shelved, board: Board, environment: str) -> None:
    """One topic in full, with the form that decides about it."""
    coverage, topic = board.coverage, each.topic
    with st.container(border=True):
        st.subheader(plain(each.label or "A topic without a name"), anchor=False)
        render_figures(each, board)
        if each.known:
            when = f", set {ui.format_ago(each.decided)}" if each.decided else ""
            told = (ui.say_instant(each.decided, "Set"), ui.say_instant(each.known.first_seen, "First seen"))
            st.caption(
                f"State: {each.known.state}{when}. First seen {ui.format_ago(each.known.first_seen)}.",
                help="  \n".join(filter(None, told)),
            )
            render_decision(each.known, environment, is_reader=board.is_reader)
        else:
            when = "it joins once all new questions are read and the number of topics is automatic"
            st.caption(f"Not in the backlog yet: {when}.")
        names = ["Questions", "Nearest documents", "Cure", "History"]
        questions, nearest, cure, history = st.tabs(names)
        with questions:
            render_questions(topic, coverage)
        with nearest:
            render_findings(board.findings.get(each.topic_id, {}))
            if topic and topic.sample_queries:
                render_nearest(topic, coverage)
        with cure:
            if each.closing:
                render_closing(each.closing)
            render_predictions(each.topic_id, coverage.scope)
        with history:
            render_history(each)


def render_figures(each: Shelved, board: Board) -> None:
    """How often it was asked, its shares, its score and its trend."""
    topic, coverage = each.topic, board.coverage
    days = (coverage.window.last - coverage.window.first).days + 1
    if topic is None:
        seen = f": it was last seen {ui.format_ago(each.known.last_seen)}" if each.known else ""
        st.caption(
            f"It is no topic of the last {days} days{seen}. What is still low of it may be part of another topic.",
            help=ui.say_instant(each.known.last_seen) if each.known else None,
        )
        return
    if topic.keywords:
        st.caption(plain(", ".join(topic.keywords)))
    if topic.sample_queries and (written := get_summary(get_store(), topic.topic_id)):
        st.markdown(f"{plain(written.summary)} *(written by {plain(written.model)})*")
    if topic.language:
        model = plain(get_embedder().model)
        st.caption(f"Not grouped: the embedding model {model} does not know the language. Set a multilingual one.")
    share, of_drop = ui.format_share(topic.count / max(1, coverage.scored_count)), board.of_drop.get(each.topic_id)
    told = [
        f"**{topic.count:,}** question{'s' * (topic.count != 1)} in the last {days} days", f"**{share}** of all",
        f"mean score **{ui.format_score(topic.mean_score)}**", f"trend: **{topic.trend}**",
    ]  # fmt: skip
    told += [f"**{ui.format_share(of_drop)}** of the drop, in the last 7 days"] if of_drop is not None else []
    st.markdown(" · ".join(told))


def render_questions(topic: Topic | None, coverage: Coverage) -> None:
    """What people typed, and the link to all of it."""
    if topic is None:
        st.caption("It has no questions of its own in these days.")
        return
    if not topic.sample_queries:  # none for visitors who may not read questions
        st.caption("Your role does not include reading questions. Ask an admin.")
        return
    days = (coverage.window.last - coverage.window.first).days + 1
    link_to("questions", "See its questions, one by one", topic=topic.topic_id, days=f"{days}d")
    render_samples(topic, coverage)


def render_samples(topic: Topic, coverage: Coverage) -> None:
    """What people typed, each with a link to its newest trace where the service has an address for them."""
    st.caption("Typical questions")
    window = coverage.window
    links = load_traces(topic.sample_queries, coverage.scope, window.start_ms, window.end_ms, coverage.low)
    rows: list[dict[str, str | None]] = [
        {"question": ui.shorten(sample, 400), **({"trace": links.get(sample)} if links else {})}
        for sample in topic.sample_queries
    ]
    ui.show_table(
        rows, key="coverage-samples", file_name="queries.csv", column_config={"trace": ui.link_column("Open the trace")}
    )


def render_nearest(topic: Topic, coverage: Coverage) -> None:
    """The nearest documents; why one does not answer is said only of those that score low."""
    with ui.showing_errors("The live index could not be searched"):
        nearest = load_nearest(topic.sample_queries)
        if not nearest.misses:
            st.caption("Nearest documents: no live index can be searched with the deck's model yet.")
            return
        misses = [miss for miss in nearest.misses if miss.score < coverage.threshold]
        said = f"Nearest documents in {plain(nearest.index_name)}; a question scores low under {coverage.threshold:.2f}"
        st.caption(said if misses else f"{said}, which all of these reach: what is live covers these questions now")
        rows = [
            {
                "document": ui.shorten(miss.document, 80),
                "section": ui.shorten(miss.section, 60),
                "score": miss.score,
                **({"why it misses": ui.shorten(miss.reason, 120) if miss in misses else ""} if misses else {}),
            }
            for miss in nearest.misses
        ]
        columns = {"score": ui.score_column()}
        ui.show_table(rows, key="coverage-nearest", file_name="nearest.csv", column_config=columns)


def render_predictions(topic_id: str, scope: Scope) -> None:
    """What each predicted corpus version would do to the topic."""
    predicted = list_topic_predictions(get_store(), topic_id, scope)
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


def render_closing(found: Closing) -> None:
    """The measured effect of the newest index on the topic: by its questions since, and by searching again."""
    name, day = plain(found.index_name), ui.format_day(found.shipped)
    if found.undone:
        st.markdown(f"**{name}** went live on {day} and was rolled back on {ui.format_day(found.undone)}: **no cure**.")
        return
    verdict = {True: "closed", False: "still open", None: "too few questions since then to tell"}[found.closed]
    st.markdown(
        f"Since **{name}** went live on {day}: {ui.format_score(found.before_score)} over {found.before_count:,} "
        f"questions before, {ui.format_score(found.after_score)} over {found.after_count:,} after: **{verdict}**."
    )
    if found.searched_score is not None:
        st.markdown(
            f"Searched again in {name}, the same questions from before score "
            f"**{ui.format_score(found.searched_score)}**; {ui.format_share(found.covered_share)} of "
            f"{found.searched_count:,} are not low any more."
        )


def render_history(each: Shelved) -> None:
    """When it was seen, what was decided about it and by whom, its issue, and what was measured."""
    if each.known:
        first, last = each.known.first_seen, each.known.last_seen
        st.caption(f"Seen from {ui.format_moment(first)} to {ui.format_moment(last)}.")
    if issue := find_issue(get_store(), each.topic_id):
        st.markdown(f"[Issue {issue.number} in {plain(issue.repository)}]({issue.url})")
    if each.closing:
        st.markdown(plain(f"{say_effect(each.closing)}."))
    entries = list_audit(get_store(), AuditFilter(target=each.topic_id), limit=_MOST_ENTRIES)
    if not entries:
        st.caption("Nothing was decided about it yet.")
        return
    rows = []
    for entry in hide_labels(entries, get_visitor().roles):
        decided = TopicDecision.read(entry.after) if entry.action == Action.TOPIC_MARK else None
        rows.append(
            {
                "when": entry.ts,
                "who": entry.actor,
                "what": str(decided.state) if decided else say_action(entry.action),
                "owner": decided.owner if decided else "",
                "why": entry.reason,
                "entry": entry.entry_id,
            }
        )
    ui.show_table(rows, key="coverage-history", file_name="topic-history.csv")
