"""Quality in production: latency, cost, tokens, feedback and faithfulness, by day and by segment, from the rollups."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import streamlit as st

from app import ui
from app.panels.questions.metric_segments import render_metric_segments
from app.panels.questions.quality_charts import draw_cost, draw_latency, draw_scores, draw_tokens
from app.panels.questions.resources import (
    QUALITY_METRICS,
    load_dimensions,
    load_judged,
    load_metric_days,
    load_metric_segments,
    load_metrics,
    load_service,
)
from app.text import plain, show_unseen
from core.log.metrics import MetricSums
from core.log.retrievals import Window
from core.questions.wanted import NO_VALUE
from core.reviews.corrected import MeanStatus
from core.reviews.report import JudgedQuality
from core.wording.counts import count_of

_LOOK = ui.StatusLook("Quality", "gray", ui.Mark.FIGURES)
_Days = Mapping[date, MetricSums]


def render_quality(frame: ui.Frame) -> None:
    """Draw the sentence, the days, what judges and reviewers say, and the segments."""
    window = Window(frame.today - timedelta(days=frame.days - 1), frame.today)
    days = load_metric_days(frame.scope, window)
    sums = {name: _add(days.get(name, {})) for name in QUALITY_METRICS}
    if not any(each.count for each in sums.values()):
        ui.render_empty(
            f"No question of the last {frame.days} days has a latency, a cost, tokens, feedback or a judge's score.",
            "deck.log_retrieval(query, score, latency_ms=812, cost_usd=0.0004, tokens=950, answer=answer)",
        )
        return
    ui.render_verdict(_say(sums, frame.days), _LOOK, detail=_detail(frame))
    left, right = st.columns(2)
    with left:
        draw_latency(days.get("latency_ms", {}))
        draw_scores(days)
    with right:
        draw_cost(days.get("cost_usd", {}), load_service(frame.service).budget_usd)
        draw_tokens(days.get("tokens", {}))
    _render_judged(load_judged(frame.scope, window), frame.days)
    _render_segments(frame, window)


def _say(sums: Mapping[str, MetricSums], days: int) -> str:
    parts = []
    if sums["latency_ms"].count:
        middle, slow = (sums["latency_ms"].quantile(share) for share in (0.5, 0.95))
        parts.append(f"half of the answers took up to {_ms(middle)}, 95% up to {_ms(slow)}")
    if sums["cost_usd"].count:
        parts.append(f"a question cost {ui.format_usd(sums['cost_usd'].mean)}".replace("$", "\\$"))
    if sums["faithfulness"].count:
        parts.append(f"faithfulness was {ui.format_score(sums['faithfulness'].mean)}")
    elif sums["feedback"].count:
        parts.append(f"feedback was {ui.format_score(sums['feedback'].mean)} between -1 and 1")
    parts = parts or [f"tokens were {sums['tokens'].mean or 0:,.0f} a question"]
    told = " and ".join(part for part in (", ".join(parts[:-1]), parts[-1]) if part)
    return f"In the last {days} days {told}."


def _detail(frame: ui.Frame) -> str:
    zone = load_service(frame.service).zone
    days = "" if zone == "UTC" else f" They are those of UTC days, sums those of days in {zone}."
    return f"The times are exact to 5%.{days} Scores of users, judges and reviewers count alike here."


def _render_judged(found: Sequence[JudgedQuality], days: int) -> None:
    """Draw what the judge says of a sample of answers, and what reviewers' labels make of its mean."""
    st.markdown("**Judged answers**")
    if not any(each.judge for each in found):
        st.caption(
            "No answer was judged yet. The server judges a random sample of answers in the background, where services "
            "store their answers."
        )
        return
    rows = [_as_row(each) for each in found if each.judge]
    columns = {name: ui.score_column() for name in ("judge's mean", "corrected mean", "from", "to", "labels' mean")}
    ui.show_table(rows, key="quality-judged", file_name="judged.csv", column_config=columns)
    for each in found:
        if each.judge:
            st.caption(_explain(each, days))


