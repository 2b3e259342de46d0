"""What a corpus version would fix: predicted before it ships, and compared with what was measured afterwards."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import plotly.graph_objects as go
import streamlit as st

from app import ui
from app.background import start_command
from app.cards import fit_axis
from app.colors import ACCENT, QUIET
from app.panels.corpus.resources import load_log_check, load_search_check
from app.panels.corpus.versions import choose_revision
from app.panels.shared.jobs import last_line, place_of, render_command
from app.resources import get_config, get_corpus, get_jobs, get_store
from app.text import plain
from app.visitor import lock, make_act, may_read_questions
from core.audit.actions import Action
from core.audit.permissions import EVERYWHERE
from core.audit.trail import AuditFilter, list_audit
from core.corpus.corpus import WORKSPACE
from core.corpus.versions import Version
from core.errors import InvalidInput
from core.indexes.registry import Alias, Index, list_swaps
from core.jobs.jobs import Job, JobState
from core.log.retrievals import Window
from core.predictions.prediction import Prediction, PredictionCheck, hide_questions
from core.predictions.predictions import find_prediction
from core.wording.counts import count_of
from core.wording.scores import decimals_of, say_size, subtract
from quarterdeck.scope import Scope

_FOLDER = "a folder"
_MOST_TOPICS = 20


def render_prediction(
    versions: Sequence[Version], indexes: Sequence[Index], aliases: Sequence[Alias], scope: Scope
) -> None:
    """Draw the prediction for the chosen version and the questions of a scope, or how to make one."""
    if not aliases:
        ui.render_empty(
            "A prediction needs a live index, and there is none. Build one and swap it in:",
            "quarterdeck index build " + versions[0].name, link="",
        )  # fmt: skip
        return
    target = choose_target(versions)
    job = get_jobs().find("predict")
    if job is None or job.state is not JobState.RUNNING:
        st.button(
            "Predict", type="primary", key="corpus-predict", on_click=predict, args=(target, scope),
            **lock(Action.JOB_START, get_config().environment),
        )  # fmt: skip
    render_command("predict", "Prediction", explain=explain_end)
    found = find_prediction(get_store(), _name_of(target), scope)
    if found is None:
        st.info(
            f"There is no prediction for {plain(_name_of(target))} yet. It embeds what is new against the live "
            "index, and searches it with the low-scoring questions of the last week."
        )
        return
    render_details(found)
    render_measured(found, indexes, aliases, scope)


def explain_end(job: Job, _log: str) -> str:
    """How a prediction job ended; its result is drawn below."""
    return "" if job.state is JobState.DONE else last_line(job)


def choose_target(versions: Sequence[Version]) -> str:
    """The target: a version, the working copy, or a folder of it, which need not be in git."""
    has_workspace = get_corpus().root is not None
    left, right = st.columns(2)
    with left:
        target = choose_revision(
            "What would this version fix?", versions, key="target", default=versions[0].name, workspace=has_workspace
        )
    folder = ""
    if has_workspace:
        folder = right.text_input(
            "Or a folder of the working copy, on top of what is live", key="drafts", bind="query-params",
            placeholder="drafts",
        )  # fmt: skip
    return f"{_FOLDER} {folder.strip('/ ')}" if folder.strip("/ ") else target


def predict(target: str, scope: Scope) -> None:
    """Start the prediction. Runs before the page is drawn."""

    def change() -> int:
        act = make_act("what would it fix?", get_config().environment)
        of = ("--environment", scope.environment, "--service", scope.service)
        return start_command("predict", "index", "predict", *_arguments(target), *of, subject=_name_of(target), act=act)

    ui.record_change(change, place=place_of("predict"))


def _arguments(target: str) -> list[str]:
    corpus = get_corpus()
    if target.startswith(_FOLDER):
        root = Path(str(corpus.root)).resolve()
        folder = (root / target.removeprefix(_FOLDER).strip()).resolve()
        if not folder.is_relative_to(root) or not folder.is_dir():
            raise InvalidInput("folder", f"{folder} is not a folder of the working copy {root}")
        return [str(folder), "--on-top"]
    return [target if target == WORKSPACE else corpus.find_commit(target)]


def _name_of(target: str) -> str:
    if target.startswith(_FOLDER):
        return target.rpartition("/")[2].removeprefix(_FOLDER).strip()
    return get_corpus().name_revision(target)


def render_details(found: Prediction) -> None:
    """The prediction: the sentence, each topic, the documents that raise scores, and those that no query reaches."""
    if not may_read_questions(EVERYWHERE):
        found = hide_questions(found)
    st.markdown(say_what_it_fixes(found))
    made = list_audit(get_store(), AuditFilter(target=found.target, action=Action.PREDICTION_SAVE), limit=1)
    when = f", {ui.format_ago(made[0].ts)} by {plain(made[0].actor)}" if made else ""
    st.caption(
        f"Predicted against {plain(found.live)}{when}: {len(found.queries):,} distinct questions; low is under "
        f"{found.threshold:.2f}; {count_of(found.new_chunks, 'new passage')} of "
        f"{count_of(found.new_documents, 'document')}, {count_of(found.removed_chunks, 'passage')} "
        f"{'is' if found.removed_chunks == 1 else 'are'} removed.",
        help=ui.say_instant(made[0].ts, "Predicted") if made else None,
    )
    if found.topics:
        ui.show_chart(
            draw_topics(found), key="corpus-prediction", alt="Score of each topic, live and predicted",
            rows=[
                {"topic": topic.label, "asked": topic.count, "live score": topic.live_score,
                 "predicted score": topic.predicted_score}
                for topic in sorted(found.topics, key=lambda topic: -topic.count)[:_MOST_TOPICS]
            ],
            column_config=dict.fromkeys(("live score", "predicted score"), ui.score_column()),
        )  # fmt: skip
    ui.show_table(
        [
            {"topic": topic.label, "asked": topic.count, "live score": round(topic.live_score, 3),
             "predicted score": round(topic.predicted_score, 3), "lifted share": topic.lifted_share,
             "lifted by": ", ".join(topic.documents[:5])}
            for topic in sorted(found.topics, key=lambda topic: -topic.count)
        ],
        key="corpus-prediction-topics", file_name=f"prediction-{found.target}.csv",
        column_config={
            "lifted share": ui.share_column(),
            **dict.fromkeys(("live score", "predicted score"), ui.score_column()),
        },
    )  # fmt: skip
    left, right = st.columns(2)
    with left:
        render_lifting(found)
    with right:
        render_unreached(found)
    render_worse(found)


def say_what_it_fixes(found: Prediction) -> str:
    """The sentence above the evidence, in Markdown."""
    lifted = (
        f"**{plain(found.target)}** would lift **{ui.format_share(found.lifted_share)}** of the low-scoring questions"
    )
    best = max(found.topics, key=lambda topic: topic.count * topic.lifted_share, default=None)
    closed = ""
    if best and best.lifted_share:
        closed = (
            f", most of all “{plain(best.label)}” ({ui.format_score(best.live_score)} to "
            f"{ui.format_score(best.predicted_score)})"
        )
    worse = f"; {count_of(len(found.worse), 'distinct question')} would score lower" if found.worse else ""
    return f"{lifted}{closed}{worse}."


def draw_topics(found: Prediction) -> go.Figure:
    """Each topic's mean score, live and predicted, most asked first."""
    topics = sorted(found.topics, key=lambda topic: -topic.count)[:_MOST_TOPICS][::-1]
    names = [f"{ui.chart_text(topic.label, 36)} ({topic.count:,})" for topic in topics]
    figure = go.Figure()
    for name, topic in zip(names, topics, strict=True):
        figure.add_scatter(
            x=[topic.live_score, topic.predicted_score], y=[name, name], mode="lines", showlegend=False,
            line={"color": QUIET, "width": 3}, hoverinfo="skip",
        )  # fmt: skip
    for label, scores, symbol, color in (
        ("live", [topic.live_score for topic in topics], "circle-open", QUIET),
        ("predicted", [topic.predicted_score for topic in topics], "circle", ACCENT),
    ):
        figure.add_scatter(
            x=scores, y=names, mode="markers", name=label, hovertemplate="%{x:.2f}",
            marker={"symbol": symbol, "size": 11, "color": color, "line": {"width": 2, "color": color}},
        )  # fmt: skip
    figure.add_vline(
        found.threshold, line_dash="dot", line_color=QUIET, annotation_text="low below", annotation_position="top"
    )
    ends = [score for topic in topics for score in (topic.live_score, topic.predicted_score)]
    scale = fit_axis([*ends, found.threshold], least=0.0, most=1.0, span=0.2)
    figure.update_xaxes(title="mean score", range=scale, tickformat=".2f")
    return ui.style_chart(figure, title=say_lifts(found), height=130 + 30 * len(topics), hover="closest")


