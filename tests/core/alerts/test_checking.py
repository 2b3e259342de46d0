"""Alerts from the log to a receiver: what is told, once, in order, after failures, restarts and kills."""

import hmac
import json
import multiprocessing
import os
import signal
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from core.alerts.book import get_queue, read_book, read_states
from core.alerts.checking import check_alerts
from core.alerts.delivery import deliver_alerts
from core.alerts.operations import (
    delete_alert_rule,
    delete_channel,
    resend_message,
    resolve_alert,
    save_alert_rule,
    save_webhook_rule,
    snooze_alert,
    try_channel,
)
from core.alerts.queue import SendOutcome
from core.alerts.report import count_undelivered, list_deliveries, report_alerts
from core.alerts.rules import AlertKind, AlertRule, LimitSide, WithoutData
from core.alerts.states import AlertStatus
from core.alerts.values import AlertSources
from core.alerts.webhooks import post_signed
from core.audit.acts import Act
from core.audit.settings import Family, get_setting, save_setting, setting_key
from core.audit.trail import list_audit
from core.errors import InvalidInput, NotFound, SourceUnavailable
from core.log.scores import apply_scores
from core.metrics.definition import MetricDefinition, MetricSource, Statistic
from core.metrics.operations import add_metric, remove_metric
from core.rollouts.canary import CanaryCall, CanaryVerdict
from quarterdeck.clock import to_ms
from quarterdeck.exposures import store_scores
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import Scope
from quarterdeck.store import Store
from tests.core.alerts.receivers import ANSWERS, ME, NOW, SECRET, Listener, add_channel, add_rule, drop, fail

MINUTE = timedelta(minutes=1)
SHARE = {"metric": "failed_share", "kind": AlertKind.THRESHOLD, "side": LimitSide.ABOVE, "alert": 0.05}
FORMER = json.loads((Path(__file__).parents[2] / "fixtures" / "alerts" / "release_0_1.json").read_text())


def keep(into: list):
    """A receiver in this process."""

    def send(channel, message, _base):
        into.append((channel.name, message["service"], message["state"]))

    return send


def run(store: Store, *, now=NOW, environment: str = "production", send=None) -> tuple[str, ...]:
    """Check and deliver, as the server does."""
    check_alerts(store, environment, now=now)
    return deliver_alerts(store, environment, now=now, **({"send": send} if send else {}))


def test_the_body_is_signed_and_a_busy_listener_is_tried_again():
    waits = []
    with Listener(503, 429) as listener:
        tries = post_signed(listener.url, {"a": "ä"}, SECRET, clock=lambda: 1_700_000_000.5, sleep=waits.append)
    assert (tries, waits, len(listener.requests)) == (3, [1.0, 2.0], 3)
    for headers, body in listener.requests:
        assert json.loads(body) == {"a": "ä"}
        expected = hmac.new(SECRET.encode(), b"1700000000." + body, sha256).hexdigest()
        assert headers["X-Quarterdeck-Signature"] == f"sha256={expected}"
        assert headers["X-Quarterdeck-Timestamp"] == "1700000000"


@pytest.mark.parametrize(("codes", "requests"), [((404,), 1), ((302,), 1), ((500, 500, 500), 3)])
def test_a_refusal_is_reported_in_one_line(codes, requests):
    with Listener(*codes) as listener:
        with pytest.raises(SourceUnavailable, match=f"was not reached: it answered {codes[0]}"):
            post_signed(listener.url + "?token=hidden", {}, SECRET, sleep=lambda _s: None)
    assert len(listener.requests) == requests


def test_a_dead_address_is_reported_without_its_query():
    with pytest.raises(SourceUnavailable) as caught:
        post_signed("http://127.0.0.1:1/hook?token=hidden", {}, SECRET, sleep=lambda _s: None)
    assert "hidden" not in str(caught.value)


def test_rules_and_channels_are_audited_without_their_secrets(store):
    add_rule(store, "ops", "https://example.org/hidden")
    book = read_book(store, "production")
    assert (book.rules, [each.name for each in book.channels]) == ((AlertRule("ops", channels=("ops",)),), ["ops"])
    with pytest.raises(InvalidInput, match="the rules ops use ops"):
        delete_channel(store, "ops", ME)
    delete_alert_rule(store, "ops", ME)
    delete_channel(store, "ops", ME)
    assert read_book(store, "production").rules == read_book(store, "production").channels == ()
    entries = list_audit(store)
    assert [entry.action for entry in entries] == [
        "alert.channel_delete", "alert.delete", "alert.save", "alert.channel",
    ]  # fmt: skip
    assert SECRET not in repr(entries) and "hidden" not in repr(entries)
    for remove in (delete_alert_rule, delete_channel):
        with pytest.raises(NotFound, match="'ops'"):
            remove(store, "ops", ME)
    with pytest.raises(InvalidInput, match="^channels: there is no channel 'pager'"):
        save_alert_rule(store, AlertRule("ops", channels=("pager",)), ME)


