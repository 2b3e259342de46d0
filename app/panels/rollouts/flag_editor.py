"""The editor of one flag: a form or its JSON, and a preview of the change before it is saved.

The visitor edits the version that was current when editing began. If somebody else saves meanwhile, both
changes are shown and nothing is overwritten.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app import ui
from app.panels.rollouts.drafts import Draft, drop_draft, find_draft, keep_draft
from app.panels.rollouts.resources import load_knowledge, load_users
from app.resources import get_store
from app.text import plain, plain_error, show_unseen
from app.visitor import lock, make_act
from core.audit.actions import Action
from core.audit.jsondiff import diff_states
from core.errors import InvalidInput
from core.flags.attributes import parse_context
from core.flags.definition import FlagDefinition
from core.flags.edits import Edit, RuleText, apply_edit, parse_definition, read_edit
from core.flags.impact import Impact, measure_impact, must_type_name
from core.flags.operations import save_edit
from core.flags.preview import Knowledge, Users, describe_knowledge
from core.flags.sentences import describe_rules, list_attributes
from core.flags.store import Flag
from core.flags.upkeep import Details, split_tags
from quarterdeck.preview import explain
from quarterdeck.rules import RuleOperator

Definition = dict[str, Any]


def render_editor(stored: Flag) -> None:
    """Draw the form with the stored values, and once something differs, the preview and the form that saves."""
    render_rules(stored)
    base, place = get_base(stored), st.empty()
    try:
        with place.container():
            wanted = draw_form(base)
        if wanted == base.definition and base.version != stored.version:  # the visitor has no edits to keep
            drop_edit(base)
            base = get_base(stored)
            with place.container():
                wanted = draw_form(base)
    except InvalidInput as error:
        st.error(f"**This cannot be saved** — {plain_error(error)}")
        return
    is_same, is_old = wanted == base.definition, base.version != stored.version
    users, known = Users(), Knowledge()
    if is_same:
        drop_draft(base)
    else:
        keep_draft(Draft(base, wanted, st.session_state[_how_of(base)]))
        users = load_users(base.environment, base.key)
        known = load_knowledge(base.environment, list_attributes(base.definition, wanted))
    impact = measure_impact(base.key, base.definition, wanted, users.ids, known.contexts)
    with st.container():  # always drawn, so that expanders below stay open
        if is_same:
            st.caption("Change something to see what it would do.")
        elif is_old:
            render_conflict(base, stored, wanted)
        else:
            render_preview(base, wanted, impact, users, known)
    render_why(base.key, stored.definition, None if is_same else wanted)
    if not is_same and not is_old:
        render_save(base, wanted, impact)
    ui.render_said(base_name(base))


def render_rules(stored: Flag) -> None:
    """What the flag does now, in sentences."""
    st.markdown("\n".join(f"- {plain(line)}" for line in describe_rules(stored.definition)))


def get_base(stored: Flag) -> Flag:
    """The version that the visitor began to edit, and with it their unsaved edits where the form is drawn anew."""
    name = base_name(stored)
    kept = st.session_state.get(name, stored)
    if not isinstance(kept, Flag) or _how_of(kept) not in st.session_state:
        draft = find_draft(stored)
        kept = draft.base if draft else stored if not isinstance(kept, Flag) else kept
        _begin(kept, draft)
    kept = st.session_state.setdefault(name, stored)
    if not isinstance(kept, Flag):
        kept = st.session_state[name] = stored
    return kept


def base_name(flag: Flag) -> str:
    """The session key of the version that the visitor began to edit."""
    return f"editing-{flag.environment}-{flag.key}"


def drop_edit(flag: Flag) -> None:
    """Discard the visitor's edits: the next run starts from the stored version."""
    st.session_state.pop(base_name(flag), None)
    st.session_state[_tries_of(flag)] = st.session_state.get(_tries_of(flag), 0) + 1
    drop_draft(flag)


def _begin(base: Flag, draft: Draft | None) -> None:
    """Start the form from a draft, else from the stored version: the widgets of an earlier visit are gone."""
    state = st.session_state
    state[_start_of(base)] = draft
    state.pop(f"rules-{_seen(base)}", None)


def _seen(base: Flag) -> str:
    """The end of the keys of the form's widgets: another one after each discarded edit, so that they start anew."""
    return f"{base.environment}-{base.key}-{base.version}-{st.session_state.get(_tries_of(base), 0)}"


