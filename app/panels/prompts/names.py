"""The names on the prompts page: under which parameters and metrics an experiment's runs keep their figures."""

from collections.abc import Sequence

import streamlit as st

from app import ui
from app.panels.prompts.resources import load_comparison, load_experiment_names, load_naming
from app.panels.prompts.runs import gather_choices
from app.resources import get_store
from app.visitor import lock, make_act
from core.audit.actions import Action
from core.prompts.naming import save_names
from core.tracking.conventions import USUAL, RunNames
from core.tracking.runs import Run

_USUAL = "(the usual names)"
SAVED = "names-saved"  # below the sentence: once the runs can be read, the form is under another tab
_FIELDS = {
    "prompt": "Prompt: parameter or tag",
    "version": "Version: parameter or tag",
    "faithfulness": "Faithfulness: metric",
    "cost": "Cost of a query, USD: metric",
    "cases": "Number of cases: parameter or metric",
}


def render_names(experiment: str, runs: Sequence[Run], environment: str) -> None:
    """Draw the form that says which parameter or metric is the prompt, the version, the faithfulness and the cost."""
    known = load_naming().get(experiment, USUAL)
    st.caption(
        "Runs of `quarterdeck eval`, of MLflow's own evaluations and of common tutorials are recognized automatically. "
        "Where your names differ, choose them here; they hold for everybody who opens this experiment."
    )
    found = gather_choices(runs)
    tags = sorted({key for run in runs for key in run.tags if not key.startswith("mlflow.")})
    options = {name: found.metrics if name in ("faithfulness", "cost") else [*found.params, *tags] for name in _FIELDS}
    options["cases"] = [*found.params, *found.metrics]
    with st.form(f"names-{experiment}"):
        for place, (name, said) in zip(st.columns(len(_FIELDS)), _FIELDS.items(), strict=True):
            now = getattr(known, name)
            offered = [_USUAL, *dict.fromkeys([*([now] if now else []), *options[name]])]
            place.selectbox(
                said, offered, index=offered.index(now) if now else 0, key=f"name-{name}-{experiment}",
                accept_new_options=True,
            )  # fmt: skip
        st.text_input("Reason, kept in the audit trail", key=f"name-reason-{experiment}", max_chars=2_000)
        st.form_submit_button(
            "Save the names", on_click=save, args=(experiment, environment), **lock(Action.PROMPT_MAP, environment)
        )
    ui.render_said(_place(experiment))


def save(experiment: str, environment: str) -> None:
    """Save what the form says; the comparison is made anew."""
    state = st.session_state
    given = {name: (state[f"name-{name}-{experiment}"] or "").strip() for name in _FIELDS}
    chosen = {name: "" if value == _USUAL else value for name, value in given.items()}
    ui.record_change(
        lambda: save_names(
            get_store(), experiment, RunNames(**chosen), make_act(state[f"name-reason-{experiment}"], environment)
        ),
        effect="Runs are now read by these names.", place=_place(experiment), done_at=SAVED,
    )  # fmt: skip
    load_comparison.clear()
    load_experiment_names.clear()


def _place(experiment: str) -> str:
    return f"names-{experiment}"