def test_a_rule_with_a_webhook_of_its_own_is_saved_in_one_change(store):
    save_webhook_rule(store, AlertRule("ops"), url="https://example.org/a", secret=SECRET, by=ME)
    save_webhook_rule(store, AlertRule("ops", service="answers"), url="https://example.org/b", secret=SECRET, by=ME)
    book = read_book(store, "production")
    assert book.rules == (AlertRule("ops", service="answers", channels=("ops",)),)
    assert [channel.address for channel in book.channels] == ["https://example.org/b"]
    with pytest.raises(InvalidInput, match="^url: "):
        save_webhook_rule(store, AlertRule("x"), url="http://ex ample/", secret=SECRET, by=ME)


@pytest.mark.deep
def test_a_real_drop_reaches_a_real_listener_once_even_after_failures(store):
    drop(store)
    with Listener(500, 200) as listener:
        add_rule(store, "ops", listener.url)
        assert "it answered 500" in run(store)[0]
        assert run(store) == ()  # the next attempt is later
        assert run(store, now=NOW + MINUTE) == ("ops: sent [FIRING] answers in production: ops",)
        assert run(store, now=NOW + 2 * MINUTE) == ()
        assert len(listener.requests) == 2
        message = json.loads(listener.requests[-1][1])
    assert (message["status"], message["changed_on"], message["state"]) == ("drifting", "2026-03-15", "firing")
    assert message["questions"] == "/questions?low=1&since=2026-03-15&environment=production&service=answers"
    headers, body = listener.requests[-1]
    expected = hmac.new(SECRET.encode(), f"{headers['X-Quarterdeck-Timestamp']}.".encode() + body, sha256).hexdigest()
    assert headers["X-Quarterdeck-Signature"] == f"sha256={expected}"


def test_a_threshold_fires_for_its_days_and_is_resolved(store):
    fail(store, days={3: 5, 2: 5})
    add_rule(store, "failures", **SHARE, for_days=2)
    told = []
    for at in (2, 1, 0):
        run(store, now=NOW - timedelta(days=at), send=keep(told))
    assert told == [("failures", "answers", "firing"), ("failures", "answers", "resolved")]
    [line] = report_alerts(store, "production", now=NOW).lines
    assert (line.shown, line.state.value) == (AlertStatus.RESOLVED, 0.0)
    assert [each.status for each in line.state.history] == [AlertStatus.FIRING, AlertStatus.RESOLVED]
    assert "was 25.0% on 2026-03-18, above 5.0%, 2 days in a row" in line.state.history[0].reason


def test_a_service_that_falls_silent_is_told_where_the_rule_asks_for_it(store):
    fail(store, days={})
    add_rule(store, "silent", **SHARE, no_data=WithoutData.ALERT, no_data_days=2)
    add_rule(store, "few", metric="volume", kind=AlertKind.THRESHOLD, alert=10)
    told = []
    for ahead in (0, 1, 2):
        run(store, now=NOW + timedelta(days=ahead), send=keep(told))
    assert told == [("few", "answers", "firing"), ("silent", "answers", "no data")]


def test_a_restart_between_two_attempts_loses_nothing(url):
    with closing(Store(url, create=True)) as store, Listener(500) as listener:
        fail(store, days={1: 5})
        add_rule(store, "ops", listener.url, **SHARE)
        run(store)
    with closing(Store(url)) as store:
        queue, _ = get_queue(store, "production", "ops")
        assert (queue[0].attempts, queue[0].outcome) == (1, SendOutcome.WAITING)
        assert queue[0].problem.endswith("it answered 500")
        assert count_undelivered(list_deliveries(store, "production")[0]) == (1, 0)
        told = []
        deliver_alerts(store, "production", now=NOW + MINUTE, send=keep(told))
        assert told == [("ops", "answers", "firing")]


