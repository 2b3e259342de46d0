"""The requests tab of the rollouts page: changes that wait for a second person, and whether one is required here."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from zlib import crc32

import streamlit as st

from app import ui
from app.panels.rollouts.people import render_people
from app.resources import get_config, get_store
from app.text import plain
from app.visitor import get_visitor, lock, make_act
from core.approvals.operations import (
    NEEDS_SIGN_IN,
    approve_request,
    is_own,
    may_decide_alone,
    read_policy,
    reject_request,
    set_policy,
    withdraw_request,
)
from core.approvals.requests import OPEN, ChangeRequest, get_request, list_requests
from core.approved import apply_request, can_apply, edit_request, list_editable, preview_request
from core.audit.actions import Action
from core.audit.gate import Policy, RequestState, WantedChange
from core.audit.jsondiff import diff_states
from core.flags.edits import parse_definition

_DECIDED, _POLICY = "requests-decided", "approval-policy"  # where outcomes are said


def render_requests(environment: str) -> None:
    """Draw who may change alone, the requests that wait with what they would change, and the past ones."""
    policy = read_policy(get_store(), environment)
    every = list_requests(get_store(), environment, states=tuple(RequestState))
    waiting = [each for each in every if each.state in OPEN]
    st.markdown(f"**{say_policy(policy, environment, len(waiting))}**")
    if not has_sign_in():
        st.info(plain(NEEDS_SIGN_IN))
    ui.render_said(_DECIDED)
    for request in waiting:
        render_request(request)
    if every:
        ui.show_table([_row(each) for each in every], key="requests-table", file_name="requests.csv")
    render_policy(policy, environment)
    render_people(environment)


def say_policy(policy: Policy, environment: str, waiting: int) -> str:
    """The sentence about who may change what users get."""
    counted = "no change waits" if not waiting else f"{waiting} change{'s wait' if waiting > 1 else ' waits'}"
    if not policy.required:
        more = f"; {counted}" if waiting else ""
        return f"Whoever may change something in {plain(environment)} may do it alone{more}."
    alone = f", except {plain(', '.join(policy.alone))}" if policy.alone else ""
    return f"Changes in {plain(environment)} need a second person{alone}; {counted}."


def render_request(request: ChangeRequest) -> None:
    """One request: who asks for what, the difference, the effect, and the forms for the decision."""
    with st.container(border=True):
        asked = f"{plain(request.say_requester())} {ui.format_ago(request.created)}"
        said = f"**Request {request.request_id}**: {plain(request.describe())}, asked by {asked}"
        st.markdown(said, help=ui.say_instant(request.created))
        if request.assistant:
            st.caption("A language model wrote the reason below. Read the difference, not the reason alone.")
        st.text(request.reason)
        for each in request.changes:
            st.code(diff_states(each.before, each.after) or "no difference", language=None)
        effect = preview_request(get_store(), request, now=datetime.now(UTC))
        st.caption(plain(f"{effect} It expires on {request.expires:%d %b %Y, %H:%M} UTC.".strip()))
        own = is_own(request, get_visitor().name) and not may_decide_alone(request, has_sign_in=has_sign_in())
        key, number = f"request-{request.request_id}", request.request_id
        with st.form(key):
            st.text_input("Reason", key=f"{key}-reason", max_chars=500)
            approve, reject, withdraw = st.columns(3)
            waits = request.state is RequestState.WAITING
            locked = lock(Action.APPROVAL_GRANT, request.environment)
            if own:
                locked = {"disabled": True, "help": "Somebody who neither asked for nor edited it has to approve it."}
            if waits:
                approve.form_submit_button(
                    "Approve", on_click=decide, args=("approve", number, request.version, effect), **locked
                )
            reject.form_submit_button(
                "Reject", on_click=decide, args=("reject", number, request.version, ""),
                **lock(Action.APPROVAL_REJECT, request.environment),
            )  # fmt: skip
            if own:
                withdraw.form_submit_button("Withdraw", on_click=decide, args=("withdraw", number, request.version, ""))
        for each in list_editable(request):
            render_amendment(request, each)
        ui.render_said(_place(number))


def render_amendment(request: ChangeRequest, wanted: WantedChange) -> None:
    """The form that edits what a request would make of a flag."""
    key = f"amend-{request.request_id}-{request.version}-{wanted.target}"
    with st.expander(f"Edit what becomes of {plain(wanted.target)}"), st.form(key, border=False):
        st.caption("The request waits again, and whoever edits it cannot approve it.")
        text = json.dumps(wanted.after, indent=2, ensure_ascii=False)
        st.text_area("Definition", text, key=f"{key}-text", height=240, label_visibility="collapsed")
        st.text_input("Reason", key=f"{key}-reason", max_chars=500)
        st.form_submit_button(
            "Save the edit", on_click=amend, args=(request.request_id, request.version, wanted.target, key),
            **lock(Action.APPROVAL_AMEND, request.environment),
        )  # fmt: skip


def amend(number: int, version: int, target: str, key: str) -> None:
    """Edit the request that the visitor saw."""

    def change() -> int:
        store, state = get_store(), st.session_state
        found = _as_seen(get_request(store, number), version)
        definition = parse_definition(target, state[f"{key}-text"])
        by = make_act(state[f"{key}-reason"], found.environment)
        return edit_request(store, found, target, definition, by, has_sign_in=has_sign_in())

    ui.record_change(change, place=_place(number))


def has_sign_in() -> bool:
    """Whether visitors of this deck sign in."""
    return not get_config().access.is_local


def decide(verb: str, number: int, version: int, effect: str) -> None:
    """Decide about the request that the visitor saw."""

    def change() -> int:
        store, reason = get_store(), st.session_state[f"request-{number}-reason"]
        found = get_request(store, number)
        by = make_act(reason, found.environment)
        if found.version != version:
            found = _as_seen(found, version)
        if verb == "reject":
            return reject_request(store, found, by, has_sign_in=has_sign_in())
        if verb == "withdraw":
            return withdraw_request(store, found, by, has_sign_in=has_sign_in())
        entry = approve_request(store, found, by, effect=effect, has_sign_in=has_sign_in())
        return apply_request(store, get_request(store, number), now=datetime.now(UTC)) if can_apply(found) else entry

    ui.record_change(change, place=_place(number), done_at=_DECIDED)


def render_policy(policy: Policy, environment: str) -> None:
    """The form that requires a second person."""
    seen = f"{environment}-{crc32(repr(policy).encode()):08x}"  # fields of another policy are other fields
    with st.form("approval-policy"):
        st.markdown(f"**Who may change {plain(environment)}**")
        st.toggle("A second person is required", value=policy.required, key=f"approval-required-{seen}")
        st.text_input(
            "Who needs nobody else, separated by commas",
            value=", ".join(policy.alone),
            key=f"approval-alone-{seen}",
            max_chars=2_000,
            help="Names as people sign in; admins stands for every admin of the environment.",
        )
        st.text_input("Reason", key="approval-reason", max_chars=500)
        locked = lock(Action.APPROVAL_POLICY, environment)
        if not has_sign_in():
            locked = {"disabled": True, "help": plain(NEEDS_SIGN_IN)}
        st.form_submit_button("Save", on_click=save_policy, args=(environment, seen), **locked)
    ui.render_said(_POLICY)


def save_policy(environment: str, seen: str) -> None:
    """Save what the form says that showed the policy `seen`."""

    def change() -> int:
        state = st.session_state
        alone = tuple(name.strip() for name in state[f"approval-alone-{seen}"].split(",") if name.strip())
        by = make_act(state["approval-reason"], environment)
        wanted = Policy(state[f"approval-required-{seen}"], alone)
        return set_policy(get_store(), wanted, by, has_sign_in=has_sign_in())

    ui.record_change(change, place=_POLICY)


def _place(number: int) -> str:
    return f"request-said-{number}"


def _as_seen(request: ChangeRequest, version: int) -> ChangeRequest:
    """The request with the version that the visitor saw, so that the decision about another one is a conflict."""
    return replace(request, version=version)


def _row(request: ChangeRequest) -> dict[str, object]:
    return {
        "request": request.request_id, "state": str(request.state), "change": request.describe(),
        "asked by": request.say_requester(), "decided by": request.decided_by, "reason": request.reason,
        "note": request.note, "asked": request.created, "audit entry": request.entry_id or None,
    }  # fmt: skip
