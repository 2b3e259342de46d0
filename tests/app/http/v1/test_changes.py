"""Changes under /v1: the pages' operations with their audit entries, and a repeated request changes nothing twice."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import select

from core.access.credentials import issue_token
from core.access.roles import grant_role
from core.access.scopes import TokenScope
from core.approvals.operations import approve_request, set_policy
from core.approvals.requests import get_request
from core.audit.acts import Act
from core.audit.gate import Origin, Policy
from core.audit.permissions import Grant, Role
from core.audit.trail import get_audit_entry
from core.errors import Forbidden
from core.flags.store import get_flag
from core.indexes.builds import save_probe
from core.indexes.operations import register_index, swap_index
from core.indexes.probes import ProbeReport
from core.indexes.registry import Index
from core.log.filters import QuestionFilter
from core.log.questions import list_page
from quarterdeck.schema import ingest_keys
from quarterdeck.scope import Scope
from tests.app.http.v1.conftest import ACT

OFF = {"version": 1, "on": False, "reason": "it answers too slowly"}


def test_a_change_has_the_same_audit_entry_as_on_the_page_under_the_tokens_name(deck):
    answer = deck.patch("/v1/flags/use_hyde", OFF).json()
    entry = get_audit_entry(deck.store, answer["audit_entry"])
    assert (entry.actor, entry.action, entry.target) == ("token:editor", "flag.update", "use_hyde")
    assert (entry.environment, entry.reason) == ("production", "it answers too slowly")
    assert not get_flag(deck.store, "production", "use_hyde").view.is_on
    assert get_flag(deck.store, "staging", "use_hyde").view.is_on


def test_a_stale_version_is_a_conflict_and_changes_nothing(deck):
    deck.patch("/v1/flags/use_hyde", OFF)
    answer = deck.patch("/v1/flags/use_hyde", {**OFF, "on": True})
    assert (answer.status_code, answer.json()["title"]) == (409, "Conflict")
    assert not get_flag(deck.store, "production", "use_hyde").view.is_on


def test_a_repeated_key_gets_the_first_answer_and_changes_nothing_twice(deck):
    key = {"Idempotency-Key": "night-1"}
    first = deck.patch("/v1/flags/use_hyde", OFF, **key)
    before = deck.count_entries()
    again = deck.patch("/v1/flags/use_hyde", OFF, **key)
    assert (again.status_code, again.json()) == (200, first.json())
    assert deck.count_entries() == before
    other = deck.patch("/v1/flags/use_hyde", {**OFF, "version": 2, "on": True}, **key)
    assert (other.status_code, "another body" in other.json()["detail"]) == (409, True)


def test_each_token_has_keys_of_its_own(deck):
    key = {"Idempotency-Key": "night-1"}
    deck.patch("/v1/flags/use_hyde", OFF, **key)
    answer = deck.patch(
        "/v1/flags/use_hyde", {**OFF, "version": 2, "on": True, "confirm": "use_hyde"}, token="other-editor", **key
    )
    assert (answer.status_code, answer.json()["actor"]) == (200, "token:other-editor")


def test_a_key_of_a_refused_change_is_free(deck):
    key = {"Idempotency-Key": "night-1"}
    assert deck.patch("/v1/flags/use_hyde", {**OFF, "version": 9}, **key).status_code == 409
    with deck.store.read() as connection:
        assert connection.scalars(select(ingest_keys.c.key)).all() == []
    assert deck.patch("/v1/flags/use_hyde", {**OFF, "version": 9}, **key).status_code == 409
    assert deck.patch("/v1/flags/use_hyde", OFF, **key).status_code == 200


def test_of_many_requests_with_one_key_at_the_same_time_one_changes_something(deck):
    key = {"Idempotency-Key": "night-1"}
    before = deck.count_entries()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: deck.patch("/v1/flags/use_hyde", OFF, **key), range(16)))
    assert {each.status_code for each in answers} == {200}
    assert len({each.json()["audit_entry"] for each in answers}) == 1
    assert deck.count_entries() == before + 1


def test_a_flag_is_made_rolled_out_and_deleted(deck):
    definition = get_flag(deck.store, "production", "use_hyde").definition
    path = "/v1/flags/search/rerank"
    assert deck.put(path, {"version": 0, "definition": definition, "reason": "new"}).json()["action"] == "flag.create"
    assert deck.put(path, {"version": 0, "definition": definition, "reason": "new"}).status_code == 409
    assert deck.get(path).json()["key"] == "search/rerank"
    deck.patch(path, {"version": 1, "rollout_pct": 20, "reason": "some", "confirm": "search/rerank"})
    assert deck.get(path).json()["rollout_pct"] == 20
    gone = deck.ask("DELETE", f"{path}?version=2&reason=enough", token="editor")
    assert gone.json()["action"] == "flag.delete"
    assert deck.get(path).status_code == 404


def test_a_wide_change_in_production_needs_the_flags_name(deck):
    body = {"version": 1, "rollout_pct": 0, "reason": "back"}
    refused = deck.patch("/v1/flags/use_hyde", body)
    assert (refused.status_code, "type use_hyde" in refused.json()["detail"]) == (400, True)
    assert deck.patch("/v1/flags/use_hyde", {**body, "confirm": "use_hyde"}).status_code == 200


def test_a_schedule_is_planned_paused_and_cancelled(deck):
    plan = {"flag": "use_hyde", "steps": [{"on": False}], "starts": "2026-12-24T09:00:00Z", "reason": "holidays",
            "confirm": "use_hyde"}  # fmt: skip
    refused = deck.post("/v1/schedules", {**plan, "starts": "2026-12-24T09:00:00"})
    assert (refused.status_code, refused.json()["field"]) == (400, "starts")
    assert deck.post("/v1/schedules", plan).json()["action"] == "schedule.create"
    (found,) = deck.get("/v1/schedules").json()["items"]
    path = f"/v1/schedules/{found['schedule_id']}"
    assert deck.post(f"{path}/pause", {"version": found["version"], "reason": "wait"}).status_code == 200
    assert deck.post(f"{path}/pause", {"version": found["version"], "reason": "wait"}).status_code == 409
    assert deck.post(f"{path}/cancel", {"version": 2, "reason": "no"}, token="staging").status_code == 404
    (found,) = deck.get("/v1/schedules").json()["items"]
    assert deck.post(f"{path}/cancel", {"version": found["version"], "reason": "no"}).status_code == 200


@pytest.mark.deep
def test_answers_are_judged(deck):
    body = {"retrieval_ids": ["production-answers-1", "production-answers-2"], "judgment": "bad", "note": "wrong",
            "service": "answers", "reason": "read them"}  # fmt: skip
    assert deck.post("/v1/judgments", body).json()["target"] == "2 questions"
    (question,) = list_page(
        deck.store, QuestionFilter(scope=Scope("production", "answers"), retrieval_id="production-answers-1")
    ).questions
    assert [(score.name, score.value, score.source) for score in question.scores] == [("feedback", -1.0, "reviewer")]


def test_a_level_is_accepted_and_reverted_with_optimistic_locking(deck):
    body = {"accepted_on": "2026-11-01", "service": "answers", "reason": "new normal"}
    number = deck.put("/v1/accepted-level", body).json()["audit_entry"]
    assert deck.post(f"/v1/audit/{number}/revert", {"seen": number - 1, "reason": "no"}).status_code == 409
    again = deck.post(f"/v1/audit/{number}/revert", {"seen": number, "reason": "it was not"})
    assert (again.status_code, again.json()["action"]) == (200, "drift.accept")


def test_a_view_is_saved_and_deleted(deck):
    body = {"filters": [["low", "1"]], "reason": "for monday"}
    assert deck.put("/v1/views/Low ones", body).status_code == 200
    assert deck.get("/v1/views").json()["items"] == [{"name": "Low ones", "filters": [["low", "1"]]}]
    assert deck.ask("DELETE", "/v1/views/Low ones?reason=done", token="editor").status_code == 200
    assert deck.get("/v1/views").json()["items"] == []


def test_an_experiment_and_a_canary_are_moved_by_the_version_that_was_seen(deck):
    (canary,) = deck.get("/v1/canaries").json()["items"]
    move = {"flag": "new_search", "version": canary["version"] + 1, "reason": "looks good"}
    assert deck.post("/v1/canaries/promote", move).status_code == 409
    start = {
        "name": "hyde",
        "flag": "use_hyde",
        "version": 1,
        "metric": "score",
        "effect": 0.02,
        "reason": "is it better?",
    }
    refused = deck.post("/v1/experiments", start)
    assert (refused.status_code, refused.json()["field"]) == (400, "flag")


def test_an_index_canary_starts_once_and_is_moved_as_every_canary(deck):
    for name in ("v1", "v2"):
        register_index(deck.store, Index(name, "indexes", name, "minilm", 9, datetime.now(UTC), "ada"), ACT)
    swap_index(deck.store, "default", "v1", ACT, expected=None)
    body, key = {"index": "v2", "reason": "covers VPP", "steps": "5% for 1h, 100%"}, {"Idempotency-Key": "try-v2"}
    assert "v2 has not been probed" in deck.post("/v1/aliases/default/canary", body).json()["detail"]
    save_probe(deck.store, ProbeReport("v2", ()), ACT, live="v1")
    first = deck.post("/v1/aliases/default/canary", body, **key).json()
    assert (first["action"], first["target"], first["environment"]) == ("canary.promote", "index:default", "production")
    before = deck.count_entries()
    assert deck.post("/v1/aliases/default/canary", body, **key).json() == first
    assert deck.post("/v1/aliases/default/canary", body).status_code == 409
    assert deck.count_entries() == before
    (canary,) = [each for each in deck.get("/v1/canaries").json()["items"] if each["flag"] == "index:default"]
    move = {"flag": "index:default", "version": canary["version"], "reason": "it is worse"}
    assert deck.post("/v1/canaries/promote", move).status_code == 403  # its last step is everybody's
    assert deck.post("/v1/canaries/rollback", move).json()["action"] == "canary.rollback"


@pytest.mark.deep
def test_a_token_asks_for_its_owner_where_a_second_person_is_required(deck):
    ann, bob = (Act(name, "because", origin=Origin.PERSON) for name in ("ann", "bob"))
    for name in ("ann", "bob"):
        grant_role(deck.store, Grant(name, Role.EDITOR), ACT)
    deck.secrets["ann"] = issue_token(deck.store, "ann's", [TokenScope.CHANGE, TokenScope.READ], ann)[0]
    deck.secrets["gone"] = issue_token(deck.store, "gone's", [TokenScope.CHANGE], replace(ann, actor="gone"))[0]
    set_policy(deck.store, Policy(required=True), ann, has_sign_in=True)
    body = {"version": 1, "rollout_pct": 40, "confirm": "use_hyde", "reason": "fewer"}
    assert deck.patch("/v1/flags/use_hyde", body).status_code == 403  # a token that nobody made signed in
    assert deck.patch("/v1/flags/use_hyde", body, token="gone").status_code == 403  # whose owner has no role
    answer = deck.patch("/v1/flags/use_hyde", body, token="ann")
    assert (answer.status_code, "It is request 1" in answer.json()["detail"]) == (409, True)
    request = get_request(deck.store, 1)
    assert (request.requester, request.reason) == ("ann", "fewer (token:ann's)")
    with pytest.raises(Forbidden, match="is your own"):
        approve_request(deck.store, request, ann)
    approve_request(deck.store, request, bob)
    answer = deck.patch("/v1/flags/use_hyde", body, token="ann")
    assert (answer.status_code, answer.json()["actor"]) == (200, "ann")
    assert get_flag(deck.store, "production", "use_hyde").view.rollout_pct == 40
