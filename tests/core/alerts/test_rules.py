import json
from pathlib import Path

import pytest

from core.alerts.channels import Channel, ChannelKind, check_url
from core.alerts.metrics import METRICS
from core.alerts.rules import (
    AlertKind,
    AlertRule,
    Level,
    LimitSide,
    WithoutData,
    convert_rule,
    read_rule,
    say_condition,
)
from core.errors import InvalidInput
from tests.core.alerts.receivers import SECRET

FORMER = json.loads((Path(__file__).parents[2] / "fixtures" / "alerts" / "release_0_1.json").read_text())
THRESHOLD = {"metric": "failed_share", "kind": AlertKind.THRESHOLD, "side": LimitSide.ABOVE, "alert": 0.05}


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("name", {"name": " "}),
        ("metric", {"metric": "mood"}),
        ("kind", {"metric": "coverage_gap"}),
        ("alert", {"alert": 0.5}),
        ("for_days", {"for_days": 2}),
        ("from_level", {"from_level": Level.OK}),
        ("alert", THRESHOLD | {"alert": None}),
        ("alert", THRESHOLD | {"alert": float("nan")}),
        ("warning", THRESHOLD | {"warning": 0.1}),
        ("warning", THRESHOLD | {"warning": 0.01, "side": LimitSide.BELOW}),
        ("for_days", THRESHOLD | {"for_days": 0}),
        ("no_data_days", THRESHOLD | {"no_data_days": 31}),
        ("for_days", THRESHOLD | {"metric": "coverage_gap", "for_days": 2}),
        ("service", {"metric": "canary", "service": "answers"}),
    ],
)
def test_a_wrong_rule_names_its_field(field: str, given: dict) -> None:
    with pytest.raises(InvalidInput, match=f"^{field}: "):
        AlertRule(**{"name": "ops"} | given)


@pytest.mark.parametrize("metric", [metric.name for metric in METRICS])
def test_every_metric_takes_a_threshold_and_is_kept_as_json(metric: str) -> None:
    rule = AlertRule(
        "ops", metric, AlertKind.THRESHOLD, side=LimitSide.ABOVE, warning=1.0, alert=2.5, no_data=WithoutData.ALERT,
        channels=("a", "b"),
    )  # fmt: skip
    assert read_rule(json.loads(json.dumps(rule.to_json()))) == rule
    assert say_condition(rule).startswith(rule.watched.title)


def test_a_limit_is_passed_on_its_side_only() -> None:
    above = AlertRule("ops", **THRESHOLD | {"warning": 0.02})
    assert [above.judge(value) for value in (0.02, 0.03, 0.05, 0.06)] == [
        Level.OK, Level.WARNING, Level.WARNING, Level.ALERT,
    ]  # fmt: skip
    below = AlertRule("ops", "volume", AlertKind.THRESHOLD, side=LimitSide.BELOW, alert=10)
    assert [below.judge(value) for value in (9, 10, 11)] == [Level.ALERT, Level.OK, Level.OK]


def test_rules_of_release_0_1_become_rules_by_verdict_with_a_channel_each() -> None:
    pairs = [convert_rule(told) for told in FORMER["alert_rules:production"]]
    assert [read_rule(rule) for rule, _ in pairs] == [
        AlertRule("ops", channels=("ops",)),
        AlertRule("early", service="answers", from_level=Level.WARNING, channels=("early",)),
        AlertRule("oldest", channels=("oldest",)),
    ]
    assert pairs[1][1] == {
        "name": "early", "kind": "webhook", "address": "https://example.org/early?token=t",
        "secret": "another secret of length",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("field", "kind", "address", "secret"),
    [
        ("url", ChannelKind.WEBHOOK, "file:///etc/passwd", SECRET),
        ("url", ChannelKind.WEBHOOK, "https://user:pass@example.org/", SECRET),
        ("secret", ChannelKind.WEBHOOK, "https://example.org/", "short"),
        ("secret", ChannelKind.WEBHOOK, "https://example.org/", ""),
        ("secret", ChannelKind.ALERTMANAGER, "https://example.org/", "short"),
        ("address", ChannelKind.APPRISE, "slack", ""),
        ("address", ChannelKind.APPRISE, "/etc/passwd", ""),
        ("address", ChannelKind.APPRISE, "syslog://local0", ""),
        ("address", ChannelKind.APPRISE, "DBus://", ""),
        ("address", ChannelKind.APPRISE, "json://host/\n", ""),
    ],
)
def test_a_wrong_channel_names_its_field(field: str, kind: ChannelKind, address: str, secret: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{field}: "):
        check_url(Channel("ops", kind, address, secret).address)


@pytest.mark.parametrize(
    ("kind", "address", "shown"),
    [
        (ChannelKind.WEBHOOK, "https://example.org/hook/s3cr3t?token=t", "https://example.org/…"),
        (ChannelKind.APPRISE, "mailtos://ada:s3cr3t@example.org", "mailtos://…"),
        (ChannelKind.APPRISE, "slack://s3cr3t/B/C/#ops", "slack://…"),
    ],
)
def test_an_address_is_never_shown_whole(kind: ChannelKind, address: str, shown: str) -> None:
    channel = Channel("ops", kind, address, SECRET)
    assert channel.shown == shown
    assert "s3cr3t" not in f"{channel!r}{channel.to_audit()}" and SECRET not in f"{channel!r}{channel.to_audit()}"
