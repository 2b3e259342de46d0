"""The comparison on the prompts page: trade-offs, every metric, cases, parameters and the wording of the prompts."""

import math
from collections.abc import Sequence

import plotly.graph_objects as go
import streamlit as st

from app import ui
from app.panels.prompts.resources import load_wording
from app.panels.prompts.runs import label, scale
from app.text import plain
from app.visitor import may_read_questions
from core.audit.permissions import EVERYWHERE
from core.corpus.worddiff import compare_words
from core.prompts.contests import Contender, PromptComparison
from core.prompts.decisions import Point, pareto_front
from core.prompts.pairs import CasePair, Side, count_sides, pair_cases
from core.tracking.cases import CaseResult
from core.tracking.runs import list_differing_params
from core.wording.counts import count_of

METRICS = ("faithfulness_mean", "faithfulness_min", "relevancy_mean", "refusal_accuracy", "cost_usd_mean")
_MOST_POINTS = 3_000  # cases above which single points would hide the boxes and slow the browser down
_SHOWN = {"all": None, "A won": Side.FIRST, "B won": Side.SECOND, "equal": Side.TIE}


def render_comparison(found: PromptComparison) -> None:
    """Draw all that tells the compared runs apart."""
    evaluated = [each for each in found.drawn if each.faithfulness is not None and each.cost_usd is not None]
    if not evaluated:
        st.caption("There is nothing to draw: none of these runs has a mean faithfulness and a mean cost.")
        render_without_cost(found)
        return
    if len(found.drawn) < len(found.contenders):
        st.caption(f"All {len(found.contenders)} versions are judged; {len(found.drawn)} of them are drawn.")
    left, right = st.columns(2)
    with left:
        ui.show_chart(draw_pareto(evaluated), key="prompts-pareto", alt="Faithfulness against cost for each run")
    with right:
        ui.show_chart(draw_parallel(evaluated), key="prompts-parallel", alt="Parallel coordinates of the runs' metrics")
    render_scores(found)
    st.caption(
        "Open circles: another run is at least as good in both, and better in one. Each run has the same color in all "
        "charts; drag along an axis of the second to filter. Boxes show quartiles and the mean (dashed)."
    )
    render_params(evaluated)
    if len(found.contenders) > 1:
        render_pair(found)


def render_without_cost(found: PromptComparison) -> None:
    """Draw what there is to see of runs that report no cost."""
    render_scores(found)
    render_params(found.drawn)
    if len(found.judged) > 1:
        render_pair(found)


def render_scores(found: PromptComparison) -> None:
    """Draw the cases of the judged runs among those that are drawn."""
    if judged := [each for each in found.drawn if each.is_judged]:
        ui.show_chart(draw_scores(judged), key="prompts-scores", alt="Faithfulness of each case, by run")


def draw_pareto(contenders: Sequence[Contender]) -> go.Figure:
    """Faithfulness against cost, with the runs that no other beats on both joined by a line."""
    points = [Point(each.run.run_id, 1_000 * (each.cost_usd or 0.0), each.faithfulness or 0.0) for each in contenders]
    front = pareto_front(points)
    dearest = 1.2 * max(point.cost_usd for point in points) or 1.0
    lowest = max(0.0, min(point.faithfulness for point in points) - 0.1)
    figure = go.Figure(
        go.Scatter(  # from the bottom up to the cheapest and on to the right: whatever lies below is beaten
            x=[front[0].cost_usd, *(point.cost_usd for point in front), dearest],
            y=[lowest, *(point.faithfulness for point in front), front[-1].faithfulness],
            mode="lines", name="frontier",
            line={"color": ui.QUIET, "dash": "dot", "shape": "hv"}, hoverinfo="skip",
        )
    )  # fmt: skip
    best = {point.run_id for point in front}
    for at, (each, point) in enumerate(zip(contenders, points, strict=True)):
        figure.add_scatter(
            x=[point.cost_usd], y=[point.faithfulness], mode="markers+text", showlegend=False,
            name=ui.chart_text(each.label, 24), text=[ui.chart_text(each.label, 24)], textposition="top center",
            marker={"color": _color(at), "size": 12, "symbol": "circle" if point.run_id in best else "circle-open"},
            hovertemplate="$%{x:.4f} per 1,000 queries, faithfulness %{y:.2f}",
        )  # fmt: skip
    figure.update_xaxes(title="mean cost of 1,000 queries, USD", tickprefix="$", range=[0, dearest])
    figure.update_yaxes(title="mean faithfulness", tickformat=".2f", range=[lowest, 1.08])
    return ui.style_chart(figure, title="Faithfulness against cost", hover="closest")


