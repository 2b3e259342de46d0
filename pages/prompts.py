"""Prompts: which prompt variant wins under which rule, what the runs say, and what is in production."""

from collections.abc import Callable

import streamlit as st

from app import ui
from app.panels.prompts.behavior import render_behavior
from app.panels.prompts.cases import render_case_sets
from app.panels.prompts.comparison import render_comparison, render_pair
from app.panels.prompts.evaluation import render_evaluation
from app.panels.prompts.names import SAVED, render_names
from app.panels.prompts.promotion import render_promotion
from app.panels.prompts.resources import load_choices, load_comparison, load_experiment_names
from app.panels.prompts.runs import read_chosen, render_runs
from app.resources import list_environments
from app.text import plain
from app.views import draw_views
from core.prompts.contests import PromptComparison, Verdict
from core.prompts.decisions import WinnerRule
from core.wording.counts import count_of

_EXTRACTIVE = " Answers are sentences copied from the documents, no language model; costs are simulated list prices."
_MOST_PROBLEMS = 8
_TABS = {
    "Compare": ("Compare", "Side by side"),
    "Runs": ("Runs", "Names"),
    "Promote": ("Promote",),
    "Live": ("Live",),
    "Cases": ("Cases", "Evaluate"),
}
_VIEW_NAMES = {"Compare": "All runs", "Runs": "All runs", "Names": "Names of figures", "Cases": "Case sets"}
_WINNER = ui.StatusLook("Winner", "green", ui.Mark.WINNER)
_NO_WINNER = ui.StatusLook("No clear winner", "gray", ui.Mark.UNKNOWN)
_NO_VERDICT = ui.StatusLook("No verdict", "gray", ui.Mark.UNKNOWN)


def choose_experiment_and_rule() -> tuple[str, WinnerRule, float | None]:
    """What the visitor looks at, and the rule that decides; it is stated in the verdict."""
    left, middle, right = st.columns(3)
    with left:
        experiment = ui.choose_named(
            "MLflow experiment", load_experiment_names(), key="experiment",
            say_gone=lambda name: f"There is no MLflow experiment {plain(ui.shorten(name, 80))} with runs.",
        )  # fmt: skip
    chosen = middle.selectbox("Decide by", [str(rule) for rule in WinnerRule], key="rule", bind="query-params")
    rule = WinnerRule(chosen or WinnerRule.FAITHFULNESS_PER_COST)
    if rule is not WinnerRule.FAITHFULNESS_UNDER_CEILING:
        return experiment or "", rule, None
    ceiling = right.number_input(
        "At most, USD a query", 0.0001, 10.0, 0.01, 0.001, format="%.4f", key="ceiling", bind="query-params"
    )
    return experiment or "", rule, ceiling


def render_sentence(found: PromptComparison, rule: WinnerRule) -> None:
    """The verdict, the rule it rests on, and what it is over."""
    live = plain(found.production.label) if found.production else "no version"
    those = f"the {len(found.contenders)} chosen runs" if found.is_chosen else say_compared(found)
    detail = f"Rule: {rule}. Compared: {those}. In production: {live}."
    if all(each.run.params.get("answerer", "").startswith("extractive") for each in found.contenders):
        detail += _EXTRACTIVE
    sentence, look = say_verdict(found)
    ui.render_verdict(plain(sentence), look, detail=detail)
    for note in found.notes:
        st.caption(plain(note))
    problems = [each for each in found.contenders if each.problem]
    left = "Not judged case by case" if found.verdict is Verdict.MEANS_ONLY else "Left out of the verdict"
    for each in problems[:_MOST_PROBLEMS]:
        st.caption(f"{left}: {plain(each.label)} {plain(each.problem)}.")
    if found.missing:
        are = "is" if len(found.missing) == 1 else "are"
        st.caption(f"{len(found.missing)} of the chosen runs {are} not in this store.")


def say_compared(found: PromptComparison) -> str:
    """Which runs the verdict is about."""
    count = len(found.judged) or len(found.contenders)
    over = " over the same cases" if found.judged else ""
    of = f" of {plain(found.prompt)}" if found.prompt else ""
    return f"{count_of(count, 'version')}{of}, each by its newest run{over}"


