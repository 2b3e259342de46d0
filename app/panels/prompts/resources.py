"""What the prompts page reads, cached for some seconds: runs from MLflow, and how versions do in production."""

from collections.abc import Mapping

import streamlit as st

from app.resources import get_config, get_store, get_tracking
from core.errors import QuarterdeckError, SourceUnavailable
from core.log.retrievals import Window
from core.prompts.behavior import BehaviorReport, report_behavior
from core.prompts.contests import LOOKED_AT, PromptComparison, find_experiment, report_prompts
from core.prompts.decisions import WinnerRule
from core.prompts.naming import list_naming
from core.tracking.conventions import RunNames
from core.tracking.runs import PromptVersion, Run, RunFilter, RunPage, RunSort
from quarterdeck.scope import Scope, fold_environment


@st.cache_resource(ttl=15, show_spinner="Reading MLflow …")
def load_experiment_names() -> tuple[str, ...]:
    """Return the MLflow experiments to choose from, first the configured one, else the newest with evaluated runs."""
    first = find_experiment(get_tracking(), get_config().experiment, naming=load_naming())
    names = get_tracking().list_experiments()
    others = [name for name in names if name not in (first, "Default")] or [name for name in names if name != first]
    return (first, *others) if first else tuple(others)


@st.cache_resource(refresh_mode="background", ttl=15, max_entries=20, show_spinner="Reading MLflow …")
def load_comparison(
    experiment: str, rule: WinnerRule, ceiling_usd: float | None, run_ids: tuple[str, ...], shared_only: bool
) -> PromptComparison:
    """Return the chosen runs (or every version of a prompt) side by side, and the winner by the rule."""
    return report_prompts(
        get_tracking(),
        experiment=experiment,
        rule=rule,
        ceiling_usd=ceiling_usd,
        run_ids=run_ids,
        shared_only=shared_only,
        naming=load_naming(),
    )


@st.cache_resource(ttl=15, max_entries=5, show_spinner="Reading the prompts …")
def load_registered() -> tuple[PromptVersion, ...]:
    """Return the registered prompt versions, without their runs."""
    return get_tracking().list_prompts(with_runs=False)


def load_naming() -> Mapping[str, RunNames]:
    """Return under which names each experiment keeps its figures; none where the store cannot be read."""
    try:
        return list_naming(get_store())
    except SourceUnavailable:
        return {}


@st.cache_resource(ttl=300, max_entries=50, show_spinner=False)
def load_wording(run_id: str) -> str:
    """Return the wording that a run kept as a file; "" without any, or where it cannot be read."""
    try:
        return get_tracking().read_prompt_text(get_tracking().get_run(run_id))
    except QuarterdeckError:
        return ""


@st.cache_resource(refresh_mode="background", ttl=15, max_entries=50, show_spinner="Reading the runs …")
def load_run_page(where: RunFilter, sort: RunSort, limit: int, offset: int) -> RunPage:
    """Return one page of the runs that pass the filters."""
    return get_tracking().page_runs(where, sort, limit=limit, offset=offset)


@st.cache_resource(refresh_mode="background", ttl=60, max_entries=20, show_spinner="Reading the runs …")
def load_choices(experiment: str) -> tuple[Run, ...]:
    """Return the newest runs of an experiment: what its filters offer."""
    return get_tracking().list_runs(RunFilter(experiment), limit=LOOKED_AT)


@st.cache_resource(refresh_mode="background", ttl=15, max_entries=20, show_spinner="Reading the retrieval log …")
def load_behavior(name: str, experiment: str, window: Window, environment: str) -> BehaviorReport:
    """Return what each version of a prompt does in an environment, next to its offline figures."""
    return report_behavior(
        get_store(),
        get_tracking(),
        name,
        experiment=experiment,
        window=window,
        scope=Scope(fold_environment(environment), ""),
    )