def test_a_message_whose_sender_died_while_it_sent_is_sent_by_another(url):
    with closing(Store(url, create=True)) as store:
        fail(store, days={1: 5})
        add_rule(store, "ops", **SHARE)

    def die(_channel, _message, _base):
        os.kill(os.getpid(), signal.SIGKILL)

    def check():
        with closing(Store(url)) as store:
            run(store, send=die)

    sender = multiprocessing.get_context("fork").Process(target=check)
    sender.start()
    sender.join()
    assert sender.exitcode == -signal.SIGKILL
    sent = []
    with closing(Store(url)) as store:
        for later in (timedelta(seconds=30), 3 * MINUTE, 4 * MINUTE):
            run(store, now=NOW + later, send=lambda *_, at=later: sent.append(at))
    assert sent == [3 * MINUTE]


def test_an_alert_is_of_its_own_environment_and_about_its_own_service_only(store):
    fail(store, days={1: 5}, scope=Scope("staging", "answers"))
    fail(store, days={})
    fail(store, days={1: 5}, scope=Scope("production", "search"))
    told = []
    for name, service in (("all", ""), ("answers", "answers")):
        add_rule(store, name, **SHARE, service=service)
    assert check_alerts(store, "production", now=NOW) == ("all: share that failed of search is firing",)
    assert check_alerts(store, "staging", now=NOW) == ()
    deliver_alerts(store, "production", now=NOW, send=keep(told))
    assert told == [("all", "search", "firing")]
    add_rule(store, "there", by=replace(ME, environment="staging"), **SHARE)
    assert check_alerts(store, "staging", now=NOW) == ("there: share that failed of answers is firing",)
    assert check_alerts(store, "production", now=NOW) == ()


def test_rules_of_release_0_1_go_on_as_they_were_and_tell_nothing_twice(store):
    drop(store)
    with store.begin() as connection:
        for name, value in FORMER.items():
            save_setting(connection, name, value, expected_version=0)
    assert [rule.name for rule in read_book(store, "production").rules] == ["early", "oldest", "ops"]
    told = []
    run(store, send=keep(told))
    assert sorted(told) == [("early", "answers", "firing"), ("oldest", "answers", "firing")]
    delete_alert_rule(store, "early", ME)
    book = read_book(store, "production")
    assert ([rule.name for rule in book.rules], [c.name for c in book.channels]) == (
        ["oldest", "ops"], ["early", "oldest", "ops"],
    )  # fmt: skip
    assert book.find_channel("ops").secret == SECRET
    assert get_setting(store, setting_key(Family.ALERT_RULES, "production")).version == 1


def test_a_rule_a_channel_and_a_queue_that_cannot_be_read_stop_no_other(store):
    fail(store, days={1: 5})
    for name in ("bad", "good", "other"):
        add_rule(store, name, **SHARE)
    key = setting_key(Family.ALERTS, "production")
    stored, version = get_setting(store, key)
    stored["rules"][0] = {"name": "bad", "metric": "mood", "kind": 7}
    stored["channels"][2]["kind"] = "pigeon"
    with store.begin() as connection:
        save_setting(connection, key, stored, expected_version=version)
        save_setting(connection, "alert_queue:production:bad", [{"broken": True}], expected_version=0)
    lines = check_alerts(store, "production", now=NOW)
    assert [line.partition(":")[0] for line in lines] == ["rule 'bad'", "channel 'other'", "good", "other"]
    told = []
    lines = deliver_alerts(store, "production", now=NOW, send=keep(told))
    assert told == [("good", "answers", "firing")]
    assert lines[0].startswith("bad: deliveries: cannot be read")
    add_rule(store, "new")
    assert get_setting(store, key).value["rules"][0] == {"name": "bad", "metric": "mood", "kind": 7}
    assert list_deliveries(store, "production")[1] == (lines[0],)


def test_a_queue_that_cannot_be_read_hides_no_alarm_from_other_channels_and_goes_with_its_channel(store):
    fail(store, days={1: 5})
    for name in ("bad", "good", "odd"):
        add_channel(store, name)
    save_alert_rule(store, AlertRule("ops", **SHARE, channels=("bad", "good")), ME)
    waits = {"number": 1, "key": "a", "title": "a", "made_ms": 0, "message": {}, "outcome": "waiting", "next_ms": None}
    with store.begin() as connection:
        save_setting(connection, "alert_queue:production:bad", [{"broken": True}], expected_version=0)
        save_setting(connection, "alert_queue:production:odd", [waits], expected_version=0)
    assert check_alerts(store, "production", now=NOW) == ("ops: share that failed of answers is firing",)
    told = []
    lines = deliver_alerts(store, "production", now=NOW, send=keep(told))
    assert told == [("good", "answers", "firing")]
    assert [line.partition(":")[0] for line in lines] == ["bad", "good", "odd"]
    delete_alert_rule(store, "ops", ME)
    delete_channel(store, "bad", ME)
    assert get_queue(store, "production", "bad")[0] == ()


