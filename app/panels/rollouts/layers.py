"""Layers and the holdout, on the tab Experiments: who has which users, and the forms that change it.

Also what an experiment that starts in a layer takes of it, for the form of `experiments.py`.
"""

from collections.abc import Callable
from datetime import UTC, datetime

import streamlit as st

from app import ui
from app.panels.rollouts.metrics import list_others
from app.panels.rollouts.resources import load_experiments, load_holdout
from app.resources import get_store
from app.text import plain, show_unseen
from app.visitor import lock, make_act
from core.arms.arms import Metric
from core.audit.actions import Action
from core.audit.acts import Act
from core.errors import QuarterdeckError
from core.flags.definition import FlagDefinition
from core.flags.impact import must_type_name
from core.flags.layer_store import get_holdout, list_layers
from core.flags.layers import Holdout, Layer, find_layer
from core.flags.preview import preview_change
from core.flags.store import Flag
from core.rollouts.experiment_records import Experiment
from core.rollouts.experiments import LayerPlace, prepare_start
from core.rollouts.holdout import HELD, REST
from core.rollouts.layers import (
    HoldoutEffect,
    LayerReport,
    create_layer,
    end_holdout,
    list_held_out,
    preview_holdout,
    remove_layer,
    report_layers,
    start_holdout,
)
from core.wording.counts import count_of
from quarterdeck.definitions import counts_reports_only
from quarterdeck.hashing import BUCKETINGS, HASH_VERSIONS

_PLACE = "layers"
_NAMES = {version: name for name, version in BUCKETINGS.items()}


def render_layers(environment: str) -> None:
    """Draw both, closed."""
    reports, holdout = report_layers(get_store(), environment), get_holdout(get_store(), environment)
    label = f"Layers and the holdout: {_say_both(reports, holdout)}"
    with st.expander(label, key="layers", on_change="rerun") as opened:
        if opened.open:
            left, right = st.columns(2)
            with left:
                render_uses(environment, reports)
            with right:
                render_holdout(environment, holdout)
    ui.render_said(_PLACE)


def _say_both(reports: tuple[LayerReport, ...], holdout: Holdout | None) -> str:
    held = f"{holdout.share_pct:g}% of users held out" if holdout else "nobody held out"
    return f"{count_of(len(reports), 'layer')}, {held}"


def render_uses(environment: str, reports: tuple[LayerReport, ...]) -> None:
    """Which flag has which share of each layer, and the forms that make and remove one."""
    st.caption("Experiments that start in one layer never share a user.")
    rows = [
        {"layer": each.layer.name, "flag": use.flag, "experiment": use.experiment or "—", "share": 100 * use.share}
        for each in reports
        for use in each.uses
    ]
    rows += [
        {"layer": each.layer.name, "flag": "—", "experiment": "free", "share": 100 * each.free} for each in reports
    ]
    if rows:
        columns = {"share": st.column_config.NumberColumn("share of users", format="%.1f %%")}
        ui.show_table(rows, key="layers-table", file_name="layers.csv", column_config=columns)
    with st.form("layer-create", border=False):
        left, right = st.columns(2)
        left.text_input("New layer", key="layer-name", max_chars=63, help="Of a-z, 0-9, dot, dash and underscore")
        right.selectbox("Its flags hash", HASH_VERSIONS[::-1], key="layer-hash", format_func=lambda name: _NAMES[name])
        st.text_input("What its experiments have in common", key="layer-description", max_chars=300)
        _submit("layer-create", "Make the layer", Action.LAYER_CREATE, environment, _create)
    unused = {each.layer.name: each.layer for each in reports if not each.uses}
    if unused:
        with st.form("layer-remove", border=False):
            name = st.selectbox("Unused layer", list(unused), key="layer-unused")
            _submit("layer-remove", "Remove it", Action.LAYER_REMOVE, environment,
                    lambda act: remove_layer(get_store(), unused[str(name)], act))  # fmt: skip


def render_holdout(environment: str, holdout: Holdout | None) -> None:
    """The holdout with its flags, and the form that starts or ends one, with what it does to recent users."""
    st.caption("No experiment and no canary touches users who are held out.")
    if holdout is None:
        name = st.text_input("Name of the holdout", key="holdout-name", max_chars=63, placeholder="2026q4")
        share = st.number_input("Users to hold out, %", 0.001, 50.0, 5.0, 1.0, format="%g", key="holdout-share")
        if not name:
            return
        try:
            wanted = Holdout(name, share)
            _render_effects(preview_holdout(get_store(), environment, wanted, now=datetime.now(UTC)))
        except QuarterdeckError as error:
            st.warning(plain(str(error)))
            return
        with st.form("holdout-start", border=False):
            _submit("holdout-start", "Start the holdout", Action.HOLDOUT_START, environment,
                    lambda act: start_holdout(get_store(), wanted, act))  # fmt: skip
        return
    since = f" since {ui.format_moment(holdout.since)}" if holdout.since else ""
    flags = ", ".join(list_held_out(get_store(), environment)) or "no flag yet"
    are = "have been" if since else "are"
    told = f"{holdout.name}: {holdout.share_pct:g}% of users {are} held out{since}. Flags that leave them out: {flags}."
    st.markdown(plain(told))
    render_holdout_report(environment)
    _render_effects(preview_holdout(get_store(), environment, holdout, now=datetime.now(UTC), ends=True))
    with st.form("holdout-end", border=False):
        _submit("holdout-end", "End the holdout", Action.HOLDOUT_END, environment,
                lambda act: end_holdout(get_store(), holdout, act))  # fmt: skip