def say_verdict(found: PromptComparison) -> tuple[str, ui.StatusLook]:
    """The sentence on top and its badge."""
    if found.decision is None:
        count = len(found.contenders)
        none = f"None of the {count} runs can" if count > 1 else "The run cannot"
        return f"{none} be judged case by case.", _NO_VERDICT
    if found.verdict is Verdict.MEANS_ONLY:
        return found.decision.reason, ui.StatusLook("Means only", "gray", ui.Mark.EQUAL)
    if not found.decision.comparable:
        return found.decision.reason, ui.StatusLook("Not comparable", "orange", ui.Mark.UNEQUAL)
    return found.decision.reason, _WINNER if found.winner else _NO_WINNER


def offer_shared_cases(found: PromptComparison) -> None:
    """Runs over different cases are compared over those that they share, when the visitor asks for it."""
    if wants_shared() or (found.decision and not found.decision.comparable and found.shared):
        label = f"Compare over the {count_of(len(found.shared), 'case')} that all of them share"
        st.toggle(label, key="shared", bind="query-params")


def wants_shared() -> bool:
    """Whether the switch of `offer_shared_cases`, which is drawn below the verdict, is on."""
    return bool(st.session_state.get("shared", str(st.query_params.get("shared")).lower() == "true"))


def render_tabs(found: PromptComparison, experiment: str, frame: ui.Frame) -> None:
    """The evidence, the runs, the promotion and the live figures; only what is open is computed."""

    def render_live() -> None:
        name = found.prompt or next((each.evaluation.prompt for each in found.contenders), "")
        render_behavior(name, experiment, today=frame.today, environment=frame.environment)

    views: dict[str, tuple[str, Callable[[], None]]] = {
        "Compare": ("The runs could not be compared", lambda: render_comparison(found)),
        "Side by side": ("The runs could not be compared", lambda: render_pair(found)),
        "Runs": (
            "The runs could not be read",
            lambda: render_runs(experiment, [each.run.run_id for each in found.contenders]),
        ),
        "Names": (
            "The names could not be read",
            lambda: render_names(experiment, load_choices(experiment), frame.environment),
        ),
        "Promote": ("What is promoted could not be read", lambda: render_promotion(found, frame.environment)),
        "Live": ("The live figures could not be read", render_live),
    }
    draw_views(_TABS, views | list_own(frame), names=_VIEW_NAMES)


def list_own(frame: ui.Frame) -> dict[str, tuple[str, Callable[[], None]]]:
    """The views that need no run: the case sets of the store, and the evaluation that makes runs."""
    return {
        "Cases": ("The cases could not be read", lambda: render_case_sets(frame.environment)),
        "Evaluate": ("What can be evaluated could not be read", render_evaluation),
    }


def render(frame: ui.Frame) -> None:
    """The page, once MLflow could be read."""
    experiment, rule, ceiling = choose_experiment_and_rule()
    if not experiment and "experiment" in st.query_params:
        return
    found = load_comparison(experiment, rule, ceiling, read_chosen(), wants_shared())
    if not found.contenders:
        none = (
            "None of the chosen runs is in this store." if found.missing else f"No evaluated run in {experiment} yet."
        )
        ui.render_empty(plain(none), "quarterdeck demo")
        if found.searched and experiment:
            st.caption(plain(found.searched))
        if runs := load_choices(experiment):
            if found.searched:
                st.markdown("##### Where your runs keep their figures")
                ui.render_said(SAVED)
                render_names(experiment, runs, frame.environment)
            render_runs(experiment, ())
        draw_views({"Cases": ("Cases",), "Evaluate": ("Evaluate",)}, list_own(frame))
        return
    render_sentence(found, rule)
    offer_shared_cases(found)
    ui.render_said(SAVED)
    render_tabs(found, experiment, frame)


frame = ui.render_frame("Prompts", environments=list_environments(), ranges=False)
with ui.showing_errors("MLflow could not be read"):
    render(frame)
