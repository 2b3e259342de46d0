"""Channels through apprise, against real receivers on this machine: mail over SMTP, chats over HTTP."""

import json
import re
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import apprise
import pytest

from core.alerts import services
from core.alerts.channels import Channel, ChannelKind
from core.alerts.checking import check_alerts
from core.alerts.delivery import deliver_alerts
from core.alerts.operations import save_alert_rule, save_channel, try_channel
from core.alerts.queue import SendOutcome
from core.alerts.report import list_deliveries
from core.alerts.rules import AlertRule
from core.alerts.services import check_service, notify
from core.errors import InvalidInput, SourceUnavailable
from tests.core.alerts.receivers import ME, NOW, Listener, drop, serve_bytes
from tests.mail_server import Mailbox, serve_mail

GARBAGE = {
    "no HTTP": b"GARBAGE\r\n\r\n",
    "nothing": b"",
    "half a line": b"HTTP/1.1 2",
    "bytes": bytes(range(256)) * 4,
}
TOKEN = "T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"


def mail_to(box: Mailbox) -> str:
    return f"mailto://127.0.0.1:{box.port}?from=deck@example.org&to=ops@example.org&smtp=127.0.0.1&mode=insecure"


@pytest.mark.deep
def test_a_mail_has_a_subject_and_says_why() -> None:
    with serve_mail() as box:
        notify(mail_to(box), "[FIRING] answers", "12% failed ä <b>", level="critical")
    [(sender, recipients, raw)] = box.envelopes
    mail = message_from_bytes(raw, policy=default)
    assert (sender, recipients, mail["Subject"]) == ("deck@example.org", ["ops@example.org"], "[FIRING] answers")
    assert "12% failed ä <b>" in mail.get_body(("plain",)).get_content()


def test_a_line_break_in_a_title_is_no_header_of_a_mail() -> None:
    with serve_mail() as box:
        notify(mail_to(box), "[FIRING] a\r\nBcc: everyone@example.org\r\n\r\nno", "b", level="critical")
    [(_, recipients, raw)] = box.envelopes
    mail = message_from_bytes(raw, policy=default)
    assert (recipients, mail["Bcc"]) == (["ops@example.org"], None)
    assert "Bcc: everyone@example.org" in mail["Subject"]


def test_a_mail_server_that_refuses_is_named_and_the_next_attempt_arrives() -> None:
    with serve_mail(replies=["451 try later"]) as box:
        with pytest.raises(SourceUnavailable, match="^mailto:// did not take the message: "):
            notify(mail_to(box), "a", "b", level="critical")
        notify(mail_to(box), "a", "b", level="critical")
    assert len(box.envelopes) == 1


@pytest.mark.parametrize(
    ("service", "find"),
    [("json", lambda body: body["message"]), ("mmost", lambda body: body["text"])],
)
def test_a_chat_gets_the_title_and_the_text(service: str, find) -> None:
    token = "/3ccdd113474722377935511fc85d3dd4" if service == "mmost" else ""
    with Listener(200) as listener:
        notify(f"{service}://127.0.0.1:{listener.port}{token}", "[FIRING] answers", "12% failed", level="critical")
    [(_, body)] = listener.requests
    assert "12% failed" in find(json.loads(body)) and "[FIRING] answers" in body.decode()


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_is_a_service_that_was_not_told(kind: str) -> None:
    with serve_bytes(GARBAGE[kind]) as port, pytest.raises(SourceUnavailable, match="^json:// did not take"):
        notify(f"json://127.0.0.1:{port}/", "a", "b", level="critical")


@pytest.mark.parametrize("code", [302, 404, 500])
def test_a_refusal_and_a_redirect_are_no_delivery(code: int) -> None:
    with Listener(code) as listener, pytest.raises(SourceUnavailable, match="did not take"):
        notify(f"json://127.0.0.1:{listener.port}/", "a", "b", level="critical")
    assert len(listener.requests) == 1


def test_a_service_that_never_answers_is_left_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "TOTAL_S", 0.2)
    with serve_bytes(b"HTTP/1.1 200 OK\r\nX: ", holds=True) as port:
        with pytest.raises(SourceUnavailable, match="did not answer within 0.2 s"):
            notify(f"json://127.0.0.1:{port}/", "a", "b", level="critical")


def test_a_service_that_never_answers_holds_two_threads_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "TOTAL_S", 0.05)
    with serve_bytes(b"HTTP/1.1 200 OK\r\nX: ", holds=True) as port:
        said = []
        for _ in range(4):
            with pytest.raises(SourceUnavailable) as caught:
                notify(f"json://127.0.0.1:{port}/", "a", "b", level="critical")
            said.append(str(caught.value).partition("message")[2])
    assert [each.startswith("s without an answer") for each in said] == [False, False, True, True]


def test_what_an_address_holds_is_in_no_error() -> None:
    secret = "s3cr3tpassw0rd"
    with Listener(500) as listener, pytest.raises(SourceUnavailable) as caught:
        notify(f"json://ada:{secret}@127.0.0.1:{listener.port}/{secret}path?+x={secret}", "a", "b", level="ok")
    assert secret not in str(caught.value)


@pytest.mark.parametrize(
    "address", [f"slack://{TOKEN}/#ops", "pagerduty://key@integration", "mailtos://a:b@gmail.com",
                "workflows://host/workflow/signature",
                "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js"],
)  # fmt: skip
def test_the_services_that_most_have_are_understood(address: str) -> None:
    check_service(address)


