"""The replay of an index that waits: last week's questions through it and the live one, as a job, and the result."""

import re
from collections.abc import Sequence

import streamlit as st

from app import ui
from app.panels.corpus.resources import load_replay
from app.panels.shared.jobs import last_line, render_command, start
from app.resources import get_config, get_jobs, get_store
from app.text import plain
from app.visitor import lock, may_read_questions
from core.audit.actions import Action
from core.jobs.jobs import Job, JobState
from core.replay.answering import AnswerComparison
from core.replay.comparison import FoundPassage, ReplayResult, SideCost
from core.replay.report import find_replay
from core.replay.shifts import GroupShift, ReplayShift
from core.replay.watching import WatchedVerdict
from core.wording.counts import count_of
from core.wording.scores import round_interval
from quarterdeck.scope import Scope

KIND = "replay"


def render_replay(alias: str, live: str | None, name: str, scope: Scope) -> None:
    """Draw the button, the job, and the last replay of this index for the questions of a scope."""
    if live is None:
        return
    st.subheader("Replay", anchor=False)
    job = get_jobs().find(KIND)
    if job is None or job.state is not JobState.RUNNING:
        st.button(
            "Replay last week's questions", key="corpus-replay", on_click=replay, args=(alias, name, scope),
            **{"help": "Searches it and the live index with the same questions; changes nothing for readers.",
               **lock(Action.JOB_START, get_config().environment)},
        )  # fmt: skip
    render_command(KIND, "Replay", explain=explain_end)
    kept = find_replay(get_store(), name, scope)
    if kept is None:
        st.caption(f"{plain(name)} was not replayed for {plain(scope.service)} yet.")
        return
    if kept.about.live != live:
        st.warning(f"The last replay was against {plain(kept.about.live)}, which is no longer live. Replay again.")
    render_result(load_replay(kept, readable=may_read_questions(scope.environment)))


def replay(alias: str, name: str, scope: Scope) -> None:
    """Start the replay. Runs before the page is drawn."""
    start(
        KIND, "replay", name, "--alias", alias, "--keep",
        "--environment", scope.environment, "--service", scope.service,
        subject=name, reason="what would it change?",
    )  # fmt: skip


def explain_end(job: Job, _log: str) -> str:
    """How a replay ended; its result is drawn below."""
    if job.state is JobState.CANCELLED:
        return "what was embedded and answered is kept; start it again to go on"
    return "" if job.state is JobState.DONE else last_line(job)


def render_result(found: ReplayResult) -> None:
    """The sentence, the shares, and the tables: topics and segments, and the questions that change most."""
    about = found.about
    st.markdown(say_what_changes(found))
    st.caption(
        f"{found.replayed:,} of {about.distinct:,} distinct questions, asked {about.asked:,} times from "
        f"{about.first} to {about.last}, against {plain(about.live)}. Low is under {about.threshold:.2f}. "
        f"In the log, these questions have a mean of {found.logged_score:.2f}."
    )
    if about.changes_model:
        st.caption(
            "The two models score on different scales: the tables show the live model's score of the same rank. "
            + (f"By their map, on the live model's scale, the mean changes by {_say(found.carried)}."
               if found.carried else "No map between them is known.")
        )  # fmt: skip
    if about.kinds:
        st.caption(f"The log maps {plain(', '.join(about.kinds))} to similarities; scores are carried to its scale.")
    if found.costs:
        st.caption(f"{'; '.join(map(_say_cost, ('live', 'candidate'), found.costs))}.")
    for watched in found.watched:
        st.markdown(say_verdict(watched))
    if found.answers:
        _show_answers(found.answers, about.candidate)
    _show_groups(found.topics, "topic", about.candidate)
    if found.segments:
        _show_groups(found.segments, "segment", about.candidate)
    ui.show_table(
        [
            {"question": each.text or "(not shown)", "asked": each.asked, "live score": round(each.live_score, 3),
             "candidate score": round(each.candidate_score, 3),
             **({"live faithfulness": each.live_faithfulness, "candidate faithfulness": each.candidate_faithfulness}
                if found.answers else {}),
             "live hits": _list(each.hits.live), "candidate hits": _list(each.hits.candidate)}
            for each in found.changed
        ],
        key="corpus-replay-questions", file_name=f"replay-{_slug(about.candidate)}.csv",
        column_config=dict.fromkeys(("live score", "candidate score"), ui.score_column()),
    )  # fmt: skip


