import hmac
import json
import multiprocessing
import os
import signal
import threading
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

from core.alerts.alerts import AlertRule, Told, decide_alert
from core.alerts.delivery import check_alerts, list_alert_rules
from core.alerts.operations import delete_alert_rule, save_alert_rule
from core.alerts.webhooks import post_signed
from core.audit.acts import Act
from core.audit.settings import Family, save_setting, scope_key, setting_key
from core.audit.trail import list_audit
from core.drift.verdict import DriftReport, DriftStatus
from core.errors import InvalidInput, NotFound, SourceUnavailable
from quarterdeck.clock import to_ms
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import Scope
from quarterdeck.store import Store

SECRET = "a secret of some length"
ME = Act("ada", "because")
NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)


class Listener:
    """A real HTTP server on loopback that answers with the given codes, one a request, then with 204."""

    def __init__(self, *codes: int) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        codes_left = list(codes)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler):  # noqa: N805
                body = handler.rfile.read(int(handler.headers["Content-Length"]))
                self.requests.append((dict(handler.headers), body))
                handler.send_response(codes_left.pop(0) if codes_left else 204)
                handler.end_headers()

            def log_message(handler, *_):  # noqa: N805
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def report(status: DriftStatus, changed_on: date | None = None) -> DriftReport:
    return DriftReport(status, "because", "do this", changed_on=changed_on)


@pytest.mark.parametrize(
    ("told", "now", "due"),
    [
        (Told(), report(DriftStatus.STABLE), None),
        (Told(), report(DriftStatus.WATCH), None),
        (Told(), report(DriftStatus.DRIFTING, date(2026, 3, 1)), Told(True, "2026-03-01")),
        (Told(True, "2026-03-01"), report(DriftStatus.DRIFTING, date(2026, 3, 1)), None),
        (Told(True, "2026-03-01"), report(DriftStatus.DRIFTING, date(2026, 3, 9)), Told(True, "2026-03-09")),
        (Told(True, "2026-03-01"), report(DriftStatus.INSUFFICIENT_DATA), None),
        (Told(True, "2026-03-01"), report(DriftStatus.STABLE), Told(False, "")),
    ],
)
def test_a_webhook_is_told_once_a_change_and_once_when_it_is_over(told, now, due):
    assert decide_alert(AlertRule("ops", "https://example.org/", SECRET), told, now) == due


def test_a_rule_may_ask_to_be_told_at_watch():
    rule = AlertRule("ops", "https://example.org/", SECRET, DriftStatus.WATCH)
    assert decide_alert(rule, Told(), report(DriftStatus.WATCH)) == Told(True, "")


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("name", {"name": " "}),
        ("url", {"url": "file:///etc/passwd"}),
        ("url", {"url": "https://user:pass@example.org/"}),
        ("secret", {"secret": "short"}),
        ("from_status", {"from_status": DriftStatus.STABLE}),
    ],
)
def test_a_wrong_rule_names_its_field(field, values):
    with pytest.raises(InvalidInput, match=f"^{field}: "):
        AlertRule(**{"name": "ops", "url": "https://example.org/", "secret": SECRET} | values)


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


def test_rules_are_audited_without_their_secret(store):
    save_alert_rule(store, AlertRule("ops", "https://example.org/", SECRET), ME)
    assert list_alert_rules(store, "production") == (AlertRule("ops", "https://example.org/", SECRET),)
    delete_alert_rule(store, "ops", ME)
    assert list_alert_rules(store, "production") == ()
    assert [entry.action for entry in list_audit(store)] == ["alert.delete", "alert.save"]
    assert SECRET not in repr(list_audit(store))
    with pytest.raises(NotFound, match="no rule 'ops'"):
        delete_alert_rule(store, "ops", ME)


def test_a_real_drop_reaches_a_real_listener_once_even_after_a_failure(store):
    rng = np.random.default_rng(3)
    levels = [0.7] * 35 + [0.4] * 5
    append_retrievals(
        store,
        [
            Retrieval(NOW - timedelta(days=len(levels) - 1 - day, seconds=n), f"q{n}", float(rng.normal(level, 0.05)))
            for day, level in enumerate(levels)
            for n in range(100)
        ],
    )
    with Listener(500, 500, 500) as listener:
        save_alert_rule(store, AlertRule("ops", listener.url, SECRET), ME)

        def send(url, message, secret):
            return post_signed(url, message, secret, sleep=lambda _s: None)

        assert "was not reached" in check_alerts(store, "production", now=NOW, send=send)[0]
        assert check_alerts(store, "production", now=NOW, send=send) == ("ops: sent that retrieval is drifting",)
        assert check_alerts(store, "production", now=NOW, send=send) == ()
        assert len(listener.requests) == 4
        message = json.loads(listener.requests[-1][1])
    assert (message["status"], message["changed_on"]) == ("drifting", "2026-03-16")
    assert message["questions"] == "/questions?low=1&since=2026-03-16&environment=production&service=default"