def _as_row(found: JudgedQuality) -> dict[str, Any]:
    mean = found.mean
    return {
        "what": str(found.task), "judge": found.judge, "judged": mean.judged, "judge's mean": mean.judge_mean,
        "labels": mean.labels, "labels' mean": mean.label_mean, "corrected mean": mean.mean, "from": mean.low,
        "to": mean.high,
    }  # fmt: skip


def _explain(found: JudgedQuality, days: int) -> str:
    mean, name = found.mean, str(found.task).capitalize()
    if mean.status is MeanStatus.OK:
        shorter = 1 - (mean.standard_error or 0) / mean.label_error if mean.label_error else 0.0
        how = f"{ui.format_share(shorter)} less" if shorter > 0 else "no less"
        told = f"reviewers would say {mean.mean:.2f} (95% interval {mean.low:.2f} to {mean.high:.2f})"
        told += f"; its standard error is {how} than that of the labels alone"
    else:
        labels = count_of(mean.labels, "label")
        told = f"{labels} of a random review queue; from {mean.needed} on they correct the judge's mean"
    left_out = "".join(f" {count:,} could not be judged: {plain(problem)}." for problem, count in found.problems[:3])
    others = (
        f" Not counted: {count_of(found.others, 'answer')} with a score of another judge or version."
        if found.others
        else ""
    )
    return f"{name}, {days} days: {told}.{left_out}{others}"


def _render_segments(frame: ui.Frame, window: Window) -> None:
    """Draw the numbers of each value of a dimension."""
    dimensions = load_dimensions(frame.scope)
    chosen = st.selectbox(
        "By segment", dimensions, index=dimensions.index("prompt_version"), key="quality_segment",
        format_func=lambda name: name.replace("_", " "),
    )  # fmt: skip
    metrics = {each.name: each for each in load_metrics(frame.scope)}
    name = st.selectbox(
        "Metric", ["", *metrics], key="quality_metric", format_func=lambda name: show_unseen(name) or "all of this tab"
    )
    if name:
        render_metric_segments(frame, metrics[name], window, chosen or "prompt_version")
        return
    found = load_metric_segments(frame.scope, window, chosen or "prompt_version")
    rows = [_as_segment(value, found[value]) for value in sorted(found)]
    if not rows:
        st.caption("No question has a number here.")
        return
    columns = {
        "median, ms": st.column_config.NumberColumn(format="%.0f"),
        "95% within, ms": st.column_config.NumberColumn(format="%.0f"),
        "cost a question": st.column_config.NumberColumn(format="$%.6f"),
        "tokens a question": st.column_config.NumberColumn(format="%.0f"),
    } | {name: ui.score_column() for name in ("feedback", "faithfulness", "relevancy")}  # fmt: skip
    ui.show_table(rows, key="quality-segments", file_name="quality.csv", column_config=columns)


def _as_segment(value: str, sums: Mapping[str, MetricSums]) -> dict[str, Any]:
    def of(name: str) -> MetricSums:
        return sums.get(name, MetricSums())

    return {
        "segment": show_unseen(value) or NO_VALUE, "timed": of("latency_ms").count,
        "median, ms": of("latency_ms").quantile(0.5), "95% within, ms": of("latency_ms").quantile(0.95),
        "cost a question": of("cost_usd").mean, "tokens a question": of("tokens").mean,
        "feedback": of("feedback").mean, "rated": of("feedback").count, "faithfulness": of("faithfulness").mean,
        "relevancy": of("relevancy").mean, "with faithfulness": of("faithfulness").count,
    }  # fmt: skip


def _add(days: _Days) -> MetricSums:
    found = MetricSums()
    for sums in days.values():
        found.add(sums)
    return found


def _ms(value: float | None) -> str:
    return "—" if value is None else f"{value:,.0f} ms" if value < 10_000 else f"{value / 1000:,.1f} s"