def draw_parallel(contenders: Sequence[Contender]) -> go.Figure:
    """One line a run across its metrics."""
    runs = [_figures_of(each) for each in contenders]
    shown = [name for name in METRICS if all(name in figures for figures in runs)]
    dimensions = [{"label": label(name), "values": [scale(name) * figures[name] for figures in runs]} for name in shown]
    top = max(1, len(runs) - 1)
    figure = go.Figure(
        go.Parcoords(
            dimensions=dimensions,
            ids=[each.label for each in contenders],
            labelangle=-18,
            labelfont={"size": 10},
            line={
                "color": list(range(len(runs))),
                "cmin": 0,
                "cmax": top,
                "colorscale": [[at / top, _color(at)] for at in range(len(runs))] if len(runs) > 1 else "Blues",
            },
        )
    )
    ui.style_chart(figure, title="Every metric of each run")
    return figure.update_layout(margin={"l": 70, "r": 70, "t": 116, "b": 20})


def _figures_of(each: Contender) -> dict[str, float]:
    """The metrics of a run under the deck's own names, whatever it calls its means."""
    own = {"faithfulness_mean": each.faithfulness, "cost_usd_mean": each.cost_usd}
    return {**each.run.metrics, **{name: value for name, value in own.items() if value is not None}}


def draw_scores(contenders: Sequence[Contender]) -> go.Figure:
    """How the cases of each run spread; a mean can hide a few that failed altogether."""
    points = "all" if sum(len(each.cases) for each in contenders) <= _MOST_POINTS else False
    figure = go.Figure()
    for at, each in enumerate(contenders):
        judged = [case for case in each.cases if not case.error]
        figure.add_box(
            y=[case.faithfulness for case in judged], name=ui.chart_text(each.label, 24), boxpoints=points, jitter=0.5,
            pointpos=0, marker={"color": _color(at), "size": 5, "opacity": 0.7}, line={"color": _color(at)},
            boxmean=True, showlegend=False, text=[ui.chart_text(_name(case), 80) for case in judged],
            hovertemplate="%{y:.2f}: %{text}<extra></extra>",
        )  # fmt: skip
    figure.update_yaxes(title="faithfulness", range=[-0.05, 1.05], tickformat=".1f")
    return ui.style_chart(figure, title="Faithfulness of each case", height=280, hover="closest")


def render_params(contenders: Sequence[Contender]) -> None:
    """The parameters that are not the same in all runs."""
    names = list_differing_params([each.run for each in contenders])
    if len(contenders) < 2 or not names:
        return
    st.markdown("##### Parameters that differ")
    rows = [{"parameter": name, **{each.label: each.run.params.get(name) for each in contenders}} for name in names]
    ui.show_table(rows, key="prompts-params", file_name="parameters.csv")


def render_pair(found: PromptComparison) -> None:
    """Two of the runs side by side: what was asked differently, and where who did better."""
    st.markdown("##### Two of them, word by word and case by case")
    labels = [each.label for each in found.contenders]
    ahead = next((at for at, each in enumerate(found.contenders) if each is found.winner), 0)
    left, right = st.columns(2)
    a = left.selectbox("A", labels, index=ahead, key="a", bind="query-params") or labels[ahead]
    others = [name for name in labels if name != a]
    b = right.selectbox("B", others, key="b", bind="query-params") or others[0]
    first, second = (next(each for each in found.contenders if each.label == name) for name in (a, b))
    render_wording(first, second)
    if first.problem or second.problem:
        for each in (first, second):
            if each.problem:
                st.caption(f"{plain(each.label)} {plain(each.problem)}.")
        return
    render_cases(first, second, comparable=bool(found.decision and found.decision.comparable))