@pytest.mark.parametrize("address", ["nobody://x", "slack://", "file:///etc/passwd", "syslog://", "dbus://", "gio://"])
def test_an_address_that_cannot_be_used_is_refused(address: str) -> None:
    with pytest.raises(InvalidInput, match="^address: "):
        check_service(address)


SECRET_FILE = "the contents of a file of the server"
FILE_OPTIONS = [
    "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js?template={file}",
    "https://discord.com/api/webhooks/4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js?TEMPLATE={file}",
    f"slack://{TOKEN}/#ops?template={{file}}",
    "tgram://123456789:abcdefg_hijklmnop/12315544/?x=1;template={file}",
    "workflows://host/workflow/signature?template={file}",
    "fcm://project/device?keyfile={file}",
    "mailto://a:b@gmail.com?pgpprv={file}",
    "mailtos://a:b@gmail.com?pgp=sign&pgppub={file}",
    "vapid://ada@example.org/target?keyfile={file}",
    "vapid://ada@example.org/target",
]


@pytest.mark.parametrize("address", FILE_OPTIONS)
def test_an_address_names_no_file_of_the_server(address: str, tmp_path: Path) -> None:
    file = tmp_path / "secret.json"
    file.write_text(SECRET_FILE, encoding="utf-8")
    with pytest.raises(InvalidInput, match="^address: .*(file of the server|files on the server)") as caught:
        check_service(address.format(file=file))
    assert SECRET_FILE not in str(caught.value) and str(tmp_path) not in str(caught.value)
    with pytest.raises(SourceUnavailable, match="of the server|on the server"):  # a channel that was stored before
        notify(address.format(file=file), "a", "b", level="critical")


def test_a_template_of_the_service_itself_is_no_file() -> None:
    check_service("sendgrid://abcdefghijklmnop:ada@example.org/bob@example.org?template=d-123")


def test_every_service_of_apprise_that_reads_a_file_by_name_is_refused() -> None:
    """One that a later release of apprise adds fails here."""
    folder = Path(apprise.__file__).parent / "plugins"
    found = {
        name
        for path in folder.rglob("*.py")
        if path.name != "base.py"
        for name in re.findall(r"self\.(\w+) = AppriseAttachment\(", path.read_text(encoding="utf-8"))
    }
    assert found == {"keyfile", "template"} <= services._FILES


def test_a_redirect_cannot_be_switched_on() -> None:
    with pytest.raises(InvalidInput, match="^address: redirect= must be left out"):
        check_service("json://localhost?redirect=yes")


def test_a_failure_is_one_whatever_the_address_says() -> None:
    with Listener(500) as listener, pytest.raises(SourceUnavailable, match="did not take"):
        notify(f"json://127.0.0.1:{listener.port}/?optional=yes&retry=3&wait=1", "a", "b", level="critical")
    assert len(listener.requests) == 1


@pytest.mark.deep
@pytest.mark.sqlite_only("it is about the receivers")
def test_a_drop_reaches_a_mailbox_and_a_slow_receiver_delays_nobody(store) -> None:
    drop(store)
    with serve_mail(replies=["421 not now"]) as box, serve_bytes(b"", holds=True) as port:
        for name, address in (("mail", mail_to(box)), ("slow", f"json://127.0.0.1:{port}/")):
            save_channel(store, Channel(name, ChannelKind.APPRISE, address), ME)
        save_alert_rule(store, AlertRule("ops", channels=("slow", "mail")), ME)
        check_alerts(store, "production", now=NOW)
        deliver_alerts(store, "production", now=NOW, base="https://deck.example.org")
        assert box.envelopes == []
        deliver_alerts(store, "production", now=NOW.replace(minute=1), base="https://deck.example.org")
        [(_, _, raw)] = box.envelopes
        try_channel(store, "mail", ME, now=NOW)
    said = message_from_bytes(raw, policy=default).get_body(("plain",)).get_content()
    assert "https://deck.example.org/questions?low=1&since=2026-03-15" in said.replace("&amp;", "&")
    found, _ = list_deliveries(store, "production")
    assert {(each.channel, each.delivery.outcome) for each in found} == {
        ("mail", SendOutcome.SENT), ("slow", SendOutcome.WAITING),
    }  # fmt: skip


@pytest.mark.parametrize("address", ["json://localhost syslog://", "json://localhost, json://example.org"])
def test_an_address_is_one_service(address: str) -> None:
    with pytest.raises(InvalidInput, match="^address: apprise does not understand this json:// address"):
        check_service(address)
    with pytest.raises(SourceUnavailable, match="apprise does not understand its address"):
        notify(address, "a", "b", level="critical")


@pytest.mark.parametrize("url", ["http://[", "http://[::1", "https://:hidden@example.org/"])
def test_an_address_of_a_webhook_that_is_none_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(InvalidInput, match="^url: ") as caught:
        Channel("ops", ChannelKind.WEBHOOK, url, "a secret of some length")
    assert "hidden" not in str(caught.value)


def test_a_secret_is_hidden_as_it_is_written_and_as_it_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_named: object) -> None:
        raise ValueError("the password p@ssw0rd is wrong")

    monkeypatch.setattr(services, "_open", refuse)
    with pytest.raises(SourceUnavailable) as caught:
        notify("jsons://user:p%40ssw0rd@localhost/x", "a", "b", level="critical")
    assert "p@ssw0rd" not in str(caught.value)
