"""A second person: who waits for whom, and what somebody may try instead."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete, update

from core.access.credentials import issue_token
from core.access.roles import grant_role, revoke_role
from core.access.scopes import TokenScope
from core.approvals.operations import (
    amend_request,
    approve_request,
    read_policy,
    reject_request,
    set_policy,
    withdraw_request,
)
from core.approvals.people import act_by_secret
from core.approvals.requests import ChangeRequest, get_request, list_requests
from core.approved import apply_due_requests, apply_request, edit_request, list_editable, preview_request
from core.audit.acts import Act
from core.audit.gate import ADMINS, Origin, Policy, RequestState, WantedChange, mark_applied
from core.audit.permissions import EVERYWHERE, Grant, Role, hold_everywhere
from core.audit.trail import AuditFilter, list_audit, list_broken_audit_entries
from core.errors import ApprovalNeeded, Conflict, Forbidden, InvalidInput, NotFound
from core.flags.layers import Layer
from core.flags.operations import change_rollout, create_flag, import_flags, remove_flag, switch_flag, update_flag
from core.flags.schedule import ScheduleStep
from core.flags.store import Flag, get_flag, list_flags
from core.flags.timetable import list_schedules
from core.indexes.operations import register_index, swap_index
from core.indexes.registry import Index, list_aliases
from core.metrics.definition import define_metric
from core.metrics.operations import add_metric, remove_metric
from core.metrics.records import list_own_metrics
from core.prompts.promotion import promote
from core.rollouts.canaries import roll_back_canary
from core.rollouts.experiments import LayerPlace, prepare_start
from core.rollouts.layers import create_layer
from core.rollouts.schedules import create_schedule, resume_schedule, run_schedules
from quarterdeck.definitions import boolean_flag, canary_flag, rollout_pct
from quarterdeck.schema import change_requests, indexes
from quarterdeck.store import Store
from tests.core.audit.test_permissions import Prompts

EDITOR, ADMIN = hold_everywhere(Role.EDITOR), hold_everywhere(Role.ADMIN)
NOW = datetime.now(UTC)


def person(name: str, *, roles=EDITOR, environment: str = "production", reason: str = "because") -> Act:
    return Act(name, reason, environment, roles=roles, origin=Origin.PERSON)


ADA, BOB, EVE, ROOT = person("ada"), person("bob"), person("eve"), person("root", roles=ADMIN)


@pytest.fixture
def guarded(store: Store) -> Store:
    """A store with a flag in two environments; production needs a second person."""
    for environment in ("production", "staging"):
        create_flag(store, "use_hyde", boolean_flag(on=True, rollout_pct=10), Act("setup", "a test", environment))
    set_policy(store, Policy(required=True), ROOT, has_sign_in=True)
    return store


def flag_of(store: Store, environment: str = "production") -> Flag:
    return get_flag(store, environment, "use_hyde")


def pct(store: Store, environment: str = "production") -> float | None:
    return rollout_pct(flag_of(store, environment).definition)


def ask(store: Store, share: float = 50, by: Act = ADA) -> ChangeRequest:
    """Try a change that waits; return the request that it became."""
    with pytest.raises(ApprovalNeeded) as needed:
        change_rollout(store, flag_of(store, by.environment), share, by)
    return get_request(store, needed.value.request_id)


def test_a_change_waits_and_is_made_once_another_person_approved_it(guarded: Store) -> None:
    request = ask(guarded)
    assert pct(guarded) == 10
    assert (request.state, request.requester, request.environment) == (RequestState.WAITING, "ada", "production")
    assert [(each.action, each.target) for each in request.changes] == [("flag.update", "use_hyde")]
    assert request.changes[0].before == flag_of(guarded).definition
    assert ask(guarded).request_id == request.request_id  # asked twice, one request
    effect = preview_request(guarded, request, now=NOW)
    assert effect.startswith("use_hyde: 4") and "of made-up users (none are known) get another answer." in effect
    approve_request(guarded, request, BOB, effect=effect)
    entry = apply_request(guarded, get_request(guarded, request.request_id), now=NOW)
    assert pct(guarded) == 50
    done = get_request(guarded, request.request_id)
    assert (done.state, done.decided_by, done.entry_id) == (RequestState.APPLIED, "bob", entry)
    told = list_audit(guarded, limit=1)[0]
    assert (told.actor, told.reason) == ("ada", f"because (request {request.request_id}, approved by bob)")
    actions = [str(each.action) for each in list_audit(guarded, limit=3)]
    assert actions == ["flag.update", "approval.grant", "approval.request"]
    assert list_broken_audit_entries(guarded) == ()


def test_whoever_asked_may_do_it_once_more_after_it_was_approved_and_only_once(guarded: Store) -> None:
    request, seen = ask(guarded), flag_of(guarded)
    approve_request(guarded, request, BOB)
    with pytest.raises(ApprovalNeeded):
        change_rollout(guarded, seen, 50, EVE)  # the approval is ada's
    change_rollout(guarded, seen, 50, ADA)
    assert pct(guarded) == 50
    change_rollout(guarded, flag_of(guarded), 10, replace(ADA, reason="EMERGENCY: back"))
    with pytest.raises(ApprovalNeeded):  # the same change again: the approval is used up
        change_rollout(guarded, flag_of(guarded), 50, ADA)
    with pytest.raises(Conflict, match="is applied"):
        apply_request(guarded, get_request(guarded, request.request_id), now=NOW)
    assert pct(guarded) == 10


def test_nobody_approves_their_own_request_by_another_spelling_or_a_token(guarded: Store) -> None:
    grant_role(guarded, Grant("ada", Role.ADMIN, EVERYWHERE), Act("setup", "a test"))
    secret, _ = issue_token(guarded, "ada's", [TokenScope.ADMIN], replace(ADA, roles=ADMIN))
    of_nobody, _ = issue_token(guarded, "robot", [TokenScope.ADMIN], Act("setup", "a test"))
    request = ask(guarded)
    by_token = act_by_secret(guarded, secret, "I am a token", "production", now=NOW)
    assert (by_token.actor, by_token.origin) == ("ada", Origin.PERSON)
    for by in (ADA, person("ADA"), person(" Ada "), by_token):
        with pytest.raises(Forbidden, match="is your own"):
            approve_request(guarded, request, by)
    with pytest.raises(Forbidden, match="made without a sign-in"):
        act_by_secret(guarded, of_nobody, "because", "production", now=NOW)
    with pytest.raises(Forbidden, match="only a verified person"):
        approve_request(guarded, request, Act("bob", "at the machine"))
    with pytest.raises(Forbidden, match="is for production alone"):
        act_by_secret(guarded, secret, "because", "staging", now=NOW)
    with pytest.raises(Forbidden):
        approve_request(guarded, request, person("vic", roles=hold_everywhere(Role.VIEWER)))
    assert get_request(guarded, request.request_id).state is RequestState.WAITING


def test_an_edit_voids_the_approval_and_neither_editor_nor_requester_approves(guarded: Store) -> None:
    request = ask(guarded)
    approve_request(guarded, request, BOB)
    approved = get_request(guarded, request.request_id)
    wider = boolean_flag(on=True, rollout_pct=100)
    amend_request(guarded, approved, [replace(approved.changes[0], after=wider)], EVE)
    edited = get_request(guarded, request.request_id)
    assert (edited.state, edited.editor, edited.decided_by) == (RequestState.WAITING, "eve", "")
    with pytest.raises(Conflict):
        apply_request(guarded, edited, now=NOW)
    with pytest.raises(Conflict):
        apply_request(guarded, approved, now=NOW)  # as it was before the edit
    assert pct(guarded) == 10
    for by in (ADA, EVE):
        with pytest.raises(Forbidden, match="is your own"):
            approve_request(guarded, edited, by)
    with pytest.raises(Conflict):
        approve_request(guarded, request, BOB)  # what bob read is gone
    approve_request(guarded, edited, BOB)
    apply_request(guarded, get_request(guarded, request.request_id), now=NOW)
    assert pct(guarded) == 100


def test_a_flag_that_changed_after_the_approval_voids_it(guarded: Store) -> None:
    request = ask(guarded)
    approve_request(guarded, request, BOB)
    change_rollout(guarded, flag_of(guarded), 20, replace(EVE, reason="emergency: half of it"))
    with pytest.raises(Conflict, match=r"is void: use_hyde was changed since"):
        apply_request(guarded, get_request(guarded, request.request_id), now=NOW)
    assert get_request(guarded, request.request_id).state is RequestState.VOID
    assert pct(guarded) == 20


def test_an_approval_for_one_environment_is_none_for_another(guarded: Store) -> None:
    set_policy(guarded, Policy(required=True), replace(ROOT, environment="staging"), has_sign_in=True)
    request = ask(guarded, by=replace(ADA, environment="staging"))
    with pytest.raises(InvalidInput, match="^environment: "):
        approve_request(guarded, request, BOB)
    approve_request(guarded, request, replace(BOB, environment="staging"))
    with pytest.raises(ApprovalNeeded):
        change_rollout(guarded, flag_of(guarded), 50, ADA)  # equal but for its environment
    assert (pct(guarded), pct(guarded, "staging")) == (10, 10)


def test_what_expired_was_rejected_or_withdrawn_counts_no_more(guarded: Store) -> None:
    late, refused, taken = ask(guarded, 30), ask(guarded, 40), ask(guarded, 60)
    approve_request(guarded, late, BOB)
    with guarded.begin() as connection:
        over = update(change_requests).where(change_requests.c.id == late.request_id)
        connection.execute(over.values(expires_ms=1))
    with pytest.raises(Forbidden, match="who alone can withdraw"):
        withdraw_request(guarded, taken, BOB)
    reject_request(guarded, refused, BOB)
    withdraw_request(guarded, taken, ADA)
    states = (RequestState.EXPIRED, RequestState.REJECTED, RequestState.WITHDRAWN)
    for request, state, share in zip((late, refused, taken), states, (30, 40, 60), strict=True):
        found = get_request(guarded, request.request_id)
        assert found.state is state
        for decide in (
            lambda each: approve_request(guarded, each, BOB),
            lambda each: apply_request(guarded, each, now=NOW),
        ):
            with pytest.raises(Conflict):
                decide(found)
        with pytest.raises(ApprovalNeeded):
            change_rollout(guarded, flag_of(guarded), share, ADA)
    assert pct(guarded) == 10


def test_an_approval_for_later_is_applied_then_by_the_server(guarded: Store) -> None:
    request = ask(guarded)
    approve_request(guarded, request, BOB, due=NOW + timedelta(hours=1))
    assert get_request(guarded, request.request_id).state is RequestState.SCHEDULED
    with pytest.raises(ApprovalNeeded):  # not before its time
        change_rollout(guarded, flag_of(guarded), 50, ADA)
    assert apply_due_requests(guarded, now=NOW + timedelta(minutes=59)) == ()
    assert len(apply_due_requests(guarded, now=NOW + timedelta(minutes=61))) == 1
    assert apply_due_requests(guarded, now=NOW + timedelta(minutes=62)) == ()
    assert pct(guarded) == 50


def test_what_was_approved_for_one_index_is_never_another_of_its_name(guarded: Store) -> None:
    index, everywhere = Index("docs-v1", "/tmp/x", "v1", "model", 3, NOW, "setup"), person("ada", roles=ADMIN)
    register_index(guarded, index, Act("setup", "a test"))
    with pytest.raises(ApprovalNeeded) as needed:
        swap_index(guarded, "default", "docs-v1", everywhere, expected=None)
    approve_request(guarded, get_request(guarded, needed.value.request_id), BOB, due=NOW + timedelta(hours=1))
    with guarded.begin() as connection:
        connection.execute(delete(indexes))  # it is removed, and built anew from something else
    with pytest.raises(Conflict, match=r"request 1 was made for another index 'docs-v1'"):
        register_index(guarded, replace(index, location="/tmp/evil"), everywhere)
    reject_request(guarded, get_request(guarded, 1), BOB)
    register_index(guarded, replace(index, location="/tmp/other"), everywhere)


def test_emergencies_and_stops_pass_and_are_marked(guarded: Store) -> None:
    switch_flag(guarded, flag_of(guarded), replace(ADA, reason="it burns"), on=False)
    change_rollout(guarded, flag_of(guarded), 1, Act("ops", "emergency: no page at hand"))
    create_flag(guarded, "answers", canary_flag(5), replace(ADA, reason="EMERGENCY: a way back"))
    roll_back_canary(guarded, get_flag(guarded, "production", "answers"), replace(BOB, reason="worse"))
    reasons = [entry.reason for entry in list_audit(guarded, AuditFilter(environment="production"), limit=4)]
    assert reasons == [
        "EMERGENCY: worse", "EMERGENCY: a way back", "emergency: no page at hand", "EMERGENCY: it burns",
    ]  # fmt: skip
    with pytest.raises(ApprovalNeeded):
        switch_flag(guarded, flag_of(guarded), ADA, on=True)  # on again is no emergency


def test_who_is_no_verified_person_can_neither_change_nor_ask(guarded: Store) -> None:
    with pytest.raises(Forbidden, match="only who signed in can ask for it"):
        change_rollout(guarded, flag_of(guarded), 50, Act("ops", "at the machine"))
    assert list_requests(guarded) == ()
    change_rollout(guarded, flag_of(guarded, "staging"), 50, Act("ops", "elsewhere", "staging"))
    assert (pct(guarded), pct(guarded, "staging")) == (10, 50)


def test_some_may_change_alone(guarded: Store) -> None:
    policy = Policy(required=True, alone=("Release-Manager", ADMINS))
    with pytest.raises(ApprovalNeeded) as needed:  # also the requirement itself
        set_policy(guarded, policy, ROOT, has_sign_in=True)
    approve_request(guarded, get_request(guarded, needed.value.request_id), person("rita", roles=ADMIN))
    set_policy(guarded, policy, ROOT, has_sign_in=True)
    assert read_policy(guarded, "production") == policy
    for share, by in ((20, person("release-manager")), (30, ROOT)):
        change_rollout(guarded, flag_of(guarded), share, by)
        assert pct(guarded) == share
    ask(guarded)


@pytest.mark.sqlite_only("nothing is stored")
def test_without_a_sign_in_nothing_can_be_required(store: Store) -> None:
    with pytest.raises(InvalidInput, match="everybody who reaches this deck acts under one name"):
        set_policy(store, Policy(required=True), Act("ops", "because"), has_sign_in=False)
    with pytest.raises(Forbidden):
        set_policy(store, Policy(required=True), ADA, has_sign_in=True)
    assert not read_policy(store, "production").required


def test_every_way_to_change_what_users_get_waits(guarded: Store) -> None:
    def index(name: str) -> Index:
        return Index(name, "/tmp/x", "v1", "model", 3, NOW, "setup")

    setup = Act("setup", "a test", "staging")
    for name in ("docs-v1", "docs-v2"):
        register_index(guarded, index(name), setup)
    seen = flag_of(guarded)
    steps = [ScheduleStep(rollout_pct=90)]
    ways = {
        "create": lambda: create_flag(guarded, "new", boolean_flag(on=True), ADA),
        "update": lambda: update_flag(guarded, seen, boolean_flag(on=True, rollout_pct=70), ADA),
        "remove": lambda: remove_flag(guarded, seen, ADA, typed_name="use_hyde"),
        "import": lambda: import_flags(
            guarded, {"flags": {"a": boolean_flag(on=True), "b": boolean_flag(on=True)}}, ADA
        ),
        "schedule": lambda: create_schedule(guarded, seen, steps, ADA, starts=NOW, now=NOW),
        "swap": lambda: swap_index(guarded, "default", "docs-v1", replace(ADA, environment="staging"), expected=None),
    }
    for name, way in ways.items():
        with pytest.raises(ApprovalNeeded):
            way()
        request = list_requests(guarded, limit=1)[0]
        assert len(request.changes) == (2 if name == "import" else 1)
        assert (flag_of(guarded).definition, list_aliases(guarded)) == (seen.definition, ())
        approve_request(guarded, request, replace(BOB, environment=request.environment))
    ways["swap"]()
    ways["import"]()
    ways["schedule"]()
    assert [alias.index_name for alias in list_aliases(guarded)] == ["docs-v1"]
    run_schedules(guarded, now=NOW + timedelta(seconds=1))  # what was approved as a plan takes its steps by itself
    assert pct(guarded) == 90


def test_a_request_holds_the_states_and_is_not_confused_by_json(guarded: Store) -> None:
    request = ask(guarded)
    change = request.changes[0]
    assert isinstance(change, WantedChange)
    assert change.after is not None and rollout_pct(dict(change.after)) == 50


class WatchedPrompts(Prompts):
    """A minimal MLflow that notes which aliases were moved."""

    def __init__(self) -> None:
        self.moved: list[int] = []

    def set_prompt_alias(self, name: str, alias: str, version: int) -> None:
        self.moved.append(version)


def test_a_promotion_asks_before_it_touches_mlflow_and_passes_once_approved(guarded: Store) -> None:
    tracking = WatchedPrompts()

    def promote_it() -> int:
        return promote(guarded, tracking, "r3", ADA, serving=None, expected=2)  # type: ignore[arg-type]

    with pytest.raises(ApprovalNeeded) as needed:
        promote_it()
    assert tracking.moved == []
    approve_request(guarded, get_request(guarded, needed.value.request_id), BOB)
    entry = promote_it()
    assert tracking.moved == [3]
    done = get_request(guarded, needed.value.request_id)
    assert (done.state, done.entry_id) == (RequestState.APPLIED, entry)
    with pytest.raises(ApprovalNeeded):
        promote_it()


def test_the_start_of_a_schedule_is_approved_with_its_steps(guarded: Store) -> None:
    seen, steps = flag_of(guarded), [ScheduleStep(rollout_pct=90)]

    def plan(starts: datetime, now: datetime = NOW) -> int:
        return create_schedule(guarded, seen, steps, ADA, starts=starts, now=now)

    with pytest.raises(ApprovalNeeded) as needed:
        plan(NOW + timedelta(days=3))
    approve_request(guarded, get_request(guarded, needed.value.request_id), BOB)
    for starts in (NOW, NOW + timedelta(hours=1)):  # not what was approved
        with pytest.raises(ApprovalNeeded):
            plan(starts)
    plan(NOW + timedelta(days=3), now=NOW + timedelta(hours=2))
    due = list_schedules(guarded)[0].due
    assert due is not None
    assert abs(due - NOW - timedelta(days=3)) < timedelta(seconds=1)


@pytest.mark.deep
def test_a_schedule_that_begins_at_once_is_approved_as_such(guarded: Store) -> None:
    seen, steps = flag_of(guarded), [ScheduleStep(rollout_pct=90)]
    with pytest.raises(ApprovalNeeded) as needed:
        create_schedule(guarded, seen, steps, ADA, starts=NOW, now=NOW)
    approve_request(guarded, get_request(guarded, needed.value.request_id), BOB)
    later = NOW + timedelta(minutes=20)
    create_schedule(guarded, seen, steps, ADA, starts=later, now=later)


def test_the_definition_in_a_request_is_edited_and_checked(guarded: Store) -> None:
    request = ask(guarded)
    assert [each.target for each in list_editable(request)] == ["use_hyde"]
    with pytest.raises(InvalidInput, match="^definition: is the same"):
        edit_request(guarded, request, "use_hyde", dict(request.changes[0].after or {}), EVE)
    with pytest.raises(InvalidInput, match="^state:"):
        edit_request(guarded, request, "use_hyde", {"state": "MAYBE"}, EVE)
    with pytest.raises(NotFound, match="sets no flag 'other'; it sets: use_hyde"):
        edit_request(guarded, request, "other", boolean_flag(on=True), EVE)
    edit_request(guarded, request, "use_hyde", boolean_flag(on=True, rollout_pct=20), EVE)
    edited = get_request(guarded, request.request_id)
    approve_request(guarded, edited, BOB)
    apply_request(guarded, get_request(guarded, request.request_id), now=NOW)
    assert pct(guarded) == 20


def test_two_requests_approved_at_one_moment_never_share_users_of_a_layer(guarded: Store) -> None:
    """Both were asked for while the layer was free; the second one is void."""
    create_layer(guarded, Layer("answers"), ADA)
    keys, asked = ("first", "second"), []
    for key in keys:
        flag = Flag("production", key, boolean_flag(on=True, rollout_pct=50), 0, NOW, "ada")
        place = LayerPlace("answers", 60)
        with pytest.raises(ApprovalNeeded) as needed:
            create_flag(guarded, key, prepare_start(guarded, flag, key, place), ADA)
        asked.append(get_request(guarded, needed.value.request_id))
    for request in asked:
        approve_request(guarded, request, BOB)
    apply_request(guarded, get_request(guarded, asked[0].request_id), now=NOW)
    with pytest.raises(Conflict, match="would share users of the layer answers"):
        apply_request(guarded, get_request(guarded, asked[1].request_id), now=NOW)
    assert get_request(guarded, asked[1].request_id).state is RequestState.VOID
    assert [flag.key for flag in list_flags(guarded, "production")] == ["first", "use_hyde"]


def test_an_emergency_needs_words_and_cannot_lift_the_requirement(guarded: Store) -> None:
    for empty in ("EMERGENCY:", " emergency: ", "EMERGENCY: …!"):
        with pytest.raises(InvalidInput, match="add what the emergency is"):
            replace(ADA, reason=empty)
    with pytest.raises(ApprovalNeeded):
        set_policy(guarded, Policy(), replace(ROOT, reason="EMERGENCY: let me"), has_sign_in=True)
    request = ask(guarded)
    with pytest.raises(Forbidden, match="is your own"):
        approve_request(guarded, request, replace(ADA, reason="EMERGENCY: nobody is here"))


def test_two_spellings_of_one_name_are_one_person(guarded: Store) -> None:
    spellings = (("änne", "ÄNNE"), ("ada lovelace", "Ada  Lovelace"), ("e\u0301va", "\u00c9VA"), ("straße", "STRASSE"))
    for asked, other in spellings:
        request = ask(guarded, by=person(asked))
        with pytest.raises(Forbidden, match="is your own"):
            approve_request(guarded, request, person(other))
        withdraw_request(guarded, request, person(asked))


@pytest.mark.sqlite_only("nothing is stored")
def test_somebody_called_admins_is_not_every_admin() -> None:
    policy = Policy(required=True, alone=(ADMINS,))
    assert policy.lets_alone("root", ADMIN, "production")
    assert not policy.lets_alone("admins", EDITOR, "production")


def test_no_spelling_of_an_environment_is_without_its_policy(guarded: Store) -> None:
    metric = define_metric("resolved", "event", "share", of="resolved")
    for spelling in ("production", "Production", "prod"):
        with pytest.raises(ApprovalNeeded):
            add_metric(guarded, metric, replace(ADA, environment=spelling))
    assert list_own_metrics(guarded, "production") == ()


def test_what_decides_rollouts_waits_too(guarded: Store) -> None:
    """Whoever redefines a guardrail could otherwise let a bad canary go on."""
    strict = define_metric("stars", "score", "mean", of="stars", margin=0.1)
    with pytest.raises(ApprovalNeeded) as needed:
        add_metric(guarded, strict, ADA)
    approve_request(guarded, get_request(guarded, needed.value.request_id), BOB)
    with pytest.raises(ApprovalNeeded):  # another margin than the approved one
        add_metric(guarded, replace(strict, margin=4), ADA)
    add_metric(guarded, strict, ADA)
    with pytest.raises(ApprovalNeeded):
        remove_metric(guarded, "stars", ADA)
    assert list_own_metrics(guarded, "production") == (strict,)


@pytest.mark.parametrize("lost", ["ada", "bob"])
def test_who_lost_the_role_since_changes_nothing_later(guarded: Store, lost: str) -> None:
    for name in ("ada", "bob"):
        grant_role(guarded, Grant(name, Role.EDITOR, "production"), Act("setup", "a test"))
    kept, gone = ask(guarded, 30), ask(guarded, 50)
    approve_request(guarded, kept, BOB)
    approve_request(guarded, gone, BOB, due=NOW + timedelta(hours=1))
    grant_role(guarded, Grant("carol", Role.EDITOR, "production"), Act("setup", "somebody else"))
    apply_request(guarded, get_request(guarded, kept.request_id), now=NOW)
    assert pct(guarded) == 30
    change_rollout(guarded, flag_of(guarded), 10, replace(ADA, reason="EMERGENCY: as it was"))
    revoke_role(guarded, lost, "production", Act("setup", "left the team"))
    assert apply_due_requests(guarded, now=NOW + timedelta(hours=2)) == ()
    done = get_request(guarded, gone.request_id)
    assert (done.state, pct(guarded)) == (RequestState.VOID, 10)
    assert done.note.startswith(f"{lost} lost a role since: ")


def test_a_role_that_no_group_holds_any_more_is_lost(guarded: Store) -> None:
    grant_role(guarded, Grant("group:editors", Role.EDITOR, "production"), Act("setup", "a test"))
    grant_role(guarded, Grant("group:others", Role.VIEWER, "production"), Act("setup", "a test"))
    first, second = ask(guarded, 30), ask(guarded, 40)
    for request in (first, second):
        approve_request(guarded, request, BOB)
    revoke_role(guarded, "group:others", "production", Act("setup", "not needed"))
    apply_request(guarded, get_request(guarded, first.request_id), now=NOW)
    assert pct(guarded) == 30
    revoke_role(guarded, "group:editors", "production", Act("setup", "gone"))
    with pytest.raises(Conflict, match="ada lost a role since"):
        apply_request(guarded, get_request(guarded, second.request_id), now=NOW)


def test_a_schedule_pauses_when_its_maker_lost_the_role(store: Store) -> None:
    setup = Act("setup", "a test")
    create_flag(store, "use_hyde", boolean_flag(on=True, rollout_pct=10), setup)
    grant_role(store, Grant("ada", Role.EDITOR, "production"), setup)
    create_schedule(store, flag_of(store), [ScheduleStep(rollout_pct=90)], ADA, starts=NOW, now=NOW)
    revoke_role(store, "ada", "production", setup)
    (line,) = run_schedules(store, now=NOW + timedelta(seconds=1))
    assert "ada lost a role since: flag.update requires the role editor in production" in line
    resume_schedule(store, list_schedules(store)[0], BOB, now=NOW)  # it is bob's from now on
    run_schedules(store, now=NOW + timedelta(minutes=1))
    assert pct(store) == 90


def test_a_clock_that_is_set_back_revives_nothing(guarded: Store) -> None:
    request = ask(guarded)
    approve_request(guarded, request, BOB, due=NOW + timedelta(days=6))
    apply_due_requests(guarded, now=NOW + timedelta(days=8))  # the server was away when it was due
    assert get_request(guarded, request.request_id).state is RequestState.EXPIRED  # though it is NOW again
    with pytest.raises(Conflict, match="is expired"):
        apply_request(guarded, get_request(guarded, request.request_id), now=NOW)
    assert [each.request_id for each in list_requests(guarded, states=(RequestState.EXPIRED,))] == [request.request_id]
    assert pct(guarded) == 10


def test_of_several_who_decide_at_once_one_wins_and_the_change_is_made_once(guarded: Store) -> None:
    request, others = ask(guarded), [person(f"approver{number}") for number in range(6)]

    def approve(by: Act) -> str:
        try:
            approve_request(guarded, request, by)
            apply_request(guarded, get_request(guarded, request.request_id), now=NOW)
        except Conflict:
            return ""
        return by.actor

    with ThreadPoolExecutor(len(others)) as pool:
        won = [name for name in pool.map(approve, others) if name]
    done = get_request(guarded, request.request_id)
    assert [done.decided_by] == won
    assert (done.state, pct(guarded)) == (RequestState.APPLIED, 50)
    actions = [str(each.action) for each in list_audit(guarded, AuditFilter(environment="production"), limit=20)]
    assert (actions.count("approval.grant"), actions.count("flag.update")) == (1, 1)


def test_a_change_is_never_made_by_an_approval_of_something_else(guarded: Store) -> None:
    """An edit that is approved between the look at a request and its use does not make it fit."""
    request = ask(guarded)
    approve_request(guarded, request, BOB)
    wider = [replace(request.changes[0], after=boolean_flag(on=True, rollout_pct=100))]
    with guarded.begin() as connection, pytest.raises(Conflict, match="applied or withdrawn meanwhile"):
        mark_applied(connection, request.request_id, wider, entry_id=1)
    assert get_request(guarded, request.request_id).state is RequestState.APPROVED
