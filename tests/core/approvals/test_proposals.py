"""What an assistant proposes: who decides about it, with and without a sign-in, and how much of it there may be."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from core.access.roles import grant_role, revoke_role
from core.approvals.operations import approve_request, reject_request, set_policy, withdraw_request
from core.approvals.requests import ChangeRequest, get_request, list_requests
from core.approved import apply_due_requests, apply_request, edit_request
from core.audit.acts import Act
from core.audit.gate import MOST_PROPOSALS, MOST_PROPOSALS_A_DAY, Origin, Policy, RequestState
from core.audit.permissions import Grant, Role
from core.audit.trail import list_audit
from core.errors import ApprovalNeeded, Conflict, Forbidden, InvalidInput
from core.flags.operations import change_rollout, create_flag
from core.flags.store import get_flag
from quarterdeck.definitions import boolean_flag, rollout_pct
from quarterdeck.schema import change_requests
from quarterdeck.store import Store

NOW = datetime.now(UTC).replace(microsecond=0)
ADA, BOB, ROOT = (Act(name, "because", origin=Origin.PERSON) for name in ("ada", "bob", "root"))
OPERATOR = Act("operator", "because")
BOT = replace(ADA, assistant="token:bot")  # of somebody who signed in
LOCAL_BOT = replace(OPERATOR, assistant="operator")  # on a deck without a sign-in


@pytest.fixture
def deck(store: Store) -> Store:
    create_flag(store, "use_hyde", boolean_flag(on=True, rollout_pct=10), OPERATOR)
    return store


def pct(store: Store) -> float | None:
    return rollout_pct(get_flag(store, "production", "use_hyde").definition)


def propose(store: Store, by: Act, share: float = 50) -> ChangeRequest:
    with pytest.raises(ApprovalNeeded) as needed:
        change_rollout(store, get_flag(store, "production", "use_hyde"), share, by)
    return get_request(store, needed.value.request_id)


@pytest.mark.deep
def test_without_a_sign_in_the_operator_decides_about_proposals_and_about_nothing_else(deck: Store) -> None:
    request = propose(deck, LOCAL_BOT)
    assert request.say_requester() == "an assistant over MCP (operator)"
    with pytest.raises(Forbidden, match="only a verified person can approve"):
        approve_request(deck, request, OPERATOR)  # where people sign in
    with pytest.raises(Forbidden):
        approve_request(deck, request, LOCAL_BOT, has_sign_in=False)  # an assistant decides about nothing
    for other in (propose(deck, BOT, 60), replace(request, assistant="")):
        with pytest.raises(Forbidden, match="only a verified person can"):
            approve_request(deck, other, OPERATOR, has_sign_in=False)
    approve_request(deck, request, OPERATOR, has_sign_in=False)
    entry = apply_request(deck, get_request(deck, request.request_id), now=NOW + timedelta(seconds=1))
    done = get_request(deck, request.request_id)
    assert (pct(deck), done.state, done.entry_id) == (50, RequestState.APPLIED, entry)
    with pytest.raises(Conflict, match="is applied"):
        apply_request(deck, done, now=NOW)
    assert list_audit(deck, limit=1)[0].reason.endswith("over MCP, request 1, approved by operator)")


def test_without_a_sign_in_the_operator_rejects_withdraws_and_edits_proposals(deck: Store) -> None:
    refused, taken, edited = (propose(deck, LOCAL_BOT, share) for share in (30, 40, 60))
    reject_request(deck, refused, OPERATOR, has_sign_in=False)
    withdraw_request(deck, taken, OPERATOR, has_sign_in=False)
    less = boolean_flag(on=True, rollout_pct=20)
    edit_request(deck, edited, "use_hyde", less, OPERATOR, has_sign_in=False)
    approve_request(deck, get_request(deck, edited.request_id), OPERATOR, has_sign_in=False)
    apply_request(deck, get_request(deck, edited.request_id), now=NOW + timedelta(seconds=1))
    states = [get_request(deck, each.request_id).state for each in (refused, taken, edited)]
    assert (pct(deck), states) == (20, ["rejected", "withdrawn", "applied"])


def test_where_a_second_person_is_required_nobodys_proposal_counts(deck: Store) -> None:
    before = propose(deck, LOCAL_BOT)
    set_policy(deck, Policy(required=True, alone=("operator", "ada")), ROOT, has_sign_in=True)
    with pytest.raises(Forbidden, match="only who signed in can ask for it"):
        change_rollout(deck, get_flag(deck, "production", "use_hyde"), 70, LOCAL_BOT)
    for by, has_sign_in in ((OPERATOR, False), (BOB, True)):
        with pytest.raises(Forbidden, match="nobody who signed in asked for request 1"):
            approve_request(deck, before, by, has_sign_in=has_sign_in)
    assert propose(deck, BOT, 70).state is RequestState.WAITING  # though ada may change it alone
    assert pct(deck) == 10


def test_an_approval_from_before_the_requirement_is_void_for_who_never_signed_in(deck: Store) -> None:
    request = propose(deck, LOCAL_BOT)
    approve_request(deck, request, OPERATOR, due=NOW + timedelta(hours=1), has_sign_in=False)
    set_policy(deck, Policy(required=True), ROOT, has_sign_in=True)
    assert apply_due_requests(deck, now=NOW + timedelta(hours=2)) == ()
    assert (pct(deck), get_request(deck, request.request_id).state) == (10, RequestState.VOID)


def test_a_proposal_of_an_owner_who_lost_the_role_is_void(deck: Store) -> None:
    for name in ("ada", "bob"):
        grant_role(deck, Grant(name, Role.EDITOR), OPERATOR)
    request = propose(deck, BOT)
    with pytest.raises(Forbidden, match="is your own"):
        approve_request(deck, request, replace(ADA, actor=" Ada "))
    approve_request(deck, request, BOB, due=NOW + timedelta(hours=1))
    revoke_role(deck, "ada", "*", OPERATOR)
    assert apply_due_requests(deck, now=NOW + timedelta(hours=2)) == ()
    assert (pct(deck), get_request(deck, request.request_id).state) == (10, RequestState.VOID)


def test_who_makes_the_approved_change_herself_uses_the_proposal_up(deck: Store) -> None:
    request = propose(deck, BOT)
    seen = get_flag(deck, "production", "use_hyde")
    approve_request(deck, request, BOB)
    with pytest.raises(ApprovalNeeded):  # her assistant makes nothing, approved or not
        change_rollout(deck, seen, 50, BOT)
    change_rollout(deck, seen, 50, ADA)
    assert (pct(deck), get_request(deck, request.request_id).state) == (50, RequestState.APPLIED)
    change_rollout(deck, get_flag(deck, "production", "use_hyde"), 10, ADA)
    with pytest.raises(Conflict):
        apply_request(deck, request, now=NOW)
    assert pct(deck) == 10


def test_a_persons_request_and_the_assistants_are_two(deck: Store) -> None:
    set_policy(deck, Policy(required=True), ROOT, has_sign_in=True)
    proposed, asked = propose(deck, BOT), propose(deck, ADA)
    assert [each.assistant for each in (proposed, asked)] == ["token:bot", ""]
    assert propose(deck, BOT).request_id == proposed.request_id


def test_an_assistant_is_in_no_hurry(deck: Store) -> None:
    flag = get_flag(deck, "production", "use_hyde")
    with pytest.raises(InvalidInput, match="is no emergency"):
        change_rollout(deck, flag, 50, replace(BOT, reason="EMERGENCY: now"))
    with pytest.raises(InvalidInput, match="would change nothing"):
        change_rollout(deck, flag, 10, BOT)
    assert list_requests(deck, states=tuple(RequestState)) == ()


@pytest.mark.deep
def test_an_assistant_has_so_many_proposals_waiting_and_so_many_a_day(deck: Store) -> None:
    made = []
    for round_ in range(MOST_PROPOSALS_A_DAY // MOST_PROPOSALS):
        made = [propose(deck, BOT, 11 + round_ * MOST_PROPOSALS + number) for number in range(MOST_PROPOSALS)]
        with pytest.raises(Conflict, match="a person has to decide about some first"):
            change_rollout(deck, get_flag(deck, "production", "use_hyde"), 90, BOT)
        for request in made:
            reject_request(deck, request, BOB)
    with pytest.raises(Conflict, match="made 60 proposals within a day"):
        change_rollout(deck, get_flag(deck, "production", "use_hyde"), 90, BOT)
    propose(deck, replace(BOT, assistant="token:other"), 90)
    with deck.begin() as connection:
        connection.execute(update(change_requests).values(created_ms=change_requests.c.created_ms - 86_400_000))
    propose(deck, BOT, 90)