def _tries_of(base: Flag) -> str:
    return f"tries-{base.environment}-{base.key}"


def _how_of(base: Flag) -> str:
    return f"how-{_seen(base)}"


def _start_of(base: Flag) -> str:
    return f"start-{_seen(base)}"


def draw_form(base: Flag) -> Definition:
    """The form, and the definition that results from it. Raises InvalidInput, naming the field."""
    seen = _seen(base)
    draft: Draft | None = st.session_state.get(_start_of(base))
    start = draft.wanted if draft else base.definition
    if draft:
        st.info("These are your unsaved edits, which nobody else sees.", icon=":material/edit_note:")
        st.button("Discard them", key=f"discard-{seen}", on_click=drop_edit, args=(base,), type="tertiary")
    with st.container(border=True):
        how = st.segmented_control(
            "Edit as",
            ("Form", "JSON"),
            default=draft.how if draft else "Form",
            required=True,
            key=_how_of(base),
            label_visibility="collapsed",
        )
        if how == "JSON":
            text = json.dumps(start, indent=2, ensure_ascii=False)
            typed = st.text_area("Definition (flagd JSON)", text, height=320, key=f"json-{seen}")
            return parse_definition(base.key, typed or "")
        shown = read_edit(start)
        edit = draw_switches(shown, seen, is_canary=base.view.is_canary)
        edit = replace(edit, weights=draw_weights(shown, seen))
        edit = replace(edit, rules=draw_rules(shown, seen, tuple(FlagDefinition(start).variants)))
        return apply_edit(base.definition, replace(edit, details=draw_details(shown.details, seen)))


def draw_switches(shown: Edit, seen: str, *, is_canary: bool) -> Edit:
    """State, rollout share, and the attribute that users are bucketed by."""
    left, middle, right = st.columns(3, vertical_alignment="bottom")
    edit = replace(shown, is_on=left.toggle("On", shown.is_on, key=f"on-{seen}"))
    if shown.rollout_pct is not None:
        label = "Canary (green) share, %" if is_canary else "Rollout, % of users"
        if shown.weights is not None:
            label = "Enrolled in the split, % of users"
        share = middle.number_input(
            label, 0.0, 100.0, float(shown.rollout_pct), 1.0, format="%g", key=f"share-{seen}",
            help="In steps down to 0.001. Growing takes nobody out, shrinking lets nobody in.",
        )  # fmt: skip
        edit = replace(edit, rollout_pct=round(share, 6))
    if shown.bucket_by is not None:
        sticky = right.text_input(
            "Same answer for the same", shown.bucket_by, key=f"bucket-{seen}", max_chars=200,
            help="The attribute whose value keeps its answer: targetingKey is the user. Another one moves users.",
        )  # fmt: skip
        edit = replace(edit, bucket_by=sticky.strip())
    if shown.rollout_pct is None:
        middle.caption("Its targeting was written by hand: edit it as JSON.")
    return edit


def draw_weights(shown: Edit, seen: str) -> tuple[tuple[str, float], ...] | None:
    """The weights of an A/B split, and a field for one more variant."""
    if shown.weights is None:
        return None
    st.markdown("**Variants** :small[relative weights; growing one moves nobody between the others]")
    columns = st.columns(min(len(shown.weights) + 1, 5))
    weights = [
        (name, draw_weight(columns[at % len(columns)], name, share, key=f"weight-{seen}-{name}"))
        for at, (name, share) in enumerate(shown.weights)
    ]
    added = columns[len(shown.weights) % len(columns)].text_input(
        "Another variant", key=f"variant-{seen}", max_chars=200
    )
    if added and added.strip() not in dict(weights):
        share = draw_weight(columns[-1], added, 0.0, key=f"weight-{seen}-+{added}")
        weights.append((added.strip(), share))
    shares = tuple((name, round(share, 3)) for name, share in shown.weights)
    return shown.weights if tuple(weights) == shares else tuple(weights)


def draw_weight(column: DeltaGenerator, name: str, share: float, *, key: str) -> float:
    """The weight of one variant. Screen readers get the label as it is, so the escaped name stands above the field."""
    column.markdown(f":small[{plain(name)}, %]")
    return column.number_input(
        f"{show_unseen(name)}, %", 0.0, 100.0, round(share, 3), 1.0, format="%g", key=key, label_visibility="collapsed"
    )


