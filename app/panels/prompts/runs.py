"""The runs of the prompts page: filters, one page of the table, and which 2 to 8 of them are compared."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from math import isfinite
from typing import Any

import streamlit as st

from app import ui
from app.panels.prompts.resources import load_choices, load_run_page
from app.text import plain
from core.errors import InvalidInput
from core.tracking.conventions import matches_cost
from core.tracking.runs import MOST_COMPARED, Run, RunFilter, RunPage, RunSort, SortKind, choose_columns
from quarterdeck.clock import start_of

PAGE_ROWS = 100
NEWEST = "started"
_MOST_COLUMNS, _FIELD_PX = 24, 160
_CHOICE = "runs-choice"  # where it is said that too many runs were ticked
_RUN_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")


@dataclass(frozen=True, slots=True)
class RunChoices:
    """What the filters offer: values found in the newest runs."""

    values: dict[str, list[str]]
    metrics: list[str]
    params: list[str]


def read_chosen() -> tuple[str, ...]:
    """Return the run ids in the address, each once; what cannot be one is left out."""
    given = str(st.query_params.get("runs", "")).split(",")
    return tuple(dict.fromkeys(run_id for run_id in given if _RUN_ID.fullmatch(run_id)))[:MOST_COMPARED]


def read_page() -> int:
    """Return the page that the switch below the table is on, or is about to be put on by the address."""
    given = str(st.session_state.get("page") or st.query_params.get("page") or 1)
    return max(1, int(given)) if given.isdecimal() and len(given) < 8 else 1


def label(metric: str) -> str:
    """A metric's name as the page shows it, with its unit; the mean cost is shown for 1,000 queries."""
    known = {"cost_usd_mean": "USD per 1,000", "cost_usd_total": "USD in all", "latency_ms_mean": "latency, ms"}
    return known.get(metric, metric.replace("_", " "))


def scale(metric: str) -> float:
    """What a metric is multiplied by to be shown."""
    return 1_000.0 if metric == "cost_usd_mean" else 1.0


def metric_column(metric: str, values: Sequence[float | None]) -> Any:
    """The column of a metric: money with four decimals, that of a query with six, counts whole, scores with two."""
    if metric == "cost_usd_mean" or matches_cost(metric, is_total=True):
        return st.column_config.NumberColumn(format="$%.4f")
    if matches_cost(metric):
        return st.column_config.NumberColumn(format="$%.6f")
    known = [abs(value) for value in values if value is not None]
    if all(value == int(value) for value in known if isfinite(value)) and max(known, default=0.0) > 1:
        return st.column_config.NumberColumn(format="localized")
    return st.column_config.NumberColumn(format="%.2f" if max(known, default=1.0) >= 0.01 else "%.4f")


