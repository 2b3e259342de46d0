"""What a token sees and changes under /v1: its scopes, its environment, its services, and nothing else."""

import pytest

from app.http import backends
from core.access.credentials import issue_token
from core.access.scopes import TokenScope
from core.audit.acts import Act
from core.audit.permissions import EVERYWHERE, Role, Roles
from core.errors import Forbidden
from core.flags.store import get_flag
from tests.app.http.v1.conftest import QUESTIONS

READS = [
    "/v1/services", "/v1/verdicts", "/v1/overview?service=answers", "/v1/verdict?service=answers",
    "/v1/episodes?service=answers", "/v1/causes?service=answers", "/v1/timeline?service=answers",
    "/v1/days?service=answers", "/v1/questions?service=answers", "/v1/questions/count?service=answers",
    "/v1/questions/production-answers-1?service=answers", "/v1/views", "/v1/topics?service=answers",
    "/v1/backlog?service=answers", "/v1/documents?service=answers", "/v1/indexes", "/v1/aliases",
    "/v1/predictions?service=answers", "/v1/flags", "/v1/flags/use_hyde", "/v1/schedules", "/v1/canaries",
    "/v1/experiments", "/v1/metric-definitions", "/v1/alerts", "/v1/audit", "/v1/audit/1", "/v1/audit/chain",
]  # fmt: skip
OF_WHOLE = ["/v1/flags", "/v1/flags/use_hyde", "/v1/schedules", "/v1/canaries", "/v1/experiments",
            "/v1/metric-definitions", "/v1/alerts", "/v1/audit", "/v1/audit/1", "/v1/indexes", "/v1/aliases",
            "/v1/views", "/v1/corpus/versions", "/v1/runs", "/v1/timeline"]  # fmt: skip


def test_every_read_answers_a_token_with_the_scopes_and_nobody_else(deck):
    for path in READS:
        answers = [deck.get(path, token=name) for name in ("reader", "ingest", "")]
        assert [each.status_code for each in answers] == [200, 403, 401], f"{path}: {answers[0].text}"


def test_without_tokens_the_local_operator_reads_and_changes_as_on_the_pages(bare, url, monkeypatch):
    monkeypatch.setenv("QUARTERDECK_OPERATOR", "grace")
    backends.close()
    body = {"version": 0, "definition": {"state": "ENABLED", "variants": {"on": True, "off": False},
            "defaultVariant": "on"}, "reason": "trying it"}  # fmt: skip
    made = bare.put("/v1/flags/mine", json=body)
    assert (made.status_code, made.json()["actor"]) == (200, "grace")
    assert bare.get("/v1/flags/mine").json()["is_on"] is True
    monkeypatch.setenv("QUARTERDECK_OPERATOR_ROLE", "viewer")
    backends.close()
    assert bare.patch("/v1/flags/mine", json={"version": 1, "on": False, "reason": "trying it"}).status_code == 403


def test_a_token_names_no_other_environment(deck):
    for path in ("/v1/flags", "/v1/verdict?service=answers", "/v1/questions?service=answers", "/v1/services"):
        joined = f"{path}{'&' if '?' in path else '?'}environment=production"
        assert deck.get(joined, token="staging").status_code == 403
    move = {"version": 1, "on": False, "reason": "no", "environment": "production"}
    assert deck.patch("/v1/flags/use_hyde", move, token="staging").status_code == 403
    assert get_flag(deck.store, "production", "use_hyde").view.is_on


def test_a_token_sees_the_services_of_its_environment_alone(deck):
    seen = {name: deck.get("/v1/services", token=name).json()["items"] for name in ("reader", "staging", "answers")}
    assert [(each["environment"], each["service"]) for each in seen["reader"]] == [
        ("production", "answers"), ("production", "billing"),
    ]  # fmt: skip
    assert [(each["environment"], each["service"]) for each in seen["staging"]] == [("staging", "answers")]
    assert [(each["environment"], each["service"]) for each in seen["answers"]] == [("production", "answers")]


def test_a_token_of_a_service_sees_that_service_alone(deck):
    own = deck.get("/v1/questions", token="answers").json()["items"]
    assert {each["service"] for each in own} == {"answers"}
    assert len(own) == QUESTIONS
    assert deck.get("/v1/questions?service=billing", token="answers").status_code == 403
    assert deck.get("/v1/questions/production-billing-1", token="answers").status_code == 404
    assert deck.get("/v1/questions/production-billing-1?service=billing", token="answers").status_code == 403