def render_wording(first: Contender, second: Contender) -> None:
    """How the prompt of B differs from that of A, by word: removed words are struck out, added ones are bold."""
    texts = {
        each.run.run_id: each.prompt.text if each.prompt else load_wording(each.run.run_id) for each in (first, second)
    }
    if without := next((each for each in (first, second) if not texts[each.run.run_id]), None):
        st.caption(f"{plain(without.label)} is not linked to a registered prompt, so the wordings cannot be compared.")
        return
    wording, former = texts[first.run.run_id], texts[second.run.run_id]
    segments = compare_words(former, wording)
    with st.expander(f"Wording: from B ({plain(second.label)}) to A ({plain(first.label)})", expanded=True):
        how = st.segmented_control(
            "Show", ["side by side", "inline"], default="side by side", required=True, key="wording",
            bind="query-params", label_visibility="collapsed",
        )  # fmt: skip
        if wording == former:
            st.caption("Both use the same wording.")
        if how == "inline":
            st.markdown(ui.mark_words(segments, removed=True, added=True))
            return
        left, right = st.columns(2)
        left.markdown(f"**B: {plain(second.label)}**\n\n" + ui.mark_words(segments, removed=True, added=False))
        right.markdown(f"**A: {plain(first.label)}**\n\n" + ui.mark_words(segments, removed=False, added=True))


def render_cases(first: Contender, second: Contender, *, comparable: bool) -> None:
    """Each case that both judged: who was more faithful, and what both answered."""
    pairs = pair_cases(first.cases, second.cases)
    counts = count_sides(pairs)
    left_out = len(first.cases) + len(second.cases) - 2 * len(pairs)
    st.markdown(
        f"Of {count_of(len(pairs), 'case')} that both judged, A was more faithful in **{counts[Side.FIRST]}**, B in "
        f"**{counts[Side.SECOND]}**, and **{counts[Side.TIE]}** are equal."
    )
    if not comparable and left_out:
        st.caption(f"The runs are over different cases: {left_out} cases that only one of them has are not shown.")
    wanted = st.segmented_control(
        "Cases", list(_SHOWN), default="all", required=True, key="cases", bind="query-params",
        label_visibility="collapsed",
    )  # fmt: skip
    side = _SHOWN[wanted or "all"]
    shown = [pair for pair in pairs if side is None or pair.side is side]
    if not shown:
        st.caption("No such case.")
        return
    columns = dict.fromkeys(("A", "B"), ui.score_column())
    rows = [_row(pair) for pair in shown]
    ui.show_table(rows, key="prompts-cases", file_name="cases.csv", column_config=columns, row_height=56)
    if not may_read_questions(EVERYWHERE):
        st.caption("Your role does not include reading questions: cases are shown by number, without their answers.")
        return
    names = {pair.first.case_id: f"{pair.first.case_id}: {ui.shorten(pair.first.question, 80)}" for pair in shown}
    chosen = st.selectbox("One case in full", list(names), format_func=names.__getitem__, key="case")
    render_case(next((pair for pair in shown if pair.first.case_id == chosen), shown[0]), first.label, second.label)


def render_case(pair: CasePair, first: str, second: str) -> None:
    """Both answers to one question, sentence by sentence."""
    st.text(pair.first.question)
    if not pair.first.answerable:
        st.caption("The documents do not contain the answer: a refusal is right.")
    for place, case, name in zip(st.columns(2), (pair.first, pair.second), (first, second), strict=True):
        with place:
            figures = [f"faithfulness {case.faithfulness:.2f}"]
            figures += [f"relevancy {case.relevancy:.2f}"] if math.isfinite(case.relevancy) else []
            figures += [f"${case.cost_usd:.6f}"] if math.isfinite(case.cost_usd) else []
            st.markdown(f"**{plain(name)}**: {', '.join(figures)}")
            for line in _say_answer(case):
                st.text(line)


def _name(case: CaseResult) -> str:
    """A case's question; for visitors who may not read questions, which are often users' own, its id."""
    return case.question if may_read_questions(EVERYWHERE) else case.case_id


def _say_answer(case: CaseResult) -> list[str]:
    if case.refused or not case.sentences:
        return [case.answer]
    marks = ("✗ not in the context: ", "✓ ")
    return [f"{marks[held]}{said}" for said, held in zip(case.sentences, case.supported, strict=False)]


def _row(pair: CasePair) -> dict[str, object]:
    won = {Side.FIRST: "A", Side.SECOND: "B", Side.TIE: "="}[pair.side]
    return {
        "case": pair.first.case_id,
        "won": won,
        "A": round(pair.first.faithfulness, 3),
        "B": round(pair.second.faithfulness, 3),
    } | (_texts(pair) if may_read_questions(EVERYWHERE) else {})


def _texts(pair: CasePair) -> dict[str, object]:
    return {
        "question": pair.first.question, "answer of A": pair.first.answer, "answer of B": pair.second.answer,
    }  # fmt: skip


def _color(at: int) -> str:
    return ui.CATEGORIES[at % len(ui.CATEGORIES)]
