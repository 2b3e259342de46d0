"""The bodies that are sent. Alertmanager's is held against the schema of its webhook, version 4."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from core.alerts.messages import (
    NEVER,
    compose_message,
    compose_test,
    make_key,
    make_title,
    write_alertmanager,
    write_text,
    write_webhook,
)
from core.alerts.rules import AlertKind, AlertRule, LimitSide
from core.alerts.states import AlertState, AlertStatus, Told
from quarterdeck.clock import to_ms
from quarterdeck.scope import Scope
from tests.core.alerts.receivers import NOW

SCHEMA = json.loads((Path(__file__).parents[2] / "fixtures" / "alerts" / "alertmanager_webhook_v4.json").read_text())
VALID = Draft202012Validator(SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER)
RULE = AlertRule('on "call"', "failed_share", AlertKind.THRESHOLD, side=LimitSide.ABOVE, alert=0.05)
SCOPE = Scope("production", "answers")
FIRING = AlertState(AlertStatus.FIRING, alarmed_ms=to_ms(NOW) - 5_000, value=0.12, reason="12% failed ä")
BASE = "https://deck.example.org"


def message_of(state: AlertState = FIRING, status: AlertStatus = AlertStatus.FIRING):
    return compose_message(RULE, state, Told(status), scope=SCOPE, now=NOW)


@pytest.mark.parametrize("base", ["", BASE])
@pytest.mark.parametrize("status", [AlertStatus.FIRING, AlertStatus.WARNING, AlertStatus.NO_DATA, AlertStatus.RESOLVED])
def test_alertmanagers_format_holds_its_schema(status: AlertStatus, base: str) -> None:
    body = json.loads(write_alertmanager(message_of(status=status), receiver="pager", base=base))
    VALID.validate(body)
    alert = body["alerts"][0]
    assert alert["status"] == body["status"] == ("resolved" if status is AlertStatus.RESOLVED else "firing")
    assert (alert["endsAt"] == NEVER) == (status is not AlertStatus.RESOLVED)
    assert alert["startsAt"] == "2026-03-20T11:59:55+00:00"
    assert body["groupKey"] == '{}:{alertname="on \\"call\\"", environment="production", service="answers"}'


def test_a_test_holds_the_schema_as_well() -> None:
    told = compose_test("pager", environment="production", now=NOW)
    VALID.validate(json.loads(write_alertmanager(told, receiver="pager", base=BASE)))
    assert "Nothing is wrong" in write_text(told, base=BASE)


def test_the_schema_refuses_what_alertmanager_never_sends() -> None:
    body = json.loads(write_alertmanager(message_of(), receiver="pager", base=BASE))
    for change in ({"version": 4}, {"status": "warning"}, {"alerts": []}, {"commonLabels": {"value": 0.5}}):
        assert not VALID.is_valid({**body, **change})


def test_the_key_stays_from_the_first_message_to_the_last_and_is_another_for_each_alert() -> None:
    worse = message_of(replace(FIRING, told=Told(AlertStatus.WARNING)))
    over = message_of(replace(FIRING, told=Told(AlertStatus.FIRING)), AlertStatus.RESOLVED)
    warned = message_of(status=AlertStatus.WARNING)
    assert {each["key"] for each in (warned, worse, over)} == {make_key(SCOPE, RULE.name)}
    others = {make_key(scope, name) for scope in (SCOPE, Scope("staging", "answers")) for name in ("a", "b")}
    assert len(others) == 4
    assert (warned["level"], worse["level"], over["level"]) == ("warning", "critical", "critical")


def test_people_read_why_since_when_and_where_to_look() -> None:
    assert make_title(message_of()) == '[FIRING] answers in production: on "call"'
    said = write_text(message_of(), base=BASE)
    assert "12% failed ä" in said and "Share that failed above 5.0%" in said
    assert f"{BASE}/alerts?environment=production&service=answers" in said
    assert "http" not in write_text(message_of(), base="")


def test_a_webhook_gets_the_fields_of_release_0_1() -> None:
    body = json.loads(write_webhook(message_of(), sent=NOW))
    former = {
        "event", "rule", "environment", "service", "status", "reason", "action", "changed_on", "recent_avg_score",
        "baseline_avg_score", "delta", "questions", "sent",
    }  # fmt: skip
    assert former <= set(body)
    assert (body["event"], body["value"], body["metric"], body["state"]) == ("alert", 0.12, "failed_share", "firing")