def test_a_message_whose_sender_died_while_it_sent_is_sent_by_another(url):
    with closing(Store(url, create=True)) as store:
        drop(store, Scope("production", "answers"))
        save_alert_rule(store, AlertRule("ops", "https://example.org/", SECRET), ME)

    def die(_url, _message, _secret):
        os.kill(os.getpid(), signal.SIGKILL)
        return 1

    def check():
        with closing(Store(url)) as store:
            check_alerts(store, "production", now=NOW, send=die)

    sender = multiprocessing.get_context("fork").Process(target=check)
    sender.start()
    sender.join()
    assert sender.exitcode == -signal.SIGKILL
    sent = []
    with closing(Store(url)) as store:
        for later in (timedelta(seconds=30), timedelta(minutes=3), timedelta(minutes=4)):
            check_alerts(store, "production", now=NOW + later, send=lambda *_, at=later: sent.append(at) or 1)
    assert sent == [timedelta(minutes=3)]


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_jumps_back_or_forth_does_not_keep_a_claimed_message(hours, store):
    drop(store, Scope("production", "answers"))
    save_alert_rule(store, AlertRule("ops", "https://example.org/", SECRET), ME)
    key = scope_key(Family.ALERT_TOLD, Scope("production", "answers"), "ops")
    claimed = {"alarmed": False, "changed_on": "", "claimed_ms": to_ms(NOW + timedelta(hours=hours))}
    with store.begin() as connection:
        save_setting(connection, key, claimed, expected_version=0)
    assert len(check_alerts(store, "production", now=NOW, send=lambda *_: 1)) == 1
    assert check_alerts(store, "production", now=NOW, send=lambda *_: 1) == ()


def drop(store: Store, scope: Scope, *, level: float = 0.4) -> None:
    """Write 40 days of a service whose score falls to this level on the last five."""
    rng = np.random.default_rng(3)
    levels = [0.7] * 35 + [level] * 5
    append_retrievals(
        store,
        [
            Retrieval(
                NOW - timedelta(days=len(levels) - day, seconds=n), f"q{n}", float(rng.normal(mean, 0.05)), scope=scope
            )
            for day, mean in enumerate(levels)
            for n in range(100)
        ],
    )


def test_a_drop_alerts_in_its_own_environment_and_about_its_own_service_only(store):
    drop(store, Scope("staging", "answers"))
    drop(store, Scope("production", "answers"), level=0.7)
    drop(store, Scope("production", "search"))
    sent = []

    def send(url, message, secret):
        sent.append((url, message["environment"], message["service"], message["status"]))
        return 1

    for name, service in (("all", ""), ("answers", "answers")):
        save_alert_rule(store, AlertRule(name, f"https://example.org/{name}", SECRET, service=service), ME)
    assert check_alerts(store, "production", now=NOW, send=send) == ("all: sent that retrieval of search is drifting",)
    assert check_alerts(store, "staging", now=NOW, send=send) == ()
    assert sent == [("https://example.org/all", "production", "search", "drifting")]
    save_alert_rule(store, AlertRule("there", "https://example.org/there", SECRET), replace(ME, environment="staging"))
    assert check_alerts(store, "staging", now=NOW, send=send) == ("there: sent that retrieval of answers is drifting",)
    assert check_alerts(store, "production", now=NOW, send=send) == ()


def test_a_rule_of_an_earlier_release_is_about_every_service(store):
    key = setting_key(Family.ALERT_RULES, "production")
    rule = {"name": "ops", "url": "https://example.org/", "secret": SECRET, "from_status": "drifting"}
    with store.begin() as connection:
        save_setting(connection, key, [rule], expected_version=0)
    assert list_alert_rules(store, "production") == (AlertRule("ops", "https://example.org/", SECRET),)


def test_an_outage_is_told_once_by_every_rule_and_its_end_as_well(store):
    write = [
        Retrieval(NOW - timedelta(days=ago, seconds=n), f"q{n}", None if ago == 1 else 0.6 + 0.001 * (n % 50))
        for ago in range(1, 31)
        for n in range(100)
    ]
    append_retrievals(store, write)
    sent = []

    def send(_url, message, _secret):
        sent.append((message["event"], message["status"], message["changed_on"]))
        return 1

    save_alert_rule(store, AlertRule("ops", "https://example.org/", SECRET), ME)
    assert check_alerts(store, "production", now=NOW, send=send) == ("ops: sent that retrieval is outage",)
    assert check_alerts(store, "production", now=NOW, send=send) == ()
    today = [Retrieval(NOW - timedelta(seconds=n), f"q{n}", 0.6 + 0.001 * (n % 50)) for n in range(100)]
    append_retrievals(store, today)
    check_alerts(store, "production", now=NOW + timedelta(days=1), send=send)
    assert sent == [("outage", "outage", "2026-03-19"), ("drift", "stable", None)]