def draw_rules(shown: Edit, seen: str, variants: tuple[str, ...]) -> tuple[RuleText, ...] | None:
    """The ordered rules, one per line; the first match wins."""
    if shown.rules is None:
        return None
    name = f"rules-{seen}"
    order: list[int] = st.session_state.setdefault(name, list(range(len(shown.rules))))
    if order:
        st.markdown("**Rules** :small[from the top; the first match wins, before the rollout]")
    rules = []
    for place, number in enumerate(order):
        fresh = RuleText("", RuleOperator.EQUALS, "", "on" if "on" in variants else variants[0])
        known = shown.rules[number] if number < len(shown.rules) else fresh
        attribute, operator, value = st.columns([2, 2, 2], vertical_alignment="bottom")
        serve, up, drop, _ = st.columns([2, 0.6, 0.6, 2.8], vertical_alignment="bottom")
        fields = (attribute, operator, value, serve)
        rules.append(draw_rule(fields, known, f"{seen}-{number}", variants))
        up.button(
            ":material/arrow_upward:", key=f"up-{seen}-{number}", on_click=move_up, args=(name, place),
            disabled=place == 0, help="Move this rule up",
        )  # fmt: skip
        drop.button(
            ":material/close:", key=f"drop-{seen}-{number}", on_click=drop_rule, args=(name, place),
            help="Remove this rule",
        )  # fmt: skip
    st.button("Add a rule", key=f"add-{seen}", icon=":material/add:", on_click=add_rule, args=(name,))
    return tuple(rule for rule in rules if rule.attribute or rule.value or rule in shown.rules)


def draw_rule(fields: Sequence[DeltaGenerator], known: RuleText, seen: str, variants: tuple[str, ...]) -> RuleText:
    """One rule in its four fields."""
    operators = list(RuleOperator)
    return RuleText(
        fields[0].text_input("Attribute", known.attribute, key=f"attribute-{seen}", max_chars=200),
        fields[1].selectbox("Operator", operators, operators.index(known.operator), key=f"operator-{seen}"),
        fields[2].text_input("Value", known.value, key=f"value-{seen}", max_chars=2_000),
        fields[3].selectbox("Gets", variants, variants.index(known.serve), key=f"serve-{seen}", format_func=ui.shorten),
    )


def drop_rule(name: str, place: int) -> None:
    """Remove a rule."""
    del st.session_state[name][place]


def move_up(name: str, place: int) -> None:
    """Swap a rule with the one above it."""
    order = st.session_state[name]
    order[place - 1], order[place] = order[place], order[place - 1]


def add_rule(name: str) -> None:
    """Add an empty rule at the end. Numbers are never reused, so that widgets keep their texts."""
    state = st.session_state
    state[f"{name}-last"] = max(state.get(f"{name}-last", 99), *state[name], 99) + 1
    state[name].append(state[f"{name}-last"])


def draw_details(shown: Details, seen: str) -> Details:
    """Description, owner, tags and expiry of the flag."""
    description = st.text_input("Description", shown.description, key=f"description-{seen}", max_chars=2_000)
    middle, right, last = st.columns([2, 2, 1.7])
    return Details(
        description,
        middle.text_input("Owner", shown.owner, key=f"owner-{seen}", max_chars=200),
        split_tags(right.text_input("Tags", ", ".join(shown.tags), key=f"tags-{seen}", max_chars=500)),
        last.date_input(
            "Expires on", shown.expires, key=f"expires-{seen}", help="After this day the flag counts as stale"
        ),
    )


def render_preview(base: Flag, wanted: Definition, impact: Impact, users: Users, known: Knowledge) -> None:
    """What the change does, and to how many users."""
    st.markdown("##### Before you save")
    st.markdown(say_impact(impact, users.source))
    if users.problem:
        st.caption(f"Recent users cannot be read: {plain(users.problem)}")
    if known.problem:
        st.caption(f"Attributes of users cannot be read, the count takes them for missing: {plain(known.problem)}")
    elif users.ids and (lines := describe_knowledge(known, users.ids)):
        st.caption(f"Rules on attributes: {plain(' '.join(lines))}")
    elif known.names:
        st.caption("Nothing is known of the attributes of these users: rules on them are not in this count.")
    before, after = describe_rules(base.definition), describe_rules(wanted)
    if before != after:
        st.markdown("\n".join(f"- {mark}" for mark in mark_sentences(before, after)))
    st.code(diff_states(base.definition, wanted), language=None)


