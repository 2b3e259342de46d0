"""The pipeline of the corpus: its stages as a graph, stale ones with the reason, and the rebuild with its log."""

from collections.abc import Sequence

import streamlit as st

from app import ui
from app.panels.corpus.resources import load_pipeline
from app.panels.shared.jobs import render_job
from app.resources import get_config, get_corpus, get_store
from app.text import plain
from app.visitor import lock, make_act
from core.audit.actions import Action
from core.corpus.pipeline import Stage, StaleStage
from core.corpus.rebuild import KIND, cancel_rebuild, explain_end, find_rebuild, jobs_of, start_rebuild
from core.jobs.jobs import JobState

_STALE, _FRESH, _FROZEN, _DATA = "#ffe2b8", "#cdeee2", "#e3e6ec", "#ffffff"


def render_pipeline() -> None:
    """Draw the pipeline and the form that rebuilds its stale stages."""
    corpus = get_corpus()
    if corpus.root is None:
        st.info("A pipeline needs a working copy, and this repository has none. Clone it, and set the clone's path.")
        return
    job = find_rebuild(corpus)
    stages, stale = load_pipeline(str(job and job.ended))
    if not stages:
        ui.render_empty(
            "The repository has no pipeline. Describe one in dvc.yaml:",
            "dvc stage add --name ingest --deps corpus --outs index quarterdeck index build corpus index", link="",
        )  # fmt: skip
        return
    st.markdown(say_what_is_stale(stages, stale))
    st.graphviz_chart(draw_stages(stages, stale), alt=f"The pipeline: {len(stages)} stages, {len(stale)} stale")
    reasons = {stage.name: "; ".join(stage.reasons) for stage in stale}
    ui.show_table(
        [
            {"stage": stage.name, "state": "stale" if stage.name in reasons else "up to date",
             "why": reasons.get(stage.name, ""), "needs": ", ".join(stage.deps), "makes": ", ".join(stage.outs),
             "parameters": ", ".join(stage.params), "command": ui.shorten(stage.cmd, 200)}
            for stage in stages
        ],
        key="corpus-stages", file_name="stages.csv",
    )  # fmt: skip
    st.subheader("Rebuild", anchor=False)
    if job is None or job.state is not JobState.RUNNING:
        render_form(stale)
    render_job(jobs_of(corpus), KIND, "Rebuild", explain=explain_end, cancel=cancel)


def say_what_is_stale(stages: Sequence[Stage], stale: Sequence[StaleStage]) -> str:
    """The sentence above the graph, in Markdown."""
    if not stale:
        return f"All {len(stages)} stages are up to date." if len(stages) > 1 else "The one stage is up to date."
    first = stale[0]
    return (
        f"**{len(stale)} of {len(stages)}** stages are stale, starting with {plain(first.name)}: "
        f"{plain(first.reasons[0])}."
    )


def render_form(stale: Sequence[StaleStage]) -> None:
    """The form that starts a rebuild."""
    st.caption(
        "Runs dvc repro in the working copy, one at a time. It continues when this page is closed; its results are "
        "not committed."
    )
    with st.form("rebuild", clear_on_submit=True):
        st.text_input("Reason", key="rebuild-reason", max_chars=500)
        label = f"Rebuild {len(stale)} stale stages" if len(stale) > 1 else "Rebuild"
        st.form_submit_button(
            label, type="primary", on_click=rebuild, **lock(Action.JOB_START, get_config().environment)
        )
    ui.render_said("corpus-rebuild")


def rebuild() -> None:
    """Start the rebuild. Runs before the page is drawn."""
    reason = st.session_state["rebuild-reason"]
    ui.record_change(
        lambda: start_rebuild(get_store(), get_corpus(), make_act(reason, get_config().environment)),
        place="corpus-rebuild",
    )


def cancel() -> int:
    """Cancel the rebuild, with an audit entry."""
    return cancel_rebuild(get_store(), get_corpus(), make_act("canceled on the page", get_config().environment))


def draw_stages(stages: Sequence[Stage], stale: Sequence[StaleStage]) -> str:
    """The pipeline in DOT, Graphviz' language: data as notes, stages as boxes with their state in words."""
    waiting = {stage.name for stage in stale}
    made = {out for stage in stages for out in stage.outs}
    sources = list(
        dict.fromkeys(dep for stage in stages for dep in stage.deps if dep not in made and not stage.upstream)
    )
    lines = [
        'rankdir=LR; bgcolor="transparent"; node [fontname="sans-serif" fontsize=11 fontcolor="#1a2233" style=filled '
        'color="#8a94a6"]; edge [color="#8a94a6"];'
    ]
    lines += [
        f"{_quote('data ' + name)} [label={_quote(name)} shape=note fillcolor={_quote(_DATA)}];" for name in sources
    ]
    for stage in stages:
        word, color = ("stale", _STALE) if stage.name in waiting else ("up to date", _FRESH)
        word, color = (f"frozen, {word}", _FROZEN) if stage.is_frozen else (word, color)
        label = f'{_quote(stage.name)[:-1]}\\n{word}"'
        lines.append(f"{_quote('stage ' + stage.name)} [label={label} shape=box fillcolor={_quote(color)}];")
        lines += [f"{_quote('stage ' + name)} -> {_quote('stage ' + stage.name)};" for name in stage.upstream]
        lines += [
            f"{_quote('data ' + dep)} -> {_quote('stage ' + stage.name)};" for dep in stage.deps if dep in sources
        ]
    return "digraph { " + "\n".join(lines) + " }"


def _quote(text: str) -> str:
    return '"' + ui.shorten(text, 60).replace("\\", "\\\\").replace('"', '\\"') + '"'
