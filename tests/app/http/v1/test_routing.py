"""Every route under /v1: bounded pages and bodies, ETags of reads, problems instead of stack traces, one document."""

import json
import re

import pytest
from fastapi.openapi.models import OpenAPI
from jsonschema import Draft202012Validator

from app.http.api import ROUTES, get_v1
from app.http.v1.models import MOST_ON_A_PAGE
from app.http.v1.routing import MOST_BODY_BYTES
from tests.app.http.v1.conftest import QUESTIONS

OFF = {"version": 1, "on": False, "reason": "it answers too slowly"}
PATCH = {"method": "PATCH", "path": "/v1/flags/use_hyde", "token": "editor"}


def list_operations():
    document = get_v1().openapi()
    return [(method, path, said) for path, each in document["paths"].items() for method, said in each.items()]


def test_the_document_is_valid_openapi_and_leaves_no_route_out(deck):
    document = deck.client.get("/v1/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    OpenAPI.model_validate(document)
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    names = [said["operationId"] for _, _, said in list_operations()]
    assert len(set(names)) == len(names)
    refs = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert refs == set(document["components"]["schemas"])
    own = {route.path.replace(":path", "") for route in get_v1().routes if route.path != "/v1/openapi.json"}
    assert set(document["paths"]) == own
    assert not own & {route.path for route in ROUTES}


@pytest.mark.parametrize(
    ("method", "path", "said"), list_operations(), ids=lambda each: each if isinstance(each, str) else ""
)
def test_every_operation_is_described_bounds_its_pages_and_knows_its_errors(method, path, said):
    assert said["description"] or said["summary"]
    assert set(said["responses"]) >= {"200", "400", "401", "403", "404", "429", "503"}
    assert "422" not in said["responses"]
    names = {each["name"]: each["schema"] for each in said.get("parameters", ())}
    if "cursor" in names:
        assert names["limit"]["maximum"] <= MOST_ON_A_PAGE
    assert ("Idempotency-Key" in {name.title() for name in names}) == (method != "get")
    if method in ("post", "put", "patch"):
        assert said["requestBody"]["required"] is True


def test_pages_of_questions_follow_each_other_without_a_gap_or_a_repetition(deck):
    seen, cursor = [], ""
    while True:
        page = deck.get(f"/v1/questions?service=answers&limit=3{cursor}").json()
        assert len(page["items"]) <= 3
        seen += [each["retrieval_id"] for each in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert sorted(seen) == [f"production-answers-{at}" for at in range(QUESTIONS)]


def test_questions_are_sorted_by_the_store_and_a_cursor_of_another_order_is_refused(deck):
    names = [f"production-answers-{at}" for at in range(QUESTIONS)]  # each scores higher than the one before
    for sort in ("lowest", "oldest"):
        first = deck.get(f"/v1/questions?service=answers&sort={sort}&limit=3").json()
        rest = deck.get(f"/v1/questions?service=answers&sort={sort}&limit=200&cursor={first['next']}").json()
        assert [each["retrieval_id"] for each in (*first["items"], *rest["items"])] == names
    assert deck.get(f"/v1/questions?service=answers&sort=lowest&cursor={first['next']}").status_code == 400
    assert deck.get("/v1/questions?service=answers&sort=best").status_code == 400


def test_pages_of_the_trail_follow_each_other(deck):
    first = deck.get("/v1/audit?limit=4").json()
    second = deck.get(f"/v1/audit?limit=4&cursor={first['next']}").json()
    numbers = [each["entry_id"] for each in (*first["items"], *second["items"])]
    assert numbers == sorted(set(numbers), reverse=True)
    assert len(numbers) == 8


def test_a_read_that_did_not_change_is_answered_with_304(deck):
    first = deck.get("/v1/flags")
    again = deck.get("/v1/flags", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    deck.patch("/v1/flags/use_hyde", OFF)
    changed = deck.get("/v1/flags", headers={"If-None-Match": first.headers["etag"]})
    assert (changed.status_code, changed.headers["etag"] != first.headers["etag"]) == (200, True)


WRONG = [
    ("/v1/flags?limit=201", "limit"), ("/v1/flags?limit=0", "limit"), ("/v1/flags?cursor=x", "cursor"),
    ("/v1/flags?cursor=%D9%A1", "cursor"), ("/v1/questions?service=answers&cursor=1", "cursor"),
    ("/v1/questions?service=answers&filters=nonsense:1", "filter"), ("/v1/questions", "service"),
    ("/v1/questions?service=answers&days=91", "days"), ("/v1/audit?since=2026-11-29T09:00:00", "since"),
    ("/v1/flags/a%00b", "address"), ("/v1/flags?environment=%00", "address"), ("/v1/audit/0", "entry_id"),
    ("/v1/questions?service=answers&filters=day:9999-99-99", "day"),
]  # fmt: skip


def test_what_means_nothing_is_a_problem_that_names_its_field(deck):
    for path, field in WRONG:
        answer = deck.get(path)
        assert (path, answer.status_code, answer.json()["field"]) == (path, 400, field)
        assert answer.headers["content-type"] == "application/problem+json"


BODIES = [
    (b"x" * (MOST_BODY_BYTES + 1), "application/json", 413),
    (json.dumps(OFF).encode(), "text/plain", 415),
    (b'{"version": 1, "on": false, "reason": "\\ud800"}', "application/json", 400),
    (b'{"version": 1, "on": false, "reason": "a\\u0000b"}', "application/json", 400),
    (b'{"version": 1, "rollout_pct": NaN, "reason": "x"}', "application/json", 400),
    (b'{"version": 1, "on": false, "reason": "x", "admin": true}', "application/json", 400),
    (b'{"version": 1, "on": false, "reason": "  "}', "application/json", 400),
    (b"[" * 100_000, "application/json", 400), (b"", "application/json", 400), (b"\xff", "application/json", 400),
    (b'{"version": ' + b"9" * 5_000 + b', "on": false, "reason": "x"}', "application/json", 400),
]  # fmt: skip


def test_a_body_that_cannot_be_is_a_problem_and_changes_nothing(deck):
    before = deck.count_entries()
    for content, kind, status in BODIES:
        answer = deck.ask(**PATCH, content=content, headers={"Content-Type": kind})
        assert (content[:40], answer.status_code) == (content[:40], status), answer.text
        assert answer.headers["content-type"] == "application/problem+json"
    assert deck.count_entries() == before


def test_a_body_is_not_read_before_the_token_is_known(deck):
    answer = deck.ask("PATCH", "/v1/flags/use_hyde", content=b"{" * (MOST_BODY_BYTES + 1))
    assert (answer.status_code, answer.headers["www-authenticate"][:6]) == (401, "Bearer")


def test_unknown_paths_and_methods_are_problems_and_reach_no_page(deck):
    assert (deck.get("/v1/nothing").status_code, deck.get("/v1/nothing").json()["title"]) == (404, "Not Found")
    answer = deck.ask("DELETE", "/v1/verdict", token="editor")
    assert (answer.status_code, answer.headers["content-type"]) == (405, "application/problem+json")
    both = deck.ask("OPTIONS", "/v1/flags/use_hyde", token="editor")
    assert both.headers["allow"] == "DELETE, GET, PATCH, PUT"


def test_a_refusal_repeats_nothing_secret(deck):
    rule = {"url": "https://example.org/hook", "secret": "0123456789abcdef" * 20, "reason": "tell us"}
    answer = deck.put("/v1/alerts/drops", rule, token="admin")
    assert (answer.status_code, "0123456789abcdef" in answer.text) == (400, False)
