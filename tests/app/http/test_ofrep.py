"""Flags over HTTP: OFREP's documents, its stock provider, ETags that depend on the context, and flagd's document."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest
import yaml
from openfeature import api as openfeature
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from sqlalchemy import select, text

from app.http import backends
from benchmarks.data import locate
from core.access.credentials import issue_token
from core.access.scopes import TokenScope
from core.audit.acts import Act
from core.flags.operations import create_flag, switch_flag
from core.flags.store import get_flag
from core.log.exposures import list_usage
from quarterdeck import Quarterdeck
from quarterdeck.definitions import boolean_flag, canary_flag, set_hash_version
from quarterdeck.documents import parse_document
from quarterdeck.rules import RuleOperator, TargetingRule
from quarterdeck.schema import flag_exposures
from quarterdeck.store import Store
from tests.api_server import FLAGS, Served, serving, wait_until

DOCUMENT = locate("conformance", "ofrep", "openapi.yaml")
ME = Act("ada", "because")
SIZES = {
    "state": "ENABLED",
    "variants": {"small": 1, "big": 100},
    "defaultVariant": "small",
    "metadata": {"team": "ui"},
}
SHARES = {"state": "ENABLED", "variants": {"low": 0.5, "high": 1}, "defaultVariant": "high"}
SETTINGS = {"state": "ENABLED", "variants": {"a": {"depth": 3}, "b": {}}, "defaultVariant": "a"}
NO_DEFAULT = {"state": "ENABLED", "variants": {"a": "A"}, "targeting": {"if": [{"var": "vip"}, "a"]}}
FOR_VIPS = boolean_flag(on=True, rollout_pct=0, rules=[TargetingRule("vip", RuleOperator.EQUALS, True, "on")])


@pytest.fixture
def served(url: str, store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path) -> Iterator[Served]:
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", url)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for key, definition in {
        "half": boolean_flag(on=True, rollout_pct=50), "vips": FOR_VIPS, "dark": boolean_flag(on=False),
        "answer-service": canary_flag(5), "sizes": SIZES, "shares": SHARES, "settings": SETTINGS,
        "no-default": NO_DEFAULT, "a/b ü": boolean_flag(on=True),
    }.items():  # fmt: skip
        create_flag(store, key, definition, ME)
    with serving(store) as running:
        yield running


def test_a_flag_is_answered_in_ofreps_words(served):
    answer = served.ask("sizes")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == {
        "key": "sizes", "reason": "STATIC", "variant": "small", "value": 1, "metadata": {"team": "ui"},
    }  # fmt: skip
    found = served.ask("vips", {"targetingKey": "u1", "vip": True}).json()
    assert (found["value"], found["variant"], found["reason"]) == (True, "on", "TARGETING_MATCH")
    assert served.ask("vips", {"targetingKey": "u1"}).json()["value"] is False
    assert served.ask("a%2Fb%20%C3%BC").json()["key"] == "a/b ü"


def test_a_number_of_a_flag_with_fractions_has_a_decimal_point(served):
    assert '"value":1.0' in served.ask("shares").text
    assert '"value":1,' in served.ask("sizes").text


def test_a_flag_that_is_off_or_has_no_default_leaves_the_value_to_the_code(served):
    assert served.ask("dark").json() | {"metadata": None} == {
        "key": "dark", "reason": "DISABLED", "variant": "", "metadata": None,
    }  # fmt: skip
    assert served.ask("no-default").json() == {"key": "no-default", "reason": "UNKNOWN", "variant": ""}


def test_every_user_gets_what_the_client_gives(served, url, tmp_path):
    with Quarterdeck(url, snapshot_path=tmp_path / "s.json") as deck, httpx2.Client() as http:
        for number in range(60):
            user = f"user-{number}"
            answer = http.post(f"{served.address}{FLAGS}/half", json={"context": {"targetingKey": user}}).json()
            assert answer["value"] is deck.is_enabled("half", user)


def test_an_unknown_flag_is_404_with_its_key(served):
    answer = served.ask("no_such_flag")
    assert answer.status_code == 404
    assert answer.json() == {
        "key": "no_such_flag", "errorCode": "FLAG_NOT_FOUND", "errorDetails": "flag 'no_such_flag' does not exist",
    }  # fmt: skip
    assert served.ask("x" * 10_000).status_code == 404


@pytest.mark.deep
@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        (b"", "PARSE_ERROR", "body"),
        (b"{", "PARSE_ERROR", "body"),
        (b"[" * 60_000, "PARSE_ERROR", "body"),
        (b"\xff\xfe", "PARSE_ERROR", "body"),
        (b"[]", "INVALID_CONTEXT", "context"),
        (b"{}", "INVALID_CONTEXT", "context"),
        (b'{"context": null}', "INVALID_CONTEXT", "context"),
        (b'{"context": {}}', "TARGETING_KEY_MISSING", "context.targetingKey"),
        (b'{"context": {"targetingKey": 5}}', "TARGETING_KEY_MISSING", "context.targetingKey"),
    ],
)
def test_a_wrong_request_is_400_with_a_code_and_the_fields_name(served, body, code, field):
    one, all_ = served.ask("half", json=None, content=body), served.ask(json=None, content=body)
    assert (one.status_code, all_.status_code) == (400, 400)
    assert (one.json()["key"], one.json()["errorCode"], all_.json()["errorCode"]) == ("half", code, code)
    assert one.json()["errorDetails"].startswith(f"{field}: ")
    assert all_.json()["errorDetails"] == one.json()["errorDetails"]


@pytest.mark.deep
def test_a_flag_that_cannot_be_evaluated_is_400_and_takes_no_other_down(served):
    with served.store.begin() as connection:
        connection.execute(text("UPDATE flags SET definition = 'no json' WHERE key = 'half'"))
        connection.execute(text("UPDATE settings SET version = version + 1"))
    assert wait_until(lambda: served.ask("half").status_code == 400)
    assert served.ask("half").json()["errorCode"] == "PARSE_ERROR"
    found = {each["key"]: each for each in served.ask().json()["flags"]}
    assert found["half"]["errorCode"] == "PARSE_ERROR"
    assert found["sizes"]["value"] == 1


def test_all_flags_are_answered_at_once(served):
    found = {each["key"]: each for each in served.ask().json()["flags"]}
    assert set(found) == {
        "half",
        "vips",
        "dark",
        "answer-service",
        "sizes",
        "shares",
        "settings",
        "no-default",
        "a/b ü",
    }
    for key in ("half", "sizes", "dark"):
        assert found[key] == served.ask(key).json()


@pytest.mark.deep
def test_the_tag_stands_for_flags_and_context(served):
    first = served.ask()
    tag = first.headers["etag"]
    for given in (tag, f"W/{tag}", tag.strip('"'), f'"other", {tag}'):
        again = served.ask(headers={"If-None-Match": given})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    other = served.ask(context={"targetingKey": "u1", "unused": 1}, headers={"If-None-Match": tag})
    assert other.status_code == 200
    assert other.json() == first.json()
    assert other.headers["etag"] != tag
    switch_flag(served.store, get_flag(served.store, "production", "sizes"), ME, on=False)
    assert wait_until(lambda: served.ask(headers={"If-None-Match": tag}).status_code == 200)


@pytest.mark.parametrize(("value", "status"), [("1771622898", 200), ("2026-02-20T21:28:18Z", 200), ("soon", 400)])
def test_what_event_streams_add_is_checked_and_nothing_more(served, value, status):
    assert served.ask(params={"flagConfigLastModified": value, "flagConfigEtag": "x"}).status_code == status


def test_other_methods_are_refused_by_the_api_and_not_answered_by_a_page(served):
    for path in (FLAGS, f"{FLAGS}/half"):
        answer = httpx2.get(f"{served.address}{path}")
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_one_flag_asked_for_counts_and_all_at_once_do_not(served):
    served.ask("half")
    served.ask()
    asyncio.run(backends.get_deck("production")).flush()
    usage = list_usage(served.store, "production", since=datetime(2020, 1, 1, tzinfo=UTC))
    assert {key: each.evaluations for key, each in usage.items()} == {"half": 1}


def test_users_of_an_experiment_are_reported_for_the_only_service_of_the_token(served):
    create_flag(served.store, "tried", SIZES | {"metadata": {"experiment": True}}, ME)
    secret, _ = issue_token(served.store, "search", [TokenScope.EVALUATE], ME, services=["answers"])
    mine = {"Authorization": f"Bearer {secret}"}
    assert wait_until(lambda: served.ask("tried", headers=mine).status_code == 200)
    asyncio.run(backends.get_deck("production", "answers")).flush()
    with served.store.read() as connection:
        found = connection.execute(select(flag_exposures.c.targeting_key, flag_exposures.c.service)).all()
    assert found == [("u1", "answers")]


def test_the_stock_provider_of_openfeature_reads_every_type(served):
    openfeature.set_provider_and_wait(OFREPProvider(served.address), "ofrep")
    try:
        client = openfeature.get_client("ofrep")
        vip = EvaluationContext("u1", {"vip": True})
        assert client.get_boolean_details("vips", False, vip).reason == "TARGETING_MATCH"
        assert client.get_boolean_value("vips", False, vip) is True
        assert client.get_boolean_value("a%2Fb%20%C3%BC", False, vip) is True
        assert client.get_string_value("answer-service", "?", vip) in ("blue", "green")
        assert client.get_integer_value("sizes", 0, vip) == 1
        assert client.get_float_value("shares", 0.0, vip) == 1.0
        assert client.get_object_value("settings", {}, vip) == {"depth": 3}
        assert client.get_integer_details("sizes", 0, vip).flag_metadata == {"team": "ui"}
        off = client.get_boolean_details("dark", True, vip)
        assert (off.value, off.reason, off.error_code) == (True, "DISABLED", None)
        assert client.get_string_details("no-default", "mine", EvaluationContext("u1")).value == "mine"
        assert client.get_boolean_details("no_such_flag", True, vip).error_code == "FLAG_NOT_FOUND"
        assert client.get_boolean_details("vips", True, EvaluationContext()).error_code == "TARGETING_KEY_MISSING"
        assert client.get_string_details("sizes", "mine", vip).error_code == "TYPE_MISMATCH"
    finally:
        openfeature.clear_providers()


def test_the_stock_provider_is_refused_without_a_token_and_let_in_with_one(served):
    secret, _ = issue_token(served.store, "search", [TokenScope.EVALUATE], ME)

    def ask(headers: dict[str, str]):
        openfeature.set_provider_and_wait(OFREPProvider(served.address, headers_factory=lambda: headers), "ofrep")
        try:
            return openfeature.get_client("ofrep").get_integer_details("sizes", 0, EvaluationContext("u1"))
        finally:
            openfeature.clear_providers()

    assert wait_until(lambda: ask({}).error_message == "unauthorized")
    assert ask({"Authorization": f"Bearer {secret}"}).value == 1


def test_a_fleet_gets_the_flags_and_then_304_until_one_changes(served):
    address = f"{served.address}/flagd/flags.json"
    first = httpx2.get(address)
    assert first.headers["content-type"] == "application/json"
    assert parse_document(first.content)["flags"]["sizes"] == SIZES
    known = {"If-None-Match": first.headers["etag"]}
    assert httpx2.get(address, headers=known).status_code == 304
    switch_flag(served.store, get_flag(served.store, "production", "half"), ME, on=False)
    assert wait_until(lambda: httpx2.get(address, headers=known).status_code == 200)


def test_a_fleet_names_its_bucketing_and_is_told_what_it_cannot_be_given(served):
    address = f"{served.address}/flagd/flags.json"
    older = set_hash_version(boolean_flag(on=True, rollout_pct=50), "fractional-v2")
    create_flag(served.store, "older", older, ME)
    assert wait_until(lambda: "older" in httpx2.get(address).json().get("leftOut", {}))
    cbor, string = (httpx2.get(address, params={"bucketing": name}) for name in ("cbor", "string"))
    assert httpx2.get(address).content == cbor.content
    assert ("half" in cbor.json()["flags"], "half" in string.json()["flags"]) == (True, False)
    assert "buckets users by fractional-v3" in string.json()["leftOut"]["half"]
    assert string.json()["flags"]["older"] == older
    assert cbor.headers["etag"] != string.headers["etag"]
    wrong = httpx2.get(address, params={"bucketing": "md5"})
    assert (wrong.status_code, wrong.json()) == (400, {"error": "bucketing: give string or cbor, not 'md5'"})


@pytest.mark.deep
def test_an_environment_is_chosen_by_the_token_or_on_an_open_deck_by_name(served):
    create_flag(served.store, "sizes", SIZES | {"defaultVariant": "big"}, replace(ME, environment="staging"))
    address = f"{served.address}/flagd/flags.json"
    staging = httpx2.get(address, params={"environment": "staging"}).json()["flags"]
    assert staging == {"sizes": SIZES | {"defaultVariant": "big"}}
    missing = httpx2.get(address, params={"environment": "nowhere"})
    assert (missing.status_code, missing.json()) == (404, {"error": "environment: there is no 'nowhere'"})
    secret, _ = issue_token(served.store, "stage", [TokenScope.EVALUATE], replace(ME, environment="staging"))
    mine = {"Authorization": f"Bearer {secret}"}
    assert wait_until(lambda: served.ask("sizes").status_code == 401)
    assert served.ask("sizes", headers=mine).json()["value"] == 100
    assert httpx2.get(address, headers=mine).json()["flags"] == staging
    other = httpx2.get(address, headers=mine, params={"environment": "production"})
    assert (other.status_code, other.json()) == (
        403, {"error": "environment: the token 'stage' is for staging alone"},
    )  # fmt: skip


@pytest.mark.deep
def test_the_last_good_flags_answer_while_the_store_is_gone(served, url):
    assert served.ask("sizes").json()["value"] == 1
    with served.store.begin() as connection:
        connection.execute(text("ALTER TABLE settings RENAME TO away"))
        connection.execute(text("ALTER TABLE tokens RENAME TO gone"))
    time.sleep(1.2)
    assert served.ask("sizes").json()["value"] == 1


def test_flags_that_were_never_read_are_500_in_one_line(url, store, monkeypatch, tmp_path):
    monkeypatch.setenv("QUARTERDECK_DATABASE_URL", url)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with store.begin() as connection:
        connection.execute(text("ALTER TABLE flags RENAME TO away"))
    with serving(store) as running:
        answer = running.ask("sizes")
        assert (answer.status_code, list(answer.json())) == (500, ["errorDetails"])
        assert "cannot be read yet" in answer.json()["errorDetails"]
        assert httpx2.get(f"{running.address}/flagd/flags.json").status_code == 503


def test_text_that_is_half_a_character_breaks_nothing(served):
    create_flag(served.store, "odd", {**NO_DEFAULT, "targeting": {"if": [True, {"var": "name"}]}}, ME)
    body = b'{"context": {"targetingKey": "u1", "name": "\\ud800"}}'
    assert wait_until(lambda: served.ask("odd", json=None, content=body).status_code == 400)
    assert json.loads(served.ask("odd", json=None, content=body).content)["errorCode"] == "PARSE_ERROR"


@pytest.mark.deep
@pytest.mark.slow
def test_the_document_of_ofrep_holds_for_whatever_schemathesis_sends(served, tmp_path):
    if not DOCUMENT.is_file():
        pytest.skip(f"OFREP's document is not at {DOCUMENT}")
    mended = tmp_path / "openapi.yaml"
    mended.write_text(yaml.safe_dump(mend(yaml.safe_load(DOCUMENT.read_text(encoding="utf-8")))))
    secret, _ = issue_token(served.store, "search", [TokenScope.EVALUATE], ME)
    done = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"), "run", mended, "--url", served.address, "--checks", "all",
            "--max-examples", "10", "--seed", "1", "--header", f"Authorization: Bearer {secret}",
        ],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No issues found" in done.stdout


def mend(document: dict) -> dict:
    """OFREP's schema, corrected where its own examples fail it.

    A value is of one type and always also "no value", so that `oneOf` never holds; and a flag that does not exist is
    among its examples of a bulk answer, but not among the schemas.
    """

    def any_of(part):
        if isinstance(part, dict):
            return {"anyOf" if name == "oneOf" else name: any_of(item) for name, item in part.items()}
        return [any_of(item) for item in part] if isinstance(part, list) else part

    schemas = document["components"]["schemas"] = any_of(document["components"]["schemas"])
    items = schemas["bulkEvaluationSuccess"]["properties"]["flags"]["items"]
    items["anyOf"].append({"$ref": "#/components/schemas/flagNotFound"})
    return document