def say_lifts(found: Prediction) -> str:
    """How many topics would be raised over the line of low ones, or at all; the chart has the most asked on top."""
    topics, name = sorted(found.topics, key=lambda topic: -topic.count)[:_MOST_TOPICS], ui.chart_text(found.target, 40)
    over = sum(topic.live_score < found.threshold <= topic.predicted_score for topic in topics)
    which = f"the {len(topics)} topics asked most" if len(topics) > 1 else "the one topic"
    if over:
        return f"{name} would raise {over} of {which} to {found.threshold:.2f} and more, where low ends"
    raised = sum(topic.predicted_score > topic.live_score + 0.005 for topic in topics)
    return f"{name} would raise the score of {raised} of {which}, none of them over {found.threshold:.2f}"


def render_lifting(found: Prediction) -> None:
    """The new documents that raise scores."""
    st.subheader("Documents that lift", anchor=False)
    if not found.lifting:
        st.caption("No new document answers any question better than what is live.")
        return
    ui.show_table(
        [
            {"document": each.document, "distinct questions": each.queries, "asked": each.asked,
             "total score gained": round(each.gain, 2)}
            for each in found.lifting
        ],
        key="corpus-prediction-lifting", file_name=f"lifting-{found.target}.csv",
        column_config={"total score gained": ui.score_column()},
    )  # fmt: skip