def test_a_rule_of_release_0_1_that_cannot_be_read_stops_no_other_and_shows_no_secret(store):
    good = {"name": "ops", "url": "https://example.org/hidden", "secret": SECRET}
    key = setting_key(Family.ALERT_RULES, "production")
    with store.begin() as connection:
        save_setting(connection, key, [{**good, "name": "two\nlines"}, good, "text"], expected_version=0)
    book = read_book(store, "production")
    assert [rule.name for rule in book.rules] == ["ops"]
    assert [problem.partition(":")[0] for problem in book.problems] == [r"rule 'two\nlines'", "rule without a name"]
    delete_alert_rule(store, "two\nlines", ME)
    assert [rule.name for rule in read_book(store, "production").rules] == ["ops"]
    assert SECRET not in repr(list_audit(store)) and "hidden" not in repr(list_audit(store))


def test_a_claim_is_as_old_as_its_attempt_however_long_the_run_takes(store):
    for service in ("answers", "search"):
        fail(store, days={1: 5}, scope=Scope("production", service))
    add_rule(store, "ops", **SHARE)
    check_alerts(store, "production", now=NOW)
    passed, claims = [0.0], []

    def send(*_):
        queue, _ = get_queue(store, "production", "ops")
        claims.append(max(each.claimed_ms for each in queue) - to_ms(NOW))
        passed[0] += 4

    deliver_alerts(store, "production", now=NOW, send=send, clock=lambda: passed[0])
    assert claims == [0, 4_000]


def test_a_slow_receiver_holds_a_run_up_for_one_message(store):
    for service in ("answers", "search"):
        fail(store, days={1: 5}, scope=Scope("production", service))
    add_rule(store, "ops", **SHARE)
    check_alerts(store, "production", now=NOW)
    passed, sent = [0.0], []

    def send(_channel, message, _base):
        sent.append(message["service"])
        passed[0] += 10

    for expected in (1, 2):
        deliver_alerts(store, "production", now=NOW, send=send, clock=lambda: passed[0])
        assert len(sent) == expected
    assert sorted(sent) == ["answers", "search"]


def test_a_metric_that_cannot_be_read_stops_no_other_rule(store):
    fail(store, days={1: 5})
    add_rule(store, "a-canaries", metric="canary")
    add_rule(store, "ops", **SHARE)
    lines = check_alerts(store, "production", now=NOW)
    assert lines == ("a-canaries: metric: canaries are not read here", "ops: share that failed of answers is firing")

    def fails(_environment):
        raise RuntimeError("out of order")

    lines = check_alerts(store, "production", now=NOW, sources=AlertSources(canaries=fails))
    assert lines == ("a-canaries: RuntimeError: out of order",)


def test_a_canary_to_roll_back_is_told_by_its_verdict_and_by_a_threshold(store):
    add_rule(store, "verdict", metric="canary")
    add_rule(store, "count", metric="canary", kind=AlertKind.THRESHOLD, side=LimitSide.ABOVE, alert=0)
    sources = AlertSources(canaries=lambda _environment: {"new": CanaryVerdict(CanaryCall.ROLL_BACK, "it harms")})
    lines = check_alerts(store, "production", now=NOW, sources=sources)
    assert lines == ("count: canaries to roll back is firing", "verdict: canaries to roll back is firing")
    told = []
    deliver_alerts(store, "production", now=NOW, send=keep(told))
    assert told == [("count", "default", "firing"), ("verdict", "default", "firing")]