def mark_sentences(before: Sequence[str], after: Sequence[str]) -> list[str]:
    """The sentences of the flag after the change; what it adds is bold, what it takes away is struck out."""
    gone = [f":red-background[~~{plain(line)}~~]" for line in before if line not in after]
    return [*gone, *(plain(line) if line in before else f":green-background[**{plain(line)}**]" for line in after)]


def say_impact(impact: Impact, source: str) -> str:
    """How many users would get another answer, as a sentence."""
    who = (
        f"{impact.asked:,} simulated users (none is known yet)" if impact.are_made_up else f"{impact.asked:,} {source}"
    )
    share = "Nobody gets" if not impact.changed else f"**{ui.format_share(impact.share)}** get"
    return f"{share} another answer: {impact.changed:,} of {plain(who)}."


def render_why(key: str, stored: Mapping[str, Any], wanted: Mapping[str, Any] | None) -> None:
    """What one user gets now and after the change, and why."""
    with st.expander("What does a user get, and why?"):
        left, right = st.columns(2)
        user = left.text_input("User (targetingKey)", key=f"why-user-{key}", max_chars=300)
        text = right.text_input("Other attributes, as JSON", key=f"why-more-{key}", placeholder='{"country": "DE"}')
        if not user and not text:
            return
        try:
            context = parse_context(user, text or "")
        except InvalidInput as error:
            st.error(plain_error(error))
            return
        for title, definition in (("Now", stored), ("After the change", wanted)):
            if definition is not None:
                told = explain(key, definition, context)
                st.markdown(f"**{title}**: {plain(say_answer(told.evaluation.variant, told.evaluation.value))}")
                st.text("\n".join(told.steps))


def say_answer(variant: str | None, value: Any) -> str:
    """One answer in words."""
    if variant is None:
        return "the default in the caller's code"
    return f"{variant}, with the value {json.dumps(value, ensure_ascii=False)}"


def render_save(base: Flag, wanted: Definition, impact: Impact) -> None:
    """The form that saves: a reason, and for a wide change also the flag's name."""
    seen = _seen(base)
    with st.form(f"save-{seen}"):
        st.text_input("Reason", key=f"reason-{seen}", max_chars=500)
        if must_type_name(base.environment, impact):
            st.markdown(
                f":red-badge[{ui.Mark.WARNING.icon} Most of production] Type **{plain(base.key)}** to change it "
                "for this many users."
            )
            st.text_input("Name of the flag", key=f"name-{seen}", max_chars=300)
        locked = lock(Action.FLAG_UPDATE, base.environment)
        st.form_submit_button("Save", type="primary", on_click=save, args=(base, wanted), **locked)


def save(base: Flag, wanted: Definition) -> None:
    """Store the previewed definition in place of the version that the visitor saw."""
    state, seen = st.session_state, _seen(base)

    def change() -> int:
        act = make_act(state[f"reason-{seen}"], base.environment)
        typed = state.get(f"name-{seen}", "")
        entry = save_edit(get_store(), base, wanted, act, typed_name=typed, now=datetime.now(UTC))
        drop_edit(base)
        return entry

    ui.record_change(change, effect=ui.FLIP_SEEN, place=base_name(base))


def render_conflict(base: Flag, stored: Flag, wanted: Definition) -> None:
    """Both changes side by side, after somebody else saved while the visitor was editing."""
    who = f"{plain(stored.updated_by)} changed this flag {ui.format_ago(stored.updated)}"
    st.error(f"**Conflict** — {who}, while you were editing. Nothing was overwritten, and yours is not saved.")
    left, right = st.columns(2)
    left.markdown("**Their change**")
    left.code(diff_states(base.definition, stored.definition) or "no difference", language=None)
    right.markdown("**Your change**")
    right.code(diff_states(base.definition, wanted), language=None)
    st.button("Start again from theirs", key=f"drop-edit-{stored.key}", on_click=drop_edit, args=(base,))
