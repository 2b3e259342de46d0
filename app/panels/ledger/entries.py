"""The parts of the ledger page: the changes in a table, predicted against measured, and a form to predict."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from app import ui
from app.colors import ACCENT, QUIET
from app.navigation import link_to
from app.panels.ledger.resources import load_ledger
from app.resources import get_store
from app.text import plain
from app.visitor import lock, make_act
from core.audit.actions import Action
from core.causes.timeline import ChangeKind
from core.errors import InvalidInput
from core.ledger.claims import INDEX_BUILT, THINGS
from core.ledger.entries import METRICS, EffectPrediction, EntryStatus, LedgerEntry, describe_effect
from core.ledger.operations import predict_effect
from core.wording.counts import count_of

_MOST_DRAWN = 20
_SAID_OF_INDEX = {ChangeKind.INDEX: "index that is live, by its alias", INDEX_BUILT: "index, by its own name"}
_PLACE = "ledger-predict"
_SYMBOLS = {
    EntryStatus.AS_PREDICTED: "✓ as predicted", EntryStatus.BETTER: "▲ better", EntryStatus.WORSE: "▼ worse",
    EntryStatus.TOO_EARLY: "… too early", EntryStatus.CANNOT_TELL: "? cannot tell",
    EntryStatus.NOT_PREDICTED: "never predicted",
}  # fmt: skip


def render_entries(entries: Sequence[LedgerEntry]) -> None:
    """Every change with what it was predicted to do and what it did."""
    rows = [
        {
            "when": entry.at, "change": entry.summary, "metric": entry.metric.replace("_", " "),
            "predicted": describe_effect(entry.predicted) + (" · afterwards" if entry.is_afterwards else ""),
            "measured": describe_effect(entry.measured), "verdict": _SYMBOLS[entry.status], "why": entry.remark,
            "by": entry.actor, "id": entry.change_id,
        }
        for entry in entries
    ]  # fmt: skip
    columns = {name: st.column_config.TextColumn(width=width) for name, width in (("change", 280), ("why", 180))}
    event = ui.show_table(
        rows, key="ledger-entries", file_name="ledger.csv", column_config=columns, on_select="rerun",
        selection_mode="single-row",
    )  # fmt: skip
    for place in event["selection"]["rows"][:1]:
        if place < len(entries) and entries[place].change_id.isdigit():
            link_to("audit", f"Open entry {entries[place].change_id}", entry=entries[place].change_id)
    st.caption(
        "Effects are changes of a daily mean, with a 95% interval. A change that reached some of the users is compared "
        "with the others on the same days; every other change, with up to eight weeks before it, adjusted for weekdays "
        "and for other changes."
    )


def draw_comparison(entries: Sequence[LedgerEntry]) -> Any:
    """Predicted against measured, for the changes that have both."""
    import plotly.graph_objects as go

    both = [entry for entry in entries if entry.predicted and entry.measured]
    names = [f"{entry.at:%d %b %H:%M} {ui.chart_text(entry.target)}, {entry.metric}" for entry in both]
    figure = go.Figure()
    for name, symbol, color, values in (
        ("predicted", "diamond-open", QUIET, [(p.value, p.low, p.high) for e in both if (p := e.predicted)]),
        ("measured", "circle", ACCENT, [(m.size, m.low, m.high) for e in both if (m := e.measured)]),
    ):  # fmt: skip
        figure.add_scatter(
            x=[value for value, _, _ in values],
            y=names,
            mode="markers",
            name=name,
            marker={"symbol": symbol, "size": 10, "color": color},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [high - value for value, _, high in values],
                "arrayminus": [value - low for value, low, _ in values],
            },
        )
    held = sum(entry.status is EntryStatus.AS_PREDICTED for entry in both)
    changes = f"{len(both)} predicted changes" if len(both) != 1 else "the one predicted change"
    title = f"{held} of {changes} did what was predicted"
    return ui.style_chart(figure, title=title, height=120 + 40 * len(both), hover="closest")


def render_comparison(entries: Sequence[LedgerEntry]) -> None:
    """The chart of predicted against measured, where there is anything to compare."""
    both = [entry for entry in entries if entry.predicted and entry.measured]
    if both:
        shown = both[:_MOST_DRAWN]
        alt = f"Predicted and measured effects of {count_of(len(shown), 'change')}, each with its interval"
        rows = [
            {"when": entry.at, "change": entry.target, "metric": entry.metric.replace("_", " "),
             "predicted": describe_effect(entry.predicted), "measured": describe_effect(entry.measured),
             "verdict": _SYMBOLS[entry.status]}
            for entry in shown
        ]  # fmt: skip
        ui.show_chart(draw_comparison(shown), key="ledger-comparison", alt=alt, rows=rows)


def render_prediction(frame: ui.Frame, entries: Sequence[LedgerEntry] = ()) -> None:
    """A form that predicts the effect of the next change of a thing; it offers the names of those that changed."""
    with st.expander("Predict the effect of a change"):
        kind = st.selectbox("What will change", THINGS, format_func=lambda name: _SAID_OF_INDEX.get(name, name))
        known = list(dict.fromkeys(entry.target for entry in entries if entry.kind == kind))
        _render_form(frame, kind, known)
    ui.render_said(_PLACE)


def _render_form(frame: ui.Frame, kind: str, known: Sequence[str]) -> None:
    with st.form("ledger-predict", border=False):
        name = st.selectbox(
            "Its name", known, None, accept_new_options=True, placeholder="Choose one, or type another name",
            key=f"ledger-name-{kind}",
        )  # fmt: skip
        metric = st.selectbox("Metric", METRICS, format_func=lambda name: name.replace("_", " "))
        columns = st.columns(3)
        value = columns[0].number_input("Effect", -1.0, 1.0, 0.0, 0.005, format="%.3f")
        low = columns[1].number_input("At least", -1.0, 1.0, -0.01, 0.005, format="%.3f")
        high = columns[2].number_input("At most", -1.0, 1.0, 0.01, 0.005, format="%.3f")
        reason = st.text_input("Reason", max_chars=500)
        predicts = st.form_submit_button("Predict", **lock(Action.LEDGER_PREDICT, frame.environment))
    if predicts:

        def predict() -> int:
            if not name:
                raise InvalidInput("name", "choose a name, or type another one")
            thing = f"{kind}:{name.strip()}"
            act, predicted = make_act(reason, frame.environment), EffectPrediction(value, low, high)
            return predict_effect(get_store(), thing, predicted, act, metric=metric, service=frame.service)

        said = f"It counts for the next change of {plain(name or '')}."
        ui.submit_change(predict, effect=said, place=_PLACE, forget=load_ledger.clear)
