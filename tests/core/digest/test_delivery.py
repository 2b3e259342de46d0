"""Digests are mailed once a period, over a real SMTP connection; what fails is tried again."""

import email
import logging
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from email.policy import default

import pytest

from app.digests import mail_digests
from core.audit.settings import Family, save_setting, scope_key
from core.config import load_config
from core.digest.delivery import RETRY_AFTER, DigestSent, read_sent, send_digests
from core.digest.mails import compose_mail
from core.digest.periods import Cadence, find_last_period
from core.digest.sections import Digest
from core.digest.smtp import MailServer, read_server, send_mail
from core.errors import InvalidInput, SourceUnavailable
from quarterdeck.clock import to_ms
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.scope import Scope
from quarterdeck.store import Store
from tests.mail_server import serve_mail

MONDAY = datetime(2026, 11, 30, 6, tzinfo=UTC)
SCOPE = Scope("production", "default")


class Sending:
    """Counts what is sent, and fails as often as it is told to."""

    def __init__(self, *, failures: int = 0, error: type[BaseException] = SourceUnavailable) -> None:
        self.sent, self._failures, self._error = [], failures, error

    def prepare(self, scope, period):
        def deliver() -> None:
            if self._failures:
                self._failures -= 1
                raise self._error("no")
            self.sent.append((scope.service, str(period)))

        return deliver


def send(store: Store, sending: Sending, *, now: datetime = MONDAY, cadence: Cadence = Cadence.WEEK):
    return send_digests(store, "production", cadence, sending.prepare, now=now)


def test_a_digest_is_sent_once_a_week(store):
    sending = Sending()
    assert send(store, sending) == ("digest of default: sent for 23 Nov 2026 to 29 Nov 2026",)
    assert send(store, sending) == ()
    assert send(store, sending, now=MONDAY + timedelta(days=6)) == ()
    send(store, sending, now=MONDAY + timedelta(days=7))
    assert sending.sent == [("default", "23 Nov 2026 to 29 Nov 2026"), ("default", "30 Nov 2026 to 6 Dec 2026")]


@pytest.mark.parametrize("error", [SourceUnavailable, RuntimeError])
def test_what_could_not_be_sent_is_tried_at_the_next_run_and_raises_nothing(store, error, caplog):
    sending = Sending(failures=2, error=error)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            (line,) = send(store, sending)
            assert "was not sent" in line
    assert sending.sent == []
    send(store, sending)
    send(store, sending)
    assert len(sending.sent) == 1
    assert len(caplog.records) == 2


def test_of_two_servers_one_sends(store):
    """The second one begins while the first is sending."""
    second = Sending()

    class First(Sending):
        def prepare(self, scope, period):
            deliver = super().prepare(scope, period)

            def slowly() -> None:
                send(store, second)
                deliver()

            return slowly

    first = First()
    send(store, first)
    assert (len(first.sent), len(second.sent)) == (1, 0)


def test_the_claim_of_a_server_that_died_ends_after_an_hour(store):
    claim = DigestSent("2026-11-29", is_sent=False, began_ms=to_ms(MONDAY))
    with store.begin() as connection:
        save_setting(connection, scope_key(Family.DIGEST_SENT, SCOPE), asdict(claim), expected_version=0)
    sending = Sending()
    send(store, sending, now=MONDAY + RETRY_AFTER - timedelta(seconds=1))
    assert sending.sent == []
    send(store, sending, now=MONDAY + RETRY_AFTER)
    send(store, sending, now=MONDAY + 3 * RETRY_AFTER)
    assert len(sending.sent) == 1


def test_one_that_is_interrupted_takes_its_claim_back(store):
    with pytest.raises(KeyboardInterrupt):
        send(store, Sending(failures=1, error=KeyboardInterrupt))
    sending = Sending()
    send(store, sending)
    assert len(sending.sent) == 1


def test_a_period_without_anything_to_tell_is_done_without_a_mail(store):
    assert send_digests(store, "production", Cadence.WEEK, lambda _scope, _period: None, now=MONDAY) == ()
    assert read_sent(store, SCOPE)[0].is_sent


def test_a_store_that_is_away_is_one_line(tmp_path):
    (line,) = send(Store(f"sqlite:///{tmp_path / 'nowhere.db'}"), Sending())
    assert "was not sent" in line


