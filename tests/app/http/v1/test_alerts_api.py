"""Alerts over HTTP: channels without their secrets, rules, states, what people do to them, and a backtest."""

from datetime import UTC, datetime, timedelta

import pytest

from core.alerts.checking import check_alerts
from tests.core.alerts.receivers import SECRET, Listener

RULE = {"metric": "failed_share", "side": "above", "alert": 0.1, "channels": ["ops"], "reason": "they matter"}


def test_a_rule_with_a_channel_is_saved_seen_and_removed(deck):
    with Listener() as listener:
        channel = {"address": f"{listener.url}/hidden", "secret": SECRET, "reason": "on call"}
        assert deck.put("/v1/alert-channels/ops", channel, token="editor").status_code == 403
        assert deck.put("/v1/alert-channels/ops", channel, token="admin").json()["action"] == "alert.channel"
        assert deck.post("/v1/alert-channels/ops/test", {"reason": "try"}, token="admin").status_code == 200
        assert len(listener.requests) == 1
    assert deck.put("/v1/alerts/failures", RULE, token="admin").status_code == 200
    [rule] = deck.get("/v1/alerts", token="reader").json()["items"]
    told = [rule[field] for field in ("metric", "kind", "alert", "channels")]
    assert told == ["failed_share", "threshold", 0.1, ["ops"]]
    for path in ("/v1/alerts", "/v1/alert-channels", "/v1/alert-states", "/v1/alert-deliveries"):
        answer = deck.get(path, token="reader")
        assert answer.status_code == 200, answer.text
        assert SECRET not in answer.text and "hidden" not in answer.text
    [sent] = deck.get("/v1/alert-deliveries", token="reader").json()["items"]
    assert (sent["outcome"], sent["next_attempt"]) == ("sent", None)
    assert deck.ask("DELETE", "/v1/alert-channels/ops?reason=gone", token="admin").status_code == 400
    assert deck.ask("DELETE", "/v1/alerts/failures?reason=gone", token="admin").status_code == 200
    assert deck.ask("DELETE", "/v1/alert-channels/ops?reason=gone", token="admin").status_code == 200


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"metric": "mood"}, "metric"),
        ({"metric": "coverage_gap", "alert": None}, "kind"),
        ({"channels": ["nobody"]}, "channels"),
        ({"from_status": "stable"}, "from_status"),
        ({"url": "https://example.org/", "secret": "short"}, "secret"),
    ],
)
def test_a_wrong_rule_names_its_field(deck, change, field):
    answer = deck.put("/v1/alerts/failures", RULE | {"channels": []} | change, token="admin")
    assert (answer.status_code, field in answer.json()["detail"]) == (400, True), answer.text


def test_an_alert_is_snoozed_and_resolved_by_an_editor(deck):
    rule = {"metric": "volume", "alert": 1e9, "channels": [], "reason": "try"}
    assert deck.put("/v1/alerts/few", rule, token="admin").status_code == 200
    check_alerts(deck.store, "production", now=datetime.now(UTC) + timedelta(days=1))
    states = deck.get("/v1/alert-states", token="reader").json()["items"]
    assert {(each["rule"], each["service"], each["state"], each["value"]) for each in states} == {
        ("few", "answers", "firing", 7.0), ("few", "billing", "firing", 7.0),
    }  # fmt: skip
    about = {"service": "answers", "reason": "known"}
    assert deck.post("/v1/alerts/few/snooze", about | {"hours": 50}, token="editor").status_code == 200
    assert deck.post("/v1/alerts/few/resolve", about | {"service": "billing"}, token="editor").status_code == 200
    assert deck.post("/v1/alerts/few/resolve", about | {"service": "billing"}, token="editor").status_code == 400
    assert deck.post("/v1/alerts/few/resolve", about | {"service": "nobody"}, token="editor").status_code == 404
    assert deck.post("/v1/alerts/few/snooze", about, token="reader").status_code == 403
    states = deck.get("/v1/alert-states", token="reader").json()["items"]
    assert {(each["service"], each["state"]) for each in states} == {("answers", "snoozed"), ("billing", "resolved")}


def test_a_backtest_is_told_in_a_sentence(deck):
    found = deck.get("/v1/alert-backtest?service=answers&metric=failed_share&side=above&alert=0.1", token="reader")
    assert found.status_code == 200, found.text
    assert found.json()["sentence"].startswith("It would not have alerted in 90 days. Expected false alarms: 0 quiet")
    verdict = deck.get("/v1/alert-backtest?service=answers", token="reader").json()
    assert (verdict["false_alarms_a_year"], verdict["alarms"]) == (0.5, [])
    refused = deck.get("/v1/alert-backtest?service=answers&metric=canary", token="reader")
    assert (refused.status_code, "no history" in refused.text) == (400, True)
