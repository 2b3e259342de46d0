"""The comparison on the prompts page: trade-offs, every metric, cases, parameters and the wording of the prompts."""

import math
from collections.abc import Mapping, Sequence

import streamlit as st

from app import ui
from app.panels.prompts.resources import load_wording
from app.panels.prompts.run_charts import place_runs, render_parallel, render_pareto, render_scores
from app.text import plain
from app.visitor import may_read_questions
from core.audit.permissions import EVERYWHERE
from core.corpus.worddiff import compare_words
from core.prompts.contests import Contender, PromptComparison
from core.prompts.pairs import CasePair, Side, count_sides, pair_cases
from core.tracking.cases import CaseResult
from core.tracking.runs import list_differing_params
from core.wording.counts import count_of

_SHOWN: Mapping[str, Sequence[Side]] = {
    "different": (Side.FIRST, Side.SECOND), "all": tuple(Side), "A won": (Side.FIRST,), "B won": (Side.SECOND,),
    "equal": (Side.TIE,),
}  # fmt: skip


def render_comparison(found: PromptComparison) -> None:
    """Draw all that tells the compared runs apart."""
    evaluated = [each for each in found.drawn if each.faithfulness is not None and each.cost_usd is not None]
    if not evaluated:
        st.caption("There is nothing to draw: none of these runs has a mean faithfulness and a mean cost.")
        render_without_cost(found)
        return
    if len(found.drawn) < len(found.contenders):
        st.caption(f"All {len(found.contenders)} versions are judged; {len(found.drawn)} of them are drawn.")
    places = place_runs(found.drawn)
    left, right = st.columns(2)
    with left:
        render_pareto(evaluated, places)
    with right:
        render_scores(found.drawn, places)
    st.caption(
        "Open marks: another run is at least as good in both, and better in one. Each run has the same color and mark "
        "in all charts. Boxes show quartiles and the mean (dashed)."
    )
    render_parallel(found.drawn, places)
    render_params(evaluated)


def render_without_cost(found: PromptComparison) -> None:
    """Draw what there is to see of runs that report no cost."""
    places = place_runs(found.drawn)
    render_scores(found.drawn, places)
    render_parallel(found.drawn, places)
    render_params(found.drawn)


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
    if len(found.contenders) < 2:
        st.caption("Only one run is compared; choose another one under Runs to see both side by side.")
        return
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
        st.caption(
            f"The runs are over different cases. Not shown: {count_of(left_out, 'case')} that only one of them has."
        )
    wanted = st.segmented_control(
        "Cases", list(_SHOWN), default="different", required=True, key="cases", bind="query-params",
        label_visibility="collapsed",
    )  # fmt: skip
    shown = [pair for pair in pairs if pair.side in _SHOWN[wanted or "different"]]
    if not shown:
        st.caption("No such case." if wanted != "different" else "Both are equal in every case; “all” shows them.")
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
