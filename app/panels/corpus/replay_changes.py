"""The tab Replay: other changes than a waiting index, as a job: passages, a model, a reranker, a prompt, a chain."""

from collections.abc import Mapping, Sequence

import streamlit as st

from app import ui
from app.background import start_command
from app.connections import find_unconnected
from app.panels.corpus.replay import KIND, explain_end, render_result
from app.panels.corpus.resources import load_replay
from app.panels.prompts.evaluation import list_prompts
from app.panels.shared.jobs import render_command
from app.resources import get_config, get_jobs, get_store
from app.text import plain, plain_error
from app.visitor import lock, make_act, may_read_questions
from core.audit.actions import Action
from core.corpus.versions import Version
from core.errors import InvalidInput, QuarterdeckError
from core.indexes.registry import Index
from core.jobs.jobs import JobState
from core.replay.candidates import BM25, LEAST_CHARACTERS, MOST_CHARACTERS
from core.replay.report import list_replays
from quarterdeck.scope import Scope

_AS_LIVE = "as live"
_MODELS = {"offline": "extractive", "OpenAI": "openai", "Anthropic": "anthropic"}
_PLACE = "replay-change"


def render_changes(
    versions: Sequence[Version], indexes: Sequence[Index], aliases: Mapping[str, str], scope: Scope
) -> None:
    """Draw the form of a chain, the job, and the last replay of every candidate of this scope."""
    if not aliases:
        st.info("No index is live yet, so there is nothing to compare with. Build one on the tab Indexes.")
        return
    job = get_jobs().find(KIND)
    if job is None or job.state is not JobState.RUNNING:
        _render_form(versions, indexes, list(aliases), scope)
    ui.render_said(_PLACE)
    render_command(KIND, "Replay", explain=explain_end)
    kept = {each.about.candidate: each for each in list_replays(get_store(), scope)}
    if not kept:
        st.caption(f"Nothing was replayed for {plain(scope.service)} yet.")
        return
    ui.tell_gone("replayed", list(kept), "replay of")
    name = st.selectbox("Last replays", list(kept), key="replayed", bind="query-params") or next(iter(kept))
    found = kept[name]
    if found.about.live not in aliases.values():
        st.warning(f"This replay was against {plain(found.about.live)}, which is no longer live. Replay again.")
    known = {index.name for index in indexes}
    if " " not in found.about.changes[0] and found.about.changes[0] not in known:
        st.warning(f"{plain(found.about.changes[0])} was removed since.")
    render_result(load_replay(found, readable=may_read_questions(scope.environment)))


def _render_form(versions: Sequence[Version], indexes: Sequence[Index], aliases: Sequence[str], scope: Scope) -> None:
    prompts: dict[str, str] = {}
    try:
        prompts = list_prompts()
    except QuarterdeckError as error:
        is_new = find_unconnected(error) is not None
        why = "MLflow, where they are registered, is not connected." if is_new else plain_error(error)
        st.caption(f"Prompts cannot be replayed now: {why}")
    models = sorted({get_config().embedding_model, *(index.model for index in indexes)})
    offered = frozenset(
        {BM25, *models, *prompts, *(index.name for index in indexes), *(version.name for version in versions)}
    )
    with st.form("replay-change"):
        first, second, third = st.columns(3)
        first.selectbox("Index", [_AS_LIVE, *(index.name for index in indexes)], key="rc_index")
        second.selectbox("Documents", [_AS_LIVE, *(version.name for version in versions)], key="rc_documents")
        third.number_input(
            "Characters a passage", LEAST_CHARACTERS, MOST_CHARACTERS, None, 100, key="rc_characters",
            placeholder=_AS_LIVE,
        )  # fmt: skip
        first.selectbox("Embedding model", [_AS_LIVE, *models], key="rc_model")
        second.selectbox("Reranker", [_AS_LIVE, BM25], key="rc_reranker")
        third.selectbox("Prompt", [_AS_LIVE, *prompts], key="rc_prompt")
        first.selectbox("Answers", list(_MODELS), key="rc_answerer")
        second.text_input("Answering model", key="rc_answering", placeholder="as in the price table", max_chars=100)
        third.number_input(
            "Budget, USD", 0.01, 1_000.0, 1.0, 0.5, key="rc_budget",
            help="Models and reranking servers stop before they cost more. Offline answers cost nothing.",
        )  # fmt: skip
        left, right = st.columns([1, 3])
        left.selectbox("Alias", aliases, key="rc_alias")
        right.text_input("Reason", key="rc_reason", max_chars=500)
        st.form_submit_button(
            "Replay last week's questions", type="primary", on_click=_start, args=(prompts, offered, scope),
            **lock(Action.JOB_START, get_config().environment),
        )  # fmt: skip
    st.caption(
        "Nothing changes for readers. What is embedded, reranked and answered is remembered, so a canceled replay "
        "goes on where it stopped. Models of no index here, reranking servers and folders: on the command line alone."
    )


def make_arguments(
    *,
    index: str,
    documents: str,
    characters: int | None,
    model: str,
    reranker: str,
    prompt: str,
    answerer: str,
    answering: str,
    budget: float,
) -> tuple[str, ...]:
    """Return the arguments of `quarterdeck` for what the form says. Raises InvalidInput."""
    if not any((index, documents, characters, model, reranker, prompt)):
        raise InvalidInput("candidate", "change at least one part")
    if answerer != "extractive" and not (prompt and answering):
        raise InvalidInput("answers", "a model answers a prompt: choose both, the model as in the price table")
    options = {
        "documents": documents, "characters": characters, "embedding-model": model, "reranker": reranker,
        "prompt": prompt,
    }  # fmt: skip
    arguments = ["replay", "--keep", *(f"--{name}={value}" for name, value in options.items() if value)]
    if answerer != "extractive":
        arguments += [f"--answerer={answerer}", f"--model={answering}", f"--max-cost-usd={budget:g}"]
    return (*arguments, *(("--", index) if index else ()))


def _start(prompts: Mapping[str, str], offered: frozenset[str], scope: Scope) -> None:
    """Start the job that the form describes. Runs before the page is drawn.

    Only what was offered counts: a folder or a server's address would be read or sent to in the deck's name.
    """
    state = st.session_state

    def chosen(key: str) -> str:
        return state[key] if state[key] in offered else ""

    def start() -> int:
        act = make_act(state["rc_reason"], get_config().environment)
        characters = state["rc_characters"]
        command, *arguments = make_arguments(
            index=chosen("rc_index"), documents=chosen("rc_documents"), characters=characters and int(characters),
            model=chosen("rc_model"), reranker=chosen("rc_reranker"), prompt=prompts.get(chosen("rc_prompt"), ""),
            answerer=_MODELS[state["rc_answerer"]], answering=state["rc_answering"].strip(),
            budget=float(state["rc_budget"]),
        )  # fmt: skip
        place = ("--environment", scope.environment, "--service", scope.service, f"--alias={state['rc_alias']}")
        subject = " + ".join(filter(None, (
            chosen("rc_index"), chosen("rc_documents"), f"{characters} characters" if characters else "",
            chosen("rc_model"), chosen("rc_reranker"), chosen("rc_prompt"),
        )))  # fmt: skip
        return start_command(KIND, command, *place, *arguments, subject=subject[:300], act=act)

    ui.record_change(start, effect="Its progress is shown below; it continues when this page is closed.", place=_PLACE)
