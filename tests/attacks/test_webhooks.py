"""Webhooks that answer garbage, drip bytes, hang up or cannot be reached: no alert is lost, and others are called."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta

import pytest

from core.alerts import webhooks
from core.alerts.alerts import AlertRule, Told
from core.alerts.delivery import check_alerts
from core.alerts.operations import save_alert_rule
from core.alerts.webhooks import post_signed
from core.audit.acts import Act
from core.audit.settings import get_setting
from core.drift.verdict import DriftStatus
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
@pytest.mark.sqlite_only("nothing is stored")
def test_an_address_that_cannot_be_called_is_not_saved(store: Store, address: str) -> None:
    with pytest.raises(InvalidInput, match="^url: "):
        save_alert_rule(store, AlertRule("ops", address, SECRET, DriftStatus.WATCH), ME)


@pytest.mark.sqlite_only("it is about the receivers")
def test_an_alert_that_garbage_answered_is_sent_again_and_the_rules_after_it_are_told(store: Store) -> None:
    append_falling_log(store)
    told: list[str] = []

    def send(url: str, message: object, secret: str) -> int:
        if "garbage" in url:
            return post_signed(real, message, secret, sleep=lambda _s: None)  # type: ignore[arg-type]
        told.append(url)
        return 1

    save_alert_rule(store, AlertRule("a-garbage", "http://garbage.example/", SECRET, DriftStatus.WATCH), ME)
    save_alert_rule(store, AlertRule("b-good", "http://good.example/", SECRET, DriftStatus.WATCH), ME)
    with receiver(GARBAGE["no HTTP"]) as real:
        lines = check_alerts(store, "production", now=NOW, send=send)
    assert told == ["http://good.example/"]
    assert len(lines) == 2 and "was not reached" in lines[0]
    assert Told(**get_setting(store, "alert_told:production:a-garbage")[0]) == Told()
    again: list[str] = []
    check_alerts(store, "production", now=NOW, send=lambda url, _m, _s: again.append(url) or 1)
    assert again == ["http://garbage.example/"]


def append_falling_log(store: Store) -> None:
    """Sixty days of good scores, and five of bad ones."""
    rows = []
    for day in range(65):
        at = datetime.combine(date(2026, 1, 15) + timedelta(days=day), datetime.min.time(), UTC)
        level = 0.8 if day < 60 else 0.3
        rows += [Retrieval(at + timedelta(minutes=n), f"q{n % 20}", level + (n % 7) / 100) for n in range(200)]
    append_retrievals(store, rows)