def render_unreached(found: Prediction) -> None:
    """The documents that no query reaches, meaning among its best passages and with a score that counts as covered."""
    st.subheader("Documents that no question reaches", anchor=False)
    rows = [{"document": name, "is": "new"} for name in found.unreached]
    rows += [{"document": name, "is": "live already"} for name in found.idle]
    if not rows:
        st.caption("Every document is reached by some question.")
        return
    ui.show_table(rows, key="corpus-prediction-unreached", file_name=f"unreached-{found.target}.csv")


def render_worse(found: Prediction) -> None:
    """The queries that would score lower, unless they may not be read."""
    if not any(query.text for query in found.worse):
        return
    st.subheader("Queries that would score lower", anchor=False)
    ui.show_table(
        [
            {"query": ui.shorten(query.text, 200), "asked": query.count, "live score": round(query.live_score, 3),
             "predicted score": round(query.predicted_score, 3)}
            for query in sorted(found.worse, key=lambda query: query.predicted_score - query.live_score)
        ],
        key="corpus-prediction-worse", file_name=f"worse-{found.target}.csv",
        column_config=dict.fromkeys(("live score", "predicted score"), ui.score_column()),
    )  # fmt: skip


def render_measured(found: Prediction, indexes: Sequence[Index], aliases: Sequence[Alias], scope: Scope) -> None:
    """The prediction compared with what the built index finds, and with the log since it went live."""
    built = next((index for index in indexes if index.corpus_version == found.target), None)
    if built is None:
        return
    st.subheader("Predicted against measured", anchor=False)
    check = load_search_check(found.target, scope, built.name, found.live)
    render_check(check, f"searched in {built.name}", key="search")
    shipped = _shipped_on(built, aliases)
    if shipped is None:
        st.caption(f"{plain(built.name)} did not go live yet; afterwards the log is measured too.")
        return
    first, today = shipped.date() + timedelta(days=1), datetime.now(UTC).date()
    if first > today:
        st.caption(f"{plain(built.name)} went live today; the log is measured from tomorrow on, in whole days.")
        return
    check = load_log_check(found.target, scope, Window(first, today))
    if check.total is None:
        st.caption(f"None of these questions was asked since {ui.format_day(first)}.")
    else:
        render_check(check, f"in the log since {ui.format_day(first)}", key="log")


def render_check(check: PredictionCheck, where: str, *, key: str) -> None:
    """Predicted against measured, for all queries and by topic."""
    if check.total is None:
        return
    total = check.total
    apart = subtract(total.predicted_score, total.measured_score)
    places = decimals_of(apart)
    st.markdown(
        f"Predicted **{total.predicted_score:.{places}f}**, measured **{total.measured_score:.{places}f}** "
        f"{plain(where)}: off by {say_size(apart)} over {count_of(total.queries, 'question')}."
    )
    ui.show_table(
        [
            {"topic": row.label, "questions": row.queries, "live": round(row.live_score, 3),
             "predicted": round(row.predicted_score, 3), "measured": round(row.measured_score, 3),
             "predicted lifted": row.predicted_lifted_share,
             "measured lifted": row.measured_lifted_share}
            for row in (total, *(check.topics if may_read_questions(EVERYWHERE) else ()))
        ],
        key=f"corpus-check-{key}", file_name=f"check-{check.target}.csv",
        column_config={
            **dict.fromkeys(("live", "predicted", "measured"), ui.score_column()),
            **dict.fromkeys(("predicted lifted", "measured lifted"), ui.share_column()),
        },
    )  # fmt: skip


def _shipped_on(index: Index, aliases: Sequence[Alias]) -> datetime | None:
    """When an index that is live went live; None for one that is not."""
    for alias in aliases:
        if alias.index_name == index.name:
            return list_swaps(get_store(), alias.alias)[-1].at
    return None
