"""The map between two embedding models, for an index of another model that waits: learned as a job before the swap."""

from datetime import UTC, datetime

import streamlit as st

from app.panels.questions.resources import load_threshold
from app.panels.shared.jobs import render_command, start
from app.resources import get_config, get_jobs, get_store
from app.text import plain
from app.visitor import lock
from core.audit.actions import Action
from core.drift.report import list_model_maps
from core.drift.scales import ModelMap, find_map
from core.indexes.registry import Index
from core.jobs.jobs import JobState
from core.log.retrievals import today_in
from quarterdeck.scope import Scope

KIND = "map"


def render_model_map(alias: str, live: Index | None, candidate: Index, scope: Scope) -> None:
    """Draw what becomes of scores with another model, and the button that learns the map; nothing for one model."""
    if live is None or live.model == candidate.model:
        return
    st.subheader("Another embedding model", anchor=False)
    known = find_map(list_model_maps(get_store(), scope), live.model, candidate.model)
    st.markdown(say_what_goes_on(live.model, candidate.model, known))
    if known:
        threshold = load_threshold(scope, today_in(get_store(), scope, now=datetime.now(UTC)))
        st.caption(say_threshold(known, threshold))
    job = get_jobs().find(KIND)
    if job is None or job.state is not JobState.RUNNING:
        st.button(
            "Learn the map again" if known else "Learn the map", key="corpus-map", on_click=learn,
            args=(alias, candidate.name, scope),
            **{"help": "Searches last week's questions in both indexes; changes nothing for readers.",
               **lock(Action.JOB_START, get_config().environment)},
        )  # fmt: skip
    render_command(KIND, "Map")


def learn(alias: str, name: str, scope: Scope) -> None:
    """Start learning the map. Runs before the page is drawn."""
    start(
        KIND, "index", "map", name, "--alias", alias, "--reason", "so that drift goes on across the change",
        "--environment", scope.environment, "--service", scope.service,
        subject=name, reason="how do the scores of the two models compare?",
    )  # fmt: skip


def say_what_goes_on(live: str, candidate: str, known: ModelMap | None) -> str:
    """The sentence about the two scales, in Markdown."""
    two = f"**{plain(live)}** and **{plain(candidate)}** score on different scales."
    if known is None:
        return f"{two} Without a map, the drift reference starts anew with the swap. Learn the map first."
    return (
        f"{two} Their map, by {known.pairs:,} questions asked under both, misses the mean by {known.error:.3f}. "
        "With it, nothing restarts silently: drift, the low threshold and the ledger go on across the swap, and across "
        "the way back, and say so. Services have to log these names as `model`."
    )


def say_threshold(known: ModelMap, threshold: float) -> str:
    """What counts as low now and after the swap."""
    return f"A question scores low below {threshold:.3f} now, and below {known.apply(threshold):.3f} after the swap."