def say_what_changes(found: ReplayResult) -> str:
    """The sentence above the tables, in Markdown."""
    about, low, share = found.about, found.low_share, ui.format_share
    return (
        f"With **{plain(about.candidate)}**, the mean score goes from {found.live_score:.2f} to "
        f"{found.candidate_score:.2f} ({_say(found.score)}), and low scores from {share(low.live)} to "
        f"{share(low.candidate)}. {share(found.better)} of questions score better, {share(found.worse)} worse; "
        f"{share(found.overlap)} of the first {about.top_k} hits stay."
    )


def say_verdict(found: WatchedVerdict) -> str:
    """What becomes of a verdict that is watched, in Markdown."""
    after = f", on day {found.after_days} after the change" if found.after_days else ""
    return (
        f"The verdict on the {found.name} is *{found.today}* today; within 14 days of the change it would be "
        f"**{found.predicted}**{after} (at the ends of the interval: {found.at_low}, {found.at_high})."
    )


def say_answers(found: AnswerComparison) -> str:
    """What becomes of the answers, in Markdown."""
    faithful, refused, share = found.faithfulness, found.refused, ui.format_share
    return (
        f"Answers of **{plain(found.candidate)}** instead of {plain(found.live)}: faithfulness {faithful.live:.2f} to "
        f"{faithful.candidate:.2f} ({_say(faithful.shift)}); a later week would show {faithful.low:.2f} to "
        f"{faithful.high:.2f}. Refusals go from {share(refused.live)} to {share(refused.candidate)}, the cost of an "
        f"answer from {ui.format_usd(found.live_cost_usd)} to {ui.format_usd(found.candidate_cost_usd)}."
    )


def _show_answers(found: AnswerComparison, candidate: str) -> None:
    st.markdown(say_answers(found))
    left_out = f"; {found.failed:,} failed, {found.not_run:,} not run" if found.failed or found.not_run else ""
    st.caption(
        f"{count_of(found.compared, 'question')} answered by {plain(found.answerer)} and judged by "
        f"{plain(found.judge)}, {count_of(found.remembered, 'answer')} remembered{left_out}. "
        f"Spent: {ui.format_usd(found.spent_usd)}."
    )
    if found.stopped:
        st.warning(f"Stopped at the budget: {plain(found.stopped)}. Replay again to go on.")
    _show_groups(found.topics, "topic", candidate, key="answers")


def _show_groups(groups: Sequence[GroupShift], kind: str, candidate: str, *, key: str = "") -> None:
    ui.show_table(
        [
            {kind: each.label if kind == "topic" else f"{each.kind}: {each.label}", "questions": each.distinct,
             "live score": round(each.live_score, 3), "candidate score": round(each.candidate_score, 3),
             "change": _say(each.score), "verdict": each.verdict}
            for each in groups
        ],
        key=f"corpus-replay-{key}{kind}", file_name=f"replay-{_slug(candidate)}-{key}{kind}s.csv",
        column_config=dict.fromkeys(("live score", "candidate score"), ui.score_column()),
    )  # fmt: skip


def _slug(candidate: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", candidate)[:80]


def _say_cost(side: str, cost: SideCost) -> str:
    reranked = "" if cost.rerank_ms is None else f" and {cost.rerank_ms:.1f} ms of reranking"
    spent = f", {ui.format_usd(cost.usd)}" if cost.usd else ""
    return f"{side}: {cost.search_ms:.1f} ms of search{reranked} a question{spent}"


def _say(shift: ReplayShift) -> str:
    said, low, high = round_interval(shift.value, shift.low, shift.high)
    return f"{said}, 95% interval {low} to {high}"


def _list(hits: Sequence[FoundPassage]) -> str:
    return ", ".join(f"{hit.document} {hit.score:.2f}" for hit in hits)