def render_holdout_report(environment: str) -> None:
    """What all rollouts since the start did to a metric: the rest against those held out."""
    usual = [str(metric) for metric in Metric]
    names = [*usual, *(each.name for each in list_others(environment))]
    metric = st.selectbox("What rollouts did to", names, key="holdout-metric", format_func=show_unseen)
    with ui.showing_errors("The groups could not be compared"):
        found = load_holdout(environment, metric or usual[0])
        st.markdown(f"**{plain(found.sentence)}**")
        st.caption(
            f"{found.users[HELD]:,} users held out, {found.users[REST]:,} others, who asked since the start. At least "
            "95% of such intervals are right, however often you look; choose the metric before you look."
        )


def _render_effects(effects: tuple[HoldoutEffect, ...]) -> None:
    for each in effects:
        users = "made-up users (none are known)" if each.impact.are_made_up else each.users.source
        said = f"{each.flag}: {each.impact.share:.1%} of {each.impact.asked:,} {users} would get another answer."
        st.markdown(f"- {plain(said)}")
    if not effects:
        st.markdown("No flag would change now.")


def _create(act: Act) -> int:
    state = st.session_state
    layer = Layer(state["layer-name"].strip(), state["layer-hash"], state["layer-description"].strip())
    return create_layer(get_store(), layer, act)


def _submit(key: str, label: str, action: Action, environment: str, change: Callable[[Act], int]) -> None:
    """The reason and the button of a form."""

    def run() -> int:
        try:
            return change(make_act(st.session_state[f"{key}-reason"], environment))
        finally:
            load_experiments.clear()

    st.text_input("Reason", key=f"{key}-reason", max_chars=500)
    st.form_submit_button(
        label, on_click=ui.record_change, args=(run,), kwargs={"place": _PLACE}, **lock(action, environment)
    )


def choose_place(flag: Flag) -> LayerPlace | None:
    """The layer whose users take part, and the share of them; None for users of all experiments."""
    layers = [each.name for each in list_layers(get_store(), flag.environment)]
    if not layers or find_layer(flag.view):
        return None
    left, right = st.columns(2)
    name = left.selectbox(
        "Layer", ["", *layers], key="experiment-layer", format_func=lambda name: show_unseen(name) or "none",
        help="Its users are in no other experiment of the layer",
    )  # fmt: skip
    share = right.number_input(
        "Of the layer's users, %", 0.001, 100.0, 10.0, 5.0, format="%g", key="experiment-layer-share"
    )
    return LayerPlace(name, share) if name else None


def choose_reported() -> None:
    """The field of the form that says where users are counted."""
    st.checkbox(
        "Count users where a service reports that they saw it", key="experiment-reported",
        help="By `deck.expose`, OpenFeature's tracking or `/v1/exposures`; else when a service asks for the flag",
    )  # fmt: skip


def preview_start(flag: Flag, place: LayerPlace | None) -> tuple[str, bool]:
    """What the start does to recent users, and whether it is a wide change in production."""
    store, now = get_store(), datetime.now(UTC)
    try:
        wanted = prepare_start(store, flag, "preview", place)
    except QuarterdeckError as error:
        return f"It cannot start like this: {error}", False
    impact, users = preview_change(store, flag.environment, flag.key, flag.definition, wanted, now=now)
    if not impact.changed:
        return "Nobody's answer changes.", False
    who = "made-up users (none are known)" if impact.are_made_up else users.source
    told = f"{impact.share:.1%} of {impact.asked:,} {who} get another answer, because they do not take part."
    return told, must_type_name(flag.environment, impact)


def say_terms(experiment: Experiment) -> str:
    """The part of its layer that an experiment has, and where its users are counted; "" for all users, when asked."""
    said = FlagDefinition(experiment.definition)
    layer = find_layer(said)
    told = f"Takes part: {said.reached:.1%} of users, of the layer {layer}. " if layer else ""
    return told + ("Users count once a service reports that they saw it. " if counts_reports_only(said.raw) else "")