def render_runs(experiment: str, compared: Sequence[str]) -> None:
    """Draw filters, table and pages. `compared` are the runs that the page compares now."""
    choices = gather_choices(load_choices(experiment))
    where, sort = choose_filter(experiment, choices), choose_sort(choices)
    page = read_page()
    found = load_run_page(where, sort, PAGE_ROWS, (page - 1) * PAGE_ROWS)
    if not found.runs and page > 1:  # the filters leave fewer pages than there were
        page, found = 1, load_run_page(where, sort, PAGE_ROWS, 0)
    if not found.runs:
        ui.render_empty("No run passes these filters.", "quarterdeck eval PROMPT --cases FILE", link="")
        return
    draw_table(found, where, sort, page)
    pages = -(-found.total // PAGE_ROWS)
    if pages > 1:
        st.pagination(pages, key="page", bind="query-params")
    render_choice(compared)


def gather_choices(runs: Sequence[Run]) -> RunChoices:
    """What the newest runs offer to filter and sort by."""
    columns = ("prompt", "version", "model")
    values = {name: sorted({run.params[name] for run in runs if name in run.params}) for name in columns}
    tags = {f"{key}={value}" for run in runs for key, value in run.tags.items() if not key.startswith("mlflow.")}
    return RunChoices(
        {**values, "tag": sorted(tags)},
        sorted({name for run in runs for name in run.metrics}),
        sorted({name for run in runs for name in run.params}),
    )


def choose_filter(experiment: str, choices: RunChoices) -> RunFilter:
    """The filters, which live in the address."""
    picked: dict[str, str | None] = {}
    with st.container(horizontal=True):  # they wrap where there is no room
        for name in ("prompt", "version", "model", "tag"):
            picked[name] = st.selectbox(
                name.capitalize(), choices.values[name], index=None, placeholder="all", key=name, bind="query-params",
                accept_new_options=True, help="Found in the newest 1,000 runs; type any other.", width=_FIELD_PX,
            )  # fmt: skip
        since: date | None = st.date_input("Started from", None, key="since", bind="query-params", width=_FIELD_PX)
        until: date | None = st.date_input("Until", None, key="until", bind="query-params", width=_FIELD_PX)
    return RunFilter(
        experiment,
        picked["prompt"],
        picked["version"],
        picked["model"],
        since=start_of(since) if since else None,
        until=start_of(until + timedelta(days=1)) if until else None,
        tag=read_tag(picked["tag"]) if picked["tag"] else None,
    )


def read_tag(text: str) -> tuple[str, str]:
    """A tag as it is typed: `key=value`."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise InvalidInput("tag", f"must be key=value, not {text!r}")
    return key.strip(), value.strip()


def choose_sort(choices: RunChoices) -> RunSort:
    """What the store sorts by: all runs, and not only those on the page."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        names = [NEWEST, *choices.metrics, *choices.params]
        by = st.selectbox("Sort by", names, key="sort", bind="query-params", width=2 * _FIELD_PX)
        ascending = st.toggle("Lowest first", key="ascending", bind="query-params", width="content")
    kind = SortKind.METRIC if by in choices.metrics else SortKind.PARAM if by in choices.params else SortKind.STARTED
    return RunSort(kind, "" if kind is SortKind.STARTED else str(by), descending=not ascending)


def draw_table(found: RunPage, where: RunFilter, sort: RunSort, page: int) -> None:
    """One page of runs, by the columns in which they differ; rows that are ticked are compared."""
    columns = choose_columns(found.runs)
    metrics, params = columns.metrics[:_MOST_COLUMNS], columns.params[:_MOST_COLUMNS]
    rows: list[dict[str, Any]] = [
        {
            "run": run.name or run.run_id[:8],
            "started": run.started,
            **{label(name): scale(name) * run.metrics[name] for name in metrics if name in run.metrics},
            **{name: run.params.get(name) for name in params},
            **{name: run.tags.get(name) for name in columns.tags[:_MOST_COLUMNS]},
            "status": run.status,
            "run id": run.run_id,
        }
        for run in found.runs
    ]
    chosen, ids = read_chosen(), [run.run_id for run in found.runs]
    key = f"runs-table-{abs(hash((where, sort, page, tuple(ids)))):x}"  # a selection is kept by place
    first = (page - 1) * PAGE_ROWS + 1
    total = f"{found.total:,}" if found.is_counted else "more"
    st.caption(f"Runs {first:,} to {first + len(ids) - 1:,} of {total}. Tick 2 to {MOST_COMPARED} to compare them.")
    options = {label(name): metric_column(name, [row.get(label(name)) for row in rows]) for name in metrics}
    ui.show_table(
        rows,
        key=key,
        file_name="runs.csv",
        column_config=options,
        on_select=lambda: keep_choice(key, ids),
        selection_mode="multi-row",
        selection_default={"selection": {"rows": [at for at, run_id in enumerate(ids) if run_id in chosen]}},
    )
    told = [(name, value) for name, value in columns.same.items() if value]
    if told:
        same = ", ".join(f"{plain(name)} {plain(ui.shorten(value, 40))}" for name, value in told[:12])
        st.caption(f"The same in all of them: {same}.")


def keep_choice(key: str, ids: Sequence[str]) -> None:
    """Put what is ticked on this page into the address, beside what was chosen on others."""
    ticked = [ids[at] for at in st.session_state[key].selection.rows if at < len(ids)]
    chosen = [run_id for run_id in read_chosen() if run_id not in ids] + ticked
    if len(chosen) > MOST_COMPARED:
        ui.tell(f"At most {MOST_COMPARED} runs are compared; the others are left out.", kind="info", place=_CHOICE)
    if chosen:
        st.query_params["runs"] = ",".join(chosen[:MOST_COMPARED])
    else:
        st.query_params.pop("runs", None)


def clear_choice() -> None:
    """Compare what is compared without a choice, and untick everything."""
    st.query_params.pop("runs", None)
    for key in [str(key) for key in st.session_state if str(key).startswith("runs-table-")]:
        if not key.endswith("-csv"):
            st.session_state[key] = {"selection": {"rows": [], "columns": [], "cells": []}}


def render_choice(compared: Sequence[str]) -> None:
    """Say what is compared now, and how to start afresh."""
    ui.render_said(_CHOICE)
    if chosen := read_chosen():
        few = " Choose at least one more." if len(chosen) == 1 else ""
        st.caption(f"{len(chosen)} chosen.{few}")
        st.button("Clear the choice", on_click=clear_choice)
    else:
        st.caption(f"None is chosen: the newest run of each of {len(compared)} versions is compared.")