def test_people_snooze_and_resolve_an_alert(store):
    fail(store, days={1: 5})
    add_rule(store, "ops", **SHARE)
    check_alerts(store, "production", now=NOW)
    told = []
    snooze_alert(store, "ops", "answers", ME, until=NOW + timedelta(days=1), now=NOW)
    assert [line.shown for line in report_alerts(store, "production", now=NOW).lines] == [AlertStatus.SNOOZED]
    resolve_alert(store, "ops", "answers", ME, now=NOW + MINUTE)
    run(store, now=NOW + 2 * MINUTE, send=keep(told))
    assert told == [("ops", "answers", "firing"), ("ops", "answers", "resolved")]
    states, _ = read_states(store, "production", "ops")
    assert [each.by for each in states["answers"].history] == ["", "ada", "ada"]
    with pytest.raises(InvalidInput, match="^alert: ops is resolved"):
        resolve_alert(store, "ops", "answers", ME, now=NOW)
    with pytest.raises(InvalidInput, match="^until: "):
        snooze_alert(store, "ops", "answers", ME, until=NOW + timedelta(days=400), now=NOW)
    for rule, service in (("nobody", "answers"), ("ops", "nobody")):
        with pytest.raises(NotFound):
            resolve_alert(store, rule, service, ME, now=NOW)
    assert [entry.action for entry in list_audit(store)][:2] == ["alert.resolve", "alert.snooze"]


@pytest.mark.deep
def test_a_rule_that_is_removed_tells_that_its_alarms_are_over(store):
    for service in ("answers", "search"):
        fail(store, days={1: 5}, scope=Scope("production", service))
    add_rule(store, "ops", **SHARE)
    told = []
    run(store, send=keep(told))
    delete_alert_rule(store, "ops", Act("ada", "not needed", at=NOW))
    run(store, send=keep(told))
    assert told == [("ops", service, state) for state in ("firing", "resolved") for service in ("answers", "search")]


def test_an_edit_of_a_rule_that_fires_tells_the_channels_that_leave_and_those_that_come(store):
    fail(store, days={1: 5})
    for name in ("stays", "leaves", "comes"):
        add_channel(store, name)
    rule, told = AlertRule("ops", channels=("stays", "leaves"), **SHARE), []
    act = replace(ME, at=NOW)
    save_alert_rule(store, rule, act)
    run(store, send=keep(told))
    told.clear()
    save_alert_rule(store, replace(rule, channels=("stays", "comes"), alert=0.04), act)
    run(store, send=keep(told))
    assert sorted(told) == [("comes", "answers", "firing"), ("leaves", "answers", "resolved")]
    told.clear()
    resolve_alert(store, "ops", "answers", ME, now=NOW)
    run(store, send=keep(told))
    assert sorted(told) == [("comes", "answers", "resolved"), ("stays", "answers", "resolved")]


def test_an_edit_of_a_rule_that_is_quiet_tells_nobody(store):
    fail(store, days={})
    for name in ("leaves", "comes"):
        add_channel(store, name)
    told = []
    for channel in ("leaves", "comes"):
        save_alert_rule(store, AlertRule("ops", channels=(channel,), **SHARE), ME)
        run(store, send=keep(told))
    assert told == []


def test_a_rule_that_turns_to_another_metric_ends_its_alarm_about_the_former(store):
    fail(store, days={1: 5})
    for name in ("leaves", "comes"):
        add_channel(store, name)
    told, rule = [], AlertRule("ops", channels=("leaves",), **SHARE)
    save_alert_rule(store, rule, replace(ME, at=NOW))
    run(store, send=keep(told))
    save_alert_rule(store, replace(rule, metric="volume", alert=1.0, channels=("comes",)), replace(ME, at=NOW))
    run(store, send=keep(told))
    assert told[0] == ("leaves", "answers", "firing")
    assert sorted(told[1:]) == [("comes", "answers", "firing"), ("leaves", "answers", "resolved")]


def test_a_webhook_that_becomes_a_rule_s_own_is_told_that_it_fires(store):
    fail(store, days={1: 5})
    add_channel(store, "leaves")
    told, rule = [], AlertRule("ops", channels=("leaves",), **SHARE)
    save_alert_rule(store, rule, replace(ME, at=NOW))
    run(store, send=keep(told))
    save_webhook_rule(store, rule, url="https://example.org/", secret=SECRET, by=replace(ME, at=NOW))
    run(store, send=keep(told))
    assert sorted(told[1:]) == [("leaves", "answers", "resolved"), ("ops", "answers", "firing")]


def test_an_environment_in_capitals_has_one_key_and_one_queue(store):
    fail(store, days={1: 5}, scope=Scope("staging", "answers"))
    act = replace(ME, environment="Staging")
    add_rule(store, "ops", by=act, **SHARE)
    keys = []
    for _ in range(2):
        run(store, environment="Staging", send=lambda _c, message, _b: keys.append((message["state"], message["key"])))
        if len(keys) == 1:
            resolve_alert(store, "ops", "answers", act, now=NOW)
    assert [state for state, _ in keys] == ["firing", "resolved"]
    assert len({key for _, key in keys}) == 1


