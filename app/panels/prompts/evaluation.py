"""The evaluation on the prompts page: started as a job, with its progress, budget and a way to cancel it."""

from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from app import ui
from app.background import start_command
from app.panels.prompts.resources import (
    load_choices,
    load_comparison,
    load_experiment_names,
    load_registered,
    load_run_page,
)
from app.panels.shared.jobs import render_command
from app.resources import get_config, get_jobs, get_store
from app.visitor import lock, make_act
from core.audit.actions import Action
from core.cases.store import list_sets
from core.config import PROJECT
from core.errors import InvalidInput
from core.jobs.jobs import Job, JobState
from core.prompts.gatekeeper import list_prompt_files
from core.prompts.prices import parse_prices
from core.prompts.trials import DEMO_CASES
from core.tracking.conventions import clean_version
from core.wording.counts import count_of

KIND = "evaluation"
_OFFLINE = "extractive"
_ANSWERERS = {"offline": _OFFLINE, "OpenAI": "openai", "Anthropic": "anthropic"}
_JUDGES = {"offline": "offline", "a model": "llm"}
_MOST_PROMPTS = 8


@dataclass(frozen=True, slots=True)
class CaseChoice:
    """Cases to evaluate on: the option of the command and its value, and what the page calls them."""

    option: str
    value: str
    label: str


def render_evaluation() -> None:
    """Draw the form and the last evaluation that was started here."""
    ui.render_said(KIND)
    job = get_jobs().find(KIND)
    if job is None or job.state is not JobState.RUNNING:
        _render_form()
    done = render_command(KIND, "Evaluation", explain=say_end)
    if done is not None and done.state is JobState.DONE:
        _show_results(done)


def list_prompts() -> dict[str, str]:
    """Return what can be evaluated, by what the page calls it: registered versions, and files that are none yet."""
    registered = load_registered()
    found = {f"{each.name} {each.label}": f"prompts:/{each.name}/{each.version}" for each in registered}
    known = {(each.name, clean_version(each.label)) for each in registered}
    for path, prompt in list_prompt_files():
        if (prompt.name, clean_version(prompt.version)) not in known:
            found[f"{prompt.label} (file {path.as_posix()})"] = str(PROJECT / path)
    return found


def list_case_choices() -> tuple[CaseChoice, ...]:
    """Return the sets of the store, then the files that the server knows."""
    sets = [
        CaseChoice("--set", each.name, f"{each.name}: {count_of(each.count, 'case')}, version {each.version}")
        for each in list_sets(get_store())
        if each.count
    ]
    files = [path for path in (get_config().golden_set, DEMO_CASES) if path.is_file()]
    return (*sets, *(CaseChoice("--cases", str(path), f"file {path.name}") for path in files))


def _render_form() -> None:
    prompts, choices = list_prompts(), list_case_choices()
    if not prompts or not choices:
        what = "prompt is registered" if not prompts else "case is stored"
        st.info(f"No {what} yet.")
        st.code("quarterdeck eval PROMPT --cases FILE", language=None)
        return
    with st.form("evaluation"):
        left, right = st.columns(2)
        left.multiselect("Prompts", list(prompts), list(prompts)[:1], key="eval_prompts", max_selections=_MOST_PROMPTS)
        labels = [each.label for each in choices]
        right.selectbox("Cases", labels, key="eval_cases")
        columns = st.columns(4)
        columns[0].selectbox(
            "Answers", list(_ANSWERERS), key="eval_answerer",
            help="Offline: sentences of the documents. Or a model that speaks this protocol; the server needs its key.",
        )  # fmt: skip
        models = _list_models()
        columns[1].selectbox("Answering model", models, index=None, key="eval_model", placeholder="none")
        columns[2].selectbox("Judge", list(_JUDGES), key="eval_judge")
        columns[3].selectbox("Judging model", models, index=None, key="eval_judge_model", placeholder="the same")
        left, right = st.columns([1, 3])
        left.number_input(
            "Budget, USD", 0.01, 1_000.0, 1.0, 0.5, key="eval_budget",
            help="Models stop before they cost more. The offline answerer and judge cost nothing.",
        )  # fmt: skip
        right.text_input("Reason", key="eval_reason", max_chars=500)
        st.form_submit_button(
            "Start the evaluation", type="primary", on_click=_start, args=(prompts, choices),
            **lock(Action.JOB_START, get_config().environment),
        )  # fmt: skip
    st.caption(
        "It runs on the live index of the alias default, continues when this page is closed, and its runs appear under "
        "Compare and Runs. One evaluation runs at a time. A canceled one with a model resumes where it stopped."
    )


