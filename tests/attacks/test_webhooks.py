"""Webhooks that answer garbage, drip bytes, hang up or cannot be reached: no alert is lost, and others are called."""

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.alerts import webhooks
from core.alerts.book import get_queue
from core.alerts.channels import Channel, ChannelKind
from core.alerts.checking import check_alerts
from core.alerts.delivery import deliver_alerts, send_message
from core.alerts.operations import save_alert_rule, save_channel
from core.alerts.queue import SendOutcome
from core.alerts.rules import AlertKind, AlertRule, LimitSide
from core.alerts.webhooks import post_signed
from core.audit.acts import Act
from core.errors import InvalidInput, SourceUnavailable
from quarterdeck.recorder import append_retrievals
from quarterdeck.retrieval import Retrieval
from quarterdeck.store import Store

ME = Act("ada", "because")
SECRET = "a secret of some length"
NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)
GARBAGE = {
    "no HTTP": b"GARBAGE\r\n\r\n",
    "nothing": b"",
    "half a line": b"HTTP/1.1 2",
    "no number": b"HTTP/1.1 abc OK\r\n\r\n",
    "endless headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n",
    "an endless line": b"HTTP/1.1 200 " + b"x" * 200_000,
    "bytes": bytes(range(256)) * 4,
}


@contextmanager
def receiver(answer: bytes, *, drip: bool = False) -> Iterator[str]:
    """Answer every connection with the same bytes; the dripping one sends a header that never ends."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ended = threading.Event()

        def serve() -> None:
            while not ended.is_set():
                with suppress(OSError):
                    connection, _ = server.accept()
                    threading.Thread(target=talk, args=(connection,), daemon=True).start()

        def talk(connection: socket.socket) -> None:
            with suppress(OSError), connection:
                connection.recv(65_536)
                connection.sendall(answer)
                while drip and not ended.wait(0.1):
                    connection.sendall(b"x")

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/hook"
        ended.set()


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_is_a_receiver_that_was_not_told(kind: str) -> None:
    with receiver(GARBAGE[kind]) as url, pytest.raises(SourceUnavailable, match=r"^webhook http.* was not reached: .+"):
        post_signed(url, {}, SECRET, sleep=lambda _s: None)


@pytest.mark.deep
def test_a_receiver_that_drips_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a timeout for the whole attempt, a byte now and then would keep it forever."""
    monkeypatch.setattr(webhooks, "_TOTAL_S", 0.5)
    with receiver(b"HT", drip=True) as url, pytest.raises(SourceUnavailable, match="was not reached"):
        post_signed(url, {}, SECRET, sleep=lambda _s: None)
    with receiver(b"HTTP/1.1 200 OK\r\nX: ", drip=True) as url:
        assert post_signed(url, {}, SECRET, sleep=lambda _s: None) <= webhooks.TRIES


@pytest.mark.parametrize(
    "address",
    ["http://ex ample/", "http://example.org/\r\nX: y", "http://example.org:99999/", "http://example.org:x/",
     "http://\u00e4.example/", "http://example.org/" + "x" * 3_000, "http://example.org/\x00"],
)  # fmt: skip
@pytest.mark.parametrize("kind", [ChannelKind.WEBHOOK, ChannelKind.ALERTMANAGER])
@pytest.mark.sqlite_only("nothing is stored")
def test_an_address_that_cannot_be_called_is_not_saved(store: Store, kind: ChannelKind, address: str) -> None:
    with pytest.raises(InvalidInput, match="^url: "):
        save_channel(store, Channel("ops", kind, address, SECRET), ME)


@pytest.mark.sqlite_only("it is about the receivers")
def test_a_message_that_garbage_answered_is_sent_again_and_other_channels_are_told(store: Store) -> None:
    append_failures(store)
    told: list[str] = []
    with receiver(GARBAGE["no HTTP"]) as real:
        for name in ("garbage", "good"):
            save_channel(store, Channel(name, ChannelKind.WEBHOOK, real, SECRET), ME)
        save_alert_rule(
            store,
            AlertRule("ops", "failed_share", AlertKind.THRESHOLD, side=LimitSide.ABOVE, alert=0.1,
                      channels=("garbage", "good")),
            ME,
        )  # fmt: skip
        check_alerts(store, "production", now=NOW)

        def send(channel: Channel, message: Mapping[str, Any], base: str) -> None:
            if channel.name == "garbage":
                send_message(channel, message, base)
            told.append(channel.name)

        lines = deliver_alerts(store, "production", now=NOW, send=send)
    assert told == ["good"]
    assert len(lines) == 2 and "was not reached" in lines[0]
    [waiting], _ = get_queue(store, "production", "garbage")
    assert (waiting.outcome, waiting.attempts) == (SendOutcome.WAITING, 1) and waiting.message
    deliver_alerts(store, "production", now=NOW + timedelta(minutes=1), send=lambda c, _m, _b: told.append(c.name))
    assert told == ["good", "garbage"]


def append_failures(store: Store) -> None:
    """Two days of questions, all of which failed on the last one."""
    append_retrievals(
        store,
        [
            Retrieval(NOW - timedelta(days=ago, minutes=n), f"q{n}", 0.7 if ago > 1 else None, error=ago == 1)
            for ago in (1, 2)
            for n in range(50)
        ],
    )