def test_a_cursor_of_another_service_opens_nothing_of_it(deck):
    following = deck.get("/v1/questions?service=billing&limit=2").json()["next"]
    page = deck.get(f"/v1/questions?service=answers&limit=200&cursor={following}", token="answers")
    assert page.status_code == 200
    assert all(each["retrieval_id"].startswith("production-answers-") for each in page.json()["items"])
    entries = deck.get("/v1/audit?limit=1", token="staging").json()["next"]
    found = deck.get(f"/v1/audit?limit=200&cursor={entries or 1_000_000}", token="reader").json()["items"]
    assert {each["environment"] for each in found} <= {"production"}


def test_a_token_of_a_service_sees_nothing_of_the_whole_environment(deck):
    for path in OF_WHOLE:
        answer = deck.get(path, token="answers")
        assert (path, answer.status_code) == (path, 403)
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_token_of_a_service_changes_nothing_of_the_whole_environment(deck):
    before = deck.count_entries()
    move = {"version": 1, "on": False, "reason": "no"}
    assert deck.patch("/v1/flags/use_hyde", move, token="answers").status_code == 403
    level = {"accepted_on": None, "service": "billing", "reason": "no"}
    assert deck.put("/v1/accepted-level", level, token="answers").status_code == 403
    assert deck.post("/v1/audit/1/revert", {"seen": 1, "reason": "no"}, token="answers").status_code == 403
    assert deck.count_entries() == before


def test_entries_of_other_environments_are_not_there_for_a_token(deck):
    of_staging = deck.get("/v1/audit", token="staging").json()["items"]
    assert {each["environment"] for each in of_staging} == {"staging"}
    number = of_staging[0]["entry_id"]
    assert deck.get(f"/v1/audit/{number}", token="staging").status_code == 200
    assert deck.get(f"/v1/audit/{number}").status_code == 404
    assert deck.post(f"/v1/audit/{number}/revert", {"seen": number, "reason": "no"}).status_code == 404


def test_questions_are_read_with_their_scope_alone(deck):
    for path in ("/v1/questions?service=answers", "/v1/questions/production-answers-1?service=answers", "/v1/views"):
        assert deck.get(path, token="counter").status_code == 403
    assert deck.get("/v1/questions/count?service=answers&filters=low:1", token="counter").status_code == 200
    assert deck.get("/v1/questions/count?service=answers&filters=text:mbuf", token="counter").status_code == 403
    for path in ("/v1/topics", "/v1/backlog", "/v1/causes", "/v1/overview", "/v1/predictions"):
        assert '"question"' not in deck.get(f"{path}?service=answers", token="counter").text
    body = {"retrieval_ids": ["production-answers-1"], "judgment": "good", "service": "answers", "reason": "no"}
    assert deck.post("/v1/judgments", body, token="other-editor").status_code == 403


def test_a_change_needs_its_scope(deck):
    move = {"version": 1, "on": False, "reason": "it is slow"}
    assert deck.patch("/v1/flags/use_hyde", move, token="reader").status_code == 403
    assert deck.patch("/v1/flags/use_hyde", move, token="editor").status_code == 200


def test_alert_rules_need_an_admin_and_what_is_shared_its_own_scope(deck):
    rule = {"url": "https://example.org/hook", "secret": "0123456789abcdef", "reason": "tell us"}
    assert deck.put("/v1/alerts/drops", rule, token="editor").status_code == 403
    made = deck.put("/v1/alerts/drops", rule, token="admin")
    assert (made.status_code, made.json()["action"]) == (200, "alert.save")
    assert "0123456789abcdef" not in deck.get("/v1/alerts", token="admin").text
    swap = {"index": "v2", "expected": None, "reason": "newer"}
    for name in ("editor", "admin"):
        answer = deck.post("/v1/aliases/default/swap", swap, token=name)
        assert answer.status_code in (400, 403), answer.text
    assert "has not been probed" in deck.post("/v1/aliases/default/swap", swap, token="operator").text


def test_nobody_gives_a_token_more_than_they_have(store):
    held = ((EVERYWHERE, Role.ADMIN),)
    blind = Act("eve", "more", roles=Roles(held))
    with pytest.raises(Forbidden, match="reading questions"):
        issue_token(store, "a", [TokenScope.QUESTIONS], blind)
    with pytest.raises(Forbidden, match="reading questions"):
        issue_token(store, "a", [TokenScope.ADMIN], blind)
    local = Act("eve", "more", roles=Roles((("production", Role.ADMIN),), ("production",)))
    with pytest.raises(Forbidden, match="everywhere"):
        issue_token(store, "a", [TokenScope.CHANGE, TokenScope.SHARED], local)
    assert issue_token(store, "a", [TokenScope.READ, TokenScope.CHANGE], local)[1] == 1