def make_arguments(
    prompts: list[str], cases: CaseChoice, *, answerer: str, model: str, judge: str, judge_model: str, budget: float
) -> tuple[str, ...]:
    """Return the arguments of `quarterdeck` for what the form says. Raises InvalidInput."""
    if not prompts:
        raise InvalidInput("prompts", "choose at least one")
    arguments = ["eval", *prompts, f"{cases.option}={cases.value}", f"--answerer={answerer}", f"--judge={judge}"]
    if answerer != _OFFLINE and not model:
        raise InvalidInput("answering model", "choose one of the price table")
    if answerer != _OFFLINE:
        arguments.append(f"--model={model}")
    if judge == "llm":
        if answerer == _OFFLINE:
            raise InvalidInput("judge", "a judging model needs an answering model's protocol; choose one")
        arguments += [f"--judge-model={judge_model}"] if judge_model else []
    if answerer != _OFFLINE or judge == "llm":
        arguments.append(f"--max-cost-usd={budget:g}")
    return tuple(arguments)


def _start(prompts: dict[str, str], choices: tuple[CaseChoice, ...]) -> None:
    """Start the job that the form describes. Runs before the page is drawn."""
    state = st.session_state
    chosen = list(state["eval_prompts"])

    def start() -> int:
        act = make_act(state["eval_reason"], get_config().environment)
        cases = next((each for each in choices if each.label == state["eval_cases"]), None)
        if cases is None:
            raise InvalidInput("cases", "choose some")
        arguments = make_arguments(
            [prompts[name] for name in chosen if name in prompts], cases, answerer=_ANSWERERS[state["eval_answerer"]],
            model=state["eval_model"] or "", judge=_JUDGES[state["eval_judge"]],
            judge_model=state["eval_judge_model"] or "", budget=float(state["eval_budget"]),
        )  # fmt: skip
        subject = f"{', '.join(chosen)} on {cases.label}"
        return start_command(KIND, *arguments, subject=subject[:300], act=act)

    ui.record_change(start, effect="The evaluation is started.", place=KIND)


def say_end(job: Job, log: str) -> str:
    """How an evaluation ended: its figures line by line are in the log."""
    if job.state is JobState.CUT_OFF:
        return "its process was killed, or the machine stopped; start it again"
    if job.state is JobState.CANCELLED:
        return "its finished cases are kept where a model answered; start it again to resume"
    figures = [line for line in log.splitlines() if ": " in line and "faithfulness_mean" in line]
    return "; ".join(ui.shorten(line, 300) for line in figures[:3]) or job.last_line.removeprefix("quarterdeck: ")


def _show_results(job: Job) -> None:
    """Read the runs anew, once for each evaluation that ended."""
    if st.session_state.get("evaluation_seen") == job.started:
        return
    st.session_state["evaluation_seen"] = job.started
    for load in (load_comparison, load_choices, load_run_page, load_registered, load_experiment_names):
        load.clear()


def _list_models() -> list[str]:
    prices: Path = PROJECT / "data" / "prices.yaml"
    try:
        return sorted(parse_prices(prices.read_text(encoding="utf-8"), source=prices.name))
    except (OSError, InvalidInput):
        return []