def test_a_rule_that_turns_to_another_service_ends_its_alarm_about_the_former(store):
    fail(store, days={1: 5})
    fail(store, days={}, scope=Scope("production", "search"))
    add_rule(store, "ops", **SHARE)
    told = []
    run(store, send=keep(told))
    add_rule(store, "ops", **SHARE, service="search")
    run(store, send=keep(told))
    run(store, send=keep(told))
    assert told == [("ops", "answers", "firing"), ("ops", "answers", "resolved")]


def test_a_test_is_sent_at_once_and_stands_in_the_log(store):
    with Listener(200, 500) as listener:
        add_channel(store, "ops", listener.url)
        entry = try_channel(store, "ops", ME, now=NOW)
        assert json.loads(listener.requests[0][1])["event"] == "test"
        with pytest.raises(SourceUnavailable, match="it answered 500"):
            try_channel(store, "ops", ME, now=NOW)
    deliveries, _ = list_deliveries(store, "production")
    assert [(each.channel, each.delivery.title, each.delivery.outcome) for each in deliveries] == [
        ("ops", "[TEST] production: test", SendOutcome.SENT)
    ]
    assert list_audit(store)[0].entry_id == entry
    with pytest.raises(NotFound, match="there is no channel 'nobody'"):
        try_channel(store, "nobody", ME, now=NOW)


@pytest.mark.deep
def test_a_message_that_was_given_up_can_be_sent_again(store):
    fail(store, days={1: 5})
    add_rule(store, "ops", **SHARE)
    check_alerts(store, "production", now=NOW)

    def refuse(*_):
        raise SourceUnavailable("the receiver is gone")

    now = NOW
    for _ in range(40):
        deliver_alerts(store, "production", now=now, send=refuse)
        now += timedelta(hours=2)
    assert count_undelivered(list_deliveries(store, "production")[0]) == (0, 1)
    resend_message(store, "ops", 1, ME, now=now)
    told = []
    deliver_alerts(store, "production", now=now, send=keep(told))
    assert told == [("ops", "answers", "firing")]


@pytest.mark.deep
def test_an_outage_is_told_once_by_every_rule_and_its_end_as_well(store):
    write = [
        Retrieval(NOW - timedelta(days=ago, seconds=n), f"q{n}", None if ago == 1 else 0.6 + 0.001 * (n % 50))
        for ago in range(1, 31)
        for n in range(100)
    ]
    append_retrievals(store, write)
    sent = []

    def send(_channel, message, _base):
        sent.append((message["event"], message["status"], message["changed_on"]))

    add_rule(store, "ops")
    run(store, send=send)
    run(store, send=send)
    today = [Retrieval(NOW - timedelta(seconds=n), f"q{n}", 0.6 + 0.001 * (n % 50)) for n in range(100)]
    append_retrievals(store, today)
    run(store, now=NOW + timedelta(days=1), send=send)
    assert sent == [("outage", "outage", "2026-03-19"), ("drift", "stable", None)]


def test_an_own_metric_is_watched_like_any_other(store):
    rule = {"metric": "own:stars", "kind": AlertKind.THRESHOLD, "alert": 3}
    with pytest.raises(InvalidInput, match="^metric: there is no own metric 'stars'"):
        add_rule(store, "few stars", **rule)
    add_metric(store, MetricDefinition("stars", MetricSource.SCORE, Statistic.MEAN, "stars"), ME)
    add_rule(store, "few stars", **rule)
    at = NOW - timedelta(days=1)
    append_retrievals(store, [Retrieval(at, f"q{n}", 0.7, scope=ANSWERS, retrieval_id=f"r{n}") for n in range(9)])
    given = {"name": "stars", "source": "judge", "comment": "", "ts_ms": to_ms(at), **ANSWERS._asdict(), "value": 2.0}
    with store.begin() as connection:
        store_scores(connection, [{**given, "retrieval_id": f"r{n}"} for n in range(9)])
    apply_scores(store, now_ms=to_ms(NOW))
    assert check_alerts(store, "production", now=NOW) == ("few stars: stars of answers is firing",)
    [line] = report_alerts(store, "production", now=NOW).lines
    assert line.state.value == 2.0
    remove_metric(store, "stars", ME)
    assert check_alerts(store, "production", now=NOW) == (
        "few stars: metric: there is no own metric 'stars' in production any more",
    )