def test_a_mail_reaches_every_recipient(store, url, tmp_path):
    now = datetime.now(UTC)
    append_retrievals(store, [Retrieval(now - timedelta(days=8), "what is an mbuf", 0.7)])
    with serve_mail() as box:
        config = load_config(
            {
                "QUARTERDECK_HOME": str(tmp_path), "QUARTERDECK_DATABASE_URL": url,
                "QUARTERDECK_DIGEST_TO": "a@example.org, b@example.org", "QUARTERDECK_DIGEST_SMTP": box.url,
                "QUARTERDECK_DIGEST_FROM": "deck@example.org", "QUARTERDECK_PUBLIC_URL": "https://deck.example.org",
            }
        )  # fmt: skip
        box.replies.append("451 try later")
        assert "451" in mail_digests(config, store, now=now)[0]
        assert len(mail_digests(config, store, now=now)) == 1
        assert mail_digests(config, store, now=now) == ()
        ((sender, recipients, raw),) = box.envelopes
    assert (sender, recipients) == ("deck@example.org", ["a@example.org", "b@example.org"])
    mail = email.message_from_bytes(raw, policy=default)
    assert mail["Subject"].startswith("Weekly digest of production: ")
    text, document = (part.get_content() for part in mail.iter_parts())
    assert "https://deck.example.org/questions?environment=production&service=default" in text
    assert document.startswith("<!DOCTYPE html>")
    assert "mbuf" not in text + document, "whoever gets it may not read questions"


def compose():
    digest = Digest(SCOPE, find_last_period(Cadence.WEEK, today=MONDAY.date()), ())
    return compose_mail(
        digest, sender="deck@example.org", recipients=["a@example.org", "b@example.org"], at=MONDAY, base=""
    )


def test_a_login_is_used_on_this_machine_and_its_password_is_in_no_error():
    with serve_mail(offers_login=True) as box:
        send_mail(read_server(f"smtp://ada:s%40cret@127.0.0.1:{box.port}"), compose())
    assert box.logins == [("ada", "s@cret")]
    with pytest.raises(SourceUnavailable) as failed:
        send_mail(read_server(f"smtp://ada:s%40cret@127.0.0.1:{box.port}"), compose())
    assert "s@cret" not in str(failed.value)
    assert "s@cret" not in repr(read_server("smtp://ada:s%40cret@127.0.0.1"))


def test_a_refused_recipient_is_named_and_the_others_are_not_told_twice(caplog: pytest.LogCaptureFixture):
    with serve_mail(refused={"b@example.org"}) as box:
        send_mail(read_server(box.url), compose())
    assert "refused the mail for b@example.org" in caplog.text


@pytest.mark.parametrize(
    "url",
    ["http://mail", "smtp://", "smtp://mail:x", "smtp://mail/inbox", "smtp://mail?tls=no", "mail.example.org", ""],
)
def test_what_is_no_address_of_a_mail_server_is_refused(url):
    with pytest.raises(InvalidInput, match="QUARTERDECK_DIGEST_SMTP"):
        read_server(url)


def test_ports_are_those_of_the_scheme():
    assert read_server("smtp://mail.example.org") == MailServer("mail.example.org", 25, is_tls=False)
    assert read_server("smtps://mail.example.org") == MailServer("mail.example.org", 465, is_tls=True)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"QUARTERDECK_DIGEST_TO": "nobody"}, "QUARTERDECK_DIGEST_TO"),
        ({"QUARTERDECK_DIGEST_TO": "a@example.org"}, "QUARTERDECK_DIGEST_SMTP"),
        ({"QUARTERDECK_DIGEST_SMTP": "https://mail:hunter2@x"}, "QUARTERDECK_DIGEST_SMTP"),
        ({"QUARTERDECK_DIGEST_EVERY": "hour"}, "QUARTERDECK_DIGEST_EVERY"),
        ({"QUARTERDECK_DIGEST_FROM": "deck"}, "QUARTERDECK_DIGEST_FROM"),
    ],
)
def test_a_wrong_setting_is_named_without_its_password(given, named, tmp_path):
    with pytest.raises(InvalidInput, match=named) as refused:
        load_config({"QUARTERDECK_HOME": str(tmp_path)} | given)
    assert "hunter2" not in str(refused.value)
